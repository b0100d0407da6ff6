"""From schema, `conf/*.yaml` and the command line to one validated `Config`.

Later wins: schema.py ← default.yaml ← env/<env>.yaml ← algo/<algo>.yaml ← algo/<algo>/<env>.yaml ←
compute/<compute>.yaml ← key=value. An algorithm has a file for a task that needs other settings of it, and may begin
from another one, which it names as `base`, with all that one's files;
`compute` follows `algo` because its `debug` preset must shrink whatever the algorithm asks for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from vmil.config import keys, learners, sources, validate
from vmil.config.schema import Config
from vmil.config.sources import SELECTORS, Setting, check_key, presets, read_algorithm, read_yaml
from vmil.config.suite import suite_task
from vmil.errors import UserError, first_line
from vmil.system.cuda import cuda_present, takes_gpu
from vmil.system.files import replace_file

T = TypeVar("T")
FIXED = re.compile(r"seed|learner|env\..+")  # fixed from a run's first frame to its last


def load_config(overrides: Sequence[str] = (), *, preset: bool = True, learns: bool = True) -> Config:
    """The configuration that `overrides` (`env=walker`, `seed=1`, `world_model.deter=256`, ...) ask for.

    Without `preset` no algo/*.yaml is read: the schema's defaults stand. Without `learns` the rules of training are not
    checked, as when only the task is read. Raises `UserError`, one sentence, for an
    unknown key, value or preset and for anything `validate.check` refuses.
    """
    chosen, dotlist = split_selectors(overrides)
    conf = sources.conf_dir()
    settings = read_yaml(conf / "default.yaml")
    env = chosen.get("env", str(settings["env.name"].value))
    algo = chosen.get("algo", str(settings["algo"].value))
    _check_env_name(env)
    _check_preset("algo", algo)
    if env in presets("env"):
        settings |= read_yaml(conf / "env" / f"{env}.yaml")
    if preset:
        settings |= read_algorithm(algo, env)
    from_command_line = parse_dotlist(Config, dotlist)
    _check_env_leaf(from_command_line, env)
    settings |= _compute_settings(chosen.get("compute", "auto"), from_command_line)
    settings |= {"env.name": Setting(env, ""), "algo": Setting(algo, "")}
    if "tracking" in chosen:
        settings["tracking.kind"] = Setting(chosen["tracking"], "")
    config = build(Config, settings | from_command_line)
    learners.settle(config, from_command_line)
    _check_env_name(config.env.name)
    (validate.check if learns else validate.check_task)(config)
    return config


def to_yaml(config: Config) -> str:
    """A configuration as YAML, every leaf of it."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def save_config(config: Config, path: Path) -> None:
    """Write a configuration as YAML, for `load_saved_config`; a kill leaves the old file or the new one, whole."""
    replace_file(path, to_yaml(config).encode())


def load_saved_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration that `save_config` wrote, with `key=value` overrides; `compute=...` may be chosen anew."""
    chosen, dotlist = split_selectors(overrides)
    for name in ("env", "algo"):
        if name in chosen:
            raise UserError(f"{name}={chosen[name]} cannot change a run that exists: start a new one")
    if not path.is_file():
        raise UserError(f"{path.parent} is not a run: it has no {path.name}")
    settings = read_yaml(path)
    if "env.name" not in settings:
        raise UserError(f"{path} is empty, or not the configuration of a run: it does not say which task it is of")
    from_command_line = parse_dotlist(Config, dotlist)
    for key, given in from_command_line.items():
        there = settings.get(key, given).value
        if FIXED.fullmatch(key) and str(there) != str(given.value):
            shown = keys.typed(there)
            raise UserError(f"{key}={given.typed} cannot change a run that exists ({shown}): start a new one")
    if "compute" in chosen:
        preset = _compute_settings(chosen["compute"], from_command_line)
        _check_resumed_compute(chosen["compute"], preset, settings, given=from_command_line)
        settings |= preset
    if "tracking" in chosen:
        settings["tracking.kind"] = Setting(chosen["tracking"], "")
    config = build(Config, settings | from_command_line)
    learners.settle(config, from_command_line)
    validate.check(config)
    return config


def split_selectors(overrides: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Separate `env=walker` (a preset's name) from `env.camera=1` (a leaf); raises `UserError` without `=`."""
    chosen: dict[str, str] = {}
    rest: list[str] = []
    for item in overrides:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise UserError(f"'{item}' is not of the form key=value")
        if key in SELECTORS:
            chosen[key] = value
        else:
            rest.append(item)
    return chosen, rest


def parse_dotlist(schema: type, dotlist: Sequence[str]) -> dict[str, Setting]:
    """Read `key=value` items against the leaves of `schema`; raises `UserError` on an unknown key."""
    settings: dict[str, Setting] = {}
    for item in dotlist:
        key, equals, raw = item.partition("=")
        if not equals:
            raise UserError(f"'{item}' is not of the form key=value")
        check_key(schema, key)
        settings[key] = Setting(_parse_value(raw, keys.leaves(schema)[key]), "", raw)
    return settings


def _parse_value(raw: str, hint: Any) -> object:
    """What a command line's text means in YAML; a text leaf keeps every character of it (`run.name=007`, `a #1`)."""
    is_text = hint is str or str in get_args(hint)
    if is_text and raw not in ("null", "~"):
        return raw
    try:
        parsed = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={raw}"]), resolve=False)
    except (YAMLError, OmegaConfBaseException):
        return raw  # such as `[1`: the type decides
    return parsed["value"] if isinstance(parsed, dict) else raw


def build(schema: type[T], settings: Mapping[str, Setting]) -> T:
    """Make a `schema` from its defaults and `settings`; raises `UserError` on a value of the wrong type."""
    nested: dict[str, Any] = {}
    for key, setting in settings.items():
        *parents, leaf = key.split(".")
        node = nested
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = setting.value
    try:
        built = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), nested))
    except OmegaConfBaseException as error:
        raise _value_error(schema, settings, error) from error
    if not isinstance(built, schema):
        raise TypeError(f"OmegaConf made {type(built)} of {schema}")
    return built


def _value_error(schema: type, settings: Mapping[str, Setting], error: OmegaConfBaseException) -> UserError:
    key = str(error.full_key)
    if key not in settings:
        return UserError(first_line(error))
    value, source, typed = settings[key]
    if typed == "":
        return UserError(f"{key}= has no value")
    shown = keys.typed(value) if typed is None else typed
    hint = keys.leaves(schema)[key]
    suggestion = keys.nearest(shown, keys.choices(hint))
    if int in (hint, *get_args(hint)) and isinstance(value, float) and value.is_integer():
        suggestion = f": write {int(value)}"
    return UserError(f"{source}{key}={shown} is not {keys.describe(hint)}{suggestion}")


def _check_preset(group: str, name: str, also: Sequence[str] = ()) -> None:
    known = [*also, *presets(group)]
    if name not in known:
        raise UserError(f"unknown {group} '{name}' (known: {', '.join(known)}){keys.nearest(name, known)}")


def _check_env_name(name: str) -> None:
    """Accept a preset, or a task of dm_control's suite."""
    known = presets("env")
    if name not in known:
        suite_task(name, known)


def _check_env_leaf(command_line: Mapping[str, Setting], env: str) -> None:
    """Refuse a task that is named by its leaf, and so would be played with another one's settings."""
    name = str(command_line.get("env.name", Setting(env, "")).value)
    if name != env:
        _check_env_name(name)
        raise UserError(f"env.name={name} would take {env}'s settings, not that task's own: write env={name}")


def _check_resumed_compute(
    name: str, preset: Mapping[str, Setting], saved: Mapping[str, Setting], given: Mapping[str, Setting]
) -> None:
    """A run that exists takes its machine from a preset, and nothing else: `debug` shrinks task and networks too."""
    for key, (value, _, _) in preset.items():
        there = saved[key].value if key in saved else value
        if not key.startswith("compute.") and key not in given and str(there) != str(value):
            raise UserError(
                f"compute={name} sets {key}={keys.typed(value)}, and the run that exists has {keys.typed(there)}: "
                "take another preset, or single keys of compute.*"
            )


def _compute_settings(name: str, command_line: Mapping[str, Setting]) -> dict[str, Setting]:
    _check_preset("compute", name, also=("auto",))
    if name == "auto":
        wished = command_line.get("compute.device", Setting("auto", "")).value
        name = "gpu" if takes_gpu(wished, cuda_present) else "cpu"
    return read_yaml(sources.conf_dir() / "compute" / f"{name}.yaml")
