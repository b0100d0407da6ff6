"""What chooses the actions of baoding's expert: MPPI, through the simulator or a learned ensemble, or a policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vmil.config.errors import UserError
from vmil.config.schema import EnvConfig
from vmil.config.schema_planner import FITTED, LearnedConfig, PlannerConfig
from vmil.envs.baoding import ACTION_SIZE, BaodingEnv
from vmil.experts.hand_learned import BaodingTask, observe
from vmil.experts.hand_model import HandSimulator, cost
from vmil.experts.mppi import MPPI, MPPIConfig
from vmil.experts.pddm import PDDM, train_pddm

Floats = NDArray[np.float64]

CHECKPOINT = "pddm.pt"
LEARNING_SEED = 88_000_000  # run seed of the episodes that the ensemble learns from: nothing else uses them


class Planner(Protocol):
    """Chooses actions for one environment, one episode after the other."""

    @property
    def curve(self) -> Sequence[Mapping[str, object]]:
        """Of the training behind it, where there is one."""

    def begin(self, seed: int) -> None:
        """Forget the last episode; `seed` decides the noise of the next."""

    def act(self, env: BaodingEnv) -> Floats:
        """The action (24,) for the environment as it is now."""

    def close(self) -> None:
        """Free what it holds."""


class SimulatorPlanner:
    """MPPI through MuJoCo."""

    curve = ()

    def __init__(self, config: PlannerConfig) -> None:
        self.settings = mppi_settings(config)
        self.simulator = HandSimulator(config.timestep, config.threads)
        self.begin(0)

    def begin(self, seed: int) -> None:
        """Start from a plan of zeros."""
        self.mppi = MPPI(self.settings, ACTION_SIZE, seed)

    def act(self, env: BaodingEnv) -> Floats:
        """Plan one control step."""
        state, step = env.physics_state(), env.hand.steps + 1
        return self.mppi.act(lambda actions: cost(*self.simulator.foresee(state, actions), first_step=step))

    def close(self) -> None:
        """Stop the simulator's threads."""
        self.simulator.close()


class LearnedPlanner:
    """MPPI through a trained ensemble."""

    def __init__(self, pddm: PDDM) -> None:
        self.pddm = pddm
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


def fitted(config: PlannerConfig) -> dict[str, float]:
    """`kappa`, `sigma` and `fine_sigma`, as they are or as the dynamics want them."""
    usual, given = FITTED[config.dynamics], (config.kappa, config.sigma, config.fine_sigma)
    return {name: usual[name] if value is None else value for name, value in zip(usual, given, strict=True)}


def mppi_settings(config: PlannerConfig) -> MPPIConfig:
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
        pddm = PDDM(task, learned, mppi_settings(config), seed)
        return LearnedPlanner(train_pddm(pddm, checkpoint, train=train))
    else:
        raise ValueError(f"unknown dynamics {config.dynamics!r}")
