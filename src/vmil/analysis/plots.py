"""How the figures look: one colour per algorithm, seeds thin, their interquartile mean thick, others' work in grey."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vmil.analysis.aggregate import band, bootstrap, interquartile_means
from vmil.analysis.results import SUCCESS, Axis, Run

LABELS = {
    "vmil": "VMIL",
    "vmil_plus": "VMIL plus",
    "vmil_released": "VMIL, released code",
    "sqil_drq": "SQIL + DrQ",
    "dac_drq": "DAC + DrQ",
    "bc": "behaviour cloning (offline)",
}
# Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = dict(zip(LABELS, ("#0072B2", "#D55E00", "#56B4E9", "#009E73", "#CC79A7", "#E69F00"), strict=True))
STYLES = dict(zip(LABELS, ("-", "--", ":", "-.", (0, (1, 3)), (0, (5, 5))), strict=True))
OTHER = "#555555"
AXES = {"frames": "environment frames (thousands)", "hours": "hours of wall-clock"}
SCALE = {"frames": 1e-3, "hours": 1.0}


def label(algo: str) -> str:
    """An algorithm's name in a legend."""
    return LABELS.get(algo, algo)


def colour(algo: str) -> str:
    """An algorithm's colour, the same in every figure."""
    return COLOURS.get(algo, OTHER)


def style(algo: str) -> Any:
    """An algorithm's line style, where colours are already used."""
    return STYLES.get(algo, "-")


def panels(count: int, width: float = 4.4, height: float = 3.4, share_y: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels side by side, without pyplot, whose state outlives a figure."""
    figure = Figure(figsize=(width * count, height), layout="constrained", dpi=90)
    axes = figure.subplots(1, count, squeeze=False, sharey=share_y)[0]
    for panel in axes:
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)


def draw_seeds(
    panel: Axes, runs: Sequence[Run], metric: str, axis: Axis, hue: str, text: str, linestyle: Any = "-"
) -> bool:
    """Draws one metric of one group of seeds; returns whether there was anything to draw.

    Thin: each seed. Thick: their interquartile mean, up to where the first seed ends; dashed: their mean; shaded: the
    95 % bootstrap interval. A single seed is one line, and the label says so.
    """
    together, seen = band(runs, metric, axis), [curve for run in runs if (curve := run.curve(metric)) is not None]
    for number, curve in enumerate(seen):
        x = SCALE[axis] * curve.moments(axis)
        label = f"{text} ({len(seen)} seeds)" if together is None and number == 0 else None
        panel.plot(x, curve.values, color=hue, linewidth=0.8, alpha=0.6, marker=".", markersize=3, label=label)
    if together is None:  # in hours, say, if a slow machine's first reading comes after a fast one's last
        return bool(seen)
    x = SCALE[axis] * together.x
    seeds = f"{together.seeds} seed{'s' if together.seeds > 1 else ''}"
    panel.plot(
        x, together.iqm, color=hue, linewidth=2.2, linestyle=linestyle, marker="o", markersize=3,
        label=f"{text} ({seeds})",
    )  # fmt: skip
    if together.seeds > 1:
        panel.plot(x, together.mean, color=hue, linewidth=1, linestyle="--")
        panel.fill_between(x, together.low, together.high, color=hue, alpha=0.15, linewidth=0)
    return True


def draw_points(
    panel: Axes, x: Sequence[float], scores: Sequence[Sequence[float]], hue: str, text: str, line: bool = False
) -> None:
    """Each seed as a dot, the interquartile mean as a bar across, its 95 % interval where there are enough seeds."""
    middles = [float(interquartile_means(np.array(each)[:, None])[0]) for each in scores]
    for at, each, middle in zip(x, scores, middles, strict=True):
        panel.plot([at] * len(each), each, ".", color=hue, alpha=0.5)
        if len(each) > 1:
            low, high = bootstrap(np.array(each)[:, None])
            panel.vlines(at, low[0], high[0], color=hue, alpha=0.4, linewidth=5)
        panel.plot([at], [middle], "_", color=hue, markersize=14, markeredgewidth=2)
    panel.plot(x, middles, color=hue, linewidth=1.2 if line else 0, label=text)


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
        fontsize=6,
        color="grey",
        va="center",
        annotation_clip=False,
        arrowprops={"arrowstyle": "-", "color": "lightgrey", "linewidth": 0.5},
    )


def legend(panel: Axes) -> None:
    """A small legend, if anything is labelled."""
    if panel.get_legend_handles_labels()[0]:
        panel.legend(fontsize=7, frameon=False)
