"""Charts of what the notebooks compute, by matplotlib alone: matrices, curves, bars.

Each function returns a Figure.
"""
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from PIL import Image

from going_modular.lessons.primitives import (
    INK,
    frame_patch,
    text_color_on,
    without_frame,
)
from going_modular.plots import BLUE, GREEN, GREY, ORANGE, RED


def activation_functions(
    x: torch.Tensor, curves: dict[str, tuple[torch.Tensor, torch.Tensor]], difference: torch.Tensor,
) -> Figure:
    """ReLU and two forms of GELU over x: curves {name: (values, derivatives)}, and ten thousand
    times the difference of the two forms. All tensors are of the shape of x, [points]."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained")
    for (name, curve), color, style in zip(curves.items(), (GREY, BLUE, ORANGE), ("-", "-", "--")):
        for axis, values in zip(axes, curve):
            axis.plot(x, values, color=color, linestyle=style, linewidth=2, label=name)
    axes[2].plot(x, 1e4 * difference, color=GREEN, linewidth=2)
    titles = ("value", "derivative", r"(tanh form - erf form) $\times\ 10^4$")
    for axis, title in zip(axes, titles, strict=True):
        axis.set(title=title, xlabel="x")
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False)
    return figure


def changed_tokens(changes: dict[str, torch.Tensor]) -> Figure:
    """How much each number of a result changes, by the name of what computed it: tensors
    [tokens, numbers], white for no change."""
    figure, axes = plt.subplots(1, len(changes), figsize=(10, 3.6), layout="constrained")
    for axis, (name, change) in zip(axes, changes.items(), strict=True):
        axis.imshow((change / change.max()).numpy(), cmap="Blues", vmin=0, vmax=0.7, aspect="auto")
        axis.set(title=f"{name}: change of the result", xlabel="number in the token",
                 ylabel="token", yticks=range(len(change)))
    return figure


def dropped_units(passes: dict[str, torch.Tensor]) -> Figure:
    """Numbers in the middle of an MLP, [tokens, units], in several passes by name, in the colours
    of a signed `heat_map`; a cross marks each 0."""
    figure, axes = plt.subplots(1, len(passes), figsize=(11, 3.4), layout="constrained",
                                sharey=True)
    for axis, (name, numbers) in zip(axes, passes.items(), strict=True):
        axis.imshow(numbers.numpy(), cmap="PuOr", vmin=-1.2, vmax=1.2, aspect="auto")
        for row, unit in (numbers == 0).nonzero().tolist():
            axis.text(unit, row, "×", ha="center", va="center", fontsize=11)
        axis.set(title=name, xlabel="unit in the middle")
    axes[0].set_ylabel("token")
    return figure


def shares_of_a_block(parts: dict[str, dict[str, int]]) -> Figure:
    """What the parts of a block hold and cost, as shares of a bar for each quantity:
    {quantity: {part: number}}, with the same parts in each."""
    figure, axis = plt.subplots(figsize=(10, 2.8), layout="constrained")
    for row, numbers in enumerate(parts.values()):
        left = 0.0
        for (name, number), color in zip(numbers.items(), (ORANGE, GREY, BLUE), strict=True):
            width = number / sum(numbers.values())
            axis.barh(row, width, left=left, color=color, label=name if row == 0 else None)
            if width:
                axis.text(left + width / 2, row, f"{width:.0%}", ha="center", va="center",
                          fontsize=13, color=text_color_on(to_rgb(color)))
            left += width
    axis.set_yticks(range(len(parts)), list(parts))
    axis.set(xlabel="share of one block of ViT-B/16 at 224 pixels", xlim=(0, 1))
    axis.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
    return figure


def shares_by_image_size(counts: dict[int, dict[str, int]]) -> Figure:
    """Multiplications of the parts of a block, as shares over the image size:
    {pixels: {part: number}}."""
    figure, axis = plt.subplots(figsize=(9, 3.8), layout="constrained")
    sizes = list(counts)
    parts = list(counts[sizes[0]])
    shares = [[count[part] / sum(count.values()) for count in counts.values()] for part in parts]
    axis.stackplot(sizes, shares, colors=(ORANGE, GREY, BLUE), labels=parts)
    axis.axvline(224, color="white", linestyle="--")
    axis.text(230, 0.9, "224 px", color="white", fontsize=12)
    axis.set(xlabel="image size in pixels, patches of 16", ylabel="share of the multiplications",
             xlim=(sizes[0], sizes[-1]), ylim=(0, 1))
    axis.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
    return figure


def four_encoders(measured: dict[str, dict[str, list[float]]]) -> Figure:
    """What notebook 06 measures in encoders of several arrangements of the block, one curve for
    each arrangement: {arrangement: {"signal", "gradient", "similarity": a value after each layer}}.
    """
    figure, axes = plt.subplots(1, 3, figsize=(11, 4), layout="constrained")
    titles = {"signal": "size of the signal", "gradient": "size of the gradient",
              "similarity": "similarity of the tokens"}
    for axis, (quantity, title) in zip(axes, titles.items(), strict=True):
        for (name, values), color in zip(measured.items(), (BLUE, ORANGE, RED, GREY)):
            axis.plot(values[quantity], color=color, label=name, linewidth=2, marker="o",
                      markersize=4)
        axis.set_title(title, fontsize=12)
        axis.set(xlabel="after layer", xticks=range(0, 13, 2),
                 yscale="linear" if quantity == "similarity" else "log")
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4,
                  frameon=False, fontsize=12)
    return figure


def kept_and_dropped(branches: dict[str, torch.Tensor]) -> Figure:
    """Branches [images, features] side by side, each under its name: 0 is white."""
    figure, axes = plt.subplots(1, len(branches), figsize=(11, 3.8), layout="constrained")
    for axis, (name, branch) in zip(axes, branches.items(), strict=True):
        shades = axis.imshow(branch.numpy(), cmap="Blues", vmin=0, vmax=2, aspect="auto")
        axis.set_title(name, fontsize=12)
        axis.set(xlabel="features of a token", ylabel="image")
    figure.colorbar(shades, ax=axes, ticks=[0, 1, 1 / 0.75, 2], format="{x:.2f}")
    return figure


def two_stacks(
    similarities: dict[str, torch.Tensor], sizes: dict[str, torch.Tensor],
) -> Figure:
    """Two stacks of layers by name: how similar the weights of every pair of layers are,
    [layers, layers], and the size of the signal after each layer, [layers + 1]."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.8))
    figure.set_layout_engine("constrained", wspace=0.06)  # room beside the colour bar's label
    for axis, (name, similarity) in zip(axes, similarities.items()):
        shades = axis.imshow(similarity.numpy(), cmap="Blues", vmin=0, vmax=1)
        layers = range(0, len(similarity), 2)
        axis.set_title(name, fontsize=12)
        axis.set(xlabel="layer", ylabel="layer", xticks=layers, yticks=layers)
        axis.set_xticklabels([layer + 1 for layer in layers])
        axis.set_yticklabels([layer + 1 for layer in layers])
    figure.colorbar(shades, ax=axes[1], label="similarity of the weights", shrink=0.8)
    for (name, values), color in zip(sizes.items(), (RED, BLUE)):
        axes[2].plot(values, color=color, linewidth=2, label=name)
    axes[2].set_title("size of the signal", fontsize=12)
    axes[2].set(xlabel="after layer", xticks=range(0, 13, 2), ylim=(0, None))
    axes[2].spines[["top", "right"]].set_visible(False)
    axes[2].legend(frameon=False, loc="lower right", fontsize=10)
    return figure


def initial_weights(
    projection: torch.Tensor, joined: torch.Tensor, apart: torch.Tensor, positions: torch.Tensor,
) -> Figure:
    """Histograms of first values of weights, on one scale: of the patch embedding; of q, k and v
    drawn as one matrix and each on its own; of the position embedding. Tensors of any shape."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained", sharex=True)

    def histogram(axis: Axes, weights: torch.Tensor, color: str, **style: Any) -> None:
        axis.hist(weights.flatten().numpy(), bins=np.linspace(-0.11, 0.11, 111).tolist(),
                  density=True, color=color, **style)

    histogram(axes[0], projection, BLUE)
    histogram(axes[1], joined, ORANGE, label="joined: too narrow")
    histogram(axes[1], apart, BLUE, label="each on its own", histtype="step", linewidth=2)
    histogram(axes[2], positions, BLUE)
    for axis, title in zip(axes, ("patch embedding", "q, k and v", "positions")):
        axis.set_title(title, fontsize=12)
        axis.set(xlabel="value of a weight", yticks=[], xlim=(-0.11, 0.11),
                 xticks=[-0.1, -0.05, 0, 0.05, 0.1])
        axis.spines[["top", "right", "left"]].set_visible(False)
    axes[1].legend(frameon=False, loc="upper right", fontsize=10)
    axes[1].set_ylim(0, 17)
    return figure


def cost_of_pretraining(
    paper: dict[tuple[str, int], float], ours: dict[tuple[str, int], float],
) -> Figure:
    """exaFLOPs by variant and number of epochs, as Table 6 of the paper has them and as counted."""
    figure, axis = plt.subplots(figsize=(10, 4), layout="constrained")
    rows = np.arange(len(paper))
    for values, name, color, shift in ((paper, "Table 6 of the paper", GREY, -0.19),
                                       (ours, "our count", BLUE, 0.19)):
        bars = axis.barh(rows + shift, list(values.values()), height=0.36, color=color, label=name)
        axis.bar_label(bars, fmt="{:.0f}", padding=4, fontsize=10)
    axis.set_yticks(rows, [f"{variant}, {epochs} epochs" for variant, epochs in paper], fontsize=11)
    axis.set(xscale="log", xlim=(30, 7000))
    axis.set_xlabel("pre-training on JFT-300M in exaFLOPs (logarithmic)")
    axis.invert_yaxis()
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=11)
    return figure


def learned_by_heart(
    pictures: Sequence[tuple[Image.Image, str]], losses: dict[str, list[float]],
) -> Figure:
    """Twelve pictures with their classes, and curves of the loss by name, in the colours of a right
    and a wrong one, beside the loss of equal probabilities for three classes."""
    figure = plt.figure(figsize=(11, 4), layout="constrained")
    ((left, right),) = figure.subfigures(1, 2, squeeze=False, width_ratios=[4, 6])
    for axis, (image, class_name) in zip(left.subplots(3, 4).flat, pictures, strict=True):
        axis.imshow(image)
        axis.set_title(class_name, fontsize=10)
        axis.axis("off")
    axis = right.subplots()
    for (name, values), color in zip(losses.items(), (BLUE, RED)):
        axis.plot(values, color=color, linewidth=2, label=name)
    axis.axhline(np.log(3), color=GREY, linestyle="--", label="equal shares, ln 3")
    axis.axhline(0.01, color=GREEN, linestyle=":", linewidth=2, label="the aim, 0.01")
    axis.set(xlabel="step", ylabel="loss", yscale="log")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=11)
    return figure


def answers_and_attention(
    pictures: Sequence[tuple[str, Image.Image]], answers: Sequence[str],
    shares: Sequence[float], attention: torch.Tensor,
) -> Figure:
    """Pictures, each given as (class, image), with a model's answers, red where they are wrong, and
    their probabilities; below each its attention [pictures, rows, columns], white where high."""
    figure, axes = plt.subplots(2, len(pictures), figsize=(12, 3.2), layout="constrained")
    for column, (name, image) in enumerate(pictures):
        above, below = axes[:, column]
        above.imshow(image)
        above.set_title(f"{answers[column]} {shares[column]:.0%}", fontsize=10,
                        color="black" if answers[column] == name else RED)
        below.imshow(attention[column].numpy(), cmap="gray", vmin=0)
    for axis in axes.flat:
        axis.axis("off")
    return figure


def heat_map(
    matrix: ArrayLike, rows: Sequence[str] | None = None, columns: Sequence[str] | None = None,
    title: str = "", signed: bool = False,
) -> Figure:
    """A matrix [rows, columns] with its numbers in the cells; signed ones are orange
    below zero and purple above.

    rows, columns: names for the axes, in place of numbers from 0 on.
    """
    height, width = np.shape(matrix)
    figure, axis = plt.subplots(figsize=(1.8 + 0.62 * width, 1.0 + 0.5 * height),
                                layout="constrained")
    draw_matrix(axis, matrix, rows, columns, title, signed)
    return figure


def heat_maps(
    matrices: Mapping[str, ArrayLike], rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
) -> Figure:
    """Matrices of the same number of rows side by side, each under its title; one with negative
    numbers is signed, as in `heat_map`."""
    widths = [np.shape(matrix)[1] for matrix in matrices.values()]
    height = np.shape(next(iter(matrices.values())))[0]
    figure, axes = plt.subplots(
        1, len(matrices), figsize=(1.8 + 0.62 * sum(widths), 1.0 + 0.5 * height), width_ratios=widths,
        layout="constrained", squeeze=False)
    for axis, (title, matrix) in zip(axes[0], matrices.items()):
        draw_matrix(axis, matrix, rows, columns, title, signed=bool(np.min(np.asarray(matrix)) < 0))
    for axis in axes[0, 1:]:
        axis.set_yticks([])
    return figure


def draw_matrix(
    axis: Axes, matrix: ArrayLike, rows: Sequence[str] | None, columns: Sequence[str] | None,
    title: str, signed: bool,
) -> None:
    """A matrix with its numbers in the cells, as `heat_map` describes it."""
    matrix = np.asarray(matrix)
    height, width = matrix.shape
    limit = np.abs(matrix).max() or 1
    image = axis.imshow(
        matrix, cmap="PuOr" if signed else "Blues", vmin=-limit if signed else 0, vmax=limit,
        aspect="auto"
    )
    for (i, j), value in np.ndenumerate(matrix):
        # Adding 0.0 turns -0.0 into 0.0, which is not printed as "-0.00".
        text = f"{np.round(value, 2) + 0.0:.2f}" if matrix.dtype.kind == "f" else f"{value}"
        axis.text(j, i, text, ha="center", va="center", fontsize=11,
                  color=text_color_on(image.cmap(image.norm(value))))
    axis.set_title(title, fontsize=12)
    axis.set_xticks(range(width), map(str, range(width)) if columns is None else columns,
                    fontsize=11)
    axis.set_yticks(range(height), map(str, range(height)) if rows is None else rows, fontsize=11)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def effect_of_shuffling(
    images: Sequence[ArrayLike], counts: Sequence[int], distances: Mapping[str, Sequence[float]],
) -> Figure:
    """How far the class token moves when more and more patches change places, under the images.

    images: [H, W, 3] in [0, 1], one for each count of moved patches; distances: by the name of a
    model, one for each image.
    """
    figure = plt.figure(figsize=(9.6, 4.8), layout="constrained")
    grid = figure.add_gridspec(2, len(images), height_ratios=(1, 1.2))
    for i, (image, count) in enumerate(zip(images, counts)):
        axis = figure.add_subplot(grid[0, i])
        axis.imshow(image, interpolation="nearest")
        axis.set_title(f"{count} patches moved", fontsize=11)
        without_frame(axis)
    axis = figure.add_subplot(grid[1, :], xlim=(-0.5, len(images) - 0.5))
    # The numbers of the first model stand below its line, those of the second above.
    for (name, values), color, height in zip(distances.items(), (ORANGE, BLUE), (-15, 7)):
        axis.plot(values, marker="o", color=color, label=name)
        for i, value in enumerate(values):
            axis.annotate(f"{value:.2%}", (i, value), (0, height), textcoords="offset points",
                          ha="center", color=color)
    axis.set(ylabel="change of the class token", xticks=[], yticks=[])
    axis.margins(y=0.2)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.legend(frameon=False, loc="upper left", fontsize=11)
    return figure


def effect_of_large_positions(
    deviations: Sequence[float], to_sushi: Sequence[float], to_shuffled: Sequence[float],
) -> Figure:
    """Distances of class tokens against the standard deviation of the position embeddings: of pizza
    and sushi, and of the pizza and the shuffled pizza."""
    figure, axis = plt.subplots(figsize=(9, 3.8), layout="constrained")
    axis.plot(deviations, to_sushi, color=ORANGE, marker="o", label="pizza and sushi")
    axis.plot(deviations, to_shuffled, color=BLUE, marker="o", label="pizza and shuffled pizza")
    axis.axvline(0.02, color=GREY, linestyle="--", linewidth=1)
    axis.text(0.0205, 0.76, " 0.02, as in the paper's code", color=GREY, fontsize=11)
    axis.set(xscale="log", xlabel="standard deviation of the position embeddings",
             ylabel="distance of the class tokens", ylim=(0, 0.82))
    axis.set_xticks(deviations, map(str, deviations))
    axis.minorticks_off()
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="center", fontsize=11)
    return figure


def one_query(
    scores: ArrayLike, weights: ArrayLike, names: Sequence[str], colors: ArrayLike, query: int,
) -> Figure:
    """The scores and the attention weights [tokens] of one query as bars in the tokens' colours
    [tokens, 3]."""
    figure, axes = plt.subplots(1, 2, figsize=(7.6, 2.8), sharey=True, layout="constrained")
    places = range(len(names))
    for axis, values, title in zip(
        axes, (np.asarray(scores), np.asarray(weights)),
        (f"scores of token {query} ({names[query]})", "softmax of them: the weights"),
    ):
        bars = axis.barh(places, values, color=np.asarray(colors))
        axis.bar_label(bars, fmt="%.2f", padding=3)
        axis.axvline(0, color=INK, linewidth=1)
        axis.margins(x=0.28)
        axis.set_title(title, fontsize=12)
        without_frame(axis)
    axes[0].set_yticks(places, [f"{i} {name}" for i, name in enumerate(names)], fontsize=11)
    axes[0].tick_params(length=0)
    axes[0].invert_yaxis()
    return figure


def weights_and_averages(
    tokens: ArrayLike, weights: ArrayLike, averages: ArrayLike, names: Sequence[str],
) -> Figure:
    """Attention weights [queries, tokens] between the tokens that come in and the averages that come
    out, both [tokens, 3] after LayerNorm and shown as colours."""
    figure, axes = plt.subplots(1, 3, figsize=(8.4, 4), layout="constrained",
                                width_ratios=(0.2, 1, 0.2))
    draw_matrix(axes[1], weights, names, names, "attention weights (rows: queries, columns: keys)",
                signed=False)
    for axis, vectors, title in ((axes[0], tokens, "tokens"), (axes[2], averages, "averages")):
        axis.imshow(np.clip(0.5 + 0.25 * np.asarray(vectors)[:, None], 0, 1), aspect="auto")
        axis.set_title(title, fontsize=12)
        without_frame(axis)
    return figure


def effect_of_the_scale(
    head_sizes: Sequence[int], measured: Mapping[str, ArrayLike],
) -> Figure:
    """What dividing the scores by something does at different head sizes.

    measured: by the name of the divisor [head sizes, 3]: the standard deviation of the scores, the
    mean of the largest weight of each row, and the median size of the gradient of a score.
    """
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained")
    titles = ("spread of the scores", "largest weight in a row, on average",
              "gradient of a typical score")
    for quantity, (axis, title) in enumerate(zip(axes, titles)):
        for (name, values), color in zip(measured.items(), (RED, BLUE, ORANGE)):
            axis.plot(head_sizes, np.asarray(values)[:, quantity], marker="o", color=color,
                      label=name)
        axis.set(title=title, xlabel="head size $D_h$", xscale="log")
        axis.set_xticks(head_sizes, map(str, head_sizes))
        axis.minorticks_off()
    axes[0].set(yscale="log", ylabel="standard deviation")
    axes[0].set_yticks([0.25, 0.5, 1, 2, 4, 8, 16], ["0.25", "0.5", "1", "2", "4", "8", "16"])
    axes[0].minorticks_off()
    axes[1].set(ylim=(0, 1), ylabel="weight")
    axes[2].set(yscale="log", ylabel="size of the gradient (median)")
    axes[0].legend(title="divided by", frameon=False)
    return figure


def attention_of_heads(
    colors: ArrayLike, maps: ArrayLike, heads: Sequence[str], queries: Mapping[int, str],
) -> Figure:
    """Where the queries of some patches look, for each head a row of maps, beside the patches.

    colors: [N, 3] in [0, 1], for a square grid; maps: attention weights [num_heads, N, N];
    heads: what each head looks at; queries: the names of the patches that ask, by their number.
    """
    colors, maps = np.asarray(colors), np.asarray(maps)
    side = int(len(colors) ** 0.5)
    extent = (0, side, side, 0)
    figure = plt.figure(figsize=(10.5, 5.2), layout="constrained")
    grid = figure.add_gridspec(len(heads), 1 + len(queries), width_ratios=[1.5, *[1] * len(queries)])
    patches = figure.add_subplot(grid[:, 0])
    patches.imshow(colors.reshape(side, side, 3), extent=extent)
    patches.set_title(f"mean colours of the {len(colors)} patches", fontsize=11)
    for i, (patch, name) in enumerate(queries.items(), 1):
        frame_patch(patches, patch, side, "black")
        for k, head in enumerate(heads):
            axis = figure.add_subplot(grid[k, i])
            axis.imshow(maps[k, patch].reshape(side, side), cmap="Blues", vmin=0, extent=extent)
            axis.set_title(f"head {k}: {head}, {name} asks", fontsize=11)
            frame_patch(axis, patch, side, RED)
    for axis in figure.axes:
        axis.set(xticks=[], yticks=[])
    return figure


def channel_histograms(batches: Mapping[str, torch.Tensor]) -> Figure:
    """Under each title, how often each value occurs in the channels of images [batch, 3, H, W]."""
    figure, axes = plt.subplots(
        1, len(batches), figsize=(5 * len(batches), 3.2), layout="constrained", sharey=True,
        squeeze=False)
    for axis, (title, images) in zip(axes[0], batches.items()):
        for channel, (name, color) in enumerate((("red", RED), ("green", GREEN), ("blue", BLUE))):
            axis.hist(images[:, channel].flatten(), bins=48, histtype="step", color=color,
                      label=name, linewidth=1.6)
        axis.axvline(images.mean(), color=GREY, linestyle="--", label="mean of all")
        axis.set(title=title, xlabel="value", yticks=[])
    axes[0, 0].set_ylabel("number of pixels")
    axes[0, 0].legend(frameon=False)
    return figure


def bars(values: Mapping[str, float], text: str, label: str) -> Figure:
    """Values from the top down, each as a bar with its number; `text` formats it, such as "{:.1f}".

    label: what the values are, with their unit.
    """
    figure, axis = plt.subplots(figsize=(8, 0.8 + 0.36 * len(values)), layout="constrained")
    drawn_bars = axis.barh(list(values), list(values.values()), color=BLUE)
    axis.bar_label(drawn_bars, [text.format(value) for value in values.values()], padding=4)
    axis.set(xlabel=label, xlim=(0, 1.12 * max(values.values())), xticks=[])
    axis.invert_yaxis()
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def gains(rows: Mapping[str, Sequence[float]], label: str) -> Figure:
    """Gains over one and the same row, largest mean first: a grey dot for each pair of trainings,
    and in blue their mean with its standard error.

    label: what the values are, with their unit.
    """
    names = sorted(rows, key=lambda name: float(np.mean(rows[name])))
    figure, axis = plt.subplots(figsize=(9, 0.9 + 0.34 * len(names)), layout="constrained")
    axis.axvline(0, color=INK, linewidth=1)
    for place, name in enumerate(names):
        each = np.asarray(rows[name])
        axis.plot(each, [place] * len(each), "o", color=GREY, alpha=0.6, markersize=5)
        axis.errorbar(each.mean(), place, xerr=each.std(ddof=1) / len(each) ** 0.5, fmt="D",
                      color=BLUE, capsize=4, markersize=6)
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel=label)
    axis.locator_params(axis="x", nbins=5)
    axis.grid(axis="x", alpha=0.3)
    axis.spines[["top", "right", "left"]].set_visible(False)
    return figure


def draw_filter(axis: Axes, row: torch.Tensor, title: str = "") -> None:
    """A row [3 * P * P] of the projection as a picture; grey is zero."""
    side = round((len(row) / 3) ** 0.5)
    axis.imshow(0.5 + 0.5 * (row / row.abs().max()).view(3, side, side).permute(1, 2, 0))
    axis.set_title(title, fontsize=11)
    axis.axis("off")


def filter_sheets(sheets: Mapping[str, torch.Tensor]) -> Figure:
    """Sheets of filters side by side; each has a title and 28 rows [28, 3 * P * P]."""
    figure = plt.figure(figsize=(11, 3.6), layout="constrained")
    halves = figure.subfigures(1, len(sheets), wspace=0.05, squeeze=False)[0]
    for half, (title, rows) in zip(halves, sheets.items()):
        half.suptitle(title, fontsize=12)
        for axis, row in zip(half.subplots(4, 7).flat, rows):
            draw_filter(axis, row)
    return figure


def filter_maps(filters: Mapping[str, torch.Tensor], maps: Mapping[str, torch.Tensor]) -> Figure:
    """Filters [3 * P * P], each above the map [rows, columns] of its answers to the patches of an
    image, red above and blue below zero."""
    figure, axes = plt.subplots(2, len(filters), figsize=(11, 3.2), layout="constrained")
    for (top, bottom), (name, row) in zip(axes.T, filters.items()):
        draw_filter(top, row, name)
        limit = maps[name].abs().max()
        bottom.imshow(maps[name], cmap="RdBu_r", vmin=-limit, vmax=limit)
        bottom.axis("off")
    return figure


def shares_kept(
    counts: Sequence[int], shares: Mapping[str, Sequence[float]], pictures: Mapping[str, ArrayLike],
) -> Figure:
    """What the first filters of two kinds keep of patches: a line for each kind, and six pictures
    [H, W, 3] rebuilt from them, three for each kind.

    counts: of filters; shares: by the name of a kind, one for each count.
    """
    figure, axes = plt.subplot_mosaic("xabc;xdef", figsize=(10.5, 4.2), width_ratios=(2.1, 1, 1, 1),
                                      layout="constrained")
    for (name, values), color in zip(shares.items(), (BLUE, ORANGE)):
        axes["x"].plot(counts, values, color=color, marker="o", label=name)
    for key, (title, shown) in zip("abcdef", pictures.items()):
        axes[key].imshow(shown, interpolation="nearest")
        axes[key].set_title(title, fontsize=11)
        without_frame(axes[key])
    axes["x"].set_xscale("log", base=2)
    axes["x"].set_xticks(counts[::2], [f"{count}" for count in counts[::2]])
    axes["x"].set(xlabel="k, numbers kept for each patch", ylabel="share kept of the differences",
                  ylim=(0, 1.02), yticks=np.linspace(0, 1, 6))
    axes["x"].grid(alpha=0.3)
    axes["x"].legend(frameon=False, fontsize=11)
    return figure
