"""Pictures of sample quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from gdm_repr.analysis.intervals.estimate import Estimate
from gdm_repr.analysis.intervals.jackknife import Score
from gdm_repr.analysis.report.figures import (
    COLOURS,
    MARKERS,
    WIDTH,
    error_bars,
    legend_below,
    line_with_band,
    new_figure,
)
from gdm_repr.analysis.sample_quality.denoising_loss import GroupLoss
from gdm_repr.pictures import LabelledSheet, label_sheet

LOOKS = {"samples": 0, "gaussian": 1, "noise": 3, "floor": 2}  # colour and marker
LABELS = {"gaussian": "Gaussian", "floor": "floor: real images"}
SAMPLE_ROWS = 3  # of the sheet
PANELS = (
    ("frechet", "Frechet distance / floor"),
    ("kid", "KID / error of the floor"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("density", "density"),
    ("coverage", "coverage"),
)


def draw_scores(scores: Mapping[str, Mapping[str, Mapping[str, Score]]]) -> Figure:
    """Draw each score in a panel, features side by side, sets in colours."""
    figure = new_figure(4.6, WIDTH * 1.15)
    panels = figure.subplots(2, 3).ravel()
    for axes, (name, title) in zip(panels, PANELS, strict=True):
        own = {feature: by[name] for feature, by in scores.items()}
        if name == "kid":
            own = {feature: _in_widths(by) for feature, by in own.items()}
        _draw(axes, own, ratio=name == "frechet")
        if name == "kid":
            axes.set_yscale("symlog", linthresh=1)
            axes.axhline(0, color="0.5", linewidth=0.8)
            axes.margins(y=0.15)
        elif name != "frechet":
            axes.set_ylim(-0.04 * axes.get_ylim()[1], None)
        axes.set_title(title, fontsize="medium")
    legend_below(figure, panels[1], 4)
    return figure


def draw_sliced(sliced: Mapping[str, Mapping[str, Score]]) -> Figure:
    """Draw the sliced distances over their floors, of pixels and of every band."""
    figure = new_figure(3.2, max(WIDTH, 0.9 * len(sliced)))
    axes = figure.add_subplot()
    _draw(axes, sliced, ratio=True)
    axes.set_ylabel("sliced Wasserstein / floor")
    axes.legend(frameon=False, fontsize="small")
    return figure


def draw_losses(losses: Sequence[GroupLoss]) -> Figure:
    """Draw every group's loss against its angle."""
    figure = new_figure(3.2)
    axes = figure.add_subplot()
    for number, each in enumerate(losses[: len(COLOURS)]):
        angles = [2 * theta / np.pi for theta in each.theta]
        line_with_band(axes, angles, each.at, number=number, label=each.group)
    axes.axhline(1, color="0.5", linewidth=0.8)
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("angle of the moving group, from data (0) to noise (1)")
    axes.set_ylabel("denoising loss\n(1: independent Gaussian)")
    axes.legend(frameon=False, fontsize="small", title="group", title_fontsize="small")
    return figure


def draw_sheet(images: Mapping[str, Tensor], columns: int, seed: int) -> LabelledSheet:
    """Draw the first samples, real images and controls."""
    n = len(images["samples"])
    columns = min(columns, n)
    rows, labels = [], []
    for start in range(0, min(SAMPLE_ROWS * columns, n - n % columns), columns):
        rows.append(images["samples"][start : start + columns].numpy())
        labels.append(f"samples\nseeds {seed + start} to {seed + start + columns - 1}")
    for start in range(0, min((SAMPLE_ROWS - 1) * columns, n - n % columns), columns):
        rows.append(images["real"][start : start + columns].numpy())
        labels.append("real images")
    for name in ("gaussian", "noise"):
        rows.append(images[name][:columns].numpy())
        labels.append(f"control:\n{LABELS.get(name, name)}")
    return label_sheet(rows, labels, [""] * columns, tile=64)


def _draw(axes: Axes, scores: Mapping[str, Mapping[str, Score]], *, ratio: bool) -> None:
    """Draw one score: places are features, sets stand beside each other in each."""
    names = list(scores)
    sets = [*next(iter(scores.values())), *(() if ratio else ("floor",))]
    for number, of in enumerate(sets):
        x, found = [], []
        for place, by in enumerate(scores.values()):
            estimate = _estimate(by, of, ratio)
            if estimate is not None:
                x.append(place + 0.15 * (number - (len(sets) - 1) / 2))
                found.append(estimate)
        look = LOOKS[of]
        error_bars(
            axes, x, found, color=COLOURS[look], marker=MARKERS[look], linestyle="none",
            capsize=2, markersize=5, label=LABELS.get(of, of),
        )  # fmt: skip
    if ratio:
        axes.set_yscale("log")
        axes.axhline(1, color=COLOURS[LOOKS["floor"]], linewidth=1)
    axes.set_xticks(range(len(names)), names, fontsize="small")
    axes.set_xlim(-0.6, len(names) - 0.4)


def _in_widths(by: Mapping[str, Score]) -> dict[str, Score]:
    """Return scores in units of half the floor's interval, so that features share an axis."""
    floor = next(iter(by.values())).floor
    assert floor is not None  # there are always other real images
    half = (floor.high - floor.low) / 2 or 1.0
    scaled = Estimate(floor.value / half, floor.low / half, floor.high / half)
    return {
        of: Score(s.value / half, s.low / half, s.high / half, s.n, scaled) for of, s in by.items()
    }


def _estimate(by: Mapping[str, Score], of: str, ratio: bool) -> Estimate | None:
    if of == "floor":
        return next(iter(by.values())).floor
    return by[of].ratio if ratio else by[of]
