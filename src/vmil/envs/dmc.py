"""dm_control's suite from pixels, with the action repeated below the renderer."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from vmil.config.errors import UserError
from vmil.config.schema import EnvConfig
from vmil.envs.cameras import find_camera
from vmil.envs.episodes import EpisodicEnv, Outcome, seed_from
from vmil.envs.rendering import Renderer
from vmil.envs.suite import load_task
from vmil.envs.tasks import Task

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


def open_renderer(control: Any, config: EnvConfig) -> Renderer:
    """A renderer of this environment's physics, as `config` asks; UserError if the model has no such camera."""
    model, data = control.physics.model.ptr, control.physics.data.ptr
    return Renderer(model, data, config.image_size, find_camera(config, model), config.render_profile)


class DMCEnv(EpisodicEnv):
    """One dm_control task; `config.episode_frames` is its only time limit."""

    def __init__(self, config: EnvConfig, seed: int, domain: str, task: str) -> None:
        """Load the task and open its camera."""
        control = load_task(domain, task)
        centre, half = action_map(control)
        super().__init__(config, seed, action_size=len(half), proprio_size=len(proprio_vector(control)))
        self._control, self._centre, self._half = control, centre, half
        self._renderer = open_renderer(control, config)
        self._diverged = False

    def _begin(self) -> None:
        self._diverged = False
        self._control.task.random.seed(seed_from(self.run_seed, self.episode))
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
                self._diverged = True
                return Outcome(reward, terminated=False, broken=True)
            reward += float(step.reward)
            if step.last():
                return Outcome(reward, terminated=True)  # without a time limit, only the task itself ends an episode
        return Outcome(reward, terminated=False)

    def _look(self) -> tuple[np.ndarray, np.ndarray | None]:
        if not self._diverged:
            self._last = self._renderer(), proprio_vector(self._control) if self.config.proprio else None
        image, proprio = self._last
        return image, proprio

    def physics_state(self) -> np.ndarray:
        """Positions, velocities and activations (S,) float64, as dm_control's `Physics.get_state`."""
        return np.array(self._control.physics.get_state(), dtype=np.float64)

    def close(self, *, raise_if_closed: bool = True) -> None:
        """Free OpenGL and the simulator; a second call does nothing."""
        if not self.is_closed and hasattr(self, "_renderer"):  # the destructor comes here from a failed __init__ too
            self._renderer.close()
            self._control.physics.free()
        super().close(raise_if_closed=raise_if_closed)


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


def revisit(
    config: EnvConfig, task: Task, states: np.ndarray, actions: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (T, H, W, 3) uint8 and vector observations (T, P) float32 of recorded states (T, S).

    actions: (T - 1, A), from state to state. For a task that senses forces the vectors are right only with them.
    UserError if the states are another task's, or the task draws its scene anew in each episode.
    """
    control = load_task(task.domain, task.task)
    name, states = f"{task.domain}-{task.task}", np.asarray(states, dtype=np.float64)
    try:
        _check_recorded(control, name, states)
        if actions is not None and config.proprio and _feels_forces(control):
            moments = _play(control, name, states, actions, config.action_repeat)
        else:
            moments = _visit(control, states)
        return _look_at(control, config, moments)
    finally:
        control.physics.free()


def _check_recorded(control: Any, name: str, states: np.ndarray) -> None:
    size = len(control.physics.get_state())
    if states.ndim != 2 or states.shape[1] != size:
        raise UserError(f"recorded states of shape {states.shape} are not {name}'s: (any, {size}) expected")
    if _scene(control, seed=0) != _scene(control, seed=1):
        raise UserError(
            f"{name} draws its scene anew in each episode, which physics states do not hold: "
            "its demonstrations must come as images"
        )


def _scene(control: Any, seed: int) -> bytes:
    """All that a reset decides about the picture besides the physics state: the model and the bodies moved by hand."""
    import mujoco

    control.task.random.seed(seed)
    control.reset()
    physics = control.physics
    _drop_own_contexts(physics)
    buffer = np.zeros(mujoco.mj_sizeModel(physics.model.ptr), dtype=np.uint8)
    mujoco.mj_saveModel(physics.model.ptr, None, buffer)
    return b"".join(part.tobytes() for part in (buffer, physics.data.mocap_pos, physics.data.mocap_quat))


def _feels_forces(control: Any) -> bool:
    """Whether the task's observation holds forces or accelerations, which depend on the action that led there."""
    import mujoco

    physics = control.physics
    model, sensors = physics.model, physics.data.sensordata
    for sensor in np.flatnonzero(model.sensor_needstage == mujoco.mjtStage.mjSTAGE_ACC.value):
        start = model.sensor_adr[sensor]
        sensors[start : start + model.sensor_dim[sensor]] = np.nan
    felt = bool(np.isnan(proprio_vector(control)).any())
    physics.forward()
    return felt


def _visit(control: Any, states: np.ndarray) -> Iterator[None]:
    """Set one state after another."""
    for state in states:
        control.physics.set_state(state)
        control.physics.forward()
        yield


def _play(control: Any, name: str, states: np.ndarray, actions: np.ndarray, repeat: int) -> Iterator[None]:
    """Go from state to state by the actions; UserError if they lead elsewhere."""
    import mujoco

    physics = control.physics
    control.reset()
    with physics.reset_context():
        physics.set_state(states[0])
    yield
    for action, state in zip(actions, states[1:], strict=True):
        if not _leads_to(control, action, repeat, state):
            raise UserError(
                f"{name} observes forces, for which its demonstrations are played again, but with this MuJoCo their "
                "actions do not lead from state to state: env.proprio=true needs demonstrations recorded with it"
            )
        physics.set_state(state)  # but the solver's warm start, on which forces depend too, stays as it is
        mujoco.mj_step1(physics.model.ptr, physics.data.ptr)
        yield


def _leads_to(control: Any, action: np.ndarray, repeat: int, state: np.ndarray) -> bool:
    """Take an agent step as the environment does; returns whether it ends in this state."""
    from dm_control.rl.control import PhysicsError

    centre, half = action_map(control)
    try:
        for _ in range(repeat):
            if control.step(centre + half * np.clip(action.astype(np.float64), -1.0, 1.0)).last():
                break
    except PhysicsError:
        return False
    return bool(np.abs(control.physics.get_state() - state).max() <= PLAYED_TOLERANCE)


def _look_at(control: Any, config: EnvConfig, moments: Iterable[None]) -> tuple[np.ndarray, np.ndarray]:
    images, vectors = [], []
    renderer = open_renderer(control, config)
    try:
        for _ in moments:
            images.append(renderer())
            vectors.append(proprio_vector(control))
    finally:
        renderer.close()
    return np.stack(images), np.stack(vectors)
