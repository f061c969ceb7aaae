"""Figures 3 and 4 of the paper on a small scale: how useful pre-training is, against the number of
images that it had.

    # Pre-train on 50 drawings of each of seven dishes, then classify other dishes.
    model = pretrain("ViT", dishes(50), samples=3_500, seed=0, device=device)
    probe_accuracy(model, task)

benchmarks/data_scale.py does this for a ViT, a CNN and a ViT that learns without labels, with two
lengths of training and several seeds, and writes measured/data_scale.json.
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
    """`count` drawings of each of the seven dishes other than pizza, steak and sushi, and others to
    test on.

    Drawing i of a dish is the same for any count, so a larger set contains the smaller ones.
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
    """A new model with random weights, one of KINDS."""
    torch.manual_seed(seed)
    return (cnn(num_classes, CNN_WIDTH) if kind == "CNN"
            else ViT(num_classes=num_classes, **VIT_SIZES))


def transforms() -> tuple[data_setup.RandomView, Callable]:
    """The transforms for training and for testing, at the image size of the ViT."""
    size = VIT_SIZES["image_size"]
    return data_setup.train_transform(size, min_scale=0.6), data_setup.eval_transform(size)


def loaders(
    data: ImageData, samples: int, seed: int, epochs: int, device: torch.device,
) -> tuple[DataLoader, DataLoader]:
    """Loaders of random views of the training images, `samples` of them over all epochs, and of the
    test images as they are.

    Raises ValueError where samples is not a multiple of epochs times the number of images.
    """
    # Each epoch shows every image equally often.
    repeats, rest = divmod(samples, epochs * len(data.train))
    if rest or not repeats:
        raise ValueError(f"{samples} samples are no multiple of {epochs} times {len(data.train)} "
                         "pictures")
    view, plain = transforms()
    return (data_setup.make_loader(data.train, view, 64, shuffle=True, seed=seed, repeats=repeats,
                                   device=device),
            data_setup.make_loader(data.test, plain, 64, device=device))


def pretrain(
    kind: str, data: ImageData, samples: int, seed: int, device: torch.device, epochs: int = 2,
    quiet: bool = False,
) -> ViT | nn.Sequential:
    """A new model, one of KINDS, trained by the recipe of notebook 09 on `samples` views.

    Whether there are few images, each shown often, or many, each shown seldom: all runs of one
    length cost the same. After each of `epochs` equal parts the model is tested, and a line is
    printed, unless quiet. Raises ValueError as `loaders` does.
    """
    train, test = loaders(data, samples, seed, epochs, device)
    model = new_model(kind, len(data.class_names), seed)
    recipe = Recipe(epochs=epochs, seed=seed)
    Trainer(model, train, recipe, device, class_names=data.class_names, test_loader=test,
            quiet=quiet).fit()
    return model


def pretrain_masked(
    data: ImageData, samples: int, seed: int, device: torch.device, epochs: int = 2,
) -> masked.MaskedPatchPrediction:
    """The same for a ViT that learns without labels, by masked patch prediction. The ViT is the
    attribute `vit` of the result."""
    train, _ = loaders(data, samples, seed, epochs, device)
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
    """The test accuracy after fine-tuning on the first `count` images of each class as in Appendix
    B.1.1, with a head of zeros. The model itself is not changed."""
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
    # Three random views of each image in an epoch.
    view, plain = transforms()
    train = data_setup.make_loader(first(task.train, count), view, 32, shuffle=True, seed=seed,
                                   repeats=3, device=device)
    test = data_setup.make_loader(task.test, plain, 100, device=device)
    return finetune.fine_tune(model, train, test, epochs, lr, device)["test_acc"][-1]


def measured() -> dict:
    """The log of benchmarks/data_scale.py: its settings, and a row for each run."""
    return json.loads((MEASURED / "data_scale.json").read_text())
