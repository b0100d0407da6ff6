"""The data of several ranks: each has a part of its own, and what one cannot write is said by all."""

from __future__ import annotations

from pathlib import Path

import pytest
from counting_run import STEPS, CountingPolicy, digests, module

from vmil.config.schema import Config
from vmil.data.datamodule import VMILDataModule
from vmil.data.ranks import Rank
from vmil.errors import UserError


def test_each_rank_has_its_own_part_and_the_clock_counts_all(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two ranks, one after the other in this process: each is told that the other has collected as much."""
    config.compute.devices, config.training.pretrain_updates = 2, 0
    for where in ("ranks", "round_collector"):
        monkeypatch.setattr(f"vmil.data.{where}.gathered", lambda own: [own, own])
    modules = [VMILDataModule(config, CountingPolicy(), tmp_path / "replay", Rank(index, 2)) for index in range(2)]
    shown = []
    for data in modules:
        data.setup()
        batch = next(data.epoch())
        shown.append(set(batch.image[0, : batch.num_experts, 0, 0, 0].tolist()))
        assert data.frames == 80  # two episodes, one by each
        assert data.replay.episodes == 1
        assert data.replay.capacity == 5 * STEPS  # half of the ten episodes
        data.state_dict()
    assert modules[0].seed != modules[1].seed
    assert shown[0].isdisjoint(shown[1])  # one demonstration each
    assert {path.name for path in tmp_path.glob("replay*")} == {"replay", "replay_1"}
    state = {"ranks": [data._own_state() for data in modules]}
    with pytest.raises(UserError, match=r"compute.devices × compute.nodes = 2, which must stay so"):
        module(config, tmp_path / "replay").load_state_dict(state)
    resumed = VMILDataModule(config, CountingPolicy(), tmp_path / "replay", Rank(1, 2))
    resumed.setup()
    resumed.load_state_dict(state)
    assert resumed.frames == 80
    assert digests(resumed.replay) == digests(modules[1].replay)
    for data in (*modules, resumed):
        data.close()


def test_a_rank_that_cannot_write_is_a_sentence_for_all(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vmil.data.ranks.gathered", lambda own: [own, ({}, "the disk is full")])
    data = VMILDataModule(config, CountingPolicy(), tmp_path / "replay", Rank(0, 2))
    data.setup()
    with pytest.raises(UserError, match="the disk is full"):
        data.state_dict()
    data.close()
