"""Comparing runs that MLflow's own client logged: a sweep of another project, and a study."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from gdm_repr.analysis.compare.command import main

KEY = "sample_quality/frechet/pixels"


@pytest.fixture(scope="module")
def store(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A sweep over two rates, and a study of two choices; three seeds each, known values."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    folder = tmp_path_factory.mktemp("stored")
    shutil.copy(empty_store, folder / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    files = (folder / "files").as_uri()
    sweep, study = (client.create_experiment(name, files) for name in ("sweep", "gdm-repr"))
    parent = client.create_run(study, 0, {"study.name": "small"}, "study small").info.run_id
    for choice, slow in (("rows", 0), ("bands", 1)):
        for seed in range(3):
            common, own = 10.0 * seed, 0.1 * seed * slow
            tags = {"study.choice": choice, "study.seed": str(seed), "study.name": "small"}
            tags |= {"study.fingerprint": f"{choice}{seed}", "mlflow.parentRunId": parent}
            begin = 1000 * slow + seed
            run = client.create_run(study, begin, tags, f"{choice} {seed}").info.run_id
            values = {KEY: common + 2 * slow + own, "evaluations_per_sample": 9.0 * (1 + slow)}
            values[KEY.replace("/", "_floor/", 1)] = 0.25
            client.log_batch(run, [Metric(key, value, 0, 0) for key, value in values.items()])
            picture = folder / "strip.png"
            Image.new("L", (40, 8), 60 * seed + 20 * slow).save(picture)
            client.log_artifact(run, str(picture))
            Image.new("L", (8, 8), 90).save(folder / "grouping.png")  # the same for all
            client.log_artifact(run, str(folder / "grouping.png"))
            client.set_terminated(run)
            other = client.create_run(sweep, begin, None, f"{slow} {seed}").info.run_id
            params = {"lr": str(slow), "seed": str(seed), "log_dir": f"logs/{slow}{seed}"}
            client.log_batch(
                other,
                [
                    Metric("val_loss", common + slow + own, 0, 0),
                    Metric("epoch", 3.0, 0, 0),
                    Metric("evaluations", 9.0, 0, 0),
                ],
                [Param(key, value) for key, value in params.items()],
            )
            client.set_terminated(other, "FAILED" if (slow, seed) == (1, 2) else "FINISHED")
    client.set_terminated(parent)
    return uri


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "tables" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_study_is_compared_and_the_page_kept_with_it(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    argv = ["--tracking-uri", store, "--parent", "small", "--out", str(tmp_path)]
    assert main(argv) == 0
    text = capsys.readouterr().out
    # the seeds' share, up to 20, cancels in the pairs: 2, 2.1, 2.2 with t(2) = 4.303
    (difference,) = [row for row in rows(tmp_path, "differences") if row["metric"] == KEY]
    half = 4.302653 * 0.1 / 3**0.5
    assert float(difference["difference"]) == pytest.approx(2.1)
    assert float(difference["low"]) == pytest.approx(2.1 - half, abs=1e-6)
    assert (difference["choice"], difference["pairs"]) == ("bands", "3")
    assert difference["verdict"] == "worse"
    assert re.search(r"bands +3 +12\.1 .* 0\.25 +2\.1 \[1\.85, 2\.35\].* worse", text)
    assert "Best by its mean in sample_quality/frechet/pixels (lower is better): rows" in text
    assert "On the Pareto front of" in text
    seen = json.loads((tmp_path / "result.json").read_text())["method"]
    assert seen["a choice is made of"] == "study.choice"
    runs = rows(tmp_path, "runs")
    assert [row["fingerprint"] for row in runs][:2] == ["rows0", "rows1"]
    assert [float(row[KEY]) for row in runs] == pytest.approx([0, 10, 20, 2, 12.1, 22.2])
    # seed 0 is the first that both have
    sheet = Image.open(tmp_path / "figures" / "side_by_side_1.png").convert("L")
    assert {0, 20} <= {level for _, level in sheet.getcolors() or []}
    page = (tmp_path / "report.html").read_text()
    assert "strip.png of each choice: seed 0, the first that all have, not chosen by eye.<" in page
    assert (
        "grouping.png of each choice: seed 0, the first that all have, not chosen by eye. " in page
    )
    assert "Equal ones are shown once.<" in page
    client = MlflowClient(store)
    parent = seen["parent run"].split("(")[1].rstrip(")")
    kept = {file.path for file in client.list_artifacts(parent, "comparison")}
    assert kept >= {"comparison/report.html", "comparison/figures", "comparison/tables"}
    names = {file.path for file in client.list_artifacts(parent, "comparison/figures")}
    assert "comparison/figures/pareto.png" in names


def test_a_sweep_of_others_is_compared(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--tracking-uri", store, "--experiment", "sweep", "--out", str(tmp_path)]
    assert main(argv) == 0
    found = {(row["metric"], row["choice"]): row for row in rows(tmp_path, "means")}
    assert found["val_loss", "lr=0"]["n"] == "3"
    assert found["val_loss", "lr=1"]["n"] == "2"
    assert found["epoch", "lr=1"]["better"] == ""  # nobody knows
    assert [row["reason"] for row in rows(tmp_path, "left_out")] == ["FAILED, not FINISHED"]
    page = (tmp_path / "report.html").read_text()
    assert "log_dir" in page  # differs, too, and is no choice
    assert not (tmp_path / "figures" / "pareto.png").exists()
    text = capsys.readouterr().out
    assert "All cost the same (evaluations: 9), so that there is no Pareto picture" in text
    assert "Left out: 1 run (1 FAILED, not FINISHED)." in text
    # one seed each: means without interval, no test
    argv[-1] = str(tmp_path / "one")
    argv += ["--metrics", "val_loss"]
    assert main([*argv, "--filter", "params.seed = '1'", "--reference", "lr=1"]) == 0
    text = capsys.readouterr().out
    assert "cost" not in text  # there is none
    assert re.search(r"lr=0 +1 +10 \[-\] .* -1\.1 \[-\] .*one pair: no test", text)
    assert "Each has one seed" in text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--experiment", "swep"], "experiment 'swep': .* it has 'Default', 'gdm-repr', 'sweep'"),
        (["--experiment", "Default"], "--filter: no run is there to be compared"),
        (["--experiment", "sweep", "--filter", "lr"], "filter 'lr': MLflow does not understand"),
        (["--experiment", "sweep", "--metrics", "los"], "--metrics los: no run has it; .*val_loss"),
        (["--parent", "smal"], "--parent 'smal': no run has this id or name, and no study"),
        (
            ["--parent", "small", "--reference", "x"],
            "--reference 'x': no choice .* 'rows', 'bands'",
        ),
    ],
)
def test_mistakes_are_one_line_and_2(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    assert main(["--tracking-uri", store, *argv, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert re.search(message, error)
    assert not any(tmp_path.iterdir())
