"""Pictures of band variance."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure

from gdm_repr.analysis.band_variance.measure import LEVEL, BandVariance
from gdm_repr.analysis.draws import fresh_noise
from gdm_repr.analysis.report.figures import (
    COLOURS,
    MARKERS,
    WIDTH,
    error_bars,
    legend_below,
    line_with_band,
    mark_bands,
    new_figure,
)
from gdm_repr.edit.operations import vary
from gdm_repr.masks import group_elements
from gdm_repr.pictures import LabelledSheet, label_sheet

DRAWS = 8  # columns of the sheet
ROWS = 6  # of the sheet, at most


def draw_curves(found: BandVariance) -> Figure:
    """Draw the variance left against m, a panel a feature."""
    figure = new_figure(3.4, max(WIDTH, 3.2 * len(found.left)))
    panels = figure.subplots(1, len(found.left), squeeze=False, sharey=True)[0]
    for axes, (name, pair) in zip(panels, found.left.items(), strict=True):
        for number, (of, label) in enumerate(zip(pair, ("latents", "control: DCT"), strict=True)):
            c = of.curve
            line_with_band(axes, c.kept, c.points, number=number, label=label, dashed=number > 0)
        mark_bands(axes, found.ends, root=True)
        axes.axhline(LEVEL, color="0.5", linewidth=0.8)
        axes.set_ylim(0, None)
        axes.set_xlabel("m, latents fixed")
        axes.set_title(name, fontsize="medium", pad=16)
    panels[0].set_ylabel("variance left (share of free)")
    panels[0].legend(frameon=False, fontsize="small")
    return figure


def draw_shares(found: BandVariance) -> Figure:
    """Draw each band's two shares, features and controls side by side."""
    bands = list(found.ends)
    figure = new_figure(max(2.8, 1.4 + 0.25 * len(bands) * len(found.left)))
    panels = figure.subplots(1, 2, sharey=True)
    places, slots = np.arange(len(bands)), 2 * len(found.left)
    for axes, way in zip(panels, ("drawn", "fixed"), strict=True):
        slot = 0
        for number, (feature, pair) in enumerate(found.left.items()):
            colour = COLOURS[number % len(COLOURS)]
            for control, of in enumerate(pair):
                error_bars(
                    axes, places + (slot + 0.5) / slots * 0.8 - 0.4, getattr(of, way),
                    level=True, unit=100, fmt=MARKERS[number % len(MARKERS)], color=colour,
                    markerfacecolor="white" if control else colour, markersize=5, capsize=2,
                    label=feature + ", control" * control,
                )  # fmt: skip
                slot += 1
        axes.set_xlim(0, None)
        axes.set_yticks(places, bands)
        axes.set_xlabel("variance left (% of free)")
        axes.set_title(f"only this band {way}", fontsize="medium")
    panels[0].invert_yaxis()
    panels[0].set_ylabel("band, in the order of generation")
    legend_below(figure, panels[0], 4)
    return figure


def draw_sheet(found: BandVariance) -> LabelledSheet:
    """Draw the first anchor, and draws with more and more bands fixed."""
    subject, z = found.subject, found.anchors.z[:1]
    generation, basis, grouping = subject.generation, subject.model.basis, subject.model.grouping
    noise = fresh_noise((z.shape[1], z.shape[2]), found.config.seed, 0, range(DRAWS)).to(z.device)
    original = basis.inverse(generation.decode(z))
    rows, labels = [], []
    for done in sorted(set(np.linspace(0, grouping.k - 1, ROWS).round().astype(int).tolist())):
        drawn = ~group_elements(grouping, grouping.order[:done])
        x = basis.inverse(generation.decode(vary(z, drawn, noise)[0]))
        rows.append(torch.cat([original, x]).cpu().numpy())
        last = grouping.names[grouping.order[done - 1]] if done else ""
        labels.append(f"fixed: up to {last}" if done else "fixed: nothing")
    return label_sheet(rows, labels, ["anchor", *(f"draw {i}" for i in range(DRAWS))], tile=64)
