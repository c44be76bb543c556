"""Pictures of the analysis ``leakage``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from gdm_repr.analysis.leakage.matrix import LeakageMatrix
from gdm_repr.analysis.leakage.noise_dependence import NoiseDependence
from gdm_repr.analysis.report.figures import COLOURS, MARKERS, error_bars, new_figure


def draw_leakage(leakage: LeakageMatrix) -> Figure:
    """Draw the matrix and its control; the entries where zero is predicted are hatched."""
    k = len(leakage.names)
    control = np.array([estimate.value for estimate in leakage.control])
    grid = np.column_stack([leakage.value, np.full(k, np.nan), control])
    side = 0.75 * min(k, 12)
    figure = Figure(figsize=(side + 4, side + 1.6), layout="constrained")
    axes = figure.add_subplot()
    top = np.nanmax(grid)
    image = axes.imshow(grid, cmap="cividis", vmin=0, vmax=top, aspect="auto")
    stairs = [(j + 0.5, i + 0.5) for j in range(k - 1) for i in (j - 1, j)]
    if stairs:
        corners = [*stairs, (k - 0.5, k - 1.5), (k - 0.5, -0.5)]
        zone = Polygon(corners, fill=False, hatch="//", edgecolor="0.75", linewidth=2)
        axes.add_patch(zone)
    if k <= 12:
        for (i, j), value in np.ndenumerate(grid):
            if not np.isnan(value):
                colour = "black" if value > 0.6 * top else "white"
                box = {"facecolor": image.cmap(value / top), "edgecolor": "none", "pad": 1.5}
                axes.text(j, i, f"{value:.2g}", ha="center", va="center", color=colour, bbox=box)
    shown = range(0, k, -(-k // 12))
    labels = [leakage.names[i] for i in shown]
    axes.set_xticks([*shown, k + 1], [*labels, "all"], rotation=45, ha="right")
    axes.set_yticks(shown, labels)
    changed = "redrawn" if leakage.way == "redraw" else "moved by a unit"
    axes.set_xlabel(f"latent group {changed}, in the order of generation")
    axes.set_ylabel("data group, in the order of generation")
    figure.colorbar(image, label="RMS change of the data group\n(stds of the group)")
    title = f"n = {leakage.n}"
    if stairs:
        title += f"; hatched: zero {'presumed' if leakage.presumed else 'predicted'}"
    if (worst := leakage.largest_forbidden) is not None:
        e = worst.estimate
        title += f", largest {e.value:.2g} [{e.low:.2g}, {e.high:.2g}]"
    axes.set_title(title, fontsize="medium")
    return figure


def draw_dependence(dependence: Mapping[str, list[NoiseDependence]]) -> Figure:
    """Draw how far u depends on noise, over the share of noise in the moving group."""
    figure = new_figure(3.2)
    axes = figure.add_subplot()
    groups = list(dict.fromkeys(row.group for row in dependence["model"]))[:6]
    for who, rows in dependence.items():
        for number, group in enumerate(groups):
            own = [row for row in rows if row.group == group]
            colour = COLOURS[number % len(COLOURS)]
            error_bars(
                axes, [row.s for row in own], [row.moving for row in own], color=colour,
                marker=MARKERS[number % len(MARKERS)], capsize=2, label=f"{who}, {group} moving",
                markerfacecolor=colour if who == "model" else "white",
                linestyle="-" if who == "model" else "--",
            )  # fmt: skip
    axes.set_xlabel("s, share of noise in the moving group")
    axes.set_ylabel("share of u that depends\non groups still noise")
    axes.set_ylim(-0.003, max(axes.get_ylim()[1], 0.1))  # so that rounding does not look large
    axes.legend(frameon=False, fontsize="small")
    return figure
