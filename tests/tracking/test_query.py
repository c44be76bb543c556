"""Reading runs from a store that MLflow's own client filled, not this project."""

from __future__ import annotations

import math
import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gdm_repr.tracking import query as run_query
from gdm_repr.tracking.delivery import Delivery
from gdm_repr.tracking.query import NotThere, download, find_fingerprints, find_runs, get_run
from gdm_repr.tracking.record import append_event, experiment_name

if TYPE_CHECKING:
    from mlflow import MlflowClient


@pytest.fixture(scope="module")
def store(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A sweep of another project: a parent and its runs, of which one failed, one was deleted."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("foreign")
    shutil.copy(empty_store, folder / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    sweep = client.create_experiment("sweep", (folder / "files").as_uri())
    client.create_experiment("other", (folder / "files").as_uri())
    parent = client.create_run(sweep, start_time=1, run_name="the sweep").info.run_id
    for number, (rate, status) in enumerate(
        [("0.1", "FINISHED"), ("0.1", "FINISHED"), ("0.2", "FAILED"), ("0.3", "FINISHED")]
    ):
        tags = {"mlflow.parentRunId": parent, "study.fingerprint": f"f{rate}"}
        run = client.create_run(sweep, 10 + number, tags, f"run {number}").info.run_id
        client.log_param(run, "lr", rate)
        client.log_metric(run, "loss", 5.0, step=0)
        last = (1.0, math.nan, -math.inf, 1.0)[number]
        client.log_metric(run, "loss", last, step=1)
        client.set_terminated(run, status)
        if number == 0:
            add_files(client, run, folder)
        if number == 3:
            client.delete_run(run)
    return uri


def add_files(client: MlflowClient, run: str, folder: Path) -> None:
    for name, place in (("strip.png", None), ("strip_2.png", "figures"), ("log.txt", None)):
        (folder / name).write_bytes(name.encode())
        client.log_artifact(run, str(folder / name), place)


def test_runs_come_whole_and_newest_first(store: str) -> None:
    runs = find_runs(store, "sweep")
    assert [run.name for run in runs] == ["run 2", "run 1", "run 0", "the sweep"]
    first = runs[2]
    assert (first.params, first.metrics) == ({"lr": "0.1"}, {"loss": 1.0})
    assert (first.status, first.start, first.parent) == ("FINISHED", 10, runs[3].id)
    assert math.isnan(runs[1].metrics["loss"])
    assert runs[0].metrics["loss"] == -math.inf  # which the store keeps as the largest float
    assert (runs[0].status, runs[3].parent) == ("FAILED", None)
    assert [run.id for run in find_runs(store)] == [run.id for run in runs]
    assert find_runs(store, "other") == []
    assert get_run(store, first.id) == first
    assert get_run(store, "the sweep") is None
    assert "MLFLOW_TRACKING_URI" not in os.environ  # asking is no choice of a store


def test_filters_and_pages(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_query, "_PAGE", 1)
    assert len(find_runs(store, "sweep")) == 4
    found = find_runs(store, None, "params.lr = '0.1' and attributes.status = 'FINISHED'")
    assert [run.name for run in found] == ["run 1", "run 0"]


def test_finished_runs_by_fingerprint(store: str, tmp_path: Path) -> None:
    found = find_fingerprints(store, "sweep")
    assert {key: run.name for key, run in found.items()} == {"f0.1": "run 1"}
    assert find_fingerprints(store, "no such study yet") == {}
    assert find_fingerprints(f"sqlite:///{tmp_path}/mlflow.db", "x") == {}
    assert not any(tmp_path.iterdir())


def test_folders_of_earlier_versions_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    uri = (tmp_path / "mlruns").as_uri()
    with monkeypatch.context() as old:
        old.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        client = MlflowClient(uri)
        run = client.create_run(client.create_experiment("old"), run_name="early").info.run_id
        client.log_metric(run, "loss", 1.0)
    (found,) = find_runs(uri, "old")
    assert (found.name, found.metrics, found.status) == ("early", {"loss": 1.0}, "RUNNING")
    assert "MLFLOW_ALLOW_FILE_STORE" not in os.environ


def test_files_by_pattern(store: str, tmp_path: Path) -> None:
    *_, second, first, _ = find_runs(store, "sweep")
    found = download(first, "strip*.png", tmp_path)
    assert [path.relative_to(tmp_path / first.id).as_posix() for path in found] == [
        "figures/strip_2.png",
        "strip.png",
    ]
    assert found[1].read_bytes() == b"strip.png"
    assert [path.name for path in download(first, "figures/*", tmp_path)] == ["strip_2.png"]
    assert download(second, "strip*.png", tmp_path) == []


def test_mistakes_are_one_line_that_says_how_to_go_on(store: str, tmp_path: Path) -> None:
    with pytest.raises(NotThere, match=r"experiment 'swep'.*it has 'Default', 'other', 'sweep'$"):
        find_runs(store, "swep")
    with pytest.raises(ValueError, match=r"filter 'lr is 3': MLflow does not.*write it like"):
        find_runs(store, "sweep", "lr is 3")
    for uri in (f"sqlite:///{tmp_path}/no", f"file://{tmp_path}/no", f"{tmp_path}/no"):
        with pytest.raises(NotThere, match="nothing at this place; give --tracking-uri"):
            find_runs(uri, "sweep")
    assert not any(tmp_path.iterdir())
    (tmp_path / "text.db").write_text("this is no database" * 100)
    with pytest.raises(ValueError, match="does not answer"):
        find_runs(f"sqlite:///{tmp_path}/text.db", "sweep")


def test_a_server_that_is_away_is_told_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, and not listening
        uri = f"http://me:secret@127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ValueError, match="does not answer") as caught:
            find_runs(uri)
    assert "secret" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ


def test_an_experiment_may_be_named_by_its_id(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    experiment = MlflowClient(store).get_experiment_by_name("other")
    assert experiment is not None
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment.experiment_id)
    assert experiment_name("given") == "given"
    start = {"command": "encode", "experiment": experiment_name(), "name": "n", "parent": None}
    for _ in range(2):  # the second finds its run again
        append_event(tmp_path, "r", "start", start)
        Delivery(tmp_path, store).send()
    assert [run.name for run in find_runs(store, experiment_name())] == ["n"]
