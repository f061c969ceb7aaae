"""The options of a run, each described once: a field of Config gives its type, default, bounds and
help. The command's parser, its help, the checks and settings.json are made from these fields.

PRESETS has the values that suit few photos, many photos and digits. `complete` fills in what
follows from the data and the device.
"""
import argparse
import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch

from going_modular.data_setup import NAMES, ImageData
from going_modular.recipe import PRECISIONS, Recipe, check_bounds, option
from going_modular.utils import Size, in_pixels, sides, size_of, why_patches_do_not_fit
from going_modular.vit import VARIANTS
from going_modular.weights.loading import our_name

PRESETS: dict[str, dict[str, Any]] = {
    # Below 1,000 training images a model soon knows them by heart: strong augmentation and
    # regularisation. Chosen on other classes of Food-101 (benchmarks/recipe_search.py).
    "few": dict(
        images_shown=45_000, min_scale=0.25, trivial_augment=0.5, test_crops=3, drop_path=0.2,
        weight_decay=0.5, mixup=0.5),
    "many": {},  # the options' own defaults
    # Handwriting slants and varies in width, but a mirrored digit is none, and ink has no colour.
    "digits": dict(
        min_scale=1.0, stretch=1.0, flip=False, color_jitter=0.0, turn=12.0, shear=0.15, zoom=0.12,
        shift=0.05, test_shifts=True),
}
MOST_PATCHES = 24  # a side, where nobody asks for more: 384 px in patches of 16, as in fine-tuning (Table 4)
MUON = 0.02  # its learning rate for new weights (Jordan et al., 2024)
GROUPS = ("data", "model", "training", "output")


@dataclass(kw_only=True)
class Config(Recipe):
    """All options of a run. For the sizes of the model, None means that of the variant (Table 1).

    Raises ValueError for values out of bounds, or that contradict one another.
    """

    data: str = option(
        "a folder with train/CLASS/ and test/CLASS/ (also val/CLASS/, CLASS/ alone, or a labels.csv), "
        "or one of " + ", ".join(NAMES) + "; auto "
        "takes the photos where they can be had, else drawn food", "auto", group="data")
    preset: str = option(
        f"one of {', '.join(PRESETS)}: values for options that are not given; default: digits for "
        "mnist and drawn_digits, else few below 1,000 training images", group="data")
    skip_bad_images: bool = option("leave out images that can't be read, and count them", False,
                                   group="data")
    hold_out: float = option(
        "share of the training images that is held out to choose best.pt, where the data have no "
        "validation set", 0.1, above=0, below=1, group="data")
    min_scale: float = option(
        "a random crop covers at least this share of a training image, unless its shape does not "
        "fit into it", 0.85, above=0, most=1, group="data")
    stretch: float = option(
        "the most by which one side of a crop is longer than the other", 4 / 3, least=1,
        group="data")
    flip: bool = option("mirror half of the training images", True, group="data")
    turn: float = option("turn a training image by up to so many degrees", 0.0, least=0, most=180,
                         group="data")
    shear: float = option(
        "shear a training image sideways by up to this share of its height", 0.0, least=0, most=1,
        group="data")
    zoom: float = option(
        "change width and height of what a training image shows by up to this share", 0.0, least=0,
        most=1, group="data")
    shift: float = option(
        "move what a training image shows by up to this share of its side", 0.0, least=0, most=1,
        group="data")
    color_jitter: float = option(
        "brightness, contrast and saturation of a training image vary by up to this share", 0.2,
        least=0, most=1, group="data")
    trivial_augment: float = option(
        "share of the training images that TrivialAugment changes", 0.0, least=0, most=1,
        group="data")
    test_crops: int = option(
        "a test image is seen in so many central crops, from the whole to 0.65 of its side, each "
        "with its mirror image, and the probabilities are averaged; 1: as it is", 1, least=1,
        group="data")
    test_shifts: bool = option(
        "a test image is seen in five places, moved by a pixel along each diagonal and as it is, "
        "and the probabilities are averaged", False, group="data")
    repeats: int = option(
        "times that an epoch shows each training image, each time another crop; default: until "
        "1,000 images were shown, where held-out images count as shown", least=1, group="data")
    num_workers: int = option(
        "processes that prepare images; default: none for images of up to 64 px, which are faster "
        "without, else one for each processor, 8 at most", least=0, group="data", per_call=True)

    model: str | None = option(
        f"one of {', '.join(VARIANTS)}, with a patch size (B/16) or without; default: B/16 on "
        "NVIDIA's GPUs, but Mini on other devices and for small images", None, group="model")
    weights: str | None = option(
        "start from these weights, with a new head: a run folder or a checkpoint of this package, "
        "the name of a model that comes with it, or a file or name that weights.load takes; the "
        "model's sizes are then theirs", None,
        group="model")
    patch_size: int | None = option(
        "side of a patch in pixels; default: the variant's, else the largest for 7 x 7 patches or "
        "more", None, group="model")
    image_size: Size = option(
        "height and width of the image in pixels, such as 64x96, or one number for a square; "
        "default: that of the data set for digits and things, else 224 on NVIDIA's GPUs and 64 on "
        "other devices", group="model")
    layers: int | None = option(
        "number of encoder layers; default: the variant's, as for the next three", None,
        group="model")
    hidden_size: int | None = option("size of a token", None, group="model")
    heads: int | None = option(
        "number of attention heads; with --weights only where the file does not say it", None,
        group="model")
    mlp_size: int | None = option("size of the hidden layer in the MLP", None, group="model")
    pool: str | None = option(
        "what the head reads: token (class token; the default) or mean (of all patches)", None,
        group="model")
    dropout: float = option("dropout rate", 0.0, group="model")
    drop_path: float = option("stochastic depth: rate of the last layer", 0.0, group="model")

    images_shown: int = option(
        "training images to show in all, which sets the epochs where they are not given; held-out "
        "images count as shown, so that in fact fewer are (by a tenth, with the default of "
        "--hold-out)", 31_000, least=1)
    batch_size: int = option("images in a step, of all GPUs together", 64, least=1)
    gradient_accumulation: int = option(
        "a batch goes through the model in so many micro-batches, with less memory", 1, least=1,
        per_call=True)
    checkpointing: bool = option(
        "gradient checkpointing: keep less for the backward pass and compute it again; less "
        "memory, more time", False, per_call=True)
    shard: bool = option(
        "with torchrun: split weights, gradients and AdamW's averages over the GPUs (FSDP2), for "
        "models too large to train on one", False, per_call=True)
    device: str = option("cpu, cuda or mps; auto takes the fastest that computes", "auto",
                         per_call=True)
    precision: str = option(
        "of matrix products and attention in training: fp32, fp16, bf16, or auto: bf16 on NVIDIA's "
        "GPUs since Ampere and, for models at least as wide as Ti, on CPUs that have instructions "
        "for it (AVX512-BF16, AMX), fp16 on older GPUs, fp32 elsewhere", "auto", per_call=True)
    compile: bool = option("use torch.compile", False, per_call=True)

    output: Path | None = option(
        "folder of this run; default: runs/DATA-MODEL-TIME", None, group="output", per_call=True)
    resume: bool = option(
        "go on with the run in --output, with its options", False, group="output", per_call=True)

    def of_the_run(self) -> dict:
        """What settings.json and the checkpoints store: the options that may not change when the
        run is resumed."""
        return {each.name: getattr(self, each.name) for each in fields(self)
                if not each.metadata["per_call"]}

    def recipe(self) -> Recipe:
        """Those of the options that make up the recipe."""
        return Recipe(**{each.name: getattr(self, each.name) for each in fields(Recipe)})


# In the order of --help: group by group, where a dataclass lists inherited fields first.
OPTIONS = {each.name: each for group in GROUPS for each in fields(Config)
           if each.metadata["group"] == group}
# What a given value is converted to: int for the type hint int as well as for int | None.
TYPES = {
    name: (next(part for part in get_args(kind) if part is not type(None)) if get_args(kind)
           else kind)
    for name, kind in get_type_hints(Config).items()}


def flag(name: str) -> str:
    """The option as it is typed on the command line, such as --batch-size."""
    return f"--{name.replace('_', '-')}"


def help_text(name: str) -> str:
    """The text of --help for an option: its meaning, its default, and the presets that set another
    value."""
    default, text = OPTIONS[name].default, OPTIONS[name].metadata["help"]
    values = {preset: values[name] for preset, values in PRESETS.items()
              if values.get(name, default) != default}
    if default is not MISSING and default is not None and TYPES[name] is not bool:
        text += f" (default: {in_words(default)})"
    if values:
        text += (
            f" ({', '.join(f'{preset}: {in_words(value)}' for preset, value in values.items())})")
    return text


def in_words(value: Any) -> str:
    """A value as text: on or off for a truth value, numbers in short, such as 0.25, 64x96 for an
    image size."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return in_pixels(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def read_image_size(text: str) -> Size:
    """An image size as it is typed: 64, or 64x96 for a height of 64 and a width of 96.

    Raises ArgumentTypeError for any other text.
    """
    try:
        lengths = [int(length) for length in text.split("x")]
        height, width = lengths * 2 if len(lengths) == 1 else lengths
    except ValueError:
        raise argparse.ArgumentTypeError(f"it is a number of pixels, or height and width as in "
                                         f"64x96, not {text!r}") from None
    return size_of(height, width)


def parse(argv: Sequence[str] | None) -> dict[str, Any]:
    """The options that were given, by name. Those that were not given are absent."""
    # SUPPRESS leaves them out: a default in their place could not be told from a given value.
    parser = argparse.ArgumentParser(
        "python -m going_modular.train", argument_default=argparse.SUPPRESS, allow_abbrev=False,
        description="Train a Vision Transformer on images and say how well it learned. Without any "
        "option: on photos of pizza, steak and sushi (drawn ones without a network), in a few "
        "minutes on a CPU or a Mac, or ViT-B/16 on an NVIDIA GPU.",
    )
    sections = {group: parser.add_argument_group(group) for group in GROUPS}
    for name, each in OPTIONS.items():
        section, text = sections[each.metadata["group"]], help_text(name)
        if TYPES[name] is bool:
            # An option that a preset may switch on gets a --no- form, to switch it off again.
            either = any(name in values for values in PRESETS.values())
            action = argparse.BooleanOptionalAction if either else "store_true"
            section.add_argument(flag(name), action=action, help=text)
        else:
            reader: Any = read_image_size if name == "image_size" else TYPES[name]
            metavar = {str: "NAME", int: "N", float: "X", Path: "FOLDER", read_image_size: "HxW"}
            section.add_argument(flag(name), type=reader, metavar=metavar[reader], help=text)
    return vars(parser.parse_args(argv))


def check(given: dict[str, Any]) -> None:
    """Raise ValueError for an option that makes no sense, whatever the data are."""
    for name, value in given.items():
        if value == "":  # as of a shell variable that is not set
            raise ValueError(f"{flag(name)} is empty: give it a value, or leave it out")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, not {value}")
        check_bounds(OPTIONS[name], value)
    if min(sides(given.get("image_size", 1))) < 1:
        raise ValueError(f"{flag('image_size')} must be at least 1 pixel high and wide, not "
                         f"{in_pixels(given['image_size'])}")
    if given.get("preset", "few") not in PRESETS:
        raise ValueError(f"unknown preset {given['preset']!r}: choose one of {', '.join(PRESETS)}")
    # Of two options that set the same thing, one would be ignored without a word.
    if "epochs" in given and "images_shown" in given:
        raise ValueError(f"{flag('images_shown')} sets the epochs: leave out it or "
                         f"{flag('epochs')}")
    if given.get("test_shifts") and given.get("test_crops", 1) > 1:
        raise ValueError(f"{flag('test_crops')} and {flag('test_shifts')} exclude each other: "
                         "leave out one")
    if given.get("precision", "auto") not in ("auto", *PRECISIONS):
        raise ValueError(f"precision must be auto, {', '.join(PRECISIONS)}, not "
                         f"{given['precision']!r}")
    if given.get("shard") and given.get("ema"):
        raise ValueError("with shard no running average of the weights is kept: leave out ema")
    if given.get("shard") and given.get("muon"):
        raise ValueError("Muon needs whole weight matrices, which shard splits: leave out one of "
                         "them")
    if ours := our_name(given.get("model") or ""):
        raise ValueError(f"{flag('model')} {given['model']} is {ours} here")
    if given.get("weights") is not None:
        for name in ("model", "patch_size", "layers", "hidden_size", "mlp_size", "pool"):
            if given.get(name) is not None:
                raise ValueError(f"--weights brings the whole model: leave out {flag(name)}")


def check_stored(stored: dict[str, Any]) -> None:
    """Raise KeyError, TypeError or ValueError where these are not the options of a run, complete
    and each of its type."""
    for name, each in OPTIONS.items():
        if not each.metadata["per_call"]:
            value = stored[name]
            kinds: Any = (int, float) if TYPES[name] is float else TYPES[name]
            if name == "image_size":
                kinds = (int, tuple)
            is_none = value is None and each.default is None
            if not is_none and (not isinstance(value, kinds)
                                or isinstance(value, bool) != (TYPES[name] is bool)):
                raise TypeError(f"{name} is {value!r}")
            check_bounds(each, value)
    if stored["preset"] not in PRESETS:
        raise ValueError(f"unknown preset {stored['preset']!r}")


def typed(name: str, value: Any) -> str:
    """An option with its value as it is typed: --lr 0.1, --no-flip, --image-size 64x96."""
    if isinstance(value, bool):
        return flag(name) if value else flag(f"no_{name}")
    return f"{flag(name)} {in_pixels(value) if isinstance(value, tuple) else value}"


def options_of_before(stored: dict[str, Any]) -> dict[str, Any]:
    """The options that a settings.json from before there were presets lacks.

    Such a run chose flips and shifts by the name of its data set.
    """
    digits = Path(stored["data"]).name in ("mnist", "drawn_digits")
    shifts = digits and stored["test_crops"] == 5
    return {"preset": "digits" if digits else "many", "flip": not digits, "test_shifts": shifts,
            "test_crops": 1 if shifts else stored["test_crops"], "images_shown": 31_000}


def default_image_size(device: torch.device) -> int:
    """The side of an image in pixels, where neither the user nor the data set names one."""
    return 224 if device.type == "cuda" else 64


def default_patch_size(image_size: Size) -> int:
    """The side of the largest patch that divides both sides and leaves 7 x 7 patches or more.

    Raises ValueError where it leaves more than MOST_PATCHES along a side.
    """
    def largest(height: int, width: int) -> int:
        return max(patch for patch in range(1, max(min(height, width) // 7, 1) + 1)
                   if math.gcd(height, width) % patch == 0)

    def fits(height: int, width: int) -> bool:
        return max(height, width) // largest(height, width) <= MOST_PATCHES

    height, width = sides(image_size)
    patch = largest(height, width)
    if not fits(height, width):
        better = "sides with a larger common divisor"
        if height == width:
            below = next(size for size in range(height, 0, -1) if fits(size, size))
            above = next(size for size in itertools.count(height) if fits(size, size))
            better = f"{below} or {above}"
        raise ValueError(
            f"{flag('image_size')} {in_pixels(image_size)} can only be cut into patches of "
            f"{patch} px, which are {height // patch * (width // patch):,}: take {better}, or give "
            f"{flag('patch_size')}")
    return patch


def complete(
    given: dict[str, Any], data: ImageData, device: torch.device,
    stored: dict[str, Any] | None = None,
) -> Config:
    """The options of a run on these data.

    The value of each comes from the first of these that has one: `given` (where None counts as not
    given), `stored` by the run that is resumed, the preset, what follows from the data and the
    device, the default. images_shown and the default of repeats count the training images that will
    be held out as shown, so a run shows fewer. Raises ValueError for values that make no sense.
    """
    given = {name: value for name, value in given.items() if value is not None}
    check(given)
    if "hold_out" in given and data.val and not stored:
        raise ValueError(f"the data have a validation set to choose best.pt: leave out "
                         f"{flag('hold_out')}")
    known = {**(stored or {}), **given}
    by_size = "few" if len(data.train) < 1000 else "many"
    preset = known.get("preset", by_size if data.flip else "digits")
    values = {**PRESETS[preset], **known, "preset": preset}
    # A test image is seen in crops or in shifts. Where one of them is given, it replaces the other,
    # which the preset may have set.
    if given.get("test_shifts"):
        values["test_crops"] = 1
    elif "test_crops" in given and not stored:
        values["test_shifts"] = False
    if values.get("data", "auto") == "auto":
        values["data"] = data.name

    # The model and its sizes: ViT-B/16 as in the paper, or what a laptop can train in minutes, on
    # its CPU or on Apple's GPU.
    if values.get("weights") is None:
        values.setdefault("pool", "token")
        small = device.type != "cuda" or data.image_size
        base = "B" if "patch_size" in values else "B/16"  # a given patch size replaces the 16
        values.setdefault("model", "Mini" if small else base)
    height, width = sides(
        values.setdefault("image_size", data.image_size or default_image_size(device)))
    model = values.get("model")
    if model:
        patch = values.get("patch_size") or model.partition("/")[2]
        if not patch:
            values["patch_size"] = default_patch_size(values["image_size"])
        elif str(patch).isdecimal() and int(patch) > 0:  # else it is refused later
            if reason := why_patches_do_not_fit(values["image_size"], int(patch)):
                raise ValueError(reason)
    # Wider models need smaller steps: the learning rate falls in proportion to 1 / hidden_size.
    # Fine-tuning starts from good weights, which large steps would undo.
    variant = VARIANTS.get((model or "Mini").partition("/")[0], {})  # an unknown one is refused later
    hidden_size, pretrained = values.get("hidden_size") or variant.get("hidden_size", 96), not model
    if "lr" not in values:
        values["lr"] = 5e-4 if pretrained else Config.lr * 96 / max(hidden_size, 96)
    # Muon learns new weights faster. That was measured with small models alone, and what its step
    # costs grows with the cube of the hidden size.
    if "muon" not in values:
        values["muon"] = MUON if (not pretrained and hidden_size <= 128 and not values.get("shard")
                                  and hasattr(torch.optim, "Muon")) else 0.0

    # How often each image is shown. Few images are repeated within an epoch, so that it is long
    # enough for its checkpoint and evaluation to be worth their time.
    repeats = values.setdefault("repeats", math.ceil(1000 / len(data.train)))
    shown = values.get("images_shown", Config.images_shown)
    values.setdefault("epochs", max(5, round(shown / len(data.train) / repeats)))
    values.setdefault("num_workers", 0 if height * width <= 64**2 else min(os.cpu_count() or 1, 8))
    return Config(**values)
