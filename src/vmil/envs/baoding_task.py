"""What baoding asks for, as arithmetic on joint angles and ball positions: targets, errors, drops and the score.

Lengths are metres, angles radians. The *palm frame* has its origin at the palm's base; x points to the thumb's side, z
along the fingers and y out of the back of the hand, so that the targets circle in the x-z plane. Control step t ends at
t · 0.1 s and is judged by the targets of that time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vmil.envs.baoding_scene import FOREARM, FOREARM_TILT, PALM_OFFSET, WRIST_OFFSET
from vmil.system.arrays import Floats

PERIOD = 60  # control steps per revolution
PHASES = (3 * np.pi / 4, -np.pi / 4)  # of each target at t = 0
CENTRE, RADII = (0.005, 0.055), (0.02, 0.036)  # of the targets' ellipse: x and z in the palm frame
TOLERANCE = 0.025  # in the plane: a ball this close to its target is on target
SHARE_ON_TARGET = 0.75  # of the control steps, for success
DROP_HEIGHT = 0.06  # above the table: a ball whose centre is lower was dropped


def targets(step: float | Floats) -> Floats:
    """Where the balls should be after `step` control steps (...): (..., 2 balls, 2) x and z in the palm frame."""
    angle = 2 * np.pi * np.asarray(step, np.float64)[..., None] / PERIOD + np.asarray(PHASES)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return np.asarray(CENTRE) + np.asarray(RADII) * circle


def palm_pose(wrist: Floats) -> tuple[Floats, Floats]:
    """Origin (..., 3) and axes (..., 3, 3) of the palm in the world, from the angles (..., 2) of WRJ1 and WRJ0.

    WRJ1 turns about the forearm's y axis, WRJ0 then about x; the columns of the axes are the palm's x, y and z.
    """
    forearm = _about("x", np.asarray(FOREARM_TILT))
    hand = forearm @ _about("y", wrist[..., 0])
    axes = hand @ _about("x", wrist[..., 1])
    origin = np.asarray(FOREARM) + forearm @ np.asarray(WRIST_OFFSET) + hand @ np.asarray(PALM_OFFSET)
    return origin, axes


def _about(axis: str, angle: Floats) -> Floats:
    cos, sin = np.cos(angle), np.sin(angle)
    zero, one = np.zeros_like(cos), np.ones_like(cos)
    if axis == "x":
        rows = [[one, zero, zero], [zero, cos, -sin], [zero, sin, cos]]
    elif axis == "y":
        rows = [[cos, zero, sin], [zero, one, zero], [-sin, zero, cos]]
    else:
        raise ValueError(f"no rotation about {axis!r} here")
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def in_palm(wrist: Floats, points: Floats) -> Floats:
    """Points (..., N, 3) of the world in the palm frame of the wrist angles (..., 2)."""
    origin, axes = palm_pose(wrist)
    return (points - origin[..., None, :]) @ axes


def tracking_errors(wrist: Floats, balls: Floats, step: float | Floats) -> Floats:
    """In-plane distance of each ball from its target: (..., 2), from balls (..., 2, 3) in the world."""
    plane = in_palm(wrist, balls)[..., [0, 2]]
    errors: Floats = np.linalg.norm(plane - targets(step), axis=-1)
    return errors


def dropped(balls: Floats) -> NDArray[np.bool_]:
    """Whether any ball (..., 2, 3) is below the hand: (...)."""
    return np.asarray((balls[..., 2] < DROP_HEIGHT).any(axis=-1), dtype=np.bool_)


@dataclass(frozen=True)
class Judgement:
    """The score of one episode."""

    success: bool
    on_target: float  # share of the control steps with both balls within 2.5 cm and none dropped so far
    error: float  # mean in-plane distance over both balls and the steps before a drop, at least the first
    steps_to_drop: int  # control steps done without a drop


def judge(errors: Floats, drops: NDArray[np.bool_], limit: int) -> Judgement:
    """Score an episode by its errors (T, 2) and drops (T,) after each control step.

    Success: `limit` control steps were played, none of them dropped a ball, and in at least 75 % of them both balls
    were within 2.5 cm of their targets. What happens after a drop counts for nothing.
    """
    steps = int(np.argmax(drops)) if drops.any() else len(drops)
    held = errors[: max(steps, 1)]
    on_target = float((errors[:steps] <= TOLERANCE).all(axis=-1).sum() / limit)
    return Judgement(
        success=steps >= limit and on_target >= SHARE_ON_TARGET,
        on_target=on_target,
        error=float(held.mean()),
        steps_to_drop=steps,
    )
