"""MNIST on two CPU cores: a ViT by the command, and a CNN of about as many parameters for the same time.

python -m benchmarks.mnist [--seeds 0 1 2]  ->  benchmarks/results/mnist.json
python -m benchmarks.mnist --search [-- options of going_modular.train]  ->  a line in results/mnist_search.jsonl

The recipe was chosen by --search: it scores by images held out of the training set, and the test set is not looked at.
"""
import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.common import RESULTS, machine, write_log
from benchmarks.main_job import summary, tell, train_cnn, train_vit
from going_modular import data_setup, train

RECIPE = "--model Mini/7".split()


def mean_f1(confusion_matrix: list[list[int]]) -> float:
    """The mean over the classes of F1, from counts [true, predicted]."""
    matrix = torch.tensor(confusion_matrix, dtype=torch.float64)
    return (2 * matrix.diagonal() / (matrix.sum(0) + matrix.sum(1))).mean().item()


def search(data: str, seed: int, device: torch.device, options: list[str]) -> dict:
    """Train by the recipe and these options; the accuracy on the held-out images, and the seconds of training.

    In the seconds a pass over as many held-out images as the test set has stands in place of the test.
    """
    images = data_setup.load(data)
    settings = train.complete(train.settings_of(train.parse([*RECIPE, *options, "--seed", str(seed)])), images, device)
    torch.manual_seed(seed)
    model = train.build_model(settings, len(images.class_names))
    _, held_out = data_setup.split(images.train, settings["hold_out"], seed=seed)
    images.test = held_out  # in place of the test set
    with tempfile.TemporaryDirectory() as folder:
        trainer = train.build_trainer(model, images, settings, train.recipe_of(settings), device, Path(folder))
        history = trainer.fit()
    return {"held_out_accuracy": history[-1]["val_acc"], "held_out_loss": history[-1]["val_loss"],
            "held_out_images": len(held_out), "train_seconds": sum(row["seconds"] for row in history),
            "epochs": len(history)}
