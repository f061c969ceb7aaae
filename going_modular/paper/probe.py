"""The linear probe of Figure 4: how well a linear layer alone classifies frozen features.

    x, labels = probe.features(model, loader)
    head = probe.fit(x, labels, num_classes=3)  # in closed form: no steps, no learning rate
    probe.accuracy(head, *probe.features(model, test_loader))
"""
from collections.abc import Iterable

import torch
from torch import nn

DECAY = 10.0  # the factor of the squared weights in the loss, for standardised features


@torch.no_grad()
def features(model: nn.Module, loader: Iterable) -> tuple[torch.Tensor, torch.Tensor]:
    """The inputs of a model's last linear layer: (features [images, D], labels [images]) of all
    batches, on the CPU.

    For a ViT with a linear head these are y of Equation 4. The model is set to evaluation mode.
    """
    # A hook before the last layer works for any model, whatever its layers are called.
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    seen, labels, device = [], [], last.weight.device
    hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].float().cpu()))
    try:
        for images, batch_labels in loader:
            model.eval()(images.to(device))
            labels.append(batch_labels.cpu())
    finally:
        hook.remove()
    return torch.cat(seen), torch.cat(labels)


def fit(x: torch.Tensor, labels: torch.Tensor, num_classes: int, decay: float = DECAY) -> nn.Linear:
    """Regularised least squares onto targets in {-1, 1}^K (Section 4.1): features [images, D] and
    labels [images] -> a linear layer from D to K, whose largest output is the class.

    For standardised features X, W = (X^T X + decay I)^-1 X^T Y, and the bias is not regularised.
    The standardisation is made part of the layer, so that it takes features as they are.
    Raises ValueError where decay is not above 0: with fewer images than features the solution would
    not be unique.
    """
    if not decay > 0:
        raise ValueError(f"decay must be above 0, not {decay}")
    targets = 2.0 * nn.functional.one_hot(labels, num_classes) - 1  # [images, K]
    # A small number keeps features that never vary from a division by zero.
    mean, std = x.mean(dim=0), x.std(dim=0, correction=0) + 1e-5
    # With columns of mean 0 the best bias is the mean target. float64, as the sums of squares in
    # the Gram matrix may differ by many orders of magnitude.
    standard = ((x - mean) / std).double()
    gram = standard.T @ standard + decay * torch.eye(x.shape[1], dtype=torch.double)
    weight = torch.linalg.solve(gram, standard.T @ targets.double()).float().T / std  # [K, D]
    # W (x - mean) / std + b is a linear layer again, with the weight W / std.
    head = nn.Linear(x.shape[1], num_classes)
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(targets.mean(dim=0) - weight @ mean)
    return head


@torch.no_grad()
def accuracy(head: nn.Linear, x: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of features [images, D] for which the largest output is that of their label."""
    return (head(x).argmax(dim=1) == labels).float().mean().item()


def few_shot(
    train: tuple[torch.Tensor, torch.Tensor], test: tuple[torch.Tensor, torch.Tensor], shots: int,
    draws: int = 20, decay: float = DECAY,
) -> list[float]:
    """The test accuracies of `draws` probes, each fitted on another random choice of `shots` images
    of each class (Figure 4 has 5 shots).

    train, test: features [images, D] and labels [images], from 0 to K - 1.
    Raises ValueError where a class has fewer than `shots` training images.
    """
    (x, labels), num_classes = train, int(train[1].max()) + 1
    if labels.bincount().min() < shots:
        raise ValueError(f"a class has {labels.bincount().min()} training images, fewer than "
                         f"{shots} shots")
    accuracies = []
    for draw in range(draws):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(draw))
        chosen = torch.cat([order[labels[order] == label][:shots] for label in range(num_classes)])
        accuracies.append(accuracy(fit(x[chosen], labels[chosen], num_classes, decay), *test))
    return accuracies
