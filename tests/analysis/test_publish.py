"""From a run directory to what is committed of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vmil.analysis.latents import LatentPoint, across_sources, project, read_latents, write_latents
from vmil.analysis.publish import make_command, publish_run, thin
from vmil.analysis.results import read_published
from vmil.config.load import load_config, save_config
from vmil.config.schema_cli import PublishOptions
from vmil.errors import UserError
from vmil.tracking.curves import Point
from vmil.tracking.record import update_record
from vmil.tracking.tracker import CsvTracker


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    run = tmp_path / "runs" / "walker-vmil-20260101"
    run.mkdir(parents=True)
    save_config(
        load_config(["env=walker", "algo=vmil", "seed=3", "demos.count=5", "run.variant=demos5"]), run / "config.yaml"
    )
    tracker = CsvTracker(run)
    tracker.tags({"commit": "0123abc", "env": "walker", "algo": "vmil"})
    tracker.load_state_dict({"seconds": 7200.0})
    tracker.metrics({"eval/return": 95.0, "eval/normalised": 0.1, "time/act": 3.0}, 1000)
    tracker.finish("FINISHED")
    update_record(run, seconds=7200.0)
    (run / "pictures").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for name in ("model_open_loop_000001000", "model_open_loop_000002000"):
        Image.fromarray(noise).save(run / "pictures" / f"{name}.png")
    for frames in range(1, 6):
        Image.fromarray(noise).save(run / "pictures" / f"reward_histogram_{frames:09d}.png")
    return run


def test_a_published_run_says_what_it_is_and_how_it_was_made(run_dir: Path, tmp_path: Path) -> None:
    options = PublishOptions(out=str(tmp_path / "results"), machine="a machine", note="a note", latents=False)
    published = publish_run(run_dir, options)
    assert published == tmp_path / "results" / "walker-vmil-demos5-s3"
    [run] = read_published(tmp_path / "results")
    card = run.card
    assert (card.env, card.algo, card.variant, card.seed, card.demos) == ("walker", "vmil", "demos5", 3, 5)
    assert (card.frames, card.hours, card.status, card.commit) == (1000, 2.0, "FINISHED", "0123abc")
    assert (card.expert_return, card.machine, card.note) == (950.0, "a machine", "a note")
    assert card.command == 'make train ENV=walker ALGO=vmil SEED=3 ARGS="demos.count=5"'
    assert {point.name for point in run.points} == {"eval/return", "eval/normalised"}  # what no figure reads stays
    assert sorted(path.name for path in published.iterdir()) == [
        *("metrics.csv", "open_loop.png", "reward_histogram_000000001.png"),
        *("reward_histogram_000000003.png", "reward_histogram_000000005.png", "run.yaml"),
    ]


def test_what_learnt_from_the_true_reward_is_not_the_preset(run_dir: Path, tmp_path: Path) -> None:
    settings = ["env=walker", "algo=sqil_drq", "debug.use_ground_truth_reward=true"]
    save_config(load_config(settings), run_dir / "config.yaml")
    out = str(tmp_path / "results")
    publish_run(run_dir, PublishOptions(out=out, latents=False))
    publish_run(run_dir, PublishOptions(out=out, latents=False, variant="drq"))
    assert [run.card.variant for run in read_published(tmp_path / "results")] == ["drq", "true-reward"]


def test_a_run_with_other_settings_does_not_pass_for_the_preset(run_dir: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "results")
    save_config(load_config(["env=walker", "demos.count=1", "training.frames=9000"]), run_dir / "config.yaml")
    with pytest.raises(UserError, match=r"not its preset \(demos.count=1\): variant=<a word> says what"):
        publish_run(run_dir, PublishOptions(out=out, latents=False))
    for variant in ("one-demo", "base"):  # its maker knows
        publish_run(run_dir, PublishOptions(out=out, latents=False, variant=variant))
    assert [run.card.variant for run in read_published(tmp_path / "results")] == ["one-demo", "base"]
    save_config(load_config(["env=walker", "training.frames=9000", "compute.threads=1"]), run_dir / "config.yaml")
    publish_run(run_dir, PublishOptions(out=out, latents=False, name="longer"))  # a longer one is the preset's still


def test_publishing_again_replaces_and_a_run_without_checkpoint_has_no_latents(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> list[LatentPoint]:
        raise UserError("there is no checkpoint")

    monkeypatch.setattr("vmil.analysis.publish.latent_points", refuse)
    out = tmp_path / "results"
    (out / "mine").mkdir(parents=True)
    (out / "mine" / "latents.csv").touch()
    publish_run(run_dir, PublishOptions(out=str(out), name="mine"))
    assert "no latent states: there is no checkpoint" in capsys.readouterr().out
    assert not (out / "mine" / "latents.csv").exists()
    assert [path.name for path in out.iterdir()] == ["mine"]


def test_a_run_without_a_model_is_not_asked_for_its_states(run_dir: Path, tmp_path: Path, capsys) -> None:
    save_config(load_config(["env=walker", "algo=bc"]), run_dir / "config.yaml")
    publish_run(run_dir, PublishOptions(out=str(tmp_path / "results")))
    assert capsys.readouterr().out == ""


def test_a_run_without_numbers_is_refused(run_dir: Path) -> None:
    (run_dir / "metrics.csv").unlink()
    with pytest.raises(UserError, match="has no numbers to publish"):
        publish_run(run_dir, PublishOptions())


def test_the_command_names_every_setting_that_the_presets_do_not() -> None:
    config = load_config(["env=walker", "algo=vmil_plus", "discriminator.lr=2e-5", "training.eval_at_start=true"])
    assert make_command(config) == (
        'make train ENV=walker ALGO=vmil_plus SEED=0 ARGS="discriminator.lr=2e-05 training.eval_at_start=true"'
    )
    assert load_config(["env=walker", *make_command(config).split('"')[1].split()]) == config
    assert (
        make_command(load_config(["compute.threads=3", "run.name=x"])) == "make train ENV=walker ALGO=vmil_plus SEED=0"
    )
    # where somebody's demonstrations lie is nobody else's business
    assert "demos.path=mine" in make_command(load_config(["demos.path=/home/somebody/mine"]))


def test_the_command_leaves_out_what_its_learner_does_not_read() -> None:
    """Such a setting may have had another default when the run was made, and `train` would refuse it."""
    config = load_config(["env=walker", "algo=vmil_plus"])
    assert make_command(replace(config, dac=replace(config.dac, lr=0.5))) == make_command(config)


def test_thinning_keeps_both_ends_and_every_evaluation() -> None:
    points = [
        Point(at, float(at), name, 0.0) for at in range(1000) for name in ("eval/return", "disc/accuracy", "time/act")
    ]
    kept = thin(points, readings=5)
    assert [point.frames for point in kept if point.name == "disc/accuracy"] == [0, 250, 500, 749, 999]
    assert len([point for point in kept if point.name == "eval/return"]) == 1000
    assert not [point for point in kept if point.name == "time/act"]


# ---- latent states --------------------------------------------------------------------------------------------


def test_the_projection_finds_the_plane_and_its_orientation() -> None:
    generator = np.random.default_rng(0)
    plane = np.stack([10 * generator.exponential(size=200), generator.exponential(size=200)], 1)
    directions = np.linalg.qr(generator.normal(size=(7, 7)))[0][:2]
    found = project((plane @ directions).astype(np.float32))
    assert found == pytest.approx(plane - plane.mean(0), abs=1.0)
    assert abs(np.corrcoef(found[:, 0], plane[:, 0])[0, 1]) > 0.999
    assert (found**3).sum(0).min() > 0  # the longer tail points up, on every machine


def test_the_share_of_neighbours_of_the_other_kind() -> None:
    """On a line: the nearest of the first two are each other, of the third the second, of the fourth the third."""
    places = ((0.0, "expert"), (1.0, "agent"), (3.0, "agent"), (7.0, "expert"))
    points = [LatentPoint(source, x, 0.0, 0.0) for x, source in places]
    assert across_sources(points) == 0.75
    assert across_sources([points[0], points[0], points[2], points[2]]) == 0


def test_latent_states_survive_their_file(tmp_path: Path) -> None:
    points = [LatentPoint("expert", 1.5, -2.0, 0.25), LatentPoint("agent", 3.0, 4.0, -1.0)]
    write_latents(points, tmp_path / "latents.csv")
    assert read_latents(tmp_path / "latents.csv") == points
    (tmp_path / "latents.csv").write_text("source,x\nexpert,far\n")
    with pytest.raises(UserError, match="does not hold latent states"):
        read_latents(tmp_path / "latents.csv")


def test_a_run_s_own_directory_is_never_replaced(run_dir: Path) -> None:
    kept = run_dir.rename(run_dir.with_name("walker-vmil-demos5-s3"))  # as an experiment calls it
    for name in (None, "..", "."):
        with pytest.raises(UserError, match=r"no published run's|not a directory name"):
            publish_run(kept, PublishOptions(out=str(kept.parent), name=name, latents=False))
    assert (kept / "config.yaml").is_file()
