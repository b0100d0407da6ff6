"""Names of tasks, and what each stands for. Light to import, so that a wrong name answers at once."""

from __future__ import annotations

from typing import Literal, NamedTuple

from vmil.envs.suite import dmc_task

Family = Literal["counting", "dmc", "metaworld", "baoding"]

# What draws and moves each family, besides OpenGL: other versions draw other pixels.
SIMULATORS: dict[Family, tuple[str, ...]] = {
    "counting": (),
    "dmc": ("mujoco", "dm_control"),
    "metaworld": ("mujoco", "metaworld"),
    "baoding": ("mujoco", "gymnasium-robotics"),
}


class Task(NamedTuple):
    """What an environment's name stands for."""

    family: Family
    domain: str
    task: str


def find_task(name: str) -> Task:
    """Read an environment's name; UserError names the nearest right one."""
    if name == "counting":
        return Task("counting", "counting", "counting")
    if name == "sawyer":
        return Task("metaworld", "metaworld", "peg-insert-side-v3")
    if name == "baoding":
        return Task("baoding", "adroit", "baoding")
    return Task("dmc", *dmc_task(name))
