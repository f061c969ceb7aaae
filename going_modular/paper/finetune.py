"""From a pre-trained ViT to a model for your own classes, as in Section 3.1 and Appendix B.1.1.

    model = finetune.new_head(pretrained, num_classes=3)
    finetune.fine_tune(model, train_loader, test_loader, epochs=10, lr=0.03, device=device)
"""
from collections.abc import Iterable

import torch
from torch import nn

from going_modular import weights
from going_modular.recipe import Recipe
from going_modular.trainer import Loader, Trainer
from going_modular.vit import ViT


def new_head(
    model: ViT, num_classes: int, image_size: int | tuple[int, int] | None = None,
    **regularisation: float,
) -> ViT:
    """A copy of a model for other classes: the same weights up to the last LayerNorm, and a linear
    head of zeros (Section 3.2).

    A pre-training head is removed as a whole, with its tanh layer (Section 3.1). The copy is on the
    model's device.

    image_size: in pixels, (H, W), or one number for a square; None keeps the model's. For another
        size the position embeddings are interpolated (Section 3.2), and model.preprocessing changes
        with it.
    regularisation: dropout and drop_path of the copy, where they differ from the model's.
    Raises ValueError for an image size that is not positive or that the patch size does not divide.
    """
    size = model.settings["image_size"] if image_size is None else image_size
    changed = {"num_classes": num_classes, "representation_size": None, "image_size": size,
               **regularisation}
    copy = ViT(**{**model.settings, **changed})  # its head starts at 0
    body = {name: value for name, value in model.state_dict().items()
            if not name.startswith(("pre_logits.", "head."))}
    # The patch size stays, so another image has other rows and columns of patches.
    if copy.grid != model.grid:
        body["position_embedding"] = weights.resize_positions(
            body["position_embedding"], copy.grid, old_grid=model.grid)
    copy.load_state_dict(copy.state_dict() | body)
    if model.preprocessing is not None:
        copy.preprocessing = model.preprocessing.sized(copy.settings["image_size"])
    return copy.to(model.head.weight.device)


def for_rgb(model: ViT) -> ViT:
    """A copy of a one-channel model for RGB images, of which it computes what the model computes of
    their grey versions, brightness 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601, as Pillow's)."""
    copy = ViT(**{**model.settings, "in_channels": 3})
    weights_of_grey = dict(model.state_dict())
    weight = weights_of_grey["patch_embedding.projection.weight"]  # [hidden_size, P * P]
    brightness = torch.tensor([0.299, 0.587, 0.114]).to(weight)
    weights_of_grey["patch_embedding.projection.weight"] = (
        weight[:, None] * brightness[:, None]).flatten(1)  # [hidden_size, 3 * P * P]
    copy.load_state_dict(weights_of_grey)
    if model.preprocessing is not None:
        copy.preprocessing = model.preprocessing.sized(model.settings["image_size"], channels=3)
    return copy.to(weight.device)


@torch.no_grad()
def fold_normalisation(model: ViT, mean: Iterable[float], std: Iterable[float]) -> None:
    """Change a model for images normalised to (x - mean) / std, with x in [0, 1], into one for
    images 2x - 1 in [-1, 1], the range of our data.

    The patch embedding is linear, so the difference goes into its weight and bias, and the logits
    of an image stay the same; model.preprocessing changes with it.
    mean, std: one number for each channel.
    Raises ValueError for another number of them.
    """
    mean, std, channels = torch.tensor(mean), torch.tensor(std), model.settings["in_channels"]
    if not len(mean) == len(std) == channels:
        raise ValueError(f"{len(mean)} means and {len(std)} standard deviations are given for "
                         f"{channels} channels")
    scale, shift = 0.5 / std, (0.5 - mean) / std  # (x - mean) / std = scale (2x - 1) + shift
    projection, pixels = model.patch_embedding.projection, model.settings["patch_size"] ** 2
    # A flattened patch has all pixels of the first channel, then those of the second, and so on.
    scale, shift = (part.repeat_interleave(pixels).to(projection.weight) for part in (scale, shift))
    projection.bias.add_(projection.weight @ shift)
    projection.weight.mul_(scale)
    if model.preprocessing is not None:
        model.preprocessing = model.preprocessing.renormalised(0.5, 0.5)


class FineTuning(Recipe):
    """A Recipe with the optimizer of Appendix B.1.1: SGD with momentum 0.9, without weight decay."""

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), self.lr, momentum=0.9)


def fine_tune(
    model: nn.Module, train_loader: Loader, test_loader: Loader, epochs: int, lr: float,
    device: torch.device | str,
) -> dict[str, list[float]]:
    """Fine-tune as the paper does (Appendix B.1.1): SGD, a learning rate that falls from lr to 0
    along half a cosine, gradients clipped to a norm of 1. It prints a line for each epoch.

    Returns {"train_loss": [...], "train_acc": ..., "test_loss": ..., "test_acc": ...}, a value for
    each epoch, as engine.train does.
    """
    # The seed of the trainer's random numbers comes from PyTorch's, which the caller may have set.
    seed = int(torch.randint(2**31, ()))
    recipe = FineTuning(epochs=epochs, lr=lr, warmup=0.0, label_smoothing=0.0, seed=seed)
    trainer = Trainer(model, train_loader, recipe, torch.device(device), test_loader=test_loader)
    history = trainer.fit()
    return {name: [row[name] for row in history]
            for name in ("train_loss", "train_acc", "test_loss", "test_acc")}
