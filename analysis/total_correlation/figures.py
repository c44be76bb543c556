"""Figures of total correlation, of normality, and of correlation matrices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from gdm_repr.analysis.report.figures import (
    COLOURS,
    MARKERS,
    WIDTH,
    mark_bands,
    new_figure,
    panel_grid,
)
from gdm_repr.analysis.total_correlation.answers import Answer, find
from gdm_repr.analysis.total_correlation.estimate import ElementNormality, check_constant, samples
from gdm_repr.analysis.total_correlation.estimators import correlation

_NORMAL_95 = 1.96  # two-sided 95 % point of N(0, 1)
_BAND_NAMES = 8  # more names than this overlap
_BANDS_MARKED = 12  # as mark_bands does


def total_correlation_figure(rows: Sequence[Answer], estimator: str) -> Figure:
    """Draw total correlation as dots with intervals, one panel a question, one row a source.

    A tick marks the null: 95 % of tables with rows permuted lie at its left. The axis is linear
    around 0 and logarithmic beyond, since raw coefficients share far more than latents do.

    Args:
        rows: results; refused ones are left out.
        estimator: whose results are drawn.
    """
    rows = [row for row in rows if row.estimator == estimator and row.tc]
    questions = list(dict.fromkeys(row.question for row in rows))
    sources = list(dict.fromkeys(row.source for row in rows))
    across = min(2, max(1, len(questions)))
    down = max(1, math.ceil(len(questions) / across))
    figure = new_figure(0.5 + down * (0.55 + 0.2 * len(sources)))
    grid = panel_grid(figure, len(questions), across, sharex=True, sharey=True)
    for axes, question in zip(grid.flat, questions, strict=False):
        _panel(axes, rows, question.name, sources, estimator)
        axes.set_title(f"{question.label} ({question.d} columns)", fontsize="medium")
    last = grid.flat[len(questions) - across : len(questions)]
    for axes in last:
        axes.tick_params(axis="x", labelbottom=True, labelsize="small")
        axes.set_xlabel("total correlation (nats)")
    results = [row.tc for row in rows if row.tc]
    if results:
        linear = 10 ** math.floor(math.log10(max(max(tc.null_high for tc in results), 1e-3)))
        top = max(2 * linear, *(tc.high for tc in results))
        axes = grid[0, 0]
        axes.set_xscale("symlog", linthresh=linear, linscale=1)
        decades = math.ceil(math.log10(top / linear))
        ticks = [0.0, *(linear * 10.0**power for power in range(decades + 1))]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlim(min(-linear, *(1.2 * tc.low for tc in results)), 1.5 * top)
    return figure


def _panel(
    axes: Axes, rows: Sequence[Answer], name: str, sources: Sequence[str], estimator: str
) -> None:
    found = [find(rows, source, name, estimator) for source in sources]
    for place, tc in enumerate(found):
        if tc is None:
            continue
        colour = COLOURS[place % len(COLOURS)]
        axes.plot([tc.low, tc.high], [place, place], color=colour, linewidth=1.5)
        axes.plot(tc.value, place, color=colour, marker=MARKERS[place % len(MARKERS)], markersize=5)
        axes.plot(tc.null_high, place, color="0.3", marker="|", markersize=10)
    axes.axvline(0, color="0.7", linewidth=0.8)
    axes.set_yticks(range(len(sources)), sources)
    axes.set_ylim(len(sources) - 0.5, -0.5)


def normality_figure(
    found: Mapping[str, ElementNormality], bands: Mapping[str, tuple[int, int]]
) -> Figure:
    """Draw each column's Kolmogorov-Smirnov distance to N(0, 1), one panel a source.

    Args:
        found: results by source.
        bands: first column of each band and one past its last.
    """
    figure = new_figure(0.5 + 1.35 * len(found))
    grid = figure.subplots(len(found), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
    for place, (axes, (source, each)) in enumerate(zip(grid, found.items(), strict=True)):
        place_of = np.arange(len(each.p)) + 0.5  # bands begin and end between columns
        for chosen, face, label in (
            (each.rejected, COLOURS[1], f"differs (false-discovery rate {100 * each.rate:.0f} %)"),
            (~each.rejected, COLOURS[0], "does not differ"),
        ):
            axes.plot(
                place_of[chosen],
                each.statistic[chosen],
                linestyle="",
                marker="s" if face == COLOURS[1] else "o",
                markersize=3.5,
                color=face,
                label=label,
            )
        axes.axhline(each.null_high, color="0.3", linewidth=1, linestyle="--", label="95 % null")
        axes.set_ylim(0)
        axes.set_title(
            f"{source}: {int(each.rejected.sum())} of {len(each.p)} differ, n = {each.n}",
            fontsize="medium",
            loc="left",
            pad=6 if place else 16,  # the bands' names stand above the first panel
        )
        ends = [stop for _, stop in bands.values()]
        if place == 0:
            mark_bands(axes, dict(zip(bands, ends, strict=True)))
        elif len(ends) <= _BANDS_MARKED:
            for end in ends:
                axes.axvline(end, color="0.6", linewidth=0.8, linestyle=":")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize="small", ncols=3, loc="outside upper right")
    grid[-1].set_xlabel("column, by band in the order of generation")
    figure.supylabel("Kolmogorov-Smirnov distance to N(0, 1)", fontsize="medium")
    return figure


def correlation_picture(
    tables: Mapping[str, NDArray[Any]], bands: Mapping[str, tuple[int, int]]
) -> Figure:
    """Draw |corr| of all pairs of columns of tables (n, d) on one scale, bands outlined.

    Args:
        tables: samples by title, each (n, d); one panel each.
        bands: first column of each band and one past its last, by name.

    Raises:
        ValueError: if a band lies outside the columns, or a column is constant.
    """
    matrices = {}
    for title, table in tables.items():
        x = samples(table)
        for name, (start, stop) in bands.items():
            if not 0 <= start < stop <= x.shape[1]:
                raise ValueError(
                    f"bands: {name!r} = [{start}, {stop}) must lie within [0, {x.shape[1]})"
                )
        check_constant(x)
        R = abs(correlation(x))
        np.fill_diagonal(R, np.nan)  # 1 by definition: it would set the scale
        matrices[f"{title}, n = {len(x)}"] = R
    null = _NORMAL_95 / math.sqrt(min(len(table) for table in tables.values()))
    highest = [float(np.nanmax(R)) for R in matrices.values() if len(R) > 1]
    top = max(2 * null, *highest, 0.0)
    norm = PowerNorm(0.5, vmin=0, vmax=top)  # or weak correlations would look alike
    across = min(3, len(matrices))
    down = math.ceil(len(matrices) / across)
    figure = new_figure(1.2 + down * 0.9 * WIDTH / across)
    grid = panel_grid(figure, len(matrices), across)
    for axes, (title, R) in zip(grid.flat, matrices.items(), strict=False):
        axes.set_facecolor("0.8")
        image = axes.imshow(R, cmap="cividis", norm=norm, interpolation="nearest")
        for start, stop in bands.values():
            corner, side = (start - 0.5, start - 0.5), stop - start
            axes.add_patch(Rectangle(corner, side, side, fill=False, edgecolor="white"))
        middles = [(start + stop - 1) / 2 for start, stop in bands.values()]
        names = list(bands) if len(bands) <= _BAND_NAMES else [""] * len(bands)
        axes.set_xticks(middles, names, rotation=45)
        axes.set_yticks(middles, names if axes in grid[:, 0] else [""] * len(bands))
        axes.set_xlabel("column, by band")
        axes.set_title(title, fontsize="medium")
    bar = figure.colorbar(image, ax=grid.ravel().tolist(), location="bottom", aspect=40, pad=0.04)
    bar.set_label(f"|correlation|; 95 % of independent pairs lie below {null:.3f} (line)")
    bar.ax.axvline(null, color="white", linewidth=1.5)
    return figure
