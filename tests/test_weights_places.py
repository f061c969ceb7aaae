"""Where weights lie and what they are called: folders, addresses, names of other libraries, old pickles."""
import argparse
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks import parity
from going_modular import config, train, utils, weights
from going_modular.datasets import downloads
from going_modular.vit import ViT
from going_modular.weights import WeightsError, sources
from going_modular.weights.__main__ import main
from going_modular.weights.loading import our_name

timm = pytest.importorskip("timm")
transformers = pytest.importorskip("transformers")
hub = pytest.importorskip("huggingface_hub")

SIZES = {"image_size": 32, "patch_size": 8, "num_layers": 2, "hidden_size": 48, "mlp_size": 96, "num_heads": 3}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def images() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32)


def of_timm(**options) -> nn.Module:
    return parity.timm_model(32, SIZES, **options)


def ours(**options) -> ViT:
    return ViT(**{**SIZES, "num_classes": 10, **options}).eval()


# Folders


def of_transformers(**options) -> nn.Module:
    config = transformers.ViTConfig(image_size=32, patch_size=8, num_hidden_layers=2, num_attention_heads=3,
                                    hidden_size=48, intermediate_size=96, num_labels=10, **options)
    return parity.redraw(transformers.ViTForImageClassification(config))


@pytest.fixture
def folder(tmp_path):
    """A folder of save_pretrained, and the model in it."""
    theirs = of_transformers(hidden_act="gelu_new", layer_norm_eps=1e-5)
    theirs.save_pretrained(tmp_path / "saved")
    transformers.ViTImageProcessor(image_mean=[0.1, 0.2, 0.3], resample=3, size={"height": 32, "width": 32}
                                   ).save_pretrained(tmp_path / "saved")
    return tmp_path / "saved", theirs


@pytest.mark.parametrize("prefix", ["", "transformers:"])
def test_a_folder_of_save_pretrained(prefix, folder):
    path, theirs = folder
    model, x = weights.model_of(f"{prefix}{path}").eval(), images()
    torch.testing.assert_close(model(x), theirs(x).logits, atol=1e-5, rtol=1e-5)
    prepared = model.preprocessing
    assert (prepared.mean, prepared.interpolation, prepared.crop_pct) == ((0.1, 0.2, 0.3), "bicubic", None)
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    processor = transformers.AutoImageProcessor.from_pretrained(path)
    expected = processor(photo, return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(prepared(photo), expected, atol=1e-6, rtol=0)


def test_preprocessing_of_a_folder_that_crops_and_does_not_normalise(folder):
    path, _ = folder
    said = {"do_center_crop": True, "crop_size": {"height": 28, "width": 28}, "size": {"shortest_edge": 32},
            "do_normalize": False, "image_mean": [0.1, 0.2, 0.3], "resample": 2}
    (path / "preprocessor_config.json").write_text(json.dumps(said))
    prepared = weights.open_source(path).preprocessing
    assert (prepared.crop_pct, prepared.interpolation) == (0.875, "bilinear")
    assert prepared.mean == (0, 0, 0) and prepared.std == (1, 1, 1)


def test_a_folder_in_shards_and_one_of_old_pickles(folder, tmp_path):
    path, theirs = folder
    x = images()
    expected = theirs(x).logits
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="60KB")
    assert len([*(tmp_path / "shards").glob("*.safetensors")]) > 1
    old = tmp_path / "old"
    old.mkdir()
    shutil.copy(path / "config.json", old)
    state = weights.open_source(path / "model.safetensors")
    torch.save({name: state.get(name) for name in state.meta_tensors}, old / "pytorch_model.bin")
    for saved in (tmp_path / "shards", old):
        torch.testing.assert_close(weights.model_of(str(saved)).eval()(x), expected, atol=1e-5, rtol=1e-5)
    (tmp_path / "shards" / "model.safetensors.index.json").write_text(json.dumps(
        {"weight_map": {"x": next((tmp_path / "shards").glob("*.safetensors")).name}}))
    with pytest.raises(WeightsError, match="index of the weights names x, which .* does not hold"):
        weights.open_source(tmp_path / "shards")


def test_a_name_on_the_hub_is_downloaded_as_such_a_folder(folder, monkeypatch):
    path, theirs = folder
    monkeypatch.setattr(hub, "snapshot_download", lambda name, allow_patterns: str(path))
    torch.testing.assert_close(weights.load(None, "transformers:me/mine").eval()(x := images()), theirs(x).logits,
                               atol=1e-5, rtol=1e-5)


def test_a_model_without_a_head_gets_no_random_one(tmp_path):
    transformers.ViTModel(of_transformers().config, add_pooling_layer=False).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="the source has no head of one linear layer"):
        weights.load(None, tmp_path)
    assert torch.equal(weights.load(None, tmp_path, num_classes=4)(images()), torch.zeros(2, 4))


@pytest.mark.parametrize("change, message", [
    ({"model_type": "deit"}, "a model of the type 'deit'"), ({"hidden_act": "relu"}, "activation in .* is relu")])
def test_a_folder_of_another_model_is_refused(change, message, folder):
    path, _ = folder
    said = json.loads((path / "config.json").read_text()) | change
    (path / "config.json").write_text(json.dumps(said))
    with pytest.raises(WeightsError, match=message):
        weights.open_source(path)


def test_folders_that_hold_no_weights(folder, tmp_path):
    path, _ = folder
    with pytest.raises(WeightsError, match="there is no config.json in .*: neither transformers nor timm"):
        weights.open_source(tmp_path)
    (path / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="there are no weights in .*, neither model.safetensors nor"):
        weights.open_source(path)
    (path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="config.json cannot be read"):
        weights.open_source(path)


def test_info_reads_a_folder(folder, capsys):
    assert main(["info", str(folder[0])]) == 0
    out = capsys.readouterr().out
    assert "transformers" in out and "LayerNorm epsilon 1e-05, GELU tanh" in out and "3 heads" in out


def test_info_says_which_part_it_is_and_what_the_file_does_not_say(tmp_path, capsys):
    state = {f"model.{name}": tensor for name, tensor in of_timm().state_dict().items()}
    torch.save({"state_dict": state | {"loss.weight": torch.ones(3)}}, tmp_path / "lightning.ckpt")
    assert main(["info", str(tmp_path / "lightning.ckpt")]) == 0
    out = capsys.readouterr().out
    assert "timm, those under state_dict/model., without 1 other tensors\n" in out
    assert "GELU erf (not said, the default of timm: gelu, layer_norm_eps)" in out


def test_a_folder_of_timm(tmp_path):
    theirs = parity.redraw(timm.create_model("vit_tiny_patch16_224", depth=1, img_size=32, num_classes=4))
    timm.models.save_for_hf(theirs, tmp_path, model_args={"depth": 1, "img_size": 32})
    model, x = weights.load(None, tmp_path).eval(), images()
    torch.testing.assert_close(model(x), theirs(x), atol=1e-5, rtol=1e-5)


# Addresses


@pytest.fixture
def web(tmp_path, monkeypatch):
    """A fake web, where each address gives the file of its name in this folder; and what was asked of it."""
    asked = []

    def fetch(address, target):
        asked.append(address)
        file = tmp_path / address.rpartition("/")[2].partition("?")[0]
        if not file.exists():
            raise downloads.DataError(f"{address} answers 404 (Not Found); check the address")
        return shutil.copy(file, target)

    monkeypatch.setattr(sources, "fetch", fetch)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    return tmp_path, asked


@pytest.mark.parametrize("address, kind", [
    ("https://example.org/vit/w.npz", "official"), ("https://example.org/w.safetensors?download=true", "timm"),
    ("gs://vit_models/w.npz", "official")])
def test_an_address_is_downloaded_once(address, kind, web):
    folder, asked = web
    model = parity.redraw(ours(**weights.LAYOUTS[kind].default_settings))
    weights.save_as(model, kind, folder / ("w.npz" if kind == "official" else "w.safetensors"))
    x = images()
    for _ in range(2):
        assert torch.equal(weights.load(None, address)(x), model(x))
    assert asked == [address.replace("gs://", "https://storage.googleapis.com/")]


def test_an_address_that_gives_no_weights_is_one_line_and_nothing_is_kept(web):
    folder, asked = web
    (folder / "page.npz").write_text("<html>")
    for _ in range(2):  # asked again
        with pytest.raises(WeightsError, match="https://example.org/page.npz gives no weights: .*damaged"):
            weights.open_source("https://example.org/page.npz")
    assert len(asked) == 2
    with pytest.raises(WeightsError, match=r"w.npz cannot be had: .* answers 404 \(Not Found\)"):
        weights.open_source("https://example.org/w.npz")
    with pytest.raises(WeightsError, match="no address of a file of weights, which ends in .npz, .safetensors"):
        weights.open_source("https://example.org/vit")
    assert not [path for path in (folder / "cache").rglob("*") if path.is_file()]


# Names of other libraries


@pytest.mark.parametrize("theirs, name", [
    ("vit_b_16", "B/16"), ("vit_l_32", "L/32"), ("vit_h_14", "H/14"), ("vit_base_patch16_224", "B/16"),
    ("vit_tiny_patch16_224.augreg_in21k", "Ti/16"), ("deit_small_patch16_224", "S/16"), ("ViT-B_16", "B/16"),
    ("google/vit-large-patch32-384", "L/32"), ("vit-b/8", "B/8"), ("resnet50", None), ("B/16", None), ("", None)])
def test_variants_by_the_names_of_other_libraries(theirs, name):
    assert our_name(theirs) == name


def test_a_variant_of_another_library_is_built():
    theirs = parity.timm_model(32, {**SIZES, "num_layers": 12, "hidden_size": 192, "mlp_size": 768})
    assert weights.load("vit_tiny_patch8_32", theirs).settings["hidden_size"] == 192


@pytest.mark.parametrize("name, answer", [
    ("vit_b_16", "torchvision:vit_b_16"), ("vit_base_patch16_224", "timm:vit_base_patch16_224"),
    ("google/vit-base-patch16-224", "transformers:google/vit-base-patch16-224")])
def test_a_name_without_its_library_is_answered_with_it(name, answer):
    with pytest.raises(WeightsError, match=f"there is no file {name}; did you mean {answer}"):
        weights.open_source(name)


def test_the_option_model_is_answered_with_our_name():
    with pytest.raises(ValueError, match="--model vit_b_16 is B/16 here"):
        config.check({"model": "vit_b_16"})


# Sizes of no variant


def test_a_model_of_its_own_sizes(tmp_path):
    theirs, x = of_timm(), images()
    torch.testing.assert_close(weights.load(None, theirs).eval()(x), theirs(x), atol=1e-5, rtol=1e-5)
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="do not say how many attention heads .* give num_heads, or --heads"):
        weights.model_of(str(tmp_path / "w.pth"))
    model = weights.model_of(str(tmp_path / "w.pth"), num_heads=3).eval()
    torch.testing.assert_close(model(x), theirs(x), atol=1e-5, rtol=1e-5)
    with pytest.raises(WeightsError, match="num_heads is 3 in the source, not 4"):
        weights.load(None, theirs, num_heads=4)


def test_a_training_starts_from_weights_of_any_sizes_and_any_head(tmp_path):
    theirs = of_timm()
    theirs.head = nn.Sequential(nn.Linear(48, 20), nn.ReLU(), nn.Linear(20, 4))
    torch.save({"model": theirs.state_dict()}, tmp_path / "w.pth")
    start = train.pretrained_model({"weights": str(tmp_path / "w.pth"), "heads": 3}, {})
    assert torch.equal(start.blocks[1].mlp.out.weight, theirs.blocks[1].mlp.fc2.weight)
    config.check({"weights": "w.pth", "heads": 3})
    # A run that ended before its first checkpoint starts from the same weights once more, by what it has stored.
    again = train.pretrained_model({"resume": True, "output": tmp_path},
                                   {"weights": str(tmp_path / "w.pth"), "heads": 3, "image_size": 32})
    assert torch.equal(again.blocks[1].mlp.out.weight, start.blocks[1].mlp.out.weight)
    assert again.settings == start.settings


def test_an_image_size_that_patches_do_not_divide_is_told_which_would_do(tmp_path):
    with pytest.raises(WeightsError, match="patches of 8 px do not fit into 100 px: 96 or 104 px would do"):
        weights.load(None, of_timm(), image_size=100)
    with pytest.raises(WeightsError, match="patches of 8 px do not fit into 5 px: 8 px would do"):
        weights.load(None, of_timm(), image_size=(16, 5))
    weights.save_as(ours(), "timm", tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="--image-size 100: patches of 8 px do not fit into 100 px: 96 or 104 px"):
        train.pretrained_model({"weights": str(tmp_path / "w.safetensors"), "image_size": 100}, {})


# Pickles with more than tensors in them


def test_options_and_numbers_of_numpy_beside_the_weights_are_harmless(tmp_path):
    theirs, x = of_timm(), images()
    more = {"args": argparse.Namespace(lr=0.1, model="vit"), "best": np.float64(0.9), "epoch": np.int64(3),
            "loss": np.float32(0.5)}
    torch.save({"model": theirs.state_dict(), **more}, tmp_path / "mae.pth")
    torch.testing.assert_close(weights.load(ours(), tmp_path / "mae.pth")(x), theirs(x), atol=1e-5, rtol=1e-5)
    assert utils.load_tensors(tmp_path / "mae.pth")["args"].lr == 0.1
    # In numpy before version 2 the same function had another name.
    torch.save(more, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    data = (tmp_path / "old.pth").read_bytes()
    (tmp_path / "old.pth").write_bytes(data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert utils.load_tensors(tmp_path / "old.pth")["loss"] == 0.5


def test_anything_else_is_refused_by_name(tmp_path):
    torch.save({"model": of_timm().state_dict(), "loss": nn.CrossEntropyLoss()}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="w.pth holds torch.nn.modules.loss.CrossEntropyLoss: it is not loaded, as "
                                           "such a file can run code; where you trust it, load it by torch.load"):
        weights.load(ours(), tmp_path / "w.pth")


def test_a_model_of_the_package_is_no_source():
    with pytest.raises(WeightsError, match=r"comes with the package: utils.load_model\('food98'\)"):
        weights.load("Mini/8", "food98")
