"""How well the agents do: learning curves, numbers of demonstrations, ablations (Figures 3 and 4 of the paper)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vmil.analysis import plots
from vmil.analysis.aggregate import common_end, final_score
from vmil.analysis.preset import fewer_demos
from vmil.analysis.published import draw_drq, draw_published, told
from vmil.analysis.references import Reference
from vmil.analysis.results import RETURN, SUCCESS, Results, Run
from vmil.config.runs import BASE

TASKS = ("walker", "cheetah", "sawyer", "baoding")
DOT = "dot"  # the task on which everything can be tried
COLLECTED = "collect/return"
TITLES = {COLLECTED: "return of collected episodes"}


def measured(results: Results) -> list[str]:
    """What each run is, how long it was, how it ended, on which machine, and what a reader must know about it."""
    lines = []
    for run in sorted(results.runs, key=lambda run: (run.card.env, run.card.algo, run.card.variant, run.card.seed)):
        card, score = run.card, final_score(run)
        what = f"{card.env:8} {plots.label(card.algo, card.variant):40} seed {card.seed}"
        end = (
            "never evaluated"
            if score is None
            else f"final {'success' if run.score == SUCCESS else 'return'} {score:.4g}"
        )
        lines.append(f"{what}  {card.frames:>9,} frames  {card.hours:5.2f} h  {card.status.lower():9} {end}")
        lines += [f"{'':8} {text}" for text in (card.machine, card.note) if text]
    return lines


def learning_curves(results: Results, env: str, metric: str | None = None) -> Figure | None:
    """A task's score against frames, against hours, and beside what others published, if any; None: not measured.

    metric: drawn instead of the score, and then compared with neither expert nor others.
    """
    runs = [run for algo in results.algorithms(env) for run in results.standing(env, algo)]
    if not runs:
        return None
    shown = metric or (SUCCESS if any(run.score == SUCCESS for run in runs) else RETURN)
    others = [reference for reference in results.references if reference.env == env] if metric is None else []
    figure, axes = plots.panels(3 if others else 2, share_y=True)
    frames, hours = axes[:2]
    if not _groups(frames, results, env, shown):
        return None
    for run in runs:
        plots.draw_hours(hours, run, shown, plots.colour(run.card.algo))
    figure.suptitle(env if metric is None else f"{env}, {TITLES.get(metric, metric)}", fontsize=11)
    for panel in axes:
        if metric is None:
            plots.draw_expert(panel, runs, shown)
        plots.name_axes(panel, "hours" if panel is hours else "frames", shown)
    for panel in axes[1:]:
        panel.set_ylabel("")
    for panel in axes[2:]:
        _groups(panel, results, env, shown)
        draw_drq(panel, results, env, shown)
        _beside_published(panel, others, shown)
    if metric == COLLECTED:
        _mark_whole_episodes(frames, runs)
    plots.legend(figure)
    return figure


def whole_from(command: str) -> int | None:
    """Frames from which on a run's collected episodes are as long as scored ones, where its command changes that."""
    match = re.search(r"training\.whole_episodes_from=(\d+)", command) or re.search(
        r"training\.frames=(\d+) .*; make resume .*training\.episode_frames=", command, re.DOTALL
    )
    return int(match[1]) if match else None


def _mark_whole_episodes(panel: Axes, runs: Sequence[Run]) -> None:
    for begin in sorted({begin for run in runs if (begin := whole_from(run.card.command)) is not None}):
        text = f"from {begin:,} frames on collected episodes are whole"
        panel.axvline(begin / 1000, color=plots.OTHER, linewidth=1, linestyle=":", label=text)


def _beside_published(panel: Axes, references: Sequence[Reference], metric: str) -> None:
    panel.set_title("beside published results", fontsize=9)
    panel.set_xscale("log")
    draw_published(panel, references, metric)
    panel.set_xlim(0.8 * panel.dataLim.minposx, max(1000.0, panel.get_xlim()[1]))
    panel.set_xticks([10, 100, 1000], ["10k", "100k", "1M"])
    panel.set_xlabel("environment frames")


def _groups(panel: Axes, results: Results, env: str, metric: str) -> bool:
    drawn = False
    for algo in results.algorithms(env):
        if runs := results.standing(env, algo):
            draw = plots.draw_offline if algo in plots.OFFLINE else plots.draw_seeds
            drawn |= draw(panel, runs, metric, plots.colour(algo), plots.label(algo, runs[0].card.variant))
    return drawn


def data_regimes(results: Results, env: str) -> Figure | None:
    """Final score against the number of demonstrations; None: not measured for two different numbers."""
    figure, [panel] = plots.panels(1)
    counted: list[Run] = []
    for algo in results.algorithms(env):
        known = results.select(env, algo)
        runs = [run for run in known if run.card.variant == BASE or fewer_demos(run.card.variant)]
        counted += runs if len({run.card.demos for run in runs if final_score(run) is not None}) > 1 else []
    budget = common_end(counted, "frames")
    if budget is None:
        return None
    for algo in dict.fromkeys(run.card.algo for run in counted):
        own = [run for run in counted if run.card.algo == algo]
        by_count = {count: [run for run in own if run.card.demos == count] for count in {r.card.demos for r in own}}
        scored = {count: scores for count, group in sorted(by_count.items()) if (scores := finals(group, budget))}
        plots.draw_points(panel, list(scored), list(scored.values()), plots.colour(algo), plots.label(algo), line=True)
    plots.draw_expert(panel, counted, counted[0].score)
    plots.name_axes(panel, "frames", counted[0].score)
    panel.set_xlabel("demonstrations")
    panel.set_title(f"{env}, {up_to(budget)}", fontsize=10)
    plots.legend(figure)
    return figure


def success_rates(results: Results, envs: Sequence[str] = ("sawyer", "baoding")) -> Figure | None:
    """Final success on the manipulation tasks, beside the paper's numbers; None: none of them measured."""
    with_runs = [env for env in envs if any(finals(results.standing(env, a)) for a in results.algorithms(env))]
    if not with_runs:
        return None
    figure, axes = plots.panels(len(with_runs), share_y=True)
    for panel, env in zip(axes, with_runs, strict=True):
        algorithms = results.algorithms(env)
        budget = common_end([run for algo in algorithms for run in results.standing(env, algo)], "frames")
        for place, algo in enumerate(algorithms):
            scores = finals(results.standing(env, algo), budget)
            if scores:
                plots.draw_points(panel, [place], [scores], plots.colour(algo), "")
        for reference in results.references:
            if reference.env == env and not reference.frames:
                share = reference.mean[0] / 100
                panel.axhline(share, color="grey", linewidth=0.8, linestyle="-.")
                panel.annotate(told(reference, SUCCESS), (-0.4, share), fontsize=7, color="#333333", va="bottom")
        panel.set_xticks(range(len(algorithms)), [plots.label(algo) for algo in algorithms], fontsize=7)
        panel.set_xlim(-0.5, len(algorithms) - 0.5)
        panel.set_ylim(0, 1)
        panel.set_title(f"{env}, {up_to(budget)}", fontsize=10)
    axes[0].set_ylabel("success rate")
    plots.legend(figure)
    return figure


def up_to(budget: float | None) -> str:
    """Where scores are compared, for a title."""
    return "" if budget is None else f"at {budget:,.0f} frames"


def finals(runs: Sequence[Run], budget: float | None = None) -> list[float]:
    """The final scores of the runs that came as far as the budget."""
    return [score for score in (final_score(run, budget=budget) for run in runs) if score is not None]
