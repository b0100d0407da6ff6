"""Runs as processes of this machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from vmil.errors import INTERRUPTED, LOOK_AGAIN
from vmil.experiments.cell import in_use
from vmil.experiments.resources import Plan
from vmil.system.machine import CORES


class Process:
    """A child process and the GPU that it was given."""

    def __init__(self, process: subprocess.Popen[bytes], seat: int) -> None:
        self._process, self.seat = process, seat

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """SIGTERM: a run writes a checkpoint and ends."""
        self._process.terminate()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()


class Elsewhere:
    """A run that another process is making, such as one that outlived the experiment which had started it."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir, self._given_up = run_dir, False

    def poll(self) -> int | None:
        """None while another process makes it, then LOOK_AGAIN; INTERRUPTED once it was told to stop."""
        if self._given_up:
            return INTERRUPTED
        return None if in_use(self._run_dir) else LOOK_AGAIN

    def stop(self) -> None:
        """Stops waiting for it; the process that makes it goes on."""
        self._given_up = True

    kill = stop


class LocalPool:
    """Starts children, each with its share of the cores and the GPU that has the fewest of them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._children: list[Process] = []

    @property
    def slots(self) -> int:
        """Children at once."""
        return self.plan.jobs

    @property
    def threads(self) -> int:
        """Torch threads of each."""
        return self.plan.threads

    def start(self, command: list[str], log: Path) -> Process:
        """Starts a command whose output is appended to `log`."""
        self._children = [child for child in self._children if child.poll() is None]
        taken = [child.seat for child in self._children]
        rooms = self.plan.rooms or (1,) * max(1, len(self.plan.gpus))
        seat = min(range(len(rooms)), key=lambda each: taken.count(each) / max(1, rooms[each]))
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            # A session of its own: Ctrl-C on the terminal reaches the parent alone, which then asks each child once.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self._environment(os.environ, seat),
                start_new_session=True,
            )
        child = Process(process, seat)
        self._children.append(child)
        return child

    def close(self) -> None:
        """Nothing is held but the children, who have ended."""

    def _environment(self, outer: Mapping[str, str], seat: int) -> dict[str, str]:
        environment = {**outer, "OMP_NUM_THREADS": str(self.plan.threads)}
        environment[CORES] = str(self.plan.share or self.plan.cores)
        if self.plan.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self.plan.gpus[seat]
            environment.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # nvidia-smi's, by which they were counted
        return environment
