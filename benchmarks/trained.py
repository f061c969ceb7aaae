"""Train the models that come with the package.

python -m benchmarks.trained seven_dishes                   10,500 drawings of dishes that are not pizza, steak or sushi
python -m benchmarks.trained drawn_food                     2,400 drawings of pizza, steak and sushi
python -m benchmarks.trained drawings                       60,000 drawings and fractals of 210 kinds
python -m benchmarks.trained food98 --data FOLDER           Food-101 at 64 px without these three dishes
python -m benchmarks.trained cifar100                       CIFAR-100, as benchmarks.cifar100 --cpu does it
    ->  going_modular/weights/trained/NAME.pt, benchmarks/results/trained_NAME.json

The weights are stored in half precision: a model that loads them computes in float32 as always. The test accuracy of
the log is that of the stored weights. With --run FOLDER, the run keeps its folder, and what was drawn for it lies
beside it: a command that was stopped goes on when it is given again, and a finished run is stored as it is. A run of
`benchmarks.cifar100 --run FOLDER` is in FOLDER/0.
"""
import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks import cifar100, drawings
from benchmarks.common import write_log
from benchmarks.pretraining import PRETRAINING
from going_modular import data_setup, drawn, train, utils
from going_modular.experiments.data_scale import DISHES
from going_modular.predictions import predict_all

# Name -> what its pictures are, and the options of going_modular.train.
MODELS = {
    "seven_dishes": (
        "seven drawn dishes",
        "--model Mini --hidden-size 64 --heads 4 --mlp-size 256 --patch-size 8 --image-size 48 --epochs 20 "
        "--hold-out 0.02 --muon 0"),
    "drawn_food": ("drawn pizza, steak and sushi", "--model Mini --image-size 64 --muon 0"),
    "drawings": ("drawings of 110 kinds and fractals of 100, 64 px", " ".join([*PRETRAINING, "--epochs 15"])),
    "food98": ("98 classes of Food-101, 64 px", " ".join([*PRETRAINING, "--epochs 22"])),
}
CIFAR100_PASSES = 20


def draw_dishes(folder: Path) -> None:
    """Draw folder/{train,test}/DISH/0000.png; no picture is one of the data set drawn10."""
    for split, (part, count) in enumerate({"train": 1500, "test": 100}.items()):
        for label, dish in enumerate(DISHES):
            target = folder / part / dish
            target.mkdir(parents=True)
            for index in range(count):
                drawn.draw_food(dish, np.random.default_rng([1, label, split, index])).save(target / f"{index:04}.png")


def train_by_command(data: str, options: str, run: Path, seed: int) -> dict:
    """What a finished run of going_modular.train says of itself; it is trained, or gone on with, where need be."""
    if not (run / "results.json").is_file():
        given = ["--output", str(run)]
        if (run / "last.pt").is_file():
            given.append("--resume")
        else:
            given += ["--data", data, *options.split(), "--device", "cpu", "--seed", str(seed)]
        if train.main(given):
            raise SystemExit(2)
    results = json.loads((run / "results.json").read_text())
    return {name: results[name] for name in (
        "one_class_accuracy", "train_images", "epochs", "train_seconds", "parameters", "class_names")
    } | {"options": options, "seed": seed}


def train_cifar100(data: data_setup.ImageData, run: Path, seed: int) -> dict:
    """The same for a run of benchmarks.cifar100, whose epochs are passes over the training images."""
    size, parts = cifar100.CPU | {"cnn": False}, cifar100.parts_of(data, len(data.class_names))
    results = cifar100.train(size, parts, data.class_names, CIFAR100_PASSES, seed, torch.device("cpu"), run)
    return {
        "one_class_accuracy": 1 / len(data.class_names), "train_images": len(parts["train"]),
        "epochs": results["passes"], "train_seconds": results["train_seconds"], "parameters": results["parameters"],
        "class_names": data.class_names, "settings": size, "seed": seed,
        # A folder of images may be split in any way; torchvision's archives are split as published.
        "public_split": isinstance(data.test, data_setup.ArrayImages)}


def half(run: Path, pictures: str, epochs: int) -> dict:
    """The last checkpoint of a run with its weights in half precision and without what only training needs."""
    checkpoint = utils.read_checkpoint(run / "last.pt")
    kept = {name: checkpoint[name] for name in ("architecture", "class_names")} | {"epoch": epochs}
    kept["settings"] = {"data": pictures, "epochs": epochs} | {
        name: checkpoint["recipe"][name] for name in ("lr", "seed")}
    return {**kept, "model": {name: value.half() for name, value in checkpoint["model"].items()}}


def test_accuracy(file: Path, data: data_setup.ImageData) -> dict:
    """What a stored model reaches on the test images."""
    model, info = utils.load_model(file)
    probabilities, labels = predict_all(model, data_setup.make_loader(data.test, info.transform, batch_size=500))
    correct = int((probabilities.argmax(dim=1) == labels).sum())
    return {"test_accuracy": correct / len(labels), "test_accuracy_95": train.wilson_interval(correct, len(labels)),
            "test_images": len(labels)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[*MODELS, "cifar100"])
    parser.add_argument("--data", help="for food98: folder with train/CLASS/ and test/CLASS/")
    parser.add_argument("--run", type=Path, help="folder of the run, to be kept")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if (args.name == "food98") != (args.data is not None):
        parser.error("--data belongs to food98, which needs it")
    with tempfile.TemporaryDirectory() as folder:
        run = args.run or Path(folder) / "run"
        source = args.data or {"drawn_food": "drawn", "cifar100": "cifar100"}.get(args.name)
        if source is None:
            source = Path(f"{args.run}_pictures") if args.run else Path(folder) / "pictures"
            if not source.exists():
                source.parent.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(dir=source.parent) as unfinished:
                    draw = drawings.draw_all if args.name == "drawings" else draw_dishes
                    draw(Path(unfinished) / "pictures")
                    (Path(unfinished) / "pictures").rename(source)
        data = data_setup.load(source)
        if args.name == "cifar100":
            results = train_cifar100(data, run, args.seed)
            pictures = "CIFAR-100" + ("" if results["public_split"] else ", split anew") + ", 32 px"
        else:
            pictures, options = MODELS[args.name]
            results = train_by_command(str(source), options, run, args.seed)
        checkpoint, target = half(run, pictures, results["epochs"]), utils.TRAINED / f"{args.name}.pt"
        utils.write_atomically(target, lambda file: torch.save(checkpoint, file))
        write_log(f"trained_{args.name}", test_accuracy(target, data) | results)


if __name__ == "__main__":
    main()
