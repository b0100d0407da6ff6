"""When a run collects and when it learns."""

from __future__ import annotations

from types import SimpleNamespace as Some
from typing import Any

import pytest

from vmil.data.pace import Pace


def config(pretrain: int = 0, workers: int = 1) -> Any:
    training = Some(frames=100, frames_per_epoch=40, updates_per_epoch=6, pretrain_updates=pretrain)
    return Some(training=training, collector=Some(workers=workers))


def test_batches_are_earned_as_frames_come_in() -> None:
    pace = Pace(config())
    pace.begin_round()
    assert not pace.earned
    learnt = []
    for _ in range(4):
        pace.frames += 10
        learnt.append(0)
        while pace.owed and pace.earned:
            pace.owed -= 1
            learnt[-1] += 1
    assert learnt == [1, 2, 1, 2]  # 1.5 for each ten frames
    assert (pace.missing, pace.owed) == (0, 0)


def test_pre_training_needs_no_frames_and_is_a_round_of_its_own() -> None:
    pace = Pace(config(pretrain=9))
    assert pace.earned
    assert (pace.epochs, pace.round_length) == (4, 9)
    pace.owed = 0
    assert pace.round_length == 6  # of what comes next
    pace.begin_round()
    assert (pace.goal, pace.owed, pace.round_length) == (40, 6, 6)
    assert Pace(config()).epochs == 3


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


def test_a_checkpoint_from_before_there_were_waves_is_read() -> None:
    pace = Pace(config())
    pace.load_state_dict({"frames": 5, "goal": 40, "owed": 2})
    assert pace.state_dict() == {"frames": 5, "goal": 40, "owed": 2, "wave": 0}
    with pytest.raises(KeyError):
        pace.load_state_dict({"frames": 5})
