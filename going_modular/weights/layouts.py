"""What each library calls the weights of a ViT, and how it lays them out.

Five tables map our names to theirs: TORCHVISION, TIMM, TRANSFORMERS, OFFICIAL and LEARNPYTORCH. The
files of the paper's authors have JAX's shapes (OfficialLayout), the others PyTorch's.
"""
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from going_modular.weights.preprocessing import Preprocessing

GetTensor = Callable[[str], torch.Tensor]  # gives one of a library's tensors by the library's name


@dataclass(frozen=True)
class Layout:
    """How a library names and shapes the weights of a ViT; this class is for PyTorch's shapes.

    kind: the layout's own name, as in LAYOUTS.
    default_settings: what the library computes with unless told otherwise, and no tensor shows:
        LayerNorm's epsilon and the form of GELU, by their names in ViT.settings.
    preprocessing: what the library does to images by default.
    names: our name of a module or a parameter -> the library's. {i} is the number of a block,
        {leaf} the last part of a parameter's name, weight or bias. A tuple has the names of q, k
        and v, where the library keeps them apart.
    renames: (pattern, replacement) that turn the names of other versions into those of `names`, in
        this order.
    configurable: those of default_settings that a user of the library can set to something else.
    has_pre_logits: whether the library has the pre-training head, with a tanh layer.
    has_rectangles: whether the library takes images that are no squares.
    optional_prefix: what the names begin with in models that have a head, and not in those without.
    """

    kind: str
    default_settings: dict[str, Any]
    preprocessing: Preprocessing
    names: Mapping[str, str | tuple[str, ...]]
    renames: tuple[tuple[str, str], ...] = ()
    configurable: frozenset[str] = frozenset({"layer_norm_eps", "gelu"})
    has_pre_logits: bool = False
    has_rectangles: bool = True
    optional_prefix: str = ""

    def library_names(self, name: str) -> tuple[str, ...]:
        """The library's name for one of our parameters, or its three names for q, k and v.

        () where the library has nothing like it.
        """
        module, _, leaf = name.rpartition(".")
        block = re.match(r"blocks\.(\d+)\.", name)
        # Parameters of the model itself, class_token and position_embedding, belong to no module.
        key = re.sub(r"^blocks\.\d+", "blocks.{i}", module) if module else name
        patterns = self.names.get(key, ())
        if isinstance(patterns, str):
            patterns = (patterns,)
        number, library_leaf = block[1] if block else None, self.library_leaf(module, leaf)
        return tuple(pattern.format(i=number, leaf=library_leaf) for pattern in patterns)

    def library_leaf(self, module: str, leaf: str) -> str:
        """The library's word for the weight or bias of one of our modules."""
        return leaf

    def bias_shape(self, weight: torch.Tensor) -> torch.Size:
        """The shape of the bias beside one of the library's weights: that of its outputs."""
        return weight.shape[:1]

    @property
    def signature(self) -> str:
        """A name that no other layout has: that of the patch embedding's weight."""
        return self.library_names("patch_embedding.projection.weight")[0]

    @property
    def head(self) -> str:
        """The library's name of the head's linear layer."""
        return self.library_names("head.weight")[0].removesuffix(self.library_leaf("head", "weight"))[:-1]

    @property
    def head_root(self) -> str:
        """The first part of that name, which all layers of a head begin with."""
        return re.split(r"[./]", self.head)[0]

    def settings_from_shapes(self, get: GetTensor) -> dict[str, int]:
        """The settings of a ViT that only the library's shapes tell, as ours have fewer axes."""
        _, channels, patch_size, _ = get(self.signature).shape  # a convolution's weight, [D, C, P, P]
        return {"in_channels": channels, "patch_size": patch_size}

    def read(self, name: str, get: GetTensor) -> torch.Tensor:
        """One of our parameters, by our name and in our shape, out of the library's tensors.

        `get` is called for these tensors alone.
        """
        # Where q, k and v are apart, they are joined along the output axis: ours is one matrix,
        # rows q, k, v.
        parts = [get(theirs) for theirs in self.library_names(name)]
        tensor = torch.cat(parts) if len(parts) > 1 else parts[0]
        # Our patch embedding is a linear layer: a patch is flattened channel first, as a
        # convolution's weight is.
        return tensor.flatten(1) if name == "patch_embedding.projection.weight" else tensor

    def write(
        self, name: str, tensor: torch.Tensor, settings: dict[str, Any],
    ) -> dict[str, torch.Tensor]:
        """The inverse of `read`: the library's tensors, by its names, for one of our parameters.

        settings: of the ViT, for the axes that our shapes do not have.
        """
        if name == "patch_embedding.projection.weight":
            tensor = tensor.unflatten(1, _patch_axes(settings))
        library_names = self.library_names(name)
        parts = tensor.chunk(len(library_names))  # q, k and v where the library keeps them apart
        # safetensors refuses views that are not contiguous.
        return {theirs: part.contiguous() for theirs, part in zip(library_names, parts)}


class OfficialLayout(Layout):
    """The .npz files of the paper's authors, with the shapes of JAX.

    A kernel is [inputs, outputs], the transpose of PyTorch's weight. In attention the heads are an
    axis of their own: query, key and value are [D, k, D_h], out is [k, D_h, D]. The patch embedding
    is [P, P, C, D]. LayerNorm's weight is called scale.
    """

    def library_leaf(self, module: str, leaf: str) -> str:
        if leaf == "bias":
            return leaf
        return "scale" if "norm" in module else "kernel"

    def bias_shape(self, weight: torch.Tensor) -> torch.Size:
        return weight.shape[1:]  # of a kernel [inputs, outputs], or [D, k, D_h] in attention

    def settings_from_shapes(self, get: GetTensor) -> dict[str, int]:
        patch_size, _, channels, _ = get(self.signature).shape  # [P, P, C, D]
        _, num_heads, _ = get(self.library_names("blocks.0.msa.qkv.weight")[0]).shape  # [D, k, D_h]
        return {"in_channels": channels, "patch_size": patch_size, "num_heads": num_heads}

    def read(self, name: str, get: GetTensor) -> torch.Tensor:
        parts = [get(theirs) for theirs in self.library_names(name)]
        if name == "patch_embedding.projection.weight":
            return parts[0].permute(3, 2, 0, 1).flatten(1)  # [P, P, C, D] -> [D, C * P * P]
        if name.endswith("msa.qkv.weight"):
            return torch.cat([part.flatten(1).T for part in parts])  # 3 x [D, k, D_h] -> [3 * D, D]
        if name.endswith("msa.qkv.bias"):
            return torch.cat([part.flatten() for part in parts])  # 3 x [k, D_h] -> [3 * D]
        if name.endswith("msa.out.weight"):
            return parts[0].flatten(0, 1).T  # [k, D_h, D] -> [D, k * D_h]
        # What is left are kernels of the MLPs and the head, and tensors that have our shape.
        return parts[0].T if parts[0].ndim == 2 else parts[0]

    def write(
        self, name: str, tensor: torch.Tensor, settings: dict[str, Any],
    ) -> dict[str, torch.Tensor]:
        library_names, heads = self.library_names(name), settings["num_heads"]
        if name == "patch_embedding.projection.weight":
            parts = [tensor.unflatten(1, _patch_axes(settings)).permute(2, 3, 1, 0)]
        elif name.endswith("msa.qkv.weight"):
            parts = [part.T.unflatten(1, (heads, -1)) for part in tensor.chunk(3)]
        elif name.endswith("msa.qkv.bias"):
            parts = [part.unflatten(0, (heads, -1)) for part in tensor.chunk(3)]
        elif name.endswith("msa.out.weight"):
            parts = [tensor.T.unflatten(0, (heads, -1))]
        else:
            parts = [tensor.T if tensor.ndim == 2 else tensor]
        return {theirs: part.contiguous() for theirs, part in zip(library_names, parts)}


def _patch_axes(settings: dict[str, Any]) -> tuple[int, int, int]:
    """(C, P, P), into which a flattened patch is unfolded."""
    return settings["in_channels"], settings["patch_size"], settings["patch_size"]


# torchvision.models.vit_b_16 and its like. in_proj holds q, k and v in one matrix, as ours does.
TORCHVISION = Layout(
    kind="torchvision",
    default_settings=dict(layer_norm_eps=1e-6, gelu="erf"),
    preprocessing=Preprocessing(
        crop_pct=224 / 256, interpolation="bilinear",
        mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),  # of the pixels of ImageNet
    names={
        "class_token": "class_token",
        "position_embedding": "encoder.pos_embedding",
        "patch_embedding.projection": "conv_proj.{leaf}",
        "blocks.{i}.norm1": "encoder.layers.encoder_layer_{i}.ln_1.{leaf}",
        "blocks.{i}.msa.qkv": "encoder.layers.encoder_layer_{i}.self_attention.in_proj_{leaf}",
        "blocks.{i}.msa.out": "encoder.layers.encoder_layer_{i}.self_attention.out_proj.{leaf}",
        "blocks.{i}.norm2": "encoder.layers.encoder_layer_{i}.ln_2.{leaf}",
        "blocks.{i}.mlp.hidden": "encoder.layers.encoder_layer_{i}.mlp.0.{leaf}",
        "blocks.{i}.mlp.out": "encoder.layers.encoder_layer_{i}.mlp.3.{leaf}",
        "norm": "encoder.ln.{leaf}",
        "pre_logits.0": "heads.pre_logits.{leaf}",
        "head": "heads.head.{leaf}",
    },
    renames=(  # before version 0.13 the MLP's layers had names
        (r"\.mlp\.linear_1\.", ".mlp.0."),
        (r"\.mlp\.linear_2\.", ".mlp.3."),
    ),
    configurable=frozenset({"layer_norm_eps"}),
    has_pre_logits=True,
    has_rectangles=False,
)

# timm's VisionTransformer, whose names DeiT, MAE and DINO use too.
TIMM = Layout(
    kind="timm",
    default_settings=dict(layer_norm_eps=1e-6, gelu="erf"),
    preprocessing=Preprocessing(crop_pct=0.9, interpolation="bicubic"),
    names={
        "class_token": "cls_token",
        "position_embedding": "pos_embed",
        "patch_embedding.projection": "patch_embed.proj.{leaf}",
        "blocks.{i}.norm1": "blocks.{i}.norm1.{leaf}",
        "blocks.{i}.msa.qkv": "blocks.{i}.attn.qkv.{leaf}",
        "blocks.{i}.msa.out": "blocks.{i}.attn.proj.{leaf}",
        "blocks.{i}.norm2": "blocks.{i}.norm2.{leaf}",
        "blocks.{i}.mlp.hidden": "blocks.{i}.mlp.fc1.{leaf}",
        "blocks.{i}.mlp.out": "blocks.{i}.mlp.fc2.{leaf}",
        "norm": "norm.{leaf}",
        "pre_logits.0": "pre_logits.fc.{leaf}",  # only read: gone since version 0.6
        "head": "head.{leaf}",
    },
)

# ViTForImageClassification, by the names of the files on the Hugging Face Hub, which all versions
# of transformers read.
TRANSFORMERS = Layout(
    kind="transformers",
    default_settings=dict(layer_norm_eps=1e-12, gelu="erf"),
    preprocessing=Preprocessing(crop_pct=None, interpolation="bilinear", resizer="tensor"),
    names={
        "class_token": "vit.embeddings.cls_token",
        "position_embedding": "vit.embeddings.position_embeddings",
        "patch_embedding.projection": "vit.embeddings.patch_embeddings.projection.{leaf}",
        "blocks.{i}.norm1": "vit.encoder.layer.{i}.layernorm_before.{leaf}",
        "blocks.{i}.msa.qkv": (
            "vit.encoder.layer.{i}.attention.attention.query.{leaf}",
            "vit.encoder.layer.{i}.attention.attention.key.{leaf}",
            "vit.encoder.layer.{i}.attention.attention.value.{leaf}",
        ),
        "blocks.{i}.msa.out": "vit.encoder.layer.{i}.attention.output.dense.{leaf}",
        "blocks.{i}.norm2": "vit.encoder.layer.{i}.layernorm_after.{leaf}",
        "blocks.{i}.mlp.hidden": "vit.encoder.layer.{i}.intermediate.dense.{leaf}",
        "blocks.{i}.mlp.out": "vit.encoder.layer.{i}.output.dense.{leaf}",
        "norm": "vit.layernorm.{leaf}",
        "pre_logits.0": "vit.pooler.dense.{leaf}",  # only read: ViTModel's, no classifier has it
        "head": "classifier.{leaf}",
    },
    optional_prefix="vit.",
    renames=(
        # A ViTModel, which has no classifier.
        (r"^(embeddings|encoder|layers|layernorm|pooler)\.", r"vit.\1."),
        # The names of the modules in version 5.
        (r"^vit\.layers\.", "vit.encoder.layer."),
        (r"\.attention\.q_proj\.", ".attention.attention.query."),
        (r"\.attention\.k_proj\.", ".attention.attention.key."),
        (r"\.attention\.v_proj\.", ".attention.attention.value."),
        (r"\.attention\.o_proj\.", ".attention.output.dense."),
        (r"\.mlp\.fc1\.", ".intermediate.dense."),
        (r"\.mlp\.fc2\.", ".output.dense."),
    ),
)

# The files of github.com/google-research/vision_transformer. They were written before Flax had its
# Linen API, when all modules of a block were numbered together: LayerNorm_0,
# MultiHeadDotProductAttention_1, LayerNorm_2, MlpBlock_3.
OFFICIAL = OfficialLayout(
    kind="official",
    default_settings=dict(layer_norm_eps=1e-6, gelu="tanh"),
    preprocessing=Preprocessing(crop_pct=None, interpolation="bilinear", resizer="sampled"),
    names={
        "class_token": "cls",
        "position_embedding": "Transformer/posembed_input/pos_embedding",
        "patch_embedding.projection": "embedding/{leaf}",
        "blocks.{i}.norm1": "Transformer/encoderblock_{i}/LayerNorm_0/{leaf}",
        "blocks.{i}.msa.qkv": (
            "Transformer/encoderblock_{i}/MultiHeadDotProductAttention_1/query/{leaf}",
            "Transformer/encoderblock_{i}/MultiHeadDotProductAttention_1/key/{leaf}",
            "Transformer/encoderblock_{i}/MultiHeadDotProductAttention_1/value/{leaf}",
        ),
        "blocks.{i}.msa.out": "Transformer/encoderblock_{i}/MultiHeadDotProductAttention_1/out/{leaf}",
        "blocks.{i}.norm2": "Transformer/encoderblock_{i}/LayerNorm_2/{leaf}",
        "blocks.{i}.mlp.hidden": "Transformer/encoderblock_{i}/MlpBlock_3/Dense_0/{leaf}",
        "blocks.{i}.mlp.out": "Transformer/encoderblock_{i}/MlpBlock_3/Dense_1/{leaf}",
        "norm": "Transformer/encoder_norm/{leaf}",
        "pre_logits.0": "pre_logits/{leaf}",
        "head": "head/{leaf}",
    },
    renames=(
        # Linen numbers the modules of each class on their own.
        (r"MultiHeadDotProductAttention_0", "MultiHeadDotProductAttention_1"),
        (r"(encoderblock_\d+)/LayerNorm_1", r"\1/LayerNorm_2"),
        (r"MlpBlock_0", "MlpBlock_3"),
    ),
    configurable=frozenset(),
    has_pre_logits=True,
)

# The ViT that notebook 08 of the course learnpytorch.io builds, under the names that its many
# readers have in their files. Its images are not normalised.
LEARNPYTORCH = Layout(
    kind="learnpytorch",
    default_settings=dict(layer_norm_eps=1e-5, gelu="erf"),
    preprocessing=Preprocessing(crop_pct=None, interpolation="bilinear", mean=(0.0, 0.0, 0.0),
                                std=(1.0, 1.0, 1.0)),
    names={
        "class_token": "class_embedding",
        "position_embedding": "position_embedding",
        "patch_embedding.projection": "patch_embedding.patcher.{leaf}",
        "blocks.{i}.norm1": "transformer_encoder.{i}.msa_block.layer_norm.{leaf}",
        "blocks.{i}.msa.qkv": "transformer_encoder.{i}.msa_block.multihead_attn.in_proj_{leaf}",
        "blocks.{i}.msa.out": "transformer_encoder.{i}.msa_block.multihead_attn.out_proj.{leaf}",
        "blocks.{i}.norm2": "transformer_encoder.{i}.mlp_block.layer_norm.{leaf}",
        "blocks.{i}.mlp.hidden": "transformer_encoder.{i}.mlp_block.mlp.0.{leaf}",
        "blocks.{i}.mlp.out": "transformer_encoder.{i}.mlp_block.mlp.3.{leaf}",
        "norm": "classifier.0.{leaf}",
        "head": "classifier.1.{leaf}",
    },
)

LAYOUTS = {layout.kind: layout
           for layout in (TORCHVISION, TIMM, TRANSFORMERS, OFFICIAL, LEARNPYTORCH)}

# Relatives of the ViT that no layout can hold: a pattern in the names of their weights, and what it
# belongs to.
UNSUPPORTED = [
    (r"dist_token|distillation_token|head_dist", "a distilled DeiT, which has two tokens"),
    (r"reg_token|register_tokens", "register tokens, as in DINOv2 and v3"),
    (r"attn_pool|MAPHead|vision_model\.head", "attention pooling, as in SigLIP"),
    (r"fc_norm", "a LayerNorm after average pooling"),
    (r"\.ls1\.|layer_scale|\.gamma_1", "LayerScale, as in DeiT III and DINOv2"),
    (r"q_norm", "normalised queries and keys"),
    (r"norm_pre|pre_layrnorm|ln_pre", "a LayerNorm before the first layer, as in CLIP"),
    (r"rel_pos|relative_position", "relative positions, as in BEiT"),
    (r"to_patch_embedding", "LayerNorms about the patch embedding, as in vit-pytorch"),
]
