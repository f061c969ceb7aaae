"""The models that come with the package: each is loaded by its name and knows what it was trained on."""
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import write_set
from PIL import Image

from going_modular import data_setup, drawn, train, utils, weights
from going_modular.predictions import predict_all
from going_modular.vit import count_parameters

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
NAMES = sorted(file.stem for file in utils.TRAINED.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_each_is_what_its_log_says(name):
    model, info = utils.load_model(name)
    log = json.loads((RESULTS / f"trained_{name}.json").read_text())
    assert info.class_names == log["class_names"] and info.epoch == log["epochs"]
    assert count_parameters(model) == log["parameters"]
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert (utils.TRAINED / f"{name}.pt").stat().st_size < 2_000_000
    same = weights.model_of(name)  # as --weights does
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))


def test_no_model_of_photos_has_seen_the_three_dishes():
    three = set(drawn.SETS["drawn"].classes)
    seen = {name: set(utils.load_model(name)[1].class_names) & three for name in NAMES}
    assert [name for name, dishes in seen.items() if dishes] == ["drawings", "drawn_food"]  # which have seen no photo


@pytest.mark.parametrize("name", ["drawings", "drawn_food", "seven_dishes"])
def test_new_drawings_are_named_right(name):
    model, info = utils.load_model(name)
    rng = np.random.default_rng(9)
    batches = [(torch.stack([info.transform(drawn.draw_food(dish, rng)) for _ in range(8)]), torch.full((8,), label))
               for label, dish in enumerate(info.class_names) if dish in drawn.FOOD]
    probabilities, labels = predict_all(model, batches)
    assert (probabilities.argmax(dim=1) == labels).float().mean() > 0.75


def test_cifar100_is_loaded_by_its_name():
    model, info = utils.load_model("cifar100")
    images = info.transform(Image.new("RGB", (640, 480))).unsqueeze(0)
    assert images.shape == (1, 3, 32, 32) and model(images).shape == (1, 100)
    assert info.class_names[:3] == ["apple", "aquarium_fish", "baby"] and info.class_names[-1] == "worm"


def test_the_name_of_a_data_set_is_also_that_of_a_model(tmp_path, monkeypatch):
    monkeypatch.delenv("VIT_OFFLINE")  # which refuses all names but those of drawings
    monkeypatch.setenv("VIT_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    write_set(tmp_path / "data" / "cifar100")  # three classes
    assert train.absolute("cifar100") == "cifar100" and len(data_setup.load("cifar100").class_names) == 3
    assert weights.model_of("cifar100").settings["num_classes"] == 100


@pytest.mark.parametrize("name", ["cifar100", "food98"])
def test_a_file_or_folder_of_ones_own_comes_first(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert utils.checkpoint_file(name) == utils.TRAINED / f"{name}.pt"
    (tmp_path / name).mkdir()
    assert utils.checkpoint_file(name) == Path(name, "last.pt")
    with pytest.raises(utils.CheckpointError, match=f"no checkpoint {name}.last.pt: .* the model {name} that comes"):
        weights.model_of(name)


def test_a_name_that_is_none_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(utils.CheckpointError, match="there is no checkpoint food99"):
        utils.load_model("food99")
