"""Checks of a reader's own code. Each takes a function or class, tries it on several sizes against going_modular.vit,
prints `correct` or `not yet: ` with the first thing that is wrong, and returns True or False.

A mistake is found by comparison: each reference below can be run with a known mistake, and the answer names the one
that gives the reader's numbers.
"""
import copy
import functools
import itertools
import math
import random
import re
import traceback
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn

from going_modular import vit
from going_modular.paper import inspection
from going_modular.paper.positions import sinusoidal_positions

# For check_number: name -> (expected, hint). Whole numbers must be met exactly, others to 1 %.
ANSWERS = {
    "numbers_image_224": (150_528, "height times width times channels"),
    "numbers_patch_16": (768, "P x P pixels, and each has 3 channels"),
    "numbers_patch_32": (3072, "P^2 C, whatever the hidden size"),
    "patches_224_16": (196, "N = HW / P^2"),
    "patches_224_14": (256, "N = HW / P^2: how many patches of 14 pixels fit into a row, and how many rows are there?"),
    "patches_384_16": (576, "N = HW / P^2: how many patches fit into a row, and how many rows are there?"),
    "tokens_b32_224": (50, "B/32 has patches of 32 x 32 pixels, and one token more than patches"),
    "tokens_b16_384": (577, "one token for each patch, and the class token"),
    "tokens_h14_224": (257, "H/14 has patches of 14 x 14 pixels, and one token more than patches"),
    "parameters_patch_embedding_b16": (590_592, "P^2 C x D weights and D biases"),
    "parameters_patch_embedding_h14": (753_920, "P^2 C x D weights and D biases, with P = 14 and D = 1280"),
    "parameters_tokens_b16_384": (443_904, "the class token and N + 1 positions, each of D numbers: N at 384 pixels?"),
    "parameters_positions_b16": (151_296, "each token has its position, the class token too: (N + 1) x D"),
    "head_size_l": (64, "D_h = D / k, both from Table 1"),
    "head_size_h": (80, "D_h = D / k, both from Table 1"),
    "attention_weights_b16": (465_708, "in each head, each token weighs all tokens: k T^2 with T = N + 1"),
    "attention_weights_b16_384": (47_941_776, "24 patches a side and a class token: T^2 in each head of each layer"),
    "parameters_msa_b": (2_362_368, "Linear D -> 3D and Linear D -> D, each with its biases"),
    "parameters_mlp_b": (4_722_432, "Linear D -> M and Linear M -> D, each with its biases"),
    "parameters_block_b": (7_087_872, "MSA, MLP, and two LayerNorms with a weight and a bias for each of D features"),
    "parameters_block_l": (12_596_224, "4D^2 + 4D for MSA, 2DM + M + D for the MLP, 4D for the LayerNorms"),
    "mlp_share_parameters_b": (0.6663, "the parameters of the MLP over those of the whole block, between 0 and 1"),
    "mlp_share_macs_b16": (0.6393, "2 T D M over 4 T D^2 + 2 T^2 D + 2 T D M with T = 197, between 0 and 1"),
    "tokens_msa_equals_mlp_b": (1_536, "solve 4 T D^2 + 2 T^2 D = 2 T D M for T, with M = 4 D"),
    "parameters_head_b": (769_000, "one linear layer from D to 1000 classes, with its biases"),
    "parameters_b16": (86_567_656, "count_parameters of ViT-B/16 with 1000 classes, or the formula of this notebook"),
    "momentum_09": (10.0, "v no longer changes once v = 0.9 v + g"),
    "masks_b16": (78.4, "196 patches, of which a half is corrupted; 80 % of that half become [mask]"),
    "loss_zero_head_1000": (6.908, "all classes are equally likely: the loss is -ln of one in a thousand"),
    "steps_to_halve": (769.8, "each step multiplies the weight by 1 - lr * decay: how many of these factors make 0.5?"),
    "even_distance_of_three": (80 / 9, "the mean over nine pairs of patches, three of which are a patch and itself"),
    "always_c_by_batches": (0.453125, "there are batches of 32, 32, 32 and 4 images: which share of each is C?"),
}


# For check_function: name -> (the reference, a function that makes a list of tuples of arguments, hint).
FUNCTIONS = {
    "to_model": (
        lambda pixels: (pixels.float() / 127.5 - 1).movedim(-1, -3),
        lambda: [(torch.randint(0, 256, shape, dtype=torch.uint8),) for shape in ((5, 4, 3), (2, 3, 6, 3))],
        "divide by 127.5, subtract 1, and move the channels forward with permute or movedim, not with reshape"),
    "majority_accuracy": (
        lambda labels: labels.bincount().max().item() / len(labels),
        lambda: [(torch.tensor(labels),) for labels in ([0, 0, 1, 2, 0], [2, 2, 1], [5])],
        "torch.bincount counts how often each label occurs; divide the largest count by the number of labels"),
    "shapes": (
        lambda batch, image_size, patch_size, in_channels, hidden_size, mlp_size, num_heads, num_classes: [
            (batch, n := (image_size // patch_size) ** 2, in_channels * patch_size**2), (batch, n + 1, hidden_size),
            (batch, n + 1, 3 * hidden_size), (batch, num_heads, n + 1, n + 1), (batch, n + 1, mlp_size),
            (batch, num_classes)],
        lambda: [(2, 32, 8, 3, 48, 96, 3, 5), (1, 224, 32, 3, 768, 3072, 12, 1000), (7, 28, 4, 1, 40, 80, 2, 10)],
        "there are N + 1 tokens from z_0 on, and the attention weights have them twice"),
    "is_order_blind": (
        lambda layer, tokens: not any(isinstance(part, nn.Conv1d) for part in layer.modules()),
        lambda: [(layer.eval(), torch.randn(2, 5, 8)) for layer in (
            nn.Linear(8, 8), nn.Conv1d(5, 5, 1), nn.LayerNorm(8), nn.Softmax(dim=1), nn.Conv1d(5, 5, 3, padding=1),
            nn.Sequential(nn.Linear(8, 8), nn.Conv1d(5, 5, 1)), vit.TransformerEncoderBlock(8, 2, 16))],
        "Compare layer(tokens[:, permutation]) with layer(tokens)[:, permutation], up to rounding"),
    "rows_and_columns": (
        lambda row, column: torch.cat([row.repeat_interleave(len(column), 0), column.repeat(len(row), 1)], 1)[None],
        lambda: [(torch.randn(rows, half), torch.randn(columns, half))
                 for rows, columns, half in ((2, 3, 4), (5, 4, 1))],
        "patch 1 lies in row 0 and column 1; the numbers of the row come first, then those of the column"),
    "linear_weight": (
        lambda kernel: kernel.permute(3, 2, 0, 1).flatten(1),
        lambda: [(torch.randn(4, 4, 3, 5),), (torch.randn(3, 3, 2, 7),)],
        "In which order do the numbers of a patch lie? Permute the axes into that order before you join them"),
    "chunked_attention": (
        F.scaled_dot_product_attention,
        lambda: [tuple(size * torch.randn(3, 2, count, 5) for count in (queries, tokens, tokens))
                 for queries, tokens, size in ((8, 8, 1), (6, 11, 1), (9, 9, 30))],
        "Divide the scores by sqrt(D_h), take their largest before exp, and expect a last chunk that is not full"),
    "gelu_derivative": (
        torch.vmap(torch.func.grad(F.gelu)), lambda: [(torch.linspace(-4, 4, 81),)],
        "By the product rule there are two terms"),
    "conv_mlp": (
        lambda z, hidden, out: out(F.gelu(hidden(z))).detach(),
        lambda: [(torch.randn(batch, tokens, width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width))
                 for batch, tokens, width in ((3, 5, 6), (1, 9, 4))],
        "The numbers of a token are the channels of the convolution, the tokens lie along its length"),
    "post_norm": (
        lambda z, block: block.norm2((y := block.norm1(z + block.msa(z))) + block.mlp(y)).detach(),
        lambda: [(torch.randn(batch, 7, width), vit.TransformerEncoderBlock(width, heads, 40))
                 for batch, width, heads in ((2, 24, 3), (3, 20, 5))],
        "norm1 stands around the sum of z and what MSA gives, norm2 around the second sum"),
    "expected_branches": (
        lambda num_layers, drop_path: 2 * num_layers * (1 - drop_path / 2),
        lambda: [(12, 0.0), (12, 0.1), (24, 0.4), (2, 0.5)],
        "a branch with the rate r is kept with probability 1 - r; what is the mean of the rates?"),
    "stack_parameters": (
        lambda num_layers, width, mlp: num_layers * (4 * width**2 + 2 * width * mlp + mlp + 9 * width),
        lambda: [(12, 768, 3072), (24, 1024, 4096), (32, 1280, 5120), (2, 24, 40)],
        "qkv, out, and the two layers of the MLP, each with its biases; and two LayerNorms"),
    "vit_parameters": (
        lambda image_size, patch_size, *sizes: vit.count_parameters(vit.ViT(image_size, patch_size, 3, *sizes, 1)),
        lambda: [(12, 4, 5, 3, 24, 40), (28, 7, 10, 2, 30, 50), (32, 16, 100, 1, 48, 20)],
        "the positions have one row more than there are patches, and each Linear and LayerNorm has its biases"),
    "saved_macs": (
        lambda tokens, width, mlp: (tokens - 1) * 2 * (width**2 + tokens * width + width * mlp),
        lambda: [(197, 768, 3072), (10, 24, 40), (50, 30, 70)],
        "keys and values are still needed for all tokens; queries, scores, weighted sums, out and the MLP for one"),
    "smallest_loss": (
        lambda num_classes: math.log(1 + (num_classes - 1) / math.e),
        lambda: [(2,), (3,), (10,), (1000,)],
        "cross-entropy is minus the logarithm of the softmax of the true class's logit"),
    "f1_per_class": (
        lambda matrix: 2 * matrix.diagonal() / (matrix.sum(0) + matrix.sum(1)).clamp(min=1),
        lambda: [(torch.tensor(matrix),) for matrix in (
            [[8, 2], [1, 9]], [[5, 1, 0], [2, 3, 4], [0, 0, 7]], [[4, 0, 1], [0, 0, 0], [2, 0, 3]])],
        "2 TP / (2 TP + FP + FN): a row holds TP and FN, a column TP and FP; nothing at all gives 0"),
    "warmup_linear": (
        lambda step, warmup_steps, total_steps: min(
            (step + 1) / warmup_steps, (total_steps - step) / (total_steps - warmup_steps)),
        lambda: [(step, warmup_steps, total_steps) for warmup_steps, total_steps in ((4, 20), (10_000, 93_835))
                 for step in (0, warmup_steps - 1, warmup_steps, (warmup_steps + total_steps) // 2, total_steps - 1)],
        "the rise is that of warmup_cosine; from the step after it on, the share of the steps that are still to come"),
    "smoothing_floor": (
        lambda num_classes, share: -sum(y * math.log(y) if y else 0.0 for y in (
            1 - share + share / num_classes, *[share / num_classes] * (num_classes - 1))),
        lambda: [(20, 0.1), (100, 0.1), (3, 0.5), (2, 0.01), (1000, 0.1)],
        "the entropy of the smoothed label: one class has 1 - share + share / K, each of the other K - 1 share / K"),
    "mix_labels": (
        lambda labels, share, num_classes: share * (hot := F.one_hot(labels, num_classes))
        + (1 - share) * hot.roll(1, 0),
        lambda: [(torch.randint(classes, (batch,)), share, classes) for batch, share, classes in (
            (6, 0.3, 5), (4, 0.9, 7), (3, 0.5, 3))],
        "F.one_hot makes a row of each label, torch.roll(x, 1, dims=0) brings to each row the one before it"),
    "sine_cosine_2d": (
        lambda rows, columns, width: torch.cat([
            sinusoidal_positions(rows, width // 2).repeat_interleave(columns, 0),
            sinusoidal_positions(columns, width // 2).repeat(rows, 1)], dim=1),
        lambda: [(2, 3, 8), (5, 4, 12), (7, 7, 48)],
        "patch 1 lies in row 0 and column 1; in each half sine and cosine take turns, and D / 2 stands for D"),
    "accumulated_gradient": (
        lambda model, images, labels, part_size: torch.autograd.grad(
            F.cross_entropy(model(images), labels), model.weight)[0],
        lambda: [(nn.Linear(6, 3), torch.randn(count, 6), torch.randint(3, (count,)), part)
                 for count, part in ((12, 4), (10, 4), (7, 3))],
        "the mean loss of each part must weigh as much as its share of all images; are old gradients cleared?"),
    "seeds_needed": (
        lambda difference, spread: math.ceil(8 * (spread / difference) ** 2),
        lambda: [(0.01, 0.008), (0.002, 0.0077), (0.028, 0.013), (0.03, 0.02)],
        "difference = 2 spread sqrt(2 / n), solved for n, and rounded up to a whole number"),
    "shared_positions_encoder": (
        lambda z, blocks, positions: functools.reduce(lambda z, block: block(z + positions), blocks, z).detach(),
        lambda: [(torch.randn(2, 7, 24), [vit.TransformerEncoderBlock(24, 3, 40) for _ in range(layers)],
                  torch.randn(1, 7, 24)) for layers in (1, 3)],
        "z = block(z + position_embedding), one block after the other"),
    "tokens_at_half": (
        lambda width, mlp: 2 * width + mlp,
        lambda: [(768, 3072), (1024, 4096), (32, 64), (24, 100)],
        "2 T^2 D on one side, 4 T D^2 + 2 T D M on the other; divide both by 2 T D"),
    "grid_offsets": (
        lambda side: sum(((place := torch.arange(side**2) // size % side)[:, None] - place + side - 1) * step
                         for size, step in ((side, 2 * side - 1), (1, 1))),
        lambda: [(2,), (3,), (7,)],
        "patch n lies in row n // side and column n % side; query minus key, for each pair"),
    "standard_error": (
        lambda accuracy, images: math.sqrt(accuracy * (1 - accuracy) / images),
        lambda: [(0.65, 75), (0.5, 10_000), (0.99, 600), (1.0, 40)],
        "one image has the variance p (1 - p); what is that of a mean of n, and its root?"),
    "class_token_rollout": (
        lambda attentions: inspection.rollout(attentions)[:, 0],
        lambda: [((3 * torch.randn(layers, batch, heads, tokens, tokens)).softmax(-1),)
                 for layers, batch, heads, tokens in ((4, 2, 3, 5), (1, 3, 1, 4), (3, 1, 2, 10))],
        "the vector stands at the left, so the last layer comes first; each layer is (A + I) / 2, heads averaged"),
    "place_share": (
        lambda attention: (a := attention - 1 / attention.shape[-1]).mean(0).pow(2).sum((1, 2)) / (
            a.pow(2).mean(0).sum((1, 2))),
        lambda: [((size * torch.randn(batch, heads, tokens, tokens)).softmax(-1),)
                 for batch, heads, tokens, size in ((6, 3, 5, 3), (2, 1, 10, 1), (9, 4, 4, 2))],
        "take off 1 / T first; above, average over the pictures and then square, below, square and then average"),
    "centre_of_light": (
        lambda maps, patch_size: torch.stack([
            (maps * (torch.arange(maps.shape[2]) + 0.5) * patch_size).sum((1, 2)) - 0.5,
            (maps * (torch.arange(maps.shape[1])[:, None] + 0.5) * patch_size).sum((1, 2)) - 0.5], 1),
        lambda: [(torch.randn(batch, rows * columns).softmax(-1).unflatten(1, (rows, columns)), patch_size)
                 for batch, rows, columns, patch_size in ((3, 6, 6, 8), (2, 4, 7, 16), (5, 3, 3, 1))],
        "x goes with the columns and comes first; patch c has its centre at c * patch_size + (patch_size - 1) / 2"),
    "without_head": (
        lambda model, images, layer, head: torch.func.functional_call(model, {
            f"blocks.{layer}.msa.out.weight": (model.blocks[layer].msa.out.weight.unflatten(
                1, (k := model.settings["num_heads"], -1)) * (torch.arange(k) != head)[:, None]).flatten(1)},
            images).detach(),
        lambda: [(_outspoken(vit.ViT(12, 4, 3, 5, 2, 8 * heads, 40, heads)), torch.randn(3, 3, 12, 12), layer, head)
                 for heads, layer, head in ((3, 0, 2), (2, 1, 0), (4, 0, 1))],
        "the columns of out.weight are those of the joined heads: head i has head_size of them from i * head_size on"),
    "least_squares_dual": (
        lambda x, targets, decay: torch.linalg.solve(x.T @ x + decay * torch.eye(x.shape[1]), x.T @ targets),
        lambda: [(torch.randn(images, features), torch.randn(images, classes), decay)
                 for images, features, classes, decay in ((4, 9, 3, 2.0), (6, 6, 2, 0.5), (3, 20, 5, 10.0))],
        "W = X^T (X X^T + decay I)^-1 Y: the identity is as large as there are images, X^T comes last from the left"),
    "resize_to_rectangle": (
        lambda positions, rows, columns: torch.cat([positions[:, :1], F.interpolate(
            positions[:, 1:].transpose(1, 2).unflatten(2, (side := math.isqrt(positions.shape[1]), side)),
            size=(rows, columns), mode="bilinear", align_corners=True).flatten(2).transpose(1, 2)], dim=1),
        lambda: [(torch.randn(1, 1 + side**2, width), rows, columns)
                 for side, width, rows, columns in ((4, 5, 6, 9), (3, 8, 5, 3), (6, 2, 4, 12))],
        "the class token stays in front; the others become [1, D, n, n], then F.interpolate with align_corners=True"),
    "gain": (
        lambda pretrained, scratch: ((pretrained - scratch).mean().item(),
                                     ((pretrained - scratch).std() / len(scratch) ** 0.5).item()),
        lambda: [(0.8 + 0.05 * torch.randn(seeds), 0.6 + 0.05 * torch.randn(seeds)) for seeds in (3, 5, 20)],
        "take the differences first; their standard deviation (n - 1) over the root of n is the standard error"),
    "ensemble": (
        lambda probabilities: probabilities.mean(0).argmax(-1),
        lambda: [((3 * torch.randn(*sizes)).softmax(-1),) for sizes in ((3, 40, 3), (5, 30, 10), (1, 7, 4))],
        "average over the models first, then take the class; a vote of classes is something else"),
}


def _outspoken(model: vit.ViT) -> vit.ViT:
    """The model in evaluation mode with a random head and strong attention, so that every part of it can be told."""
    nn.init.normal_(model.head.weight)
    for block in model.blocks:
        nn.init.normal_(block.msa.qkv.weight)
    return model.eval()


class NotYet(Exception):
    """What is wrong with the reader's code, in words."""


def verdict(check):
    """Let a check that raises NotYet print and return its verdict, and leave the random state as it was."""

    @functools.wraps(check)
    def checked(*arguments, **options):
        with torch.random.fork_rng(devices=[]), torch.enable_grad(), torch.device("cpu"):
            torch.default_generator.manual_seed(0)
            try:
                check(*arguments, **options)
            except NotYet as answer:
                print(f"not yet: {answer}")
                return False
        print("correct")
        return True

    return checked


# The references. The table after each says what a learner may do in its place: message -> the options that do it.


def _patchify(images, patch_size, order=(0, 2, 4, 1, 3, 5)):
    batch, channels, height, width = images.shape
    rows, columns = height // patch_size, width // patch_size
    if order:
        images = images.reshape(batch, channels, rows, patch_size, columns, patch_size).permute(order)
    return images.reshape(batch, rows * columns, -1)


PATCHES = {
    "these are not patches. A plain view or reshape takes pixels along the rows of the image: split it into "
    "(C, rows, P, columns, P), permute to (rows, columns, C, P, P), then flatten": dict(order=None),
    "these are not patches. Before you flatten, permute: rows and columns come before the channels":
        dict(order=(0, 1, 2, 4, 3, 5)),
    "a patch is flattened with its channels last (P, P, C), they come first (C, P, P)": dict(order=(0, 2, 4, 3, 5, 1)),
    "the patches go column by column, not row by row": dict(order=(0, 4, 2, 1, 3, 5)),
    "rows and columns are exchanged within a patch": dict(order=(0, 2, 4, 1, 5, 3)),
}


def _unpatchify(patches, patch_size, channels, order=(0, 3, 1, 4, 2, 5), last=False):
    batch, side = len(patches), math.isqrt(patches.shape[1])
    if last:
        patches = patches.unflatten(-1, (-1, channels)).transpose(-2, -1)
    if order:
        patches = patches.reshape(batch, side, side, channels, patch_size, patch_size).permute(order)
    return patches.reshape(batch, channels, side * patch_size, side * patch_size)


IMAGES = {
    "the patches are not in their places. A plain view or reshape lays them end to end: split into "
    "(rows, columns, C, P, P), permute to (C, rows, P, columns, P), then flatten": dict(order=None),
    "the patches are not in their places: permute to (C, rows, P, columns, P), so that each P stands by its own axis":
        dict(order=(0, 3, 1, 2, 4, 5)),
    "a patch is read with its channels last (P, P, C), they come first (C, P, P)": dict(last=True),
    "the patches are laid column by column, not row by row": dict(order=(0, 3, 2, 4, 1, 5)),
    "rows and columns are exchanged within a patch": dict(order=(0, 3, 1, 5, 2, 4)),
}


def _patch_embedding(module, images, **mistake):
    return module.projection(_patchify(images, module.patch_size, **mistake))


def _embed(module, patches, join=lambda token, patches: torch.cat([token, patches], dim=1), positions=lambda p: p):
    z = join(module.class_token.expand(len(patches), -1, -1), patches)
    return z + positions(module.position_embedding)[:, -z.shape[1]:]


class _Embed(nn.Module):
    def __init__(self, num_patches, hidden_size):
        super().__init__()
        self.class_token = nn.Parameter(torch.empty(1, 1, hidden_size))
        self.position_embedding = nn.Parameter(torch.empty(1, num_patches + 1, hidden_size))


EMBED = {
    "the positions are not added": dict(positions=torch.zeros_like),
    "the class token is at the end, it belongs before the patches":
        dict(join=lambda token, patches: torch.cat([patches, token], dim=1)),
    "there is no class token before the patches": dict(join=lambda token, patches: patches),
    "the class token has no position: put it before the patches first, then add the positions":
        dict(positions=lambda p: F.pad(p[:, 1:], (0, 0, 1, 0))),
}


def _layer_norm(x, weight, bias, eps, axes=-1, correction=0, root=lambda v, eps: (v + eps) ** 0.5, centre=True,
                affine=lambda y, weight, bias: y * weight + bias):
    variance = x.var(axes, correction=correction, keepdim=True)
    y = (x - x.mean(axes, keepdim=True) if centre else x) / root(variance, eps)
    return affine(y, weight, bias)


LAYER_NORM = {
    "the variance is divided by D - 1, LayerNorm divides by D (unbiased=False)": dict(correction=1),
    "eps is added after the root, it belongs under it": dict(root=lambda v, eps: v**0.5 + eps),
    "eps is not used": dict(root=lambda v, eps: v**0.5),
    "the division is by the variance, not by its root": dict(root=lambda v, eps: v + eps),
    "the mean is not subtracted": dict(centre=False),
    "mean and variance are over all tokens, they belong to the last axis alone": dict(axes=(-1, -2)),
    "mean and variance are over the tokens, they belong to the last axis": dict(axes=-2),
    "mean and variance are over the batch, they belong to the last axis": dict(axes=0),
    "the weight is not used": dict(affine=lambda y, weight, bias: y + bias),
    "the bias is not added": dict(affine=lambda y, weight, bias: y * weight),
}


def _attention(q, k, v, scale=lambda d, k: d**-0.5, axis=-1, results=lambda output, weights, _: (output, weights)):
    scores = q @ k.transpose(-2, -1) * scale(q.shape[-1], q.shape[-3] if q.ndim == 4 else 1)  # of D_h and k
    weights = scores if axis is None else scores.softmax(axis)
    return results(weights @ v, weights, scores)


SOFTMAX = {
    "the scores are not scaled: divide them by sqrt(D_h)": dict(scale=lambda d, k: 1),
    "the scale is sqrt(D), of the hidden size: it must be sqrt(D_h), of one head":
        dict(scale=lambda d, k: (d * k) ** -0.5),
    "the scale is D_h: it must be its root": dict(scale=lambda d, k: 1 / d),
    "the scores are multiplied by sqrt(D_h): divide them": dict(scale=lambda d, k: d**0.5),
    "the softmax is over the wrong axis, the queries: each query's weights sum to 1 (dim=-1)": dict(axis=-2),
    "the softmax is over the wrong axis, the heads: each query's weights sum to 1 (dim=-1)": dict(axis=-3),
    "the softmax is over the wrong axis, the batch: each query's weights sum to 1 (dim=-1)": dict(axis=0),
    "there is no softmax": dict(axis=None),
}
ATTENTION = {
    **SOFTMAX,
    "the results are exchanged: return output, weights": dict(results=lambda output, weights, _: (weights, output)),
    "the second result is the scores: return output, weights": dict(results=lambda output, _, scores: (output, scores)),
}


def _split(x, num_heads):
    return x.unflatten(-1, (3, num_heads, -1)).permute(2, 0, 3, 1, 4)  # 3 x [batch, num_heads, tokens, head_size]


def _msa(module, z, split=_split, merge=lambda heads: heads.transpose(1, 2).flatten(-2), project=True, **mistake):
    heads = merge(_attention(*split(module.qkv(z), module.num_heads), **mistake)[0])
    return module.out(heads) if project else heads


MSA = {
    **SOFTMAX,
    "the heads are not merged back in order: transpose(1, 2) is missing before they are flattened":
        dict(merge=lambda heads: heads.reshape(len(heads), heads.shape[2], -1)),
    "the heads are merged number by number, not one after the other: transpose(1, 2), then flatten(-2)":
        dict(merge=lambda heads: heads.permute(0, 2, 3, 1).flatten(-2)),
    "there is no output projection: the merged heads go through `out`": dict(project=False),
    "the heads are not split in order: split the last axis into (k, D_h), then transpose(1, 2)":
        dict(split=lambda x, k: x.unflatten(-1, (3, -1)).permute(2, 0, 1, 3).reshape(3, len(x), k, x.shape[1], -1)),
    "the last axis is split into (D_h, k), it must be (k, D_h)":
        dict(split=lambda x, k: x.unflatten(-1, (3, -1, k)).permute(2, 0, 4, 1, 3)),
    "`qkv` is read head by head: its rows are q of all heads, then k, then v":
        dict(split=lambda x, k: x.unflatten(-1, (k, 3, -1)).permute(3, 0, 2, 1, 4)),
    "there is one head alone: num_heads is not used": dict(split=lambda x, _: _split(x, 1)),
    "q and k are exchanged": dict(split=lambda x, k: _split(x, k)[[1, 0, 2]]),
    "k and v are exchanged": dict(split=lambda x, k: _split(x, k)[[0, 2, 1]]),
}


ACTIVATION = {
    "this is ReLU, not GELU": dict(gelu=F.relu),
    "this is the tanh form of GELU, not the exact one": dict(gelu=lambda x: F.gelu(x, approximate="tanh")),
    "this is the sigmoid form of GELU, not the exact one": dict(gelu=lambda x: x * (1.702 * x).sigmoid()),
    "this is SiLU, not GELU": dict(gelu=F.silu),
}
GELU = {
    **ACTIVATION,
    "the sqrt(2) is missing in erf(x / sqrt(2))": dict(gelu=lambda x: x * (1 + x.erf()) / 2),
    "this is Phi(x), GELU is x Phi(x)": dict(gelu=lambda x: F.gelu(x) / x),
    "the factor 1/2 is missing": dict(gelu=lambda x: 2 * F.gelu(x)),
}


def _mlp(module, z, gelu=F.gelu, around=0):
    return module.out(gelu(module.hidden(z))) + around * z


MLP = {
    **ACTIVATION,
    "there is no GELU between the layers": dict(gelu=lambda x: x),
    "the input is added to the result: the residual belongs to the block": dict(around=1),
}


def _block(module, z, around1=1, around2=1, norm1="pre", norm2="pre", gelu=F.gelu, **mistake):
    def layer(z, norm, branch, where, around):
        if where == "post":
            return norm(branch(z) + around * z)
        y = z if where == "none" else norm(z)
        return branch(y) + around * (y if where == "both" else z)

    z = layer(z, module.norm1, lambda y: _msa(module.msa, y, **mistake), norm1, around1)
    return layer(z, module.norm2, lambda y: _mlp(module.mlp, y, gelu), norm2, around2)


BLOCK = {
    "the residual around the MSA is missing (Equation 2)": dict(around1=0),
    "the residual around the MLP is missing (Equation 3)": dict(around2=0),
    "this is post-norm: LayerNorm stands before MSA and MLP, not after the residual": dict(norm1="post", norm2="post"),
    "the residual carries the normalised z, it must carry z itself": dict(norm1="both", norm2="both"),
    "norm1 is not used before the MSA": dict(norm1="none"),
    "norm2 is not used before the MLP": dict(norm2="none"),
}


def _vit(module, images, norm=True, layers=None, read=lambda z: z[:, 0], end=lambda x: x, **mistake):
    def take(*names):
        return {name: mistake.pop(name) for name in names if name in mistake}

    patches = _patch_embedding(module.patch_embedding, images, **take("order"))
    z = _embed(module, patches, **take("join", "positions"))
    for block in module.blocks[:layers]:
        z = _block(block, z, **mistake)
    return end(module.head(read(module.norm(z) if norm else z)))


VIT = {
    **EMBED,
    "there is no final norm: `norm` comes before the head (Equation 4)": dict(norm=False),
    "the head reads the mean of all tokens, not the class token": dict(read=lambda z: z.mean(1)),
    "the head reads the last token, not the class token": dict(read=lambda z: z[:, -1]),
    **BLOCK,
    **PATCHES,
    "the head reads the mean of the patches, not the class token": dict(read=lambda z: z[:, 1:].mean(1)),
    "only the first block is used": dict(layers=1),
    "the blocks are not used": dict(layers=0),
    "the result went through a softmax, logits are asked": dict(end=lambda x: x.softmax(-1)),
}
ROLES = {
    "projection": "the linear layer for all patches", "class_token": "the class token, a parameter [1, 1, D]",
    "position_embedding": "the positions, a parameter [1, N + 1, D]", "qkv": "Linear D -> 3D, Equation 5",
    "hidden": "Linear D -> M", "out": "the output projection, a Linear to D", "norm1": "LayerNorm before the MSA",
    "norm2": "LayerNorm before the MLP", "norm": "the final norm, Equation 4", "head": "the linear layer to the logits",
}


# How a reader's code is built, filled with weights, run and compared.


def _shapes(arguments) -> str:
    return ", ".join(str([*x.shape]) if torch.is_tensor(x) else _plain(x) for x in arguments)


def _parts(result) -> tuple:
    return tuple(result) if isinstance(result, (tuple, list)) else (result,)


def _plain(value) -> str:
    """In one line, the same on every machine: no address, no long float."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value).strip().partition("\n")[0]
    return re.sub("0x[0-9a-f]+", "0x...", text)


def _call(theirs, *arguments, **settings):
    """Run the reader's code; what it raises is told in one line."""
    try:
        return theirs(*arguments, **settings)
    except NotImplementedError as error:
        if 'required "forward"' in str(error):
            raise NotYet("the class has no forward so far") from None
        raise NotYet("nothing is there so far: NotImplementedError is raised") from None
    except Exception as error:
        module = getattr(theirs, "__module__", None)
        lines = [f" in line {line} ({frame.f_code.co_name})" for frame, line in traceback.walk_tb(error.__traceback__)
                 if frame.f_globals.get("__name__") == module]
        given = ", ".join(f"{name}={value}" for name, value in settings.items()) or _shapes(arguments)
        raise NotYet(f"{type(error).__name__}{''.join(lines[-1:])}: {_plain(error)} (given {given})") from None


def _build(cls, settings):
    if not isinstance(cls, type) or not issubclass(cls, nn.Module):
        raise NotYet("give the class itself, a subclass of nn.Module")
    if cls.__init__ is nn.Module.__init__ and cls.forward is nn.Module.forward:
        raise NotYet("the class defines nothing so far")
    module = _call(cls, **settings)
    if "_parameters" not in vars(module):
        raise NotYet("__init__ must begin with super().__init__()")
    return module.eval()


def _missing(module, name) -> str:
    """Why there is no parameter of this name."""
    path = name.split(".")
    for depth, key in enumerate(path, 1):
        value = getattr(module, key, None)
        here = f"`{'.'.join(path[:depth])}`" + (f" ({ROLES[key]})" if key in ROLES else "")
        if value is None:
            return f"{here} is missing"
        if isinstance(value, (list, tuple, dict)):
            use = "nn.ModuleDict" if isinstance(value, dict) else "nn.ModuleList"
            return f"{here} is a Python {type(value).__name__}, what is in it is not registered: use {use}"
        if key in module._buffers:
            return f"{here} is a buffer, which is not trained: make it an nn.Parameter"
        if torch.is_tensor(value):
            return f"{here} is a plain tensor and not registered: make it an nn.Parameter"
        if not isinstance(value, nn.Module):
            return f"{here} is a {type(value).__name__}, not a layer"
        module = value
    return f"{here} is a {type(value).__name__}, not a parameter"


def _load(theirs, ours):
    """Give both modules the same random weights; raise NotYet for a parameter that does not fit."""
    weights, found = dict(ours.named_parameters()), dict(theirs.named_parameters(remove_duplicate=False))
    for name in weights:
        if name not in found:
            names = ", ".join(f"`{name}`" for name in dict.fromkeys(name.split(".")[0] for name in found))
            raise NotYet(f"{_missing(theirs, name)}. Parameters so far: {names or 'none'}")
    owners = {}
    for name, parameter in found.items():
        if name not in weights:
            raise NotYet(f"there is a parameter too many, `{name}`")
        if not parameter.requires_grad:
            raise NotYet(f"`{name}` would not be trained, its requires_grad is False")
        if owners.setdefault(parameter, name) != name:
            raise NotYet(f"`{owners[parameter]}` and `{name}` are one and the same: build each layer anew")
        want, got = weights[name].shape, parameter.shape
        if name.endswith("projection.weight") and got[:1] == want[:1] and got.numel() == want.numel():
            want = got  # a convolution has the same weight in another shape
        if got != want:
            cause = ""
            if name.endswith("position_embedding") and got[1:] == (want[1] - 1, want[2]):
                cause = ": one position too few, the class token has one too"
            elif want[0] == 1 and got[1:] == want[1:]:
                cause = ": the batch size is baked in. Keep one for all images, and expand it in forward"
            elif got == want[::-1]:
                cause = ": its two sizes are exchanged"
            raise NotYet(f"`{name}` has the shape {[*got]}, expected {[*want]}{cause}")
        weights[name] = nn.init.normal_(weights[name], std=0.4).detach().view(want)
    theirs.load_state_dict(weights, strict=False)


def _same(result, expected) -> bool:
    """Equal up to rounding, and up to the usual choices of a LayerNorm's epsilon."""
    for part, want in zip(_parts(result), _parts(expected)):
        if part.shape != want.shape or not (part - want).abs().max() <= 2e-5 * want.abs().max():
            return False
    return True


def _look(result, expected):
    """Raise NotYet where there is no result, or one of another kind than expected."""
    if result is None or result is ...:
        raise NotYet("nothing is returned so far")
    parts, wanted = _parts(result), _parts(expected)
    if not torch.is_tensor(wanted[0]):
        return
    if len(parts) != len(wanted) or not all(map(torch.is_tensor, parts)):
        kind = "a tensor" if torch.is_tensor(expected) else "two tensors, output and weights"
        raise NotYet(f"a {type(result).__name__} is returned, expected {kind}")
    if not all(part.isfinite().all() for part in parts):
        raise NotYet("the result is not finite, there is nan or inf in it")


def _compare(theirs, reference, arguments, mistakes):
    """Run both on the same arguments; raise NotYet with what differs, by the mistake's name if it has one."""
    expected, given = reference(*arguments), copy.deepcopy(arguments)
    try:
        result = _call(theirs, *given)
    except NotYet as answer:
        raise NotYet(_baked(theirs, reference, arguments) or answer) from None
    _look(result, expected)
    if isinstance(theirs, nn.Module) and not torch.equal(_call(theirs, *copy.deepcopy(arguments)), result):
        raise NotYet("two runs in eval mode differ: dropout is on in eval. Use nn.Dropout, or tell F.dropout "
                     "training=self.training")
    if not _same(result, expected):
        raise NotYet(_difference(theirs, reference, arguments, mistakes, result, expected))
    if not all(torch.equal(x, y) for x, y in zip(arguments, given) if torch.is_tensor(x)):
        raise NotYet("the result is right, but the input was changed in place")


def _difference(theirs, reference, arguments, mistakes, result, expected) -> str:
    """In words: what came out, what was expected, and the mistake that gives what came out."""
    part, want = next(pair for pair in zip(_parts(result), _parts(expected)) if not _same(*pair))
    what = "the shape is right, the numbers are not: "
    if part.shape != want.shape:
        what = f"given {_shapes(arguments)} came the shape {_shapes([part])}, expected {_shapes([want])}: "
    pairs = itertools.combinations([*mistakes][:12], 2)  # two at a time, of the commonest
    for several in (*((one,) for one in mistakes), *pairs):
        try:
            if _same(result, reference(*arguments, **{k: v for one in several for k, v in mistakes[one].items()})):
                return what + several[0]
        except (IndexError, RuntimeError):  # a mistake that these shapes do not allow
            continue
    if part.ndim == want.ndim and any(_same(part.permute(p), want) for p in itertools.permutations(range(part.ndim))):
        return f"{what}the axes are in another order, transpose them"
    if part.shape == want.shape:
        gap = (part - want).abs()
        place = tuple(torch.nonzero(gap > gap.max() / 2)[0].tolist())
        return f"{what}given {_shapes(arguments)}, at {[*place]} came {part[place]:.3g}, expected {want[place]:.3g}"
    if part.squeeze().shape == want.squeeze().shape:
        return f"{what}an axis of size 1 is lost or added, is there a squeeze or unsqueeze too many?"
    cause = _baked(theirs, reference, arguments)
    if cause is None and part.shape[:1] != want.shape[:1]:
        cause = "the first axis must stay the batch, is a batch size baked in?"
    return what + cause if cause else what.rstrip(": ")


def _baked(theirs, reference, arguments) -> str | None:
    """Words for code that is right for one batch size alone."""
    if not torch.is_tensor(arguments[0]):
        return None
    batch = len(arguments[0])
    for other in (*range(1, 11), 12, 16, 20, 32, 64):
        again = [x[torch.arange(other) % batch] if torch.is_tensor(x) and x.ndim > 1 else x for x in arguments]
        try:
            if _same(theirs(*again), reference(*again)):
                return f"it works for a batch of {other}, not for one of {batch}: the batch size is baked in"
        except Exception:
            continue
    return None


def _reach(result, sources):
    """Raise NotYet where no gradient leads from the result back to one of the sources, name -> tensor."""
    loss = sum((part * torch.randn_like(part)).sum() for part in _parts(result))
    gradients = [None] * len(sources)
    try:
        if loss.requires_grad:
            gradients = torch.autograd.grad(loss, [*sources.values()], allow_unused=True)
    except RuntimeError:
        raise NotYet("the numbers are right, but no gradient can be had: is a tensor changed in place?") from None
    for name, gradient in zip(sources, gradients):
        if gradient is None or not gradient.any():
            raise NotYet(f"the numbers are right, but no gradient reaches {name}: is there a no_grad, detach, .data, "
                         "or a copy by torch.tensor or numpy?")


def _sizes():
    """Three draws of sizes, always the same: within each they differ from one another, and P^2 C is never D."""
    rng = random.Random(85)
    for batch in (3, 1, 5):
        patch_size, rows, columns, num_heads, head_size = rng.sample(range(3, 8), 5)
        channels, tokens, mlp_size = rng.randint(2, 4), rng.randint(8, 11), rng.randint(43, 60)
        yield SimpleNamespace(
            patch_size=patch_size, in_channels=channels, hidden_size=num_heads * head_size, num_heads=num_heads,
            mlp_size=mlp_size, num_patches=tokens, num_layers=2, num_classes=columns, image_size=rows * patch_size,
            dropout=0.5, z=(batch, tokens, num_heads * head_size), heads=(batch, num_heads, tokens, head_size),
            images=(batch, channels, rows * patch_size, columns * patch_size),
            rgb_images=(batch, 3, rows * patch_size, rows * patch_size),
            patches=(batch, rows**2, channels * patch_size**2))


def _check_function(function, reference, mistakes, cases):
    for arguments in cases:
        _compare(function, reference, arguments, mistakes)
        arguments = [x.clone().requires_grad_() if torch.is_tensor(x) else x for x in arguments]
        sources = {f"argument {i}": x for i, x in enumerate(arguments, 1) if torch.is_tensor(x)}
        _reach(_call(function, *arguments), sources)


def _check_class(cls, ours, reference, mistakes, settings, shape):
    """Build both classes with the settings of these names, and run them on a tensor with the shape of this name."""
    for sizes in map(vars, _sizes()):
        values = {name: sizes[name] for name in settings.split()}
        theirs, model = _build(cls, values), ours(**values).eval()
        _load(theirs, model)
        x = torch.randn(sizes[shape])
        _compare(theirs, functools.partial(reference, model), (x,), mistakes)
        _reach(_call(theirs, x), {f"`{name}`": parameter for name, parameter in theirs.named_parameters()})
    return theirs


def _equal(result, expected) -> bool:
    """Equal numbers, or sequences of them: whole ones exactly, others up to rounding."""
    if isinstance(expected, (tuple, list)):
        return isinstance(result, (tuple, list)) and len(result) == len(expected) and all(map(_equal, result, expected))
    try:
        return math.isclose(result, expected, rel_tol=0 if isinstance(expected, int) else 1e-5)
    except (TypeError, ValueError, RuntimeError):
        return False


@verdict
def check_number(name: str, value) -> bool:
    """Compare a number with the answer of this name in ANSWERS; a wrong one gets a hint."""
    expected, hint = ANSWERS[name]
    if value is None or value is ...:
        raise NotYet("there is no answer so far")
    try:
        right = math.isclose(value, expected, rel_tol=0 if isinstance(expected, int) else 0.01)
    except (TypeError, ValueError, RuntimeError):
        raise NotYet(f"a number is asked, not a {type(value).__name__}") from None
    if not right:
        raise NotYet(hint)


@verdict
def check_function(name: str, function) -> bool:
    """Compare a small function with the reference of that name in FUNCTIONS, on each of its tuples of arguments."""
    reference, arguments, hint = FUNCTIONS[name]

    for case in arguments():
        result, expected = _call(function, *copy.deepcopy(case)), reference(*copy.deepcopy(case))
        _look(result, expected)
        if torch.is_tensor(expected) and not _same(result, expected):
            raise NotYet(f"{_difference(function, reference, case, {}, result, expected)}. Hint: {hint}")
        if not torch.is_tensor(expected) and not _equal(result, expected):
            raise NotYet(f"given {_shapes(case)} came {_plain(result)}, expected {_plain(expected)}. Hint: {hint}")


@verdict
def check_patchify(function) -> bool:
    """function(images, patch_size): [batch, C, H, W] -> [batch, N, C * P * P], channel first in a patch."""
    _check_function(function, _patchify, PATCHES, [(torch.randn(s.images), s.patch_size) for s in _sizes()])


@verdict
def check_unpatchify(function) -> bool:
    """function(patches, patch_size, channels): [batch, N, C * P * P] -> square images [batch, C, H, W]."""
    cases = [(torch.randn(s.patches), s.patch_size, s.in_channels) for s in _sizes()]
    _check_function(function, _unpatchify, IMAGES, cases)


@verdict
def check_patch_embedding(cls) -> bool:
    """cls(patch_size, in_channels, hidden_size) with `projection`, an nn.Linear or nn.Conv2d."""
    settings = "patch_size in_channels hidden_size"
    _check_class(cls, vit.PatchEmbedding, _patch_embedding, PATCHES, settings, "images")


@verdict
def check_embed(cls) -> bool:
    """cls(num_patches, hidden_size) with `class_token` and `position_embedding`: [batch, N, D] -> [batch, N + 1, D]."""
    _check_class(cls, _Embed, _embed, EMBED, "num_patches hidden_size", "z")


@verdict
def check_layer_norm(function) -> bool:
    """function(x, weight, bias, eps): nn.LayerNorm over the last axis."""
    _check_function(function, _layer_norm, LAYER_NORM, [
        (1 + torch.randn(s.z), *torch.randn(2, s.hidden_size), eps) for s, eps in zip(_sizes(), (0.1, 1e-6, 0.01))])


@verdict
def check_attention(function) -> bool:
    """function(q, k, v) -> (output, weights): scaled dot-product attention of many heads, of one, of fewer queries."""
    many, one, few = (tuple(torch.randn(3, *s.heads)) for s in _sizes())
    cases = [many, tuple(x[:, 0] for x in one), (few[0][..., :4, :], *few[1:])]
    _check_function(function, _attention, ATTENTION, cases)


@verdict
def check_msa(cls) -> bool:
    """cls(hidden_size, num_heads) with `qkv`, Linear D -> 3D (rows q, k, v), and `out`, Linear D -> D."""
    _check_class(cls, vit.MultiheadSelfAttention, _msa, MSA, "hidden_size num_heads", "z")


@verdict
def check_gelu(function) -> bool:
    """function(x): the exact GELU, x Phi(x)."""
    _check_function(function, lambda x, gelu=F.gelu: gelu(x), GELU, [(3 * torch.randn(s.z),) for s in _sizes()])


@verdict
def check_mlp(cls) -> bool:
    """cls(hidden_size, mlp_size, dropout) with `hidden`, Linear D -> M, and `out`, Linear M -> D."""
    mlp = _check_class(cls, vit.MLPBlock, _mlp, MLP, "hidden_size mlp_size dropout", "z")
    x = torch.randn(5, 50, mlp.hidden.in_features)
    steady, dropped = _call(mlp, x), _call(mlp.train(), x)
    kept = dropped != 0
    if kept.all():
        raise NotYet("in training there is no dropout after the second layer (Appendix B.1)")
    if _same(dropped[kept], 2 * steady[kept]):
        raise NotYet("in training there is no dropout after the GELU (Appendix B.1)")


@verdict
def check_block(cls) -> bool:
    """cls(hidden_size, num_heads, mlp_size) with norm1, msa, norm2 and mlp, made of the pieces of going_modular.vit."""
    mistakes = {**BLOCK, **ACTIVATION, **MSA}
    _check_class(cls, vit.TransformerEncoderBlock, _block, mistakes, "hidden_size num_heads mlp_size", "z")


@verdict
def check_vit(cls) -> bool:
    """cls(image_size, patch_size, num_classes, num_layers, hidden_size, mlp_size, num_heads), named as in vit.ViT."""
    settings = "image_size patch_size num_classes num_layers hidden_size mlp_size num_heads"
    _check_class(cls, vit.ViT, _vit, {**VIT, **ACTIVATION, **MSA}, settings, "rgb_images")
