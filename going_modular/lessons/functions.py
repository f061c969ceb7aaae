"""The small functions for check_function, in the order of the notebooks.

Each is a reference solution under the decorator `exercise`, which adds it to FUNCTIONS under its own
name with what a check needs: a hint, the arguments of each trial, and a table of mistakes: what the
reader likely did -> the function that does it. The first entry that gives the reader's numbers in
all trials is named.
"""
import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms import v2

from going_modular import vit
from going_modular.lessons.comparing import call
from going_modular.paper import inspection
from going_modular.paper.positions import sinusoidal_positions


class SmallFunction(NamedTuple):
    """An exercise for check_function."""

    reference: Callable
    draw_arguments: Callable[[], list[tuple]]  # one tuple for each trial
    hint: str
    mistakes: Mapping[str, Callable]
    axes: str  # names of the last axes of the result
    run: Callable  # run(function, *arguments) -> what is compared
    differentiable: bool
    forbidden: Mapping[str, Callable]  # message -> whether a call of PyTorch is the short cut


FUNCTIONS: dict[str, SmallFunction] = {}


def exercise(
    hint: str, arguments: Callable[[], list[tuple]], mistakes: Mapping[str, Callable], *,
    axes: str = "", run: Callable = call, differentiable: bool = False,
    forbidden: Mapping[str, Callable] | None = None,
) -> Callable[[Callable], Callable]:
    """A decorator that adds a reference solution to FUNCTIONS under its own name.

    arguments: draws one tuple of arguments for each trial, with the seed that `comparing.verdict`
        sets. Sizes should differ from trial to trial and from axis to axis, so that constants and
        exchanged axes in the reader's code are noticed.
    mistakes: message -> a wrong function, which takes the arguments of the reference.
    axes, run, differentiable: as for `comparing.compare_function`.
    forbidden: message -> a function of the name, the result and the arguments of each call of
        PyTorch, which tells whether it is a short cut that the exercise excludes.
    """

    def enter(reference: Callable) -> Callable:
        FUNCTIONS[reference.__name__] = SmallFunction(
            reference, arguments, hint, mistakes, axes, run, differentiable, forbidden or {})
        return reference

    return enter


# ------------------------------------------------------------------------------
# Notebook 00: setup and data


@exercise(
    "which factor and which shift take 0 to -1 and 255 to 1? The channels move forward with permute "
    "or movedim, not with reshape",
    lambda: [(torch.randint(0, 256, shape, dtype=torch.uint8),)
             for shape in ((5, 4, 3), (2, 3, 6, 3))],
    {
        "the channels are brought forward by a reshape, which mixes the pixels: movedim or permute":
            lambda x: (x.float() / 127.5 - 1).reshape(*x.shape[:-3], 3, *x.shape[-3:-1]),
        "the range is 0 to 1: after it the 0.5 in the middle must become 0, and the range be doubled":
            lambda x: (x.float() / 255).movedim(-1, -3),
        "the range is -0.5 to 0.5, half of what is asked":
            lambda x: (x.float() / 255 - 0.5).movedim(-1, -3),
        "the range is -1 to 0: the shift is right for a range of 0 to 2, from a division by 127.5":
            lambda x: (x.float() / 255 - 1).movedim(-1, -3),
        "the division is by 128 (or 256), so 255 does not become 1":
            lambda x: (x.float() / 128 - 1).movedim(-1, -3),
        "the shift comes before the division: (x - 1) / 127.5":
            lambda x: ((x.float() - 1) / 127.5).movedim(-1, -3),
        "the numbers are still 0 to 255, only their type has changed":
            lambda x: x.float().movedim(-1, -3),
        "the mean and deviation of ImageNet are used, they do not give -1 to 1":
            lambda x: ((x.float() / 255 - torch.tensor([0.485, 0.456, 0.406]))
                       / torch.tensor([0.229, 0.224, 0.225])).movedim(-1, -3),
        "height and width are exchanged: the channels alone move":
            lambda x: (x.float() / 127.5 - 1).transpose(-1, -3),
        "bytes wrap around, as 255 + 1 is 0 for uint8: call .float() before you calculate":
            lambda x: ((x - 1) / 127.5).movedim(-1, -3),
    },
    axes="channel row column",
)
def to_model(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 [..., H, W, 3] -> float32 [..., 3, H, W] in [-1, 1]."""
    return (pixels.float() / 127.5 - 1).movedim(-1, -3)


@exercise(
    "torch.bincount counts how often each label occurs; divide the largest count by the number of "
    "labels",
    lambda: [(torch.tensor(labels),)
             for labels in ([0, 0, 1, 2, 0], [2, 2, 1], [5], [1, 1, 3, 3, 3, 0, 1, 3, 4, 3])],
    {
        "this is the number of the most frequent class, not its share":
            lambda labels: labels.mode().values.item(),
        "this is how often the most frequent class occurs: divide by the number of labels":
            lambda labels: labels.bincount().max().item(),
        "this is the accuracy of guessing among the classes, 1 / K":
            lambda labels: 1 / len(labels.unique()),
        "this is the share of the largest class number, not of the most frequent class":
            lambda labels: (labels == labels.max()).float().mean().item(),
        "this is the share of class 0, which need not be the most frequent":
            lambda labels: (labels == 0).float().mean().item(),
        "this is the share of the first label's class, which need not be the most frequent":
            lambda labels: (labels == labels[0]).float().mean().item(),
        "the division is by the number of classes, not of labels":
            lambda labels: labels.bincount().max().item() / len(labels.unique()),
        "the division is by the largest class number plus 1, not by the number of labels":
            lambda labels: labels.bincount().max().item() / len(labels.bincount()),
        "this is the share of the rarest class":
            lambda labels: labels.bincount()[labels.unique()].min().item() / len(labels),
        "this is in per cent, a share between 0 and 1 is asked":
            lambda labels: 100 * labels.bincount().max().item() / len(labels),
        "this is the share of all other classes, the error":
            lambda labels: 1 - labels.bincount().max().item() / len(labels),
        "the division is by one label too few (or a whole division gives 0 or 1)":
            lambda labels: labels.bincount().max().item() // len(labels),
    },
)
def majority_accuracy(labels: torch.Tensor) -> float:
    """Labels [N] -> the accuracy of always answering with the most frequent class."""
    return labels.bincount().max().item() / len(labels)


# ------------------------------------------------------------------------------
# Notebook 01: overview


def shapes_of(
    batch: int, image_size: int, patch_size: int, in_channels: int, hidden_size: int, mlp_size: int,
    num_heads: int, num_classes: int, *, more: int = 1,
) -> list[tuple[int, ...]]:
    """The six shapes, with so many tokens more than patches."""
    num_patches = (image_size // patch_size) ** 2
    tokens = num_patches + more
    return [
        (batch, num_patches, in_channels * patch_size**2), (batch, tokens, hidden_size),
        (batch, tokens, 3 * hidden_size), (batch, num_heads, tokens, tokens),
        (batch, tokens, mlp_size), (batch, num_classes),
    ]


def with_shape(place: int, change: Callable) -> Callable:
    """The shapes, of which one is change(that shape, sizes ...)."""

    def changed(*sizes: int) -> list[tuple[int, ...]]:
        shapes = shapes_of(*sizes)
        shapes[place] = change(shapes[place], *sizes)
        return shapes

    return changed


@exercise(
    "how many tokens are there from z_0 on? And which of the six has the number of tokens twice?",
    lambda: [(2, 32, 8, 3, 48, 96, 6, 5), (1, 224, 32, 3, 768, 3072, 12, 1000),
             (7, 28, 4, 1, 40, 80, 4, 10)],
    {
        "the class token is not counted: there is one token more than patches":
            lambda *sizes: shapes_of(*sizes, more=0),
        "a flattened patch has all channels: P^2 C numbers":
            with_shape(0, lambda shape, *sizes: (*shape[:2], sizes[2] ** 2)),
        "a patch is counted with its embedding, these are the patches before the projection":
            with_shape(0, lambda shape, *sizes: (*shape[:2], sizes[4])),
        "the class token is no patch":
            with_shape(0, lambda shape, *sizes: (shape[0], shape[1] + 1, shape[2])),
        "the number of patches is that of one row, there are as many rows":
            with_shape(0, lambda shape, *sizes: (shape[0], sizes[1] // sizes[2], shape[2])),
        "these are pixels: each patch is flattened into one axis":
            with_shape(0, lambda shape, *sizes: (shape[0], shape[1], sizes[3], sizes[2], sizes[2])),
        "the fused q, k and v are three times as wide as a token":
            with_shape(2, lambda shape, *sizes: (*shape[:2], sizes[4])),
        "the fused q, k and v are those of all heads, not of one":
            with_shape(2, lambda shape, *sizes: (*shape[:2], 3 * sizes[4] // sizes[6])),
        "the heads multiply nothing in the fused q, k and v: together they are as wide as a token":
            with_shape(2, lambda shape, *sizes: (*shape[:2], 3 * sizes[4] * sizes[6])),
        "each head has attention weights of its own":
            with_shape(3, lambda shape, *sizes: (shape[0], *shape[2:])),
        "attention weights are a matrix of tokens by tokens in each head":
            with_shape(3, lambda shape, *sizes: (*shape[:3], sizes[4] // sizes[6])),
        "attention weights are of tokens by tokens, the heads come before both":
            with_shape(3, lambda shape, *sizes: (shape[0], shape[2], shape[3], shape[1])),
        "the hidden layer of the MLP has M numbers a token, not D":
            with_shape(4, lambda shape, *sizes: (*shape[:2], sizes[4])),
        "the hidden layer of the MLP has M numbers a token, M need not be 4 D":
            with_shape(4, lambda shape, *sizes: (*shape[:2], 4 * sizes[4])),
        "the logits are one row for an image, the head reads the class token alone":
            with_shape(5, lambda shape, *sizes: (
                sizes[0], (sizes[1] // sizes[2]) ** 2 + 1, sizes[7])),
        "there is one logit for each class": with_shape(5, lambda shape, *sizes: (sizes[0], sizes[4])),
        "the batch axis is missing": lambda *sizes: [shape[1:] for shape in shapes_of(*sizes)],
    },
)
def shapes(
    batch: int, image_size: int, patch_size: int, in_channels: int, hidden_size: int, mlp_size: int,
    num_heads: int, num_classes: int,
) -> list[tuple[int, ...]]:
    """The shapes of patches, tokens z_0, fused q, k and v, attention weights, the MLP's
    hidden layer and logits."""
    return shapes_of(batch, image_size, patch_size, in_channels, hidden_size, mlp_size, num_heads,
                     num_classes)


# ------------------------------------------------------------------------------
# Notebook 02: patch embedding


@exercise(
    "In which order do the numbers of a patch lie? Permute the axes into that order before you "
    "join them",
    lambda: [(torch.randn(4, 4, 3, 5),), (torch.randn(3, 3, 2, 7),)],
    {
        "row and column of the pixel are exchanged: each filter is mirrored on its diagonal":
            lambda kernel: kernel.permute(3, 2, 1, 0).flatten(1),
        "the channels come last within a patch, in ours they come first":
            lambda kernel: kernel.permute(3, 0, 1, 2).flatten(1),
        "the channels come last within a patch, and its rows and columns are exchanged":
            lambda kernel: kernel.permute(3, 1, 0, 2).flatten(1),
        "the channels stand between row and column":
            lambda kernel: kernel.permute(3, 0, 2, 1).flatten(1),
        "a reshape keeps the numbers in the order [P, P, C, D]: permute the axes first":
            lambda kernel: kernel.reshape(kernel.shape[-1], -1),
        "the kernel is turned upside down: a convolution of a network does not flip it":
            lambda kernel: kernel.flip(0, 1).permute(3, 2, 0, 1).flatten(1),
    },
    axes="output number", differentiable=True,
)
def linear_weight(kernel: torch.Tensor) -> torch.Tensor:
    """A kernel [P, P, C, D] of JAX -> the weight [D, C * P * P] of nn.Linear."""
    return kernel.permute(3, 2, 0, 1).flatten(1)


@exercise(
    "which row and which column of patches does the pixel lie in? A row of patches has as many as "
    "the image is wide",
    lambda: [(row, column, height, width, patch_size)
             for height, width, patch_size in ((32, 48, 8), (60, 40, 4), (14, 28, 14))
             for row, column in ((0, 0), (height - 1, width - 1), (patch_size, 0), (0, patch_size),
                                 (height // 2 + 1, width // 3)) if row < height and column < width],
    {
        "a row of patches is as long as the image is wide, here its height is used":
            lambda row, column, height, width, p: row // p * (height // p) + column // p,
        "the patches are numbered column by column, they go row by row":
            lambda row, column, height, width, p: column // p * (height // p) + row // p,
        "row and column are exchanged":
            lambda row, column, height, width, p: column // p * (width // p) + row // p,
        "the patches are numbered from 1 on, they begin at 0 (the class token is no patch)":
            lambda row, column, height, width, p: row // p * (width // p) + column // p + 1,
        "this is the number of the pixel, not of its patch":
            lambda row, column, height, width, p: row * width + column,
        "the row of the pixel is used, not that of its patch":
            lambda row, column, height, width, p: row * (width // p) + column // p,
        "pixels are counted within a row of patches: divide the width by the patch size":
            lambda row, column, height, width, p: row // p * width + column // p,
        "this is the place of the pixel within its patch":
            lambda row, column, height, width, p: row % p * p + column % p,
        "this is rounded, a patch reaches from its first pixel to its last: divide with //":
            lambda row, column, height, width, p: round(row / p) * (width // p) + round(column / p),
    },
)
def patch_of_pixel(row: int, column: int, height: int, width: int, patch_size: int) -> int:
    """The number of the patch, from 0 on, in which a pixel of an image of height x width lies."""
    return row // patch_size * (width // patch_size) + column // patch_size


# ------------------------------------------------------------------------------
# Notebook 03: class token and position



@exercise(
    "Compare layer(tokens[:, permutation]) with layer(tokens)[:, permutation], up to rounding",
    lambda: [
        (layer.eval(), torch.randn(2, 5, 8))
        for layer in (
            nn.Linear(8, 8), nn.Conv1d(5, 5, 1), nn.LayerNorm(8), nn.Softmax(dim=1),
            nn.Conv1d(5, 5, 3, padding=1), nn.Sequential(nn.Linear(8, 8), nn.Conv1d(5, 5, 1)),
            vit.TransformerEncoderBlock(8, 2, 16),
        )
    ],
    {
        "the two are compared the wrong way round: True is asked where a layer is blind to order":
            lambda layer, tokens: not is_order_blind(layer, tokens),
        "this says False of every layer (or the results are not shuffled: layer(shuffled) must be "
        "layer(tokens), shuffled the same way)":
            lambda layer, tokens: torch.allclose(
                layer(tokens.roll(1, 1)), layer(tokens), atol=1e-5),
        "the numbers of each token are shuffled, the tokens lie along axis 1":
            lambda layer, tokens: torch.allclose(
                layer(tokens.roll(1, 2)), layer(tokens).roll(1, 2), atol=1e-5),
        "this says True of every layer (or the images of the batch are shuffled, but the tokens lie "
        "along axis 1)":
            lambda layer, tokens: torch.allclose(
                layer(tokens.roll(1, 0)), layer(tokens).roll(1, 0), atol=1e-5),
        "the numbers must be equal to the last bit, but a sum in another order is rounded otherwise: "
        "torch.allclose":
            lambda layer, tokens: torch.equal(layer(tokens.roll(1, 1)), layer(tokens).roll(1, 1)),
    },
)
def is_order_blind(layer: nn.Module, tokens: torch.Tensor) -> bool:
    """Whether shuffling the tokens [batch, tokens, hidden_size] only shuffles a layer's results."""
    # Among the layers that are tried, only the convolutions have different weights for each place.
    return not any(isinstance(part, nn.Conv1d) for part in layer.modules())


def join_grids(row_embedding: torch.Tensor, column_embedding: torch.Tensor, repeat_rows: Callable,
               repeat_columns: Callable) -> torch.Tensor:
    rows, columns = len(row_embedding), len(column_embedding)
    return torch.cat([repeat_rows(row_embedding, columns), repeat_columns(column_embedding, rows)],
                     1)[None]


def each(x: torch.Tensor, times: int) -> torch.Tensor:
    """a, b -> a, a, b, b"""
    return x.repeat_interleave(times, 0)


def all_of(x: torch.Tensor, times: int) -> torch.Tensor:
    """a, b -> a, b, a, b"""
    return x.repeat(times, 1)


@exercise(
    "patch 1 lies in row 0 and column 1; the numbers of the row come first, then those of the "
    "column",
    lambda: [
        (torch.randn(rows, half), torch.randn(columns, half))
        for rows, columns, half in ((2, 3, 4), (5, 4, 1), (3, 3, 2))
    ],
    {
        "the patches go column by column, they go row by row":
            lambda r, c: join_grids(r, c, all_of, each),
        "the numbers of the column come first, those of the row do":
            lambda r, c: join_grids(r, c, each, all_of).roll(r.shape[1], 2),
        "the row part goes on with each patch: a row's vector is the same for all its columns "
        "(repeat_interleave, not repeat)": lambda r, c: join_grids(r, c, all_of, all_of),
        "the column part is the same along a row: it goes on with each patch (repeat, not "
        "repeat_interleave)": lambda r, c: join_grids(r, c, each, each),
        "row and column are added, one is put after the other":
            lambda r, c: (each(r, len(c)) + all_of(c, len(r)))[None],
        "the first axis is missing: [1, rows * columns, D], so that it fits a batch":
            lambda r, c: join_grids(r, c, each, all_of)[0],
        "the grid is still a grid: [1, rows * columns, D] has rows and columns in one axis":
            lambda r, c: join_grids(r, c, each, all_of).unflatten(1, (len(r), len(c))),
    },
    axes="one patch number", differentiable=True,
)
def rows_and_columns(row_embedding: torch.Tensor, column_embedding: torch.Tensor) -> torch.Tensor:
    """[rows, D / 2] and [columns, D / 2] -> position embeddings [1, rows * columns, D]
    (Table 8, third row)."""
    return join_grids(row_embedding, column_embedding, each, all_of)


# ------------------------------------------------------------------------------
# Notebook 04: multi-head self-attention


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None = None,
           ) -> torch.Tensor:
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return (q @ k.mT * scale).softmax(-1) @ v


def attend_in_chunks(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, shrink_sum: bool = True,
    shrink_output: bool = True, divide: bool = True, keep_largest: bool = True,
    first: float = -torch.inf, drop_rest: bool = False,
) -> torch.Tensor:
    """The algorithm of the exercise with chunks of 4, and with the steps that can be forgotten."""
    largest = torch.full_like(q[..., :1], first)
    total, output = torch.zeros_like(largest), torch.zeros_like(q)
    for some_k, some_v in zip(k.split(4, -2), v.split(4, -2)):
        if drop_rest and some_k.shape[-2] < 4:
            break
        scores = q @ some_k.mT / math.sqrt(q.shape[-1])
        new_largest = scores.amax(-1, keepdim=True)
        if keep_largest:
            new_largest = torch.maximum(largest, new_largest)
        shrink = (largest - new_largest).exp()
        share = (scores - new_largest).exp()
        total = total * (shrink if shrink_sum else 1) + share.sum(-1, keepdim=True)
        output = output * (shrink if shrink_output else 1) + share @ some_v
        largest = new_largest
    return output / total if divide else output


@exercise(
    "Divide the scores by sqrt(D_h), take their largest before exp, and expect a last chunk that "
    "is not full",
    lambda: [
        tuple(size * torch.randn(3, 2, count, 5) for count in (queries, tokens, tokens))
        for queries, tokens, size in ((8, 8, 1), (6, 11, 1), (9, 9, 30))
    ],
    {
        "the scores are not scaled: divide them by sqrt(D_h)":
            lambda q, k, v: attend(q, k, v, 1.0),
        "the scale is D_h, it must be its root": lambda q, k, v: attend(q, k, v, 1 / q.shape[-1]),
        "the sum of the shares is not multiplied when a larger score turns up, only that of the "
        "values": lambda q, k, v: attend_in_chunks(q, k, v, shrink_sum=False),
        "the sum of the values is not multiplied when a larger score turns up, only that of the "
        "shares": lambda q, k, v: attend_in_chunks(q, k, v, shrink_output=False),
        "neither sum is multiplied when a larger score turns up":
            lambda q, k, v: attend_in_chunks(q, k, v, shrink_sum=False, shrink_output=False),
        "the division at the end is missing":
            lambda q, k, v: attend_in_chunks(q, k, v, divide=False),
        "the last chunk, which is not full, is left out":
            lambda q, k, v: attend_in_chunks(q, k, v, drop_rest=True),
        "the softmax is taken in each chunk by itself and the results are added":
            lambda q, k, v: sum(attend(q, a, b) for a, b in zip(k.split(4, -2), v.split(4, -2))),
        "the softmax is taken in each chunk by itself and the results are averaged":
            lambda q, k, v: torch.stack([attend(q, a, b) for a, b in zip(
                k.split(4, -2), v.split(4, -2))]).mean(0),
    },
    axes="head query number", differentiable=True,
    forbidden={
        "all scores of a row are there at once, queries x tokens: go through the keys in chunks":
            lambda name, result, arguments: torch.is_tensor(result) and result.ndim > 2 and (
                result.shape[-2:] in ((6, 11), (8, 8))),
        "scaled_dot_product_attention does all of it: write the chunks yourself":
            lambda name, result, arguments: name == "scaled_dot_product_attention",
    },
)
def chunked_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """q [..., queries, head_size], k and v [..., tokens, head_size] -> output
    [..., queries, head_size]."""
    return attend_in_chunks(q, k, v)


# ------------------------------------------------------------------------------
# Notebook 05: the MLP block


def phi(x: torch.Tensor) -> torch.Tensor:
    """The density of the normal distribution."""
    return (-x**2 / 2).exp() / math.sqrt(2 * math.pi)


def big_phi(x: torch.Tensor) -> torch.Tensor:
    """Its integral, the distribution function."""
    return (1 + (x / math.sqrt(2)).erf()) / 2


@exercise(
    "By the product rule there are two terms",
    lambda: [(torch.linspace(-4, 4, 81),), (3 * torch.randn(40),)],
    {
        "the second term of the product rule is missing": big_phi,
        "the first term of the product rule is missing": lambda x: x * phi(x),
        "the density is not multiplied by x: x belongs to the second term":
            lambda x: big_phi(x) + phi(x),
        "the second term has the wrong sign": lambda x: big_phi(x) - x * phi(x),
        "the density lacks the factor 1 / sqrt(2 pi)":
            lambda x: big_phi(x) + x * (-x**2 / 2).exp(),
        "the density is divided by 2 pi, it must be the root of it":
            lambda x: big_phi(x) + x * (-x**2 / 2).exp() / (2 * math.pi),
        "the density is divided by sqrt(pi), it must be sqrt(2 pi)":
            lambda x: big_phi(x) + x * (-x**2 / 2).exp() / math.sqrt(math.pi),
        "the density has exp(-x^2), it must be exp(-x^2 / 2)":
            lambda x: big_phi(x) + x * (-x**2).exp() / math.sqrt(2 * math.pi),
        "the sqrt(2) is missing in erf(x / sqrt(2))": lambda x: (1 + x.erf()) / 2 + x * phi(x),
        "the factor 1/2 of Phi is missing": lambda x: 2 * big_phi(x) + x * phi(x),
        "the 1 is missing in (1 + erf(x / sqrt(2))) / 2": lambda x: big_phi(x) - 0.5 + x * phi(x),
        "the first term is x Phi(x), it must be Phi(x)": lambda x: x * big_phi(x) + x * phi(x),
        "the second term has x^2, it must be x": lambda x: big_phi(x) + x**2 * phi(x),
        "this is GELU itself, not its derivative": F.gelu,
        "this is the density alone": phi,
        "this is the derivative of ReLU": lambda x: (x > 0).float(),
        "this is the derivative of the sigmoid form of GELU, not of the exact one":
            lambda x: torch.vmap(torch.func.grad(lambda y: y * (1.702 * y).sigmoid()))(x),
        "this is the derivative of the tanh form of GELU, not of the exact one":
            lambda x: torch.vmap(torch.func.grad(lambda y: F.gelu(y, approximate="tanh")))(x),
    },
    axes="number",
    forbidden={"autograd is used: work the derivative out on paper":
               lambda name, result, arguments: name == "autograd"},
)
def gelu_derivative(x: torch.Tensor) -> torch.Tensor:
    """The derivative of GELU at each number of x [n]."""
    return big_phi(x) + x * phi(x)


@exercise(
    "The numbers of a token are the channels of the convolution, the tokens lie along its length",
    lambda: [
        (torch.randn(batch, tokens, width), nn.Linear(width, 4 * width),
         nn.Linear(4 * width, width))
        for batch, tokens, width in ((3, 5, 6), (1, 9, 4), (2, 6, 6))
    ],
    {
        "there is no GELU between the convolutions": lambda z, hidden, out: out(hidden(z)),
        "this is ReLU, not GELU": lambda z, hidden, out: out(hidden(z).relu()),
        "this is the tanh form of GELU, not the exact one":
            lambda z, hidden, out: out(F.gelu(hidden(z), approximate="tanh")),
        "there is a GELU after the second layer as well":
            lambda z, hidden, out: F.gelu(out(F.gelu(hidden(z)))),
        "the bias of `hidden` is not added":
            lambda z, hidden, out: out(F.gelu(z @ hidden.weight.T)),
        "the bias of `out` is not added":
            lambda z, hidden, out: F.gelu(hidden(z)) @ out.weight.T,
        "neither bias is added":
            lambda z, hidden, out: F.gelu(z @ hidden.weight.T) @ out.weight.T,
        "z was brought into the shape [batch, channels, length] by a reshape: transpose it":
            lambda z, hidden, out: out(F.gelu(hidden(
                z.reshape(len(z), z.shape[2], z.shape[1]).mT))),
        "the result was brought back by a reshape: transpose it":
            lambda z, hidden, out: out(F.gelu(hidden(z))).mT.reshape(z.shape),
        "the result is not transposed back to [batch, tokens, hidden_size]":
            lambda z, hidden, out: out(F.gelu(hidden(z))).mT,
        "the input is added to the result: the residual belongs to the block":
            lambda z, hidden, out: z + out(F.gelu(hidden(z))),
    },
    axes="batch token number", differentiable=True,
)
def conv_mlp(z: torch.Tensor, hidden: nn.Linear, out: nn.Linear) -> torch.Tensor:
    """The MLP without dropout: z [batch, tokens, hidden_size] -> the same shape."""
    return out(F.gelu(hidden(z)))


# ------------------------------------------------------------------------------
# Notebook 06: the Transformer encoder


def with_random_weights(module: nn.Module) -> Any:
    """The module with biases that are not zero and norms that are not one, so that leaving one out
    changes the result."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)
    return module.eval()


@exercise(
    "norm1 stands around the sum of z and what MSA gives, norm2 around the second sum",
    lambda: [
        (torch.randn(batch, 7, width),
         with_random_weights(vit.TransformerEncoderBlock(width, heads, 40)))
        for batch, width, heads in ((2, 24, 3), (3, 20, 5))
    ],
    {
        "this is pre-norm, the block of the ViT: the norms come after the sums":
            lambda z, block: block(z),
        "the norm is taken of the branch alone, before z is added": lambda z, block: (
            lambda y: y + block.norm2(block.mlp(y)))(z + block.norm1(block.msa(z))),
        "the residual around the MSA is missing": lambda z, block: (
            lambda y: block.norm2(y + block.mlp(y)))(block.norm1(block.msa(z))),
        "the residual around the MLP is missing": lambda z, block: (
            lambda y: block.norm2(block.mlp(y)))(block.norm1(z + block.msa(z))),
        "both residuals are missing":
            lambda z, block: block.norm2(block.mlp(block.norm1(block.msa(z)))),
        "the norms are exchanged": lambda z, block: (
            lambda y: block.norm1(y + block.mlp(y)))(block.norm2(z + block.msa(z))),
        "norm1 is used twice, norm2 never": lambda z, block: (
            lambda y: block.norm1(y + block.mlp(y)))(block.norm1(z + block.msa(z))),
        "norm2 is used twice, norm1 never": lambda z, block: (
            lambda y: block.norm2(y + block.mlp(y)))(block.norm2(z + block.msa(z))),
        "the second norm is missing": lambda z, block: (
            lambda y: y + block.mlp(y))(block.norm1(z + block.msa(z))),
        "the first norm is missing": lambda z, block: (
            lambda y: block.norm2(y + block.mlp(y)))(z + block.msa(z)),
        "both norms are missing": lambda z, block: (
            lambda y: y + block.mlp(y))(z + block.msa(z)),
        "the second residual carries the block's input z, it must carry what norm1 gives":
            lambda z, block: block.norm2(z + block.mlp(block.norm1(z + block.msa(z)))),
        "the second residual carries the sum before norm1, it must carry what norm1 gives":
            lambda z, block: (lambda y: block.norm2(y + block.mlp(block.norm1(y))))(
                z + block.msa(z)),
        "the first half is pre-norm still": lambda z, block: (
            lambda y: block.norm2(y + block.mlp(y)))(z + block.msa(block.norm1(z))),
        "the second half is pre-norm still": lambda z, block: (
            lambda y: y + block.mlp(block.norm2(y)))(block.norm1(z + block.msa(z))),
        "the norms are there twice, before the branches and after the sums": lambda z, block: (
            lambda y: block.norm2(y + block.mlp(block.norm2(y))))(
                block.norm1(z + block.msa(block.norm1(z)))),
        "the MLP comes before the MSA": lambda z, block: (
            lambda y: block.norm1(y + block.msa(y)))(block.norm2(z + block.mlp(z))),
    },
    axes="batch token number", differentiable=True,
)
def post_norm(z: torch.Tensor, block: vit.TransformerEncoderBlock) -> torch.Tensor:
    """z [batch, tokens, hidden_size] through the parts of a block, in post-norm
    order -> the same shape."""
    z = block.norm1(z + block.msa(z))
    return block.norm2(z + block.mlp(z))


@exercise(
    "a branch with the rate r is kept with probability 1 - r; what is the mean of the rates?",
    lambda: [(12, 0.0), (12, 0.1), (24, 0.4), (2, 0.5), (7, 0.3)],
    {
        "each layer has two branches, MSA and MLP":
            lambda layers, rate: layers * (1 - rate / 2),
        "this takes the last rate for all layers: it rises from 0 to drop_path":
            lambda layers, rate: 2 * layers * (1 - rate),
        "two branches a layer, and the last rate for all: the rate rises from 0 to drop_path":
            lambda layers, rate: layers * (1 - rate),
        "this is the number of branches left out, those that are kept are asked":
            lambda layers, rate: layers * rate,
        "the rate of the last layer is not drop_path: layer l of 0 to L - 1 has l / (L - 1) of it":
            lambda layers, rate: 2 * sum(1 - rate * layer / layers for layer in range(layers)),
        "the rate of the first layer is not 0: layer l of 0 to L - 1 has l / (L - 1) of it":
            lambda layers, rate: 2 * sum(1 - rate * (layer + 1) / layers for layer in range(layers)),
        "all branches are counted, none is left out": lambda layers, rate: 2 * layers,
        "the rates are multiplied: this is the chance that all branches are kept":
            lambda layers, rate: math.prod(
                (1 - rate * layer / (layers - 1)) ** 2 for layer in range(layers)),
        "rounded down to a whole number: a mean need not be whole":
            lambda layers, rate: int(2 * layers * (1 - rate / 2)),
    },
)
def expected_branches(num_layers: int, drop_path: float) -> float:
    """The mean number of branches kept for an image, if the rate rises
    linearly from 0 to drop_path."""
    return 2 * num_layers * (1 - drop_path / 2)


@exercise(
    "qkv, out, and the two layers of the MLP, each with its biases; and two LayerNorms",
    lambda: [(12, 768, 3072), (24, 1024, 4096), (32, 1280, 5120), (2, 24, 40)],
    {
        "the biases are forgotten, all of them": lambda L, D, M: L * (4 * D**2 + 2 * D * M + 4 * D),
        "the biases are forgotten, and the LayerNorms": lambda L, D, M: L * (4 * D**2 + 2 * D * M),
        "4 D for each block are missing: the LayerNorms, or the biases of the MSA, are forgotten":
            lambda L, D, M: L * (4 * D**2 + 4 * D + 2 * D * M + M + D),
        "there are two LayerNorms in a block":
            lambda L, D, M: L * (4 * D**2 + 4 * D + 2 * D * M + M + D + 2 * D),
        "the bias of qkv is forgotten, it has 3 D numbers":
            lambda L, D, M: L * (4 * D**2 + 2 * D * M + M + 6 * D),
        "the bias of the output projection is forgotten":
            lambda L, D, M: L * (4 * D**2 + 2 * D * M + M + 8 * D),
        "the biases of the MLP are forgotten":
            lambda L, D, M: L * (4 * D**2 + 4 * D + 2 * D * M + 4 * D),
        "the bias of `hidden` is forgotten, it has M numbers":
            lambda L, D, M: L * (4 * D**2 + 2 * D * M + 9 * D),
        "`hidden` has M biases and the MLP's `out` has D: here both have D":
            lambda L, D, M: L * (4 * D**2 + 2 * D * M + 10 * D),
        "`hidden` has M biases and the MLP's `out` has D: here both have M":
            lambda L, D, M: L * (4 * D**2 + 2 * D * M + 2 * M + 8 * D),
        "the output projection of the MSA is forgotten":
            lambda L, D, M: L * (3 * D**2 + 3 * D + 2 * D * M + M + D + 4 * D),
        "qkv is three times D x D, for q, k and v":
            lambda L, D, M: L * (2 * D**2 + 2 * D + 2 * D * M + M + D + 4 * D),
        "the MLP has two matrices, D x M and M x D":
            lambda L, D, M: L * (4 * D**2 + D * M + M + 9 * D),
        "this takes M for 4 D, which need not be": lambda L, D, M: L * (12 * D**2 + 13 * D),
        "these are the parameters of one block": lambda L, D, M: (
            4 * D**2 + 2 * D * M + M + 9 * D),
        "the final LayerNorm of the ViT belongs to no block": lambda L, D, M: L * (
            4 * D**2 + 2 * D * M + M + 9 * D) + 2 * D,
    },
)
def stack_parameters(num_layers: int, hidden_size: int, mlp_size: int) -> int:
    """The number of parameters of num_layers blocks."""
    return num_layers * (4 * hidden_size**2 + 2 * hidden_size * mlp_size + mlp_size
                         + 9 * hidden_size)


def tried_drop_path(function: Callable, branch: torch.Tensor, rate: float, training: bool
                    ) -> Any:
    """What eight calls do with a branch of ones [images, tokens, numbers], in short: whether tokens,
    numbers and images differ, the largest number, the share that is not zero and the mean."""
    torch.manual_seed(0)
    results = [function(branch, rate, training) for _ in range(8)]
    if not all(torch.is_tensor(result) and result.shape == branch.shape for result in results):
        return results[0]
    result = torch.stack(results)
    kept = (result != 0).float()
    differ = [(kept.amax(axis) - kept.amin(axis)).max() for axis in (2, 3, 1)]
    shares = [kept.mean(), result.mean()] if differ[2] else [kept.amax(), result.amax()]
    return torch.stack([*differ, result.amax(), *(share.round(decimals=1) for share in shares)])


def drop(shape: Callable, scale: Callable = lambda rate: 1 / (1 - rate),
         share: Callable = lambda rate: 1 - rate, in_eval: bool = False) -> Callable:
    """A DropPath that draws for each number of this shape."""

    def dropped(branch: torch.Tensor, rate: float, training: bool) -> torch.Tensor:
        if not training and not in_eval:
            return branch
        kept = torch.full(shape(branch), float(share(rate))).bernoulli()
        return branch * kept * scale(rate)

    return dropped


def of_images(branch: torch.Tensor) -> tuple[int, ...]:
    return len(branch), 1, 1


@exercise(
    "draw one number for each image, [batch, 1, 1], keep with probability 1 - rate, and scale what "
    "is kept so that its mean stays",
    lambda: [(torch.ones(1000, 2, 3), rate, training)
             for rate, training in ((0.2, True), (0.5, True), (0.3, False), (0.0, True))],
    {
        "single numbers are left out, as by dropout: draw once for each image":
            drop(lambda branch: branch.shape),
        "tokens are left out one by one: draw once for each image":
            drop(lambda branch: (*branch.shape[:2], 1)),
        "the same numbers are left out of all tokens: draw once for each image":
            drop(lambda branch: (len(branch), 1, branch.shape[2])),
        "all images share one decision: draw once for each image": drop(lambda branch: (1, 1, 1)),
        "what is kept is not scaled up by 1 / (1 - rate), so its mean falls":
            drop(of_images, scale=lambda rate: 1),
        "the rate is the share that is left out, here it is kept":
            drop(of_images, share=lambda rate: rate, scale=lambda rate: 1 / max(rate, 1e-9)),
        "the rate is the share that is left out, here it is kept; the scale is right":
            drop(of_images, share=lambda rate: rate),
        "the scale is 1 - rate: what is kept must be scaled up, divide by it":
            drop(of_images, scale=lambda rate: 1 - rate),
        "the scale is 1 / rate: divide by the share that is kept, 1 - rate":
            drop(of_images, scale=lambda rate: 1 / max(rate, 1e-9)),
        "images are left out in evaluation, too: with training=False the branch is returned":
            drop(of_images, in_eval=True),
        "nothing is left out in training": lambda branch, rate, training: branch,
        "in evaluation the branch is scaled, it must be returned as it is":
            lambda branch, rate, training: drop(of_images, scale=lambda rate: 1)(
                branch, rate, True) if training else branch * (1 - rate),
    },
    run=tried_drop_path,
)
def drop_path(branch: torch.Tensor, rate: float, training: bool) -> torch.Tensor:
    """Stochastic depth: branch [batch, tokens, hidden_size], of which in training each image loses
    all of it with the probability `rate`."""
    return drop(of_images)(branch, rate, training)


# ------------------------------------------------------------------------------
# Notebook 07: ViT-Base


def count_of_vit(image: int, P: int, K: int, L: int, D: int, M: int, **changes: int) -> int:
    """The parameters of a ViT, of which each part can be replaced by a wrong count."""
    N = (image // P) ** 2
    parts = dict(patches=3 * P**2 * D + D, token=D, positions=(N + 1) * D,
                 blocks=L * (4 * D**2 + 2 * D * M + M + 9 * D), norm=2 * D, head=D * K + K)
    return sum((parts | changes).values())


@exercise(
    "the positions have one row more than there are patches, and each Linear and LayerNorm has its "
    "biases",
    lambda: [(12, 4, 5, 3, 24, 40), (28, 7, 10, 2, 30, 50), (32, 16, 100, 1, 48, 20)],
    {
        "D numbers are missing: the class token, its position, the biases of the patch embedding, or "
        "the bias of the last LayerNorm": lambda i, P, K, L, D, M: count_of_vit(
            i, P, K, L, D, M, token=0),
        "2 D numbers are missing: the last LayerNorm, or the class token and its position":
            lambda i, P, K, L, D, M: count_of_vit(i, P, K, L, D, M, norm=0),
        "the positions are forgotten": lambda i, P, K, L, D, M: count_of_vit(
            i, P, K, L, D, M, positions=0),
        "the head is forgotten": lambda i, P, K, L, D, M: count_of_vit(i, P, K, L, D, M, head=0),
        "the biases of the head are forgotten": lambda i, P, K, L, D, M: count_of_vit(
            i, P, K, L, D, M, head=D * K),
        "the patch embedding is forgotten": lambda i, P, K, L, D, M: count_of_vit(
            i, P, K, L, D, M, patches=0),
        "a patch has three channels": lambda i, P, K, L, D, M: count_of_vit(
            i, P, K, L, D, M, patches=P**2 * D + D),
        "the patch embedding is counted once for each patch, all share one":
            lambda i, P, K, L, D, M: count_of_vit(
                i, P, K, L, D, M, patches=(i // P) ** 2 * (3 * P**2 * D + D)),
        "the number of patches is that of one row": lambda i, P, K, L, D, M: count_of_vit(
            i, P, K, L, D, M, positions=(i // P + 1) * D),
        "the blocks are forgotten": lambda i, P, K, L, D, M: count_of_vit(
            i, P, K, L, D, M, blocks=0),
        "only one block is counted": lambda i, P, K, L, D, M: count_of_vit(
            i, P, K, L, D, M, blocks=4 * D**2 + 2 * D * M + M + 9 * D),
        "M need not be 4 D": lambda i, P, K, L, D, M: count_of_vit(i, P, K, L, D, 4 * D),
        "the biases of the blocks are forgotten": lambda i, P, K, L, D, M: count_of_vit(
            i, P, K, L, D, M, blocks=L * (4 * D**2 + 2 * D * M + 4 * D)),
        "the LayerNorms of the blocks are forgotten": lambda i, P, K, L, D, M: count_of_vit(
            i, P, K, L, D, M, blocks=L * (4 * D**2 + 2 * D * M + M + 5 * D)),
        "the number of classes is 1000 here, it is an argument":
            lambda i, P, K, L, D, M: count_of_vit(i, P, 1000, L, D, M),
        "biases are forgotten: each Linear and each LayerNorm has them":
            lambda i, P, K, L, D, M: count_of_vit(
                i, P, K, L, D, M, patches=3 * P**2 * D, head=D * K, norm=D,
                blocks=L * (4 * D**2 + 2 * D * M + 2 * D)),
    },
    forbidden={"a model is built and counted: a formula is asked":
               lambda name, result, arguments: torch.is_tensor(result)},
)
def vit_parameters(
    image_size: int, patch_size: int, num_classes: int, num_layers: int, hidden_size: int,
    mlp_size: int
) -> int:
    """The number of parameters of a ViT for images with 3 channels."""
    return count_of_vit(image_size, patch_size, num_classes, num_layers, hidden_size, mlp_size)


@exercise(
    "keys and values are still needed for all tokens; queries, scores, weighted sums, out and the "
    "MLP for one",
    lambda: [(197, 768, 3072), (10, 24, 40), (50, 30, 70)],
    {
        "one token is still answered: T - 1 are saved":
            lambda T, D, M: T * 2 * (D**2 + T * D + D * M),
        "keys and values are needed for all tokens, they are not saved":
            lambda T, D, M: (T - 1) * (4 * D**2 + 2 * T * D + 2 * D * M),
        "keys and values are needed for all tokens, and one token is still answered":
            lambda T, D, M: T * (4 * D**2 + 2 * T * D + 2 * D * M),
        "the MLP is saved too": lambda T, D, M: (T - 1) * (2 * D**2 + 2 * T * D),
        "only the MLP is counted": lambda T, D, M: (T - 1) * 2 * D * M,
        "the MLP has two matrices": lambda T, D, M: (T - 1) * (2 * D**2 + 2 * T * D + D * M),
        "scores and weighted sums are saved too":
            lambda T, D, M: (T - 1) * (2 * D**2 + 2 * D * M),
        "the weighted sums cost as much as the scores, both are saved":
            lambda T, D, M: (T - 1) * (2 * D**2 + T * D + 2 * D * M),
        "the output projection, or the queries, which cost the same, are saved too":
            lambda T, D, M: (T - 1) * (D**2 + 2 * T * D + 2 * D * M),
        "the queries are saved too, and the output projection":
            lambda T, D, M: (T - 1) * (2 * T * D + 2 * D * M),
        "the saving in the scores is (T - 1) queries by T keys, not by T - 1":
            lambda T, D, M: (T - 1) * 2 * (D**2 + (T - 1) * D + D * M),
        "this is what is left, the saving is asked":
            lambda T, D, M: 2 * T * D**2 + 2 * (D**2 + T * D + D * M),
        "these are FLOPs, twice the multiply-adds":
            lambda T, D, M: 4 * (T - 1) * (D**2 + T * D + D * M),
    },
)
def saved_macs(tokens: int, hidden_size: int, mlp_size: int) -> int:
    """The multiply-adds that num_queries=1 saves in one block."""
    return (tokens - 1) * 2 * (hidden_size**2 + tokens * hidden_size + hidden_size * mlp_size)


@exercise(
    "cross-entropy is minus the logarithm of the softmax of the true class's logit",
    lambda: [(2,), (3,), (10,), (1000,)],
    {
        "this is the loss where all classes are equally likely: the true one has e in the softmax, not 1":
            lambda K: math.log(K),
        "the loss of a perfect model is 0 only if its logits can grow: here they are 1 and 0":
            lambda K: 0.0,
        "there are K - 1 other classes, not K": lambda K: math.log(1 + K / math.e),
        "the sign is wrong, a loss is positive": lambda K: -math.log(1 + (K - 1) / math.e),
        "this is the probability, the loss is minus its logarithm":
            lambda K: math.e / (math.e + K - 1),
        "the logarithm is to base 2, it is the natural one":
            lambda K: math.log2(1 + (K - 1) / math.e),
        "the logarithm is to base 10, it is the natural one":
            lambda K: math.log10(1 + (K - 1) / math.e),
        "this is the logarithm of the sum alone, the logit of the true class, 1, must be taken off":
            lambda K: math.log(math.e + K - 1),
        "the number of classes is 1000 here, it is an argument":
            lambda K: math.log(1 + 999 / math.e),
    },
)
def smallest_loss(num_classes: int) -> float:
    """The smallest cross-entropy that can be reached with a softmax too many."""
    return math.log(1 + (num_classes - 1) / math.e)


# ------------------------------------------------------------------------------
# Notebook 08: training on MNIST


def f1(matrix: torch.Tensor, of_row: float = 1, of_column: float = 1) -> torch.Tensor:
    return 2 * matrix.diagonal() / (
        of_row * matrix.sum(1) + of_column * matrix.sum(0)).clamp(min=1)


@exercise(
    "a row holds TP and FN, a column TP and FP: what do the sums of both make together?",
    lambda: [
        (torch.tensor(matrix),)
        for matrix in ([[8, 2], [1, 9]], [[5, 1, 0], [2, 3, 4], [0, 0, 7]],
                       [[4, 0, 1], [0, 0, 0], [2, 0, 3]])
    ],
    {
        "this is the recall, which looks at the rows alone":
            lambda m: m.diagonal() / m.sum(1).clamp(min=1),
        "this is the precision, which looks at the columns alone":
            lambda m: m.diagonal() / m.sum(0).clamp(min=1),
        "this is the mean of precision and recall, F1 is their harmonic mean": lambda m: (
            m.diagonal() / m.sum(1).clamp(min=1) + m.diagonal() / m.sum(0).clamp(min=1)) / 2,
        "the 2 before TP is missing": lambda m: f1(m) / 2,
        "the hits are counted once in the denominator, it is 2 TP + FP + FN":
            lambda m: 2 * m.diagonal() / (m.sum(0) + m.sum(1) - m.diagonal()).clamp(min=1),
        "this is the share of the hits in TP + FP + FN, the Jaccard index":
            lambda m: m.diagonal() / (m.sum(0) + m.sum(1) - m.diagonal()).clamp(min=1),
        "this is the accuracy, one number for all classes":
            lambda m: m.diagonal().sum() / m.sum(),
        "this is the mean over the classes, one number for each is asked": lambda m: f1(m).mean(),
        "the denominator is the number of all images": lambda m: m.diagonal() / m.sum(),
        "a small number is added to the denominator, which changes the others too: clamp it":
            lambda m: 2 * m.diagonal() / (m.sum(0) + m.sum(1) + 1),
    },
    axes="class",
)
def f1_per_class(matrix: torch.Tensor) -> torch.Tensor:
    """Counts [true class, predicted class] -> F1 of each class, [classes]."""
    return f1(matrix)


def grid_sines(rows: int, columns: int, size: int, of_rows: Callable, of_columns: Callable,
               ) -> torch.Tensor:
    half = size // 2
    return torch.cat([of_rows(sinusoidal_positions(rows, half), columns),
                      of_columns(sinusoidal_positions(columns, half), rows)], 1)


def wide_sines(count: int, size: int) -> torch.Tensor:
    """The first half of a table that is twice as wide."""
    return sinusoidal_positions(count, 2 * size)[:, :size]


@exercise(
    "patch 1 lies in row 0 and column 1; in each half sine and cosine take turns, and D / 2 stands "
    "for D",
    lambda: [(2, 3, 8), (5, 4, 12), (7, 7, 48)],
    {
        "the patches go column by column, they go row by row":
            lambda r, c, d: grid_sines(r, c, d, all_of, each),
        "the first half tells the column and the second the row, it is the other way round":
            lambda r, c, d: grid_sines(r, c, d, each, all_of).roll(d // 2, 1),
        "both halves tell the row": lambda r, c, d: torch.cat(
            [each(sinusoidal_positions(r, d // 2), c)] * 2, 1),
        "both halves tell the column": lambda r, c, d: torch.cat(
            [all_of(sinusoidal_positions(c, d // 2), r)] * 2, 1),
        "this is the table for one dimension, it knows only the place in the sequence":
            lambda r, c, d: sinusoidal_positions(r * c, d),
        "the formula of each half has D, it must have D / 2": lambda r, c, d: torch.cat(
            [each(wide_sines(r, d // 2), c), all_of(wide_sines(c, d // 2), r)], 1),
        "row and column are added, one is put after the other": lambda r, c, d: (
            each(sinusoidal_positions(r, d), c) + all_of(sinusoidal_positions(c, d), r)),
        "in each half the sines come first and then the cosines, they take turns":
            lambda r, c, d: torch.cat([x[:, i::2] for x in grid_sines(
                r, c, d, each, all_of).chunk(2, 1) for i in (0, 1)], 1),
        "sine and cosine are exchanged": lambda r, c, d: grid_sines(
            r, c, d, each, all_of).unflatten(1, (-1, 2)).flip(2).flatten(1),
        "rows and columns are counted from 1 on": lambda r, c, d: torch.cat(
            [each(sinusoidal_positions(r + 1, d // 2)[1:], c),
             all_of(sinusoidal_positions(c + 1, d // 2)[1:], r)], 1),
    },
    axes="patch number",
)
def sine_cosine_2d(rows: int, columns: int, hidden_size: int) -> torch.Tensor:
    """Positions [rows * columns, hidden_size], of which the first half is of the row, the
    second of the column."""
    return grid_sines(rows, columns, hidden_size, each, all_of)


def gradients_of_parts(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, part_size: int,
                       weigh: Callable) -> torch.Tensor:
    """The sum over the parts of weigh(gradient, images in the part, all images, parts,
    part_size)."""
    parts = [*zip(images.split(part_size), labels.split(part_size))]
    return torch.stack([weigh(torch.autograd.grad(
        F.cross_entropy(model(some), answers), model.get_parameter("weight"))[0],
        len(some), len(images), len(parts), part_size) for some, answers in parts]).sum(0)


def after_a_step(function: Callable, model: nn.Linear, *arguments: Any) -> Any:
    """The result for a model that still has the gradients of a step before."""
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    return function(model, *arguments)


def added(weigh: Callable) -> Callable:
    """accumulated_gradient, with these weights of the parts."""
    return lambda model, images, labels, part_size: gradients_of_parts(
        model, images, labels, part_size, weigh)


@exercise(
    "the mean loss of each part must weigh as much as its share of all images; are old gradients "
    "cleared?",
    lambda: [
        (nn.Linear(6, 3), torch.randn(count, 6), torch.randint(3, (count,)), part)
        for count, part in ((12, 4), (10, 4), (7, 3), (5, 8))
    ],
    {
        "the means of the parts are added up: each must weigh as its share of the images":
            added(lambda g, some, count, parts, size: g),
        "all parts weigh the same, but the last one is smaller (loss / number of parts)":
            added(lambda g, some, count, parts, size: g / parts),
        "the number of parts is rounded down, and all weigh the same":
            added(lambda g, some, count, parts, size: g / max(count // size, 1)),
        "all parts weigh part_size / images, but the last one is smaller":
            added(lambda g, some, count, parts, size: g * size / count),
        "this is the gradient of the sum, that of the mean is asked":
            added(lambda g, some, count, parts, size: g * some),
        "the loss of a part is a sum already and is multiplied by its size again":
            added(lambda g, some, count, parts, size: g * some**2 / count),
        "the sum of each part is divided by part_size, it must be by the number of all images":
            added(lambda g, some, count, parts, size: g * some / size),
        "the old gradient is still there: zero_grad before the first part":
            lambda model, x, y, part: accumulated_gradient(model, x, y, part) + 1,
        "the gradient is cleared in each part, so only the last one counts (weighed by its share)":
            lambda model, x, y, part: gradients_of_parts(
                model, x[-((len(x) - 1) % part + 1):], y[-((len(x) - 1) % part + 1):], part,
                lambda g, some, *sizes: g * some / len(x)),
        "the gradient is cleared in each part, so only the last one counts":
            lambda model, x, y, part: gradients_of_parts(
                model, x[-((len(x) - 1) % part + 1):], y[-((len(x) - 1) % part + 1):], part,
                lambda g, *sizes: g),
        "only the first part is used": lambda model, x, y, part: gradients_of_parts(
            model, x[:part], y[:part], part, lambda g, some, *sizes: g * some / len(x)),
        "the last part, which is smaller, is left out": lambda model, x, y, part: sum((
            gradients_of_parts(model, a, b, part, lambda g, some, *sizes: g * some / len(x))
            for a, b in zip(x.split(part), y.split(part)) if len(a) == part),
            torch.zeros_like(model.weight)),
        "the logits went through a softmax before cross_entropy, which has its own":
            lambda model, x, y, part: torch.autograd.grad(
                F.cross_entropy(model(x).softmax(-1), y), model.weight)[0],
    },
    axes="class number", run=after_a_step,
)
def accumulated_gradient(
    model: nn.Linear, images: torch.Tensor, labels: torch.Tensor, part_size: int,
) -> torch.Tensor:
    """The gradient of model.weight for the mean cross-entropy of all images. The reader adds it up
    in parts; here the whole batch is used at once."""
    return torch.autograd.grad(F.cross_entropy(model(images), labels), model.weight)[0]


class Observed(nn.Module):
    """A linear classifier that notes how it is run, and gives other logits in training, as a model
    with dropout does."""

    def __init__(self, in_features: int, num_classes: int):
        super().__init__()
        self.layer = nn.Linear(in_features, num_classes)
        self.modes: list[bool] = []
        self.recorded: list[bool] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.modes.append(self.training)
        self.recorded.append(torch.is_grad_enabled())
        logits = self.layer(images)
        return logits * torch.tensor([1.0, -1.0, 1.0, -1.0]) if self.training else logits


def observe_steps(function: Callable, model: Observed, batches: Sequence) -> dict[str, Any]:
    """Two steps with batches of their own, from a model that was just evaluated."""
    model.eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    weights, losses = [], []
    for images, labels in batches:
        loss = function(model, images, labels, optimizer)
        losses.append(loss.item() if torch.is_tensor(loss) and loss.numel() == 1 else loss)
        weights.append(model.layer.weight.detach().clone())
    return {"the weights after the first step": weights[0],
            "the weights after the second step": weights[1],
            "the mode in which the model runs": model.modes,
            "the loss that is returned": losses}


def step_with(order: str, mode: str = "train", of_logits: Callable = lambda logits: logits,
              reduction: str = "mean") -> Callable:
    """A training step with these actions, separated by spaces."""

    def step(model: nn.Module, images: torch.Tensor, labels: torch.Tensor,
             optimizer: torch.optim.Optimizer) -> float:
        if mode:
            getattr(model, mode)()
        loss = torch.tensor(0.0)
        for action in order.split():
            if action == "forward":
                loss = F.cross_entropy(of_logits(model(images)), labels, reduction=reduction)
            elif action == "backward":
                loss.backward()
            else:
                getattr(optimizer, action)()
        return loss.item()

    return step


@exercise(
    "train mode, forward, the old gradients away, backward, step; and the loss is that of before the "
    "step",
    lambda: [(Observed(6, 4), [(torch.randn(count, 6), torch.randint(4, (count,)))
                               for count in (8, 5)])],
    {
        "the gradients of earlier steps are not cleared: zero_grad before backward":
            step_with("forward backward step"),
        "the weights do not move: the step needs the gradients of this batch, first zero_grad, then "
        "backward, then step": step_with("forward zero_grad step backward"),
        "the step comes before backward, so it uses an old gradient (zero_grad last)":
            step_with("forward step backward zero_grad"),
        "the step comes before zero_grad and backward, so it uses the gradient of the batch before":
            step_with("forward step zero_grad backward"),
        "there is no backward, so the step uses an old gradient": step_with("forward step"),
        "the gradients are cleared after the step alone, those of before the first step are still "
        "there": step_with("forward backward step zero_grad"),
        "there are two steps": step_with("forward zero_grad backward step step"),
        "the model is in evaluation mode: call model.train()":
            step_with("forward zero_grad backward step", mode=""),
        "the logits went through a softmax before cross_entropy, which has its own":
            step_with("forward zero_grad backward step",
                      of_logits=lambda logits: logits.softmax(-1)),
        "the loss is a sum over the batch, the mean is asked":
            step_with("forward zero_grad backward step", reduction="sum"),
        "the loss is computed again after the step, that of before it is asked":
            step_with("forward zero_grad backward step forward"),
    },
    run=observe_steps,
)
def training_step(model: nn.Module, images: torch.Tensor, labels: torch.Tensor,
                  optimizer: torch.optim.Optimizer) -> float:
    """One step on one batch. Returns its mean cross-entropy, as it was before the step."""
    return step_with("forward zero_grad backward step")(model, images, labels, optimizer)


def observe_evaluation(function: Callable, model: Observed, batches: Sequence) -> dict[str, Any]:
    """An evaluation of a model that was just trained."""
    model.train()
    before = model.layer.weight.detach().clone()
    accuracy = function(model, batches)
    return {"the accuracy": accuracy.item() if torch.is_tensor(accuracy) and accuracy.numel() == 1
            else accuracy, "the mode in which the model runs": any(model.modes),
            "whether gradients are recorded": any(model.recorded),
            "the weights, which must stay as they are": model.layer.weight.detach() - before}


def evaluate_with(mode: str = "eval", gradients: bool = False,
                  of_batches: Callable = lambda hits, sizes: sum(hits) / sum(sizes)) -> Callable:
    def evaluate(model: nn.Module, batches: Sequence) -> float:
        getattr(model, mode)()
        with torch.set_grad_enabled(gradients):
            hits = [(model(x).argmax(-1) == y).sum().item() for x, y in batches]
        return of_batches(hits, [len(x) for x, _ in batches])

    return evaluate


@exercise(
    "evaluation mode, no gradients; add up the hits and the images over all batches, and divide once",
    lambda: [(Observed(6, 4), [(torch.randn(count, 6), torch.randint(4, (count,)))
                               for count in sizes]) for sizes in ((16, 16, 5), (9, 1))],
    {
        "the model is in training mode, with its dropout on: call model.eval()":
            evaluate_with("train"),
        "the model is in training mode, and gradients are recorded: model.eval(), torch.no_grad()":
            evaluate_with("train", gradients=True),
        "gradients are recorded, which takes memory for nothing: torch.no_grad() or inference_mode()":
            evaluate_with(gradients=True),
        "the accuracies of the batches are averaged, but the last batch is smaller":
            evaluate_with(of_batches=lambda hits, sizes: sum(
                h / size for h, size in zip(hits, sizes)) / len(sizes)),
        "the accuracies of the batches are averaged, and gradients are recorded":
            evaluate_with(gradients=True, of_batches=lambda hits, sizes: sum(
                h / size for h, size in zip(hits, sizes)) / len(sizes)),
        "this is the number of hits, divide by the number of images":
            evaluate_with(of_batches=lambda hits, sizes: sum(hits)),
        "the division is by the number of batches":
            evaluate_with(of_batches=lambda hits, sizes: sum(hits) / len(sizes)),
        "only the last batch counts": evaluate_with(
            of_batches=lambda hits, sizes: hits[-1] / sizes[-1]),
        "only the first batch counts": evaluate_with(
            of_batches=lambda hits, sizes: hits[0] / sizes[0]),
        "the last batch is left out": evaluate_with(
            of_batches=lambda hits, sizes: sum(hits[:-1]) / sum(sizes[:-1])),
        "all batches are taken for as large as the first": evaluate_with(
            of_batches=lambda hits, sizes: sum(hits) / (sizes[0] * len(sizes))),
        "this is the share of wrong answers": evaluate_with(
            of_batches=lambda hits, sizes: 1 - sum(hits) / sum(sizes)),
        "this is in per cent, a share between 0 and 1 is asked": evaluate_with(
            of_batches=lambda hits, sizes: 100 * sum(hits) / sum(sizes)),
    },
    run=observe_evaluation,
)
def evaluate(model: nn.Module, batches: Sequence) -> float:
    """The accuracy over all images of the batches (images, labels), without a trace in the model."""
    return evaluate_with()(model, batches)


# ------------------------------------------------------------------------------
# Notebook 09: training on CIFAR-100


def linear(rise: Callable, fall: Callable) -> Callable:
    """A schedule rise(step, warmup), and fall(step, warmup, total) after it."""
    return lambda step, warmup, total: (
        rise(step, warmup) if step < warmup else fall(step, warmup, total))


def rise(step: int, warmup: int) -> float:
    return (step + 1) / warmup


def fall(step: int, warmup: int, total: int) -> float:
    return (total - step) / (total - warmup)


@exercise(
    "the rise is that of warmup_cosine; from the step after it on, the share of the steps that are "
    "still to come",
    lambda: [
        (step, warmup_steps, total_steps)
        for warmup_steps, total_steps in ((4, 20), (10_000, 93_835))
        for step in (0, warmup_steps - 1, warmup_steps, (warmup_steps + total_steps) // 2,
                     total_steps - 1)
    ],
    {
        "the rise starts at 0, so the first step changes nothing: (step + 1) / warmup_steps":
            linear(lambda step, w: step / w, fall),
        "the rise is by warmup_steps + 1: its last step has the full rate":
            linear(lambda step, w: (step + 1) / (w + 1), fall),
        "there is no warm-up": linear(lambda step, w: 1.0, fall),
        "the rate stays at its highest after the warm-up":
            linear(rise, lambda step, w, t: 1.0),
        "the fall is one step too fast: at step warmup_steps all steps after the warm-up are to come":
            linear(rise, lambda step, w, t: (t - step - 1) / (t - w)),
        "the fall ends at 0 in the last step, there one step is still to come":
            linear(rise, lambda step, w, t: (t - 1 - step) / (t - 1 - w)),
        "the fall is over all steps, the warm-up included, so there is a jump after the warm-up":
            linear(rise, lambda step, w, t: (t - step) / t),
        "the fall counts from the start, not from the end of the warm-up":
            linear(rise, lambda step, w, t: 1 - step / (t - w)),
        "this is the share of the steps that are done, those to come are asked":
            linear(rise, lambda step, w, t: (step - w) / (t - w)),
        "this is the cosine, a straight line is asked": linear(
            rise, lambda step, w, t: (1 + math.cos(math.pi * (step - w) / (t - w))) / 2),
        "the two lines are multiplied, one holds before the end of the warm-up and one after it":
            lambda step, w, t: min(1, rise(step, w)) * fall(step, w, t),
        "the warm-up is left one step too late: step warmup_steps belongs to the fall":
            lambda step, w, t: rise(step, w) if step <= w else fall(step, w, t),
    },
)
def warmup_linear(step: int, warmup_steps: int, total_steps: int) -> float:
    """The learning rate of a step (from 0 on) as a share of the highest."""
    return linear(rise, fall)(step, warmup_steps, total_steps)


def entropy(true: float, other: float, others: int) -> float:
    return -sum(count * y * math.log(y) for y, count in ((true, 1), (other, others)) if y > 0)


@exercise(
    "the entropy of the smoothed label: one class has 1 - share + share / K, "
    "each of the other K - 1 share / K",
    lambda: [(20, 0.1), (100, 0.1), (3, 0.5), (2, 0.01), (1000, 0.1)],
    {
        "the true class has its part of `share` too: 1 - share + share / K": lambda K, share:
            entropy(1 - share, share / K, K - 1),
        "`share` is spread over all K classes, the true one included, not over the other K - 1":
            lambda K, share: entropy(1 - share, share / (K - 1), K - 1),
        "only the true class is counted: the other K - 1 add to the entropy":
            lambda K, share: entropy(1 - share + share / K, 0, 0),
        "this is -ln of the true class's share: each term is weighed by its own share":
            lambda K, share: -math.log(1 - share + share / K),
        "this is -ln(1 - share)": lambda K, share: -math.log(1 - share),
        "all others are taken for one class": lambda K, share:
            entropy(1 - share + share / K, share - share / K, 1),
        "one other class is counted, there are K - 1": lambda K, share:
            entropy(1 - share + share / K, share / K, 1),
        "there are K - 1 other classes, not K": lambda K, share:
            entropy(1 - share + share / K, share / K, K),
        "the sign is wrong, an entropy is positive": lambda K, share:
            -entropy(1 - share + share / K, share / K, K - 1),
        "the logarithm is to base 2, it is the natural one": lambda K, share:
            entropy(1 - share + share / K, share / K, K - 1) / math.log(2),
        "the loss of a label that is not smoothed is 0, here it is smoothed": lambda K, share: 0.0,
        "this is ln K, the floor where all classes are equally likely":
            lambda K, share: math.log(K),
        "this is share times ln K": lambda K, share: share * math.log(K),
    },
)
def smoothing_floor(num_classes: int, share: float) -> float:
    """The smallest cross-entropy against labels smoothed by `share`."""
    return entropy(1 - share + share / num_classes, share / num_classes, num_classes - 1)


@exercise(
    "F.one_hot makes a row of each label, torch.roll(x, 1, dims=0) brings to each row the one "
    "before it",
    lambda: [
        (labels, share, classes) for labels, share, classes in (
            (torch.randint(5, (6,)), 0.3, 5), (torch.randint(7, (4,)), 0.9, 7),
            (torch.randint(3, (8,)), 0.5, 3), (torch.tensor([0, 0, 2]), 0.25, 6))
    ],
    {
        "each image is mixed with the one after it, not before it: roll by 1, not by -1":
            lambda y, share, K: share * F.one_hot(y, K) + (1 - share) * F.one_hot(y, K).roll(-1, 0),
        "the shares are exchanged: an image keeps `share` of itself":
            lambda y, share, K: (1 - share) * F.one_hot(y, K) + share * F.one_hot(y, K).roll(1, 0),
        "the classes are rolled, not the images: dims=0":
            lambda y, share, K: share * F.one_hot(y, K) + (1 - share) * F.one_hot(y, K).roll(1, 1),
        "without dims the whole is rolled as one row, which shifts the classes: dims=0":
            lambda y, share, K: share * F.one_hot(y, K) + (1 - share) * F.one_hot(y, K).roll(1),
        "the batch is mixed with itself in reverse order, as with flip":
            lambda y, share, K: share * F.one_hot(y, K) + (1 - share) * F.one_hot(y, K).flip(0),
        "nothing is mixed, these are the labels alone": lambda y, share, K: F.one_hot(y, K).float(),
        "only the own share is there, the other image's is missing":
            lambda y, share, K: share * F.one_hot(y, K),
        "the other image's label is not weighed by 1 - share":
            lambda y, share, K: share * F.one_hot(y, K) + F.one_hot(y, K).roll(1, 0),
        "both labels have the share `share`, they must sum to 1":
            lambda y, share, K: share * (F.one_hot(y, K) + F.one_hot(y, K).roll(1, 0)),
        "both labels have a half, whatever `share` is":
            lambda y, share, K: (F.one_hot(y, K) + F.one_hot(y, K).roll(1, 0)) / 2,
        "the shares are written, not added: where both images have one class it must get 1":
            lambda y, share, K: (share * F.one_hot(y, K)).maximum(
                (1 - share) * F.one_hot(y, K).roll(1, 0)),
        "the class numbers are mixed, they are names: mix their one-hot rows":
            lambda y, share, K: share * y + (1 - share) * y.roll(1),
        "the label is smoothed, not mixed": lambda y, share, K: (
            share * F.one_hot(y, K) + (1 - share) / K),
        "num_classes is not used, the largest label decides how many columns there are":
            lambda y, share, K: share * F.one_hot(y) + (1 - share) * F.one_hot(y).roll(1, 0),
    },
    axes="image class",
)
def mix_labels(labels: torch.Tensor, share: float, num_classes: int) -> torch.Tensor:
    """Class numbers [batch] -> shares of each class [batch, num_classes], each image mixed
    with the one before it."""
    one_hot = F.one_hot(labels, num_classes)
    return share * one_hot + (1 - share) * one_hot.roll(1, 0)


def decay_of_each(function: Callable, model: nn.Module, weight_decay: float) -> Any:
    """The weight decay of each parameter, by its name, as the optimizer gets it."""
    groups = function(model, weight_decay)
    if not isinstance(groups, (list, tuple)) or not all(
            isinstance(group, dict) and {"params", "weight_decay"} <= group.keys()
            for group in groups):
        return groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decays: dict[str, Any] = {}
    for group in groups:
        for parameter in ([group["params"]] if torch.is_tensor(group["params"])
                          else group["params"]):
            name = names.get(id(parameter), "a tensor that is no parameter of the model")
            decays[name] = "in both groups" if name in decays else float(group["weight_decay"])
    return decays


def groups_by(decays: Callable) -> Callable:
    """Two groups, by decays(name, parameter, the layer it belongs to)."""

    def groups(model: nn.Module, weight_decay: float) -> list[dict]:
        named = [(f"{path}.{name}", parameter, layer) for path, layer in model.named_modules()
                 for name, parameter in layer.named_parameters(recurse=False)]
        return [{"params": [one[1] for one in named if decays(*one)], "weight_decay": weight_decay},
                {"params": [one[1] for one in named if not decays(*one)], "weight_decay": 0.0}]

    return groups


def is_matrix(name: str, parameter: torch.Tensor, layer: nn.Module) -> bool:
    return isinstance(layer, (nn.Linear, nn.Conv2d)) and name.endswith("weight")


@exercise(
    "which parameters multiply? Biases, LayerNorms, class token and positions go into the group "
    "without decay, and each parameter into one group",
    lambda: [
        (vit.ViT(8, 4, 3, 5, 2, 8, 12, 2), 0.05),
        (nn.Sequential(nn.Conv2d(3, 4, 2), nn.GroupNorm(2, 4), nn.Linear(4, 2)), 0.3),
    ],
    {
        "class token and positions decay, too: they have more than one axis, but are no matrices":
            groups_by(lambda name, p, layer: p.ndim > 1),
        "the LayerNorms decay, too: their `weight` is a vector, no matrix":
            groups_by(lambda name, p, layer: name.endswith("weight")),
        "only biases are spared, but LayerNorms, class token and positions must not decay either":
            groups_by(lambda name, p, layer: not name.endswith("bias")),
        "the biases decay, too": groups_by(
            lambda name, p, layer: isinstance(layer, (nn.Linear, nn.Conv2d))),
        "everything decays": groups_by(lambda name, p, layer: True),
        "nothing decays": groups_by(lambda name, p, layer: False),
        "the matrices are in both groups, the second must have the others alone":
            lambda model, decay: [groups_by(is_matrix)(model, decay)[0],
                                  {"params": [*model.parameters()], "weight_decay": 0.0}],
        "the groups are exchanged: the matrices decay":
            groups_by(lambda *one: not is_matrix(*one)),
        "the group without decay is missing, so its parameters are not trained at all":
            lambda model, decay: groups_by(is_matrix)(model, decay)[:1],
        "the head does not decay, its weight is a matrix like the others":
            groups_by(lambda *one: is_matrix(*one) and "head" not in one[0]),
        "the patch embedding does not decay, its weight is a matrix like the others":
            groups_by(lambda *one: is_matrix(*one) and "patch_embedding" not in one[0]),
        "the weight decay is written as a constant, it is an argument":
            lambda model, decay: groups_by(is_matrix)(model, 0.05),
        "convolutions do not decay, their weight is one of a linear layer, too":
            groups_by(lambda *one: is_matrix(*one) and one[1].ndim == 2),
    },
    run=decay_of_each,
)
def decay_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Two groups for AdamW, {"params": [...], "weight_decay": ...}: weight matrices decay."""
    return groups_by(is_matrix)(model, weight_decay)


# ------------------------------------------------------------------------------
# Notebook 10: a look inside


def share_of(deviation: torch.Tensor, same: Callable | None = None, all_: Callable | None = None,
             ) -> torch.Tensor:
    same = same or (lambda d: d.mean(0).pow(2).sum((1, 2)))
    all_ = all_ or (lambda d: d.pow(2).sum((2, 3)).mean(0))
    return same(deviation) / all_(deviation)


@exercise(
    "take off 1 / T first; above, average over the pictures and then square, below, square and "
    "then average",
    lambda: [
        ((size * torch.randn(batch, heads, tokens, tokens)).softmax(-1),)
        for batch, heads, tokens, size in ((6, 3, 5, 3), (2, 1, 10, 1), (9, 4, 4, 2))
    ],
    {
        "even attention, 1 / T, is not taken off": lambda a: share_of(a),
        "above and below are the same, so the share is always 1: average first, then square above, "
        "the other way round below":
            lambda a: share_of(a - 1 / a.shape[-1], same=lambda d: d.pow(2).sum((2, 3)).mean(0)),
        "the result is upside down": lambda a: 1 / share_of(a - 1 / a.shape[-1]),
        "this is one minus the share, that of the content": lambda a: 1 - share_of(
            a - 1 / a.shape[-1]),
        "below is the sum over the pictures, their mean is asked": lambda a: share_of(
            a - 1 / a.shape[-1], all_=lambda d: d.pow(2).sum((0, 2, 3))),
        "above is the sum over the pictures, their mean is asked": lambda a: share_of(
            a - 1 / a.shape[-1], same=lambda d: d.sum(0).pow(2).sum((1, 2))),
        "above is a mean and below a sum over the tokens, both are sums": lambda a: share_of(
            a - 1 / a.shape[-1], same=lambda d: d.mean(0).pow(2).mean((1, 2))),
        "absolute values in place of squares": lambda a: share_of(
            a - 1 / a.shape[-1], lambda d: d.mean(0).abs().sum((1, 2)),
            lambda d: d.abs().sum((2, 3)).mean(0)),
        "the number of pictures is taken for T, the number of tokens":
            lambda a: share_of(a - 1 / len(a)),
        "the number of heads is taken for T, the number of tokens":
            lambda a: share_of(a - 1 / a.shape[1]),
        "the mean over the heads is taken as well, each head has its own share": lambda a: share_of(
            a - 1 / a.shape[-1]).mean(),
        "the root is taken of the share": lambda a: share_of(a - 1 / a.shape[-1]).sqrt(),
    },
    axes="head",
)
def place_share(attention: torch.Tensor) -> torch.Tensor:
    """Attention [batch, num_heads, tokens, tokens] -> [num_heads], the share that is the
    same for all pictures."""
    return share_of(attention - 1 / attention.shape[-1])


def centre(maps: torch.Tensor, place: Callable) -> torch.Tensor:
    """x and y of the centre, where place(index) is that of a patch in pixels."""
    rows, columns = (place(torch.arange(count)) for count in maps.shape[1:])
    return torch.stack([maps.sum(1) @ columns.float(), maps.sum(2) @ rows.float()], 1)


@exercise(
    "x goes with the columns and comes first; where is the centre of patch c, if that of the first "
    "patch of 8 pixels is at 3.5?",
    lambda: [
        (torch.randn(batch, rows * columns).softmax(-1).unflatten(1, (rows, columns)), patch_size)
        for batch, rows, columns, patch_size in ((3, 6, 6, 8), (2, 4, 7, 16), (5, 3, 3, 1))
    ],
    {
        "x and y are exchanged: x goes with the columns and comes first": lambda maps, p: centre(
            maps, lambda i: i * p + (p - 1) / 2).flip(1),
        "this is the first pixel of a patch, not its centre":
            lambda maps, p: centre(maps, lambda i: i * p),
        "the centre is half a pixel too far: patch 0 of 8 pixels has it at 3.5":
            lambda maps, p: centre(maps, lambda i: i * p + p / 2),
        "this is in patches, pixels are asked": lambda maps, p: centre(maps, lambda i: i),
        "this is in patches, pixels are asked; 0.5 is the centre of patch 0":
            lambda maps, p: centre(maps, lambda i: i + 0.5),
        "the patches are counted from 1 on": lambda maps, p: centre(
            maps, lambda i: (i + 1) * p + (p - 1) / 2),
        "this is the place of the largest value, the mean over all is asked": lambda maps, p: (
            torch.stack([maps.amax(1).argmax(1), maps.amax(2).argmax(1)], 1) * p + (p - 1) / 2),
        "the mean is not weighted by the map: this is the middle of the picture":
            lambda maps, p: centre(torch.ones_like(maps) / maps[0].numel(),
                                   lambda i: i * p + (p - 1) / 2),
        "the patch size is 8 here, it is an argument":
            lambda maps, p: centre(maps, lambda i: i * 8 + 3.5),
        "the sum is divided by the number of patches, the map sums to 1 already":
            lambda maps, p: centre(maps, lambda i: i * p + (p - 1) / 2) / maps[0].numel(),
    },
    axes="picture x-and-y",
)
def centre_of_light(maps: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Maps [batch, rows, columns], each of sum 1 -> [batch, 2], x and y in pixels."""
    return centre(maps, lambda i: i * patch_size + (patch_size - 1) / 2)


def with_strong_heads(model: vit.ViT) -> vit.ViT:
    """The model in evaluation mode, with random logits and with strong attention, so that each head
    changes the logits."""
    # A new model has a head of zeros, and its attention is nearly uniform.
    nn.init.normal_(model.head.weight)
    for module in model.modules():
        if isinstance(module, vit.MultiheadSelfAttention):
            nn.init.normal_(module.qkv.weight)
            nn.init.normal_(module.qkv.bias)
            nn.init.normal_(module.out.bias)
    return model.eval()


def logits_without(
    model: vit.ViT, images: torch.Tensor, layer: int, change: Callable, key: str = "out.weight",
) -> torch.Tensor:
    """The logits if change(weight) replaces a weight of this layer's MSA. The model stays as it
    is."""
    changed = copy.deepcopy(model)
    parameter = changed.get_parameter(f"blocks.{layer}.msa.{key}")
    with torch.no_grad():
        parameter.copy_(change(parameter))
    return changed(images)


def zero(places: slice, axis: int = 1) -> Callable:
    """A change that sets a range along an axis of a matrix to zero."""

    def change(weight: torch.Tensor) -> torch.Tensor:
        weight = weight.clone()
        weight.transpose(0, axis)[places] = 0
        return weight

    return change


def size_and_heads(model: vit.ViT) -> tuple[int, int]:
    return model.settings["hidden_size"] // model.settings["num_heads"], model.settings["num_heads"]


def heads_left_out(places: Callable, axis: int = 1, key: str = "out.weight") -> Callable:
    """without_head with zeros in a slice places(head, head_size, num_heads) of a weight."""
    return lambda model, images, layer, head: logits_without(
        model, images, layer, zero(slice(*places(head, *size_and_heads(model))), axis), key)


@exercise(
    "the columns of out.weight are those of the joined heads: head i has head_size of them "
    "from i * head_size on",
    lambda: [
        (with_strong_heads(vit.ViT(12, 4, 3, 5, 2, 8 * heads, 40, heads)),
         torch.randn(3, 3, 12, 12), layer, head)
        for heads, layer, head in ((3, 0, 2), (2, 1, 0), (4, 0, 1))
    ],
    {
        "the rows of `out.weight` are set to zero: the joined heads are its columns":
            heads_left_out(lambda head, size, k: (head * size, head * size + size), axis=0),
        "this is the head before or after: heads are counted from 0":
            heads_left_out(lambda head, size, k: ((head - 1) % k * size,
                                                  (head - 1) % k * size + size)),
        "this is the head after: heads are counted from 0":
            heads_left_out(lambda head, size, k: ((head + 1) % k * size,
                                                  (head + 1) % k * size + size)),
        "one column is set to zero, a head has head_size of them":
            heads_left_out(lambda head, size, k: (head, head + 1)),
        "the numbers of a head are taken one in num_heads, they lie one after the other":
            heads_left_out(lambda head, size, k: (head, None, k)),
        "the columns go up to this head, they begin with it":
            heads_left_out(lambda head, size, k: (0, head * size + size)),
        "the whole MSA is switched off, not one head":
            heads_left_out(lambda head, size, k: (0, None)),
        "only this head is left, it must be left out": lambda model, images, layer, head: (
            logits_without(model, images, layer, lambda w: w - zero(slice(
                head * size_and_heads(model)[0], (head + 1) * size_and_heads(model)[0]))(w))),
        "another layer is changed: layers are counted from 0": lambda model, images, layer, head: (
            without_head(model, images, 1 - layer, head)),
        "the queries of the head are set to zero, so it attends evenly: its output must be zero":
            heads_left_out(lambda head, size, k: (head * size, head * size + size), 0,
                           "qkv.weight"),
        "the keys of the head are set to zero, so it attends evenly: its output must be zero":
            heads_left_out(lambda head, size, k: ((k + head) * size, (k + head + 1) * size), 0,
                           "qkv.weight"),
        "the weight of the head's values is zero, but their bias is still added":
            heads_left_out(lambda head, size, k: ((2 * k + head) * size, (2 * k + head + 1) * size),
                           0, "qkv.weight"),
        "the bias of `out` is left out, too, it belongs to all heads":
            lambda model, images, layer, head: (
                lambda changed: heads_left_out(lambda i, size, k: (i * size, i * size + size))(
                    changed, images, layer, head))(without_bias(model, layer)),
        "nothing is left out": lambda model, images, layer, head: model(images),
        "the head is left out of all layers": lambda model, images, layer, head: without_head(
            without_heads(model, 1 - layer, head), images, layer, head),
    },
    axes="image class",
)
def without_head(model: vit.ViT, images: torch.Tensor, layer: int, head: int) -> torch.Tensor:
    """The logits [batch, num_classes] of a ViT in which this head, from 0 on, adds nothing
    to the output of MSA."""
    return without_heads(model, layer, head)(images).detach()


def without_heads(model: vit.ViT, layer: int, head: int) -> vit.ViT:
    changed, (size, _) = copy.deepcopy(model), size_and_heads(model)
    weight = changed.get_parameter(f"blocks.{layer}.msa.out.weight")
    with torch.no_grad():
        weight[:, head * size : (head + 1) * size] = 0
    return changed


def without_bias(model: vit.ViT, layer: int) -> vit.ViT:
    changed = copy.deepcopy(model)
    nn.init.zeros_(changed.get_parameter(f"blocks.{layer}.msa.out.bias"))
    return changed


def distances(rows: int, columns: int, length: Callable = lambda steps: steps.norm(dim=-1),
              ) -> torch.Tensor:
    """The distances between the centres of every pair of patches, in patches: [N, N]."""
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).float()
    return length(places[:, None] - places)


def weighted_distance(attention: torch.Tensor, distance: torch.Tensor, rescale: bool = True,
                      ) -> torch.Tensor:
    weights = attention[:, 1:, 1:]
    if rescale:
        weights = weights / weights.sum(-1, keepdim=True)
    return (weights * distance).sum(-1).mean(-1)


@exercise(
    "leave the class token out of queries and keys, let each row sum to 1 again, weigh the "
    "distances of the patches' centres in pixels, and average over the queries",
    lambda: [
        ((3 * torch.randn(heads, 1 + rows * columns, 1 + rows * columns)).softmax(-1), rows, columns,
         patch_size) for heads, rows, columns, patch_size in ((3, 2, 5, 8), (2, 4, 3, 16), (4, 3, 3, 1))
    ],
    {
        "the weights are not rescaled: without the class token each row must sum to 1 again":
            lambda a, r, c, p: weighted_distance(a, distances(r, c) * p, rescale=False),
        "the distance is in patches, pixels are asked":
            lambda a, r, c, p: weighted_distance(a, distances(r, c)),
        "rows and columns are exchanged: patches go row by row, each row has `columns` of them":
            lambda a, r, c, p: weighted_distance(a, distances(c, r) * p),
        "this is the way along rows and columns, the straight line is asked": lambda a, r, c, p:
            weighted_distance(a, distances(r, c, lambda steps: steps.abs().sum(-1)) * p),
        "the root of the squares is missing": lambda a, r, c, p:
            weighted_distance(a, distances(r, c, lambda steps: steps.pow(2).sum(-1)) * p**2),
        "the root of the squares is missing, and the patch size is not squared":
            lambda a, r, c, p: weighted_distance(
                a, distances(r, c, lambda steps: steps.pow(2).sum(-1)) * p),
        "the distance is that of the places in the sequence, a patch has a row and a column":
            lambda a, r, c, p: weighted_distance(a, p * (
                torch.arange(r * c)[:, None] - torch.arange(r * c)).abs().float()),
        "all patches weigh the same, the attention is not used": lambda a, r, c, p:
            weighted_distance(torch.ones_like(a), distances(r, c) * p),
        "queries and keys are exchanged: the rows of the attention are the queries":
            lambda a, r, c, p: weighted_distance(a.mT, distances(r, c) * p),
        "the class token counts as a query or key with the distance 0": lambda a, r, c, p: (
            a * F.pad(distances(r, c) * p, (1, 0, 1, 0))).sum(-1).mean(-1),
        "the mean over the heads is taken, too, each head has its own distance":
            lambda a, r, c, p: weighted_distance(a, distances(r, c) * p).mean(),
        "the sum over the queries is taken, their mean is asked":
            lambda a, r, c, p: weighted_distance(a, distances(r, c) * p) * r * c,
        "only the horizontal distance is used": lambda a, r, c, p:
            weighted_distance(a, distances(r, c, lambda steps: steps[..., 1].abs()) * p),
        "only the vertical distance is used": lambda a, r, c, p:
            weighted_distance(a, distances(r, c, lambda steps: steps[..., 0].abs()) * p),
        "this is the distance of the patch with the largest weight, the mean over all is asked":
            lambda a, r, c, p: weighted_distance(F.one_hot(
                F.pad(a[:, 1:, 1:], (1, 0, 1, 0)).argmax(-1), a.shape[-1]).float(),
                distances(r, c) * p),
    },
    axes="head",
)
def mean_distance(attention: torch.Tensor, rows: int, columns: int, patch_size: int) -> torch.Tensor:
    """Attention [num_heads, 1 + rows * columns, 1 + rows * columns] of one picture -> the mean
    attention distance of each head in pixels, [num_heads]."""
    return weighted_distance(attention, distances(rows, columns) * patch_size)


def cam(tokens: torch.Tensor, gradients: torch.Tensor, first: int = 1,
        weigh: Callable = lambda g: g,
        finish: Callable = lambda maps: maps.sum(-1).relu()) -> torch.Tensor:
    return finish(weigh(gradients[:, first:]) * tokens[:, first:])


@exercise(
    "for each patch the sum over its D features of gradient times feature, and what is negative becomes 0",
    lambda: [(torch.randn(batch, tokens, size), torch.randn(batch, tokens, size))
             for batch, tokens, size in ((3, 10, 8), (2, 5, 12), (4, 17, 6))],
    {
        "the class token is still there, it has no place in the picture": lambda t, g: cam(t, g, 0),
        "the gradients are averaged over the patches: that is Grad-CAM, here each patch keeps its own":
            lambda t, g: cam(t, g, weigh=lambda g: g.mean(1, keepdim=True)),
        "the class token's gradient is used for all patches, each has its own":
            lambda t, g: cam(t, g, weigh=lambda _: g[:, :1]),
        "negative values are still there: what speaks against the class becomes 0 (ReLU)":
            lambda t, g: cam(t, g, finish=lambda maps: maps.sum(-1)),
        "the absolute value is taken, but what speaks against the class becomes 0 (ReLU)":
            lambda t, g: cam(t, g, finish=lambda maps: maps.sum(-1).abs()),
        "ReLU comes before the sum over the features, it belongs after it":
            lambda t, g: cam(t, g, finish=lambda maps: maps.relu().sum(-1)),
        "the mean over the features is taken, their sum is asked":
            lambda t, g: cam(t, g, finish=lambda maps: maps.mean(-1).relu()),
        "this is the length of each patch's product, its sum is asked":
            lambda t, g: cam(t, g, finish=lambda maps: maps.norm(dim=-1)),
        "this is the length of the gradient, the tokens are not used":
            lambda t, g: g[:, 1:].norm(dim=-1),
        "ReLU is applied to the gradients, it belongs after the sum":
            lambda t, g: cam(t, g, weigh=torch.relu),
        "the gradients are not used, only the tokens": lambda t, g: cam(
            t, g, weigh=torch.ones_like),
        "the map is divided by its largest value, it is asked as it is": lambda t, g: cam(
            t, g, finish=lambda maps: maps.sum(-1).relu()
            / maps.sum(-1).relu().amax(1, keepdim=True)),
    },
    axes="picture patch",
)
def gradient_times_input(tokens: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Tokens of a layer and the gradients of a logit for them, both [batch, 1 + N, D] -> a map
    [batch, N] (HiResCAM, Draelos and Carin, 2020, with tokens in place of pixels)."""
    return cam(tokens, gradients)


# ------------------------------------------------------------------------------
# Notebook 11: ablations


@exercise(
    "difference = 2 spread sqrt(2 / n), solved for n, and rounded up to a whole number",
    lambda: [(0.01, 0.008), (0.002, 0.0077), (0.028, 0.013), (0.03, 0.02), (0.02, 0.02)],
    {
        "it is rounded down, that is too few: math.ceil":
            lambda d, s: math.floor(8 * (s / d) ** 2),
        "it is rounded to the nearest whole number, it must be rounded up":
            lambda d, s: round(8 * (s / d) ** 2),
        "it is not rounded, a whole number of seeds is asked": lambda d, s: 8 * (s / d) ** 2,
        "this is one standard error, two are asked": lambda d, s: math.ceil(2 * (s / d) ** 2),
        "the 2 in sqrt(2 / n) is missing, both means have an error":
            lambda d, s: math.ceil(4 * (s / d) ** 2),
        "the two standard errors are not squared": lambda d, s: math.ceil(4 * (s / d) ** 2 + 1e-9),
        "the spread is not squared: n stands under a root": lambda d, s: math.ceil(8 * s / d),
        "difference and spread are exchanged": lambda d, s: math.ceil(8 * (d / s) ** 2),
        "this is the number for both rows together": lambda d, s: 2 * math.ceil(8 * (s / d) ** 2),
        "one is added before or after rounding down, which is one too many where it divides":
            lambda d, s: math.floor(8 * (s / d) ** 2) + 1,
        "the spread is taken for the variance": lambda d, s: math.ceil(8 * s / d**2),
        "the root is taken of the whole, n itself is asked":
            lambda d, s: math.ceil(math.sqrt(8) * s / d),
    },
)
def seeds_needed(difference: float, spread: float) -> int:
    """The smallest number of seeds, the same for both rows, with which a difference is two standard
    errors or more."""
    return math.ceil(8 * (spread / difference) ** 2)


def encode(z: torch.Tensor, blocks: Sequence[Callable], positions: torch.Tensor,
           before: Callable = lambda z, positions, layer: z + positions) -> torch.Tensor:
    for layer, block in enumerate(blocks):
        z = block(before(z, positions, layer))
    return z


@exercise(
    "before each block, also before the second and third, the same positions are added to what the "
    "block gets",
    lambda: [
        (torch.randn(batch, 7, 24),
         [with_random_weights(vit.TransformerEncoderBlock(24, 3, 40)) for _ in range(layers)],
         torch.randn(1, 7, 24))
        for batch, layers in ((2, 1), (4, 3))
    ],
    {
        "the positions are added before the first block alone": lambda z, blocks, p: encode(
            z, blocks, p, lambda z, p, layer: z if layer else z + p),
        "the positions are added after each block, they come before it":
            lambda z, blocks, p: encode(z, blocks, p, lambda z, p, layer: z + p if layer else z) + p,
        "the positions are added before and after": lambda z, blocks, p: encode(z, blocks, p) + p,
        "the positions are not added before the first block": lambda z, blocks, p: encode(
            z, blocks, p, lambda z, p, layer: z + p if layer else z),
        "the positions are not added at all": lambda z, blocks, p: encode(
            z, blocks, p, lambda z, p, layer: z),
        "every block is given the same input, so only the last one counts":
            lambda z, blocks, p: blocks[-1](z + p),
        "only the first block is used": lambda z, blocks, p: blocks[0](z + p),
        "the first block is used again and again": lambda z, blocks, p: encode(
            z, [blocks[0]] * len(blocks), p),
        "the last block is left out": lambda z, blocks, p: encode(z, blocks[:-1], p),
        "the blocks are used in reverse order": lambda z, blocks, p: encode(z, blocks[::-1], p),
        "the positions are taken off again after each block": lambda z, blocks, p: encode(
            z, blocks, p, lambda z, p, layer: z if layer else z + p) - p,
        "there is a residual around each block, which has its own two":
            lambda z, blocks, p: encode(
                z, [lambda z, block=block: z + block(z) for block in blocks], p),
        "the positions grow from layer to layer, they are the same in all": lambda z, blocks, p:
            encode(z, blocks, p, lambda z, p, layer: z + (layer + 1) * p),
    },
    axes="batch token number", differentiable=True,
)
def shared_positions_encoder(
    z: torch.Tensor, blocks: Sequence[nn.Module], position_embedding: torch.Tensor
) -> torch.Tensor:
    """z [batch, tokens, hidden_size] without positions -> the last block's output
    (Table 8, third column)."""
    return encode(z, blocks, position_embedding)


@exercise(
    "2 T^2 D on one side, 4 T D^2 + 2 T D M on the other; divide both by 2 T D",
    lambda: [(768, 3072), (1024, 4096), (32, 64), (24, 100)],
    {
        "the MLP is forgotten on the other side": lambda D, M: 2 * D,
        "the matrices of the MSA are forgotten on the other side": lambda D, M: M,
        "the MSA has four matrices: q, k, v and the output projection": lambda D, M: (
            3 * D / 2 + M),
        "the MSA has four matrices, here it has two": lambda D, M: D + M,
        "the MLP has two matrices": lambda D, M: 2 * D + M / 2,
        "scores and weighted sums cost T^2 D each": lambda D, M: 4 * D + 2 * M,
        "M need not be 4 D": lambda D, M: 6 * D,
        "the division by 2 D is missing": lambda D, M: 4 * D**2 + 2 * D * M,
        "this is a half of it": lambda D, M: D + M / 2 + 1e-9,
        "the class token is a token like the others": lambda D, M: 2 * D + M - 1,
        "one token too many": lambda D, M: 2 * D + M + 1,
    },
)
def tokens_at_half(hidden_size: int, mlp_size: int) -> int:
    """The number of tokens at which half of a layer's multiply-adds are those of the
    scores and weighted sums."""
    return 2 * hidden_size + mlp_size


def offsets(side: int, sign: int = 1, swap: bool = False, shift: int | None = None,
            stride: int | None = None, patches: torch.Tensor | None = None) -> torch.Tensor:
    places = torch.arange(side**2) if patches is None else patches
    shift = side - 1 if shift is None else shift
    row, column = (sign * (x[:, None] - x) + shift for x in (places // side, places % side))
    if swap:
        row, column = column, row
    return row * (2 * side - 1 if stride is None else stride) + column


@exercise(
    "patch n lies in row n // side and column n % side; query minus key, for each pair",
    lambda: [(2,), (3,), (7,)],
    {
        "this is key minus query, it is query minus key": lambda s: offsets(s, sign=-1),
        "rows and columns are exchanged": lambda s: offsets(s, swap=True),
        "s - 1 is not added, so there are negative numbers": lambda s: offsets(s, shift=0),
        "s is added, it is s - 1": lambda s: offsets(s, shift=s),
        "the row is multiplied by s, there are 2 s - 1 offsets of columns (this is the offset in the "
        "sequence, as in one dimension)": lambda s: offsets(s, stride=s),
        "the row is multiplied by 2 s, there are 2 s - 1 offsets of columns":
            lambda s: offsets(s, stride=2 * s),
        "the row is multiplied by 2 s + 1, there are 2 s - 1 offsets of columns":
            lambda s: offsets(s, stride=2 * s + 1),
        "the absolute differences are used, an offset has a sign": lambda s: (
            lambda p: ((p // s)[:, None] - p // s).abs() * (2 * s - 1)
            + ((p % s)[:, None] - p % s).abs())(torch.arange(s**2)),
        "the shift s - 1 is added to the row alone": lambda s: offsets(s) - (s - 1),
        "the shift s - 1 is added to the column alone":
            lambda s: offsets(s) - (s - 1) * (2 * s - 1),
        "the result is for a grid of its own: [queries, keys], with one axis for all patches":
            lambda s: offsets(s).unflatten(0, (s, s)).unflatten(2, (s, s)),
    },
    axes="query key",
)
def grid_offsets(side: int) -> torch.Tensor:
    """The numbers of the offsets [side^2 queries, side^2 keys], integers from 0 to
    (2 side - 1)^2 - 1."""
    return offsets(side)


# ------------------------------------------------------------------------------
# Notebook 12: pre-training and fine-tuning


def ridge(x: torch.Tensor, y: torch.Tensor, decay: float) -> torch.Tensor:
    return torch.linalg.solve(x.T @ x + decay * torch.eye(x.shape[1]), x.T @ y)


@exercise(
    "W = X^T (X X^T + decay I)^-1 Y: the identity is as large as there are images, X^T comes last "
    "from the left",
    lambda: [
        (torch.randn(images, features), torch.randn(images, classes), decay)
        for images, features, classes, decay in ((4, 9, 3, 2.0), (6, 6, 2, 0.5), (3, 20, 5, 10.0))
    ],
    {
        "there is no decay": lambda x, y, decay: x.T @ torch.linalg.solve(x @ x.T, y),
        "the decay is added to all numbers of the matrix, it belongs on its diagonal: torch.eye":
            lambda x, y, decay: x.T @ torch.linalg.solve(x @ x.T + decay, y),
        "the decay is multiplied by the number of images":
            lambda x, y, decay: ridge(x, y, decay * len(x)),
        "the decay is divided by the number of images":
            lambda x, y, decay: ridge(x, y, decay / len(x)),
        "the decay is squared": lambda x, y, decay: ridge(x, y, decay**2),
        "the decay is subtracted, it is added": lambda x, y, decay: ridge(x, y, -decay),
        "X^T is missing before the inverse":
            lambda x, y, decay: torch.linalg.solve(x @ x.T + decay * torch.eye(len(x)), y),
        "the inverse is missing: this is X^T Y": lambda x, y, decay: x.T @ y,
        "the matrix is multiplied, its inverse is asked":
            lambda x, y, decay: x.T @ (x @ x.T + decay * torch.eye(len(x))) @ y,
        "the result is transposed, W is [D, K]": lambda x, y, decay: ridge(x, y, decay).T,
        "the decay is 1 here, it is an argument": lambda x, y, decay: ridge(x, y, 1.0),
    },
    axes="feature class",
    forbidden={"a matrix of D x D is made, the exercise asks for one of n x n":
               lambda name, result, arguments: torch.is_tensor(result)
               and result.shape in ((9, 9), (20, 20))},
)
def least_squares_dual(x: torch.Tensor, targets: torch.Tensor, decay: float) -> torch.Tensor:
    """Features [n, D] and targets [n, K] -> W [D, K]. Here the D x D system is solved, which has
    the same solution as the n x n system of the exercise."""
    return ridge(x, targets, decay)


def resized(
    positions: torch.Tensor, rows: int, columns: int, mode: str = "bilinear",
    align: bool | None = True, to_grid: Callable = lambda x: x.mT, to_tokens: Callable =
    lambda grid: grid.flatten(2).mT, join: Callable = lambda token, patches: [token, patches],
) -> torch.Tensor:
    token, patches = positions[:, :1], positions[:, 1:]
    side = math.isqrt(patches.shape[1])
    grid = to_grid(patches).reshape(1, -1, side, side)
    grid = F.interpolate(grid, size=(rows, columns), mode=mode, align_corners=align)
    return torch.cat(join(token, to_tokens(grid)), dim=1)


@exercise(
    "the class token stays in front; the others become [1, D, n, n], then F.interpolate with "
    "align_corners=True",
    lambda: [
        (torch.randn(1, 1 + side**2, width), rows, columns)
        for side, width, rows, columns in ((4, 5, 6, 9), (3, 8, 5, 3), (6, 2, 4, 12))
    ],
    {
        "align_corners is False, which is the default: the corners must keep their values":
            lambda p, r, c: resized(p, r, c, align=False),
        "rows and columns are exchanged": lambda p, r, c: resized(p, c, r),
        "the grid is bicubic, bilinear is asked": lambda p, r, c: resized(p, r, c, "bicubic"),
        "the grid is bicubic and align_corners is False": lambda p, r, c: resized(
            p, r, c, "bicubic", False),
        "the grid takes the nearest place, bilinear is asked": lambda p, r, c: resized(
            p, r, c, "nearest", None),
        "the tokens became [1, D, n, n] by a reshape: transpose them first, D lies last":
            lambda p, r, c: resized(p, r, c, to_grid=lambda x: x),
        "the grid became [1, rows * columns, D] by a reshape: flatten(2), then transpose":
            lambda p, r, c: resized(p, r, c, to_tokens=lambda grid: grid.reshape(1, r * c, -1)),
        "both ways are a reshape without a transpose": lambda p, r, c: resized(
            p, r, c, to_grid=lambda x: x, to_tokens=lambda grid: grid.reshape(1, r * c, -1)),
        "the patches go column by column afterwards": lambda p, r, c: resized(
            p, r, c, to_tokens=lambda grid: grid.mT.flatten(2).mT),
        "the class token is at the end": lambda p, r, c: resized(
            p, r, c, join=lambda token, patches: [patches, token]),
        "the class token is lost": lambda p, r, c: resized(
            p, r, c, join=lambda token, patches: [patches]),
        "the class token is lost, and there are zeros in its place": lambda p, r, c: resized(
            p, r, c, join=lambda token, patches: [0 * token, patches]),
        "the last position was taken for the class token's, it is the first": lambda p, r, c: (
            resized(p.roll(1, 1), r, c)),
        "all positions were interpolated as one row, the class token among them":
            lambda p, r, c: F.interpolate(p.mT, size=1 + r * c, mode="linear",
                                          align_corners=True).mT,
        "the patches were interpolated as one row, they form a grid": lambda p, r, c: torch.cat(
            [p[:, :1], F.interpolate(p[:, 1:].mT, size=r * c, mode="linear",
                                     align_corners=True).mT], 1),
    },
    axes="one token number", differentiable=True,
)
def resize_to_rectangle(positions: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Position embeddings [1, 1 + n * n, D] -> [1, 1 + rows * columns, D]."""
    return resized(positions, rows, columns)


def mean_and(error: Callable, mean: Callable = lambda a, b: (a - b).mean()) -> Callable:
    return lambda a, b: (mean(a, b).item(), torch.as_tensor(error(a, b)).item())


@exercise(
    "take the differences first; their standard deviation (n - 1) over the root of n is the "
    "standard error",
    lambda: [(0.8 + 0.05 * torch.randn(seeds), 0.6 + 0.05 * torch.randn(seeds))
             for seeds in (3, 5, 20)],
    {
        "this is the deviation of the differences, divide it by the root of n":
            mean_and(lambda a, b: (a - b).std()),
        "the division is by n, it must be by its root":
            mean_and(lambda a, b: (a - b).std() / len(a)),
        "the division is by the root of n - 1, as the deviation has its n - 1 already":
            mean_and(lambda a, b: (a - b).std() / (len(a) - 1) ** 0.5),
        "the deviation is by n, with few seeds it must be by n - 1 (torch.std, not numpy's)":
            mean_and(lambda a, b: (a - b).std(correction=0) / len(a) ** 0.5),
        "the variance is used, not its root": mean_and(lambda a, b: (a - b).var() / len(a) ** 0.5),
        "this is the variance over n, the root of it is asked":
            mean_and(lambda a, b: (a - b).var() / len(a)),
        "the two errors are combined as of independent runs: take the differences of the seeds first":
            mean_and(lambda a, b: ((a.var() + b.var()) / len(a)) ** 0.5),
        "the two errors are added up: take the differences of the seeds first":
            mean_and(lambda a, b: (a.std() + b.std()) / len(a) ** 0.5),
        "the two errors are subtracted: take the differences of the seeds first":
            mean_and(lambda a, b: (a.std() - b.std()) / len(a) ** 0.5),
        "this is the error of the first row alone": mean_and(
            lambda a, b: a.std() / len(a) ** 0.5),
        "this is twice the error": mean_and(lambda a, b: 2 * (a - b).std() / len(a) ** 0.5),
        "the gain has the wrong sign: with pre-training minus from scratch":
            mean_and(lambda a, b: (a - b).std() / len(a) ** 0.5, lambda a, b: (b - a).mean()),
        "the gain is a ratio, the difference is asked": mean_and(
            lambda a, b: 0, lambda a, b: a.mean() / b.mean()),
        "the gain is the median, the mean is asked": mean_and(
            lambda a, b: 0, lambda a, b: (a - b).median()),
        "the gain is a share of the accuracy from scratch, the difference is asked": mean_and(
            lambda a, b: 0, lambda a, b: (a - b).mean() / b.mean()),
        "the gain is the difference of the best seeds": mean_and(
            lambda a, b: 0, lambda a, b: a.max() - b.max()),
        "the results are exchanged: mean gain first": lambda a, b: gain(a, b)[::-1],
    },
)
def gain(with_pretraining: torch.Tensor, from_scratch: torch.Tensor) -> tuple[float, float]:
    """Accuracies of the same seeds, [n] and [n] -> (mean gain, standard error)."""
    return mean_and(lambda a, b: (a - b).std() / len(a) ** 0.5)(with_pretraining, from_scratch)


def observe_new_head(function: Callable, model: vit.ViT, num_classes: int, images: torch.Tensor
                     ) -> Any:
    """What is new in a model whose head was replaced, and what is not."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    torch.manual_seed(0)
    model = function(model, num_classes)
    if model is None:
        return None
    if not isinstance(model, vit.ViT) or not isinstance(model.head, nn.Linear):
        return {"what is returned": type(model).__name__}
    kept = {name: p for name, p in model.named_parameters() if not name.startswith("head.")}
    return {
        "what is returned": "ViT",
        "the size of the head": tuple(model.head.weight.shape),
        "the size of its bias": () if model.head.bias is None else tuple(model.head.bias.shape),
        "the weights below the head, which must stay": all(
            name in kept and torch.equal(kept[name], before[name])
            for name in before if not name.startswith("head.")),
        "whether all weights are trained, also those below the head":
            all(p.requires_grad for p in model.parameters()),
        "the first logits, which are zero": model(images).detach(),
    }


def new_head(model: vit.ViT, num_classes: int, change: Callable = lambda head: None, **options: Any
             ) -> vit.ViT:
    model.head = nn.Linear(model.head.in_features, num_classes, **options)
    nn.init.zeros_(model.head.weight)
    if model.head.bias is not None:
        nn.init.zeros_(model.head.bias)
    change(model)
    return model


def randomly(model: vit.ViT) -> None:
    torch.manual_seed(0)
    model.head.reset_parameters()


@exercise(
    "model.head becomes a new nn.Linear of the same width; weight and bias start at zero, everything "
    "else stays and goes on being trained",
    lambda: [(with_random_weights(vit.ViT(8, 4, 3, classes, 1, size, 20, 2)), new,
              torch.randn(3, 3, 8, 8)) for classes, size, new in ((10, 8, 3), (4, 12, 7))],
    {
        "the new head starts with random weights, it starts at zero (Section 3.2)":
            lambda model, K: new_head(model, K, randomly),
        "the weight of the new head is zero, its bias is not":
            lambda model, K: new_head(model, K, lambda model: nn.init.normal_(model.head.bias)),
        "the new head has no bias": lambda model, K: new_head(model, K, bias=False),
        "the old head is still there, only its weights are zero":
            lambda model, K: new_head(model, model.settings["num_classes"]),
        "the head has been left as it was": lambda model, K: model,
        "the weights below the head are frozen: in fine-tuning all are trained":
            lambda model, K: new_head(model, K, lambda model: [
                p.requires_grad_(name.startswith("head"))
                for name, p in model.named_parameters()]),
        "the weights below the head are new: those of pre-training must stay":
            lambda model, K: vit.ViT(**model.settings | {"num_classes": K}),
        "the new head comes after the old one, it must take its place":
            lambda model, K: new_head(model, K) and nn.Sequential(model, nn.Linear(K, K)),
        "the head alone is returned, the model is asked": lambda model, K: new_head(model, K).head,
    },
    run=observe_new_head,
)
def replace_head(model: vit.ViT, num_classes: int) -> vit.ViT:
    """The model with a new head for so many classes, ready to be fine-tuned (Section 3.2)."""
    return new_head(model, num_classes)


# ------------------------------------------------------------------------------
# Notebook 13: training on food


@exercise(
    "one image has the variance p (1 - p); what is that of a mean of n, and its root?",
    lambda: [(0.65, 75), (0.5, 10_000), (0.99, 600), (1.0, 40)],
    {
        "this is the variance, its root is asked": lambda p, n: p * (1 - p) / n,
        "the division is by n, it must be by its root: divide under the root":
            lambda p, n: math.sqrt(p * (1 - p)) / n,
        "this is the deviation of a single image, divide the variance by n":
            lambda p, n: math.sqrt(p * (1 - p)),
        "this is twice the deviation": lambda p, n: 2 * math.sqrt(p * (1 - p) / n),
        "this is half of a 95 % interval, the deviation is asked":
            lambda p, n: 1.96 * math.sqrt(p * (1 - p) / n),
        "1 - p is missing": lambda p, n: math.sqrt(p / n),
        "p is missing": lambda p, n: math.sqrt((1 - p) / n),
        "this is the deviation of the number of right images, that of their share is asked":
            lambda p, n: math.sqrt(p * (1 - p) * n),
        "this is in per cent": lambda p, n: 100 * math.sqrt(p * (1 - p) / n),
        "the variance is p (1 - p), here p is taken for 1/2": lambda p, n: 0.5 / math.sqrt(n),
        "this is 1 over the root of n": lambda p, n: 1 / math.sqrt(n),
        "the division is by n - 1: p is given, it is not estimated from the images":
            lambda p, n: math.sqrt(p * (1 - p) / (n - 1)),
    },
)
def standard_error(accuracy: float, images: int) -> float:
    """The standard deviation of a share `accuracy` of so many independent images."""
    return math.sqrt(accuracy * (1 - accuracy) / images)


def row_of(attentions: torch.Tensor, row: int = 0, mix: Callable = lambda a, eye: (
        a.mean(1) + eye) / 2, flip: bool = False, column: bool = False) -> torch.Tensor:
    """Row 0 of a rollout in which the steps can be changed."""
    result = eye = torch.eye(attentions.shape[-1])
    for attention in attentions.flip(0) if flip else attentions:
        result = mix(attention, eye) @ result
    result = result.expand(attentions.shape[1], *result.shape[-2:])
    return result[:, :, row] if column else result[:, row]


@exercise(
    "the vector stands at the left, so the last layer comes first; each layer is (A + I) / 2, "
    "heads averaged",
    lambda: [
        ((3 * torch.randn(layers, batch, heads, tokens, tokens)).softmax(-1),)
        for layers, batch, heads, tokens in ((4, 2, 3, 5), (1, 3, 1, 4), (3, 1, 2, 10))
    ],
    {
        "the layers come in the wrong order: the vector stands at the left, so the last one comes "
        "first": lambda a: row_of(a, flip=True),
        "the residual is missing: each layer is (A + I) / 2":
            lambda a: row_of(a, mix=lambda a, eye: a.mean(1)),
        "the residual is missing, and the layers come in the wrong order":
            lambda a: row_of(a, mix=lambda a, eye: a.mean(1), flip=True),
        "A + I is not halved": lambda a: row_of(a, mix=lambda a, eye: a.mean(1) + eye),
        "the heads are added up, their mean is asked":
            lambda a: row_of(a, mix=lambda a, eye: (a.sum(1) + eye) / 2),
        "the largest of the heads is taken, their mean is asked":
            lambda a: row_of(a, mix=lambda a, eye: (a.amax(1) + eye) / 2),
        "only the first head is used": lambda a: row_of(
            a, mix=lambda a, eye: (a[:, 0] + eye) / 2),
        "this is column 0, row 0 is asked (or the attention is transposed, in the order of rows)":
            lambda a: row_of(a, column=True),
        "this is the last row, the class token is row 0": lambda a: row_of(a, row=-1),
        "the attention is transposed (the vector stands at the right)":
            lambda a: row_of(a, mix=lambda a, eye: (a.mean(1).mT + eye) / 2),
        "only the last layer is used": lambda a: row_of(a[-1:]),
        "only the first layer is used": lambda a: row_of(a[:1]),
        "the last layer is left out": lambda a: row_of(a[:-1]),
        "the first layer is left out": lambda a: row_of(a[1:]),
        "the class token itself is left out, a share for each token is asked":
            lambda a: row_of(a)[:, 1:],
        "the shares of the patches are made to sum to 1, they are asked as they are":
            lambda a: row_of(a) / row_of(a)[:, 1:].sum(-1, keepdim=True),
    },
    axes="picture token",
    forbidden={"a matrix of T x T is multiplied by another: multiply a vector by each matrix":
               lambda name, result, arguments: torch.is_tensor(result) and "mul" in name
               and "matmul mm bmm linalg_multi_dot".find(name.strip("_")) >= 0
               and result.shape[-2:] in ((5, 5), (10, 10))},
)
def class_token_rollout(attentions: torch.Tensor) -> torch.Tensor:
    """Weights [layers, batch, num_heads, tokens, tokens] -> row 0 of their
    rollout, [batch, tokens]."""
    return inspection.rollout([*attentions])[:, 0]


@exercise(
    "average over the models first, then take the class; a vote of classes is something else",
    lambda: [((3 * torch.randn(*sizes)).softmax(-1),)
             for sizes in ((3, 40, 3), (5, 30, 10), (1, 7, 4))],
    {
        "this is a vote of the models' classes, their probabilities are averaged":
            lambda p: p.argmax(-1).mode(0).values,
        "this is the class of the model that is surest, the mean is asked":
            lambda p: p.amax(0).argmax(-1),
        "the probabilities are multiplied (or their logarithms added), the mean is asked":
            lambda p: p.log().sum(0).argmax(-1),
        "this is the median of the models, the mean is asked":
            lambda p: p.median(0).values.argmax(-1),
        "only the first model is used": lambda p: p[0].argmax(-1),
        "only the last model is used": lambda p: p[-1].argmax(-1),
        "a softmax is taken of the probabilities before they are averaged":
            lambda p: p.softmax(-1).mean(0).argmax(-1),
        "these are the averaged probabilities, the class is asked": lambda p: p.mean(0),
        "this is the largest probability, its class is asked": lambda p: p.mean(0).amax(-1),
        "this is the least probable class": lambda p: p.mean(0).argmin(-1),
        "the mean is over the images, it must be over the models": lambda p: p.mean(1).argmax(-1),
        "the mean is over the classes, it must be over the models":
            lambda p: p.mean(-1).argmax(0),
        "each model has its own class here, one for each image is asked": lambda p: p.argmax(-1),
    },
    axes="image",
)
def ensemble(probabilities: torch.Tensor) -> torch.Tensor:
    """The probabilities of several models, [models, images, num_classes] -> one class for
    each image, [images]."""
    return probabilities.mean(0).argmax(-1)


def observe_transforms(function: Callable, image_size: int) -> Any:
    """What two transforms do with a photo that is wider than high."""
    transforms = function(image_size)
    if not isinstance(transforms, (tuple, list)) or len(transforms) != 2:
        return transforms
    generator = torch.Generator().manual_seed(0)
    photo = v2.functional.to_pil_image(torch.randint(
        256, (3, 60, 90), dtype=torch.uint8, generator=generator))
    found: dict[str, Any] = {}
    for name, transform in zip(("train", "test"), transforms):
        views = [transform(photo) for _ in range(16)]
        first = views[0]
        is_tensor = torch.is_tensor(first) and first.is_floating_point()
        low, high = (first.min().item(), first.max().item()) if is_tensor else (0.0, 0.0)
        found |= {
            f"{name}: random or not": not all(torch.equal(first, view) for view in views)
            if is_tensor else None,
            f"{name}: a float tensor [3, image_size, image_size]":
                is_tensor and tuple(first.shape) == (3, image_size, image_size),
            f"{name}: the range -1 to 1": -1.01 < low < -0.2 and 0.2 < high < 1.01,
        }
    return found


def pair_of_transforms(train: str, test: str, normalise: str = "train test") -> Callable:
    """A function of the image size: which of the two is random, and which is normalised."""

    def make(image_size: int) -> list:
        made = []
        for name, kind in (("train", train), ("test", test)):
            steps = [v2.RandomResizedCrop(image_size, (0.3, 1), antialias=True),
                     v2.RandomHorizontalFlip()] if kind == "random" else [
                         v2.Resize((image_size, image_size), antialias=True)]
            steps += [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
            if name in normalise:
                steps.append(v2.Normalize([0.5] * 3, [0.5] * 3))
            made.append(v2.Compose(steps))
        return made

    return make


@exercise(
    "the test pictures must be the same in each epoch, of the same size and range as those of the "
    "training, which are augmented",
    lambda: [(24,), (32,)],
    {
        "the test set is augmented, too: its pictures change from call to call, and so does the "
        "accuracy": pair_of_transforms("random", "random"),
        "the two are exchanged: the training is augmented, the test is not":
            pair_of_transforms("fixed", "random"),
        "nothing is augmented any more, the training needs it":
            pair_of_transforms("fixed", "fixed"),
        "the test pictures are not normalised to -1 to 1, as those of the training are":
            pair_of_transforms("random", "fixed", "train"),
        "the training pictures are not normalised to -1 to 1, as those of the test are":
            pair_of_transforms("random", "fixed", "test"),
        "neither is normalised to -1 to 1": pair_of_transforms("random", "fixed", ""),
    },
    run=observe_transforms,
)
def make_transforms(image_size: int) -> list:
    """A transform for the training and one for the test, PIL image -> [3, image_size, image_size]
    in [-1, 1]."""
    return pair_of_transforms("random", "fixed")(image_size)
