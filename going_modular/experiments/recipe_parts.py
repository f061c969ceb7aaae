"""The recipe of notebook 09 with one part of it switched off at a time, and what that was measured to cost.

    trainer = build("warm-up", data, architecture, recipe, device, output)  # "nothing" leaves the recipe whole
    trainer.fit()

benchmarks/recipe_parts.py does so for all parts over several seeds, and writes measured/recipe_parts.json.
"""
import json
import math
from dataclasses import replace
from pathlib import Path

import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset, Subset

from going_modular import data_setup
from going_modular.data_setup import ImageData
from going_modular.experiments import MEASURED
from going_modular.trainer import Recipe, Trainer
from going_modular.vit import ViT

# part of the recipe: the fields of Recipe that switch it off; `build` does what has no field
SWITCHES = {
    "nothing": {},
    "warm-up": dict(warmup=0.0),
    "cosine": {},  # the learning rate stays up after the warm-up
    "clipping": dict(clip_norm=math.inf),
    "weight decay": dict(weight_decay=0.0),
    "decoupling": {},  # Adam with L2 in place of AdamW
    "augmentation": {},
    "mixup": dict(mixup=0.0),
    "label smoothing": dict(label_smoothing=0.0),
    "stochastic depth": {},
}


def first_classes(data: ImageData, count: int) -> ImageData:
    """The images of the first so many classes."""

    def part(images: Dataset) -> Subset:
        return Subset(images, [index for index, label in enumerate(data_setup.labels(images)) if label < count])

    return replace(data, train=part(data.train), test=part(data.test), class_names=data.class_names[:count])


def use_l2(optimizer: torch.optim.Optimizer) -> None:
    """Turn AdamW into Adam with L2: what decays the weights is no longer taken from them, but added to the
    gradients."""
    decays = [group["weight_decay"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0

    def before_step(*_) -> None:
        for group, decay in zip(optimizer.param_groups, decays):
            for parameter in group["params"]:
                parameter.grad.add_(parameter.detach(), alpha=decay)

    optimizer.register_step_pre_hook(before_step)


def build(
    part: str, data: ImageData, architecture: dict, recipe: Recipe, device: torch.device, output: str | Path,
    batch_size: int = 64, min_scale: float = 0.6, num_workers: int = 0,
) -> Trainer:
    """A trainer for the recipe without one part of it, a key of SWITCHES; a tenth of the training images is held out.

    architecture: settings of ViT but the number of classes. Raises KeyError for an unknown part.
    """
    recipe = replace(recipe, **SWITCHES[part])
    if part == "stochastic depth":
        architecture = {**architecture, "drop_path": 0.0}
    torch.manual_seed(recipe.seed)
    model = ViT(num_classes=len(data.class_names), **architecture)

    size = model.settings["image_size"]
    plain = data_setup.eval_transform(size)
    view = plain if part == "augmentation" else data_setup.train_transform(size, min_scale, flip=data.flip)
    kept, held_out = data_setup.split(data.train, 0.1, seed=recipe.seed)
    options = {"batch_size": batch_size, "num_workers": num_workers, "device": device}
    loaders = [data_setup.make_loader(kept, view, shuffle=True, seed=recipe.seed, **options),
               *(data_setup.make_loader(images, plain, **options) for images in (held_out, data.test))]
    description = {"class_names": data.class_names, "architecture": model.settings, "settings": {"without": part}}
    trainer = Trainer(model, *loaders, recipe, device, output, description)

    if part == "cosine":
        rising = max(1, round(recipe.warmup * recipe.epochs * len(loaders[0])))
        trainer.scheduler = LambdaLR(trainer.optimizer, lambda step: min(1.0, (step + 1) / rising))
    if part == "decoupling":
        use_l2(trainer.optimizer)
    return trainer


def prices() -> dict:
    """What benchmarks/recipe_parts.py measured: data set -> its settings, and the accuracies by part and seed."""
    return json.loads((MEASURED / "recipe_parts.json").read_text())
