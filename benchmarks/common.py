"""What every benchmark shares: where its log goes, and what is told about the machine."""
import json
import os
import platform
import shlex
import sys
import time
from pathlib import Path

import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from going_modular import config, train
from going_modular.data_setup import ImageData
from going_modular.experiments import MEASURED, fingerprint
from going_modular.vit import ViT, count_macs

RESULTS = Path(__file__).parent / "results"


def log(name: str) -> dict:
    """What a benchmark has written."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def multiply_adds(model: nn.Module, image_size: int) -> int:
    """Of the forward pass of one RGB image, in matrix products and convolutions."""
    if isinstance(model, ViT):
        return count_macs(model)
    image = torch.zeros(1, 3, image_size, image_size, device=next(model.parameters()).device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(image)
    return counter.get_total_flops() // 2


def build_model(given: dict, data: ImageData) -> tuple[ViT, config.Config]:
    """The model that the command trains on these data by the options given, and all its options, on a CPU."""
    trained = train.pretrained_model(given, {})
    if trained is not None:
        given = {"image_size": trained.settings["image_size"], **given}
    options = config.complete(given, data, torch.device("cpu"))
    torch.manual_seed(options.seed)
    return train.build_model(options, len(data.class_names), trained), options


def machine() -> dict:
    """Processor, cores, accelerator and versions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {
        "cpu": cpu, "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(), "torch": torch.__version__, "torchvision": torchvision.__version__,
    }


def command() -> str:
    """The command that runs."""
    return shlex.join(["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]])


def log_of(values: dict) -> dict:
    """The values, with command, machine and date."""
    return {"command": command(), "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()) + " UTC", "machine": machine(),
            **values}


def write_log(name: str, values: dict) -> None:
    """Write benchmarks/results/NAME.json: the log of these values."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(log_of(values), indent=1) + "\n")


def write_measured(name: str, values: dict) -> None:
    """Write a log that the package brings along, as a notebook shows it: one log, or logs by the name of the data. Its
    fingerprint is taken with it."""
    (MEASURED / f"{name}.json").write_text(json.dumps(values, indent=1) + "\n")
    fingerprint.store(name)
