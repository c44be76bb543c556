"""Send records to MLflow: beside the job that writes one (`follow`), or later (`replay`).

`main` is the process that a run starts. It follows the record until its standard input says that
the job is done (one byte) or gone (its end). It never waits long for a server, and prints one
warning line at most for one that is away.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

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


def spawn_sender(out: Path) -> subprocess.Popen[bytes] | None:
    """Start the process that sends a record while it grows; None, with a warning, if it cannot."""
    package = str(Path(__file__).parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    # -P: no module of the user's working folder may stand in for one of ours. Its own session:
    # Ctrl-C is for the job, which then still tells the sender how it ended.
    program = "from gdm_repr.tracking.sender import main; main()"
    command = [sys.executable, "-P", "-c", program, str(out.resolve())]
    try:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        warn(f"no process to send the run to MLflow ({error}); {advice(out)}")
        return None


def follow(out: Path) -> None:
    """Send a record while it grows, until the job at the other end of standard input is done."""
    job_is_over = threading.Event()

    def listen() -> None:
        try:
            if not sys.stdin.buffer.read(1):
                _record_death(out)
        finally:  # the disk may be full
            job_is_over.set()

    threading.Thread(target=listen, daemon=True).start()
    delivery = Delivery(out, tracking_uri())
    warned = False
    attempt_at, pause, left = 0.0, 1.0, _LAST_ATTEMPTS
    while True:
        over = job_is_over.is_set()
        if not delivery.complete and (over or time.monotonic() >= attempt_at):
            try:
                delivery.send()
            except Unreachable as error:
                gone = isinstance(error, Deleted)  # no further attempt brings it back
                pause = _RETRY_S if gone else min(2 * pause, _RETRY_S)
                attempt_at = time.monotonic() + pause
                left = 0 if gone and over else left - over
                if not warned and (left == 0 or pause == _RETRY_S):
                    warn(f"{error}; the record is kept, {advice(out)}")
                    warned = True
        if over:
            if delivery.complete or left == 0:
                break
            time.sleep(1)
        job_is_over.wait(_POLL_S)
    if delivery.refused:
        warn(f"MLflow refused {len(delivery.refused)} events of {out}: {delivery.refused[0]}")


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
    """Be the process that :func:`spawn_sender` starts: one that leaves the cores to the job."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)
        with suppress(OSError):  # Linux weighs sessions against each other, by a value of their own
            Path("/proc/self/autogroup").write_text(str(NICENESS))
    with sturdy_streams(), environment(_WHILE_SENDING):
        try:
            follow(Path(sys.argv[1]))
        except OSError as gone:
            warn(f"the record of {sys.argv[1]} can no longer be sent ({gone})")
