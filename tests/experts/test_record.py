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
from PIL import Image

import vmil
from vmil.config.schema import EnvConfig
from vmil.envs.counting import CountingEnv
from vmil.envs.episodes import Outcome
from vmil.errors import UserError
from vmil.experts.actor import deterministic_policy, load_actor, make_actor_net, save_actor
from vmil.experts.card import Recipe
from vmil.experts.expert import EpisodicExpert
from vmil.experts.record import noisy, record_demos, run_episode, verify
from vmil.experts.replay_check import replay_demo
from vmil.experts.sac_expert import TrainedExpert
from vmil.experts.state_task import describe_task, score_episodes
from vmil.system.arrays import Floats32

ASSETS = Path(vmil.__file__).parent / "assets"
WALKER = ASSETS / "walker"
DEMOS = sorted((WALKER / "demos").glob("demo_*.npz"))
TASKS = {"walker": "walk", "cheetah": "run"}
AT_LEAST = {"walker": 900, "cheetah": 800}  # return of every demonstration, and of the actor
EVERY = [path for env in TASKS for path in sorted((ASSETS / env / "demos").glob("demo_*.npz"))]


def _name(path: Path) -> str:
    return f"{path.parent.parent.name}-{path.stem}"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    return arrays, json.loads(str(arrays.pop("meta")))


def test_ten_demos_are_shipped() -> None:
    assert [_name(path) for path in EVERY] == [f"{env}-demo_{i:02d}" for env in TASKS for i in range(10)]


@pytest.mark.parametrize("path", EVERY, ids=_name)
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
    env = path.parent.parent.name
    assert meta["return"] >= AT_LEAST[env]
    described = {key: meta[key] for key in ("format", "env", "domain", "task", "action_repeat", "expert")}
    assert described == {
        "format": 1, "env": env, "domain": env, "task": TASKS[env], "action_repeat": 2, "expert": "sac",
    }  # fmt: skip


@pytest.mark.parametrize("env", TASKS)
def test_card_names_the_digest_of_every_file_and_the_mean(env: str) -> None:
    card = (ASSETS / env / "CARD.md").read_text()
    demos = sorted((ASSETS / env / "demos").glob("demo_*.npz"))
    for path in [*demos, ASSETS / env / "actor.safetensors", ASSETS / env / "expert.json"]:
        assert f"| {path.name} | `{hashlib.sha256(path.read_bytes()).hexdigest()}` |" in card
    mean = np.mean([_load(path)[1]["return"] for path in demos])
    assert f"Mean return **{mean:.1f}**" in card


@pytest.mark.parametrize("path", EVERY[::5], ids=_name)
def test_every_step_of_a_demo_follows_from_the_one_before(path: Path) -> None:
    arrays, meta = _load(path)
    first = {"physics": arrays["physics"][:101], "action": arrays["action"][:100], "reward": arrays["reward"][:100]}
    env = path.parent.parent.name
    expert = TrainedExpert(env, ASSETS / env / "actor.safetensors")
    replay = replay_demo(expert, meta["seed"], **first)
    assert replay.one_step_state < 1e-6
    first["action"] = np.roll(first["action"], 1, axis=0)
    wrong = replay_demo(expert, meta["seed"], **first)
    assert wrong.one_step_state > 1e-2  # an action one step off does not pass unnoticed
    expert.close()


@pytest.mark.parametrize("env", TASKS)
def test_shipped_actor_walks_or_runs(env: str) -> None:
    net, spec = load_actor(ASSETS / env / "actor.safetensors")
    assert score_episodes(deterministic_policy(net, spec), spec, episodes=1, seed=77)[0] >= AT_LEAST[env]


def test_recording_again_gives_the_same_kind_of_demo(tmp_path: Path) -> None:
    for name in ("actor.safetensors", "expert.json"):
        shutil.copy(WALKER / name, tmp_path / name)
    expert = TrainedExpert("walker", tmp_path / "actor.safetensors")
    (path,) = record_demos(expert, EnvConfig(), tmp_path, Recipe(1, 5, 800.0, 0.2))
    expert.close()
    arrays, meta = _load(path)
    assert meta["action_noise"] == 0.2
    assert np.abs(arrays["action"]).max() <= 1.0
    assert meta["seed"] >= 5
    assert meta["return"] >= 800
    assert len(arrays["physics"]) == len(arrays["action"]) + 1
    assert path.name in (card := (tmp_path / "CARD.md").read_text())
    assert "SAC from state" in card
    assert Image.open(tmp_path / "contact_sheet.png").size == (8 * 64, 64)


def test_shipped_demo_is_recorded_again_bit_by_bit_in_its_first_state_and_action() -> None:
    expert = TrainedExpert("walker", WALKER / "actor.safetensors")
    arrays, meta = _load(DEMOS[0])
    expert.begin(meta["seed"])
    assert np.abs(expert.state() - arrays["physics"][0]).max() < 1e-9
    again = noisy(expert.decide(), meta["action_noise"], np.random.default_rng(meta["seed"]))
    assert np.abs(again - arrays["action"][0]).max() < 1e-4
    expert.close()


def test_noise_of_that_scale_is_added_and_drawn_by_the_seed() -> None:
    still = np.zeros(1000, np.float32)
    generator = np.random.default_rng(3)
    first = noisy(still, 0.2, generator)
    assert abs(first.std() - 0.2) < 0.02
    assert not np.array_equal(first, noisy(still, 0.2, generator))
    assert np.array_equal(first, noisy(still, 0.2, np.random.default_rng(3)))
    assert np.array_equal(noisy(still, 0.0, generator), still)
    assert np.abs(noisy(still, 5.0, generator)).max() == 1.0


def test_an_actor_of_another_task_is_refused() -> None:
    with pytest.raises(UserError, match="not for cheetah"):
        TrainedExpert("cheetah", WALKER / "actor.safetensors")


# ---- the recorder, around an expert whose episodes take no time


class PickyEnv(CountingEnv):
    """Every third episode fails; physics counts what was done, so that a replay shows whether the actions are right."""

    SCORES = ("success",)
    drift = 0.0  # added by every step: a simulator that is not reproducible

    def _begin(self) -> None:
        self.sum = 0.0

    def _advance(self, action: np.ndarray) -> Outcome:
        self.sum += float(action[0]) + PickyEnv.drift
        return Outcome(reward=float(self.episode), terminated=False)

    def physics_state(self) -> np.ndarray:
        return np.array([self.sum, self.time], np.float64)

    def _restore(self, state: np.ndarray) -> None:
        self.sum, self.time = float(state[0]), int(state[1])

    def _episode_scores(self) -> dict[str, float]:
        return {"success": float(self.episode % 3 != 0)}


class PickyExpert(EpisodicExpert):
    kind = "scripted"

    def __init__(self) -> None:
        super().__init__(PickyEnv(COUNTING, 0))
        self.played: list[int] = []

    def begin(self, seed: int) -> None:
        super().begin(seed)
        self.played.append(seed)

    def decide(self) -> Floats32:
        return np.full(1, 0.25, np.float32)

    def about(self) -> list[str]:
        return ["- It counts."]


COUNTING = EnvConfig(name="counting", image_size=8, episode_frames=10)


def _record(out: Path, count: int, **recipe: Any) -> tuple[list[Path], PickyExpert]:
    expert = PickyExpert()
    return record_demos(expert, COUNTING, out, Recipe(count, **{"seed": 3, **recipe})), expert


def test_failures_are_left_out_and_counted(tmp_path: Path) -> None:
    paths, _ = _record(tmp_path, 3)
    assert [_load(path)[1]["seed"] for path in paths] == [4, 5, 7]
    assert all(_load(path)[1]["scores"] == {"success": 1.0} for path in paths)
    card = (tmp_path / "CARD.md").read_text()
    assert "those that succeed; 2 left out" in card
    assert "| demo_02.npz | 7 | 5 | 35.0 | 1 | " in card
    assert "- It counts." in card
    assert Image.open(tmp_path / "contact_sheet.png").size == (8 * 8, 3 * 8)


def test_a_recording_that_was_broken_off_goes_on_and_gives_the_same_files(tmp_path: Path) -> None:
    whole, _ = _record(tmp_path / "whole", 4, action_noise=0.3)
    _record(tmp_path / "parts", 2, action_noise=0.3)
    parts, expert = _record(tmp_path / "parts", 4, action_noise=0.3)
    assert [_load(path)[1] for path in parts] == [_load(path)[1] for path in whole]
    for one, other in zip(parts, whole, strict=True):
        assert all(np.array_equal(_load(one)[0][key], _load(other)[0][key]) for key in ("physics", "action", "reward"))
    assert expert.played == [3, 4, 5, 6, 7, 7, 8, 8]  # one picture; the kept ones are only verified
    cards = [(tmp_path / name / "CARD.md").read_text().partition("## SHA-256")[0] for name in ("whole", "parts")]
    assert cards[0] == cards[1]


def test_a_recording_does_not_go_on_with_another_expert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,), first = _record(tmp_path, 1)
    arrays, meta = _load(path)
    assert meta.pop("expert_digest") == first.identity()
    monkeypatch.setattr(PickyExpert, "identity", lambda self: "another")
    with pytest.raises(UserError, match=r"already holds demo_00\.npz of another expert: choose another directory"):
        _record(tmp_path, 2)
    assert [each.name for each in path.parent.iterdir()] == ["demo_00.npz"]
    older: dict[str, Any] = {**arrays, "meta": np.array(json.dumps(meta))}  # as it was written before it told
    np.savez_compressed(path, **older)
    assert len(_record(tmp_path, 2)[0]) == 2


def test_a_trained_expert_is_known_by_its_weights(tmp_path: Path) -> None:
    digests = []
    for _ in range(2):
        spec = describe_task("walker", "walk", hidden=8, action_repeat=2)
        save_actor(tmp_path / "actor.safetensors", make_actor_net(spec), spec)
        expert = TrainedExpert("walker", tmp_path / "actor.safetensors")
        digests += [expert.identity(), expert.identity()]
        expert.close()
    assert digests[0] == digests[1] != digests[2] == digests[3]


def test_the_card_repeats_what_chose_the_expert_and_what_its_states_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _record(tmp_path, 1, chosen=("actor=a/b.safetensors", "root=there"))
    card = (tmp_path / "CARD.md").read_text()
    assert 'N=1 SEED=3 ARGS="actor=a/b.safetensors root=there action_noise=0"`' in card
    assert "The stored state has no solver warm start" in card
    monkeypatch.setattr(PickyExpert, "holds_warm_start", True)
    _record(tmp_path, 1)  # what named the expert is no part of the recording
    assert "The stored state holds the solver's warm start" in (tmp_path / "CARD.md").read_text()


def test_a_task_whose_states_cannot_be_drawn_is_refused_before_anything_is_recorded(tmp_path: Path) -> None:
    spec = describe_task("reacher", "easy", hidden=8, action_repeat=2)
    save_actor(tmp_path / "actor.safetensors", make_actor_net(spec), spec)
    expert = TrainedExpert("dmc:reacher-easy", tmp_path / "actor.safetensors")
    with pytest.raises(UserError, match="reacher-easy draws its scene anew in each episode"):
        record_demos(expert, EnvConfig(name="dmc:reacher-easy"), tmp_path / "out", Recipe(2, 0))
    expert.close()
    assert not (tmp_path / "out").exists()


def test_recording_refuses_what_cannot_be_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="only 0 of 20 episodes return at least 1000"):
        _record(tmp_path / "poor", 2, min_return=1000.0)
    _record(tmp_path, 2)
    with pytest.raises(UserError, match=r"already holds demo_00\.npz of another recording"):
        _record(tmp_path, 2, action_noise=0.1)
    with pytest.raises(UserError, match="already holds demo_01"):
        _record(tmp_path, 1)
    expert = PickyExpert()
    episode = run_episode(expert, 4)
    monkeypatch.setattr(PickyEnv, "drift", 1e-3)
    with pytest.raises(RuntimeError, match="cannot be replayed"):
        verify(expert, episode)
