"""Whether a recorded update is the eager one is said, and a recording that fails costs no other part of the table."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import pytest
import torch
from tape import TapeRecorder

from vmil.bench import recorded
from vmil.bench.clock import Times
from vmil.bench.plan import paper_config
from vmil.bench.recorded import Agreement, Recorded, add_recorded, compare_recorded, measure_recorded
from vmil.bench.report import Table
from vmil.bench.updates import Findings
from vmil.config.schema import Config
from vmil.errors import UserError
from vmil.learner.graphs import WARM_UP

A = 3
SAME, OTHER = Agreement(2e-3, 1e-3, True), Agreement(4e-3, 1e-3, True)


@pytest.fixture
def config() -> Config:
    return paper_config(["env=counting", "compute=debug"], (4, 5), "compute.precision=fp32")


class Idle(TapeRecorder):
    """Its replays do nothing."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        super().record(work)
        return lambda: None


def test_recorded_updates_are_compared_with_eager_ones(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "UPDATES", 2 * WARM_UP + 4)
    found = compare_recorded(config, A, lambda _: TapeRecorder())
    assert found.ok
    assert found.eager == 0.0
    assert "two eager runs 0.0e+00; the same random numbers" in str(found)
    idle = compare_recorded(config, A, lambda _: Idle())
    assert not idle.ok
    assert idle.recorded > 0.1
    assert not idle.same_noise
    assert str(idle).startswith("NOT EQUAL to eager updates")


def test_a_recorded_run_may_differ_as_two_eager_ones_do() -> None:
    assert SAME.ok
    assert not OTHER.ok
    assert not SAME._replace(same_noise=False).ok
    assert not Agreement(float("nan"), 0.0, True).ok


@pytest.mark.parametrize(
    "error", [UserError("cannot be recorded (why)\nmore"), RuntimeError("CUDA error"), BrokenProcessPool("it died")]
)
def test_a_recording_that_fails_is_a_remark(config: Config, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(recorded, "in_own_process", fail)
    table = Table(lambda _: None)
    assert add_recorded(table, "4x5", config, A, 0, 1) is None
    assert table.remarks == {"recorded 4x5": f"NOT RECORDED: {str(error).splitlines()[0]}"}
    assert table.rows == []


@pytest.mark.parametrize(("agreement", "equal"), [(SAME, True), (OTHER, False)])
def test_on_a_gpu_it_counts_for_the_table(
    config: Config, monkeypatch: pytest.MonkeyPatch, agreement: Agreement, equal: bool
) -> None:
    monkeypatch.setattr(recorded, "choose_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(recorded, "in_own_process", lambda *_: Recorded(Times((0.2, 0.3, 0.4)), agreement))
    table = Table(lambda _: None)
    found = measure_recorded(table, {"4x5": config}, Findings(True, {"4x5": 0.5}), A, 0, 3)
    assert found == Findings(equal, {"4x5": 0.3})
    assert [(row.what, row.value) for row in table.rows] == [("4x5: whole update, recorded", 300.0)]
    assert table.remarks["recorded 4x5"] == str(agreement)
    always = replace(config, compute=replace(config.compute, graphs="always"))
    assert measure_recorded(table, {"4x5": always}, Findings(True, {"4x5": 0.5}), A, 0, 3).seconds == {"4x5": 0.5}
