"""The guide's least environment is one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vmil
from vmil.config.schema import EnvConfig
from vmil.envs import tasks
from vmil.envs.episodes import EpisodicEnv, Outcome
from vmil.envs.factory import env_info, make_env

GUIDE = Path(vmil.__file__).parent / "OWN_DEMOS.md"


def test_the_guide_s_environment_plays(monkeypatch: pytest.MonkeyPatch) -> None:
    [block] = re.findall(r"```python\n( +# src/vmil/envs/myrobot.*?)```", GUIDE.read_text(), re.DOTALL)
    code = re.sub(r"(?m)^   ", "", block)
    module, listed = code.split("# src/vmil/envs/tasks.py\n")
    names: dict[str, Any] = {"EpisodicEnv": EpisodicEnv, "Outcome": Outcome, "np": np}
    names["picture"] = np.full((64, 64, 3), 7, np.uint8)
    exec(module, names)
    robot = type("robot", (), {"make": staticmethod(names["make"]), "measure": staticmethod(names["measure"])})
    entry = listed.split("# in its TASKS:\n")[1].strip()
    made = eval(f"{{{entry}}}", {"Task": tasks.Task, "Family": tasks.Family, "_myrobot": lambda: robot})
    monkeypatch.setattr(tasks, "TASKS", {**tasks.TASKS, **made})
    config = EnvConfig(name="myrobot", action_repeat=1, episode_frames=4)
    assert (env_info(config).action_size, env_info(config).steps_per_episode) == (3, 4)
    played = make_env(config, seed=0).rollout(10)
    assert played.batch_size == torch.Size([4])
    assert bool((played["next", "image"] == 7).all())
    assert bool(played["next", "truncated"][-1])
