"""KID equals torch-fidelity's and the closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

from gdm_repr.analysis.intervals.jackknife import compare
from gdm_repr.analysis.sample_quality.kernel_distance import KID


def test_it_equals_torch_fidelity_s() -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.standard_normal((90, 20)), 1.3 * rng.standard_normal((90, 20)) + 0.2
    theirs = kid_features_to_metric(
        torch.from_numpy(fake), torch.from_numpy(real),
        kid_subsets=1, kid_subset_size=90, verbose=False,
    )  # fmt: skip
    ours = compare(KID, real, {"fake": fake})["fake"]["kid"]
    assert ours.value == pytest.approx(theirs[KEY_METRIC_KID_MEAN], abs=1e-6, rel=1e-6)


def test_its_interval_covers_the_closed_form() -> None:
    """Of one feature, MMD^2 = sum_j C(3, j) (E x^j - E y^j)^2; moments of N(m, s^2) are known."""

    def moments(m: float, s: float) -> list[float]:
        return [1, m, m**2 + s**2, m**3 + 3 * m * s**2]

    pairs = zip(moments(0, 1), moments(0.3, 1.2), strict=True)
    truth = sum(math.comb(3, j) * (p - q) ** 2 for j, (p, q) in enumerate(pairs))
    rng = np.random.default_rng(0)
    covered, values = 0, []
    for _ in range(100):
        x, y = rng.standard_normal((2, 200, 1))
        score = compare(KID, x, {"fake": 0.3 + 1.2 * y})["fake"]["kid"]
        covered += score.low <= truth <= score.high
        values.append(score.value)
    assert covered >= 88  # of 100; see test_jackknife
    assert abs(np.mean(values) - truth) < 3 * np.std(values) / 10
