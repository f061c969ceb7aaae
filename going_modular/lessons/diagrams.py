"""The explanatory drawings of the series, by matplotlib alone.

Each function returns a Figure. An `image` is square: a PIL image, or a tensor
[3, H, W] with values in [0, 1].
"""
from collections.abc import Sequence
from itertools import chain

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from numpy.typing import ArrayLike
from PIL import Image

from going_modular import drawn
from going_modular.lessons.primitives import (
    CHANNELS,
    CLASS,
    EQUATIONS,
    FUNCTION,
    INK,
    LINEAR,
    MLP,
    MSA,
    NORM,
    PAPER,
    PATCH,
    POSITION,
    TOKEN_COLORS,
    WRONG,
    arrow,
    canvas,
    cells,
    circled,
    cut_patches,
    equation_number,
    frame_patch,
    image_with_grid,
    layer_box,
    note,
    outline,
    panel,
    patches_with_gaps,
    picture,
    put_text,
    sample_image,
    text_color_on,
    tint,
    to_rgb_array,
    token,
    without_frame,
)
from going_modular.plots import BLUE, GREEN, GREY, ORANGE, RED


def block_diagram(axis: Axes, x: float, y: float, pre_norm: bool = True) -> None:
    """An encoder block, 6.2 inches wide from x: the residual stream runs straight on, the
    branches leave it upwards."""
    top = y + 0.85  # the height of the branches
    put_text(axis, x + 0.2, y, r"$z_{\ell-1}$", size=13)
    put_text(axis, x + 6.05, y, r"$z_\ell$", size=13)
    arrow(axis, (x + 0.45, y), (x + 5.85, y), width=3)
    for k, (name, color) in enumerate((("MSA", MSA), ("MLP", MLP)), 1):
        # A branch leaves the stream at `start` and is added to it at `end`. With pre-norm, the
        # LayerNorm lies on the branch, which is longer by it; with post-norm it lies on the
        # stream, after the sum.
        end = x + 2.55 * k + (0.2 if pre_norm else -0.6)
        start = end - (2.1 if pre_norm else 1.3)
        arrow(axis, (start, y), (start, top), (end, top), (end, y + 0.13))
        layer_box(axis, end - 0.65, top, 0.8, 0.44, name, color)
        norm = (end - 1.55, top) if pre_norm else (end + 0.6, y)
        layer_box(axis, *norm, 0.6, 0.44, "LN", NORM)
        note(axis, end - 0.65, top + 0.35, name.lower())
        note(axis, norm[0], norm[1] + 0.35, f"norm{k}")
        circled(axis, end, y, "+")
        if pre_norm:
            equation_number(axis, end, y - 0.35, k + 1)
    put_text(axis, x + 3.2, y - 0.36, r"$z'_\ell$", size=13)


def architecture() -> Figure:
    """The paper's Figure 1, drawn anew: from the image to the logits, with the
    numbers of the equations."""
    figure, axis = canvas(11, 7)
    rng = np.random.default_rng(0)
    pixels, rows = sample_image(), 6.1 - 0.3 * np.arange(10)
    patches, middle = cut_patches(pixels, 32).reshape(9, 32, 32, 3), rows[1:].mean()

    # Headings, with the shapes below.
    for x, text, shape in (
        (0.95, "image", "[batch, C, H, W]"), (2.45, "N patches", "[batch, N, C·P·P]"),
        (4.25, "tokens", "[batch, N+1, D]"), (5.2, "positions", ""),
        (6.05, "$z_0$", "[batch, N+1, D]"), (8.43, "$z_L$", "[batch, N+1, D]"), (9.53, "$y$", ""),
    ):
        put_text(axis, x, 6.6, text)
        note(axis, x, 3.05, shape)

    # From left to right: image, patches, projection, tokens, positions, z_0, encoder, z_L.
    image_with_grid(axis, pixels, 0.95, middle, 1.5, 3)
    arrow(axis, (1.8, middle), (2.2, middle))
    layer_box(axis, 3.25, middle, 0.5, 2.7, "linear projection E", LINEAR, rotation=90)
    put_text(axis, 3.2, rows[0], "class token")
    for d in (0.12, 0.06, 0):  # a stack of blocks
        layer_box(axis, 7.2 + d, 4.7 + d, 1.0, 3.3, "" if d else "encoder:\nL blocks")
    for i, (y, color) in enumerate(zip(rows, TOKEN_COLORS)):
        values, positions, outputs = rng.random((3, 4))
        if i:
            picture(axis, patches[i - 1], 2.45, y, 0.26)
            arrow(axis, (2.63, y), (3.0, y), head="-")
        arrow(axis, (3.5 if i else 3.72, y), (3.9, y))
        token(axis, 4.25, y, color, values)
        put_text(axis, 4.73, y, "+")
        token(axis, 5.2, y, POSITION, positions)
        arrow(axis, (5.53, y), (5.7, y))
        token(axis, 6.05, y, color, (values + positions) / 2, with_position=True)
        arrow(axis, (6.42, y), (6.7, y))
        arrow(axis, (7.82, y), (8.06, y))
        token(axis, 8.43, y, color, outputs if i == 0 else 0.3 * outputs, with_position=True)

    # The class token alone goes on, to the last LayerNorm and the head; z_L's
    # other tokens are pale.
    arrow(axis, (8.8, rows[0]), (8.95, rows[0]))
    layer_box(axis, 9.18, rows[0], 0.46, 0.4, "LN", NORM)
    arrow(axis, (9.41, rows[0]), (9.65, rows[0]))
    layer_box(axis, 10.0, rows[0], 0.7, 0.4, "head", LINEAR)
    arrow(axis, (10.0, rows[0] - 0.2), (10.0, 5.35))
    for y, name, share in zip((5.1, 4.8, 4.5), drawn.FOOD, (0.9, 0.25, 0.15)):
        axis.add_patch(Rectangle((9.95, y - 0.09), share, 0.18, color=CLASS))
        put_text(axis, 9.85, y, name, ha="right")
    note(axis, 10.0, 4.15, "[batch, classes]")

    # Below, the encoder is opened: a block, and the equations by their numbers.
    axis.add_patch(Polygon([(6.7, 3.05), (7.7, 3.05), (10.85, 2.4), (4.5, 2.4)], color=PAPER,
                           linewidth=0, zorder=0))
    panel(axis, 4.5, 0.15, 6.35, 2.25)
    block_diagram(axis, 4.6, 0.85)
    equation_number(axis, 6.35, 6.6, 1)
    equation_number(axis, 9.18, 6.6, 4)
    for number, equation in enumerate(EQUATIONS, 1):
        y = 2.65 - 0.48 * number
        equation_number(axis, 0.4, y, number)
        put_text(axis, 0.65, y, equation, size=12, ha="left")
    note(axis, 0.27, 0.25, "N = H·W / P²,  D = hidden_size,  L = num_layers", ha="left")
    return figure


def image_to_patches(image: Image.Image | torch.Tensor, patch_size: int) -> Figure:
    """The image with its grid, its patches apart, and the first of them (framed)
    flattened to columns of numbers.

    A number is a shade of its channel's colour; 0 is black.
    """
    pixels = to_rgb_array(image)
    patches = cut_patches(pixels, patch_size)
    rows, columns = patches.shape[:2]
    count, numbers = rows * columns, 3 * patch_size**2
    figure, axis = canvas(11, 4.4)
    image_with_grid(axis, pixels, 1.75, 2.2, 3.0, rows)
    arrow(axis, (3.4, 2.2), (3.8, 2.2))
    patches_with_gaps(axis, patches, 5.45, 2.2, 3.0)
    arrow(axis, (7.1, 2.2), (7.5, 2.2))

    # The first six patches and the last one: each as a column, framed in the image too.
    shown = list(range(min(count, 6))) + [count - 1] * (count > 6)
    for x, i in zip(7.85 + 0.4 * np.array([0, 1, 2, 3, 4, 5, 7]), shown):
        flat = patches[i // columns, i % columns].reshape(-1, 3).T  # [C, P * P]
        column = np.concatenate([row[:, None] * to_rgb(color)
                                 for row, color in zip(flat, CHANNELS)])
        picture(axis, column[:, None], x, 2.2, 0.28, 3.0)
        outline(axis, x, 2.2, 0.28, 3.0)
        note(axis, x, 0.45, f"{i + 1}")
        pitch = 3.0 / rows
        place = (5.45 + (i % columns - (columns - 1) / 2) * pitch,
                 2.2 - (i // columns - (rows - 1) / 2) * pitch)
        outline(axis, *place, 0.9 * pitch, 0.9 * pitch)
    if count > 7:
        put_text(axis, 7.85 + 6 * 0.4, 2.2, "…", size=14)
    side = pixels.shape[0]
    for x, title, shape in (
        (1.75, "image", f"[C, H, W] = [3, {side}, {side}]"),
        (5.45, f"N = {rows} · {columns} = {count} patches",
         f"[N, C, P, P] = [{count}, 3, {patch_size}, {patch_size}]"),
        (9.25, "flattened", f"[N, C·P·P] = [{count}, {numbers}]"),
    ):
        put_text(axis, x, 4.1, title, size=12)
        note(axis, x, 0.2 if x > 9 else 0.45, shape)
    return figure


def wrong_patches(image: Image.Image | torch.Tensor, patch_size: int) -> Figure:
    """What `images.view` takes for patches beside the patches: the same shape, other numbers."""
    pixels = to_rgb_array(image)
    right = cut_patches(pixels, patch_size)
    rows, columns = right.shape[:2]
    # images.view on an image that is stored as [C, H, W]
    wrong = pixels.transpose(2, 0, 1).reshape(
        rows, columns, 3, patch_size, patch_size).transpose(0, 1, 3, 4, 2)
    lines = 3 * patch_size**2 / pixels.shape[1]  # rows of the image that fill one wrong patch
    figure, axis = canvas(11, 4.4)
    image_with_grid(axis, pixels, 1.75, 2.2, 3.0, rows)
    first, height = 3.0 / rows, 3.0 * lines / pixels.shape[0]
    # On the image: the square that is the first patch, and the rows that view takes for it.
    outline(axis, 0.25 + first / 2, 3.7 - first / 2, first, first)
    outline(axis, 1.75, 3.7 - height / 2, 3.0, height, WRONG)
    for x, patches, title, text, color in (
        (5.5, right, "patchify", "patch 1 is the first square", PATCH),
        (9.25, wrong, "images.view(batch, N, C, P, P)",
         f"patch 1 is {lines:.3g} rows of the red channel", WRONG),
    ):
        patches_with_gaps(axis, patches, x, 2.2, 3.0)
        outline(axis, x - 1.5 + first / 2, 3.7 - first / 2, 0.9 * first, 0.9 * first, color)
        put_text(axis, x, 4.1, title, size=12)
        note(axis, x, 0.4, text, color=color)
    put_text(axis, 1.75, 4.1, "image", size=12)
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
        # Number i of channel k lies at place 4 k + i with the channel first, at 3 i + k
        # with the channel last.
        for i in range(4):
            start, end = 3.33 + 0.58 * (4 * k + i), 3.33 + 0.58 * (3 * i + k)
            arrow(axis, (start, 2.08), (end, 1.12), color=color, width=1.5, head="-")
    cells(axis, 6.52, 2.4, colors.reshape(1, 12, 3), 0.58, [sum(names, [])])
    cells(axis, 6.52, 0.8, colors.swapaxes(0, 1).reshape(1, 12, 3), 0.58,
          [[row[i] for i in range(4) for row in names]])
    for y, text, small in (
        (3.75, "a patch", "[C, P, P] = [3, 2, 2]"), (2.4, "channel first", "patchify, Conv2d"),
        (0.8, "channel last", "the official code"),
    ):
        put_text(axis, 1.6, y + 0.12, text, size=12)
        note(axis, 1.6, y - 0.14, small)
    note(axis, 6.52, 0.25,
         "the same twelve numbers in another order: the rows of E must be in that order too")
    return figure


def token_sequence() -> Figure:
    """z_0: the class token and N patch embeddings, a position added to each."""
    figure, axis = canvas(11, 5.4)
    rng = np.random.default_rng(1)
    patches = cut_patches(sample_image(), 32).reshape(9, 32, 32, 3)
    layer_box(axis, 5.85, 4.2, 6.3, 0.36, "linear projection E, the same for each patch", LINEAR)
    put_text(axis, 2.25, 4.5, "class\ntoken")
    arrow(axis, (2.25, 4.22), (2.25, 3.75))
    for i, (x, color) in enumerate(zip(2.25 + 0.72 * np.arange(10), TOKEN_COLORS)):
        values, positions = rng.random((2, 4))
        if i:
            picture(axis, patches[i - 1], x, 4.95, 0.5)
            arrow(axis, (x, 4.65), (x, 4.4))
            arrow(axis, (x, 4.0), (x, 3.75))
        token(axis, x, 3.25, color, values, 0.22, upright=True)
        put_text(axis, x, 2.63, "+", size=13)
        token(axis, x, 2.05, POSITION, positions, 0.22, upright=True)
        put_text(axis, x, 1.43, "=", size=13)
        token(axis, x, 0.85, color, (values + positions) / 2, 0.22, upright=True,
              with_position=True)
        note(axis, x, 0.2, f"{i}")
    for y, text, shape in (
        (4.95, "patches", "[batch, N, C·P·P]"), (3.25, "tokens", "[batch, N+1, D]"),
        (2.05, "positions", "[1, N+1, D]"), (0.85, "$z_0$", "[batch, N+1, D]"),
    ):
        put_text(axis, 1.0, y, text, size=12)
        note(axis, 10.0, y, shape)
    equation_number(axis, 0.65, 0.85, 1)
    return figure


def split_heads() -> Figure:
    """unflatten and transpose, for 3 tokens of size 6 and 2 heads: the number of a cell is its place
    before the split, and its shade is its head."""
    figure, axis = canvas(11, 4.3)
    number = np.arange(18).reshape(3, 6)
    heads, wrong = number.reshape(3, 2, 3).transpose(1, 0, 2), number.reshape(2, 3, 3)
    # Each with its place: all numbers, each token cut into two heads, the right heads, and the
    # heads of a plain view.
    parts = [(1.95, 2.2, number), (4.6, 2.2, number[:, :3]), (5.9, 2.2, number[:, 3:])]
    parts += [(x, y, part[k]) for x, part in ((8.0, heads), (10.05, wrong))
              for k, y in enumerate((2.9, 1.5))]
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
        put_text(axis, x, 4.0, title, color=color)
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

    def tokens(x: float, y: float, values: np.ndarray, name: str, shape: str) -> None:
        """A row of cells for each token: values [tokens, size]."""
        for row, color, level in zip(range(4), TOKEN_COLORS,
                                     (values - values.min()) / np.ptp(values)):
            token(axis, x, y + 0.33 - 0.22 * row, color, level, 0.22)
        put_text(axis, x, y + 0.62, name, size=13)
        note(axis, x, y - 0.6, shape)

    def square(x: float, y: float, values: np.ndarray, colors: np.ndarray, name: str) -> None:
        """A matrix [queries, keys] with its numbers, and with the tokens' colours at its edges."""
        cells(axis, x, y, colors[..., :3], 0.42,
              [[f"{value:.1f}" for value in row] for row in values])
        # Queries go down the side, keys along the top.
        for d, color in zip((-0.63, -0.21, 0.21, 0.63), TOKEN_COLORS):
            cells(axis, x - 0.95, y - d, tint(color, [[1]]), 0.14)
            cells(axis, x + d, y + 0.95, tint(color, [[1]]), 0.14)
        put_text(axis, x, y + 1.25, name, size=12)
        note(axis, x, y - 1.05, "[queries, keys]")

    tokens(0.9, 2.6, z, "$z$", "[tokens, D]")
    for y, name, part in zip((4.2, 2.6, 1.0), "qkv", (q, k, v)):
        arrow(axis, (1.62, 2.6), (1.8, 2.6), (1.8, y), (2.05, y))
        layer_box(axis, 2.3, y, 0.5, 0.44, f"$U_{name}$", LINEAR)
        arrow(axis, (2.55, y), (2.9, y))
        tokens(3.3, y, part, f"${name}$", "[tokens, $D_h$]")

    # q and k meet in the first product, its softmax and v in the second.
    arrow(axis, (3.68, 4.2), (4.3, 4.2), (4.3, 3.53))
    arrow(axis, (3.68, 2.6), (4.3, 2.6), (4.3, 3.27))
    square(5.75, 3.4, scores, plt.get_cmap("RdBu_r")(scores / 4 + 0.5), r"$q\,k^T / \sqrt{D_h}$")
    layer_box(axis, 7.2, 3.4, 0.8, 0.44, "softmax")
    square(8.82, 3.4, weights, plt.get_cmap("Blues")(weights), "$A$: each row sums to 1")
    arrow(axis, (3.68, 1.0), (9.95, 1.0), (9.95, 3.27))
    for start, end in ((4.43, 4.66), (6.63, 6.8), (7.6, 7.73), (9.69, 9.82), (10.08, 10.2)):
        arrow(axis, (start, 3.4), (end, 3.4))
    for x in (4.3, 9.95):
        circled(axis, x, 3.4, "@")
    for number, x, y in ((5, 2.3, 4.7), (6, 7.2, 3.9), (7, 9.95, 3.9)):
        equation_number(axis, x, y, number)
    tokens(10.55, 3.4, weights @ v, "$Av$", "[tokens, $D_h$]")
    return figure


def mlp_block() -> Figure:
    """The MLP, with the widths to scale: M = 4 D, as in Table 1."""
    figure, axis = canvas(11, 4.6)
    rng = np.random.default_rng(3)
    middle = 2.45

    def gelu(x: np.ndarray) -> np.ndarray:  # the tanh form, which NumPy can compute
        return x * (1 + np.tanh(0.79788 * (x + 0.044715 * x**3))) / 2

    def bar(x: float, values: np.ndarray, color: str, name: str) -> None:
        """A vector as a column. What dropout has taken is nan: nearly white, with a cross on it."""
        level = np.nan_to_num((values - np.nanmin(values))
                              / (np.nanmax(values) - np.nanmin(values)), nan=-0.17)
        cells(axis, x, middle, tint(color, 0.15 + 0.85 * level)[:, None], 0.13)
        for k in np.flatnonzero(np.isnan(values)):
            put_text(axis, x, middle + (len(values) / 2 - 0.5 - k) * 0.13, "×", size=10,
                     color=WRONG)
        put_text(axis, x, middle - len(values) / 2 * 0.13 - 0.2, name)

    z, out, hidden = rng.normal(size=6), rng.normal(size=6), rng.normal(size=24)
    kept, result = gelu(hidden), out.copy()
    kept[5::8] = result[2] = np.nan
    for x, values, color, name in (
        (0.5, z, PATCH, "D"), (2.7, hidden, MLP, "M = 4 D"), (4.7, gelu(hidden), MLP, "M"),
        (6.55, kept, MLP, "M"), (8.75, out, PATCH, "D"), (10.55, result, PATCH, "D"),
    ):
        bar(x, values, color, name)
    for x, left, right, name, text in (
        (1.61, 0.39, 1.56, "hidden", "D·M weights, M biases"),
        (7.65, 1.56, 0.39, "out", "M·D weights, D biases"),
    ):
        a, b = x - 0.89, x + 0.89
        corners = [(a, middle - left), (a, middle + left), (b, middle + right), (b, middle - right)]
        axis.add_patch(Polygon(corners, facecolor=tint(LINEAR, 0.35), edgecolor=INK))
        put_text(axis, x, middle, "Linear", size=12)
        note(axis, x, 4.4, name)
        note(axis, x, 0.2, text)
    for x, height, name, text in (
        (3.7, 1.0, "gelu", ""), (5.62, 0.44, "dropout", "dropout"),
        (9.65, 0.44, "dropout", "dropout")
    ):
        layer_box(axis, x, middle, 0.86, height, text)
        arrow(axis, (x - 0.76, middle), (x - 0.43, middle))
        arrow(axis, (x + 0.43, middle), (x + 0.76, middle))
        note(axis, x, 4.4, name)
    put_text(axis, 3.7, middle + 0.32, "GELU")
    curve = np.linspace(-3, 1.6, 40)
    axis.plot(3.8 + 0.15 * curve, middle - 0.25 + 0.22 * gelu(curve), color=INK, linewidth=1.5,
              zorder=5)
    return figure


def encoder_block(pre_norm: bool = True) -> Figure:
    """The encoder block with its two skip connections; pre_norm=False is that of the original
    Transformer."""
    figure, axis = canvas(7, 2.6)
    block_diagram(axis, 0.4, 0.95, pre_norm)
    stands = "nothing but sums stands on it" if pre_norm else "a LayerNorm stands on it after each sum"
    note(axis, 3.5, 0.2, f"thick: the residual stream; {stands}")
    return figure


def pre_and_post_norm() -> Figure:
    """Both orders, one above the other: with pre-norm there are only sums on the residual
    stream."""
    figure, axis = canvas(9.6, 4.5)
    for y, pre_norm, name, text in (
        (2.9, True, "pre-norm", "ViT: nothing but sums\nstands on the way\nfrom $z_0$ to $z_L$"),
        (0.7, False, "post-norm", "the Transformer of 2017:\n2 L LayerNorms stand\non the way"),
    ):
        panel(axis, 0.1, y - 0.6, 9.4, 2.05)
        block_diagram(axis, 3.0, y, pre_norm)
        put_text(axis, 1.5, y + 1.05, name, size=13)
        note(axis, 1.5, y + 0.35, text)
    return figure


def two_heads() -> Figure:
    """From z_L to the logits: the head for pre-training with its tanh layer, and the linear
    head for fine-tuning."""
    figure, axis = canvas(11, 4.2)
    values, top, low = np.random.default_rng(4).random((11, 4)), 3.3, 1.3
    put_text(axis, 0.7, 3.75, "$z_L$", size=13)
    for i, color in enumerate(TOKEN_COLORS):
        token(axis, 0.7, top - 0.3 * i, color, values[i] * (1 if i == 0 else 0.3),
              with_position=True)
    note(axis, 0.72, 0.2, "[batch, N+1, D]")
    arrow(axis, (1.05, top), (1.45, top))
    layer_box(axis, 1.75, top, 0.6, 0.44, "LN", NORM)
    note(axis, 1.75, 3.75, "norm")
    equation_number(axis, 1.75, 2.85, 4)
    arrow(axis, (2.05, top), (2.4, top))
    token(axis, 2.75, top, CLASS, values[10])
    put_text(axis, 2.75, 3.75, "$y$", size=13)
    note(axis, 2.75, 2.95, "[batch, D]")

    # Both heads end in one linear layer; that for pre-training has one more before it, with a tanh.
    last = (8.1, "Linear", LINEAR)
    for y, title, shape, layers in (
        (top, "pre-training: ImageNet-21k", "21,843",
         [(5.3, "Linear", LINEAR), (6.7, "tanh", FUNCTION), last]),
        (low, "fine-tuning: ImageNet", "1,000", [last]),
    ):
        panel(axis, 4.1, y - 0.75, 6.8, 1.6)
        put_text(axis, 4.2, y + 0.62, title, size=12, ha="left")
        arrow(axis, (3.1, top), (3.6, top), (3.6, y), (layers[0][0] - 0.5, y))
        for (x, text, color), after in zip(layers, [*(place for place, *_ in layers[1:]), 10.1]):
            arrow(axis, (x + 0.5, y), (after - (0.5 if after < 10 else 0.4), y))
            layer_box(axis, x, y, 1.0, 0.5, text, color)
        note(axis, 8.1, y - 0.45, "head")
        for k, share in enumerate((0.2, 0.7, 0.1, 0.3)):
            axis.add_patch(Rectangle((9.75, y + 0.2 - 0.14 * k), share, 0.11, color=CLASS))
        note(axis, 10.1, y - 0.45, f"[batch, {shape}]")
    note(axis, 6.0, top - 0.45, "pre_logits: D to representation_size")
    note(axis, 5.7, low - 0.38, "pre_logits is left out;\nthe new head starts at zero")
    return figure


def chosen_patches(
    image: Image.Image, patch_size: int, chosen: Sequence[int], names: Sequence[str],
    tokens: ArrayLike,
) -> Figure:
    """An image with the chosen patches framed and numbered, and beside it the token of each on its
    own colour.

    tokens: [len(chosen), 3], mean red, green and blue in [-1, 1].
    """
    columns, rows = image.width // patch_size, image.height // patch_size
    tokens = np.asarray(tokens)
    figure, axes = plt.subplots(1, 2, figsize=(7.4, 3.6), layout="constrained")
    axes[0].imshow(to_rgb_array(image), extent=(0, columns, rows, 0))
    for i, patch in enumerate(chosen):
        frame_patch(axes[0], patch, columns, "black")
        # To the left of the frame, as a patch of the last column has nothing on its right.
        axes[0].text(patch % columns - 0.5, patch // columns + 0.5, f"{i}", ha="center", va="center",
                     fontsize=11, bbox=dict(boxstyle="round,pad=0.1", facecolor="white", linewidth=0))
    colors = (tokens[:, None] + 1) / 2
    axes[1].imshow(colors, aspect="auto")
    for i, (name, values) in enumerate(zip(names, tokens)):
        text = "   ".join([f"{i} {name}", *(f"{value:.1f}" for value in values)])
        axes[1].text(0, i, text, ha="center", va="center", fontsize=13,
                     color=text_color_on(colors[i, 0]))
    axes[0].set_title(f"{len(chosen)} patches of {rows * columns}")
    axes[1].set_title(f"{len(chosen)} tokens: mean red, green, blue")
    for axis in axes:
        without_frame(axis)
    return figure


def layer_norm_and_batch_norm() -> Figure:
    """Which numbers share a mean: three images of six tokens, hidden_size 8, with the numbers of one
    mean in blue."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    groups = np.zeros((2, 3, 6, 8))  # [picture, images, tokens, hidden_size]
    groups[0, 1, 2, :] = 1
    groups[1, :, :, 5] = 1
    titles = ("LayerNorm: one token", "BatchNorm: one entry of all tokens")
    for axis, group, title in zip(axes, groups, titles):
        axis.pcolormesh(np.flipud(group.reshape(18, 8)), cmap="Blues", vmin=0, vmax=1.3,
                        edgecolors=GREY, linewidth=0.5)
        axis.hlines([6, 12], 0, 8, color="white", linewidth=6)
        axis.set_title(title)
        axis.set_xlabel("hidden_size")
        axis.set_xticks([])
        axis.set_yticks([3, 9, 15], ["image 3", "image 2", "image 1"])
    return figure


def image_rows(
    rows: Sequence[Sequence[Image.Image | ArrayLike]], titles: Sequence[str] = (),
    names: Sequence[str] = (), size: float = 1.3,
) -> Figure:
    """Rows of equally many images, `size` inches wide each: PIL images, arrays [H, W, 3] in [0, 1],
    or grey bytes [H, W].

    titles: above the first row, from the left; names: before the rows.
    """
    figure, axes = plt.subplots(
        len(rows), len(rows[0]), figsize=(size * len(rows[0]), size * len(rows) + 0.35 * bool(titles)),
        layout="constrained", squeeze=False)
    for axis, image in zip(axes.flat, chain(*rows)):
        axis.imshow(np.asarray(image), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        without_frame(axis)
    for axis, title in zip(axes[0], titles):
        axis.set_title(title, fontsize=11)
    for axis, name in zip(axes[:, 0], names):
        axis.set_ylabel(name, fontsize=11)
    return figure


def pixel_in_image(
    image: Image.Image | torch.Tensor, row: int, column: int, patch_size: int,
) -> Figure:
    """Where one pixel lies: in the image, and in the patch that contains it."""
    pixels = to_rgb_array(image)
    side = pixels.shape[0]
    patch_row, patch_column = row // patch_size, column // patch_size
    patch = cut_patches(pixels, patch_size)[patch_row, patch_column]
    figure, axis = canvas(8.6, 3.7)
    for x, shown, count, (i, j) in (
        (1.75, pixels, side // patch_size, (patch_row, patch_column)),
        (5.35, patch, patch_size, (row % patch_size, column % patch_size)),
    ):
        pitch = 3.0 / count
        image_with_grid(axis, shown, x, 1.85, 3.0, count)
        outline(axis, x - 1.5 + (j + 0.5) * pitch, 3.35 - (i + 0.5) * pitch, pitch, pitch, WRONG)
    arrow(axis, (3.4, 1.85), (3.75, 1.85))
    arrow(axis, (7.0, 1.85), (7.35, 1.85))
    axis.add_patch(Rectangle((7.5, 1.5), 0.7, 0.7, facecolor=pixels[row, column], edgecolor=WRONG,
                             linewidth=2))
    for x, text in ((1.75, f"image, {side} x {side} pixels"),
                    (5.35, f"{patch_size} x {patch_size} pixels"), (7.85, "one pixel")):
        put_text(axis, x, 3.52, text)
    note(axis, 7.85, 1.3, f"row {row}, column {column}")
    for k, (name, byte) in enumerate(zip(("red", "green", "blue"), pixels[row, column] * 255)):
        put_text(axis, 7.85, 1.0 - 0.25 * k, f"{name} {byte:.0f}")
    return figure


def patches_in_memory(image: np.ndarray, patches: np.ndarray) -> Figure:
    """A 4 x 4 image of numbered pixels, each in the colour of its 2 x 2 patch, and its 16 numbers
    in two orders: as they lie in memory, and as `patches` has them."""
    colors = np.array([to_rgb(color) for color in (BLUE, ORANGE, GREEN, RED)])
    figure, axis = canvas(11, 2.6)
    for x, y, numbers, side, title in (
        (1.1, 1.15, image, 0.45, "the image, a colour for each patch"),
        (6.9, 1.75, image.reshape(1, 16), 0.45, "view: memory as it lies, cut into four"),
        (6.9, 0.55, patches.reshape(1, 16), 0.45, "patches: the numbers have moved"),
    ):
        # Parts of four with gaps between them, but the image whole.
        parts = [numbers] if len(numbers) > 1 else np.split(numbers, 4, axis=1)
        for k, part in enumerate(parts):
            of_patch = colors[part // 8 * 2 + part % 4 // 2]
            cells(axis, x + 2.05 * (k - (len(parts) - 1) / 2), y, of_patch, side, part)
        put_text(axis, x + 0.25 * (len(parts) == 1), y + 1.2 if len(parts) == 1 else y + 0.42, title)
    return figure
