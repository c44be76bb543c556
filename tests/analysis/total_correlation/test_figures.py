"""Figures show every result."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest

from gdm_repr.analysis.total_correlation.answers import Answer, answer
from gdm_repr.analysis.total_correlation.estimate import element_normality
from gdm_repr.analysis.total_correlation.figures import (
    correlation_picture,
    normality_figure,
    total_correlation_figure,
)
from gdm_repr.analysis.total_correlation.questions import Question

BANDS = {"low": (0, 2), "middle": (2, 8), "high": (8, 20)}
MIXED = np.random.default_rng(1).standard_normal((20, 20)) + 4 * np.eye(20)
Z = np.random.default_rng(0).standard_normal((300, 20)) @ MIXED
NOISE = np.random.default_rng(2).standard_normal((300, 20))


def test_the_picture_shows_every_pair_and_band() -> None:
    figure = correlation_picture({"latents": Z.astype(np.float32), "noise": NOISE}, BANDS)
    *panels, bar = figure.axes
    for axes, table in zip(panels, (Z, NOISE), strict=True):
        masked = axes.images[0].get_array()
        assert masked is not None
        expected = np.abs(np.corrcoef(table, rowvar=False))
        np.fill_diagonal(expected, np.nan)
        np.testing.assert_allclose(np.ma.filled(masked, np.nan), expected, atol=1e-5)
        assert len(axes.patches) == 3
        assert axes.images[0].get_clim() == panels[0].images[0].get_clim()  # one scale
    assert [label.get_text() for label in panels[0].get_xticklabels()] == list(BANDS)
    assert "0.113" in bar.get_xlabel()  # 1.96 / sqrt(300)
    figure.savefig(BytesIO(), format="svg")


def test_the_picture_refuses() -> None:
    with pytest.raises(ValueError, match=r"'all' = \[0, 21\) must lie within \[0, 20\)"):
        correlation_picture({"latents": Z}, {"all": (0, 21)})
    with pytest.raises(ValueError, match=r"columns \[2\] are constant"):
        correlation_picture({"latents": Z * (np.arange(20) != 2)}, BANDS)


def test_a_panel_for_each_question_and_a_dot_for_each_source() -> None:
    asked = [
        Question("low", "within low", ((0,), (1,))),
        Question("between_bands", "between bands", ((0, 1), (2, 3))),
        Question("chosen_elements", "chosen elements", ((0,), (9,))),
    ]
    few = {"permutations": 19, "resamples": 10, "seed": 0}
    rows = [
        Answer(**vars(found), source=source, question=question, estimator="gaussian")
        for question in asked
        for source, table in (("latents", Z), ("noise", NOISE), ("few", NOISE[:20]))
        for found in [answer(table, question, "gaussian", **few)]
    ]
    figure = total_correlation_figure(rows, "gaussian")
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == [
        "within low (2 columns)",
        "between bands (4 columns)",
        "chosen elements (2 columns)",
    ]
    for axes, question in zip(panels, asked, strict=True):
        dots = [line.get_xdata() for line in axes.lines]
        for row in rows:
            if row.tc and row.question == question:
                assert any(row.tc.value in np.atleast_1d(x) for x in dots)
    figure.savefig(BytesIO(), format="svg")
    total_correlation_figure([], "gaussian").savefig(BytesIO(), format="svg")


def test_every_element_s_distance_is_a_point() -> None:
    found = {"latents": element_normality(Z), "noise": element_normality(NOISE)}
    figure = normality_figure(found, BANDS)
    for axes, each in zip(figure.axes, found.values(), strict=True):
        points = np.concatenate([np.asarray(line.get_ydata()) for line in axes.lines])
        assert set(each.statistic) <= set(points)
        assert f"{each.rejected.sum()} of 20" in axes.get_title(loc="left")
    figure.savefig(BytesIO(), format="svg")
