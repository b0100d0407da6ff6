"""DrQ: soft actor-critic from pixels, regularised by random shifts (Kostrikov, Yarats & Fergus 2020).

It differs from SAC in what it looks at: targets are averaged over K shifts of the next observation, the critic's loss
over M shifts of the present one. It differs from the published program in its clock: that alternates one step in the
environment with one update, this collects a whole episode and then makes as many updates as it had steps; neither makes
any for the episodes of random actions at the beginning. No gradient is clipped; their norms are logged all the same.

TorchRL's SACLoss takes one next observation for each transition, so it cannot average targets over views of it; it
serves as the reference in this module's tests instead.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from vmil.baselines.losses import actor_loss, critic_loss, soft_target, temperature_loss
from vmil.baselines.networks import Actor, Critic, Temperature
from vmil.baselines.policy import StackPolicy
from vmil.baselines.transitions import Observation, Transitions, transitions
from vmil.config.schema import Config
from vmil.data.transition import Batch
from vmil.learner.device import choose_device, use_bf16
from vmil.learner.module import ImitationModule
from vmil.learner.stepping import Part
from vmil.nets.mlp import frozen, polyak_update


class DrQ(ImitationModule):
    """Critic with encoder, its slow copy, actor, temperature; subclasses define the reward."""

    def __init__(self, config: Config, action_size: int, proprio_size: int) -> None:
        super().__init__(config)
        pixels, bf16 = config.pixels, use_bf16(config, choose_device(config))
        self.critic = Critic(pixels, config.env.image_size, action_size, proprio_size, bf16)
        self.slow_critic = copy.deepcopy(self.critic).requires_grad_(False)
        bounds = (config.drq.min_log_std, config.drq.max_log_std)
        self.actor = Actor(self.critic.encoder.outputs, action_size, proprio_size, pixels, bounds)
        self.temperature = Temperature(config.drq.init_temperature)
        self.target_entropy = -float(action_size)

    # ---- the algorithm -------------------------------------------------------------------------------------------

    def learn(self, batch: Batch) -> None:
        """One update from a replayed batch of transitions."""
        step = transitions(batch)
        self.improve(step, self.reward(step))

    def kind(self) -> tuple[bool, bool]:
        """Whether the actor learns in this update, and whether the slow critic moves."""
        c = self.config.drq
        return self.updates % c.actor_every == 0, self.updates % c.target_every == 0

    def reward(self, step: Transitions) -> Tensor:
        """The critic's reward, (N,): the environment's own, which only debug.use_ground_truth_reward lets in."""
        if step.reward is None:
            raise RuntimeError("DrQ itself imitates nobody: without the environment's reward it has none")
        return step.reward

    def improve(self, step: Transitions, reward: Tensor) -> None:
        """One step of the critic; every few updates also one of actor and temperature, and one of the slow critic."""
        c, (acts, follows) = self.config.drq, self.kind()
        self.note_reward(reward)
        seen = step.observation.views(c.views, self.config.pixels.shift)  # (M·N, …)
        self.fit_critic(seen, step, self.target(step, reward))
        if acts:
            self.fit_actor(seen.rows(slice(len(step))))
        if follows:
            polyak_update(self.slow_critic, self.critic, c.tau)

    @torch.no_grad()
    def target(self, step: Transitions, reward: Tensor) -> Tensor:
        """y (N,), averaged over K views of the next observation (equation 1)."""
        c = self.config.drq
        with self.stopwatch.stage("target", self.device):
            following = step.next_observation.views(c.target_views, self.config.pixels.shift)  # (K·N, …)
            policy = self.actor(self.critic.encoder(following.image), following.proprio)
            action, entropy = policy.sample(torch.randn_like(policy.mean))
            feat = self.slow_critic.feat(self.slow_critic.encoder(following.image), following.proprio)
            value = self.slow_critic(feat, action).unflatten(1, (c.target_views, len(step)))
            entropy = entropy.unflatten(0, (c.target_views, len(step)))
            return soft_target(reward, step.terminated, value, entropy, self.temperature.value, c.discount)

    def fit_critic(self, seen: Observation, step: Transitions, target: Tensor) -> None:
        """Fits both values to the target on M views of the observation (equation 3); this trains the encoder too."""
        c = self.config.drq
        with self.stopwatch.stage("critic", self.device):
            feat = self.critic.feat(self.critic.encoder(seen.image), seen.proprio)
            value = self.critic(feat, step.action.repeat(c.views, 1)).unflatten(1, (c.views, len(step)))
            loss, metrics = critic_loss(value, target)
            self.step("critic", loss, [Part("critic", self.critic)])
        self.means.add(metrics)

    def fit_actor(self, seen: Observation) -> None:
        """Moves the policy towards higher soft values on one view; the encoder learns nothing from it."""
        with self.stopwatch.stage("actor", self.device):
            with frozen(self.critic):
                maps = self.critic.encoder(seen.image)
                policy = self.actor(maps, seen.proprio)
                action, entropy = policy.sample(torch.randn_like(policy.mean))
                value = self.critic(self.critic.feat(maps, seen.proprio), action)
            loss, metrics = actor_loss(value, entropy, self.temperature.value)
            self.step("actor", loss, [Part("actor", self.actor)])
            price, price_metrics = temperature_loss(self.temperature.log, entropy, self.target_entropy)
            self.step("temperature", price, [Part("temperature", self.temperature)])
        self.means.add(metrics | price_metrics)
        self.means.add(
            {"actor/action_std": policy.std.detach().mean(), "actor/mean_abs": policy.mode().detach().abs().mean()}
        )

    # ---- the run around it ---------------------------------------------------------------------------------------

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Critic's, with its encoder; actor's; temperature's."""
        parts = {"critic": self.critic, "actor": self.actor, "temperature": self.temperature}
        lr = self.config.drq.lr
        return {name: torch.optim.Adam(part.parameters(), lr=lr, fused=True) for name, part in parts.items()}

    def exploration_policy(self) -> StackPolicy:
        """The policy that collects, by sampling."""
        return self._policy(deterministic=False)

    def evaluation_policy(self) -> StackPolicy:
        """The policy that is evaluated, by its mode."""
        return self._policy(deterministic=True)

    def _policy(self, deterministic: bool) -> StackPolicy:
        return StackPolicy(self.critic.encoder, self.actor, self.config.pixels.frame_stack, deterministic)
