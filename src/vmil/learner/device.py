"""What a run computes on: the device, its number format, its threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Literal

import torch

from vmil.config.schema import Config
from vmil.envs.tasks import is_single
from vmil.errors import UserError
from vmil.nets.products import rounded_products
from vmil.system.cuda import nvidia_driver, takes_gpu, torch_cuda
from vmil.system.machine import allowed_cores, cpu_flags, has_amx


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the processor computes in bfloat16 itself, rather than emulating it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return not cpu_flags().isdisjoint({"avx512_bf16", "amx_bf16"})


def use_bf16(config: Config, device: torch.device) -> bool:
    """Whether convolutions run in bfloat16."""
    if config.compute.precision == "auto":
        return has_fast_bf16(device)
    return config.compute.precision == "bf16"


def use_bf16_products(config: Config, device: torch.device) -> bool:
    """Whether the dream, and what is learnt from it, multiplies in bfloat16; a GPU has TF32 for that."""
    return device.type == "cpu" and use_bf16(config, device)


@contextmanager
def matmul_precision(name: Literal["highest", "high", "medium"]) -> Iterator[None]:
    """Inside, matrix products of fp32 factors are as exact as torch's `set_float32_matmul_precision` says."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def products_in_bf16(enabled: bool) -> AbstractContextManager[None]:
    """Matrix products inside round their factors to bfloat16; norms, nonlinearities and states stay in fp32.

    Processors with AMX take fp32 factors and round them on the way, four times as fast, and sum in fp32; those with
    bfloat16 but no AMX are twice as fast, and only on factors that come in it, so there the hidden layers' products are
    rounded too. Autocast would let norms, nonlinearities and a recurrence's inputs be in bfloat16 as well.
    """
    if not enabled:
        return nullcontext()
    return matmul_precision("medium") if has_amx() else rounded_products()


def choose_device(config: Config) -> torch.device:
    """The device that `compute.device` stands for on this machine."""
    return torch.device("cuda" if takes_gpu(config.compute.device, torch.cuda.is_available) else "cpu")


def require_device(config: Config) -> None:
    """UserError if the run is to learn on GPUs that are not there."""
    if choose_device(config).type != "cuda":
        return
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if config.compute.devices > found:
        advice = "lower compute.devices" if found else "set compute.device to auto"
        built, driver = torch_cuda(), nvidia_driver()
        if built and driver and driver.cuda < built:
            advice = f"torch is built for CUDA {built}, and the NVIDIA driver knows CUDA up to {driver.cuda}: renew it"
        raise UserError(
            f"compute.device={config.compute.device} with compute.devices={config.compute.devices} needs as many CUDA "
            f"GPUs, and torch finds {found}: {advice}"
        )


def playable(config: Config) -> Config:
    """The configuration of a run that is only played here, which needs no GPU even if it was trained on one."""
    if config.compute.device != "cuda" or torch.cuda.is_available():
        return config
    compute = replace(config.compute, device="cpu", precision="auto", graphs="never", replay="auto")
    return replace(config, compute=compute)


def evaluates_in_background(config: Config) -> bool:
    """Whether evaluations have a process of their own: as configured, else if a core is free for it.

    Never of a single environment, which that process would have to open beside this one.
    """
    if is_single(config.env.name):
        return False
    when = config.training.background_evaluation
    if when == "auto":
        cores = allowed_cores()
        busy = 1 if choose_device(config).type == "cuda" else choose_threads(config)
        return cores > busy * config.compute.devices
    return when == "always"


def choose_threads(config: Config) -> int:
    """Torch's CPU threads: as configured, else this process's share of the cores that it may use."""
    return config.compute.threads or max(1, allowed_cores() // config.compute.devices)
