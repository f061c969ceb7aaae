"""Weights of other libraries into a ViT and back: the same numbers, so the same logits.

    model = weights.load("B/16", "torchvision:vit_b_16/IMAGENET1K_V1")
    weights.save_as(model, "timm", "vit.safetensors")

A layout is what one library calls its weights and how it lays them out; all four stand in one table. As a command:
python -m going_modular.weights info SOURCE, python -m going_modular.weights convert SOURCE KIND FILE.
"""
import argparse
import importlib
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from torch import nn
from torchvision.transforms import InterpolationMode, v2

from going_modular import utils
from going_modular.data_setup import reason_of
from going_modular.vit import VARIANTS, ViT, count_parameters


class WeightsError(ValueError):
    """Weights that cannot be used. The message says what was found, and lists what is missing, left over, or of
    another shape."""


# ---------------------------------------------------------------------------------------------------------------------
# Preprocessing


@dataclass(frozen=True)
class Preprocessing:
    """How a library prepares an image for its weights: PIL image -> float tensor [3, image_size, image_size].

    share: what the central crop leaves of the scaled image's short side; None scales straight to a square.
    antialias: False samples the image without a filter, as TensorFlow does.
    """

    share: float | None
    interpolation: str
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    antialias: bool = True

    def at(self, image_size: int) -> v2.Compose:
        """The transform for images of this size."""
        mode = InterpolationMode(self.interpolation)
        to_tensor = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
        size = (image_size, image_size) if self.share is None else int(image_size / self.share)
        resize = [v2.Resize(size, mode, antialias=self.antialias)]
        # Pillow has no resize without antialias, a tensor has
        steps = [*resize, *to_tensor] if self.antialias else [*to_tensor, *resize]
        return v2.Compose([*steps, v2.CenterCrop(image_size), v2.Normalize(list(self.mean), list(self.std))])


IMAGENET = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

# ---------------------------------------------------------------------------------------------------------------------
# Layouts


@dataclass(frozen=True)
class Layout:
    """How a library names and shapes the weights of a ViT.

    names: ours -> theirs, {i} the number of a block, {leaf} weight or bias; three names for q, k and v apart.
    older: (pattern, replacement) for names of other versions, which are read as those in `names`.
    """

    kind: str
    settings: dict  # what the names do not tell: LayerNorm's epsilon and the form of GELU
    preprocessing: Preprocessing
    names: Mapping[str, str | tuple[str, str, str]]
    older: Sequence[tuple[str, str]] = ()
    adjustable: frozenset[str] = frozenset({"layer_norm_eps", "gelu"})  # the settings that the library can be told
    keeps_pre_logits: bool = False  # whether it has the pre-training head, with a tanh layer

    def theirs(self, ours: str) -> tuple[str, ...]:
        """Their name or names for one of our parameters, none where the library has nothing like it."""
        module, _, leaf = ours.rpartition(".")
        block = re.match(r"blocks\.(\d+)\.", ours)
        pattern = self.names.get(re.sub(r"^blocks\.\d+", "blocks.{i}", module) if module else ours, ())
        patterns = (pattern,) if isinstance(pattern, str) else pattern
        return tuple(p.format(i=block and block[1], leaf=self.leaf(module, leaf)) for p in patterns)

    def leaf(self, module: str, leaf: str) -> str:
        return leaf

    @property
    def mark(self) -> str:
        """A name that no other layout has."""
        return self.names["patch_embedding.projection"].format(leaf=self.leaf("", "weight"))

    def patch_shape(self, get: Callable) -> tuple[int, int]:
        """(in_channels, patch_size) of the source."""
        _, channels, patch, _ = get(self.mark).shape  # the weight of a convolution: [D, C, P, P]
        return channels, patch

    def known_settings(self, get: Callable) -> dict:
        """What the shapes tell of the settings that our own shapes do not."""
        channels, patch = self.patch_shape(get)
        return {**self.settings, "in_channels": channels, "patch_size": patch}

    def read(self, ours: str, get: Callable) -> torch.Tensor:
        """One of our parameters, from theirs, each of which `get` gives by its name."""
        parts = [get(name) for name in self.theirs(ours)]
        tensor = torch.cat(parts) if len(parts) > 1 else parts[0]
        return tensor.flatten(1) if ours == "patch_embedding.projection.weight" else tensor

    def write(self, ours: str, tensor: torch.Tensor, settings: dict) -> dict[str, torch.Tensor]:
        """Their tensors, by their names, for one of our parameters."""
        if ours == "patch_embedding.projection.weight":
            tensor = tensor.unflatten(1, (settings["in_channels"], settings["patch_size"], settings["patch_size"]))
        names = self.theirs(ours)
        return {name: part.contiguous() for name, part in zip(names, tensor.chunk(len(names)))}


class Official(Layout):
    """The .npz files of the paper's authors: kernels are the transpose of PyTorch's weights, and heads an axis."""

    def leaf(self, module: str, leaf: str) -> str:
        if leaf == "bias":
            return leaf
        return "scale" if "norm" in module else "kernel"

    def patch_shape(self, get: Callable) -> tuple[int, int]:
        patch, _, channels, _ = get(self.mark).shape  # [P, P, C, D]
        return channels, patch

    def known_settings(self, get: Callable) -> dict:
        query = self.theirs("blocks.0.msa.qkv.weight")[0]
        return {**super().known_settings(get), "num_heads": get(query).shape[1]}  # [D, k, D_h]

    def read(self, ours: str, get: Callable) -> torch.Tensor:
        parts = [get(name) for name in self.theirs(ours)]
        if ours == "patch_embedding.projection.weight":
            return parts[0].permute(3, 2, 0, 1).flatten(1)
        if ours.endswith("msa.qkv.weight"):
            return torch.cat([part.flatten(1).T for part in parts])
        if ours.endswith("msa.qkv.bias"):
            return torch.cat([part.flatten() for part in parts])
        if ours.endswith("msa.out.weight"):
            return parts[0].flatten(0, 1).T
        return parts[0].T if parts[0].ndim == 2 else parts[0]

    def write(self, ours: str, tensor: torch.Tensor, settings: dict) -> dict[str, torch.Tensor]:
        names, heads = self.theirs(ours), settings["num_heads"]
        if ours == "patch_embedding.projection.weight":
            tensor = tensor.unflatten(1, (settings["in_channels"], settings["patch_size"], settings["patch_size"]))
            parts = [tensor.permute(2, 3, 1, 0)]
        elif ours.endswith("msa.qkv.weight"):
            parts = [part.T.unflatten(1, (heads, -1)) for part in tensor.chunk(3)]
        elif ours.endswith("msa.qkv.bias"):
            parts = [part.unflatten(0, (heads, -1)) for part in tensor.chunk(3)]
        elif ours.endswith("msa.out.weight"):
            parts = [tensor.T.unflatten(0, (heads, -1))]
        else:
            parts = [tensor.T if tensor.ndim == 2 else tensor]
        return {name: part.contiguous() for name, part in zip(names, parts)}


LAYOUTS = {layout.kind: layout for layout in (
    Layout(
        "torchvision", dict(layer_norm_eps=1e-6, gelu="erf"), Preprocessing(224 / 256, "bilinear", **IMAGENET),
        {
            "class_token": "class_token",
            "position_embedding": "encoder.pos_embedding",
            "patch_embedding.projection": "conv_proj.{leaf}",
            "blocks.{i}.norm1": "encoder.layers.encoder_layer_{i}.ln_1.{leaf}",
            "blocks.{i}.msa.qkv": "encoder.layers.encoder_layer_{i}.self_attention.in_proj_{leaf}",
            "blocks.{i}.msa.out": "encoder.layers.encoder_layer_{i}.self_attention.out_proj.{leaf}",
            "blocks.{i}.norm2": "encoder.layers.encoder_layer_{i}.ln_2.{leaf}",
            "blocks.{i}.mlp.hidden": "encoder.layers.encoder_layer_{i}.mlp.0.{leaf}",
            "blocks.{i}.mlp.out": "encoder.layers.encoder_layer_{i}.mlp.3.{leaf}",
            "norm": "encoder.ln.{leaf}",
            "pre_logits.0": "heads.pre_logits.{leaf}",
            "head": "heads.head.{leaf}",
        },
        older=[(r"\.mlp\.linear_1\.", ".mlp.0."), (r"\.mlp\.linear_2\.", ".mlp.3.")],
        adjustable=frozenset({"layer_norm_eps"}), keeps_pre_logits=True,
    ),
    Layout(
        "timm", dict(layer_norm_eps=1e-6, gelu="erf"), Preprocessing(0.9, "bicubic"),
        {
            "class_token": "cls_token",
            "position_embedding": "pos_embed",
            "patch_embedding.projection": "patch_embed.proj.{leaf}",
            "blocks.{i}.norm1": "blocks.{i}.norm1.{leaf}",
            "blocks.{i}.msa.qkv": "blocks.{i}.attn.qkv.{leaf}",
            "blocks.{i}.msa.out": "blocks.{i}.attn.proj.{leaf}",
            "blocks.{i}.norm2": "blocks.{i}.norm2.{leaf}",
            "blocks.{i}.mlp.hidden": "blocks.{i}.mlp.fc1.{leaf}",
            "blocks.{i}.mlp.out": "blocks.{i}.mlp.fc2.{leaf}",
            "norm": "norm.{leaf}",
            "pre_logits.0": "pre_logits.fc.{leaf}",  # before version 0.6
            "head": "head.{leaf}",
        },
    ),
    Layout(
        "transformers", dict(layer_norm_eps=1e-12, gelu="erf"), Preprocessing(None, "bilinear"),
        {  # the names of the files on the hub, which all versions read; `older` has those of version 5
            "class_token": "vit.embeddings.cls_token",
            "position_embedding": "vit.embeddings.position_embeddings",
            "patch_embedding.projection": "vit.embeddings.patch_embeddings.projection.{leaf}",
            "blocks.{i}.norm1": "vit.encoder.layer.{i}.layernorm_before.{leaf}",
            "blocks.{i}.msa.qkv": tuple(
                f"vit.encoder.layer.{{i}}.attention.attention.{x}.{{leaf}}" for x in ("query", "key", "value")),
            "blocks.{i}.msa.out": "vit.encoder.layer.{i}.attention.output.dense.{leaf}",
            "blocks.{i}.norm2": "vit.encoder.layer.{i}.layernorm_after.{leaf}",
            "blocks.{i}.mlp.hidden": "vit.encoder.layer.{i}.intermediate.dense.{leaf}",
            "blocks.{i}.mlp.out": "vit.encoder.layer.{i}.output.dense.{leaf}",
            "norm": "vit.layernorm.{leaf}",
            "pre_logits.0": "vit.pooler.dense.{leaf}",
            "head": "classifier.{leaf}",
        },
        older=[
            (r"^(embeddings|encoder|layers|layernorm|pooler)\.", r"vit.\1."),  # a ViTModel, without its classifier
            (r"^vit\.layers\.", "vit.encoder.layer."),
            (r"\.attention\.q_proj\.", ".attention.attention.query."),
            (r"\.attention\.k_proj\.", ".attention.attention.key."),
            (r"\.attention\.v_proj\.", ".attention.attention.value."),
            (r"\.attention\.o_proj\.", ".attention.output.dense."),
            (r"\.mlp\.fc1\.", ".intermediate.dense."),
            (r"\.mlp\.fc2\.", ".output.dense."),
        ],
    ),
    Official(
        "official", dict(layer_norm_eps=1e-6, gelu="tanh"), Preprocessing(None, "bilinear", antialias=False),
        {
            "class_token": "cls",
            "position_embedding": "Transformer/posembed_input/pos_embedding",
            "patch_embedding.projection": "embedding/{leaf}",
            "blocks.{i}.norm1": "Transformer/encoderblock_{i}/LayerNorm_0/{leaf}",
            "blocks.{i}.msa.qkv": tuple(
                f"Transformer/encoderblock_{{i}}/MultiHeadDotProductAttention_1/{x}/{{leaf}}"
                for x in ("query", "key", "value")),
            "blocks.{i}.msa.out": "Transformer/encoderblock_{i}/MultiHeadDotProductAttention_1/out/{leaf}",
            "blocks.{i}.norm2": "Transformer/encoderblock_{i}/LayerNorm_2/{leaf}",
            "blocks.{i}.mlp.hidden": "Transformer/encoderblock_{i}/MlpBlock_3/Dense_0/{leaf}",
            "blocks.{i}.mlp.out": "Transformer/encoderblock_{i}/MlpBlock_3/Dense_1/{leaf}",
            "norm": "Transformer/encoder_norm/{leaf}",
            "pre_logits.0": "pre_logits/{leaf}",
            "head": "head/{leaf}",
        },
        older=[
            (r"^(opt/target|params)/", ""),
            (r"MultiHeadDotProductAttention_0", "MultiHeadDotProductAttention_1"),
            (r"(encoderblock_\d+)/LayerNorm_1", r"\1/LayerNorm_2"),
            (r"MlpBlock_0", "MlpBlock_3"),
        ],
        adjustable=frozenset(), keeps_pre_logits=True,
    ),
)}

# Relatives of the ViT that these layouts can't hold, by something in their names.
STRANGERS = [
    (r"dist_token|distillation_token|head_dist", "a distilled DeiT, which has two tokens"),
    (r"reg_token|register_tokens", "register tokens, as in DINOv2 and v3"),
    (r"attn_pool|MAPHead|vision_model\.head", "attention pooling, as in SigLIP"),
    (r"fc_norm", "a LayerNorm after average pooling"),
    (r"\.ls1\.|layer_scale|\.gamma_1", "LayerScale, as in DeiT III and DINOv2"),
    (r"q_norm", "normalised queries and keys"),
    (r"norm_pre|pre_layrnorm|ln_pre", "a LayerNorm before the first layer, as in CLIP"),
    (r"rel_pos|relative_position", "relative positions, as in BEiT"),
]

# Resizing of position embeddings, each way as its library does it.
POSITIONS = {
    "official": dict(mode="bilinear", align_corners=True),
    "timm": dict(mode="bicubic", align_corners=False, antialias=True),
    "torchvision": dict(mode="bicubic", align_corners=True),
    "transformers": dict(mode="bicubic", align_corners=False),
}


# ---------------------------------------------------------------------------------------------------------------------
# Sources


@dataclass
class Source:
    """Weights to read: their shapes by name, as tensors without data, and `get`, which reads one by its name."""

    shapes: dict[str, torch.Tensor]
    get: Callable[[str], torch.Tensor]
    lazy: bool = False  # read from a file, piece by piece
    settings: dict = field(default_factory=dict)  # what a module tells beyond its weights
    preprocessing: Preprocessing | None = None  # None: that of the layout


def open_source(source: Mapping | nn.Module | str | Path) -> Source:
    """A source of `load` as what can be read from. Raises WeightsError where there is nothing that can."""
    if isinstance(source, nn.Module):
        return _open_module(source)
    if isinstance(source, Mapping):
        return _open_mapping(source)
    if not isinstance(source, (str, Path)):
        raise WeightsError(f"a source is a file, a name, a module or its state dict, not {type(source).__name__}")
    library, colon, name = str(source).partition(":")
    if colon and library in DOWNLOADS:
        return _download(library, name)
    path = Path(source)
    if not path.is_file():
        raise WeightsError(f"there is no file {path}; a name that is downloaded starts with "
                           f"{', '.join(f'{library}:' for library in DOWNLOADS)}")
    if path.suffix == ".npz":
        return _open_npz(path)
    return _open_safetensors(path) if path.suffix == ".safetensors" else _open_pickle(path)


def _open_mapping(state: Mapping, where: str = "the state dict") -> Source:
    for key in ("model", "state_dict"):  # how DeiT, MAE, DINO and others wrap their weights
        if isinstance(state.get(key), Mapping):
            state = state[key]
    others = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if others or not state:
        raise WeightsError(f"{where} holds {', '.join(map(str, others[:3])) or 'nothing'}, where tensors were expected")
    if all(name.startswith("module.") for name in state):  # DistributedDataParallel
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return Source({name: torch.empty_like(tensor, device="meta") for name, tensor in state.items()}, state.__getitem__)


def _open_module(module: nn.Module) -> Source:
    source = _open_mapping(module.state_dict(), "the module")
    parts = list(module.modules())
    source.settings = dict(next(({"layer_norm_eps": part.eps} for part in parts if isinstance(part, nn.LayerNorm)), {}))
    for name in ("num_heads", "num_attention_heads"):  # in the blocks of torchvision and timm; of transformers
        heads = {getattr(part, name) for part in parts if isinstance(getattr(part, name, None), int)}
        if len(heads) == 1:
            source.settings["num_heads"] = heads.pop()
    gelu = {part.approximate for part in parts if isinstance(part, nn.GELU)}
    if gelu:
        source.settings["gelu"] = "tanh" if "tanh" in gelu else "erf"
    if config := getattr(module, "pretrained_cfg", None):  # timm's
        share = None if config.get("crop_mode") == "squash" else config["crop_pct"]
        source.preprocessing = Preprocessing(share, config["interpolation"], config["mean"], config["std"])
    return source


def _open_npz(path: Path) -> Source:
    try:
        arrays = np.load(path, allow_pickle=False)
        shapes = {}
        for name in arrays.files:
            with arrays.zip.open(f"{name}.npy") as file:  # the header alone
                version = np.lib.format.read_magic(file)
                read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                shape, _, dtype = read[version](file)
            if dtype.hasobject:
                raise WeightsError(f"{path}: {name} holds Python objects, which can run code; it is not loaded")
            shapes[name] = torch.empty(shape, device="meta")
    except Exception as error:  # a broken file makes numpy and zipfile raise anything from OSError to TokenError
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{path} is cut short, damaged, or no .npz file at all: {reason_of(error)}") from None

    def get(name: str) -> torch.Tensor:
        try:
            array = arrays[name]
        except Exception as error:  # as above
            raise WeightsError(f"{path} is damaged, in {name}: {reason_of(error)}") from None
        if array.dtype.kind == "V" and array.dtype.itemsize == 2:  # bfloat16, which numpy does not know
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)

    return Source(shapes, get, lazy=True)


def _open_safetensors(path: Path) -> Source:
    safetensors = _import("safetensors", f"read {path}")
    try:
        file = safetensors.safe_open(path, framework="pt")
        shapes = {name: torch.empty(file.get_slice(name).get_shape(), device="meta") for name in file.keys()}
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is cut short, damaged, or no safetensors file at all: {reason_of(error)}") from None
    return Source(shapes, file.get_tensor, lazy=True)


def _open_pickle(path: Path) -> Source:
    try:
        state = utils.load_tensors(path, mmap=True)
    except utils.CheckpointError as error:
        raise WeightsError(str(error)) from None
    if not isinstance(state, Mapping):
        raise WeightsError(f"{path} holds {type(state).__name__}, where a dict of tensors was expected")
    return _open_mapping(state, str(path))


def _import(library: str, purpose: str):
    try:
        return importlib.import_module(library)
    except ImportError:
        raise WeightsError(f"{library} is needed to {purpose}: pip install {library}") from None


def _download(library: str, name: str) -> Source:
    """Have a library download the weights that it owns."""
    _import(library, f"download {name}")
    try:
        return DOWNLOADS[library](name)
    except WeightsError:
        raise
    except Exception as error:  # each library raises its own for no network, an unknown name, a broken download
        reason = reason_of(error)
        raise WeightsError(f"{library}:{name} cannot be had: {reason}; check the name and the network, or give a "
                           "file") from None


def _download_torchvision(name: str) -> Source:
    model, _, weights = name.partition("/")
    weights = torchvision.models.get_model_weights(model)[weights or "DEFAULT"]
    source = _open_module(torchvision.models.get_model(model, weights=weights))
    of_theirs = weights.transforms()
    source.preprocessing = Preprocessing(
        of_theirs.crop_size[0] / of_theirs.resize_size[0], of_theirs.interpolation.value, of_theirs.mean, of_theirs.std)
    return source


def _download_timm(name: str) -> Source:
    import timm

    return _open_module(timm.create_model(name, pretrained=True))


def _download_transformers(name: str) -> Source:
    import transformers

    source = _open_module(transformers.ViTForImageClassification.from_pretrained(name))
    of_theirs = transformers.AutoImageProcessor.from_pretrained(name)
    size, crop = of_theirs.size, of_theirs.crop_size if getattr(of_theirs, "do_center_crop", False) else None
    source.preprocessing = Preprocessing(
        crop["height"] / size.get("shortest_edge", size.get("height")) if crop else None,
        Image.Resampling(of_theirs.resample).name.lower(), of_theirs.image_mean, of_theirs.image_std)
    return source


DOWNLOADS = {"torchvision": _download_torchvision, "timm": _download_timm, "transformers": _download_transformers}


# ---------------------------------------------------------------------------------------------------------------------
# Load, save


def load(
    model_or_variant: ViT | str, source: Mapping[str, torch.Tensor] | nn.Module | str | Path,
    num_classes: int | None = None, image_size: int | None = None, positions: str = "official",
) -> ViT:
    """Load weights of another library: a given ViT is filled in place, a variant ("B/16") is built to fit the source.

    source: a file (.npz, .safetensors, or one of torch.save), a state dict, a module, or a name that is downloaded by
        the library that owns it: torchvision:MODEL/WEIGHTS, timm:MODEL, transformers:OWNER/MODEL. The layout is found
        out by the names inside.
    num_classes: None keeps the source's classes and head; another number gives one fresh linear layer of zeros.
    image_size: in pixels; None keeps the source's; at another one the position embeddings are interpolated.
    positions: in whose way: "official" (the paper's, Section 3.2), "timm", "torchvision" or "transformers".
    A given model must have the source's sizes, or these. The model gets the attribute `preprocessing`, the transform
    that its weights expect: PIL image -> [3, image_size, image_size].
    Raises WeightsError where the layout is unknown, or anything is missing, left over, or of another shape; a given
    model is unchanged then.
    """
    source = open_source(source)
    layout, source = identify(source)
    settings = settings_of(layout, source)
    fresh_head = num_classes not in (None, settings["num_classes"])
    if fresh_head:
        settings |= {"num_classes": num_classes, "representation_size": None}
    if settings["num_classes"] is None:
        raise WeightsError(f"the source has no head ({layout.theirs('head.weight')[0]}): say how many classes a fresh "
                           "one is for, num_classes=...")
    resized = image_size not in (None, settings["image_size"])
    if resized:
        if image_size % settings["patch_size"]:
            raise WeightsError(f"the patch size {settings['patch_size']} does not divide the image size {image_size}")
        settings["image_size"] = image_size
    if positions not in POSITIONS:
        raise WeightsError(f"positions must be one of {', '.join(POSITIONS)}, not {positions!r}")

    model, built = model_or_variant, isinstance(model_or_variant, str)
    if built:
        of_a_variant = {"num_layers", "hidden_size", "mlp_size", "num_heads"}
        others = {name: value for name, value in settings.items() if name not in of_a_variant}
        try:
            with torch.device("meta"):
                model = ViT.from_variant(model, **others)
        except ValueError as error:
            raise WeightsError(f"{error} (the source: {layout.kind}, {settings['in_channels']} channels)") from None
    different = [f"{name} is {model.settings[name]} in the model, {value} in the source"
                 for name, value in {**settings, "pool": "token"}.items() if model.settings[name] != value]
    if different:
        raise WeightsError("; ".join(different))
    if problems := problems_of(layout, source, model, fresh_head):
        raise WeightsError("the weights do not fit the model; " + shortened(problems))

    def tensor(name: str) -> torch.Tensor:
        if fresh_head and name.startswith("head."):
            return torch.zeros(())
        value = layout.read(name, source.get)
        if resized and name == "position_embedding":
            return resize_positions(value, image_size // settings["patch_size"], positions)
        return value

    if built:
        model.to_empty(device=torch.get_default_device())
    own = model.state_dict()  # shares its memory with the model
    tensors = ((name, tensor(name)) for name in own)
    if source.lazy and not built:
        tensors = list(tensors)  # all is read before the first of the model's tensors is changed
    for name, value in tensors:
        own[name].copy_(value)
    model.preprocessing = (source.preprocessing or layout.preprocessing).at(settings["image_size"])
    return model


def identify(source: Source) -> tuple[Layout, Source]:
    """The layout of a source, and the source under the names of that layout.

    Raises WeightsError for an unknown layout, and for relatives of the ViT that none of the layouts can hold.
    """
    for layout in LAYOUTS.values():
        names = {}
        for name in source.shapes:
            new = name
            for pattern, replacement in layout.older:
                new = re.sub(pattern, replacement, new)
            names[new] = name
        if layout.mark in names:
            break
    else:
        layout = None
    strange = [f"{explanation} ({name})" for pattern, explanation in STRANGERS
               for name in [next((name for name in source.shapes if re.search(pattern, name)), None)] if name]
    if strange:
        raise WeightsError(f"this is no Vision Transformer of the paper: it has {'; '.join(strange)}")
    if layout is None:
        if "patch_embedding.projection.weight" in source.shapes:
            raise WeightsError("these are weights of this package itself: use utils.load_model, or load_state_dict")
        raise WeightsError(f"unknown layout, with names such as {', '.join(list(source.shapes)[:3])}; known are: "
                           f"{', '.join(LAYOUTS)}")
    if layout.theirs("class_token")[0] not in names:
        raise WeightsError(f"there is no class token ({layout.kind}: {layout.theirs('class_token')[0]} is missing)")
    shapes = {new: source.shapes[old] for new, old in names.items()}
    return layout, replace(source, shapes=shapes, get=lambda name: source.get(names[name]))


def settings_of(layout: Layout, source: Source) -> dict:
    """The settings of the ViT that a source fits, as far as it tells them: num_heads only where its shapes or its
    module do. num_classes is None where the source has no head."""
    def shape(ours: str) -> torch.Size:
        names = layout.theirs(ours)
        missing = [name for name in names if name not in source.shapes]
        if missing:
            raise WeightsError(f"missing: {', '.join(missing)}")
        return layout.read(ours, source.shapes.__getitem__).shape

    settings = {**layout.known_settings(source.shapes.__getitem__), **source.settings}
    _, tokens, hidden_size = shape("position_embedding")
    grid = math.isqrt(tokens - 1)
    if grid**2 != tokens - 1:
        raise WeightsError(f"{tokens} position embeddings are not those of a class token and a square of patches")
    layers = 0
    while layout.theirs(f"blocks.{layers}.norm1.weight")[0] in source.shapes:
        layers += 1
    sizes = {name: len(source.shapes[theirs]) if theirs in source.shapes else None for name, theirs in (
        ("num_classes", layout.theirs("head.bias")[0]), ("representation_size", layout.theirs("pre_logits.0.bias")[0]))}
    return settings | sizes | {
        "image_size": grid * settings["patch_size"], "num_layers": layers, "hidden_size": hidden_size,
        "mlp_size": shape("blocks.0.mlp.hidden.bias")[0],
    }


def problems_of(layout: Layout, source: Source, model: ViT, fresh_head: bool) -> list[str]:
    """What is missing, left over, or of another shape, when the source is to fill the model."""
    problems, used = [], set()
    for ours, own in model.state_dict().items():
        names = layout.theirs(ours)
        used.update(names)
        if fresh_head and ours.startswith("head."):
            continue
        if missing := [name for name in names if name not in source.shapes]:
            problems += [f"missing: {name}" for name in missing]
            continue
        shape = layout.read(ours, source.shapes.__getitem__).shape
        fits = shape[2:] == own.shape[2:] if ours == "position_embedding" else shape == own.shape
        if not fits:
            problems.append(f"{', '.join(names)} has the shape {[*shape]}, the model's is {[*own.shape]}")
    if fresh_head:  # the old head goes as a whole, its tanh layer too
        used.update(*(layout.theirs(f"{module}.{leaf}") for module in ("pre_logits.0", "head")
                      for leaf in ("weight", "bias")))
    return problems + [f"left over: {name}" for name in source.shapes if name not in used]


def shortened(problems: Sequence[str], most: int = 20) -> str:
    more = [f"and {len(problems) - most} more"] if len(problems) > most else []
    return "; ".join([*problems[:most], *more])


def resize_positions(positions: torch.Tensor, grid: int, way: str = "official") -> torch.Tensor:
    """Interpolate position embeddings [1, 1 + n * n, D] to [1, 1 + grid * grid, D]; that of the class token, if there
    is one, is kept as it is.

    way: "official", bilinear with aligned corners, as the paper's code does for fine-tuning at another resolution
    (Section 3.2); or "timm", "torchvision", "transformers", each as that library does it.
    """
    size = math.isqrt(positions.shape[1])
    token, old = positions[:, : -(size**2)], positions[:, -(size**2) :]  # no token where patches are averaged
    old = old.transpose(1, 2).unflatten(2, (size, size))  # [1, D, n, n]
    new = F.interpolate(old, size=(grid, grid), **POSITIONS[way])
    return torch.cat([token, new.flatten(2).transpose(1, 2)], dim=1)


def save_as(model: ViT, kind: str, file: str | Path) -> dict:
    """Save a ViT's weights under the names of a library: "torchvision", "timm", "transformers", or "official" (.npz).

    file: ends in .npz for "official", else in .safetensors, or in .pt or .pth to be written by torch.save.
    Returns the settings that the library must be told, as they are not its defaults: {"layer_norm_eps": 1e-6} for a
    ViT of ours in transformers. Raises WeightsError for a model that the library can't hold.
    """
    file = Path(file)
    if kind not in LAYOUTS:
        raise WeightsError(f"unknown kind {kind!r}: choose one of {', '.join(LAYOUTS)}")
    layout = LAYOUTS[kind]
    suffixes = [".npz"] if kind == "official" else [".safetensors", ".pt", ".pth"]
    if file.suffix not in suffixes:
        raise WeightsError(f"a file for {kind} ends in {' or '.join(suffixes)}, not in {file.name!r}")
    if model.settings["pool"] != "token":
        raise WeightsError(f"this model has no class token, which {kind} needs")
    if model.settings["representation_size"] and not layout.keeps_pre_logits:
        raise WeightsError(f"this model has a tanh layer before its head, for which {kind} has no place")
    told = {name: model.settings[name] for name, default in layout.settings.items() if model.settings[name] != default}
    if fixed := told.keys() - layout.adjustable:
        raise WeightsError(f"{kind} computes with other settings, which can't be changed: " + ", ".join(
            f"{name} {layout.settings[name]}, this model has {told[name]}" for name in sorted(fixed)))

    tensors = {}
    for name, tensor in model.state_dict().items():
        tensors |= layout.write(name, tensor.cpu(), model.settings)

    def write(temporary: Path) -> None:
        if file.suffix == ".npz":
            with open(temporary, "wb") as target:
                np.savez(target, **{name: tensor.numpy() for name, tensor in tensors.items()})
        elif file.suffix == ".safetensors":
            _import("safetensors.torch", f"write {file}").save_file(tensors, temporary, metadata={"format": "pt"})
        else:
            torch.save(tensors, temporary)

    utils.write_atomically(file, write)
    return told


# ---------------------------------------------------------------------------------------------------------------------
# The command


def variant_of(settings: dict) -> str | None:
    """The paper's name of these sizes, B/16 for example; None where they have none."""
    for name, sizes in VARIANTS.items():
        if all(settings.get(key, value) == value for key, value in sizes.items()):
            return f"{name}/{settings['patch_size']}"
    return None


def model_of(source: str) -> ViT:
    """The model of a file or a name of `load`, of a run folder, or of a checkpoint of this package."""
    path = Path(source)
    if path.is_dir() or (path.is_file() and utils.is_checkpoint(path)):
        return utils.load_model(path)[0]
    settings = settings_of(*identify(open_source(source)))
    variant = variant_of(settings)
    if variant is None:
        raise WeightsError(f"no variant has these sizes: {settings}; build a ViT and fill it by weights.load")
    return load(variant, source)


def description(source: str) -> str:
    """What a source holds, a line for each thing."""
    path = Path(source)
    if path.is_dir() or (path.is_file() and utils.is_checkpoint(path)):
        model, info = utils.load_model(path)
        settings, kind, problems = model.settings, "going_modular", []
        parameters, classes = count_parameters(model), f"{len(info.class_names)}: {', '.join(info.class_names)}"
    else:
        layout, opened = identify(open_source(source))
        settings, kind = settings_of(layout, opened), layout.kind
        parameters, classes = sum(shape.numel() for shape in opened.shapes.values()), settings["num_classes"]
        with torch.device("meta"):
            fitting = {name: value for name, value in settings.items() if value is not None}
            model = ViT(**{"num_heads": 1, **fitting})
        problems = problems_of(layout, opened, model, fresh_head=classes is None)
    lines = {
        "layout": kind, "variant": variant_of(settings) or "none of the paper's",
        "image size": f"{settings['image_size']} px, patches of {settings['patch_size']} px, "
                      f"{settings['in_channels']} channels",
        "sizes": f"{settings['num_layers']} layers, hidden size {settings['hidden_size']}, "
                 f"MLP size {settings['mlp_size']}, {settings.get('num_heads', 'unknown number of')} heads",
        "computed with": f"LayerNorm epsilon {settings['layer_norm_eps']:g}, GELU {settings['gelu']}",
        "tanh layer": settings["representation_size"] or "none",
        "classes": "no head" if classes is None else classes,
        "parameters": f"{parameters:,}",
    }
    if problems:
        lines["problems"] = shortened(problems)
    return "\n".join(f"{name:<14}{value}" for name, value in lines.items())


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m going_modular.weights", description="Tell what weights a file holds, or convert them.")
    commands = parser.add_subparsers(dest="command", required=True)
    of_source = dict(metavar="SOURCE", help="a file (.npz, .safetensors, .pth), the folder of a run, a checkpoint, or "
                     "a name that is downloaded: torchvision:MODEL/WEIGHTS, timm:MODEL, transformers:OWNER/MODEL")
    commands.add_parser("info", help="tell what a source holds").add_argument("source", **of_source)
    convert = commands.add_parser("convert", help="write a source's weights for another library")
    convert.add_argument("source", **of_source)
    convert.add_argument("kind", metavar="KIND", help=f"one of {', '.join(LAYOUTS)}")
    convert.add_argument("file", metavar="FILE", help="what to write: .npz for official, else .safetensors or .pth")
    args = parser.parse_args(argv)
    try:
        if args.command == "info":
            print(description(args.source))
            return 0
        told = save_as(model_of(args.source), args.kind, args.file)
        print(f"{args.file}: weights for {args.kind}")
        for name, value in told.items():
            print(f"{args.kind} must be told: {name} = {value}")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0

