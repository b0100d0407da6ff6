"""What `vmil <command> --help` says of the settings that the command takes."""

from __future__ import annotations

import dataclasses
import shutil
import textwrap

from vmil.commands import Command
from vmil.config import keys
from vmil.config.sources import presets


def explain(name: str, command: Command) -> str:
    """The command's own keys, the keys of a run that it reads, the presets that it chooses from, and an example."""
    shown: dict[tuple[str, ...], str] = {}  # by its keys: options that differ in their defaults only are listed once
    for env, schema in command.own.items():
        shown.setdefault(tuple(keys.leaves(schema)), _own(env, schema))
    lines = list(shown.values())
    if command.reads:
        lines.append(f"of a run: {command.reads} (`vmil config` prints a run's keys)")
    if not lines:
        lines.append("it takes no settings")
    lines += [f"{group}: {', '.join(presets(group))}" for group in command.groups]
    lines.append(f"example: vmil {name} {command.example}".rstrip())
    width = shutil.get_terminal_size().columns - 2
    return "\n".join(_filled(line, width) for line in lines)


def _own(env: str, schema: type) -> str:
    """The leaves of a schema, and the files whose comments say what each is."""
    bases = [base for base in schema.__mro__ if dataclasses.is_dataclass(base)]
    files = dict.fromkeys(f"src/{base.__module__.replace('.', '/')}.py" for base in bases)
    title = f"its own with env={env}" if env else "its own"
    return f"{title}: {' '.join(keys.leaves(schema))} (explained in {', '.join(files)})"


def _filled(line: str, width: int) -> str:
    return textwrap.fill(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
