"""Whether a run is its preset, and if not, what sets it apart."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from vmil.analysis.results import Card, variant_of
from vmil.config.keys import flatten, typed
from vmil.config.learners import unread
from vmil.config.load import load_config
from vmil.config.runs import BASE
from vmil.config.schema import DemosConfig
from vmil.data.demo_files import available_demos
from vmil.errors import UserError

NO_SETTINGS = ("run.", "tracking.", "compute.")  # do not affect the result
NAMED_BY_MAKE = ("env.name", "algo", "seed", "demos.cache_dir")
# How long it runs, when it is evaluated, who plays its episodes, and what has a variant of its own.
STILL_THE_PRESET = re.compile(
    r"training\.(frames|eval_\w+|background_evaluation|(checkpoint|image_log)_every_frames)"
    r"|collector\.(backend|workers|timeout)|debug\.use_ground_truth_reward"
)
UNKNOWN = "unknown"  # the variant of runs of a task or an algorithm that this vmil does not have
_SPELT = {"None": "null", "True": "true", "False": "false"}  # MLflow's strings, as a person types them
LONGEST = 60  # characters of a variant that is named after its settings


def changed_settings(settings: Mapping[str, object], env: str, algo: str) -> dict[str, object]:
    """Those of a run's flat settings that its presets do not give, and that `make train` would have to be given."""
    preset = load_config([f"env={env}", f"algo={algo}"], learns=False)  # it need not fit a task of one's own
    idle = unread(preset.learner)  # which may have had other defaults at the time
    return {
        key: settings[key]
        for key, value in flatten(preset).items()
        if key in settings
        and key not in idle
        and str(settings[key]) != str(value)  # MLflow stores strings
        and key not in NAMED_BY_MAKE
        and not key.startswith(NO_SETTINGS)
    }


def unnamed_changes(settings: Mapping[str, object], env: str, algo: str) -> list[str]:
    """The key=value settings that make a run without a name of its own differ from its preset.

    UserError for a task or an algorithm that this vmil does not have.
    """
    if _named(settings) != BASE:
        return []
    own = set() if _ships_demos(env) else {"demos.path"}  # a task that ships none must be given some
    return [
        f"{key}={_where(key, value)}"
        for key, value in changed_settings(settings, env, algo).items()
        if not (STILL_THE_PRESET.fullmatch(key) or key in own)
    ]


def variant_by(settings: Mapping[str, object], env: str, algo: str) -> str:
    """What figures call a run with these settings (a configuration's, or MLflow's strings); its preset only if it is.

    Seeds of one variant are drawn as one, so two runs with different changes get different variants.
    """
    try:
        changes = ", ".join(unnamed_changes(settings, env, algo))
    except UserError:
        return UNKNOWN
    if len(changes) > LONGEST:
        changes = f"{changes[: LONGEST - 8]}… {hashlib.sha256(changes.encode()).hexdigest()[:6]}"
    return changes or _named(settings)


def fewer_demos(variant: str) -> bool:
    """Whether a variant's name says that only the number of demonstrations differs from the preset's."""
    return re.fullmatch(r"demos\d+|demos\.count=\d+", variant) is not None


def command_by(settings: Mapping[str, object], env: str, algo: str) -> str:
    """The `make train` command with every setting (a run's, or MLflow's strings) that the presets do not give.

    UserError for a task or an algorithm that this vmil does not have.
    """
    changed = changed_settings(settings, env, algo)
    given = [f"{key}={_SPELT.get(text := typed(_where(key, value)), text)}" for key, value in changed.items()]
    arguments = f' ARGS="{" ".join(given)}"' if given else ""
    return f"make train ENV={env} ALGO={algo} SEED={settings.get('seed', 0)}{arguments}"


def reward_map(card: Card) -> str:
    """From D to the reward: as the run's command gives it, else as its preset does."""
    told = re.search(r"\b(?:discriminator|dac)\.reward=(\w+)", card.command)
    if told:
        return told[1]
    try:
        config = load_config([f"env={card.env}", f"algo={card.algo}"], learns=False)
    except UserError:
        return UNKNOWN
    return config.dac.reward if config.learner == "dac_drq" else config.discriminator.reward


def _named(settings: Mapping[str, object]) -> str:
    true_reward = str(settings.get("debug.use_ground_truth_reward")) == "True"
    return variant_of(str(settings.get("run.variant", BASE)), true_reward)


def _where(key: str, value: object) -> object:
    """Only the name of a directory of demonstrations: its path differs between machines."""
    return Path(str(value)).name if key == "demos.path" and value is not None else value


def _ships_demos(env: str) -> bool:
    try:
        return bool(available_demos(env, DemosConfig()))
    except UserError:
        return False
