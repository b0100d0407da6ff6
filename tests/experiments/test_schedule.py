"""Working off many runs: fakes that end when they are told to, no process, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from vmil.config.load import load_config
from vmil.errors import LOOK_AGAIN, UserError
from vmil.experiments.grid import Cell
from vmil.experiments.schedule import Job, StopUrgency, work_off
from vmil.experiments.table import Lines, LiveTable, draw, make_view, summary


def make_job(variant: str) -> Job:
    return Job(Cell("walker", "vmil", variant, 0, (), load_config()))


class Fake:
    """A run with a script: what each look at it finds, None while it runs."""

    def __init__(self, *codes: int | None, when_asked: int = 143) -> None:
        self.codes = list(codes)
        self.when_asked = when_asked
        self.asked: list[str] = []

    def poll(self) -> int | None:
        if self.asked:
            return None if self.asked[-1] == "stop" and self.when_asked < 0 else self.when_asked
        return self.codes.pop(0) if self.codes else None

    def stop(self) -> None:
        self.asked.append("stop")

    def kill(self) -> None:
        self.asked.append("kill")
        self.when_asked = -9


class World:
    """Starts scripted runs and remembers how it went."""

    def __init__(self, scripts: dict[str, list[Fake | Exception | None]]) -> None:
        self.jobs = [make_job(variant) for variant in scripts]
        self.scripts = scripts
        self.running: list[int] = []  # at each look
        self.looks = 0
        self.hastes: dict[int, StopUrgency] = {}  # from which look on
        self.lacking: dict[str, str] = {}  # of those that end well: why they are not done

    def start(self, job: Job) -> Fake | None:
        script = self.scripts[job.cell.variant].pop(0)
        if isinstance(script, Exception):
            raise script
        return script

    def urgency(self) -> StopUrgency:
        return next((self.hastes[look] for look in sorted(self.hastes, reverse=True) if look <= self.looks), "no")

    def show(self, jobs: Sequence[Job]) -> None:
        self.running.append(sum(job.handle is not None for job in jobs))

    def pause(self) -> None:
        self.looks += 1
        assert self.looks < 50, "it never ends"

    def run(self, slots: int, retries: int = 1) -> dict[str, str]:
        work_off(
            self.jobs,
            self.start,
            slots,
            said=lambda job: f"word {job.attempts}",
            lacks=lambda job: self.lacking.get(job.cell.variant, ""),
            urgency=self.urgency,
            show=self.show,
            pause=self.pause,
            retries=retries,
        )
        return {job.cell.variant: job.state for job in self.jobs}


def test_as_many_at_once_as_there_are_slots() -> None:
    world = World({name: [Fake(None, 0)] for name in "abcde"})
    assert set(world.run(slots=2).values()) == {"done"}
    assert max(world.running) == 2
    assert world.running[-1] == 0


def test_what_is_done_is_not_started_and_takes_no_slot() -> None:
    world = World({"a": [None], "b": [None], "c": [Fake(0)]})
    assert world.run(slots=1) == {"a": "done", "b": "done", "c": "done"}
    assert world.running[0] == 1  # c, at the first look


def test_a_failed_run_is_taken_up_again_then_given_up_and_stops_no_other() -> None:
    world = World({"bad": [Fake(1), Fake(1)], "lucky": [Fake(1), Fake(0)], "good": [Fake(None, None, 0)]})
    assert world.run(slots=3) == {"bad": "failed", "lucky": "done", "good": "done"}
    assert [job.attempts for job in world.jobs] == [2, 2, 1]
    assert world.jobs[0].line == "word 2"


def test_a_run_that_ended_well_and_is_not_there_is_not_done() -> None:
    world = World({"gone": [Fake(0), Fake(0)], "stopped": [Fake(when_asked=0)], "good": [Fake(0)]})
    world.lacking = {"gone": "it was removed", "stopped": "it is half of it"}
    world.hastes = {3: "soon"}
    assert world.run(slots=3) == {"gone": "failed", "stopped": "stopped", "good": "done"}
    assert (world.jobs[0].attempts, world.jobs[0].line) == (2, "it was removed")


def test_whatever_a_start_raises_fails_that_run_alone() -> None:
    world = World({"odd": [RuntimeError()], "good": [Fake(0)]})
    assert world.run(slots=1) == {"odd": "failed", "good": "done"}
    assert world.jobs[0].line == "RuntimeError()"


def test_somebody_else_s_run_that_ended_is_looked_at_again_at_no_cost() -> None:
    world = World({"a": [Fake(LOOK_AGAIN), Fake(LOOK_AGAIN), Fake(LOOK_AGAIN), Fake(0)]})
    assert world.run(slots=1) == {"a": "done"}
    assert world.jobs[0].attempts == 1
    assert World({"a": [Fake(LOOK_AGAIN), Fake(0)]}).run(slots=1, retries=0) == {"a": "done"}


def test_a_second_try_is_told_with_what_ended_the_first() -> None:
    world = World({"a": [Fake(1), Fake(None, 0)]})
    lines: list[str] = []
    world.show = Lines(lines.append)  # type: ignore[method-assign]
    world.run(slots=1)
    assert lines[1] == "walker-vmil-a-s0: running, taken up again after exit code 1: word 1"
    world.jobs[0].state = "running"
    assert "running, try 2" in printed(draw("x", world.jobs, height=4))


def test_a_person_s_mistake_is_not_tried_twice() -> None:
    world = World({"demos": [Fake(2)], "other": [UserError("made with other settings")], "good": [Fake(0)]})
    assert world.run(slots=1) == {"demos": "failed", "other": "failed", "good": "done"}
    assert world.jobs[1].line == "made with other settings"


def test_a_run_that_somebody_stopped_is_left_stopped() -> None:
    world = World({"a": [Fake(143)], "b": [Fake(0)]})
    assert world.run(slots=1) == {"a": "stopped", "b": "done"}


def test_a_stop_asks_each_run_once_and_starts_no_more() -> None:
    a, b = Fake(), Fake(when_asked=0)  # b comes to its end before it sees the signal
    world = World({"a": [a], "b": [b], "c": [Fake(0)]})
    world.hastes = {2: "soon"}
    assert world.run(slots=2) == {"a": "stopped", "b": "done", "c": "waiting"}
    assert (a.asked, b.asked) == (["stop"], ["stop"])


def test_a_second_ctrl_c_kills_what_does_not_end() -> None:
    deaf = Fake(when_asked=-1)
    world = World({"a": [deaf]})
    world.hastes = {1: "soon", 4: "now"}
    assert world.run(slots=1) == {"a": "stopped"}
    assert deaf.asked == ["stop", "kill"]


def test_if_the_view_breaks_no_run_is_left_alone() -> None:
    busy = Fake()
    world = World({"a": [busy], "b": [Fake(0)]})

    def broken(jobs: Sequence[Job]) -> None:
        raise ValueError("no such style")

    world.show = broken  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="no such style"):
        world.run(slots=1)
    assert busy.asked == ["stop"]


# ---- what is shown --------------------------------------------------------------------------------------------


def some_jobs() -> list[Job]:
    jobs = [make_job(name) for name in "abcdef"]
    for job, state in zip(jobs, ("done", "waiting", "running", "failed", "waiting", "done"), strict=True):
        job.state = state  # type: ignore[assignment]
        job.line = f"{state} [word]"
    return jobs


def printed(table: object, width: int = 100) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table)
    return console.export_text()


def test_the_table_shows_what_matters_first_and_counts_the_rest() -> None:
    text = printed(draw("figure3", some_jobs(), height=4))
    assert "figure3: 2 done, 1 failed, 1 running, 2 waiting" in text
    assert text.index("walker-vmil-c-s0") < text.index("walker-vmil-d-s0") < text.index("walker-vmil-b-s0")
    assert "running [word]" in text
    assert "… and 2 done, 1 waiting" in text
    assert "… and" not in printed(draw("figure3", some_jobs(), height=6))


def test_without_a_terminal_there_are_lines_for_changes_only() -> None:
    lines: list[str] = []
    jobs, times = some_jobs(), [0.0]
    view = Lines(lines.append, lambda: times[0])
    view(jobs)
    view(jobs)
    assert sorted(lines) == sorted(
        f"walker-vmil-{name}-s0: {state}, {state} [word]"
        for name, state in (("a", "done"), ("c", "running"), ("d", "failed"), ("f", "done"))
    )
    times[0] = 601.0
    view(jobs)
    assert lines[-1] == "walker-vmil-c-s0: running [word]"
    view.close(jobs)
    assert lines[-1] == "walker-vmil-d-s0 failed: failed [word]"


def test_a_terminal_gets_the_table_and_a_pipe_the_lines(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as file:
        assert isinstance(make_view("x", Console(file=file)), Lines)
        console = Console(file=file, force_terminal=True, width=100, height=30)
        view = make_view("x", console)
        assert isinstance(view, LiveTable)
        view(some_jobs())
        view.close(some_jobs())
    assert "walker-vmil-d-s0" in (tmp_path / "out").read_text()


def test_what_a_run_says_is_no_markup(tmp_path: Path) -> None:
    job = make_job("a")
    job.state, job.line = "failed", r"[enforce fail at alloc.cpp:117] cannot open \[/data/x.ckpt]"
    assert job.line in printed(draw("x", [job], height=4))
    with (tmp_path / "out").open("w") as file:
        make_view("x", Console(file=file, soft_wrap=True))([job])
    assert f"failed, {job.line}\n" in (tmp_path / "out").read_text()


@pytest.mark.parametrize(("jobs", "text"), [([], ""), (some_jobs()[:1], "1 done")])
def test_the_summary_counts(jobs: list[Job], text: str) -> None:
    assert summary(jobs) == text
