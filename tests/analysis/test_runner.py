"""Measuring without a command: the same numbers, and nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gdm_repr import GDM
from gdm_repr.analysis import measure
from gdm_repr.latents import open_store


def test_measuring_gives_what_the_command_gives(
    trained: Path,
    encoded: Path,
    analyse: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    found = measure("leakage", GDM.from_pretrained(trained), open_store(encoded), images=4)
    assert not list(tmp_path.iterdir())
    told = found.report().answer
    assert analyse("leakage", "--images 4")["answer"] == list(told)
    shown = found._repr_html_()
    assert all(f"<p>{line[:20]}" in shown for line in told)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("nothing", {}, "analysis 'nothing': unknown; choose from"),
        ("leakage", {"images": 0}, "images"),
        ("leakage", {"imagse": 4}, "imagse"),
        ("leakage", {"images": 97}, "96 images only"),
        ("order_search", {"features": "pixels", "n": 8}, "trained on orders='fixed'"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    trained: Path, encoded: Path, name: str, options: dict[str, Any], says: str
) -> None:
    model = GDM.from_pretrained(trained)
    with pytest.raises(ValueError, match=says):
        measure(name, model, encoded, **options)


def test_a_store_of_another_model_is_refused(encoded: Path) -> None:
    with pytest.raises(ValueError, match="checkpoint fingerprint"):
        measure("leakage", GDM.from_pretrained("scenes"), encoded)
