"""Tracking: every command is a run, recorded in its own folder first and sent to MLflow from there.

    with start("encode", config, out) as run:
        run.metrics({band_metric(BAND_STD, "0_29"): 1.01})
        run.artifact(out / "sheet.png")

Another process (`gdm_repr.tracking.sender`), one for a run and those within it, follows the record
and sends it. So a tracking server can neither slow a job down nor stop it, MLflow's import costs
the job nothing, no thread of ours runs when a data loader forks, and a job that was killed is
reported as killed. What a server has not got, ``gdm-repr track replay RUN_DIR`` sends later.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal
from weakref import WeakValueDictionary

from gdm_repr.boundary.names import file_name, metric_key
from gdm_repr.boundary.streams import sturdy_streams
from gdm_repr.boundary.text import printable, write_csv
from gdm_repr.command import run_command
from gdm_repr.files import user_path
from gdm_repr.tracking.facts import changed_tag, flatten, git_state, recorded_params, versions
from gdm_repr.tracking.keys import (
    MAX_TAG,
)
from gdm_repr.tracking.record import (
    RECORD,
    advice,
    append_event,
    end_last_line,
    experiment_name,
    read_events,
    read_sent,
    tracking_uri,
    warn,
    without_password,
)
from gdm_repr.tracking.sender import Sender, follow_run, replay

__all__ = ["Run", "main", "start"]

_MAX_NAME = 250  # characters of a run's name that MLflow's databases keep
# How long a job that is done waits for what is left to be sent; the sender itself goes on after.
_PATIENCE_S = 60.0
_PATIENCE_INTERRUPTED_S = 3.0  # of one who asked it to end
_OPEN: WeakValueDictionary[str, Run] = WeakValueDictionary()  # of this process, by record_id


class Run:
    """One run of a command: a context manager that records what it is told.

    Leaving it ends the run: FINISHED, FAILED with the exception's type, or KILLED by Ctrl-C. A run
    that is not tracked (``--no-track``, or a process of rank above 0) takes the same calls and does
    nothing.

    Attributes:
        record_id: the run's own id; a later ``start(parent=record_id)`` nests a run in this one.
    """

    def __init__(self, command: str, out: Path, record_id: str, *, enabled: bool) -> None:
        """Open the record; use `start`."""
        self.record_id = record_id
        self._out = out
        self._enabled = enabled
        self._files = out / "track" / command
        self._sender: Sender | None = None

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run, once MLflow has it."""
        if not self._enabled:
            return None
        return read_sent(self._out, tracking_uri())["runs"].get(self.record_id)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Record numbers at a step; keys as from `metric_key` and `band_metric`."""
        numbers = {metric_key(key): float(value) for key, value in values.items()}
        # JSON has no NaN: as text it stays readable for others, and float() takes it back.
        plain = {key: n if math.isfinite(n) else str(n) for key, n in numbers.items()}
        self._append("metrics", step=step, values=plain)

    def tags(self, values: Mapping[str, object]) -> None:
        """Record texts about the run; a later value replaces an earlier one."""
        texts = {
            metric_key(key): printable(str(value), lines=True)[:MAX_TAG]
            for key, value in values.items()
        }
        self._append("tags", values=texts)

    def artifact(self, path: str | Path, folder: str = "") -> None:
        """Record a file (an image, a report) to be kept with the run, under ``folder``."""
        self._append("artifact", path=self._reference(path), folder=folder)

    def table(self, name: str, columns: Mapping[str, Sequence[object]]) -> None:
        """Keep a table as ``tables/NAME.csv``.

        Args:
            name: file name without ending; one that no file may have gets another, of its own.
            columns: values by column, all of one length.

        Raises:
            ValueError: Columns differ in length.
        """
        if len({len(values) for values in columns.values()}) > 1:
            lengths = {key: len(values) for key, values in columns.items()}
            raise ValueError(f"columns of the table {name!r} differ in length: {lengths}")
        if self._enabled:
            path = self._files / f"{file_name(name)}.csv"
            write_csv(path, columns)
            self.artifact(path, "tables")

    def inputs(self, name: str, digest: str, source: str) -> None:
        """Record the data that the run reads: its name, its digest and where it came from."""
        self._append("input", name=printable(name), digest=digest, source=printable(source))
        self.tags({"fingerprint.data": digest})

    def model(self, checkpoint: str | Path) -> None:
        """Keep a safetensors checkpoint as a model that MLflow loads, serves and registers."""
        self._append("model", path=self._reference(checkpoint))

    def note(self, lines: Sequence[str], pages: Mapping[str, str] | None = None) -> None:
        """Say on the run's page in MLflow what was found; a later note takes its place.

        Args:
            lines: sentences, a paragraph each.
            pages: paths of files kept with the run, by the words that lead there.
        """
        told = [printable(line) for line in lines]
        self._append("note", lines=told, pages=dict(pages or {}))

    def __enter__(self) -> Run:
        """Return the run."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Literal[False]:
        """Record how the run ended, and give the sender a while to catch up."""
        killed = isinstance(error, KeyboardInterrupt)
        finished = kind is None or (isinstance(error, SystemExit) and error.code in (None, 0))
        status = "FINISHED" if finished else "KILLED" if killed else "FAILED"
        reason = None if finished or kind is None else kind.__name__
        try:
            self._append("end", status=status, error=reason)
        except OSError:  # of a full disk, say, which is what ended the run
            if error is None:
                raise
        _OPEN.pop(self.record_id, None)
        if self._sender is not None:
            try:
                self._sender.end(self._out, _PATIENCE_INTERRUPTED_S if killed else _PATIENCE_S)
            except (OSError, subprocess.TimeoutExpired):
                if killed:  # the sender has a word of its own if it fails
                    return False
                warn(f"the run is still being sent to MLflow; if that fails, {advice(self._out)}")
        return False

    def _reference(self, path: str | Path) -> str:
        full, out = user_path(path).resolve(), self._out.resolve()
        return str(full.relative_to(out) if full.is_relative_to(out) else full)

    def _append(self, event: str, **facts: object) -> None:
        if self._enabled:
            append_event(self._out, self.record_id, event, facts)

    def _begin(
        self,
        facts: Mapping[str, object],
        config: Mapping[str, Any],
        tags: Mapping[str, object],
        within: Sender | None,
    ) -> None:
        before = recorded_params(
            [event for event in read_events(self._out) if event["run"] == self.record_id]
        )
        self._append("start", **facts)
        now = flatten(config)
        if new := {key: value for key, value in now.items() if key not in before}:
            self._append("params", values=new)
        # Params cannot change in MLflow, so that a changed value becomes a tag.
        changed: dict[str, str] = {
            changed_tag(key): value for key, value in now.items() if before.get(key, value) != value
        }
        self.tags({**changed, **versions(), **git_state(), **tags})
        self._files.mkdir(parents=True, exist_ok=True)
        path = self._files / "config.json"
        path.write_text(json.dumps(config, indent=2, default=str) + "\n", encoding="utf-8")
        self.artifact(path)
        self._sender = follow_run(self._out, within)


def start(
    command: str,
    config: Mapping[str, Any],
    out: str | Path,
    *,
    enabled: bool = True,
    experiment: str | None = None,
    run_name: str | None = None,
    parent: str | None = None,
    tags: Mapping[str, object] | None = None,
) -> Run:
    """Begin a run of a command, or continue the one that ``out`` has a record of.

    The run goes to ``MLFLOW_TRACKING_URI``, or else to ``sqlite:///mlflow.db``. In a job of several
    processes only rank 0 (environment variable RANK) records.

    Args:
        command: the command's name.
        config: its resolved configuration, possibly nested; kept as params and as config.json.
        out: RUN_DIR, where the record is kept.
        enabled: False makes a run that does nothing, without MLflow installed.
        experiment: MLflow experiment; by default MLFLOW_EXPERIMENT_NAME or _ID, or else "gdm-repr".
        run_name: name shown by MLflow; by default the command and the folder.
        parent: the run this one belongs to: a ``record_id``, or a run id of MLflow.
        tags: more facts, such as fingerprints.

    Returns:
        The run, to be used as a context manager.
    """
    out = user_path(out)
    enabled = enabled and os.environ.get("RANK", "0") in ("", "0")
    if not enabled:
        return Run(command, out, uuid.uuid4().hex, enabled=False)
    out.mkdir(parents=True, exist_ok=True)
    end_last_line(out)
    earlier = [e for e in read_events(out) if e["event"] == "start" and e["command"] == command]
    record_id = earlier[-1]["run"] if earlier else uuid.uuid4().hex
    run = Run(command, out, record_id, enabled=True)
    facts = {
        "command": command,
        "experiment": experiment_name(experiment),
        "name": printable(run_name or _run_name(command, out))[:_MAX_NAME],
        "parent": parent,
    }
    above = _OPEN.get(parent or "")
    run._begin(facts, config, tags or {}, None if above is None else above._sender)
    _OPEN[record_id] = run
    return run


def _run_name(command: str, out: Path) -> str:
    """Name a run after its command and its folder; ``edit mix a`` in ``a/mix``."""
    words, place = command.replace("-", " "), out.resolve()
    while place.name in words.split():
        place = place.parent
    return f"{words} {place.name}".strip()


@sturdy_streams()
def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr track``: send what a tracking server has not got yet, or register a model.

    Returns:
        0 when that is done; 2 when the server does not answer or RUN_DIR holds no record.
    """
    parser = argparse.ArgumentParser(
        prog="gdm-repr track",
        description="Send a run's local record to MLflow, or register the model that it made.",
        epilog="examples: gdm-repr track replay runs/encode --tracking-uri http://localhost:5000; "
        "gdm-repr track register runs/digits digits@champion",
    )
    commands = parser.add_subparsers(dest="action", required=True, metavar="replay|register")
    sending = commands.add_parser("replay", help="send what the tracking server has not got yet")
    naming = commands.add_parser(
        "register", help="name the model of a training, for --checkpoint models:/NAME@ALIAS"
    )
    for command in (sending, naming):
        command.add_argument(
            "run_dir", type=user_path, metavar="RUN_DIR", help=f"folder with a {RECORD}"
        )
        command.add_argument(
            "--tracking-uri",
            help="MLflow server (default: MLFLOW_TRACKING_URI or sqlite:///mlflow.db)",
        )
    naming.add_argument(
        "name", metavar="NAME[@ALIAS]", help="in MLflow's registry; the alias moves to this model"
    )
    options = parser.parse_args(argv)

    def body() -> int:
        uri = tracking_uri(options.tracking_uri)
        if sys.stderr.isatty():  # someone waits, perhaps for a server that does not answer
            print(f"sending {options.run_dir} to {without_password(uri)}", file=sys.stderr)
        if options.action == "replay":
            print(replay(options.run_dir, uri))
        else:
            from gdm_repr.tracking.registry import register

            print(register(options.run_dir, options.name, uri))
        return 0

    return run_command("track", body, resume="run the same command again to send the rest")
