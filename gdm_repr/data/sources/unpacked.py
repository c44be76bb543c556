"""Compressed archives, unpacked once to a `.npy` beside them that is then mapped into memory.

The archives of the field are compressed in blocks that run across thousands of images, a `.npz`
even as one stream, so that reading one image at random means decompressing all of these. Unpacked,
any image is one read, memory stays flat, and other processes share the pages.

The unpacked file's name holds a hash of the archive's name, size and time of change, so a changed
archive is unpacked again. The file appears whole or not at all; of several processes one unpacks
and the others wait.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
BLOCK_BYTES = 1 << 24
"""Bytes that a reader should hand over at once."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)


class NoRoom(ValueError):
    """The unpacked file can't be written where it belongs; the message says what to do."""


@dataclass(frozen=True)
class Packed:
    """What is in an archive.

    Attributes:
        shape: Shape (N, H, W) or (N, H, W, C) of all its images.
        blocks: The images, some at a time, in order.
    """

    shape: tuple[int, ...]
    blocks: Iterator[Images]


def unpack(
    place: Path,
    files: Sequence[Path],
    read: Callable[[], Packed],
    counts: Collection[int] | None = None,
) -> npt.NDArray[Any]:
    """Return the images of an archive, mapped into memory; unpack them first where need be.

    Args:
        place: Path and beginning of the name of the unpacked file, the archive and what of it, as
            in ``data/dsprites.npz.imgs``.
        files: All files of the archive.
        read: Describes the archive; called only if it was not unpacked before.
        counts: How many images there may be; None: any number.

    Returns:
        Images (N, H, W) or (N, H, W, C), uint8, read-only.

    Raises:
        NoRoom: The disk is full, or the folder can't be written.
        ValueError: There are other than `counts` images, or fewer or more than the archive says.
            What `read` raises passes.
    """
    target = place.with_name(f"{place.name}.{_key(files)}.unpacked.npy")
    if not target.exists():
        from filelock import FileLock

        packed = read()
        _check_count(packed.shape, counts)
        try:
            with FileLock(target.with_name(f".{target.name}.lock")):
                if not target.exists():  # another process may have made it meanwhile
                    _write(target, packed)
                    _remove_older(place, target)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            raise _no_room(target, str(error.strerror)) from error
    images: npt.NDArray[Any] = np.load(target, mmap_mode="r", allow_pickle=False)
    _check_count(images.shape, counts)
    return images


def rows_at_once(row_bytes: int) -> int:
    """Return how many images of so many bytes make up a block."""
    return max(1, BLOCK_BYTES // max(1, row_bytes))


def _check_count(shape: tuple[int, ...], counts: Collection[int] | None) -> None:
    if counts is not None and shape[0] not in counts:
        raise ValueError(f"{shape[0]} images where {' or '.join(map(str, counts))} belong")


def _key(files: Sequence[Path]) -> str:
    """Hash names, sizes and times of change, in whole seconds as some file systems keep them."""
    facts = [(file.name, file.stat().st_size, int(file.stat().st_mtime)) for file in files]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:8]


def _write(target: Path, packed: Packed) -> None:
    """Write an unpacked file under a temporary name, then rename it."""
    from tqdm import tqdm

    need = int(np.prod(packed.shape, dtype=np.int64))
    free = shutil.disk_usage(target.parent).free
    if need > free:
        raise _no_room(target, f"{need / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free")
    print(f"gdm-repr: unpacking once to {target} ({need / 1e9:.1f} GB)", file=sys.stderr)
    for killed in target.parent.glob(f".{target.name}.*.partial"):
        killed.unlink(missing_ok=True)  # whoever wrote it no longer holds the lock
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    header = {"descr": "|u1", "fortran_order": False, "shape": packed.shape}
    rows = 0
    try:
        with (
            partial.open("wb") as file,
            tqdm(total=need, unit="B", unit_scale=True, desc="unpack", leave=False) as bar,
        ):
            np.lib.format.write_array_header_1_0(file, header)
            for block in packed.blocks:
                if block.dtype != np.uint8 or block.shape[1:] != packed.shape[1:]:
                    raise ValueError(
                        f"images of {block.dtype} {block.shape[1:]} among uint8 {packed.shape[1:]}"
                    )
                file.write(np.ascontiguousarray(block).data)
                rows += len(block)
                bar.update(block.nbytes)
            if rows != packed.shape[0]:
                raise ValueError(f"{rows} of {packed.shape[0]} images are there")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _remove_older(place: Path, target: Path) -> None:
    """Remove what was unpacked from the archive before it changed."""
    for older in place.parent.glob(f"{place.name}.????????.unpacked.npy"):
        if older != target:
            try:
                older.unlink()
            except OSError:  # somebody still reads it, and the system minds
                continue


def _no_room(target: Path, reason: str) -> NoRoom:
    return NoRoom(
        f"can't unpack to {str(target)!r} ({reason}); link or copy the data into a folder with "
        "room where you may write, and give that"
    )
