"""The learner of SAC from state, built from TorchRL's environment, collector, replay buffer, loss and target updater.

One *round* is what lies between two checkpoints: collect and learn for `eval_every` frames. It starts with freshly
seeded episodes, so that everything it depends on fits in a checkpoint and a resumed run is the same run.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, MultiStep, TensorDictReplayBuffer
from torchrl.envs import CatTensors, Compose, DMControlEnv, DoubleToFloat, TransformedEnv
from torchrl.modules import NormalParamExtractor, ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import SACLoss, SoftUpdate
from tqdm import tqdm

from vmil.config.schema_expert import ExpertConfig
from vmil.config.schema_ppo import PPO_NAMES
from vmil.errors import UserError
from vmil.experts.actor import ActorSpec, make_actor_net
from vmil.experts.state_task import describe_task
from vmil.experts.suite_practice import SuitePractice

REPLAY_KEYS = (
    "observation",
    "action",
    ("next", "observation"),
    ("next", "reward"),
    ("next", "done"),
    ("next", "terminated"),
    "steps_to_next_obs",  # agent steps between `observation` and `next`, whose rewards are summed
)


def make_state_env(spec: ActorSpec) -> TransformedEnv:
    """Return the task with one float32 `observation` (obs_dim,); rewards are summed over the action repeat."""
    return TransformedEnv(
        DMControlEnv(spec.domain, spec.task, frame_skip=spec.action_repeat),
        Compose(CatTensors(list(spec.obs_keys), "observation", sort=False), DoubleToFloat()),
    )


class Critic(nn.Module):
    """Q(observation, action), (B, 1); LayerNorm keeps it from diverging at a high learning rate (arXiv:2302.02948)."""

    def __init__(self, spec: ActorSpec) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(spec.obs_dim + spec.action_dim, spec.hidden),
            nn.LayerNorm(spec.hidden),
            nn.ReLU(),
            nn.Linear(spec.hidden, spec.hidden),
            nn.LayerNorm(spec.hidden),
            nn.ReLU(),
            nn.Linear(spec.hidden, 1),
        )

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return the value (B, 1)."""
        value: Tensor = self.net(torch.cat([observation, action], -1))
        return value


def make_actor(net: nn.Module, env: TransformedEnv) -> ProbabilisticActor:
    """Wrap the network as a tanh-normal policy that shares its weights."""
    return ProbabilisticActor(
        TensorDictModule(nn.Sequential(net, NormalParamExtractor(scale_lb=1e-3)), ["observation"], ["loc", "scale"]),
        in_keys=["loc", "scale"],
        spec=env.action_spec,
        distribution_class=TanhNormal,
    )


def make_loss(config: ExpertConfig, spec: ActorSpec, actor: ProbabilisticActor, env: TransformedEnv) -> SACLoss:
    """Return twin critics, actor and temperature under one loss."""
    loss = SACLoss(
        actor,
        ValueOperator(Critic(spec), in_keys=["observation", "action"]),
        loss_function="l2",
        alpha_init=config.init_temperature,
        action_spec=env.action_spec,
        target_entropy=config.target_entropy * spec.action_dim,
    )
    loss.make_value_estimator(gamma=config.discount)
    return loss


def make_lookahead(config: ExpertConfig) -> MultiStep:
    """What turns a stretch of steps (T,) into transitions of up to `return_steps`; none crosses an episode's end."""
    lookahead = MultiStep(gamma=config.discount, n_steps=config.return_steps)
    lookahead.done_keys = ["done"]  # `terminated` is said of the state that is bootstrapped from, so it moves with it
    return lookahead


class SACAgent:
    """Everything that learns, and the replay buffer; `state` and `load` are the checkpoint.

    `stages` tells with which settings it learnt from which frame on: a resumed run may have others.
    """

    def __init__(self, config: ExpertConfig, domain: str, task: str, seed: int) -> None:
        if config.eval_every % config.collect_frames or config.collect_frames % config.action_repeat:
            raise UserError("eval_every must be a multiple of collect_frames, and that one of action_repeat")
        torch.manual_seed(seed)
        self.config, self.seed = config, seed
        self.spec = describe_task(domain, task, config.hidden, config.action_repeat)
        self.practice = SuitePractice(self.spec)
        self.env = make_state_env(self.spec)
        self.actor_net = make_actor_net(self.spec)
        self.actor = make_actor(self.actor_net, self.env)
        self.loss = make_loss(config, self.spec, self.actor, self.env)
        self.target = SoftUpdate(self.loss, tau=config.target_rate)
        self.optimizer = torch.optim.Adam(self.loss.parameters(), lr=config.learning_rate, fused=True)
        storage = LazyTensorStorage(config.frames // config.action_repeat)
        self.replay = TensorDictReplayBuffer(storage=storage, batch_size=config.batch_size)
        self.lookahead = make_lookahead(config)
        self.frames = 0
        self.stages: list[dict[str, Any]] = [{"frames": 0, "settings": _learning(config)}]

    def update(self, batch: TensorDictBase) -> TensorDictBase:
        """Take one step of actor, critics, temperature and target; return the losses."""
        losses: TensorDictBase = self.loss(batch)
        # SACLoss detaches across its three parts, so one backward pass and one optimiser serve them all.
        (losses["loss_actor"] + losses["loss_qvalue"] + losses["loss_alpha"]).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.target.step()
        return losses

    def run_round(self, bar: tqdm[Any]) -> None:
        """Collect and learn for `eval_every` frames."""
        config, end = self.config, self.frames + self.config.eval_every
        collector = self._start_collector()
        for batch in collector:
            self.replay.extend(self.lookahead(batch).select(*REPLAY_KEYS).reshape(-1))
            due = -updates_due(self.frames, config)
            self.frames += config.collect_frames
            due += updates_due(self.frames, config)
            if self.frames >= config.random_frames:
                for _ in range(due):
                    self.update(self.replay.sample())
            bar.update(config.collect_frames)
            if self.frames >= end:
                break
        collector.shutdown(close_env=False)

    def _start_collector(self) -> Collector:
        repeat = self.config.action_repeat
        self.env.set_seed((self.seed + self.frames) % 2**32)
        return Collector(
            lambda: self.env,
            self.actor,
            frames_per_batch=self.config.collect_frames // repeat,
            total_frames=-1,
            init_random_frames=max(0, self.config.random_frames - self.frames) // repeat,
            auto_register_policy_transforms=False,
        )

    def state(self) -> dict[str, Any]:
        """Return all that the next round depends on; of the replay buffer, the filled part."""
        stored = self.replay[:]
        return {
            "seed": self.seed,
            "spec": asdict(self.spec),
            "frames": self.frames,
            "loss": dict(self.loss.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "replay": {str(i): stored[key] for i, key in enumerate(REPLAY_KEYS)},
            "torch_rng": torch.get_rng_state(),
            "stages": self.stages,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned; UserError when it belongs to another task, seed or size."""
        if (state["seed"], ActorSpec(**state["spec"])) != (self.seed, self.spec):
            raise UserError(
                f"the checkpoint is of seed {state['seed']}, {state['spec']}, not of seed {self.seed}, {self.spec}"
            )
        entropy = self.loss.target_entropy.clone()  # a buffer; not what it was stopped with
        self.loss.load_state_dict(state["loss"])
        self.loss.target_entropy.copy_(entropy)
        self.optimizer.load_state_dict(state["optimizer"])
        columns = {key: state["replay"][str(i)] for i, key in enumerate(REPLAY_KEYS)}
        self.replay.extend(TensorDict(columns, [len(columns["action"])]))
        self.frames = state["frames"]
        torch.set_rng_state(state["torch_rng"])
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate  # not what it was stopped with
        own = _learning(self.config)
        self.stages = state["stages"]
        if self.stages[-1]["settings"] != own:
            self.stages = [*self.stages, {"frames": self.frames, "settings": own}]


def updates_due(frames: int, config: ExpertConfig) -> int:
    """Updates that go with so many frames, since the first: fractions of one burst are not lost to the next."""
    return int(frames // config.action_repeat * config.updates_per_step)


def _learning(config: ExpertConfig) -> dict[str, Any]:
    """The settings that decide what SAC learns, not how long."""
    others = {"frames", "target_return", *PPO_NAMES}
    return {name: value for name, value in asdict(config).items() if name not in others}
