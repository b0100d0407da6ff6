"""An experiment from start to end: share the machine out, run all, record it in MLflow."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol

from rich.console import Console

from vmil.config.schema import TrackingConfig
from vmil.config.schema_cli import ExperimentOptions
from vmil.errors import StoppedError, UserError, first_line
from vmil.experiments.cell import Place, command, in_use, last_line, standing
from vmil.experiments.grid import Cell
from vmil.experiments.local import Elsewhere, LocalPool
from vmil.experiments.resources import Plan, learns_on_gpu, make_plan, this_machine
from vmil.experiments.schedule import Handle, Job, StopUrgency, work_off
from vmil.experiments.table import View, make_view, summary
from vmil.system.paths import given_path
from vmil.tracking.address import shown, tracking_uri
from vmil.tracking.tracker import RunStatus

POLL = 1.0  # seconds between two checks of the runs


class Pool(Protocol):
    """Where runs are made."""

    @property
    def slots(self) -> int:
        """Runs at once."""

    @property
    def threads(self) -> int:
        """Torch threads of each."""

    def start(self, command: list[str], log: Path) -> Handle:
        """Starts a command whose output is appended to `log`."""

    def close(self) -> None:
        """Releases it."""


def run_experiment(options: ExperimentOptions, cells: Sequence[Cell]) -> bool:
    """Makes the runs of an experiment, as `expand` lists them; returns whether every one is done at the end.

    Raises:
        UserError: no such `root`, or a machine that cannot make them.
        StoppedError: a signal asked it to end; the same command goes on.
    """
    root = given_path("root", options.root)
    root.mkdir(parents=True, exist_ok=True)
    jobs = make_jobs(cells, Place(root, options.name))
    machine, left = this_machine(), [job.cell for job in jobs if job.state != "done"]
    plan = make_plan(machine, left, options.jobs)
    pool = make_pool(options, plan, any(learns_on_gpu(cell.config, machine) for cell in left))
    console = Console(soft_wrap=True)
    console.print(
        f"experiment {options.name}: {len(cells)} runs in '{root}', {pool.slots} at once with {pool.threads} threads"
        + (f" on GPU {', '.join(plan.gpus)}" if plan.gpus else "")
    )
    try:
        with tracked(cells[0].config.tracking, options.name, root) as account:
            with listening() as urgency:
                _work(jobs, pool, account.place, options, make_view(options.name, console), urgency)
            account.close(jobs)
            if urgency() != "no" and any(job.state != "done" for job in jobs):
                again = f"`make experiment NAME={options.name} …` as before goes on from here"
                raise StoppedError(f"stopped, {summary(jobs)}; {again}")
    finally:
        pool.close()
    return all(job.state == "done" for job in jobs)


def make_jobs(cells: Sequence[Cell], place: Place) -> list[Job]:
    """What there is to do, with what is done already marked so: the machine is shared out among the rest."""

    def is_done(cell: Cell) -> bool:
        try:
            return standing(cell, place) == "done"
        except UserError:  # reported when its turn comes, as its failure
            return False

    return [Job(cell, "done" if is_done(cell) else "waiting") for cell in cells]


def make_pool(options: ExperimentOptions, plan: Plan, on_gpu: bool) -> Pool:
    """Where `options.runner` makes its runs; UserError if no run would have the GPUs that it asks for."""
    if options.runner == "local":
        if on_gpu and plan.devices > 1 and not plan.gpus:
            raise UserError(f"compute.devices={plan.devices}: this machine does not have that many free GPUs")
        return LocalPool(plan)
    if options.runner == "ray":
        from vmil.experiments.ray_pool import RayPool

        return RayPool(plan, on_gpu, options.jobs)
    raise ValueError(f"unknown runner {options.runner!r}")


def _work(
    jobs: list[Job],
    pool: Pool,
    place: Place,
    options: ExperimentOptions,
    view: View,
    urgency: Callable[[], StopUrgency],
) -> None:
    def start(job: Job) -> Handle | None:
        if standing(job.cell, place) == "done":
            return None
        if in_use(place.run_dir(job.cell)):
            job.line = "another process is making it"
            return Elsewhere(place.run_dir(job.cell))
        log = place.log(job.cell)
        if job.attempts == 1:
            log.unlink(missing_ok=True)
        return pool.start(command(job.cell, place, pool.threads), log)

    def said(job: Job) -> str:
        return last_line(place.log(job.cell)).removeprefix("vmil: ")

    def pause() -> None:
        time.sleep(POLL)

    try:
        work_off(
            jobs,
            start,
            pool.slots,
            said=said,
            lacks=lambda job: _lacking(job, place),
            urgency=urgency,
            show=view,
            pause=pause,
            retries=options.retries,
        )
    finally:
        view.close(jobs)


def _lacking(job: Job, place: Place) -> str:
    """Why a run that ended well is not done all the same, as one whose directory was removed; empty: it is."""
    try:
        found = standing(job.cell, place)
    except Exception as error:  # noqa: BLE001  (one run whose files are damaged stops no other)
        return first_line(error)
    return "" if found == "done" else f"it ended well, but '{place.run_dir(job.cell)}' does not hold the whole run"


class Account:
    """The experiment in MLflow, if that is where its runs go."""

    def __init__(self, place: Place, finish: Callable[[RunStatus], None] | None = None) -> None:
        self.place, self._finish = place, finish

    def close(self, jobs: Sequence[Job]) -> None:
        """Ends the parent run as its children ended."""
        states = {job.state for job in jobs}
        self.end("FAILED" if "failed" in states else "FINISHED" if states <= {"done"} else "KILLED")

    def end(self, status: RunStatus) -> None:
        """Ends the parent run; the first call wins."""
        if self._finish is not None:
            finish, self._finish = self._finish, None
            try:
                finish(status)
            except Exception as error:  # noqa: BLE001  (a server that is away must not cost the experiment)
                print(f"MLflow could not note the end of the experiment: {error}", file=sys.stderr)


@contextmanager
def tracked(tracking: TrackingConfig, experiment: str, root: Path) -> Iterator[Account]:
    """Opens the parent run for the block; without a server the children are still made, each on its own."""
    if tracking.kind != "mlflow":
        yield Account(Place(root, experiment))
        return
    # A child is told no more than the experiment was: a URI in the environment may hold a password, which all users
    # could read on a command line, and that of the root, kept in its configuration, would lead back from a moved one.
    uri, told = tracking_uri(tracking, root), tracking.uri
    try:
        from vmil.tracking.mlflow import ParentRun

        directory = root / experiment
        directory.mkdir(parents=True, exist_ok=True)
        parent = ParentRun(uri, experiment, directory)
    except Exception as error:  # noqa: BLE001  (MLflow raises what its server, driver or database raise)
        reason = shown(first_line(error))
        print(f"MLflow at {shown(uri)} cannot be used ({reason}): no parent run", file=sys.stderr)
        yield Account(Place(root, experiment, told))
        return
    account = Account(Place(root, experiment, told, parent.run_id), parent.finish)
    try:
        yield account
    finally:
        account.end("KILLED")


@contextmanager
def listening() -> Iterator[Callable[[], StopUrgency]]:
    """Takes SIGINT, SIGTERM and a closed terminal's SIGHUP over: the first asks to stop soon, a second Ctrl-C now."""
    received: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        received.append(signum)

    def urgency() -> StopUrgency:
        if not received:
            return "no"
        return "now" if received.count(signal.SIGINT) > 1 else "soon"

    heard = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under `nohup`
        heard.append(signal.SIGHUP)
    before = {which: signal.signal(which, note) for which in heard}
    try:
        yield urgency
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
