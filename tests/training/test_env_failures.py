"""An exception of somebody's own environment is one sentence, and costs the episode that it came in, no more."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from place import Place, sentence
from small_runs import numbers, weights

from vmil.envs import counting, tasks
from vmil.envs.counting import CountingEnv
from vmil.envs.episodes import Outcome
from vmil.evaluation.rollout import SEED_OFFSET
from vmil.tracking.record import read_record

pytestmark = pytest.mark.filterwarnings("ignore")


class Fragile(CountingEnv):
    """Its arm is lost in the third collected episode, or at the first evaluation."""

    def _advance(self, action: np.ndarray) -> Outcome:
        if self.run_seed < SEED_OFFSET and (self.episode, self.time) == (2, 5):
            raise ConnectionError("arm lost")
        return super()._advance(action)


class Unwatched(CountingEnv):
    """Its arm is lost where an evaluation begins, once that has drawn a random number."""

    def _begin(self) -> None:
        if self.run_seed >= SEED_OFFSET:
            torch.rand(1)
            raise ConnectionError("arm lost")


@pytest.mark.parametrize(
    ("kind", "where", "saved"),
    [
        (Fragile, "counting, episode 2, agent step 5: ConnectionError: arm lost (test_env_failures.py, line ", 24),
        (Unwatched, "counting, episode 0, agent step 0: ConnectionError: arm lost (test_env_failures.py, line ", 24),
    ],
)
def test_the_run_is_saved_and_goes_on_as_if_it_had_not_been(
    kind: type[CountingEnv],
    where: str,
    saved: int,
    whole: SimpleNamespace,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = place.root / "run"
    with monkeypatch.context() as patch:
        module = SimpleNamespace(make=lambda config, seed, task: kind(config, seed), measure=counting.measure)
        family = replace(tasks.COUNTING, module=lambda: module)
        patch.setitem(tasks.TASKS, "counting", tasks.Task(family, "counting", "counting"))
        rarely = ("training.background_evaluation=never", "training.checkpoint_every_frames=480")
        assert place.train("run", *rarely) == 1
    said = sentence(capsys)
    assert where in said
    assert f"'{run}/run.log' has its traceback; `make resume` goes on from the last checkpoint" in said
    assert 'raise ConnectionError("arm lost")' in (run / "run.log").read_text()
    assert read_record(run)["status"] == "FAILED"
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["VMILDataModule"]["frames"] == saved
    assert place.resume("run", "training.checkpoint_every_frames=24") == 0
    assert sorted(numbers(run)) == sorted(numbers(whole.run))
    mine, theirs = weights(run), weights(whole.run)
    assert [name for name in theirs if not torch.equal(mine[name], theirs[name])] == []
