"""Image files, read safely as RGB, and data sets of images: in files, in a cache, in an array."""
import contextlib
import functools
import io
import os
import struct
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from torch.utils.data import Dataset, Subset

# What the contents may be, whatever a file is called. Pillow knows more formats; for one of them,
# PostScript, it starts Ghostscript, which runs the file as a program.
FORMATS = ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "AVIF", "HEIF", "JPEG2000", "ICO"]
CACHE_BYTES = 2**30  # of pixels that the training set, and again the test set, keeps in memory


class DataError(ValueError):
    """Data that cannot be used. The message is one line: what is wrong where, and the remedy."""

    def __init__(self, message: str):
        # torch makes an error of a DataLoader's worker anew, with the worker's whole traceback as
        # its message. What the error said stands at the end of it.
        super().__init__(message.rsplit(f"{type(self).__name__}: ", 1)[-1].strip())


def reason_of(error: Exception) -> str:
    """What an error says, in one line that is not too long: decoders quote whole files."""
    return " ".join(str(error).split())[:200] or type(error).__name__


@functools.cache
def readable_formats() -> list[str]:
    """Those of FORMATS that can be read here. HEIF, the format of iPhones, needs the package
    pillow-heif."""
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def read_image(path: str | Path) -> Image.Image:
    """Read an image file of one of FORMATS, or a TGA that is called .tga, as RGB (see _to_rgb).

    A JPEG of up to four times PIL.Image.MAX_IMAGE_PIXELS is read at half its size.
    Raises DataError where the file is missing, empty, truncated, broken, of another format, or
    larger.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            # Pillow warns of faults in EXIF data, for each file anew. Of an image of one to two
            # times MAX_IMAGE_PIXELS it only warns, and raises above.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            try:
                return _decoded(path, path.suffix)
            except (UnidentifiedImageError, ValueError):
                if mended := _mended(path):
                    return _decoded(mended)
                raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such image; check the path") from None
    except PermissionError:
        raise DataError(f"{path}: you may not read this file; change its permissions") from None
    except UnidentifiedImageError:
        reason = _kind_of_file(path)
    except Exception as error:  # on a broken file, decoders raise anything, even struct.error
        reason = reason_of(error)
    raise DataError(f"{path} cannot be read as an image ({reason}); replace it")


def as_rgb(image_or_path: Image.Image | str | os.PathLike) -> Image.Image:
    """The RGB image of a file, or of a PIL image opened from it: both give the same pixels, those
    of read_image.

    Raises DataError as read_image does, and TypeError for what is neither.
    """
    if isinstance(image_or_path, (str, os.PathLike)):
        return read_image(Path(image_or_path))
    if not isinstance(image_or_path, Image.Image):
        raise TypeError("expected a PIL image or the path of an image file, not "
                        f"{type(image_or_path).__name__}: Image.fromarray makes a PIL image of a "
                        "uint8 array [H, W, 3]")
    try:
        return _to_rgb(image_or_path)
    except Exception as error:  # Pillow decodes an opened file at its first use
        raise DataError(f"the image cannot be read ({reason_of(error)}); replace it") from None


def _decoded(file: Path | io.BytesIO, suffix: str = "") -> Image.Image:
    # Nearly any bytes are a TGA, which has no signature, so its name has to say that it is one.
    formats = readable_formats() + (["TGA"] if suffix.lower() == ".tga" else [])
    try:
        image: Image.Image = Image.open(file, formats=formats)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as bomb:
        image = _half_size_jpeg(file, bomb)
    with image:
        return _to_rgb(image)


def _half_size_jpeg(file: Path | io.BytesIO, bomb: Exception) -> Image.Image:
    """A JPEG that is too large for Image.open, to be decoded at half its width and height, which
    takes a quarter of the memory. Raises `bomb` where that is still too much, or it is no JPEG."""
    try:
        image = JpegImageFile(file)
    except SyntaxError:
        raise bomb from None
    assert Image.MAX_IMAGE_PIXELS is not None  # else there was no error
    if image.width * image.height > 4 * Image.MAX_IMAGE_PIXELS:
        raise bomb
    image.draft(None, (image.width // 2, image.height // 2))
    return image


def _mended(path: Path) -> io.BytesIO | None:
    """The contents of a file that Pillow refuses for what is no part of the picture: blank lines
    before a signature, as faulty web servers send them, or long texts in a PNG. None for others."""
    with open(path, "rb") as file:
        head = file.read(8)
    if head[:1].isspace():
        return io.BytesIO(path.read_bytes().lstrip())
    if head != b"\x89PNG\r\n\x1a\n":
        return None
    data, kept, at = path.read_bytes(), [head], 8
    while at + 8 <= len(data):  # a chunk: length, kind, contents, checksum
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            kept.append(data[at : at + 12 + length])
        at += 12 + length
    return io.BytesIO(b"".join(kept))


def _kind_of_file(path: Path) -> str:
    """What a file is that is none of the images that can be read here, in words."""
    with open(path, "rb") as file:
        head = file.read(512).lstrip()
    if not head:
        return "the file is empty"
    if head.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS, and `git lfs pull` gets the image itself"
    if b"<svg" in head:
        return "it is an SVG drawing, not pixels"
    if head.startswith(b"<"):
        return "it is a web page"
    if head[4:8] == b"ftyp":  # a container of images or of a film; the next four bytes say of which
        kind = head[8:12]
        if kind in (b"avif", b"avis"):
            return "it is an AVIF, which needs Pillow 11.3 or newer"
        if kind in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"):
            return "it is a HEIC, which needs `pip install pillow-heif`"
        return "it is a film"
    return "it is no image"


def _to_rgb(image: Image.Image) -> Image.Image:
    """An image of any kind as RGB with 8 bits: rotated as its EXIF data says, transparency laid on
    white, greys of 16 or 32 bits and floats scaled (_grey_of_8_bits).

    Raises DataError where it would be dark all over, as its range of values is unknown.
    """
    # Pillow itself cuts colours of 16 bits to their upper 8, where 12 bits leave 16 levels.
    is_cut = image.mode == "RGB" and any("16" in str(tile[3]) for tile in getattr(image, "tile", []))
    tags = getattr(image, "tag_v2", {})  # of a TIFF; an image that was rotated has lost them
    # Cameras store a picture as the sensor lay, and in EXIF how it is to be turned.
    if image.getexif().get(0x0112, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        image = _grey_of_8_bits(image, tags)
    # convert("RGB") would only drop the alpha channel, and show the arbitrary colours of
    # transparent pixels.
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    if is_cut and 0 < np.asarray(image).max() < 16:
        raise DataError("its 16 bits hold 12 or fewer, and would all be black: save it with 8 bits")
    return image


def _grey_of_8_bits(image: Image.Image, tags: Mapping[int, Any]) -> Image.Image:
    """A grey image of mode I, I;16 or F as mode L.

    Black and white are what the tags of a TIFF say (340 and 341, or 280 and 281), else 0 and the
    most that its bits can hold; for floats 1, or 255 where values are above 1.
    Raises DataError where values lie outside, or all in the darkest sixteenth, as those of 12 bits
    in a file of 16 do: the picture would be flat, and what its white is can only be guessed.
    """
    values = np.asarray(image).astype(np.float64)
    low, high = values.min(), values.max()
    if image.mode == "F":
        white = 1 if high <= 1 else 255
    else:
        is_signed = tags.get(339, (1,))[0] == 2
        white = 2 ** (tags.get(258, (16,))[0] - is_signed) - 1
    black, white = (next((np.ravel(tags[tag])[0] for tag in pair if tag in tags), default)
                    for pair, default in (((340, 280), 0), ((341, 281), white)))
    # Written so that nan, which is no number, is refused, too.
    if not (black < white and black <= low <= high <= white
            and (high == black or high > (15 * black + white) / 16)):
        raise DataError(f"its values go from {low:g} to {high:g}, where {black:g} is black and "
                        f"{white:g} is white: save it with 8 bits")
    return Image.fromarray(((values - black) / (white - black) * 255).round().astype(np.uint8))


def to_pixels(image: Image.Image) -> torch.Tensor:
    """An image as RGB in uint8 [3, H, W]."""
    return torch.from_numpy(np.array(as_rgb(image))).permute(2, 0, 1)


def to_image(pixels: torch.Tensor) -> Image.Image:
    """uint8 [3, H, W] as an RGB image, which has a copy of them."""
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def _read_sample(path: Path, way_out: str) -> Image.Image:
    """read_image for a file of a data set. The message of its DataError ends in this way out."""
    try:
        return read_image(path)
    except DataError as error:
        if not path.exists():  # deleted since the folder was listed
            raise
        raise DataError(f"{error}, {way_out}") from None


class ImageFiles(Dataset):
    """Images in files. Item i is (image, label): an RGB PIL image, or what `transform` makes of it,
    and a class index.

    samples: list of (path, label); classes: class names; targets: the labels alone.
    Reading an item raises DataError where its file is no sound image.
    """

    def __init__(self, samples: list[tuple[Path, int]], classes: list[str],
                 transform: Callable | None = None):
        self.samples, self.classes, self.transform = samples, classes, transform
        self.targets = [label for _, label in samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        path, label = self.samples[index]
        image = _read_sample(path, "or delete it")
        return (self.transform(image) if self.transform else image), label


class CachedImages(Dataset):
    """Images in files, decoded once. The first CACHE_BYTES of pixels stay in memory, the rest is
    read at each access. Item i is (RGB PIL image, label).

    skip_bad_images: True checks all images here, and leaves the bad ones out, in `skipped`; False
        checks those that fit into the cache.
    cache_size: images with a longer short side are shrunk to it, in pixels, so that more fit.
    Raises DataError at the first bad image, here or (beyond the cache) at its access.
    """

    def __init__(self, samples: list[tuple[Path, int]], classes: list[str],
                 cache_size: int | None = None, skip_bad_images: bool = False):
        self.classes, self.cache_size = classes, cache_size
        self.samples: list[tuple[Path, int]] = []
        self.images: list[torch.Tensor | None] = []  # uint8 [3, H, W]; None: read from its file
        self.skipped: list[Path] = []
        bytes_left = CACHE_BYTES
        for path, label in samples:
            image = None
            if bytes_left > 0 or skip_bad_images:
                try:
                    image = self._read(path)
                except DataError:
                    if not skip_bad_images:
                        raise
                    self.skipped.append(path)
                    continue
                bytes_left -= image.nbytes
            self.samples.append((path, label))
            self.images.append(image if bytes_left > 0 else None)
        self.targets = [label for _, label in self.samples]

    def _read(self, path: Path) -> torch.Tensor:
        image = _read_sample(path, "delete it, or leave out bad images with --skip-bad-images "
                                   "(skip_bad_images=True)")
        if self.cache_size and min(image.size) > self.cache_size:
            scale = self.cache_size / min(image.size)
            size = [round(side * scale) for side in image.size]
            image = image.resize(size, Image.Resampling.BICUBIC)
        return to_pixels(image)

    def __getstate__(self) -> dict:
        # Where a loader's workers are not forked, each gets a pickled copy. It goes without the
        # pixels, which may be a gigabyte, and reads the files.
        return {**self.__dict__, "images": [None] * len(self.images)}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        pixels, label = self.pixels(index)
        return to_image(pixels), label

    def pixels(self, index: int) -> tuple[torch.Tensor, int]:
        """Item as (uint8 [3, H, W], label). The pixels are the cache's own: not to be changed."""
        path, label = self.samples[index]
        image = self.images[index]
        return self._read(path) if image is None else image, label


class ArrayImages(Dataset):
    """Images in one uint8 array, [N, H, W] greyscale or [N, H, W, 3] RGB. Item i is (RGB PIL image,
    label), as of CachedImages."""

    def __init__(self, array: np.ndarray, targets: list[int], classes: list[str]):
        self.array, self.targets, self.classes = array, targets, classes

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.array[index]).convert("RGB"), self.targets[index]

    def pixels(self, index: int) -> tuple[torch.Tensor, int]:
        """Item as (uint8 [3, H, W], label). The pixels are the array's own: not to be changed."""
        pixels = torch.from_numpy(self.array[index])
        pixels = pixels.expand(3, -1, -1) if pixels.ndim == 2 else pixels.permute(2, 0, 1)
        return pixels, self.targets[index]


# What the package takes for a data set: it has a length and labels, which torch's Dataset does not promise.
ImageSet = ImageFiles | CachedImages | ArrayImages | Subset


def labels(dataset: ImageSet) -> list[int]:
    """The label of each item, without reading an image; for the data sets above and subsets."""
    if isinstance(dataset, Subset):
        whole: Any = dataset.dataset  # which torch types as any Dataset
        targets = labels(whole)
        return [targets[index] for index in dataset.indices]
    return dataset.targets
