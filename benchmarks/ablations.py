"""The experiments of notebook 11 (Table 8, Figures 9 and 8 in small): every row, over several seeds.

python -m benchmarks.ablations                                     drawn digits, on one thread of a CPU
python -m benchmarks.ablations --data cifar100                     larger models on real photos, for a GPU
python -m benchmarks.ablations --experiments positions             one of the experiments

-> benchmarks/results/ablations_NAME.json, NAME being the data, and for the notebook the same in
going_modular/ablations.json. Experiments that are not asked for keep the results of an earlier run of the same size;
made_by in the log tells the command of each.
"""
import argparse
import json
from pathlib import Path

import torch

from benchmarks.common import RESULTS, command, machine, write_log
from going_modular import experiments
from going_modular.utils import pick_device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=experiments.SIZES, default="drawn_digits")
    parser.add_argument("--experiments", nargs="+", choices=experiments.SEEDS, default=list(experiments.SEEDS))
    parser.add_argument("--threads", type=int, default=1, help="of the CPU: one is as fast as two for small models")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    device = pick_device(args.device)
    data = experiments.load(args.data).to(device)
    log, cache = RESULTS / f"ablations_{args.data}.json", Path(experiments.__file__).parent / "ablations.json"
    size = json.loads(json.dumps(experiments.SIZES[args.data]))  # as it will be read again: lists for tuples
    before = json.loads(log.read_text()) if log.exists() else {"size": None}
    results, made_by = (before["results"], before["made_by"]) if before["size"] == size else ({}, {})
    for experiment in args.experiments:
        results[experiment] = experiments.measure(args.data, experiment, data, device)
        made_by[experiment] = command()
        values = {"data": args.data, "size": size, "train_images": len(data.train),
                  "test_images": len(data.test), "seeds": experiments.SEEDS, "made_by": made_by,
                  "results": results}
        write_log(log.stem, values)
        known = json.loads(cache.read_text()) if cache.exists() else {}
        known[args.data] = {**values, "machine": machine()}
        cache.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
