"""What each part of the recipe is worth: train with all of them, then without one at a time, over several seeds.

python -m benchmarks.recipe_prices --data drawn_things --seeds 0 1 2 3 4       as notebook 09 on a CPU
python -m benchmarks.recipe_prices --data drawn_things --epochs 100            five times as long
python -m benchmarks.recipe_prices --data cifar100                             20 classes

-> benchmarks/results/recipe_prices_NAME.json, NAME being the data and the epochs where they are given; and for the
notebook the same in going_modular/recipe_prices.json.
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

SIZES = {
    "drawn_things": dict(
        classes=10, epochs=20, batch_size=32,
        architecture=dict(image_size=32, patch_size=8, num_layers=4, hidden_size=64, mlp_size=256, num_heads=4)),
    "cifar100": dict(
        classes=20, epochs=12, batch_size=64,
        architecture=dict(image_size=32, patch_size=8, num_layers=6, hidden_size=96, mlp_size=384, num_heads=3)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=SIZES, default="drawn_things")
    parser.add_argument("--epochs", type=int, help="default: those of the data set in SIZES")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--without", nargs="+", choices=switches.SWITCHES, default=list(switches.SWITCHES))
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()

    size = SIZES[args.data]
    architecture = dict(**size["architecture"], drop_path=0.1)
    device, data = pick_device(args.device), switches.first_classes(data_setup.load(args.data), size["classes"])
    print(data.note)
    columns, seconds = ("test_acc", "test_loss", "train_acc", "train_loss", "val_acc"), []
    measured = {part: {name: [] for name in columns} for part in args.without}
    for seed in args.seeds:
        recipe = Recipe(epochs=args.epochs or size["epochs"], mixup=0.2, seed=seed)
        for part, results in measured.items():
            start = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                trainer = switches.build(part, data, architecture, recipe, device, folder, size["batch_size"])
                last = trainer.fit()[-1]
            seconds.append(time.perf_counter() - start)
            for name in columns:
                results[name].append(round(last[name], 4))
            print(f"seed {seed}, without {part}: accuracy {last['test_acc']:.4f}, {seconds[-1]:.0f} s", flush=True)

    values = {
        "data": args.data, "classes": size["classes"], "train_images": len(data.train), "test_images": len(data.test),
        "architecture": architecture, "recipe": asdict(recipe), "batch_size": size["batch_size"], "seeds": args.seeds,
        "seconds_of_a_run": round(statistics.median(seconds), 1), "without": measured,
    }
    name = f"{args.data}_{args.epochs}" if args.epochs else args.data
    write_log(f"recipe_prices_{name}", values)
    file = Path(switches.__file__).parent / "recipe_prices.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    known[name] = {**values, "machine": machine()}
    file.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
