"""Data sets by name: photos and Food-101, MNIST and CIFAR, drawn pictures, folders of one's own.

    data = load("auto")  # photos, or drawn food where there is no network
    image, label = data.train[0]
"""
import contextlib
import json
import os
import shutil
import tempfile
import urllib.error
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torchvision.datasets import CIFAR10, CIFAR100, MNIST, Food101

from going_modular import drawn
from going_modular.datasets.downloads import fetch, holds_files, install, writing_to
from going_modular.datasets.folders import data_folder
from going_modular.datasets.images import ArrayImages, CachedImages, DataError, ImageSet
from going_modular.datasets.layouts import Layout, find_layout

PUBLIC_ADDRESS = "https://github.com/mrdbourke/pytorch-deep-learning/raw/main/data"
ARCHIVES = {  # name: its archive (without .zip) and its folder in the data folder
    "photos": "pizza_steak_sushi",
    "photos20": "pizza_steak_sushi_20_percent",
}
TORCHVISION_SETS = {  # name: torchvision's class, its folder in the data folder, its archives
    "food101": (Food101, "food-101", ["food-101.tar.gz"]),
    "mnist": (MNIST, "MNIST", [f"MNIST/raw/{part}-ubyte.gz" for part in (
        "train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")]),
    "cifar10": (CIFAR10, "cifar-10-batches-py", ["cifar-10-python.tar.gz"]),
    "cifar100": (CIFAR100, "cifar-100-python", ["cifar-100-python.tar.gz"]),
}
NAMES = ["auto", *ARCHIVES, *TORCHVISION_SETS, *drawn.SETS]
IMAGE_SIZES = {"mnist": 28, "drawn_digits": 28, "cifar10": 32, "cifar100": 32, "drawn_things": 32}
OFFLINE_HINT = "; the data set drawn needs no network"  # ends the message of a download that failed


@dataclass
class ImageData:
    """A data set: items of `train`, `test` and `val` are (RGB PIL image, label)."""

    name: str
    train: ImageSet
    test: ImageSet
    class_names: list[str]
    note: str  # one line on what it is and where it comes from
    skipped: list[Path]  # bad images that were left out
    flip: bool = True  # whether a mirrored image keeps its label
    image_size: int | None = None  # of all images, in pixels, where they are small and alike
    val: ImageSet | None = None  # to choose the best epoch by; None: hold out a part of `train`


def load(name: str | Path = "auto", folder: str | Path | None = None, skip_bad_images: bool = False,
         cache_size: int | None = None) -> ImageData:
    """Load a data set by its name, one of NAMES or that of a folder in the data folder, or by the
    path of a folder. What a folder may hold, `layouts.find_layout` says.

    "auto" is the photos where they can be had, else drawn food; the note says which and why.
    folder: the data folder (see data_folder). skip_bad_images, cache_size: see CachedImages.
    With VIT_OFFLINE=1 drawn sets are the only names; a path still works, as it needs no network.
    Raises DataError where the data set is unknown, cannot be had, or is not sound.
    """
    root = data_folder(folder)
    # What is known of a set goes by the name that was asked for: a folder somewhere else may be
    # called mnist, too, and hold anything. Most digits do not read the same in a mirror.
    flip = os.fspath(name) not in ("mnist", "drawn_digits")
    image_size = IMAGE_SIZES.get(os.fspath(name))
    name, path, origin = _resolve(os.fspath(name), root)
    if path is None and name != "food101":
        train, test = _open_arrays(name, root)
        note = _note(name, train, None, test, origin)
        return ImageData(name, train, test, train.classes, note, [], flip, image_size)

    layout = _list_food101(root) if path is None else find_layout(path)
    parts = []
    for samples in filter(None, (layout.train, layout.val, layout.test)):
        parts.append(CachedImages(samples, layout.class_names, cache_size, skip_bad_images))
        if lost := set(range(len(layout.class_names))) - set(parts[-1].targets):
            raise DataError(f"{name}: all images of class {layout.class_names[min(lost)]} are "
                            "broken; replace them")
    skipped = [file for part in parts for file in part.skipped]
    bad = f"{len(skipped)} bad images left out" if skipped else ""
    val = parts[1] if layout.val else None
    note = _note(name, parts[0], val, parts[-1], origin, layout.words, bad)
    return ImageData(name, parts[0], parts[-1], layout.class_names, note, skipped, flip, image_size,
                     val)


Images = ArrayImages | CachedImages


def _note(name: str, train: Images, val: Images | None, test: Images, *words: str) -> str:
    """One line: how much of it there is, and the words."""
    counts = f"{len(train)} training" + (f", {len(val)} validation" if val else "")
    return (f"{name}: {counts} and {len(test)} test images of {len(train.classes)} classes, "
            + "; ".join(filter(None, words)))


def is_path(name: str, root: Path) -> bool:
    """Whether `load` takes this for the path of a folder, rather than for a name or a folder in the
    data folder."""
    is_plain = os.sep not in name and name not in (".", "..")
    return name not in NAMES and not (is_plain and (root / name).is_dir())


def _resolve(name: str, root: Path) -> tuple[str, Path | None, str]:
    """(name of the data set, its folder, where it comes from in words), fetched or drawn where need
    be. The folder is None where the data lies in the data folder in torchvision's own layout."""
    offline = os.environ.get("VIT_OFFLINE", "0") not in ("", "0")

    # auto: photos, else drawn food with the reason in its note: neither is taken for the other.
    if name == "auto":
        why = "VIT_OFFLINE=1 allows drawn data alone"
        if not offline:
            try:
                return _resolve("photos", root)
            except DataError as error:
                why = str(error).removesuffix(OFFLINE_HINT)
        name, path, origin = _resolve("drawn", root)
        return name, path, f"{origin}, since {why}"

    # What needs no network comes first: drawn sets and the paths of folders.
    if name in drawn.SETS:
        with writing_to(root):
            path = drawn.write_set(name, root)
        return name, path, f"drawn in {path}"
    if is_path(name, root):
        path = Path(name).expanduser()
        if path.is_file():
            raise DataError(f"{name} is a file; unpack it, and name the folder")
        if not path.is_dir():
            raise DataError(f"{name} is neither a data set nor a folder; "
                            f"known are {', '.join(NAMES)}, each folder in {root}, "
                            "and the path of any folder with train/ and test/ in it")
        return path.resolve().name, path, f"from {path}"

    # Offline, even data that lies here is refused: results must not depend on the machine.
    if offline:
        raise DataError(f"{name}: VIT_OFFLINE=1 allows drawn data alone; "
                        f"unset it, or take {', '.join(drawn.SETS)}")

    # A folder of that name in our own layout goes before torchvision's set, and before a download.
    path = root / ARCHIVES.get(name, name)
    if name in TORCHVISION_SETS and not (path / "train").is_dir():
        return name, None, _fetch_torchvision(name, root)
    if name in ARCHIVES and not holds_files(path):
        return name, path, f"from {_fetch_archive(name, path)}"
    return name, path, f"from {path}"


def _mirrored(archive: str) -> list[str]:
    """[address of an archive under VIT_MIRROR], or [] where there is no mirror."""
    mirror = os.environ.get("VIT_MIRROR")
    return [f"{mirror.rstrip('/')}/{archive}"] if mirror else []


def _fetch_archive(name: str, path: Path) -> str:
    """Install an archive of ARCHIVES, from the mirror or else the public address; returns which."""
    problems: list[str] = []
    for source in [*_mirrored(f"{path.name}.zip"), f"{PUBLIC_ADDRESS}/{path.name}.zip"]:
        try:
            install(source, path)
            return "; ".join([source, *problems])  # a mirror that failed is named: the user set it
        except DataError as error:
            problems.append(str(error))
    raise DataError(f"{name} cannot be had: {'; '.join(problems)}{OFFLINE_HINT}")


def _fetch_torchvision(name: str, root: Path) -> str:
    """Have torchvision download a data set whose folder is not there yet; returns where the data
    comes from."""
    kind, layout, archives = TORCHVISION_SETS[name]
    if (root / layout).is_dir():
        return f"from {root / layout}"
    # In a temporary folder that is renamed when whole, as in `downloads.install`.
    with writing_to(root), tempfile.TemporaryDirectory(prefix=f".{name}-", dir=root) as temporary:
        # torchvision downloads nothing that lies where it looks for it with the right checksum, so
        # the mirror's archives are laid there. What the mirror lacks comes from the public address.
        for archive in archives:
            with contextlib.suppress(DataError):
                for source in _mirrored(archive):
                    target = Path(temporary) / archive
                    target.parent.mkdir(parents=True, exist_ok=True)
                    if (local := fetch(source, target)) != target:
                        shutil.copyfile(local, target)
        try:
            kind(temporary, download=True)
        except (RuntimeError, urllib.error.URLError, ConnectionError, TimeoutError) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"{name} cannot be had: {reason}; check the network{OFFLINE_HINT}"
                            ) from None
        if not (root / layout).is_dir():  # else another process was faster
            os.rename(Path(temporary) / layout, root / layout)
    return f"through torchvision, now in {root / layout}"


@contextlib.contextmanager
def _opening(folder: Path) -> Iterator[None]:
    """Turns an error inside into a DataError: the data of this folder is not whole."""
    try:
        yield
    except Exception as error:  # on a broken file, torchvision's readers and ours raise anything
        reason = " ".join(str(error).split())
        raise DataError(f"{folder} is not whole ({reason}); "
                        "delete it to have it downloaded again") from None


def _open_arrays(name: str, root: Path) -> tuple[ArrayImages, ArrayImages]:
    """(train, test) of MNIST or CIFAR in torchvision's layout. Raises DataError where files are
    missing or broken."""
    kind, layout, _ = TORCHVISION_SETS[name]
    with _opening(root / layout):
        train, test = (kind(root, train=is_train) for is_train in (True, False))
        arrays = [np.asarray(part.data) for part in (train, test)]
        targets = [[int(label) for label in part.targets] for part in (train, test)]
    return (ArrayImages(arrays[0], targets[0], train.classes),
            ArrayImages(arrays[1], targets[1], train.classes))


def _list_food101(root: Path) -> Layout:
    """Food-101 in torchvision's layout.

    meta/train.json and meta/test.json hold {class: [image, ...]}, an image as "CLASS/NUMBER"
    without its suffix; as in torchvision, a label is the place of a class among the sorted names
    (Bossard et al., 2014).
    Raises DataError where files are missing or broken.
    """
    folder = root / TORCHVISION_SETS["food101"][1]
    with _opening(folder):
        if not (folder / "images").is_dir():
            raise FileNotFoundError(f"there is no folder {folder / 'images'}")
        train, test = (json.loads((folder / "meta" / name).read_text())
                       for name in ("train.json", "test.json"))
        if missing := set(train) ^ set(test):
            raise ValueError(f"only one of train.json and test.json has the class {min(missing)}")
        classes = sorted(train)
        label_of = {name: label for label, name in enumerate(classes)}
        train_samples, test_samples = (
            [(folder.joinpath("images", *f"{image}.jpg".split("/")), label_of[name])
             for name, images in part.items() for image in images] for part in (train, test))
    return Layout(train_samples, [], test_samples, classes, folder, "")
