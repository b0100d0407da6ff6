"""Dreams: the policy acting inside the model."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vmil.behaviour.actor import Actor
from vmil.discriminator.network import Triples
from vmil.world_model.rssm import RSSM, State


class Dream(NamedTuple):
    """N trajectories of H steps, z_0 … z_H, with the graph that carries gradients back to the actor."""

    feat: Tensor  # (H+1, N, F)
    action: Tensor  # (H, N, A)
    entropy: Tensor  # (H, N) bonus of the policy at z_t, nats
    std: Tensor  # (H, N, A) of the policy at z_t

    def triples(self) -> Triples:
        """(z_t, a_t, z_{t+1}) for t < H: leading shape (H, N)."""
        return Triples(self.feat[:-1], self.action, self.feat[1:])


class DreamNoise(NamedTuple):
    """All the randomness in a dream, drawn beforehand."""

    action: Tensor  # (H, N, A)
    latent: Tensor  # (H, N, ·)


def imagine(
    rssm: RSSM, actor: Actor, start: State, horizon: int, noise: DreamNoise | None = None, *, detach: bool = False
) -> Dream:
    """From `start` (N, …), `horizon` steps with a ~ π(· | z) and z' ~ p(· | z, a), both reparameterised.

    With `detach` no gradient passes through what the actor is shown (Dreamer v1, `dreamer.py`: _imagine_ahead): an
    action is then judged by what the model makes of it, and not by how it moves the actions after it.

    The caller freezes the model's weights (`vmil.nets.mlp.frozen`), so that only the actor learns from what follows.
    """
    count, like = start.deter.shape[0], start.deter
    if noise is None:
        action_noise = torch.randn(horizon, count, actor.action_size, dtype=like.dtype, device=like.device)
        noise = DreamNoise(action_noise, rssm.latent.noise(horizon, count, like=like))
    state, feat = start, start.feat
    feats, actions, entropies, stds = [feat], [], [], []
    for t in range(horizon):
        policy = actor(feat.detach() if detach else feat)
        action, entropy = policy.sample(noise.action[t])
        state = rssm.img_step(state, action, noise.latent[t])
        feat = state.feat
        feats.append(feat)
        actions.append(action)
        entropies.append(entropy)
        stds.append(policy.std)
    return Dream(torch.stack(feats), torch.stack(actions), torch.stack(entropies), torch.stack(stds))
