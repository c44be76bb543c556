"""Probes and scores: known R^2, chance, other libraries' scores, and nothing learnt of itself."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score, r2_score

from gdm_repr.analysis.factor_map.scores import ProbeScore, enough, probe_scores
from gdm_repr.analysis.factors.labels import Factor, read_factor
from gdm_repr.analysis.factors.probes import PROBES, fold_of, out_of_fold, over_frequency, ridge

N = 600
FOLD = fold_of(N, 5, seed=0)


def table(columns: int = 4) -> NDArray[np.float64]:
    return np.random.default_rng(0).normal(size=(N, columns))


def noise() -> NDArray[np.float64]:
    return np.random.default_rng(1).normal(size=N)


def score(x: NDArray[np.float64], *factors: Factor, probe: str = "linear") -> list[ProbeScore]:
    return probe_scores(PROBES[probe], [x] * 5, factors, FOLD, permutations=9, resamples=60, seed=0)


@pytest.mark.parametrize("probe", ["linear", "kernel"])
def test_r2_of_a_linear_factor_is_the_known_one(probe: str) -> None:
    x = table()
    (found,) = score(x, read_factor("f", x[:, 0] + 0.5 * noise()), probe=probe)
    known = 1 / (1 + 0.25)
    assert found.value == pytest.approx(known, abs=0.04)
    assert found.estimate.low < known < found.estimate.high
    assert found.found
    assert found.p_value == 0.1  # the least that nine permutations can tell


@pytest.mark.parametrize("columns", [5, 60])  # fewer than images, and more
def test_ridge_has_the_penalty_of_least_generalised_error(columns: int) -> None:
    rng = np.random.default_rng(3)
    x, other = rng.normal(2, 1, (40, columns)), rng.normal(2, 1, (7, columns))
    y = x[:, :2] * (1, 0) + rng.normal(1, 2, (40, 2))
    given, mean = x - x.mean(0), y.mean(0)
    expected = np.empty((7, 2))
    for target in range(2):
        errors, guesses = [], []
        for penalty in 40 * 10.0 ** np.arange(-4, 3):
            inverse = np.linalg.inv(given.T @ given + penalty * np.eye(columns)) @ given.T
            left = y[:, target] - mean[target] - given @ inverse @ y[:, target]
            errors.append((left**2).sum() / (39 - np.trace(given @ inverse)) ** 2)
            guesses.append(mean[target] + (other - x.mean(0)) @ inverse @ y[:, target])
        best = int(np.argmin(errors[-5:])) + 2  # the least penalties leave nothing to judge by
        expected[:, target] = guesses[best if columns > 40 else int(np.argmin(errors))]
    np.testing.assert_allclose(ridge(x, y, other), expected, atol=1e-8)


def test_ridge_of_columns_that_tell_nothing_is_the_mean() -> None:
    y = np.arange(10.0)[:, None]
    np.testing.assert_allclose(ridge(np.ones((10, 3)), y, np.ones((2, 3))), [[4.5], [4.5]])


@pytest.mark.parametrize("probe", ["kernel", "knn", "trees"])
def test_only_nonlinear_probes_find_what_is_not_linear(probe: str) -> None:
    x = table(2)
    factor = read_factor("f", np.where(x[:, 0] * x[:, 1] > 0, "same", "other"))
    assert not score(x, factor)[0].found
    found = score(x, factor, probe=probe)[0]
    assert found.found
    assert found.above_chance.value > 0.7


@pytest.mark.parametrize("probe", ["linear", "kernel", "knn"])
def test_chance_is_chance(probe: str) -> None:
    rng = np.random.default_rng(2)
    rare = read_factor("f", rng.choice(["a", "b", "c"], N, p=[0.8, 0.1, 0.1]))
    (found,) = score(table(3), rare, probe=probe)
    assert found.null_mean == pytest.approx(1 / 3, abs=0.05)
    assert found.value == pytest.approx(1 / 3, abs=0.08)
    assert found.classes
    assert found.above_chance.value == pytest.approx(0, abs=0.12)
    (amount,) = score(table(3), read_factor("f", noise()), probe=probe)
    assert amount.value < 0.05
    assert not amount.found


def test_scores_are_those_of_scikit_learn() -> None:
    x = table()
    probe = PROBES["linear"]
    angle = read_factor("angle", np.arctan2(x[:, 0], x[:, 1]) + 0.3 * noise(), period=2 * np.pi)
    guess = out_of_fold(probe, [x] * 5, angle.targets, FOLD, classes=False)
    spread = angle.targets.var(0)
    each = r2_score(angle.targets, guess, multioutput="raw_values")
    assert score(x, angle)[0].value == pytest.approx(float(np.average(each, weights=spread)))
    kind = read_factor("kind", np.digitize(x[:, 0], [-1, 0, 2]))
    guess = out_of_fold(probe, [x] * 5, kind.targets, FOLD, classes=True)
    chosen = over_frequency(guess, kind.targets, FOLD).argmax(1)
    known = balanced_accuracy_score(kind.targets.argmax(1), chosen)
    assert score(x, kind)[0].value == pytest.approx(known)


@pytest.mark.parametrize("probe", PROBES)
def test_an_image_s_prediction_does_not_know_its_label(probe: str) -> None:
    x, y = table(), noise()[:, None]
    first = out_of_fold(PROBES[probe], [x] * 5, y, FOLD, classes=False)
    changed = np.where((FOLD == 2)[:, None], 100.0, y)
    again = out_of_fold(PROBES[probe], [x] * 5, changed, FOLD, classes=False)
    np.testing.assert_allclose(again[FOLD == 2], first[FOLD == 2])
    assert np.abs(again - first)[FOLD != 2].max() > 1


def test_factors_together_get_what_each_gets_alone() -> None:
    x = table()
    factors = [read_factor("a", x[:, 0] + noise()), read_factor("b", x[:, 1] > 0)]
    for together, factor in zip(score(x, *factors), factors, strict=True):
        (alone,) = score(x, factor)
        np.testing.assert_allclose(together.draws, alone.draws, atol=1e-9)
        np.testing.assert_allclose(together.null, alone.null, atol=1e-9)


def test_differences_are_of_the_same_images() -> None:
    x = table()
    factor = read_factor("f", x[:, 0] + 0.5 * noise())
    (own,), (same,), (less,) = score(x, factor), score(x * 3 + 1, factor), score(x[:, 1:], factor)
    gap = own.minus(same)
    assert max(abs(gap.low), abs(gap.high)) < 1e-9
    assert own.minus(less).low > 0.6
    assert (own.differs(less), less.differs(own), less.differs(less)) == (1, -1, 0)


def test_missing_labels_leave_images_out() -> None:
    x = table()
    column = [None if i % 3 else float(v) for i, v in enumerate(x[:, 0])]
    (found,) = score(x, read_factor("f", column))
    assert found.n == N // 3
    assert found.value > 0.99


def test_the_first_bands_that_suffice() -> None:
    x = table()
    factor = read_factor("f", x[:, 1] + 0.1 * noise())
    prefixes = {str(stop): score(x[:, :stop], factor)[0] for stop in (1, 2, 4)}
    assert enough(prefixes) == "2"
    nothing = {"1": prefixes["1"]}
    assert enough(nothing) is None
