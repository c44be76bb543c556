"""What an analysis has finished, one JSON line each, so that a killed run goes on where it was.

The first line says by which settings; a journal of other settings is refused. Numbers come back
bit for bit, so that a resumed run gives the result of an unbroken one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gdm_repr.recipe import Difference, find_difference

JOURNAL = "journal.jsonl"  # in an analysis's folder


class Journal:
    """Results of finished units by key.

    Attributes:
        path: the file.
    """

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, object],
        *,
        overwrite: bool = False,
        of: Mapping[str, object] | None = None,
        names: Mapping[str, str | None] | None = None,
        spelled: Mapping[str, object] | None = None,
    ) -> None:
        """Open a journal, or begin one.

        Args:
            path: the file.
            settings: what determines the results; plain values, and digests of what files hold.
            overwrite: begin anew.
            of: what the settings' digests are made of, to say which part differs.
            names: what the user calls digests, by the keys of ``settings`` and ``of``.
            spelled: settings as versions before 0.3 compared them: by path, not by content.

        Raises:
            ValueError: if the file is there and was written with other settings.
        """
        self.path = path
        self._done: dict[str, Any] = {}
        now, older = _plain(settings), _plain(spelled or {})
        head = {"settings": now, "of": _plain(of or {}), "names": dict(names or {})}
        lines = path.read_bytes().splitlines() if path.exists() and not overwrite else []
        entries = [entry for line in lines if (entry := _parse(line)) is not None]
        if len(entries) > 1:
            before = entries[0]
            before["settings"] |= {
                key: now[key]
                for key, value in before.get("settings", {}).items()
                if key in now and key in older and value == older[key]
            }
            if difference := _difference(before, head):
                raise ValueError(
                    f"--out: {str(path.parent)!r} holds results of other settings ({difference}); "
                    "choose another folder or add --overwrite"
                )
            self._done = {entry["key"]: entry["value"] for entry in entries[1:]}
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written anew without a line that a kill cut short; only then is a new one appended.
        kept = [head] + [{"key": k, "value": v} for k, v in self._done.items()]
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


def read_head(path: Path) -> dict[str, Any]:
    """Return a journal's first line: settings, what they are of, names; empty without a journal."""
    if not path.exists():
        return {}
    with path.open("rb") as file:
        return _parse(file.readline()) or {}


def _plain(values: Mapping[str, object]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(dict(values), default=str))
    return plain


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> Difference | None:
    """Find what two first lines differ in; the parts of a digest say more than the digest."""
    names = before.get("names", {}), now["names"]
    found = find_difference(before.get("settings", {}), now["settings"], *names)
    if found and found.name == "latents" and before.get("of") and now["of"]:
        return find_difference(before["of"], now["of"], *names) or found
    return found


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
