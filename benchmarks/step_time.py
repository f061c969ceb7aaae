"""Seconds of a step of ViT-B/16, ours against torchvision's and timm's, in one interleaved run.

python -m benchmarks.step_time [--variant B/16] [--batch-size 4] [--repeats 15]  ->  benchmarks/results/step_time.json

Every round times each library once, forward and forward + backward, in an order that turns; medians are compared.
"""
import argparse
import statistics
import time

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from benchmarks.common import write_log
from going_modular.vit import ViT

NAMES = {"B/16": ("vit_b_16", "vit_base_patch16_224"), "L/16": ("vit_l_16", "vit_large_patch16_224")}


def build(variant: str) -> dict[str, nn.Module]:
    """The same model from each library; timm is left out where it is not installed."""
    theirs, timms = NAMES[variant]
    models = {"ours": ViT.from_variant(variant), "torchvision": getattr(torchvision.models, theirs)()}
    try:
        import timm

        models["timm"] = timm.create_model(timms)
    except ImportError:
        print("timm is not installed: left out")
    return models


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", default="B/16", choices=list(NAMES))
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()

    torch.manual_seed(0)
    models = build(args.variant)
    images, labels = torch.randn(args.batch_size, 3, 224, 224), torch.randint(1000, (args.batch_size,))

    def forward(model: nn.Module) -> None:
        model.eval()
        with torch.inference_mode():
            model(images)

    def forward_backward(model: nn.Module) -> None:
        model.train()
        model.zero_grad()
        F.cross_entropy(model(images), labels).backward()

    seconds = {kind: {name: [] for name in models} for kind in ("forward", "forward_backward")}
    for repeat in range(args.repeats + 1):
        names = list(models)[repeat % len(models) :] + list(models)[: repeat % len(models)]
        for kind, step in (("forward", forward), ("forward_backward", forward_backward)):
            for name in names:
                start = time.perf_counter()
                step(models[name])
                if repeat:  # the first round warms up
                    seconds[kind][name].append(time.perf_counter() - start)
    medians = {kind: {name: round(statistics.median(times), 4) for name, times in by_name.items()}
               for kind, by_name in seconds.items()}
    for kind, by_name in medians.items():
        for name, median in by_name.items():
            print(f"{kind:17} {name:12} {median:.3f} s   ours / {name}: {by_name['ours'] / median:.3f}")
    write_log("step_time", {"variant": args.variant, "batch_size": args.batch_size, "dtype": "float32",
                            "repeats": args.repeats, "median_seconds": medians,
                            "seconds": {kind: {name: [round(t, 4) for t in times] for name, times in by_name.items()}
                                        for kind, by_name in seconds.items()}})


if __name__ == "__main__":
    main()
