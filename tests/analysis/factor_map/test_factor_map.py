"""The factor map as a command: columns, answers, refusals, a baseline that is the same store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gdm_repr.analysis.factor_map.cells import MOST_BANDS, column_sets

FEW = "--permutations 9 --resamples 40 --folds 3"


def test_columns_of_bands_and_first_bands() -> None:
    sets = {c.name: c for c in column_sets({"a": (0, 2), "b": (2, 3), "c": (3, 7)})}
    assert list(sets) == ["a", "b", "c", "up_to_b", "all"]
    assert sets["up_to_b"].columns == (0, 1, 2)
    assert sets["all"].columns == tuple(range(7))
    assert [c.name for c in sets.values() if c.bands] == ["a", "up_to_b", "all"]
    assert [c.name for c in column_sets({"a": (0, 2)})] == ["all"]
    many = [c for c in column_sets({str(i): (i, i + 1) for i in range(64)}) if c.kind == "band"]
    assert len(many) == MOST_BANDS
    assert [i for c in many for i in c.columns] == list(range(64))
    assert many[0].name == "0..5"


def test_a_baseline_of_the_same_latents_differs_nowhere(
    analyse: Callable[..., dict[str, Any]], encoded: Path
) -> None:
    more = f"--baseline {encoded} --controls raw --probes linear,knn"
    report = analyse("factor_map", FEW, more)
    rows = report["tables"]["factor_map"]
    scores: dict[str, list[float]] = {}
    for source, value in zip(rows["source"], rows["score"], strict=True):
        scores.setdefault(source, []).append(value)
    assert scores["other model"] == scores["latents"]
    assert set(rows["probe"]) == {"linear", "knn"}
    assert (np.array(rows["low"]) <= np.array(rows["high"])).all()
    values = report["metrics"][0]["values"]
    assert {"factor_map/digit/0_5", "factor_map_control/raw_coefficients/digit/all"} <= set(values)
    assert "digit" in report["answer"][0]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--factors pose", "--factors 'pose': no label of the store; it has digit"),
        ("--factors digit,digit", "names one twice"),
        ("--circular pose=360", "--circular 'pose': no label"),
        ("--probes forest", "--probes 'forest': unknown; choose from linear"),
        ("--controls raw,raw", "--controls raw,raw: names one twice"),
    ],
)
def test_what_is_refused(refused: Callable[..., str], more: str, message: str) -> None:
    assert message in refused("factor_map", FEW, more)
