"""What all exercises share: the reader's code is built, given weights, run, and compared with the
reference.

If something is wrong, these functions raise NotYet with the message for the reader. `theirs` is
always the reader's function or module, `ours` is the package's module, and a reference and its
mistakes are those of mistakes.py.
"""
import copy
import functools
import inspect
import itertools
import math
import random
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ParamSpec

import torch
from torch import nn

from going_modular.lessons.mistakes import Mistakes

Parameters = ParamSpec("Parameters")

# How a message describes a missing parameter.
ROLES = {
    "projection": "the linear layer for all patches",
    "class_token": "the class token, a parameter [1, 1, D]",
    "position_embedding": "the positions, a parameter [1, N + 1, D]",
    "qkv": "Linear D -> 3D, Equation 5", "hidden": "Linear D -> M",
    "out": "the output projection, a Linear to D", "norm1": "LayerNorm before the MSA",
    "norm2": "LayerNorm before the MLP", "norm": "the final norm, Equation 4",
    "head": "the linear layer to the logits",
}


class NotYet(Exception):
    """The reader's code is not right yet. The message says why."""


def verdict(check: Callable[Parameters, None]) -> Callable[Parameters, bool]:
    """A decorator for checks that raise NotYet: they then print their verdict and return it as True
    or False.

    A check runs with a fixed seed, with gradients and on the CPU, whatever the reader has set, and
    leaves those settings as they were.
    """

    @functools.wraps(check)
    def checked(*arguments: Parameters.args, **options: Parameters.kwargs) -> bool:
        with torch.random.fork_rng(devices=[]), torch.enable_grad(), torch.device("cpu"):
            torch.default_generator.manual_seed(0)
            try:
                check(*arguments, **options)
            except NotYet as answer:
                print(f"not yet: {answer}")
                return False
        print("correct")
        return True

    # help() and Jupyter show the signature of what is called, which returns a bool.
    vars(checked)["__signature__"] = inspect.signature(check).replace(return_annotation=bool)
    return checked


# ------------------------------------------------------------------------------
# The whole comparison of a function, and of a class


def draw_sizes() -> Iterator[SimpleNamespace]:
    """Three draws of sizes, always the same. Within a draw the sizes differ from one another, and
    P^2 C is never D.

    So exchanged axes change a shape, and a size that the reader has written as a constant fits one
    draw only.
    """
    rng = random.Random(85)
    for batch in (3, 1, 5):
        patch_size, rows, columns, num_heads, head_size = rng.sample(range(3, 8), 5)
        channels, tokens, mlp_size = rng.randint(2, 4), rng.randint(8, 11), rng.randint(43, 60)
        yield SimpleNamespace(
            # the settings of classes
            patch_size=patch_size, in_channels=channels, hidden_size=num_heads * head_size,
            num_heads=num_heads, mlp_size=mlp_size, num_patches=tokens, num_layers=2,
            num_classes=columns, image_size=rows * patch_size, dropout=0.5,
            # the shapes of inputs
            z=(batch, tokens, num_heads * head_size), heads=(batch, num_heads, tokens, head_size),
            images=(batch, channels, rows * patch_size, columns * patch_size),
            rgb_images=(batch, 3, rows * patch_size, rows * patch_size),
            patches=(batch, rows**2, channels * patch_size**2),
        )


def compare_function(
    theirs: Callable, reference: Callable, mistakes: Mistakes, cases: Iterable[tuple],
) -> None:
    """Compare the results for each tuple of arguments, and check that gradients reach all tensors
    among them."""
    for arguments in cases:
        compare(theirs, reference, arguments, mistakes)
        tracked = [x.clone().requires_grad_() if torch.is_tensor(x) else x for x in arguments]
        sources = {f"argument {i}": x for i, x in enumerate(tracked, 1) if torch.is_tensor(x)}
        require_gradients(run_theirs(theirs, *tracked), sources)


def compare_class(
    cls: type, ours: type[nn.Module], reference: Callable, mistakes: Mistakes, settings: str,
    input_shape: str
) -> nn.Module:
    """Compare the reader's class with ours, both built with the same settings and given the same
    weights.

    reference: a function of a module and its input.
    settings: names of `draw_sizes`, separated by spaces. input_shape: the name of a shape there.
    Returns the last module that was built from the reader's class.
    """
    for sizes in map(vars, draw_sizes()):
        values = {name: sizes[name] for name in settings.split()}
        theirs, model = build_theirs(cls, values), ours(**values).eval()
        load_same_weights(theirs, model)
        x = torch.randn(sizes[input_shape])
        compare(theirs, functools.partial(reference, model), (x,), mistakes)
        parameters = {f"`{name}`": parameter for name, parameter in theirs.named_parameters()}
        require_gradients(run_theirs(theirs, x), parameters)
    return theirs


def compare(theirs: Callable, reference: Callable, arguments: tuple, mistakes: Mistakes) -> None:
    """Run both on the same arguments. If the results differ, raise NotYet, with the name of the
    mistake if it has one."""
    # The reader's code gets copies: if it changes them in place, the reference must not see it.
    expected, given = reference(*arguments), copy.deepcopy(arguments)
    try:
        result = run_theirs(theirs, *given)
    except NotYet as answer:
        raise NotYet(name_constant_batch_size(theirs, reference, arguments) or answer) from None
    require_result(result, expected)
    if isinstance(theirs, nn.Module) and not torch.equal(
            run_theirs(theirs, *copy.deepcopy(arguments)), result):
        raise NotYet("two runs in eval mode differ: dropout is on in eval. Use nn.Dropout, or tell "
                     "F.dropout training=self.training")
    if not same_tensors(result, expected):
        raise NotYet(name_difference(theirs, reference, arguments, mistakes, result, expected))
    if not all(torch.equal(x, y) for x, y in zip(arguments, given) if torch.is_tensor(x)):
        raise NotYet("the result is right, but the input was changed in place")


# ------------------------------------------------------------------------------
# Building and running the reader's code


def build_theirs(cls: type, settings: dict[str, Any]) -> nn.Module:
    """An instance of the reader's class with these settings, in evaluation mode.

    Raises NotYet if the class is not a complete module yet.
    """
    if not isinstance(cls, type) or not issubclass(cls, nn.Module):
        raise NotYet("give the class itself, a subclass of nn.Module")
    if cls.__init__ is nn.Module.__init__ and cls.forward is nn.Module.forward:
        raise NotYet("the class defines nothing so far")
    module = run_theirs(cls, **settings)
    if "_parameters" not in vars(module):
        raise NotYet("__init__ must begin with super().__init__()")
    return module.eval()


def run_theirs(theirs: Callable, *arguments: Any, **settings: Any) -> Any:
    """Call the reader's code. An exception becomes a NotYet of one line, which names the line of
    the reader's code that raised it."""
    try:
        return theirs(*arguments, **settings)
    except NotImplementedError as error:
        if 'required "forward"' in str(error):  # raised by nn.Module itself
            raise NotYet("the class has no forward so far") from None
        raise NotYet("nothing is there so far: NotImplementedError is raised") from None
    except Exception as error:
        # The innermost frame may be in PyTorch: the last one in the reader's own module tells more.
        module = getattr(theirs, "__module__", None)
        lines = [f" in line {line} ({frame.f_code.co_name})"
                 for frame, line in traceback.walk_tb(error.__traceback__)
                 if frame.f_globals.get("__name__") == module]
        given = ", ".join(f"{name}={value}"
                          for name, value in settings.items()) or format_all(arguments)
        raise NotYet(f"{type(error).__name__}{''.join(lines[-1:])}: {format_one(error)} (given "
                     f"{given})") from None


def load_same_weights(theirs: nn.Module, ours: nn.Module) -> None:
    """Give both modules the same random weights; raise NotYet for a parameter that does not fit."""
    weights: dict[str, torch.Tensor] = dict(ours.named_parameters())
    found = dict(theirs.named_parameters(remove_duplicate=False))
    for name in weights:
        if name not in found:
            names = ", ".join(f"`{name}`"
                              for name in dict.fromkeys(name.split(".")[0] for name in found))
            raise NotYet(f"{explain_missing(theirs, name)}. Parameters so far: {names or 'none'}")
    owners: dict[nn.Parameter, str] = {}
    for name, parameter in found.items():
        if name not in weights:
            raise NotYet(f"there is a parameter too many, `{name}`")
        if not parameter.requires_grad:
            raise NotYet(f"`{name}` would not be trained, its requires_grad is False")
        if owners.setdefault(parameter, name) != name:
            raise NotYet(f"`{owners[parameter]}` and `{name}` are one and the same: build each "
                         "layer anew")
        want, got = weights[name].shape, parameter.shape
        if name.endswith("projection.weight") and got[:1] == want[:1] and got.numel() == want.numel():
            want = got  # a convolution has the same weight in another shape
        if got != want:
            cause = ""
            if name.endswith("position_embedding") and got[1:] == (want[1] - 1, want[2]):
                cause = ": one position too few, the class token has one too"
            elif want[0] == 1 and got[1:] == want[1:]:
                cause = ": the batch size is baked in. Keep one for all images, and expand it in forward"
            elif got == want[::-1]:
                cause = ": its two sizes are exchanged"
            raise NotYet(f"`{name}` has the shape {[*got]}, expected {[*want]}{cause}")
        # Biases do not stay at zero nor norms at one, so that leaving one out changes the result.
        weights[name] = nn.init.normal_(weights[name], std=0.4).detach().view(want)
    theirs.load_state_dict(weights, strict=False)


def explain_missing(module: nn.Module, name: str) -> str:
    """Why there is no parameter of this name: the part of the path to it that is missing or of the
    wrong type."""
    path = name.split(".")
    value: Any = module
    for depth, key in enumerate(path, 1):
        module, value = value, getattr(value, key, None)
        here = f"`{'.'.join(path[:depth])}`" + (f" ({ROLES[key]})" if key in ROLES else "")
        if value is None:
            return f"{here} is missing"
        if isinstance(value, (list, tuple, dict)):
            use = "nn.ModuleDict" if isinstance(value, dict) else "nn.ModuleList"
            return f"{here} is a Python {type(value).__name__}, what is in it is not registered: use {use}"
        if key in module._buffers:
            return f"{here} is a buffer, which is not trained: make it an nn.Parameter"
        if torch.is_tensor(value):
            return f"{here} is a plain tensor and not registered: make it an nn.Parameter"
        if not isinstance(value, nn.Module):
            return f"{here} is a {type(value).__name__}, not a layer"
    return f"{here} is a {type(value).__name__}, not a parameter"


# ------------------------------------------------------------------------------
# Comparing results


def as_tuple(result: Any) -> tuple:
    return tuple(result) if isinstance(result, (tuple, list)) else (result,)


def same_tensors(result: Any, expected: Any) -> bool:
    """Equal up to rounding, and up to the usual choices of a LayerNorm's epsilon."""
    for part, want in zip(as_tuple(result), as_tuple(expected)):
        # `not <=` in place of `>`, so that nan is a difference
        if part.shape != want.shape or not (part - want).abs().max() <= 2e-5 * want.abs().max():
            return False
    return True


def same_values(result: Any, expected: Any) -> bool:
    """Equal numbers, or sequences of them: whole ones exactly, others up to rounding."""
    if isinstance(expected, (tuple, list)):
        same_length = isinstance(result, (tuple, list)) and len(result) == len(expected)
        return same_length and all(map(same_values, result, expected))
    try:
        return math.isclose(result, expected, rel_tol=0 if isinstance(expected, int) else 1e-5)
    except (TypeError, ValueError, RuntimeError):
        return False


def require_result(result: Any, expected: Any) -> None:
    """Raise NotYet where there is no result, or one of another kind than expected."""
    if result is None or result is ...:
        raise NotYet("nothing is returned so far")
    parts, wanted = as_tuple(result), as_tuple(expected)
    if not torch.is_tensor(wanted[0]):
        return
    if len(parts) != len(wanted) or not all(map(torch.is_tensor, parts)):
        kind = "a tensor" if torch.is_tensor(expected) else "two tensors, output and weights"
        raise NotYet(f"a {type(result).__name__} is returned, expected {kind}")
    if not all(part.isfinite().all() for part in parts):
        raise NotYet("the result is not finite, there is nan or inf in it")


def require_gradients(result: Any, sources: Mapping[str, torch.Tensor]) -> None:
    """Raise NotYet if no gradient leads from the result to one of the sources, name -> tensor."""
    # A sum with random weights, as the gradient of a plain sum is zero through a softmax or a
    # LayerNorm.
    loss = sum((part * torch.randn_like(part)).sum() for part in as_tuple(result))
    gradients: Sequence[torch.Tensor | None] = [None] * len(sources)
    try:
        if loss.requires_grad:
            gradients = torch.autograd.grad(loss, [*sources.values()], allow_unused=True)
    except RuntimeError:
        raise NotYet("the numbers are right, but no gradient can be had: is a tensor changed in "
                     "place?") from None
    for name, gradient in zip(sources, gradients):
        if gradient is None or not gradient.any():
            raise NotYet(f"the numbers are right, but no gradient reaches {name}: is there a "
                         "no_grad, detach, .data, or a copy by torch.tensor or numpy?")


# ------------------------------------------------------------------------------
# Naming what is wrong


def name_difference(
    theirs: Callable, reference: Callable, arguments: tuple, mistakes: Mistakes, result: Any,
    expected: Any
) -> str:
    """A message with what came out, what was expected, and the mistake that gives this result."""
    pairs_of_parts = zip(as_tuple(result), as_tuple(expected))
    part, want = next(pair for pair in pairs_of_parts if not same_tensors(*pair))
    what = "the shape is right, the numbers are not: "
    if part.shape != want.shape:
        what = f"given {format_all(arguments)} came the shape {format_all([part])}, expected {format_all([want])}: "

    # 1. A known mistake, then pairs of the most common ones.
    for several in (*((one,) for one in mistakes), *itertools.combinations([*mistakes][:12], 2)):
        options = {option: value for one in several for option, value in mistakes[one].items()}
        try:
            if same_tensors(result, reference(*arguments, **options)):
                return what + several[0]
        except (IndexError, RuntimeError):  # a mistake that these shapes do not allow
            continue

    # 2. The right numbers in another order of axes.
    if part.ndim == want.ndim:
        orders = itertools.permutations(range(part.ndim))
        if any(same_tensors(part.permute(order), want) for order in orders):
            return f"{what}the axes are in another order, transpose them"

    # 3. No known mistake: the first number that is far off, or what a wrong shape suggests.
    if part.shape == want.shape:
        gap = (part - want).abs()
        place = tuple(torch.nonzero(gap > gap.max() / 2)[0].tolist())
        numbers = f"came {part[place]:.3g}, expected {want[place]:.3g}"
        return f"{what}given {format_all(arguments)}, at {[*place]} {numbers}"
    if part.squeeze().shape == want.squeeze().shape:
        return f"{what}an axis of size 1 is lost or added, is there a squeeze or unsqueeze too many?"
    cause = name_constant_batch_size(theirs, reference, arguments)
    if cause is None and part.shape[:1] != want.shape[:1]:
        cause = "the first axis must stay the batch, is a batch size baked in?"
    return what + cause if cause else what.rstrip(": ")


def name_constant_batch_size(theirs: Callable, reference: Callable, arguments: tuple) -> str | None:
    """Words for code that is right for one other batch size than that of the arguments, or None."""
    if not torch.is_tensor(arguments[0]):
        return None
    batch = len(arguments[0])
    for other in (*range(1, 11), 12, 16, 20, 32, 64):
        # Vectors, such as a LayerNorm's weight, have no batch axis.
        again = [x[torch.arange(other) % batch] if torch.is_tensor(x) and x.ndim > 1 else x
                 for x in arguments]
        try:
            if same_tensors(theirs(*again), reference(*again)):
                return f"it works for a batch of {other}, not for one of {batch}: the batch size is baked in"
        except Exception:
            continue
    return None


def format_all(arguments: Iterable) -> str:
    """Arguments in one line: a tensor by its shape."""
    return ", ".join(str([*x.shape]) if torch.is_tensor(x) else format_one(x) for x in arguments)


def format_one(value: Any) -> str:
    """A value in one line, the same on every machine: no address, no long float."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value).strip().partition("\n")[0]
    return re.sub("0x[0-9a-f]+", "0x...", text)
