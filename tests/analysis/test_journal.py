"""The journal: what was finished comes back, whatever happened in between."""

from __future__ import annotations

from pathlib import Path

import pytest

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
