"""Data sets by name, and the archives that they come from: downloaded whole, or refused in one line."""
import dataclasses
import errno
import functools
import gzip
import hashlib
import http.server
import json
import shutil
import socket
import stat
import struct
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from data_files import CLASSES, content, message_of, write_broken_image, write_images, write_set, zip_folder
from torchvision import datasets

from going_modular import data_setup, drawn
from going_modular.data_setup import DataError
from going_modular.datasets import downloads, named


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """A data folder of its own, no network, and drawn food of a few pictures."""
    for name in ("VIT_MIRROR", "VIT_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VIT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{unused.getsockname()[1]}"
    monkeypatch.setattr(named, "PUBLIC_ADDRESS", nowhere)
    monkeypatch.setattr(datasets.MNIST, "mirrors", [nowhere + "/"])
    for name in ("drawn", "drawn_digits"):
        monkeypatch.setitem(drawn.SETS, name, dataclasses.replace(drawn.SETS[name], train=2, test=1))


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def food_zip(tmp_path, food):
    return zip_folder(food, tmp_path / "mirror" / "pizza_steak_sushi.zip")


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if not self.path.startswith("/cut/"):
            return super().do_GET()
        body = Path(self.translate_path(self.path[len("/cut"):])).read_bytes()  # promises all and sends half
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:len(body) // 2])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    (tmp_path / "mirror").mkdir(exist_ok=True)
    handler = functools.partial(Handler, directory=tmp_path / "mirror")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


# ---------------------------------------------------------------------------------------------------------------------
# Names: photos, auto, drawn, torchvision, folders in the data folder


def test_auto_takes_photos_in_the_data_folder(root):
    write_set(root / "pizza_steak_sushi")
    data = data_setup.load("auto")
    assert data.name == "photos" and str(root / "pizza_steak_sushi") in data.note and "\n" not in data.note


def test_auto_takes_photos_of_the_mirror(root, food_zip, monkeypatch):
    monkeypatch.setenv("VIT_MIRROR", str(food_zip.parent))
    data = data_setup.load()
    assert data.name == "photos" and str(food_zip) in data.note
    assert content(root) == ["pizza_steak_sushi"] and food_zip.exists()


def test_photos_are_fetched_into_an_empty_folder(root, food_zip, monkeypatch):
    monkeypatch.setenv("VIT_MIRROR", food_zip.parent.as_uri())
    (root / "pizza_steak_sushi").mkdir(parents=True)  # what a failed download of another tool leaves
    assert len(data_setup.load("photos").train) == 12


def test_auto_takes_photos_of_the_public_address(root, food_zip, server, monkeypatch):
    monkeypatch.setattr(named, "PUBLIC_ADDRESS", server)
    assert f"from {server}/pizza_steak_sushi.zip" in data_setup.load().note
    shutil.rmtree(root)
    monkeypatch.setenv("VIT_MIRROR", str(food_zip.parent / "typo"))  # named in the note, as the user set it
    note = data_setup.load().note
    assert f"from {server}/pizza_steak_sushi.zip" in note and "typo/pizza_steak_sushi.zip: no such file" in note


def test_auto_draws_without_network(root):
    data = data_setup.load("auto")
    assert data.name == "drawn" and data.class_names == list(CLASSES) and data.flip
    assert f"drawn in {root / 'drawn'}, since photos cannot be had: " in data.note and "\n" not in data.note
    assert data.note.endswith("cannot be reached (ConnectionError); check the network")
    assert content(root) == ["drawn"]


def test_auto_hides_no_broken_photos(root):
    write_set(root / "pizza_steak_sushi")
    write_broken_image(root / "pizza_steak_sushi" / "test" / "steak" / "0.png", "empty")
    with pytest.raises(DataError, match="0.png cannot be read"):
        data_setup.load("auto")


@pytest.mark.parametrize("name", ["photos", "mnist", "mine"])
def test_offline_allows_drawn_data_alone(root, food, monkeypatch, name):
    monkeypatch.setenv("VIT_OFFLINE", "1")
    write_set(root / "pizza_steak_sushi")
    write_set(root / "mine")
    data = data_setup.load("auto")
    assert data.name == "drawn" and "VIT_OFFLINE=1" in data.note
    assert not data_setup.load("drawn_digits").flip
    assert data_setup.load(food).name == "food"
    with pytest.raises(DataError, match=f"{name}: VIT_OFFLINE=1 allows drawn data alone; unset it, or take drawn"):
        data_setup.load(name)


def test_photos_without_network(root):
    with pytest.raises(DataError) as error:
        data_setup.load("photos")
    message = message_of(error)
    assert all(part in message for part in ("photos", "cannot be reached", "network", "drawn"))
    assert content(root) == []


def test_load_name_in_data_folder(root, tmp_path):
    write_set(root / "mine")
    write_set(tmp_path / "elsewhere" / "mine", classes=("a", "b"))
    write_set(root / "mnist", classes=("0", "1"))
    assert data_setup.load("mine").class_names == list(CLASSES)
    assert data_setup.load("mine", folder=tmp_path / "elsewhere").class_names == ["a", "b"]
    assert data_setup.load("mnist").class_names == ["0", "1"]


def test_digits_are_told_by_the_name_asked_for_not_by_that_of_a_folder(root, tmp_path):
    write_set(root / "mnist")
    assert not data_setup.load("drawn_digits").flip and not data_setup.load("mnist").flip
    for name in ("mnist", "drawn_digits"):
        data = data_setup.load(write_set(tmp_path / "photos_of_mine" / name))
        assert data.name == name and data.flip


def write_mnist(folder):
    """MNIST's four files with six images to train and two to test; returns their paths."""
    folder.mkdir(parents=True)
    for part, count in (("train", 6), ("t10k", 2)):
        images = np.arange(count * 28 * 28).astype(np.uint8)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, count, 28, 28) + images.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, count) + bytes(range(count)))
    return list(folder.iterdir())


def test_mnist_in_torchvision_layout(root):
    write_mnist(root / "MNIST" / "raw")
    data = data_setup.load("mnist")
    image, label = data.train[3]
    assert (len(data.train), len(data.test), len(data.class_names), data.flip) == (6, 2, 10, False)
    assert (image.mode, image.size, image.getpixel((5, 0)), label) == ("RGB", (28, 28), (3 * 784 % 256 + 5,) * 3, 3)
    assert str(root / "MNIST") in data.note


def test_mnist_of_the_mirror(root, tmp_path, monkeypatch):
    resources = []
    for path in write_mnist(tmp_path / "mirror" / "MNIST" / "raw"):
        packed = gzip.compress(path.read_bytes())
        path.with_name(f"{path.name}.gz").write_bytes(packed)
        path.unlink()
        resources.append((f"{path.name}.gz", hashlib.md5(packed).hexdigest()))
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    monkeypatch.setenv("VIT_MIRROR", str(tmp_path / "mirror"))
    assert len(data_setup.load("mnist").train) == 6
    assert content(root) == ["MNIST"]


def test_mnist_without_network(root):
    with pytest.raises(DataError, match="mnist cannot be had: .*network.*drawn") as error:
        data_setup.load("mnist")
    message_of(error)
    assert content(root) == []


def test_torchvision_files_that_are_not_whole(root):
    (root / "cifar-10-batches-py").mkdir(parents=True)
    with pytest.raises(DataError, match="cifar-10-batches-py is not whole .*delete it") as error:
        data_setup.load("cifar10")
    message_of(error)


def write_food101(root):
    """Food-101 in torchvision's layout with two images to train and one to test of two classes; returns its folder."""
    folder = root / "food-101"
    write_images(folder / "images", classes=("apple_pie", "waffles"), count=3, suffix=".jpg")
    (folder / "meta").mkdir()
    for part, indices in (("train", (0, 1)), ("test", (2,))):
        images = {name: [f"{name}/{index}" for index in indices] for name in ("waffles", "apple_pie")}
        (folder / "meta" / f"{part}.json").write_text(json.dumps(images))
    return folder


def test_food101_in_torchvision_layout(root):
    write_food101(root)
    data = data_setup.load("food101")
    assert (len(data.train), len(data.test), data.class_names) == (4, 2, ["apple_pie", "waffles"])
    assert data.train[2][0].size == (12, 9) and data.train.targets == [1, 1, 0, 0]
    for part, split in ((data.train, "train"), (data.test, "test")):
        theirs = datasets.Food101(root, split)
        assert theirs.classes == part.classes
        for (image, label), (their_image, their_label) in zip(part, theirs, strict=True):
            assert label == their_label and np.array_equal(image, their_image)


def food101_problem(folder, problem):
    """Break Food-101 in one way; returns what the message must hold."""
    if problem == "no images":
        shutil.rmtree(folder / "images")
        return ["there is no folder", "images"]
    if problem == "no list":
        (folder / "meta" / "test.json").unlink()
        return ["No such file", "test.json"]
    if problem == "a broken list":
        (folder / "meta" / "train.json").write_text('{"waffles": ["waff')
        return ["Unterminated string"]
    if problem == "another list":
        (folder / "meta" / "train.json").write_text("3")
        return []
    if problem == "other classes":
        (folder / "meta" / "test.json").write_text('{"waffles": ["waffles/2"]}')
        return ["only one of", "the class apple_pie"]


@pytest.mark.parametrize("problem", ["no images", "no list", "a broken list", "another list", "other classes"])
def test_food101_that_is_not_whole(root, problem):
    expected = food101_problem(write_food101(root), problem)
    with pytest.raises(DataError, match="food-101 is not whole .*; delete it to have it downloaded again") as error:
        data_setup.load("food101")
    assert [part for part in expected if part not in message_of(error)] == []


# ---------------------------------------------------------------------------------------------------------------------
# Downloads


def test_download(root, food_zip, server, capsys):
    folder = data_setup.download_data(f"{server}/pizza_steak_sushi.zip", "food")
    assert folder == root / "food" and content(root) == ["food"]
    assert len(list(folder.rglob("*.png"))) == 18
    assert data_setup.download_data("http://never.asked", "food") == folder
    assert "skipping download" in capsys.readouterr().out


def test_download_keeps_the_source(root, food_zip, server):
    data_setup.download_data(f"{server}/pizza_steak_sushi.zip", "food", remove_source=False)
    assert content(root) == ["food", "food.zip"]
    for source in (food_zip, food_zip.as_uri()):
        shutil.rmtree(root)
        data_setup.download_data(source, "food")
        assert content(root) == ["food"] and food_zip.exists()


def test_download_into_an_empty_folder(root, food_zip):
    (root / "food").mkdir(parents=True)  # what a failed download of another tool leaves
    assert content(data_setup.download_data(food_zip, "food")) == ["test", "train"]


def test_download_beside_something_else(root, food_zip):
    (root / "food" / "train").mkdir(parents=True)
    with pytest.raises(DataError, match="food is no whole data set .*delete it"):
        data_setup.download_data(food_zip, "food")


@pytest.mark.parametrize("prefix", ["", "food/"])
def test_archive_with_junk_or_a_top_folder(tmp_path, food, prefix):
    junk = [("__MACOSX/train/._0.png", "x"), (prefix + ".DS_Store", "x"), (prefix + "train/pizza/._0.png", "x")]
    folder = data_setup.download_data(zip_folder(food, tmp_path / "food.zip", prefix, junk), "food")
    assert content(folder) == ["test", "train"] and content(folder / "train" / "pizza")[0] == "0.png"


def link_entry():
    entry = zipfile.ZipInfo("train/pizza/link.png")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.mark.parametrize("entry", ["../evil.png", "train/../../evil.png", "/evil.png", "C:\\evil.png", "..\\evil.png",
                                   link_entry()])
def test_archive_that_leaves_the_folder(root, tmp_path, food, entry):
    path = zip_folder(food, tmp_path / "food.zip", extra=[(entry, "/etc/passwd")])
    with pytest.raises(DataError, match="food.zip is refused: its entry .* leaves the folder; get") as error:
        data_setup.download_data(path, "food")
    message_of(error)
    assert content(root) == [] and not list(tmp_path.rglob("evil*"))


def test_archive_bomb(root, tmp_path, food, monkeypatch):
    path = tmp_path / "food.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/pizza/0.png", bytes(2**21))
    monkeypatch.setattr(downloads, "BOMB_BYTES", 2**20)
    with pytest.raises(DataError, match="food.zip is refused: it unpacks to .*GiB; get"):
        data_setup.download_data(path, "food")
    assert content(root) == []


def download_problem(problem, server, mirror, food):
    """(address, what its message must hold) of a download that cannot work."""
    if problem == "404":
        return f"{server}/nothing.zip", ["nothing.zip", "404", "check the address"]
    if problem == "web page":
        (mirror / "page.zip").write_text("\n<!DOCTYPE html><title>Please log in</title>")
        return f"{server}/page.zip", ["page.zip", "a web page", "check the address"]
    if problem == "no zip":
        (mirror / "text.zip").write_text("nothing of the kind")
        return f"{server}/text.zip", ["text.zip", "no zip or tar archive", "check the address"]
    if problem == "broken off":
        return f"{server}/cut/pizza_steak_sushi.zip", ["pizza_steak_sushi.zip", "broke off", "try again"]
    if problem == "no server":
        return f"{named.PUBLIC_ADDRESS}/food.zip", ["food.zip", "cannot be reached", "check the network"]
    if problem == "no file":
        return mirror / "gone.zip", ["gone.zip", "no such file", "check the path"]
    if problem == "damaged":
        content = bytearray((mirror / "pizza_steak_sushi.zip").read_bytes())
        start = content.index(b"IHDR")
        content[start:start + 20] = bytes(20)
        (mirror / "damaged.zip").write_bytes(content)
        return mirror / "damaged.zip", ["damaged.zip", "broken archive", "get it again"]
    if problem == "a file that is a folder too":
        return (zip_folder(food, mirror / "twice.zip", extra=[("train/pizza", "x")]),
                ["twice.zip", "have the same name", "rename them"])
    if problem == "a long name":
        return (zip_folder(food, mirror / "long.zip", extra=[("train/" + 300 * "x", "x")]),
                ["long.zip", "one is too long; rename them"])
    if problem == "no train":
        shutil.rmtree(food / "train")
        return zip_folder(food, mirror / "half.zip"), ["half.zip holds no data set: train: no such folder",
                                                       "test/CLASS/"]
    if problem == "other classes":
        shutil.rmtree(food / "test" / "sushi")
        return zip_folder(food, mirror / "half.zip"), ["half.zip holds no data set: test lacks the class sushi"]
    if problem == "nothing but junk":
        with zipfile.ZipFile(mirror / "junk.zip", "w") as archive:
            archive.writestr("__MACOSX/x", "x")
        return mirror / "junk.zip", ["junk.zip holds no data set"]


@pytest.mark.parametrize("problem", ["404", "web page", "no zip", "broken off", "no server", "no file", "damaged",
                                     "a file that is a folder too", "a long name", "no train", "other classes",
                                     "nothing but junk"])
def test_download_problems(root, food, food_zip, server, problem):
    source, expected = download_problem(problem, server, food_zip.parent, food)
    with pytest.raises(DataError) as error:
        data_setup.download_data(source, "food")
    message = message_of(error)
    assert [part for part in expected if part not in message] == []
    assert content(root) == []


def fail_half_way(error, root):
    def extractall(archive, folder, members):
        archive.extract(members[0], folder)
        assert [name for name in content(root) if not name.startswith(".")] == []
        raise error
    return extractall


def test_full_disk(root, food_zip, monkeypatch):
    with monkeypatch.context() as context:
        context.setattr(zipfile.ZipFile, "extractall", fail_half_way(OSError(errno.ENOSPC, "full"), root))
        with pytest.raises(DataError, match=f"the disk of {root} is full; free some space, or point VIT_DATA"):
            data_setup.download_data(food_zip, "food")
        assert content(root) == []
    assert data_setup.download_data(food_zip, "food").is_dir()


def test_full_disk_while_drawing(root, monkeypatch):
    def write(*_):
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(drawn, "write_set", write)
    with pytest.raises(DataError, match="is full; free some space"):
        data_setup.load("drawn")


def test_data_folder_that_cannot_be_written(tmp_path, food_zip, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VIT_DATA", str(tmp_path / "file"))
    with pytest.raises(DataError, match="cannot write to .*file .*; point VIT_DATA"):
        data_setup.download_data(food_zip, "food")


def test_interrupted_download_is_not_taken_for_done(root, food_zip, monkeypatch):
    with monkeypatch.context() as context:
        context.setattr(zipfile.ZipFile, "extractall", fail_half_way(KeyboardInterrupt(), root))
        with pytest.raises(KeyboardInterrupt):
            data_setup.download_data(food_zip, "pizza_steak_sushi")
    assert content(root) == []
    write_images(root / ".pizza_steak_sushi-killed" / "unpacked" / "train")  # what a killed process leaves
    with pytest.raises(DataError, match="cannot be reached"):
        data_setup.load("photos")
    monkeypatch.setenv("VIT_MIRROR", str(food_zip.parent))
    assert len(data_setup.load("photos").train) == 12
