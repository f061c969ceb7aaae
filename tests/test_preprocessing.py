"""A model and the way its images are prepared stay together, whatever becomes of the model."""
import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import parity
from going_modular import predictions, train, utils, weights
from going_modular.data_setup import eval_transform
from going_modular.paper import finetune, inspection
from going_modular.vit import ViT
from going_modular.weights.__main__ import main
from going_modular.weights.preprocessing import OF_A_RUN, Preprocessing

SIZES = {"image_size": 32, "patch_size": 8, "num_classes": 3, "num_layers": 2, "hidden_size": 48, "mlp_size": 96,
         "num_heads": 3}
IMAGENET = Preprocessing(0.875, "bilinear", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def photo():
    smooth = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(smooth).resize((90, 60), Image.Resampling.BICUBIC)


def prepared(preprocessing=IMAGENET, **options) -> ViT:
    model = parity.redraw(ViT(**{**SIZES, **options}))
    model.preprocessing = preprocessing.sized(model.settings["image_size"], model.settings["in_channels"])
    return model


def probabilities(model: ViT, photo) -> torch.Tensor:
    return model(model.preprocessing(photo)[None]).softmax(dim=-1)[0]


@pytest.fixture
def run(tmp_path):
    """The folder of a run of ours."""
    model = prepared(OF_A_RUN)
    checkpoint = {"model": model.state_dict(), "architecture": model.settings, "settings": {}, "epoch": 1,
                  "class_names": ["pizza", "steak", "sushi"]}
    (tmp_path / "run").mkdir()
    torch.save(checkpoint, tmp_path / "run" / "last.pt")
    return tmp_path / "run"


# What is an image


def test_a_photo_of_any_kind_is_prepared_as_its_colours(photo, tmp_path):
    photo.save(tmp_path / "photo.png")
    see_through = photo.convert("RGBA")
    grey = photo.convert("L")
    of_16_bits = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    assert of_16_bits.mode == "I;16"
    prepare = IMAGENET.sized(32)
    for same in (see_through, tmp_path / "photo.png", str(tmp_path / "photo.png")):
        assert torch.equal(prepare(same), prepare(photo))
    for same in (of_16_bits, grey.convert("LA"), grey):
        assert torch.equal(prepare(same), prepare(grey.convert("RGB")))
    assert prepare(photo).shape == (3, 32, 32) and type(prepare(photo)) is torch.Tensor


def test_a_model_of_one_channel_sees_photos_grey(photo):
    prepare = IMAGENET.sized(32, channels=1)
    assert prepare.mean == pytest.approx((0.449,)) and prepare.std == pytest.approx((0.226,))
    assert prepare(photo).shape == (1, 32, 32)
    assert torch.equal(prepare(photo), prepare(photo.convert("L")))
    grey = Preprocessing(0.875, "bilinear", mean=(0.449,) * 3, std=(0.226,) * 3).sized(32)(photo.convert("L"))
    torch.testing.assert_close(prepare(photo), grey[:1])


def test_preprocessing_without_a_size_says_so(photo):
    with pytest.raises(ValueError, match="no image size yet"):
        IMAGENET(photo)
    with pytest.raises(ValueError, match="interpolation must be bilinear or bicubic, not 'lanczos'"):
        Preprocessing(None, "lanczos")
    with pytest.raises(ValueError, match="resizer must be one of pillow, tensor, sampled, not 'numpy'"):
        Preprocessing(None, "bilinear", resizer="numpy")


# A run of ours


@pytest.mark.parametrize("size", [(90, 60), (60, 90), (31, 64), (32, 32)])
def test_a_run_prepares_images_as_in_its_evaluation(photo, size):
    image = photo.resize(size)
    torch.testing.assert_close(OF_A_RUN.sized(32)(image), eval_transform(32)(image), atol=1e-6, rtol=0)


def test_a_loaded_run_predicts_the_same_by_its_own_preprocessing(run, photo):
    model, info = utils.load_model(run)
    of_predict = predictions.predict(model, photo, info).probabilities
    torch.testing.assert_close(probabilities(model, photo), torch.tensor(list(of_predict.values())), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["torchvision", "timm", "transformers"])
def test_a_run_gives_the_same_probabilities_after_a_round_trip(kind, run, photo, tmp_path, capsys):
    model, _ = utils.load_model(run)
    file = tmp_path / "w.safetensors"
    told = weights.save_as(model, kind, file)
    again = weights.load(ViT(**model.settings).eval(), file)
    assert torch.equal(probabilities(again, photo), probabilities(model, photo))
    # A library's own user is told what to set.
    assert told["crop_pct"] == 1.0 and told.get("mean") == ((0.5, 0.5, 0.5) if kind == "torchvision" else None)
    assert main(["convert", str(run), kind, str(tmp_path / "other.pth")]) == 0
    assert f"{kind} must be told: crop_pct = 1.0" in capsys.readouterr().out


def test_what_a_library_does_anyway_need_not_be_told(tmp_path):
    model = prepared(weights.LAYOUTS["timm"].preprocessing)
    assert weights.save_as(model, "timm", tmp_path / "w.pth") == {}
    model.preprocessing = IMAGENET.sized(32)
    assert weights.save_as(model, "timm", tmp_path / "w.pth") == {
        "crop_pct": 0.875, "interpolation": "bilinear", "mean": IMAGENET.mean, "std": IMAGENET.std}


def test_a_header_that_makes_no_sense_is_an_error(tmp_path):
    safetensors_torch = pytest.importorskip("safetensors.torch")
    for said in ("{", "[]", '{"settings": {"image_size": "x"}}', '{"preprocessing": {"crop_pct": 1}}'):
        safetensors_torch.save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors", metadata={"going_modular": said})
        with pytest.raises(weights.WeightsError, match="w.safetensors is cut short, damaged"):
            weights.open_source(tmp_path / "w.safetensors")


# Another model made of one


def test_a_new_head_keeps_the_preprocessing(photo):
    model = prepared()
    copy = finetune.new_head(model, 5)
    assert torch.equal(copy.preprocessing(photo), model.preprocessing(photo))
    larger = finetune.new_head(model, 5, image_size=48)
    assert larger.preprocessing == IMAGENET.sized(48) and larger.preprocessing(photo).shape == (3, 48, 48)
    assert finetune.new_head(ViT(**SIZES), 5).preprocessing is None


def test_folding_the_normalisation_changes_the_preprocessing_with_it(photo):
    model = prepared()
    before = probabilities(model, photo)
    finetune.fold_normalisation(model, model.preprocessing.mean, model.preprocessing.std)
    assert -1 <= model.preprocessing(photo).min() and model.preprocessing(photo).max() <= 1
    torch.testing.assert_close(probabilities(model, photo), before, atol=1e-5, rtol=0)


def test_folding_another_number_of_channels_is_an_error():
    with pytest.raises(ValueError, match="3 means and 3 standard deviations are given for 1 channels"):
        finetune.fold_normalisation(ViT(**SIZES, in_channels=1), [0.5] * 3, [0.5] * 3)


def test_a_model_of_one_channel_becomes_one_for_colours(photo):
    model = prepared(in_channels=1)
    coloured = finetune.for_rgb(model)
    torch.testing.assert_close(probabilities(coloured, photo.convert("L")), probabilities(model, photo.convert("L")))
    # Pillow rounds a pixel's brightness to one of 256.
    torch.testing.assert_close(probabilities(coloured, photo), probabilities(model, photo), atol=0.01, rtol=0)


def test_weights_of_one_channel_start_a_training_on_photos(tmp_path, photo):
    model = prepared(in_channels=1)
    weights.save_as(model, "timm", tmp_path / "grey.safetensors")
    start = train.pretrained_model({"weights": str(tmp_path / "grey.safetensors")}, {})
    ours, theirs = {}, {}
    grey = photo.convert("L")
    start(start.preprocessing(grey)[None], intermediates=ours)
    model(model.preprocessing(grey)[None], intermediates=theirs)
    torch.testing.assert_close(ours["encoder"], theirs["encoder"], atol=1e-4, rtol=1e-4)
    five = ViT(**SIZES, in_channels=5)
    weights.save_as(five, "timm", tmp_path / "five.safetensors")
    with pytest.raises(ValueError, match="five.safetensors takes images of 5 channels, and photos have three"):
        train.pretrained_model({"weights": str(tmp_path / "five.safetensors")}, {})


# Pictures of what it sees


def test_overlay_undoes_the_normalisation_of_the_model(photo):
    model = prepared()
    image = model.preprocessing(photo)[None]
    colours = IMAGENET.renormalised(0, 1).sized(32)(photo)  # from 0 to 1
    lit = inspection.overlay(image, torch.ones(1, 4, 4), model)
    torch.testing.assert_close(lit[0], colours.permute(1, 2, 0), atol=1e-6, rtol=0)


def test_overlay_by_hand():
    """Pixels -1, 0 and 1 are black, grey and white; the map is twice as high on the left."""
    image = torch.tensor([[-1.0, 0.0], [1.0, 0.5]]).expand(1, 1, 2, 2)
    lit = inspection.overlay(image, torch.tensor([[[2.0, 1.0], [2.0, 1.0]]]))
    assert lit.shape == (1, 2, 2, 3) and torch.equal(lit[..., 0], lit[..., 2])  # grey images in three channels
    torch.testing.assert_close(lit[0, ..., 0], torch.tensor([[0.0, 0.25], [1.0, 0.375]]))
