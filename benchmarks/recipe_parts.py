"""What each part of the recipe is worth: train with all of them, then without one at a time, over several seeds.

python -m benchmarks.recipe_parts --data drawn_things                         as notebook 09 on a CPU
python -m benchmarks.recipe_parts --data drawn_things --epochs 100            five times as long
python -m benchmarks.recipe_parts --data cifar100                             20 classes

-> going_modular/experiments/measured/recipe_parts.json, by the name of the data and the epochs where they are given;
the notebook shows it.
"""
import argparse
import statistics
import time
from dataclasses import asdict

from benchmarks.common import log_of, write_measured
from going_modular import data_setup
from going_modular.experiments import recipe_parts
from going_modular.recipe import Recipe
from going_modular.utils import pick_device

SETUPS = {
    "drawn_things": dict(
        classes=10, epochs=20, batch_size=32,
        architecture=dict(image_size=32, patch_size=8, num_layers=4, hidden_size=64, mlp_size=256, num_heads=4)),
    "cifar100": dict(
        classes=20, epochs=12, batch_size=64,
        architecture=dict(image_size=32, patch_size=8, num_layers=6, hidden_size=96, mlp_size=384, num_heads=3)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=SETUPS, default="drawn_things")
    parser.add_argument("--epochs", type=int, help="default: those of the data set in SETUPS")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--without", nargs="+", choices=recipe_parts.WITHOUT, default=list(recipe_parts.WITHOUT))
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()

    size = SETUPS[args.data]
    architecture = dict(**size["architecture"], drop_path=0.1)
    device, data = pick_device(args.device), recipe_parts.first_classes(data_setup.load(args.data), size["classes"])
    print(data.note)
    columns, seconds = ("test_acc", "test_loss", "train_acc", "train_loss", "val_acc"), []
    measured = {part: {name: [] for name in columns} for part in args.without}
    for seed in args.seeds:
        recipe = Recipe(epochs=args.epochs or size["epochs"], mixup=0.2, seed=seed)
        for part, results in measured.items():
            start = time.perf_counter()
            last = recipe_parts.build(part, data, architecture, recipe, device, size["batch_size"]).fit()[-1]
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
    write_measured("recipe_parts", {**recipe_parts.prices(), name: log_of(values)})


if __name__ == "__main__":
    main()
