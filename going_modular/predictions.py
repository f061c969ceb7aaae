"""Predict with a trained model. As a command: python -m going_modular.predictions RUN
IMAGE... [--save FILE]"""
import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from going_modular import plots
from going_modular.datasets.images import read_image
from going_modular.utils import RunInfo, load_model

IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def central_crops(images: torch.Tensor, crops: int) -> list[torch.Tensor]:
    """Views of images [batch, C, size, size]: `crops` central squares, at least two, whose sides go
    from the whole down to 0.65 of it, scaled up to the same size, and each of them mirrored.

    A model trained on random crops has seen objects larger than they appear in whole images
    (Touvron et al., 2019), so closer views suit it better.
    """
    size, views = images.shape[-1], []
    for i in range(crops):
        side = round(size * (1 - 0.35 * i / (crops - 1)))
        view = v2.functional.resize(v2.functional.center_crop(images, side), [size, size])
        views += [view, view.flip(-1)]
    return views


def shifts(images: torch.Tensor) -> list[torch.Tensor]:
    """Images [batch, C, size, size] of digits, black at -1, moved by a pixel along each
    diagonal, and as they are."""
    return list(v2.functional.five_crop(v2.functional.pad(images, [1], fill=-1.0),
                                        list(images.shape[-2:])))


def views_of(settings: dict) -> Callable[[torch.Tensor], list[torch.Tensor]] | None:
    """The function that makes the views of a test image for a run with these settings
    (--test-crops, --test-shifts): images [batch, C, size, size] -> a list of such batches.

    None where the image itself is the only view.
    """
    crops, of_digits = settings.get("test_crops", 1), settings.get("test_shifts")
    # Checkpoints from before --test-shifts existed: there, five crops of digits meant five shifts.
    if of_digits is None and crops == 5:
        of_digits = Path(str(settings.get("data"))).name in ("mnist", "drawn_digits")
    if of_digits:
        return shifts
    return partial(central_crops, crops=crops) if crops > 1 else None


class AveragedOverViews(nn.Module):
    """A model that averages its probabilities over views of an image (test-time augmentation):
    images [batch, C, size, size] -> log-probabilities [batch, num_classes].

    Log-probabilities serve as logits, as their softmax is the probabilities again.
    """

    def __init__(self, model: nn.Module, views: Callable[[torch.Tensor], list[torch.Tensor]]):
        super().__init__()
        self.model, self.views = model, views

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        # All views in one batch: [views * batch, C, size, size]
        views = self.views(images)
        probabilities = self.model(torch.cat(views)).float().softmax(dim=-1)
        return probabilities.unflatten(0, (len(views), -1)).mean(dim=0).log()


class Prediction(NamedTuple):
    """The most probable class, and the probability of each class by its name."""

    class_name: str
    probabilities: dict[str, float]


def predict(model: nn.Module, image_or_path: Image.Image | str | Path, info: RunInfo) -> Prediction:
    """Classify one image with a model and its info from `utils.load_model`.

    The image is transformed, and views of it are averaged, as in the evaluation of the model's run.
    Raises DataError where the file is not a valid image.
    """
    image = image_or_path if isinstance(image_or_path, Image.Image) else read_image(image_or_path)
    batch = info.transform(image.convert("RGB")).unsqueeze(0)
    views = views_of(info.settings)
    seen = AveragedOverViews(model, views) if views else model
    probabilities = predict_all(seen, [(batch, torch.zeros(1))])[0][0]
    shares = dict(zip(info.class_names, probabilities.tolist()))
    return Prediction(max(shares, key=lambda name: shares[name]), shares)


@torch.inference_mode()
def predict_all(model: nn.Module, dataloader: Iterable) -> tuple[torch.Tensor, torch.Tensor]:
    """(probabilities [images, num_classes], labels [images]) of all batches, on the CPU."""
    model.eval()
    device = next(model.parameters()).device
    # In mixed precision logits may come in half precision, too coarse for probabilities.
    probabilities, labels = zip(*[
        (model(images.to(device)).float().softmax(dim=-1).cpu(), y.cpu())
        for images, y in dataloader])
    return torch.cat(probabilities), torch.cat(labels)


def pred_and_plot_image(
    model: nn.Module, class_names: Sequence[str], image_path: str | Path,
    image_size: tuple[int, int] = (224, 224), transform: Callable | None = None,
    device: torch.device | str | None = None,
) -> None:
    """Classify an image file and draw it with its class and probability, in a new pyplot figure.

    It works with any classifier. Without a transform, a model of `weights.load` uses its own
    (model.preprocessing); for others the image is resized to image_size (height, width) and
    normalised with ImageNet's mean and standard deviation. For a model of `train`, pass
    info.transform of `utils.load_model`.

    device: where to run; None leaves the model where it is.
    """
    if device is not None:
        model.to(device)
    transform = transform or getattr(model, "preprocessing", None) or v2.Compose([
        v2.Resize(image_size), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    image = read_image(image_path)
    probabilities, _ = predict_all(model, [(transform(image).unsqueeze(0), torch.zeros(1))])
    plots.plot_predictions([image], probabilities, class_names)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m going_modular.predictions",
                                     description="Classify images.")
    parser.add_argument("run", help="the folder of a run, or a checkpoint (.pt)")
    parser.add_argument("images", nargs="+", metavar="image", help="image files")
    parser.add_argument("--save", metavar="FILE",
                        help="save a picture of the images and their classes, as PNG")
    args = parser.parse_args(argv)
    try:
        model, info = load_model(args.run)
        images = [read_image(path) for path in args.images]
        predictions = [predict(model, image, info) for image in images]
        for path, prediction in zip(args.images, predictions):
            print(f"{path}: {prediction.class_name} "
                  f"{prediction.probabilities[prediction.class_name]:.3f}")
        if args.save:
            probabilities = torch.tensor([list(prediction.probabilities.values())
                                          for prediction in predictions])
            plots.save(plots.plot_predictions(images, probabilities, info.class_names), args.save)
    except (ValueError, OSError) as error:  # a file or checkpoint that cannot be read: one line
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
