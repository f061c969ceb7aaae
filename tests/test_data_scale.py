"""What pre-training is worth: the pictures, the runs, the two ways to measure them, and the cached results."""
import copy

import numpy as np
import pytest
import torch

from benchmarks.data_scale import RUNS
from going_modular import data_setup, drawn
from going_modular.experiments import MEASURED, data_scale
from going_modular.paper import masked
from going_modular.trainer import Trainer
from going_modular.utils import load_tensors
from going_modular.vit import count_macs

CPU = torch.device("cpu")
every_kind = pytest.mark.parametrize("kind", data_scale.KINDS)


def test_the_dishes_hold_none_of_the_task_and_larger_sets_hold_smaller_ones():
    assert len(data_scale.DISHES) == 7 and not set(data_scale.DISHES) & {"pizza", "steak", "sushi"}
    small, large = data_scale.dishes(1, test_count=1), data_scale.dishes(3, test_count=1)
    assert large.train.targets == sorted(list(range(7)) * 3)
    assert np.array_equal(small.train.array, large.train.array[::3])
    assert not any(np.array_equal(image, other) for image in small.test.array for other in large.train.array)
    first = data_scale.first(large.train, 2)
    assert first.indices == [i for i in range(21) if i % 3 < 2]
    drawing = drawn.draw_food("ramen", np.random.default_rng([2, 6, 0, 2]))
    assert large.class_names[6] == "ramen" and np.array_equal(np.asarray(drawing), large.train.array[-1])


def test_vit_and_cnn_have_about_the_same_multiply_adds_and_the_same_number_of_features():
    vit, cnn = (data_scale.new_model(kind, 7, 0) for kind in data_scale.KINDS)
    macs = []

    def count(layer, inputs, output):
        macs.append(layer.weight[0].numel() * output[0].numel())  # for each number that comes out

    for module in cnn.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            module.register_forward_hook(count)
    cnn(torch.randn(1, 3, 48, 48))
    assert 0.85 < sum(macs) / count_macs(vit) < 1.15
    assert cnn[-1].in_features == vit.head.in_features


@every_kind
def test_all_runs_of_one_length_see_as_many_pictures(kind, colours, monkeypatch):
    data, seen = data_setup.load(colours), []
    monkeypatch.setattr(Trainer, "fit", lambda self: seen.append(
        self.recipe.epochs * sum(len(labels) for _, labels in self.loaders["train"])))
    for count in (2, 12):
        data.train = data_scale.first(data_setup.load(colours).train, count)
        data_scale.pretrain(kind, data, 144, seed=0, device=CPU)
    assert seen == [144, 144]
    for samples in (36, 100):
        with pytest.raises(ValueError, match="no multiple of 2 times 36 pictures"):
            data_scale.pretrain(kind, data, samples, seed=0, device=CPU)


@every_kind
def test_a_run_learns_and_can_be_made_again(kind, colours):
    data = data_setup.load(colours)
    model, again = (data_scale.pretrain(kind, data, 288, seed=3, device=CPU) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters()))
    assert data_scale.probe_accuracy(model, data, shots=5, pool=6) > 0.9
    before = copy.deepcopy(model.state_dict())
    accuracy = data_scale.fine_tuned_accuracy(model, data, 0, CPU, count=12, epochs=6)
    assert accuracy > 0.9
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_run_without_labels(colours):
    data = data_setup.load(colours)
    data.train.targets = None  # whoever looks at a label fails
    task, again = (data_scale.pretrain_masked(data, 144, seed=3, device=CPU) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(task.parameters(), again.parameters()))
    fresh = data_scale.new_model("ViT", 3, seed=3)
    assert torch.equal(task.vit.head.weight, fresh.head.weight)
    assert not torch.equal(task.vit.position_embedding, fresh.position_embedding)
    with pytest.raises(ValueError, match="no multiple"):
        data_scale.pretrain_masked(data, 100, seed=0, device=CPU)


def test_the_masked_model_that_the_package_brings():
    """On new drawings it tells the colours of gaps better than their frequencies alone would."""
    task = masked.MaskedPatchPrediction(data_scale.new_model("ViT", 7, 0))
    task.load_state_dict(load_tensors(MEASURED / "masked_patches.pt"))
    images = torch.stack([data_setup.eval_transform(48)(image) for image, _ in data_scale.dishes(1, 8).test])
    shares = masked.mean_colours(images, 8).flatten().bincount(minlength=512) / (len(images) * 36)
    with torch.no_grad():
        assert task.eval().loss(images) < torch.special.entr(shares).sum() - 0.3


@every_kind
def test_fine_tuning_starts_from_a_head_of_zeros_and_the_body_as_it_is(kind, colours, monkeypatch):
    model, data, given = data_scale.new_model(kind, 7, 0), data_setup.load(colours), []
    torch.nn.init.normal_(list(model.modules())[-1].weight)
    monkeypatch.setattr(data_scale.finetune, "fine_tune", lambda model, *_: given.append(model) or {"test_acc": [0.5]})
    assert data_scale.fine_tuned_accuracy(model, data, 0, CPU) == 0.5
    body, head = dict(given[0].named_parameters()), list(given[0].modules())[-1]
    assert head.weight.shape[0] == 3 and not head.weight.any() and not head.bias.any()
    ours = dict(model.named_parameters())
    same = [torch.equal(body[name], value) for name, value in ours.items() if value.shape == body[name].shape]
    assert all(same) and len(same) == len(ours) - 2


def test_the_log_holds_every_run_with_the_settings_of_today():
    cached = data_scale.measured()
    assert cached["vit"] == data_scale.VIT_SIZES and cached["cnn_width"] == data_scale.CNN_WIDTH
    seeds = {row["seed"] for row in cached["rows"]}
    rows = [(row["model"], row["pictures"], row["samples"], row["seed"]) for row in cached["rows"]]
    assert sorted(rows) == sorted((kind, 7 * count, samples, seed) for kind, count, samples in RUNS for seed in seeds)
    assert len(seeds) >= 3
