"""Adam against SGD, in small: for pre-training, as in Table 7 of the paper, and for fine-tuning.

python -m benchmarks.table7 [--seeds 0 1 2]  ->  benchmarks/results/table7.json

- pre-training: the CNN of notebook 12 (the paper has ResNets) learns seven drawn dishes with AdamW or with SGD, then
  pizza, steak and sushi by the paper's fine-tuning. The rate is the best of three on other drawings of the seven.
- fine-tuning, which Table 7 does not compare: the ViT `seven_dishes` learns pizza, steak and sushi from 80 drawings of
  each with AdamW or with SGD. The rate is the best of three on a quarter that is held out.

A rate is chosen with the first seed; then each seed is trained at it, and scored on 600 test drawings.
"""
import argparse
from dataclasses import replace

import torch

from benchmarks.common import write_log
from benchmarks.main_job import summary
from going_modular import data_setup, utils
from going_modular.data_setup import ImageData
from going_modular.experiments import data_scale
from going_modular.paper import finetune
from going_modular.recipe import Recipe
from going_modular.trainer import Trainer

RECIPES = {"AdamW": Recipe, "SGD": finetune.FineTuning}
PRETRAINING_RATES = {"AdamW": (1e-3, 3e-3, 1e-2), "SGD": (0.03, 0.1, 0.3)}
FINE_TUNING_RATES = {"AdamW": (3e-4, 1e-3, 3e-3), "SGD": (0.01, 0.03, 0.1)}
CPU = torch.device("cpu")


def pretrained(name: str, lr: float, seed: int, dishes: ImageData) -> tuple[torch.nn.Module, float]:
    """A CNN after 3,500 views of seven dishes, and its accuracy on other drawings of them."""
    train, held_out = data_scale.loaders(dishes, 3_500, seed, 2, CPU)
    model = data_scale.new_model("CNN", len(dishes.class_names), seed)
    recipe = RECIPES[name](epochs=2, lr=lr, seed=seed)
    history = Trainer(model, train, recipe, CPU, class_names=dishes.class_names, test_loader=held_out).fit()
    return model, history[-1]["test_acc"]


def fine_tuned(name: str, lr: float, seed: int, data: ImageData) -> float:
    """The test accuracy of seven_dishes after four epochs on the training images of these data."""
    before, _ = utils.load_model("seven_dishes")
    utils.set_seeds(seed)
    model = finetune.new_head(before, len(data.class_names))
    view, plain = data_scale.transforms()
    train = data_setup.make_loader(data.train, view, 32, shuffle=True, seed=seed, repeats=3)
    test = data_setup.make_loader(data.test, plain, 100)
    recipe = RECIPES[name](epochs=4, lr=lr, warmup=0.0, label_smoothing=0.0, weight_decay=0.0, seed=seed)
    return Trainer(model, train, recipe, CPU, test_loader=test).fit()[-1]["test_acc"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    task, dishes = data_setup.load("drawn"), data_scale.dishes(50)
    few = replace(task, train=data_scale.first(task.train, 80))
    kept, held_out = data_setup.split(few.train, 0.25, seed=0)
    choosing = replace(few, train=kept, test=held_out)

    results: dict[str, dict] = {"pre-training": {}, "fine-tuning": {}}
    for name in RECIPES:
        tried = {lr: pretrained(name, lr, args.seeds[0], dishes)[1] for lr in PRETRAINING_RATES[name]}
        lr = max(tried, key=tried.__getitem__)
        accuracies = [data_scale.fine_tuned_accuracy(pretrained(name, lr, seed, dishes)[0], task, seed, CPU)
                      for seed in args.seeds]
        results["pre-training"][name] = {"tried": tried, "lr": lr, "test_accuracy": summary(accuracies)}

        tried = {lr: fine_tuned(name, lr, args.seeds[0], choosing) for lr in FINE_TUNING_RATES[name]}
        lr = max(tried, key=tried.__getitem__)
        accuracies = [fine_tuned(name, lr, seed, few) for seed in args.seeds]
        results["fine-tuning"][name] = {"tried": tried, "lr": lr, "test_accuracy": summary(accuracies)}
    write_log("table7", {"seeds": args.seeds, "train_images": len(few.train), "test_images": len(few.test),
                         "results": results})


if __name__ == "__main__":
    main()
