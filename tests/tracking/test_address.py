"""Where runs are tracked, and that what opens the place is written nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmil.config.schema import TrackingConfig
from vmil.tracking.address import shown, tracking_uri

SECRET = "https://ada:p@ss:word@lab:5000/mlflow"


def test_where_mlflow_keeps_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri(TrackingConfig(), tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://lab:5000")
    assert tracking_uri(TrackingConfig(), tmp_path) == "http://lab:5000"
    assert tracking_uri(TrackingConfig(uri="http://mine:5000"), tmp_path) == "http://mine:5000"


@pytest.mark.parametrize(
    ("uri", "written"),
    [
        (SECRET, "https://lab:5000/mlflow"),
        ("mysql+pymysql://ada:pw@lab/runs", "mysql+pymysql://lab/runs"),
        ("http://lab:5000/a@b", "http://lab:5000/a@b"),
        ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
        (f"API request to {SECRET} failed", "API request to https://lab:5000/mlflow failed"),
    ],
)
def test_credentials_are_left_out(uri: str, written: str) -> None:
    assert shown(uri) == written
