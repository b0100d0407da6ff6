"""The expert of baoding that plans, and its planners: MPPI, through the simulator or a learned ensemble."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

from vmil.config.schema import EnvConfig
from vmil.config.schema_planner import FITTED, LearnedConfig, PlannerConfig
from vmil.envs.baoding import ACTION_SIZE, BaodingEnv
from vmil.errors import UserError
from vmil.experts.expert import Kind
from vmil.experts.hand_expert import HandExpert, Planner
from vmil.experts.hand_learned import BaodingTask, observe
from vmil.experts.hand_measurement import Settings
from vmil.experts.hand_model import HandModel, cost
from vmil.experts.mppi import MPPI, MPPIConfig
from vmil.experts.pddm import PDDM, train_pddm
from vmil.system.arrays import Floats
from vmil.system.provenance import digest, sha256

CHECKPOINT = "pddm.pt"
LEARNING_SEED = 88_000_000  # run seed of the episodes that the ensemble learns from: nothing else uses them


class SimulatorPlanner:
    """MPPI through MuJoCo."""

    weights = None
    curve = ()

    def __init__(self, config: PlannerConfig) -> None:
        self.settings, self._mppi_config = _planner_settings(config), mppi_config(config)
        self.model = HandModel(config.timestep, config.threads)
        self.begin(0)

    def begin(self, seed: int) -> None:
        """Start from a plan of zeros."""
        self.mppi = MPPI(self._mppi_config, ACTION_SIZE, seed)

    def act(self, env: BaodingEnv) -> Floats:
        """Plan one control step."""
        state, step = env.physics_state(), env.hand.steps + 1
        return self.mppi.act(lambda actions: cost(*self.model.foresee(state, actions), first_step=step))

    def close(self) -> None:
        """Stop the simulator's threads."""
        self.model.close()


class LearnedPlanner:
    """MPPI through a trained ensemble."""

    def __init__(self, pddm: PDDM, config: PlannerConfig, checkpoint: Path) -> None:
        """config: of the planning through it; checkpoint: holds the ensemble."""
        self.pddm, self.weights = pddm, checkpoint
        self.settings = plan_settings(config, pddm.config)
        self.begin(0)

    @property
    def curve(self) -> list[dict[str, float]]:
        """A line per round."""
        return self.pddm.curve

    def begin(self, seed: int) -> None:
        """Start from a plan of zeros."""
        self._policy = self.pddm.policy(seed)

    def act(self, env: BaodingEnv) -> Floats:
        """Plan one control step."""
        return self._policy(observe(env), env.hand.steps + 1)

    def close(self) -> None:
        """Close the environment that it learnt from."""
        self.pddm.task.close()


class PlannedExpert(HandExpert):
    """MPPI, through the simulator or a learned ensemble."""

    kind: ClassVar[Kind] = "planned"

    def identity(self) -> str:
        """Of the settings and the ensemble's weights."""
        return digest(json.dumps(self.settings, sort_keys=True), *map(sha256, self.weights))

    def what(self) -> str:
        """As `HandExpert`."""
        through = "a learned ensemble" if self.settings.get("dynamics") == "learned" else "MuJoCo"
        return f"MPPI (`vmil.experts.mppi`) through {through}"

    def _about_noise(self) -> str:
        return " The noise of the planner derives from the demonstration's seed."


def fitted(config: PlannerConfig) -> dict[str, float]:
    """`kappa`, `sigma` and `fine_sigma`, as they are or as the dynamics want them."""
    usual, given = FITTED[config.dynamics], (config.kappa, config.sigma, config.fine_sigma)
    return {name: usual[name] if value is None else value for name, value in zip(usual, given, strict=True)}


def plan_settings(config: PlannerConfig, learned: LearnedConfig) -> Settings:
    """What a planned episode depends on besides its seed; `learned` counts with dynamics=learned only."""
    return {**_planner_settings(config), **(asdict(learned) if config.dynamics == "learned" else {})}


def _planner_settings(config: PlannerConfig) -> Settings:
    given = asdict(config) | fitted(config)
    return {name: value for name, value in given.items() if name not in ("threads", "method")}  # threads change nothing


def mppi_config(config: PlannerConfig) -> MPPIConfig:
    """The part of the settings that MPPI itself reads."""
    return MPPIConfig(
        horizon=config.horizon,
        samples=config.samples,
        iterations=config.iterations,
        beta=config.beta,
        fine_share=config.fine_share,
        **fitted(config),
    )


def make_planner(
    env: EnvConfig, config: PlannerConfig, learned: LearnedConfig, seed: int, directory: Path, train: bool
) -> Planner:
    """MPPI with the dynamics that `config` names.

    directory: holds the ensemble's checkpoint. train: run the rounds that it lacks; else UserError if there is none.
    """
    if config.dynamics == "simulator":
        return SimulatorPlanner(config)
    elif config.dynamics == "learned":
        checkpoint = directory / CHECKPOINT
        if not train and not checkpoint.is_file():
            raise UserError(f"there is no ensemble '{checkpoint}': `make expert` with dynamics=learned trains one")
        task = BaodingTask(BaodingEnv(env, LEARNING_SEED + seed))
        pddm = PDDM(task, learned, mppi_config(config), seed)
        return LearnedPlanner(train_pddm(pddm, checkpoint, train=train), config, checkpoint)
    else:
        raise ValueError(f"unknown dynamics {config.dynamics!r}")
