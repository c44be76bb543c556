"""The map: neighbours are exact, near ones stay near, and rows that are placed move no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from gdm_repr.latents import band_map
from gdm_repr.latents.band_map import BandMap, Placed
from gdm_repr.latents.format import Band
from gdm_repr.latents.store import LatentStore
from tests.latents.test_neighbours import C, D, write_store

N = 90
KINDS = np.arange(N) % 3
_RNG = np.random.default_rng(3)
Z: npt.NDArray[np.float32] = (
    3 * _RNG.standard_normal((3, C, D))[KINDS] + 0.3 * _RNG.standard_normal((N, C, D))
).astype(np.float32)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LatentStore:
    """Images of three kinds, which differ in all latents."""
    return write_store(tmp_path_factory.mktemp("map"), Z)


def make(store: LatentStore, band: str = "low", **options: int) -> tuple[BandMap, Placed]:
    plane = BandMap(store, band, **options)
    plane.fit()
    parts = [plane.place(rows) for rows in store.runs()]
    names = ("xy", "pca", "neighbours", "distances")
    return plane, Placed(*(np.concatenate([getattr(p, n) for p in parts]) for n in names))


def kind_of_nearest(xy: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    distances = np.square(xy[:, None] - xy[None]).sum(2)
    np.fill_diagonal(distances, np.inf)
    kinds: npt.NDArray[np.int64] = KINDS[distances.argmin(1)]
    return kinds


@pytest.mark.parametrize("fit_rows", [1000, 60])
def test_neighbours_are_those_of_the_table_of_all_distances(
    store: LatentStore, fit_rows: int
) -> None:
    plane, placed = make(store, fit_rows=fit_rows)
    assert len(plane.fitted) == min(fit_rows, N)
    band = Z[:, :, :5].reshape(N, -1).astype(np.float64)
    distances = np.sqrt(np.square(band[:, None] - band[None]).mean(2))
    np.fill_diagonal(distances, np.inf)
    distances[:, ~np.isin(np.arange(N), plane.fitted)] = np.inf
    expected = distances.argsort(1)[:, : band_map.NEIGHBOURS]
    np.testing.assert_array_equal(placed.neighbours, expected)
    np.testing.assert_allclose(
        placed.distances, np.take_along_axis(distances, expected, 1), rtol=1e-4
    )


@pytest.mark.parametrize("fit_rows", [1000, 60])
def test_kinds_stay_apart_on_the_map(store: LatentStore, fit_rows: int) -> None:
    pytest.importorskip("openTSNE")
    plane, placed = make(store, "all", fit_rows=fit_rows)
    assert plane.tsne
    assert (kind_of_nearest(placed.xy) == KINDS).all()
    assert placed.xy.std(0).min() > 1  # and it is no longer the small map that t-SNE begins with


def test_without_tsne_it_is_principal_components(store: LatentStore) -> None:
    plane = BandMap(store, "all")
    plane.tsne = False
    plane.fit()
    placed = plane.place(slice(0, 40))
    np.testing.assert_array_equal(placed.xy, placed.pca)
    flat = Z.reshape(N, -1) - Z.reshape(N, -1).mean(0)
    axes = np.linalg.svd(flat, full_matrices=False)[2][:2]
    expected = (flat @ axes.T)[:40]
    np.testing.assert_allclose(np.abs(placed.pca), np.abs(expected), atol=1e-3)


def test_wide_bands_are_compared_by_components(
    store: LatentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(band_map, "MOST_NUMBERS", 2)
    plane = BandMap(store, "all")
    plane.tsne = False
    plane.fit()
    placed = plane.place(slice(0, N))
    assert plane.components == 2
    apart = placed.pca[:, None] - placed.pca[placed.neighbours]
    np.testing.assert_allclose(
        placed.distances, np.sqrt(np.square(apart).mean(2)), rtol=1e-3, atol=1e-4
    )


def test_a_band_of_one_number_and_the_least_images(tmp_path: Path) -> None:
    same = np.zeros((5, C, D), np.float32)
    bands = [Band("one", 0, 1), Band("rest", 1, C * D)]
    few = write_store(tmp_path / "few", same, per_channel=True, bands=bands)
    placed = make(few, "one")[1]
    assert np.isfinite(placed.xy).all()
    assert all(row not in near for row, near in enumerate(placed.neighbours.tolist()))
    with pytest.raises(ValueError, match="hold 4 images; a map takes 5"):
        BandMap(few.select(range(4)))
    with pytest.raises(ValueError, match="band 'nosuch': unknown"):
        BandMap(few, "nosuch")
