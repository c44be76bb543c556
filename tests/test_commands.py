"""The commands end to end on real digits: train, encode, decode, sample, killed and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from gdm_repr import GDM, decode, encode, sample, train
from gdm_repr.checkpoint import load_tensors
from gdm_repr.latents import open_store

CONFIG = """
data: digits
limit: 300
preprocess: {dequantize: true}
model:
  network: {name: mlp, width: 32, depth: 1}
batch_size: 64
lr: 1.0e-2
warmup: 640
ema_half_life: 500
"""
BANDS = '{"name": "bands", "cuts": [6, 21]}'
QUICK = ["--no-track"]


def fit(folder: Path, *flags: str) -> Path:
    config = folder / "config.yaml"
    config.write_text(CONFIG)
    out = folder / "run"
    if "--model.grouping" not in flags:
        flags += ("--model.grouping", BANDS)
    assert train.main(["--config", str(config), "--out", str(out), "--no-track", *flags]) == 0
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tmp_path_factory.mktemp("model"), "--images", "3200")


def encoded(run: Path, out: Path, *flags: str) -> Path:
    argv = ["--checkpoint", str(run), "--data", "digits", "--out", str(out), *QUICK]
    steps = [] if "--steps" in flags else ["--steps", "6"]
    assert encode.main([*argv, *steps, "--limit", "40", *flags]) == 0
    return out


def files(folder: Path) -> dict[str, bytes]:
    found = [p for p in folder.rglob("*") if p.is_file() and p.suffix != ".png"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(found)}


def test_training_leaves_what_it_says(run: Path) -> None:
    assert (run / "grouping.png").exists()
    assert list((run / "samples").glob("*.png"))
    config = json.loads((run / "config.json").read_text())
    assert config["model"]["grouping"]["cuts"] == [6, 21]


def test_resumed_training_equals_unbroken(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = fit(tmp_path / "a", "--images", "1280")
    fit(tmp_path / "b", "--images", "640")
    parts = fit(tmp_path / "b", "--images", "1280", "--resume")
    for name in ("model.safetensors", "state.safetensors"):
        first, second = (load_tensors(out / name)[0] for out in (whole, parts))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_accumulation_changes_nothing_but_rounding(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = fit(tmp_path / "a", "--images", "320")
    parts = fit(tmp_path / "b", "--images", "320", "--accumulate", "4")
    first, second = (load_tensors(out / "model.safetensors")[0] for out in (whole, parts))
    for key in first:
        torch.testing.assert_close(first[key], second[key], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "flags",
    [
        ["--loss", "eq8", "--model.denoiser.preconditioning", "none"],
        ["--loss", "eq7", "--time-law", "uniform", "--no-model.denoiser.strict"],
        ["--model.denoiser.conditioning", "concat", "--orders", "random"],
        ["--time-law", "1,2,3", "--orders", "[[0,1,2],[2,0,1]]", "--clock", "whitened"],
        ["--model.process", "variance-preserving", "--widths", "0.2,0.3,0.5"],
        ["--model.basis.name", "blur", "--model.grouping", '{"name": "cdm", "levels": 3}'],
        ["--model.grouping", '{"name": "blocks", "rows": 2, "cols": 2, "order": [3, 1, 0, 2]}'],
    ],
)
def test_every_setting_trains_and_samples(tmp_path: Path, flags: list[str]) -> None:
    out = fit(tmp_path, "--images", "128", *flags)
    assert bool(torch.isfinite(GDM.from_pretrained(out).sample(2)).all())


def test_a_loss_that_is_not_finite_stops_with_step_and_ids(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.replace("lr: 1.0e-2", "lr: 1.0e+38"))
    argv = ["--config", str(config), "--out", str(tmp_path / "run"), "--no-track"]
    assert train.main([*argv, "--images", "6400", "--warmup", "0"]) == 2
    facts = json.loads((tmp_path / "run" / "nan.json").read_text())
    assert facts["step"] >= 1
    assert len(facts["ids"]) == 64
    assert f"at step {facts['step']}" in capsys.readouterr().err


def test_encoding_does_not_depend_on_the_batch(run: Path, tmp_path: Path) -> None:
    stores = [
        open_store(encoded(run, tmp_path / str(size), "--batch-size", str(size)))
        for size in (1, 7, 64)
    ]
    for store in stores[1:]:
        assert store.ids == stores[0].ids
        np.testing.assert_allclose(store.z(), stores[0].z(), atol=1e-4)


def test_store_holds_labels_and_errors_that_decoding_confirms(run: Path, tmp_path: Path) -> None:
    store = open_store(encoded(run, tmp_path / "z", "--latent-error"))
    assert store.labels("digit").tolist()[:5] == [0, 1, 2, 3, 4]
    assert (store.errors("latent_error") > 0).all()
    model = GDM.from_pretrained(run)
    z = torch.from_numpy(store.z())
    plan = model.plan(6)
    again = model.encode(model.decode(z, plan), plan).z
    assert again.shape == z.shape
    by_group = store.errors("round_trip_error_by_group").astype(np.float64)
    weights = np.array(model.grouping.sizes()) / 64
    whole = np.sqrt((by_group**2 * weights).sum(1))
    np.testing.assert_allclose(whole, store.errors("round_trip_error"), rtol=1e-4)


def test_exact_inverse_round_trip(run: Path, tmp_path: Path) -> None:
    out = encoded(run, tmp_path / "z", "--inverse", "--solver", "midpoint", "--steps", "30")
    assert open_store(out).errors("round_trip_error").max() < 1e-4


def test_decode_and_sample_write_what_the_api_gives(run: Path, tmp_path: Path) -> None:
    store = encoded(run, tmp_path / "z")
    argv = ["--checkpoint", str(run), "--no-track", "--format", "npy"]
    out = tmp_path / "decoded"
    assert decode.main([*argv, "--latents", str(store), "--out", str(out)]) == 0
    model = GDM.from_pretrained(run)
    expected = model.decode(torch.from_numpy(open_store(store).z()), model.plan(6)).numpy()
    np.testing.assert_allclose(np.load(out / "images.npy"), expected, atol=1e-5)
    drawn = tmp_path / "drawn"
    flags = ["--n", "5", "--seed", "3", "--batch-size", "2", "--steps", "6"]
    assert sample.main([*argv, *flags, "--out", str(drawn)]) == 0
    expected = model.sample(2, seed=6, plan=model.plan(6)).numpy()
    np.testing.assert_allclose(np.load(drawn / "images.npy")[3:], expected, atol=1e-5)


def test_killed_encodes_resume_to_the_same_bytes(run: Path, tmp_path: Path) -> None:
    flags = ["--batch-size", "2", "--shard-size", "2", "--no-round-trip"]
    whole = encoded(run, tmp_path / "whole", *flags)
    out = tmp_path / "killed"
    argv = ["--checkpoint", str(run), "--data", "digits", "--out", str(out), *QUICK]
    command = [sys.executable, "-c", "import sys; from gdm_repr.encode import main; main()"]
    random = np.random.default_rng(0)
    kills = 0
    for _ in range(10):
        before = len(list(out.glob("shards/shard-*")))
        goal = before + int(random.integers(0, 2))
        job = subprocess.Popen(
            [*command, *argv, "--steps", "6", "--limit", "40", *flags],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        while job.poll() is None and len(list(out.glob("shards/shard-*"))) <= goal:
            time.sleep(random.uniform(0.001, 0.01))
        if job.poll() is None:
            job.send_signal(signal.SIGKILL)
            kills += 1
        job.wait()
        if (out / "reconstructions.png").exists():
            break
    assert kills >= 3
    encoded(run, out, *flags)
    assert files(out) == files(whole)


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (train, encode, decode, sample):
        with pytest.raises(SystemExit) as end:
            command.main(["--help"])
        assert end.value.code == 0
        assert "Example:" in capsys.readouterr().out
