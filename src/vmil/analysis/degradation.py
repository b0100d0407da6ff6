"""Whether agents get worse when training goes on, as the paper reports: scores as shares of a run's best."""

from __future__ import annotations

from typing import NamedTuple

from matplotlib.figure import Figure

from vmil.analysis import plots
from vmil.analysis.aggregate import final_score
from vmil.analysis.results import Results, Run

EVALUATIONS = 5  # with fewer, a run shows no decline


class Decline(NamedTuple):
    """What a run came to at its best, at its end, and on average over the last fifth of its frames."""

    best: float
    best_frames: int
    last: float
    late: float


def decline(run: Run) -> Decline | None:
    """How far a run fell from its best; None with fewer than `EVALUATIONS`."""
    curve, late = run.curve(run.score), final_score(run)
    if curve is None or late is None or len(curve.values) < EVALUATIONS:
        return None
    top = int(curve.values.argmax())
    return Decline(float(curve.values[top]), int(curve.frames[top]), float(curve.values[-1]), late)


def long_runs(results: Results) -> list[Run]:
    """The runs that stand for presets which collect frames, and have enough evaluations, by task and algorithm."""
    tasks = sorted({run.card.env for run in results.runs})
    pairs = [(env, algo) for env in tasks for algo in results.algorithms(env) if algo not in plots.OFFLINE]
    runs = [run for pair in pairs for run in sorted(results.standing(*pair), key=lambda run: run.card.seed)]
    return [run for run in runs if decline(run) is not None]


def late_degradation(results: Results) -> Figure | None:
    """Each long run's score as a share of its best, against frames; None: there is no such run."""
    runs = long_runs(results)
    tasks = list(dict.fromkeys(run.card.env for run in runs))
    if not tasks:
        return None
    figure, axes = plots.panels(len(tasks), width=3.2, share_y=True)
    for panel, env in zip(axes, tasks, strict=True):
        for run in [run for run in runs if run.card.env == env]:
            card, curve, fall = run.card, run.curve(run.score), decline(run)
            if curve is not None and fall is not None and fall.best > 0:
                mark, text = plots.MARKERS[card.seed % len(plots.MARKERS)], plots.label(card.algo, card.variant)
                panel.plot(
                    curve.frames / 1000, curve.values / fall.best, color=plots.colour(card.algo), linewidth=1,
                    marker=mark, markersize=4, label=f"{text}, seed {card.seed}",
                )  # fmt: skip
        panel.set_title(env, fontsize=10)
        panel.set_xlabel(plots.AXES["frames"])
        panel.set_xlim(left=0)
    axes[0].set_ylim(0, 1.05)
    axes[0].set_ylabel("score / best")
    plots.legend(figure)
    return figure


def declines(results: Results) -> list[str]:
    """The same as a table: best, last and mean of the last fifth."""
    lines = [f"{'task':8} {'algorithm':38} seed     best at frames     last  mean of the last fifth"]
    for run in long_runs(results):
        card, fall = run.card, decline(run)
        if fall is not None:
            what = f"{card.env:8} {plots.label(card.algo, card.variant):38} {card.seed:4}"
            lines.append(f"{what} {fall.best:8.4g} {fall.best_frames:9,} {fall.last:8.4g} {fall.late:8.4g}")
    return lines if len(lines) > 1 else []
