"""Pictures of partial reconstruction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gdm_repr.analysis.intervals.estimate import Estimate
from gdm_repr.analysis.reconstruction.measure import Reconstruction
from gdm_repr.analysis.reconstruction.partial import NOISE
from gdm_repr.analysis.reconstruction.summary import LEVEL, LIKENESS, MODEL, WAYS, Summary
from gdm_repr.analysis.report.figures import legend_below, line_with_band, mark_bands, new_figure
from gdm_repr.pictures import LabelledSheet, label_sheet

COLUMNS = 6  # of m on the sheet, about
UNITS = {"psnr": "PSNR (dB)", "ssim": "SSIM"}


def draw_curves(summary: Summary, ends: Mapping[str, int]) -> Figure:
    """Draw every measure against m, a panel each.

    Args:
        summary: the curves.
        ends: how many latents are made when each band is done.
    """
    figure, panels = _panels(list(summary.curves), ends)
    for axes, (name, by_way) in zip(panels, summary.curves.items(), strict=False):
        for number, (way, c) in enumerate(by_way.items()):
            line_with_band(
                axes, c.kept, c.points, number=number, label=WAYS[way], dashed=way not in MODEL
            )
            if way == "mean":  # it often lies on that of zeros, which has to be seen below
                axes.lines[-1].set(linestyle=":", marker="")
        if name in LIKENESS:
            _fit_all_but_the_last(axes, [c.points for c in by_way.values()])
        else:
            axes.axhline(LEVEL, color="0.5", linewidth=0.8)
            axes.set_ylim(0, None)
        axes.set_ylabel(UNITS.get(name, "distance (1: unrelated images)"))
    _legend(figure, panels, len(summary.curves))
    return figure


def draw_gaps(summary: Summary, ends: Mapping[str, int]) -> Figure:
    """Draw the model's values less the controls', a panel a measure."""
    figure, panels = _panels(list(summary.gaps), ends)
    for axes, (name, by_pair) in zip(panels, summary.gaps.items(), strict=False):
        kept = next(iter(summary.curves[name].values())).kept
        for number, (pair, gaps) in enumerate(by_pair.items()):
            line_with_band(
                axes, kept, gaps, number=number, label=",\nless ".join(WAYS[way] for way in pair)
            )
        if name in LIKENESS:
            _fit_all_but_the_last(axes, list(by_pair.values()))
        low, high = axes.get_ylim()
        low, high = min(low, 0), max(high, 0)
        better = (0, high) if name in LIKENESS else (low, 0)
        axes.axhspan(*better, color="0.93", zorder=0)
        axes.axhline(0, color="0.4", linewidth=0.8)
        axes.set_ylim(low, high)
        axes.set_ylabel(f"difference of {UNITS.get(name, 'relative distance')}")
    _legend(figure, panels, len(summary.gaps))
    return figure


def draw_sheet(found: Reconstruction, rows: Sequence[int]) -> LabelledSheet:
    """Draw images, and what is rebuilt of them at the bands' ends and at a few m between.

    Args:
        found: what was measured.
        rows: of the store, one an image.
    """
    decoder, measured = found.decoder, found.measured
    chosen = shown_columns(measured.kept, list(found.ends.values()))
    x, z = found.subject.images(rows), found.subject.z(rows)
    few = replace(decoder, kept=[decoder.kept[i] for i in chosen])
    rebuilt = {WAYS[fill]: few.images(z, rows, fill).cpu() for fill in ("zero", NOISE)}
    for name, code in found.controls.codes.items():
        kept = [measured.values[i] for i in chosen]
        own = [code.keep(x.to(z.device), min(v, code.size)).clamp(-1, 1) for v in kept]
        rebuilt[WAYS[name]] = torch.stack(own).cpu()
    pictures, labels = [], []
    for i in range(len(rows)):
        first = x[i : i + 1]
        for label, y in rebuilt.items():
            pictures.append(torch.cat([first, y[:, i]]).numpy())
            labels.append(label)
            first = torch.ones_like(first)  # white: the image stands beside its first row only
    columns = ["image", *(f"m = {measured.kept[i]}" for i in chosen)]
    return label_sheet(pictures, labels, columns, tile=64)


def shown_columns(kept: Sequence[int], ends: Sequence[int]) -> list[int]:
    """Return positions in ``kept``: of 0, the first bands' ends, the last, and some between.

    >>> shown_columns([0, 1, 4, 6, 9, 16, 22, 40, 64], [6, 22, 64])
    [0, 2, 3, 4, 5, 6, 8]
    """
    must = {0, len(kept) - 1, *(kept.index(end) for end in ends[: COLUMNS - 2])}
    spare = [i for i in range(len(kept)) if i not in must]
    more = np.linspace(0, len(spare) - 1, max(0, min(COLUMNS + 1 - len(must), len(spare))) + 2)
    return sorted(must | {spare[round(place)] for place in more[1:-1].tolist()})


def _panels(names: Sequence[str], ends: Mapping[str, int]) -> tuple[Figure, list[Axes]]:
    """Return a panel for each measure, two in a row; the last may be left for the legend."""
    down = -(-len(names) // 2)
    figure = new_figure(1.1 + 2.3 * down if len(names) % 2 == 0 else 0.4 + 2.3 * down)
    grid = figure.subplots(down, 2, squeeze=False).ravel().tolist()
    for axes, name in zip(grid, names, strict=False):
        mark_bands(axes, ends, root=True)
        axes.set_xlabel("m, latents kept")
        axes.set_title(UNITS.get(name, name).partition(" (")[0], fontsize="medium", pad=16)
    return figure, grid


def _legend(figure: Figure, panels: Sequence[Axes], used: int) -> None:
    """Put the legend into the panel that is left, or below all."""
    if used < len(panels):
        drawn = panels[0].get_legend_handles_labels()
        panels[used].set_axis_off()
        panels[used].legend(*drawn, loc="center left", frameon=False, fontsize="small")
    else:
        legend_below(figure, panels[0], 3)


def _fit_all_but_the_last(axes: Axes, curves: Sequence[Sequence[Estimate]]) -> None:
    """Leave the last point out of the scale: everything kept is exact, far above all others."""
    ends = np.array([(each.low, each.high) for points in curves for each in points[:-1]])
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
