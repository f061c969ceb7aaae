"""DataLoaders whose batches do not depend on the number of workers, processes or restarts.

    loader = make_loader(dataset, train_transform(64), batch_size=32, shuffle=True, seed=0)
    loader.batch_sampler.set_epoch(3)  # the next epoch is number 3: its order, its random numbers
"""
import ast
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler, Subset

from going_modular import distributed
from going_modular.datasets.images import (
    ArrayImages,
    CachedImages,
    ImageSet,
    reason_of,
    to_pixels,
)
from going_modular.datasets.views import AnyView, View


def combined_seed(*numbers: int) -> int:
    """One 32-bit seed from several numbers, the same on every machine."""
    return zlib.crc32(repr(numbers).encode())  # hash() may change from one Python to the next


class EpochSampler(Sampler):
    """The indices of an epoch, which goes over the data set `repeats` times, each time in a fresh
    order that follows from the seed and the number of that pass alone; yields (pass, index).

    Iterating counts the epoch up; set_epoch(n, skip) makes the next one epoch n without its first
    so many indices, as a resumed run needs.
    """

    def __init__(self, size: int, seed: int, repeats: int = 1):
        self.size, self.seed, self.repeats, self.epoch, self.skip = size, seed, repeats, 0, 0

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        self.epoch, self.skip = epoch, skip

    def __len__(self) -> int:
        return self.size * self.repeats

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, skip = self.epoch, self.skip
        self.set_epoch(epoch + 1)
        for number in range(epoch * self.repeats, (epoch + 1) * self.repeats):
            generator = torch.Generator().manual_seed(combined_seed(self.seed, number))
            for index in torch.randperm(self.size, generator=generator).tolist()[skip:]:
                yield number, index
            skip = max(0, skip - self.size)  # what is left to skip in the next pass


class MicroBatchSampler(Sampler):
    """The batches of an EpochSampler as micro-batches, `gradient_accumulation` of them for each
    batch and process: those of all processes (distributed.size) together are the batch, as one
    process without gradient accumulation has it.

    Where the last batch is too small for all, an empty micro-batch gets an image that does not
    count. Raises ValueError where a whole batch is too small, or for no micro-batch at all.
    """

    def __init__(self, sampler: EpochSampler, batch_size: int, gradient_accumulation: int = 1):
        if gradient_accumulation < 1:
            raise ValueError(f"gradient_accumulation must be at least 1, not {gradient_accumulation}")
        self.sampler, self.batch_size = sampler, batch_size
        self.gradient_accumulation = gradient_accumulation
        self.micro_batches = gradient_accumulation * distributed.size()  # of a batch, in all
        if batch_size < self.micro_batches:
            raise ValueError(f"a batch of {batch_size} images can't be cut into {self.micro_batches} "
                             "micro-batches (processes times gradient accumulation): take a larger one")

    def set_epoch(self, epoch: int, batches: int = 0) -> None:
        """Make the next epoch the one with this number, without its first so many batches."""
        self.sampler.set_epoch(epoch, skip=batches * self.batch_size)

    def __len__(self) -> int:
        """Micro-batches of an epoch for this process."""
        return -(-len(self.sampler) // self.batch_size) * self.gradient_accumulation

    def _place(self, step: int) -> int:
        """Which of all micro-batches of a batch is this process's, in this step of accumulation."""
        return distributed.rank() + step * distributed.size()

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        keys = iter(self.sampler)
        while batch := list(islice(keys, self.batch_size)):
            for step in range(self.gradient_accumulation):
                yield batch[self._place(step) :: self.micro_batches] or batch[:1]

    def images(self, number: int) -> tuple[int, int]:
        """(images that count in this process's micro-batch of this number in the epoch, images of
        the whole batch that it belongs to)."""
        batch, step = divmod(number, self.gradient_accumulation)
        of_batch = min(self.batch_size, len(self.sampler) - batch * self.batch_size)
        return len(range(self._place(step), of_batch, self.micro_batches)), of_batch


class ViewedImages(Dataset):
    """A data set seen through a view: item i is (image [3, H, W], label), of the view's height and
    width. Under a key (pass, index) the random numbers follow from (seed, pass, index), so that they do not depend
    on workers or on what ran before.

    __getitems__, which a DataLoader asks for a batch, gives what view.cut makes of each image, not
    finished yet.
    """

    def __init__(self, dataset: ImageSet, view: View, seed: int):
        self.dataset, self.view, self.seed = dataset, view, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[torch.Tensor, int]:
        (parts, label), = self.__getitems__([key])
        return self.view.finish(*(part[None] for part in parts))[0], label

    def __getitems__(self, keys: Sequence[int | tuple[int, int]]) -> list[tuple]:
        # Transforms draw from torch's default generator, and cannot be handed another. So it is
        # seeded for each image and gets its state back, as without workers a model shares it.
        state, items = torch.get_rng_state(), []
        for key in keys:
            if isinstance(key, tuple):
                torch.default_generator.manual_seed(combined_seed(self.seed, *key))
            pixels, label = _pixels(self.dataset, key[1] if isinstance(key, tuple) else key)
            items.append((self.view.cut(pixels), label))
        torch.set_rng_state(state)
        return items


def _pixels(dataset: ImageSet, index: int) -> tuple[torch.Tensor, int]:
    """Item as (uint8 [3, H, W], label), not copied where the data set holds it in memory."""
    # The type itself is asked, not isinstance: a class of one's own may give other items.
    while type(dataset) is Subset:
        index = dataset.indices[index]
        whole: Any = dataset.dataset  # which torch types as any Dataset
        dataset = whole
    if type(dataset) is CachedImages or type(dataset) is ArrayImages:
        return dataset.pixels(index)
    image, label = dataset[index]
    return to_pixels(image), label


def _check_worker_start(dataset: Dataset) -> None:
    """Raise ValueError where worker processes can't start: unlike forked ones they run the script
    again, up to its guard, and are sent the data set."""
    script, frame = sys.modules["__main__"], sys._getframe()
    while frame.f_back and not (frame.f_code.co_name == "<module>"
                                and frame.f_globals is vars(script)):
        frame = frame.f_back
    file = getattr(script, "__file__", None)  # which a notebook does not have
    if file and frame.f_globals is vars(script):
        statements = ast.walk(ast.parse(Path(file).read_bytes()))
        if not any(isinstance(each, ast.If) and each.lineno <= frame.f_lineno <= (each.end_lineno or 0)
                   for each in statements):
            raise ValueError(f"{file}, line {frame.f_lineno}: on this system worker processes run "
                             'the script again, so put this under `if __name__ == "__main__":`, or '
                             "take num_workers=0")
    try:
        pickled = pickle.dumps(dataset)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError("on this system worker processes can't be sent a lambda, nor a function "
                         f"inside another ({reason_of(error)}): write the transform as a def at "
                         "the top level of a file, or take num_workers=0") from None
    if not file and b"__main__" in pickled:
        raise ValueError("on this system worker processes do not see what a notebook defines: "
                         "import the transform from a file, or take num_workers=0")


class WorkerLoader(DataLoader):
    """A DataLoader that says in one line why its worker processes can't start, where they are not
    forked: on macOS and Windows, and with newer Pythons."""

    # torch types it as its own class of iterators, which nothing asks for.
    def __iter__(self) -> Iterator:  # type: ignore[override]
        if self.num_workers and not self._iterator and multiprocessing.get_start_method() != "fork":
            _check_worker_start(self.dataset)
        return super().__iter__()


class ViewLoader(WorkerLoader):
    """Batches of ViewedImages, finished on `device`: workers pass on bytes, and bytes go to the
    device, a quarter of what floats would be."""

    def __init__(self, images: ViewedImages, device: torch.device | str, **options: Any):
        super().__init__(images, pin_memory=torch.device(device).type == "cuda", **options)
        self.view, self.device = images.view, device

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:  # type: ignore[override]
        return map(self._finished, super().__iter__())

    def _finished(self, batch: tuple) -> tuple[torch.Tensor, torch.Tensor]:
        parts, labels = batch
        # Out of pinned memory the copy goes on while the GPU still computes on the last batch.
        *parts, labels = (part.to(self.device, non_blocking=self.pin_memory)
                          for part in (*parts, labels))
        return self.view.finish(*parts), labels


def _leave_signals_to_the_trainer(_: int) -> None:
    """Make a worker go on at Ctrl-C, and at a SIGTERM that is not from its trainer: these reach all
    processes of a job, and the trainer needs its next batch to stop in an orderly way."""
    def end_when_told(trainer: int) -> None:
        while signal.sigwaitinfo([signal.SIGTERM]).si_pid != trainer:
            pass
        os._exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # When a trainer ends, it may end its workers by SIGTERM, too; only sigwaitinfo tells who sent a
    # signal. So it is blocked, and a thread waits for it. macOS and Windows lack sigwaitinfo: a
    # worker there ends at any SIGTERM.
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        trainer = multiprocessing.parent_process()
        assert trainer is not None  # this is a worker, which has a parent
        threading.Thread(target=end_when_told, args=(trainer.pid,), daemon=True).start()


def make_loader(dataset: ImageSet, transform: Callable, batch_size: int, shuffle: bool = False,
                seed: int = 0, num_workers: int = 0, repeats: int = 1,
                gradient_accumulation: int = 1, device: torch.device | str = "cpu") -> DataLoader:
    """Batches (images [batch, 3, H, W], labels [batch]) of a data set of (PIL image, label), of the
    height and width that the transform gives.

    transform: a View, or any callable from a PIL image to a tensor, always of the same shape.
    shuffle: for training; order and augmentation of epoch n then follow from (seed, n) alone, with
        any number of workers: loader.batch_sampler.set_epoch(n). No image is dropped, so the last
        batch may be smaller.
    repeats: how often an epoch shows each image, for a set so small that one pass is soon over.
    gradient_accumulation: for training; a batch comes in so many micro-batches.
    device: where a view finishes its batches (colours, to floats), and where images and labels are.
    Among several processes each gets its share: of every batch for training, of the images else.
    """
    view = transform if isinstance(transform, View) else AnyView(transform)
    loader = partial(ViewLoader, ViewedImages(dataset, view, seed), device, num_workers=num_workers,
                     worker_init_fn=_leave_signals_to_the_trainer,
                     persistent_workers=num_workers > 0)
    if shuffle:
        sampler = EpochSampler(len(dataset), seed, repeats)
        return loader(batch_sampler=MicroBatchSampler(sampler, batch_size, gradient_accumulation))
    mine = range(distributed.rank(), len(dataset), distributed.size())
    return loader(batch_size=batch_size, sampler=mine)
