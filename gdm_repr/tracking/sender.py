"""Send records to MLflow: beside the job that writes one (`follow`), or later (`replay`).

`main` is the process that a run starts. Its standard input names the records to follow, and says
which runs are over; its end says that the job is gone. It never waits long for a server, and prints
one warning line a record at most for one that is away.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

from gdm_repr.boundary.streams import sturdy_streams
from gdm_repr.files import user_path
from gdm_repr.tracking.delivery import Deleted, Delivery, Unreachable
from gdm_repr.tracking.record import (
    RECORD,
    SENT,
    advice,
    append_event,
    environment,
    read_events,
    tracking_uri,
    warn,
    without_password,
)

# A server that accepts and never answers would take minutes; it must not hold up the end of a job,
# whose next attempt is the retry, nor one who waits at the terminal.
_WHILE_SENDING = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
_POLL_S = 0.5
NICENESS = 19  # the least urgent
_RETRY_S = 30.0  # between attempts at most
_LAST_ATTEMPTS = 4  # once the job is over, a second apart: a parent's run may be on its way


class Sender:
    """The process that sends the records of a job's runs: one for a run and those within it.

    Importing MLflow takes seconds of a core, which would cost each of ten short runs as much as its
    work does.
    """

    def __init__(self, out: Path) -> None:
        """Start the process, and send the record of a run.

        Raises:
            OSError: It can't be started.
        """
        self._process = _spawn()
        self._first = out
        self._told: dict[Path, str] = {}  # as they were when they began, wherever the job goes
        self.begin(out)

    def begin(self, out: Path) -> None:
        """Send another record, of a run within the first one, from now on.

        Raises:
            OSError: The process has ended.
        """
        self._told[out] = str(out.absolute())
        self._tell("begin", out)

    def end(self, out: Path, patience: float) -> None:
        """Say that a run is over; with the first one all are, so wait until their records are sent.

        Args:
            out: RUN_DIR.
            patience: seconds to wait at most; the process goes on after.

        Raises:
            OSError: The process has ended.
            subprocess.TimeoutExpired: It is not done.
        """
        self._tell("over", out)
        if out == self._first and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait(patience)

    def _tell(self, word: str, out: Path) -> None:
        if self._process.stdin is not None:
            self._process.stdin.write(f"{json.dumps([word, self._told[out]])}\n".encode())
            self._process.stdin.flush()


def follow_run(out: Path, within: Sender | None) -> Sender | None:
    """Send a run's record while it grows; None, with a warning, if that cannot be.

    Args:
        out: RUN_DIR.
        within: what sends the record of the run that it belongs to, if that runs in this process.
    """
    try:
        if within is not None:
            with suppress(OSError):  # it has ended, which costs this run nothing
                within.begin(out)
                return within
        return Sender(out)
    except OSError as error:
        warn(f"no process to send the run to MLflow ({error}); {advice(out)}")
        return None


def _spawn() -> subprocess.Popen[bytes]:
    """Start the process that is :func:`main`."""
    package = str(Path(__file__).parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    # -P: no module of the user's working folder may stand in for one of ours. Its own session:
    # Ctrl-C is for the job, which then still tells the sender how it ended.
    program = "from gdm_repr.tracking.sender import main; main()"
    return subprocess.Popen(
        [sys.executable, "-P", "-c", program],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


class _Following:
    """One record that is sent while it grows, and after its run is over for a few attempts more."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.over = False
        self.done = False
        self._delivery: Delivery | None = None
        self._warned = False
        self._attempt_at, self._pause, self._left = 0.0, 1.0, _LAST_ATTEMPTS

    def step(self, *, last: bool) -> None:
        """Send what there is, if it is time; ``last``: no run goes on, so that time is short."""
        over = self.over
        delivery = self._delivery = self._delivery or Delivery(self.out, tracking_uri())
        if not delivery.complete and (last or time.monotonic() >= self._attempt_at):
            try:
                delivery.send()
            except Unreachable as error:
                gone = isinstance(error, Deleted)  # no further attempt brings it back
                self._pause = _RETRY_S if gone else min(2 * self._pause, _RETRY_S)
                self._attempt_at = time.monotonic() + self._pause
                self._left = 0 if gone and over else self._left - last
                if not self._warned and (self._left == 0 or self._pause == _RETRY_S):
                    warn(f"{error}; the record is kept, {advice(self.out)}")
                    self._warned = True
        self.done = over and (delivery.complete or self._left == 0)
        if self.done and delivery.refused:
            warn(
                f"MLflow refused {len(delivery.refused)} events of {self.out}: "
                f"{delivery.refused[0]}"
            )


def follow() -> None:
    """Send records while they grow, until the job at the other end of standard input is done."""
    told: SimpleQueue[tuple[str, str]] = SimpleQueue()
    job_is_over = threading.Event()

    def listen() -> None:
        going: list[str] = []
        try:
            for line in sys.stdin.buffer:
                word, out = json.loads(line)
                told.put((word, out))
                if word == "begin":
                    going.append(out)
                else:
                    going.remove(out)
                if not going:
                    return
        finally:  # of a job that died, and the disk may be full
            try:
                for out in going:
                    _record_death(Path(out))
            finally:
                for out in going:
                    told.put(("over", out))
                job_is_over.set()

    threading.Thread(target=listen, daemon=True).start()
    records: list[_Following] = []
    while True:
        last = job_is_over.is_set()
        while not told.empty():
            word, out = told.get()
            if word == "begin":
                records.append(_Following(Path(out)))
            for record in records:
                record.over |= word == "over" and str(record.out) == out
        for record in records:  # that of a run before those within it
            try:
                record.step(last=last)
            except OSError as gone:
                warn(f"the record of {record.out} can no longer be sent ({gone})")
                record.done = True
        records = [record for record in records if not record.done]
        if last:
            if not records:
                return
            time.sleep(1)
        job_is_over.wait(_POLL_S)


def replay(out: Path, uri: str) -> str:
    """Send what the tracking server at ``uri`` has not got of a record.

    Returns:
        One line that says what was done.

    Raises:
        ValueError: ``out`` holds no record, or the server does not answer.
    """
    out = user_path(out)
    if not (out / RECORD).is_file():
        raise ValueError(
            f"run_dir {str(out)!r} holds no {RECORD}; give the folder of a tracked run"
        )
    with environment(_WHILE_SENDING):
        return _replay(out, uri)


def _replay(out: Path, uri: str) -> str:
    """Send what is left."""
    delivery = Delivery(out, uri)
    server = without_password(uri)
    if delivery.complete:
        return f"nothing to send: {server} has it all (to send it again, delete {out / SENT})"
    try:
        delivery.send()
    except Deleted as error:
        raise ValueError(f"tracking_uri {error}; then replay again, the rest is kept") from error
    except Unreachable as error:
        raise ValueError(
            f"tracking_uri {error} after {delivery.delivered} events; replay again later, the rest "
            "is kept"
        ) from error
    for reason in delivery.refused:
        warn(f"MLflow refused an event: {reason}")
    return f"sent {delivery.delivered - len(delivery.refused)} events of {out} to {server}"


def _record_death(out: Path) -> None:
    """Record that the job went without a word, unless the next one has begun in its place."""
    events = read_events(out)
    starts = [place for place, event in enumerate(events) if event["event"] == "start"]
    if starts and all(event["event"] != "end" for event in events[starts[-1] :]):
        facts = {"status": "KILLED", "error": "the process died"}
        append_event(out, events[starts[-1]]["run"], "end", facts)


def main() -> None:
    """Be the process that :func:`follow_run` starts: one that leaves the cores to the job."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)
        with suppress(OSError):  # Linux weighs sessions against each other, by a value of their own
            Path("/proc/self/autogroup").write_text(str(NICENESS))
    with sturdy_streams(), environment(_WHILE_SENDING):
        follow()
