"""The updates' batches: drawn when they are asked for or, where they have to travel, one ahead in a thread."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import NamedTuple

from torch import Tensor

from vmil.config.schema import Config
from vmil.data.mixing import mixed_batch
from vmil.data.place import computes_on_gpu
from vmil.data.replay import Replay
from vmil.data.transition import Batch


class _Ahead(NamedTuple):
    num_experts: int
    before: list[Tensor]  # the sources' random states without this draw
    batch: Future[Batch]


class Draws:
    """Draws from demonstrations and replay, whose random states advance with the batches taken, and no further.

    pinned: batches lie in page-locked memory. ahead: `begin` draws in a thread; without, it does nothing. Whoever reads
    or sets the sources' random states, or changes what they hold, must call `discard` first.
    """

    def __init__(self, config: Config, demos: Replay, replay: Replay, pinned: bool, ahead: bool) -> None:
        self._config, self._sources, self._pinned = config, (demos, replay), pinned
        self._thread = ThreadPoolExecutor(1, "draws") if ahead else None  # which it starts when it is first needed
        self._ahead: _Ahead | None = None

    def take(self, num_experts: int) -> Batch:
        """A batch whose first `num_experts` columns are demonstrations and the others replay.

        Raises what drawing it raised, in whichever thread.
        """
        if self._ahead is None or self._ahead.num_experts != num_experts:
            self.discard()
            return self._draw(num_experts)
        batch = self._ahead.batch.result()
        self._ahead = None  # only now: whoever is interrupted while waiting can still take it back
        return batch

    def begin(self, num_experts: int) -> None:
        """Draws ahead what the next `take` of as many experts returns; only if nothing in between would change it."""
        if self._thread is None or self._ahead is not None:
            return
        self._ahead = _Ahead(num_experts, self._states(), self._thread.submit(self._draw, num_experts))

    def discard(self) -> None:
        """Undoes the draw ahead: the same batch is drawn again when it is asked for."""
        if self._ahead is not None:
            wait([self._ahead.batch])
            self._set_states(self._ahead.before)
            self._ahead = None

    def peek(self, num_experts: int) -> Batch:
        """A batch like the next one, without changing any of those to come."""
        self.discard()
        states = self._states()
        try:
            return self._draw(num_experts)
        finally:
            self._set_states(states)

    def close(self) -> None:
        """Undoes the draw ahead and ends the thread; batches can still be taken."""
        self.discard()
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    def _draw(self, num_experts: int) -> Batch:
        return mixed_batch(self._config, *self._sources, num_experts, self._pinned)

    def _states(self) -> list[Tensor]:
        return [source.generator_state() for source in self._sources]

    def _set_states(self, states: list[Tensor]) -> None:
        for source, state in zip(self._sources, states, strict=True):
            source.set_generator_state(state)


def make_draws(config: Config, demos: Replay, replay: Replay) -> Draws:
    """What suits the machine: batches that have to travel to a GPU are pinned and drawn ahead.

    Elsewhere there is nothing to gain: on a CPU the cores are busy learning, on the device a draw is one launch.
    """
    travels = replay.device is None and computes_on_gpu(config)
    return Draws(config, demos, replay, pinned=travels, ahead=travels)
