"""The learner of PPO from state: TorchRL's loss and advantages, on many simulators at once.

Actions are normal before a tanh, which the simulators' side applies: the ratio of two densities of one action does not
depend on it, and nothing has to be inverted near ±1. A *round* is what lies between two checkpoints; like SAC's it
starts with freshly seeded episodes.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from tensordict import TensorDict
from tensordict.nn import InteractionType, TensorDictModule
from torch import Tensor, nn
from torch.distributions import Independent, Normal
from torchrl.modules import ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE
from tqdm import tqdm

from vmil.config.schema_ppo import PPOConfig
from vmil.errors import UserError
from vmil.experts.actor import ActorSpec, Scaling
from vmil.experts.practice import Practice, Simulators

ACTION = "action_before_tanh"


class Policy(nn.Module):
    """The actor's mean, and a standard deviation that is the same in every state."""

    def __init__(self, net: nn.Module, spec: ActorSpec, std: float) -> None:
        super().__init__()
        self.net, self.action_dim = net, spec.action_dim
        self.log_std = nn.Parameter(torch.full((spec.action_dim,), math.log(std)))

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (..., A) before tanh."""
        mean = self.net(observation)[..., : self.action_dim]
        return mean, self.log_std.exp().expand_as(mean)


class Value(nn.Module):
    """V(observation), (..., 1), on observations scaled by the first ones seen."""

    def __init__(self, spec: ActorSpec) -> None:
        super().__init__()
        self.scaling = Scaling(spec.obs_dim, least=0.01)
        self.net = nn.Sequential(
            nn.Linear(spec.obs_dim, spec.hidden),
            nn.LayerNorm(spec.hidden),
            nn.SiLU(),
            nn.Linear(spec.hidden, spec.hidden),
            nn.SiLU(),
            nn.Linear(spec.hidden, 1),
        )

    def forward(self, observation: Tensor) -> Tensor:
        """The value, in units of the rewards that it was taught."""
        value: Tensor = self.net(self.scaling(observation))
        return value


class PPOAgent:
    """Policy, critic and optimiser; `state` and `load` are the checkpoint."""

    def __init__(self, config: PPOConfig, practice: Practice, net: nn.Module, seed: int) -> None:
        """Takes the actor's network over, and moves its weights."""
        torch.manual_seed(seed)
        self.config, self.practice, self.seed = config, practice, seed
        self.actor_net, spec = net, practice.spec
        self.policy, self.value = Policy(net, spec, config.ppo_std), Value(spec)
        actor = ProbabilisticActor(
            TensorDictModule(self.policy, ["observation"], ["loc", "scale"]),
            in_keys=["loc", "scale"],
            out_keys=[ACTION],
            distribution_class=_diagonal_normal,
            default_interaction_type=InteractionType.RANDOM,
            return_log_prob=True,
        )
        critic = ValueOperator(self.value, in_keys=["observation"])
        self.advantage = GAE(gamma=config.discount, lmbda=config.ppo_lambda, value_network=critic)
        self.loss = ClipPPOLoss(actor, critic, clip_epsilon=config.ppo_clip, entropy_bonus=False, loss_critic_type="l2")
        self.loss.set_keys(action=ACTION, sample_log_prob=f"{ACTION}_log_prob")
        self.actor = actor
        rates = ((self.policy, config.ppo_rate), (self.value, config.ppo_critic_rate))
        groups = [{"params": list(part.parameters()), "lr": rate} for part, rate in rates]
        self.optimizer = torch.optim.Adam(groups, fused=True)
        self.iterations = 0

    @property
    def frames(self) -> int:
        """Environment frames collected so far."""
        config = self.config
        return self.iterations * config.ppo_envs * config.ppo_steps * self.practice.spec.action_repeat

    def run_round(self, bar: tqdm[Any]) -> None:
        """Collect and learn for `ppo_every` iterations."""
        config = self.config
        # Each simulator adds its index to it, and a sum of 2**32 or more would be refused.
        seed = ((self.seed + 1) * 1_000_000 + self.frames) % 2**31
        simulators = self.practice.simulators(config.ppo_envs, seed, self.frames)
        try:
            for _ in range(config.ppo_every):
                self.learn(self.collect(simulators))
                bar.update(config.ppo_envs * config.ppo_steps * self.practice.spec.action_repeat)
        finally:
            simulators.close()

    @torch.no_grad()
    def collect(self, simulators: Simulators) -> TensorDict:
        """Play `ppo_steps` steps (N, T) of every simulator by the policy as it is."""
        steps = []
        for _ in range(self.config.ppo_steps):
            seen = torch.from_numpy(simulators.observation.copy())
            chosen = self.actor(TensorDict({"observation": seen}, [len(seen)]))
            following, reward, done, terminated = map(torch.from_numpy, simulators.step(chosen[ACTION].tanh().numpy()))
            after = {"observation": following, "reward": (1 - self.config.discount) * reward[:, None]}  # values near 1
            after |= {"done": done[:, None], "terminated": terminated[:, None]}
            steps.append(chosen.set("next", TensorDict(after, chosen.batch_size)))
        return torch.stack(steps, dim=1)

    def learn(self, played: TensorDict) -> None:
        """Update policy and critic on steps (N, T); in the first iterations the critic alone."""
        config = self.config
        for part in (*self.actor_net.modules(), self.value.scaling):
            if isinstance(part, Scaling):
                part.settle(played["observation"])
        with torch.no_grad():
            self.advantage(played)
        flat = played.reshape(-1)
        advantage = flat["advantage"]
        flat["advantage"] = (advantage - advantage.mean()) / (advantage.std() + 1e-6)
        acting = self.iterations >= config.ppo_warmup
        for _ in range(config.ppo_epochs):
            for part in torch.randperm(len(flat)).split(config.ppo_batch):
                losses = self.loss(flat[part])
                acting = acting and float(losses["kl_approx"]) < config.ppo_kl
                self._descend(losses["loss_critic"] + (losses["loss_objective"] if acting else 0.0))
        self.iterations += 1
        self._bound_std()

    def _bound_std(self) -> None:
        config = self.config
        if config.ppo_last_std > 0:
            share = min(1.0, self.frames / config.ppo_frames)
            bound = config.ppo_std + share * (config.ppo_last_std - config.ppo_std)
            with torch.no_grad():
                self.policy.log_std.clamp_(max=math.log(bound))

    def _descend(self, loss: Tensor) -> None:
        loss.backward()
        for part in (self.policy, self.value):
            nn.utils.clip_grad_norm_(part.parameters(), 0.5)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def state(self) -> dict[str, Any]:
        """Return all that the next round depends on."""
        return {
            "seed": self.seed,
            "iterations": self.iterations,
            "policy": dict(self.policy.state_dict()),
            "value": dict(self.value.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "torch_rng": torch.get_rng_state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned; UserError when it belongs to another seed or size."""
        if state["seed"] != self.seed:
            raise UserError(f"the checkpoint is of seed {state['seed']}, not of seed {self.seed}")
        try:
            self.policy.load_state_dict(state["policy"])
            self.value.load_state_dict(state["value"])
        except RuntimeError as error:
            raise UserError("the checkpoint's networks have another size: choose another out=") from error
        self.optimizer.load_state_dict(state["optimizer"])
        rates = (self.config.ppo_rate, self.config.ppo_critic_rate)  # not what it was stopped with
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self.iterations = state["iterations"]
        torch.set_rng_state(state["torch_rng"])


def _diagonal_normal(loc: Tensor, scale: Tensor) -> Independent:
    return Independent(Normal(loc, scale), 1)
