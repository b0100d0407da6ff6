"""Latent transitions along replayed sequences, as the discriminator reads them."""

from __future__ import annotations

import torch

from vmil.data.transition import Batch
from vmil.discriminator.network import Triples
from vmil.world_model.rssm import RSSM, State


def posterior_triples(posterior: State, batch: Batch, columns: slice) -> Triples:
    """(z, a, z') along some of the batch's sequences, (T−1, ·, ·), of the posterior states (T, B, …)."""
    feat = posterior.at((slice(None), columns)).feat
    return Triples(feat[:-1], batch.action[:-1, columns], feat[1:])


@torch.no_grad()
def prior_triples(rssm: RSSM, posterior: State, batch: Batch, columns: slice) -> Triples:
    """The same with z' drawn from the model's prior, as in the first step of a dream."""
    triples = posterior_triples(posterior, batch, columns)
    start = posterior.at((slice(None, -1), columns)).flat()
    action = triples.action.flatten(0, 1)
    dreamt = rssm.img_step(start, action, rssm.latent.noise(len(action), like=action))
    return triples._replace(next_feat=dreamt.feat.unflatten(0, triples.action.shape[:2]))
