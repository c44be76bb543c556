"""How a command ends: the user's mistakes in one line, ours with a traceback."""

from __future__ import annotations

import errno
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# Errors of the operating system that the user can mend; any other is worth a traceback.
_USER_ERRNOS = {
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
}


def run_command(
    name: str, body: Callable[[], int], *, resume: str = "run the same command again to continue"
) -> int:
    """Run a command's body and turn what ends it early into an exit status.

    Args:
        name: the command's name, as in ``encode``.
        body: does the work and returns the exit status.
        resume: how to go on after an interruption, for the line that reports it.

    Returns:
        The body's status; 2 after a ValueError or an error of the file system that the user can
        mend, told in one line on stderr; 130 after Ctrl-C. Other exceptions pass: they are bugs.
    """
    try:
        return body()
    except ValueError as error:
        return _report(name, str(error))
    except OSError as error:
        if error.errno not in _USER_ERRNOS:
            raise
        place = f": {error.filename!r}" if error.filename else ""
        return _report(name, f"{error.strerror}{place}")
    except KeyboardInterrupt:
        print(f"\ngdm-repr {name}: interrupted; {resume}", file=sys.stderr)
        return 130


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back until the block has ended, so that what it changes stays consistent.

    Python delivers signals to the main thread only; in any other the block needs no protection.

    Raises:
        KeyboardInterrupt: At the end of the block, if one came during it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


def _report(name: str, message: str) -> int:
    print(f"gdm-repr {name}: error: {' '.join(message.split())}", file=sys.stderr)
    return 2
