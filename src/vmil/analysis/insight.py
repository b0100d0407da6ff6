"""What goes on inside: the model's reconstructions, its latent space, the discriminator over time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vmil.analysis import plots
from vmil.analysis.gallery import HISTOGRAM
from vmil.analysis.latents import SOURCES, LatentPoint, across_sources, read_latents
from vmil.analysis.preset import reward_map
from vmil.analysis.publish import LATENTS
from vmil.analysis.results import Results, Run

RECONSTRUCTION = "model/reconstruction"
REWARDS = {"probability": "D", "log_d": "log D", "neg_log_one_minus_d": "−log(1 − D)", "logit": "logit of D"}
HUES = {"expert": "#000000", "agent": "#D55E00"}


def reward_histograms(results: Results, env: str) -> list[Path]:
    """Histograms of the rewards in the dreams of one run, in order of time."""
    found = results.longest_with(f"{HISTOGRAM}_*.png", env)
    return found[1] if found else []


def reconstruction(results: Results) -> Figure | None:
    """How well pictures are reconstructed, for each task; None: not measured."""
    figure, [panel] = plots.panels(1, width=6, height=4)
    drawn = False
    pairs = [(env, algo) for env in sorted({run.card.env for run in results.runs}) for algo in results.algorithms(env)]
    modelled = [(env, algo) for env, algo in pairs if any(map(_reconstructs, results.standing(env, algo)))]
    for place, (env, algo) in enumerate(modelled):
        runs, mark = results.standing(env, algo), plots.MARKERS[place % len(plots.MARKERS)]
        text = f"{env}, {plots.label(algo, runs[0].card.variant)}"
        drawn |= plots.draw_seeds(panel, runs, RECONSTRUCTION, f"C{place % 10}", text, mark)
    if not drawn:
        return None
    panel.set_xlabel(plots.AXES["frames"])
    panel.set_ylabel("½‖x − x̂‖² of an image")
    panel.set_yscale("log")
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200) if panel.get_ylim()[0] <= tick <= panel.get_ylim()[1]]
    panel.set_yticks(ticks, [str(tick) for tick in ticks])
    panel.minorticks_off()
    plots.legend(figure)
    return figure


def latent_overlap(results: Results, env: str) -> Figure | None:
    """Where expert and agent live in each algorithm's latent space; None: no states were published."""
    known = _with_latents(results, env)
    if not known:
        return None
    figure, axes = plots.panels(len(known))
    for panel, (run, points) in zip(axes, known, strict=True):
        for source in SOURCES:
            own = [point for point in points if point.source == source]
            panel.scatter([p.x for p in own], [p.y for p in own], s=6, alpha=0.5, color=HUES[source], label=source)
        what = f"{env}, {plots.label(run.card.algo, run.card.variant)}, {run.card.frames:,} frames"
        apart = f"{100 * across_sources(points):.0f} % of nearest neighbours are of the other kind"
        panel.set_title(f"{what}\n{apart}", fontsize=8)
        panel.set_xlabel("first principal component")
        panel.set_ylabel("second")
    plots.legend(figure)
    return figure


def opinions(results: Results, env: str) -> Figure | None:
    """How D rates the expert's and the agent's own transitions at the end; None: no states were published."""
    known = _with_latents(results, env)
    if not known:
        return None
    figure, axes = plots.panels(len(known))
    for panel, (run, points) in zip(axes, known, strict=True):
        logits = {source: [point.logit for point in points if point.source == source] for source in SOURCES}
        bins = np.linspace(min(map(min, logits.values())), max(map(max, logits.values())), 41)
        for source, values in logits.items():
            panel.hist(values, list(bins), alpha=0.5, color=HUES[source], label=source)
        panel.axvline(0, color="grey", linewidth=0.8)
        panel.set_title(f"{env}, {plots.label(run.card.algo, run.card.variant)}", fontsize=9)
        panel.set_xlabel("logit of D: above 0, taken for the expert")
        panel.set_ylabel("transitions")
    plots.legend(figure)
    return figure


def discriminator(results: Results, env: str) -> Figure | None:
    """D over time: how confident it is, whether it recognises the agent or only the dream, what reward each map gives.

    Algorithms without D, such as SQIL, are left out; without dreams, as in DAC, D's opponent is the replay itself.
    """
    standing = [run for algo in results.algorithms(env) for run in results.standing(env, algo)]
    runs = [run for run in standing if run.curve("disc/accuracy") is not None]
    if not runs:
        return None
    maps = sorted({reward_map(run.card) for run in runs})
    figure, (sure, right, *rewards) = plots.panels(2 + len(maps))
    for run in runs:
        hue, text = plots.colour(run.card.algo), plots.label(run.card.algo, run.card.variant)
        dreams = run.curve("disc/replay_accuracy") is not None
        reward = rewards[maps.index(reward_map(run.card))]
        _line(sure, run, "disc/expert_prob", hue, "-", text)
        _line(sure, run, "disc/policy_prob", hue, "--")
        _line(right, run, "disc/accuracy", hue, "-" if dreams else "--")
        _line(right, run, "disc/replay_accuracy", hue, "--")
        _line(reward, run, "reward/mean", hue, "-")
        _spread(reward, run, hue)
    sure.set_title("mean D\nsolid: expert, dashed: policy", fontsize=9)
    right.set_title("share sorted rightly\nsolid: expert against dreams, dashed: against replay", fontsize=9)
    for reward, name in zip(rewards, maps, strict=True):
        reward.set_title(f"reward: {REWARDS.get(name, name)}\nmean ± std", fontsize=9)
    for panel in (sure, right, *rewards):
        panel.set_xlabel(plots.AXES["frames"])
    sure.set_ylim(0, 1)
    right.set_ylim(0.4, 1.01)
    figure.suptitle(env, fontsize=11)
    plots.legend(figure)
    return figure


def _reconstructs(run: Run) -> bool:
    return run.curve(RECONSTRUCTION) is not None


def _line(panel: Axes, run: Run, metric: str, hue: str, style: str, text: str = "") -> None:
    curve = run.curve(metric)
    if curve is not None:
        panel.plot(curve.frames / 1000, curve.values, color=hue, linestyle=style, linewidth=1, label=text)


def _spread(panel: Axes, run: Run, hue: str) -> None:
    mean, std = run.curve("reward/mean"), run.curve("reward/std")
    if mean is not None and std is not None and len(mean.values) == len(std.values):
        low, high = mean.values - std.values, mean.values + std.values
        panel.fill_between(mean.frames / 1000, low, high, color=hue, alpha=0.12, linewidth=0)


def _with_latents(results: Results, env: str) -> list[tuple[Run, list[LatentPoint]]]:
    """The longest run of each algorithm that published its states."""
    found = [results.longest_with(LATENTS, env, algo) for algo in results.algorithms(env)]
    return [(run, read_latents(files[-1])) for run, files in filter(None, found)]
