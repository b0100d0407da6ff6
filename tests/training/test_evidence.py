"""Steps that are left out are said again and again, one bad batch is kept once, and too many in a row end the run."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from vmil.errors import NonFiniteError
from vmil.learner.nonfinite import PATIENCE, Attempt, FiniteGuard, Skip
from vmil.training.evidence import KEPT, SkipReport

BATCH = {"action": torch.full((2,), float("nan"))}


def test_every_doubling_is_said_and_an_update_is_kept_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    guard = FiniteGuard(skip=True)
    guard.on_skip = SkipReport(tmp_path)
    with caplog.at_level(logging.WARNING, "vmil"):
        for update in range(20):
            for step in range(4):  # several steps of D
                guard.leave_out(NonFiniteError(f"step {step} at update {update}", BATCH), update)
    said = [record.getMessage() for record in caplog.records]
    kept = [line for line in said if "kept as" in line]
    assert len(kept) == len(list((tmp_path / "nonfinite").iterdir())) == KEPT
    assert all(f"step 0 at update {update}; kept" in line for update, line in enumerate(kept))
    totals = [int(re.findall(r"; (\d+) in all", line)[0]) for line in said]
    assert totals == [1, 2, 4, 5, 8, 9, 13, 16, 17, 32, 64]


def test_what_is_judged_on_a_gpu_is_said_every_round(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    report = SkipReport(tmp_path)
    with caplog.at_level(logging.WARNING, "vmil"):
        for round_ in range(3):
            report(Skip(NonFiniteError("3 of the updates"), update=9 * round_, total=3 * round_ + 3))
    assert [record.getMessage() for record in caplog.records] == [
        f"3 of the updates; {total} in all" for total in (3, 6, 9)
    ]


def test_steps_left_out_now_and_then_never_add_up_and_those_in_a_row_do() -> None:
    guard, learner = FiniteGuard(skip=True), nn.Linear(1, 1)

    def allows(name: str, loss: float) -> bool:
        return guard.allows(Attempt(name, 0, None), torch.tensor(loss), {"part": torch.tensor(1.0)}, learner)

    for _ in range(2 * PATIENCE):
        assert not allows("model", float("nan"))
        assert allows("model", 1.0)
    for _ in range(PATIENCE - 1):
        assert not allows("model", float("nan"))
        assert allows("disc", 1.0)  # another loss's steps are no end of the row
    with pytest.raises(NonFiniteError, match=f"{PATIENCE} steps in a row were left out: the model loss"):
        allows("model", float("nan"))
    assert guard.skipped == 3 * PATIENCE - 1
