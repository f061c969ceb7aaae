"""Views: PIL image -> float tensor [3, H, W] in [-1, 1], of the height and width asked for.

That is a mean and a standard deviation of 0.5 for each channel, as in the code of the paper.

    augmented, plain = train_transform(64), eval_transform(64)
    tensor = augmented(image)
"""
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.transforms import v2

from going_modular.datasets.images import to_image, to_pixels
from going_modular.utils import Size, sides


def _resize(pixels: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """uint8 [3, H, W] scaled to (height, width), bilinear, antialiased; unchanged at that size."""
    if pixels.shape[1:] == size:
        return pixels
    return F.interpolate(pixels[None], size, mode="bilinear", antialias=True)[0]


class View:
    """Images -> tensors [batch, 3, H, W] in [-1, 1], in two halves: `cut` does what each image
    needs for itself, in bytes; `finish` does the rest for a whole batch at once, on the device
    where it lies.
    Called with one PIL image it returns [3, H, W]."""

    def cut(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """uint8 [3, height, width], which stays as it is -> what `finish` takes, without the batch:
        uint8 [3, H, W], and what else it needs."""
        raise NotImplementedError

    def finish(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 [batch, 3, H, W] -> the same in [-1, 1]."""
        return pixels.float().div_(127.5).sub_(1)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        return self.finish(*(part[None] for part in self.cut(to_pixels(image))))[0]


class AnyView(View):
    """The view that any transform of a PIL image makes, whole, image by image."""

    def __init__(self, transform: Callable):
        self.transform = transform

    def cut(self, pixels: torch.Tensor) -> tuple[torch.Tensor]:
        return self.transform(to_image(pixels)),

    def finish(self, images: torch.Tensor) -> torch.Tensor:
        return images


def recolor(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """The colours of each image times a brightness, then spread by a contrast about its mean grey,
    then by a saturation about the grey of each pixel; 1 changes nothing. images: [batch, 3, H, W]
    in [-1, 1]; factors: [batch, 3].

    All three are linear in the colours, so one matrix and one offset for each image make them all.
    """
    brightness, contrast, saturation = factors[..., None, None].unbind(dim=1)  # [batch, 1, 1] each
    # How bright red, green and blue look: the weights of Pillow's grey (ITU-R BT.601).
    # Each is filled in on the device, as the copy of a list to a GPU would wait for the last batch.
    grey = torch.stack([torch.full((), weight, device=images.device)
                        for weight in (0.299, 0.587, 0.114)])
    # Row i makes channel i of the result, [batch, 3, 3]. Saturation leaves a grey as it is, so what
    # contrast adds, a grey, may be added last, with the rest of the offset. Black is -1, not 0:
    # hence brightness - 1.
    identity = torch.eye(3, device=images.device)
    matrix = brightness * contrast * ((1 - saturation) * grey + saturation * identity)
    mean = images.mean(dim=(2, 3)) @ grey  # [batch]
    offset = brightness * (1 - contrast) * mean[:, None, None] + brightness - 1  # [batch, 1, 1]
    return torch.baddbmm(offset, matrix, images.flatten(2)).clamp_(-1, 1).view_as(images)


def warp(image: Image.Image, turn: float, shear: float, zoom: tuple[float, float],
         shift: Sequence[float]) -> Image.Image:
    """Turned clockwise about its centre by so many degrees, sheared (the top moves to the right by
    this share of half the height, the bottom to the left), zoomed sideways and upright by these
    factors, and shifted by these shares of its width and height to the right and down. What comes
    in from outside is black."""
    # Pillow asks where each place of the result comes from, so this is the inverse of all four.
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    a, b, d, e = cos, sin + shear * cos, -sin, cos - shear * sin
    a, b, d, e = a / zoom[0], b / zoom[1], d / zoom[0], e / zoom[1]
    x, y = image.width * (0.5 + shift[0]), image.height * (0.5 + shift[1])  # where its centre goes
    matrix = (a, b, image.width / 2 - a * x - b * y, d, e, image.height / 2 - d * x - e * y)
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


class RandomView(View):
    """A random crop, mirrored half of the time, its colours shifted; on request warped before, as
    digits want it.

    The same as torchvision's RandomAffine, RandomResizedCrop, RandomHorizontalFlip, ColorJitter,
    ToImage, ToDtype and Normalize in a row, with less work: one resize cuts and scales, one matrix
    changes all colours (`finish`). Only the warp is different, and what becomes of a crop that does
    not fit into the image: RandomAffine zooms both sides alike, this each on its own;
    RandomResizedCrop draws again, this shortens the side that is too long. Random numbers come from
    torch's default generator. before: a change of the PIL image that comes before all others.
    """

    def __init__(self, image_size: Size, min_scale: float, flip: bool, color_jitter: float,
                 stretch: float = 4 / 3, turn: float = 0.0, shear: float = 0.0, zoom: float = 0.0,
                 shift: float = 0.0, before: Callable | None = None):
        self.size, self.min_scale, self.stretch = sides(image_size), min_scale, stretch
        self.flip, self.color_jitter, self.before = flip, color_jitter, before
        self.warp_limits = (turn, shear, zoom, zoom, shift, shift)

    def cut(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if self.before:
            pixels = to_pixels(self.before(to_image(pixels)))
        # Each part of the warp is uniform between minus its limit and its limit.
        if any(self.warp_limits):
            turn, shear, wider, higher, *shift = (
                limit * (1 - 2 * number)
                for limit, number in zip(self.warp_limits, torch.rand(6).tolist()))
            pixels = to_pixels(warp(to_image(pixels), turn, shear, (1 + wider, 1 + higher), shift))

        # All numbers are drawn at once, used or not: the crop stays the same without mirroring.
        numbers = torch.rand(8)
        scale, shape, left, top, mirror = numbers[:5].tolist()
        _, height, width = pixels.shape

        # The crop: its area is uniform, the ratio of its sides is uniform on a logarithmic scale
        # about that of the view, which for a square is RandomResizedCrop's; then its place.
        area = width * height * (self.min_scale + (1 - self.min_scale) * scale)
        ratio = self.stretch ** (2 * shape - 1) * (self.size[1] / self.size[0])
        crop_width = min(max(1, round((area * ratio) ** 0.5)), width)
        crop_height = min(max(1, round((area / ratio) ** 0.5)), height)
        left, top = round(left * (width - crop_width)), round(top * (height - crop_height))
        crop = pixels[:, top : top + crop_height, left : left + crop_width]
        view = _resize(crop, self.size)
        view = view.flip(2) if self.flip and mirror < 0.5 else view
        if not self.color_jitter:
            return (view,)
        # `finish` also gets the factors of `recolor`, from 1 - color_jitter to 1 + color_jitter.
        return view, 1 + self.color_jitter * (2 * numbers[5:] - 1)

    def finish(self, pixels: torch.Tensor, factors: torch.Tensor | None = None) -> torch.Tensor:
        images = super().finish(pixels)
        return images if factors is None else recolor(images, factors)


class CentralView(View):
    """The image scaled so that it just covers image_size, then its middle: nothing is random."""

    def __init__(self, image_size: Size):
        self.size = sides(image_size)

    def cut(self, pixels: torch.Tensor) -> tuple[torch.Tensor]:
        (_, height, width), (rows, columns) = pixels.shape, self.size
        if height * columns < width * rows:  # too wide: its height is scaled to that of the view
            size = (rows, width * rows // height)
        else:
            size = (height * columns // width, columns)
        return v2.functional.center_crop(_resize(pixels, size), [rows, columns]),


def train_transform(image_size: Size, min_scale: float = 0.35, flip: bool = True,
                    color_jitter: float = 0.2, trivial_augment: float = 0.0, stretch: float = 4 / 3,
                    turn: float = 0.0, shear: float = 0.0, zoom: float = 0.0, shift: float = 0.0,
                    ) -> RandomView:
    """Augmentation for a small set of photos, so that no image is seen twice in the same way.

    image_size: in pixels, (H, W), or one number for a square.
    min_scale: a crop, in whole pixels, covers this share of the image or more, unless its shape
        does not fit; smaller crops may miss the dish.
    flip: mirror half of the images; not for digits (ImageData.flip).
    color_jitter: brightness, contrast and saturation vary by up to this share; hue does not, as it
        tells dishes apart.
    trivial_augment: the share of images that go through TrivialAugment first (one random change of
        colours or of geometry, of random strength; Mueller and Hutter, 2021).
    stretch: the most by which one side of a crop is longer than the other, of a square; a
        rectangle is stretched by as much.
    turn, shear, zoom, shift: the most by which an image is turned (degrees) and sheared sideways
        (share of its height), its width and its height change (share of them), and it is moved
        (share of its side); for digits, as writing slants and varies. Black comes in.
    """
    before = v2.RandomApply([v2.TrivialAugmentWide()], trivial_augment) if trivial_augment else None
    return RandomView(image_size, min_scale, flip, color_jitter, stretch, turn, shear, zoom, shift,
                      before)


def eval_transform(image_size: Size) -> CentralView:
    """The image scaled so that it just covers image_size, (H, W) or one number for a square, then
    its middle; a tensor in [-1, 1]."""
    return CentralView(image_size)
