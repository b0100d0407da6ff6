"""Baoding played by planning: MPPI through the simulator, one control step after the other.

An *attempt* is an episode that was planned, won or lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vmil.config.schema_planner import PlannerConfig
from vmil.envs.baoding import BaodingEnv
from vmil.envs.baoding_task import SHARE_ON_TARGET
from vmil.envs.episodes import seed_from
from vmil.experts.hand_model import HandSimulator, cost
from vmil.experts.mppi import MPPI, MPPIConfig
from vmil.experts.provenance import versions

Floats = NDArray[np.float64]
FORMAT = 1


class Planner(Protocol):
    """Chooses actions for one environment, one episode after the other."""

    def begin(self, seed: int) -> None:
        """Forget the last episode; `seed` decides the noise of the next."""

    def act(self, env: BaodingEnv) -> Floats:
        """The action (24,) for the environment as it is now."""

    def close(self) -> None:
        """Free what it holds."""


def mppi_settings(config: PlannerConfig) -> MPPIConfig:
    """The part of the settings that MPPI itself reads."""
    return MPPIConfig(
        horizon=config.horizon,
        samples=config.samples,
        iterations=config.iterations,
        kappa=config.kappa,
        beta=config.beta,
        sigma=config.sigma,
        fine_share=config.fine_share,
        fine_sigma=config.fine_sigma,
    )


class SimulatorPlanner:
    """MPPI through MuJoCo."""

    def __init__(self, config: PlannerConfig) -> None:
        self.settings, self._action_size = mppi_settings(config), 24
        self.simulator = HandSimulator(config.timestep, config.threads)
        self.begin(0)

    def begin(self, seed: int) -> None:
        """Start from a plan of zeros."""
        self.mppi = MPPI(self.settings, self._action_size, seed)

    def act(self, env: BaodingEnv) -> Floats:
        """Plan one control step."""
        state, step = env.physics_state(), env.time + 1
        return self.mppi.act(lambda actions: cost(*self.simulator.foresee(state, actions), first_step=step))

    def close(self) -> None:
        """Stop the simulator's threads."""
        self.simulator.close()


@dataclass(frozen=True)
class Attempt:
    """One planned episode; its arrays end early if it was given up."""

    physics: Floats  # (T + 1, S): the last state included
    action: NDArray[np.float32]  # (T, A): action[t] was taken at physics[t]
    reward: NDArray[np.float32]  # (T,): for scores, never for a loss
    meta: dict[str, Any]  # as a demonstration's; "scores" and "success" among it

    @property
    def success(self) -> bool:
        """Whether the episode succeeded."""
        return bool(self.meta["success"])


def play(env: BaodingEnv, planner: Planner, index: int, give_up: bool, on_step: Callable[[str], None]) -> Attempt:
    """Plan episode `index` of the environment; with `give_up`, only as long as it can still succeed."""
    env.set_episode(index)
    env.open_episode()
    planner.begin(seed_from(env.run_seed + 1, index))  # not the numbers that scattered the balls
    limit, started = env.steps_per_episode, time.perf_counter()
    physics, actions, rewards = [env.physics_state()], list[NDArray[np.float32]](), list[float]()
    while not env.over:
        action = planner.act(env).astype(np.float32)  # what is stored is what is played
        rewards.append(env.advance(action).reward)
        actions.append(action)
        physics.append(env.physics_state())
        misses = len(rewards) - sum(rewards)
        on_step(f"step {len(rewards)}/{limit}, on target {sum(rewards):.0f}")
        if give_up and (env.lost or misses > (1 - SHARE_ON_TARGET) * limit):
            break
    scores = env.last_scores if env.over else {"success": 0.0}
    meta = {
        **_meta(env, index),
        "return": float(np.sum(rewards)),
        "success": bool(scores["success"]),
        "scores": scores,
        "seconds": round(time.perf_counter() - started, 1),
    }
    return Attempt(np.stack(physics), np.stack(actions), np.asarray(rewards, np.float32), meta)


def _meta(env: BaodingEnv, index: int) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "env": env.config.name,
        "domain": "adroit",
        "task": "baoding",
        "action_repeat": env.config.action_repeat,
        "seed": env.run_seed,
        "episode": index,
        "expert": "mppi",
        "versions": {
            name: number for name, number in versions("mujoco", "gymnasium-robotics").items() if name != "python"
        },
    }
