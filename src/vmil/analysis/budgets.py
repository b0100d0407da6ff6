"""Every algorithm where all can be compared: after the same frames, and after the same hours."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vmil.analysis import plots
from vmil.analysis.results import Axis, Results, Run
from vmil.config.runs import BASE

TITLES: dict[Axis, str] = {"frames": "after {:,.0f} frames", "hours": "after {:.2f} hours"}


def equal_budgets(results: Results, env: str) -> Figure | None:
    """Scores of the presets when the one that ends first had ended; None: fewer than two algorithms were evaluated."""
    runs = [run for run in results.select(env, variant=BASE) if run.curve(run.score) is not None]
    algorithms = sorted({run.card.algo for run in runs})
    if len(algorithms) < 2:
        return None
    score = runs[0].score
    figure, axes = plots.panels(2, share_y=True)
    for panel, axis in zip(axes, TITLES, strict=True):
        budget = common_end(runs, axis)
        for place, algo in enumerate(algorithms):
            _draw(panel, place, [run for run in runs if run.card.algo == algo], axis, budget)
        plots.draw_expert(panel, runs, score)
        plots.name_axes(panel, axis, score)
        panel.set_xlabel("")
        panel.set_xticks(range(len(algorithms)), [plots.label(algo) for algo in algorithms], fontsize=6, rotation=15)
        panel.set_xlim(-0.5, len(algorithms) - 0.5)
        panel.set_title(f"{env}, {TITLES[axis].format(budget)}", fontsize=10)
    axes[1].set_ylabel("")
    return figure


def common_end(runs: Sequence[Run], axis: Axis) -> float:
    """The frames or hours at which the last evaluation of the run that ends first was made; all runs have some."""
    return min(float(curve.moments(axis)[-1]) for run in runs if (curve := run.curve(run.score)) is not None)


def score_within(run: Run, axis: Axis, budget: float) -> float | None:
    """The last evaluation that a run had made within so many frames or hours; None: it had made none."""
    curve = run.curve(run.score)
    if curve is None:
        return None
    made = curve.values[curve.moments(axis) <= budget]
    return float(made[-1]) if len(made) else None


def _draw(panel: Axes, place: int, runs: Sequence[Run], axis: Axis, budget: float) -> None:
    scores = [score for run in runs if (score := score_within(run, axis, budget)) is not None]
    if scores:
        plots.draw_points(panel, [place], [scores], plots.colour(runs[0].card.algo), "")
    if len(scores) < len(runs):
        left = len(runs) - len(scores)
        panel.annotate(f"{left} not evaluated yet", (place, 0), fontsize=5, ha="center", va="bottom")
