"""From a config to VMIL's networks."""

from __future__ import annotations

from vmil.behaviour.actor import ActionHead, Actor, ClippedNormalHead, TanhNormalHead
from vmil.behaviour.critic import Critic
from vmil.config.schema import BehaviourConfig, Config
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
    return Actor(feat, action_size, c.actor_units, c.actor_layers, c.activation, c.norm, _action_head(c))


def _action_head(c: BehaviourConfig) -> ActionHead:
    if c.policy == "tanh_normal":
        return TanhNormalHead(c.mean_scale, c.init_std, c.min_std)
    if c.policy == "clipped_normal":
        return ClippedNormalHead(c.init_std, c.min_std, c.max_std)
    raise ValueError(f"unknown policy {c.policy!r}")


def build_critic(config: Config, feat: int) -> Critic:
    """The value of `config.behaviour`."""
    c = config.behaviour
    return Critic(feat, c.critic_units, c.critic_layers, c.activation, c.norm, c.slow_critic)
