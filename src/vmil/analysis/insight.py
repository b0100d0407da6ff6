"""What goes on inside: the model's dreams, its latent space, the discriminator over time, late degradation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vmil.analysis import plots
from vmil.analysis.aggregate import decline
from vmil.analysis.gallery import HISTOGRAM, OPEN_LOOP
from vmil.analysis.latents import SOURCES, LatentPoint, read_latents
from vmil.analysis.publish import LATENTS
from vmil.analysis.results import Results, Run

HUES = {"expert": "#000000", "agent": "#D55E00"}


def open_loop_picture(results: Results, env: str) -> Path | None:
    """The open-loop prediction of the longest run on a task: truth, dream, error, for expert and agent."""
    found = results.longest_with(OPEN_LOOP, env)
    return found[1][-1] if found else None


def reward_histograms(results: Results, env: str) -> list[Path]:
    """Histograms of the rewards in the dreams of one run, in order of time."""
    found = results.longest_with(f"{HISTOGRAM}_*.png", env)
    return found[1] if found else []


def reconstruction(results: Results) -> Figure | None:
    """How well pictures are reconstructed, for each task; None: not measured."""
    figure, [panel] = plots.panels(1, width=6)
    drawn = False
    for place, env in enumerate(sorted({run.card.env for run in results.runs})):
        for algo in results.algorithms(env):
            runs = results.standing(env, algo)
            hue, style, text = f"C{place}", plots.style(algo), f"{env}, {plots.label(algo)}"
            drawn |= plots.draw_seeds(panel, runs, "model/reconstruction", "frames", hue, text, style)
    if not drawn:
        return None
    panel.set_xlabel(plots.AXES["frames"])
    panel.set_ylabel("½‖x − x̂‖² of an image")
    panel.set_yscale("log")
    plots.legend(panel)
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
        panel.set_title(f"{env}, {plots.label(run.card.algo)}, {run.card.frames:,} frames", fontsize=9)
        panel.set_xlabel("first principal component")
        panel.set_ylabel("second")
        plots.legend(panel)
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
        panel.set_title(f"{env}, {plots.label(run.card.algo)}", fontsize=9)
        panel.set_xlabel("logit of D: above 0, taken for the expert")
        panel.set_ylabel("transitions")
        plots.legend(panel)
    return figure


def discriminator(results: Results, env: str) -> Figure | None:
    """D over time: how confident it is, whether it recognises the agent or only the dream, what reward it gives.

    Algorithms without D, such as SQIL, are left out; without dreams, as in DAC, D's opponent is the replay itself.
    """
    figure, (sure, right, reward) = plots.panels(3)
    drawn = False
    for algo in results.algorithms(env):
        for run in results.standing(env, algo):
            if run.curve("disc/accuracy") is None:
                continue
            trained_on = "dreams" if run.curve("disc/replay_accuracy") is not None else "replay"
            hue, name = plots.colour(algo), f"{plots.label(algo)}, seed {run.card.seed}"
            drawn |= _line(sure, run, "disc/expert_prob", hue, f"{name}: expert", "-")
            drawn |= _line(sure, run, "disc/policy_prob", hue, "policy", "--")
            drawn |= _line(right, run, "disc/accuracy", hue, f"{name}: expert against {trained_on}", "-")
            drawn |= _line(right, run, "disc/replay_accuracy", hue, "expert against replay", "--")
            drawn |= _line(reward, run, "reward/mean", hue, name, "-")
            _spread(reward, run, hue)
    if not drawn:
        return None
    for panel, title in ((sure, "mean D"), (right, "share sorted rightly"), (reward, "reward ± std")):
        panel.set_title(title, fontsize=9)
        panel.set_xlabel(plots.AXES["frames"])
        plots.legend(panel)
    sure.set_ylim(0, 1)
    right.set_ylim(0.4, 1.01)
    figure.suptitle(env, fontsize=11)
    return figure


def late_degradation(results: Results) -> list[str]:
    """One line per run that was evaluated more than once: its best evaluation, its last, and what was lost between."""
    lines = []
    for run in results.runs:
        fall = decline(run)
        if fall is not None:
            card = run.card
            lines.append(
                f"{card.env:8} {plots.label(card.algo):18} {card.variant:12} seed {card.seed}: best {fall.best:.4g} "
                f"at {fall.best_frames:,} frames, last {fall.last:.4g} ({100 * fall.drop:.0f} % below)"
            )
    return lines


def _line(panel: Axes, run: Run, metric: str, hue: str, text: str, style: str) -> bool:
    curve = run.curve(metric)
    if curve is None:
        return False
    panel.plot(curve.frames / 1000, curve.values, color=hue, linestyle=style, linewidth=1, label=text)
    return True


def _spread(panel: Axes, run: Run, hue: str) -> None:
    mean, std = run.curve("reward/mean"), run.curve("reward/std")
    if mean is not None and std is not None and len(mean.values) == len(std.values):
        low, high = mean.values - std.values, mean.values + std.values
        panel.fill_between(mean.frames / 1000, low, high, color=hue, alpha=0.12, linewidth=0)


def _with_latents(results: Results, env: str) -> list[tuple[Run, list[LatentPoint]]]:
    """The longest run of each algorithm that published its states."""
    found = [results.longest_with(LATENTS, env, algo) for algo in results.algorithms(env)]
    return [(run, read_latents(files[-1])) for run, files in filter(None, found)]
