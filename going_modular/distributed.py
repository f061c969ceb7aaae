"""Several processes, one for each GPU, as torchrun starts them: their numbers, sums over all of
them, sharded weights.

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
    """Connect to the other processes for the time of the context, each with a GPU of its own where
    there is one."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    # NCCL is for the gradients on GPUs, Gloo for numbers and objects on the CPU. The others wait
    # while process 0 downloads or draws the data, hence the long timeout.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=datetime.timedelta(minutes=60))
    # Not in a finally: after an error, on GPUs, this would wait for the other processes, which may
    # be waiting for this one. It has to end at once; torchrun notices that and ends the others.
    yield
    dist.destroy_process_group()


def rank() -> int:
    """The number of this process, counted from 0. Process 0 prints and writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """The number of processes."""
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
    """The value of process 0, in all processes."""
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
    """Let process 0 run the body before all others, so that they find what it has downloaded."""
    # All meet at one barrier: the others before the body, process 0 after it.
    if rank() > 0:
        dist.barrier()
    yield
    if rank() == 0 and size() > 1:
        dist.barrier()


def shard(model: nn.Module, device: torch.device) -> None:
    """Split the weights of a ViT over the processes (FSDP2), block by block, each on its `device`.

    Each process then has a part of the weights, of the gradients and of AdamW's averages. The
    weights of a block are gathered while it computes, and those of all blocks during an evaluation
    (`whole`). With autocast, a bfloat16 copy of a block's weights stays in memory from its forward
    to its backward pass, unless gradient checkpointing computes it again.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard  # takes a second to import, and is seldom needed

    # Blocks first: what is left, embeddings and head, forms the last group, of the whole model.
    mesh = init_device_mesh(device.type, (size(),))
    for block in model.get_submodule("blocks").children():
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


@contextmanager
def whole(model: nn.Module) -> Iterator[None]:
    """Gather all weights of a sharded model in each process for the time of the context.

    Gathering takes all processes at once, so without this they could not evaluate different numbers
    of batches. For other models the context changes nothing.
    """
    # A sharded module is an FSDPModule. That class takes a second to import, hence the hasattr.
    shards: list[Any] = [module for module in model.modules() if hasattr(module, "unshard")]
    for module in shards:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    try:
        yield
    finally:
        for module in shards:
            # As fully_shard had set it: the root stays gathered, as its backward pass comes first.
            module.set_reshard_after_forward(module is not model, recurse=False)
            module.reshard()


def whole_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """The whole tensor, on its device, of a sharded one (a DTensor). Others are returned as they
    are."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def gathered(values: Any) -> Any:
    """The same dicts and lists, of any depth, with whole tensors on the CPU in place of sharded
    ones."""
    if isinstance(values, dict):
        return {key: gathered(value) for key, value in values.items()}
    if isinstance(values, list):
        return [gathered(value) for value in values]
    return values.full_tensor().cpu() if hasattr(values, "full_tensor") else values


def sharded_like(values: dict, like: dict) -> dict:
    """Whole tensors, sharded in the same way as those of the same name in `like`. Where those are
    not sharded, the tensors stay as they are."""
    def sharded(value: Any, like: Any) -> Any:
        if not hasattr(like, "full_tensor"):
            return value
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)

    return {name: sharded(value, like.get(name)) for name, value in values.items()}
