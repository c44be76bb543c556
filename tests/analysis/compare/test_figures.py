"""Labels that overlap nothing, and pictures that keep their shape."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image

from gdm_repr.analysis.compare.choices import Point
from gdm_repr.analysis.compare.figures import (
    Panel,
    draw_panels,
    draw_pareto,
    label_points,
    side_by_side,
)
from gdm_repr.analysis.compare.statistics import SeedMean, seed_mean
from gdm_repr.analysis.report.figures import new_figure


def mean(*values: float) -> SeedMean:
    found = seed_mean(values)
    assert found is not None
    return found


@pytest.mark.parametrize("seed", range(3))
def test_labels_overlap_neither_each_other_nor_points(seed: int) -> None:
    rng = np.random.default_rng(seed)
    places = [(float(x), float(y)) for x, y in rng.uniform(0, 1, (8, 2))]
    places += [(x + 0.01, y) for x, y in places[:2]]  # nearly the same point
    axes = new_figure().add_subplot()
    axes.plot(*zip(*places, strict=True), "o")
    axes.margins(0.12)
    boxes = label_points(axes, places, [f"a choice {n}" for n in range(len(places))])
    assert len(boxes) == len(places)
    for a, b in itertools.combinations(boxes, 2):
        assert not a.overlaps(b)
    centres = axes.transData.transform(np.array(places))
    assert not any(box.contains(x, y) for box in boxes for x, y in centres)
    frame = axes.get_window_extent()
    assert all(frame.contains(x, y) for box in boxes for x, y in box.corners())


def test_many_choices_are_numbered() -> None:
    points = [
        Point(f"choice {n}", mean(n, n + 0.1), mean(1 / n, 1.1 / n), True) for n in range(1, 13)
    ]
    figure = draw_pareto(points, "seconds", "loss", higher=False)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()][::11] == [
        "1  choice 1",
        "12  choice 12",
    ]
    few = draw_pareto(points[:3], "seconds", "loss", higher=False)
    assert few.legends == []
    assert {text.get_text() for text in few.axes[0].texts} >= {"choice 1", "choice 3"}


def test_a_choice_of_one_seed_or_none_is_drawn_without_a_line() -> None:
    values = {"a": [1.0, 2.0], "b": [1.0], "c": []}
    means = {label: seed_mean(own) for label, own in values.items()}
    (axes,) = draw_panels([Panel("loss", means, values, 0.5)]).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b", "c"]
    assert axes.get_legend() is not None


def test_pictures_stand_side_by_side_as_they_are() -> None:
    red, green = (Image.new("RGB", (4, 4), colour) for colour in ("red", "green"))
    sheet = side_by_side({"a": red, "b": green}).pixels
    half = sheet.shape[1] // 2
    for part, own, other in ((sheet[:, :half], 0, 1), (sheet[:, half:], 1, 0)):
        pure = (part[..., own] > 100) & (part[..., other] == 0) & (part[..., 2] == 0)
        rows, columns = np.nonzero(pure)
        assert np.ptp(rows) == np.ptp(columns)  # a square stays a square
        assert (np.ptp(rows) + 1) % 4 == 0  # whole pixels
    strips = side_by_side({"a": red.resize((40, 4)), "b": green.resize((40, 4))}).pixels
    rows, columns = np.nonzero((strips == (255, 0, 0)).all(2))
    assert strips.shape[1] - 1 - columns.max() == columns.min()  # no margin but the gap
    below = np.nonzero((strips == (0, 128, 0)).all(2))[0]
    assert rows.max() < below.min()
    many = side_by_side({f"{n}": red.resize((40, 4)) for n in range(9)}).pixels
    for places in np.nonzero((many == (255, 0, 0)).all(2)):
        assert (np.diff(np.unique(places)) > 1).sum() == 2  # gaps between three rows, three columns
