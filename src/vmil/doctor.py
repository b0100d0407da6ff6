"""`make doctor`: what this machine has, and whether vmil can render and compute on it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from vmil.config.schema import EnvConfig, RenderProfile
from vmil.errors import UserError
from vmil.system.cuda import nvidia_driver
from vmil.system.machine import (
    allowed_cores,
    available_memory,
    cpu_flags,
    memory_limit,
    processor_name,
    total_memory,
)
from vmil.tracking.address import shown

if TYPE_CHECKING:
    import torch

PACKAGES = (
    "torch", "torchrl", "tensordict", "lightning", "mujoco", "dm_control", "metaworld", "gymnasium-robotics", "numpy",
    "omegaconf", "einops", "mlflow",
)  # fmt: skip
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
MATRIX = 1024  # side of the matrices multiplied, large enough that the arithmetic and not the call is timed
REPEATS = 5
GIB = 2**30
Line = tuple[str, str]  # what, finding


def examine(write: Callable[[str], object]) -> bool:
    """Write one line per finding as it is found, and return whether pictures can be rendered."""
    renders = chosen = False
    for check in (_python, _versions, _processor, _memory, _disk, _torch, _settings, _rendering):
        try:
            for what, finding in check():
                renders |= what.startswith("render ") and finding.startswith("works")
                # What training chooses, which MUJOCO_GL may forbid though another backend works.
                chosen |= what == "rendering with" and not finding.startswith("nothing")
                write(f"{what:<20} {finding}")
        except Exception as error:  # noqa: BLE001  one check that fails must not hide the others
            write(f"{check.__name__.strip('_'):<20} cannot be examined: {error!r}")
    refused = "MUJOCO_GL names another than what works" if renders else "no OpenGL backend renders"
    write("ready" if renders and chosen else f"not ready: {refused}, so nothing can be trained from pixels")
    return renders and chosen


def _python() -> Iterator[Line]:
    yield "python", f"{platform.python_version()} {sys.executable}"
    yield "system", platform.platform()


def _versions() -> Iterator[Line]:
    for package in ("vmil", *PACKAGES):
        try:
            yield package, metadata.version(package)
        except metadata.PackageNotFoundError:
            yield package, "not installed"


def _processor() -> Iterator[Line]:
    yield "cpu", processor_name()
    yield "cpu cores", f"{allowed_cores()} usable of {os.cpu_count()}"
    flags = cpu_flags()
    present = [flag for flag in INSTRUCTIONS if flag in flags]
    yield "cpu instructions", ", ".join(present) or f"none of {', '.join(INSTRUCTIONS)}"


def _memory() -> Iterator[Line]:
    yield "memory", f"{total_memory() / GIB:.1f} GiB, {available_memory() / GIB:.1f} available"
    limit = memory_limit()
    if limit is not None:
        yield "memory limit", f"{limit / GIB:.1f} GiB (this container's)"


def _disk() -> Iterator[Line]:
    for what, path in (("disk here", Path.cwd()), ("disk at home", Path.home())):
        yield what, f"{shutil.disk_usage(path).free / GIB:.1f} GiB free"


def _torch() -> Iterator[Line]:
    import torch

    from vmil.learner.device import has_fast_bf16

    yield "torch threads", str(torch.get_num_threads())
    plain, half = _matmul_ms(torch.float32), _matmul_ms(torch.bfloat16)
    yield "bf16 on the cpu", f"{plain / half:.1f} times as fast as fp32 ({half:.1f} ms against {plain:.1f})"
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    yield "precision=auto is", f"{'bf16' if has_fast_bf16(device) else 'fp32'} on {device}"
    if device.type == "cuda":
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            yield f"gpu {index}", f"{properties.name}, {properties.total_memory / GIB:.0f} GiB"
    else:
        build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        driver = nvidia_driver()
        known = "" if driver is None else f", and the driver knows CUDA up to {driver.cuda}"
        yield "gpu", f"none usable (torch is {build}{known})"


def _matmul_ms(dtype: torch.dtype) -> float:
    import torch

    matrix = torch.randn(MATRIX, MATRIX).to(dtype)
    return _median_ms(lambda: matrix @ matrix)


def _settings() -> Iterator[Line]:
    for name in ("MUJOCO_GL", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MLFLOW_TRACKING_URI"):
        yield name, shown(os.environ.get(name, "unset"))


def _rendering() -> Iterator[Line]:
    from vmil.envs.rendering import choose_backend, probe_backends

    for report in probe_backends():
        yield f"render {report.name}", f"works, {report.ms_per_frame:.1f} ms a frame" if report.ok else report.error
    try:
        yield "rendering with", choose_backend()
    except UserError as error:
        yield "rendering with", f"nothing: {error}"
        return
    for profile in get_args(RenderProfile):
        yield f"walker, {profile}", f"{_frame_ms(profile):.1f} ms a frame"
    try:
        yield "sawyer, fast", f"{_sawyer_ms():.1f} ms a frame"
    except UserError as error:
        yield "sawyer", str(error)


def _frame_ms(profile: RenderProfile) -> float:
    """Median time of one picture of the walker [ms]."""
    from vmil.envs.rendering import open_renderer
    from vmil.envs.suite import load_task

    physics = load_task("walker", "walk").physics
    config = EnvConfig(render_profile=profile)
    with closing(open_renderer(physics.model.ptr, physics.data.ptr, config)) as renderer:
        return _median_ms(renderer)


def _sawyer_ms() -> float:
    """Median time of one picture of the peg insertion [ms]; UserError if Meta-World is missing or broken."""
    from vmil.envs.rendering import open_renderer
    from vmil.envs.sawyer import VIEWS, load_peg_insertion

    task = load_peg_insertion()
    config = EnvConfig(name="sawyer", camera="front")
    with closing(open_renderer(task.model, task.data, config, VIEWS)) as renderer:
        return _median_ms(renderer)


def _median_ms(work: Callable[[], object]) -> float:
    """Median time of a call [ms], after one to warm up."""
    import torch

    from vmil.bench.clock import repeat

    return 1000 * repeat(work, torch.device("cpu"), warmup=1, repeats=REPEATS).median
