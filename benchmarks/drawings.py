"""60,000 pictures of 210 classes that no one photographed: ten dishes, 100 things, 100 fractals, at 64 pixels.

`python -m benchmarks.trained drawings` trains on them the model of that name, which comes with the package, and
benchmarks.few_photos says what a training on photos gains from it. Dishes and things are the drawn sets of the package.

A class of fractals (Kataoka et al., 2020) is an iterated function system: a few affine maps of the plane, drawn so that
what they leave is neither a point nor spread out (Anderson and Farrell, 2022). A picture of it shows where many points
come to that are sent through maps picked at random, with the maps changed a little, turned, and in colours of its own.
"""
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from going_modular import drawn

OF_EACH = {"drawn10": 2000, "drawn_things": 200, "fractals": 200}  # pictures of a class to train; a tenth more to test
FRACTALS = 100  # classes
SIZE = 64
POINTS = 2000  # that draw a fractal


def rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def system(rng: np.random.Generator) -> np.ndarray:
    """The maps of a class: [maps, 2, 3], a matrix and a shift each."""
    count = int(rng.integers(2, 6))
    while True:
        stretch = np.sort(rng.uniform(0.1, 1, (count, 2)))[:, ::-1]
        # The weighted sum of the singular values decides how much of the plane is filled.
        stretch = stretch * (5 + count + rng.uniform()) / 2 / (stretch @ [1, 2]).sum()
        if stretch.max() < 1:
            break
    matrices = [rotation(rng.uniform(0, 2 * np.pi)) @ np.diag(pair * rng.choice([-1, 1], 2))
                @ rotation(rng.uniform(0, 2 * np.pi)) for pair in stretch]
    return np.concatenate([np.stack(matrices), rng.uniform(-1, 1, (count, 2, 1))], axis=2)


def draw_fractal(maps: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """A picture of the fractal of these maps: RGB, SIZE x SIZE px."""
    maps = maps * rng.uniform(0.9, 1.1, maps.shape)
    chances = np.abs(np.linalg.det(maps[:, :, :2])) + 0.02
    at, seen = np.zeros((POINTS, 2)), []
    for step in range(40):
        taken = maps[rng.choice(len(maps), POINTS, p=chances / chances.sum())]
        at = np.clip((taken[:, :, :2] @ at[:, :, None])[:, :, 0] + taken[:, :, 2], -1e3, 1e3)
        if step >= 15:
            seen.append(at)
    places = np.concatenate(seen) @ rotation(rng.uniform(0, 2 * np.pi))
    low, high = np.percentile(places, (1, 99), axis=0)
    centre = (low + high) / 2 + rng.uniform(-0.1, 0.1, 2) * (high - low)
    width = (high - low).max() * rng.uniform(0.8, 1.3)
    edges = [np.linspace(middle - width / 2 - 1e-6, middle + width / 2 + 1e-6, SIZE + 1) for middle in centre]
    density = np.log1p(np.histogram2d(*places.T, bins=edges)[0])
    density = (density / max(density.max(), 1e-6))[:, :, None]

    # A background of four colours, one in each corner, and a fractal from one colour to another.
    corners, (dim, bright) = rng.uniform(0, 255, (2, 2, 3)), rng.uniform(0, 255, (2, 3))
    along = np.linspace(0, 1, SIZE)
    rows = corners[0] * (1 - along)[:, None, None] + corners[1] * along[:, None, None]  # [SIZE, 2, 3]
    ground = rows[:, :1] * (1 - along)[None, :, None] + rows[:, 1:] * along[None, :, None]
    ink = dim * (1 - density) + bright * density
    cover = np.minimum(1, density * 3)
    return Image.fromarray((ground * (1 - cover) + ink * cover + rng.normal(0, 4, (SIZE, SIZE, 3))).clip(0, 255)
                           .astype(np.uint8))


def pictures(name: str, split: str, count: int) -> Iterator[tuple[str, int, Image.Image]]:
    """Class name, index and image of each picture of a set."""
    if name != "fractals":
        yield from drawn.draw_set(name, split, count=count, size=SIZE)
        return
    for label in range(FRACTALS):
        maps = system(np.random.default_rng(label))
        for index in range(count):
            yield (f"fractal_{label:02d}", index,
                   draw_fractal(maps, np.random.default_rng([label, split == "test", index])))


def draw_all(folder: Path) -> None:
    """Draw all sets into folder/{train,test}/CLASS/0000.png."""
    for name, count in OF_EACH.items():
        for split, of_class in (("train", count), ("test", count // 10)):
            for class_name, index, image in pictures(name, split, of_class):
                path = folder / split / class_name / f"{index:04d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                image.save(path, compress_level=1)
