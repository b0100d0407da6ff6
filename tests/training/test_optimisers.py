"""The three optimisers: what each holds, its rates, and what a gradient that is no number costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from small_learner import changed, make_batch, snapshot
from torch import Tensor

from vmil.errors import NonFiniteError
from vmil.learner.nonfinite import Attempt
from vmil.learner.stepping import Part
from vmil.training.vmil import VMIL


def test_exactly_three_optimisers_hold_every_weight_once(make_learner: Callable[..., VMIL]) -> None:
    learner = make_learner()
    optimizers = learner.configure_optimizers()
    assert len(optimizers) == 3
    assert [len(optimizer.param_groups) for optimizer in optimizers] == [1, 1, 2]
    held = [id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in learner.parameters() if p.requires_grad}


def test_a_gradient_that_is_no_number_stops_the_run_or_the_step(make_learner: Callable[..., VMIL]) -> None:
    batch = make_batch()
    batch.action[2, 0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="model loss is not finite at update 0"):
        make_learner().training_step(batch, 0)
    learner = make_learner("training.skip_nonfinite=true")
    before = snapshot(learner.world_model)
    learner.fit_model(batch)
    assert not changed(learner.world_model, before)


def test_a_resumed_run_learns_at_the_configured_rates(make_learner: Callable[..., VMIL]) -> None:
    learner = make_learner(
        "behaviour.actor_lr=0.25", "behaviour.actor_beta=0.25", "behaviour.critic_lr=0.125", "world_model.eps=0.5"
    )
    for optimizer in learner.optimizers():
        for group in optimizer.param_groups:  # as a checkpoint brings them
            group.update(lr=9.0, eps=9.0, betas=(0.5, 0.5))
    learner.on_train_start()
    model, _, behaviour = learner.optimizers()
    assert [group["lr"] for group in behaviour.param_groups] == [0.25, 0.125]
    assert model.param_groups[0]["eps"] == 0.5
    assert behaviour.param_groups[0]["betas"] == (0.25, 0.999)


def test_each_part_has_its_own_epsilon_and_clip(
    make_learner: Callable[..., VMIL], monkeypatch: pytest.MonkeyPatch
) -> None:
    sections = ("world_model", "discriminator", "behaviour")
    asked = [f"{name}.{key}={0.5 / 2**place}" for place, name in enumerate(sections) for key in ("eps", "clip")]
    learner = make_learner(*asked)
    assert [{group["eps"] for group in each.param_groups} for each in learner.optimizers()] == [{0.5}, {0.25}, {0.125}]
    clips: dict[str, float] = {}
    step = learner.stepper.step

    def noting(attempt: Attempt, optimizer: Any, loss: Tensor, parts: list[Part]) -> dict[str, Tensor]:
        clips.update({part.name: part.clip for part in parts})
        return step(attempt, optimizer, loss, parts)

    monkeypatch.setattr(learner.stepper, "step", noting)
    learner.training_step(make_batch(), 0)
    assert clips == {"model": 0.5, "disc": 0.25, "actor": 0.125, "critic": 0.125}


def test_optimisers_go_by_their_names(make_learner: Callable[..., VMIL]) -> None:
    """Each name's is the one of its place among what a checkpoint stores by place."""
    learner = make_learner()
    in_order = [learner.world_model, learner.discriminator, learner.actor]
    assert list(learner.make_optimizers()) == ["model", "disc", "actor"]
    for name, part in zip(("model", "disc", "actor"), in_order, strict=True):
        before = [snapshot(other) for other in in_order]
        learner.step(name, sum(weight.square().sum() for weight in part.parameters()), [Part(name, part)])
        assert [changed(*pair) for pair in zip(in_order, before, strict=True)] == [other is part for other in in_order]
    with pytest.raises(ValueError, match="no optimiser 'critic': this learner has model, disc, actor"):
        learner.step("critic", next(learner.critic.parameters()).sum(), [Part("critic", learner.critic)])
