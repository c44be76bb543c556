"""Rows, counts and seeds: read by one rule wherever a public function takes some."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gdm_repr.analysis.disentanglement.input import latent_columns
from gdm_repr.analysis.disentanglement.scores import score
from gdm_repr.analysis.options import AnalysisConfig
from gdm_repr.analysis.sample_quality.frechet import frechet_distance
from gdm_repr.analysis.subject import Subject
from gdm_repr.analysis.total_correlation.estimate import total_correlation
from gdm_repr.boundary.arguments import RowError, count, integer, row_numbers, seed
from gdm_repr.grouping import build_grouping
from gdm_repr.latents.store import LatentStore, open_store
from gdm_repr.masks import first_elements, group_elements
from gdm_repr.ode import Plan

N = 6
MASK = np.array([False, True, True, False, False, True])
GOOD: list[tuple[Any, list[int]]] = [
    ([3, 0, 3], [3, 0, 3]),
    ((np.int64(5), 1), [5, 1]),
    (np.array([2, 4], np.uint8), [2, 4]),
    (np.array([1], np.uint64), [1]),
    (torch.tensor([4, 1]), [4, 1]),
    (range(1, 6, 2), [1, 3, 5]),
    (slice(4, None), [4, 5]),
    ([], []),
    (np.empty(0, np.int64), []),
    (MASK, [1, 2, 5]),
    (MASK.tolist(), [1, 2, 5]),
    (list(MASK), [1, 2, 5]),
    (torch.from_numpy(MASK), [1, 2, 5]),
]
BAD: list[Any] = [
    [0, N],
    [-1],
    np.array([2**63], np.uint64),
    [2**64],
    MASK[:4],
    [True],
    [True, 2],
    [0.0, 1.0],
    np.array([1.7]),
    torch.tensor([1.0]),
    3,
    np.array(3),
    [[0, 1], [2, 3]],
    np.array([0, 1], object),
    ["0", "1"],
    "01",
    {0, 1},
    [None],
    slice(0.5, 2),
]


@pytest.fixture(scope="module")
def subject(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    from gdm_repr import encode

    out = tmp_path_factory.mktemp("arguments")
    argv = ["--checkpoint", str(trained), "--data", "digits", "--limit", str(N), "--steps", "3"]
    assert encode.main([*argv, "--out", str(out / "z"), "--no-track"]) == 0
    config = {"checkpoint": str(trained), "latents": out / "z", "out": out, "device": "cpu"}
    return Subject.open(AnalysisConfig.model_validate(config))


def _takers(subject: Subject) -> dict[str, Callable[[Any], Any]]:
    """Return every public function of the package that takes rows, as what it selects."""
    store: LatentStore = subject.store
    return {
        "z": store.z,
        "band": lambda rows: store.band(1, rows),
        "errors": lambda rows: store.errors("round_trip_error", rows),
        "batch": lambda rows: subject.dataset.batch(rows).x.numpy(),
        "latent_columns": lambda rows: latent_columns(store, rows=rows),
        "Subject.z": lambda rows: subject.z(rows).numpy(),
        "Subject.images": lambda rows: subject.images(rows).numpy(),
    }


NAMES = ["z", "band", "errors", "batch", "latent_columns", "Subject.z", "Subject.images"]


@pytest.mark.parametrize("name", NAMES)
def test_rows_select_what_they_say(subject: Subject, name: str) -> None:
    take = _takers(subject)[name]
    every = take(slice(None))
    assert len(every) == N
    for rows, numbers in GOOD:
        np.testing.assert_array_equal(take(rows), every[numbers])


@pytest.mark.parametrize("name", NAMES)
def test_what_are_no_rows_is_refused(subject: Subject, name: str) -> None:
    take = _takers(subject)[name]
    for rows in BAD:
        with pytest.raises(ValueError, match=r"^(rows|indices)"):
            take(rows)


def test_a_row_out_of_range_is_an_index_error_too() -> None:
    with pytest.raises(IndexError):
        row_numbers([N], N)
    assert issubclass(RowError, ValueError)


@pytest.mark.parametrize("value", [True, np.bool_(True), 1.0, np.float32(2), "3", None, [1]])
def test_counts_and_seeds_are_integers(value: object) -> None:
    grouping = build_grouping("bands", (1, 4, 4), cuts=[2, 5])
    z = np.random.default_rng(0).standard_normal((80, 3))
    calls: list[tuple[str, Callable[[], object]]] = [
        ("n", lambda: integer(value, "n")),
        ("n", lambda: count(value, "n")),
        ("seed", lambda: seed(value)),
        ("steps", lambda: Plan(steps=(3, value))),  # type: ignore[arg-type]
        ("order", lambda: grouping.with_order([0, 1, value])),  # type: ignore[list-item]
        ("m", lambda: first_elements(grouping, value)),  # type: ignore[arg-type]
        ("group", lambda: group_elements(grouping, [value])),  # type: ignore[list-item]
        ("seed", lambda: total_correlation(z, seed=value)),  # type: ignore[arg-type]
        ("resamples", lambda: total_correlation(z, resamples=value)),  # type: ignore[arg-type]
        ("seed", lambda: score("mig", z, seed=value)),  # type: ignore[arg-type]
    ]
    for name, call in calls:
        with pytest.raises(ValueError, match=rf"^{name}"):
            call()


def test_bands_and_blocks_are_not_found_by_truth(subject: Subject) -> None:
    for which in (True, 0.0, (0.0, 6.0), None):
        with pytest.raises(ValueError, match=r"^band"):
            subject.store.band(which)  # type: ignore[arg-type]
    z = np.random.default_rng(0).standard_normal((80, 3))
    for block in ([True, False, True], [0.5, 1.0], 3):
        with pytest.raises(ValueError, match=r"^blocks"):
            total_correlation(z, blocks=[[0], block])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"^elements"):
        latent_columns(subject.store, elements=[True])


@pytest.mark.parametrize(
    "values",
    [
        np.ones((80, 3), bool),
        np.ones((80, 3), object),
        np.ones((80, 3), complex),
        [["a", "b"]] * 80,
        [[1, None]] * 80,
        [[1, 2], [3]],
        np.full((80, 3), np.nan),
        np.ones(80),
        np.ones((2, 2, 2)),
        np.empty((0, 3)),
        3,
        "text",
        None,
    ],
)
def test_tables_of_analyses_are_named_when_they_are_none(values: Any) -> None:  # noqa: ANN401
    for name, call in (
        ("z", total_correlation),
        ("z", lambda z: score("mig", z)),
        ("real", lambda x: frechet_distance(x, np.ones((4, 3)))),
    ):
        with pytest.raises(ValueError, match=rf"^{name}\b"):
            call(values)


def test_a_store_opened_by_name_is_found_from_another_folder(
    subject: Subject, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(subject.store.path.parent)
    store = open_store(subject.store.path.name)
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(store.z(), subject.store.z())
