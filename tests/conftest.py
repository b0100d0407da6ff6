"""What every test starts from: one thread for each process, and nothing of the person's own settings."""

import importlib
import importlib.util
import logging
import os
import signal
from collections.abc import Iterator

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; pytest-xdist runs one process per core
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # what is tested is the same with a GPU and without
_PERSONAL = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MAKEFLAGS", "MAKELEVEL", "VMIL_CORES", "VMIL_OPENGL")
for _name in list(os.environ):
    if _name in _PERSONAL or _name.startswith("SLURM_"):
        del os.environ[_name]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a script; some tests press Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Triton (in torch's CUDA builds) and Mesa's OpenGL each bring an LLVM, and triton loaded second crashes the process.
# Our own modules import torchrl, which loads it, before any mujoco; a test file may import in any order.
if importlib.util.find_spec("triton"):
    importlib.import_module("triton")


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """A run's log handlers go with the test, whose files do; those of a module's run before its first test."""
    _forget_log()
    yield
    _forget_log()


def _forget_log() -> None:
    logger = logging.getLogger("vmil")
    for handler in logger.handlers:
        handler.close()
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)
    logger.propagate = True
