"""Every figure by name, for `make figures`; the notebooks draw the same ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from vmil.analysis.budgets import equal_budgets
from vmil.analysis.degradation import late_degradation
from vmil.analysis.insight import discriminator, latent_overlap, opinions, reconstruction
from vmil.analysis.learning import COLLECTED, DOT, TASKS, data_regimes, learning_curves, success_rates
from vmil.analysis.open_loop import open_loop_figure
from vmil.analysis.results import Results, load_results
from vmil.analysis.variants import ablations, tries

Draw = Callable[[Results], Figure | None]
SUFFIXES = (".png", ".pdf")


def all_figures() -> dict[str, Draw]:
    """Name → the function that draws it, which returns None if it is not measured yet."""
    found: dict[str, Draw] = {}
    for env in TASKS:
        found[f"figure3_{env}"] = partial(learning_curves, env=env)
        found[f"budgets_{env}"] = partial(equal_budgets, env=env)
        found[f"exploring_{env}"] = partial(learning_curves, env=env, metric=COLLECTED)
        found[f"open_loop_{env}"] = partial(open_loop_figure, env=env)
        found[f"latents_{env}"] = partial(latent_overlap, env=env)
        found[f"discriminator_{env}"] = partial(discriminator, env=env)
        found[f"opinions_{env}"] = partial(opinions, env=env)
        found[f"tries_{env}"] = partial(tries, env=env)
    found[f"figure3_{DOT}"] = partial(learning_curves, env=DOT)
    found[f"budgets_{DOT}"] = partial(equal_budgets, env=DOT)
    for env in ("walker", "cheetah", DOT):
        found[f"figure4_{env}"] = partial(data_regimes, env=env)
    found["figure4_success"] = success_rates
    found["reconstruction"] = reconstruction
    found["late_degradation"] = late_degradation
    for env in ("walker", DOT):
        for algo in ("vmil", "vmil_plus"):
            found[f"ablations_{env}_{algo}"] = partial(ablations, env=env, algo=algo)
    return found


def save_figures(out: Path, source: str | None = None) -> Iterator[str]:
    """Draws every figure as PNG and PDF into `out`; says for each where it lies, or that nothing is measured yet.

    Raises:
        UserError: there are no such results.
    """
    results = load_results(source)
    out.mkdir(parents=True, exist_ok=True)
    for name, draw in all_figures().items():
        figure = draw(results)
        if figure is None:
            yield f"{name}: not measured yet"
            continue
        for suffix in SUFFIXES:
            # No date in it: the same results give the same file.
            figure.savefig(
                out / f"{name}{suffix}", dpi=150, metadata={"CreationDate": None} if suffix == ".pdf" else {}
            )
        yield f"{name}: {out / name}.png and .pdf"
