"""The Vision Transformer of *An Image is Worth 16x16 Words* (Dosovitskiy et al., ICLR 2021), in the order of the
notebooks. It needs torch alone: copy this file away and it works.

Shapes are written [batch, tokens, hidden_size]. An image is H x W x C, a patch P x P; there are N = HW / P^2 patches,
and with the class token T = N + 1 tokens of size D (hidden_size), k heads of size D / k, and MLPs of size M.
"""
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

# Table 1, and two sizes that came later: Ti and S (Touvron et al., 2021). "Mini" is ours, for CPUs and small images.
VARIANTS = {
    "Mini": dict(num_layers=4, hidden_size=96, mlp_size=384, num_heads=3),
    "Ti": dict(num_layers=12, hidden_size=192, mlp_size=768, num_heads=3),
    "S": dict(num_layers=12, hidden_size=384, mlp_size=1536, num_heads=6),
    "B": dict(num_layers=12, hidden_size=768, mlp_size=3072, num_heads=12),
    "L": dict(num_layers=24, hidden_size=1024, mlp_size=4096, num_heads=16),
    "H": dict(num_layers=32, hidden_size=1280, mlp_size=5120, num_heads=16),
}


def patchify(images: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Cut images [batch, C, H, W] into flattened patches [batch, N, C * P * P], row by row (x_p of Section 3.1).

    Within a patch the channel comes first, as in the weight of a convolution, so both can share one weight.
    """
    batch, channels, height, width = images.shape
    rows, columns = height // patch_size, width // patch_size
    patches = images.reshape(batch, channels, rows, patch_size, columns, patch_size)
    patches = patches.permute(0, 2, 4, 1, 3, 5)  # [batch, rows, columns, C, P, P]
    return patches.reshape(batch, rows * columns, channels * patch_size**2)


class PatchEmbedding(nn.Module):
    """x_p E of Equation 1: images [batch, C, H, W] -> patch embeddings [batch, N, hidden_size].

    One linear layer for all patches: the same numbers as a convolution with kernel and stride P, as one matrix product.
    """

    def __init__(self, patch_size: int = 16, in_channels: int = 3, hidden_size: int = 768):
        super().__init__()
        self.patch_size = patch_size
        self.projection = nn.Linear(in_channels * patch_size**2, hidden_size)

    def forward(self, images: torch.Tensor, intermediates: dict | None = None) -> torch.Tensor:
        patches = patchify(images, self.patch_size)  # [batch, N, C * P * P]
        if intermediates is not None:
            intermediates["patches"] = patches
        return self.projection(patches)


class MultiheadSelfAttention(nn.Module):
    """MSA of Equations 5 to 8: [batch, tokens, hidden_size] -> the same shape.

    The three projections of all heads stand in one matrix, rows q, k, v. Dropout follows the output projection, none is
    on the attention weights (Appendix B.1). Raises ValueError where num_heads does not divide hidden_size.
    """

    def __init__(self, hidden_size: int = 768, num_heads: int = 12, dropout: float = 0.0):
        super().__init__()
        if hidden_size % num_heads:
            raise ValueError(f"num_heads ({num_heads}) does not divide hidden_size ({hidden_size})")
        self.num_heads, self.head_size = num_heads, hidden_size // num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.out = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, z: torch.Tensor, num_queries: int | None = None,
                intermediates: dict | None = None) -> torch.Tensor:
        """With num_queries, only the first so many tokens ask and get an answer: [batch, num_queries, hidden_size]."""
        if num_queries is None:
            q, k, v = self.qkv(z).chunk(3, dim=-1)  # Equation 5
        else:
            sizes = [self.out.in_features, 2 * self.out.in_features]
            (w_q, w_kv), (b_q, b_kv) = self.qkv.weight.split(sizes), self.qkv.bias.split(sizes)
            q = F.linear(z[:, :num_queries], w_q, b_q)
            k, v = F.linear(z, w_kv, b_kv).chunk(2, dim=-1)
        q, k, v = (x.unflatten(-1, (self.num_heads, self.head_size)).transpose(1, 2) for x in (q, k, v))
        # now each is [batch, num_heads, tokens, head_size]
        if intermediates is None:
            heads = F.scaled_dot_product_attention(q, k, v)  # Equations 6 and 7 in one kernel
        else:
            weights = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(self.head_size), dim=-1)  # Equation 6
            heads = weights @ v  # Equation 7
            intermediates["attention"] = weights  # [batch, num_heads, queries, tokens]
        return self.dropout(self.out(heads.transpose(1, 2).flatten(-2)))  # Equation 8


class MLPBlock(nn.Module):
    """The MLP of Equation 3: two linear layers with a GELU between, dropout after both (Appendix B.1).

    [batch, tokens, hidden_size] -> the same shape. gelu is "erf" (exact) or "tanh" (the official code's form),
    anything else a ValueError.
    """

    def __init__(self, hidden_size: int = 768, mlp_size: int = 3072, dropout: float = 0.0, gelu: str = "erf"):
        super().__init__()
        if gelu not in ("erf", "tanh"):
            raise ValueError(f'gelu must be "erf" or "tanh", not {gelu!r}')
        self.hidden = nn.Linear(hidden_size, mlp_size)
        self.gelu = nn.GELU(approximate="none" if gelu == "erf" else "tanh")
        self.out = nn.Linear(mlp_size, hidden_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        z = self.dropout(self.gelu(self.hidden(z)))  # [batch, tokens, mlp_size]
        return self.dropout(self.out(z))


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., 2016): in training, leaves out a branch for a random share of the images.

    What is kept is scaled up by as much, so that the expectation stays. Raises ValueError for a rate outside [0, 1).
    """

    def __init__(self, rate: float = 0.0):
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"drop_path must be at least 0 and below 1, not {rate}")
        self.rate = rate

    def forward(self, branch: torch.Tensor) -> torch.Tensor:
        if not self.training or self.rate == 0.0:
            return branch
        kept = branch.new_empty(branch.shape[0], 1, 1).bernoulli_(1 - self.rate)
        return branch * kept / (1 - self.rate)


class TransformerEncoderBlock(nn.Module):
    """One layer of the encoder, Equations 2 and 3: [batch, tokens, hidden_size] -> the same shape.

    Pre-norm: LayerNorm stands before MSA and MLP, and what goes around them is never normalised.
    """

    def __init__(self, hidden_size: int = 768, num_heads: int = 12, mlp_size: int = 3072, dropout: float = 0.0,
                 drop_path: float = 0.0, gelu: str = "erf", layer_norm_eps: float = 1e-6):
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.msa = MultiheadSelfAttention(hidden_size, num_heads, dropout)
        self.norm2 = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.mlp = MLPBlock(hidden_size, mlp_size, dropout, gelu)
        self.drop_path = DropPath(drop_path)

    def forward(self, z: torch.Tensor, num_queries: int | None = None,
                intermediates: dict | None = None) -> torch.Tensor:
        """With num_queries, the result for the first so many tokens alone: [batch, num_queries, hidden_size]."""
        msa = self.msa(self.norm1(z), num_queries, intermediates)
        z = z[:, :num_queries] + self.drop_path(msa)  # Equation 2
        mlp = self.mlp(self.norm2(z))
        z = z + self.drop_path(mlp)  # Equation 3
        if intermediates is not None:
            intermediates.update(msa=msa, mlp=mlp, output=z)
        return z


class ViT(nn.Module):
    """The Vision Transformer, Equations 1 to 4: images [batch, C, H, W] -> logits [batch, num_classes].

    Args:
        image_size, patch_size: in pixels: (H, W), or one number for a square; P, which must divide both sides.
        dropout: after every dense layer but the qkv projection, and after the positions are added (Appendix B.1).
        drop_path: stochastic depth, rising linearly from 0 in the first layer to this rate in the last.
        pool: "token" reads the class token (Equation 4); "mean" averages the patches, without a class token (Fig. 9).
        gelu, layer_norm_eps: "erf" or "tanh", and the epsilon, to match other libraries' weights.
        representation_size: None for a linear head; a size for one after a tanh layer, to pre-train with (Section 3.1).
    Raises ValueError for sizes that do not fit together.
    """

    def __init__(self, image_size: int | tuple[int, int] = 224, patch_size: int = 16, in_channels: int = 3,
                 num_classes: int = 1000, num_layers: int = 12, hidden_size: int = 768, mlp_size: int = 3072,
                 num_heads: int = 12, dropout: float = 0.0, drop_path: float = 0.0, pool: str = "token",
                 gelu: str = "erf", layer_norm_eps: float = 1e-6, representation_size: int | None = None):
        settings = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__()
        height, width = image_size if isinstance(image_size, (tuple, list)) else (image_size, image_size)
        settings["image_size"] = height if height == width else (height, width)
        self.settings = settings  # ViT(**model.settings) is the same architecture again
        self.checkpointing = False  # True: blocks keep only their input, and compute the rest again when going back
        self.preprocessing: Any = None  # PIL image -> what the model takes; weights.load sets it
        smallest = {**settings, "image_size": min(height, width)}
        for name in "image_size patch_size in_channels num_classes num_layers hidden_size mlp_size num_heads".split():
            if smallest[name] < 1:
                raise ValueError(f"{name} must be at least 1, not {settings[name]}")
        if height % patch_size or width % patch_size:
            raise ValueError(f"patch_size ({patch_size}) does not divide image_size ({image_size})")
        if pool not in ("token", "mean"):
            raise ValueError(f'pool must be "token" or "mean", not {pool!r}')

        self.patch_embedding = PatchEmbedding(patch_size, in_channels, hidden_size)
        self.image_shape = (in_channels, height, width)
        self.grid = (height // patch_size, width // patch_size)  # rows and columns of patches
        num_tokens = math.prod(self.grid) + (pool == "token")
        if pool == "token":
            self.class_token = nn.Parameter(torch.empty(1, 1, hidden_size))
        self.position_embedding = nn.Parameter(torch.empty(1, num_tokens, hidden_size))
        self.dropout = nn.Dropout(dropout)
        rates = [drop_path * layer / max(num_layers - 1, 1) for layer in range(num_layers)]
        self.blocks = nn.ModuleList(
            TransformerEncoderBlock(hidden_size, num_heads, mlp_size, dropout, rate, gelu, layer_norm_eps)
            for rate in rates)
        self.norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.pre_logits = nn.Sequential()  # the tanh layer, if any
        if representation_size:
            self.pre_logits.extend([nn.Linear(hidden_size, representation_size), nn.Tanh()])
        self.head = nn.Linear(representation_size or hidden_size, num_classes)
        self.initialize()

    @classmethod
    def from_variant(cls, variant: str, patch_size: int | None = None, **settings: Any) -> "ViT":
        """Build by the paper's brief notation: "B/16", or "B" with a patch_size. `settings` are those of ViT.

        Raises ValueError for an unknown variant and for a patch size that is missing or contradicts the variant's.
        """
        name, _, patch = variant.partition("/")
        if name not in VARIANTS or (patch and not patch.isdecimal()):
            raise ValueError(f"unknown variant {variant!r}: choose one of {', '.join(VARIANTS)}, as in B/16")
        if patch and patch_size not in (None, int(patch)):
            raise ValueError(f"patch_size {patch_size} contradicts the variant {variant!r}")
        patch_size = int(patch) if patch else patch_size
        if patch_size is None:
            raise ValueError(f"the variant {variant!r} needs a patch size: {variant}/16, or patch_size=16")
        return cls(patch_size=patch_size, **{**VARIANTS[name], **settings})

    @torch.no_grad()
    def initialize(self) -> None:
        """Draw all weights as the official code does; a zero head makes the first loss exactly ln(num_classes)."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias") or name in ("class_token", "head.weight"):
                nn.init.zeros_(parameter)
        for layer in (self.patch_embedding.projection, *self.pre_logits[:1]):
            std = math.sqrt(1 / layer.in_features) / 0.87962566103423978  # 1 / fan_in is the variance after cutting
            nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
        nn.init.normal_(self.position_embedding, std=0.02)
        for module in self.blocks.modules():
            if isinstance(module, MultiheadSelfAttention):
                for weight in (*module.qkv.weight.chunk(3), module.out.weight):  # q, k and v each on its own
                    nn.init.xavier_uniform_(weight)
            elif isinstance(module, MLPBlock):
                for layer in (module.hidden, module.out):
                    nn.init.xavier_uniform_(layer.weight)
                    nn.init.normal_(layer.bias, std=1e-6)

    def embed(self, images: torch.Tensor, intermediates: dict | None = None) -> torch.Tensor:
        """Equation 1: images [batch, C, H, W] -> z_0 [batch, tokens, hidden_size]."""
        z = self.patch_embedding(images, intermediates)
        if self.settings["pool"] == "token":
            z = torch.cat([self.class_token.expand(z.shape[0], -1, -1), z], dim=1)
        return self.dropout(z + self.position_embedding)

    def forward(self, images: torch.Tensor, intermediates: dict | None = None) -> torch.Tensor:
        """Logits [batch, num_classes]. A dict given as `intermediates` is filled, by name: patches, embeddings (z_0),
        for each block block00.attention [batch, num_heads, tokens, tokens], block00.msa, block00.mlp, block00.output,
        then encoder (after the last LayerNorm) and pre_logits. Raises ValueError for images of another shape, or bytes.
        """
        (c, h, w), shape = self.image_shape, tuple(images.shape)
        if shape[1:] != (c, h, w) or not images.is_floating_point():
            mistakes = {(c, h, w): "is the batch axis missing?", (*shape[:1], h, w, c): "do the channels come last?",
                        (*shape[:1], c, h, w): "make floats of them by images / 127.5 - 1"}
            mistake = mistakes.get(shape, "resize them, or build ViT(image_size=(H, W), in_channels=C)")
            raise ValueError(f"expected float images [batch, {c}, {h}, {w}], not {images.dtype} {[*shape]}: {mistake}")
        z = self.embed(images, intermediates)
        if intermediates is not None:
            intermediates["embeddings"] = z
        for layer, block in enumerate(self.blocks):
            # The head reads only the class token (pool="token"), so the last block computes no other output.
            if intermediates is None:
                queries = 1 if layer == len(self.blocks) - 1 and self.settings["pool"] == "token" else None
                z = checkpoint(block, z, queries, use_reentrant=False) if self.checkpointing else block(z, queries)
            else:
                inside: dict[str, torch.Tensor] = {}
                z = block(z, intermediates=inside)
                intermediates.update({f"block{layer:02}.{name}": value for name, value in inside.items()})
        z = self.norm(z)
        y = self.pre_logits(z[:, 0] if self.settings["pool"] == "token" else z.mean(dim=1))  # Equation 4
        if intermediates is not None:
            intermediates.update(encoder=z, pre_logits=y)
        return self.head(y)


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def count_macs(model: ViT) -> int:
    """Multiply-adds of one image's forward pass, in matrix products: FLOPs are twice as many, training three times.

    All tokens are counted in all layers, as everybody does; the last block's short cut saves some of them.
    """
    s, tokens = model.settings, model.position_embedding.shape[1]
    width, mlp, hidden, classes = (s[key] for key in ("hidden_size", "mlp_size", "representation_size", "num_classes"))
    patches = math.prod(model.grid) * model.patch_embedding.projection.in_features * width
    layer = 4 * tokens * width**2 + 2 * tokens**2 * width + 2 * tokens * width * mlp
    head = hidden * (width + classes) if hidden else width * classes
    return patches + s["num_layers"] * layer + head
