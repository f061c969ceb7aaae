"""Pre-train the small model of notebook 13 on seven drawn dishes, none of which is pizza, steak or sushi.

python -m benchmarks.seven_dishes
    ->  going_modular/experiments/measured/seven_dishes.pt, benchmarks/results/seven_dishes.json

The weights are stored in half precision: a model that loads them computes in float32 as always.
"""
import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import write_log
from going_modular import drawn, train, utils
from going_modular.experiments import MEASURED
from going_modular.experiments.data_scale import DISHES

MODEL = ("--model Mini --hidden-size 64 --heads 4 --mlp-size 256 --patch-size 8 --image-size 48").split()
CHECKPOINT = MEASURED / "seven_dishes.pt"


def draw(folder: Path, counts: dict[str, int]) -> None:
    """Draw folder/{train,test}/DISH/0000.png; no picture is one of the data set drawn10."""
    for split, (part, count) in enumerate(counts.items()):
        for label, dish in enumerate(DISHES):
            target = folder / part / dish
            target.mkdir(parents=True)
            for index in range(count):
                drawn.draw_food(dish, np.random.default_rng([1, label, split, index])).save(target / f"{index:04}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1500, help="of each dish")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data, run = Path(folder) / "seven_dishes", Path(folder) / "run"
        draw(data, {"train": args.pictures, "test": 100})
        options = [*MODEL, "--epochs", str(args.epochs), "--seed", str(args.seed), "--hold-out", "0.02"]
        if train.main(["--data", str(data), "--output", str(run), "--device", "cpu", *options]):
            raise SystemExit(2)
        checkpoint = utils.read_checkpoint(run / "last.pt")
        results = json.loads((run / "results.json").read_text())
    kept = {name: checkpoint[name] for name in ("architecture", "class_names", "epoch")}
    kept["settings"] = {"data": "seven drawn dishes"} | {
        name: checkpoint["settings"][name] for name in ("epochs", "lr", "seed", "batch_size")}
    weights = {name: value.half() for name, value in checkpoint["model"].items()}
    utils.write_atomically(CHECKPOINT, lambda file: torch.save({**kept, "model": weights}, file))
    write_log("seven_dishes", {name: results[name] for name in (
        "test_accuracy", "test_accuracy_95", "one_class_accuracy", "train_images", "test_images", "epochs",
        "train_seconds", "parameters", "class_names")} | {"options": options})


if __name__ == "__main__":
    main()
