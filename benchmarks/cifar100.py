"""CIFAR-100 from scratch: a plain ViT of less than 10 million parameters, without other data, published weights or a
teacher.

python -m benchmarks.cifar100                      one GPU, 15 minutes         ->  results/cifar100.json
python -m benchmarks.cifar100 --cpu                two cores, up to 3 hours    ->  results/cifar100_cpu.json
python -m benchmarks.cifar100 --cpu --cnn          a CNN of as many parameters, for as long as the ViT of the log
                                                   takes on its own            ->  results/cifar100_cpu_cnn.json,
                                                                                   images/cifar100.png

The model and the trainer are those of going_modular. What is added here is speed: the images lie on the device as
bytes, and a whole batch is augmented there at once. The number of epochs follows from the minutes: the first ones are
timed, then as many are trained as fit. With --run the run keeps its folder, and the same command goes on with it after
the last whole epoch. Test images choose nothing, and what is reported is the last epoch. To choose, there is
--hold-out 0.1: such runs, and those on other data, tell the accuracy on the held-out images and write no log.
"""
import argparse
import math
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset, Subset
from torchvision.transforms import v2

from benchmarks.common import log, multiply_adds, write_log
from going_modular import data_setup, plots
from going_modular.experiments.cnn import cnn, matching_width
from going_modular.recipe import Recipe
from going_modular.train import wilson_interval
from going_modular.trainer import Trainer
from going_modular.utils import pick_device
from going_modular.vit import ViT, count_parameters

GPU = dict(
    classes=100, minutes=14.0, batch_size=1024, evaluations=60,
    model=dict(patch_size=4, num_layers=12, hidden_size=256, mlp_size=1024, num_heads=4, pool="mean", drop_path=0.1),
    recipe=dict(lr=1e-3, weight_decay=0.2, beta2=0.99, warmup=0.05, ema=0.999), strength=1.0, mix=1.0,
)
CPU = dict(
    classes=100, minutes=170.0, batch_size=128, evaluations=10,
    model=dict(patch_size=4, num_layers=6, hidden_size=128, mlp_size=256, num_heads=4, pool="mean", drop_path=0.0),
    recipe=dict(lr=2e-3, muon=0.02, weight_decay=0.1, beta2=0.98, warmup=0.05), strength=0.5, mix=0.3,
)
HOLD_OUT = 0.01  # of the training images, in what is reported


class Augment:
    """Random views of a whole batch [B, 3, H, W] in [-1, 1] at once, on its device; each image has its own.

    All are mirrored half of the time and shifted by up to an eighth. Each of six more changes is made to a share
    strength / 2 of the images, drawn anew for it: turn, shear, scale, brightness, contrast and saturation.
    """

    def __init__(self, strength: float):
        self.strength = strength

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        count, device = len(images), images.device

        def between(low: float, high: float, share: float = 1.0, else_: float = 0.0) -> torch.Tensor:
            value = low + (high - low) * torch.rand(count, device=device)
            return torch.where(torch.rand(count, device=device) < share, value, else_) if share < 1 else value

        # where each pixel of the result comes from: a turned, sheared, scaled, mirrored and shifted grid
        share = 0.5 * self.strength
        angle, shear = between(-0.35, 0.35, share), between(-0.3, 0.3, share)
        scale = between(0.7, 1.15, share, 1.0)
        flip = torch.randint(0, 2, (count,), device=device) * 2.0 - 1
        cos, sin = scale * angle.cos(), scale * angle.sin()
        side = images.shape[-1]
        shift = [torch.randint(-side // 8, side // 8 + 1, (count,), device=device) * 2 / side for _ in "xy"]
        rows = [flip * cos, flip * (shear * cos - sin), shift[0], sin, shear * sin + cos, shift[1]]
        grid = F.affine_grid(torch.stack(rows, 1).view(count, 2, 3), list(images.shape), align_corners=False)
        images = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)

        factors = [between(0.6, 1.4, share, 1.0) for _ in ("brightness", "contrast", "saturation")]
        return data_setup.recolor(images, torch.stack(factors, dim=1))


class OnDevice:
    """A data set that lies on the device as bytes, in batches: what `Trainer` asks of a DataLoader.

    With `augment` it is for training: shuffled, each pass anew, and cut to whole batches, so that a compiled model
    meets one shape; then `mix` is the share of batches in which pairs of images are mixed or cut together, with the
    labels [batch, num_classes] that belong to them. repeats: passes over the data in what counts as an epoch.
    """

    def __init__(self, data: Dataset, num_classes: int, batch_size: int, device: torch.device,
                 augment: Augment | None = None, mix: float = 0.0, repeats: int = 1):
        pixels = np.stack([np.asarray(image) for image, _ in data])  # [N, H, W, 3]
        self.images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().to(device)
        self.labels = torch.tensor(data_setup.labels(data), device=device)
        self.batch_size, self.augment, self.mix, self.num_classes = batch_size, augment, mix, num_classes
        self.repeats, self.sampler = repeats, range(len(pixels) * repeats)  # the trainer counts by its length
        self.mixings = [v2.MixUp(alpha=0.8, num_classes=num_classes), v2.CutMix(alpha=1.0, num_classes=num_classes)]

    def __len__(self) -> int:
        whole = len(self.sampler) // self.batch_size
        return whole if self.augment else math.ceil(len(self.sampler) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.arange(len(self.images))
        if self.augment:  # the trainer seeds each epoch, so that a resumed run has the same order
            order = torch.cat([torch.randperm(len(order)) for _ in range(self.repeats)])
            order = order[: len(self) * self.batch_size]
        for indices in order.to(self.images.device).split(self.batch_size):
            images, labels = self.images[indices] / 127.5 - 1, self.labels[indices]
            if self.augment:
                images = self.augment(images)
                if torch.rand(()) < self.mix:
                    images, labels = self.mixings[int(torch.rand(()) < 0.5)](images, labels)
                else:
                    labels = F.one_hot(labels, self.num_classes).float()
            yield images, labels


def first_classes(data: Dataset, count: int) -> Subset:
    return Subset(data, [index for index, label in enumerate(data_setup.labels(data)) if label < count])


def parts_of(data: data_setup.ImageData, classes: int, hold_out: float = HOLD_OUT) -> dict[str, Dataset]:
    """The images of the first classes: train, val (a share held out of the training images) and test."""
    kept, held_out = data_setup.split(first_classes(data.train, classes), hold_out, seed=0)
    return {"train": kept, "val": held_out, "test": first_classes(data.test, classes)}


def build(size: dict, parts: dict[str, Dataset], class_names: list[str], epochs: int, repeats: int, seed: int,
          device: torch.device, output: Path | None = None) -> Trainer:
    """A trainer for so many epochs of `repeats` passes each."""
    torch.manual_seed(seed)
    model = ViT(image_size=32, num_classes=len(class_names), **size["model"])
    if size["cnn"]:
        model = cnn(len(class_names), matching_width(len(class_names), count_parameters(model)))
    augment = Augment(size["strength"])
    train_loader = OnDevice(
        parts["train"], len(class_names), size["batch_size"], device, augment, size["mix"], repeats)
    val_loader, test_loader = (OnDevice(parts[part], len(class_names), 1000, device) for part in ("val", "test"))
    recipe = Recipe(epochs=epochs, seed=seed, **size["recipe"])
    return Trainer(model, train_loader, recipe, device, class_names=class_names, val_loader=val_loader,
                   test_loader=test_loader, compile=device.type == "cuda", output=output)


def train(size: dict, parts: dict[str, Dataset], class_names: list[str], epochs: int | None, seed: int,
          device: torch.device, output: Path | None = None) -> dict:
    """One run; what the log says of it. Without a number of epochs, as many passes as fit into size["minutes"].

    output: the folder of the run; one that is there already goes on.
    """
    start = time.perf_counter()
    if epochs is None:
        trial = build(size, parts, class_names, 3, 1, seed, device)
        trial.fit()
        seconds_of_a_pass = statistics.mean(row["seconds"] for row in trial.history[1:])  # the first one compiles
        left = 60 * size["minutes"] - (time.perf_counter() - start)
        epochs = max(1, int(left / seconds_of_a_pass))
        print(f"{seconds_of_a_pass:.2f} s a pass: {epochs} passes")
    repeats = max(1, epochs // size["evaluations"])  # not after each pass
    trainer = build(size, parts, class_names, epochs // repeats, repeats, seed, device, output)
    if output is not None and (output / "last.pt").is_file():
        trainer.resume()
    trainer.fit()
    count = len(parts["test"])
    correct = round(trainer.history[-1]["test_acc"] * count)
    seconds = sum(row["seconds"] for row in trainer.history)
    columns = ("epoch", "train_loss", "test_loss", "test_acc", "val_acc", "seconds")
    return {
        "test_accuracy": correct / count, "test_accuracy_95": [round(v, 4) for v in wilson_interval(correct, count)],
        "test_loss": round(trainer.history[-1]["test_loss"], 4), "seed": seed, "passes": len(trainer.history) * repeats,
        "train_seconds": round(seconds, 1),
        "images_per_second": round(len(trainer.history) * len(trainer.loaders["train"]) * size["batch_size"] / seconds),
        "parameters": count_parameters(trainer.model), "multiply_adds": multiply_adds(trainer.model, 32),
        "history": [{name: round(row[name], 4) for name in columns} for row in trainer.history],
    }


def minutes_of(run: dict) -> list[float]:
    """The minutes after each row of a run's history, had each taken as long as the fastest: the machine may have done
    other work beside the others."""
    fastest = min(row["seconds"] for row in run["history"]) / 60
    return [fastest * (number + 1) for number in range(len(run["history"]))]


def draw() -> plt.Figure:
    """Test accuracy of the ViT and of the CNN beside it against time, from the logs of both."""
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, kind, color in (("ViT", "cifar100_cpu", plots.BLUE), ("CNN", "cifar100_cpu_cnn", plots.ORANGE)):
        run = log(kind)["runs"][0]
        axis.plot(minutes_of(run), [row["test_acc"] for row in run["history"]], "o-", color=color, linewidth=2,
                  label=f"{name}, {run['parameters'] / 1e6:.1f}M parameters, {run['passes']} passes")
    axis.set(xlabel="minutes of training on two CPU cores", ylabel="test accuracy, 100 classes", xlim=(0, None),
             ylim=(0, None))
    axis.legend(frameon=False, loc="lower right")
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="store_true", help="the small size, for two CPU cores")
    parser.add_argument("--data", default="cifar100", help="a name or folder; drawn_things needs no network")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--minutes", type=float, help="time of a run; default: 14 on a GPU, 170 with --cpu")
    parser.add_argument("--epochs", type=int, help="passes over the data, in place of the minutes; rounded down to "
                                                   "whole rows of the log")
    parser.add_argument("--run", type=Path, help="folder of the runs, to be kept; needs --epochs")
    parser.add_argument("--cnn", action="store_true", help="a CNN in place of the ViT; needs --cpu and the ViT's log")
    parser.add_argument("--hold-out", type=float, default=HOLD_OUT, help="share of the training images held out")
    args = parser.parse_args()
    if args.run and not args.epochs:
        parser.error("--run needs --epochs: a run that goes on must know where it ends")
    if args.cnn and (not args.cpu or args.minutes):
        parser.error("--cnn takes the time of the ViT's log, which is of a CPU: add --cpu, and leave out --minutes")

    size = (CPU if args.cpu else GPU) | {"cnn": args.cnn}
    size |= {"minutes": args.minutes} if args.minutes else {}
    if args.cnn:
        size["recipe"] = {name: value for name, value in size["recipe"].items() if name != "muon"}  # for blocks alone
        size["minutes"] = minutes_of(log("cifar100_cpu")["runs"][0])[-1]
    device = pick_device("cpu" if args.cpu else "cuda")
    data = data_setup.load(args.data)
    parts = parts_of(data, size["classes"], args.hold_out)
    print(f"{data.note}; of these {size['classes']} classes, {len(parts['train'])} to train", flush=True)

    runs = []
    for seed in args.seeds:
        run = train(size, parts, data.class_names[: size["classes"]], args.epochs, seed, device,
                    args.run and args.run / str(seed))
        print(f"seed {seed}: accuracy {run['test_accuracy']:.4f}, on held-out images "
              f"{run['history'][-1]['val_acc']:.4f}, {run['train_seconds']:.0f} s", flush=True)
        runs.append(run)
    if args.data != "cifar100" or args.hold_out != HOLD_OUT:
        return
    accuracies = [run["test_accuracy"] for run in runs]
    one_class = max(np.bincount(data_setup.labels(parts["test"]))) / len(parts["test"])
    write_log("cifar100" + "_cpu" * args.cpu + "_cnn" * args.cnn, {
        "data": data.name, "classes": size["classes"], "train_images": len(parts["train"]),
        "held_out_images": len(parts["val"]), "test_images": len(parts["test"]), "one_class_accuracy": one_class,
        "guess_loss": math.log(size["classes"]),
        "test_accuracy": {"mean": round(statistics.mean(accuracies), 4), "each": accuracies,
                          "std": round(statistics.stdev(accuracies), 4) if len(accuracies) > 1 else None},
        "settings": size, "runs": runs,
    })
    if args.cnn:
        plots.save(draw(), Path(__file__).parent.parent / "images" / "cifar100.png")


if __name__ == "__main__":
    main()
