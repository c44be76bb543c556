"""Factors from labels of any kind, and latents from a store by band or element."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gdm_repr.analysis.disentanglement.input import (
    MISSING,
    Settings,
    histogram_codes,
    latent_columns,
    read_factors,
    split_rows,
)
from gdm_repr.latents.format import Band, Manifest
from gdm_repr.latents.store import open_store
from gdm_repr.latents.writer import StoreWriter


def test_kinds_are_guessed_or_said() -> None:
    ramp = np.arange(200)
    columns = {
        "text": np.where(ramp % 2, "a", "b"),
        "bool": ramp % 2 == 0,
        "class": ramp % 5,
        "class with a hole": np.where(ramp == 3, np.nan, ramp % 5),
        "count": ramp,
        "amount": ramp / 7,
        "angle": ramp % 4 * 90.0,
        "level": ramp % 3,
        "id": ramp // 2,
    }
    factors = read_factors(
        columns | {"id": np.repeat([7, 9], 100)},
        continuous=["level"],
        discrete=["id"],
        circular={"angle": 360},
    )
    assert dict(zip(factors.names, factors.kinds, strict=True)) == {
        "text": "discrete",
        "bool": "discrete",
        "class": "discrete",
        "class with a hole": "discrete",
        "count": "continuous",
        "amount": "continuous",
        "angle": "circular",
        "level": "continuous",
        "id": "discrete",
    }
    assert factors.codes[3, 3] == MISSING
    assert math.isnan(factors.values[3, 3])
    assert factors.values[:4, 6].tolist() == pytest.approx(
        [0, math.pi / 2, math.pi, 3 * math.pi / 2]
    )
    assert factors.codes[:, 4].tolist() == (ramp // 10).tolist()  # 20 bins
    assert factors.values[:5, 7].tolist() == [0, 1, 2, 0, 1]
    taken = factors.take(np.array([3, 199]))
    assert len(taken) == 2
    assert taken.known(3).tolist() == [False, True]


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (np.zeros(4), {}, "factors: shape"),
        ({}, {}, "at least one"),
        ({"a": [1, 2], "b": [1]}, {}, "lengths"),
        ({"a": [1] * 99}, {}, "'a' has another value .* in 0 images"),
        ({"a": [1] * 99 + [2]}, {}, "in 1 images"),
        ({"a": [None] * 99}, {}, "in 0 images"),
        ({"a": ["x", "y"] * 40}, {"continuous": ["a"]}, "'a' holds texts"),
        ({"a": [1, 2] * 40}, {"continuous": ["b"]}, "continuous: 'b' must be one of"),
        ({"a": [1, 2] * 40}, {"continuous": ["a"], "discrete": ["a"]}, "one kind only"),
        ({"a": [1, 2] * 40}, {"circular": {"a": 0}}, "period 0"),
    ],
)
def test_refuses_factors(
    columns: dict[str, list[Any]], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_factors(columns, **options)


def test_histogram_codes_are_those_of_the_library() -> None:
    z = np.random.default_rng(0).standard_normal((500, 3))
    z[:, 2] = 4.0
    codes = histogram_codes(z, 20)
    for column, found in zip(z.T, codes.T, strict=True):
        assert np.bincount(found, minlength=20).tolist() == np.histogram(column, 20)[0].tolist()


def test_rows_are_split_in_the_settings_proportion() -> None:
    train, test = split_rows(90, Settings(), np.random.default_rng(0))
    assert (len(train), len(test)) == (60, 30)
    assert sorted([*train, *test]) == list(range(90))


def test_latents_by_band_or_element(tmp_path: Path) -> None:
    n, C, d = 7, 2, 6
    z = np.random.default_rng(0).standard_normal((n, C, d)).astype(np.float32)
    manifest = Manifest(
        fingerprint={},
        bands=[Band("low", 0, 2), Band("middle", 2, 3), Band("high", 3, d)],
        element_order=[5, 0, 3, 1, 2, 4],
        shape=(C, 2, 3),
        items=n,
        shard_size=4,
    )
    writer = StoreWriter(tmp_path, manifest)
    for shard in writer.pending():
        rows = [*writer.rows(shard)]
        ids = [str(row) for row in rows]
        writer.write(shard, index=rows, ids=ids, sources=ids, z=z[rows])
    writer.finish()
    store = open_store(tmp_path)
    low = z[:, :, [5, 0]].reshape(n, 4)
    assert (latent_columns(store, bands=["low"]) == low).all()
    both = latent_columns(store, bands=[1, (0, 2)], rows=[5, 3])
    assert (both == np.concatenate([z[:, :, 3], low], axis=1)[[5, 3]]).all()
    chosen = np.concatenate([z[:, :, 0], z[:, :, [1, 4]].reshape(n, 4)], axis=1)
    assert (latent_columns(store, elements=[4, 1, 0]) == chosen).all()
    assert latent_columns(store).shape == (n, C * d)
    refused: list[tuple[Callable[[], object], str]] = [
        (lambda: latent_columns(store, elements=[3, 6]), r"elements: \[6\]"),
        (lambda: latent_columns(store, elements=[]), "elements: "),
        (lambda: latent_columns(store, elements=[1], bands=[0]), "both given"),
        (lambda: latent_columns(store, bands=["top"]), "'top' is not in the store"),
    ]
    for call, message in refused:
        with pytest.raises(ValueError, match=message):
            call()
