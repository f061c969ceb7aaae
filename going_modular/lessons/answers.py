"""The expected answers: ANSWERS for check_number, and FUNCTIONS for check_function, in the order of
the notebooks.

A number is an entry `name: (expected, hint)` of ANSWERS. A function is a reference solution with
the decorator `exercise`, which adds it to FUNCTIONS under its own name, with a hint and with the
arguments on which the reader's function is compared with it.
"""
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from going_modular import vit
from going_modular.paper import inspection
from going_modular.paper.positions import sinusoidal_positions

# name -> (expected, hint). Whole numbers must be met exactly, others to 1 %.
ANSWERS: dict[str, tuple[float, str]] = {
    # Images, patches and tokens
    "numbers_image_224": (150_528, "height times width times channels"),
    "numbers_patch_16": (768, "P x P pixels, and each has 3 channels"),
    "numbers_patch_32": (3072, "P^2 C, whatever the hidden size"),
    "patches_224_16": (196, "N = HW / P^2"),
    "patches_224_14": (
        256,
        "N = HW / P^2: how many patches of 14 pixels fit into a row, and how many rows are there?"),
    "patches_384_16": (
        576, "N = HW / P^2: how many patches fit into a row, and how many rows are there?"),
    "tokens_b32_224": (50, "B/32 has patches of 32 x 32 pixels, and one token more than patches"),
    "tokens_b16_384": (577, "one token for each patch, and the class token"),
    "tokens_h14_224": (257, "H/14 has patches of 14 x 14 pixels, and one token more than patches"),
    # The parameters of the embeddings
    "parameters_patch_embedding_b16": (590_592, "P^2 C x D weights and D biases"),
    "parameters_patch_embedding_h14": (
        753_920, "P^2 C x D weights and D biases, with P = 14 and D = 1280"),
    "parameters_tokens_b16_384": (
        443_904, "the class token and N + 1 positions, each of D numbers: N at 384 pixels?"),
    "parameters_positions_b16": (
        151_296, "each token has its position, the class token too: (N + 1) x D"),
    # Attention
    "head_size_l": (64, "D_h = D / k, both from Table 1"),
    "head_size_h": (80, "D_h = D / k, both from Table 1"),
    "attention_weights_b16": (
        465_708, "in each head, each token weighs all tokens: k T^2 with T = N + 1"),
    "attention_weights_b16_384": (
        47_941_776, "24 patches a side and a class token: T^2 in each head of each layer"),
    # The parameters and multiply-adds of a block, and of the whole model
    "parameters_msa_b": (2_362_368, "Linear D -> 3D and Linear D -> D, each with its biases"),
    "parameters_mlp_b": (4_722_432, "Linear D -> M and Linear M -> D, each with its biases"),
    "parameters_block_b": (
        7_087_872, "MSA, MLP, and two LayerNorms with a weight and a bias for each of D features"),
    "parameters_block_l": (
        12_596_224, "4D^2 + 4D for MSA, 2DM + M + D for the MLP, 4D for the LayerNorms"),
    "mlp_share_parameters_b": (
        0.6663, "the parameters of the MLP over those of the whole block, between 0 and 1"),
    "mlp_share_macs_b16": (
        0.6393, "2 T D M over 4 T D^2 + 2 T^2 D + 2 T D M with T = 197, between 0 and 1"),
    "tokens_msa_equals_mlp_b": (1_536, "solve 4 T D^2 + 2 T^2 D = 2 T D M for T, with M = 4 D"),
    "parameters_head_b": (769_000, "one linear layer from D to 1000 classes, with its biases"),
    "parameters_b16": (
        86_567_656,
        "count_parameters of ViT-B/16 with 1000 classes, or the formula of this notebook"),
    # Training, and what is measured
    "momentum_09": (10.0, "v no longer changes once v = 0.9 v + g"),
    "masks_b16": (
        78.4, "196 patches, of which a half is corrupted; 80 % of that half become [mask]"),
    "loss_zero_head_1000": (
        6.908, "all classes are equally likely: the loss is -ln of one in a thousand"),
    "steps_to_halve": (
        769.8,
        "each step multiplies the weight by 1 - lr * decay: how many of these factors make 0.5?"),
    "even_distance_of_three": (
        80 / 9, "the mean over nine pairs of patches, three of which are a patch and itself"),
    "always_c_by_batches": (
        0.453125, "there are batches of 32, 32, 32 and 4 images: which share of each is C?"),
}


class SmallFunction(NamedTuple):
    """An exercise for check_function."""

    reference: Callable
    draw_arguments: Callable[[], list[tuple]]  # one tuple for each trial
    hint: str


FUNCTIONS: dict[str, SmallFunction] = {}


def exercise(hint: str, arguments: Callable[[], list[tuple]]) -> Callable[[Callable], Callable]:
    """A decorator that adds a reference solution to FUNCTIONS under its own name.

    arguments: draws one tuple of arguments for each trial, with the seed that `comparing.verdict`
        sets. Sizes should differ from trial to trial and from axis to axis, so that constants and
        exchanged axes in the reader's code are noticed.
    """

    def enter(reference: Callable) -> Callable:
        FUNCTIONS[reference.__name__] = SmallFunction(reference, arguments, hint)
        return reference

    return enter


# ------------------------------------------------------------------------------
# Notebook 00: setup and data


@exercise(
    "divide by 127.5, subtract 1, and move the channels forward with permute or movedim, not with "
    "reshape",
    lambda: [(torch.randint(0, 256, shape, dtype=torch.uint8),)
             for shape in ((5, 4, 3), (2, 3, 6, 3))],
)
def to_model(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 [..., H, W, 3] -> float32 [..., 3, H, W] in [-1, 1]."""
    return (pixels.float() / 127.5 - 1).movedim(-1, -3)


@exercise(
    "torch.bincount counts how often each label occurs; divide the largest count by the number of "
    "labels",
    lambda: [(torch.tensor(labels),) for labels in ([0, 0, 1, 2, 0], [2, 2, 1], [5])],
)
def majority_accuracy(labels: torch.Tensor) -> float:
    """Labels [N] -> the accuracy of always answering with the most frequent class."""
    return labels.bincount().max().item() / len(labels)


# ------------------------------------------------------------------------------
# Notebook 01: overview


@exercise(
    "there are N + 1 tokens from z_0 on, and the attention weights have them twice",
    lambda: [(2, 32, 8, 3, 48, 96, 3, 5), (1, 224, 32, 3, 768, 3072, 12, 1000),
             (7, 28, 4, 1, 40, 80, 2, 10)],
)
def shapes(
    batch: int, image_size: int, patch_size: int, in_channels: int, hidden_size: int, mlp_size: int,
    num_heads: int, num_classes: int,
) -> list[tuple[int, ...]]:
    """The shapes of patches, tokens z_0, fused q, k and v, attention weights, the MLP's
    hidden layer and logits."""
    num_patches = (image_size // patch_size) ** 2
    tokens = num_patches + 1
    return [
        (batch, num_patches, in_channels * patch_size**2), (batch, tokens, hidden_size),
        (batch, tokens, 3 * hidden_size), (batch, num_heads, tokens, tokens),
        (batch, tokens, mlp_size), (batch, num_classes),
    ]


# ------------------------------------------------------------------------------
# Notebook 02: patch embedding


@exercise(
    "In which order do the numbers of a patch lie? Permute the axes into that order before you "
    "join them",
    lambda: [(torch.randn(4, 4, 3, 5),), (torch.randn(3, 3, 2, 7),)],
)
def linear_weight(kernel: torch.Tensor) -> torch.Tensor:
    """A kernel [P, P, C, D] of JAX -> the weight [D, C * P * P] of nn.Linear."""
    return kernel.permute(3, 2, 0, 1).flatten(1)


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
)
def is_order_blind(layer: nn.Module, tokens: torch.Tensor) -> bool:
    """Whether shuffling the tokens [batch, tokens, hidden_size] only shuffles a layer's results."""
    # Among the layers that are tried, only the convolutions have different weights for each place.
    return not any(isinstance(part, nn.Conv1d) for part in layer.modules())


@exercise(
    "patch 1 lies in row 0 and column 1; the numbers of the row come first, then those of the "
    "column",
    lambda: [
        (torch.randn(rows, half), torch.randn(columns, half))
        for rows, columns, half in ((2, 3, 4), (5, 4, 1))
    ],
)
def rows_and_columns(row_embedding: torch.Tensor, column_embedding: torch.Tensor) -> torch.Tensor:
    """[rows, D / 2] and [columns, D / 2] -> position embeddings [1, rows * columns, D]
    (Table 8, third row)."""
    rows = row_embedding.repeat_interleave(len(column_embedding), 0)
    columns = column_embedding.repeat(len(row_embedding), 1)
    return torch.cat([rows, columns], 1)[None]


# ------------------------------------------------------------------------------
# Notebook 04: multi-head self-attention


@exercise(
    "Divide the scores by sqrt(D_h), take their largest before exp, and expect a last chunk that "
    "is not full",
    lambda: [
        tuple(size * torch.randn(3, 2, count, 5) for count in (queries, tokens, tokens))
        for queries, tokens, size in ((8, 8, 1), (6, 11, 1), (9, 9, 30))
    ],
)
def chunked_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """q [..., queries, head_size], k and v [..., tokens, head_size] -> output
    [..., queries, head_size]."""
    return F.scaled_dot_product_attention(q, k, v)


# ------------------------------------------------------------------------------
# Notebook 05: the MLP block


@exercise("By the product rule there are two terms", lambda: [(torch.linspace(-4, 4, 81),)])
def gelu_derivative(x: torch.Tensor) -> torch.Tensor:
    """The derivative of GELU at each number of x [n]."""
    return torch.vmap(torch.func.grad(F.gelu))(x)


@exercise(
    "The numbers of a token are the channels of the convolution, the tokens lie along its length",
    lambda: [
        (torch.randn(batch, tokens, width), nn.Linear(width, 4 * width),
         nn.Linear(4 * width, width))
        for batch, tokens, width in ((3, 5, 6), (1, 9, 4))
    ],
)
def conv_mlp(z: torch.Tensor, hidden: nn.Linear, out: nn.Linear) -> torch.Tensor:
    """The MLP without dropout: z [batch, tokens, hidden_size] -> the same shape."""
    return out(F.gelu(hidden(z))).detach()


# ------------------------------------------------------------------------------
# Notebook 06: the Transformer encoder


@exercise(
    "norm1 stands around the sum of z and what MSA gives, norm2 around the second sum",
    lambda: [
        (torch.randn(batch, 7, width), vit.TransformerEncoderBlock(width, heads, 40))
        for batch, width, heads in ((2, 24, 3), (3, 20, 5))
    ],
)
def post_norm(z: torch.Tensor, block: vit.TransformerEncoderBlock) -> torch.Tensor:
    """z [batch, tokens, hidden_size] through the parts of a block, in post-norm
    order -> the same shape."""
    z = block.norm1(z + block.msa(z))
    return block.norm2(z + block.mlp(z)).detach()


@exercise(
    "a branch with the rate r is kept with probability 1 - r; what is the mean of the rates?",
    lambda: [(12, 0.0), (12, 0.1), (24, 0.4), (2, 0.5)],
)
def expected_branches(num_layers: int, drop_path: float) -> float:
    """The mean number of branches kept for an image, if the rate rises
    linearly from 0 to drop_path."""
    return 2 * num_layers * (1 - drop_path / 2)


@exercise(
    "qkv, out, and the two layers of the MLP, each with its biases; and two LayerNorms",
    lambda: [(12, 768, 3072), (24, 1024, 4096), (32, 1280, 5120), (2, 24, 40)],
)
def stack_parameters(num_layers: int, hidden_size: int, mlp_size: int) -> int:
    """The number of parameters of num_layers blocks."""
    return num_layers * (4 * hidden_size**2 + 2 * hidden_size * mlp_size + mlp_size
                         + 9 * hidden_size)


# ------------------------------------------------------------------------------
# Notebook 07: ViT-Base


@exercise(
    "the positions have one row more than there are patches, and each Linear and LayerNorm has its "
    "biases",
    lambda: [(12, 4, 5, 3, 24, 40), (28, 7, 10, 2, 30, 50), (32, 16, 100, 1, 48, 20)],
)
def vit_parameters(
    image_size: int, patch_size: int, num_classes: int, num_layers: int, hidden_size: int,
    mlp_size: int
) -> int:
    """The number of parameters of a ViT for images with 3 channels."""
    # They are the same for any number of heads.
    model = vit.ViT(image_size, patch_size, 3, num_classes, num_layers, hidden_size, mlp_size,
                    num_heads=1)
    return vit.count_parameters(model)


@exercise(
    "keys and values are still needed for all tokens; queries, scores, weighted sums, out and the "
    "MLP for one",
    lambda: [(197, 768, 3072), (10, 24, 40), (50, 30, 70)],
)
def saved_macs(tokens: int, hidden_size: int, mlp_size: int) -> int:
    """The multiply-adds that num_queries=1 saves in one block."""
    return (tokens - 1) * 2 * (hidden_size**2 + tokens * hidden_size + hidden_size * mlp_size)


@exercise(
    "cross-entropy is minus the logarithm of the softmax of the true class's logit",
    lambda: [(2,), (3,), (10,), (1000,)],
)
def smallest_loss(num_classes: int) -> float:
    """The smallest cross-entropy that can be reached with a softmax too many."""
    return math.log(1 + (num_classes - 1) / math.e)


# ------------------------------------------------------------------------------
# Notebook 08: training on MNIST


@exercise(
    "2 TP / (2 TP + FP + FN): a row holds TP and FN, a column TP and FP; nothing at all gives 0",
    lambda: [
        (torch.tensor(matrix),)
        for matrix in ([[8, 2], [1, 9]], [[5, 1, 0], [2, 3, 4], [0, 0, 7]],
                       [[4, 0, 1], [0, 0, 0], [2, 0, 3]])
    ],
)
def f1_per_class(matrix: torch.Tensor) -> torch.Tensor:
    """Counts [true class, predicted class] -> F1 of each class, [classes]."""
    return 2 * matrix.diagonal() / (matrix.sum(0) + matrix.sum(1)).clamp(min=1)


@exercise(
    "patch 1 lies in row 0 and column 1; in each half sine and cosine take turns, and D / 2 stands "
    "for D",
    lambda: [(2, 3, 8), (5, 4, 12), (7, 7, 48)],
)
def sine_cosine_2d(rows: int, columns: int, hidden_size: int) -> torch.Tensor:
    """Positions [rows * columns, hidden_size], of which the first half is of the row, the
    second of the column."""
    of_rows = sinusoidal_positions(rows, hidden_size // 2).repeat_interleave(columns, 0)
    of_columns = sinusoidal_positions(columns, hidden_size // 2).repeat(rows, 1)
    return torch.cat([of_rows, of_columns], dim=1)


@exercise(
    "the mean loss of each part must weigh as much as its share of all images; are old gradients "
    "cleared?",
    lambda: [
        (nn.Linear(6, 3), torch.randn(count, 6), torch.randint(3, (count,)), part)
        for count, part in ((12, 4), (10, 4), (7, 3))
    ],
)
def accumulated_gradient(
    model: nn.Linear, images: torch.Tensor, labels: torch.Tensor, part_size: int,
) -> torch.Tensor:
    """The gradient of model.weight for the mean cross-entropy of all images. The reader adds it up
    in parts; here the whole batch is used at once."""
    return torch.autograd.grad(F.cross_entropy(model(images), labels), model.weight)[0]


# ------------------------------------------------------------------------------
# Notebook 09: training on CIFAR-100


@exercise(
    "the rise is that of warmup_cosine; from the step after it on, the share of the steps that are "
    "still to come",
    lambda: [
        (step, warmup_steps, total_steps)
        for warmup_steps, total_steps in ((4, 20), (10_000, 93_835))
        for step in (0, warmup_steps - 1, warmup_steps, (warmup_steps + total_steps) // 2,
                     total_steps - 1)
    ],
)
def warmup_linear(step: int, warmup_steps: int, total_steps: int) -> float:
    """The learning rate of a step (from 0 on) as a share of the highest."""
    return min((step + 1) / warmup_steps, (total_steps - step) / (total_steps - warmup_steps))


@exercise(
    "the entropy of the smoothed label: one class has 1 - share + share / K, "
    "each of the other K - 1 share / K",
    lambda: [(20, 0.1), (100, 0.1), (3, 0.5), (2, 0.01), (1000, 0.1)],
)
def smoothing_floor(num_classes: int, share: float) -> float:
    """The smallest cross-entropy against labels smoothed by `share`."""
    label = 1 - share + share / num_classes, *[share / num_classes] * (num_classes - 1)
    return -sum(y * math.log(y) if y else 0.0 for y in label)


@exercise(
    "F.one_hot makes a row of each label, torch.roll(x, 1, dims=0) brings to each row the one "
    "before it",
    lambda: [
        (torch.randint(classes, (batch,)), share, classes)
        for batch, share, classes in ((6, 0.3, 5), (4, 0.9, 7), (3, 0.5, 3))
    ],
)
def mix_labels(labels: torch.Tensor, share: float, num_classes: int) -> torch.Tensor:
    """Class numbers [batch] -> shares of each class [batch, num_classes], each image mixed
    with the one before it."""
    one_hot = F.one_hot(labels, num_classes)
    return share * one_hot + (1 - share) * one_hot.roll(1, 0)


# ------------------------------------------------------------------------------
# Notebook 10: a look inside


@exercise(
    "take off 1 / T first; above, average over the pictures and then square, below, square and "
    "then average",
    lambda: [
        ((size * torch.randn(batch, heads, tokens, tokens)).softmax(-1),)
        for batch, heads, tokens, size in ((6, 3, 5, 3), (2, 1, 10, 1), (9, 4, 4, 2))
    ],
)
def place_share(attention: torch.Tensor) -> torch.Tensor:
    """Attention [batch, num_heads, tokens, tokens] -> [num_heads], the share that is the
    same for all pictures."""
    deviation = attention - 1 / attention.shape[-1]
    return deviation.mean(0).pow(2).sum((1, 2)) / deviation.pow(2).mean(0).sum((1, 2))


@exercise(
    "x goes with the columns and comes first; patch c has its centre at "
    "c * patch_size + (patch_size - 1) / 2",
    lambda: [
        (torch.randn(batch, rows * columns).softmax(-1).unflatten(1, (rows, columns)), patch_size)
        for batch, rows, columns, patch_size in ((3, 6, 6, 8), (2, 4, 7, 16), (5, 3, 3, 1))
    ],
)
def centre_of_light(maps: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Maps [batch, rows, columns], each of sum 1 -> [batch, 2], x and y in pixels."""
    rows, columns = torch.arange(maps.shape[1])[:, None] + 0.5, torch.arange(maps.shape[2]) + 0.5
    x, y = ((maps * centres * patch_size).sum((1, 2)) - 0.5 for centres in (columns, rows))
    return torch.stack([x, y], 1)


def with_strong_heads(model: vit.ViT) -> vit.ViT:
    """The model in evaluation mode, with random logits and with strong attention, so that each head
    changes the logits."""
    # A new model has a head of zeros, and its attention is nearly uniform.
    nn.init.normal_(model.head.weight)
    for module in model.modules():
        if isinstance(module, vit.MultiheadSelfAttention):
            nn.init.normal_(module.qkv.weight)
    return model.eval()


@exercise(
    "the columns of out.weight are those of the joined heads: head i has head_size of them "
    "from i * head_size on",
    lambda: [
        (with_strong_heads(vit.ViT(12, 4, 3, 5, 2, 8 * heads, 40, heads)),
         torch.randn(3, 3, 12, 12), layer, head)
        for heads, layer, head in ((3, 0, 2), (2, 1, 0), (4, 0, 1))
    ],
)
def without_head(model: vit.ViT, images: torch.Tensor, layer: int, head: int) -> torch.Tensor:
    """The logits [batch, num_classes] of a ViT in which this head, from 0 on, adds nothing
    to the output of MSA."""
    name, num_heads = f"blocks.{layer}.msa.out.weight", model.settings["num_heads"]
    by_head = model.get_parameter(name).unflatten(1, (num_heads, -1))  # [D, num_heads, head_size]
    weight = (by_head * (torch.arange(num_heads) != head)[:, None]).flatten(1)
    return torch.func.functional_call(model, {name: weight}, images).detach()


# ------------------------------------------------------------------------------
# Notebook 11: ablations


@exercise(
    "difference = 2 spread sqrt(2 / n), solved for n, and rounded up to a whole number",
    lambda: [(0.01, 0.008), (0.002, 0.0077), (0.028, 0.013), (0.03, 0.02)],
)
def seeds_needed(difference: float, spread: float) -> int:
    """The smallest number of seeds, the same for both rows, with which a difference is two standard
    errors or more."""
    return math.ceil(8 * (spread / difference) ** 2)


@exercise(
    "z = block(z + position_embedding), one block after the other",
    lambda: [
        (torch.randn(2, 7, 24), [vit.TransformerEncoderBlock(24, 3, 40) for _ in range(layers)],
         torch.randn(1, 7, 24))
        for layers in (1, 3)
    ],
)
def shared_positions_encoder(
    z: torch.Tensor, blocks: Sequence[nn.Module], position_embedding: torch.Tensor
) -> torch.Tensor:
    """z [batch, tokens, hidden_size] without positions -> the last block's output
    (Table 8, third column)."""
    for block in blocks:
        z = block(z + position_embedding)
    return z.detach()


@exercise(
    "2 T^2 D on one side, 4 T D^2 + 2 T D M on the other; divide both by 2 T D",
    lambda: [(768, 3072), (1024, 4096), (32, 64), (24, 100)],
)
def tokens_at_half(hidden_size: int, mlp_size: int) -> int:
    """The number of tokens at which half of a layer's multiply-adds are those of the
    scores and weighted sums."""
    return 2 * hidden_size + mlp_size


@exercise(
    "patch n lies in row n // side and column n % side; query minus key, for each pair",
    lambda: [(2,), (3,), (7,)],
)
def grid_offsets(side: int) -> torch.Tensor:
    """The numbers of the offsets [side^2 queries, side^2 keys], integers from 0 to
    (2 side - 1)^2 - 1."""
    patches = torch.arange(side**2)
    row, column = (place[:, None] - place + side - 1 for place in (patches // side, patches % side))
    return row * (2 * side - 1) + column


# ------------------------------------------------------------------------------
# Notebook 12: pre-training and fine-tuning


@exercise(
    "W = X^T (X X^T + decay I)^-1 Y: the identity is as large as there are images, X^T comes last "
    "from the left",
    lambda: [
        (torch.randn(images, features), torch.randn(images, classes), decay)
        for images, features, classes, decay in ((4, 9, 3, 2.0), (6, 6, 2, 0.5), (3, 20, 5, 10.0))
    ],
)
def least_squares_dual(x: torch.Tensor, targets: torch.Tensor, decay: float) -> torch.Tensor:
    """Features [n, D] and targets [n, K] -> W [D, K]. Here the D x D system is solved, which has
    the same solution as the n x n system of the exercise."""
    return torch.linalg.solve(x.T @ x + decay * torch.eye(x.shape[1]), x.T @ targets)


@exercise(
    "the class token stays in front; the others become [1, D, n, n], then F.interpolate with "
    "align_corners=True",
    lambda: [
        (torch.randn(1, 1 + side**2, width), rows, columns)
        for side, width, rows, columns in ((4, 5, 6, 9), (3, 8, 5, 3), (6, 2, 4, 12))
    ],
)
def resize_to_rectangle(positions: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Position embeddings [1, 1 + n * n, D] -> [1, 1 + rows * columns, D]."""
    side = math.isqrt(positions.shape[1])
    grid = positions[:, 1:].transpose(1, 2).unflatten(2, (side, side))  # [1, D, n, n]
    grid = F.interpolate(grid, size=(rows, columns), mode="bilinear", align_corners=True)
    return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


@exercise(
    "take the differences first; their standard deviation (n - 1) over the root of n is the "
    "standard error",
    lambda: [(0.8 + 0.05 * torch.randn(seeds), 0.6 + 0.05 * torch.randn(seeds))
             for seeds in (3, 5, 20)],
)
def gain(with_pretraining: torch.Tensor, from_scratch: torch.Tensor) -> tuple[float, float]:
    """Accuracies of the same seeds, [n] and [n] -> (mean gain, standard error)."""
    gains = with_pretraining - from_scratch
    return gains.mean().item(), (gains.std() / len(gains) ** 0.5).item()


# ------------------------------------------------------------------------------
# Notebook 13: training on food


@exercise(
    "one image has the variance p (1 - p); what is that of a mean of n, and its root?",
    lambda: [(0.65, 75), (0.5, 10_000), (0.99, 600), (1.0, 40)],
)
def standard_error(accuracy: float, images: int) -> float:
    """The standard deviation of a share `accuracy` of so many independent images."""
    return math.sqrt(accuracy * (1 - accuracy) / images)


@exercise(
    "the vector stands at the left, so the last layer comes first; each layer is (A + I) / 2, "
    "heads averaged",
    lambda: [
        ((3 * torch.randn(layers, batch, heads, tokens, tokens)).softmax(-1),)
        for layers, batch, heads, tokens in ((4, 2, 3, 5), (1, 3, 1, 4), (3, 1, 2, 10))
    ],
)
def class_token_rollout(attentions: torch.Tensor) -> torch.Tensor:
    """Weights [layers, batch, num_heads, tokens, tokens] -> row 0 of their
    rollout, [batch, tokens]."""
    return inspection.rollout([*attentions])[:, 0]


@exercise(
    "average over the models first, then take the class; a vote of classes is something else",
    lambda: [((3 * torch.randn(*sizes)).softmax(-1),)
             for sizes in ((3, 40, 3), (5, 30, 10), (1, 7, 4))],
)
def ensemble(probabilities: torch.Tensor) -> torch.Tensor:
    """The probabilities of several models, [models, images, num_classes] -> one class for
    each image, [images]."""
    return probabilities.mean(0).argmax(-1)
