"""The dot's expert, which is the task's solution."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from vmil.config.schema import EnvConfig
from vmil.envs.dot import SPEED, DotEnv
from vmil.experts.expert import RECORDING_SEED, EpisodicExpert, Kind
from vmil.system.arrays import Floats32


class DotExpert(EpisodicExpert):
    """Takes each coordinate to the middle as fast as it can, and stays there."""

    kind: ClassVar[Kind] = "optimal"

    def __init__(self, config: EnvConfig) -> None:
        """Plays in an environment of its own."""
        self.env = DotEnv(config, RECORDING_SEED)
        super().__init__(self.env)

    def decide(self) -> Floats32:
        """The velocity that reaches the middle in this step, or full speed."""
        velocity: Floats32 = np.clip(-self.env.place / SPEED, -1.0, 1.0).astype(np.float32)
        return velocity

    def about(self) -> list[str]:
        """A sentence."""
        return ["- Moves each coordinate to the middle as fast as the task allows. Nothing is trained."]
