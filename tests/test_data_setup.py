"""The public face of the data: two folders into two loaders, and all names that a reader is shown."""
import multiprocessing
import re
import runpy
import shutil
import sys
import types
from pathlib import Path

import pytest
import torch
from data_files import CLASSES, message_of, write_broken_image
from torchvision.transforms import v2

from going_modular import data_setup
from going_modular.data_setup import DataError

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("num_workers", [0, 1])
def test_create_dataloaders(food, num_workers):
    transform = v2.Compose([v2.Resize((8, 8)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    train, test, class_names = data_setup.create_dataloaders(
        food / "train", str(food / "test"), transform=transform, batch_size=5, num_workers=num_workers)
    assert class_names == list(CLASSES) == train.dataset.classes
    assert isinstance(train, torch.utils.data.DataLoader) and isinstance(test, torch.utils.data.DataLoader)
    assert (len(train.dataset), len(test.dataset), len(train), len(test)) == (12, 6, 3, 2)
    torch.manual_seed(0)
    (images, targets), (_, again) = ([torch.cat(part) for part in zip(*train, strict=True)] for _ in range(2))
    assert images.shape == (12, 3, 8, 8) and sorted(targets.tolist()) == sorted(again.tolist()) == train.dataset.targets
    assert targets.tolist() != again.tolist()
    assert torch.cat([labels for _, labels in test]).tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_create_dataloaders_with_a_bad_image(food, num_workers):
    write_broken_image(food / "train" / "pizza" / "0.png", "truncated")
    train, _, _ = data_setup.create_dataloaders(food / "train", food / "test", v2.ToImage(), 12, num_workers)
    batches = iter(train)
    with pytest.raises(DataError) as error:
        next(batches)
    if num_workers:
        batches._shutdown_workers()  # which takes seconds when it is left to the garbage collector
    assert message_of(error).startswith(str(food / "train" / "pizza" / "0.png"))


def test_create_dataloaders_with_other_classes(food):
    shutil.rmtree(food / "test" / "sushi")
    with pytest.raises(DataError, match="lacks the class sushi"):
        data_setup.create_dataloaders(food / "train", food / "test", v2.ToImage(), 4)


@pytest.fixture
def spawn():
    """Worker processes start as on macOS and Windows."""
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


@pytest.fixture
def started(monkeypatch):
    """Loaders whose worker processes would have been started; they are not, as each takes seconds."""
    loaders = []
    monkeypatch.setattr(torch.utils.data.DataLoader, "__iter__", lambda self: loaders.append(self) or iter(()))
    return loaders


LOADERS = """
from torchvision.transforms import v2
from going_modular import data_setup
def transform(image): return v2.functional.to_image(image)
def batches(transform):
    train, _, _ = data_setup.create_dataloaders({folder!r} + "/train", {folder!r} + "/test", transform, 4, {workers})
    own = data_setup.make_loader(data_setup.load({folder!r}).train, transform, 4, num_workers={workers})
    list(train), list(own)
"""


@pytest.mark.parametrize("end, workers, fault", [
    ("batches(transform)", 1, r'script.py, line 9: .* under `if __name__ == "__main__":`, or take num_workers=0'),
    ("def main():\n    batches(transform)\nmain()", 1, r"script.py, line 11: .* run the script again"),
    ("if __name__ == '__main__':\n    batches(lambda image: transform(image))", 1,
     r"can't be sent a lambda, .*: write the transform as a def at the top level of a file, or take num_workers=0"),
    ("if __name__ == '__main__':\n    batches(transform)", 1, None),
    ("batches(lambda image: transform(image))", 0, None)])
def test_scripts_where_worker_processes_are_spawned(tmp_path, food, spawn, started, end, workers, fault):
    (tmp_path / "script.py").write_text(LOADERS.format(folder=str(food), workers=workers) + end)
    if fault:
        with pytest.raises(ValueError, match=fault) as error:
            runpy.run_path(str(tmp_path / "script.py"), run_name="__main__")
        message_of(error)
    else:
        runpy.run_path(str(tmp_path / "script.py"), run_name="__main__")
    assert len(started) == (0 if fault else 2)


def test_notebooks_where_worker_processes_are_spawned(food, spawn, started, monkeypatch):
    notebook = types.ModuleType("__main__")  # which has no file
    monkeypatch.setitem(sys.modules, "__main__", notebook)
    exec(LOADERS.format(folder=str(food), workers=1), vars(notebook))
    with pytest.raises(ValueError, match="do not see what a notebook defines: import the transform from a file, or"):
        notebook.batches(notebook.transform)
    notebook.batches(v2.ToImage())
    assert len(started) == 2


def test_a_script_whose_worker_processes_are_forked_needs_no_guard(tmp_path, food, started):
    if multiprocessing.get_start_method() != "fork":
        pytest.skip("worker processes of this system are not forked")
    text = LOADERS.format(folder=str(food), workers=1) + "batches(lambda image: transform(image))"
    (tmp_path / "script.py").write_text(text)
    runpy.run_path(str(tmp_path / "script.py"), run_name="__main__")
    assert len(started) == 2


def test_names_that_are_shown_exist():
    shown = set()
    for file in (ROOT / "README.md", *(ROOT / "notebooks").rglob("*.ipynb"), *(ROOT / "benchmarks").glob("*.py")):
        shown |= set(re.findall(r"\bdata_setup\.(\w+)", file.read_text())) - {"py"}
    assert {"load", "create_dataloaders"} <= shown <= set(data_setup.__all__)
    assert [name for name in data_setup.__all__ if not hasattr(data_setup, name)] == []
