"""Figures of the factor map: factors by bands, and where latents differ from raw coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gdm_repr.analysis.factor_map_report import LATENTS, RAW, Cell, Scores, scores
from gdm_repr.analysis.figures import WIDTH, new_figure
from gdm_repr.analysis.report import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    from gdm_repr.analysis.factor_scores import Score

_CELL = 0.42, 0.27  # inches
_DARK = 0.55  # of the colours' range, below which numbers are white


def pictures(cells: Sequence[Cell], probes: Sequence[str]) -> list[Picture]:
    """Draw each probe's map, and where latents differ from raw coefficients, if measured."""
    drawn = []
    for place, probe in enumerate(probes):
        own = [cell for cell in cells if cell.probe == probe]
        ending = f"_{probe}" if place else ""
        sources = dict.fromkeys(cell.source for cell in own)
        by_source = {source: scores(own, source, probe) for source in sources}
        n = max(cell.score.n for cell in own)
        caption = (
            f"How much of each factor each band predicts by {probe} probe: R^2, or balanced "
            f"accuracy above chance; n = {n}. 1 is all. In gray: no more than by chance."
        )
        drawn.append(Picture(f"factor_map{ending}", caption, map_figure(by_source)))
        if RAW in by_source:
            caption = (
                f"Latents minus raw coefficients at the same elements, by {probe} probe, in the "
                "same units; marked (*) where the 95 % interval of the images excludes 0 and the "
                f"better one is above chance. n = {n}."
            )
            figure = difference_figure(by_source[LATENTS], by_source[RAW])
            drawn.append(Picture(f"latents_minus_raw{ending}", caption, figure))
    return drawn


def map_figure(by_source: dict[str, Scores]) -> Figure:
    """Draw factors by bands, one panel a source, on one scale."""
    factors, bands = _axes(by_source[LATENTS])
    across = 3 if len(by_source) == 3 and len(bands) <= 6 else min(2, len(by_source))
    down = -(-len(by_source) // across)
    width, height = _CELL[0] * len(bands), _CELL[1] * len(factors)
    figure = new_figure(1.0 + down * (height + 0.75), max(WIDTH, 2.6 + across * width))
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    image = None
    for axes, (source, found) in zip(grid.flat, by_source.items(), strict=False):
        values = np.full((len(factors), len(bands)), np.nan)
        for place, score in _each(found, factors, bands):
            values[place] = score.above_chance.value
        image = axes.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        for (i, j), score in _each(found, factors, bands):
            value = values[i, j]
            colour = "white" if value < _DARK else "black"
            text = _two(max(value, 0.0))
            axes.text(
                j, i, text, ha="center", va="center", fontsize="x-small",
                color=colour if score.found else "0.6",
            )  # fmt: skip
        axes.set_title(source, fontsize="medium")
        _label(axes, factors, bands)
    for axes in grid.flat[len(by_source) :]:
        axes.set_visible(False)
    assert image is not None
    _bar(figure, image, [*grid.flat], "R$^2$, or balanced\naccuracy above chance")
    return figure


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
    _bar(figure, image, [axes], "latents minus\nraw coefficients")
    return figure


def _axes(found: Scores) -> tuple[list[str], list[str]]:
    """Return names of factors and of bands, in order."""
    return list(found), list(dict.fromkeys(band for each in found.values() for band in each))


def _each(
    found: Scores, factors: Sequence[str], bands: Sequence[str]
) -> list[tuple[tuple[int, int], Score]]:
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
    if bands[-1] == "all" and len(bands) > 1:
        axes.axvline(len(bands) - 1.5, color="white", linewidth=2)


def _bar(figure: Figure, image: AxesImage, axes: Sequence[Axes], label: str) -> None:
    bar = figure.colorbar(image, ax=list(axes), fraction=0.05, pad=0.02)
    bar.set_label(label, fontsize="small")
    bar.ax.tick_params(labelsize="small")


def _two(value: float, *, signed: bool = False) -> str:
    """Write two decimals without the zero in front."""
    text = f"{value:+.2f}" if signed else f"{value:.2f}"
    if float(text) == 0:
        return "0"
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text
