"""dm_control's suite from pixels, with the action repeated below the renderer."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np

from vmil.config.schema import EnvConfig
from vmil.envs.episodes import EpisodicEnv, Outcome, seed_from
from vmil.envs.rendering import open_renderer
from vmil.envs.suite import load_task
from vmil.envs.tasks import Task
from vmil.errors import UserError

log = logging.getLogger(__name__)

PLAYED_TOLERANCE = 1e-6  # in the state's units: 0 is usual, 1e-13 on another processor; a wrong action gives 1e-2


def action_map(control: Any) -> tuple[np.ndarray, np.ndarray]:
    """Centre and half-width (A,) that take [-1, 1] to the task's action range; an unlimited actuator keeps [-1, 1]."""
    spec = control.action_spec()
    unlimited = (spec.minimum <= -1e10) | (spec.maximum >= 1e10)  # mjMAXVAL
    low, high = np.where(unlimited, -1.0, spec.minimum), np.where(unlimited, 1.0, spec.maximum)
    return (high + low) / 2, (high - low) / 2


def proprio_vector(control: Any) -> np.ndarray:
    """The task's own observation of the current state, flattened in its own order: (P,) float32."""
    observation = control.task.get_observation(control.physics)
    return np.concatenate([np.ravel(value) for value in observation.values()]).astype(np.float32)


class DMCEnv(EpisodicEnv):
    """One dm_control task; `config.episode_frames` is its only time limit."""

    def __init__(self, config: EnvConfig, seed: int, domain: str, task: str) -> None:
        """Load the task and find its camera."""
        control = load_task(domain, task)
        centre, half = action_map(control)
        super().__init__(config, seed, action_size=len(half), proprio_size=len(proprio_vector(control)))
        self._control, self._centre, self._half = control, centre, half
        self._renderer = open_renderer(control.physics.model.ptr, control.physics.data.ptr, config)

    def _begin(self) -> None:
        self._start(seed_from(self.run_seed, self.episode))

    def _start(self, seed: int) -> None:
        self._control.task.random.seed(seed)
        self._control.reset()
        if self._control.physics.model.nhfield:
            _drop_own_contexts(self._control.physics)
            self._renderer.upload_terrain()

    def _advance(self, action: np.ndarray) -> Outcome:
        from dm_control.rl.control import PhysicsError

        reward = 0.0
        for _ in range(self.config.action_repeat):
            try:
                step = self._control.step(self._centre + self._half * action)
            except PhysicsError as error:
                # A blow-up of the simulator must not cost the run: the episode ends here with the last good picture.
                log.warning("%s, episode %d, step %d: %s", self.config.name, self.episode, self.time, error)
                self.diverged = True
                return Outcome(reward, terminated=False, broken=True)
            reward += float(step.reward)
            if step.last():
                return Outcome(reward, terminated=True)  # without a time limit, only the task itself ends an episode
        return Outcome(reward, terminated=False)

    def _look(self) -> tuple[np.ndarray, np.ndarray | None]:
        if not self.diverged:
            self._last = self._renderer(), proprio_vector(self._control) if self.config.proprio else None
        image, proprio = self._last
        return image, proprio

    def physics_state(self) -> np.ndarray:
        """Positions, velocities and activations (S,) float64, as dm_control's `Physics.get_state`."""
        return np.array(self._control.physics.get_state(), dtype=np.float64)

    def _restore(self, state: np.ndarray) -> None:
        from dm_control.rl.control import PhysicsError

        physics = self._control.physics
        try:
            with physics.reset_context():
                physics.set_state(state)
        except PhysicsError as error:
            raise UserError(f"{self.config.name} cannot go on from this state: {error}") from error
        self._control._reset_next_step = False  # else, where no episode is running, the next step would begin one

    def _visit(self, states: np.ndarray, actions: np.ndarray | None) -> Iterator[None]:
        """Where the task senses forces, which depend on the action, its actions are played again.

        UserError if they lead elsewhere, or the task draws its scene anew in each episode.
        """
        if self._scene(seed=0) != self._scene(seed=1):
            raise UserError(
                f"{self.config.name} draws its scene anew in each episode, which physics states do not hold: "
                "its demonstrations must come as images"
            )
        if actions is None or not self.config.proprio or not self._senses_forces():
            yield from super()._visit(states, actions)
            return
        self.restore(states[0])
        yield
        for action, state in zip(actions, states[1:], strict=True):
            self._follow(action, state)
            yield

    def _scene(self, seed: int) -> bytes:
        """What a reset decides about the picture besides the physics state: the model and the bodies moved by hand."""
        import mujoco

        self._start(seed)
        model, data = self._control.physics.model.ptr, self._control.physics.data
        buffer = np.zeros(mujoco.mj_sizeModel(model), dtype=np.uint8)
        mujoco.mj_saveModel(model, None, buffer)
        return b"".join(part.tobytes() for part in (buffer, data.mocap_pos, data.mocap_quat))

    def _senses_forces(self) -> bool:
        """Whether the observation holds forces or accelerations, which depend on the action that led there."""
        import mujoco

        model, sensors = self._control.physics.model, self._control.physics.data.sensordata
        for sensor in np.flatnonzero(model.sensor_needstage == mujoco.mjtStage.mjSTAGE_ACC.value):
            start = model.sensor_adr[sensor]
            sensors[start : start + model.sensor_dim[sensor]] = np.nan
        return bool(np.isnan(proprio_vector(self._control)).any())

    def _follow(self, action: np.ndarray, state: np.ndarray) -> None:
        """Go on to a recorded state (S,) by the action (A,) that led there; UserError if it leads elsewhere."""
        import mujoco

        outcome = self._advance(np.clip(action.astype(np.float64), -1.0, 1.0))
        if outcome.broken or not np.abs(self.physics_state() - state).max() <= PLAYED_TOLERANCE:  # NaN is far too
            raise UserError(
                f"{self.config.name} observes forces, for which its demonstrations are played again, but with this "
                "MuJoCo their actions do not lead from state to state: env.proprio=true needs demonstrations recorded "
                "with it"
            )
        physics = self._control.physics
        physics.set_state(state)  # but the solver's warm start, on which forces depend too, stays as it is
        mujoco.mj_step1(physics.model.ptr, physics.data.ptr)

    def _free(self) -> None:
        self._control.physics.free()


def _drop_own_contexts(physics: Any) -> None:
    # Tasks with random terrain open dm_control's OpenGL contexts at reset. Left open, dm_control would believe them
    # current at the next reset, and upload the terrain into ours.
    with physics._contexts_lock:
        if physics._contexts:
            physics._free_rendering_contexts()


def make(config: EnvConfig, seed: int, task: Task) -> DMCEnv:
    """The environment; its episodes derive from `seed`."""
    return DMCEnv(config, seed, task.domain, task.task)


def measure(task: Task) -> tuple[int, int, float | None]:
    """Sizes of the action and of the vector observation, and frames a second."""
    control = load_task(task.domain, task.task)
    sizes = control.action_spec().shape[0], len(proprio_vector(control))
    rate = 1 / control.control_timestep()
    control.physics.free()
    return *sizes, rate
