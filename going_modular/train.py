"""The main job: python -m going_modular.train trains a Vision Transformer and reports how well
it learned."""
import json
import math
import os
import re
import shlex
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from going_modular import config, data_setup, distributed, plots, weights
from going_modular.config import Config
from going_modular.paper import finetune
from going_modular.predictions import views_of
from going_modular.recipe import computing_dtype
from going_modular.trainer import Diverged, Stopped, Trainer, TrainingError
from going_modular.utils import (
    CheckpointError,
    in_pixels,
    lasting_output,
    load_model,
    pick_device,
    sides,
    size_of,
    why_patches_do_not_fit,
    write_atomically,
)
from going_modular.vit import ViT, count_macs, count_parameters

# The files of a run that are written atomically: what a killed process leaves of them is temporary.
FILES = ("last.pt", "best.pt", "history.csv", "settings.json", "results.json")


# ------------------------------------------------------------------------------
# From options to a trainer


def build_model(options: Config, num_classes: int, trained: ViT | None = None) -> ViT:
    """The model that the options describe, or, with `trained`, its weights under a new head.

    Raises ValueError for sizes that do not fit together.
    """
    if trained:
        model = finetune.new_head(trained, num_classes, options.image_size, dropout=options.dropout,
                                  drop_path=options.drop_path)
    else:
        sizes = {"num_layers": options.layers, "hidden_size": options.hidden_size,
                 "num_heads": options.heads, "mlp_size": options.mlp_size}
        assert options.model is not None  # config.complete has chosen one
        # A size that is not given stays as Table 1 has it for the variant.
        model = ViT.from_variant(
            options.model, options.patch_size, image_size=options.image_size,
            num_classes=num_classes, pool=options.pool, dropout=options.dropout,
            drop_path=options.drop_path,
            **{name: size for name, size in sizes.items() if size is not None})
    model.checkpointing = options.checkpointing
    return model


def seconds_of_a_step(
    model: ViT, batch_size: int, device: torch.device, dtype: torch.dtype,
) -> float:
    """About how long a step takes, from below: its multiply-adds, at the speed that this device has
    in the product of two matrices of this type."""
    side = 512
    matrix, times = torch.ones(side, side, device=device, dtype=dtype), []
    for _ in range(3):  # the first one also starts threads, or loads a kernel
        start = time.perf_counter()
        (matrix @ matrix).sum().item()  # which waits for the device
        times.append(time.perf_counter() - start)
    # The backward pass takes twice the multiply-adds of the forward pass.
    return 3 * count_macs(model) * batch_size / distributed.size() / side**3 * min(times)


def pretrained_model(options: dict[str, Any], stored: dict[str, Any]) -> ViT | None:
    """The model whose weights a run starts from, or None for random weights.

    It is the model of --weights. A run that goes on takes its own last.pt instead, so that it does
    not depend on the other file any more.

    options: those given in this call; stored: those of the run that goes on (stored_settings).
    """
    known = {**stored, **options}
    source = known.get("weights")
    if source is None:
        return None
    if known.get("resume") and (known["output"] / "last.pt").exists():
        return load_model(known["output"])[0]
    # Its head is replaced in any case (finetune.new_head), and may be of any kind.
    model = weights.model_of(source, num_classes=1, num_heads=known.get("heads"))
    size = known.get("image_size", model.settings["image_size"])
    if reason := why_patches_do_not_fit(size, model.settings["patch_size"]):
        raise ValueError(f"--image-size {in_pixels(size)}: {reason}")
    # Weights of another library expect its normalisation, where our data are in [-1, 1].
    if model.preprocessing is not None:
        finetune.fold_normalisation(model, model.preprocessing.mean, model.preprocessing.std)
    channels = model.settings["in_channels"]
    if channels not in (1, 3):
        raise ValueError(f"{source} takes images of {channels} channels, and photos have three")
    return finetune.for_rgb(model) if channels == 1 else model


def build_trainer(
    model: nn.Module, data: data_setup.ImageData, options: Config, device: torch.device,
    output: Path | None = None,
) -> Trainer:
    """A trainer for a model on these data, by the options of a run.

    Raises ValueError where there are fewer images than processes.
    """
    # The validation set, or else a part of the training set, chooses best.pt, so that the test set
    # has no say in it.
    kept, held_out = ((data.train, data.val) if data.val else
                      data_setup.split(data.train, options.hold_out, seed=options.seed))
    for name, images in (("training", kept), ("held-out", held_out), ("test", data.test)):
        if len(images) < distributed.size():
            raise ValueError(f"{distributed.size()} processes can't share {len(images)} {name} "
                             "images: start fewer")
    augmented = data_setup.train_transform(
        options.image_size, min_scale=options.min_scale, flip=options.flip,
        color_jitter=options.color_jitter, trivial_augment=options.trivial_augment,
        stretch=options.stretch, turn=options.turn, shear=options.shear, zoom=options.zoom,
        shift=options.shift)
    plain = data_setup.eval_transform(options.image_size)
    train_loader = data_setup.make_loader(
        kept, augmented, options.batch_size, shuffle=True, seed=options.seed,
        repeats=options.repeats, num_workers=options.num_workers,
        gradient_accumulation=options.gradient_accumulation, device=device)
    # Evaluation takes no more images at once than a micro-batch has, so that memory suffices.
    at_once = max(1, options.batch_size // distributed.size() // options.gradient_accumulation)
    val_loader, test_loader = (
        data_setup.make_loader(images, plain, at_once, num_workers=options.num_workers,
                               device=device)
        for images in (held_out, data.test))
    return Trainer(
        model, train_loader, options.recipe(), device, class_names=data.class_names,
        val_loader=val_loader, test_loader=test_loader, output=output,
        settings=options.of_the_run(), views=views_of(options.of_the_run()),
        precision=options.precision, compile=options.compile, shard=options.shard)


# ------------------------------------------------------------------------------
# The folder of a run


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a folder, if need be, and keep other trainings out of it. The system frees the lock when
    this process ends, even if it is killed. On a file system without locks, as some network drives
    are, a printed line says so.

    Raises ValueError where another process holds the lock, or the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "a")
    except OSError as error:
        raise ValueError(f"the folder of the run, {folder}, can't be written ({error.strerror}): "
                         "use another --output") from None
    with file:
        try:
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                # lockf locks for this process alone. A lock by flock, as the package filelock takes
                # it, is inherited by the workers of a loader, which may outlive a killed trainer.
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # what lockf and locking raise where it is held
            raise ValueError(f"another training is writing to {folder}: wait for it, or use "
                             "another --output") from None
        except OSError as error:
            print(f"the file system of {folder} has no locks ({error.strerror}): take care that no "
                  "other training writes there")
        yield


def unfinished(folder: Path) -> set[Path]:
    """The temporary files in the folder of a run, left by a process that was killed while it wrote
    (utils.write_atomically)."""
    return {file for name in FILES for file in folder.glob(f".{name}.*.tmp")}


def absolute(data: str) -> str:
    """A folder of data as an absolute path, so that the run can be resumed from any working
    directory. The name of a data set is returned unchanged."""
    path = Path(data).expanduser()
    return (str(path.resolve())
            if data_setup.is_path(data, data_setup.data_folder()) and path.is_dir() else data)


def stored_settings(options: dict[str, Any]) -> dict[str, Any]:
    """The settings of the run that --resume continues; without --resume, an empty dict.

    Raises ValueError for options that contradict the run, and CheckpointError where there is no run
    to continue.
    """
    if not options.get("resume"):
        return {}
    if "output" not in options:
        raise ValueError("--resume needs the folder of the run: --output FOLDER")
    folder = options["output"]
    try:
        # A run of an earlier version can be completed.
        stored = {"muon": 0.0, **json.loads((folder / "settings.json").read_text())}
        if isinstance(stored["image_size"], list):  # a pair, for which JSON has no other word
            stored["image_size"] = size_of(*map(int, stored["image_size"]))
        if "preset" not in stored:
            stored |= config.options_of_before(stored)
        config.check_stored(stored)
    except (OSError, ValueError, TypeError, KeyError):
        raise CheckpointError(f"there is no run to go on with in {folder}, as it has no "
                              "settings.json that can be read: check --output, or start a run in "
                              "another folder") from None
    if unknown := stored.keys() - config.OPTIONS:
        raise CheckpointError(f"{folder} is a run of another version, with {min(unknown)}, which "
                              "this one does not know: go on with that version, or start a run in "
                              "another folder")
    # Options of a single call, such as the device or the number of workers, may change.
    for name, value in options.items():
        if not config.OPTIONS[name].metadata["per_call"] and value != stored[name]:
            raise ValueError(f"{config.typed(name, value)} contradicts the run in {folder}, which "
                             f"has {config.in_words(stored[name])}: leave it out")
    return stored


def command_to_resume(options: dict[str, Any], output: Path) -> str:
    """The command line that continues a run, with as many processes as now, and with those options
    of this call that settings.json does not store."""
    start = (f"torchrun --nproc_per_node={distributed.size()}" if distributed.size() > 1
             else "python")
    given = [f" {config.flag(name)}" + ("" if value is True else f" {value}")
             for name, value in options.items()
             if config.OPTIONS[name].metadata["per_call"] and name not in ("output", "resume")]
    return (f"{start} -m going_modular.train --output {shlex.quote(str(output))} "
            f"--resume{''.join(given)}")


def write_json(file: Path, values: dict) -> None:
    write_atomically(file,
                     lambda temporary: temporary.write_text(json.dumps(
                         values, indent=1, default=str) + "\n"))


# ------------------------------------------------------------------------------
# Stopping


def end_at_the_second_signal(signals: socket.socket, last_words: Callable[[], str]) -> None:
    """End this process once a signal to stop has come twice, a second or more apart. torchrun and
    schedulers may send the same one twice, to each process and to their group, within less.

    signals: gives the number of each signal as a byte, and a 0 where this is to return.
    """
    first = None
    with signals:
        while (number := signals.recv(1)) not in (b"", b"\0"):
            now = time.monotonic()
            if number[0] not in (signal.SIGINT, signal.SIGTERM):
                continue
            if first is None:
                first = now
                if distributed.rank() == 0:
                    print("stopping after the step under way; a second signal ends at once",
                          file=sys.stderr, flush=True)
            elif now - first >= 1:
                print(f"error: {last_words()}", file=sys.stderr, flush=True)
                os._exit(130)


@contextmanager
def stopping_on_signals(trainer: Trainer, last_words: Callable[[], str]) -> Iterator[None]:
    """At Ctrl-C or SIGTERM, let the trainer save after the current step and stop; at a second one,
    end at once, with these words on stderr."""
    # Python lets the main thread alone set signal handlers.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # It runs them between two of its own instructions, and a backward pass is one that may take
    # minutes. So a thread looks after the second signal: it reads what arrives at once.
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    thread = threading.Thread(
        target=end_at_the_second_signal, args=(reader, last_words), daemon=True)
    thread.start()
    before = {number: signal.signal(number, trainer.stop_soon)
              for number in (signal.SIGINT, signal.SIGTERM)}
    listener = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(listener)
        for number, handler in before.items():
            signal.signal(number, handler)
        # To close it would not be enough: the workers of a loader have inherited it. And Python may
        # abort where it ends before the thread does.
        writer.send(b"\0")
        thread.join(timeout=5)
        writer.close()


def from_outside(error: RuntimeError) -> str:
    """One line about an error whose cause lies outside this program, "" for any other error.

    The others are faults of the program, and their traceback should be seen.
    """
    # PyTorch has an exception class for a full GPU and one for lost processes. All else is a plain
    # RuntimeError, known by its text alone.
    message = str(error).split("\n")[0]
    if (isinstance(error, torch.OutOfMemoryError) or "out of memory" in message
            or "can't allocate memory" in message):
        return (f"there is not enough memory ({message}): try a smaller model or --batch-size, "
                "more --gradient-accumulation, or --checkpointing")
    if "DataLoader worker" in message:
        return f"a process that prepares images has ended ({message}): try fewer --num-workers"
    if isinstance(error, torch.distributed.DistError) or "gloo" in message:
        return f"another process of this run has ended, or can't be reached ({message})"
    return ""


# ------------------------------------------------------------------------------
# How well it learned


def wilson_interval(correct: int, count: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share, after Wilson (1927).

    Unlike share ± 1.96 standard errors it holds for small counts and for shares near 0 and 1.
    """
    # z: the 97.5 % quantile of the normal distribution
    z, share = 1.959964, correct / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return middle - half, middle + half


def report(trainer: Trainer, data: data_setup.ImageData, output: Path) -> dict:
    """Score the trained model on the test set. Returns the contents of results.json, which process
    0 writes, together with three figures."""
    # Imported here because it takes seconds, which --help and mistyped options need not wait for.
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    probabilities, labels = trainer.predict("test")
    correct, count, classes = (
        int((probabilities.argmax(1) == labels).sum()), len(labels), len(data.class_names))
    matrix = multiclass_confusion_matrix(probabilities, labels, num_classes=classes)
    low, high = wilson_interval(correct, count)
    # Two of the numbers are what knowing nothing would give: the accuracy of always answering with
    # the most frequent class, and the loss ln(classes) of equal shares.
    results = {
        "test_accuracy": correct / count, "test_accuracy_95": [low, high], "correct": correct,
        "test_images": count, "one_class_accuracy": labels.bincount().max().item() / count,
        "test_loss": F.nll_loss(probabilities.log(), labels).item(),
        "guess_loss": math.log(classes), "confusion_matrix": matrix.tolist(),
        "class_names": data.class_names, "train_images": len(data.train),
        "train_seconds": sum(row["seconds"] for row in trainer.history),
        "epochs": len(trainer.history), "parameters": count_parameters(trainer.model),
    }
    if distributed.rank():
        return results
    write_json(output / "results.json", results)
    names = ("train_loss", "train_acc", "test_loss", "test_acc")
    curves = {name: [row[name] for row in trainer.history] for name in names}
    figure, recipe = plots.plot_loss_curves(curves, classes), trainer.recipe
    if recipe.label_smoothing or recipe.mixup:
        figure.axes[0].set_title(
            "smoothed or mixed labels in training raise its loss, not that of the test",
            fontsize="small", color=plots.GREY)
    plots.save(figure, output / "loss_curves.png")
    plots.save(plots.plot_confusion_matrix(matrix, data.class_names),
               output / "confusion_matrix.png")
    # The images of a folder are sorted by class, so evenly spaced ones show all classes.
    chosen = torch.linspace(0, count - 1, min(24, count)).long()
    images = [data.test[int(i)][0] for i in chosen]
    plots.save(plots.plot_predictions(images, probabilities[chosen], data.class_names,
                                      labels[chosen].tolist()),
               output / "predictions.png")
    return results


def table(results: dict, output: Path) -> str:
    """The lines that a run prints at its end."""
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


# ------------------------------------------------------------------------------
# The command


def train(given: dict[str, Any]) -> None:
    """Do a whole run by the options given, from loading the data to the final table.

    Raises ValueError for options that make no sense, and whatever `run_to_the_end` raises.
    """
    # What is wrong with the options alone is said before anything is downloaded.
    config.check(given)
    stored = stored_settings(given)
    device = pick_device(given.get("device", "auto"))
    is_first = distributed.rank() == 0

    def tell(text: str) -> None:
        if is_first:
            print(text, flush=True)

    # Data. Drawing or downloading them takes a while the first time, and process 0 does it for all.
    # Images are cached at twice the size that the model sees, to leave room for random crops. That
    # size has to be known before the other options are completed, as those depend on the data.
    source = given.get("data", stored.get("data", "auto"))
    tell(f"data: {source} ...")
    pretrained = pretrained_model(given, stored)
    size = given.get("image_size", stored.get("image_size"))
    if size is None and pretrained:
        size = pretrained.settings["image_size"]
    given_or_theirs = given if size is None else {**given, "image_size": size}
    with distributed.first_goes_ahead():
        data = data_setup.load(
            source, skip_bad_images=given.get("skip_bad_images",
                                              stored.get("skip_bad_images", False)),
            cache_size=2 * max(sides(size or config.default_image_size(device))))
    tell(data.note)

    # Options and model. What the preset has set is printed, as nobody typed it.
    options = config.complete(given_or_theirs, data, device, stored)
    if not options.resume:
        # --epochs makes images_shown idle.
        set_there = [f"{name.replace('_', ' ')} {config.in_words(value)}"
                     for name, value in config.PRESETS[options.preset].items()
                     if name not in given and getattr(options, name) == value
                     and not (name == "images_shown" and "epochs" in given)]
        tell(f"preset {options.preset}" + (f": {', '.join(set_there)}" if set_there else ""))
    # All processes draw the same first weights.
    torch.manual_seed(options.seed)
    model = build_model(options, len(data.class_names), pretrained)
    # Of an address or a part of a file, what a folder may be called.
    name = options.model or re.sub(r"[^\w.-]+", "-", Path(str(options.weights)).name)
    dtype = computing_dtype(device, options.precision, model.settings["hidden_size"])
    tell(f"{options.model or options.weights} on {device} in {str(dtype).removeprefix('torch.')}: "
         f"{count_parameters(model):,} parameters, "
         f"{count_macs(model) / 1e6:,.0f} million multiply-adds for "
         f"{in_pixels(options.image_size)} px")
    # On a CUDA GPU the memory ends before a step takes so long.
    seconds = 0.0 if device.type == "cuda" else seconds_of_a_step(
        model, options.batch_size, device, dtype)
    if seconds > 60:
        tell(f"a step takes about {seconds / 60:,.0f} minutes here, and no line comes before the "
             "first epoch is over: larger patches, smaller images or a smaller model are faster")

    # Process 0 names the folder for all, as their clocks may differ, and holds its lock to the end.
    run = f"{Path(data.name).name}-{name.replace('/', '')}-{time.strftime('%Y%m%d-%H%M%S')}"
    output = distributed.from_first(options.output or Path("runs") / run)
    with locked(output) if is_first else nullcontext():
        if is_first:
            claim(output, options)
        trainer = build_trainer(model, data, options, device, output)
        if is_first and not options.resume:
            write_json(output / "settings.json", options.of_the_run())
        # A new run has no last.pt, and neither has one that ended before its first checkpoint: the
        # latter starts again from the beginning.
        if distributed.from_first((output / "last.pt").exists()):
            trainer.resume()
        run_to_the_end(trainer, output, how_to_resume=command_to_resume(given, output))
        try:
            results = report(trainer, data, output)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("stopped after the training; its report is made by: "
                                    + command_to_resume(given, output)) from None
        tell(table(results, output) if is_first else "")


def claim(output: Path, options: Config) -> None:
    """Check that a run may write to its folder, and delete temporary files of a killed one.

    Raises ValueError where a new run would write into a folder that is not empty.
    """
    if not options.resume and {*output.iterdir()} - {output / ".lock", *unfinished(output)}:
        raise ValueError(f"{output} is not empty: go on with its run by --resume, or use another "
                         "--output")
    for file in unfinished(output):
        file.unlink()


def run_to_the_end(trainer: Trainer, output: Path, how_to_resume: str) -> None:
    """Train to the end.

    If the training stops, or fails for a reason outside this program, the exception that is raised
    says what was saved, and which command continues the run.
    """
    def kept(resumable: bool = True) -> str:
        epoch, steps = trainer.saved
        words = f"{output / 'last.pt'} holds epoch {epoch}" + (
            f" and {steps} steps of the next" if steps else "")
        words = words if epoch or steps else "nothing was saved yet"
        return words + (f"; go on with: {how_to_resume}" if resumable else "")

    try:
        with stopping_on_signals(trainer, lambda: f"ended at once; {kept()}"):
            trainer.fit()
    except (KeyboardInterrupt, RuntimeError) as stop:
        if not isinstance(stop, (KeyboardInterrupt, Stopped, TrainingError)):
            if not (words := from_outside(stop)):
                raise
            stop = TrainingError(words)
        # A run that has diverged would do so again: there is no use in resuming it.
        words = kept(resumable=not isinstance(stop, Diverged))
        raise type(stop)(f"{str(stop) or 'stopped'}; {words}") from None


@lasting_output()
def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status: 0, or 2 after an error, or 130 after a stop."""
    def tell(message: str) -> int:
        who = f"process {distributed.rank()}: " if distributed.size() > 1 else ""
        print(f"error: {who}{message}", file=sys.stderr)
        return 2

    given = config.parse(argv)
    # A run can be resumed from any folder.
    if "data" in given:
        given["data"] = absolute(given["data"])
    if given.get("weights") and Path(given["weights"].partition("#")[0]).exists():  # FILE#PART
        given["weights"] = str(Path(given["weights"]).resolve())
    # Errors that the user can do something about become one line, faults keep their traceback.
    try:
        with distributed.connected():
            train(given)
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
