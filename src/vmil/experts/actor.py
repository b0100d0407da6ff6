"""The expert's actor: its network, its file (safetensors, nothing pickled) and its deterministic policy."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from vmil.errors import UserError
from vmil.system.arrays import Floats, Floats32
from vmil.system.files import write_atomically

Observation = Mapping[str, Floats]
Policy = Callable[[Observation], Floats32]


@dataclass(frozen=True)
class ActorSpec:
    """All that is needed to rebuild an actor and to feed it."""

    domain: str
    task: str
    obs_keys: tuple[str, ...]
    """Order in which the environment's observations are flattened and concatenated."""
    obs_dim: int
    action_dim: int
    hidden: int
    action_repeat: int
    normalised: bool = False
    """Whether the network scales its observations itself, and its first hidden layer."""


class Scaling(nn.Module):
    """Observations (..., O) less their mean, over their spread: those of the first ones that it is shown."""

    centre: Tensor
    spread: Tensor

    def __init__(self, size: int, least: float) -> None:
        """`least` is added to every spread: what hardly moves stays small."""
        super().__init__()
        self.least = least
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("spread", torch.zeros(size))  # zero: not shown any yet

    def settle(self, observation: Tensor) -> None:
        """Take the scale from observations (..., O), the first time."""
        if not self.spread.any():
            flat = observation.flatten(0, -2)
            self.centre.copy_(flat.mean(0))
            self.spread.copy_(flat.std(0) + self.least)

    def forward(self, observation: Tensor) -> Tensor:
        """Scale them; before anything was shown they stay as they are."""
        spread = torch.where(self.spread > 0, self.spread, 1.0)
        return (observation - self.centre) / spread


def make_actor_net(spec: ActorSpec) -> nn.Sequential:
    """Return the network (B, obs_dim) -> (B, 2 * action_dim): means before tanh, then raw scales."""
    if spec.normalised:
        return nn.Sequential(
            Scaling(spec.obs_dim, least=0.05),
            nn.Linear(spec.obs_dim, spec.hidden),
            nn.LayerNorm(spec.hidden),
            nn.SiLU(),
            nn.Linear(spec.hidden, spec.hidden),
            nn.SiLU(),
            nn.Linear(spec.hidden, 2 * spec.action_dim),
        )
    return nn.Sequential(
        nn.Linear(spec.obs_dim, spec.hidden),
        nn.ReLU(),
        nn.Linear(spec.hidden, spec.hidden),
        nn.ReLU(),
        nn.Linear(spec.hidden, 2 * spec.action_dim),
    )


def save_actor(path: Path, net: nn.Module, spec: ActorSpec) -> None:
    """Write the weights, and the spec as metadata; whole or not at all; UserError if the disk refuses."""
    weights = {name: weight.detach().contiguous() for name, weight in net.state_dict().items()}
    write_atomically(path, save(weights, metadata={"actor": json.dumps(asdict(spec))}))


def load_actor(path: Path) -> tuple[nn.Sequential, ActorSpec]:
    """Rebuild the actor that `save_actor` wrote; UserError when the file is something else."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if "actor" not in metadata:
                raise UserError(f"{path} is no expert's actor: its metadata has no entry 'actor'")
            fields = json.loads(metadata["actor"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (a file, not a dict)
        spec = ActorSpec(**{**fields, "obs_keys": tuple(fields["obs_keys"])})
        net = make_actor_net(spec)
        net.load_state_dict(weights)
    except UserError:
        raise
    except Exception as error:  # a damaged file can raise anything
        raise UserError(f"{path} is damaged, or no expert's actor") from error
    return net.eval(), spec


def deterministic_policy(net: nn.Module, spec: ActorSpec) -> Policy:
    """Return observation -> tanh(mean), an action (A,) in [-1, 1]."""

    @torch.no_grad()
    def act(observation: Observation) -> Floats32:
        flat = np.concatenate([np.ravel(observation[key]) for key in spec.obs_keys])
        out: Tensor = net(torch.from_numpy(flat).float())  # (2A,)
        action: Floats32 = out[: spec.action_dim].tanh().numpy()
        return action

    return act
