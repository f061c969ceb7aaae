"""Where weights come from: files, state dicts, modules, downloads. Each is opened as a Source,
which reads one tensor at a time.

Files are read lazily: their headers give all shapes, so that what does not fit is refused before
any tensor is read, and the tensors can go into a model one by one.
"""
import hashlib
import importlib
import json
import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import nn

from going_modular import utils
from going_modular.datasets.downloads import fetch
from going_modular.datasets.images import DataError, reason_of
from going_modular.utils import sides, size_of
from going_modular.weights.layouts import GetTensor
from going_modular.weights.preprocessing import Preprocessing

SUFFIXES = (".npz", ".safetensors", ".pth", ".pt", ".bin")  # of files that hold weights
# transformers' names for the two forms of GELU that a ViT of ours has.
GELUS = {"gelu": "erf", "gelu_python": "erf", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh",
         "gelu_python_tanh": "tanh", "gelu_fast": "tanh", "gelu_accurate": "tanh"}
METADATA = "going_modular"  # the entry of a .safetensors header that says what no tensor tells


class WeightsError(ValueError):
    """Weights that cannot be used. The message says what was found, and lists what is missing, left
    over, or of another shape."""


@dataclass
class Source:
    """Weights that can be read.

    meta_tensors: the shape of each tensor, by its name, as a tensor on the meta device, which has
        no data: it can be transposed and joined like the real one, so that the shape that comes out
        is known before anything is read.
    get: reads one tensor by its name.
    lazy: whether `get` reads from a file, and may find it damaged.
    settings: what is told of the settings of a ViT beyond its weights.
    preprocessing: what belongs to these very weights; None where only the layout's default is
        known.
    module: the module that the weights belong to, if they come from one.
    others: the names of what is no tensor.
    where: the source in words.
    part: what the names of the wanted weights begin with, where the user has said it.
    prefix, left_out: what the names of the weights began with, and how many tensors had others.
    """

    meta_tensors: dict[str, torch.Tensor]
    get: GetTensor
    lazy: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None
    module: nn.Module | None = None
    others: Sequence[str] = ()
    where: str = "the source"
    part: str | None = None
    prefix: str = ""
    left_out: int = 0

    @property
    def taken(self) -> str:
        """Which part of the source the weights are, in words; "" where they are the whole."""
        others = f", without {self.left_out} other tensors" if self.left_out else ""
        return f"those under {self.prefix}{others}" if self.prefix else ""


def open_source(source: Mapping[str, Any] | nn.Module | str | Path) -> Source:
    """Open a file, a name that is downloaded, a module, or its state dict.

    FILE#PART is that part of a file with more than one model in it: dino.pth#teacher.
    Raises WeightsError where there is none, where it is damaged, or where it holds something else
    than tensors.
    """
    if isinstance(source, nn.Module):
        return _open_module(source)
    if isinstance(source, Mapping):
        return _open_state_dict(source)
    if not isinstance(source, (str, Path)):
        raise WeightsError("a source is a file, a name, a module or its state dict, not "
                           f"{type(source).__name__}")
    if str(source).startswith(("http://", "https://", "gs://")):
        return _open_address(str(source))
    library, colon, name = str(source).partition(":")
    if colon and library in DOWNLOADERS:
        return _download(library, name)
    path, part = _split_part(str(source))
    if path.is_dir():
        return _open_folder(path)
    if not path.is_file():
        raise WeightsError(f"there is no file {path}; " + _likely_name(str(source)))
    opener = {".npz": _open_npz, ".safetensors": _open_safetensors}.get(path.suffix, _open_pickle)
    opened = opener(path)
    opened.where, opened.part = str(path), part
    return opened


def _likely_name(source: str) -> str:
    """What somebody meant who gave a name that is no file: one of a library, without the library,
    or a model of this package."""
    if utils.checkpoint_file(source).is_file():
        return f"the model of this name comes with the package: utils.load_model({source!r})"
    for library, pattern in (("torchvision", r"vit_[blh]_\d+(/\w+)?"), ("timm", r"(vit|deit)\w*_patch\d+.*"),
                             ("transformers", r"[\w-]+/[\w.-]*vit[\w.-]*")):
        if re.fullmatch(pattern, source):
            return f"did you mean {library}:{source}?"
    return ("a name that is downloaded starts with "
            + ", ".join(f"{library}:" for library in DOWNLOADERS))


def _split_part(source: str) -> tuple[Path, str | None]:
    """A file and the part of it that is asked for: FILE#teacher -> (FILE, "teacher")."""
    file, mark, part = source.rpartition("#")
    if not mark or Path(source).exists():  # a file may have a # in its name
        return Path(source), None
    return Path(file), part


# ---------------------------------------------------------------------------------------------------------------------
# In memory


def _open_state_dict(state: Mapping[Any, Any], where: str = "the state dict") -> Source:
    values = dict(_flatten(state))
    tensors = {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
    others = [name for name in values if name not in tensors]
    if not tensors:
        raise WeightsError(f"{where} holds {', '.join(others[:3]) or 'nothing'}, "
                           "where tensors were expected")
    meta_tensors = {name: torch.empty_like(tensor, device="meta")
                    for name, tensor in tensors.items()}
    return Source(meta_tensors, tensors.__getitem__, others=others, where=where)


def _flatten(
    state: Mapping[Any, Any], prefix: str = "", depth: int = 4,
) -> Iterator[tuple[str, Any]]:
    """All values of a dict and of the dicts in it, down to a depth, each with its path, as in
    teacher/head.bias."""
    for name, value in state.items():
        if isinstance(value, Mapping) and depth:  # a dict of a file may even hold itself
            yield from _flatten(value, f"{prefix}{name}/", depth - 1)
        else:
            yield f"{prefix}{name}", value


def _open_module(module: nn.Module) -> Source:
    source = _open_state_dict(module.state_dict(), "the module")
    source.module = module
    # timm's models carry the preprocessing of their weights; "squash" resizes to a square.
    configs: list[Any] = [getattr(part, "pretrained_cfg", None) for part in module.modules()]
    if config := next(filter(None, configs), None):
        source.preprocessing = Preprocessing(
            crop_pct=None if config.get("crop_mode") == "squash" else config["crop_pct"],
            interpolation=config["interpolation"],
            mean=tuple(config["mean"]), std=tuple(config["std"]))
    return source


# ---------------------------------------------------------------------------------------------------------------------
# Files


def _open_npz(path: Path) -> Source:
    read_header = {(1, 0): np.lib.format.read_array_header_1_0,
                   (2, 0): np.lib.format.read_array_header_2_0}
    try:
        # Without pickle, numpy reads numbers alone and runs no code.
        arrays = np.load(path, allow_pickle=False)
        meta_tensors = {}
        for name in arrays.files:
            # numpy would read the whole array to give its shape: only its header is decoded here.
            with arrays.zip.open(f"{name}.npy") as file:
                version = np.lib.format.read_magic(file)
                shape, _, dtype = read_header[version](file)
            if dtype.hasobject:
                raise WeightsError(
                    f"{path}: {name} holds Python objects, which can run code; it is not loaded")
            meta_tensors[name] = torch.empty(shape, device="meta")
    except WeightsError:
        raise
    except Exception as error:  # on a broken file, anything from OSError to TokenError
        raise WeightsError(
            f"{path} is cut short, damaged, or no .npz file at all: {reason_of(error)}") from None

    def get(name: str) -> torch.Tensor:
        try:
            array = arrays[name]
        except Exception as error:  # as above
            raise WeightsError(f"{path} is damaged, in {name}: {reason_of(error)}") from None
        if array.dtype.kind == "V" and array.dtype.itemsize == 2:  # bfloat16, unknown to numpy
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)

    return Source(meta_tensors, get, lazy=True)


def _open_safetensors(path: Path) -> Source:
    safetensors = import_optional("safetensors", f"read {path}")
    try:
        file = safetensors.safe_open(path, framework="pt")
        meta_tensors = {name: torch.empty(file.get_slice(name).get_shape(), device="meta")
                        for name in file.keys()}
        said = json.loads((file.metadata() or {}).get(METADATA, "{}"))  # of a file of ours
        settings, preprocessing = said.get("settings", {}), said.get("preprocessing")
        if "image_size" in settings:
            settings["image_size"] = size_of(*sides(settings["image_size"]))
        if preprocessing:
            lists = {name: tuple(preprocessing[name]) for name in ("mean", "std")}
            preprocessing = Preprocessing(**{**preprocessing, **lists})
    except (safetensors.SafetensorError, OSError, ValueError, TypeError, AttributeError,
            KeyError) as error:
        raise WeightsError(f"{path} is cut short, damaged, or no safetensors file at all: "
                           f"{reason_of(error)}") from None
    return Source(meta_tensors, file.get_tensor, lazy=True, settings=settings,
                  preprocessing=preprocessing)


def _open_pickle(path: Path) -> Source:
    # Mapped into memory: a tensor is read as it is used. Code in the pickle is never run.
    try:
        state = utils.load_tensors(path, mmap=True)
    except utils.CheckpointError as error:
        raise WeightsError(str(error)) from None
    if not isinstance(state, Mapping):
        raise WeightsError(
            f"{path} holds {type(state).__name__}, where a dict of tensors was expected")
    return _open_state_dict(state, str(path))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
        if not isinstance(values, dict):
            raise ValueError("no JSON object")
        return values
    except FileNotFoundError:
        raise WeightsError(f"there is no {path.name} in {path.parent}: neither transformers nor "
                           "timm has written this folder") from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {reason_of(error)}") from None


def _open_folder(folder: Path) -> Source:
    """A folder that save_pretrained of transformers, or save_for_hf of timm, has written."""
    config = _read_json(folder / "config.json")
    if "architecture" in config:  # timm
        return _download("timm", f"local-dir:{folder}")
    if config.get("model_type") != "vit":
        raise WeightsError(f"{folder} holds a model of the type {config.get('model_type')!r}; of "
                           "transformers' models only those of the type 'vit' can be loaded")
    activation = config.get("hidden_act", "gelu")
    if activation not in GELUS:
        raise WeightsError(f"the activation in {folder} is {activation}; a ViT of ours has GELU: "
                           f"{', '.join(GELUS)}")
    source = _open_shards(folder)
    # Where the file does not say one, transformers takes its own default.
    source.settings = {
        "layer_norm_eps": config.get("layer_norm_eps", 1e-12), "gelu": GELUS[activation],
        "num_heads": config.get("num_attention_heads", 12),
        "image_size": size_of(*sides(config.get("image_size", 224)))}
    if (file := folder / "preprocessor_config.json").exists():
        source.preprocessing = _preprocessing_of_transformers(_read_json(file))
    return source


def _open_shards(folder: Path) -> Source:
    """The weights in a folder of transformers, in one file or in several with an index."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            source = open_source(folder / name)
        elif index.is_file():
            source = _joined(folder, _read_json(index).get("weight_map", {}))
        else:
            continue
        source.where = str(folder)
        return source
    raise WeightsError(f"there are no weights in {folder}, neither model.safetensors nor "
                       "pytorch_model.bin")


def _joined(folder: Path, file_of: dict[str, str]) -> Source:
    """Several files of a folder as one source. file_of: the file of each tensor."""
    shards = {file: open_source(folder / Path(file).name) for file in {*file_of.values()}}
    if missing := [name for name, file in file_of.items() if name not in shards[file].meta_tensors]:
        raise WeightsError(f"the index of the weights names {missing[0]}, which {file_of[missing[0]]} "
                           "does not hold")
    meta_tensors = {name: shards[file].meta_tensors[name] for name, file in file_of.items()}
    return Source(meta_tensors, lambda name: shards[file_of[name]].get(name), lazy=True)


def _preprocessing_of_transformers(config: dict[str, Any]) -> Preprocessing:
    """What a preprocessor_config.json says; transformers scales tensors."""
    crop_pct, size = None, config.get("size")
    if config.get("do_center_crop") and isinstance(size, dict):
        # The size is of the short side, or of a square.
        crop = config["crop_size"]
        crop_pct = ((crop["height"] if isinstance(crop, dict) else crop)
                    / size.get("shortest_edge", size.get("height")))
    mean, std = config.get("image_mean", (0.5,) * 3), config.get("image_std", (0.5,) * 3)
    if not config.get("do_normalize", True):
        mean, std = (0.0,) * 3, (1.0,) * 3
    return Preprocessing(
        crop_pct, interpolation=Image.Resampling(config.get("resample", 2)).name.lower(),
        mean=tuple(mean), std=tuple(std), resizer="tensor")


def import_optional(library: str, purpose: str) -> ModuleType:
    """Import a library that only some uses need.

    library: the library, or one of its modules.
    purpose: what it is needed for, "read vit.safetensors" for example.
    Raises WeightsError, which says how to install it, where it is missing.
    """
    try:
        return importlib.import_module(library)
    except ImportError:
        package = library.partition(".")[0]
        raise WeightsError(f"{package} is needed to {purpose}: pip install {package}") from None


# ---------------------------------------------------------------------------------------------------------------------
# Downloads: from an address, or from where each library publishes its weights


def _open_address(address: str) -> Source:
    """A file on the web, downloaded once, into the folder where PyTorch keeps such files."""
    if address.startswith("gs://"):  # as the paper's authors give theirs
        address = address.replace("gs://", "https://storage.googleapis.com/", 1)
    name = Path(urllib.parse.urlparse(address).path).name
    if Path(name).suffix not in SUFFIXES:
        raise WeightsError(f"{address} is no address of a file of weights, which ends in "
                           f"{', '.join(SUFFIXES)}")
    # Files of different addresses often have the same name.
    digest = hashlib.sha256(address.encode()).hexdigest()[:16]
    path = Path(torch.hub.get_dir()) / "checkpoints" / f"{digest}-{name}"
    if not path.exists():
        print(f"weights: downloading {address} ...", flush=True)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            utils.write_atomically(path, lambda temporary: fetch(address, temporary))
        except (DataError, OSError) as error:
            raise WeightsError(f"{address} cannot be had: {reason_of(error)}") from None
    try:
        opened = open_source(path)
    except WeightsError as error:
        path.unlink()  # so that the next try downloads it again
        raise WeightsError(f"{address} gives no weights: {error}") from None
    opened.where = address
    return opened


def _download(library: str, name: str) -> Source:
    try:
        return DOWNLOADERS[library](name)
    except WeightsError:
        raise
    except Exception as error:  # each library has its own for no network or an unknown name
        raise WeightsError(f"{library}:{name} cannot be had: {reason_of(error)}; check the name and "
                           "the network, or give a file") from None


def _download_torchvision(name: str) -> Source:
    model, _, weights_name = name.partition("/")
    weights: Any = torchvision.models.get_model_weights(model)[weights_name or "DEFAULT"]
    source = _open_module(torchvision.models.get_model(model, weights=weights))
    transform = weights.transforms()
    source.preprocessing = Preprocessing(
        crop_pct=transform.crop_size[0] / transform.resize_size[0],
        interpolation=transform.interpolation.value,
        mean=tuple(transform.mean), std=tuple(transform.std))
    return source


def _download_timm(name: str) -> Source:
    timm: Any = import_optional("timm", f"download {name}")
    return _open_module(timm.create_model(name, pretrained=True))


def _download_transformers(name: str) -> Source:
    if Path(name).is_dir():
        return _open_folder(Path(name))
    hub: Any = import_optional("huggingface_hub", f"download {name}")

    def fetched(*files: str) -> Path:
        return Path(hub.snapshot_download(name, allow_patterns=["*config.json", *files]))

    folder = fetched("model*.safetensors", "model.safetensors.index.json")
    if not [*folder.glob("model*.safetensors")]:
        folder = fetched("pytorch_model*.bin", "pytorch_model.bin.index.json")
    source = _open_folder(folder)
    source.where = f"transformers:{name}"
    return source


DOWNLOADERS: dict[str, Callable[[str], Source]] = {
    "torchvision": _download_torchvision,
    "timm": _download_timm,
    "transformers": _download_transformers,
}
