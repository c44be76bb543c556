"""Disentanglement scores: known extremes, closed forms, invariances, missing labels, refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import mutual_info_score

from gdm_repr.analysis.disentanglement.estimate import LatentScore
from gdm_repr.analysis.disentanglement.importance import completeness, disentanglement
from gdm_repr.analysis.disentanglement.information import (
    Values,
    factor_entropy,
    modularity,
    mutual_information,
)
from gdm_repr.analysis.disentanglement.input import Factors, Settings, read_factors
from gdm_repr.analysis.disentanglement.interventional import SHARED, _Sharing
from gdm_repr.analysis.disentanglement.scores import SCORES, score, scores, udr_scores
from gdm_repr.analysis.disentanglement.unsupervised import relative_strength, udr
from gdm_repr.analysis.intervals.estimate import Floats

N = 600
QUICK = Settings(votes=200, test_votes=200, trees=5)
SUPERVISED = [name for name, method in SCORES.items() if method.factors]
UNSUPERVISED = [name for name, method in SCORES.items() if not method.factors]


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def compute(name: str, z: Floats, factors: Factors, settings: Settings = QUICK) -> Values:
    return SCORES[name].compute(z, factors, settings, rng(0))


@pytest.fixture(scope="module")
def world() -> tuple[Floats, Factors]:
    """Three independent factors of three classes, and the code that is them."""
    v = rng(1).integers(0, 3, (N, 3))
    return v.astype(float), read_factors(v)


# What a perfect code gets. SAP compares with the second latent, which gets what chance does; the
# nominal classes of linear DCI are not linear in their number (test_linear_dci_of_amounts).
PERFECT = {
    "dci_boosted_disentanglement": 1.0,
    "dci_boosted_completeness": 1.0,
    "dci_boosted_informativeness": 1.0,
    "dci_forest_disentanglement": 1.0,
    "dci_forest_completeness": 1.0,
    "dci_forest_informativeness": 1.0,
    "mig": 1.0,
    "explicitness": 1.0,
    "modularity": 1.0,
    "factor_vae": 1.0,
    "beta_vae": 1.0,
    "irs": 1.0,
}


@pytest.mark.parametrize("name", SUPERVISED)
def test_perfect_code_gets_the_best_score(name: str, world: tuple[Floats, Factors]) -> None:
    found = compute(name, *world)
    expected = {key: value for key, value in PERFECT.items() if key in found}
    # chance makes factors of 600 images share some nats: 2 * 2 / (2 * 600)
    assert {key: found[key] for key in expected} == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("name", SUPERVISED)
def test_noise_scores_as_its_null(name: str, world: tuple[Floats, Factors]) -> None:
    noise = rng(2).standard_normal((N, 4))
    for found in score(name, noise, world[1], settings=QUICK, permutations=9, resamples=5):
        assert found.value == pytest.approx(found.null_mean, abs=0.15), found
        assert found.low < found.null_high, found


@pytest.mark.parametrize("name", SUPERVISED)
def test_perfect_code_is_above_its_null(name: str, world: tuple[Floats, Factors]) -> None:
    z, factors = world
    if name == "dci_linear":  # classes are not linear in their number
        factors = read_factors(z, continuous=factors.names)
    for found in score(name, z, factors, settings=QUICK, permutations=9, resamples=5):
        assert found.p == 0.1
        assert found.low > found.null_high, found


@pytest.mark.parametrize("name", SUPERVISED)
def test_noise_on_a_perfect_code_lowers_it(name: str, world: tuple[Floats, Factors]) -> None:
    v, factors = world
    noise = rng(3).standard_normal(v.shape)
    levels = [compute(name, v + level * noise, factors) for level in (0.3, 1.5, 50.0)]
    for key in levels[0]:
        first, middle, last = (level[key] for level in levels)
        assert first >= middle > last or first > middle >= last, key


@pytest.mark.parametrize("name", ["dci_linear", "mig", "sap", "irs", *UNSUPERVISED])
def test_order_of_latents_does_not_matter(name: str, world: tuple[Floats, Factors]) -> None:
    z = world[0] @ rng(4).standard_normal((3, 5)) + rng(5).standard_normal((N, 5))
    order = [3, 0, 4, 1, 2]
    assert compute(name, z[:, order], world[1]) == pytest.approx(compute(name, z, world[1]))


SCALE_FREE = ["dci_linear", "dci_boosted", "mig", "modularity_explicitness", "factor_vae"]


@pytest.mark.parametrize("name", [*SCALE_FREE, "gaussian_tc", "mutual_information"])
def test_scale_of_latents_does_not_matter(name: str, world: tuple[Floats, Factors]) -> None:
    z = world[0] + rng(5).standard_normal(world[0].shape)
    scaled = z * [0.5, 4.0, 16.0]  # powers of 2, by which rounding stays the same
    assert compute(name, scaled, world[1]) == pytest.approx(compute(name, z, world[1]))


def test_disentanglement_of_an_importance_matrix() -> None:
    assert disentanglement(np.eye(3)) == pytest.approx(1)
    assert completeness(np.eye(3)) == pytest.approx(1)
    assert disentanglement(np.ones((3, 4))) == pytest.approx(0)
    assert disentanglement(np.zeros((3, 4))) == 0
    halves = np.array([[1.0, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 0]])  # of 2 in 4 factors: 1 bit of 2
    assert disentanglement(halves) == pytest.approx((0.5 * 2 + 1 * 2) / 4)
    assert completeness(halves) == pytest.approx(1)  # a latent of no importance takes nothing


def test_linear_dci_of_amounts() -> None:
    v = rng(6).uniform(size=(N, 3))
    factors = read_factors(v)
    assert factors.kinds == ("continuous",) * 3
    found = compute("dci_linear", v * [1, -20, 0.1], factors)
    # the lasso shrinks the one coefficient by the penalty: R^2 = 1 - penalty^2
    assert found["dci_linear_informativeness"] == pytest.approx(1 - QUICK.penalty**2, abs=1e-4)
    assert found["dci_linear_disentanglement"] == pytest.approx(1)
    assert found["dci_linear_completeness"] == pytest.approx(1)


def test_linear_dci_reads_an_angle_from_cosine_and_sine() -> None:
    angle = rng(7).uniform(0, 360, N)
    radians = np.deg2rad(angle)
    z = np.stack([np.cos(radians), np.sin(radians), rng(8).standard_normal(N)], axis=1)
    circular = read_factors({"angle": angle}, circular={"angle": 360.0})
    line = read_factors({"angle": angle})
    key = "dci_linear_informativeness"
    assert compute("dci_linear", z, circular)[key] > 0.99
    assert compute("dci_linear", z, line)[key] < 0.8


def test_mutual_information_is_that_of_the_library() -> None:
    codes, other = rng(9).integers(0, 7, (200, 3)), rng(10).integers(0, 4, 200)
    expected = [mutual_info_score(column, other) for column in codes.T]
    assert mutual_information(codes, other) == pytest.approx(expected)


def test_mutual_information_of_itself_and_of_crossed_factors() -> None:
    a, b = np.divmod(np.arange(12), 4)
    assert mutual_information(np.stack([a, b], axis=1), a) == pytest.approx([math.log(3), 0])
    assert factor_entropy(b) == pytest.approx(math.log(4))


def test_mig_where_two_latents_share_a_factor() -> None:
    a, b = np.divmod(np.arange(240) % 12, 4)
    factors = read_factors({"a": a, "b": b})
    z = np.stack([a, b, b], axis=1).astype(float)
    assert compute("mig", z, factors)["mig"] == pytest.approx(0.5)  # 1 for a, 0 for b


def test_modularity_counts_the_other_factors() -> None:
    assert modularity(np.array([[1.0, 0, 0], [0, 2, 0]])) == 1
    assert modularity(np.ones((4, 3))) == 0
    assert modularity(np.array([[2.0, 1, 0], [0, 0, 0]])) == pytest.approx((1 - 1 / 8) / 2)


def test_factor_vae_of_latents_that_mix_two_factors() -> None:
    """No latent stays put for one factor alone, so votes say which pair, at best."""
    v = rng(11).integers(0, 3, (N, 4)).astype(float)
    factors = read_factors(v)
    mixed = np.stack([v[:, 0] + 3 * v[:, 1], v[:, 2] + 3 * v[:, 3]], axis=1)
    assert compute("factor_vae", mixed, factors)["factor_vae"] < 0.75
    assert compute("factor_vae", np.zeros((N, 2)), factors)["factor_vae"] == 0


def test_factor_vae_ignores_latents_that_hardly_vary(world: tuple[Floats, Factors]) -> None:
    v, factors = world
    z = np.concatenate([v, 1e-3 * rng(12).standard_normal((N, 1))], axis=1)
    assert compute("factor_vae", z, factors) == compute("factor_vae", v, factors)


def test_images_that_share_a_factor_are_drawn() -> None:
    codes = rng(13).integers(-1, 3, (200, 2))
    codes[: SHARED - 1, 1] = 7  # too few to be fixed
    factors = Factors(("a", "b"), ("discrete", "discrete"), codes, codes.astype(float))
    sharing = _Sharing(factors)
    for j in range(2):
        anchors = sharing.anchors(j, (300,), rng(14))
        assert set(codes[anchors, j].tolist()) == {0, 1, 2}
        assert (
            codes[sharing.sharing(j, anchors, 5, rng(15)), j] == codes[anchors, [j]][:, None]
        ).all()
        partners = sharing.partners(j, anchors, rng(16))
        assert (codes[partners, j] == codes[anchors, j]).all()
        assert (partners != anchors).all()
        few = np.repeat(np.flatnonzero(codes[:, 0] == 1)[:1], 5000)
        drawn, counts = np.unique(sharing.partners(0, few, rng(17)), return_counts=True)
        assert len(drawn) == (codes[:, 0] == 1).sum() - 1
        assert stats.chisquare(counts).pvalue > 1e-3


def uncorrelated(z: Floats) -> Floats:
    """Return columns of mean 0, length 1 and correlation exactly 0."""
    columns: Floats = np.linalg.qr(z - z.mean(0))[0]
    return columns


def pair(r: float) -> Floats:
    """Return samples of exactly unit variance and correlation r."""
    white = uncorrelated(rng(18).standard_normal((N, 2))) * math.sqrt(N - 1)
    return np.stack([white[:, 0], r * white[:, 0] + math.sqrt(1 - r * r) * white[:, 1]], axis=1)


def test_unsupervised_scores_of_a_gaussian_pair(world: tuple[Floats, Factors]) -> None:
    z = pair(0.6)
    assert compute("gaussian_tc", z, world[1])["gaussian_tc"] == pytest.approx(-math.log(0.8))
    found = compute("wasserstein", 3 * z, world[1])
    distance = 4 - 2 * (math.sqrt(1.6) + math.sqrt(0.4))
    assert found["wasserstein"] == pytest.approx(9 * distance)
    assert found["wasserstein_normalised"] == pytest.approx(distance / 2)
    repeated = z[:, [0, 1, 0]]
    assert compute("gaussian_tc", repeated, world[1])["gaussian_tc"] == math.inf
    [found_tc] = score("gaussian_tc", repeated, permutations=1, resamples=5)
    assert (found_tc.value, found_tc.low, found_tc.best) == (math.inf, math.inf, "low")


def test_relative_strength_of_a_match_and_of_none() -> None:
    assert relative_strength(np.eye(3)[[2, 0, 1]]) == 1
    assert relative_strength(np.full((4, 4), 0.5)) == pytest.approx(0.5 / 4)
    assert relative_strength(np.zeros((2, 3))) == 0


def test_udr_of_models_that_agree_up_to_order_and_sign() -> None:
    z = uncorrelated(rng(19).standard_normal((N, 4)))
    other = -2 * z[:, [1, 3, 0, 2]]
    assert udr([z, other, z]) == pytest.approx([0.9] * 3)  # the penalty .1 off each coefficient
    masks = [np.array([1, 1, 1, 0], bool), np.array([1, 0, 1, 1], bool)]
    assert udr([z, other], active=masks) == pytest.approx([0.9] * 2)
    x = rng(20).standard_normal((N, 3))
    agreeing = udr([x, np.exp(-x[:, ::-1])], similarity="spearman")
    assert (agreeing > 0.85).all()
    found = udr_scores({"a": x, "b": x[::-1]}, permutations=9, resamples=5)
    assert [each.name for each in found] == ["udr_lasso a", "udr_lasso b", "udr_lasso"]
    assert found[2].p > 0.1
    assert udr_scores({"a": x, "b": x}, permutations=9, resamples=5)[2].p == 0.1


def test_an_image_without_a_factor_is_left_out_for_that_factor_only() -> None:
    v = rng(21).integers(0, 3, (N, 2))
    z = v + 0.5 * rng(22).standard_normal((N, 2))
    absent = rng(23).random(N) < 0.4
    absent[np.concatenate([z.argmin(0), z.argmax(0)])] = False  # or the bins would differ
    holes = np.where(absent, np.nan, v[:, 1])
    whole, some = read_factors(v), read_factors({"a": v[:, 0], "b": holes})
    left = np.flatnonzero(~absent)
    first = compute("mig", z, read_factors({"a": v[:, 0]}))["mig"]
    second = compute("mig", z[left], read_factors({"b": v[left, 1]}))["mig"]
    assert compute("mig", z, some)["mig"] == pytest.approx((first + second) / 2)
    for name in SUPERVISED:
        kept, lost = compute(name, z, whole), compute(name, z, some)
        assert lost == pytest.approx(kept, abs=0.15), name
    [found, _] = score("mig", z, some, permutations=1, resamples=5)
    assert found.complete == pytest.approx(len(left) / N)


def test_missing_labels_may_hold_anything() -> None:
    v = rng(24).integers(0, 3, (N, 2))
    absent = rng(25).random(N) < 0.3
    coded = np.where(absent, -1, v[:, 1])
    texts = [None if gone else f"class {x}" for gone, x in zip(absent, v[:, 1], strict=True)]
    a = read_factors({"a": v[:, 0], "b": coded}, missing=(-1,))
    b = read_factors({"a": v[:, 0], "b": texts})
    z = rng(26).standard_normal((N, 3))
    for name in ("mig", "dci_forest", "factor_vae", "irs", "sap"):
        assert compute(name, z, a) == compute(name, z, b)


def test_seed_alone_decides(world: tuple[Floats, Factors]) -> None:
    z = world[0] + rng(27).standard_normal(world[0].shape)

    def run(seed: int, images: int) -> tuple[LatentScore, ...]:
        settings = replace(QUICK, train=images, test=images // 2)
        return score("factor_vae", z, world[1], settings=settings, resamples=5, seed=seed)

    assert run(1, 200) == run(1, 200)
    assert run(1, 200) != run(2, 200)
    assert run(1, 200)[0].n == 300
    assert run(1, 2000)[0].n == N


def test_interval_holds_the_expected_score() -> None:
    """Of 60 sets of images, 95 % should: 49 or fewer have a chance of 1e-4."""

    def draw(seed: int) -> tuple[Floats, Factors]:
        v = rng(28, seed).integers(0, 4, (300, 2))
        return v + 0.5 * rng(29, seed).standard_normal((300, 2)), read_factors(v)

    found = [score("mig", *draw(i), permutations=1, resamples=12)[0] for i in range(60)]
    truth = np.mean([each.value for each in found])
    assert sum(each.low < truth < each.high for each in found) >= 50


def test_null_is_exact_for_unrelated_latents() -> None:
    """p <= .1 in a tenth of 80 sets; more than 17 have a chance of 1e-3."""
    v = rng(30).integers(0, 4, (200, 2))
    factors = read_factors(v)
    noise = [rng(31, i).standard_normal((200, 3)) for i in range(80)]
    p = [
        score("mig", z, factors, permutations=9, resamples=5, seed=i)[0].p
        for i, z in enumerate(noise)
    ]
    assert sum(each <= 0.1 for each in p) <= 17


def test_all_scores_that_fit_are_given() -> None:
    v = rng(32).integers(0, 3, (120, 1))
    z = rng(33).standard_normal((120, 2))
    few = partial(scores, settings=QUICK, permutations=1, resamples=5)
    names = {found.name for found in few(z, read_factors(v))}
    assert {"mig", "explicitness", "irs", "gaussian_tc", "dci_linear_completeness"} <= names
    assert not names & {"factor_vae", "modularity", "dci_linear_disentanglement"}
    assert {found.name for found in few(z)} >= {"gaussian_tc", "wasserstein"}
    one = few(z[:, :1], read_factors(v), ["dci_forest"])
    assert [found.name for found in one] == ["dci_forest_informativeness"]
    assert one[0].code_length == 1


Refused = Callable[[Floats, Factors], object]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z, f: score("dci", z, f), "name: 'dci' is unknown"),
        (lambda z, f: score("mig", z[:, :1], f), "z: 1 latents"),
        (lambda z, f: score("mig", z), "factors: 0 given"),
        (lambda z, f: score("mig", z[:100], f), "factors: of 600 images, but z of 100"),
        (lambda z, f: score("mig", z[0], f), "z: shape"),
        (lambda z, f: score("mig", z * np.inf, f), "not finite"),
        (lambda z, f: score("mig", z, f, permutations=0), "permutations: 0"),
        (lambda z, f: score("mig", z, f, resamples=1), "resamples: 1"),
        (lambda z, f: udr_scores({"a": z}), "models: "),
        (lambda z, f: udr([z, z[1:]]), "models: "),
        (lambda z, f: udr([z, z], similarity="cosine"), "similarity: 'cosine'"),
        (lambda z, f: Settings(bins=1), "bins=1"),
        (lambda z, f: Settings(quantile=99), "quantile=99"),
        (lambda z, f: Settings(penalty=0), "penalty=0"),
    ],
)
def test_refuses(call: Refused, message: str, world: tuple[Floats, Factors]) -> None:
    z = np.where(np.isfinite(world[0]), world[0] + 1, 0)
    with pytest.raises(ValueError, match=message):
        call(z, world[1])
