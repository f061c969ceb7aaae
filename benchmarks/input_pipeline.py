"""Training images a second from JPEG files of 512 px: ours against torchvision's ImageFolder and transforms.

python -m benchmarks.input_pipeline  ->  benchmarks/results/input_pipeline.json

The pictures are drawn and saved first. Both pipelines make the same views (random crop, mirror, brightness, contrast,
saturation, scaled to -1..1); each is measured with no process of its own and with one for each core, all four in
turn, pass by pass. Then an epoch of Mini/16 is timed with each, and with no pipeline at all (the same batch
again and again). At last Mini/8 learns from each at 64 px, on several seeds, to compare what their images are worth.
"""
import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets
from torchvision.transforms import v2

from benchmarks.common import write_log
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
    transform = v2.Compose([
        v2.RandomResizedCrop(size, scale=(0.35, 1.0)), v2.RandomHorizontalFlip(),
        v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2), v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)])
    return DataLoader(datasets.ImageFolder(folder / "train", transform), batch_size, shuffle=True, num_workers=workers,
                      persistent_workers=workers > 0, pin_memory=device.type == "cuda")


def ours(folder: Path, size: int, batch_size: int, workers: int, device: torch.device) -> DataLoader:
    data = data_setup.load(folder, cache_size=2 * size)
    return data_setup.make_loader(data.train, data_setup.train_transform(size), batch_size, shuffle=True,
                                  seed=torch.initial_seed(), num_workers=workers, device=device)


def a_pass(loader: DataLoader) -> float:
    start = time.perf_counter()
    images = sum(len(labels) for _, labels in loader)
    return images / (time.perf_counter() - start)


def accuracy(make, folder: Path, epochs: int, seed: int, device: torch.device) -> float:
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
    parser.add_argument("--passes", type=int, default=11)
    parser.add_argument("--epochs", type=int, default=15, help="of learning, to compare the accuracy")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()

    device, epochs, accuracies = pick_device(args.device), {}, {}
    pipelines = {"ImageFolder": theirs, "ours": ours}
    with tempfile.TemporaryDirectory() as folder:
        save_pictures(Path(folder), args.images, args.test_images)
        loaders = {f"{name}, {workers} processes": make(Path(folder), args.image_size, args.batch_size, workers, device)
                   for name, make in pipelines.items() for workers in (0, os.cpu_count())}
        rates = {name: [] for name in loaders}
        for number in range(args.passes + 1):  # the first one warms up
            for name, loader in loaders.items():
                rate = a_pass(loader)
                if number:
                    rates[name].append(round(rate, 1))
        print("images a second:", rates, flush=True)
        for name, loader in loaders.items():
            model = ViT.from_variant("Mini/16", image_size=args.image_size, num_classes=3).to(device)
            optimizer = torch.optim.AdamW(model.parameters())
            start = time.perf_counter()
            engine.train_step(model, loader, nn.CrossEntropyLoss(), optimizer, device)
            epochs[name] = round(time.perf_counter() - start, 2)
        batches = [next(iter(loader))] * len(loader)
        start = time.perf_counter()
        engine.train_step(model, batches, nn.CrossEntropyLoss(), optimizer, device)
        epochs["no pipeline"] = round(time.perf_counter() - start, 2)
        for name, make in pipelines.items():
            accuracies[name] = [round(accuracy(make, Path(folder), args.epochs, seed, device), 4)
                                for seed in args.seeds]
            print(name, "test accuracy:", accuracies[name], flush=True)

    medians = {name: statistics.median(values) for name, values in rates.items()}
    best = {name: max(value for key, value in medians.items() if key.startswith(name))
            for name in pipelines}
    ratio = best["ours"] / best["ImageFolder"]
    print(f"ours / ImageFolder, each at its best: {ratio:.2f}; seconds of an epoch: {epochs}")
    write_log("input_pipeline", {
        "images": 3 * args.images, "test_images": 3 * args.test_images, "image_size": args.image_size,
        "batch_size": args.batch_size, "epochs": args.epochs, "seeds": args.seeds, "accuracy": accuracies,
        "images_a_second": rates, "medians": medians, "ratio": round(ratio, 3),
        "seconds_of_an_epoch": epochs, "device": device.type})


if __name__ == "__main__":
    main()
