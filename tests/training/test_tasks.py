"""A complete tiny training run of each task with a score of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from curves import read_curve

from vmil import cli
from vmil.config.schema import EnvConfig
from vmil.config.schema_planner import PlannerConfig
from vmil.experts.actor import make_actor_net, save_actor
from vmil.experts.card import Recipe
from vmil.experts.hand_planners import PlannedExpert, SimulatorPlanner
from vmil.experts.kinds import task_config
from vmil.experts.record import record_demos
from vmil.experts.state_task import describe_task

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
    assert "success 0.0 % (95 % interval 0 to 79 %) over 1 episode, success_at_end 0, return" in capsys.readouterr().out


def test_cheetah_trains_on_the_shipped_demonstrations(tmp_path: Path) -> None:
    _train_and_evaluate("cheetah", tmp_path, [])


def test_a_task_of_the_suite_is_recorded_trained_and_judged(tmp_path: Path) -> None:
    name = "dmc:cartpole-swingup"
    spec = describe_task("cartpole", "swingup", hidden=8, action_repeat=task_config(name).action_repeat)
    save_actor(tmp_path / "actor.safetensors", make_actor_net(spec), spec)
    expert = [f"actor={tmp_path}/actor.safetensors", "count=2", "seed=0"]
    assert cli.main(["demos", f"env={name}", *expert, f"out={tmp_path}/made"]) == 0
    assert f"actor={tmp_path}/actor.safetensors" in (tmp_path / "made" / "CARD.md").read_text()
    _train_and_evaluate(name, tmp_path, [f"demos.path={tmp_path}/made/demos"])


def _train_and_evaluate(env: str, root: Path, demos: list[str]) -> None:
    where = [f"run.root={root}", f"demos.cache_dir={root}/cache", "run.name=tiny", "tracking.kind=csv"]
    short = ["env.episode_frames=20", "training.frames_per_epoch=20", "training.frames=40"]
    assert cli.main(["train", f"env={env}", "compute=debug", *demos, *short, *where]) == 0
    run = root / "tiny"
    returns = [value for name in ("eval/return", "collect/return") for _, value in read_curve(run, name)]
    assert len(returns) >= 2
    assert all(0.0 <= value <= 20.0 for value in returns)  # a frame pays one at most
    assert list((run / "videos").glob("*.mp4"))
    assert cli.main(["evaluate", "run=tiny", f"root={root}", "episodes=1"]) == 0


class LenientExpert(PlannedExpert):
    """Calls every episode a success, so that a short piece of planning can be recorded."""

    def scores(self) -> dict[str, float]:
        return {**super().scores(), "success": 1.0}


def test_baoding_is_planned_recorded_trained_and_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env = EnvConfig(**{**vars(task_config("baoding")), "episode_frames": 20})
    settings = PlannerConfig(horizon=2, samples=3, timestep=0.01, threads=1)
    expert = LenientExpert(env, SimulatorPlanner(settings), tmp_path / "expert.json", give_up=False)
    record_demos(expert, env, tmp_path / "made", Recipe(2, seed=0))
    expert.close()
    assert (tmp_path / "made" / "contact_sheet.png").is_file()
    card = (tmp_path / "made" / "CARD.md").read_text()
    assert "MPPI" in card
    assert "The stored state holds the solver's warm start" in card

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
    assert "success 0.0 % (95 % interval 0 to 79 %) over 1 episode, on_target" in printed
