"""How figures look: sizes for a page's column, and colours that the colour-blind can tell apart.

Colours are Okabe and Ito's (2008); maps are cividis. Figures are drawn without a display.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from gdm_repr.analysis.intervals.estimate import Estimate, Floats
from gdm_repr.boundary.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage


COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
WIDTH = 6.4  # inches


def new_figure(height: float = 4.0, width: float = WIDTH) -> Figure:
    """Return an empty figure."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def make_printable(figure: Figure) -> None:
    """Make all text of a figure printable: labels of others may hold what no SVG may.

    A dollar in a label is a dollar; formulas are of the ticks that matplotlib itself writes.
    """
    from matplotlib.axis import Axis
    from matplotlib.text import Text
    from matplotlib.ticker import LogFormatter, ScalarFormatter

    ticks = set()
    for axis in figure.findobj(Axis):
        for formatter in (axis.get_major_formatter(), axis.get_minor_formatter()):
            if not isinstance(formatter, LogFormatter | ScalarFormatter):
                shown = partial(_shown_ticks, formatter.format_ticks)
                formatter.format_ticks = shown  # type: ignore[method-assign]
        ticks |= set(axis.findobj(Text)) - {axis.label}
    for text in set(figure.findobj(Text)) - ticks:
        text.set_text(printable(text.get_text(), lines=True))
        text.set_parse_math(False)


def _shown_ticks(format_ticks: Callable[[Any], list[str]], values: object) -> list[str]:
    return [printable(label, lines=True).replace("$", r"\$") for label in format_ticks(values)]


def line_with_band(
    axes: Axes,
    x: Sequence[float],
    found: Sequence[Estimate],
    *,
    number: int,
    label: str,
    dashed: bool = False,
) -> None:
    """Draw a line with its intervals as a band, in colour and marker of a number."""
    value, low, high = _ends(found)
    colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
    axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(
        x, value, color=colour, marker=marker, markersize=4, linewidth=1.5,
        linestyle="--" if dashed else "-", label=label,
    )  # fmt: skip


def error_bars(
    axes: Axes,
    places: ArrayLike,
    found: Sequence[Estimate],
    *,
    level: bool = False,
    unit: float = 1,
    **look: object,
) -> None:
    """Draw values times a unit with their intervals, upright or level, at places."""
    value, low, high = unit * _ends(found)
    bars = np.clip([value - low, high - value], 0, None)
    if level:
        axes.errorbar(value, places, xerr=bars, **look)  # type: ignore[arg-type]
    else:
        axes.errorbar(places, value, yerr=bars, **look)  # type: ignore[arg-type]


def _ends(found: Sequence[Estimate]) -> Floats:
    """Return values, low and high ends, (3, n)."""
    return np.array([(each.value, each.low, each.high) for each in found], float).reshape(-1, 3).T


def panel_grid(figure: Figure, count: int, across: int, **shared: Any) -> Any:  # noqa: ANN401
    """Return panels for a count of things in a grid (rows, across), those left over hidden."""
    grid = figure.subplots(max(1, -(-count // across)), across, squeeze=False, **shared)
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    return grid


def legend_below(figure: Figure, axes: Axes, columns: int) -> None:
    """Put a panel's legend below all panels."""
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=columns,
        frameon=False, fontsize="small",
    )  # fmt: skip


def colour_bar(
    figure: Figure,
    image: AxesImage,
    axes: Iterable[Axes],
    label: str,
    **place: Any,  # noqa: ANN401
) -> None:
    """Put the scale of an image's colours beside panels."""
    bar = figure.colorbar(image, ax=list(axes), **place)
    bar.set_label(label, fontsize="small")
    bar.ax.tick_params(labelsize="small")


_ROOT_TICKS = (0, *(n * 10**power for power in range(1, 7) for n in (1, 3)))


def _root(values: Floats) -> Floats:
    """Return square roots; the axis's margin may reach below 0."""
    return np.asarray(np.sign(values) * np.sqrt(np.abs(values)))


def mark_bands(axes: Axes, ends: Mapping[str, int], *, root: bool = False) -> None:
    """Mark the bands' ends on an x axis that counts latents, names above.

    Names of neighbours too narrow for them stand together, where the first one begins.

    Args:
        axes: to mark.
        ends: latents up to the end of each band.
        root: give the axis a square-root scale, on which the first hundred of a thousand are seen.
    """
    power, total = 0.5 if root else 1.0, max(ends.values())
    if root:
        axes.set_xscale("function", functions=(_root, np.square))
        axes.set_xticks([tick for tick in _ROOT_TICKS if tick <= total])
    start = 0
    labels: list[tuple[str, float, bool]] = []  # text, place, whether it is a wide band's
    for name, end in ends.items():
        if len(ends) <= 12:
            axes.axvline(end, color="0.6", linewidth=0.8, linestyle=":")
        if end**power - start**power >= 0.15 * total**power:
            labels.append((name, ((start**power + end**power) / 2) ** (1 / power), True))
        elif labels and not labels[-1][2]:
            labels[-1] = (f"{labels[-1][0]}, {name}", labels[-1][1], False)
        else:
            labels.append((name, start, False))
        start = end
    for text, place, wide in labels if len(ends) <= 6 else ():
        axes.annotate(
            text,
            (place, 1.01),
            xycoords=("data", "axes fraction"),
            ha="center" if wide else "left",
            va="bottom",
            fontsize="x-small",
            color="0.3",
        )
