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
    assert message.startswith(f"{path} cannot be read as an image (") and reason in message
    assert message.endswith("); replace it")  # what else there is to do, the caller knows


@pytest.mark.parametrize("limit", [90, 40])  # PIL warns above the limit and raises above twice the limit
def test_decompression_bomb(tmp_path, monkeypatch, limit):
    Image.new("RGB", (10, 10)).save(tmp_path / "bomb.png")
    assert data_setup.read_image(tmp_path / "bomb.png").size == (10, 10)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(DataError, match="bomb.png .*bomb.*; replace it$") as error:
        data_setup.read_image(tmp_path / "bomb.png")
    message_of(error)


def turned_photo():
    image = Image.new("RGB", (6, 3), "black")
    image.putpixel((0, 0), (255, 255, 255))
    image.getexif()[0x0112] = 6
    return image


@pytest.mark.parametrize("image", [
    turned_photo(), Image.new("RGBA", (6, 3), (200, 100, 0, 51)), Image.new("I;16", (6, 3), 257 * 90),
    Image.new("P", (6, 3), 1)], ids=["EXIF", "transparent", "16 bits", "palette"])
def test_an_opened_image_has_the_pixels_of_its_file(tmp_path, image):
    image.save(tmp_path / "photo.png", exif=image.getexif())
    expected = np.asarray(data_setup.read_image(tmp_path / "photo.png"))
    with Image.open(tmp_path / "photo.png") as opened:
        assert np.array_equal(images.as_rgb(opened), expected)
        assert np.array_equal(data_setup.to_pixels(opened).permute(1, 2, 0), expected)
        assert opened.mode == image.mode  # the caller's image stays as it was
    assert np.array_equal(images.as_rgb(str(tmp_path / "photo.png")), expected)


def test_what_is_no_image_is_told(tmp_path):
    with pytest.raises(TypeError, match="not Tensor: Image.fromarray makes a PIL image"):
        images.as_rgb(torch.zeros(3, 4, 4))
    write_broken_image(tmp_path / "bad.png", "truncated")
    with Image.open(tmp_path / "bad.png") as opened, pytest.raises(DataError, match="truncated"):
        images.as_rgb(opened)


def test_missing_image(tmp_path):
    with pytest.raises(DataError, match="nothing.png: no such image; check the path"):
        data_setup.read_image(tmp_path / "nothing.png")


# ---------------------------------------------------------------------------------------------------------------------
# Data sets of images


def test_bad_images_are_found_or_skipped(food):
    bad = [food / "test" / "steak" / "0.png", food / "train" / "sushi" / "1.png"]
    for path in bad:
        write_broken_image(path, "truncated")
    with pytest.raises(DataError, match=r"1.png cannot be read .*; replace it, delete it, or .* --skip-bad-images"):
        data_setup.load(food)
    loader, *_ = data_setup.create_dataloaders(food / "train", food / "test", data_setup.eval_transform(8), 12, 0)
    with pytest.raises(DataError, match="1.png cannot be read .*; replace it, or delete it$"):
        next(iter(loader))  # which has no option to leave it out
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
