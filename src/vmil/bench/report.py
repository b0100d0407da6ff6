"""The table on the terminal, line by line as it is measured, and the same numbers as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import vmil
from vmil.bench.clock import Times
from vmil.config.schema import Config
from vmil.errors import UserError
from vmil.learner.device import choose_device, use_bf16
from vmil.system.machine import allowed_cores, available_memory, processor_name
from vmil.system.provenance import git_commit, versions

FORMAT = 1  # of the JSON file, raised when a field changes its meaning
PACKAGES = ("torch", "torchrl", "mujoco", "numpy")
GB = 1e9


@dataclass(frozen=True)
class Row:
    """One number of the table."""

    part: str  # of the benchmark
    what: str
    value: float  # the median, where it was repeated
    unit: str  # s, ms, GB, x, 1/s, GFLOP, GFLOP/s
    low: float | None = None  # smallest and largest repeat
    high: float | None = None
    repeats: int = 1
    note: str = ""


def times_row(part: str, what: str, times: Times, note: str = "") -> Row:
    """A duration, in milliseconds."""
    return milliseconds(part, what, times.seconds, note)


def milliseconds(part: str, what: str, seconds: Sequence[float], note: str = "") -> Row:
    """A duration from its repeats [s], in milliseconds."""
    times = Times(tuple(1000 * value for value in seconds))
    return Row(part, what, times.median, "ms", min(times.seconds), max(times.seconds), len(seconds), note)


def rate_row(part: str, what: str, times: Times, count: float, note: str = "") -> Row:
    """A rate per second, where each repeat does `count` things."""
    rates = [count / seconds for seconds in times.seconds]
    return Row(part, what, count / times.median, "1/s", min(rates), max(rates), len(rates), note)


class Table:
    """Writes rows as they come, under a heading for each part, and keeps them; `keep` is called after each."""

    def __init__(
        self, write: Callable[[str], object] = print, keep: Callable[[Table], object] = lambda table: None
    ) -> None:
        self.rows: list[Row] = []
        self.remarks: dict[str, str] = {}  # statements about what was measured, by name
        self._write, self._keep = write, keep

    def add(self, row: Row) -> None:
        """One line."""
        if not self.rows or self.rows[-1].part != row.part:
            self._write(f"\n{row.part.replace('_', ' ')}")
        self.rows.append(row)
        spread = "" if row.low is None or row.high is None else f"{_short(row.low)}–{_short(row.high)}"
        self._write(f"  {row.what:<44} {_short(row.value):>9} {row.unit:<8} {spread:<16} {row.note}".rstrip())
        self._keep(self)

    def remark(self, name: str, sentence: str) -> None:
        """A statement below the rows of its part."""
        self.remarks[name] = sentence
        self._write(f"  {sentence}")
        self._keep(self)


def _short(value: float) -> str:
    """At least three significant digits."""
    digits = next((digits for limit, digits in ((100, 0), (10, 1), (1, 2)) if abs(value) >= limit), 3)
    return f"{value:,.{digits}f}"


def this_machine(config: Config) -> dict[str, object]:
    """What the numbers were measured on, and with."""
    device = choose_device(config)
    return {
        "processor": processor_name(),
        "cores": allowed_cores(),
        "load": round(os.getloadavg()[0], 2),  # others' work, which slows ours down
        "free_memory_gb": round(available_memory() / GB, 1),
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "graphs": config.compute.graphs,
        "convolutions": "bf16" if use_bf16(config, device) else "fp32",
        "system": platform.platform(),
        **versions(*PACKAGES),
    }


def introduction(machine: Mapping[str, object]) -> str:
    """The machine in a line."""
    on = machine["gpu"] or f"{machine['threads']} threads"
    return (
        f"{machine['processor']}, {machine['cores']} cores, load {machine['load']}; on {on}, convolutions in "
        f"{machine['convolutions']}, torch {machine['torch']}; medians, smallest–largest repeat"
    )


def writable(path: Path) -> Path:
    """The path, with its directory made; UserError before hours are spent on results that cannot be kept."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out={path} cannot be written: {error.strerror or error}") from error
    if path.is_dir():
        raise UserError(f"out={path} is a directory: name a file")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"out={path} cannot be written: permission denied")
    return path


def write_json(
    path: Path, table: Table, machine: Mapping[str, object], settings: Sequence[str], equal: bool | None
) -> None:
    """`{format, vmil, commit, machine, settings, equal, remarks, rows}`; equal is null if it was not looked at."""
    content = {
        "format": FORMAT,
        "vmil": vmil.__version__,
        "commit": git_commit(),
        "machine": dict(machine),
        "settings": list(settings),
        "equal": equal,
        "remarks": table.remarks,
        "rows": [asdict(row) for row in table.rows],
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
