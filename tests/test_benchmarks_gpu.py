"""The command for a GPU, as far as it can be tried without one: on the fake GPU, and its processes on the CPU."""
import argparse
import importlib
import json
import math

import pytest
import torch
from fake_gpu import CARDS
from test_train import QUICK, data_of

from benchmarks import gpu as owed
from benchmarks import growth, step_time
from going_modular import config, train
from going_modular.predictions import views_of
from going_modular.vit import ViT, count_macs

CUDA = torch.device("cuda")
both_cards = pytest.mark.parametrize("gpu", CARDS, indirect=True)


@pytest.fixture(autouse=True)
def logs(tmp_path, monkeypatch):
    monkeypatch.setattr(owed, "LOGS", tmp_path / "gpu")
    return tmp_path / "gpu"


class Parsed(Exception):
    """What a script's parser made of a command line."""


@pytest.mark.parametrize("part", owed.all_parts(["tf32", "float16"], 20.0), ids=lambda part: part.name)
def test_each_command_line_fits_the_parser_of_its_script(part, monkeypatch):
    module, *options = part.arguments
    parse_args = argparse.ArgumentParser.parse_args

    def stop(parser, *_):
        raise Parsed(parse_args(parser, options))  # exits where it does not fit

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    with pytest.raises(Parsed) as parsed:
        importlib.import_module(module).main()
    if module == "going_modular.train":
        config.check(vars(parsed.value.args[0]))


def test_a_smoke_run_has_fifty_steps():
    batch_size = int(owed.FIFTY_STEPS[owed.FIFTY_STEPS.index("--batch-size") + 1])
    assert math.ceil(0.9 * 2400 / batch_size) == 50  # of 2,400 drawings one in ten is held out


@both_cards
@pytest.mark.parametrize("name", owed.BRANCHES)
def test_each_branch_on_the_fake_gpu(gpu, colours, logs, name):
    tiny = ["--data", str(colours), *QUICK, "--device", "cuda", "--model", "Mini"]
    _, *options = owed.smoke_part(name, [*tiny, *owed.BRANCHES[name]]).arguments
    assert train.main(options) == 0
    folder = logs / f"smoke_{name}"
    assert json.loads((folder / "results.json").read_text())["epochs"] == 1
    assert gpu.multiply_adds > 0


def on_cpu(part, colours):
    """A part of the command, small and on the CPU: an option that comes last replaces the one before."""
    return owed.Part(part.name, [*part.arguments, "--data", str(colours), *QUICK], part.resumed)


def test_a_run_is_stopped_and_goes_on(colours, logs):
    part = on_cpu(owed.smoke_part("resume", ["--epochs", "80"], resumed=True), colours)
    assert owed.run(part, minutes=5.0) == ""
    log = (logs / "smoke_resume.log").read_text()
    assert "stopped" in log and "epoch  80/80" in log and log.count("epoch   1/80") == 1
    assert [file.name for file in logs.iterdir()] == ["smoke_resume.log"]


def test_a_part_that_fails_or_takes_too_long_leaves_its_output(colours, logs):
    part = on_cpu(owed.smoke_part("wrong", ["--precision", "fp8"]), colours)
    assert owed.run(part, minutes=1.0) == "exit status 2, not 0"
    assert "precision must be" in (logs / "smoke_wrong.failed").read_text()
    part = on_cpu(owed.smoke_part("long", ["--epochs", "100000"]), colours)
    assert owed.run(part, minutes=0.0) == "no time left"
    assert {file.name for file in logs.iterdir()} == {"smoke_wrong.failed", "smoke_long.failed"}


@both_cards
def test_what_has_a_log_is_left_out(gpu, logs, monkeypatch, capsys):
    done = []

    def run(part, minutes):
        done.append(part.name)
        return "exit status 1, not 0" if part.name == "smoke_bf16" else ""

    monkeypatch.setattr(owed, "run", run)
    assert owed.main(["--smoke-only"]) == 1 and len(done) == len(owed.BRANCHES) + 1
    assert capsys.readouterr().out.endswith("failed: smoke_bf16\n")
    logs.mkdir()
    for name in done:
        (logs / f"{name}.log").touch()
    done.clear()
    assert owed.main(["--smoke-only"]) == 0 == owed.main([])
    assert done == ["step_time", "growth", "main_job", "cifar100"]
    assert owed.main(["--again", "--smoke-only"]) == 1 and len(done) == 4 + len(owed.BRANCHES) + 1


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(owed, "pick_device", lambda: torch.device("cpu"))
    assert owed.main([]) == 2
    assert capsys.readouterr().err.startswith("error: there is no NVIDIA GPU here that computes")


@both_cards
def test_step_times_on_the_fake_gpu(gpu, monkeypatch):
    t4 = gpu.card.name == "Tesla T4"
    assert step_time.batch_size_on(CUDA, "B/16") == (32 if t4 else 256)
    assert step_time.batch_size_on(torch.device("cpu"), "B/16") == 4
    assert step_time.peak_of(CUDA, "float16") == (65e12 if t4 else 989e12)
    assert step_time.peak_of(CUDA, "tf32") == (None if t4 else 494e12)
    assert step_time.peak_of(torch.device("cpu"), "float32") is None
    monkeypatch.setattr(step_time, "LIBRARIES", {"torchvision": step_time.of_torchvision})
    monkeypatch.setitem(step_time.SIZES, "Mini/8", (16, 2))
    before = torch.get_float32_matmul_precision()
    for dtype in ("float32", "float16") if t4 else ("tf32", "bfloat16"):
        row = step_time.measure("Mini/8", 2, dtype, compiled=True, repeats=1, device=CUDA)
        assert row["forward_backward"]["utilisation"] is not None and row["dtype"] == dtype
    torch.set_float32_matmul_precision(before)


def test_growth_on_the_fake_gpu(gpu):
    row = growth.measure(growth.build(16, 32, 1), 2, CUDA, repeats=1, accumulation=2)
    assert row["kept_bytes"] > 0 and gpu.multiply_adds > 0


def test_the_main_job_fits_into_a_break_on_a_t4():
    """An estimate, no measurement: at 20e12 operations a second, of the 65e12 that a T4 can do at most in float16."""
    data = data_of(225)  # the photos of pizza, steak and sushi
    options = config.complete({}, data, CUDA)
    with torch.device("meta"):
        model = train.build_model(options, num_classes=3)
    assert isinstance(model, ViT) and (options.model, options.image_size, options.preset) == ("B/16", 224, "few")
    shown = options.epochs * options.repeats * len(data.train)
    assert shown == 45_000
    # Training takes three forward passes, of two operations for a multiply-add; a test image is seen in several views.
    views = len(views_of(options.of_the_run())(torch.zeros(1, 3, 8, 8)))
    tested = (options.epochs + 1) * 75 + options.epochs * round(options.hold_out * len(data.train))
    minutes = 2 * count_macs(model) * (3 * shown + views * tested) / 20e12 / 60
    assert 3 < minutes < 8
