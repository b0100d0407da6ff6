"""The collector: whole episodes, each from its own initial state, the policy asked exactly once a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

import numpy as np
import pytest
import torch
from counting_run import REPEAT, STEPS, CountingPolicy, action_of
from tensordict import TensorDict
from torch import Tensor

from vmil.config.schema import Config
from vmil.data.collect import EpisodeCollector
from vmil.envs.counting import CountingEnv
from vmil.envs.episodes import Outcome
from vmil.envs.factory import make_env


@pytest.fixture
def make(config: Config) -> Iterator[Callable[..., EpisodeCollector]]:
    made: list[EpisodeCollector] = []

    def build(env: CountingEnv | None = None, policy: CountingPolicy | None = None) -> EpisodeCollector:
        environment = make_env(config.env, seed=0) if env is None else env
        made.append(EpisodeCollector(environment, STEPS, REPEAT, seed=5, policy=policy or CountingPolicy()))
        return made[-1]

    yield build
    for collector in made:
        collector.close()


def collect(collector: EpisodeCollector, episodes: int, random: bool = False) -> TensorDict:
    return torch.cat([collector.collect_episode(random) for _ in range(episodes)])


def test_action_t_was_taken_at_image_t(
    make: Callable[..., EpisodeCollector], decode: Callable[[Tensor], Tensor]
) -> None:
    episodes = collect(make(), 3)
    assert len(episodes) == 3 * STEPS
    seen = decode(episodes["image"])
    assert seen.tolist() == [[episode, t] for episode in range(3) for t in range(STEPS)]
    assert episodes["action"][:, 0].tolist() == [action_of(*pair) for pair in seen.tolist()]
    assert torch.equal(episodes["episode"], seen[:, 0])
    assert torch.equal(episodes["t"], seen[:, 1])
    assert torch.equal(episodes["is_first"], seen[:, 1] == 0)
    assert episodes["reward"].shape == (3 * STEPS,)
    assert "next" not in set(episodes.keys())  # no picture is kept twice


def test_three_at_once_are_one_and_two_after_a_resume(make: Callable[..., EpisodeCollector]) -> None:
    whole = collect(make(), 3)
    first = make()
    parts = [collect(first, 1)]
    second = make()
    second.load_state_dict(first.state_dict())
    parts += [collect(second, 2)]
    assert (torch.cat(parts) == whole).all()


def test_initial_states_do_not_shift_on_a_simulator(config: Config) -> None:
    """The same with physics, though TorchRL resets once when it is made and once at the end of each episode."""
    config.env.name, config.env.episode_frames = "walker", 8

    def collect(start: int, count: int) -> list[Tensor]:
        env = make_env(config.env, seed=3)
        collector = EpisodeCollector(env, 4, REPEAT, seed=5)
        collector.load_state_dict(collector.state_dict() | {"episode": start})
        images = [collector.collect_episode(random=True)["image"][0] for _ in range(count)]
        collector.close()
        return images

    images = collect(0, 3)
    assert torch.equal(collect(1, 2)[1], images[2])
    assert not torch.equal(images[0], images[1])


def test_the_policy_is_asked_once_a_step_and_told_where_episodes_open(make: Callable[..., EpisodeCollector]) -> None:
    policy = CountingPolicy()
    collector = make(policy=policy)
    assert policy.opened == []  # not tried out when the collector is made
    collect(collector, 2)
    assert policy.opened == [0, 1]


def test_proprio_reaches_the_policy(config: Config, make: Callable[..., EpisodeCollector]) -> None:
    config.env.proprio = True
    policy = CountingPolicy()
    episode = make(policy=policy).collect_episode()
    assert policy.proprio is not None
    assert policy.proprio.tolist() == [[0.0, STEPS - 1.0]]
    assert episode["proprio"].tolist() == [[0.0, t] for t in range(STEPS)]


def test_random_actions_are_uniform_its_own_and_resumable(make: Callable[..., EpisodeCollector]) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    collector = make()
    first = collect(collector, 10, random=True)["action"]
    assert torch.equal(torch.get_rng_state(), before)
    assert first.min() < -0.9
    assert first.max() > 0.9
    assert first.mean().abs() < 0.15  # its standard deviation is 0.04
    other = make()
    other.load_state_dict(collector.state_dict())
    assert torch.equal(collector.collect_episode(random=True)["action"], other.collect_episode(random=True)["action"])


class Stumbling(CountingEnv):
    """Its second episode, and no other, ends after seven steps."""

    def _advance(self, action: object) -> Outcome:
        return Outcome(reward=1.0, terminated=self.episode == 1 and self.time == 6)

    def _episode_scores(self) -> dict[str, float]:
        return {"success": float(self.episode)}


class Tumbling(Stumbling):
    """Each of its episodes ends after seven steps."""

    def _advance(self, action: object) -> Outcome:
        return Outcome(reward=1.0, terminated=self.time == 6)


def test_an_episode_that_ends_early_is_whole(config: Config, make: Callable[..., EpisodeCollector]) -> None:
    policy = CountingPolicy()
    collector = make(env=Stumbling(config.env, seed=0), policy=policy)
    lengths = []
    for index in range(4):
        episode = collector.collect_episode()
        assert set(episode["episode"].tolist()) == {index}
        assert episode["image"][:, 0, 0, 0].unique().tolist() == [index]
        assert episode["reward"].sum() == len(episode)
        ended = [False] * (len(episode) - 1) + [index == 1]  # a time limit terminates nothing
        assert episode["terminated"].tolist() == ended
        lengths.append(len(episode))
    assert lengths == [STEPS, 7, STEPS, STEPS]
    assert policy.opened == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", [Stumbling, Tumbling])
def test_scores_are_the_episode_s_whatever_is_thrown_away(
    kind: type[CountingEnv], config: Config, make: Callable[..., EpisodeCollector]
) -> None:
    collector = make(env=kind(config.env, seed=0), policy=CountingPolicy())
    for index in range(3):
        collector.collect_episode()
        assert collector.scores == {"success": index}


class Watched(Tumbling):
    """Notes all that is done to the robot."""

    done: ClassVar[list[str]] = []

    def _begin(self) -> None:
        self.done.append(f"begin {self.episode}")

    def _advance(self, action: object) -> Outcome:
        self.done.append("step")
        return super()._advance(action)

    def _look(self) -> tuple[np.ndarray, np.ndarray | None]:
        self.done.append("look")
        return super()._look()


def test_after_its_end_an_episode_s_environment_is_left_alone(
    config: Config, make: Callable[..., EpisodeCollector]
) -> None:
    Watched.done.clear()
    collector = make(env=Watched(config.env, seed=0), policy=CountingPolicy())
    assert not Watched.done
    collect(collector, 2)
    assert Watched.done == [word for index in range(2) for word in [f"begin {index}", "look", *["step", "look"] * 7]]


def test_a_whole_episode_begins_once(config: Config, make: Callable[..., EpisodeCollector]) -> None:
    class Whole(Watched):
        def _advance(self, action: object) -> Outcome:
            return Outcome(reward=0.0, terminated=False)

    Watched.done.clear()
    collect(make(env=Whole(config.env, seed=0), policy=CountingPolicy()), 2)
    assert [word for word in Watched.done if word != "look"] == ["begin 0", "begin 1"]
    assert len(Watched.done) == 2 * (STEPS + 2)


def test_reports_steps_and_where_the_time_goes(make: Callable[..., EpisodeCollector]) -> None:
    collector, frames = make(), []
    collector.on_step = frames.append
    collector.collect_episode()
    assert frames == [REPEAT * (t + 1) for t in range(STEPS)]
    assert set(collector.seconds) == {"time/act", "time/render", "time/env"}
    assert all(value > 0 for value in collector.seconds.values())


def test_no_policy_is_an_error(config: Config) -> None:
    collector = EpisodeCollector(make_env(config.env, 0), STEPS, REPEAT, seed=0)
    with pytest.raises(RuntimeError, match="no policy"):
        collector.collect_episode()
    collector.close()
    collector.close()  # twice does no harm
    assert collector.state_dict()["episode"] == 0
