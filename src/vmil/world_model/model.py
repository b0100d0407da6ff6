"""Encoder, RSSM and decoder: the whole generative model of what the camera (and the body) will say."""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from vmil.config.options import Activation, LatentKind, Norm
from vmil.nets.conv import ImageDecoder, ImageEncoder
from vmil.nets.distributions import CategoricalLatent, GaussianLatent, Latent
from vmil.nets.mlp import MLP
from vmil.world_model.rssm import RSSM, State


def make_latent(kind: LatentKind, stoch: int, classes: int, min_std: float, unimix: float) -> Latent:
    """The family of stochastic states called `kind`."""
    if kind == "gaussian":
        return GaussianLatent(stoch, min_std)
    if kind == "categorical":
        return CategoricalLatent(stoch, classes, unimix)
    raise ValueError(f"unknown latent {kind!r}")


def preprocess(image: Tensor) -> Tensor:
    """Bytes to floats in [−½, ½], for acting and for training alike; any shape."""
    return image.to(torch.float32).mul_(1.0 / 255.0).sub_(0.5)


class Prediction(NamedTuple):
    """What the heads predict from states (N, F)."""

    image: Tensor  # (N, 64, 64, 3) mean picture in about [−½, ½]
    proprio: Tensor | None  # (N, P)


class Filter(nn.Module):
    """q(z_t | x_{≤t}, a_{<t}): the part of a world model that acting needs.

    Convolutions run in bf16 where `bf16` is set; the recurrence never: in fp32, on CUDA with products in TF32.
    """

    def __init__(self, encoder: ImageEncoder, rssm: RSSM, proprio_encoder: MLP | None, bf16: bool) -> None:
        super().__init__()
        self.encoder, self.rssm, self.bf16 = encoder, rssm, bf16
        self.proprio_encoder = proprio_encoder

    @property
    def proprio_size(self) -> int:
        """How many numbers it reads beside the image."""
        return 0 if self.proprio_encoder is None else next(self.proprio_encoder.parameters()).shape[-1]

    def encode(self, image: Tensor, proprio: Tensor | None) -> Tensor:
        """Preprocessed pictures (…, 64, 64, 3) and vectors (…, P) → embeddings (…, E), fp32."""
        leading = image.shape[:-3]
        with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            embedding: Tensor = self.encoder(image.flatten(0, -4)).float().unflatten(0, leading)
        if self.proprio_encoder is None:
            return embedding
        if proprio is None:
            raise ValueError(f"this model reads {self.proprio_size} proprioceptive numbers beside the image; none came")
        return torch.cat([embedding, self.proprio_encoder(proprio)], -1)

    def observe(
        self,
        image: Tensor,
        proprio: Tensor | None,
        previous_action: Tensor,
        is_first: Tensor,
        noise: Tensor | None = None,
    ) -> tuple[State, Tensor]:
        """Filters preprocessed pictures (T, B, …): posterior states (T, B, …) and the priors' stats (T, B, ·)."""
        return self.rssm.observe(self.encode(image, proprio), previous_action, is_first, noise)


class WorldModel(Filter):
    """The filter with p(z_{t+1} | z_t, a_t) and p(x_t | z_t).

    The reward head exists only for `debug.use_ground_truth_reward`; an imitation run has none. The decoder's
    convolutions run in bf16 where the encoder's do.
    """

    def __init__(
        self,
        *,
        action_size: int,
        proprio_size: int,
        latent: Latent,
        deter: int,
        hidden: int,
        depth: int,
        activation: Activation,
        norm: Norm,
        proprio_hidden: int,
        reward_head: bool,
        bf16: bool,
    ) -> None:
        encoder = ImageEncoder(depth, activation)
        embedding = encoder.outputs + (proprio_hidden if proprio_size else 0)
        rssm = RSSM(latent, embedding, action_size, deter, hidden, activation, norm)
        super().__init__(encoder, rssm, None, bf16)
        feat = self.rssm.feat_size
        self.decoder = ImageDecoder(feat, depth, activation)
        if proprio_size:  # only now: an optimiser's state in a checkpoint knows weights by their order
            self.proprio_encoder = MLP(proprio_size, proprio_hidden, 1, proprio_hidden, activation)
        self.proprio_decoder = MLP(feat, proprio_size, 2, proprio_hidden, activation) if proprio_size else None
        self.reward_head = MLP(feat, 1, 2, hidden, activation, norm) if reward_head else None

    def predict(self, feat: Tensor) -> Prediction:
        """(N, F) → what would be observed there."""
        with torch.autocast(feat.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            image = self.decoder(feat).float()
        return Prediction(image, None if self.proprio_decoder is None else self.proprio_decoder(feat))

    @torch.no_grad()
    def open_loop(
        self, image: Tensor, proprio: Tensor | None, previous_action: Tensor, is_first: Tensor, context: int
    ) -> Tensor:
        """Filters `context` preprocessed frames of (T, B, …), then dreams along the true actions: (T, B, 64, 64, 3)."""
        body = None if proprio is None else proprio[:context]
        posterior, _ = self.observe(image[:context], body, previous_action[:context], is_first[:context])
        dream = self.rssm.imagine(posterior.at(-1), previous_action[context:])
        feat = torch.cat([posterior.feat, dream.feat])
        return rearrange(self.predict(feat.flatten(0, 1)).image, "(t b) h w c -> t b h w c", t=len(feat))
