"""Data sets, images, downloads and loaders: what is right is read right, and what is not gets one clear line."""
import dataclasses
import errno
import functools
import gzip
import hashlib
import http.server
import json
import os
import pickle
import shutil
import socket
import stat
import struct
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets
from torchvision.transforms import v2

from going_modular import data_setup, drawn
from going_modular.data_setup import DataError

CLASSES = ("pizza", "steak", "sushi")


# ---------------------------------------------------------------------------------------------------------------------
# Helpers


def write_images(folder, classes=CLASSES, count=2, size=(12, 9), suffix=".png"):
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", size, (40 * label, 20 * index, 100)).save(folder / name / f"{index}{suffix}")


def write_set(folder, train=4, test=2, **options):
    write_images(folder / "train", count=train, **options)
    write_images(folder / "test", count=test, **options)
    return folder


def zip_folder(folder, path, prefix="", extra=()):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, prefix + str(file.relative_to(folder)))
        for name, content in extra:
            archive.writestr(name, content)
    return path


def one_line(error):
    message = str(error.value)
    assert message and "\n" not in message
    return message


def content(folder):
    """All that lies in a folder, hidden or not."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


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
    monkeypatch.setattr(data_setup, "PUBLIC_ADDRESS", nowhere)
    monkeypatch.setattr(datasets.MNIST, "mirrors", [nowhere + "/"])
    for name in ("drawn", "drawn_digits"):
        monkeypatch.setitem(drawn.SETS, name, dataclasses.replace(drawn.SETS[name], train=2, test=1))


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def food(tmp_path):
    return write_set(tmp_path / "food")


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
# Images


def pixel(path, at=(0, 0)):
    image = data_setup.read_image(path)
    assert image.mode == "RGB"
    return image.getpixel(at)


def test_postscript_is_no_image_whatever_it_is_called(tmp_path, monkeypatch):
    """Pillow would hand it to Ghostscript, which runs it as a program."""
    from PIL import EpsImagePlugin

    started = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: started.append(1))
    Image.new("RGB", (8, 8)).save(tmp_path / "x.jpg", format="EPS")
    with pytest.raises(DataError) as error:
        data_setup.read_image(tmp_path / "x.jpg")
    assert "it is no image" in one_line(error) and not started


def test_what_is_no_file_is_no_image(tmp_path):
    write_set(tmp_path / "set")
    os.mkfifo(tmp_path / "set" / "train" / "pizza" / "pipe.png")  # reading it would wait for ever
    (tmp_path / "set" / "train" / "pizza" / "folder.png").mkdir()
    assert len(data_setup.list_images(tmp_path / "set" / "train")[0]) == 12


@pytest.mark.parametrize("mode, color, suffix, expected", [
    ("RGB", (10, 20, 30), ".png", (10, 20, 30)),
    ("L", 77, ".png", (77, 77, 77)),
    ("1", 1, ".png", (255, 255, 255)),
    ("RGBA", (200, 100, 0, 255), ".png", (200, 100, 0)),
    ("RGBA", (200, 100, 0, 0), ".png", (255, 255, 255)),
    ("RGBA", (200, 100, 0, 51), ".png", (244, 224, 204)),  # a fifth of the colour on white
    ("LA", (100, 0), ".png", (255, 255, 255)),
    ("CMYK", (0, 255, 255, 0), ".tif", (255, 0, 0)),
    ("I;16", 257 * 90, ".png", (90, 90, 90)),
    ("I;16", 257 * 90, ".tif", (90, 90, 90)),
    ("I;16", 65535, ".png", (255, 255, 255)),
    ("I;16", 0, ".png", (0, 0, 0)),
])
def test_image_modes(tmp_path, mode, color, suffix, expected):
    Image.new(mode, (4, 4), color).save(tmp_path / f"image{suffix}")
    assert pixel(tmp_path / f"image{suffix}") == expected


def test_cmyk_jpeg(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "image.jpg")
    assert np.abs(np.subtract(pixel(tmp_path / "image.jpg", (8, 8)), (255, 0, 0))).max() <= 3


@pytest.mark.parametrize("transparent", [False, True])
def test_palette(tmp_path, transparent):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 5, 6, 7])
    image.save(tmp_path / "image.png", **({"transparency": bytes([255, 0])} if transparent else {}))
    assert pixel(tmp_path / "image.png") == ((255, 255, 255) if transparent else (5, 6, 7))


def test_exif_rotation(tmp_path):
    image = Image.new("RGB", (6, 3), "black")
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise: the top left corner comes to the top right
    image.save(tmp_path / "image.png", exif=exif)
    turned = data_setup.read_image(tmp_path / "image.png")
    assert turned.size == (3, 6) and turned.getpixel((2, 0)) == (255, 255, 255)


def broken_image(path, kind):
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("no image")
    else:
        Image.effect_noise((64, 64), 90).save(path)
        path.write_bytes(path.read_bytes()[:-500])


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("kind, reason", [("empty", "empty"), ("text", "no image"), ("truncated", "truncated")])
def test_broken_image(tmp_path, kind, reason, suffix):
    path = tmp_path / f"bad{suffix}"
    broken_image(path, kind)
    with pytest.raises(DataError) as error:
        data_setup.read_image(path)
    message = one_line(error)
    assert str(path) in message and reason in message and "--skip-bad-images" in message


@pytest.mark.parametrize("limit", [90, 40])  # PIL warns above the limit and raises above twice the limit
def test_decompression_bomb(tmp_path, monkeypatch, limit):
    Image.new("RGB", (10, 10)).save(tmp_path / "bomb.png")
    assert data_setup.read_image(tmp_path / "bomb.png").size == (10, 10)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(DataError, match="bomb.png .*bomb.*--skip-bad-images") as error:
        data_setup.read_image(tmp_path / "bomb.png")
    one_line(error)


def test_missing_image(tmp_path):
    with pytest.raises(DataError, match="nothing.png: no such image; check the path"):
        data_setup.read_image(tmp_path / "nothing.png")


# ---------------------------------------------------------------------------------------------------------------------
# Folders


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


def test_load_name_in_data_folder(root, tmp_path):
    write_set(root / "mine")
    write_set(tmp_path / "elsewhere" / "mine", classes=("a", "b"))
    write_set(root / "mnist", classes=("0", "1"))
    assert data_setup.load("mine").class_names == list(CLASSES)
    assert data_setup.load("mine", folder=tmp_path / "elsewhere").class_names == ["a", "b"]
    assert data_setup.load("mnist").class_names == ["0", "1"]


def folder_problem(food, tmp_path, problem):
    """Break a data set in one way; returns the folder to load and what its message must hold."""
    test, train = food / "test", food / "train"
    if problem == "unknown name":
        return "piza", ["piza", "photos", "drawn_things", "folder"]
    if problem == "missing folder":
        return tmp_path / "gone", ["gone", "path of any folder with train/ and test/"]
    if problem == "no test":
        shutil.rmtree(test)
        return food, [str(test), "no such folder", "test/CLASS/"]
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


@pytest.mark.parametrize("problem", ["unknown name", "missing folder", "no test", "no train", "no images", "one class",
                                     "missing from test", "missing from train", "empty class"])
def test_folder_problems(food, tmp_path, problem):
    name, expected = folder_problem(food, tmp_path, problem)
    with pytest.raises(DataError) as error:
        data_setup.load(name)
    message = one_line(error)
    assert [part for part in expected if part not in message] == []


def test_bad_images_are_found_or_skipped(food):
    bad = [food / "test" / "steak" / "0.png", food / "train" / "sushi" / "1.png"]
    for path in bad:
        broken_image(path, "truncated")
    with pytest.raises(DataError, match="1.png cannot be read .*--skip-bad-images"):
        data_setup.load(food)
    data = data_setup.load(food, skip_bad_images=True)
    assert sorted(data.skipped) == sorted(bad) and "2 bad images left out" in data.note
    assert (len(data.train), len(data.test), len(data.train.targets)) == (11, 5, 11)
    broken_image(food / "test" / "steak" / "1.png", "empty")
    with pytest.raises(DataError, match="all images of class steak are broken; replace"):
        data_setup.load(food, skip_bad_images=True)


def test_cache(food, monkeypatch):
    reads = []
    read_image = data_setup.read_image
    monkeypatch.setattr(data_setup, "read_image", lambda path: reads.append(path) or read_image(path))
    monkeypatch.setattr(data_setup, "CACHE_BYTES", 3 * 12 * 9 * 5 + 1)  # room for five images
    bad = food / "train" / "sushi" / "3.png"
    broken_image(bad, "empty")
    data = data_setup.load(food)
    assert len(reads) == 5 + 1 + 5 + 1  # the one that no longer fits is read, too
    reads.clear()

    def whiten(image):
        image.paste("white", (0, 0, 12, 9))
        return torch.zeros(1)

    whiten(data.train[0][0])  # what a caller draws on an image stays out of the cache
    next(iter(data_setup.make_loader(data.train, whiten, 4)))  # and what a transform does
    assert data.train[0][0].getpixel((0, 0)) == (0, 0, 100)
    assert reads == []
    assert data.train[10][0].size == (12, 9) and len(reads) == 1
    with pytest.raises(DataError, match="3.png"):
        data.train[11]
    assert data_setup.load(food, skip_bad_images=True).skipped == [bad]


def test_a_copy_for_another_process_reads_the_files_again(food):
    train = data_setup.load(food).train
    copy = pickle.loads(pickle.dumps(train))
    assert copy.images == [None] * 12 and copy.targets == train.targets
    assert [copy[i][0].tobytes() for i in range(12)] == [train[i][0].tobytes() for i in range(12)]


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 4, 5, 3)])
def test_pixels_of_an_array(shape):
    images = data_setup.ArrayImages(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), [3, 7], [])
    pixels, label = images.pixels(1)
    assert pixels.shape == (3, 4, 5) and label == 7
    assert np.array_equal(data_setup.to_image(pixels), images[1][0])


def test_cache_size(food):
    small = data_setup.load(food, cache_size=6)
    assert small.train[0][0].size == (8, 6)
    assert data_setup.load(food, cache_size=50).train[0][0].size == (12, 9)


def test_data_folder(tmp_path, monkeypatch):
    inner = tmp_path / "project" / "notebooks" / "deep"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    monkeypatch.delenv("VIT_DATA")
    assert data_setup.data_folder() == inner / "data"
    (tmp_path / "project" / "going_modular").mkdir()
    assert data_setup.data_folder() == tmp_path / "project" / "data"
    (inner.parent / "going_modular").mkdir()
    assert data_setup.data_folder() == inner.parent / "data"
    monkeypatch.setenv("VIT_DATA", str(tmp_path / "env"))
    assert data_setup.data_folder() == tmp_path / "env"
    assert data_setup.data_folder(tmp_path / "argument") == tmp_path / "argument"


# ---------------------------------------------------------------------------------------------------------------------
# Names: photos, auto, drawn, torchvision


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
    monkeypatch.setattr(data_setup, "PUBLIC_ADDRESS", server)
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
    broken_image(root / "pizza_steak_sushi" / "test" / "steak" / "0.png", "empty")
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
    message = one_line(error)
    assert all(part in message for part in ("photos", "cannot be reached", "network", "drawn"))
    assert content(root) == []


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
    one_line(error)
    assert content(root) == []


def test_torchvision_files_that_are_not_whole(root):
    (root / "cifar-10-batches-py").mkdir(parents=True)
    with pytest.raises(DataError, match="cifar-10-batches-py is not whole .*delete it") as error:
        data_setup.load("cifar10")
    one_line(error)


def test_food101_in_torchvision_layout(root):
    write_images(root / "food-101" / "images", classes=("apple_pie", "waffles"), count=3, suffix=".jpg")
    (root / "food-101" / "meta").mkdir()
    for part, indices in (("train", (0, 1)), ("test", (2,))):
        names = {name: [f"{name}/{index}" for index in indices] for name in ("apple_pie", "waffles")}
        (root / "food-101" / "meta" / f"{part}.json").write_text(json.dumps(names))
    data = data_setup.load("food101")
    assert (len(data.train), len(data.test), data.class_names) == (4, 2, ["apple_pie", "waffles"])
    assert data.train[2][0].size == (12, 9) and data.train.targets == [0, 0, 1, 1]


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
    one_line(error)
    assert content(root) == [] and not list(tmp_path.rglob("evil*"))


def test_archive_bomb(root, tmp_path, food, monkeypatch):
    path = tmp_path / "food.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/pizza/0.png", bytes(2**21))
    monkeypatch.setattr(data_setup, "BOMB_BYTES", 2**20)
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
        return f"{server}/text.zip", ["text.zip", "no zip archive", "check the address"]
    if problem == "broken off":
        return f"{server}/cut/pizza_steak_sushi.zip", ["pizza_steak_sushi.zip", "broke off", "try again"]
    if problem == "no server":
        return f"{data_setup.PUBLIC_ADDRESS}/food.zip", ["food.zip", "cannot be reached", "check the network"]
    if problem == "no file":
        return mirror / "gone.zip", ["gone.zip", "no such file", "check the path"]
    if problem == "damaged":
        content = bytearray((mirror / "pizza_steak_sushi.zip").read_bytes())
        start = content.index(b"IHDR")
        content[start:start + 20] = bytes(20)
        (mirror / "damaged.zip").write_bytes(content)
        return mirror / "damaged.zip", ["damaged.zip", "broken zip", "get it again"]
    if problem == "a file that is a folder too":
        return (zip_folder(food, mirror / "twice.zip", extra=[("train/pizza", "x")]),
                ["twice.zip", "have the same name", "rename them"])
    if problem == "a long name":
        return (zip_folder(food, mirror / "long.zip", extra=[("train/" + 300 * "x", "x")]),
                ["long.zip", "one is too long; rename them"])
    if problem == "no test":
        shutil.rmtree(food / "test")
        return zip_folder(food, mirror / "half.zip"), ["half.zip holds no data set: test: no such folder",
                                                       "test/CLASS/"]
    if problem == "other classes":
        shutil.rmtree(food / "test" / "sushi")
        return zip_folder(food, mirror / "half.zip"), ["half.zip holds no data set: test lacks the class sushi"]
    if problem == "nothing but junk":
        with zipfile.ZipFile(mirror / "junk.zip", "w") as archive:
            archive.writestr("__MACOSX/x", "x")
        return mirror / "junk.zip", ["junk.zip holds no data set"]


@pytest.mark.parametrize("problem", ["404", "web page", "no zip", "broken off", "no server", "no file", "damaged",
                                     "a file that is a folder too", "a long name", "no test", "other classes",
                                     "nothing but junk"])
def test_download_problems(root, food, food_zip, server, problem):
    source, expected = download_problem(problem, server, food_zip.parent, food)
    with pytest.raises(DataError) as error:
        data_setup.download_data(source, "food")
    message = one_line(error)
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


# ---------------------------------------------------------------------------------------------------------------------
# Transforms


@pytest.fixture
def photo():
    noise = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((96, 64), Image.Resampling.BICUBIC)


def test_eval_transform(photo):
    image = data_setup.eval_transform(64)(photo)
    expected = torch.from_numpy(np.array(photo.crop((16, 0, 80, 64)))).permute(2, 0, 1) / 127.5 - 1
    assert image.shape == (3, 64, 64) and image.dtype == torch.float32
    torch.testing.assert_close(image, expected)
    assert data_setup.eval_transform(32)(photo).shape == (3, 32, 32)
    grey = data_setup.eval_transform(64)(photo.convert("L"))
    assert grey.shape == (3, 64, 64) and torch.equal(grey[0], grey[2])
    clear = Image.new("RGBA", (9, 12), (0, 0, 0, 0))
    assert (data_setup.eval_transform(4)(clear) == 1).all()  # on white


@pytest.mark.parametrize("factors", [(0.7, 1, 1), (1, 0.6, 1), (1, 1, 0.4), (0.8, 0.7, 0.9)])
def test_recolor_equals_torchvision(photo, factors):
    image = v2.functional.to_dtype(v2.functional.to_image(photo), torch.float32, scale=True)
    expected = image
    for adjust, factor in zip((v2.functional.adjust_brightness, v2.functional.adjust_contrast,
                               v2.functional.adjust_saturation), factors, strict=True):
        expected = adjust(expected, factor)
    images = torch.stack([image, image.flip(2) ** 2]) * 2 - 1
    ours = data_setup.recolor(images, torch.tensor([factors, (1.0, 1.0, 1.0)]))
    expected = torch.stack([expected * 2 - 1, images[1]])
    torch.testing.assert_close(ours, expected, atol=2e-4, rtol=0)  # torchvision counts red as 0.2989 of the grey
    brighter = data_setup.recolor(images, torch.full((2, 3), 1.9))
    assert brighter.min() >= -1 and brighter.max() == 1


def test_train_transform(photo):
    torch.manual_seed(0)
    transform = data_setup.train_transform(32)
    images = torch.stack([transform(photo) for _ in range(64)])
    assert images.shape == (64, 3, 32, 32) and images.abs().max() <= 1
    assert len(images.flatten(1).unique(dim=0)) == 64
    ramp = Image.fromarray(np.tile(np.arange(96, dtype=np.uint8)[None, :, None], (64, 1, 3)))  # bright on the right
    for flip, expected in ((True, {-1, 1}), (False, {1})):
        transform = data_setup.train_transform(32, flip=flip)
        views = [transform(ramp) for _ in range(20)]
        assert {int(torch.sign(view[0, :, -1].mean() - view[0, :, 0].mean())) for view in views} == expected


def test_warp_turns_clockwise_then_shears_then_zooms_then_shifts():
    def bright(turn=0.0, shear=0.0, zoom=(1, 1), shift=(0, 0)):
        return np.asarray(data_setup.warp(line, turn, shear, zoom, shift))[..., 0]

    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8))
    inner = np.s_[1:-1, 1:-1]  # what lies on the edge after a quarter turn may round to the outside
    turned = np.asarray(data_setup.warp(noise, 90, 0, (1, 1), (0, 0)))
    assert np.allclose(turned[inner], np.asarray(noise.transpose(Image.Transpose.ROTATE_270))[inner], atol=1)
    assert np.array_equal(data_setup.warp(noise, 0, 0, (1, 1), (0, 0)), noise)

    line = Image.new("RGB", (41, 41))
    line.paste((255, 255, 255), (20, 0, 21, 41))  # upright, in the middle
    assert [int(bright(shear=0.5)[row].argmax()) for row in (0, 20, 40)] == [30, 20, 10]
    lying = bright(turn=90, shear=0.5)
    assert lying[20, 1:-1].min() >= 254 and lying[:19].max() == 0  # no slant is left of a line that lies
    assert [int(bright(shear=0.5, zoom=(1.5, 1))[row].argmax()) for row in (0, 40)] == [35, 5]
    assert bright(zoom=(1, 0.5)).any(axis=1).sum() in (20, 21, 22) and bright(zoom=(3, 1)).any(axis=0).sum() > 3
    moved = bright(shift=(4 / 41, -10 / 41))
    assert moved[:31, 24].min() == 255 and moved[31:].max() == 0 and moved.any(axis=0).sum() == 1


def test_warped_views_keep_a_digit_whole_and_vary_about_its_size():
    square = Image.new("RGB", (28, 28))
    square.paste((255, 255, 255), (6, 6, 22, 22))
    torch.manual_seed(0)
    view = data_setup.train_transform(28, min_scale=1.0, flip=False, color_jitter=0, stretch=1, turn=9, shear=0.1,
                                      zoom=0.1, shift=0.04)
    views = torch.stack([view(square)[0] for _ in range(200)])
    areas = (views + 1).sum(dim=(1, 2)) / 2
    assert areas.min() < 0.87 * 256 and areas.max() > 1.13 * 256 and 0.97 < areas.mean() / 256 < 1.03
    edges = torch.cat([views[:, 0], views[:, -1], views[:, :, 0], views[:, :, -1]], dim=1)
    assert edges.max() < -0.5  # nothing of the square is cut off
    assert len(views.flatten(1).unique(dim=0)) == 200


def test_trivial_augment_sees_its_share_of_the_images(photo, monkeypatch):
    black = torch.nn.Module()
    black.forward = lambda image: Image.new("RGB", image.size)
    monkeypatch.setattr(data_setup.v2, "TrivialAugmentWide", lambda: black)
    torch.manual_seed(0)
    transform = data_setup.train_transform(8, trivial_augment=0.3)
    share = sum((transform(photo) < -0.999).all().item() for _ in range(400)) / 400
    assert 0.23 < share < 0.37


def test_trivial_augment_changes_images(photo):
    torch.manual_seed(0)
    transform = data_setup.train_transform(32, min_scale=1.0, flip=False, color_jitter=0, trivial_augment=1.0)
    square = photo.crop((0, 0, 64, 64))
    means = torch.stack([transform(square).mean() for _ in range(40)])
    assert means.std() > 0.05  # crops of the whole image alone would all have nearly the same mean


def test_views_are_torchvisions(photo):
    pixels = data_setup.to_pixels(photo)
    assert np.array_equal(data_setup.to_image(pixels), photo)
    whole = data_setup.train_transform(24, min_scale=1.0, flip=False, color_jitter=0, stretch=1)
    top, side = 0, 64  # a square that does not fit keeps its height
    torch.manual_seed(0)
    left = round(torch.rand(8)[2].item() * (96 - round((96 * 64) ** 0.5)))
    torch.manual_seed(0)
    expected = v2.functional.resized_crop(pixels, top, left, side, round((96 * 64) ** 0.5), [24, 24])
    assert torch.equal(whole.cut(pixels)[0], expected)
    expected = v2.Compose([v2.Resize(48), v2.CenterCrop(48)])(pixels)
    assert torch.equal(data_setup.eval_transform(48).cut(pixels)[0], expected)


def test_crops_have_the_promised_areas_and_shapes():
    ramp = np.stack(np.meshgrid(np.arange(128), np.arange(128)), axis=-1)
    ramp = Image.fromarray(np.concatenate([ramp, ramp[..., :1]], axis=-1).astype(np.uint8))
    transform = data_setup.train_transform(32, min_scale=0.35, flip=False, color_jitter=0)
    torch.manual_seed(0)
    areas, ratios = [], []
    for _ in range(200):
        x, y, _ = (transform(ramp) + 1) * 127.5
        width, height = (x[:, -1] - x[:, 0]).mean().item(), (y[-1] - y[0]).mean().item()
        areas.append(width * height * (32 / 31 / 128) ** 2)
        ratios.append(width / height)
    assert 0.33 < min(areas) < 0.45 and 0.85 < max(areas) < 1.02
    assert 0.73 < min(ratios) < 0.8 and 1.25 < max(ratios) < 1.36


# ---------------------------------------------------------------------------------------------------------------------
# Loaders


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


def epochs(loader, count=2):
    """All images and all labels of each epoch."""
    return [[torch.cat(part) for part in zip(*loader, strict=True)] for _ in range(count)]


def test_loader_follows_from_seed_and_epoch(food):
    noise = np.random.default_rng(0)
    for path in food.rglob("*.png"):
        Image.fromarray(noise.integers(0, 256, (9, 12, 3), dtype=np.uint8)).save(path)
    train = data_setup.load(food).train

    def loader(**options):
        return data_setup.make_loader(train, data_setup.train_transform(8), 5, shuffle=True, **options)

    first, second = epochs(loader())
    assert first[0].shape == (12, 3, 8, 8) and sorted(first[1].tolist()) == sorted(train.targets)
    assert not torch.equal(first[0], second[0]) and first[1].tolist() != second[1].tolist()
    for again in (epochs(loader()), epochs(loader(num_workers=1))):
        assert torch.equal(again[0][0], first[0]) and torch.equal(again[1][0], second[0])
    state = torch.get_rng_state()
    assert loader().dataset[0, 3][0].shape == (3, 8, 8) and loader().dataset[3][1] == train.targets[3]
    (pixels, factors), label = loader().dataset.__getitems__([(0, 3)])[0]
    assert pixels.shape == (3, 8, 8) and pixels.dtype == torch.uint8 and factors.shape == (3,)
    assert label == train.targets[3]
    assert torch.equal(torch.get_rng_state(), state)
    resumed = loader()
    resumed.batch_sampler.set_epoch(1)
    assert torch.equal(epochs(resumed, 1)[0][0], second[0])
    assert not torch.equal(epochs(loader(seed=1))[0][0], first[0])


def test_batches_hold_what_the_transform_makes_of_each_image(food):
    train, transform = data_setup.load(food).train, data_setup.train_transform(8, trivial_augment=0.5)
    loader = data_setup.make_loader(train, transform, 5, shuffle=True, seed=3)
    keys = next(iter(loader.batch_sampler))
    loader.batch_sampler.set_epoch(0)
    images, targets = next(iter(loader))
    for key, image, target in zip(keys, images, targets, strict=True):
        torch.manual_seed(data_setup._mix(3, *key))
        picture, label = train[key[1]]
        assert target == label
        torch.testing.assert_close(image, transform(picture))
    grey = next(iter(data_setup.make_loader(train, lambda image: torch.full((2,), 7.0), 4)))[0]  # any callable serves
    assert grey.shape == (4, 2) and (grey == 7).all()


def test_loader_finishes_its_batches_on_the_device(food):
    train = data_setup.load(food).train
    for view in (data_setup.eval_transform(8), data_setup.train_transform(8)):
        images, _ = next(iter(data_setup.make_loader(train, view, 4, device="meta")))
        assert images.device.type == "meta" and images.shape == (4, 3, 8, 8) and images.dtype == torch.float32


def test_loader_takes_the_items_of_a_subset_of_ones_own(food):
    class Whitened(torch.utils.data.Subset):
        def __getitem__(self, index):
            return Image.new("RGB", (8, 8), "white"), super().__getitem__(index)[1]

        def __getitems__(self, indices):  # torch asks for both
            return [self[index] for index in indices]

    images, _ = next(iter(data_setup.make_loader(Whitened(data_setup.load(food).train, [0, 3]),
                                                 data_setup.eval_transform(8), 2)))
    assert (images == 1).all()


def test_loader_for_evaluation(food):
    test = data_setup.load(food).test
    loader = data_setup.make_loader(test, data_setup.eval_transform(8), 4)
    (images, targets), = epochs(loader, 1)
    assert images.shape == (6, 3, 8, 8) and targets.tolist() == test.targets and len(loader) == 2


@pytest.mark.parametrize("num_workers", [0, 1])
def test_create_dataloaders(food, num_workers):
    transform = v2.Compose([v2.Resize((8, 8)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    train, test, class_names = data_setup.create_dataloaders(
        food / "train", str(food / "test"), transform=transform, batch_size=5, num_workers=num_workers)
    assert class_names == list(CLASSES) == train.dataset.classes
    assert isinstance(train, torch.utils.data.DataLoader) and isinstance(test, torch.utils.data.DataLoader)
    assert (len(train.dataset), len(test.dataset), len(train), len(test)) == (12, 6, 3, 2)
    torch.manual_seed(0)
    (images, targets), (_, again) = epochs(train)
    assert images.shape == (12, 3, 8, 8) and sorted(targets.tolist()) == sorted(again.tolist()) == train.dataset.targets
    assert targets.tolist() != again.tolist()
    assert epochs(test, 1)[0][1].tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_create_dataloaders_with_a_bad_image(food, num_workers):
    broken_image(food / "train" / "pizza" / "0.png", "truncated")
    train, _, _ = data_setup.create_dataloaders(food / "train", food / "test", v2.ToImage(), 12, num_workers)
    with pytest.raises(DataError) as error:
        next(iter(train))
    assert one_line(error).startswith(str(food / "train" / "pizza" / "0.png"))


def test_create_dataloaders_with_other_classes(food):
    shutil.rmtree(food / "test" / "sushi")
    with pytest.raises(DataError, match="lacks the class sushi"):
        data_setup.create_dataloaders(food / "train", food / "test", v2.ToImage(), 4)


def test_repeats_show_each_image_so_often_in_an_epoch():
    sampler = data_setup.EpochSampler(4, seed=1, repeats=3)
    epochs = [list(sampler) for _ in range(2)]
    assert len(sampler) == 12
    assert all(sorted(index for _, index in epoch) == sorted([0, 1, 2, 3] * 3) for epoch in epochs)
    assert len({key for epoch in epochs for key in epoch}) == 24  # no two passes with the same random numbers
    sampler.set_epoch(1)
    assert list(sampler) == epochs[1]
