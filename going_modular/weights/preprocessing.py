"""How each library prepares an image for its weights: sizes, interpolation, normalisation."""
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torchvision.transforms import InterpolationMode, v2

from going_modular.utils import Size, sides


def resize_to_cover(image: Any, size: tuple[int, int], **options: Any) -> Any:
    """Scale an image, of whatever kind, so that it just covers (height, width): its aspect ratio is
    kept. It rounds as timm does. options: those of v2.functional.resize."""
    height, width = v2.functional.get_size(image)
    scale = min(height / size[0], width / size[1])
    return v2.functional.resize(image, [round(height / scale), round(width / scale)], **options)


@dataclass(frozen=True)
class Preprocessing:
    """What is done to an image before a model sees it, whatever the model's image size.

    crop_pct: the side of the central crop as a fraction of the resized image's short side (timm's
        name for it): 0.875 for 224 px out of 256. None resizes to the crop's own shape and cuts
        nothing off.
    interpolation: "bilinear" or "bicubic".
    mean, std: of the normalisation (x - mean) / std, one number a channel, for x in [0, 1].
    antialias: False samples the image without a filter, as TensorFlow does.
    """

    crop_pct: float | None
    interpolation: str
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    antialias: bool = True

    def transform(self, image_size: Size) -> v2.Compose:
        """The transform: PIL image -> float tensor [3, H, W]."""
        size = sides(image_size)
        options: dict[str, Any] = dict(
            interpolation=InterpolationMode(self.interpolation), antialias=self.antialias)
        if self.crop_pct is None:
            resize: Any = v2.Resize(size, **options)
        elif size[0] == size[1]:  # of the short side: the aspect ratio is kept
            resize = v2.Resize(int(size[0] / self.crop_pct), **options)
        else:
            larger = (int(size[0] / self.crop_pct), int(size[1] / self.crop_pct))
            resize = partial(resize_to_cover, size=larger, **options)
        to_tensor = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
        # Pillow always filters as it shrinks an image: only a tensor is resized without antialias.
        steps = [resize, *to_tensor] if self.antialias else [*to_tensor, resize]
        normalise = v2.Normalize(list(self.mean), list(self.std))
        return v2.Compose([*steps, v2.CenterCrop(size), normalise])
