"""What every environment here shares: the keys, the clock and the seeding of episodes."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Binary, Bounded, Composite, Unbounded
from torchrl.envs import EnvBase

from vmil.config.schema import EnvConfig
from vmil.envs.failures import telling
from vmil.errors import NonFiniteError, UserError

if TYPE_CHECKING:
    from vmil.envs.rendering import Renderer


def seed_from(seed: int, index: int) -> int:
    """Seed of episode `index` in a run with `seed`, below 2**32; nearby pairs give unrelated seeds."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])


class Outcome(NamedTuple):
    """What one agent step did, apart from what is seen."""

    reward: float  # summed over the repeated frames; for scores only
    terminated: bool  # the task ended, as opposed to the time limit
    broken: bool = False  # the simulator broke down, which says nothing about the task: the episode is cut off here


class EpisodicEnv(EnvBase):
    """A sequence of episodes, each determined by (seed, index), seen as pixels.

    What an episode scores besides its return (success, a tracking error) stays outside the TensorDict, where no replay
    and no loss can find it: a subclass answers `_episode_scores` when an episode is over, with the names that it
    declares in `SCORES`, each of them a metric `eval/<name>`. An episode that can succeed runs to its time limit all
    the same, so that its length says nothing.

    Keys: "image" (H, W, 3) uint8 · "proprio" (P,) float32 if `config.proprio` · "action" (A,) float32, clipped to
    [-1, 1] · "reward" (1,) float32 · "done", "terminated", "truncated" (1,) bool. The time limit truncates, and so does
    a simulator that breaks down.
    """

    SCORES: ClassVar[tuple[str, ...]] = ()
    _renderer: Renderer  # of a simulator that is drawn with OpenGL: the last thing in its `__init__` that can fail

    def __init__(self, config: EnvConfig, seed: int, action_size: int, proprio_size: int) -> None:
        """Declare the specs; a subclass brings `_begin`, `_advance`, `_look`, `physics_state`, `_restore`."""
        super().__init__(device=torch.device("cpu"), batch_size=torch.Size(()))
        self.is_closed = False  # EnvBase begins closed, and its destructor then closes nothing
        self.config = config
        self.steps_per_episode = config.episode_frames // config.action_repeat
        self.render_seconds = 0.0  # spent in drawing since the environment was made
        self.episode = -1  # index of the running episode
        self.time = 0  # agent steps taken in it
        self.diverged = False  # whether the simulator has broken down in it
        self.last_scores: dict[str, float] = {}  # of the episode that ended last; "success" is 0 or 1
        self._action_size = action_size
        self._next_episode = 0
        self._over = True
        self._resets: int | None = None  # that still begin an episode; None: all do
        self._seen: dict[str, torch.Tensor] = {}  # last
        self._make_specs(action_size, proprio_size)
        self._set_seed(seed)

    def close(self, *, raise_if_closed: bool = True) -> None:
        """Free OpenGL and the simulator; a second call does nothing."""
        if not self.is_closed and hasattr(self, "_renderer"):  # the destructor comes here from a failed __init__ too
            self._renderer.close()
            self._free()
        super().close(raise_if_closed=raise_if_closed)

    def _free(self) -> None:
        """Free the simulator that `_renderer` drew, where that has to be done."""

    def _make_specs(self, action_size: int, proprio_size: int) -> None:
        size = self.config.image_size
        observation = {"image": Bounded(0, 255, shape=(size, size, 3), dtype=torch.uint8)}
        if self.config.proprio:
            observation["proprio"] = Unbounded(shape=(proprio_size,), dtype=torch.float32)
        self.observation_spec = Composite(observation)
        self.action_spec = Bounded(-1.0, 1.0, shape=(action_size,), dtype=torch.float32)
        self.reward_spec = Unbounded(shape=(1,), dtype=torch.float32)
        flags = ("done", "terminated", "truncated")
        self.done_spec = Composite({flag: Binary(n=1, shape=(1,), dtype=torch.bool) for flag in flags})

    def set_episode(self, index: int) -> None:
        """Make `index` the episode that the next reset opens; later resets count on from there."""
        self._next_episode = index

    def play_once(self, index: int) -> None:
        """As `set_episode`, but only the next reset begins an episode: from its end on the environment is at rest.

        Resets and steps then touch nothing, and show what was seen last: TorchRL's collector resets where an episode
        ends and steps on until its batch is full, which no robot should have to do.
        """
        self.set_episode(index)
        self._resets = 1

    def rest(self) -> None:
        """Be at rest until `play_once`."""
        self._resets, self._over = 0, True

    def _set_seed(self, seed: int | None) -> None:
        self.run_seed = 0 if seed is None else int(seed)  # which all episodes derive from
        self._next_episode = 0

    @abstractmethod
    def _begin(self) -> None:
        """Put the simulator at the start of episode `self.episode`."""

    @abstractmethod
    def _advance(self, action: np.ndarray) -> Outcome:
        """Repeat a finite (A,) action in [-1, 1] for `config.action_repeat` frames, or until the task ends."""

    @abstractmethod
    def _look(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Draw the current state: (H, W, 3) uint8 and, if `config.proprio`, (P,) float32."""

    @abstractmethod
    def physics_state(self) -> np.ndarray:
        """Copy what `restore` needs to go on from the current state, and to draw it again: (S,) float64."""

    def _episode_scores(self) -> dict[str, float]:
        """What the episode scored besides its return, now that it is over: a number for each of `SCORES`."""
        return {}

    def open_episode(self) -> None:
        """Begin the next episode, without drawing it."""
        self.episode, self.time = self._next_episode, 0
        self.diverged = self._over = False
        self._next_episode += 1
        with telling(self._where):
            self._begin()

    def advance(self, action: np.ndarray) -> Outcome:
        """Take one agent step with a finite (A,) action, clipped to [-1, 1], without drawing it."""
        checked = self._checked(action)
        with telling(self._where):
            outcome = self._advance(checked)
        if not math.isfinite(outcome.reward):
            raise NonFiniteError(f"{self._where()}: the environment's reward is {outcome.reward}", {"action": action})
        self.time += 1
        self._over = outcome.terminated or outcome.broken or self.time >= self.steps_per_episode
        if self._over:
            with telling(self._where):
                self.last_scores = self._episode_scores()
        return outcome

    def restore(self, state: np.ndarray) -> None:
        """Go on from a recorded `physics_state` (S,) of this episode; the clock starts anew."""
        self.time = 0
        self.diverged = self._over = False
        self._restore(np.asarray(state, dtype=np.float64))

    def _restore(self, state: np.ndarray) -> None:
        """Put the simulator into a `physics_state` (S,) float64; UserError if it cannot be."""
        raise UserError(f"{self.config.name} cannot go on from a recorded state")

    def revisit(self, states: np.ndarray, actions: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """What is seen at recorded `physics_state`s (T, S).

        Pictures (T, H, W, 3) uint8 and, if `config.proprio`, vectors (T, P) float32. actions: (T - 1, A), taken between
        the states, where they are known. UserError if the states are another task's.
        """
        size = len(self.physics_state())
        if states.ndim != 2 or states.shape[1] != size:
            name = self.config.name
            raise UserError(f"recorded states of shape {states.shape} are not {name}'s: (any, {size}) expected")
        seen = [self._observe() for _ in self._visit(states, actions)]
        images = np.stack([each["image"].numpy() for each in seen])
        return images, np.stack([each["proprio"].numpy() for each in seen]) if self.config.proprio else None

    def _visit(self, states: np.ndarray, actions: np.ndarray | None) -> Iterator[None]:
        """Be in each of the states (T, S) in turn; actions (T - 1, A) led from one to the next."""
        for state in states:
            self.restore(state)
            yield

    @property
    def over(self) -> bool:
        """Whether the running episode has ended, or none has begun."""
        return self._over

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: object) -> TensorDictBase:
        if self._resets == 0:
            return TensorDict(self._last_seen(), batch_size=self.batch_size, device=self.device)
        if self._resets is not None:
            self._resets -= 1
        self.open_episode()
        return TensorDict(self._observe(), batch_size=self.batch_size, device=self.device)

    def _last_seen(self) -> dict[str, torch.Tensor]:
        """The last observation; zeros before the first."""
        return dict(self._seen or self.observation_spec.zero().items())

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        if self._over and self._resets == 0:
            still = {**self._last_seen(), **self.full_reward_spec.zero(), **self.full_done_spec.zero()}
            return TensorDict(still, batch_size=self.batch_size, device=self.device)
        try:
            outcome = self.advance(tensordict["action"].detach().cpu().numpy())
        except NonFiniteError as error:  # the evidence includes what was seen before it
            error.evidence |= {key: tensordict[key] for key in ("image", "proprio") if key in tensordict}
            raise
        content = self._observe()
        content["reward"] = torch.tensor([outcome.reward], dtype=torch.float32)
        content["terminated"] = torch.tensor([outcome.terminated])
        content["truncated"] = torch.tensor([self._over and not outcome.terminated])
        content["done"] = torch.tensor([self._over])
        return TensorDict(content, batch_size=self.batch_size, device=self.device)

    def _observe(self) -> dict[str, torch.Tensor]:
        start = time.perf_counter()
        with telling(self._where):
            image, proprio = self._look()
        self.render_seconds += time.perf_counter() - start
        # Copies: the environment may draw into the same memory again, and hands out views.
        content = {"image": torch.from_numpy(self._as_declared("image", image, np.uint8).copy())}
        if self.config.proprio:
            if proprio is None:
                raise UserError(f"{self.config.name}: _look returns no proprio, though env.proprio=true")
            if not np.isfinite(proprio).all():
                raise NonFiniteError(
                    f"{self._where()}: the observation is not finite: proprio is {proprio.tolist()}",
                    {"image": image, "proprio": proprio},
                )
            vector = self._as_declared("proprio", np.asarray(proprio, dtype=np.float32), np.float32)
            content["proprio"] = torch.from_numpy(vector.copy())
        self._seen = content
        return dict(content)

    def _as_declared(self, name: str, value: np.ndarray, dtype: type[np.generic]) -> np.ndarray:
        """What `_look` returned, if the specification allows it: the replay would take anything."""
        shape = tuple(self.observation_spec[name].shape)
        if value.dtype != dtype or value.shape != shape:
            raise UserError(
                f"{self.config.name}: _look returns the {name} as {value.dtype} of shape {value.shape}, "
                f"and must return {np.dtype(dtype)} of shape {shape}"
            )
        return value

    def _where(self) -> str:
        return f"{self.config.name}, episode {self.episode}, agent step {self.time}"

    def _checked(self, action: np.ndarray) -> np.ndarray:
        if self._over:
            raise RuntimeError(f"{self._where()}: this episode is over, reset first")
        if action.shape != (self._action_size,):
            raise RuntimeError(
                f"{self._where()}: action of shape {tuple(action.shape)}, expected ({self._action_size},)"
            )
        if not np.isfinite(action).all():
            raise NonFiniteError(f"{self._where()}: the action is not finite: {action.tolist()}", {"action": action})
        return np.clip(action.astype(np.float64), -1.0, 1.0)
