"""MNIST on two CPU cores: a ViT by the command, and a CNN of about as many parameters for the same time.

python -m benchmarks.mnist [--seeds 0 1 2] [--cnn-seeds 0 1 2]  ->  benchmarks/results/mnist.json
python -m benchmarks.mnist --passes 50 --seeds 0 --cnn-seeds    ->  benchmarks/results/mnist_50_passes.json

The ViT is trained by `torchrun --nproc_per_node=2 -m going_modular.train --data mnist` and RECIPE: two processes with a
thread each. The CNN is trained by one process with all threads.
python -m benchmarks.mnist --search [-- options of going_modular.train]  ->  a line in results/mnist_search.jsonl

The recipe was chosen by --search: it scores by images held out of the training set, and the test set is not looked at.
"""
import argparse
import json
import time

import torch

from benchmarks.common import RESULTS, command, machine, write_log
from benchmarks.main_job import summary, tell, train_cnn, train_vit
from going_modular import config, data_setup, train

RECIPE = ("--patch-size 7 --layers 4 --hidden-size 128 --heads 4 --mlp-size 256 --pool mean --batch-size 128 --lr 3e-3 "
          "--epochs 1 --repeats 5").split()
PASSES = 5  # of the recipe over the training images


def mean_f1(confusion_matrix: list[list[int]]) -> float:
    """The mean over the classes of F1, from counts [true, predicted]."""
    matrix = torch.tensor(confusion_matrix, dtype=torch.float64)
    return (2 * matrix.diagonal() / (matrix.sum(0) + matrix.sum(1))).mean().item()


def search(data: str, seed: int, device: torch.device, options: list[str]) -> dict:
    """Train by the recipe and these options; the accuracy on the held-out images, and the seconds of training.

    In the seconds a pass over as many held-out images as the test set has stands in place of the test.
    """
    images = data_setup.load(data)
    settings = config.complete(config.parse([*RECIPE, *options, "--seed", str(seed)]), images, device)
    torch.manual_seed(seed)
    model = train.build_model(settings, len(images.class_names))
    _, held_out = data_setup.split(images.train, settings.hold_out, seed=seed)
    images.test = held_out  # in place of the test set
    history = train.build_trainer(model, images, settings, device).fit()
    return {"held_out_accuracy": history[-1]["val_acc"], "held_out_loss": history[-1]["val_loss"],
            "held_out_images": len(held_out), "train_seconds": sum(row["seconds"] for row in history),
            "epochs": len(history)}


def scores(results: list[dict], seeds: list[int]) -> dict:
    """What the log says about several runs of one model, and which command made them."""
    values = {name: summary([result[name] for result in results])
              for name in ("test_accuracy", "test_loss", "train_seconds")}
    values["mean_f1"] = summary([mean_f1(result["confusion_matrix"]) for result in results])
    return values | {"parameters": results[0]["parameters"], "epochs": [result["epochs"] for result in results],
                     "seeds": seeds, "command": command()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", help="another data set, to try this script")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="none: the ViTs of the log")
    parser.add_argument("--cnn-seeds", type=int, nargs="*", default=[0, 1, 2], help="none: no CNN")
    parser.add_argument("--passes", type=int, default=PASSES, help=f"over the training images, a multiple of {PASSES}")
    parser.add_argument("--processes", type=int, default=2, help="that train the ViT together")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--search", action="store_true", help="score the recipe on held-out images, with one seed")
    parser.add_argument("options", nargs="*", help="after --: options of going_modular.train")
    args = parser.parse_args()
    if args.passes < PASSES or args.passes % PASSES:
        parser.error(f"--passes must be a multiple of {PASSES}, got {args.passes}")
    device = train.pick_device(args.device)
    options = ["--epochs", str(args.passes // PASSES), *args.options]
    if args.search:
        line = search(args.data, args.seeds[0], device, options)
        line |= {"recipe": RECIPE, "options": options, "seed": args.seeds[0], "machine": machine(),
                 "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()) + " UTC"}
        print(line)
        with open(RESULTS / "mnist_search.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")
        return

    data = data_setup.load(args.data)
    print(data.note)
    # Only what the recipe gives on MNIST gets the name of the log that is reported.
    kinds = {args.data: args.data != "mnist", f"{args.passes}_passes": args.passes != PASSES,
             "trial": bool(args.options)}
    file = "_".join(["mnist", *(kind for kind, different in kinds.items() if different)])
    if args.seeds:
        vits = []
        for seed in args.seeds:
            vits.append(train_vit(args.data, seed, args.device, [*RECIPE, *options], processes=args.processes))
            tell("ViT", seed, vits[-1])
        log = {"train_images": len(data.train), "test_images": len(data.test),
               "guess_loss": vits[0]["guess_loss"], "one_class_accuracy": vits[0]["one_class_accuracy"],
               "vit": scores(vits, args.seeds) | {"processes": args.processes}, "settings": vits[0]["settings"]}
    else:
        log = json.loads((RESULTS / f"{file}.json").read_text())
    if args.cnn_seeds:
        vit, cnns = log["vit"], []
        for seed in args.cnn_seeds:
            cnns.append(train_cnn(data, {**log["settings"], "num_workers": 0}, seed, vit["parameters"],
                                  vit["train_seconds"]["mean"], device))
            tell("CNN", seed, cnns[-1])
        log["cnn"] = scores(cnns, args.cnn_seeds)
    write_log(file, {name: value for name, value in log.items() if name not in ("command", "date", "machine")})


if __name__ == "__main__":
    main()
