"""Recorded demonstrations: the shipped ones are what their card says, and recording refuses what it must."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vmil
from vmil.config.errors import UserError
from vmil.experts.actor import Action, ActorSpec, Observation, Policy, deterministic_policy, load_actor
from vmil.experts.record import Episode, noisy_policy, record_demos
from vmil.experts.replay_check import replay_demo
from vmil.experts.state_task import score_episodes

WALKER = Path(vmil.__file__).parent / "assets" / "walker"
DEMOS = sorted((WALKER / "demos").glob("demo_*.npz"))


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    return arrays, json.loads(str(arrays.pop("meta")))


def test_ten_demos_are_shipped() -> None:
    assert [path.name for path in DEMOS] == [f"demo_{i:02d}.npz" for i in range(10)]


@pytest.mark.parametrize("path", DEMOS, ids=lambda path: path.stem)
def test_shipped_demo_has_the_format(path: Path) -> None:
    arrays, meta = _load(path)
    assert path.stat().st_size <= 200_000
    assert {key: (value.shape, value.dtype.name) for key, value in arrays.items()} == {
        "physics": ((501, 18), "float64"),
        "action": ((500, 6), "float32"),
        "reward": ((500,), "float32"),
    }
    assert np.abs(arrays["action"]).max() <= 1
    assert meta["return"] == pytest.approx(arrays["reward"].sum(dtype=np.float64), abs=1e-3)
    assert meta["return"] >= 900
    described = {key: meta[key] for key in ("format", "env", "domain", "task", "action_repeat", "expert")}
    assert described == {
        "format": 1, "env": "walker", "domain": "walker", "task": "walk", "action_repeat": 2, "expert": "sac",
    }  # fmt: skip


def test_card_names_the_digest_of_every_file_and_the_mean() -> None:
    card = (WALKER / "CARD.md").read_text()
    files = [*DEMOS, WALKER / "actor.safetensors", WALKER / "expert.json"]
    for path in files:
        assert f"| {path.name} | `{hashlib.sha256(path.read_bytes()).hexdigest()}` |" in card
    mean = np.mean([_load(path)[1]["return"] for path in DEMOS])
    assert f"Mean return **{mean:.1f}**" in card


@pytest.mark.parametrize("path", DEMOS[::5], ids=lambda path: path.stem)
def test_every_step_of_a_demo_follows_from_the_one_before(path: Path) -> None:
    arrays, _ = _load(path)
    first = {"physics": arrays["physics"][:101], "action": arrays["action"][:100], "reward": arrays["reward"][:100]}
    replay = replay_demo("walker", "walk", 2, **first)
    assert replay.one_step_state < 1e-6
    wrong = replay_demo("walker", "walk", 2, first["physics"], np.roll(first["action"], 1, axis=0), first["reward"])
    assert wrong.one_step_state > 1e-2  # an action one step off does not pass unnoticed


def test_shipped_actor_walks() -> None:
    net, spec = load_actor(WALKER / "actor.safetensors")
    assert score_episodes(deterministic_policy(net, spec), spec, episodes=1, seed=77)[0] >= 900


def test_recording_again_gives_the_same_kind_of_demo(tmp_path: Path) -> None:
    for name in ("actor.safetensors", "expert.json"):
        shutil.copy(WALKER / name, tmp_path / name)
    actor = tmp_path / "actor.safetensors"
    (path,) = record_demos("walker", actor, tmp_path, count=1, seed=5, min_return=800.0, action_noise=0.2)
    arrays, meta = _load(path)
    assert meta["action_noise"] == 0.2
    assert np.abs(arrays["action"]).max() <= 1.0
    assert meta["seed"] >= 5
    assert meta["return"] >= 800
    assert len(arrays["physics"]) == len(arrays["action"]) + 1
    assert path.name in (tmp_path / "CARD.md").read_text()


def test_noise_of_that_scale_is_added_and_drawn_by_the_seed() -> None:
    def still(_: Observation) -> Action:
        return np.zeros(1000, np.float32)

    noisy = noisy_policy(still, 0.2, seed=3)
    first = noisy({})
    assert abs(first.std() - 0.2) < 0.02
    assert not np.array_equal(first, noisy({}))
    assert np.array_equal(first, noisy_policy(still, 0.2, seed=3)({}))
    assert np.array_equal(noisy_policy(still, 0.0, seed=3)({}), still({}))


def _poor_episode(_policy: Policy, _spec: ActorSpec, seed: int) -> Episode:
    return Episode(np.zeros((3, 18)), np.zeros((2, 6), np.float32), np.zeros(2, np.float32), seed)


def test_recording_refuses_what_cannot_be_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    actor = WALKER / "actor.safetensors"
    with pytest.raises(UserError, match="not for cheetah"):
        record_demos("cheetah", actor, tmp_path, count=1, seed=0)
    monkeypatch.setattr("vmil.experts.record.run_episode", _poor_episode)
    with pytest.raises(UserError, match="Only 0 of 20"):
        record_demos("walker", actor, tmp_path, count=2, seed=0, min_return=1.0)
    with pytest.raises(RuntimeError, match="cannot be replayed"):
        record_demos("walker", actor, tmp_path, count=2, seed=0)
    (tmp_path / "demos" / "demo_02.npz").touch()
    with pytest.raises(UserError, match="already holds demo_02"):
        record_demos("walker", actor, tmp_path, count=2, seed=0)
