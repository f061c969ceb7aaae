"""The small training loop that notebook 08 builds: any model and any DataLoader of your own go through it.

Metrics count samples, not batches: a last batch that is smaller than the others weighs less, as it should.
"""
from collections.abc import Callable, Iterable

import torch
from torch import nn


def train_step(
    model: nn.Module, dataloader: Iterable, loss_fn: Callable, optimizer: torch.optim.Optimizer,
    device: torch.device | str,
) -> tuple[float, float]:
    """Train for one epoch. Returns the mean loss and the accuracy over all samples, as they were met on the way.

    The dataloader gives images [batch, C, H, W] and class numbers [batch]. loss_fn must average over the batch.
    """
    model.train()
    total_loss, correct, count = torch.zeros((), device=device), torch.zeros((), device=device), 0
    for images, labels in dataloader:
        images, labels = images.to(device), labels.to(device)
        logits = model(images)  # [batch, num_classes]
        loss = loss_fn(logits, labels)

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        total_loss += loss.detach() * len(images)
        correct += (logits.argmax(dim=1) == labels).sum()
        count += len(images)
    return total_loss.item() / count, correct.item() / count


@torch.inference_mode()
def test_step(
    model: nn.Module, dataloader: Iterable, loss_fn: Callable, device: torch.device | str
) -> tuple[float, float]:
    """Evaluate without training. Returns the mean loss and the accuracy over all samples."""
    model.eval()
    total_loss, correct, count = torch.zeros((), device=device), torch.zeros((), device=device), 0
    for images, labels in dataloader:
        images, labels = images.to(device), labels.to(device)
        logits = model(images)
        total_loss += loss_fn(logits, labels) * len(images)
        correct += (logits.argmax(dim=1) == labels).sum()
        count += len(images)
    return total_loss.item() / count, correct.item() / count


def train(
    model: nn.Module, train_dataloader: Iterable, test_dataloader: Iterable, optimizer: torch.optim.Optimizer,
    loss_fn: Callable, epochs: int, device: torch.device | str,
) -> dict[str, list[float]]:
    """Train and test for a number of epochs, printing a line for each.

    Returns {"train_loss": [...], "train_acc": [...], "test_loss": [...], "test_acc": [...]}, one value an epoch.
    """
    model.to(device)
    results: dict[str, list[float]] = {"train_loss": [], "train_acc": [], "test_loss": [], "test_acc": []}
    for epoch in range(epochs):
        train_loss, train_acc = train_step(model, train_dataloader, loss_fn, optimizer, device)
        test_loss, test_acc = test_step(model, test_dataloader, loss_fn, device)
        print(
            f"epoch {epoch + 1}/{epochs} | train loss {train_loss:.4f}, accuracy {train_acc:.4f}"
            f" | test loss {test_loss:.4f}, accuracy {test_acc:.4f}"
        )
        for name, value in zip(results, (train_loss, train_acc, test_loss, test_acc)):
            results[name].append(value)
    return results
