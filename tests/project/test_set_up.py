"""What the first `make` does: finds a Python, makes the environment once for each lock."""

import os
import shutil
import subprocess

import pytest
from checkout import ROOT, make


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
