"""Folders, files and experiments with names that mean something else elsewhere."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gdm_repr.tracking.query import _path
from gdm_repr.tracking.record import database_path, tracking_uri


@pytest.mark.parametrize(
    "name", ["a?b", "c%20d", "e%2Ff", "g#h", "i j", "k&l=m", "ü%", "n?o=p#q%3F"]
)
def test_the_default_database_lies_in_the_working_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    expected = tmp_path / name / "mlflow.db"
    assert database_path(tracking_uri()) == _path(tracking_uri()) == expected
    with_query = tracking_uri("sqlite:///sub/m.db?timeout=9")
    assert database_path(with_query) == tmp_path / name / "sub" / "m.db"
    assert with_query.endswith("?timeout=9")


def test_given_addresses_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    for uri in (
        "sqlite:////a%3Fb/m.db",
        "sqlite://",
        "sqlite:///:memory:",
        "http://h/x%20y",
        "databricks",
    ):
        assert tracking_uri(uri) == uri
    assert _path("sqlite:////a%3Fb/m.db") == Path("/a?b/m.db") and _path("sqlite://") is None


JOB = """
from gdm_repr.tracking.query import find_runs
from gdm_repr.tracking.record import tracking_uri
from gdm_repr.tracking import start
import sys
name = sys.argv[1]
with start("encode", {"a": "x\\udcff"}, "out", experiment=name) as run:
    run.metrics({"a b": 1, "a_b": 2})
    run.table("a/b", {"x": [1]}); run.table("a_b", {"x": [2]})
    run._sender.end(run._out, 200); run._sender = None
"""
AFTER = """
import sys
from mlflow import MlflowClient
from gdm_repr.tracking.query import find_runs
from gdm_repr.tracking.record import tracking_uri
found, = find_runs(tracking_uri(), sys.argv[1])
print(sorted(found.metrics.values()), found.params)
"""


def test_a_run_stays_in_an_odd_working_folder(tmp_path: Path) -> None:
    folder = tmp_path / "w" / "a?b%2Fc#d"
    folder.mkdir(parents=True)
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    job = [sys.executable, "-c", JOB, "../../x"]
    assert subprocess.run(job, cwd=folder, env=environment, timeout=240).returncode == 0
    assert sorted(os.listdir(tmp_path)) == ["w"] and os.listdir(tmp_path / "w") == [folder.name]
    assert {"mlflow.db", "mlartifacts", "out"} == set(os.listdir(folder))
    (experiment,) = (folder / "mlartifacts").iterdir()
    kept = [path.name for path in experiment.rglob("*.csv")]
    assert len(kept) == 2 and "a_b.csv" in kept
    after = [sys.executable, "-c", AFTER, "../../x"]
    said = subprocess.run(
        after, cwd=folder, env=environment, timeout=240, capture_output=True, text=True
    )
    assert said.stdout == "[1.0, 2.0] {'a': 'x\\\\xff'}\n", said.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only here are names any bytes")
def test_names_that_are_not_utf8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gdm_repr.boundary.streams import sturdy_streams
    from gdm_repr.config import DecodeConfig, EncodeConfig, PrepareConfig
    from gdm_repr.decode import decode
    from gdm_repr.encode import encode
    from gdm_repr.latents.store import open_store
    from gdm_repr.prepare import prepare

    monkeypatch.chdir(tmp_path)
    images = tmp_path / "im\udcff"
    images.mkdir()
    for n in range(2):
        pixels = np.random.default_rng(n).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        with open(images / f"a\udcfe{n}.png", "wb") as file:
            Image.fromarray(pixels).save(file, "png")
    (images / "bad\udcfe.png").write_bytes(b"x")
    out = tmp_path / "out\udcff"
    with sturdy_streams():
        options = {"data": str(images), "out": out, "steps": 3, "workers": 0, "round_trip": False}
        encode(EncodeConfig.model_validate({**options, "track": False}))
        decoded = {"latents": out, "out": tmp_path / "d\udcff", "track": False}
        decode(DecodeConfig.model_validate(decoded))
        prepared = {"data": str(images), "out": tmp_path / "p\udcff", "workers": 0}
        prepare(PrepareConfig.model_validate(prepared))
    store = open_store(out)
    assert len(store) == 2 and len(store.quarantined) == 1
    for text in [*store.ids, *store.sources, *(each.id for each in store.quarantined)]:
        text.encode("utf-8")
    assert json.loads((out / "manifest.json").read_text("utf-8"))["settings"]["source"] == "im\\xff"
