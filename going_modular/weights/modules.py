"""What a module tells of itself, which its weights do not: activation, epsilon, pooling, heads."""
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from going_modular.utils import sides, size_of
from going_modular.weights.layouts import Layout
from going_modular.weights.sources import WeightsError

# What a head may hold without changing the logits of its one linear layer.
IDLE: tuple[type[nn.Module], ...] = (nn.Linear, nn.Dropout, nn.Identity, nn.Flatten)


def read_settings(
    layout: Layout, module: nn.Module, names: Mapping[str, str], prefix: str,
) -> dict[str, Any]:
    """The settings of a ViT that a module computes with: layer_norm_eps, gelu, num_heads, pool and
    image_size, as far as it tells them.

    names: from the layout's name of a tensor to its name in the module's state dict.
    prefix: what these names begin with, where the ViT is a part of the module.
    Raises WeightsError for a module that computes with something that no ViT of ours has.
    """
    root = module.get_submodule(prefix.rstrip("."))
    settings: dict[str, Any] = {}

    def owners(name: str) -> Iterator[tuple[nn.Module, nn.Module]]:
        """The modules that hold our parameter of this name in each block, with their parents."""
        layer = 0
        while (theirs := layout.library_names(f"blocks.{layer}.{name}")[0]) in names:
            path = names[theirs].rpartition(".")[0]
            yield module.get_submodule(path), module.get_submodule(path.rpartition(".")[0])
            layer += 1

    norms: list[Any] = [norm for name in ("norm1.weight", "norm2.weight") for norm, _ in owners(name)]
    if (theirs := layout.library_names("norm.weight")[0]) in names:
        norms.append(module.get_submodule(names[theirs].rpartition(".")[0]))
    for norm in norms:
        if not isinstance(norm, nn.LayerNorm):
            raise WeightsError(f"the module normalises by {type(norm).__name__}, where a ViT has "
                               "LayerNorm")
    for _, block in owners("norm1.weight"):
        if "Post" in type(block).__name__:  # timm's, whose weights have the names of its Block
            raise WeightsError(f"the module's blocks are {type(block).__name__}, with LayerNorm "
                               "behind attention and MLP; a ViT has it before them")

    said: dict[str, set[Any]] = {
        "layer_norm_eps": {norm.eps for norm in norms},
        "gelu": {gelu_form(activation_of(mlp)) for _, mlp in owners("mlp.hidden.weight")},
        "num_heads": {found for each in owners("msa.qkv.weight") for part in each
                      for attribute in ("num_heads", "num_attention_heads")  # or transformers'
                      if isinstance(found := getattr(part, attribute, None), int)}}
    for name, values in said.items():
        if len(values) > 1:
            raise WeightsError(f"the module's blocks differ in {name}: "
                               + ", ".join(map(str, sorted(values))))
        if values:
            settings[name] = values.pop()

    has_class_token = layout.library_names("class_token")[0] in names
    settings["pool"] = pooling(root, has_class_token)
    path = names[layout.signature].rpartition(".")[0]
    convolution, embedding = (module.get_submodule(part)
                              for part in (path, path.rpartition(".")[0]))
    if isinstance(convolution, nn.Conv2d) and (convolution.stride != convolution.kernel_size
                                               or any(map(bool, convolution.padding))):
        raise WeightsError(
            f"the module's patches overlap or are padded: kernel {convolution.kernel_size}, stride "
            f"{convolution.stride}, padding {convolution.padding}")
    for part in (embedding, root):
        size = getattr(part, "img_size", None) or getattr(part, "image_size", None)
        if size is not None:
            settings["image_size"] = size_of(*sides(size))
            break
    return settings


def activation_of(mlp: nn.Module) -> Any:
    """The function between the two linear layers of a library's MLP.

    Raises WeightsError where there is none that can be found.
    """
    if isinstance(mlp, nn.Sequential):
        return mlp[1]
    for name in ("act", "activation_fn", "intermediate_act_fn"):  # timm, and two of transformers
        if hasattr(mlp, name):
            return getattr(mlp, name)
    raise WeightsError(f"the activation of the module's {type(mlp).__name__} can't be found")


@torch.no_grad()
def gelu_form(activation: Any) -> str:
    """"erf" or "tanh", as a function computes it, whatever it is called.

    Raises WeightsError for another function.
    """
    x = torch.linspace(-6, 6, 97, dtype=torch.float64, device="cpu")
    for form, approximate in (("erf", "none"), ("tanh", "tanh")):
        try:
            found = activation(x.clone())
        except (RuntimeError, TypeError):  # one with parameters, such as PReLU, on another device
            break
        # The two are up to 5e-4 apart; some libraries compute in float32.
        if torch.allclose(found, F.gelu(x, approximate=approximate), rtol=0, atol=1e-5):
            return form
    name = getattr(activation, "__name__", type(activation).__name__)
    raise WeightsError(f"the module's activation is {name}; a ViT of ours has GELU, in the forms "
                       "erf and tanh")


def pooling(root: nn.Module, has_class_token: bool) -> str:
    """"token" or "mean": what the module's head reads.

    Raises WeightsError for a pooling that a ViT of ours does not have.
    """
    # timm's name, and that of vit-pytorch and its like. MAE has True for a mean, False for none.
    said = getattr(root, "global_pool", getattr(root, "pool", None))
    if isinstance(said, str):
        if said in ("token", "cls") and has_class_token:
            return "token"
        if said in ("avg", "mean") and not has_class_token:
            return "mean"
        beside = "beside a class token" if has_class_token else "without a class token"
        raise WeightsError(f"the module pools by {said!r} {beside}; a ViT of ours reads the class "
                           "token, or the mean of all patches where there is none")
    if said is True and has_class_token:
        raise WeightsError("the module averages the patches beside a class token; a ViT of ours "
                           "reads one or the other")
    return "token" if has_class_token else "mean"


def check_head(layout: Layout, module: nn.Module, prefix: str) -> None:
    """Raise WeightsError where a module's head is more than one linear layer."""
    root = module.get_submodule(prefix.rstrip("."))
    head = getattr(root, layout.head_root, None)
    if isinstance(head, nn.Sequential):
        expected = IDLE
        if hasattr(head, "pre_logits"):  # torchvision's pre-training head
            expected += (nn.Tanh,)
        if layout.library_names("norm.weight")[0].startswith(layout.head_root):
            expected += (nn.LayerNorm,)  # the last one of the encoder
        others = [type(part).__name__ for part in head if not isinstance(part, expected)]
        if others:
            raise WeightsError(f"the module's head holds {', '.join(others)}: say how many classes "
                               "a fresh one is for, num_classes=...")
