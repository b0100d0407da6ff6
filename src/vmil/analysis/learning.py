"""How well the agents do: learning curves, numbers of demonstrations, ablations (Figures 3 and 4 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vmil.analysis import plots
from vmil.analysis.aggregate import common_budget, final_score
from vmil.analysis.results import RETURN, SUCCESS, Axis, Results, Run
from vmil.config.runs import BASE

TASKS = ("walker", "cheetah", "sawyer", "baoding")
# Ablated parts, by the first word of a variant's name, and what each is called.
PARTS = {
    "no-next-state": "next state in D",
    "noise": "input noise",
    "penalty": "gradient penalty",
    "reward": "reward map",
    "bootstrap": "bootstrap",
    "starts": "dream starts",
}


def measured(results: Results) -> list[str]:
    """What each run is, how long it was, how it ended, on which machine, and what a reader must know about it."""
    lines = []
    for run in sorted(results.runs, key=lambda run: (run.card.env, run.card.algo, run.card.variant, run.card.seed)):
        card, score = run.card, final_score(run)
        what = f"{card.env:8} {plots.label(card.algo):18} {card.variant:12} seed {card.seed}"
        end = (
            "never evaluated"
            if score is None
            else f"final {'success' if run.score == SUCCESS else 'return'} {score:.4g}"
        )
        lines.append(f"{what}  {card.frames:>9,} frames  {card.hours:5.2f} h  {card.status.lower():9} {end}")
        lines += [f"{'':8} {text}" for text in (card.machine, card.note) if text]
    return lines


def learning_curves(results: Results, env: str, metric: str | None = None) -> Figure | None:
    """A task's score against frames, against hours, and beside what others published; None: not measured.

    metric: drawn instead of the score, and then compared with neither expert nor others.
    """
    runs = [run for algo in results.algorithms(env) for run in results.standing(env, algo)]
    if not runs:
        return None
    shown = metric or (SUCCESS if any(run.score == SUCCESS for run in runs) else RETURN)
    figure, axes = plots.panels(3 if metric is None else 2, share_y=True)
    frames, hours = axes[:2]
    drawn = _groups(frames, results, env, shown, "frames") and _groups(hours, results, env, shown, "hours")
    if not drawn:
        return None
    figure.suptitle(env if metric is None else f"{env}, {metric}", fontsize=11)
    for panel in axes:
        if metric is None:
            plots.draw_expert(panel, runs, shown)
        plots.name_axes(panel, "hours" if panel is hours else "frames", shown)
    for panel in axes[1:]:
        panel.set_ylabel("")
    for others in axes[2:]:
        _groups(others, results, env, shown, "frames")
        _published(others, results, env, shown)
        others.set_title("beside published results", fontsize=9)
        others.set_xscale("log")
        others.set_xlim(0.8 * others.dataLim.minposx, max(1000.0, others.get_xlim()[1]))
    plots.legend(frames)
    return figure


def _groups(panel: Axes, results: Results, env: str, metric: str, axis: Axis) -> bool:
    drawn = False
    for algo in results.algorithms(env):
        if runs := results.standing(env, algo):
            variant = runs[0].card.variant
            text = plots.label(algo) if variant == BASE else f"{plots.label(algo)}, {variant}"
            drawn |= plots.draw_seeds(panel, runs, metric, axis, plots.colour(algo), text)
    return drawn


def _published(panel: Axes, results: Results, env: str, metric: str) -> None:
    """Others' curves, thin: solid where they imitate as we do, dotted where they learn from the true reward."""
    factor = 0.01 if metric == SUCCESS else 1.0  # percent
    ends: list[tuple[float, str]] = []
    for reference in results.references:
        if reference.env != env:
            continue
        mean, style = factor * np.array(reference.mean), "-" if reference.imitates else ":"
        if len(reference.frames) > 1:
            panel.plot(np.array(reference.frames) / 1000, mean, color="grey", linewidth=0.8, linestyle=style)
        elif reference.frames:
            panel.plot([reference.frames[0] / 1000], mean, color="grey", marker="x", markersize=4)
        else:
            panel.axhline(float(mean[0]), color="grey", linewidth=0.8, linestyle="-.")
        whole = "pre-training" in reference.method or not reference.frames  # else a bound would be taken for a number
        name = reference.method if whole else reference.method.partition(" (")[0]
        short = name + ("" if reference.imitates else ", true reward")
        ends.append((float(mean[-1]), f"{short} {mean[-1]:.3g}"))
    ends.sort()
    top = max([panel.get_ylim()[1], *(height for height, _ in ends)])
    for (height, text), at in zip(ends, plots.apart([height / top for height, _ in ends], 0.045), strict=True):
        plots.point_out(panel, text, height, at)


def data_regimes(results: Results, env: str) -> Figure | None:
    """Final score against the number of demonstrations; None: not measured for two different numbers."""
    figure, [panel] = plots.panels(1)
    counted: list[Run] = []
    for algo in results.algorithms(env):
        runs = [run for run in results.select(env, algo) if run.card.variant == BASE or run.card.variant[:5] == "demos"]
        counted += runs if len({run.card.demos for run in runs if final_score(run) is not None}) > 1 else []
    budget = common_budget(counted)
    if budget is None:
        return None
    for algo in dict.fromkeys(run.card.algo for run in counted):
        own = [run for run in counted if run.card.algo == algo]
        by_count = {count: [run for run in own if run.card.demos == count] for count in {r.card.demos for r in own}}
        scored = {count: scores for count, group in sorted(by_count.items()) if (scores := _finals(group, budget))}
        plots.draw_points(panel, list(scored), list(scored.values()), plots.colour(algo), plots.label(algo), line=True)
    plots.draw_expert(panel, counted, counted[0].score)
    plots.name_axes(panel, "frames", counted[0].score)
    panel.set_xlabel("demonstrations")
    panel.set_title(f"{env}, {_up_to(budget)}", fontsize=10)
    plots.legend(panel)
    return figure


def success_rates(results: Results, envs: Sequence[str] = ("sawyer", "baoding")) -> Figure | None:
    """Final success on the manipulation tasks, beside the paper's numbers; None: none of them measured."""
    with_runs = [env for env in envs if any(_finals(results.standing(env, a)) for a in results.algorithms(env))]
    if not with_runs:
        return None
    figure, axes = plots.panels(len(with_runs), share_y=True)
    for panel, env in zip(axes, with_runs, strict=True):
        algorithms = results.algorithms(env)
        budget = common_budget([run for algo in algorithms for run in results.standing(env, algo)])
        for place, algo in enumerate(algorithms):
            scores = _finals(results.standing(env, algo), budget)
            if scores:
                plots.draw_points(panel, [place], [scores], plots.colour(algo), plots.label(algo))
        for reference in results.references:
            if reference.env == env and not reference.frames:
                panel.axhline(reference.mean[0] / 100, color="grey", linewidth=0.8, linestyle="-.")
                panel.annotate(reference.method, (-0.4, reference.mean[0] / 100), fontsize=6, color="grey", va="bottom")
        panel.set_xticks(range(len(algorithms)), [plots.label(algo) for algo in algorithms], fontsize=7)
        panel.set_xlim(-0.5, len(algorithms) - 0.5)
        panel.set_ylim(0, 1)
        panel.set_title(f"{env}, {_up_to(budget)}", fontsize=10)
    axes[0].set_ylabel("success rate")
    return figure


def ablations(results: Results, env: str, algo: str) -> Figure | None:
    """Final score of each variant beside the unchanged algorithm's, part by part; None: no variant measured."""
    runs = [run for run in results.select(env, algo) if run.card.variant == BASE or _part(run.card.variant)]
    budget = common_budget(runs)
    base = _finals(results.select(env, algo, BASE), budget)
    groups: dict[str, dict[str, list[float]]] = {}
    for part, title in PARTS.items():
        names = sorted({run.card.variant for run in runs if _part(run.card.variant) == part})
        found = {name: scores for name in names if (scores := _finals(results.select(env, algo, name), budget))}
        if found:
            groups[title] = {name.removeprefix(f"{part}-"): scores for name, scores in found.items()}
    if not groups:
        return None
    figure, axes = plots.panels(len(groups), width=2.6, share_y=True)
    for panel, (title, found) in zip(axes, groups.items(), strict=True):
        shown = ({"as it is": base} if base else {}) | found
        for place, (name, scores) in enumerate(shown.items()):
            hue = plots.OTHER if name == "as it is" else plots.colour(algo)
            plots.draw_points(panel, [place], [scores], hue, name)
        panel.set_xticks(range(len(shown)), [name.replace("_", " ") for name in shown], fontsize=7, rotation=20)
        panel.set_xlim(-0.5, len(shown) - 0.5)
        panel.set_ylim(bottom=0)
        panel.set_title(title, fontsize=9)
    axes[0].set_ylabel("final score")
    figure.suptitle(f"{env}, {plots.label(algo)}, {_up_to(budget)}", fontsize=11)
    return figure


def tries(results: Results, env: str) -> Figure | None:
    """What was tried on a task outside the grids, each against the preset at that time; None: nothing was."""
    tried = [run for run in results.select(env) if not (_part(run.card.variant) or run.card.variant[:5] == "demos")]
    groups = {algo: [run for run in tried if run.card.algo == algo] for algo in results.algorithms(env)}
    groups = {algo: own for algo, own in groups.items() if any(run.card.variant != BASE for run in own)}
    if not groups:
        return None
    figure, axes = plots.panels(len(groups), width=5.6, share_y=True)
    for panel, (algo, own) in zip(axes, groups.items(), strict=True):
        names = sorted({run.card.variant for run in own} - {BASE})
        for place, name in enumerate([*names, BASE]):
            runs = [run for run in own if run.card.variant == name]
            hue, text = (plots.OTHER, "the preset") if name == BASE else (f"C{place % 10}", name)
            if runs:
                plots.draw_seeds(panel, runs, runs[0].score, "frames", hue, text)
        plots.draw_expert(panel, own, own[0].score)
        plots.name_axes(panel, "frames", own[0].score)
        panel.set_title(f"{env}, {plots.label(algo)}", fontsize=10)
        plots.legend(panel)
    return figure


def _part(variant: str) -> str | None:
    """The ablated part that a variant is of."""
    return next((part for part in PARTS if variant.startswith(part)), None)


def _up_to(budget: int | None) -> str:
    return "" if budget is None else f"at {budget:,} frames"


def _finals(runs: Sequence[Run], budget: int | None = None) -> list[float]:
    return [score for score in (final_score(run, budget=budget) for run in runs) if score is not None]
