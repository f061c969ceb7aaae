"""Seconds of training until stated accuracies on the test set: our recipe against the plain loop of most tutorials.

python -m benchmarks.time_to_accuracy [--data photos mnist cifar100]  ->  benchmarks/results/time_to_accuracy.json

Both train the same ViT on the same images, which lie decoded in memory, for the same time: that of our recipe, from
its start to the end of its schedule. The plain loop is Adam at 1e-3 for all weights, batches of 32, no augmentation, no
schedule, by engine.train_step. Both are tested after each epoch; our seconds contain the tests, those of the plain
loop do not. What is told of an accuracy is when a test first shows it.
"""
import argparse
import json
import time
from dataclasses import replace
from itertools import accumulate

import torch
import torch.nn.functional as F

from benchmarks import cifar100
from benchmarks.common import RESULTS, log_of, write_log
from benchmarks.main_job import train_vit
from benchmarks.mnist import RECIPE
from going_modular import config, data_setup, engine, train
from going_modular.data_setup import ImageData
from going_modular.utils import pick_device
from going_modular.vit import ViT

GOALS = {  # accuracies on the test set, and how our recipe is asked for them
    "photos": ((0.50, 0.60, 0.65), []),
    "drawn": ((0.70, 0.80, 0.90), []),
    "mnist": ((0.97, 0.98, 0.985), [*RECIPE, "--epochs", "3", "--repeats", "1"]),
    "cifar100": ((0.25, 0.35, 0.40), {"epochs": 8}),
}


def by_command(data: str, options: list[str], seed: int, device: torch.device) -> tuple[dict, ImageData, ViT]:
    """What our recipe reaches by the command, the data, and a fresh model of the same kind."""
    results, images = train_vit(data, seed, str(device), options), data_setup.load(data)
    settings = config.complete({"seed": seed}, images, device, stored=results["settings"])
    torch.manual_seed(seed)
    return results, images, train.build_model(settings, len(images.class_names))


def by_cifar100(epochs: int, seed: int, device: torch.device) -> tuple[dict, ImageData, ViT]:
    """The same by benchmarks.cifar100, on its first classes."""
    size, images = cifar100.CPU | {"classes": 20, "cnn": False, "evaluations": 60}, data_setup.load("cifar100")
    parts = cifar100.parts_of(images, size["classes"])
    images = replace(images, class_names=images.class_names[: size["classes"]], test=parts["test"],
                     train=cifar100.first_classes(images.train, size["classes"]))
    results = cifar100.train(size, parts, images.class_names, epochs, seed, device)
    torch.manual_seed(seed)
    return results, images, ViT(image_size=32, num_classes=size["classes"], **size["model"])


def plain_loop(model: ViT, data: ImageData, limit: float, device: torch.device) -> list[dict]:
    """[{"seconds", "test_acc"}], a row for each epoch, until so many seconds are over."""
    view = data_setup.eval_transform(model.settings["image_size"])
    training, testing = (data_setup.make_loader(part, view, batch_size=32, shuffle=shuffle, device=device)
                         for part, shuffle in ((data.train, True), (data.test, False)))
    model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    seconds, epochs = 0.0, []
    while seconds < limit:
        start = time.perf_counter()
        engine.train_step(model, training, F.cross_entropy, optimizer, device)
        seconds += time.perf_counter() - start
        _, accuracy = engine.test_step(model, testing, F.cross_entropy, device)
        epochs.append({"seconds": seconds, "test_acc": accuracy})
    return epochs


def summary(rows: list[dict], goals: tuple[float, ...]) -> dict:
    """When each accuracy is first shown (None: never), and the last and the best one; of rows with the seconds since
    the start."""
    accuracies = [row["test_acc"] for row in rows]
    return {"seconds_to": {str(goal): next((round(row["seconds"]) for row in rows if row["test_acc"] >= goal), None)
                           for goal in goals},
            "last": round(accuracies[-1], 4), "best": round(max(accuracies), 4), "epochs": len(rows),
            "seconds": round(rows[-1]["seconds"], 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=GOALS, default=["photos", "mnist", "cifar100"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()

    device, log = pick_device(args.device), RESULTS / "time_to_accuracy.json"
    rows = json.loads(log.read_text())["rows"] if log.exists() else {}  # of the other data sets
    for name in args.data:
        goals, how = GOALS[name]
        results, data, model = (by_cifar100(how["epochs"], args.seed, device) if name == "cifar100" else
                                by_command(name, how, args.seed, device))
        seconds = accumulate(row["seconds"] for row in results["history"])
        ours = summary([{**row, "seconds": since} for row, since in zip(results["history"], seconds)], goals)
        print(f"{name}: our recipe {ours}", flush=True)
        plain = summary(plain_loop(model, data, ours["seconds"], device), goals)
        print(f"{name}: the plain loop {plain}", flush=True)
        rows[name] = log_of({"test_images": len(data.test), "seed": args.seed, "ours": ours, "plain": plain})
        write_log("time_to_accuracy", {"rows": rows})


if __name__ == "__main__":
    main()
