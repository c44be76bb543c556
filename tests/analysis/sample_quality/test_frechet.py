"""The Frechet distance equals torch-fidelity's and the closed form, and its interval covers it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch_fidelity.metric_fid import (
    KEY_METRIC_FID,
    fid_features_to_statistics,
    fid_statistics_to_metric,
)

from gdm_repr.analysis.features.extractors import build_extractor
from gdm_repr.analysis.intervals.estimate import Floats
from gdm_repr.analysis.intervals.jackknife import compare
from gdm_repr.analysis.sample_quality.frechet import FRECHET, frechet_distance
from gdm_repr.data.images import Preprocess
from gdm_repr.data.loading import open_data


def theirs(a: Floats, b: Floats) -> float:
    one, two = (fid_features_to_statistics(torch.from_numpy(x)) for x in (a, b))
    return float(fid_statistics_to_metric(one, two, False)[KEY_METRIC_FID])


@pytest.mark.parametrize(("n", "features"), [(300, 12), (200, 64), (40, 64)])
def test_it_equals_torch_fidelity_s(n: int, features: int) -> None:
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((features, features))
    a, b = rng.standard_normal((n, features)), rng.standard_normal((n, features)) @ mix + 0.3
    assert frechet_distance(a, b) == pytest.approx(theirs(a, b), rel=1e-3 if n < features else 1e-9)


def test_it_equals_torch_fidelity_s_on_features_of_images() -> None:
    """Through a network (EfficientNet-Lite0, 1280 features of few images) and of pixels."""
    x = open_data("digits", Preprocess(dequantize=True), limit=48).batch(range(48)).x
    for extractor in (build_extractor("efficientnet-lite0", input_size=32), build_extractor("dct")):
        a, b = (extractor(part).double().numpy() for part in (x[:24], x[24:].flip(2)))
        assert frechet_distance(a, b) == pytest.approx(theirs(a, b), rel=1e-3)


def test_it_is_the_closed_form_of_its_own_moments() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((50, 4)) * [1, 2, 3, 4], rng.standard_normal((30, 4)) + 1
    s, r = np.cov(a.T), np.cov(b.T)
    gap = np.square(a.mean(0) - b.mean(0)).sum()
    expected = gap + np.trace(s + r - 2 * np.real(sqrtm(s @ r)))
    assert frechet_distance(a, b) == pytest.approx(expected)
    assert frechet_distance(b, a) == pytest.approx(expected)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-12)
    turn = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    assert frechet_distance(a @ turn + 5, b @ turn + 5) == pytest.approx(expected)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.3, 1.2)])
@pytest.mark.parametrize(("n", "features"), [(12, 4), (60, 4), (40, 16)])
def test_the_corrected_interval_covers_the_truth(
    n: int, features: int, shift: float, scale: float
) -> None:
    """N(0, I) and N(shift, scale^2 I) are F (shift^2 + (scale - 1)^2) apart; n is small."""
    rng = np.random.default_rng(0)
    truth = features * (shift**2 + (scale - 1) ** 2)
    covered, corrected, plain = 0, [], []
    for _ in range(100):
        a, b = rng.standard_normal((2, n, features))
        score = compare(FRECHET, a, {"x": shift + scale * b}, groups=10)["x"]["frechet"]
        assert score.corrected is not None
        covered += score.corrected.low <= truth <= score.corrected.high
        corrected.append(score.corrected.value)
        plain.append(score.value)
    assert covered >= 88  # of 100; see test_jackknife
    assert abs(np.mean(corrected) - truth) < 0.25 * abs(np.mean(plain) - truth)


def test_it_is_not_corrected_where_most_of_it_is_bias() -> None:
    x = np.random.default_rng(0).standard_normal((3, 20, 30))
    score = compare(FRECHET, x[0], {"x": x[1]}, x[2])["x"]["frechet"]
    assert score.corrected is None
    assert score.floor is not None
    assert score.floor.value > 10  # in truth 0
    assert score.n == 20
    few = compare(FRECHET, x[0, :, :5], {"x": x[1, :, :5]})["x"]["frechet"]
    assert few.corrected is not None


def test_mistakes() -> None:
    x = np.zeros((3, 2))
    with pytest.raises(ValueError, match="real: n=1 images; at least 2"):
        frechet_distance(x[:1], x)
    with pytest.raises(ValueError, match="other: 1 features, but the real images have 2"):
        frechet_distance(x, x[:, :1])
