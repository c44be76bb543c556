"""Measuring without a command: the same numbers, and nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gdm_repr import GDM
from gdm_repr.analysis import measure
from gdm_repr.analysis.identity import identity
from gdm_repr.analysis.options import AnalysisConfig
from gdm_repr.analysis.subject import Subject
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


def test_some_rows_of_a_store_are_looked_at_alone(trained: Path, encoded: Path) -> None:
    model, store = GDM.from_pretrained(trained), open_store(encoded)
    some = store.select(range(40, 60))
    with pytest.raises(ValueError, match="20 images only"):
        measure("leakage", model, some, images=21)
    found: Any = measure("leakage", model, some, images=4)
    assert len(found.subject.store) == 20
    assert set(found.subject.store.ids) == set(some.ids)


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


def test_ids_are_the_images_that_are_looked_at(
    trained: Path, encoded: Path, refused: Callable[..., str], tmp_path: Path
) -> None:
    chosen = ["000003", "000007", "000050"]
    files = [tmp_path / name for name in ("some.txt", "same.csv", "other.txt")]
    for path, lines in zip(files, (chosen, ["id", *chosen[::-1]], chosen[:2]), strict=True):
        path.write_text("\n".join(lines))
    given = {"checkpoint": str(trained), "latents": encoded, "out": tmp_path / "out"}

    def options(ids: Path | None = None) -> AnalysisConfig:
        return AnalysisConfig.model_validate({**given, "ids": ids})

    some, same, other = (identity(options(path)) for path in files)
    assert some == same != other
    assert "ids" not in identity(options()) and "ids" not in options().resolved()
    subject = Subject.open(options(files[0]))
    assert subject.store.ids == chosen
    assert subject.said().startswith("all 3 named by --ids, not known to be held out")
    assert subject.images([2]).shape == (1, 1, 8, 8)
    with pytest.raises(ValueError, match="holds 2 images"):
        measure("leakage", subject.model, encoded, images=3, ids=files[2])
    files[2].write_text("000003\n000096\n")
    assert "'000096' is not in " in refused("leakage", f"--ids {files[2]}")
