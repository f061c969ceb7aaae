"""The drawn data sets: what each one holds, its pictures one by one, on disk or on a contact sheet.

Every picture has a random generator of its own, seeded with (seed, class, split, index): it is the
same on every machine, to within one grey level, and however many others are drawn.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from going_modular.drawn.digits import DIGITS, draw_digit
from going_modular.drawn.dishes import FOOD, draw_food
from going_modular.drawn.things import THINGS, draw_thing

SPLITS = ("train", "test")


@dataclass(frozen=True)
class DrawnSet:
    """What a data set holds, and what draws a picture of it."""

    classes: tuple[str, ...]  # in the order of their labels
    size: int  # pixels a side
    mode: str  # PIL's: "RGB" or "L"
    train: int  # pictures of each class
    test: int
    draw: Callable[[str, np.random.Generator, int], Image.Image]  # of class name, generator, size


SETS: dict[str, DrawnSet] = {
    "drawn": DrawnSet(FOOD[:3], 64, "RGB", 800, 200, draw_food),
    "drawn10": DrawnSet(FOOD, 64, "RGB", 250, 50, draw_food),
    "drawn_digits": DrawnSet(DIGITS, 28, "L", 500, 100, draw_digit),
    "drawn_things": DrawnSet(THINGS, 32, "RGB", 80, 20, draw_thing),
}


def find_set(name: str) -> DrawnSet:
    """The set of that name. ValueError for a name that is not in SETS."""
    if name not in SETS:
        raise ValueError(f"unknown drawn data set {name!r}; known are {', '.join(SETS)}")
    return SETS[name]


def draw_picture(
    drawn: DrawnSet, label: int, split: str, index: int, seed: int, size: int | None
) -> Image.Image:
    """Picture `index` of a class (by its label) and a split, `size` px a side or as the set says."""
    rng = np.random.Generator(np.random.PCG64([seed, label, SPLITS.index(split), index]))
    return drawn.draw(drawn.classes[label], rng, size or drawn.size)


def draw_set(
    name: str, split: str, seed: int = 0, count: int | None = None, size: int | None = None
) -> Iterator[tuple[str, int, Image.Image]]:
    """Yield (class name, index, image), class by class.

    `count` pictures of each class, `size` px a side; where they are None, what SETS says. Whatever
    the count, picture `index` of a class is the same. ValueError for an unknown set or split.
    """
    drawn = find_set(name)
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; known are {', '.join(SPLITS)}")
    if count is None:
        count = drawn.train if split == "train" else drawn.test
    for label, class_name in enumerate(drawn.classes):
        for index in range(count):
            yield class_name, index, draw_picture(drawn, label, split, index, seed, size)


def write_set(name: str, folder: Path | str, seed: int = 0) -> Path:
    """Draw a whole set into folder/NAME/{train,test}/CLASS/0000.png and return folder/NAME.

    The files are written into a temporary folder beside it, which is renamed when complete:
    folder/NAME is there completely or not at all. Where it is there, it is returned as it is,
    whatever its seed. ValueError for an unknown set.
    """
    find_set(name)  # before anything is made on disk
    target = Path(folder) / name
    if all((target / split).is_dir() for split in SPLITS):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    # in the same folder, so that the rename stays on one disk and happens at once
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=target.parent) as temporary:
        fresh = Path(temporary) / name
        for split in SPLITS:
            for class_name, index, image in draw_set(name, split, seed):
                path = fresh / split / class_name / f"{index:04d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                # the pictures have grain, which hardly compresses: the fastest level will do
                image.save(path, compress_level=1)
        try:
            fresh.rename(target)
        except OSError:  # another process was faster
            if not all((target / split).is_dir() for split in SPLITS):
                raise
    return target


def sheet(
    name: str,
    columns: int | None = None,
    rows: int = 6,
    seed: int = 0,
    size: int | None = None,
    gap: int = 3,
) -> Image.Image:
    """A contact sheet of training pictures of a set, `size` px each, with `gap` px of white between.

    The classes follow one another row by row, over and over; by default there is a column for each
    class, but ten at most. ValueError for an unknown set.
    """
    drawn = find_set(name)
    columns = columns or min(10, len(drawn.classes))
    size = size or drawn.size
    width, height = columns * (size + gap) - gap, rows * (size + gap) - gap
    paper = Image.new(drawn.mode, (width, height), "white")
    for cell in range(columns * rows):
        index, label = divmod(cell, len(drawn.classes))
        corner = cell % columns * (size + gap), cell // columns * (size + gap)
        paper.paste(draw_picture(drawn, label, "train", index, seed, size), corner)
    return paper
