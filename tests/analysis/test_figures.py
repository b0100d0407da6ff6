"""Figures draw what was measured and nothing else; the notebooks run on what is committed."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import pytest
from matplotlib.figure import Figure
from test_aggregate import CARD

from vmil.analysis import learning
from vmil.analysis.budgets import equal_budgets
from vmil.analysis.figures import all_figures, save_figures
from vmil.analysis.insight import discriminator, late_degradation
from vmil.analysis.notebooks import execute, execute_all, from_here
from vmil.analysis.references import Reference
from vmil.analysis.results import Results, Run, checkout_dir, write_card
from vmil.errors import UserError
from vmil.tracking.curves import Point

ROOT = checkout_dir()
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def make_run(env: str, algo: str, variant: str, seed: int, metric: str, *values: float, demos: int = 10) -> Run:
    card = replace(CARD, env=env, algo=algo, variant=variant, seed=seed, demos=demos, frames=1000 * len(values))
    points = tuple(Point(1000 * (at + 1), 60.0 * (at + 1), metric, value) for at, value in enumerate(values))
    return Run(f"{env}{algo}{variant}{seed}", replace(card, expert_return=900.0), points)


@pytest.fixture
def results() -> Results:
    runs = [make_run("walker", "vmil", "base", seed, "eval/return", 100 + seed, 500 + 2 * seed) for seed in (0, 1)]
    runs += [make_run("walker", "vmil", "demos1", 0, "eval/return", 50, 60, demos=1)]
    runs += [make_run("walker", "vmil", "noise-none", 0, "eval/return", 80, 90)]
    runs += [make_run("sawyer", "vmil", "base", 0, "eval/success", 0.2, 0.6)]
    known = Reference("Others (from scratch)", "walker", (10_000, 90_000), (10.0, 800.0), "none")
    return Results(tuple(runs), (known, replace(known, method="The paper", env="sawyer", frames=(), mean=(50.0,))))


def lines_of(figure: Figure | None, panel: int) -> list[list[float]]:
    assert figure is not None
    return [[float(y) for y in line.get_ydata()] for line in figure.axes[panel].lines]


def test_seeds_that_share_no_hour_are_drawn_each_for_itself(results: Results) -> None:
    """As on two machines of which one had not begun to score when the other was done."""
    slow = make_run("walker", "vmil", "base", 1, "eval/return", 101, 502)
    slow = replace(slow, points=tuple(replace(point, seconds=100 * point.seconds) for point in slow.points))
    figure = learning.learning_curves(replace(results, runs=(results.runs[0], slow)), "walker")
    hours = lines_of(figure, 1)
    assert [100, 500] in hours
    assert [101, 502] in hours
    assert [100.5, 501.0] not in hours


def test_without_a_run_of_its_preset_a_curve_says_whose_it_is(results: Results) -> None:
    changed = make_run("cheetah", "vmil", "low-kl", 0, "eval/return", 70, 80)
    figure = learning.learning_curves(replace(results, runs=(*results.runs, changed)), "cheetah")
    assert [70, 80] in lines_of(figure, 0)
    assert figure is not None
    assert "low-kl" in " ".join(text.get_text() for text in figure.axes[0].get_legend().get_texts())


def test_a_learning_curve_has_each_seed_their_mean_the_expert_and_the_others(results: Results) -> None:
    figure = learning.learning_curves(results, "walker")
    frames = lines_of(figure, 0)
    assert [100, 500] in frames
    assert [101, 502] in frames
    assert frames.count([100.5, 501.0]) == 2  # interquartile mean and mean of two seeds
    assert [900.0, 900.0] in frames
    assert [10.0, 800.0] not in frames
    assert [10.0, 800.0] in lines_of(figure, 2)  # beside, not over, ours
    assert [50, 60] not in frames  # another number of demonstrations is another experiment
    assert figure is not None
    assert "Others 800" in [text.get_text() for text in figure.axes[2].texts]


def test_another_metric_than_the_score_stands_beside_neither_expert_nor_others(results: Results) -> None:
    collected = make_run("walker", "vmil", "base", 7, "collect/return", 20, 30)
    figure = learning.learning_curves(replace(results, runs=(collected,)), "walker", metric="collect/return")
    assert figure is not None
    assert len(figure.axes) == 2
    assert {tuple(line) for line in lines_of(figure, 0)} == {(20, 30)}


def test_scores_are_compared_at_the_same_frames(results: Results) -> None:
    long = make_run("walker", "vmil", "base", 0, "eval/return", 100, 500, 800, 800)
    figure = learning.ablations(replace(results, runs=(long, *results.runs[2:])), "walker", "vmil")
    assert [500.0] in lines_of(figure, 0)
    assert figure is not None
    assert figure.get_suptitle() == "walker, VMIL, at 2,000 frames"


def test_equal_budgets_count_what_was_made_by_the_end_of_the_shortest_run(results: Results) -> None:
    """Ours had 500 after 2,000 frames and 800 later; the other ends at 2,000 frames, after twice the time of ours."""
    ours = make_run("walker", "vmil", "base", 0, "eval/return", 100, 500, 800, 800)
    theirs = make_run("walker", "bc", "base", 0, "eval/return", 30, 40)
    theirs = replace(theirs, points=tuple(replace(point, seconds=2 * point.seconds) for point in theirs.points))
    late = make_run("walker", "bc", "base", 1, "eval/return", 20, 60)
    late = replace(late, points=tuple(replace(point, seconds=300 + point.seconds) for point in late.points))
    figure = equal_budgets(replace(results, runs=(ours, theirs, late, *results.runs[2:])), "walker")
    assert figure is not None
    assert [panel.get_title() for panel in figure.axes] == ["walker, after 2,000 frames", "walker, after 0.07 hours"]
    frames, hours = lines_of(figure, 0), lines_of(figure, 1)
    assert [500.0] in frames
    assert [40.0, 60.0] in frames
    assert [800.0] in hours
    assert [40.0] in hours
    assert [text.get_text() for text in figure.axes[1].texts] == ["1 not evaluated yet"]
    assert equal_budgets(replace(results, runs=(ours,)), "walker") is None


def test_a_try_stands_beside_the_preset_and_no_grid_s_cell_does(results: Results) -> None:
    tried = make_run("walker", "vmil", "slow-clock", 0, "eval/return", 7, 8)
    figure = learning.tries(replace(results, runs=(*results.runs, tried)), "walker")
    assert figure is not None
    _, labels = figure.axes[0].get_legend_handles_labels()
    assert labels == ["slow-clock (1 seed)", "the preset (2 seeds)", "demonstrations"]
    assert learning.tries(results, "walker") is None


def test_a_task_with_successes_is_drawn_by_them(results: Results) -> None:
    figure = learning.learning_curves(results, "sawyer")
    assert figure is not None
    assert figure.axes[0].get_ylabel() == "success rate"
    assert [0.5, 0.5] in lines_of(figure, 2)  # the paper's 50 percent
    assert [0.6] in lines_of(learning.success_rates(results), 0)


def test_the_number_of_demonstrations_is_the_axis(results: Results) -> None:
    figure = learning.data_regimes(results, "walker")
    assert figure is not None
    across = [list(line.get_xdata()) for line in figure.axes[0].lines]  # type: ignore[arg-type]
    assert [1, 10] in across
    assert [60.0, 501.0] in lines_of(figure, 0)


def test_an_ablation_stands_beside_the_unchanged_algorithm(results: Results) -> None:
    figure = learning.ablations(results, "walker", "vmil")
    assert figure is not None
    assert [panel.get_title() for panel in figure.axes] == ["input noise"]
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["as it is", "none"]
    assert [501.0] in lines_of(figure, 0)
    assert [90.0] in lines_of(figure, 0)


def test_what_was_not_measured_is_not_drawn(results: Results) -> None:
    for name, draw in all_figures().items():
        assert draw(Results((), results.references)) is None, name
    assert learning.learning_curves(results, "cheetah") is None
    assert learning.learning_curves(results, "walker", metric="collect/return") is None
    assert learning.data_regimes(results, "sawyer") is None
    assert learning.ablations(results, "walker", "vmil_plus") is None
    assert discriminator(results, "walker") is None
    assert late_degradation(Results((), ())) == []


def test_the_table_names_every_run(results: Results) -> None:
    table = learning.measured(results)
    assert len(table) == 2 * len(results.runs)  # the second line: on which machine
    assert "final success 0.6" in table[0]
    assert table[1].strip() == "a machine"


def test_figures_come_as_png_and_pdf(results: Results, tmp_path: Path) -> None:
    for run in results.runs[:1]:
        (tmp_path / "results" / run.name).mkdir(parents=True)
        write_card(run.card, tmp_path / "results" / run.name / "run.yaml")
        rows = "".join(f"{p.frames},{p.seconds},{p.name},{p.value}\n" for p in run.points)
        (tmp_path / "results" / run.name / "metrics.csv").write_text("frames,seconds,name,value\n" + rows)
    said = list(save_figures(tmp_path / "figures", str(tmp_path / "results")))
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "figure3_walker.pdf",
        "figure3_walker.png",
    ]
    assert "figure3_cheetah: not measured yet" in said


# ---- notebooks ------------------------------------------------------------------------------------------------


def test_there_are_the_five_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == [
        *("1_learning_curves", "2_data_regimes", "3_world_model", "4_discriminator", "5_ablations"),
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_committed_notebook_has_its_output_is_small_and_names_nobody_s_disk(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    assert path.stat().st_size < 1_000_000
    outputs = [out for cell in cells for out in cell.outputs]
    told = json.dumps([[out.get("text"), out.get("data", {}).get("text/plain")] for out in outputs])
    assert not re.search(r"[\s\"'=]/\w+/\w+", told)  # an absolute path
    assert not any(out.output_type == "error" or out.get("name") == "stderr" for out in outputs)


def pictures(cells: list[Any]) -> list[Any]:
    """Those that a notebook's cells show."""
    return [out for cell in cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})]


def test_every_notebook_runs_on_the_committed_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one kernel, since a kernel's imports take longer than its figures; each notebook alone is `make notebooks`."""
    monkeypatch.delenv("VMIL_RESULTS", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"), prepend=":")
    whole = nbformat.v4.new_notebook(metadata=nbformat.read(NOTEBOOKS[0], as_version=4).metadata)
    whole.cells = [cell for path in NOTEBOOKS for cell in nbformat.read(path, as_version=4).cells]
    committed = copy.deepcopy(whole.cells)
    for index, cell in enumerate(whole.cells):
        cell["id"] = f"cell-{index}"
        if cell.cell_type == "code":
            cell["outputs"] = []
    nbformat.write(whole, tmp_path / "whole.ipynb")
    done = nbformat.read(execute(tmp_path / "whole.ipynb"), as_version=4)
    assert len(pictures(done.cells)) == len(pictures(committed)) > len(NOTEBOOKS)
    outputs = [out for cell in done.cells if cell.cell_type == "code" for out in cell.outputs]
    assert not any(out.get("name") == "stderr" for out in outputs)


def test_a_source_is_meant_from_here_though_a_kernel_stands_beside_its_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert from_here("mlflow") == f"sqlite:///{ROOT}/runs/mlflow.db"  # an open notebook's: there is no run here
    (tmp_path / "runs").mkdir()
    assert from_here("mlflow") == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert from_here("mine") == str(tmp_path / "mine")
    assert from_here("http://lab:5000") == "http://lab:5000"


def test_a_cell_that_raises_stops_it_with_its_reason(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    nbformat.write(notebook, tmp_path / "broken.ipynb")
    with pytest.raises(UserError, match=r"broken.ipynb does not run: ZeroDivisionError: division by zero"):
        list(execute_all(str(tmp_path)))
    with pytest.raises(UserError, match="is no notebook"):
        list(execute_all(str(tmp_path / "none.ipynb")))
