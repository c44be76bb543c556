"""The journal: what was finished comes back, whatever happened in between."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from gdm_repr.analysis.intervals.estimate import Estimate, Floats
from gdm_repr.analysis.journal import Journal


def test_what_was_added_comes_back_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "out" / "journal.jsonl"
    value = {"a": [0.1 + 0.2, 1e-300], "b": None}
    assert Journal(path, {"n": 3}).add("one", value) == value
    again = Journal(path, {"n": 3})
    assert "one" in again
    assert again["one"] == value
    assert "two" not in again


def test_a_line_cut_short_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path, {})
    journal.add("one", 1)
    journal.add("two", 2)
    for cut in range(2, 12):
        path.write_bytes(path.read_bytes()[:-cut])
        again = Journal(path, {})
        assert "one" in again, cut
        assert "two" not in again
        again.add("two", 2)
        assert Journal(path, {})["two"] == 2


def test_other_settings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path, {"draws": 8, "seed": 0}).add("one", 1)
    with pytest.raises(ValueError, match=r"other settings \(draws 8, now 16\).*--overwrite"):
        Journal(path, {"draws": 16, "seed": 0})
    with pytest.raises(ValueError, match=r"anchors None, now 2"):
        Journal(path, {"draws": 8, "seed": 0, "anchors": 2})
    assert "one" not in Journal(path, {"draws": 16, "seed": 0}, overwrite=True)
    assert "one" not in Journal(path, {"draws": 16, "seed": 0})


def test_settings_are_compared_as_json_has_them(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path, {"features": ("a", "b"), "weights": Path("w")}).add("one", 1)
    assert "one" in Journal(path, {"features": ["a", "b"], "weights": "w"})


def test_a_part_of_a_digest_is_named_and_paths_of_before_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path, {"latents": "c0"}, of={"data": "d1"}, names={"data": "digits"}).add("one", 1)
    with pytest.raises(ValueError, match=r"other settings \(data digits, now photos\)"):
        Journal(path, {"latents": "c1"}, of={"data": "d2"}, names={"data": "photos"})
    with pytest.raises(ValueError, match=r"other settings \(latents another, now z\)"):
        Journal(path, {"latents": "c1"}, names={"latents": "z"})
    Journal(tmp_path / "old.jsonl", {"weights": "w.pth"}).add("one", 1)
    spelled = {"weights": "w.pth"}
    assert "one" in Journal(tmp_path / "old.jsonl", {"weights": "5ha"}, spelled=spelled)
    assert "one" in Journal(tmp_path / "old.jsonl", {"weights": "5ha"})


@dataclass(frozen=True)
class Place:
    name: str
    at: tuple[Estimate, ...]
    note: str | None = None


@dataclass(frozen=True, eq=False)
class Map:
    values: Floats
    places: list[Place]


def make() -> Map:
    numbers = np.array([[0.1 + 0.2, math.nan, -math.inf], [1e-300, -0.0, 5e-324]])
    return Map(numbers, [Place("a", (Estimate(1 / 3, math.nan, math.inf),))])


def test_values_are_made_once_and_come_back_as_what_they_were(tmp_path: Path) -> None:
    """Bit for bit, from memory, from the file, and where JSON has a whole number for a real one."""
    path = tmp_path / "journal.jsonl"
    first = Journal(path, {})
    for found in (
        first.once("map", Map, make),
        first.once("map", Map, lambda: Map(np.zeros(0), [])),
        Journal(path, {}).once("map", Map, lambda: Map(np.zeros(0), [])),
    ):
        assert found.values.tobytes() == make().values.tobytes()
        assert repr(found.places) == repr(make().places)
    assert json.loads(path.read_text().splitlines()[1])["value"] == first["map"]
    first.add("two", [{"name": "b", "at": [{"value": 1, "low": 0, "high": 2}], "note": "x"}])
    places = Journal(path, {}).once("two", tuple[Place, ...], tuple)
    assert places == (Place("b", (Estimate(1.0, 0.0, 2.0),), "x"),)
    assert first.once("none", dict[str, Floats], lambda n: {"x": np.ones((n, 2))}, 0)["x"].size == 0


@pytest.mark.parametrize(
    ("kind", "value", "place"),
    [
        (Place, {"name": "a"}, "value['at']: Field required"),
        (Place, {"name": "a", "at": [{"value": "1", "low": 0, "high": 1}]}, "value['at'][0]"),
        (Map, {"values": [1, None], "places": []}, "value['values']: .* not numbers"),
        (Map, {"values": [[1], [2, 3]], "places": []}, "value['values']"),
        (dict[str, float], {"a": True}, "value['a']"),
        (Map, 3, "value: "),
    ],
)
def test_a_unit_edited_by_hand_is_told(
    kind: type[object], value: object, place: str, tmp_path: Path
) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path, {}).add("unit 3", value)
    told = re.escape(f"--out: '{path}' holds under 'unit 3' what this analysis does not write (")
    place = re.escape(place).replace(r"\.\*", ".*")
    with pytest.raises(ValueError, match=rf"^{told}{place}.*\); remove that line, or add --over"):
        Journal(path, {}).once("unit 3", kind, object)
