"""Training steps that are recorded once on the device and then replayed as one launch.

On a GPU an update is thousands of small kernels, and Python cannot launch them as fast as they run. A CUDA graph holds
them all: forward, backward and optimisers. What it asks of a step is that nothing in it waits for the device, that its
shapes are fixed, and that whatever changes from call to call is read from tensors that stay where they are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from vmil.config.schema import Config
from vmil.data.transition import Batch
from vmil.errors import UserError

log = logging.getLogger(__name__)

Scheduled = Mapping[str, Tensor | float]  # numbers that change from update to update
Readings = Mapping[str, Tensor | float]  # metrics of one update
Step = Callable[[Batch, Scheduled], Readings]

WARM_UP = 3  # eager steps before recording, in which libraries choose kernels and optimisers make their state


class Recorder(Protocol):
    """A way to record work on a device."""

    def warm(self, work: Callable[[], None]) -> None:
        """Does the work as it will be recorded, without recording it."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Records the work without doing it; returns a function that does it."""


class CudaRecorder:
    """CUDA graphs, which share one pool of memory since only one of them runs at a time."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def warm(self, work: Callable[[], None]) -> None:
        """Does the work on the stream that will record it."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            work()
        torch.cuda.current_stream().wait_stream(self.stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Captures a graph; other threads (loaders, collectors) may go on using the device meanwhile."""
        graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
                work()
        except BaseException:  # ending a broken capture raises too, before this thread is back on its own stream
            torch.cuda.set_stream(before)
            with suppress(Exception):  # and before torch's allocator knows, which then fails to give memory back
                torch._C._cuda_endAllocateToPool(self.stream.device_index, self.pool)
            raise
        replay: Callable[[], None] = graph.replay
        return replay


@dataclass
class _Recording:
    """One shape of batch and kind of step: where its steps read from and write to."""

    batch: Batch
    scheduled: dict[str, Tensor]
    warmed: int = 0
    replay: Callable[[], None] | None = None
    names: list[str] = field(default_factory=list)  # of the metrics in `values`
    values: Tensor | None = None
    constants: dict[str, float] = field(default_factory=dict)


class RecordedStep:
    """A step, recorded per shape of batch and kind of step after `WARM_UP` eager ones; a call is exactly one step."""

    def __init__(self, step: Step, recorder: Recorder) -> None:
        self.step, self.recorder = step, recorder
        self.recordings: dict[tuple[object, ...], _Recording] = {}

    def __call__(self, batch: Batch, scheduled: Mapping[str, float], kind: Hashable = None) -> Readings:
        """One step on the batch, which is copied to where the recording of that kind of step reads it.

        Raises:
            UserError: it cannot be recorded. A capture that broke leaves torch's allocator in a state in which nothing
                should go on, eagerly or not.
        """
        recording = self._take_in(batch, scheduled, kind)
        if recording.replay is None:
            if recording.warmed < WARM_UP:
                recording.warmed += 1
                readings: dict[str, Tensor | float] = {}
                self.recorder.warm(lambda: readings.update(self.step(recording.batch, recording.scheduled)))
                return readings
            try:
                recording.replay = self.recorder.record(lambda: self._work(recording))
            except RuntimeError as error:
                cause = error.__context__ or error  # the step's own failure, not that of ending its recording
                log.error("an update could not be recorded: %s", cause)  # should ending the run fail too
                raise UserError(
                    f"updates cannot be recorded as CUDA graphs here ({cause}): set compute.graphs to never"
                ) from error
        recording.replay()
        if recording.values is None:
            return recording.constants
        return recording.constants | dict(zip(recording.names, recording.values.clone().unbind(), strict=True))

    def _take_in(self, batch: Batch, scheduled: Mapping[str, float], kind: Hashable) -> _Recording:
        tensors = batch.tensors()
        key = (kind, batch.num_experts, *((name, tensor.shape, tensor.dtype) for name, tensor in tensors.items()))
        recording = self.recordings.get(key)
        if recording is None:
            copies: dict[str, Any] = {name: tensor.clone() for name, tensor in tensors.items()}
            own = replace(batch, **copies)
            device = batch.action.device
            recording = _Recording(
                own, {name: torch.full((), value, device=device) for name, value in scheduled.items()}
            )
            self.recordings[key] = recording
            return recording
        for name, place in recording.batch.tensors().items():
            place.copy_(tensors[name], non_blocking=True)
        for name, value in scheduled.items():
            recording.scheduled[name].fill_(value)
        return recording

    def _work(self, recording: _Recording) -> None:
        readings = self.step(recording.batch, recording.scheduled)
        tensors = {name: value.float() for name, value in readings.items() if isinstance(value, Tensor)}
        recording.constants = {name: value for name, value in readings.items() if not isinstance(value, Tensor)}
        recording.names, recording.values = list(tensors), torch.stack(list(tensors.values())) if tensors else None


def use_graphs(config: Config, device: torch.device) -> bool:
    """Whether updates are recorded; UserError if they must be and cannot."""
    if config.compute.graphs == "always" and device.type != "cuda":
        raise UserError(f"compute.graphs=always needs CUDA, and this run computes on {device.type}: set it to auto")
    return config.compute.graphs != "never" and device.type == "cuda" and alone(config)


def alone(config: Config) -> bool:
    """Whether no other process learns with this one."""
    return config.compute.devices * config.compute.nodes == 1
