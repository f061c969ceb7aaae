"""Checks of a reader's own code. Each tries a number, a function or a class, prints `correct` or
`not yet: ` with the first thing that is wrong, and returns True or False.

Where the messages come from:
- the hint for a number or a small function is beside its answer, in answers.py;
- the name of a mistake in a piece of the model is in a table of mistakes.py, with the options that
  make the reference there give the reader's numbers;
- messages about exceptions, missing parameters, shapes and gradients, which all exercises share,
  are in comparing.py.

How to add an exercise:
- a number: an entry in answers.ANSWERS, asked for by check_number("its_name", value);
- a small function: a reference solution in answers.py under the decorator `exercise`, asked for by
  check_function("its_name", function);
- a piece of the model, whose mistakes get names: a reference and its table in mistakes.py, and a
  check here that gives both to compare_function or compare_class.
Then tests/test_exercises.py: a piece of the model gets a right solution in SOLUTIONS, and an entry
in WRONG for each mistake; answers are tested as they stand.
"""
import copy
import math
from collections.abc import Callable
from typing import Any

import torch

from going_modular import vit
from going_modular.lessons import comparing, mistakes
from going_modular.lessons.answers import ANSWERS, FUNCTIONS
from going_modular.lessons.comparing import NotYet, compare_class, compare_function, draw_sizes, verdict

# ------------------------------------------------------------------------------
# Numbers and small functions


@verdict
def check_number(name: str, value: Any) -> None:
    """Compare a number with the answer of this name in ANSWERS; a wrong one gets its hint.

    Raises KeyError for a name that is not there.
    """
    expected, hint = ANSWERS[name]
    if value is None or value is ...:
        raise NotYet("there is no answer so far")
    try:
        right = math.isclose(value, expected, rel_tol=0 if isinstance(expected, int) else 0.01)
    except (TypeError, ValueError, RuntimeError):
        raise NotYet(f"a number is asked, not a {type(value).__name__}") from None
    if not right:
        raise NotYet(hint)


@verdict
def check_function(name: str, function: Callable) -> None:
    """Compare a small function with the reference of that name in FUNCTIONS, on each of
    its tuples of arguments.

    Raises KeyError for a name that is not there.
    """
    reference, draw_arguments, hint = FUNCTIONS[name]
    for arguments in draw_arguments():
        # Copies, so that neither sees what the other changes in place.
        result = comparing.run_theirs(function, *copy.deepcopy(arguments))
        expected = reference(*copy.deepcopy(arguments))
        comparing.require_result(result, expected)
        if torch.is_tensor(expected) and not comparing.same_tensors(result, expected):
            difference = comparing.name_difference(function, reference, arguments, {}, result,
                                                   expected)
            raise NotYet(f"{difference}. Hint: {hint}")
        if not torch.is_tensor(expected) and not comparing.same_values(result, expected):
            came, wanted = comparing.format_one(result), comparing.format_one(expected)
            raise NotYet(f"given {comparing.format_all(arguments)} came {came}, expected {wanted}. "
                         f"Hint: {hint}")


# ------------------------------------------------------------------------------
# The pieces of the model, in the order of the notebooks


@verdict
def check_patchify(function: Callable) -> None:
    """function(images, patch_size): [batch, C, H, W] -> [batch, N, C * P * P],
    channel first in a patch."""
    cases = [(torch.randn(s.images), s.patch_size) for s in draw_sizes()]
    compare_function(function, mistakes.reference_patchify, mistakes.PATCHIFY_MISTAKES, cases)


@verdict
def check_unpatchify(function: Callable) -> None:
    """function(patches, patch_size, channels): [batch, N, C * P * P] -> square
    images [batch, C, H, W]."""
    cases = [(torch.randn(s.patches), s.patch_size, s.in_channels) for s in draw_sizes()]
    compare_function(function, mistakes.reference_unpatchify, mistakes.UNPATCHIFY_MISTAKES, cases)


@verdict
def check_patch_embedding(cls: type) -> None:
    """cls(patch_size, in_channels, hidden_size) with `projection`, an nn.Linear or nn.Conv2d."""
    compare_class(
        cls, vit.PatchEmbedding, mistakes.reference_patch_embedding, mistakes.PATCHIFY_MISTAKES,
        settings="patch_size in_channels hidden_size", input_shape="images",
    )


@verdict
def check_embed(cls: type) -> None:
    """cls(num_patches, hidden_size) with `class_token` and `position_embedding`: [batch, N, D]
    -> [batch, N + 1, D]."""
    compare_class(
        cls, mistakes.Embed, mistakes.reference_embed, mistakes.EMBED_MISTAKES,
        settings="num_patches hidden_size", input_shape="z",
    )


@verdict
def check_layer_norm(function: Callable) -> None:
    """function(x, weight, bias, eps): nn.LayerNorm over the last axis."""
    # The mean is not 0, and eps is not always tiny: leaving one of them out changes the numbers.
    cases = [
        (1 + torch.randn(s.z), *torch.randn(2, s.hidden_size), eps)
        for s, eps in zip(draw_sizes(), (0.1, 1e-6, 0.01))
    ]
    compare_function(function, mistakes.reference_layer_norm, mistakes.LAYER_NORM_MISTAKES, cases)


@verdict
def check_attention(function: Callable) -> None:
    """function(q, k, v) -> (output, weights): scaled dot-product attention, for many heads, for one
    without its axis, and for fewer queries than keys."""
    many, one, few = (tuple(torch.randn(3, *s.heads)) for s in draw_sizes())
    cases = [many, tuple(x[:, 0] for x in one), (few[0][..., :4, :], *few[1:])]
    compare_function(function, mistakes.reference_attention, mistakes.ATTENTION_MISTAKES, cases)


@verdict
def check_msa(cls: type) -> None:
    """cls(hidden_size, num_heads) with `qkv`, Linear D -> 3D (rows q, k, v), and
    `out`, Linear D -> D."""
    compare_class(
        cls, vit.MultiheadSelfAttention, mistakes.reference_msa, mistakes.MSA_MISTAKES,
        settings="hidden_size num_heads", input_shape="z",
    )


@verdict
def check_gelu(function: Callable) -> None:
    """function(x): the exact GELU, x Phi(x)."""
    # Numbers of some size: near 0 the forms of GELU, and SiLU too, are all about x / 2.
    cases = [(3 * torch.randn(s.z),) for s in draw_sizes()]
    compare_function(function, mistakes.reference_gelu, mistakes.GELU_MISTAKES, cases)


@verdict
def check_mlp(cls: type) -> None:
    """cls(hidden_size, mlp_size, dropout) with `hidden`, Linear D -> M, and
    `out`, Linear M -> D."""
    mlp = compare_class(
        cls, vit.MLPBlock, mistakes.reference_mlp, mistakes.MLP_MISTAKES,
        settings="hidden_size mlp_size dropout", input_shape="z",
    )
    # In training, dropout of one half after each layer. The second one leaves zeros in the output;
    # without the first, what is kept would be exactly twice the output of evaluation.
    x = torch.randn(5, 50, mlp.get_parameter("hidden.weight").shape[1])
    in_evaluation = comparing.run_theirs(mlp, x)
    in_training = comparing.run_theirs(mlp.train(), x)
    kept = in_training != 0
    if kept.all():
        raise NotYet("in training there is no dropout after the second layer (Appendix B.1)")
    if comparing.same_tensors(in_training[kept], 2 * in_evaluation[kept]):
        raise NotYet("in training there is no dropout after the GELU (Appendix B.1)")


@verdict
def check_block(cls: type) -> None:
    """cls(hidden_size, num_heads, mlp_size) with norm1, msa, norm2 and mlp, made of the pieces
    of going_modular.vit."""
    compare_class(
        cls, vit.TransformerEncoderBlock, mistakes.reference_block,
        {**mistakes.BLOCK_MISTAKES, **mistakes.ACTIVATION_MISTAKES, **mistakes.MSA_MISTAKES},
        settings="hidden_size num_heads mlp_size", input_shape="z",
    )


@verdict
def check_vit(cls: type) -> None:
    """cls(image_size, patch_size, num_classes, num_layers, hidden_size, mlp_size,
    num_heads), named as in vit.ViT."""
    compare_class(
        cls, vit.ViT, mistakes.reference_vit,
        {**mistakes.VIT_MISTAKES, **mistakes.ACTIVATION_MISTAKES, **mistakes.MSA_MISTAKES},
        settings="image_size patch_size num_classes num_layers hidden_size mlp_size num_heads",
        input_shape="rgb_images",
    )
