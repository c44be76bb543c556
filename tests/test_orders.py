"""Orders of generation: the search's cost and choice, and what the covariance predicts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gdm_repr.analysis.orders import (
    Floats,
    Order,
    covariance,
    predict,
    random_orders,
    rank_correlation,
    successive_halving,
)
from gdm_repr.grouping import build_grouping


def test_random_orders_are_different_and_seeded() -> None:
    orders = random_orders(5, 50, seed=3)
    assert len(set(orders)) == 50 and all(sorted(order) == [0, 1, 2, 3, 4] for order in orders)
    assert orders == random_orders(5, 50, seed=3) != random_orders(5, 50, seed=4)
    assert random_orders(3, 100, seed=0) == sorted(itertools.permutations(range(3)))


def drawing(k: int, spread: float = 1.0) -> tuple[list[tuple[Order, int, int]], object]:
    """Samples of an order lie as far from the real ones as its first group's number."""
    asked: list[tuple[Order, int, int]] = []

    def draw(order: Order, start: int, stop: int) -> Floats:
        asked.append((order, start, stop))
        rng = np.random.default_rng([5, start])
        return spread * rng.standard_normal((stop - start, 2)) + order[0]

    return asked, draw


def test_halving_finds_the_best_and_draws_each_sample_once() -> None:
    candidates = list(itertools.permutations(range(4)))[:16]
    asked, draw = drawing(4)
    real = np.random.default_rng(1).standard_normal((64, 2))
    found = successive_halving(candidates, draw, real, first=8, last=64)  # type: ignore[arg-type]
    assert found.order[0] == 0
    assert found.rounds == ((16, 8), (8, 16), (4, 32), (2, 64))
    assert found.samples == 16 * 8 + 8 * 8 + 4 * 16 + 2 * 32
    assert found.samples == sum(stop - start for _, start, stop in asked)
    assert len(set(asked)) == len(asked)


def test_halving_never_stops_short_of_all_samples() -> None:
    _, draw = drawing(2)
    real = np.random.default_rng(1).standard_normal((64, 2))
    found = successive_halving([(1, 0)], draw, real, first=5, last=12)  # type: ignore[arg-type]
    assert found.rounds == ((1, 5), (1, 10), (1, 12)) and found.samples == 12


@pytest.mark.parametrize(("candidates", "first"), [([], 4), ([(0,)], 1), ([(0,)], 9)])
def test_a_search_without_a_beginning_is_refused(candidates: list[Order], first: int) -> None:
    _, draw = drawing(1)
    with pytest.raises(ValueError, match="2 <= first <= last"):
        successive_halving(candidates, draw, np.zeros((4, 2)), first=first, last=8)  # type: ignore[arg-type]


def test_predictors_follow_the_chain_rule() -> None:
    """Unweighted, conditional entropies sum up to the same in every order; one group is closed."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 8)) @ rng.standard_normal((8, 8))
    S, grouping = covariance(x), build_grouping("blocks", (2, 2, 2), rows=2, cols=2)
    whole = 0.5 * float(np.linalg.slogdet(2 * np.pi * np.e * S)[1])
    single = predict(S, build_grouping("single", (2, 2, 2)), (0,))
    assert single.entropy == pytest.approx(whole)
    assert single.residual == pytest.approx(np.trace(S))
    forth = predict(S, grouping, (0, 1, 2, 3))
    back = predict(S, grouping, (3, 2, 1, 0))
    assert forth != back
    # independent groups: nothing is learned from those before
    D = np.diag(np.arange(1.0, 9.0))
    residuals = {predict(D, grouping, o).residual for o in itertools.permutations(range(4))}
    assert np.ptp(list(residuals)) < 1e-12 and max(residuals) == pytest.approx(36)
    # k times the first, k - 1 times the second, ..: the area under the entropies so far
    entropies = [0.5 * np.log(2 * np.pi * np.e * D[j, j] * 2 * np.pi * np.e * D[j + 4, j + 4])
                 for j in range(4)]  # fmt: skip
    area = np.cumsum(entropies).sum()
    assert predict(D, grouping, (0, 1, 2, 3)).entropy == pytest.approx(area)


def test_rank_correlation_covers() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(80)
    found = rank_correlation(x.tolist(), (x + 0.5 * rng.standard_normal(80)).tolist())
    assert 0.7 < found.low < found.value < found.high <= 1
    none = rank_correlation(x.tolist(), rng.standard_normal(80).tolist())
    assert none.low < 0 < none.high
