"""finetune: a new head on old weights, another normalisation, and the paper's way of fine-tuning."""
import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from going_modular import data_setup
from going_modular.paper import finetune
from going_modular.vit import ViT

SIZES = {"image_size": 16, "patch_size": 8, "num_layers": 2, "hidden_size": 24, "mlp_size": 48, "num_heads": 2}


def randomized(model):
    """All parameters away from their first values, zeros and ones among them."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize(
    "head", [{"num_classes": 7}, {"num_classes": 3}, {"num_classes": 7, "representation_size": 10}])
@pytest.mark.parametrize("pool", ["token", "mean"])
def test_new_head_keeps_all_below_it(head, pool):
    old = randomized(ViT(**SIZES, **head, pool=pool, gelu="tanh"))
    before = {name: value.clone() for name, value in old.state_dict().items()}
    new = finetune.new_head(old, num_classes=3)
    assert new.settings == {**old.settings, "num_classes": 3, "representation_size": None}
    images, ours, theirs = torch.randn(2, 3, 16, 16), {}, {}
    assert torch.equal(new.eval()(images, intermediates=ours), torch.zeros(2, 3))
    old.eval()(images, intermediates=theirs)
    assert torch.equal(ours["encoder"], theirs["encoder"])
    with torch.no_grad():  # nothing is shared
        for parameter in new.parameters():
            parameter.fill_(1)
    assert all(torch.equal(value, before[name]) for name, value in old.state_dict().items())


def test_a_new_head_for_a_rectangle_interpolates_in_both_directions():
    """Positions that are a plane over rows and columns are the same plane on another grid."""
    old = ViT(**{**SIZES, "image_size": (16, 32), "num_classes": 7})  # 2 x 4 patches
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 2), torch.linspace(0, 1, 4), indexing="ij")
    old.position_embedding.data[0, 1:, 0] = (rows + 10 * columns).flatten()
    new = finetune.new_head(old, num_classes=3, image_size=(24, 16))  # 3 x 2
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 3), torch.linspace(0, 1, 2), indexing="ij")
    assert new.settings["image_size"] == (24, 16) and new(torch.randn(2, 3, 24, 16)).shape == (2, 3)
    torch.testing.assert_close(new.position_embedding[0, 1:, 0], (rows + 10 * columns).flatten())
    assert torch.equal(new.position_embedding[0, 0], old.position_embedding[0, 0])  # the class token's
    assert finetune.new_head(old, num_classes=3).settings["image_size"] == (16, 32)
    with pytest.raises(ValueError, match="image_size"):
        finetune.new_head(old, num_classes=3, image_size=0)
    with pytest.raises(ValueError, match=r"patch_size \(8\) does not divide image_size \(\(24, 20\)\)"):
        finetune.new_head(old, num_classes=3, image_size=(24, 20))


def test_fold_normalisation_changes_no_logit():
    model, pixels = randomized(ViT(**SIZES, num_classes=3)).eval(), torch.rand(4, 3, 16, 16)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.2)
    expected = model((pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1))
    finetune.fold_normalisation(model, mean, std)
    torch.testing.assert_close(model(2 * pixels - 1), expected, rtol=1e-5, atol=1e-5)


def test_folding_our_own_normalisation_changes_nothing():
    model = randomized(ViT(**SIZES, num_classes=3))
    before = model.patch_embedding.projection.weight.clone()
    finetune.fold_normalisation(model, [0.5] * 3, [0.5] * 3)
    assert torch.equal(model.patch_embedding.projection.weight, before)


class Watched(nn.Module):
    """One weight w whose loss, ln(1 + exp(-w)) for label 1, has a gradient of -1/2 at first, times `scale`."""

    def __init__(self, scale):
        super().__init__()
        self.weight, self.scale = nn.Parameter(torch.zeros(())), scale

    def forward(self, images):
        return torch.stack([torch.zeros(len(images)), self.scale * self.weight.expand(len(images))], dim=1)


def by_hand(scale, lr, steps):
    """SGD with momentum 0.9 on the one weight, its learning rate half a cosine, its gradient clipped at 1."""
    weight = velocity = 0.0
    for step in range(steps):
        gradient = -scale / (1 + math.exp(scale * weight))
        gradient /= max(abs(gradient), 1)
        velocity = 0.9 * velocity + gradient
        weight -= lr * 0.5 * (1 + math.cos(math.pi * step / steps)) * velocity
    return weight


@pytest.mark.parametrize("scale", [1.0, 30.0])  # below and above the norm at which gradients are clipped
def test_each_step_is_that_of_the_paper(scale, capsys):
    images = TensorDataset(torch.zeros(10, 3, 4, 4), torch.ones(10, dtype=torch.long))
    model, batches = Watched(scale), DataLoader(images, batch_size=2)
    results = finetune.fine_tune(model, batches, batches, epochs=2, lr=0.1, device="cpu")
    assert model.weight.item() == pytest.approx(by_hand(scale, 0.1, steps=10), rel=1e-3)
    assert [len(values) for values in results.values()] == [2] * 4
    assert capsys.readouterr().out.count("epoch") == 2


def test_it_learns(colours):
    data, transform = data_setup.load(colours), data_setup.eval_transform(16)
    training = data_setup.make_loader(data.train, transform, 12, shuffle=True, seed=0)
    testing = data_setup.make_loader(data.test, transform, 12)
    model = finetune.new_head(ViT(**SIZES, num_classes=7), num_classes=3)
    results = finetune.fine_tune(model, training, testing, epochs=8, lr=0.1, device="cpu")
    assert results["test_acc"][-1] == 1


def test_its_random_numbers_are_the_callers():
    images = TensorDataset(torch.randn(12, 3, 16, 16), torch.arange(12) % 3)
    start, ends = ViT(**SIZES, num_classes=3, dropout=0.5), []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        model, loader = finetune.new_head(start, 3), DataLoader(images, 4, shuffle=True)
        ends.append(finetune.fine_tune(model, loader, loader, epochs=1, lr=0.1, device="cpu")["train_loss"])
    assert ends[0] == ends[1] != ends[2]
