"""The expert that plans: an episode of baoding with a planner in control, and what it scores."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from tqdm import tqdm

from vmil.config.errors import UserError
from vmil.config.files import write_atomically
from vmil.config.schema import EnvConfig
from vmil.config.schema_planner import LearnedConfig, PlannerConfig
from vmil.config.schema_ppo import HandPolicyConfig
from vmil.data import machine
from vmil.envs.baoding import BaodingEnv
from vmil.envs.baoding_task import SHARE_ON_TARGET
from vmil.envs.episodes import seed_from
from vmil.evaluation.scores import Score, score
from vmil.experts.expert import RECORDING_SEED, Action, EpisodicExpert, Kind
from vmil.experts.plan import Planner, fitted
from vmil.experts.provenance import digest, sha256, versions

FINAL_SEED = 12_000  # episodes that measure it; demonstrations come from others


class PlannedExpert(EpisodicExpert):
    """MPPI, or a policy in its place, one control step after the other."""

    one_step_tolerance: ClassVar[float] = 1e-9  # 0 was observed
    holds_warm_start: ClassVar[bool] = True

    def __init__(
        self,
        config: EnvConfig,
        planner: Planner,
        settings: dict[str, Any],
        provenance: Path,
        give_up: bool,
        progress: bool = False,
        weights: Path | None = None,
    ) -> None:
        """Takes the planner over, and closes it.

        settings: what made the planner, and provenance: the `expert.json` that `measure_expert` wrote; for the card.
        give_up: an episode that cannot succeed any more is over, which saves its planning. weights: the file that the
        planner's networks were read from, if it has any.
        """
        self.env, self.planner = BaodingEnv(config, RECORDING_SEED), planner
        super().__init__(self.env)
        self.kind: Kind = "ppo" if settings.get("method") == "ppo" else "planned"
        self.settings, self._provenance, self._give_up = settings, provenance, give_up
        self._weights = [weights] if weights else []
        self._misses = 0
        # A control step takes a good part of a second: a bar of its own, below that of the episodes.
        steps = config.episode_frames // config.action_repeat
        self._bar = tqdm(total=steps, unit="step", position=1, leave=False, disable=not progress)

    def begin(self, seed: int) -> None:
        """Start the environment's episode of that index, with noise of the planner's own."""
        super().begin(seed)
        self.planner.begin(seed_from(RECORDING_SEED, seed))
        self._misses = 0
        self._bar.reset()

    def decide(self) -> Action:
        """Plan this control step."""
        action: Action = self.planner.act(self.env).astype(np.float32)
        return action

    def execute(self, action: Action) -> float:
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

    def files(self) -> list[Path]:
        """The networks' weights, and the measurement, where there is one."""
        return self._weights + ([self._provenance] if self._measurement() else [])

    def identity(self) -> str:
        """Of the weights and, of a planner, the settings; what a policy was trained with changes nothing any more."""
        settings = "ppo" if self.kind == "ppo" else json.dumps(self.settings, sort_keys=True)
        return digest(settings, *(sha256(path) for path in self._weights))

    def about(self) -> list[str]:
        """Its settings and, where it was measured, its scores."""
        listed = " ".join(f"{name}={value}" for name, value in self.settings.items())
        lines = [
            f"- {self._what}, which reads the true state: {listed}.",
            "- An episode was given up, and left out, as soon as a ball was dropped or more than a quarter of the "
            "control steps was off target."
            + (" The noise of the planner derives from the demonstration's seed." if self.kind == "planned" else ""),
            "- Each ball starts up to 3 mm from its place in every direction.",
        ]
        if made := self._measurement():
            if self.kind == "ppo":
                lines.append(_training(made["curve"]))
            if made.get("note"):
                lines.append(f"- {made['note']}")
            lines.append(
                f"- Measured by `make expert ENV={made['env']}` on whole episodes {FINAL_SEED} ff., none of them a "
                f"demonstration: **{summary(made)}**, {np.mean(made['seconds']):.1f} s each on a machine with "
                f"{made['machine']}, settings {' '.join(f'{name}={value}' for name, value in made['planner'].items())}."
            )
        return lines

    def _measurement(self) -> dict[str, Any]:
        """What `measure_expert` wrote; nothing if it is another kind of expert's, or not there."""
        if not self._provenance.exists():
            return {}
        made: dict[str, Any] = json.loads(self._provenance.read_text())
        return made if made["planner"].get("method") == self.settings.get("method") else {}

    @property
    def _what(self) -> str:
        if self.kind == "ppo":
            return "The mode of a policy that PPO taught in the simulator (`vmil.experts.hand_policy`)"
        through = "a learned ensemble" if self.settings.get("dynamics") == "learned" else "MuJoCo"
        return f"MPPI (`vmil.experts.mppi`) through {through}"

    def close(self) -> None:
        """Close environment and planner."""
        self._bar.close()
        super().close()
        self.planner.close()


def _training(curve: list[dict[str, float]]) -> str:
    best = max(curve, key=lambda point: point["mean"])
    return (
        f"- The policy is the best of {len(curve)} evaluations, after {best['frames']:,} of {curve[-1]['frames']:,} "
        f"control steps: {best['mean']:.1f} of 100 on target; {curve[-1]['seconds'] / 60:.0f} minutes of one thread."
    )


def plan_settings(config: PlannerConfig, learned: LearnedConfig) -> dict[str, Any]:
    """What a planned episode depends on besides its seed; threads change nothing."""
    given = asdict(config) | fitted(config)
    settings = {name: value for name, value in given.items() if name not in ("threads", "method")}
    return settings | (asdict(learned) if config.dynamics == "learned" else {})


def policy_settings(config: HandPolicyConfig) -> dict[str, Any]:
    """What the episode of a policy depends on besides its seed."""
    return {"method": "ppo", **asdict(config)}


def measure_expert(expert: PlannedExpert, path: Path, episodes: int, progress: bool = True, note: str = "") -> Score:
    """Play whole episodes and write what they score to `path`, after each; those that it holds are not repeated.

    note: written along. UserError when it holds episodes of other settings.
    """
    made = _open_record(expert, path) | {"note": note}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tqdm(total=episodes, initial=min(len(made["returns"]), episodes), unit="episode", disable=not progress) as bar:
        while len(made["returns"]) < episodes:
            started = time.monotonic()
            total = _play(expert, FINAL_SEED + len(made["returns"]))
            made["returns"].append(total)
            made["scores"].append(expert.scores())
            made["seconds"].append(round(time.monotonic() - started, 1))
            write_atomically(path, f"{json.dumps(made, indent=1)}\n".encode())
            bar.update()
    return summary(made)


def summary(made: dict[str, Any]) -> Score:
    """The score of what `measure_expert` wrote."""
    names = made["scores"][0]
    scores = {name: [each[name] for each in made["scores"]] for name in names}
    return score(made["returns"], None, scores, "success")


def check_measured(path: Path, settings: dict[str, Any]) -> None:
    """UserError if `path` holds a measurement of other settings, more rounds of the same training aside."""
    known: dict[str, Any] = json.loads(path.read_text())["planner"] if path.exists() else settings
    more = settings.get("rounds", 0) > known.get("rounds", 0) and {**known, "rounds": settings["rounds"]} == settings
    if known != settings and not more:
        raise UserError(f"{path} was measured with other settings: choose another out=")


def _open_record(expert: PlannedExpert, path: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    further = made.get("curve") != list(expert.planner.curve)  # trained on since
    if not (further and expert.kind == "ppo"):
        check_measured(path, expert.settings)
    if not made or further:
        return {
            "env": expert.env.config.name,
            "planner": expert.settings,
            "curve": list(expert.planner.curve),
            "returns": [],
            "scores": [],
            "seconds": [],
            "machine": machine.in_words(),
            "versions": versions("mujoco", "gymnasium-robotics"),
        }
    return made


def _play(expert: PlannedExpert, seed: int) -> float:
    expert.begin(seed)
    total = 0.0
    while not expert.over:
        total += expert.execute(expert.decide())
    return total
