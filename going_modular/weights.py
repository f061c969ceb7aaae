"""Weights of other libraries into a ViT: the same numbers, so the same logits.

A layout is what one library calls its weights. Each knows its own names and turns them into ours; what all share
(finding out the layout, the head for other classes, other image sizes, refusing what does not fit) stands once.
"""
import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from going_modular.vit import ViT


class WeightsError(ValueError):
    """Weights that cannot be used. The message lists what is missing, left over, or of another shape."""


class Torchvision:
    """torchvision.models.VisionTransformer: LayerNorm eps 1e-6, exact GELU, qkv in one matrix as ours."""

    name = "torchvision"
    marks = {"conv_proj.weight", "encoder.pos_embedding"}
    fixed = dict(layer_norm_eps=1e-6, gelu="erf", pool="token")
    renamed = [
        (r"^conv_proj\.", "patch_embedding.projection."),
        (r"^encoder\.pos_embedding$", "position_embedding"),
        (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
        (r"\.ln_([12])\.", r".norm\1."),
        (r"\.self_attention\.in_proj_", ".msa.qkv."),
        (r"\.self_attention\.out_proj\.", ".msa.out."),
        (r"\.mlp\.(0|linear_1)\.", ".mlp.hidden."),
        (r"\.mlp\.(3|linear_2)\.", ".mlp.out."),
        (r"^encoder\.ln\.", "norm."),
        (r"^heads\.pre_logits\.", "pre_logits.0."),
        (r"^heads\.head\.", "head."),
    ]

    def convert(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The same tensors under our names; names that are not known stay, to be reported as left over."""
        converted = {}
        for name, tensor in state.items():
            for pattern, replacement in self.renamed:
                name = re.sub(pattern, replacement, name)
            converted[name] = tensor
        if converted["patch_embedding.projection.weight"].ndim == 4:  # [D, C, P, P], a convolution
            converted["patch_embedding.projection.weight"] = converted["patch_embedding.projection.weight"].flatten(1)
        return converted

    def patch_shape(self, state: Mapping[str, torch.Tensor]) -> tuple[int, int]:
        """(in_channels, patch_size) of the source."""
        shape = state["conv_proj.weight"].shape
        return shape[1], shape[-1]


LAYOUTS = [Torchvision()]


def load(
    model_or_variant: ViT | str, source: Mapping[str, torch.Tensor] | nn.Module, num_classes: int | None = None,
    image_size: int | None = None,
) -> ViT:
    """Load weights of another library: a given ViT is filled in place, a variant ("B/16") is built to fit the source.

    source: a module, or its state dict; the layout is found out by the names inside (torchvision).
    num_classes: None keeps the source's classes and head; another number gives one fresh linear layer of zeros.
    image_size: in pixels; None keeps the source's; at another one the position embeddings are interpolated.
    A given model must have these same sizes. Nothing is changed where anything is wrong.
    Raises WeightsError where the layout is unknown, or anything is missing, left over, or of another shape.
    """
    state = source.state_dict() if isinstance(source, nn.Module) else source
    if not isinstance(state, Mapping):
        raise WeightsError(f"a source is a module or its state dict, not {type(source).__name__}")
    layout = next((layout for layout in LAYOUTS if layout.marks <= set(state)), None)
    if layout is None:
        known = ", ".join(layout.name for layout in LAYOUTS)
        raise WeightsError(f"unknown layout, with names such as {', '.join(list(state)[:3])}; known are: {known}")
    in_channels, patch_size = layout.patch_shape(state)
    weights = layout.convert(state)

    missing = {"position_embedding", "head.weight"} - set(weights)
    if missing:
        raise WeightsError(f"missing: {', '.join(sorted(missing))}")
    grid = round((weights["position_embedding"].shape[1] - 1) ** 0.5)
    if num_classes not in (None, weights["head.weight"].shape[0]):  # the whole head goes, its tanh layer too
        width = weights["position_embedding"].shape[2]
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith("pre_logits.")}
        weights["head.weight"], weights["head.bias"] = torch.zeros(num_classes, width), torch.zeros(num_classes)
    if image_size not in (None, grid * patch_size):
        if image_size % patch_size:
            raise WeightsError(f"the patch size {patch_size} does not divide the image size {image_size}")
        weights["position_embedding"] = resize_positions(weights["position_embedding"], image_size // patch_size)
    fitting = dict(
        image_size=image_size or grid * patch_size, patch_size=patch_size, in_channels=in_channels,
        num_classes=weights["head.weight"].shape[0], **layout.fixed,
    )

    model = model_or_variant
    if isinstance(model, str):
        if "pre_logits.0.bias" in weights:
            fitting["representation_size"] = len(weights["pre_logits.0.bias"])
        try:
            model = ViT.from_variant(model, **fitting)
        except ValueError as error:
            raise WeightsError(f"{error} (the source: {layout.name}, {in_channels} channels)") from None
    else:
        other = [f"{name} is {model.settings[name]} in the model, {value} in the source"
                 for name, value in fitting.items() if model.settings[name] != value]
        if other:
            raise WeightsError("; ".join(other))
    _fill(model, weights)
    return model


def resize_positions(positions: torch.Tensor, grid: int) -> torch.Tensor:
    """Interpolate position embeddings [1, 1 + n * n, D] to [1, 1 + grid * grid, D], the first one kept as it is.

    Bilinear with aligned corners, as the official code does for fine-tuning at another resolution (Section 3.2).
    """
    token, old = positions[:, :1], positions[:, 1:]
    size = round(old.shape[1] ** 0.5)
    old = old.transpose(1, 2).unflatten(2, (size, size))  # [1, D, n, n]
    new = F.interpolate(old, size=(grid, grid), mode="bilinear", align_corners=True)
    return torch.cat([token, new.flatten(2).transpose(1, 2)], dim=1)


def _fill(model: ViT, weights: Mapping[str, torch.Tensor]) -> None:
    """Copy the weights into the model, after making sure that every tensor has its place and its shape."""
    own = model.state_dict()
    problems = [f"missing: {name}" for name in own.keys() - weights.keys()]
    problems += [f"left over: {name}" for name in weights.keys() - own.keys()]
    problems += [f"{name} has the shape {[*weights[name].shape]}, the model's is {[*own[name].shape]}"
                 for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape]
    if problems:
        raise WeightsError("the weights do not fit the model; " + "; ".join(sorted(problems)))
    model.load_state_dict(weights)
