"""Figures of the element factors: elements by factors, and how pure elements are."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from gdm_repr.analysis.element_factors.claims import Claims
from gdm_repr.analysis.element_factors.measure import ElementFactors
from gdm_repr.analysis.element_factors.options import ELEMENTS
from gdm_repr.analysis.element_factors.shares import LEVEL
from gdm_repr.analysis.report.figures import (
    COLOURS,
    MARKERS,
    WIDTH,
    colour_bar,
    error_bars,
    new_figure,
)
from gdm_repr.analysis.report.page import Picture

SHOWN = 128  # elements of the map
LABELLED = 32  # of these, named on the axis
MOST = 4  # factors moved, told apart; more than that share one colour
_WIDE = 0.085, 0.17  # inches an element, and a factor


def pictures(found: ElementFactors, made: Claims) -> list[Picture]:
    """Draw the map of all elements, and purity beside the controls."""
    if not found.shares:
        return []
    n = ", ".join(f"n = {by[ELEMENTS].n} by {way}" for way, by in found.shares.items())
    caption = (
        f"How much of each factor's variance each element of band {found.pool.name} makes by "
        f"itself, elements as index:channel. Dots: {100 * found.config.least:g} % or more, at a "
        f"false-discovery rate of {LEVEL:g} over all pairs. Hatched: factors not readable off "
        f"images; crossed: elements that make strange images. {n}."
    )
    pure = (
        "Left: the largest factor's part of what each direction does, of those that move any "
        "factor (dots), their mean and its 95 % interval of the images. 1: one factor alone; the "
        "dashed line: all factors alike. Right: how many factors each direction moves."
    )
    return [
        Picture("element_factors", caption, map_figure(found)),
        Picture("purity", pure, purity_figure(made)),
    ]


def map_figure(found: ElementFactors) -> Figure:
    """Draw elements by factors, one panel a way, on one scale."""
    ways = list(found.shares)
    first = found.shares[ways[0]][ELEMENTS]
    factors, names = first.factors, first.names[:SHOWN]
    top = max(float(found.shares[way][ELEMENTS].value.max()) for way in ways)
    norm = PowerNorm(0.5, 0, max(top, 0.01))
    height = 0.9 + len(ways) * (_WIDE[1] * len(factors) + 0.35)
    figure = new_figure(height, max(WIDTH, 2.6 + _WIDE[0] * len(names)))
    panels = figure.subplots(len(ways), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
    image = None
    for axes, way in zip(panels, ways, strict=True):
        shares = found.shares[way][ELEMENTS]
        at = [factors.index(name) for name in shares.factors]
        values = np.full((len(factors), len(names)), np.nan)
        values[at] = np.maximum(shares.value[: len(names)].T, 0)
        axes.set_facecolor("0.85")
        image = axes.imshow(
            values, cmap="cividis", norm=norm, aspect="auto", interpolation="nearest"
        )
        for row in set(range(len(factors))) - set(at):
            axes.axhspan(row - 0.5, row + 0.5, facecolor="none", edgecolor="0.6", hatch="////")
        for place in np.flatnonzero(~shares.judged[: len(names)]):
            axes.axvspan(place - 0.5, place + 0.5, facecolor="none", edgecolor="0.7", hatch="xxxx")
        f, e = np.nonzero(shares.moves(found.config.least)[: len(names)].T)
        light = values[np.array(at)[f], e] > 0.3 * top
        axes.scatter(e, np.array(at)[f], s=3.5, c=np.where(light, "black", "white"), linewidths=0)
        axes.set_title(f"by {way}", fontsize="medium")
        axes.set_yticks(range(len(factors)), factors, fontsize="small")
        axes.tick_params(axis="y", length=0)
    step = -(-len(names) // LABELLED)
    panels[-1].set_xticks(range(0, len(names), step), names[::step], rotation=90, fontsize="small")
    panels[-1].set_xlabel("element", fontsize="small")
    assert image is not None
    label = "share"  # of the factor's variance, as the caption says; a figure of one factor is low
    colour_bar(figure, image, panels, label, fraction=0.04, pad=0.01)
    return figure


def purity_figure(made: Claims) -> Figure:
    """Draw purity, and the number of factors moved, by way and by what was moved."""
    rows = [(way, source) for way, by_source in made.items() for source in by_source]
    figure = new_figure(1.3 + 0.34 * len(rows))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    sources = list(dict.fromkeys(source for _, source in rows))
    jitter = np.random.default_rng(0)
    for place, (way, source) in enumerate(rows):
        each, kind = made[way][source], sources.index(source)
        known = each.purity_of[np.isfinite(each.purity_of)]
        left.scatter(
            known, place + jitter.uniform(-0.22, 0.22, len(known)), s=6, color=COLOURS[kind],
            alpha=0.5, linewidths=0,
        )  # fmt: skip
        if each.moving:
            error_bars(
                left, [place], [each.purity], level=True, fmt=MARKERS[kind], color="black",
                markersize=5, linewidth=1.2, capsize=2,
            )  # fmt: skip
        left.plot([1 / each.factors] * 2, [place - 0.4, place + 0.4], "--", color="0.4")
    _count_bars(right, made, rows)
    left.set_yticks(range(len(rows)), [f"{source}\n{way}" for way, source in rows])
    left.tick_params(axis="y", labelsize="x-small", length=0)
    left.set_ylim(len(rows) - 0.5, -0.5)
    left.set_xlim(0, 1.03)
    left.set_xlabel("purity", fontsize="small")
    return figure


def _count_bars(axes: Axes, made: Claims, rows: list[tuple[str, str]]) -> None:
    colours = ["0.9", *matplotlib.colormaps["cividis"](np.linspace(1, 0, MOST))]
    start = np.zeros(len(rows))
    each = [made[way][source] for way, source in rows]
    for count in range(MOST + 1):
        moved = [(np.minimum(one.counts, MOST) == count).sum() for one in each]
        if count == 0:
            moved = [own - one.strange for own, one in zip(moved, each, strict=True)]
        part = np.array([n / max(one.total, 1) for n, one in zip(moved, each, strict=True)])
        name = f"{count} or more" if count == MOST else str(count)
        axes.barh(
            range(len(rows)), 100 * part, 0.7, left=100 * start, color=colours[count],
            edgecolor="0.3", linewidth=0.5, label=name,
        )  # fmt: skip
        start += part
    axes.set_xlim(0, 100)
    axes.set_xlabel("directions (%)", fontsize="small")
    axes.legend(
        title="factors moved", fontsize="x-small", title_fontsize="x-small", ncols=MOST + 1,
        loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False, handlelength=1,
        columnspacing=0.8,
    )  # fmt: skip
