"""Four tasks with 1,000 training images each, one by one, as Table 9 of the paper has the 19 of VTAB-1k.

python -m benchmarks.table9 [--seeds 0 1 2]  ->  benchmarks/results/table9.json

Each task is trained by the recipe of the command at 64 pixels, from scratch and from the weights `food98`, on as many
views. A tenth of the images is held out. The test set, of up to 2,000 images, chooses nothing. The learning rate after
pre-training is the one that benchmarks.pretraining chose on three dishes, for all tasks the same, as the paper has one
setting for all of VTAB.
"""
import argparse
from dataclasses import replace

import torch

from benchmarks.common import build_model, log, write_log
from benchmarks.main_job import summary
from going_modular import config, data_setup, train
from going_modular.data_setup import ImageData
from going_modular.datasets.images import ImageSet

TASKS = {"cifar100": "100 kinds of things in photos of 32 pixels", "mnist": "handwritten digits",
         "drawn10": "ten drawn dishes", "drawn_things": "ten drawn forms, each in ten patterns: 100 classes"}
TRAIN_IMAGES, TEST_IMAGES, REPEATS, HOLD_OUT = 1000, 2000, 15, 0.1
SCRATCH = ["--model", "Mini", "--image-size", "64"]


def task(name: str) -> ImageData:
    """The data set with as many images of each class as 1,000 allow, and of its test set up to 2,000."""
    data = data_setup.load(name)

    def part(images: ImageSet, count: int) -> ImageSet:
        return data_setup.split(images, count / len(images), seed=0)[1] if count < len(images) else images

    return replace(data, train=part(data.train, TRAIN_IMAGES), test=part(data.test, TEST_IMAGES), image_size=None)


def accuracy(data: ImageData, options: list[str], seed: int) -> float:
    """The test accuracy after training by the command's recipe with these options."""
    given = config.parse([*options, "--preset", "few", "--repeats", str(REPEATS), "--epochs", "1",
                          "--hold-out", str(HOLD_OUT), "--seed", str(seed)])
    if not data.flip:  # digits need the preset that mirrors none
        given["preset"] = "digits"
    model, options = build_model(given, data)
    return train.build_trainer(model, data, options, torch.device("cpu")).fit()[-1]["test_acc"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    ways = {"from scratch": SCRATCH, "from food98": ["--weights", "food98", "--lr", log("pretraining")["lr"]]}
    rows = {}
    for name, what in TASKS.items():
        data = task(name)
        rows[name] = {"what": what, "classes": len(data.class_names), "train_images": len(data.train),
                      "test_images": len(data.test), "test_accuracy": {}}
        for way, options in ways.items():
            accuracies = [accuracy(data, options, seed) for seed in args.seeds]
            rows[name]["test_accuracy"][way] = summary(accuracies)
            print(f"{name}, {way}: {accuracies}", flush=True)
    write_log("table9", {"seeds": args.seeds, "held_out": HOLD_OUT,
                         "images_shown": round(REPEATS * TRAIN_IMAGES * (1 - HOLD_OUT)), "options": ways, "rows": rows})


if __name__ == "__main__":
    main()
