"""Ten dishes: a function draws each about the unit disc of its pen, with random parts and colours.

To add one, write its function and enter it at the end of DRAW_DISH. Form tells the dishes apart; the
pools of colours overlap on purpose.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from going_modular.drawn.camera import photograph
from going_modular.drawn.paints import (
    BITES,
    BROWN,
    BUTTER,
    CARROT,
    CHAR,
    CHERRY,
    CREAM,
    GOLD,
    LEAF,
    LIME,
    MINT,
    NAVY,
    NORI,
    OLIVE,
    PINK,
    PLATES,
    PLUM,
    SAND,
    SHADOW,
    SKY,
    SLATE,
    TOMATO,
    WHITE,
    Colour,
    darker,
    lighter,
    mix,
)
from going_modular.drawn.pen import (
    FULL_TURN,
    SUPERSAMPLING,
    Pen,
    along,
    arc,
    blob,
    chord,
    circle,
    ring,
    rounded_box,
    spread,
    unit,
)
from going_modular.drawn.scenery import (
    chopsticks,
    clutter,
    garnish,
    heap,
    leaf,
    plate,
    plate_from_the_side,
    tabletop,
    tomato,
)

# Pools of colours that several dishes share; one that stands twice is taken twice as often.
SAUCES = (TOMATO, TOMATO, TOMATO, CHERRY, CHERRY, CARROT, CREAM, LEAF, BROWN)
DOUGHS = (GOLD, GOLD, GOLD, CREAM, SAND, BROWN)

# -------------------------------------------------------------------------------------------------
# Pizza

CHEESES = (BUTTER, BUTTER, CREAM, GOLD, CARROT)


def slice_of_meat(pen: Pen) -> None:
    """A round slice with three spots of fat."""
    meat = pen.tint(pen.pick((CHERRY, CHERRY, TOMATO, PINK, BROWN)))
    pen.disc(0.14 * pen.fall, 1, (*SHADOW, 90))
    pen.disc(0, 1, darker(meat))
    pen.disc(-0.06 - 0.06j, 0.85, meat)
    for place in (-0.4 - 0.3j, 0.35 - 0.35j, 0.05 + 0.45j):
        pen.disc(place, 0.14, lighter(meat, 0.4))


def olive_ring(pen: Pen) -> None:
    """A slice of an olive or of an onion."""
    colour = pen.tint(pen.pick((NORI, OLIVE, CHAR, PLUM, WHITE, LIME)))
    pen.fill(ring(0.8 * circle(14), 0.35 * circle(14)), colour)
    pen.line(arc(0.6, 3.3, 4.6, 5), lighter(colour, 0.5), 0.14)


def mushroom(pen: Pen) -> None:
    """A slice through a mushroom: cap, stem and gills."""
    colour = pen.tint(pen.pick((SAND, CREAM, BROWN, WHITE)))
    stem = [0.3 + 0.1j, 0.35 + 0.8j, -0.35 + 0.8j, -0.3 + 0.1j]
    gills = [0.1j - 0.9, -0.3 + 0.1j, -0.3j - 0.3, -0.3j + 0.3, 0.3 + 0.1j, 0.9 + 0.1j]
    pen.fill(np.concatenate([arc(1, np.pi, 2 * np.pi, 9), stem]), colour)
    pen.line(gills, darker(colour, 0.5), 0.14)


def strip(pen: Pen) -> None:
    """A bent strip of pepper or onion."""
    colour = pen.pick((LEAF, CHERRY, BUTTER, PLUM, WHITE, LIME))
    pen.line(arc(1, 0.2, 2.4, 7) - 0.6j, pen.tint(colour), 0.35)


TOPPINGS: tuple[Callable[[Pen], None], ...] = (
    slice_of_meat, slice_of_meat, slice_of_meat, olive_ring, mushroom, strip, leaf, tomato,
)


class PizzaLook(NamedTuple):
    """What all wedges of one pizza have in common.

    A topping is (what draws it, how many lie on a whole pizza, size).
    """

    dough: Colour
    sauce: Colour
    cheese: Colour
    toppings: list[tuple[Callable[[Pen], None], float, float]]


def pizza_wedge(pen: Pen, look: PizzaLook, start: float, end: float) -> None:
    """The part of a pizza between two angles in radians."""
    dough, sauce, cheese, toppings = look
    # a part has its tip in the middle; a whole pizza has none
    tip = [0] if end - start < 6.2 else []
    edge = arc(1, start, end, 40) * abs(blob(pen.rng, 0.015, 40))

    def part(radius: float) -> np.ndarray:
        return np.concatenate([tip, radius * edge])

    # the crust, with darker spots from the oven
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
        first, count = pen.rng.random(), max(2, round(per_pizza * (end - start) / FULL_TURN))
        for k in range(count):
            radius = 0.68 * ((k + 0.5) / count) ** 0.5 + 0.04
            margin = min(0.45, 0.12 / radius / (end - start)) if tip else 0
            # steps of the golden ratio, 0.618 of the way round, never come close to each other soon
            spot = ((k * 0.618 + first) % 1) * (1 - 2 * margin) + margin
            yield radius * unit(start + spot * (end - start))

    # melted cheese is not of one colour
    for place in places(7):
        browned = pen.pick((lighter(cheese, 0.4), darker(cheese, 0.2), mix(cheese, sauce, 0.6)))
        patch = 0.95 * place + pen.between(0.06, 0.13) * blob(pen.rng, 0.2, 10)
        pen.fill(patch, (*browned, 150))
    for topping, per_pizza, size in toppings:
        for place in places(per_pizza):
            topping(pen.at(place, size, pen.angle()))


def pizza(pen: Pen) -> None:
    """A whole pizza, one with a part missing, or up to three slices."""
    look = PizzaLook(
        pen.tint(pen.pick(DOUGHS)),
        pen.tint(pen.pick(SAUCES)),
        pen.tint(pen.pick(CHEESES)),
        [
            (pen.pick(TOPPINGS), pen.between(5, 12), pen.between(0.09, 0.15))
            for _ in range(pen.pick((1, 2, 2)))
        ],
    )
    plate(pen.at(0, pen.between(1.05, 1.25)))
    start = pen.angle()
    kind = pen.pick(("whole", "whole", "part", "part", "slices"))
    if kind == "slices":
        count = pen.pick((1, 2, 3, 3))
        for k in range(count):
            middle = start + k * 2 * np.pi / count
            # a single slice is drawn larger and moved, so that it lies in the middle of the plate
            single = count == 1
            wedge = pen.at(-0.75 * unit(start), 1.5) if single else pen.at(0.1 * unit(middle))
            left, right = middle - pen.between(0.38, 0.5), middle + pen.between(0.38, 0.5)
            pizza_wedge(wedge, look, left, right)
        return
    end = start + (2 * np.pi if kind == "whole" else pen.between(3.6, 5.5))
    pizza_wedge(pen, look, start, end)
    # cuts across a whole pizza, an eighth of a turn (0.785 radians) apart
    for k in range(pen.pick((0, 3, 4)) if kind == "whole" else 0):
        cut = 0.9 * unit(start + k * 0.785)
        pen.line([-cut, cut], (*darker(look.cheese, 0.6), 130), 0.02)


# -------------------------------------------------------------------------------------------------
# Steak

SEARED = (BROWN, BROWN, CHAR, (150, 84, 52), (168, 98, 70))
RARE_TO_DONE = (CHERRY, PINK, (200, 84, 80), (170, 110, 86))


def steak(pen: Pen) -> None:
    """A steak in one piece, with a bone, half cut up, or in slices; with garnish, often sauce or butter."""
    seared = pen.tint(pen.pick(SEARED))
    inside = pen.tint(pen.pick(RARE_TO_DONE))
    fat = pen.tint(pen.pick((CREAM, BUTTER, SAND, WHITE, GOLD)))
    plate(pen.at(0, pen.between(1.05, 1.25)))
    if pen.chance(0.4):
        puddle = 0.8 * blob(pen.rng, 0.12) + pen.between(-0.2, 0.2)
        pen.fill(puddle, (*pen.tint(pen.pick(SAUCES + (CHAR, LIME))), 200))
    beside = pen.pick((1j, -1j))
    directions = (-0.6, 0, 0.6)[: pen.pick((1, 2, 3))]
    garnish(pen, (beside * pen.between(0.62, 0.8) * unit(a) for a in directions), 0.26)

    # the meat: an uneven oval, bent like a kidney
    kind = pen.pick(("whole", "whole", "bone", "half", "sliced"))
    z = circle(48)
    bend = pen.between(0.1, 0.3)
    outline = z.real * pen.between(0.78, 0.95) + 1j * z.imag * pen.between(0.46, 0.6)
    outline = outline * abs(blob(pen.rng, 0.06, 48)) + 1j * bend * outline.real**2 - 0.1j
    if kind != "sliced":
        steak_in_one_piece(pen, outline, bend, seared, fat, bone=kind == "bone")
    if kind in ("sliced", "half"):
        steak_slices(pen, bend, seared, inside, whole=kind == "sliced")

    # a knob of butter, and salt, pepper or herbs
    if pen.chance(0.4):
        butter = pen.at(pen.between(-0.3, 0.3) + 0.05j, 0.14, pen.angle())
        butter.fill(rounded_box(1, 1, 0.3) + 0.15 + 0.2j, (*SHADOW, 120))
        butter.fill(rounded_box(1, 1, 0.3), pen.tint(pen.pick((BUTTER, CREAM, LIME))))
        butter.fill(0.7 * rounded_box(1, 1, 0.3) - 0.1, lighter(BUTTER, 0.5))
    if pen.chance(0.5):
        for place in spread(pen.rng, 9, 0.5):
            pen.disc(place, 0.025, pen.tint(pen.pick((LEAF, WHITE, CHERRY, NORI))))


def steak_in_one_piece(
    pen: Pen, outline: np.ndarray, bend: float, seared: Colour, fat: Colour, bone: bool
) -> None:
    """A steak with a rim of fat and the marks of a grill, crossed where it was turned on it."""
    pen.shadow(outline, 0.09, 0.65)
    pen.fill(outline + 0.05 * pen.fall, darker(seared, 0.55))
    pen.fill(outline, fat)
    meat = 0.94 * outline + 0.05j
    pen.fill(meat, darker(seared, 0.25))
    meat = 0.95 * meat - 0.008 - 0.008j
    pen.fill(meat, seared)

    # lighter and darker spots, along the bend of the meat
    for place in spread(pen.rng, 8, 0.8):
        spot = place.real * 0.75 + 1j * (place.imag * 0.42 + bend * place.real**2 * 0.5)
        colour = pen.pick((lighter, darker))(seared, 0.3)
        pen.fill(spot + pen.between(0.04, 0.12) * blob(pen.rng, 0.25, 9), (*colour, 90))

    # grill marks: the outline is turned until they are level, since `chord` cuts it at a height,
    # and their ends are turned back
    slant = unit(pen.between(0.5, 1.2))
    for direction in (slant, slant.conjugate())[: pen.pick((1, 1, 2))]:
        turned = 0.9 * meat * direction
        for height in np.arange(-0.65, 0.7, 0.2):
            ends = chord(turned, height)
            if ends and ends[1] - ends[0] > 0.15:
                mark = np.array(ends) / direction + 1j * height / direction
                pen.line(mark, (*darker(seared, 0.8), 225), 0.065)
    if bone:
        t_bone = [0.02 - 0.5j, 0.03 + 0.15j, 0.5 + 0.12j]
        pen.line(t_bone, darker(seared, 0.5), 0.17)
        pen.line(t_bone, fat, 0.11)
    # light on the upper edge
    pen.line(0.8 * outline[26:36] + 0.06j, (*lighter(seared, 0.6), 110), 0.03)


def steak_slices(pen: Pen, bend: float, seared: Colour, inside: Colour, whole: bool) -> None:
    """The slices of a whole steak, or three at the right end of one, with the inside to be seen."""
    count = int(pen.between(5, 7.5)) if whole else 3
    reach = pen.between(0.62, 0.75)
    for k in range(count):
        x = reach * (2 * k / (count - 1) - 1) if whole else 0.3 + 0.26 * k
        place = x + 1j * (bend * x * x - 0.1 + pen.between(-0.03, 0.03))
        piece = pen.at(place, 1, 0.25 + pen.between(-0.06, 0.06))
        oval = rounded_box(0.17, pen.between(0.46, 0.56), 0.5)
        piece.fill(oval + 0.04 + 0.05j, (*SHADOW, 130))
        piece.fill(oval, darker(seared, 0.45))
        piece.fill(0.84 * oval + 0.02, mix(seared, inside, 0.4))
        piece.fill(0.66 * oval + 0.02, inside)
        piece.fill(0.4 * oval + 0.02, lighter(inside, 0.25))


# -------------------------------------------------------------------------------------------------
# Sushi

RICES = (WHITE, WHITE, WHITE, WHITE, CREAM)
FISHES = (CARROT, CARROT, CARROT, CHERRY, PINK, BUTTER, TOMATO)
WRAPPERS = (NORI, NORI, NORI, NORI, NORI, CHAR, LIME)


def nigiri(pen: Pen, rice: Colour, fish: Colour, band: bool) -> None:
    """A pillow of rice under a slab of fish, 2 x 1 units, perhaps with a band of seaweed."""
    pen.fill(rounded_box(1, 0.5, 0.5) + 0.16 * pen.fall, (*SHADOW, 130))
    pen.fill(rounded_box(1, 0.5, 0.5), darker(rice, 0.15))
    pen.fill(0.94 * rounded_box(1, 0.5, 0.5) - 0.02j, rice)
    top = rounded_box(1.02, 0.4, 0.6)
    pen.fill(top + 0.05j, darker(fish, 0.45))
    pen.fill(top - 0.05j, fish)
    for x in (-0.65, -0.3, 0.05, 0.4):
        pen.line([x - 0.38j, x + 0.28 - 0.05j, x + 0.2 + 0.28j], lighter(fish, 0.55), 0.07)
    if band:
        pen.fill(rounded_box(0.17, 0.53, 0.2), NORI)
    pen.line([-0.7 - 0.28j, 0.6 - 0.3j], (*lighter(fish, 0.8), 120), 0.08)


def maki(pen: Pen, rice: Colour, wrapper: Colour, fillings: list[Colour]) -> None:
    """A slice of a roll, seen from above: wrapper, rice, filling."""
    pen.disc(0.24 * pen.fall, 1, (*SHADOW, 130))
    pen.fill(circle(24), wrapper)
    pen.line(arc(0.9, 3.4, 4.9, 8), lighter(wrapper, 0.4), 0.1)
    pen.disc(0, 0.8, rice)
    for place in (-0.55 - 0.2j, 0.1 - 0.6j, 0.58 + 0.1j, -0.25 + 0.55j):
        pen.disc(place, 0.09, darker(rice, 0.15))
    # one filling lies in the middle, several around it
    single = len(fillings) == 1
    for k, filling in enumerate(fillings):
        place = 0 if single else 0.24 * unit(k * 2 * np.pi / len(fillings))
        pen.fill(place + (0.36 if single else 0.25) * blob(pen.rng, 0.1, 10), filling)


def sushi(pen: Pen) -> None:
    """Rows of nigiri, of maki or of both, or a circle of maki."""
    plate(pen.at(0, pen.between(1.05, 1.25)))
    rice = pen.tint(pen.pick(RICES))
    kind = pen.pick(("nigiri", "nigiri", "maki", "maki", "mixed", "circle"))
    fishes = [pen.tint(pen.pick(FISHES)) for _ in range(2)]
    wrappers = [pen.tint(pen.pick(WRAPPERS)) for _ in range(2)]
    fillings = [pen.tint(pen.pick(BITES)) for _ in range(pen.pick((1, 1, 2, 3)))]
    band = pen.chance(0.3)
    lean = pen.between(-0.5, 0.5)
    if kind == "circle":
        count = pen.pick((5, 6, 7))
        for k in range(count):
            place = 0.6 * unit(2 * np.pi * k / count)
            maki(pen.at(place, 0.24, pen.angle()), rice, wrappers[0], fillings)
        heap(pen.at(0, 0.2))
        return

    # nigiri stand upright, side by side, and take less room across
    grids = ((2, 2), (3, 2), (3, 2), (2, 3), (3, 3), (4, 2), (3, 1), (2, 1), (4, 3))
    columns, rows = pen.pick(grids)
    step = 0.62 if kind == "nigiri" else 1.0
    size = min(0.85 / (step * columns), 0.75 / rows, 0.5)
    for row in range(rows):
        rolls = kind == "maki" or kind == "mixed" and row % 2
        for column in range(columns):
            x, y = (2 * column - columns + 1) * size * step, (2 * row - rows + 1) * size
            shake = pen.between(-1, 1) + 1j * pen.between(-1, 1)
            place = x + 1j * y + 0.08 * size * shake
            if rolls:
                piece = pen.at(place, 0.92 * size, pen.angle())
                maki(piece, rice, wrappers[row % 2], fillings)
            else:
                piece = pen.at(place, 0.95 * size, 1.57 + lean)  # a quarter of a turn: upright
                nigiri(piece, rice, fishes[column % 2], band)

    edge = rows * size + 0.12
    few = range(pen.pick((0, 1, 2, 2)))
    garnish(pen, (pen.between(-0.6, 0.6) + 1j * edge * pen.pick((-1, 1)) for _ in few), 0.19)
    if pen.chance(0.25):
        chopsticks(pen.at(1j * edge, 0.8, pen.between(-0.15, 0.15)))


# -------------------------------------------------------------------------------------------------
# Burger


def wavy(width: float, y: float, height: float, waves: float, n: int = 25) -> np.ndarray:
    """[n + 2] points of a band from -width to width: the upper edge at `y`, the lower one a wave."""
    x = np.linspace(-width, width, n)
    lower = x + 1j * (y + height * (1 + 0.6 * np.cos(waves * np.pi * x / width)))
    return np.concatenate([lower, [width + 1j * y, -width + 1j * y]])


def burger(pen: Pen) -> None:
    """A burger from the side, built from the plate up; `y` is the top of what is there already."""
    bun = pen.tint(pen.pick(DOUGHS))
    plate_from_the_side(pen, 0.72)
    y = 0.68
    pen.shadow(rounded_box(0.8, 0.16, 1.0) + 1j * y, 0.08, 0.7)

    def layer(width: float, height: float, colour: Colour) -> None:
        nonlocal y
        pen.fill(rounded_box(width, height, 0.4) + 1j * (y - height), darker(colour, 0.3))
        pen.fill(rounded_box(width, 0.8 * height, 0.4) + 1j * (y - 1.2 * height), colour)
        y -= 1.75 * height

    # the lower half of the bun, one or two patties with cheese, tomato under some, and salad
    layer(0.76, 0.14, bun)
    for _ in range(pen.pick((1, 1, 2))):
        if pen.chance(0.6):
            width = pen.between(0.68, 0.76)
            layer(width, 0.05, pen.tint(pen.pick((TOMATO, CHERRY, PINK, PLUM))))
        width, height = pen.between(0.76, 0.84), pen.between(0.1, 0.14)
        layer(width, height, pen.tint(pen.pick((BROWN, CHAR, GOLD, SAND))))
        cheese = wavy(0.8, y - 0.05, 0.1, pen.pick((2, 3, 5)))
        pen.fill(cheese, pen.tint(pen.pick((BUTTER, CARROT, CREAM, GOLD))))
        y -= 0.04
    salad = wavy(0.86, y - 0.06, 0.08, pen.pick((7, 9, 11)), 45)
    pen.fill(salad, pen.tint(pen.pick((LEAF, LIME, PLUM, MINT))))
    y -= 0.03

    # the upper half of the bun: a dome with light on it, and seeds that follow its curve
    foot = [0.8 + 0.05j, 0.7 + 0.1j, -0.7 + 0.1j, -0.8 + 0.05j]
    dome = np.concatenate([rounded_box(0.8, pen.pick((0.42, 0.5, 0.58)), 0.75)[16:], foot])
    pen.fill(dome + 1j * (y - 0.04), darker(bun, 0.3))
    pen.fill(0.95 * dome + 1j * (y - 0.07), bun)
    pen.soft(0.5 * dome - 0.2 + 1j * (y - 0.14), lighter(bun, 0.8), 0.6)
    if pen.chance(0.7):
        for place in spread(pen.rng, 14, 0.62):
            seed_y = y - 0.12 - 0.45 * abs(place.imag) * (1 - place.real**2)
            seed = place.real + 1j * seed_y + rounded_box(0.035, 0.02, 1.0)[::4]
            pen.fill(seed, lighter(bun, 0.7))
    # a stick with an olive or the like on it
    if pen.chance(0.4):
        pen.line([-0.1 + 1j * (y - 0.4), 0.02 + 1j * (y - 0.95)], pen.tint(SAND), 0.03)
        pen.disc(0.02 + 1j * (y - 0.95), 0.07, pen.tint(pen.pick(BITES)))


# -------------------------------------------------------------------------------------------------
# Donuts


def donut(pen: Pen) -> None:
    """A donut with icing, and sprinkles or a drizzle on it."""
    dough = pen.tint(pen.pick(DOUGHS))
    icing = pen.tint(pen.pick(BITES + (SKY, MINT, CHAR)))
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
        # back and forth all around, in a colour that can be seen on the icing
        around = np.exp(1j * np.linspace(-2.9, 2.9, 30))
        drizzle = (0.62 + 0.17 * (-1.0) ** np.arange(30)) * around
        pen.line(drizzle, lighter(icing, 0.7) if sum(icing) < 500 else darker(icing, 0.7), 0.05)
    pen.line(arc(0.72, 3.5, 4.6, 8), (*lighter(icing, 0.8), 170), 0.06)


def donuts(pen: Pen) -> None:
    """One to four donuts on a plate."""
    plate(pen.at(0, pen.between(1.05, 1.25)))
    count = pen.pick((1, 1, 2, 3, 4))
    start, size = pen.angle(), {1: 0.85, 2: 0.52, 3: 0.48, 4: 0.44}[count]
    away = 0.0 if count == 1 else 0.56
    for k in range(count):
        donut(pen.at(away * unit(start + 2 * np.pi * k / count), size, pen.angle()))


# -------------------------------------------------------------------------------------------------
# Fried eggs


def fried_eggs(pen: Pen) -> None:
    """One to three fried eggs, in a pan or on a plate."""
    if pen.chance(0.5):
        metal = pen.tint(pen.pick((CHAR, SLATE, SAND, NAVY, CHERRY)))
        handle = pen.at(0, 1, pen.angle())
        handle.shadow(rounded_box(0.5, 0.1) + 1.4, 0.1, 0.5)
        handle.fill(rounded_box(0.5, 0.1) + 1.4, darker(metal))
        pen.shadow(1.05 * circle(40), 0.12, 0.6)
        pen.fill(1.05 * circle(40), lighter(metal, 0.25))
        pen.fill(0.98 * circle(40), darker(metal, 0.4))
        pen.fill(0.9 * circle(40) + 0.01j, metal)
    else:
        plate(pen.at(0, pen.between(1.1, 1.25)))

    count = pen.pick((1, 2, 2, 3))
    start, size = pen.angle(), {1: 0.72, 2: 0.5, 3: 0.44}[count]
    away = 0.0 if count == 1 else 0.45
    white = pen.tint(pen.pick((WHITE, WHITE, CREAM, lighter(SKY, 0.6), lighter(PINK, 0.6))))
    yolk = pen.tint(pen.pick((BUTTER, CARROT, GOLD, CARROT, TOMATO)))
    for k in range(count):
        egg = pen.at(away * unit(start + 2 * np.pi * k / count), size, pen.angle())
        outline = blob(pen.rng, 0.1)
        egg.shadow(outline, 0.06, 0.5)
        egg.fill(1.04 * outline, pen.tint(pen.pick((GOLD, BROWN, CREAM))))
        egg.fill(outline, darker(white, 0.08))
        egg.fill(0.86 * outline, white)
        centre = pen.between(-0.15, 0.15) + 1j * pen.between(-0.15, 0.15)
        egg.fill(centre + 0.05 + 0.07j + 0.4 * circle(24), darker(white, 0.3))
        egg.fill(centre + 0.38 * circle(24), darker(yolk, 0.15))
        egg.fill(centre - 0.02 - 0.02j + 0.33 * circle(24), yolk)
        # the gleam is at the upper left of the picture, however the egg is turned
        egg.disc(centre - 0.12 / egg.turn * abs(egg.turn) * (1 + 1j), 0.07, WHITE)

    # garnish between the eggs, and pepper or herbs
    directions = (0, 0.6, 2.9)[: pen.pick((0, 1, 2, 3))]
    garnish(pen, (0.75 * unit(start + 1.3 + a) for a in directions), 0.2)
    for place in spread(pen.rng, 12, 0.8):
        pen.disc(place, 0.02, pen.pick((CHAR, LEAF, CHERRY)))


# -------------------------------------------------------------------------------------------------
# Hot dog


def hot_dog(pen: Pen) -> None:
    """One or two hot dogs: a sausage in a bun with a line of sauce, salad or onions under some."""
    plate(pen.at(0, pen.between(1.05, 1.25)))
    count = pen.pick((1, 1, 2))
    pen = pen.at(0, 1, pen.angle())
    for k in range(count):
        bun = pen.tint(pen.pick(DOUGHS))
        meat = pen.tint(pen.pick((CHERRY, BROWN, TOMATO, PINK, PLUM, CARROT)))
        place, size = (0.6j * k - 0.3j) * (count - 1), 1.0 if count == 1 else 0.85
        one = pen.at(place, size, pen.between(-0.1, 0.1))

        # the bun, and the lighter cut in it
        loaf = rounded_box(0.92, 0.36, 0.55)
        one.shadow(loaf, 0.1, 0.6)
        one.fill(loaf, darker(bun, 0.3))
        one.fill(0.96 * loaf - 0.02j, bun)
        one.fill(rounded_box(0.84, 0.21, 0.45), lighter(bun, 0.45))
        if pen.chance(0.5):
            green = pen.tint(pen.pick((LEAF, LIME, PLUM, WHITE)))
            for x in np.arange(-0.75, 0.8, 0.19):
                bite = x + 0.17 * blob(pen.rng, 0.2, 9)
                one.fill(bite, mix(green, lighter(green), pen.rng.random()))

        # the sausage is a little bent
        sausage = rounded_box(1.04, 0.155, 0.6) + 0.05j * circle(32).real ** 2
        one.fill(sausage + 0.03 + 0.05j, (*SHADOW, 130))
        one.fill(sausage, darker(meat, 0.25))
        one.fill(0.93 * sausage - 0.015j, meat)
        one.line([-0.85 - 0.05j, 0.85 - 0.05j], (*lighter(meat, 0.6), 130), 0.03)
        sauce = pen.tint(pen.pick((BUTTER, TOMATO, WHITE, LIME, BROWN)))
        turns = pen.pick((9, 13, 17))
        squeezed = np.linspace(-0.8, 0.8, turns) + 0.1j * (-1.0) ** np.arange(turns)
        one.line(squeezed, sauce, 0.06)
    if count == 1:
        few = range(pen.pick((0, 1, 2)))
        garnish(pen, (pen.between(-0.6, 0.6) + 0.66j * pen.pick((-1, 1)) for _ in few), 0.24)


# -------------------------------------------------------------------------------------------------
# Ice cream


def ice_cream(pen: Pen) -> None:
    """One to three scoops in a cone or a cup, from the side."""
    pen = pen.at(0, 1, pen.between(-0.35, 0.35))
    waffle = pen.tint(pen.pick((GOLD, SAND, BROWN, CREAM)))
    cup = pen.chance(0.3)
    top = 0.05
    # the corners of cone or cup, clockwise from the upper left
    if cup:
        pen.shadow(rounded_box(0.7, 0.15, 1.0) + 0.95j, 0.08, 0.6)
        waffle = pen.tint(pen.pick(PLATES))
        body = np.array([-0.62 + top * 1j, 0.62 + top * 1j, 0.42 + 0.95j, -0.42 + 0.95j])
    else:
        body = np.array([-0.46 + top * 1j, 0.46 + top * 1j, 0.05 + 1.1j, -0.05 + 1.1j])
        pen.shadow(body, 0.12, 0.5)

    # the scoops come first: cone or cup hides their lower part
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

    # the cup has stripes down its side, the cone the crossing lines of a waffle
    upper_left, upper_right, lower_right, lower_left = body
    pen.fill(body, darker(waffle, 0.15))
    pen.fill(0.93 * body - 0.02, waffle)
    for share in np.linspace(0.1, 0.9, 5):
        from_left = along(upper_left, upper_right, share)
        from_right = along(upper_right, upper_left, share)
        if cup:
            pen.line([from_left, along(lower_left, lower_right, share)], darker(waffle, 0.25), 0.03)
        else:
            line = darker(waffle, 0.35)
            pen.line([from_left, along(upper_right, lower_right, 1 - share)], line, 0.025)
            pen.line([from_right, along(upper_left, lower_left, 1 - share)], line, 0.025)
    if not cup:
        pen.line([upper_left - 0.04, upper_right + 0.04], lighter(waffle, 0.3), 0.07)

    # a cherry on the last scoop
    if pen.chance(0.3):
        pen.disc(spots[-1] - reach * 1.1j, 0.12, pen.tint(CHERRY))
        stalk = spots[-1] - reach * 1.2j
        pen.line([stalk, stalk + 0.1 - 0.2j], pen.tint(LEAF), 0.025)


# -------------------------------------------------------------------------------------------------
# Pancakes


def pancakes(pen: Pen) -> None:
    """Three to seven pancakes from the side, mostly with syrup, and butter or berries on top."""
    plate_from_the_side(pen, 0.75, 1.1)
    batter = pen.tint(pen.pick(DOUGHS))
    count, thick, flat = int(pen.between(3, 8)), pen.between(0.085, 0.12), pen.between(0.2, 0.3)

    # from the lowest up; `y` is the middle of the next one, `flat` half of its height as seen
    y = 0.62
    for _ in range(count):
        x, width = pen.between(-0.04, 0.04), pen.between(0.7, 0.78)
        pancake = rounded_box(width, flat, 0.85)
        pen.fill(pancake + x + 1j * y + 0.7j * thick, darker(batter, 0.45))
        pen.fill(pancake + x + 1j * y, lighter(batter, 0.4))
        pen.fill(pancake + x + 1j * (y - 0.5 * thick), darker(batter, 0.15))
        y -= 1.55 * thick
    y += 1.05 * thick  # the upper side of the last one
    pen.fill(rounded_box(0.64, flat * 0.85, 0.85) + 1j * y, batter)

    # a puddle of syrup, and four drops that run down from its front edge
    if pen.chance(0.85):
        syrup = pen.tint(pen.pick((BROWN, CHAR, CHERRY, GOLD, PLUM, CARROT)))
        puddle = 0.52 * blob(pen.rng, 0.08).real + 0.8j * flat * circle(32).imag + 1j * y
        pen.fill(puddle, syrup)
        for x in (-0.45, -0.15, 0.2, 0.5):
            drop = y + flat * 0.8 * (1 - x * x) ** 0.5
            end = drop + pen.between(0.1, 0.45)
            pen.line([x + 1j * (drop - 0.1), x + 1j * end], syrup, 0.09)
            pen.disc(x + 1j * end, 0.055, syrup)
        gleam = [-0.35 + 1j * (y - 0.08), -0.1 + 1j * (y - 0.12)]
        pen.line(gleam, lighter(syrup, 0.6), 0.04)
    if pen.chance(0.6):
        butter = pen.tint(pen.pick((BUTTER, CREAM, WHITE, PINK)))
        pen.fill(rounded_box(0.2, 0.09, 0.3) + 1j * y, darker(butter, 0.2))
        pen.fill(rounded_box(0.2, 0.07, 0.3) + 1j * (y - 0.07), butter)
    else:
        for place in spread(pen.rng, 5, 0.3):
            tomato(pen.at(place.real + 1j * (y - 0.06 + 0.4 * place.imag), 0.1))
    sides = ((), (-1,), (1,), (-1, 1))[int(pen.between(0, 4))]
    garnish(pen, (0.95 * side + 0.78j for side in sides), 0.15)


# -------------------------------------------------------------------------------------------------
# Ramen


def ramen(pen: Pen) -> None:
    """A bowl of noodles in broth, with halves of eggs, meat and rings of leek, often with seaweed."""
    bowl = pen.tint(pen.pick(PLATES))
    broth = pen.tint(pen.pick((GOLD, BROWN, CREAM, CARROT, TOMATO, LIME, SAND)))
    pen.shadow(circle(40), 0.14, 0.6)
    pen.fill(circle(40), bowl)
    pen.fill(0.96 * circle(40) + 0.02 + 0.02j, darker(bowl, 0.4))
    if pen.chance(0.4):
        pen.fill(ring(0.99 * circle(40), 0.93 * circle(40)), pen.tint(pen.pick(PLATES)))
    pen.fill(0.88 * circle(40) + 0.01 + 0.02j, broth)

    # noodles: wavy lines side by side, each as long as the bowl is wide there
    noodle = pen.tint(pen.pick((BUTTER, CREAM, WHITE, GOLD)))
    strands = pen.at(0, 1, pen.angle())
    x = np.linspace(-1, 1, 15)
    for y in np.linspace(-0.62, 0.62, 11):
        wave = 0.06 * np.sin(7 * x + pen.between(0, 1.6))
        strand = (0.84 - y * y) ** 0.5 * x + 1j * (y + wave)
        strands.line(strand + 0.03j, darker(noodle, 0.45), 0.05)
        strands.line(strand, lighter(noodle, 0.3 * pen.rng.random()), 0.055)

    # what lies on the noodles has its place around the bowl, counted in radians from the egg
    start = pen.angle()
    for k in range(pen.pick((1, 1, 2))):
        egg = pen.at(0.42 * unit(start + 0.85 * k), 0.27, pen.angle())
        egg.fill(rounded_box(1, 0.8, 1.0) + 0.1 + 0.12j, (*SHADOW, 110))
        egg.fill(rounded_box(1, 0.8, 1.0), pen.tint(WHITE))
        egg.disc(0.1, 0.5, pen.tint(CARROT))
        egg.disc(0.05 - 0.1j, 0.3, pen.tint(BUTTER))
    if pen.chance(0.7):
        seaweed = pen.at(0.72 * unit(start + 2.2), 1, start + 2.2)
        seaweed.fill(rounded_box(0.26, 0.3, 0.1), pen.tint(pen.pick((NORI, LEAF))))
    for k in range(pen.pick((1, 2, 3))):
        slice_of_meat(pen.at(0.45 * unit(start + 3.3 + 0.5 * k), 0.25, pen.angle()))
    for place in spread(pen.rng, 6, 0.25):
        olive_ring(pen.at(place + 0.45 * unit(start - 1.1), 0.08))
    if pen.chance(0.4):
        chopsticks(pen.at(0.5 * unit(start), 1.0, start + pen.pick((0.6, 1.2))))


# -------------------------------------------------------------------------------------------------
# The picture

# A dish's place in this table is part of what seeds its pictures (sets.py), so new ones come last.
# The first three are the data set "drawn".
DRAW_DISH: dict[str, Callable[[Pen], None]] = {
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
UPRIGHT = ("burger", "ice_cream", "pancakes")  # seen from the side: neither tilted nor turned far
FOOD: tuple[str, ...] = tuple(DRAW_DISH)


def draw_food(dish: str, rng: np.random.Generator, size: int = 64) -> Image.Image:
    """A table with a dish on it: RGB, size x size px. ValueError for a dish that is not in FOOD."""
    if dish not in DRAW_DISH:
        raise ValueError(f"unknown dish {dish!r}; known are {', '.join(FOOD)}")
    upright = dish in UPRIGHT

    # the background is drawn at the final size and enlarged, which leaves it a little out of focus
    behind = Pen(Image.new("RGB", (size, size)), rng)
    tabletop(behind)
    clutter(behind)
    large = (size * SUPERSAMPLING, size * SUPERSAMPLING)
    pen = Pen(behind.image.resize(large, Image.Resampling.BILINEAR), rng)

    # the dish, somewhere near the middle
    place = pen.between(-0.34, 0.34) + 1j * pen.between(-0.34, 0.34)
    angle = pen.between(-0.12, 0.12) if upright else pen.between(-0.6, 0.6)
    DRAW_DISH[dish](pen.at(place, pen.between(0.8, 1.0), angle))
    return photograph(pen, size, tilt=1.0 if upright else pen.between(0.8, 1.0), strength=0.6)
