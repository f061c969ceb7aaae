"""Position embeddings for another image size, interpolated as each library does it."""
import math
from typing import Any

import torch
import torch.nn.functional as F

from going_modular.utils import Size, sides

# The arguments of F.interpolate, by whose code is followed.
POSITION_INTERPOLATIONS: dict[str, dict[str, Any]] = {
    "official": dict(mode="bilinear", align_corners=True),
    "timm": dict(mode="bicubic", align_corners=False, antialias=True),
    "torchvision": dict(mode="bicubic", align_corners=True),
    "transformers": dict(mode="bicubic", align_corners=False),
}


def resize_positions(
    positions: torch.Tensor, grid: Size, kind: str = "official", old_grid: Size | None = None,
) -> torch.Tensor:
    """Interpolate position embeddings [1, 1 + n * m, D] to [1, 1 + rows * columns, D].

    That of the class token, if there is one, is kept as it is: it has no place in the image.

    grid: (rows, columns) of patches in the new image, or one number for a square.
    old_grid: (n, m), those of the positions given; None for a square.
    kind: "official", bilinear with aligned corners, as the paper's code does for fine-tuning at
        another resolution (Section 3.2); or "timm", "torchvision", "transformers", each as that
        library does it.
    Raises KeyError for another kind.
    """
    # The largest square that fits: what is left over in front is the class token, if the model has
    # one.
    n, m = sides(old_grid or math.isqrt(positions.shape[1]))
    class_token, patches = positions[:, : -n * m], positions[:, -n * m :]
    # The embeddings are interpolated as an image of n x m pixels with D channels.
    image = patches.transpose(1, 2).unflatten(2, (n, m))  # [1, D, n, m]
    image = F.interpolate(image, sides(grid), **POSITION_INTERPOLATIONS[kind])
    return torch.cat([class_token, image.flatten(2).transpose(1, 2)], dim=1)
