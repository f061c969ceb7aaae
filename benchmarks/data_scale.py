"""Figures 3 and 4 in small: accuracy on three drawn dishes against the number of other dishes in pre-training.

python -m benchmarks.data_scale [--seeds 0 1 2] [--device cpu]

-> going_modular/experiments/measured/data_scale.json, which notebook 12 shows; beside it masked_patches.pt, the first
seed's model of masked patch prediction. Runs of one length see as many pictures and cost as much, whether few are shown
often or many seldom. Runs that the log holds already, from an interrupted call, are not done again, unless the log is
stale (python -m going_modular.experiments).
"""
import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from benchmarks.common import log_of, write_measured
from going_modular import data_setup
from going_modular.experiments import MEASURED, data_scale
from going_modular.experiments.fingerprint import is_stale
from going_modular.paper import probe
from going_modular.utils import load_model, pick_device, write_atomically

# pictures of each of the seven dishes, and pictures seen in all; the first are new models
BOTH = [(0, 0), (10, 3_500), (50, 3_500), (250, 3_500), (1250, 35_000), (10, 35_000), (250, 35_000)]
RUNS = [(kind, *run) for run in BOTH for kind in ("ViT", "CNN")] + [
    ("masked ViT", 1250, 35_000), ("seven_dishes", 1500, 210_000)]  # the last is one model, which the package holds
SHOTS, FINE_TUNING = 20, dict(count=80, epochs=4, lr=0.03)


def save(model: nn.Module, file: Path) -> None:
    """Store weights in half precision: a model that loads them computes in float32 as always."""
    weights = {name: value.cpu().half() for name, value in model.state_dict().items()}
    write_atomically(file, lambda temporary: torch.save(weights, temporary))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()

    rows = [] if is_stale("data_scale") else data_scale.measured()["rows"]
    done = {(row["model"], row["pictures"], row["samples"], row["seed"]) for row in rows}
    device, task = pick_device(args.device), data_setup.load("drawn")
    others = data_scale.dishes(max(count for kind, count, _ in RUNS if kind != "seven_dishes"))
    for seed in args.seeds:
        for kind, count, samples in RUNS:
            if (kind, 7 * count, samples, seed) in done:
                continue
            start = time.perf_counter()
            if kind == "seven_dishes":
                model = load_model(kind)[0].to(device)
            elif not samples:
                model = data_scale.new_model(kind, len(data_scale.DISHES), seed).to(device)
            else:
                data = replace(others, train=data_scale.first(others.train, count))
                if kind == "masked ViT":
                    masked = data_scale.pretrain_masked(data, samples, seed, device)
                    model = masked.vit
                    if seed == args.seeds[0]:
                        save(masked, MEASURED / "masked_patches.pt")
                else:
                    model = data_scale.pretrain(kind, data, samples, seed, device)
            seconds = time.perf_counter() - start
            row = {"model": kind, "pictures": 7 * count, "samples": samples, "seed": seed,
                   "probe": data_scale.probe_accuracy(model, task, SHOTS),
                   "fine_tuned": data_scale.fine_tuned_accuracy(model, task, seed, device, **FINE_TUNING)}
            print(row, flush=True)
            rows.append({**row, "seconds": round(seconds, 1)})
            values = {"dishes": data_scale.DISHES, "vit": data_scale.VIT_SIZES, "cnn_width": data_scale.CNN_WIDTH,
                      "shots": SHOTS, "decay": probe.DECAY, "fine_tuning": FINE_TUNING,
                      "test_images": len(task.test), "rows": rows}
            write_measured("data_scale", log_of(values))


if __name__ == "__main__":
    main()
