"""All that is owed once a GPU can be had, by one command: does everything run there, and how fast is it?

python -m benchmarks.gpu                 every part; what is done already is left out, so that it can be broken off
python -m benchmarks.gpu --smoke-only    in minutes: each way to train on a GPU, for 50 steps

- smoke: the command `python -m going_modular.train` with its defaults, and with each option that takes another way
  through the code on a GPU; then a run that is stopped in the middle of an epoch and goes on;
- step_time: a training step beside that of four libraries, eager and compiled, with the model-flops utilisation;
- growth: time and memory against tokens, batch size, width and depth;
- main_job: ViT-B/16 on photos, or on drawn food without a network;
- cifar100: from scratch, in a quarter of an hour.

Each part runs in a process of its own. What it prints becomes runs/gpu/PART.log once it is done, and its figures go to
benchmarks/results. A part that fails leaves PART.failed, and is run again the next time. For Linux.
"""
import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from going_modular.utils import pick_device

ROOT = Path(__file__).parent.parent
LOGS = ROOT / "runs" / "gpu"
# One epoch of 50 steps: of 2,400 drawings 2,160 are trained on, 44 at a time.
FIFTY_STEPS = ["--data", "drawn", "--device", "cuda", "--epochs", "1", "--repeats", "1", "--batch-size", "44"]
# Each takes another way through the code on a GPU.
BRANCHES = {
    "defaults": [], "compile": ["--compile"], "fp32": ["--precision", "fp32"], "fp16": ["--precision", "fp16"],
    "bf16": ["--precision", "bf16"], "gradient_accumulation": ["--gradient-accumulation", "4"],
    "checkpointing": ["--checkpointing"], "num_workers": ["--num-workers", "2"],
}


@dataclass(frozen=True)
class Part:
    """What runs in a process of its own.

    arguments: what follows `python -m`.
    resumed: the process gets a SIGTERM after the first epoch, and another one goes on by --resume.
    """

    name: str
    arguments: list[str]
    resumed: bool = False

    @property
    def folder(self) -> Path:
        """Where a run of the command may write; it is deleted afterwards."""
        return LOGS / self.name


def smoke_part(name: str, options: Sequence[str], resumed: bool = False) -> Part:
    """The command with these options, which come last and so replace those of FIFTY_STEPS."""
    name = f"smoke_{name}"
    return Part(name, ["going_modular.train", *FIFTY_STEPS, "--output", str(LOGS / name), *options], resumed)


def all_parts(dtypes: Sequence[str], minutes: float) -> list[Part]:
    """All parts in their order. dtypes: those of step_time; minutes: the time that a part has."""
    return [
        *(smoke_part(name, options) for name, options in BRANCHES.items()),
        smoke_part("resume", ["--epochs", "2"], resumed=True),
        Part("step_time", ["benchmarks.step_time", "--device", "cuda", "--dtypes", *dtypes, "--compile"]),
        Part("growth", ["benchmarks.growth", "--device", "cuda"]),
        # Without the CNN: of as many parameters as B/16, it would be as large as none that was ever tried here.
        Part("main_job", ["benchmarks.main_job", "--device", "cuda", "--data", "auto", "--seeds", "0", "1", "2",
                          "--cnn-seeds"]),
        # The rest of the time is for data, compilation and tests.
        Part("cifar100", ["benchmarks.cifar100", "--minutes", f"{min(14.0, 0.7 * minutes):g}"]),
    ]


def process(arguments: Sequence[str], log: Path, end: float, stop_at: str | None = None) -> str:
    """Run `python -m` with these arguments and append what it prints to a log, until it ends or the clock
    (time.monotonic) shows `end`. stop_at: send SIGTERM once the log has this text.

    Returns what went wrong, "" where nothing did.
    """
    with open(log, "a") as file:
        # A session of its own, so that its children can be ended with it. Unbuffered, as the log is watched.
        child = subprocess.Popen([sys.executable, "-u", "-m", *arguments], cwd=ROOT, stdout=file, stderr=file,
                                 start_new_session=True)
    try:
        stopped = False
        while child.poll() is None:
            if time.monotonic() > end:
                return "no time left"
            if stop_at and not stopped and stop_at in log.read_text():
                child.send_signal(signal.SIGTERM)
                stopped = True
            time.sleep(0.1)
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    expected = 130 if stop_at else 0  # 130 is the command's answer to a signal, once it has saved
    return "" if child.returncode == expected else f"exit status {child.returncode}, not {expected}"


def run(part: Part, minutes: float) -> str:
    """Run a part, at most so many minutes. Its log is called PART.log, or PART.failed where something went wrong.

    Returns what went wrong, "" where nothing did.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    unfinished, failed = LOGS / f"{part.name}.unfinished", LOGS / f"{part.name}.failed"
    for left in (unfinished, failed):  # by an earlier attempt
        left.unlink(missing_ok=True)
    shutil.rmtree(part.folder, ignore_errors=True)

    end = time.monotonic() + 60 * minutes
    wrong = process(part.arguments, unfinished, end, stop_at="epoch   1/" if part.resumed else None)
    if part.resumed and not wrong:
        wrong = process([*part.arguments, "--resume"], unfinished, end)

    shutil.rmtree(part.folder, ignore_errors=True)  # a checkpoint of B/16 takes 1 GB
    unfinished.rename(failed if wrong else LOGS / f"{part.name}.log")
    return wrong


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status: 0, or 1 where a part failed, or 2 without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke-only", action="store_true", help="the first part alone")
    parser.add_argument("--minutes", type=float, default=20.0, help="the most that each part may take")
    parser.add_argument("--again", action="store_true", help="run the parts that have a log, too")
    args = parser.parse_args(argv)
    if pick_device().type != "cuda":
        print("error: there is no NVIDIA GPU here that computes, and this measures nothing else", file=sys.stderr)
        return 2
    print(f"{torch.cuda.get_device_name()}; logs go to {LOGS}")

    # Before Ampere there is neither TF32 nor bfloat16.
    newer = torch.cuda.is_bf16_supported(including_emulation=False)
    parts = all_parts(["tf32", "bfloat16"] if newer else ["float32", "float16"], args.minutes)
    failed = []
    for part in parts:
        if args.smoke_only and not part.name.startswith("smoke_"):
            continue
        if (LOGS / f"{part.name}.log").exists() and not args.again:
            print(f"{part.name}: there is a log", flush=True)
            continue
        start = time.monotonic()
        wrong = run(part, args.minutes)
        print(f"{part.name}: {wrong or 'done'}, {time.monotonic() - start:.0f} s", flush=True)
        failed += [part.name] if wrong else []
    print(f"failed: {', '.join(failed)}" if failed else "all done")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
