"""An ensemble of MLPs that learns what actions do: the dynamics model of PDDM (Nagabandi et al. 2019, section 4.1)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vmil.config.schema_planner import LearnedConfig
from vmil.system.arrays import Floats


class StackedLinear(nn.Module):
    """K linear layers side by side: (K, B, in) to (K, B, out)."""

    def __init__(self, networks: int, inputs: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)  # as nn.Linear
        self.weight = nn.Parameter(bound * (2 * torch.rand(networks, inputs, outputs, generator=generator) - 1))
        self.bias = nn.Parameter(bound * (2 * torch.rand(networks, 1, outputs, generator=generator) - 1))

    def forward(self, x: Tensor) -> Tensor:
        """One matrix product per network."""
        return torch.baddbmm(self.bias, x, self.weight)


class Ensemble(nn.Module):
    """Predicts the change of an observation, in units of how much observations change in the data."""

    centre: Tensor
    spread: Tensor
    change_centre: Tensor
    change_spread: Tensor

    def __init__(self, observation_size: int, action_size: int, config: LearnedConfig, seed: int) -> None:
        super().__init__()
        self.config, self.generator = config, torch.Generator().manual_seed(seed)
        inputs, networks = observation_size + action_size, config.ensemble
        layers: list[nn.Module] = []
        for width in [inputs, *[config.hidden] * (config.layers - 1)]:
            layers.append(StackedLinear(networks, width, config.hidden, self.generator))
            layers += [nn.LayerNorm(config.hidden, elementwise_affine=False), nn.SiLU()] if config.norm else [nn.ReLU()]
        self.net = nn.Sequential(*layers, StackedLinear(networks, config.hidden, observation_size, self.generator))
        self.register_buffer("centre", torch.zeros(inputs))
        self.register_buffer("spread", torch.ones(inputs))
        self.register_buffer("change_centre", torch.zeros(observation_size))
        self.register_buffer("change_spread", torch.ones(observation_size))
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=config.learning_rate)

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """The next observation (K, B, S), from (K, B, S) and (K, B, A), one network each."""
        inputs = (torch.cat([observation, action], -1) - self.centre) / self.spread
        change: Tensor = self.net(inputs) * self.change_spread + self.change_centre
        return observation + change

    def fit(self, observation: Tensor, action: Tensor, following: Tensor) -> list[float]:
        """`updates` steps of Adam on transitions (B, S), (B, A), (B, S); each step's mean squared error, normalised.

        Each network draws batches of its own. The step size falls from `learning_rate` to 0 along a cosine (Loshchilov
        & Hutter 2017), and begins anew with each call.
        """
        self._normalise(observation, action, following)
        wanted = (following - observation - self.change_centre) / self.change_spread
        inputs = (torch.cat([observation, action], -1) - self.centre) / self.spread
        shape = (self.config.ensemble, min(self.config.batch_size, len(inputs)))
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate
        fall = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, self.config.updates)
        losses = []
        for _ in range(self.config.updates):
            drawn = torch.randint(len(inputs), shape, generator=self.generator)
            losses.append(self._update(inputs[drawn], wanted[drawn]))
            fall.step()
        return losses

    def _update(self, inputs: Tensor, wanted: Tensor) -> float:
        """One step of Adam on (K, b, S + A) and (K, b, S)."""
        errors = (self.net(inputs) - wanted).square().mean(dim=(1, 2))  # (K,)
        self.optimizer.zero_grad()
        errors.sum().backward()  # the networks share no weight: a sum trains each by itself
        self.optimizer.step()
        return float(errors.mean().detach())

    def _normalise(self, observation: Tensor, action: Tensor, following: Tensor) -> None:
        inputs, change = torch.cat([observation, action], -1), following - observation
        self.centre.copy_(inputs.mean(0))
        self.spread.copy_(_spread(inputs))
        self.change_centre.copy_(change.mean(0))
        self.change_spread.copy_(_spread(change))

    @torch.no_grad()
    def foresee(self, observation: Floats, actions: Floats) -> Floats:
        """Every network's futures (K, N, H, S) of action sequences (N, H, A), from one observation (S,)."""
        networks, (count, horizon, _) = self.config.ensemble, actions.shape
        now = torch.from_numpy(observation).float().expand(networks, count, -1)
        plans = torch.from_numpy(actions).float().expand(networks, *actions.shape)
        futures = []
        for t in range(horizon):
            now = self(now, plans[:, :, t])
            futures.append(now)
        return torch.stack(futures, dim=2).numpy().astype(np.float64)

    def state(self) -> dict[str, Any]:
        """Weights, optimiser and random state, for `torch.load(weights_only=True)`."""
        return {
            "weights": dict(self.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned."""
        self.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])


def _spread(values: Tensor) -> Tensor:
    """Standard deviation (F,) of (B, F); 1 for what does not vary."""
    spread = values.std(0)
    return torch.where(spread > 1e-6, spread, torch.ones_like(spread))
