"""The baselines are run as VMIL is: same data, evaluation, tracking, checkpoints, resume and command line."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from curves import read_curve
from place import KILLED_AT, UNREAD_HERE, Place, Watch, python, sentence
from small_runs import FRAMES, ROUND, UPDATES, assert_same_run, write_demos

from vmil import cli
from vmil.algorithms import make_learner
from vmil.config.keys import leaves
from vmil.config.learners import unread
from vmil.config.load import load_saved_config
from vmil.config.schema import Config
from vmil.data.draws import Draws
from vmil.data.transition import Batch
from vmil.learner.module import ImitationModule
from vmil.tracking.record import read_record
from vmil.training.restore import read_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore")

ALGOS = ("sqil_drq", "dac_drq", "bc")
SMALL = (
    "env=counting",
    "compute=debug",
    "env.episode_frames=12",
    f"training.frames={FRAMES}",
    f"training.frames_per_epoch={ROUND}",
    f"training.updates_per_epoch={UPDATES}",
    "training.batch_size=4",
    "training.eval_every_frames=24",
    "training.image_log_every_frames=24",
    "training.checkpoint_every_frames=24",
)


@dataclass
class BaselinePlace(Place):
    """Where a baseline's runs lie."""

    algo: str

    @property
    def seeds(self) -> int:
        """Frames of random actions, which come before the first round."""
        return 0 if self.algo == "bc" else ROUND

    @property
    def rounds(self) -> list[int]:
        """Frames at the ends of the rounds."""
        return list(range(self.seeds + ROUND, FRAMES + 1, ROUND))

    def settings(self, name: str, *more: str) -> list[str]:
        """What follows `vmil train`."""
        where = (f"run.root={self.root}", f"demos.path={self.root}/demos", f"demos.cache_dir={self.root}/cache")
        seed = [] if self.algo == "bc" else [f"training.seed_frames={self.seeds}"]
        return [*SMALL, *where, *seed, f"algo={self.algo}", f"run.name={name}", "tracking.kind=csv", *more]


@pytest.fixture(scope="module", params=ALGOS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A run that nothing stops, its place, and what was seen of it."""
    place, watch = BaselinePlace(tmp_path_factory.mktemp(request.param), request.param), Watch()
    batches: list[Batch] = []
    take = Draws.take
    write_demos(place.root / "demos")
    with pytest.MonkeyPatch.context() as patch:
        watch.install(patch)
        patch.setattr(Draws, "take", lambda draws, experts: batches.append(take(draws, experts)) or batches[-1])
        assert place.train("whole") == 0
    return SimpleNamespace(run=place.root / "whole", place=place, watch=watch, batches=batches, algo=request.param)


def test_it_leaves_what_every_run_leaves(whole: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    run, rounds = whole.run, whole.place.rounds
    record = read_record(run)
    assert (record["status"], record["tags"]["algo"]) == ("FINISHED", whole.algo)
    for name in ("actor/loss", "time/update", "rate/updates"):
        assert [frames for frames, _ in read_curve(run, name)] == rounds, name
    assert [frames for frames, _ in read_curve(run, "eval/return")] == [24, 48]
    assert (run / "videos" / "eval_episode_000000048.mp4").stat().st_size > 0
    assert cli.main(["evaluate", f"run={run}", "episodes=2"]) == 0
    assert capsys.readouterr().out.startswith("whole: 0.0 ± 0.0 over 2 episodes, 0.0 % of the expert")


def test_it_collects_if_it_learns_from_acting(whole: SimpleNamespace) -> None:
    collected = [frames for frames, _ in read_curve(whole.run, "collect/return")]
    assert collected == ([] if whole.algo == "bc" else whole.place.rounds)
    replay = whole.run / "checkpoints" / "replay"
    assert len(list(replay.glob("*"))) == (0 if whole.algo == "bc" else FRAMES // ROUND)


def test_its_share_of_demonstrations(whole: SimpleNamespace) -> None:
    experts = {"sqil_drq": 2, "dac_drq": 1, "bc": 4}[whole.algo]
    assert {(batch.num_experts, batch.action.shape[1]) for batch in whole.batches} == {(experts, 4)}


def test_it_never_sees_the_environment_s_reward(whole: SimpleNamespace) -> None:
    assert len(whole.batches) == UPDATES * len(whole.place.rounds)
    assert all(batch.reward is None for batch in whole.batches)


def test_every_knob_it_may_be_given_is_read(whole: SimpleNamespace) -> None:
    config = load_saved_config(whole.run / "config.yaml")
    # bc's replay has a size, though it stays empty, and its rounds begin after no seeds
    sizes = {f"training.{name}" for name in ("episode_frames", "whole_episodes_from", "replay_frames", "seed_frames")}
    looked_at = sizes if whole.algo == "bc" else set()
    assert set(leaves(Config)) - whole.watch.read == (UNREAD_HERE | unread(config.learner)) - looked_at


def test_terminated_within_a_round_and_resumed_equals_never_terminated(
    whole: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place, count = BaselinePlace(tmp_path, whole.algo), ImitationModule.count_update
    write_demos(tmp_path / "demos")

    def count_update(learner: ImitationModule) -> None:
        count(learner)
        if learner.updates == 2 * UPDATES + 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(ImitationModule, "count_update", count_update)
        assert place.train("run") == 143
    assert "stopped" in sentence(capsys)
    assert place.resume("run") == 0
    assert_same_run(place.root / "run", whole.run)


def test_killed_and_resumed_equals_never_killed(whole: SimpleNamespace, tmp_path: Path) -> None:
    if whole.algo != "sqil_drq":
        pytest.skip("one of them is enough: the others are terminated")
    place = BaselinePlace(tmp_path, whole.algo)
    write_demos(tmp_path / "demos")
    done = python(KILLED_AT, str(2 * UPDATES + 2), "train", *place.settings("run"))
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["VMILDataModule"]["frames"] == 24
    assert place.resume("run") == 0
    assert_same_run(place.root / "run", whole.run)


def test_its_checkpoint_is_not_another_learner_s(whole: SimpleNamespace) -> None:
    config = load_saved_config(whole.run / "config.yaml")
    other = make_learner(load_saved_config(whole.run / "config.yaml", ["pixels.units=24"]), 1, 0)
    read_checkpoint(whole.run / "checkpoints" / "last.ckpt", make_learner(config, 1, 0))
    with pytest.raises(Exception, match="of another architecture"):
        read_checkpoint(whole.run / "checkpoints" / "last.ckpt", other)


def test_drq_itself_sees_no_expert_and_says_so(tmp_path: Path) -> None:
    place = BaselinePlace(tmp_path, "sqil_drq")
    write_demos(tmp_path / "demos")
    assert place.train("true", "debug.use_ground_truth_reward=true", f"training.frames={ROUND}") == 0
    run = tmp_path / "true"
    assert "NOT IMITATION" in (run / "run.log").read_text()
    assert read_curve(run, "reward/max") == [(ROUND, 0.0)]  # what the counting environment pays; SQIL's would be 1
    assert load_saved_config(run / "config.yaml").training.demo_fraction == 0.0
    assert json.loads((run / "run.json").read_text())["tags"]["env"] == "counting"
    assert np.isfinite(read_curve(run, "critic/loss")[0][1])
