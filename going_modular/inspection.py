"""Look inside a trained ViT: from which patches does its answer come?

    maps = inspection.rollout_maps(model, images)  # [batch, rows, columns]
    plt.imshow(inspection.overlay(images, maps)[0])
"""
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from going_modular.vit import ViT


@torch.no_grad()
def attentions(model: ViT, images: torch.Tensor) -> list[torch.Tensor]:
    """The attention weights (Equation 6) of each block, first to last: each [batch, num_heads, tokens, tokens].

    images [batch, C, H, W] go to the model's device, where the result lies too. The model is set to evaluation mode.
    """
    seen = {}
    model.eval()(images.to(next(model.parameters()).device), intermediates=seen)
    return [seen[f"block{layer:02}.attention"] for layer in range(len(model.blocks))]


def rollout(attentions: Sequence[torch.Tensor], residual: bool = True) -> torch.Tensor:
    """Attention rollout (Abnar and Zuidema, 2020): how much of each input token has come into each output token.

    attentions: those of all layers, first to last, each [batch, num_heads, tokens, tokens] with rows that sum to 1.
    Returns [batch, tokens, tokens]: row i shares out output token i among the input tokens, so it sums to 1 as well.

    The heads are averaged and the layers' matrices A multiplied, as for Figures 6 and 14 of the ViT paper (Appendix
    D.8). A block also adds its input to what attention gives (Equation 2); for that, Abnar and Zuidema take
    (A + I) / 2 in place of A. The ViT paper's words leave this out: residual=False.
    Raises ValueError where attentions is empty.
    """
    if not len(attentions):
        raise ValueError("no attention weights are given, rollout needs those of one layer at least")
    result = identity = torch.eye(attentions[0].shape[-1], device=attentions[0].device)
    for attention in attentions:
        mixing = attention.float().mean(dim=1)  # over the heads: [batch, tokens, tokens]
        if residual:
            mixing = (mixing + identity) / 2
        result = mixing @ result  # a later layer mixes what the earlier ones have mixed
    return result


def rollout_maps(model: ViT, images: torch.Tensor, residual: bool = True) -> torch.Tensor:
    """Where the model looks: images [batch, C, H, W] -> [batch, rows, columns], a share for each patch, their sum 1.

    It is the row of `rollout` that belongs to what the head reads: the class token's, without its share in itself, or
    the mean over all patches in a model with pool="mean".
    """
    mixed = rollout(attentions(model, images), residual)
    shares = mixed[:, 0, 1:] if model.settings["pool"] == "token" else mixed.mean(dim=1)  # [batch, N]
    shares = shares / shares.sum(dim=1, keepdim=True)
    return shares.unflatten(1, (math.isqrt(shares.shape[1]), -1))


def overlay(images: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Images [batch, 3, H, W] in [-1, 1], dark where their maps [batch, rows, columns] are low, as in Figure 6.

    Returns pixels [batch, H, W, 3] in [0, 1] on the CPU, for imshow. The largest value of a map is full light, and 0
    is black: a map without differences leaves its image as it is.
    """
    light = F.interpolate(maps[:, None].cpu(), size=images.shape[-2:], mode="bilinear", align_corners=False)
    light = light / light.amax(dim=(1, 2, 3), keepdim=True)
    pixels = (images.cpu() * 0.5 + 0.5).clamp(0, 1) * light
    return pixels.permute(0, 2, 3, 1)
