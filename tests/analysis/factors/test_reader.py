"""The reader: its leave-one-out readings, and what patches read off scenes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gdm_repr.analysis.factors import reader as factor_reader
from gdm_repr.analysis.factors.labels import read_factor
from gdm_repr.analysis.factors.reader import fit_patches, fit_reader
from gdm_repr.analysis.intervals.bootstrap import r_squared
from gdm_repr.data.scenes.factors import render_scenes, scene_factors


def flat(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(1)


def test_left_out_readings_are_those_of_readers_fitted_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of one width and penalty; an image's own pixels do not change the others' scale much."""
    monkeypatch.setattr(factor_reader, "_WIDTHS", (1.0,))
    monkeypatch.setattr(factor_reader, "_PENALTIES", np.array([0.05]))
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(80, 1, 2, 2)))
    y = x[:, 0, 0, 0].numpy() + 0.1 * rng.normal(size=80)
    whole = fit_reader(flat, x, [read_factor("y", y)], seed=0)
    errors = []
    for out in range(80):
        rest = np.delete(np.arange(80), out)
        reader = fit_reader(flat, x[rest], [read_factor("y", y[rest])], seed=0)
        errors.append(float(reader(x[out : out + 1]).values[0, 0]) - y[out])
    known = 1 - np.mean(np.square(errors)) / y.var()
    assert whole.r2[0].value == pytest.approx(known, abs=0.03)
    assert whole.r2[0].low < whole.r2[0].value < whole.r2[0].high


def test_patches_read_scenes() -> None:
    table = scene_factors(range(460), seed=0)
    x = torch.from_numpy(render_scenes(table, 16)).permute(0, 3, 1, 2).float() / 127.5 - 1
    names = ("background_hue", "x", "texture_phase")
    factors = [
        read_factor(name, table[name][:400], period=None if name == "x" else 1.0) for name in names
    ]
    describe = fit_patches(x[:400], device=torch.device("cpu"), seed=0)
    reader = fit_reader(describe, x[:400], factors, seed=0)
    hue, place, phase = (each.value for each in reader.r2)
    assert hue > 0.9
    assert place > 0.6
    assert phase < 0.3
    reading = reader(x[400:])
    read = reading.values
    assert read.shape == (60, 5)
    assert r_squared(read[:, 2:3], table["x"][400:, None], seed=0).value > 0.6
    assert reading.strange.mean() < 0.25
    assert reader(-1.5 * x[400:]).strange.mean() > 0.9
    # nothing depends on how many images are read together
    np.testing.assert_allclose(reader(x[400:403]).values, read[:3], atol=1e-5)


def test_factors_of_other_images_are_read_side_by_side() -> None:
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(80, 1, 2, 2)))
    first, second = x[:, 0, 0, 0].numpy(), x[:, 0, 1, 1].numpy().copy()
    second[::4] = np.nan
    factors = [read_factor("a", first), read_factor("b", second), read_factor("c", -first)]
    read = fit_reader(flat, x, factors, seed=0)(x).values
    assert read.shape == (80, 3)
    for column, truth in enumerate((first, x[:, 0, 1, 1].numpy(), -first)):
        assert np.corrcoef(read[:, column], truth)[0, 1] > 0.9


def test_too_few_images_have_no_score() -> None:
    assert np.isnan(r_squared(np.zeros((1, 1)), np.zeros((1, 1)), seed=0).value)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 4, 6), (3, 100, 80)])
def test_patches_of_any_size(shape: tuple[int, int, int]) -> None:
    x = torch.rand((20, *shape), generator=torch.Generator().manual_seed(0))
    describe = fit_patches(x, device=torch.device("cpu"), seed=0)
    found = describe(x).numpy()
    assert len(found) == 20
    assert np.isfinite(found).all()
    assert found.std(0).max() > 0
