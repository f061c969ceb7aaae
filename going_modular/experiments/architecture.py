"""The experiments of notebook 11: many short trainings, each of which differs in one thing.

An experiment has rows, and each row is trained with several seeds. benchmarks/architecture.py
trains them all and writes measured/architecture.json. The notebook shows that file, and trains a
few of the rows again.
"""
import json
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import torch
import torch.nn.functional as F

from going_modular import data_setup
from going_modular.data_setup import ImageData
from going_modular.experiments import MEASURED
from going_modular.paper.positions import POSITION_VARIANTS
from going_modular.recipe import Recipe
from going_modular.trainer import Trainer
from going_modular.utils import write_atomically
from going_modular.vit import ViT, count_macs


class Setup(TypedDict):
    """What all rows on a data set share: the training, the base model, and what is varied."""

    train_images: int
    epochs: int
    batch_size: int
    lr: float
    shift: int  # pixels
    flip: bool
    base: dict[str, int]  # settings of ViT
    lrs: tuple[float, ...]
    scaling: dict[str, tuple[int, ...]]  # a setting of ViT: its other values


# Drawn digits take seconds a row, in the notebook; CIFAR-100 takes a GPU.
SETUPS: dict[str, Setup] = {
    "drawn_digits": dict(
        train_images=2000, epochs=8, batch_size=50, lr=4e-3, shift=1, flip=False,
        base=dict(image_size=28, in_channels=1, patch_size=7, num_layers=2, hidden_size=32,
                  mlp_size=64, num_heads=2),
        lrs=(5e-4, 2e-3, 8e-3, 3e-2),
        scaling=dict(num_layers=(1, 4, 8), hidden_size=(16, 64, 128), mlp_size=(16, 256, 1024),
                     patch_size=(14, 4))),
    "cifar100": dict(
        train_images=50_000, epochs=30, batch_size=256, lr=1e-3, shift=4, flip=True,
        base=dict(image_size=32, in_channels=3, patch_size=4, num_layers=6, hidden_size=192,
                  mlp_size=384, num_heads=3),
        lrs=(3e-4, 1e-3, 3e-3, 1e-2),
        scaling=dict(num_layers=(3, 12, 24), hidden_size=(96, 384, 768), mlp_size=(96, 1536, 6144),
                     patch_size=(8, 2))),
}
# The number of seeds of each row: 0, 1, ...
SEEDS = {"positions": 5, "positions_faster": 5, "pooling": 3, "scaling": 3,
         "scaling_large_start": 3}


class Images(NamedTuple):
    """A data set as tensors: images [count, C, H, W] in [-1, 1], labels [count]."""

    train: torch.Tensor
    train_labels: torch.Tensor
    test: torch.Tensor
    test_labels: torch.Tensor

    def to(self, device: torch.device | str) -> "Images":
        return Images(*(part.to(device) for part in self))


def load(name: str) -> Images:
    """A data set of SETUPS: `train_images` training images, always the same, and all test images.

    Raises DataError where the data set is not available.
    """
    return as_tensors(data_setup.load(name), SETUPS[name])


def as_tensors(data: ImageData, setup: Setup) -> Images:
    """`train_images` random training images of a data set, always the same, and all test images."""
    transform, parts = data_setup.eval_transform(setup["base"]["image_size"]), []
    picked = torch.randperm(len(data.train),
                            generator=torch.Generator().manual_seed(0))[: setup["train_images"]]
    for part, indices in ((data.train, picked.tolist()), (data.test, range(len(data.test)))):
        # The slice keeps one channel of the digits, which the transform has repeated to three.
        targets = data_setup.labels(part)
        parts.append(torch.stack([transform(part[i][0])[: setup["base"]["in_channels"]]
                                  for i in indices]))
        parts.append(torch.tensor([targets[i] for i in indices]))
    return Images(*parts)


def rows(name: str) -> dict[str, dict[str, dict]]:
    """The experiments on a data set of SETUPS: experiment -> row -> what it changes.

    positions: Table 8.
    positions_faster: the same at twice the learning rate.
    pooling: class token against mean, each at several learning rates (Figure 9).
    scaling: depth, width, MLP and patches, one at a time (Figure 8).
    scaling_large_start: the same with positions that start 20 times as large.
    """
    setup = SETUPS[name]
    scaling: dict[str, dict] = {"base": {}, **{
        f"{what} {value}": {what: value}
        for what, values in setup["scaling"].items() for value in values}}
    return {
        "positions": {kind: {"positions": kind} for kind in POSITION_VARIANTS},
        "positions_faster": {kind: {"positions": kind, "lr": 2 * setup["lr"]}
                             for kind in POSITION_VARIANTS},
        "pooling": {f"{pool} {lr:g}": {"pool": pool, "lr": lr} for pool in ("token", "mean")
                    for lr in setup["lrs"]},
        "scaling": scaling,
        "scaling_large_start": {row: {**changes, "position_scale": 20}
                                for row, changes in scaling.items()},
    }


def build(name: str, changes: dict, num_classes: int) -> ViT:
    """The base model of a data set of SETUPS, with the changes of a row.

    The size of a head is that of the base model, so a wider model has more heads. With
    position_scale, the parameters that tell positions start so many times as large as usual.
    """
    architecture = {key: value for key, value in changes.items()
                    if key not in ("positions", "position_scale", "lr")}
    settings: dict[str, Any] = {**SETUPS[name]["base"], **architecture, "num_classes": num_classes}
    if "hidden_size" in changes:
        base = SETUPS[name]["base"]
        settings["num_heads"] = max(
            1, changes["hidden_size"] * base["num_heads"] // base["hidden_size"])
    model = POSITION_VARIANTS[changes.get("positions", "1-D")](**settings)
    for part, parameter in model.named_parameters():
        if "position_embedding" in part or "relative_keys" in part:
            parameter.data *= changes.get("position_scale", 1)
    return model


class Batches:
    """A loader of images that are in memory: (images [batch, C, H, W], labels [batch]).

    setup: for training, in random order; each batch is moved by up to `shift` pixels as a whole,
    and with `flip`, half of them are mirrored. One random shift for a batch costs next to nothing,
    unlike one for each image. None: in order, as they are.
    """

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, batch_size: int,
                 setup: Setup | None = None):
        self.images, self.labels, self.batch_size, self.setup = images, labels, batch_size, setup
        self.sampler = range(len(images))

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        if self.setup is None:
            yield from zip(self.images.split(self.batch_size), self.labels.split(self.batch_size))
            return
        side, shift = self.images.shape[-1], self.setup["shift"]
        # On the device, as otherwise each batch of indices would have to be copied to it.
        order = torch.randperm(len(self.images)).to(self.images.device)
        for indices in order.split(self.batch_size):
            images = F.pad(self.images[indices], [shift] * 4, mode="replicate")
            top, left = torch.randint(2 * shift + 1, (2,)).tolist()
            images = images[..., top : top + side, left : left + side]
            if self.setup["flip"] and torch.rand(()) < 0.5:
                images = images.flip(-1)
            yield images, self.labels[indices]


def train(
    model: ViT, data: Images, setup: Setup, lr: float, seed: int, device: torch.device | str = "cpu",
    output: Path | None = None,
) -> dict:
    """Train a model by the recipe of notebook 09, without mixup, label smoothing, and printing.

    output: the folder of the run; one that was cut off there is resumed. None keeps nothing.
    Returns test_acc, test_loss, train_acc (of the last epoch, measured while training), macs (of
    one image) and seconds.
    """
    data = data.to(device)
    trainer = Trainer(
        model, Batches(data.train, data.train_labels, setup["batch_size"], setup),
        Recipe(epochs=setup["epochs"], lr=lr, label_smoothing=0.0, seed=seed), torch.device(device),
        test_loader=Batches(data.test, data.test_labels, batch_size=500), output=output, quiet=True)
    if output and (output / "last.pt").exists():
        trainer.resume()
    history = trainer.fit()
    return {**{name: history[-1][name] for name in ("test_acc", "test_loss", "train_acc")},
            "macs": count_macs(model), "seconds": sum(row["seconds"] for row in history)}


def run(
    name: str, changes: dict, seed: int, data: Images, device: torch.device | str = "cpu",
    output: Path | None = None,
) -> dict:
    """Build and train one row with one seed, which determines the initial weights, the order of the
    images and their shifts. output: as for `train`."""
    torch.manual_seed(seed)
    model = build(name, changes, num_classes=int(data.train_labels.max()) + 1)
    return train(model, data, SETUPS[name], changes.get("lr", SETUPS[name]["lr"]), seed, device,
                 output)


def measure(
    name: str, experiment: str, data: Images, device: torch.device | str = "cpu",
    folder: Path | None = None,
) -> dict[str, dict]:
    """Train all rows of an experiment with all seeds, and print a line for each row.

    folder: where each finished training is kept, in NAME-EXPERIMENT.json, and the one under way in
        a folder of its own. What an earlier call has finished is not trained again, and what it had
        begun is resumed after its last whole epoch. None keeps nothing.
    Returns a dict for each row: test_acc, test_loss and train_acc, each a list with a value for
    each seed; macs; and seconds, the median over the seeds.
    """
    file = folder and folder / f"{name}-{experiment}.json"
    finished = json.loads(file.read_text()) if file and file.exists() else {}
    results = {}
    for row, changes in rows(name)[experiment].items():
        runs = finished.setdefault(row, [])
        for seed in range(len(runs), SEEDS[experiment]):
            under_way = folder and folder / f"{name}-{experiment}-{row}-{seed}"
            runs.append(run(name, changes, seed, data, device, under_way))
            if file and under_way:
                write_atomically(file, lambda path: path.write_text(json.dumps(finished)))
                shutil.rmtree(under_way)
        results[row] = {column: [round(values[column], 4) for values in runs]
                        for column in ("test_acc", "test_loss", "train_acc")}
        results[row]["macs"] = runs[0]["macs"]
        results[row]["seconds"] = round(statistics.median(values["seconds"] for values in runs), 1)
        print(f"{experiment}, {row}: {results[row]['test_acc']}, {results[row]['seconds']} s",
              flush=True)
    return results


def cached() -> dict:
    """The log of benchmarks/architecture.py: for each data set its settings, and under "results",
    for each experiment, the result of `measure`."""
    return json.loads((MEASURED / "architecture.json").read_text())
