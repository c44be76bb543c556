"""What was deleted in MLflow is no outage."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException

from gdm_repr.tracking import delivery as mlflow_delivery
from gdm_repr.tracking.delivery import Deleted, Delivery
from gdm_repr.tracking.record import append_event, write_sent

URI = "http://server"


class Server:
    """Answers as MLflow's client does, with one experiment and one run, deleted or not."""

    def __init__(self, experiment: str = "active", run: str = "active") -> None:
        self.stages = {"exp": experiment, "run": run}
        self.calls: list[str] = []
        self.logged = 0

    def get_experiment_by_name(self, name: str) -> SimpleNamespace:
        stage = self.stages["exp"] if name == "exp" else "active"
        return SimpleNamespace(experiment_id="7", name=name, lifecycle_stage=stage, tags={})

    def set_experiment_tag(self, *facts: str) -> None:
        pass

    def get_run(self, run_id: str) -> SimpleNamespace:
        info = SimpleNamespace(lifecycle_stage=self.stages["run"])
        return SimpleNamespace(info=info, inputs=None)

    def restore_run(self, run_id: str) -> None:
        self.stages["run"] = "active"
        self.calls.append("restore")

    def update_run(self, run_id: str, status: str) -> None:
        self.log_batch(run_id)

    def search_runs(self, ids: list[str], query: str, max_results: int) -> list[SimpleNamespace]:
        return []

    def create_run(self, *facts: object) -> SimpleNamespace:
        self.calls.append("create")
        return SimpleNamespace(info=SimpleNamespace(run_id="new"))

    def log_batch(self, run_id: str, **values: object) -> None:
        if self.stages["run"] != "active":
            raise MlflowException.invalid_parameter_value("the run must be in the 'active' state")
        self.logged += 1


@pytest.fixture
def record(tmp_path: Path) -> Path:
    start = {"command": "encode", "experiment": "exp", "name": "n", "parent": None}
    append_event(tmp_path, "r", "start", start)
    append_event(tmp_path, "r", "metrics", {"step": 0, "values": {"loss": 1.0}})
    write_sent(tmp_path, URI, {"bytes": 0, "runs": {"r": "id"}})
    return tmp_path


def deliver(record: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Delivery:
    monkeypatch.setattr(mlflow_delivery, "open_client", lambda uri: server)
    delivery = Delivery(record, URI)
    delivery.send()
    return delivery


def test_a_deleted_run_is_restored(
    record: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server(run="deleted")
    assert deliver(record, server, monkeypatch).complete
    assert server.calls == ["restore"] and server.logged == 2
    assert "restored" in capsys.readouterr().err
    assert "MLFLOW_TRACKING_URI" not in os.environ  # sending is no choice of a store


def test_a_run_deleted_meanwhile_is_told_and_kept(
    record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    monkeypatch.setattr(server, "update_run", lambda *_, **__: server.stages.update(run="deleted"))
    with pytest.raises(Deleted, match="mlflow runs restore --run-id id"):
        deliver(record, server, monkeypatch)
    server.stages["run"] = "active"
    assert deliver(record, server, monkeypatch).complete and server.logged == 1


def test_a_deleted_experiment_is_told_with_the_way_out(
    record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(experiment="deleted")
    with pytest.raises(Deleted, match=r"restore --experiment-id 7.*MLFLOW_EXPERIMENT_NAME"):
        deliver(record, server, monkeypatch)
    other = {"command": "encode", "experiment": "other", "name": "n", "parent": None}
    append_event(record, "r", "start", other)  # the way out was taken
    assert deliver(record, server, monkeypatch).complete and server.calls == ["create"]
