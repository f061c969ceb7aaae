"""The command: tell what weights a file holds, or convert them.

    python -m going_modular.weights info SOURCE
    python -m going_modular.weights convert SOURCE KIND FILE
"""
import argparse
import sys
from collections.abc import Sequence

import torch

from going_modular import utils
from going_modular.vit import ViT, count_parameters
from going_modular.weights.identification import identify_layout
from going_modular.weights.layouts import LAYOUTS
from going_modular.weights.loading import (
    assumed_settings,
    find_mismatches,
    infer_settings,
    is_run,
    model_of,
    summarise,
    variant_name,
)
from going_modular.weights.saving import save_as
from going_modular.weights.sources import open_source


def describe(source: str) -> str:
    """What a source holds, a line for each thing. Raises ValueError for one that cannot be read."""
    mismatches: list[str] = []
    part, assumed = "", set[str]()
    if is_run(source):
        model, info = utils.load_model(source)
        settings, kind, parameters = model.settings, "going_modular", count_parameters(model)
        classes = f"{len(info.class_names)}: {', '.join(info.class_names)}"
    else:
        layout, opened = identify_layout(open_source(source))
        settings, kind = infer_settings(layout, opened), layout.kind
        assumed = assumed_settings(layout, opened, settings)
        if opened.taken:
            part = f", {opened.taken}"
        parameters = sum(tensor.numel() for tensor in opened.meta_tensors.values())
        classes = "no head" if settings["num_classes"] is None else str(settings["num_classes"])
        # Compared with a ViT of these very sizes; the number of heads changes no shape, so 1 does
        # where it is unknown.
        with torch.device("meta"):
            known = {name: value for name, value in settings.items() if value is not None}
            model = ViT(**{"num_heads": 1, **known})
        no_head = settings["num_classes"] is None
        mismatches = find_mismatches(layout, opened, model, new_head=no_head)

    lines = {
        "layout": f"{kind}{part}", "variant": variant_name(settings) or "none of the paper's",
        "image size": f"{utils.in_pixels(settings['image_size'])} px, patches of {settings['patch_size']} px, "
                      f"{settings['in_channels']} channels",
        "sizes": f"{settings['num_layers']} layers, hidden size {settings['hidden_size']}, "
                 f"MLP size {settings['mlp_size']}, "
                 f"{settings.get('num_heads', 'unknown number of')} heads",
        "computed with": f"LayerNorm epsilon {settings['layer_norm_eps']:g}, "
                         f"GELU {settings['gelu']}"
                         + (f" (not said, the default of {kind}: {', '.join(sorted(assumed))})"
                            if assumed else ""),
        "tanh layer": settings["representation_size"] or "none",
        "classes": classes,
        "parameters": f"{parameters:,}",
    }
    if mismatches:
        lines["problems"] = summarise(mismatches)
    return "\n".join(f"{name:<14}{value}" for name, value in lines.items())


@utils.lasting_output()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status: 0, or 2 after an error, which is printed."""
    parser = argparse.ArgumentParser(
        "python -m going_modular.weights",
        description="Tell what weights a file holds, or convert them.")
    commands = parser.add_subparsers(dest="command", required=True)
    source_help = ("a file (.npz, .safetensors, .pth) or its address, FILE#PART of one with several "
                   "models, a folder of save_pretrained or of a run, a checkpoint, or a name that is "
                   "downloaded: torchvision:MODEL/WEIGHTS, timm:MODEL, transformers:OWNER/MODEL")
    info = commands.add_parser("info", help="tell what a source holds")
    info.add_argument("source", metavar="SOURCE", help=source_help)
    convert = commands.add_parser("convert", help="write a source's weights for another library")
    convert.add_argument("source", metavar="SOURCE", help=source_help)
    convert.add_argument("kind", metavar="KIND", help=f"one of {', '.join(LAYOUTS)}")
    convert.add_argument(
        "file", metavar="FILE", help="what to write: .npz for official, else .safetensors or .pth")
    args = parser.parse_args(argv)
    try:
        if args.command == "info":
            print(describe(args.source))
            return 0
        non_default = save_as(model_of(args.source), args.kind, args.file)
        print(f"{args.file}: weights for {args.kind}")
        for name, value in non_default.items():
            print(f"{args.kind} must be told: {name} = {value}")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
