"""Several processes, one for each GPU, as torchrun starts them: who is this one, sums
over all, sharded weights.

    torchrun --nproc_per_node=4 -m going_modular.train ...

Without torchrun there is one process, and everything here does nothing.
"""
import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

Value = TypeVar("Value")


@contextmanager
def connected() -> Iterator[None]:
    """Join the other processes for as long as this lasts, each with a GPU of
    its own where there is one.

    An error is not followed by a farewell: on GPUs that waits for the others, who may wait for this
    process. It must end now; torchrun sees that and ends them.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=datetime.timedelta(minutes=60))
    yield
    dist.destroy_process_group()


def rank() -> int:
    """The number of this process, from 0 on. Process 0 prints and writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def total(*values: float) -> list[float]:
    """The sum of each value over all processes."""
    if size() == 1:
        return list(values)
    sums = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(sums)
    return sums.tolist()


def any_of(flag: bool) -> bool:
    """Whether the flag is set in any process."""
    return total(flag)[0] > 0


def from_first(value: Value) -> Value:
    """The value that process 0 has."""
    values = [value]
    if size() > 1:
        dist.broadcast_object_list(values, src=0)
    return values[0]


def from_all(value: Value) -> list[Value]:
    """The values of all processes, by rank."""
    values = [value] * size()
    if size() > 1:
        dist.all_gather_object(values, value)
    return values


@contextmanager
def first_goes_ahead() -> Iterator[None]:
    """Process 0 does what is inside before all others: they find what it has downloaded."""
    if rank() > 0:
        dist.barrier()
    yield
    if rank() == 0 and size() > 1:
        dist.barrier()


def shard(model: nn.Module, device: torch.device) -> None:
    """Split the weights of a ViT over the processes (FSDP2), block by block, each on its `device`.

    Weights, gradients and the averages of AdamW are then held in shares; the weights of a block are
    gathered while it computes, and those of all blocks during an evaluation (`whole`). With
    autocast, a copy in bfloat16 of a block's weights stays from its forward to its backward pass,
    unless checkpointing computes it anew.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard  # a second to import, and seldom needed

    mesh = init_device_mesh(device.type, (size(),))
    for block in model.get_submodule("blocks").children():
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


@contextmanager
def whole(model: nn.Module) -> Iterator[None]:
    """Keep all weights of a sharded model in each process: its processes may then evaluate
    different numbers of batches."""
    # Each is an FSDPModule, a class that takes a second to import.
    shards: list[Any] = [module for module in model.modules() if hasattr(module, "unshard")]
    for module in shards:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    try:
        yield
    finally:
        for module in shards:
            # as fully_shard sets it
            module.set_reshard_after_forward(module is not model, recurse=False)
            module.reshard()


def whole_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor that is sharded (a DTensor) as a whole one on its device; others as they are."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def gathered(values: Any) -> Any:
    """Tensors, in dicts and lists of any depth, as whole ones on the CPU where they are
    sharded; others as they are."""
    if isinstance(values, dict):
        return {key: gathered(value) for key, value in values.items()}
    if isinstance(values, list):
        return [gathered(value) for value in values]
    return values.full_tensor().cpu() if hasattr(values, "full_tensor") else values


def sharded_like(values: dict, like: dict) -> dict:
    """Whole tensors, sharded as those of the same name in `like` are; what is not sharded
    there stays as it is."""
    def sharded(value: Any, like: Any) -> Any:
        if not hasattr(like, "full_tensor"):
            return value
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)

    return {name: sharded(value, like.get(name)) for name, value in values.items()}
