"""Variants of the ViT, and the CNN that it is compared with."""
import math

import pytest
import torch

from going_modular.ablations import SinusoidalViT, sinusoidal_positions
from going_modular.baselines import cnn, matching_width
from going_modular.vit import ViT, count_macs, count_parameters

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
