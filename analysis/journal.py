"""What an analysis has finished, one JSON line each, so that a killed run goes on where it was.

The first line says by which settings; a journal of other settings is refused. Numbers come back
bit for bit, so that a resumed run gives the result of an unbroken one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


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
        now = json.loads(json.dumps(settings, default=str))
        self._done = {} if overwrite else read_journal(path, settings)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written anew without a line that a kill cut short; only then is a new one appended.
        kept = [{"settings": now}] + [{"key": k, "value": v} for k, v in self._done.items()]
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text("".join(json.dumps(entry) + "\n" for entry in kept), encoding="utf-8")
        temporary.replace(path)

    def __contains__(self, key: str) -> bool:
        """Tell whether a unit is finished."""
        return key in self._done

    def __getitem__(self, key: str) -> Any:  # noqa: ANN401
        """Return a finished unit's result, as JSON holds it (tuples are lists)."""
        return self._done[key]

    def add(self, key: str, value: object) -> Any:  # noqa: ANN401
        """Keep a unit's result and return it as it will be read back."""
        line = json.dumps({"key": key, "value": value})
        with self.path.open("ab", buffering=0) as file:  # one write a line: SIGKILL loses none
            file.write(line.encode() + b"\n")
        self._done[key] = json.loads(line)["value"]
        return self._done[key]


def read_journal(path: Path, settings: Mapping[str, object]) -> dict[str, Any]:
    """Return the finished units of a journal by key, none where there is none; write nothing.

    Raises:
        ValueError: if it was written with other settings.
    """
    now = json.loads(json.dumps(settings, default=str))
    lines = path.read_bytes().splitlines() if path.exists() else []
    entries = [entry for line in lines if (entry := _parse(line)) is not None]
    if len(entries) < 2:
        return {}
    before = entries[0].get("settings", {})
    if other := [key for key in {**before, **now} if before.get(key) != now.get(key)]:
        key = other[0]
        raise ValueError(
            f"--out: {str(path.parent)!r} holds results of other settings ({key} "
            f"{before.get(key)!r}, now {now.get(key)!r}); choose another folder or add "
            "--overwrite"
        )
    return {entry["key"]: entry["value"] for entry in entries[1:]}


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
