"""Time and memory of a training step against tokens, batch size, width and depth, with the exponents that fit.

python -m benchmarks.growth [--device cpu]  ->  benchmarks/results/growth_DEVICE.json and images/growth_DEVICE.png

Around one base model one number at a time is doubled. Memory is what the forward pass keeps for the backward pass, the
weights aside: counted tensor by tensor, so that it is the same on each device. An exponent is the slope of the line
through all points, both axes logarithmic: 1 is in proportion, 2 is with the square. Then the price of gradient
checkpointing and of gradient accumulation.
"""
import argparse
import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.common import write_log
from going_modular import plots
from going_modular.utils import pick_device
from going_modular.vit import ViT

BASE = {"tokens": 64, "batch size": 16, "width": 192, "depth": 6}
VALUES = {"tokens": (16, 64, 256, 1024), "batch size": (4, 8, 16, 32), "width": (96, 192, 384, 768),
          "depth": (3, 6, 12, 24)}
PATCH_SIZE = 8


def build(tokens: int, width: int, depth: int) -> ViT:
    return ViT(image_size=PATCH_SIZE * math.isqrt(tokens), patch_size=PATCH_SIZE, num_classes=10, num_layers=depth,
               hidden_size=width, mlp_size=4 * width, num_heads=width // 32, pool="mean")


def keep_input(keep: Callable, _, inputs: tuple) -> None:
    keep(inputs[0])


def kept_bytes(model: nn.Module, images: torch.Tensor) -> int:
    """Bytes that the forward pass keeps for the backward pass, those of the weights aside."""
    weights, kept = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}, {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage  # tensors that share their numbers count once
        return tensor

    # with checkpointing a block's input is kept, though not as a saved tensor; without it, it is one of those anyway
    hooks = [block.register_forward_pre_hook(partial(keep_input, keep)) for block in model.blocks]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(images)
    for hook in hooks:
        hook.remove()
    return sum(storage.nbytes() for storage in kept.values())


def measure(model: nn.Module, batch_size: int, device: torch.device, repeats: int, accumulation: int = 1) -> dict:
    """Median seconds of forward and backward pass, and the bytes kept between them."""
    size = model.settings["image_size"]
    images = torch.randn(batch_size, 3, size, size, device=device)
    labels, seconds = torch.randint(10, (batch_size,), device=device), []
    model.to(device).train()
    for _ in range(repeats + 1):
        start = time.perf_counter()
        for some, some_labels in zip(images.chunk(accumulation), labels.chunk(accumulation)):
            F.cross_entropy(model(some), some_labels).div(accumulation).backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return {"seconds": statistics.median(seconds[1:]), "kept_bytes": kept_bytes(model, images.chunk(accumulation)[0])}


def exponent(rows: dict[int, dict], quantity: str) -> float:
    values = [math.log(row[quantity]) for row in rows.values()]
    return statistics.linear_regression([math.log(number) for number in rows], values).slope


def draw(results: dict, exponents: dict) -> plt.Figure:
    figure, axes = plt.subplots(2, 4, figsize=(11, 5.6), sharey="row", layout="constrained")
    for column, (what, rows) in zip(axes.T, results.items()):
        for axis, quantity, scale, color in zip(column, ("seconds", "kept_bytes"), (1e3, 1e-6),
                                                (plots.BLUE, plots.ORANGE)):
            axis.loglog(list(rows), [scale * row[quantity] for row in rows.values()], "o-", color=color, linewidth=2)
            axis.set_xticks(list(rows), list(rows))
            axis.minorticks_off()
            axis.set_title(f"{what}: exponent {exponents[what][quantity]:.2f}", fontsize=12)
            axis.spines[["top", "right"]].set_visible(False)
        column[1].set_xlabel(what, fontsize=11)
    axes[0, 0].set_ylabel("milliseconds of a step", fontsize=11)
    axes[1, 0].set_ylabel("megabytes kept", fontsize=11)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    device, results, exponents = pick_device(args.device), {}, {}
    torch.manual_seed(0)
    for what, values in VALUES.items():
        results[what] = {}
        for value in values:
            tokens, batch_size, width, depth = {**BASE, what: value}.values()
            results[what][value] = measure(build(tokens, width, depth), batch_size, device, args.repeats)
        exponents[what] = {quantity: exponent(results[what], quantity) for quantity in ("seconds", "kept_bytes")}
        print(what, {value: f"{row['seconds'] * 1e3:.0f} ms, {row['kept_bytes'] / 1e6:.0f} MB"
                     for value, row in results[what].items()}, exponents[what], flush=True)

    prices, sizes = {}, (BASE["tokens"], BASE["width"], BASE["depth"])
    prices["as it is"] = measure(build(*sizes), BASE["batch size"], device, args.repeats)
    prices["in 4 micro-batches"] = measure(build(*sizes), BASE["batch size"], device, args.repeats, accumulation=4)
    model = build(*sizes)
    model.checkpointing = True
    prices["checkpointing"] = measure(model, BASE["batch size"], device, args.repeats)
    for name, row in prices.items():
        print(f"{name}: {row['seconds'] * 1e3:.0f} ms, {row['kept_bytes'] / 1e6:.1f} MB", flush=True)

    plots.save(draw(results, exponents), Path(__file__).parent.parent / "images" / f"growth_{device.type}.png")
    write_log(f"growth_{device.type}", {
        "base": BASE, "patch_size": PATCH_SIZE, "repeats": args.repeats, "results": results,
        "exponents": {what: {name: round(value, 3) for name, value in row.items()} for what, row in exponents.items()},
        "prices": prices})


if __name__ == "__main__":
    main()
