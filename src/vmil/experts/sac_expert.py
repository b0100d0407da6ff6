"""The trained expert as the recorder meets it: a SAC actor in dm_control, state in."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vmil.config.schema_expert import ExpertConfig
from vmil.envs.suite import dmc_task
from vmil.errors import UserError
from vmil.experts.actor import deterministic_policy, load_actor
from vmil.experts.expert import PROVENANCE, Expert, Kind
from vmil.experts.state_task import load_seeded_task, repeat_action
from vmil.system.arrays import Floats, Floats32
from vmil.system.provenance import sha256


class TrainedExpert(Expert):
    """The mode of an actor that `train_expert` wrote; episodes are dm_control's own, of 1000 frames."""

    kind: ClassVar[Kind] = "sac"
    one_step_tolerance: ClassVar[float] = 1e-6  # in the state's units; 2e-13 is usual

    def __init__(self, env_name: str, actor_path: Path) -> None:
        """Read the actor; UserError when it is of another task."""
        net, self._spec = load_actor(actor_path)
        domain, task = self._spec.domain, self._spec.task
        if dmc_task(env_name) != (domain, task):
            raise UserError(f"{actor_path} is an actor for {domain}-{task}, not for {env_name}")
        self._policy = deterministic_policy(net, self._spec)
        self._path = actor_path
        self.begin(0)

    @property
    def action_repeat(self) -> int:
        """The one it was trained with."""
        return self._spec.action_repeat

    def begin(self, seed: int) -> None:
        """Start the first episode of a dm_control task made with that seed."""
        self.close()
        self._env = load_seeded_task(self._spec.domain, self._spec.task, seed)
        self._step = self._env.reset()

    def decide(self) -> Floats32:
        """The actor's mode."""
        return self._policy(self._step.observation)

    def execute(self, action: Floats32) -> float:
        """Take one agent step."""
        self._step, reward = repeat_action(self._env, action, self.action_repeat)
        return reward

    @property
    def over(self) -> bool:
        """Whether the episode has ended."""
        return bool(self._step.last())

    def state(self) -> Floats:
        """Positions, velocities and activations."""
        return np.array(self._env.physics.get_state(), np.float64)

    def restore(self, state: Floats) -> None:
        """Begin an episode in the given state."""
        self._env.reset()  # so that the time limit counts from here; its random initial state is overwritten
        with self._env.physics.reset_context():
            self._env.physics.set_state(state)

    def files(self) -> list[Path]:
        """The actor, and its `expert.json` where there is one."""
        return [path for path in (self._path, self._path.with_name(PROVENANCE)) if path.exists()]

    def identity(self) -> str:
        """Of the actor's file."""
        return sha256(self._path)

    def about(self) -> list[str]:
        """From the `expert.json` beside the actor."""
        provenance = self._path.with_name(PROVENANCE)
        if not provenance.exists():
            return []
        training = json.loads(provenance.read_text())
        scores = np.asarray(training["returns"])
        commands = _commands(training)
        stages = "" if len(commands) == 1 else f", in {len(commands)} stages, each from the last one's checkpoint on"
        installed = ", ".join(f"{name} {number}" for name, number in training["versions"].items())
        refined = [_refinement(training["refined"])] if "refined" in training else []
        return [
            f"- Made by SAC from state (`vmil.experts.sac.train_expert`){stages}: {', then '.join(commands)}.",
            f"- The actor is the best of {len(training['curve'])} evaluations, after {training['actor_frames']:,} of "
            f"{training['frames']:,} environment frames; all of it took {training['seconds'] / 60:.0f} minutes on one "
            f"thread of a machine with {training['machine']}.",
            *refined,
            f"- Return over {len(scores)} deterministic episodes (initial states of seeds "
            f"{training['returns_seed']} ff., neither trained on nor used to choose the actor): "
            f"**{scores.mean():.1f} ± {scores.std():.1f}**, lowest {scores.min():.1f}, highest {scores.max():.1f}.",
            f"- Versions: {installed}.",
            "- Input: the task's observations, flattened and concatenated in the order named in the file's metadata; "
            "action: tanh of the first half of the output.",
        ]

    def close(self) -> None:
        """Free the simulator."""
        if hasattr(self, "_env"):
            self._env.close()


def _commands(training: dict[str, Any]) -> list[str]:
    """A `make expert` for each stage of the training, with every setting; PPO is the last one's."""
    config, stages = training["config"], training.get("stages", [])
    usual = {name: value for name, value in asdict(ExpertConfig()).items() if name in config}  # others came later
    settings = [{**usual, **stage["settings"], "frames": after["frames"]} for stage, after in pairwise(stages)]
    settings += [{**config, **training.get("refined", {}).get("config", {})}]
    make = f"make expert ENV={training['env']} SEED={training['seed']}"
    return [f'`{make} ARGS="{" ".join(f"{name}={value}" for name, value in each.items())}"`' for each in settings]


def _refinement(refined: dict[str, Any]) -> str:
    """What PPO did to the actor."""
    curve = refined["curve"]
    best = max(curve, key=lambda point: point["mean"])
    settings = ", ".join(f"{key}={value}" for key, value in refined["config"].items())
    kept = (
        f"after {best['frames']:,} it was best" if refined["kept"] else "no evaluation of it was better, none is kept"
    )
    return (
        f"- From that actor PPO (`vmil.experts.ppo_agent`) went on for {curve[-1]['frames']:,} environment frames, "
        f"{kept}; settings {settings}; {curve[-1]['seconds'] / 60:.0f} minutes."
    )
