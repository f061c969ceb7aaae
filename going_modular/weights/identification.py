"""Find out which library's weights a source holds, and which part of it they are."""
import re
from collections.abc import Iterable
from dataclasses import replace

import torch

from going_modular.weights.layouts import LAYOUTS, UNSUPPORTED, Layout
from going_modular.weights.modules import read_settings
from going_modular.weights.sources import Source, WeightsError


def identify_layout(source: Source) -> tuple[Layout, Source]:
    """The layout of a source, and the source under the names of that layout.

    The weights may be a part of the source, with a common prefix before their names: model.,
    _orig_mod.module., teacher/backbone., and so on. What lies beside them is left out.
    Raises WeightsError for an unknown layout, for more than one part that holds a ViT, for
    relatives of the ViT that none of the layouts can hold, and for a module that computes with
    something that a ViT of ours does not have.
    """
    layout, prefix = _choose_part(source)
    originals = [name for name in source.meta_tensors if name.startswith(prefix)]
    # Relatives of the ViT often have the names of a known layout and some more. Which model it is
    # says more than which names are left over.
    unsupported = []
    for pattern, description in UNSUPPORTED:
        found = [name for name in originals if re.search(pattern, name.removeprefix(prefix))]
        if found:
            unsupported.append(f"{description} ({found[0]})")
    if unsupported:
        raise WeightsError("this is no Vision Transformer of the paper: it has "
                           + "; ".join(unsupported))
    if layout is None:
        if any(name.endswith("patch_embedding.projection.weight") for name in originals):
            raise WeightsError("these are weights of this package itself: use utils.load_model, or "
                               "load_state_dict")
        raise WeightsError(f"unknown layout, with names such as {', '.join(originals[:3])}; known "
                           f"are: {', '.join(LAYOUTS)}")
    # Something else than a tensor among the weights is no file of weights that we know.
    if others := [name for name in source.others if name.startswith(prefix)]:
        raise WeightsError(f"{source.where} holds {', '.join(others[:3])}, where tensors were "
                           "expected")

    names = _names_in_layout(layout, originals, prefix)
    settings = source.settings
    if source.module is not None:
        settings = settings | read_settings(layout, source.module, names, prefix)
    meta_tensors = {name: source.meta_tensors[original] for name, original in names.items()}
    zeros = _missing_qkv_biases(layout, meta_tensors)

    def get(name: str) -> torch.Tensor:
        return torch.zeros(zeros[name].shape) if name in zeros else source.get(names[name])

    return layout, replace(source, meta_tensors=meta_tensors | zeros, get=get, settings=settings,
                           prefix=prefix, left_out=len(source.meta_tensors) - len(originals))


def _choose_part(source: Source) -> tuple[Layout | None, str]:
    """The layout of a source's weights and the prefix of their names; None where no names are
    those of a layout."""
    parts: dict[str, Layout] = {}
    for layout in LAYOUTS.values():
        # A layout is known by the name of its patch embedding, after any prefix, the shortest one.
        signature = re.escape(layout.signature.removeprefix(layout.optional_prefix))
        pattern = re.compile(rf"(|.*?[./])({re.escape(layout.optional_prefix)})?{signature}")
        for name in source.meta_tensors:
            if match := pattern.fullmatch(name):
                parts[match[1]] = layout
    if source.part is not None:
        chosen = {prefix: layout for prefix, layout in parts.items()
                  if re.match(rf"{re.escape(source.part.rstrip('./'))}([./]|$)", prefix)}
        if not chosen:
            raise WeightsError(f"{source.where} has no part {source.part!r} with a ViT in it"
                               + (f", only {', '.join(parts)}" if any(parts) else ""))
        parts = chosen
    if len(parts) > 1:
        raise WeightsError(f"{source.where} holds {len(parts)} ViTs, {' and '.join(parts)}: choose "
                           f"one, of a file by FILE#{min(parts).rstrip('./')}, else give it alone")
    for prefix, layout in parts.items():
        return layout, prefix
    return None, ""


def _names_in_layout(layout: Layout, originals: Iterable[str], prefix: str) -> dict[str, str]:
    """A dict from the names of a layout to the original ones, which may be those of another
    version, or of a head that was put in place of the library's."""
    names = {}
    for original in originals:
        name = original.removeprefix(prefix)
        for pattern, replacement in layout.renames:
            name = re.sub(pattern, replacement, name)
        names[name] = original
    # model.heads = nn.Linear(...) has heads.weight, nn.Sequential(Dropout, Linear) heads.1.weight.
    of_head = {name for name in names if re.match(rf"{layout.head_root}\.", name)}
    layers = {name.rpartition(".")[0] for name in of_head}
    if len(layers) == 1 and layers != {layout.head}:
        names = {name.replace(min(layers), layout.head) if name in of_head else name: original
                 for name, original in names.items()}
    return names


def _missing_qkv_biases(
    layout: Layout, meta_tensors: dict[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    """The biases of q, k and v that a ViT of ours needs, on the meta device, where a model without
    any (qkv_bias=False) has none: with zeros it computes the same. {} for all other models."""
    missing, layer = {}, 0
    while all(name in meta_tensors
              for name in layout.library_names(f"blocks.{layer}.msa.qkv.weight")):
        weights = layout.library_names(f"blocks.{layer}.msa.qkv.weight")
        biases = layout.library_names(f"blocks.{layer}.msa.qkv.bias")
        if any(name in meta_tensors for name in biases):
            return {}
        for weight, bias in zip(weights, biases):
            missing[bias] = meta_tensors[weight].new_empty(layout.bias_shape(meta_tensors[weight]))
        layer += 1
    return missing
