"""The recipe with one part switched off: each switch changes what it should and nothing else."""
import math

import pytest
import torch

from going_modular import data_setup
from going_modular.experiments import recipe_parts
from going_modular.recipe import Recipe

ARCHITECTURE = dict(image_size=16, patch_size=8, num_layers=2, hidden_size=24, mlp_size=48, num_heads=2, drop_path=0.2)


@pytest.fixture
def build(colours):
    def build(part, **changes):
        data = data_setup.load(colours)
        recipe = Recipe(**{"epochs": 5, "warmup": 0.2, "mixup": 0.2, **changes})
        return recipe_parts.build(part, data, ARCHITECTURE, recipe, torch.device("cpu"), batch_size=8)

    return build


def rates(trainer, steps):
    seen = []
    for _ in range(steps):
        seen.append(trainer.optimizer.param_groups[0]["lr"])
        trainer.optimizer.step()
        trainer.schedule.step()
    return seen


@pytest.mark.parametrize("part", recipe_parts.WITHOUT)
def test_trains_without_any_part(build, part):
    trainer = build(part, epochs=1)
    (row,) = trainer.fit()
    assert math.isfinite(row["train_loss"])


def test_the_recipe_loses_one_field():
    assert set(recipe_parts.WITHOUT["mixup"]) == {"mixup"} and recipe_parts.WITHOUT["nothing"] == {}
    whole = Recipe(epochs=1)
    for changes in (switch for switch in recipe_parts.WITHOUT.values() if isinstance(switch, dict)):
        assert len(changes) <= 1 and all(getattr(whole, name) != value or name == "mixup"
                                         for name, value in changes.items())


def test_schedule(build):
    steps = 5 * len(build("nothing").loaders["train"])
    for part, first, last in (("nothing", 1, 0), ("cosine", 1, 2e-3), ("warm-up", 2e-3, 0)):
        trainer = build(part)
        for parameter in trainer.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        seen = rates(trainer, steps)
        rising = round(0.2 * steps)
        assert max(seen) == pytest.approx(2e-3)
        assert seen[0] == pytest.approx(2e-3 / rising if first == 1 else first)
        assert seen[-1] == pytest.approx(last, abs=1e-4)


def test_stochastic_depth_and_augmentation(build):
    assert build("nothing").model.blocks[-1].drop_path.rate == 0.2
    assert build("stochastic depth").model.blocks[-1].drop_path.rate == 0
    for part, same in (("augmentation", True), ("nothing", False)):
        images = build(part).loaders["train"].dataset
        assert torch.equal(images[0, 1][0], images[1, 1][0]) == same  # the same image in two passes


def test_l2_decays_by_the_gradient(build):
    """A weight without any gradient but that of its decay: AdamW shrinks it by lr * decay, Adam moves it by lr."""
    for part, left in (("nothing", 1 - 2e-3 * 0.05), ("decoupling", 1 - 2e-3)):
        trainer = build(part, warmup=0.0)
        for parameter in trainer.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        weight = trainer.model.blocks[0].mlp.out.weight
        weight.data.fill_(1.0)
        trainer.optimizer.step()
        torch.testing.assert_close(weight.detach(), torch.full_like(weight, left))


def test_first_classes(colours):
    data = data_setup.load(colours)
    two = recipe_parts.first_classes(data, 2)
    assert two.class_names == data.class_names[:2] and set(data_setup.labels(two.train)) == {0, 1}
    assert len(two.test) == 8 and two.flip == data.flip


def test_unknown_part(build):
    with pytest.raises(KeyError):
        build("luck")


def test_the_log_has_all_parts_and_seeds():
    for cached in recipe_parts.prices().values():
        seeds = len(cached["seeds"])
        assert set(cached["without"]) == set(recipe_parts.WITHOUT)
        assert all(len(values) == seeds for row in cached["without"].values() for values in row.values())
