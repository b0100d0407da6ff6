"""The forward model of baoding: many copies of the hand in MuJoCo, and the cost of what they would do."""

from __future__ import annotations

import numpy as np

from vmil.envs.baoding_scene import CONTROL_SECONDS, build_model, command
from vmil.envs.baoding_task import dropped, tracking_errors
from vmil.errors import UserError
from vmil.system.arrays import Floats

ERROR_WEIGHT, DROP_COST, WRIST_COST = 5.0, 500.0, 10.0  # per metre and ball, per step with a ball lost, per step
WRIST_LIMIT = 0.15  # radians of WRJ0: beyond, the palm is turned so far up that the wrist does the work
WARMTH = 36  # the last entries of a state: the solver's warm start


def cost(wrist: Floats, balls: Floats, first_step: int) -> Floats:
    """Cost (...) of futures: wrist angles (..., H, 2) and ball centres (..., H, 2, 3) after each of H control steps.

    The first of them is control step `first_step` of the episode. As PDDM's, with the distances in the palm's plane.
    """
    steps = first_step + np.arange(wrist.shape[-2], dtype=np.float64)
    errors = tracking_errors(wrist, balls, steps).sum(axis=-1)
    step_cost = ERROR_WEIGHT * errors + DROP_COST * dropped(balls) + WRIST_COST * (wrist[..., 1] > WRIST_LIMIT)
    total: Floats = step_cost.sum(axis=-1)
    return total


class HandModel:
    """The light simulator: plays action sequences from one state in parallel, in threads of MuJoCo's own."""

    def __init__(self, timestep: float, threads: int) -> None:
        """`timestep` in seconds; UserError unless a control step is a whole number of them."""
        self.substeps = round(CONTROL_SECONDS / timestep)
        if self.substeps < 1 or abs(self.substeps * timestep - CONTROL_SECONDS) > 1e-9:
            raise UserError(f"timestep={timestep:g} does not divide a control step of {CONTROL_SECONDS:g} s")
        self.model = build_model(timestep, light=True)
        import mujoco
        from mujoco.rollout import Rollout

        self._datas = [mujoco.MjData(self.model) for _ in range(threads)]
        self._rollout = Rollout(nthread=threads if threads > 1 else 0)  # 0: in the calling thread

    def foresee(self, state: Floats, actions: Floats) -> tuple[Floats, Floats]:
        """Wrist angles (N, H, 2) and ball centres (N, H, 2, 3) after each action of (N, H, 24), from a state (111,).

        Where the simulation diverges MuJoCo begins anew, clock and all: from there on both balls count as fallen, at 0.
        """
        controls = np.repeat(command(actions), self.substeps, axis=1)  # (N, H * substeps, 24)
        states, _ = self._rollout.rollout(
            self.model, self._datas, state[:-WARMTH], controls, initial_warmstart=state[-WARMTH:]
        )
        states = states[:, self.substeps - 1 :: self.substeps]  # (N, H, ·)
        clock, positions = states[..., 0], states[..., 1:39]
        balls = np.stack([positions[..., 24:27], positions[..., 31:34]], axis=-2)
        on_time = state[0] + CONTROL_SECONDS * np.arange(1, actions.shape[1] + 1)
        balls[np.logical_or.accumulate(np.abs(clock - on_time) > self.model.opt.timestep / 2, axis=1)] = 0.0
        return positions[..., :2], balls

    def close(self) -> None:
        """Stop the threads."""
        self._rollout.close()
