"""Train the models that come with the package.

python -m benchmarks.trained seven_dishes                   10,500 drawings of dishes that are not pizza, steak or sushi
python -m benchmarks.trained drawn_food                     2,400 drawings of pizza, steak and sushi
python -m benchmarks.trained food98 --data FOLDER [--run FOLDER]    Food-101 at 64 px without these three dishes
    ->  going_modular/weights/trained/NAME.pt, benchmarks/results/trained_NAME.json

The weights are stored in half precision: a model that loads them computes in float32 as always. With --run, the run
keeps its folder: a command that was stopped goes on when it is given again, and a finished run is stored as it is.
"""
import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import write_log
from going_modular import drawn, train, utils
from going_modular.experiments.data_scale import DISHES

# Name -> what its pictures are, and the options of going_modular.train.
MODELS = {
    "seven_dishes": (
        "seven drawn dishes",
        "--model Mini --hidden-size 64 --heads 4 --mlp-size 256 --patch-size 8 --image-size 48 --epochs 20 "
        "--hold-out 0.02"),
    "drawn_food": ("drawn pizza, steak and sushi", "--data drawn --model Mini --image-size 64"),
    "food98": (
        "98 classes of Food-101, 64 px",
        "--model Mini --image-size 64 --min-scale 0.35 --muon 0.02 --hold-out 0.02 --batch-size 128 --epochs 22"),
}


def draw_dishes(folder: Path, counts: dict[str, int]) -> None:
    """Draw folder/{train,test}/DISH/0000.png; no picture is one of the data set drawn10."""
    for split, (part, count) in enumerate(counts.items()):
        for label, dish in enumerate(DISHES):
            target = folder / part / dish
            target.mkdir(parents=True)
            for index in range(count):
                drawn.draw_food(dish, np.random.default_rng([1, label, split, index])).save(target / f"{index:04}.png")


def half(run: Path, pictures: str) -> dict:
    """The last checkpoint of a run with its weights in half precision and without what only training needs."""
    checkpoint = utils.read_checkpoint(run / "last.pt")
    kept = {name: checkpoint[name] for name in ("architecture", "class_names", "epoch")}
    kept["settings"] = {"data": pictures} | {
        name: checkpoint["settings"][name] for name in ("epochs", "lr", "seed", "batch_size")}
    return {**kept, "model": {name: value.half() for name, value in checkpoint["model"].items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=MODELS)
    parser.add_argument("--data", type=Path, help="for food98: folder with train/CLASS/ and test/CLASS/")
    parser.add_argument("--run", type=Path, help="folder of the run, to be kept")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if (args.name == "food98") != (args.data is not None):
        parser.error("--data belongs to food98, which needs it")
    pictures, options = MODELS[args.name]
    with tempfile.TemporaryDirectory() as folder:
        run = args.run or Path(folder) / "run"
        if not (run / "results.json").is_file():
            data = args.data
            if args.name == "seven_dishes":
                data = Path(folder) / "seven_dishes"
                draw_dishes(data, {"train": 1500, "test": 100})
            given = ["--output", str(run)]
            if (run / "last.pt").is_file():
                given.append("--resume")
            else:
                given += [*options.split(), "--device", "cpu", "--seed", str(args.seed)]
                given += ["--data", str(data)] if data else []
            if train.main(given):
                raise SystemExit(2)
        checkpoint, results = half(run, pictures), json.loads((run / "results.json").read_text())
    utils.write_atomically(utils.TRAINED / f"{args.name}.pt", lambda file: torch.save(checkpoint, file))
    write_log(f"trained_{args.name}", {name: results[name] for name in (
        "test_accuracy", "test_accuracy_95", "one_class_accuracy", "train_images", "test_images", "epochs",
        "train_seconds", "parameters", "class_names")} | {"options": options, "seed": args.seed})


if __name__ == "__main__":
    main()
