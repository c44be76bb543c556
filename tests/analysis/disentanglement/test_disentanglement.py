"""The disentanglement command: which labels are factors, and what is told of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

QUICK = "--scores mig --permutations 3 --resamples 5"


def test_every_band_is_scored_beside_the_images_own_coefficients(
    analyse: Callable[..., dict[str, Any]],
) -> None:
    result = analyse("disentanglement", QUICK)
    table = result["tables"]["scores"]
    bands = ["0_5", "6_20", "21_63", "all bands"]
    assert list(dict.fromkeys(table["band"])) == bands
    assert set(table["of"]) == {"latents", "raw coefficients"}
    assert dict(zip(table["band"], table["code length"], strict=True)) == dict(
        zip(bands, (6, 15, 43, 64), strict=True)
    )
    assert result["metrics"][0]["values"]["disentanglement/mig/0_5"] == table["value"][0]
    assert result["method"]["factors"] == ["digit"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--factors hue", "--factors 'hue': no label of the store; it has digit"),
        ("--scores nosuch", "--scores 'nosuch': unknown; choose from "),
        ("--circular digit=x", "--circular 'digit=x': the period must be a number above 0"),
        ("--circular hue=1", "--circular 'hue': no label of the store"),
        ("--circular digit --continuous digit", "'digit' must be one of ['digit'], and said to be"),
    ],
)
def test_bad_options_are_told_in_one_line(
    refused: Callable[..., str], more: str, message: str
) -> None:
    assert message in refused("disentanglement", QUICK, more)
