"""Measurements that need a process of their own: the peak of its memory, and a whole run."""

from __future__ import annotations

import contextlib
import io
import resource
import statistics
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from vmil.bench.child_process import in_own_process
from vmil.bench.report import GB, Row, Table
from vmil.bench.updates import prepared
from vmil.config.schema import Config, RunConfig, TrackingConfig
from vmil.learner.graphs import WARM_UP
from vmil.tracking.curves import read_points

NEVER = 10**9  # frames
WARM_ROUNDS = 2


def peak_memory() -> int:
    """Peak memory of this process in bytes.

    On Linux ru_maxrss includes what the parent held when it forked; VmHWM is the process's own.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@dataclass(frozen=True)
class Peak:
    """Peak memory in bytes."""

    process: int
    gpu: int | None  # what torch reserved of it; None: there is no GPU


def update_peak(config: Config, action: int, proprio: int) -> Peak:
    """Peak memory of this process after some updates, including the one that is recorded as a graph."""
    from vmil.training.assembly import prepare_torch

    prepare_torch(config)
    learner, batch = prepared(config, action, proprio)
    cuda = learner.device.type == "cuda"
    for _ in range(WARM_UP + 2 if cuda else WARM_UP):
        learner.training_step(batch, 0)
    if not cuda:
        return Peak(peak_memory(), None)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()  # what cuDNN took to try its kernels, which is as much as there is
    torch.cuda.reset_peak_memory_stats()
    for _ in range(2):
        learner.training_step(batch, 0)
    torch.cuda.synchronize()
    return Peak(peak_memory(), torch.cuda.max_memory_reserved(learner.device))


def measure_memory(table: Table, paper: dict[str, Config], run: Config, sizes: tuple[int, int]) -> None:
    """Peak memory of updates, libraries included, replay excluded."""
    action, proprio = sizes
    cases = [(name, config, 0) for name, config in paper.items()]
    cases.append((f"{run.algo} {run.training.batch_size}x{run.training.batch_length}", run, proprio))
    for name, config, vector in cases:
        peak = in_own_process(update_peak, config, action, vector)
        table.add(Row("memory", f"{name}: process", peak.process / GB, "GB", note="with libraries, without replay"))
        if peak.gpu is not None:
            table.add(Row("memory", f"{name}: GPU", peak.gpu / GB, "GB"))


@dataclass(frozen=True)
class Throughput:
    """Speed and memory of whole rounds of a run: collection, updates, logging."""

    frames: tuple[float, ...]  # a second, in each round
    updates: tuple[float, ...]
    peak: Peak


def train_rounds(config: Config, rounds: int) -> Throughput:
    """Runs `vmil train` for two rounds more than asked, in a directory that is then removed.

    The first warms up; the first checkpoint, which every run makes, falls into the second.
    """
    from vmil.algorithms import make_learner
    from vmil.training.run import train

    training = replace(
        config.training,
        frames=(rounds + WARM_ROUNDS) * config.training.frames_per_epoch,
        pretrain_updates=0,
        eval_every_frames=NEVER,
        eval_at_start=False,
        eval_episodes=1,
        checkpoint_every_frames=NEVER,
        image_log_every_frames=NEVER,
    )
    with tempfile.TemporaryDirectory(prefix="vmil-bench-") as root, contextlib.redirect_stderr(io.StringIO()):
        place, tracking = RunConfig(root=root, name="bench"), TrackingConfig(kind="csv")
        run_dir = train(replace(config, training=training, run=place, tracking=tracking), make_learner)
        points = list(read_points(run_dir))
    frames, updates = (
        tuple(point.value for point in points if point.name == name)[WARM_ROUNDS:]
        for name in ("rate/frames", "rate/updates")
    )
    gpu = torch.cuda.max_memory_reserved() if torch.cuda.is_available() else None
    return Throughput(frames, updates, Peak(peak_memory(), gpu))


def measure_end_to_end(table: Table, run: Config, rounds: int) -> None:
    """Frames and updates per second of the run as configured, and its memory.

    A run whose workers play while it learns is also run by turns, to say how much faster it is.
    """
    overlapping = run.collector.overlap
    speed = in_own_process(train_rounds, run, rounds)
    training, what = run.training, f"{run.algo}, overlapping" if overlapping else run.algo
    note = f"rounds of {training.frames_per_epoch:,} frames and {training.updates_per_epoch} updates"
    _add_rates(table, what, speed, note)
    table.add(Row("end_to_end", f"{what}: process", speed.peak.process / GB, "GB", note="with its replay so far"))
    if speed.peak.gpu is not None:
        table.add(Row("end_to_end", f"{what}: GPU", speed.peak.gpu / GB, "GB", note="with the search for kernels"))
    if overlapping:
        turns = in_own_process(train_rounds, replace(run, collector=replace(run.collector, overlap=False)), rounds)
        faster = statistics.median(speed.frames) / statistics.median(turns.frames)
        _add_rates(table, f"{run.algo}, by turns", turns, f"overlapping is {faster:.2f} times as fast")


def _add_rates(table: Table, what: str, speed: Throughput, note: str) -> None:
    for unit, values in (("frames", speed.frames), ("updates", speed.updates)):
        row = Row("end_to_end", f"{what}: {unit}", statistics.median(values), "1/s", min(values), max(values))
        table.add(replace(row, repeats=len(values), note=note))
        note = ""
