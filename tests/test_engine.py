"""The small loop: any model, any DataLoader, and metrics that count samples."""
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from going_modular import engine


class Constant(nn.Module):
    """Answers every image with the same logits, which it may learn."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, images):
        return self.logits.expand(len(images), -1)


def loader(labels, batch_size):
    return DataLoader(TensorDataset(torch.zeros(len(labels), 1), torch.tensor(labels)), batch_size)


def test_metrics_count_samples_not_batches():
    data = loader([0, 0, 0, 0, 1], batch_size=4)  # batches of 4 and 1: averaging over batches would give 0.5
    model = Constant([1.0, 0.0])
    loss, accuracy = engine.test_step(model, data, nn.CrossEntropyLoss(), "cpu")
    assert accuracy == pytest.approx(0.8)
    expected = nn.functional.cross_entropy(model(torch.zeros(5, 1)), torch.tensor([0, 0, 0, 0, 1]))
    assert loss == pytest.approx(expected.item())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    assert engine.train_step(model, data, nn.CrossEntropyLoss(), optimizer, "cpu") == pytest.approx((loss, accuracy))


def test_train_returns_a_value_an_epoch_and_learns():
    x = torch.randn(60, 5)
    data = DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), batch_size=16)
    model = nn.Linear(5, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    results = engine.train(model, data, data, optimizer, nn.CrossEntropyLoss(), epochs=15, device="cpu")
    assert list(results) == ["train_loss", "train_acc", "test_loss", "test_acc"]
    assert all(len(values) == 15 for values in results.values())
    assert results["test_loss"][-1] < 0.3 < results["test_loss"][0] and results["test_acc"][-1] > 0.95


def test_modes_and_gradients():
    model = nn.Sequential(nn.Linear(5, 2), nn.Dropout(0.5))
    data = DataLoader(TensorDataset(torch.randn(6, 5), torch.zeros(6, dtype=torch.long)), batch_size=3)
    before = model[0].weight.clone()
    engine.test_step(model, data, nn.CrossEntropyLoss(), "cpu")
    assert not model.training and torch.equal(model[0].weight, before) and model[0].weight.grad is None
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    engine.train_step(model, data, nn.CrossEntropyLoss(), optimizer, "cpu")
    assert model.training and not torch.equal(model[0].weight, before)
