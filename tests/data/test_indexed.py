"""Slices read by index are the slices copied one by one, padded ones too; and a replay on a device is that replay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from counting_run import digests
from hypothesis import given, settings
from hypothesis import strategies as st
from tensordict import TensorDict
from test_replay import episode, filled
from torchrl.data import LazyTensorStorage

from vmil.data.indexed import gather_windows, step_indices
from vmil.data.replay import Replay
from vmil.data.transition import Window, stack_windows

CPU, META = torch.device("cpu"), torch.device("meta")
SIZE = 40


def store(first: int) -> TensorDict:
    steps = torch.arange(first, first + SIZE)
    content = {"image": steps.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 2, 2, 3).clone(), "flag": steps % 3 == 0}
    return TensorDict(content | {"action": torch.stack([steps, -steps], -1).float()}, [SIZE])


STORES = (store(0), store(100))


@st.composite
def slices(draw: Any, length: int) -> Window:
    before = draw(st.integers(0, length - 1))
    after = draw(st.integers(0, length - 1 - before))
    start = draw(st.integers(0, SIZE - (length - before - after)))
    return Window(STORES[draw(st.integers(0, 1))], start, before, after)


@settings(deadline=None)
@given(st.data(), st.integers(1, 8), st.integers(1, 6))
def test_read_by_index_or_copied_one_by_one(data: st.DataObject, length: int, count: int) -> None:
    """Whatever is padded, and in whatever order the stores come."""
    windows = [data.draw(slices(length)) for _ in range(count)]
    keys = ["image", "action", "flag"]
    copied, read = stack_windows(windows, length, keys), gather_windows(windows, length, keys)
    assert list(read) == keys
    for key in keys:
        assert torch.equal(read[key], copied[key])
        assert read[key].dtype == copied[key].dtype
        assert read[key].is_contiguous()
        assert read[key].shape[:2] == (length, count)


def test_indices_by_hand() -> None:
    windows = [Window(STORES[0], 7), Window(STORES[0], 0, before=2), Window(STORES[0], 30, before=1, after=2)]
    assert step_indices(windows, 4).T.tolist() == [[7, 8, 9, 10], [0, 0, 0, 1], [30, 30, 30, 30]]


def test_what_is_read_is_a_copy() -> None:
    gather_windows([Window(STORES[0], 3)], 4, ["action"])["action"].fill_(-1)
    assert torch.equal(STORES[0]["action"], store(0)["action"])


# ---- a replay on a device -----------------------------------------------------------------------------------------


def test_on_a_device_the_same_is_drawn() -> None:
    host, device = filled([12, 4, 7, 30]), filled([12, 4, 7, 30], device=CPU)
    for each in (host, device):
        each.extend(episode(4, 50).set("terminated", torch.arange(50) == 49))  # the first ones leave
    assert (host.sample(20, 3) == device.sample(20, 3)).all()
    assert device.sample(4, 3)["image"].transpose(0, 1).is_contiguous()
    host.sample(4, 3)
    keys = ["image", "action", "t", "terminated"]
    padded = [each.stack(each.windows(200, 4, 0.3, lead=2, ends=True), 4, keys) for each in (host, device)]
    assert (padded[0]["t"][0] == padded[0]["t"][1]).any()  # some do reach beyond their episode
    assert all(torch.equal(padded[0][key], padded[1][key]) for key in keys)
    assert torch.equal(host.generator_state(), device.generator_state())
    assert host.memory_bytes() == device.memory_bytes()


@pytest.mark.parametrize("places", [(None, CPU), (CPU, None)], ids=["host to device", "device to host"])
def test_a_checkpoint_does_not_tell_where_the_replay_lay(tmp_path: Path, places: tuple[Any, Any]) -> None:
    written = []
    for name, place in zip(("first", "second"), places, strict=True):
        buffer = filled([20] * 6, device=place)
        buffer.sample(5, 3)
        buffer.save(tmp_path / name)
        written.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert written[0] == written[1]
    buffer, other = filled([20] * 6, device=places[0]), Replay(100, 2, 99, device=places[1])
    other.load(tmp_path / "first", buffer.state_dict())
    assert digests(other) == digests(buffer)
    assert (other.sample(10, 3) == buffer.sample(10, 3)).all()


def test_steps_are_kept_and_batches_made_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device, which every machine has, holds no numbers: shapes and places are all that can be seen."""
    written: list[torch.device] = []  # where the steps that the storage was given lay, and the positions they go to
    monkeypatch.setattr(LazyTensorStorage, "_set_last_cursor", lambda _, cursor: written.append(cursor.device))
    buffer = filled([20] * 6, device=META)
    assert written == [META] * 6  # a GPU takes none from the host
    assert [span.episode for span in buffer.spans] == [1, 2, 3, 4, 5]
    assert all(steps.device == META for steps in buffer._steps.values())
    stacked = buffer.stack(buffer.windows(7, 5), 5, ["image", "reward"])
    assert stacked["image"].device == stacked["reward"].device == META
    assert (stacked["image"].shape, stacked["reward"].shape) == ((5, 7, 4, 4, 3), (5, 7))
    with pytest.raises(NotImplementedError, match="no data"):  # what is saved is fetched from there
        digests(buffer)


def test_on_disk_and_on_a_device_at_once_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not on both"):
        Replay(100, 2, 0, tmp_path / "scratch", CPU)
