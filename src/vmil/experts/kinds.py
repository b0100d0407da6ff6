"""Which expert a task has."""

from __future__ import annotations

from pathlib import Path

from vmil.config.load import load_config
from vmil.config.schema import EnvConfig
from vmil.envs.tasks import DOT, HAND, METAWORLD, SUITE, Family, find_task
from vmil.errors import UserError
from vmil.experts.expert import Expert, Kind

KINDS: dict[Family, Kind] = {SUITE: "sac", METAWORLD: "scripted", HAND: "planned", DOT: "optimal"}


def expert_kind(env: str) -> Kind:
    """What kind of expert the task has; UserError if the name is wrong or there is none."""
    family = find_task(env).family
    if family not in KINDS:
        raise UserError(f"env {env} has no expert")
    return KINDS[family]


def task_config(env: str) -> EnvConfig:
    """The environment as its preset has it: what experts are recorded in."""
    return load_config([f"env={env}", "compute=cpu"], learns=False).env


def make_expert(env: str, provenance: Path) -> Expert:
    """Make the task's expert, if it is not the hand's, which has options of its own (`hand_commands.hand_expert`).

    provenance: the trained actor, or the measurement of one that is not trained.
    """
    kind = expert_kind(env)
    if kind == "sac":
        from vmil.experts.sac_expert import TrainedExpert

        return TrainedExpert(env, provenance)
    elif kind == "scripted":
        from vmil.experts.scripted import ScriptedPegExpert

        return ScriptedPegExpert(task_config(env), provenance)
    elif kind == "optimal":
        from vmil.experts.dot_expert import DotExpert

        return DotExpert(task_config(env))
    else:
        raise ValueError(f"no expert of kind {kind!r} is made")
