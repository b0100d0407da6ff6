"""Where replay and demonstrations lie: on the GPU, if there is one and they fit; and that a run there is the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from counting_run import CountingPolicy, digests

from vmil.config.learners import settle
from vmil.config.schema import Config, ReplayPlace
from vmil.data import footprint
from vmil.data.datamodule import VMILDataModule
from vmil.data.footprint import Footprint
from vmil.data.place import computes_on_gpu, fits, replay_device
from vmil.data.transition import Batch
from vmil.errors import UserError

GIB = 2**30
NEEDED = Footprint(replay_bytes=2 * GIB, demo_bytes=GIB)


@pytest.mark.parametrize(
    ("wish", "needed", "free", "answer"),
    [
        ("auto", 3, 10, True),
        ("auto", 3, 9, False),  # a third and no more
        ("auto", 3, None, False),
        ("host", 3, 10**6, False),
        ("host", 3, None, False),
        ("device", 9, 10, True),
        ("device", 10, 10, True),
    ],
)
def test_what_fits(wish: ReplayPlace, needed: int, free: int | None, answer: bool) -> None:
    assert fits(wish, needed, free) is answer


def test_what_must_and_cannot_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"^compute\.replay=device needs CUDA, and this run computes on no GPU: set it"):
        fits("device", 1, None)
    with pytest.raises(UserError, match=r"of 3\.0 GiB do not fit into 2\.0 GiB of free GPU memory: lower training\.re"):
        fits("device", 3 * GIB, 2 * GIB)


class Gpus:
    """A node's, each with as many GiB free as its number plus ten; which of them were asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[torch.device] = []
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "mem_get_info", self.memory)

    def memory(self, device: torch.device) -> tuple[int, int]:
        self.asked.append(device)
        return (10 + device.index) * GIB, 80 * GIB


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Gpus:
    return Gpus(monkeypatch)


def test_a_run_alone_takes_the_first_gpu(config: Config, gpus: Gpus) -> None:
    assert computes_on_gpu(config)
    assert replay_device(config, NEEDED) == torch.device("cuda", 0)
    config.compute.replay = "host"
    assert replay_device(config, NEEDED) is None
    config.compute.replay, config.compute.device = "auto", "cpu"
    assert replay_device(config, NEEDED) is None
    assert gpus.asked == [torch.device("cuda", 0)]  # neither the host's nor a processor's run wakes it


def test_every_rank_asks_its_own_gpu_alone(config: Config, gpus: Gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    config.compute.devices = 4
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert replay_device(config, NEEDED) == torch.device("cuda", 3)
    larger = Footprint(replay_bytes=4 * GIB, demo_bytes=GIB)
    assert replay_device(config, larger) is None  # 5 of 13
    assert gpus.asked == [torch.device("cuda", 3)] * 2


def test_on_the_processor_a_device_is_refused_before_anything_is_opened(config: Config) -> None:
    config.compute.device, config.compute.replay = "cpu", "device"
    with pytest.raises(UserError, match="needs CUDA"):
        VMILDataModule(config)


# ---- a run whose replay lies there --------------------------------------------------------------------------------


def module(config: Config, directory: Path | None = None) -> VMILDataModule:
    data = VMILDataModule(config, CountingPolicy(), directory)
    data.setup()
    return data


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor plays the device: replay and batches take the way that they take on a GPU."""
    monkeypatch.setattr("vmil.data.datamodule.replay_device", lambda *_: torch.device("cpu"))


def assert_same(batches: list[Batch], others: list[Batch]) -> None:
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert batch.num_experts == other.num_experts
        for name in ("image", "proprio", "action", "is_first", "terminated"):
            mine, theirs = getattr(batch, name), getattr(other, name)
            assert torch.equal(mine, theirs), name
            assert mine.is_contiguous()


@pytest.mark.parametrize("learner", ["vmil", "sqil_drq"])
def test_its_batches_are_those_of_a_replay_with_the_host(
    config: Config, learner: str, request: pytest.FixtureRequest
) -> None:
    """Sequences, and stacks of frames that reach beyond their episodes."""
    config.learner, config.env.proprio = learner, True  # type: ignore[assignment]
    settle(config)
    host = module(config)
    request.getfixturevalue("on_device")
    device = module(config)
    assert host.place is None
    assert host.replay.device is None
    assert device.replay.device == device.demos.replay.device == device.place
    for _ in range(3):
        assert_same(list(device.epoch()), list(host.epoch()))
    assert digests(device.replay) == digests(host.replay)
    for data in (host, device):
        data.close()


def test_a_run_may_move_there_when_it_is_resumed(
    config: Config, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    whole, first = module(config), module(config, tmp_path / "replay")
    got = [batch for _ in range(2) for batch in first.epoch()]
    state = first.state_dict()
    first.close()
    request.getfixturevalue("on_device")
    second = module(config, tmp_path / "replay")
    second.load_state_dict(state)
    assert torch.equal(second.peek().image, second.peek().image)
    got += second.epoch()
    wanted = [batch for _ in range(3) for batch in whole.epoch()]
    assert [torch.equal(*pair) for pair in zip([b.image for b in got], [b.image for b in wanted], strict=True)] == [
        True
    ] * 8
    for data in (whole, second):
        data.close()


def test_there_it_takes_nothing_of_the_host(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(footprint, "available_memory", lambda: 0)
    with pytest.raises(UserError, match="does not fit"):
        module(config)
    request.getfixturevalue("on_device")
    data = module(config, tmp_path / "replay")
    assert data.replay.scratch is None
    data.close()
