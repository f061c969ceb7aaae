"""The two animations, each a list of PIL frames: how an image becomes tokens, and the forward pass.

A scene is a function that draws a figure for a given time. The unit of time is a step: at 2.5, the
third step is half done.
"""
import io
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from going_modular import drawn
from going_modular.lessons.primitives import (
    CLASS,
    EQUATIONS,
    LINEAR,
    MLP,
    MSA,
    NORM,
    PATCH,
    POSITION,
    TOKEN_COLORS,
    arrow,
    canvas,
    cut_patches,
    equation_number,
    image_with_grid,
    layer_box,
    panel,
    picture,
    put_text,
    sample_image,
    to_rgb_array,
    token,
)

# ------------------------------------------------------------------------------
# Time and motion


def ease(time: float, start: float, end: float) -> float:
    """0 before start, 1 after end, and 3 s^2 - 2 s^3 for the share s of the time between them, so
    that a motion starts and ends slowly."""
    share = float(np.clip((time - start) / (end - start), 0, 1))
    return share * share * (3 - 2 * share)


def point_between(
    start: tuple[float, float], end: tuple[float, float], share: float,
) -> tuple[float, float]:
    """The point at this share of the way from start to end."""
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])


def render_frames(
    scene: Callable[[float], Figure], steps: Sequence[tuple[int, int]],
) -> list[Image.Image]:
    """The scene's frames; each step is (frames that move, frames that rest at its end)."""
    frames: list[Image.Image] = []
    for start, (moving, resting) in enumerate(steps):
        for k in range(moving):
            file, figure = io.BytesIO(), scene(start + (k + 1) / moving)
            figure.savefig(file, dpi=80, facecolor="white")
            plt.close(figure)
            frames.append(Image.open(file).convert("RGB"))
        frames += resting * [frames[-1]]
    return frames


# ------------------------------------------------------------------------------
# The animations


def patches_animation(image: Image.Image | torch.Tensor, patch_size: int) -> list[Image.Image]:
    """A square image is cut into patches, and the patches become tokens; for up to 16 patches.

    image: a PIL image, or a tensor [3, H, W] with values in [0, 1]. The
        tokens' numbers are made up.
    """
    pixels = to_rgb_array(image)
    patches = cut_patches(pixels, patch_size)
    rows, columns = patches.shape[:2]
    count, side, pitch = rows * columns, 2.2 / rows, 8.2 / (rows * columns + 1)
    values, positions = np.random.default_rng(5).random((2, count + 1, 6))
    captions = (
        f"an image, {rows * patch_size} x {rows * patch_size} pixels",
        f"cut into N = {count} patches",
        "laid in a row, line after line", "flattened, and projected by E: N vectors of size D",
        "a class token in front, which is learned", "a position added to each, learned too: $z_0$",
    )

    def scene(time: float) -> Figure:
        figure, axis = canvas(9, 4.2)
        # In the second step gaps open between the patches, in the last one the positions are added.
        spread, added = side * (1 + 0.16 * ease(time, 1, 2)), ease(time, 5, 6)
        put_text(axis, 4.5, 0.3, captions[int(np.ceil(time)) - 1], size=13)
        for i in range(count + 1):
            color, x = (PATCH if i else CLASS), 0.4 + pitch * (i + 0.5)
            row, column = divmod(i - 1, columns)
            delay = 0.5 * i / count  # one after the other
            if i:
                # Step 3: a patch moves from its place in the image to its place in the row.
                home = (4.5 + (column - (columns - 1) / 2) * spread,
                        2.4 - (row - (rows - 1) / 2) * spread)
                share = ease(time, 2 + delay, 2.5 + delay)
                size = side + share * (min(0.62, 0.8 * pitch) - side)
                picture(axis, patches[row, column], *point_between(home, (x, 3.65), share), size)
            # Steps 4 and 5: a token grows out of its patch, and the class
            # token comes from the left.
            share = ease(time, 3 + delay, 3.5 + delay) if i else ease(time, 4, 5)
            if share:
                # The mean in place of the sum, to stay in [0, 1].
                numbers = (values[i] + added * positions[i]) / (1 + added)
                place = point_between((x, 3.2) if i else (-0.3, 2.1), (x, 2.1), share)
                token(axis, *place, color, numbers, 0.03 + 0.19 * share, upright=True,
                      with_position=added == 1)
            # Step 6: its position rises to it and fades.
            if 0 < added < 1:
                place = point_between((x, 0.9), (x, 1.4), added)
                token(axis, *place, POSITION, positions[i] * (1 - added), 0.22, upright=True)
        return figure

    return render_frames(scene, ((1, 9), (6, 8), (14, 7), (12, 8), (6, 8), (6, 1)))


def forward_animation() -> list[Image.Image]:
    """The forward pass of ViT-Base, Equations 1 to 4, for an image of 3 x 3 patches.
    The numbers are made up."""
    # `rows` has the height of each token.
    layers, rows, pixels = 12, 4.05 - 0.28 * np.arange(10), sample_image()
    patches, middle = cut_patches(pixels, 32).reshape(9, 32, 32, 3), rows[1:].mean()
    rng = np.random.default_rng(6)
    values, positions = rng.random((2, 10, 4))
    states = [(values + positions) / 2]  # z_0, z'_1, z_1, z'_2 and so on
    for _ in range(2 * layers):
        states.append(0.6 * states[-1] + 0.4 * rng.random((10, 4)))
    attention = rng.dirichlet(np.full(10, 0.6), size=(layers, 10))
    captions = (  # of each step: the number of its equation, or 0, and a text
        (0, "image"), (0, "cut into patches"), (1, "projected; the class token in front"),
        (1, "positions added"), (2, "each token asks all tokens"),
        (3, "each token goes through the MLP by itself"),
        (0, "the same in all blocks, each with weights of its own"),
        (4, "the class token alone is read"), (0, "one linear layer gives the logits"),
    )

    def column(axis: Axes, x: float, state: np.ndarray, pale: bool = False) -> None:
        """All tokens, one above the other; pale: all but the class token."""
        for i, (y, color) in enumerate(zip(rows, TOKEN_COLORS)):
            token(axis, x, y, color, state[i] * (0.25 if pale and i else 1), with_position=True)

    def scene(time: float) -> Figure:
        figure, axis = canvas(9, 5.3)
        equation, text = captions[int(np.ceil(time)) - 1]
        put_text(axis, 4.5, 5.0, text, size=13)
        if equation:
            equation_number(axis, 2.6, 0.35, equation)
            put_text(axis, 2.9, 0.35, EQUATIONS[equation - 1], size=13, ha="left")

        # What stands still: the image, the layers, and the classes with the bars of their logits.
        image_with_grid(axis, pixels, 0.95, middle, 1.5, 3)
        panel(axis, 3.9, 0.8, 3.3, 3.55)
        for x, y, name, color in (
            (4.95, 1.12, "MSA", MSA), (6.15, 1.12, "MLP", MLP), (7.5, rows[0], "LN", NORM),
            (8.15, rows[2] - 0.05, "head", LINEAR),
        ):
            layer_box(axis, x, y, 0.4 if name == "LN" else 0.7, 0.36, name, color)
        for k, (name, share) in enumerate(zip(drawn.FOOD, (0.75, 0.2, 0.1))):
            y = rows[4] - 0.1 - 0.33 * k
            put_text(axis, 7.95, y, name, ha="right")
            axis.add_patch(Rectangle((8.05, y - 0.1), share * ease(time, 8, 9), 0.2, color=CLASS,
                                     linewidth=0))

        # Step 2: the patches leave the image, one after the other.
        for i in range(9):
            home = 0.45 + 0.5 * (i % 3), middle + 0.5 - 0.5 * (i // 3)
            if time > 1:
                share = ease(time, 1 + i / 18, 1.5 + i / 18)
                picture(axis, patches[i], *point_between(home, (2.05, rows[i + 1]), share),
                        0.5 - 0.26 * share)

        # Steps 3 and 4: they become tokens, the class token comes from above, and
        # the positions are added.
        projected, added = ease(time, 2, 3), ease(time, 3, 4)
        if projected:
            numbers = (values + added * positions) / (1 + added)  # the mean, to stay in [0, 1]
            for i, y in enumerate(rows):
                place = point_between((2.05, y) if i else (2.95, 4.6), (2.95, y), projected)
                token(axis, *place, TOKEN_COLORS[i], numbers[i], with_position=added == 1)
                if 0 < added < 1:
                    token(axis, *point_between((3.57, y), (3.1, y), added), POSITION, positions[i])

        # Steps 5 to 7: one block at its two halves, then all others.
        if time <= 4:
            put_text(axis, 5.55, 4.55, f"{layers} blocks")
        else:
            arrow(axis, (3.35, middle), (3.85, middle))
            encoder(axis, time)

        # Steps 8 and 9: the class token alone passes the last LayerNorm and the head.
        if time > 7:
            share = ease(time, 7, 8)
            place = point_between((6.75, rows[0]), (8.15, rows[0]), share)
            token(axis, *place, CLASS, states[-1][0], with_position=share < 0.5)
        if time > 8:
            arrow(axis, (8.15, rows[0] - 0.12), (8.15, rows[2] + 0.13))
        return figure

    def encoder(axis: Axes, time: float) -> None:
        """The block at work: its tokens before MSA, after it and after the MLP."""
        # Half blocks so far: two in the steps 5 and 6, all others in step 7. Rounded, as a sum
        # of steps is not exact.
        halves = round(time - 4 if time <= 6 else 2 + (2 * layers - 2) * min(time - 6, 1), 6)
        layer, share = int(np.ceil(halves) - 1) // 2, halves - np.ceil(halves) + 1
        in_mlp = np.ceil(halves) % 2 == 0
        put_text(axis, 5.55, 4.55, f"block {layer + 1} of {layers}")
        column(axis, 4.35, states[2 * layer])

        # MSA: a line from each token to each, the stronger the larger its attention weight.
        starts, ends = [(4.68, y) for y in rows], [(5.22, y) for y in rows]
        lines = [(start, point_between(start, end, 1 if in_mlp else share)) for end in ends
                 for start in starts]
        strength = attention[layer].ravel() / attention[layer].max()
        axis.add_collection(
            LineCollection(lines, colors=[(*to_rgb(MSA), alpha) for alpha in strength]))

        # The MLP: straight lines, each token by itself.
        if in_mlp or share == 1:
            column(axis, 5.55, states[2 * layer + 1])
        if in_mlp:
            for y in rows:
                arrow(axis, (5.88, y), (5.88 + 0.54 * share, y), color=MLP, width=2.5, head="-")
            if share == 1:
                column(axis, 6.75, states[2 * layer + 2], pale=time > 7)

    # For each step of the captions: frames that move, frames that rest. Step 7 has one for each
    # half block.
    steps = ((1, 8), (10, 6), (8, 10), (6, 8), (10, 12), (8, 12), (2 * layers - 2, 6), (8, 10),
             (6, 1))
    return render_frames(scene, steps)
