"""Evaluation in lock-step."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from vmil.config.schema import EnvConfig
from vmil.envs.counting import CountingEnv
from vmil.envs.episodes import Outcome
from vmil.evaluation.rollout import SEED_OFFSET, SIDE_BY_SIDE, evaluate

CONFIG = EnvConfig(name="counting", image_size=4, action_repeat=1, episode_frames=3)


class SeededEnv(CountingEnv):
    """Episode length is 3 + seed % 4; pixels hold (seed % 256, t, 0); the reward is the action plus t."""

    opened: ClassVar[list[SeededEnv]] = []

    def __init__(self, seed: int, proprio: bool = False) -> None:
        super().__init__(replace(CONFIG, episode_frames=6, proprio=proprio), seed)
        SeededEnv.opened.append(self)

    def _advance(self, action: np.ndarray) -> Outcome:
        return Outcome(float(action[0]) + self.time, terminated=self.time + 1 == 3 + self.run_seed % 4)

    def _look(self) -> tuple[np.ndarray, np.ndarray | None]:
        image = np.zeros((4, 4, 3), np.uint8)
        image[..., 0], image[..., 1] = self.run_seed % 256, self.time
        return image, np.full(2, self.time) if self.config.proprio else None


class RecordingPolicy:
    """Acts by the seed that it sees (so a mixed-up row shows), and remembers what it was given."""

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, Tensor | None, Tensor]] = []

    def __call__(self, image: Tensor, proprio: Tensor | None, is_first: Tensor) -> Tensor:
        self.calls.append((image, proprio, is_first))
        return image[:, 0, 0, :1] / 256


def test_episodes_of_different_lengths_keep_their_own_actions_rewards_and_seeds() -> None:
    policy = RecordingPolicy()
    result = evaluate(policy, SeededEnv, episodes=4, seed=1)
    seeds = [1 + SEED_OFFSET + index for index in range(4)]
    assert result.lengths == [3 + seed % 4 for seed in seeds]
    assert sorted(result.lengths) == [3, 4, 5, 6]
    for rewards, seed, length in zip(result.rewards, seeds, result.lengths, strict=True):
        assert rewards.tolist() == pytest.approx([seed % 256 / 256 + t for t in range(length)])
    assert result.returns == pytest.approx([float(rewards.sum()) for rewards in result.rewards])
    assert result.video is None


def test_the_policy_is_called_once_a_step_on_the_stacked_batch_and_told_of_the_first_step() -> None:
    policy = RecordingPolicy()
    result = evaluate(policy, SeededEnv, episodes=3, seed=0)
    assert len(policy.calls) == max(result.lengths)
    images, proprio, _ = policy.calls[1]
    assert (images.shape, images.dtype, proprio) == (torch.Size([3, 4, 4, 3]), torch.uint8, None)
    assert [bool(first.all()) for _, _, first in policy.calls] == [True] + [False] * (len(policy.calls) - 1)
    assert [bool(first.any()) for _, _, first in policy.calls][1:] == [False] * (len(policy.calls) - 1)


def test_the_film_is_the_first_episode_and_stops_with_it() -> None:
    result = evaluate(RecordingPolicy(), SeededEnv, episodes=4, seed=0, video=True)
    assert result.video is not None
    assert result.video.shape == (result.lengths[0], 4, 4, 3)
    assert result.video[:, 0, 0, 1].tolist() == list(range(result.lengths[0]))
    assert (result.video[..., 0] == SEED_OFFSET % 256).all()


def test_proprioception_reaches_the_policy() -> None:
    policy = RecordingPolicy()
    evaluate(policy, lambda seed: SeededEnv(seed, proprio=True), episodes=2, seed=0)
    proprio = policy.calls[2][1]
    assert proprio is not None
    assert proprio.tolist() == [[2.0, 2.0], [2.0, 2.0]]


class SucceedingEnv(CountingEnv):
    """An episode succeeds if its seed is even; its error is its seed."""

    SCORES = ("success", "error")

    def _episode_scores(self) -> dict[str, float]:
        assert self.time == self.steps_per_episode
        return {"success": float(self.run_seed % 2 == 0), "error": float(self.run_seed)}


def test_what_a_task_scores_besides_its_return_is_gathered_per_episode_and_seen_by_no_policy() -> None:
    result = evaluate(RecordingPolicy(), lambda seed: SucceedingEnv(CONFIG, seed), episodes=3, seed=0)
    assert result.scores == {"success": [1.0, 0.0, 1.0], "error": [SEED_OFFSET + index for index in range(3)]}
    assert result.lengths == [3, 3, 3]
    step = SucceedingEnv(CONFIG, 0).rollout(3)
    assert not [key for key in step.keys(True, True) if {"success", "error"} & {key, key[-1]}]
    assert evaluate(RecordingPolicy(), SeededEnv, episodes=1, seed=0).scores == {}


def test_every_evaluation_plays_the_same_episodes_and_closes_its_environments() -> None:
    SeededEnv.opened.clear()
    first = evaluate(RecordingPolicy(), SeededEnv, episodes=2, seed=5)
    second = evaluate(RecordingPolicy(), SeededEnv, episodes=2, seed=5)
    assert first.returns == second.returns
    assert [env.run_seed for env in SeededEnv.opened] == [5 + SEED_OFFSET, 6 + SEED_OFFSET] * 2
    assert all(env.is_closed and env.episode == 0 for env in SeededEnv.opened)


def test_breaking_off_closes_the_environments_too() -> None:
    def break_off(step: int) -> None:
        if step == 2:
            raise InterruptedError

    SeededEnv.opened.clear()
    with pytest.raises(InterruptedError):
        evaluate(RecordingPolicy(), SeededEnv, episodes=2, seed=0, on_step=break_off)
    assert len(SeededEnv.opened) == 2
    assert all(env.is_closed for env in SeededEnv.opened)


def test_many_episodes_take_turns_in_a_few_environments_and_are_what_they_would_be_alone() -> None:
    made: list[SucceedingEnv] = []

    def make_env(seed: int) -> SucceedingEnv:
        made.append(SucceedingEnv(CONFIG, seed))
        return made[-1]

    count = 2 * SIDE_BY_SIDE + 2
    policy = RecordingPolicy()
    result = evaluate(policy, make_env, count, seed=0, video=True)
    assert len(made) == SIDE_BY_SIDE
    assert all(env.is_closed for env in made)
    assert result.scores["error"] == [SEED_OFFSET + index for index in range(count)]
    assert len(result.returns) == len(result.lengths) == count
    assert result.video is not None
    assert len(result.video) == 3
    assert [len(image) for image, _, _ in policy.calls] == [SIDE_BY_SIDE] * 6 + [2] * 3
    assert [bool(first.all()) for _, _, first in policy.calls] == [True, False, False] * 3
    for image, _, _ in policy.calls:
        assert (image[..., 0] == 0).all()  # every one is in the first episode of its seed


def test_one_at_a_time_plays_the_same_episodes() -> None:
    SeededEnv.opened.clear()
    policy = RecordingPolicy()
    alone = evaluate(policy, SeededEnv, episodes=4, seed=1, side_by_side=1)
    assert len(SeededEnv.opened) == 1
    assert {len(image) for image, _, _ in policy.calls} == {1}
    assert alone.returns == evaluate(RecordingPolicy(), SeededEnv, episodes=4, seed=1).returns


def test_no_episode_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one episode"):
        evaluate(RecordingPolicy(), SeededEnv, episodes=0, seed=0)
