"""The lock, pyproject, environment.yml, continuous integration and what the code imports say the same thing."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest
import yaml
from checkout import ROOT, readme_commands
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYTHONS = ("3.11", "3.12", "3.13")
CUDA = re.compile(r"nvidia-|cuda-|triton$")  # torch brings its own
# Imported by no module of ours, and needed all the same.
NOT_IMPORTED = {
    "absl-py": "dm_control",
    "dm-env": "dm_control",
    "dm-tree": "dm_control",
    "glfw": "dm_control",
    "gymnasium-robotics": "baoding, which reads its assets",
    "lxml": "dm_control",
    "protobuf": "dm_control",
    "pyopengl": "dm_control",
    "pyparsing": "dm_control",
    "requests": "dm_control",
    "setuptools": "dm_control",
}


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements(*extras):
    lines = list(project()["dependencies"])
    for extra in extras:
        lines += project()["optional-dependencies"][extra]
    return [Requirement(line) for line in lines]


def lock():
    """{name: (version, marker)}."""
    pinned = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            [specifier] = requirement.specifier
            assert specifier.operator == "==", line
            pinned[canonicalize_name(requirement.name)] = (specifier.version, requirement.marker)
    return pinned


def applies(marker, python, extra=""):
    return marker is None or marker.evaluate(
        {"python_version": python, "python_full_version": f"{python}.0", "extra": extra}
    )


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_pins_what_pyproject_asks_for(python):
    pinned = lock()
    for requirement in requirements("dev", "formats", "notebooks"):
        if applies(requirement.marker, python):
            version, marker = pinned[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), f"{requirement} but {version} is locked"
            assert applies(marker, python), f"{requirement.name} is not locked for Python {python}"


def test_the_lock_holds_every_indirect_package_too():
    pinned, seen, queue = lock(), set(), [(r, "") for r in requirements("dev", "formats", "notebooks")]
    python = "{}.{}".format(*sys.version_info)
    while queue:
        requirement, extra = queue.pop()
        name = canonicalize_name(requirement.name)
        if CUDA.match(name) or not applies(requirement.marker, python, extra):
            continue
        assert name in pinned, f"{name} is installed but not locked"
        for wanted in ("", *requirement.extras):
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                queue += [(Requirement(line), wanted) for line in metadata.requires(requirement.name) or ()]
    needed = {name for name, _ in seen} | {"dm-control"}  # on 3.13 the Makefile names it, pyproject does not
    idle = {name for name, (_, marker) in pinned.items() if applies(marker, python)} - needed
    assert not idle, "locked, and needed by nothing"


def test_the_lock_is_for_any_machine():
    text = "\n".join(line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#"))
    assert not re.search(r"\+|@|file:|://|--", text)
    assert not any(CUDA.match(name) for name in lock())


def test_python_3_13_gets_what_dm_control_needs_but_labmaze():
    needed = {
        canonicalize_name(Requirement(line).name) for line in metadata.requires("dm_control") if "extra" not in line
    }
    ours = {canonicalize_name(r.name) for r in requirements() if applies(r.marker, "3.13")}
    assert needed - ours == {"labmaze"}
    assert "dm-control" not in ours


def imported_modules(path):
    """Top-level names that a file imports, at its head or inside its functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        yield from modules_of(node)


def modules_of(node):
    if isinstance(node, ast.Import):
        yield from (alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and not node.level:
        yield node.module.partition(".")[0]


def imported_packages(folder):
    """What a folder imports from others: {possible distributions of a module: one file}."""
    owners = metadata.packages_distributions()
    files = list((ROOT / folder).rglob("*.py"))
    neighbours = {path.stem for path in files if folder == "tests"}  # which pytest lets a test import by name
    own = {"vmil", *neighbours, *sys.stdlib_module_names}
    return {
        frozenset(map(canonicalize_name, owners.get(module, [module]))): str(path)
        for path in files
        for module in imported_modules(path)
        if module not in own
    }


def test_whatever_is_imported_is_declared():
    for folder, extras in (("src", ("formats", "notebooks", "ray")), ("tests", ("dev", "formats", "notebooks"))):
        declared = {canonicalize_name(r.name) for r in requirements(*extras)}
        assert not {owners: path for owners, path in imported_packages(folder).items() if not owners & declared}


def test_whatever_is_declared_is_imported_or_explained():
    imported = frozenset().union(*imported_packages("src"))
    idle = {canonicalize_name(r.name) for r in requirements()} - imported
    assert idle <= set(NOT_IMPORTED)


def test_conda_delegates_to_the_same_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    [pip] = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == ["-c requirements.lock", "-e .[dev,formats,notebooks]"]
    plain = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    [python] = [entry for entry in plain if entry.startswith("python=")]
    assert python.removeprefix("python=") in PYTHONS[:-1]  # dm_control installs whole there
    assert "pip" in plain


def test_continuous_integration_runs_the_readme_s_test_command():
    script = (ROOT / ".ci/run").read_text()
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert "set -euo pipefail" in script
    assert script.rstrip().splitlines()[-1] == "make test"
    assert ["make", "test"] in readme_commands()
    assert subprocess.run(["bash", "-n", ROOT / ".ci/run"], check=False).returncode == 0


@pytest.mark.parametrize("path", sorted((ROOT / "src").rglob("*.py")), ids=lambda path: path.stem)
def test_mujoco_is_imported_inside_functions_only(path):
    """OpenGL must be chosen before it, and torchrl's triton loaded: the other way round their two LLVMs crash."""
    at_import = [node for node in ast.parse(path.read_text()).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert not {name for node in at_import for name in modules_of(node)} & {"mujoco", "dm_control", "metaworld"}
