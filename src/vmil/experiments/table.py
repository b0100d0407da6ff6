"""What a person sees of an experiment: one live table on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, get_args

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from vmil.experiments.schedule import Job, State

ORDER: tuple[State, ...] = ("running", "stopping", "failed", "stopped", "waiting", "done")
STYLE: dict[State, str] = {
    "running": "cyan",
    "stopping": "yellow",
    "stopped": "yellow",
    "failed": "bold red",
    "waiting": "dim",
    "done": "green",
}
NEWS_EVERY = 600.0  # seconds after which a running job's last line is printed again, when there is no table


class View(Protocol):
    """Shows how the jobs stand."""

    def __call__(self, jobs: Sequence[Job]) -> None:
        """Called after every look at them."""

    def close(self, jobs: Sequence[Job]) -> None:
        """Called once at the end."""


def make_view(title: str, console: Console) -> View:
    """A live table if `console` is a terminal, else plain lines."""
    if console.is_terminal:
        return LiveTable(title, console)
    return Lines(partial(console.print, markup=False, highlight=False))  # a run may say [anything]


def summary(jobs: Sequence[Job]) -> str:
    """`3 done, 1 failed, 2 running, 9 waiting`."""
    counts = Counter(job.state for job in jobs)
    return ", ".join(f"{counts[state]} {state}" for state in reversed(get_args(State)) if counts[state])


def draw(title: str, jobs: Sequence[Job], height: int) -> Table:
    """The jobs that matter most, as many as `height` rows hold."""
    table = Table(title=f"{title}: {summary(jobs)}", title_justify="left", expand=True, pad_edge=False)
    table.add_column("run", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("last word", no_wrap=True, overflow="ellipsis", ratio=1)
    ordered = sorted(jobs, key=lambda job: ORDER.index(job.state))  # stable: as the grid has them
    shown = ordered if len(ordered) <= height else ordered[: max(1, height - 1)]
    for job in shown:
        state = job.state if job.attempts < 2 else f"{job.state}, try {job.attempts}"
        word = Text(job.line)  # no markup: a run may say [anything]
        table.add_row(job.cell.name, Text(state, STYLE[job.state]), word)
    if len(shown) < len(ordered):
        table.add_row(f"… and {summary(ordered[len(shown) :])}", "", "")
    return table


class LiveTable:
    """One table, drawn again and again in its place."""

    def __init__(self, title: str, console: Console) -> None:
        self._title, self._console = title, console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._live.start()

    def __call__(self, jobs: Sequence[Job]) -> None:
        """Draws it."""
        self._live.update(draw(self._title, jobs, self._console.height - 5), refresh=True)

    def close(self, jobs: Sequence[Job]) -> None:
        """Leaves the whole table on the screen."""
        self._live.stop()
        self._console.print(draw(self._title, jobs, len(jobs)))


class Lines:
    """A line for each change, and news of what runs from time to time."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._seen: dict[str, tuple[State, int]] = {}
        self._spoke = clock()

    def __call__(self, jobs: Sequence[Job]) -> None:
        """Says what is new."""
        for job in jobs:
            if self._seen.get(job.cell.name, ("waiting", 0)) != (job.state, job.attempts):
                said = job.fell if job.state == "running" and job.fell else job.line
                self._write(f"{job.cell.name}: {job.state}" + (f", {said}" if said else ""))
            self._seen[job.cell.name] = (job.state, job.attempts)
        if self._clock() - self._spoke >= NEWS_EVERY:
            self._spoke = self._clock()
            for job in jobs:
                if job.state == "running" and job.line:
                    self._write(f"{job.cell.name}: {job.line}")

    def close(self, jobs: Sequence[Job]) -> None:
        """How it ended, failures last."""
        self._write(summary(jobs))
        for job in jobs:
            if job.state == "failed":
                self._write(f"{job.cell.name} failed: {job.line}")
