"""The training of a run: one step written out, the epochs around it, checkpoints and resuming.

    trainer = Trainer(model, train_loader, Recipe(epochs=20), device, class_names=names,
                      test_loader=test_loader)
    history = trainer.fit()

With `output`, a folder, the run is stored there: history.csv, best.pt and last.pt (Trainer._save).
"""
import csv
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.transforms import v2
from tqdm import tqdm

from going_modular import distributed, engine
from going_modular.datasets.loading import MicroBatchSampler
from going_modular.predictions import AveragedOverViews, predict_all
from going_modular.recipe import (
    Recipe,
    autocast,
    computing_dtype,
    grad_scaler,
    tensor_float_32,
)
from going_modular.utils import (
    CheckpointError,
    lasting_output,
    read_checkpoint,
    set_seeds,
    write_atomically,
)

COLUMNS = ["epoch", "train_loss", "train_acc", "test_loss", "test_acc", "lr", "seconds", "val_loss",
           "val_acc"]


class Stopped(RuntimeError):
    """The run was asked to stop, and has saved its state, if it has a folder."""


class TrainingError(RuntimeError):
    """A run that can't start or can't go on. The message is one line: what happened and what to do
    about it."""


class Diverged(TrainingError):
    """The loss, the gradients or the weights are no longer finite.

    Resuming from last.pt would end in the same way, as a resumed run repeats the same steps.
    """


class EpochMetrics:
    """Sums over the images of an epoch that this process has trained on: loss and right answers.

    The sums are kept on the device. Reading a number from a GPU waits until it has finished all
    work, so a step only adds to them.
    """

    def __init__(self, device: torch.device, loss: float = 0.0, correct: int = 0, images: int = 0):
        """Start from zero, or from the sums of an epoch that was interrupted."""
        # Over a million images a float32 sum would lose digits. MPS has no float64.
        exact = torch.float32 if device.type == "mps" else torch.float64
        self.loss = torch.tensor(loss, dtype=exact, device=device)
        self.correct = torch.tensor(correct, device=device)
        self.images = images
        # Gradient norms of all steps. One step with nan or inf makes the sum nan or inf as well, so
        # a single look at it, later, checks them all.
        self.norm = torch.zeros((), dtype=exact, device=device)

    def add(
        self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor, count: int,
    ) -> None:
        """Add a batch: its mean loss [] and its logits [batch, num_classes].

        labels: class numbers [batch], or after mixup the shares of the classes
            [batch, num_classes], of which the largest counts as the label.
        count: only the first so many images count; 0 for a micro-batch that only fills up a step.
        """
        labels = labels.argmax(dim=1) if labels.ndim == 2 else labels
        self.loss += loss.detach().to(self.loss) * count
        self.correct += (logits.argmax(dim=1) == labels)[:count].sum()
        self.images += count

    def read(self) -> tuple[float, float, float]:
        """(sum of losses, right answers, sum of gradient norms) of this process, in one copy."""
        loss, correct, norm = torch.stack(
            [self.loss, self.correct.to(self.loss), self.norm]).tolist()
        return loss, correct, norm

    def total(self) -> dict[str, float]:
        """The sums over all processes, as Python numbers. This waits for the device."""
        loss, correct, _ = self.read()
        loss, correct, images = distributed.total(loss, correct, self.images)
        return {"loss": loss, "correct": int(correct), "images": int(images)}


class Loader(Protocol):
    """What a run asks of its loaders: a DataLoader has it."""

    sampler: Any  # its length is the number of images of an epoch, for this process

    def __len__(self) -> int:
        """Batches of an epoch."""

    def __iter__(self) -> Iterator:
        """Batches (images [batch, C, H, W], labels [batch])."""


def images_of(loader: Loader) -> int:
    """The number of images that a loader, or a list of batches, gives this process in an epoch."""
    if isinstance(loader, Sequence):
        return sum(len(labels) for _, labels in loader)
    return len(loader.sampler)


def progress_bar(device: torch.device, **options: Any) -> tqdm:
    """A bar for process 0: in a terminal, and in a notebook where a run is long, on a GPU. So the
    outputs of a notebook that was executed on a CPU do not hold one."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if device.type != "cpu" and hasattr(shell, "kernel") and distributed.rank() == 0:
        from tqdm.notebook import tqdm as notebook_tqdm  # needs ipywidgets, which notebooks have

        return notebook_tqdm(**options)
    # disable=None hides the bar where standard error is no terminal.
    return tqdm(disable=True if distributed.rank() else None, **options)


def random_state(device: torch.device) -> dict:
    """The states of PyTorch's random number generators, on the CPU and on this device."""
    state = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        state[device.type] = torch.get_device_module(device).get_rng_state()
    return state


def set_random_state(state: dict, device: torch.device) -> None:
    """Restore a `random_state`. One from another type of device restores the CPU's alone."""
    torch.set_rng_state(state["cpu"])
    if device.type != "cpu" and device.type in state:
        torch.get_device_module(device).set_rng_state(state[device.type])


class Trainer:
    """One run: trains `model` by `recipe`.

    After a stop, `resume` and then `fit` continue from the last.pt in `output`. They give the
    weights that the uninterrupted run would have given: bit for bit on a CPU, while a GPU may add
    in another order. This is possible because the random numbers of an epoch follow from the seed
    and the epoch alone. `stop_soon`, which a signal handler may call, makes `fit` save after the
    current step and raise Stopped.

    val_loader: images held out of the training set; best.pt is the epoch with the highest accuracy
        on them.
    output: the folder of the run, for history.csv (COLUMNS, one row per epoch), last.pt and
        best.pt, which utils.load_model reads. None writes nothing.
    settings: plain values to store in the checkpoints, with the class names and the architecture.
    views: the views of a test image to average over (predictions.views_of); None: the image alone.
    precision: of matrix products and attention, as recipe.computing_dtype takes it.
    compile: use torch.compile. shard: split the weights over the processes (FSDP2).
    quiet: print no line for each epoch.
    Raises ValueError where these contradict one another.
    """

    def __init__(
        self, model: nn.Module, train_loader: Loader, recipe: Recipe, device: torch.device, *,
        class_names: Sequence[str] = (), val_loader: Loader | None = None,
        test_loader: Loader | None = None, output: str | Path | None = None,
        settings: dict | None = None,
        views: Callable[[torch.Tensor], list[torch.Tensor]] | None = None,
        precision: str = "auto", compile: bool = False, shard: bool = False, quiet: bool = False,
    ):
        self.recipe, self.device, self.output = (
            recipe, device, None if output is None else Path(output))
        if self.output is not None:
            self.output.mkdir(parents=True, exist_ok=True)
        # What every checkpoint says about the model, so that it can be rebuilt from the file alone.
        self.description: dict[str, Any] = {
            "class_names": list(class_names), "architecture": getattr(model, "settings", {}),
            "settings": settings or {}}
        self.dtype = computing_dtype(
            device, precision, self.description["architecture"].get("hidden_size", 0))
        self.scaler = grad_scaler(device, self.dtype)
        self.quiet = quiet
        # Sharding comes before `to`: it moves one block after the other to the device, so that the
        # whole model never has to fit on it.
        if shard:
            if distributed.size() == 1:
                raise ValueError("shard splits the weights over several processes: start them by "
                                 "torchrun")
            if recipe.ema:
                raise ValueError("with shard no running average of the weights is kept: leave out "
                                 "ema")
            if recipe.muon:
                raise ValueError("Muon needs whole weight matrices, which shard splits: leave out "
                                 "one of them")
            if self.scaler.is_enabled():
                raise ValueError("with shard there is no float16: use --precision fp32 or bf16")
            distributed.shard(model, device)
        self.model = model.to(device)

        # Data. make_loader's batches come as micro-batches; any other DataLoader gives whole ones.
        loaders = {"train": train_loader, "val": val_loader, "test": test_loader}
        self.loaders = {part: loader for part, loader in loaders.items() if loader is not None}
        batches = getattr(train_loader, "batch_sampler", None)
        self.batches = batches if isinstance(batches, MicroBatchSampler) else None
        if distributed.size() > 1 and not self.batches:
            raise ValueError("several processes need the loaders of data_setup.make_loader, which "
                             "deal out the images")
        self.micro_batches = self.batches.gradient_accumulation if self.batches else 1  # of a step
        self.steps_per_epoch = len(train_loader) // self.micro_batches
        # Of all processes together, where a sampler counts those of this one.
        self.images_per_epoch = (len(self.batches.sampler) if self.batches
                                 else images_of(train_loader))
        if not self.steps_per_epoch or not all(map(images_of, self.loaders.values())):
            raise ValueError("a loader gives no batch: are there fewer images than a batch takes?")

        # The optimizer and its learning rates, and the running average of the weights. The
        # schedule counts steps, so it needs to know how many the whole run will take.
        self.optimizer = recipe.optimizer(self.model)
        self.schedule = recipe.schedule(self.optimizer, recipe.epochs * self.steps_per_epoch)
        self.average = None
        if recipe.ema:
            self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema),
                                         use_buffers=True)
        if recipe.mixup and not class_names:
            raise ValueError("mixup mixes labels: give the trainer the class_names")
        self.mixup = (v2.MixUp(alpha=recipe.mixup, num_classes=len(class_names))
                      if recipe.mixup else None)

        # One model under four names: `model` holds the weights, `trained` is what a step calls,
        # `final_model` is the result that is kept, `tested` is what is evaluated.
        self.trained: nn.Module = self.model
        if compile:
            compiled: Any = torch.compile(self.model)  # a module, which torch types as any callable
            self.trained = compiled
        # FSDP2 already averages gradients over the processes; otherwise DDP has to.
        if distributed.size() > 1 and not shard:
            self.trained = DistributedDataParallel(self.trained)
        self.final_model = self.average.module if self.average else self.model
        self.tested = AveragedOverViews(self.final_model, views) if views else self.final_model

        # The progress of the run
        self.history: list[dict] = []
        self.steps = 0  # of the current epoch
        self.norm = torch.zeros(())  # of the gradients in the last step, before they were clipped
        self.begun: dict | None = None  # the state of an unfinished epoch, set by `resume`
        self.saved = 0, 0  # whole epochs, and steps of the next one, that last.pt contains
        self.saved_at, self.save_seconds = time.perf_counter(), 0.0  # when, and how long it took
        self.unsaved_best: dict[str, Any] | None = None  # the checkpoint of a best epoch since then
        self.stopping = False

    @lasting_output()
    def fit(self) -> list[dict]:
        """Train the epochs that are left.

        Returns the history, a dict for each epoch, with those of COLUMNS for which there are
        loaders. Raises Stopped after `stop_soon`, Diverged where the loss, the gradients or the
        weights are no longer finite, and TrainingError where a file can't be written. After the
        latter two the previous last.pt remains.
        """
        done, epochs, images = len(self.history), self.recipe.epochs, self.images_per_epoch
        # A resumed run shows the progress, and counts the seconds, of the whole epoch.
        shown = done * images + (self.begun["sums"]["images"] if self.begun else 0)
        self.start = time.perf_counter() - (self.begun["seconds"] if self.begun else 0)
        with tensor_float_32(self.device), progress_bar(
                self.device, total=epochs * images, initial=shown, unit=" images") as self.bar:
            for epoch in range(done, epochs):
                self.bar.set_description(f"epoch {epoch + 1}/{epochs}")
                row = {"epoch": epoch + 1, **self._train_epoch(epoch)}
                for part in ("test", "val"):
                    if part in self.loaders:
                        row[f"{part}_loss"], row[f"{part}_acc"] = self.evaluate(part)
                # The time of an epoch includes its evaluation, but not the writing of the files.
                row["seconds"], self.start = time.perf_counter() - self.start, time.perf_counter()
                # With steps at 0, _save knows that the epoch is complete.
                self.history.append(row)
                self.steps = 0
                stopping = distributed.any_of(self.stopping)
                if stopping or epoch + 1 == epochs or self._saving_is_due():
                    self._save()
                else:
                    self._hold()
                if distributed.rank() == 0 and not self.quiet:
                    scores = "".join(f"   {part}: loss {row[f'{part}_loss']:.3f}, accuracy "
                                     f"{row[f'{part}_acc']:.3f}"
                                     for part in ("train", "test") if f"{part}_loss" in row)
                    tqdm.write(f"epoch {epoch + 1:>3}/{epochs}{scores}   {row['seconds']:.1f} s")
                # After the last epoch the run is complete, and a wish to stop is met anyway.
                if stopping and epoch + 1 < epochs:
                    raise Stopped
        return self.history

    def stop_soon(self, *_: object) -> None:
        """Make `fit` save after the current step, or with a loader of one's own after the current
        epoch, and raise Stopped. Usable as a signal handler."""
        self.stopping = True

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        """Do the steps of an epoch that are left.

        Returns the mean loss and the accuracy over all its training images, each measured when the
        image was shown, and the learning rate of its first step.
        """
        begun, self.begun = self.begun, None
        self.steps = begun["steps"] if begun else 0
        if self.batches:
            self.batches.set_epoch(epoch, self.steps)
        # Starting the iterator draws a random number, except where the workers of the last epoch
        # are kept. So the seed is set after it, and an epoch is the same in both cases.
        batches = iter(self.loaders["train"])
        # The seed of dropout, stochastic depth and mixup, another one for each epoch and process.
        # Large primes keep seeds of different runs apart; NumPy takes seeds below 2^32 only.
        set_seeds((self.recipe.seed + epoch * 1_000_003 + distributed.rank() * 7_919) % 2**32)
        # A run may be resumed with more processes than before: the new ones have nothing to restore.
        if begun and distributed.rank() < len(begun["random"]):
            set_random_state(begun["random"][distributed.rank()], self.device)
        self.lr = begun["lr"] if begun else self.optimizer.param_groups[0]["lr"]
        # The stored sums are those of all processes. Process 0 alone starts from them, as the sums
        # of the processes are added at the end of the epoch.
        self.metrics = EpochMetrics(self.device,
                                    **(begun["sums"] if begun and distributed.rank() == 0 else {}))

        # Evaluation has left the model in evaluation mode: back to dropout and stochastic depth.
        self.trained.train()
        while self.steps < self.steps_per_epoch:
            try:
                self._step(batches)
            except StopIteration:
                raise ValueError(f"the training loader ended after {self.steps} steps, where its "
                                 f"length promises {self.steps_per_epoch}") from None
        self._read_metrics()
        self._raise_where_nothing_moves()
        seen = self.metrics.total()
        return {"train_loss": seen["loss"] / seen["images"],
                "train_acc": seen["correct"] / seen["images"], "lr": self.lr}

    def _step(self, batches: Iterator) -> None:
        """One step of the optimizer: from the next batch to new weights."""
        self.optimizer.zero_grad()
        shown = 0
        # Gradient accumulation: backward() adds to the gradients that are there, so those of the
        # micro-batches add up to that of the whole batch.
        for micro_batch in range(self.micro_batches):
            images, labels = next(batches)
            images, labels = images.to(self.device), labels.to(self.device)
            if self.mixup:
                images, labels = self.mixup(images, labels)
            count, weight = self._count_and_weight(micro_batch, len(images))

            with self._averaging_gradients(micro_batch):
                # Mixed precision; autocast computes the loss in float32 in any case.
                with autocast(self.device, self.dtype):
                    logits = self.trained(images)  # [batch, num_classes]
                    loss = F.cross_entropy(logits, labels,
                                           label_smoothing=self.recipe.label_smoothing)
                self.scaler.scale(weight * loss).backward()
            self.metrics.add(loss, logits, labels, count)
            shown += count

        # The gradient is whole only now, so this is the place to clip its norm (Table 3).
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self.norm = distributed.whole_tensor(norm)
        if not self.scaler.is_enabled():  # else an overflow of float16, whose step is left out
            self.metrics.norm += self.norm
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        if self.average:
            self.average.update_parameters(self.model)

        self.steps += 1
        self._show_progress(shown)
        # A signal may reach one process alone, but all must stop at the same step: the others would
        # wait for its gradients. After the last step of an epoch, `fit` saves and stops anyway.
        # A loader of one's own can't begin within an epoch; with it, too, the run stops at its end.
        if self.batches and distributed.any_of(self.stopping) and (
                self.steps < self.steps_per_epoch):
            self._save()
            raise Stopped

    def _count_and_weight(self, micro_batch: int, images: int) -> tuple[int, float]:
        """(images of this micro-batch that count, weight of its mean loss in that of the batch).

        Micro-batches may differ in size, so each counts by its share of the batch's images. The
        weights of a batch sum to the number of processes, because DDP and FSDP2 divide the sum of
        the processes' gradients by it.
        """
        if self.batches is None:
            return images, 1.0
        count, of_batch = self.batches.images(self.steps * self.micro_batches + micro_batch)
        return count, count * distributed.size() / of_batch

    def _averaging_gradients(self, micro_batch: int) -> AbstractContextManager:
        """A context in which DDP exchanges gradients with the last micro-batch of a step alone.

        One exchange per step is enough, as gradients are added up before it; each costs time.
        """
        is_last = micro_batch + 1 == self.micro_batches
        return (nullcontext() if is_last or not isinstance(self.trained, DistributedDataParallel)
                else self.trained.no_sync())

    def _show_progress(self, images: int) -> None:
        """Advance the bar by this number of images of this process.

        The sums are read, which waits for the device, only when the bar is drawn again, which tqdm
        does some times a second. On a CPU there is nothing to wait for, and all processes read
        them at each step, which finds a divergence at once.
        """
        drawn = self.bar.update(images * distributed.size())
        if drawn or self.device.type == "cpu":
            loss, correct = self._read_metrics()
            # The others show no bar. They may have no image yet, where a resumed epoch has only a
            # last batch left that is too small for all.
            if distributed.rank() == 0:
                loss, accuracy = loss / self.metrics.images, correct / self.metrics.images
                self.bar.set_postfix(loss=f"{loss:.3f}", accuracy=f"{accuracy:.3f}", refresh=False)

    def _read_metrics(self) -> tuple[float, float]:
        """(sum of losses, right answers) of this epoch: this waits for the device, once.

        Raises Diverged where a loss or a gradient of this epoch was not finite.
        """
        loss, correct, norm = self.metrics.read()
        for what, value in (("loss", loss), ("norm of the gradients", norm)):
            if not math.isfinite(value):
                raise self._diverged(f"the {what} is {value}")
        return loss, correct

    def _raise_where_nothing_moves(self) -> None:
        """Raise Diverged where all steps were left out, as their gradients overflow float16."""
        # The scale halves with each step that overflows; below 1, no scale would have helped.
        if self.scaler.is_enabled() and self.scaler.get_scale() < 1:
            raise self._diverged("the gradients overflow float16 whatever the loss is scaled by")

    def _diverged(self, what: str) -> Diverged:
        steps = len(self.history) * self.steps_per_epoch + self.steps
        lr = self.recipe.lr * self.recipe.lr_factor(max(steps - 1, 0),
                                                    self.recipe.epochs * self.steps_per_epoch)
        where = (f"epoch {len(self.history) + 1}, seen at step {self.steps} of "
                 f"{self.steps_per_epoch}")
        return Diverged(f"{what} in {where}, at a learning rate of {lr:.2g}: try a lower --lr, "
                        "with another --output")

    def evaluate(self, part: str) -> tuple[float, float]:
        """(mean loss, accuracy) of the final model on "val" or "test", without label smoothing."""
        loader = self.loaders[part]
        images = images_of(loader)
        # Each process evaluates its share of the images; sums, unlike means, can be added up.
        with distributed.whole(self.model), autocast(self.device, self.dtype):
            loss, accuracy = engine.test_step(self.tested, loader, F.cross_entropy, self.device)
        loss, correct, count = distributed.total(loss * images, accuracy * images, images)
        return loss / count, correct / count

    def predict(self, part: str) -> tuple[torch.Tensor, torch.Tensor]:
        """(probabilities [images, num_classes], labels [images]) on "val" or "test",
        in order, on the CPU."""
        with distributed.whole(self.model), autocast(self.device, self.dtype):
            mine = predict_all(self.tested, self.loaders[part])
        # Process r has the images r, r + size, r + 2 size, ...: taking one from each in turn
        # restores their order. The last round may lack some, which zip_longest fills with None.
        probabilities, labels = (
            torch.stack([row for rows in zip_longest(*parts) for row in rows if row is not None])
            for parts in zip(*distributed.from_all(mine)))
        return probabilities, labels

    def resume(self) -> None:
        """Restore the run in `output`, so that `fit` continues after the last step that was saved.

        Raises ValueError without `output`, and CheckpointError where it contains no run, or a run
        with other data, another number of steps an epoch, another model or another recipe.
        """
        if self.output is None:
            raise ValueError("a run without a folder can't be resumed: give the trainer its output")
        path = self.output / "last.pt"
        # Process 0 reads the file for all, as the others may run on machines that do not have it.
        checkpoint = distributed.from_first(read_checkpoint(path) if distributed.rank() == 0
                                            else {})
        self._refuse_another_run(checkpoint, path)

        # Weights and AdamW's averages are whole in the file; here they may be split over processes.
        training = checkpoint["training"]
        self.model.load_state_dict(
            distributed.sharded_like(training["model"], self.model.state_dict()))
        parameters = [parameter for group in self.optimizer.param_groups
                      for parameter in group["params"]]
        for index, state in training["optimizer"]["state"].items():
            averages = {name: parameters[index] for name in ("exp_avg", "exp_avg_sq")}
            state.update(distributed.sharded_like(state, averages))
        self.optimizer.load_state_dict(training["optimizer"])
        self.schedule.load_state_dict(training["scheduler"])
        # The count belongs to the average: at 0, the next update would overwrite it.
        if self.average:
            self.average.module.load_state_dict(checkpoint["model"])
            self.average.n_averaged.fill_(training["averaged"])
        # A run may go on in another precision; then the scale is found anew.
        if self.scaler.is_enabled() and training.get("scaler"):
            self.scaler.load_state_dict(training["scaler"])
        self.history = checkpoint["history"]
        self.begun = training["begun"]
        self.saved = len(self.history), self.begun["steps"] if self.begun else 0

    def _refuse_another_run(self, checkpoint: dict[str, Any], path: Path) -> None:
        """Raise CheckpointError where the run of this checkpoint is not the one of this trainer."""
        if "training" not in checkpoint:
            raise CheckpointError(f"{path} has a model alone, as best.pt does, and not what "
                                  "training needs to go on: use it as --weights of a new run")

        # Going on with anything else than before would end in weights that no recipe describes.
        if (checkpoint["class_names"], checkpoint["images_of_an_epoch"]) != (
                self.description["class_names"], self.images_per_epoch):
            raise CheckpointError(f"the data have changed since {path} was made, in their classes "
                                  "or the number of images: put them back, or train anew with "
                                  "another --output")
        # Checkpoints of before do not say how many steps an epoch had.
        steps = checkpoint.get("steps_per_epoch", self.steps_per_epoch)
        if steps != self.steps_per_epoch:
            raise CheckpointError(f"{path} was made with {steps} steps an epoch, and the training "
                                  f"loader gives {self.steps_per_epoch}: use the same batch size, "
                                  "or another --output")
        for name, ours, defaults in (
                ("architecture", self.description["architecture"], {}),
                ("recipe", asdict(self.recipe), {"muon": 0.0})):  # which earlier runs did not have
            theirs = {**defaults, **checkpoint[name]}
            other = [f"{key} {theirs.get(key)} (now {ours[key]})" for key in ours
                     if ours[key] != theirs.get(key)]
            if other:
                raise CheckpointError(f"{path} was made with another {name}: {', '.join(other)}; "
                                      "use the same options, or another --output")

    def _saving_is_due(self) -> bool:
        """Whether to save after an epoch that is not the last one: always where that takes less than
        a second, and else so seldom that it takes a twentieth of the time at most. (With AdamW's
        averages a ViT-B/16 is 1 GB, and an epoch on few images is over in seconds.)"""
        waited = time.perf_counter() - self.saved_at
        # Process 0 decides for all, as they gather the weights together.
        return distributed.from_first(self.save_seconds < 1 or waited > 20 * self.save_seconds)

    def _is_best(self) -> bool:
        """Whether the last epoch is the best so far on the held-out images. Among equally good ones
        it is the last one, as it has been trained longest."""
        return "val" in self.loaders and (
            self.history[-1]["val_acc"] >= max(row["val_acc"] for row in self.history))

    def _finite_weights(self) -> dict[str, torch.Tensor]:
        """The weights, gathered from all processes. Raises Diverged where they are not finite: such
        weights must not replace those of the last good step."""
        weights = distributed.gathered(self.model.state_dict())
        if not all(tensor.isfinite().all() for tensor in weights.values()):
            raise self._diverged("the weights are not finite")
        return weights

    def _checkpoint(self, weights: dict[str, torch.Tensor]) -> dict[str, Any]:
        """What it takes to use the model. With `ema` that is the average, while the training
        continues from the weights themselves."""
        return {
            **self.description, "model": self.average.module.state_dict() if self.average
            else weights, "epoch": len(self.history), "images_of_an_epoch": self.images_per_epoch,
            "steps_per_epoch": self.steps_per_epoch, "recipe": asdict(self.recipe),
            "history": self.history,
        }

    def _hold(self) -> None:
        """Keep what an epoch has made until it is saved: the history in its file, and the weights,
        where they are the best so far, in memory."""
        weights = self._finite_weights()
        if self.output is None:
            return
        if self._is_best():
            best = self._checkpoint(weights)
            copies = {name: tensor.cpu().clone() for name, tensor in best["model"].items()}
            self.unsaved_best = {**best, "model": copies, "history": [*self.history]}
        self._write({"history.csv": self._write_history})

    def _save(self) -> None:
        """Write last.pt into `output`, if any; after a whole epoch history.csv as well, and best.pt
        where an epoch since the last save is the best so far on the held-out images.

        last.pt is written last. A run that is killed before that resumes from the previous one and
        writes all three again, so that the files never disagree for good.
        """
        weights = self._finite_weights()
        if self.output is None:
            return
        start = time.perf_counter()
        checkpoint = self._checkpoint(weights)
        # `training` is what it takes to resume, and `begun` within it, in the middle of an epoch.
        training: dict[str, Any] = {
            "model": weights, "optimizer": distributed.gathered(self.optimizer.state_dict()),
            "scheduler": self.schedule.state_dict(),
            "averaged": self.average.n_averaged.item() if self.average else 0,
            "scaler": self.scaler.state_dict(), "begun": None,
        }
        if self.steps:
            training["begun"] = {
                "steps": self.steps, "lr": self.lr,
                "random": distributed.from_all(random_state(self.device)),
                "sums": self.metrics.total(), "seconds": time.perf_counter() - self.start}

        files: dict[str, Callable[[Path], Any]] = {}
        best = checkpoint if not self.steps and self._is_best() else self.unsaved_best
        if not self.steps:
            files["history.csv"] = self._write_history
        if best is not None:
            files["best.pt"] = partial(torch.save, best)
        files["last.pt"] = partial(torch.save, {**checkpoint, "training": training})
        self._write(files)
        self.unsaved_best = None
        self.saved = len(self.history), self.steps
        self.saved_at = time.perf_counter()
        self.save_seconds = self.saved_at - start

    def _write(self, files: dict[str, Callable[[Path], Any]]) -> None:
        """Write files of these names into `output`, in process 0. Raises TrainingError where one
        can't be written."""
        assert self.output is not None
        for name, write in files.items() if distributed.rank() == 0 else ():
            try:
                write_atomically(self.output / name, write)
            except (OSError, RuntimeError) as error:  # torch.save raises the latter on a full disk
                reason = str(error).split("\n")[0]
                raise TrainingError(f"{self.output / name} can't be written ({reason}): make room "
                                    "and go on with --resume; what was written before is still "
                                    "there") from None

    def _write_history(self, file: Path) -> None:
        with open(file, "w", newline="") as target:
            writer = csv.DictWriter(target, COLUMNS)
            writer.writeheader()
            writer.writerows(self.history)
