"""What the benchmark of few photos changes in a model, and what its log says of the runs."""
import json

import pytest
import torch

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
