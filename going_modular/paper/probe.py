"""The linear probe of Figure 4: how much do frozen features tell, if a linear
layer is all that reads them?

    x, labels = probe.features(model, loader)
    head = probe.fit(x, labels, num_classes=3)  # in closed form: no steps, no learning rate
    probe.accuracy(head, *probe.features(model, test_loader))
"""
from collections.abc import Iterable

import torch
from torch import nn

DECAY = 10.0  # of the squared weights, for features that are standardised


@torch.no_grad()
def features(model: nn.Module, loader: Iterable) -> tuple[torch.Tensor, torch.Tensor]:
    """What a model's last linear layer reads: (features [images, D], labels [images]) of
    all batches, on the CPU.

    For a ViT these are y of Equation 4, below the head. The model is set to evaluation mode.
    """
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    seen, labels, device = [], [], last.weight.device
    hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].float().cpu()))
    try:
        for images, batch_labels in loader:
            model.eval()(images.to(device))
            labels.append(batch_labels)
    finally:
        hook.remove()
    return torch.cat(seen), torch.cat(labels)


def fit(x: torch.Tensor, labels: torch.Tensor, num_classes: int, decay: float = DECAY) -> nn.Linear:
    """Regularised least squares onto targets in {-1, 1}^K (Section 4.1): features
    [images, D] -> Linear D -> K.

    The features are standardised, W = (X^T X + decay I)^-1 X^T Y is solved for (the bias is not
    held back), and the standardisation goes into the layer, which so reads features as they are.
    The class is the largest of its K outputs.
    Raises ValueError where decay is not above 0: with fewer images than features there
    would be many solutions.
    """
    if not decay > 0:
        raise ValueError(f"decay must be above 0, not {decay}")
    targets = 2.0 * nn.functional.one_hot(labels, num_classes) - 1  # [images, K]
    mean, std = x.mean(dim=0), x.std(dim=0, correction=0) + 1e-5
    standard = ((x - mean) / std).double()  # columns of mean 0, so that the bias is the mean target
    gram = standard.T @ standard + decay * torch.eye(x.shape[1], dtype=torch.double)
    weight = torch.linalg.solve(gram, standard.T @ targets.double()).float().T / std  # [K, D]
    head = nn.Linear(x.shape[1], num_classes)
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(targets.mean(dim=0) - weight @ mean)
    return head


@torch.no_grad()
def accuracy(head: nn.Linear, x: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of features [images, D] whose largest output is that of their label."""
    return (head(x).argmax(dim=1) == labels).float().mean().item()


def few_shot(
    train: tuple[torch.Tensor, torch.Tensor], test: tuple[torch.Tensor, torch.Tensor], shots: int,
    draws: int = 20, decay: float = DECAY,
) -> list[float]:
    """Test accuracies of probes fitted on `shots` images of each class, drawn anew each
    time (Figure 4: 5 shots).

    train, test: features [images, D] and labels [images]; each class of 0 ... K-1 needs `shots`
    training images or more, else ValueError.
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
