"""A recorded update is the update: it is recorded here as a tape of tensor operations, which CUDA graphs also are."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from tape import TapeRecorder

from vmil.config.load import load_config
from vmil.data.pace import Pace
from vmil.data.transition import Batch
from vmil.errors import NonFiniteError, UserError
from vmil.learner.graphs import WARM_UP, use_graphs
from vmil.learner.module import ImitationModule
from vmil.learner.nonfinite import PATIENCE, LeftOut, Skip
from vmil.learner.stepping import Part, clip_and_step
from vmil.training.vmil import VMIL

T, B, EXPERTS, A = 6, 4, 2, 3
SMALL = ("env=counting", "compute=debug", "training.batch_length=6", "behaviour.horizon=3", "behaviour.dream_starts=5")


def make_batch(seed: int, experts: int = EXPERTS) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        image=torch.randint(0, 256, (T, B, 64, 64, 3), dtype=torch.uint8, generator=generator),
        proprio=None,
        action=torch.rand(T, B, A, generator=generator) * 2 - 1,
        is_first=torch.rand(T, B, generator=generator) < 0.2,
        terminated=torch.zeros(T, B, dtype=torch.bool),
        num_experts=experts,
    )


@pytest.fixture
def make_learner(monkeypatch: pytest.MonkeyPatch) -> Callable[..., VMIL]:
    """A learner that trains without a Trainer."""

    def make(*overrides: str) -> VMIL:
        torch.manual_seed(0)
        learner = VMIL(load_config([*SMALL, *overrides]), A, 0)
        learner.clock = Pace(learner.config)
        optimizers = learner.configure_optimizers()
        object.__setattr__(learner, "optimizers", lambda: optimizers)
        object.__setattr__(learner, "manual_backward", lambda loss: loss.backward())
        return learner

    return make


def test_a_learner_that_cannot_learn_is_not_made() -> None:
    with pytest.raises(TypeError, match="abstract method"):
        ImitationModule(load_config(SMALL))  # type: ignore[abstract]


@pytest.mark.parametrize(
    "options",
    [
        ["algo=vmil"],
        ["algo=vmil", "discriminator.noise=annealed", "behaviour.normalise=returns", "world_model.latent=categorical"],
        ["algo=vmil", "discriminator.spectral_norm=true", "discriminator.updates=2", "behaviour.actor_average=0.1"],
        ["algo=vmil_released"],
        ["algo=vmil_plus", "behaviour.cloning_decay_updates=2"],
        ["algo=vmil_plus", "discriminator.prior_next_state=true", "discriminator.replay_negatives=true"],
    ],
    ids=" ".join,
)
def test_recorded_updates_are_the_plain_ones(make_learner: Callable[..., VMIL], options: list[str]) -> None:
    """Weights, buffers and metrics after replays on changing batches, of both shapes that a run has."""
    results, recorder = [], TapeRecorder()
    for recorded in (False, True):
        learner = make_learner(*options)
        if recorded:
            learner.record_with(recorder)
        torch.manual_seed(1)
        for update in range(WARM_UP + 3):
            learner.training_step(make_batch(update), 0)
            learner.training_step(make_batch(100 + update, experts=B), 0)  # as in pre-training
        metrics = {name: value for name, value in learner.drain_metrics().items() if not name.startswith("time/")}
        results.append((learner.state_dict(), metrics))
    assert len(recorder.tapes) == 2
    (plain, plain_metrics), (again, again_metrics) = results
    torch.testing.assert_close(again, plain, rtol=1e-5, atol=1e-6)
    assert again_metrics == pytest.approx(plain_metrics, rel=1e-4, abs=1e-6)


def test_the_tape_refuses_what_a_graph_refuses() -> None:
    value = torch.ones(())
    for work in (lambda: float(value), lambda: bool(value > 0), lambda: value + torch.tensor([1.0, 2.0])):
        with pytest.raises(AssertionError, match="cannot be recorded"):
            TapeRecorder().record(work)


def test_a_step_that_cannot_be_recorded_ends_the_run_with_what_to_do(make_learner: Callable[..., VMIL]) -> None:
    """Going on eagerly would be on an allocator that still believes itself recording."""

    class Broken(TapeRecorder):
        def record(self, work: Callable[[], None]) -> Callable[[], None]:
            try:
                raise RuntimeError("the step's own failure")
            finally:
                raise RuntimeError("previous error during capture")  # as ending the capture does

    learner = make_learner("algo=vmil_plus")
    learner.record_with(Broken())
    for update in range(WARM_UP):
        learner.training_step(make_batch(update), 0)
    with pytest.raises(UserError, match=r"\(the step's own failure\): set compute.graphs to never"):
        learner.training_step(make_batch(WARM_UP), 0)


@pytest.mark.parametrize("skip", [True, False])
def test_a_recorded_gradient_that_is_no_number_moves_no_weight_and_is_told(
    make_learner: Callable[..., VMIL], skip: bool
) -> None:
    learner = make_learner("algo=vmil_plus", f"training.skip_nonfinite={str(skip).lower()}")
    told: list[Skip] = []
    learner.guard.on_skip = told.append
    learner.record_with(TapeRecorder())
    for update in range(WARM_UP + 1):
        learner.training_step(make_batch(update), 0)
    learner.drain_metrics()
    before = [weight.detach().clone() for weight in learner.world_model.parameters()]
    bad = make_batch(9)
    bad.action[2] = float("nan")
    learner.training_step(bad, 0)
    assert all(torch.equal(old, new) for old, new in zip(before, learner.world_model.parameters(), strict=True))
    if skip:
        learner.drain_metrics()
        assert learner.guard.skipped > 0
        assert "the gradient of the model loss was not finite in 1 of its steps before update" in str(told[0].error)
        learner.training_step(make_batch(10), 0)
        assert not all(torch.equal(old, new) for old, new in zip(before, learner.world_model.parameters(), strict=True))
    else:
        with pytest.raises(
            NonFiniteError, match=r"the gradient of the model loss was not finite in 1 of its steps before update"
        ):
            learner.drain_metrics()


def test_steps_that_are_judged_on_the_device_are_not_left_out_for_ever(make_learner: Callable[..., VMIL]) -> None:
    """Unrecorded too: what a GPU does, so that nobody waits for it."""
    learner = make_learner("algo=vmil_plus", "training.skip_nonfinite=true")
    learner.judge_on_device()
    bad = make_batch(9)
    bad.action[2] = float("nan")
    for update in range(PATIENCE - 1):
        learner.training_step(bad, update)
    learner.drain_metrics()
    learner.training_step(bad, PATIENCE)
    with pytest.raises(NonFiniteError, match=f"the last {PATIENCE} in a row"):
        learner.drain_metrics()


@pytest.mark.parametrize("recorded", [False, True])
def test_a_step_that_is_left_out_spoils_no_mean(make_learner: Callable[..., VMIL], recorded: bool) -> None:
    learner = make_learner("algo=vmil_plus", "training.skip_nonfinite=true")
    if recorded:
        learner.record_with(TapeRecorder())
    bad = make_batch(9)
    bad.action[2] = float("nan")
    for update in range(WARM_UP + 1):
        learner.training_step(make_batch(update), 0)
    learner.training_step(bad, 0)
    assert learner.guard.skipped == 0 if recorded else learner.guard.skipped > 0
    assert [name for name, value in learner.drain_metrics().items() if not math.isfinite(value)] == []
    learner.training_step(bad, 0)
    assert math.isnan(learner.drain_metrics()["model/loss"])


@pytest.mark.parametrize("on_device", [True, False])
def test_a_checkpoint_keeps_which_steps_were_left_out(make_learner: Callable[..., VMIL], on_device: bool) -> None:
    """Those of a round that is stopped within, and those in a row."""
    bad = make_batch(9)
    bad.action[2] = float("nan")
    checkpoint: dict[str, Any] = {}
    for learnt in (PATIENCE - 2, 2):
        learner = make_learner("algo=vmil_plus", "training.skip_nonfinite=true")
        if checkpoint:
            learner.on_load_checkpoint(checkpoint)
        if on_device:
            learner.judge_on_device()
        with pytest.raises(NonFiniteError) if checkpoint else nullcontext():
            for _ in range(learnt):
                learner.training_step(bad, 0)
            if checkpoint:
                learner.drain_metrics()
        checkpoint = {"state_dict": learner.state_dict()}
        learner.on_save_checkpoint(checkpoint)
    assert learner.guard.skipped > 0 or on_device


def test_plain_updates_judged_on_the_device_are_the_same(make_learner: Callable[..., VMIL]) -> None:
    weights = []
    for on_device in (False, True):
        learner = make_learner("algo=vmil_plus")
        if on_device:
            learner.judge_on_device()
        torch.manual_seed(1)
        for update in range(2):
            learner.training_step(make_batch(update), 0)
        weights.append(learner.state_dict())
    torch.testing.assert_close(*weights, rtol=1e-6, atol=1e-7)


def test_a_step_left_out_does_not_count_for_adam() -> None:
    layer, steps = torch.nn.Linear(2, 1), LeftOut(torch.device("cpu"))
    adam = torch.optim.Adam(layer.parameters(), fused=True)
    broken = torch.full((1, 2), float("inf"))
    for inputs, told in ((torch.ones(1, 2), [0, 0]), (broken, [1, 1]), (broken, [2, 2]), (torch.ones(1, 2), [2, 0])):
        adam.zero_grad()
        layer(inputs).sum().backward()
        clip_and_step(adam, [Part("layer", layer, 1.0)], steps.of("layer"))
        assert steps.of("layer").tolist() == told
    assert steps.read() == {"layer": (2, 0)}
    assert steps.read() == {}
    assert {int(state["step"]) for state in adam.state.values()} == {2}
    assert adam.param_groups[0]["capturable"] is False


def test_graphs_are_for_cuda() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert not use_graphs(load_config([]), cpu)
    assert not use_graphs(load_config([]), cuda)
    assert use_graphs(load_config(["compute.graphs=auto"]), cuda)
    with pytest.raises(UserError, match="computes on cpu"):
        use_graphs(load_config(["compute.graphs=always"]), cpu)
    with pytest.raises(UserError, match="computes on cpu"):  # before anything is collected
        VMIL(load_config([*SMALL, "compute.graphs=always"]), A, 0).on_fit_start()
