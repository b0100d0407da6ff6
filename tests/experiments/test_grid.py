"""From a file of tasks, algorithms and variants to single runs."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from vmil.config.load import load_config, load_saved_config, save_config
from vmil.config.runs import last_checkpoint
from vmil.config.sources import conf_dir, presets
from vmil.errors import UserError
from vmil.experiments import cell as cells
from vmil.experiments import grid
from vmil.experiments.cell import Place, command, standing
from vmil.experiments.grid import Request, expand, read_grid
from vmil.tracking.record import update_record

GRID = """
grid:
  - env: [walker, cheetah]
    algo: [vmil]
    variants:
      demos1: { demos.count: 1 }
      base: {}
  - env: [walker]
    algo: [vmil, vmil_plus]
    variants:
      base: {}
      noise-none: { discriminator.noise: none }
      noise-constant: { discriminator.noise: constant }
"""


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of experiments; the other presets are the real ones."""
    directory = tmp_path / "conf"
    directory.mkdir()
    for group in ("env", "algo", "compute", "default.yaml"):
        (directory / group).symlink_to(conf_dir() / group)
    (directory / "experiment").mkdir()
    monkeypatch.setattr(grid, "conf_dir", lambda: directory)
    (directory / "experiment" / "study.yaml").write_text(GRID)
    return directory / "experiment"


def test_a_grid_is_every_run_once_and_the_first_seed_first(conf: Path) -> None:
    names = [cell.name for cell in expand("study", Request(seeds=(3, 0)))]
    of_one_seed = [
        "walker-vmil-demos1",
        "walker-vmil",  # ten demonstrations: the second block's base is this run too
        "cheetah-vmil-demos1",
        "cheetah-vmil",
        "walker-vmil-noise-none",  # its preset's noise is constant: that variant is the base
        "walker-vmil_plus",
        "walker-vmil_plus-noise-constant",  # and this one's is none
    ]
    assert names == [f"{name}-s{seed}" for seed in (3, 0) for name in of_one_seed]


def test_a_cell_carries_what_was_asked_of_it(conf: Path) -> None:
    asked = Request(seeds=(1,), env=("cheetah",), budget=20_000, overrides=("training.eval_episodes=3", "compute=cpu"))
    first = expand("study", asked)[0]
    assert first.config.demos.count == 1
    assert (first.config.env.name, first.config.algo, first.config.seed) == ("cheetah", "vmil", 1)
    assert (first.config.training.frames, first.config.training.eval_episodes) == (20_000, 3)
    assert first.config.run.variant == "demos1"
    assert load_config(first.settings) == first.config


def test_a_setting_goes_to_the_runs_whose_learner_reads_it(conf: Path) -> None:
    (conf / "both.yaml").write_text("grid: [{env: [walker], algo: [vmil, bc]}]")
    asked = Request(seeds=(0,), overrides=("collector.backend=process", "training.eval_episodes=3"))
    vmil, bc = expand("both", asked)
    assert (vmil.config.collector.backend, bc.config.collector.backend) == ("process", "direct")
    assert bc.config.training.eval_episodes == 3


def test_a_part_of_a_grid(conf: Path) -> None:
    asked = Request(seeds=(0,), env=("walker",), algo=("vmil_plus",))
    assert [cell.variant for cell in expand("study", asked)] == ["base", "noise-constant"]


@pytest.mark.parametrize(
    ("name", "request_", "sentence"),
    [
        ("stdy", Request((0,)), "unknown experiment 'stdy' (known: study); did you mean 'study'?"),
        ("study", Request(()), 'an experiment needs at least one seed, such as seeds="0 1 2"'),
        ("study", Request((0,), env=("cheetah",), algo=("vmil_plus",)), "has no run of cheetah with vmil_plus"),
        ("study", Request((0,), overrides=("drq.tau=0.1",)), "drq.tau changes nothing here: no learner of these runs"),
        ("study", Request((0,), env=("waker",)), "env='waker' is not in this experiment (walker, cheetah)"),
        ("study", Request((0,), algo=("bc",)), "algo='bc' is not in this experiment (vmil, vmil_plus)"),
        (
            "study",
            Request((0,), overrides=("training.frames=100",)),
            "training.frames is set by the experiment: say budget=100 (make: BUDGET=100)",
        ),
        ("study", Request((0,), overrides=("seed=3",)), 'seed is set by the experiment: say seeds="0 1 2" (make'),
        ("study", Request((0,), overrides=("run.name=x",)), "run.name is set by the experiment: leave it out"),
        ("study", Request((0,), overrides=("tracking=none",)), "tracking.kind=none keeps none"),
        ("study", Request((0,), overrides=("demos.count=2",)), "demos.count is what experiment/study.yaml varies in"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(conf: Path, name: str, request_: Request, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        expand(name, request_)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("grid: [{env: [waker], algo: [vmil]}]", "waker-vmil-s0: unknown env 'waker'"),
        ("grid: [{env: [walker], algo: [vmli]}]", "unknown algo 'vmli'"),
        ("grid: [{env: [walker], algo: [vmil], variants: {x: {demos.cuont: 1}}}]", "unknown key 'demos.cuont'"),
        ("grid: [{env: walker, algo: [vmil]}]", "`env` and `algo` are lists of names"),
        ("grid: [{env: [walker]}]", "a block of the grid has `env`, `algo` and perhaps `variants`"),
        ("grid: [{env: [walker], algo: [vmil], variants: [base]}]", "`variants` holds names"),
        ("grid: 3", "must hold `grid`"),
        ("grid: [", "cannot be read"),
        (
            "grid: [{env: [walker], algo: [vmil]}, {env: [walker], algo: [vmil], variants: {base: {demos.count: 1}}}]",
            "two different runs called walker-vmil-s0",
        ),
    ],
)
def test_a_wrong_file_is_one_sentence(conf: Path, content: str, sentence: str) -> None:
    (conf / "wrong.yaml").write_text(content)
    with pytest.raises(UserError, match=r"experiment/wrong\.yaml") as error:
        expand("wrong", Request(seeds=(0,)))
    assert sentence in str(error.value)


# ---- the shipped files ----------------------------------------------------------------------------------------


def test_the_shipped_experiments_name_tasks_and_algorithms_that_there_are() -> None:
    for name in grid.experiments():
        for block in read_grid(name):
            assert {*block.env, *block.algo} <= {*presets("env"), *presets("algo")}


def test_figure_3_is_every_task_by_every_algorithm() -> None:
    [block] = read_grid("figure3")
    assert block.env == ("walker", "cheetah", "sawyer", "baoding")
    assert block.algo == ("vmil", "sqil_drq", "vmil_plus", "dac_drq", "bc")
    assert dict(block.variants) == {"base": {}}


def test_figure_4_varies_the_number_of_demonstrations() -> None:
    asked = Request(seeds=(0,), env=("walker", "cheetah"))
    counts = {cell.name: cell.config.demos.count for cell in expand("figure4", asked)}
    assert counts == {
        f"{env}-{algo}{suffix}-s0": count
        for env in ("walker", "cheetah")
        for algo in ("vmil", "vmil_plus")
        for suffix, count in (("-demos1", 1), ("-demos2", 2), ("-demos5", 5), ("", None))
    } | {f"{env}-vmil_few-demos{count}-s0": count for env in ("walker", "cheetah") for count in (1, 2)}


def test_the_ablations_change_one_part_at_a_time() -> None:
    """Every variant differs from its base in one option, and each option takes each of its values once."""
    made = expand("ablations", Request(seeds=(0,), algo=("vmil_plus",)))
    base = next(cell for cell in made if cell.variant == "base")
    annealed = next(cell for cell in made if cell.variant == "noise-annealed").config.discriminator
    assert annealed.noise_anneal_frames == 0  # over any budget
    values: dict[str, list[object]] = {}
    wanted = {"discriminator.next_state", "discriminator.noise", "discriminator.penalty", "discriminator.reward"}
    for cell in made:
        changed = {
            key: value for key, value in grid.essence(cell.config).items() if value != grid.essence(base.config)[key]
        }
        options = set(changed) & {*wanted, "behaviour.bootstrap", "behaviour.dream_starts"}
        assert len(options) == (cell is not base), cell.variant
        for option in options:
            values.setdefault(option, []).append(changed[option])
    assert {key: sorted(map(str, found)) for key, found in values.items()} == {
        "discriminator.next_state": ["False"],
        "discriminator.noise": ["annealed", "constant"],
        "discriminator.penalty": ["none", "weights"],
        "discriminator.reward": ["log_d", "neg_log_one_minus_d", "probability"],
        "behaviour.bootstrap": ["none"],
        "behaviour.dream_starts": ["0"],
    }


def test_the_dot_has_every_algorithm_and_the_same_ablations() -> None:
    plain, counts, ablated = read_grid("dot")
    assert set(plain.algo) == {"vmil", "vmil_plus", "sqil_drq", "dac_drq", "bc"}
    assert [variant["demos.count"] for variant in counts.variants.values()] == [1, 2, 5]
    [walker] = read_grid("ablations")
    assert dict(ablated.variants) == dict(walker.variants)
    made = {json.dumps(grid.essence(cell.config), default=str) for cell in expand("dot", Request(seeds=(0,)))}
    assert len(made) == len(expand("dot", Request(seeds=(0,)))) == 31


# ---- what is on disk ------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "runs", "figure3", uri="sqlite:///x.db", parent="abc")


@pytest.fixture
def cell() -> grid.Cell:
    settings = ("env=walker", "algo=vmil", "seed=0", "run.variant=base", "training.frames=20000")
    return grid.Cell("walker", "vmil", "base", 0, settings, load_config(settings))


def begin(cell: grid.Cell, place: Place, *changes: str, status: str = "", checkpoint: bool = False) -> Path:
    run_dir = place.run_dir(cell)
    run_dir.mkdir(parents=True)
    save_config(load_config([*cell.settings, *changes]), run_dir / "config.yaml")
    if status:
        update_record(run_dir, status=status)
    if checkpoint:
        last_checkpoint(run_dir).parent.mkdir()
        last_checkpoint(run_dir).touch()
    return run_dir


def reach(run_dir: Path, frames: int, name: str = "model/loss") -> None:
    """Has the run report something after so many frames."""
    (run_dir / "metrics.csv").write_text(f"frames,seconds,name,value\n{frames},9,{name},1\n")


def test_a_fresh_cell_is_trained_with_its_settings(cell: grid.Cell, place: Place) -> None:
    assert standing(cell, place) == "fresh"
    assert command(cell, place, threads=2)[1:] == [
        *("-m", "vmil", "train", *cell.settings, f"run.root={place.root}", "run.name=walker-vmil-s0"),
        *("tracking.experiment=figure3", "compute.threads=2", "tracking.uri=sqlite:///x.db", "tracking.parent=abc"),
    ]
    load_config(command(cell, place, threads=2)[4:])  # `train` accepts all of it


@pytest.mark.parametrize("status", ["RUNNING", "KILLED", "FAILED"])
def test_a_stopped_cell_is_resumed_from_its_checkpoint(cell: grid.Cell, place: Place, status: str) -> None:
    run_dir = begin(cell, place, status=status, checkpoint=True)
    assert standing(cell, place) == "begun"
    start = command(cell, place, threads=0)[3:6]
    assert start == ["resume", f"run={run_dir}", "training.frames=20000"]


def test_a_cell_that_began_on_a_gpu_goes_on_with_what_there_is(cell: grid.Cell, place: Place) -> None:
    begin(cell, place, "compute=gpu", "compute.graphs=always", checkpoint=True)
    assert cell.config.compute.device == "cpu"
    resumed = command(cell, place, threads=1)
    assert {"compute.device=cpu", f"compute.graphs={cell.config.compute.graphs}"} <= set(resumed)
    assert load_saved_config(place.run_dir(cell) / "config.yaml", resumed[5:-3]).compute.device == "cpu"


def test_a_cell_whose_root_was_moved_is_tracked_beside_its_run(cell: grid.Cell, place: Place) -> None:
    run_dir = begin(cell, place, "tracking.uri=sqlite:////old/mlflow.db", checkpoint=True)
    resumed = command(cell, replace(place, uri=None), threads=1)
    overrides = [item for item in resumed[5:] if not item.startswith("run=")]
    assert load_saved_config(run_dir / "config.yaml", overrides).tracking.uri is None


@pytest.mark.parametrize("status", ["FINISHED", "KILLED"])
def test_a_cell_whose_demonstrations_were_recorded_anew_is_not_the_same_run(
    cell: grid.Cell, place: Place, tmp_path: Path, status: str
) -> None:
    (tmp_path / "demos").mkdir()
    demo = tmp_path / "demos" / "demo_00.npz"
    demo.write_bytes(b"first")
    settings = (*cell.settings, f"demos.path={demo.parent}")
    taught = replace(cell, settings=settings, config=load_config(settings))
    run_dir = begin(taught, place, status=status, checkpoint=True)
    reach(run_dir, 20_000)
    digest = hashlib.sha256(hashlib.sha256(b"first").hexdigest().encode()).hexdigest()
    update_record(run_dir, tags={"demos": digest})
    expected = "done" if status == "FINISHED" else "begun"
    assert standing(taught, place) == expected
    demo.write_bytes(b"second")
    with pytest.raises(UserError, match=rf"was made with other demonstrations than are in '{demo.parent}': move it"):
        standing(taught, place)
    demo.unlink()
    assert standing(taught, place) == expected  # nobody can tell


def test_a_stopped_cell_takes_what_is_asked_of_the_machine_now(cell: grid.Cell, place: Place) -> None:
    begin(cell, place, "compute=gpu", checkpoint=True)
    asked = ("compute=cpu", "compute.threads=2", "tracking.kind=csv")
    now = replace(cell, settings=(*cell.settings, *asked), config=load_config([*cell.settings, *asked]))
    assert {"compute.device=cpu", *asked[1:]} <= set(command(now, place, threads=1))


def test_a_cell_that_never_came_to_a_checkpoint_starts_again(cell: grid.Cell, place: Place) -> None:
    begin(cell, place, status="FAILED")
    assert standing(cell, place) == "fresh"


def test_a_finished_cell_is_done_until_the_budget_is_raised(cell: grid.Cell, place: Place) -> None:
    run_dir = begin(cell, place, "training.frames=10000", status="FINISHED", checkpoint=True)
    reach(run_dir, 10_000)
    assert standing(cell, place) == "begun"
    reach(run_dir, 20_000)
    save_config(load_config([*cell.settings, "compute.threads=7"]), run_dir / "config.yaml")
    assert standing(cell, place) == "done"  # with more threads it is the same run


def test_a_cell_that_came_to_a_lower_budget_only_is_not_done_whatever_its_files_claim(
    cell: grid.Cell, place: Place
) -> None:
    run_dir = begin(cell, place, status="FINISHED", checkpoint=True)
    reach(run_dir, 10_000)
    assert standing(cell, place) == "begun"
    lower = replace(cell, config=load_config([*cell.settings, "training.frames=10000"]))
    assert standing(lower, place) == "done"


@pytest.mark.parametrize("budget", [10_000, 40_000])
def test_noise_that_fades_with_the_budget_makes_another_budget_another_run(
    cell: grid.Cell, place: Place, budget: int
) -> None:
    noise = ("discriminator.noise=annealed", "discriminator.noise_anneal_frames=0")
    fading = replace(cell, settings=(*cell.settings, *noise), config=load_config([*cell.settings, *noise]))
    begin(fading, place, f"training.frames={budget}", status="FINISHED", checkpoint=True)
    with pytest.raises(UserError, match=rf"was made with training\.frames={budget}, not 20000"):
        standing(fading, place)


@pytest.mark.parametrize(
    ("own_budget", "scored", "expected"),
    [
        (60_000, 19_000, "begun"),
        (60_000, 20_000, "done"),
        (20_000, 21_000, "begun"),  # its own end: it may not have come to its last checkpoint
    ],
)
def test_a_longer_run_that_was_stopped_after_its_score_at_the_budget_is_done(
    cell: grid.Cell, place: Place, own_budget: int, scored: int, expected: str
) -> None:
    run_dir = begin(cell, place, f"training.frames={own_budget}", status="KILLED", checkpoint=True)
    reach(run_dir, scored, "eval/return")
    with (run_dir / "metrics.csv").open("a") as file:
        file.write("22000,9,model/loss,1\n")
    assert standing(cell, place) == expected


def test_threads_that_a_person_chose_stay(cell: grid.Cell, place: Place) -> None:
    chosen = replace(cell, settings=(*cell.settings, "compute.threads=1"))
    assert [item for item in command(chosen, place, threads=2) if item.startswith("compute.threads")] == [
        "compute.threads=1"
    ]


def test_a_run_of_other_settings_is_not_taken_for_the_cell(cell: grid.Cell, place: Place) -> None:
    begin(cell, place, "training.frames_per_epoch=2000", status="FINISHED")
    with pytest.raises(UserError, match=r"made with training.frames_per_epoch=2000, not 1000: move it away"):
        standing(cell, place)


def test_what_its_learner_does_not_read_makes_no_other_run(cell: grid.Cell, place: Place) -> None:
    config = load_config([*cell.settings])
    other = replace(config, dac=replace(config.dac, penalty_scale=2 * config.dac.penalty_scale))
    save_config(other, begin(cell, place, checkpoint=True) / "config.yaml")
    assert standing(cell, place) == "begun"


def test_the_last_line_survives_bars_and_half_characters(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert cells.last_line(log) == ""
    log.write_bytes(b"x" * 5000 + "ö".encode() * 3000 + b"\n 10%|\r 20%| evaluation 634 \n\n")
    assert cells.last_line(log) == "20%| evaluation 634"
