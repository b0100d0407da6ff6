"""Where MLflow keeps runs, and how that place is written down: without whatever opens it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from vmil.config.schema import TrackingConfig

VARIABLE = "MLFLOW_TRACKING_URI"
_SQLITE = "sqlite:///"
CREDENTIALS = re.compile(r"(?<=://)[^/?#\s]*@")  # up to the last @: a password may hold one


def tracking_uri(config: TrackingConfig, root: Path) -> str:
    """Where MLflow keeps runs: the configured URI, else $MLFLOW_TRACKING_URI, else SQLite under `root`."""
    return config.uri or os.environ.get(VARIABLE) or f"{_SQLITE}{root.resolve() / 'mlflow.db'}"


def sqlite_file(uri: str) -> Path | None:
    """The file of an SQLite store; None: it is another kind of store."""
    return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None


def shown(text: str) -> str:
    """A URI, or a text that holds some, without user names and passwords: for files, messages and comparisons."""
    return CREDENTIALS.sub("", text)
