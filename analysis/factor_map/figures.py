"""Figures of the factor map: factors by bands, and where latents differ from raw coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gdm_repr.analysis.columns.names import LATENTS, RAW
from gdm_repr.analysis.factor_map.cells import (
    ALL,
    HARDLY,
    Cell,
    ColumnSet,
    Scores,
    counterparts,
    is_code,
    scores,
)
from gdm_repr.analysis.factor_map.scores import ProbeScore
from gdm_repr.analysis.intervals.estimate import span
from gdm_repr.analysis.report.figures import WIDTH, colour_bar, new_figure, panel_grid
from gdm_repr.analysis.report.page import Picture

_CELL = 0.42, 0.27  # inches
_MOST_PREFIXED = 4  # bands, of more the first bands are in the tables alone
_SEEN = 0.02  # a difference that is worth a mark
_DARK = 0.55  # of the colours' range, below which numbers are white


def pictures(cells: Sequence[Cell], probes: Sequence[str]) -> list[Picture]:
    """Draw each probe's map, and where latents differ from raw coefficients, if measured."""
    drawn = []
    for place, probe in enumerate(probes):
        own = [cell for cell in cells if cell.probe == probe]
        ending = f"_{probe}" if place else ""
        n = span(cell.score.n for cell in own)
        caption = (
            f"How much of each factor bands, the first bands and {_whole(own)} predict by {probe} "
            f"probe: R^2, or balanced accuracy above chance; 1 is all; n = {n}. Below each name "
            "stands the number of columns. Bold: the 95 % interval lies above a tenth; pale: no "
            "more than by chance."
        )
        if any(cell.source != LATENTS for cell in own):
            caption += (
                " \u25b2 tells more and \u25bc tells less than the latents at the same columns, or "
                "than as many first latents as a code is long: the interval of the difference "
                f"excludes 0, and it is {_SEEN:g} or more."
            )
        drawn.append(Picture(f"factor_map{ending}", caption, map_figure(own)))
        raw = scores(own, RAW, probe, "band", "all")
        if raw:
            caption = (
                f"Latents minus raw coefficients at the same elements, by {probe} probe, in the "
                "same units; marked (*) where the 95 % interval of the images excludes 0 and the "
                f"better one is above chance. n = {n}."
            )
            figure = difference_figure(scores(own, LATENTS, probe, "band", "all"), raw)
            drawn.append(Picture(f"latents_minus_raw{ending}", caption, figure))
    return drawn


def _whole(cells: Sequence[Cell]) -> str:
    """Name what the last column of the latents' map is of."""
    label = next(c.columns.label for c in cells if c.columns.kind == "all" and c.source == LATENTS)
    return "all columns" if label == ALL else label


@dataclass
class _Panel:
    """Cells of the map: columns by heading, of one source, or of several that have codes."""

    title: str
    columns: dict[str, ColumnSet] = field(default_factory=dict)
    scores: dict[tuple[str, str], ProbeScore] = field(default_factory=dict)
    marks: dict[tuple[str, str], str] = field(default_factory=dict)


def map_figure(cells: Sequence[Cell]) -> Figure:
    """Draw factors by columns, one panel a source, on one scale; codes share a panel.

    Args:
        cells: of one probe.
    """
    panels = _panels(cells)
    factors = list(dict.fromkeys(cell.factor for cell in cells))
    most = max(len(panel.columns) for panel in panels)
    across = min(2, len(panels)) if most <= 8 else 1
    height = -(-len(panels) // across) * (_CELL[1] * len(factors) + 1.05)
    figure = new_figure(0.5 + height, max(WIDTH, 2.2 + across * most * _CELL[0]))
    grid = panel_grid(figure, len(panels), across, sharey=True)
    image = None
    for axes, panel in zip(grid.flat, panels, strict=False):
        values = np.full((len(factors), len(panel.columns)), np.nan)
        places = {heading: j for j, heading in enumerate(panel.columns)}
        for (factor, heading), score in panel.scores.items():
            i, j = factors.index(factor), places[heading]
            value = values[i, j] = score.above_chance.value
            strong = score.found and score.above_chance.low >= HARDLY
            dark = "white" if value < _DARK else "black"
            axes.text(
                j, i, _two(max(value, 0.0)) + panel.marks.get((factor, heading), ""),
                ha="center", va="center", fontsize=7.5,
                fontweight="bold" if strong else "normal", color=dark if score.found else "0.62",
            )  # fmt: skip
        image = axes.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        axes.set_title(panel.title, fontsize="medium", loc="left")
        _label_panel(axes, factors, panel)
        axes.set_xlim(-0.5, most - 0.5)  # cells of all panels are of one size
    assert image is not None
    below = {"location": "bottom", "fraction": 0.04, "pad": 0.02, "aspect": 40}
    colour_bar(figure, image, grid.flat, "R², or balanced accuracy above chance", **below)
    return figure


def _panels(cells: Sequence[Cell]) -> list[_Panel]:
    """Put cells in panels; first bands only where there are few bands."""
    bands = sum(
        c.kind == "band" for c in {cell.columns.name: cell.columns for cell in cells}.values()
    )
    sources = dict.fromkeys(cell.source for cell in cells)
    marks = {
        id(other): {1: "\u25bc", -1: "\u25b2", 0: ""}[own.score.differs(other.score)]
        for source in sources
        if source != LATENTS
        for own, other in counterparts(cells, source)
        if abs(own.score.minus(other.score).value) >= _SEEN
    }
    panels: dict[str, _Panel] = {}
    for cell in cells:
        columns, code = cell.columns, is_code(cell.columns)
        if columns.kind == "prefix" and bands > _MOST_PREFIXED:
            continue
        panel = panels.setdefault("codes" if code else cell.source, _Panel(cell.source))
        panel.title = "codes" if code else cell.source
        heading = cell.source if code else columns.label
        panel.columns[heading] = columns
        panel.scores[cell.factor, heading] = cell.score
        panel.marks[cell.factor, heading] = marks.get(id(cell), "")
    return list(panels.values())


def _label_panel(axes: Axes, factors: Sequence[str], panel: _Panel) -> None:
    headings = [
        f"{_broken(heading)}\n{len(columns.columns)}" for heading, columns in panel.columns.items()
    ]
    turned = len(headings) > 8 or max(map(len, panel.columns)) > 16
    axes.set_xticks(
        range(len(headings)), headings, rotation=60 if turned else 0, fontsize=7.5, linespacing=1.1
    )
    axes.set_yticks(range(len(factors)), factors, fontsize="small")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    kinds = [columns.kind for columns in panel.columns.values()]
    for place, pair in enumerate(pairwise(kinds)):
        if len(set(pair)) > 1:
            axes.axvline(place + 0.5, color="white", linewidth=3)


def _broken(heading: str) -> str:
    """Break a heading that is wider than a cell where it may be."""
    text = heading.replace("up to ", "up to\n")
    return text if max(map(len, text.split("\n"))) <= 8 else text.replace(", ", ",\n")


def difference_figure(own: Scores, raw: Scores) -> Figure:
    """Draw latents minus raw coefficients, marked where the interval excludes 0."""
    factors, bands = _axes(own)
    height = _CELL[1] * len(factors)
    figure = new_figure(1.75 + height, max(WIDTH * 0.8, 2.6 + 1.4 * _CELL[0] * len(bands)))
    axes = figure.add_subplot()
    values = np.full((len(factors), len(bands)), np.nan)
    marked = np.zeros(values.shape, bool)
    for (i, j), score in _each(own, factors, bands):
        if (control := raw.get(factors[i], {}).get(bands[j])) is not None:
            gap = score.minus(control)
            values[i, j] = gap.value
            marked[i, j] = score.differs(control) != 0
    most = max(0.05, float(np.nanmax(np.abs(values), initial=0)))
    image = axes.imshow(values, cmap="PuOr", vmin=-most, vmax=most, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            axes.text(
                j, i, _two(value, signed=True) + ("*" if marked[i, j] else ""),
                ha="center", va="center", fontsize="x-small",
                color="white" if abs(value) > 0.7 * most else "black",
            )  # fmt: skip
    _label(axes, factors, bands)
    label = "latents minus\nraw coefficients"
    colour_bar(figure, image, [axes], label, fraction=0.05, pad=0.02)
    return figure


def _axes(found: Scores) -> tuple[list[str], list[str]]:
    """Return names of factors and of bands, in order."""
    return list(found), list(dict.fromkeys(band for each in found.values() for band in each))


def _each(
    found: Scores, factors: Sequence[str], bands: Sequence[str]
) -> list[tuple[tuple[int, int], ProbeScore]]:
    """Return place and score of each cell that has one."""
    return [
        ((factors.index(name), bands.index(band)), score)
        for name, each in found.items()
        for band, score in each.items()
    ]


def _label(axes: Axes, factors: Sequence[str], bands: Sequence[str]) -> None:
    turned = len(bands) > 6 or max(map(len, bands)) > 7
    axes.set_xticks(range(len(bands)), bands, rotation=60 if turned else 0, fontsize="small")
    axes.set_yticks(range(len(factors)), factors, fontsize="small")
    axes.tick_params(length=0, labelbottom=True)
    axes.set_xlabel("band (basis indices)", fontsize="small")
    if len(bands) > 1 and (bands[-1] == ALL or bands[-1].endswith(" columns")):
        axes.axvline(len(bands) - 1.5, color="white", linewidth=2)


def _two(value: float, *, signed: bool = False) -> str:
    """Write two decimals without the zero in front."""
    text = f"{value:+.2f}" if signed else f"{value:.2f}"
    if float(text) == 0:
        return "0"
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text
