"""Every learner works on another device than the host, mixes no tensors of both, and never waits for a value.

In a process of its own, as a device once made up stays known to torch. All in one, since its imports take the longest.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration

SHORT = "training.batch_length=4 behaviour.horizon=2"
RUNS = (
    f"algo=vmil {SHORT} behaviour.normalise=returns world_model.latent=categorical",
    f"algo=vmil {SHORT} discriminator.noise=annealed discriminator.spectral_norm=true behaviour.actor_average=0.1",
    f"algo=vmil_released {SHORT}",
    f"algo=vmil_plus {SHORT} behaviour.exploration_correlation=0.5",
    f"algo=vmil_plus {SHORT} discriminator.prior_next_state=true discriminator.replay_negatives=true",
    f"algo=vmil_plus {SHORT} debug.use_ground_truth_reward=true",
    "algo=sqil_drq",
    "algo=sqil_drq debug.use_ground_truth_reward=true",
    "algo=dac_drq",
    "algo=bc",
)


@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"), reason="torch makes up no device yet"
)
def test_updates_and_actions_stay_where_they_belong() -> None:
    program = [sys.executable, str(Path(__file__).with_name("elsewhere.py"))]
    run = subprocess.run(program, input="\n".join(RUNS), capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.splitlines() == [f"done: {line}" for line in RUNS]
