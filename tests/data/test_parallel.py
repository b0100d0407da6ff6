"""Several episodes at once: the same ones as one at a time, in their order, whatever happens to a worker.

Where the test is not about processes, the workers live in this one.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from counting_run import REPEAT, STEPS
from pool_here import Here
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn

from vmil.config.schema import CollectorConfig, Config
from vmil.data import parallel
from vmil.data.collect import EpisodeCollector
from vmil.data.datamodule import VMILDataModule
from vmil.data.parallel import ParallelCollector
from vmil.data.players import Player
from vmil.data.worker_pool import EpisodeSpec, LostWorkersError, WorkerPool
from vmil.envs.counting import CountingEnv
from vmil.envs.episodes import Outcome
from vmil.envs.factory import make_env
from vmil.errors import EnvError, NonFiniteError, UserError

SEED = 5


class Noisy(nn.Module):
    """Answers with its bias and a little noise; remembers the episode's first picture, as a recurrent policy would."""

    def __init__(self, bias: float = 0.0) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(bias))
        self.first: Tensor | None = None

    def forward(self, image: Tensor, proprio: Tensor | None, is_first: Tensor) -> Tensor:
        if is_first:
            self.first = image
        assert self.first is not None
        assert image[0, 0, 0, 0] == self.first[0, 0, 0, 0], "an episode was not opened"
        return self.bias + 0.1 * torch.randn(1, 1)

    def portable(self) -> nn.Module:
        return copy.deepcopy(self)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "WorkerPool", Here)


def collector(
    config: Config,
    workers: int,
    policy: Noisy | None = None,
    env: Callable[[], CountingEnv] | None = None,
    overlap: bool = False,
) -> ParallelCollector:
    spec = EpisodeSpec(partial(make_env, config.env, 0) if env is None else env, STEPS)
    asked = CollectorConfig(backend="process", workers=workers, timeout=900.0, overlap=overlap)
    return ParallelCollector(asked, spec, SEED, config.env.proprio, Noisy() if policy is None else policy)


def collect(made: ParallelCollector, count: int, random: int = 0) -> TensorDict:
    """`count` episodes, the first `random` of them of uniform actions."""
    episodes = [made.collect_episode(random=index < random) for index in range(count)]
    made.close()
    return torch.cat(episodes)


def test_what_is_collected_does_not_depend_on_the_number_of_workers(here: None, config: Config) -> None:
    alone = collect(collector(config, 1), 6, random=3)
    assert alone["episode"].unique().tolist() == list(range(6))
    assert torch.equal(alone["image"][:, 0, 0, 0].long(), alone["episode"])
    assert alone["action"][: 3 * STEPS].abs().mean() > 0.3  # uniform; then the policy's noise
    assert alone["action"][3 * STEPS :].abs().mean() < 0.2
    assert len(alone["action"].unique()) == len(alone)  # no two episodes have the same noise
    for workers in (2, 4):  # three random ones are no multiple of either
        together = collect(collector(config, workers), 6, random=3)
        assert (together == alone).all()


def test_what_was_played_ahead_is_played_again_by_a_policy_that_has_learnt(here: None, config: Config) -> None:
    policy = Noisy()
    made = collector(config, 4, policy)
    first = made.collect_episode()
    policy.bias.data += 0.5
    rest = [made.collect_episode() for _ in range(3)]
    assert made._pool.waves == 2
    made.close()
    assert first["action"].mean().abs() < 0.1
    for number, episode in enumerate(rest, 1):
        assert episode["episode"].unique().tolist() == [number]
        assert abs(episode["action"].mean() - 0.5) < 0.1


def test_it_goes_on_where_a_checkpoint_was_taken(here: None, config: Config) -> None:
    whole = collect(collector(config, 2), 5)
    first, second = collector(config, 2), collector(config, 2)
    parts = [collect(first, 3)]  # the fourth has been played ahead
    second.load_state_dict(first.state_dict())
    parts.append(collect(second, 2))
    assert (torch.cat(parts) == whole).all()


def test_one_process_goes_on_where_workers_stopped(here: None, config: Config) -> None:
    first = collector(config, 2)
    first.collect_episode(random=False)
    alone = EpisodeCollector(make_env(config.env, seed=SEED), config.env.episode_frames, 1, SEED, Noisy())
    try:
        alone.load_state_dict(first.state_dict())
        assert alone.collect_episode(random=True)["episode"].unique().tolist() == [1]
    finally:
        alone.close()


class Stumbling(CountingEnv):
    """Odd episodes end after seven steps and succeed."""

    SCORES = ("success",)

    def _advance(self, action: object) -> Outcome:
        return Outcome(reward=1.0, terminated=self.episode % 2 == 1 and self.time == 6)

    def _episode_scores(self) -> dict[str, float]:
        return {"success": float(self.episode % 2)}


def test_an_episode_that_ends_early_is_whole_and_scored_as_itself(here: None, config: Config) -> None:
    made = collector(config, 2, env=partial(Stumbling, config.env, 0))
    lengths, successes = [], []
    for _ in range(4):
        episode = made.collect_episode()
        lengths.append(len(episode))
        successes.append(made.scores["success"])
        assert set(made.seconds) == {"time/act", "time/render", "time/env"}
    made.close()
    assert lengths == [STEPS, 7, STEPS, 7]
    assert successes == [0.0, 1.0, 0.0, 1.0]  # not those of what TorchRL began after it


class Broken(CountingEnv):
    """The third episode has a reward that is no number."""

    def _advance(self, action: object) -> Outcome:
        return Outcome(reward=float("nan") if self.episode == 2 else 0.0, terminated=False)


def test_a_number_that_is_none_is_told_in_the_worker_s_own_words(here: None, config: Config) -> None:
    made = collector(config, 2, env=partial(Broken, config.env, 0))
    made.collect_episode()
    made.collect_episode()
    with pytest.raises(NonFiniteError, match="episode 2, agent step 0: the environment's reward is nan") as found:
        made.collect_episode()
    made.close()
    assert set(found.value.evidence) == {"action", "image"}
    assert torch.isfinite(found.value.evidence["action"]).all()


class Torn(CountingEnv):
    """Its arm is lost."""

    def _advance(self, action: object) -> Outcome:
        raise ConnectionError("arm lost")


def test_an_environment_s_own_exception_is_told_with_its_traceback(here: None, config: Config) -> None:
    made = collector(config, 2, env=partial(Torn, config.env, 0))
    with pytest.raises(EnvError, match="counting, episode 0, agent step 0: ConnectionError: arm lost") as error:
        made.collect_episode()
    made.close()
    assert 'raise ConnectionError("arm lost")' in error.value.__notes__[0]


class Losing(Here):
    """A pool that is lost whenever it is told to play, until `spared`."""

    spared = 1
    made = 0

    def __init__(self, config: CollectorConfig, spec: EpisodeSpec, player: Player) -> None:
        super().__init__(config, spec, player)
        type(self).made += 1

    def finish(self, meanwhile: Callable[[], None]) -> TensorDictBase:
        if type(self).made <= type(self).spared:
            raise LostWorkersError("could not play an episode (exit code -9)")
        return super().finish(meanwhile)


def test_lost_workers_are_replaced_once(
    config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(parallel, "WorkerPool", Here)
    expected = collect(collector(config, 2), 2)
    monkeypatch.setattr(parallel, "WorkerPool", Losing)
    monkeypatch.setattr(Losing, "made", 0)
    assert (collect(collector(config, 2), 2) == expected).all()
    assert "(exit code -9); they are started once more" in caplog.text
    monkeypatch.setattr(Losing, "made", -1)
    with pytest.raises(UserError, match="lost twice at episodes 0 to 1: they could not play an episode"):
        collect(collector(config, 2), 1)


def test_the_data_module_s_results_do_not_depend_on_workers_and_resume(
    here: None, config: Config, tmp_path: Path
) -> None:
    """Rounds of two episodes: three rounds, a stop, and a fourth of a resumed module with another number of workers.

    One update to a round: of several, some come between the episodes of one worker, but after both of two workers.
    """
    config.training.updates_per_epoch = 1

    def module(name: str, workers: int) -> VMILDataModule:
        config.collector = CollectorConfig(backend="process", workers=workers)
        data = VMILDataModule(config, Noisy(), tmp_path / name)
        data.setup()
        return data

    whole = module("whole", 1)
    expected = [batch.action for _ in range(4) for batch in whole.epoch()]
    whole.close()
    first = module("parts", 2)
    actions = [batch.action for _ in range(3) for batch in first.epoch()]
    state = first.state_dict()
    first.close()
    second = module("parts", 1)
    second.load_state_dict(state)
    actions += [batch.action for batch in second.epoch()]
    second.close()
    assert len(actions) == len(expected)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(actions, expected, strict=True))
    assert second.frames == 3 * 2 * STEPS * REPEAT


# ---- while the learner learns ------------------------------------------------------------------------------------


def learn(made: ParallelCollector, policy: Noisy, random: bool | None = False) -> None:
    """A learner's round: what can be played beside it begins, and the policy becomes another."""
    made.overlap(random)
    policy.bias.data += 0.2


def mean_action(episode: TensorDict) -> float:
    return round(float(episode["action"].mean()), 1)


def test_a_wave_is_played_by_the_policy_from_before_the_learning_beside_it(here: None, config: Config) -> None:
    policy = Noisy()
    made = collector(config, 2, policy, overlap=True)
    means = []
    for _ in range(3):
        means += [mean_action(made.collect_episode()) for _ in range(2)]
        learn(made, policy)
    assert means == [0.0, 0.0, 0.0, 0.0, 0.2, 0.2]
    assert made._pool.waves == 4  # the last has begun, and nobody asks for it
    made.close()
    assert made.state_dict()["episode"] == 6


def test_without_overlap_nothing_is_played_beside_the_learner(here: None, config: Config) -> None:
    policy = Noisy()
    made = collector(config, 2, policy)
    made.collect_episode()
    made.collect_episode()
    learn(made, policy)
    assert made._pool.waves == 1
    assert mean_action(made.collect_episode()) == 0.2
    made.close()


def test_nothing_begins_that_nobody_wants(here: None, config: Config) -> None:
    policy = Noisy()
    made = collector(config, 2, policy, overlap=True)
    made.collect_episode()
    made.collect_episode()
    learn(made, policy, random=None)
    assert made._pool.waves == 1
    assert made.state_dict() == {"episode": 2}
    assert mean_action(made.collect_episode()) == 0.2
    made.close()


def test_where_random_actions_end_within_a_wave_the_rest_is_the_policy_s(here: None, config: Config) -> None:
    policy = Noisy()
    made = collector(config, 2, policy, overlap=True)
    made.collect_episode(random=True)
    made.collect_episode(random=True)
    learn(made, policy, random=True)
    spread = [float(made.collect_episode(random=random)["action"].std()) for random in (True, False)]
    made.close()
    assert spread[0] > 0.3
    assert spread[1] < 0.2


@pytest.mark.parametrize("stop_after", [3, 4])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_resumed_collector_has_the_wave_played_by_who_was_chosen(
    here: None, config: Config, stop_after: int, workers: int
) -> None:
    """Stopped within a wave, and between two; whoever resumes it may have another number of workers."""
    policy = Noisy()
    first = collector(config, 2, policy, overlap=True)
    episodes = []
    for number in range(1, 7):
        episodes.append(first.collect_episode())
        if number % 2 == 0:
            learn(first, policy)
        if number == stop_after:
            state = copy.deepcopy(first.state_dict())
            then = copy.deepcopy(policy)
    first.close()
    second = collector(config, workers, then, overlap=True)
    second.load_state_dict(state)
    for number in range(stop_after + 1, 7):
        assert (second.collect_episode() == episodes[number - 1]).all()
        if number % 2 == 0:
            learn(second, then)
    second.close()


# ---- processes -----------------------------------------------------------------------------------------------


def test_two_processes_one_of_which_is_killed(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    children = set(multiprocessing.active_children())
    with monkeypatch.context() as patch:
        patch.setattr(parallel, "WorkerPool", Here)
        expected = collect(collector(config, 1), 4)
    made = collector(config, 2)
    episodes = [made.collect_episode(), made.collect_episode()]
    workers = set(multiprocessing.active_children()) - children
    assert len(workers) == 2
    victim = workers.pop()
    victim.kill()
    victim.join()
    episodes += [made.collect_episode(), made.collect_episode()]
    assert (torch.cat(episodes) == expected).all()
    made.close()
    made.close()  # twice does no harm
    assert set(multiprocessing.active_children()) == children
    assert not list(Path("/dev/shm").glob(f"torch_{os.getpid()}_*"))


def test_a_process_that_is_killed_while_the_learner_learns_is_replaced(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    children = set(multiprocessing.active_children())
    with monkeypatch.context() as patch:
        patch.setattr(parallel, "WorkerPool", Here)
        expected = collect(collector(config, 2), 4)
    policy = Noisy()
    made = collector(config, 2, policy, overlap=True)
    episodes = [made.collect_episode(), made.collect_episode()]
    learn(made, policy)
    for worker in set(multiprocessing.active_children()) - children:
        worker.kill()
        worker.join()
    episodes += [made.collect_episode(), made.collect_episode()]
    assert (torch.cat(episodes) == expected).all()
    learn(made, policy)
    made.close()  # while they play
    assert set(multiprocessing.active_children()) == children


def test_who_ends_its_workers_leaves_other_processes_alone(config: Config) -> None:
    """An evaluation may have begun beside them."""
    made = collector(config, 1, overlap=True)
    made.overlap(random=False)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(os.getppid).result() == os.getpid()
        made.close()
        assert pool.submit(os.getppid).result() == os.getpid()


def test_processes_that_hang_end_the_run_with_a_sentence(config: Config) -> None:
    """None can begin within a tenth of a second."""
    children = set(multiprocessing.active_children())
    made = collector(config, 2)
    made._config.timeout = 0.1
    with pytest.raises(UserError, match=r"lost twice at episodes 0 to 1: they did not begin within .*timeout=0.1 sec"):
        made.collect_episode()
    made.close()
    assert set(multiprocessing.active_children()) == children


def test_a_wish_to_stop_is_heard_while_workers_begin(config: Config) -> None:
    children = set(multiprocessing.active_children())

    def stop(frames: int) -> None:
        raise KeyboardInterrupt

    made = collector(config, 1)
    made.on_step = stop
    with pytest.raises(KeyboardInterrupt):
        made.collect_episode()
    assert made.state_dict() == {"episode": 0}
    assert set(multiprocessing.active_children()) == children


def test_ray_that_is_not_installed_is_a_sentence(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    spec = EpisodeSpec(partial(make_env, config.env, 0), STEPS)
    with pytest.raises(UserError, match=r"collector.backend=ray needs Ray: `pip install -e .\[ray\]`"):
        WorkerPool(CollectorConfig(backend="ray"), spec, Player(Noisy(), SEED, False))
