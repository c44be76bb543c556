"""Total correlation: closed forms, numerical integrals, exact tests, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from gdm_repr.analysis.intervals.estimate import Floats
from gdm_repr.analysis.total_correlation.estimate import (
    TotalCorrelationEstimate,
    element_normality,
    total_correlation,
)
from gdm_repr.analysis.total_correlation.estimators import (
    ESTIMATORS,
    classifier,
    gaussian,
    nearest_neighbour,
    normal_scores,
    permuted,
    wishart_bias,
)

Draw = Callable[[int, np.random.Generator], Floats]


def equal(d: int, r: float) -> Floats:
    return (1 - r) * np.eye(d) + r


def chain(d: int, r: float) -> Floats:
    """AR(1): TC = -(d - 1) / 2 log(1 - r^2)."""
    lag = abs(np.subtract.outer(np.arange(d), np.arange(d)))
    R: Floats = np.exp(np.log(r) * lag)
    return R


def singles(d: int) -> list[npt.NDArray[np.int64]]:
    return list(np.arange(d)[:, None])


@dataclass(frozen=True)
class Case:
    """Data of known total correlation `truth`, between `blocks` or all columns."""

    name: str
    n: int
    draw: Draw
    truth: float
    blocks: list[range] | None = None


def normal(name: str, n: int, R: Floats, blocks: list[range] | None = None) -> Case:
    def logdet(rows: range) -> float:
        return float(np.linalg.slogdet(R[np.ix_(rows, rows)])[1])

    inside = sum(logdet(block) for block in blocks) if blocks else 0.0
    truth = 0.5 * (inside - logdet(range(len(R))))
    root = np.linalg.cholesky(R)

    def draw(n: int, rng: np.random.Generator) -> Floats:
        return rng.standard_normal((n, len(R))) @ root.T

    return Case(name, n, draw, truth, blocks)


def warped(case: Case) -> Case:
    """Monotone maps of columns leave TC as it is."""
    maps = (np.exp, lambda x: x**3, np.tanh)

    def draw(n: int, rng: np.random.Generator) -> Floats:
        return np.stack([maps[j % 3](x) for j, x in enumerate(case.draw(n, rng).T)], axis=1)

    return Case(f"warped-{case.name}", case.n, draw, case.truth, case.blocks)


def mixture(name: str, n: int, pairs: int, r: float, m: float) -> Case:
    """Independent pairs, each half N((m, m), R(r)) and half N((-m, -m), R(-r)).

    TC of a pair is integrated on a grid, by which the integral is exact to rounding.
    """
    x = np.linspace(-9 - m, 9 + m, 1201)
    grid = np.stack(np.meshgrid(x, x), axis=-1)
    p = sum(
        stats.multivariate_normal([s * m, s * m], [[1, s * r], [s * r, 1]]).pdf(grid) / 2
        for s in (1, -1)
    )
    q = (stats.norm.pdf(x, m) + stats.norm.pdf(x, -m)) / 2
    support = p > 1e-200
    ratio = np.log(p[support] / np.outer(q, q)[support])
    truth = pairs * float((p[support] * ratio).sum()) * (x[1] - x[0]) ** 2

    def draw(n: int, rng: np.random.Generator) -> Floats:
        s = rng.choice([-1.0, 1.0], (n, pairs))
        a, b = rng.standard_normal((2, n, pairs))
        both = np.stack([a + s * m, s * r * a + np.sqrt(1 - r * r) * b + s * m], axis=-1)
        return both.reshape(n, 2 * pairs)

    return Case(name, n, draw, truth)


BANDS = [range(0, 2), range(2, 8), range(8, 20)]
GAUSSIANS = [
    normal("pair", 500, equal(2, 0.5)),
    normal("tight-pair", 2000, equal(2, 0.9)),
    normal("five", 2000, equal(5, 0.6)),
    normal("chain-10", 1000, chain(10, 0.7)),
    normal("independent-30", 500, np.eye(30)),
    normal("bands-20", 1500, equal(20, 0.3), BANDS),
    normal("chain-64", 1797, chain(64, 0.5)),
    normal("weak-90", 5000, equal(90, 0.02)),
    normal("chain-90", 20000, chain(90, 0.3)),
    normal("many-pairs", 20000, equal(2, 0.3)),
    normal("short-90", 500, chain(90, 0.4)),
    normal("bands-90", 2000, chain(90, 0.6), [range(0, 6), range(6, 28), range(28, 90)]),
]
FEW_COLUMNS = [
    normal("three", 1000, chain(3, 0.7)),
    normal("four", 3000, equal(4, 0.4)),
    normal("six", 4000, chain(6, 0.5)),
]
MIXTURES = [
    mixture("cross", 1000, 1, 0.8, 0.0),
    mixture("clusters", 500, 1, 0.0, 1.5),
    mixture("both", 2000, 1, 0.6, 1.0),
    mixture("two-crosses", 2000, 2, 0.8, 0.0),
    mixture("two-clusters", 2000, 2, 0.3, 1.5),
    mixture("far", 5000, 1, 0.5, 2.5),
]
LOW_PAIR = normal("between-pairs", 2000, chain(4, 0.6), [range(0, 2), range(2, 4)])


def ids(case: Case) -> str:
    return case.name


def estimate(
    case: Case, estimator: str, seed: int = 0, **settings: int
) -> TotalCorrelationEstimate:
    z = case.draw(case.n, np.random.default_rng([seed, case.n]))
    settings = {"permutations": 19, "resamples": 20} | settings
    return total_correlation(z, estimator=estimator, blocks=case.blocks, seed=seed, **settings)


@pytest.mark.parametrize("case", GAUSSIANS, ids=ids)
def test_gaussian_holds_the_closed_form(case: Case) -> None:
    tc = estimate(case, "gaussian")
    assert tc.low < case.truth < tc.high
    assert (tc.p_value == 0.05) == (case.truth > 0)
    assert abs(tc.null_mean) < 0.1 * max(tc.bias, 0.02)  # the closed form of the bias is right


@pytest.mark.parametrize(
    "case",
    [warped(case) for case in [*GAUSSIANS[:8], *GAUSSIANS[9:], *FEW_COLUMNS[:2]]],  # 13
    ids=ids,
)
def test_copula_does_not_see_the_marginals(case: Case) -> None:
    tc = estimate(case, "copula")
    assert tc.low < case.truth < tc.high


@pytest.mark.parametrize(
    "case", [*GAUSSIANS[:3], warped(GAUSSIANS[0]), *FEW_COLUMNS, *MIXTURES], ids=ids
)
def test_nearest_neighbour_holds_the_truth_in_few_dimensions(case: Case) -> None:
    tc = estimate(case, "knn", resamples=40)
    assert tc.low < case.truth < tc.high
    assert tc.p_value == 0.05
    assert tc.high - tc.low < 0.25 + 0.5 * case.truth  # and says something


def test_nearest_neighbour_compares_blocks() -> None:
    """Its interval held the truth in 96 of 100 draws, and in this one."""
    tc = estimate(LOW_PAIR, "knn", seed=1)
    assert tc.low < LOW_PAIR.truth < tc.high


@pytest.mark.parametrize("case", [*GAUSSIANS[2:4], MIXTURES[0], MIXTURES[3]], ids=ids)
def test_classifier_bounds_the_truth_from_below(case: Case) -> None:
    rng = np.random.default_rng(0)
    scores = normal_scores(case.draw(case.n, rng), rng)
    bound = classifier(scores, singles(scores.shape[1]), rng)
    assert 0.4 * case.truth < bound < case.truth + 0.05


@pytest.mark.parametrize(
    "case",
    [*GAUSSIANS[:2], *GAUSSIANS[4:7], *GAUSSIANS[9:], *MIXTURES[1:3], *MIXTURES[4:]],
    ids=ids,
)
def test_classifier_finds_some_of_it_anywhere(case: Case) -> None:
    """With those above 15 cases, 2 to 90 columns; benchmarks/correlation.py has their intervals."""
    rng = np.random.default_rng(0)
    scores = normal_scores(case.draw(case.n, rng), rng)
    blocks = singles(scores.shape[1]) if case.blocks is None else list(map(np.array, case.blocks))
    assert 0.2 * case.truth - 0.02 < classifier(scores, blocks, rng) < case.truth + 0.02


def test_classifier_has_its_interval_and_null() -> None:
    case = mixture("", 400, 1, 0.6, 1.0)
    tc = estimate(case, "classifier", resamples=10)
    assert tc.low < case.truth
    assert tc.p_value == 0.05
    assert tc.null_mean <= tc.null_high < tc.value
    assert np.isnan(tc.independent)


@pytest.mark.parametrize("case", MIXTURES, ids=ids)
def test_copula_is_a_lower_bound(case: Case) -> None:
    assert estimate(case, "copula").low < case.truth
    if case.name in ("cross", "two-crosses"):  # uncorrelated, but not independent
        assert estimate(case, "copula").high < 0.1 < case.truth


@pytest.mark.parametrize("name", ["gaussian", "copula"])
def test_the_test_keeps_its_level(name: str) -> None:
    p = [
        total_correlation(
            np.random.default_rng(seed).standard_normal((70, 3)) ** 3,
            estimator=name,
            permutations=19,
            resamples=10,
            seed=seed,
        ).p_value
        for seed in range(400)
    ]
    assert 0.03 <= np.mean(np.array(p) <= 0.05) <= 0.07


def test_the_neighbours_test_keeps_its_level() -> None:
    """The classifier's is measured by benchmarks/correlation.py, which takes minutes."""
    p = [
        total_correlation(
            np.random.default_rng(seed).standard_normal((200, 2)),
            estimator="knn",
            permutations=19,
            resamples=10,
            seed=seed,
        ).p_value
        for seed in range(400)
    ]
    assert 0.03 <= np.mean(np.array(p) <= 0.05) <= 0.07


@pytest.mark.parametrize("name", ["knn", "classifier"])
def test_permuted_samples_are_like_independent_ones(name: str) -> None:
    """So the permutation test of a costly estimator is exact: one draw of each, many times."""
    rng, blocks, n = np.random.default_rng(0), singles(2), 320
    root = np.linalg.cholesky(equal(2, 0.8)).T
    dependent = normal_scores(rng.standard_normal((n, 2)) @ root, rng)
    raw = ESTIMATORS[name].raw
    null = [raw(permuted(dependent, blocks, rng), blocks, rng) for _ in range(20)]
    fresh = [raw(normal_scores(rng.standard_normal((n, 2)), rng), blocks, rng) for _ in range(20)]
    assert stats.ks_2samp(null, fresh).pvalue > 0.01


@pytest.mark.parametrize("R", [equal(4, 0.5), np.eye(4)], ids=["dependent", "independent"])
def test_intervals_cover(R: Floats) -> None:
    case = normal("", 400, R)
    found = [estimate(case, "gaussian", seed, resamples=40) for seed in range(100)]
    assert sum(tc.low < case.truth < tc.high for tc in found) >= 90  # binomial(100, .95): 98 %


def test_the_bias_is_the_wishart_matrix_s() -> None:
    rng, n, sizes = np.random.default_rng(0), 60, (1, 2, 5)
    blocks = np.split(np.arange(8), np.cumsum(sizes)[:-1])
    root = np.linalg.cholesky(chain(8, 0.8)).T
    raw = [gaussian(rng.standard_normal((n, 8)) @ root, blocks, rng) for _ in range(2000)]
    truth = normal("", n, chain(8, 0.8), [range(b[0], b[-1] + 1) for b in blocks]).truth
    error = np.std(raw) / np.sqrt(len(raw))
    assert np.mean(raw) - truth == pytest.approx(wishart_bias(n, sizes), abs=3 * error)
    assert wishart_bias(10_000, [1] * 90) == pytest.approx(90 * 89 / 4 / 10_000, rel=0.02)


def test_neighbours_of_independent_columns_give_zero() -> None:
    rng = np.random.default_rng(0)
    for d in (2, 5):
        raw = [nearest_neighbour(rng.random((300, d)), singles(d), rng) for _ in range(60)]
        assert abs(np.mean(raw)) < 3 * np.std(raw) / np.sqrt(60)


@pytest.mark.parametrize("name", ["gaussian", "copula", "knn"])
def test_scale_shift_order_and_other_columns_do_not_matter(name: str) -> None:
    rng = np.random.default_rng(0)
    z = GAUSSIANS[1].draw(400, rng)
    wide = np.column_stack([rng.standard_normal(400), 5 - 3 * z[:, 1], z[:, 0]])
    one = total_correlation(z, estimator=name, permutations=19, resamples=10)
    other = total_correlation(
        wide, estimator=name, blocks=[[2], [1]], permutations=19, resamples=10
    )
    assert (other.d, other.blocks) == (2, 2)
    assert other.value == pytest.approx(one.value, abs=1e-9 if name != "knn" else 0.03)


def test_within_and_between_bands_add_up() -> None:
    z = GAUSSIANS[5].draw(1500, np.random.default_rng(0))
    parts = [total_correlation(z, blocks=BANDS, permutations=19, resamples=10)] + [
        total_correlation(z[:, list(band)], permutations=19, resamples=10) for band in BANDS
    ]
    whole = total_correlation(z, permutations=19, resamples=10)
    assert sum(tc.value for tc in parts) == pytest.approx(whole.value, abs=1e-9)
    assert sum(tc.bias for tc in parts) == pytest.approx(whole.bias, abs=1e-9)


@pytest.mark.parametrize("name", ["gaussian", "copula", "knn"])
def test_the_seed_fixes_every_number(name: str) -> None:
    case = mixture("", 350, 1, 0.8, 0.0)
    few = {"permutations": 19, "resamples": 10}
    first = asdict(estimate(case, name, 3, **few))
    assert first == asdict(estimate(case, name, 3, **few))
    more = asdict(estimate(case, name, 3, permutations=19, resamples=12))
    assert [more[k] for k in ("value", "p_value")] == [first[k] for k in ("value", "p_value")]


def test_the_generator_fixes_the_classifier() -> None:
    z = MIXTURES[0].draw(400, np.random.default_rng(0))
    first, again = (classifier(z, singles(2), np.random.default_rng(1)) for _ in range(2))
    assert first == again


def test_half_precision_ties_are_no_dependence() -> None:
    z = np.random.default_rng(0).standard_normal((2000, 2)).astype(np.float16)
    coarse = np.round(z * 4) / 4  # 25 levels
    tc = total_correlation(coarse, estimator="knn", permutations=99, resamples=10)
    assert tc.p_value > 0.05
    assert tc.low < 0 < tc.high


@pytest.mark.parametrize(
    ("name", "d", "needed"),
    [("gaussian", 90, 410), ("copula", 2, 58), ("knn", 5, 1600), ("classifier", 64, 940)],
)
def test_too_few_samples_are_refused(name: str, d: int, needed: int) -> None:
    z = np.random.default_rng(0).standard_normal((needed - 1, d))
    with pytest.raises(ValueError, match=rf"z: {needed - 1} samples .* at least {needed}\. Encode"):
        total_correlation(z, estimator=name)


def test_wrong_arguments_are_refused() -> None:
    z = np.random.default_rng(0).standard_normal((100, 3))
    bad = z.copy()
    bad[0, 0] = np.nan
    for match, data, settings in [
        ("estimator: 'mine' is unknown; use one of gaussian, copula", z, {"estimator": "mine"}),
        ("permutations: 5 is too few; use at least 19", z, {"permutations": 5}),
        ("resamples: 5 is too few; use at least 10", z, {"resamples": 5}),
        ("z: 1 values are not finite", bad, {}),
        (r"z: shape \(100,\) must be", z[:, 0], {}),
        ("blocks: 1 given; needed are two or more", z[:, :1], {}),
        ("blocks: 2 given; .* none of them empty", z, {"blocks": [[0], []]}),
        ("must name each column at most once", z, {"blocks": [[0, 1], [1, 2]]}),
        (r"lie in 0..2", z, {"blocks": [[0], [3]]}),
        (r"columns \[1\] are constant", z * [1, 0, 1], {}),
        ("linear function of others", np.column_stack([z, z[:, 0] + z[:, 1]]), {}),
    ]:
        with pytest.raises(ValueError, match=match):
            total_correlation(data, **settings)  # type: ignore[arg-type]


def test_normality_finds_the_columns_that_are_not() -> None:
    z = np.random.default_rng(0).standard_normal((2000, 40))
    z[:, 3] *= 1.3
    z[:, 7] = np.random.default_rng(1).laplace(scale=0.7, size=2000)
    found = element_normality(z)
    assert found.rejected[[3, 7]].all()
    assert found.rejected.sum() <= 3
    reference = stats.kstest(z[:, 5], "norm")
    assert (found.statistic[5], found.p[5]) == (reference.statistic, reference.pvalue)
    assert (found.q >= found.p).all()
    assert 0.85 <= (np.delete(found.statistic, [3, 7]) < found.null_high).mean() <= 1


def test_false_discoveries_are_rare() -> None:
    rng = np.random.default_rng(0)
    any_found = [element_normality(rng.standard_normal((50, 6))).rejected.any() for _ in range(100)]
    assert sum(any_found) <= 11  # 5 of 100 expected; more once in 200


def test_normality_refuses() -> None:
    with pytest.raises(ValueError, match="z: 7 samples are too few"):
        element_normality(np.zeros((7, 2)))
    with pytest.raises(ValueError, match="rate: 0 must lie between 0 and 1"):
        element_normality(np.zeros((10, 2)), rate=0)


@pytest.mark.parametrize("estimator", ["gaussian", "copula", "knn"])
def test_the_interval_holds_0_exactly_where_the_test_does_not_exclude_it(estimator: str) -> None:
    """Of independent and hardly dependent columns, where the two went different ways before."""
    rng, told = np.random.default_rng(5), []
    for trial in range(60 if estimator != "knn" else 12):
        r = 0.15 * (trial % 4)
        z = rng.standard_normal((200 if estimator != "knn" else 220, 2)) @ [[1, r], [0, 1]]
        tc = total_correlation(
            z, estimator=estimator, permutations=(19, 39, 99)[trial % 3], resamples=10, seed=trial
        )
        assert tc.low <= tc.value <= tc.high
        if tc.value > 0:
            assert (tc.low > 0) == (tc.p_value <= 0.05), tc
        else:
            assert tc.low <= 0
        told.append(tc.p_value <= 0.05)
    assert {*told} == {True, False}


def test_the_test_at_0_and_the_interval_hold_their_level_together() -> None:
    """Independent columns: 0 is outside of the interval in about one of twenty draws, no more."""
    rng, runs, outside = np.random.default_rng(6), 400, 0
    for trial in range(runs):
        tc = total_correlation(
            rng.standard_normal((100, 2)), permutations=19, resamples=10, seed=trial
        )
        outside += tc.low > 0
    assert outside / runs <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5
