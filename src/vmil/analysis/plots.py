"""How the figures look: one colour per algorithm, seeds thin, their interquartile mean thick, others' work in grey."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vmil.analysis.aggregate import ENOUGH_SEEDS, band, interquartile_means, spread
from vmil.analysis.results import SUCCESS, TRUE_REWARD, Axis, Run
from vmil.config.runs import BASE

LABELS = {
    "vmil": "VMIL",
    "vmil_plus": "VMIL plus",
    "vmil_released": "VMIL, released code",
    "sqil_drq": "SQIL + DrQ",
    "dac_drq": "DAC + DrQ",
    "bc": "behaviour cloning (offline)",
    "vmil_few": "VMIL for one demonstration",
}
# Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = dict(zip(LABELS, ("#0072B2", "#D55E00", "#56B4E9", "#009E73", "#CC79A7", "#E69F00", "#000000"), strict=True))
NUMBERS = {2: "two", 3: "three", 4: "four"}
MARKERS = "osD^v<>PX"  # with ten colours they give ninety different lines
OTHER = "#555555"
OFFLINE = ("bc",)  # they collect nothing, and their frames only count updates
AXES = {"frames": "environment frames (thousands)", "hours": "hours of wall-clock"}
FAST = "bfloat16"  # where the processor has it, an update takes half or a third of the time


def label(algo: str, variant: str = BASE) -> str:
    """What a legend calls an algorithm, and what sets the run apart; SQIL on DrQ with the true reward is DrQ itself."""
    name = LABELS.get(algo, algo)
    if variant == TRUE_REWARD:
        return f"{'DrQ' if algo == 'sqil_drq' else name}, true reward"
    return name if variant == BASE else f"{name}, {variant}"


def colour(algo: str) -> str:
    """An algorithm's colour, the same in every figure."""
    return COLOURS.get(algo, OTHER)


def multiplies_in_bfloat16(machine: str) -> bool:
    """Whether a card's machine has bfloat16, with AMX or without."""
    return any(name in machine for name in ("AMX", "bf16", FAST))


def arithmetic(machine: str) -> str:
    """What a card's machine multiplies with: runs are compared by hours where it is the same."""
    if "AMX" in machine:
        return "AMX"
    return f"{FAST} and no AMX" if multiplies_in_bfloat16(machine) else f"no {FAST}"


def panels(count: int, width: float = 4.4, height: float = 3.8, share_y: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels side by side, without pyplot, whose state outlives a figure."""
    figure = Figure(figsize=(width * count, height), layout="constrained", dpi=84)
    axes = figure.subplots(1, count, squeeze=False, sharey=share_y)[0]
    for panel in axes:
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)


def draw_seeds(panel: Axes, runs: Sequence[Run], metric: str, hue: str, text: str, marker: str = "o") -> bool:
    """Draws one metric of one group of seeds against frames; returns whether there was anything to draw.

    Thin: each seed. Thick: the interquartile mean of the lasting ones, whose number the label tells; dashed: their
    mean, where it is another; shaded: their spread.
    """
    together, seen = band(runs, metric), [curve for run in runs if (curve := run.curve(metric)) is not None]
    for number, curve in enumerate(seen):
        own = f"{text} ({_seeds(len(seen), len(seen))})" if together is None and number == 0 else None
        panel.plot(
            curve.frames / 1000, curve.values, color=hue, linewidth=0.8, alpha=0.6, marker=".", markersize=3, label=own
        )
    if together is None:  # one seed ends before another has begun
        return bool(seen)
    x = together.x / 1000
    panel.plot(
        x, together.iqm, color=hue, linewidth=2.2, marker=marker, markersize=4, markevery=max(1, len(x) // 30),
        label=f"{text} ({_seeds(together.seeds, len(seen))})",
    )  # fmt: skip
    if together.seeds > 3:  # else nothing is trimmed
        panel.plot(x, together.mean, color=hue, linewidth=1, linestyle="--")
    if together.seeds > 1:
        panel.fill_between(
            x, together.low, together.high, color=hue, alpha=0.15, linewidth=0, label=spread_name(together.seeds)
        )
    return True


def draw_hours(panel: Axes, run: Run, metric: str, hue: str) -> None:
    """Draws one metric of one seed against hours; machines differ too much in speed for a mean over seeds."""
    curve, fast = run.curve(metric), multiplies_in_bfloat16(run.card.machine)
    if curve is not None:
        panel.plot(
            curve.hours, curve.values, color=hue, linewidth=1, marker="^" if fast else ".", markersize=4,
            markevery=max(1, len(curve.hours) // 30), label=f"triangles: with {FAST}" if fast else None,
        )  # fmt: skip


def draw_offline(panel: Axes, runs: Sequence[Run], metric: str, hue: str, text: str) -> bool:
    """The last interquartile mean of runs that collect nothing, as a level among curves against frames."""
    together = band(runs, metric)
    if together is None:
        return False
    seeds = _seeds(together.seeds, sum(run.curve(metric) is not None for run in runs))
    panel.axhline(
        together.iqm[-1],
        color=hue,
        linewidth=1.5,
        linestyle="--",
        label=f"{text}: last mean, collects no frames ({seeds})",
    )
    return True


def draw_points(
    panel: Axes, x: Sequence[float], scores: Sequence[Sequence[float]], hue: str, text: str, line: bool = False
) -> None:
    """Each seed as a dot, the interquartile mean as a dash, their spread as a bar where there is more than one."""
    middles = [float(interquartile_means(np.array(each)[:, None])[0]) for each in scores]
    for at, each, middle in zip(x, scores, middles, strict=True):
        panel.plot([at] * len(each), each, ".", color=hue, alpha=0.5)
        if len(each) > 1:
            low, high = spread(np.array(each)[:, None])
            panel.vlines(at, low[0], high[0], color=hue, alpha=0.4, linewidth=5, label=spread_name(len(each)))
        panel.plot([at], [middle], "_", color=hue, markersize=14, markeredgewidth=2)
    panel.plot(x, middles, color=hue, linewidth=1.2 if line else 0, label=text)


def spread_name(seeds: int) -> str:
    """What the shaded band, or the bar, of so many seeds is."""
    return "95 % bootstrap interval" if seeds >= ENOUGH_SEEDS else f"range of {NUMBERS[seeds]} seeds"


def draw_expert(panel: Axes, runs: Sequence[Run], metric: str) -> None:
    """A line at the demonstrations' mean return; a success rate ends at 1 anyway."""
    known = [run.card.expert_return for run in runs if run.card.expert_return is not None]
    if metric != SUCCESS and known:
        panel.axhline(float(np.median(known)), color="black", linewidth=1, linestyle=":", label="demonstrations")


def name_axes(panel: Axes, axis: Axis, metric: str) -> None:
    """Labels the axes of a curve of scores."""
    panel.set_xlabel(AXES[axis])
    panel.set_ylabel("success rate" if metric == SUCCESS else "return")
    panel.set_ylim(bottom=0)
    panel.set_xlim(left=0)


def apart(places: Sequence[float], gap: float) -> list[float]:
    """Increasing positions (shares of an axis), moved up just enough to keep a gap between any two, none above 1."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + gap) if moved else place)
    for index in range(len(moved) - 1, -1, -1):
        ceiling = 1.0 if index == len(moved) - 1 else moved[index + 1] - gap
        moved[index] = min(moved[index], ceiling)
    return moved


def point_out(panel: Axes, text: str, height: float, at: float) -> None:
    """Writes small grey text at the right of a panel, at a share of its height, with a line to where it belongs."""
    where = panel.get_yaxis_transform()  # x as a share of the axis, y as data
    panel.annotate(
        text,
        xy=(1.0, height),
        xycoords=where,
        xytext=(1.05, at),
        textcoords="axes fraction",
        fontsize=7,
        color="#333333",
        va="center",
        annotation_clip=False,
        arrowprops={"arrowstyle": "-", "color": "#777777", "linewidth": 0.6, "relpos": (0, 0.5)},
    )


def legend(figure: Figure) -> None:
    """One small legend below all panels, each text once, if anything is labelled."""
    found: dict[str, Artist] = {}
    for panel in figure.axes:
        for handle, text in zip(*panel.get_legend_handles_labels(), strict=True):
            found.setdefault(text, handle)
    if found:
        columns = max(1, int(figure.get_figwidth() // 3))
        figure.legend(
            list(found.values()), list(found), loc="outside lower center", ncols=columns, fontsize=7, frameon=False
        )


def _seeds(used: int, seen: int) -> str:
    return f"{used} of {seen} seeds" if used < seen else f"{seen} seed{'s' if seen > 1 else ''}"
