"""The summary of a store: numpy's moments, known distances, honest standard errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from gdm_repr.latents.format import Band, Manifest
from gdm_repr.latents.store import LatentStore, open_store
from gdm_repr.latents.summary import KS_95, as_columns, as_text, summarise
from gdm_repr.latents.writer import StoreWriter

Floats = npt.NDArray[np.float32]
CUT, D = 3, 8  # two bands


def write(path: Path, z: Floats, **errors: Floats) -> LatentStore:
    """A store of latents (n, C, 8) in shards of 100."""
    manifest = Manifest(
        fingerprint={},
        bands=[Band("low", 0, CUT), Band("high", CUT, D)],
        shape=(z.shape[1], 2, 4),
        items=len(z),
        shard_size=100,
        errors={name: values.shape[1] for name, values in errors.items()},
    )
    writer = StoreWriter(path, manifest)
    for shard in writer.pending():
        rows = writer.rows(shard)
        writer.write(
            shard,
            index=[*rows],
            ids=[str(i) for i in rows],
            sources=["test"] * len(rows),
            z=z[rows],
            errors={name: values[rows] for name, values in errors.items()},
        )
    writer.finish()
    return open_store(path)


def normal(n: int, channels: int = 2, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal((n, channels, D)).astype(np.float32)


@pytest.mark.parametrize("batch_size", [1, 37, 4096])
def test_moments_are_numpys(tmp_path: Path, batch_size: int) -> None:
    z = normal(150) ** 3 + 0.5
    summary = summarise(write(tmp_path / "z", z), batch_size)
    assert [row.band for row in summary] == ["low", "high"]
    for row, values in zip(summary, (z[:, :, :CUT], z[:, :, CUT:]), strict=True):
        flat = values.astype(np.float64).ravel()
        assert (row.n, row.elements) == (150, flat.size // 150)
        assert row.mean == pytest.approx(flat.mean(), rel=1e-9)
        assert row.std == pytest.approx(flat.std(), rel=1e-9)
        assert row.kurtosis == pytest.approx(stats.kurtosis(flat, fisher=False), rel=1e-9)
        assert np.isnan([row.round_trip_rmse, row.latent_rmse]).all()


def test_the_distance_is_kolmogorov_and_smirnovs(tmp_path: Path) -> None:
    for name, z in (("a", normal(150)), ("b", 1.4 * normal(150) - 0.2)):
        for row, values in zip(
            summarise(write(tmp_path / name, z)), (z[:, :, :CUT], z[:, :, CUT:]), strict=True
        ):
            exact = stats.kstest(values.ravel(), "norm").statistic
            assert row.ks == pytest.approx(exact, abs=1 / 1000)


def test_the_null_is_passed_by_19_of_20_normal_samples(tmp_path: Path) -> None:
    passed = [
        row.ks < row.ks_null
        for seed in range(100)
        for row in summarise(write(tmp_path / str(seed), normal(30, 1, seed)))
    ]
    assert 180 <= sum(passed) <= 200  # of 200; binomial(200, .95) is below 180 once in 500
    assert pytest.approx(stats.kstwobign.ppf(0.95), abs=1e-3) == KS_95


def test_standard_errors_cover_the_truth(tmp_path: Path) -> None:
    """Elements of one image are made equal: only images count as independent."""
    truth = np.array([0.0, 1.0, 3.0])
    misses = np.zeros(3)
    for seed in range(100):
        z = np.repeat(normal(200, 1, seed)[:, :, :1], D, axis=2)
        row = summarise(write(tmp_path / str(seed), z))[1]
        estimate = np.array([row.mean, row.std, row.kurtosis])
        error = np.array([row.mean_se, row.std_se, row.kurtosis_se])
        misses += np.abs(estimate - truth) > 2 * error
    assert misses[:2].max() <= 13  # 4.6 of 100 expected; more than 13 once in 2000
    assert misses[2] <= 30  # the kurtosis of 200 values is skewed, so its interval is short


def test_errors_are_root_mean_squares_over_images(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    errors = {
        name: random.random((150, 2)).astype(np.float32)
        for name in ("round_trip_error_by_group", "latent_error_by_group")
    }
    for band, row in enumerate(summarise(write(tmp_path / "z", normal(150), **errors))):
        for name, value in zip(errors, (row.round_trip_rmse, row.latent_rmse), strict=True):
            assert value == pytest.approx(np.sqrt((errors[name][:, band] ** 2).mean()), rel=1e-5)


def test_one_image_has_no_standard_error_and_none_no_summary(tmp_path: Path) -> None:
    (row, _) = summarise(write(tmp_path / "one", normal(1)))
    assert np.isfinite([row.mean, row.std, row.kurtosis]).all()
    assert np.isnan([row.mean_se, row.std_se, row.kurtosis_se]).all()
    writer = StoreWriter(
        tmp_path / "none",
        Manifest(fingerprint={}, bands=[Band("all", 0, 8)], shape=(1, 2, 4), items=1, shard_size=1),
    )
    writer.write(
        0, index=[], ids=[], sources=[], z=normal(0, 1), rejected=[(0, "a.png", "not an image")]
    )
    writer.finish()
    with pytest.raises(ValueError, match=r"holds no image; see its quarantine.jsonl"):
        summarise(open_store(tmp_path / "none"))


def test_tables_hold_every_number(tmp_path: Path) -> None:
    summary = summarise(write(tmp_path / "z", normal(20)))
    columns = as_columns(summary)
    assert columns["band"] == ["low", "high"]
    assert columns["std"] == [row.std for row in summary]
    lines = as_text(summary).splitlines()
    assert len(lines) == 4
    assert len({len(line) for line in lines[1:]}) == 1  # aligned
    for row, line in zip(summary, lines[2:], strict=True):
        for part in (row.band, f"{row.mean:+.4f}", f"{row.std:.4f}", f"{row.ks:.4f}"):
            assert part in line


@pytest.mark.parametrize("mean", [0.0, 0.7, -3.0])
@pytest.mark.parametrize("std", [1.0, 1e-3, 1e-5])
def test_standard_errors_scale_with_latents_that_hardly_vary(
    tmp_path: Path, mean: float, std: float
) -> None:
    """A delta method by differences would step over the variance of such latents."""
    z = normal(60) * np.exp(0.2 * np.random.default_rng(1).standard_normal((60, 1, 1)))
    stored = (mean + std * z).astype(np.float32)
    given = (stored.astype(np.float64) - mean) / std  # what rounding to float32 left of z
    found = summarise(write(tmp_path / "a", stored))
    plain = summarise(write(tmp_path / "b", given.astype(np.float32)))
    for one, other in zip(found, plain, strict=True):
        assert one.mean_se == pytest.approx(other.mean_se * std, rel=1e-5)
        assert one.std == pytest.approx(other.std * std, rel=1e-5)
        assert one.std_se == pytest.approx(other.std_se * std, rel=1e-5)
        assert one.kurtosis_se == pytest.approx(other.kurtosis_se, rel=1e-5)


@pytest.mark.parametrize("std", [0.0, 1e-30, 1e-3])
def test_images_that_are_all_one_have_finite_standard_errors(tmp_path: Path, std: float) -> None:
    z = np.repeat(normal(1) * np.float32(std), 20, axis=0) + np.float32(0.1 if std == 0 else 0)
    for row in summarise(write(tmp_path / "s", z)):
        assert np.isfinite([row.mean_se, row.std, row.std_se, row.kurtosis_se]).all()
        assert row.std_se == pytest.approx(0, abs=1e-12)
