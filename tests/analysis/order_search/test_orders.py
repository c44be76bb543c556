"""Orders of generation: the search's cost and choice, and what the covariance predicts."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from gdm_repr.analysis.intervals.estimate import Floats
from gdm_repr.analysis.order_search.orders import (
    Draw,
    Order,
    covariance,
    learned_search,
    places,
    predict,
    random_orders,
    rank_correlation,
    split_half,
)
from gdm_repr.grouping import build_grouping


def test_random_orders_are_different_and_seeded() -> None:
    orders = random_orders(5, 50, seed=3)
    assert len(set(orders)) == 50 and all(sorted(order) == [0, 1, 2, 3, 4] for order in orders)
    assert orders == random_orders(5, 50, seed=3) != random_orders(5, 50, seed=4)
    assert random_orders(3, 100, seed=0) == sorted(itertools.permutations(range(3)))


def drawing(noise: float) -> tuple[list[tuple[Order, int, int]], Draw]:
    """Samples lie the farther off the later group 0 comes, and the sooner group 3 does."""
    asked: list[tuple[Order, int, int]] = []

    def draw(order: Order, start: int, stop: int) -> Floats:
        asked.append((order, start, stop))
        rng = np.random.default_rng([5, start, *order])
        far = order.index(0) - 0.5 * order.index(3) + 3
        return rng.standard_normal((stop - start, 2)) + far + noise * rng.standard_normal()

    return asked, draw


def test_places_are_where_groups_are_generated() -> None:
    orders = random_orders(6, 20, seed=1)
    expected = [[order.index(group) for group in range(6)] for order in orders]
    assert places(orders).tolist() == expected


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_a_search_finds_an_order_that_it_has_not_tried(noise: float) -> None:
    asked, draw = drawing(noise)
    real = np.random.default_rng(1).standard_normal((64, 2))
    tried = [order for order in random_orders(6, 200, seed=2) if order[0] != 0][:60]
    found = learned_search(tried, draw, real, first=16, checked=5, last=64)
    assert found.order[0] == 0 and found.order.index(3) >= 4
    assert found.samples == 60 * 16 + 5 * 64 == sum(stop - start for _, start, stop in asked)


@pytest.mark.parametrize("wrong", [{"first": 1}, {"last": 1}, {"checked": 0}, {"tried": [(0, 1)]}])
def test_a_search_without_a_beginning_is_refused(wrong: dict[str, Any]) -> None:
    _, draw = drawing(0)
    given = {"tried": [(0, 1), (1, 0)], "first": 2, "checked": 1, "last": 2, **wrong}
    tried = given.pop("tried")
    with pytest.raises(ValueError, match="at least two orders"):
        learned_search(tried, draw, np.zeros((4, 2)), **given)


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


def test_two_halves_share_neither_images_nor_samples() -> None:
    rng = np.random.default_rng(0)
    real, samples = rng.standard_normal((20, 2)), rng.standard_normal((20, 2)) + 1
    first, second = split_half(real, samples)
    samples[10:] += 5
    moved = split_half(real, samples)
    assert moved[0] == first and moved[1] > second + 20
