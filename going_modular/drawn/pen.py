"""The pen that draws every picture, and the outlines that it is given.

Points are complex numbers x + iy with y pointing down: a product turns and scales, a sum shifts.
Outlines are arrays of them, mostly about the unit disc; `Pen.at` moves, scales and turns the frame
in which they are drawn, so that one function draws a tomato of any size anywhere.
"""

import cmath
import copy
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TypeVar

import numpy as np
from PIL import Image, ImageDraw

from going_modular.drawn.paints import SHADOW, Colour, clip

Points = np.ndarray | Iterable[complex]
Option = TypeVar("Option")

SUPERSAMPLING = 2  # pictures are drawn this many times larger, then averaged down: smooth edges
SHADOW_FALL = 0.6 + 1j  # where shadows fall in every picture: down and to the right

# Rounded once and kept: the exact values would change grey levels of every picture.
FULL_TURN = 6.2832  # 2 pi
GOLDEN_ANGLE = 2.39996  # pi (3 - sqrt 5), the angle from one seed of a sunflower to the next


class Pen:
    """Draws on a square image, in a frame of its own.

    `origin` (pixels) is the frame's zero and `turn` (pixels, complex) its unit. A new pen has its
    zero in the middle of the image, whose sides are at -1 and 1. `fall` is where shadows fall, in
    the frame's units. Colours are (r, g, b), or (r, g, b, alpha) on an RGB image.
    """

    def __init__(self, image: Image.Image, rng: np.random.Generator):
        self.image, self.rng = image, rng
        self.draw = ImageDraw.Draw(image)
        # PIL mixes a colour with what is there only if it is told to draw in the mode RGBA
        self.blend = ImageDraw.Draw(image, "RGBA") if image.mode == "RGB" else self.draw
        # PIL cuts corners down to whole pixels: the half makes that a rounding, so that the last
        # digit of a coordinate, which differs between machines, seldom moves an edge
        half = image.width / 2
        self.origin, self.turn = complex(half + 0.5, half + 0.5), complex(half)
        self.fall = SHADOW_FALL

    # The frame

    def at(self, place: complex = 0, size: float = 1.0, angle: float = 0.0) -> "Pen":
        """The same pen in a frame moved to `place`, scaled by `size`, turned by `angle` (radians)."""
        pen = copy.copy(self)
        pen.origin = self.origin + self.turn * place
        pen.turn = self.turn * size * unit(angle)
        # the light does not turn with the frame
        pen.fall = SHADOW_FALL * abs(pen.turn) / pen.turn
        return pen

    def pixels(self, points: Points) -> list[float]:
        """[x0, y0, x1, y1, ...] in pixels of the image."""
        if isinstance(points, np.ndarray):
            return (self.turn * points + self.origin).view(np.float64).tolist()
        # for a few points plain Python is faster than an array
        placed = [self.turn * point + self.origin for point in points]
        return [x for point in placed for x in (point.real, point.imag)]

    # Forms

    def canvas(self, colour: Colour) -> ImageDraw.ImageDraw:
        """What draws in this colour: over what is there if it has an alpha, else in place of it."""
        return self.draw if len(colour) == 3 else self.blend

    def fill(self, points: Points, colour: Colour) -> None:
        """A closed form with the corners `points`."""
        self.canvas(colour).polygon(self.pixels(points), fill=colour)

    def line(self, points: Points, colour: Colour, width: float) -> None:
        """An open line through `points`, `width` in units of the frame."""
        width = max(1, round(width * abs(self.turn)))
        self.canvas(colour).line(self.pixels(points), fill=colour, width=width)

    def disc(self, place: complex, radius: float, colour: Colour) -> None:
        """A filled circle, `radius` in units of the frame."""
        centre, radius = self.turn * place + self.origin, radius * abs(self.turn)
        left, top = centre.real - radius, centre.imag - radius
        right, bottom = centre.real + radius, centre.imag + radius
        self.canvas(colour).ellipse((left, top, right, bottom), fill=colour)

    def soft(self, points: np.ndarray, colour: Colour, strength: float) -> None:
        """A form with a soft edge, for shadows and light: drawn on a grid of 32 x 32 and enlarged."""
        shrink = max(1, self.image.width // 32)
        small = Image.new("L", (self.image.width // shrink + 1,) * 2)
        corners = [x / shrink for x in self.pixels(points)]
        ImageDraw.Draw(small).polygon(corners, fill=round(255 * strength))
        # only the part with the form is enlarged, with one cell around it for the edge to fade into
        if found := small.getbbox():
            left, top, right, bottom = found[0] - 1, found[1] - 1, found[2] + 1, found[3] + 1
            shape = (right - left) * shrink, (bottom - top) * shrink
            mask = small.crop((left, top, right, bottom)).resize(shape, Image.Resampling.BILINEAR)
            self.image.paste(colour, (left * shrink, top * shrink), mask)

    def shadow(self, points: np.ndarray, reach: float = 0.08, strength: float = 0.5) -> None:
        """The shadow that `points` throw, down and to the right in every picture."""
        self.soft(points + reach * self.fall, SHADOW, strength)

    def cloud(self, colour: Colour, rows: int, columns: int, strength: float) -> None:
        """Lay smooth random patches of a colour over the image, about `rows` x `columns` of them."""
        grid = (self.rng.random((rows, columns)) * 255 * strength).astype(np.uint8)
        mask = Image.fromarray(grid).resize(self.image.size, Image.Resampling.BILINEAR)
        self.image.paste(colour, mask=mask)

    # Chance

    def between(self, low: float, high: float) -> float:
        """A number between low and high, all equally likely."""
        return low + (high - low) * self.rng.random()

    def pick(self, options: Sequence[Option]) -> Option:
        """One of the options; one that stands twice is twice as likely."""
        return options[int(self.rng.random() * len(options))]

    def chance(self, probability: float) -> bool:
        """True with that probability."""
        return self.rng.random() < probability

    def angle(self) -> float:
        """Any direction, in radians."""
        return self.between(0, 2 * np.pi)

    def tint(self, colour: Colour, amount: int = 22) -> Colour:
        """The colour, a little lighter or darker and a little off in each channel."""
        shift = self.between(-amount, amount)
        r, g, b = (channel + shift + self.between(-amount, amount) / 2 for channel in colour)
        return clip(r), clip(g), clip(b)


# -------------------------------------------------------------------------------------------------
# Points and outlines. What does not depend on chance is computed once and kept.


def unit(angle: float) -> complex:
    """The point of the unit circle at an angle in radians."""
    return cmath.rect(1, angle)


@cache
def circle(n: int) -> np.ndarray:
    """[n] points on the unit circle."""
    return np.exp(2j * np.pi * np.arange(n) / n)


@cache
def superellipse(power: float) -> np.ndarray:
    """[32] points between a square (power 0) and a circle (power 1)."""
    z = circle(32)
    return np.sign(z.real) * abs(z.real) ** power + 1j * np.sign(z.imag) * abs(z.imag) ** power


def rounded_box(width: float, height: float, power: float = 0.35) -> np.ndarray:
    """[32] points of a rectangle with round corners, sides 2 width and 2 height; power 1: an ellipse."""
    corners = superellipse(power)
    return width * corners.real + 1j * height * corners.imag


@cache
def ramp(n: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """[n] numbers from low to high."""
    return np.linspace(low, high, n)


def arc(radius: float, start: float, end: float, n: int = 24) -> np.ndarray:
    """[n] points of an arc, angles in radians."""
    return radius * np.exp(1j * (start + (end - start) * ramp(n)))


def ring(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """One outline around what lies between two closed outlines."""
    return np.concatenate([outer, outer[:1], inner[:1], inner[::-1]])


@cache
def waves(n: int) -> np.ndarray:
    """[3, n] waves that go round 2, 3 and 5 times."""
    return np.stack([circle(n) ** 2, circle(n) ** 3, circle(n) ** 5])


def blob(rng: np.random.Generator, wobble: float = 0.05, n: int = 32) -> np.ndarray:
    """[n] points of an uneven circle: the unit circle with three random waves on its radius."""
    phases = [unit(FULL_TURN * rng.random()) for _ in range(3)]
    return circle(n) * (1 + wobble * (phases @ waves(n)).real)


def spread(rng: np.random.Generator, count: int, radius: float = 1.0) -> list[complex]:
    """`count` places in a disc, evenly spread like the seeds of a sunflower, then shaken."""
    k = np.arange(count) + 0.5
    turns = GOLDEN_ANGLE * k + 2 * np.pi * rng.random()
    places = radius * np.sqrt(k / count) * np.exp(1j * turns)
    shake = rng.random(count) - 0.5 + 1j * (rng.random(count) - 0.5)
    return (places + 0.16 * radius * shake).tolist()


def along(a: complex, b: complex, share: float) -> complex:
    """The point `share` of the way from a to b."""
    return a + (b - a) * share


def chord(points: np.ndarray, height: float) -> tuple[float, float] | None:
    """Left and right end of a closed outline on the line y = height; None if the line misses it."""
    following = np.roll(points, -1)
    crosses = (points.imag < height) != (following.imag < height)
    if not crosses.any():
        return None
    a, b = points[crosses], following[crosses]
    x = a.real + (b.real - a.real) * (height - a.imag) / (b.imag - a.imag)
    return x.min(), x.max()
