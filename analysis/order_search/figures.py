"""Pictures of the analysis ``order_search``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from gdm_repr.analysis.draws import first_latent
from gdm_repr.analysis.order_search.measure import OrderSearch
from gdm_repr.analysis.order_search.orders import Order
from gdm_repr.analysis.report.figures import COLOURS, WIDTH, error_bars, new_figure
from gdm_repr.pictures import LabelledSheet, label_sheet
from gdm_repr.process_strip import process_frames

if TYPE_CHECKING:
    from gdm_repr.analysis.order_search.options import OrderSearchConfig
    from gdm_repr.analysis.subject import Subject


NAMES = {"entropy": "area under the entropy, nats", "residual": "conditional variances"}


def shown(order: Order) -> str:
    """Write an order: 2-0-1."""
    return "-".join(map(str, order))


def draw_spread(found: OrderSearch, ranked: Sequence[Order]) -> Figure:
    """Draw every order's score with its interval, by rank, and where searches came."""
    figure = new_figure(3.4, WIDTH * 1.1)
    axes = figure.add_subplot()
    at = np.arange(1, len(ranked) + 1)
    values = [found.scores[order] for order in ranked]
    error_bars(axes, at, values, fmt="o", ms=3, lw=0.8, color=COLOURS[0], label="random orders")
    axes.plot(
        [each.rank for each in found.searches],
        [each.value for each in found.searches],
        linestyle="",
        marker="^",
        ms=7,
        mfc="none",
        color=COLOURS[1],
        label="found by search",
    )
    floor = found.scores[ranked[0]].floor
    axes.axhline(floor, color="0.4", linestyle="--", linewidth=1, label="real against real")
    axes.set_xlabel("rank of the order")
    axes.set_ylabel(f"Frechet distance in {found.feature}")
    axes.set_ylim(0, None)
    axes.legend(frameon=False, fontsize="small", ncols=3, loc="lower right")
    return figure


def draw_predictors(found: OrderSearch, ranked: Sequence[Order]) -> Figure:
    """Draw scores over what predicts them."""
    figure = new_figure(3.0, WIDTH)
    panels = figure.subplots(1, 2, sharey=True)
    values = [found.scores[order].value for order in ranked]
    for axes, (name, label) in zip(panels, NAMES.items(), strict=True):
        axes.plot(
            [getattr(found.predicted[order], name) for order in ranked],
            values,
            linestyle="",
            marker="o",
            ms=4,
            color=COLOURS[2],
        )
        axes.set_xlabel(label)
        axes.set_title(f"rank correlation {found.correlations[name]}", fontsize="small")
    panels[0].set_ylabel(f"Frechet distance in {found.feature}")
    return figure


def draw_processes(
    config: OrderSearchConfig, subject: Subject, best: Order, worst: Order
) -> LabelledSheet:
    """Show images on their way, in the best and the worst order."""
    frames = subject.model.grouping.k + 1
    z = subject.model.noise(config.strips, seed=first_latent(config.seed))
    rows, labels = [], []
    for label, order in (("best", best), ("worst", worst)):
        strip = process_frames(subject.model.with_order(order), z, subject.plan, frames)
        for i, row in enumerate(np.moveaxis(strip.x.cpu().numpy(), 0, 1)):
            rows.append(row)
            labels.append(f"{label}\n{shown(order)}" if i == 0 else "")
    columns = ["noise", *[""] * (frames - 2), "image"]
    return label_sheet(rows, labels, columns, tile=48)
