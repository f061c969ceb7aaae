"""Where a run keeps its files: beside the data, or in Google Drive."""
import builtins
import os
import sys
from types import SimpleNamespace

import pytest

from going_modular import data_setup, utils


@pytest.fixture(autouse=True)
def a_new_session():
    """No answer is remembered from another test."""
    utils._google_drive.cache_clear()
    yield
    utils._google_drive.cache_clear()


@pytest.fixture
def colab(monkeypatch, tmp_path):
    """A Colab session, with what was asked and mounted; Google Drive lies in a folder of the test."""
    seen = SimpleNamespace(questions=[], mounted=[], answer="y")

    def answer(question):
        seen.questions.append(question)
        return seen.answer

    monkeypatch.setitem(sys.modules, "google", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace(drive=SimpleNamespace(mount=seen.mounted.append)))
    monkeypatch.setattr(builtins, "input", answer)
    monkeypatch.setattr(utils, "COLAB_DRIVE", tmp_path / "drive")
    monkeypatch.chdir(tmp_path)
    return seen


@pytest.mark.parametrize("inside", [".", "notebooks"])
def test_runs_lie_beside_the_data(tmp_path, monkeypatch, inside):
    for folder in ("going_modular", "notebooks"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / inside)
    folder = utils.work_folder("mine")
    assert folder == tmp_path / "runs" / "mine" and folder.is_dir()
    assert folder.parent.parent == data_setup.data_folder().parent
    (folder / "last.pt").touch()
    assert utils.work_folder("mine") == folder and (folder / "last.pt").exists(), "what lies there stays"


def test_without_the_package_they_lie_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert utils.work_folder("mine") == tmp_path / "runs" / "mine"


@pytest.mark.parametrize("answer", ["y", " Yes "])
def test_in_colab_they_lie_in_google_drive_if_the_user_agrees(colab, tmp_path, answer):
    colab.answer = answer
    folders = [utils.work_folder(name) for name in ("one", "two")]
    assert folders == [tmp_path / "drive/MyDrive/vit/runs" / name for name in ("one", "two")]
    assert all(folder.is_dir() for folder in folders)
    assert len(colab.questions) == 1 and colab.mounted == [str(tmp_path / "drive")], "once in a session"


@pytest.mark.parametrize("answer", ["n", ""])
def test_in_colab_without_google_drive_they_lie_beside_the_data(colab, tmp_path, answer):
    colab.answer = answer
    assert [utils.work_folder(name) for name in ("one", "two")] == [tmp_path / "runs" / name for name in ("one", "two")]
    assert len(colab.questions) == 1 and not colab.mounted


def test_what_nobody_reads_is_dropped_for_good(monkeypatch):
    """Python writes what is left in the buffers when it ends, and would fail there again."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", buffering=1) as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with utils.lasting_output():
            print("nobody reads this")
            print("nor this", flush=True)
        assert sys.stdout is pipe
        pipe.write("and this is no error any more")
        pipe.flush()


def test_a_file_does_not_take_the_place_of_a_standard_stream(tmp_path):
    kept = os.dup(0)
    os.close(0)
    try:
        with utils.lasting_output(), open(tmp_path / "checkpoint", "w") as file:
            assert file.fileno() > 2
    finally:
        os.dup2(kept, 0)
        os.close(kept)
