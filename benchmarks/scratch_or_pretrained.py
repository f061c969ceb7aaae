"""From scratch against fine-tuning, for the same numbers of epochs: what is left of the gap with time.

python -m benchmarks.scratch_or_pretrained [--epochs 4 12 24] [--seeds 0 1 2]
    ->  benchmarks/results/scratch_or_pretrained.json

The two ways of notebook 13 on a CPU, with its settings: 80 drawings each of pizza, steak and sushi, of which a tenth is
held out as the command does; 60 of each to test; a ViT from scratch by the recipe of notebook 09, and `seven_dishes`
fine-tuned as in Appendix B.1.1. Each number of epochs is a run of its own with a schedule of its own, and all are told:
none is chosen by the test set.
"""
import argparse
from dataclasses import replace

import torch

from benchmarks.common import write_log
from benchmarks.main_job import summary
from going_modular import config, data_setup, train, utils
from going_modular.experiments.data_scale import first
from going_modular.paper import finetune

SIZES = dict(model="Mini", hidden_size=64, heads=4, mlp_size=256, patch_size=8, image_size=48)
RECIPE = dict(repeats=3, batch_size=32, min_scale=0.6, trivial_augment=0.0, mixup=0.0, drop_path=0.0,
              weight_decay=0.05, test_crops=1)
LR, HOLD_OUT = 0.03, 0.1


def from_scratch(data: data_setup.ImageData, epochs: int, seed: int, device: torch.device) -> float:
    """The test accuracy after so many epochs from random weights."""
    options = config.complete({**SIZES, **RECIPE, "hold_out": HOLD_OUT, "epochs": epochs, "seed": seed}, data, device)
    torch.manual_seed(seed)
    model = train.build_model(options, len(data.class_names))
    return train.build_trainer(model, data, options, device).fit()[-1]["test_acc"]


def fine_tuned(data: data_setup.ImageData, epochs: int, seed: int, device: torch.device) -> float:
    """The test accuracy after so many epochs from the weights of seven_dishes."""
    pretrained, _ = utils.load_model("seven_dishes")
    utils.set_seeds(seed)
    model = finetune.new_head(pretrained, len(data.class_names))
    kept, _ = data_setup.split(data.train, HOLD_OUT, seed=seed)
    size = model.settings["image_size"]
    train_loader = data_setup.make_loader(
        kept, data_setup.train_transform(size, min_scale=RECIPE["min_scale"]), RECIPE["batch_size"], shuffle=True,
        seed=seed, repeats=RECIPE["repeats"], device=device)
    test_loader = data_setup.make_loader(data.test, data_setup.eval_transform(size), 60, device=device)
    return finetune.fine_tune(model, train_loader, test_loader, epochs, LR, device)["test_acc"][-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, nargs="+", default=[4, 12, 24])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    device = torch.device(args.device)
    data = data_setup.load("drawn")
    data = replace(data, train=first(data.train, 80), test=first(data.test, 60))
    ways = {"from scratch": from_scratch, "fine-tuned": fine_tuned}
    accuracies = {name: {epochs: [way(data, epochs, seed, device) for seed in args.seeds] for epochs in args.epochs}
                  for name, way in ways.items()}
    write_log("scratch_or_pretrained", {
        "train_images": len(data.train), "held_out": HOLD_OUT, "test_images": len(data.test), "seeds": args.seeds,
        "test_accuracy": {name: {epochs: summary(each) for epochs, each in of_epochs.items()}
                          for name, of_epochs in accuracies.items()}})


if __name__ == "__main__":
    main()
