"""The command line: `python -m vmil <command> key=value ...`, which is what every Makefile target calls."""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import NoReturn

from vmil.commands import COMMANDS
from vmil.commands.explain import explain
from vmil.config import keys
from vmil.errors import INTERRUPTED, MISUSED, EnvError, NonFiniteError, StoppedError, UserError

CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)  # about files that the user named
MORE = "`vmil <command> --help` lists the settings that a command takes."


class Parser(argparse.ArgumentParser):
    """Complains as everything else here does: in one sentence."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise UserError(f"{message} (see `{self.prog} --help`)")


def make_parser(chosen: str) -> argparse.ArgumentParser:
    """The parser of the whole command line; only the help of the `chosen` command lists what that takes."""
    parser = Parser(prog="vmil", description=sys.modules["vmil"].__doc__, epilog=MORE)
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    for name, command in COMMANDS.items():
        about = command.run.__doc__ or ""
        epilog = explain(name, command) if name == chosen else None
        as_it_is = argparse.RawDescriptionHelpFormatter
        sub = commands.add_parser(name, help=about, description=about, epilog=epilog, formatter_class=as_it_is)
        sub.add_argument("settings", nargs="*", metavar="key=value", help="settings, as listed below")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 misused, 75 in use, 130 or 143 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments[:1] == ["help"]:
            arguments = [*arguments[1:2], "--help"]
        if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
            wrong = arguments[0]
            raise UserError(f"unknown command '{wrong}' (known: {', '.join(COMMANDS)}){keys.nearest(wrong, COMMANDS)}")
        _check_flags(arguments)
        parsed = make_parser(arguments[0] if arguments else "").parse_args(arguments or ["--help"])
        return COMMANDS[parsed.command].run(parsed.settings)
    except (UserError, EnvError, NonFiniteError, StoppedError) as error:
        return _complain(str(error), error.exit_code)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _complain(f"no space left on the disk for '{error.filename or 'a file'}': free some, then resume")
        if error.errno in CLOSED and error.filename:
            return _complain(f"'{error.filename}' cannot be used: {(error.strerror or 'no').lower()}")
        raise
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)


def _check_flags(arguments: Sequence[str]) -> None:
    """UserError for `--env walker` and `--env=walker`, as other programs have it, saying how it is written here."""
    if "--help" in arguments or "-h" in arguments:
        return
    for item, after in pairwise([*arguments, ""]):
        flag, equals, value = item.partition("=")
        if not equals and "=" not in after and not after.startswith("--"):
            value = after
        if flag.startswith("--") and flag != "--" and value:
            raise UserError(f"'{item}' is not of the form key=value: write {flag[2:].replace('-', '_')}={value}")


def _complain(sentence: str, code: int = MISUSED) -> int:
    print(f"vmil: {sentence}", file=sys.stderr)
    return code
