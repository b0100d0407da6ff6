"""Meta-World's peg insertion from pixels: a Sawyer arm puts a peg into the hole of a box; all three are placed anew.

Meta-World places peg and box at each reset and lets the hand begin at one point; here the hand too begins anywhere in a
box about that point. One frame is one of Meta-World's control steps: 12.5 ms.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any, ClassVar

import numpy as np

from vmil.config.schema import EnvConfig
from vmil.envs.cameras import View
from vmil.envs.episodes import EpisodicEnv, Outcome, seed_from
from vmil.envs.rendering import choose_backend, open_renderer
from vmil.envs.tasks import Task
from vmil.errors import UserError

log = logging.getLogger(__name__)

ACTION_SIZE = 4  # hand's motion along x, y, z, at most 1 cm a frame, and the gripper: -1 opens, 1 closes
PROPRIO_SIZE = 4  # hand's position [m] and the gripper's opening, 0 to 1
FRAMES_PER_SECOND = 80.0
HAND = (0.0, 0.6, 0.2)  # where Meta-World lets the hand begin [m]
HAND_LOW, HAND_HIGH = (-0.05, -0.1, -0.05), (0.15, 0.1, 0.1)  # where it begins here, from there; clear of peg and box
# From the far side of the table: no other view is upright, shows the hole's own face, and has the arm behind it all.
VIEWS = {"front": View(lookat=(-0.02, 0.59, 0.09), distance=0.88, azimuth=232.0, elevation=-37.0)}


def load_peg_insertion() -> Any:
    """Make Meta-World's task with the hole's position among its observations; UserError if Meta-World is missing."""
    choose_backend()
    try:
        module = importlib.import_module("metaworld.envs.sawyer_peg_insertion_side_v3")
    except Exception as error:
        raise UserError(f"env sawyer needs Meta-World, which cannot be imported here ({error}): install it") from error
    task = module.SawyerPegInsertionSideEnvV3()
    # What Meta-World's own `set_task` would set, from a pickle: places drawn by the seed, and nothing hidden.
    task.seeded_rand_vec, task._freeze_rand_vec, task._set_task_called = True, False, True
    task._partially_observable = False
    del task.sawyer_observation_space  # cached for a hidden hole
    task.max_path_length = np.inf  # else stepping raises after 500 frames; `env.episode_frames` is the only limit
    return task


def physics_of(task: Any) -> np.ndarray:
    """All that a picture depends on: positions, velocities, mocap pose, and where the box stands; (41,) float64."""
    data, box = task.data, task.model.body("box").pos
    return np.concatenate([data.qpos, data.qvel, data.mocap_pos.ravel(), data.mocap_quat.ravel(), box])


def put_back(task: Any, state: np.ndarray) -> None:
    """Set a recorded `physics_of` as the current state."""
    import mujoco

    model, data = task.model, task.data
    mujoco.mj_resetData(model, data)
    cuts = np.cumsum([model.nq, model.nv, 3, 4])
    data.qpos[:], data.qvel[:], data.mocap_pos[0], data.mocap_quat[0], box = np.split(state, cuts)
    model.body("box").pos = box
    task._target_pos = box + np.array([0.03, 0.0, 0.13])  # Meta-World's: the hole, seen from the box
    model.site("goal").pos = task._target_pos
    mujoco.mj_forward(model, data)


def proprio_of(task: Any) -> np.ndarray:
    """Hand's position and gripper's opening, what the robot knows of itself: (4,) float32."""
    vector: np.ndarray = task._get_curr_obs_combined_no_goal()[:PROPRIO_SIZE].astype(np.float32)
    return vector


class SawyerEnv(EpisodicEnv):
    """Success is Meta-World's: the peg's head within 7 cm of the hole (y and z counting double), at any frame."""

    SCORES: ClassVar[tuple[str, ...]] = ("success", "success_at_end")

    def __init__(self, config: EnvConfig, seed: int) -> None:
        """Load the task and find its camera."""
        super().__init__(config, seed, ACTION_SIZE, PROPRIO_SIZE)
        self._task = load_peg_insertion()
        self._renderer = open_renderer(self._task.model, self._task.data, config, VIEWS)

    def _begin(self) -> None:
        import mujoco

        seed = seed_from(self.run_seed, self.episode)
        self._task.seed(seed)
        # Another stream than Meta-World's, which begins with the same numbers when given the same seed.
        offset = np.random.default_rng([seed, 1]).uniform(HAND_LOW, HAND_HIGH)
        self._task.hand_init_pos = np.array(HAND) + offset
        self._observation, _ = self._task.reset()
        mujoco.mj_forward(self._task.model, self._task.data)  # Meta-World moves the box, and draws it where it was
        self._task.data.warning.number[:] = 0
        self._succeeded = self._inserted = False

    def _advance(self, action: np.ndarray) -> Outcome:
        reward = 0.0
        for _ in range(self.config.action_repeat):
            if self.diverged:
                break  # the episode lasts to its limit all the same, with the last good picture
            self._observation, gained, _, _, info = self._task.step(action)
            if self._blown_up():
                break
            reward += float(gained)
            self._inserted = bool(info["success"])
            self._succeeded |= self._inserted
        return Outcome(reward, terminated=False)

    def _blown_up(self) -> bool:
        """Whether MuJoCo met a non-finite (NaN or inf) number, upon which it resets the scene by itself."""
        if not self.diverged and self._task.data.warning.number[4:7].any():  # bad position, velocity, acceleration
            log.warning("sawyer, episode %d, step %d: the simulation is unstable", self.episode, self.time)
            self.diverged, self._inserted = True, False
        return self.diverged

    def _episode_scores(self) -> dict[str, float]:
        return {"success": float(self._succeeded), "success_at_end": float(self._inserted)}

    def _look(self) -> tuple[np.ndarray, np.ndarray | None]:
        if not self.diverged:
            self._last = self._renderer(), proprio_of(self._task) if self.config.proprio else None
        image, proprio = self._last
        return image, proprio

    @property
    def succeeded(self) -> bool:
        """Whether the peg has been in the hole in this episode."""
        return self._succeeded

    @property
    def observation(self) -> np.ndarray:
        """What Meta-World's own controller reads: hand, gripper, peg, and the hole; (39,) float64."""
        return np.asarray(self._observation)

    def physics_state(self) -> np.ndarray:
        """As `physics_of`."""
        return physics_of(self._task)

    def _restore(self, state: np.ndarray) -> None:
        put_back(self._task, state)
        self._observation = self._task._get_obs()
        self._succeeded = self._inserted = False

    def _free(self) -> None:
        self._task.close()


def make(config: EnvConfig, seed: int, task: Task) -> SawyerEnv:
    """The environment; its episodes derive from `seed`."""
    return SawyerEnv(config, seed)


def measure(task: Task) -> tuple[int, int, float | None]:
    """Sizes of the action and of the vector observation, and frames a second."""
    return ACTION_SIZE, PROPRIO_SIZE, FRAMES_PER_SECOND
