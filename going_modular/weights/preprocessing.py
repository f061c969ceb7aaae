"""How each library prepares an image for its weights: sizes, interpolation, normalisation."""
import os
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from going_modular.datasets.images import as_rgb
from going_modular.utils import Size, sides

RESIZERS = ("pillow", "tensor", "sampled")


def resize_to_cover(image: Any, size: tuple[int, int], **options: Any) -> Any:
    """Scale an image, of whatever kind, so that it just covers (height, width): its aspect ratio is
    kept. It rounds as timm does. options: those of v2.functional.resize."""
    height, width = v2.functional.get_size(image)
    scale = min(height / size[0], width / size[1])
    return v2.functional.resize(image, [round(height / scale), round(width / scale)], **options)


@dataclass(frozen=True)
class Preprocessing:
    """What is done to an image before a model sees it. With an image size it is the transform
    itself: preprocessing(image) is a float tensor [channels, H, W].

    crop_pct: the side of the central crop as a fraction of the resized image's short side (timm's
        name for it): 0.875 for 224 px out of 256. None resizes to the crop's own shape and cuts
        nothing off.
    interpolation: "bilinear" or "bicubic".
    mean, std: of the normalisation (x - mean) / std, one number a channel, for x in [0, 1].
    resizer: what scales the image: "pillow", or "tensor", PyTorch on bytes, which rounds otherwise;
        "sampled" is PyTorch on floats without a filter against aliasing, as TensorFlow does it.
    image_size: in pixels.
    Raises ValueError for an unknown interpolation or resizer.
    """

    crop_pct: float | None
    interpolation: str
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    resizer: str = "pillow"
    image_size: Size | None = None

    def __post_init__(self) -> None:
        if self.interpolation not in ("bilinear", "bicubic"):
            raise ValueError(f"interpolation must be bilinear or bicubic, not "
                             f"{self.interpolation!r}")
        if self.resizer not in RESIZERS:
            raise ValueError(f"resizer must be one of {', '.join(RESIZERS)}, not {self.resizer!r}")

    def sized(self, image_size: Size, channels: int | None = None) -> "Preprocessing":
        """The same for another image size, and another number of channels, which all get the mean
        of the means and of the standard deviations."""
        mean, std = self.mean, self.std
        if channels not in (None, len(mean)):
            mean, std = ((sum(values) / len(values),) * channels for values in (mean, std))
        return replace(self, image_size=image_size, mean=mean, std=std)

    def renormalised(self, mean: float, std: float) -> "Preprocessing":
        """The same with this mean and standard deviation for each channel."""
        channels = len(self.mean)
        return replace(self, mean=(mean,) * channels, std=(std,) * channels)

    def differences(self, default: "Preprocessing") -> dict[str, Any]:
        """What a user of a library has to set to other values than its default ones."""
        names = ("crop_pct", "interpolation", "mean", "std")
        own, theirs = asdict(self), asdict(default)
        return {name: own[name] for name in names if own[name] != theirs[name]}

    def __call__(self, image_or_path: Image.Image | str | os.PathLike) -> torch.Tensor:
        """A photo of any kind, or its file -> what the model takes, [channels, H, W]: colours for
        three channels, grey for one.

        Raises DataError for a file that is no image, ValueError where there is no image size.
        """
        if self.image_size is None:
            raise ValueError("this preprocessing has no image size yet: use sized(image_size)")
        image: Any = as_rgb(image_or_path)
        if len(self.mean) == 1:
            image = image.convert("L")
        if self.resizer == "tensor":
            image = v2.functional.to_image(image)
        elif self.resizer == "sampled":
            image = v2.functional.to_dtype(v2.functional.to_image(image), scale=True)
        size = sides(self.image_size)
        options: dict[str, Any] = dict(interpolation=InterpolationMode(self.interpolation),
                                       antialias=self.resizer != "sampled")
        if self.crop_pct is None:
            image = v2.functional.resize(image, list(size), **options)
        elif size[0] == size[1]:  # of the short side: the aspect ratio is kept
            image = v2.functional.resize(image, [int(size[0] / self.crop_pct)], **options)
        else:
            larger = (int(size[0] / self.crop_pct), int(size[1] / self.crop_pct))
            image = resize_to_cover(image, larger, **options)
        image = v2.functional.center_crop(v2.functional.to_image(image), list(size))
        pixels = v2.functional.to_dtype(image, torch.float32, scale=True).as_subclass(torch.Tensor)
        return v2.functional.normalize(pixels, list(self.mean), list(self.std))


# How a run of this package sees an image when it is evaluated: datasets.views.CentralView.
OF_A_RUN = Preprocessing(crop_pct=1.0, interpolation="bilinear", resizer="tensor")
