"""Predict with a trained model. As a command: python -m going_modular.predictions RUN
IMAGE_OR_FOLDER... [--save FILE]"""
import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from going_modular import plots
from going_modular.datasets.folders import images_in
from going_modular.datasets.images import DataError, as_rgb
from going_modular.utils import RunInfo, lasting_output, load_model, sides

IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".pdf", ".svg")  # what --save writes
MOST_SHOWN = 60  # images on the sheet of --save


def central_crops(images: torch.Tensor, crops: int) -> list[torch.Tensor]:
    """Views of images [batch, C, H, W]: `crops` central parts, at least two, whose sides go from
    the whole down to 0.65 of it, scaled up to the same size, and each of them mirrored.

    A model trained on random crops has seen objects larger than they appear in whole images
    (Touvron et al., 2019), so closer views suit it better.
    """
    size, views = list(images.shape[-2:]), []
    for i in range(crops):
        share = 1 - 0.35 * i / (crops - 1)
        part = v2.functional.center_crop(images, [round(side * share) for side in size])
        view = v2.functional.resize(part, size)
        views += [view, view.flip(-1)]
    return views


def shifts(images: torch.Tensor) -> list[torch.Tensor]:
    """Images [batch, C, H, W] of digits, black at -1, moved by a pixel along each
    diagonal, and as they are."""
    return list(v2.functional.five_crop(v2.functional.pad(images, [1], fill=-1.0),
                                        list(images.shape[-2:])))


def views_of(settings: dict) -> Callable[[torch.Tensor], list[torch.Tensor]] | None:
    """The function that makes the views of a test image for a run with these settings
    (--test-crops, --test-shifts): images [batch, C, H, W] -> a list of such batches.

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
    images [batch, C, H, W] -> log-probabilities [batch, num_classes].

    Log-probabilities serve as logits, as their softmax is the probabilities again.
    """

    def __init__(self, model: nn.Module, views: Callable[[torch.Tensor], list[torch.Tensor]]):
        super().__init__()
        self.model, self.views = model, views

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        # All views in one batch: [views * batch, C, H, W]
        views = self.views(images)
        probabilities = self.model(torch.cat(views)).float().softmax(dim=-1)
        return probabilities.unflatten(0, (len(views), -1)).mean(dim=0).log()


class Prediction(NamedTuple):
    """The most probable class, and the probability of each class by its name, in the order of the
    classes. A name that several classes share is followed by the number of the class, counted from
    0: "crane (class 134)"."""

    class_name: str
    probabilities: dict[str, float]


def predict(model: nn.Module, image_or_path: Image.Image | str | Path, info: RunInfo) -> Prediction:
    """Classify one image with a model and its info from `utils.load_model`.

    The image is transformed, and views of it are averaged, as in the evaluation of the model's run.
    Raises DataError where it is not a valid image.
    """
    views = views_of(info.settings)
    seen = AveragedOverViews(model, views) if views else model
    probabilities = checked_probabilities(seen, info.transform(as_rgb(image_or_path)),
                                          info.class_names)
    names = told_apart(info.class_names)
    return Prediction(names[int(probabilities.argmax())],
                      dict(zip(names, probabilities.tolist(), strict=True)))


def told_apart(class_names: Sequence[str]) -> list[str]:
    """The names of the classes, where those that several classes share get the class number."""
    counts = Counter(class_names)
    return [name if counts[name] == 1 else f"{name} (class {number})"
            for number, name in enumerate(class_names)]


def checked_probabilities(
    model: nn.Module, image: torch.Tensor, class_names: Sequence[str],
) -> torch.Tensor:
    """The probabilities [num_classes] of one transformed image [C, H, W].

    Raises ValueError where the model has another number of classes than there are names.
    """
    probabilities = predict_all(model, [(image.unsqueeze(0), torch.zeros(1))])[0][0]
    if len(probabilities) != len(class_names):
        raise ValueError(f"the model has {len(probabilities)} classes, and {len(class_names)} "
                         "class names are given: give one for each, in the order of training")
    return probabilities


@torch.inference_mode()
def predict_all(model: nn.Module, dataloader: Iterable) -> tuple[torch.Tensor, torch.Tensor]:
    """(probabilities [images, num_classes], labels [images]) of all batches, on the CPU."""
    model.eval()
    weight = next(model.parameters(), torch.empty(0))  # images go where the weights are
    # In mixed precision logits may come in half precision, too coarse for probabilities.
    probabilities, labels = zip(*[
        (model(images.to(weight.device, weight.dtype)).float().softmax(dim=-1).cpu(), y.cpu())
        for images, y in dataloader])
    return torch.cat(probabilities), torch.cat(labels)


def own_transform(model: nn.Module, image_size: tuple[int, int]) -> Callable:
    """The transform PIL image -> [3, H, W] of a model: its own, where it has one
    (model.preprocessing), else its own size, where it says one (model.settings), with ImageNet's
    mean and standard deviation. image_size: (height, width) for a model that says neither."""
    if transform := getattr(model, "preprocessing", None):
        return transform
    settings = getattr(model, "settings", None)
    if isinstance(settings, dict) and (size := settings.get("image_size")):
        image_size = sides(size)
    return v2.Compose([v2.Resize(image_size), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
                       v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)])


def pred_and_plot_image(
    model: nn.Module, class_names: Sequence[str], image_path: str | Path,
    image_size: tuple[int, int] = (224, 224), transform: Callable | None = None,
    device: torch.device | str | None = None,
) -> None:
    """Classify an image file and draw it with its class and probability, in a new pyplot figure.

    It works with any classifier. Without a transform, a model of `weights.load` uses its own
    (model.preprocessing); for others the image is resized, to the size of the model if it is a ViT
    of ours, else to image_size (height, width), and normalised with ImageNet's mean and standard
    deviation. For a model of `train`, pass info.transform of `utils.load_model`.

    device: where to run; None leaves the model where it is.
    Raises DataError where the file is not a valid image, and ValueError where there are not as many
    class names as the model has classes.
    """
    if device is not None:
        model.to(device)
    image = as_rgb(image_path)
    seen = (transform or own_transform(model, image_size))(image)
    probabilities = checked_probabilities(model, seen, class_names)
    plots.plot_predictions([image], probabilities.unsqueeze(0), class_names)


# ------------------------------------------------------------------------------
# The command


def picture_file(name: str) -> Path:
    """The file that --save writes, in a folder that is made if need be; PNG where the name has no
    ending. Raises ValueError for an ending that stands for no format of PICTURES, and OSError where
    the folder can't be made."""
    file = Path(name)
    if file.is_dir():
        raise ValueError(f"--save needs the name of a file, and {name} is a folder")
    if not file.suffix:
        file = file.with_name(f"{file.name}.png")
    if file.suffix.lower() not in PICTURES:
        raise ValueError(f"--save can't write {file.suffix} ({name}): use one of "
                         f"{', '.join(PICTURES)}")
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


@lasting_output()
def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status: 0, or 2 where anything could not be read or written."""
    parser = argparse.ArgumentParser("python -m going_modular.predictions",
                                     description="Classify images.")
    parser.add_argument("run", help="the folder of a run, a checkpoint (.pt), or the name of a "
                                    "model that comes with the package")
    parser.add_argument("images", nargs="+", metavar="image",
                        help="image files, or folders of them, with all folders inside")
    parser.add_argument("--save", metavar="FILE",
                        help="save a picture of the images and their classes, as PNG, JPEG, WebP, "
                        "PDF or SVG by its ending; its folder is made")
    args = parser.parse_args(argv)
    try:
        # What can't work is said before anything is computed.
        picture = picture_file(args.save) if args.save else None
        model, info = load_model(args.run)
        errors = classify(model, info, args.images, picture)
    except (ValueError, OSError) as error:  # what can't be read or written: one line
        errors = [str(error)]
    for message in errors:
        print(f"error: {message}", file=sys.stderr)
    return 2 if errors else 0


def classify(
    model: nn.Module, info: RunInfo, names: Sequence[str], picture: Path | None,
) -> list[str]:
    """Print the class of each image file, and of those in each folder, among `names`, and draw the
    first MOST_SHOWN of them into `picture`. Returns a message for each that could not be read."""
    errors: list[str] = []
    shown: list[Image.Image] = []
    probabilities: list[list[float]] = []
    count = 0
    for name in names:
        files = images_in(Path(name)) if Path(name).is_dir() else [Path(name)]
        if not files:
            errors.append(f"{name} holds no images")
        for file in files:
            try:
                image = as_rgb(file)
            except DataError as error:  # the others are classified all the same
                errors.append(str(error))
                continue
            prediction = predict(model, image, info)
            print(f"{file}: {prediction.class_name} "
                  f"{prediction.probabilities[prediction.class_name]:.3f}", flush=True)
            count += 1
            if picture and len(shown) < MOST_SHOWN:
                image.thumbnail((400, 400))
                shown.append(image)
                probabilities.append(list(prediction.probabilities.values()))
    if picture and shown:
        sheet = plots.plot_predictions(shown, torch.tensor(probabilities), info.class_names)
        plots.save(sheet, picture)
        print(f"saved {picture}" + (f" with the first {len(shown)} of {count} images"
                                    if count > len(shown) else ""))
    return errors


if __name__ == "__main__":
    sys.exit(main())
