"""How fast the drawn food is drawn, and how little its colours and pixels give away.

python benchmarks/drawn_baselines.py [--seed 0]  ->  benchmarks/results/drawn_baselines.json
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import baselines  # noqa: E402

from going_modular import drawn  # noqa: E402


def tensors(name: str, split: str, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A split at its default size: images uint8 [N, 3, S, S] and labels [N]."""
    classes = drawn.SETS[name].classes
    pictures = [(np.asarray(image), classes.index(label)) for label, _, image in drawn.draw_set(name, split, seed)]
    images, labels = zip(*pictures)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)


def speed(name: str, seed: int, batches: int = 200) -> dict[str, int]:
    """Pictures a second on one core: over small batches with one picture a class, and over the faster ones.

    What else runs on the machine slows the first figure; the second, the lower quartile of time, hardly.
    """
    classes = drawn.SETS[name].classes
    seconds = []
    for batch in range(batches):
        start = time.perf_counter()
        for label in range(min(len(classes), 10)):
            rng = np.random.Generator(np.random.PCG64([seed, label, 0, batch]))
            drawn.SETS[name].draw(classes[label], rng, drawn.SETS[name].size)
        seconds.append((time.perf_counter() - start) / min(len(classes), 10))
    return {"all": round(batches / sum(seconds)), "undisturbed": round(1 / float(np.quantile(seconds, 0.25)))}


def cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    torch.set_num_threads(1)
    start = time.perf_counter()
    rates = {name: speed(name, seed) for name in drawn.SETS}
    train_x, train_y = tensors("drawn", "train", seed)
    test_x, test_y = tensors("drawn", "test", seed)
    accuracies = {"majority": round(baselines.majority(train_y, test_y), 4)}
    for kind, l2_grid in (
        ("mean_colour", (1e-4, 1e-3, 1e-2)),
        ("histogram", (1e-4, 1e-3, 1e-2, 1e-1)),
        ("pixels", (0.1, 1.0, 10.0)),
    ):
        features = getattr(baselines, f"features_{kind}")
        accuracy = baselines.logistic_regression(features(train_x), train_y, features(test_x), test_y, l2_grid)
        accuracies[kind] = round(accuracy, 4)
        print(f"{kind:12} {accuracy:.3f}")
    result = {
        "command": f"python benchmarks/drawn_baselines.py --seed {seed}",
        "seed": seed,
        "train_pictures": len(train_y),
        "test_pictures": len(test_y),
        "test_accuracy": accuracies,
        "pictures_per_second": rates,
        "machine": {"cpu": cpu_model(), "cores": os.cpu_count(), "threads_used": 1, "torch": torch.__version__},
        "seconds": round(time.perf_counter() - start, 1),
    }
    path = ROOT / "benchmarks" / "results" / "drawn_baselines.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
