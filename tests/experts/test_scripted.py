"""Peg insertion's expert and its shipped demonstrations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import vmil
from vmil.config.load import load_config
from vmil.data.demos import Recording, read_recording
from vmil.envs.factory import make_env
from vmil.evaluation.rollout import SEED_OFFSET
from vmil.experts.kinds import make_expert
from vmil.experts.replay_check import replay_demo
from vmil.experts.scripted import Measured, ScriptedPegExpert, measure_expert

SAWYER = Path(vmil.__file__).parent / "assets" / "sawyer"
DEMOS = sorted((SAWYER / "demos").glob("demo_*.npz"))
PLACES = [9, 10, 31, 32, 33, 38, 39]  # peg's x and y, hand's x, y and z, box's x and y, in a physics state


@pytest.fixture(scope="module")
def expert() -> Iterator[ScriptedPegExpert]:
    expert = make_expert("sawyer", SAWYER / "expert.json")
    assert isinstance(expert, ScriptedPegExpert)
    yield expert
    expert.close()


@pytest.fixture(scope="module")
def recordings() -> list[Recording]:
    return [read_recording(path) for path in DEMOS]


def test_fifty_successful_demonstrations_are_shipped(recordings: list[Recording]) -> None:
    assert [path.name for path in DEMOS] == [f"demo_{i:02d}.npz" for i in range(50)]
    assert sum(path.stat().st_size for path in DEMOS) < 3_000_000
    for recording in recordings:
        assert recording.physics.shape == (101, 41)
        assert recording.action.shape == (100, 4)
        assert np.abs(recording.action).max() <= 1
        meta = recording.meta
        described = {key: meta[key] for key in ("format", "env", "domain", "task", "action_repeat", "expert")}
        assert described == {
            "format": 1, "env": "sawyer", "domain": "metaworld", "task": "peg-insert-side-v3", "action_repeat": 2,
            "expert": "scripted",
        }  # fmt: skip
        assert meta["scores"]["success"] == 1
        assert meta["return"] == pytest.approx(recording.reward.sum(dtype=np.float64), abs=1e-3)
        # Meta-World's reward is 10 a frame while the peg is in, and less otherwise.
        assert recording.reward.max() == pytest.approx(20.0)


def test_the_card_names_every_digest_and_what_the_expert_scores() -> None:
    card = (SAWYER / "CARD.md").read_text()
    for path in [*DEMOS, SAWYER / "expert.json"]:
        assert f"| {path.name} | `{hashlib.sha256(path.read_bytes()).hexdigest()}` |" in card
    measured = Measured(**json.loads((SAWYER / "expert.json").read_text()))
    assert len(measured.successes) == 50
    assert measured.summary.extras["success"] > 0.8
    assert f"**{measured.summary}**" in card


def test_no_evaluation_begins_where_a_demonstration_does(recordings: list[Recording]) -> None:
    starts = np.stack([recording.physics[0, PLACES] for recording in recordings])
    assert len(np.unique(starts.round(6), axis=0)) == len(starts)
    preset = load_config(["env=sawyer"])
    env = make_env(preset.env, 0)
    for seed in (0, SEED_OFFSET, SEED_OFFSET + 19):  # training's first episode, and evaluations'
        env.set_seed(seed)
        env.open_episode()
        assert np.abs(starts - env.physics_state()[PLACES]).max(axis=1).min() > 1e-3
    env.close()


def test_a_shipped_demonstration_begins_at_its_seed_and_follows_step_by_step(
    expert: ScriptedPegExpert, recordings: list[Recording]
) -> None:
    recording = recordings[7]
    first = {"physics": recording.physics[:21], "reward": recording.reward[:20]}
    replay = replay_demo(expert, recording.meta["seed"], action=recording.action[:20], **first)
    assert replay.one_step_state < 1e-6
    assert replay.open_loop_state < 1e-3  # to rounding, which another processor does otherwise
    wrong = replay_demo(expert, recording.meta["seed"], action=np.roll(recording.action[:20], 1, axis=0), **first)
    assert wrong.one_step_state > 1e-4  # an action one step off does not pass unnoticed


def test_the_expert_is_measured_and_says_so(tmp_path: Path) -> None:
    measured = measure_expert(load_config(["env=sawyer"]).env, tmp_path, episodes=2)
    assert len(measured.returns) == len(measured.successes) == 2
    shipped = Measured(**json.loads((SAWYER / "expert.json").read_text()))
    assert measured.successes == shipped.successes[:2]
    assert measured.returns == pytest.approx(shipped.returns[:2], rel=0.2)
    assert all(0 < frames <= 200 for frames in measured.success_frames)
    assert Measured(**json.loads((tmp_path / "expert.json").read_text())) == measured
    assert "over 2 episodes" in str(measured.summary)
