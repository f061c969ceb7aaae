"""predictions, plots and utils: what a person calls after training."""
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from going_modular import plots, predictions, utils
from going_modular.data_setup import eval_transform
from going_modular.utils import CheckpointError, load_model, read_checkpoint, save_model, set_seeds
from going_modular.vit import ViT
from going_modular.weights.__main__ import main as weights_command

SIZES = {"image_size": 16, "patch_size": 8, "num_classes": 3, "num_layers": 1, "hidden_size": 24, "mlp_size": 48,
         "num_heads": 2}
CLASSES = ["blue", "green", "red"]


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint of a model that answers "green" to everything, with probability 0.5761."""
    model = ViT(**SIZES)
    model.head.bias.data = torch.tensor([0.0, 1.0, 0.0])
    path = tmp_path / "last.pt"
    torch.save({"model": model.state_dict(), "architecture": model.settings, "settings": {"data": "colours"},
                "class_names": CLASSES, "epoch": 3}, path)
    return path


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "a photo.png"
    Image.fromarray(np.full((30, 20), 7, np.uint8)).save(path)  # greyscale, not square
    return path


def test_load_model_and_predict(checkpoint, photo):
    model, info = load_model(checkpoint.parent)
    assert (info.class_names, info.image_size, info.epoch, info.settings) == (CLASSES, 16, 3, {"data": "colours"})
    assert not model.training
    for image in (photo, str(photo), Image.open(photo)):
        name, probabilities = predictions.predict(model, image, info)
        assert name == "green" and list(probabilities) == CLASSES
        assert probabilities["green"] == pytest.approx(np.e / (np.e + 2), abs=1e-6)
    assert info.transform(Image.open(photo).convert("RGB")).shape == (3, 16, 16)


def test_a_model_for_rectangles_is_loaded_and_predicts(checkpoint, photo):
    model = ViT(**{**SIZES, "image_size": (24, 16)})
    stored = torch.load(checkpoint)
    torch.save({**stored, "model": model.state_dict(), "architecture": model.settings}, checkpoint)
    model, info = load_model(checkpoint)
    assert info.image_size == (24, 16) and model.grid == (3, 2)
    assert info.transform(Image.open(photo).convert("RGB")).shape == (3, 24, 16)
    assert set(predictions.predict(model, photo, info).probabilities) == set(CLASSES)
    predictions.pred_and_plot_image(model, CLASSES, photo)  # its own size, without a transform


class Brightness(nn.Module):
    """Logits that are the mean of the left half and of the right half of the first channel."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images):
        half = images.shape[-1] // 2
        return self.weight * torch.stack([images[:, 0, :, :half].mean((1, 2)), images[:, 0, :, half:].mean((1, 2))], 1)


def test_a_classifier_of_others_gets_its_photos_as_torchvisions_weights_want_them(photo):
    theirs = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.transforms(crop_size=24, resize_size=24)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    ours = predictions.own_transform(nn.Linear(2, 2), (24, 24))
    torch.testing.assert_close(ours(image), theirs(image), atol=1e-6, rtol=0)


def test_central_crops_go_from_the_whole_down_to_065_of_the_side():
    image = torch.rand(1, 3, 20, 20)
    views = predictions.central_crops(image, 3)
    assert torch.equal(views[0], image) and len(views) == 6
    for view, side in zip(views[2::2], (16, 13)):  # 0.825 and 0.65 of 20 pixels
        expected = v2.functional.resize(v2.functional.center_crop(image, [side]), [20, 20])
        torch.testing.assert_close(view, expected)
    assert all(torch.equal(mirrored, view.flip(-1)) for view, mirrored in zip(views[::2], views[1::2]))


def test_a_sheet_of_tensors_shows_minus_one_as_black_and_one_as_white():
    image = torch.tensor([-1.0, 0.0, 1.0, 0.5]).view(1, 2, 2).expand(3, 2, 2)
    figure = plots.plot_predictions([image], torch.tensor([[0.2, 0.8]]), ["pizza", "steak"])
    shown = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(shown[..., 1], [[0, 0.5], [1, 0.75]])
    plt.close(figure)


@pytest.mark.parametrize("height, rows", [(20, slice(4, 17)), (40, slice(7, 33))])
def test_views_average_probabilities_over_crops_and_mirror_images(height, rows):
    set_seeds(0)
    images = torch.rand(5, 3, height, 20) * 20
    model = Brightness()
    middle = v2.functional.resize(images[..., rows, 4:17], [height, 20])  # 0.65 of 20 pixels are 13
    views = [seen for view in (images, middle) for seen in (view, view.flip(-1))]
    expected = torch.stack([model(view).softmax(-1) for view in views]).mean(0)
    views = predictions.views_of({"data": "photos", "test_crops": 2, "test_shifts": False})
    ours = predictions.AveragedOverViews(model, views)(images).exp()
    torch.testing.assert_close(ours, expected)
    assert (ours - 0.5).abs().max() < 1e-5  # both halves are seen on both sides
    assert predictions.views_of({"data": "photos"}) is None


def test_views_of_digits_are_shifts_with_black_coming_in():
    set_seeds(0)
    images = torch.rand(5, 3, 20, 20) * 20
    expected = [images]
    for down, right in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        moved = torch.full_like(images, -1)
        moved[..., max(down, 0) : 20 + min(down, 0), max(right, 0) : 20 + min(right, 0)] = images[
            ..., max(-down, 0) : 20 + min(-down, 0), max(-right, 0) : 20 + min(-right, 0)]
        expected.append(moved)
    found = predictions.shifts(images)
    assert len(found) == 5 and all(any(torch.equal(view, other) for other in expected) for view in found)
    model = Brightness()
    views = predictions.views_of({"data": "any", "test_crops": 1, "test_shifts": True})
    ours = predictions.AveragedOverViews(model, views)(images).exp()
    torch.testing.assert_close(ours, torch.stack([model(view).softmax(-1) for view in expected]).mean(0))
    # Runs made before there was --test-shifts: five crops of digits were shifts, five of photos were crops.
    assert predictions.views_of({"data": "mnist", "test_crops": 5}) is predictions.shifts
    assert predictions.views_of({"data": "photos", "test_crops": 5}) is not predictions.shifts


def test_predict_sees_an_image_as_the_run_did(checkpoint, photo):
    model, info = load_model(checkpoint)
    set_seeds(1)
    nn.init.normal_(model.head.weight)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)).save(photo)
    alone = predictions.predict(model, photo, info)
    info.settings["test_crops"] = 3
    assert predictions.predict(model, photo, info) != alone


@pytest.mark.parametrize("image", [
    Image.new("RGBA", (6, 3), (200, 100, 0, 51)), Image.new("I;16", (6, 3), 257 * 90), "EXIF"],
    ids=["RGBA", "16 bits", "EXIF"])
def test_an_opened_image_is_answered_as_its_file(checkpoint, tmp_path, image):
    model, info = load_model(checkpoint)
    nn.init.normal_(model.head.weight)
    if image == "EXIF":
        image = Image.fromarray(np.arange(6 * 9 * 3, dtype=np.uint8).reshape(9, 6, 3))
        image.getexif()[0x0112] = 6  # to be turned a quarter
    image.save(tmp_path / "photo.png", exif=image.getexif())
    with Image.open(tmp_path / "photo.png") as opened:
        assert predictions.predict(model, opened, info) == predictions.predict(model, tmp_path / "photo.png", info)
    with pytest.raises(TypeError, match="expected a PIL image or the path"):
        predictions.predict(model, np.asarray(image), info)


def test_the_command(checkpoint, photo, tmp_path, capsys):
    picture = tmp_path / "new folder" / "out.png"
    assert predictions.main([str(checkpoint), str(photo), str(photo), "--save", str(picture)]) == 0
    assert capsys.readouterr().out == f"{photo}: green 0.576\n" * 2 + f"saved {picture}\n"
    assert Image.open(picture).size[0] > 200


def test_the_command_takes_folders(checkpoint, photo, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(predictions, "MOST_SHOWN", 2)
    for name in ("b/2.png", "b/a/1.PNG", "b/.hidden.png", "b/notes.txt", "c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(photo.read_bytes())
    (tmp_path / "empty").mkdir()
    arguments = [checkpoint, tmp_path / "b", tmp_path / "c.png", tmp_path / "empty", "--save", tmp_path / "sheet"]
    assert predictions.main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        *(f"{tmp_path / name}: green 0.576" for name in ("b/2.png", "b/a/1.PNG", "c.png")),
        f"saved {tmp_path / 'sheet.png'} with the first 2 of 3 images"]
    assert err == f"error: {tmp_path / 'empty'} holds no images\n" and (tmp_path / "sheet.png").is_file()


@pytest.mark.parametrize("encoding, said", [("cp1252", "?? crème ?"), ("utf-8", "寿司 crème ?")])
def test_class_names_that_the_console_lacks_are_replaced(checkpoint, photo, monkeypatch, encoding, said):
    torch.save({**read_checkpoint(checkpoint), "class_names": ["blue", "寿司 crème \udce9", "red"]}, checkpoint)
    with io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n") as console:
        monkeypatch.setattr(sys, "stdout", console)
        assert predictions.main([str(checkpoint), str(photo)]) == weights_command(["info", str(checkpoint)]) == 0
        prediction, *info = console.buffer.getvalue().decode(encoding).splitlines()
    assert prediction == f"{photo}: {said} 0.576" and any(f"3: blue, {said}, red" in line for line in info)


def test_one_bad_image_does_not_cost_the_others(checkpoint, photo, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(photo.read_bytes()[:45])
    arguments = [checkpoint, tmp_path / "broken.png", photo, tmp_path / "none.png", photo]
    assert predictions.main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == f"{photo}: green 0.576\n" * 2
    first, second = err.splitlines()
    assert first.startswith(f"error: {tmp_path / 'broken.png'} cannot be read") and "--" not in first
    assert second == f"error: {tmp_path / 'none.png'}: no such image; check the path"


@pytest.mark.parametrize("save, words", [
    ("out.mp4", "--save can't write .mp4 (out.mp4): use one of .png, .jpg"), (".", "is a folder"),
    ("a photo.png/out.png", "File exists")])
def test_a_picture_that_cannot_be_written_is_refused_first(
        checkpoint, photo, monkeypatch, capsys, save, words):
    monkeypatch.chdir(photo.parent)
    monkeypatch.setattr(predictions, "predict", lambda *_: pytest.fail("it has begun to compute"))
    assert predictions.main([str(checkpoint), str(photo), "--save", save]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and words in err


def test_the_command_without_a_run(photo, tmp_path, capsys):
    assert predictions.main([str(tmp_path / "x"), str(photo)]) == 2
    assert capsys.readouterr() == ("", f"error: there is no checkpoint {tmp_path / 'x'}: check the path, or train "
                                       "first\n")


class Dangerous:
    def __reduce__(self):
        return open, ("code_ran", "w")


@pytest.mark.parametrize("spoil, words", [
    (lambda path: path.unlink(), "there is no checkpoint"),
    (lambda path: path.write_bytes(b""), "cut short, damaged"),
    (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "cut short, damaged"),
    (lambda path: path.write_text("hello"), "no checkpoint at all"),
    (lambda path: torch.save({"model": Dangerous()}, path), "can run code"),
    (lambda path: torch.save([1, 2], path), "not a checkpoint of this package"),
    (lambda path: torch.save({"weight": torch.zeros(2)}, path), "not a checkpoint of this package"),
])
def test_bad_checkpoints(checkpoint, tmp_path, monkeypatch, spoil, words):
    monkeypatch.chdir(tmp_path)
    spoil(checkpoint)
    with pytest.raises(CheckpointError, match=words) as error:
        load_model(checkpoint)
    assert str(checkpoint) in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "code_ran").exists()


def test_weights_that_do_not_fit_their_architecture(checkpoint):
    content = read_checkpoint(checkpoint)
    torch.save({**content, "architecture": {**content["architecture"], "num_layers": 2}}, checkpoint)
    with pytest.raises(CheckpointError, match="do not fit their architecture"):
        load_model(checkpoint)


def test_pred_and_plot_image_takes_any_model(photo):
    shapes = []

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.tensor([0.0, 0.0, 2.0]))

        def forward(self, x):
            shapes.append((*x.shape, round(x[0, 0, 0, 0].item(), 3)))
            return self.bias.expand(len(x), 3)

    predictions.pred_and_plot_image(Model(), CLASSES, photo)
    assert plt.gca().get_title() == "red, 79%"
    predictions.pred_and_plot_image(Model(), CLASSES, str(photo), image_size=(8, 6), device="cpu")
    predictions.pred_and_plot_image(Model(), CLASSES, photo, transform=eval_transform(10))
    plt.close("all")
    imagenet = round((7 / 255 - 0.485) / 0.229, 3)
    assert shapes == [(1, 3, 224, 224, imagenet), (1, 3, 8, 6, imagenet), (1, 3, 10, 10, round(7 / 127.5 - 1, 3))]


def test_pred_and_plot_image_sees_what_the_model_was_made_for(photo):
    model = ViT(**SIZES)
    seen = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    predictions.pred_and_plot_image(model, CLASSES, photo)
    model.preprocessing = eval_transform(16)
    predictions.pred_and_plot_image(model.half(), CLASSES, photo)
    plt.close("all")
    assert [(*images.shape, images.dtype) for images in seen] == [
        (1, 3, 16, 16, torch.float32), (1, 3, 16, 16, torch.float16)]
    assert seen[0][0, 0, 0, 0].item() == pytest.approx((7 / 255 - 0.485) / 0.229)
    assert seen[1][0, 0, 0, 0].item() == pytest.approx(7 / 127.5 - 1, abs=1e-3)


def test_pred_and_plot_image_on_a_gpu(gpu, photo):
    predictions.pred_and_plot_image(ViT(**SIZES).to("cuda"), CLASSES, photo)
    predictions.pred_and_plot_image(ViT(**SIZES), CLASSES, photo, device="cuda")
    assert plt.gca().get_title() == "blue, 33%"
    plt.close("all")


@pytest.mark.parametrize("names", [CLASSES[:2], [*CLASSES, "white"]])
def test_a_name_for_each_class(checkpoint, photo, names):
    model, info = load_model(checkpoint)
    with pytest.raises(ValueError, match=f"the model has 3 classes, and {len(names)} class names are given"):
        predictions.pred_and_plot_image(model, names, photo)
    info.class_names = names
    with pytest.raises(ValueError, match="the model has 3 classes"):
        predictions.predict(model, photo, info)


def test_two_classes_of_one_name_stay_two(checkpoint, photo, capsys):
    """timm's names of ImageNet's classes hold "crane" and "maillot" twice."""
    model, info = load_model(checkpoint)
    model.head.bias.data = torch.tensor([0.0, 0.0, 1.0])
    info.class_names = ["crane", "crane", "pizza"]
    predictions.pred_and_plot_image(model, info.class_names, photo)
    assert plt.gca().get_title() == "pizza, 58%"
    plt.close("all")
    answer = predictions.predict(model, photo, info)
    assert answer.class_name == "pizza" and list(answer.probabilities.values()) == pytest.approx([0.212, 0.212, 0.576],
                                                                                                 abs=1e-3)
    assert list(answer.probabilities) == ["crane (class 0)", "crane (class 1)", "pizza"]
    torch.save({**read_checkpoint(checkpoint), "class_names": ["pizza", "crane", "crane"]}, checkpoint)
    assert predictions.main([str(checkpoint), str(photo), "--save", str(photo.with_name("sheet.png"))]) == 0
    assert capsys.readouterr().out.startswith(f"{photo}: crane (class 1) 0.576\n")


def test_loss_curves():
    results = {"train_loss": [1.0, 0.5], "train_acc": [0.4, 0.8], "test_loss": [1.1, 0.7], "test_acc": [0.3, 0.6]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = plots.plot_loss_curves(results, num_classes=3)
        figure.canvas.draw()
    loss, accuracy = figure.axes
    assert [list(line.get_ydata()) for line in loss.lines[:2]] == [[1.0, 0.5], [1.1, 0.7]]
    assert loss.lines[2].get_ydata()[0] == pytest.approx(np.log(3)) and accuracy.get_ylabel() == "accuracy"
    assert [list(line.get_ydata()) for line in accuracy.lines] == [[0.4, 0.8], [0.3, 0.6]]
    plt.close(figure)


def test_confusion_matrix_shows_counts():
    figure = plots.plot_confusion_matrix(torch.tensor([[3, 1, 0], [0, 0, 0], [2, 2, 2]]), CLASSES)
    assert [text.get_text() for text in figure.axes[0].texts] == ["3", "1", "0", "0", "0", "0", "2", "2", "2"]
    plt.close(figure)
    plt.close(plots.plot_confusion_matrix(torch.eye(100), [str(i) for i in range(100)]))


def test_predictions_tell_right_from_wrong(tmp_path):
    images = [Image.new("RGB", (8, 8)), torch.zeros(3, 8, 8)]
    probabilities = torch.tensor([[0.2, 0.7, 0.1], [0.2, 0.7, 0.1]])
    figure = plots.plot_predictions(images, probabilities, CLASSES, labels=[1, 2])
    assert [axis.get_title() for axis in figure.axes] == ["green, 70%", "green, 70%\ntruth: red"]
    plots.save(figure, tmp_path / "sheet.png")
    assert not plt.fignum_exists(figure.number)


def test_save_model(tmp_path):
    model = nn.Linear(2, 3)
    path = save_model(model, tmp_path / "models", "linear.pth")
    assert path == tmp_path / "models" / "linear.pth"
    assert torch.equal(torch.load(path, weights_only=True)["weight"], model.weight)
    with pytest.raises(ValueError, match=r"must end in .pt or .pth, not 'linear'"):
        save_model(model, tmp_path, "linear")


def test_write_atomically_keeps_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        utils.write_atomically(path, fail)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    utils.write_atomically(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "new"


def test_seeds():
    values = []
    for _ in range(2):
        set_seeds(7)
        values.append((torch.rand(1).item(), np.random.rand()))
    assert values[0] == values[1]


def test_a_device_by_name():
    assert utils.pick_device("cpu").type == "cpu" and utils.pick_device().type in ("cpu", "cuda", "mps")
    for name in ("cuda:99", "meta", "sofa"):  # none, one that holds no numbers, and no device at all
        with pytest.raises(ValueError, match=f"there is no device '{name}' on this machine that can be used"):
            utils.pick_device(name)


def no_kernel(name):
    raise RuntimeError(f"CUDA error: no kernel image is available for execution on {name}\nCompile with ...")


def driver_too_old():
    warnings.warn("CUDA initialization: The NVIDIA driver on your system is too old", stacklevel=1)
    return False


@pytest.mark.parametrize("cuda, mps, proven, device, said", [
    (lambda: True, False, torch.device, "cuda", ""),
    (lambda: False, True, torch.device, "mps", ""),
    (lambda: True, False, no_kernel, "cpu",
     "the device cuda is passed over: CUDA error: no kernel image is available for execution on cuda\n"),
    (driver_too_old, False, torch.device, "cpu",
     "the device cuda is passed over: CUDA initialization: The NVIDIA driver on your system is too old\n"),
    (driver_too_old, True, torch.device, "mps",
     "the device cuda is passed over: CUDA initialization: The NVIDIA driver on your system is too old\n")])
def test_auto_takes_the_first_device_that_computes(monkeypatch, capsys, cuda, mps, proven, device, said):
    monkeypatch.setattr(torch.cuda, "is_available", cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(utils, "_proven", proven)
    with warnings.catch_warnings(record=True) as warned:
        assert utils.pick_device() == torch.device(device)
    assert capsys.readouterr().out == said and not warned


def test_a_device_that_computes_wrongly_is_no_device(monkeypatch, capsys):
    monkeypatch.setattr(torch, "ones", lambda *shape, device: torch.zeros(*shape, device=device))
    with pytest.raises(ValueError, match="a matrix product that sums to 512 came out as 0.0"):
        utils.pick_device("cpu")


def test_what_mps_lacks_is_computed_on_the_cpu():
    """PyTorch reads the variable when it is imported: the package sets it before."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTORCH_ENABLE_MPS_FALLBACK"}
    code = "import os, sys, going_modular; print(os.environ['PYTORCH_ENABLE_MPS_FALLBACK'], 'torch' in sys.modules)"
    for given, value in ((None, "1"), ("0", "0")):
        answer = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, text=True,
                                env=environment | ({"PYTORCH_ENABLE_MPS_FALLBACK": given} if given else {}),
                                capture_output=True, check=True).stdout
        assert answer == f"{value} False\n"
