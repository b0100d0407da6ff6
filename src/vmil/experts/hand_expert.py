"""Baoding's expert, whether it plans or has learnt: an episode with it in control, and what it scores."""

from __future__ import annotations

import json
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from tqdm import tqdm

from vmil.config.schema import EnvConfig
from vmil.envs.baoding import BaodingEnv
from vmil.envs.baoding_task import SHARE_ON_TARGET
from vmil.envs.episodes import seed_from
from vmil.evaluation.scores import Score
from vmil.experts.expert import FINAL_SEED, RECORDING_SEED, EpisodicExpert
from vmil.experts.hand_measurement import (
    Measurement,
    Settings,
    check_measured,
    measured_kind,
    read_measurement,
    summary,
)
from vmil.system import machine
from vmil.system.arrays import Floats, Floats32
from vmil.system.files import write_atomically
from vmil.system.provenance import versions


class Planner(Protocol):
    """Chooses actions for one environment, one episode after the other."""

    @property
    def settings(self) -> Settings:
        """What made it: of a planner, all that its actions depend on besides the seed."""

    @property
    def weights(self) -> Path | None:
        """The file that its networks were read from, where it has any."""

    @property
    def curve(self) -> Sequence[Mapping[str, Any]]:
        """Of the training behind it, where there is one."""

    def begin(self, seed: int) -> None:
        """Forget the last episode; `seed` decides the noise of the next."""

    def act(self, env: BaodingEnv) -> Floats:
        """The action (24,) for the environment as it is now."""

    def close(self) -> None:
        """Free what it holds."""


class HandExpert(EpisodicExpert):
    """A planner, or a policy in its place, one control step after the other; a subclass says which, and who it is."""

    one_step_tolerance: ClassVar[float] = 1e-9  # 0 was observed
    holds_warm_start: ClassVar[bool] = True
    retrainable: ClassVar[bool] = False  # once trained further, it may be measured anew under other settings

    def __init__(self, config: EnvConfig, planner: Planner, provenance: Path, give_up: bool) -> None:
        """Takes the planner over, and closes it.

        provenance: the `expert.json` that `measure_expert` wrote, for the card. give_up: an episode that cannot succeed
        any more is over, which saves its planning.
        """
        self.env, self.planner = BaodingEnv(config, RECORDING_SEED), planner
        super().__init__(self.env)
        self.settings = planner.settings
        self._provenance, self._give_up = provenance, give_up
        self._misses = 0
        # A control step takes a good part of a second: a bar of its own, below that of the episodes.
        steps = config.episode_frames // config.action_repeat
        self._bar = tqdm(total=steps, unit="step", position=1, leave=False, disable=None)

    def begin(self, seed: int) -> None:
        """Start the environment's episode of that index, with noise of the planner's own."""
        super().begin(seed)
        self.planner.begin(seed_from(RECORDING_SEED, seed))
        self._misses = 0
        self._bar.reset()

    def decide(self) -> Floats32:
        """Choose the action of this control step."""
        action: Floats32 = self.planner.act(self.env).astype(np.float32)
        return action

    def execute(self, action: Floats32) -> float:
        """Take one control step."""
        reward = super().execute(action)
        self._misses += self.action_repeat - round(reward)
        self._bar.set_postfix(off_target=self._misses, lost=self.env.lost, refresh=False)
        self._bar.update()
        return reward

    @property
    def over(self) -> bool:
        """Whether the episode has ended, or need not go on."""
        return self.env.over or (self._give_up and self._hopeless)

    @property
    def _hopeless(self) -> bool:
        return self.env.lost or self._misses > (1 - SHARE_ON_TARGET) * self.env.config.episode_frames

    def scores(self) -> dict[str, float]:
        """The environment's; of an episode that was given up, that it failed."""
        return super().scores() if self.env.over else {"success": 0.0}

    @property
    def weights(self) -> list[Path]:
        """The files of its networks."""
        return [] if self.planner.weights is None else [self.planner.weights]

    def files(self) -> list[Path]:
        """The networks' weights, and the measurement, where there is one."""
        return self.weights + ([self._provenance] if self.measured() else [])

    @abstractmethod
    def identity(self) -> str:
        """Digest of what decides its actions besides the seed."""

    @abstractmethod
    def what(self) -> str:
        """What chooses the actions, as the subject of a sentence on the card."""

    def about(self) -> list[str]:
        """Its settings and, where it was measured, its scores."""
        lines = [
            f"- {self.what()}, which reads the true state: {_listed(self.settings)}.",
            "- An episode was given up, and left out, as soon as a ball was dropped or more than a quarter of the "
            f"control steps was off target.{self._about_noise()}",
            "- Each ball starts up to 3 mm from its place in every direction.",
        ]
        if made := self.measured():
            lines += self._about_training(made)
            if note := made.get("note"):
                lines.append(f"- {note}")
            lines.append(
                f"- Measured by `make expert ENV={made['env']}` on whole episodes {FINAL_SEED} ff., none of them a "
                f"demonstration: **{summary(made)}**, {np.mean(made['seconds']):.1f} s each on a machine with "
                f"{made['machine']}, settings {_listed(made['planner'])}."
            )
        return lines

    def _about_noise(self) -> str:
        return ""

    def _about_training(self, made: Measurement) -> list[str]:
        return []

    def measured(self) -> Measurement | None:
        """What `measure_expert` wrote; None if it is another kind of expert's, or not there."""
        made = read_measurement(self._provenance)
        return made if made is not None and measured_kind(made) == self.kind else None

    def close(self) -> None:
        """Close environment and planner."""
        self._bar.close()
        super().close()
        self.planner.close()


def _listed(settings: Settings) -> str:
    return " ".join(f"{name}={value}" for name, value in settings.items())


def measure_expert(expert: HandExpert, path: Path, episodes: int, note: str = "") -> Score:
    """Play whole episodes and write what they score to `path`, after each; those that it holds are not repeated.

    note: written along. UserError when it holds episodes of other settings.
    """
    made = _open_measurement(expert, path)
    made["note"] = note
    path.parent.mkdir(parents=True, exist_ok=True)
    with tqdm(total=episodes, initial=min(len(made["returns"]), episodes), unit="episode", disable=None) as bar:
        while len(made["returns"]) < episodes:
            started = time.monotonic()
            total = _play(expert, FINAL_SEED + len(made["returns"]))
            made["returns"].append(total)
            made["scores"].append(expert.scores())
            made["seconds"].append(round(time.monotonic() - started, 1))
            write_atomically(path, f"{json.dumps(made, indent=1)}\n".encode())
            bar.update()
    return summary(made)


def _open_measurement(expert: HandExpert, path: Path) -> Measurement:
    """The one that `path` holds, or a new one, where it holds none or the expert was trained further since."""
    made, curve = read_measurement(path), list(expert.planner.curve)
    further = made is not None and made.get("curve") != curve
    if not (further and expert.retrainable):
        check_measured(path, expert.settings)
    if made is not None and not further:
        return made
    return {
        "env": expert.env.config.name,
        "planner": expert.settings,
        "curve": curve,
        "returns": [],
        "scores": [],
        "seconds": [],
        "machine": machine.in_words(),
        "versions": versions("mujoco", "gymnasium-robotics"),
    }


def _play(expert: HandExpert, seed: int) -> float:
    expert.begin(seed)
    total = 0.0
    while not expert.over:
        total += expert.execute(expert.decide())
    return total
