"""The public face of the data: two folders into two loaders, and all names that a reader is shown."""
import re
import shutil
from pathlib import Path

import pytest
import torch
from data_files import CLASSES, message_of, write_broken_image
from torchvision.transforms import v2

from going_modular import data_setup
from going_modular.data_setup import DataError

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("num_workers", [0, 1])
def test_create_dataloaders(food, num_workers):
    transform = v2.Compose([v2.Resize((8, 8)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    train, test, class_names = data_setup.create_dataloaders(
        food / "train", str(food / "test"), transform=transform, batch_size=5, num_workers=num_workers)
    assert class_names == list(CLASSES) == train.dataset.classes
    assert isinstance(train, torch.utils.data.DataLoader) and isinstance(test, torch.utils.data.DataLoader)
    assert (len(train.dataset), len(test.dataset), len(train), len(test)) == (12, 6, 3, 2)
    torch.manual_seed(0)
    (images, targets), (_, again) = ([torch.cat(part) for part in zip(*train, strict=True)] for _ in range(2))
    assert images.shape == (12, 3, 8, 8) and sorted(targets.tolist()) == sorted(again.tolist()) == train.dataset.targets
    assert targets.tolist() != again.tolist()
    assert torch.cat([labels for _, labels in test]).tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_create_dataloaders_with_a_bad_image(food, num_workers):
    write_broken_image(food / "train" / "pizza" / "0.png", "truncated")
    train, _, _ = data_setup.create_dataloaders(food / "train", food / "test", v2.ToImage(), 12, num_workers)
    with pytest.raises(DataError) as error:
        next(iter(train))
    assert message_of(error).startswith(str(food / "train" / "pizza" / "0.png"))


def test_create_dataloaders_with_other_classes(food):
    shutil.rmtree(food / "test" / "sushi")
    with pytest.raises(DataError, match="lacks the class sushi"):
        data_setup.create_dataloaders(food / "train", food / "test", v2.ToImage(), 4)


def test_names_that_are_shown_exist():
    shown = set()
    for file in (ROOT / "README.md", *(ROOT / "notebooks").rglob("*.ipynb"), *(ROOT / "benchmarks").glob("*.py")):
        shown |= set(re.findall(r"\bdata_setup\.(\w+)", file.read_text())) - {"py"}
    assert {"load", "create_dataloaders"} <= shown <= set(data_setup.__all__)
    assert [name for name in data_setup.__all__ if not hasattr(data_setup, name)] == []
