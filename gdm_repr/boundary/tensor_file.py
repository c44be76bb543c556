"""What a safetensors file says of itself, checked before a tensor is read; and its digest.

The format is 8 bytes of length, a JSON header of that length, then the tensors' bytes. Reading it
never takes more memory than the file has bytes, and for the header at most some 20 times
``MOST_HEADER``.

The **digest** is a SHA-256 over the name, dtype, shape and bytes of every tensor, in the order of
the names, and over the text of our metadata. It stands in the metadata under ``sha256``, beside
``gdm_repr``. So one bit changed anywhere in a file is noticed. Files written before there was a
digest have none, and are read without that check.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, uint8

from gdm_repr.files import parse_json

FACTS, DIGEST = "gdm_repr", "sha256"  # keys of the metadata
MOST_HEADER = 16 << 20  # bytes
_MOST_AXES = 8
_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip


def read_metadata(path: Path) -> dict[str, str]:
    """Check a file's header and return the metadata in it.

    Raises:
        ValueError: the file is no regular one, or its header does not describe just the bytes that
            follow it. The message says what is wrong, not where.
        OSError: it can't be read.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)  # to open a pipe would wait for ever
    with open(os.open(path, flags), "rb") as file:
        info = os.fstat(file.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise ValueError("no regular file")
        start = file.read(8)
        length = int.from_bytes(start, "little")
        data = info.st_size - 8 - length
        if len(start) < 8 or data < 0:
            raise ValueError("shorter than its header says")
        if length > MOST_HEADER:
            raise ValueError(f"header of {length} bytes; at most {MOST_HEADER} are read")
        text = file.read(length)
    header = parse_json(text, "its header")
    if not isinstance(header, dict):
        raise ValueError("its header is no mapping")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("its metadata are no texts by name")
    _check_tiles([_range(name, entry) for name, entry in header.items()], data)
    return metadata


def _range(name: str, entry: object) -> tuple[int, int]:
    """Return where a tensor's bytes lie, as many as its dtype and shape need."""
    rule = f"header of tensor {name[:80]!r}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{rule} has not just dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BYTES:
        raise ValueError(f"{rule}: dtype {str(dtype)[:40]!r} is unknown")
    if not (_counts(shape) and len(shape) <= _MOST_AXES and _counts(offsets) and len(offsets) == 2):
        raise ValueError(f"{rule}: shape or data_offsets are no counts")
    if offsets[1] - offsets[0] != math.prod(shape) * _BYTES[dtype]:
        raise ValueError(f"{rule}: its shape and dtype need another number of bytes than it has")
    return offsets[0], offsets[1]


def _counts(value: object) -> bool:
    return isinstance(value, list) and all(
        type(each) is int and 0 <= each < 2**62 for each in value
    )


def _check_tiles(ranges: list[tuple[int, int]], length: int) -> None:
    end = 0
    for first, last in sorted(ranges):
        if first != end:
            raise ValueError("its tensors overlap or leave gaps")
        end = last
    if end != length:
        raise ValueError("it has another length than its tensors")


def digest(tensors: Mapping[str, Tensor], facts: str) -> str:
    """Return the SHA-256 over all tensors (on the CPU, contiguous) and the text of our metadata."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        sha.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode() + b"\n")
        sha.update(tensor.reshape(-1).view(uint8).numpy().data)
    sha.update(facts.encode())
    return sha.hexdigest()


def read_facts(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return our facts from a file's metadata, the digest verified where there is one.

    A file that is not ours has none.

    Raises:
        ValueError: they are no JSON, stand beside what we never wrote, or the digest does not hold.
            The message says what is wrong, not where.
    """
    if FACTS not in metadata:
        return {}
    # an infinite half-life of the averaged weights is among the facts of a training
    facts = parse_json(metadata[FACTS], "its metadata", constants=True)
    if others := set(metadata) - {FACTS, DIGEST, "format"}:  # others' tools write a "format"
        raise ValueError(f"its metadata hold an unknown key {min(others)[:80]!r}")
    if DIGEST in metadata and digest(tensors, metadata[FACTS]) != metadata[DIGEST]:
        raise ValueError("its content is not what its digest says: the file was changed or damaged")
    return facts if isinstance(facts, dict) else {}
