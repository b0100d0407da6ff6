"""Runs back from committed files and from MLflow; what is damaged is said in one sentence."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from vmil.analysis.insight import reward_histograms
from vmil.analysis.open_loop import open_loop_picture
from vmil.analysis.preset import command_by, fewer_demos, reward_map, variant_by
from vmil.analysis.references import read_references
from vmil.analysis.results import Card, checkout_dir, load_results, longest, read_card, read_published, write_card
from vmil.analysis.stored import implied_expert_return, read_mlflow, timed
from vmil.config import sources
from vmil.config.keys import flatten
from vmil.config.load import load_config
from vmil.config.schema import TrackingConfig
from vmil.errors import UserError
from vmil.tracking.curves import Point
from vmil.tracking.tracker import make_tracker

CARD = Card(
    "walker", "vmil", "base", 3, 10, 2000, 0.5, "FINISHED", 950.0, "make train", "0123abc", "a machine", "a note"
)
METRICS = "frames,seconds,name,value\n1000,360,eval/return,20\n2000,1800,eval/return,40\n2000,1800,model/kl,3\n"


def publish(directory: Path, name: str, card: Card = CARD, metrics: str = METRICS) -> Path:
    (directory / name).mkdir(parents=True)
    write_card(card, directory / name / "run.yaml")
    (directory / name / "metrics.csv").write_text(metrics)
    return directory / name


def test_a_published_run_comes_back_with_its_curves(tmp_path: Path) -> None:
    directory = publish(tmp_path, "mine")
    [run] = read_published(tmp_path)
    assert (run.name, run.card, run.directory) == ("mine", CARD, directory)
    curve = run.curve("eval/return")
    assert curve is not None
    assert [list(column) for column in curve] == [[1000, 2000], [0.1, 0.5], [20, 40]]
    assert run.curve("disc/accuracy") is None
    assert run.score == "eval/return"


def test_what_a_killed_publish_left_is_no_run(tmp_path: Path) -> None:
    publish(tmp_path, ".old.part", replace(CARD, frames=9000))
    publish(tmp_path, "new")
    assert [run.name for run in read_published(tmp_path)] == ["new"]


def test_of_two_runs_of_one_seed_the_longer_counts(tmp_path: Path) -> None:
    publish(tmp_path, "a", replace(CARD, frames=1000))
    publish(tmp_path, "b", CARD)
    publish(tmp_path, "c", replace(CARD, frames=500))
    publish(tmp_path, "d", replace(CARD, seed=4))
    assert [run.name for run in longest(read_published(tmp_path))] == ["b", "d"]
    assert [run.name for run in load_results(str(tmp_path)).select("walker", "vmil", "base")] == ["b", "d"]
    assert load_results(str(tmp_path)).select("cheetah") == []


def test_runs_may_lie_in_a_directory_of_their_own(tmp_path: Path) -> None:
    publish(tmp_path / "grid", "a")
    publish(tmp_path, "b", replace(CARD, seed=4))
    runs = read_published(tmp_path)
    assert [(run.name, run.directory) for run in runs] == [("b", tmp_path / "b"), ("a", tmp_path / "grid" / "a")]


def test_files_beside_a_run_count_though_a_longer_one_stands_for_its_seed(tmp_path: Path) -> None:
    publish(tmp_path, "long", replace(CARD, frames=9000))
    (publish(tmp_path, "short") / "open_loop.png").touch()
    (publish(tmp_path, "shorter", replace(CARD, frames=100)) / "open_loop.png").touch()
    (publish(tmp_path, "changed", replace(CARD, frames=10_000, variant="changed")) / "open_loop.png").touch()
    results = load_results(str(tmp_path))
    found = results.longest_with("open_loop*", "walker", "vmil")
    assert found is not None
    assert (found[0].name, found[1]) == ("short", [tmp_path / "short" / "open_loop.png"])
    assert results.longest_with("latents.csv", "walker") is None


def test_of_two_equally_long_runs_pictures_are_those_of_the_one_that_is_drawn(tmp_path: Path) -> None:
    for name in ("new-demonstrations", "old-demonstrations"):
        (publish(tmp_path, name) / "open_loop.png").touch()
    results = load_results(str(tmp_path))
    [drawn] = results.select("walker")
    found = results.longest_with("open_loop*", "walker")
    assert found is not None
    assert found[0].name == drawn.name


def test_a_card_of_aliases_is_refused_before_it_is_printed(tmp_path: Path) -> None:
    levels = "".join(f"{name}: &{name} [{', '.join(10 * ['*' + before])}]\n" for before, name in pairwise("abcdefghij"))
    path = publish(tmp_path, "mine") / "run.yaml"
    path.write_text(f"a: &a [x]\n{levels}env: *j\n")
    with pytest.raises(UserError, match="aliases are not allowed"):
        load_results(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seed": "three"}, "seed=three is not of its type"),
        ({"frames": True}, "frames=True is not of its type"),
        ({"colour": "red"}, "missing or unknown fields: colour"),
        ({"commit": None}, "commit=None is not of its type"),
    ],
)
def test_a_damaged_card_is_named(tmp_path: Path, change: dict[str, object], sentence: str) -> None:
    path = publish(tmp_path, "mine") / "run.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | change))
    with pytest.raises(UserError) as error:
        read_card(path)
    assert sentence in str(error.value)


def test_nothing_in_a_card_is_executed_and_its_size_is_bounded(tmp_path: Path) -> None:
    path = publish(tmp_path, "mine") / "run.yaml"
    path.write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(UserError, match="cannot be read"):
        read_card(path)
    path.write_text("a: " + "x" * 300_000)
    with pytest.raises(UserError, match="larger than 256 KiB"):
        read_card(path)


def test_a_run_without_numbers_and_a_place_without_results_are_refused(tmp_path: Path) -> None:
    (publish(tmp_path, "mine") / "metrics.csv").unlink()
    with pytest.raises(UserError, match=r"metrics.csv is missing"):
        read_published(tmp_path)
    with pytest.raises(UserError, match="is not a directory of results"):
        load_results(str(tmp_path / "none"))


def test_the_source_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path, "mine")
    monkeypatch.setenv("VMIL_RESULTS", str(tmp_path))
    assert [run.name for run in load_results().runs] == ["mine"]


# ---- MLflow ---------------------------------------------------------------------------------------------------


def test_mlflow_gives_the_same_curves_as_the_run_s_own_file(tmp_path: Path) -> None:
    changed = ["debug.use_ground_truth_reward=true", "discriminator.reward=probability"]
    config = load_config(["env=walker", "algo=vmil", "seed=5", *changed])
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    tracker = make_tracker(TrackingConfig(uri=uri), tmp_path / "runs" / "one")
    tracker.params(flatten(config))
    tracker.tags({"env": "walker", "algo": "vmil", "commit": "0123abc", "demonstrations": "10"})
    for frames, value in ((1000, 10.0), (2000, 30.0)):
        tracker.metrics({"run/seconds": 3.6 * frames, "time/act": 1.0, "model/kl": 2.0}, frames)
        tracker.metrics({"eval/return": value, "eval/normalised": value / 900}, frames)
    tracker.finish("FINISHED")
    toy = make_tracker(TrackingConfig(uri=uri, experiment="debug"), tmp_path / "runs" / "smoke")
    toy.params(flatten(load_config(["compute=debug"])))
    toy.tags({"env": "walker", "algo": "vmil"})
    toy.metrics({"run/seconds": 60.0, "eval/return": 1.0}, 1000)
    toy.finish("FINISHED")
    [run] = load_results(uri).runs  # what `make smoke` leaves behind is no result
    assert (run.card.env, run.card.algo, run.card.variant, run.card.seed, run.card.demos) == (
        *("walker", "vmil", "true-reward", 5, 10),
    )
    assert (run.card.frames, run.card.hours, run.card.status, run.card.commit) == (2000, 2.0, "FINISHED", "0123abc")
    assert run.card.expert_return == pytest.approx(900)
    assert run.card.command == f'make train ENV=walker ALGO=vmil SEED=5 ARGS="{changed[1]} {changed[0]}"'
    assert reward_map(run.card) == "probability"
    curve = run.curve("eval/return")
    assert curve is not None
    assert [list(column) for column in curve] == [[1000, 2000], [1.0, 2.0], [10.0, 30.0]]
    assert run.curve("time/act") is None  # of single stages nothing is drawn
    with pytest.raises(UserError, match="no run is tracked"):
        read_mlflow(f"sqlite:///{tmp_path}/other.db")


@pytest.mark.parametrize(
    ("params", "variant"),
    [
        ({}, "base"),
        ({"training.frames": "9", "compute.threads": "1", "seed": "4", "collector.workers": "2"}, "base"),
        ({"behaviour.cloning": "0.0"}, "behaviour.cloning=0.0"),
        ({"collector.overlap": "True"}, "collector.overlap=True"),
        ({"demos.path": "/home/ada/mine"}, "demos.path=mine"),
        ({"behaviour.cloning": "0.0", "run.variant": "no-cloning"}, "no-cloning"),
        ({"debug.use_ground_truth_reward": "True"}, "true-reward"),
    ],
)
def test_a_tracked_run_is_its_preset_if_its_settings_are(params: dict[str, str], variant: str) -> None:
    usual = {key: str(value) for key, value in flatten(load_config(["env=walker"])).items()}
    assert variant_by(usual | params, "walker", "vmil_plus") == variant
    assert variant_by(params, "walker", "no_such_algorithm") in (variant, "unknown")


def test_runs_that_were_changed_otherwise_are_no_seeds_of_one_variant() -> None:
    usual = {key: str(value) for key, value in flatten(load_config(["env=walker"])).items()}
    many = dict.fromkeys(("behaviour.horizon", "world_model.deter", "world_model.stoch", "discriminator.units"), "9")
    one, other = (variant_by(usual | many | {"behaviour.lam": lam}, "walker", "vmil_plus") for lam in ("0.5", "0.6"))
    assert one != other
    assert one[:40] == other[:40]
    assert max(len(one), len(other)) <= 60


@pytest.mark.parametrize(
    ("variant", "fewer"),
    [("demos2", True), ("demos.count=5", True), ("demos.count=5, behaviour.lam=0.5", False), ("demos.path=m", False)],
)
def test_the_preset_with_fewer_demonstrations_is_told_from_what_was_changed_besides(variant: str, fewer: bool) -> None:
    assert fewer_demos(variant) is fewer


def test_a_task_without_demonstrations_of_its_own_is_its_preset_with_some() -> None:
    env = "dmc:cartpole-swingup"
    usual = {key: str(value) for key, value in flatten(load_config([f"env={env}"])).items()}
    assert variant_by(usual | {"demos.path": "mine"}, env, "vmil_plus") == "base"


def stored_run(root: Path, frames: list[int]) -> str:
    """A run in MLflow, with a picture and a histogram at each moment; gives the store's address."""
    uri = f"sqlite:///{root}/mlflow.db"
    tracker = make_tracker(TrackingConfig(uri=uri), root / "runs" / "one")
    tracker.tags({"env": "walker", "algo": "vmil"})
    tracker.metrics({"run/seconds": 60.0}, frames[-1])
    for at in frames:
        tracker.image("model/open_loop", np.full((8, 8, 3), at // 1000, np.uint8), at)
        tracker.histogram("reward/histogram", np.arange(float(at)), at)
    tracker.finish("FINISHED")
    return uri


def test_mlflow_gives_the_pictures_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    uri = stored_run(tmp_path, [1000, 2000, 3000, 10000])
    results = load_results(uri)
    panel = open_loop_picture(results, "walker")
    assert panel is not None
    assert np.asarray(Image.open(panel).convert("RGB")).max() == 10  # the last one
    names = [path.stem for path in reward_histograms(results, "walker")]
    assert names == [f"reward_histogram_{frames:09d}" for frames in (1000, 3000, 10000)]
    shutil.rmtree(tmp_path / "runs" / "mlartifacts")
    assert open_loop_picture(load_results(uri), "walker") is None  # whose curves are there all the same


def test_wall_clock_between_rounds_is_interpolated() -> None:
    points = timed({"run/seconds": [(0, 100.0), (1000, 300.0)], "eval/return": [(500, 7.0)]})
    assert Point(500, 200.0, "eval/return", 7.0) in points
    assert timed({"eval/return": [(500, 7.0)]}) == ()


def test_the_expert_s_return_is_what_normalised_the_score() -> None:
    points = (Point(1, 1, "eval/return", 50.0), Point(1, 1, "eval/normalised", 0.05), Point(2, 2, "eval/return", 9.0))
    assert implied_expert_return(points) == 1000.0
    assert implied_expert_return(points[2:]) is None


# ---- what is committed ----------------------------------------------------------------------------------------


def test_every_committed_run_can_be_read_and_is_small() -> None:
    directory = checkout_dir() / "notebooks" / "results"
    runs = read_published(directory)
    assert runs
    for run in runs:
        assert run.card.commit != "unknown"
        assert run.card.command.startswith("make ")
        assert any(run.curve(name) is not None for name in (run.score, "collect/return"))  # or stopped before one
        assert run.directory is not None
        assert sum(path.stat().st_size for path in run.directory.iterdir()) < 500_000


def test_the_published_curves_are_all_read() -> None:
    references = read_references(checkout_dir() / "notebooks" / "results" / "published_curves.csv")
    assert sum(max(1, len(reference.frames)) for reference in references) == 220
    dreamer = next(r for r in references if (r.method, r.env) == ("Dreamer V1", "walker"))
    assert (dreamer.frames[1], dreamer.mean[1], dreamer.imitates) == (100_000, 137.2, False)
    assert {r.env for r in references} == {"walker", "cheetah", "sawyer", "baoding"}
    assert all(list(r.frames) == sorted(r.frames) for r in references)
    assert np.isfinite([value for r in references for value in r.mean]).all()


def test_a_reference_without_a_number_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    path.write_text("method,task,frames,mean,std,seeds,inputs,reward,demos,source\nX,walker,10,high,,,,,,\n")
    with pytest.raises(UserError, match="a row of X on walker holds no numbers"):
        read_references(path)


def test_where_a_preset_has_no_run_the_variant_that_came_furthest_stands_for_it(tmp_path: Path) -> None:
    """But never one that learnt from the environment's reward."""
    publish(tmp_path, "changed", replace(CARD, frames=9000, variant="changed"))
    publish(tmp_path, "changed1", replace(CARD, frames=100, variant="changed", seed=1))
    publish(tmp_path, "other", replace(CARD, frames=5000, variant="other"))
    publish(tmp_path, "true", replace(CARD, frames=90_000, variant="true-reward"))
    (tmp_path / "changed1" / "open_loop.png").touch()
    results = load_results(str(tmp_path))
    assert [run.name for run in results.standing("walker", "vmil")] == ["changed", "changed1"]
    found = results.longest_with("open_loop*", "walker")
    assert found is not None
    assert found[0].name == "changed1"
    assert results.standing("walker", "bc") == []
    publish(tmp_path, "preset", replace(CARD, frames=10))
    results = load_results(str(tmp_path))
    assert [run.name for run in results.standing("walker", "vmil")] == ["preset"]
    assert results.longest_with("open_loop*", "walker") is None


def test_a_run_of_a_task_too_short_for_the_bare_preset_has_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ship` and `publish` refused such a run: they checked its preset as if that were to be trained."""
    shutil.copytree(sources.conf_dir(), tmp_path / "conf")
    (tmp_path / "conf/env/counting.yaml").write_text("env: {action_repeat: 1, episode_frames: 20}\n")
    monkeypatch.setattr(sources, "conf_dir", lambda: tmp_path / "conf")
    given = ["env=counting", "training.batch_length=12", "training.episode_frames=0", "behaviour.dream_starts=24"]
    assert "training.batch_length=12" in command_by(flatten(load_config(given)), "counting", "vmil_plus")
