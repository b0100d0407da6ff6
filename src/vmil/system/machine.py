"""What this machine has and how much of it is this process's, without importing torch."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

import psutil

CORES = "VMIL_CORES"  # the environment variable by which an experiment tells each of its runs its share of the cores
_CGROUP = Path("/sys/fs/cgroup")
_CPUINFO = Path("/proc/cpuinfo")
_GPUS = Path("/proc/driver/nvidia/gpus")


def in_words() -> str:
    """Cores that may be used, processor and GPUs: `2 cores (AMD EPYC), no GPU`."""
    gpus = [_fields(path).get("Model", "a GPU") for path in sorted(_GPUS.glob("*/information"))]
    return f"{allowed_cores()} cores ({processor_name()}), {', '.join(gpus) or 'no GPU'}"


def processor_name() -> str:
    """The processor's model; its architecture where the system does not tell the model."""
    return _fields(_CPUINFO).get("model name") or platform.processor() or platform.machine()


def cpu_flags() -> frozenset[str]:
    """Extensions of the instruction set, as Linux names them (`avx2`, `amx_bf16`); none known elsewhere."""
    return frozenset(_fields(_CPUINFO).get("flags", "").split())


@cache
def has_amx() -> bool:
    """Whether the processor multiplies tiles of bfloat16 (Intel's AMX)."""
    return "amx_bf16" in cpu_flags()


def allowed_cores() -> int:
    """Cores that this process may use: by its affinity (macOS does not say), its container's quota, its experiment."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = os.environ.get(CORES, "")
    limits = [cores, _container_cores(_CGROUP), int(share) if share.isdecimal() else None]
    return max(1, min(limit for limit in limits if limit is not None))


def total_memory() -> int:
    """Bytes of memory that the machine has, whatever its container allows."""
    return int(psutil.virtual_memory().total)


def available_memory() -> int:
    """Bytes of memory that this process may still take: the machine's, or its container's if that is less."""
    free = int(psutil.virtual_memory().available)
    contained = _container_memory(_CGROUP)
    return free if contained is None else min(free, contained)


def memory_limit() -> int | None:
    """Bytes of memory that this process's container may take in all; None if there is no container or no limit."""
    return _container_limit(_CGROUP)


def _fields(path: Path) -> dict[str, str]:
    """`name: value` of each line, the first of a name; empty if there is no such file."""
    fields: dict[str, str] = {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return fields


def _container_cores(group: Path) -> int | None:
    """The whole cores in a control group's quota of time; None if there is no group or no limit."""
    try:
        limit, period = (group / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) // int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _container_limit(group: Path) -> int | None:
    """What a control group of version 2 may take; None if there is no group or no limit, for which it writes `max`."""
    try:
        return int((group / "memory.max").read_text())
    except (OSError, ValueError):
        return None


def _container_memory(group: Path) -> int | None:
    """What a control group of version 2 leaves; None if there is no group or no limit."""
    limit = _container_limit(group)
    try:
        used = int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    cache = int(stat.get("inactive_file", 0))  # counts as used, but is given back when asked for
    return None if limit is None else max(0, limit - used + cache)
