"""Training images a second from JPEG files of 512 px: ours against torchvision's ImageFolder and transforms.

python -m benchmarks.input_pipeline [--parts rates epochs accuracy]  ->  benchmarks/results/input_pipeline.json

The pictures are drawn and saved first. Both pipelines make the same views (random crop, mirror, brightness, contrast,
saturation, scaled to -1..1); each is measured with no process of its own and with one for each core, all four in
turn, pass by pass (rates). Then an epoch of Mini/16 is timed with each, and with no pipeline at all (the same batch
again and again), in turn too (epochs). At last Mini/8 learns from each at 64 px, on several seeds, to compare what
their images are worth (accuracy). The log keeps the parts that a command leaves out.
"""
import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets
from torchvision.transforms import v2

from benchmarks.common import RESULTS, command, write_log
from going_modular import data_setup, drawn, engine
from going_modular.utils import pick_device, set_seeds
from going_modular.vit import ViT


def save_pictures(folder: Path, training: int, test: int) -> None:
    """Draw so many dishes of each of three kinds at 512 px, as JPEG, to folder/train/KIND/ and folder/test/KIND/."""
    for label, name in enumerate(("pizza", "steak", "sushi")):
        for i in range(training + test):
            path = folder / ("train" if i < training else "test") / name / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            drawn.draw_food(name, np.random.default_rng([label, i]), size=512).save(path, quality=90)


def theirs(folder: Path, size: int, batch_size: int, workers: int, device: torch.device) -> DataLoader:
    """torchvision's pipeline: each image is decoded anew in each epoch, and leaves its worker as floats."""
    transform = v2.Compose([
        v2.RandomResizedCrop(size, scale=(0.35, 1.0)), v2.RandomHorizontalFlip(),
        v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2), v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)])
    return DataLoader(datasets.ImageFolder(folder / "train", transform), batch_size, shuffle=True, num_workers=workers,
                      persistent_workers=workers > 0, pin_memory=device.type == "cuda")


def ours(folder: Path, size: int, batch_size: int, workers: int, device: torch.device) -> DataLoader:
    """Our pipeline as `train` uses it: images are decoded once, and kept at twice the size that is trained on."""
    data = data_setup.load(folder, cache_size=2 * size)
    return data_setup.make_loader(data.train, data_setup.train_transform(size), batch_size, shuffle=True,
                                  seed=torch.initial_seed(), num_workers=workers, device=device)


def images_a_second(loader: DataLoader) -> float:
    """Images a second of one pass over a loader."""
    start = time.perf_counter()
    images = sum(len(labels) for _, labels in loader)
    return images / (time.perf_counter() - start)


def seconds_of_an_epoch(batches: Iterable, size: int, device: torch.device) -> float:
    """Seconds in which a new Mini/16 trains on all batches once."""
    model = ViT.from_variant("Mini/16", image_size=size, num_classes=3).to(device)
    optimizer = torch.optim.AdamW(model.parameters())
    start = time.perf_counter()
    engine.train_step(model, batches, nn.CrossEntropyLoss(), optimizer, device)
    return time.perf_counter() - start


def in_turn(measure: Callable, loaders: dict, rounds: int) -> dict[str, list[float]]:
    """{name: what measure(loader) gives in each round}. In turn, so that a machine that slows down does so for all; a
    first round warms up: it starts the workers and fills the files' cache."""
    values = {name: [] for name in loaders}
    for number in range(rounds + 1):
        for name, loader in loaders.items():
            value = measure(loader)
            if number:
                values[name].append(round(value, 2))
    return values


def accuracy(make: Callable, folder: Path, epochs: int, seed: int, device: torch.device) -> float:
    """Test accuracy of a Mini/8 at 64 px that has learned from the training images of one pipeline."""
    set_seeds(seed)
    training = make(folder, 64, 64, os.cpu_count(), device)
    testing = data_setup.make_loader(data_setup.load(folder).test, data_setup.eval_transform(64), batch_size=64)
    model = ViT.from_variant("Mini/8", image_size=64, num_classes=3).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        engine.train_step(model, training, nn.CrossEntropyLoss(), optimizer, device)
        schedule.step()
    return engine.test_step(model, testing, nn.CrossEntropyLoss(), device)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300, help="to train, of each of three kinds")
    parser.add_argument("--test-images", type=int, default=200, help="of each kind")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--parts", nargs="+", default=["rates", "epochs", "accuracy"],
                        choices=["rates", "epochs", "accuracy"])
    parser.add_argument("--passes", type=int, default=11, help="of rates; of epochs a quarter of them")
    parser.add_argument("--epochs", type=int, default=15, help="of learning, to compare the accuracy")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()

    device, log = pick_device(args.device), RESULTS / "input_pipeline.json"
    parts = json.loads(log.read_text())["parts"] if log.exists() else {}  # those that are not measured now
    pipelines = {"ImageFolder": theirs, "ours": ours}
    with tempfile.TemporaryDirectory() as folder:
        save_pictures(Path(folder), args.images, args.test_images)
        loaders = {f"{name}, {workers} processes": make(Path(folder), args.image_size, args.batch_size, workers, device)
                   for name, make in pipelines.items() for workers in (0, os.cpu_count())}
        settings = {"command": command(), "images": 3 * args.images, "image_size": args.image_size,
                    "batch_size": args.batch_size, "device": device.type}
        if "rates" in args.parts:
            rates = in_turn(images_a_second, loaders, args.passes)
            medians = {name: statistics.median(values) for name, values in rates.items()}
            best = {name: max(value for key, value in medians.items() if key.startswith(name)) for name in pipelines}
            parts["rates"] = {**settings, "images_a_second": rates, "medians": medians,
                              "ratio": round(best["ours"] / best["ImageFolder"], 3)}
            print(parts["rates"], flush=True)
        if "epochs" in args.parts:
            # The same batch again and again: what the model alone takes.
            batches = [next(iter(loaders["ours, 0 processes"]))] * len(loaders["ours, 0 processes"])
            seconds = in_turn(lambda loader: seconds_of_an_epoch(loader, args.image_size, device),
                              {**loaders, "no pipeline": batches}, max(1, args.passes // 4))
            medians = {name: round(statistics.median(values), 2) for name, values in seconds.items()}
            parts["epochs"] = {**settings, "seconds": seconds, "medians": medians}
            print(parts["epochs"], flush=True)
        if "accuracy" in args.parts:
            parts["accuracy"] = {
                **settings, "image_size": 64, "batch_size": 64, "test_images": 3 * args.test_images,
                "epochs": args.epochs, "seeds": args.seeds,
                "test_accuracy": {name: [round(accuracy(make, Path(folder), args.epochs, seed, device), 4)
                                         for seed in args.seeds] for name, make in pipelines.items()}}
            print(parts["accuracy"], flush=True)
    write_log("input_pipeline", {"parts": parts})


if __name__ == "__main__":
    main()
