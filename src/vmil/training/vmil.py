"""Variational model-based imitation learning (Rafailov, Yu, Rajeswaran & Finn 2021), as one Lightning module.

`learn` is the paper's loop: fit the model, dream on-policy in it, tell expert from policy, be the expert. Dreams never
end, so returns run on past where a task would terminate: no task of the paper does, and nothing here models that.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from vmil.acting import ActingPolicy, ActionNoise
from vmil.behaviour.actor import Actor
from vmil.behaviour.loss import actor_loss, cloning_loss, cloning_weight, critic_loss
from vmil.behaviour.returns import ReturnRange, lambda_return
from vmil.config.schema import Config
from vmil.data.transition import Batch, previous_actions
from vmil.discriminator.loss import discriminator_loss, noise_std
from vmil.discriminator.network import Triples
from vmil.discriminator.reward import reward_from_logit
from vmil.imagination import Dream, imagine
from vmil.learner.device import choose_device, products_in_bf16, use_bf16_products
from vmil.learner.module import ImitationModule
from vmil.learner.stepping import Part
from vmil.nets.distributions import random_subset
from vmil.nets.mlp import frozen, polyak_update
from vmil.training.agreement import TracedEvaluation
from vmil.training.build import build_actor, build_critic, build_discriminator, build_world_model
from vmil.training.probe import discriminator_accuracy, open_loop_pictures
from vmil.training.triples import posterior_triples, prior_triples
from vmil.world_model.loss import Frames, elbo_loss
from vmil.world_model.model import preprocess
from vmil.world_model.rssm import State


class VMIL(ImitationModule):
    """World model, discriminator, actor and critic, with one optimiser for each of the paper's three parts."""

    def __init__(self, config: Config, action_size: int, proprio_size: int) -> None:
        super().__init__(config)
        self.world_model = build_world_model(config, action_size, proprio_size)
        feat = self.world_model.rssm.feat_size
        self.discriminator = build_discriminator(config, feat, action_size)
        self.actor: Actor = build_actor(config, feat, action_size)
        self.critic = build_critic(config, feat)
        averaged = config.behaviour.actor_average > 0.0
        self.averaged_actor = copy.deepcopy(self.actor).requires_grad_(False) if averaged else None
        self.return_range = ReturnRange()
        self.bf16_products = use_bf16_products(config, choose_device(config))

    # ---- the algorithm -------------------------------------------------------------------------------------------

    def learn(self, batch: Batch) -> None:
        """One training step on a replayed batch: the four steps of the paper's loop."""
        posterior = self.fit_model(batch)  # 1. variational model
        with products_in_bf16(self.bf16_products):
            dream = self.dream(posterior)  # 2. on-policy, in the model
            expert = self.expert_triples(posterior, batch)
            self.fit_discriminator(expert, dream, posterior, batch)  # 3. who is who
            reward, logit = self.reward(dream)
            self.fit_behaviour(dream, reward, expert)  # 4. be the expert
            self.probe(posterior, batch, logit)

    def schedules(self) -> dict[str, float]:
        """The current scale of D's input noise and weight of the cloning term."""
        d, b = self.config.discriminator, self.config.behaviour
        anneal = d.noise_anneal_frames or self.config.training.frames
        return {
            "noise_std": noise_std(d.noise, d.noise_std, self.frames, anneal),
            "cloning": cloning_weight(b.cloning, b.cloning_decay_updates, b.cloning_floor, self.updates),
        }

    def fit_model(self, batch: Batch) -> State:
        """Step 1: one gradient step on the ELBO; returns the posterior states (T, B, …), detached."""
        c = self.config.world_model
        with self.stopwatch.stage("model", self.device):
            image, before = preprocess(batch.image), previous_actions(batch.action, batch.is_first)
            posterior, prior_stats = self.world_model.observe(image, batch.proprio, before, batch.is_first)
            frames = Frames(image.flatten(0, 1), None if batch.proprio is None else batch.proprio.flatten(0, 1))
            loss, metrics = elbo_loss(
                self.world_model,
                posterior,
                prior_stats,
                frames,
                None if batch.reward is None else batch.reward[:-1],
                kl_scale=c.kl_scale,
                kl_balance=c.kl_balance,
                free_nats=c.free_nats,
                fraction=c.reconstruct_fraction,
            )
            self.step("model", loss, [Part("model", self.world_model, c.clip)])
        self.means.add(metrics)
        return posterior.detach()

    def dream(self, posterior: State) -> Dream:
        """Step 2: from posterior states of expert and agent, H steps of the current policy in the current model."""
        c = self.config.behaviour
        with self.stopwatch.stage("dream", self.device):
            start = posterior.flat()
            count = start.deter.shape[0]
            if 0 < c.dream_starts < count:
                start = start.at(random_subset(count, c.dream_starts, like=start.deter))
            with frozen(self.world_model):
                return imagine(self.world_model.rssm, self.actor, start, c.horizon, detach=c.detach_actor_input)

    def expert_triples(self, posterior: State, batch: Batch) -> Triples:
        """(z, a, z') along the demonstrations in the batch, (T−1, E, ·); z' from the model's prior if so configured."""
        return self._triples(posterior, batch, slice(0, batch.num_experts))

    def fit_discriminator(self, expert: Triples, dream: Dream, posterior: State, batch: Batch) -> None:
        """Step 3: expert triples against the policy's, on detached latents."""
        c = self.config.discriminator
        with self.stopwatch.stage("discriminator", self.device):
            expert_inputs = self.discriminator.inputs(expert.flat())
            policy_inputs = self._policy_side(dream, posterior, batch)
            std = 0.0 if c.noise == "none" else self.scheduled("noise_std")
            for _ in range(c.updates):
                loss, metrics = discriminator_loss(
                    self.discriminator,
                    expert_inputs,
                    policy_inputs,
                    std=std,
                    penalty=c.penalty,
                    penalty_scale=c.penalty_scale,
                    penalty_target=c.penalty_target,
                )
                self.step("disc", loss, [Part("disc", self.discriminator, c.clip)])
                self.means.add(metrics | {"disc/noise_std": std})

    def reward(self, dream: Dream) -> tuple[Tensor, Tensor | None]:
        """r(z, a, z') of the dream, (H, N), differentiable in the dream but not in the judge's weights; D's logit.

        The logit is None where the environment's reward takes D's place.
        """
        head = self.world_model.reward_head
        if head is not None:
            with frozen(head):
                reward: Tensor = head(dream.feat[1:])[..., 0]
            logit = None
        else:
            with frozen(self.discriminator):
                logit = self.discriminator(self.discriminator.inputs(dream.triples()))
            reward = reward_from_logit(self.config.discriminator.reward, logit)
        self.note_reward(reward)
        return reward, logit

    def fit_behaviour(self, dream: Dream, reward: Tensor, expert: Triples) -> None:
        """Step 4: the actor climbs the λ-return through model and judge, the critic regresses it; one optimiser."""
        c = self.config.behaviour
        with self.stopwatch.stage("behaviour", self.device):
            value = self._value(dream)
            if c.bootstrap == "value":
                returns = lambda_return(c.reward_scale * reward, value, c.discount, c.lam)
            elif c.bootstrap == "none":  # the plain discounted sum of what was dreamt
                returns = lambda_return(c.reward_scale * reward, torch.zeros_like(value), c.discount, 1.0)
            else:
                raise ValueError(f"unknown bootstrap {c.bootstrap!r}")
            scale = self.return_range.update(c.normalise, returns, value[:-1])
            act, act_metrics = actor_loss(returns, dream.entropy, scale, discount=c.discount, weight=c.entropy)
            criticise, critic_metrics = critic_loss(self.critic(dream.feat[:-1].detach()), returns, discount=c.discount)
            weight = self.scheduled("cloning")
            clone, clone_metrics = cloning_loss(self.actor(expert.feat.flatten(0, 1)), expert.action.flatten(0, 1))
            parts = [Part("actor", self.actor, c.clip), Part("critic", self.critic, c.clip)]
            self.step("actor", act + criticise + weight * clone, parts)
            self.critic.follow()
            if self.averaged_actor is not None:
                polyak_update(self.averaged_actor, self.actor, c.actor_average)
        self.means.add(act_metrics | critic_metrics | clone_metrics)
        self.means.add({"actor/cloning_weight": weight, "actor/action_std": dream.std.detach().mean()})
        self.means.add({"actor/mean_abs": dream.action.detach().abs().mean()})

    def _policy_side(self, dream: Dream, posterior: State, batch: Batch) -> Tensor:
        """What D is to tell from the expert, (N, I): dreams, replay, or both; dreams while there is no replay."""
        c = self.config.discriminator
        replayed = c.replay_negatives and batch.num_experts < batch.action.shape[1]
        sides = [dream.triples().detach()] if c.dream_negatives or not replayed else []
        if replayed:
            sides.append(self._triples(posterior, batch, slice(batch.num_experts, None)))
        return torch.cat([self.discriminator.inputs(side.flat()) for side in sides])

    def _triples(self, posterior: State, batch: Batch, columns: slice) -> Triples:
        """The triples of some of the batch's sequences, as D is to read them."""
        if self.config.discriminator.prior_next_state:
            return prior_triples(self.world_model.rssm, posterior, batch, columns)
        return posterior_triples(posterior, batch, columns)

    def _value(self, dream: Dream) -> Tensor:
        """V(z_0) … V(z_H), (H+1, N): with its graph where returns end in it, zeros where nothing reads it."""
        c = self.config.behaviour
        ends_returns = c.bootstrap == "value"
        if not ends_returns and c.normalise != "advantages":
            return dream.entropy.new_zeros(dream.feat.shape[:2])
        with frozen(self.critic):
            return self.critic.target(dream.feat if ends_returns else dream.feat.detach())

    # ---- diagnosis -----------------------------------------------------------------------------------------------

    def probe(self, posterior: State, batch: Batch, dream_logit: Tensor | None) -> None:
        """What D has learnt to tell apart in this update; nothing while the batch is all expert."""
        if batch.num_experts < batch.action.shape[1]:
            sides = (slice(0, batch.num_experts), slice(batch.num_experts, None))
            expert, replayed = (posterior_triples(posterior, batch, side) for side in sides)
            self.means.add(discriminator_accuracy(self.discriminator, expert, replayed, dream_logit))

    # ---- the run around it ---------------------------------------------------------------------------------------

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Model's; discriminator's; actor and critic as two groups of one, which has the actor's name."""
        m, d, b = self.config.world_model, self.config.discriminator, self.config.behaviour
        groups = [
            {"params": list(self.actor.parameters()), "lr": b.actor_lr, "betas": (b.actor_beta, 0.999)},
            {"params": [p for p in self.critic.parameters() if p.requires_grad], "lr": b.critic_lr},
        ]
        return {
            "model": torch.optim.Adam(self.world_model.parameters(), lr=m.lr, eps=m.eps, fused=True),
            "disc": torch.optim.Adam(self.discriminator.parameters(), lr=d.lr, eps=d.eps, fused=True),
            "actor": torch.optim.Adam(groups, eps=b.eps, fused=True),
        }

    def exploration_policy(self) -> ActingPolicy:
        """The policy that collects."""
        c = self.config.behaviour
        noise = ActionNoise(self.exploration_std, correlation=c.exploration_correlation, spread=c.exploration_spread)
        return ActingPolicy(self.world_model, self.actor, noise=noise)

    def exploration_std(self) -> float:
        """The current scale of the noise on collected actions."""
        c = self.config.behaviour
        return c.exploration_std if c.exploration_frames == 0 or self.frames < c.exploration_frames else 0.0

    def evaluation_policy(self) -> ActingPolicy:
        """The policy that is evaluated."""
        actor = self.actor if self.averaged_actor is None else self.averaged_actor
        return ActingPolicy(self.world_model, actor, deterministic=True)

    def portable_evaluation(self) -> TracedEvaluation:
        """A copy of it as it is now, on the CPU, that tells how D's reward agrees with the environment's."""
        policy = self.evaluation_policy().portable()
        return TracedEvaluation(policy, self.discriminator, self.config.discriminator.reward)

    def open_loop_pictures(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Truth and the model's open-loop prediction, both (T, B, 64, 64, 3) uint8."""
        return open_loop_pictures(self.world_model, batch.to(self.device))
