"""`run.json`: what must be known about a run without opening its checkpoint."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

RECORD_NAME = "run.json"
_writing = threading.Lock()  # the trackers' threads each set fields of their own


def read_record(run_dir: Path) -> dict[str, object]:
    """The fields of `run.json` (status, seconds, tags, mlflow_run_id, mlflow_uri); empty if none can be read."""
    try:
        record = json.loads((run_dir / RECORD_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def update_record(run_dir: Path, **fields: object) -> None:
    """Sets fields of `run.json` and keeps the others; atomic, so that a kill leaves the old or the new file.

    Raises:
        OSError: the directory cannot be written.
    """
    with _writing:
        record = {**read_record(run_dir), **fields}
        with (run_dir / f".{RECORD_NAME}.tmp").open("w", encoding="utf-8") as file:
            file.write(json.dumps(record, indent=2, sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())  # or a power cut after the rename may leave an empty file
        os.replace(file.name, run_dir / RECORD_NAME)
