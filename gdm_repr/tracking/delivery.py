"""Deliver the record of a run to MLflow: the one module that writes to a tracking server.

Delivery resumes where the last one stopped and is idempotent: a run is found again by a tag with
our own id; MLflow drops a metric that it has with the same step, time and value; params, tags,
inputs and files are the same when written twice; a model is told by its checkpoint's digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gdm_repr.boundary.names import MAX_FILE, file_name
from gdm_repr.boundary.text import printable
from gdm_repr.tracking.logged_model import CHECKPOINT_TAG, READY, find_model, log_model
from gdm_repr.tracking.note import make_note, put_note
from gdm_repr.tracking.record import (
    BY_ID,
    RECORD,
    Event,
    database_path,
    read_batches,
    read_events,
    read_sent,
    warn,
    without_password,
    write_sent,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Metric, Run

RUN_TAG = "gdm_repr.run"
# By it MLflow chooses what it shows of an experiment: runs and models, or traces and prompts.
KIND_TAG, KIND = "mlflow.experimentKind", "custom_model_development"
_OF_MODEL = ("fingerprint.checkpoint", "fingerprint.started_from")  # tags of who reads a model
_ACTIVE = "active"  # MLflow's word for what is not deleted

# What one request of MLflow's API may hold.
_MAX_METRICS, _MAX_PARAMS, _MAX_DIGEST = 1000, 100, 36
# Ours to set where the user did not: a library that prints its address on our stdout, or reports
# home from a research job, is a nuisance.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


class Unreachable(Exception):
    """The tracking server does not answer, or not now."""


class Deleted(Unreachable):
    """What the record goes to was deleted in MLflow; only the user can bring it back."""


class _RunLost(Exception):
    """The server no longer knows a run that it was sent."""


@dataclass
class Delivery:
    """Deliver the record in ``out`` to the tracking server at ``uri``.

    Attributes:
        out: RUN_DIR.
        uri: MLflow tracking URI.
        refused: reasons of the events that the server would not take; they are not sent again.
        delivered: number of events sent by this object.
    """

    out: Path
    uri: str
    refused: list[str] = field(default_factory=list)
    delivered: int = 0

    def __post_init__(self) -> None:
        """Read what the server has already."""
        self._sent = read_sent(self.out, self.uri)
        self._subjects: dict[str, dict[str, str]] = {}  # by run
        if self._sent["bytes"] > (self.out / RECORD).stat().st_size:
            self._sent = {"bytes": 0, "runs": {}}  # the record was deleted and begun anew

    @property
    def complete(self) -> bool:
        """Whether the server has all of the record."""
        return self._sent["bytes"] >= (self.out / RECORD).stat().st_size

    def send(self) -> None:
        """Send what the server has not got.

        Raises:
            Unreachable: The server does not answer; what it took is marked as sent.
        """
        try:
            self._client = open_client(self.uri)
        except Exception as error:
            raise _unreachable(self.uri, error) from error
        try:
            self._send_rest()
        except _RunLost:
            # Its database was deleted: begin anew, with a run of a new id.
            self._sent = {"bytes": 0, "runs": {}}
            self._send_rest()

    def _send_rest(self) -> None:
        for events, end in read_batches(self.out, self._sent["bytes"], _MAX_METRICS):
            if events:
                self._deliver(events)
                self.delivered += len(events)
            self._sent["bytes"] = end
            write_sent(self.out, self.uri, self._sent)

    def _deliver(self, events: list[Event]) -> None:
        """Deliver one event, or several of metrics together."""
        kind = events[0]["event"]
        try:
            if kind == "start":
                self._start(events[0])
            else:
                send: Callable[[str, list[Event]], None] = getattr(self, f"_send_{kind}")
                send(self._sent["runs"][events[0]["run"]], events)
        except (_RunLost, Unreachable):
            raise
        except Exception as error:
            # A run that cannot begin leaves nowhere to send the rest to, whatever the reason.
            if kind == "start" or _is_outage(error):
                raise _unreachable(self.uri, error) from error
            run_id = self._sent["runs"].get(events[0]["run"])
            if run_id is not None and self._stage(run_id) not in (_ACTIVE, None):
                raise Deleted(
                    f"{without_password(self.uri)} does not take the run: it was deleted in "
                    f"MLflow; restore it with 'mlflow runs restore --run-id {run_id}'"
                ) from error
            self.refused.append(f"{kind}: {first_line(error)}")

    def _start(self, event: Event) -> None:
        record = event["run"]
        experiment = self._experiment(event["experiment"], record)
        own = (experiment.name, BY_ID + experiment.experiment_id)
        moved = event["experiment"] not in own  # its run went with the old one
        run_id = None if moved else self._sent["runs"].get(record)
        if run_id is not None:
            stage = self._stage(run_id)
            if stage is None:
                raise _RunLost
            if stage != _ACTIVE:
                # The same command was run again, so that it is wanted again.
                self._client.restore_run(run_id)
                warn(f"the run {run_id} was deleted in MLflow, and is restored")
        run_id = run_id or self._find(experiment, record)
        if run_id is None:
            tags = {
                RUN_TAG: record,
                "command": event["command"],
                "mlflow.source.name": f"gdm-repr {event['command']}",
                "mlflow.source.type": "LOCAL",
            }
            if event["parent"] is not None:
                parent = self._find(None, event["parent"])
                if parent is None and self._stage(event["parent"]) is None:
                    raise Unreachable(f"{without_password(self.uri)} has not got the parent run")
                tags["mlflow.parentRunId"] = parent or event["parent"]
            run = self._client.create_run(
                experiment.experiment_id, event["time"], tags, event["name"]
            )
            run_id = run.info.run_id
        else:
            self._client.update_run(run_id, status="RUNNING")
        self._sent["runs"][record] = run_id

    def _experiment(self, name: str, record: str) -> Experiment:
        experiment: Experiment | None
        if name.startswith(BY_ID):
            experiment = self._client.get_experiment(name.removeprefix(BY_ID))
        else:
            experiment = self._client.get_experiment_by_name(name)
        if experiment is not None and experiment.lifecycle_stage != _ACTIVE:
            latest = self._events("start", record)[-1]["experiment"]
            if latest != name:  # the user chose another one since
                return self._experiment(latest, record)
            raise Deleted(
                f"{without_password(self.uri)} does not take the run: its experiment {name!r} was "
                "deleted in MLflow; restore it with 'mlflow experiments restore --experiment-id "
                f"{experiment.experiment_id}', or run the command again with another one "
                "(MLFLOW_EXPERIMENT_NAME)"
            )
        if experiment is None:
            location = None
            if self.uri.startswith("sqlite:") and (database := database_path(self.uri)):
                # MLflow would put the files into whatever folder the job was started in.
                folder = database.absolute().parent / "mlartifacts" / _folder_name(name)
                location = folder.as_uri()
            made = self._client.create_experiment(name, location, {KIND_TAG: KIND})
            return self._client.get_experiment(made)
        if KIND_TAG not in experiment.tags:
            with suppress(Exception):  # whom the server does not let, sees it as before
                self._client.set_experiment_tag(experiment.experiment_id, KIND_TAG, KIND)
        return experiment

    def _find(self, experiment: Experiment | None, record: str) -> str | None:
        """Return the run of a record in an experiment, or in any."""
        query = f"tags.`{RUN_TAG}` = '{record}'"
        searched = [experiment] if experiment else self._client.search_experiments()
        ids = [each.experiment_id for each in searched]
        runs = self._client.search_runs(ids, query, max_results=1)
        return runs[0].info.run_id if runs else None

    def _stage(self, run_id: str) -> str | None:
        """Return whether a run is active or deleted; None for one that is not there."""
        from mlflow.exceptions import MlflowException

        try:
            stage: str = self._client.get_run(run_id).info.lifecycle_stage
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return stage

    def _send_metrics(self, run_id: str, events: list[Event]) -> None:
        from mlflow.entities import Metric

        metrics = []
        for event in events:
            of = {} if event["step"] else self._subject(run_id)  # curves are the run's alone
            metrics += [
                Metric(key, float(value), event["time"], event["step"], **of)
                for key, value in event["values"].items()
            ]
        for start in range(0, len(metrics), _MAX_METRICS):
            self._client.log_batch(run_id, metrics=metrics[start : start + _MAX_METRICS])

    def _send_params(self, run_id: str, events: list[Event]) -> None:
        from mlflow.entities import Param

        params = [Param(key, value) for key, value in events[0]["values"].items()]
        for start in range(0, len(params), _MAX_PARAMS):
            self._client.log_batch(run_id, params=params[start : start + _MAX_PARAMS])

    def _send_tags(self, run_id: str, events: list[Event]) -> None:
        from mlflow.entities import RunTag

        values = dict(events[0]["values"])
        if values.get("git.commit"):
            values["mlflow.source.git.commit"] = values["git.commit"]
        tags = [RunTag(key, value) for key, value in values.items()]
        for start in range(0, len(tags), _MAX_PARAMS):
            self._client.log_batch(run_id, tags=tags[start : start + _MAX_PARAMS])
        for tag in _OF_MODEL:
            if tag in values:
                self._take_model(run_id, values[tag])

    def _take_model(self, run_id: str, digest: str) -> None:
        """Link a run to the model that it reads, if that was logged here."""
        from mlflow.entities import LoggedModelInput

        model = find_model(self._client, digest)
        if model is not None:
            self._client.log_inputs(run_id, models=[LoggedModelInput(model.model_id)])
            self._subjects.pop(run_id, None)

    def _subject(self, run_id: str) -> dict[str, str]:
        """Say which model and data a run's numbers are of, as MLflow's metrics name them."""
        if run_id not in self._subjects:
            run = self._client.get_run(run_id)
            models = run.inputs.model_inputs if run.inputs else []
            of = {"model_id": models[-1].model_id, **_data_of(run)} if models else {}
            self._subjects[run_id] = of
        return self._subjects[run_id]

    def _send_artifact(self, run_id: str, events: list[Event]) -> None:
        path = self._existing(events[0]["path"])
        self._client.log_artifact(run_id, str(path), events[0]["folder"] or None)

    def _send_input(self, run_id: str, events: list[Event]) -> None:
        from mlflow.entities import Dataset, DatasetInput

        event = events[0]
        source = json.dumps({"uri": event["source"]})
        data = Dataset(event["name"], event["digest"][:_MAX_DIGEST], "local", source)
        self._client.log_inputs(run_id, [DatasetInput(data)])
        self._subjects.pop(run_id, None)

    def _send_model(self, run_id: str, events: list[Event]) -> None:
        checkpoint = self._existing(events[0]["path"])
        with checkpoint.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        run = self._client.get_run(run_id)
        for output in run.outputs.model_outputs if run.outputs else []:
            model = self._client.get_logged_model(output.model_id)
            if model.tags.get(CHECKPOINT_TAG) == digest and model.status == READY:
                return
        model = log_model(self._client, run, checkpoint, digest)
        of = {"model_id": model.model_id, **_data_of(run)}
        self._client.log_batch(run_id, metrics=self._last_metrics(events[0]["run"], of))

    def _last_metrics(self, record: str, of: Mapping[str, str]) -> list[Metric]:
        """Return the last value of each of a run's metrics, as one of a model."""
        from mlflow.entities import Metric

        last = {
            key: Metric(key, float(value), event["time"], event["step"], **of)
            for event in self._events("metrics", record)
            for key, value in event["values"].items()
        }
        return list(last.values())[:_MAX_METRICS]

    def _send_note(self, run_id: str, events: list[Event]) -> None:
        run = self._client.get_run(run_id)
        texts = [
            make_note(run, event["lines"], event["pages"])
            for event in (*events, *self._events("note", events[0]["run"]))
        ]
        put_note(self._client, run, texts[0], earlier=texts[1:])

    def _send_end(self, run_id: str, events: list[Event]) -> None:
        event = events[0]
        if event["error"]:
            self._client.set_tag(run_id, "error", event["error"])
        elif "error" in self._client.get_run(run_id).data.tags:
            self._client.delete_tag(run_id, "error")  # of a try that this one took up again
        self._client.set_terminated(run_id, event["status"], event["time"])

    def _events(self, kind: str, record: str) -> list[Event]:
        every = read_events(self.out)
        return [event for event in every if event["event"] == kind and event["run"] == record]

    def _existing(self, path: str) -> Path:
        full = self.out / path
        if not full.exists():
            raise ValueError(f"the file {str(full)!r} is no longer there")
        return full


def open_client(uri: str) -> MlflowClient:
    """Connect to a tracking server, quietly; whatever is raised, it does not answer."""
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    from mlflow import MlflowClient

    with _alone(uri), _without_stray_folder(uri):
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    return client


@contextmanager
def _without_stray_folder(uri: str) -> Iterator[None]:
    """Remove the empty folder that MLflow makes where it takes a quoted path for the path."""
    path = Path(uri.removeprefix("sqlite:///").partition("?")[0])
    made = []
    if uri.startswith("sqlite:////") and "%" in str(path) and path != database_path(uri):
        made = [folder for folder in path.parents if not folder.exists()]
    try:
        yield
    finally:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()


def _folder_name(experiment: str) -> str:
    """Return the folder of an experiment's files: never one outside that of all."""
    usual = re.fullmatch(r"[\w-][\w. -]*", experiment) and not experiment.endswith((".", " "))
    return experiment if usual and len(experiment) <= MAX_FILE else file_name(experiment)


def attach(
    uri: str, run_id: str, files: Iterable[tuple[Path, str]], pages: Mapping[str, str] | None = None
) -> None:
    """Put files into folders of a run that may have ended, and links to them into its note.

    Args:
        uri: MLflow tracking URI.
        run_id: MLflow's id of the run.
        files: paths with the folders they go to.
        pages: paths of the run's files, by the words that lead there.

    Raises:
        Unreachable: The server does not take them.
    """
    try:
        client = open_client(uri)
        for path, folder in files:
            client.log_artifact(run_id, str(path), folder)
        if pages:
            run = client.get_run(run_id)
            put_note(client, run, make_note(run, [], pages))
    except Exception as error:
        raise _unreachable(uri, error) from error


def _data_of(run: Run) -> dict[str, str]:
    """Name the data that a run reads, as MLflow's metrics do."""
    inputs = run.inputs.dataset_inputs if run.inputs else []
    data = inputs[0].dataset if inputs else None
    return {"dataset_name": data.name, "dataset_digest": data.digest} if data else {}


def _alone(uri: str) -> AbstractContextManager[object]:
    """Return a lock in which a SQLite database is opened: two runs may be the first to make it."""
    if not uri.startswith("sqlite:"):
        return nullcontext()
    import tempfile

    from filelock import FileLock

    name = hashlib.sha256(uri.encode()).hexdigest()[:16]
    return FileLock(Path(tempfile.gettempdir()) / f"gdm-repr-{name}.lock", timeout=60)


def _is_outage(error: Exception) -> bool:
    """Tell a server that does not answer (send it later) from one that refuses (never again)."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        status: int = error.get_http_status_code()  # type: ignore[no-untyped-call]
        return status >= 500 or status in (401, 403, 408, 429)
    return isinstance(error, OSError)  # requests' own exceptions are OSErrors


def _unreachable(uri: str, error: Exception) -> Unreachable:
    return Unreachable(f"{without_password(uri)} does not take the run ({first_line(error)})")


def first_line(error: Exception) -> str:
    """Return an error's type and the first line it says, without a password."""
    text = printable(without_password((str(error).splitlines() or [""])[0]))
    return f"{type(error).__name__}: {text[:200]}"
