"""Figures of results: loss curves, confusion matrix, sheets of predictions; and `show`, which says
what a figure shows."""
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

# The palette of all figures, which colour-blind readers can tell apart (Okabe and Ito, 2008).
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#767676"


def show(alt: str) -> None:
    """Show the current figure like plt.show(). In a notebook, alt goes with it: one or two
    sentences that tell a reader who hears the page what the picture tells the others."""
    shell: Any = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if not hasattr(shell, "kernel"):
        plt.show()
        return
    from IPython.display import display

    data, metadata = shell.display_formatter.format(plt.gcf())
    data["text/plain"] = alt  # where a picture can't be shown, and for programs that read aloud
    metadata.setdefault("image/png", {})["alt"] = alt
    plt.close()
    display(data, metadata=metadata, raw=True)


def as_text(name: str) -> str:
    """A name that matplotlib can draw: dollar signs do not start a formula, and bytes of a file
    name that are not valid text become question marks."""
    return name.replace("$", r"\$").encode("utf-8", "replace").decode()


def plot_loss_curves(results: dict[str, list[float]], num_classes: int | None = None) -> Figure:
    """Loss and accuracy against epochs, from the result of `engine.train`: a dict with train_loss,
    train_acc, test_loss and test_acc.

    With num_classes, a line shows the loss of equal probabilities for all classes, ln(num_classes).
    """
    epochs = range(1, len(results["train_loss"]) + 1)
    marker = "o" if len(epochs) < 2 else None  # a line through one point can't be seen
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for axis, quantity, label in zip(axes, ("loss", "acc"), ("loss", "accuracy")):
        axis.plot(epochs, results[f"train_{quantity}"], color=BLUE, label="training", marker=marker)
        axis.plot(epochs, results[f"test_{quantity}"], color=ORANGE, label="test", marker=marker)
        axis.set(xlabel="epoch", ylabel=label)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[1].set_ylim(0, 1)
    # The loss of a model that knows nothing, to compare the curves with.
    if num_classes:
        axes[0].axhline(np.log(num_classes), color=GREY, linestyle="--",
                        label=f"equal shares, ln({num_classes})")
    for axis in axes:
        axis.legend(frameon=False)
    return figure


def plot_confusion_matrix(matrix: torch.Tensor, class_names: Sequence[str]) -> Figure:
    """Counts [true class, predicted class], coloured by the share of the true class. Numbers
    for up to 20 classes."""
    class_names, counts = [as_text(name) for name in class_names], matrix.cpu().numpy()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # Beyond 20 classes, numbers and names would be too small to read.
    few = len(class_names) <= 20
    side = 2.6 + 0.55 * len(class_names) if few else 9
    figure, axis = plt.subplots(figsize=(side + 1.2, side), layout="constrained")
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axis, label="share of the true class", shrink=0.85)
    axis.set(xlabel="predicted class", ylabel="true class")
    if few:
        axis.set_xticks(range(len(class_names)), class_names, rotation=45, ha="right")
        axis.set_yticks(range(len(class_names)), class_names)
        for row, column in np.ndindex(*counts.shape):
            color = "white" if shares[row, column] > 0.5 else "black"
            axis.text(column, row, f"{counts[row, column]}", ha="center", va="center", color=color)
    return figure


def plot_predictions(
    images: Sequence[Image.Image | torch.Tensor], probabilities: torch.Tensor,
    class_names: Sequence[str], labels: Sequence[int] | None = None, columns: int = 6,
) -> Figure:
    """A sheet of images, each under its most probable class: a wrong one is red, with the true one.

    images: PIL images, or tensors [3, height, width] in [-1, 1]; probabilities
        [len(images), num_classes].
    """
    class_names, columns = [as_text(name) for name in class_names], min(columns, len(images))
    rows = -(-len(images) // columns)
    size = (2.1 * columns, 2.45 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for i, (axis, image) in enumerate(zip(axes.flat, images)):
        if isinstance(image, torch.Tensor):  # from [-1, 1] to [0, 1]
            axis.imshow((image.permute(1, 2, 0) * 0.5 + 0.5).clamp(0, 1).cpu().numpy())
        else:
            axis.imshow(image)
        guess = int(probabilities[i].argmax())
        right = labels is None or guess == labels[i]
        title = f"{class_names[guess]}, {probabilities[i, guess]:.0%}"
        if labels is not None:
            title += "" if right else f"\ntruth: {class_names[labels[i]]}"
        axis.set_title(title, color="black" if right else RED, fontsize=11)
    return figure


def save(figure: Figure, file: str | Path) -> None:
    """Save a figure and close it."""
    figure.savefig(file, dpi=110)
    plt.close(figure)
