"""The recurrent acting policy: filters what it sees, then acts on it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from vmil.behaviour.actor import ActionDistribution, Actor
from vmil.world_model.model import Filter, preprocess
from vmil.world_model.rssm import State

Network = TypeVar("Network", bound=nn.Module)


class ActionNoise:
    """Noise added to collected actions: Gaussian of scale std(), correlated in time, its scale drawn per episode.

    e_t = ρ e_{t−1} + √(1 − ρ²) ε_t, ε ~ N(0, 1), stationary from the start, so that its scale is 1 throughout
    (Uhlenbeck & Ornstein 1930, in discrete time); times std() · u, u ~ U(1 − spread, 1 + spread) for each episode.
    White noise, the default, is largely averaged away by a body's inertia; correlated noise moves it.
    """

    def __init__(
        self, std: Callable[[], float] = lambda: 0.0, *, correlation: float = 0.0, spread: float = 0.0
    ) -> None:
        self.std, self.correlation, self.spread = std, correlation, spread
        self._drift: Tensor | None = None  # (N, A)
        self._scale: Tensor | None = None  # (N, 1)

    def __call__(self, action: Tensor, is_first: Tensor) -> Tensor:
        """Noise for actions (N, A), restarted in the rows where `is_first` (N,)."""
        fresh, first = torch.randn_like(action), is_first.to(action.device)[:, None]
        if self._drift is None or self._scale is None or len(self._drift) != len(action):
            first = torch.ones_like(first)
            self._drift, self._scale = torch.zeros_like(action), torch.ones_like(action[:, :1])
        going_on = self.correlation * self._drift + math.sqrt(1.0 - self.correlation**2) * fresh
        self._drift = torch.where(first, fresh, going_on)
        if self.spread > 0.0 and bool(first.any()):
            drawn = 1.0 + self.spread * (2.0 * torch.rand_like(self._scale) - 1.0)
            self._scale = torch.where(first, drawn, self._scale)
        return self.std() * self._scale * self._drift


class ActingPolicy:
    """Acts in N environments in lock-step; keeps its latent states and last actions, and resets them where `is_first`.

    Weights are shared with the learner: an update acts at once. With `deterministic` both the latent state and the
    action are the distributions' modes; else both are sampled and `noise` is added to the action.
    """

    def __init__(
        self,
        model: Filter,
        actor: Actor,
        *,
        deterministic: bool = False,
        noise: ActionNoise | None = None,
    ) -> None:
        self.model, self.actor = model, actor
        self.noise, self.deterministic = noise or ActionNoise(), deterministic
        self.state: State | None = None
        self.last_action: Tensor | None = None
        self.trace: list[tuple[Tensor, Tensor]] | None = None  # set to a list to keep (feat, action) of every step

    @torch.no_grad()
    def __call__(self, image: Tensor, proprio: Tensor | None, is_first: Tensor) -> Tensor:
        """Images (N, H, W, 3) uint8, vectors (N, P), is_first (N,) → actions (N, A) in [−1, 1] on their device."""
        device = next(self.actor.parameters()).device
        seen = self.model.encode(preprocess(image.to(device)), None if proprio is None else proprio.to(device))
        previous, last_action = self._memory(seen)
        noise = self.model.rssm.latent.noise(len(seen), like=seen)
        state = self.model.rssm.obs_step(previous, last_action, seen, is_first.to(device), noise)
        if self.deterministic:
            state = state._replace(stoch=self.model.rssm.latent.mode(state.stats))
        action = self._act(state, is_first)
        self.state, self.last_action = state, action
        if self.trace is not None:
            self.trace.append((state.feat, action))
        return action.to(image.device)

    def networks(self) -> dict[str, nn.Module]:
        """The networks needed to act, by name: never the decoder, the critic or the discriminator."""
        found: dict[str, nn.Module] = {"encoder": self.model.encoder, "rssm": self.model.rssm, "actor": self.actor}
        if self.model.proprio_encoder is not None:
            found["proprio_encoder"] = self.model.proprio_encoder
        return found

    def portable(self) -> PortableActing:
        """A copy that can be sent to another process, with the current weights and exploration noise."""
        return PortableActing(self)

    def _act(self, state: State, is_first: Tensor) -> Tensor:
        policy: ActionDistribution = self.actor(state.feat)
        if self.deterministic:
            return policy.mode().clamp(-1.0, 1.0)
        action, _ = policy.sample(torch.randn_like(policy.std))
        return (action + self.noise(action, is_first)).clamp(-1.0, 1.0)

    def _memory(self, seen: Tensor) -> tuple[State, Tensor]:
        if self.state is None or self.last_action is None or len(self.last_action) != len(seen):
            return self.model.rssm.initial(len(seen), seen), seen.new_zeros(len(seen), self.actor.action_size)
        return self.state, self.last_action


class PortableActing(nn.Module):
    """An acting policy separate from its learner, on the CPU; its state is all it acts by, the noise scale included."""

    std: Tensor

    def __init__(self, policy: ActingPolicy) -> None:
        super().__init__()
        model, moved = policy.model, next(policy.actor.parameters()).device.type != "cpu"
        vector = model.proprio_encoder
        self.model = Filter(
            _copied(model.encoder),
            _copied(model.rssm),
            None if vector is None else _copied(vector),
            model.bf16 and not moved,  # the CPU may lack the bf16 that the GPU has
        )
        self.actor = _copied(policy.actor)
        self.register_buffer("std", torch.tensor(policy.noise.std(), dtype=torch.float64))
        noise = ActionNoise(self._std, correlation=policy.noise.correlation, spread=policy.noise.spread)
        self._policy = ActingPolicy(self.model, self.actor, deterministic=policy.deterministic, noise=noise)

    def forward(self, image: Tensor, proprio: Tensor | None, is_first: Tensor) -> Tensor:
        """As `ActingPolicy`."""
        return self._policy(image, proprio, is_first)

    def keep(self, trace: list[tuple[Tensor, Tensor]]) -> None:
        """Makes every step append its (feat, action) to the list."""
        self._policy.trace = trace

    def _std(self) -> float:
        return float(self.std)


def _copied(network: Network) -> Network:
    return copy.deepcopy(network).cpu().requires_grad_(False)
