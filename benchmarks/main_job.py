"""The main job over several seeds, beside what simpler means reach on the same images.

python -m benchmarks.main_job --data photos [--seeds 0 1 2 3 4]  ->  benchmarks/results/main_job_photos.json
python -m benchmarks.main_job --data photos --device cuda        ->  benchmarks/results/main_job_photos_cuda.json

- the command `python -m going_modular.train` with its defaults, once for each seed, each in a process of its own;
- a CNN of about the same number of parameters, trained by the same trainer for the same time;
- logistic regression on mean colour, colour histograms and raw pixels; and the class that is most frequent.
"""
import argparse
import csv
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks import baselines
from benchmarks.common import write_log
from going_modular import config, data_setup, train
from going_modular.experiments.cnn import cnn, matching_width


def train_vit(data: str, seed: int, device: str, options: Sequence[str] = (), processes: int = 1) -> dict:
    """One run of the command in a fresh process, or in several by torchrun; what its results.json says, its settings,
    and its history: a row of history.csv for each epoch."""
    torchrun = ["torch.distributed.run", f"--nproc_per_node={processes}", "-m"] if processes > 1 else []
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "run"
        subprocess.run([sys.executable, "-m", *torchrun, "going_modular.train", "--data", data, "--seed", str(seed),
                        "--device", device, "--output", str(output), *options], check=True, stdout=subprocess.DEVNULL)
        results = json.loads((output / "results.json").read_text())
        results["settings"] = json.loads((output / "settings.json").read_text())
        with open(output / "history.csv") as file:
            results["history"] = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    return results


def train_cnn(
    data: data_setup.ImageData, settings: dict, seed: int, parameters: int, seconds: float, device: torch.device
) -> dict:
    """A CNN with about so many parameters, by the recipe of the command, for as many epochs as fit into the time; its
    results as those of the command."""
    classes = len(data.class_names)
    width = matching_width(classes, parameters)

    def trainer(epochs: int):
        torch.manual_seed(seed)
        model = cnn(classes, width)
        # Muon is for the blocks of a ViT.
        options = config.complete({"seed": seed, "epochs": epochs, "muon": 0.0}, data, device, stored=settings)
        return train.build_trainer(model, data, options, device)

    an_epoch = statistics.median(row["seconds"] for row in trainer(3).fit()[1:])
    run = trainer(max(1, int(seconds / an_epoch)))
    run.fit()
    with tempfile.TemporaryDirectory() as folder:
        return train.report(run, data, Path(folder))


def tell(name: str, seed: int, results: dict) -> None:
    print(f"{name}, seed {seed}: accuracy {results['test_accuracy']:.4f}, {results['train_seconds']:.0f} s", flush=True)


def summary(values: list[float]) -> dict:
    return {"mean": round(statistics.mean(values), 4),
            "std": round(statistics.stdev(values), 4) if len(values) > 1 else None,
            "each": [round(value, 4) for value in values]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="photos")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--cnn-seeds", type=int, nargs="*", default=[0, 1, 2], help="none: no CNN")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()

    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import going_modular"], check=True)
    import_seconds = time.perf_counter() - start
    data = data_setup.load(args.data)
    print(data.note)
    vits = []
    for seed in args.seeds:
        vits.append(train_vit(args.data, seed, args.device))
        tell("ViT", seed, vits[-1])
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20  # of the largest child, in GiB (Linux)

    device, settings = train.pick_device(args.device), vits[0]["settings"]
    seconds = statistics.mean(result["train_seconds"] for result in vits)
    settings["num_workers"] = 0 if settings["image_size"] <= 64 else 8
    cnns = []
    for seed in args.cnn_seeds:
        cnns.append(train_cnn(data, settings, seed, vits[0]["parameters"], seconds, device))
        tell("CNN", seed, cnns[-1])

    def tensors(part):  # uint8 [N, 3, 64, 64], labels [N]
        images = [np.asarray(image.resize((64, 64))) for image, _ in part]
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), torch.tensor(data_setup.labels(part))

    (train_x, train_y), (test_x, test_y) = tensors(data.train), tensors(data.test)
    simple = baselines.simple_means(train_x, train_y, test_x, test_y)
    print("simple means:", simple)

    accuracies, losses = ([result[name] for result in vits] for name in ("test_accuracy", "test_loss"))
    interval = train.wilson_interval(round(statistics.mean(result["correct"] for result in vits)), len(data.test))
    log = {
        "data": data.name, "train_images": len(data.train), "test_images": len(data.test), "seeds": args.seeds,
        "vit": {"test_accuracy": summary(accuracies), "test_loss": summary(losses),
                "interval_95": [round(v, 4) for v in interval],  # of a run with the mean accuracy, from its test images
                "train_seconds": summary([result["train_seconds"] for result in vits]),
                "epochs": vits[0]["epochs"], "parameters": vits[0]["parameters"], "guess_loss": vits[0]["guess_loss"],
                "settings": vits[0]["settings"]},
        "simple": simple, "import_seconds": round(import_seconds, 2), "peak_memory_gib": round(memory, 2),
    }
    if cnns:
        log["cnn"] = {"test_accuracy": summary([result["test_accuracy"] for result in cnns]),
                      "train_seconds": summary([result["train_seconds"] for result in cnns]),
                      "epochs": [result["epochs"] for result in cnns], "parameters": cnns[0]["parameters"]}
    write_log(f"main_job_{data.name}" + ("" if device.type == "cpu" else f"_{device.type}"), log)


if __name__ == "__main__":
    main()
