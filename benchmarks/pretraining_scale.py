"""Figures 3 and 4 in small: accuracy on three drawn dishes against the number of other dishes in pre-training.

python -m benchmarks.pretraining_scale [--seeds 0 1 2] [--device cpu]

-> benchmarks/results/pretraining_scale.json, and for notebook 12 the same in going_modular/pretraining.json, and the
first seed's model of masked patch prediction in going_modular/masked_patches.pt. Runs of
one length see as many pictures and cost as much, whether few are shown often or many seldom. Runs that the log holds
already, from an interrupted call, are not done again.
"""
import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from benchmarks.common import RESULTS, machine, write_log
from going_modular import data_setup, pretraining, probe
from going_modular.utils import load_model, pick_device, write_atomically

# pictures of each of the seven dishes, and pictures seen in all; the first are new models
BOTH = [(0, 0), (10, 3_500), (50, 3_500), (250, 3_500), (1250, 35_000), (10, 35_000), (250, 35_000)]
RUNS = [(kind, *run) for run in BOTH for kind in ("ViT", "CNN")] + [
    ("masked ViT", 1250, 35_000), ("seven_dishes.pt", 1500, 210_000)]  # the last is one model, which the package holds
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

    log, file = RESULTS / "pretraining_scale.json", Path(pretraining.__file__).parent / "pretraining.json"
    rows = json.loads(log.read_text())["rows"] if log.exists() else []
    done = {(row["model"], row["pictures"], row["samples"], row["seed"]) for row in rows}
    device, task = pick_device(args.device), data_setup.load("drawn")
    others = pretraining.dishes(max(count for kind, count, _ in RUNS if kind != "seven_dishes.pt"))
    for seed in args.seeds:
        for kind, count, samples in RUNS:
            if (kind, 7 * count, samples, seed) in done:
                continue
            start = time.perf_counter()
            if kind == "seven_dishes.pt":
                model = load_model(file.with_name(kind))[0].to(device)
            elif not samples:
                model = pretraining.new_model(kind, len(pretraining.DISHES), seed).to(device)
            else:
                data = replace(others, train=pretraining.first(others.train, count))
                if kind == "masked ViT":
                    masked = pretraining.pretrain_masked(data, samples, seed, device)
                    model = masked.vit
                    if seed == args.seeds[0]:
                        save(masked, file.with_name("masked_patches.pt"))
                else:
                    model = pretraining.pretrain(kind, data, samples, seed, device)
            seconds = time.perf_counter() - start
            row = {"model": kind, "pictures": 7 * count, "samples": samples, "seed": seed,
                   "probe": pretraining.probe_accuracy(model, task, SHOTS),
                   "fine_tuned": pretraining.fine_tuned_accuracy(model, task, seed, device, **FINE_TUNING)}
            print(row, flush=True)
            rows.append({**row, "seconds": round(seconds, 1)})
            values = {"dishes": pretraining.DISHES, "vit": pretraining.SIZES, "cnn_width": pretraining.CNN_WIDTH,
                      "shots": SHOTS, "decay": probe.DECAY, "fine_tuning": FINE_TUNING,
                      "test_images": len(task.test), "rows": rows}
            write_log("pretraining_scale", values)
            file.write_text(json.dumps({**values, "machine": machine()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
