"""Seconds of a training step in bfloat16 against float32 on a CPU, by hidden size: from which one on bfloat16 pays.

python -m benchmarks.cpu_precision    ->  benchmarks/results/cpu_precision.json

What `--precision auto` does on a CPU that has bfloat16 instructions follows from it (recipe.BFLOAT16_FROM).
"""
import argparse
import statistics
import time

import torch
import torch.nn.functional as F

from benchmarks.common import write_log
from going_modular.recipe import Recipe, autocast
from going_modular.vit import ViT

# The hidden sizes of Mini, Ti, S and B and one between, and what each is usually given: side of image and patch, batch.
SIZES = {96: (64, 8, 64), 128: (64, 8, 64), 192: (224, 16, 16), 384: (224, 16, 8), 768: (224, 16, 4)}


def measure(hidden_size: int, repeats: int) -> dict:
    """Median seconds of a step in either type, timed in turn, and the median of their ratios."""
    image_size, patch_size, batch_size = SIZES[hidden_size]
    torch.manual_seed(0)
    device = torch.device("cpu")
    model = ViT(image_size, patch_size, num_classes=10, num_layers=4, hidden_size=hidden_size,
                mlp_size=4 * hidden_size, num_heads=hidden_size // 32)
    optimizer = Recipe(epochs=1).optimizer(model)
    images, labels = torch.randn(batch_size, 3, image_size, image_size), torch.randint(10, (batch_size,))

    def seconds(dtype: torch.dtype) -> float:
        start = time.perf_counter()
        with autocast(device, dtype):
            loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return time.perf_counter() - start

    types = (torch.float32, torch.bfloat16)
    for dtype in types:
        seconds(dtype)  # the first step of each is slower
    pairs = [[seconds(dtype) for dtype in types] for _ in range(repeats)]
    return {"hidden_size": hidden_size, "image_size": image_size, "patch_size": patch_size, "batch_size": batch_size,
            "seconds": {str(dtype).removeprefix("torch."): round(statistics.median(times), 5)
                        for dtype, times in zip(types, zip(*pairs))},
            "times_as_fast": round(statistics.median(full / half for full, half in pairs), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    rows = []
    for hidden_size in SIZES:
        rows.append(measure(hidden_size, args.repeats))
        print(rows[-1], flush=True)
    has = getattr(torch.cpu, "get_capabilities", dict)()
    write_log("cpu_precision", {"repeats": args.repeats, "blocks": 4, "rows": rows,
                                "instructions": [name for name in ("avx512_bf16", "amx_bf16") if has.get(name)]})


if __name__ == "__main__":
    main()
