"""Variants of the ViT that only an experiment needs, as subclasses: what they share with it stays one code."""
import torch

from going_modular.vit import ViT


def sinusoidal_positions(tokens: int, hidden_size: int) -> torch.Tensor:
    """Fixed positions [tokens, hidden_size] after Vaswani et al. (2017), Section 3.5.

    Numbers 2i and 2i + 1 of position p are the sine and the cosine of p / 10000^(2i / hidden_size).
    Raises ValueError for an odd hidden_size, in which a sine would lack its cosine.
    """
    if hidden_size % 2:
        raise ValueError(f"hidden_size must be even for pairs of sine and cosine, not {hidden_size}")
    frequencies = 10_000 ** (-torch.arange(0, hidden_size, 2) / hidden_size)  # [hidden_size / 2]
    angles = torch.arange(tokens)[:, None] * frequencies  # [tokens, hidden_size / 2]
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class SinusoidalViT(ViT):
    """A ViT whose positions are fixed sines and cosines: a buffer, which no training changes.

    With the same seed, all other weights start with the same values as those of a ViT.
    """

    def initialize(self) -> None:
        super().initialize()
        positions = sinusoidal_positions(*self.position_embedding.shape[1:]).to(self.position_embedding)
        del self.position_embedding
        self.register_buffer("position_embedding", positions[None])
