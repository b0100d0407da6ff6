"""What every test starts from: one thread for each process, and nothing of the person's own settings."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; pytest-xdist runs one process per core
for _name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MAKEFLAGS", "MAKELEVEL"):
    os.environ.pop(_name, None)
