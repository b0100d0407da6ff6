"""From a config to networks: the one place where knobs become constructor arguments."""

from __future__ import annotations

from vmil.behaviour.actor import Actor
from vmil.behaviour.critic import Critic
from vmil.config.schema import Config
from vmil.discriminator.network import Discriminator
from vmil.learner.device import choose_device, use_bf16
from vmil.world_model.model import WorldModel, make_latent


def build_world_model(config: Config, action_size: int, proprio_size: int) -> WorldModel:
    """The generative model of `config.world_model`."""
    c = config.world_model
    return WorldModel(
        action_size=action_size,
        proprio_size=proprio_size,
        latent=make_latent(c.latent, c.stoch, c.classes, c.min_std, c.unimix),
        deter=c.deter,
        hidden=c.hidden,
        depth=c.depth,
        activation=c.activation,
        norm=c.norm,
        proprio_hidden=c.proprio_hidden,
        reward_head=config.debug.use_ground_truth_reward,
        bf16=use_bf16(config, choose_device(config)),
    )


def build_discriminator(config: Config, feat: int, action_size: int) -> Discriminator:
    """The classifier of `config.discriminator`."""
    c = config.discriminator
    return Discriminator(
        feat, action_size, c.units, c.layers, c.activation, c.next_state, c.spectral_norm, c.action_scale
    )


def build_actor(config: Config, feat: int, action_size: int) -> Actor:
    """The policy of `config.behaviour`."""
    c = config.behaviour
    return Actor(
        feat,
        action_size,
        c.actor_units,
        c.actor_layers,
        c.activation,
        c.norm,
        kind=c.policy,
        mean_scale=c.mean_scale,
        init_std=c.init_std,
        min_std=c.min_std,
        max_std=c.max_std,
    )


def build_critic(config: Config, feat: int) -> Critic:
    """The value of `config.behaviour`."""
    c = config.behaviour
    return Critic(feat, c.critic_units, c.critic_layers, c.activation, c.norm, c.slow_critic)
