"""Whether a run takes a GPU, and whether driver and torch go together, without importing torch, which takes seconds."""

from __future__ import annotations

import ctypes
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Driver(NamedTuple):
    """What the NVIDIA driver reports."""

    gpus: int
    cuda: int  # the newest major version of CUDA that it supports, besides all older ones


def takes_gpu(device: object, found: Callable[[], bool]) -> bool:
    """Whether `compute.device=device` means a GPU; `found` says whether there is one, and is asked for `auto` only."""
    return device == "cuda" or (device == "auto" and found())


def cuda_present() -> bool:
    """Whether there is a GPU, a CUDA build of torch, and a driver that supports its CUDA."""
    built, driver = torch_cuda(), nvidia_driver()
    return built is not None and driver is not None and driver.gpus > 0 and driver.cuda >= built


def torch_cuda() -> int | None:
    """The major version of CUDA that torch is built for; None if for none, or torch is not installed."""
    torch = importlib.util.find_spec("torch")
    version = None if torch is None or torch.origin is None else Path(torch.origin).parent / "version.py"
    if version is None or not version.is_file():
        return None
    built = re.search(r"^cuda\b[^=]*= *['\"](\d+)", version.read_text(), re.MULTILINE)
    return None if built is None else int(built[1])


def nvidia_driver() -> Driver | None:
    """The driver, if there is one that answers."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    count, version = ctypes.c_int(0), ctypes.c_int(0)  # 12080 is CUDA 12.8
    codes = library.cuInit(0), library.cuDeviceGetCount(ctypes.byref(count))
    if any((*codes, library.cuDriverGetVersion(ctypes.byref(version)))):
        return None
    return Driver(count.value, version.value // 1000)
