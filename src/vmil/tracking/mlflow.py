"""MLflow beside the CSV file: parameters, curves, pictures, films and files of every run, to be compared in its UI.

Itself imported only when `tracking.kind=mlflow`; besides it only `stored` imports mlflow.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from mlflow.entities import LifecycleStage, Metric, Param, RunTag
from mlflow.entities import RunStatus as MLflowStatus
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from vmil.config.schema import TrackingConfig
from vmil.tracking.address import shown, sqlite_file, tracking_uri
from vmil.tracking.outbox import Outbox
from vmil.tracking.pictures import Pixels
from vmil.tracking.record import copied_from, read_record, update_record
from vmil.tracking.stored import CHANGED
from vmil.tracking.tracker import CsvTracker, RunStatus

log = logging.getLogger(__name__)

PARAMS_PER_CALL = 100  # MLflow's limit
PARAM_LENGTH = 6000  # MLflow's limit; longer values are cut, the resolved YAML artifact has them whole
PATIENCE = 30.0  # seconds that a checkpoint waits for the server; the end of a run waits twice as long
LATER = (408, 425, 429)  # HTTP: too slow, too early, too often
HASTE = 20.0  # seconds that a run waits at its end if it was stopped: whoever stopped it may kill it after 30

# One retry and a short patience: it is the outbox that tries again. MLflow reads these at every request.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
for _noisy in ("alembic", "mlflow.store.db.utils"):
    logging.getLogger(_noisy).setLevel(logging.WARNING)
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


class MLflowTracker(CsvTracker):
    """What CsvTracker keeps, and the same in MLflow; the server is spoken to in a thread of its own.

    A run directory whose `run.json` names an MLflow run continues that run, unless it is a copy of another directory.
    """

    def __init__(self, config: TrackingConfig, run_dir: Path) -> None:
        super().__init__(run_dir)
        self._config = config
        self._uri = tracking_uri(config, run_dir.parent)
        self._outbox = Outbox(f"MLflow at {shown(self._uri)}", hopeless=_is_hopeless)
        self._client: MlflowClient | None = None
        self._run_id: str | None = None
        self._continued = False
        self._monitor: object | None = None
        self._outbox.post(self._open, keep=True)

    # ---- what is reported ------------------------------------------------------------------------------------------

    def params(self, flat: Mapping[str, object]) -> None:
        """As MLflow parameters, each once: it refuses to change them, so that those of a continued run become tags."""
        params = [Param(name, str(value)[:PARAM_LENGTH]) for name, value in flat.items()]

        def send(client: MlflowClient, run_id: str) -> None:
            held = client.get_run(run_id).data if self._continued else None
            known, tags = ({}, {}) if held is None else (held.params, held.tags)
            new = [param for param in params if param.key not in known]
            for start in range(0, len(new), PARAMS_PER_CALL):
                client.log_batch(run_id, params=new[start : start + PARAMS_PER_CALL])
            now = {CHANGED + param.key: (known.get(param.key, param.value), param.value) for param in params}
            changed = [RunTag(key, value) for key, (first, value) in now.items() if first != value or key in tags]
            for start in range(0, len(changed), PARAMS_PER_CALL):
                client.log_batch(run_id, tags=changed[start : start + PARAMS_PER_CALL])

        self._post(send)

    def tags(self, values: Mapping[str, str]) -> None:
        """As MLflow tags."""
        super().tags(values)
        tags = [RunTag(name, str(value)) for name, value in values.items()]
        self._post(lambda client, run_id: client.log_batch(run_id, tags=tags))

    def metrics(self, values: Mapping[str, float], frames: int) -> None:
        """As MLflow metrics whose step is `frames`."""
        super().metrics(values, frames)
        now = int(1000 * time.time())
        metrics = [Metric(name, float(value), now, frames) for name, value in values.items()]
        self._post(lambda client, run_id: client.log_batch(run_id, metrics=metrics))

    def image(self, name: str, image: Pixels, frames: int) -> None:
        """As an MLflow image series, which its UI plays along the steps."""
        super().image(name, image, frames)
        self._post(lambda client, run_id: client.log_image(run_id, image, key=name, step=frames, synchronous=True))

    def video(self, name: str, video: Pixels, frames: int, fps: float) -> None:
        """As an artifact in `videos`."""
        super().video(name, video, frames, fps)
        path = self.video_path(name, frames)
        if path.exists():
            self._post(lambda client, run_id: client.log_artifact(run_id, str(path), "videos"))

    def artifact(self, path: Path) -> None:
        """As an artifact."""
        self._post(lambda client, run_id: client.log_artifact(run_id, str(path)))

    def flush(self, wait: bool = True) -> None:
        """Waits for the server, unless it is away."""
        super().flush(wait)
        if wait:
            self._outbox.drain(PATIENCE)

    def finish(self, status: RunStatus) -> None:
        """Sends the rest and ends the MLflow run."""
        if self._finished:
            return
        self._post(lambda client, run_id: client.set_terminated(run_id, status))
        super().finish(status)
        if self._monitor is not None:
            self._monitor.finish()  # type: ignore[attr-defined]
        self._outbox.close(HASTE if status == "KILLED" else 2 * PATIENCE)

    # ---- in the outbox's thread ------------------------------------------------------------------------------------

    def _post(self, call: Callable[[MlflowClient, str], object]) -> None:
        def deliver() -> None:
            if self._client is not None and self._run_id is not None:  # else the run could not be opened, as was said
                call(self._client, self._run_id)

        self._outbox.post(deliver)

    def _open(self) -> None:
        """Here and not in __init__: making a new SQLite store takes seconds, and a server may be away."""
        with _alone(self._uri):
            client = MlflowClient(self._uri)
        # Remembered: what fails below has this called again, which must not make a second run.
        self._run_id = self._run_id or self._continue_run(client) or self._start_run(client)
        self._client = client
        where = {"mlflow_uri": shown(self._uri), "directory": str(self.run_dir.resolve())}
        update_record(self.run_dir, mlflow_run_id=self._run_id, **where)
        if self._config.system_metrics:
            self._monitor = _start_monitor(self._run_id, self._uri, self._continued)

    def _continue_run(self, client: MlflowClient) -> str | None:
        run_id = read_record(self.run_dir).get("mlflow_run_id")
        if not isinstance(run_id, str):
            return None
        if (first := copied_from(self.run_dir)) is not None:
            log.info("'%s' is a copy of '%s': in MLflow it is a run of its own from here on", self.run_dir, first)
            return None
        try:
            client.update_run(run_id, status=MLflowStatus.to_string(MLflowStatus.RUNNING))
        except MlflowException as error:
            if not _is_hopeless(error):
                raise
            return None  # another server, or deleted there
        if self._config.parent is not None:  # an experiment takes up what was begun by itself, or under another one
            client.set_tag(run_id, MLFLOW_PARENT_RUN_ID, self._config.parent)
        self._continued = True
        return run_id

    def _start_run(self, client: MlflowClient) -> str:
        experiment = _experiment(client, self._uri, self._config.experiment, self.run_dir.parent)
        tags = {} if self._config.parent is None else {MLFLOW_PARENT_RUN_ID: self._config.parent}
        return str(client.create_run(experiment, run_name=self.run_dir.name, tags=tags).info.run_id)


class ParentRun:
    """The MLflow run under which the runs of an experiment are shown; taken up again where `run.json` names one."""

    def __init__(self, uri: str, experiment: str, directory: Path) -> None:
        """`directory` lies in the runs' root and is the experiment's own. MlflowException if no server answers."""
        with _alone(uri):
            self._client = MlflowClient(uri)
        record = read_record(directory)
        known = record.get("mlflow_run_id") if record.get("mlflow_uri") == shown(uri) else None
        try:
            self._client.update_run(str(known or ""), status=MLflowStatus.to_string(MLflowStatus.RUNNING))
            self.run_id = str(known)
        except MlflowException as error:
            if not _is_hopeless(error):
                raise
            where = _experiment(self._client, uri, experiment, directory.parent)
            self.run_id = str(self._client.create_run(where, run_name=directory.name).info.run_id)
        update_record(directory, mlflow_run_id=self.run_id, mlflow_uri=shown(uri))

    def finish(self, status: RunStatus) -> None:
        """Ends it."""
        self._client.set_terminated(self.run_id, status)


def _experiment(client: MlflowClient, uri: str, name: str, root: Path) -> str:
    """Id of the experiment of that name, made or taken out of MLflow's waste basket if need be."""
    known = client.get_experiment_by_name(name)
    if known is not None:
        if known.lifecycle_stage == LifecycleStage.DELETED:
            client.restore_experiment(known.experiment_id)  # else it takes no run, and its name is not free either
        return str(known.experiment_id)
    store = (root / "mlartifacts" / name).resolve().as_uri() if uri.startswith("sqlite:") else None
    try:
        return str(client.create_experiment(name, artifact_location=store))
    except MlflowException:
        if (known := client.get_experiment_by_name(name)) is None:  # else another run was faster
            raise
        return str(known.experiment_id)


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Of runs that start at once only one makes a new SQLite store: MLflow's migrations break each other."""
    if (path := sqlite_file(uri)) is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as file:
        with suppress(OSError):  # some shared file systems have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_hopeless(error: Exception) -> bool:
    """Whether asking again cannot help: the request is at fault, not the server or the way to it.

    An OSError may be a disk's, a connection's or an answer's to an upload (requests); a file that may not be written,
    where the server's store is a directory of another machine or person, stays so.
    """
    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
    elif type(error).__name__ == "OperationalError":  # SQLAlchemy's and every driver's (PEP 249): locked, away
        return False
    elif not isinstance(error, OSError):
        return True
    elif (answer := getattr(error, "response", None)) is not None:
        status = answer.status_code
    else:
        return isinstance(error, (PermissionError, FileNotFoundError, NotADirectoryError)) or error.errno == errno.EROFS
    return status < 500 and status not in LATER


def _start_monitor(run_id: str, uri: str, continued: bool) -> object:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id, resume_logging=continued, tracking_uri=uri)
    monitor.start()
    return monitor
