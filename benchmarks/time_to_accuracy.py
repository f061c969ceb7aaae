"""Seconds of training until a stated accuracy on the test set: our recipe against the plain loop of most tutorials.

python -m benchmarks.time_to_accuracy [--data photos mnist cifar100]  ->  benchmarks/results/time_to_accuracy.json

Both train the same ViT on the same images, which lie decoded in memory. Our recipe runs to its end, as its schedule
wants it to. The plain loop is Adam at 1e-3 for all weights, batches of 32, no augmentation, no schedule, by
engine.train_step; it is tested after each epoch (which its seconds leave out) and stops at the accuracy, or after
LIMIT times the seconds of our recipe.
"""
import argparse
import time

import torch
import torch.nn.functional as F

from benchmarks import cifar100
from benchmarks.common import write_log
from benchmarks.main_job import train_vit
from benchmarks.mnist import RECIPE
from going_modular import data_setup, engine, train
from going_modular.data_setup import ImageData
from going_modular.utils import pick_device
from going_modular.vit import ViT

LIMIT = 3
GOALS = {  # accuracy on the test set, and how our recipe is asked for it
    "photos": (0.60, []),
    "drawn": (0.80, []),
    "mnist": (0.98, [*RECIPE, "--repeats", "3"]),
    "cifar100": (0.35, {"epochs": 8}),
}


def by_command(data: str, options: list[str], seed: int, device: torch.device) -> tuple[dict, ImageData, ViT]:
    """What our recipe reaches by the command, the data, and a fresh model of the same kind."""
    results, images = train_vit(data, seed, str(device), options), data_setup.load(data)
    torch.manual_seed(seed)
    return results, images, train.build_model(results["settings"], len(images.class_names))


def by_cifar100(epochs: int, seed: int, device: torch.device) -> tuple[dict, ImageData, ViT]:
    """The same by benchmarks.cifar100, on its first classes."""
    size, images = cifar100.CPU, data_setup.load("cifar100")
    images.class_names = images.class_names[: size["classes"]]
    images.train, images.test = (cifar100.first_classes(part, size["classes"]) for part in (images.train, images.test))
    kept, held_out = data_setup.split(images.train, 0.01, seed=0)
    parts = {"train": kept, "val": held_out, "test": images.test}
    results = cifar100.train(size, parts, images.class_names, epochs, seed, device)
    torch.manual_seed(seed)
    return results, images, ViT(image_size=32, num_classes=size["classes"], **size["model"])


def plain_loop(model: ViT, data: ImageData, goal: float, limit: float, device: torch.device) -> list[dict]:
    """[{"seconds", "test_accuracy"}] after each epoch, until one has the accuracy or the seconds are over."""
    view = data_setup.eval_transform(model.settings["image_size"])
    training, testing = (data_setup.make_loader(part, view, batch_size=32, shuffle=shuffle, num_workers=0)
                         for part, shuffle in ((data.train, True), (data.test, False)))
    model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    seconds, epochs = 0.0, []
    while not epochs or (epochs[-1]["test_accuracy"] < goal and seconds < limit):
        start = time.perf_counter()
        engine.train_step(model, training, F.cross_entropy, optimizer, device)
        seconds += time.perf_counter() - start
        _, accuracy = engine.test_step(model, testing, F.cross_entropy, device)
        epochs.append({"seconds": round(seconds, 1), "test_accuracy": round(accuracy, 4)})
    return epochs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=GOALS, default=["photos", "mnist", "cifar100"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()

    device, rows = pick_device(args.device), {}
    for name in args.data:
        goal, how = GOALS[name]
        results, data, model = (by_cifar100(how["epochs"], args.seed, device) if name == "cifar100" else
                                by_command(name, how, args.seed, device))
        reached, seconds = results["test_accuracy"], results["train_seconds"]
        print(f"{name}: our recipe has {reached:.4f} after {seconds:.0f} s", flush=True)
        if reached < goal:
            raise SystemExit(f"error: {goal} was wanted")
        epochs = plain_loop(model, data, goal, LIMIT * seconds, device)
        best = max(epochs, key=lambda epoch: epoch["test_accuracy"])
        print(f"{name}: the plain loop has {best} at best, in {len(epochs)} epochs", flush=True)
        rows[name] = {"goal": goal, "test_images": len(data.test),
                      "ours": {"seconds": round(seconds, 1), "test_accuracy": round(reached, 4)},
                      "plain": {"best": best, "epochs": len(epochs), "seconds": epochs[-1]["seconds"]}}
    write_log("time_to_accuracy", {"seed": args.seed, "limit": LIMIT, "rows": rows})


if __name__ == "__main__":
    main()
