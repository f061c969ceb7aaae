"""Food, digits and things drawn by code, so that every notebook runs without a network.

Form tells the classes apart. Light, background, plates, garnish and clutter come from the same pools
for all dishes, so that colour alone tells little. The modules, each of which imports only from those
above it:

    paints      the palette, and how colours are mixed
    pen         the pen that draws, points and outlines
    camera      the view, the light and the grain that turn a drawing into a picture
    scenery     tables, plates, garnish and clutter: what all dishes share
    dishes      the ten dishes
    digits      handwritten digits
    things      ten forms with ten patterns
    sets        the data sets made of them, and how they are written
"""

from going_modular.drawn.digits import DIGITS, draw_digit
from going_modular.drawn.dishes import FOOD, draw_food
from going_modular.drawn.sets import SETS, DrawnSet, draw_set, sheet, write_set
from going_modular.drawn.things import THINGS, draw_thing

__all__ = [
    "DIGITS",
    "FOOD",
    "SETS",
    "THINGS",
    "DrawnSet",
    "draw_digit",
    "draw_food",
    "draw_set",
    "draw_thing",
    "sheet",
    "write_set",
]
