"""The checkout as a person finds it: its commands, its targets, and `make` called in it."""

import os
import re
import shlex
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "src/vmil/OWN_DEMOS.md"
VARIABLES = {"ENV", "ALGO", "SEED", "COMPUTE", "ARGS", "RUN", "EPISODES", "N", "COUNT", "PYTHON", "WORKERS"}
VARIABLES |= {"DEMOS", "SRC", "OUT", "FORMAT", "PRETRAINED"}
VARIABLES |= {"NAME", "SEEDS", "BUDGET", "RUNNER"}  # of an experiment
VARIABLES |= {"BATCHES", "MINUTES"}  # of the benchmark; of a soak


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
