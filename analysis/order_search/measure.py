"""Which order of generation is good: ``python -m gdm_repr.analysis.order_search`` (Fig. 5).

Of a model trained on random orders. Scores, search and predictors are those of
:mod:`gdm_repr.analysis.order_search.orders`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gdm_repr.analysis.cost import Cost
from gdm_repr.analysis.draws import first_latent
from gdm_repr.analysis.found import Found
from gdm_repr.analysis.intervals.estimate import Estimate
from gdm_repr.analysis.order_search.options import OrderSearchConfig
from gdm_repr.analysis.order_search.orders import Order, Predictors, Search
from gdm_repr.progress import progress

if TYPE_CHECKING:
    from gdm_repr.analysis.features.extractors import Extractor
    from gdm_repr.analysis.intervals.estimate import Floats
    from gdm_repr.analysis.journal import Journal
    from gdm_repr.analysis.order_search.orders import Draw, Order
    from gdm_repr.analysis.subject import Subject

SEARCH_GAP = 1_000_000  # between the latents of two searches, and of the scores
ORDERS_SEED = 0  # whatever --seed is, so that models and runs score the same random orders


def check(config: OrderSearchConfig, subject: Subject) -> None:
    """Refuse a model of one order, features that can't be had, too few images or none at hand."""
    from gdm_repr.analysis.sample_quality.image_sets import choose_halves

    subject.model.with_order(tuple(reversed(range(subject.model.grouping.k))))
    choose_halves(len(subject.store), config.n, config.seed)
    config.require_features(subject)
    subject.require_images()


def cost(config: OrderSearchConfig, subject: Subject) -> Cost:
    """Count what measuring takes."""
    learned = config.candidates * config.first + config.checked * config.n
    drawn = (config.orders + config.searches) * config.n + config.searches * learned
    scores = 3 * (1 + config.groups) * (config.orders + config.searches)
    return Cost(decoded=drawn, featured=drawn, flops=scores * 40 * config.n**3)


def _features(extractor: Extractor, subject: Subject, rows: Sequence[int]) -> Floats:
    import numpy as np

    features: Floats = extractor(subject.images(rows).clamp(-1, 1)).numpy().astype(np.float64)
    return features


def _drawing(
    config: OrderSearchConfig,
    subject: Subject,
    extractor: Extractor,
    seed: int,
    advance: Callable[[int], object],
) -> Draw:
    """Return what draws samples of an order, the first from the latent of a seed, and counts."""
    import numpy as np
    import torch

    def draw(order: Order, start: int, stop: int) -> Floats:
        model, parts = subject.model.with_order(order), []
        for first in range(start, stop, config.batch_size):
            n = min(config.batch_size, stop - first)
            parts.append(model.sample(n, seed=seed + first, plan=subject.plan).cpu())
            advance(n)
        x = torch.cat(parts)
        if not bool(torch.isfinite(x).all()):
            raise ValueError(
                f"samples in the order {list(order)} are not finite; encode with more --steps"
            )
        features: Floats = extractor(x.clamp(-1, 1)).numpy().astype(np.float64)
        return features

    return draw


@dataclass(frozen=True)
class OrderScore(Estimate):
    """The Frechet distance of an order's samples to real images.

    Attributes:
        floor: of real images to real ones.
        halves: of the first halves of images and samples, and of the second.
    """

    floor: float
    halves: tuple[float, float]


def _score(
    config: OrderSearchConfig, real: Floats, other: Floats, draw: Draw, order: Order
) -> OrderScore:
    from gdm_repr.analysis.intervals.jackknife import compare
    from gdm_repr.analysis.order_search.orders import split_half
    from gdm_repr.analysis.sample_quality.frechet import FRECHET

    sets = {"samples": draw(order, 0, config.n)}
    compared = compare(FRECHET, real, sets, other, groups=config.groups, seed=config.seed)
    found = compared["samples"]["frechet"]
    assert found.floor is not None
    halves = split_half(real, sets["samples"])
    return OrderScore(found.value, found.low, found.high, found.floor.value, halves)


@dataclass(frozen=True)
class Searched:
    """One search.

    Attributes:
        order: it found.
        value: its score as the random orders have theirs.
        rank: among them; 1 is better than all.
        samples: drawn by the search.
    """

    order: Order
    value: float
    rank: int
    samples: int


@dataclass(frozen=True, eq=False)
class OrderSearch(Found):
    """What was measured.

    Attributes:
        feature: name of the features that scores are of.
        scores: of random orders.
        searches: each with the order that it found.
        predicted: what is known of the random orders without a sample.
        correlations: rank correlation of each predictor with the scores.
    """

    feature: str
    scores: Mapping[Order, OrderScore]
    searches: Sequence[Searched]
    predicted: Mapping[Order, Predictors]
    correlations: Mapping[str, Estimate]


def measure(config: OrderSearchConfig, subject: Subject, journal: Journal) -> OrderSearch:
    """Score random orders, search for good ones, and see what predicts a score.

    Raises:
        ValueError: for features that can't be had, a model of one order, or too few images.
    """
    from gdm_repr.analysis.order_search.orders import (
        covariance,
        learned_scores,
        learned_search,
        predict,
        random_orders,
        rank_correlation,
    )
    from gdm_repr.analysis.sample_quality.image_sets import choose_halves

    extractor = next(iter(config.extractors().values()))  # first: weights may be missing
    k, first = subject.model.grouping.k, first_latent(config.seed)
    subject.model.with_order(tuple(reversed(range(k))))  # refused by a model of one order
    halves = choose_halves(len(subject.store), config.n, config.seed)
    real, other = (_features(extractor, subject, rows) for rows in (halves.real, halves.other))
    orders = random_orders(k, config.orders, ORDERS_SEED)
    candidates = len(random_orders(k, config.candidates, config.seed))  # few groups have fewer
    checked = min(config.checked, candidates)
    search_cost = candidates * config.first + checked * config.n
    total = (len(orders) + config.searches) * config.n + config.searches * search_cost
    with progress(total, desc="order_search", unit_scale=True) as bar:
        draw = _drawing(config, subject, extractor, first, bar.update)

        def scored(order: Order) -> OrderScore:
            key = f"score {list(order)}"
            if key in journal:
                bar.update(config.n)
            return journal.once(key, OrderScore, _score, config, real, other, draw, order)

        scores = {order: scored(order) for order in orders}
        searches: list[Searched] = []
        for number in range(config.searches):
            key = f"search {number}"
            seed = first + (number + 1) * SEARCH_GAP
            if key in journal:
                bar.update(search_cost)
            tried = random_orders(k, config.candidates, seed)
            given = (tried, _drawing(config, subject, extractor, seed, bar.update), real)
            sizes: dict[str, Any] = {"first": config.first, "checked": checked, "last": config.n}
            found = journal.once(key, Search, learned_search, *given, seed=seed, **sizes)
            value = scored(found.order).value
            rank = 1 + sum(each.value < value for each in scores.values())
            searches.append(Searched(found.order, value, rank, found.samples))
    x = subject.model.to_basis(subject.images(halves.fit)).cpu().double().flatten(1).numpy()
    S = covariance(x)
    predicted = {order: predict(S, subject.model.grouping, order) for order in orders}
    values = [scores[order].value for order in orders]
    correlations = {
        name: rank_correlation([getattr(predicted[o], name) for o in orders], values)
        for name in ("entropy", "residual")
    } | {"places": rank_correlation(learned_scores(orders, values).tolist(), values)}
    first_half, second_half = zip(*(scores[o].halves for o in orders), strict=True)
    correlations["halves"] = rank_correlation(first_half, second_half)
    return OrderSearch(config, subject, extractor.name, scores, searches, predicted, correlations)
