"""How long collected episodes last: cut off, whole, or first the one and then the other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from counting_run import REPEAT, STEPS, CountingPolicy, digests, taken
from pool_here import Here
from torch import Tensor, nn

from vmil.config.schema import Config
from vmil.data.datamodule import VMILDataModule
from vmil.data.footprint import replay_steps

SHORT, ROUND = 10, 80  # agent steps of a cut episode; frames


class Portable(nn.Module):
    """A counting policy that can act in workers too."""

    def forward(self, image: Tensor, proprio: Tensor | None, is_first: Tensor) -> Tensor:
        return CountingPolicy()(image, proprio, is_first)

    def portable(self) -> nn.Module:
        return Portable()

    def networks(self) -> dict[str, nn.Module]:
        return {}


def module(config: Config, directory: Path | None = None) -> VMILDataModule:
    data = VMILDataModule(config, Portable(), directory)
    data.setup()
    return data


@pytest.fixture
def lengthening(config: Config) -> Config:
    """Cut episodes in the first two rounds of four."""
    config.training.frames, config.training.replay_frames = 4 * ROUND, 4 * ROUND
    config.training.episode_frames, config.training.whole_episodes_from = SHORT * REPEAT, 2 * ROUND
    return config


def test_collected_episodes_may_be_shorter_than_scored_ones(config: Config) -> None:
    """Each is broken off and the next begun, so that as many frames show more beginnings; demonstrations stay whole."""
    config.training.pretrain_updates, config.training.episode_frames = 0, 10 * REPEAT
    config.training.frames_per_epoch = 60
    data = module(config)
    list(data.train_dataloader())
    assert data.frames == 60
    assert [(span.episode, span.length) for span in data.replay.spans] == [(0, 10), (1, 10), (2, 10)]
    assert not any(span.terminated for span in data.replay.spans)
    assert {span.length for span in data.demos.replay.spans} == {STEPS}
    assert replay_steps(config) == 400 // REPEAT
    data.close()


def test_from_some_moment_on_they_may_be_whole(lengthening: Config) -> None:
    """The next episodes in the same order: how long one lasts does not change which it is."""
    data = module(lengthening)
    while data.frames < 4 * ROUND:
        list(data.epoch())
    spans = [(span.episode, span.length) for span in data.replay.spans]
    assert spans == [*((index, SHORT) for index in range(8)), *((index, STEPS) for index in range(8, 12))]
    assert replay_steps(lengthening) == 4 * ROUND // REPEAT
    data.close()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("stop", [4, 7, 8, 9, 11])
def test_stopped_around_that_moment_and_resumed_equals_never_stopped(
    lengthening: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int, workers: int
) -> None:
    """Rounds of three batches after two of pre-training: episodes are whole from the ninth batch on."""
    if workers > 1:
        monkeypatch.setattr("vmil.data.parallel.WorkerPool", Here)
        lengthening.collector.backend, lengthening.collector.workers = "process", workers
        lengthening.collector.overlap = True
    whole, first = module(lengthening), module(lengthening, tmp_path / "replay")
    wanted = [batch for _ in range(5) for batch in whole.epoch()]
    got = taken(first, stop)
    state = first.state_dict()
    first.close()
    torch.manual_seed(7)
    second = VMILDataModule(lengthening, Portable(), tmp_path / "replay")
    second.load_state_dict(state)
    second.setup()
    while len(got) < len(wanted):
        got.extend(second.epoch())
    assert len(got) == len(wanted)
    assert all(torch.equal(one.image, other.image) for one, other in zip(got, wanted, strict=True))
    assert digests(second.replay) == digests(whole.replay)
    assert {span.length for span in whole.replay.spans} == {SHORT, STEPS}
    for data in (whole, second):
        data.close()


def test_the_change_takes_nothing_from_the_global_random_numbers(lengthening: Config) -> None:
    """A resumed run makes its collector at another moment."""
    data = module(lengthening)
    while data.frames < 2 * ROUND:
        list(data.epoch())
    before, collector = torch.get_rng_state(), data.collector
    data.round_collector.begin_round()
    assert data.collector is not collector
    assert torch.equal(torch.get_rng_state(), before)
    data.close()
