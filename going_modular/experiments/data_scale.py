"""Figures 3 and 4 of the paper in small: what pre-training is worth, against the
number of pictures it had.

    model = pretrain("ViT", dishes(50), samples=3_500, seed=0, device=device)  # on 50 drawings of each of seven dishes
    probe_accuracy(model, task)                                                # what it tells about other dishes

benchmarks/data_scale.py does so for a ViT, a CNN and a ViT without labels, two lengths and several
seeds, and writes measured/data_scale.json.
"""
import copy
import json
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from going_modular import data_setup, drawn
from going_modular.data_setup import ImageData
from going_modular.datasets.images import ImageSet
from going_modular.experiments import MEASURED
from going_modular.experiments.cnn import cnn
from going_modular.paper import finetune, masked, probe
from going_modular.recipe import Recipe
from going_modular.trainer import Trainer
from going_modular.vit import ViT

DISHES = [dish for dish in drawn.SETS["drawn10"].classes if dish not in drawn.SETS["drawn"].classes]
VIT_SIZES: dict[str, Any] = dict(image_size=48, patch_size=8, num_layers=4, hidden_size=64,
                                 mlp_size=256, num_heads=4)
CNN_WIDTH = 8  # about as many multiply-adds as the ViT, and as many features, 64
KINDS = ("ViT", "CNN")


def dishes(count: int, test_count: int = 40) -> ImageData:
    """`count` drawings of each of the seven dishes that are no pizza, steak or
    sushi, and others to test.

    Drawing i of a dish is the same whatever the count, so a larger set holds the smaller ones.
    """
    def draw(split: int, count: int) -> data_setup.ArrayImages:
        images = [np.asarray(drawn.draw_food(dish, np.random.default_rng([2, label, split, index])))
                  for label, dish in enumerate(DISHES) for index in range(count)]
        return data_setup.ArrayImages(np.stack(images), sorted(list(range(len(DISHES))) * count),
                                      DISHES)

    return ImageData("seven dishes", draw(0, count), draw(1, test_count), DISHES, "", [])


def first(images: ImageSet, count: int) -> Subset:
    """The first `count` images of each class."""
    labels = torch.tensor(data_setup.labels(images))
    chosen = torch.cat([(labels == label).nonzero().flatten()[:count] for label in labels.unique()])
    return Subset(images, chosen.tolist())


def new_model(kind: str, num_classes: int, seed: int) -> ViT | nn.Sequential:
    """A model that knows nothing yet, one of KINDS."""
    torch.manual_seed(seed)
    return cnn(num_classes, CNN_WIDTH) if kind == "CNN" else ViT(
        num_classes=num_classes, **VIT_SIZES)


def transforms() -> tuple[data_setup.RandomView, Callable]:
    """For training and for testing, at the size of the ViT."""
    size = VIT_SIZES["image_size"]
    return data_setup.train_transform(size, min_scale=0.6), data_setup.eval_transform(size)


def loaders(data: ImageData, samples: int, seed: int, epochs: int) -> tuple[DataLoader, DataLoader]:
    """Random views of the training pictures, `samples` of them in so many epochs; and the
    test pictures as they are.
    Raises ValueError where samples is no multiple of epochs times the number of pictures."""
    repeats, rest = divmod(samples, epochs * len(data.train))
    if rest or not repeats:
        raise ValueError(f"{samples} samples are no multiple of {epochs} times {len(data.train)} "
                         "pictures")
    view, plain = transforms()
    return (data_setup.make_loader(data.train, view, 64, shuffle=True, seed=seed, repeats=repeats),
            data_setup.make_loader(data.test, plain, 64))


def pretrain(
    kind: str, data: ImageData, samples: int, seed: int, device: torch.device, epochs: int = 2,
) -> ViT | nn.Sequential:
    """A new model, one of KINDS, trained by the recipe of notebook 09 until it has seen
    `samples` pictures, each time another crop. It is tested, and prints a line, after each of
    `epochs` equal parts of that.

    Few pictures are shown often, many seldom: all runs of one length cost the same. Raises
    ValueError as `loaders`.
    """
    train, test = loaders(data, samples, seed, epochs)
    model = new_model(kind, len(data.class_names), seed)
    recipe = Recipe(epochs=epochs, seed=seed)
    Trainer(model, train, recipe, device, class_names=data.class_names, test_loader=test).fit()
    return model


def pretrain_masked(
    data: ImageData, samples: int, seed: int, device: torch.device, epochs: int = 2,
) -> masked.MaskedPatchPrediction:
    """The same for a ViT that learns without labels, by masked patch prediction; the ViT
    is the result's `vit`."""
    train, _ = loaders(data, samples, seed, epochs)
    torch.manual_seed(seed)
    task = masked.MaskedPatchPrediction(ViT(num_classes=len(data.class_names), **VIT_SIZES))
    masked.train(task, train, epochs, 2e-3, device)
    return task


def probe_accuracy(model: nn.Module, task: ImageData, shots: int = 20, pool: int = 100) -> float:
    """The mean test accuracy of linear probes on `shots` images of each class, over 20
    draws from the first `pool`.

    Raises ValueError where a class has fewer images than shots.
    """
    _, plain = transforms()
    train, test = (probe.features(model, data_setup.make_loader(images, plain, 100))
                   for images in (first(task.train, pool), task.test))
    return statistics.mean(probe.few_shot(train, test, shots))


def fine_tuned_accuracy(
    model: ViT | nn.Sequential, task: ImageData, seed: int, device: torch.device, count: int = 80,
    epochs: int = 4, lr: float = 0.03,
) -> float:
    """The test accuracy after fine-tuning on the first `count` images of each class as in
    Appendix B.1.1, with a head of zeros; the model itself is left as it is."""
    if isinstance(model, ViT):
        model = finetune.new_head(model, len(task.class_names))
    else:
        model = copy.deepcopy(model)
        last = model[-1]
        assert isinstance(last, nn.Linear)  # as `cnn` builds it
        head = nn.Linear(last.in_features, len(task.class_names)).to(device)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        model[-1] = head
    view, plain = transforms()
    train = data_setup.make_loader(first(task.train, count), view, 32, shuffle=True, seed=seed,
                                   repeats=3)
    test = data_setup.make_loader(task.test, plain, 100)
    return finetune.fine_tune(model, train, test, epochs, lr, device)["test_acc"][-1]


def measured() -> dict:
    """What benchmarks/data_scale.py measured: its settings, and a row for each run."""
    return json.loads((MEASURED / "data_scale.json").read_text())
