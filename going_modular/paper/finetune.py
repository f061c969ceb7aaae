"""From a pre-trained ViT to a model for your own classes, as in Section 3.1 and Appendix B.1.1.

    model = finetune.new_head(pretrained, num_classes=3)
    finetune.fine_tune(model, train_loader, test_loader, epochs=10, lr=0.03, device=device)
"""
from collections.abc import Iterable

import torch
from torch import nn
from torch.utils.data import DataLoader

from going_modular import engine, weights
from going_modular.recipe import MixedPrecision, clip_and_schedule
from going_modular.vit import ViT


def new_head(
    model: ViT, num_classes: int, image_size: int | None = None, **regularisation: float,
) -> ViT:
    """A copy of a model for other classes: the same weights up to the last LayerNorm, and
    one linear layer of zeros.

    A pre-training head goes as a whole, with its tanh layer (Section 3.1). The copy
    lies on the model's device.
    image_size: in pixels; None keeps the model's; at another one the position embeddings are
        interpolated (Section 3.2).
    regularisation: dropout and drop_path of the copy, where they are to differ from the model's.
    Raises ValueError where the patch size does not divide the image size.
    """
    image_size = image_size or model.settings["image_size"]
    changed = {"num_classes": num_classes, "image_size": image_size, "representation_size": None,
               **regularisation}
    copy = ViT(**{**model.settings, **changed})  # its head starts at 0
    body = {name: value for name, value in model.state_dict().items()
            if not name.startswith(("pre_logits.", "head."))}
    if image_size != model.settings["image_size"]:
        grid = image_size // model.settings["patch_size"]
        body["position_embedding"] = weights.resize_positions(body["position_embedding"], grid)
    copy.load_state_dict(copy.state_dict() | body)
    return copy.to(model.head.weight.device)


@torch.no_grad()
def fold_normalisation(model: ViT, mean: Iterable[float], std: Iterable[float]) -> None:
    """Change a model for images (x - mean) / std, x in [0, 1], into one for images 2x - 1 in
    [-1, 1], as our data are.

    The patch embedding is linear, so what differs between the two goes into its weight and bias:
    same images, same logits. mean, std: one number a channel.
    """
    mean, std = torch.tensor(mean), torch.tensor(std)
    scale, shift = 0.5 / std, (0.5 - mean) / std  # (x - mean) / std = scale (2x - 1) + shift
    projection, pixels = model.patch_embedding.projection, model.settings["patch_size"] ** 2
    # channel first
    scale, shift = (part.repeat_interleave(pixels).to(projection.weight) for part in (scale, shift))
    projection.bias.add_(projection.weight @ shift)
    projection.weight.mul_(scale)


def fine_tune(
    model: nn.Module, train_loader: DataLoader, test_loader: DataLoader, epochs: int, lr: float,
    device: torch.device | str,
) -> dict[str, list[float]]:
    """Train as the paper fine-tunes (Appendix B.1.1): SGD with momentum 0.9, no weight decay, the
    learning rate falling from lr to 0 along half a cosine, gradients clipped at a norm of 1. What
    it returns is what engine.train returns."""
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(train_loader))
    clip_and_schedule(optimizer, schedule, clip_norm=1.0)
    trained = MixedPrecision(model, device)
    return engine.train(trained, train_loader, test_loader, optimizer, nn.CrossEntropyLoss(),
                        epochs, device)
