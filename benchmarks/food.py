"""Notebook 13 at full size: fine-tuned from our own pre-training and from published weights, over several seeds.

python -m benchmarks.food --data photos --pretraining food101_64 --run runs/pretrained [--seeds 0 1 2 3 4]
    ->  benchmarks/results/food_photos.json

- own pre-training: the command `python -m going_modular.train`, once, on a data set of other classes, into the folder
  --run (which is taken as it is where it holds a finished run), then `finetune.fine_tune` with each seed;
- published weights, with --published VARIANT SOURCE IMAGE_SIZE: fine-tuned in the same way.

The learning rate of fine-tuning is the one of Table 4 or above that is best on held-out fifths of the training set; the
test set is used once for each seed, each image seen in several views as by the command. What training from scratch and
simpler means reach on the same pictures is measured by benchmarks.main_job.
"""
import argparse
import contextlib
import io
import json
import os
import statistics
import time
from functools import partial
from pathlib import Path

import torch.nn.functional as F

from benchmarks.common import write_log
from benchmarks.main_job import summary, tell
from going_modular import data_setup, engine, train, utils, weights
from going_modular.paper import finetune
from going_modular.predictions import AveragedOverViews, central_crops
from going_modular.vit import ViT

RATES = (0.003, 0.01, 0.03, 0.1)


def pretrain(data: str, epochs: int, run: Path, device: str) -> tuple[ViT, dict]:
    """(the model of the run, what its results.json and settings.json say); the run is made where there is none."""
    if not (run / "results.json").is_file():
        options = ["--data", data, "--epochs", str(epochs), "--hold-out", "0.02", "--device", device]
        if train.main([*options, "--output", str(run), *(["--resume"] if (run / "last.pt").is_file() else [])]):
            raise SystemExit(2)
    results = json.loads((run / "results.json").read_text())
    del results["confusion_matrix"]
    return utils.load_model(run)[0], results | {"settings": json.loads((run / "settings.json").read_text())}


def fine_tune(
    pretrained: ViT, train_part, test_part, num_classes: int, lr: float, epochs: int, seed: int, device,
) -> dict:
    """One run; accuracy on test_part, the number of right answers, and seconds."""
    size = pretrained.settings["image_size"]
    options = dict(batch_size=32, num_workers=0 if size <= 64 else min(os.cpu_count(), 8), device=device)
    repeats = max(1, round(1000 / len(train_part)))
    training = data_setup.make_loader(train_part, data_setup.train_transform(size), shuffle=True, seed=seed,
                                      repeats=repeats, **options)
    testing = data_setup.make_loader(test_part, data_setup.eval_transform(size), **options)
    utils.set_seeds(seed)
    model = finetune.new_head(pretrained, num_classes)
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        curves = finetune.fine_tune(model, training, testing, epochs, lr, device)
    seconds = time.perf_counter() - start
    seen_thrice = AveragedOverViews(model, partial(central_crops, crops=3))
    _, accuracy = engine.test_step(seen_thrice, testing, F.cross_entropy, device)
    return {"test_accuracy": accuracy, "test_accuracy_one_view": curves["test_acc"][-1], "train_seconds": seconds,
            "correct": round(accuracy * len(test_part))}


def choose_rate(pretrained: ViT, part, num_classes: int, epochs: int, device) -> tuple[float, dict[float, float]]:
    """The learning rate of RATES with the highest mean accuracy on three held-out fifths, and that of each rate."""
    accuracies = {}
    for lr in RATES:
        splits = [data_setup.split(part, 0.2, seed=seed) for seed in (100, 101, 102)]
        accuracies[lr] = statistics.mean(
            fine_tune(pretrained, kept, held_out, num_classes, lr, epochs, 0, device)["test_accuracy"]
            for kept, held_out in splits)
        print(f"learning rate {lr}: {accuracies[lr]:.4f} on held-out training images", flush=True)
    return max(accuracies, key=accuracies.get), accuracies


def fine_tuned(pretrained: ViT, data, seeds: list[int], epochs: int, device, name: str) -> dict:
    """What the log says of one pre-trained model: fine-tuned with each seed, at the best learning rate."""
    classes = len(data.class_names)
    pretrained.to(device)
    rate, rates = choose_rate(pretrained, data.train, classes, epochs, device)
    runs = []
    for seed in seeds:
        runs.append(fine_tune(pretrained, data.train, data.test, classes, rate, epochs, seed, device))
        tell(name, seed, runs[-1])
    return {**logged(runs, len(data.test)), "lr": rate, "epochs": epochs,
            "held_out_accuracy": {str(lr): round(accuracy, 4) for lr, accuracy in rates.items()}}


def logged(runs: list[dict], images: int) -> dict:
    interval = train.wilson_interval(round(statistics.mean(run["correct"] for run in runs)), images)
    return {"test_accuracy": summary([run["test_accuracy"] for run in runs]),
            "interval_95": [round(v, 4) for v in interval],  # of a run with the mean accuracy
            "test_accuracy_one_view": summary([run["test_accuracy_one_view"] for run in runs]),
            "train_seconds": summary([run["train_seconds"] for run in runs])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="photos")
    parser.add_argument("--pretraining", metavar="DATA", help="data set of other classes; none: no own pre-training")
    parser.add_argument("--pretraining-epochs", type=int, default=10)
    parser.add_argument("--run", type=Path, default=Path("runs/pretrained"), help="folder of the pre-training")
    parser.add_argument("--published", nargs=3, metavar=("VARIANT", "SOURCE", "IMAGE_SIZE"))
    parser.add_argument("--epochs", type=int, default=12, help="of fine-tuning, each shows about 1,000 images")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()

    device, data = utils.pick_device(args.device), data_setup.load(args.data)
    print(data.note)
    log = {"data": data.name, "train_images": len(data.train), "test_images": len(data.test), "seeds": args.seeds}

    if args.pretraining:
        pretrained, results = pretrain(args.pretraining, args.pretraining_epochs, args.run, args.device)
        if common := set(results["class_names"]) & set(data.class_names):
            parser.error(f"{args.pretraining} has classes of {args.data}: {', '.join(sorted(common))}")
        log["pretraining"] = {"data": args.pretraining} | {name: results[name] for name in (
            "test_accuracy", "train_images", "train_seconds", "epochs", "parameters", "settings")}
        log["pretraining"]["classes"] = len(results["class_names"])
        log["own_pretraining"] = fine_tuned(pretrained, data, args.seeds, args.epochs, device, "own pre-training")
    if args.published:
        variant, source, size = args.published
        pretrained = weights.load(variant, source, image_size=int(size))
        prepared = pretrained.preprocessing
        finetune.fold_normalisation(pretrained, prepared.mean, prepared.std)
        log["published"] = {"weights": source, "variant": variant, "image_size": int(size)} | fine_tuned(
            pretrained, data, args.seeds, args.epochs, device, "published weights")

    write_log(f"food_{data.name}", log)


if __name__ == "__main__":
    main()
