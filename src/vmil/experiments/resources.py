"""How many runs this machine carries at once, and with how many threads each."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from vmil.config.schema import Config
from vmil.data.footprint import filled, step_bytes
from vmil.data.place import fits
from vmil.envs.tasks import is_single
from vmil.errors import UserError
from vmil.experiments.grid import Cell
from vmil.system.cuda import takes_gpu
from vmil.system.machine import allowed_cores, available_memory

GIB = 1024**3
DEMOS = 50  # demonstrations of a run that takes all there are, at most: no task ships more
PROCESS_BYTES = 2 * GIB  # one learning process without its replay: networks, optimisers, libraries; measured: 1.5 GB
WORKER_BYTES = GIB  # a process that plays: libraries, a simulator, a policy; ours, on the safe side
GPU_BYTES = 8 * GIB  # one run's share of a GPU without its replay: a guess on the safe side, for the largest preset
RUNS_PER_GPU = 4  # more of them wait for each other's kernels; ours
CORES_PER_RUN = 2  # torch gains little from more threads on networks of this size, a second run gains all


@dataclass(frozen=True)
class Gpu:
    """A GPU as CUDA_VISIBLE_DEVICES names it, and its free memory [bytes]."""

    name: str
    free: float


@dataclass(frozen=True)
class Machine:
    """What there is to share out: cores, free memory [bytes], GPUs."""

    cores: int
    memory: float
    gpus: tuple[Gpu, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Runs at once, and what each is given.

    threads: of torch, in each process that learns; gpus: what CUDA_VISIBLE_DEVICES is for the runs in turn, empty: the
    processor; devices: processes of a run that learn; workers: processes of each of them that play while it waits;
    beside: those that play while it learns; share: cores of the machine that are a run's own, 0: what it keeps busy;
    rooms: how many runs each of `gpus` carries, empty: all alike.
    """

    jobs: int
    threads: int
    gpus: tuple[str, ...] = ()
    devices: int = 1
    workers: int = 0
    beside: int = 0
    share: int = 0
    rooms: tuple[int, ...] = ()

    @property
    def cores(self) -> int:
        """Cores that a run keeps busy."""
        return self.devices * (max(self.threads, self.workers) + self.beside)


def make_plan(machine: Machine, cells: Sequence[Cell], jobs: int = 0) -> Plan:
    """Shares the machine among the cells: as many at once as cores, memory and GPUs allow, or `jobs`.

    Raises:
        UserError: a run would need several machines.
    """
    configs = [cell.config for cell in cells]
    if any(config.compute.nodes > 1 for config in configs):
        raise UserError("compute.nodes: a run on several machines is started by `srun`, not by an experiment")
    devices = max((config.compute.devices for config in configs), default=1)
    chosen = max((config.compute.threads for config in configs), default=0)  # 0: left to us
    workers = max((_workers(config) for config in configs if not config.collector.overlap), default=0)
    beside = max((_workers(config) for config in configs if config.collector.overlap), default=0)
    on_gpu = any(learns_on_gpu(config, machine) for config in configs)
    seats = _seats(machine.gpus, devices, configs) if on_gpu else []
    if any(is_single(config.env.name) for config in configs):
        if jobs > 1:
            raise UserError(f"jobs={jobs}: of a single environment, such as a real robot, only one run can go on")
        jobs = 1
    if jobs == 0:
        needed = max((memory_bytes(config) for config in configs), default=PROCESS_BYTES)
        cores = devices * (max(chosen or CORES_PER_RUN, workers) + beside)
        carried = [machine.cores // cores, int(machine.memory // needed)]
        carried += [sum(runs for _, runs in seats) if seats else RUNS_PER_GPU] if on_gpu else []
        jobs = max(1, min(carried))
    jobs = max(1, min(jobs, len(cells)))
    share = max(1, machine.cores // jobs)
    room = [(name, runs) for name, runs in seats if runs] or seats[:1]  # a GPU that others fill is left to them
    return Plan(
        jobs,
        chosen or max(1, share // devices - beside),
        tuple(name for name, _ in room),
        devices,
        workers,
        beside,
        share,
        tuple(runs for _, runs in room),
    )


def learns_on_gpu(config: Config, machine: Machine) -> bool:
    """Whether the run will take a GPU of this machine."""
    return takes_gpu(config.compute.device, lambda: bool(machine.gpus))


def _seats(gpus: Sequence[Gpu], devices: int, configs: Sequence[Config]) -> list[tuple[str, int]]:
    """Groups of `devices` GPUs and how many of the runs each carries at once; one on several has them to itself."""
    if devices == 1:
        needed = [GPU_BYTES + max((_replay_on(gpu, config) for config in configs), default=0.0) for gpu in gpus]
        return [(gpu.name, min(RUNS_PER_GPU, int(gpu.free // run))) for gpu, run in zip(gpus, needed, strict=True)]
    free = [gpu.name for gpu in gpus if gpu.free >= GPU_BYTES]
    return [(",".join(free[start : start + devices]), 1) for start in range(0, len(free) - devices + 1, devices)]


def _workers(config: Config) -> int:
    """Processes that play on the run's own machine; Ray counts its workers itself."""
    return config.collector.workers if config.collector.backend == "process" else 0


def _evaluates_apart(config: Config) -> bool:
    """Whether the run may have a process for its evaluations, as far as is known before the cores are shared out."""
    when = "never" if is_single(config.env.name) else config.training.background_evaluation
    return when == "always" or (when == "auto" and (config.compute.device != "cpu" or config.compute.threads > 0))


def memory_bytes(config: Config) -> float:
    """What one run holds at its end: its processes, and every frame that it stores, agent's and expert's."""
    processes = PROCESS_BYTES + _workers(config) * WORKER_BYTES
    return config.compute.devices * processes + _evaluates_apart(config) * WORKER_BYTES + _data_bytes(config)


def _data_bytes(config: Config) -> int:
    """Replay and demonstrations of all its devices, but for actions and vectors, whose sizes a simulator would say."""
    data = filled(config, step_bytes(config.env.image_size), config.demos.count or DEMOS)
    return config.compute.devices * data.replay_bytes + data.demo_bytes


def _replay_on(gpu: Gpu, config: Config) -> float:
    """What the run's replay takes of a GPU that it finds as free as it is now, as runs that begin at once do."""
    wish, needed = config.compute.replay, _data_bytes(config)
    return needed if wish == "device" or fits(wish, needed, int(gpu.free)) else 0.0


def this_machine() -> Machine:
    """The machine that this process may use."""
    return Machine(allowed_cores(), float(available_memory()), visible_gpus())


def visible_gpus() -> tuple[Gpu, ...]:
    """NVIDIA's GPUs of this process, as its driver's own tool lists them."""
    if shutil.which("nvidia-smi") is None:
        return ()
    query = ["nvidia-smi", "--query-gpu=index,memory.free", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return chosen_gpus(listed, os.environ.get("CUDA_VISIBLE_DEVICES"))


def chosen_gpus(listed: str, visible: str | None) -> tuple[Gpu, ...]:
    """Those of `listed` (lines of `index, free MiB`) that CUDA_VISIBLE_DEVICES leaves; it may also name others."""
    free = {}
    for line in listed.splitlines():
        index, _, mebibytes = (part.strip() for part in line.partition(","))
        if index.isdigit():  # a driver may say [N/A] of its memory
            free[index] = float(mebibytes) * 1024**2 if mebibytes.isdigit() else RUNS_PER_GPU * GPU_BYTES
    names = list(free) if visible is None else [name.strip() for name in visible.split(",") if name.strip()]
    return tuple(Gpu(name, free.get(name, RUNS_PER_GPU * GPU_BYTES)) for name in names if name != "-1")
