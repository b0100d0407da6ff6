"""DrQ's networks (Kostrikov, Yarats & Fergus 2020, appendix B): encoder, tanh-normal actor, twin critics, α."""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torchrl.modules import MLP

from vmil.behaviour.actor import TanhNormal
from vmil.config.schema_baselines import PixelsConfig


class Encoder(nn.Module):
    """3×3 convolutions with ReLU, the first of stride 2; in bf16 where `bf16` is set."""

    def __init__(self, config: PixelsConfig, image_size: int, bf16: bool) -> None:
        super().__init__()
        self.bf16 = bf16
        widths = [3 * config.frame_stack] + [config.filters] * config.layers
        layers: list[nn.Module] = []
        for index in range(config.layers):
            layers += [nn.Conv2d(widths[index], widths[index + 1], 3, stride=2 if index == 0 else 1), nn.ReLU()]
        self.layers = nn.Sequential(*layers).apply(orthogonal)
        self.layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.outputs = config.filters * ((image_size - 3) // 2 + 1 - 2 * (config.layers - 1)) ** 2

    def forward(self, image: Tensor) -> Tensor:
        """Bytes (N, H, W, 3k) → (N, outputs), fp32."""
        first = cast(nn.Conv2d, self.layers[0])
        with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            bytes_ = rearrange(image.to(torch.bfloat16 if self.bf16 else torch.float32), "n h w c -> n c h w")
            # There are fewer weights than pixels, so the weights are divided by 255.
            maps: Tensor = self.layers[1:](F.conv2d(bytes_, first.weight / 255.0, first.bias, first.stride))
        return rearrange(maps, "n c h w -> n (h w c)").float()


class Bottleneck(nn.Sequential):
    """Feature maps (N, outputs) → features (N, F) in (−1, 1)."""

    def __init__(self, inputs: int, features: int) -> None:
        super().__init__(nn.Linear(inputs, features), nn.LayerNorm(features), nn.Tanh())
        self.apply(orthogonal)


def head(inputs: int, outputs: int, config: PixelsConfig) -> MLP:
    """ReLU layers and a linear one: (N, inputs) → (N, outputs)."""
    net = MLP(inputs, outputs, num_cells=[config.units] * config.hidden_layers, activation_class=nn.ReLU)
    return net.apply(orthogonal)


class Actor(nn.Module):
    """Feature maps → π(a | s), through a bottleneck of its own; its loss stops at the maps."""

    def __init__(
        self, maps: int, action: int, proprio: int, config: PixelsConfig, log_std: tuple[float, float] = (-10.0, 2.0)
    ) -> None:
        super().__init__()
        self.log_std = log_std
        self.bottleneck = Bottleneck(maps, config.feature)
        self.net = head(config.feature + proprio, 2 * action, config)

    def forward(self, maps: Tensor, proprio: Tensor | None) -> TanhNormal:
        """(N, outputs), (N, P) → the distribution of actions (N, A)."""
        mean, raw = self.net(_with(self.bottleneck(maps), proprio)).chunk(2, -1)
        low, high = self.log_std
        return TanhNormal(mean, (low + 0.5 * (high - low) * (raw.tanh() + 1)).exp())


class Critic(nn.Module):
    """Encoder, bottleneck and two action values; it alone trains the encoder."""

    def __init__(self, config: PixelsConfig, image_size: int, action: int, proprio: int, bf16: bool) -> None:
        super().__init__()
        self.encoder = Encoder(config, image_size, bf16)
        self.bottleneck = Bottleneck(self.encoder.outputs, config.feature)
        self.features = config.feature + proprio
        self.values = nn.ModuleList([head(self.features + action, 1, config) for _ in range(2)])

    def feat(self, maps: Tensor, proprio: Tensor | None) -> Tensor:
        """Feature maps of the encoder (N, outputs) → what the values read beside the action, (N, F + P)."""
        return _with(self.bottleneck(maps), proprio)

    def forward(self, feat: Tensor, action: Tensor) -> Tensor:
        """(N, F + P), (N, A) → both values, (2, N)."""
        inputs = torch.cat([feat, action], -1)
        return torch.stack([value(inputs)[..., 0] for value in self.values])


class Temperature(nn.Module):
    """α, the price of entropy, kept positive by its logarithm."""

    def __init__(self, initial: float) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor(math.log(initial)))

    @property
    def value(self) -> Tensor:
        """α, detached."""
        return self.log.detach().exp()


def orthogonal(module: nn.Module) -> None:
    """DrQ's initial weights: orthogonal, without bias."""
    if isinstance(module, (nn.Linear, nn.Conv2d)):
        nn.init.orthogonal_(module.weight, nn.init.calculate_gain("relu") if isinstance(module, nn.Conv2d) else 1.0)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _with(feature: Tensor, proprio: Tensor | None) -> Tensor:
    return feature if proprio is None else torch.cat([feature, proprio], -1)
