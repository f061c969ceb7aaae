"""A long run: one step written out, epochs around it, and what lets it stop and go
on: checkpoints and resume.

    trainer = Trainer(model, train_loader, Recipe(epochs=20), device, class_names=names, test_loader=test_loader)
    history = trainer.fit()

With `output`, a folder, the run is kept there: history.csv, best.pt and last.pt (Trainer._save).
"""
import csv
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from tqdm import tqdm

from going_modular import distributed, engine
from going_modular.datasets.loading import MicroBatchSampler
from going_modular.predictions import AveragedOverViews, predict_all
from going_modular.recipe import Recipe, autocast
from going_modular.utils import CheckpointError, read_checkpoint, set_seeds, write_atomically

COLUMNS = ["epoch", "train_loss", "train_acc", "test_loss", "test_acc", "lr", "seconds", "val_loss",
           "val_acc"]


class Stopped(RuntimeError):
    """A run that was asked to stop, and has saved where it stands."""


class TrainingError(RuntimeError):
    """A run that can't go on, or can't start. The message is one line: what
    happened and the way out."""


class Diverged(TrainingError):
    """A run whose loss, gradients or weights are no longer finite. Going on from last.pt
    would lead there again."""


class EpochMetrics:
    """Sums over the images of an epoch that this process has trained on. Losses, right answers and
    norms are summed on the device, so that no step waits for it."""

    def __init__(self, device: torch.device, loss: float = 0.0, correct: int = 0, images: int = 0):
        """The sums start at nothing, or where an interrupted epoch stood."""
        exact = torch.float32 if device.type == "mps" else torch.float64  # MPS has no float64
        self.loss = torch.tensor(loss, dtype=exact, device=device)
        self.correct = torch.tensor(correct, device=device)
        self.images = images
        # of the gradients: nan or inf once it was in a step
        self.norm = torch.zeros((), dtype=exact, device=device)

    def add(
        self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor, count: int,
    ) -> None:
        """The mean loss [] of a batch of logits [batch, num_classes], whose first `count`
        images are to be counted.

        labels: class numbers [batch], or after mixup shares of each class [batch, num_classes], of
        which the largest counts as the label.
        """
        labels = labels.argmax(dim=1) if labels.ndim == 2 else labels
        self.loss += loss.detach().to(self.loss) * count
        self.correct += (logits.argmax(dim=1) == labels)[:count].sum()
        self.images += count

    def total(self) -> dict[str, float]:
        """The sums of all processes, as numbers: this waits for the device."""
        loss, correct, images = distributed.total(self.loss.item(), self.correct.item(),
                                                  self.images)
        return {"loss": loss, "correct": int(correct), "images": int(images)}


def images_of(loader: DataLoader) -> int:
    """How many images a loader gives this process in an epoch."""
    sampler: Any = loader.sampler  # has a length, but torch types it as any iterable
    return len(sampler)


def random_state(device: torch.device) -> dict:
    """Where PyTorch's random numbers stand, on the CPU and on the device of this process."""
    state = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        state[device.type] = torch.get_device_module(device).get_rng_state()
    return state


def set_random_state(state: dict, device: torch.device) -> None:
    """Go on from a random_state; one of another kind of device says nothing of this one."""
    torch.set_rng_state(state["cpu"])
    if device.type != "cpu" and device.type in state:
        torch.get_device_module(device).set_rng_state(state[device.type])


class Trainer:
    """One run: trains `model` by `recipe`.

    After a stop, `resume` and `fit` go on from the last.pt in `output` and give the weights of the
    uninterrupted run (on a CPU bit for bit; a GPU may add in another order): the random numbers of
    an epoch follow from seed and epoch alone. `stop_soon`, which a signal handler may call, saves
    after the next step and raises Stopped.

    val_loader: images held out of the training set; best.pt is the epoch with the
        highest accuracy on them.
    output: the folder of the run; None keeps nothing. It gets history.csv (COLUMNS, a row an
        epoch), last.pt and best.pt, which utils.load_model reads.
    settings: plain values to keep in the checkpoints, beside class names and architecture.
    views: how a test image is seen more than once (predictions.views_of); None: as it is.
    compile: use torch.compile. shard: split the weights over the processes (FSDP2).
    Raises ValueError where these contradict one another.
    """

    def __init__(
        self, model: nn.Module, train_loader: DataLoader, recipe: Recipe, device: torch.device, *,
        class_names: Sequence[str], val_loader: DataLoader | None = None,
        test_loader: DataLoader | None = None, output: str | Path | None = None,
        settings: dict | None = None, views: Callable[[torch.Tensor], list[torch.Tensor]]
        | None = None, compile: bool = False, shard: bool = False,
    ):
        self.recipe, self.device, self.output = recipe, device, None if output is None else Path(output)
        self.description: dict[str, Any] = {
            "class_names": list(class_names), "architecture": getattr(model, "settings", {}),
            "settings": settings or {}}
        if shard:
            if distributed.size() == 1:
                raise ValueError("shard splits the weights over several processes: start them by "
                                 "torchrun")
            if recipe.ema:
                raise ValueError("with shard no running average of the weights is kept: leave out "
                                 "ema")
            distributed.shard(model, device)  # takes a block after the other to the device
        self.model = model.to(device)

        # Data. A loader of the caller's own has one micro-batch a step, which counts as a whole.
        loaders = {"train": train_loader, "val": val_loader, "test": test_loader}
        self.loaders = {part: loader for part, loader in loaders.items() if loader is not None}
        batches = getattr(train_loader, "batch_sampler", None)
        self.batches = batches if isinstance(batches, MicroBatchSampler) else None
        if distributed.size() > 1 and not self.batches:
            raise ValueError("several processes need the loaders of data_setup.make_loader, which "
                             "deal out the images")
        self.micro_batches = self.batches.gradient_accumulation if self.batches else 1  # of a step
        self.steps_per_epoch = len(train_loader) // self.micro_batches
        self.images_per_epoch = len(self.batches.sampler) if self.batches else images_of(train_loader)

        # Optimizer, schedule, average
        self.optimizer = recipe.optimizer(self.model)
        self.schedule = recipe.schedule(self.optimizer, recipe.epochs * self.steps_per_epoch)
        self.average = None
        if recipe.ema:
            self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema),
                                         use_buffers=True)
        self.mixup = v2.MixUp(alpha=recipe.mixup,
                              num_classes=len(class_names)) if recipe.mixup else None

        # Three faces of one model: what a step calls, what is kept, what is tested
        self.trained: nn.Module = self.model
        if compile:
            compiled: Any = torch.compile(self.model)  # a module, which torch types as any callable
            self.trained = compiled
        if distributed.size() > 1 and not shard:
            self.trained = DistributedDataParallel(self.trained)
        self.final_model = self.average.module if self.average else self.model
        self.tested = AveragedOverViews(self.final_model, views) if views else self.final_model

        # Where the run stands
        self.history: list[dict] = []
        self.steps = 0  # done in the epoch that has begun
        self.begun: dict | None = None  # what a resumed run takes up in the middle of an epoch
        self.saved = 0, 0  # whole epochs, and steps of the next one, that last.pt holds
        self.stopping = False

    def fit(self) -> list[dict]:
        """Train the epochs that are left. Returns the history: a dict with COLUMNS for each epoch,
        as far as there are loaders for them.

        Raises Stopped after stop_soon, Diverged where loss, gradients or weights are no longer
        finite, and TrainingError where a file can't be written; last.pt stays.
        """
        done, epochs, images = len(self.history), self.recipe.epochs, self.images_per_epoch
        shown = done * images + (self.begun["sums"]["images"] if self.begun else 0)
        self.start = time.perf_counter() - (self.begun["seconds"] if self.begun else 0)
        hidden = True if distributed.rank() else None  # None: hidden where there is no terminal
        with tqdm(total=epochs * images, initial=shown, unit=" images", disable=hidden) as self.bar:
            for epoch in range(done, epochs):
                self.bar.set_description(f"epoch {epoch + 1}/{epochs}")
                row = {"epoch": epoch + 1, **self._train_epoch(epoch)}
                for part in ("test", "val"):
                    if part in self.loaders:
                        row[f"{part}_loss"], row[f"{part}_acc"] = self.evaluate(part)
                row["seconds"], self.start = time.perf_counter() - self.start, time.perf_counter()
                self.history.append(row)
                self.steps = 0
                self._save()
                if distributed.rank() == 0:
                    scores = "".join(f"   {part}: loss {row[f'{part}_loss']:.3f}, accuracy "
                                     f"{row[f'{part}_acc']:.3f}"
                                     for part in ("train", "test") if f"{part}_loss" in row)
                    tqdm.write(f"epoch {epoch + 1:>3}/{epochs}{scores}   {row['seconds']:.1f} s")
                if distributed.any_of(self.stopping) and epoch + 1 < epochs:
                    raise Stopped
        return self.history

    def stop_soon(self, *_: object) -> None:
        """Save after the step that is under way, and raise Stopped from `fit`. It can
        serve as a signal handler."""
        self.stopping = True

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        """The steps of an epoch that are left. Returns its mean loss and accuracy, as met on the
        way, and its first learning rate."""
        begun, self.begun = self.begun, None
        self.steps = begun["steps"] if begun else 0
        if self.batches:
            self.batches.set_epoch(epoch, self.steps)
        # draws a random number, but not where workers go on from before
        batches = iter(self.loaders["train"])
        # Dropout, stochastic depth and mixup of this epoch; other processes
        # have other random numbers.
        set_seeds((self.recipe.seed + epoch * 1_000_003 + distributed.rank() * 7_919) % 2**32)
        # else other processes than before go on
        if begun and distributed.rank() < len(begun["random"]):
            set_random_state(begun["random"][distributed.rank()], self.device)
        self.lr = begun["lr"] if begun else self.optimizer.param_groups[0]["lr"]
        # Process 0 takes over what all had counted before a stop: their sums
        # are added up in the end.
        self.metrics = EpochMetrics(self.device,
                                    **(begun["sums"] if begun and distributed.rank() == 0 else {}))

        self.trained.train()
        while self.steps < self.steps_per_epoch:
            self._step(batches)
        self._raise_unless_finite()
        seen = self.metrics.total()
        return {"train_loss": seen["loss"] / seen["images"],
                "train_acc": seen["correct"] / seen["images"], "lr": self.lr}

    def _step(self, batches: Iterator) -> None:
        """One step of the optimizer: from the next batch to new weights."""
        self.optimizer.zero_grad()
        shown = 0
        # Gradient accumulation: the gradients of the micro-batches add up to that of the batch.
        for micro_batch in range(self.micro_batches):
            images, labels = next(batches)
            images, labels = images.to(self.device), labels.to(self.device)
            if self.mixup:
                images, labels = self.mixup(images, labels)
            count, weight = self._count_and_weight(micro_batch, len(images))

            with self._averaging_gradients(micro_batch):
                with autocast(self.device):  # the loss is computed in float32 in any case
                    logits = self.trained(images)  # [batch, num_classes]
                    loss = F.cross_entropy(logits, labels,
                                           label_smoothing=self.recipe.label_smoothing)
                (weight * loss).backward()
            self.metrics.add(loss, logits, labels, count)
            shown += count

        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self.metrics.norm += distributed.whole_tensor(norm)
        self.optimizer.step()
        self.schedule.step()
        if self.average:
            self.average.update_parameters(self.model)

        self.steps += 1
        self._show_progress(shown)
        # else it is saved anyway
        if distributed.any_of(self.stopping) and self.steps < self.steps_per_epoch:
            self._save()
            raise Stopped

    def _count_and_weight(self, micro_batch: int, images: int) -> tuple[int, float]:
        """(images of this micro-batch that count, what their mean loss weighs in that of
        the batch). The weights of a batch sum to the number of processes, as gradients
        are averaged over these."""
        if self.batches is None:
            return images, 1.0
        count, of_batch = self.batches.images(self.steps * self.micro_batches + micro_batch)
        return count, count * distributed.size() / of_batch

    def _averaging_gradients(self, micro_batch: int) -> AbstractContextManager:
        """Gradients are averaged over the processes once a step: with its last micro-batch."""
        is_last = micro_batch + 1 == self.micro_batches
        return nullcontext() if is_last or not isinstance(self.trained,
                                                          DistributedDataParallel) else (
            self.trained.no_sync())

    def _show_progress(self, images: int) -> None:
        """Move the bar on by so many images of this process. Only where it is drawn again are the
        sums read, as that waits for the device; on a CPU always."""
        drawn = self.bar.update(images * distributed.size())
        if drawn or self.device.type == "cpu":
            self._raise_unless_finite()
            loss, accuracy = (value.item() / self.metrics.images
                              for value in (self.metrics.loss, self.metrics.correct))
            self.bar.set_postfix(loss=f"{loss:.3f}", accuracy=f"{accuracy:.3f}", refresh=False)

    def _raise_unless_finite(self) -> None:
        """Raise Diverged where a loss or a gradient of this epoch was not finite."""
        for what, value in (("loss", self.metrics.loss.item()),
                            ("norm of the gradients", self.metrics.norm.item())):
            if not math.isfinite(value):
                raise self._diverged(f"the {what} is {value}")

    def _diverged(self, what: str) -> Diverged:
        steps = len(self.history) * self.steps_per_epoch + self.steps
        lr = self.recipe.lr * self.recipe.lr_factor(max(steps - 1, 0),
                                                    self.recipe.epochs * self.steps_per_epoch)
        where = f"epoch {len(self.history) + 1}, seen at step {self.steps} of {self.steps_per_epoch}"
        return Diverged(f"{what} in {where}, at a learning rate of {lr:.2g}: try a lower --lr, "
                        "with another --output")

    def evaluate(self, part: str) -> tuple[float, float]:
        """(mean loss, accuracy) on "val" or "test" of the model that is kept; the loss is
        without label smoothing."""
        loader = self.loaders[part]
        images = images_of(loader)
        with distributed.whole(self.model), autocast(self.device):
            loss, accuracy = engine.test_step(self.tested, loader, F.cross_entropy, self.device)
        loss, correct, count = distributed.total(loss * images, accuracy * images, images)
        return loss / count, correct / count

    def predict(self, part: str) -> tuple[torch.Tensor, torch.Tensor]:
        """(probabilities [images, num_classes], labels [images]) on "val" or "test",
        in order, on the CPU."""
        with distributed.whole(self.model), autocast(self.device):
            mine = predict_all(self.tested, self.loaders[part])
        # Process r has the images r, r + size, r + 2 size, ...
        probabilities, labels = (
            torch.stack([row for rows in zip_longest(*parts) for row in rows if row is not None])
            for parts in zip(*distributed.from_all(mine)))
        return probabilities, labels

    def resume(self) -> None:
        """Take up the run that `output` holds, after the last step that was saved.

        Raises ValueError without `output`, and CheckpointError where there is no run in it, or one
        with other data, another model or another recipe.
        """
        if self.output is None:
            raise ValueError("a run without a folder can't be resumed: give the trainer its output")
        path = self.output / "last.pt"
        checkpoint = distributed.from_first(read_checkpoint(path) if distributed.rank() == 0
                                            else {})
        if "training" not in checkpoint:
            raise CheckpointError(f"{path} has a model alone, as best.pt does, and not what "
                                  "training needs to go on: use it as --weights of a new run")
        if (checkpoint["class_names"], checkpoint["images_of_an_epoch"]) != (
                self.description["class_names"], self.images_per_epoch):
            raise CheckpointError(f"the data have changed since {path} was made, in their classes "
                                  "or the number of images: put them back, or train anew with "
                                  "another --output")
        for name, ours in (("architecture", self.description["architecture"]),
                           ("recipe", asdict(self.recipe))):
            theirs = checkpoint[name]
            other = [f"{key} {theirs.get(key)} (now {ours[key]})" for key in ours
                     if ours[key] != theirs.get(key)]
            if other:
                raise CheckpointError(f"{path} was made with another {name}: {', '.join(other)}; "
                                      "use the same options, or another --output")

        # Weights and AdamW's averages are whole in the file; here they may be split over processes.
        training = checkpoint["training"]
        self.model.load_state_dict(distributed.sharded_like(training["model"],
                                                            self.model.state_dict()))
        parameters = [parameter for group in self.optimizer.param_groups
                      for parameter in group["params"]]
        for index, state in training["optimizer"]["state"].items():
            averages = {name: parameters[index] for name in ("exp_avg", "exp_avg_sq")}
            state.update(distributed.sharded_like(state, averages))
        self.optimizer.load_state_dict(training["optimizer"])
        self.schedule.load_state_dict(training["scheduler"])
        if self.average:
            self.average.module.load_state_dict(checkpoint["model"])
            self.average.n_averaged.fill_(training["averaged"])
        self.history = checkpoint["history"]
        self.begun = training["begun"]
        self.saved = len(self.history), self.begun["steps"] if self.begun else 0

    def _save(self) -> None:
        """Write into `output`, if any: last.pt, and after a whole epoch history.csv and, where it
        is the best on the images held out, best.pt.

        last.pt comes last: a run that is killed before it goes on from further back, and
        writes all of them again.
        """
        weights = distributed.gathered(self.model.state_dict())
        if not all(tensor.isfinite().all() for tensor in weights.values()):
            raise self._diverged("the weights are not finite")
        if self.output is None:
            return

        # What using the model needs; and what going on needs beside it, in the
        # middle of an epoch too.
        checkpoint = {
            **self.description, "model": self.average.module.state_dict() if self.average
            else weights, "epoch": len(self.history), "images_of_an_epoch": self.images_per_epoch,
            "recipe": asdict(self.recipe), "history": self.history,
        }
        training: dict[str, Any] = {
            "model": weights, "optimizer": distributed.gathered(self.optimizer.state_dict()),
            "scheduler": self.schedule.state_dict(),
            "averaged": self.average.n_averaged.item() if self.average else 0, "begun": None,
        }
        if self.steps:
            training["begun"] = {
                "steps": self.steps, "lr": self.lr,
                "random": distributed.from_all(random_state(self.device)),
                "sums": self.metrics.total(), "seconds": time.perf_counter() - self.start}

        files: dict[str, Callable[[Path], None]] = {}
        if not self.steps:
            files["history.csv"] = self._write_history
            if "val" in self.loaders and (
                    self.history[-1]["val_acc"] >= max(row["val_acc"] for row in self.history)):
                files["best.pt"] = partial(torch.save, checkpoint)
        files["last.pt"] = partial(torch.save, {**checkpoint, "training": training})
        for name, write in files.items() if distributed.rank() == 0 else ():
            try:
                write_atomically(self.output / name, write)
            except (OSError, RuntimeError) as error:  # torch.save raises the latter on a full disk
                reason = str(error).split("\n")[0]
                raise TrainingError(f"{self.output / name} can't be written ({reason}): make room "
                                    "and go on with --resume; what was written before is still "
                                    "there") from None
        self.saved = len(self.history), self.steps

    def _write_history(self, file: Path) -> None:
        with open(file, "w", newline="") as target:
            writer = csv.DictWriter(target, COLUMNS)
            writer.writeheader()
            writer.writerows(self.history)
