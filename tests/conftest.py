"""What every test starts from: one thread for each process, and nothing of the person's own settings."""

import importlib
import importlib.util
import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; pytest-xdist runs one process per core
for _name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MAKEFLAGS", "MAKELEVEL"):
    os.environ.pop(_name, None)

# Triton (in torch's CUDA builds) and Mesa's OpenGL each bring an LLVM, and triton loaded second crashes the process.
# Our own modules import torchrl, which loads it, before any mujoco; a test file may import in any order.
if importlib.util.find_spec("triton"):
    importlib.import_module("triton")
