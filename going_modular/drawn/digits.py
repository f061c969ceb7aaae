"""Digits as if written by hand: one of the ways to write each, then the slant and shaking of a hand."""

from functools import cache

import numpy as np
from PIL import Image

from going_modular.drawn.pen import SUPERSAMPLING, Pen

# The ways to write each digit: points x,y in hundredths of half its height, 0,0 in the middle and
# -100 at the top; | lifts the pen, a point twice is a corner.
STROKES: dict[str, tuple[str, ...]] = {
    "0": ("15,-95 -35,-75 -55,0 -30,80 10,95 50,45 50,-35 20,-90 -10,-90",),
    "1": (
        "0,-100 5,0 0,100",
        "-35,-60 5,-100 5,-100 2,0 5,100",
        "-30,-65 5,-100 5,-100 5,95 | -38,97 45,97",
    ),
    "2": (
        "-50,-50 -20,-95 35,-85 42,-35 0,25 -55,95 -55,95 60,90",
        "-50,-60 -10,-98 40,-70 30,-10 -20,70 -50,85 -50,50 -10,70 60,95",
    ),
    "3": (
        "-45,-75 0,-98 42,-60 20,-15 -10,0 -10,0 40,15 50,55 10,97 -50,75",
        "-45,-93 42,-93 42,-93 -10,-10 -10,-10 42,20 40,70 -5,97 -50,80",
    ),
    "4": (
        "-35,-90 -50,15 -50,15 55,10 | 30,-80 25,0 20,100",
        "30,-98 -60,30 -60,30 60,25 | 30,-98 28,0 25,100",
    ),
    "5": (
        "50,-93 -40,-93 -40,-93 -45,-10 -45,-10 10,-25 50,20 30,80 -10,97 -50,75",
        "-30,-90 -42,-10 -42,-10 20,-20 48,30 20,88 -50,85 | -30,-90 50,-95",
    ),
    "6": ("35,-97 -20,-55 -50,20 -30,85 15,92 45,50 20,10 -20,15 -45,50",),
    "7": (
        "-50,-88 50,-90 50,-90 10,0 -15,100",
        "-50,-65 -50,-90 -50,-90 50,-88 50,-88 15,0 5,100",
        "-50,-88 50,-90 50,-90 10,0 -15,100 | -20,8 42,0",
    ),
    "8": (
        "35,-70 -5,-97 -40,-65 2,-8 45,50 0,97 -45,52 -8,0 38,-50 30,-80",
        "0,-97 -38,-55 0,-5 38,-55 0,-97 | 0,-5 -45,50 0,97 45,50 0,-5",
    ),
    "9": (
        "40,-60 0,-95 -45,-50 -10,-8 35,-40 42,-75 42,-75 35,20 20,100",
        "40,-60 5,-95 -42,-50 -5,-10 38,-50 42,0 25,80 -35,90",
    ),
}
DIGITS: tuple[str, ...] = tuple(STROKES)


@cache
def control_points(way: str) -> list[np.ndarray]:
    """One complex array for each stroke of an entry of STROKES."""
    return [
        np.array([complex(*map(int, point.split(","))) for point in stroke.split()]) / 100
        for stroke in way.split("|")
    ]


@cache
def spline(count: int, steps: int = 24) -> np.ndarray:
    """[samples, count] weights of a Catmull-Rom spline through `count` control points.

    Their product with the points is a smooth curve through them, with `steps` samples from one to
    the next. The first and the last point also stand for those that are missing beyond them.
    """
    rows = []
    for segment in range(count - 1):
        # the last segment has one sample more, its end
        for t in np.arange(steps + (segment == count - 2)) / steps:
            row = np.zeros(count)
            # what the points before, at the start, at the end and after the segment weigh, times 2
            shares = (
                -t + 2 * t**2 - t**3,
                2 - 5 * t**2 + 3 * t**3,
                t + 4 * t**2 - 3 * t**3,
                t**3 - t**2,
            )
            for k, share in enumerate(shares):
                row[min(max(segment - 1 + k, 0), count - 1)] += share / 2
            rows.append(row)
    return np.array(rows)


def draw_digit(digit: str, rng: np.random.Generator, size: int = 28) -> Image.Image:
    """A digit as if written by hand, white on black: "L", size x size px.

    ValueError for one that is not in DIGITS.
    """
    if digit not in STROKES:
        raise ValueError(f"unknown digit {digit!r}; known are {', '.join(DIGITS)}")
    image = Image.new("L", (size * SUPERSAMPLING, size * SUPERSAMPLING))
    pen = Pen(image, rng)
    place = pen.between(-0.1, 0.1) + 1j * pen.between(-0.1, 0.1)
    pen = pen.at(place, pen.between(0.6, 0.78), pen.between(-0.16, 0.16))

    # the hand: one for all strokes of the digit
    slant, width, wobble = pen.between(-0.15, 0.45), pen.between(0.75, 1.2), pen.between(0.01, 0.09)
    thick, pressure = pen.between(0.09, 0.17), pen.between(0, 0.25)
    for points in control_points(pen.pick(STROKES[digit])):
        # each control point is shaken a little, both points of a corner alike: it stays a corner
        shake = wobble * (2 * rng.random((2, len(points))) - 1)
        twice = np.flatnonzero(points[1:] == points[:-1])
        shake[:, twice + 1] = shake[:, twice]
        points = points + shake[0] + 1j * shake[1]
        points = width * points.real - slant * points.imag + 1j * points.imag
        curve = spline(len(points)) @ points

        # a stroke is a row of discs that overlap; its thickness rises and falls along the way
        swell = thick * (1 + pressure * np.sin(np.linspace(0, 6, len(curve)) + pen.angle()))
        x, y = np.array(pen.pixels(curve)).reshape(-1, 2).T
        radius = np.maximum(1, np.rint(swell * abs(pen.turn)))
        for corners in np.stack([x - radius, y - radius, x + radius, y + radius], 1).tolist():
            pen.draw.ellipse(corners, fill=255)
    ink = np.asarray(image.reduce(SUPERSAMPLING), np.float32) * pen.between(0.8, 1.0)
    return Image.fromarray(np.rint(ink).astype(np.uint8))
