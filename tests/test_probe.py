"""The linear probe: it is the minimum, it is what PyTorch's solver finds, and features are what the head reads."""
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from going_modular.experiments.cnn import cnn
from going_modular.paper import probe
from going_modular.vit import ViT

SIZES = dict(image_size=16, patch_size=4, num_classes=3, num_layers=2, hidden_size=24, mlp_size=48, num_heads=2)


@pytest.mark.parametrize("images", [5, 40])  # fewer images than features, and more
def test_it_is_least_squares_on_standardised_features(images):
    x, labels = 3 + torch.randn(images, 12) * torch.logspace(-2, 2, 12), torch.arange(images) % 3
    head = probe.fit(x, labels, 4, decay=2.5)  # the fourth class has no image
    standard = ((x - x.mean(0)) / (x.std(0, correction=0) + 1e-5)).double()
    targets = 2.0 * F.one_hot(labels, 4).double() - 1
    # the penalty as rows of its own: |X W - Y|^2 + 2.5 |W|^2, the bias in a column of ones that is not penalised
    rows = torch.cat([torch.cat([standard, torch.ones(images, 1)], 1),
                      2.5**0.5 * torch.eye(12, 13, dtype=torch.double)])
    solution = torch.linalg.lstsq(rows, torch.cat([targets, torch.zeros(12, 4)])).solution
    expected = standard @ solution[:12] + solution[12]
    torch.testing.assert_close(head(x).double(), expected, rtol=1e-3, atol=1e-4)


def test_the_default_penalty_is_ten():
    x, labels = torch.randn(30, 6), torch.arange(30) % 3
    torch.manual_seed(0)
    assert torch.equal(probe.fit(x, labels, 3).weight, probe.fit(x, labels, 3, decay=10).weight)
    assert probe.few_shot((x, labels), (x, labels), 4, draws=3) == probe.few_shot(
        (x, labels), (x, labels), 4, draws=3, decay=10)


def test_scale_and_shift_of_a_feature_do_not_matter():
    x, labels = torch.randn(30, 6), torch.arange(30) % 3
    scale, shift = torch.tensor([1, 10, 0.1, 5, 2, 1]), torch.tensor([0, 3, -1, 2, 0, 9])
    torch.testing.assert_close(
        probe.fit(x * scale + shift, labels, 3)(x * scale + shift), probe.fit(x, labels, 3)(x), rtol=1e-3, atol=1e-3)


def test_a_feature_that_never_varies_is_ignored():
    x, labels = torch.randn(30, 6), torch.arange(30) % 3
    x[:, 2] = 1.5
    head, other = probe.fit(x, labels, 3), x.clone()
    other[:, 2] = -4
    torch.testing.assert_close(head(other), head(x))


@pytest.mark.parametrize("model", [ViT(**SIZES), ViT(**SIZES, pool="mean", representation_size=10),
                                   cnn(3, 4)], ids=["token", "tanh layer", "cnn"])
def test_features_are_what_the_head_reads(model):
    last = model.head if isinstance(model, ViT) else model[-1]
    nn.init.normal_(last.weight)
    batches = [(torch.randn(count, 3, 16, 16), torch.full((count,), count)) for count in (4, 3)]
    x, labels = probe.features(model.train(), batches)
    assert labels.tolist() == [4] * 4 + [3] * 3 and not last._forward_pre_hooks and not x.requires_grad
    torch.testing.assert_close(last(x), torch.cat([model.eval()(images) for images, _ in batches]))


def test_few_shot_uses_so_many_images_of_each_class():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    x = torch.randn(90, 8, generator=generator) + 1.5 * F.one_hot(labels, 8)
    accuracies = {shots: probe.few_shot((x[:60], labels[:60]), (x[60:], labels[60:]), shots) for shots in (1, 20)}
    assert len(accuracies[1]) == 20 and len(set(accuracies[20])) == 1  # 20 are all there are, in whatever order
    assert sum(accuracies[1]) < sum(accuracies[20])
    with pytest.raises(ValueError, match="20 training images, fewer than 21"):
        probe.few_shot((x[:60], labels[:60]), (x[60:], labels[60:]), 21)


def test_a_decay_of_nothing():
    with pytest.raises(ValueError, match="decay"):
        probe.fit(torch.randn(3, 5), torch.tensor([0, 1, 2]), 3, decay=0)
