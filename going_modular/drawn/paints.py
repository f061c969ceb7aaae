"""The colours of the drawn pictures: the palette, the pools shared by all dishes, and mixing.

A colour is (r, g, b), or (r, g, b, alpha) where it is laid over what is already there; each number
is from 0 to 255.
"""

import numpy as np

Colour = tuple[int, ...]

# The palette. It has no RED and ORANGE: these are colours of the figures, in plots.py.
WHITE: Colour = (246, 243, 236)
CREAM: Colour = (243, 226, 190)
BUTTER: Colour = (250, 214, 110)
GOLD: Colour = (222, 160, 70)
CARROT: Colour = (238, 128, 50)
CHERRY: Colour = (188, 40, 36)
TOMATO: Colour = (214, 62, 40)
PINK: Colour = (240, 150, 150)
PLUM: Colour = (112, 40, 70)
BROWN: Colour = (122, 70, 38)
CHAR: Colour = (54, 36, 30)
NORI: Colour = (30, 42, 36)
SLATE: Colour = (78, 84, 92)
SKY: Colour = (140, 186, 214)
NAVY: Colour = (44, 62, 110)
LEAF: Colour = (62, 120, 46)
LIME: Colour = (150, 190, 70)
OLIVE: Colour = (108, 112, 44)
MINT: Colour = (150, 206, 176)
SAND: Colour = (206, 182, 146)

SHADOW: Colour = (12, 8, 16)  # not quite black: the shadows of a room have some light in them

# The pools that all dishes share. They are wide, so that the colours of a table, a plate or a bite
# say little about the dish; a colour that stands twice is taken twice as often.
TABLES = (
    WHITE, CREAM, GOLD, TOMATO, PINK, PLUM, BROWN, CHAR, SLATE,
    SKY, NAVY, LEAF, LIME, MINT, SAND, BROWN, SAND,
)
PLATES = (
    WHITE, WHITE, WHITE, CREAM, SLATE, SKY, NAVY,
    MINT, PINK, GOLD, CHAR, SAND, TOMATO, OLIVE,
)
BITES = (
    CHERRY, TOMATO, CARROT, BUTTER, LEAF, LIME, WHITE, PINK, NORI, BROWN, PLUM, CREAM,
)  # garnish, sauces, fillings, icing, sprinkles


def clip(value: float) -> int:
    """A channel's value as a whole number from 0 to 255."""
    return min(255, max(0, int(value)))


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """The colour `share` of the way from a to b, both (r, g, b)."""
    return (
        int(a[0] + (b[0] - a[0]) * share),
        int(a[1] + (b[1] - a[1]) * share),
        int(a[2] + (b[2] - a[2]) * share),
    )


def darker(colour: Colour, share: float = 0.3) -> Colour:
    """The colour, `share` of the way to a warm black."""
    return mix(colour, (20, 10, 15), share)


def lighter(colour: Colour, share: float = 0.3) -> Colour:
    """The colour, `share` of the way to a warm white."""
    return mix(colour, (255, 250, 235), share)


def hue(angle: float, light: float, strength: float) -> Colour:
    """The colour at an angle (radians) of the wheel, about `light` (0 to 255), `strength` off grey."""
    return tuple(clip(light + strength * np.cos(angle - k * 2 * np.pi / 3)) for k in range(3))
