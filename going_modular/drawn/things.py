"""Things: ten forms with ten patterns are a hundred classes; neither alone tells the class."""

from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from going_modular.drawn.camera import photograph
from going_modular.drawn.paints import Colour, darker, hue, mix
from going_modular.drawn.pen import SUPERSAMPLING, Pen, arc, blob, circle, ring


@cache
def forms() -> dict[str, np.ndarray]:
    """The outlines of the ten forms, each about the unit disc."""
    z = circle(60)
    t = np.angle(z)
    heart_y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    heart = 16 * np.sin(t) ** 3 - 1j * heart_y
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


# -------------------------------------------------------------------------------------------------
# Patterns: each draws with `ink` on an image that is filled with `paint`. The form is cut out of it
# afterwards.

STEPS = np.arange(-1.5, 1.6, 0.25)  # where stripes, dots and lines lie: past the form on all sides


def no_pattern(pen: Pen, outline: np.ndarray, paint: Colour, ink: Colour) -> None:
    """Nothing but the paint."""


def stripes(pen: Pen, outline: np.ndarray, paint: Colour, ink: Colour) -> None:
    """Upright stripes, as wide as the gaps."""
    for x in STEPS[::2]:
        pen.line([x - 2j, x + 2j], ink, 0.24)


def dots(pen: Pen, outline: np.ndarray, paint: Colour, ink: Colour) -> None:
    """Rows of dots, every second one shifted by half a step."""
    for k, y in enumerate(STEPS[::2]):
        for x in STEPS[::2]:
            pen.disc(x + 0.25 * (k % 2) + 1j * y, 0.16, ink)


def checks(pen: Pen, outline: np.ndarray, paint: Colour, ink: Colour) -> None:
    """The squares of a chessboard."""
    for y in range(-4, 4):
        for x in range(-4 + y % 2, 4, 2):
            pen.fill(0.45 * (x + 1j * y + np.array([0, 1, 1 + 1j, 1j])), ink)


def grid_lines(pen: Pen, outline: np.ndarray, paint: Colour, ink: Colour) -> None:
    """Thin lines across and down."""
    for x in STEPS[::2]:
        pen.line([x - 2j, x + 2j], ink, 0.11)
        pen.line([1j * x - 2, 1j * x + 2], ink, 0.11)


def rings(pen: Pen, outline: np.ndarray, paint: Colour, ink: Colour) -> None:
    """The rings of a target, from the outside in."""
    for k, radius in enumerate((1.25, 1.0, 0.75, 0.5, 0.25)):
        pen.fill(radius * circle(24), (ink, paint)[k % 2])


def frame(pen: Pen, outline: np.ndarray, paint: Colour, ink: Colour) -> None:
    """A thick edge along the outline of the form."""
    pen.line(np.append(outline, outline[:2]), ink, 0.42)


def right_half(pen: Pen, outline: np.ndarray, paint: Colour, ink: Colour) -> None:
    """Ink on the right half."""
    pen.fill(np.array([-2j, 2 - 2j, 2 + 2j, 2j]), ink)


def zigzag(pen: Pen, outline: np.ndarray, paint: Colour, ink: Colour) -> None:
    """Jagged lines across."""
    for y in STEPS[::2]:
        pen.line(STEPS + 1j * (y + 0.15 * (-1.0) ** np.arange(len(STEPS))), ink, 0.17)


def fade(pen: Pen, outline: np.ndarray, paint: Colour, ink: Colour) -> None:
    """From paint at the top to ink at the bottom, in twelve steps."""
    for share in np.linspace(0, 1, 12):
        y = 2 * share - 1
        pen.fill(1j * y + np.array([-2, 2, 2 + 2j, -2 + 2j]), mix(paint, ink, share))


# The word that stands in the name of a class, and what draws it.
PATTERNS: dict[str, Callable[[Pen, np.ndarray, Colour, Colour], None]] = {
    "plain": no_pattern,
    "striped": stripes,
    "dotted": dots,
    "checked": checks,
    "gridded": grid_lines,
    "ringed": rings,
    "framed": frame,
    "halved": right_half,
    "zigzag": zigzag,
    "faded": fade,
}
THINGS: tuple[str, ...] = tuple(f"{form}_{pattern}" for form in forms() for pattern in PATTERNS)


# -------------------------------------------------------------------------------------------------
# The picture


def draw_thing(thing: str, rng: np.random.Generator, size: int = 32) -> Image.Image:
    """A form with a pattern, such as star_striped: RGB, size x size px.

    ValueError for a name that is not in THINGS.
    """
    if thing not in THINGS:
        raise ValueError(f"unknown thing {thing!r}; known are {', '.join(THINGS)}")
    form, pattern = thing.split("_")
    image = Image.new("RGB", (size * SUPERSAMPLING, size * SUPERSAMPLING))
    pen = Pen(image, rng)

    # three random hues; paint and ink differ much in lightness, so that the pattern can be seen
    dark, turn = pen.chance(0.5), pen.angle()
    paint = hue(turn, 80 if dark else 185, pen.between(20, 70))
    ink = hue(turn + pen.between(1, 5), 205 if dark else 60, pen.between(20, 60))
    ground = hue(turn + pen.between(1.5, 4.8), pen.between(70, 190), pen.between(20, 60))

    # the background: four coloured patches and a cloud
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

    # the pattern is drawn on an image of its own, in the same frame, and the form is cut out of it
    mask = Image.new("L", image.size)
    ImageDraw.Draw(mask).polygon(pen.pixels(outline), fill=255)
    patterned = Pen(Image.new("RGB", image.size, paint), rng)
    patterned.origin, patterned.turn = pen.origin, pen.turn
    PATTERNS[pattern](patterned, outline, paint, ink)
    image.paste(patterned.image, mask=mask)
    return photograph(pen, size, strength=0.6)
