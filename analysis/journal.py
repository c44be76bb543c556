"""What an analysis has finished, one JSON line each, so that a killed run goes on where it was.

The first line says by which settings; a journal of other settings is refused. Numbers come back
bit for bit, so that a resumed run gives the result of an unbroken one. Every line carries a
checksum: what a damaged one held is done again.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gdm_repr.files import parse_json, read_bytes

MOST_BYTES = 1 << 30  # of a journal


class Journal:
    """Results of finished units by key.

    Attributes:
        path: the file.
    """

    def __init__(
        self, path: Path, settings: Mapping[str, object], *, overwrite: bool = False
    ) -> None:
        """Open a journal, or begin one.

        Args:
            path: the file.
            settings: what determines the results; plain values.
            overwrite: begin anew.

        Raises:
            ValueError: if the file is there and was written with other settings.
        """
        self.path = path
        self._done: dict[str, Any] = {}
        now = json.loads(json.dumps(settings, default=str))
        there = path.exists() and not overwrite
        lines = read_bytes(path, "journal", most=MOST_BYTES).splitlines() if there else []
        entries = [entry for line in lines if (entry := _parse(line)) is not None]
        if len(entries) > 1:
            before = entries[0].get("settings", {})
            if other := [key for key in {**before, **now} if before.get(key) != now.get(key)]:
                key = other[0]
                raise ValueError(
                    f"--out: {str(path.parent)!r} holds results of other settings ({key} "
                    f"{before.get(key)!r}, now {now.get(key)!r}); choose another folder or add "
                    "--overwrite"
                )
            self._done = {entry["key"]: entry["value"] for entry in entries[1:] if "key" in entry}
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written anew without a line that a kill cut short; only then is a new one appended.
        kept = [json.dumps({"settings": now}), *map(_line, self._done, self._done.values())]
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        temporary.replace(path)

    def __contains__(self, key: str) -> bool:
        """Tell whether a unit is finished."""
        return key in self._done

    def __getitem__(self, key: str) -> Any:  # noqa: ANN401
        """Return a finished unit's result, as JSON holds it (tuples are lists)."""
        return self._done[key]

    def add(self, key: str, value: object) -> Any:  # noqa: ANN401
        """Keep a unit's result and return it as it will be read back."""
        line = _line(key, value)
        with self.path.open("ab", buffering=0) as file:  # one write a line: SIGKILL loses none
            file.write(line.encode() + b"\n")
        self._done[key] = json.loads(line)["value"]
        return self._done[key]


def _line(key: str, value: object) -> str:
    return json.dumps({"key": key, "value": value, "crc32": _checksum(key, value)})


def _checksum(key: str, value: object) -> int:
    return zlib.crc32(json.dumps([key, value]).encode())


def _parse(line: bytes) -> dict[str, Any] | None:
    """Read one line; None for one that is cut short or damaged, whose unit is then done again."""
    try:
        entry = parse_json(line, "line", constants=True)
    except ValueError:
        return None
    if not isinstance(entry, dict):
        return None
    if isinstance(entry.get("settings"), dict) and len(entry) == 1:
        return entry
    if not isinstance(entry.get("key"), str) or not {*entry} <= {"key", "value", "crc32"}:
        return None
    if "value" not in entry:
        return None
    # lines written before there was a checksum have none
    said = entry.get("crc32", _checksum(entry["key"], entry["value"]))
    return entry if said == _checksum(entry["key"], entry["value"]) else None
