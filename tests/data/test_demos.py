"""Demonstrations: drawn by seed, rendered once, and every kind of bad file told in one sentence."""

from __future__ import annotations

import io
import itertools
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from counting_run import DEMO_EPISODE, REPEAT, STEPS, action_of, digests, write_demo
from torch import Tensor

from vmil.config.schema import Config
from vmil.data import demos, recording
from vmil.data.demos import Demonstrations, load_demonstrations
from vmil.data.recording import MAX_STEPS, read_recording, write_recording
from vmil.data.transition import previous_actions
from vmil.envs.counting import encode
from vmil.errors import UserError


def load(config: Config, seed: int = 0) -> Demonstrations:
    return load_demonstrations(config.env, config.demos, seed, sampling_seed=7)


def refused(config: Config) -> str:
    with pytest.raises(UserError) as error:
        load(config)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_pixels_actions_and_scores(config: Config, decode: Callable[[Tensor], Tensor]) -> None:
    config.demos.count = 3
    loaded = load(config)
    assert loaded.mean_return == STEPS * 0.5
    assert loaded.replay.steps == 3 * STEPS  # the last observation, which has no action, is left out
    sample = loaded.replay.sample(50, 6)
    seen = decode(sample["image"])
    assert set(seen[..., 0].unique().tolist()) == {DEMO_EPISODE + index for index in range(3)}
    assert torch.equal(seen[..., 1], sample["t"])
    expected = [[action_of(int(e), int(t)) for e, t in row] for row in seen]
    assert torch.equal(sample["action"][..., 0], torch.tensor(expected))
    previous = previous_actions(sample["action"].transpose(0, 1), sample["is_first"].transpose(0, 1))
    assert torch.equal(previous[1:, :, 0].T, torch.tensor(expected)[:, :-1])


def test_seed_draws_the_files_and_the_digest_says_which(config: Config) -> None:
    assert load(config).digest == load(config).digest
    chosen = {seed: demos.find_demos("counting", config.demos, seed) for seed in range(20)}
    assert {len(paths) for paths in chosen.values()} == {2}
    assert len({tuple(paths) for paths in chosen.values()}) == 3  # all pairs of three turn up
    assert len({load(config, seed).digest for seed in range(20)}) == 3


def test_fewer_demonstrations_are_a_subset_of_more(config: Config) -> None:
    for index in range(3, 9):
        write_demo(Path(str(config.demos.path)) / f"demo_{index:02d}.npz", DEMO_EPISODE + index)
    for seed in range(10):
        draws = []
        for config.demos.count in (1, 2, 5, 9):
            draws.append(set(demos.find_demos("counting", config.demos, seed)))
        assert all(fewer < more for fewer, more in itertools.pairwise(draws))
        assert [len(draw) for draw in draws] == [1, 2, 5, 9]


def test_null_takes_them_all_in_the_order_of_their_names(config: Config) -> None:
    config.demos.count = None
    everything = load(config)
    assert everything.replay.episodes == 3
    config.demos.count = 3
    assert load(config, seed=5).digest == everything.digest  # as before there was such a thing as null


def test_proprio_comes_with_the_pixels(config: Config) -> None:
    config.env.proprio = True
    sample = load(config).replay.sample(4, 6)
    assert sample["proprio"].shape == (4, 6, 2)
    assert torch.equal(sample["proprio"][..., 1], sample["t"].float())


# ---- demonstrations that hold their pictures


def write_pictures(path: Path, rows: int = STEPS + 1, **changes: Any) -> None:
    """Counting pictures of 8 x 8 pixels with actions; `changes` replace arrays, or entries of meta."""
    states = np.array([[DEMO_EPISODE, t] for t in range(rows)], np.float64)
    arrays: dict[str, Any] = {
        "image": np.stack([encode(DEMO_EPISODE, t, 8) for t in range(rows)]),
        "action": np.array([[action_of(DEMO_EPISODE, t)] for t in range(STEPS)], np.float32),
        "reward": np.full(STEPS, 0.5, np.float32),
        "proprio": states.astype(np.float32),
    }
    meta = {"format": 2, "env": "counting", "action_repeat": REPEAT, "image_size": 8, "camera": 0}
    for name, value in changes.items():
        (arrays if name in arrays or isinstance(value, np.ndarray) else meta)[name] = value
    path.unlink(missing_ok=True)
    write_recording(path, {name: value for name, value in arrays.items() if value is not None}, meta)


@pytest.mark.parametrize("rows", [STEPS, STEPS + 1])
def test_pictures_are_taken_as_they_are(
    config: Config, rows: int, rendered: list[int], decode: Callable[[Tensor], Tensor]
) -> None:
    """With a picture after the last action or without: that one is not stored."""
    for index in range(3):
        write_pictures(Path(str(config.demos.path)) / f"demo_{index:02d}.npz", rows)
    config.env.proprio = True
    loaded = load(config)
    assert rendered == []
    assert loaded.replay.steps == 2 * STEPS
    sample = loaded.replay.sample(50, 6)
    seen = decode(sample["image"])
    assert torch.equal(seen[..., 1], sample["t"])
    expected = [[action_of(int(e), int(t)) for e, t in row] for row in seen]
    assert torch.equal(sample["action"][..., 0], torch.tensor(expected))
    assert torch.equal(sample["proprio"], seen.float())
    assert loaded.mean_return == STEPS * 0.5


def test_unknown_rewards_cost_the_expert_s_score_only(config: Config) -> None:
    config.demos.count = None
    load(config).check_rewards()
    write_pictures(Path(str(config.demos.path)) / "demo_01.npz", reward=None)
    loaded = load(config)
    assert loaded.mean_return is None
    with pytest.raises(UserError, match="needs demonstrations whose rewards are known"):
        loaded.check_rewards()


BAD_PICTURES: dict[str, tuple[dict[str, Any], str]] = {
    "other size": ({"image_size": 16}, "image_size=16"),
    "a size that it does not have": (
        {"image": np.zeros((STEPS + 1, 16, 16, 3), np.uint8)},
        "has images of 16 x 16 pixels",
    ),
    "floats": ({"image": np.zeros((STEPS, 8, 8, 3))}, "image is float64 of 4 dimensions, expected uint8 of 4"),
    "four channels": ({"image": np.zeros((STEPS, 8, 8, 4), np.uint8)}, "image has 4 channels"),
    "too few": ({"image": np.zeros((STEPS - 1, 8, 8, 3), np.uint8)}, "20 actions need 20 or 21 images"),
    "too many": ({"image": np.zeros((STEPS + 2, 8, 8, 3), np.uint8)}, "it has 22 and 20"),
    "rewards": ({"reward": np.zeros(STEPS + 1, np.float32)}, "it has 21 and 21"),
    "other rows": ({"proprio": np.zeros((STEPS, 2), np.float32)}, "should be the same number of rows"),
    "NaN": ({"proprio": np.full((STEPS + 1, 2), np.nan, np.float32)}, "proprio holds NaN"),
    "other vector": ({"proprio": np.zeros((STEPS + 1, 3), np.float32)}, "has 3 numbers of proprio, env counting has 2"),
    "no vector": ({"proprio": None}, "holds images but no proprio"),
    "other camera": ({"camera": 2}, "camera=2"),
}


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_bad_pictures(config: Config, name: str) -> None:
    changes, said = BAD_PICTURES[name]
    config.demos.count, config.env.proprio = 3, True
    write_pictures(Path(str(config.demos.path)) / "demo_01.npz", **changes)
    message = refused(config)
    assert said in message
    assert "demo_01" in message


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MAX_BYTES", 10_000)
    with pytest.raises(UserError, match="a demonstration to 0 MiB at the most"):
        write_pictures(tmp_path / "demo_00.npz", image=np.zeros((STEPS, 32, 32, 3), np.uint8))
    assert not list(tmp_path.glob("demo_*"))


# ---- the cache


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one whenever a demonstration is drawn."""
    calls: list[int] = []
    draw = demos.revisit

    def count(env: Any, states: np.ndarray, actions: np.ndarray) -> Any:
        calls.append(len(states))
        return draw(env, states, actions)

    monkeypatch.setattr(demos, "revisit", count)
    return calls


def test_rendered_once_for_the_same_settings(config: Config, rendered: list[int]) -> None:
    first = digests(load(config).replay)
    assert len(rendered) == 2
    assert digests(load(config).replay) == first
    assert len(rendered) == 2
    config.env.image_size = 16
    load(config)
    assert len(rendered) == 4
    config.env.render_profile = "standard"
    load(config)
    assert len(rendered) == 6
    config.env.proprio = True
    load(config)
    assert len(rendered) == 8  # which gives the vectors too


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_cache_is_drawn_anew(config: Config, rendered: list[int], damage: str) -> None:
    first = digests(load(config).replay)
    path = next(Path(config.demos.cache_dir).rglob("*.gz"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes({"truncated": content[:50], "flipped": content, "empty": b""}[damage])
    assert digests(load(config).replay) == first
    assert len(rendered) == 3
    assert digests(load(config).replay) == first
    assert len(rendered) == 3


def test_a_cache_that_cannot_be_written_is_one_sentence(config: Config, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config.demos.cache_dir = str(tmp_path / "file" / "cache")
    assert "demos.cache_dir chooses another place" in refused(config)


# ---- bad input


def test_too_few_or_none(config: Config, tmp_path: Path) -> None:
    config.demos.count = 4
    assert "has 3 demonstrations (demo_*.npz): demos.count=null takes all" in refused(config)
    config.demos.path = str(tmp_path / "other")
    (tmp_path / "other").mkdir()
    assert refused(config).endswith("holds no demonstration (demo_*.npz)")
    (tmp_path / "other" / "episode.npz").touch()
    assert "`make import-demos` converts other formats" in refused(config)
    (tmp_path / "other" / "demos").mkdir()  # as `make demos` leaves them
    (tmp_path / "other" / "demos" / "demo_00.npz").touch()
    assert refused(config).endswith(f", but {tmp_path}/other/demos does")
    config.demos.path = str(tmp_path / "nowhere")
    assert "is not a directory" in refused(config)
    config.demos.path = None
    assert "no demonstrations are shipped for env counting" in refused(config)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "other env": ({"env": "walker"}, "shows walker"),
    "other action repeat": ({"action_repeat": 4}, "action_repeat=4, but this run has env.action_repeat=2"),
    "no action repeat": ({"action_repeat": None}, "action_repeat=None"),
    "other image size": ({"image_size": 64}, "image_size=64"),
    "other render profile": ({"render_profile": "standard"}, "render_profile=standard"),
    "other camera": ({"camera": 2}, "camera=2"),
    "other format": ({"format": 3}, "format 3, not 1 or 2"),
    "pictures that are not there": ({"format": 2}, "is no demonstration: "),
    "other action size": ({"action": np.zeros((STEPS, 3), np.float32)}, "3 action dimensions, env counting has 1"),
    "NaN action": ({"action": np.full((STEPS, 1), np.nan, np.float32)}, "action holds NaN"),
    "infinite state": ({"physics": np.full((STEPS + 1, 2), np.inf)}, "physics holds NaN or infinite"),
    "large action": ({"action": np.full((STEPS, 1), 1.5, np.float32)}, r"outside [-1, 1]"),
    "integer action": ({"action": np.zeros((STEPS, 1), np.int64)}, "action is int64"),
    "flat action": ({"action": np.zeros(STEPS, np.float32)}, "expected float of 2"),
    "scalar action": ({"action": np.float32(0)}, "expected float of 2"),
    "no step": ({"action": np.zeros((0, 1), np.float32)}, "is truncated: 0 actions"),
    "too many steps": (
        {
            "physics": np.zeros((MAX_STEPS + 2, 2)),
            "action": np.zeros((MAX_STEPS + 1, 1), np.float32),
            "reward": np.zeros(MAX_STEPS + 1, np.float32),
        },
        "has 100001 steps, more than the 100000 that a demonstration may have",
    ),
    "missing state": ({"physics": np.zeros((STEPS, 2))}, "is truncated: 20 actions need 21 physics states"),
    "missing reward": ({"reward": np.zeros(STEPS - 1, np.float32)}, "is truncated"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_content(config: Config, name: str) -> None:
    changes, said = BAD[name]
    for path in Path(str(config.demos.path)).iterdir():
        write_demo(path, **changes)
    message = refused(config)
    assert said in message
    assert "demo_0" in message


def test_actions_of_another_task_by_its_own_name(config: Config, tmp_path: Path) -> None:
    """For a simulated task it is domain and task that count: an alias and its long name share demonstrations."""
    demo = read_recording(next(Path(str(config.demos.path)).iterdir()))
    demo.meta.update(env="walker", domain="walker", task="walk")
    config.env.name = "dmc:walker-walk"
    demos.check_matches(demo, config.env, action_size=1)
    config.env.name = "cheetah"
    with pytest.raises(UserError, match=r"shows walker-walk, but env\.name=cheetah is cheetah-run"):
        demos.check_matches(demo, config.env, action_size=1)


def test_shorter_than_a_training_sequence(config: Config) -> None:
    loaded = load(config)
    loaded.check_length(STEPS, lead_in=0)
    loaded.check_length(STEPS + 2, lead_in=2)
    with pytest.raises(UserError, match=r"20 agent steps, fewer than the 21 that training\.batch_length=23 needs"):
        loaded.check_length(STEPS + 3, lead_in=2)


def archive(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as writer:
        for name, content in members.items():
            writer.writestr(f"{name}.npy", content)
    return file.getvalue()


def array(value: Any, **kwargs: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, value, **kwargs)
    return file.getvalue()


def test_files_that_are_no_demonstration(config: Config) -> None:
    path = Path(str(config.demos.path)) / "demo_00.npz"
    config.demos.count = 3
    sound = path.read_bytes()
    wrong: dict[bytes, str] = {
        b"": "corrupt or truncated",
        b"not a zip": "corrupt or truncated",
        sound[: len(sound) // 2]: "corrupt or truncated",
        archive(physics=array(np.zeros((2, 2)))): "is no demonstration",
        # an array of objects is a pickle, which could execute anything
        archive(
            **dict.fromkeys(("action", "reward", "meta"), array(np.zeros(1))),
            physics=array(np.array([{}]), allow_pickle=True),
        ): "corrupt or truncated",
        archive(
            **dict.fromkeys(("physics", "action", "reward"), array(np.zeros(1))), meta=array(np.array(json.dumps([1])))
        ): "its meta is not a JSON object",
        # 300 MB of zeros in 300 kB
        archive(physics=bytes(300 * 2**20)): "unpacks to more than 256 MiB",
    }
    for content, said in wrong.items():
        path.write_bytes(content)
        message = refused(config)
        assert said in message
        assert str(path) in message


def test_no_damage_ends_in_a_traceback(config: Config) -> None:
    path = Path(str(config.demos.path)) / "demo_00.npz"
    sound, chance = path.read_bytes(), random.Random(0)
    for _ in range(300):
        damaged = bytearray(sound)
        for _ in range(chance.choice([1, 8])):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged[: chance.randrange(len(damaged))] if chance.random() < 0.3 else damaged)
        try:
            read_recording(path)
        except UserError as error:
            assert "\n" not in str(error)  # noqa: PT017 (most, but not all, of the damage is fatal)
