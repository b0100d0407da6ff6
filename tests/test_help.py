"""`vmil <command> --help`: the keys that it lists are those that the command takes."""

from fnmatch import fnmatchcase

import pytest

from vmil import cli
from vmil.config.keys import leaves
from vmil.config.load import FIXED
from vmil.config.schema import Config
from vmil.config.sources import SELECTORS
from vmil.errors import UserError
from vmil.experiments.grid import OWN


@pytest.mark.parametrize(("arguments", "first"), [(["help"], "usage: vmil "), (["help", "ui"], "usage: vmil ui ")])
def test_help_is_a_command_too(arguments, first, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith(first)


def help_of(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit) as left:
        cli.main([command, "--help"])
    assert left.value.code == 0
    return capsys.readouterr().out.splitlines()


def test_the_help_of_a_command_lists_its_own_keys_and_the_presets_that_it_reads(capsys, monkeypatch):
    lines = help_of("import-demos", capsys, monkeypatch)
    assert (
        "its own: src format out root image action proprio alignment resize action_low action_high skip_bad "
        "(explained in src/vmil/config/schema_cli.py)"
    ) in lines
    assert "env: baoding, cheetah, counting, dot, sawyer, walker" in lines
    assert not any(line.startswith("compute:") for line in lines)
    lines = help_of("publish", capsys, monkeypatch)
    assert not any(line.startswith(("env:", "algo:", "of a run:")) for line in lines)
    assert "it takes no settings" in help_of("doctor", capsys, monkeypatch)


def test_the_help_of_an_expert_tells_the_options_of_each_task_apart(capsys, monkeypatch):
    own = {line.partition(":")[0]: line for line in help_of("expert", capsys, monkeypatch) if "its own" in line}
    assert list(own) == ["its own", "its own with env=baoding"]  # cheetah's differ in their defaults only
    assert " horizon " in own["its own with env=baoding"]
    assert " frames " in own["its own"]
    assert "src/vmil/config/schema_expert.py" in own["its own"]


class AcceptedError(Exception):
    """Every key was one that the command reads."""


@pytest.mark.parametrize("command", ["import-demos", "export-demos", "bench"])
def test_the_keys_of_a_run_in_the_help_are_those_that_the_command_takes(command, monkeypatch):
    def accept(*_):
        raise AcceptedError

    monkeypatch.setattr("vmil.config.commands.split", accept)
    accepted, refused = set(), set()
    candidates = {*leaves(Config), *SELECTORS} - set(leaves(cli.COMMANDS[command].own[""]))
    for key in candidates:
        try:
            cli.COMMANDS[command].run([f"{key}=1"])
        except AcceptedError:
            accepted.add(key)
        except UserError as error:
            refused |= {key} if str(error).startswith(f"unknown key '{key}'") else set()
    patterns = cli.COMMANDS[command].reads.split()
    assert accepted | refused == candidates
    assert accepted == {key for key in candidates if any(fnmatchcase(key, pattern) for pattern in patterns)}


@pytest.mark.parametrize(("command", "fixed"), [("resume", FIXED), ("experiment", OWN)])
def test_the_help_excepts_the_keys_that_cannot_be_set_there(command, fixed):
    patterns = cli.COMMANDS[command].reads.removeprefix("all but ").split()
    excepted = {key for key in leaves(Config) if any(fnmatchcase(key, pattern) for pattern in patterns)}
    assert excepted - {"algo"} == {key for key in leaves(Config) if fixed.fullmatch(key)} - {"algo"}
