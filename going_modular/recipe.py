"""The training recipe, and what follows from it: optimizer, learning rate, mixed precision. Every
training in this package takes them from here.

    recipe = Recipe(epochs=20)
    optimizer = recipe.optimizer(model)
    schedule = recipe.schedule(optimizer, total_steps)
"""
import math
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
BFLOAT16_FROM = 192  # the hidden size from which a step is half as fast again on a CPU that computes in it


def option(
    help: str, default: Any = MISSING, *, least: float | None = None, above: float | None = None,
    most: float | None = None, below: float | None = None, group: str = "training",
    per_call: bool = False,
) -> Any:
    """A field of a dataclass that the command offers as an option (config.Config).

    least, above, most, below: the bounds of its value; least and most are allowed themselves.
    per_call: whether a resumed run may have another value.
    """
    bounds = {"at least": least, "above": above, "at most": most, "below": below}
    return field(
        default=default,
        metadata={"help": help, "bounds": bounds, "group": group, "per_call": per_call})


def check_bounds(option: Field, value: Any) -> None:
    """Raise ValueError where a value lies outside the bounds of its option; None always passes."""
    bounds = {words: bound for words, bound in option.metadata["bounds"].items()
              if bound is not None}
    kept = {"at least": lambda bound: value >= bound, "above": lambda bound: value > bound,
            "at most": lambda bound: value <= bound, "below": lambda bound: value < bound}
    if value is not None and not all(kept[words](bound) for words, bound in bounds.items()):
        must = " and ".join(f"{words} {bound}" for words, bound in bounds.items())
        raise ValueError(f"{option.name} must be {must}, not {value}")


@dataclass(kw_only=True)
class Recipe:
    """The settings that, together with model and data, determine the trained weights.

    The defaults suit some thousands of images on a CPU; the paper's values are in Table 3.
    Raises ValueError for a value out of bounds.
    """

    epochs: int = option("epochs to train; default: as many as --images-shown asks for, but 5 at "
                         "least", above=0)
    lr: float = option("highest learning rate; not given, it is less in proportion for a hidden "
                       "size above 96 (B/16: 2.5e-4), and 5e-4 with --weights", 2e-3, above=0)
    weight_decay: float = option("decoupled weight decay of AdamW and Muon, on weight matrices alone",
                                 0.05, least=0)
    muon: float = option("learning rate of Muon, which then trains the weight matrices of the "
                         "encoder in place of AdamW; 0 for none; not given, it is 0.02 for new "
                         "weights of a hidden size up to 128 with PyTorch 2.9 or newer and without "
                         "--shard, and else the default", 0.0, least=0)
    beta2: float = option("AdamW's decay of the average of squared gradients; short, as a small "
                          "set makes few steps", 0.95, least=0, below=1)
    warmup: float = option("share of all steps over which the learning rate rises", 0.1, least=0,
                           below=1)
    clip_norm: float = option("largest norm of the gradients", 1.0, above=0)
    label_smoothing: float = option("share of the label that is spread over all classes", 0.1,
                                    least=0, below=1)
    mixup: float = option("alpha of mixup, which trains on mixed pairs of images; 0 for none", 0.0,
                          least=0)
    ema: float = option("decay of a running average of the weights, which is then tested and kept; "
                        "0 for none", 0.0, least=0, below=1)
    seed: int = option("seed of all random numbers", 42, least=-(2**63), below=2**63)

    def __post_init__(self) -> None:
        for each in fields(self):
            check_bounds(each, getattr(self, each.name))

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """AdamW for all parameters of a model, which must be on its device already; with `muon`,
        Muon for the weight matrices of its blocks."""
        # One kernel for all parameters, instead of several for each, where PyTorch has it.
        fused = next(model.parameters()).device.type in ("cpu", "cuda")
        matrices = encoder_matrices(model) if self.muon else []
        adamw = torch.optim.AdamW(parameter_groups(model, self.weight_decay, without=matrices),
                                  lr=self.lr, betas=(0.9, self.beta2), fused=fused)
        if not self.muon:
            return adamw
        return Together(adamw, torch.optim.Muon(matrices, self.muon, self.weight_decay))

    def lr_factor(self, step: int, total_steps: int) -> float:
        """The learning rate of a step (counted from 0) as a share of the highest."""
        return warmup_cosine(step, round(self.warmup * total_steps), total_steps)

    def schedule(self, optimizer: torch.optim.Optimizer, total_steps: int) -> LRScheduler:
        """A scheduler that has set the optimizer's learning rate to that of step 0; each `step()`
        sets it to that of the next step."""
        return LambdaLR(optimizer, lambda step: self.lr_factor(step, total_steps))


def parameter_groups(
    model: nn.Module, weight_decay: float, without: Iterable[torch.Tensor] = (),
) -> list[dict]:
    """Two groups for AdamW: weight decay applies to the weight matrices of linear layers and
    convolutions, and not to biases, LayerNorms, class token and position embeddings.

    without: parameters that belong to neither, as another optimizer trains them.
    """
    # By identity, because `in` would compare the values of tensors.
    left_out = {id(parameter) for parameter in without}
    decayed = [module.weight for module in model.modules()
               if isinstance(module, (nn.Linear, nn.Conv2d)) and id(module.weight) not in left_out]
    names = {id(parameter) for parameter in decayed} | left_out
    others = [parameter for parameter in model.parameters() if id(parameter) not in names]
    return [{"params": decayed, "weight_decay": weight_decay},
            {"params": others, "weight_decay": 0.0}]


def encoder_matrices(model: nn.Module) -> list[torch.Tensor]:
    """The weights of all linear layers in the blocks of a ViT: those that Muon trains.

    The first and the last layer of a model stay with AdamW (Jordan et al., 2024).
    Raises ValueError for a model without blocks, and where PyTorch has no Muon.
    """
    if not hasattr(torch.optim, "Muon"):
        raise ValueError(f"muon needs PyTorch 2.9 or newer, and this is {torch.__version__}")
    blocks = getattr(model, "blocks", None)  # of any class that is built like ViT
    if not isinstance(blocks, nn.Module):
        raise ValueError(f"muon trains the blocks of a ViT, and this is {type(model).__name__}")
    return [module.weight for module in blocks.modules() if isinstance(module, nn.Linear)]


class Together(torch.optim.Optimizer):
    """Several optimizers, each for parameters of its own, that step and are stored as one."""

    def __init__(self, *parts: torch.optim.Optimizer):
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})

    def step(self, closure: Any = None) -> Any:
        """A step of each. A closure computes loss and gradients anew before it; its loss is
        returned, and None without one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # Loading a state replaces these objects, so the parts are given them anew.
        start = 0
        for part in self.parts:
            end = start + len(part.param_groups)
            part.state, part.param_groups = self.state, self.param_groups[start:end]
            part.step()
            start = end
        return loss


def warmup_cosine(step: int, warmup_steps: int, total_steps: int) -> float:
    """The learning rate of a step (counted from 0) as a share of the highest: a linear rise, then
    half a cosine to 0."""
    # step + 1, because a first step at a learning rate of 0 would change nothing.
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 * (
        1 + math.cos(math.pi * (step - warmup_steps) / max(total_steps - warmup_steps, 1)))


def cpu_has_bfloat16() -> bool:
    """Whether this CPU has instructions for products in bfloat16; the others only emulate it."""
    # Older versions of PyTorch do not tell.
    has: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(has.get("amx_bf16") or has.get("avx512_bf16"))


def computing_dtype(
    device: torch.device, precision: str = "auto", hidden_size: int = 0,
) -> torch.dtype:
    """The type in which matrix products and attention are computed in training.

    precision: fp32, fp16, bf16, or auto: bfloat16 on NVIDIA's GPUs since Ampere, float16 on older
    ones such as the T4, which only emulate bfloat16; on a CPU with instructions for it bfloat16
    where hidden_size is at least BFLOAT16_FROM; and float32 elsewhere.
    Raises ValueError for another precision.
    """
    if precision == "auto":
        if device.type == "cuda":
            has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
            return torch.bfloat16 if has_bf16 else torch.float16
        wide = device.type == "cpu" and hidden_size >= BFLOAT16_FROM
        return torch.bfloat16 if wide and cpu_has_bfloat16() else torch.float32
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be auto, {', '.join(PRECISIONS)}, not {precision!r}")
    return PRECISIONS[precision]


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager:
    """A context in which matrix products and attention are computed in dtype. Weights, LayerNorms,
    skip connections and losses stay in float32."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def grad_scaler(device: torch.device, dtype: torch.dtype) -> torch.amp.GradScaler:
    """Scales losses up, so that small gradients do not vanish in float16; with any other dtype it
    does nothing. It leaves out steps whose gradients overflow, and scales less from then on."""
    return torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)


@contextmanager
def tensor_float_32(device: torch.device) -> Iterator[None]:
    """On a GPU, what stays in float32 may be multiplied in TensorFloat-32, which has 10 bits for
    the fraction of a number: GPUs since Ampere do so many times faster."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
