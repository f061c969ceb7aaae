"""Weights of others in and out: their numbers, and a clear refusal of what does not fit."""
import importlib
import os
import pickle
import re
from functools import partial

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn
from torchvision.models import VisionTransformer

from benchmarks import parity
from going_modular import predictions, weights
from going_modular.vit import VARIANTS, ViT
from going_modular.weights import WeightsError, loading
from going_modular.weights.__main__ import main
from going_modular.weights.interpolation import POSITION_INTERPOLATIONS

timm = pytest.importorskip("timm")
transformers = pytest.importorskip("transformers")
safetensors_torch = pytest.importorskip("safetensors.torch")

TINY = dict(patch_size=8, num_layers=2, hidden_size=48, mlp_size=96, num_heads=3)
KINDS = list(weights.LAYOUTS)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


# ---------------------------------------------------------------------------------------------------------------------
# In: the same numbers


@pytest.mark.parametrize("library", parity.LIBRARIES)
@pytest.mark.parametrize("variant", ["Ti/16", "S/16", "B/16", "B/32", "L/16", "H/14"])
def test_logits_are_the_librarys(library, variant):
    layers = 2 if variant == "L/16" else None  # benchmarks/parity.py compares all 24
    assert parity.compare(library, variant, num_layers=layers)["logits"] < 1e-5


@pytest.mark.parametrize("library", parity.LIBRARIES)
def test_gradients_are_the_librarys(library):
    found = parity.compare(library, "Ti/16", gradients=True)
    assert len(found) == 3 and max(found.values()) < 1e-5


@pytest.mark.parametrize("library", parity.LIBRARIES)
def test_in_float64_nothing_is_left_but_rounding(library):
    found = parity.compare(library, "Ti/16", torch.float64, gradients=library != "official")
    assert max(found.values()) < 1e-10


@pytest.mark.parametrize("library", parity.LIBRARIES)
def test_at_384_px_positions_are_interpolated_the_librarys_way(library):
    assert parity.compare(library, "Ti/16", image_size=384)["logits"] < 1e-5


def test_the_interpolations_of_positions_differ():
    positions = torch.randn(1, 1 + 16, 8)
    results = [weights.resize_positions(positions, 6, kind) for kind in POSITION_INTERPOLATIONS]
    for i, a in enumerate(results):
        assert a.shape == (1, 37, 8) and torch.equal(a[:, 0], positions[:, 0])
        assert all((a - b).abs().max() > 0.01 for b in results[:i])
    corners = results[0][0, [1, 6, 31, 36]]  # "official": corners stay where they are
    torch.testing.assert_close(corners, positions[0, [1, 4, 13, 16]])


def tiny(kind: str = "timm", **options) -> ViT:
    """A small ViT with everything random, as a library computes it."""
    settings = {**TINY, "image_size": 32, "num_classes": 5, **weights.LAYOUTS[kind].default_settings,
                **options}
    return parity.redraw(ViT(**settings))


def images(size: int = 32) -> torch.Tensor:
    return torch.randn(2, 3, size, size)


def saved(kind: str, folder, model: ViT | None = None):
    file = folder / ("w.npz" if kind == "official" else "w.safetensors")
    weights.save_as(model or tiny(kind), kind, file)
    return file


def older_names(kind: str, names: list[str]) -> dict[str, str]:
    """What each name was called in another version of the library."""
    rules = {
        "torchvision": [("mlp.0", "mlp.linear_1"), ("mlp.3", "mlp.linear_2")],
        "timm": [("", "module.")],
        "learnpytorch": [("", "_orig_mod.")],
        "transformers": [("vit.encoder.layer", "vit.layers"), ("attention.attention.query", "attention.q_proj"),
                         ("attention.attention.key", "attention.k_proj"), ("intermediate.dense", "mlp.fc1"),
                         ("attention.attention.value", "attention.v_proj"),
                         ("attention.output.dense", "attention.o_proj"), ("output.dense", "mlp.fc2")],
        "official": [("MultiHeadDotProductAttention_1", "MultiHeadDotProductAttention_0"), ("MlpBlock_3", "MlpBlock_0"),
                     ("LayerNorm_2", "LayerNorm_1"), ("", "opt/target/")],
    }
    changed = {}
    for name in names:
        changed[name] = name
        for new, old in rules[kind]:
            changed[name] = changed[name].replace(new, old, 1)
    return changed


def state_of(file) -> dict[str, torch.Tensor]:
    if file.suffix == ".npz":
        return {name: torch.from_numpy(array) for name, array in np.load(file).items()}
    return safetensors_torch.load_file(file)


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_other_versions(kind, tmp_path):
    model = tiny(kind)
    state = state_of(saved(kind, tmp_path, model))
    older = older_names(kind, list(state))
    assert any(new != old for new, old in older.items())
    x = images()
    again = weights.load(tiny(kind), {older[name]: tensor for name, tensor in state.items()})
    assert torch.equal(again(x), model(x))


@pytest.mark.parametrize("wrapped", ["model", "state_dict"])
def test_files_of_torch_save_and_their_wrappings(wrapped, tmp_path):
    model, x = tiny(), images()
    file = tmp_path / "w.pth"
    weights.save_as(model, "timm", file)
    assert torch.equal(weights.load(tiny(), file)(x), model(x))
    torch.save({wrapped: torch.load(file), "epoch": 3}, file)
    assert torch.equal(weights.load(tiny(), file)(x), model(x))
    torch.save(torch.load(file)[wrapped], file, _use_new_zipfile_serialization=False)  # as before PyTorch 1.6
    assert torch.equal(weights.load(tiny(), file)(x), model(x))


def test_bfloat16_in_npz(tmp_path):
    model = tiny("official")
    arrays = dict(np.load(saved("official", tmp_path, model)))
    rounded = {name: torch.from_numpy(array).bfloat16() for name, array in arrays.items()}
    np.savez(tmp_path / "b.npz", **{name: tensor.view(torch.int16).numpy().view("V2")
                                    for name, tensor in rounded.items()})
    x = images()
    torch.testing.assert_close(weights.load(tiny("official"), tmp_path / "b.npz")(x), model(x), atol=0.1, rtol=0.1)


def test_a_variant_is_built_to_fit_the_source():
    theirs = redrawn_torchvision()
    model = weights.load("Ti/8", theirs).eval()
    x = images()
    torch.testing.assert_close(model(x), theirs(x), atol=1e-5, rtol=1e-5)
    assert model.settings["image_size"] == 32 and model.settings["num_classes"] == 7
    assert not any(parameter.is_meta for parameter in model.parameters())
    with torch.no_grad():
        theirs.heads.head.bias.zero_()
        theirs.conv_proj.bias.zero_()
    assert model.head.bias.abs().max() > 0 and model.patch_embedding.projection.bias.abs().max() > 0  # its own memory


def redrawn_torchvision(**options) -> nn.Module:
    return parity.redraw(VisionTransformer(32, 8, 12, 3, 192, 768, num_classes=7, **options))


def test_epsilon_gelu_and_heads_come_from_a_module():
    theirs = parity.timm_model(32, {**TINY, "patch_size": 8}, norm_layer=partial(nn.LayerNorm, eps=1e-3),
                               act_layer=partial(nn.GELU, approximate="tanh"))
    with pytest.raises(WeightsError, match="layer_norm_eps is 1e-06 in the model, 0.001 in the source; gelu is erf"):
        weights.load(tiny(num_classes=10), theirs)
    model, x = tiny(num_classes=10, layer_norm_eps=1e-3, gelu="tanh"), images()
    torch.testing.assert_close(weights.load(model, theirs)(x), theirs(x), atol=1e-5, rtol=1e-5)
    with pytest.raises(WeightsError, match="num_heads is 4 in the model, 3 in the source"):
        weights.load(tiny(num_classes=10, layer_norm_eps=1e-3, gelu="tanh", num_heads=4), theirs)


def test_transformers_epsilon_is_set():
    theirs = parity.TransformersModel(32, {**VARIANTS["Ti"], "patch_size": 8})
    assert weights.load("Ti/8", theirs.model).settings["layer_norm_eps"] == 1e-12


# ---------------------------------------------------------------------------------------------------------------------
# Another task


@pytest.mark.parametrize("kind", KINDS)
def test_another_number_of_classes_gets_a_head_of_zeros(kind, tmp_path):
    model = tiny(kind)
    file = saved(kind, tmp_path, model)
    ours = weights.load(tiny(kind, num_classes=3), file, num_classes=3)
    assert torch.equal(ours(images()), torch.zeros(2, 3))
    assert torch.equal(ours.blocks[1].mlp.out.weight, model.blocks[1].mlp.out.weight)


@pytest.mark.parametrize("kind", ["torchvision", "official"])
def test_a_pre_training_head_goes_as_a_whole_or_stays(kind, tmp_path):
    model, x = tiny(kind, representation_size=11), images()
    file = saved(kind, tmp_path, model)
    assert torch.equal(weights.load(tiny(kind, representation_size=11), file)(x), model(x))
    assert torch.equal(weights.load(tiny(kind, num_classes=3), file, num_classes=3)(x), torch.zeros(2, 3))
    with pytest.raises(WeightsError, match="representation_size is None in the model, 11 in the source"):
        weights.load(tiny(kind), file)


def test_a_source_without_head_needs_a_number_of_classes(tmp_path):
    state = {name: tensor for name, tensor in state_of(saved("transformers", tmp_path)).items()
             if not name.startswith("classifier")}
    pooler = {"vit.pooler.dense.weight": torch.randn(48, 48), "vit.pooler.dense.bias": torch.randn(48)}
    of_a_vitmodel = {name.removeprefix("vit."): tensor for name, tensor in {**state, **pooler}.items()}
    with pytest.raises(WeightsError, match="no head .* num_classes="):
        weights.load(tiny("transformers"), of_a_vitmodel)
    model = weights.load(tiny("transformers", num_classes=3), of_a_vitmodel, num_classes=3)
    assert torch.equal(model(images()), torch.zeros(2, 3))


def test_image_sizes_that_do_not_fit():
    with pytest.raises(WeightsError, match="patches of 8 px do not fit into 30 px: 24 or 32 px would do"):
        weights.load("Ti/8", redrawn_torchvision(), image_size=30)
    with pytest.raises(WeightsError, match="positions must be one of official"):
        weights.load("Ti/8", redrawn_torchvision(), image_size=64, positions="nearest")


# ---------------------------------------------------------------------------------------------------------------------
# Rectangles


@pytest.mark.parametrize("library", ["timm", "transformers"])
def test_a_model_for_rectangles_gives_equal_logits(library):
    x = torch.randn(2, 3, 16, 64)
    theirs = (parity.timm_model((16, 64), TINY) if library == "timm"
              else parity.TransformersModel((16, 64), TINY).model)
    ours = tiny(library, image_size=(16, 64), num_classes=parity.CLASSES)
    expected = theirs(x) if library == "timm" else theirs(x).logits
    torch.testing.assert_close(weights.load(ours, theirs)(x), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(WeightsError, match=r"image_size is 32 in the model, \(16, 64\) in the source"):
        weights.load(tiny(library, num_classes=parity.CLASSES), theirs)  # as many patches, in other rows


@pytest.mark.parametrize("old, new", [((32, 32), (16, 64)), ((16, 64), (32, 32)), ((16, 64), (24, 40))])
def test_positions_of_rectangles_are_timms(old, new):
    theirs, x = parity.timm_model(old, TINY), torch.randn(2, 3, *new)
    ours = tiny(image_size=new, num_classes=parity.CLASSES)
    weights.load(ours, theirs, image_size=new, positions="timm")
    theirs.set_input_size(new)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)


def test_positions_of_rectangles_are_transformers():
    theirs, x = parity.TransformersModel(32, TINY), torch.randn(2, 3, 24, 40)
    ours = tiny("transformers", image_size=(24, 40), num_classes=parity.CLASSES)
    weights.load(ours, theirs.model, image_size=(24, 40), positions="transformers")
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)


def test_a_variant_is_built_for_rectangles(photo):
    model = weights.load("Ti/8", redrawn_torchvision(), image_size=(16, 40))
    assert model.settings["image_size"] == (16, 40) and model.grid == (2, 5)
    assert model.preprocessing(photo).shape == (3, 16, 40)


def test_the_file_of_a_model_for_rectangles(tmp_path):
    model, x = tiny(image_size=(16, 40)), torch.randn(2, 3, 16, 40)
    file = tmp_path / "w.pth"
    assert weights.save_as(model, "timm", file) == {"image_size": (16, 40)}
    assert torch.equal(weights.load(tiny(image_size=(16, 40)), file)(x), model(x))  # 10 patches are no square
    with pytest.raises(WeightsError, match=r"11 position embeddings .* give the image_size=\(H, W\)"):
        weights.load(tiny(), file)
    with pytest.raises(WeightsError, match="takes images of 16x40 px, torchvision takes squares alone"):
        weights.save_as(model, "torchvision", file)


# ---------------------------------------------------------------------------------------------------------------------
# Out: the library reads it and says the same


def test_torchvision_reads_what_we_write(tmp_path):
    model, x = tiny("torchvision"), images()
    theirs = VisionTransformer(32, 8, 2, 3, 48, 96, num_classes=5).eval()
    theirs.load_state_dict(safetensors_torch.load_file(saved("torchvision", tmp_path, model)))
    torch.testing.assert_close(theirs(x), model(x), atol=1e-5, rtol=1e-5)


def test_timm_reads_what_we_write(tmp_path):
    model, x = tiny("timm"), images()
    theirs = timm.models.VisionTransformer(32, 8, num_classes=5, embed_dim=48, depth=2, num_heads=3, mlp_ratio=2).eval()
    timm.models.load_checkpoint(theirs, str(saved("timm", tmp_path, model)))
    torch.testing.assert_close(theirs(x), model(x), atol=1e-5, rtol=1e-5)


def test_transformers_reads_what_we_write(tmp_path):
    model, x = tiny("transformers"), images()
    weights.save_as(model, "transformers", tmp_path / "model.safetensors")
    transformers.ViTConfig(image_size=32, patch_size=8, num_hidden_layers=2, num_attention_heads=3, hidden_size=48,
                           intermediate_size=96, num_labels=5).save_pretrained(tmp_path)
    theirs, report = transformers.ViTForImageClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    torch.testing.assert_close(theirs.eval()(x).logits, model(x), atol=1e-5, rtol=1e-5)


def test_the_official_code_and_timms_reader_read_what_we_write(tmp_path):
    model, x = tiny("official"), images()
    file = saved("official", tmp_path, model)
    logits = parity.official_logits(dict(np.load(file)), x.permute(0, 2, 3, 1).numpy())
    torch.testing.assert_close(torch.from_numpy(logits).float(), model(x), atol=1e-5, rtol=1e-5)
    theirs = timm.models.VisionTransformer(32, 8, num_classes=5, embed_dim=48, depth=2, num_heads=3, mlp_ratio=2,
                                           act_layer=partial(nn.GELU, approximate="tanh")).eval()
    theirs.load_pretrained(str(file))
    torch.testing.assert_close(theirs(x), model(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_out_and_in_again_changes_no_bit(kind, tmp_path):
    model = tiny(kind)
    again = weights.load(tiny(kind), saved(kind, tmp_path, model))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_what_a_library_must_be_told_and_what_it_cannot_hold(tmp_path):
    assert weights.save_as(tiny("timm"), "timm", tmp_path / "a.safetensors") == {}
    assert weights.save_as(tiny("timm"), "transformers", tmp_path / "b.safetensors") == {"layer_norm_eps": 1e-6}
    for model, kind, file, message in (
        (tiny("timm"), "official", "c.npz", "gelu tanh, this model has erf"),
        (tiny("official"), "torchvision", "c.pth", "gelu erf, this model has tanh"),
        (tiny(pool="mean"), "timm", "c.pth", "no class token, which timm needs"),
        (tiny(representation_size=7), "timm", "c.pth", "tanh layer before its head"),
        (tiny(), "keras", "c.pth", "unknown kind 'keras': choose one of torchvision"),
        (tiny("official"), "official", "c.pth", "ends in .npz, not in 'c.pth'"),
        (tiny(), "timm", "c.bin", "ends in .safetensors or .pt or .pth"),
    ):
        with pytest.raises(WeightsError, match=message):
            weights.save_as(model, kind, tmp_path / file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


# ---------------------------------------------------------------------------------------------------------------------
# Preprocessing


@pytest.fixture
def photo():
    smooth = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(smooth).resize((400, 300), Image.Resampling.BICUBIC)


def test_preprocessing_is_torchvisions(photo, monkeypatch):
    for name, variant in (("vit_b_16", "IMAGENET1K_V1"), ("vit_b_16", "IMAGENET1K_SWAG_E2E_V1"),
                          ("vit_l_16", "IMAGENET1K_V1"), ("vit_h_14", "IMAGENET1K_SWAG_E2E_V1")):
        enum = torchvision.models.get_model_weights(name)[variant]
        theirs = enum.transforms()
        monkeypatch.setattr(torchvision.models, "get_model", lambda *_, **__: redrawn_torchvision())
        ours = weights.open_source(f"torchvision:{name}/{variant}").preprocessing.sized(theirs.crop_size[0])
        torch.testing.assert_close(ours(photo), theirs(photo), atol=1e-6, rtol=0)


def test_preprocessing_is_timms(photo, monkeypatch):
    for name in ("vit_base_patch16_224.augreg_in21k", "deit_small_patch16_224", "vit_base_patch32_384.augreg_in1k"):
        config = timm.get_pretrained_cfg(name).to_dict()
        size = config["input_size"][-1]
        theirs = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=config))
        module = parity.timm_model(32, TINY)
        module.pretrained_cfg = config
        monkeypatch.setattr(timm, "create_model", lambda *_, module=module, **__: module)
        ours = weights.open_source(f"timm:{name}").preprocessing.sized(size)
        torch.testing.assert_close(ours(photo), theirs(photo), atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(112, 224), (224, 96)])
def test_preprocessing_for_rectangles_is_timms(photo, size):
    config = dict(crop_pct=0.9, interpolation="bicubic", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    theirs = timm.data.create_transform((3, *size), **config)
    ours = weights.LAYOUTS["timm"].preprocessing.sized(size)
    torch.testing.assert_close(ours(photo), theirs(photo), atol=1e-6, rtol=0)


def test_preprocessing_is_transformers(photo):
    theirs = transformers.ViTImageProcessor()(photo, return_tensors="pt")["pixel_values"][0]
    ours = weights.LAYOUTS["transformers"].preprocessing.sized(224)(photo)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_preprocessing_of_a_file_is_the_default_of_its_library(photo):
    """Of a file nothing more is known; pixel by pixel, as the library does it for its best known weights."""
    of_torchvision = torchvision.models.ViT_B_16_Weights.IMAGENET1K_V1.transforms()
    config = timm.get_pretrained_cfg("vit_base_patch16_224.augreg_in1k").to_dict()
    of_timm = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=config))
    for kind, theirs in (("torchvision", of_torchvision), ("timm", of_timm)):
        ours = weights.LAYOUTS[kind].preprocessing.sized(224)
        torch.testing.assert_close(ours(photo), theirs(photo), atol=1e-6, rtol=0)


def test_preprocessing_is_the_official_codes(photo):
    ours = weights.LAYOUTS["official"].preprocessing.sized(224)(photo)
    pixels = torch.from_numpy(np.asarray(photo).copy()).permute(2, 0, 1)[None].float()
    theirs = torch.nn.functional.interpolate(pixels, (224, 224), mode="bilinear")[0]  # as tf.image.resize
    torch.testing.assert_close(ours, (theirs - 127.5) / 127.5, atol=1e-5, rtol=0)


def test_the_transform_comes_along_with_the_model(photo, tmp_path, monkeypatch):
    model = weights.load("Ti/8", redrawn_torchvision())
    photo.save(tmp_path / "photo.png")
    seen = []
    monkeypatch.setattr(predictions, "predict_all", lambda _, batches: seen.append(batches[0][0]) or (torch.eye(7), 0))
    predictions.pred_and_plot_image(model, list("abcdefg"), tmp_path / "photo.png")
    torch.testing.assert_close(seen[0][0], model.preprocessing(photo))


# ---------------------------------------------------------------------------------------------------------------------
# What does not fit


def without(state: dict, name: str) -> dict:
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize("change, message", [
    (lambda s: without(s, "norm.bias"), "missing: norm.bias"),
    (lambda s: without(s, "blocks.1.attn.qkv.weight"), "missing: blocks.1.attn.qkv.weight"),
    (lambda s: without(s, "pos_embed"), "missing: pos_embed"),
    (lambda s: {**s, "extra.bias": torch.zeros(2), "more": torch.zeros(1)}, "left over: extra.bias; left over: more"),
    (lambda s: {**s, "norm.bias": torch.zeros(7)}, r"norm.bias has the shape \[7\], the model's is \[48\]"),
    (lambda s: {**s, "pos_embed": s["pos_embed"][:, 1:]}, "16 position embeddings are not those of a class token"),
    (lambda s: without(s, "cls_token"), "no class token"),
    (lambda s: {"weight": torch.zeros(2)}, "unknown layout, with names such as weight; known are: torchvision, timm"),
    (lambda s: {}, "holds nothing"),
    (lambda s: {**s, "epoch": 3}, "holds epoch, where tensors were expected"),
    (lambda s: tiny().state_dict(), "this package itself"),
    (lambda s: {**s, "dist_token": torch.zeros(1)}, r"distilled DeiT, which has two tokens \(dist_token\)"),
    (lambda s: {**s, "reg_token": torch.zeros(1)}, "register tokens"),
    (lambda s: {**without(s, "cls_token"), "attn_pool.q.weight": torch.zeros(1)}, "attention pooling, as in SigLIP"),
    (lambda s: {**s, "blocks.0.ls1.gamma": torch.zeros(1)}, "LayerScale"),
    (lambda s: {**s, "norm_pre.weight": torch.zeros(1)}, "CLIP"),
])
def test_what_does_not_fit_is_told_and_nothing_changed(change, message, tmp_path):
    model = tiny()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(WeightsError, match=message):
        weights.load(model, change(state_of(saved("timm", tmp_path))))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_official_weights_without_queries_are_told(tmp_path):
    query = "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel"
    with pytest.raises(WeightsError, match=f"missing: {query}"):
        weights.load(tiny("official"), without(state_of(saved("official", tmp_path)), query))


@pytest.mark.parametrize("variant, message", [
    ("S/8", "hidden_size is 384 in the model, 192 in the source"), ("Ti/16", "contradicts"),
    ("X/8", "unknown variant")])
def test_variants_that_do_not_fit(variant, message):
    with pytest.raises(WeightsError, match=message):
        weights.load(variant, redrawn_torchvision())


def test_sources_that_are_none(tmp_path):
    with pytest.raises(WeightsError, match="a module or its state dict, not int"):
        weights.load(tiny(), 3)
    with pytest.raises(WeightsError, match="there is no file .*nowhere.npz; a name .* starts with torchvision:"):
        weights.load(tiny(), tmp_path / "nowhere.npz")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.97])
def test_part_of_a_file_is_refused_and_nothing_changed(kind, fraction, tmp_path):
    file = saved(kind, tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[:int(fraction * len(whole))])
    model = tiny(kind)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(WeightsError, match=re.escape(file.name)):
        weights.load(model, file)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_damaged_array_is_refused_and_nothing_changed(tmp_path):
    file = saved("official", tmp_path)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)
    model = tiny("official")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(WeightsError, match="is damaged, in Transformer/"):
        weights.load(model, file)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class Command:
    def __reduce__(self):
        return os.system, ("touch was_run",)


def test_code_in_a_pickle_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"blocks": Command()}, "w.pth")
    with pytest.raises(WeightsError, match="can run code"):
        weights.load(tiny(), "w.pth")
    with open("plain.bin", "wb") as file:
        pickle.dump(Command(), file)
    with pytest.raises(WeightsError, match="damaged"):
        weights.load(tiny(), "plain.bin")
    np.savez("w.npz", cls=np.array([Command()], dtype=object))
    with pytest.raises(WeightsError, match="Python objects, which can run code"):
        weights.load(tiny(), "w.npz")
    assert not (tmp_path / "was_run").exists()


def test_a_name_that_cannot_be_had(monkeypatch):
    with pytest.raises(WeightsError, match="torchvision:vit_b_99/V1 cannot be had: .*check the name and the network"):
        weights.load("B/16", "torchvision:vit_b_99/V1")

    def fail(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.models, "get_model", fail)
    with pytest.raises(WeightsError, match="cannot be had: no route to host"):
        weights.load("B/16", "torchvision:vit_b_16/IMAGENET1K_V1")


def test_a_library_that_is_missing(monkeypatch, tmp_path):
    file = saved("timm", tmp_path)
    monkeypatch.setattr(importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(WeightsError, match="safetensors is needed to read .*: pip install safetensors"):
        weights.load(tiny(), file)
    with pytest.raises(WeightsError, match="safetensors is needed to write .*: pip install safetensors$"):
        saved("timm", tmp_path)
    with pytest.raises(WeightsError, match="timm is needed to download vit_base: pip install timm"):
        weights.load("B/16", "timm:vit_base")


# ---------------------------------------------------------------------------------------------------------------------
# The command


def test_info_and_convert(tmp_path, capsys):
    theirs = redrawn_torchvision()
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    assert main(["info", str(tmp_path / "w.pth")]) == 0
    out = capsys.readouterr().out
    for line in (r"layout\s+torchvision", r"variant\s+Ti/8", r"image size\s+32 px, patches of 8 px", r"classes\s+7",
                 r"tanh layer\s+none", rf"parameters\s+{sum(p.numel() for p in theirs.parameters()):,}"):
        assert re.search(line, out), line
    assert "problems" not in out
    assert main(["convert", str(tmp_path / "w.pth"), "transformers", str(tmp_path / "w.safetensors")]) == 0
    assert "transformers must be told: layer_norm_eps = 1e-06" in capsys.readouterr().out
    x = images()
    again = weights.load("Ti/8", tmp_path / "w.safetensors")  # whose header says the epsilon
    torch.testing.assert_close(again.eval()(x), theirs(x), atol=1e-5, rtol=1e-5)


def test_info_tells_what_is_wrong(tmp_path, capsys):
    state = state_of(saved("timm", tmp_path))
    torch.save({**without(state, "norm.bias"), "odd": torch.zeros(1)}, tmp_path / "w.pth")
    assert main(["info", str(tmp_path / "w.pth")]) == 0
    assert "missing: norm.bias; left over: odd" in capsys.readouterr().out
    assert main(["info", str(tmp_path / "nothing")]) == 2
    assert capsys.readouterr().err.startswith("error: there is no file")
    assert main(["convert", str(tmp_path / "w.pth"), "timm", "x.pth"]) == 2
    assert "no variant has their sizes (num_layers 2, hidden_size 48, mlp_size 96)" in capsys.readouterr().err


def test_a_run_of_ours_is_told_and_converted(tmp_path, capsys):
    model = ViT.from_variant("Mini/8", image_size=32, num_classes=2)
    parity.redraw(model)
    checkpoint = {"model": model.state_dict(), "architecture": model.settings, "settings": {}, "epoch": 1,
                  "class_names": ["pizza", "steak"]}
    torch.save(checkpoint, tmp_path / "last.pt")
    assert main(["info", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"variant\s+Mini/8", out) and "2: pizza, steak" in out
    assert main(["convert", str(tmp_path / "last.pt"), "timm", str(tmp_path / "w.safetensors")]) == 0
    theirs = timm.models.VisionTransformer(32, 8, num_classes=2, embed_dim=96, depth=4, num_heads=3).eval()
    theirs.load_state_dict(safetensors_torch.load_file(tmp_path / "w.safetensors"))
    x = images()
    torch.testing.assert_close(theirs(x), model(x), atol=1e-5, rtol=1e-5)


def test_each_tensor_of_a_file_is_read_once(tmp_path, monkeypatch):
    model = tiny("official")
    source = weights.open_source(saved("official", tmp_path, model))
    read, get = [], source.get
    source.get = lambda name: read.append(name) or get(name)
    monkeypatch.setattr(loading, "open_source", lambda _: source)
    weights.load(ViT(**model.settings), "file")
    assert sorted(read) == sorted(source.meta_tensors)
