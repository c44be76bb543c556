"""Models by their names in MLflow: registered under one, and found by it again.

    gdm-repr track register runs/digits digits@champion
    gdm-repr encode --checkpoint models:/digits@champion --data digits

A name leads to a logged model of :mod:`gdm_repr.tracking.logged_model`, and that to a safetensors
file. One that lies on this machine is read where it is. Others are copied once, into
``~/.cache/gdm-repr/models`` (or below ``XDG_CACHE_HOME``): what was logged never changes.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from gdm_repr.boundary.text import printable
from gdm_repr.files import user_path
from gdm_repr.tracking.delivery import first_line
from gdm_repr.tracking.logged_model import ARTIFACTS, CHECKPOINT_TAG, NAME, READY, model_of_run
from gdm_repr.tracking.query import Refused, ask
from gdm_repr.tracking.record import read_sent, tracking_uri
from gdm_repr.tracking.sender import replay

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

_NAME = r"[\w.-][\w. -]*"  # of a registered model
_REGISTERED = re.compile(rf"({_NAME})(?:@([\w-]+))?")
_FORMS = "models:/NAME@ALIAS, models:/NAME/VERSION, models:/MODEL_ID or runs:/RUN_ID/model"


def fetch_checkpoint(place: str) -> Path:
    """Return the safetensors file of a model that MLflow has.

    Args:
        place: ``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, ``models:/MODEL_ID`` or
            ``runs:/RUN_ID/model``, in the store that MLFLOW_TRACKING_URI names.

    Raises:
        ValueError: The store does not answer, or has no such model of ours.
    """
    uri = tracking_uri()

    def find(client: MlflowClient) -> Path:
        from mlflow.exceptions import MlflowException

        try:
            model = _find(client, place)
        except MlflowException as error:
            if error.get_http_status_code() >= 500:  # type: ignore[no-untyped-call]
                raise
            raise Refused(f"MLflow has no such model ({first_line(error)})") from None
        files = client.list_logged_model_artifacts(model.model_id, ARTIFACTS)
        paths = [file.path for file in files if file.path.endswith(".safetensors")]
        if len(paths) != 1 or model.status != READY:
            raise Refused("holds no checkpoint of gdm-repr; name another model")
        return _on_disk(model, paths[0]) or _copied(model, paths[0], uri)

    try:
        return ask(uri, find)
    except ValueError as error:
        raise ValueError(f"checkpoint {printable(place)!r}: {error}") from error


def register(out: Path, name: str, uri: str) -> str:
    """Register the model that a tracked training made, as the next version of a name.

    Args:
        out: RUN_DIR; what the server has not got of it is sent first.
        name: ``NAME``, or ``NAME@ALIAS``, which then means this model.
        uri: MLflow tracking URI.

    Returns:
        One line that says how to ask for it.

    Raises:
        ValueError: For another name, a folder without record or model, or a server that does not
            answer or does not take it.
    """
    matched = _REGISTERED.fullmatch(name)
    if matched is None:
        raise ValueError(
            f"name {printable(name)!r}: give NAME or NAME@ALIAS; a name has letters, digits, dots, "
            "dashes, underscores and spaces"
        )
    title, alias = matched.groups()
    replay(out, uri)
    runs = [*read_sent(user_path(out), uri)["runs"].values()]

    def do(client: MlflowClient) -> str:
        from mlflow.exceptions import MlflowException

        made = [model_of_run(client, client.get_run(run)) for run in runs]
        model = next((model for model in reversed(made) if model is not None), None)
        if model is None:
            raise Refused(f"run_dir {str(out)!r}: its runs made no model; give that of a training")
        try:
            version = _version(client, title, model, uri)
            if alias:
                client.set_registered_model_alias(title, alias, version)
        except MlflowException as error:
            if error.get_http_status_code() >= 500:  # type: ignore[no-untyped-call]
                raise
            told = f"name {name!r}: MLflow does not take it ({first_line(error)}); give another"
            raise Refused(told) from None
        place = f"models:/{title}@{alias}" if alias else f"models:/{title}/{version}"
        return f"registered as version {version} of {title}: --checkpoint {place}"

    return ask(uri, do)


def _version(client: MlflowClient, name: str, model: LoggedModel, uri: str) -> str:
    """Return the version of a name that a model is, which is made if need be."""
    import mlflow

    for known in client.search_model_versions(f"name = '{name}'"):
        if _logged_as(known) == model.model_id:
            return str(known.version)
    tags = {key: value for key, value in model.tags.items() if key.startswith("fingerprint.")}
    with _writing_to(uri):
        made = mlflow.register_model(f"models:/{model.model_id}", name, tags=tags)
    return str(made.version)


@contextmanager
def _writing_to(uri: str) -> Iterator[None]:
    """Let MLflow's functions write to a server, quietly, as no client links what it registers."""
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        with redirect_stderr(StringIO()):
            yield
    finally:
        mlflow.set_tracking_uri(before)  # type: ignore[arg-type]  # None sets none
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before


def _find(client: MlflowClient, place: str) -> LoggedModel:
    """Return the logged model that a name leads to."""
    if found := re.fullmatch(r"runs:/([\w-]+)/([^/]+)", place):
        run = client.get_run(found[1])
        model = model_of_run(client, run)
        if model is None or found[2] != NAME:
            raise Refused(f"that run made no model of this name; {NAME} is that of a training")
        return model
    if found := re.fullmatch(rf"models:/({_NAME})@([\w-]+)", place):
        version = client.get_model_version_by_alias(found[1], found[2])
    elif found := re.fullmatch(rf"models:/({_NAME})/(\d+)", place):
        version = client.get_model_version(found[1], found[2])
    elif found := re.fullmatch(r"models:/(m-\w+)", place):
        return client.get_logged_model(found[1])
    else:
        raise Refused(f"no name of a model in MLflow; write {_FORMS}")
    if (model_id := _logged_as(version)) is None:
        raise Refused("was registered by MLflow 2, without a logged model; register it again")
    return client.get_logged_model(model_id)


def _logged_as(version: ModelVersion) -> str | None:
    """Return the id of a version's logged model, which most stores keep in its source alone."""
    found = re.search(r"(?:^|/)models:?/(m-\w+)(?:/|$)", version.source or "")
    return version.model_id or (found[1] if found else None)


def _on_disk(model: LoggedModel, path: str) -> Path | None:
    """Return a model's file where it lies on this machine; None if it does not."""
    parts = urlsplit(model.artifact_location)
    if parts.scheme not in ("", "file") or parts.netloc not in ("", "localhost"):
        return None
    file = Path(unquote(parts.path) if parts.scheme else model.artifact_location) / path
    return file if file.is_file() else None


def _copied(model: LoggedModel, path: str, uri: str) -> Path:
    """Return this machine's copy of a model's file, made if need be."""
    from mlflow.artifacts import download_artifacts

    if not re.fullmatch(r"[\w-]+", model.model_id):
        raise Refused(f"the store calls it {printable(model.model_id)!r}, which is no id")
    home = user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "gdm-repr" / "models"
    copy = home / model.model_id / "model.safetensors"
    if copy.is_file():
        return copy
    copy.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=home) as empty:
        place = f"{model.artifact_location.rstrip('/')}/{path}"
        fetched = Path(download_artifacts(place, dst_path=empty, tracking_uri=uri))
        with fetched.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if model.tags.get(CHECKPOINT_TAG, digest) != digest:
            raise Refused("the file that MLflow gives is not the one that was logged")
        fetched.replace(copy)  # whole or not at all, as two commands may want it at once
    return copy
