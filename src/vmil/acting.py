"""The recurrent acting policy: filters what it sees, then acts on it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from vmil.behaviour.actor import ActionDistribution, Actor
from vmil.world_model.model import WorldModel, preprocess
from vmil.world_model.rssm import State


class ActingPolicy:
    """Acts in N environments in lock-step; remembers its latent states and last actions, forgets them where `is_first`.

    Weights are shared with the learner: what is learnt acts at once. With `deterministic` both the latent state and the
    action are the distributions' modes; else both are sampled and N(0, exploration_std()²) is added to the action.
    """

    def __init__(
        self,
        model: WorldModel,
        actor: Actor,
        *,
        deterministic: bool = False,
        exploration_std: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.model, self.actor = model, actor
        self.exploration_std, self.deterministic = exploration_std, deterministic
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
        action = self._act(state)
        self.state, self.last_action = state, action
        if self.trace is not None:
            self.trace.append((state.feat, action))
        return action.to(image.device)

    def networks(self) -> dict[str, nn.Module]:
        """What acting needs of the learner, by name: neither decoder nor critic nor discriminator ever acts."""
        found: dict[str, nn.Module] = {"encoder": self.model.encoder, "rssm": self.model.rssm, "actor": self.actor}
        if self.model.proprio_encoder is not None:
            found["proprio_encoder"] = self.model.proprio_encoder
        return found

    def portable(self) -> PortableActing:
        """A copy that another process can be sent, with the weights and the exploration noise of now."""
        return PortableActing(self)

    def _act(self, state: State) -> Tensor:
        policy: ActionDistribution = self.actor(state.feat)
        if self.deterministic:
            return policy.mode().clamp(-1.0, 1.0)
        action, _ = policy.sample(torch.randn_like(policy.std))
        return (action + self.exploration_std() * torch.randn_like(action)).clamp(-1.0, 1.0)

    def _memory(self, seen: Tensor) -> tuple[State, Tensor]:
        if self.state is None or self.last_action is None or len(self.last_action) != len(seen):
            return self.model.rssm.initial(len(seen), seen), seen.new_zeros(len(seen), self.actor.action_size)
        return self.state, self.last_action


class PortableActing(nn.Module):
    """An acting policy apart from its learner, on the CPU; its state is all that it acts by, the noise's scale too."""

    std: Tensor

    def __init__(self, policy: ActingPolicy) -> None:
        super().__init__()
        model, actor = policy.model, policy.actor
        moved = next(actor.parameters()).device.type != "cpu"
        self.model = copy.deepcopy(model).cpu().requires_grad_(False)
        self.actor = copy.deepcopy(actor).cpu().requires_grad_(False)
        self.model.bf16 = model.bf16 and not moved  # what a GPU has, the processor beside it may not
        self.register_buffer("std", torch.tensor(policy.exploration_std(), dtype=torch.float64))
        self._policy = ActingPolicy(
            self.model, self.actor, deterministic=policy.deterministic, exploration_std=self._exploration_std
        )

    def forward(self, image: Tensor, proprio: Tensor | None, is_first: Tensor) -> Tensor:
        """As `ActingPolicy`."""
        return self._policy(image, proprio, is_first)

    def _exploration_std(self) -> float:
        return float(self.std)
