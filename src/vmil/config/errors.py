"""Why a command ends without a traceback, said in one sentence."""


class UserError(Exception):
    """Ends the command with exit code 2 and its message, without a traceback."""


class StoppedError(Exception):
    """The run was asked to end (SIGTERM, Ctrl-C) and has saved itself; ends the command with exit code 143."""
