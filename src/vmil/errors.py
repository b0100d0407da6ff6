"""Why a command ends without a traceback, said in one sentence."""

from collections.abc import Mapping
from typing import Any


def first_line(error: BaseException) -> str:
    """The first line of an exception's message; without a message, its class."""
    return (str(error).strip() or repr(error)).splitlines()[0]


class UserError(Exception):
    """Ends the command with exit code 2 and its message, without a traceback."""


class InUseError(UserError):
    """Another process holds what this command needs; ends it with exit code 75: it may be tried again later."""


class StoppedError(BaseException):
    """The run was asked to end (SIGTERM, Ctrl-C) and has saved itself; ends the command with exit code 143.

    Like KeyboardInterrupt it is no `Exception`: it is not taken for a failure of what it interrupts, such as OpenGL.
    """


class NonFiniteError(RuntimeError):
    """A loss, gradient, observation or action is NaN or infinite; ends the command with exit code 1.

    evidence: the tensors or arrays that it was found in or made from, by name, to be kept for inspection.
    """

    def __init__(self, message: str, evidence: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.evidence = dict(evidence or {})
