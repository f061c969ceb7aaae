"""Export a trained model to ONNX, the format that other runtimes read.

    python -m going_modular.export runs/NAME model.onnx
    python -m going_modular.export food98 food98.onnx --attention

The graph takes `images`, float32 [batch, C, H, W] as the run's transform makes
them, and gives `logits` [batch, num_classes]. With --attention it also gives the attention weights
of each block, block00.attention [batch, num_heads, tokens, tokens] and so on. Its metadata holds
the class names as JSON. Needs the extra `onnx`.
"""
import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from going_modular.utils import lasting_output, load_model, write_atomically
from going_modular.vit import ViT

OPSET = 18
TOLERANCE = 1e-5  # the most by which ONNX Runtime may differ from PyTorch, relative to 1 or above


class WithAttention(nn.Module):
    """A ViT that returns its logits and the attention weights of each block."""

    def __init__(self, model: ViT):
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        seen: dict[str, torch.Tensor] = {}
        logits = self.model(images, intermediates=seen)
        return logits, *(value for name, value in seen.items() if name.endswith(".attention"))


def export(model: ViT, file: str | Path, class_names: Sequence[str] = (),
           attention: bool = False) -> float:
    """Write a model as ONNX, after a check with ONNX Runtime on random images.

    attention: whether the graph has the attention weights as outputs, too.
    Returns the largest difference to PyTorch. Raises ImportError where the extra is not installed,
    and ValueError where the difference is above TOLERANCE; then nothing is written.
    """
    import onnx  # needed here alone, as are the other two
    import onnxruntime
    import onnxscript  # noqa: F401  torch.onnx imports it late, and says less when it is missing

    settings = model.settings
    names = ["logits"]
    if attention:
        names += [f"block{layer:02}.attention" for layer in range(settings["num_layers"])]
    graph = WithAttention(model).eval() if attention else model.eval()
    # The graph is made from two images and checked on five: a batch that was fixed would show.
    images = torch.randn(5, *model.image_shape, generator=torch.Generator().manual_seed(0))
    program = torch.onnx.export(
        graph, (images[:2],), dynamo=True, opset_version=OPSET, verbose=False,
        input_names=["images"], output_names=names,
        dynamic_shapes=({0: torch.export.Dim("batch")},))
    assert program is not None  # as it is with dynamo=True
    exported = program.model_proto
    onnx.helper.set_model_props(exported, {"class_names": json.dumps(list(class_names))})

    content = exported.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found = session.run(names, {"images": images.numpy()})
    with torch.inference_mode():
        ours = graph(images)
    difference = 0.0
    for value, theirs in zip(ours if attention else [ours], found):
        scale = max(1.0, value.abs().max().item())
        difference = max(difference, (value - torch.from_numpy(theirs)).abs().max().item() / scale)
    if difference > TOLERANCE:
        raise ValueError(f"ONNX Runtime's numbers differ from PyTorch's by {difference:.1e}, more "
                         f"than {TOLERANCE:.0e}: nothing is written; try another version of it")
    write_atomically(Path(file), lambda temporary: temporary.write_bytes(content))
    return difference


@lasting_output()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status: 0, or 2 after an error, which is printed."""
    parser = argparse.ArgumentParser("python -m going_modular.export",
                                     description="Export a trained model to ONNX.")
    parser.add_argument("run", help="the folder of a run, a checkpoint (.pt), or the name of a "
                                    "model that comes with the package")
    parser.add_argument("file", type=Path, help="what to write, such as model.onnx")
    parser.add_argument("--attention", action="store_true",
                        help="the attention weights of each block are outputs, too")
    args = parser.parse_args(argv)
    # It tells at each layer norm or split what it leaves as it is.
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    try:
        model, info = load_model(args.run)
        difference = export(model, args.file, info.class_names, args.attention)
    except ImportError as error:
        print(f"error: {error.name} is not installed: pip install onnx onnxscript onnxruntime",
              file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{args.file}: {args.file.stat().st_size / 1e6:.1f} MB, opset {OPSET}; "
          f"ONNX Runtime and PyTorch differ by {difference:.0e} at most")
    return 0


if __name__ == "__main__":
    sys.exit(main())
