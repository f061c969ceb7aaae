"""Seconds of a step of a ViT, ours against those of other libraries with the same sizes, in one interleaved run.

python -m benchmarks.step_time                                      B/16 and S/16 at 224 px, and Mini/8 at 64 px
python -m benchmarks.step_time --device cuda --dtypes tf32 bfloat16 --compile    on a GPU, eager and compiled
    ->  benchmarks/results/step_time_DEVICE.json

Forward is in inference mode. As the speed of a machine drifts, each step of another library is timed next to one of
ours, now before it, now after it; a ratio is the median of these pairs, then of the runs, and the library with the
highest one is the fastest other. A library that is not installed is left out: torchvision, timm, transformers,
vit-pytorch. Rates count 2 operations for a multiply-add of `count_macs`, a training step as three forward passes;
their share of what the device can do at most (model-flops utilisation) is told for the GPUs in PEAK.
"""
import argparse
import math
import re
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.common import write_log
from going_modular.utils import pick_device
from going_modular.vit import ViT, count_macs

SIZES = {"B/16": (224, 4), "S/16": (224, 8), "Mini/8": (64, 64)}  # image size, batch size on a CPU
GPU_BATCH = {"B/16": 256, "S/16": 512, "Mini/8": 2048}  # on a GPU of 80 GB
DTYPES = ["float32", "tf32", "float16", "bfloat16"]
# Dense operations a second that NVIDIA's data sheets give for a GPU, by a word of its name; the first that fits counts.
PEAK = {
    "H200": {"float32": 67e12, "tf32": 494e12, "float16": 989e12, "bfloat16": 989e12},
    "H100 NVL": {"float32": 60e12, "tf32": 417e12, "float16": 835e12, "bfloat16": 835e12},
    "H100 PCIe": {"float32": 51e12, "tf32": 378e12, "float16": 756e12, "bfloat16": 756e12},
    "H100": {"float32": 67e12, "tf32": 494e12, "float16": 989e12, "bfloat16": 989e12},
    "A100": {"float32": 19.5e12, "tf32": 156e12, "float16": 312e12, "bfloat16": 312e12},
    "L4": {"float32": 30.3e12, "tf32": 60e12, "float16": 121e12, "bfloat16": 121e12},
    "V100": {"float32": 15.7e12, "float16": 125e12}, "T4": {"float32": 8.1e12, "float16": 65e12},
}


def of_torchvision(s: dict) -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(s["image_size"], s["patch_size"], s["num_layers"], s["num_heads"], s["hidden_size"],
                             s["mlp_size"], num_classes=s["num_classes"])


def of_timm(s: dict) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(s["image_size"], s["patch_size"], num_classes=s["num_classes"], depth=s["num_layers"],
                             embed_dim=s["hidden_size"], num_heads=s["num_heads"],
                             mlp_ratio=s["mlp_size"] / s["hidden_size"])


def of_transformers(s: dict) -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    class Logits(ViTForImageClassification):
        def forward(self, images):
            return super().forward(images).logits

    return Logits(ViTConfig(
        hidden_size=s["hidden_size"], num_hidden_layers=s["num_layers"], num_attention_heads=s["num_heads"],
        intermediate_size=s["mlp_size"], image_size=s["image_size"], patch_size=s["patch_size"],
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=s["num_classes"]))


def of_vit_pytorch(s: dict) -> nn.Module:
    from vit_pytorch import ViT

    return ViT(image_size=s["image_size"], patch_size=s["patch_size"], num_classes=s["num_classes"],
               dim=s["hidden_size"], depth=s["num_layers"], heads=s["num_heads"], mlp_dim=s["mlp_size"],
               dim_head=s["hidden_size"] // s["num_heads"])


LIBRARIES = {"torchvision": of_torchvision, "timm": of_timm, "transformers": of_transformers,
             "vit-pytorch": of_vit_pytorch}


def build(variant: str) -> dict[str, nn.Module]:
    """The same model from each library that is installed."""
    torch.manual_seed(0)
    models = {"ours": ViT.from_variant(variant, image_size=SIZES[variant][0])}
    for name, make in LIBRARIES.items():
        try:
            models[name] = make(models["ours"].settings)
        except ImportError as error:
            print(f"{name} is left out: {error}")
    return models


def batch_size_on(device: torch.device, variant: str) -> int:
    """The batch of GPU_BATCH, halved until it fits into the memory of a smaller GPU; a CPU has its own."""
    if device.type != "cuda":
        return SIZES[variant][1]
    share = torch.cuda.get_device_properties(device).total_memory / 80e9
    return GPU_BATCH[variant] // 2 ** max(0, math.ceil(-math.log2(share) - 0.1))


def peak_of(device: torch.device, dtype: str) -> float | None:
    """Operations a second that the device can do at most, where PEAK knows it."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    # As a whole word: an L40 is no L4.
    return next((peaks.get(dtype) for gpu, peaks in PEAK.items() if re.search(rf"\b{gpu}\b", name)), None)


def measure(variant: str, batch_size: int, dtype: str, compiled: bool, repeats: int, device: torch.device) -> dict:
    """Median and all seconds of each library's steps, by kind of step."""
    models = {name: model.to(device) for name, model in build(variant).items()}
    macs, size = count_macs(models["ours"]), SIZES[variant][0]
    if compiled:
        models = {name: torch.compile(model) for name, model in models.items()}
    images = torch.randn(batch_size, 3, size, size, device=device)
    labels = torch.randint(1000, (batch_size,), device=device)
    half = {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(dtype)
    mixed = torch.autocast(device.type, half, enabled=half is not None)
    torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")

    def forward(model: nn.Module) -> None:
        model.eval()
        with torch.inference_mode(), mixed:
            model(images)

    def forward_backward(model: nn.Module) -> None:
        model.train()
        model.zero_grad()
        with mixed:
            loss = F.cross_entropy(model(images), labels)
        loss.backward()

    def timed(step, model: nn.Module) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        step(model)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    steps, warm = {"forward": forward, "forward_backward": forward_backward}, 3 if device.type == "cuda" else 1
    others = [name for name in models if name != "ours"]
    pairs = {kind: {name: [] for name in others} for kind in steps}  # (seconds of ours, seconds of the other)
    for kind, step in steps.items():
        for repeat in range(repeats + warm):
            for name in others:
                taken = {each: timed(step, models[each]) for each in (("ours", name), (name, "ours"))[repeat % 2]}
                if repeat >= warm:
                    pairs[kind][name].append((taken["ours"], taken[name]))

    result = {"variant": variant, "image_size": size, "batch_size": batch_size, "dtype": dtype, "compiled": compiled}
    peak = peak_of(device, dtype)
    for kind, by_name in pairs.items():
        medians = {"ours": statistics.median(ours for times in by_name.values() for ours, _ in times),
                   **{name: statistics.median(other for _, other in times) for name, times in by_name.items()}}
        ratios = {name: statistics.median(ours / other for ours, other in times) for name, times in by_name.items()}
        rate = 2 * macs * batch_size * (1 if kind == "forward" else 3) / medians["ours"]
        result[kind] = {
            "median_seconds": {name: round(median, 5) for name, median in medians.items()},
            "ours_to": {name: round(ratio, 4) for name, ratio in ratios.items()}, "operations_a_second": round(rate),
            "utilisation": round(rate / peak, 4) if peak else None,
            "seconds": {name: {which: [round(seconds, 5) for seconds in side]
                               for which, side in zip(("ours", "other"), zip(*times))}
                        for name, times in by_name.items()}}
        print(f"{variant} {dtype}{' compiled' if compiled else ''}, {kind}: ours {1000 * medians['ours']:.1f} ms, "
              + ", ".join(f"{1000 * medians[name]:.1f} ms of {name} ({ratio:.3f})" for name, ratio in ratios.items())
              + f"; {rate / 1e12:.2f}e12 operations a second"
              + (f", {rate / peak:.0%} of the GPU's most" if peak else ""), flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--dtypes", nargs="+", default=["float32"], choices=DTYPES)
    parser.add_argument("--compile", action="store_true", help="compiled models too, after the eager ones")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--runs", type=int, default=1, help="a ratio is the median of so many runs")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()

    device = pick_device(args.device)
    results = []
    for variant in args.variants:
        batch_size = batch_size_on(device, variant)
        for dtype in args.dtypes:
            for compiled in (False, True) if args.compile else (False,):
                runs = [measure(variant, batch_size, dtype, compiled, args.repeats, device) for _ in range(args.runs)]
                row = {**runs[0], "fastest_other": {}}
                for kind in ("forward", "forward_backward"):
                    row[kind] = [run[kind] for run in runs]
                    ratios = {name: statistics.median(run["ours_to"][name] for run in row[kind])
                              for name in row[kind][0]["ours_to"]}
                    fastest = max(ratios, key=ratios.get)
                    row["fastest_other"][kind] = {"name": fastest, "ours_to_it": ratios[fastest]}
                results.append(row)
                print(f"   the fastest other: {row['fastest_other']}", flush=True)
    write_log(f"step_time_{device.type}", {"repeats": args.repeats, "runs": args.runs, "results": results})


if __name__ == "__main__":
    main()
