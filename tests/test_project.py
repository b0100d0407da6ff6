"""README, Makefile, presets, lock, environment and continuous integration say the same thing."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from vmil.cli import COMMANDS
from vmil.config.keys import leaves, sections
from vmil.config.load import load_config
from vmil.config.schema import Config
from vmil.config.schema_cli import ImportOptions
from vmil.config.sources import conf_dir

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "src/vmil/OWN_DEMOS.md"
PYTHONS = ("3.11", "3.12", "3.13")
CUDA = re.compile(r"nvidia-|cuda-|triton$")  # torch brings its own
VARIABLES = {"ENV", "ALGO", "SEED", "COMPUTE", "ARGS", "RUN", "EPISODES", "N", "COUNT", "PYTHON", "WORKERS"}
VARIABLES |= {"DEMOS", "SRC", "OUT", "FORMAT", "PRETRAINED"}
VARIABLES |= {"NAME", "SEEDS", "BUDGET", "RUNNER"}  # of an experiment
VARIABLES |= {"BATCHES", "MINUTES"}  # of the benchmark; of a soak
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


# ---- Makefile and README ----------------------------------------------------------------


def make(*arguments, cwd=ROOT, **environment):
    clean = {name: value for name, value in os.environ.items() if name not in VARIABLES and not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments],
        cwd=cwd,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def last_command(*arguments):
    """What a target runs after the set-up."""
    done = make("-n", "--no-print-directory", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].strip()


def targets():
    return set(re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE).group(1).split())


def readme_commands():
    """Every `make ...` that the README shows in a code block or in backticks."""
    return commands_of(ROOT / "README.md")


def commands_of(document):
    text = document.read_text()
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`(make[^`]*)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    commands = [line for line in [*lines, *inline] if line.split()[:1] == ["make"]]
    return [shlex.split(command, comments=True) for command in commands]


def test_help_names_the_variables_that_a_target_reads():
    """It is by the line of help that a variable given in vain is told from one that is read."""
    text = (ROOT / "Makefile").read_text()
    shared = {name: re.search(rf"^{name} += (.*)$", text, re.MULTILINE).group(1) for name in ("PART", "IO", "COUNT")}
    recipes = re.findall(r"^([a-z-]+):[^\n]*##([^\n]*)\n((?:\t[^\n]*\n)*)", text, re.MULTILINE)
    assert {name for name, *_ in recipes} == targets() - {"FORCE"}
    for name, explained, recipe in recipes:
        if name == "help":
            continue
        for short, whole in shared.items():
            recipe = recipe.replace(f"$({short})", f"$({short}){whole}")
        read = {variable for variable in VARIABLES if f"$({variable})" in recipe}
        assert read == set(re.findall("[A-Za-z_]+", explained)) & set(VARIABLES), name


@pytest.mark.parametrize(
    ("arguments", "vain"), [("train BUDGET=3", "BUDGET"), ("lint RUN=x", "RUN"), ("ui notebooks N=2", "N")]
)
def test_a_variable_given_in_vain_is_refused(arguments, vain):
    done = make("-n", *arguments.split())
    assert done.returncode == 2
    assert f"does not use {vain}; it uses" in done.stderr


def test_the_readme_shows_how_to_train_and_how_to_test():
    shown = [command[1] for command in readme_commands() if len(command) > 1]
    assert {"train", "test"} <= set(shown)


@pytest.mark.parametrize("command", [*readme_commands(), *commands_of(GUIDE)], ids=" ".join)
def test_every_readme_command_is_a_target_with_known_variables(command):
    for word in command[1:]:
        if word == "…":  # "and so on", in a sentence
            continue
        name, equals, _ = word.partition("=")
        assert name in (VARIABLES if equals else targets()), word
    assert "…" in " ".join(command) or make("-n", *command[1:]).returncode == 0


def test_the_guide_explains_every_option_of_the_import():
    text = GUIDE.read_text()
    for option in set(leaves(ImportOptions)) - {"src", "format", "out", "root"}:
        assert f"{option}=" in text, option
    for option in ("SRC=", "FORMAT=", "OUT=", "DEMOS="):
        assert option in text


def test_make_alone_explains_every_target():
    printed = make().stdout
    listed = set(re.findall(r"^  ([a-z-]+) ", printed, re.MULTILINE))
    assert listed == targets()
    assert all(f"{name}=" in printed for name in VARIABLES - {"WORKERS"})


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_a_target(command):
    assert last_command(command).startswith(f".venv/bin/python -m vmil {command}")


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["train"], "train env={env} algo={algo} seed=0 compute=auto"),
        (
            ["train", "ENV=cheetah", "ALGO=vmil", "SEED=3", "COMPUTE=cpu", "ARGS=world_model.deter=256 run.name=x"],
            "train env=cheetah algo=vmil seed=3 compute=cpu world_model.deter=256 run.name=x",
        ),
        (["resume", "RUN=mine"], "resume run='mine'"),
        (["evaluate", "RUN=runs/mine", "EPISODES=3"], "evaluate run='runs/mine' episodes=3"),
        (["evaluate", "PRETRAINED=walker"], "evaluate pretrained='walker'"),
        (["ship", "RUN=mine", "OUT=x", "EPISODES=20"], "ship run='mine' out='x' episodes=20"),
        (["expert", "ENV=cheetah", "SEED=1"], "expert env=cheetah seed=1"),
        (["demos", "ENV=cheetah", "COUNT=4"], "demos env=cheetah seed=0 count=4"),
        (["demos", "ENV=sawyer", "N=50"], "demos env=sawyer seed=0 count=50"),
        (
            ["experiment", "NAME=figure4", "SEEDS=0 1 2", "BUDGET=20000", "ARGS=env=walker jobs=2"],
            'experiment name=figure4 seeds="0 1 2" budget=20000 runner=local env=walker jobs=2',
        ),
        (["experiment", "RUNNER=ray"], 'experiment name=figure3 seeds="0" runner=ray'),
        (["publish", "RUN=mine"], "publish run='mine'"),
        (["train", "DEMOS=my demos"], "train env={env} algo={algo} seed=0 compute=auto demos.path='my demos'"),
        (["import-demos", "SRC=a.hdf5"], "import-demos env={env} src='a.hdf5'"),
        (
            ["import-demos", "ENV=cheetah", "SRC=x", "FORMAT=npz", "OUT=y", "ARGS=resize=crop"],
            "import-demos env=cheetah src='x' format=npz out='y' resize=crop",
        ),
        (
            ["export-demos", "FORMAT=minari", "OUT=z", "DEMOS=d"],
            "export-demos env={env} demos.path='d' format=minari out='z'",
        ),
        (["bench"], "bench env={env} algo={algo} compute=auto"),
        (
            ["bench", "BATCHES=16x50,128x50", "OUT=fast.json", "ARGS=parts=update"],
            "bench env={env} algo={algo} compute=auto batches='16x50,128x50' out='fast.json' parts=update",
        ),
        (["smoke"], "train env={env} algo={algo} seed=0 compute=debug"),
        (["smoke", "DEMOS=a b"], "train env={env} algo={algo} seed=0 compute=debug demos.path='a b' demos.count=null"),
    ],
)
def test_a_target_is_its_command(arguments, command):
    default = yaml.safe_load((ROOT / "conf/default.yaml").read_text())
    expected = command.format(env=default["env"]["name"], algo=default["algo"])
    assert " ".join(last_command(*arguments).split()) == f".venv/bin/python -m vmil {expected}"


@pytest.mark.parametrize("word", ["env=cheetah", "DEMO=/data/mine", "Seed=3"])
def test_a_variable_that_is_none_is_said(word):
    done = make("-n", "train", word)
    assert done.returncode == 2
    assert f"unknown variable {word.partition('=')[0]}; known: ENV ALGO SEED" in done.stderr


def test_the_environment_of_the_shell_changes_nothing():
    done = make("-n", "--no-print-directory", "train", ENV="/root/.profile", SEED="9", ALGO="none")
    default = yaml.safe_load((ROOT / "conf/default.yaml").read_text())
    assert f"env={default['env']['name']} algo={default['algo']} seed=0" in done.stdout.splitlines()[-1]


# ---- setting up ----------------------------------------------------------------


@pytest.fixture
def bare_checkout(tmp_path):
    """A checkout and a PATH with nothing but the shell's tools; `python(name, body)` adds an interpreter."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "sh", "sed", "awk", "cat", "cksum", "tr", "rm", "touch", "nproc", "mkdir", "make"):
        (tools / name).symlink_to(shutil.which(name))
    return tmp_path


def interpreter(checkout, name, body):
    script = checkout / "bin" / name
    script.write_text(f"#!/bin/bash\n{body}\n")
    script.chmod(0o755)


# A stand-in for Python that makes a virtual environment of itself and writes down what pip is asked for.
FIT = """case "$*" in
  *"-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python; echo venv >> calls;;
  *"-m pip"*) echo "$@" >> calls;;
  *-V*) echo Python 3.12.0;;
  *pytest*) echo tested >> calls;;
esac"""


def test_without_python_one_sentence_says_so(bare_checkout):
    done = make("test", cwd=bare_checkout, PATH=str(bare_checkout / "bin"))
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == (
        "vmil: no Python 3.11 to 3.13 is here: install one, or name it with PYTHON=/path/to/python."
    )


def test_a_python_that_does_not_run_is_named(bare_checkout):
    interpreter(bare_checkout, "stub", "echo 'command not found' >&2; exit 127")
    done = make("test", "PYTHON=stub", cwd=bare_checkout, PATH=str(bare_checkout / "bin"))
    assert done.stderr.splitlines()[0] == (
        "vmil: 'stub' is not a Python 3.11 to 3.13 that runs: install one, or name it with PYTHON=/path/to/python."
    )


def test_a_python_without_venv_is_named_with_its_package(bare_checkout):
    interpreter(bare_checkout, "python3", '[[ "$*" != *ensurepip* ]]')
    done = make("test", cwd=bare_checkout, PATH=str(bare_checkout / "bin"))
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == (
        "vmil: python3 has no venv module: install it (on Debian: apt-get install python3-venv)."
    )


def test_set_up_skips_the_unfit_and_happens_once_for_each_lock(bare_checkout):
    interpreter(bare_checkout, "python3.12", "exit 127")  # a version manager's stub
    interpreter(bare_checkout, "python3", FIT)
    (bare_checkout / "bin" / "cp").symlink_to(shutil.which("cp"))
    path = str(bare_checkout / "bin")
    calls = bare_checkout / "calls"
    for _ in range(2):
        done = make("test", cwd=bare_checkout, PATH=path)
        assert done.returncode == 0, done.stderr
    install = "-m pip install --disable-pip-version-check --quiet -c requirements.lock"
    setup = [f"{install} -e .[dev,formats,notebooks]", f"{install} --no-deps dm_control"]
    assert calls.read_text().splitlines() == ["venv", *setup, "tested", "tested"]
    with (bare_checkout / "requirements.lock").open("a") as file:
        file.write("# changed\n")
    calls.unlink()
    assert make("test", cwd=bare_checkout, PATH=path).returncode == 0
    assert calls.read_text().splitlines() == [*setup, "tested"]  # into the environment that is there
    calls.unlink()
    shutil.copytree(bare_checkout, bare_checkout.parent / "copy", symlinks=True)
    copy = bare_checkout.parent / "copy"
    assert make("test", cwd=copy, PATH=str(copy / "bin")).returncode == 0
    assert (copy / "calls").read_text().splitlines() == [*setup, "tested"]  # else the first one's code would be tested
    interpreter(bare_checkout, "other", FIT.replace("3.12.0", "3.13.0"))
    for _ in range(2):
        assert make("test", "PYTHON=other", cwd=bare_checkout, PATH=path).returncode == 0
    assert calls.read_text().splitlines() == ["venv", *setup, "tested", "tested"]


def test_of_two_makes_at_once_one_sets_up_and_the_other_waits_for_it(bare_checkout):
    if shutil.which("flock") is None:
        pytest.skip("no flock here, and so no lock")
    slow = FIT.replace('*"-m pip"*) ', '*"-m pip"*) for ((i = 0; i < 30000; i++)); do :; done; ')
    assert slow != FIT
    interpreter(bare_checkout, "python3", slow)
    for name in ("cp", "flock"):
        (bare_checkout / "bin" / name).symlink_to(shutil.which(name))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    environment = {**clean, "PATH": str(bare_checkout / "bin")}
    makes = [
        subprocess.Popen(["make", "test"], cwd=bare_checkout, env=environment, stdout=subprocess.DEVNULL) for _ in "12"
    ]
    assert [make.wait() for make in makes] == [0, 0]
    calls = [line.split()[0] for line in (bare_checkout / "calls").read_text().splitlines()]
    assert sorted(calls) == ["-m", "-m", "tested", "tested", "venv"]


# ---- packages ----------------------------------------------------------------


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


# ---- configuration ----------------------------------------------------------------


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


# ---- code ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted((ROOT / "src").rglob("*.py")), ids=lambda path: path.stem)
def test_mujoco_is_imported_inside_functions_only(path):
    """OpenGL must be chosen before it, and torchrl's triton loaded: the other way round their two LLVMs crash."""
    at_import = [node for node in ast.parse(path.read_text()).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert not {name for node in at_import for name in modules_of(node)} & {"mujoco", "dm_control", "metaworld"}
