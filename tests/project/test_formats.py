"""The promise about formats: what an earlier version wrote, every later one reads.

The files in ``fixtures/formats`` say in their README by which version they were made; the numbers
here are those that this version read from them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from gdm_repr import GDM, train
from gdm_repr.analysis.journal import Journal
from gdm_repr.analysis.leakage.matrix import LeakageMatrix
from gdm_repr.analysis.study import command as study
from gdm_repr.analysis.study.work import Task
from gdm_repr.checkpoint import load_tensors
from gdm_repr.latents.store import open_store
from gdm_repr.latents.writer import StoreWriter

FORMATS = Path(__file__).parents[1] / "fixtures" / "formats"
VERSIONS = ["plain", "digests"]  # without digests, and with them

version = pytest.mark.parametrize("name", VERSIONS)


@version
def test_a_checkpoint_is_read(name: str) -> None:
    model = GDM.from_pretrained(FORMATS / name / "run")
    assert model.checkpoint.images == 320 and model.shape == (1, 8, 8)
    assert model.grouping.names == ("0_5", "6_20", "21_63")
    assert model.checkpoint.preprocess.dequantize
    x = model.sample(2, seed=0, plan=model.plan(6))
    np.testing.assert_allclose(x[0, 0, 3, :3].tolist(), [-1.9975, -0.4145, 0.5349], atol=2e-3)
    assert float(x.mean()) == pytest.approx(-0.4623, abs=2e-3)


@version
def test_training_goes_on_from_its_state(name: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(FORMATS / name / "run", out)
    assert load_tensors(out / "state.safetensors")[1]["step"] == 5
    argv = ["--config", str(FORMATS / "digits.yaml"), "--out", str(out), "--no-track"]
    assert train.main([*argv, "--images", "640", "--resume"]) == 0
    assert load_tensors(out / "state.safetensors")[1]["step"] == 10
    last = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
    assert last["images"] == 640
    # what the unbroken run has
    assert last["loss"] == pytest.approx(0.960277, rel=1e-3)
    weights = load_file(out / "model.safetensors")
    said = {"network.input.weight": 5.778843, "network.output.weight": 0.152841}
    for weight, total in said.items():
        assert float(weights[weight].abs().double().sum()) == pytest.approx(total, rel=1e-3)


@version
def test_a_store_is_read_and_decoded(name: str) -> None:
    store = open_store(FORMATS / name / "store")
    assert len(store) == 10 and store.ids[:3] == ["000000", "000001", "000002"]
    assert store.index.tolist() == [*range(10)] and not store.quarantined
    assert store.labels("digit").tolist() == [*range(10)]
    np.testing.assert_allclose(store.z([0])[0, 0, :3], [-0.38902643, 0.18493643, 0.2122381])
    np.testing.assert_allclose(store.errors("latent_error")[:2], [0.00269623, 0.00566134], 1e-4)
    assert store.band("21_63").shape == (10, 1, 43)
    assert float(store.z().sum()) == pytest.approx(6.0245447, rel=1e-5)
    assert store.manifest.settings["solver"]["steps"] == [2, 2, 2]
    assert sum(store.errors("round_trip_error") < 0.01) == 10


@version
def test_an_unfinished_store_is_finished(name: str, tmp_path: Path) -> None:
    whole = open_store(FORMATS / name / "store")
    shutil.copytree(whole.path, tmp_path / "store")
    (tmp_path / "store/shards/shard-00001.parquet").unlink()
    writer = StoreWriter(tmp_path / "store", whole.manifest)
    assert writer.pending() == [1]
    rows = slice(4, 8)
    writer.write(
        1,
        index=whole.index[rows],
        ids=whole.ids[rows],
        sources=whole.sources[rows],
        z=whole.z(rows),
        labels={"digit": whole.labels("digit")[rows]},
        errors={error: whole.errors(error, rows) for error in whole.manifest.errors},
    )
    writer.finish()
    np.testing.assert_array_equal(open_store(tmp_path / "store").z(), whole.z())


@version
def test_a_journal_is_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    shutil.copy(FORMATS / name / "analysis" / "journal.jsonl", path)
    settings = json.loads(path.read_text().splitlines()[0])["settings"]
    journal = Journal(path, settings)
    stored = journal["model redraw"]
    redraw = journal.once("model redraw", LeakageMatrix, lambda: pytest.fail("made again"))
    assert redraw.names == ("0_5", "6_20", "21_63")
    assert redraw.value.tolist() == stored["value"]
    np.testing.assert_allclose(redraw.value[0, 0], 1.5588180554582556, rtol=1e-12)
    assert len([line for line in path.read_text().splitlines() if line]) == 1 + len(journal._done)


@version
def test_a_finished_study_is_read_and_does_nothing_again(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "study"
    shutil.copytree(FORMATS / name / "study", out)
    written = {path: path.read_bytes() for path in out.rglob("*.json")}
    tasks = [Task.read(path) for path in sorted(out.glob("choices/*/task.json"))]
    assert {task.choice.label for task in tasks} == {"steps 4", "steps 8"}
    scored = [json.loads(path.read_text()) for path in sorted(out.glob("choices/*/scored.json"))]
    values = {each["metrics"]["evaluations_per_sample"] for each in scored}
    assert values == {6.0, 10.0}
    (trained,) = out.glob("models/*/trained.json")
    assert 0 < json.loads(trained.read_text())["train_seconds"] < 60
    monkeypatch.chdir(tmp_path)
    argv = [str(FORMATS / "study.yaml"), "--no-track", "--out", str(out)]
    assert study.main(argv) == 0
    assert {path: path.read_bytes() for path in out.rglob("*.json")} == written
    assert not list(out.rglob("*.safetensors"))  # nothing was trained


def test_the_shipped_model_is_the_one_that_was_shipped() -> None:
    fingerprint = "32b6cf3ac18152bacff427ec0e29d6d9ec54882b1e2c5129292b56b813279fba"
    assert GDM.from_pretrained("scenes").checkpoint.fingerprint == fingerprint
