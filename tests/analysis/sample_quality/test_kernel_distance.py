"""KID equals torch-fidelity's on the same subsets, and the closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch_fidelity.metric_kid import (
    KEY_METRIC_KID_MEAN,
    KEY_METRIC_KID_STD,
    kid_features_to_metric,
)

from gdm_repr.analysis.sample_quality.kernel_distance import kid, kid_of_subsets


def test_it_equals_torch_fidelity_s_on_its_subsets() -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.standard_normal((120, 20)), 1.3 * rng.standard_normal((90, 20)) + 0.2
    theirs = kid_features_to_metric(
        torch.from_numpy(fake), torch.from_numpy(real),
        kid_subsets=10, kid_subset_size=50, verbose=False,
    )  # fmt: skip
    ours = kid_of_subsets(real, fake, subsets=10, size=50)
    assert ours.mean == pytest.approx(theirs[KEY_METRIC_KID_MEAN], abs=1e-6, rel=1e-6)
    assert ours.std == pytest.approx(theirs[KEY_METRIC_KID_STD], abs=1e-6, rel=1e-6)
    # one subset of everything is what the score itself is
    n = 90
    whole = kid_of_subsets(real[:n], fake, subsets=1, size=n)
    assert kid(real[:n], fake).value == pytest.approx(whole.mean, rel=1e-9)
    with pytest.raises(ValueError, match="size=200, subsets=100: sets of 120 and 90"):
        kid_of_subsets(real, fake, size=200)


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
        score = kid(x, 0.3 + 1.2 * y)
        covered += score.low <= truth <= score.high
        values.append(score.value)
    assert covered >= 88  # of 100; see test_jackknife
    assert abs(np.mean(values) - truth) < 3 * np.std(values) / 10
