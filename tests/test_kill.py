"""kill -9 at random moments: the run goes on and ends with the weights of one that was never killed, bit for bit.

Three kills here; `make soak` makes KILLS=200 of them.
"""
import os
import random
import subprocess
import sys
import time

import torch

from going_modular.train import main
from going_modular.utils import load_model, load_tensors

KILLS = int(os.environ.get("KILLS", 3))
OPTIONS = ["--epochs", str(40 + 10 * KILLS), "--image-size", "16", "--patch-size", "8", "--layers", "2",
           "--hidden-size", "24", "--heads", "2", "--mlp-size", "48", "--repeats", "1", "--batch-size", "8",
           "--ema", "0.9", "--device", "cpu"]


def test_a_killed_run_goes_on_to_the_same_weights(colours, tmp_path):
    output = tmp_path / "killed"
    command = [sys.executable, "-m", "going_modular.train", "--data", str(colours), "--output", str(output)]
    moments, kills = random.Random(0), 0
    while True:
        options = ["--resume", "--device", "cpu"] if (output / "settings.json").exists() else OPTIONS
        process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                   env={**os.environ, "PYTHONUNBUFFERED": "1"})
        if kills == KILLS:
            said, _ = process.communicate(timeout=600)
            assert process.returncode == 0, said
            break
        for line in process.stdout:  # wait until it trains, then for a moment of which nobody knows
            if line.startswith("epoch"):
                break
        time.sleep(moments.uniform(0, 0.6))
        assert process.poll() is None, "it was done before it could be killed: more epochs are needed"
        process.kill()
        process.communicate()
        kills += 1
        if (output / "last.pt").exists():
            load_tensors(output / "last.pt")  # whole at any moment

    assert main(["--data", str(colours), "--output", str(tmp_path / "whole"), *OPTIONS]) == 0
    killed, whole = load_model(output)[0].state_dict(), load_model(tmp_path / "whole")[0].state_dict()
    assert all(torch.equal(killed[name], whole[name]) for name in whole)
    assert not list(output.glob(".*.tmp"))
