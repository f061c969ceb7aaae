"""The command, as a person uses it: what it writes, what it says, and what it answers to bad input."""
import csv
import errno
import io
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from going_modular import config, data_setup, distributed, predictions, train, trainer
from going_modular.config import OPTIONS, PRESETS, complete, parse
from going_modular.datasets import named
from going_modular.recipe import check_bounds
from going_modular.train import build_model, command_to_resume, from_outside, main, wilson_interval
from going_modular.utils import CheckpointError, load_model
from going_modular.vit import ViT, count_macs

ROOT = Path(__file__).parent.parent
QUICK = ["--image-size", "16", "--patch-size", "8", "--layers", "2", "--hidden-size", "24", "--heads", "2",
         "--mlp-size", "48", "--repeats", "1", "--batch-size", "8", "--lr", "3e-3", "--device", "cpu",
         "--num-workers", "0"]


@pytest.fixture
def run(colours, tmp_path, capsys):
    """Call the command on the colours; returns (exit status, standard output, standard error)."""

    def call(*options, data=colours, output=tmp_path / "run", quick=QUICK):
        given = [] if data is None else ["--data", str(data)]
        status = main([*given, "--output", str(output), *quick, *options])
        return status, *capsys.readouterr()

    return call


def test_a_run_from_start_to_prediction(run, tmp_path, colours):
    status, out, err = run("--epochs", "8")
    assert (status, err) == (0, "")
    folder = tmp_path / "run"
    results = json.loads((folder / "results.json").read_text())
    assert results["test_accuracy"] == 1 and results["one_class_accuracy"] == pytest.approx(1 / 3)
    assert results["confusion_matrix"] == [[4, 0, 0], [0, 4, 0], [0, 0, 4]]
    assert results["guess_loss"] == pytest.approx(1.0986, abs=1e-4) and results["test_loss"] < 1
    for line in ("test accuracy       1.000   95 % interval 0.758 to 1.000, 12 images", "always one class    0.333",
                 "would have 1.099, ln(3)", "8 epochs, 36 images", f"python -m going_modular.predictions {folder}"):
        assert line in out
    for name in ("loss_curves", "confusion_matrix", "predictions"):
        with Image.open(folder / f"{name}.png") as picture:
            assert min(picture.size) > 200
    with open(folder / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 and all(value for row in rows for value in row.values())
    assert float(rows[-1]["test_loss"]) == pytest.approx(results["test_loss"], abs=1e-5)
    assert (folder / "best.pt").is_file()

    model, info = load_model(folder)
    assert info.class_names == ["blue", "green", "red"] and info.settings["lr"] == 3e-3 and info.epoch == 8
    photo = colours / "test" / "red" / "0.png"
    prediction = predictions.predict(model, photo, info)
    assert prediction.class_name == "red" and sum(prediction.probabilities.values()) == pytest.approx(1)


def test_the_same_seed_gives_the_same_weights(run, tmp_path):
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert run("--epochs", "1", "--seed", seed, output=tmp_path / name)[0] == 0
    a, b, c = (load_model(tmp_path / name)[0].state_dict() for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["blocks.0.msa.qkv.weight"], c["blocks.0.msa.qkv.weight"])


def test_every_option_reaches_the_run(run, tmp_path):
    """Give each option a value of its own and find it again where it matters: none is accepted and not used."""
    options = ["--epochs", "1", "--model", "Ti/4", "--dropout", "0.2", "--drop-path", "0.3", "--pool", "mean",
               "--weight-decay", "0.2", "--warmup", "0.5", "--clip-norm", "2", "--label-smoothing", "0.2",
               "--mixup", "0.4", "--ema", "0.8", "--beta2", "0.9", "--seed", "9", "--hold-out", "0.3",
               "--min-scale", "0.5", "--gradient-accumulation", "2", "--checkpointing", "--muon", "0.01"]
    status, _, err = run(*options, quick=[*QUICK[:2], *QUICK[4:]])
    assert (status, err) == (0, "")
    checkpoint = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert checkpoint["architecture"] == {
        "image_size": 16, "patch_size": 4, "in_channels": 3, "num_classes": 3, "num_layers": 2, "hidden_size": 24,
        "mlp_size": 48, "num_heads": 2, "dropout": 0.2, "drop_path": 0.3, "pool": "mean", "gelu": "erf",
        "layer_norm_eps": 1e-6, "representation_size": None}
    assert checkpoint["recipe"] == {
        "epochs": 1, "lr": 3e-3, "weight_decay": 0.2, "beta2": 0.9, "warmup": 0.5, "clip_norm": 2.0,
        "label_smoothing": 0.2, "mixup": 0.4, "ema": 0.8, "seed": 9, "muon": 0.01}
    group, _, matrices = checkpoint["training"]["optimizer"]["param_groups"]
    assert group["weight_decay"] == 0.2 and group["betas"] == (0.9, 0.9) and matrices["initial_lr"] == 0.01


def test_a_run_starts_from_the_weights_of_another(run, tmp_path):
    assert run("--epochs", "1")[0] == 0
    trained, _ = load_model(tmp_path / "run")
    options = ["--epochs", "1", "--weights", str(tmp_path / "run"), "--image-size", "24", "--drop-path", "0.1"]
    still = ["--lr", "1e-12", "--batch-size", "12", "--device", "cpu"]
    status, _, err = run(*options, quick=still, output=tmp_path / "second")
    assert (status, err) == (0, "")
    model, _ = load_model(tmp_path / "second")
    assert model.settings == {**trained.settings, "image_size": 24, "drop_path": 0.1}
    ours, theirs = model.state_dict(), trained.state_dict()
    assert theirs["head.weight"].abs().max() > 1e-3 > ours["head.weight"].abs().max()
    for name in ours.keys() - {"head.weight", "head.bias", "position_embedding"}:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-8, rtol=0)
    old_grid, new_grid = theirs["position_embedding"][0, 1:], ours["position_embedding"][0, 1:]
    assert len(old_grid) == 4 and len(new_grid) == 9
    torch.testing.assert_close(new_grid[[0, 2, 6, 8]], old_grid)  # the corners stay

    shutil.rmtree(tmp_path / "run")  # a run that goes on needs its own folder alone
    assert run("--resume", quick=[], output=tmp_path / "second")[0] == 0


def test_a_run_on_rectangles(run, tmp_path, colours):
    """From the command to a prediction, and on again."""
    wide = ["--image-size", "16x24", *QUICK[2:]]
    status, out, err = run("--epochs", "1", "--test-crops", "2", quick=wide)
    assert (status, err) == (0, "") and "million multiply-adds for 16x24 px" in out
    model, info = load_model(tmp_path / "run")
    assert model.settings["image_size"] == info.image_size == (16, 24) and model.grid == (2, 3)
    assert predictions.predict(model, colours / "test" / "red" / "0.png", info).class_name in info.class_names

    status, _, err = run("--resume", "--image-size", "24x16", data=None, quick=[])
    assert status == 2 and "--image-size 24x16 contradicts the run in" in err and "which has 16x24: leave" in err
    assert run("--resume", "--image-size", "16x24", data=None, quick=[])[0] == 0


@pytest.mark.parametrize("typed, size", [("64", 64), ("64x96", (64, 96)), ("64x64", 64)])
def test_an_image_size_as_it_is_typed(typed, size):
    assert parse(["--image-size", typed]) == {"image_size": size}


@pytest.mark.parametrize("typed", ["64x", "x64", "64x96x3", "large", "64*96"])
def test_an_image_size_that_is_none(typed, capsys):
    with pytest.raises(SystemExit):
        parse(["--image-size", typed])
    assert f"a number of pixels, or height and width as in 64x96, not '{typed}'" in capsys.readouterr().err


@pytest.mark.parametrize("options, words", [
    (["--weights", "nothing.pt"], "there is no file nothing.pt"),
    (["--weights", "nothing.pt", "--model", "B/16"], "--weights brings the whole model: leave out --model"),
    (["--weights", "nothing.pt", "--hidden-size", "8"], "leave out --hidden-size"),
    (["--weights", "nothing.pt", "--pool", "mean"], "leave out --pool")])
def test_weights_that_cannot_be_taken(run, options, words):
    status, _, err = run(*options, quick=["--device", "cpu"])
    assert status == 2 and err.startswith("error: ") and err.count("\n") == 1 and words in err


def test_data_options_reach_the_loaders(colours, tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(data_setup, "train_transform", lambda size, flip, **rest: seen.update(
        size=size, **rest) or data_setup.eval_transform(size))
    loader = data_setup.make_loader
    monkeypatch.setattr(data_setup, "make_loader", lambda dataset, transform, batch, **rest: seen.setdefault(
        "loaders", []).append((len(dataset), batch, rest)) or loader(dataset, transform, batch, **rest))
    assert main(["--data", str(colours), "--output", str(tmp_path / "r"), *QUICK, "--epochs", "1", "--hold-out", "0.25",
                 "--min-scale", "0.6", "--trivial-augment", "0.3", "--color-jitter", "0.1", "--batch-size", "7",
                 "--stretch", "1.2", "--turn", "3", "--shear", "0.1", "--zoom", "0.2", "--shift", "0.3",
                 "--repeats", "2", "--seed", "4", "--gradient-accumulation", "2"]) == 0
    rest = {"num_workers": 0, "device": torch.device("cpu")}
    assert seen == {"size": 16, "min_scale": 0.6, "color_jitter": 0.1, "trivial_augment": 0.3, "stretch": 1.2,
                    "turn": 3, "shear": 0.1, "zoom": 0.2, "shift": 0.3, "loaders": [
        (27, 7, {"shuffle": True, "seed": 4, "repeats": 2, "gradient_accumulation": 2, **rest}),
        (9, 3, rest), (12, 3, rest)]}


def test_only_errors_from_outside_lose_their_traceback(monkeypatch):
    monkeypatch.setattr(distributed, "size", lambda: 2)
    assert from_outside(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) == ""  # a mistake of this process
    assert "another process" in from_outside(RuntimeError("[third_party/gloo/pair.cc:547] Connection closed by peer"))
    assert "another process" in from_outside(torch.distributed.DistBackendError("NCCL error"))
    for message in ("CUDA out of memory.", "MPS backend out of memory", "[enforce fail] can't allocate memory"):
        assert "not enough memory" in from_outside(RuntimeError(message))


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    for name in OPTIONS:
        assert config.flag(name) in text and config.help_text(name)[:20] in " ".join(text.split()), name
    assert "(default: 0.85) (few: 0.25, digits: 1)" in " ".join(text.split())  # what the presets set, by itself
    assert "(few: on" not in text and "(digits: off)" in text


def test_the_defaults_follow_data_and_device(run, colours, tmp_path):
    quick = ["--epochs", "1", "--batch-size", "16"]
    assert run(quick=quick)[0] == 0
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    on_cpu = not (torch.cuda.is_available() or torch.backends.mps.is_available())
    if on_cpu:
        assert (settings["model"], settings["image_size"], settings["patch_size"]) == ("Mini", 64, 8)


def data_of(images, flip=True):
    """A data set of so many training images, of which nothing else is asked."""
    return data_setup.ImageData("mine", range(images), [], ["a", "b"], "", [], flip)


def test_presets_follow_the_data_and_give_way_to_what_is_given():
    cpu = torch.device("cpu")
    few, many = complete({}, data_of(999), cpu), complete({}, data_of(1000), cpu)
    digits = complete({}, data_of(20, flip=False), cpu)
    assert (few.preset, many.preset, digits.preset) == ("few", "many", "digits")
    for name, values in PRESETS.items():
        made = complete({"preset": name}, data_of(5000), cpu)
        assert all(getattr(made, option) == value for option, value in values.items())
    assert (few.mixup, many.mixup, complete({"mixup": 0.0}, data_of(9), cpu).mixup) == (0.5, 0.0, 0.0)
    # what is asked for takes the place of the other way to see a test image more than once
    assert (digits.test_shifts, digits.test_crops) == (True, 1)
    assert not complete({"test_crops": 3}, data_of(20, flip=False), cpu).test_shifts
    assert complete({"test_shifts": True}, data_of(9), cpu).test_crops == 1
    # epochs show as many images as the preset says
    assert (few.epochs, few.repeats) == (23, 2) and many.epochs == 31 and digits.repeats == 50
    # those that are held out among them, as the help says
    photos = complete({}, data_of(225), cpu)
    assert photos.epochs * photos.repeats * 225 == 45_000 == photos.images_shown
    assert "held-out images count as shown" in config.help_text("images_shown")
    assert "without --shard" in config.help_text("muon")


def test_the_model_follows_the_device_and_the_patch_size():
    def made(device, **given):
        options = complete(given, data_of(9), torch.device(device))
        return options.model, options.patch_size, options.image_size

    assert made("cuda") == ("B/16", None, 224)
    assert made("cpu") == made("mps") == ("Mini", 8, 64)  # a Mac is a laptop, and no data centre
    # The largest that divides the image and leaves 7 x 7 patches or more; below 14 px there is none but 1.
    sides = {12: 1, 28: 4, 32: 4, 48: 6, 50: 5, 64: 8, 96: 12}
    assert {side: made("cpu", image_size=side)[1] for side in sides} == sides
    # A prime can be cut into patches of one pixel alone, 51,529 of them.
    with pytest.raises(ValueError, match="--image-size 227 can .* patches of 1 px, which are 51,529: take 225 or 228,"):
        made("cpu", image_size=227)
    assert made("cpu", image_size=227, patch_size=1)[1] == 1  # who asks for it gets it
    with pytest.raises(ValueError, match="patches of 16 px do not fit into 227 px: 224 or 240 px would do"):
        made("cuda", image_size=227)
    rectangles = {(64, 96): 8, (96, 64): 8, (60, 90): 6, (224, 448): 32, (32, 36): 4}  # it divides both sides
    assert {size: made("cpu", image_size=size)[1] for size in rectangles} == rectangles
    # A patch size without a model is that of a ViT-Base: the 16 of B/16 was not asked for.
    assert made("cuda", patch_size=8) == ("B", 8, 224) and made("cpu", patch_size=4) == ("Mini", 4, 64)
    options = complete({"patch_size": 8, "image_size": 32}, data_of(9), torch.device("cuda"))
    with torch.device("meta"):
        assert build_model(options, 3).settings["patch_size"] == 8


def test_a_run_that_goes_on_keeps_its_options(colours):
    cpu, data = torch.device("cpu"), data_of(20)
    stored = complete({"preset": "digits", "lr": 0.1, "num_workers": 3}, data, cpu).of_the_run()
    again = complete({"num_workers": 1, "gradient_accumulation": 2}, data, cpu, stored)
    assert again.of_the_run() == stored and again.preset == "digits" and again.test_shifts
    assert (again.num_workers, again.gradient_accumulation) == (1, 2)
    assert complete({"data": "auto"}, data, cpu).data == "mine"


@pytest.mark.parametrize("change", [
    {"lr": "abc"}, {"batch_size": "8"}, {"lr": None}, {"preset": "huge"}, {"flip": "no"}, {"min_scale": 7},
    {"image_size": [16, 16, 3]}, {"image_size": ["a", "b"]}, None],
    ids=str)
def test_settings_that_were_spoilt_by_hand_get_one_line(run, tmp_path, change):
    assert run("--epochs", "1")[0] == 0
    file = tmp_path / "run" / "settings.json"
    stored = json.loads(file.read_text())
    file.write_text(json.dumps({} if change is None else {**stored, **change}))
    status, _, err = run("--resume", data=None, quick=[])
    assert status == 2 and "no settings.json that can be read" in err and err.count("\n") == 1


def test_a_resumed_run_of_digits_keeps_its_shifts(colours):
    stored = complete({"preset": "digits"}, data_of(20), torch.device("cpu")).of_the_run()
    assert complete({"test_crops": 1}, data_of(20), torch.device("cpu"), stored).test_shifts


def test_the_preset_line_tells_what_holds(run):
    _, out, _ = run("--epochs", "1", "--test-shifts")
    assert "preset few: " in out and "test crops" not in out.split("preset few: ")[1].split("\n")[0]
    status, _, err = run("--resume", "--no-flip", data=None, quick=[])
    assert status == 2 and "--no-flip contradicts the run" in err and "which has on" in err


def test_no_behaviour_hangs_on_the_name_of_a_folder(colours, tmp_path):
    shutil.copytree(colours, tmp_path / "mnist")
    assert complete({}, data_setup.load(tmp_path / "mnist"), torch.device("cpu")).preset == "few"


def test_each_option_is_described_once():
    """Type, bounds and help are the field's; a preset sets options that exist, within their bounds."""
    for name, each in OPTIONS.items():
        assert each.metadata["help"] and each.metadata["group"] in config.GROUPS, name
    for values in PRESETS.values():
        for name, value in values.items():
            assert isinstance(value, config.TYPES[name]) and value != OPTIONS[name].default, name
            check_bounds(OPTIONS[name], value)
    assert parse(["--batch-size", "8", "--no-flip", "--output", "a"]) == {
        "batch_size": 8, "flip": False, "output": Path("a")}


def test_a_run_of_digits(run, colours, tmp_path):
    quick = ["--preset", "digits", "--epochs", "1", "--batch-size", "16", "--image-size", "12", "--device", "cpu"]
    status, out, err = run(quick=quick)
    assert (status, err) == (0, "") and "preset digits: " in out and "turn 12" in out
    model, info = load_model(tmp_path / "run")
    assert (info.settings["test_shifts"], info.settings["turn"], info.settings["flip"]) == (True, 12, False)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    photos = [photo for name in info.class_names for photo in sorted((colours / "test" / name).glob("*.png"))]
    right = sum(predictions.predict(model, photo, info).class_name == photo.parent.name for photo in photos)
    assert right == results["correct"]  # it is seen in five places there and here


def test_a_run_of_before_there_were_presets_goes_on(run, tmp_path):
    assert run("--epochs", "2", "--test-crops", "5", "--muon", "0")[0] == 0
    whole = load_model(tmp_path / "run")[0].state_dict()
    file = tmp_path / "run" / "settings.json"
    stored = json.loads(file.read_text())
    for name in ("preset", "flip", "test_shifts", "images_shown", "muon"):
        del stored[name]
    file.write_text(json.dumps(stored))
    (tmp_path / "run" / "last.pt").unlink()
    status, _, err = run("--resume", "--device", "cpu", data=None, quick=[])
    assert (status, err) == (0, "")
    again = load_model(tmp_path / "run")[0].state_dict()
    assert all(torch.equal(again[name], whole[name]) for name in whole)
    file.write_text(json.dumps({**stored, "wings": 2}))
    status, _, err = run("--resume", data=None, quick=[])
    assert status == 2 and "is a run of another version, with wings" in err and err.count("\n") == 1


@pytest.mark.parametrize("options, lr", [
    ({}, 2e-3), ({"model": "B/16"}, 2.5e-4), ({"hidden_size": 192}, 1e-3), ({"hidden_size": 24}, 2e-3),
    ({"model": "Q/16"}, 2e-3), ({"weights": "runs/mine"}, 5e-4), ({"lr": 0.1}, 0.1)], ids=str)
def test_the_learning_rate_falls_with_the_width(colours, options, lr):
    assert complete(options, data_setup.load(colours), torch.device("cpu")).lr == pytest.approx(lr)


@pytest.mark.parametrize("options, muon", [
    ({}, 0.02), ({"hidden_size": 129}, 0), ({"model": "B/16"}, 0), ({"weights": "runs/mine"}, 0), ({"shard": True}, 0),
    ({"muon": 0.0}, 0), ({"model": "B/16", "muon": 0.01}, 0.01)], ids=str)
def test_new_weights_of_small_models_are_trained_by_muon(monkeypatch, options, muon):
    monkeypatch.setattr(torch.optim, "Muon", object, raising=False)
    cpu = torch.device("cpu")
    assert complete(options, data_of(2000), cpu).muon == muon
    if "muon" not in options:
        monkeypatch.delattr(torch.optim, "Muon")  # as in PyTorch before 2.9
        assert complete(options, data_of(2000), cpu).muon == 0


def test_small_images_are_read_without_further_processes():
    cpu = torch.device("cpu")
    assert complete({}, data_of(20), cpu).num_workers == 0
    assert complete({"image_size": 96}, data_of(20), cpu).num_workers == min(os.cpu_count(), 8)


def test_wilson_interval():
    assert wilson_interval(50, 75) == pytest.approx((0.554, 0.763), abs=1e-3)  # by R: binom.confint(50, 75, "wilson")
    assert wilson_interval(0, 10) == pytest.approx((0, 0.278), abs=1e-3)


@pytest.mark.parametrize("options, words", [
    (["--data", ""], "--data is empty: give it a value, or leave it out"),
    (["--weights", ""], "--weights is empty"),
    (["--epochs", "0"], "epochs must be above 0"),
    (["--lr", "-1"], "lr must be above 0"),
    (["--stretch", "inf"], "stretch must be a finite number, not inf"),
    (["--seed", str(2**70)], "seed must be at least -9223372036854775808 and below 9223372036854775808"),
    (["--batch-size", "0"], "batch_size must be at least 1"),
    (["--model", "Q/16"], "unknown variant 'Q/16': choose one of Mini, Ti, S, B, L, H"),
    (["--model", "B/4"], "patch_size 8 contradicts the variant 'B/4'"),
    (["--patch-size", "5"], "patches of 5 px do not fit into 16 px: 15 or 20 px would do"),
    (["--patch-size", "32"], "patches of 32 px do not fit into 16 px: 32 px would do"),
    (["--heads", "5"], "num_heads (5) does not divide hidden_size (24)"),
    (["--pool", "max"], 'pool must be "token" or "mean"'),
    (["--hold-out", "1.5"], "hold_out must be above 0 and below 1"),
    (["--color-jitter", "2"], "color_jitter must be at least 0 and at most 1"),
    (["--stretch", "0.5"], "stretch must be at least 1"),
    (["--turn", "-1"], "turn must be at least 0"),
    (["--shear", "2"], "shear must be at least 0 and at most 1"),
    (["--zoom", "1.5"], "zoom must be at least 0 and at most 1"),
    (["--shift", "2"], "shift must be at least 0 and at most 1"),
    (["--gradient-accumulation", "0"], "gradient_accumulation must be at least 1"),
    (["--gradient-accumulation", "65"], "a batch of"),
    (["--preset", "huge"], "unknown preset 'huge': choose one of few, many, digits"),
    (["--images-shown", "9"], "--images-shown sets the epochs: leave out it or --epochs"),
    (["--test-crops", "3", "--test-shifts"], "--test-crops and --test-shifts exclude each other"),
    (["--shard"], "start them by torchrun"),
    (["--min-scale", "0"], "min_scale must be above 0 and at most 1"),
    (["--test-crops", "0"], "test_crops must be at least 1"),
    (["--trivial-augment", "-1"], "trivial_augment must be at least 0 and at most 1"),
    (["--num-workers", "-1"], "num_workers must be at least 0"),
    (["--repeats", "0"], "repeats must be at least 1"),
    (["--image-size", "0"], "--image-size must be at least 1 pixel high and wide, not 0"),
    (["--image-size", "16x0"], "--image-size must be at least 1 pixel high and wide, not 16x0"),
    (["--image-size", "16x20"], "patches of 8 px do not fit into 20 px: 16 or 24 px would do"),
    (["--device", "abacus"], "there is no device 'abacus' on this machine"),
    (["--data", "no_such_set"], "no_such_set"),
])
def test_bad_options_get_one_line(run, tmp_path, options, words):
    status, _, err = run("--epochs", "1", *options)
    assert status == 2 and err.startswith("error: ") and err.count("\n") == 1 and words in err, err
    assert [file.name for file in (tmp_path / "run").glob("*")] in ([], [".lock"])


def test_no_network_is_told(run, monkeypatch, tmp_path):
    monkeypatch.setenv("VIT_OFFLINE", "0")
    monkeypatch.setenv("VIT_DATA", str(tmp_path / "nothing"))
    monkeypatch.setattr(named, "PUBLIC_ADDRESS", "http://127.0.0.1:9")
    status, _, err = run("--epochs", "1", data="photos")
    assert status == 2 and err.count("\n") == 1 and "drawn" in err


def test_bad_images_are_named_or_left_out(run, colours, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(colours, folder)
    bad = folder / "train" / "red" / "bad.jpg"
    bad.write_bytes(b"")
    status, _, err = run("--epochs", "1", data=folder)
    assert status == 2 and str(bad) in err and "--skip-bad-images" in err and err.count("\n") == 1
    status, out, _ = run("--epochs", "1", "--skip-bad-images", data=folder, output=tmp_path / "other")
    assert status == 0 and "1 bad images left out" in out


def test_a_used_folder_is_not_overwritten_but_resumed(run, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        train_epoch = trainer.Trainer._train_epoch

        def interrupted(self, epoch):
            if epoch == 2:
                raise KeyboardInterrupt
            return train_epoch(self, epoch)

        patch.setattr(trainer.Trainer, "_train_epoch", interrupted)
        status, _, err = run("--epochs", "4")
    resume = f"python -m going_modular.train --output {folder} --resume"
    assert status == 130 and f"stopped; {folder / 'last.pt'} holds epoch 2; go on with: {resume}" in err

    before = (folder / "last.pt").read_bytes()
    status, _, err = run("--epochs", "4")
    assert status == 2 and "is not empty: go on with its run by --resume" in err
    assert (folder / "last.pt").read_bytes() == before

    status, _, err = run("--resume", "--lr", "0.5", data=None, quick=[])
    assert status == 2 and "--lr 0.5 contradicts the run" in err and "0.003" in err
    status, out, err = run("--resume", "--device", "cpu", data=None, quick=[])
    assert (status, err) == (0, "") and "epoch   3/4" in out and "epoch   2/4" not in out

    assert run("--epochs", "4", output=tmp_path / "whole")[0] == 0
    ours, whole = load_model(folder)[0].state_dict(), load_model(tmp_path / "whole")[0].state_dict()
    assert all(torch.equal(ours[name], whole[name]) for name in whole)


def test_a_refused_folder_keeps_its_files(run, tmp_path):
    folder, kept = tmp_path / "mine", {".notes.tmp": "precious", ".lock": "x", "thesis.txt": "x"}
    folder.mkdir()
    for name, text in kept.items():
        (folder / name).write_text(text)
    status, _, err = run("--epochs", "1", output=folder)
    assert status == 2 and "is not empty" in err
    assert {file.name: file.read_text() for file in folder.iterdir()} == kept


def test_a_run_that_was_killed_while_it_wrote_leaves_nothing_half_written(run, tmp_path):
    assert run("--epochs", "1")[0] == 0
    half = tmp_path / "run" / ".last.pt.12.tmp"
    half.write_bytes(b"half")
    assert run("--resume", "--device", "cpu", data=None, quick=[])[0] == 0 and not half.exists()


def test_the_words_that_start_a_run_again_have_the_options_of_this_call():
    given = {"gradient_accumulation": 2, "checkpointing": True, "device": "cpu", "lr": 0.1, "output": Path("a b")}
    assert command_to_resume(given, Path("a b")) == (
        "python -m going_modular.train --output 'a b' --resume --gradient-accumulation 2 --checkpointing --device cpu")


def test_a_run_that_diverges_is_not_told_to_go_on(run, tmp_path):
    status, _, err = run("--epochs", "3", "--batch-size", "64", "--lr", "1e38", "--warmup", "0")
    assert status == 2 and "in epoch" in err and "try a lower --lr" in err and "--resume" not in err
    assert not (tmp_path / "run" / "last.pt").exists() or all(
        parameter.isfinite().all() for parameter in load_model(tmp_path / "run")[0].parameters())


def test_a_run_knows_its_folder_of_data_from_anywhere(run, colours, tmp_path, monkeypatch):
    monkeypatch.chdir(colours.parent)
    assert run("--epochs", "1", data="colours")[0] == 0
    monkeypatch.chdir(tmp_path)
    assert run("--resume", "--device", "cpu", data=None, quick=[])[0] == 0
    monkeypatch.chdir(colours)
    assert run("--resume", "--device", "cpu", data=".", quick=[])[0] == 0


def test_class_names_may_hold_anything(run, colours, tmp_path):
    folder = tmp_path / "prices"
    shutil.copytree(colours, folder)
    for part in ("train", "test"):
        (folder / part / "red").rename(folder / part / "under$5_and_$10")
        (folder / part / "blue").rename(os.fsdecode(os.fsencode(folder / part) + b"/caf\xe9"))
    status, _, err = run("--epochs", "1", data=folder)
    assert (status, err) == (0, "") and (tmp_path / "run" / "predictions.png").is_file()


@pytest.mark.parametrize("change", [{"class_names": 7}, {"settings": []}, {"epoch": None}, {"class_names": [1, 2, 3]}])
def test_a_checkpoint_with_other_kinds_of_values_is_refused(run, tmp_path, change):
    assert run("--epochs", "1")[0] == 0
    file = tmp_path / "run" / "last.pt"
    torch.save({**torch.load(file), **change}, file)
    with pytest.raises(CheckpointError, match="is not a checkpoint of this package"):
        load_model(file)


def test_resume_without_a_run(run, tmp_path, capsys):
    status, _, err = run("--resume", data=None, quick=[])
    assert status == 2 and "there is no run to go on with" in err
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "settings.json").write_text("[]")
    status, _, err = run("--resume", data=None, quick=[])
    assert status == 2 and "there is no run to go on with" in err and err.count("\n") == 1
    assert main(["--resume"]) == 2
    assert "--resume needs the folder of the run: --output FOLDER" in capsys.readouterr().err


def test_resume_from_a_damaged_checkpoint(run, tmp_path):
    assert run("--epochs", "1")[0] == 0
    last = tmp_path / "run" / "last.pt"
    last.write_bytes(last.read_bytes()[:1000])
    status, _, err = run("--resume", data=None, quick=[])
    assert status == 2 and str(last) in err and "cut short" in err and err.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_told(run, colours, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("a file")  # as root may write anywhere, permissions do not stop these tests
    assert main(["--data", str(colours), "--epochs", "1", *QUICK]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: the folder of the run, runs/colours-Mini-") and err.count("\n") == 1
    assert "can't be written (" in err and err.endswith("): use another --output\n")


def test_a_file_system_without_locks_is_told(run, monkeypatch):
    def lockf(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", lockf)
    status, out, err = run("--epochs", "1")
    assert (status, err) == (0, "") and "has no locks (No locks available): take care that no other training" in out


def test_a_second_training_in_the_same_folder_is_refused(run, tmp_path):
    folder = tmp_path / "run"
    hold = ("import os, sys, time; from pathlib import Path; from going_modular.train import locked\n"
            "with locked(Path(sys.argv[1])):\n"
            "    if os.fork():\n        print('held', flush=True)\n        time.sleep(60)\n"
            "    time.sleep(20)  # as a loader's worker that has not noticed yet that its trainer was killed")
    process = subprocess.Popen([sys.executable, "-c", hold, folder], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                               start_new_session=True)
    try:
        assert process.stdout.readline() == "held\n"
        status, _, err = run("--epochs", "1")
        assert status == 2 and "another training is writing to" in err
        process.kill()
        process.wait()
        assert run("--epochs", "1")[0] == 0  # the lock is free again
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def test_a_full_disk_is_told(run, monkeypatch):
    save, calls = torch.save, []

    def full(value, file):
        calls.append(1)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(value, file)

    monkeypatch.setattr(torch, "save", full)
    status, _, err = run("--epochs", "3", "--ema", "0.5")
    assert status == 2 and "No space left on device" in err and "make room" in err and "last.pt holds epoch" in err
    assert err.count("\n") == 1


def test_a_console_that_knows_few_letters_and_readers_that_go_away_cost_nothing(colours, tmp_path, monkeypatch):
    """As `python -m going_modular.train 2>&1 >log.txt | head` on Windows: cp1252 lacks these letters."""
    shutil.copytree(colours, tmp_path / "寿司")
    log = io.BytesIO()
    reader, writer = os.pipe()
    os.close(reader)
    with io.TextIOWrapper(log, encoding="cp1252") as console, open(writer, "w", buffering=1) as pipe:
        monkeypatch.setattr(sys, "stdout", console)
        monkeypatch.setattr(sys, "stderr", pipe)
        options = ["--data", str(tmp_path / "寿司"), "--output", str(tmp_path / "run"), *QUICK]
        assert main([*options, "--epochs", "1"]) == 0 and main(options) == 2  # whose message nobody reads
        assert b"data: " in log.getvalue() and b"??: 36 training and 12 test images" in log.getvalue()
    assert (tmp_path / "run" / "results.json").is_file()


def test_a_step_that_takes_minutes_is_told_before_it_begins(run, monkeypatch):
    monkeypatch.setattr(train, "seconds_of_a_step", lambda model, batch_size, device, dtype: 30.0 * batch_size)
    said = "a step takes about 4 minutes here"
    status, out, _ = run("--epochs", "1")
    assert status == 0 and said in out and out.index(said) < out.index("epoch   1/1")
    assert "a step takes" not in run("--resume", data=None, quick=["--batch-size", "2"])[1]


def test_the_time_of_a_step_follows_the_speed_of_the_device(monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: 0.1 * next(ticks))  # 512^3 multiply-adds take 0.1 s
    model = ViT.from_variant("Mini/8", image_size=64)
    assert train.seconds_of_a_step(model, 20, torch.device("cpu"), torch.float32) == pytest.approx(
        60 * count_macs(model) / 512**3 * 0.1)


def test_a_second_signal_ends_at_once_but_not_one_that_was_sent_twice(monkeypatch, capsys):
    now, looks, stops, ended = [0.0], [], [], threading.Event()
    monkeypatch.setattr("time.monotonic", lambda: (now[0], looks.append(1))[0])
    monkeypatch.setattr(os, "_exit", lambda status: (print(f"status {status} at {now[0]}"), ended.set()))
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with train.stopping_on_signals(SimpleNamespace(stop_soon=lambda *_: stops.append(1)), lambda: "last words"):
        for at in (10, 10.9, 11.1):  # the first two from torchrun and a scheduler
            now[0], seen = at, len(looks)
            os.kill(os.getpid(), signal.SIGTERM)
            while len(looks) == seen:
                time.sleep(0.001)
        assert ended.wait(5)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    out, err = capsys.readouterr()
    assert out == "status 130 at 11.1\n" and len(stops) == 3
    assert err == "stopping after the step under way; a second signal ends at once\nerror: last words\n"


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_real_process_which_saves_first(colours, tmp_path, number, workers):
    """The signal goes to the whole group of processes, workers too, as from a terminal, timeout, or systemd."""
    output = tmp_path / "run"
    command = [sys.executable, "-m", "going_modular.train", "--data", colours, "--output", output, "--epochs", "2000"]
    process = subprocess.Popen(
        [*command, *QUICK, "--num-workers", workers], cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, env=os.environ,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # which a shell in the background ignores
    try:
        deadline = time.monotonic() + 60
        while not (output / "best.pt").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        os.killpg(process.pid, number)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and "Traceback" not in err
    assert re.search(r"last\.pt holds epoch \d+( and \d steps of the next)?; go on with: .* --resume", err)
    assert load_model(output)[1].epoch >= 1
