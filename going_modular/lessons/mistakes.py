"""Reference solutions for the pieces of the model, and the mistakes that the checks can name.

Each reference is right by default, and has options that replace one of its steps by a wrong one. A
table after it has the mistakes: message -> the options with which the reference makes it. The first
entry that gives the reader's numbers is named. If there is none, pairs of the first twelve entries
are tried. So the most common mistakes come first.
"""
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from going_modular import vit

Mistakes = dict[str, dict[str, Any]]


# ------------------------------------------------------------------------------
# Patches (Section 3.1)


def reference_patchify(
    images: torch.Tensor, patch_size: int, order: tuple[int, ...] | None = (0, 2, 4, 1, 3, 5)
) -> torch.Tensor:
    """Images [batch, C, H, W] -> patches [batch, N, C * P * P]; order=None is a plain view."""
    batch, channels, height, width = images.shape
    rows, columns = height // patch_size, width // patch_size
    if order:
        images = images.reshape(
            batch, channels, rows, patch_size, columns, patch_size).permute(order)
    return images.reshape(batch, rows * columns, -1)


PATCHIFY_MISTAKES: Mistakes = {
    "these are not patches. A plain view or reshape takes pixels along the rows of the image: "
    "split it into (C, rows, P, columns, P), permute to (rows, columns, C, P, P), then flatten":
        dict(order=None),
    "these are not patches. Before you flatten, permute: rows and columns come before the channels":
        dict(order=(0, 1, 2, 4, 3, 5)),
    "a patch is flattened with its channels last (P, P, C), they come first (C, P, P)":
        dict(order=(0, 2, 4, 3, 5, 1)),
    "the patches go column by column, not row by row": dict(order=(0, 4, 2, 1, 3, 5)),
    "rows and columns are exchanged within a patch": dict(order=(0, 2, 4, 1, 5, 3)),
}


def reference_unpatchify(
    patches: torch.Tensor, patch_size: int, channels: int,
    order: tuple[int, ...] | None = (0, 3, 1, 4, 2, 5), channels_last: bool = False,
) -> torch.Tensor:
    """Patches [batch, N, C * P * P] -> square images [batch, C, H, W];
    order=None is a plain view."""
    batch, side = len(patches), math.isqrt(patches.shape[1])
    if channels_last:
        patches = patches.unflatten(-1, (-1, channels)).transpose(-2, -1)
    if order:
        patches = patches.reshape(
            batch, side, side, channels, patch_size, patch_size).permute(order)
    return patches.reshape(batch, channels, side * patch_size, side * patch_size)


UNPATCHIFY_MISTAKES: Mistakes = {
    "the patches are not in their places. A plain view or reshape lays them end to end: split into "
    "(rows, columns, C, P, P), permute to (C, rows, P, columns, P), then flatten": dict(order=None),
    "the patches are not in their places: permute to (C, rows, P, columns, P), so that each P "
    "stands by its own axis":
        dict(order=(0, 3, 1, 2, 4, 5)),
    "a patch is read with its channels last (P, P, C), they come first (C, P, P)":
        dict(channels_last=True),
    "the patches are laid column by column, not row by row": dict(order=(0, 3, 2, 4, 1, 5)),
    "rows and columns are exchanged within a patch": dict(order=(0, 3, 1, 5, 2, 4)),
}


def reference_patch_embedding(
    module: vit.PatchEmbedding, images: torch.Tensor, **mistake: Any,
) -> torch.Tensor:
    """x_p E of Equation 1, with the mistakes of reference_patchify."""
    return module.projection(reference_patchify(images, module.patch_size, **mistake))


# ------------------------------------------------------------------------------
# Class token and positions (Equation 1)


class Embed(nn.Module):
    """The parameters for class token and positions, which in vit.ViT belong to the whole model."""

    def __init__(self, num_patches: int, hidden_size: int):
        super().__init__()
        self.class_token = nn.Parameter(torch.empty(1, 1, hidden_size))
        self.position_embedding = nn.Parameter(torch.empty(1, num_patches + 1, hidden_size))


def token_first(token: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
    return torch.cat([token, patches], dim=1)


def reference_embed(
    module: Embed | vit.ViT, patches: torch.Tensor, join: Callable = token_first,
    change_positions: Callable = lambda positions: positions,
) -> torch.Tensor:
    """Patch embeddings [batch, N, D] -> z_0 [batch, N + 1, D], with the parameters of a ViT or of
    Embed."""
    z = join(module.class_token.expand(len(patches), -1, -1), patches)
    # If the mistake leaves the class token out, the patches still get their own positions, the
    # last N.
    return z + change_positions(module.position_embedding)[:, -z.shape[1]:]


EMBED_MISTAKES: Mistakes = {
    "the positions are not added": dict(change_positions=torch.zeros_like),
    "the class token is at the end, it belongs before the patches":
        dict(join=lambda token, patches: torch.cat([patches, token], dim=1)),
    "there is no class token before the patches": dict(join=lambda token, patches: patches),
    "the class token has no position: put it before the patches first, then add the positions":
        dict(change_positions=lambda positions: F.pad(positions[:, 1:], (0, 0, 1, 0))),
}


# ------------------------------------------------------------------------------
# LayerNorm (Ba et al., 2016)


def reference_layer_norm(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float,
    axes: int | tuple[int, ...] = -1, correction: int = 0,
    root: Callable = lambda variance, eps: (variance + eps) ** 0.5, centre: bool = True,
    affine: Callable = lambda y, weight, bias: y * weight + bias,
) -> torch.Tensor:
    """x [..., D] normalised over its last axis -> the same shape."""
    variance = x.var(axes, correction=correction, keepdim=True)
    y = (x - x.mean(axes, keepdim=True) if centre else x) / root(variance, eps)
    return affine(y, weight, bias)


LAYER_NORM_MISTAKES: Mistakes = {
    "the variance is divided by D - 1, LayerNorm divides by D (unbiased=False)": dict(correction=1),
    "eps is added after the root, it belongs under it":
        dict(root=lambda variance, eps: variance**0.5 + eps),
    "eps is not used": dict(root=lambda variance, eps: variance**0.5),
    "the division is by the variance, not by its root":
        dict(root=lambda variance, eps: variance + eps),
    "the mean is not subtracted": dict(centre=False),
    "mean and variance are over all tokens, they belong to the last axis alone":
        dict(axes=(-1, -2)),
    "mean and variance are over the tokens, they belong to the last axis": dict(axes=-2),
    "mean and variance are over the batch, they belong to the last axis": dict(axes=0),
    "the weight is not used": dict(affine=lambda y, weight, bias: y + bias),
    "the bias is not added": dict(affine=lambda y, weight, bias: y * weight),
}


# ------------------------------------------------------------------------------
# Attention of one head and of many (Equations 5 to 8)


def reference_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor,
    scale: Callable = lambda head_size, num_heads: head_size**-0.5, axis: int | None = -1,
    results: Callable = lambda output, weights, scores: (output, weights),
) -> Any:
    """q [..., queries, D_h], k and v [..., tokens, D_h] -> output, weights (Equations 6 and 7)."""
    num_heads = q.shape[-3] if q.ndim == 4 else 1
    scores = q @ k.transpose(-2, -1) * scale(q.shape[-1], num_heads)
    weights = scores if axis is None else scores.softmax(axis)
    return results(weights @ v, weights, scores)


SCORE_MISTAKES: Mistakes = {
    "the scores are not scaled: divide them by sqrt(D_h)":
        dict(scale=lambda head_size, num_heads: 1),
    "the scale is sqrt(D), of the hidden size: it must be sqrt(D_h), of one head":
        dict(scale=lambda head_size, num_heads: (head_size * num_heads) ** -0.5),
    "the scale is D_h: it must be its root": dict(scale=lambda head_size, num_heads: 1 / head_size),
    "the scores are multiplied by sqrt(D_h): divide them":
        dict(scale=lambda head_size, num_heads: head_size**0.5),
    "the softmax is over the wrong axis, the queries: each query's weights sum to 1 (dim=-1)":
        dict(axis=-2),
    "the softmax is over the wrong axis, the heads: each query's weights sum to 1 (dim=-1)":
        dict(axis=-3),
    "the softmax is over the wrong axis, the batch: each query's weights sum to 1 (dim=-1)":
        dict(axis=0),
    "there is no softmax": dict(axis=None),
}
ATTENTION_MISTAKES: Mistakes = {
    **SCORE_MISTAKES,
    "the results are exchanged: return output, weights":
        dict(results=lambda output, weights, scores: (weights, output)),
    "the second result is the scores: return output, weights":
        dict(results=lambda output, weights, scores: (output, scores)),
}


def split_heads_of_qkv(x: torch.Tensor, num_heads: int) -> torch.Tensor:
    """[batch, tokens, 3 * D] -> [3, batch, num_heads, tokens, head_size], q, k and v."""
    return x.unflatten(-1, (3, num_heads, -1)).permute(2, 0, 3, 1, 4)


def reference_msa(
    module: vit.MultiheadSelfAttention, z: torch.Tensor, split: Callable = split_heads_of_qkv,
    merge: Callable = lambda heads: heads.transpose(1, 2).flatten(-2), project: bool = True,
    **mistake: Any,
) -> torch.Tensor:
    """MSA of Equation 8: [batch, tokens, D] -> the same shape, with the mistakes
    of reference_attention."""
    q, k, v = split(module.qkv(z), module.num_heads)
    heads, _ = reference_attention(q, k, v, **mistake)
    merged = merge(heads)
    return module.out(merged) if project else merged


MSA_MISTAKES: Mistakes = {
    **SCORE_MISTAKES,
    "the heads are not merged back in order: transpose(1, 2) is missing before they are flattened":
        dict(merge=lambda heads: heads.reshape(len(heads), heads.shape[2], -1)),
    "the heads are merged number by number, not one after the other: transpose(1, 2), then "
    "flatten(-2)":
        dict(merge=lambda heads: heads.permute(0, 2, 3, 1).flatten(-2)),
    "there is no output projection: the merged heads go through `out`": dict(project=False),
    "the heads are not split in order: split the last axis into (k, D_h), then transpose(1, 2)":
        dict(split=lambda x, k: x.unflatten(-1, (3, -1)).permute(2, 0, 1, 3).reshape(
            3, len(x), k, x.shape[1], -1)),
    "the last axis is split into (D_h, k), it must be (k, D_h)":
        dict(split=lambda x, k: x.unflatten(-1, (3, -1, k)).permute(2, 0, 4, 1, 3)),
    "`qkv` is read head by head: its rows are q of all heads, then k, then v":
        dict(split=lambda x, k: x.unflatten(-1, (k, 3, -1)).permute(3, 0, 2, 1, 4)),
    "there is one head alone: num_heads is not used":
        dict(split=lambda x, _: split_heads_of_qkv(x, 1)),
    "q and k are exchanged": dict(split=lambda x, k: split_heads_of_qkv(x, k)[[1, 0, 2]]),
    "k and v are exchanged": dict(split=lambda x, k: split_heads_of_qkv(x, k)[[0, 2, 1]]),
}


# ------------------------------------------------------------------------------
# GELU and the MLP (Section 3.1)


def reference_gelu(x: torch.Tensor, gelu: Callable = F.gelu) -> torch.Tensor:
    """The exact GELU, x Phi(x), of each number (Hendrycks and Gimpel, 2016)."""
    return gelu(x)


ACTIVATION_MISTAKES: Mistakes = {
    "this is ReLU, not GELU": dict(gelu=F.relu),
    "this is the tanh form of GELU, not the exact one":
        dict(gelu=lambda x: F.gelu(x, approximate="tanh")),
    "this is the sigmoid form of GELU, not the exact one":
        dict(gelu=lambda x: x * (1.702 * x).sigmoid()),
    "this is SiLU, not GELU": dict(gelu=F.silu),
}
GELU_MISTAKES: Mistakes = {
    **ACTIVATION_MISTAKES,
    "the sqrt(2) is missing in erf(x / sqrt(2))": dict(gelu=lambda x: x * (1 + x.erf()) / 2),
    "this is Phi(x), GELU is x Phi(x)": dict(gelu=lambda x: F.gelu(x) / x),
    "the factor 1/2 is missing": dict(gelu=lambda x: 2 * F.gelu(x)),
}


def reference_mlp(
    module: vit.MLPBlock, z: torch.Tensor, gelu: Callable = F.gelu, skip: int = 0,
) -> torch.Tensor:
    """The MLP in evaluation, without dropout: [batch, tokens, D] -> the same shape."""
    return module.out(gelu(module.hidden(z))) + skip * z


MLP_MISTAKES: Mistakes = {
    **ACTIVATION_MISTAKES,
    "there is no GELU between the layers": dict(gelu=lambda x: x),
    "the input is added to the result: the residual belongs to the block": dict(skip=1),
}


# ------------------------------------------------------------------------------
# The encoder block (Equations 2 and 3) and the whole model


def residual_branch(
    z: torch.Tensor, norm: Callable, branch: Callable, norm_place: str, skip: int,
) -> torch.Tensor:
    """branch(norm(z)) + z, or with the norm elsewhere: "post" after the sum, "none" nowhere, "both"
    before the branch and on the skip connection."""
    if norm_place == "post":
        return norm(branch(z) + skip * z)
    y = z if norm_place == "none" else norm(z)
    return branch(y) + skip * (y if norm_place == "both" else z)


def reference_block(
    module: vit.TransformerEncoderBlock, z: torch.Tensor, skip1: int = 1, skip2: int = 1,
    norm1: str = "pre", norm2: str = "pre", gelu: Callable = F.gelu, **mistake: Any,
) -> torch.Tensor:
    """[batch, tokens, D] -> the same shape, with the mistakes of reference_msa
    and of the activation."""
    z = residual_branch(
        z, module.norm1, lambda y: reference_msa(module.msa, y, **mistake), norm1, skip1)
    return residual_branch(
        z, module.norm2, lambda y: reference_mlp(module.mlp, y, gelu), norm2, skip2)


BLOCK_MISTAKES: Mistakes = {
    "the residual around the MSA is missing (Equation 2)": dict(skip1=0),
    "the residual around the MLP is missing (Equation 3)": dict(skip2=0),
    "this is post-norm: LayerNorm stands before MSA and MLP, not after the residual":
        dict(norm1="post", norm2="post"),
    "the residual carries the normalised z, it must carry z itself":
        dict(norm1="both", norm2="both"),
    "norm1 is not used before the MSA": dict(norm1="none"),
    "norm2 is not used before the MLP": dict(norm2="none"),
}


def reference_vit(
    module: vit.ViT, images: torch.Tensor, norm: bool = True, num_blocks: int | None = None,
    pool: Callable = lambda z: z[:, 0], change_logits: Callable = lambda logits: logits,
    **mistake: Any,
) -> torch.Tensor:
    """Images [batch, 3, H, W] -> logits [batch, num_classes], with the mistakes of all parts."""

    # Each part takes the options for its own mistakes. What is left at the end is for the block.
    def take(*options: str) -> dict[str, Any]:
        return {option: mistake.pop(option) for option in options if option in mistake}

    patches = reference_patch_embedding(module.patch_embedding, images, **take("order"))
    z = reference_embed(module, patches, **take("join", "change_positions"))
    for block in module.blocks[:num_blocks]:
        assert isinstance(block, vit.TransformerEncoderBlock)  # a ModuleList does not say of what
        z = reference_block(block, z, **mistake)
    return change_logits(module.head(pool(module.norm(z) if norm else z)))


VIT_MISTAKES: Mistakes = {
    **EMBED_MISTAKES,
    "there is no final norm: `norm` comes before the head (Equation 4)": dict(norm=False),
    "the head reads the mean of all tokens, not the class token": dict(pool=lambda z: z.mean(1)),
    "the head reads the last token, not the class token": dict(pool=lambda z: z[:, -1]),
    **BLOCK_MISTAKES,
    **PATCHIFY_MISTAKES,
    "the head reads the mean of the patches, not the class token":
        dict(pool=lambda z: z[:, 1:].mean(1)),
    "only the first block is used": dict(num_blocks=1),
    "the blocks are not used": dict(num_blocks=0),
    "the result went through a softmax, logits are asked":
        dict(change_logits=lambda logits: logits.softmax(-1)),
}
