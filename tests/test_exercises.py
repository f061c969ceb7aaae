"""The checks of the exercises: right solutions are accepted, each known mistake is answered by its name."""
import functools
import inspect
import math
import random
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from wrong_answers import SOURCES

from going_modular import vit
from going_modular.lessons import answers, comparing, exercises, functions
from going_modular.paper.positions import sinusoidal_positions


@pytest.fixture
def ask(capsys):
    """ask(name, *arguments) -> the verdict and the text of exercises.check_name."""

    def ask(name, *arguments):
        verdict = getattr(exercises, f"check_{name}")(*arguments)
        text = capsys.readouterr().out
        assert text == "correct\n" if verdict else text.startswith("not yet: ") and text.count("\n") == 1
        return verdict, text.removeprefix("not yet: ").strip()

    return ask


# Right solutions, in other ways than vit.py's. Those with methods of their own are changed into wrong ones below.


def patchify(images, patch_size):
    rows = [row.split(patch_size, dim=3) for row in images.split(patch_size, dim=2)]
    return torch.stack([patch.flatten(1) for row in rows for patch in row], dim=1)


def unpatchify(patches, patch_size, channels):
    side = patch_size * math.isqrt(patches.shape[1])
    return F.fold(patches.transpose(1, 2), (side, side), patch_size, stride=patch_size)


def layer_norm(x, weight, bias, eps):
    return F.layer_norm(x, weight.shape, weight, bias, eps)


def attention(q, k, v):
    weights = torch.einsum("...qd,...td->...qt", q / math.sqrt(q.shape[-1]), k).softmax(-1)
    return torch.einsum("...qt,...td->...qd", weights, v), weights


def gelu(x):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


class Conv(nn.Module):
    def __init__(self, patch_size, in_channels, hidden_size):
        super().__init__()
        self.patch_size = patch_size
        self.projection = nn.Conv2d(in_channels, hidden_size, patch_size, patch_size)

    def forward(self, images):
        return self.projection(images).flatten(2).transpose(1, 2)


class Linear(Conv):
    def __init__(self, patch_size, in_channels, hidden_size):
        super().__init__(patch_size, in_channels, hidden_size)
        self.projection = nn.Linear(in_channels * patch_size**2, hidden_size)

    def cut(self, images):
        return patchify(images, self.patch_size)

    def forward(self, images):
        return self.projection(self.cut(images))


class Embed(nn.Module):
    def __init__(self, num_patches, hidden_size):
        super().__init__()
        self.class_token = nn.Parameter(torch.zeros(1, 1, hidden_size))
        self.position_embedding = nn.Parameter(torch.randn(1, num_patches + 1, hidden_size))

    def tokens(self, patches):
        return [self.class_token.repeat(len(patches), 1, 1), patches]

    def forward(self, patches):
        return torch.cat(self.tokens(patches), dim=1) + self.position_embedding


class AddThenJoin(Embed):
    def forward(self, patches):
        positions = self.position_embedding.expand(len(patches), -1, -1).split([1, patches.shape[1]], 1)
        return torch.cat([*map(torch.add, self.tokens(patches), positions)], dim=1)


class Msa(nn.Module):
    def __init__(self, hidden_size, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.out = nn.Linear(hidden_size, hidden_size)

    def split(self, z):
        return z.view(*z.shape[:2], self.num_heads, -1).transpose(1, 2)

    def scale(self, q):
        return q.shape[-1]

    def weights(self, scores):
        return scores.softmax(3)

    def merge(self, heads):
        return torch.cat([*heads.unbind(1)], dim=2)

    def project(self, z):
        return self.out(z)

    def forward(self, z):
        q, k, v = map(self.split, self.qkv(z).split(z.shape[2], dim=2))
        weights = self.weights(q @ k.transpose(2, 3) / self.scale(q) ** 0.5)
        return self.project(self.merge(weights @ v))


class Mlp(nn.Module):
    def __init__(self, hidden_size, mlp_size, dropout):
        super().__init__()
        self.p = dropout
        self.hidden, self.out = nn.Linear(hidden_size, mlp_size), nn.Linear(mlp_size, hidden_size)

    def activation(self, x):
        return gelu(x)

    def drop1(self, x):
        return F.dropout(x, self.p, self.training)

    drop2 = drop1

    def forward(self, z):
        return self.drop2(self.out(self.drop1(self.activation(self.hidden(z)))))


class Block(nn.Module):
    def __init__(self, hidden_size, num_heads, mlp_size):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(hidden_size), nn.LayerNorm(hidden_size)  # eps 1e-5 is accepted
        self.msa = vit.MultiheadSelfAttention(hidden_size, num_heads)
        self.mlp = vit.MLPBlock(hidden_size, mlp_size)

    def forward(self, z):
        z = z + self.msa(self.norm1(z))
        return z + self.mlp(self.norm2(z))


class Net(nn.Module):
    def __init__(self, image_size, patch_size, num_classes, num_layers, hidden_size, mlp_size, num_heads):
        super().__init__()
        self.patch_embedding = Conv(patch_size, 3, hidden_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, hidden_size))
        self.position_embedding = nn.Parameter(torch.randn(1, (image_size // patch_size) ** 2 + 1, hidden_size))
        self.blocks = nn.ModuleList(self.block(hidden_size, num_heads, mlp_size) for _ in range(num_layers))
        self.norm = nn.LayerNorm(hidden_size)
        self.head = nn.Linear(hidden_size, num_classes)

    block = Block
    tokens, embed = Embed.tokens, Embed.forward

    def final(self, z):
        return self.norm(z)

    def read(self, z):
        return z[:, 0]

    def forward(self, images):
        z = self.embed(self.patch_embedding(images))
        for block in self.blocks_of():
            z = block(z)
        return self.head(self.read(self.final(z)))

    def blocks_of(self):
        return self.blocks


SOLUTIONS = [
    ("patchify", patchify), ("unpatchify", unpatchify), ("patch_embedding", Conv), ("patch_embedding", Linear),
    ("embed", AddThenJoin), ("layer_norm", layer_norm), ("attention", attention), ("msa", Msa), ("gelu", gelu),
    ("mlp", Mlp), ("block", Block), ("vit", Net)]
CHECKS = dict(SOLUTIONS)


@pytest.mark.parametrize("name, solution", SOLUTIONS)
def test_right_solutions(ask, name, solution):
    assert ask(name, solution) == (True, "correct")


def but(cls, **changes):
    """The class, with these methods instead of its own."""
    return type(cls.__name__, (cls,), {"__module__": __name__, **changes})


def also(cls, change):
    """The class, changed once it is built."""

    def __init__(self, **settings):
        cls.__init__(self, **settings)
        change(self)

    return but(cls, __init__=__init__)


def view(images, patch_size):
    batch, _, height, width = images.shape
    return images.reshape(batch, height * width // patch_size**2, -1)


def unfolded(images, patch_size, order):
    """Axes of the unfolded image: batch, C, rows, columns, P, P."""
    patches = images.unfold(2, patch_size, patch_size).unfold(3, patch_size, patch_size)
    return patches.permute(order).reshape(view(images, patch_size).shape)


def tanh(x):
    return F.gelu(x, approximate="tanh")


def post_norm(self, z):
    z = self.norm1(z + self.msa(z))
    return self.norm2(z + self.mlp(z))


def no_residual(self, z):
    return self.mlp(self.norm2(self.msa(self.norm1(z))))


def softmax_by_hand(axis):
    return lambda q, k, v: (lambda weights: (weights @ v, weights))((q @ k.mT / q.shape[-1] ** 0.5).softmax(axis))


def normalised(root):
    return lambda x, weight, bias, eps: (x - x.mean(-1, keepdim=True)) / root(x, eps) * weight + bias


def set_plain(self, name):
    value = getattr(self, name).detach()
    delattr(self, name)
    setattr(self, name, value)


def set_buffer(self, name):
    value = getattr(self, name).detach()
    delattr(self, name)
    self.register_buffer(name, value)


def set_list(self):
    blocks = [*self.blocks]
    del self.blocks
    self.blocks = blocks


def set_to(name, value):
    return lambda self: setattr(self, name, value(self))


class WithoutSuper(nn.Module):  # no super().__init__()
    def __init__(self, **settings):
        self.size = 3


WRONG = {
    "wrong shape": ("patchify", lambda x, p: patchify(x, p)[:, 1:],
                    r"\[3, 20, 48\], expected \[3, 21, 48\]: the first of axis 1 \(patch\)"),
    "a plain view": ("patchify", view, "shape is right.*A plain view"),
    "channels apart": ("patchify", lambda x, p: unfolded(x, p, (0, 1, 2, 3, 4, 5)), "rows and columns come before"),
    "channel last": ("patchify", lambda x, p: unfolded(x, p, (0, 2, 3, 4, 5, 1)), "channels last"),
    "columns first": ("patchify", lambda x, p: unfolded(x, p, (0, 3, 2, 1, 4, 5)), "column by column"),
    "pixels turned": ("patchify", lambda x, p: unfolded(x, p, (0, 2, 3, 1, 5, 4)), "exchanged within a patch"),
    "not transposed": ("patchify", lambda x, p: F.unfold(x, p, stride=p), "axes are in another order"),
    "a batch of 3 alone": ("patchify", lambda x, p: patchify(x, p).view(3, -1, x.shape[1] * p * p),
                           "batch size is baked in"),
    "a batch of 2 alone": ("msa", but(Msa, merge=lambda self, x: Msa.merge(self, x).view(2, 11, 30)),
                           "works for a batch of 2, not for one of 3"),
    "squeeze": ("patchify", lambda x, p: patchify(x, p).squeeze(), "an axis of size 1 is lost"),
    "in place": ("patchify", lambda x, p: patchify(x, p) if x.mul_(2) is None else patchify(x / 2, p), "in place"),
    "a list": ("patchify", lambda x, p: [*patchify(x, p)], "a list is returned, expected a tensor"),
    "an array": ("patchify", lambda x, p: patchify(x, p).numpy(), "an ndarray is returned, expected a tensor"),
    "patches laid flat": ("unpatchify", lambda x, p, c: x.reshape(unpatchify(x, p, c).shape), "A plain view"),
    "embedding of a view": ("patch_embedding", but(Linear, cut=lambda self, x: view(x, self.patch_size)),
                            "A plain view"),
    "conv not flattened": ("patch_embedding", but(Conv, forward=lambda self, x: self.projection(x)),
                           r"came the shape \[3, 30, 3, 7\], expected \[3, 21, 30\]"),
    "conv not transposed": ("patch_embedding", but(Conv, forward=lambda self, x: self.projection(x).flatten(2)),
                            "axes are in another order"),
    "no class token": ("embed", but(Embed, forward=lambda self, x: x + self.position_embedding[:, 1:]),
                       "there is no class token"),
    "token at the end": ("embed", but(Embed, tokens=lambda self, x: Embed.tokens(self, x)[::-1]),
                         "token is at the end"),
    "no positions": ("embed", but(Embed, forward=lambda self, x: torch.cat(self.tokens(x), 1)),
                     "positions are not added"),
    "one position too few": ("embed", also(Embed, set_to(
        "position_embedding", lambda self: nn.Parameter(self.position_embedding[:, 1:]))), "one position too few"),
    "a token for each image": ("embed", also(Embed, set_to(
        "class_token", lambda self: nn.Parameter(self.class_token.repeat(32, 1, 1)))), "batch size is baked in"),
    "a token for no image": ("embed", but(Embed, tokens=lambda self, x: [self.class_token.repeat(8, 1, 1), x]),
                             "works for a batch of 8, not for one of 3: the batch size is baked in"),
    "plain tensor": ("embed", also(Embed, lambda self: set_plain(self, "class_token")),
                     "`class_token` .* is a plain tensor and not registered"),
    "buffer": ("embed", also(Embed, lambda self: set_buffer(self, "position_embedding")), "is a buffer"),
    "frozen": ("embed", also(Embed, lambda self: self.class_token.requires_grad_(False)), "would not be trained"),
    "detached": ("embed", but(Embed, forward=lambda self, x: Embed.forward(self, x).detach()), "no gradient reaches"),
    "one detached": ("embed", but(Embed, tokens=lambda self, x: [self.class_token.data.repeat(len(x), 1, 1), x]),
                     "no gradient reaches `class_token`"),
    "other names": ("embed", also(Embed, lambda self: (setattr(self, "cls", self.class_token),
                                                       delattr(self, "class_token"))),
                    "`class_token` .* is missing. Parameters so far: `position_embedding`, `cls`"),
    "too many": ("embed", also(Embed, set_to("more", lambda self: nn.Linear(2, 2))), "too many, `more.weight`"),
    "unbiased": ("layer_norm", normalised(lambda x, eps: (x.var(-1, keepdim=True) + eps) ** 0.5), "divided by D - 1"),
    "eps outside": ("layer_norm", normalised(lambda x, eps: x.std(-1, False, keepdim=True) + eps),
                    "eps is added after the root"),
    "no affine": ("layer_norm", lambda x, w, b, eps: F.layer_norm(x, w.shape, w, None, eps), "the bias is not added"),
    "first axis": ("layer_norm", lambda x, w, b, eps: layer_norm(x.mT, w[:11], b[:11], eps).mT, "numbers are not"),
    "no scale": ("attention", lambda q, k, v: attention(q * q.shape[-1] ** 0.5, k, v), "not scaled"),
    "scale of all heads": ("attention", lambda q, k, v: attention(q / q.shape[1] ** 0.5, k, v), r"scale is sqrt\(D\)"),
    "softmax over queries": ("attention", softmax_by_hand(-2), "wrong axis, the queries"),
    "softmax over heads": ("attention", softmax_by_hand(1), "wrong axis, the heads"),
    "softmax over the batch": ("attention", softmax_by_hand(0), "wrong axis, the batch"),
    "output alone": ("attention", F.scaled_dot_product_attention, "a Tensor is returned, expected two tensors"),
    "swapped": ("attention", lambda q, k, v: attention(q, k, v)[::-1], "results are exchanged"),
    "not finite": ("attention", lambda q, k, v: attention(q * 1e30, k * 1e30, v), "not finite"),
    "scale by sqrt(D)": ("msa", but(Msa, scale=lambda self, q: self.out.in_features), r"scale is sqrt\(D\)"),
    "msa without scale": ("msa", but(Msa, scale=lambda self, q: 1), "not scaled"),
    "msa over queries": ("msa", but(Msa, weights=lambda self, scores: scores.softmax(2)), "wrong axis, the queries"),
    "merge": ("msa", but(Msa, merge=lambda self, x: x.reshape(len(x), x.shape[2], -1)), "not merged back in order"),
    "split": ("msa", but(Msa, split=lambda self, z: z.reshape(len(z), self.num_heads, z.shape[1], -1)),
              "not split in order"),
    "no projection": ("msa", but(Msa, project=lambda self, z: z), "no output projection"),
    "no layer for it": ("msa", also(Msa, lambda self: delattr(self, "out")), "`out` .the output projection.* missing"),
    "no bias": ("msa", also(Msa, set_to("qkv", lambda self: nn.Linear(self.out.in_features, 90, bias=False))),
                "`qkv.bias` is missing"),
    "two mistakes": ("msa", but(Msa, scale=lambda self, q: 1, merge=lambda self, x: x.reshape(len(x), x.shape[2], -1)),
                     "not scaled"),
    "ReLU": ("gelu", F.relu, "this is ReLU"),
    "tanh": ("gelu", tanh, "tanh form"),
    "Phi": ("gelu", lambda x: (1 + torch.erf(x / 2**0.5)) / 2, "GELU is x Phi"),
    "mlp with ReLU": ("mlp", but(Mlp, activation=lambda self, x: x.relu()), "this is ReLU"),
    "mlp with tanh": ("mlp", but(Mlp, activation=lambda self, x: tanh(x)), "tanh form"),
    "no activation": ("mlp", but(Mlp, activation=lambda self, x: x), "no GELU"),
    "dropout in eval": ("mlp", but(Mlp, drop2=lambda self, x: F.dropout(x, self.p)), "dropout is on in eval"),
    "no first dropout": ("mlp", but(Mlp, drop1=lambda self, x: x), "no dropout after the GELU"),
    "no second dropout": ("mlp", but(Mlp, drop2=lambda self, x: x), "no dropout after the second"),
    "sizes exchanged": ("mlp", also(Mlp, set_to("hidden", lambda self: nn.Linear(*self.hidden.weight.shape))),
                        "its two sizes are exchanged"),
    "no residual around MSA": ("block", but(Block, forward=lambda self, z: (
        lambda y: y + self.mlp(self.norm2(y)))(self.msa(self.norm1(z)))), "residual around the MSA is missing"),
    "no residual around MLP": ("block", but(Block, forward=lambda self, z: self.mlp(self.norm2(
        z + self.msa(self.norm1(z))))), "residual around the MLP is missing"),
    "no residual": ("block", but(Block, forward=no_residual), "residual around the MSA is missing"),
    "post-norm": ("block", but(Block, forward=post_norm), "post-norm"),
    "norm1 over z": ("block", but(Block, forward=lambda self, z: (lambda y: (lambda x: x + self.mlp(self.norm2(x)))(
        y + self.msa(y)))(self.norm1(z))), "MSA carries the normalised z.*norm1 overwrites"),
    "norm2 over z": ("block", but(Block, forward=lambda self, z: (lambda y: y + self.mlp(y))(self.norm2(
        z + self.msa(self.norm1(z))))), "MLP carries the normalised z.*norm2 overwrites"),
    "norm1 twice": ("block", but(Block, forward=lambda self, z: (lambda y: y + self.mlp(self.norm1(y)))(
        z + self.msa(self.norm1(z)))), "norm1 is used twice, norm2 never"),
    "post-norm in one half": ("block", but(Block, forward=lambda self, z: (lambda y: y + self.mlp(self.norm2(y)))(
        self.norm1(z + self.msa(z)))), "half with the MSA is post-norm"),
    "both halves wrong": ("block", but(Block, forward=lambda self, z: self.mlp(self.norm2(
        (lambda y: y + self.msa(y))(self.norm1(z))))), "There is a second mistake, too"),
    "a norm without effect": ("block", but(Block, forward=lambda self, z: (lambda y: y + 3 * self.mlp(y))(
        z + self.msa(self.norm1(z)))), "no effect on it: `norm2.weight`, `norm2.bias`"),
    "block with tanh": ("block", also(Block, lambda self: setattr(self.mlp, "gelu", nn.GELU("tanh"))), "tanh form"),
    "vit without positions": ("vit", but(Net, embed=lambda self, x: torch.cat(self.tokens(x), 1)),
                              "positions are not added"),
    "vit with the token at the end": ("vit", but(Net, tokens=lambda self, x: Embed.tokens(self, x)[::-1],
                                                 read=lambda self, z: z[:, -1]), "token is at the end"),
    "vit of views": ("vit", also(Net, lambda self: setattr(self, "patch_embedding", but(
        Linear, cut=lambda self, x: view(x, self.patch_size))(4, 3, 30))), "A plain view"),
    "vit with the mean": ("vit", but(Net, read=lambda self, z: z.mean(1)), "mean of all tokens"),
    "vit with the same input for all": ("vit", but(Net, embed=lambda self, x: self.blocks[-1](Net.embed(self, x)),
                                                blocks_of=lambda self: []), "every block is given the same input"),
    "vit without the last block": ("vit", but(Net, blocks_of=lambda self: self.blocks[:-1]), "last block is left out"),
    "vit with one block again": ("vit", but(Net, blocks_of=lambda self: [self.blocks[0]] * 3),
                                 "first block is used again and again"),
    "vit with token 1": ("vit", but(Net, read=lambda self, z: z[:, 1]), "token 1, the first patch"),
    "vit of a normalised batch": ("vit", but(Net, final=lambda self, z: self.norm(z) - self.norm(z).mean(0)),
                                  "depends on the other images"),
    "vit without final norm": ("vit", but(Net, final=lambda self, z: z), "no final norm"),
    "vit without norm": ("vit", also(Net, lambda self: delattr(self, "norm")), "`norm` .the final norm.* is missing"),
    "vit with post-norm": ("vit", but(Net, block=but(Block, forward=post_norm)), "post-norm"),
    "vit with a list": ("vit", also(Net, set_list), "`blocks` is a Python list.*use nn.ModuleList"),
    "vit with one block": ("vit", also(Net, set_to("blocks", lambda self: nn.ModuleList([self.blocks[0]] * 3))),
                           "one and the same"),
    "vit of probabilities": ("vit", but(Net, forward=lambda self, x: Net.forward(self, x).softmax(-1)),
                             "softmax, logits"),
    "the package's class": ("msa", vit.MultiheadSelfAttention, "finished code of the package"),
    "a subclass of it": ("block", type("Mine", (vit.TransformerEncoderBlock,), {}), "finished code of the package"),
    "a tuple of one": ("msa", but(Msa, project=lambda self, z: (self.out(z),)), "a tuple is returned.*comma"),
    "float64": ("msa", but(Msa, project=lambda self, z: self.out(z).double()), "are float64, expected float32"),
    "cat then add": ("embed", Embed, "right, but a sum of the size.*torch.cat comes last"),
    "positions before the token": ("embed", but(AddThenJoin, forward=lambda self, x: torch.cat(
        [self.class_token.repeat(len(x), 1, 1), x + self.position_embedding[:, :-1]], 1)), "before the class token"),
    "a reshape after Conv2d": ("patch_embedding", but(Conv, forward=lambda self, x: (
        lambda z: z.reshape(len(z), -1, z.shape[1]))(self.projection(x))), "by a reshape or view"),
    "square images alone": ("patch_embedding", but(Conv, forward=lambda self, x: (lambda z: z.reshape(
        *z.shape[:2], z.shape[3] ** 2).mT)(self.projection(x))), "works for square images alone"),
    "three channels": ("patch_embedding", lambda patch_size, in_channels, hidden_size: Conv(patch_size, 3, hidden_size),
                       r"right with patch_size=4, in_channels=3.*, wrong with .*in_channels=4.*as a constant"),
    "a fixed rate": ("mlp", also(Mlp, lambda self: setattr(self, "p", 0.5)), "with dropout=0.2, .*constant"),
    "an inverted rate": ("mlp", also(Mlp, lambda self: setattr(self, "p", 1 - self.p)), "kept, it must be dropped"),
    "modules for functions": ("mlp", also(Mlp, set_to("gelu", lambda self: nn.GELU())), "F.gelu and F.dropout are ask"),
    "a mode of its own": ("msa", but(Msa, project=lambda self, z: self.train().out(z)), "left in another mode"),
    "something kept": ("msa", but(Msa, project=lambda self, z: self.out(z) + (
        vars(self).setdefault("calls", []).append(0) or len(self.calls) - 1)), "second call"),
    "a part of the tokens": ("msa", but(Msa, project=lambda self, z: torch.cat([self.out(z[:, :1]), z[:, 1:]], 1)),
                             r"wrong is all but the first of axis 1 \(token\)"),
    "one token fewer": ("msa", but(Msa, project=lambda self, z: self.out(z)[:, 1:]), "first of axis 1 .token. is left"),
    "a part of the gradient": ("msa", but(Msa, weights=lambda self, scores: scores.softmax(3).detach()),
                               "only a part of the gradient reaches `qkv.weight`"),
    "attention between heads": ("msa", but(Msa, split=lambda self, z: z.view(*z.shape[:2], self.num_heads, -1),
                                           merge=lambda self, x: x.flatten(2)), "heads of a token attend to each"),
    "not initialised": ("embed", WithoutSuper, r"must begin with super\(\).__init__\(\)"),
    "no module": ("embed", dict, "a subclass of nn.Module"),
    "an object": ("embed", nn.Identity(), "give the class itself"),
}


@pytest.mark.parametrize("name, wrong, words", WRONG.values(), ids=WRONG)
def test_mistakes_are_named(ask, name, wrong, words):
    verdict, text = ask(name, wrong)
    assert not verdict and re.search(words, text), text


NOTHING = (False, "nothing is there so far: NotImplementedError is raised")


def returns_nothing(*arguments):
    """A stub."""


def not_implemented(*arguments, **settings):
    raise NotImplementedError


@pytest.mark.parametrize("name", CHECKS)
def test_stubs(ask, name):
    if not isinstance(CHECKS[name], type):
        assert ask(name, not_implemented) == NOTHING
        assert ask(name, returns_nothing) == (False, "nothing is returned so far")
        return
    cls = CHECKS[name]
    assert ask(name, type("Stub", (nn.Module,), {})) == (False, "the class defines nothing so far")
    assert ask(name, but(cls, __init__=not_implemented)) == NOTHING
    assert ask(name, but(cls, forward=not_implemented)) == NOTHING
    assert ask(name, but(cls, forward=returns_nothing)) == (False, "nothing is returned so far")
    assert ask(name, but(cls, forward=nn.Module.forward)) == (False, "the class has no forward so far")
    empty = but(cls, __init__=lambda self, **settings: nn.Module.__init__(self))
    assert "is missing. Parameters so far: none" in ask(name, empty)[1]


def breaks(*arguments):
    return arguments[0].no_such_name


def asserts(*arguments):
    assert arguments is None, f"first line {object()}\nsecond line"


@pytest.mark.parametrize("function, words", [
    (breaks, r"AttributeError in line {line} \(breaks\): 'Tensor' object has no attribute 'no_such_name' \(given \["),
    (asserts, r"AssertionError in line {line} \(asserts\): first line <object object at 0x...> \(given \["),
    (None, "give the function itself, not a NoneType")])
def test_an_exception_is_told_in_one_line(ask, function, words):
    if function:
        words = words.replace("{line}", str(function.__code__.co_firstlineno + 1))
    for name in ("patchify", "unpatchify", "layer_norm", "attention", "gelu"):
        assert re.match(words, ask(name, function)[1])
    if function:
        words = words.replace("Tensor", "Msa")
        assert re.match(words, ask("msa", but(Msa, project=function))[1])


def test_an_exception_while_building(ask):
    verdict, text = ask("embed", but(Embed, __init__=lambda self, size: None))
    assert "unexpected keyword argument 'num_patches' (given num_patches=11, hidden_size=30)" in text


@pytest.mark.parametrize("name", CHECKS)
def test_the_readers_random_state_stays_and_does_not_matter(ask, name):
    texts = []
    for seed in range(2):
        torch.manual_seed(seed)
        random.seed(seed)
        states = torch.get_rng_state(), random.getstate()
        texts.append((ask(name, CHECKS[name]), ask(name, view)))
        assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]
    assert texts[0] == texts[1]


def test_help_tells_that_a_check_returns_true_or_false():
    checks = [check for name, check in vars(exercises).items() if name.startswith("check_")]
    assert checks and all(inspect.signature(check).return_annotation is bool for check in checks)


def test_sizes_differ():
    for s in comparing.draw_sizes():
        assert s.in_channels * s.patch_size**2 != s.hidden_size != 3 * s.patch_size**2
        assert s.images[2] != s.images[3]
        assert s.num_heads > 1 and len({s.hidden_size, s.mlp_size, s.num_patches, s.num_heads, s.num_classes}) == 5


@pytest.mark.parametrize("name", answers.ANSWERS)
def test_answers(ask, name):
    expected, hint, known = answers.ANSWERS[name]
    assert ask("number", name, expected) == (True, "correct")
    assert ask("number", name, torch.tensor(expected, dtype=torch.double)) == (True, "correct")
    assert ask("number", name, np.float64(expected)) == (True, "correct")
    assert ask("number", name, 1.13 * expected + 1) == (False, hint)
    assert ask("number", name, None) == ask("number", name, ...) == (False, "there is no answer so far")
    assert ask("number", name, "many") == (False, "a number is asked, not a str")
    for words, number in known.items():
        assert ask("number", name, number) == (False, words)
    for words in (hint, *known):
        assert str(expected) not in words and f"{expected:,}" not in words


def test_a_name_that_is_not_there(ask):
    assert ask("number", "nothing", 1) == ask("function", "nothing", max) == (
        False, "there is no exercise of the name 'nothing'")


# The small functions. A right solution of each is in notebooks/solutions; the mistakes in the tables are tried there
# where they stand.


def mine(source):
    """The name `answer` of a reader's cell."""
    names = {"__name__": "__main__", "torch": torch, "F": F, "nn": nn, "np": np, "math": math,
             "sinusoidal_positions": sinusoidal_positions}
    exec(source, names)
    return names["answer"]


@pytest.mark.parametrize("name", functions.FUNCTIONS)
def test_answers_in_other_words(ask, name):
    source, wrong = SOURCES[name]
    assert ask("function", name, mine(source)) == (True, "correct")
    for (old, new), words in wrong.items():
        verdict, text = ask("function", name, mine(source.replace(old, new, 1)))
        assert old in source and not verdict and re.search(words, text), (old, new, text)


def again(function):
    """The function as one of the reader's own: with the code of the package comes its module."""
    return lambda *arguments: function(*arguments)


@pytest.mark.parametrize("name", functions.FUNCTIONS)
def test_each_mistake_of_a_table_is_named_as_it_says(ask, name):
    asked = functions.FUNCTIONS[name]
    assert ask("function", name, asked.reference)[1] == "this is the finished code of the package: write your own"
    if not asked.forbidden:
        assert ask("function", name, again(asked.reference)) == (True, "correct")
    for message, mistake in asked.mistakes.items():
        verdict, text = ask("function", name, again(mistake))
        assert not verdict and message in text, (message, text)
    assert ask("function", name, not_implemented) == NOTHING
    assert not ask("function", name, returns_nothing)[0]
    assert not ask("function", name, lambda *arguments: arguments[0])[0]


def returns(value):
    return lambda *arguments: value


@pytest.mark.parametrize("value", [
    math.nan, {}, [None], [[], [[]]], "text", object, returns, 5, torch.empty(0), torch.zeros(3, dtype=torch.cfloat),
    torch.zeros(2, device="meta"), torch.eye(2).to_sparse(), torch.tensor([True]), np.zeros((2, 3)), nn.Identity()],
    ids=lambda value: type(value).__name__)
def test_whatever_is_returned_gets_a_hint(ask, value):
    for name in ("to_model", "shapes", "gain", "majority_accuracy", "decay_groups", "training_step", "drop_path"):
        verdict, text = ask("function", name, returns(value))
        assert not verdict and "cannot be compared" not in text, (name, text)
    assert not ask("attention", returns(value))[0] and not ask("msa", value)[0]


def never_ends(*arguments):
    while True:
        pass


def test_a_loop_that_never_ends_is_stopped(ask, monkeypatch):
    monkeypatch.setattr(comparing, "SECONDS", 0.05)
    stopped = False, "stopped after 0.05 seconds. Is there a loop that never ends?"
    assert ask("function", "shapes", never_ends) == ask("msa", but(Msa, project=never_ends)) == stopped


def test_an_error_of_pytorch_is_no_stub(ask):
    text = ask("gelu", lambda x: x.to(torch.int32).geqrf())[1]
    assert "NotImplementedError in line" in text or "RuntimeError in line" in text


@pytest.mark.parametrize("cls", [
    functools.partial(Msa), lambda **settings: Msa(**settings),
    lambda **settings: torch.compile(Msa(**settings), backend="eager"),
    also(Msa, lambda self: vars(self)["_modules"].update(out=nn.LazyLinear(self.out.out_features)))],
    ids=["partial", "factory", "compiled", "lazy"])
def test_unusual_but_right_classes(ask, cls):
    assert ask("msa", cls) == (True, "correct")


WANT = torch.arange(1, 61).view(3, 4, 5).pow(2).float()


@pytest.mark.parametrize("change, words", [
    (lambda x: x.transpose(0, 1).reshape(x.shape), "right numbers in the wrong places"),
    (lambda x: 2**0.5 * x, "all numbers are 1.41 times what they should be"), (lambda x: -x, "of the wrong sign"),
    (lambda x: x + 3, "all numbers are too large by 3"), (lambda x: 0 * x, "all numbers are zero"),
    (lambda x: x.roll(1, 1), r"shifted by one along axis 1 \(token\)"),
    (lambda x: x.flip(2), "along axis 2 .number. is reversed"),
    (lambda x: torch.cat([x[:, :1], x[:, 1:] + 1], 1), "wrong is all but the first of axis 1 .token.. There .* by 1"),
    (lambda x: torch.cat([x[:, :3], 2 * x[:, 3:]], 1), r"only the last of axis 1 \(token\). There .* 2 times"),
    (lambda x: x[[2, 0, 1]], "shifted by one along axis 0|another order along axis 0"),
    (lambda x: x[:, [0, 2, 1, 3]], "number 1, 2 .from 0 on. of axis 1"),
    (lambda x: x[[1, 1, 1]], "all but number 1 .from 0 on. of axis 0"),
    (lambda x: x / x.sum(-1, keepdim=True), "along axis 2 .number. the numbers have the right ratios"),
    (lambda x: x.sqrt(), "^$")])
def test_the_part_that_differs_is_told(change, words):
    assert re.search(words, comparing.which_part(change(WANT), WANT, "batch token number"))
