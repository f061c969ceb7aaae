"""Data in folders: which images and classes they hold, and which are held out to choose by."""
import os
import shutil

import pytest
from data_files import CLASSES, message_of, write_set

from going_modular import data_setup
from going_modular.data_setup import DataError


def test_load_folder(food):
    (food / "train" / ".ipynb_checkpoints").mkdir()
    (food / "train" / "pizza" / "._0.png").write_bytes(b"junk of macOS")
    (food / "train" / "pizza" / "notes.txt").write_text("no image")
    shutil.copy(food / "train" / "pizza" / "0.png", food / "train" / "pizza" / "9.PNG")
    data = data_setup.load(food)
    assert (data.name, data.class_names, len(data.train), len(data.test)) == ("food", list(CLASSES), 13, 6)
    image, label = data.train[5]
    assert (image.mode, image.size, image.getpixel((0, 0)), label) == ("RGB", (12, 9), (40, 0, 100), 1)
    assert data.train.targets == [0] * 5 + [1] * 4 + [2] * 4
    assert "13 training and 6 test images of 3 classes" in data.note and str(food) in data.note and data.skipped == []


def test_what_is_no_file_is_no_image(tmp_path):
    write_set(tmp_path / "set")
    os.mkfifo(tmp_path / "set" / "train" / "pizza" / "pipe.png")  # reading it would wait for ever
    (tmp_path / "set" / "train" / "pizza" / "folder.png").mkdir()
    assert len(data_setup.list_images(tmp_path / "set" / "train")[0]) == 12


def folder_problem(food, tmp_path, problem):
    """Break a data set in one way; returns the folder to load and what its message must hold."""
    test, train = food / "test", food / "train"
    if problem == "unknown name":
        return "piza", ["piza", "photos", "drawn_things", "folder"]
    if problem == "missing folder":
        return tmp_path / "gone", ["gone", "path of any folder with train/ and test/"]
    if problem == "no train":
        shutil.rmtree(train)
        return food, [str(train), "no such folder", "train/CLASS/"]
    if problem == "no images":
        for path in train.rglob("*.png"):
            path.unlink()
        return food, [str(train), "no images", "CLASS/"]
    if problem == "one class":
        for part in (test, train):
            shutil.rmtree(part / "pizza")
            shutil.rmtree(part / "steak")
        return food, [str(train), "just one class, sushi", "add"]
    if problem == "missing from test":
        shutil.rmtree(test / "steak")
        return food, [f"{test} lacks the class steak", str(train), "both must hold"]
    if problem == "missing from train":
        shutil.rmtree(train / "steak")
        return food, [f"{train} lacks the class steak", str(test), "both must hold"]
    if problem == "empty class":
        for path in (test / "steak").iterdir():
            path.unlink()
        return food, [str(test / "steak"), "no images", "delete this class"]


@pytest.mark.parametrize("problem", ["unknown name", "missing folder", "no train", "no images", "one class",
                                     "missing from test", "missing from train", "empty class"])
def test_folder_problems(food, tmp_path, problem):
    name, expected = folder_problem(food, tmp_path, problem)
    with pytest.raises(DataError) as error:
        data_setup.load(name)
    message = message_of(error)
    assert [part for part in expected if part not in message] == []


def test_data_folder(tmp_path, monkeypatch):
    inner = tmp_path / "project" / "notebooks" / "deep"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert data_setup.data_folder() == inner / "data"
    (tmp_path / "project" / "going_modular").mkdir()
    assert data_setup.data_folder() == tmp_path / "project" / "data"
    (inner.parent / "going_modular").mkdir()
    assert data_setup.data_folder() == inner.parent / "data"
    monkeypatch.setenv("VIT_DATA", str(tmp_path / "env"))
    assert data_setup.data_folder() == tmp_path / "env"
    assert data_setup.data_folder(tmp_path / "argument") == tmp_path / "argument"


def test_split(food):
    data = data_setup.load(write_set(food.parent / "more", train=10))
    kept, held_out = data_setup.split(data.train, 0.2, seed=1)
    assert sorted(data_setup.labels(held_out)) == [0] * 2 + [1] * 2 + [2] * 2
    assert sorted(kept.indices + held_out.indices) == list(range(30))
    assert data_setup.split(data.train, 0.2, seed=1)[1].indices == held_out.indices
    assert data_setup.split(data.train, 0.2, seed=2)[1].indices != held_out.indices
    _, nested = data_setup.split(kept, 0.01, seed=0)
    assert data_setup.labels(nested) == [0, 1, 2] and [nested[i][1] for i in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="fraction is 1; it must lie between 0 and 1"):
        data_setup.split(data.train, 1, seed=0)


def test_split_of_too_few(tmp_path):
    data = data_setup.load(write_set(tmp_path / "few", train=1))
    with pytest.raises(DataError, match="no class has two training images"):
        data_setup.split(data.train, 0.2, seed=0)
