"""The local record of a run: ``RUN_DIR/track.jsonl``, and beside it what was sent of it.

The record holds one JSON event a line, with ``run`` (an id of our own), ``time`` (ms since 1970)
and ``event``:

    start    command, experiment, name, parent     metrics  values, step
    params   values                                 tags     values
    artifact path, folder                           input    name, digest, source
    model    path                                   note     lines, pages
    end      status, error

Files are recorded by path, relative to RUN_DIR where they lie in it. ``track.sent.json`` says for
every tracking server how many bytes of the record it has, and its own ids of the runs. Losing it
costs nothing: sending an event twice changes nothing at the server.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import unquote

from gdm_repr.boundary.text import printable
from gdm_repr.files import parse_json, read_bytes, user_path, write_text

RECORD = "track.jsonl"
SENT = "track.sent.json"
BY_ID = "id:"  # before an experiment's id, where that stands for its name

Event = dict[str, Any]
MOST_BYTES = 1 << 30  # of a record
# What an event of a kind must hold; a line without it is damaged.
_FIELDS: dict[str, dict[str, type]] = {
    "start": {"command": str, "experiment": str, "name": str},
    "metrics": {"values": dict, "step": int},
    "params": {"values": dict},
    "tags": {"values": dict},
    "note": {"lines": list, "pages": dict},
}


class Sent(TypedDict):
    """What one tracking server has: bytes of the record, and its run ids by our record ids."""

    bytes: int
    runs: dict[str, str]


def append_event(out: Path, run: str, event: str, facts: Mapping[str, object]) -> None:
    """Add one event to a record."""
    line = {"run": run, "time": time.time_ns() // 1_000_000, "event": event, **facts}
    # One unbuffered write a line: those of two threads cannot mix, and SIGKILL loses none.
    with (out / RECORD).open("ab", buffering=0) as file:
        file.write(json.dumps(line).encode() + b"\n")


def end_last_line(out: Path) -> None:
    """End the line in which an earlier process was killed, so that the next one starts afresh."""
    path = out / RECORD
    if path.exists() and (text := _read(path)) and not text.endswith(b"\n"):
        with path.open("ab", buffering=0) as file:
            file.write(b"\n")


def read_events(out: Path) -> list[Event]:
    """Read a record; without a record, none."""
    path = out / RECORD
    lines = _read(path).splitlines() if path.exists() else []
    return [event for line in lines if (event := _parse(line)) is not None]


def read_batches(out: Path, start: int, most: int) -> Iterator[tuple[list[Event], int]]:
    """Read a record from the byte ``start`` on, as events to be sent together.

    Yields:
        One event, or consecutive ones of about ``most`` metrics of one run; and the number of bytes
        up to their end.
    """
    with (out / RECORD).open("rb") as file:
        file.seek(start)
        text = file.read()
    group: list[Event] = []
    end = start
    for line in text[: text.rfind(b"\n") + 1].splitlines(keepends=True):
        event = _parse(line)
        if group and not (event and _joins(group, event, most)):
            yield group, end
            group = []
        if event is not None:
            group.append(event)
        end += len(line)
    if end > start:
        yield group, end


def _joins(group: list[Event], event: Event, most: int) -> bool:
    same = event["event"] == group[0]["event"] == "metrics" and event["run"] == group[0]["run"]
    return same and sum(len(other["values"]) for other in group) < most


def _parse(line: bytes) -> Event | None:
    """Read one line; None for one that a killed process left unfinished, or that is damaged."""
    try:
        event = parse_json(line, "line", constants=True)
    except ValueError:
        return None
    kinds = {"run": str, "time": int, "event": str}
    if not isinstance(event, dict) or any(type(event.get(k)) is not v for k, v in kinds.items()):
        return None
    kinds = _FIELDS.get(event["event"], {})
    return event if all(isinstance(event.get(k), v) for k, v in kinds.items()) else None


def _read(path: Path) -> bytes:
    return read_bytes(path, "record", most=MOST_BYTES)


def read_sent(out: Path, uri: str) -> Sent:
    """Read what a tracking server has of a record."""
    return _all_sent(out).get(without_password(uri), {"bytes": 0, "runs": {}})


def write_sent(out: Path, uri: str, sent: Sent) -> None:
    """Keep what a tracking server has of a record; the file is replaced as a whole."""
    everything = _all_sent(out) | {without_password(uri): sent}
    write_text(out / SENT, json.dumps(everything, indent=2) + "\n", sync=False)


def _all_sent(out: Path) -> dict[str, Sent]:
    try:
        everything = parse_json(read_bytes(out / SENT, "record"), SENT)
    except (FileNotFoundError, ValueError):
        return {}
    sent = everything.items() if isinstance(everything, dict) else ()
    return {
        uri: Sent(bytes=facts["bytes"], runs=facts["runs"])
        for uri, facts in sent
        if _is_sent(facts)
    }


def _is_sent(facts: object) -> bool:
    if not isinstance(facts, dict) or {*facts} != {"bytes", "runs"}:
        return False
    runs = facts["runs"]
    known = isinstance(runs, dict) and all(isinstance(run, str) for run in runs.values())
    return known and type(facts["bytes"]) is int and facts["bytes"] >= 0


def tracking_uri(given: str | None = None) -> str:
    """Where runs go: as given, or MLFLOW_TRACKING_URI, or else ``sqlite:///mlflow.db`` here."""
    uri = given or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    scheme, _, rest = uri.partition(":///")
    path, question, query = rest.partition("?")
    # Made absolute: the file must stay the same one when the working folder changes.
    if scheme == "sqlite" and path not in ("", ":memory:") and not path.startswith("/"):
        return _sqlite_uri(user_path(unquote(path)).resolve()) + question + query
    return uri


def _sqlite_uri(path: Path) -> str:
    """Write a database's path as a URI, in which % and ? mean something else."""
    text = str(path)
    if not re.search("[%?]", text):
        return f"sqlite:///{text}"
    quoted = text.replace("%", "%25").replace("?", "%3F")
    if database_path(f"sqlite:///{quoted}") == path:
        return f"sqlite:///{quoted}"
    if "?" not in text:  # SQLAlchemy before 2.1 takes the path as it is
        return f"sqlite:///{text}"
    raise ValueError(
        f"tracking: the folder {str(path.parent)!r} has a ? in its name, which this version of "
        "SQLAlchemy can't open; set MLFLOW_TRACKING_URI, or install SQLAlchemy 2.1"
    )


def database_path(uri: str) -> Path | None:
    """Return where a SQLite database lies, as SQLAlchemy reads its URI; None for one in memory."""
    try:
        from sqlalchemy.engine import make_url

        path = make_url(uri).database
    except ImportError:
        path = unquote(uri.removeprefix("sqlite:///").partition("?")[0])
    return None if path in (None, "", ":memory:") else Path(str(path))


def experiment_name(given: str | None = None) -> str:
    """MLflow experiment: as given, or as MLflow's own variables say, or else ``gdm-repr``.

    They are MLFLOW_EXPERIMENT_NAME and, where that is not set, MLFLOW_EXPERIMENT_ID, which becomes
    ``id:ID``.
    """
    found = given or os.environ.get("MLFLOW_EXPERIMENT_NAME")
    if not found and (number := os.environ.get("MLFLOW_EXPERIMENT_ID")):
        found = BY_ID + number
    return printable(found or "gdm-repr")


def without_password(uri: str) -> str:
    """A tracking URI as it may be shown and kept."""
    return re.sub(r"//[^/@]*@", "//", uri)


def warn(message: str) -> None:
    """Print one warning line."""
    print(f"gdm-repr: warning: {printable(' '.join(message.split()))}", file=sys.stderr, flush=True)


def advice(out: Path) -> str:
    """How to send a record later."""
    return f"send it later with: gdm-repr track replay {out}"


@contextmanager
def environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables that the user has not set, for the length of a block."""
    own = [key for key in settings if key not in os.environ]
    os.environ.update({key: settings[key] for key in own})
    try:
        yield
    finally:
        for key in own:
            os.environ.pop(key, None)
