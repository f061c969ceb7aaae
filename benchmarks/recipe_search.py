"""Try a recipe on other classes than those it is for, so that no test set of theirs chooses it.

python -m benchmarks.recipe_search --data FOLDER [--triples 0 1] [--seed 0] -- [options of going_modular.train]

FOLDER holds train/CLASS/ and test/CLASS/ of many classes, such as Food-101 without the three dishes. Each triple is
three of them at random: 75 training images a class, and up to 400 others to score by. A line of JSON for each run is
added to benchmarks/results/recipe_search.jsonl.
"""
import argparse
import json
import random
import tempfile
from pathlib import Path

from benchmarks.common import RESULTS, machine
from going_modular import data_setup, train


def lay_out(source: Path, triple: int, target: Path) -> list[str]:
    """Link the images of a triple to target/{train,test}/CLASS/; returns the names of its classes."""
    by_class = {}
    for part in ("train", "test"):
        samples, classes = data_setup.list_images(source / part)
        for path, label in samples:
            by_class.setdefault(classes[label], []).append(path)
    names = sorted(by_class)
    random.Random(123).shuffle(names)
    chosen = sorted(names[3 * triple : 3 * triple + 3])
    for name in chosen:
        random.Random(name).shuffle(by_class[name])
        for part, paths in (("train", by_class[name][:75]), ("test", by_class[name][75:475])):
            folder = target / part / name
            folder.mkdir(parents=True)
            for i, path in enumerate(paths):
                (folder / f"{i:03}{path.suffix}").symlink_to(path.resolve())
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--triples", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("options", nargs="*", help="after --: options of going_modular.train")
    args = parser.parse_args()
    for triple in args.triples:
        with tempfile.TemporaryDirectory() as folder:
            classes = lay_out(args.data, triple, Path(folder) / "data")
            output = Path(folder) / "run"
            options = ["--data", f"{folder}/data", "--output", str(output), "--seed", str(args.seed), *args.options]
            if train.main(options):
                raise SystemExit(2)
            results = json.loads((output / "results.json").read_text())
        line = {name: round(results[name], 4) for name in ("test_accuracy", "test_loss", "train_seconds")}
        line |= {"triple": classes, "seed": args.seed, "options": args.options, "machine": machine()}
        with open(RESULTS / "recipe_search.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
