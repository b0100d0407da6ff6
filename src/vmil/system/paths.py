"""Paths as people write them on a command line."""

from __future__ import annotations

from pathlib import Path

from vmil.errors import UserError


def given_path(key: str, text: str) -> Path:
    """The path that `key=text` means, `~` expanded; UserError if there is no such user."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(f"{key}={text} leads nowhere: {error}") from error


def user_path(key: str, text: str) -> Path:
    """As `given_path`, but absolute; UserError if there can be none."""
    try:
        return given_path(key, text).absolute()
    except OSError as error:  # no such working directory any more
        raise UserError(f"{key}={text} leads nowhere: {error}") from error


def check_directory_name(key: str, name: str, parent: str) -> None:
    """UserError if what `key=name` names would not lie directly in the directory that the key `parent` names."""
    if not name.strip() or "/" in name or name in (".", ".."):
        raise UserError(f"{key}={name} is not a directory name; its parent is {parent}")
