"""A ViT's weights out, under the names and in the shapes of another library."""
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from going_modular import utils
from going_modular.vit import ViT
from going_modular.weights.layouts import LAYOUTS
from going_modular.weights.preprocessing import Preprocessing
from going_modular.weights.sources import METADATA, WeightsError, import_optional


def save_as(model: ViT, kind: str, file: str | Path) -> dict[str, Any]:
    """Save a ViT's weights under the names and in the shapes of another library.

    kind: "torchvision", "timm", "transformers", or "official", the files of the paper's authors.
    file: ends in .npz for "official", else in .safetensors, or in .pt or .pth to be written by
        torch.save.
    Returns the settings that the library must be told, as they are not its defaults:
    {"layer_norm_eps": 1e-6} for a ViT of ours in transformers. The image size is among them where
    images are no squares, as the weights tell the number of patches alone, and what differs in
    model.preprocessing: crop_pct, interpolation, mean, std. A .safetensors file also keeps all of
    this in its header, for `weights.load`.
    Raises WeightsError for a model that the library can't hold, an unknown kind, or a file whose
    name ends in something else.
    """
    file = Path(file)
    if kind not in LAYOUTS:
        raise WeightsError(f"unknown kind {kind!r}: choose one of {', '.join(LAYOUTS)}")
    layout = LAYOUTS[kind]
    suffixes = [".npz"] if kind == "official" else [".safetensors", ".pt", ".pth"]
    if file.suffix not in suffixes:
        raise WeightsError(
            f"a file for {kind} ends in {' or '.join(suffixes)}, not in {file.name!r}")

    # The library must compute what the model computes: other logits would come without an error.
    if model.settings["pool"] != "token":
        raise WeightsError(f"this model has no class token, which {kind} needs")
    if model.settings["representation_size"] and not layout.has_pre_logits:
        raise WeightsError(
            f"this model has a tanh layer before its head, for which {kind} has no place")
    image_size = model.settings["image_size"]
    rectangle = isinstance(image_size, tuple)
    if rectangle and not layout.has_rectangles:
        raise WeightsError(f"this model takes images of {utils.in_pixels(image_size)} px, "
                           f"{kind} takes squares alone")
    defaults = layout.default_settings
    non_default = {name: model.settings[name] for name, default in defaults.items()
                   if model.settings[name] != default}
    if fixed := non_default.keys() - layout.configurable:
        raise WeightsError(
            f"{kind} computes with other settings, which can't be changed: " + ", ".join(
                f"{name} {defaults[name]}, this model has {non_default[name]}"
                for name in sorted(fixed)))

    preprocessing = model.preprocessing
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        tensors |= layout.write(name, tensor.cpu(), model.settings)

    def write(temporary: Path) -> None:
        if file.suffix == ".npz":
            arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in tensors.items()}
            with open(temporary, "wb") as target:  # to a path, numpy would append .npz
                np.savez(target, **arrays)
        elif file.suffix == ".safetensors":
            # Version 4 of transformers asks the metadata which framework wrote a file.
            safetensors = import_optional("safetensors.torch", f"write {file}")
            safetensors.save_file(tensors, temporary, metadata={
                "format": "pt", METADATA: _untold(model)})
        else:
            torch.save(tensors, temporary)

    utils.write_atomically(file, write)
    if rectangle:
        non_default["image_size"] = image_size
    if isinstance(preprocessing, Preprocessing):
        default = layout.preprocessing.sized(image_size, model.settings["in_channels"])
        non_default |= preprocessing.differences(default)
    return non_default


def _untold(model: ViT) -> str:
    """What no tensor tells of a model, as JSON for the header of a file."""
    names = ("layer_norm_eps", "gelu", "num_heads", "image_size")
    said: dict[str, Any] = {"settings": {name: model.settings[name] for name in names}}
    if isinstance(model.preprocessing, Preprocessing):
        said["preprocessing"] = asdict(model.preprocessing)
    return json.dumps(said)
