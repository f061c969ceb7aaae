"""Look inside a trained ViT: what has it learned, and from which patches does its
answer come? Figures 6 and 7.

    components, shares = inspection.filter_components(model)  # Figure 7, left
    similarity = inspection.position_similarity(model)  # centre
    distances = inspection.attention_distance(inspection.attentions(model, images), patch_size=16)  # right

    maps = inspection.rollout_maps(model, images)  # [batch, rows, columns]
    plt.imshow(inspection.overlay(images, maps)[0])  # Figure 6
"""
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from going_modular.vit import ViT


@torch.no_grad()
def filter_components(model: ViT, count: int = 28) -> tuple[torch.Tensor, torch.Tensor]:
    """The principal components of the patch embedding's filters, as in Figure 7, left
    (which shows 28 of ViT-L/32).

    A filter is what one number of the embedding is multiplied from: a row of E^T
    (Equation 1), as large as a patch.
    Returns (components [count, C, P, P], shares [count]) on the model's device: orthogonal, each of
    length 1, the first with the largest share of the filters' variance about their mean. A
    component's sign means nothing; here its entry of largest size is positive.
    Raises ValueError where there are fewer than `count` components: min(hidden_size, C * P * P).
    """
    weight = model.patch_embedding.projection.weight.float()  # [hidden_size, C * P * P]
    if not 1 <= count <= min(weight.shape):
        raise ValueError(f"there are {min(weight.shape)} components, not {count}")
    _, sizes, components = torch.linalg.svd(weight - weight.mean(dim=0), full_matrices=False)
    shares = sizes**2 / (sizes**2).sum()
    components = components[:count]
    largest = components.gather(1, components.abs().argmax(dim=1, keepdim=True))
    side = model.settings["patch_size"]
    return (components * largest.sign()).unflatten(1, (-1, side, side)), shares[:count]


@torch.no_grad()
def position_similarity(model: ViT) -> torch.Tensor:
    """The cosine of the angle between each two patches' position embeddings:
    [rows, columns, rows, columns].

    similarity[r, c] is the tile of the patch in row r and column c in Figures 7 (centre) and 10.
    The class token has no place in the image and is left out.
    """
    positions = model.position_embedding[0].float()
    side = math.isqrt(len(positions))
    positions = F.normalize(positions[len(positions) - side**2 :], dim=-1)  # [N, hidden_size]
    return (positions @ positions.T).unflatten(1, (side, side)).unflatten(0, (side, side))


def patch_distances(grid: int, patch_size: int) -> torch.Tensor:
    """How far the centres of each two patches of a grid x grid image lie apart, in
    pixels: [N, N], N = grid**2."""
    steps = torch.arange(grid, dtype=torch.float32) * patch_size
    places = torch.cartesian_prod(steps, steps)  # row by row, as patchify cuts
    return (places[:, None] - places).norm(dim=-1)


def attention_distance(attentions: Sequence[torch.Tensor], patch_size: int) -> torch.Tensor:
    """How far away the patches look, in pixels, as in Figures 7 (right) and
    11: [layers, num_heads].

    attentions: as `attentions` gives them, each [batch, num_heads, tokens, tokens]. For each patch
    that asks, the distances to all patches (itself at 0) are averaged with its attention weights,
    then over patches and images. The class token lies nowhere: it does not ask here, and of what is
    given to it the other weights take their share.
    Raises ValueError where the tokens are not a square of patches, with or without a class token.
    """
    tokens = attentions[0].shape[-1]
    side = math.isqrt(tokens)
    if tokens - side**2 > 1:
        raise ValueError(f"{tokens} tokens are no square of patches, with or without a class token")
    first = tokens - side**2  # 1 where there is a class token
    distances = patch_distances(side, patch_size).to(attentions[0].device)
    found = []
    for attention in attentions:
        weights = attention[..., first:, first:].float()  # [batch, num_heads, N, N]
        weights = weights / weights.sum(dim=-1, keepdim=True)
        found.append((weights * distances).sum(dim=-1).mean(dim=(0, 2)))
    return torch.stack(found)


def attended_tokens(attentions: Sequence[torch.Tensor]) -> torch.Tensor:
    """On how many tokens a query's attention lies: [layers, num_heads], from 1
    to the number of tokens.

    attentions: each [batch, num_heads, queries, tokens]. It is exp of the entropy of a row (the
    perplexity): n where n tokens share the weight equally. The entropies are averaged over queries
    and images. Not in the paper.
    """
    entropies = [torch.special.entr(attention.float()).sum(dim=-1).mean(dim=(0, 2))
                 for attention in attentions]
    return torch.stack(entropies).exp()


@torch.no_grad()
def attentions(model: ViT, images: torch.Tensor) -> list[torch.Tensor]:
    """The attention weights (Equation 6) of each block, first to last: each
    [batch, num_heads, tokens, tokens].

    images [batch, C, H, W] go to the model's device, where the result lies too. The model
    is set to evaluation mode.
    """
    seen: dict[str, torch.Tensor] = {}
    model.eval()(images.to(next(model.parameters()).device), intermediates=seen)
    return [seen[f"block{layer:02}.attention"] for layer in range(len(model.blocks))]


def rollout(attentions: Sequence[torch.Tensor], residual: bool = True) -> torch.Tensor:
    """Attention rollout (Abnar and Zuidema, 2020): how much of each input token has
    come into each output token.

    attentions: those of all layers, first to last, each [batch, num_heads, tokens, tokens]
        with rows that sum to 1.
    Returns [batch, tokens, tokens]: row i shares out output token i among the input tokens,
    so it sums to 1 as well.

    The heads are averaged and the layers' matrices A multiplied, as for Figures 6 and 14 of
    the ViT paper (Appendix D.8). A block also adds its input to what attention gives
    (Equation 2); for that, Abnar and Zuidema take (A + I) / 2 in place of A. The ViT paper's
    words leave this out: residual=False.
    Raises ValueError where attentions is empty.
    """
    if not len(attentions):
        raise ValueError("no attention weights are given, rollout needs those of one layer at "
                         "least")
    result = identity = torch.eye(attentions[0].shape[-1], device=attentions[0].device)
    for attention in attentions:
        mixing = attention.float().mean(dim=1)  # over the heads: [batch, tokens, tokens]
        if residual:
            mixing = (mixing + identity) / 2
        result = mixing @ result  # a later layer mixes what the earlier ones have mixed
    return result


def rollout_maps(model: ViT, images: torch.Tensor, residual: bool = True) -> torch.Tensor:
    """Where the model looks: images [batch, C, H, W] -> [batch, rows, columns], a share for
    each patch, their sum 1.

    It is the row of `rollout` that belongs to what the head reads: the class token's, without its
    share in itself, or the mean over all patches in a model with pool="mean".
    """
    mixed = rollout(attentions(model, images), residual)
    # [batch, N]
    shares = mixed[:, 0, 1:] if model.settings["pool"] == "token" else mixed.mean(dim=1)
    shares = shares / shares.sum(dim=1, keepdim=True)
    return shares.unflatten(1, (math.isqrt(shares.shape[1]), -1))


def overlay(images: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Images [batch, 3, H, W] in [-1, 1], dark where their maps [batch, rows, columns]
    are low, as in Figure 6.

    Returns pixels [batch, H, W, 3] in [0, 1] on the CPU, for imshow. The largest value of a map is
    full light, and 0 is black: a map without differences leaves its image as it is.
    """
    light = F.interpolate(maps[:, None].cpu(), size=images.shape[-2:], mode="bilinear",
                          align_corners=False)
    light = light / light.amax(dim=(1, 2, 3), keepdim=True)
    pixels = (images.cpu() * 0.5 + 0.5).clamp(0, 1) * light
    return pixels.permute(0, 2, 3, 1)
