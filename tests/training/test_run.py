"""Whole runs, end to end: what lies in their directory, what they are seen to do, and how they are scored."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from curves import read_curve
from place import UNREAD_HERE, Place, Watch, python, sentence, truncate
from small_runs import FRAMES, LAST_UPDATE, PRETRAIN, ROUND, UPDATES

from vmil import cli
from vmil.config.keys import leaves
from vmil.config.learners import unread
from vmil.config.load import load_config, load_saved_config
from vmil.config.schema import Config
from vmil.envs.probe import probe_backend
from vmil.envs.rendering import BACKENDS
from vmil.tracking.record import read_record
from vmil.training.run import may_memorise

pytestmark = pytest.mark.filterwarnings("ignore")


# ---- a run that nothing stops --------------------------------------------------------------------------------


def test_the_run_directory_holds_everything(whole: SimpleNamespace) -> None:
    run: Path = whole.run
    assert {path.name for path in run.iterdir()} == {
        ".lock", "checkpoints", "config.yaml", "metrics.csv", "pictures", "run.json", "run.log", "videos",
    }  # fmt: skip
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"last.ckpt", "previous.ckpt", "replay"}
    assert len(list((run / "checkpoints" / "replay").iterdir())) == FRAMES // ROUND
    assert {path.name for path in (run / "pictures").iterdir()} == {
        f"{name}_{frames:09d}.png" for name in ("model_open_loop", "reward_histogram") for frames in (24, 48)
    }
    assert {path.name for path in (run / "videos").iterdir()} == {f"eval_episode_{f:09d}.mp4" for f in (24, 48)}
    record: dict[str, Any] = read_record(run)
    assert record["status"] == "FINISHED"
    assert record["seconds"] > 0
    assert re.fullmatch(r"[0-9a-f]{40}\+?|unknown", record["tags"]["commit"])
    assert (record["tags"]["env"], record["tags"]["algo"]) == ("counting", "vmil_plus")
    assert record["tags"]["demonstrations"] == "2"
    config = load_saved_config(run / "config.yaml")
    assert (config.training.frames, config.world_model.deter) == (FRAMES, 16)
    said = (run / "run.log").read_text()
    assert "48/48 frames" in said
    assert "memory: replay up to" in said
    assert "NOT IMITATION" not in said


@pytest.mark.parametrize(
    ("algo", "demonstrations", "told"),
    [("vmil_plus", 1, True), ("vmil", 1, True), ("vmil_few", 1, False), ("vmil_plus", 2, False), ("bc", 1, False)],
)
def test_who_imitates_one_demonstration_is_told_of_the_preset_for_it(
    algo: str, demonstrations: int, told: bool
) -> None:
    assert may_memorise(load_config(["env=walker", f"algo={algo}"]), demonstrations) is told


def test_every_number_of_the_paper_is_reported_every_round(whole: SimpleNamespace) -> None:
    rounds = list(range(0, FRAMES + 1, ROUND))
    for name in ("model/loss", "disc/loss", "actor/loss", "critic/loss", "reward/mean", "time/model", "rate/frames"):
        assert [frames for frames, _ in read_curve(whole.run, name)] == rounds, name
    assert [frames for frames, _ in read_curve(whole.run, "collect/return")] == rounds[1:]
    assert [frames for frames, _ in read_curve(whole.run, "eval/return")] == [24, 48]


def test_imitation_never_sees_the_environment_s_reward(whole: SimpleNamespace) -> None:
    assert whole.watch.rewarded == [False] * LAST_UPDATE


def test_every_knob_is_read_by_a_run(whole: SimpleNamespace) -> None:
    assert set(leaves(Config)) - whole.watch.read == UNREAD_HERE | unread("vmil")


def test_the_environment_s_reward_in_the_discriminator_s_place_is_said_loudly(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch()
    watch.install(monkeypatch)
    assert place.train("judge", "debug.use_ground_truth_reward=true", f"training.frames={ROUND}") == 0
    assert watch.rewarded == [True] * (PRETRAIN + UPDATES)
    assert re.search(r"WARNING NOT IMITATION: .*environment's reward", (place.root / "judge" / "run.log").read_text())
    assert len(read_curve(place.root / "judge", "model/reward")) == 2


# ---- evaluation ----------------------------------------------------------------------------------------------


def test_a_run_is_scored_and_filmed_without_any_tracking(
    stopped: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vmil.training.assembly.make_tracker", None)
    run = stopped.root / "run"
    assert cli.main(["evaluate", f"run={run}", "episodes=2"]) == 0
    film = run / "videos" / "evaluation.mp4"
    assert capsys.readouterr().out == f"run: 0.0 ± 0.0 over 2 episodes, 0.0 % of the expert\nvideo: {film}\n"
    assert film.stat().st_size > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_run_that_was_trained_on_a_gpu_is_scored_without_one(
    stopped: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    path = stopped.root / "run" / "config.yaml"
    path.write_text(path.read_text().replace("device: cpu", "device: cuda").replace("device: auto", "device: cuda"))
    assert "device: cuda" in path.read_text()
    assert cli.main(["evaluate", f"run={stopped.root}/run", "episodes=1"]) == 0
    assert capsys.readouterr().out.startswith("run: 0.0 ± 0.0 over 1 episode")


def test_without_its_demonstrations_a_run_is_still_scored(stopped: Place, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(stopped.root / "demos")
    film = stopped.root / "elsewhere" / "film.mp4"
    assert cli.main(["evaluate", f"run={stopped.root}/run", "episodes=1", f"video={film}"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "run: 0.0 ± 0.0 over 1 episode"
    assert film.stat().st_size > 0


@pytest.mark.parametrize(
    ("spoil", "settings", "complaint"),
    [
        (truncate, [], "is damaged, or not a checkpoint of vmil"),
        (Path.unlink, [], r"there is no checkpoint '.*last.ckpt' yet"),
        (
            None,
            ["video=/dev/null/films/film.mp4"],
            "the video '/dev/null/films/film.mp4' cannot be written: Not a directory",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_one_sentence(
    stopped: Place,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], object] | None,
    settings: list[str],
    complaint: str,
) -> None:
    if spoil is not None:
        spoil(stopped.root / "run" / "checkpoints" / "last.ckpt")
    assert cli.main(["evaluate", f"run={stopped.root}/run", "episodes=1", *settings]) == 2
    assert re.search(complaint, sentence(capsys))


# ---- elsewhere -----------------------------------------------------------------------------------------------

WITHOUT_MLFLOW = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "mlflow":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from vmil import cli
codes = [cli.main(["train", *sys.argv[1:], f"tracking.kind={kind}", f"run.name={kind}"]) for kind in ("none", "csv")]
assert codes == [0, 0], codes
assert not [name for name in sys.modules if name.partition(".")[0] == "mlflow"]
assert cli.main(["train", *sys.argv[1:], "tracking.kind=mlflow", "run.name=mlflow"]) == 2
"""


def test_runs_without_mlflow_installed(place: Place) -> None:
    done = python(WITHOUT_MLFLOW, *place.settings("x", f"training.frames={ROUND}"))
    assert done.returncode == 0, done.stderr
    complaint = "vmil: tracking.kind=mlflow needs mlflow: install it or take tracking.kind=csv"
    assert done.stderr.splitlines()[-1] == complaint
    assert not (place.root / "none" / "metrics.csv").exists()
    assert len(read_curve(place.root / "csv", "model/loss")) == 2
    for kind in ("none", "csv"):
        assert (place.root / kind / "checkpoints" / "last.ckpt").is_file()
    assert not (place.root / "mlflow").exists()


@pytest.fixture(scope="module")
def rendering() -> None:
    """Skips where nothing renders."""
    if not any(probe_backend(name).ok for name in BACKENDS):
        pytest.skip("no headless OpenGL here")


@pytest.mark.usefixtures("rendering")
def test_a_walker_runs_and_its_score_is_found_again(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["env=walker", "env.action_repeat=2", "env.episode_frames=24", "training.frames=24"]
    rounds = ["training.frames_per_epoch=24", "demos.path=null", "demos.count=1", "env.proprio=true"]
    assert place.train("walker", *settings, *rounds) == 0
    run = place.root / "walker"
    [(frames, score)] = read_curve(run, "eval/return")
    assert frames == 24
    assert score > 0
    capsys.readouterr()
    assert (
        cli.main(
            ["evaluate", f"run={run}", f"episodes={load_saved_config(run / 'config.yaml').training.eval_episodes}"]
        )
        == 0
    )
    assert capsys.readouterr().out.startswith(f"walker: {score:.1f} ± ")
