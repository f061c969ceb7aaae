"""Notebooks 08 to 13 take their GPU branches, on a fake GPU: nothing in them fails there, and they fit into a T4.

The code cells of a notebook are executed in order in one namespace, without the cell that installs the package. After
the settings cell the values of SMALL take the place of some that it has set, so that a training takes seconds; the data
sets are drawn ones of a few images. What a training of such a size does not reach is not asked of it: the asserts of
the cells in UNTRAINED may fail. What the real sizes cost is computed from them, in the last part.
"""
import builtins
import contextlib
import dataclasses
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
import torch
from fake_gpu import CARDS

from going_modular import config, data_setup, drawn, train, weights
from going_modular.experiments import architecture, data_scale
from going_modular.recipe import warmup_cosine
from going_modular.trainer import Trainer
from going_modular.vit import ViT, count_macs, count_parameters
from going_modular.weights.preprocessing import Preprocessing

# Matplotlib asks tensors for arrays in NumPy's new way, which PyTorch does not know yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

CUDA = torch.device("cuda")
FOLDER = Path(__file__).parent.parent / "notebooks"
FEW = {"drawn": (80, 20), "drawn10": (4, 2), "drawn_digits": (30, 20), "drawn_things": (5, 1)}  # of each class
TINY = dict(num_layers=2, hidden_size=24, mlp_size=48, num_heads=3)

t4 = pytest.mark.parametrize("gpu", ["T4"], indirect=True)

# What the settings cell has set -> its value here.
SMALL = {
    "08_train_on_mnist": dict(epochs=1, batch_size=64, sizes=dict(patch_size=7, **TINY)),
    "09_train_on_cifar100": dict(epochs=7, num_workers=0, architecture=dict(image_size=32, patch_size=16, **TINY)),
    "10_look_inside": {},
    "11_ablations": {},
    "12_pretrain_and_finetune": dict(again=dict(count=10, samples=3500), epochs=1, repeats=1, masked_epochs=1),
    "13_train_on_food": dict(
        seeds=(0, 1), sizes=dict(model="Mini", image_size=16, hidden_size=24, heads=3, mlp_size=48, layers=2),
        recipe=dict(epochs=2, repeats=1, test_crops=1), fine_epochs=1),
}
# The cells whose asserts are about what a training of the real size has learned, or about models of the real size.
UNTRAINED = {name: [f"cell-{number:02}" for number in numbers] for name, numbers in {
    "08_train_on_mnist": (8, 48, 52, 53, 61, 65, 67, 72, 74, 75, 80, 81, 82, 84),
    "09_train_on_cifar100": (22, 49, 51, 53, 61, 72, 76, 79, 81, 87, 90),
    "10_look_inside": (),
    "11_ablations": (29, 35, 39, 45),
    "12_pretrain_and_finetune": (33, 50, 62, 64),
    "13_train_on_food": (16, 24, 34, 40),
}.items()}
UNTRAINED["13_train_on_food"] += ["shortest-3", "shortest-4"]
# Text of a cell that says how much is trained apart from the settings -> what it says here.
SHORTER = {
    "08_train_on_mnist": {"steps=100": "steps=20", "== 100": "== 20"},
    "09_train_on_cifar100": {"steps=60": "steps=11", "0.3, 70)": "0.3, 15)"},
    "11_ablations": {"range(0, 808, 101)": "range(8)"},
    "12_pretrain_and_finetune": {'again["samples"], seed=0': "140, seed=0",
                                 "make_loader(few, view, 32": "make_loader(data_scale.first(task.train, 10), view, 32"},
    "13_train_on_food": {"data.train, 80": "data.train, 20", "repeats=3, **options": "repeats=1, **options",
                         "dishes, 1000, seed": "dishes, 10, seed", "dishes, 50, seed": "dishes, 4, seed",
                         "epochs=20)": "epochs=2, repeats=1)", "epochs=3, lr": "epochs=1, lr"},
}


class Notebook:
    """A notebook of the series, and the names that its cells have set."""

    def __init__(self, name: str):
        self.name = name
        file = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
        self.cells = {cell["id"]: "".join(cell["source"]) for cell in file["cells"] if cell["cell_type"] == "code"}
        self.cells = {id: source for id, source in self.cells.items() if "%pip" not in source}
        self.names = {"__name__": "__main__"}
        self.failed = {}  # cell -> its AssertionError
        self.left = iter(self.cells.items())

    @property
    def settings_cell(self) -> str:
        return next(id for id, source in self.cells.items() if "utils.pick_device()" in source)

    def run(self, last: str | None = None) -> dict:
        """Execute the cells that are left, up to this one, at small sizes. Returns the names that they have set."""
        for id, source in self.left:
            for text, shorter in SHORTER.get(self.name, {}).items():
                source = source.replace(text, shorter)
            try:
                self.execute(id, source)
            except AssertionError as error:
                self.failed[id] = error
            if id == self.settings_cell:
                self.names.update(SMALL[self.name])
            if id == last:
                break
        return self.names

    def settings(self) -> dict:
        """Execute the cells up to that of the settings, at the real sizes. Returns the names that they have set."""
        for id, source in self.left:
            self.execute(id, source)
            if id == self.settings_cell:
                return self.names

    def execute(self, id: str, source: str) -> None:
        exec(compile(source, f"<{self.name}, {id}>", "exec"), self.names)
        plt.close("all")


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    return tmp_path_factory.mktemp("drawings")


@pytest.fixture(autouse=True)
def machine(tmp_path, drawings, monkeypatch):
    """A machine with small data sets and small published weights, and a working folder of the test's own.

    CIFAR-100 and the photos are drawn here, and what a notebook starts as a second process runs in this one, where the
    GPU is.
    """
    load = data_setup.load

    def load_drawn(name, **options):
        if name == "auto":
            return dataclasses.replace(load("drawn", **options), name="photos")
        return load("drawn_things" if name == "cifar100" else name, **options)

    def load_published(variant, source, image_size):
        model = ViT(image_size=32, patch_size=16, num_classes=10, **TINY)
        model.preprocessing = Preprocessing(0.875, "bilinear").sized(32)
        return model

    def run_here(command, cwd, **_):
        with contextlib.chdir(cwd):
            train.main(command[command.index("going_modular.train") + 1:])
        return SimpleNamespace(stdout="", stderr="", returncode=0)

    einsum = torch.einsum

    def einsum_in_autocast(equation, *operands):
        # The fake GPU sees a whole einsum in inference mode, and not the matrix product in it that autocast would.
        if torch.is_autocast_enabled("cuda"):
            operands = [operand.to(torch.get_autocast_dtype("cuda")) for operand in operands]
        return einsum(equation, *operands)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIT_DATA", str(drawings))
    monkeypatch.setattr(plt, "show", lambda: None)
    monkeypatch.setattr(data_setup, "load", load_drawn)
    monkeypatch.setattr(weights, "load", load_published)
    monkeypatch.setattr(subprocess, "run", run_here)
    monkeypatch.setattr(torch, "einsum", einsum_in_autocast)
    monkeypatch.setattr(builtins, "input", lambda question: pytest.fail("nothing is asked outside Colab"))
    for name, (of_train, of_test) in FEW.items():
        monkeypatch.setitem(drawn.SETS, name, dataclasses.replace(drawn.SETS[name], train=of_train, test=of_test))
    for name, train_images in (("drawn_digits", 100), ("cifar100", 500)):
        monkeypatch.setitem(architecture.SETUPS, name, {
            **architecture.SETUPS[name], "train_images": train_images, "epochs": 1})


def test_what_is_replaced_is_there():
    for name in SMALL:
        cells = Notebook(name).cells
        assert set(UNTRAINED[name]) <= set(cells), name
        assert all(any(text in source for source in cells.values()) for text in SHORTER.get(name, {})), name


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("gpu", CARDS, indirect=True)
def test_a_notebook_runs_on_a_gpu(gpu, name):
    notebook = Notebook(name)
    names = notebook.run()
    assert {id: error for id, error in notebook.failed.items() if id not in UNTRAINED[name]} == {}
    assert names["device"] == torch.device("cuda:0") and gpu.multiply_adds > 0


@pytest.mark.parametrize("in_colab", [True, False])
def test_the_model_of_notebook_13_is_handed_over(monkeypatch, capsys, in_colab):
    notebook, downloaded = Notebook("13_train_on_food"), []
    notebook.names.update(sys=sys, device=CUDA, file=Path("my_food.pt"))
    if in_colab:
        monkeypatch.setitem(sys.modules, "google", SimpleNamespace())
        monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace(
            files=SimpleNamespace(download=downloaded.append)))
    notebook.execute("download", notebook.cells["download"])
    assert (downloaded, capsys.readouterr().out) == ((["my_food.pt"], "") if in_colab else ([], "my_food.pt\n"))


# ---------------------------------------------------------------------------------------------------------------------
# A session that ends early


class Session:
    """The steps of all trainers since it began, as (run folder, whole epochs, step); it ends where `ends` says so."""

    def __init__(self, monkeypatch, ends=lambda steps: False):
        self.steps, show = [], Trainer._show_progress

        def show_progress(trainer, images):
            self.steps.append((trainer.output and trainer.output.name, len(trainer.history), trainer.steps))
            if ends(self.steps):
                raise KeyboardInterrupt
            show(trainer, images)

        monkeypatch.setattr(Trainer, "_show_progress", show_progress)


def two_sessions(name, ends, last):
    """The steps of a session that ends where `ends` says so, those of the next, and the names that its cells set."""
    with pytest.MonkeyPatch.context() as patch:
        first = Session(patch, ends)
        with pytest.raises(KeyboardInterrupt):
            Notebook(name).run(last)
    with pytest.MonkeyPatch.context() as patch:
        second = Session(patch)
        return first.steps, second.steps, Notebook(name).run(last)


@t4
def test_a_session_of_notebook_09_that_ends_early_loses_the_epoch_under_way(gpu):
    first, second, names = two_sessions(
        "09_train_on_cifar100", lambda steps: sum(folder is not None for folder, *_ in steps) == 10, "cell-53")
    first, second = ([step for step in steps if step[0] is not None] for steps in (first, second))  # those in a folder
    assert [epoch for _, epoch, _ in first] == 4 * [0] + 4 * [1] + 2 * [2]
    assert [epoch for _, epoch, _ in second] == [epoch for epoch in range(2, 7) for _ in range(4)]
    assert len(names["history"]) == 7 and (names["before_clipping"] > 0).all(), "the norms of all steps are there"


@t4
def test_a_session_of_notebook_13_that_ends_early_loses_the_epoch_under_way(gpu):
    first, second, names = two_sessions(
        "13_train_on_food", lambda steps: steps[-1][:2] == ("scratch-1", 1), "cell-16")
    # What has no folder is the shortest way, which is done each time.
    assert {run for run, _, _ in first} == {None, "scratch-0", "scratch-1"}
    assert {(run, epoch) for run, epoch, _ in second if run} == {("scratch-1", 1)}, "what was done is not done again"
    assert [len(history) for _, history in names["scratch"]] == [2, 2]


@t4
def test_notebook_13_has_one_training_on_the_gpu_at_a_time_and_keeps_what_is_trained(gpu, monkeypatch):
    notebook = Notebook("13_train_on_food")
    notebook.run("cell-14")
    assert gpu.memory == 0
    notebook.run("cell-17")
    assert gpu.memory == 0 and gpu.peak_memory > 0
    notebook.run("cell-33")
    before = gpu.memory  # the model that is fine-tuned, and what the cells before look at
    names = notebook.run("cell-40")
    assert gpu.memory == before
    for model, *_ in names["scratch"] + names["tuned"] + names["tuned_published"]:
        assert all(parameter.is_cpu and parameter.grad is None for parameter in model.parameters())

    assert sorted(file.name for file in names["output"].glob("*.pt")) == [
        f"{name}-epochs1-lr0.03-seed{seed}.pt" for name in ("own", "published") for seed in (0, 1)]
    again = Notebook("13_train_on_food")
    again.run("shortest-5")
    session = Session(monkeypatch)
    again = again.run("cell-40")
    assert session.steps == [] and again["ways"] == names["ways"], "nothing is trained twice"
    for models in zip(names["tuned_published"], again["tuned_published"]):
        assert all(torch.equal(a, b) for a, b in zip(*(model.parameters() for model, _, _ in models), strict=True))


@t4
def test_remaking_notebook_11_goes_on_after_the_last_training(gpu, monkeypatch):
    tiny = dict(architecture.SETUPS["cifar100"]["base"], patch_size=16, num_layers=1, hidden_size=12, mlp_size=12)
    monkeypatch.setitem(architecture.SETUPS, "cifar100", {
        **architecture.SETUPS["cifar100"], "base": tiny, "scaling": dict(
            num_layers=(2,), hidden_size=(24,), mlp_size=(24,), patch_size=(8,))})
    monkeypatch.setattr(architecture, "SEEDS", dict.fromkeys(architecture.SEEDS, 2))
    monkeypatch.setitem(SHORTER, "11_ablations", {**SHORTER["11_ablations"], "remake = False": "remake = True"})
    run, trained = architecture.run, []

    def counted(name, changes, seed, *rest):
        if len(trained) == 5:
            trained.append("the end")
            raise KeyboardInterrupt
        trained.append((tuple(changes.items()), seed))
        return run(name, changes, seed, *rest)

    monkeypatch.setattr(architecture, "run", counted)
    with pytest.raises(KeyboardInterrupt):
        Notebook("11_ablations").run()
    names = Notebook("11_ablations").run()
    rows = architecture.rows("cifar100")
    once_more = 4  # rows that the cells after the results train again
    assert len(trained) - 1 == 2 * sum(map(len, rows.values())) + once_more, "none of the five is trained twice"
    assert names["name"] == "cifar100" and {name: list(found) for name, found in names["results"].items()} == {
        name: list(found) for name, found in rows.items()}


# ---------------------------------------------------------------------------------------------------------------------
# What the real sizes cost: a training step takes three times the multiply-adds of a forward pass, two operations each

RATES = {"fp32": 4e12, "fp16": 20e12}  # operations a second that a T4 sustains, as an estimate
MOST_MINUTES, MOST_BYTES = 20, 12e9


@dataclasses.dataclass
class Costs:
    """What an image costs: multiply-adds of its forward pass, and bytes that it keeps for the backward pass."""

    macs: int
    kept: int
    parameters: int

    def minutes(self, trained: int, tested: int, precision: str) -> float:
        return 2 * self.macs * (3 * trained + tested) / RATES[precision] / 60

    def training_bytes(self, batch_size: int) -> int:
        """Weights, their copy in half precision, gradients, two averages; and a batch, here as if in float32."""
        return (4 + 2 + 4 + 8) * self.parameters + batch_size * self.kept


def costs(gpu, model, channels=3) -> Costs:
    size, taken = model.settings["image_size"], []
    model.to("cuda")
    for count in (1, 2):
        images = torch.zeros(count, channels, size, size, device="cuda")
        before = gpu.multiply_adds, gpu.memory
        logits = model(images)
        taken.append((gpu.multiply_adds - before[0], gpu.memory - before[1]))
        del logits
    (macs, kept), (macs_of_two, kept_of_two) = taken
    assert macs_of_two == 2 * macs
    return Costs(macs, kept_of_two - kept, count_parameters(model))


def stated(notebook, cell, pattern) -> int:
    """The number that the text of a notebook states."""
    file = json.loads((FOLDER / f"{notebook}.ipynb").read_text(encoding="utf-8"))
    text = next("".join(each["source"]) for each in file["cells"] if each["id"] == cell)
    return int(re.search(pattern, text)[1])


@t4
def test_notebook_08_fits_into_a_t4(gpu):
    settings = Notebook("08_train_on_mnist").settings()["settings"]
    vit = costs(gpu, ViT(image_size=28, in_channels=1, num_classes=10, **settings["sizes"]), channels=1)
    # Three ViTs, and a CNN that gets as many multiply-adds; a test after each epoch; all of it in float32.
    epochs, images, tested = (settings[name] for name in ("epochs", "train_images", "test_images"))
    minutes = 4 * vit.minutes(epochs * images, epochs * tested, "fp32")
    assert round(minutes) == stated("08_train_on_mnist", "cell-00", r"about (\d+) minutes") < MOST_MINUTES
    assert vit.training_bytes(settings["batch_size"]) < MOST_BYTES and vit.kept * 500 < MOST_BYTES


@t4
def test_the_cnn_of_notebook_08_gets_the_multiply_adds_of_the_vit(gpu):
    notebook = Notebook("08_train_on_mnist")
    names = notebook.settings()
    names["vit"] = ViT(image_size=28, in_channels=1, num_classes=10, **names["sizes"])
    names["test_x"] = torch.zeros(2, 1, 28, 28)
    for id in ("cell-80", "cell-81"):
        notebook.execute(id, notebook.cells[id])
    assert names["cnn_epochs"] == 17 > names["epochs"] == 12, "more epochs at the sizes of a GPU, says the text"


@t4
def test_notebook_09_fits_into_a_t4(gpu):
    names = Notebook("09_train_on_cifar100").settings()
    settings = names["settings"]
    vit = costs(gpu, ViT(num_classes=100, drop_path=0.1, **settings["architecture"]))
    kept, held_out, tested, epochs = 45_000, 5_000, 10_000, settings["epochs"] + 6  # six epochs without the decoupling
    minutes = vit.minutes(epochs * kept, epochs * (held_out + tested), "fp16")
    assert round(minutes) == stated("09_train_on_cifar100", "cell-00", r"about (\d+) minutes") < MOST_MINUTES
    assert vit.training_bytes(settings["batch_size"]) < MOST_BYTES
    # "the longer run on a GPU would lose more than half of it"
    steps = settings["epochs"] * math.ceil(kept / settings["batch_size"])
    left = math.prod(1 - 2e-3 * 0.05 * warmup_cosine(step, round(0.1 * steps), steps) for step in range(steps))
    assert left < 0.5


@t4
def test_notebook_11_states_the_hours_of_a_remake(gpu, monkeypatch):
    monkeypatch.undo()
    setup, macs = architecture.SETUPS["cifar100"], 0
    for experiment, rows in architecture.rows("cifar100").items():
        macs += architecture.SEEDS[experiment] * sum(
            count_macs(architecture.build("cifar100", changes, 100)) for changes in rows.values())
    hours = 6 * macs * setup["epochs"] * setup["train_images"] / RATES["fp16"] / 3600
    assert round(hours) == stated("11_ablations", "cell-03", r"about (\d+) hours")
    largest = costs(gpu, architecture.build("cifar100", {"patch_size": 2}, 100))
    assert largest.training_bytes(setup["batch_size"]) < MOST_BYTES


@t4
def test_notebook_12_fits_into_a_t4(gpu):
    names = Notebook("12_pretrain_and_finetune").settings()
    settings = names["settings"]
    small = costs(gpu, ViT(num_classes=7, **data_scale.VIT_SIZES))
    pictures = 7 * settings["again"]["count"]
    trained = (settings["again"]["samples"] + settings["masked_epochs"] * 2 * pictures
               + 4 * settings["epochs"] * settings["repeats"] * 240)
    with torch.device("meta"):
        published = count_macs(ViT.from_variant(settings["published"][0], image_size=settings["published"][2]))
    minutes = small.minutes(trained, 0, "fp32") + 2 * published * (240 + 600) / RATES["fp32"] / 60
    assert minutes < 1 and small.training_bytes(100) < MOST_BYTES


@t4
def test_notebook_13_fits_into_a_t4(gpu):
    names = Notebook("13_train_on_food").settings()
    settings = names["settings"]
    variant, _, image_size = settings["published"]
    large = costs(gpu, ViT.from_variant(variant, image_size=image_size, num_classes=3))
    small = costs(gpu, ViT.from_variant("Mini/8", image_size=settings["sizes"]["image_size"], num_classes=3))
    seeds, pictures, tested = len(names["seeds"]), 240, 180
    # `repeats` shows at least 1,000 pictures in an epoch, and thus less than 1,240; the pre-training has 20 epochs.
    minutes = small.minutes(seeds * settings["recipe"]["epochs"] * 1240 + 20 * 7000, 0, "fp16")
    minutes += large.minutes(seeds * names["fine_epochs"] * 3 * pictures, seeds * names["fine_epochs"] * tested, "fp16")
    minutes += large.minutes(0, 7 * tested, "fp32")  # what it confuses and where it looks, without autocast
    assert round(minutes) == 1 and large.training_bytes(32) < MOST_BYTES


@t4
def test_the_learning_rate_of_the_notebook_is_the_commands(gpu):
    names = Notebook("13_train_on_food").run("cell-06")
    given = {**names["settings"]["sizes"], **names["settings"]["recipe"]}
    assert "lr" not in given and config.complete({**given, "model": "B/16"}, names["food"], CUDA).lr == 2.5e-4
