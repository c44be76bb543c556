"""Nearest images: what the whole table of distances says, whatever the store's layout."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gdm_repr.latents import neighbours
from gdm_repr.latents.format import Band, Manifest, bands_of, grouping_of
from gdm_repr.latents.neighbours import NearestIndex, nearest
from gdm_repr.latents.store import LatentStore, open_store
from gdm_repr.latents.writer import StoreWriter
from gdm_repr.masks import band_mask

C, H, W = 2, 3, 4
D = H * W
N = 40
TWINS = (7, 31)  # of two shards
Z: npt.NDArray[np.float32] = np.random.default_rng(0).standard_normal((N, C, D)).astype(np.float32)
Z[TWINS[1]] = Z[TWINS[0]] + 1e-4

LAYOUTS: list[dict[str, Any]] = [
    {},
    {"element_order": [*reversed(range(D))]},
    {"per_channel": True, "bands": [Band("red", 0, D), Band("rest", D, C * D)]},
    {
        "per_channel": True,
        "bands": [Band("all", 0, C * D)],
        "element_order": np.random.default_rng(1).permutation(C * D).tolist(),
    },
]


def write_store(path: Path, z: npt.NDArray[np.float32] = Z, **changes: object) -> LatentStore:
    facts: dict[str, Any] = {
        "fingerprint": {"checkpoint": "c0ffee"},
        "bands": [Band("low", 0, 5), Band("high", 5, D)],
        "shape": (C, H, W),
        "items": len(z),
        "shard_size": 16,
    }
    writer = StoreWriter(path, Manifest(**{**facts, **changes}))
    for shard in writer.pending():
        rows = [*writer.rows(shard)]
        names = [f"item-{row}" for row in rows]
        writer.write(shard, index=rows, ids=names, sources=[""] * len(rows), z=z[rows])
    writer.finish()
    return open_store(path)


@pytest.fixture
def store(tmp_path: Path) -> LatentStore:
    return write_store(tmp_path)


def table(store: LatentStore, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """The distance of every pair of images, as the definition says it."""
    z = store.z().astype(np.float64)[:, mask]
    distances: npt.NDArray[np.float64] = np.sqrt(np.square(z[:, None] - z[None]).mean(2))
    return distances


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nearest_are_those_of_the_table_of_all_distances(
    tmp_path: Path, layout: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "ROWS", 5)  # several blocks a shard
    store = write_store(tmp_path, **layout)
    names = [*dict.fromkeys((store.manifest.bands[0].name, "1-3+8-8", "all"))]
    found = NearestIndex(store).nearest(Z[3] + 0.1, names, 6)
    assert [each.band for each in found] == names
    for each in found:
        mask = np.ones((C, D), bool)
        if each.band != "all":
            mask = band_mask(each.band, grouping_of(store.manifest), C)
        z = (Z - Z[3] - np.float32(0.1)).astype(np.float64)[:, mask]
        distances = np.sqrt(np.square(z).mean(1))
        rows = np.argsort(distances)[:6]
        assert each.rows.tolist() == rows.tolist()
        assert each.ids == [f"item-{row}" for row in rows]
        np.testing.assert_allclose(each.distances, distances[rows], rtol=1e-5)
        own = table(store, mask) + np.diag(np.full(N, np.inf))
        assert (each.closer, each.of) == ((own.min(1) <= distances.min()).mean(), N)


def test_an_image_of_the_store_is_its_own_nearest_unless_left_out(store: LatentStore) -> None:
    found = nearest(store, Z[4], n=3)
    assert [each.band for each in found] == ["low", "high", "all"]
    assert all(each.rows[0] == 4 and each.distances[0] == 0 for each in found)
    others = nearest(store, Z[4], n=N - 1, without=4)
    assert all(sorted(each.rows) == sorted({*range(N)} - {4}) for each in others)
    assert all(each.of == N - 2 for each in others)  # neither of the two


def test_a_near_duplicate_is_told_from_an_ordinary_neighbour(store: LatentStore) -> None:
    index = NearestIndex(store)
    twin = index.nearest(Z[TWINS[0]], ["all"], 2, without=TWINS[0])[0]
    assert twin.rows[0] == TWINS[1]
    assert twin.distances[0] == pytest.approx(1e-4, rel=0.01)  # float32 products would not see it
    assert twin.closer == 0 and twin.near_duplicate
    other = index.nearest(Z[0], ["all"], 1, without=0)[0]
    assert other.closer > 0.01 and not other.near_duplicate
    assert not dataclasses.replace(other, closer=0.0).near_duplicate  # rare, but not much nearer
    np.testing.assert_allclose(
        index.own_distances("all"),
        (table(store, np.ones((C, D), bool)) + np.diag(np.full(N, np.inf))).min(1),
        rtol=1e-3,
    )


def test_what_is_asked_twice_or_of_a_part_is_the_same(store: LatentStore) -> None:
    some = store.select(range(5, 35, 2))
    rows = NearestIndex(some).nearest(Z[9], ["low"], 4)[0].rows
    distances = np.square(Z[5:35:2, :, :5] - Z[9, :, :5]).mean((1, 2))
    assert rows.tolist() == np.argsort(distances)[:4].tolist()
    index = NearestIndex(store, sample=10)
    first, again = (index.nearest(Z[9], ["low"], 4)[0] for _ in range(2))
    assert (first.closer, first.of) == (again.closer, again.of) == (first.closer, 10)
    np.testing.assert_array_equal(first.distances, again.distances)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_groups_of_a_store_lay_out_its_bands(tmp_path: Path, layout: dict[str, Any]) -> None:
    manifest = write_store(tmp_path, Z[:4], **layout).manifest
    grouping = grouping_of(manifest)
    assert bands_of(grouping) == manifest.bands
    assert all(
        set(np.flatnonzero(grouping.mask(number).ravel()))
        == set(manifest.order()[band.start : band.stop])
        for number, band in enumerate(manifest.bands)
    )
    assert grouping.per_channel == bool(layout.get("per_channel"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"z": Z[0, :1]}, r"z: shape \(1, 12\) is not that of the store's images, \(2, 12\)"),
        ({"z": np.full((C, D), np.nan)}, "z: holds numbers that are not finite"),
        ({"bands": ["middle"]}, "band 'middle': unknown"),
        ({"bands": ["none"]}, "band 'none': holds no element"),
        ({"n": 0}, "n=0: must be at least 1"),
        ({"n": N + 1}, "the store holds 40 images; ask for fewer"),
        ({"n": N, "without": 0}, "the store holds 39 other images; ask for fewer"),
        ({"without": N}, "without=40: must be a row of the store, 0 .. 39"),
        ({"sample": 1}, "sample=1: must be at least 2"),
    ],
)
def test_what_is_wrong_is_said(store: LatentStore, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        nearest(store, **{"z": Z[0], **change})


def test_one_image_has_no_nearest_other(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="hold 1 image; nearest images take 2"):
        nearest(write_store(tmp_path, Z[:1]), Z[0])
