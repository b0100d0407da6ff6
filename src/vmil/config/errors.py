"""What a person did wrong, said in one sentence."""


class UserError(Exception):
    """Ends the command with exit code 2 and its message, without a traceback."""
