"""The recipe of notebook 09 with one part of it switched off at a time, and what that was measured to cost.

trainer = build("warm-up", data, settings, device, output)      # a Trainer without it; None leaves the recipe whole
trainer.fit()

The settings are those of the command `python -m going_modular.train`, by name. benchmarks/recipe_prices.py runs all of
them over several seeds and writes recipe_prices.json beside this file.
"""
import json
import math
from dataclasses import replace
from pathlib import Path

import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset, Subset

from going_modular import data_setup, train
from going_modular.data_setup import ImageData
from going_modular.trainer import Trainer

# part of the recipe: the settings that switch it off; where there are none, `build` does it
SWITCHES = {
    "warm-up": dict(warmup=0.0),
    "cosine": {},
    "clipping": dict(clip_norm=math.inf),
    "weight decay": dict(weight_decay=0.0),
    "decoupling": {},  # Adam with L2 in place of AdamW
    "augmentation": {},
    "mixup": dict(mixup=0.0),
    "label smoothing": dict(label_smoothing=0.0),
    "stochastic depth": dict(drop_path=0.0),
}


def first_classes(data: ImageData, count: int) -> ImageData:
    """The images of the first so many classes."""

    def part(images: Dataset) -> Subset:
        return Subset(images, [index for index, label in enumerate(data_setup.labels(images)) if label < count])

    return replace(data, train=part(data.train), test=part(data.test), class_names=data.class_names[:count])


def add_l2(optimizer: torch.optim.Optimizer) -> None:
    """Turn AdamW into Adam with L2: the decay is no longer taken from the weights, it goes into the gradients."""
    decays = [group["weight_decay"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0

    def before_step(*_) -> None:
        for group, decay in zip(optimizer.param_groups, decays):
            for parameter in group["params"]:
                parameter.grad.add_(parameter.detach(), alpha=decay)

    optimizer.register_step_pre_hook(before_step)


def build(part: str | None, data: ImageData, settings: dict, device: torch.device, output: str | Path) -> Trainer:
    """A trainer for the recipe in `settings` without one part of it, a key of SWITCHES. KeyError for another name."""
    settings = {**train.DEFAULTS, **settings, **(SWITCHES[part] if part else {})}
    settings = train.complete(settings, data, device)
    recipe = train.recipe_of(settings)
    torch.manual_seed(recipe.seed)
    model = train.build_model(settings, len(data.class_names))
    trainer = train.build_trainer(model, data, settings, recipe, device, Path(output))
    if part == "cosine":  # the warm-up stays, then the learning rate does
        rising = max(1, round(recipe.warmup * recipe.epochs * len(trainer.loaders["train"])))
        trainer.scheduler = LambdaLR(trainer.optimizer, lambda step: min(1, (step + 1) / rising))
    if part == "decoupling":
        add_l2(trainer.optimizer)
    if part == "augmentation":
        trainer.loaders["train"].dataset.transform = data_setup.eval_transform(settings["image_size"])
    return trainer


def prices() -> dict:
    """What benchmarks/recipe_prices.py measured: by data set, its settings and for each part the accuracies by seed."""
    return json.loads((Path(__file__).parent / "recipe_prices.json").read_text())
