"""Items of a data set that can't be used, and the file that lists them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gdm_repr.files import parse_json, read_bytes


@dataclass(frozen=True)
class Rejected:
    """An item that can't be used: its index and id in the data set and a short reason."""

    index: int
    id: str
    reason: str


class QuarantineLog:
    """Append rejected items to a file of JSON lines, each item once, over resumed jobs too.

    A line is ``{"id": ..., "source": ..., "reason": ...}``. The file appears with its first line.
    One process writes at a time.
    """

    def __init__(self, path: Path, source: str) -> None:
        """Read what an earlier job left.

        Args:
            path: The file.
            source: Name of the data in new lines.

        Raises:
            ValueError: The file holds something else.
        """
        self._path, self._source = path, source
        self._logged: set[tuple[str, str]] = set()
        text = read_bytes(path, "quarantine", most=1 << 30) if path.exists() else b""
        self._end = text.rfind(b"\n") + 1  # a line that a killed job left unfinished is dropped
        try:
            for line in text[: self._end].splitlines():
                row = parse_json(line, "a line")
                self._logged.add((row["source"], row["id"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path.name!r} is no quarantine log; move it away") from error

    def __len__(self) -> int:
        """Return the number of lines in the file."""
        return len(self._logged)

    def write(self, rejected: Iterable[Rejected]) -> None:
        """Append the items that the file doesn't list yet."""
        lines: list[str] = []
        for item in rejected:
            if (self._source, item.id) not in self._logged:
                self._logged.add((self._source, item.id))
                row = {"id": item.id, "source": self._source, "reason": item.reason}
                lines.append(json.dumps(row) + "\n")
        if not lines:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.truncate(self._end)
            file.write("".join(lines).encode())
            self._end = file.tell()
