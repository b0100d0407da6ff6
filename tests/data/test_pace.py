"""When a run collects and when it learns."""

from __future__ import annotations

from types import SimpleNamespace as Some
from typing import Any

from vmil.data.pace import Pace


def config(
    pretrain: int = 0, workers: int = 1, frames: int = 100, size: int = 40, updates: int = 6, seeds: int = 0
) -> Any:
    training = Some(
        frames=frames, frames_per_epoch=size, updates_per_epoch=updates, pretrain_updates=pretrain, seed_frames=seeds
    )
    return Some(training=training, collector=Some(workers=workers))


def learnt(pace: Pace, episodes: int) -> list[int]:
    """Batches that a round yields after each of so many episodes of ten frames."""
    made = []
    for _ in range(episodes):
        pace.frames += 10
        made.append(0)
        while pace.owed and pace.earned:
            pace.owed -= 1
            made[-1] += 1
    return made


def test_batches_are_earned_as_frames_come_in() -> None:
    pace = Pace(config())
    pace.begin_round()
    assert not pace.earned
    assert learnt(pace, 4) == [1, 2, 1, 2]  # 1.5 for each ten frames
    assert (pace.missing, pace.owed) == (0, 0)


def test_a_round_begins_where_the_last_one_overshot() -> None:
    pace = Pace(config())
    pace.begin_round()
    pace.frames, pace.owed = 47, 0
    pace.begin_round()
    assert (pace.goal, pace.missing) == (87, 40)


def test_pre_training_needs_no_frames_and_is_a_round_of_its_own() -> None:
    pace = Pace(config(pretrain=9))
    assert pace.earned
    assert (pace.epochs, pace.round_length) == (4, 9)
    pace.owed = 0
    assert pace.round_length == 6  # of what comes next
    pace.begin_round()
    assert (pace.goal, pace.owed, pace.round_length) == (40, 6, 6)
    assert Pace(config()).epochs == 3


def test_what_is_left_shrinks_with_each_batch_and_not_with_frames() -> None:
    pace = Pace(config(pretrain=9))
    assert pace.updates_left == 9 + 3 * 6
    pace.owed = 0
    assert pace.updates_left == 3 * 6
    pace.begin_round()
    assert pace.updates_left == 3 * 6
    assert sum(learnt(pace, 2)) == 3
    assert pace.updates_left == 3 * 6 - 3


def test_random_actions_at_the_beginning_earn_nothing() -> None:
    pace = Pace(config(seeds=30))
    assert pace.epochs == 2  # 70 frames are left to learn in
    pace.begin_round()
    assert pace.missing == 70
    assert learnt(pace, 7) == [0, 0, 0, 1, 2, 1, 2]
    assert (pace.missing, pace.owed, pace.epochs, pace.spent) == (0, 0, 2, False)
    pace.begin_round()
    assert (pace.missing, pace.round_length, pace.epochs) == (40, 6, 2)


def test_a_budget_of_random_actions_alone_still_ends_with_a_round_that_learns() -> None:
    pace = Pace(config(frames=60, seeds=1000))
    assert pace.epochs == 1
    pace.begin_round()
    assert (pace.goal, pace.owed, pace.epochs) == (60, 6, 1)
    assert not pace.overdrawn
    pace.frames, pace.owed = 60, 0
    assert pace.spent


def test_within_a_wave_nothing_is_learnt_and_a_resumed_one_is_finished() -> None:
    pace = Pace(config(workers=3))
    pace.begin_round()
    pace.begin_wave()
    pace.frames, pace.wave = 30, 1
    assert not pace.earned
    again = Pace(config(workers=3))
    again.load_state_dict(pace.state_dict())
    again.begin_wave()
    assert (again.wave, again.missing, again.earned) == (1, 10, False)
    again.wave = 0
    assert again.earned


def resumed(pace: Pace, **settings: int) -> Pace:
    again = Pace(config(**settings))
    again.load_state_dict(pace.state_dict())
    return again


def test_rounds_of_another_size_come_after_the_one_that_was_begun() -> None:
    """Of a budget of 100 frames, two rounds of 40 were begun when the third is asked to be one of 10."""
    pace = Pace(config(pretrain=9))
    for _ in range(2):
        pace.begin_round()
    pace.frames = 60
    pace.goal = 80
    again = resumed(pace, pretrain=9, size=10, updates=2)
    assert (again.round_length, again.owed, again.missing) == (6, 6, 20)
    again.owed = 4
    assert again.earned  # three of six batches for half of the round's frames
    again.owed = 3
    assert not again.earned
    assert again.epochs == 3 + 2  # pre-training and two rounds, then two of ten frames for the twenty that are left
    again.owed = 0
    again.begin_round()
    assert (again.round_length, again.owed) == (2, 2)


def test_a_last_round_beyond_the_budget_is_finished_and_a_lowered_budget_is_overdrawn() -> None:
    pace = Pace(config())
    for _ in range(3):
        pace.begin_round()
    pace.frames, pace.owed = 120, 2
    assert not pace.overdrawn
    assert pace.epochs == 3
    assert not resumed(pace, frames=81).overdrawn
    assert resumed(pace, frames=80).overdrawn
    assert resumed(pace, frames=200).epochs == 5
