"""Batches drawn one ahead, in a thread: the same batches, and nothing outside can tell that one was."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch
from counting_run import CountingPolicy

from vmil.config.schema import Config
from vmil.data import draws
from vmil.data.datamodule import VMILDataModule
from vmil.data.draws import Draws
from vmil.data.transition import Batch

THREAD = "draws"


def module(config: Config, directory: Path | None = None, ahead: bool = False) -> VMILDataModule:
    data = VMILDataModule(config, CountingPolicy(), directory)
    data.setup()
    if ahead:  # as for a GPU
        data.draws = Draws(config, data.demos.replay, data.replay, pinned=False, ahead=True)
    return data


def same(first: list[Batch], second: list[Batch]) -> list[bool]:
    pairs = zip(first, second, strict=True)
    return [torch.equal(a.image, b.image) and torch.equal(a.action, b.action) for a, b in pairs]


def running() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(THREAD)]


@pytest.fixture
def plain(config: Config) -> list[Batch]:
    """Two batches of pre-training and nine of three rounds, each drawn when it was asked for."""
    data = module(config)
    batches = [batch for _ in range(4) for batch in data.epoch()]
    data.close()
    return batches


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """In which thread each batch was drawn."""
    threads, make = list[str](), draws.mixed_batch

    def spy(*args: Any) -> Batch:
        threads.append(THREAD if threading.current_thread().name.startswith(THREAD) else "main")
        return make(*args)

    monkeypatch.setattr(draws, "mixed_batch", spy)
    return threads


def test_the_batches_are_the_same_and_no_episode_comes_between(
    config: Config, plain: list[Batch], drawn: list[str]
) -> None:
    data = module(config, ahead=True)
    batches = [batch for _ in range(4) for batch in data.epoch()]
    assert all(same(batches, plain))
    # The second of pre-training; and of each round's three the last, the one that its episode does not come before.
    assert drawn == ["main", THREAD] + ["main", "main", THREAD] * 3
    assert data.metrics["time/sample"] >= 0
    data.close()


def test_on_the_processor_nothing_is_drawn_ahead(config: Config, drawn: list[str]) -> None:
    data = module(config)
    list(data.epoch())
    assert drawn == ["main", "main"]
    assert running() == []
    data.close()


@pytest.mark.parametrize("stop", range(1, 9))
@pytest.mark.parametrize("ahead", [False, True], ids=["resumed plainly", "resumed alike"])
def test_a_state_taken_anywhere_resumes_to_the_same_batches(
    config: Config, tmp_path: Path, plain: list[Batch], stop: int, ahead: bool
) -> None:
    first = module(config, tmp_path / "replay", ahead=True)
    batches = (batch for _ in range(4) for batch in first.epoch())
    got = [next(batches) for _ in range(stop)]
    assert (first.draws._ahead is not None) == (stop in (1, 4, 7))  # one is on its way
    state = first.state_dict()
    got_on = [*got, *batches]  # who only saved goes on as if nothing had been
    first.close()
    second = module(config, tmp_path / "replay", ahead=ahead)
    second.load_state_dict(state)
    while len(got) < len(plain):
        got += second.epoch()
    assert all(same(got, plain))
    assert all(same(got_on, plain))
    second.close()


def test_loading_a_state_forgets_what_was_drawn_ahead(config: Config, tmp_path: Path, plain: list[Batch]) -> None:
    data = module(config, tmp_path / "replay", ahead=True)
    state = data.state_dict()
    next(iter(data.epoch()))
    assert data.draws._ahead is not None
    data.load_state_dict(state)
    assert all(same([batch for _ in range(4) for batch in data.epoch()], plain))
    data.close()


def test_peeking_changes_nothing(config: Config, plain: list[Batch]) -> None:
    data = module(config, ahead=True)
    got = list(data.epoch())
    for _ in range(3):
        for number, batch in enumerate(data.epoch()):
            assert (data.draws._ahead is not None) == (number == 1)
            peeked = data.peek()
            got.append(batch)
            if number == 1:  # no episode comes before the round's last one
                assert all(same([peeked], [plain[len(got)]]))
    assert all(same(got, plain))
    data.close()


def test_after_closing_there_is_no_thread_and_the_state_is_that_of_the_batches_taken(
    config: Config, tmp_path: Path, plain: list[Batch]
) -> None:
    data = module(config, tmp_path / "replay", ahead=True)
    batches = data.epoch()
    got = [next(batches)]
    assert running() != []
    data.close()
    assert running() == []
    data.close()
    state = data.state_dict()
    got += batches  # what is left can still be drawn, here
    assert running() == []
    second = module(config, tmp_path / "replay")
    second.load_state_dict(state)
    rest = list(second.epoch())
    assert all(same([*got[:1], *rest], plain[:2]))
    assert all(same(got, plain[:2]))
    second.close()


class StrangeError(Exception):
    pass


@pytest.fixture
def source(config: Config) -> Iterator[Draws]:
    """Draws ahead from demonstrations alone."""
    data = module(config, ahead=True)
    yield data.draws
    data.close()


def test_what_goes_wrong_in_the_thread_is_raised_where_the_batch_is_asked_for(
    source: Draws, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Batch:
        raise StrangeError("no such step")

    with monkeypatch.context() as patch:
        patch.setattr(draws, "mixed_batch", fail)
        source.begin(8)
        with pytest.raises(StrangeError, match="no such step"):
            source.take(8)
    source.discard()
    assert source.take(8).num_experts == 8  # and who takes it back can go on


def test_only_one_is_drawn_ahead_and_only_for_who_asked(source: Draws, drawn: list[str]) -> None:
    wanted = [source.peek(8), source.peek(8)]
    assert all(same(wanted[:1], wanted[1:]))
    source.begin(8)
    source.begin(8)
    assert all(same([source.take(8)], wanted[:1]))
    assert drawn == ["main", "main", THREAD]
    states = source._states()
    source.begin(8)
    source.discard()
    assert all(torch.equal(*pair) for pair in zip(source._states(), states, strict=True))


def test_a_batch_of_other_columns_is_drawn_anew(config: Config) -> None:
    config.training.pretrain_updates = 0
    data = module(config, ahead=True)
    next(data.epoch())
    wanted = data.draws.peek(3)
    data.draws.begin(2)
    batch = data.draws.take(3)
    assert batch.num_experts == 3
    assert all(same([batch], [wanted]))
    data.close()


def test_who_is_interrupted_while_waiting_loses_no_batch(source: Draws, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = source.peek(8)
    source.begin(8)

    def interrupted(*_: Any) -> Batch:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Future, "result", interrupted)
        with pytest.raises(KeyboardInterrupt):
            source.take(8)
    source.discard()  # as whoever saves the run does
    assert all(same([source.take(8)], [wanted]))
