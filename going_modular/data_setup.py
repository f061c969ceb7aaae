"""From the name or folder of a data set to its DataLoaders.

    data = load("auto")  # photos, or drawn food where there is no network
    train, held_out = split(data.train, 0.15, seed=0)
    loader = make_loader(train, train_transform(64), batch_size=32, shuffle=True)

The work is done in going_modular/datasets, with a module for each job; this module gathers their
public names.
"""
import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from going_modular.datasets.downloads import download_data
from going_modular.datasets.folders import data_folder, list_images, split
from going_modular.datasets.images import (
    ArrayImages,
    DataError,
    ImageFiles,
    labels,
    read_image,
    to_image,
    to_pixels,
)
from going_modular.datasets.layouts import list_train_and_test
from going_modular.datasets.loading import EpochSampler, WorkerLoader, make_loader
from going_modular.datasets.named import NAMES, ImageData, is_path, load
from going_modular.datasets.views import RandomView, eval_transform, recolor, train_transform, warp

__all__ = [
    "NAMES", "ArrayImages", "DataError", "EpochSampler", "ImageData", "RandomView",
    "create_dataloaders", "data_folder", "download_data", "eval_transform", "is_path", "labels",
    "list_images", "load", "make_loader", "read_image", "recolor", "split", "to_image", "to_pixels",
    "train_transform", "warp",
]

NUM_WORKERS = os.cpu_count() or 1


def create_dataloaders(train_dir: str | Path, test_dir: str | Path, transform: Callable,
                       batch_size: int, num_workers: int = NUM_WORKERS,
                       ) -> tuple[DataLoader, DataLoader, list[str]]:
    """(training loader, test loader, class names) of two folders of CLASS/IMAGE files.

    transform: any callable on an RGB PIL image, for both loaders.
    Training batches are shuffled; no image is dropped.
    Raises DataError where a folder is missing or empty, or where the two have different classes;
    iterating raises it at an image that can't be read, and ValueError where worker processes can't
    start.
    """
    train, test, class_names = list_train_and_test(train_dir, test_dir)
    train_loader, test_loader = (
        WorkerLoader(ImageFiles(samples, class_names, transform), batch_size, shuffle=shuffle,
                     num_workers=num_workers, pin_memory=torch.cuda.is_available())
        for samples, shuffle in ((train, True), (test, False)))
    return train_loader, test_loader, class_names
