"""A complete tiny training run of each task with a score of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmil import cli
from vmil.config.schema import EnvConfig
from vmil.config.schema_planner import PlannerConfig
from vmil.experts.card import Recipe
from vmil.experts.kinds import task_config
from vmil.experts.plan import SimulatorPlanner
from vmil.experts.planned import PlannedExpert
from vmil.experts.record import record_demos
from vmil.tracking.curves import read_curve

pytestmark = pytest.mark.filterwarnings("ignore")


def test_sawyer_trains_and_is_judged_by_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = [f"run.root={tmp_path}", f"demos.cache_dir={tmp_path}/cache", "run.name=tiny", "tracking.kind=csv"]
    short = ["env.episode_frames=20", "training.frames_per_epoch=20", "training.frames=40"]
    assert cli.main(["train", "env=sawyer", "compute=debug", *short, *where]) == 0
    run = tmp_path / "tiny"
    for name in ("eval/success", "eval/success_at_end", "collect/success"):
        values = [value for _, value in read_curve(run, name)]
        assert values, name
        assert set(values) == {0.0}, name  # nothing is learnt in forty frames, nor inserted in twenty
    assert read_curve(run, "eval/episodes")[-1][1] == 2
    assert read_curve(run, "eval/return")
    assert list((run / "videos").glob("*.mp4"))
    capsys.readouterr()
    assert cli.main(["evaluate", "run=tiny", f"root={tmp_path}", "episodes=1"]) == 0
    assert (
        "success 0.0 % (95 % interval 0 to 79 %) over 1 episodes, success_at_end 0, return" in capsys.readouterr().out
    )


class LenientExpert(PlannedExpert):
    """Calls every episode a success, so that a short piece of planning can be recorded."""

    def scores(self) -> dict[str, float]:
        return {**super().scores(), "success": 1.0}


def test_baoding_is_planned_recorded_trained_and_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env = EnvConfig(**{**vars(task_config("baoding")), "episode_frames": 20})
    settings = PlannerConfig(horizon=2, samples=3, timestep=0.01, threads=1)
    expert = LenientExpert(env, SimulatorPlanner(settings), {}, tmp_path / "expert.json", give_up=False)
    record_demos(expert, env, tmp_path / "made", Recipe(2, seed=0), progress=False)
    expert.close()
    assert (tmp_path / "made" / "contact_sheet.png").is_file()
    assert "MPPI" in (tmp_path / "made" / "CARD.md").read_text()

    where = [f"run.root={tmp_path}", f"demos.cache_dir={tmp_path}/cache", "run.name=tiny", "tracking.kind=csv"]
    short = ["env.episode_frames=20", "training.frames_per_epoch=20", "training.frames=40"]
    demos = [f"demos.path={tmp_path}/made/demos"]
    assert cli.main(["train", "env=baoding", "compute=debug", *demos, *short, *where]) == 0
    run = tmp_path / "tiny"
    for name in ("eval/success", "collect/success"):
        values = [value for _, value in read_curve(run, name)]
        assert values, name
        assert set(values) == {0.0}, name
    assert 0.0 < read_curve(run, "eval/tracking_error")[-1][1] < 1.0  # metres
    assert 0.0 <= read_curve(run, "eval/steps_to_drop")[-1][1] <= 20.0
    assert read_curve(run, "model/proprio"), "the joint angles are reconstructed"
    capsys.readouterr()
    assert cli.main(["evaluate", "run=tiny", f"root={tmp_path}", "episodes=1"]) == 0
    printed = capsys.readouterr().out
    assert "success 0.0 % (95 % interval 0 to 79 %) over 1 episodes, on_target" in printed
