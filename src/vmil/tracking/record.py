"""`run.json`: what must be known about a run without opening its checkpoint."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from vmil.system.files import replace_file

RECORD_NAME = "run.json"
_writing = threading.Lock()  # the trackers' threads each set fields of their own


def read_record(run_dir: Path) -> dict[str, object]:
    """The fields of `run.json` (status, seconds, tags, mlflow_run_id, mlflow_uri, directory); empty if unreadable."""
    try:
        record = json.loads((run_dir / RECORD_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def copied_from(run_dir: Path) -> Path | None:
    """The run directory that this one is a copy of, if it still has the same MLflow run; None: it was made or moved."""
    record = read_record(run_dir)
    first = Path(str(record.get("directory", run_dir)))
    same = "mlflow_run_id" in record and read_record(first).get("mlflow_run_id") == record["mlflow_run_id"]
    return first if same and not first.samefile(run_dir) else None


def update_record(run_dir: Path, **fields: object) -> None:
    """Sets fields of `run.json` and keeps the others; atomic, so that a kill leaves the old or the new file.

    Raises:
        OSError: the directory cannot be written.
    """
    with _writing:
        record = {**read_record(run_dir), **fields}
        replace_file(run_dir / RECORD_NAME, f"{json.dumps(record, indent=2, sort_keys=True)}\n".encode())
