"""Models that a Vision Transformer is compared with."""
import torch
from torch import nn

from going_modular.vit import count_parameters


def cnn(num_classes: int, width: int, in_channels: int = 3) -> nn.Sequential:
    """A usual small CNN: four stages of two 3 x 3 convolutions with batch norm. Each stage halves
    the image, and has twice as many channels as the one before.

    Images [batch, in_channels, H, W] of 16 x 16 pixels or more -> logits [batch, num_classes].
    """
    layers, channels = [], in_channels
    for stage in range(4):
        for _ in range(2):
            # No bias in the convolutions, as the batch norm after each subtracts it again.
            layers += [nn.Conv2d(channels, width * 2**stage, 3, padding=1, bias=False),
                       nn.BatchNorm2d(width * 2**stage), nn.ReLU()]
            channels = width * 2**stage
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(channels, num_classes))


def matching_width(num_classes: int, parameters: int, in_channels: int = 3) -> int:
    """The width from 4 to 128 with which `cnn` comes closest to a number of parameters."""

    def distance(width: int) -> int:
        with torch.device("meta"):  # shapes alone: no memory is filled
            return abs(count_parameters(cnn(num_classes, width, in_channels)) - parameters)

    return min(range(4, 129), key=distance)
