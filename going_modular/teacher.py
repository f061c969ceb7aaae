"""A small CNN as teacher of a ViT that has few images to learn from.

    add_teacher(trainer)
    trainer.fit()

A convolution knows from the start that neighbouring pixels belong together, which a ViT has to learn
(Section 3.1). The CNN is trained first, and half of each label of the ViT is then what the CNN
answers: soft distillation (Hinton et al., 2015) as in DeiT (Touvron et al., 2021, Section 4), but
without a distillation token, so that the ViT stays as it is.
"""
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from going_modular import distributed, utils
from going_modular.experiments.cnn import cnn, matching_width
from going_modular.trainer import Trainer
from going_modular.vit import count_parameters


class TaughtBatches:
    """A batch, mixed by `mixup` if it is given, with half of each label replaced by the answer of a
    teacher to the same image."""

    def __init__(self, teacher: nn.Module, num_classes: int, mixup: Callable | None = None):
        self.teacher, self.num_classes, self.mixup = teacher.eval(), num_classes, mixup

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Images [batch, 3, H, W] and class numbers [batch] -> images of the same shape, and the
        shares of the classes [batch, num_classes]."""
        if self.mixup:
            images, labels = self.mixup(images, labels)
        else:
            labels = F.one_hot(labels, self.num_classes).float()
        with torch.no_grad():
            return images, (labels + self.teacher(images).softmax(dim=-1)) / 2


def add_teacher(trainer: Trainer, file: Path | None = None) -> str:
    """Give a trainer a CNN as teacher, and return a line that says how good it is.

    The CNN has about a third of the parameters of the trainer's model and is trained on the same
    images by the same recipe, with AdamW for all its weights, for two thirds of the epochs. Where
    `file` exists it is read from there, else it is written there: a run that goes on has the same
    teacher as before.
    Raises ValueError for several processes, and for images of less than 16 pixels a side.
    """
    if distributed.size() > 1:
        raise ValueError("a teacher is trained by one process: leave out torchrun or --teacher")
    side = min(utils.sides(trainer.description["architecture"]["image_size"]))
    if side < 16:
        raise ValueError(f"the CNN halves an image four times, and a side of {side} pixels is too "
                         "short: leave out --teacher, or take larger images")
    class_names, recipe = trainer.description["class_names"], trainer.recipe
    classes = len(class_names)
    torch.manual_seed(recipe.seed)
    teacher = cnn(classes, matching_width(classes, count_parameters(trainer.model) // 3))
    name = f"teacher: a CNN of {count_parameters(teacher):,} parameters"
    if file and file.is_file():
        teacher.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        words = f"{name}, from {file}"
    else:
        its_recipe = replace(recipe, epochs=max(1, round(2 / 3 * recipe.epochs)), muon=0.0, ema=0.0)
        row = Trainer(teacher, trainer.loaders["train"], its_recipe, trainer.device,
                      class_names=class_names, val_loader=trainer.loaders.get("val"),
                      quiet=True).fit()[-1]
        seen = "held-out" if "val_acc" in row else "training"
        accuracy = row.get("val_acc", row["train_acc"])
        words = f"{name}, {accuracy:.3f} of the {seen} images right"
        if file:
            utils.write_atomically(file, lambda path: torch.save(teacher.state_dict(), path))
    trainer.mixup = TaughtBatches(teacher.to(trainer.device), classes, trainer.mixup)
    return words
