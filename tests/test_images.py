"""Images in files and arrays: what is right is read right, and what is not gets one clear line."""
import pickle

import numpy as np
import pytest
import torch
from data_files import message_of, write_broken_image
from PIL import Image

from going_modular import data_setup
from going_modular.data_setup import DataError
from going_modular.datasets import images

# ---------------------------------------------------------------------------------------------------------------------
# Reading an image


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
    assert "it is no image" in message_of(error) and not started


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


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("kind, reason", [("empty", "empty"), ("text", "no image"), ("truncated", "truncated")])
def test_broken_image(tmp_path, kind, reason, suffix):
    path = tmp_path / f"bad{suffix}"
    write_broken_image(path, kind)
    with pytest.raises(DataError) as error:
        data_setup.read_image(path)
    message = message_of(error)
    assert str(path) in message and reason in message and "--skip-bad-images" in message


@pytest.mark.parametrize("limit", [90, 40])  # PIL warns above the limit and raises above twice the limit
def test_decompression_bomb(tmp_path, monkeypatch, limit):
    Image.new("RGB", (10, 10)).save(tmp_path / "bomb.png")
    assert data_setup.read_image(tmp_path / "bomb.png").size == (10, 10)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(DataError, match="bomb.png .*bomb.*--skip-bad-images") as error:
        data_setup.read_image(tmp_path / "bomb.png")
    message_of(error)


def test_missing_image(tmp_path):
    with pytest.raises(DataError, match="nothing.png: no such image; check the path"):
        data_setup.read_image(tmp_path / "nothing.png")


# ---------------------------------------------------------------------------------------------------------------------
# Data sets of images


def test_bad_images_are_found_or_skipped(food):
    bad = [food / "test" / "steak" / "0.png", food / "train" / "sushi" / "1.png"]
    for path in bad:
        write_broken_image(path, "truncated")
    with pytest.raises(DataError, match="1.png cannot be read .*--skip-bad-images"):
        data_setup.load(food)
    data = data_setup.load(food, skip_bad_images=True)
    assert sorted(data.skipped) == sorted(bad) and "2 bad images left out" in data.note
    assert (len(data.train), len(data.test), len(data.train.targets)) == (11, 5, 11)
    write_broken_image(food / "test" / "steak" / "1.png", "empty")
    with pytest.raises(DataError, match="all images of class steak are broken; replace"):
        data_setup.load(food, skip_bad_images=True)


def test_cache(food, monkeypatch):
    reads = []
    read_image = images.read_image
    monkeypatch.setattr(images, "read_image", lambda path: reads.append(path) or read_image(path))
    monkeypatch.setattr(images, "CACHE_BYTES", 3 * 12 * 9 * 5 + 1)  # room for five images
    bad = food / "train" / "sushi" / "3.png"
    write_broken_image(bad, "empty")
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


def test_cache_size(food):
    small = data_setup.load(food, cache_size=6)
    assert small.train[0][0].size == (8, 6)
    assert data_setup.load(food, cache_size=50).train[0][0].size == (12, 9)


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 4, 5, 3)])
def test_pixels_of_an_array(shape):
    dataset = data_setup.ArrayImages(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), [3, 7], [])
    pixels, label = dataset.pixels(1)
    assert pixels.shape == (3, 4, 5) and label == 7
    assert np.array_equal(data_setup.to_image(pixels), dataset[1][0])
