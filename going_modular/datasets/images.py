"""Image files, read safely as RGB, and data sets of images: in files, in a cache, in an array."""
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch.utils.data import Dataset, Subset

# What the contents may be, whatever a file is called. Pillow knows more formats; for one of them,
# PostScript, it starts Ghostscript, which runs the file as a program.
FORMATS = ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM"]
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


def read_image(path: str | Path) -> Image.Image:
    """Read an image file of one of FORMATS as RGB: rotated as its EXIF data says, transparency laid
    on white, 16-bit greyscale scaled to 8 bits.

    Raises DataError where the file is missing, empty, truncated, broken, of another format, or
    larger than PIL.Image.MAX_IMAGE_PIXELS.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            # Pillow only warns of an image of one to two times MAX_IMAGE_PIXELS, and raises above.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                return _to_rgb(image)
    except FileNotFoundError:
        raise DataError(f"{path}: no such image; check the path") from None
    except UnidentifiedImageError:
        reason = "it is no image" if path.stat().st_size else "the file is empty"
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


def _to_rgb(image: Image.Image) -> Image.Image:
    # Cameras store a picture as the sensor lay, and in EXIF how it is to be turned.
    image = ImageOps.exif_transpose(image)
    # 16 bits: convert("RGB") would clip all values at 255. 65535 / 257 = 255, white stays white.
    if image.mode == "I" or image.mode.startswith("I;16"):
        grey = (np.asarray(image) / 257).round().clip(0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    # convert("RGB") would only drop the alpha channel, and show the arbitrary colours of
    # transparent pixels.
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


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
