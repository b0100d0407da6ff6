"""The `expert.json` of baoding's experts: what one of them scores, and with which settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypeAlias, TypedDict

from vmil.errors import UserError
from vmil.evaluation.scores import Score, score
from vmil.experts.expert import Kind

Settings: TypeAlias = Mapping[str, str | int | float | bool | None]


class Measurement(TypedDict):
    """Whole episodes of one expert, in the order in which they were played."""

    env: str
    planner: Settings  # or those of the policy's training: method=ppo is among them
    curve: list[Mapping[str, Any]]  # of the training behind it
    returns: list[float]
    scores: list[dict[str, float]]
    seconds: list[float]  # that each episode took
    machine: str
    versions: dict[str, str]
    note: NotRequired[str]  # older ones have none


def read_measurement(path: Path) -> Measurement | None:
    """What `path` holds; None if there is no such file."""
    if not path.exists():
        return None
    made: Measurement = json.loads(path.read_text())
    return made


def measured_kind(made: Measurement) -> Kind:
    """What kind of expert was measured."""
    return "ppo" if made["planner"].get("method") == "ppo" else "planned"


def summary(made: Measurement) -> Score:
    """The score of the measured episodes."""
    names = made["scores"][0]
    scores = {name: [each[name] for each in made["scores"]] for name in names}
    return score(made["returns"], None, scores, "success")


def check_measured(path: Path, settings: Settings) -> None:
    """UserError if `path` holds a measurement of other settings, more rounds of the same training aside."""
    made = read_measurement(path)
    if made is None:
        return
    known = made["planner"]
    further = _rounds(settings) > _rounds(known)
    if known != settings and not (further and {**known, "rounds": settings["rounds"]} == settings):
        raise UserError(f"{path} was measured with other settings: choose another out=")


def _rounds(settings: Settings) -> int:
    return int(settings.get("rounds") or 0)
