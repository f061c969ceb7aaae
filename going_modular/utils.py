"""Seeds, device and files, for several modules. Checkpoints are read as tensors and plain values,
never as code."""
import argparse
import contextlib
import dataclasses
import functools
import os
import pickle
import random
import re
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from going_modular.vit import ViT

# A side in pixels, of a square, or (height, width); of a grid of patches, (rows, columns).
Size = int | tuple[int, int]
# The models that come with the package, NAME.pt; benchmarks/trained.py makes them.
TRAINED = Path(__file__).parent / "weights" / "trained"
# What files of weights hold beside tensors (those of DeiT and MAE, for example) and runs no code:
# the options of a training, and numpy's numbers, whose parts older versions of numpy call otherwise.
HARMLESS: list[Any] = [
    argparse.Namespace, np.dtype,
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar")
      for core in ("core", "_core")),
    *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "?"))]
COLAB_DRIVE = Path("/content/drive")  # where Colab's own notebooks mount Google Drive


class CheckpointError(ValueError):
    """A checkpoint that cannot be used. The message is one line: which file it is, what is wrong
    with it, and what to do."""


@dataclasses.dataclass
class RunInfo:
    """What belongs to a trained model besides its weights: how to use it and how it was trained."""

    class_names: list[str]
    image_size: Size  # pixels
    transform: Callable  # the evaluation transform: PIL image -> [3, H, W]
    settings: dict  # of the run: data, lr, seed, ...
    epoch: int  # epochs trained


def sides(size: Size) -> tuple[int, int]:
    """(height, width), or (rows, columns), of a Size."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def size_of(height: int, width: int) -> Size:
    """The Size of these two sides, which is one number for a square."""
    return height if height == width else (height, width)


def in_pixels(size: Size) -> str:
    """An image size as text: 64 for a square, 64x96 for a height of 64 and a width of 96."""
    return str(size) if isinstance(size, int) else "x".join(map(str, size))


def why_patches_do_not_fit(image_size: Size, patch_size: int) -> str:
    """Why an image can't be cut into patches of this size, with the nearest sizes that can; ""
    where it can."""
    for side in sides(image_size):
        if rest := side % patch_size:
            fitting = [str(size) for size in (side - rest, side - rest + patch_size) if size]
            return (f"patches of {patch_size} px do not fit into {side} px: "
                    f"{' or '.join(fitting)} px would do")
    return ""


def set_seeds(seed: int = 42) -> None:
    """Seed the random numbers of Python, NumPy and PyTorch, on all devices."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def pick_device(name: str = "auto") -> torch.device:
    """A torch device by name; "auto" takes the first that computes of CUDA, MPS (Apple's) and CPU.

    A GPU that does not compute, as its driver is too old or PyTorch has no kernels for it, is
    passed over by "auto", with a printed line that says why.
    Raises ValueError where the device asked for by name does not compute.
    """
    if name != "auto":
        try:
            return _proven(name)
        except (RuntimeError, AssertionError) as error:  # PyTorch without CUDA raises the latter
            raise ValueError(f"there is no device {name!r} on this machine that can be used "
                             f"({_first_line(error)}): use --device cpu") from None
    for name, backend in (("cuda", torch.cuda), ("mps", torch.backends.mps)):
        # Where the driver is too old, PyTorch says so in a warning, and that no GPU is available.
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            available = backend.is_available()
        reason = _first_line(said[0].message) if said else ""
        if available:
            try:
                return _proven(name)
            except RuntimeError as error:
                reason = _first_line(error)
        if reason:
            print(f"the device {name} is passed over: {reason}")
    return torch.device("cpu")


def _proven(name: str) -> torch.device:
    """The device of this name, after a matrix product on it.

    Raises RuntimeError, or AssertionError, where it can't compute one, or not rightly.
    """
    ones = torch.ones(8, 8, device=name)
    if (product := (ones @ ones).sum().item()) != 512:
        raise RuntimeError(f"a matrix product that sums to 512 came out as {product}")
    return ones.device


def _first_line(message: object) -> str:
    return str(message).split("\n")[0]


class _LastingStream:
    """A text stream whose writing never fails. What the console's encoding lacks becomes a question
    mark; where nobody reads any more, or there is no stream (None), texts are dropped."""

    def __init__(self, stream: TextIO | None):
        self.stream = open(os.devnull, "w") if stream is None else stream

    def __getattr__(self, name: str) -> Any:  # isatty, encoding and the like
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        try:
            try:
                self.stream.write(text)
            except UnicodeEncodeError:
                encoding = self.stream.encoding
                self.stream.write(text.encode(encoding, "replace").decode(encoding))
        except (OSError, ValueError):  # its reader has gone, its disk is full; it was closed
            self._drop()
        return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except (OSError, ValueError):
            self._drop()

    def _drop(self) -> None:
        nowhere = open(os.devnull, "w")
        # The file itself has to lead nowhere: when Python ends, it writes what its buffer holds.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(nowhere.fileno(), self.stream.fileno())
        self.stream = nowhere


@contextlib.contextmanager
def lasting_output() -> Iterator[None]:
    """Let no print and no progress bar raise in this context, or in a function that it decorates:
    on a console that is not UTF-8, without stdout or stderr, after `| head` has read enough."""
    # A file that is opened takes the lowest number that is free. Where stderr was closed, that
    # could be a checkpoint, into which PyTorch's C++ code would write its warnings.
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    lasting: Any = [_LastingStream(stream) for stream in before]
    sys.stdout, sys.stderr = lasting
    try:
        yield
    finally:
        for stream in lasting:
            stream.flush()
        sys.stdout, sys.stderr = before


def project_folder() -> Path:
    """The nearest folder with going_modular/ in it, at or above the working folder; where there is
    none, the working folder."""
    # A notebook runs in notebooks/, a command in the folder above, and both find the same files.
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents)
                 if (folder / "going_modular").is_dir()), here)


@functools.cache
def _google_drive() -> Path | None:
    """In Colab, the user's Google Drive, mounted if they agree; else None. It asks once in a
    session."""
    if "google.colab" not in sys.modules:
        return None
    question = ("Colab deletes its disk at the end of a session. Keep the runs in your Google "
                "Drive, so that they can be resumed? [y/n] ")
    if not input(question).strip().lower().startswith("y"):
        return None
    from google.colab import drive  # which exists in Colab alone

    drive.mount(str(COLAB_DRIVE))
    return COLAB_DRIVE / "MyDrive"


def work_folder(name: str) -> Path:
    """The folder runs/NAME, where a run keeps what it needs to be resumed; it is created.

    runs/ lies beside data/ (project_folder), or in Colab in vit/ in Google Drive, where the user
    agrees to that.
    """
    drive = _google_drive()
    folder = (project_folder() if drive is None else drive / "vit") / "runs" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it, so that `path` is a complete
    file at any moment.

    If that fails, for example on a full disk, the previous file stays and the temporary one is
    deleted.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        # To the disk before the renaming: after a power failure the new name could otherwise stand
        # for an empty file. Windows syncs no file that is open for reading alone, hence r+b.
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save_model(model: nn.Module, target_dir: str | Path, model_name: str) -> Path:
    """Save a model's state dict as target_dir/model_name, which must end in .pt or
    .pth. Returns the path."""
    if not model_name.endswith((".pt", ".pth")):
        raise ValueError(f"model_name must end in .pt or .pth, not {model_name!r}")
    path = Path(target_dir) / model_name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda temporary: torch.save(model.state_dict(), temporary))
    return path


def load_tensors(path: str | Path, mmap: bool = False) -> Any:
    """Read a file of torch.save onto the CPU, if it contains only tensors and plain values.

    mmap: map the file into memory instead of reading it, which the format of PyTorch 1.6 and later
        allows.

    Raises CheckpointError where the file is missing, cut short, or contains anything else but
    options and numbers of numpy (HARMLESS). Code in a pickle is never run.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}: check the path, or train first")
    try:
        with torch.serialization.safe_globals(HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True,
                              mmap=mmap and zipfile.is_zipfile(path))
    except Exception as error:  # what a damaged pickle raises has no limits
        if isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(path):
            found = re.search(r"GLOBAL ([\w.]+)", str(error))
            what = found[1] if found else "more than tensors and plain values"
            raise CheckpointError(f"{path} holds {what}: it is not loaded, as such a file can run "
                                  "code; where you trust it, load it by torch.load, and save its "
                                  "state dict alone") from None
        raise CheckpointError(f"{path} is cut short, damaged, or no checkpoint at all: use another "
                              "one") from None


def _is_ours(checkpoint: object) -> bool:
    # The keys of every checkpoint of Trainer, with the types that load_model relies on.
    kinds = {"model": dict, "architecture": dict, "settings": dict, "class_names": list,
             "epoch": int}
    return (isinstance(checkpoint, dict)
            and all(isinstance(checkpoint.get(name), kind) for name, kind in kinds.items())
            and all(isinstance(name, str) for name in checkpoint["class_names"]))


def is_checkpoint(path: str | Path) -> bool:
    """Whether a file is a checkpoint of `trainer`."""
    try:
        return _is_ours(load_tensors(path, mmap=True))
    except CheckpointError:
        return False


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of `trainer` onto the CPU.

    Raises CheckpointError as load_tensors does, and where the file is not a
    checkpoint of this package.
    """
    checkpoint = load_tensors(path)
    if not _is_ours(checkpoint):
        raise CheckpointError(f"{path} is not a checkpoint of this package: use the last.pt or "
                              "best.pt of a run")
    return checkpoint


def checkpoint_file(run: str | Path) -> Path:
    """The file of a run: the last.pt of its folder, a checkpoint itself, or what the package brings
    under this name, such as food98, where no file or folder in the working folder has it."""
    path = Path(run)
    packaged = TRAINED / f"{run}.pt"
    if not path.exists() and packaged.is_file():
        return packaged
    return path / "last.pt" if path.is_dir() else path


def load_model(run_folder_or_checkpoint: str | Path) -> "tuple[ViT, RunInfo]":
    """Load a trained model from a run folder (its last.pt), from a checkpoint, or by the name of a
    model that comes with the package (the files of TRAINED), in evaluation mode and on the CPU.

    Raises CheckpointError as read_checkpoint does, and where the weights do not fit the
    architecture beside them.
    """
    # Imported here, so that the rest of this module depends on no other.
    from going_modular.datasets.views import eval_transform
    from going_modular.vit import ViT
    from going_modular.weights.preprocessing import OF_A_RUN

    path = checkpoint_file(run_folder_or_checkpoint)
    name = path.parent.name
    if path.name == "last.pt" and not path.is_file() and (TRAINED / f"{name}.pt").is_file():
        raise CheckpointError(f"there is no checkpoint {path}: check the path, or train first; the "
                              f"model {name} that comes with the package is found from a working "
                              "folder in which nothing else has this name")
    checkpoint = read_checkpoint(path)
    try:
        model = ViT(**checkpoint["architecture"])
        model.load_state_dict(checkpoint["model"])
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"the weights in {path} do not fit their architecture: "
                              f"{error}".split("\n")[0]) from None
    image_size = model.settings["image_size"]
    model.preprocessing = OF_A_RUN.sized(image_size, model.settings["in_channels"])
    info = RunInfo(checkpoint["class_names"], image_size, eval_transform(image_size),
                   checkpoint["settings"], checkpoint["epoch"])
    return model.eval(), info
