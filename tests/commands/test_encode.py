"""The encode command: its store, whatever the batch, the workers and the interruptions."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gdm_repr import GDM, encode, train
from gdm_repr.data.images import Preprocess
from gdm_repr.data.loading import open_data
from gdm_repr.latents.store import LatentStore, open_store

Launch = Callable[[str, list[str], Path], BaseProcess]


def arguments(model: Path, data: str | Path, out: Path, *flags: str) -> list[str]:
    argv = ["--checkpoint", str(model), "--data", str(data), "--out", str(out), "--no-track"]
    few = [] if "--steps" in flags else ["--steps", "6"]
    return [*argv, "--workers", "0", *few, *flags]


def encoded(model: Path, data: str | Path, out: Path, *flags: str) -> LatentStore:
    assert encode.main(arguments(model, data, out, *flags)) == 0
    return open_store(out)


def contents(out: Path) -> dict[str, bytes]:
    files = (path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def write_images(folder: Path, n: int = 6, size: tuple[int, int] = (4, 6)) -> Path:
    """Colour images in two sub-folders and one that is none."""
    random = np.random.default_rng(0)
    for i in range(n):
        path = folder / ("cat" if i % 2 else "dog") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    (folder / "cat" / "torn.png").write_bytes(b"no picture")
    return folder


def test_a_store_holds_latents_labels_and_errors(trained: Path, tmp_path: Path) -> None:
    flags = ["--limit", "25", "--shard-size", "10", "--batch-size", "4", "--latent-error"]
    store = encoded(trained, "digits", tmp_path / "z", *flags)
    model = GDM.from_pretrained(trained)
    data = open_data("digits", Preprocess(size=8, channels="gray", dequantize=True), limit=25)
    batch = data.batch(range(25))
    e = model.encode(batch.x, model.plan(6), latent_error=True, round_trip=True)
    np.testing.assert_allclose(store.z(), e.z, atol=1e-5)
    for name in store.manifest.errors:
        np.testing.assert_allclose(store.errors(name), getattr(e, name), atol=1e-5)
    assert store.errors("latent_error_by_group").shape == (25, 3)
    assert store.ids == batch.ids
    assert store.index.tolist() == list(range(25))
    assert store.sources == ["digits"] * 25
    assert store.labels("digit").tolist() == batch.labels["digit"]
    columns = [store.manifest.band_column(band) for band in store.manifest.bands]
    assert columns == ["z_0_5", "z_6_20", "z_21_63"]
    assert store.manifest.element_order is None
    shards = sorted(path.name for path in (tmp_path / "z" / "shards").iterdir())
    assert shards == [f"shard-{i:05d}.parquet" for i in range(3)]
    back = model.decode(torch.from_numpy(store.z()), model.plan(6))
    rmse = (back - batch.x).square().mean((1, 2, 3)).sqrt()
    np.testing.assert_allclose(store.errors("round_trip_error"), rmse, atol=1e-5)


def test_the_manifest_says_what_made_the_store(trained: Path, tmp_path: Path) -> None:
    store = encoded(trained, "digits", tmp_path / "z", "--limit", "3", "--no-round-trip")
    model, manifest = GDM.from_pretrained(trained), store.manifest
    assert manifest.fingerprint["checkpoint"] == model.checkpoint.fingerprint
    assert manifest.fingerprint["basis"] == model.basis.fingerprint()
    assert manifest.fingerprint["grouping"] == model.grouping.fingerprint()
    assert {"solver", "preprocessing", "data"} < manifest.fingerprint.keys()
    assert manifest.settings["solver"]["steps"] == [2, 2, 2]
    assert (manifest.items, manifest.encoded, manifest.quarantined) == (3, 3, 0)
    assert (manifest.shape, manifest.errors) == ((1, 8, 8), {})
    assert (tmp_path / "z" / "quarantine.jsonl").read_text() == ""


def test_results_do_not_depend_on_the_batch(trained: Path, tmp_path: Path) -> None:
    first, *others = (
        encoded(
            trained, "digits", tmp_path / size, "--limit", "40", "--batch-size", size,
            "--latent-error",
        )
        for size in ("64", "7", "1")
    )  # fmt: skip
    for other in others:
        assert other.ids == first.ids
        np.testing.assert_allclose(other.z(), first.z(), atol=1e-4)
        for name in first.manifest.errors:
            np.testing.assert_allclose(other.errors(name), first.errors(name), atol=1e-4)


def test_workers_change_no_byte(make_model: Callable[..., Path], tmp_path: Path) -> None:
    model = make_model(tmp_path / "m.safetensors", (3, 4, 6))
    data = write_images(tmp_path / "images", 10)
    flags = ["--shard-size", "4", "--batch-size", "3", "--dequantize"]
    first, *others = (
        contents(encoded(model, data, tmp_path / n, *flags, "--workers", n).path) for n in "012"
    )
    assert all(other == first for other in others)


def test_ten_kills_leave_the_store_of_an_unbroken_run(
    make_model: Callable[..., Path], tmp_path: Path, launch: Launch
) -> None:
    model = make_model(tmp_path / "m.safetensors", (3, 4, 6))
    data = write_images(tmp_path / "images", 80)
    random = np.random.default_rng(0)

    def start(out: Path) -> BaseProcess:
        flags = ["--shard-size", "2", "--batch-size", "2", "--steps", "2", "--no-round-trip"]
        return launch("encode", arguments(model, data, out, *flags), tmp_path / "log")

    def count(out: Path) -> int:
        return len(list(out.glob("shards/shard-*.parquet")))

    started = time.monotonic()
    job = start(tmp_path / "whole")
    job.join()
    seconds = time.monotonic() - started
    assert job.exitcode == 0
    whole, shards = contents(tmp_path / "whole"), count(tmp_path / "whole")
    assert shards == 41
    out, kills, left = tmp_path / "out", 0, []
    while kills < 10:
        job = start(out)
        goal = count(out) + int(random.integers(0, 4))  # shards more than there are, then ...
        while job.is_alive() and count(out) < goal:
            pass
        job.join(random.uniform(0, seconds / 10))  # ... any moment of a tenth of the whole job
        if job.is_alive():
            job.kill()
            job.join()
            kills += 1
            left.append(count(out))
        else:
            assert contents(out) == whole
            shutil.rmtree(out)
    job = start(out)
    job.join()
    assert job.exitcode == 0
    assert contents(out) == whole
    assert any(0 < n < shards for n in left)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--steps", "9"], ["solver.steps is [2, 2, 2]", "this run has [3, 3, 3]"]),
        (["--solver", "heun"], ["solver.solver is 'ab3'", "'heun'"]),
        (["--precision", "bf16"], ["solver.precision is 'fp32'", "'bf16'"]),
        (["--limit", "7"], ["items is 8", "this run has 7"]),
        (["--shard-size", "3"], ["shard_size is 4", "this run has 3"]),
        (["--dtype", "float16"], ["dtype is 'float32'"]),
        (["--latent-error"], ["errors is"]),
        (["--seed", "1"], ["seed is 0", "this run has 1"]),
        (["--no-dequantize"], ["preprocess.dequantize is True"]),
    ],
)
def test_another_setting_is_refused_and_named(
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    says: list[str],
) -> None:
    base = ["--limit", "8", "--shard-size", "4"]
    encoded(trained, "digits", tmp_path / "z", *base)
    before = contents(tmp_path / "z")
    capsys.readouterr()
    assert encode.main(arguments(trained, "digits", tmp_path / "z", *base, *flags)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(part in line for part in [*says, "choose another --out"])
    assert contents(tmp_path / "z") == before


def test_another_model_is_refused(
    make_model: Callable[..., Path],
    trained: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    encoded(trained, "digits", tmp_path / "z", "--limit", "4")
    other = make_model(tmp_path / "m.safetensors", (1, 8, 8))
    assert encode.main(arguments(other, "digits", tmp_path / "z", "--limit", "4")) == 2
    assert "holds a latent store whose" in capfd.readouterr().err


def test_a_finished_store_is_left_as_it_is_by_any_batch_size(trained: Path, tmp_path: Path) -> None:
    store = encoded(trained, "digits", tmp_path / "z", "--limit", "8", "--batch-size", "8")
    before = contents(store.path)
    encoded(trained, "digits", tmp_path / "z", "--limit", "8", "--batch-size", "3")
    assert contents(store.path) == before


def test_a_folder_gives_labels_and_its_bad_images_go_to_quarantine(
    make_model: Callable[..., Path], tmp_path: Path
) -> None:
    model = make_model(tmp_path / "m.safetensors", (3, 4, 6))
    data = write_images(tmp_path / "images")
    Image.new("RGB", (4, 6)).save(data / "dog" / "turned.png")  # 6x4: brought to size
    store = encoded(model, data, tmp_path / "z", "--batch-size", "1", "--shard-size", "2")
    assert store.ids == [
        "cat/1.png", "cat/3.png", "cat/5.png", "dog/0.png", "dog/2.png", "dog/4.png",
        "dog/turned.png",
    ]  # fmt: skip
    assert store.labels("label").tolist() == ["cat"] * 3 + ["dog"] * 4
    (line,) = (tmp_path / "z" / "quarantine.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "index": 3,
        "id": "cat/torn.png",
        "reason": "not an image that Pillow can read",
    }
    assert (store.manifest.encoded, store.manifest.quarantined) == (7, 1)


def test_labels_come_from_a_csv(make_model: Callable[..., Path], tmp_path: Path) -> None:
    model = make_model(tmp_path / "m.safetensors", (3, 4, 6))
    data = write_images(tmp_path / "images", 3)
    (tmp_path / "labels.csv").write_text(
        "file,age,code\n0.png,3,12345678901234567890\n2.png,5.5,7\n"
    )
    flags = ["--labels", str(tmp_path / "labels.csv")]
    store = encoded(model, data, tmp_path / "z", *flags)
    assert store.ids == ["cat/1.png", "dog/0.png", "dog/2.png"]
    np.testing.assert_array_equal(store.labels("age"), [np.nan, 3, 5.5])
    assert store.labels("code").tolist() == [None, "12345678901234567890", "7"]


def test_no_usable_image_is_one_line(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    for name in "abc":
        (tmp_path / "images" / f"{name}.png").write_bytes(b"no picture")
    capsys.readouterr()
    assert encode.main(arguments(trained, tmp_path / "images", tmp_path / "z")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gdm-repr encode: error: data 'images': none of 3 items can be used")
    assert "'a.png': not an image" in line
    assert not (tmp_path / "z").exists()


def test_float16_latents_are_the_rounded_ones(trained: Path, tmp_path: Path) -> None:
    whole = encoded(trained, "digits", tmp_path / "a", "--limit", "5").z()
    half = encoded(trained, "digits", tmp_path / "b", "--limit", "5", "--dtype", "float16")
    assert half.manifest.dtype == "float16"
    np.testing.assert_array_equal(half.z(), whole.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize(
    "parts",
    [
        {"grouping": {"name": "cdm", "levels": 2}, "basis": {"name": "identity"}},
        {"grouping": {"name": "bands", "cuts": [5, 9], "per_channel": True, "order": [*range(9)]}},
        {"grouping": {"name": "elementwise"}},
        {"process": "variance-preserving", "denoiser": {"conditioning": "concat"}},
    ],
    ids=["cdm", "per channel", "elementwise", "one group"],
)
def test_any_grouping_comes_back_from_the_store(
    make_model: Callable[..., Path], tmp_path: Path, parts: dict[str, object]
) -> None:
    path = make_model(tmp_path / "m.safetensors", (3, 4, 6), **parts)
    data = write_images(tmp_path / "images")
    store = encoded(path, data, tmp_path / "z", "--steps", "24")
    model = GDM.from_pretrained(path)
    assert store.manifest.per_channel == model.grouping.per_channel
    images = open_data(data, Preprocess(size=(4, 6), channels="rgb"))
    x = images.batch(store.index).x
    z = model.encode(x, model.plan(24)).z
    np.testing.assert_allclose(store.z(), z, atol=1e-5)
    for group, name in enumerate(model.grouping.names):
        own = np.broadcast_to(model.grouping.index == group, (3, 24))
        rows = 1 if store.manifest.per_channel else 3
        expected = z.numpy()[:, own].reshape(len(z), rows, -1)
        np.testing.assert_allclose(store.band(name), expected, atol=1e-5)
        assert set(store.elements(name)) == set(np.flatnonzero(model.grouping.index == group))


def test_steps_are_split_by_a_measured_error(trained: Path, tmp_path: Path) -> None:
    flags = ["--limit", "40", "--steps", "24", "--latent-error"]
    stores = [
        encoded(trained, "digits", tmp_path / split, *flags, "--split", split)
        for split in ("even", "auto")
    ]
    even, auto = (store.manifest.settings["solver"]["steps"] for store in stores)
    assert even == [8, 8, 8]
    assert (sum(auto), len(auto)) == (24, 3)
    assert auto != even
    before, after = (np.square(store.errors("latent_error")).mean() for store in stores)
    assert after < 1.2 * before
    assert (
        encode.main(arguments(trained, "digits", tmp_path / "auto", *flags, "--split", "auto")) == 0
    )


def test_the_inverse_of_the_decoder_gives_an_exact_round_trip(
    trained: Path, tmp_path: Path
) -> None:
    flags = ["--limit", "20", "--solver", "euler", "--steps", "24"]
    exact = encoded(trained, "digits", tmp_path / "a", *flags, "--inverse")
    assert exact.errors("round_trip_error").max() < 1e-4
    plain = encoded(trained, "digits", tmp_path / "b", *flags)
    assert plain.errors("round_trip_error").min() > 1e-3


def test_an_inverse_that_fails_is_told(
    make_model: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model(tmp_path / "m.safetensors", (3, 4, 6))
    data = write_images(tmp_path / "images")
    flags = ["--inverse", "--solver", "euler", "--tolerance", "1e-12", "--steps", "3"]
    encoded(model, data, tmp_path / "z", *flags)
    assert "the exact inverse did not converge for 6 images" in capsys.readouterr().err


def test_what_was_found_is_drawn_and_printed(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoded(trained, "digits", tmp_path / "z", "--limit", "20", "--latent-error")
    with Image.open(tmp_path / "z" / "reconstructions.png") as sheet:
        assert sheet.size == (16 * (8 * 12 + 8), 2 * (8 * 12 + 8))  # 16 originals over theirs
    shown = capsys.readouterr().out
    for part in ("round trip error: RMSE ", "latent error: RMSE ", "n = 20 images", "21_63"):
        assert part in shown
    assert "encoded 20 images, 0 quarantined" in shown


def test_options_that_cannot_work_leave_no_store(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for flags, says in [
        (["--solver", "dopri5", "--latent-error"], "dopri5 chooses its own steps"),
        (["--solver", "dopri5", "--split", "auto"], "chooses its own steps"),
        (["--steps", "4,4"], "2 counts for 3 groups"),
        (["--steps", "2"], "fewer than the 3 groups"),
        (["--inverse"], "no one-step method"),
        (["--size", "16"], "trained on 8x8 images"),
    ]:
        assert encode.main(arguments(trained, "digits", tmp_path / "z", *flags)) == 2
        assert says in capsys.readouterr().err
        assert not (tmp_path / "z").exists()


def test_a_dry_run_writes_nothing(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert encode.main(arguments(trained, "digits", tmp_path / "z", "--dry-run")) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 6
    assert not (tmp_path / "z").exists()


def test_tracked_jobs_can_be_read_in_mlflow(
    empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_store, "mlflow.db")
    Path("digits.yaml").write_text(
        """
data: digits
limit: 64
preprocess: {dequantize: true}
model: {grouping: {name: bands, cuts: [6, 21]}, network: {name: mlp, width: 16, depth: 1}}
batch_size: 32
images: 320
"""
    )
    assert train.main(["--config", "digits.yaml", "--out", "run"]) == 0
    argv = ["--checkpoint", "run", "--data", "digits", "--out", "z", "--limit", "20"]
    assert encode.main([*argv, "--steps", "6", "--workers", "0", "--latent-error"]) == 0

    from mlflow import MlflowClient

    client = MlflowClient("sqlite:///mlflow.db")
    experiment = client.get_experiment_by_name("gdm-repr")
    assert experiment is not None
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    training, encoding = runs["train run"], runs["encode z"]
    for run in (training, encoding):
        assert run.info.status == "FINISHED"
        assert len(run.data.tags["fingerprint.data"]) == 64
        assert run.inputs is not None
        assert run.inputs.dataset_inputs[0].dataset.name == "digits"
    assert training.data.params["model.network.width"] == "16"
    assert training.data.params["lr"] == "0.001"
    assert {"loss", "loss/0_5", "loss/6_20", "loss/21_63"} < training.data.metrics.keys()
    history = client.get_metric_history(training.info.run_id, "loss")
    assert [metric.step for metric in history] == [32 * i for i in range(1, 11)]
    assert files(client, training.info.run_id) >= {"grouping.png", "samples/0000000320.png"}

    assert encoding.data.params["steps"] == "6"
    model = GDM.from_pretrained("run")
    assert encoding.data.tags["fingerprint.checkpoint"] == model.checkpoint.fingerprint
    kinds = ("band_mean", "band_std", "band_kurtosis", "band_ks", "round_trip_rmse", "latent_rmse")
    names = {f"{kind}/{band}" for kind in kinds for band in ("0_5", "6_20", "21_63")}
    assert encoding.data.metrics.keys() >= names | {"round_trip_rmse", "latent_rmse"}
    z = open_store("z").band("0_5").astype(np.float64)
    assert encoding.data.metrics["band_std/0_5"] == pytest.approx(z.std(), rel=1e-6)
    assert files(client, encoding.info.run_id) >= {"reconstructions.png", "tables/bands.csv"}

    (logged,) = client.search_logged_models([experiment.experiment_id])
    assert logged.source_run_id == training.info.run_id


def files(client: object, run_id: str, folder: str = "") -> set[str]:
    """Artifacts of a run, by their paths."""
    found: set[str] = set()
    for file in client.list_artifacts(run_id, folder):  # type: ignore[attr-defined]
        found |= files(client, run_id, file.path) if file.is_dir else {file.path}
    return found
