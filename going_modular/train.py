"""The main job: python -m going_modular.train trains a Vision Transformer and says how well it learned."""
import argparse
import json
import math
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import zip_longest
from pathlib import Path

import torch
import torch.nn.functional as F

from going_modular import data_setup, distributed, plots, weights
from going_modular.paper import finetune
from going_modular.predictions import predict_all, with_views
from going_modular.trainer import Diverged, Recipe, Stopped, Trainer, TrainingError
from going_modular.utils import CheckpointError, load_model, pick_device, write_atomically
from going_modular.vit import VARIANTS, ViT, count_macs, count_parameters

SMALL = {"mnist": 28, "drawn_digits": 28, "cifar10": 32, "cifar100": 32, "drawn_things": 32}  # image size in pixels

# group: option, its type, its default (None: it follows from data and device, as the help says), its help
OPTIONS = {
    "data": [
        ("data", str, "auto", "a folder with train/CLASS/ and test/CLASS/, or one of "
         f"{', '.join(data_setup.NAMES)}; auto takes the photos where they can be had, else drawn food. "
         "A set or folder called mnist or drawn_digits gets the defaults for digits"),
        ("skip-bad-images", bool, False, "leave out images that can't be read, and count them"),
        ("hold-out", float, 0.1, "share of the training images that is held out to choose best.pt"),
        ("min-scale", float, None, "a random crop covers at least this share of a training image, unless its shape "
         "does not fit into it; default: 0.25 for a set of fewer than 1,000 images, 1 for digits, else 0.85"),
        ("stretch", float, None, "the most by which one side of a crop is longer than the other; default: 1.33, for "
         "digits 1"),
        ("turn", float, None, "turn a training image by up to so many degrees; default: 0, for digits 12"),
        ("shear", float, None, "shear a training image sideways by up to this share of its height; default: 0, for "
         "digits 0.15"),
        ("zoom", float, None, "change width and height of what a training image shows by up to this share; default: "
         "0, for digits 0.12"),
        ("shift", float, None, "move what a training image shows by up to this share of its side; default: 0, for "
         "digits 0.05"),
        ("color-jitter", float, None, "brightness, contrast and saturation of a training image vary by up to this "
         "share; default: 0.2, for digits 0"),
        ("trivial-augment", float, None, "share of the training images that TrivialAugment changes; default: 0.5 for a "
         "set below 1,000 images, else 0"),
        ("test-crops", int, None, "views of a test image, whose probabilities are averaged: so many central crops, "
         "from the whole to 0.65 of its side, each with its mirror image; for digits 5, moved by a pixel in four "
         "directions and as it is; 1 is the image as it is; default: 3 for a set below 1,000 images, 5 for digits, "
         "else 1"),
        ("repeats", int, None, "times that an epoch shows each training image, each time another crop; default: until "
         "1,000 images were shown"),
        ("num-workers", int, None, "processes that prepare images; default: none for images of up to 64 px, which are "
         "faster without, else one for each processor, 8 at most"),
    ],
    "model": [
        ("model", str, None, f"one of {', '.join(VARIANTS)}, with a patch size (B/16) or without; default: Mini on a "
         "CPU and for small images, B/16 on a GPU"),
        ("weights", str, None, "start from these weights, with a new head: a run folder or a checkpoint of this "
         "package, or a file or name that weights.load takes; the model's sizes are then theirs"),
        ("patch-size", int, None, "side of a patch in pixels; default: the variant's, else the largest for 7 x 7 "
         "patches or more"),
        ("image-size", int, None, "side of the image in pixels; default: that of the data set for digits and things, "
         "else 64 on a CPU and 224 on a GPU"),
        ("layers", int, None, "number of encoder layers; default: the variant's, as for the next three"),
        ("hidden-size", int, None, "size of a token"),
        ("heads", int, None, "number of attention heads"),
        ("mlp-size", int, None, "size of the hidden layer in the MLP"),
        ("pool", str, None, "what the head reads: token (class token; the default) or mean (of all patches)"),
        ("dropout", float, 0.0, "dropout rate"),
        ("drop-path", float, None, "stochastic depth: rate of the last layer; default: 0.2 for a set below 1,000 "
         "images, else 0"),
    ],
    "training": [
        ("epochs", int, None, "default: as many as show 31,000 images, or 45,000 of a set below 1,000, but 5 at "
         "least"),
        ("batch-size", int, 64, "images in a step, of all GPUs together"),
        ("lr", float, None, "highest learning rate; default: 2e-3 for a hidden size of up to 96, less in proportion "
         "for a larger one (B/16: 2.5e-4), and with --weights 5e-4"),
        ("weight-decay", float, None, "AdamW's, on weight matrices alone; default: 0.5 for a set below 1,000 images, "
         "else 0.05"),
        ("beta2", float, 0.95, "AdamW's decay of the average of squared gradients"),
        ("warmup", float, 0.1, "share of all steps over which the learning rate rises"),
        ("clip-norm", float, 1.0, "largest norm of the gradients"),
        ("label-smoothing", float, 0.1, "share of the label that is spread over all classes"),
        ("mixup", float, None, "alpha of mixup, which trains on mixed pairs of images, 0 for none; default: 0.5 for a "
         "set below 1,000 images, else 0"),
        ("ema", float, 0.0, "decay of a running average of the weights; 0 for none"),
        ("parts", int, 1, "a batch goes through the model in so many parts, with less memory (gradient accumulation)"),
        ("checkpointing", bool, False, "keep less for the backward pass and compute it again: less memory, more time"),
        ("shard", bool, False, "with torchrun: split weights, gradients and AdamW's averages over the GPUs (FSDP2), "
         "for models too large to train on one"),
        ("seed", int, 42, "seed of all random numbers"),
        ("device", str, "auto", "cpu, cuda or mps; auto takes the fastest there is"),
        ("compile", bool, False, "use torch.compile"),
    ],
    "output": [
        ("output", Path, None, "folder of this run; default: runs/DATA-MODEL-TIME"),
        ("resume", bool, False, "go on with the run in --output, with its options"),
    ],
}
# not of the run: these may differ when it goes on
OF_THE_CALL = {"device", "num_workers", "parts", "checkpointing", "shard", "compile", "output", "resume"}
FILES = ("last.pt", "best.pt", "history.csv", "settings.json", "results.json")  # of a run, written atomically
DEFAULTS = {name.replace("-", "_"): default for group in OPTIONS.values() for name, _, default, _ in group}
BY_SIZE = {  # defaults for a set below 1,000 images, which is soon known by heart, and for a larger one
    "min_scale": (0.25, 0.85), "trivial_augment": (0.5, 0.0), "test_crops": (3, 1), "drop_path": (0.2, 0.0),
    "weight_decay": (0.5, 0.05), "mixup": (0.5, 0.0),
}
BY_KIND = {  # defaults for photos, and for digits, which a loader knows by their name
    "color_jitter": (0.2, 0.0), "min_scale": (None, 1.0), "stretch": (4 / 3, 1.0), "turn": (0.0, 12.0),
    "shear": (0.0, 0.15), "zoom": (0.0, 0.12), "shift": (0.0, 0.05), "test_crops": (None, 5),
}
VARIANT_SIZES = {"layers": "num_layers", "hidden_size": "hidden_size", "heads": "num_heads", "mlp_size": "mlp_size"}


def parse(argv: Sequence[str] | None) -> dict:
    """The options that were given, by name; those that were not are absent."""
    parser = argparse.ArgumentParser(
        "python -m going_modular.train", argument_default=argparse.SUPPRESS, allow_abbrev=False,
        description="Train a Vision Transformer on images and say how well it learned. Without any option: on photos "
        "of pizza, steak and sushi (drawn ones without a network), in a few minutes on a CPU, or ViT-B/16 on a GPU.",
    )
    for group, options in OPTIONS.items():
        section = parser.add_argument_group(group)
        for name, kind, default, text in options:
            if kind is bool:
                section.add_argument(f"--{name}", action="store_true", help=text)
            else:
                text += "" if default is None else f" (default: {default})"
                metavar = {str: "NAME", int: "N", float: "X", Path: "FOLDER"}[kind]
                section.add_argument(f"--{name}", type=kind, metavar=metavar, help=text)
    return vars(parser.parse_args(argv))


def default_image_size(device: torch.device) -> int:
    return 64 if device.type == "cpu" else 224


def complete(settings: dict, data: data_setup.ImageData, device: torch.device) -> dict:
    """The settings with what follows from data and device filled in."""
    settings, few = dict(settings), len(data.train) < 1000
    if settings["data"] == "auto":
        settings["data"] = data.name
    if settings["pool"] is None and settings["weights"] is None:
        settings["pool"] = "token"
    if settings["model"] is None and settings["weights"] is None:
        settings["model"] = "Mini" if device.type == "cpu" or data.name in SMALL else "B/16"
    if settings["image_size"] is None:
        settings["image_size"] = SMALL.get(data.name, default_image_size(device))
    if settings["lr"] is None:
        variant = VARIANTS.get((settings["model"] or "Mini").partition("/")[0], {})  # an unknown one is refused later
        width = settings["hidden_size"] or variant.get("hidden_size", 96)
        settings["lr"] = 5e-4 if settings["weights"] else 2e-3 * 96 / max(width, 96)
    if settings["model"] and settings["patch_size"] is None and "/" not in settings["model"]:
        size = settings["image_size"]
        settings["patch_size"] = max(patch for patch in range(1, max(size // 7, 1) + 1) if size % patch == 0)
    if settings["repeats"] is None:
        settings["repeats"] = math.ceil(1000 / len(data.train))
    if settings["epochs"] is None:
        settings["epochs"] = max(5, round((45_000 if few else 31_000) / len(data.train) / settings["repeats"]))
    for name, (for_photos, for_digits) in BY_KIND.items():
        if settings[name] is None:
            settings[name] = for_photos if data.flip else for_digits
    for name, (for_few, for_many) in BY_SIZE.items():
        if settings[name] is None:
            settings[name] = for_few if few else for_many
    if settings["num_workers"] is None:
        settings["num_workers"] = 0 if settings["image_size"] <= 64 else min(os.cpu_count(), 8)
    return settings


def build_model(settings: dict, num_classes: int, trained: ViT | None = None) -> ViT:
    """The model that the settings describe; with the weights of `trained`, if any, under a new head. Raises ValueError
    for sizes that do not fit together."""
    if trained:
        return finetune.new_head(trained, num_classes, settings["image_size"], dropout=settings["dropout"],
                                 drop_path=settings["drop_path"])
    sizes = {ours: settings[name] for name, ours in VARIANT_SIZES.items() if settings[name] is not None}
    return ViT.from_variant(
        settings["model"], settings["patch_size"], image_size=settings["image_size"], num_classes=num_classes,
        pool=settings["pool"], dropout=settings["dropout"], drop_path=settings["drop_path"], **sizes,
    )


def trained_model(settings: dict) -> ViT | None:
    """The model whose weights a run starts from: that of --weights, or, for a run that goes on, its own; else None."""
    if settings["weights"] is None:
        return None
    if settings["resume"] and (settings["output"] / "last.pt").exists():
        return load_model(settings["output"])[0]
    for name in ("model", "patch_size", *VARIANT_SIZES, "pool"):
        if settings[name] is not None:
            raise ValueError(f"--weights brings the whole model: leave out --{name.replace('_', '-')}")
    model = weights.model_of(settings["weights"])
    if hasattr(model, "preprocessing"):  # of another library, with a normalisation of its own
        normalise = model.preprocessing.transforms[-1]
        finetune.fold_normalisation(model, normalise.mean, normalise.std)
    return model


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other trainings out of a folder; the system frees the lock when this process ends, however it ends.

    Raises ValueError where another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a") as file:
        try:
            if os.name == "nt":
                import msvcrt

                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of this process alone, not of a loader's workers
        except OSError:
            raise ValueError(f"another training is writing to {folder}: wait for it, or use another --output") from None
        yield


def unfinished(folder: Path) -> set[Path]:
    """What a process left in the folder of its run that was killed while it wrote (utils.write_atomically)."""
    return {file for name in FILES for file in folder.glob(f".{name}.*.tmp")}


def absolute(data: str) -> str:
    """The path of a folder of data as an absolute one, which can be resumed from anywhere; names stay as they are."""
    path = Path(data).expanduser()
    return str(path.resolve()) if data_setup.is_path(data, data_setup.data_folder()) and path.is_dir() else data


def settings_of(options: dict) -> dict:
    """All settings of this call: those of the run that goes on, or the defaults, and the options given.

    Raises ValueError for options that contradict the run, CheckpointError where there is no run to go on with.
    """
    if "data" in options:
        options = {**options, "data": absolute(options["data"])}
    if not options.get("resume"):
        return {**DEFAULTS, **options}
    if "output" not in options:
        raise ValueError("--resume needs the folder of the run: --output FOLDER")
    file = options["output"] / "settings.json"
    try:
        stored = {**DEFAULTS, **json.loads(file.read_text())}
    except (OSError, ValueError, TypeError):
        raise CheckpointError(f"there is no run to go on with in {options['output']}, as it has no settings.json that "
                              "can be read: check --output, or start a run in another folder") from None
    for name, value in options.items():
        if name not in OF_THE_CALL and value != stored[name]:
            raise ValueError(f"--{name.replace('_', '-')} {value} contradicts the run in {options['output']}, "
                             f"which has {stored[name]}: leave it out")
    return {**stored, **options}


def command_to_resume(settings: dict, output: Path) -> str:
    """What goes on with a run: as many processes, and the options of this call that a run does not keep."""
    start = f"torchrun --nproc_per_node={distributed.size()}" if distributed.size() > 1 else "python"
    given = [f" --{name.replace('_', '-')}" + ("" if value is True else f" {value}") for name, value in settings.items()
             if name in OF_THE_CALL - {"output", "resume"} and value != DEFAULTS[name]]
    return f"{start} -m going_modular.train --output {shlex.quote(str(output))} --resume{''.join(given)}"


def of_the_run(settings: dict) -> dict:
    """What a run that goes on must keep."""
    return {name: value for name, value in settings.items() if name not in OF_THE_CALL}


@contextmanager
def stopping_on_signals(trainer: Trainer) -> Iterator[None]:
    """At Ctrl-C or SIGTERM, let the trainer save after its next step and stop; a second Ctrl-C stops at once.

    (A second SIGTERM does not: torchrun and others send one to each process and one to the group.)
    """
    def stop(number: int, _) -> None:
        trainer.stop_soon()
        if number == signal.SIGINT:
            signal.signal(number, before[number])

    before = {}
    if threading.current_thread() is threading.main_thread():  # no other may set handlers
        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wilson_interval(correct: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share, after Wilson (1927): right for small counts and for shares near 0 and 1."""
    z, share = 1.959964, correct / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return middle - half, middle + half


def report(trainer: Trainer, data: data_setup.ImageData, output: Path) -> dict:
    """Score the trained model on the test set, and return what results.json says. Process 0 writes it, and pictures."""
    from torchmetrics.functional.classification import multiclass_confusion_matrix  # seconds to import

    with distributed.whole(trainer.model):
        mine = predict_all(trainer.evaluated, trainer.loaders["test"])  # the share of this process
    probabilities, labels = (torch.stack([row for rows in zip_longest(*parts) for row in rows if row is not None])
                             for parts in zip(*distributed.from_all(mine)))
    correct, count, classes = int((probabilities.argmax(1) == labels).sum()), len(labels), len(data.class_names)
    matrix = multiclass_confusion_matrix(probabilities, labels, num_classes=classes)
    low, high = wilson_interval(correct, count)
    results = {
        "test_accuracy": correct / count, "test_accuracy_95": [low, high], "correct": correct, "test_images": count,
        "one_class_accuracy": labels.bincount().max().item() / count,
        "test_loss": F.nll_loss(probabilities.log(), labels).item(), "guess_loss": math.log(classes),
        "confusion_matrix": matrix.tolist(), "class_names": data.class_names, "train_images": len(data.train),
        "train_seconds": sum(row["seconds"] for row in trainer.history), "epochs": len(trainer.history),
        "parameters": count_parameters(trainer.model),
    }
    if distributed.rank():
        return results
    write_json(output / "results.json", results)
    names = ("train_loss", "train_acc", "test_loss", "test_acc")
    curves = {name: [row[name] for row in trainer.history] for name in names}
    figure, recipe = plots.plot_loss_curves(curves, classes), trainer.recipe
    if recipe.label_smoothing or recipe.mixup:
        figure.axes[0].set_title("smoothed or mixed labels in training raise its loss, not that of the test",
                                 fontsize="small", color=plots.GREY)
    plots.save(figure, output / "loss_curves.png")
    plots.save(plots.plot_confusion_matrix(matrix, data.class_names), output / "confusion_matrix.png")
    chosen = torch.linspace(0, count - 1, min(24, count)).long()  # spread over the classes, which lie in order
    images = [data.test[int(i)][0] for i in chosen]
    plots.save(plots.plot_predictions(images, probabilities[chosen], data.class_names, labels[chosen].tolist()),
               output / "predictions.png")
    return results


def write_json(file: Path, values: dict) -> None:
    write_atomically(file, lambda temporary: temporary.write_text(json.dumps(values, indent=1, default=str) + "\n"))


def table(results: dict, output: Path) -> str:
    """The end of a run in seven lines."""
    r = results
    (low, high), classes = r["test_accuracy_95"], len(r["class_names"])
    return f"""
test accuracy       {r["test_accuracy"]:.3f}   95 % interval {low:.3f} to {high:.3f}, {r["test_images"]} images
always one class    {r["one_class_accuracy"]:.3f}   what the most frequent class alone would score
test loss           {r["test_loss"]:.3f}   equal shares for all classes would have {r["guess_loss"]:.3f}, ln({classes})
training            {r["train_seconds"]:.0f} s   {r["epochs"]} epochs, {r["train_images"]} images, evaluation included
results             {output}: last.pt, best.pt, history.csv, results.json,
                    loss_curves.png, confusion_matrix.png, predictions.png
classify a photo    python -m going_modular.predictions {shlex.quote(str(output))} PHOTO"""


def from_outside(error: RuntimeError) -> str:
    """What an error says that has its cause outside this program; nothing for all others."""
    message = str(error).split("\n")[0]
    if "out of memory" in message or "can't allocate memory" in message:
        return (f"there is not enough memory ({message}): try a smaller model or --batch-size, more --parts, or "
                "--checkpointing")
    if "DataLoader worker" in message:
        return f"a process that prepares images has ended ({message}): try fewer --num-workers"
    if isinstance(error, torch.distributed.DistError) or "gloo" in message:
        return f"another process of this run has ended, or can't be reached ({message})"
    return ""


def train(settings: dict) -> None:
    """Do a run by its settings, from the data to the table."""
    device = pick_device(settings["device"])
    recipe_of({**settings, **{name: 1 for name, value in settings.items() if value is None}})  # before any download
    tell = print if distributed.rank() == 0 else lambda *_, **__: None
    tell(f"data: {settings['data']} ...", flush=True)  # drawing or downloading takes a while, the first time
    trained = trained_model(settings)
    if trained and settings["image_size"] is None:
        settings["image_size"] = trained.settings["image_size"]
    size = settings["image_size"] or default_image_size(device)
    with distributed.first_goes_ahead():
        data = data_setup.load(settings["data"], skip_bad_images=settings["skip_bad_images"], cache_size=2 * size)
    given, settings = settings, complete(settings, data, device)
    recipe = recipe_of(settings)
    torch.manual_seed(recipe.seed)
    model = build_model(settings, len(data.class_names), trained)
    tell(data.note)
    tell(f"{settings['model'] or settings['weights']} on {device}: {count_parameters(model):,} parameters, "
          f"{count_macs(model) / 1e6:,.0f} million multiply-adds for {settings['image_size']} px", flush=True)

    output = distributed.from_first(settings["output"] or Path("runs") / "-".join(
        [Path(data.name).name, (settings["model"] or Path(settings["weights"]).name).replace("/", ""),
         time.strftime("%Y%m%d-%H%M%S")]))
    with locked(output) if distributed.rank() == 0 else nullcontext():
        if not settings["resume"] and distributed.rank() == 0:
            if {*output.iterdir()} - {output / ".lock", *unfinished(output)}:
                raise ValueError(f"{output} is not empty: go on with its run by --resume, or use another --output")
        if distributed.rank() == 0:
            for file in unfinished(output):
                file.unlink()
        trainer = build_trainer(model, data, settings, recipe, device, output)
        if not settings["resume"] and distributed.rank() == 0:
            write_json(output / "settings.json", of_the_run(settings))
        if distributed.from_first((output / "last.pt").exists()):  # else the run ended before it had saved anything
            trainer.resume()
        try:
            with stopping_on_signals(trainer):
                trainer.fit()
        except (KeyboardInterrupt, RuntimeError) as stop:
            if not isinstance(stop, (KeyboardInterrupt, Stopped, TrainingError)):
                if not (words := from_outside(stop)):
                    raise
                stop = TrainingError(words)
            epoch, steps = trainer.saved
            kept = f"{output / 'last.pt'} holds epoch {epoch}" + (f" and {steps} steps of the next" if steps else "")
            kept = kept if epoch or steps else "nothing was saved yet"
            if not isinstance(stop, Diverged):
                kept += f"; go on with: {command_to_resume(given, output)}"
            raise type(stop)(f"{str(stop) or 'stopped'}; {kept}") from None
        try:
            results = report(trainer, data, output)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("stopped after the training; its report is made by: "
                                    + command_to_resume(given, output)) from None
        tell(table(results, output) if distributed.rank() == 0 else "")


def recipe_of(settings: dict) -> Recipe:
    """The part of the settings that the trainer takes. Raises ValueError for a setting that makes no sense."""
    for name, value in settings.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, not {value}")
    if not -(2**63) <= settings["seed"] < 2**63:
        raise ValueError(f"seed must be a number of 64 bits, not {settings['seed']}")
    if settings["batch_size"] < 1:
        raise ValueError(f"batch_size must be at least 1, not {settings['batch_size']}")
    if not 0 < settings["hold_out"] < 1:
        raise ValueError(f"hold_out must be above 0 and below 1, not {settings['hold_out']}")
    if not 0 < settings["min_scale"] <= 1:
        raise ValueError(f"min_scale must be above 0 and at most 1, not {settings['min_scale']}")
    if not 0 <= settings["trivial_augment"] <= 1:
        raise ValueError(f"trivial_augment must be at least 0 and at most 1, not {settings['trivial_augment']}")
    for name in ("color_jitter", "shear", "zoom", "shift"):
        if not 0 <= settings[name] <= 1:
            raise ValueError(f"{name} must be at least 0 and at most 1, not {settings[name]}")
    if not settings["stretch"] >= 1:
        raise ValueError(f"stretch must be at least 1, not {settings['stretch']}")
    if not 0 <= settings["turn"] <= 180:
        raise ValueError(f"turn must be at least 0 and at most 180 degrees, not {settings['turn']}")
    for name, least in (("num_workers", 0), ("repeats", 1), ("parts", 1), ("test_crops", 1)):
        if settings[name] < least:
            raise ValueError(f"{name} must be at least {least}, not {settings[name]}")
    return Recipe(**{name: settings[name] for name in Recipe.__dataclass_fields__})


def build_trainer(model: ViT, data: data_setup.ImageData, settings: dict, recipe: Recipe, device: torch.device,
                  output: Path) -> Trainer:
    size, batch = settings["image_size"], settings["batch_size"]
    kept, held_out = data_setup.split(data.train, settings["hold_out"], seed=recipe.seed)
    for name, images in (("training", kept), ("held-out", held_out), ("test", data.test)):
        if len(images) < distributed.size():
            raise ValueError(f"{distributed.size()} processes can't share {len(images)} {name} images: start fewer")
    if not data.flip and settings["test_crops"] not in (1, 5):
        raise ValueError(f"test_crops must be 1 or 5 for digits, not {settings['test_crops']}")
    changes = ("min_scale", "color_jitter", "trivial_augment", "stretch", "turn", "shear", "zoom",
               "shift")
    augmented = data_setup.train_transform(size, flip=data.flip, **{name: settings[name] for name in changes})
    plain = data_setup.eval_transform(size)
    options = {"num_workers": settings["num_workers"], "device": device}
    train_loader = data_setup.make_loader(kept, augmented, batch, shuffle=True, seed=recipe.seed,
                                          repeats=settings["repeats"], parts=settings["parts"], **options)
    at_once = max(1, batch // distributed.size() // settings["parts"])  # no more than in training
    val_loader, test_loader = (data_setup.make_loader(images, plain, at_once, **options)
                               for images in (held_out, data.test))
    description = {
        "class_names": data.class_names, "architecture": model.settings,
        "settings": of_the_run(settings),
    }
    trainer = Trainer(model, train_loader, val_loader, test_loader, recipe, device, output, description)
    trainer.evaluated = with_views(trainer.evaluated, settings)
    return trainer


def main(argv: Sequence[str] | None = None) -> int:
    def tell(message: str) -> int:
        who = f"process {distributed.rank()}: " if distributed.size() > 1 else ""
        print(f"error: {who}{message}", file=sys.stderr)
        return 2

    options = parse(argv)
    try:
        with distributed.connected():
            train(settings_of(options))
    except (ValueError, TrainingError) as error:
        return tell(str(error))
    except OSError as error:  # a full disk, a folder without permission
        return tell(f"{error.filename or 'a file'}: {error.strerror}")
    except (KeyboardInterrupt, Stopped) as stop:
        tell(str(stop) or "stopped before the training began")
        return 130
    except RuntimeError as error:
        if not (words := from_outside(error)):
            raise
        return tell(words)
    return 0


if __name__ == "__main__":
    sys.exit(main())
