"""How a command ends: its exit codes, and why without a traceback, said in one sentence."""

from collections.abc import Mapping
from typing import Any

OK, FAILED, MISUSED = 0, 1, 2  # a command's exit codes
LOOK_AGAIN = 75  # what sysexits.h calls a temporary failure: another process holds, or held, what is needed
INTERRUPTED, STOPPED = 130, 143  # the shell's for Ctrl-C and SIGTERM


def first_line(error: BaseException) -> str:
    """The first line of an exception's message; without a message, its class."""
    return (str(error).strip() or repr(error)).splitlines()[0]


class UserError(Exception):
    """Ends the command with its message, without a traceback."""

    exit_code = MISUSED


class InUseError(UserError):
    """Another process holds what this command needs: it may be tried again later."""

    exit_code = LOOK_AGAIN


class StoppedError(BaseException):
    """The run was asked to end (SIGTERM, Ctrl-C) and has saved itself.

    Like KeyboardInterrupt it is no `Exception`: it is not taken for a failure of what it interrupts, such as OpenGL.
    """

    exit_code = STOPPED


class EnvError(RuntimeError):
    """The environment raised an exception of its own, which is the cause: which one, in what episode and step."""

    exit_code = FAILED


class NonFiniteError(RuntimeError):
    """A loss, gradient, observation or action is NaN or infinite.

    evidence: the tensors or arrays that it was found in or made from, by name, to be kept for inspection.
    """

    exit_code = FAILED

    def __init__(self, message: str, evidence: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.evidence = dict(evidence or {})
