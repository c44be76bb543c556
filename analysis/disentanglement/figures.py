"""Pictures of the analysis ``disentanglement``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from gdm_repr.analysis.disentanglement.estimate import LatentScore
from gdm_repr.analysis.report.figures import COLOURS, MARKERS, error_bars, new_figure, panel_grid


def draw_scores(found: Mapping[tuple[str, str], Sequence[LatentScore]]) -> Figure:
    """Draw scores with intervals over their null: a panel a score, a row a band."""
    bands = list(dict.fromkeys(band for _, band in found))
    kinds = list(dict.fromkeys(s.name for scores in found.values() for s in scores))
    sources = list(dict.fromkeys(of for of, _ in found))
    columns = min(3, len(kinds))
    figure = new_figure(0.6 + -(-len(kinds) // columns) * (1 + 0.35 * len(bands)))
    panels = panel_grid(figure, len(kinds), columns, sharey=True)
    for axes, kind in zip(panels.ravel(), kinds, strict=False):
        for number, of in enumerate(sources):
            for place, band in enumerate(bands):
                for s in found.get((of, band), []):
                    if s.name != kind:
                        continue
                    y = place + (0.6 * (number + 0.5) / len(sources) - 0.3)
                    axes.plot([0, s.null_high], [y, y], color="0.8", linewidth=5, zorder=0)
                    error_bars(
                        axes, [y], [s.estimate], level=True, fmt=MARKERS[number],
                        color=COLOURS[number], markersize=5, capsize=2, label=of,
                    )  # fmt: skip
        axes.set_yticks(range(len(bands)), bands)
        axes.set_title(kind, fontsize="medium")
        axes.set_xlabel("nats" if kind in ("gaussian_tc", "mutual_information") else "score")
    panels[0, 0].invert_yaxis()
    drawn = [axes.get_legend_handles_labels() for axes in panels.ravel()]
    legend = {name: handle for pair in drawn for handle, name in zip(*pair, strict=True)}
    figure.legend(
        legend.values(), legend.keys(), loc="outside lower center", ncols=3, frameon=False
    )
    return figure
