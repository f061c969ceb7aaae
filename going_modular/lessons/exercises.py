"""Checks of a reader's own code. Each tries a number, a function or a class, prints `correct` or
`not yet: ` with the first thing that is wrong, and returns True or False.

A check holds the right answer, inputs on which both are tried, and a table of mistakes: what the
reader likely did -> the wrong number or function. The first entry that gives what the reader has is
named. If there is none, the message says which part of the result is wrong.

- answers.py has the numbers, functions.py the small functions, mistakes.py the pieces of the model.
- comparing.py runs the reader's code and the reference, and has all messages that are not of one
  exercise: exceptions, missing parameters, shapes, gradients, what was changed in place.

How to add an exercise:
- a number: an entry in answers.ANSWERS, asked for by check_number("its_name", value);
- a small function: a reference solution in functions.py under the decorator `exercise`, asked for
  by check_function("its_name", function);
- a piece of the model: a reference and its table in mistakes.py, and a check here that gives both to
  compare_function or compare_class.
Then tests/test_exercises.py: right solutions, and wrong ones that are written in another way than
those of the table.
"""
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from going_modular import vit
from going_modular.lessons import comparing, mistakes
from going_modular.lessons.answers import ANSWERS
from going_modular.lessons.comparing import NotYet, compare_class, compare_function, draw_sizes, verdict
from going_modular.lessons.functions import FUNCTIONS

# ------------------------------------------------------------------------------
# Numbers and small functions


@verdict
def check_number(name: str, value: Any) -> None:
    """Compare a number with the answer of this name in ANSWERS; a wrong one gets the name of its
    mistake, or a hint."""
    if name not in ANSWERS:
        raise NotYet(f"there is no exercise of the name {name!r}")
    expected, hint, known = ANSWERS[name]
    if value is None or value is ...:
        raise NotYet("there is no answer so far")
    number = comparing.as_number(value)
    if number is None or isinstance(number, bool):
        raise NotYet(f"a number is asked, not a {type(value).__name__}")

    def near(other: float) -> bool:
        return math.isclose(number, other, rel_tol=0 if isinstance(other, int) else 0.002)

    if not near(expected):
        # A wrong number that is rounded may be near several: the nearest is meant.
        named = [message for message in known if near(known[message])]
        raise NotYet(min(named, key=lambda message: abs(known[message] - number), default=hint))


@verdict
def check_function(name: str, function: Callable) -> None:
    """Compare a small function with the reference of that name in FUNCTIONS, on each of
    its tuples of arguments."""
    if name not in FUNCTIONS:
        raise NotYet(f"there is no exercise of the name {name!r}")
    asked = FUNCTIONS[name]
    cases = asked.draw_arguments()
    compare_function(
        function, asked.reference, asked.mistakes, cases, axes=asked.axes, run=asked.run,
        differentiable=asked.differentiable, hint=asked.hint)
    for arguments in cases if asked.forbidden else ():
        comparing.refuse_short_cuts(function, arguments, asked.forbidden)


# ------------------------------------------------------------------------------
# The pieces of the model, in the order of the notebooks


@verdict
def check_patchify(function: Callable) -> None:
    """function(images, patch_size): [batch, C, H, W] -> [batch, N, C * P * P],
    channel first in a patch."""
    cases = [(torch.randn(s.images), s.patch_size) for s in draw_sizes()]
    compare_function(function, mistakes.reference_patchify, mistakes.PATCHIFY_MISTAKES, cases,
                     axes="batch patch number")


@verdict
def check_unpatchify(function: Callable) -> None:
    """function(patches, patch_size, channels): [batch, N, C * P * P] -> square
    images [batch, C, H, W]."""
    cases = [(torch.randn(s.patches), s.patch_size, s.in_channels) for s in draw_sizes()]
    compare_function(function, mistakes.reference_unpatchify, mistakes.UNPATCHIFY_MISTAKES, cases,
                     axes="batch channel row column")


@verdict
def check_patch_embedding(cls: Callable) -> None:
    """cls(patch_size, in_channels, hidden_size) with `projection`, an nn.Linear or nn.Conv2d."""
    compare_class(
        cls, vit.PatchEmbedding, mistakes.reference_patch_embedding,
        mistakes.PATCH_EMBEDDING_MISTAKES,
        settings="patch_size in_channels hidden_size", input_shape="images", axes="batch patch number",
    )


@verdict
def check_embed(cls: Callable) -> None:
    """cls(num_patches, hidden_size) with `class_token` and `position_embedding`: [batch, N, D]
    -> [batch, N + 1, D]."""
    compare_class(
        cls, mistakes.Embed, mistakes.reference_embed,
        {**mistakes.EMBED_MISTAKES, **mistakes.RARER_EMBED_MISTAKES},
        settings="num_patches hidden_size", input_shape="z", axes="batch token number",
    )
    embed, z = cls(num_patches=9, hidden_size=8), torch.randn(3, 9, 8)
    comparing.refuse_short_cuts(embed, (z,), {
        "a sum of the size [batch, N + 1, D] is made, add before you join: torch.cat comes last":
            lambda name, result, arguments: "add" in name and result.shape == (3, 10, 8)})


@verdict
def check_layer_norm(function: Callable) -> None:
    """function(x, weight, bias, eps): nn.LayerNorm over the last axis."""
    # The mean is not 0, and eps is not always tiny: leaving one of them out changes the numbers.
    cases = [
        (1 + torch.randn(s.z), *torch.randn(2, s.hidden_size), eps)
        for s, eps in zip(draw_sizes(), (0.1, 1e-6, 0.01))
    ]
    compare_function(function, mistakes.reference_layer_norm, mistakes.LAYER_NORM_MISTAKES, cases,
                     axes="batch token number")


@verdict
def check_attention(function: Callable) -> None:
    """function(q, k, v) -> (output, weights): scaled dot-product attention, for many heads, for one
    without its axis, and for fewer queries than keys."""
    many, one, few = (tuple(torch.randn(3, *s.heads)) for s in draw_sizes())
    cases = [many, tuple(x[:, 0] for x in one), (few[0][..., :4, :], *few[1:])]
    compare_function(function, mistakes.reference_attention, mistakes.ATTENTION_MISTAKES, cases,
                     axes="batch head query number")


@verdict
def check_msa(cls: Callable) -> None:
    """cls(hidden_size, num_heads) with `qkv`, Linear D -> 3D (rows q, k, v), and
    `out`, Linear D -> D."""
    compare_class(
        cls, vit.MultiheadSelfAttention, mistakes.reference_msa, mistakes.MSA_MISTAKES,
        settings="hidden_size num_heads", input_shape="z", axes="batch token number",
    )


@verdict
def check_gelu(function: Callable) -> None:
    """function(x): the exact GELU, x Phi(x)."""
    # Numbers of some size: near 0 the forms of GELU, and SiLU too, are all about x / 2.
    cases = [(3 * torch.randn(s.z),) for s in draw_sizes()]
    compare_function(function, mistakes.reference_gelu, mistakes.GELU_MISTAKES, cases,
                     axes="batch token number")


@verdict
def check_mlp(cls: Callable) -> None:
    """cls(hidden_size, mlp_size, dropout) with `hidden`, Linear D -> M, and
    `out`, Linear M -> D."""
    mlp = compare_class(
        cls, vit.MLPBlock, mistakes.reference_mlp, mistakes.MLP_MISTAKES,
        settings="hidden_size mlp_size dropout", input_shape="z", axes="batch token number",
    )
    if any(isinstance(part, (nn.GELU, nn.Dropout)) for part in mlp.modules()):
        raise NotYet("right, but with nn.GELU or nn.Dropout: F.gelu and F.dropout are asked")
    for rate in (0.5, 0.2):
        require_dropout(cls, rate)


def require_dropout(cls: Callable, rate: float) -> None:
    """Raise NotYet if an MLP in training does not drop this share after both layers.

    The weights are set so that each number of the output shows what became of it: the GELU gives 0.84
    everywhere, `out` takes one of these numbers and adds a bias of 7. The second dropout leaves
    zeros; where the first one has dropped, the bias alone is left.
    """
    settings = dict(hidden_size=30, mlp_size=40, dropout=rate)
    mlp: Any = comparing.build_theirs(cls, settings, torch.zeros(1, 1, 30)).train()
    with torch.no_grad():
        for parameter, value in ((mlp.hidden.weight, 0.0), (mlp.hidden.bias, 1.0),
                                 (mlp.out.bias, 7.0)):
            parameter.fill_(value)
        mlp.out.weight.copy_(torch.eye(30, 40))
    y = comparing.run_theirs(mlp, torch.zeros(40, 50, 30))
    kept = y[y != 0]
    if len(kept) == 0:
        raise NotYet(f"in training everything is dropped, with dropout={rate}")
    second = 1 - len(kept) / y.numel()
    bias_alone = kept < kept.min() + 1e-3 if kept.max() > kept.min() + 1e-3 else kept < 0
    first = bias_alone.float().mean().item()
    scale = kept.min().item() / 7
    after_gelu = (kept.max().item() / scale - 7) / F.gelu(torch.ones(())).item()
    places = (("after the second layer", second, scale), ("after the GELU", first, after_gelu))
    for place, found, _ in places:
        if found == 0:
            raise NotYet(f"in training there is no dropout {place} (Appendix B.1)")
    for place, found, factor in places:
        if abs(found - rate) > 0.05:
            how = "kept, it must be dropped" if abs(found - (1 - rate)) < 0.05 else (
                f"asked, but {found:.0%} is dropped: is the rate a constant, or used twice?")
            raise NotYet(f"in training, with dropout={rate}, the share {rate:.0%} {place} is {how}")
        if not math.isclose(factor, 1 / (1 - rate), rel_tol=1e-3):
            raise NotYet(f"in training, what is kept {place} must be {1 / (1 - rate):g} times as large "
                         f"with dropout={rate}, it is {factor:.3g} times (is the order GELU, then "
                         "dropout?)")


@verdict
def check_block(cls: Callable) -> None:
    """cls(hidden_size, num_heads, mlp_size) with norm1, msa, norm2 and mlp, made of the pieces
    of going_modular.vit."""
    compare_class(
        cls, vit.TransformerEncoderBlock, mistakes.reference_block,
        {**mistakes.BLOCK_MISTAKES, **mistakes.ACTIVATION_MISTAKES, **mistakes.MSA_MISTAKES},
        settings="hidden_size num_heads mlp_size", input_shape="z", axes="batch token number",
    )


@verdict
def check_vit(cls: Callable) -> None:
    """cls(image_size, patch_size, num_classes, num_layers, hidden_size, mlp_size,
    num_heads), named as in vit.ViT."""
    compare_class(
        cls, vit.ViT, mistakes.reference_vit,
        {**mistakes.VIT_MISTAKES, **mistakes.ACTIVATION_MISTAKES, **mistakes.MSA_MISTAKES},
        settings="image_size patch_size num_classes num_layers hidden_size mlp_size num_heads",
        input_shape="rgb_images", axes="batch class",
    )
