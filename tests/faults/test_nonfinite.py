"""A number that is none is found in the step in which it arises, kept for inspection, and named."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from faulty import Ended, Fault, Ground
from safetensors import safe_open
from small_runs import assert_same_run, weights

from vmil.tracking.record import read_record

pytestmark = pytest.mark.filterwarnings("ignore")
NAN = float("nan")


def poison_batch(learner: Any) -> None:
    """At the model's step, before its check: a NaN in the batch, and so in everything made of it."""
    original = type(learner).fit_model

    def fit_model(module: Any, batch: Any) -> Any:
        batch.action[1, 0, 0] = NAN
        type(learner).fit_model = original
        return original(module, batch)

    type(learner).fit_model = fit_model


def poison_actor(learner: Any) -> None:
    """A weight of the actor, which then acts with it."""
    next(learner.actor.parameters()).data.view(-1)[0] = NAN  # `data`: the update under way shall not notice


def poison_gradient(learner: Any) -> None:
    """A sound loss whose gradient is none: it comes back through a hook."""
    weight = next(learner.discriminator.parameters())
    handle = weight.register_hook(lambda gradient: (handle.remove(), torch.full_like(gradient, NAN))[1])


def poison_proprio(env: Any) -> None:
    """The environment shows a NaN from now on."""
    state = env.physics_state
    env.physics_state = lambda: state() * NAN


def poison_reward(env: Any) -> None:
    """The environment pays a NaN, once."""
    advance = env._advance
    env._advance = lambda action: advance(action)._replace(reward=NAN)


CASES = {
    # update 4 is the second of a round; events of "update" are its three optimiser steps
    "a loss": ("update", 12, poison_batch, r"the model loss is not finite at update 4 \(it is nan\); .* in: action"),
    "a gradient": ("update", 13, poison_gradient, r"the gradient of the disc loss is not finite at update 4 \(in disc"),
    "an action": ("update", 15, poison_actor, r"the action is not finite: \[nan\]|the actor loss is not finite"),
    "an observation": ("collection", 14, poison_proprio, r"counting, episode 1, agent step \d: the observation is not"),
    "a reward": ("collection", 14, poison_reward, r"counting, episode 1, agent step 1: the environment's reward is"),
}


def evidence(ended: Ended, run: Path) -> tuple[str, dict[str, torch.Tensor]]:
    """The cause and the tensors in the first file that was kept, which the sentence names."""
    path = min((run / "nonfinite").iterdir())
    assert f"kept as '{path}'" in ended.said
    with safe_open(path, framework="pt") as file:
        return file.metadata()["cause"], {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize(
    "case",
    [name if name in ("a loss", "an observation") else pytest.param(name, marks=pytest.mark.faults) for name in CASES],
)
def test_it_stops_the_run_in_one_sentence_with_what_it_was_found_in(tmp_path: Path, case: str) -> None:
    place, number, strike, sentence = CASES[case]
    ground, run = Ground(tmp_path), tmp_path / "run"
    more = ["env.proprio=true"] if case == "an observation" else []
    ended = ground.train("run", *more, fault=Fault(place, number, strike))
    assert ended.code == 1, ended.said
    [said] = ended.sentences
    assert re.search(sentence, said)
    assert said.endswith("`make resume` goes on from the last checkpoint")
    cause, tensors = evidence(ended, run)
    assert cause in said
    assert tensors
    if case in ("a loss", "an observation"):
        assert any(not torch.isfinite(tensor).all() for tensor in tensors.values() if tensor.is_floating_point())
    assert read_record(run)["status"] == "FAILED"
    assert all(torch.isfinite(tensor).all() for tensor in weights(run).values() if tensor.is_floating_point())
    resumed = ground.resume("run")
    assert resumed.code == 0, resumed.said


@pytest.mark.faults
def test_what_was_interrupted_by_a_nan_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    assert ground.train("whole").code == 0
    assert ground.train("late", fault=Fault("update", 31, poison_gradient)).code == 1
    assert ground.resume("late").code == 0
    assert_same_run(tmp_path / "late", tmp_path / "whole")


@pytest.mark.parametrize(
    "strike", [poison_batch, pytest.param(poison_gradient, marks=pytest.mark.faults)], ids=["a loss", "a gradient"]
)
def test_by_option_the_step_is_left_out_and_said(tmp_path: Path, strike: Callable[[Any], None]) -> None:
    ground, run = Ground(tmp_path), tmp_path / "run"
    ended = ground.train("run", "training.skip_nonfinite=true", fault=Fault("update", 12, strike))
    assert ended.code == 0, ended.said
    assert "left out a step: the " in ended.said
    assert read_record(run)["status"] == "FINISHED"
    bad = [name for name, t in weights(run).items() if t.is_floating_point() and not torch.isfinite(t).all()]
    assert [name for name in bad if not name.startswith("/callbacks")] == []
    assert evidence(ended, run)[1].keys() >= {"image", "action"}


@pytest.mark.faults
def test_a_learner_that_is_lost_stops_even_so(tmp_path: Path) -> None:
    """Else `skip_nonfinite` would go on for days without learning anything."""
    ground = Ground(tmp_path)
    many = ("training.skip_nonfinite=true", "training.pretrain_updates=60")
    ended = ground.train("run", *many, fault=Fault("update", 6, poison_actor))
    assert ended.code == 1, ended.said
    assert "vmil: 20 steps in a row were left out: the actor loss" in ended.said
