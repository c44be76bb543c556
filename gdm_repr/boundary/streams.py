"""What a command prints, which never decides how it ends.

A reader that stops (``| head``), a full disk, a stream that is closed or knows few characters
change what is seen, not what was done. Text of others is made printable on its way out.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from gdm_repr.boundary.text import printable

_BAR = re.compile("\r|(?:\x1b\\[A)+$")  # how tqdm begins a line, and goes up to one above


class SturdyStream:
    """A text stream that writes what it can, and never raises.

    Attributes:
        lost: the error that ended writing; None while nothing is lost.
    """

    def __init__(self, stream: TextIO | None, *, bars: bool = False) -> None:
        """Write to a stream; None is one that was closed before we began.

        Args:
            stream: as ``sys.stdout``.
            bars: whether progress bars are drawn on it.
        """
        self._stream, self._bars = stream, bars
        self.lost: OSError | None = None
        if stream is None:
            self.lost = OSError(errno.EBADF, "it is closed")

    def write(self, text: str) -> int:
        """Write text, printable and in the stream's encoding."""
        if self._stream is None or self.lost is not None:
            return len(text)
        begin = match[0] if self._bars and (match := _BAR.match(text)) else ""
        shown = begin + printable(text[len(begin) :], lines=True)
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        try:
            self._stream.write(shown.encode(encoding, "backslashreplace").decode(encoding))
        except (OSError, ValueError) as error:
            self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Bring what was written on its way."""
        if self._stream is None or self.lost is not None:
            return
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._lose(error)

    def isatty(self) -> bool:
        """Say whether a terminal shows it."""
        with suppress(OSError, ValueError):
            return self._stream is not None and self._stream.isatty()
        return False

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        """Return anything else of the stream."""
        return getattr(self._stream, name)

    def _lose(self, error: OSError | ValueError) -> None:
        """Write no more; what waits in buffers goes nowhere, or Python's end would fail on it."""
        self.lost = error if isinstance(error, OSError) else OSError(errno.EBADF, "it is closed")
        if self._stream in (sys.__stdout__, sys.__stderr__):
            with suppress(OSError, ValueError, AttributeError):
                number = self._stream.fileno()  # type: ignore[union-attr]
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)


@contextmanager
def sturdy_streams() -> Iterator[None]:
    """Make ``sys.stdout`` and ``sys.stderr`` sturdy for a while; also a decorator.

    What is lost of stdout is told on stderr, unless the reader no longer wanted it.
    """
    if isinstance(sys.stdout, SturdyStream):
        yield
        return
    for number in (0, 1, 2):
        # A file of ours must not take a closed stream's number: libraries write to these.
        with suppress(OSError):
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    out, err = SturdyStream(sys.stdout), SturdyStream(sys.stderr, bars=True)
    sys.stdout, sys.stderr = out, err
    try:
        yield
    finally:
        out.flush()
        if out.lost is not None and out.lost.errno != errno.EPIPE:
            why = out.lost.strerror or str(out.lost)
            err.write(f"gdm-repr: warning: what was printed is lost: standard output: {why}\n")
        err.flush()
        sys.stdout, sys.stderr = before
