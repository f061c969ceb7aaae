"""What each part of the recipe is worth: train with all of them, then without one at a time, over several seeds.

python -m benchmarks.recipe_prices --data drawn_things --seeds 0 1 2 3 4
python -m benchmarks.recipe_prices --data cifar100 --seeds 0 1 2

-> benchmarks/results/recipe_prices_DATA.json, and what notebook 09 shows of it in going_modular/recipe_prices.json.
"""
import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.common import machine, write_log
from going_modular import data_setup, switches
from going_modular.utils import pick_device

CLASSES = 20
SETTINGS = {
    "drawn_things": dict(
        model="Mini", patch_size=8, epochs=15, batch_size=64, lr=2e-3, min_scale=0.6, mixup=0.2, drop_path=0.1),
    "cifar100": dict(
        model="Mini", patch_size=4, epochs=15, batch_size=64, lr=2e-3, min_scale=0.5, mixup=0.2, drop_path=0.1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=SETTINGS, default="drawn_things")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()

    data = switches.first_classes(data_setup.load(args.data), CLASSES)
    device, settings = pick_device(args.device), {"data": args.data, **SETTINGS[args.data]}
    print(data.note)
    test_acc, train_acc, seconds = {}, {}, []
    for seed in args.seeds:
        for part in (None, *switches.SWITCHES):
            start = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                last = switches.build(part, data, {**settings, "seed": seed}, device, folder).fit()[-1]
            seconds.append(time.perf_counter() - start)
            name = part or "nothing"
            test_acc.setdefault(name, []).append(round(last["test_acc"], 4))
            train_acc.setdefault(name, []).append(round(last["train_acc"], 4))
            print(f"seed {seed}, without {name}: accuracy {last['test_acc']:.4f}, {seconds[-1]:.0f} s", flush=True)

    measured = {
        "data": args.data, "classes": CLASSES, "train_images": len(data.train), "test_images": len(data.test),
        "settings": settings, "seeds": args.seeds, "seconds_of_a_run": round(statistics.median(seconds), 1),
        "without": test_acc, "train_accuracy_without": train_acc,
    }
    write_log(f"recipe_prices_{args.data}", measured)
    file = Path(switches.__file__).parent / "recipe_prices.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    known[args.data] = {**measured, "cpu": machine()["cpu"], "torch": torch.__version__}
    file.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
