"""The parts of the explanatory drawings: a palette, in which a colour has the same meaning in all of
them, and shapes. Coordinates are inches from the lower left corner, and a shape is placed by its
centre.
"""
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path
from matplotlib.typing import ColorType
from numpy.typing import ArrayLike
from PIL import Image

from going_modular import drawn
from going_modular.plots import BLUE, GREEN, ORANGE, RED

# Colours of lines and panels, of vectors by what they stand for, of layers, and of the three
# channels of a pixel.
INK, PAPER = "#333333", "#F3F3F3"
PATCH, CLASS, POSITION, WRONG = BLUE, ORANGE, GREEN, RED
NORM, MSA, MLP, LINEAR, FUNCTION = "#F0D430", "#CC79A7", "#8069C6", "#999999", "white"
CHANNELS = "#D9847B", "#7DBB74", "#7BA9DB"
TOKEN_COLORS = [CLASS] + 9 * [PATCH]  # of an image of 3 x 3 patches

# Equations 1 to 4 of the paper.
EQUATIONS = (
    r"$z_0 = [x_\mathrm{class};\; x_p^1E;\; \ldots;\; x_p^NE] + E_\mathrm{pos}$",
    r"$z'_\ell = \mathrm{MSA}(\mathrm{LN}(z_{\ell-1})) + z_{\ell-1}$",
    r"$z_\ell = \mathrm{MLP}(\mathrm{LN}(z'_\ell)) + z'_\ell$",
    r"$y = \mathrm{LN}(z_L^0)$",
)


# ------------------------------------------------------------------------------
# The canvas, and what can be drawn on it


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure and its only axis, whose unit is an inch."""
    figure = plt.figure(figsize=(width, height))
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height), autoscale_on=False)
    axis.axis("off")
    return figure, axis


def tint(color: str, share: ArrayLike) -> np.ndarray:
    """From white (share 0) to the colour itself (1); shares of any shape [...]
    give colours [..., 3]."""
    return 1 - np.multiply.outer(share, 1 - np.array(to_rgb(color)))


def text_color_on(color: ArrayLike) -> str:
    """Black or white, whichever can be read on that colour [3 or 4], by its luminance."""
    return "white" if np.dot(np.asarray(color)[:3], (0.3, 0.59, 0.11)) < 0.5 else "black"


def put_text(axis: Axes, x: float, y: float, text: str, size: float = 11, **style: Any) -> None:
    """Text about its centre, above all shapes. `style` is that of Axes.text."""
    axis.text(
        x, y, text,
        **{"ha": "center", "va": "center", "fontsize": size, "color": INK, "zorder": 5, **style})


def note(axis: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Small print: shapes, and names in the code."""
    put_text(axis, x, y, text, size=10, **{"color": "#5F5F5F", **style})


def layer_box(
    axis: Axes, x: float, y: float, width: float, height: float, text: str, color: str = FUNCTION,
    **style: Any
) -> None:
    """A layer, or a function without weights (white). `style` is the text's."""
    corner, shape = (x - width / 2, y - height / 2), "round,pad=0,rounding_size=0.07"
    fill = tint(color, 0.35)
    axis.add_patch(FancyBboxPatch(corner, width, height, shape, facecolor=fill, edgecolor=INK,
                                  zorder=3))
    put_text(axis, x, y, text, **style)


def outline(
    axis: Axes, x: float, y: float, width: float, height: float, color: ColorType = PATCH,
    linewidth: float = 2
) -> None:
    """A frame around something."""
    corner = (x - width / 2, y - height / 2)
    axis.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=color,
                             linewidth=linewidth, zorder=2.8))


def panel(axis: Axes, left: float, bottom: float, width: float, height: float) -> None:
    """A grey background behind everything, placed by its lower left corner."""
    axis.add_patch(Rectangle((left, bottom), width, height, color=PAPER, linewidth=0, zorder=0))


def arrow(
    axis: Axes, *points: tuple[float, float], color: ColorType = INK, width: float = 1.2,
    head: str = "-|>"
) -> None:
    """A line along the points, with its head at the last; head="-" is a line without one."""
    axis.add_patch(FancyArrowPatch(
        path=Path(points), color=color, linewidth=width, arrowstyle=head, mutation_scale=11,
        joinstyle="miter", capstyle="butt", fill=head != "-", zorder=2.5,
    ))


def circled(axis: Axes, x: float, y: float, text: str, dark: bool = False) -> None:
    """A sign in a circle, such as that of an operation."""
    axis.add_patch(Circle((x, y), 0.13, facecolor=INK if dark else "white", edgecolor=INK,
                          linewidth=1.5, zorder=4))
    put_text(axis, x, y - 0.01, text, size=10 if dark else 13, color="white" if dark else INK)


def equation_number(axis: Axes, x: float, y: float, number: int) -> None:
    """The number of an equation of the paper, in a dark circle."""
    circled(axis, x, y, f"{number}", dark=True)


def cells(
    axis: Axes, x: float, y: float, colors: ArrayLike, side: float = 0.2, texts: Any = None,
) -> None:
    """A matrix as coloured cells: colors [rows, columns, 3], with texts [rows][columns] on them."""
    colors = np.asarray(colors)
    rows, columns = colors.shape[:2]
    across, down = (
        x + (np.arange(columns + 1) - columns / 2) * side, y - (np.arange(rows + 1) - rows / 2) * side)
    axis.pcolormesh(across, down, colors, edgecolors="white", linewidth=0.8, zorder=2)
    for i, j in np.ndindex(rows, columns) if texts is not None else ():
        centre = across[j] + side / 2, down[i] - side / 2
        put_text(axis, *centre, texts[i][j], size=10, color=text_color_on(colors[i, j]))


def token(
    axis: Axes, x: float, y: float, color: str, values: np.ndarray, side: float = 0.15,
    upright: bool = False, with_position: bool = False,
) -> None:
    """A vector of numbers in [0, 1] as shades of one colour; with a green frame if its position is
    added."""
    # Shades from 0.2 on, so that a zero differs from the white background.
    colors = tint(color, 0.2 + 0.8 * np.asarray(values))
    cells(axis, x, y, colors[:, None] if upright else colors[None], side)
    if with_position:
        size = (len(values) * side + 0.04, side + 0.04)
        outline(axis, x, y, *(size[::-1] if upright else size), POSITION, 1.5)


def picture(
    axis: Axes, pixels: np.ndarray, x: float, y: float, width: float, height: float | None = None
) -> None:
    """Pixels [H, W, 3], stretched to that size; a square without a height."""
    height = height or width
    extent = (x - width / 2, x + width / 2, y - height / 2, y + height / 2)
    axis.imshow(pixels, extent=extent, aspect="auto", interpolation="nearest", zorder=2)


# ------------------------------------------------------------------------------
# Images and patches


def to_rgb_array(image: Image.Image | torch.Tensor) -> np.ndarray:
    """A PIL image, or a tensor [3, H, W] in [0, 1] -> [H, W, 3] in [0, 1]."""
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB")) / 255
    return np.asarray(image).transpose(1, 2, 0)


def cut_patches(pixels: np.ndarray, patch_size: int) -> np.ndarray:
    """Pixels [H, W, 3] -> patches [rows, columns, P, P, 3]; channels last, as
    matplotlib shows them."""
    rows, columns = pixels.shape[0] // patch_size, pixels.shape[1] // patch_size
    return pixels.reshape(rows, patch_size, columns, patch_size, 3).swapaxes(1, 2)


def sample_image() -> np.ndarray:
    """The image for the drawings that do not get one as an argument."""
    return to_rgb_array(drawn.draw_food("pizza", np.random.default_rng(13), size=96))


def image_with_grid(
    axis: Axes, pixels: np.ndarray, x: float, y: float, side: float, count: int,
) -> None:
    """An image under a grid of count x count."""
    picture(axis, pixels, x, y, side)
    for d in (np.arange(count + 1) / count - 0.5) * side:
        arrow(axis, (x + d, y - side / 2), (x + d, y + side / 2), color="white", width=0.8,
              head="-")
        arrow(axis, (x - side / 2, y + d), (x + side / 2, y + d), color="white", width=0.8,
              head="-")


def patches_with_gaps(axis: Axes, patches: np.ndarray, x: float, y: float, side: float) -> None:
    """Patches [rows, columns, P, P, 3] with gaps between them, as one image."""
    # Each pixel becomes scale x scale, so that a patch is at least 16 wide and the
    # gap is a pixel or more.
    scale = -(-16 // patches.shape[2])
    patches = patches.repeat(scale, 2).repeat(scale, 3)
    rows, columns, size = patches.shape[:3]
    gap = size // 10
    paper = np.ones((rows, columns, size + 2 * gap, size + 2 * gap, 3))
    paper[:, :, gap : gap + size, gap : gap + size] = patches
    picture(axis, paper.swapaxes(1, 2).reshape(rows * (size + 2 * gap), -1, 3), x, y, side)


def frame_patch(axis: Axes, patch: int, columns: int, color: str) -> None:
    """A frame around patch number `patch`, counted row by row, on an axis whose unit is a patch."""
    row, column = divmod(patch, columns)
    outline(axis, column + 0.5, row + 0.5, 1, 1, color)


def without_frame(axis: Axes) -> None:
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
