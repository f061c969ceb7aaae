"""What the benchmark of few photos changes in a model, and what its log says of the runs."""
import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import few_photos
from going_modular.vit import ViT

SIZES = dict(image_size=16, patch_size=8, num_classes=3, num_layers=2, hidden_size=24, mlp_size=48, num_heads=2)


def test_mimetic_weights_make_attention_look_at_itself_and_take_it_away():
    torch.manual_seed(0)
    model = ViT(**SIZES)
    few_photos.mimetic(model)
    for block in model.blocks:
        layer = next(module for module in block.modules() if hasattr(module, "qkv"))
        queries, keys, values = layer.qkv.weight.chunk(3)
        assert (layer.out.weight @ values).diagonal().mean().item() == pytest.approx(-0.4, abs=0.1)
        for head in range(2):
            own = slice(12 * head, 12 * (head + 1))
            assert (queries[own].T @ keys[own]).diagonal().mean() > 0.3  # of rank 12 of 24


def test_the_stem_makes_as_many_tokens_as_the_patches():
    model = ViT(**SIZES)
    few_photos.VARIANTS["stem"].model(model)
    assert model.embed(torch.zeros(2, 3, 16, 16)).shape == (2, 5, 24)
    assert model(torch.zeros(2, 3, 16, 16)).shape == (2, 3)


@torch.no_grad()
def test_impulse_weights_make_each_head_look_at_its_own_neighbour():
    torch.manual_seed(0)
    model = ViT(**SIZES | {"image_size": 64, "hidden_size": 96, "mlp_size": 96, "num_heads": 3})
    few_photos.impulse(model)
    nn.init.zeros_(model.patch_embedding.projection.weight)  # so that a token is its position
    seen = {}
    model(torch.zeros(1, 3, 64, 64), intermediates=seen)
    places = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0))
    inner = (1 <= places).all(1) & (places <= 6).all(1)
    for head, step in enumerate([(-1, -1), (-1, 0), (-1, 1)]):
        attention = seen["block00.attention"][0, head, 1:, 1:]
        seen_there = (attention / attention.sum(-1, keepdim=True)) @ places - places
        assert torch.allclose(seen_there[inner].mean(0), torch.tensor(step, dtype=torch.float), atol=0.4)


def test_relative_positions_add_their_gradient_and_leave_the_logits_alone():
    torch.manual_seed(0)
    model = ViT(**SIZES)
    few_photos.with_relative_positions(model)
    images, labels = torch.randn(2, 3, 16, 16), torch.tensor([0, 2])
    trained = few_photos.RelativePositions(model)
    logits = trained(images)
    assert torch.equal(logits, model(images))
    F.cross_entropy(logits, labels).backward()
    assert model.relative[0].weight.grad.norm() > 0 and model.blocks[0].mlp.hidden.weight.grad.norm() > 0
    with_both, weight = model.head.weight.grad.clone(), model.blocks[0].mlp.hidden.weight.grad.clone()
    model.zero_grad()
    F.cross_entropy(model(images), labels).backward()
    assert torch.allclose(with_both, model.head.weight.grad)  # the places are not told from the logits
    assert not torch.allclose(weight, model.blocks[0].mlp.hidden.weight.grad)


def test_waves_give_a_row_and_a_column_each_its_own_half():
    model = ViT(**SIZES | {"image_size": 32})
    few_photos.waves(model)
    positions = model.position_embedding[0, 1:].view(4, 4, 24)
    assert torch.equal(positions[:, :1, :12].expand(4, 4, 12), positions[..., :12])
    assert torch.equal(positions[:1, :, 12:].expand(4, 4, 12), positions[..., 12:])
    assert positions.abs().max() <= 0.5 < positions.abs().max() * 1.1


@pytest.mark.parametrize("sizes", [{"patch_size": 16}, {"image_size": 16}])
def test_a_model_of_more_patches_takes_over_what_an_even_image_gives(sizes):
    fine = ViT(**SIZES | {"image_size": 32})
    coarse = ViT(**fine.settings | sizes)
    few_photos.carry_over(coarse, fine)
    of_coarse, of_fine = (model.patch_embedding(torch.ones(1, 3, model.settings["image_size"],
                                                           model.settings["image_size"])) for model in (coarse, fine))
    assert of_fine.shape == (1, 16, 24) and torch.allclose(of_fine[0, 5], of_coarse[0, 0], atol=1e-6)
    assert torch.equal(fine.position_embedding[0, 1], coarse.position_embedding[0, 1])  # the corner
    assert torch.equal(fine.blocks[0].msa.qkv.weight, coarse.blocks[0].msa.qkv.weight)


@pytest.mark.parametrize("name", ["CutMix", "taught", "masked"])
def test_a_variant_that_changes_the_trainer_learns(name, colours, monkeypatch):
    monkeypatch.setattr(few_photos, "SETTINGS", "--image-size 16 --patch-size 8 --layers 1 --hidden-size 24 --heads 2 "
                        "--mlp-size 24 --epochs 1 --repeats 3 --batch-size 8".split())
    trainer = few_photos.build(few_photos.VARIANTS[name], colours)
    images, labels = trainer.mixup(torch.randn(8, 3, 16, 16), torch.arange(8) % 3)
    assert images.shape == (8, 3, 16, 16) and torch.allclose(labels.sum(1), torch.ones(8))
    assert trainer.fit()[-1]["train_loss"] < 1.2


def test_the_log_has_the_gains_of_the_variants_whose_runs_are_there(tmp_path):
    def write(name, accuracies, first=0):
        for triple, accuracy in enumerate(accuracies, first):
            row = {"test_accuracy": accuracy, "test_loss": 1.0, "seconds": 2.0, "classes": ["a", "b", "c"]}
            (tmp_path / f"{name}_{triple}.json").write_text(json.dumps(row))

    write("recipe", [0.5, 0.6, 0.7, 0.8])
    write("AdamW", [0.4, 0.5, 0.6, 0.7])
    write("stem", [0.9, 0.9])  # not all of them
    write("recipe", [0.1] * 5, first=4)
    (tmp_path / "AdamW_cost.json").write_text("0.97")
    log = few_photos.results(tmp_path)
    assert list(log["chosen_on"]["variants"]) == ["recipe", "AdamW"] and list(log["told_on"]["variants"]) == ["recipe"]
    row = log["chosen_on"]["variants"]["AdamW"]
    assert row["gain"] == {"mean": pytest.approx(-0.1), "standard_error": pytest.approx(0)} and row["cost"] == 0.97
    assert log["told_on"]["variants"]["recipe"]["test_accuracy"]["mean"] == pytest.approx(0.1)
