"""Two balls to be turned round each other on a robot's palm, from pixels and joint angles."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from vmil.config.schema import EnvConfig
from vmil.envs.baoding_scene import (
    BALL_STARTS,
    CONTROL_SECONDS,
    MARKER_HEIGHT,
    RESTING_DEPTH,
    build_model,
    command,
    start_pose,
)
from vmil.envs.baoding_task import TOLERANCE, dropped, judge, palm_pose, targets, tracking_errors
from vmil.envs.cameras import View
from vmil.envs.episodes import EpisodicEnv, Outcome, seed_from
from vmil.envs.rendering import open_renderer
from vmil.envs.tasks import Task
from vmil.system.arrays import Floats

if TYPE_CHECKING:
    import mujoco

log = logging.getLogger(__name__)

VIEWS = {"above": View(lookat=(0.005, -0.045, 0.17), distance=0.34, azimuth=90.0, elevation=-90.0)}
ACTION_SIZE = PROPRIO_SIZE = 24
STATE_SIZE = 1 + 38 + 36 + 36  # time, positions, velocities, and the solver's warm start
SCATTER = 0.003  # metres: each coordinate of a ball's start is drawn from ± this


class Hand:
    """The physics of one hand with its balls, without a camera: put, hold, step, read."""

    def __init__(self, model: mujoco.MjModel | None = None) -> None:
        """`model`: one to use instead of the task's own, which hands may share; a control step is 0.1 s in any."""
        self.model = build_model() if model is None else model
        import mujoco  # once an OpenGL is chosen, which `build_model` does

        self._mujoco = mujoco
        self._substeps = round(CONTROL_SECONDS / self.model.opt.timestep)
        self.data = mujoco.MjData(self.model)
        part = mujoco.mjtState
        self._spec = int(part.mjSTATE_TIME | part.mjSTATE_PHYSICS | part.mjSTATE_WARMSTART)

    def begin(self, scatter: Floats) -> None:
        """Start pose, the balls (2, 3) off their usual places by `scatter` metres, all at rest, time zero."""
        self._mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:24] = start_pose()
        for ball, (start, off) in enumerate(zip(BALL_STARTS, scatter, strict=True)):
            self.data.qpos[24 + 7 * ball : 27 + 7 * ball] = np.asarray(start) + off

    def control(self, action: np.ndarray) -> bool:
        """Hold an action (24,) for one control step; False if the simulation blew up, which leaves it as it was."""
        before = self.state()
        self.data.ctrl[:] = command(action)
        self._mujoco.mj_step(self.model, self.data, self._substeps)
        warning = self._mujoco.mjtWarning
        blown = (warning.mjWARN_BADQPOS, warning.mjWARN_BADQVEL, warning.mjWARN_BADQACC)
        if not any(self.data.warning[kind].number for kind in blown):
            return True
        self._mujoco.mj_resetData(self.model, self.data)
        self.restore(before)
        return False

    def state(self) -> Floats:
        """Time, positions, velocities, warm start: (111,)."""
        state = np.empty(STATE_SIZE)
        self._mujoco.mj_getState(self.model, self.data, state, self._spec)
        return state

    def restore(self, state: Floats) -> None:
        """Go back to a `state` (111,); what follows is then the same to the last bit."""
        self._mujoco.mj_setState(self.model, self.data, state, self._spec)

    @property
    def joints(self) -> Floats:
        """Joint angles (24,); those of the wrist come first."""
        return self.data.qpos[:24].copy()

    @property
    def balls(self) -> Floats:
        """Centres (2, 3) of the balls in the world."""
        return np.stack([self.data.qpos[24:27], self.data.qpos[31:34]])

    @property
    def ball_velocities(self) -> Floats:
        """Velocities (2, 3) of the centres in the world, metres per second."""
        return np.stack([self.data.qvel[24:27], self.data.qvel[30:33]])

    @property
    def steps(self) -> int:
        """Control steps since the beginning of the episode, by the simulator's clock."""
        return round(self.data.time / CONTROL_SECONDS)

    def pose_for_camera(self) -> None:
        """Move bodies and markers to where the state has them; neither changes the state."""
        origin, axes = palm_pose(self.data.qpos[:2])
        for marker, (x, z) in enumerate(targets(self.steps)):
            self.data.mocap_pos[marker] = origin + axes @ (x, RESTING_DEPTH, z) + (0.0, 0.0, MARKER_HEIGHT)
        self._mujoco.mj_kinematics(self.model, self.data)
        self._mujoco.mj_camlight(self.model, self.data)


class BaodingEnv(EpisodicEnv):
    """The reward is 1 for each control step that ends with both balls on their targets and none dropped so far."""

    SCORES: ClassVar[tuple[str, ...]] = ("success", "on_target", "tracking_error", "steps_to_drop")

    def __init__(self, config: EnvConfig, seed: int) -> None:
        """Load the hand and find its camera."""
        super().__init__(config, seed, ACTION_SIZE, PROPRIO_SIZE)
        self.hand = Hand()
        self._renderer = open_renderer(self.hand.model, self.hand.data, config, VIEWS)
        self._errors: list[Floats] = []
        self._drops: list[bool] = []

    def _begin(self) -> None:
        random = np.random.default_rng(seed_from(self.run_seed, self.episode))
        self.hand.begin(random.uniform(-SCATTER, SCATTER, (2, 3)))
        self._errors, self._drops = [], []

    def _advance(self, action: np.ndarray) -> Outcome:
        reward = sum(self._control(action) for _ in range(self.config.action_repeat))
        return Outcome(reward, terminated=False)  # a drop ends nothing: an episode's length must not reveal success

    def _control(self, action: np.ndarray) -> float:
        sound = self.hand.control(action)
        if not sound:
            log.warning("%s, episode %d, step %d: the simulation blew up", self.config.name, self.episode, self.time)
            self.diverged = True
        self._errors.append(tracking_errors(self.hand.joints[:2], self.hand.balls, self.hand.steps))
        self._drops.append(self.lost or not sound or bool(dropped(self.hand.balls)))
        return float((self._errors[-1] <= TOLERANCE).all() and not self._drops[-1])

    def _look(self) -> tuple[np.ndarray, np.ndarray | None]:
        self.hand.pose_for_camera()
        return self._renderer(), self.hand.joints.astype(np.float32) if self.config.proprio else None

    @property
    def lost(self) -> bool:
        """Whether a ball has been dropped in the running episode."""
        return bool(self._drops and self._drops[-1])

    def _episode_scores(self) -> dict[str, float]:
        judged = judge(np.stack(self._errors), np.asarray(self._drops), self.config.episode_frames)
        return {
            "success": float(judged.success),
            "on_target": judged.on_target,
            "tracking_error": judged.error,
            "steps_to_drop": float(judged.steps_to_drop),
        }

    def physics_state(self) -> np.ndarray:
        """Time (and with it the targets' phase), positions, velocities and warm start: (111,) float64."""
        return self.hand.state()

    def _restore(self, state: np.ndarray) -> None:
        self.hand.restore(state)
        self._errors, self._drops = [], []


def make(config: EnvConfig, seed: int, task: Task) -> BaodingEnv:
    """The environment; its episodes derive from `seed`."""
    return BaodingEnv(config, seed)


def measure(task: Task) -> tuple[int, int, float | None]:
    """Sizes of the action and of the vector observation, and frames a second."""
    return ACTION_SIZE, PROPRIO_SIZE, 1 / CONTROL_SECONDS
