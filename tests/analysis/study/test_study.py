"""A study as a command: killed and taken up again, nothing is trained, scored or logged twice."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from gdm_repr.analysis.study.command import main
from gdm_repr.tracking.query import find_runs

STUDY = """
jobs: 2
train:
  data: digits
  preprocess: {dequantize: true}
  model: {network: {name: mlp, width: 16, depth: 1}, grouping: {name: bands, cuts: [6]}}
  images: 2_560
  batch_size: 128
  checkpoint_every: 1_280
encode: {limit: 60}
score: {n: 20, features: [pixels], loss_images: 4, levels: 2, directions: 8, shown: 4}
analyse: {disentanglement: {scores: [mig], permutations: 2, resamples: 5}}
grid:
  encode.steps: [4, 8]
"""


def test_a_killed_study_goes_on_and_does_nothing_twice(
    launch: Callable[..., BaseProcess],
    empty_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("mlflow.db", "other.db"):
        shutil.copy(empty_store, tmp_path / name)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(STUDY)
    out = tmp_path / "runs/studies/tiny"
    environment = f"os.environ['MLFLOW_TRACKING_URI'] = {uri!r}; os.chdir({str(tmp_path)!r})"
    job = launch("study", ["tiny.yaml"], tmp_path / "log", environment)
    while job.is_alive() and not list(out.glob("models/*/trained.json")):
        job.join(0.05)
    os.kill(job.pid or 0, signal.SIGKILL)
    job.join()
    (trained,) = out.glob("models/*/trained.json")
    assert not list(out.glob("choices/*/scored.json"))
    before = trained.stat().st_mtime_ns

    assert main(["tiny.yaml"]) == 0
    assert trained.stat().st_mtime_ns == before
    runs = find_runs(uri, "gdm-repr")
    parents = [run for run in runs if run.parent is None]
    children = sorted((run for run in runs if run.parent), key=lambda run: run.name)
    assert [run.status for run in runs] == ["FINISHED"] * 3
    assert [run.name for run in parents] == ["tiny"]
    assert [run.name for run in children] == ["steps 4, seed 0", "steps 8, seed 0"]
    for run, steps in zip(children, (4, 8), strict=True):
        assert run.tags["study.choice"] == f"steps {steps}"
        assert run.tags["study.place"] == str(steps // 8)
        assert run.params["encode.steps"] == str(steps)
        assert run.metrics["evaluations_per_sample"] == steps + 2
        expected = {"sample_quality/frechet/pixels", "round_trip_rmse", "train_seconds"}
        assert expected <= {*run.metrics}
        assert any(key.startswith("disentanglement") for key in run.metrics)
    assert (out / "comparison/report.html").is_file()
    assert "evaluations_per_sample" in capsys.readouterr().out
    scored = [json.loads(path.read_text()) for path in out.glob("choices/*/scored.json")]
    assert all(Path(name).is_file() for each in scored for name in each["pictures"])
    assert len(list(out.glob("choices/*/disentanglement/report.html"))) == 2

    # a store that was away, or is another, is sent what it has not got
    other = f"sqlite:///{tmp_path / 'other.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other)
    assert main(["tiny.yaml"]) == 0
    there = find_runs(other, "gdm-repr")
    assert sorted(run.name for run in there) == ["steps 4, seed 0", "steps 8, seed 0", "tiny"]
    assert len({run.parent for run in there if run.parent}) == 1
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)

    # what the tracking store has is not done again elsewhere either
    capsys.readouterr()
    shutil.rmtree(out)
    assert main(["tiny.yaml"]) == 0
    assert "2 are in the tracking store already" in capsys.readouterr().err
    assert not list(out.glob("models/*")) and not list(out.glob("choices/*"))

    # other labels for the same: what is stored goes by them
    runs = find_runs(uri, "gdm-repr")
    Path("tiny.yaml").write_text(STUDY.replace("[4, 8]", "{few: 4, many: 8}"))
    assert main(["tiny.yaml"]) == 0
    assert len(find_runs(uri, "gdm-repr")) == len(runs)
    with (out / "comparison/tables/runs.csv").open(newline="") as file:
        assert [row["choice"] for row in csv.DictReader(file)] == ["few", "many"]


def test_what_does_not_fit_the_data_is_told_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(STUDY.replace("[4, 8]", "[4, 1]"))
    assert main(["tiny.yaml", "--no-track", "--dry-run"]) == 2
    assert "choice 'steps 1': steps=1: fewer than the 2 groups" in capsys.readouterr().err
    assert main(["tiny.yaml", "--no-track"]) == 2
    assert "choice 'steps 1': steps=1: fewer than the 2 groups" in capsys.readouterr().err
    Path("tiny.yaml").write_text(STUDY.replace("images: 2_560", "imags: 2_560"))
    assert main(["tiny.yaml", "--dry-run"]) == 2
    assert "choice 'steps 4': train.imags: no such option" in capsys.readouterr().err
    Path("tiny.yaml").write_text(STUDY.replace("[4, 8]", "{a: 4, b: 4}"))
    for more in ([], ["--dry-run"]):
        assert main(["tiny.yaml", "--no-track", *more]) == 2
    assert "choice 'b', seed 0: has the same options as choice 'a'" in capsys.readouterr().err
    assert not list(Path("runs/studies/tiny").glob("models/*"))


def test_what_fails_is_told_and_the_rest_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("mine.npy", load_digits().images[:60].astype(np.uint8) * 15)
    rates = "train.lr: [1.0e-3, 1.0e+30]"
    text = STUDY.replace("encode.steps: [4, 8]", rates).replace("data: digits", "data: mine.npy")
    Path("tiny.yaml").write_text(text)
    assert main(["tiny.yaml", "--no-track"]) == 2
    error = capsys.readouterr().err
    assert "2 of 4 tasks failed, the first of them training lr 1e+30" in error
    assert "the loss is" in error
    assert len(list(Path("runs/studies/tiny").glob("choices/*/scored.json"))) == 1
