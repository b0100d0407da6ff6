"""Asked to end, a run ends within half a minute, with a checkpoint and nothing lying about, and goes on exactly."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from faulty import Fault, Ground, hang_up, interrupt, interrupt_twice, interrupt_while_it_saves, kill, terminate
from small_runs import assert_same_run, numbers, weights

from vmil.tracking.record import read_record
from vmil.tracking.tracker import RunStatus, Tracker
from vmil.training.stopping import finishing, stoppable

pytestmark = pytest.mark.filterwarnings("ignore")
PATIENCE = 60.0  # seconds in which an orphan has gone, on a busy machine too
STOPPED, INTERRUPTED = 143, 130
NOHUP = pytest.mark.skipif(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, reason="under nohup nothing hangs up")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing stops."""
    ground = Ground(tmp_path_factory.mktemp("whole"))
    assert ground.train("whole").code == 0
    return ground.root / "whole"


@pytest.mark.parametrize(
    ("place", "number", "strike"),
    [
        ("collection", 17, terminate),  # in the middle of an episode
        pytest.param("evaluation", 5, interrupt, marks=pytest.mark.faults),
        pytest.param("update", 9, hang_up, marks=NOHUP),
        pytest.param("update", 5, terminate, marks=pytest.mark.faults),  # in pre-training
        pytest.param("update", 10, interrupt, marks=pytest.mark.faults),
        pytest.param("checkpoint", 4, terminate, marks=pytest.mark.faults),
        pytest.param("collection", 1, interrupt, marks=pytest.mark.faults),
        pytest.param("collection", 48, terminate, marks=pytest.mark.faults),  # of the last round, whose updates follow
        pytest.param("evaluation", 30, terminate, marks=pytest.mark.faults),  # of the last one
    ],
)
def test_a_run_that_is_asked_to_end_does_and_goes_on_exactly(
    whole: Path, tmp_path: Path, place: str, number: int, strike: Callable[[Any], None]
) -> None:
    ground = Ground(tmp_path)
    ended = ground.train("run", fault=Fault(place, number, strike))
    run = ground.root / "run"
    assert (ended.code, ended.sentences) == (
        STOPPED,
        [f"vmil: stopped; `make resume RUN={run}` goes on from here"],
    ), ended.said
    if place != "checkpoint":  # which has many steps
        assert ended.events[place] <= number + 3  # it finishes what it is in, and begins no more
    assert not ground.leftovers(ended)
    assert read_record(run)["status"] == "KILLED"
    if place == "collection":  # the episode in hand is given up: it may take long
        assert ended.events["collection"] == number
    resumed = ground.resume("run")
    assert resumed.code == 0, resumed.said
    assert_same_run(run, whole)
    assert read_record(run)["status"] == "FINISHED"


@pytest.mark.parametrize(("strike", "code"), [(terminate, STOPPED), pytest.param(kill, -9, marks=pytest.mark.faults)])
def test_struck_while_another_process_evaluates_it_goes_on_to_the_same_numbers(
    whole: Path, tmp_path: Path, strike: Callable[[Any], None], code: int
) -> None:
    ground, run = Ground(tmp_path), tmp_path / "run"
    # The first evaluation has begun; its process takes longer to start than an update.
    ended = ground.train("run", "training.background_evaluation=always", fault=Fault("update", 27, strike))
    assert ended.code == code, ended.said
    _, alive = psutil.wait_procs(ground.processes(ended), timeout=PATIENCE)
    assert not alive
    if strike is terminate:
        assert ended.events["update"] <= 27 + 3
        assert not ground.leftovers(ended)
    assert not [row for row in numbers(run) if row[1] == "eval/return"]
    assert ground.resume("run").code == 0
    assert sorted(numbers(run)) == sorted(numbers(whole))
    mine, theirs = weights(run), weights(whole)
    assert [name for name in theirs if not torch.equal(mine[name], theirs[name])] == []


def test_before_training_begins_it_ends_as_well(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ended = ground.train("run", fault=Fault("set-up", 1, terminate))
    assert (ended.code, len(ended.sentences)) == (STOPPED, 1), ended.said
    assert ended.sentences[0].startswith("vmil: stopped before training began")
    assert not ground.leftovers(ended)


@pytest.mark.faults
def test_a_resumed_run_that_is_stopped_while_it_is_set_up_keeps_its_checkpoint_and_its_state(
    whole: Path, tmp_path: Path
) -> None:
    ground = Ground(tmp_path)
    assert ground.train("run", fault=Fault("update", 16, terminate)).code == STOPPED
    before = (ground.root / "run" / "checkpoints" / "last.ckpt").read_bytes()
    assert ground.resume("run", fault=Fault("set-up", 1, terminate)).code == STOPPED
    assert (ground.root / "run" / "checkpoints" / "last.ckpt").read_bytes() == before
    assert ground.resume("run").code == 0
    assert_same_run(ground.root / "run", whole)


@pytest.mark.parametrize(
    ("number", "strike"),
    [
        (10, interrupt_twice),
        pytest.param(1, interrupt_twice, marks=pytest.mark.faults),
        pytest.param(10, interrupt_while_it_saves, marks=pytest.mark.faults),
    ],
)
def test_a_second_ctrl_c_ends_it_at_once_with_one_line(
    tmp_path: Path, number: int, strike: Callable[[Any], None]
) -> None:
    ground = Ground(tmp_path)
    ended = ground.train("run", fault=Fault("update", number, strike))
    assert (ended.code, ended.sentences) == (INTERRUPTED, ["vmil: interrupted"]), ended.said
    assert read_record(ground.root / "run")["status"] == "KILLED"
    assert not ground.leftovers(ended)


@pytest.mark.parametrize(("ended_by", "status"), [(None, "FINISHED"), (KeyboardInterrupt, "KILLED")])
def test_a_signal_while_the_tracker_says_farewell_changes_no_end(
    ended_by: type[BaseException] | None, status: str
) -> None:
    """It asks for what is happening already; training's own handler, which is back by then, would say the opposite."""
    ends: list[str] = []

    class Slow(Tracker):
        def finish(self, status: RunStatus) -> None:
            signal.raise_signal(signal.SIGTERM)
            ends.append(status)

    before = signal.getsignal(signal.SIGTERM)
    with nullcontext() if ended_by is None else pytest.raises(ended_by), stoppable(), finishing(Slow()):
        if ended_by is not None:
            raise ended_by
    assert ends == [status]
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.faults
def test_in_mlflow_it_is_stopped_and_then_goes_on_as_the_same_run(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    ground = Ground(tmp_path)
    ended = ground.train("run", "tracking.kind=mlflow", fault=Fault("update", 16, terminate))
    assert ended.code == STOPPED
    assert ended.events["update"] <= 16 + 3
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    run_id = str(read_record(tmp_path / "run")["mlflow_run_id"])
    assert client.get_run(run_id).info.status == "KILLED"
    assert ground.resume("run").code == 0
    [run] = client.search_runs([client.get_run(run_id).info.experiment_id])
    assert (run.info.run_id, run.info.status) == (run_id, "FINISHED")


def test_what_is_refused_stays_as_it_was(whole: Path) -> None:
    """A finished run that cannot be gone on with in this way is still a finished run."""
    ground = Ground(whole.parent)
    before = (whole / "run.json").read_bytes()
    ended = ground.resume("whole", "demos.count=1")
    assert ended.sentences == ["vmil: the demonstrations are not those that the checkpoint's run imitates"]
    assert (ended.code, (whole / "run.json").read_bytes()) == (2, before)
