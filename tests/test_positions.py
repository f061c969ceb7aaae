"""Variants of the ViT, and the CNN that it is compared with."""
import copy
import math

import pytest
import torch

from going_modular.experiments.cnn import cnn, matching_width
from going_modular.paper import positions
from going_modular.paper.positions import POSITION_VARIANTS, SinusoidalViT, sinusoidal_positions
from going_modular.vit import MultiheadSelfAttention, ViT, count_macs, count_parameters

SIZES = {"image_size": 16, "patch_size": 4, "num_classes": 3, "num_layers": 2, "hidden_size": 24, "mlp_size": 48,
         "num_heads": 2}


def test_sinusoidal_positions_are_those_of_the_formula():
    positions = sinusoidal_positions(50, 8)
    assert positions.shape == (50, 8)
    for token in (0, 1, 7, 49):
        for i in range(4):
            angle = token / 10_000 ** (2 * i / 8)
            assert positions[token, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-5)
            assert positions[token, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-5)
    with pytest.raises(ValueError, match="not 7"):
        sinusoidal_positions(50, 7)


def test_the_similarity_of_two_sinusoidal_positions_depends_on_their_distance_alone():
    positions = sinusoidal_positions(30, 16)
    products = positions @ positions.T
    for distance in range(30):
        assert products.diagonal(distance).std(correction=0) < 1e-4


@pytest.mark.parametrize("pool, tokens", [("token", 17), ("mean", 16)])
def test_a_sinusoidal_vit_differs_from_a_vit_in_its_positions_alone(pool, tokens):
    models = []
    for kind in (ViT, SinusoidalViT):
        torch.manual_seed(5)
        models.append(kind(**SIZES, pool=pool))
    learned, fixed = (dict(model.state_dict()) for model in models)
    assert learned.keys() == fixed.keys()
    assert torch.equal(fixed.pop("position_embedding")[0], sinusoidal_positions(tokens, 24))
    assert all(torch.equal(learned[name], fixed[name]) for name in fixed)
    assert count_parameters(models[0]) - count_parameters(models[1]) == tokens * 24
    assert count_macs(models[0]) == count_macs(models[1])


def test_training_leaves_sinusoidal_positions_alone():
    model = SinusoidalViT(**SIZES)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    for _ in range(2):  # the first step moves the head alone, which starts with zeros
        torch.nn.functional.cross_entropy(model(torch.randn(4, 3, 16, 16)), torch.arange(4) % 3).backward()
        optimizer.step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert "position_embedding" not in moved and "patch_embedding.projection.weight" in moved


def test_a_sinusoidal_vit_is_a_vit_to_its_users(tmp_path):
    model = SinusoidalViT.from_variant("Mini/8", image_size=32, num_classes=5)
    same = ViT(**model.settings)
    same.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(images), same(images))
    model.initialize()  # once more: the positions stay
    assert torch.equal(model.position_embedding, same.position_embedding)
    with torch.device("meta"):
        assert SinusoidalViT(**SIZES).position_embedding.is_meta


def test_a_cnn_of_matching_width():
    width = matching_width(10, 200_000, in_channels=1)
    sizes = [count_parameters(cnn(10, w, in_channels=1)) for w in (width - 1, width, width + 1)]
    assert sizes == sorted(sizes) and min(sizes, key=lambda size: abs(size - 200_000)) == sizes[1]
    assert cnn(10, 4, in_channels=1)(torch.randn(2, 1, 28, 28)).shape == (2, 10)
    assert cnn(3, 4)(torch.randn(2, 3, 64, 64)).shape == (2, 3)


# ---------------------------------------------------------------------------------------------------------------------
# Table 8


@pytest.mark.parametrize("pool", ["token", "mean"])
@pytest.mark.parametrize("kind", POSITION_VARIANTS)
def test_the_kinds_of_positions_start_alike_in_all_else(kind, pool):
    models = []
    for cls in (ViT, POSITION_VARIANTS[kind]):
        torch.manual_seed(5)
        models.append(cls(**SIZES, pool=pool))
    plain, other = models
    theirs, ours = (dict(model.named_parameters()) for model in models)
    shared = theirs.keys() & ours.keys() - {"position_embedding"}
    assert len(shared) == len(theirs) - 1 and all(torch.equal(theirs[name], ours[name]) for name in shared)
    assert other.position_embedding.shape == plain.position_embedding.shape and count_macs(other) == count_macs(plain)
    tokens = 17 if pool == "token" else 16
    numbers = {"none": 0, "1-D": 24 * tokens, "2-D": 24 * (tokens - 16) + 2 * 4 * 12,
                 "relative": 2 * 12 * (2 * tokens - 1)}
    assert count_parameters(other) - (count_parameters(plain) - 24 * tokens) == numbers[kind]


@pytest.mark.parametrize("kind", POSITION_VARIANTS)
def test_only_a_vit_without_positions_is_blind_to_order(kind):
    model = POSITION_VARIANTS[kind](**SIZES).eval()
    torch.nn.init.normal_(model.head.weight)
    for block in model.blocks:
        torch.nn.init.normal_(getattr(block.msa, "relative_keys", torch.empty(1)))
    images = torch.randn(2, 3, 16, 16)
    moved = torch.cat([images[..., 8:], images[..., :8]], dim=-1)  # two columns of patches change places with two
    assert torch.allclose(model(images), model(moved), atol=1e-5) == (kind == "none")


@pytest.mark.parametrize("kind", POSITION_VARIANTS)
def test_training_moves_all_positions_but_zeros(kind):
    model = POSITION_VARIANTS[kind](**SIZES)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(2):  # the first step moves the head alone, which starts with zeros
        torch.nn.functional.cross_entropy(model(torch.randn(4, 3, 16, 16)), torch.arange(4) % 3).backward()
        optimizer.step()
    still = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    assert still == ({"position_embedding"} if kind in ("none", "relative") else set())


@pytest.mark.parametrize("kind", POSITION_VARIANTS)
def test_what_a_vit_can_do_they_can(kind):
    model = POSITION_VARIANTS[kind](**SIZES, dropout=0.1).eval()
    torch.nn.init.normal_(model.head.weight)
    images, intermediates = torch.randn(2, 3, 16, 16), {}
    logits = model(images)
    assert torch.allclose(model(images, intermediates), logits, atol=1e-5)
    assert torch.allclose(intermediates["block01.attention"].sum(-1), torch.ones(2, 2, 17))
    assert torch.equal(copy.deepcopy(model)(images), logits)
    other = POSITION_VARIANTS[kind](**model.settings).eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(images), logits)
    with torch.device("meta"):
        assert POSITION_VARIANTS[kind](**SIZES).position_embedding.is_meta


def test_rows_and_columns_are_where_the_patches_are():
    model = positions.RowColumnViT(**{**SIZES, "image_size": (16, 20)})
    grid = model.position_embedding[0, 1:].view(4, 5, 24)  # rows, columns
    assert torch.equal(grid[:, 0, :12], grid[:, 3, :12]) and torch.equal(grid[0, :, 12:], grid[2, :, 12:])
    assert not torch.equal(grid[0, :, :12], grid[1, :, :12]) and not torch.equal(grid[:, 0, 12:], grid[:, 1, 12:])
    token, rows, columns = model.parametrizations.position_embedding.parameters()
    torch.nn.init.zeros_(token)
    for i in range(4):
        torch.nn.init.constant_(rows[i], i)
    for j in range(5):
        torch.nn.init.constant_(columns[j], 10 * j)
    assert model.position_embedding[0].mean(-1).tolist() == [0] + [(i + 10 * j) / 2 for i in range(4) for j in range(5)]
    with pytest.raises(ValueError, match="not 25"):
        positions.RowColumnViT(**{**SIZES, "hidden_size": 25, "num_heads": 1})


def test_relative_attention_pair_by_pair():
    msa = positions.RelativeSelfAttention(5, 12, 3)
    torch.nn.init.normal_(msa.relative_keys)
    z = torch.randn(2, 5, 12)
    q, k, v = msa.qkv(z).chunk(3, dim=-1)
    heads = []
    for head in range(3):
        mine = slice(4 * head, 4 * head + 4)
        scores = torch.zeros(2, 5, 5)
        for query in range(5):
            for key in range(5):
                offset = query - key  # p_q - p_k, from -4 to 4
                keys = k[:, key, mine] + msa.relative_keys[offset + 4]
                scores[:, query, key] = (q[:, query, mine] * keys).sum(-1) / 2  # the root of the head's size, 4
        heads.append(scores.softmax(-1) @ v[..., mine])
    expected = msa.out(torch.cat(heads, dim=-1))
    assert torch.allclose(msa(z), expected, atol=1e-5)
    assert torch.allclose(msa(z, num_queries=2), expected[:, :2], atol=1e-5)
    torch.nn.init.zeros_(msa.relative_keys)
    plain = MultiheadSelfAttention(12, 3)
    plain.load_state_dict(msa.state_dict(), strict=False)
    assert torch.allclose(msa(z), plain(z), atol=1e-5)


def test_relative_positions_start_as_small_as_the_others():
    keys = positions.RelativeSelfAttention(tokens=200, hidden_size=64, num_heads=1).relative_keys
    assert keys.shape == (399, 64) and keys.std().item() == pytest.approx(0.02, rel=0.05)
