"""Data sets by name or folder -> PIL images -> transforms -> DataLoaders; downloads.

data = load("auto")                                                    # photos, or drawn food where there is no network
train, held_out = split(data.train, 0.15, seed=0)
loader = make_loader(train, train_transform(64), batch_size=32, shuffle=True)
"""
import contextlib
import errno
import math
import multiprocessing
import os
import shutil
import signal
import stat
import struct
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import requests
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, Subset
from torchvision import datasets
from torchvision.transforms import v2

from going_modular import distributed, drawn

NUM_WORKERS = os.cpu_count()
PUBLIC_ADDRESS = "https://github.com/mrdbourke/pytorch-deep-learning/raw/main/data"
ARCHIVES = {"photos": "pizza_steak_sushi", "photos20": "pizza_steak_sushi_20_percent"}  # name: archive and folder
TORCHVISION = {  # name: torchvision's class, its folder in the data folder, its archives
    "food101": (datasets.Food101, "food-101", ["food-101.tar.gz"]),
    "mnist": (datasets.MNIST, "MNIST", [f"MNIST/raw/{part}-ubyte.gz" for part in (
        "train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")]),
    "cifar10": (datasets.CIFAR10, "cifar-10-batches-py", ["cifar-10-python.tar.gz"]),
    "cifar100": (datasets.CIFAR100, "cifar-100-python", ["cifar-100-python.tar.gz"]),
}
NAMES = ["auto", *ARCHIVES, *TORCHVISION, *drawn.SETS]
DIGITS = {"mnist", "drawn_digits"}
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
FORMATS = ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM"]  # of the contents, whatever a file is called
CACHE_BYTES = 2**30  # of pixels that the training set, and again the test set, keeps in memory
WAY_OUT = "; the data set drawn needs no network"
BOMB_BYTES, BOMB_RATIO = 2**31, 100  # an archive is refused that unpacks to more than both


class DataError(ValueError):
    """Data that cannot be used. The message is one line: what is wrong with which thing, and the way out."""

    def __init__(self, message: str):
        # A DataLoader worker hands an error on as its whole traceback; the message stands at the end.
        super().__init__(message.rsplit(f"{type(self).__name__}: ", 1)[-1].strip())


def reason_of(error: Exception) -> str:
    """What an error says, in one line that is not too long: decoders quote whole files."""
    return " ".join(str(error).split())[:200] or type(error).__name__


# ---------------------------------------------------------------------------------------------------------------------
# Images


def read_image(path: str | Path) -> Image.Image:
    """Read an image file of one of FORMATS as RGB: rotated as its EXIF data says, transparency laid on white, 16-bit
    greyscale scaled to 8 bits. (Pillow knows more; one of them, PostScript, is a program that it has run.)

    Raises DataError where the file is missing, empty, truncated, broken, of another format, or larger than
    PIL.Image.MAX_IMAGE_PIXELS.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                return _to_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise DataError(f"{path}: no such image; check the path") from None
    except UnidentifiedImageError:
        reason = "it is no image" if path.stat().st_size else "the file is empty"
    except Exception as error:  # a broken file makes the decoders raise anything from OSError to struct.error
        reason = reason_of(error)
    raise DataError(f"{path} cannot be read as an image ({reason}); replace or delete it, "
                    "or leave out bad images with --skip-bad-images (skip_bad_images=True)")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "I" or image.mode.startswith("I;16"):  # 16 bits: convert("RGB") would clip at 255
        return Image.fromarray((np.asarray(image) / 257).round().clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def to_pixels(image: Image.Image) -> torch.Tensor:
    """An image as RGB in uint8 [3, H, W]."""
    return torch.from_numpy(np.array(image if image.mode == "RGB" else _to_rgb(image))).permute(2, 0, 1)


def to_image(pixels: torch.Tensor) -> Image.Image:
    """uint8 [3, H, W] as an RGB image, which has a copy of them."""
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


class ImageFiles(Dataset):
    """Images in files. Item i is (image, label): an RGB PIL image, or what `transform` makes of it, and a class index.

    samples: list of (path, label); classes: class names; targets: the labels alone.
    Reading an item raises DataError where its file is no sound image.
    """

    def __init__(self, samples: list[tuple[Path, int]], classes: list[str], transform: Callable | None = None):
        self.samples, self.classes, self.transform = samples, classes, transform
        self.targets = [label for _, label in samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int):
        path, label = self.samples[index]
        image = read_image(path)
        return (self.transform(image) if self.transform else image), label


class CachedImages(Dataset):
    """Images in files, decoded once: the first CACHE_BYTES of pixels stay in memory, the rest is read at each access.

    Every image that fits is checked here; with skip_bad_images all are, and the bad ones go to `skipped`.
    cache_size: images with a longer short side are shrunk to it, in pixels, so that more of them fit.
    Raises DataError at the first bad image, here or (beyond the cache) at its access.
    """

    def __init__(self, samples: list[tuple[Path, int]], classes: list[str], cache_size: int | None = None,
                 skip_bad_images: bool = False):
        self.classes, self.cache_size = classes, cache_size
        self.samples, self.images, self.skipped = [], [], []
        room = CACHE_BYTES
        for path, label in samples:
            image = None
            if room > 0 or skip_bad_images:
                try:
                    image = self._read(path)
                except DataError:
                    if not skip_bad_images:
                        raise
                    self.skipped.append(path)
                    continue
                room -= image.nbytes
            self.samples.append((path, label))
            self.images.append(image if room > 0 else None)
        self.targets = [label for _, label in self.samples]

    def _read(self, path: Path) -> torch.Tensor:
        image = read_image(path)
        if self.cache_size and min(image.size) > self.cache_size:
            shrink = self.cache_size / min(image.size)
            image = image.resize([round(side * shrink) for side in image.size], Image.Resampling.BICUBIC)
        return to_pixels(image)

    def __getstate__(self) -> dict:  # without the pixels: where processes of a loader get copies, these read the files
        return {**self.__dict__, "images": [None] * len(self.images)}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        pixels, label = self.pixels(index)
        return to_image(pixels), label

    def pixels(self, index: int) -> tuple[torch.Tensor, int]:
        """Item as (uint8 [3, H, W], label). The pixels are those of the cache: not to be changed."""
        path, label = self.samples[index]
        return self._read(path) if self.images[index] is None else self.images[index], label


class ArrayImages(Dataset):
    """Images in one uint8 array, [N, H, W] greyscale or [N, H, W, 3]. Item i is (RGB PIL image, label)."""

    def __init__(self, array: np.ndarray, targets: list[int], classes: list[str]):
        self.array, self.targets, self.classes = array, targets, classes

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.array[index]).convert("RGB"), self.targets[index]

    def pixels(self, index: int) -> tuple[torch.Tensor, int]:
        """Item as (uint8 [3, H, W], label). The pixels are those of the array: not to be changed."""
        pixels = torch.from_numpy(self.array[index])
        return pixels.expand(3, -1, -1) if pixels.ndim == 2 else pixels.permute(2, 0, 1), self.targets[index]


# ---------------------------------------------------------------------------------------------------------------------
# Folders


def data_folder(folder: str | Path | None = None) -> Path:
    """Where data lies: `folder`, else VIT_DATA, else data/ beside the nearest going_modular/ at or above the working
    folder, else data/ in the working folder."""
    if folder := folder or os.environ.get("VIT_DATA"):
        return Path(folder).expanduser()
    here = Path.cwd()
    home = next((parent for parent in (here, *here.parents) if (parent / "going_modular").is_dir()), here)
    return home / "data"


def _visible(path: Path | PurePosixPath) -> bool:
    return not any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def list_images(folder: str | Path) -> tuple[list[tuple[Path, int]], list[str]]:
    """The images of FOLDER/CLASS/ -> (list of (path, label), class names), both sorted by name. Hidden files and
    __MACOSX are no data.

    Raises DataError where the folder is missing, or it or one of its classes has no images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; a data set is a folder with train/CLASS/ and test/CLASS/ in it")
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir() and _visible(path.relative_to(folder)))
    samples, empty = [], []
    for label, name in enumerate(classes):
        files = sorted(path for path in (folder / name).rglob("*")
                       if path.suffix.lower() in IMAGE_SUFFIXES and _visible(path.relative_to(folder))
                       and path.is_file())
        samples += [(path, label) for path in files]
        empty += [] if files else [name]
    if not samples:
        raise DataError(f"{folder} holds no images; put them into {folder}/CLASS/, one folder a class")
    if empty:
        raise DataError(f"{folder / empty[0]} holds no images; add some, or delete this class from train/ and test/")
    return samples, classes


def _list_both(train_dir: str | Path, test_dir: str | Path):
    """(training samples, test samples, class names); raises DataError unless both folders hold the same classes, two
    or more."""
    train, classes = list_images(train_dir)
    test, test_classes = list_images(test_dir)
    for here, there, missing in ((test_dir, train_dir, set(classes) - set(test_classes)),
                                 (train_dir, test_dir, set(test_classes) - set(classes))):
        if missing:
            raise DataError(f"{here} lacks the class {min(missing)} of {there}; both must hold the same class folders")
    if len(classes) < 2:
        raise DataError(f"{train_dir} holds just one class, {classes[0]}; add a folder of images for each other class")
    return train, test, classes


# ---------------------------------------------------------------------------------------------------------------------
# Downloads


@contextlib.contextmanager
def _writing(root: Path):
    """Makes the folder `root`; a full disk, or a folder that cannot be written, becomes a DataError."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(f"the disk of {root} is full; free some space, or point VIT_DATA at another disk") from None
        raise DataError(f"cannot write to {root} ({error}); point VIT_DATA at a folder that can be written") from None


def _fetch(source: str, target: Path) -> Path:
    """Download an http(s) address to `target`; a file address or path is taken where it lies. Returns the file's path.

    Raises DataError where it cannot be had whole.
    """
    if not source.startswith(("http://", "https://")):
        path = Path(urllib.request.url2pathname(urllib.parse.urlparse(source).path)
                    if source.startswith("file:") else source)
        if not path.is_file():
            raise DataError(f"{path}: no such file; check the path")
        return path
    try:
        with requests.get(source, stream=True, timeout=20) as response, open(target, "wb") as file:
            if response.status_code != 200:
                raise DataError(f"{source} answers {response.status_code} ({response.reason}); check the address")
            for chunk in response.iter_content(2**18):
                file.write(chunk)
    except requests.exceptions.ChunkedEncodingError:
        raise DataError(f"the download of {source} broke off; try again") from None
    except requests.RequestException as error:
        raise DataError(f"{source} cannot be reached ({type(error).__name__}); check the network") from None
    return target


def _check_members(archive: zipfile.ZipFile, source: str) -> list[zipfile.ZipInfo]:
    """The members to unpack, macOS's hidden ones left out; raises DataError where one would leave the folder, or all
    would fill the disk."""
    for member in archive.infolist():
        path = PureWindowsPath(member.filename)  # knows both kinds of slash, and drives
        is_link = stat.S_ISLNK(member.external_attr >> 16)
        if path.anchor or ".." in path.parts or is_link:
            raise DataError(f"{source} is refused: its entry {member.filename!r} leaves the folder; "
                            "get the archive from a place that you trust")
    members = [member for member in archive.infolist() if _visible(PurePosixPath(member.filename))]
    size = sum(member.file_size for member in members)  # zipfile unpacks no more than these
    if size > max(BOMB_BYTES, BOMB_RATIO * os.path.getsize(archive.filename)):
        raise DataError(f"{source} is refused: it unpacks to {size / 2**30:,.1f} GiB; "
                        "get the archive from a place that you trust")
    return members


def _unpack(path: Path, folder: Path, source: str) -> Path:
    """Unpack a zip into `folder`; returns the folder in it that holds train/ and test/.

    Raises DataError, which names `source`, for what is no sound and safe zip of a data set.
    """
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file:
            kind = "a web page" if file.read(256).lstrip().startswith(b"<") else "no zip archive"
        raise DataError(f"{source} gives {kind}, not a data set; check the address, or get the zip by hand")
    folder.mkdir()
    try:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder, _check_members(archive, source))
    except DataError:
        raise
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError) as error:
        # RuntimeError: a password, an unknown method; ValueError: names that are no text, impossible numbers
        raise DataError(f"{source} is a broken zip archive ({reason_of(error)}); get it again") from None
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG):
            raise  # the disk's fault
        raise DataError(f"{source} can't be unpacked ({error.strerror}): two of its entries have the same name, or one "
                        "is too long; rename them") from None
    top = list(folder.iterdir())
    if len(top) == 1 and (top[0] / "train").is_dir():  # all in one top folder
        folder = top[0]
    try:
        _list_both(folder / "train", folder / "test")
    except DataError as error:
        raise DataError(f"{source} holds no data set: {str(error).replace(f'{folder}{os.sep}', '')}") from None
    return folder


def _install(source: str, target: Path, keep_archive: bool = False) -> None:
    """Fetch and unpack the zip `source` to the folder `target`: under a temporary name beside it, renamed when whole.
    keep_archive moves a downloaded zip beside `target`."""
    parent = target.parent
    with _writing(parent), tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=parent) as temporary:
        archive = _fetch(source, Path(temporary) / f"{target.name}.zip")
        unpacked = _unpack(archive, Path(temporary) / "unpacked", source)
        if not _holds_files(target):  # else another process was faster
            os.rename(unpacked, target)
        if keep_archive and archive.parent == Path(temporary):
            os.replace(archive, parent / archive.name)


def _holds_files(folder: Path) -> bool:
    """False for a missing folder, and for the empty one that a failed download of another tool leaves behind."""
    return folder.is_dir() and any(folder.iterdir())


def download_data(source: str | Path, destination: str, remove_source: bool = True) -> Path:
    """Unpack a zip with train/CLASS/ and test/CLASS/ to data_folder()/DESTINATION and return that folder.

    source: an http(s) or file address, or a path. A data set that is there already is returned as it is.
    remove_source: False keeps a downloaded zip as DESTINATION.zip beside that folder. A local file is never removed.
    Raises DataError where the source cannot be had whole, is not safe or no data set, and leaves nothing half done.
    """
    target = data_folder() / destination
    if _holds_files(target):
        try:
            _list_both(target / "train", target / "test")
        except DataError as error:
            raise DataError(f"{target} is no whole data set ({error}); delete it, then try again") from None
        print(f"{target} exists, skipping download.")
    else:
        _install(os.fspath(source), target, keep_archive=not remove_source)
    return target


# ---------------------------------------------------------------------------------------------------------------------
# Data sets by name


@dataclass
class ImageData:
    """A data set: items of `train` and `test` are (RGB PIL image, label); `note` is one line on what it is and where
    it comes from; `skipped` holds the paths of bad images that were left out."""
    name: str
    train: Dataset
    test: Dataset
    class_names: list[str]
    note: str
    skipped: list[Path]

    @property
    def flip(self) -> bool:
        """Whether a mirrored image keeps its label: not so for digits."""
        return self.name not in DIGITS


def load(name: str | Path = "auto", folder: str | Path | None = None, skip_bad_images: bool = False,
         cache_size: int | None = None) -> ImageData:
    """Load a data set by name (NAMES, or any NAME/{train,test}/CLASS/ in the data folder), or by the path of a folder.

    "auto" is the photos where they can be had, else drawn food; the note says which and why.
    folder: the data folder (see data_folder). skip_bad_images, cache_size: see CachedImages.
    With VIT_OFFLINE=1 drawn data sets are the only names; a path still works, as it needs no network.
    Raises DataError where the data set is unknown, cannot be had, or is not sound.
    """
    root = data_folder(folder)
    name, path, origin = _resolve(os.fspath(name), root)
    if path is None:
        train, test, classes = _open_torchvision(name, root)
    else:
        train, test, classes = _list_both(path / "train", path / "test")
    skipped = []
    if isinstance(train, list):
        train, test = (CachedImages(samples, classes, cache_size, skip_bad_images) for samples in (train, test))
        skipped = train.skipped + test.skipped
        for part in (train, test):
            if lost := set(range(len(classes))) - set(part.targets):
                raise DataError(f"{name}: all images of class {classes[min(lost)]} are broken; replace them")
    note = f"{name}: {len(train)} training and {len(test)} test images of {len(classes)} classes, {origin}"
    note += f"; {len(skipped)} bad images left out" if skipped else ""
    return ImageData(name, train, test, classes, note, skipped)


def is_path(name: str, root: Path) -> bool:
    """Whether `load` takes this for the path of a folder, rather than for a name or a folder in the data folder."""
    return name not in NAMES and (os.sep in name or name in (".", "..") or not (root / name).is_dir())


def _resolve(name: str, root: Path) -> tuple[str, Path | None, str]:
    """(name of the data set, its folder, where it comes from in words), fetched or drawn where need be. The folder is
    None where the data set lies in the data folder in torchvision's own layout."""
    offline = os.environ.get("VIT_OFFLINE", "0") not in ("", "0")
    if name == "auto":
        why = "VIT_OFFLINE=1 allows drawn data alone"
        if not offline:
            try:
                return _resolve("photos", root)
            except DataError as error:
                why = str(error).removesuffix(WAY_OUT)
        name, path, origin = _resolve("drawn", root)
        return name, path, f"{origin}, since {why}"
    if name in drawn.SETS:
        with _writing(root):
            path = drawn.write_set(name, root)
        return name, path, f"drawn in {path}"
    if is_path(name, root):
        path = Path(name).expanduser()
        if not path.is_dir():
            raise DataError(f"{name} is neither a data set nor a folder; known are {', '.join(NAMES)}, each folder in "
                            f"{root}, and the path of any folder with train/ and test/ in it")
        return path.resolve().name, path, f"from {path}"
    if offline:
        raise DataError(f"{name}: VIT_OFFLINE=1 allows drawn data alone; unset it, or take {', '.join(drawn.SETS)}")
    path = root / ARCHIVES.get(name, name)
    if name in TORCHVISION and not (path / "train").is_dir():
        return name, None, _fetch_torchvision(name, root)
    if name in ARCHIVES and not _holds_files(path):
        return name, path, f"from {_fetch_archive(name, path)}"
    return name, path, f"from {path}"


def _mirrored(archive: str) -> list[str]:
    """The address of an archive under VIT_MIRROR, in a list that is empty where there is no mirror."""
    mirror = os.environ.get("VIT_MIRROR")
    return [f"{mirror.rstrip('/')}/{archive}"] if mirror else []


def _fetch_archive(name: str, path: Path) -> str:
    """Install an archive of ARCHIVES, from the mirror or else the public address; returns which of them it was."""
    problems = []
    for source in [*_mirrored(f"{path.name}.zip"), f"{PUBLIC_ADDRESS}/{path.name}.zip"]:
        try:
            _install(source, path)
            return "; ".join([source, *problems])
        except DataError as error:
            problems.append(str(error))
    raise DataError(f"{name} cannot be had: {'; '.join(problems)}{WAY_OUT}")


def _fetch_torchvision(name: str, root: Path) -> str:
    """Have torchvision download a data set whose folder is not there yet, to a temporary name that is renamed when
    whole. Archives of the mirror are laid where torchvision looks for them. Returns where the data comes from."""
    kind, layout, archives = TORCHVISION[name]
    if (root / layout).is_dir():
        return f"from {root / layout}"
    with _writing(root), tempfile.TemporaryDirectory(prefix=f".{name}-", dir=root) as temporary:
        for archive in archives:
            with contextlib.suppress(DataError):  # what the mirror lacks comes from the public address
                for source in _mirrored(archive):
                    target = Path(temporary) / archive
                    target.parent.mkdir(parents=True, exist_ok=True)
                    if (local := _fetch(source, target)) != target:
                        shutil.copyfile(local, target)
        try:
            kind(temporary, download=True)
        except (RuntimeError, urllib.error.URLError, ConnectionError, TimeoutError) as error:
            raise DataError(f"{name} cannot be had: {' '.join(str(error).split())}; check the network{WAY_OUT}"
                            ) from None
        if not (root / layout).is_dir():  # else another process was faster
            os.rename(Path(temporary) / layout, root / layout)
    return f"through torchvision, now in {root / layout}"


def _open_torchvision(name: str, root: Path):
    """(train, test, class names) of a data set in torchvision's layout; train and test are ArrayImages, or for food101
    lists of (path, label). Raises DataError where files are missing or broken."""
    kind, layout, _ = TORCHVISION[name]
    parts = [{"split": "train"}, {"split": "test"}] if name == "food101" else [{"train": True}, {"train": False}]
    try:
        train, test = (kind(root, **part) for part in parts)
    except Exception as error:  # torchvision's readers raise anything on a broken file
        raise DataError(f"{root / layout} is not whole ({' '.join(str(error).split())}); delete it to have it "
                        "downloaded again") from None
    if name == "food101":
        samples = [list(zip(part._image_files, part._labels, strict=True)) for part in (train, test)]
        return *samples, train.classes
    arrays = [ArrayImages(np.asarray(part.data), [int(label) for label in part.targets], train.classes)
              for part in (train, test)]
    return *arrays, train.classes


# ---------------------------------------------------------------------------------------------------------------------
# Transforms: PIL image -> float tensor [3, image_size, image_size] in [-1, 1] (mean = std = 0.5, as the paper's code)


def _resize(pixels: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """uint8 [3, H, W] scaled to another height and width, bilinear and antialiased; itself where nothing changes."""
    if pixels.shape[1:] == size:
        return pixels
    return F.interpolate(pixels[None], size, mode="bilinear", antialias=True)[0]


class View:
    """Images -> tensors [batch, 3, image_size, image_size] in [-1, 1], in two halves: `cut` does what each image needs
    for itself, in bytes; `finish` does the rest for a whole batch at once, on the device where it lies.
    Called with one PIL image it returns [3, image_size, image_size]."""

    def cut(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """uint8 [3, H, W], which stays as it is -> what `finish` takes, without the batch: uint8
        [3, image_size, image_size], and what else it needs."""
        raise NotImplementedError

    def finish(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 [batch, 3, image_size, image_size] -> the same in [-1, 1]."""
        return pixels.float().div_(127.5).sub_(1)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        return self.finish(*(part[None] for part in self.cut(to_pixels(image))))[0]


class AnyView(View):
    """The view that a transform of a PIL image makes, whatever it is; all of it is made image by image."""

    def __init__(self, transform: Callable):
        self.transform = transform

    def cut(self, pixels: torch.Tensor) -> tuple[torch.Tensor]:
        return self.transform(to_image(pixels)),

    def finish(self, images: torch.Tensor) -> torch.Tensor:
        return images


def recolor(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """The colours of each image times a brightness, then spread by a contrast about its mean grey, then by a saturation
    about the grey of each pixel; 1 changes nothing. images: [batch, 3, H, W] in [-1, 1]; factors: [batch, 3].

    All three in one matrix, as the grey is the same share of each channel.
    """
    brightness, contrast, saturation = factors[..., None, None].unbind(dim=1)  # [batch, 1, 1] each
    grey = torch.tensor([0.299, 0.587, 0.114], device=images.device)
    matrix = brightness * contrast * ((1 - saturation) * grey + saturation * torch.eye(3, device=images.device))
    mean = images.mean(dim=(2, 3)) @ grey  # [batch]
    offset = brightness * (1 - contrast) * mean[:, None, None] + brightness - 1  # black is -1
    return torch.baddbmm(offset, matrix, images.flatten(2)).clamp_(-1, 1).view_as(images)


def warp(image: Image.Image, turn: float, shear: float, zoom: tuple[float, float], shift: Sequence[float],
         ) -> Image.Image:
    """Turned clockwise about its centre by so many degrees, sheared (the top moves to the right by this share of half
    the height, the bottom to the left), zoomed sideways and upright by these factors, and shifted by these shares of
    its width and height to the right and down. What comes in from outside is black."""
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    a, b, d, e = cos, sin + shear * cos, -sin, cos - shear * sin  # from a place in the result back to one in the image
    a, b, d, e = a / zoom[0], b / zoom[1], d / zoom[0], e / zoom[1]
    x, y = image.width * (0.5 + shift[0]), image.height * (0.5 + shift[1])  # where its centre comes to lie
    matrix = (a, b, image.width / 2 - a * x - b * y, d, e, image.height / 2 - d * x - e * y)
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


class RandomView(View):
    """A random crop, mirrored half of the time, its colours shifted; on request warped before, as digits want it.

    The same as torchvision's RandomAffine, RandomResizedCrop, RandomHorizontalFlip, ColorJitter, ToImage, ToDtype and
    Normalize in a row, with less work: one resize cuts and scales, one matrix changes all colours (`finish`). Only the
    warp is different, and what becomes of a crop that does not fit into the image: RandomAffine zooms both sides alike,
    this each on its own; RandomResizedCrop draws again, this shortens the side that is too long. Random numbers come
    from torch's default generator. first: a change of the PIL image that comes before.
    """

    def __init__(self, image_size: int, min_scale: float, flip: bool, color_jitter: float, stretch: float = 4 / 3,
                 turn: float = 0.0, shear: float = 0.0, zoom: float = 0.0, shift: float = 0.0,
                 first: Callable | None = None):
        self.image_size, self.min_scale, self.flip, self.color_jitter = image_size, min_scale, flip, color_jitter
        self.stretch, self.most, self.first = stretch, (turn, shear, zoom, zoom, shift, shift), first

    def cut(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if self.first:
            pixels = to_pixels(self.first(to_image(pixels)))
        if any(self.most):
            turn, shear, wider, higher, *shift = (
                most * (1 - 2 * share) for most, share in zip(self.most, torch.rand(6).tolist()))
            pixels = to_pixels(warp(to_image(pixels), turn, shear, (1 + wider, 1 + higher), shift))
        numbers = torch.rand(8)
        scale, shape, left, top, mirror = numbers[:5].tolist()
        _, most_height, most_width = pixels.shape
        area = most_width * most_height * (self.min_scale + (1 - self.min_scale) * scale)
        ratio = self.stretch ** (2 * shape - 1)  # of the sides, even on a logarithmic scale
        width = min(max(1, round((area * ratio) ** 0.5)), most_width)
        height = min(max(1, round((area / ratio) ** 0.5)), most_height)
        left, top = round(left * (most_width - width)), round(top * (most_height - height))
        view = _resize(pixels[:, top : top + height, left : left + width], (self.image_size, self.image_size))
        view = view.flip(2) if self.flip and mirror < 0.5 else view
        return (view, 1 + self.color_jitter * (2 * numbers[5:] - 1)) if self.color_jitter else (view,)

    def finish(self, pixels: torch.Tensor, factors: torch.Tensor | None = None) -> torch.Tensor:
        images = super().finish(pixels)
        return images if factors is None else recolor(images, factors)


class CentralView(View):
    """The short side scaled to image_size, then the square in the middle: nothing is random, nothing stretched."""

    def __init__(self, image_size: int):
        self.image_size = image_size

    def cut(self, pixels: torch.Tensor) -> tuple[torch.Tensor]:
        _, height, width = pixels.shape
        side = min(height, width)
        pixels = _resize(pixels, (height * self.image_size // side, width * self.image_size // side))
        return v2.functional.center_crop(pixels, [self.image_size, self.image_size]),


def train_transform(image_size: int, min_scale: float = 0.35, flip: bool = True, color_jitter: float = 0.2,
                    trivial_augment: float = 0.0, stretch: float = 4 / 3, turn: float = 0.0, shear: float = 0.0,
                    zoom: float = 0.0, shift: float = 0.0) -> RandomView:
    """Augmentation for a small set of photos, so that no image is seen twice in the same way.

    min_scale: a crop, in whole pixels, covers this share of the image or more, unless its shape does not fit; smaller
        crops may miss the dish.
    flip: mirror half of the images; not for digits (ImageData.flip).
    color_jitter: brightness, contrast and saturation vary by up to this share; hue does not, as it tells dishes apart.
    trivial_augment: the share of images that go through TrivialAugment first (one random change of colours or of
        geometry, of random strength; Mueller and Hutter, 2021).
    stretch: the most by which one side of a crop is longer than the other.
    turn, shear, zoom, shift: the most by which an image is turned (degrees) and sheared sideways (share of its height),
        its width and its height change (share of them), and it is moved (share of its side); for digits, as writing
        slants and varies. Black comes in.
    """
    first = v2.RandomApply([v2.TrivialAugmentWide()], trivial_augment) if trivial_augment else None
    return RandomView(image_size, min_scale, flip, color_jitter, stretch, turn, shear, zoom, shift, first)


def eval_transform(image_size: int) -> CentralView:
    """The short side scaled to image_size, then the square in the middle, as a tensor in [-1, 1]."""
    return CentralView(image_size)


# ---------------------------------------------------------------------------------------------------------------------
# DataLoaders


def labels(dataset: Dataset) -> list[int]:
    """The label of each item, without reading an image; for the data sets of this module and subsets of them."""
    if isinstance(dataset, Subset):
        targets = labels(dataset.dataset)
        return [targets[index] for index in dataset.indices]
    return dataset.targets


def split(dataset: Dataset, fraction: float, seed: int) -> tuple[Subset, Subset]:
    """(training part, held-out part): `fraction` of each class is held out, at least one image and never all.

    The held-out part is for choosing (the best epoch, a recipe), so that the test set is not. The same seed gives the
    same split. Raises DataError where no class has two images, ValueError where fraction is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction is {fraction}; it must lie between 0 and 1")
    targets = torch.tensor(labels(dataset))
    generator = torch.Generator().manual_seed(seed)
    kept, held_out = [], []
    for label in targets.unique():
        indices = (targets == label).nonzero().flatten()
        indices = indices[torch.randperm(len(indices), generator=generator)].tolist()
        count = min(max(1, round(fraction * len(indices))), len(indices) - 1)
        held_out += indices[:count]
        kept += indices[count:]
    if not held_out:
        raise DataError("no class has two training images, so none can be held out; add images")
    return Subset(dataset, sorted(kept)), Subset(dataset, sorted(held_out))


class EpochSampler(Sampler):
    """The indices of an epoch, which goes over the data set `repeats` times, each time in a fresh order that follows
    from the seed and the number of that pass alone; yields (pass, index).

    Iterating counts the epoch up; set_epoch(n, skip) makes the next one epoch n without its first so many indices, as
    a resumed run needs.
    """

    def __init__(self, size: int, seed: int, repeats: int = 1):
        self.size, self.seed, self.repeats, self.epoch, self.skip = size, seed, repeats, 0, 0

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        self.epoch, self.skip = epoch, skip

    def __len__(self) -> int:
        return self.size * self.repeats

    def __iter__(self):
        epoch, skip = self.epoch, self.skip
        self.set_epoch(epoch + 1)
        for number in range(epoch * self.repeats, (epoch + 1) * self.repeats):
            generator = torch.Generator().manual_seed(_mix(self.seed, number))
            for index in torch.randperm(self.size, generator=generator).tolist()[skip:]:
                yield number, index
            skip = max(0, skip - self.size)


class BatchShares(Sampler):
    """The batches of an EpochSampler, dealt out: each of the processes (distributed.size) gets its share of every
    batch, in `parts` one after the other. Together they make the same batches as one process with one part.

    Where the last batch is too small for all, the hands left empty get an image that does not count.
    Raises ValueError where a whole batch is, or for fewer parts than one.
    """

    def __init__(self, sampler: EpochSampler, batch_size: int, parts: int = 1):
        if parts < 1:
            raise ValueError(f"parts must be at least 1, not {parts}")
        self.sampler, self.batch_size, self.parts, self.hands = sampler, batch_size, parts, parts * distributed.size()
        if batch_size < self.hands:
            raise ValueError(f"a batch of {batch_size} images can't be shared by {self.hands} (processes times parts): "
                             "take a larger one")

    def set_epoch(self, epoch: int, batches: int = 0) -> None:
        """Make the next epoch the one with this number, without its first so many batches."""
        self.sampler.set_epoch(epoch, skip=batches * self.batch_size)

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch_size) * self.parts

    def hand(self, part: int) -> int:
        return distributed.rank() + part * distributed.size()

    def __iter__(self):
        for batch in BatchSampler(self.sampler, self.batch_size, drop_last=False):
            for part in range(self.parts):
                hand = self.hand(part)
                yield batch[hand :: self.hands] or batch[:1]

    def share(self, number: int) -> tuple[int, float]:
        """(images that count in share `number` of an epoch, what the mean over them weighs in that of the batch); the
        weights of a batch sum to the number of processes, over which gradients are averaged."""
        batch, part = divmod(number, self.parts)
        images = min(self.batch_size, len(self.sampler) - batch * self.batch_size)
        count = len(range(self.hand(part), images, self.hands))
        return count, count * distributed.size() / images


class Views(Dataset):
    """A data set seen through a view: item i is (image [3, image_size, image_size], label). Under a key (pass, index)
    the random numbers follow from (seed, pass, index), so that they do not depend on workers or on what ran before.

    __getitems__, which a DataLoader asks for a batch, gives what view.cut makes of each image, not finished yet."""

    def __init__(self, dataset: Dataset, view: View, seed: int):
        self.dataset, self.view, self.seed = dataset, view, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[torch.Tensor, int]:
        (parts, label), = self.__getitems__([key])
        return self.view.finish(*(part[None] for part in parts))[0], label

    def __getitems__(self, keys: Sequence[int] | Sequence[tuple[int, int]]) -> list[tuple]:
        state, items = torch.get_rng_state(), []
        for key in keys:
            if isinstance(key, tuple):
                torch.default_generator.manual_seed(_mix(self.seed, *key))
            pixels, label = _pixels(self.dataset, key[1] if isinstance(key, tuple) else key)
            items.append((self.view.cut(pixels), label))
        torch.set_rng_state(state)
        return items


def _pixels(dataset: Dataset, index: int) -> tuple[torch.Tensor, int]:
    """An item of a data set or of a subset as (uint8 [3, H, W], label), without a copy where it lies in memory."""
    while type(dataset) is Subset:  # a class of one's own may give other items
        dataset, index = dataset.dataset, dataset.indices[index]
    if type(dataset) in (CachedImages, ArrayImages):
        return dataset.pixels(index)
    image, label = dataset[index]
    return to_pixels(image), label


class ViewLoader(DataLoader):
    """Batches of Views, finished on `device`: its processes and the way there carry bytes."""

    def __init__(self, views: Views, device: torch.device | str, **options):
        super().__init__(views, pin_memory=torch.device(device).type == "cuda", **options)
        self.device = device

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return map(self._finished, super().__iter__())

    def _finished(self, batch: tuple) -> tuple[torch.Tensor, torch.Tensor]:
        parts, labels = batch
        parts = (part.to(self.device, non_blocking=self.pin_memory) for part in parts)
        return self.dataset.view.finish(*parts), labels


def _leave_signals_to_the_trainer(_: int) -> None:
    """A worker goes on at Ctrl-C, and at a SIGTERM that is not from its trainer: they reach all processes of a job, and
    the trainer needs its next batch to stop in an orderly way."""
    def end_when_told(trainer: int) -> None:
        while signal.sigwaitinfo([signal.SIGTERM]).si_pid != trainer:
            pass
        os._exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS and Windows
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=end_when_told, args=(multiprocessing.parent_process().pid,), daemon=True).start()


def _mix(*numbers: int) -> int:
    """One 32-bit seed from several numbers, the same on every machine."""
    return zlib.crc32(repr(numbers).encode())


def make_loader(dataset: Dataset, transform: Callable, batch_size: int, shuffle: bool = False, seed: int = 0,
                num_workers: int = 0, repeats: int = 1, parts: int = 1, device: torch.device | str = "cpu",
                ) -> DataLoader:
    """Batches (images [batch, 3, image_size, image_size], labels [batch]) of a data set of (PIL image, label).

    transform: a View, or any callable from a PIL image to a tensor, always of the same shape.

    shuffle: for training; order and augmentation of epoch n then follow from (seed, n) alone, with any number of
    workers: loader.batch_sampler.set_epoch(n). No image is dropped, so the last batch may be smaller.
    repeats: how often an epoch shows each image, for a set so small that one pass is soon over.
    parts: for training; a batch comes in so many parts (BatchShares).
    device: where a view finishes its batches (colours, to floats) and leaves the images.
    Among several processes each gets its share: of every batch for training, of the images else.
    """
    if shuffle:
        batches = {"batch_sampler": BatchShares(EpochSampler(len(dataset), seed, repeats), batch_size, parts)}
    else:
        mine = range(distributed.rank(), len(dataset), distributed.size())
        batches = {"batch_size": batch_size, "sampler": mine}
    view = transform if isinstance(transform, View) else AnyView(transform)
    return ViewLoader(Views(dataset, view, seed), device, num_workers=num_workers,
                      worker_init_fn=_leave_signals_to_the_trainer, persistent_workers=num_workers > 0, **batches)


def create_dataloaders(train_dir: str | Path, test_dir: str | Path, transform: Callable, batch_size: int,
                       num_workers: int = NUM_WORKERS) -> tuple[DataLoader, DataLoader, list[str]]:
    """(training loader, test loader, class names) of two folders of CLASS/IMAGE files.

    transform: any callable on an RGB PIL image, for both. Training batches are shuffled; no image is dropped.
    Raises DataError where a folder is missing or empty, or the two hold other classes.
    """
    train, test, class_names = _list_both(train_dir, test_dir)
    loaders = [DataLoader(ImageFiles(samples, class_names, transform), batch_size, shuffle=shuffle,
                          num_workers=num_workers, pin_memory=torch.cuda.is_available())
               for samples, shuffle in ((train, True), (test, False))]
    return *loaders, class_names
