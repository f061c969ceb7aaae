"""Reference solutions for the pieces of the model, and the mistakes that the checks can name.

Each reference is right by default, and has options that replace one of its steps by a wrong one. A
table after it has the mistakes: message -> the options with which the reference makes it. The first
entry that gives the reader's numbers is named. If there is none, pairs of the first 24 entries
are tried. So the most common mistakes come first.
"""
import functools
import math
from collections.abc import Callable, Sequence
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
    module: vit.PatchEmbedding, images: torch.Tensor,
    finish: Callable = lambda z: z, **mistake: Any,
) -> torch.Tensor:
    """x_p E of Equation 1, with the mistakes of reference_patchify."""
    return finish(module.projection(reference_patchify(images, module.patch_size, **mistake)))


PATCH_EMBEDDING_MISTAKES: Mistakes = {
    **PATCHIFY_MISTAKES,
    "[batch, D, rows, columns] was brought into the shape [batch, N, D] by a reshape or view, which "
    "keeps the order of the numbers: flatten(2) joins the grid, transpose(1, 2) then puts D last":
        dict(finish=lambda z: z.transpose(1, 2).reshape(z.shape)),
    "a ReLU follows the projection, which is a linear layer alone": dict(finish=F.relu),
    "a GELU follows the projection, which is a linear layer alone": dict(finish=F.gelu),
}


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
    "the positions are added before the class token joins, so each patch has the position of the "
    "place before it, and the class token none":
        dict(change_positions=lambda positions: F.pad(positions[:, :-1], (0, 0, 1, 0))),
}
RARER_EMBED_MISTAKES: Mistakes = {
    "the positions are off by one: row 0 belongs to the class token, row 1 to the first patch":
        dict(change_positions=lambda positions: positions.roll(-1, 1)),
    "the positions are off by one: row 0 belongs to the class token, the last row to the last patch":
        dict(change_positions=lambda positions: positions.roll(1, 1)),
    "all tokens get the same position, that of row 0":
        dict(change_positions=lambda positions: positions[:, :1].expand_as(positions)),
    "the positions are added to the class token alone, each patch has one too":
        dict(change_positions=lambda positions: F.pad(
            positions[:, :1], (0, 0, 0, positions.shape[1] - 1))),
    "the positions are added twice": dict(change_positions=lambda positions: 2 * positions),
    "the positions are subtracted, they are added":
        dict(change_positions=lambda positions: -positions),
    "the class token is added to the patches as well":
        dict(join=lambda token, patches: torch.cat([token, patches + token[:, :1]], dim=1)),
    "the class token is zeros, not the parameter":
        dict(join=lambda token, patches: torch.cat([0 * token, patches], dim=1)),
    "the class token is the mean of the patches, not the parameter":
        dict(join=lambda token, patches: torch.cat([patches.mean(1, keepdim=True), patches], 1)),
    "the class token takes the place of the first patch, it comes before it":
        dict(join=lambda token, patches: torch.cat([token, patches[:, 1:]], dim=1)),
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
    "weight and bias are exchanged: y * weight + bias":
        dict(affine=lambda y, weight, bias: y * bias + weight),
    "weight and bias are not used": dict(affine=lambda y, weight, bias: y),
    "the bias is added before the weight multiplies: y * weight + bias":
        dict(affine=lambda y, weight, bias: (y + bias) * weight),
    "there is no division by the root of the variance": dict(root=lambda variance, eps: 1),
    "the root of eps is added to that of the variance: eps belongs under the one root":
        dict(root=lambda variance, eps: variance**0.5 + eps**0.5),
    "eps is subtracted, it is added": dict(root=lambda variance, eps: (variance - eps) ** 0.5),
    "the weight is not used": dict(affine=lambda y, weight, bias: y + bias),
    "the bias is not added": dict(affine=lambda y, weight, bias: y * weight),
}


# ------------------------------------------------------------------------------
# Attention of one head and of many (Equations 5 to 8)


def reference_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor,
    roles: Callable = lambda q, k, v: (q, k, v),
    scale: Callable = lambda q, num_heads: q.shape[-1] ** -0.5,
    mask: Callable = lambda scores: scores,
    softmax: Callable = lambda scores: scores.softmax(-1),
    weigh: Callable = lambda weights, v: weights @ v,
    results: Callable = lambda output, weights, scores: (output, weights),
) -> Any:
    """q [..., queries, D_h], k and v [..., tokens, D_h] -> output, weights (Equations 6 and 7)."""
    q, k, v = roles(q, k, v)
    num_heads = q.shape[-3] if q.ndim == 4 else 1
    scores = mask(q @ k.transpose(-2, -1) * scale(q, num_heads))
    weights = softmax(scores)
    return results(weigh(weights, v), weights, scores)


def causal(scores: torch.Tensor) -> torch.Tensor:
    """The scores, with minus infinity for each key after its query."""
    return scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)


def divide_by_sum(scores: torch.Tensor) -> torch.Tensor:
    return scores / scores.sum(-1, keepdim=True)


SCORE_MISTAKES: Mistakes = {
    "the scores are not scaled: divide them by sqrt(D_h)": dict(scale=lambda q, num_heads: 1),
    "the scale is sqrt(D), of the hidden size: it must be sqrt(D_h), of one head":
        dict(scale=lambda q, num_heads: (q.shape[-1] * num_heads) ** -0.5),
    "the scale is D_h: it must be its root": dict(scale=lambda q, num_heads: 1 / q.shape[-1]),
    "the scores are multiplied by sqrt(D_h): divide them":
        dict(scale=lambda q, num_heads: q.shape[-1] ** 0.5),
    "the softmax is over the wrong axis, the queries: each query's weights sum to 1 (dim=-1)":
        dict(softmax=lambda scores: scores.softmax(-2)),
    "the softmax is over the wrong axis, the heads: each query's weights sum to 1 (dim=-1)":
        dict(softmax=lambda scores: scores.softmax(-3)),
    "the softmax is over the wrong axis, the batch: each query's weights sum to 1 (dim=-1)":
        dict(softmax=lambda scores: scores.softmax(0)),
    "there is no softmax": dict(softmax=lambda scores: scores),
}
RARER_SCORE_MISTAKES: Mistakes = {
    "q and k are exchanged": dict(roles=lambda q, k, v: (k, q, v)),
    "k and v are exchanged": dict(roles=lambda q, k, v: (q, v, k)),
    "q, k and v are taken in the order v, k, q": dict(roles=lambda q, k, v: (v, k, q)),
    "q, k and v are taken in the order k, v, q": dict(roles=lambda q, k, v: (k, v, q)),
    "q, k and v are taken in the order v, q, k": dict(roles=lambda q, k, v: (v, q, k)),
    "the queries are used as keys too: the scores are q k^T": dict(roles=lambda q, k, v: (q, q, v)),
    "the keys are used as queries too: the scores are q k^T": dict(roles=lambda q, k, v: (k, k, v)),
    "the keys are used as values too": dict(roles=lambda q, k, v: (q, k, k)),
    "the scale is sqrt(k), of the number of heads: it must be sqrt(D_h), of the size of one head":
        dict(scale=lambda q, num_heads: num_heads**-0.5),
    "the scale is sqrt(T), of the number of tokens: it must be sqrt(D_h)":
        dict(scale=lambda q, num_heads: q.shape[-2] ** -0.5),
    "the scale is D, the hidden size: it must be sqrt(D_h)":
        dict(scale=lambda q, num_heads: 1 / (q.shape[-1] * num_heads)),
    "the scale is k, the number of heads: it must be sqrt(D_h)":
        dict(scale=lambda q, num_heads: 1 / num_heads),
    "the scaling comes after the softmax: divide the scores before it":
        dict(scale=lambda q, num_heads: 1, weigh=lambda w, v: w @ v / v.shape[-1] ** 0.5),
    "this is log_softmax, the logarithm of the softmax":
        dict(softmax=lambda scores: scores.log_softmax(-1)),
    "this is a sigmoid, not a softmax: a query's weights must sum to 1":
        dict(softmax=torch.sigmoid),
    "exp is not divided by its sum: a query's weights must sum to 1": dict(softmax=torch.exp),
    "the softmax is taken twice": dict(softmax=lambda scores: scores.softmax(-1).softmax(-1)),
    "the scores are divided by their sum without exp: this is no softmax":
        dict(softmax=divide_by_sum),
    "the sign of the scores is wrong": dict(softmax=lambda scores: (-scores).softmax(-1)),
    "later tokens are masked: in a ViT every token sees all others": dict(mask=causal),
    "the weights are transposed before they average the values":
        dict(weigh=lambda weights, v: weights.transpose(-2, -1) @ v),
    "the values are averaged evenly, the weights are not used":
        dict(weigh=lambda weights, v: v.mean(-2, keepdim=True).expand(
            *weights.shape[:-1], v.shape[-1])),
    "the result is the values themselves, the weights do not average them":
        dict(weigh=lambda weights, v: v),
}
ATTENTION_MISTAKES: Mistakes = {
    **SCORE_MISTAKES,
    "the results are exchanged: return output, weights":
        dict(results=lambda output, weights, scores: (weights, output)),
    "the second result is the scores: return output, weights":
        dict(results=lambda output, weights, scores: (output, scores)),
    "the weights that are returned are transposed: [..., queries, tokens]":
        dict(results=lambda output, weights, scores: (output, weights.mT)),
    **RARER_SCORE_MISTAKES,
}


def split_heads_of_qkv(x: torch.Tensor, num_heads: int) -> torch.Tensor:
    """[batch, tokens, 3 * D] -> [3, batch, num_heads, tokens, head_size], q, k and v."""
    return x.unflatten(-1, (3, num_heads, -1)).permute(2, 0, 3, 1, 4)


def reference_msa(
    module: vit.MultiheadSelfAttention, z: torch.Tensor, split: Callable = split_heads_of_qkv,
    merge: Callable = lambda heads: heads.transpose(1, 2).flatten(-2),
    project: Callable = lambda out, merged, z: out(merged), **mistake: Any,
) -> torch.Tensor:
    """MSA of Equation 8: [batch, tokens, D] -> the same shape, with the mistakes
    of reference_attention."""
    q, k, v = split(module.qkv(z), module.num_heads)
    heads, _ = reference_attention(q, k, v, **mistake)
    return project(module.out, merge(heads), z)


MSA_MISTAKES: Mistakes = {
    **SCORE_MISTAKES,
    "the heads are not merged back in order: transpose(1, 2) is missing before they are flattened":
        dict(merge=lambda heads: heads.reshape(len(heads), heads.shape[2], -1)),
    "the heads are merged number by number, not one after the other: transpose(1, 2), then "
    "flatten(-2)":
        dict(merge=lambda heads: heads.permute(0, 2, 3, 1).flatten(-2)),
    "there is no output projection: the merged heads go through `out`":
        dict(project=lambda out, merged, z: merged),
    "the heads are not split in order: split the last axis into (k, D_h), then transpose(1, 2)":
        dict(split=lambda x, k: x.unflatten(-1, (3, -1)).permute(2, 0, 1, 3).reshape(
            3, len(x), k, x.shape[1], -1)),
    "the last axis is split into (D_h, k), it must be (k, D_h)":
        dict(split=lambda x, k: x.unflatten(-1, (3, -1, k)).permute(2, 0, 4, 1, 3)),
    "`qkv` is read head by head: its rows are q of all heads, then k, then v":
        dict(split=lambda x, k: x.unflatten(-1, (k, 3, -1)).permute(3, 0, 2, 1, 4)),
    "there is one head alone: num_heads is not used":
        dict(split=lambda x, _: split_heads_of_qkv(x, 1)),
    "the heads of a token attend to each other, not the tokens: transpose(1, 2) after the split":
        dict(roles=lambda q, k, v: (q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)),
             merge=lambda heads: heads.flatten(2)),
    "`qkv` was reshaped to (3, batch, heads, tokens, D_h) at once, which mixes images and tokens: "
    "split the last axis alone, then permute":
        dict(split=lambda x, k: x.reshape(3, len(x), k, x.shape[1], -1)),
    "the heads are merged in reverse order":
        dict(merge=lambda heads: heads.flip(1).transpose(1, 2).flatten(-2)),
    "the heads are averaged, they are joined one after the other":
        dict(merge=lambda heads: heads.mean(1).repeat(1, 1, heads.shape[1])),
    "the input of the MSA is added to its result: the residual belongs to the block":
        dict(project=lambda out, merged, z: out(merged) + z),
    "`out` is applied twice": dict(project=lambda out, merged, z: out(out(merged))),
    "the bias of `out` is not added": dict(project=lambda out, merged, z: merged @ out.weight.T),
    "the weight of `out` is transposed": dict(project=lambda out, merged, z: (
        merged @ out.weight + out.bias)),
    "a GELU follows `out`, which is the last step": dict(project=lambda out, merged, z: F.gelu(
        out(merged))),
    "a ReLU follows `out`, which is the last step": dict(project=lambda out, merged, z: F.relu(
        out(merged))),
    "`out` is applied to the input, not to the merged heads":
        dict(project=lambda out, merged, z: out(z)),
    **RARER_SCORE_MISTAKES,
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
    "the sign within Phi is wrong: this is x Phi(-x)": dict(gelu=lambda x: -F.gelu(-x)),
    "the factors x and 1/2 are missing": dict(gelu=lambda x: 1 + (x / math.sqrt(2)).erf()),
    "the 1 is missing in x / 2 (1 + erf(x / sqrt(2)))":
        dict(gelu=lambda x: x / 2 * (x / math.sqrt(2)).erf()),
    "this has erf(x / 2) in place of erf(x / sqrt(2))":
        dict(gelu=lambda x: x / 2 * (1 + (x / 2).erf())),
    "this has erf(x sqrt(2)) in place of erf(x / sqrt(2))":
        dict(gelu=lambda x: x / 2 * (1 + (x * math.sqrt(2)).erf())),
    "the density of the normal distribution stands in place of Phi, its integral":
        dict(gelu=lambda x: x * (-x**2 / 2).exp() / math.sqrt(2 * math.pi)),
    "this is ELU, not GELU": dict(gelu=F.elu),
    "this is leaky ReLU, not GELU": dict(gelu=F.leaky_relu),
    "this is tanh, not GELU": dict(gelu=torch.tanh),
    "this is the sigmoid, not GELU": dict(gelu=torch.sigmoid),
    "the result is the input": dict(gelu=lambda x: x),
}


def reference_mlp(
    module: vit.MLPBlock, z: torch.Tensor, gelu: Callable = F.gelu,
    before: Callable = lambda z: z, finish: Callable = lambda y, z: y,
) -> torch.Tensor:
    """The MLP in evaluation, without dropout: [batch, tokens, D] -> the same shape."""
    return finish(module.out(gelu(module.hidden(before(z)))), z)


MLP_MISTAKES: Mistakes = {
    **ACTIVATION_MISTAKES,
    "there is no GELU between the layers": dict(gelu=lambda x: x),
    "the input of the MLP is added to its result: the residual belongs to the block":
        dict(finish=lambda y, z: y + z),
    "there is a GELU after the second layer as well": dict(finish=lambda y, z: F.gelu(y)),
    "the GELU is after the second layer, it belongs between the two":
        dict(gelu=lambda x: x, finish=lambda y, z: F.gelu(y)),
    "the GELU is before the first layer, it belongs between the two":
        dict(gelu=lambda x: x, before=F.gelu),
    "there is a GELU before the first layer as well": dict(before=F.gelu),
    "the GELU is applied twice": dict(gelu=lambda x: F.gelu(F.gelu(x))),
    "the input is normalised: LayerNorm belongs to the block":
        dict(before=lambda z: F.layer_norm(z, z.shape[-1:])),
    "there is a softmax between the layers, not a GELU": dict(gelu=lambda x: x.softmax(-1)),
    "there is a tanh between the layers, not a GELU": dict(gelu=torch.tanh),
    "there is a sigmoid between the layers, not a GELU": dict(gelu=torch.sigmoid),
}


# ------------------------------------------------------------------------------
# The encoder block (Equations 2 and 3) and the whole model


def residual_branch(
    z: torch.Tensor, norm: Callable, branch: Callable, norm_place: str, skip: float,
) -> torch.Tensor:
    """branch(norm(z)) + z, or with the norm elsewhere: "post" after the sum, "inside" after the
    branch, "none" nowhere, "both" before the branch and on the skip connection, "twice" two times
    before the branch, "extra" after the sum as well."""
    if norm_place == "post":
        return norm(branch(z) + skip * z)
    if norm_place == "inside":
        return norm(branch(z)) + skip * z
    y = z if norm_place == "none" else norm(z)
    result = branch(norm(y) if norm_place == "twice" else y)
    result = result + skip * (y if norm_place == "both" else z)
    return norm(result) if norm_place == "extra" else result


def one_after_the_other(msa: Callable, mlp: Callable, z: torch.Tensor) -> torch.Tensor:
    return mlp(msa(z))


def reference_block(
    module: vit.TransformerEncoderBlock, z: torch.Tensor, skip1: float = 1, skip2: float = 1,
    norm1: str = "pre", norm2: str = "pre", gelu: Callable = F.gelu,
    norms: Callable = lambda norm1, norm2: (norm1, norm2),
    halves: Callable = one_after_the_other, **mistake: Any,
) -> torch.Tensor:
    """[batch, tokens, D] -> the same shape, with the mistakes of reference_msa
    and of the activation."""
    first, second = norms(module.norm1, module.norm2)

    def msa(z: torch.Tensor) -> torch.Tensor:
        return residual_branch(
            z, first, lambda y: reference_msa(module.msa, y, **mistake), norm1, skip1)

    def mlp(z: torch.Tensor) -> torch.Tensor:
        return residual_branch(
            z, second, lambda y: reference_mlp(module.mlp, y, gelu), norm2, skip2)

    return halves(msa, mlp, z)


BLOCK_MISTAKES: Mistakes = {
    "the residual around the MSA is missing (Equation 2)": dict(skip1=0),
    "the residual around the MLP is missing (Equation 3)": dict(skip2=0),
    "this is post-norm: LayerNorm stands before MSA and MLP, not after the residual":
        dict(norm1="post", norm2="post"),
    "the residual carries the normalised z, it must carry z itself":
        dict(norm1="both", norm2="both"),
    "the residual around the MSA carries the normalised z, it must carry z itself (norm1 overwrites "
    "z)": dict(norm1="both"),
    "the residual around the MLP carries the normalised z, it must carry z itself (norm2 overwrites "
    "z)": dict(norm2="both"),
    "norm1 is not used before the MSA": dict(norm1="none"),
    "norm2 is not used before the MLP": dict(norm2="none"),
    "norm1 is used twice, norm2 never": dict(norms=lambda norm1, norm2: (norm1, norm1)),
    "norm2 is used twice, norm1 never": dict(norms=lambda norm1, norm2: (norm2, norm2)),
    "the half with the MSA is post-norm: norm1 stands before the MSA, not after the residual":
        dict(norm1="post"),
    "the half with the MLP is post-norm: norm2 stands before the MLP, not after the residual":
        dict(norm2="post"),
    "norm1 stands after the MSA, it belongs before it": dict(norm1="inside"),
    "norm2 stands after the MLP, it belongs before it": dict(norm2="inside"),
    "norm1 and norm2 are exchanged": dict(norms=lambda norm1, norm2: (norm2, norm1)),
    "z is added twice around the MSA": dict(skip1=2),
    "z is added twice around the MLP": dict(skip2=2),
    "z is subtracted around the MSA, it is added": dict(skip1=-1),
    "z is subtracted around the MLP, it is added": dict(skip2=-1),
    "norm1 is applied twice before the MSA": dict(norm1="twice"),
    "norm2 is applied twice before the MLP": dict(norm2="twice"),
    "norm1 is applied once more after the residual": dict(norm1="extra"),
    "norm2 is applied once more after the residual": dict(norm2="extra"),
    "the MLP comes before the MSA: Equation 2 comes before Equation 3":
        dict(halves=lambda msa, mlp, z: msa(mlp(z))),
    "MSA and MLP see the same z: the MLP takes what the first half gives, z' of Equation 2":
        dict(halves=lambda msa, mlp, z: msa(z) + mlp(z) - z),
    "the residual around the MLP carries the input of the block, it must carry z' of Equation 2":
        dict(halves=lambda msa, mlp, z: mlp(msa(z)) - msa(z) + z),
    "there is one residual around both halves, each half has its own":
        dict(skip1=0, skip2=0, halves=lambda msa, mlp, z: z + mlp(msa(z))),
    "the MLP is not used": dict(halves=lambda msa, mlp, z: msa(z)),
    "the MSA is not used": dict(halves=lambda msa, mlp, z: mlp(z)),
    "the half with the MSA is there twice": dict(halves=lambda msa, mlp, z: mlp(msa(msa(z)))),
    "the half with the MLP is there twice": dict(halves=lambda msa, mlp, z: mlp(mlp(msa(z)))),
    "the input of the block is added to its result: there are two residuals, not three":
        dict(halves=lambda msa, mlp, z: z + mlp(msa(z))),
}


def one_block_after_the_other(blocks: Sequence[Callable], z: torch.Tensor) -> torch.Tensor:
    for block in blocks:
        z = block(z)
    return z


def reference_vit(
    module: vit.ViT, images: torch.Tensor, norm: Callable = lambda norm, z: norm(z),
    stack: Callable = one_block_after_the_other, pool: Callable = lambda z: z[:, 0],
    change_logits: Callable = lambda logits: logits, **mistake: Any,
) -> torch.Tensor:
    """Images [batch, 3, H, W] -> logits [batch, num_classes], with the mistakes of all parts."""

    # Each part takes the options for its own mistakes. What is left at the end is for the blocks.
    def take(*options: str) -> dict[str, Any]:
        return {option: mistake.pop(option) for option in options if option in mistake}

    patches = reference_patch_embedding(module.patch_embedding, images, **take("order", "finish"))
    z = reference_embed(module, patches, **take("join", "change_positions"))
    blocks = [functools.partial(reference_block, block, **mistake)  # type: ignore[arg-type]
              for block in module.blocks]
    return change_logits(module.head(pool(norm(module.norm, stack(blocks, z)))))


VIT_MISTAKES: Mistakes = {
    "the class token is at the end, and the head reads it there: it belongs before the patches (or "
    "the positions are off by one)":
        dict(join=lambda token, patches: torch.cat([patches, token], 1), pool=lambda z: z[:, -1]),
    **EMBED_MISTAKES,
    "there is no final norm: `norm` comes before the head (Equation 4)":
        dict(norm=lambda norm, z: z),
    "the head reads the mean of all tokens, not the class token": dict(pool=lambda z: z.mean(1)),
    "the head reads the mean of all tokens, which was taken before the norm":
        dict(norm=lambda norm, z: norm(z.mean(1, keepdim=True))),
    "the head reads the mean of the patches, which was taken before the norm":
        dict(norm=lambda norm, z: norm(z[:, 1:].mean(1, keepdim=True))),
    "the head reads the last token, not the class token": dict(pool=lambda z: z[:, -1]),
    "the head reads the mean of the patches, not the class token":
        dict(pool=lambda z: z[:, 1:].mean(1)),
    "the head reads token 1, the first patch, not the class token, which is token 0":
        dict(pool=lambda z: z[:, 1]),
    "the head reads the sum of the tokens, not the class token": dict(pool=lambda z: z.sum(1)),
    "the head reads the largest number over the tokens, not the class token":
        dict(pool=lambda z: z.amax(1)),
    **BLOCK_MISTAKES,
    "only the first block is used": dict(stack=lambda blocks, z: blocks[0](z)),
    "every block is given the same input, z_0, so that only the last one counts":
        dict(stack=lambda blocks, z: blocks[-1](z)),
    "the blocks are not used": dict(stack=lambda blocks, z: z),
    "the last block is left out":
        dict(stack=lambda blocks, z: one_block_after_the_other(blocks[:-1], z)),
    "the first block is left out":
        dict(stack=lambda blocks, z: one_block_after_the_other(blocks[1:], z)),
    "the first block is used again and again, the others never":
        dict(stack=lambda blocks, z: one_block_after_the_other([blocks[0]] * len(blocks), z)),
    "the last block is used again and again, the others never":
        dict(stack=lambda blocks, z: one_block_after_the_other([blocks[-1]] * len(blocks), z)),
    "the blocks are used in reverse order":
        dict(stack=lambda blocks, z: one_block_after_the_other(blocks[::-1], z)),
    "the blocks are gone through twice":
        dict(stack=lambda blocks, z: one_block_after_the_other([*blocks, *blocks], z)),
    "there is a residual around each block, which has its own two":
        dict(stack=lambda blocks, z: one_block_after_the_other(
            [lambda z, block=block: z + block(z) for block in blocks], z)),
    "there is a residual around all blocks, each of which has its own two":
        dict(stack=lambda blocks, z: z + one_block_after_the_other(blocks, z)),
    "the results of the blocks are added up, each must be the input of the next":
        dict(stack=lambda blocks, z: sum(block(z) for block in blocks)),
    "`norm` is applied twice": dict(norm=lambda norm, z: norm(norm(z))),
    "the result went through a softmax, logits are asked":
        dict(change_logits=lambda logits: logits.softmax(-1)),
    "the result went through a log_softmax, logits are asked":
        dict(change_logits=lambda logits: logits.log_softmax(-1)),
    "the result went through a sigmoid, logits are asked": dict(change_logits=torch.sigmoid),
    "the result went through a tanh, logits are asked": dict(change_logits=torch.tanh),
    "the result went through a ReLU, logits are asked": dict(change_logits=torch.relu),
    "the result went through a GELU, logits are asked": dict(change_logits=F.gelu),
    "there is a tanh before the head, which here is one linear layer":
        dict(norm=lambda norm, z: norm(z).tanh()),
    "there is a GELU before the head, which here is one linear layer":
        dict(norm=lambda norm, z: F.gelu(norm(z))),
    **RARER_EMBED_MISTAKES,
    **PATCH_EMBEDDING_MISTAKES,
}
