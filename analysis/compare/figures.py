"""Pictures of a comparison: each metric's means, quality against cost, and sheets side by side."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gdm_repr.analysis.compare.choices import Point
from gdm_repr.analysis.compare.statistics import SeedMean
from gdm_repr.analysis.report.figures import COLOURS, WIDTH, new_figure, panel_grid
from gdm_repr.pictures import LabelledSheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox
    from PIL.Image import Image

PANELS = 6  # metrics drawn, at most
DRAWN = 24  # choices drawn with their names, at most
WRITTEN_OUT = 10  # labels beside their points; of more choices, or longer ones, numbers
_RINGS = (9, 16, 26, 40, 60, 85)  # distances of a label from its point, in points
_LONG = 30
_SHEET_WIDTH = 1600
_WIDE = 3.0  # from this ratio of the sides on, pictures stand below each other,
_FEW = 8  # if they are not more than these
_GAP = 12


Place = tuple[float, float]


@dataclass(frozen=True)
class Panel:
    """One metric of all choices.

    Attributes:
        title: the metric, and on a line of its own what is better.
        means: by choice; None where it has no value.
        values: single values by choice.
        floor: what a perfect model would reach on average, if known.
    """

    title: str
    means: Mapping[str, SeedMean | None]
    values: Mapping[str, Sequence[float]]
    floor: float | None


def draw_panels(panels: Sequence[Panel]) -> Figure:
    """Draw means with intervals, one panel a metric, one row a choice; seeds as small dots."""
    shown = panels[:PANELS]
    labels = list(shown[0].means)
    across = min(2, len(shown))
    down = math.ceil(len(shown) / across)
    figure = new_figure(0.4 + down * (0.9 + 0.22 * len(labels)), WIDTH * 1.2)
    grid = panel_grid(figure, len(shown), across, sharey=True, gridspec_kw={"hspace": 0.04})
    for axes, panel in zip(grid.flat, shown, strict=False):
        found = [
            (row, label, mean) for row, label in enumerate(labels) if (mean := panel.means[label])
        ]
        if found:
            dots = [(value, row + 0.22) for row, label, _ in found for value in panel.values[label]]
            axes.plot(*zip(*dots, strict=True), ".", color="0.55", markersize=4)
            rows, ends = [row for row, _, _ in found], [_ends(mean) for _, _, mean in found]
            axes.hlines(rows, *zip(*ends, strict=True), color=COLOURS[0], linewidth=1.5)
            means = [mean.mean.value for _, _, mean in found]
            axes.plot(means, rows, "o", color=COLOURS[0], markersize=5)
        if panel.floor is not None:
            axes.axvline(panel.floor, color=COLOURS[2], linestyle="--", linewidth=1, label="floor")
            axes.legend(frameon=False, fontsize="x-small")
        axes.set_yticks(range(len(labels)), labels, fontsize="small")
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.locator_params(axis="x", nbins=5)
        axes.set_title(panel.title, fontsize="small", loc="left")
        axes.tick_params(axis="x", labelsize="small")
        axes.grid(axis="y", color="0.92", linewidth=0.8)
        axes.set_axisbelow(True)
    return figure


def draw_pareto(points: Sequence[Point], cost: str, quality: str, *, higher: bool) -> Figure:
    """Draw choices by cost and quality with 95 % intervals, those that none dominates joined.

    Args:
        points: the choices.
        cost: text of the x axis.
        quality: text of the y axis.
        higher: whether higher is better on the y axis.
    """
    figure = new_figure(4.2)
    axes = figure.add_subplot()
    front = sorted((p for p in points if p.on_front), key=lambda p: p.cost.mean.value)
    axes.step(
        *zip(*map(_centre, front), strict=True),
        where="post",
        color=COLOURS[0],
        linewidth=1,
        alpha=0.5,
        zorder=1,
    )
    for on_front, colour, inside in ((False, "0.55", "white"), (True, COLOURS[0], COLOURS[0])):
        own = [p for p in points if p.on_front is on_front]
        if not own:
            continue
        xs, ys = zip(*map(_centre, own), strict=True)
        bars_x, bars_y = ([_ends(p.cost) for p in own], [_ends(p.quality) for p in own])
        axes.hlines(ys, *zip(*bars_x, strict=True), color=colour, linewidth=1, alpha=0.8, zorder=2)
        axes.vlines(xs, *zip(*bars_y, strict=True), color=colour, linewidth=1, alpha=0.8, zorder=2)
        axes.plot(xs, ys, "o", markersize=6, color=colour, markerfacecolor=inside, zorder=3)
    costs = [p.cost.mean.value for p in points]
    if min(costs) > 0 and max(costs) > 10 * min(costs):
        axes.set_xscale("log")
    axes.margins(0.12, 0.12)
    axes.set_xlabel(cost)
    axes.set_ylabel(quality)
    named = (points if len(points) <= DRAWN else front)[:DRAWN]
    written_out = len(named) <= WRITTEN_OUT and max(len(p.label) for p in named) <= _LONG
    names = [p.label if written_out else str(n) for n, p in enumerate(named, 1)]
    if not written_out:
        key = [f"{n}  {p.label}" for n, p in enumerate(named, 1)]
        handles = [axes.plot([], [], " ")[0] for _ in key]
        figure.set_figheight(4.2 + 0.17 * math.ceil(len(key) / 2))
        figure.legend(
            handles,
            key,
            loc="outside lower left",
            ncols=2 if max(map(len, key)) <= 50 else 1,
            fontsize="x-small",
            frameon=False,
            handlelength=0,
            handletextpad=0,
        )
    places = [_centre(point) for point in named]
    bars = []
    for each, (x, y) in zip(points, map(_centre, points), strict=True):
        (left, right), (low, high) = _ends(each.cost), _ends(each.quality)
        bars += [((left, y), (right, y)), ((x, low), (x, high))]
    for (x, y), (to_x, to_y) in itertools.pairwise(map(_centre, front)):
        bars += [((x, y), (to_x, y)), ((to_x, y), (to_x, to_y))]
    label_points(axes, places, names, bars)
    better = "top left" if higher else "bottom left"
    axes.set_title(f"better: {better}", fontsize="small", loc="right", color="0.4")
    return figure


def label_points(
    axes: Axes,
    places: Sequence[Place],
    names: Sequence[str],
    bars: Sequence[tuple[Place, Place]] = (),
) -> list[Bbox]:
    """Write names beside points where nothing else is, and return the names' boxes.

    Of places around a point, the nearest that is free of points, bars and other names is taken, or
    that with the least below it; a line leads to one that is far. The axes must not be rescaled
    afterwards.

    Args:
        axes: with its scales and limits set.
        places: the points.
        names: one for each.
        bars: ends of level or upright lines.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    figure = axes.get_figure(root=True)
    assert figure is not None
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]  # lays the axes out
    renderer: RendererAgg = canvas.get_renderer()  # type: ignore[no-untyped-call]
    point = figure.dpi / 72
    centres = axes.transData.transform(np.asarray(places, float))
    taken = [Bbox.from_extents(*(c - 5 * point), *(c + 5 * point)) for c in centres]
    for start, end in bars:
        corners = np.sort(axes.transData.transform(np.asarray([start, end], float)), axis=0)
        taken.append(Bbox(corners).padded(point))
    frame, boxes = axes.get_window_extent(renderer), []
    for centre, place, name in zip(centres, places, names, strict=True):
        note = axes.annotate(
            name,
            place,
            xytext=(0, 0),
            textcoords="offset points",
            fontsize="small",
            annotation_clip=False,
            zorder=4,
        )
        size = note.get_window_extent(renderer)
        best: tuple[float, float, tuple[float, float], Bbox] | None = None
        angles = np.deg2rad([30, -30, 150, -150, 90, -90, 0, 180, 60, -60, 120, -120])
        for radius, angle in itertools.product(_RINGS, angles):
            dx, dy = radius * math.cos(angle), radius * math.sin(angle)
            left = dx - (0 if dx > 1 else size.width / point / (1 if dx < -1 else 2))
            low = dy - size.height / point / 2
            corner = centre + np.array([left, low]) * point
            box = Bbox.from_bounds(corner[0], corner[1], size.width, size.height).padded(
                1.5 * point
            )
            crossed = sum(_shared(box, other) for other in taken)
            outside = box.width * box.height - _shared(box, frame)
            cost = crossed + outside
            if best is None or cost < best[0] - 1e-6:
                best = (cost, radius, (left, low), box)
            if cost <= 1e-6:
                break
        assert best is not None
        note.set_position(best[2])
        if best[1] > _RINGS[0]:
            nearest = np.clip(centre, best[3].min, best[3].max)
            end = (nearest - centre) / point
            line = {"arrowstyle": "-", "color": "0.6", "linewidth": 0.6, "shrinkA": 0}
            axes.annotate("", place, end, textcoords="offset points", arrowprops=line, zorder=1)
        taken.append(best[3])
        boxes.append(best[3])
    return boxes


def _shared(a: Bbox, b: Bbox) -> float:
    """Return the area that two boxes share."""
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return float(max(0.0, width) * max(0.0, height))


def _centre(point: Point) -> Place:
    return point.cost.mean.value, point.quality.mean.value


def _ends(found: SeedMean) -> tuple[float, float]:
    """Return an interval's ends; the value itself where one seed gives none."""
    if found.n == 1:
        return found.mean.value, found.mean.value
    return found.mean.low, found.mean.high


def side_by_side(pictures: Mapping[str, Image]) -> LabelledSheet:
    """Put pictures under their labels, in up to three columns; few wide ones below each other.

    They keep their shape: large ones shrink to a column's width, small ones grow by a whole factor.
    """
    from PIL import Image, ImageDraw, ImageFont

    wide = max(p.width / p.height for p in pictures.values()) >= _WIDE and len(pictures) <= _FEW
    columns = 1 if wide else 2 if len(pictures) in (1, 2, 4) else 3
    width = (_SHEET_WIDTH - (columns + 1) * _GAP) // columns
    font = ImageFont.load_default(20)
    line = 26
    tiles = []
    for label, picture in pictures.items():
        image = picture.convert("RGB")
        factor = width // image.width
        if factor >= 1:
            size = (image.width * factor, image.height * factor)
            image = image.resize(size, Image.Resampling.NEAREST)
        else:
            size = (width, max(1, round(image.height * width / image.width)))
            image = image.resize(size, Image.Resampling.LANCZOS)
        tiles.append((label, image))
    texts = {label: _fitting(label, width, font.getlength) for label in pictures}
    pitch = _GAP + max(
        max(image.width, math.ceil(font.getlength(texts[label]))) for label, image in tiles
    )
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    heights = [line + max(image.height for _, image in row) + _GAP for row in rows]
    size = (_GAP + min(columns, len(tiles)) * pitch, _GAP + sum(heights))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    y = _GAP
    for row, height in zip(rows, heights, strict=True):
        for column, (label, image) in enumerate(row):
            x = _GAP + column * pitch
            draw.text((x, y), texts[label], fill="black", font=font)
            sheet.paste(image, (x, y + line))
        y += height
    return LabelledSheet(np.asarray(sheet), 0, pitch)


def _fitting(label: str, width: float, length: Callable[[str], float]) -> str:
    """Cut a label that is longer than its column."""
    while length(label) > width and len(label) > 1:
        label = f"{label.removesuffix('…')[:-1]}…"
    return label
