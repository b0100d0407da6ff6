"""Paths as people write them on a command line."""

from __future__ import annotations

from pathlib import Path

from vmil.config.errors import UserError


def user_path(key: str, text: str) -> Path:
    """The absolute path that `key=text` means, `~` expanded; UserError if there can be none."""
    try:
        return Path(text).expanduser().absolute()
    except (RuntimeError, OSError) as error:  # no such user; no such working directory any more
        raise UserError(f"{key}={text} leads nowhere: {error}") from error
