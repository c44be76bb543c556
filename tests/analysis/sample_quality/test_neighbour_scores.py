"""Precision, recall, density and coverage equal the authors' code, and known cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from prdc import compute_prdc
from torch_fidelity.metric_prc import prc_features_to_metric

from gdm_repr.analysis.intervals.estimate import Floats
from gdm_repr.analysis.intervals.jackknife import Score, compare
from gdm_repr.analysis.sample_quality.neighbour_scores import NAMES, neighbours

Pair = list[Floats]


def neighbour_scores(real: Floats, fake: Floats, *k: int) -> dict[str, Score]:
    return compare(neighbours(*k), real, {"fake": fake})["fake"]


@pytest.fixture
def pair() -> Pair:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((60, 4)), 0.7 * rng.standard_normal((60, 4)) + 0.5]


@pytest.mark.parametrize("k", [1, 4])
def test_they_equal_prdc_s(pair: Pair, k: int) -> None:
    found = neighbour_scores(pair[0], pair[1], k, k)
    theirs = compute_prdc(*pair, nearest_k=k)
    for name in NAMES:
        assert found[name].value == pytest.approx(theirs[name]), name


def test_they_equal_torch_fidelity_s(pair: Pair) -> None:
    real, fake = pair
    theirs = prc_features_to_metric(
        torch.from_numpy(fake), torch.from_numpy(real),
        prc_neighborhood=3, prc_batch_size=100, save_cpu_ram=False, verbose=False,
    )  # fmt: skip
    found = neighbour_scores(real, fake)
    for name in ("precision", "recall"):
        assert found[name].value == pytest.approx(theirs[name]), name


def test_a_model_that_makes_one_image_and_one_that_repeats_the_data() -> None:
    real = np.random.default_rng(0).standard_normal((40, 2))
    one = neighbour_scores(real, real[:1] + 1e-6 * real)
    assert one["precision"].value == 1
    assert one["recall"].value <= 3 / 40
    assert one["coverage"].value < 0.5
    same = neighbour_scores(real, real)
    assert [same[name].value for name in ("precision", "recall", "coverage")] == [1, 1, 1]
    far = neighbour_scores(real, real + 100)
    assert [far[name].value for name in NAMES] == [0, 0, 0, 0]
    assert far["precision"].high > 0


def test_too_many_neighbours() -> None:
    x = np.random.default_rng(0).standard_normal((5, 2))
    with pytest.raises(ValueError, match="neighbours k=5: must be at least 1 and fewer than the 5"):
        neighbour_scores(x, x)
    with pytest.raises(ValueError, match="neighbours k=0"):
        neighbour_scores(x, x, 0, 0)
