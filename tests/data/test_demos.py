"""Demonstrations: drawn by seed, rendered once, and every kind of bad file told in one sentence."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from counting_run import DEMO_EPISODE, STEPS, action_of, write_demo
from torch import Tensor

from vmil.config.errors import UserError
from vmil.config.schema import Config
from vmil.data import demos
from vmil.data.demos import Demonstrations, load_demonstrations, read_recording
from vmil.data.transition import previous_actions


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
    assert loaded.returns == [STEPS * 0.5] * 3
    assert loaded.mean_return == STEPS * 0.5
    assert loaded.replay.steps == 3 * STEPS  # the last observation, which has no action, is left out
    sample = loaded.sample(50, 6)
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


def test_proprio_comes_with_the_pixels(config: Config) -> None:
    config.env.proprio = True
    sample = load(config).sample(4, 6)
    assert sample["proprio"].shape == (4, 6, 2)
    assert torch.equal(sample["proprio"][..., 1], sample["t"].float())


# ---- the cache


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one whenever a demonstration is drawn."""
    calls: list[int] = []
    render = demos.render_states

    def count(env: Any, states: np.ndarray) -> np.ndarray:
        calls.append(len(states))
        return render(env, states)

    monkeypatch.setattr(demos, "render_states", count)
    return calls


def test_rendered_once_for_the_same_settings(config: Config, rendered: list[int]) -> None:
    first = load(config).replay.digest()
    assert len(rendered) == 2
    assert load(config).replay.digest() == first
    assert len(rendered) == 2
    config.env.image_size = 16
    load(config)
    assert len(rendered) == 4
    config.env.render_profile = "standard"
    load(config)
    assert len(rendered) == 6


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_cache_is_drawn_anew(config: Config, rendered: list[int], damage: str) -> None:
    first = load(config).replay.digest()
    path = next(Path(config.demos.cache_dir).rglob("*.gz"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes({"truncated": content[:50], "flipped": content, "empty": b""}[damage])
    assert load(config).replay.digest() == first
    assert len(rendered) == 3
    assert load(config).replay.digest() == first
    assert len(rendered) == 3


def test_a_cache_that_cannot_be_written_is_one_sentence(config: Config, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config.demos.cache_dir = str(tmp_path / "file" / "cache")
    assert "demos.cache_dir chooses another place" in refused(config)


# ---- bad input


def test_too_few_or_none(config: Config, tmp_path: Path) -> None:
    config.demos.count = 4
    assert "demos.count=4" in refused(config)
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
    "other format": ({"format": 2}, "format 2, not 1"),
    "other action size": ({"action": np.zeros((STEPS, 3), np.float32)}, "3 action dimensions, env counting has 1"),
    "NaN action": ({"action": np.full((STEPS, 1), np.nan, np.float32)}, "action holds NaN"),
    "infinite state": ({"physics": np.full((STEPS + 1, 2), np.inf)}, "physics holds NaN or infinite"),
    "large action": ({"action": np.full((STEPS, 1), 1.5, np.float32)}, r"outside [-1, 1]"),
    "integer action": ({"action": np.zeros((STEPS, 1), np.int64)}, "action is int64"),
    "flat action": ({"action": np.zeros(STEPS, np.float32)}, "expected float of 2"),
    "scalar action": ({"action": np.float32(0)}, "expected float of 2"),
    "no step": ({"action": np.zeros((0, 1), np.float32)}, "is truncated: 0 actions"),
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
    recording = read_recording(next(Path(str(config.demos.path)).iterdir()))
    recording.meta.update(env="walker", domain="walker", task="walk")
    config.env.name = "dmc:walker-walk"
    demos.check_matches(recording, config.env, action_size=1)
    config.env.name = "cheetah"
    with pytest.raises(UserError, match=r"shows walker-walk, but env\.name=cheetah is cheetah-run"):
        demos.check_matches(recording, config.env, action_size=1)


def test_shorter_than_a_training_sequence(config: Config) -> None:
    loaded = load(config)
    loaded.check_length(STEPS)
    with pytest.raises(UserError, match=r"20 agent steps, fewer than training\.batch_length=21"):
        loaded.check_length(STEPS + 1)


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
