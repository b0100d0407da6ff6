"""Several episodes at once, in other processes or on other machines, handed out one by one in their order."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from vmil.config.learners import collects
from vmil.config.schema import CollectorConfig, Config
from vmil.data.collect import Collects, EpisodeCollector, LearnerPolicy, whole_episode
from vmil.data.footprint import collected_env
from vmil.data.players import Player, Report
from vmil.data.worker_pool import EpisodeSpec, LostWorkersError, WorkerPool
from vmil.envs.factory import env_info, make_env
from vmil.errors import EnvError, NonFiniteError, UserError

log = logging.getLogger(__name__)


def make_collector(
    config: Config, env_seed: int, seed: int, policy: LearnerPolicy | None = None, frames: int = 0
) -> Collects:
    """What `config.collector` asks for: alone in this process, or with workers that begin when first needed.

    env_seed: of the episodes; seed: of the random actions; frames: those that the run has collected, on which the
    length of its episodes may depend.
    """
    played = collected_env(config, frames)
    info = env_info(played)
    if not collects(config) or config.collector.backend == "direct":
        return EpisodeCollector(make_env(played, env_seed), info.steps_per_episode, info.frames_per_step, seed, policy)
    spec = EpisodeSpec(partial(make_env, played, env_seed), info.steps_per_episode)
    return ParallelCollector(config.collector, spec, seed, config.env.proprio, policy)


class Played(NamedTuple):
    """An episode that a worker has played, and its report."""

    episode: TensorDict
    report: Report


class ParallelCollector:
    """As `EpisodeCollector`, but `config.workers` episodes are played at once: a wave.

    Episode i starts from the environment's i-th initial state and its random numbers derive from (seed, i) alone,
    whoever plays it and whichever others are played: what is collected does not depend on the number of workers. So an
    episode that was played ahead counts only if the policy has not changed since; else it is played again.

    With `config.overlap` a wave is played while the learner learns from the one before, by the policy from before that
    learning. Which policy that was is part of the state: a resumed run has the same wave played by it.
    """

    def __init__(
        self,
        config: CollectorConfig,
        spec: EpisodeSpec,
        seed: int,
        proprio: bool,
        policy: LearnerPolicy | None = None,
    ) -> None:
        self.policy = policy
        self.episode = 0  # index of the next episode
        self.on_step: Callable[[int], None] | None = None  # called several times a second, with no frames
        self.scores: dict[str, float] = {}
        self.seconds: dict[str, float] = {}
        self._config, self._spec, self._seed, self._proprio = config, spec, seed, proprio
        self._pool: WorkerPool | None = None
        self._ahead: deque[Played] = deque()
        self._player: dict[str, Tensor] | None = None  # the state of the player of the episodes ahead
        self._begun = False  # whether the workers are playing them

    def collect_episode(self, random: bool = False) -> TensorDict:
        """The next whole episode (time,).

        Raises:
            NonFiniteError: an observation, a reward or an action in it is non-finite (NaN or inf).
            EnvError: the environment failed.
            UserError: workers were lost twice in a row.
        """
        self._choose_player(random)
        if not self._ahead:
            self._ahead = deque(self._play())
        episode, report = self._ahead.popleft()
        self.episode += 1
        self.scores, self.seconds = report.scores, report.seconds
        return episode

    def overlap(self, random: bool | None) -> None:
        """Says that the learner is about to learn: if so configured, the next wave begins, by the current policy.

        random: as in `collect_episode`; None: no more episodes are wanted.
        """
        if not self._config.overlap:
            return
        self._ahead.clear()  # a resumed run may have played more than were wanted
        self._player = None
        if random is not None:
            self._player = self._new_player(random).state_dict()
            self._begin()

    def state_dict(self) -> dict[str, Any]:
        """Which episode comes next and, if that was fixed before the learner went on, the policy that plays it."""
        settled = self._config.overlap and self._player is not None
        return {"episode": self.episode, **({"player": self._player} if settled else {})}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        if self._begun:  # playing other episodes
            self._end_pool()
        self.episode, self._player = state["episode"], state.get("player")
        self._ahead.clear()

    def close(self) -> None:
        """Ends the workers; may be called twice, and `state_dict` still works."""
        self._end_pool()

    def _end_pool(self) -> None:
        if self._pool is not None:
            self._pool.close()
        self._pool, self._begun = None, False

    def _new_player(self, random: bool) -> Player:
        if self.policy is None:
            raise RuntimeError("ParallelCollector has no policy")
        player = Player(self.policy.portable(), self._seed, self._proprio)
        player.orders[1] = random
        return player

    def _choose_player(self, random: bool) -> None:
        """Keeps the player that was chosen before the learner went on, or whose weights are still the policy's."""
        if self._config.overlap and self._player is not None and bool(self._player["orders"][1]) == random:
            return
        state = self._new_player(random).state_dict()
        if self._player is None or not _same(state, self._player):
            if self._begun:  # with another player
                self._end_pool()
            self._ahead.clear()
            self._player = state

    def _play(self) -> list[Played]:
        played = []
        for number, rollout in enumerate(self._rollouts(), self.episode):
            report: Report = rollout["report"]
            if report.trace:
                broken = EnvError(report.failure)
                broken.add_note(f"In a worker:\n{report.trace}")
                raise broken
            if report.failure:
                raise NonFiniteError(report.failure, report.evidence)
            played.append(Played(whole_episode(rollout, number).clone(), report))
        return played

    def _begin(self) -> None:
        assert self._player is not None
        orders = self._player["orders"].clone()
        orders[0] = self.episode
        if self._pool is None:
            self._pool = WorkerPool(self._config, self._spec, self._new_player(bool(orders[1])))
        self._pool.begin({**self._player, "orders": orders})
        self._begun = True

    def _rollouts(self) -> list[TensorDictBase]:
        lost: LostWorkersError | None = None
        for _ in range(2):
            if not self._begun:
                self._begin()
            assert self._pool is not None
            self._begun = False
            try:
                return list(self._pool.finish(self._tick).unbind(0))
            except LostWorkersError as error:
                if lost is None:
                    log.warning("the collector's workers %s; they are started once more", error)
                lost = error
                self._pool = None
            except BaseException:
                self._pool = None
                raise
        last = self.episode + self._config.workers - 1
        raise UserError(
            f"the collector's workers were lost twice at episodes {self.episode} to {last}: they {lost}; "
            "see any worker output above; collector.backend=direct collector.workers=1 avoids worker processes"
        ) from lost

    def _tick(self) -> None:
        if self.on_step is not None:
            self.on_step(0)


def _same(state: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return state.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in state.items())
