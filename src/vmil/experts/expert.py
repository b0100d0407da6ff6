"""What the recorder needs of an expert, whatever it is: a network, a script or a planner, in its own simulator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Literal

from vmil.envs.episodes import EpisodicEnv
from vmil.system.arrays import Floats, Floats32
from vmil.system.provenance import digest

Kind = Literal["sac", "scripted", "planned", "ppo", "optimal"]

# Files that `vmil expert` leaves behind.
ACTOR = "actor.safetensors"  # where there is something to train
PROVENANCE = "expert.json"  # how the expert was made, and what it scores

# Run seed of the environments that experts are recorded in: no training run or evaluation of a usual seed begins an
# episode where a demonstration does.
RECORDING_SEED = 77_000_000
FINAL_SEED = 12_000  # episodes that measure an expert: it was chosen on others, and demonstrations come from others


class Expert(ABC):
    """An expert and the episode that it is in."""

    kind: ClassVar[Kind]  # for the demonstrations' meta
    one_step_tolerance: ClassVar[float]  # how far a step from a recorded state may end from the recorded next one
    # Whether its states hold the solver's warm start: without it single steps agree to rounding only.
    holds_warm_start: ClassVar[bool] = False

    @property
    @abstractmethod
    def action_repeat(self) -> int:
        """Frames per agent step."""

    @abstractmethod
    def begin(self, seed: int) -> None:
        """Start the episode of that seed."""

    @abstractmethod
    def decide(self) -> Floats32:
        """What it would do now: (A,) in [-1, 1]."""

    @abstractmethod
    def execute(self, action: Floats32) -> float:
        """Take one agent step with this action and return the reward, summed over its frames (score only)."""

    @property
    @abstractmethod
    def over(self) -> bool:
        """Whether the episode has ended."""

    @abstractmethod
    def state(self) -> Floats:
        """The physics state now: (S,)."""

    @abstractmethod
    def restore(self, state: Floats) -> None:
        """Go on from a state (S,) of this episode."""

    def scores(self) -> dict[str, float]:
        """What the episode that just ended scores besides its return; "success" is 0 or 1."""
        return {}

    @abstractmethod
    def identity(self) -> str:
        """Digest of what decides its actions besides the seed: its weights or its settings."""

    def about(self) -> list[str]:
        """How it was made and what it scores, as lines of Markdown for the card; none if nothing is known."""
        return []

    def files(self) -> list[Path]:
        """Its files, whose digests belong on the card."""
        return []

    @abstractmethod
    def close(self) -> None:
        """Free the simulator."""


class EpisodicExpert(Expert):
    """An expert that reads the state of one of our environments; a subclass says what it does."""

    # Metres, radians, those per second; 4e-6 was seen, in a peg's velocity while it touches three things at once. An
    # action one step off makes a hundred times as much.
    one_step_tolerance: ClassVar[float] = 1e-4

    def __init__(self, env: EpisodicEnv) -> None:
        """Takes the environment over, and closes it."""
        self._env = env

    @property
    def action_repeat(self) -> int:
        """Frames per agent step."""
        return self._env.config.action_repeat

    def begin(self, seed: int) -> None:
        """Start the environment's episode of that index."""
        self._env.set_episode(seed)
        self._env.open_episode()

    def execute(self, action: Floats32) -> float:
        """Take one agent step, without drawing it."""
        return self._env.advance(action).reward

    @property
    def over(self) -> bool:
        """Whether the episode has ended."""
        return self._env.over

    def state(self) -> Floats:
        """The environment's physics state."""
        return self._env.physics_state()

    def restore(self, state: Floats) -> None:
        """Go on from a state of this episode."""
        self._env.restore(state)

    def scores(self) -> dict[str, float]:
        """The environment's, of the episode that just ended."""
        return dict(self._env.last_scores)

    def identity(self) -> str:
        """The digest of its kind, where nothing else decides."""
        return digest(self.kind)

    def close(self) -> None:
        """Close the environment."""
        self._env.close()
