"""Whether a run is its preset, and if not, what makes it another one."""

from __future__ import annotations

import re
from collections.abc import Mapping

from vmil.analysis.results import variant_of
from vmil.config.errors import UserError
from vmil.config.keys import flatten
from vmil.config.load import load_config
from vmil.config.runs import BASE

NO_SETTINGS = ("run.", "tracking.", "compute.")  # say nothing of the result
NAMED_BY_MAKE = ("env.name", "algo", "seed", "demos.cache_dir")
# How long it runs, when it is looked at, who plays its episodes, and what a variant of its own is kept for.
STILL_THE_PRESET = re.compile(
    r"training\.(frames|eval_\w+|background_evaluation|(checkpoint|image_log)_every_frames)"
    r"|collector\.\w+|demos\.path|debug\.use_ground_truth_reward"
)
CHANGED = "changed"  # the variant of runs of MLflow whose settings are not the preset's and have no name


def changed_settings(settings: Mapping[str, object], env: str, algo: str) -> dict[str, object]:
    """Those of a run's flat settings that its presets do not give, which `make train` would have to be told."""
    usual = flatten(load_config([f"env={env}", f"algo={algo}"]))
    return {
        key: settings[key]
        for key, value in usual.items()
        if key in settings
        and str(settings[key]) != str(value)  # MLflow keeps words
        and key not in NAMED_BY_MAKE
        and not key.startswith(NO_SETTINGS)
    }


def that_matter(changed: Mapping[str, object]) -> list[str]:
    """Of changed settings those by which a run is not its preset any more."""
    return [f"{key}={value}" for key, value in changed.items() if not STILL_THE_PRESET.fullmatch(key)]


def variant_by(settings: Mapping[str, object], env: str, algo: str) -> str:
    """What figures call a run with these settings (a configuration's, or MLflow's words); its preset only if it is."""
    true_reward = str(settings.get("debug.use_ground_truth_reward")) == "True"
    named = variant_of(str(settings.get("run.variant", BASE)), true_reward)
    if named != BASE:
        return named
    try:
        return CHANGED if that_matter(changed_settings(settings, env, algo)) else BASE
    except UserError:  # a task or an algorithm that this vmil does not have
        return CHANGED
