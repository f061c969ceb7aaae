"""Where data lies, which images a folder of classes holds, which of them are held out."""
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import torch
from torch.utils.data import Subset

from going_modular.datasets.images import DataError, ImageSet, labels
from going_modular.utils import project_folder

IMAGE_SUFFIXES = {  # in lower case
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".avif", ".heic", ".heif",
    ".hif", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k",
    ".jpx", ".tga", ".ico"}
# What macOS, Python, Synology, Linux and Windows leave in folders.
JUNK = {"__MACOSX", "__pycache__", "@eaDir", "lost+found", "$RECYCLE.BIN",
        "System Volume Information", "Thumbs.db", "desktop.ini", "Desktop.ini"}
SPLITS = {"train": {"train", "training"}, "val": {"val", "valid", "validation"},
          "test": {"test", "testing"}}
# Folders of images that are no classes: splits without classes, and those of object detection.
NO_CLASSES = set.union(*SPLITS.values(), {"images", "labels", "annotations", "masks"})
EXPECTED = "a data set is a folder with train/CLASS/ and test/CLASS/ in it"


def data_folder(folder: str | Path | None = None) -> Path:
    """Where data lies: `folder`, else VIT_DATA, else data/ beside the nearest going_modular/ at or
    above the working folder, else data/ in the working folder."""
    if folder := folder or os.environ.get("VIT_DATA"):
        return Path(folder).expanduser()
    return project_folder() / "data"


def is_visible(path: Path | PurePosixPath) -> bool:
    """Whether no part of a relative path is hidden, or one of JUNK."""
    return not any(part.startswith(".") or part in JUNK for part in path.parts)


def walk(folder: Path, deep: bool = True) -> tuple[list[Path], list[Path]]:
    """(folders, files) in a folder, or at any depth below it, sorted, without hidden ones and JUNK.
    Linked folders are followed, each folder once.

    Raises DataError where the folder is missing or may not be read.
    """
    def refuse(error: OSError) -> None:
        if isinstance(error, PermissionError):
            raise DataError(f"{error.filename}: you may not read this folder; "
                            "change its permissions") from None
        raise DataError(f"{error.filename}: no such folder; {EXPECTED}") from None

    folders: list[Path] = []
    files: list[Path] = []
    seen = set(map(str, Path(os.path.realpath(folder)).parents))
    for here, inner, names in os.walk(folder, onerror=refuse, followlinks=True):
        if (real := os.path.realpath(here)) in seen:  # a link to a folder above it
            inner.clear()
            continue
        seen.add(real)
        inner[:] = [name for name in inner if is_visible(PurePosixPath(name))]
        folders += [Path(here, name) for name in inner]
        files += [Path(here, name) for name in names if is_visible(PurePosixPath(name))]
        if not deep:
            break
    return sorted(folders), sorted(files)


def is_image(path: Path) -> bool:
    """Whether a path has the ending of an image, and is a file: a reader would wait for a pipe."""
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def images_in(folder: Path) -> list[Path]:
    """The image files in a folder and in all folders inside, by their endings, sorted by name."""
    return [file for file in walk(folder)[1] if is_image(file)]


@dataclass
class Listing:
    """The images of each class, and what else lay there."""

    source: Path  # the folder of the classes, or the table that names them
    images: dict[str, list[Path]] = field(default_factory=dict)  # of each class, sorted
    left_out: Counter[str] = field(default_factory=Counter)  # files that are no images, by ending


def list_classes(folder: str | Path) -> Listing:
    """The images of FOLDER/CLASS/, at any depth in it. Where FOLDER holds but one folder, which
    again holds folders, those are the classes.

    Raises DataError where the folder is missing, or it or one of its classes has no images.
    """
    folder = Path(folder)
    folders, files = walk(folder, deep=False)
    while len(folders) == 1 and not any(map(is_image, files)) and walk(folders[0], deep=False)[0]:
        folder = folders[0]
        folders, files = walk(folder, deep=False)
    if folders and all(path.name.lower() in NO_CLASSES for path in folders):
        raise DataError(f"{folder} holds {', '.join(path.name for path in folders)}, but no class "
                        f"folders; put images into {folder}/CLASS/, one folder a class")
    listing, empty = Listing(folder), {}
    for path in folders:
        images, others = _images_and_others(walk(path)[1])
        listing.images[path.name] = images
        listing.left_out += others
        if not images:
            empty[path] = others
    if len(empty) == len(folders):
        others = sum(empty.values(), _images_and_others(files)[1])
        raise DataError(f"{folder} holds no images{_but(others)}; "
                        f"put them into {folder}/CLASS/, one folder a class")
    if empty:
        path, others = next(iter(empty.items()))
        remedy = ("save those as JPEG or PNG, or move this folder away" if others
                  else "add some, or delete this class from train/ and test/")
        raise DataError(f"{path} holds no images{_but(others)}; {remedy}")
    return listing


def _images_and_others(files: list[Path]) -> tuple[list[Path], Counter[str]]:
    """(those that are images, the number of others by ending)."""
    images = [file for file in files if is_image(file)]
    others = set(files) - set(images)
    return images, Counter(file.suffix.lower() or "no ending" for file in others)


def in_words(endings: Counter[str]) -> str:
    """So many files of each ending: "3 .txt, 1 .psd"."""
    return ", ".join(f"{endings[ending]} {ending}"
                     for ending in sorted(endings, key=lambda ending: (-endings[ending], ending)))


def _but(others: Counter[str]) -> str:
    return f", but {in_words(others)}" if others else ""


def list_images(folder: str | Path) -> tuple[list[tuple[Path, int]], list[str]]:
    """The images of FOLDER/CLASS/ -> (list of (path, label), class names), both sorted by name.

    Raises DataError where the folder is missing, or it or one of its classes has no images.
    """
    images = list_classes(folder).images
    return [(path, label) for label, name in enumerate(sorted(images)) for path in images[name]
            ], sorted(images)


def split(dataset: ImageSet, fraction: float, seed: int) -> tuple[Subset, Subset]:
    """(training part, held-out part): `fraction` of each class is held out, one image or more,
    never all.

    The held-out part is for choosing (the best epoch, a recipe), so that the test set is not. The
    same seed gives the same split. Raises DataError where no class has two images, ValueError where
    fraction is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction is {fraction}; it must lie between 0 and 1")
    targets = torch.tensor(labels(dataset))
    generator = torch.Generator().manual_seed(seed)
    kept, held_out = [], []
    # Class by class, so that both parts have the classes in the proportions of the whole.
    for label in targets.unique():
        indices = (targets == label).nonzero().flatten()
        indices = indices[torch.randperm(len(indices), generator=generator)].tolist()
        count = min(max(1, round(fraction * len(indices))), len(indices) - 1)
        held_out += indices[:count]
        kept += indices[count:]
    if not held_out:
        raise DataError("no class has two training images, so none can be held out; add images")
    return Subset(dataset, sorted(kept)), Subset(dataset, sorted(held_out))
