"""Where settings come from: the YAML presets of `conf/`, and what a file of them may hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from omegaconf import OmegaConf
from yaml import AliasEvent

import vmil
from vmil.config import keys
from vmil.config.schema import Config
from vmil.errors import UserError, first_line

SELECTORS = ("env", "algo", "compute", "tracking")  # `env=walker` picks a preset, `env.camera=1` sets a leaf
MAX_BYTES = 256 * 1024  # of a YAML file: a whole configuration is 6 KiB


class Setting(NamedTuple):
    """A value for one leaf and where it came from."""

    value: object
    source: str  # "" for the command line, else the file
    typed: str | None = None  # how the command line wrote it


def conf_dir() -> Path:
    """The directory of the YAML presets: package data when installed, `conf/` of the checkout when editable."""
    package = Path(vmil.__file__).parent
    for candidate in (package / "conf", package.parents[1] / "conf"):
        if (candidate / "default.yaml").is_file():
            return candidate
    raise UserError(f"the presets conf/*.yaml are missing beside {package}: install vmil again")


def presets(group: str) -> list[str]:
    """Names of the presets of a group (`env`, `algo` or `compute`)."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def check_key(schema: type, key: str, source: str = "") -> None:
    """Raise `UserError` unless `key` is a leaf of `schema`, naming the nearest that is."""
    known = keys.leaves(schema)
    if key in known:
        return
    if key in keys.sections(schema):
        first = next(name for name in known if name.startswith(f"{key}."))
        raise UserError(f"{source}'{key}' is a group of keys, such as '{first}': set one of them")
    candidates = [*known, *(name for name in SELECTORS if schema is Config)]
    raise UserError(f"{source}unknown key '{key}'{keys.nearest(key, candidates)}")


def read_yaml(path: Path) -> dict[str, Setting]:
    """The leaves of a YAML file; raises `UserError` naming the file if it is no YAML or has an unknown key."""
    settings: dict[str, Setting] = {}
    _flatten_yaml(*_read(path), settings)
    return settings


def read_algorithm(name: str, env: str) -> dict[str, Setting]:
    """The leaves of an algorithm's preset, of its file for one task, and before them those of its `base`.

    Raises `UserError` as `read_yaml`, and for a base that is no preset or comes back to itself.
    """
    chain: list[tuple[str, dict[Any, Any], str]] = []
    current: object = name
    while current is not None:
        content, source = _read(conf_dir() / "algo" / f"{current}.yaml")
        chain.insert(0, (str(current), content, source))
        current = content.pop("base", None)
        if current is not None and (current not in presets("algo") or current in [known for known, _, _ in chain]):
            raise UserError(f"{source}base: {current} is not another algorithm (known: {', '.join(presets('algo'))})")
    settings: dict[str, Setting] = {}
    for each, content, source in chain:
        _flatten_yaml(content, source, settings)
        fitted = conf_dir() / "algo" / each / f"{env}.yaml"
        settings |= read_yaml(fitted) if fitted.is_file() else {}
    return settings


def _read(path: Path) -> tuple[dict[Any, Any], str]:
    """A YAML file's mapping, and what messages about it begin with."""
    source = f"{path.parent.name}/{path.name}: "
    try:
        refuse_to_unfold(path)
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except Exception as error:  # besides YAML's and OmegaConf's own errors: bad dates, endless nesting, bad text
        raise UserError(f"{source}cannot be read ({first_line(error)})") from error
    if not isinstance(content, dict):
        raise UserError(f"{source}must hold keys and values")
    return content, source


def refuse_to_unfold(path: Path) -> None:
    """ValueError for what would grow when it is read: aliases of aliases fill any memory from a few lines."""
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES >> 10} KiB")
    if any(isinstance(event, AliasEvent) for event in yaml.parse(path.read_text(encoding="utf-8"), yaml.SafeLoader)):
        raise ValueError("aliases are not allowed")


def _flatten_yaml(node: Mapping[Any, Any], source: str, into: dict[str, Setting], prefix: str = "") -> None:
    groups = keys.sections(Config)
    for name, value in node.items():
        key = f"{prefix}{name}"
        if key in groups and (value is None or isinstance(value, dict)):
            _flatten_yaml(value or {}, source, into, f"{key}.")
        else:
            check_key(Config, key, source)
            into[key] = Setting(value, source)
