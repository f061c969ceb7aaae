"""The recipe's optimizers: which parameters each of them trains, and that two together are stored as one."""
import copy

import pytest
import torch
from torch import nn

from going_modular.recipe import Recipe
from going_modular.vit import ViT

pytestmark = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch before 2.9 has no Muon")
SIZES = dict(image_size=16, patch_size=8, num_classes=3, num_layers=2, hidden_size=24, mlp_size=48, num_heads=2)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return ViT(**SIZES)


def give_gradients(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def test_muon_trains_the_matrices_of_the_blocks_and_adamw_all_else(model):
    recipe = Recipe(epochs=1, muon=0.02, weight_decay=0.1)
    alone = copy.deepcopy(model)
    matrices = {name for name, parameter in model.named_parameters()
                if name.startswith("blocks") and parameter.ndim == 2}
    assert len(matrices) == 4 * SIZES["num_layers"]
    muon = torch.optim.Muon([parameter for name, parameter in alone.named_parameters() if name in matrices],
                            lr=0.02, weight_decay=0.1)
    adamw = Recipe(epochs=1, weight_decay=0.1).optimizer(alone)
    optimizer = recipe.optimizer(model)
    for seed in range(3):
        for each in (model, alone):
            give_gradients(each, seed)
        optimizer.step()
        muon.step()
        for name, parameter in alone.named_parameters():
            parameter.grad = None if name in matrices else parameter.grad
        adamw.step()
    for (name, ours), theirs in zip(model.named_parameters(), alone.parameters(), strict=True):
        assert torch.equal(ours, theirs), name


def test_the_schedule_moves_both_rates_by_the_same_factor(model):
    recipe = Recipe(epochs=1, lr=1e-3, muon=0.02, warmup=0.5)
    optimizer = recipe.optimizer(model)
    schedule = recipe.schedule(optimizer, 4)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([5e-4, 5e-4, 0.01])
    give_gradients(model)
    optimizer.step()
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([1e-3, 1e-3, 0.02])


@torch.no_grad()  # as torch's own optimizers, it turns gradients on for the closure
def test_a_closure_gives_the_gradients_of_the_step_and_its_loss(model):
    before = [parameter.clone() for parameter in model.parameters()]
    optimizer, losses = Recipe(epochs=1, muon=0.02).optimizer(model), []

    def closure():
        optimizer.zero_grad()
        losses.append(model(torch.ones(2, 3, 16, 16)).logsumexp(dim=1).sum())
        losses[-1].backward()
        return losses[-1]

    assert optimizer.step() is None and not losses  # there are no gradients yet, so nothing moves
    assert all(torch.equal(now, then) for now, then in zip(model.parameters(), before, strict=True))
    assert optimizer.step(closure) is losses[0] and len(losses) == 1
    for name in ("head.bias", "blocks.1.mlp.out.weight"):  # one of each optimizer
        moved = dict(zip(dict(model.named_parameters()), before))[name]
        assert not torch.equal(model.get_parameter(name), moved), name


def test_muon_needs_a_vit_and_a_pytorch_that_has_it(monkeypatch):
    recipe = Recipe(epochs=1, muon=0.02)
    with pytest.raises(ValueError, match="muon trains the blocks of a ViT, and this is Linear"):
        recipe.optimizer(nn.Linear(2, 2))
    monkeypatch.delattr("torch.optim.Muon")
    with pytest.raises(ValueError, match="muon needs PyTorch 2.9 or newer"):
        recipe.optimizer(ViT(**SIZES))
