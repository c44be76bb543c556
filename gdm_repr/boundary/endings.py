"""What ended a command early, in one line: what happened, and how to go on.

What the user can mend has such a line; anything else is a bug, and gets its traceback.
"""

from __future__ import annotations

import errno
import os
import re

_KEPT = "what was written before is kept"
# Of the operating system: what the user can mend, and how. Any other is worth a traceback.
_ROOM = "make room"
_FILES = "close other programs, raise the limit (ulimit -n), or use fewer --workers"
_MEMORY = "use a smaller --batch-size or fewer --workers, or close other programs"
_WORKING = {  # what may end work that was well begun
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "the limit is the system's or the user's (ulimit -f); raise it",
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.ENOMEM: _MEMORY,
    errno.EAGAIN: "there are too many processes; close some, or use fewer --workers",
    errno.EIO: "the disk or its connection fails; mend it",
    errno.ESTALE: "the network's disk went away; bring it back",
    errno.ETIMEDOUT: "the network's disk does not answer; bring it back",
    errno.ENOTCONN: "the network's disk went away; bring it back",
    errno.EROFS: "",
}
_PLAIN = {
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.EEXIST, errno.EISDIR, errno.ENOTDIR,
    errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP, errno.ENOTEMPTY, errno.EBUSY, errno.ETXTBSY,
    errno.ENODEV, errno.ENXIO, errno.EXDEV, errno.EOPNOTSUPP, errno.EOVERFLOW, errno.EILSEQ,
    errno.EMLINK, errno.ENOSYS,
}  # fmt: skip
# Libraries that tell the operating system's error in their text: safetensors, HDF5, Arrow.
_NUMBER = re.compile(r"\(os error (\d+)\)|\berrno[ =]+(\d+)", re.IGNORECASE)
_NO_MEMORY = re.compile(
    r"can't allocate memory|cannot allocate memory|out of memory|bad_alloc", re.IGNORECASE
)
_NO_THREAD = re.compile(r"can't start new thread|can't create thread", re.IGNORECASE)
_CUT_OFF = re.compile(r"\d+ requested and \d+ written")  # of numpy, which keeps no number


def ending(error: BaseException, resume: str) -> str | None:
    """Return the line for an error that the user can mend; None for a bug.

    Args:
        error: that ended a command.
        resume: how to go on, as ``run the same command again to continue``.
    """
    if isinstance(error, ValueError):
        return str(error)
    if isinstance(error, ChildProcessError) and error.errno is None:
        return f"{error}; {_KEPT}: {resume}"
    name, text = type(error).__name__, str(error)
    if isinstance(error, MemoryError) or name == "OutOfMemoryError":
        return _work("out of memory", _MEMORY, resume)
    if name == "BrokenProcessPool":
        return _work("a process that worked for this one was killed", _MEMORY, resume)
    if isinstance(error, OSError):
        return _of_system(error, resume)
    if name == "SafetensorError" and (found := _NUMBER.search(text)):
        return _of_system(OSError(int(found[1] or found[2]), text), resume)
    if isinstance(error, RuntimeError):
        if _NO_MEMORY.search(text):
            return _work("out of memory", _MEMORY, resume)
        if _NO_THREAD.search(text):
            return _work("no more threads", _WORKING[errno.EAGAIN], resume)
    return None


def _of_system(error: OSError, resume: str) -> str | None:
    number, text = error.errno, str(error)
    if number is None:
        if found := _NUMBER.search(text):
            number = int(found[1] or found[2])
        elif _CUT_OFF.search(text):
            number = errno.ENOSPC
    if number not in _WORKING and number not in _PLAIN:
        return None
    place = f": {os.fsdecode(error.filename)!r}" if isinstance(error.filename, str | bytes) else ""
    what = f"{os.strerror(number)}{place}"
    return what if number in _PLAIN else _work(what, _WORKING[number], resume)


def _work(what: str, fix: str, resume: str) -> str:
    """Say what ended work that was well begun, and that what it wrote is there."""
    return "; ".join(filter(None, [what, fix, f"{_KEPT}: {resume}"]))
