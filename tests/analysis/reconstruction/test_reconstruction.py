"""What is said of partial reconstruction: means, places and words, of values that are known."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gdm_repr.analysis.features.networks import torchvision_backbone
from gdm_repr.analysis.features.perceptual import LPIPS, lpips_at_hand
from gdm_repr.analysis.reconstruction.figures import draw_curves, draw_gaps, shown_columns
from gdm_repr.analysis.reconstruction.measure import choose_rows
from gdm_repr.analysis.reconstruction.options import ReconstructionConfig
from gdm_repr.analysis.reconstruction.report import make_metrics, make_tables
from gdm_repr.analysis.reconstruction.summary import PAIRS, WAYS, ImageValues, summarise

KEPT, N = (0, 6, 22, 64), 12
FALL = np.array([1.0, 0.5, 0.08, 0.0])
ENDS = {"0_5": 6, "6_21": 22, "22_63": 64}


def measured() -> ImageValues:
    """Distances that fall alike for all images; the control's are twice the model's."""
    size = np.random.default_rng(0).uniform(1, 3, (N, 1))
    distances = {
        way: size * FALL * (0.5 if way in ("zero", "mean", "noise") else 1) for way in WAYS
    }
    distances["pca"] = np.where(np.array(KEPT) > 22, np.nan, distances["pca"])
    by_way = {way: {"psnr": 10 - 5 * d, "pixels": d} for way, d in distances.items()}
    float16 = {"psnr": np.full(N, 40.0), "pixels": 0.2 * size[:, 0]}
    values = tuple(3 * m for m in KEPT)
    return ImageValues(KEPT, values, by_way, float16, np.full(N, 140.0), draws=2)


def test_distances_are_relative_to_unrelated_images() -> None:
    summary = summarise(measured())
    curves = summary.curves["pixels"]
    assert curves["dct_other"].value == pytest.approx(FALL)
    assert curves["zero"].value == pytest.approx(FALL / 2)
    assert curves["zero"].high == pytest.approx(FALL / 2)
    assert (curves["noise"].draws, curves["zero"].draws, curves["zero"].n) == (2, 1, N)
    assert math.isnan(curves["pca"].value[-1])
    assert summary.float16["pixels"].value == pytest.approx(0.2)
    assert summary.png.value == 140
    # likeness is no share of anything
    assert summary.curves["psnr"]["zero"].value[-1] == 10
    assert set(summary.enough) == {"pixels"}


def test_gaps_are_of_the_same_images() -> None:
    summary = summarise(measured())
    for pair in PAIRS:
        gaps = summary.gaps["pixels"][pair]
        assert [g.value for g in gaps[:3]] == pytest.approx(-FALL[:3] / 2)
        assert [g.low for g in gaps[:3]] == pytest.approx([g.high for g in gaps[:3]])


def place(fall: NDArray[np.float64]) -> float:
    """Where a falling line is at a tenth."""
    return float(np.interp(-0.1, -fall, KEPT))


def test_enough_is_where_a_tenth_is_left() -> None:
    enough = summarise(measured()).enough["pixels"]
    assert enough["dct"].value == pytest.approx(place(FALL))
    assert enough["zero"].value == pytest.approx(place(FALL / 2))
    assert enough["pca"].value == pytest.approx(place(FALL))  # although it ends at 22


def test_tables_and_metrics_hold_every_number() -> None:
    found, summary = measured(), summarise(measured())
    curves, gaps, enough = make_tables(found, summary)
    assert {len(column) for column in curves.columns.values()} == {2 * len(WAYS) * len(KEPT)}
    assert {len(column) for column in gaps.columns.values()} == {2 * len(PAIRS) * len(KEPT)}
    assert list(enough.columns["from"]) == list(WAYS.values())
    assert list(curves.columns["bytes, float16"])[:4] == [0, 36, 132, 384]
    places, *steps = make_metrics(found, summary)
    assert places[0] == 0
    assert places[1]["reconstruction_enough/pixels_zero"] == pytest.approx(place(FALL / 2))
    assert [step for step, _ in steps] == list(KEPT)
    assert steps[1][1]["reconstruction/pixels_zero"] == pytest.approx(0.25)
    assert "reconstruction/pixels_pca" not in steps[-1][1]  # MLflow takes no NaN of what is not


@pytest.mark.filterwarnings("error")
def test_figures_are_drawn_without_a_warning(tmp_path: Path) -> None:
    summary = summarise(measured())
    for draw in (draw_curves, draw_gaps):
        figure = draw(summary, ENDS)
        figure.savefig(tmp_path / "figure.png")
        assert len(figure.axes) == 2
        assert figure.get_figwidth() == pytest.approx(6.4)


@pytest.mark.parametrize("kept", [(0, 64), (0, 6, 64), tuple(range(65)), (0, *range(6, 65))])
def test_columns_hold_nothing_everything_and_the_bands(kept: tuple[int, ...]) -> None:
    ends = [m for m in (6, 22, 64) if m in kept]
    shown = [kept[i] for i in shown_columns(kept, ends)]
    assert shown == sorted(set(shown))
    assert {0, 64, *ends} <= set(shown)
    assert len(shown) <= 7


def test_controls_never_see_what_is_rebuilt() -> None:
    config = ReconstructionConfig.model_validate(
        {"checkpoint": "m", "latents": "z", "out": "o", "images": 10, "fit": 20}
    )
    for total in (12, 25, 100):
        rows, others = choose_rows(total, config)
        assert len(set(rows)) == 10
        assert len(set(others)) == min(20, total - 10)
        assert not set(rows) & set(others)
        assert choose_rows(total, config) == (rows, others)
    with pytest.raises(ValueError, match="--images 10: the store holds 11 images"):
        choose_rows(11, config)
    with pytest.raises(ValueError, match="--fit 20: --draws 30 needs as many"):
        choose_rows(100, config.model_copy(update={"draws": 30}))


def test_lpips_is_found_by_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert lpips_at_hand() is None
    (tmp_path / "checkpoints").mkdir()
    for name in sorted(LPIPS, reverse=True):
        trunk = torchvision_backbone(LPIPS[name]).published
        (tmp_path / "checkpoints" / trunk.file).touch()
        assert lpips_at_hand() == name
