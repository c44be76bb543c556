"""The page of an order search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gdm_repr.analysis.intervals.estimate import number, with_ends
from gdm_repr.analysis.order_search.figures import (
    NAMES,
    draw_predictors,
    draw_processes,
    draw_spread,
    shown,
)
from gdm_repr.analysis.order_search.measure import (
    OrderSearch,
)
from gdm_repr.analysis.order_search.orders import Order
from gdm_repr.analysis.report.page import Picture, Report, Table
from gdm_repr.boundary.names import metric_key
from gdm_repr.tracking.keys import ORDER_CORRELATION, ORDER_SCORE

BEST = 0.1  # the share of random orders that a search should come into
PLACES = "places of the groups, learned from other orders"
HALVES = "other halves of samples and images, each scored by itself"


def report(found: OrderSearch) -> Report:
    """Write down what was found."""
    config, subject = found.config, found.subject
    ranked = sorted(found.scores, key=lambda order: found.scores[order].value)
    best, worst = ranked[0], ranked[-1]
    budget = len(ranked) * config.n
    inside = max(1, round(BEST * len(ranked)))
    good = [each for each in found.searches if each.rank <= inside]
    spent = max(each.samples for each in found.searches) / budget
    groups = min(config.groups, config.n)  # an image is the smallest group
    spread, error = _spread(found, groups)
    candidates = min(config.candidates, math.factorial(len(best)))  # few groups have fewer orders
    predictor = max(NAMES, key=lambda name: abs(found.correlations[name].value))
    answer = [
        f"The best of {len(ranked)} random orders is {shown(best)}, the worst {shown(worst)}. "
        f"Their Frechet distances in {found.feature} are {found.scores[best]} and "
        f"{found.scores[worst]}. Real against real it is {number(found.scores[best].floor)} "
        f"(n = {config.n}).",
        f"Orders differ by a standard deviation of {number(spread)}. The standard error of one "
        f"score, over other images and latents, which orders share, is {number(error)}.",
        "Scored by one half of the images and samples and by the other, orders have ranks that "
        f"correlate by {found.correlations['halves']}. It is 0 if what is good by some images and "
        "latents tells nothing of others.",
        f"{len(good)} of {len(found.searches)} searches found an order that is within the best "
        f"tenth. They took {100 * spent:.0f} % of the samples that scoring all takes.",
        f"The {NAMES[predictor]} of an order have a rank correlation of "
        f"{found.correlations[predictor]} with its score.",
    ]
    return Report(
        title="Order of generation",
        question="Which order of generation is good, and how much does it matter?",
        answer=answer,
        pictures=[
            Picture(
                "spread",
                f"Frechet distance of every order, sorted, with 95 % intervals ({groups} "
                "groups left out); triangles are what the searches found, the dashed line is real "
                "against real.",
                draw_spread(found, ranked),
            ),
            Picture(
                "processes",
                "Generation in the best and in the worst order, of the same latents, from noise "
                "to the image.",
                draw_processes(config, subject, best, worst),
            ),
            Picture(
                "predictors",
                "What the covariance of real images predicts (less should be better), against "
                "the score.",
                draw_predictors(found, ranked),
            ),
        ],
        tables=_tables(found, ranked, budget),
        method={
            "orders": f"{len(ranked)} different ones at random, the same for every seed",
            "samples": f"{config.n} an order, of the same latents for all orders",
            "searches": f"a ridge regression on the places of the groups learns from "
            f"{candidates} random orders with {config.first} samples each; the best of "
            f"{min(config.checked, candidates)} that it thinks best, scored with {config.n}; "
            "orders and latents of its own for every seed",
            "intervals": f"jackknife over {groups} groups of images, 95 %",
            "predictors": "from the covariance of the store's images that are not scored against",
        },
        controls=[
            "Real against real at the same n is the floor.",
            "Two halves of the images and latents: whether they rank orders alike.",
            "Scores learned from the places of groups in other orders (rank correlation "
            f"{found.correlations['places']}, 0 or less by chance): whether places matter, if only "
            "for these latents.",
        ],
        limits=[
            "The best of many is chosen by a score with error: its true value is worse than it "
            "seems, by up to a few standard errors.",
            "One model, trained once: other seeds may rank orders otherwise.",
            "The Frechet distance depends on n and on the feature.",
        ],
        metrics=[(0, _metrics(found, ranked))],
    )


def _spread(found: OrderSearch, groups: int) -> tuple[float, float]:
    """Return the standard deviation over orders, and the typical standard error of one."""
    from scipy.stats import t

    values = [score.value for score in found.scores.values()]
    widths = [(score.high - score.low) / 2 for score in found.scores.values()]
    return float(np.std(values, ddof=1)), float(np.median(widths) / t.ppf(0.975, groups - 1))


def _tables(found: OrderSearch, ranked: Sequence[Order], budget: int) -> list[Table]:
    orders = [
        {
            "rank": rank,
            "order": shown(order),
            **with_ends("Frechet distance", found.scores[order]),
            NAMES["entropy"]: found.predicted[order].entropy,
            NAMES["residual"]: found.predicted[order].residual,
        }
        for rank, order in enumerate(ranked, 1)
    ]
    searches = [
        {
            "search": i,
            "order": shown(each.order),
            "Frechet distance": each.value,
            "rank": each.rank,
            "samples": each.samples,
            "share of all": each.samples / budget,
        }
        for i, each in enumerate(found.searches)
    ]
    correlations = [
        {
            "predictor": {**NAMES, "places": PLACES, "halves": HALVES}[name],
            **with_ends("rank correlation", each),
        }
        for name, each in found.correlations.items()
    ]
    return [
        Table.of_rows(
            "searches", "What each search found, scored anew; rank 1 beats all.", searches
        ),
        Table.of_rows(
            "predictors", "Spearman's correlation with the score, 95 % bootstrap.", correlations
        ),
        Table.of_rows("orders", "Every random order.", orders),
    ]


def _metrics(found: OrderSearch, ranked: Sequence[Order]) -> dict[str, float]:
    values = [found.scores[order].value for order in ranked]
    metrics: dict[str, Any] = {
        f"{ORDER_SCORE}/best": values[0],
        f"{ORDER_SCORE}/median": float(np.median(values)),
        f"{ORDER_SCORE}/worst": values[-1],
        f"{ORDER_SCORE}/searched": float(np.mean([each.value for each in found.searches])),
        f"{ORDER_SCORE}/searched_rank": float(np.mean([each.rank for each in found.searches])),
    }
    metrics |= {f"{ORDER_CORRELATION}/{name}": e.value for name, e in found.correlations.items()}
    return {metric_key(key): value for key, value in metrics.items()}
