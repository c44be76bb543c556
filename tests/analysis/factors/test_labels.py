"""Factors: what kind a label is, what its targets are, and which labels are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gdm_repr.analysis.factors.labels import read_factor, store_periods
from gdm_repr.latents.store import open_store


@pytest.mark.parametrize(
    ("column", "period", "kind", "width"),
    [
        (["a", "b"] * 10, None, "discrete", 2),
        ([True, False] * 10, None, "discrete", 2),
        ([0, 1, 2, 3] * 5, None, "discrete", 4),
        ([0.0, 1.0, float("nan"), 2.0] * 5, None, "discrete", 3),
        (np.linspace(0, 1, 20), None, "continuous", 1),
        (np.arange(60) // 2, None, "continuous", 1),
        (np.linspace(0, 1, 20), 1.0, "circular", 2),
        ([0, 90, 180, 270] * 5, 360.0, "circular", 2),
    ],
)
def test_kinds(column: list[object], period: float | None, kind: str, width: int) -> None:
    factor = read_factor("f", column, period=period)
    assert factor.kind == kind
    assert factor.targets.shape == (len(factor.rows), width)
    if kind == "discrete":
        np.testing.assert_array_equal(factor.targets.sum(1), 1)
        assert len(factor.classes) == width
    if kind == "circular":
        np.testing.assert_allclose((factor.targets**2).sum(1), 1)


def test_a_circular_factor_comes_round() -> None:
    angle = np.linspace(0, 350, 36)
    first = read_factor("f", angle, period=360)
    later = read_factor("f", angle + 720, period=360)
    np.testing.assert_allclose(later.targets, first.targets, atol=1e-12)


def test_missing_images_and_rare_classes_are_left_out() -> None:
    column = ["a", None, "b", "c"] + ["a", "b"] * 8
    factor = read_factor("f", column, fewest=5)
    assert factor.rows.tolist() == [0, 2, *range(4, 20)]
    assert factor.classes == ("a", "b")
    assert factor.note == "1 classes of fewer than 5 images left out (1 images)"


@pytest.mark.parametrize(
    ("column", "period", "message"),
    [
        ([f"image {i}" for i in range(30)], None, "it names images"),
        (list(range(30)), None, "it names images"),
        (["a"] * 30, None, "has one value only"),
        ([None] * 30, None, "is missing in all images"),
        ([1.5, 2.5, None] * 2, None, "is known of 4 images only, of at least 10"),
        (["a"] * 30 + ["b"], None, "fewer than two classes of at least 5 images"),
        ([f"{i // 2}" for i in range(200)], None, "has 100 classes, of at most 50"),
        (["a", "b"] * 9, 1.0, "holds texts"),
        ([0.5, float("inf")] * 9, None, "holds infinite values"),
    ],
)
def test_labels_that_are_refused(column: list[object], period: float | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_factor("f", column, period=period)


def test_periods(encoded: Path) -> None:
    store = open_store(encoded)
    assert store_periods(store) == {}
    assert store_periods(store, ["digit=360"]) == {"digit": 360.0}
    assert store_periods(store, ["digit"]) == {"digit": 1.0}
    for spec in ("digit=x", "digit=0", "digit=-1", "digit=inf", "digit=nan"):
        with pytest.raises(ValueError, match="must be a number above 0"):
            store_periods(store, [spec])
    with pytest.raises(ValueError, match="--circular 'hue': no label of the store; it has digit"):
        store_periods(store, ["hue"])
