"""The experiments of notebook 11 (Table 8, Figures 9 and 8 in small): every row, over several seeds.

python -m benchmarks.architecture                                     drawn digits, on one thread of a CPU
python -m benchmarks.architecture --data cifar100                     larger models on real photos, for a GPU
python -m benchmarks.architecture --experiments positions             one of the experiments

-> going_modular/experiments/measured/architecture.json, by the name of the data, which the notebook shows. Experiments
that are not asked for keep the results of an earlier run of the same size, unless these are stale (python -m
going_modular.experiments); made_by tells the command of each.
"""
import argparse
import json

import torch

from benchmarks.common import command, log_of, write_measured
from going_modular.experiments import architecture
from going_modular.experiments.fingerprint import is_stale
from going_modular.utils import pick_device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=architecture.SETUPS, default="drawn_digits")
    parser.add_argument("--experiments", nargs="+", choices=architecture.SEEDS, default=list(architecture.SEEDS))
    parser.add_argument("--threads", type=int, default=1, help="of the CPU: one is as fast as two for small models")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    device = pick_device(args.device)
    data = architecture.load(args.data).to(device)
    size = json.loads(json.dumps(architecture.SETUPS[args.data]))  # as it will be read again: lists for tuples
    before = architecture.cached().get(args.data, {"size": None})
    kept = before["size"] == size and not is_stale("architecture")
    results, made_by = (before["results"], before["made_by"]) if kept else ({}, {})
    for experiment in args.experiments:
        results[experiment] = architecture.measure(args.data, experiment, data, device)
        made_by[experiment] = command()
        values = {"data": args.data, "size": size, "train_images": len(data.train),
                  "test_images": len(data.test), "seeds": architecture.SEEDS, "made_by": made_by,
                  "results": results}
        write_measured("architecture", {**architecture.cached(), args.data: log_of(values)})


if __name__ == "__main__":
    main()
