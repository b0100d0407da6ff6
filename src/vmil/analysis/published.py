"""What others published, drawn beside ours in grey and by number: landmarks, not opponents."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from vmil.analysis import plots
from vmil.analysis.references import Reference
from vmil.analysis.results import SUCCESS, TRUE_REWARD, Results

GREY, DARK = "#888888", "#222222"
NAMES = {  # bounds, which the file tells by the method's name
    "VMIL success rate, peg insertion (over)": "VMIL (paper): over",
    "VMIL success rate (up to)": "VMIL (paper): up to",
    "SQIL+DrQ success rate, peg insertion": "SQIL + DrQ (paper):",
    "SQIL+DrQ success rate": "SQIL + DrQ (paper):",
}
DRQ = "sqil_drq"  # with the environment's reward it is DrQ itself, of which there are published curves


def told(reference: Reference, metric: str) -> str:
    """A published result's method, what it learns from if not from demonstrations, and its last number."""
    whole = "pre-training" in reference.method or not reference.frames  # else a bound would be taken for a number
    name = NAMES.get(reference.method, reference.method if whole else reference.method.partition(" (")[0])
    number = f"{reference.mean[-1]:.0f} %" if metric == SUCCESS else f"{reference.mean[-1]:.3g}"
    return f"{name}{'' if reference.imitates else ', true reward'} {number}"


def draw_published(panel: Axes, references: Sequence[Reference], metric: str) -> None:
    """Others' results, thin, each with a number along it that the list at the right repeats.

    Solid where they imitate as we do, dotted where they learn from the true reward.
    """
    factor = 0.01 if metric == SUCCESS else 1.0  # percent
    known = sorted(references, key=lambda reference: reference.mean[-1])
    for place, reference in enumerate(known):
        mean, thousands = factor * np.array(reference.mean), np.array(reference.frames) / 1000
        if reference.frames:
            below = np.flatnonzero(mean < 0.9 * mean.max()) if len(mean) > 1 else np.zeros(1, int)  # apart from others
            panel.plot(
                thousands, mean, color=GREY, linewidth=0.9, linestyle="-" if reference.imitates else ":",
                marker=f"${len(known) - place}$", markersize=6, markeredgecolor=DARK, markerfacecolor=DARK,
                markevery=below[place % 2 :: 2].tolist() or [place % len(mean)],
            )  # fmt: skip
        else:
            panel.axhline(float(mean[0]), color=GREY, linewidth=0.9, linestyle="-.")
    heights = [factor * reference.mean[-1] for reference in known]
    top = max([panel.get_ylim()[1], *heights])
    for place, at in enumerate(plots.apart([height / top for height in heights], 0.06)):
        text = f"{len(known) - place}  {told(known[place], metric)}"
        plots.point_out(panel, text, heights[place], at)


def draw_drq(panel: Axes, results: Results, env: str, metric: str) -> None:
    """Our DrQ with the environment's reward, on which the baselines stand, to be seen beside the published one."""
    for run in results.select(env, DRQ, TRUE_REWARD):
        curve = run.curve(metric)
        if curve is not None:
            text = f"our {plots.label(DRQ, TRUE_REWARD)} (not imitation; seed {run.card.seed})"
            panel.plot(
                curve.frames / 1000, curve.values, color="black", linewidth=1.6, linestyle=":", marker="s",
                markersize=3, label=text,
            )  # fmt: skip
