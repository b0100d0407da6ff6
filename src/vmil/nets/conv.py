"""Dreamer's image encoder and decoder for 64×64 pictures (Dreamer v1, `models.py`: ConvEncoder, ConvDecoder).

Pictures arrive as (N, H, W, C); a permuted view of that is PyTorch's channels_last layout, so no copy is made.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor, nn

from vmil.config.options import Activation
from vmil.nets.conv_forms import PatchConv2d, PatchConvTranspose2d, SplitConvTranspose2d, SubpixelConvTranspose2d
from vmil.nets.mlp import activation

CHANNELS = 3


class ImageEncoder(nn.Module):
    """Four strided convolutions, kernel 4: 64 → 31 → 14 → 6 → 2."""

    def __init__(self, depth: int, act: Activation) -> None:
        super().__init__()
        widths = [CHANNELS, depth, 2 * depth, 4 * depth, 8 * depth]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            kind = PatchConv2d if outputs == widths[-1] else nn.Conv2d  # the last maps are the smallest
            layers += [kind(inputs, outputs, kernel_size=4, stride=2), activation(act)]
        self.layers = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.outputs = widths[-1] * 2 * 2

    def forward(self, image: Tensor) -> Tensor:
        """(N, 64, 64, 3) float in [−½, ½] → (N, outputs)."""
        maps: Tensor = self.layers(rearrange(image, "n h w c -> n c h w"))
        return rearrange(maps, "n c h w -> n (h w c)")


class ImageDecoder(nn.Module):
    """The mirror image: a linear map to 1×1, then transposed convolutions 1 → 5 → 13 → 30 → 64.

    The first transposed convolution acts on a 1×1 map, where it *is* a linear map; written as one it is up to 60 times
    faster on CPUs. `as_transposed` gives its weight in the other form.
    """

    def __init__(self, inputs: int, depth: int, act: Activation) -> None:
        super().__init__()
        self.depth = depth
        self.project = nn.Linear(inputs, 32 * depth)
        self.first = nn.Linear(32 * depth, 5 * 5 * 4 * depth, bias=False)
        self.first_bias = nn.Parameter(torch.zeros(4 * depth))
        bound = 1.0 / math.sqrt(4 * depth * 5 * 5)  # ConvTranspose2d's own range: its fan-in is outputs × kernel
        nn.init.uniform_(self.first.weight, -bound, bound)
        rest: list[nn.Module] = [activation(act, view=True)]
        rest += [PatchConvTranspose2d(4 * depth, 2 * depth, kernel_size=5, stride=2), activation(act)]
        rest += [SplitConvTranspose2d(2 * depth, depth, kernel_size=6, stride=2), activation(act)]
        rest += [SubpixelConvTranspose2d(depth, CHANNELS, kernel_size=6, stride=2)]
        self.rest = nn.Sequential(*rest).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, feat: Tensor) -> Tensor:
        """(N, F) → mean picture (N, 64, 64, 3), float around [−½, ½]."""
        maps = rearrange(self.first(self.project(feat)), "n (h w c) -> n h w c", h=5, w=5)
        maps = maps + self.first_bias.to(maps.dtype)
        picture: Tensor = self.rest(rearrange(maps, "n h w c -> n c h w"))
        return rearrange(picture, "n c h w -> n h w c")


def as_transposed(weight: Tensor) -> Tensor:
    """The decoder's first weight, or its gradient, as `ConvTranspose2d` holds it: (5 · 5 · O, I) → (I, O, 5, 5)."""
    return rearrange(weight, "(h w o) i -> i o h w", h=5, w=5)
