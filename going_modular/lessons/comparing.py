"""What all exercises share: the reader's code is built, given weights, run, and compared with the
reference.

If something is wrong, these functions raise NotYet with the message for the reader. A known mistake
is named; of any other the message says which part of the result differs (`which_part`). `theirs` is
always the reader's function or module, `ours` is the package's module, and a reference and its
mistakes are those of mistakes.py or functions.py.
"""
import contextlib
import copy
import ctypes
import functools
import inspect
import itertools
import math
import random
import re
import threading
import traceback
import unittest.mock
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ParamSpec

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

# A mistake is a wrong function with the arguments of the reference, or the options with which the
# reference itself makes it. The message says what the reader likely did.
Mistakes = Mapping[str, Callable | dict[str, Any]]

Parameters = ParamSpec("Parameters")

SECONDS = 60.0  # a check is stopped after them, as a loop may never end

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


class Named(NotYet):
    """A mistake that is known by its name."""


class TimeIsUp(BaseException):
    """Raised inside the reader's code. It is no Exception, which that code might catch."""


def verdict(check: Callable[Parameters, None]) -> Callable[Parameters, bool]:
    """A decorator for checks that raise NotYet: they then print their verdict and return it as True
    or False.

    A check runs with a fixed seed, with gradients and on the CPU, whatever the reader has set, and
    leaves those settings as they were. It ends after SECONDS, and no exception comes out of it.
    """

    @functools.wraps(check)
    def checked(*arguments: Parameters.args, **options: Parameters.kwargs) -> bool:
        with (torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad(),
              torch.device("cpu")):
            torch.default_generator.manual_seed(0)
            try:
                with time_limit(SECONDS):
                    check(*arguments, **options)
            except NotYet as answer:
                print(f"not yet: {answer}")
                return False
            except TimeIsUp:
                print(f"not yet: stopped after {SECONDS:g} seconds. Is there a loop that never ends?")
                return False
            except Exception as error:
                print("not yet: the result cannot be compared with what is expected "
                      f"({type(error).__name__}: {format_one(error)})")
                return False
        print("correct")
        return True

    # help() and Jupyter show the signature of what is called, which returns a bool.
    vars(checked)["__signature__"] = inspect.signature(check).replace(return_annotation=bool)
    return checked


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeIsUp in this thread, between two steps of Python, if the block lasts longer."""
    thread = ctypes.c_ulong(threading.get_ident())
    timer = threading.Timer(seconds, ctypes.pythonapi.PyThreadState_SetAsyncExc,
                            (thread, ctypes.py_object(TimeIsUp)))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


# ------------------------------------------------------------------------------
# The whole comparison of a function, and of a class


def draw_sizes() -> Iterator[SimpleNamespace]:
    """Three draws of sizes, always the same. Within a draw the sizes differ from one another, and
    P^2 C is never D.

    So exchanged axes change a shape, and a size that the reader has written as a constant fits one
    draw only. The images of the first draw have three channels, the others have not.
    """
    rng = random.Random(85)
    for batch, channels in ((3, 3), (1, 4), (5, 2)):
        patch_size, rows, columns, num_heads, head_size = rng.sample(range(3, 8), 5)
        tokens, mlp_size = rng.randint(8, 11), rng.randint(43, 60)
        yield SimpleNamespace(
            # the settings of classes
            patch_size=patch_size, in_channels=channels, hidden_size=num_heads * head_size,
            num_heads=num_heads, mlp_size=mlp_size, num_patches=tokens, num_layers=3,
            num_classes=columns, image_size=rows * patch_size, dropout=0.5,
            # the shapes of inputs
            z=(batch, tokens, num_heads * head_size), heads=(batch, num_heads, tokens, head_size),
            images=(batch, channels, rows * patch_size, columns * patch_size),
            rgb_images=(batch, 3, rows * patch_size, rows * patch_size),
            patches=(batch, rows**2, channels * patch_size**2),
        )


def call(function: Callable, *arguments: Any) -> Any:
    return function(*arguments)


def compare_function(
    theirs: Callable, reference: Callable, mistakes: Mistakes, cases: Iterable[tuple], *,
    axes: str = "", run: Callable = call, differentiable: bool = True, hint: str = "",
) -> None:
    """Compare the results for each tuple of arguments. What is called must not change its
    arguments, nor give another result when it is called again.

    axes: names of the last axes of the result, separated by spaces, for messages.
    run: run(function, *arguments) -> what is compared; by default the function's result. A
        function that is there for what it changes, such as a training step, is given one that
        reports the change.
    differentiable: whether gradients must lead from the result to all tensors in the arguments.
    """
    if not callable(theirs):
        raise NotYet(f"give the function itself, not {an(theirs)}")
    refuse_finished(theirs)
    cases = [*cases]
    for number, arguments in enumerate(cases):
        given = copy.deepcopy(arguments)
        expected = run(reference, *copy.deepcopy(arguments))
        try:
            result = run_theirs(theirs, *given, run=run)
        except NotYet as answer:
            sizes = explain_sizes(theirs, reference, run, arguments, axes)
            raise NotYet(sizes or after_right(cases, number) + str(answer)) from None
        judge(theirs, reference, mistakes, cases, number, result, expected, axes, run, hint)
        if run is call and (change := find_change(arguments, given)):
            raise NotYet(f"the result is right, but {change}")
        require_same_again(run_theirs(theirs, *copy.deepcopy(arguments), run=run), result)
        if differentiable:
            tracked = [x.clone().requires_grad_() if torch.is_tensor(x) else copy.deepcopy(x)
                       for x in arguments]
            sources = {f"argument {i}": x for i, x in enumerate(tracked, 1) if torch.is_tensor(x)}
            # Copies, as autograd allows no change in place of the sources themselves.
            copies = [x.clone() if torch.is_tensor(x) else x for x in tracked]
            require_gradients(run_theirs(theirs, *copies, run=run), sources,
                              run(reference, *tracked), [*sources.values()])


def compare_class(
    cls: Callable, ours: type[nn.Module], reference: Callable, mistakes: Mistakes, settings: str,
    input_shape: str, axes: str,
) -> nn.Module:
    """Compare the reader's class with ours, both built with the same settings and given the same
    weights.

    cls: the class, or anything else that returns a module when it is called with the settings.
    reference: a function of a module and its input.
    settings: names of `draw_sizes`, separated by spaces. input_shape: the name of a shape there.
    Returns the last module that was built from the reader's class.
    """
    right_with = ""
    for sizes in map(vars, draw_sizes()):
        values = {name: sizes[name] for name in settings.split()}
        x = torch.randn(sizes[input_shape])
        theirs, model = build_theirs(cls, values, x), ours(**values).eval()
        refuse_finished(theirs)
        try:
            load_same_weights(theirs, model)
            compare_module(theirs, functools.partial(reference, model), x, mistakes, axes)
            found = dict(getattr(theirs, "_orig_mod", theirs).named_parameters())
            require_gradients(
                run_theirs(theirs, x), {f"`{name}`": parameter for name, parameter in found.items()},
                reference(model, x), [model.get_parameter(name) for name in found])
        except Named:
            raise
        except NotYet as answer:
            if not right_with:
                raise
            raise NotYet(f"right with {right_with}, wrong with {format_settings(values)}: is one of "
                         f"these written as a constant? ({answer})") from None
        right_with = format_settings(values)
    return theirs


def compare_module(
    theirs: nn.Module, reference: Callable, x: torch.Tensor, mistakes: Mistakes, axes: str,
) -> None:
    """Compare the results for one input. The reader's module must stay as it is."""
    before, given, expected = copy.deepcopy(theirs), x.clone(), reference(x)
    drawn = torch.get_rng_state()
    try:
        result = run_theirs(theirs, given)
    except NotYet as answer:
        sizes = explain_sizes(theirs, reference, call, (x,), axes)
        raise NotYet(sizes or str(answer)) from None
    if not torch.equal(torch.get_rng_state(), drawn):
        raise Named("random numbers are drawn in eval mode: dropout is on in eval (use nn.Dropout, or "
                    "tell F.dropout training=self.training), or forward draws new weights")
    judge(theirs, reference, mistakes, [(x,)], 0, result, expected, axes)
    if change := find_change(x, given) or find_change(before, theirs):
        raise NotYet(f"the result is right, but {change}")
    require_same_again(run_theirs(theirs, x.clone()), result)


# ------------------------------------------------------------------------------
# Building and running the reader's code


def refuse_finished(theirs: Any) -> None:
    """Raise NotYet for a function or a module of the package, in place of one's own."""
    while isinstance(theirs, functools.partial):
        theirs = theirs.func
    code = type(theirs).forward if isinstance(theirs, nn.Module) else theirs
    if str(getattr(code, "__module__", "")).startswith("going_modular."):
        raise NotYet("this is the finished code of the package: write your own")


class Watching(TorchFunctionMode):
    """Looks at each call of PyTorch within its block: the name, the result and the arguments."""

    def __init__(self, look: Callable[[str, Any, tuple], None]):
        super().__init__()
        self.look = look

    def __torch_function__(self, function: Callable, types: Any, arguments: tuple = (),
                           options: dict | None = None) -> Any:
        result = function(*arguments, **(options or {}))
        self.look(getattr(function, "__name__", ""), result, arguments)
        return result


def refuse_short_cuts(theirs: Callable, arguments: tuple, forbidden: Mapping[str, Callable]) -> None:
    """Raise NotYet where right code takes a way that the exercise excludes: message -> a function of
    the name, the result and the arguments of a call of PyTorch. Autograd has the name "autograd"."""
    found: list[str] = []

    def look(name: str, result: Any, its_arguments: tuple) -> None:
        found.extend(message for message, is_so in forbidden.items()
                     if is_so(name, result, its_arguments))

    def differentiated(*arguments: Any, **options: Any) -> None:
        look("autograd", None, ())
        raise NotYet("")

    with Watching(look), unittest.mock.patch.multiple(
            torch.autograd, grad=differentiated, backward=differentiated):
        with contextlib.suppress(NotYet):
            run_theirs(theirs, *copy.deepcopy(arguments))
    if found:
        raise NotYet(f"the result is right, but {found[0]}")


def build_theirs(cls: Callable, settings: dict[str, Any], x: torch.Tensor) -> nn.Module:
    """An instance of the reader's class with these settings, in evaluation mode.

    Raises NotYet if the class is not a complete module yet.
    """
    if isinstance(cls, nn.Module) or not callable(cls) or (
            isinstance(cls, type) and not issubclass(cls, nn.Module)):
        raise NotYet("give the class itself, a subclass of nn.Module")
    if isinstance(cls, type) and not {"__init__", "forward"} & set().union(
            *(vars(base) for base in cls.__mro__ if base not in nn.Module.__mro__)):
        raise NotYet("the class defines nothing so far")
    module = run_theirs(cls, **settings)
    if not isinstance(module, nn.Module):
        raise NotYet("give the class itself, a subclass of nn.Module")
    if "_parameters" not in vars(module):
        raise NotYet("__init__ must begin with super().__init__()")
    if any(map(is_lazy, module.parameters())):
        run_theirs(module, x)  # lazy layers learn their sizes from an input
    return module.eval()


def run_theirs(theirs: Callable, *arguments: Any, run: Callable = call, **settings: Any) -> Any:
    """Call the reader's code. An exception becomes a NotYet of one line, which names the line of
    the reader's code that raised it."""
    try:
        return theirs(**settings) if settings else run(theirs, *arguments)
    except (Exception, SystemExit) as error:
        if isinstance(error, NotYet):
            raise
        frames = [*traceback.walk_tb(error.__traceback__)]
        if isinstance(error, NotImplementedError):
            if 'required "forward"' in str(error):  # raised by nn.Module itself
                raise NotYet("the class has no forward so far") from None
            in_torch = str(frames[-1][0].f_globals.get("__name__")).startswith("torch")
            if not in_torch and not re.search("aten::| not implemented for ", str(error)):
                raise NotYet("nothing is there so far: NotImplementedError is raised") from None
        # The innermost frame may be in PyTorch: the last one in the reader's own module tells more.
        inner = theirs.func if isinstance(theirs, functools.partial) else theirs
        module = getattr(inner, "__module__", None)
        lines = [f" in line {line} ({frame.f_code.co_name})"
                 for frame, line in frames if frame.f_globals.get("__name__") == module]
        given = format_settings(settings) or format_all(arguments)
        raise NotYet(f"{type(error).__name__}{''.join(lines[-1:])}: {format_one(error)} (given "
                     f"{given})") from None


def load_same_weights(theirs: nn.Module, ours: nn.Module) -> None:
    """Give both modules the same random weights; raise NotYet for a parameter that does not fit."""
    theirs = getattr(theirs, "_orig_mod", theirs)  # the module inside one that torch.compile made
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


def same(result: Any, expected: Any, rounding: float = 2e-5) -> bool:
    """Equal up to rounding, and up to the usual choices of a LayerNorm's epsilon. Whole numbers must
    be met exactly; a list may stand for a tuple.

    rounding: of tensors, as a share of the largest number.
    """
    if torch.is_tensor(expected):
        if not torch.is_tensor(result) or result.shape != expected.shape:
            return False
        if not expected.is_floating_point():
            return torch.equal(result.long(), expected.long())
        gap, size = (result - expected).abs(), expected.abs()
        # `not <=` in place of `>`, so that nan is a difference
        return not gap.numel() or bool(gap.max() <= rounding * size.max() + 1e-7)
    if isinstance(expected, (tuple, list)):
        return (isinstance(result, (tuple, list)) and len(result) == len(expected)
                and all(map(same, result, expected)))
    if isinstance(expected, dict):
        return isinstance(result, dict) and result.keys() == expected.keys() and all(
            same(result[key], value) for key, value in expected.items())
    number = as_number(result)
    if number is None or not isinstance(expected, (int, float)):
        return type(result) is type(expected) and bool(result == expected)
    # Whole numbers exactly; others up to the rounding of float32.
    tolerance = 0 if isinstance(expected, int) else 1e-5
    return math.isclose(number, expected, rel_tol=tolerance, abs_tol=tolerance / 100)


def as_number(value: Any) -> float | None:
    """A number of Python, NumPy or PyTorch as one of Python; None for what is none."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        size = value.numel() if torch.is_tensor(value) else value.size
        value = value.item() if size == 1 else None
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, (int, float)) else None


def require_result(result: Any, expected: Any) -> None:
    """Raise NotYet where there is no result, or one of another kind than expected."""
    if torch.is_tensor(expected):
        require_tensor(result, expected)
    elif isinstance(expected, (tuple, list)):
        kind = "two tensors, output and weights" if any(map(torch.is_tensor, expected)) else (
            f"{len(expected)} results")
        if not isinstance(result, (tuple, list)):
            raise NotYet(f"{an(result)} is returned, expected {kind}")
        if len(result) != len(expected):
            raise NotYet(f"{an(result)} of {len(result)} is returned, expected {kind}")
        for part, want in zip(result, expected):
            require_result(part, want)
    elif isinstance(expected, dict) and not isinstance(result, dict):
        raise NotYet(f"{an(result)} is returned, which is not what is asked")
    elif isinstance(expected, (int, float)):
        number = as_number(result)
        if torch.is_tensor(result) and number is None:
            raise NotYet(f"a tensor {[*result.shape]} is returned, expected one number")
        if number is None:
            raise NotYet(f"{an(result)} is returned, expected a number")
        if not math.isfinite(number):
            raise NotYet("the result is not finite, it is nan or inf")


def require_tensor(result: Any, expected: torch.Tensor) -> None:
    if not torch.is_tensor(result):
        one = isinstance(result, (tuple, list)) and len(result) == 1 and torch.is_tensor(result[0])
        why = " itself: is there a comma or a bracket too many after return?" if one else ""
        raise NotYet(f"{an(result)} is returned, expected a tensor{why}")
    if result.device != expected.device or result.layout != expected.layout:
        raise NotYet(f"a tensor on {result.device}, {result.layout}, is returned, expected one on "
                     f"{expected.device}, {expected.layout}")
    kinds = [x.is_floating_point() or (x.is_complex() and "complex") or x.dtype == torch.bool and "bool"
             for x in (result, expected)]
    if kinds[0] != kinds[1] or (expected.is_floating_point() and result.dtype != expected.dtype):
        came, wanted = (str(x.dtype).removeprefix("torch.") for x in (result, expected))
        raise NotYet(f"the numbers are {came}, expected {wanted}")
    if not result.isfinite().all():
        raise NotYet("the result is not finite, there is nan or inf in it")


def require_same_again(again: Any, result: Any) -> None:
    if not same(again, result):
        raise NotYet("right the first time, but a second call with the same input gives another "
                     "result: is something kept from the first, or drawn at random?")


def require_gradients(
    result: Any, sources: Mapping[str, torch.Tensor], expected: Any,
    its_sources: Sequence[torch.Tensor],
) -> None:
    """Raise NotYet if the gradients that lead from the result to the sources, name -> tensor, are
    not those of the expected result and its sources. Of several results the first counts."""
    part, want = as_tuple(result)[0], as_tuple(expected)[0]
    # A sum with random weights, as the gradient of a plain sum is zero through a softmax or a
    # LayerNorm.
    weights = torch.randn_like(want)
    loss = (part * weights).sum()
    wanted = torch.autograd.grad((want * weights).sum(), [*its_sources])
    gradients: Sequence[torch.Tensor | None] = [None] * len(sources)
    try:
        if loss.requires_grad:
            gradients = torch.autograd.grad(loss, [*sources.values()], allow_unused=True)
    except RuntimeError:
        raise NotYet("the numbers are right, but no gradient can be had: is a tensor changed in "
                     "place?") from None
    for name, gradient, right in zip(sources, gradients, wanted):
        cause = "is there a no_grad, detach, .data, or a copy by torch.tensor or numpy?"
        if gradient is None or not gradient.any():
            raise NotYet(f"the numbers are right, but no gradient reaches {name}: {cause}")
        if not same(gradient.flatten(), right.flatten(), rounding=1e-2):
            raise NotYet(f"the numbers are right, but only a part of the gradient reaches {name}: "
                         f"{cause}")


def find_change(before: Any, after: Any) -> str | None:
    """What the reader's code has changed in an argument or in its own module, or None."""
    if isinstance(before, (list, tuple)):
        if len(before) != len(after):
            return "a list that was given has another length now"
        return next(filter(None, map(find_change, before, after)), None)
    if torch.is_tensor(before):
        if before.shape != after.shape or not torch.equal(before, after):
            return "the input was changed in place: work on a copy"
    elif isinstance(before, nn.Module):
        names = [[name for name, _ in module.named_modules()] for module in (before, after)]
        if names[0] != names[1]:
            return "the module has other parts now than before the call"
        for old, new in zip(before.modules(), after.modules()):
            if old.training != new.training:
                return "the module was left in another mode (train or eval) than it was in"
            if len(old._forward_hooks) + len(old._forward_pre_hooks) != (
                    len(new._forward_hooks) + len(new._forward_pre_hooks)):
                return "a hook was left behind: keep what register_forward_hook returns, remove() it"
        for was, now in zip(before.parameters(), after.parameters()):
            if was.shape != now.shape or not torch.equal(was, now):
                return "the weights of the module were changed: work on a copy"
            if was.requires_grad != now.requires_grad:
                return "requires_grad of a weight was changed"
    return None


# ------------------------------------------------------------------------------
# Naming what is wrong


def judge(
    theirs: Callable, reference: Callable, mistakes: Mistakes, cases: Sequence[tuple], number: int,
    result: Any, expected: Any, axes: str = "", run: Callable = call, hint: str = "",
) -> None:
    """Raise Named with the mistake that gives this result; if none is known and it is not the
    expected one, NotYet with the part that differs.

    number: which of the cases has this result. Those before it are right.
    """
    if result is None or result is ...:
        raise NotYet("nothing is returned so far")
    if same(result, expected):
        return require_result(result, expected)
    # Of several results the first one that is wrong is looked at.
    parts, wanted = as_tuple(result), as_tuple(expected)
    if len(parts) != len(wanted) or not isinstance(expected, (tuple, list)):
        parts, wanted = (result,), (expected,)
    place = next(i for i, pair in enumerate(zip(parts, wanted)) if not same(*pair))
    part, want = parts[place], wanted[place]
    alone = parts[0] is result

    def part_of(function: Callable, arguments: tuple) -> Any:
        results = results_of(function, run, arguments)
        return results if alone or not isinstance(results, (tuple, list)) else (
            results[place] if place < len(results) else None)

    theirs_of = [part if i == number else part_of(theirs, case) for i, case in enumerate(cases)]
    what = f"result {place + 1} of {len(wanted)}: " if len(wanted) > 2 else ""
    if torch.is_tensor(want) and torch.is_tensor(part):
        what += ("the shape is right, the numbers are not: " if part.shape == want.shape else
                 f"given {format_all(cases[number])} came the shape {format_one(part)}, expected "
                 f"{format_one(want)}: ")
    if len(wanted) > 1:
        for message, wrong in wrong_functions(reference, mistakes):
            if same(result, results_of(wrong, run, cases[number])):
                raise Named(what + message)
    trials = [[(case, there) for case, there in zip(cases, theirs_of) if there is not None]]
    if torch.is_tensor(want) and want.is_floating_point() and len(cases) > 1:
        trials.append([(cases[number], part)])  # so many numbers are no coincidence
    for tried in trials:
        for message, wrong in wrong_functions(reference, mistakes):
            # With a mistake, the epsilon of a LayerNorm may count for more.
            if all(same(there, part_of(wrong, case), rounding=1e-4) for case, there in tried):
                raise Named(what + message)

    require_result(result, expected)
    if torch.is_tensor(want) and part.shape == want.shape:
        where = (unused_weights(theirs, cases[number][0]) or which_part(part, want, axes)
                 or mixed_images(theirs, cases[number][0]) or "no part of the result is right")
    elif torch.is_tensor(want):
        where = which_shape(part, want, axes) or explain_sizes(theirs, reference, run, cases[number], axes)
    elif as_number(want) is not None:
        right = [part_of(reference, case) for case in cases]
        where = which_number([*zip(cases, theirs_of, right)])
    else:
        where = which_entry(part, want)
    if as_number(want) is None:
        what = after_right(cases, number) + what
    where = (what + where).removesuffix(": ")
    raise NotYet(f"{where}. Hint: {hint}" if hint else where)


def results_of(function: Callable, run: Callable, arguments: tuple) -> Any:
    """What comes out, or None if the function, such as a known mistake, does not allow these
    arguments."""
    try:
        return run(function, *copy.deepcopy(arguments))
    except (Exception, SystemExit):
        return None


def wrong_functions(reference: Callable, mistakes: Mistakes) -> Iterator[tuple[str, Callable]]:
    """Each known mistake as a function. Of those that are options of the reference, pairs of the
    first, the most common ones, follow."""
    options = {}
    for message, mistake in mistakes.items():
        if callable(mistake):
            yield message, mistake
        else:
            options[message] = mistake
            yield message, functools.partial(reference, **mistake)
    for one, two in itertools.combinations([*options][:24], 2):
        if not options[one].keys() & options[two].keys():
            both = functools.partial(reference, **options[one], **options[two])
            yield f"{one}. There is a second mistake, too", both


def after_right(cases: Sequence[tuple], number: int) -> str:
    """The beginning of a message about a case after one that is right."""
    return (f"right for {format_all(cases[0])}, wrong for {format_all(cases[number])}: "
            if number else "")


def explain_sizes(
    theirs: Callable, reference: Callable, run: Callable, arguments: tuple, axes: str,
) -> str:
    """Words for code that is right for another batch size, or for square images, or nothing."""
    first = arguments[0]
    if not torch.is_tensor(first) or not axes.startswith("batch"):
        return ""

    def right_for(again: Sequence) -> bool:
        result = results_of(theirs, run, tuple(again))
        return result is not None and same(result, results_of(reference, run, tuple(again)))

    if first.ndim == 4 and first.shape[2] != first.shape[3]:
        side = min(first.shape[2:])
        if right_for([first[..., :side, :side], *arguments[1:]]):
            return "it works for square images alone: height and width can differ"
    batch = len(first)
    for other in (*range(1, 11), 12, 16, 20, 32, 64):
        # Vectors, such as a LayerNorm's weight, have no batch axis.
        again = [x[torch.arange(other) % batch]
                 if torch.is_tensor(x) and x.ndim > 1 and len(x) == batch else x for x in arguments]
        if other != batch and right_for(again):
            return (f"it works for a batch of {other}, not for one of {batch}: the batch size is "
                    "baked in")
    return ""


def which_part(part: torch.Tensor, want: torch.Tensor, axes: str) -> str:
    """Which part of a result of the right shape is wrong: words for what can be said, or nothing.

    axes: names of the last axes, separated by spaces.
    """
    part, want = part.detach().double(), want.detach().double()
    labels = label_axes(want, axes)
    orders = [*itertools.permutations(range(part.ndim))][1:] if part.ndim < 6 else []
    if any(same(part.permute(order), want) for order in orders):
        return "the axes are in another order, transpose them"
    if of_all := common_change(part, want):
        return f"all numbers are {of_all}"
    long_axes = [axis for axis in range(want.ndim) if want.shape[axis] > 1]
    for axis in long_axes:
        for shift in (1, -1):
            moved, kept = ((want, part) if shift == 1 else (part, want))
            size = want.shape[axis] - 1
            if size > 1 and same(kept.narrow(axis, 1, size), moved.narrow(axis, 0, size)):
                return f"everything is shifted by one along {labels[axis]}"
        if same(part.flip(axis), want):
            return f"the order along {labels[axis]} is reversed"
    wrong = (part - want).abs() > 2e-5 * want.abs().max() + 1e-7
    found = []
    for axis in long_axes:
        others = tuple(i for i in range(want.ndim) if i != axis)
        at = wrong.any(others).nonzero().flatten() if others else wrong.nonzero().flatten()
        if len(at) < want.shape[axis]:
            found.append(f"{name_indices(at.tolist(), want.shape[axis])} of {labels[axis]}")
    if found:
        there = common_change(part[wrong], want[wrong])
        return f"wrong is {' and '.join(found)}" + (f". There all numbers are {there}" if there else "")
    for axis in long_axes:
        came, wanted = (x.movedim(axis, 0).reshape(x.shape[axis], -1) for x in (part, want))
        near = torch.cdist(came, wanted).argmin(1)
        if same(came, wanted[near]):
            doubled = len(near.unique()) < len(near)
            return (f"along {labels[axis]} the same comes several times" if doubled else
                    f"the right numbers are in another order along {labels[axis]}")
    for axis in long_axes:
        factors = (part * want).sum(axis, keepdim=True) / (want**2).sum(axis, keepdim=True)
        if want.ndim > 1 and same(part, factors * want):
            return (f"along {labels[axis]} the numbers have the right ratios, but the wrong size: is "
                    "a division missing, or over the wrong axis?")
    if same(part.flatten().sort().values, want.flatten().sort().values):
        return ("these are the right numbers in the wrong places, as after a reshape in place of a "
                "transpose or permute")
    return ""


def label_axes(want: torch.Tensor, axes: str) -> list[str]:
    """Each axis of a tensor in words; axes: names of the last ones."""
    names = [""] * (want.ndim - len(axes.split())) + axes.split()[-want.ndim:]
    return [f"axis {i}" + (f" ({name})" if name else "") for i, name in enumerate(names)]


def common_change(part: torch.Tensor, want: torch.Tensor) -> str:
    """How all numbers are changed in the same way, in words, or nothing."""
    if not part.any():
        return "zero"
    factor = ((part * want).sum() / (want**2).sum()).item()
    if want.numel() > 1 and want.std() > 0 and f"{factor:.3g}" != "1" and same(part, factor * want):
        return "of the wrong sign" if math.isclose(factor, -1, rel_tol=1e-4) else (
            f"{factor:.3g} times what they should be")
    difference = (part - want).mean().item()
    if want.numel() > 1 and same(part, want + difference):
        return f"too {'large' if difference > 0 else 'small'} by {abs(difference):.3g}"
    return ""


def name_indices(at: list[int], count: int) -> str:
    """Words for some of `count` indices, such as "the first" or "all but the last"."""
    others = [i for i in range(count) if i not in at]
    for which, prefix in ((at, "only "), (others, "all but ")):
        if len(which) == 1:
            ends = {0: "the first", count - 1: "the last"}
            return prefix + ends.get(which[0], f"number {which[0]} (from 0 on)")
    return f"number {', '.join(map(str, at[:5]))}{' ...' if len(at) > 5 else ''} (from 0 on)"


def unused_weights(theirs: Callable, x: Any) -> str:
    """Words for parameters of the reader's module that have no effect, or nothing."""
    if not isinstance(theirs, nn.Module) or not (result := theirs(x)).requires_grad:
        return ""
    parameters = dict(theirs.named_parameters())
    gradients = torch.autograd.grad(
        (result * torch.randn_like(result)).sum(), [*parameters.values()], allow_unused=True)
    unused = [f"`{name}`" for name, gradient in zip(parameters, gradients)
              if gradient is None or not gradient.any()]
    return f"these parameters have no effect on it: {', '.join(unused[:4])}" if unused else ""


def mixed_images(theirs: Callable, x: Any) -> str:
    """Words for a module in which the images of a batch have an effect on each other, or nothing."""
    if not isinstance(theirs, nn.Module):
        return ""
    alone = results_of(theirs, call, (x[:1],))
    if alone is None or same(alone, theirs(x)[:1]):
        return ""
    return "what comes out for an image depends on the other images of the batch"


def which_shape(part: torch.Tensor, want: torch.Tensor, axes: str) -> str:
    """What a wrong shape suggests, in words, or nothing."""
    part, want = part.detach(), want.detach()
    if part.ndim == want.ndim < 6 and any(
            same(part.permute(order), want) for order in itertools.permutations(range(part.ndim))):
        return "the axes are in another order, transpose them"
    if part.squeeze().shape == want.squeeze().shape:
        return "an axis of size 1 is lost or added, is there a squeeze or unsqueeze too many?"
    if part.numel() == want.numel() and same(part.flatten(), want.flatten()):
        return "the numbers are right and in order, only the axes are split or joined otherwise"
    differ = [i for i in range(want.ndim) if part.ndim == want.ndim and part.shape[i] != want.shape[i]]
    if len(differ) == 1:
        axis, count = differ[0], part.shape[differ[0]]
        for end, start in (("the last", 0), ("the first", want.shape[axis] - count)):
            if 0 <= start < want.shape[axis] - count + 1 and same(part, want.narrow(axis, start, count)):
                missing = want.shape[axis] - count
                return (f"{end} of {label_axes(want, axes)[axis]} is left out" if missing == 1 else
                        f"{end} {missing} of {label_axes(want, axes)[axis]} are left out")
    if part.shape[1:] == want.shape[1:] and part.ndim:
        return ("the first axis must stay the batch, is a batch size baked in?"
                if part.ndim > 1 else "")
    return ""


def which_number(trials: Sequence[tuple[tuple, Any, Any]]) -> str:
    """How the numbers of several trials (arguments, came, wanted) are wrong, in words."""
    numbers = [(arguments, as_number(came), as_number(want)) for arguments, came, want in trials]
    known = [(came, want) for _, came, want in numbers if came is not None and want is not None]
    if len(known) > 1:
        factors = [came / want for came, want in known if want]
        gaps = [came - want for came, want in known]
        if factors and f"{factors[0]:.3g}" != "1" and not isinstance(known[0][0], bool) and all(
                math.isclose(x, factors[0], rel_tol=1e-4) for x in factors):
            return "the sign is wrong" if math.isclose(factors[0], -1, rel_tol=1e-4) else (
                f"the result is always {factors[0]:.3g} times what it should be")
        if gaps[0] and all(math.isclose(x, gaps[0], rel_tol=1e-4) for x in gaps):
            return f"the result is always too {'large' if gaps[0] > 0 else 'small'} by {abs(gaps[0]):.4g}"
        if all(math.isclose(came, known[0][0]) for came, _ in known):
            return "the result is the same for all arguments"
    right = [arguments for arguments, came, want in numbers if came is not None and same(came, want)]
    arguments, came, want = next(trial for trial in numbers if trial[1] is not None
                                 and not same(trial[1], trial[2]))
    assert came is not None and want is not None
    before = f"right for {format_all(right[0])}, but " if right else ""
    how = "not right" if isinstance(want, bool) else "too large" if came > want else "too small"
    return f"{before}given {format_all(arguments)} came {format_one(came)}, which is {how}"


def which_entry(part: Any, want: Any) -> str:
    """Which entries of a dict or of a tuple of numbers are wrong, in words."""
    if isinstance(want, dict) and isinstance(part, dict):
        wrong = [key for key in want if key in part and not same(part[key], want[key])]
        missing = [key for key in want if key not in part]
        more = [key for key in part if key not in want]
        what, keys = next(pair for pair in (("wrong is", wrong), ("missing is", missing),
                                            ("there is also", more)) if pair[1])
        return f"{what} {', '.join(map(str, keys[:4]))}{' ...' if len(keys) > 4 else ''}"
    if isinstance(want, (tuple, list)):
        if not isinstance(part, (tuple, list)):
            return f"it is a {type(part).__name__}, expected {len(want)} numbers"
        if len(part) != len(want):
            return f"it has {len(part)} numbers, expected {len(want)}"
        at = [i for i in range(len(want)) if not same(part[i], want[i])]
        return f"{name_indices(at, len(want))} of its {len(want)} numbers is wrong"
    return f"came {format_one(part)}"


def an(value: Any) -> str:
    """The type of a value with its article."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' or name == 'ndarray' else 'a'} {name}"


def format_settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def format_all(arguments: Iterable) -> str:
    """Arguments in one line: a tensor by its shape, a module by its class."""
    return ", ".join(map(format_one, arguments))


def format_one(value: Any) -> str:
    """A value in one line, the same on every machine: no address, no long float."""
    if torch.is_tensor(value):
        return str([*value.shape])
    if isinstance(value, nn.Module):
        return type(value).__name__
    if isinstance(value, (list, tuple)) and not all(isinstance(x, (int, float)) for x in value):
        return f"a {type(value).__name__} of {len(value)}"
    text = f"{value:.4g}" if isinstance(value, float) else str(value).strip().partition("\n")[0]
    return re.sub("0x[0-9a-f]+", "0x...", text)
