"""What a machine has, from files such as Linux writes, and how it is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vmil.system import machine

CPUINFO = """\
processor\t: 0
model name\t: A Processor
flags\t\t: fpu avx2 amx_bf16

processor\t: 1
model name\t: Another
flags\t\t: fpu
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a machine of four cores, no GPU and no container keeps what it says of itself."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    monkeypatch.delenv(machine.CORES, raising=False)
    for name, path in (("_CGROUP", "group"), ("_CPUINFO", "cpuinfo"), ("_GPUS", "gpus")):
        monkeypatch.setattr(machine, name, tmp_path / path)
    (tmp_path / "group").mkdir()
    return tmp_path


def test_the_processor_is_the_first_that_is_named(files: Path) -> None:
    (files / "cpuinfo").write_text(CPUINFO)
    assert machine.processor_name() == "A Processor"
    assert machine.cpu_flags() == {"fpu", "avx2", "amx_bf16"}


@pytest.mark.parametrize(("flags", "has"), [("fpu amx_bf16", True), ("fpu avx512_bf16", False)])
def test_whether_there_is_amx(files: Path, flags: str, has: bool) -> None:
    (files / "cpuinfo").write_text(f"flags : {flags}\n")
    assert machine.has_amx.__wrapped__() is has


def test_a_machine_in_words(files: Path) -> None:
    (files / "cpuinfo").write_text(CPUINFO)
    assert machine.in_words() == "4 cores (A Processor), no GPU"
    (files / "group" / "cpu.max").write_text("200000 100000\n")
    for bus in ("01", "02"):
        (files / "gpus" / bus).mkdir(parents=True)
        (files / "gpus" / bus / "information").write_text(f"Model: \t\t A Card {bus}\nIRQ:   \t\t 9\n")
    assert machine.in_words() == "2 cores (A Processor), A Card 01, A Card 02"


def test_a_system_that_says_little_is_no_error(files: Path) -> None:
    assert machine.processor_name()
    assert machine.cpu_flags() == frozenset()
    assert machine.memory_limit() is None


def test_a_container_counts_its_cache_as_free(files: Path) -> None:
    free = machine.available_memory()
    group = files / "group"
    (group / "memory.current").write_text("700\n")
    (group / "memory.stat").write_text("anon 500\ninactive_file 150\n")
    (group / "memory.max").write_text("1000\n")
    assert (machine.memory_limit(), machine.available_memory()) == (1000, 450)
    (group / "memory.max").write_text("max\n")
    assert machine.memory_limit() is None
    assert machine.available_memory() > free / 2


def test_it_is_asked_without_waiting_for_torch() -> None:
    code = "import sys, vmil.system.machine; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
