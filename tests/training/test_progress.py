"""What a run says while it goes on: on the terminal, in its log."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytest
from tiny_run import Run

from vmil.training.flush import TrackingFlush
from vmil.training.progress import Progress, start_logging

pytestmark = pytest.mark.filterwarnings("ignore")


def test_the_progress_line_says_frames_speed_time_left_and_evaluation(
    tmp_path: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caplog.at_level(logging.INFO, "vmil.training"):
        run = Run(tmp_path).fit()
    lines = [record.message for record in caplog.records if record.name.endswith("progress")]
    assert lines[0].startswith("pre-training 2/2 updates · ")
    assert lines[1].startswith("10/40 frames · ")
    assert "updates/s · 0 min left" in lines[1]
    assert lines[-1].endswith("evaluation 15 at 40")
    progress: Progress = run.find(Progress)
    assert progress.text(0).startswith("0/40 frames")  # while the first episodes are played
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    speed = progress._speed()
    run.data.owed = round(7200 * speed)
    assert "2 h 00 min left" in progress.text(20)


@pytest.mark.parametrize(("episode_frames", "said"), [(0, "collected 7"), (4, "collected 7 in 4 frames at most")])
def test_what_was_collected_is_compared_with_whole_episodes_only_if_it_is_one(
    tmp_path: Path, episode_frames: int, said: str
) -> None:
    run = Run(tmp_path, episode_frames=episode_frames).fit()
    run.find(TrackingFlush).latest["collect/return"] = 7.0
    assert said in run.find(Progress).text(10).split(" · ")


def test_on_a_terminal_there_is_a_bar_that_also_moves_while_episodes_are_collected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path)
    run.find(Progress)._wants_bar = True
    run.fit()
    assert run.data.on_collect is not None
    last = capsys.readouterr().err.split("\r")[-1]
    assert last.startswith("100%|")
    assert "| 40/40 frames · " in last
    assert "evaluation 15 at 40" in last


def test_messages_go_to_the_log_file_and_progress_once_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start_logging(tmp_path)
    start_logging(tmp_path)  # a second run in one process must not say everything twice
    logging.getLogger("vmil.training.progress").info("10/40 frames")
    logging.getLogger("vmil.data").debug("too much detail")
    for handler in logging.getLogger("vmil").handlers:
        handler.flush()
    assert capsys.readouterr().err == "10/40 frames\n"
    assert (tmp_path / "run.log").read_text().endswith(" INFO 10/40 frames\n")
