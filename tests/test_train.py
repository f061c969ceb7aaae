"""The command, as a person uses it: what it writes, what it says, and what it answers to bad input."""
import csv
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from going_modular import data_setup, distributed, predictions, trainer
from going_modular.train import DEFAULTS, OPTIONS, command_to_resume, complete, from_outside, main, wilson_interval
from going_modular.utils import CheckpointError, load_model

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
               "--min-scale", "0.5", "--parts", "2", "--checkpointing"]
    status, _, err = run(*options, quick=[*QUICK[:2], *QUICK[4:]])
    assert (status, err) == (0, "")
    checkpoint = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert checkpoint["architecture"] == {
        "image_size": 16, "patch_size": 4, "in_channels": 3, "num_classes": 3, "num_layers": 2, "hidden_size": 24,
        "mlp_size": 48, "num_heads": 2, "dropout": 0.2, "drop_path": 0.3, "pool": "mean", "gelu": "erf",
        "layer_norm_eps": 1e-6, "representation_size": None}
    assert checkpoint["recipe"] == {
        "epochs": 1, "lr": 3e-3, "weight_decay": 0.2, "beta2": 0.9, "warmup": 0.5, "clip_norm": 2.0,
        "label_smoothing": 0.2, "mixup": 0.4, "ema": 0.8, "seed": 9, "compile": False,
        "checkpointing": True, "shard": False}
    group = checkpoint["training"]["optimizer"]["param_groups"][0]
    assert group["weight_decay"] == 0.2 and group["betas"] == (0.9, 0.9)


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
                 "--repeats", "2", "--seed", "4", "--parts", "2"]) == 0
    rest = {"num_workers": 0, "device": torch.device("cpu")}
    assert seen == {"size": 16, "min_scale": 0.6, "color_jitter": 0.1, "trivial_augment": 0.3, "stretch": 1.2,
                    "turn": 3, "shear": 0.1, "zoom": 0.2, "shift": 0.3, "loaders": [
        (27, 7, {"shuffle": True, "seed": 4, "repeats": 2, "parts": 2, **rest}), (9, 3, rest), (12, 3, rest)]}


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
    for options in OPTIONS.values():
        for name, _, default, _ in options:
            assert f"--{name}" in text
            assert default in (None, False) or f"(default: {default})" in " ".join(text.split()), name
    assert "TEST" not in text and set(DEFAULTS) >= {"data", "model", "resume"}


def test_the_defaults_follow_data_and_device(run, colours, tmp_path):
    quick = ["--epochs", "1", "--batch-size", "16"]
    assert run(quick=quick)[0] == 0
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    on_cpu = not (torch.cuda.is_available() or torch.backends.mps.is_available())
    if on_cpu:
        assert (settings["model"], settings["image_size"], settings["patch_size"]) == ("Mini", 64, 8)


def test_digits_are_tested_as_they_are_or_in_five_views(run, tmp_path):
    few = tmp_path / "mnist"  # a folder by this name holds digits
    for part in ("train", "test"):
        for label in "01":
            (few / part / label).mkdir(parents=True)
            for i in range(4):
                Image.new("L", (12, 12), 40 * i).save(few / part / label / f"{i}.png")
    quick = ["--data", str(few), "--epochs", "1", "--batch-size", "4", "--image-size", "12", "--device", "cpu"]
    status, _, err = run("--test-crops", "3", quick=quick)
    assert status == 2 and err == "error: test_crops must be 1 or 5 for digits, not 3\n"
    assert run(quick=quick)[0] == 0
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert (settings["test_crops"], settings["turn"], settings["shear"]) == (5, 12, 0.15)


@pytest.mark.parametrize("options, lr", [
    ({}, 2e-3), ({"model": "B/16"}, 2.5e-4), ({"hidden_size": 192}, 1e-3), ({"hidden_size": 24}, 2e-3),
    ({"model": "Q/16"}, 2e-3), ({"weights": "runs/mine"}, 5e-4), ({"lr": 0.1}, 0.1)], ids=str)
def test_the_learning_rate_falls_with_the_width(colours, options, lr):
    settings = complete({**DEFAULTS, **options}, data_setup.load(colours), torch.device("cpu"))
    assert settings["lr"] == pytest.approx(lr)


def test_wilson_interval():
    assert wilson_interval(50, 75) == pytest.approx((0.554, 0.763), abs=1e-3)  # by R: binom.confint(50, 75, "wilson")
    assert wilson_interval(0, 10) == pytest.approx((0, 0.278), abs=1e-3)


@pytest.mark.parametrize("options, words", [
    (["--epochs", "0"], "epochs must be above 0"),
    (["--lr", "-1"], "lr must be above 0"),
    (["--stretch", "inf"], "stretch must be a finite number, not inf"),
    (["--seed", str(2**70)], "seed must be a number of 64 bits"),
    (["--batch-size", "0"], "batch_size must be at least 1"),
    (["--model", "Q/16"], "unknown variant 'Q/16': choose one of Mini, Ti, S, B, L, H"),
    (["--model", "B/4"], "patch_size 8 contradicts the variant 'B/4'"),
    (["--patch-size", "5"], "patch_size (5) does not divide image_size (16)"),
    (["--heads", "5"], "num_heads (5) does not divide hidden_size (24)"),
    (["--pool", "max"], 'pool must be "token" or "mean"'),
    (["--hold-out", "1.5"], "hold_out must be above 0 and below 1"),
    (["--color-jitter", "2"], "color_jitter must be at least 0 and at most 1"),
    (["--stretch", "0.5"], "stretch must be at least 1"),
    (["--turn", "-1"], "turn must be at least 0"),
    (["--shear", "2"], "shear must be at least 0 and at most 1"),
    (["--zoom", "1.5"], "zoom must be at least 0 and at most 1"),
    (["--shift", "2"], "shift must be at least 0 and at most 1"),
    (["--parts", "0"], "parts must be at least 1"),
    (["--parts", "65"], "a batch of"),
    (["--shard"], "start them by torchrun"),
    (["--min-scale", "0"], "min_scale must be above 0 and at most 1"),
    (["--test-crops", "0"], "test_crops must be at least 1"),
    (["--trivial-augment", "-1"], "trivial_augment must be at least 0 and at most 1"),
    (["--num-workers", "-1"], "num_workers must be at least 0"),
    (["--repeats", "0"], "repeats must be at least 1"),
    (["--image-size", "0"], "image_size must be at least 1"),
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
    monkeypatch.setattr(data_setup, "PUBLIC_ADDRESS", "http://127.0.0.1:9")
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
        step, calls = trainer.engine.train_step, []

        def interrupted(*args):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return step(*args)

        patch.setattr(trainer.engine, "train_step", interrupted)
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
    settings = {**DEFAULTS, "parts": 2, "checkpointing": True, "device": "cpu", "lr": 0.1, "output": Path("a b")}
    assert command_to_resume(settings, Path("a b")) == (
        "python -m going_modular.train --output 'a b' --resume --parts 2 --checkpointing --device cpu")


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
