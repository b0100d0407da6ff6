"""Figures draw what was measured and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from drawn import legend_of, lines_of, make_run, on

from vmil.analysis import learning
from vmil.analysis.degradation import declines
from vmil.analysis.figures import all_figures, save_figures
from vmil.analysis.insight import discriminator
from vmil.analysis.plots import label
from vmil.analysis.results import Results, write_card
from vmil.analysis.variants import ablations


def test_against_hours_each_seed_is_drawn_for_itself_and_its_kind_of_machine_is_told(results: Results) -> None:
    fast = on("2 vCPU Intel Xeon (AMX)", results.runs[1])
    figure = learning.learning_curves(replace(results, runs=(results.runs[0], fast)), "walker")
    assert figure is not None
    marks = {tuple(line.get_ydata()): line.get_marker() for line in figure.axes[1].lines}  # type: ignore[arg-type]
    assert marks == {(100, 500): ".", (101, 502): "^", (900, 900): "None"}
    assert "triangles: with bfloat16" in legend_of(figure)


def test_a_short_seed_is_drawn_thin_beside_a_curve_that_says_how_many_it_is_of(results: Results) -> None:
    short = make_run("walker", "vmil", "base", 2, "eval/return", 7)
    figure = learning.learning_curves(replace(results, runs=(*results.runs, short)), "walker")
    assert [7] in lines_of(figure, 0)
    assert [100.5, 501.0] in lines_of(figure, 0)
    assert "VMIL (2 of 3 seeds)" in legend_of(figure)
    assert "range of two seeds" in legend_of(figure)
    more = [make_run("walker", "vmil", "base", seed, "eval/return", 90, 480) for seed in (3, 4, 5)]
    figure = learning.learning_curves(replace(results, runs=(*results.runs, *more)), "walker")
    assert "VMIL (5 seeds)" in legend_of(figure)
    assert "95 % bootstrap interval" in legend_of(figure)


def test_what_collects_nothing_is_a_level_against_frames_and_a_curve_against_hours(results: Results) -> None:
    offline = make_run("walker", "bc", "base", 0, "eval/return", 30, 40)
    figure = learning.learning_curves(replace(results, runs=(*results.runs, offline)), "walker")
    assert [40.0, 40.0] in lines_of(figure, 0)
    assert [30.0, 40.0] not in lines_of(figure, 0)
    assert [30.0, 40.0] in lines_of(figure, 1)
    assert "behaviour cloning (offline): last mean, collects no frames (1 seed)" in legend_of(figure)


def test_drq_with_the_true_reward_is_called_so_and_stands_only_beside_published_results(results: Results) -> None:
    assert label("sqil_drq", "true-reward") == "DrQ, true reward"
    assert label("vmil_plus", "true-reward") == "VMIL plus, true reward"
    assert label("vmil", "demos1") == "VMIL, demos1"
    drq = make_run("walker", "sqil_drq", "true-reward", 0, "eval/return", 5, 6)
    figure = learning.learning_curves(replace(results, runs=(*results.runs, drq)), "walker")
    assert [[5, 6] in lines_of(figure, panel) for panel in (0, 1, 2)] == [False, False, True]
    assert "our DrQ, true reward (not imitation; seed 0)" in legend_of(figure)


def test_the_frames_from_which_on_collected_episodes_are_whole_are_those_of_the_command(results: Results) -> None:
    begun = 'make train ARGS="training.frames=1500 training.episode_frames=9"'
    resumed = f'{begun}; make resume ARGS="training.episode_frames=99"'
    assert learning.whole_from(resumed) == 1500
    assert learning.whole_from("make train ARGS=training.whole_episodes_from=46000") == 46_000
    assert learning.whole_from(begun) is None
    run = make_run("walker", "vmil", "base", 0, "collect/return", 20, 30)
    run = replace(run, card=replace(run.card, command=resumed))
    figure = learning.learning_curves(replace(results, runs=(run,)), "walker", metric=learning.COLLECTED)
    assert "from 1,500 frames on collected episodes are whole" in legend_of(figure)
    assert figure is not None
    assert figure.get_suptitle() == "walker, return of collected episodes"


def test_without_a_run_of_its_preset_a_curve_says_whose_it_is(results: Results) -> None:
    changed = make_run("cheetah", "vmil_plus", "low-kl", 0, "eval/return", 70, 80)
    figure = learning.learning_curves(replace(results, runs=(*results.runs, changed)), "cheetah")
    assert [70, 80] in lines_of(figure, 0)
    assert "VMIL plus, low-kl (1 seed)" in legend_of(figure)


def test_a_learning_curve_has_each_seed_their_mean_the_expert_and_the_others(results: Results) -> None:
    figure = learning.learning_curves(results, "walker")
    frames = lines_of(figure, 0)
    assert [100, 500] in frames
    assert [101, 502] in frames
    assert frames.count([100.5, 501.0]) == 1  # of two seeds the interquartile mean is the mean
    assert [900.0, 900.0] in frames
    assert [10.0, 800.0] not in frames
    assert [10.0, 800.0] in lines_of(figure, 2)  # beside, not over, ours
    assert [50, 60] not in frames  # another number of demonstrations is another experiment
    assert figure is not None
    assert "1  Others 800" in [text.get_text() for text in figure.axes[2].texts]
    assert [line.get_marker() for line in figure.axes[2].lines if len(line.get_ydata()) == 2][-1] == "$1$"  # type: ignore[arg-type]
    assert [text.get_text() for text in figure.axes[2].get_xticklabels()] == ["10k", "100k", "1M"]


def test_another_metric_than_the_score_stands_beside_neither_expert_nor_others(results: Results) -> None:
    collected = make_run("walker", "vmil", "base", 7, "collect/return", 20, 30)
    figure = learning.learning_curves(replace(results, runs=(collected,)), "walker", metric="collect/return")
    assert figure is not None
    assert len(figure.axes) == 2
    assert {tuple(line) for line in lines_of(figure, 0)} == {(20, 30)}


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


def test_what_was_not_measured_is_not_drawn(results: Results) -> None:
    for name, draw in all_figures().items():
        assert draw(Results((), results.references)) is None, name
    assert learning.learning_curves(results, "cheetah") is None
    assert learning.learning_curves(results, "walker", metric="collect/return") is None
    assert learning.data_regimes(results, "sawyer") is None
    assert ablations(results, "walker", "vmil_plus") is None
    assert discriminator(results, "walker") is None
    assert declines(results) == []  # too few evaluations


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
