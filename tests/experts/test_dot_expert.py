"""The dot's expert and its shipped demonstrations."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

import vmil
from vmil import cli
from vmil.data.recording import read_recording
from vmil.experts.dot_expert import DotExpert
from vmil.experts.kinds import make_expert
from vmil.experts.record import run_episode

DOT = Path(vmil.__file__).parent / "assets" / "dot"
DEMOS = sorted((DOT / "demos").glob("demo_*.npz"))


def test_the_expert_is_in_the_middle_after_four_steps_and_stays() -> None:
    expert = make_expert("dot", DOT / "expert.json")
    assert isinstance(expert, DotExpert)
    for seed in range(5):
        episode = run_episode(expert, seed)
        assert np.abs(episode.physics[4:]).max() < 1e-6
        assert episode.total > 20 - 4
    expert.close()


def test_ten_demonstrations_are_shipped_with_their_card() -> None:
    card = (DOT / "CARD.md").read_text()
    assert [path.name for path in DEMOS] == [f"demo_{i:02d}.npz" for i in range(10)]
    starts = []
    for path in DEMOS:
        assert f"| {path.name} | `{hashlib.sha256(path.read_bytes()).hexdigest()}` |" in card
        recording = read_recording(path)
        assert recording.physics is not None
        assert (recording.physics.shape, recording.action.shape) == ((21, 2), (20, 2))
        assert (recording.meta["env"], recording.meta["expert"]) == ("dot", "optimal")
        assert recording.meta["return"] > 18
        starts.append(recording.physics[0])
    assert len(np.unique(np.array(starts), axis=0)) == 10


def test_recording_again_gives_the_same_demonstrations(tmp_path: Path) -> None:
    assert cli.main(["demos", "env=dot", "count=2", "action_noise=0.1", f"out={tmp_path}"]) == 0
    for path in DEMOS[:2]:
        again, shipped = read_recording(tmp_path / "demos" / path.name), read_recording(path)
        assert again.physics == pytest.approx(shipped.physics)
        assert again.action == pytest.approx(shipped.action)


def test_there_is_nothing_to_train(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["expert", "env=dot"]) != 0
    assert "make demos ENV=dot" in capsys.readouterr().err
