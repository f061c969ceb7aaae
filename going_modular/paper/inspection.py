"""Look inside a trained ViT: what it has learned, and which patches its answer depends on (Figures
6 and 7).

    components, shares = inspection.filter_components(model)  # Figure 7, left
    similarity = inspection.position_similarity(model)  # Figure 7, centre
    attentions = inspection.attentions(model, images)
    distances = inspection.attention_distance(attentions, model.grid, patch_size=16)  # ... right

    maps = inspection.rollout_maps(model, images)  # [batch, rows, columns]
    plt.imshow(inspection.overlay(images, maps)[0])  # Figure 6
    maps = inspection.grad_cam_maps(model, images, classes)  # for one class; not in the paper
"""
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from going_modular.utils import Size, sides
from going_modular.vit import ViT


def check_ours(model: object) -> None:
    """Raise TypeError unless a model has the parts of a ViT of this package, by name."""
    parts = ("settings", "patch_embedding", "position_embedding", "blocks")
    if lacking := [part for part in parts if not hasattr(model, part)]:
        raise TypeError(f"expected a ViT of this package, and this {type(model).__name__} has no "
                        f"{lacking[0]}: weights.load fills a ViT with the weights of torchvision, "
                        "timm or transformers")


@torch.no_grad()
def filter_components(model: ViT, count: int = 28) -> tuple[torch.Tensor, torch.Tensor]:
    """The principal components of the patch embedding's filters, as in Figure 7, left, which shows
    28 of ViT-L/32.

    A filter has the size of a patch: it is the row of E^T (Equation 1) that gives one number of the
    embedding.

    Returns (components [count, C, P, P], shares [count]) on the model's device. The components are
    orthogonal and of length 1, sorted by their share of the filters' variance, largest first. The
    sign of a component has no meaning; here its entry with the largest magnitude is positive.
    Raises ValueError where there are fewer than `count` components: min(hidden_size, C * P * P),
    and TypeError for a model that is not ours.
    """
    check_ours(model)
    weight = model.patch_embedding.projection.weight.float()  # [hidden_size, C * P * P]
    if not 1 <= count <= min(weight.shape):
        raise ValueError(f"there are {min(weight.shape)} components, not {count}")
    # Principal components are the right singular vectors of the centred filters; the squares of the
    # singular values are in proportion to the variances.
    _, sizes, components = torch.linalg.svd(weight - weight.mean(dim=0), full_matrices=False)
    shares = sizes**2 / (sizes**2).sum()
    components = components[:count]
    largest = components.gather(1, components.abs().argmax(dim=1, keepdim=True))
    side = model.settings["patch_size"]
    return (components * largest.sign()).unflatten(1, (-1, side, side)), shares[:count]


@torch.no_grad()
def position_similarity(model: ViT) -> torch.Tensor:
    """The cosine similarity of the position embeddings of every pair of patches:
    [rows, columns, rows, columns].

    similarity[r, c] is the tile of the patch in row r and column c in Figures 7 (centre) and 10.
    The class token has no place in the image and is left out. Raises TypeError for a model that is
    not ours.
    """
    check_ours(model)
    positions = model.position_embedding[0].float()
    positions = F.normalize(positions[-math.prod(model.grid) :], dim=-1)  # [N, hidden_size]
    return (positions @ positions.T).unflatten(1, model.grid).unflatten(0, model.grid)


def patch_distances(grid: Size, patch_size: int) -> torch.Tensor:
    """The distances between the centres of every pair of N patches, in pixels: [N, N].

    grid: (rows, columns) of patches, or one number for a square.
    """
    rows, columns = (torch.arange(side, dtype=torch.float32) * patch_size for side in sides(grid))
    places = torch.cartesian_prod(rows, columns)  # row by row, as patchify cuts
    return (places[:, None] - places).norm(dim=-1)


def attention_distance(
    attentions: Sequence[torch.Tensor], grid: Size, patch_size: int,
) -> torch.Tensor:
    """The mean attention distance in pixels, as in Figures 7 (right) and 11: [layers, num_heads].

    For each query patch, the distances to all patches (0 to itself) are averaged with its attention
    weights; then the mean is taken over patches and images. The class token has no place in the
    image. It is left out as a query and as a key, and the other weights are rescaled to sum to 1.

    attentions: the result of `attentions`, each [batch, num_heads, tokens, tokens].
    grid: (rows, columns) of patches, or one number for a square: that of a ViT is model.grid.
    Raises ValueError where the tokens are not those of the grid, with or without a class token.
    """
    tokens, (rows, columns) = attentions[0].shape[-1], sides(grid)
    first = tokens - rows * columns  # 1 where there is a class token
    if first not in (0, 1):
        raise ValueError(f"{tokens} tokens are not {rows} x {columns} patches, with or without a "
                         "class token")
    distances = patch_distances(grid, patch_size).to(attentions[0].device)
    found = []
    for attention in attentions:
        weights = attention[..., first:, first:].float()  # [batch, num_heads, N, N]
        weights = weights / weights.sum(dim=-1, keepdim=True)
        found.append((weights * distances).sum(dim=-1).mean(dim=(0, 2)))
    return torch.stack(found)


def attended_tokens(attentions: Sequence[torch.Tensor]) -> torch.Tensor:
    """The number of tokens that a query attends to, from 1 to the number of tokens:
    [layers, num_heads].

    It is the perplexity, exp of the entropy, of the attention weights: n where n tokens share the
    weight equally. The entropies are averaged over queries and images. Not in the paper.

    attentions: each [batch, num_heads, queries, tokens].
    """
    entropies = [torch.special.entr(attention.float()).sum(dim=-1).mean(dim=(0, 2))
                 for attention in attentions]
    return torch.stack(entropies).exp()


@torch.no_grad()
def attentions(model: ViT, images: torch.Tensor) -> list[torch.Tensor]:
    """The attention weights (Equation 6) of each block, first to last: each
    [batch, num_heads, tokens, tokens].

    images [batch, C, H, W] are moved to the model's device, and the result is there too. The model
    is set to evaluation mode. Raises TypeError for a model that is not ours, and ValueError for
    images of another shape than the model's.
    """
    check_ours(model)
    seen: dict[str, torch.Tensor] = {}
    model.eval()(images.to(next(model.parameters()).device), intermediates=seen)
    return [seen[f"block{layer:02}.attention"] for layer in range(len(model.blocks))]


def rollout(attentions: Sequence[torch.Tensor], residual: bool = True) -> torch.Tensor:
    """Attention rollout (Abnar and Zuidema, 2020): how much each input token contributes to each
    output token.

    The heads are averaged and the matrices A of the layers multiplied, as for Figures 6 and 14 of
    the ViT paper (Appendix D.8). A block also adds its input to the result of attention
    (Equation 2), for which Abnar and Zuidema take (A + I) / 2 in place of A. The ViT paper does not
    mention this step; residual=False leaves it out.

    attentions: those of all layers, first to last, each [batch, num_heads, tokens, tokens] with
        rows that sum to 1.
    Returns [batch, tokens, tokens]: row i has the shares of the input tokens in output token i, and
    sums to 1 as well. Raises ValueError where attentions is empty.
    """
    if not len(attentions):
        raise ValueError(
            "no attention weights are given, rollout needs those of one layer at least")
    result = identity = torch.eye(attentions[0].shape[-1], device=attentions[0].device)
    for attention in attentions:
        mixing = attention.float().mean(dim=1)  # over the heads: [batch, tokens, tokens]
        if residual:
            mixing = (mixing + identity) / 2
        result = mixing @ result  # a later layer mixes what the earlier ones have mixed
    return result


def rollout_maps(model: ViT, images: torch.Tensor, residual: bool = True) -> torch.Tensor:
    """The patches that the model's answer depends on: images [batch, C, H, W] -> a share for each
    patch [batch, rows, columns], with the sum 1.

    It is the row of `rollout` for what the head reads: that of the class token, without its share
    in itself, or in a model with pool="mean" the mean over all patches.
    """
    mixed = rollout(attentions(model, images), residual)
    shares = mixed[:, 0, 1:] if model.settings["pool"] == "token" else mixed.mean(dim=1)
    shares = shares / shares.sum(dim=1, keepdim=True)  # [batch, N]
    return shares.unflatten(1, model.grid)


def grad_cam_maps(model: ViT, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Grad-CAM (Selvaraju et al., 2017, Equations 1 and 2) with tokens in place of the last feature
    maps of a CNN: where the features lie that raise the logit of one class.

    The tokens are those after the first LayerNorm of the last block, without the class token. The
    weight of each of their D features is the mean of the logit's gradient over the patches.

    images [batch, C, H, W] and classes [batch], of whole numbers, are moved to the model's device.
    Returns maps [batch, rows, columns] of numbers >= 0, in the units of the logit, all 0 where no
    patch has a positive sum. The model is set to evaluation mode, and no gradient stays in it.
    Raises TypeError for a model that is not ours, and ValueError for images of another shape than
    the model's.
    """
    check_ours(model)
    device = next(model.parameters()).device
    seen: dict[str, torch.Tensor] = {}
    hook = model.blocks[-1].get_submodule("norm1").register_forward_hook(
        lambda norm, inputs, output: seen.update(tokens=output))
    images = images.detach().to(device).requires_grad_()  # so that a frozen model has gradients, too
    try:
        logits = model.eval()(images)
    finally:  # the model is left as it was, also where it refuses the images
        hook.remove()
    tokens = seen["tokens"]
    classes = classes.to(device).clone()  # answers found in inference mode can't enter a graph
    chosen = logits.gather(1, classes[:, None]).sum()  # each image has its own logit
    (gradients,) = torch.autograd.grad(chosen, tokens)  # [batch, tokens, D]
    patches = math.prod(model.grid)  # the last tokens; the class token comes first, where there is one
    importance = gradients[:, -patches:].mean(dim=1, keepdim=True)  # alpha: [batch, 1, D]
    maps = (importance * tokens[:, -patches:]).sum(dim=-1).relu().detach()  # m: [batch, N]
    return maps.unflatten(1, model.grid)


def overlay(images: torch.Tensor, maps: torch.Tensor, model: ViT | None = None) -> torch.Tensor:
    """Images [batch, C, H, W], of three channels or one, dark where their maps
    [batch, rows, columns] are low, as in Figure 6.

    model: the one that the images were prepared for, by model.preprocessing, whose normalisation is
        undone; None for images in [-1, 1].
    Returns pixels [batch, H, W, 3] in [0, 1] on the CPU, for imshow. Where a map has its largest
    value the image keeps its brightness, and where it is 0 the image is black.
    """
    preprocessing = None if model is None else model.preprocessing
    mean, std = (preprocessing.mean, preprocessing.std) if preprocessing else ((0.5,), (0.5,))
    light = F.interpolate(maps[:, None].cpu(), size=images.shape[-2:], mode="bilinear",
                          align_corners=False)
    light = light / light.amax(dim=(1, 2, 3), keepdim=True)
    mean, std = (torch.tensor(values)[:, None, None] for values in (mean, std))
    pixels = (images.cpu() * std + mean).clamp(0, 1) * light
    return pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1)
