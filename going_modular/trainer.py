"""What a long run needs around `engine.train_step`: a recipe, mixed precision, checkpoints, resume, a progress bar.

The loop itself stays the one of `engine`. What a long run adds to each step hangs on what that loop is given: the
optimizer (clipping before its step; schedule and weight averaging after it; batches in parts), the loss (progress, and
a stop where it is no longer finite), the batches (mixup, progress bar) and the model (autocast, several processes).
"""
import csv
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from tqdm import tqdm

from going_modular import distributed, engine
from going_modular.data_setup import BatchShares
from going_modular.utils import CheckpointError, read_checkpoint, set_seeds, write_atomically

COLUMNS = ["epoch", "train_loss", "train_acc", "test_loss", "test_acc", "lr", "seconds", "val_loss", "val_acc"]


class Stopped(RuntimeError):
    """A run that was asked to stop, and has saved where it stands."""


class TrainingError(RuntimeError):
    """A run that can't go on, or can't start. The message is one line: what happened and the way out."""


class Diverged(TrainingError):
    """A run whose loss, gradients or weights are no longer finite. Going on from last.pt would lead there again."""


@dataclass
class Recipe:
    """How to train. The defaults are a recipe for a few hundred photos; Table 3 has the paper's."""

    epochs: int
    lr: float = 2e-3  # the highest one, after the warm-up
    weight_decay: float = 0.05  # decoupled, on weight matrices alone
    beta2: float = 0.95  # AdamW's memory of squared gradients: short, as a small set makes few steps
    warmup: float = 0.1  # share of all steps over which the learning rate rises linearly
    clip_norm: float = 1.0  # global gradient norm
    label_smoothing: float = 0.1
    mixup: float = 0.0  # alpha of the Beta distribution that mixes pairs of images; 0 mixes none
    ema: float = 0.0  # decay of the running average of the weights that is evaluated and kept; 0 keeps the last ones
    seed: int = 42
    compile: bool = False  # torch.compile
    checkpointing: bool = False  # keep a block's input alone and compute the rest again in the backward pass
    shard: bool = False  # split the weights over the processes (FSDP2)

    def __post_init__(self):
        for name in ("epochs", "lr", "clip_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("beta2", "warmup", "label_smoothing", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, not {getattr(self, name)}")
        for name in ("weight_decay", "mixup"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        if self.shard and self.ema:
            raise ValueError("with shard no running average of the weights is kept: leave out ema")
        if self.shard and distributed.size() == 1:
            raise ValueError("shard splits the weights over several processes: start them by torchrun")


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Two groups for AdamW: the weight matrices of linear layers and convolutions decay; biases, LayerNorms, class
    token and position embeddings do not."""
    decayed = [module.weight for module in model.modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    names = {id(parameter) for parameter in decayed}
    others = [parameter for parameter in model.parameters() if id(parameter) not in names]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def warmup_cosine(step: int, warmup_steps: int, total_steps: int) -> float:
    """The learning rate of a step (from 0 on) as a share of the highest: a linear rise, then half a cosine to 0."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(total_steps - warmup_steps, 1)))


class Autocast(nn.Module):
    """A model whose matrix products and attention are in bfloat16; its weights, LayerNorms, residual sums and logits
    are in float32."""

    def __init__(self, model: nn.Module, device_type: str):
        super().__init__()
        self.model, self.device_type = model, device_type

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.device_type, torch.bfloat16):
            return self.model(images).float()


def in_mixed_precision(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with Autocast where that is fast: on NVIDIA's GPUs since Ampere. Older ones, as the T4, only emulate
    bfloat16, and the model stays as it is."""
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return Autocast(model, device.type) if fast else model


class WatchedLoss:
    """A loss function that shows its running mean on the progress bar, and stops the run when it is not finite.

    loss and correct are sums over the `images` of this epoch, those of this process. `share` says how many of the next
    images count and what their mean weighs (BatchShares); None where all do, as a batch of their own. diverged: makes
    the error from what is not finite.
    """

    def __init__(self, loss_fn: Callable, diverged: Callable[[str], Diverged]):
        self.loss_fn, self.diverged, self.bar, self.share = loss_fn, diverged, None, None
        self.start()

    def start(self, loss: float = 0.0, correct: int = 0, images: int = 0) -> None:
        """Begin to count, from nothing or from what an interrupted epoch had counted."""
        self.loss, self.correct, self.images = loss, correct, images

    def sums(self) -> dict:
        """Those of all processes."""
        loss, correct, images = distributed.total(self.loss, self.correct, self.images)
        return {"loss": loss, "correct": int(correct), "images": int(images)}

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        count, weight = self.share or (len(logits), 1.0)
        loss = self.loss_fn(logits, labels)
        value = loss.item()
        if not math.isfinite(value):
            raise self.diverged(f"the loss is {value}")
        hard_labels = labels.argmax(dim=1) if labels.ndim == 2 else labels
        self.correct += (logits.argmax(dim=1) == hard_labels)[:count].sum().item()
        self.loss += value * count
        self.images += count
        if self.bar is not None and self.images:
            self.bar.set_postfix(loss=f"{self.loss / self.images:.3f}", accuracy=f"{self.correct / self.images:.3f}",
                                 refresh=False)
            self.bar.update(count * distributed.size())
        return loss * weight


class InParts:
    """An optimizer that takes a step after each so many calls of `step`, by the sum of their gradients."""

    def __init__(self, optimizer: torch.optim.Optimizer, parts: int):
        self.optimizer, self.parts, self.calls = optimizer, parts, 0

    def zero_grad(self) -> None:
        if self.calls % self.parts == 0:
            self.optimizer.zero_grad()

    def step(self) -> None:
        self.calls += 1
        if self.calls % self.parts == 0:
            self.optimizer.step()


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


HOW = {"checkpointing", "shard", "compile"}  # fields of Recipe that change how it is computed, not what


class Trainer:
    """One run: trains `model` by `recipe` and keeps it in the folder `output`.

    The folder gets history.csv (COLUMNS; a row an epoch), last.pt after each epoch, and best.pt, the epoch with the
    highest accuracy on `val_loader`, a part held out of the training set. After a stop, `resume` and `fit` go on
    from last.pt and give the weights of the uninterrupted run (on a CPU bit for bit; a GPU may add in another order):
    the random numbers of an epoch follow from seed and epoch alone. `stop_soon`, which a signal handler may call,
    saves after the next step and raises Stopped.

    description: plain values that go into the checkpoints: class_names, architecture, settings (utils.load_model).
    """

    def __init__(
        self, model: nn.Module, train_loader: DataLoader, val_loader: DataLoader, test_loader: DataLoader,
        recipe: Recipe, device: torch.device, output: str | Path, description: dict,
    ):
        if recipe.checkpointing:
            for block in model.blocks:
                block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        if recipe.shard:
            distributed.shard(model, device)  # takes a block after the other to the device
        self.model = model.to(device)
        self.loaders = {"train": train_loader, "val": val_loader, "test": test_loader}
        self.recipe, self.device, self.output, self.description = recipe, device, Path(output), description
        batches = getattr(train_loader, "batch_sampler", None)
        self.shares = batches if isinstance(batches, BatchShares) else None  # None: a loader of the caller's own
        if distributed.size() > 1 and not self.shares:
            raise ValueError("several processes need the loaders of data_setup.make_loader, which share out the images")
        self.parts = self.shares.parts if self.shares else 1
        self.steps_of_an_epoch = len(train_loader) // self.parts
        self.images_of_an_epoch = len((self.shares or train_loader).sampler)
        self.history: list[dict] = []
        self.steps = 0  # done in the epoch that has begun
        self.stopping = False
        self.begun = None  # what a resumed run takes up in the middle of an epoch
        self.saved = 0, 0  # whole epochs, and steps of the next one, that last.pt holds

        self.optimizer = torch.optim.AdamW(parameter_groups(model, recipe.weight_decay), lr=recipe.lr,
                                           betas=(0.9, recipe.beta2), fused=device.type in ("cpu", "cuda"))
        total_steps = recipe.epochs * self.steps_of_an_epoch
        warmup_steps = round(recipe.warmup * total_steps)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: warmup_cosine(step, warmup_steps, total_steps))
        self.optimizer.register_step_pre_hook(lambda *_: self._before_step())
        self.optimizer.register_step_post_hook(lambda *_: self._after_step())

        self.average = None
        if recipe.ema:
            self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema), use_buffers=True)
        self.final_model = self.average.module if self.average else model  # what is evaluated and kept
        self.mixup = v2.MixUp(alpha=recipe.mixup, num_classes=len(description["class_names"])) if recipe.mixup else None
        self.loss_fn = WatchedLoss(nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing), self._diverged)

        self.trained, self.evaluated = (in_mixed_precision(kept, device) for kept in (self.model, self.final_model))
        if recipe.compile:
            self.trained = torch.compile(self.trained)
        if distributed.size() > 1 and not recipe.shard:
            self.trained = DistributedDataParallel(self.trained)

    def fit(self) -> list[dict]:
        """Train the epochs that are left. Returns the history: a dict with COLUMNS for each epoch.

        Raises Stopped after stop_soon, Diverged where loss, gradients or weights are no longer finite, and
        TrainingError where a file can't be written; last.pt stays.
        """
        done, epochs, images = len(self.history), self.recipe.epochs, self.images_of_an_epoch
        shown = done * images + (self.begun["sums"]["images"] if self.begun else 0)
        self.start = time.perf_counter() - (self.begun["seconds"] if self.begun else 0)
        hidden = True if distributed.rank() else None  # None: hidden where there is no terminal
        with tqdm(total=epochs * images, initial=shown, unit=" images", disable=hidden) as self.loss_fn.bar:
            for epoch in range(done, epochs):
                self.loss_fn.bar.set_description(f"epoch {epoch + 1}/{epochs}")
                row = {"epoch": epoch + 1, **self._train_epoch(epoch)}
                row["test_loss"], row["test_acc"] = self.evaluate("test")
                row["val_loss"], row["val_acc"] = self.evaluate("val")
                row["seconds"], self.start = time.perf_counter() - self.start, time.perf_counter()
                self.history.append(row)
                self.steps = 0
                self._save()
                if distributed.rank() == 0:
                    tqdm.write(f"epoch {epoch + 1:>3}/{epochs}   train: loss {row['train_loss']:.3f}, accuracy "
                               f"{row['train_acc']:.3f}   test: loss {row['test_loss']:.3f}, accuracy "
                               f"{row['test_acc']:.3f}   {row['seconds']:.1f} s")
                if distributed.any_of(self.stopping) and epoch + 1 < epochs:
                    raise Stopped
        return self.history

    def stop_soon(self, *_) -> None:
        """Save after the step that is under way, and raise Stopped from `fit`. It can serve as a signal handler."""
        self.stopping = True

    def evaluate(self, part: str) -> tuple[float, float]:
        """(mean loss, accuracy) of the model that is kept on "val" or "test"; the loss is without label smoothing."""
        loader = self.loaders[part]
        images = len(loader.sampler)  # those of this process
        with distributed.whole(self.model):
            loss, accuracy = engine.test_step(self.evaluated, loader, F.cross_entropy, self.device)
        loss, correct, images = distributed.total(loss * images, accuracy * images, images)
        return loss / images, correct / images

    def resume(self) -> None:
        """Take up the run that `output` holds, after the last step that was saved.

        Raises CheckpointError where there is none, or it holds other data, another model or another recipe.
        """
        path = self.output / "last.pt"
        checkpoint = distributed.from_first(read_checkpoint(path) if distributed.rank() == 0 else None)
        if "training" not in checkpoint:
            raise CheckpointError(f"{path} has a model alone, as best.pt does, and not what training needs to go on: "
                                  "use it as --weights of a new run")
        if (checkpoint["class_names"], checkpoint["images_of_an_epoch"]) != (
                self.description["class_names"], self.images_of_an_epoch):
            raise CheckpointError(f"the data have changed since {path} was made, in their classes or the number of "
                                  "images: put them back, or train anew with another --output")
        for name, ours in (("architecture", self.description["architecture"]), ("recipe", asdict(self.recipe))):
            theirs = checkpoint[name]
            other = [f"{key} {theirs.get(key)} (now {ours.get(key)})" for key in ours
                     if key not in HOW and ours[key] != theirs.get(key)]
            if other:
                raise CheckpointError(f"{path} was made with another {name}: {', '.join(other)}; use the same options, "
                                      "or another --output")
        training = checkpoint["training"]
        self.model.load_state_dict(distributed.sharded_like(training["model"], self.model.state_dict()))
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for index, state in training["optimizer"]["state"].items():
            averages = {name: parameters[index] for name in ("exp_avg", "exp_avg_sq")}
            state.update(distributed.sharded_like(state, averages))
        self.optimizer.load_state_dict(training["optimizer"])
        self.scheduler.load_state_dict(training["scheduler"])
        if self.average:
            self.average.module.load_state_dict(checkpoint["model"])
            self.average.n_averaged.fill_(training["averaged"])
        self.history = checkpoint["history"]
        self.begun = training["begun"]
        self.saved = len(self.history), self.begun["steps"] if self.begun else 0

    def _diverged(self, what: str) -> Diverged:
        lr = self.optimizer.param_groups[0]["lr"]
        return Diverged(f"{what} in epoch {len(self.history) + 1}, after {self.steps} of its {self.steps_of_an_epoch} "
                        f"batches, at a learning rate of {lr:.2g}: try a lower --lr, with another --output")

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        begun, self.begun = self.begun, None
        self.steps = begun["steps"] if begun else 0
        if self.shares:
            self.shares.set_epoch(epoch, self.steps)
        loaded = iter(self.loaders["train"])  # draws a random number, but not where workers go on from before
        # dropout, stochastic depth and mixup of this epoch; other processes have other random numbers
        set_seeds((self.recipe.seed + epoch * 1_000_003 + distributed.rank() * 7_919) % 2**32)
        self.lr = begun["lr"] if begun else self.optimizer.param_groups[0]["lr"]
        self.loss_fn.start(**(begun["sums"] if begun and distributed.rank() == 0 else {}))
        if begun and distributed.rank() < len(begun["random"]):  # else other processes than before go on
            set_random_state(begun["random"][distributed.rank()], self.device)
        engine.train_step(self.trained, self._batches(loaded), self.loss_fn,
                          InParts(self.optimizer, self.parts), self.device)
        seen = self.loss_fn.sums()  # of the whole epoch, even where the steps before a stop were made elsewhere
        return {"train_loss": seen["loss"] / seen["images"], "train_acc": seen["correct"] / seen["images"],
                "lr": self.lr}

    def _batches(self, loaded: Iterator) -> Iterator:
        """The training batches, or their parts, mixed; gradients are averaged over the processes at the last part."""
        several = isinstance(self.trained, DistributedDataParallel)
        for number, (images, labels) in enumerate(loaded, start=self.steps * self.parts):
            self.loss_fn.share = self.shares.share(number) if self.shares else None
            if self.mixup:
                images, labels = self.mixup(images.to(self.device), labels.to(self.device))
            with self.trained.no_sync() if several and (number + 1) % self.parts else nullcontext():
                yield images, labels

    def _before_step(self) -> None:
        norm = distributed.gathered(nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm))
        if not math.isfinite(norm):
            raise self._diverged(f"the norm of the gradients is {norm}")

    def _after_step(self) -> None:
        self.scheduler.step()
        if self.average:
            self.average.update_parameters(self.model)
        self.steps += 1
        if distributed.any_of(self.stopping) and self.steps < self.steps_of_an_epoch:  # else it will be saved anyway
            self._save()
            raise Stopped

    def _save(self) -> None:
        """Write last.pt, and after a whole epoch history.csv, and best.pt where it is the best on the held-out part.

        last.pt comes last: a run that is killed before it goes on from further back, and writes all of them again.
        """
        weights = distributed.gathered(self.model.state_dict())
        checkpoint = {
            **self.description, "model": self.average.module.state_dict() if self.average else weights,
            "epoch": len(self.history), "images_of_an_epoch": self.images_of_an_epoch,
            "recipe": asdict(self.recipe), "history": self.history,
        }
        training = {"model": weights,
                    "optimizer": distributed.gathered(self.optimizer.state_dict()),
                    "scheduler": self.scheduler.state_dict(),
                    "averaged": self.average.n_averaged.item() if self.average else 0, "begun": None}
        if not all(tensor.isfinite().all() for tensor in training["model"].values()):
            raise self._diverged("the weights are not finite")
        if self.steps:
            training["begun"] = {
                "steps": self.steps, "lr": self.lr, "random": distributed.from_all(random_state(self.device)),
                "sums": self.loss_fn.sums(), "seconds": time.perf_counter() - self.start}
        files = {"last.pt": lambda file: torch.save({**checkpoint, "training": training}, file)}
        if not self.steps:
            if self.history[-1]["val_acc"] >= max(row["val_acc"] for row in self.history):
                files = {"best.pt": lambda file: torch.save(checkpoint, file), **files}
            files = {"history.csv": self._write_history, **files}
        for name, write in files.items() if distributed.rank() == 0 else ():
            try:
                write_atomically(self.output / name, write)
            except (OSError, RuntimeError) as error:  # torch.save raises the latter on a full disk
                reason = str(error).split("\n")[0]
                raise TrainingError(f"{self.output / name} can't be written ({reason}): make room and go on with "
                                    "--resume; what was written before is still there") from None
        self.saved = len(self.history), self.steps

    def _write_history(self, file: Path) -> None:
        with open(file, "w", newline="") as target:
            writer = csv.DictWriter(target, COLUMNS)
            writer.writeheader()
            writer.writerows(self.history)
