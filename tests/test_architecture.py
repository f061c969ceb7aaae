"""The small trainings of notebook 11, and the results that are kept of them."""
import json
import math
import statistics

import pytest
import torch

from going_modular import data_setup
from going_modular.experiments import architecture
from going_modular.experiments.architecture import Images
from going_modular.trainer import Trainer
from going_modular.vit import ViT, count_macs


@pytest.fixture
def bars():
    """A data set that is learned in a second: a bright bar lies in the upper or in the lower half."""
    labels = torch.arange(240) % 2
    images = 0.3 * torch.randn(240, 1, 8, 8)
    for image, label in zip(images, labels):
        row = int(torch.randint(4, ())) + 4 * int(label)  # the same in both patches
        image[:, row] += 2
    return Images(images[:200], labels[:200], images[200:], labels[200:])


@pytest.fixture
def small(monkeypatch):
    base = dict(image_size=8, in_channels=1, patch_size=4, num_layers=2, hidden_size=16, mlp_size=32, num_heads=2)
    monkeypatch.setitem(architecture.SETUPS, "bars", dict(
        train_images=200, epochs=10, batch_size=20, lr=1e-2, shift=0, flip=False, base=base, lrs=(1e-3, 4e-3),
        scaling=dict(num_layers=(1,), hidden_size=(32,), patch_size=(2,))))
    return "bars"


def test_positions_decide_where_only_the_place_differs(bars, small):
    accuracies = {kind: architecture.run(small, {"positions": kind}, 0, bars)["test_acc"]
                  for kind in ("none", "1-D", "2-D")}
    assert min(accuracies["1-D"], accuracies["2-D"]) > 0.9 > 0.75 > accuracies["none"]


def test_a_seed_is_a_run(bars, small):
    runs = [architecture.run(small, {"pool": "mean"}, seed, bars) for seed in (3, 3, 4)]
    losses = [run["test_loss"] for run in runs]
    assert losses[0] == losses[1] != losses[2]
    assert runs[0]["macs"] == count_macs(ViT(**{**architecture.SETUPS[small]["base"], "num_classes": 2}, pool="mean"))


def test_measure_keeps_every_seed(bars, small, monkeypatch, capsys):
    monkeypatch.setitem(architecture.SETUPS, small, {**architecture.SETUPS[small], "epochs": 1})
    monkeypatch.setitem(architecture.SEEDS, "scaling", 2)
    results = architecture.measure(small, "scaling", bars)
    assert list(results) == ["base", "num_layers 1", "hidden_size 32", "patch_size 2"]
    second = architecture.run(small, {"num_layers": 1}, 1, bars)
    kept = {column: values[1] for column, values in results["num_layers 1"].items() if isinstance(values, list)}
    assert kept == {column: round(second[column], 4) for column in ("test_acc", "test_loss", "train_acc")}
    assert results["num_layers 1"]["macs"] == second["macs"] and capsys.readouterr().out.count("\n") == 4


def test_what_is_finished_is_not_trained_again(bars, small, monkeypatch, tmp_path):
    monkeypatch.setitem(architecture.SETUPS, small, {**architecture.SETUPS[small], "epochs": 1})
    monkeypatch.setitem(architecture.SEEDS, "pooling", 2)
    run, trained = architecture.run, []

    def run_until_cut_off(name, changes, seed, *rest):
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append((changes["pool"], changes["lr"], seed))
        return run(name, changes, seed, *rest)

    monkeypatch.setattr(architecture, "run", run_until_cut_off)
    with pytest.raises(KeyboardInterrupt):
        architecture.measure(small, "pooling", bars, folder=tmp_path)
    before = list(trained)
    trained.clear()
    monkeypatch.setattr(architecture, "run", lambda name, changes, seed, *rest: (
        trained.append((changes["pool"], changes["lr"], seed)) or run(name, changes, seed, *rest)))
    results = architecture.measure(small, "pooling", bars, folder=tmp_path)
    assert len(before) == 3 and len({*before, *trained}) == 8 == len(before) + len(trained)
    whole = architecture.measure(small, "pooling", bars)
    for row in whole.values():
        del row["seconds"]
    assert {row: {name: values[name] for name in whole[row]} for row, values in results.items()} == whole


def test_a_training_that_was_cut_off_goes_on_after_its_last_epoch(bars, small, monkeypatch, tmp_path):
    monkeypatch.setitem(architecture.SETUPS, small, {**architecture.SETUPS[small], "epochs": 3, "lrs": (1e-3,)})
    monkeypatch.setitem(architecture.SEEDS, "pooling", 1)
    train_epoch, trained = Trainer._train_epoch, []

    def until_cut_off(self, epoch):
        trained.append(epoch)
        if len(trained) == 6:  # in the last epoch of the second training
            raise KeyboardInterrupt
        return train_epoch(self, epoch)

    monkeypatch.setattr(Trainer, "_train_epoch", until_cut_off)
    with pytest.raises(KeyboardInterrupt):
        architecture.measure(small, "pooling", bars, folder=tmp_path)
    results = architecture.measure(small, "pooling", bars, folder=tmp_path)
    assert trained == [0, 1, 2, 0, 1, 2, 2] and [file.suffix for file in tmp_path.iterdir()] == [".json"]
    whole = architecture.measure(small, "pooling", bars)
    for found in (*whole.values(), *results.values()):
        del found["seconds"]
    assert results == whole


def test_each_row_changes_what_it_says(small):
    rows = architecture.rows(small)
    assert list(rows["positions"]) == ["none", "1-D", "2-D", "relative"]
    assert rows["pooling"]["mean 0.001"] == {"pool": "mean", "lr": 1e-3} and len(rows["pooling"]) == 4
    base = architecture.build(small, rows["scaling"]["base"], 2).settings
    for row, changes in rows["scaling"].items():
        settings = architecture.build(small, changes, 2).settings
        changed = {name for name in settings if settings[name] != base[name]}
        assert changed - {"num_heads"} == set(changes) and len(changes) == (row != "base")
        assert settings["hidden_size"] / settings["num_heads"] == base["hidden_size"] / base["num_heads"]


@pytest.mark.parametrize("kind", architecture.POSITION_VARIANTS)
def test_positions_start_as_large_as_asked(small, kind):
    def parameters(changes):
        torch.manual_seed(0)
        return dict(architecture.build(small, {"positions": kind, **changes}, 2).named_parameters())

    usual, large = parameters({}), parameters({"position_scale": 20})
    changed = {name for name in usual if not torch.equal(usual[name], large[name])}
    assert all(torch.allclose(large[name], 20 * usual[name]) for name in changed)
    assert {name.split(".")[-1] for name in changed} == {
        "none": set(), "1-D": {"position_embedding"}, "2-D": {"original0", "original1", "original2"},
        "relative": {"relative_keys"}}[kind]


def test_figure_8_is_made_from_two_starts(small):
    rows = architecture.rows(small)
    assert rows["scaling_large_start"] == {
        row: {**changes, "position_scale": 20} for row, changes in rows["scaling"].items()}


def test_batches_are_the_images_moved(bars, small):
    def loader(**changes):
        setup = {**architecture.SETUPS[small], **changes}
        return architecture.Batches(bars.train, bars.train_labels, setup["batch_size"], setup)

    seen = list(loader(shift=2))
    assert [len(images) for images, _ in seen] == [20] * 10 and sum(labels.sum() for _, labels in seen) == 100
    still = next(iter(loader(shift=0)))[0]
    assert all((bars.train == image).flatten(1).all(1).any() for image in still)
    mirrored = [next(iter(loader(shift=0, flip=True)))[0] for _ in range(20)]
    as_is = [(bars.train == images[0]).flatten(1).all(1).any().item() for images in mirrored]
    assert 0 < sum(as_is) < 20
    inside = seen[0][0][0, 0, 2:6, 2:6]  # the middle of a moved image is somewhere in one of the images
    windows = bars.train.unfold(2, 4, 1).unfold(3, 4, 1)
    assert (windows == inside).all(-1).all(-1).any()


def test_load_takes_the_same_images_each_time(colours, monkeypatch):
    size = dict(train_images=30, base=dict(image_size=16, in_channels=1))
    monkeypatch.setitem(architecture.SETUPS, str(colours), size)
    first, second = architecture.load(str(colours)), architecture.load(str(colours))
    assert first.train.shape == (30, 1, 16, 16) and first.test.shape == (12, 1, 16, 16)
    assert all(torch.equal(a, b) for a, b in zip(first, second)) and first.train_labels.bincount().min() > 5
    data = data_setup.load(colours)
    assert first.test_labels.tolist() == data_setup.labels(data.test)


def test_the_log_has_all_rows_with_the_settings_of_today():
    for name, cached in architecture.cached().items():
        assert cached["size"] == json.loads(json.dumps(architecture.SETUPS[name])), "measured with other settings"
        for experiment, rows in architecture.rows(name).items():
            assert list(cached["results"][experiment]) == list(rows)
            for row, changes in rows.items():
                values = cached["results"][experiment][row]
                assert len(values["test_acc"]) == len(values["train_acc"]) == cached["seeds"][experiment]
                assert values["macs"] == count_macs(architecture.build(name, changes, 10 if "digits" in name else 100))


def test_the_cached_results_say_what_notebook_11_says():
    results = architecture.cached()["drawn_digits"]["results"]
    mean = {experiment: {row: statistics.mean(values["test_acc"]) for row, values in rows.items()}
            for experiment, rows in results.items()}
    spread = {experiment: {row: statistics.stdev(values["test_acc"]) for row, values in rows.items()}
              for experiment, rows in results.items()}
    slow, fast = mean["positions"], mean["positions_faster"]
    assert [round(slow[kind], 2) for kind in ("none", "1-D", "2-D", "relative")] == [0.84, 0.93, 0.91, 0.93]
    assert [round(fast[kind], 2) for kind in ("none", "1-D", "2-D", "relative")] == [0.85, 0.95, 0.94, 0.95]
    lead = slow["1-D"] - slow["2-D"]
    assert 3.5 < lead / math.hypot(spread["positions"]["1-D"], spread["positions"]["2-D"]) * 5 ** 0.5 < 4.5
    assert fast["1-D"] > max(fast["2-D"], fast["relative"]) and min(fast[kind] - slow[kind] for kind in slow) > 0.01
    pooling = mean["pooling"]
    assert (round(pooling["token 0.008"], 3), round(pooling["mean 0.008"], 3)) == (0.958, 0.947)
    for pool in ("token", "mean"):  # the training accuracy chooses this rate
        training = {lr: statistics.mean(results["pooling"][f"{pool} {lr}"]["train_acc"])
                    for lr in (0.0005, 0.002, 0.008, 0.03)}
        assert max(training, key=training.get) == 0.008
    assert round(pooling["token 0.002"] - pooling["mean 0.002"], 2) == 0.05
    assert round(pooling["mean 0.03"] - pooling["token 0.03"], 2) == 0.13
    usual, large = mean["scaling"], mean["scaling_large_start"]
    assert (round(usual["hidden_size 16"], 2), round(usual["hidden_size 128"], 2)) == (0.76, 0.98)
    assert (round(usual["patch_size 14"], 2), round(usual["patch_size 4"], 2)) == (0.99, 0.81)
    for row in ("num_layers 4", "num_layers 8", "mlp_size 256", "mlp_size 1024"):
        assert usual[row] < usual["base"] + 0.005
    assert large["base"] < min(large["num_layers 4"], large["num_layers 8"])
    gains = {row: large[row] - usual[row] for row in usual}
    assert min(gains, key=gains.get) == "patch_size 14" and 0 < gains["patch_size 14"] < 0.005
    assert round(gains["patch_size 4"], 2) == 0.13 and round(gains["num_layers 8"], 2) == 0.07
    macs = {row: values["macs"] / results["scaling"]["base"]["macs"] for row, values in results["scaling"].items()}
    assert 0.3 < macs["patch_size 14"] < 0.36 and 3 < macs["patch_size 4"] < 3.6
    for experiment in results:
        for row, values in results[experiment].items():
            assert statistics.mean(values["train_acc"]) < mean[experiment][row], (experiment, row)
