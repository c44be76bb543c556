"""``gdm-repr analyse traversal``: what it shows and refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

QUICK = "--anchors 6 --directions 3"


def test_a_later_band_on_samples(analyse: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """Bands made before are left alone, and only samples are shown; several features."""
    more = "--elements 6-8 --source samples --values -2,0,1 --features dct,pixels"
    result = analyse("traversal", QUICK, more, out=tmp_path)
    assert "element" in result["answer"][0]
    assert "n = 6 samples" in result["answer"][0]
    assert "left alone by the model's construction" in " ".join(result["answer"])
    tables = result["tables"]
    assert sorted(tables["atlas"]["element"]) == sorted(["6", "7", "8"] * 2)
    assert tables["atlas"]["feature"] == ["dct"] * 3 + ["pixels"] * 3
    # pixels and an orthogonal transform of them measure the same
    assert tables["atlas"]["effect"][:3] == pytest.approx(tables["atlas"]["effect"][3:], rel=1e-4)
    bands = tables["bands"]
    for band, share in zip(bands["band"], bands["share"], strict=True):
        if band == "0_5":
            assert share == 0
    assert {f"traversal/effect/{n}" for n in (6, 7, 8)} <= {*result["metrics"][0]["values"]}
    figures = {path.name for path in (tmp_path / "figures").iterdir()}
    assert "traversal_sample_moving.gif" in figures
    assert not any("image" in name for name in figures)
    with Image.open(tmp_path / "figures" / "traversal_sample_moving.gif") as moving:
        assert getattr(moving, "n_frames", 1) == 4  # three places forth, and the middle one back


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("--features pixels --elements 64", "element '64': unknown; give an index below 64"),
        ("--features pixels --band low", "band 'low': unknown"),
        ("--values 1,0,2", "values must rise"),
        ("--values 0,1", "at least 3"),
        ("--features pixels --anchors 2000", "the store holds 96 images only"),
        ("--features vgg1", "extractor 'vgg1': unknown"),
    ],
)
def test_wrong_options_end_in_one_line(
    refused: Callable[..., str], more: str, problem: str
) -> None:
    assert problem in refused("traversal", QUICK, more)
