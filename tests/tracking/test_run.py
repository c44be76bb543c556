"""Tracking against a real MLflow server: what is recorded arrives, once, whatever happens to it."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from gdm_repr.boundary.names import metric_key
from gdm_repr.tracking.facts import flatten, git_state
from gdm_repr.tracking.keys import band_metric
from gdm_repr.tracking.record import read_events, read_sent, tracking_uri, without_password
from gdm_repr.tracking.run import main, start

ROOT = Path(__file__).parents[2]


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        threading.Event().wait(0.05)


def events(out: Path, kind: str) -> list[dict[str, object]]:
    return [event for event in read_events(out) if event["event"] == kind]


@pytest.fixture
def no_mlflow(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without MLflow: whatever sends the record finds none, and that at once."""
    folder = tmp_path_factory.mktemp("path")
    (folder / "mlflow.py").write_text("raise ImportError('No module named mlflow')\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))


class Server:
    """An MLflow server on loopback that can be killed and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        store, files = self.folder / "server.db", self.folder / "files"
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--workers", "1", "--artifacts-destination"]
        command += [str(files), "--backend-store-uri", f"sqlite:///{store}"]
        environment = {
            **os.environ,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        wait_for(self.answers)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@dataclass(frozen=True)
class FirstJob:
    """A job in an empty folder, without any setting: what it left and what it said."""

    folder: Path
    stdout: bytes
    stderr: bytes

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder}/mlflow.db"


def write_checkpoint(path: Path, images: int = 0) -> None:
    """A model with the weights it was born with."""
    import torch

    from gdm_repr.checkpoint import build_denoiser, save_checkpoint
    from gdm_repr.config import ModelConfig
    from gdm_repr.data.images import Preprocess

    torch.manual_seed(0)
    model = ModelConfig.model_validate({"network": {"name": "mlp"}})
    denoiser = build_denoiser(model, (1, 4, 4), torch.zeros(1, 16), torch.ones(1, 16))
    save_checkpoint(
        path,
        denoiser,
        shape=(1, 4, 4),
        model=model,
        preprocess=Preprocess(size=4),
        training={},
        images=images,
    )


@pytest.fixture(scope="module")
def first_job(tmp_path_factory: pytest.TempPathFactory) -> FirstJob:
    folder = tmp_path_factory.mktemp("job").resolve()
    write_checkpoint(folder / "digits.safetensors")
    program = """
from gdm_repr.tracking import start
with start("encode", {"data": "digits"}, "runs/a") as run:
    run.metrics({"loss": 0.25})
    run.model("digits.safetensors")
    run.model("digits.safetensors")
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    return FirstJob(folder, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, first_job: FirstJob) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("server"))
    # A database with its tables made: making them takes longer than all the tests of this file.
    shutil.copy(first_job.folder / "mlflow.db", started.folder / "server.db")
    started.start()
    yield started
    started.kill()


@pytest.mark.usefixtures("no_mlflow")
def test_the_record_is_kept_without_mlflow(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    config = {"data": "digits", "model": {"width": 64, "bands": [30, 100]}}
    with start("encode", config, out, tags={"fingerprint.checkpoint": "c0ffee"}) as run:
        run.metrics({band_metric("band_std", "[0, 29]"): 1.5, "nan": math.nan}, step=3)
        run.inputs("digits", "d1935", "builtin")
        run.artifact(ROOT / "README.md", "notes")
        run.table("bands", {"band": ["[0, 29]", "rest"], "std": [1.0, 0.5]})
        assert run.run_id is None
    kinds = " ".join(event["event"] for event in read_events(out))
    assert kinds == "start params tags artifact metrics input tags artifact artifact end"
    assert {event["run"] for event in read_events(out)} == {run.record_id}
    assert events(out, "params")[0]["values"] == {
        "data": "digits",
        "model.width": "64",
        "model.bands": "[30, 100]",
    }
    assert events(out, "metrics")[0]["values"] == {"band_std/0_29": 1.5, "nan": "nan"}
    paths = [event["path"] for event in events(out, "artifact")]
    assert paths == [
        "track/encode/config.json",
        str((ROOT / "README.md").resolve()),
        "track/encode/bands.csv",
    ]
    assert json.loads((out / "track/encode/config.json").read_text()) == config
    with (out / "track/encode/bands.csv").open(newline="") as file:
        assert [*csv.reader(file)] == [["band", "std"], ["[0, 29]", "1.0"], ["rest", "0.5"]]
    tags = events(out, "tags")[0]["values"]
    assert isinstance(tags, dict)
    assert tags["fingerprint.checkpoint"] == "c0ffee"
    assert tags["version.numpy"]
    assert {"git.commit", "git.dirty"} <= tags.keys()
    warning = capfd.readouterr().err
    assert len(warning.splitlines()) == 1
    assert f"gdm-repr track replay {out}" in warning


@pytest.mark.usefixtures("no_mlflow")
def test_a_run_says_how_it_ended_and_is_continued(tmp_path: Path) -> None:
    ends: list[tuple[object, object]] = []
    records = set()
    errors: list[BaseException | None] = [
        RuntimeError("bug"),
        KeyboardInterrupt(),
        SystemExit(2),
        SystemExit(0),
        None,
    ]
    for attempt, error in enumerate(errors):
        try:
            with start("train", {"lr": attempt, "seed": 0}, tmp_path) as run:
                records.add(run.record_id)
                if error is not None:
                    raise error
        except BaseException as caught:
            if caught is not error:
                raise
    ends = [(event["status"], event["error"]) for event in events(tmp_path, "end")]
    assert ends == [
        ("FAILED", "RuntimeError"),
        ("KILLED", "KeyboardInterrupt"),
        ("FAILED", "SystemExit"),
        ("FINISHED", None),
        ("FINISHED", None),
    ]
    assert len(records) == 1
    assert [event["values"] for event in events(tmp_path, "params")] == [{"lr": "0", "seed": "0"}]
    changes = [event["values"] for event in events(tmp_path, "tags")]
    assert [change.get("param_changed.lr") for change in changes if isinstance(change, dict)] == [
        None,
        "1",
        "2",
        "3",
        "4",
    ]


@pytest.mark.usefixtures("no_mlflow")
def test_a_line_cut_by_a_kill_and_another_command(tmp_path: Path) -> None:
    with start("train", {}, tmp_path) as train:
        pass
    with (tmp_path / "track.jsonl").open("a") as file:
        file.write('{"run": "half a li')
    with start("encode", {}, tmp_path) as encode:
        pass
    with start("train", {}, tmp_path) as again:
        pass
    assert train.record_id == again.record_id != encode.record_id
    assert [e["command"] for e in events(tmp_path, "start")] == ["train", "encode", "train"]


def test_nothing_is_recorded_without_tracking_or_above_rank_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process of its own, where importing MLflow is an error."""
    program = """
import sys
sys.modules["mlflow"] = None
from gdm_repr.tracking import start
with start("encode", {"a": 1}, sys.argv[1], enabled=False) as run:
    run.metrics({"a": 1.0}); run.tags({"a": 1}); run.artifact("x"); run.inputs("a", "b", "c")
    run.table("a", {"b": [1]}); run.model("m.safetensors")
assert run.run_id is None
assert "torch" not in sys.modules
"""
    out = tmp_path / "out"
    subprocess.run([sys.executable, "-c", program, str(out)], check=True, cwd=ROOT)
    monkeypatch.setenv("RANK", "1")
    with start("encode", {}, out) as run:
        run.metrics({"a": 1.0})
    assert not out.exists()


def test_tables_and_keys(tmp_path: Path) -> None:
    with start("encode", {}, tmp_path, enabled=False) as run, pytest.raises(ValueError, match="b"):
        run.table("t", {"a": [1], "b": [1, 2]})
    assert metric_key("a[0, 29]/b ü/../c").startswith("a_0_29/b/c-")
    assert band_metric("band_std", "0_29") == "band_std/0_29"
    assert flatten({"a": {"b": {"c": None}}, "p": Path("x"), "e": {}}) == {
        "a.b.c": "null",
        "p": '"x"',
        "e": "{}",
    }
    assert len(flatten({"a": "x" * 10_000})["a"]) == 6000


def test_where_runs_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri() == f"sqlite:///{tmp_path.resolve()}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@host:5000")
    assert tracking_uri() == "http://me:secret@host:5000"
    assert without_password(tracking_uri()) == "http://host:5000"


def test_git_state_is_a_commit_or_empty() -> None:
    state = git_state()
    assert (len(state["git.commit"]), state["git.dirty"]) in [(40, "true"), (40, "false"), (0, "")]


@pytest.mark.parametrize("arguments", [["replay", "nowhere"], ["replay", "."]])
def test_a_folder_without_a_record_is_one_line_and_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert len(message.splitlines()) == 1
    assert message.startswith(f"gdm-repr track: error: run_dir '{arguments[1]}' holds no track")


def test_a_server_that_hangs_costs_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It accepts the connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        with start("encode", {}, tmp_path) as run:
            run.metrics({"a": 1.0})
    assert run.run_id is None
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "does not take the run" in lines[0]


def test_runs_go_to_a_database_beside_the_job_by_default(first_job: FirstJob) -> None:
    from mlflow import MlflowClient

    assert (first_job.stdout, first_job.stderr) == (b"", b"")
    assert {path.name for path in first_job.folder.iterdir()} == {
        "digits.safetensors",
        "mlartifacts",
        "mlflow.db",
        "runs",
    }
    client = MlflowClient(first_job.uri)
    (run_id,) = read_sent(first_job.folder / "runs" / "a", first_job.uri)["runs"].values()
    run = client.get_run(run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "encode a")
    assert run.data.metrics == {"loss": 0.25}
    assert run.data.params == {"data": "digits"}
    assert client.get_experiment(run.info.experiment_id).name == "gdm-repr"
    assert [file.path for file in client.list_artifacts(run_id)] == ["config.json"]


def test_a_model_is_kept_once_as_code_and_safetensors(first_job: FirstJob) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(first_job.uri)
    experiment = client.get_experiment_by_name("gdm-repr")
    assert experiment is not None
    (model,) = client.search_logged_models([experiment.experiment_id])
    folder = Path(model.artifact_location.removeprefix("file://"))
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"MLmodel", "mlflow_model.py", "artifacts/digits.safetensors"} <= files
    assert not {name for name in files if name.endswith((".pkl", ".pt", ".pth", ".bin"))}
    assert model.tags["mlflow.user"] == "unknown"


def test_the_kept_model_encodes_as_the_checkpoint_does(first_job: FirstJob) -> None:
    import mlflow
    import torch

    from gdm_repr import GDM

    client = mlflow.MlflowClient(first_job.uri)
    experiment = client.get_experiment_by_name("gdm-repr")
    assert experiment is not None
    (model,) = client.search_logged_models([experiment.experiment_id])
    loaded = mlflow.pyfunc.load_model(model.artifact_location)
    images = np.random.default_rng(0).uniform(-1, 1, (3, 1, 4, 4)).astype(np.float32)
    z = loaded.predict(images)
    original = GDM.from_pretrained(first_job.folder / "digits.safetensors", device="cpu")
    assert isinstance(z, np.ndarray)
    np.testing.assert_allclose(z, original.encode(torch.from_numpy(images)).z, atol=1e-6)


def test_a_killed_job_is_reported_as_killed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    program = """
import sys
from gdm_repr.tracking import start
run = start("train", {}, sys.argv[1])
print("on", flush=True)
sys.stdin.read()
"""
    job = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert job.stdout is not None
    assert job.stdout.readline() == b"on\n"
    job.kill()
    job.communicate()
    size = "track.jsonl"
    wait_for(
        lambda: (
            events(tmp_path, "end")
            and read_sent(tmp_path, server.uri)["bytes"] == (tmp_path / size).stat().st_size
        )
    )
    from mlflow import MlflowClient

    (run_id,) = read_sent(tmp_path, server.uri)["runs"].values()
    seen = MlflowClient(server.uri).get_run(run_id)
    assert (seen.info.status, seen.data.tags["error"]) == ("KILLED", "the process died")
    with start("train", {}, tmp_path) as resumed:
        pass
    wait_for(lambda: MlflowClient(server.uri).get_run(run_id).info.status == "FINISHED")
    assert resumed.run_id == run_id
    assert "error" not in MlflowClient(server.uri).get_run(run_id).data.tags


def test_a_server_killed_mid_job_gets_everything_once(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "outage")
    parent_out, out = tmp_path / "study", tmp_path / "child"
    with start("study", {}, parent_out) as parent:
        pass
    (out / "sheets").mkdir(parents=True)
    (out / "sheets" / "grid.txt").write_text("a picture")
    with start("encode", {"steps": 18}, out, parent=parent.record_id) as run:
        run.metrics({"loss": 1.0}, step=0)
        wait_for(lambda: run.run_id)
        server.kill()
        run.metrics({"loss": 0.5, "band_std/0_29": 0.9}, step=1)
        run.metrics({"loss": math.nan}, step=2)
        run.inputs("digits", "d" * 64, "builtin")
        run.artifact(out / "sheets" / "grid.txt", "sheets")
        run.artifact(out / "gone.txt")
        run.table("bands", {"std": [1, 2]})
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert f"gdm-repr track replay {out}" in lines[0]

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert main(["replay", str(out)]) == 2
    assert "replay again later" in capfd.readouterr().err
    server.start()
    assert main(["replay", str(out), "--tracking-uri", server.uri]) == 0
    said = capfd.readouterr()
    assert "sent" in said.out
    assert "gone.txt' is no longer there" in said.err

    client = MlflowClient(server.uri)
    run_id = run.run_id
    assert run_id is not None

    def look() -> tuple[object, ...]:
        seen = client.get_run(run_id)
        history = {
            key: [
                (metric.step, metric.timestamp, str(metric.value))
                for metric in client.get_metric_history(run_id, key)
            ]
            for key in seen.data.metrics
        }
        files = [
            file.path
            for folder in ("", "sheets", "tables")
            for file in client.list_artifacts(run_id, folder)
            if not file.is_dir
        ]
        given = seen.inputs.dataset_inputs if seen.inputs else []
        inputs = [(data.dataset.name, data.dataset.digest) for data in given]
        return seen.info.status, seen.data.params, seen.data.tags, history, files, inputs

    before = look()
    status, params, tags, history, files, inputs = before
    times = [event["time"] for event in events(out, "metrics")]
    assert (status, params) == ("FINISHED", {"steps": "18"})
    assert history == {
        "loss": [(0, times[0], "1.0"), (1, times[1], "0.5"), (2, times[2], "nan")],
        "band_std/0_29": [(1, times[1], "0.9")],
    }
    assert files == ["config.json", "sheets/grid.txt", "tables/bands.csv"]
    assert inputs == [("digits", "d" * 36)]
    assert isinstance(tags, dict)
    assert tags["mlflow.parentRunId"] == parent.run_id
    assert tags["fingerprint.data"] == "d" * 64
    experiment = client.get_experiment_by_name("outage")
    assert experiment is not None

    assert main(["replay", str(out)]) == 0
    assert "nothing to send" in capfd.readouterr().out
    (out / "track.sent.json").unlink()
    assert main(["replay", str(out)]) == 0
    assert look() == before
    assert len(client.search_runs([experiment.experiment_id])) == 2

    with start("encode", {"steps": 36}, out) as again:
        again.metrics({"loss": 0.1}, step=3)
    assert again.run_id == run_id
    seen = client.get_run(run_id)
    assert seen.data.params == {"steps": "18"}
    assert seen.data.tags["param_changed.steps"] == "36"
    assert seen.data.metrics["loss"] == 0.1

    client.delete_experiment(experiment.experiment_id)
    with start("encode", {}, out):
        pass
    assert "does not take the run" in capfd.readouterr().err


def test_a_model_of_a_server_is_copied_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gdm_repr.checkpoint import find_checkpoint

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    checkpoint = tmp_path / "other.safetensors"
    write_checkpoint(checkpoint, images=1)
    # an experiment whose files the server keeps; the first job's lie on this machine
    with start("train", {}, tmp_path / "run", experiment="served") as run:
        run.model(checkpoint)
    assert main(["register", str(tmp_path / "run"), "digits@champion"]) == 0
    for name in (f"runs:/{run.run_id}/model", "models:/digits@champion"):
        found = find_checkpoint(name)
        assert found.read_bytes() == checkpoint.read_bytes()
        assert found.is_relative_to(tmp_path / "cache")
    assert len([*(tmp_path / "cache").rglob("*.safetensors")]) == 1
