"""What `make expert` and `make demos` say, choose and refuse before anything takes long."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import vmil
from vmil import cli
from vmil.config.schema import EnvConfig
from vmil.config.schema_cli import DemosOptions, PlannedDemosOptions, PlannedExpertOptions
from vmil.errors import UserError
from vmil.experts.actor import make_actor_net, save_actor
from vmil.experts.commands import _chosen, _known_expert
from vmil.experts.hand_commands import hand_expert, prepare_planned
from vmil.experts.hand_practice import hand_spec
from vmil.experts.kinds import task_config
from vmil.system.archives import read_archive

SHIPPED = Path(vmil.__file__).parent / "assets" / "baoding" / "expert.json"
ENV = EnvConfig(**{**vars(task_config("baoding")), "episode_frames": 4})

pytestmark = pytest.mark.usefixtures("one_thread")


def _measured(directory: Path) -> Path:
    """What `make expert ENV=baoding` leaves: the planner's measurement, and no actor."""
    directory.mkdir()
    (directory / "expert.json").write_text(json.dumps({"planner": {"dynamics": "simulator"}}))
    return directory / "expert.json"


def test_the_card_is_told_all_that_chose_the_expert() -> None:
    assert _chosen(DemosOptions(count=3, seed=5, min_return=800.0, action_noise=0.1, out="there")) == ()
    assert _chosen(DemosOptions(actor="my actors/a.safetensors")) == ("actor='my actors/a.safetensors'",)
    assert _chosen(PlannedDemosOptions(method="ppo", samples=8)) == ("method=ppo", "samples=8")


def test_a_policy_is_looked_for_where_its_actor_is(tmp_path: Path) -> None:
    here = _measured(tmp_path / "expert-baoding-s0")
    policy, planner = (PlannedDemosOptions(method=method, root=str(tmp_path)) for method in ("ppo", "mppi"))
    assert _known_expert(policy, "planned") == SHIPPED
    assert _known_expert(planner, "planned") == here
    here.with_name("actor.safetensors").touch()
    assert _known_expert(policy, "planned") == here


def test_a_policy_without_an_actor_is_said_to_have_none(tmp_path: Path) -> None:
    here = _measured(tmp_path / "made")
    with pytest.raises(UserError, match=r"there is no actor '.*made/actor\.safetensors': `make expert ENV=baoding"):
        hand_expert(PlannedDemosOptions(method="ppo"), ENV, here.parent, here)


def test_a_planners_measurement_makes_no_planner_of_a_policy(tmp_path: Path) -> None:
    here, spec = _measured(tmp_path / "made"), hand_spec(8)
    save_actor(here.with_name("actor.safetensors"), make_actor_net(spec), spec)
    expert = hand_expert(PlannedDemosOptions(method="ppo"), ENV, here.parent, here)
    expert.close()
    assert expert.kind == "ppo"
    assert expert.files() == [here.with_name("actor.safetensors")]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (PlannedExpertOptions(method="ppo", horizon=9), "horizon"),
        (PlannedExpertOptions(rounds=5), "rounds"),
        (PlannedExpertOptions(dynamics="learned", ppo_envs=9), "ppo_envs"),
    ],
)
def test_a_setting_that_this_kind_of_expert_does_not_read_is_refused(
    tmp_path: Path, options: PlannedExpertOptions, name: str
) -> None:
    with pytest.raises(UserError, match=rf"^{name}= changes nothing with method="):
        hand_expert(options, ENV, tmp_path, tmp_path / "expert.json")


def _prepare(out: Path, **changed: int) -> dict[str, list[object]]:
    small = {"horizon": 2, "samples": 4, "threads": 1, "rollouts": 1, "updates": 1, "hidden": 8, "batch_size": 8}
    given = {**small, "eval_episodes": 1, **changed}
    prepare_planned(PlannedExpertOptions(dynamics="learned", **given), ENV, out)  # type: ignore[arg-type]
    made: dict[str, list[object]] = json.loads((out / "expert.json").read_text())
    return made


def test_an_ensemble_trained_further_is_measured_anew_and_other_settings_train_nothing(tmp_path: Path) -> None:
    once = _prepare(tmp_path, rounds=1)
    again = _prepare(tmp_path, rounds=2)
    assert [len(made["curve"]) for made in (once, again)] == [1, 2]
    assert len(again["returns"]) == 1
    assert _prepare(tmp_path, rounds=2) == again
    assert len(_prepare(tmp_path, rounds=2, eval_episodes=2)["returns"]) == 2
    for changed in ({"rounds": 3, "samples": 5}, {"rounds": 1}):
        with pytest.raises(UserError, match="was measured with other settings"):
            _prepare(tmp_path, **changed)
    assert read_archive(tmp_path / "pddm.pt")["round"] == 2


def test_a_task_of_the_suite_may_have_capitals() -> None:
    assert task_config("dmc:humanoid_CMU-run").name == "dmc:humanoid_CMU-run"
    with pytest.raises(UserError, match="is not of the form dmc:"):
        task_config("dmc:humanoid CMU-run")


def test_the_help_says_which_episodes_a_seed_stands_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["demos", "--help"])
    assert "episode i from seed + i" in " ".join(capsys.readouterr().out.split())


def test_an_expert_s_defaults_are_its_task_s_and_the_last_env_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[Any] = []
    monkeypatch.setattr("vmil.experts.commands.prepare", lambda options: prepared.append(options) or "")
    for overrides in (
        ["env=baoding", "env=cheetah"],
        ["env=cheetah", "env=baoding"],
        ["env=cheetah", "env=walker"],
        (),
    ):
        assert cli.main(["expert", *overrides]) == 0
    cheetah, baoding, walker, default = prepared
    assert (cheetah.env, cheetah.frames, cheetah.ppo_frames) == ("cheetah", 960_000, 16_000_000)
    assert isinstance(baoding, PlannedExpertOptions)
    assert (walker.env, walker.frames, walker.ppo_frames) == ("walker", 160_000, 0)
    assert default == walker
