"""The model's objective: the negative evidence lower bound on sequences (step 1 of `training/vmil.py`)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vmil.nets.distributions import Latent, random_subset
from vmil.nets.metrics import Metrics
from vmil.world_model.model import WorldModel
from vmil.world_model.rssm import State


def kl_loss(
    latent: Latent, posterior: Tensor, prior: Tensor, balance: float, free_nats: float
) -> tuple[Tensor, Tensor]:
    """max(mean KL(q‖p), free nats), and the mean KL itself; nats.

    The mean over (T, B) is taken *before* the clip. With `balance` > 0 that share of the gradient moves the prior
    towards the posterior and the rest the other way (DreamerV2's KL balancing); at 0 the KL is differentiated as it
    stands. The loss's value is the clipped KL either way.
    """
    if balance == 0.0:
        value = latent.kl(posterior, prior).mean()
        return value.clamp(min=free_nats), value.detach()
    to_prior = latent.kl(posterior.detach(), prior).mean()
    to_posterior = latent.kl(posterior, prior.detach()).mean()
    clipped = balance * to_prior.clamp(min=free_nats) + (1 - balance) * to_posterior.clamp(min=free_nats)
    return clipped, to_prior.detach()


class Frames(NamedTuple):
    """Flat frames to explain, N = T · B."""

    image: Tensor  # (N, 64, 64, 3) preprocessed
    proprio: Tensor | None  # (N, P)


def reconstruction_loss(model: WorldModel, feat: Tensor, frames: Frames, fraction: float) -> tuple[Tensor, Metrics]:
    """½‖x − x̂‖² summed over pixels (and the vector), mean over frames: −log p(x|z) of a unit normal, less a constant.

    feat (N, F). With `fraction` < 1 only a random part of the frames is decoded: an unbiased estimate.
    """
    image, proprio = frames.image, frames.proprio
    if fraction < 1.0:
        count = max(1, round(fraction * feat.shape[0]))
        chosen = random_subset(feat.shape[0], count, like=feat)
        feat, image = feat[chosen], image[chosen]
        proprio = None if proprio is None else proprio[chosen]
    seen = model.predict(feat)
    loss = 0.5 * F.mse_loss(seen.image, image, reduction="sum") / len(feat)
    metrics = {"model/reconstruction": loss.detach()}
    if seen.proprio is not None and proprio is not None:
        body = 0.5 * F.mse_loss(seen.proprio, proprio, reduction="sum") / len(feat)
        metrics["model/proprio"] = body.detach()
        loss = loss + body
    return loss, metrics


def elbo_loss(
    model: WorldModel,
    posterior: State,
    prior_stats: Tensor,
    frames: Frames,
    reward: Tensor | None = None,
    *,
    kl_scale: float,
    kl_balance: float,
    free_nats: float,
    fraction: float,
) -> tuple[Tensor, Metrics]:
    """−log p(x|z) + scale · max(KL, free nats) over posterior states (T, B, …) of `frames` (T · B).

    `reward` (T−1, B), of the transition from t to t+1, is there for ground-truth debugging only: it trains the reward
    head on z_{t+1}.
    """
    feat = posterior.feat.flatten(0, 1)
    loss, metrics = reconstruction_loss(model, feat, frames, fraction)
    latent = model.rssm.latent
    kl, raw_kl = kl_loss(latent, posterior.stats, prior_stats, kl_balance, free_nats)
    loss = loss + kl_scale * kl
    if model.reward_head is not None and reward is not None:
        error = 0.5 * (model.reward_head(posterior.feat[1:])[..., 0] - reward).square().mean()
        metrics["model/reward"] = error.detach()
        loss = loss + error
    with torch.no_grad():
        metrics |= {
            "model/loss": loss.detach(),
            "model/kl": raw_kl,
            "model/kl_free": kl.detach(),
            "model/prior_entropy": latent.entropy(prior_stats).mean(),
            "model/posterior_entropy": latent.entropy(posterior.stats).mean(),
        }
    return loss, metrics
