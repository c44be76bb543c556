"""Read runs from MLflow, whoever made them: the counterpart of :mod:`gdm_repr.tracking.delivery`.

    for run in find_runs(tracking_uri(), "gdm-repr", "params.seed = '0'"):
        print(run.name, run.metrics)

Nothing is made by asking: a file or folder that is not there stays away.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote, urlsplit

from gdm_repr.tracking.delivery import first_line, open_client
from gdm_repr.tracking.record import BY_ID, database_path, environment, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PARENT_TAG = "mlflow.parentRunId"
FINISHED = "FINISHED"

_PAGE = 1000  # runs asked for at once
_NAMED = 8  # experiments that an error names, at most
_WHILE_READING = {
    # Who asks waits at the terminal; MLflow itself would try for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    # Folders of earlier versions (mlruns/) hold runs worth reading, too.
    "MLFLOW_ALLOW_FILE_STORE": "true",
}

Answer = TypeVar("Answer")


class NotThere(ValueError):
    """There is no such store or experiment, or not yet."""


class NotUnderstood(ValueError):
    """The store does not understand a filter."""


class Refused(ValueError):
    """The store has not got, or does not take, what it is asked for."""


@dataclass(frozen=True)
class StoredRun:
    """One run as a tracking store holds it.

    Attributes:
        id: MLflow's.
        name: shown by MLflow.
        status: RUNNING, SCHEDULED, FINISHED, FAILED or KILLED.
        params: by key.
        tags: by key, MLflow's own ones among them.
        metrics: the last value of each, by key; may be NaN or infinite.
        start: when it began, ms since 1970.
        parent: id of the run that it belongs to.
        uri: the store.
    """

    id: str
    name: str
    status: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    start: int
    parent: str | None = None
    uri: str = field(default="", repr=False)  # it may hold a password


def find_runs(uri: str, experiment: str | None = None, filter: str = "") -> list[StoredRun]:
    """Return the runs of a store that are not deleted, the newest first.

    Args:
        uri: MLflow tracking URI.
        experiment: its name; None searches all that are not deleted.
        filter: of MLflow, such as ``metrics.loss < 1 and tags.kind = 'a'``.

    Raises:
        NotThere: There is no such store or experiment.
        NotUnderstood: Its filters are written otherwise.
        ValueError: The store does not answer.
    """

    def search(client: MlflowClient) -> list[StoredRun]:
        experiments = _experiments(client, experiment)
        return [_stored(run, uri) for run in _search(client, experiments, filter)]

    found = ask(uri, search)
    return sorted(found, key=lambda run: (-run.start, run.id))


def find_fingerprints(
    uri: str, experiment: str, key: str = "study.fingerprint"
) -> dict[str, StoredRun]:
    """Return the newest finished run of each value that a tag has; none without a store.

    Args:
        uri: MLflow tracking URI.
        experiment: its name.
        key: the tag.

    Raises:
        ValueError: The store does not answer.
    """
    try:
        runs = find_runs(uri, experiment, f"attributes.status = '{FINISHED}'")
    except NotThere:
        return {}
    return {run.tags[key]: run for run in reversed(runs) if key in run.tags}


def get_run(uri: str, run_id: str) -> StoredRun | None:
    """Return one run by its id; None if there is none.

    Raises:
        NotThere: There is no such store.
        ValueError: The store does not answer.
    """

    def get(client: MlflowClient) -> StoredRun | None:
        from mlflow.exceptions import MlflowException

        try:
            return _stored(client.get_run(run_id), uri)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    return ask(uri, get)


def download(run: StoredRun, pattern: str | Sequence[str], folder: Path) -> list[Path]:
    """Copy a run's files into ``folder/RUN_ID``, under their own paths.

    Args:
        run: from `find_runs`.
        pattern: of names, such as ``strip*.png``, or of paths, such as ``figures/*.png``; one or
            several.
        folder: made if need be.

    Returns:
        The copies, by pattern and path; empty if the run has no such file.

    Raises:
        ValueError: The store does not answer, or has lost the files.
    """
    patterns = [pattern] if isinstance(pattern, str) else pattern

    def get(client: MlflowClient) -> list[Path]:
        copies, every = [], sorted(_files(client, run.id))
        wanted = [path for each in patterns for path in every if _matches(path, each)]
        for path in dict.fromkeys(wanted):
            copy = folder / run.id / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=copy.parent) as empty:
                # Some kinds of store repeat the path below the folder given, some do not.
                Path(client.download_artifacts(run.id, path, empty)).replace(copy)
            copies.append(copy)
        return copies

    return ask(run.uri, get)


def _search(client: MlflowClient, experiments: list[str], filter: str) -> Iterator[Run]:
    from mlflow.exceptions import MlflowException

    token: str | None = None
    while experiments:
        try:
            page = client.search_runs(experiments, filter, max_results=_PAGE, page_token=token)
        except MlflowException as error:
            if filter and error.error_code == "INVALID_PARAMETER_VALUE":
                raise NotUnderstood(
                    f"filter {filter!r}: MLflow does not understand it ({first_line(error)}); "
                    "write it like: params.`model.width` = '64' and metrics.loss < 1"
                ) from error
            raise
        yield from page
        if not (token := page.token):
            return


def _files(client: MlflowClient, run_id: str, folder: str | None = None) -> Iterator[str]:
    for entry in client.list_artifacts(run_id, folder):
        if entry.is_dir:
            yield from _files(client, run_id, entry.path)
        else:
            yield entry.path


def _matches(path: str, pattern: str) -> bool:
    return fnmatch(path, pattern) or fnmatch(PurePosixPath(path).name, pattern)


def _experiments(client: MlflowClient, name: str | None) -> list[str]:
    """Return the ids of one experiment or of all."""
    every: dict[str, str] = {}
    token: str | None = None
    while token is None or token:
        page = client.search_experiments(max_results=_PAGE, page_token=token)
        every |= {each.name: each.experiment_id for each in page}
        token = page.token or ""
    if name is None:
        return list(every.values())
    if name.startswith(BY_ID) and name.removeprefix(BY_ID) in every.values():
        return [name.removeprefix(BY_ID)]
    if name not in every:
        some = ", ".join(map(repr, sorted(every)[:_NAMED])) or "none"
        more = f" and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
        raise NotThere(
            f"experiment {name!r}: the tracking store has none of this name; it has {some}{more}"
        )
    return [every[name]]


def _stored(run: Run, uri: str) -> StoredRun:
    tags = dict(run.data.tags)
    return StoredRun(
        id=run.info.run_id,
        name=run.info.run_name or run.info.run_id,
        status=run.info.status,
        params=dict(run.data.params),
        tags=tags,
        metrics={key: _finite_or_inf(value) for key, value in run.data.metrics.items()},
        start=int(run.info.start_time or 0),
        parent=tags.get(PARENT_TAG),
        uri=uri,
    )


def _finite_or_inf(value: float) -> float:
    """Return a metric; MLflow's SQL store keeps infinity as the largest float."""
    return math.copysign(math.inf, value) if abs(value) >= sys.float_info.max else value


def ask(uri: str, question: Callable[[MlflowClient], Answer]) -> Answer:
    """Ask a store, and turn its troubles into one line.

    Args:
        uri: MLflow tracking URI.
        question: what to do with a client of it; what it raises of this module's own errors passes.

    Raises:
        NotThere: There is no such store.
        ValueError: It does not answer.
    """
    path = _path(uri)
    if path is not None and not path.exists():
        raise NotThere(
            f"tracking_uri {uri!r}: there is nothing at this place; give --tracking-uri, or set "
            "MLFLOW_TRACKING_URI, to the store that holds the runs"
        )
    with environment(_WHILE_READING):
        try:
            return question(open_client(uri))
        except (NotThere, NotUnderstood, Refused):
            raise
        except Exception as error:
            # MLflow, SQLAlchemy and requests each have their own; the user can mend none of them.
            raise ValueError(
                f"tracking_uri {without_password(uri)!r}: does not answer ({first_line(error)}); "
                "start the server or give another --tracking-uri"
            ) from error


def _path(uri: str) -> Path | None:
    """Return where a store lies on this machine, which MLflow would make if it were not there."""
    parts = urlsplit(uri)
    if uri.startswith("sqlite:"):
        return database_path(uri)
    local = parts.scheme in ("", "file") and uri != "databricks"
    return Path(unquote(parts.path)) if local else None
