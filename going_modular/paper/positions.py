"""Variants of the ViT with other positions, which only experiments need. As subclasses they share
the code of the ViT."""
import math

import torch
from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from going_modular.vit import MultiheadSelfAttention, ViT


def sinusoidal_positions(tokens: int, hidden_size: int) -> torch.Tensor:
    """Fixed positions [tokens, hidden_size] after Vaswani et al. (2017), Section 3.5.

    Numbers 2i and 2i + 1 of position p are the sine and the cosine of p / 10000^(2i / hidden_size).
    Raises ValueError for an odd hidden_size, with which the last sine would have no cosine.
    """
    if hidden_size % 2:
        raise ValueError("hidden_size must be even for pairs of sine and cosine, not "
                         f"{hidden_size}")
    frequencies = 10_000 ** (-torch.arange(0, hidden_size, 2) / hidden_size)  # [hidden_size / 2]
    angles = torch.arange(tokens)[:, None] * frequencies  # [tokens, hidden_size / 2]
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class SinusoidalViT(ViT):
    """A ViT with fixed sines and cosines as positions, in a buffer, which training does not change.

    With the same seed, all other weights start with the same values as those of a ViT.
    """

    def initialize(self) -> None:
        super().initialize()
        positions = sinusoidal_positions(*self.position_embedding.shape[1:]).to(self.position_embedding)
        del self.position_embedding
        self.register_buffer("position_embedding", positions[None])


class OrderBlindViT(ViT):
    """A ViT without positions (Table 8, first row): in their place are zeros, which training does
    not change, so the order of the patches makes no difference.

    With the same seed, all other weights start with the same values as those of a ViT.
    """

    def initialize(self) -> None:
        super().initialize()
        zeros = torch.zeros_like(self.position_embedding, requires_grad=False)
        del self.position_embedding
        self.register_buffer("position_embedding", zeros)


class RowsAndColumns(nn.Module):
    """Positions [1, tokens, hidden_size] as a function of three smaller tables (Appendix D.4, 2-D).

    The first half of a patch's position is that of its row, the second half that of its column. The
    class token, if there is one, has a position of its own. grid: the numbers of rows and columns.
    """

    def __init__(self, grid: tuple[int, int]):
        super().__init__()
        self.grid = grid

    def forward(
        self, token: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor,
    ) -> torch.Tensor:
        """token [1, 0 or 1, hidden_size], rows and columns [their number, hidden_size / 2] ->
        positions [1, tokens, hidden_size]."""
        patches = torch.cat(
            [rows.repeat_interleave(len(columns), dim=0), columns.repeat(len(rows), 1)], dim=1)
        return torch.cat([token, patches[None]], dim=1)

    def right_inverse(
        self, positions: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The initial tables, from the positions of a new ViT: the rows are taken from the first
        column of patches, and the columns from the first row."""
        number, half = math.prod(self.grid), positions.shape[-1] // 2
        token, patches = positions[:, :-number], positions[0, -number:].unflatten(0, self.grid)
        return token.clone(), patches[:, 0, :half].clone(), patches[0, :, half:].clone()


class RowColumnViT(ViT):
    """A ViT with the 2-D positions of Table 8: `position_embedding` is computed from a table of
    rows, a table of columns and the position of the class token, and these three are trained.

    With the same seed, all other weights start with the same values as those of a ViT.
    Raises ValueError for an odd hidden_size.
    """

    def initialize(self) -> None:
        super().initialize()
        if self.settings["hidden_size"] % 2:
            raise ValueError("hidden_size must be even for rows and columns, not "
                             f"{self.settings['hidden_size']}")
        # PyTorch computes the attribute anew wherever it is read, so ViT.embed stays as it is.
        register_parametrization(self, "position_embedding", RowsAndColumns(self.grid))


class RelativeSelfAttention(MultiheadSelfAttention):
    """MSA with 1-D relative positions (Appendix D.4):
    [batch, tokens, hidden_size] -> the same shape.

    Each offset p_q - p_k between two places in the sequence has an embedding r, shared by all
    heads. It acts as a second key: the scores are q k^T + q r^T.
    """

    offsets: torch.Tensor

    def __init__(self, tokens: int, hidden_size: int, num_heads: int, dropout: float = 0.0):
        super().__init__(hidden_size, num_heads, dropout)
        self.relative_keys = nn.Parameter(0.02 * torch.randn(2 * tokens - 1, self.head_size))
        places = torch.arange(tokens)
        offsets = places[:, None] - places + tokens - 1  # [queries, keys], from 0 to 2 (tokens - 1)
        self.register_buffer("offsets", offsets, persistent=False)

    def forward(self, z: torch.Tensor, num_queries: int | None = None,
                intermediates: dict | None = None) -> torch.Tensor:
        """With num_queries, the result for the first num_queries tokens alone:
        [batch, num_queries, hidden_size]."""
        q, k, v = self.qkv(z).unflatten(-1, (3, self.num_heads, self.head_size)).permute(
            2, 0, 3, 1, 4)
        q, r = q[:, :, :num_queries], self.relative_keys[self.offsets[:num_queries]]
        # q, k, v: [batch, num_heads, tokens, head_size]; r: [queries, tokens, head_size]
        scores = q @ k.transpose(-2, -1) + torch.einsum("bhqd, qkd -> bhqk", q, r)
        weights = torch.softmax(scores / math.sqrt(self.head_size), dim=-1)
        if intermediates is not None:
            intermediates["attention"] = weights
        return self.dropout(self.out((weights @ v).transpose(1, 2).flatten(-2)))


class RelativeViT(OrderBlindViT):
    """A ViT whose only positions are the offsets between tokens, in its attention (Table 8).

    With the same seed, all other weights start with the same values as those of a ViT. count_macs
    does not count the scores of the offsets, tokens^2 hidden_size for each layer.
    """

    def initialize(self) -> None:
        super().initialize()
        s, tokens = self.settings, self.position_embedding.shape[1]
        for block in self.blocks:
            msa = RelativeSelfAttention(tokens, s["hidden_size"], s["num_heads"], s["dropout"])
            # Not strict, because relative_keys are new.
            msa.load_state_dict(block.get_submodule("msa").state_dict(), strict=False)
            block.msa = msa


# The kinds of positions of Table 8, each added where the paper adds it by default.
POSITION_VARIANTS = {"none": OrderBlindViT, "1-D": ViT, "2-D": RowColumnViT,
                     "relative": RelativeViT}
