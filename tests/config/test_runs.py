"""Which run a person means."""

import os

import pytest

import vmil
from vmil.config.runs import POLICY_FILE, assets_dir, find_pretrained, find_run, pretrained_dir
from vmil.errors import UserError


@pytest.fixture
def runs(tmp_path):
    root = tmp_path / "runs"
    for age, name in enumerate(["walker-a", "walker-b", "other"]):
        (root / name).mkdir(parents=True)
        (root / name / "config.yaml").touch()
        os.utime(root / name / "config.yaml", (1000 - age, 1000 - age))
    (root / "no-run").mkdir()
    return root


def test_latest_is_the_one_started_last_not_the_first_in_the_alphabet(runs):
    assert find_run("latest", runs) == runs / "walker-a"


def test_by_name_and_by_path(runs):
    assert find_run("walker-b", runs) == runs / "walker-b"
    assert find_run(str(runs / "other"), runs.parent / "elsewhere") == runs / "other"


def test_what_is_no_run_is_said_with_the_nearest(runs):
    with pytest.raises(UserError, match=r"did you mean 'walker-b'\?$"):
        find_run("walkr-b", runs)
    with pytest.raises(UserError, match="is not a run"):
        find_run("no-run", runs)


def test_no_run_yet(tmp_path):
    with pytest.raises(UserError, match="there is no run under"):
        find_run("latest", tmp_path / "runs")


def test_what_came_with_the_package_lies_under_the_tasks_name():
    assert (assets_dir("walker") / "CARD.md").is_file()
    assert assets_dir("dmc:cartpole-swingup").name == "dmc-cartpole-swingup"


def test_an_unknown_policy_is_answered_by_those_that_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr(vmil, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(UserError, match=r"no trained policy 'walker' \(none came with this vmil: `make ship RUN=…`"):
        find_pretrained("walker")
    for env in ("walker", "dmc:cartpole-swingup"):
        directory = pretrained_dir(env)
        directory.mkdir(parents=True)
        (directory / POLICY_FILE).touch()
        assert find_pretrained(env) == directory
    assert find_pretrained(str(directory)) == directory
    with pytest.raises(UserError, match=r"'wlaker' \(there are: dmc-cartpole-swingup, walker\); did you mean 'walker'"):
        find_pretrained("wlaker")
