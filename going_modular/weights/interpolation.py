"""Position embeddings for another image size, interpolated as each library does it."""
import math
from typing import Any

import torch
import torch.nn.functional as F

# The arguments of F.interpolate, by whose code is followed.
POSITION_INTERPOLATIONS: dict[str, dict[str, Any]] = {
    "official": dict(mode="bilinear", align_corners=True),
    "timm": dict(mode="bicubic", align_corners=False, antialias=True),
    "torchvision": dict(mode="bicubic", align_corners=True),
    "transformers": dict(mode="bicubic", align_corners=False),
}


def resize_positions(positions: torch.Tensor, grid: int, kind: str = "official") -> torch.Tensor:
    """Interpolate position embeddings [1, 1 + n * n, D] to [1, 1 + grid * grid, D].

    That of the class token, if there is one, is kept as it is: it has no place in the image.

    grid: patches along a side of the new image.
    kind: "official", bilinear with aligned corners, as the paper's code does for fine-tuning at
        another resolution (Section 3.2); or "timm", "torchvision", "transformers", each as that
        library does it.
    Raises KeyError for another kind.
    """
    # n * n is the largest square that fits: what is left over in front is the class token, if the
    # model has one.
    size = math.isqrt(positions.shape[1])
    class_token, patches = positions[:, : -(size**2)], positions[:, -(size**2) :]
    # The embeddings are interpolated as an image of n x n pixels with D channels.
    image = patches.transpose(1, 2).unflatten(2, (size, size))  # [1, D, n, n]
    image = F.interpolate(image, (grid, grid), **POSITION_INTERPOLATIONS[kind])  # [1, D, grid, grid]
    return torch.cat([class_token, image.flatten(2).transpose(1, 2)], dim=1)
