"""The policy that acts on stacks of frames."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from vmil.baselines.networks import Actor, Encoder


class StackPolicy:
    """Acts in N environments in lock-step on the last `stack` frames of each; starts over where `is_first`.

    At an episode's start the first frame stands for those before it, as in training. Weights are the learner's own.
    With `deterministic` it acts by the distribution's mode, else by samples of it.
    """

    def __init__(self, encoder: Encoder, actor: Actor, stack: int, deterministic: bool) -> None:
        self.encoder, self.actor, self.stack, self.deterministic = encoder, actor, stack, deterministic
        self.seen: Tensor | None = None  # (N, H, W, 3·stack) uint8

    @torch.no_grad()
    def __call__(self, image: Tensor, proprio: Tensor | None, is_first: Tensor) -> Tensor:
        """Images (N, H, W, 3) uint8, vectors (N, P), is_first (N,) → actions (N, A) in [−1, 1] on their device."""
        device = next(self.actor.parameters()).device
        self.seen = self._remember(image, is_first)
        policy = self.actor(self.encoder(self.seen.to(device)), None if proprio is None else proprio.to(device))
        action = policy.mode() if self.deterministic else policy.sample(torch.randn_like(policy.mean))[0]
        return action.to(image.device)

    def networks(self) -> dict[str, nn.Module]:
        """The networks needed to act, by name: never a critic."""
        return {"encoder": self.encoder, "actor": self.actor}

    def portable(self) -> PortableStacks:
        """A copy that can be sent to another process, with the current weights."""
        return PortableStacks(self)

    def _remember(self, image: Tensor, is_first: Tensor) -> Tensor:
        repeated = image.repeat(1, 1, 1, self.stack)
        if self.seen is None or self.seen.shape != repeated.shape:
            return repeated
        shifted = torch.cat([self.seen[..., image.shape[-1] :], image], -1)
        return torch.where(is_first[:, None, None, None].to(image.device), repeated, shifted)


class PortableStacks(nn.Module):
    """A policy on stacks separate from its learner, on the CPU; its state is all that it acts by."""

    def __init__(self, policy: StackPolicy) -> None:
        super().__init__()
        moved = next(policy.actor.parameters()).device.type != "cpu"
        self.encoder = copy.deepcopy(policy.encoder).cpu().requires_grad_(False)
        self.actor = copy.deepcopy(policy.actor).cpu().requires_grad_(False)
        self.encoder.bf16 = policy.encoder.bf16 and not moved  # the CPU may lack the bf16 that the GPU has
        self._policy = StackPolicy(self.encoder, self.actor, policy.stack, policy.deterministic)

    def forward(self, image: Tensor, proprio: Tensor | None, is_first: Tensor) -> Tensor:
        """As `StackPolicy`."""
        return self._policy(image, proprio, is_first)
