"""Replay: whole episodes in one uint8 TorchRL buffer, sampled as contiguous slices, checkpointed episode by episode."""

from __future__ import annotations

import logging
import shutil
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import LazyMemmapStorage, LazyTensorStorage, TensorDictReplayBuffer

from vmil.data.episode_files import check_manifest, episode_file, numbers_stored
from vmil.data.indexed import gather_windows
from vmil.data.slices import EpisodeSlices, EpisodeSpan, EpisodeWriter
from vmil.data.tensor_files import read_tensors, tensor_digest, write_tensors
from vmil.data.transition import Window, stack_windows
from vmil.errors import UserError

KEYS = ("image", "action", "reward", "episode", "t", "is_first", "terminated")  # and "proprio", where the task has one
KEPT_CHECKPOINTS = 8  # episodes that the last 8 name stay on disk; of the checkpoints only two do

logging.getLogger("torchrl").setLevel(logging.WARNING)  # its storages announce their shapes


class Replay:
    """The episodes of one source, agent or expert; the oldest leave first, whole.

    capacity: agent steps that fit. seed: of the sampler's own generator. scratch: a directory to keep the steps in, for
    machines without the memory; it is emptied first. device: where to keep them instead, and make batches of them; what
    is drawn, and what a checkpoint holds, is the same wherever they lie. Stored per step: image (H, W, 3) uint8, action
    (A,) float32, reward () float32, episode and t () int64, is_first and terminated () bool and, where the task has
    one, proprio (P,) float32.
    """

    def __init__(
        self,
        capacity: int,
        frames_per_step: int,
        seed: int,
        scratch: Path | None = None,
        device: torch.device | None = None,
    ) -> None:
        if scratch is not None and device is not None:
            raise ValueError("steps lie on disk or on a device, not on both")
        self.capacity, self.frames_per_step, self.scratch, self.device = capacity, frames_per_step, scratch, device
        self._writer = EpisodeWriter()
        self._generator = torch.Generator().manual_seed(seed)
        self._slices = EpisodeSlices(self._writer.spans, self._generator)
        self.buffer = TensorDictReplayBuffer(
            storage=_storage(capacity, scratch, device),
            writer=self._writer,
            generator=self._generator,
        )
        self._digests: dict[int, str] = {}
        self._written: set[int] = set()  # episodes that lie whole in the checkpoint directory
        self._needed: deque[set[int]] = deque(maxlen=KEPT_CHECKPOINTS)  # by checkpoints that were published
        self._saved: set[int] = set()  # by the one that is being made

    # ---- contents

    @property
    def spans(self) -> tuple[EpisodeSpan, ...]:
        """Which episodes are held and where, from the oldest to the newest."""
        return tuple(self._writer.spans)

    @property
    def steps(self) -> int:
        """Agent steps held now."""
        return sum(span.length for span in self.spans)

    @property
    def frames(self) -> int:
        """Environment frames held now."""
        return self.steps * self.frames_per_step

    @property
    def episodes(self) -> int:
        """Episodes held now."""
        return len(self.spans)

    def memory_bytes(self) -> int:
        """Bytes of the filled part."""
        return 0 if not self.spans else self.steps * sum(value[0].nbytes for value in self._steps.values())

    def extend(self, episode: TensorDictBase) -> None:
        """Adds one whole episode (time,) and evicts the oldest if there is no room.

        Raises ValueError if an action is not finite, or the episode is longer than the capacity.
        """
        if not bool(torch.isfinite(episode.get("action")).all()):
            raise ValueError(f"episode {int(episode.get('episode')[0])} holds an action that is NaN or infinite")
        if "terminated" not in set(episode.keys()):  # as in demonstrations
            episode = episode.copy().set("terminated", torch.zeros(len(episode), dtype=torch.bool))
        keys = (*KEYS, "proprio") if "proprio" in set(episode.keys()) else KEYS
        self.buffer.extend(episode.select(*keys))

    @property
    def _steps(self) -> TensorDictBase:
        """Everything allocated, (capacity,); reading the storage through TorchRL would gather it."""
        return self.buffer.storage._storage

    def _read(self, span: EpisodeSpan) -> dict[str, Tensor]:
        """An episode as the host holds it: files and digests do not tell where it lay."""
        steps = self._steps[span.start : span.start + span.length]
        return {key: value.cpu() for key, value in steps.items()}

    # ---- sampling

    def windows(
        self, count: int, length: int, openings: float = 0.0, lead: int = 0, ends: bool = False
    ) -> list[Window]:
        """`count` slices of `length` steps inside one episode, the share `openings` at its start; copies no pixel.

        lead, ends: whether and how far slices may reach beyond their episode, see `EpisodeSlices.draw`.
        """
        spans = self.spans
        rows, offsets = self._slices.draw(count, length, openings, lead, ends)
        return [self._window(spans[row], at, length) for row, at in zip(rows.tolist(), offsets.tolist(), strict=True)]

    def _window(self, span: EpisodeSpan, offset: int, length: int) -> Window:
        first = max(0, offset)
        return Window(self._steps, span.start + first, first - offset, max(0, offset + length - span.length))

    def stack(
        self, windows: Sequence[Window], length: int, keys: Sequence[str], pinned: bool = False
    ) -> dict[str, Tensor]:
        """The slices' steps, (T, B, ...) and contiguous, made where this replay lies; others' must lie there too.

        pinned: with the host, in page-locked memory.
        """
        if self.device is None:
            return stack_windows(windows, length, keys, pinned)
        return gather_windows(windows, length, keys)

    def sample(self, batch: int, length: int) -> TensorDict:
        """Slices (B, T, ...) whose memory is time-major: transposing to (T, B, ...) is free."""
        windows = self.windows(batch, length)
        stacked = self.stack(windows, length, list(self._steps.keys()))
        return TensorDict({key: value.transpose(0, 1) for key, value in stacked.items()}, [batch, length])

    # ---- checkpoint

    def save(self, directory: Path) -> None:
        """Writes the episodes that `directory` does not hold yet; `commit` follows once the checkpoint is there."""
        for span in self.spans:
            if span.episode not in self._written:
                write_tensors(episode_file(directory, span.episode), self._read(span), self._digest(span))
                self._written.add(span.episode)
        self._saved = {span.episode for span in self.spans}

    def commit(self, directory: Path) -> None:
        """Deletes the episodes that no recent checkpoint needs: the one that `save` was called for is published.

        Not before: checkpoints that fail, however many in a row, leave the last good one everything it names.
        """
        self._needed.append(self._saved)
        for episode in numbers_stored(directory) - set().union(*self._needed):  # leftovers of a killed process too
            with suppress(OSError):  # tried again with the next checkpoint
                episode_file(directory, episode).unlink(missing_ok=True)
            self._written.discard(episode)

    def state_dict(self) -> dict[str, Any]:
        """Small: what lies where, its digests, and the sampler's random state."""
        return {
            "shelves": [{**asdict(span), "digest": self._digest(span)} for span in self.spans],
            "cursor": self._writer.cursor,
            "capacity": self.capacity,
            "generator": self._generator.get_state(),
        }

    def load(self, directory: Path, manifest: dict[str, Any]) -> None:
        """Restores what `save` wrote and `state_dict` described; only files that it lists are read.

        Everything lies where it was if the capacity is the same, else it is laid out anew from the oldest on.
        Raises UserError if a file is missing, corrupt or not the one that was saved.
        """
        check_manifest(manifest)
        in_place = manifest["capacity"] == self.capacity
        self._writer.clear()
        self._digests.clear()
        for entry in manifest["shelves"]:
            path = episode_file(directory, entry["episode"])
            tensors = read_tensors(path, entry["digest"])
            if any(len(tensor) != entry["length"] for tensor in tensors.values()):
                raise UserError(f"{path} is not the episode that the checkpoint lists")
            if in_place:
                self._writer.cursor = entry["start"]
            self.extend(TensorDict(tensors, [entry["length"]]))
            self._digests[entry["episode"]] = entry["digest"]
        if in_place:
            self._writer.cursor = manifest["cursor"]
        self._generator.set_state(manifest["generator"])
        self._written = {entry["episode"] for entry in manifest["shelves"]}
        # the checkpoint before this one may need others
        self._needed.extend((numbers_stored(directory), set(self._written)))

    def generator_state(self) -> Tensor:
        """The sampler's random state."""
        return self._generator.get_state()

    def set_generator_state(self, state: Tensor) -> None:
        """Continues the draws where `generator_state` was taken."""
        self._generator.set_state(state)

    def close(self) -> None:
        """Removes the scratch directory, if there is one."""
        if self.scratch is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def _digest(self, span: EpisodeSpan) -> str:
        if span.episode not in self._digests:
            self._digests[span.episode] = tensor_digest(self._read(span))
        return self._digests[span.episode]


def _storage(capacity: int, scratch: Path | None, device: torch.device | None) -> LazyTensorStorage:
    """The host's memory is reserved as a whole but taken only as episodes come in; so is the disk, in sparse files.

    A GPU's is taken with the first episode.
    """
    if scratch is None:
        return LazyTensorStorage(capacity, device="cpu" if device is None else device)
    shutil.rmtree(scratch, ignore_errors=True)
    # auto_cleanup installs signal handlers that end the process before a checkpoint can be written
    return LazyMemmapStorage(capacity, scratch_dir=scratch, auto_cleanup=False)
