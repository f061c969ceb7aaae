"""Images in files and arrays: what is right is read right, and what is not gets one clear line."""
import builtins
import io
import pickle
import struct
import sys
import warnings
import zlib

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


def reason(path):
    """The one line by which a file is refused."""
    with pytest.raises(DataError) as error:
        data_setup.read_image(path)
    assert str(path) in (message := message_of(error))
    return message


@pytest.mark.parametrize("dtype, values, tags, expected", [
    (np.uint16, (0, 257 * 90, 65535), {}, (0, 90, 255)),
    (np.uint16, (0, 1000, 4095), {281: 4095}, (0, 62, 255)),  # 12 bits in 16, and the file says so
    (np.int32, (0, 40, 200), {341: 255}, (0, 40, 200)),
    (np.float32, (0, 0.2, 1), {}, (0, 51, 255)),
    (np.float32, (0, 40, 200), {}, (0, 40, 200)),
    (np.float32, (-1, 0.2, 1), {340: -1.0, 341: 1.0}, (0, 153, 255)),
    (np.uint16, (0, 0, 0), {}, (0, 0, 0)),
])
def test_greys_of_more_than_8_bits_are_scaled(tmp_path, dtype, values, tags, expected):
    Image.fromarray(np.array([values], dtype)).save(tmp_path / "image.tif", tiffinfo=tags)
    assert [pixel(tmp_path / "image.tif", (x, 0))[0] for x in range(3)] == list(expected)


@pytest.mark.parametrize("dtype, values, suffix, expected", [
    (np.uint16, (100, 600, 4095), ".tif", "values go from 100 to 4095, where 0 is black and 65535 is white: save it"),
    (np.uint16, (100, 600, 4095), ".png", "values go from 100 to 4095, where 0 is black and 65535"),
    (np.int32, (40, 200, 3), ".tif", "values go from 3 to 200, where 0 is black and 2.14748e+09 is white"),
    (np.float32, (0, 3, 5), ".tif", "values go from 0 to 5, where 0 is black and 255 is white"),
    (np.float32, (-5, 0, 1), ".tif", "values go from -5 to 1"),
    (np.float32, (0, np.nan, 1), ".tif", "values go from nan to nan"),
])
def test_greys_of_unknown_range_are_refused(tmp_path, dtype, values, suffix, expected):
    """They would be all black, or a few grey levels apart."""
    Image.fromarray(np.array([values], dtype)).save(tmp_path / f"image{suffix}")
    assert expected in reason(tmp_path / f"image{suffix}")


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_colours_of_12_bits_in_16_are_refused(tmp_path):
    for name, white in (("dark", 4000), ("bright", 257 * 90)):
        rows = b"".join(b"\0" + row.tobytes() for row in np.full((2, 2, 3), white, ">u2"))
        (tmp_path / f"{name}.png").write_bytes(
            b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">2I5B", 2, 2, 16, 2, 0, 0, 0))
            + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b""))
    assert "its 16 bits hold 12 or fewer" in reason(tmp_path / "dark.png")
    assert pixel(tmp_path / "bright.png") == (90, 90, 90)


@pytest.mark.parametrize("name, kind", [("a.avif", "AVIF"), ("a.jp2", "JPEG2000"), ("a.tga", "TGA"), ("a.ico", "ICO"),
                                        ("a.jfif", "JPEG"), ("a.jpe", "JPEG"), ("IMG_1.HEIC", "HEIF"),
                                        ("a.webp", "WEBP"), ("a.gif", "GIF"), ("a.bmp", "BMP"), ("a.tiff", "TIFF"),
                                        ("a.ppm", "PPM")])
def test_formats(tmp_path, name, kind):
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"neither Pillow nor a package of this machine writes {kind}")
    Image.new("RGB", (32, 32), (200, 30, 60)).save(tmp_path / name, kind)
    assert np.abs(np.subtract(pixel(tmp_path / name, (16, 16)), (200, 30, 60))).max() <= 4


def test_a_tga_has_to_be_called_so(tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.jpg", "TGA")
    assert "it is no image" in reason(tmp_path / "a.jpg")


@pytest.mark.parametrize("content, expected", [
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5\n", "Git LFS, and `git lfs pull` gets"),
    (b"\n<!DOCTYPE html><title>404</title>", "it is a web page"),
    (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
    (b"\0\0\0\x20ftypheic\0\0\0\0mif1heic", "a HEIC, which needs `pip install pillow-heif`"),
    (b"\0\0\0\x20ftypisom\0\0\0\0", "it is a film"),
])
def test_what_is_no_image_is_named(tmp_path, monkeypatch, content, expected):
    images.readable_formats.cache_clear()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as where it is not installed
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    (tmp_path / "a.jpg").write_bytes(content)
    assert expected in reason(tmp_path / "a.jpg")
    images.readable_formats.cache_clear()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_blank_lines_before_an_image(tmp_path, kind):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "white").save(file, kind)
    (tmp_path / "a.jpg").write_bytes(b"\r\n\n" + file.getvalue())
    assert pixel(tmp_path / "a.jpg") == (255, 255, 255)


@pytest.mark.parametrize("where", ["before the pixels", "after them"])
def test_a_png_with_a_long_text(tmp_path, where):
    Image.new("RGB", (8, 8), (1, 2, 3)).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    at = data.index(b"IDAT" if where == "before the pixels" else b"IEND") - 4
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**21)))
    (tmp_path / "a.png").write_bytes(data[:at] + text + data[at:])
    assert pixel(tmp_path / "a.png") == (1, 2, 3)


def test_pillow_does_not_warn_of_each_file(tmp_path):
    exif = bytearray(b"Exif\0\0MM\0*\0\0\0\x08\0\x02" + b"\x01\x0f\0\x02\0\0\xff\0\0\0\xff\0")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=bytes(exif))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with Image.open(tmp_path / "a.jpg") as image:
            image.getexif()
        assert said  # by Pillow alone
        said.clear()
        data_setup.read_image(tmp_path / "a.jpg")
        assert said == []


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(path, *_):
        raise PermissionError(13, "Permission denied", str(path))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.setattr(builtins, "open", refuse)  # chmod does not stop root
    assert "you may not read this file; change its permissions" in reason(tmp_path / "a.png")


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
@pytest.mark.parametrize("limit", [2499, 1000, 625])
def test_a_jpeg_that_is_too_large_is_read_at_half_its_size(tmp_path, monkeypatch, limit):
    Image.new("RGB", (50, 50), "white").save(tmp_path / "huge.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    image = data_setup.read_image(tmp_path / "huge.jpg")
    assert image.size == (25, 25) and image.getpixel((12, 12)) == (255, 255, 255)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 624)
    assert "bomb" in reason(tmp_path / "huge.jpg")


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
