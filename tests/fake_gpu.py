"""An NVIDIA GPU for tests on machines that have none: its tensors say that they are on cuda:0, and compute on the CPU.

    with fake_gpu("T4") as gpu:
        model.to("cuda")(images.to("cuda")).sum().backward()
    assert gpu.waits == 0 and gpu.peak_memory < 100_000_000

What a tensor is made of, its storage, carries the mark that it lies on the GPU. A TorchDispatchMode sees each operation
below autograd, in forward and backward passes and in optimizers: it refuses those that mix GPU and CPU, counts, and
marks what comes out. The rest are attributes of torch that are replaced as long as the context lasts.

It has one GPU and knows nothing of streams, time, NCCL, or memory that a kernel takes for itself. What the operations
give is what the CPU gives, and a kernel that CUDA lacks is not missed. The mode belongs to the thread that entered it.
"""
import contextlib
import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

aten = torch.ops.aten
CUDA, CPU = torch.device("cuda:0"), torch.device("cpu")


@dataclass(frozen=True)
class Card:
    """What the driver says of a graphics card."""

    name: str
    capability: tuple[int, int]
    memory: int  # bytes
    multiprocessors: int


CARDS = {
    "T4": Card("Tesla T4", (7, 5), 15 * 1024**3, 40),
    "H100": Card("NVIDIA H100 80GB HBM3", (9, 0), 80 * 1024**3, 132),
}

# The host needs a result of these, a number or how many elements there are, before it can go on.
WAITING = {aten._local_scalar_dense, aten.equal, aten.nonzero, aten.masked_select, aten.bincount, aten._unique2,
           aten.unique_dim, aten.unique_consecutive}
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._unsafe_index, aten._index_put_impl_}

# The CPU has an attention kernel of its own, which PyTorch does not count.
FLOPS = {
    **flop_registry,
    aten._scaled_dot_product_flash_attention_for_cpu:
        lambda q, k, v, *_, out_val, **__: sdpa_flop_count(q.shape, k.shape, v.shape),
    aten._scaled_dot_product_flash_attention_for_cpu_backward:
        lambda grad, q, k, v, *_, out_val, **__: sdpa_backward_flop_count(grad.shape, q.shape, k.shape, v.shape),
}

# Autocast computes these in float32 on CUDA, and in whatever type comes in on a CPU. (The list of operations in half
# precision is nearly the same on both.)
FLOAT32 = ("softmax.int", "log_softmax.int", "layer_norm", "group_norm", "logsumexp", "exp", "log", "rsqrt",
           "pow.Tensor_Scalar", "sum", "sum.dim_IntList", "cumsum", "prod", "binary_cross_entropy_with_logits")


class FakeGPU(TorchDispatchMode):
    """The state of a fake card, and what happens at each operation.

    waits: how often the host has waited for a result of the GPU: .item(), bool(), .cpu(), nonzero, a boolean mask as an
        index, torch.cuda.synchronize.
    blocking_copies: copies to the GPU that the host waits for, as they are not both out of pinned memory and
        non_blocking.
    memory, peak_memory: bytes of the tensors that are alive, now and at most (not rounded up, as CUDA does).
    multiply_adds: of matrix products, convolutions and attention, in forward and backward passes.
    """

    def __init__(self, card: Card):
        super().__init__()
        self.card, self.process = card, os.getpid()
        self.waits = self.blocking_copies = self.memory = self.peak_memory = self.multiply_adds = 0
        self.backward_pass = -1  # the last one in which an operation took place here
        self.manual_seed(0)

    def manual_seed(self, seed: int) -> None:
        self.random_state = torch.Generator("cpu").manual_seed((seed + 0xC0DA) % 2**63).get_state()  # not the CPU's

    def set_random_state(self, state: torch.Tensor, device: Any = None) -> None:
        self.random_state = state.clone()

    def holds(self, tensor: torch.Tensor) -> bool:
        return getattr(storage_of(tensor), "gpu", None) is self

    def __torch_dispatch__(self, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        # In inference mode what is made of other operations comes here as a whole.
        if torch.is_inference_mode_enabled() and operation.overloadpacket is not aten.one_hot:
            with self:
                result = operation.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result

        tensors = [value for value in tree_iter((args, kwargs)) if isinstance(value, torch.Tensor)]
        here = [tensor for tensor in tensors if self.holds(tensor)]
        device, task = kwargs.get("device"), torch._C._current_graph_task_id()
        if device == CPU and task != -1 and operation.overloadpacket is not aten.empty_like:
            # Autograd's own code in C++ takes our tensors for ones of the CPU, and asks there for what belongs on the
            # GPU: a gradient in another type, zeros in place of one. (What goes to the CPU starts by empty_like: Move.)
            to_gpu = bool(here) or not tensors and task == self.backward_pass
        else:
            to_gpu = bool(here) if device is None else device.type == "cuda"
        if not here and not to_gpu:
            return operation(*args, **kwargs)

        # The rules of CUDA
        if os.getpid() != self.process:
            raise RuntimeError("Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you "
                               "must use the 'spawn' start method")
        if device is not None and device.type == "cuda":
            if device.index:
                raise torch.AcceleratorError("CUDA error: invalid device ordinal")
            kwargs["device"] = CPU
            if not tensors:  # before the CPU's memory is asked for it
                self._raise_if_full(storage_of(operation(*args, **{**kwargs, "device": "meta"})).nbytes())
        elif device is None:
            self._forbid_mixing(operation, args, tensors)
        self._count(operation, args, kwargs)
        self.backward_pass = task

        with self._own_random_numbers(operation, kwargs):
            result = operation(*args, **kwargs)

        if formula := FLOPS.get(operation.overloadpacket):
            self.multiply_adds += formula(*args, **kwargs, out_val=result) // 2
        if to_gpu:
            before = {id(storage_of(tensor)) for tensor in tensors}  # of the same storage: a view, or it in place
            for tensor in tree_iter(result):
                if isinstance(tensor, torch.Tensor) and id(storage_of(tensor)) not in before:
                    self._place(storage_of(tensor))
        return result

    def _forbid_mixing(self, operation: Any, args: tuple, tensors: Iterable[torch.Tensor]) -> None:
        """Raise RuntimeError for tensors of the CPU beside ours. A single number may lie there where the operation goes
        element by element and only reads it; and so may what indexes a tensor."""
        packet = operation.overloadpacket
        if packet in (aten.copy_, aten._has_compatible_shallow_copy_type):
            return
        indexing = packet in INDEXING and self.holds(args[0])
        indices = {id(index) for index in args[1]} if indexing else ()
        for tensor in tensors:
            written = operation._schema.is_mutable and tensor is args[0]
            single = tensor.ndim == 0 and not written and (indexing or torch.Tag.pointwise in operation.tags)
            if not (self.holds(tensor) or single or id(tensor) in indices):
                raise RuntimeError("Expected all tensors to be on the same device, but found at least two devices, "
                                   f"cuda:0 and {tensor.device}! (in {operation}, a tensor of shape "
                                   f"{[*tensor.shape]})")

    def _count(self, operation: Any, args: tuple, kwargs: dict) -> None:
        """Count a wait, or a copy that the host waits for."""
        packet = operation.overloadpacket
        if packet is aten.copy_:
            target, source, *asynchronous = args
            if self.holds(source) and not self.holds(target):
                self.waits += not any(asynchronous)
            elif self.holds(target) and not self.holds(source):
                self.blocking_copies += not (any(asynchronous) and is_pinned(source))
        elif packet in INDEXING:
            indices = [index for index in args[1] if index is not None]
            masked = any(index.dtype in (torch.bool, torch.uint8) for index in indices)
            # x[mask] = number needs no positions; x[mask] and x[mask] = tensor do
            self.waits += masked and not (len(args) > 2 and args[2].numel() == 1)
            self.blocking_copies += sum(not self.holds(index) for index in indices)
        elif operation is aten.repeat_interleave.Tensor:
            self.waits += kwargs.get("output_size") is None
        else:
            self.waits += packet in WAITING

    @contextlib.contextmanager
    def _own_random_numbers(self, operation: Any, kwargs: dict) -> Iterator[None]:
        """Exchange the CPU's generator for ours, as not every operation can be handed one."""
        if kwargs.get("generator") is not None or torch.Tag.nondeterministic_seeded not in operation.tags:
            yield
            return
        of_cpu = torch.get_rng_state()
        torch.set_rng_state(self.random_state)
        try:
            yield
        finally:
            self.random_state = torch.get_rng_state()
            torch.set_rng_state(of_cpu)

    def _raise_if_full(self, needed: int) -> None:
        if self.memory + needed > self.card.memory:
            asked, total, free = (size / 1024**2 for size in (needed, self.card.memory, self.card.memory - self.memory))
            raise torch.cuda.OutOfMemoryError(
                f"CUDA out of memory. Tried to allocate {asked:.2f} MiB. GPU 0 has a total capacity of {total:.2f} MiB "
                f"of which {free:.2f} MiB is free.")

    def _place(self, storage: torch.UntypedStorage) -> None:
        """Mark a new storage as one of this GPU, from now until nothing refers to it any more."""
        if getattr(storage, "gpu", None) is self:
            return
        self._raise_if_full(size := storage.nbytes())
        storage.gpu = self
        weakref.finalize(storage, self._free, size)
        self.memory += size
        self.peak_memory = max(self.peak_memory, self.memory)

    def _free(self, size: int) -> None:
        self.memory -= size

    def wait(self, device: Any = None) -> None:
        self.waits += 1

    def reset_peak(self, device: Any = None) -> None:
        self.peak_memory = self.memory


def storage_of(tensor: torch.Tensor) -> torch.UntypedStorage | None:
    """What holds a tensor's numbers; the same object for as long as they live. None for a sparse tensor."""
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return None


def is_pinned(tensor: torch.Tensor, device: Any = None) -> bool:
    return getattr(storage_of(tensor), "pinned", False)


class Move(torch.autograd.Function):
    """A copy of a tensor on the other device; its gradient goes back the same way."""

    @staticmethod
    def forward(
        ctx: Any, tensor: torch.Tensor, device: torch.device, dtype: torch.dtype, non_blocking: bool,
        memory_format: torch.memory_format,
    ) -> torch.Tensor:
        ctx.origin = tensor.device, tensor.dtype
        copy = torch.empty_like(tensor, device=device, dtype=dtype, memory_format=memory_format)
        return copy.copy_(tensor, non_blocking)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple:
        return gradient.to(*ctx.origin), None, None, None, None


class Generator(torch.Generator):
    """A generator that says it is one of the GPU, where that was asked for."""

    def __new__(cls, device: torch.device | str = CPU) -> "Generator":
        generator = super().__new__(cls, CPU)
        generator.place = CUDA if torch.device(device).type == "cuda" else CPU
        return generator

    device = property(lambda generator: generator.place)


def of_tensors(gpu: FakeGPU) -> dict[str, Any]:
    """What methods and constructors of tensors become, by name. C++ takes all tensors for ones of the CPU."""
    Tensor = torch.Tensor
    plain = {name: getattr(Tensor, name) for name in ("device", "to", "numpy", "tolist")}
    of_storage = torch.UntypedStorage.device

    def device(tensor: torch.Tensor) -> torch.device:
        return CUDA if gpu.holds(tensor) else plain["device"].__get__(tensor)

    def to(tensor: torch.Tensor, *args: Any, copy: bool = False, **kwargs: Any) -> torch.Tensor:
        other = kwargs.pop("other", None)
        if args and isinstance(args[0], Tensor):
            other, *args = args
        if other is not None:
            args = (other.device, other.dtype, *args)
        target, dtype, non_blocking, memory_format = torch._C._nn._parse_to(*args, **kwargs)
        dtype, memory_format = dtype or tensor.dtype, memory_format or torch.preserve_format
        if target is not None and target.type != tensor.device.type and "cuda" in (target.type, tensor.device.type):
            return Move.apply(tensor, target, dtype, non_blocking, memory_format)
        elsewhere = {"device": target} if target is not None and target.type != "cuda" else {}
        return plain["to"](tensor, dtype=dtype, non_blocking=non_blocking, copy=copy, memory_format=memory_format,
                           **elsewhere)

    def numpy(tensor: torch.Tensor, **kwargs: Any) -> Any:
        if gpu.holds(tensor):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to "
                            "host memory first.")
        return plain["numpy"](tensor, **kwargs)

    def pin_memory(tensor: torch.Tensor, device: Any = None) -> torch.Tensor:
        if gpu.holds(tensor):
            raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")
        pinned = tensor if is_pinned(tensor) else tensor.clone()
        storage_of(pinned).pinned = True
        return pinned

    def creating(function: Callable) -> Callable:
        """torch.tensor or torch.as_tensor, on the CPU at first, as C++ lets no mode see what they do."""
        def create(data: Any, *, device: Any = None, requires_grad: bool = False, **kwargs: Any) -> torch.Tensor:
            device = device or (data.device if isinstance(data, Tensor) else torch.empty(0).device)
            tensor = function(data, device=CPU, **kwargs).to(device)
            return tensor.requires_grad_() if requires_grad else tensor
        return create

    def as_bytes(storage: torch.UntypedStorage) -> torch.Tensor:
        return torch.empty(0, dtype=torch.uint8, device=CPU).set_(storage)

    def grouped(lists: list[list], with_indices: bool = False, plain: Callable =
                torch._C._group_tensors_by_device_and_dtype) -> dict:
        """By device and type, as optimizers and clipping need it. (All tensors of a model lie on one device here.)"""
        groups = plain(lists, with_indices)
        return {(next(t.device for t in group[0][0] if t is not None), dtype): group
                for (_, dtype), group in groups.items()}

    return {
        "torch.Tensor.device": property(device),
        "torch.Tensor.is_cuda": property(gpu.holds),
        "torch.Tensor.is_cpu": property(lambda tensor: tensor.device.type == "cpu"),
        "torch.Tensor.get_device": lambda tensor: 0 if gpu.holds(tensor) else -1,
        "torch.Tensor.to": to,
        "torch.Tensor.type_as": lambda tensor, other: tensor.to(other),
        "torch.Tensor.cuda": lambda tensor, device=CUDA, non_blocking=False: tensor.to(
            device, non_blocking=non_blocking),
        "torch.Tensor.cpu": lambda tensor: tensor.to(CPU),
        "torch.Tensor.numpy": numpy,
        "torch.Tensor.tolist": lambda tensor: plain["tolist"](tensor.to(CPU)),
        "torch.Tensor.pin_memory": pin_memory,
        "torch.Tensor.is_pinned": is_pinned,
        "torch.UntypedStorage.device": property(
            lambda storage: CUDA if getattr(storage, "gpu", None) is gpu else of_storage.__get__(storage)),
        "torch.UntypedStorage.clone": lambda storage: as_bytes(storage).clone().untyped_storage(),
        "torch.UntypedStorage.to": lambda storage, *, device, non_blocking=False: as_bytes(storage).to(
            device, non_blocking=non_blocking).untyped_storage(),
        "torch.tensor": creating(torch.tensor),
        "torch.as_tensor": creating(torch.as_tensor),
        "torch.Generator": Generator,
        "torch._C._group_tensors_by_device_and_dtype": grouped,
    }


def of_the_card(gpu: FakeGPU) -> dict[str, Any]:
    """What torch asks the driver, by name: the card itself, its memory, its generator."""
    card = gpu.card
    properties = SimpleNamespace(
        name=card.name, major=card.capability[0], minor=card.capability[1], total_memory=card.memory,
        multi_processor_count=card.multiprocessors)

    def set_device(index: Any) -> None:
        if torch.device("cuda", index if isinstance(index, int) else torch.device(index).index or 0) != CUDA:
            raise torch.AcceleratorError("CUDA error: invalid device ordinal")

    answers = {
        "_lazy_init": lambda: None, "is_initialized": lambda: True, "is_available": lambda: True,
        "_is_in_bad_fork": lambda: os.getpid() != gpu.process, "device_count": lambda: 1, "current_device": lambda: 0,
        "set_device": set_device, "_exchange_device": lambda index: 0, "_maybe_exchange_device": lambda index: 0,
        "get_device_name": lambda device=None: card.name, "get_device_capability": lambda device=None: card.capability,
        "get_device_properties": lambda device=None: properties, "is_current_stream_capturing": lambda: False,
        "is_bf16_supported": lambda including_emulation=True: including_emulation or card.capability >= (8, 0),
        "synchronize": gpu.wait, "empty_cache": lambda: None,
        "mem_get_info": lambda device=None: (card.memory - gpu.memory, card.memory),
        "memory_allocated": lambda device=None: gpu.memory, "memory_reserved": lambda device=None: gpu.memory,
        "max_memory_allocated": lambda device=None: gpu.peak_memory,
        "max_memory_reserved": lambda device=None: gpu.peak_memory, "reset_peak_memory_stats": gpu.reset_peak,
        "manual_seed": gpu.manual_seed, "manual_seed_all": gpu.manual_seed,
        "get_rng_state": lambda device=None: gpu.random_state.clone(), "set_rng_state": gpu.set_random_state,
    }
    return {
        **{f"torch.cuda.{name}": answer for name, answer in answers.items()},
        "torch.backends.cuda.is_built": lambda: True,
        "torch.accelerator.current_accelerator": lambda check_available=False: torch.device("cuda"),
        "torch.accelerator.current_device_index": lambda: 0,
        "torch.accelerator.set_device_index": set_device,
        "torch.accelerator.synchronize": gpu.wait,
        "torch.accelerator.current_stream": lambda device=None: SimpleNamespace(is_capturing=lambda: False),
        "torch.compile": lambda model=None, **_: model or (lambda function: function),
    }


def one_hot(labels: torch.Tensor, num_classes: int = -1) -> torch.Tensor:
    """As on CUDA, where labels are not checked: that would wait for them."""
    num_classes = num_classes if num_classes >= 0 else int(labels.max()) + 1
    return labels.new_zeros(*labels.shape, num_classes).scatter_(-1, labels.unsqueeze(-1), 1)


@contextlib.contextmanager
def kernels_of_cuda() -> Iterator[None]:
    """Let the CPU do as CUDA does: autocast computes FLOAT32 in float32, and one_hot does not look at its labels."""
    library = torch.library.Library("aten", "IMPL")
    autocast = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)

    def widened(value: Any) -> Any:
        half = isinstance(value, torch.Tensor) and value.dtype in (torch.float16, torch.bfloat16)
        return value.float() if half else value

    def kernel(operation: Any) -> Callable:
        def compute(*args: Any, **kwargs: Any) -> Any:
            with torch._C._ExcludeDispatchKeyGuard(autocast):
                return operation(*tree_map(widened, args), **kwargs)
        return compute

    library.impl("one_hot", one_hot, "CPU")
    for name in FLOAT32:
        packet, _, overload = name.partition(".")
        library.impl(name, kernel(getattr(getattr(aten, packet), overload or "default")), "AutocastCPU")
    try:
        yield
    finally:
        library._destroy()


def as_on_cpu(enter: Callable, leave: Callable) -> dict[str, Any]:
    """torch.autocast("cuda", dtype) also switches on that of the CPU, where the tensors really are."""
    def __enter__(context: torch.autocast) -> Any:
        if context.device == "cuda":
            context.below = torch.autocast("cpu", context.fast_dtype, context._enabled, context._cache_enabled)
            context.below.__enter__()
        return enter(context)

    def __exit__(context: torch.autocast, *error: Any) -> Any:
        if context.device == "cuda":
            context.below.__exit__(*error)
        return leave(context, *error)

    return {"torch.autocast.__enter__": __enter__, "torch.autocast.__exit__": __exit__}


@contextlib.contextmanager
def fake_gpu(name: str = "H100", memory: int | None = None) -> Iterator[FakeGPU]:
    """A machine with one card of CARDS, for as long as this lasts. memory: bytes, where the card's own are too many."""
    if torch.cuda.is_available():
        torch.cuda.init()  # a real one: PyTorch does that once, and would take it for done
    card = CARDS[name]
    gpu = FakeGPU(Card(card.name, card.capability, memory or card.memory, card.multiprocessors))
    replaced = {**of_tensors(gpu), **of_the_card(gpu), **as_on_cpu(torch.autocast.__enter__, torch.autocast.__exit__)}
    with pytest.MonkeyPatch.context() as patch, kernels_of_cuda(), gpu:
        for path, value in replaced.items():
            patch.setattr(path, value)
        yield gpu
