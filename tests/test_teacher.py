"""A CNN as teacher: what it does to a batch, and that a run with it goes on as if it had not stopped."""
import pytest
import torch
from torch import nn

from going_modular import data_setup, distributed
from going_modular.recipe import Recipe
from going_modular.teacher import TaughtBatches, add_teacher
from going_modular.train import main
from going_modular.trainer import Trainer
from going_modular.utils import load_model
from going_modular.vit import ViT, count_parameters


@pytest.fixture
def make(colours):
    """Build a trainer of a small ViT on the colours."""
    data = data_setup.load(colours)

    def build(image_size=16, **recipe):
        torch.manual_seed(0)
        model = ViT(image_size=image_size, patch_size=4, num_classes=3, num_layers=1, hidden_size=96,
                    mlp_size=384, num_heads=3)
        loaders = [data_setup.make_loader(part, data_setup.eval_transform(image_size), 6, shuffle=not number)
                   for number, part in enumerate((data.train, data.test))]
        return Trainer(model, loaders[0], Recipe(**{"epochs": 3, "lr": 3e-3, **recipe}), torch.device("cpu"),
                       class_names=data.class_names, val_loader=loaders[1], quiet=True)

    return build


def test_half_of_a_label_is_what_the_teacher_answers():
    teacher = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4))
    images, labels, before = torch.randn(5, 3, 2, 2), torch.arange(5) % 4, teacher[0].running_mean.clone()
    same, taught = TaughtBatches(teacher, 4)(images, labels)
    answers = teacher(images).softmax(-1)
    assert same is images and torch.allclose(taught, (torch.eye(4)[labels] + answers) / 2) and not taught.requires_grad
    assert torch.equal(teacher[0].running_mean, before)  # it learns nothing while it teaches

    def flipped(images, labels):
        return images.flip(0), torch.eye(4)[labels.flip(0)]

    mixed, taught = TaughtBatches(teacher, 4, flipped)(images, labels)
    assert torch.equal(mixed, images.flip(0))
    assert torch.allclose(taught, (torch.eye(4)[labels.flip(0)] + answers.flip(0)) / 2)  # it answers to the mixed image


def test_the_teacher_is_a_smaller_cnn_that_has_learned(make, tmp_path):
    trainer = make(epochs=15, mixup=0.2)
    words = add_teacher(trainer, tmp_path / "teacher.pt")
    teacher = trainer.mixup.teacher
    assert 0.2 < count_parameters(teacher) / count_parameters(trainer.model) < 0.5 and not teacher.training
    assert f"a CNN of {count_parameters(teacher):,} parameters, " in words and "of the held-out images right" in words
    images, labels = next(iter(trainer.loaders["val"]))
    assert (teacher(images).argmax(1) == labels).float().mean() > 0.5
    again = make()
    assert str(tmp_path / "teacher.pt") in add_teacher(again, tmp_path / "teacher.pt")
    for name, values in again.mixup.teacher.state_dict().items():
        assert torch.equal(values, teacher.state_dict()[name]), name


def test_where_a_teacher_makes_no_sense(make, monkeypatch):
    with pytest.raises(ValueError, match="a side of 12 pixels is too short"):
        add_teacher(make(image_size=12))
    trainer = make()
    monkeypatch.setattr(distributed, "size", lambda: 2)
    with pytest.raises(ValueError, match="one process"):
        add_teacher(trainer)


def test_a_run_with_a_teacher_goes_on_with_the_same_one(colours, tmp_path, capsys):
    folder = tmp_path / "run"
    options = ["--data", str(colours), "--image-size", "16", "--patch-size", "8", "--layers", "1", "--hidden-size",
               "24", "--mlp-size", "48", "--heads", "2", "--epochs", "2", "--repeats", "1", "--device", "cpu"]
    assert main([*options, "--teacher", "--output", str(folder)]) == 0
    assert "teacher: a CNN of" in capsys.readouterr().out
    whole = load_model(folder)[0].state_dict()

    def after_a_stop() -> dict:
        (folder / "last.pt").unlink()
        assert main(["--output", str(folder), "--resume", "--device", "cpu"]) == 0
        return load_model(folder)[0].state_dict()

    def equal(these, those):
        return all(torch.equal(these[name], those[name]) for name in these)

    (folder / "teacher.pt").unlink()
    assert equal(after_a_stop(), whole)  # trained again, to the same weights
    other = {name: torch.zeros_like(values) for name, values in torch.load(folder / "teacher.pt").items()}
    torch.save(other, folder / "teacher.pt")
    assert not equal(after_a_stop(), whole)  # so it is read
