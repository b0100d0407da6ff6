"""A round's episodes, played into the replay between its batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch.utilities.exceptions import SIGTERMException
from tensordict import TensorDict

from vmil.config.learners import collects, lead_in, sees_stacks
from vmil.config.schema import Config
from vmil.data.collect import Collects, LearnerPolicy
from vmil.data.footprint import collected_env
from vmil.data.pace import Pace
from vmil.data.ranks import Rank, gathered
from vmil.data.replay import Replay
from vmil.data.tally import Tally
from vmil.errors import EnvError, UserError
from vmil.system.generators import global_states, set_global_states


class RoundCollector:
    """Plays this rank's part of a round, and says when one more batch may be drawn.

    make: a collector of a policy for a run that has collected so many frames.
    """

    def __init__(
        self,
        config: Config,
        make: Callable[[LearnerPolicy | None, int], Collects],
        policy: LearnerPolicy | None,
        replay: Replay,
        pace: Pace,
        rank: Rank,
    ) -> None:
        self.collector, self.tally = make(policy, 0), Tally()  # of the running round
        self._make, self._played = make, collected_env(config, 0)
        self._config, self._replay, self._pace, self._rank = config, replay, pace, rank
        self._shortest = config.training.batch_length - lead_in(config)
        self._gone = False  # whether the collector was closed and must be made anew
        self._sliceable: bool | None = None  # see _can_slice; None: not known since the replay has changed

    def begin_round(self) -> None:
        """Asks for the next round's frames and batches."""
        self._pace.begin_round()
        self._suit_round()
        self.tally = Tally()

    def earned(self) -> bool:
        """Whether one more of the round's batches can and may be made now; UserError if none ever can."""
        if not self._pace.earned:
            return False
        if self._pace.goal == 0 or not collects(self._config) or self._can_slice():
            return True
        if self._pace.missing:
            return False
        raise UserError("every episode ended in fewer agent steps than training.batch_length: lower it")

    def play(self, on_frames: Callable[[int], None]) -> dict[str, float]:
        """Plays an episode, or as many as there are workers to play at once; returns the round's metrics so far.

        `on_frames(frames)` is called after every agent step with the frames that all ranks have collected so far; an
        exception that it raises breaks the episode off.
        """
        pace, started, own, before = self._pace, time.perf_counter(), 0, self._pace.frames
        if not collects(self._config):
            pace.frames = pace.goal
            return {}
        if self._gone:
            self._renew()
        self.collector.on_step = lambda frames: on_frames(pace.frames + frames * self._rank.count)
        pace.begin_wave()
        while pace.wave > 0 and pace.missing:
            episode = self._episode(self._random())
            frames = len(episode) * self._replay.frames_per_step
            self._replay.extend(episode)
            own += frames
            pace.frames += frames * self._rank.count  # as if the others did the same
            self.tally.add(float(episode["reward"].sum()), self.collector.scores, self.collector.seconds)
            pace.wave -= 1
        pace.wave = 0
        if self._rank.count > 1:
            pace.frames = before + sum(gathered(own))
        self._sliceable = None
        self.collector.overlap(self._random() if pace.frames < self._config.training.frames else None)
        self.tally.add_seconds({"time/collect": time.perf_counter() - started})
        return self._metrics()

    def let_go(self) -> None:
        """Closes the collector's environment until the next episode."""
        self.collector.close()
        self._gone = True

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint, beside the pace's and the replay's."""
        return {"tally": self.tally.state_dict(), "collector": self.collector.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self._suit_round()
        self.collector.load_state_dict(state["collector"])
        self.tally = Tally(**state["tally"])
        self._sliceable = None

    def _suit_round(self) -> None:
        """Changes to a collector whose episodes are as long as the running round asks, if this one's are not."""
        played = collected_env(self._config, self._pace.begun_at)
        if played != self._played:
            self._played = played
            self._renew()

    def _renew(self) -> None:
        """Goes on with a new collector; neither the old one's state nor any shared one changes."""
        own, shared = self.collector.state_dict(), global_states()
        self.collector.close()
        self.collector, self._gone = self._make(self.collector.policy, self._pace.begun_at), False
        self.collector.load_state_dict(own)
        set_global_states(shared)

    def _random(self) -> bool:
        """Whether the next episode is one of uniform actions."""
        return self._pace.frames < self._config.training.seed_frames

    def _can_slice(self) -> bool:
        """Whether a sequence fits into an episode of every rank's replay: the ranks go on together."""
        if self._sliceable is None:
            ends = sees_stacks(self._config)
            fits = any(span.length + (ends and span.terminated) >= self._shortest for span in self._replay.spans)
            self._sliceable = fits if self._rank.count == 1 else all(gathered(int(fits)))
        return self._sliceable

    def _episode(self, random: bool) -> TensorDict:
        """The next episode. If the run is asked to stop, or the environment fails, the resumed run plays it anew."""
        own, shared = self.collector.state_dict(), global_states()
        try:
            return self.collector.collect_episode(random)
        except (SIGTERMException, EnvError):
            self.collector.load_state_dict(own)
            set_global_states(shared)
            raise

    def _metrics(self) -> dict[str, float]:
        return {
            **self.tally.metrics(),
            "collect/episodes": float(self.collector.episode),
            "replay/frames": float(self._replay.frames),  # of this rank
            "replay/episodes": float(self._replay.episodes),
        }
