"""Alignment on hand-made tensors: previous actions, NaN poison, one copy into time-major memory."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensordict import TensorDict

from vmil.data.transition import Batch, Window, previous_actions, stack_windows


def test_previous_actions_by_hand() -> None:
    action = torch.tensor([[[1.0], [5.0]], [[2.0], [6.0]], [[3.0], [7.0]]])  # (3, 2, 1)
    is_first = torch.tensor([[False, False], [False, True], [True, False]])
    previous = previous_actions(action, is_first)
    assert previous[..., 0].tolist() == [[0.0, 0.0], [1.0, 0.0], [0.0, 6.0]]


def test_an_action_that_must_not_be_read_may_be_nan() -> None:
    action = torch.ones(4, 1, 2)
    action[3] = torch.nan  # the last one: what it led to is not in the slice
    action[1] = torch.nan  # an episode's last one: the next step opens another
    is_first = torch.tensor([[True], [False], [True], [False]])
    assert torch.isfinite(previous_actions(action, is_first)).all()


def test_an_action_that_is_read_is_not_hidden() -> None:
    action = torch.ones(3, 1, 1)
    action[0] = torch.nan
    assert previous_actions(action, torch.tensor([[True], [False], [False]]))[1].isnan().all()


@settings(deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(1, 10))
def test_stack_copies_the_windows_time_major(starts: list[int], length: int) -> None:
    store = TensorDict({"x": torch.arange(40), "y": torch.arange(80.0).view(40, 2)}, [40])
    stacked = stack_windows([Window(store, start) for start in starts], length, ["x", "y"])
    assert stacked["x"].tolist() == [[start + t for start in starts] for t in range(length)]
    assert stacked["y"].shape == (length, len(starts), 2)
    assert stacked["y"].is_contiguous()
    stacked["x"].fill_(-1)
    assert store["x"].tolist() == list(range(40))  # a copy, not a view


@pytest.mark.parametrize("optional", [None, torch.zeros(2, 3, 4)])
def test_moving_a_batch_keeps_everything(optional: torch.Tensor | None) -> None:
    flag = torch.zeros(2, 3, dtype=torch.bool)
    batch = Batch(torch.zeros(2, 3, 4, 4, 3), optional, torch.zeros(2, 3, 1), flag, flag, num_experts=1)
    assert batch.to("cpu").image is batch.image  # it is there already
    names = {"image", "action", "is_first", "terminated"} | ({"proprio"} if optional is not None else set())
    assert set(batch.tensors()) == names
    moved = batch.to("meta")
    assert {name for name, tensor in moved.tensors().items() if tensor.is_meta} == names
    assert moved.num_experts == 1
    assert moved.reward is None
    assert (moved.proprio is None) == (optional is None)
