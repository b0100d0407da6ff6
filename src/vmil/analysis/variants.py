"""What changes a preset: the grid of ablations, one part at a time, and what was tried outside of it."""

from __future__ import annotations

from matplotlib.figure import Figure

from vmil.analysis import plots
from vmil.analysis.aggregate import common_end
from vmil.analysis.learning import finals, up_to
from vmil.analysis.preset import fewer_demos
from vmil.analysis.results import Results, Run
from vmil.config.runs import BASE

# Ablated parts, by the first word of a variant's name, and what each is called.
PARTS = {
    "no-next-state": "next state in D",
    "noise": "input noise",
    "penalty": "gradient penalty",
    "reward": "reward map",
    "bootstrap": "bootstrap",
    "starts": "dream starts",
}


def ablations(results: Results, env: str, algo: str) -> Figure | None:
    """Final score of each variant beside the unchanged algorithm's, part by part; None: no variant measured."""
    runs = [run for run in results.select(env, algo) if run.card.variant == BASE or _part(run.card.variant)]
    budget = common_end(runs, "frames")
    base = finals(results.select(env, algo, BASE), budget)
    groups: dict[str, dict[str, list[float]]] = {}
    for part, title in PARTS.items():
        names = sorted({run.card.variant for run in runs if _part(run.card.variant) == part})
        found = {name: scores for name in names if (scores := finals(results.select(env, algo, name), budget))}
        if found:
            groups[title] = {name.removeprefix(f"{part}-"): scores for name, scores in found.items()}
    if not groups:
        return None
    figure, axes = plots.panels(len(groups), width=2.6, share_y=True)
    for panel, (title, found) in zip(axes, groups.items(), strict=True):
        shown = ({"as it is": base} if base else {}) | found
        for place, (name, scores) in enumerate(shown.items()):
            hue = plots.OTHER if name == "as it is" else plots.colour(algo)
            plots.draw_points(panel, [place], [scores], hue, "")
        panel.set_xticks(range(len(shown)), [name.replace("_", " ") for name in shown], fontsize=7, rotation=20)
        panel.set_xlim(-0.5, len(shown) - 0.5)
        panel.set_ylim(bottom=0)
        panel.set_title(title, fontsize=9)
    axes[0].set_ylabel("final score")
    plots.legend(figure)
    figure.suptitle(f"{env}, {plots.label(algo)}, {up_to(budget)}", fontsize=11)
    return figure


def tries(results: Results, env: str) -> Figure | None:
    """What was tried on a task outside the grids, beside the longest runs of the preset of today; None: nothing was.

    Tries with another number of demonstrations have a panel of their own, with the preset's runs of that number.
    """
    known = [run for run in results.select(env) if not _part(run.card.variant)]
    groups: dict[tuple[str, int], list[Run]] = {}
    for run in sorted(known, key=lambda run: (run.card.algo, -run.card.demos)):
        groups.setdefault((run.card.algo, run.card.demos), []).append(run)
    groups = {key: own for key, own in groups.items() if any(not _of_preset(run.card.variant) for run in own)}
    if not groups:
        return None
    figure, axes = plots.panels(len(groups), share_y=True)
    tried = 0
    for panel, ((algo, demos), own) in zip(axes, groups.items(), strict=True):
        names = sorted({run.card.variant for run in own if not _of_preset(run.card.variant)})
        for place, name in enumerate(names, start=tried):
            runs, mark = [run for run in own if run.card.variant == name], plots.MARKERS[place % len(plots.MARKERS)]
            plots.draw_seeds(panel, runs, runs[0].score, f"C{place % 10}", plots.label(algo, name), mark)
        tried += len(names)
        if preset := [run for run in own if _of_preset(run.card.variant)]:
            plots.draw_seeds(panel, preset, preset[0].score, plots.OTHER, "longest by the preset")
        plots.draw_expert(panel, own, own[0].score)
        plots.name_axes(panel, "frames", own[0].score)
        panel.set_title(f"{env}, {plots.label(algo)}, {demos} demonstration{'s' if demos > 1 else ''}", fontsize=9)
    for panel in axes[1:]:
        panel.set_ylabel("")
    plots.legend(figure)
    return figure


def _of_preset(variant: str) -> bool:
    """Whether a run is its preset but for the number of demonstrations."""
    return variant == BASE or fewer_demos(variant)


def _part(variant: str) -> str | None:
    """The ablated part that a variant is of."""
    return next((part for part in PARTS if variant.startswith(part)), None)
