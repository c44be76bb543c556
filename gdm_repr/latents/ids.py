"""Some rows of a store by their ids, which a file names: a selection made on a map, or by hand.

The file holds one id a line, or it is a ``.csv`` or a ``.parquet`` with a column ``id``. Order and
repeats say nothing: the rows come in the store's order, each once.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from gdm_repr.files import read_text
from gdm_repr.latents.format import open_shard
from gdm_repr.latents.store import LatentStore

OPTION = "--ids"
COLUMN = "id"


def select_ids(store: LatentStore, path: Path) -> LatentStore:
    """Return a store of the rows whose ids a file names, in the store's order.

    Raises:
        ValueError: if the file can't be read, holds no id, or holds one that the store does not.
    """
    wanted, ids = dict.fromkeys(read_ids(path)), store.ids
    if not wanted:
        raise ValueError(f"{OPTION} {str(path)!r}: holds no id; give one a line")
    there = set(ids)
    if unknown := [name for name in wanted if name not in there]:
        few = f"{len(unknown)} of its {len(wanted)} ids are" if len(unknown) > 1 else "its id is"
        raise ValueError(
            f"{OPTION} {str(path)!r}: {unknown[0]!r} is not in {str(store.path)!r} ({few} not "
            f"there); give ids of its images, such as {ids[0]!r}"
        )
    return store.select(np.flatnonzero([name in wanted for name in ids]))


def read_ids(path: Path, option: str = OPTION) -> list[str]:
    """Read the ids of a file, which an option named, as they stand there.

    Raises:
        ValueError: if it is no such file, or has no column of ids.
    """
    if not path.is_file():
        raise ValueError(f"{option} {str(path)!r}: no such file; give one with an id a line")
    kind = path.suffix.lower()
    if kind == ".parquet":
        return _of_parquet(path, option)
    text = read_text(path, option)
    if kind == ".csv":
        return _of_csv(path, text, option)
    # an id may hold any other character that Python takes for the end of a line
    lines = (line.removesuffix("\r") for line in text.split("\n"))
    return [line for line in lines if line]


def ids_digest(path: Path) -> str:
    """Return a digest of the ids that a file names, in whatever form and order.

    Its path where it is no file, which is told when it is read.
    """
    if not path.is_file():
        return str(path)
    return hashlib.sha256(json.dumps(sorted({*read_ids(path)})).encode()).hexdigest()


def _of_parquet(path: Path, option: str) -> list[str]:
    try:
        with open_shard(path) as opened, pq.ParquetFile(opened) as parquet:
            names = parquet.schema_arrow.names
            values = parquet.read(columns=[COLUMN]).column(0) if COLUMN in names else None
    except Exception as error:  # of damaged bytes Arrow raises as many kinds as there are
        reason = (str(error).splitlines() or [repr(error)])[0][:200]
        raise ValueError(f"{option} {str(path)!r}: no readable Parquet file ({reason})") from None
    if values is None:
        raise _no_column(path, names, option)
    return [str(value) for value in values.to_pylist() if value is not None]


def _of_csv(path: Path, text: str, option: str) -> list[str]:
    try:
        rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        names = [*(rows.fieldnames or ())]
        if COLUMN not in names:
            raise _no_column(path, names, option)
        return [row[COLUMN] for row in rows if row[COLUMN]]
    except csv.Error as error:
        raise ValueError(f"{option} {str(path)!r}: no readable CSV ({error})") from None


def _no_column(path: Path, names: list[str], option: str) -> ValueError:
    shown = ", ".join(names[:8]) + (", .." if len(names) > 8 else "")
    return ValueError(
        f"{option} {str(path)!r}: has no column {COLUMN!r}, only {shown or 'none'}; name it so"
    )
