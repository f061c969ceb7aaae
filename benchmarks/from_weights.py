"""The main job on a small set of photos, from scratch and from the weights of models that come with the package.

python -m benchmarks.from_weights --data photos [--weights drawings food98] [--seeds 0 1 2 3 4]
    ->  benchmarks/results/from_weights_photos.json

All ways train on as many images, each seed in a process of its own. The learning rate after pre-training is the one
that benchmarks.pretraining chose on other classes. With --add, the ways that the log has stay, and so do its seeds.
"""
import argparse

from benchmarks.common import command, log, write_log
from benchmarks.main_job import summary, tell, train_vit
from benchmarks.pretraining import SMALL_SET
from going_modular import data_setup


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="photos")
    parser.add_argument("--weights", nargs="+", default=["drawings", "food98"])
    parser.add_argument("--seeds", type=int, nargs="+", help="default: 0 1 2 3 4")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--add", action="store_true", help="keep what the log has")
    args = parser.parse_args()
    lr, file = log("pretraining")["lr"], f"from_weights_{args.data}"
    kept = log(file) if args.add else {"ways": {}, "seeds": args.seeds or [0, 1, 2, 3, 4]}
    if args.add and args.seeds not in (None, kept["seeds"]):
        parser.error(f"--add takes the seeds of the log, {kept['seeds']}")
    results = kept["ways"]
    ways = {"from scratch": ["--model", "Mini", "--image-size", "64"],
            **{f"from {name}": ["--weights", name, "--lr", lr] for name in args.weights}}
    for name, options in ways.items():
        if name in results:
            continue
        runs = []
        for seed in kept["seeds"]:
            runs.append(train_vit(args.data, seed, args.device, [*SMALL_SET, *options]))
            tell(name, seed, runs[-1])
        results[name] = {
            "test_accuracy": summary([run["test_accuracy"] for run in runs]),
            "test_loss": summary([run["test_loss"] for run in runs]),
            "train_seconds": summary([run["train_seconds"] for run in runs]),
            "options": [*SMALL_SET, *options], "command": command()}
    data = data_setup.load(args.data)
    write_log(file, {"data": args.data, "train_images": len(data.train), "test_images": len(data.test),
                     "seeds": kept["seeds"], "ways": {name: results[name] for name in {**ways, **results}}})


if __name__ == "__main__":
    main()
