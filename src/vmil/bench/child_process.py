"""Work in a process of its own."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def in_own_process(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls it in a fresh process, whose memory holds nothing else; raises what it raises.

    Raises BrokenProcessPool if that process dies. What this process holds of a GPU but does not use is free for it.
    """
    gc.collect()  # learners whose optimisers' hooks hold them in a circle
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *args, **kwargs).result()
