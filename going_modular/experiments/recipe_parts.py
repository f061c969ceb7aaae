"""The recipe of notebook 09 with one part switched off at a time, and the accuracy that this costs.

    trainer = build("warm-up", data, architecture, recipe, device)  # "nothing": the whole recipe
    trainer.fit()

benchmarks/recipe_parts.py does this for all parts with several seeds, and writes
measured/recipe_parts.json.
"""
import json
import math
from dataclasses import asdict, replace

import torch
from torch import nn
from torch.utils.data import Subset

from going_modular import data_setup
from going_modular.data_setup import ImageData
from going_modular.datasets.images import ImageSet
from going_modular.experiments import MEASURED
from going_modular.recipe import Recipe, parameter_groups
from going_modular.trainer import Trainer
from going_modular.vit import ViT


class WithoutCosine(Recipe):
    """The learning rate stays at its highest after the warm-up."""

    def lr_factor(self, step: int, total_steps: int) -> float:
        return min(1.0, (step + 1) / max(1, round(self.warmup * total_steps)))


class WithoutDecoupling(Recipe):
    """Adam with L2 regularisation in place of AdamW.

    The decay is added to the gradients, where Adam divides it by their size like all else, instead
    of being subtracted from the weights (Loshchilov and Hutter, 2019).
    """

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameter_groups(model, self.weight_decay), lr=self.lr,
                                betas=(0.9, self.beta2))


# Part of the recipe -> what switches it off: values for fields of Recipe, or a subclass. The parts
# with an empty dict are not in Recipe: `build` switches them off in the model or in the data.
WITHOUT: dict[str, dict | type[Recipe]] = {
    "nothing": {},
    "warm-up": dict(warmup=0.0),
    "cosine": WithoutCosine,
    "clipping": dict(clip_norm=math.inf),
    "weight decay": dict(weight_decay=0.0),
    "decoupling": WithoutDecoupling,
    "augmentation": {},
    "mixup": dict(mixup=0.0),
    "label smoothing": dict(label_smoothing=0.0),
    "stochastic depth": {},
}


def first_classes(data: ImageData, count: int) -> ImageData:
    """The data set with its first `count` classes alone."""

    def part(images: ImageSet) -> Subset:
        return Subset(images, [
            index for index, label in enumerate(data_setup.labels(images)) if label < count])

    return replace(data, train=part(data.train), test=part(data.test),
                   class_names=data.class_names[:count])


def build(
    part: str, data: ImageData, architecture: dict, recipe: Recipe, device: torch.device,
    batch_size: int = 64, min_scale: float = 0.6, num_workers: int = 0, quiet: bool = False,
) -> Trainer:
    """A trainer for the recipe without one part of it, a key of WITHOUT. A tenth of the training
    images is held out.

    architecture: the settings of ViT, except for the number of classes. quiet: as for Trainer.
    Raises KeyError for an unknown part.
    """
    switch = WITHOUT[part]
    recipe = replace(recipe, **switch) if isinstance(switch, dict) else switch(**asdict(recipe))
    if part == "stochastic depth":
        architecture = {**architecture, "drop_path": 0.0}
    torch.manual_seed(recipe.seed)
    model = ViT(num_classes=len(data.class_names), **architecture)

    # Without augmentation, training images are seen as test images are.
    size = model.settings["image_size"]
    plain = data_setup.eval_transform(size)
    view = (plain if part == "augmentation"
            else data_setup.train_transform(size, min_scale, flip=data.flip))
    kept, held_out = data_setup.split(data.train, 0.1, seed=recipe.seed)
    train_loader = data_setup.make_loader(
        kept, view, batch_size, shuffle=True, seed=recipe.seed, num_workers=num_workers,
        device=device)
    val_loader, test_loader = (
        data_setup.make_loader(images, plain, batch_size, num_workers=num_workers, device=device)
        for images in (held_out, data.test))
    return Trainer(model, train_loader, recipe, device, class_names=data.class_names,
                   val_loader=val_loader, test_loader=test_loader, quiet=quiet)


def prices() -> dict:
    """The log of benchmarks/recipe_parts.py: for each data set its settings, and the accuracies by
    part and seed."""
    return json.loads((MEASURED / "recipe_parts.json").read_text())
