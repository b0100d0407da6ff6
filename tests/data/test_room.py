"""Memory and disk: what a run will take is foretold, and what does not fit is refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from counting_run import module, same

from vmil.config.schema import Config
from vmil.data import footprint
from vmil.data.footprint import Footprint, estimate, replay_steps
from vmil.envs.factory import EnvInfo, env_info
from vmil.errors import UserError


def test_capacity_is_no_more_than_the_budget(config: Config) -> None:
    assert replay_steps(config) == 200  # 400 frames, two of them a step
    config.training.frames = 100_000
    assert replay_steps(config) == 200  # replay_frames
    config.training.replay_frames, config.training.frames = 10_000, 90
    assert replay_steps(config) == 80  # two rounds of 80 frames
    config.training.replay_frames = 130
    assert replay_steps(config) == 60  # whole episodes only


def test_estimate_is_what_is_taken_when_full(config: Config, tmp_path: Path) -> None:
    config.env.proprio = True
    data = module(config, tmp_path / "replay")
    for _ in range(data.pace.epochs):
        list(data.epoch())
    assert data.replay.memory_bytes() == data.footprint.replay_bytes
    assert data.demos.replay.memory_bytes() == data.footprint.demo_bytes
    data.state_dict()
    written = sum(path.stat().st_size for path in (tmp_path / "replay").iterdir())
    assert written < data.footprint.replay_bytes + 10 * 1024  # a header for each of ten episodes
    data.close()


def test_replay_goes_to_disk_when_memory_is_short(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = [batch for data in [module(config)] for _ in range(2) for batch in data.epoch()]
    monkeypatch.setattr(footprint, "available_memory", lambda: 60_000)
    data = module(config, tmp_path / "replay")
    assert "kept on disk" in caplog.text
    got = [batch for _ in range(2) for batch in data.epoch()]
    assert (tmp_path / "replay" / "scratch").is_dir()
    assert all(same(*pair) for pair in zip(got, wanted, strict=True))
    data.close()
    assert not (tmp_path / "replay" / "scratch").exists()
    with pytest.raises(UserError, match=r"does not fit into 0\.0 GiB of free memory: lower training\.replay_frames"):
        module(config)


def test_what_a_killed_run_kept_on_disk_leaves_it_once_memory_has_room(config: Config, tmp_path: Path) -> None:
    left = tmp_path / "replay" / "scratch"
    left.mkdir(parents=True)
    (left / "image.memmap").write_bytes(b"0")
    module(config, tmp_path / "replay").close()
    assert not left.exists()


def test_no_room_anywhere_is_one_sentence(config: Config, tmp_path: Path) -> None:
    config.training.frames = config.training.replay_frames = 10**15
    with pytest.raises(UserError, match="nor on the disk of"):
        module(config, tmp_path / "replay")


def test_the_footprint_counts_the_demonstrations_that_are_there(config: Config) -> None:
    info = env_info(config.env)
    config.demos.count = 3
    given = estimate(config, info)
    config.demos.count = None
    assert estimate(config, info) == given


def test_what_collects_nothing_needs_no_room_for_it(config: Config) -> None:
    info = env_info(config.env)
    needed = estimate(config, info)
    config.learner = "bc"
    assert estimate(config, info) == Footprint(0, needed.demo_bytes)


def test_default_run_fits_a_small_machine() -> None:
    size = estimate(Config(), EnvInfo(6, 0, 64, steps_per_episode=500, frames_per_step=2, frames_per_second=40.0))
    assert size.replay_bytes < 0.4 * 2**30
    assert size.demo_bytes < 0.1 * 2**30
