"""The quarantine: one line an item, whatever happens to the job that writes it."""

import json
from pathlib import Path

import pytest

from gdm_repr.data.quarantine import QuarantineLog, Rejected

A, B = Rejected(0, "a.png", "empty file"), Rejected(7, "b/é.png", "holds NaN")


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_item_is_written_once_over_several_jobs(tmp_path: Path) -> None:
    path = tmp_path / "out" / "quarantine.jsonl"
    log = QuarantineLog(path, "photos")
    log.write([])
    assert not path.exists()
    log.write([A, A])
    log.write([A])
    resumed = QuarantineLog(path, "photos")
    resumed.write([A, B])
    assert len(resumed) == 2
    assert rows(path) == [
        {"id": "a.png", "source": "photos", "reason": "empty file"},
        {"id": "b/é.png", "source": "photos", "reason": "holds NaN"},
    ]


def test_a_torn_line_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.jsonl"
    QuarantineLog(path, "photos").write([A, B])
    whole = path.read_bytes()
    for cut in (1, 10, len(whole) - 3):
        path.write_bytes(whole[:-cut])
        QuarantineLog(path, "photos").write([A, B])
        assert path.read_bytes() == whole


def test_another_file_is_not_overwritten(tmp_path: Path) -> None:
    for text in ("hello\n", "[1]\n", '{"id": 1}\n'):
        (tmp_path / "q").write_text(text)
        with pytest.raises(ValueError, match="no quarantine log"):
            QuarantineLog(tmp_path / "q", "photos")
