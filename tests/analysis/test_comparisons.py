"""Algorithms, variants and presets side by side: each where it can be compared, and nothing that was not measured."""

from __future__ import annotations

from dataclasses import replace

from drawn import legend_of, lines_of, make_run, on

from vmil.analysis.budgets import equal_budgets
from vmil.analysis.degradation import declines, late_degradation
from vmil.analysis.insight import discriminator
from vmil.analysis.results import Results, Run
from vmil.analysis.variants import ablations, tries


def test_scores_are_compared_at_the_same_frames(results: Results) -> None:
    long = make_run("walker", "vmil", "base", 0, "eval/return", 100, 500, 800, 800)
    figure = ablations(replace(results, runs=(long, *results.runs[2:])), "walker", "vmil")
    assert [500.0] in lines_of(figure, 0)
    assert figure is not None
    assert figure.get_suptitle() == "walker, VMIL, at 2,000 frames"


def test_equal_budgets_count_what_was_made_by_the_end_of_the_shortest_run(results: Results) -> None:
    """Ours had 500 after 2,000 frames and 800 later; the other ends at 2,000 frames, after twice the time of ours."""
    ours = make_run("walker", "vmil", "base", 0, "eval/return", 100, 500, 800, 800)
    theirs = make_run("walker", "sqil_drq", "base", 0, "eval/return", 30, 40)
    theirs = replace(theirs, points=tuple(replace(point, seconds=2 * point.seconds) for point in theirs.points))
    late = make_run("walker", "sqil_drq", "base", 1, "eval/return", 20, 60)
    late = replace(late, points=tuple(replace(point, seconds=300 + point.seconds) for point in late.points))
    figure = equal_budgets(replace(results, runs=(ours, theirs, late, *results.runs[2:])), "walker")
    assert figure is not None
    assert [panel.get_title() for panel in figure.axes] == ["walker, after 2,000 frames", "walker, after 0.07 hours"]
    frames, hours = lines_of(figure, 0), lines_of(figure, 1)
    assert [500.0] in frames
    assert [40.0, 60.0] in frames
    assert [800.0] in hours
    assert [40.0] in hours
    assert [text.get_text() for text in figure.axes[1].texts] == ["1 without a score"]
    assert equal_budgets(replace(results, runs=(ours,)), "walker") is None


def test_equal_hours_are_of_one_kind_of_machine_and_equal_frames_leave_out_what_collects_none(results: Results) -> None:
    slow = make_run("walker", "vmil", "base", 0, "eval/return", 100, 500)
    fast = on("with AMX", make_run("walker", "vmil", "base", 1, "eval/return", 101, 900))
    offline = make_run("walker", "bc", "base", 0, "eval/return", 30, 40)
    figure = equal_budgets(replace(results, runs=(slow, fast, offline)), "walker")
    assert figure is not None
    assert figure.axes[1].get_title() == "walker, after 0.03 hours\nmachines with no bfloat16 only"
    ticks = [[text.get_text() for text in panel.get_xticklabels()] for panel in figure.axes]
    assert ticks == [["VMIL"], ["behaviour cloning (offline)", "VMIL"]]
    assert [500.0, 900.0] in lines_of(figure, 0)
    assert [40.0, 40.0] in lines_of(figure, 0)
    assert [500.0] in lines_of(figure, 1)


def test_equal_hours_take_a_seed_s_run_on_that_kind_of_machine_though_it_got_further_elsewhere(
    results: Results,
) -> None:
    """The seed's longest run is on AMX; the two that can be compared are on bfloat16 without it."""
    further = on("with AMX", make_run("walker", "vmil", "base", 0, "eval/return", 100, 500, 900))
    alike = on("with bfloat16", make_run("walker", "vmil", "base", 0, "eval/return", 100, 300))
    theirs = on("with bfloat16", make_run("walker", "sqil_drq", "base", 0, "eval/return", 30, 40))
    figure = equal_budgets(replace(results, runs=(further, theirs), shorter=(alike,)), "walker")
    assert figure is not None
    assert figure.axes[1].get_title() == "walker, after 0.03 hours\nmachines with bfloat16 and no AMX only"
    assert [300.0] in lines_of(figure, 1)
    assert [40.0] in lines_of(figure, 1)
    assert [500.0] in lines_of(figure, 0)


def test_a_try_stands_beside_the_preset_and_no_grid_s_cell_does(results: Results) -> None:
    tried = make_run("walker", "vmil", "slow-clock", 0, "eval/return", 7, 8)
    figure = tries(replace(results, runs=(*results.runs, tried)), "walker")
    expected = ["VMIL, slow-clock (1 seed)", "longest by the preset (2 seeds)", "range of two seeds", "demonstrations"]
    assert legend_of(figure) == expected
    assert tries(results, "walker") is None


def test_a_try_on_fewer_demonstrations_stands_beside_the_preset_with_as_few(results: Results) -> None:
    many = make_run("walker", "vmil", "slow-clock", 0, "eval/return", 7, 8)
    few = make_run("walker", "vmil", "one-demo-slow", 0, "eval/return", 3, 4, demos=1)
    figure = tries(replace(results, runs=(*results.runs, many, few)), "walker")
    assert figure is not None
    assert [panel.get_title() for panel in figure.axes] == [
        *("walker, VMIL, 10 demonstrations", "walker, VMIL, 1 demonstration"),
    ]
    assert [[3, 4] in lines_of(figure, panel) for panel in (0, 1)] == [False, True]
    assert [[50, 60] in lines_of(figure, panel) for panel in (0, 1)] == [False, True]  # demos1
    assert [[100, 500] in lines_of(figure, panel) for panel in (0, 1)] == [True, False]


def test_more_tries_than_colours_are_still_told_apart(results: Results) -> None:
    tried = [make_run("walker", "vmil", f"try{number:02}", 0, "eval/return", number, 8) for number in range(30)]
    figure = tries(replace(results, runs=(*results.runs, *tried)), "walker")
    assert figure is not None
    drawn = [line for line in figure.axes[0].lines if str(line.get_label()).startswith("VMIL, try")]
    assert len({(line.get_color(), line.get_marker()) for line in drawn}) == 30


def test_an_ablation_stands_beside_the_unchanged_algorithm(results: Results) -> None:
    figure = ablations(results, "walker", "vmil")
    assert figure is not None
    assert [panel.get_title() for panel in figure.axes] == ["input noise"]
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["as it is", "none"]
    assert [501.0] in lines_of(figure, 0)
    assert [90.0] in lines_of(figure, 0)


def test_late_degradation_is_of_presets_with_enough_evaluations(results: Results) -> None:
    long = make_run("walker", "vmil_plus", "base", 0, "eval/return", 10, 20, 80, 40, 40)
    tried = replace(long, card=replace(long.card, variant="slow-clock"))
    offline = replace(long, card=replace(long.card, algo="bc"))
    measured = replace(results, runs=(*results.runs, long, tried, offline))
    assert lines_of(late_degradation(measured), 0) == [[0.125, 0.25, 1.0, 0.5, 0.5]]
    assert [line.split() for line in declines(measured)[1:]] == [
        ["walker", "VMIL", "plus", "0", "80", "3,000", "40", "40"],
    ]


def test_rewards_of_different_maps_have_panels_of_their_own(results: Results) -> None:
    """VMIL's preset rewards with log D, that of VMIL plus with the logit; a command may say otherwise."""

    def judged(algo: str, seed: int, command: str) -> Run:
        metrics = {"disc/accuracy": 0.7, "disc/expert_prob": 0.6, "reward/mean": -seed}
        runs = [make_run("walker", algo, "base", seed, name, value, value) for name, value in metrics.items()]
        points = tuple(point for run in runs for point in run.points)
        return replace(runs[0], card=replace(runs[0].card, command=command), points=points)

    runs = (judged("vmil", 1, "make train"), judged("vmil_plus", 2, "make train"))
    changed = judged("vmil", 3, 'make train ARGS="discriminator.reward=logit"')
    figure = discriminator(replace(results, runs=(*runs, changed)), "walker")
    assert figure is not None
    assert [panel.get_title().partition("\n")[0] for panel in figure.axes[2:]] == [
        "reward: log D",
        "reward: logit of D",
    ]
    assert lines_of(figure, 2) == [[-1, -1]]
    assert lines_of(figure, 3) == [[-3, -3], [-2, -2]]
    assert legend_of(figure) == ["VMIL", "VMIL plus"]
