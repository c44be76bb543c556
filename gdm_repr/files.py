"""Files as a whole: written whole or not at all, read within bounds, a folder to one writer.

What a file says is not believed before it is checked: its size before it is read, its JSON for
what JSON does not allow. Every error here names the file.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_TEMPORARY = re.compile(r"\..+\.\d+\.[0-9a-f]{8}\.tmp")  # as write_atomically names its files
LOCK = ".lock"  # in a folder that one process at a time writes to
WAIT_S = 2.0  # for a writer that is just ending
MOST_BYTES = 64 << 20  # of a text file that is read as a whole
MOST_DEPTH = 100  # of nested lists and mappings
_PART = 1 << 20  # bytes read at a time
_NESTED = (list, tuple, dict)


def user_path(path: str | os.PathLike[str]) -> Path:
    """Return a path as the user meant it: ``~`` is the home folder.

    Flags like ``--out=~/x``, YAML files and environment variables reach us as no shell expanded
    them. A user that does not exist is none: ``~draft.npy`` may well be a file's name.
    """
    return Path(os.path.expanduser(path))


def user_place(text: str) -> str:
    """Expand ``~`` in a text that may be a path or hold one: ``cifar10:~/x``, ``k1=~/latents``."""
    named = re.match(r"([\w.+-]+[:=]){1,2}(?=~)", text)
    before = named[0] if named else ""
    return before + os.path.expanduser(text[len(before) :])


def write_atomically(path: Path, write: Callable[[Path], object], *, sync: bool = True) -> None:
    """Let ``write`` make a file beside ``path``, bring it to the disk, then give it its name.

    Without ``sync`` the disk takes its time, and a power failure may leave an empty file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        write(temporary)
        if sync:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except FileNotFoundError:
        # Another worker finished the store meanwhile and swept our copy of the same bytes away.
        if not path.exists():
            raise
    finally:
        temporary.unlink(missing_ok=True)
    if not sync:
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def sweep(folder: Path, name: str = "*") -> None:
    """Remove what killed processes left of files in a folder, under temporary names."""
    for leftover in folder.glob(f".{name}.*.tmp"):
        if _TEMPORARY.fullmatch(leftover.name):
            leftover.unlink(missing_ok=True)


def write_text(path: Path, text: str, *, sync: bool = True) -> None:
    """Write a text file in UTF-8, whole or not at all.

    What is no character, of a name that is no UTF-8, becomes an escape, which JSON has, too.
    """
    data = text.encode("utf-8", "backslashreplace")
    write_atomically(path, lambda temporary: temporary.write_bytes(data), sync=sync)


def read_bytes(path: Path, what: str, *, most: int = MOST_BYTES) -> bytes:
    """Read a regular file of bounded size.

    Args:
        path: the file.
        what: it is, for errors, such as ``--config``.
        most: bytes that it may have.

    Raises:
        ValueError: it is no regular file (to open a pipe would wait for ever), or too large.
        OSError: it can't be read.
    """
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError(f"{what} {str(path)!r}: is no regular file; give a file")
        data = bytearray()  # in parts: to ask for `most` bytes would take as much memory
        while len(data) <= most and (part := file.read(min(_PART, most + 1 - len(data)))):
            data += part
    if len(data) > most:
        raise ValueError(
            f"{what} {str(path)!r}: is larger than {most} bytes, which no such file is; give "
            "another"
        )
    return bytes(data)


def read_text(path: Path, what: str, *, most: int = MOST_BYTES) -> str:
    """Read a text file in UTF-8, as :func:`read_bytes` does.

    Raises:
        ValueError: it is no regular file, too large, or no UTF-8.
        OSError: it can't be read.
    """
    try:
        return read_bytes(path, what, most=most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{what} {str(path)!r}: is no text in UTF-8 ({error})") from None


def parse_json(text: str | bytes, what: str, *, constants: bool = False) -> Any:  # noqa: ANN401
    """Parse JSON strictly: no NaN or infinity, no key twice, no depth beyond bounds.

    Args:
        text: the JSON.
        what: it is, for errors, such as ``latents 'x/manifest.json'``.
        constants: take NaN and infinity nevertheless.

    Raises:
        ValueError: it is no such JSON; the message names ``what``.
    """

    def constant(name: str) -> float:
        if constants:
            return float(name)
        raise ValueError(f"holds {name}, which is no JSON number")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise ValueError(f"holds the key {twice[:80]!r} twice")
        return found

    try:
        value = json.loads(text, parse_constant=constant, object_pairs_hook=once)
    except RecursionError:
        raise ValueError(f"{what}: is nested too deeply to be read") from None
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are some
        raise ValueError(f"{what}: not readable as JSON ({' '.join(str(error).split())})") from None
    if (deep := depth(value)) > MOST_DEPTH:
        raise ValueError(f"{what}: is nested {deep} levels deep; at most {MOST_DEPTH} are read")
    return value


def depth(value: object) -> int:
    """Count the levels of nested lists and mappings, without recursion.

    >>> depth({"a": [[], 1]}), depth(1)
    (3, 0)
    """
    level, nested = 0, [value] if isinstance(value, _NESTED) else []
    while nested:
        level += 1
        parts = (outer.values() if isinstance(outer, dict) else outer for outer in nested)
        nested = [each for part in parts for each in part if isinstance(each, _NESTED)]
    return level


_held: set[Path] = set()


@contextmanager
def only_writer(folder: Path, option: str = "--out", *, wait: float = WAIT_S) -> Iterator[None]:
    """Make this process the only one that writes to a folder, which is made if need be.

    The lock ends with the process, however that ends; forked workers do not keep it. Within one
    process it may be taken again. Where nothing was written the lock's file goes again, and so does
    a folder that was made for it: a command that is refused later leaves nothing behind.

    Args:
        folder: to be written to.
        option: that named it, for the error.
        wait: seconds to wait for another writer that is just ending; -1 waits as long as it takes.

    Raises:
        ValueError: another process writes there.
    """
    from filelock import FileLock, Timeout

    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.resolve() / LOCK
    if path in _held:
        yield
        return
    lock = FileLock(path, timeout=wait)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"{option} {str(folder)!r}: another process is writing to this folder; wait for its "
            "end, or choose another folder"
        ) from None
    except NotImplementedError:  # a file system without locks
        print(f"gdm-repr: warning: {str(folder)!r} can't be locked", file=sys.stderr)
        yield
        return
    _held.add(path)
    sweep(path.parent)
    try:
        yield
    finally:
        _held.discard(path)
        _remove_unused(path, made)
        lock.release()


def _remove_unused(lock: Path, made: bool) -> None:
    """Remove a lock from a folder that holds nothing else, and the folder if it was made for it.

    A process that waits for the lock sees that its file is gone, and takes a new one.
    """
    with suppress(OSError):  # Windows keeps files that are open
        if [entry.name for entry in lock.parent.iterdir()] == [LOCK]:
            lock.unlink()
            if made:
                lock.parent.rmdir()


def safe_name(name: str) -> str:
    """Turn an item's id into a relative path that stays inside the folder; no two share one.

    >>> safe_name("cats/../a b:c.png#r0c1"), safe_name("/17")
    ('cats/%2E%2E/a b%3Ac.png#r0c1', '%/17')
    """

    def escaped(character: re.Match[str]) -> str:
        return "".join(f"%{byte:02X}" for byte in character[0].encode())

    parts = [re.sub(r"[^\w .#-]|^\.+$", escaped, part) or "%" for part in name.split("/")]
    return "/".join(parts)
