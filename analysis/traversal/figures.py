"""Pictures of a traversal's atlas."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gdm_repr.analysis.report.figures import COLOURS, WIDTH, error_bars, legend_below, new_figure
from gdm_repr.analysis.subject import Anchors, Subject
from gdm_repr.analysis.traversal.atlas import LEVEL, Atlas
from gdm_repr.analysis.traversal.directions import Direction
from gdm_repr.edit.operations import Edit, decode_edits
from gdm_repr.grouping import Grouping
from gdm_repr.pictures import LabelledSheet, label_sheet

LABELLED = 48  # elements named on an axis
BANDS = 6  # bands told apart in the bars; those further down share one colour
MAPS, MAP_COLUMNS = 24, 8
PANELS = {
    "straightness": "straightness",
    "monotonicity": "monotonicity",
    "alike": "alike (cosine of images)",
    "drift": "drift (another image = 1)",
}


def draw_effects(atlas: Atlas) -> Figure:
    """Draw each element's effect, with that of random directions and of the raw coefficients."""
    figure = new_figure(3.2)
    axes = figure.subplots()
    _draw_measure(axes, atlas, "effect", "effect per unit\n(another image = 1)")
    axes.set_ylim(0, None)
    axes.set_xlabel("element, by rank")
    axes.set_title(f"{atlas.feature}, n = {atlas.n}", fontsize="medium")
    legend_below(figure, axes, 2)
    return figure


def draw_measures(atlas: Atlas) -> Figure:
    """Draw what paths look like and how far they lead, a panel a measure."""
    figure = new_figure(5.2)
    panels = figure.subplots(2, 2, sharex=True)
    for axes, (kind, label) in zip(panels.flat, PANELS.items(), strict=True):
        _draw_measure(axes, atlas, kind, label)
        low, high = axes.get_ylim()
        axes.set_ylim(min(0, low), max(1.05, high))
    for axes in panels[-1]:
        axes.set_xlabel("element, by rank")
    legend_below(figure, panels[0, 0], 2)
    return figure


def _draw_measure(axes: Axes, atlas: Atlas, kind: str, label: str) -> None:
    """Draw one measure of all elements over what random directions give."""
    null = [entry.numbers[kind].value for entry in atlas.random]
    places = np.arange(len(atlas.entries))
    axes.axhspan(min(null), max(null), color="0.88", label=f"{len(null)} random directions: range")
    axes.axhline(atlas.average[kind].value, color="0.5", linewidth=1, label="and mean")
    small = len(places) > LABELLED
    for chosen, face, name in (
        ([e.q <= LEVEL for e in atlas.entries], COLOURS[0], f"elements, effect: q <= {LEVEL}"),
        ([e.q > LEVEL for e in atlas.entries], "white", f"elements, effect: q > {LEVEL}"),
    ):
        if any(chosen):
            numbers = [e.numbers[kind] for e, own in zip(atlas.entries, chosen, strict=True) if own]
            error_bars(
                axes, places[chosen], numbers, fmt="o", color=COLOURS[0], markerfacecolor=face,
                markersize=2 if small else 5, linewidth=0.6 if small else 1.5, label=name,
            )  # fmt: skip
    axes.plot(
        places,
        [entry.raw[kind].value for entry in atlas.entries],
        "x",
        color=COLOURS[1],
        markersize=3 if small else 5,
        label="the images' own coefficients",
    )
    _name_elements(axes, atlas)
    axes.set_ylabel(label)


def draw_shares(atlas: Atlas, grouping: Grouping, band: Sequence[int]) -> Figure:
    """Draw where in the spectrum each element's change falls.

    Args:
        atlas: the elements.
        grouping: the groups.
        band: those that the elements are of.
    """
    own = np.array([entry.numbers["own"].value for entry in atlas.entries])
    shares = np.array([[share.value for share in entry.shares] for entry in atlas.entries])
    others = [g for g in grouping.order if g not in band and shares[:, g].max() > 0]
    shown, rest = others[:BANDS], others[BANDS:]
    parts = [
        ("its own coefficient", own),
        ("rest of its band", np.clip(shares[:, list(band)].sum(1) - own, 0, None)),
        *((f"band {grouping.names[group]}", shares[:, group]) for group in shown),
    ]
    if rest:
        parts.append(("all other bands", shares[:, rest].sum(1)))
    colours = matplotlib.colormaps["cividis"](np.linspace(0, 1, len(parts)))
    figure = new_figure(3.4)
    axes = figure.subplots()
    places, bottom = np.arange(len(own)), np.zeros(len(own))
    for (label, part), colour in zip(parts, colours, strict=True):
        axes.bar(
            places, 100 * part, 0.8, bottom=100 * bottom, color=colour, edgecolor="0.3",
            linewidth=0.5 if len(places) <= LABELLED else 0, label=label,
        )  # fmt: skip
        bottom += part
    _name_elements(axes, atlas)
    axes.set_ylim(0, 100)
    axes.set_xlabel("element, by rank")
    axes.set_ylabel("share of the squared change (%)")
    axes.set_title(f"n = {atlas.n}", fontsize="medium")
    legend_below(figure, axes, 4)
    return figure


def draw_maps(atlas: Atlas) -> Figure:
    """Draw where in the image each element's change falls, the first ones in rank."""
    count = min(len(atlas.maps), MAPS)
    columns = min(count, MAP_COLUMNS)
    rows = -(-count // columns)
    figure = new_figure(0.4 + rows * (0.2 + 0.85 * WIDTH / max(columns, 4)))
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    top = float(atlas.maps[:count].max())
    image = None
    for axes in panels:
        axes.set_axis_off()
    for axes, entry, values in zip(panels, atlas.entries[:count], atlas.maps, strict=False):
        height, width = values.shape
        image = axes.imshow(values, cmap="cividis", vmin=0, vmax=top, interpolation="nearest")
        column = entry.numbers["column"].value * width - 0.5
        row = entry.numbers["row"].value * height - 0.5
        axes.plot(column, row, "+", color="white", markersize=8, markeredgewidth=1.5)
        axes.set_title(entry.name, fontsize="small")
    assert image is not None
    figure.colorbar(image, ax=figure.axes, label="|dx/dv|, x in [-1, 1]", fraction=0.03)
    return figure


def _name_elements(axes: Axes, atlas: Atlas) -> None:
    count = len(atlas.entries)
    shown = range(0, count, -(-count // LABELLED))
    names = [atlas.entries[i].name for i in shown]
    crowded = len(names) > 16 or max(map(len, names)) > 3
    axes.set_xticks(list(shown), names, rotation=90 if crowded else 0, fontsize="small")
    axes.set_xlim(-0.6, count - 0.4)


def draw_sheets(
    subject: Subject,
    anchors: Sequence[Anchors],
    directions: Sequence[Direction],
    labels: Sequence[str],
    values: Sequence[float],
    *,
    moving: int,
    batch_size: int = 64,
) -> list[tuple[LabelledSheet, LabelledSheet]]:
    """Draw the first of each anchors along directions, a sheet each, a row a direction.

    Args:
        subject: model and decoder.
        anchors: of one sheet each.
        directions: rows.
        labels: of the rows.
        values: columns, beside the unedited image.
        moving: rows of the second sheet.
        batch_size: images decoded together.

    Returns:
        For each anchor a sheet of all rows, and one of the first ones, for an animation.
    """
    generation, basis = subject.generation, subject.model.basis
    z = torch.cat([each.z[:1] for each in anchors])
    states, data = generation.generate(z)
    made = [
        Edit(direction.name, a, place, direction.support)
        for a in range(len(z))
        for direction in directions
        for place in direction.go(z[a : a + 1], values)[0]
    ]
    x = basis.inverse(decode_edits(generation, states, made, batch_size)).cpu()
    original = basis.inverse(data).cpu()
    x = x.reshape(len(z), len(directions), len(values), *x.shape[1:])
    columns = ["unedited", *(f"{value:+.3g}" if value else "0" for value in values)]
    tile = 64 if len(values) <= 9 else 48

    def sheet(a: int, count: int) -> LabelledSheet:
        rows = [torch.cat([original[a : a + 1], row]).numpy() for row in x[a, :count]]
        return label_sheet(rows, labels[:count], columns, tile=tile)

    return [(sheet(a, len(directions)), sheet(a, moving)) for a in range(len(z))]
