"""What an environment of one's own may hand out, and what it is told where it may not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from vmil.config.schema import EnvConfig
from vmil.envs.episodes import EpisodicEnv, Outcome
from vmil.errors import UserError

SIZE, CONFIG = 4, EnvConfig(name="mine", image_size=4, action_repeat=1, episode_frames=10, proprio=True)
Look = Callable[[int], tuple[np.ndarray, np.ndarray | None]]


class Mine(EpisodicEnv):
    """Shows what it is told to show at each step."""

    def __init__(self, look: Look, config: EnvConfig = CONFIG) -> None:
        super().__init__(config, 0, 1, 2)
        self.look = look

    def _begin(self) -> None:
        """Nothing moves."""

    def _advance(self, action: np.ndarray) -> Outcome:
        return Outcome(0.0, False)

    def _look(self) -> tuple[np.ndarray, np.ndarray | None]:
        return self.look(self.time)

    def physics_state(self) -> np.ndarray:
        return np.zeros(1)


def picture(value: int = 0) -> np.ndarray:
    return np.full((SIZE, SIZE, 3), value, np.uint8)


def test_an_environment_may_draw_into_the_same_memory_again() -> None:
    frame, vector = picture(), np.zeros(2, np.float32)

    def look(step: int) -> tuple[np.ndarray, np.ndarray]:
        frame[:], vector[:] = step, step
        return frame, vector

    steps = Mine(look).rollout(5, policy=lambda td: td.set("action", torch.zeros(1)))
    assert steps["next", "image"][:, 0, 0, 0].tolist() == [1, 2, 3, 4, 5]
    assert steps["next", "proprio"][:, 1].tolist() == [1, 2, 3, 4, 5]


def test_an_environment_may_hand_out_a_flipped_view_and_float64() -> None:
    drawn = np.arange(SIZE * SIZE * 3, dtype=np.uint8).reshape(SIZE, SIZE, 3)
    seen = Mine(lambda _: (drawn[::-1], np.array([0.5, 2.0]))).reset()
    assert np.array_equal(seen["image"].numpy(), drawn[::-1])
    assert seen["proprio"].dtype == torch.float32
    assert seen["proprio"].tolist() == [0.5, 2.0]


@pytest.mark.parametrize(
    ("image", "vector", "said"),
    [
        (picture() / 255, np.zeros(2), r"the image as float64 of shape \(4, 4, 3\), and must return uint8"),
        (
            picture().transpose(2, 0, 1),
            np.zeros(2),
            r"the image as uint8 of shape \(3, 4, 4\), .* of shape \(4, 4, 3\)",
        ),
        (np.zeros((4, 6, 3), np.uint8), np.zeros(2), r"the image as uint8 of shape \(4, 6, 3\)"),
        (picture(), np.zeros(3), r"the proprio as float32 of shape \(3,\), .* of shape \(2,\)"),
    ],
)
def test_what_is_shown_must_be_what_was_declared(image: np.ndarray, vector: np.ndarray, said: str) -> None:
    with pytest.raises(UserError, match=f"^mine: _look returns {said}"):
        Mine(lambda _: (image, vector)).reset()


def test_without_a_way_to_restore_recorded_states_are_refused_in_one_sentence() -> None:
    with pytest.raises(UserError, match=r"^mine cannot go on from a recorded state$"):
        Mine(lambda _: (picture(), np.zeros(2))).revisit(np.zeros((3, 1)))


def test_a_declared_vector_must_be_there() -> None:
    with pytest.raises(UserError, match="mine: _look returns no proprio"):
        Mine(lambda _: (picture(), None)).reset()
    for unasked in (None, np.zeros(2)):
        assert (
            "proprio" not in Mine(lambda _, given=unasked: (picture(), given), replace(CONFIG, proprio=False)).reset()
        )
