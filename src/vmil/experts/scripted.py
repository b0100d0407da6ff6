"""Experts that need no training: Meta-World's analytic controller for peg insertion."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from tqdm import tqdm

from vmil.config.schema import EnvConfig
from vmil.envs.sawyer import SawyerEnv
from vmil.evaluation.scores import Score, score
from vmil.experts.expert import FINAL_SEED, PROVENANCE, RECORDING_SEED, EpisodicExpert, Kind
from vmil.system import machine
from vmil.system.arrays import Floats32
from vmil.system.provenance import versions

CONTROLLER = "SawyerPegInsertionSideV3Policy"


@dataclass(frozen=True)
class Measured:
    """What a scripted expert scores, and where that was measured."""

    env: str
    controller: str
    returns: list[float]
    successes: list[float]
    success_frames: list[int]  # after which the successful episodes first succeeded
    returns_seed: int
    machine: str
    versions: dict[str, str]

    @property
    def summary(self) -> Score:
        """The score of the measured episodes."""
        return score(self.returns, None, {"success": self.successes}, "success")


class ScriptedPegExpert(EpisodicExpert):
    """Meta-World's controller: hover over the peg, grasp it, go in front of the hole, push."""

    kind: ClassVar[Kind] = "scripted"

    def __init__(self, config: EnvConfig, provenance: Path | None = None) -> None:
        """provenance: the `expert.json` that `measure_expert` wrote, for the card."""
        env = SawyerEnv(config, RECORDING_SEED)
        super().__init__(env)
        self.env, self._provenance = env, provenance
        from metaworld.policies import sawyer_peg_insertion_side_v3_policy as module

        self._controller = getattr(module, CONTROLLER)()

    def decide(self) -> Floats32:
        """The controller's action, clipped to [-1, 1] as Meta-World itself would."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns at every step that its gain saturates, which is intended
            action = self._controller.get_action(self.env.observation)
        clipped: Floats32 = np.clip(action, -1.0, 1.0).astype(np.float32)
        return clipped

    def files(self) -> list[Path]:
        """The measurement, where there is one."""
        return [self._provenance] if self._provenance is not None and self._provenance.exists() else []

    def about(self) -> list[str]:
        """From the measurement."""
        lines = [f"- Meta-World's analytic controller `{CONTROLLER}`, which reads the true state. Nothing is trained."]
        for path in self.files():
            measured = Measured(**json.loads(path.read_text()))
            frames = np.asarray(measured.success_frames)
            lines += [
                f"- Measured by `make expert ENV={measured.env} ARGS=eval_episodes={len(measured.returns)}`, without "
                f"noise, on episodes {measured.returns_seed} ff., none of them a demonstration: "
                f"**{measured.summary}**. The successes took {np.median(frames):.0f} frames in the median, "
                f"{frames.max()} at most.",
                f"- Versions: {', '.join(f'{name} {number}' for name, number in measured.versions.items())}.",
            ]
        return lines


def measure_expert(config: EnvConfig, out_dir: Path, episodes: int) -> Measured:
    """Play the controller without noise and write what it scores to `out_dir`/expert.json."""
    expert = ScriptedPegExpert(config)
    returns, successes, frames = [], [], []
    try:
        for index in tqdm(range(episodes), unit="episode", disable=None):
            gained, first = _play(expert, FINAL_SEED + index)
            returns.append(gained)
            successes.append(expert.scores()["success"])
            frames += [] if first is None else [first]
    finally:
        expert.close()
    measured = Measured(
        env=config.name,
        controller=CONTROLLER,
        returns=returns,
        successes=successes,
        success_frames=frames,
        returns_seed=FINAL_SEED,
        machine=machine.in_words(),
        versions=versions("metaworld", "mujoco"),
    )
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / PROVENANCE).write_text(json.dumps(asdict(measured), indent=1) + "\n")
    return measured


def _play(expert: ScriptedPegExpert, seed: int) -> tuple[float, int | None]:
    """Return of the episode of that seed, and the frames after which it first succeeded."""
    expert.begin(seed)
    total, first = 0.0, None
    while not expert.over:
        total += expert.execute(expert.decide())
        if first is None and expert.env.succeeded:
            first = expert.env.time * expert.action_repeat
    return total, first
