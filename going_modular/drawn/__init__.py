"""Pictures that are drawn by code, so that every notebook runs without a network: food, digits and things.

Form tells the classes apart. Light, background, plates, garnish and clutter come from the same pools for all dishes, so
that colour alone tells little. Every picture has a random generator of its own, seeded with (seed, class, split,
index): it is the same on every machine, to within one grey level, and however many others are drawn.

Points are complex numbers x + iy with y pointing down: a product turns and scales, a sum shifts.
"""

import cmath
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SCALE = 2  # pictures are drawn this many times larger, then averaged down: smooth edges
SHADOW, DUSK = 0.6 + 1j, (12, 8, 16)  # where shadows fall, and their colour
SPLITS = ("train", "test")

# ---------------------------------------------------------------------------------------------------------------------
# Pen and points


class Pen:
    """Draws on a square image in a frame of its own: `origin` (pixels) is its zero, `turn` (pixels, complex) its unit.

    Colours are (r, g, b), or (r, g, b, alpha) on an RGB image; `fall` is where shadows fall, in the frame's units.
    PIL cuts corners down to whole pixels of the enlarged image: the half in the first origin makes that a rounding, and
    no machine's last digit moves an edge.
    """

    def __init__(self, image: Image.Image, rng: np.random.Generator):
        self.image, self.rng = image, rng
        self.draw = ImageDraw.Draw(image)
        self.blend = ImageDraw.Draw(image, "RGBA") if image.mode == "RGB" else self.draw
        half = image.width / 2
        self.origin, self.turn = complex(half + 0.5, half + 0.5), complex(half)
        self.fall = SHADOW

    def at(self, place: complex = 0, size: float = 1.0, angle: float = 0.0) -> "Pen":
        """The same pen in a frame moved to `place`, scaled by `size` and turned by `angle` (radians)."""
        pen = object.__new__(Pen)
        turn = self.turn * size * unit(angle)
        fall = SHADOW * abs(turn) / turn
        pen.__dict__ = self.__dict__ | {"origin": self.origin + self.turn * place, "turn": turn, "fall": fall}
        return pen

    def pixels(self, points) -> list[float]:
        """[x0, y0, x1, y1, ...] in pixels of the image."""
        if isinstance(points, np.ndarray):
            return (self.turn * points + self.origin).view(np.float64).tolist()
        placed = [self.turn * point + self.origin for point in points]
        return [x for point in placed for x in (point.real, point.imag)]

    def fill(self, points, colour: tuple) -> None:
        """A closed form with the corners `points`."""
        (self.draw if len(colour) == 3 else self.blend).polygon(self.pixels(points), fill=colour)

    def line(self, points, colour: tuple, width: float) -> None:
        """An open line through `points`, `width` in units of the frame."""
        width = max(1, round(width * abs(self.turn)))
        (self.draw if len(colour) == 3 else self.blend).line(self.pixels(points), fill=colour, width=width)

    def disc(self, place: complex, radius: float, colour: tuple) -> None:
        centre, radius = self.turn * place + self.origin, radius * abs(self.turn)
        corners = (centre.real - radius, centre.imag - radius, centre.real + radius, centre.imag + radius)
        (self.draw if len(colour) == 3 else self.blend).ellipse(corners, fill=colour)

    def soft(self, points: np.ndarray, colour: tuple, strength: float) -> None:
        """A form without a hard edge, for shadows and light: drawn on a grid of 32 x 32 and enlarged."""
        shrink = max(1, self.image.width // 32)
        small = Image.new("L", (self.image.width // shrink + 1,) * 2)
        corners = [x / shrink for x in self.pixels(points)]
        ImageDraw.Draw(small).polygon(corners, fill=round(255 * strength))
        if found := small.getbbox():
            left, top, right, bottom = found[0] - 1, found[1] - 1, found[2] + 1, found[3] + 1
            shape = (right - left) * shrink, (bottom - top) * shrink
            mask = small.crop((left, top, right, bottom)).resize(shape, Image.Resampling.BILINEAR)
            self.image.paste(colour, (left * shrink, top * shrink), mask)

    def shadow(self, points: np.ndarray, reach: float = 0.08, strength: float = 0.5) -> None:
        """The shadow that `points` throw, down and to the right in every picture."""
        self.soft(points + reach * self.fall, DUSK, strength)

    def cloud(self, colour: tuple, rows: int, columns: int, strength: float) -> None:
        """Lay smooth random patches of a colour over the whole image, about `rows` x `columns` of them."""
        grid = (self.rng.random((rows, columns)) * 255 * strength).astype(np.uint8)
        self.image.paste(colour, mask=Image.fromarray(grid).resize(self.image.size, Image.Resampling.BILINEAR))

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.rng.random()

    def pick(self, options):
        return options[int(self.rng.random() * len(options))]

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def angle(self) -> float:
        return self.between(0, 2 * np.pi)

    def tint(self, colour: tuple, amount: int = 22) -> tuple:
        """The colour, a little lighter or darker and a little off in each channel."""
        shift = self.between(-amount, amount)
        r, g, b = (channel + shift + self.between(-amount, amount) / 2 for channel in colour)
        return clip(r), clip(g), clip(b)


def clip(value: float) -> int:
    return min(255, max(0, int(value)))


def mix(a: tuple, b: tuple, share: float) -> tuple:
    """The colour `share` of the way from a to b."""
    return int(a[0] + (b[0] - a[0]) * share), int(a[1] + (b[1] - a[1]) * share), int(a[2] + (b[2] - a[2]) * share)


def darker(colour: tuple, share: float = 0.3) -> tuple:
    return mix(colour, (20, 10, 15), share)


def lighter(colour: tuple, share: float = 0.3) -> tuple:
    return mix(colour, (255, 250, 235), share)


def unit(angle: float) -> complex:
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


def box(width: float, height: float, power: float = 0.35) -> np.ndarray:
    """[32] points of a rectangle with round corners, `width` x `height` half sides; power 1 is an ellipse."""
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
    phases = [unit(6.2832 * rng.random()) for _ in range(3)]
    return circle(n) * (1 + wobble * (phases @ waves(n)).real)


def spread(rng: np.random.Generator, count: int, radius: float = 1.0) -> list[complex]:
    """`count` places in a disc, evenly spread like the seeds of a sunflower, then shaken."""
    k = np.arange(count) + 0.5
    turns = 2.39996 * k + 2 * np.pi * rng.random()
    places = radius * np.sqrt(k / count) * np.exp(1j * turns)
    return (places + 0.16 * radius * (rng.random(count) - 0.5 + 1j * (rng.random(count) - 0.5))).tolist()


def chord(points: np.ndarray, height: float) -> tuple[float, float] | None:
    """Left and right end, on the line y = height, of a closed outline; None where the line misses it."""
    following = np.roll(points, -1)
    crosses = (points.imag < height) != (following.imag < height)
    if not crosses.any():
        return None
    a, b = points[crosses], following[crosses]
    x = a.real + (b.real - a.real) * (height - a.imag) / (b.imag - a.imag)
    return x.min(), x.max()


# ---------------------------------------------------------------------------------------------------------------------
# What all dishes share: colours, tables, plates, garnish, clutter

WHITE, CREAM, BUTTER, GOLD, ORANGE = (246, 243, 236), (243, 226, 190), (250, 214, 110), (222, 160, 70), (238, 128, 50)
RED, TOMATO, PINK, PLUM, BROWN = (188, 40, 36), (214, 62, 40), (240, 150, 150), (112, 40, 70), (122, 70, 38)
CHAR, NORI, SLATE, SKY, NAVY = (54, 36, 30), (30, 42, 36), (78, 84, 92), (140, 186, 214), (44, 62, 110)
LEAF, LIME, OLIVE, MINT, SAND = (62, 120, 46), (150, 190, 70), (108, 112, 44), (150, 206, 176), (206, 182, 146)

TABLES = (WHITE, CREAM, GOLD, TOMATO, PINK, PLUM, BROWN, CHAR, SLATE, SKY, NAVY, LEAF, LIME, MINT, SAND, BROWN, SAND)
PLATES = (WHITE, WHITE, WHITE, CREAM, SLATE, SKY, NAVY, MINT, PINK, GOLD, CHAR, SAND, TOMATO, OLIVE)
BITES = (RED, TOMATO, ORANGE, BUTTER, LEAF, LIME, WHITE, PINK, NORI, BROWN, PLUM, CREAM)


def table(pen: Pen) -> None:
    """Fill the image with a surface: planks, checks, stripes, marble, tiles, dots or plain cloth or stone."""
    base = pen.tint(pen.pick(TABLES), 30)
    other = pen.pick((lighter, darker))(base, pen.between(0.1, 0.35))
    if pen.chance(0.15):
        other = pen.tint(pen.pick(TABLES), 30)
    pen.image.paste(base, (0, 0, *pen.image.size))
    kind = pen.pick(("planks", "planks", "checks", "stripes", "marble", "tiles", "dots", "plain", "plain"))
    pen = pen.at(pen.between(-0.2, 0.2), pen.between(0.7, 1.3), pen.angle())
    step = pen.between(0.22, 0.5)
    rows = np.arange(-2.2, 2.2, step).tolist()
    if kind in ("planks", "tiles"):
        for y in rows:
            if kind == "planks":
                board = -3 + 1j * y, 3 + 1j * y, 3 + 1j * (y + step), -3 + 1j * (y + step)
                pen.fill(board, mix(base, other, 0.5 * pen.rng.random()))
                pen.line([1j * (y + step / 3) - 3, 1j * (y + step / 2) + 3], (*darker(base), 70), 0.015)
            pen.line([-3 + 1j * y, 3 + 1j * y], darker(base, 0.3), 0.025)
            if kind == "tiles":
                pen.line([y - 3j, y + 3j], darker(base, 0.3), 0.025)
    elif kind in ("checks", "stripes"):
        share = pen.between(0.3, 0.6) * step
        for y in rows:
            band = np.array([-3, 3, 3 + share * 1j, -3 + share * 1j]) + 1j * y
            pen.fill(band, (*other, 150))
            if kind == "checks":
                pen.fill(band * 1j, (*other, 150))
    elif kind == "dots":
        for y in rows:
            for x in rows:
                pen.disc(x + 1j * y, 0.2 * step, other)
    elif kind == "marble":
        for _ in range(4):
            steps = pen.rng.random(9) * 0.5 - 0.25
            pen.line(ramp(9, -2, 2) + 1j * (np.cumsum(steps) + pen.between(-1.5, 1.5)), (*other, 150), 0.03)
    pen.cloud(darker(base, 0.6), *pen.pick(((4, 4), (3, 24), (24, 3), (16, 16), (40, 40))), pen.between(0.2, 0.5))


def plate(pen: Pen) -> None:
    """Something to serve on, about the unit disc: a plate, a dish with corners, a board, a slate, paper or nothing."""
    kind = pen.pick(("plate", "plate", "plate", "square", "board", "board", "paper", "nothing"))
    base = pen.tint(pen.pick(PLATES))
    if kind == "plate":
        pen.shadow(circle(40), 0.1)
        pen.disc(0, 1, darker(base, 0.15))
        pen.disc(-0.01 * pen.fall, 0.98, base)
        well = pen.between(0.66, 0.8)
        if pen.chance(0.4):
            pen.disc(0, 0.95, pen.tint(pen.pick(PLATES)))
            pen.disc(0, pen.between(0.86, 0.93), base)
        pen.disc(0, well, darker(base, 0.12))
        pen.disc(0.02 * well * pen.fall, 0.97 * well, lighter(base, 0.15))
    elif kind != "nothing":
        if kind == "board":
            base = pen.tint(pen.pick((GOLD, BROWN, SAND, CHAR, SLATE)))
        corner = {"square": 0.4, "board": 0.2, "paper": 0.05}[kind]
        width, height = pen.pick(((0.9, 0.9), (1.05, 0.75), (1.15, 0.65)))
        outline = box(width, height, corner)
        pen.shadow(outline, 0.1)
        if kind == "board":
            pen.fill(outline + 0.02 + 0.04j, darker(base, 0.4))
        pen.fill(outline, base)
        if kind == "square":
            pen.fill(0.86 * outline, darker(base, 0.13))
            pen.fill(0.85 * outline + 0.008 + 0.012j, lighter(base, 0.12))
        for y in () if kind == "square" else (-0.6, -0.3, 0.05, 0.3, 0.62):
            grain = 0.9 * width * np.array([-1, 1]) + 1j * height * (y + np.array([0, 0.04]))
            pen.line(grain, darker(base, 0.14), 0.015 if kind == "board" else 0.03)


def leaf(pen: Pen) -> None:
    green = pen.tint(pen.pick((LEAF, LEAF, LIME, OLIVE, MINT, PLUM)))
    outline = np.concatenate([arc(1.3, -2.4, -0.75, 7) + 0.9j, arc(1.3, 0.75, 2.4, 7) - 0.9j])
    pen.fill(outline + 0.08 + 0.1j, (*DUSK, 80))
    pen.fill(outline, green)
    pen.line([-0.9, 0.9], lighter(green), 0.09)


def tomato(pen: Pen) -> None:
    red = pen.tint(pen.pick((TOMATO, RED, ORANGE, BUTTER, LIME)))
    pen.disc(0.14 * pen.fall, 1, (*DUSK, 80))
    pen.disc(0, 1, darker(red, 0.2))
    pen.disc(-0.05 - 0.06j, 0.9, red)
    pen.disc(-0.35 - 0.4j, 0.2, lighter(red, 0.7))


CITRUS = np.array([0.12, 0.72 * unit(-0.33), 0.76, 0.72 * unit(0.33)])


def citrus(pen: Pen) -> None:
    rind = pen.tint(pen.pick((BUTTER, LIME, ORANGE, PINK, LEAF)))
    pen.disc(0.14 * pen.fall, 1, (*DUSK, 80))
    pen.disc(0, 1, rind)
    pen.disc(0, 0.84, lighter(rind, 0.75))
    for k in range(7):
        pen.fill(CITRUS * unit(0.898 * k), lighter(rind, 0.2))


def heap(pen: Pen) -> None:
    """A little pile of something: ginger, wasabi, slaw, mash."""
    base = pen.tint(pen.pick(BITES))
    pen.fill(1.05 * blob(pen.rng, 0.12, 16) + 0.12 + 0.16j, (*DUSK, 80))
    for place in spread(pen.rng, 3, 0.5):
        pen.fill(place + 0.6 * blob(pen.rng, 0.15, 10), lighter(base, 0.35 * pen.rng.random()))


def dip(pen: Pen) -> None:
    """A small round bowl of sauce."""
    bowl, sauce = pen.tint(pen.pick(PLATES)), pen.tint(pen.pick(BITES + (CHAR, BROWN)))
    pen.disc(0.14 * pen.fall, 1, (*DUSK, 90))
    pen.disc(0, 1, bowl)
    pen.disc(0, 0.82, darker(bowl))
    pen.disc(0.03 + 0.04j, 0.76, sauce)
    pen.line(arc(0.5, 3.4, 4.6, 6), lighter(sauce, 0.5), 0.1)


def greens(pen: Pen) -> None:
    """A bundle of beans or asparagus or chives."""
    green = pen.tint(pen.pick((LEAF, LIME, OLIVE, BUTTER, ORANGE, GOLD)))
    for y in (-0.6, -0.3, 0, 0.3, 0.6):
        start, end = pen.between(-1.2, -0.8) + 1j * y, pen.between(0.8, 1.2) + 1j * (y + pen.between(-0.3, 0.3))
        pen.line([start + 0.1j, end + 0.1j], (*DUSK, 80), 0.25)
        pen.line([start, end], mix(green, lighter(green), pen.rng.random()), 0.22)


GARNISH = (leaf, leaf, leaf, tomato, citrus, heap, dip, greens, greens)


def garnish(pen: Pen, places, size: float = 0.2) -> None:
    """Put something small at each of the places."""
    for place in places:
        pen.pick(GARNISH)(pen.at(place, size * pen.between(0.75, 1.2), pen.angle()))


def crumbs(pen: Pen, count: int = 12) -> None:
    colour = pen.tint(pen.pick(BITES))
    for place in spread(pen.rng, count, 1.4):
        pen.disc(place, 0.02, colour)


def cutlery(pen: Pen) -> None:
    """A fork, a knife or a spoon along x, two units long."""
    metal = pen.tint(pen.pick((WHITE, SLATE, GOLD, SAND)))
    kind = pen.pick(("fork", "knife", "spoon"))
    layers = (0.08 * pen.fall, (*DUSK, 90), 0.09), (0, metal, 0.09), (-0.012j, lighter(metal, 0.5), 0.03)
    for shift, colour, width in layers:
        pen.line([shift - 1, shift + 0.4], colour, width)
        if kind == "knife":
            pen.fill(shift + np.array([0.2 - 0.08j, 0.95 - 0.08j, 1.05, 0.9 + 0.07j, 0.2 + 0.05j]), colour)
        elif kind == "spoon":
            pen.fill(shift + 0.65 + box(0.3, 0.17, 1.0) * width / 0.09, colour)
        else:
            for y in (-0.12j, -0.04j, 0.04j, 0.12j):
                pen.line([shift + 0.4, shift + 0.55 + y, shift + 1 + y], colour, 0.4 * width)


def chopsticks(pen: Pen) -> None:
    wood = pen.tint(pen.pick((CHAR, RED, GOLD, SAND, NORI, SKY)))
    for y in (-0.09j, pen.between(0.02, 0.14) * 1j):
        stick = np.array([-1.3 + 2 * y - 0.05j, 1.2 + y - 0.02j, 1.2 + y + 0.02j, -1.3 + 2 * y + 0.05j])
        pen.fill(stick + 0.06 + 0.07j, (*DUSK, 90))
        pen.fill(stick, wood)
        pen.line([-1.3 + 2 * y - 0.02j, 1.1 + y], lighter(wood, 0.4), 0.02)


def glass(pen: Pen) -> None:
    drink = pen.tint(pen.pick((WHITE, SKY, GOLD, RED, ORANGE, LIME, CHAR)))
    pen.disc(0.12 * pen.fall, 0.55, (*DUSK, 90))
    pen.disc(0, 0.55, lighter(drink, 0.6))
    pen.disc(0, 0.49, drink)
    pen.line(arc(0.38, 3.3, 4.7, 8), lighter(drink, 0.7), 0.07)


def napkin(pen: Pen) -> None:
    cloth = pen.tint(pen.pick(TABLES))
    outline = box(0.75, 0.75, 0.08)
    pen.fill(outline + 0.05 * pen.fall, (*DUSK, 90))
    pen.fill(outline, cloth)
    for x in pen.pick(((-0.6, 0.6), (-0.5, -0.25, 0, 0.25, 0.5), ())):
        pen.line([x - 0.72j, x + 0.72j], pen.pick((lighter, darker))(cloth, 0.4), 0.06)
    pen.line([-0.7 + 0.7j, 0.7 - 0.7j], darker(cloth, 0.2), 0.03)


def neighbour(pen: Pen) -> None:
    """The rim of another plate, with a bite of something on it."""
    base = pen.tint(pen.pick(PLATES))
    pen.disc(0.1 * pen.fall, 0.8, (*DUSK, 110))
    pen.disc(0, 0.8, base)
    pen.disc(0, 0.62, darker(base, 0.1))
    garnish(pen, [0.25 * unit(pen.angle())])


CLUTTER = (cutlery, cutlery, chopsticks, glass, napkin, neighbour, neighbour)


def clutter(pen: Pen) -> None:
    """One or two things around the edge of the picture, and crumbs or herbs."""
    count = int(pen.between(1, 3))
    turn = pen.angle()
    for k in range(count):
        place = pen.between(0.85, 1.2) * unit(turn + k * 2 * np.pi / count + pen.between(-0.5, 0.5))
        pen.pick(CLUTTER)(pen.at(place, pen.between(0.5, 0.85), pen.angle()))
    garnish(pen, (pen.between(0.8, 1.1) * unit(pen.angle()) for _ in range(int(pen.between(0, 3)))), 0.14)
    if pen.chance(0.5):
        crumbs(pen)


# ---------------------------------------------------------------------------------------------------------------------
# Ten dishes, each about the unit disc of its pen

SAUCES = (TOMATO, TOMATO, TOMATO, RED, RED, ORANGE, CREAM, LEAF, BROWN)
DOUGHS = (GOLD, GOLD, GOLD, CREAM, SAND, BROWN)
CHEESES = (BUTTER, BUTTER, CREAM, GOLD, ORANGE)
SEARED = (BROWN, BROWN, CHAR, (150, 84, 52), (168, 98, 70))


def slice_of_meat(pen: Pen) -> None:
    meat = pen.tint(pen.pick((RED, RED, TOMATO, PINK, BROWN)))
    pen.disc(0.14 * pen.fall, 1, (*DUSK, 90))
    pen.disc(0, 1, darker(meat))
    pen.disc(-0.06 - 0.06j, 0.85, meat)
    for place in (-0.4 - 0.3j, 0.35 - 0.35j, 0.05 + 0.45j):
        pen.disc(place, 0.14, lighter(meat, 0.4))


def olive_ring(pen: Pen) -> None:
    colour = pen.tint(pen.pick((NORI, OLIVE, CHAR, PLUM, WHITE, LIME)))
    pen.fill(ring(0.8 * circle(14), 0.35 * circle(14)), colour)
    pen.line(arc(0.6, 3.3, 4.6, 5), lighter(colour, 0.5), 0.14)


def mushroom(pen: Pen) -> None:
    colour = pen.tint(pen.pick((SAND, CREAM, BROWN, WHITE)))
    stem = [0.3 + 0.1j, 0.35 + 0.8j, -0.35 + 0.8j, -0.3 + 0.1j]
    pen.fill(np.concatenate([arc(1, np.pi, 2 * np.pi, 9), stem]), colour)
    pen.line([0.1j - 0.9, -0.3 + 0.1j, -0.3j - 0.3, -0.3j + 0.3, 0.3 + 0.1j, 0.9 + 0.1j], darker(colour, 0.5), 0.14)


def strip(pen: Pen) -> None:
    pen.line(arc(1, 0.2, 2.4, 7) - 0.6j, pen.tint(pen.pick((LEAF, RED, BUTTER, PLUM, WHITE, LIME))), 0.35)


TOPPINGS = (slice_of_meat, slice_of_meat, slice_of_meat, olive_ring, mushroom, strip, leaf, tomato)


def pizza_wedge(pen: Pen, look: tuple, start: float, end: float) -> None:
    """The part of a pizza between two angles; `look` is (dough, sauce, cheese, toppings)."""
    dough, sauce, cheese, toppings = look
    tip = [0] if end - start < 6.2 else []
    edge = arc(1, start, end, 40) * abs(blob(pen.rng, 0.015, 40))

    def part(radius: float) -> np.ndarray:
        return np.concatenate([tip, radius * edge])

    pen.shadow(part(1), 0.07, 0.6)
    pen.fill(part(1), darker(dough, 0.25))
    pen.fill(part(0.97), lighter(dough, 0.1))
    pen.line(0.93 * edge, lighter(dough, 0.35), 0.05)
    for angle in np.linspace(start, end, int(4 + 2 * (end - start))).tolist():
        pen.disc(0.94 * unit(angle), pen.between(0.03, 0.07), (*darker(dough, 0.6), 110))
    pen.fill(part(0.84), sauce)
    pen.fill(part(0.79), cheese)

    def places(per_pizza: float) -> Iterator[complex]:
        """Evenly spread over the wedge, as on a sunflower, and away from its sides."""
        first, count = pen.rng.random(), max(2, round(per_pizza * (end - start) / 6.2832))
        for k in range(count):
            radius = 0.68 * ((k + 0.5) / count) ** 0.5 + 0.04
            margin = min(0.45, 0.12 / radius / (end - start)) if tip else 0
            spot = ((k * 0.618 + first) % 1) * (1 - 2 * margin) + margin
            yield radius * unit(start + spot * (end - start))

    for place in places(7):
        browned = pen.pick((lighter(cheese, 0.4), darker(cheese, 0.2), mix(cheese, sauce, 0.6)))
        pen.fill(0.95 * place + pen.between(0.06, 0.13) * blob(pen.rng, 0.2, 10), (*browned, 150))
    for topping, per_pizza, size in toppings:
        for place in places(per_pizza):
            topping(pen.at(place, size, pen.angle()))


def pizza(pen: Pen) -> None:
    look = (
        pen.tint(pen.pick(DOUGHS)),
        pen.tint(pen.pick(SAUCES)),
        pen.tint(pen.pick(CHEESES)),
        [(pen.pick(TOPPINGS), pen.between(5, 12), pen.between(0.09, 0.15)) for _ in range(pen.pick((1, 2, 2)))],
    )
    plate(pen.at(0, pen.between(1.05, 1.25)))
    start = pen.angle()
    kind = pen.pick(("whole", "whole", "part", "part", "slices"))
    if kind == "slices":
        count = pen.pick((1, 2, 3, 3))
        for k in range(count):
            middle = start + k * 2 * np.pi / count
            wedge = pen.at(-0.75 * unit(start), 1.5) if count == 1 else pen.at(0.1 * unit(middle))
            pizza_wedge(wedge, look, middle - pen.between(0.38, 0.5), middle + pen.between(0.38, 0.5))
        return
    pizza_wedge(pen, look, start, start + (2 * np.pi if kind == "whole" else pen.between(3.6, 5.5)))
    for k in range(pen.pick((0, 3, 4)) if kind == "whole" else 0):
        cut = 0.9 * unit(start + k * 0.785)
        pen.line([-cut, cut], (*darker(look[2], 0.6), 130), 0.02)


def steak(pen: Pen) -> None:
    seared = pen.tint(pen.pick(SEARED))
    inside = pen.tint(pen.pick((RED, PINK, (200, 84, 80), (170, 110, 86))))
    fat = pen.tint(pen.pick((CREAM, BUTTER, SAND, WHITE, GOLD)))
    plate(pen.at(0, pen.between(1.05, 1.25)))
    if pen.chance(0.4):
        pen.fill(0.8 * blob(pen.rng, 0.12) + pen.between(-0.2, 0.2), (*pen.tint(pen.pick(SAUCES + (CHAR, LIME))), 200))
    beside = pen.pick((1j, -1j))
    garnish(pen, (beside * pen.between(0.62, 0.8) * unit(a) for a in (-0.6, 0, 0.6)[: pen.pick((1, 2, 3))]), 0.26)
    kind = pen.pick(("whole", "whole", "bone", "half", "sliced"))
    z = circle(48)
    bend = pen.between(0.1, 0.3)
    outline = z.real * pen.between(0.78, 0.95) + 1j * z.imag * pen.between(0.46, 0.6)
    outline = outline * abs(blob(pen.rng, 0.06, 48)) + 1j * bend * outline.real**2 - 0.1j
    if kind != "sliced":
        pen.shadow(outline, 0.09, 0.65)
        pen.fill(outline + 0.05 * pen.fall, darker(seared, 0.55))
        pen.fill(outline, fat)
        meat = 0.94 * outline + 0.05j
        pen.fill(meat, darker(seared, 0.25))
        meat = 0.95 * meat - 0.008 - 0.008j
        pen.fill(meat, seared)
        for place in spread(pen.rng, 8, 0.8):
            spot = place.real * 0.75 + 1j * (place.imag * 0.42 + bend * place.real**2 * 0.5)
            colour = pen.pick((lighter, darker))(seared, 0.3)
            pen.fill(spot + pen.between(0.04, 0.12) * blob(pen.rng, 0.25, 9), (*colour, 90))
        slant = unit(pen.between(0.5, 1.2))
        for direction in (slant, slant.conjugate())[: pen.pick((1, 1, 2))]:
            turned = 0.9 * meat * direction
            for height in np.arange(-0.65, 0.7, 0.2):
                ends = chord(turned, height)
                if ends and ends[1] - ends[0] > 0.15:
                    pen.line(np.array(ends) / direction + 1j * height / direction, (*darker(seared, 0.8), 225), 0.065)
        if kind == "bone":
            pen.line([0.02 - 0.5j, 0.03 + 0.15j, 0.5 + 0.12j], darker(seared, 0.5), 0.17)
            pen.line([0.02 - 0.5j, 0.03 + 0.15j, 0.5 + 0.12j], fat, 0.11)
        pen.line(0.8 * outline[26:36] + 0.06j, (*lighter(seared, 0.6), 110), 0.03)
    if kind in ("sliced", "half"):
        count = int(pen.between(5, 7.5)) if kind == "sliced" else 3
        reach = pen.between(0.62, 0.75)
        for k in range(count):
            x = reach * (2 * k / (count - 1) - 1) if kind == "sliced" else 0.3 + 0.26 * k
            piece = pen.at(x + 1j * (bend * x * x - 0.1 + pen.between(-0.03, 0.03)), 1, 0.25 + pen.between(-0.06, 0.06))
            oval = box(0.17, pen.between(0.46, 0.56), 0.5)
            piece.fill(oval + 0.04 + 0.05j, (*DUSK, 130))
            piece.fill(oval, darker(seared, 0.45))
            piece.fill(0.84 * oval + 0.02, mix(seared, inside, 0.4))
            piece.fill(0.66 * oval + 0.02, inside)
            piece.fill(0.4 * oval + 0.02, lighter(inside, 0.25))
    if pen.chance(0.4):
        butter = pen.at(pen.between(-0.3, 0.3) + 0.05j, 0.14, pen.angle())
        butter.fill(box(1, 1, 0.3) + 0.15 + 0.2j, (*DUSK, 120))
        butter.fill(box(1, 1, 0.3), pen.tint(pen.pick((BUTTER, CREAM, LIME))))
        butter.fill(0.7 * box(1, 1, 0.3) - 0.1, lighter(BUTTER, 0.5))
    if pen.chance(0.5):
        for place in spread(pen.rng, 9, 0.5):
            pen.disc(place, 0.025, pen.tint(pen.pick((LEAF, WHITE, RED, NORI))))


RICES = (WHITE, WHITE, WHITE, WHITE, CREAM)


def nigiri(pen: Pen, rice: tuple, fish: tuple, band: bool) -> None:
    """A pillow of rice under a slab of fish, 2 x 1 units."""
    pen.fill(box(1, 0.5, 0.5) + 0.16 * pen.fall, (*DUSK, 130))
    pen.fill(box(1, 0.5, 0.5), darker(rice, 0.15))
    pen.fill(0.94 * box(1, 0.5, 0.5) - 0.02j, rice)
    top = box(1.02, 0.4, 0.6)
    pen.fill(top + 0.05j, darker(fish, 0.45))
    pen.fill(top - 0.05j, fish)
    for x in (-0.65, -0.3, 0.05, 0.4):
        pen.line([x - 0.38j, x + 0.28 - 0.05j, x + 0.2 + 0.28j], lighter(fish, 0.55), 0.07)
    if band:
        pen.fill(box(0.17, 0.53, 0.2), NORI)
    pen.line([-0.7 - 0.28j, 0.6 - 0.3j], (*lighter(fish, 0.8), 120), 0.08)


def maki(pen: Pen, rice: tuple, wrap: tuple, fillings: list) -> None:
    """A slice of a roll, seen from above: wrapper, rice, filling."""
    pen.disc(0.24 * pen.fall, 1, (*DUSK, 130))
    pen.fill(circle(24), wrap)
    pen.line(arc(0.9, 3.4, 4.9, 8), lighter(wrap, 0.4), 0.1)
    pen.disc(0, 0.8, rice)
    for place in (-0.55 - 0.2j, 0.1 - 0.6j, 0.58 + 0.1j, -0.25 + 0.55j):
        pen.disc(place, 0.09, darker(rice, 0.15))
    for k, filling in enumerate(fillings):
        place = 0.24 * unit(k * 2 * np.pi / len(fillings)) * (len(fillings) > 1)
        pen.fill(place + (0.36 if len(fillings) == 1 else 0.25) * blob(pen.rng, 0.1, 10), filling)


def sushi(pen: Pen) -> None:
    plate(pen.at(0, pen.between(1.05, 1.25)))
    rice = pen.tint(pen.pick(RICES))
    kind = pen.pick(("nigiri", "nigiri", "maki", "maki", "mixed", "circle"))
    fishes = [pen.tint(pen.pick((ORANGE, ORANGE, ORANGE, RED, PINK, BUTTER, TOMATO))) for _ in range(2)]
    wraps = [pen.tint(pen.pick((NORI, NORI, NORI, NORI, NORI, CHAR, LIME))) for _ in range(2)]
    fillings = [pen.tint(pen.pick(BITES)) for _ in range(pen.pick((1, 1, 2, 3)))]
    band = pen.chance(0.3)
    lean = pen.between(-0.5, 0.5)
    if kind == "circle":
        count = pen.pick((5, 6, 7))
        for k in range(count):
            place = 0.6 * unit(2 * np.pi * k / count)
            maki(pen.at(place, 0.24, pen.angle()), rice, wraps[0], fillings)
        heap(pen.at(0, 0.2))
        return
    columns, rows = pen.pick(((2, 2), (3, 2), (3, 2), (2, 3), (3, 3), (4, 2), (3, 1), (2, 1), (4, 3)))
    step = 0.62 if kind == "nigiri" else 1.0
    size = min(0.85 / (step * columns), 0.75 / rows, 0.5)
    for row in range(rows):
        small = kind == "maki" or kind == "mixed" and row % 2
        for column in range(columns):
            x, y = (2 * column - columns + 1) * size * step, (2 * row - rows + 1) * size
            place = x + 1j * y + 0.08 * size * (pen.between(-1, 1) + 1j * pen.between(-1, 1))
            if small:
                maki(pen.at(place, 0.92 * size, pen.angle()), rice, wraps[row % 2], fillings)
            else:
                nigiri(pen.at(place, 0.95 * size, 1.57 + lean), rice, fishes[column % 2], band)
    edge = rows * size + 0.12
    garnish(pen, (pen.between(-0.6, 0.6) + 1j * edge * pen.pick((-1, 1)) for _ in range(pen.pick((0, 1, 2, 2)))), 0.19)
    if pen.chance(0.25):
        chopsticks(pen.at(1j * edge, 0.8, pen.between(-0.15, 0.15)))


def saucer(pen: Pen, y: float, width: float = 1.0) -> None:
    """A plate or board seen from the side, at height `y`, with its shadow."""
    base = pen.tint(pen.pick(PLATES))
    pen.shadow(box(1.1 * width, 0.2, 1.0) + 1j * y, 0.1, 0.6)
    if pen.chance(0.6):
        pen.fill(box(width, 0.2, 1.0) + 1j * (y + 0.04), darker(base, 0.3))
        pen.fill(box(width, 0.19, 1.0) + 1j * y, base)
        pen.fill(box(0.7 * width, 0.12, 1.0) + 1j * (y + 0.01), darker(base, 0.12))
    else:
        pen.fill(box(width, 0.1, 0.2) + 1j * (y + 0.08), darker(base, 0.35))
        pen.fill(box(width, 0.1, 0.2) + 1j * y, base)


def wavy(width: float, y: float, height: float, waves: float, n: int = 25) -> np.ndarray:
    """The outline of a band whose lower edge is a wave."""
    x = np.linspace(-width, width, n)
    lower = x + 1j * (y + height * (1 + 0.6 * np.cos(waves * np.pi * x / width)))
    return np.concatenate([lower, [width + 1j * y, -width + 1j * y]])


def burger(pen: Pen) -> None:
    bun = pen.tint(pen.pick(DOUGHS))
    saucer(pen, 0.72)
    y = 0.68
    pen.shadow(box(0.8, 0.16, 1.0) + 1j * y, 0.08, 0.7)

    def layer(width, height, colour, power=0.4):
        nonlocal y
        pen.fill(box(width, height, power) + 1j * (y - height), darker(colour, 0.3))
        pen.fill(box(width, 0.8 * height, power) + 1j * (y - 1.2 * height), colour)
        y -= 1.75 * height

    layer(0.76, 0.14, bun)
    for _ in range(pen.pick((1, 1, 2))):
        if pen.chance(0.6):
            layer(pen.between(0.68, 0.76), 0.05, pen.tint(pen.pick((TOMATO, RED, PINK, PLUM))))
        layer(pen.between(0.76, 0.84), pen.between(0.1, 0.14), pen.tint(pen.pick((BROWN, CHAR, GOLD, SAND))))
        pen.fill(wavy(0.8, y - 0.05, 0.1, pen.pick((2, 3, 5))), pen.tint(pen.pick((BUTTER, ORANGE, CREAM, GOLD))))
        y -= 0.04
    pen.fill(wavy(0.86, y - 0.06, 0.08, pen.pick((7, 9, 11)), 45), pen.tint(pen.pick((LEAF, LIME, PLUM, MINT))))
    y -= 0.03
    foot = [0.8 + 0.05j, 0.7 + 0.1j, -0.7 + 0.1j, -0.8 + 0.05j]
    dome = np.concatenate([box(0.8, pen.pick((0.42, 0.5, 0.58)), 0.75)[16:], foot])
    pen.fill(dome + 1j * (y - 0.04), darker(bun, 0.3))
    pen.fill(0.95 * dome + 1j * (y - 0.07), bun)
    pen.soft(0.5 * dome - 0.2 + 1j * (y - 0.14), lighter(bun, 0.8), 0.6)
    if pen.chance(0.7):
        for place in spread(pen.rng, 14, 0.62):
            seed = place.real + 1j * (y - 0.12 - 0.45 * abs(place.imag) * (1 - place.real**2))
            pen.fill(seed + box(0.035, 0.02, 1.0)[::4], lighter(bun, 0.7))
    if pen.chance(0.4):
        pen.line([-0.1 + 1j * (y - 0.4), 0.02 + 1j * (y - 0.95)], pen.tint(SAND), 0.03)
        pen.disc(0.02 + 1j * (y - 0.95), 0.07, pen.tint(pen.pick(BITES)))


def donut(pen: Pen) -> None:
    dough, icing = pen.tint(pen.pick(DOUGHS)), pen.tint(pen.pick(BITES + (SKY, MINT, CHAR)))
    hole = pen.between(0.26, 0.36)
    pen.shadow(ring(circle(32), hole * circle(32)), 0.1, 0.6)
    pen.fill(ring(circle(32), hole * circle(32)), darker(dough, 0.25))
    pen.fill(ring(0.97 * circle(32) - 0.02 - 0.03j, 1.1 * hole * circle(32)), dough)
    outer = 0.86 * blob(pen.rng, 0.03)
    pen.fill(ring(outer + 0.01 + 0.02j, 1.25 * hole * circle(32)), darker(icing, 0.35))
    pen.fill(ring(outer - 0.02 - 0.02j, (hole + 0.13) * circle(32)), icing)
    if pen.chance(0.6):
        colours = [pen.pick(BITES + (SKY, NAVY)) for _ in range(3)]
        for k, place in enumerate(spread(pen.rng, 26, 0.8)):
            if abs(place) > hole + 0.18:
                dash = 0.07 * unit(pen.angle())
                pen.line([place - dash, place + dash], colours[k % 3], 0.05)
    else:
        drizzle = np.linspace(-2.9, 2.9, 30)
        zigzag = (0.62 + 0.17 * (-1.0) ** np.arange(30)) * np.exp(1j * drizzle)
        pen.line(zigzag, lighter(icing, 0.7) if sum(icing) < 500 else darker(icing, 0.7), 0.05)
    pen.line(arc(0.72, 3.5, 4.6, 8), (*lighter(icing, 0.8), 170), 0.06)


def donuts(pen: Pen) -> None:
    plate(pen.at(0, pen.between(1.05, 1.25)))
    count = pen.pick((1, 1, 2, 3, 4))
    start, size = pen.angle(), {1: 0.85, 2: 0.52, 3: 0.48, 4: 0.44}[count]
    for k in range(count):
        donut(pen.at((0.0 if count == 1 else 0.56) * unit(start + 2 * np.pi * k / count), size, pen.angle()))


def fried_eggs(pen: Pen) -> None:
    if pen.chance(0.5):
        metal = pen.tint(pen.pick((CHAR, SLATE, SAND, NAVY, RED)))
        handle = pen.at(0, 1, pen.angle())
        handle.shadow(box(0.5, 0.1) + 1.4, 0.1, 0.5)
        handle.fill(box(0.5, 0.1) + 1.4, darker(metal))
        pen.shadow(1.05 * circle(40), 0.12, 0.6)
        pen.fill(1.05 * circle(40), lighter(metal, 0.25))
        pen.fill(0.98 * circle(40), darker(metal, 0.4))
        pen.fill(0.9 * circle(40) + 0.01j, metal)
    else:
        plate(pen.at(0, pen.between(1.1, 1.25)))
    count = pen.pick((1, 2, 2, 3))
    start, size = pen.angle(), {1: 0.72, 2: 0.5, 3: 0.44}[count]
    white = pen.tint(pen.pick((WHITE, WHITE, CREAM, lighter(SKY, 0.6), lighter(PINK, 0.6))))
    yolk = pen.tint(pen.pick((BUTTER, ORANGE, GOLD, ORANGE, TOMATO)))
    for k in range(count):
        egg = pen.at((0.0 if count == 1 else 0.45) * unit(start + 2 * np.pi * k / count), size, pen.angle())
        outline = blob(pen.rng, 0.1)
        egg.shadow(outline, 0.06, 0.5)
        egg.fill(1.04 * outline, pen.tint(pen.pick((GOLD, BROWN, CREAM))))
        egg.fill(outline, darker(white, 0.08))
        egg.fill(0.86 * outline, white)
        heart = pen.between(-0.15, 0.15) + 1j * pen.between(-0.15, 0.15)
        egg.fill(heart + 0.05 + 0.07j + 0.4 * circle(24), darker(white, 0.3))
        egg.fill(heart + 0.38 * circle(24), darker(yolk, 0.15))
        egg.fill(heart - 0.02 - 0.02j + 0.33 * circle(24), yolk)
        egg.disc(heart - 0.12 / egg.turn * abs(egg.turn) * (1 + 1j), 0.07, WHITE)
    garnish(pen, (0.75 * unit(start + 1.3 + a) for a in (0, 0.6, 2.9)[: pen.pick((0, 1, 2, 3))]), 0.2)
    for place in spread(pen.rng, 12, 0.8):
        pen.disc(place, 0.02, pen.pick((CHAR, LEAF, RED)))


def hot_dog(pen: Pen) -> None:
    plate(pen.at(0, pen.between(1.05, 1.25)))
    count = pen.pick((1, 1, 2))
    pen = pen.at(0, 1, pen.angle())
    for k in range(count):
        bun, meat = pen.tint(pen.pick(DOUGHS)), pen.tint(pen.pick((RED, BROWN, TOMATO, PINK, PLUM, ORANGE)))
        one = pen.at((0.6j * k - 0.3j) * (count - 1), 1.0 if count == 1 else 0.85, pen.between(-0.1, 0.1))
        loaf = box(0.92, 0.36, 0.55)
        one.shadow(loaf, 0.1, 0.6)
        one.fill(loaf, darker(bun, 0.3))
        one.fill(0.96 * loaf - 0.02j, bun)
        one.fill(box(0.84, 0.21, 0.45), lighter(bun, 0.45))
        if pen.chance(0.5):
            green = pen.tint(pen.pick((LEAF, LIME, PLUM, WHITE)))
            for x in np.arange(-0.75, 0.8, 0.19):
                one.fill(x + 0.17 * blob(pen.rng, 0.2, 9), mix(green, lighter(green), pen.rng.random()))
        sausage = box(1.04, 0.155, 0.6) + 0.05j * circle(32).real ** 2
        one.fill(sausage + 0.03 + 0.05j, (*DUSK, 130))
        one.fill(sausage, darker(meat, 0.25))
        one.fill(0.93 * sausage - 0.015j, meat)
        one.line([-0.85 - 0.05j, 0.85 - 0.05j], (*lighter(meat, 0.6), 130), 0.03)
        sauce, turns = pen.tint(pen.pick((BUTTER, TOMATO, WHITE, LIME, BROWN))), pen.pick((9, 13, 17))
        zigzag = np.linspace(-0.8, 0.8, turns) + 0.1j * (-1.0) ** np.arange(turns)
        one.line(zigzag, sauce, 0.06)
    if count == 1:
        garnish(pen, (pen.between(-0.6, 0.6) + 0.66j * pen.pick((-1, 1)) for _ in range(pen.pick((0, 1, 2)))), 0.24)


def ice_cream(pen: Pen) -> None:
    pen = pen.at(0, 1, pen.between(-0.35, 0.35))
    waffle = pen.tint(pen.pick((GOLD, SAND, BROWN, CREAM)))
    cup = pen.chance(0.3)
    top = 0.05
    if cup:
        pen.shadow(box(0.7, 0.15, 1.0) + 0.95j, 0.08, 0.6)
        waffle = pen.tint(pen.pick(PLATES))
        body = np.array([-0.62 + top * 1j, 0.62 + top * 1j, 0.42 + 0.95j, -0.42 + 0.95j])
    else:
        body = np.array([-0.46 + top * 1j, 0.46 + top * 1j, 0.05 + 1.1j, -0.05 + 1.1j])
        pen.shadow(body, 0.12, 0.5)
    count = pen.pick((1, 2, 3))
    reach = 0.5 if cup else 0.42
    pair = (-0.25 - 0.12j, 0.25 - 0.15j) if cup else (-0.15j, -0.65j)
    spots = ((-0.2j,), pair, (-0.3 - 0.1j, 0.3 - 0.1j, -0.5j))[count - 1]
    for spot in spots:
        flavour = pen.tint(pen.pick(BITES + (MINT, SKY, CHAR, WHITE, PINK)))
        scoop = spot + reach * (1.15 if count == 1 else 0.95) * blob(pen.rng, 0.03)
        pen.shadow(scoop, 0.05, 0.35)
        pen.fill(scoop, darker(flavour, 0.18))
        pen.fill(spot + 0.88 * (scoop - spot) - 0.03 - 0.03j, flavour)
        pen.soft(spot - 0.12 - 0.14j + 0.2 * circle(12), WHITE, 0.55)
        if pen.chance(0.6):
            chips = pen.pick(BITES)
            for place in spread(pen.rng, 7, 0.33):
                pen.disc(spot + place, 0.03, chips)
    pen.fill(body, darker(waffle, 0.15))
    pen.fill(0.93 * body - 0.02, waffle)
    for share in np.linspace(0.1, 0.9, 5):
        if cup:
            pen.line([mid(body[0], body[1], share), mid(body[3], body[2], share)], darker(waffle, 0.25), 0.03)
        else:
            pen.line([mid(body[0], body[1], share), mid(body[1], body[2], 1 - share)], darker(waffle, 0.35), 0.025)
            pen.line([mid(body[1], body[0], share), mid(body[0], body[3], 1 - share)], darker(waffle, 0.35), 0.025)
    if not cup:
        pen.line([body[0] - 0.04, body[1] + 0.04], lighter(waffle, 0.3), 0.07)
    if pen.chance(0.3):
        pen.disc(spots[-1] - reach * 1.1j, 0.12, pen.tint(RED))
        pen.line([spots[-1] - reach * 1.2j, spots[-1] - reach * 1.2j + 0.1 - 0.2j], pen.tint(LEAF), 0.025)


def mid(a: complex, b: complex, share: float) -> complex:
    return a + (b - a) * share


def pancakes(pen: Pen) -> None:
    saucer(pen, 0.75, 1.1)
    batter = pen.tint(pen.pick(DOUGHS))
    count, thick, flat = int(pen.between(3, 8)), pen.between(0.085, 0.12), pen.between(0.2, 0.3)
    y = 0.62
    for _ in range(count):
        x, width = pen.between(-0.04, 0.04), pen.between(0.7, 0.78)
        pen.fill(box(width, flat, 0.85) + x + 1j * y + 0.7j * thick, darker(batter, 0.45))
        pen.fill(box(width, flat, 0.85) + x + 1j * y, lighter(batter, 0.4))
        pen.fill(box(width, flat, 0.85) + x + 1j * (y - 0.5 * thick), darker(batter, 0.15))
        y -= 1.55 * thick
    y += 1.05 * thick
    pen.fill(box(0.64, flat * 0.85, 0.85) + 1j * y, batter)
    if pen.chance(0.85):
        syrup = pen.tint(pen.pick((BROWN, CHAR, RED, GOLD, PLUM, ORANGE)))
        pen.fill(0.52 * blob(pen.rng, 0.08).real + 0.8j * flat * circle(32).imag + 1j * y, syrup)
        for x in (-0.45, -0.15, 0.2, 0.5):
            drop = y + flat * 0.8 * (1 - x * x) ** 0.5
            end = drop + pen.between(0.1, 0.45)
            pen.line([x + 1j * (drop - 0.1), x + 1j * end], syrup, 0.09)
            pen.disc(x + 1j * end, 0.055, syrup)
        pen.line([-0.35 + 1j * (y - 0.08), -0.1 + 1j * (y - 0.12)], lighter(syrup, 0.6), 0.04)
    if pen.chance(0.6):
        butter = pen.tint(pen.pick((BUTTER, CREAM, WHITE, PINK)))
        pen.fill(box(0.2, 0.09, 0.3) + 1j * y, darker(butter, 0.2))
        pen.fill(box(0.2, 0.07, 0.3) + 1j * (y - 0.07), butter)
    else:
        for place in spread(pen.rng, 5, 0.3):
            tomato(pen.at(place.real + 1j * (y - 0.06 + 0.4 * place.imag), 0.1))
    garnish(pen, (0.95 * x + 0.78j for x in ((), (-1,), (1,), (-1, 1))[int(pen.between(0, 4))]), 0.15)


def ramen(pen: Pen) -> None:
    bowl, broth = pen.tint(pen.pick(PLATES)), pen.tint(pen.pick((GOLD, BROWN, CREAM, ORANGE, TOMATO, LIME, SAND)))
    pen.shadow(circle(40), 0.14, 0.6)
    pen.fill(circle(40), bowl)
    pen.fill(0.96 * circle(40) + 0.02 + 0.02j, darker(bowl, 0.4))
    if pen.chance(0.4):
        pen.fill(ring(0.99 * circle(40), 0.93 * circle(40)), pen.tint(pen.pick(PLATES)))
    pen.fill(0.88 * circle(40) + 0.01 + 0.02j, broth)
    noodle = pen.tint(pen.pick((BUTTER, CREAM, WHITE, GOLD)))
    strands = pen.at(0, 1, pen.angle())
    x = np.linspace(-1, 1, 15)
    for y in np.linspace(-0.62, 0.62, 11):
        wave = 0.06 * np.sin(7 * x + pen.between(0, 1.6))
        strand = (0.84 - y * y) ** 0.5 * x + 1j * (y + wave)
        strands.line(strand + 0.03j, darker(noodle, 0.45), 0.05)
        strands.line(strand, lighter(noodle, 0.3 * pen.rng.random()), 0.055)
    start = pen.angle()
    for k in range(pen.pick((1, 1, 2))):
        egg = pen.at(0.42 * unit(start + 0.85 * k), 0.27, pen.angle())
        egg.fill(box(1, 0.8, 1.0) + 0.1 + 0.12j, (*DUSK, 110))
        egg.fill(box(1, 0.8, 1.0), pen.tint(WHITE))
        egg.disc(0.1, 0.5, pen.tint(ORANGE))
        egg.disc(0.05 - 0.1j, 0.3, pen.tint(BUTTER))
    if pen.chance(0.7):
        pen.at(0.72 * unit(start + 2.2), 1, start + 2.2).fill(box(0.26, 0.3, 0.1), pen.tint(pen.pick((NORI, LEAF))))
    for k in range(pen.pick((1, 2, 3))):
        slice_of_meat(pen.at(0.45 * unit(start + 3.3 + 0.5 * k), 0.25, pen.angle()))
    for place in spread(pen.rng, 6, 0.25):
        olive_ring(pen.at(place + 0.45 * unit(start - 1.1), 0.08))
    if pen.chance(0.4):
        chopsticks(pen.at(0.5 * unit(start), 1.0, start + pen.pick((0.6, 1.2))))


DISHES: dict[str, Callable[[Pen], None]] = {
    "pizza": pizza,
    "steak": steak,
    "sushi": sushi,
    "burger": burger,
    "donuts": donuts,
    "fried_eggs": fried_eggs,
    "hot_dog": hot_dog,
    "ice_cream": ice_cream,
    "pancakes": pancakes,
    "ramen": ramen,
}
UPRIGHT = ("burger", "ice_cream", "pancakes")  # seen from the side: neither tilted nor turned
FOOD: tuple[str, ...] = tuple(DISHES)


def photograph(pen: Pen, size: int, tilt: float = 1.0, strength: float = 1.0) -> Image.Image:
    """Average an enlarged RGB drawing down to size x size px, seen at a slant and in a random light.

    The sides are cut off and the rest is widened, so that circles get `tilt` times as high as wide. The light has an
    exposure, a colour, a gradient and vignetting; the camera a saturation, a contrast and grain.
    """
    wide = pen.image.width
    cut = wide * (1 - tilt) / 2
    x = np.asarray(pen.image.resize((size, size), Image.Resampling.BOX, (cut, 0, wide - cut, wide)), np.float32)
    exposure, warmth, green, angle = (strength * pen.between(-1, 1) for _ in range(4))
    contrast = 1 + strength * pen.between(-0.25, 0.25)
    saturation = 1 + strength * pen.between(-0.4, 0.2)
    gain = np.exp(0.32 * exposure + np.array([0.16 * warmth, 0.07 * green, -0.16 * warmth]))
    camera = contrast * (saturation * np.eye(3) + (1 - saturation) / 3) * gain
    slope = strength * pen.between(0, 0.35) * unit(6.2832 * angle)
    across = ramp(size, -1, 1).astype(np.float32)
    corners = strength * pen.between(0, 0.2) * across**2
    light = 1 + (slope.real * across - corners) + (slope.imag * across - corners)[:, None]
    grain = 8 * pen.rng.random((size, size), dtype=np.float32) - 3.5
    x = camera.T.astype(np.float32) @ x.reshape(-1, 3).T  # [3, size * size]
    x = (x + (128 * (1 - contrast) * gain[:, None]).astype(np.float32)) * light.ravel() + grain.ravel()
    x = np.clip(x, 0, 255, out=x).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(x.T).reshape(size, size, 3))


def draw_food(dish: str, rng: np.random.Generator, size: int = 64) -> Image.Image:
    """A table with a dish on it: RGB, size x size px. ValueError for a dish that is not in FOOD."""
    if dish not in DISHES:
        raise ValueError(f"unknown dish {dish!r}; known are {', '.join(FOOD)}")
    upright = dish in UPRIGHT
    behind = Pen(Image.new("RGB", (size, size)), rng)
    table(behind)
    clutter(behind)
    # not enlarged when drawn, the background is a little out of focus
    pen = Pen(behind.image.resize((size * SCALE, size * SCALE), Image.Resampling.BILINEAR), rng)
    place = pen.between(-0.34, 0.34) + 1j * pen.between(-0.34, 0.34)
    angle = pen.between(-0.12, 0.12) if upright else pen.between(-0.6, 0.6)
    DISHES[dish](pen.at(place, pen.between(0.8, 1.0), angle))
    return photograph(pen, size, tilt=1.0 if upright else pen.between(0.8, 1.0), strength=0.6)


# ---------------------------------------------------------------------------------------------------------------------
# Digits

# The ways to write each digit: x,y in hundredths of half its height; | lifts the pen, a point twice is a corner.
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
        np.array([complex(*map(int, point.split(","))) for point in stroke.split()]) / 100 for stroke in way.split("|")
    ]


@cache
def spline(count: int, steps: int = 24) -> np.ndarray:
    """[samples, count] weights of a Catmull-Rom spline: times the control points, a smooth curve through them."""
    rows = []
    for segment in range(count - 1):
        for t in np.arange(steps + (segment == count - 2)) / steps:
            row = np.zeros(count)
            shares = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2)
            for k, share in enumerate(shares):
                row[min(max(segment - 1 + k, 0), count - 1)] += share / 2
            rows.append(row)
    return np.array(rows)


def draw_digit(digit: str, rng: np.random.Generator, size: int = 28) -> Image.Image:
    """A digit as if written by hand, white on black: "L", size x size px. ValueError for one that is not in DIGITS."""
    if digit not in STROKES:
        raise ValueError(f"unknown digit {digit!r}; known are {', '.join(DIGITS)}")
    image = Image.new("L", (size * SCALE, size * SCALE))
    pen = Pen(image, rng)
    pen = pen.at(pen.between(-0.1, 0.1) + 1j * pen.between(-0.1, 0.1), pen.between(0.6, 0.78), pen.between(-0.16, 0.16))
    slant, width, wobble = pen.between(-0.15, 0.45), pen.between(0.75, 1.2), pen.between(0.01, 0.09)
    thick, pressure = pen.between(0.09, 0.17), pen.between(0, 0.25)
    for points in control_points(pen.pick(STROKES[digit])):
        shake = wobble * (2 * rng.random((2, len(points))) - 1)
        twice = np.flatnonzero(points[1:] == points[:-1])
        shake[:, twice + 1] = shake[:, twice]  # a corner stays a corner
        points = points + shake[0] + 1j * shake[1]
        points = width * points.real - slant * points.imag + 1j * points.imag
        curve = spline(len(points)) @ points
        swell = thick * (1 + pressure * np.sin(np.linspace(0, 6, len(curve)) + pen.angle()))
        x, y = np.array(pen.pixels(curve)).reshape(-1, 2).T
        radius = np.maximum(1, np.rint(swell * abs(pen.turn)))
        for corners in np.stack([x - radius, y - radius, x + radius, y + radius], 1).tolist():
            pen.draw.ellipse(corners, fill=255)
    ink = np.asarray(image.reduce(SCALE), np.float32) * pen.between(0.8, 1.0)
    return Image.fromarray(np.rint(ink).astype(np.uint8))


# ---------------------------------------------------------------------------------------------------------------------
# Things: ten forms x ten patterns


@cache
def forms() -> dict[str, np.ndarray]:
    """The outlines of the ten forms, each about the unit disc."""
    z = circle(60)
    t = np.angle(z)
    heart = 16 * np.sin(t) ** 3 - 1j * (13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return {
        "arrow": np.array([-1j, 0.85, 0.35, 0.35 + 1j, -0.35 + 1j, -0.35, -0.85]),
        "cross": np.outer([1, 1j, -1, -1j], [1 - 0.34j, 1 + 0.34j, 0.34 + 0.34j]).ravel(),
        "disc": 0.9 * z,
        "flower": z * (0.72 + 0.28 * np.cos(5 * t)),
        "heart": heart / 17 - 0.1j,
        "moon": np.concatenate([arc(1, 0.7, 5.58, 30), 0.3 + arc(0.8, 5.3, 0.98, 30)]),
        "ring": ring(z, 0.5 * z),
        "square": np.array([-0.8 - 0.8j, 0.8 - 0.8j, 0.8 + 0.8j, -0.8 + 0.8j]),
        "star": circle(10) * np.tile([1.1, 0.48], 5) * -1j,
        "triangle": 1.1 * circle(3) * -1j,
    }


RUNG = np.arange(-1.5, 1.6, 0.25)
PATTERNS: dict[str, Callable[[Pen, np.ndarray, tuple, tuple], None]] = {}


def pattern(draw: Callable) -> Callable:
    """Register a pattern under its function's name: it draws with `ink` on a form filled with `paint`."""
    PATTERNS[draw.__name__] = draw
    return draw


@pattern
def plain(pen: Pen, outline: np.ndarray, paint: tuple, ink: tuple) -> None:
    """Nothing but the paint."""


@pattern
def striped(pen: Pen, outline: np.ndarray, paint: tuple, ink: tuple) -> None:
    for x in RUNG[::2]:
        pen.line([x - 2j, x + 2j], ink, 0.24)


@pattern
def dotted(pen: Pen, outline: np.ndarray, paint: tuple, ink: tuple) -> None:
    for k, y in enumerate(RUNG[::2]):
        for x in RUNG[::2]:
            pen.disc(x + 0.25 * (k % 2) + 1j * y, 0.16, ink)


@pattern
def checked(pen: Pen, outline: np.ndarray, paint: tuple, ink: tuple) -> None:
    for y in range(-4, 4):
        for x in range(-4 + y % 2, 4, 2):
            pen.fill(0.45 * (x + 1j * y + np.array([0, 1, 1 + 1j, 1j])), ink)


@pattern
def gridded(pen: Pen, outline: np.ndarray, paint: tuple, ink: tuple) -> None:
    for x in RUNG[::2]:
        pen.line([x - 2j, x + 2j], ink, 0.11)
        pen.line([1j * x - 2, 1j * x + 2], ink, 0.11)


@pattern
def ringed(pen: Pen, outline: np.ndarray, paint: tuple, ink: tuple) -> None:
    for k, radius in enumerate((1.25, 1.0, 0.75, 0.5, 0.25)):
        pen.fill(radius * circle(24), (ink, paint)[k % 2])


@pattern
def framed(pen: Pen, outline: np.ndarray, paint: tuple, ink: tuple) -> None:
    pen.line(np.append(outline, outline[:2]), ink, 0.42)


@pattern
def halved(pen: Pen, outline: np.ndarray, paint: tuple, ink: tuple) -> None:
    pen.fill(np.array([-2j, 2 - 2j, 2 + 2j, 2j]), ink)


@pattern
def zigzag(pen: Pen, outline: np.ndarray, paint: tuple, ink: tuple) -> None:
    for y in RUNG[::2]:
        pen.line(RUNG + 1j * (y + 0.15 * (-1.0) ** np.arange(len(RUNG))), ink, 0.17)


@pattern
def faded(pen: Pen, outline: np.ndarray, paint: tuple, ink: tuple) -> None:
    for share in np.linspace(0, 1, 12):
        y = 2 * share - 1
        pen.fill(1j * y + np.array([-2, 2, 2 + 2j, -2 + 2j]), mix(paint, ink, share))


THINGS: tuple[str, ...] = tuple(f"{form}_{name}" for form in forms() for name in PATTERNS)


def hue(angle: float, light: float, strength: float) -> tuple:
    """A colour of the wheel (angle in radians), about `light` (0 to 255), `strength` away from grey."""
    return tuple(clip(light + strength * np.cos(angle - k * 2 * np.pi / 3)) for k in range(3))


def draw_thing(thing: str, rng: np.random.Generator, size: int = 32) -> Image.Image:
    """A form with a pattern, such as star_striped: RGB, size x size px. ValueError for a name that is not in THINGS."""
    if thing not in THINGS:
        raise ValueError(f"unknown thing {thing!r}; known are {', '.join(THINGS)}")
    form, name = thing.split("_")
    image = Image.new("RGB", (size * SCALE, size * SCALE))
    pen = Pen(image, rng)
    dark, turn = pen.chance(0.5), pen.angle()
    paint = hue(turn, 80 if dark else 185, pen.between(20, 70))
    ink = hue(turn + pen.between(1, 5), 205 if dark else 60, pen.between(20, 60))
    ground = hue(turn + pen.between(1.5, 4.8), pen.between(70, 190), pen.between(20, 60))
    image.paste(ground, (0, 0, *image.size))
    for _ in range(4):
        place = pen.between(-1, 1) + 1j * pen.between(-1, 1)
        patch = place + pen.between(0.3, 0.7) * blob(rng, 0.2, 16)
        pen.fill(patch, (*hue(pen.angle(), pen.between(60, 200), 50), 90))
    pen.cloud(darker(ground, 0.5), 8, 8, 0.5)
    place = pen.between(-0.15, 0.15) + 1j * pen.between(-0.15, 0.15)
    pen = pen.at(place, pen.between(0.62, 0.88), pen.between(-0.35, 0.35))
    outline = forms()[form]
    pen.shadow(outline, 0.14, 0.6)
    mask = Image.new("L", image.size)
    ImageDraw.Draw(mask).polygon(pen.pixels(outline), fill=255)
    top = Pen(Image.new("RGB", image.size, paint), rng)
    top.origin, top.turn = pen.origin, pen.turn
    PATTERNS[name](top, outline, paint, ink)
    image.paste(top.image, mask=mask)
    return photograph(pen, size, strength=0.6)


# ---------------------------------------------------------------------------------------------------------------------
# Sets


@dataclass(frozen=True)
class DrawnSet:
    """What a set holds: classes in order, pixels a side, PIL's mode, pictures of each class to train and to test."""

    classes: tuple[str, ...]
    size: int
    mode: str
    train: int
    test: int
    draw: Callable[[str, np.random.Generator, int], Image.Image]


SETS: dict[str, DrawnSet] = {
    "drawn": DrawnSet(FOOD[:3], 64, "RGB", 800, 200, draw_food),
    "drawn10": DrawnSet(FOOD, 64, "RGB", 250, 50, draw_food),
    "drawn_digits": DrawnSet(DIGITS, 28, "L", 500, 100, draw_digit),
    "drawn_things": DrawnSet(THINGS, 32, "RGB", 80, 20, draw_thing),
}


def drawn_set(name: str) -> DrawnSet:
    """The set of that name. ValueError for a name that is not in SETS."""
    if name not in SETS:
        raise ValueError(f"unknown drawn data set {name!r}; known are {', '.join(SETS)}")
    return SETS[name]


def draw_set(
    name: str, split: str, seed: int = 0, count: int | None = None, size: int | None = None
) -> Iterator[tuple[str, int, Image.Image]]:
    """Yield (class name, index, image), class by class; `count` pictures of each, `size` px, or as many as SETS says.

    Whatever the count, picture `index` of a class is the same. ValueError for an unknown set or split.
    """
    drawn = drawn_set(name)
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; known are {', '.join(SPLITS)}")
    for label, class_name in enumerate(drawn.classes):
        for index in range(getattr(drawn, split) if count is None else count):
            rng = np.random.Generator(np.random.PCG64([seed, label, SPLITS.index(split), index]))
            yield class_name, index, drawn.draw(class_name, rng, size or drawn.size)


def write(name: str, folder: Path | str, seed: int = 0) -> Path:
    """Draw a whole set into folder/NAME/{train,test}/CLASS/0000.png and return folder/NAME; once only.

    The files are written into a temporary folder beside it, which is renamed when complete: folder/NAME is there
    completely or not at all; where it is there, it is returned as it is, whatever its seed. ValueError for an unknown
    set.
    """
    drawn_set(name)
    target = Path(folder) / name
    if all((target / split).is_dir() for split in SPLITS):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=target.parent) as temporary:
        fresh = Path(temporary) / name
        for split in SPLITS:
            for class_name, index, image in draw_set(name, split, seed):
                path = fresh / split / class_name / f"{index:04d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                image.save(path, compress_level=1)
        try:
            fresh.rename(target)
        except OSError:  # another process was faster
            if not all((target / split).is_dir() for split in SPLITS):
                raise
    return target


def sheet(
    name: str, columns: int | None = None, rows: int = 6, seed: int = 0, size: int | None = None, gap: int = 3
) -> Image.Image:
    """A contact sheet of the training pictures of a set, `size` px each, `gap` px of white between them.

    The classes follow one another row by row, over and over; by default a column a class, ten columns at most.
    """
    drawn = drawn_set(name)
    columns = columns or min(10, len(drawn.classes))
    size = size or drawn.size
    paper = Image.new(drawn.mode, (columns * (size + gap) - gap, rows * (size + gap) - gap), "white")
    for cell in range(columns * rows):
        index, label = divmod(cell, len(drawn.classes))
        rng = np.random.Generator(np.random.PCG64([seed, label, 0, index]))
        corner = cell % columns * (size + gap), cell // columns * (size + gap)
        paper.paste(drawn.draw(drawn.classes[label], rng, size), corner)
    return paper
