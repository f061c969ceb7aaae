"""The model against PyTorch's own layers, torchvision's ViT, and the paper's numbers."""
import math
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from going_modular.vit import (
    DropPath,
    MLPBlock,
    MultiheadSelfAttention,
    PatchEmbedding,
    TransformerEncoderBlock,
    ViT,
    count_macs,
    count_parameters,
    patchify,
)

# 3 channels, P^2 C = 48, D = 24, k = 3: no two sizes are the same, so that none can stand in for another
SMALL = {"image_size": 12, "patch_size": 4, "num_classes": 5, "num_layers": 3, "hidden_size": 24, "mlp_size": 40,
         "num_heads": 3}


def small_vit(**settings) -> ViT:
    """A small ViT whose zero and constant weights are drawn anew, so that each of them matters."""
    model = ViT(**{**SMALL, **settings})
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.double().eval()


def images(batch=2, size=12):
    return torch.randn(batch, 3, size, size, dtype=torch.double)


def test_patches_are_pieces_of_the_image():
    x = torch.randn(2, 3, 8, 12)
    patches = patchify(x, 4)
    assert patches.shape == (2, 2 * 3, 3 * 4 * 4)
    for row in range(2):
        for column in range(3):
            piece = x[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            assert torch.equal(patches[:, 3 * row + column], piece.flatten(1))


def test_patch_embedding_equals_a_convolution():
    embedding, conv = PatchEmbedding(4, 3, 24), nn.Conv2d(3, 24, kernel_size=4, stride=4)
    conv.weight.data = embedding.projection.weight.data.view_as(conv.weight)
    conv.bias.data = embedding.projection.bias.data
    x = torch.randn(2, 3, 12, 12)
    torch.testing.assert_close(embedding(x), conv(x).flatten(2).transpose(1, 2), atol=1e-6, rtol=0)


def test_attention_equals_pytorchs():
    ours, theirs = MultiheadSelfAttention(24, 3).double(), nn.MultiheadAttention(24, 3, batch_first=True).double()
    nn.init.normal_(ours.qkv.bias)
    theirs.in_proj_weight, theirs.in_proj_bias = ours.qkv.weight, ours.qkv.bias
    theirs.out_proj.weight, theirs.out_proj.bias = ours.out.weight, ours.out.bias
    z = torch.randn(2, 7, 24, dtype=torch.double)
    expected, expected_weights = theirs(z, z, z, average_attn_weights=False)
    seen = {}
    torch.testing.assert_close(ours(z), expected)
    torch.testing.assert_close(ours(z, intermediates=seen), expected)  # the explicit path
    torch.testing.assert_close(seen["attention"], expected_weights)
    torch.testing.assert_close(ours(z, num_queries=2), expected[:, :2])


def test_attention_paths_have_equal_gradients():
    msa = MultiheadSelfAttention(24, 3).double()
    z = torch.randn(2, 7, 24, dtype=torch.double)
    gradients = [torch.autograd.grad(msa(z, **way).square().sum(), tuple(msa.parameters()))
                 for way in ({}, {"intermediates": {}}, {"num_queries": 7})]
    torch.testing.assert_close(gradients[0], gradients[1])
    torch.testing.assert_close(gradients[0], gradients[2])


@pytest.mark.parametrize("gelu", ["erf", "tanh"])
def test_block_equals_pytorchs_encoder_layer(gelu):
    ours = TransformerEncoderBlock(24, 3, 40, gelu=gelu).double()
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.3)
    theirs = nn.TransformerEncoderLayer(
        24, 3, 40, dropout=0, activation=nn.GELU("none" if gelu == "erf" else "tanh"), layer_norm_eps=1e-6,
        batch_first=True, norm_first=True).double()
    theirs.load_state_dict({
        "self_attn.in_proj_weight": ours.msa.qkv.weight, "self_attn.in_proj_bias": ours.msa.qkv.bias,
        **{f"{name}.{part}": getattr(layer, part) for part in ("weight", "bias") for name, layer in (
            ("self_attn.out_proj", ours.msa.out), ("linear1", ours.mlp.hidden), ("linear2", ours.mlp.out),
            ("norm1", ours.norm1), ("norm2", ours.norm2))}})
    z = torch.randn(2, 7, 24, dtype=torch.double)
    torch.testing.assert_close(ours(z), theirs(z))


@pytest.mark.parametrize("pool", ["token", "mean"])
def test_the_last_blocks_short_cut_changes_nothing(pool):
    model, x = small_vit(pool=pool), images()
    torch.testing.assert_close(model(x), model(x, intermediates={}))
    short = torch.autograd.grad(model(x).square().sum(), tuple(model.parameters()))
    full = torch.autograd.grad(model(x, intermediates={}).square().sum(), tuple(model.parameters()))
    torch.testing.assert_close(short, full)


@pytest.mark.parametrize("pool", ["token", "mean"])
def test_the_short_cut_saves_what_nobody_reads(pool):
    """Where the class token is read, the other nine of the last block need no query, no output and no MLP."""
    from torch.utils.flop_counter import FlopCounterMode

    model, seen = ViT(**SMALL, pool=pool).eval(), []
    for options in ({}, {"intermediates": {}}):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.randn(1, 3, 12, 12), **options)
        seen.append(counter.get_flop_counts()["Global"][torch.ops.aten.addmm])  # the linear layers
    assert seen[1] - seen[0] == (2 * 9 * (2 * 24 * 24 + 2 * 24 * 40) if pool == "token" else 0)


@pytest.mark.parametrize("pool", ["token", "mean"])
def test_intermediates_follow_the_equations(pool):
    model, x = small_vit(pool=pool, representation_size=10), images()
    seen = {}
    logits = model(x, intermediates=seen)
    tokens = 10 if pool == "token" else 9
    assert seen["patches"].shape == (2, 9, 48)
    assert seen["embeddings"].shape == (2, tokens, 24)
    z = seen["embeddings"]
    for layer in range(3):
        name = f"block{layer:02}"
        assert seen[f"{name}.attention"].shape == (2, 3, tokens, tokens)
        torch.testing.assert_close(seen[f"{name}.attention"].sum(-1), torch.ones(2, 3, tokens, dtype=torch.double))
        z = z + seen[f"{name}.msa"] + seen[f"{name}.mlp"]  # Equations 2 and 3
        torch.testing.assert_close(seen[f"{name}.output"], z)
    y = F.layer_norm(z, (24,), model.norm.weight, model.norm.bias, 1e-6)
    torch.testing.assert_close(seen["encoder"], y)
    pooled = y[:, 0] if pool == "token" else y.mean(1)
    torch.testing.assert_close(seen["pre_logits"], torch.tanh(model.pre_logits[0](pooled)))
    torch.testing.assert_close(model.head(seen["pre_logits"]), logits)


def on_meta(variant, **settings) -> ViT:
    with torch.device("meta"):
        return ViT.from_variant(variant, **settings)


@pytest.mark.parametrize("variant, settings, parameters", [
    ("B/16", {}, 86_567_656), ("B/32", {}, 88_224_232), ("B/16", {"image_size": 384}, 86_859_496),
    ("L/16", {}, 304_326_632), ("L/32", {}, 306_535_400), ("H/14", {}, 632_045_800), ("Ti/16", {}, 5_717_416),
    ("S/16", {}, 22_050_664), ("B/16", {"num_classes": 21_843}, 102_595_923),
    ("L/16", {"num_classes": 21_843}, 325_690_707), ("H/14", {"num_classes": 21_843}, 658_745_683)])
def test_parameters_of_table_1(variant, settings, parameters):
    assert count_parameters(on_meta(variant, **settings)) == parameters


@pytest.mark.parametrize("variant, size, parameters", [
    ("B/16", 768, 86_389_248), ("L/32", 1024, 306_560_000), ("H/14", 1280, 632_404_480)])
def test_parameters_with_the_pre_training_head_are_the_papers(variant, size, parameters):
    model = on_meta(variant, representation_size=size)
    assert count_parameters(model) - count_parameters(model.head) == parameters


@pytest.mark.parametrize("variant, size, giga", [
    ("B/16", 224, 17.564), ("B/16", 384, 55.484), ("L/16", 224, 61.555), ("H/14", 224, 167.295), ("B/32", 224, 4.409),
    ("S/16", 224, 4.599), ("Ti/16", 224, 1.254)])
def test_multiply_adds(variant, size, giga):
    assert round(count_macs(on_meta(variant, image_size=size)) / 1e9, 3) == giga


@pytest.mark.parametrize("size", [(12, 12), (8, 20)])
def test_multiply_adds_are_what_a_counter_of_operations_sees(size):
    from torch.utils.flop_counter import FlopCounterMode

    model = ViT(**{**SMALL, "image_size": size}, representation_size=10).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.randn(1, 3, *size), intermediates={})  # the explicit path, all tokens
    assert counter.get_total_flops() == 2 * count_macs(model)


def test_initialisation_is_the_official_codes():
    model = ViT.from_variant("Ti/16", image_size=32, num_classes=10, representation_size=50)
    limit = math.sqrt(3 / 192)
    for block in model.blocks:
        for weight in (*block.msa.qkv.weight.chunk(3), block.msa.out.weight):  # xavier for each of q, k and v
            assert 0.99 * limit < weight.abs().max() <= limit
            assert weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.02)
        assert block.msa.qkv.bias.abs().max() == block.msa.out.bias.abs().max() == 0
        assert 0 < block.mlp.hidden.bias.abs().max() < 1e-5
        assert block.mlp.hidden.weight.abs().max().item() == pytest.approx(math.sqrt(6 / (192 + 768)), rel=0.01)
    patches = model.patch_embedding.projection.weight
    assert patches.std().item() == pytest.approx(math.sqrt(1 / 768), rel=0.02)
    assert patches.abs().max() < 2.3 * math.sqrt(1 / 768)  # cut at two deviations
    assert model.position_embedding.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.class_token.abs().max() == model.head.weight.abs().max() == model.head.bias.abs().max() == 0
    loss = F.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.tensor([0, 3, 5, 9]))
    assert loss.item() == pytest.approx(math.log(10))


def test_dropout_stands_where_the_appendix_says():
    model = ViT(**SMALL, dropout=0.5).train()
    calls = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            assert module.p == 0.5
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
    model(torch.randn(2, 3, 12, 12))
    in_block = ["msa.dropout", "mlp.dropout", "mlp.dropout"]
    assert calls == ["dropout"] + [f"blocks.{layer}.{name}" for layer in range(3) for name in in_block]


def test_drop_path_leaves_out_whole_images_and_keeps_the_mean():
    assert [block.drop_path.rate for block in ViT(**SMALL, drop_path=0.2).blocks] == [0, 0.1, 0.2]
    dropped = DropPath(0.25).train()(torch.ones(20_000, 2, 3))
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert torch.equal(dropped, dropped[:, :1, :1].expand_as(dropped))
    assert dropped.mean().item() == pytest.approx(1, abs=0.03)
    assert torch.equal(DropPath(0.25).eval()(dropped), dropped)


def test_without_positions_the_order_of_patches_does_not_matter():
    model, x = small_vit(), images()
    shuffled = x.flip(2).reshape(2, 3, 3, 4, 12).flip(3).reshape(2, 3, 12, 12)  # rows of patches in reverse order
    assert not torch.allclose(model(x), model(shuffled))
    nn.init.zeros_(model.position_embedding)
    torch.testing.assert_close(model(x), model(shuffled))


def test_one_batch_can_be_overfitted():
    model = ViT(**SMALL)
    x, labels = torch.randn(10, 3, 12, 12), torch.arange(10) % 5
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(200):
        loss = F.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.01


def test_a_model_is_built_again_from_its_settings():
    model = small_vit(pool="mean", gelu="tanh", layer_norm_eps=1e-5, representation_size=7)
    again = ViT(**model.settings).double().eval()
    again.load_state_dict(model.state_dict())
    x = images()
    assert torch.equal(model(x), again(x))
    assert again.settings == model.settings


@pytest.mark.parametrize("settings, message", [
    ({"patch_size": 5}, r"patch_size \(5\) does not divide image_size \(12\)"),
    ({"image_size": (8, 10)}, r"patch_size \(4\) does not divide image_size \(\(8, 10\)\)"),
    ({"image_size": (10, 8)}, r"patch_size \(4\) does not divide image_size \(\(10, 8\)\)"),
    ({"image_size": 0}, "image_size must be at least 1, not 0"),
    ({"image_size": (8, 0)}, r"image_size must be at least 1, not \(8, 0\)"),
    ({"num_heads": 5}, r"num_heads \(5\) does not divide hidden_size \(24\)"),
    ({"num_layers": 0}, "num_layers must be at least 1, not 0"),
    ({"num_classes": 0}, "num_classes must be at least 1"),
    ({"pool": "max"}, "pool must be"),
    ({"gelu": "relu"}, "gelu must be"),
    ({"dropout": 1.5}, "dropout probability has to be between 0 and 1"),
    ({"drop_path": -0.1}, "drop_path must be"),
])
def test_sizes_that_do_not_fit(settings, message):
    with pytest.raises(ValueError, match=message):
        ViT(**{**SMALL, **settings})


@pytest.mark.parametrize("variant, patch_size, message", [
    ("X/16", None, "unknown variant 'X/16'"), ("B/a", None, "unknown variant"), ("B", None, "needs a patch size"),
    ("B/16", 8, "contradicts")])
def test_unknown_variants(variant, patch_size, message):
    with pytest.raises(ValueError, match=message):
        ViT.from_variant(variant, patch_size)


def test_a_variant_takes_patch_size_and_overrides():
    model = on_meta("Ti", patch_size=8, image_size=64, num_layers=2)
    assert model.settings["patch_size"] == 8 and len(model.blocks) == 2 and model.settings["hidden_size"] == 192


@pytest.mark.parametrize("wrong, mistake", [
    (torch.zeros(3, 8, 12), "not torch.float32 [3, 8, 12]: is the batch axis missing?"),
    (torch.zeros(2, 8, 12, 3), "[2, 8, 12, 3]: do the channels come last?"),
    (torch.zeros(2, 3, 8, 12, dtype=torch.uint8), "not torch.uint8 [2, 3, 8, 12]: make floats of them"),
    (torch.zeros(2, 3, 12, 8), "[2, 3, 12, 8]: resize them, or build ViT(image_size=(H, W)"),
    (torch.zeros(2, 1, 8, 12), "[2, 1, 8, 12]: resize them, or build ViT(image_size=(H, W), in_channels=C)"),
    (torch.zeros(5), "[5]: resize them"),
])
def test_images_of_another_shape_are_told_with_the_likely_mistake(wrong, mistake):
    with pytest.raises(ValueError, match=re.escape("expected float images [batch, 3, 8, 12], not")) as caught:
        ViT(**{**SMALL, "image_size": (8, 12)})(wrong)
    assert mistake in str(caught.value)


@pytest.mark.parametrize("pool", ["token", "mean"])
def test_a_rectangle_of_the_same_patches_gives_the_same_logits(pool):
    square, wide = small_vit(image_size=8, pool=pool), small_vit(image_size=(4, 16), pool=pool)
    wide.load_state_dict(square.state_dict())  # 2 x 2 and 1 x 4 patches
    x = images(size=8)
    in_a_row = torch.cat([x[..., :4, :4], x[..., :4, 4:], x[..., 4:, :4], x[..., 4:, 4:]], dim=-1)
    torch.testing.assert_close(wide(in_a_row), square(x))
    assert wide.grid == (1, 4) and square.grid == (2, 2)


@pytest.mark.parametrize("given, stored", [(12, 12), ((12, 12), 12), ((8, 12), (8, 12)), ([8, 12], (8, 12))])
def test_a_square_is_stored_as_one_number(given, stored):
    model = ViT(**{**SMALL, "image_size": given})
    assert model.settings["image_size"] == stored == ViT(**model.settings).settings["image_size"]


def test_mlp_is_two_layers_with_one_gelu():
    mlp = MLPBlock(24, 40).double()
    z = torch.randn(2, 7, 24, dtype=torch.double)
    hidden = z @ mlp.hidden.weight.T + mlp.hidden.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    torch.testing.assert_close(mlp(z), hidden @ mlp.out.weight.T + mlp.out.bias)
