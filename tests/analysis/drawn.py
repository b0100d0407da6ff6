"""Runs to draw, and what of them a figure shows."""

from __future__ import annotations

from dataclasses import replace

from matplotlib.figure import Figure
from test_aggregate import CARD

from vmil.analysis.results import Run
from vmil.tracking.curves import Point


def make_run(env: str, algo: str, variant: str, seed: int, metric: str, *values: float, demos: int = 10) -> Run:
    card = replace(CARD, env=env, algo=algo, variant=variant, seed=seed, demos=demos, frames=1000 * len(values))
    points = tuple(Point(1000 * (at + 1), 60.0 * (at + 1), metric, value) for at, value in enumerate(values))
    return Run(f"{env}{algo}{variant}{seed}", replace(card, expert_return=900.0), points)


def lines_of(figure: Figure | None, panel: int) -> list[list[float]]:
    assert figure is not None
    return [[float(y) for y in line.get_ydata()] for line in figure.axes[panel].lines]


def legend_of(figure: Figure | None) -> list[str]:
    assert figure is not None
    [legend] = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def on(machine: str, run: Run) -> Run:
    return replace(run, card=replace(run.card, machine=machine))
