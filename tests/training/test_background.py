"""Evaluations in the background: the same numbers, whatever becomes of the process that makes them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace as Some
from typing import Any

import pytest
import torch
from curves import read_curve
from lightning.pytorch.utilities.exceptions import SIGTERMException
from tiny_run import PRETRAIN, UPDATES, Constant, Run, TinyEnv, TinyLearner, Trap, kill, values
from torch import Tensor

from vmil.config.load import load_config
from vmil.config.schema import Config
from vmil.errors import EnvError
from vmil.evaluation.background import BackgroundEvaluator, Evaluation
from vmil.evaluation.rollout import Rollout
from vmil.learner.device import evaluates_in_background
from vmil.training.evaluate import Evaluate

pytestmark = pytest.mark.filterwarnings("ignore")

PARENT = os.getpid()


class Deadly(Constant):
    """Takes with it any process but the first."""

    def forward(self, image: Tensor, proprio: Tensor | None, is_first: Tensor) -> Tensor:
        if os.getppid() == PARENT:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(image, proprio, is_first)


class Hanging(Constant):
    """Comes to no end in any process but the first."""

    def forward(self, image: Tensor, proprio: Tensor | None, is_first: Tensor) -> Tensor:
        if os.getppid() == PARENT:
            threading.Event().wait()
        return super().forward(image, proprio, is_first)


class Wordy(Constant):
    """Says more than a pipe holds, so that its process is still saying it when the first of it is read."""

    def judge(self, rollout: Rollout) -> dict[str, float]:
        return {f"eval/{index}": float(index) for index in range(200_000)}


class Slow(BackgroundEvaluator):
    """In this process, and done only when it is waited for."""

    held = False

    def start(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation

    def wait(self, seconds: float = 0.0) -> bool:
        return seconds > 0 and not self.held

    def take(self, on_step: Callable[[int], None]) -> tuple[Rollout, dict[str, float]]:
        evaluation, self._evaluation = self._evaluation, None
        assert evaluation is not None
        return evaluation.run(on_step)


class Failing(Slow):
    """Done at once, and its environment failed."""

    def wait(self, seconds: float = 0.0) -> bool:
        return True

    def take(self, on_step: Callable[[int], None]) -> tuple[Rollout, dict[str, float]]:
        self._evaluation = None
        raise EnvError("the arm is lost")


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny learner acts otherwise after each update, and so scores otherwise."""
    monkeypatch.setattr(TinyLearner, "portable_evaluation", lambda self: Constant(0.5 + self.updates / 100))


def in_background(run: Run, process: BackgroundEvaluator) -> Run:
    run.find(Evaluate)._background = process
    return run


@pytest.fixture
def process() -> Iterator[BackgroundEvaluator]:
    made = BackgroundEvaluator(timeout=120.0)
    yield made
    made.close()


def test_the_numbers_are_those_of_an_evaluation_that_holds_training_up(
    tmp_path: Path, examined: None, process: BackgroundEvaluator
) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    alone = Run(tmp_path / "a").fit()
    other = in_background(Run(tmp_path / "b"), process).fit()
    assert other.learner.seen == alone.learner.seen
    assert sorted(values(tmp_path / "b")) == sorted(values(tmp_path / "a"))
    assert process._process is None  # ended with the run


@pytest.mark.parametrize("resumed_beside", [True, False])
def test_one_that_was_under_way_is_made_again_by_what_acted_then(
    tmp_path: Path, examined: None, monkeypatch: pytest.MonkeyPatch, resumed_beside: bool
) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    Run(tmp_path / "a").fit()
    monkeypatch.setattr(Slow, "held", True)
    with pytest.raises(SIGTERMException):  # after the 20th frame's evaluation has begun
        in_background(Run(tmp_path / "b", Trap(PRETRAIN + 2 * UPDATES + 1, kill)), Slow(timeout=1.0)).fit()
    assert read_curve(tmp_path / "b", "eval/return") == []
    monkeypatch.setattr(Slow, "held", False)
    again = Run(tmp_path / "b")
    (in_background(again, Slow(timeout=1.0)) if resumed_beside else again).fit(
        resume=tmp_path / "b" / "checkpoints" / "last.ckpt"
    )
    expected = read_curve(tmp_path / "a", "eval/return")
    assert len(expected) == 2
    assert read_curve(tmp_path / "b", "eval/return") == expected


def test_one_whose_environment_fails_ends_the_run_after_the_round_and_is_made_again(
    tmp_path: Path, examined: None
) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    alone = Run(tmp_path / "a").fit()
    broken = in_background(Run(tmp_path / "b"), Failing(timeout=1.0))
    with pytest.raises(EnvError, match="the arm is lost"):
        broken.fit()
    assert len(broken.learner.seen) == PRETRAIN + 3 * UPDATES
    again = Run(tmp_path / "b").fit(resume=tmp_path / "b" / "checkpoints" / "last.ckpt")
    assert broken.learner.seen + again.learner.seen == alone.learner.seen
    assert read_curve(tmp_path / "b", "eval/return") == read_curve(tmp_path / "a", "eval/return")


def test_asked_to_stop_while_it_waits_for_one_a_run_stops(
    tmp_path: Path, examined: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Slow, "held", True)
    run = in_background(Run(tmp_path, Trap(PRETRAIN + 4 * UPDATES, kill)), Slow(timeout=1.0))
    with pytest.raises(SIGTERMException):
        run.fit()
    state = run.find(Evaluate).state_dict()
    assert (state["last_frames"], state["pending"]["frames"]) == (20, 20)  # the 40th frame's is still due


@pytest.mark.parametrize("beside", [True, False])
def test_stopped_within_the_last_one_it_is_made_up_for_though_nothing_is_left_to_learn(
    tmp_path: Path, examined: None, monkeypatch: pytest.MonkeyPatch, beside: bool
) -> None:
    """Together with the one before, if that is still pending."""
    for name in "ab":
        (tmp_path / name).mkdir()
    Run(tmp_path / "a").fit()
    monkeypatch.setattr(Slow, "held", beside)
    stopped = Run(tmp_path / "b")
    make_env, made = stopped.find(Evaluate).make_env, []

    def struck(seed: int) -> TinyEnv:
        made.append(seed)
        if len(made) == 3:  # of two episodes each, the first of the last
            kill(None)
        return make_env(seed)

    stopped.find(Evaluate).make_env = struck
    trap = [Trap(PRETRAIN + 4 * UPDATES, kill)] if beside else []
    stopped.trainer.callbacks += trap
    with pytest.raises(SIGTERMException):
        (in_background(stopped, Slow(timeout=1.0)) if beside else stopped).fit()
    assert [frames for frames, _ in read_curve(tmp_path / "b", "eval/return")] == ([] if beside else [20])
    monkeypatch.setattr(Slow, "held", False)
    again = Run(tmp_path / "b")
    again.learner.seen = [0.0] * (PRETRAIN + 4 * UPDATES)
    process = Slow(timeout=1.0)
    closed: list[bool] = []
    monkeypatch.setattr(process, "close", lambda: closed.append(True))
    in_background(again, process).fit(resume=tmp_path / "b" / "checkpoints" / "last.ckpt")
    assert len(again.learner.seen) == PRETRAIN + 4 * UPDATES
    assert read_curve(tmp_path / "b", "eval/return") == read_curve(tmp_path / "a", "eval/return")
    assert closed


@pytest.mark.parametrize("pending", [5, {}, {"frames": 20, "film": True, "examination": {"other": torch.zeros(1)}}])
def test_a_checkpoint_that_says_nonsense_of_one_costs_that_evaluation(
    tmp_path: Path, examined: None, caplog: pytest.LogCaptureFixture, pending: Any
) -> None:
    run = Run(tmp_path)
    run.find(Evaluate)._left_over = pending
    run.fit()
    assert "cannot be made again" in caplog.text
    assert [frames for frames, _ in read_curve(tmp_path, "eval/return")] == [20, 40]


def test_one_that_is_made_again_here_is_broken_off_by_a_stop_and_still_pending(tmp_path: Path, examined: None) -> None:
    run, learner = Run(tmp_path), TinyLearner()
    evaluate: Evaluate = run.find(Evaluate)
    evaluate._left_over = {"frames": 20, "film": False, "examination": learner.portable_evaluation().state_dict()}
    evaluate._take_up(Some(received_sigterm=True), learner)
    assert read_curve(tmp_path, "eval/return") == []
    assert evaluate.state_dict()["pending"]["frames"] == 20


def test_a_lost_process_costs_time_only(process: BackgroundEvaluator) -> None:
    process.start(Evaluation(Deadly(0.5), TinyEnv, episodes=2, seed=0, video=True))
    assert process.wait(120.0)
    rollout, judged = process.take(lambda _: None)
    assert rollout.returns == Evaluation(Constant(0.5), TinyEnv, episodes=2, seed=0, video=False).run()[0].returns
    assert rollout.video is not None
    assert judged == {"eval/reward_correlation": 0.25}


def test_a_process_that_hangs_costs_time_only(process: BackgroundEvaluator, caplog: pytest.LogCaptureFixture) -> None:
    process.timeout = 0.5  # for an episode
    process.start(Evaluation(Hanging(0.5), TinyEnv, episodes=2, seed=0, video=False))
    began = process._process
    while not process.wait(0.1):
        pass
    assert began is not None
    assert began.exitcode == -signal.SIGKILL
    assert process.take(lambda _: None)[0].returns
    assert "the process that evaluates hangs" in caplog.text


def test_a_process_that_is_killed_while_it_answers_costs_time_only(process: BackgroundEvaluator) -> None:
    evaluation = Evaluation(Wordy(0.5), TinyEnv, episodes=1, seed=0, video=False)
    process.start(evaluation)
    assert process.wait(120.0)
    assert process._process is not None
    process._process.kill()
    assert process.take(lambda _: None)[1] == evaluation.run()[1]


def test_training_does_not_wait_for_a_process_that_is_still_starting(process: BackgroundEvaluator) -> None:
    """It has read nothing of what it is to play; and one that is not wanted any more is gone at once."""
    examinee = Constant(0.5)
    examinee.register_buffer("weights", torch.zeros(4_000_000))  # more than a pipe holds
    process.start(Evaluation(examinee, TinyEnv, episodes=1, seed=0, video=False))
    assert not process.wait()
    began = process._process
    process.close()
    assert began is not None
    assert began.exitcode == -signal.SIGKILL


def test_one_lost_while_it_had_nothing_to_do_is_replaced(process: BackgroundEvaluator) -> None:
    for _ in range(2):
        process.start(Evaluation(Constant(0.5), TinyEnv, episodes=1, seed=0, video=False))
        assert process.wait(120.0)
        assert process.take(_unasked)[0].returns
        assert process._process is not None
        process._process.kill()
        process._process.join()


def _unasked(step: int) -> None:
    raise AssertionError("it was made in this process")


def test_what_goes_wrong_in_it_is_raised_here(process: BackgroundEvaluator) -> None:
    process.start(Evaluation(Constant(0.5), TinyEnv, episodes=0, seed=0, video=False))
    assert process.wait(120.0)
    with pytest.raises(ValueError, match="at least one episode"):
        process.take(lambda _: None)


@pytest.mark.parametrize(
    ("settings", "cores", "expected"),
    [
        (["compute.threads=2"], 2, False),
        (["compute.threads=1"], 2, True),
        (["compute.threads=0"], 8, False),  # all of them learn
        (["compute.threads=1", "training.background_evaluation=never"], 2, False),
        (["compute.threads=2", "training.background_evaluation=always"], 2, True),
        (["compute.device=cuda"], 2, True),
        (["compute.device=cuda"], 1, False),
    ],
)
def test_it_takes_a_core_that_is_free(
    monkeypatch: pytest.MonkeyPatch, settings: list[str], cores: int, expected: bool
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    config: Config = load_config(["env=walker", "compute=cpu", *settings])
    assert evaluates_in_background(config) is expected


def test_an_examination_s_state_is_a_checkpoint_s(examined: None) -> None:
    made: Any = Constant(3.0)
    made.load_state_dict(Constant(7.0).state_dict())
    assert float(made(torch.zeros(1, 2, 2, 3), None, torch.ones(1))) == 7.0
