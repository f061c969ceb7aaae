"""The explanatory drawings of the series, by matplotlib alone; a colour means the same in all of them.

Each function returns a Figure, an animation a list of PIL frames. Coordinates are inches from the lower left corner,
and things are placed by their centre. An `image` is square: a PIL image, or a tensor [3, H, W] with values in [0, 1].
"""
import io
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle
from matplotlib.path import Path
from PIL import Image

from going_modular import drawn
from going_modular.plots import BLUE, GREEN, ORANGE, RED

INK, PAPER = "#333333", "#F3F3F3"
PATCH, CLASS, POSITION, WRONG = BLUE, ORANGE, GREEN, RED
NORM, MSA, MLP, LINEAR, FUNCTION = "#F0D430", "#CC79A7", "#8069C6", "#999999", "white"
CHANNELS = "#D9847B", "#7DBB74", "#7BA9DB"  # red, green and blue, as a pixel has them
TOKENS = [CLASS] + 9 * [PATCH]  # of a picture of 3 x 3 patches
EQUATIONS = (
    r"$z_0 = [x_\mathrm{class};\; x_p^1E;\; \ldots;\; x_p^NE] + E_\mathrm{pos}$",
    r"$z'_\ell = \mathrm{MSA}(\mathrm{LN}(z_{\ell-1})) + z_{\ell-1}$",
    r"$z_\ell = \mathrm{MLP}(\mathrm{LN}(z'_\ell)) + z'_\ell$",
    r"$y = \mathrm{LN}(z_L^0)$",
)


# ---------------------------------------------------------------------------------------------------------------------
# What all drawings are made of


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure, and its one axis, which counts in inches."""
    figure = plt.figure(figsize=(width, height))
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height), autoscale_on=False)
    axis.axis("off")
    return figure, axis


def tint(color: str, share) -> np.ndarray:
    """From white (share 0) to the colour itself (1); shares of any shape [...] give colours [..., 3]."""
    return 1 - np.multiply.outer(share, 1 - np.array(to_rgb(color)))


def ink_on(color) -> str:
    """Black or white, whichever can be read on that colour."""
    return "white" if np.dot(color[:3], (0.3, 0.59, 0.11)) < 0.5 else "black"


def write(axis: Axes, x: float, y: float, text: str, size: float = 11, **style) -> None:
    axis.text(x, y, text, **{"ha": "center", "va": "center", "fontsize": size, "color": INK, "zorder": 5, **style})


def note(axis: Axes, x: float, y: float, text: str, **style) -> None:
    """Small print: shapes, and names in the code."""
    write(axis, x, y, text, size=10, **{"color": "#5F5F5F", **style})


def box(axis: Axes, x: float, y: float, width: float, height: float, text: str, color=FUNCTION, **style) -> None:
    """A layer, or a function without weights (white). `style` is the text's."""
    corner, shape = (x - width / 2, y - height / 2), "round,pad=0,rounding_size=0.07"
    fill = tint(color, 0.35)
    axis.add_patch(FancyBboxPatch(corner, width, height, shape, facecolor=fill, edgecolor=INK, zorder=3))
    write(axis, x, y, text, **style)


def outline(axis: Axes, x: float, y: float, width: float, height: float, color=PATCH, line: float = 2) -> None:
    corner = (x - width / 2, y - height / 2)
    axis.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=color, linewidth=line, zorder=2.8))


def panel(axis: Axes, left: float, bottom: float, width: float, height: float) -> None:
    axis.add_patch(Rectangle((left, bottom), width, height, color=PAPER, linewidth=0, zorder=0))


def arrow(axis: Axes, *points: tuple[float, float], color=INK, width: float = 1.2, head: str = "-|>") -> None:
    """A line along the points, with its head at the last."""
    style = dict(arrowstyle=head, mutation_scale=11, joinstyle="miter", capstyle="butt", fill=head != "-", zorder=2.5)
    axis.add_patch(FancyArrowPatch(path=Path(points), color=color, linewidth=width, **style))


def knot(axis: Axes, x: float, y: float, text: str, dark: bool = False) -> None:
    """A sign in a circle: an operation, or, dark, the number of an equation of the paper."""
    style = dict(facecolor=INK if dark else "white", edgecolor=INK, linewidth=1.5)
    axis.add_patch(Circle((x, y), 0.13, zorder=4, **style))
    write(axis, x, y - 0.01, text, size=10 if dark else 13, color="white" if dark else INK)


def cells(axis: Axes, x: float, y: float, colors, side: float = 0.2, texts=None) -> None:
    """A matrix as coloured cells: colors [rows, columns, 3], with texts [rows, columns] on them."""
    colors = np.asarray(colors)
    rows, columns = colors.shape[:2]
    across, down = x + (np.arange(columns + 1) - columns / 2) * side, y - (np.arange(rows + 1) - rows / 2) * side
    axis.pcolormesh(across, down, colors, edgecolors="white", linewidth=0.8, zorder=2)
    for i, j in np.ndindex(rows, columns) if texts is not None else ():
        style = dict(size=10, color=ink_on(colors[i, j]))
        write(axis, across[j] + side / 2, down[i] - side / 2, texts[i][j], **style)


def token(axis: Axes, x: float, y: float, color: str, values, side=0.15, upright=False, placed=False) -> None:
    """A vector of numbers in [0, 1] as shades of one colour; once its position is added, it has a green frame."""
    colors = tint(color, 0.2 + 0.8 * np.asarray(values))
    cells(axis, x, y, colors[:, None] if upright else colors[None], side)
    if placed:
        size = (len(values) * side + 0.04, side + 0.04)
        outline(axis, x, y, *(size[::-1] if upright else size), POSITION, 1.5)


def picture(axis: Axes, pixels, x: float, y: float, width: float, height: float | None = None) -> None:
    height = height or width
    extent = (x - width / 2, x + width / 2, y - height / 2, y + height / 2)
    axis.imshow(pixels, extent=extent, aspect="auto", interpolation="nearest", zorder=2)


def to_pixels(image) -> np.ndarray:
    """[H, W, 3] in [0, 1]."""
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB")) / 255
    return np.asarray(image).transpose(1, 2, 0)


def cut(pixels: np.ndarray, patch_size: int) -> np.ndarray:
    """[rows, columns, P, P, 3]: the patches of an image."""
    rows, columns = pixels.shape[0] // patch_size, pixels.shape[1] // patch_size
    return pixels.reshape(rows, patch_size, columns, patch_size, 3).swapaxes(1, 2)


def sample() -> np.ndarray:
    """The picture of those drawings that are not given one."""
    return to_pixels(drawn.draw_food("pizza", np.random.default_rng(13), size=96))


def gridded(axis: Axes, pixels: np.ndarray, x: float, y: float, side: float, count: int) -> None:
    """An image under a grid of count x count."""
    picture(axis, pixels, x, y, side)
    for d in (np.arange(count + 1) / count - 0.5) * side:
        arrow(axis, (x + d, y - side / 2), (x + d, y + side / 2), color="white", width=0.8, head="-")
        arrow(axis, (x - side / 2, y + d), (x + side / 2, y + d), color="white", width=0.8, head="-")


def apart(axis: Axes, patches: np.ndarray, x: float, y: float, side: float) -> None:
    """Patches [rows, columns, P, P, 3] with gaps between them, as one image."""
    scale = -(-16 // patches.shape[2])
    patches = patches.repeat(scale, 2).repeat(scale, 3)
    rows, columns, size = patches.shape[:3]
    gap = size // 10
    paper = np.ones((rows, columns, size + 2 * gap, size + 2 * gap, 3))
    paper[:, :, gap : gap + size, gap : gap + size] = patches
    picture(axis, paper.swapaxes(1, 2).reshape(rows * (size + 2 * gap), -1, 3), x, y, side)


def block(axis: Axes, x: float, y: float, pre_norm: bool = True) -> None:
    """An encoder block, 6.2 inches wide from x: the residual stream runs straight on, the branches leave it upwards."""
    top = y + 0.85
    write(axis, x + 0.2, y, r"$z_{\ell-1}$", size=13)
    write(axis, x + 6.05, y, r"$z_\ell$", size=13)
    arrow(axis, (x + 0.45, y), (x + 5.85, y), width=3)
    for k, (name, color) in enumerate((("MSA", MSA), ("MLP", MLP)), 1):
        end = x + 2.55 * k + (0.2 if pre_norm else -0.6)
        arrow(axis, (end - (2.1 if pre_norm else 1.3), y), (end - (2.1 if pre_norm else 1.3), top), (end, top),
              (end, y + 0.13))
        box(axis, end - 0.65, top, 0.8, 0.44, name, color)
        norm = (end - 1.55, top) if pre_norm else (end + 0.6, y)
        box(axis, *norm, 0.6, 0.44, "LN", NORM)
        note(axis, end - 0.65, top + 0.35, name.lower())
        note(axis, norm[0], norm[1] + 0.35, f"norm{k}")
        knot(axis, end, y, "+")
        if pre_norm:
            knot(axis, end, y - 0.35, f"{k + 1}", dark=True)
    write(axis, x + 3.2, y - 0.36, r"$z'_\ell$", size=13)


# ---------------------------------------------------------------------------------------------------------------------
# The drawings


def architecture() -> Figure:
    """The paper's Figure 1, drawn anew: from the image to the logits, with the numbers of the equations."""
    figure, axis = canvas(11, 7)
    rng = np.random.default_rng(0)
    pixels, rows = sample(), 6.1 - 0.3 * np.arange(10)
    patches, middle = cut(pixels, 32).reshape(9, 32, 32, 3), rows[1:].mean()
    for x, text, shape in (
        (0.95, "image", "[batch, C, H, W]"), (2.45, "N patches", "[batch, N, C·P·P]"),
        (4.25, "tokens", "[batch, N, D]"), (5.2, "positions", ""), (6.05, "$z_0$", "[batch, N+1, D]"),
        (8.43, "$z_L$", "[batch, N+1, D]"), (9.53, "$y$", ""),
    ):
        write(axis, x, 6.6, text)
        note(axis, x, 3.05, shape)
    gridded(axis, pixels, 0.95, middle, 1.5, 3)
    arrow(axis, (1.8, middle), (2.2, middle))
    box(axis, 3.25, middle, 0.5, 2.7, "linear projection E", LINEAR, rotation=90)
    write(axis, 3.2, rows[0], "class token")
    for d in (0.12, 0.06, 0):
        box(axis, 7.2 + d, 4.7 + d, 1.0, 3.3, "" if d else "encoder:\nL blocks")
    for i, (y, color) in enumerate(zip(rows, TOKENS)):
        values, positions, outputs = rng.random((3, 4))
        if i:
            picture(axis, patches[i - 1], 2.45, y, 0.26)
            arrow(axis, (2.63, y), (3.0, y), head="-")
        arrow(axis, (3.5 if i else 3.72, y), (3.9, y))
        token(axis, 4.25, y, color, values)
        write(axis, 4.73, y, "+")
        token(axis, 5.2, y, POSITION, positions)
        arrow(axis, (5.53, y), (5.7, y))
        token(axis, 6.05, y, color, (values + positions) / 2, placed=True)
        arrow(axis, (6.42, y), (6.7, y))
        arrow(axis, (7.82, y), (8.06, y))
        token(axis, 8.43, y, color, outputs if i == 0 else 0.3 * outputs, placed=True)
    arrow(axis, (8.8, rows[0]), (8.95, rows[0]))
    box(axis, 9.18, rows[0], 0.46, 0.4, "LN", NORM)
    arrow(axis, (9.41, rows[0]), (9.65, rows[0]))
    box(axis, 10.0, rows[0], 0.7, 0.4, "head", LINEAR)
    arrow(axis, (10.0, rows[0] - 0.2), (10.0, 5.35))
    for y, name, share in zip((5.1, 4.8, 4.5), drawn.FOOD, (0.9, 0.25, 0.15)):
        axis.add_patch(Rectangle((9.95, y - 0.09), share, 0.18, color=CLASS))
        write(axis, 9.85, y, name, ha="right")
    note(axis, 10.0, 4.15, "[batch, classes]")
    axis.add_patch(Polygon([(6.7, 3.05), (7.7, 3.05), (10.85, 2.4), (4.5, 2.4)], color=PAPER, linewidth=0, zorder=0))
    panel(axis, 4.5, 0.15, 6.35, 2.25)
    block(axis, 4.6, 0.85)
    knot(axis, 6.35, 6.6, "1", dark=True)
    knot(axis, 9.18, 6.6, "4", dark=True)
    for number, equation in enumerate(EQUATIONS, 1):
        y = 2.65 - 0.48 * number
        knot(axis, 0.4, y, f"{number}", dark=True)
        write(axis, 0.65, y, equation, size=12, ha="left")
    note(axis, 0.27, 0.25, "N = H·W / P²,  D = hidden_size,  L = num_layers", ha="left")
    return figure


def image_to_patches(image, patch_size: int) -> Figure:
    """The image with its grid, its patches apart, and the first of them (framed) flattened to columns of numbers."""
    pixels = to_pixels(image)
    patches = cut(pixels, patch_size)
    rows, columns = patches.shape[:2]
    count, numbers = rows * columns, 3 * patch_size**2
    figure, axis = canvas(11, 4.4)
    gridded(axis, pixels, 1.75, 2.2, 3.0, rows)
    arrow(axis, (3.4, 2.2), (3.8, 2.2))
    apart(axis, patches, 5.45, 2.2, 3.0)
    arrow(axis, (7.1, 2.2), (7.5, 2.2))
    shown = list(range(min(count, 6))) + [count - 1] * (count > 6)
    for x, i in zip(7.85 + 0.4 * np.array([0, 1, 2, 3, 4, 5, 7]), shown):
        flat = patches[i // columns, i % columns].reshape(-1, 3).T  # [C, P * P]
        column = np.concatenate([row[:, None] * to_rgb(color) for row, color in zip(flat, CHANNELS)])  # 0 is black
        picture(axis, column[:, None], x, 2.2, 0.28, 3.0)
        outline(axis, x, 2.2, 0.28, 3.0)
        note(axis, x, 0.45, f"{i + 1}")
        pitch = 3.0 / rows
        place = 5.45 + (i % columns - (columns - 1) / 2) * pitch, 2.2 - (i // columns - (rows - 1) / 2) * pitch
        outline(axis, *place, 0.9 * pitch, 0.9 * pitch)
    if count > 7:
        write(axis, 7.85 + 6 * 0.4, 2.2, "…", size=14)
    side = pixels.shape[0]
    for x, title, shape in (
        (1.75, "image", f"[C, H, W] = [3, {side}, {side}]"),
        (5.45, f"N = {rows} · {columns} = {count} patches", f"[N, C, P, P] = [{count}, 3, {patch_size}, {patch_size}]"),
        (9.25, "flattened", f"[N, C·P·P] = [{count}, {numbers}]"),
    ):
        write(axis, x, 4.1, title, size=12)
        note(axis, x, 0.2 if x > 9 else 0.45, shape)
    return figure


def wrong_patches(image, patch_size: int) -> Figure:
    """What `x.view` takes for patches beside the patches: the same shape, other numbers."""
    pixels = to_pixels(image)
    right = cut(pixels, patch_size)
    rows, columns = right.shape[:2]
    wrong = pixels.transpose(2, 0, 1).reshape(rows, columns, 3, patch_size, patch_size).transpose(0, 1, 3, 4, 2)
    lines = 3 * patch_size**2 / pixels.shape[1]  # rows of the image that fill one wrong patch
    figure, axis = canvas(11, 4.4)
    gridded(axis, pixels, 1.75, 2.2, 3.0, rows)
    first, height = 3.0 / rows, 3.0 * lines / pixels.shape[0]
    outline(axis, 0.25 + first / 2, 3.7 - first / 2, first, first)
    outline(axis, 1.75, 3.7 - height / 2, 3.0, height, WRONG)
    for x, patches, title, text, color in (
        (5.5, right, "patchify", "patch 1 is the first square", PATCH),
        (9.25, wrong, "x.view(batch, N, C, P, P)", f"patch 1 is {lines:.3g} rows of the red channel", WRONG),
    ):
        apart(axis, patches, x, 2.2, 3.0)
        outline(axis, x - 1.5 + first / 2, 3.7 - first / 2, 0.9 * first, 0.9 * first, color)
        write(axis, x, 4.1, title, size=12)
        note(axis, x, 0.4, text, color=color)
    write(axis, 1.75, 4.1, "image", size=12)
    note(axis, 1.75, 0.4, "framed: what becomes patch 1")
    return figure


def flatten_patch() -> Figure:
    """How the 2 x 2 x 3 numbers of a patch become a vector: channel first, then row by row."""
    figure, axis = canvas(11, 4.6)
    names = [[f"${c}_{{{i}{j}}}$" for i in (1, 2) for j in (1, 2)] for c in "rgb"]
    colors = tint("white", 0) * np.ones((3, 4, 3))
    for k, color in enumerate(CHANNELS):
        colors[k] = tint(color, 0.6)
        x = 4.2 + 2.32 * k
        cells(axis, x, 3.75, colors[k].reshape(2, 2, 3), 0.5, [names[k][:2], names[k][2:]])
        arrow(axis, (x, 3.15), (x, 2.75))
        for i in range(4):
            start, end = 3.33 + 0.58 * (4 * k + i), 3.33 + 0.58 * (3 * i + k)
            arrow(axis, (start, 2.08), (end, 1.12), color=color, width=1.5, head="-")
    cells(axis, 6.52, 2.4, colors.reshape(1, 12, 3), 0.58, [sum(names, [])])
    cells(axis, 6.52, 0.8, colors.swapaxes(0, 1).reshape(1, 12, 3), 0.58, [[row[i] for i in range(4) for row in names]])
    for y, text, small in (
        (3.75, "a patch", "[C, P, P] = [3, 2, 2]"), (2.4, "channel first", "patchify, Conv2d"),
        (0.8, "channel last", "the official code"),
    ):
        write(axis, 1.6, y + 0.12, text, size=12)
        note(axis, 1.6, y - 0.14, small)
    note(axis, 6.52, 0.25, "the same twelve numbers in another order: the rows of E must be in that order too")
    return figure


def token_sequence() -> Figure:
    """z_0: the class token and N patch embeddings, a position added to each."""
    figure, axis = canvas(11, 5.4)
    rng = np.random.default_rng(1)
    patches = cut(sample(), 32).reshape(9, 32, 32, 3)
    box(axis, 6.05, 4.2, 6.3, 0.36, "linear projection E, the same for each patch", LINEAR)
    write(axis, 2.25, 4.5, "class\ntoken")
    arrow(axis, (2.25, 4.22), (2.25, 3.75))
    for i, (x, color) in enumerate(zip(2.25 + 0.72 * np.arange(10), TOKENS)):
        values, positions = rng.random((2, 4))
        if i:
            picture(axis, patches[i - 1], x, 4.95, 0.5)
            arrow(axis, (x, 4.65), (x, 4.4))
            arrow(axis, (x, 4.0), (x, 3.75))
        token(axis, x, 3.25, color, values, 0.22, upright=True)
        write(axis, x, 2.63, "+", size=13)
        token(axis, x, 2.05, POSITION, positions, 0.22, upright=True)
        write(axis, x, 1.43, "=", size=13)
        token(axis, x, 0.85, color, (values + positions) / 2, 0.22, upright=True, placed=True)
        note(axis, x, 0.2, f"{i}")
    for y, text, shape in (
        (4.95, "patches", "[batch, N, C·P·P]"), (3.25, "tokens", "[batch, N+1, D]"), (2.05, "positions", "[1, N+1, D]"),
        (0.85, "$z_0$", "[batch, N+1, D]"),
    ):
        write(axis, 1.0, y, text, size=12)
        note(axis, 10.0, y, shape)
    knot(axis, 0.65, 0.85, "1", dark=True)
    return figure


def split_heads() -> Figure:
    """unflatten and transpose, for 3 tokens of size 6 and 2 heads: numbers say where a cell lay, shades whose it is."""
    figure, axis = canvas(11, 4.3)
    number = np.arange(18).reshape(3, 6)
    heads, wrong = number.reshape(3, 2, 3).transpose(1, 0, 2), number.reshape(2, 3, 3)
    parts = [(1.95, 2.2, number), (4.6, 2.2, number[:, :3]), (5.9, 2.2, number[:, 3:])]
    parts += [(x, y, part[k]) for x, part in ((8.0, heads), (10.05, wrong)) for k, y in enumerate((2.9, 1.5))]
    for x, y, part in parts:
        cells(axis, x, y, tint(MSA, np.where(part % 6 < 3, 0.35, 1)), 0.4, part.astype(str))
    for i in range(3):
        note(axis, 0.4, 2.6 - 0.4 * i, f"token {i}")
    for k, y in enumerate((2.9, 1.5)):
        note(axis, 7.2, y, f"head {k}", rotation=90)
    outline(axis, 10.05, 2.2, 1.4, 2.8, WRONG)
    arrow(axis, (3.3, 2.2), (3.8, 2.2))
    arrow(axis, (6.6, 2.2), (7.0, 2.2))
    for x, title, shape, color in (
        (1.95, "a row for each token", "[batch, tokens, D]", INK),
        (5.25, "unflatten(-1, (2, 3))", "[batch, tokens, heads, $D_h$]", INK),
        (8.0, "transpose(1, 2)", "[batch, heads, tokens, $D_h$]", INK),
        (10.05, "view(batch, 2, 3, 3)", "the heads are mixed up", WRONG),
    ):
        write(axis, x, 4.0, title, color=color)
        note(axis, x, 0.35, shape, color=color)
    return figure


def attention_flow() -> Figure:
    """One head, Equations 5 to 7, with the numbers of a toy: 4 tokens, D = 6, D_h = 3."""
    figure, axis = canvas(11, 5.1)
    rng = np.random.default_rng(2)
    z = rng.normal(size=(4, 6))
    q, k, v = (z @ rng.normal(size=(6, 3)) / 6**0.5 for _ in range(3))
    scores = q @ k.T / 3**0.5
    weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)

    def tokens(x, y, values, name, shape):
        for row, color, level in zip(range(4), TOKENS, (values - values.min()) / np.ptp(values)):
            token(axis, x, y + 0.33 - 0.22 * row, color, level, 0.22)
        write(axis, x, y + 0.62, name, size=13)
        note(axis, x, y - 0.6, shape)

    def square(x, y, values, colors, name):
        cells(axis, x, y, colors[..., :3], 0.42, [[f"{value:.1f}" for value in row] for row in values])
        for d, color in zip((-0.63, -0.21, 0.21, 0.63), TOKENS):  # queries down the side, keys along the top
            cells(axis, x - 0.95, y - d, tint(color, [[1]]), 0.14)
            cells(axis, x + d, y + 0.95, tint(color, [[1]]), 0.14)
        write(axis, x, y + 1.25, name, size=12)
        note(axis, x, y - 1.05, "[queries, keys]")

    tokens(0.9, 2.6, z, "$z$", "[tokens, D]")
    for y, name, part in zip((4.2, 2.6, 1.0), "qkv", (q, k, v)):
        arrow(axis, (1.62, 2.6), (1.8, 2.6), (1.8, y), (2.05, y))
        box(axis, 2.3, y, 0.5, 0.44, f"$U_{name}$", LINEAR)
        arrow(axis, (2.55, y), (2.9, y))
        tokens(3.3, y, part, f"${name}$", "[tokens, $D_h$]")
    arrow(axis, (3.68, 4.2), (4.3, 4.2), (4.3, 3.53))
    arrow(axis, (3.68, 2.6), (4.3, 2.6), (4.3, 3.27))
    square(5.75, 3.4, scores, plt.get_cmap("RdBu_r")(scores / 4 + 0.5), r"$q\,k^T / \sqrt{D_h}$")
    box(axis, 7.2, 3.4, 0.8, 0.44, "softmax")
    square(8.82, 3.4, weights, plt.get_cmap("Blues")(weights), "$A$: each row sums to 1")
    arrow(axis, (3.68, 1.0), (9.95, 1.0), (9.95, 3.27))
    for start, end in ((4.43, 4.66), (6.63, 6.8), (7.6, 7.73), (9.69, 9.82), (10.08, 10.2)):
        arrow(axis, (start, 3.4), (end, 3.4))
    for x in (4.3, 9.95):
        knot(axis, x, 3.4, "@")
    for number, x, y in ((5, 2.3, 4.7), (6, 7.2, 3.9), (7, 9.95, 3.9)):
        knot(axis, x, y, f"{number}", dark=True)
    tokens(10.55, 3.4, weights @ v, "$Av$", "[tokens, $D_h$]")
    return figure


def mlp_block() -> Figure:
    """The MLP, with the widths to scale: M = 4 D, as in Table 1."""
    figure, axis = canvas(11, 4.6)
    rng = np.random.default_rng(3)
    middle = 2.45

    def gelu(x):
        return x * (1 + np.tanh(0.79788 * (x + 0.044715 * x**3))) / 2

    def bar(x, values, color, name):
        level = np.nan_to_num((values - np.nanmin(values)) / (np.nanmax(values) - np.nanmin(values)), nan=-0.18)
        cells(axis, x, middle, tint(color, 0.15 + 0.85 * level.clip(-0.17))[:, None], 0.13)
        for k in np.flatnonzero(np.isnan(values)):
            write(axis, x, middle + (len(values) / 2 - 0.5 - k) * 0.13, "×", size=10, color=WRONG)
        write(axis, x, middle - len(values) / 2 * 0.13 - 0.2, name)

    z, out, hidden = rng.normal(size=6), rng.normal(size=6), rng.normal(size=24)
    kept, result = gelu(hidden), out.copy()
    kept[5::8] = result[2] = np.nan
    for x, values, color, name in (
        (0.5, z, PATCH, "D"), (2.7, hidden, MLP, "M = 4 D"), (4.7, gelu(hidden), MLP, "M"), (6.55, kept, MLP, "M"),
        (8.75, out, PATCH, "D"), (10.55, result, PATCH, "D"),
    ):
        bar(x, values, color, name)
    for x, left, right, name, text in (
        (1.61, 0.39, 1.56, "hidden", "D·M weights, M biases"), (7.65, 1.56, 0.39, "out", "M·D weights, D biases"),
    ):
        a, b = x - 0.89, x + 0.89
        corners = [(a, middle - left), (a, middle + left), (b, middle + right), (b, middle - right)]
        axis.add_patch(Polygon(corners, facecolor=tint(LINEAR, 0.35), edgecolor=INK))
        write(axis, x, middle, "Linear", size=12)
        note(axis, x, 4.4, name)
        note(axis, x, 0.2, text)
    for x, height, name, text in (
        (3.7, 1.0, "gelu", ""), (5.62, 0.44, "dropout", "dropout"), (9.65, 0.44, "dropout", "dropout")
    ):
        box(axis, x, middle, 0.86, height, text)
        arrow(axis, (x - 0.76, middle), (x - 0.43, middle))
        arrow(axis, (x + 0.43, middle), (x + 0.76, middle))
        note(axis, x, 4.4, name)
    write(axis, 3.7, middle + 0.32, "GELU")
    curve = np.linspace(-3, 1.6, 40)
    axis.plot(3.8 + 0.15 * curve, middle - 0.25 + 0.22 * gelu(curve), color=INK, linewidth=1.5, zorder=5)
    return figure


def encoder_block(pre_norm: bool = True) -> Figure:
    """The encoder block with its two residual paths; pre_norm=False is that of the original Transformer."""
    figure, axis = canvas(7, 2.6)
    block(axis, 0.4, 0.95, pre_norm)
    stands = "nothing but sums stands on it" if pre_norm else "a LayerNorm stands on it after each sum"
    note(axis, 3.5, 0.2, f"thick: the residual stream; {stands}")
    return figure


def pre_and_post_norm() -> Figure:
    """Both orders, one above the other: with pre-norm, nothing but sums stands on the residual stream."""
    figure, axis = canvas(9.6, 4.5)
    for y, pre_norm, name, text in (
        (2.9, True, "pre-norm", "ViT: nothing but sums\nstands on the way\nfrom $z_0$ to $z_L$"),
        (0.7, False, "post-norm", "the Transformer of 2017:\n2 L LayerNorms stand\non the way"),
    ):
        panel(axis, 0.1, y - 0.6, 9.4, 2.05)
        block(axis, 3.0, y, pre_norm)
        write(axis, 1.5, y + 1.05, name, size=13)
        note(axis, 1.5, y + 0.35, text)
    return figure


def two_heads() -> Figure:
    """From z_L to the logits: the head for pre-training with its tanh layer, and the linear head for fine-tuning."""
    figure, axis = canvas(11, 4.2)
    values, top, low = np.random.default_rng(4).random((11, 4)), 3.3, 1.3
    write(axis, 0.7, 3.75, "$z_L$", size=13)
    for i, color in enumerate(TOKENS):
        token(axis, 0.7, top - 0.3 * i, color, values[i] * (1 if i == 0 else 0.3), placed=True)
    note(axis, 0.72, 0.2, "[batch, N+1, D]")
    arrow(axis, (1.05, top), (1.45, top))
    box(axis, 1.75, top, 0.6, 0.44, "LN", NORM)
    note(axis, 1.75, 3.75, "norm")
    knot(axis, 1.75, 2.85, "4", dark=True)
    arrow(axis, (2.05, top), (2.4, top))
    token(axis, 2.75, top, CLASS, values[10])
    write(axis, 2.75, 3.75, "$y$", size=13)
    note(axis, 2.75, 2.95, "[batch, D]")
    last = (8.1, "Linear", LINEAR)
    for y, title, shape, layers in (
        (top, "pre-training: ImageNet-21k", "21,843", [(5.3, "Linear", LINEAR), (6.7, "tanh", FUNCTION), last]),
        (low, "fine-tuning: ImageNet", "1,000", [last]),
    ):
        panel(axis, 4.1, y - 0.75, 6.8, 1.6)
        write(axis, 4.2, y + 0.62, title, size=12, ha="left")
        arrow(axis, (3.1, top), (3.6, top), (3.6, y), (layers[0][0] - 0.5, y))
        for (x, text, color), (after, *_) in zip(layers, [*layers[1:], (10.1,)]):
            arrow(axis, (x + 0.5, y), (after - (0.5 if after < 10 else 0.4), y))
            box(axis, x, y, 1.0, 0.5, text, color)
        note(axis, 8.1, y - 0.45, "head")
        for k, share in enumerate((0.2, 0.7, 0.1, 0.3)):
            axis.add_patch(Rectangle((9.75, y + 0.2 - 0.14 * k), share, 0.11, color=CLASS))
        note(axis, 10.1, y - 0.45, f"[batch, {shape}]")
    note(axis, 6.0, top - 0.45, "pre_logits: D to representation_size")
    note(axis, 5.7, low - 0.38, "pre_logits is left out;\nthe new head starts at zero")
    return figure


def heat_map(
    matrix, rows: Sequence[str] | None = None, columns: Sequence[str] | None = None, title: str = "",
    signed: bool = False,
) -> Figure:
    """A matrix with its numbers in the cells; signed ones are blue below zero and red above."""
    matrix = np.asarray(matrix)
    height, width = matrix.shape
    limit = np.abs(matrix).max() or 1
    figure, axis = plt.subplots(figsize=(1.8 + 0.62 * width, 1.0 + 0.5 * height), layout="constrained")
    image = axis.imshow(
        matrix, cmap="RdBu_r" if signed else "Blues", vmin=-limit if signed else 0, vmax=limit, aspect="auto"
    )
    for (i, j), value in np.ndenumerate(matrix):
        text = f"{np.round(value, 2) + 0.0:.2f}" if matrix.dtype.kind == "f" else f"{value}"  # + 0.0: no "-0.00"
        axis.text(j, i, text, ha="center", va="center", fontsize=11, color=ink_on(image.cmap(image.norm(value))))
    axis.set_title(title, fontsize=12)
    axis.set_xticks(range(width), columns if columns is not None else range(width), fontsize=11)
    axis.set_yticks(range(height), rows if rows is not None else range(height), fontsize=11)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return figure


# ---------------------------------------------------------------------------------------------------------------------
# Animations: a scene draws the figure of a moment; at time 2.5, the third step is half done


def ease(time: float, start: float, end: float) -> float:
    """0 before start, 1 after end, smooth between."""
    share = float(np.clip((time - start) / (end - start), 0, 1))
    return share * share * (3 - 2 * share)


def way(start: tuple[float, float], end: tuple[float, float], share: float) -> tuple[float, float]:
    """The place at that share of the way from start to end."""
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])


def play(scene: Callable[[float], Figure], steps: Sequence[tuple[int, int]]) -> list[Image.Image]:
    """The scene's frames; each step is (frames that move, frames that rest at its end)."""
    frames = []
    for start, (moving, resting) in enumerate(steps):
        for k in range(moving):
            file, figure = io.BytesIO(), scene(start + (k + 1) / moving)
            figure.savefig(file, dpi=80, facecolor="white")
            plt.close(figure)
            frames.append(Image.open(file).convert("RGB"))
        frames += resting * [frames[-1]]
    return frames


def patches_animation(image, patch_size: int) -> list[Image.Image]:
    """An image falls into patches, and the patches become tokens; for up to 16 patches."""
    pixels = to_pixels(image)
    patches = cut(pixels, patch_size)
    rows, columns = patches.shape[:2]
    count, side, pitch = rows * columns, 2.2 / rows, 8.2 / (rows * columns + 1)
    values, positions = np.random.default_rng(5).random((2, count + 1, 6))
    captions = (
        f"an image, {rows * patch_size} x {rows * patch_size} pixels", f"cut into N = {count} patches",
        "laid in a row, line after line", "flattened, and projected by E: N vectors of size D",
        "a class token in front, which is learned", "a position added to each, learned too: $z_0$",
    )

    def scene(time: float) -> Figure:
        figure, axis = canvas(9, 4.2)
        spread, placed = side * (1 + 0.16 * ease(time, 1, 2)), ease(time, 5, 6)
        write(axis, 4.5, 0.3, captions[int(np.ceil(time)) - 1], size=13)
        for i in range(count + 1):
            color, x = (PATCH if i else CLASS), 0.4 + pitch * (i + 0.5)
            row, column = divmod(i - 1, columns)
            late = 0.5 * i / count  # one after the other
            if i:
                home = 4.5 + (column - (columns - 1) / 2) * spread, 2.4 - (row - (rows - 1) / 2) * spread
                share = ease(time, 2 + late, 2.5 + late)
                size = side + share * (min(0.62, 0.8 * pitch) - side)
                picture(axis, patches[row, column], *way(home, (x, 3.65), share), size)
            fall = ease(time, 3 + late, 3.5 + late) if i else ease(time, 4, 5)
            if fall:
                summed = (values[i] + placed * positions[i]) / (1 + placed)
                place = way((x, 3.2) if i else (-0.3, 2.1), (x, 2.1), fall)
                token(axis, *place, color, summed, 0.03 + 0.19 * fall, upright=True, placed=placed == 1)
            if 0 < placed < 1:
                token(axis, *way((x, 0.9), (x, 1.4), placed), POSITION, positions[i] * (1 - placed), 0.22, upright=True)
        return figure

    return play(scene, ((1, 9), (6, 8), (14, 7), (12, 8), (6, 8), (6, 1)))


def forward_animation() -> list[Image.Image]:
    """The forward pass of ViT-Base, Equations 1 to 4, for a picture of 3 x 3 patches."""
    layers, rows, pixels = 12, 4.05 - 0.28 * np.arange(10), sample()
    patches, middle = cut(pixels, 32).reshape(9, 32, 32, 3), rows[1:].mean()
    rng = np.random.default_rng(6)
    values, positions = rng.random((2, 10, 4))
    states = [(values + positions) / 2]  # z_0, z'_1, z_1, z'_2 and so on: made up
    for _ in range(2 * layers):
        states.append(0.6 * states[-1] + 0.4 * rng.random((10, 4)))
    attention = rng.dirichlet(np.full(10, 0.6), size=(layers, 10))  # made up too
    captions = (
        (0, "image"), (0, "cut into patches"), (1, "projected; the class token in front"), (1, "positions added"),
        (2, "each token asks all tokens"), (3, "each token goes through the MLP by itself"),
        (0, "the same in all blocks, each with weights of its own"),
        (4, "the class token alone is read"), (0, "one linear layer gives the logits"),
    )

    def column(axis: Axes, x: float, state, pale: bool = False) -> None:
        for i, (y, color) in enumerate(zip(rows, TOKENS)):
            token(axis, x, y, color, state[i] * (0.25 if pale and i else 1), placed=True)

    def scene(time: float) -> Figure:
        figure, axis = canvas(9, 5.3)
        equation, text = captions[int(np.ceil(time)) - 1]
        write(axis, 4.5, 5.0, text, size=13)
        if equation:
            knot(axis, 2.6, 0.35, f"{equation}", dark=True)
            write(axis, 2.9, 0.35, EQUATIONS[equation - 1], size=13, ha="left")
        gridded(axis, pixels, 0.95, middle, 1.5, 3)
        panel(axis, 3.9, 0.8, 3.3, 3.55)
        for x, y, name, color in (
            (4.95, 1.12, "MSA", MSA), (6.15, 1.12, "MLP", MLP), (7.5, rows[0], "LN", NORM),
            (8.15, rows[2] - 0.05, "head", LINEAR),
        ):
            box(axis, x, y, 0.4 if name == "LN" else 0.7, 0.36, name, color)
        for k, (name, share) in enumerate(zip(drawn.FOOD, (0.75, 0.2, 0.1))):
            y = rows[4] - 0.1 - 0.33 * k
            write(axis, 7.95, y, name, ha="right")
            axis.add_patch(Rectangle((8.05, y - 0.1), share * ease(time, 8, 9), 0.2, color=CLASS, linewidth=0))
        for i in range(9):
            home = 0.45 + 0.5 * (i % 3), middle + 0.5 - 0.5 * (i // 3)
            if time > 1:
                share = ease(time, 1 + i / 18, 1.5 + i / 18)
                picture(axis, patches[i], *way(home, (2.05, rows[i + 1]), share), 0.5 - 0.26 * share)
        born, placed = ease(time, 2, 3), ease(time, 3, 4)
        if born:
            summed = (values + placed * positions) / (1 + placed)
            for i in range(10):
                start = (2.05, rows[i]) if i else (2.95, 4.6)
                token(axis, *way(start, (2.95, rows[i]), born), TOKENS[i], summed[i], placed=placed == 1)
                if 0 < placed < 1:
                    token(axis, *way((3.57, rows[i]), (3.1, rows[i]), placed), POSITION, positions[i])
        if time <= 4:
            write(axis, 5.55, 4.55, f"{layers} blocks")
        else:
            arrow(axis, (3.35, middle), (3.85, middle))
            encoder(axis, time)
        if time > 7:
            share = ease(time, 7, 8)
            token(axis, *way((6.75, rows[0]), (8.15, rows[0]), share), CLASS, states[-1][0], placed=share < 0.5)
        if time > 8:
            arrow(axis, (8.15, rows[0] - 0.12), (8.15, rows[2] + 0.13))
        return figure

    def encoder(axis: Axes, time: float) -> None:
        """The block at work: its tokens before MSA, after it and after the MLP."""
        done = round(time - 4 if time <= 6 else 2 + (2 * layers - 2) * min(time - 6, 1), 6)  # half blocks
        layer, share = int(np.ceil(done) - 1) // 2, done - np.ceil(done) + 1
        in_mlp = np.ceil(done) % 2 == 0
        write(axis, 5.55, 4.55, f"block {layer + 1} of {layers}")
        column(axis, 4.35, states[2 * layer])
        starts, ends = [(4.68, y) for y in rows], [(5.22, y) for y in rows]
        lines = [(start, way(start, end, 1 if in_mlp else share)) for end in ends for start in starts]
        strength = attention[layer].ravel() / attention[layer].max()
        axis.add_collection(LineCollection(lines, colors=[(*to_rgb(MSA), alpha) for alpha in strength]))
        if in_mlp or share == 1:
            column(axis, 5.55, states[2 * layer + 1])
        if in_mlp:
            for y in rows:
                arrow(axis, (5.88, y), (5.88 + 0.54 * share, y), color=MLP, width=2.5, head="-")
            if share == 1:
                column(axis, 6.75, states[2 * layer + 2], pale=time > 7)

    return play(scene, ((1, 8), (10, 6), (8, 10), (6, 8), (10, 12), (8, 12), (2 * layers - 2, 6), (8, 10), (6, 1)))
