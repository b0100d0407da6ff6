"""What MLflow holds of runs: who they were, their curves, their pictures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mlflow.entities import RunData
from mlflow.tracking import MlflowClient

CHANGED = "changed."  # and a parameter: a tag with the value that a run was continued with
_IMAGES = "images"  # where MLflow keeps the pictures of `log_image`
_PICTURE = re.compile(  # its versions separate by + or by %, and put ~ or # in place of a slash
    _IMAGES + r"/(?P<name>[^+%/]+)[+%]step[+%](?P<step>\d+)[+%]timestamp[+%](?P<time>\d+)[+%][^+%/]+\.png"
)


class StoredRun(NamedTuple):
    """One run as MLflow holds it: its parameters as it was last continued with, and each metric's last value."""

    run_id: str
    name: str
    status: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    last: Mapping[str, float]


def stored_runs(uri: str) -> list[StoredRun]:
    """Every run of every experiment that is not deleted. MlflowException if no server answers."""
    client = MlflowClient(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found, page = [], None
    while True:
        page = client.search_runs(experiments, page_token=page.token if page else None)
        found += [
            StoredRun(r.info.run_id, r.info.run_name, r.info.status, _settings(r.data), r.data.tags, r.data.metrics)
            for r in page
        ]
        if not page.token:
            return found


def _settings(data: RunData) -> dict[str, str]:
    changed = {key[len(CHANGED) :]: value for key, value in data.tags.items() if key.startswith(CHANGED)}
    return data.params | changed


def history(uri: str, run_id: str, name: str) -> list[tuple[int, float]]:
    """(frames, value) of one metric, by frames: those that a resumed run went back behind are left out.

    MLflow keeps what was reported between the last checkpoint and a kill, which `metrics.csv` forgets.
    """
    kept: list[tuple[int, float]] = []
    for point in sorted(MlflowClient(uri).get_metric_history(run_id, name), key=lambda point: point.timestamp):
        while kept and kept[-1][0] >= point.step:
            kept.pop()
        kept.append((point.step, point.value))
    return kept


class StoredPicture(NamedTuple):
    """One picture of a series: its name as it was logged, its environment frames, where the store has it."""

    name: str
    frames: int
    artifact: str


def stored_pictures(uri: str, run_id: str) -> list[StoredPicture]:
    """Every picture of a run, by name and frames; where a resumed run drew a moment twice, the later one."""
    found: dict[tuple[str, int], tuple[int, str]] = {}
    for info in MlflowClient(uri).list_artifacts(run_id, _IMAGES):
        match = _PICTURE.fullmatch(info.path)
        if match is not None:
            moment = (re.sub("[~#]", "/", match["name"]), int(match["step"]))
            drawn = (int(match["time"]), info.path)
            found[moment] = max(drawn, found.get(moment, drawn))
    return [StoredPicture(*key, artifact) for key, (_, artifact) in sorted(found.items())]


def fetch_picture(uri: str, run_id: str, picture: StoredPicture, directory: Path) -> Path:
    """Copies it into the directory, under the store's own name, unless it lies there already; gives its path."""
    path = directory / picture.artifact
    if not path.is_file():
        directory.mkdir(parents=True, exist_ok=True)
        path = Path(MlflowClient(uri).download_artifacts(run_id, picture.artifact, str(directory)))
    return path
