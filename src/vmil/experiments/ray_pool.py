"""Runs as tasks of a Ray cluster: a local one, or the one that $RAY_ADDRESS names, on a file system that all share."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

from vmil.experiments.resources import Plan
from vmil.system.cluster import join_cluster
from vmil.system.machine import CORES

LOOK_EVERY = 1.0  # seconds between two checks for a request to stop


def run_to_end(
    command: list[str], log: str, wish: str, environment: dict[str, str], directory: str | None = None
) -> int:
    """Runs a command on the node that it was sent to; returns its exit code.

    A file `wish` that holds `soon` asks the process to end, `now` kills it. `ray.cancel` would be shorter, but it
    reports the end before the process has written its checkpoint.
    """
    with Path(log).open("ab") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=directory,  # a cluster's workers run where `ray start` was called: `runs` would be another one there
            env={**os.environ, **environment},  # Ray has set CUDA_VISIBLE_DEVICES to this task's GPU
            start_new_session=True,
        )
    asked = ""
    while True:
        try:
            return process.wait(LOOK_EVERY)
        except subprocess.TimeoutExpired:
            wanted = Path(wish).read_text() if Path(wish).exists() else ""
            if wanted == "now":
                process.kill()
            elif wanted and not asked:
                process.terminate()
            asked = wanted


class Task:
    """A run that the cluster makes, now or once a node is free."""

    def __init__(self, ray: Any, reference: Any, wish: Path) -> None:
        self._ray, self._reference, self._wish = ray, reference, wish

    def poll(self) -> int | None:
        """Its exit code, 1 if its node was lost; None before that."""
        try:
            ready, _ = self._ray.wait([self._reference], timeout=0)
            if not ready:
                return None
            self._wish.unlink(missing_ok=True)
            return int(self._ray.get(self._reference))
        except Exception:  # noqa: BLE001  (a lost node, no memory: Ray has a class for each)
            return 1

    def stop(self) -> None:
        """Asks its process to write a checkpoint and to end."""
        self._wish.write_text("soon")

    def kill(self) -> None:
        """Ends its process at once."""
        self._wish.write_text("now")


class RayPool:
    """Gives each run its threads and its share of a GPU, and leaves the rest to the cluster."""

    def __init__(self, plan: Plan, on_gpu: bool, jobs: int = 0, ray: Any = None) -> None:
        """`plan` is the local machine's and is used where Ray starts on it; `jobs`: runs at once, 0: as many as fit."""
        self._ray, self._joined = join_cluster("runner=ray", "runner=local", ray)
        elsewhere = os.environ.get("RAY_ADDRESS") is not None
        self.threads = max(1, min(plan.threads, 4)) if elsewhere else plan.threads
        self._cores = replace(plan, threads=self.threads).cores
        per_gpu = max(1, -(-plan.jobs // len(plan.gpus))) if plan.gpus else 1
        share = float(plan.devices) if plan.devices > 1 else 1.0 / per_gpu
        self._share = share if on_gpu else 0.0
        there = self._ray.cluster_resources()
        fits = [int(there.get("CPU", 1) // self._cores)]
        fits += [int(there.get("GPU", 0) / self._share)] if on_gpu else []
        self.slots = jobs or max(1, min(fits))

    def start(self, command: list[str], log: Path) -> Task:
        """Sends a command to the cluster; its output is appended to `log`."""
        # Retried by the caller, as for any other pool: it must look again at what the run has written.
        remote = self._ray.remote(num_cpus=self._cores, num_gpus=self._share, max_retries=0)(run_to_end)
        log = log.resolve()
        log.parent.mkdir(parents=True, exist_ok=True)
        wish = log.with_suffix(".stop")
        wish.unlink(missing_ok=True)
        # Where runs are tracked, and what opens that place: a node knows it from its own `ray start` at best.
        inherited = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
        environment = {**inherited, "OMP_NUM_THREADS": str(self.threads), CORES: str(self._cores)}
        return Task(self._ray, remote.remote(command, str(log), str(wish), environment, os.getcwd()), wish)

    def close(self) -> None:
        """Leaves the cluster, if it was this pool that joined it."""
        if self._joined:
            self._ray.shutdown()
            self._joined = False
