"""Which order of generation is good: ``python -m gdm_repr.analysis.order_search`` (Fig. 5).

Of a model trained on random orders. Scores, search and predictors are those of
:mod:`gdm_repr.analysis.order_search.orders`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gdm_repr.analysis.intervals.estimate import Estimate
from gdm_repr.analysis.order_search.options import OrderSearchConfig
from gdm_repr.analysis.order_search.orders import Order, Predictors

if TYPE_CHECKING:
    from gdm_repr.analysis.features.extractors import Extractor
    from gdm_repr.analysis.intervals.estimate import Floats
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


def _score(
    config: OrderSearchConfig, real: Floats, samples: Floats, other: Floats
) -> dict[str, Any]:
    """Return the Frechet distance with its interval, and its floor."""
    from gdm_repr.analysis.intervals.jackknife import compare
    from gdm_repr.analysis.sample_quality.frechet import FRECHET

    found = compare(
        FRECHET, real, {"samples": samples}, other, groups=config.groups, seed=config.seed
    )["samples"]["frechet"]
    assert found.floor is not None
    return {
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "floor": found.floor.value,
    }


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


@dataclass(frozen=True)
class Found:
    """All that was measured; scores hold value, low, high and floor."""

    feature: str
    scores: Mapping[Order, Mapping[str, float]]
    searches: Sequence[Searched]
    predicted: Mapping[Order, Predictors]
    correlations: Mapping[str, Estimate]
