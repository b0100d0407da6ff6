"""Every algorithm where all can be compared: after the same frames, and after the same hours."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vmil.analysis import plots
from vmil.analysis.aggregate import common_end
from vmil.analysis.results import Axis, Results, Run, longest
from vmil.config.runs import BASE

TITLES: dict[Axis, str] = {"frames": "after {:,.0f} frames", "hours": "after {:.2f} hours"}


def equal_budgets(results: Results, env: str) -> Figure | None:
    """Scores of the presets when the one that ends first had ended; None: fewer than two algorithms were evaluated.

    By frames, what collects none is a level; by hours, only the kind of machine counts that made most of the runs, also
    with those that got further elsewhere.
    """
    runs = [run for run in results.select(env, variant=BASE) if run.curve(run.score) is not None]
    if len({run.card.algo for run in runs}) < 2:
        return None
    score = runs[0].score
    collected = [run for run in runs if run.card.algo not in plots.OFFLINE]
    shorter = [run for run in replace(results, runs=results.shorter).select(env, variant=BASE) if run.curve(score)]
    alike, kind = one_kind_of_machine((*runs, *shorter))
    figure, (frames, hours) = plots.panels(2, share_y=True)
    _draw_panel(frames, collected, "frames", f"{env}, {{}}")
    _draw_panel(hours, alike, "hours", f"{env}, {{}}{kind}")
    for algo in plots.OFFLINE:
        own = [run for run in runs if run.card.algo == algo]
        plots.draw_offline(frames, own, score, plots.colour(algo), plots.label(algo))
    for panel in (frames, hours):
        plots.draw_expert(panel, runs, score)
        plots.name_axes(panel, "frames", score)
        panel.set_xlabel("")
        panel.set_xlim(-0.5, max(panel.get_xticks()) + 0.5)
    hours.set_ylabel("")
    plots.legend(figure)
    return figure


def one_kind_of_machine(runs: Iterable[Run]) -> tuple[list[Run], str]:
    """Of the kind of machine, by its arithmetic, that made most of them: the run of each seed that got furthest there.

    And what to call that kind, if others are left out.
    """
    made: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        made[plots.arithmetic(run.card.machine)].append(run)
    furthest = {kind: longest(some) for kind, some in made.items()}
    kind = max(furthest, key=lambda kind: len(furthest[kind]))
    return furthest[kind], f"\nmachines with {kind} only" if len(furthest) > 1 else ""


def score_within(run: Run, axis: Axis, budget: float) -> float | None:
    """The last evaluation within so many frames or hours; None: the run had made none, or had ended by then."""
    curve = run.curve(run.score)
    if curve is None or curve.moments(axis)[-1] < budget:
        return None
    made = curve.values[curve.moments(axis) <= budget]
    return float(made[-1]) if len(made) else None


def _draw_panel(panel: Axes, runs: Sequence[Run], axis: Axis, title: str) -> None:
    algorithms, budget = sorted({run.card.algo for run in runs}), common_end(runs, axis)
    if budget is not None:
        for place, algo in enumerate(algorithms):
            _draw(panel, place, [run for run in runs if run.card.algo == algo], axis, budget)
        panel.set_title(title.format(TITLES[axis].format(budget)), fontsize=9)
    panel.set_xticks(range(len(algorithms)), [plots.label(algo) for algo in algorithms], fontsize=6, rotation=15)


def _draw(panel: Axes, place: int, runs: Sequence[Run], axis: Axis, budget: float) -> None:
    scores = [score for run in runs if (score := score_within(run, axis, budget)) is not None]
    if scores:
        plots.draw_points(panel, [place], [scores], plots.colour(runs[0].card.algo), "")
    if len(scores) < len(runs):
        left = len(runs) - len(scores)
        panel.annotate(f"{left} without a score", (place, 0), fontsize=5, ha="center", va="bottom")
