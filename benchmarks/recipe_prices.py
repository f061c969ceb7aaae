"""What each part of the recipe is worth: train with all of them, then without one at a time, over several seeds.

python -m benchmarks.recipe_prices --data drawn_things --seeds 0 1 2 3 4
python -m benchmarks.recipe_prices --data cifar100 --seeds 0 1 2

-> benchmarks/results/recipe_prices_DATA.json, and for notebook 09 a copy in going_modular/recipe_prices.json.
"""
import argparse
import json
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks.common import machine, write_log
from going_modular import data_setup, switches
from going_modular.trainer import Recipe
from going_modular.utils import pick_device
from going_modular.vit import VARIANTS

CLASSES = 20
# data set: patch size, epochs, mixup, stochastic depth, smallest crop
SIZES = {"drawn_things": (8, 15, 0.2, 0.1, 0.6), "cifar100": (4, 15, 0.2, 0.1, 0.6)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=SIZES, default="drawn_things")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--without", nargs="+", choices=switches.SWITCHES, default=list(switches.SWITCHES))
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()

    device, data = pick_device(args.device), switches.first_classes(data_setup.load(args.data), CLASSES)
    patch_size, epochs, mixup, drop_path, min_scale = SIZES[args.data]
    architecture = dict(image_size=32, patch_size=patch_size, drop_path=drop_path, **VARIANTS["Mini"])
    print(data.note)
    columns, seconds = ("test_acc", "test_loss", "train_acc", "train_loss", "val_acc"), []
    measured = {part: {name: [] for name in columns} for part in args.without}
    for seed in args.seeds:
        recipe = Recipe(epochs=epochs, mixup=mixup, seed=seed)
        for part, results in measured.items():
            start = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                trainer = switches.build(part, data, architecture, recipe, device, folder, min_scale=min_scale)
                last = trainer.fit()[-1]
            seconds.append(time.perf_counter() - start)
            for name in columns:
                results[name].append(round(last[name], 4))
            print(f"seed {seed}, without {part}: {results} {seconds[-1]:.0f} s", flush=True)

    values = {
        "data": args.data, "classes": CLASSES, "train_images": len(data.train), "test_images": len(data.test),
        "architecture": architecture, "recipe": asdict(recipe), "min_scale": min_scale, "seeds": args.seeds,
        "seconds_of_a_run": round(statistics.median(seconds), 1), "without": measured,
    }
    write_log(f"recipe_prices_{args.data}", values)
    file = Path(switches.__file__).parent / "recipe_prices.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    known[args.data] = {**values, "machine": machine()}
    file.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
