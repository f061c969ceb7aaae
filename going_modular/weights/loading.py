"""Weights of other libraries into a ViT: find the layout, check all shapes, copy the tensors."""
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from going_modular import utils
from going_modular.utils import Size, sides, size_of
from going_modular.vit import VARIANTS, ViT
from going_modular.weights.identification import identify_layout
from going_modular.weights.interpolation import POSITION_INTERPOLATIONS, resize_positions
from going_modular.weights.layouts import Layout
from going_modular.weights.modules import check_head
from going_modular.weights.sources import Source, WeightsError, open_source

MOST_LISTED = 20  # mismatches that a message lists


def load(
    model_or_variant: ViT | str | None,
    source: Mapping[str, Any] | nn.Module | str | Path,
    num_classes: int | None = None, image_size: Size | None = None, positions: str = "official",
    num_heads: int | None = None,
) -> ViT:
    """Load weights of another library.

    model_or_variant: a ViT, which is filled in place, or a variant ("B/16", or as torchvision, timm
        and transformers call it), which is built to fit the source; None builds a ViT of the
        source's own sizes.
    source: a file (.npz, .safetensors, or one of torch.save) or its address, FILE#PART of a file
        with several models, a folder of save_pretrained, a state dict, a module, or a name that is
        downloaded from where its library publishes it: torchvision:MODEL/WEIGHTS, timm:MODEL,
        transformers:OWNER/MODEL. The layout is found out by the names inside.
    num_classes: None keeps the source's classes and head; another number gives a new head, one
        linear layer of zeros.
    image_size: in pixels, (H, W), or one number for a square; None keeps the source's; at another
        one the position embeddings are interpolated. A file or a state dict tells the number of
        patches alone: they are taken for a square, and where they are none, for those of image_size
        or of a given model.
    positions: whose interpolation: "official" (the paper's, Section 3.2), "timm", "torchvision" or
        "transformers".
    num_heads: for weights that do not say it, and have the sizes of no variant.
    A given model must have the source's sizes, or these. What a source does not say, such as
    LayerNorm's epsilon in a state dict, a given model says; where one is built, the library's
    default is taken, and a line is printed. Returns the model, with the attribute
    `preprocessing`: the transform for its weights, PIL image -> [C, H, W]; for one channel it makes
    photos grey, and for another number than one or three there is none.
    Raises WeightsError where the layout is unknown, or anything is missing, left over, or of
    another shape; a given model is unchanged then.
    """
    layout, opened = identify_layout(open_source(source))
    likely = image_size
    if image_size is None and isinstance(model_or_variant, nn.Module):
        likely = model_or_variant.settings["image_size"]
    settings = infer_settings(layout, opened, likely)
    assumed = assumed_settings(layout, opened, settings)
    if num_heads is not None and settings.setdefault("num_heads", num_heads) != num_heads:
        raise WeightsError(f"num_heads is {settings['num_heads']} in the source, not {num_heads}")

    # What is to differ from the source: the head, and the image size.
    new_head = num_classes not in (None, settings["num_classes"])
    if new_head:
        # A pre-training head goes as a whole, with its tanh layer (Section 3.1).
        settings |= {"num_classes": num_classes, "representation_size": None}
    elif opened.module is not None:
        check_head(layout, opened.module, opened.prefix)
    if settings["num_classes"] is None:
        raise WeightsError("the source has no head of one linear layer "
                           f"({layout.library_names('head.weight')[0]}): say how many classes a "
                           "fresh one is for, num_classes=...")
    old_size, patch_size = settings["image_size"], settings["patch_size"]
    if image_size is not None:
        settings["image_size"] = size_of(*sides(image_size))
        if reason := utils.why_patches_do_not_fit(image_size, patch_size):
            raise WeightsError(reason)
    resized = settings["image_size"] != old_size
    if positions not in POSITION_INTERPOLATIONS:
        raise WeightsError(f"positions must be one of {', '.join(POSITION_INTERPOLATIONS)}, "
                           f"not {positions!r}")

    given = isinstance(model_or_variant, nn.Module)
    if isinstance(model_or_variant, nn.Module):
        model = model_or_variant
    else:
        model = _build(model_or_variant, settings, layout)

    # All is compared before a number is copied, so that a model is filled as a whole or not at all.
    # What the source does not say, a given model says.
    differences = [f"{name} is {model.settings[name]} in the model, {value} in the source"
                   for name, value in settings.items()
                   if model.settings[name] != value and name not in assumed]
    if differences:
        raise WeightsError("; ".join(differences))
    if mismatches := find_mismatches(layout, opened, model, new_head):
        raise WeightsError("the weights do not fit the model; " + summarise(mismatches))

    def new_value(name: str) -> torch.Tensor:
        if new_head and name.startswith("head."):
            return torch.zeros(())  # copy_ repeats it to the head's shape
        tensor = layout.read(name, opened.get)
        if resized and name == "position_embedding":
            return resize_positions(tensor, model.grid, positions, _grid_of(old_size, patch_size))
        return tensor

    if not given and "num_heads" not in settings:
        assumed.add("num_heads")
    if note := _note(opened, {} if given else {name: model.settings[name] for name in assumed}):
        print(note)
    if not given:
        model.to_empty(device=torch.get_default_device())  # on the meta device it has no memory yet
    state = model.state_dict()  # shares its memory with the model
    new_values: Iterable[tuple[str, torch.Tensor]] = ((name, new_value(name)) for name in state)
    if opened.lazy and given:
        # That a file is damaged may show only at its last tensor, so all are read before the first
        # of a given model's is changed. A model built here is dropped with the error: it is filled
        # one tensor at a time, and the weights never stand in memory twice.
        new_values = list(new_values)
    for name, value in new_values:
        state[name].copy_(value)
    channels = settings["in_channels"]
    if channels in (1, 3):
        preprocessing = opened.preprocessing or layout.preprocessing
        model.preprocessing = preprocessing.sized(settings["image_size"], channels)
    return model


def _grid_of(image_size: Size, patch_size: int) -> tuple[int, int]:
    """The rows and columns of patches in an image."""
    height, width = sides(image_size)
    return height // patch_size, width // patch_size


def _note(source: Source, assumed: dict[str, Any]) -> str:
    """One line on what was taken of a source, and what was assumed as it does not say it; "" where
    there is nothing to tell."""
    notes = []
    if source.taken:
        notes.append(f"taken are {source.taken}")
    if assumed:
        notes.append("what they do not say was assumed: "
                     + _in_words(dict(sorted(assumed.items()))))
    return f"weights of {source.where}: {'; '.join(notes)}" if notes else ""


def _build(variant: str | None, settings: dict[str, Any], layout: Layout) -> ViT:
    """A ViT of this variant, with the source's settings for all else, on the meta device: as all
    weights are replaced, none are drawn. None: of the source's own sizes."""
    sizes = {name: value for name, value in settings.items() if name in VARIANTS["B"]}
    others = {name: value for name, value in settings.items() if name not in sizes}
    if variant is None:
        own = variant_name(settings)
        heads = VARIANTS[own.partition("/")[0]]["num_heads"] if own else None
        if "num_heads" not in sizes and heads is None:
            raise WeightsError("these weights do not say how many attention heads they are for, and "
                               f"no variant has their sizes ({_in_words(sizes)}): give num_heads, "
                               "or --heads")
        others |= {"num_heads": heads, **sizes}
    try:
        with torch.device("meta"):
            # The variant keeps its own sizes, and load says which differ from the source's.
            return (ViT(**others) if variant is None
                    else ViT.from_variant(our_name(variant) or variant, **others))
    except ValueError as error:
        raise WeightsError(
            f"{error} (the source: {layout.kind}, {settings['in_channels']} channels)") from None


def _in_words(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def infer_settings(layout: Layout, source: Source, likely: Size | None = None) -> dict[str, Any]:
    """The settings of the ViT that a source fits, as far as it tells them.

    likely: the image size to try where the source does not tell its own, and its patches are no
        square.
    num_heads is among them only where the source's shapes or its module tell it: q, k and v as
    matrices do not. num_classes is None where the source has no head, representation_size where it
    has no tanh layer.
    Raises WeightsError where a tensor that tells a setting is missing, and for position embeddings
    of another number than a class token and the patches have.
    """
    def get(theirs: str) -> torch.Tensor:
        if theirs not in source.meta_tensors:
            raise WeightsError(f"missing: {theirs}")
        return source.meta_tensors[theirs]

    def outputs(name: str) -> int | None:
        theirs = layout.library_names(f"{name}.weight")  # () where the library has no such layer
        has_layer = bool(theirs) and theirs[0] in source.meta_tensors
        return len(layout.read(f"{name}.weight", get)) if has_layer else None

    class_token = layout.library_names("class_token")[0]
    has_class_token = class_token in source.meta_tensors
    settings = {**layout.default_settings, **layout.settings_from_shapes(get),
                "pool": "token" if has_class_token else "mean", **source.settings}
    _, tokens, hidden_size = layout.read("position_embedding", get).shape
    # What the source tells, else a square, else the likely size: the first with so many patches.
    patch_size, patches = settings["patch_size"], tokens - has_class_token
    square = math.isqrt(patches) * patch_size
    grids = [_grid_of(size, patch_size)
             for size in (settings.get("image_size"), square, likely) if size is not None]
    grid = next((grid for grid in grids if math.prod(grid) == patches), None)
    if grid is None:
        no_token = "" if has_class_token else f", and there is no class token ({class_token})"
        raise WeightsError(f"{tokens} position embeddings are not those of a class token and a "
                           f"square of patches{no_token}: give the image_size=(H, W) that they are "
                           "for")
    num_layers = 0
    while layout.library_names(f"blocks.{num_layers}.norm1.weight")[0] in source.meta_tensors:
        num_layers += 1
    return settings | {
        "num_classes": outputs("head"), "representation_size": outputs("pre_logits.0"),
        "image_size": size_of(grid[0] * patch_size, grid[1] * patch_size), "num_layers": num_layers,
        "hidden_size": hidden_size, "mlp_size": len(layout.read("blocks.0.mlp.hidden.bias", get)),
    }


def assumed_settings(layout: Layout, source: Source, settings: Mapping[str, Any]) -> set[str]:
    """Those of the settings that the source does not say, and the library's default stands for."""
    assumed = set(layout.configurable)
    if settings["pool"] == "mean":  # that there is no class token may also mean another pooling
        assumed.add("pool")
    return assumed - source.settings.keys()


def find_mismatches(layout: Layout, source: Source, model: ViT, new_head: bool) -> list[str]:
    """What is missing in the source, left over, or of another shape than in the model to fill.

    new_head: the model's head is not filled, and the source's not needed.
    """
    mismatches: list[str] = []
    used: set[str] = set()
    for name, parameter in model.state_dict().items():
        library_names = layout.library_names(name)
        used.update(library_names)
        if new_head and name.startswith("head."):
            continue
        missing = [theirs for theirs in library_names if theirs not in source.meta_tensors]
        if missing:
            mismatches += [f"missing: {theirs}" for theirs in missing]
            continue
        # Read from the meta device, this transposes and joins shapes alone.
        shape, own_shape = layout.read(name, source.meta_tensors.__getitem__).shape, parameter.shape
        if name == "position_embedding":  # interpolated to any number of tokens, of the same size
            fits = shape[2:] == own_shape[2:]
        else:
            fits = shape == own_shape
        if not fits:
            mismatches.append(f"{', '.join(library_names)} has the shape {[*shape]}, "
                              f"the model's is {[*own_shape]}")
    if new_head:  # the old head goes as a whole, its tanh layer and all its other layers too
        for name in ("pre_logits.0.weight", "pre_logits.0.bias"):
            used.update(layout.library_names(name))
        used.update(name for name in source.meta_tensors
                    if re.match(rf"{layout.head_root}[./]", name))
    return mismatches + [f"left over: {name}" for name in source.meta_tensors if name not in used]


def summarise(mismatches: Sequence[str]) -> str:
    """The first MOST_LISTED mismatches in one line, and how many more there are."""
    more = [f"and {len(mismatches) - MOST_LISTED} more"] if len(mismatches) > MOST_LISTED else []
    return "; ".join([*mismatches[:MOST_LISTED], *more])


def model_of(
    source: str, num_classes: int | None = None, num_heads: int | None = None,
) -> ViT:
    """The model of a file or a name that `load` takes, in the sizes of its own, or of a run of this
    package, which has its own classes.

    num_classes, num_heads: as in `load`.
    Raises WeightsError as `load` does; CheckpointError for a run of ours that cannot be used.
    """
    if not is_run(source):
        return load(None, source, num_classes=num_classes, num_heads=num_heads)
    model = utils.load_model(source)[0]
    if num_heads not in (None, model.settings["num_heads"]):
        raise WeightsError(f"num_heads is {model.settings['num_heads']} in {source}, "
                           f"not {num_heads}")
    return model


def is_run(source: str) -> bool:
    """Whether this is a run folder or a checkpoint of this package, or a model that it brings."""
    folder = Path(source)
    if folder.is_dir():
        return not (folder / "config.json").exists()  # which transformers and timm write
    return utils.is_checkpoint(utils.checkpoint_file(source))


def variant_name(settings: dict[str, Any]) -> str | None:
    """The variant of these sizes, B/16 for example; None where no variant has them.

    A size that is not among the settings is taken to fit.
    """
    for name, sizes in VARIANTS.items():
        if all(settings.get(key, value) == value for key, value in sizes.items()):
            return f"{name}/{settings['patch_size']}"
    return None


def our_name(name: str) -> str | None:
    """The variant that another library calls so, "B/16" for vit_b_16, vit_base_patch16_224 or
    google/vit-base-patch16-224; None for any other name."""
    found = re.fullmatch(r"(?:.*[/:])?(?:vit|deit)[-_](tiny|small|base|large|huge|ti|[sblh])"
                         r"[-_/](?:patch)?(\d+)(?:[-_./].*)?", name, re.IGNORECASE)
    if not found:
        return None
    letter = "Ti" if found[1].lower().startswith("t") else found[1][0].upper()
    return f"{letter}/{found[2]}"
