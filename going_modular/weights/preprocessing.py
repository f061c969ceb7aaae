"""How each library prepares an image for its weights: sizes, interpolation, normalisation."""
from dataclasses import dataclass

import torch
from torchvision.transforms import InterpolationMode, v2


@dataclass(frozen=True)
class Preprocessing:
    """What is done to an image before a model sees it, whatever the model's image size.

    crop_pct: the side of the central crop as a fraction of the resized image's short side (timm's
        name for it): 0.875 for 224 px out of 256. None resizes to a square and cuts nothing off.
    interpolation: "bilinear" or "bicubic".
    mean, std: of the normalisation (x - mean) / std, one number a channel, for x in [0, 1].
    antialias: False samples the image without a filter, as TensorFlow does.
    """

    crop_pct: float | None
    interpolation: str
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    antialias: bool = True

    def transform(self, image_size: int) -> v2.Compose:
        """The transform: PIL image -> float tensor [3, image_size, image_size]."""
        if self.crop_pct is None:
            size: int | tuple[int, int] = (image_size, image_size)
        else:
            size = int(image_size / self.crop_pct)  # of the short side: the aspect ratio is kept
        resize = v2.Resize(size, InterpolationMode(self.interpolation), antialias=self.antialias)
        to_tensor = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
        # Pillow always filters as it shrinks an image: only a tensor is resized without antialias.
        steps = [resize, *to_tensor] if self.antialias else [*to_tensor, resize]
        normalise = v2.Normalize(list(self.mean), list(self.std))
        return v2.Compose([*steps, v2.CenterCrop(image_size), normalise])
