"""Whether stored results are those of the code as it is.

Each log in measured/ carries a fingerprint: the losses of a training of seconds, by the code and
the settings of the experiment, on a few pictures that are drawn anew. Where the same training gives
other losses today, something that the results depend on has changed since: they are stale. A change
that leaves all numbers as they are, such as another name, leaves them valid.

    python -m going_modular.experiments    tells which are stale, and which command makes them again
"""
import itertools
import json
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from going_modular import config, drawn, engine, train
from going_modular.data_setup import ArrayImages, ImageData
from going_modular.experiments import MEASURED, architecture, data_scale, recipe_parts
from going_modular.recipe import Recipe

CPU = torch.device("cpu")
# After so few steps, processors differ by less than a hundredth of this; a change of the code, of a
# view or of a setting makes more.
TOLERANCE = 1e-3


def few_pictures(name: str) -> ImageData:
    """The first 10 training and 5 test pictures of the first ten classes of a drawn set."""
    classes, parts = list(drawn.SETS[name].classes[:10]), []
    for split, count in (("train", 10), ("test", 5)):
        one_by_one = itertools.islice(drawn.draw_set(name, split, count=count), 10 * count)
        pictures = [np.asarray(image) for _, _, image in one_by_one]
        labels = [label for label in range(len(classes)) for _ in range(count)]
        parts.append(ArrayImages(np.stack(pictures), labels, classes))
    return ImageData(name, parts[0], parts[1], classes, "", [], flip=name != "drawn_digits")


def of_architecture() -> list[float]:
    """Test losses of a row of each kind (notebook 11)."""
    name, losses = "drawn_digits", []
    setup = architecture.SETUPS[name]
    images = architecture.as_tensors(few_pictures(name), setup)
    for changes in ({}, {"positions": "2-D"}, {"pool": "mean"}, {"position_scale": 20}):
        torch.manual_seed(0)
        model = architecture.build(name, changes, num_classes=10)
        losses.append(architecture.train(model, images, setup, setup["lr"], seed=0)["test_loss"])
    return losses


def of_recipe_parts() -> list[float]:
    """Training and test loss of the whole recipe (notebook 09)."""
    settings, data = recipe_parts.prices()["drawn_things"], few_pictures("drawn_things")
    recipe = Recipe(**{**settings["recipe"], "seed": 0})
    last = recipe_parts.build("nothing", data, settings["architecture"], recipe, CPU,
                              settings["batch_size"], quiet=True).fit()[-1]
    return [last["train_loss"], last["test_loss"]]


def of_data_scale() -> list[float]:
    """Test losses of a ViT and a CNN after pre-training (notebook 12)."""
    data, losses = data_scale.dishes(10, test_count=5), []
    _, test = data_scale.loaders(data, samples=700, seed=0, epochs=1, device=CPU)
    for kind in data_scale.KINDS:
        model = data_scale.pretrain(kind, data, 700, seed=0, device=CPU, epochs=1, quiet=True)
        losses.append(engine.test_step(model, test, F.cross_entropy, CPU)[0])
    return losses


def of_few_photos() -> list[float]:
    """Training and test loss of the command's settings for few photos (notebook 11)."""
    data = few_pictures("drawn10")
    options = config.complete({"epochs": 1, "repeats": 3, "muon": config.MUON, "seed": 0}, data, CPU)
    torch.manual_seed(options.seed)
    model = train.build_model(options, len(data.class_names))
    last = train.build_trainer(model, data, options, CPU).fit()[-1]
    return [last["train_loss"], last["test_loss"]]


# The name of a log -> its fingerprint, and the command that makes the log again.
EXPERIMENTS: dict[str, tuple[Callable[[], list[float]], str]] = {
    "recipe_parts": (of_recipe_parts,
                     "python -m benchmarks.recipe_parts --data drawn_things --seeds 0 1 2 3 4"),
    "architecture": (of_architecture, "python -m benchmarks.architecture"),
    "data_scale": (of_data_scale, "python -m benchmarks.data_scale"),
    "few_photos": (of_few_photos, "python -m benchmarks.few_photos --data FOLDER, and again with --write"),
}
STORED = MEASURED / "fingerprints.json"


def stored() -> dict[str, list[float]]:
    """The fingerprints that the benchmarks took when they made the logs."""
    return json.loads(STORED.read_text())


def store(name: str) -> None:
    """Take the fingerprint of an experiment whose log has just been made."""
    values = {**stored(), name: EXPERIMENTS[name][0]()}
    STORED.write_text(json.dumps(values, indent=1) + "\n")


def is_stale(name: str) -> bool:
    """Whether the log of an experiment is not of the code as it is."""
    now, then = EXPERIMENTS[name][0](), stored()[name]
    return len(now) != len(then) or not all(
        math.isclose(a, b, rel_tol=TOLERANCE) for a, b in zip(now, then))
