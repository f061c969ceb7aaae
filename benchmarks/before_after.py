"""Is the code as fast as at another commit? Steps of two models and the main job, in processes of either, in turn.

python -m benchmarks.before_after COMMIT [--rounds 5] [--epochs 3]  ->  benchmarks/results/before_after.json

Each round runs one process of the commit and one of the working tree right after it; the figures are medians over the
rounds of the ratio now / before.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.common import write_log

ROOT = Path(__file__).parent.parent
STEPS = """
import json, time, torch, torch.nn.functional as F
from going_modular.vit import ViT
found = {}
for variant, size, batch, steps in (("Mini/8", 64, 64, 12), ("S/16", 224, 8, 4)):
    torch.manual_seed(0)
    model, images = ViT.from_variant(variant, image_size=size), torch.randn(batch, 3, size, size)
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        F.cross_entropy(model(images), torch.zeros(batch, dtype=torch.long)).backward()
        seconds.append(time.perf_counter() - start)
    found[f"step of {variant}"] = sorted(seconds[1:])[len(seconds) // 2 - 1]
print(json.dumps(found))
"""


def measure(folder: Path, epochs: int) -> dict[str, float]:
    """Seconds of the code in a folder: of steps, and of a training by the command on drawn food."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "VIT_OFFLINE": "1", "VIT_DATA": str(ROOT / "data")}
    said = subprocess.run([sys.executable, "-c", STEPS], cwd=folder, env=environment, capture_output=True, text=True,
                          check=True).stdout
    with tempfile.TemporaryDirectory() as temporary:
        output = Path(temporary) / "run"
        subprocess.run([sys.executable, "-m", "going_modular.train", "--data", "drawn", "--epochs", str(epochs),
                        "--device", "cpu", "--output", str(output)], cwd=folder, env=environment, capture_output=True,
                       check=True)
        seconds = json.loads((output / "results.json").read_text())["train_seconds"]
    return {**json.loads(said), f"main job, {epochs} epochs of drawn food": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="what to compare with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        before = Path(temporary) / "before"
        subprocess.run(["git", "worktree", "add", "--detach", str(before), args.commit], cwd=ROOT, check=True)
        try:
            rounds = []
            for _ in range(args.rounds):
                rounds.append({"before": measure(before, args.epochs), "now": measure(ROOT, args.epochs)})
                print(rounds[-1], flush=True)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(before)], cwd=ROOT, check=True)
    ratios = {name: round(statistics.median(pair["now"][name] / pair["before"][name] for pair in rounds), 3)
              for name in rounds[0]["now"]}
    print(ratios)
    write_log("before_after", {"commit": args.commit, "rounds": rounds, "now_over_before": ratios})


if __name__ == "__main__":
    main()
