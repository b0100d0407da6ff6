"""Baoding as PDDM sees it: vectors in, vectors out, and what a future would cost."""

from __future__ import annotations

import numpy as np

from vmil.envs.baoding import ACTION_SIZE, BaodingEnv
from vmil.experts.hand_model import cost
from vmil.system.arrays import Floats


def observe(env: BaodingEnv) -> Floats:
    """Joint angles (24), then centres and velocities of both balls (6 and 6) in the world: (36,)."""
    hand = env.hand
    return np.concatenate([hand.joints, hand.balls.ravel(), hand.ball_velocities.ravel()])


class BaodingTask:
    """Baoding as PDDM sees it; an episode is over once a ball is lost, as the rest teaches nothing."""

    observation_size, action_size = 36, ACTION_SIZE

    def __init__(self, env: BaodingEnv) -> None:
        self.env = env
        self._return = 0.0

    def begin(self, episode: int) -> Floats:
        """Open that episode of the environment."""
        self.env.set_episode(episode)
        self.env.open_episode()
        self._return = 0.0
        return observe(self.env)

    def step(self, action: Floats) -> tuple[Floats, bool]:
        """Play one control step."""
        self._return += self.env.advance(action).reward
        return observe(self.env), self.env.over or self.env.lost

    def cost(self, futures: Floats, first_step: int) -> Floats:
        """The cost of the simulator's planner: (...) of (..., H, 36)."""
        balls = futures[..., 24:30].reshape(*futures.shape[:-1], 2, 3)
        return cost(futures[..., :2], balls, first_step)

    def scores(self) -> dict[str, float]:
        """Steps until a drop or the end, how many of them were on target, and whether that is a success."""
        success = self.env.last_scores["success"] if self.env.over else 0.0
        return {"success": success, "on_target": self._return, "steps": float(self.env.time)}

    def close(self) -> None:
        """Close the environment."""
        self.env.close()
