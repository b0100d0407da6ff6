"""The Makefile and the documents name the same commands and variables, and a target is its command."""

import re

import pytest
import yaml
from checkout import GUIDE, ROOT, VARIABLES, commands_of, make, readme_commands, targets

from vmil.cli import COMMANDS
from vmil.config.keys import leaves
from vmil.config.schema_cli import ImportOptions


def last_command(*arguments):
    """What a target runs after the set-up."""
    done = make("-n", "--no-print-directory", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].strip()


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
