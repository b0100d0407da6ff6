"""Every setting of a preset is a known key, and every key is read."""

import ast

import pytest
import yaml
from checkout import ROOT

from vmil.config.keys import leaves, sections
from vmil.config.load import load_config
from vmil.config.schema import Config
from vmil.config.sources import conf_dir


def test_the_presets_are_the_checkout_s():
    assert conf_dir() == ROOT / "conf"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "conf").rglob("*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_what_a_yaml_sets_is_a_known_key(path):
    group, name = path.parent.name, path.stem
    fitted = path.parent.parent.name == "algo"  # one algorithm's settings for one task
    if group == "conf":
        return  # default.yaml: composed by every other case
    if group == "experiment":
        return  # grids of runs: tests/experiments reads them
    assert fitted or group in ("env", "algo", "compute")
    content = yaml.safe_load(path.read_text())
    content.pop("base", None)  # of an algorithm: the one that it begins from
    config = load_config([f"algo={group}", f"env={name}"] if fitted else [f"{group}={name}"])
    known = leaves(Config)
    given = [f"{section}.{key}" for section, keys in content.items() if isinstance(keys, dict) for key in keys]
    given += [key for key, value in content.items() if not isinstance(value, dict)]
    assert set(given) <= set(known)
    if fitted or group == "compute":  # they share no key, and nothing but the command line comes after them
        for key in given:
            section, _, leaf = key.partition(".")
            assert getattr(getattr(config, section), leaf) == content[section][leaf]


def test_no_knob_is_dead():
    """Every leaf is read outside config/, in a file that also names the leaf's group or its class."""
    groups = {name: type(getattr(Config(), name)).__name__ for name in sections(Config)}
    attributes, names = {}, {}
    for path in (ROOT / "src/vmil").rglob("*.py"):
        if path.parent.name != "config":
            tree = list(ast.walk(ast.parse(path.read_text())))
            attributes[path] = {node.attr for node in tree if isinstance(node, ast.Attribute)}
            names[path] = {node.id for node in tree if isinstance(node, ast.Name)}
    dead = []
    for key in leaves(Config):
        group, _, leaf = key.rpartition(".")
        owner = groups.get(group, "Config")
        if not any(
            leaf in attributes[path] and ({group, owner} & (attributes[path] | names[path])) for path in attributes
        ):
            dead.append(key)
    assert not dead
