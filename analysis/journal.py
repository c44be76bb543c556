"""What an analysis has finished, one JSON line each, so that a killed run goes on where it was.

The first line says by which settings; a journal of other settings is refused. Numbers come back
bit for bit, so that a resumed run gives the result of an unbroken one. Every line carries a
checksum: what a damaged one held is done again. :meth:`Journal.once` is how an analysis keeps
values; dataclasses and arrays come back as what they were.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from gdm_repr.files import parse_json, read_bytes, write_text
from gdm_repr.recipe import Difference, find_difference

JOURNAL = "journal.jsonl"  # in an analysis's folder
MOST_BYTES = 1 << 30  # of a journal
HEAD = {"settings", "of", "names"}  # keys of its first line

P = ParamSpec("P")
T = TypeVar("T")
_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)  # building one takes milliseconds


class Journal:
    """Results of finished units by key.

    Attributes:
        path: the file; None where results are kept in memory only.
    """

    def __init__(
        self,
        path: Path | None = None,
        settings: Mapping[str, object] | None = None,
        *,
        overwrite: bool = False,
        of: Mapping[str, object] | None = None,
        names: Mapping[str, str | None] | None = None,
        spelled: Mapping[str, object] | None = None,
    ) -> None:
        """Open a journal, or begin one.

        Args:
            path: the file; None keeps results in memory, for the caller of one measurement.
            settings: what determines the results; plain values, and digests of what files hold.
            overwrite: begin anew.
            of: what the settings' digests are made of, to say which part differs.
            names: what the user calls digests, by the keys of ``settings`` and ``of``.
            spelled: settings as versions before 0.3 compared them: by path, not by content.

        Raises:
            ValueError: if the file is there and was written with other settings.
        """
        self.path, self._done = path, dict[str, Any]()
        if path is None:
            return
        settings = settings or {}
        head = _head(settings, of, names)
        self._done = (
            {} if overwrite else read_journal(path, settings, of=of, names=names, spelled=spelled)
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written anew without a line that a kill cut short; only then is a new one appended.
        kept = [json.dumps(head), *map(_line, self._done, self._done.values())]
        write_text(path, "".join(line + "\n" for line in kept), sync=False)

    def __contains__(self, key: str) -> bool:
        """Tell whether a unit is finished."""
        return key in self._done

    def __getitem__(self, key: str) -> Any:  # noqa: ANN401
        """Return a finished unit's result, as JSON holds it (tuples are lists)."""
        return self._done[key]

    def once(
        self, key: str, kind: type[T], make: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return a unit's result as it is read back; make and keep it first if it is not finished.

        Args:
            key: of the unit.
            kind: of the result: numbers, texts, dataclasses, ``Floats``, and lists, tuples and
                dicts of these.
            make: called with what follows.
            args: see there.
            kwargs: see there.

        Raises:
            ValueError: if the file holds something else under that key.
        """
        if key not in self:
            self.add(key, make(*args, **kwargs))
        try:
            # strictly, by the rules for JSON: lists are tuples too, texts and bools no numbers
            found: T = _adapter(kind).validate_json(json.dumps(self[key]), strict=True)
        except ValidationError as error:
            wrong = error.errors(include_url=False)[0]
            place = "".join(f"[{part!r}]" for part in wrong["loc"])
            raise ValueError(
                f"--out: {str(self.path)!r} holds under {key!r} what this analysis does not write "
                f"(value{place}: {wrong['msg']}); remove that line, or add --overwrite"
            ) from None
        return found

    def add(self, key: str, value: object) -> Any:  # noqa: ANN401
        """Keep a unit's result and return it as JSON holds it."""
        value = to_jsonable_python(
            value, inf_nan_mode="constants", fallback=lambda array: array.tolist()
        )
        line = _line(key, value)
        if self.path is not None:
            with self.path.open("ab", buffering=0) as file:  # one write a line: SIGKILL loses none
                file.write(line.encode() + b"\n")
        self._done[key] = json.loads(line)["value"]
        return self._done[key]


def read_head(path: Path) -> dict[str, Any]:
    """Return a journal's first line: settings, what they are of, names; empty without a journal."""
    if not path.exists():
        return {}
    lines = read_bytes(path, "journal", most=MOST_BYTES).splitlines()
    return (_parse(lines[0]) or {}) if lines else {}


def read_journal(
    path: Path,
    settings: Mapping[str, object],
    *,
    of: Mapping[str, object] | None = None,
    names: Mapping[str, str | None] | None = None,
    spelled: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """Return the finished units of a journal by key, none where there is none; write nothing.

    Args:
        path: the file.
        settings: as for :class:`Journal`, and so are the others.
        of: what the digests are of.
        names: what the user calls it.
        spelled: settings as earlier versions wrote them.

    Raises:
        ValueError: if it was written with other settings.
    """
    now, older = _head(settings, of, names), _plain(spelled or {})
    there = path.exists()
    lines = read_bytes(path, "journal", most=MOST_BYTES).splitlines() if there else []
    entries = [entry for line in lines if (entry := _parse(line)) is not None]
    if len(entries) < 2:
        return {}
    before = entries[0]
    settings_before = before.get("settings", {})
    before["settings"] = settings_before | {
        key: now["settings"][key]
        for key, value in settings_before.items()
        if key in now["settings"] and key in older and value == older[key]
    }
    if difference := _difference(before, now):
        raise ValueError(
            f"--out: {str(path.parent)!r} holds results of other settings ({difference}); "
            "choose another folder or add --overwrite"
        )
    return {entry["key"]: entry["value"] for entry in entries[1:] if "key" in entry}


def _head(
    settings: Mapping[str, object],
    of: Mapping[str, object] | None,
    names: Mapping[str, str | None] | None,
) -> dict[str, Any]:
    """Return the first line of a journal."""
    return {"settings": _plain(settings), "of": _plain(of or {}), "names": dict(names or {})}


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
    if {*entry} <= HEAD and all(isinstance(value, dict) for value in entry.values()):
        return entry
    if not isinstance(entry.get("key"), str) or not {*entry} <= {"key", "value", "crc32"}:
        return None
    if "value" not in entry:
        return None
    # lines written before there was a checksum have none
    said = entry.get("crc32", _checksum(entry["key"], entry["value"]))
    return entry if said == _checksum(entry["key"], entry["value"]) else None
