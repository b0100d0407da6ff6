"""The agent acts: whole episodes through TorchRL's collector."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.collectors import Collector

from vmil.envs.episodes import EpisodicEnv


class Policy(Protocol):
    """What acts: stateful, N environments at once, resetting its state in the rows where `is_first`."""

    def __call__(self, image: Tensor, proprio: Tensor | None, is_first: Tensor) -> Tensor:
        """(N, H, W, 3) uint8, (N, P) float32 or None, (N,) bool -> actions (N, A) float32 in [-1, 1]."""
        ...


class LearnerPolicy(Policy, Protocol):
    """A learner's policy: acts by the learner's own networks, and can also act in other processes than its."""

    def networks(self) -> dict[str, nn.Module]:
        """Those that it acts with, by name, and no other."""
        ...

    def portable(self) -> nn.Module:
        """A copy on the CPU, as it is now: called as a Policy, can be pickled, its state is all that it acts by."""
        ...


class Collects(Protocol):
    """A source of whole episodes, in one process or in several; attributes as `EpisodeCollector`'s."""

    policy: LearnerPolicy | None
    episode: int
    on_step: Callable[[int], None] | None
    scores: dict[str, float]
    seconds: dict[str, float]

    def collect_episode(self, random: bool = False) -> TensorDict:
        """The next whole episode (time,)."""
        ...

    def overlap(self, random: bool | None) -> None:
        """Says that the learner is about to learn: episodes may begin beside it. None: no more are wanted."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Which episode comes next, and the random states."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        ...

    def close(self) -> None:
        """May be called twice, and `state_dict` still works."""
        ...


@contextmanager
def one_thread() -> Iterator[None]:
    """Keeps torch to one CPU thread: on single observations, handing work around takes longer than doing it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class EpisodeActor:
    """Begins an episode and takes its actions; after its end the environment is at rest until the next one.

    generator: of uniform actions; None: torch's global one.
    """

    def __init__(self, env: EpisodicEnv, episode: int, generator: torch.Generator | None = None) -> None:
        env.play_once(episode)
        self.steps = 0  # agent steps so far
        self._env, self._generator = env, generator
        self._acting, self._started, self._rendered = 0.0, time.perf_counter(), env.render_seconds

    @property
    def over(self) -> bool:
        """Whether the episode has ended early."""
        return self._env.over

    def act(self, policy: Policy | None, image: Tensor, proprio: Tensor | None) -> Tensor:
        """The action (A,) for what is seen, (H, W, 3) uint8 and perhaps (P,); policy None: a uniform one."""
        started, size = time.perf_counter(), self._env.action_spec.shape
        if self.over:
            return torch.zeros(size)
        if policy is None:
            action = 2 * torch.rand(size, generator=self._generator) - 1
        else:
            vector = None if proprio is None else proprio.unsqueeze(0)
            is_first = torch.tensor([self.steps == 0])
            action = policy(image.unsqueeze(0), vector, is_first)[0].to("cpu", torch.float32)
        self.steps += 1
        self._acting += time.perf_counter() - started
        return action

    def scores(self) -> dict[str, float]:
        """What the episode scored besides its return, once it is over."""
        return dict(self._env.last_scores)

    def seconds(self) -> dict[str, float]:
        """Where the time since its beginning went."""
        elapsed, rendering = time.perf_counter() - self._started, self._env.render_seconds - self._rendered
        return {"time/act": self._acting, "time/render": rendering, "time/env": elapsed - self._acting - rendering}


class EpisodeCollector:
    """Collects one whole episode at a time; episode i starts from the environment's i-th initial state, whoever asks.

    steps: agent steps of an episode at most; frames_per_step: frames each of them takes. The policy may be changed
    between episodes by assigning `policy`. `on_step(frames)` is called at every agent step with the running episode's
    frames so far.
    """

    def __init__(
        self, env: EpisodicEnv, steps: int, frames_per_step: int, seed: int, policy: LearnerPolicy | None = None
    ) -> None:
        self.policy = policy
        self.episode = 0  # index of the next episode
        self.on_step: Callable[[int], None] | None = None
        self.scores: dict[str, float] = {}  # of the last episode, besides its return; in no batch
        self.seconds = {"time/act": 0.0, "time/render": 0.0, "time/env": 0.0}  # of the last episode
        self._env, self._frames_per_step = env, frames_per_step
        self._generator = torch.Generator().manual_seed(seed)  # of random actions
        self._random = False
        self._actor: EpisodeActor  # of the running episode
        env.rest()  # TorchRL resets it when the collector is made
        observations = ["image"] + (["proprio"] if env.config.proprio else [])
        self._collector = Collector(
            env,
            TensorDictModule(self._act, in_keys=observations, out_keys=["action"]),
            backend="direct",
            frames_per_batch=steps,
            total_frames=-1,
            reset_at_each_iter=True,
            pre_collect_hook=self._open_episode,
            compact_obs=True,  # next observations are not stored twice
            use_buffers=False,  # with buffers TorchRL tries the policy out, which would consume its random numbers
            track_traj_ids=False,  # episodes are numbered here, and go on counting after a resume
            auto_register_policy_transforms=False,
        )
        self._rollouts: Iterator[TensorDictBase] = iter(self._collector)

    def collect_episode(self, random: bool = False) -> TensorDict:
        """The next whole episode (time,); its last observation, which has no action, is left out."""
        if self.policy is None and not random:
            raise RuntimeError("EpisodeCollector has no policy")
        self._random = random
        with one_thread():
            rollout = next(self._rollouts)
        self.seconds, self.scores = self._actor.seconds(), self._actor.scores()
        episode = whole_episode(rollout, self.episode)
        self.episode += 1
        return episode

    def overlap(self, random: bool | None) -> None:
        """Does nothing: a single process takes turns playing and learning."""

    def _open_episode(self) -> None:
        """Before each episode's reset."""
        self._actor = EpisodeActor(self._env, self.episode, self._generator)

    def _act(self, image: Tensor, proprio: Tensor | None = None) -> Tensor:
        action = self._actor.act(None if self._random else self.policy, image, proprio)
        if self.on_step is not None and not self._actor.over:
            self.on_step(self._actor.steps * self._frames_per_step)
        return action

    def state_dict(self) -> dict[str, Any]:
        """Which episode comes next, and the random actions' generator."""
        return {"episode": self.episode, "generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken; that of worker processes, which it may replace, has no generator."""
        self.episode = state["episode"]
        if "generator" in state:
            self._generator.set_state(state["generator"])

    def close(self) -> None:
        """Closes the environment too; may be called twice, and `state_dict` still works."""
        self._collector.shutdown()


def whole_episode(rollout: TensorDictBase, number: int) -> TensorDict:
    """Episode `number` as the replay stores it, (time,), from what TorchRL collected since its reset, (steps,).

    One that ended early is cut there: TorchRL goes on, with an environment at rest, until its batch is full.
    """
    length = int(rollout["next", "done"].flatten().nonzero()[0]) + 1
    kept = rollout[:length]
    t = torch.arange(length)
    episode = {key: kept[key] for key in ("image", "proprio", "action") if key in set(kept.keys())}
    episode |= {"reward": kept["next", "reward"].squeeze(-1), "t": t, "is_first": t == 0}
    episode |= {"terminated": kept["next", "terminated"].squeeze(-1)}
    episode |= {"episode": torch.full((length,), number)}
    return TensorDict(episode, [length])
