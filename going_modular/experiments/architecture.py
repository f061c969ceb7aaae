"""The experiments of notebook 11: many short trainings, each of which differs in one thing.

An experiment has rows, and each row is trained with several seeds. benchmarks/architecture.py
trains them all and writes measured/architecture.json. The notebook shows that file, and trains a
few of the rows again.
"""
import json
import statistics
import time
from collections.abc import Iterator
from typing import Any, NamedTuple, TypedDict

import torch
import torch.nn.functional as F

from going_modular import data_setup, engine
from going_modular.experiments import MEASURED
from going_modular.paper.positions import POSITION_VARIANTS
from going_modular.recipe import MixedPrecision, Recipe, clip_and_schedule
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
SEEDS = {"positions": 5, "positions_faster": 5, "pooling": 3, "scaling": 3}


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
    size, data, parts = SETUPS[name], data_setup.load(name), []
    transform = data_setup.eval_transform(size["base"]["image_size"])
    picked = torch.randperm(len(data.train),
                            generator=torch.Generator().manual_seed(0))[: size["train_images"]]
    for part, indices in ((data.train, picked.tolist()), (data.test, range(len(data.test)))):
        # The slice keeps one channel of the digits, which the transform has repeated to three.
        targets = data_setup.labels(part)
        parts.append(torch.stack([transform(part[i][0])[: size["base"]["in_channels"]]
                                  for i in indices]))
        parts.append(torch.tensor([targets[i] for i in indices]))
    return Images(*parts)


def rows(name: str) -> dict[str, dict[str, dict]]:
    """The experiments on a data set of SETUPS: experiment -> row -> what it changes.

    positions: Table 8.
    positions_faster: the same at twice the learning rate.
    pooling: class token against mean, each at several learning rates (Figure 9).
    scaling: depth, width, MLP and patches, one at a time (Figure 8).
    """
    size = SETUPS[name]
    return {
        "positions": {kind: {"positions": kind} for kind in POSITION_VARIANTS},
        "positions_faster": {kind: {"positions": kind, "lr": 2 * size["lr"]}
                             for kind in POSITION_VARIANTS},
        "pooling": {f"{pool} {lr:g}": {"pool": pool, "lr": lr} for pool in ("token", "mean")
                    for lr in size["lrs"]},
        "scaling": {"base": {}, **{f"{what} {value}": {what: value}
                                   for what, values in size["scaling"].items()
                                   for value in values}},
    }


def build(name: str, changes: dict, num_classes: int) -> ViT:
    """The base model of a data set of SETUPS, with the changes of a row.

    The size of a head is that of the base model, so a wider model has more heads.
    """
    architecture = {key: value for key, value in changes.items() if key not in ("positions", "lr")}
    settings: dict[str, Any] = {**SETUPS[name]["base"], **architecture, "num_classes": num_classes}
    if "hidden_size" in changes:
        base = SETUPS[name]["base"]
        settings["num_heads"] = max(
            1, changes["hidden_size"] * base["num_heads"] // base["hidden_size"])
    return POSITION_VARIANTS[changes.get("positions", "1-D")](**settings)


def batches(data: Images, size: Setup) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The batches (images [batch, C, H, W], labels [batch]) of an epoch, in random order.

    Each batch is moved by up to `shift` pixels as a whole, and with `flip`, half of them are
    mirrored. One random shift for a batch costs next to nothing, unlike one for each image.
    """
    side, shift = data.train.shape[-1], size["shift"]
    for indices in torch.randperm(len(data.train)).split(size["batch_size"]):
        images = F.pad(data.train[indices], [shift] * 4, mode="replicate")
        top, left = torch.randint(2 * shift + 1, (2,)).tolist()
        images = images[..., top : top + side, left : left + side]
        if size["flip"] and torch.rand(()) < 0.5:
            images = images.flip(-1)
        yield images, data.train_labels[indices]


def train(
    model: ViT, data: Images, size: Setup, lr: float, device: torch.device | str = "cpu",
) -> dict:
    """Train a model by the recipe of notebook 09, without printing.

    Returns test_acc, test_loss, train_acc (of the last epoch, measured while training), macs (of
    one image) and seconds.
    """
    data, model = data.to(device), model.to(device)
    recipe = Recipe(epochs=size["epochs"], lr=lr)
    optimizer = recipe.optimizer(model)
    steps = size["epochs"] * -(-len(data.train) // size["batch_size"])
    clip_and_schedule(optimizer, recipe.schedule(optimizer, steps), recipe.clip_norm)
    trained = MixedPrecision(model, device)
    start = time.perf_counter()
    for _ in range(size["epochs"]):
        _, train_acc = engine.train_step(trained, batches(data, size), F.cross_entropy, optimizer,
                                         device)
    test = list(zip(data.test.split(500), data.test_labels.split(500)))
    test_loss, test_acc = engine.test_step(trained, test, F.cross_entropy, device)
    return {"test_acc": test_acc, "test_loss": test_loss, "train_acc": train_acc,
            "macs": count_macs(model), "seconds": time.perf_counter() - start}


def run(
    name: str, changes: dict, seed: int, data: Images, device: torch.device | str = "cpu",
) -> dict:
    """Build and train one row with one seed, which determines the initial weights, the order of the
    images and their shifts."""
    torch.manual_seed(seed)
    model = build(name, changes, num_classes=int(data.train_labels.max()) + 1)
    return train(model, data, SETUPS[name], changes.get("lr", SETUPS[name]["lr"]), device)


def measure(
    name: str, experiment: str, data: Images, device: torch.device | str = "cpu",
) -> dict[str, dict]:
    """Train all rows of an experiment with all seeds, and print a line for each row.

    Returns a dict for each row: test_acc, test_loss and train_acc, each a list with a value for
    each seed; macs; and seconds, the median over the seeds.
    """
    results = {}
    for row, changes in rows(name)[experiment].items():
        runs = [run(name, changes, seed, data, device) for seed in range(SEEDS[experiment])]
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
