"""What all dishes share: tables, plates, garnish and clutter, each about the unit disc of its pen.

All of them come from the same pools whatever the dish, so that what lies around a dish does not
tell which one it is.
"""

from collections.abc import Callable, Iterable

import numpy as np

from going_modular.drawn.paints import (
    BITES,
    BROWN,
    BUTTER,
    CARROT,
    CHAR,
    CHERRY,
    GOLD,
    LEAF,
    LIME,
    MINT,
    NORI,
    OLIVE,
    PINK,
    PLATES,
    PLUM,
    SAND,
    SHADOW,
    SKY,
    SLATE,
    TABLES,
    TOMATO,
    WHITE,
    darker,
    lighter,
    mix,
)
from going_modular.drawn.pen import Pen, arc, blob, circle, ramp, rounded_box, spread, unit

# -------------------------------------------------------------------------------------------------
# Tables and plates


def tabletop(pen: Pen) -> None:
    """Fill the image with planks, checks, stripes, marble, tiles, dots, or plain cloth or stone."""
    base = pen.tint(pen.pick(TABLES), 30)
    other = pen.pick((lighter, darker))(base, pen.between(0.1, 0.35))
    if pen.chance(0.15):
        other = pen.tint(pen.pick(TABLES), 30)
    pen.image.paste(base, (0, 0, *pen.image.size))

    # rows from -2.2 to 2.2 reach the corners of the picture at nearly any angle and size
    kind = pen.pick(
        ("planks", "planks", "checks", "stripes", "marble", "tiles", "dots", "plain", "plain")
    )
    pen = pen.at(pen.between(-0.2, 0.2), pen.between(0.7, 1.3), pen.angle())
    step = pen.between(0.22, 0.5)
    rows = np.arange(-2.2, 2.2, step).tolist()
    if kind in ("planks", "tiles"):
        for y in rows:
            if kind == "planks":
                board = -3 + 1j * y, 3 + 1j * y, 3 + 1j * (y + step), -3 + 1j * (y + step)
                pen.fill(board, mix(base, other, 0.5 * pen.rng.random()))
                grain = 1j * (y + step / 3) - 3, 1j * (y + step / 2) + 3
                pen.line(grain, (*darker(base), 70), 0.015)
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
            vein = ramp(9, -2, 2) + 1j * (np.cumsum(steps) + pen.between(-1.5, 1.5))
            pen.line(vein, (*other, 150), 0.03)

    # stains, brushed streaks either way, or a fine texture
    texture = pen.pick(((4, 4), (3, 24), (24, 3), (16, 16), (40, 40)))
    pen.cloud(darker(base, 0.6), *texture, pen.between(0.2, 0.5))


def plate(pen: Pen) -> None:
    """Something to serve on: a plate, a dish with corners, a board, a slate, paper or nothing."""
    kind = pen.pick(("plate", "plate", "plate", "square", "board", "board", "paper", "nothing"))
    base = pen.tint(pen.pick(PLATES))
    if kind == "plate":
        pen.shadow(circle(40), 0.1)
        pen.disc(0, 1, darker(base, 0.15))
        pen.disc(-0.01 * pen.fall, 0.98, base)
        well = pen.between(0.66, 0.8)
        # a coloured band on the rim
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
        outline = rounded_box(width, height, corner)
        pen.shadow(outline, 0.1)
        # a board is thick: its edge shows below it
        if kind == "board":
            pen.fill(outline + 0.02 + 0.04j, darker(base, 0.4))
        pen.fill(outline, base)
        if kind == "square":
            pen.fill(0.86 * outline, darker(base, 0.13))
            pen.fill(0.85 * outline + 0.008 + 0.012j, lighter(base, 0.12))
        # the grain of a board, the folds of paper
        for y in () if kind == "square" else (-0.6, -0.3, 0.05, 0.3, 0.62):
            grain = 0.9 * width * np.array([-1, 1]) + 1j * height * (y + np.array([0, 0.04]))
            pen.line(grain, darker(base, 0.14), 0.015 if kind == "board" else 0.03)


def plate_from_the_side(pen: Pen, y: float, width: float = 1.0) -> None:
    """A plate or board seen from the side, at height `y`, with its shadow."""
    base = pen.tint(pen.pick(PLATES))
    pen.shadow(rounded_box(1.1 * width, 0.2, 1.0) + 1j * y, 0.1, 0.6)
    if pen.chance(0.6):
        pen.fill(rounded_box(width, 0.2, 1.0) + 1j * (y + 0.04), darker(base, 0.3))
        pen.fill(rounded_box(width, 0.19, 1.0) + 1j * y, base)
        pen.fill(rounded_box(0.7 * width, 0.12, 1.0) + 1j * (y + 0.01), darker(base, 0.12))
    else:
        pen.fill(rounded_box(width, 0.1, 0.2) + 1j * (y + 0.08), darker(base, 0.35))
        pen.fill(rounded_box(width, 0.1, 0.2) + 1j * y, base)


# -------------------------------------------------------------------------------------------------
# Garnish: small things to eat, on the plate or beside it


def leaf(pen: Pen) -> None:
    """A leaf along x, with its rib."""
    green = pen.tint(pen.pick((LEAF, LEAF, LIME, OLIVE, MINT, PLUM)))
    outline = np.concatenate([arc(1.3, -2.4, -0.75, 7) + 0.9j, arc(1.3, 0.75, 2.4, 7) - 0.9j])
    pen.fill(outline + 0.08 + 0.1j, (*SHADOW, 80))
    pen.fill(outline, green)
    pen.line([-0.9, 0.9], lighter(green), 0.09)


def tomato(pen: Pen) -> None:
    """A cherry tomato, or another round fruit, with a gleam on it."""
    red = pen.tint(pen.pick((TOMATO, CHERRY, CARROT, BUTTER, LIME)))
    pen.disc(0.14 * pen.fall, 1, (*SHADOW, 80))
    pen.disc(0, 1, darker(red, 0.2))
    pen.disc(-0.05 - 0.06j, 0.9, red)
    pen.disc(-0.35 - 0.4j, 0.2, lighter(red, 0.7))


CITRUS_SEGMENT = np.array([0.12, 0.72 * unit(-0.33), 0.76, 0.72 * unit(0.33)])


def citrus(pen: Pen) -> None:
    """A slice of lemon, lime or orange: rind, pith and seven segments."""
    rind = pen.tint(pen.pick((BUTTER, LIME, CARROT, PINK, LEAF)))
    pen.disc(0.14 * pen.fall, 1, (*SHADOW, 80))
    pen.disc(0, 1, rind)
    pen.disc(0, 0.84, lighter(rind, 0.75))
    for k in range(7):
        # 0.898 radians are a seventh of a turn
        pen.fill(CITRUS_SEGMENT * unit(0.898 * k), lighter(rind, 0.2))


def heap(pen: Pen) -> None:
    """A little pile of something: ginger, wasabi, slaw, mash."""
    base = pen.tint(pen.pick(BITES))
    pen.fill(1.05 * blob(pen.rng, 0.12, 16) + 0.12 + 0.16j, (*SHADOW, 80))
    for place in spread(pen.rng, 3, 0.5):
        pen.fill(place + 0.6 * blob(pen.rng, 0.15, 10), lighter(base, 0.35 * pen.rng.random()))


def dip(pen: Pen) -> None:
    """A small round bowl of sauce."""
    bowl, sauce = pen.tint(pen.pick(PLATES)), pen.tint(pen.pick(BITES + (CHAR, BROWN)))
    pen.disc(0.14 * pen.fall, 1, (*SHADOW, 90))
    pen.disc(0, 1, bowl)
    pen.disc(0, 0.82, darker(bowl))
    pen.disc(0.03 + 0.04j, 0.76, sauce)
    pen.line(arc(0.5, 3.4, 4.6, 6), lighter(sauce, 0.5), 0.1)


def greens(pen: Pen) -> None:
    """A bundle of beans, asparagus, chives or carrots, along x."""
    green = pen.tint(pen.pick((LEAF, LIME, OLIVE, BUTTER, CARROT, GOLD)))
    for y in (-0.6, -0.3, 0, 0.3, 0.6):
        start = pen.between(-1.2, -0.8) + 1j * y
        end = pen.between(0.8, 1.2) + 1j * (y + pen.between(-0.3, 0.3))
        pen.line([start + 0.1j, end + 0.1j], (*SHADOW, 80), 0.25)
        pen.line([start, end], mix(green, lighter(green), pen.rng.random()), 0.22)


GARNISHES: tuple[Callable[[Pen], None], ...] = (
    leaf, leaf, leaf, tomato, citrus, heap, dip, greens, greens,
)


def garnish(pen: Pen, places: Iterable[complex], size: float = 0.2) -> None:
    """Put a random garnish at each of the places.

    A generator of random places takes its numbers as it goes, between those of the garnishes.
    """
    for place in places:
        pen.pick(GARNISHES)(pen.at(place, size * pen.between(0.75, 1.2), pen.angle()))


# -------------------------------------------------------------------------------------------------
# Clutter: what lies on the table beside the plate


def crumbs(pen: Pen, count: int = 12) -> None:
    """Crumbs or herbs of one colour, all over the picture."""
    colour = pen.tint(pen.pick(BITES))
    for place in spread(pen.rng, count, 1.4):
        pen.disc(place, 0.02, colour)


def cutlery(pen: Pen) -> None:
    """A fork, a knife or a spoon along x, two units long."""
    metal = pen.tint(pen.pick((WHITE, SLATE, GOLD, SAND)))
    kind = pen.pick(("fork", "knife", "spoon"))
    # the same form three times: its shadow, the metal, and a thin gleam along it
    layers = (
        (0.08 * pen.fall, (*SHADOW, 90), 0.09),
        (0, metal, 0.09),
        (-0.012j, lighter(metal, 0.5), 0.03),
    )
    for shift, colour, width in layers:
        pen.line([shift - 1, shift + 0.4], colour, width)
        if kind == "knife":
            blade = np.array([0.2 - 0.08j, 0.95 - 0.08j, 1.05, 0.9 + 0.07j, 0.2 + 0.05j])
            pen.fill(shift + blade, colour)
        elif kind == "spoon":
            pen.fill(shift + 0.65 + rounded_box(0.3, 0.17, 1.0) * width / 0.09, colour)
        else:
            for y in (-0.12j, -0.04j, 0.04j, 0.12j):
                pen.line([shift + 0.4, shift + 0.55 + y, shift + 1 + y], colour, 0.4 * width)


def chopsticks(pen: Pen) -> None:
    """Two chopsticks along x, thinner at the left and not quite parallel."""
    wood = pen.tint(pen.pick((CHAR, CHERRY, GOLD, SAND, NORI, SKY)))
    for y in (-0.09j, pen.between(0.02, 0.14) * 1j):
        stick = np.array(
            [-1.3 + 2 * y - 0.05j, 1.2 + y - 0.02j, 1.2 + y + 0.02j, -1.3 + 2 * y + 0.05j]
        )
        pen.fill(stick + 0.06 + 0.07j, (*SHADOW, 90))
        pen.fill(stick, wood)
        pen.line([-1.3 + 2 * y - 0.02j, 1.1 + y], lighter(wood, 0.4), 0.02)


def glass(pen: Pen) -> None:
    """A glass of something to drink, seen from above."""
    drink = pen.tint(pen.pick((WHITE, SKY, GOLD, CHERRY, CARROT, LIME, CHAR)))
    pen.disc(0.12 * pen.fall, 0.55, (*SHADOW, 90))
    pen.disc(0, 0.55, lighter(drink, 0.6))
    pen.disc(0, 0.49, drink)
    pen.line(arc(0.38, 3.3, 4.7, 8), lighter(drink, 0.7), 0.07)


def napkin(pen: Pen) -> None:
    """A folded cloth with two stripes, five or none."""
    cloth = pen.tint(pen.pick(TABLES))
    outline = rounded_box(0.75, 0.75, 0.08)
    pen.fill(outline + 0.05 * pen.fall, (*SHADOW, 90))
    pen.fill(outline, cloth)
    for x in pen.pick(((-0.6, 0.6), (-0.5, -0.25, 0, 0.25, 0.5), ())):
        pen.line([x - 0.72j, x + 0.72j], pen.pick((lighter, darker))(cloth, 0.4), 0.06)
    pen.line([-0.7 + 0.7j, 0.7 - 0.7j], darker(cloth, 0.2), 0.03)


def neighbour(pen: Pen) -> None:
    """Another plate, with a bite of something on it."""
    base = pen.tint(pen.pick(PLATES))
    pen.disc(0.1 * pen.fall, 0.8, (*SHADOW, 110))
    pen.disc(0, 0.8, base)
    pen.disc(0, 0.62, darker(base, 0.1))
    garnish(pen, [0.25 * unit(pen.angle())])


CLUTTER: tuple[Callable[[Pen], None], ...] = (
    cutlery, cutlery, chopsticks, glass, napkin, neighbour, neighbour,
)


def clutter(pen: Pen) -> None:
    """One or two things around the edge of the picture, and crumbs or herbs."""
    count = int(pen.between(1, 3))
    turn = pen.angle()
    for k in range(count):
        # evenly around the middle, then shaken, so that two things seldom lie on each other
        distance = pen.between(0.85, 1.2)
        place = distance * unit(turn + k * 2 * np.pi / count + pen.between(-0.5, 0.5))
        pen.pick(CLUTTER)(pen.at(place, pen.between(0.5, 0.85), pen.angle()))
    few = range(int(pen.between(0, 3)))
    garnish(pen, (pen.between(0.8, 1.1) * unit(pen.angle()) for _ in few), 0.14)
    if pen.chance(0.5):
        crumbs(pen)
