"""Where data lies, which images a folder of classes holds, which of them are held out."""
import os
from pathlib import Path, PurePosixPath

import torch
from torch.utils.data import Subset

from going_modular.datasets.images import DataError, ImageSet, labels
from going_modular.utils import project_folder

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


def data_folder(folder: str | Path | None = None) -> Path:
    """Where data lies: `folder`, else VIT_DATA, else data/ beside the nearest going_modular/ at or
    above the working folder, else data/ in the working folder."""
    if folder := folder or os.environ.get("VIT_DATA"):
        return Path(folder).expanduser()
    return project_folder() / "data"


def is_visible(path: Path | PurePosixPath) -> bool:
    """Whether no part of a relative path is hidden, or is the folder of metadata that macOS puts
    into its archives."""
    return not any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def images_in(folder: Path) -> list[Path]:
    """The image files in a folder and in all folders inside, by their endings, sorted by name."""
    # is_file() also leaves out pipes, which a reader would wait for.
    return sorted(path for path in folder.rglob("*")
                  if path.suffix.lower() in IMAGE_SUFFIXES
                  and is_visible(path.relative_to(folder)) and path.is_file())


def list_images(folder: str | Path) -> tuple[list[tuple[Path, int]], list[str]]:
    """The images of FOLDER/CLASS/ -> (list of (path, label), class names), both sorted by name.
    Hidden files and __MACOSX are no data.

    Raises DataError where the folder is missing, or it or one of its classes has no images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; "
                        "a data set is a folder with train/CLASS/ and test/CLASS/ in it")
    classes = sorted(path.name for path in folder.iterdir()
                     if path.is_dir() and is_visible(path.relative_to(folder)))
    samples, empty = [], []
    for label, name in enumerate(classes):
        files = images_in(folder / name)
        samples += [(path, label) for path in files]
        empty += [] if files else [name]
    if not samples:
        raise DataError(f"{folder} holds no images; "
                        f"put them into {folder}/CLASS/, one folder a class")
    if empty:
        raise DataError(f"{folder / empty[0]} holds no images; "
                        "add some, or delete this class from train/ and test/")
    return samples, classes


def list_train_and_test(
    train_dir: str | Path, test_dir: str | Path,
) -> tuple[list[tuple[Path, int]], list[tuple[Path, int]], list[str]]:
    """The images of two folders -> (training samples, test samples, class names), sorted.

    Raises DataError unless both folders hold the same classes, two or more.
    """
    train, classes = list_images(train_dir)
    test, test_classes = list_images(test_dir)
    # A label is the place of a class among the sorted names: other classes, other labels.
    for here, there, missing in ((test_dir, train_dir, set(classes) - set(test_classes)),
                                 (train_dir, test_dir, set(test_classes) - set(classes))):
        if missing:
            raise DataError(f"{here} lacks the class {min(missing)} of {there}; "
                            "both must hold the same class folders")
    if len(classes) < 2:
        raise DataError(f"{train_dir} holds just one class, {classes[0]}; "
                        "add a folder of images for each other class")
    return train, test, classes


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
