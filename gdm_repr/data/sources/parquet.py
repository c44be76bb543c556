"""Images in Parquet files with an image column, as Hugging Face's data sets are stored.

The image column holds encoded files: as a struct {bytes, path}, or as plain binary. Row groups are
read when an image of theirs is asked for, and the last ones are kept. Columns of numbers and texts
become labels.

Memory: a row group unpacks to 100 images or so where Hugging Face wrote it. Writers that were told
nothing put all rows into one group, which is read whole.
"""

from __future__ import annotations

import io
import os
import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np

from gdm_repr.data.images import BadImage, Preprocess
from gdm_repr.data.labels import Label, Labels
from gdm_repr.data.sources.files import EncodedSource, refuse_size, sample_file
from gdm_repr.data.sources.parquet_table import can_name, columns, describe, image_column

_KEPT_BYTES = 256 << 20  # of row groups that were read, together
_MOST_BYTES = 1 << 30  # of one row group's images
_MOST_OPEN = 32  # files
_SPLIT = re.compile(r"(.+)-\d{5}-of-\d{5}")  # a file's stem in Hugging Face's layout


class ParquetSource(EncodedSource):
    """Rows of one or more Parquet files; what is wrong with one image is its own `BadImage`."""

    def __init__(self, name: str, root: Path, files: Sequence[str]) -> None:
        """Read the footers, and all columns but the images.

        Args:
            name: Name of the source.
            root: The folder.
            files: Paths below it, with "/" between the parts; all with the same columns.

        Raises:
            ValueError: A file can't be read, has no image column or several that could be it, other
                columns than the first one, or a row group too large for memory.
        """
        self.name, self._paths = name, [root / file for file in files]
        self._opened: OrderedDict[tuple[int, int], Any] = OrderedDict()  # by process and file
        self._kept: OrderedDict[tuple[int, int], tuple[Any, int]] = OrderedDict()
        fields = _read(self._paths[0], lambda: columns(self._file(0)))
        self._column = image_column(self._paths[0].name, fields)
        self._starts: list[int] = []  # of each row group, in rows of all files
        self._groups: list[tuple[int, int]] = []  # file, and row group of it
        tables: list[tuple[int, Labels]] = []
        paths: list[str | None] = []
        names: list[str] = []
        splits: list[Label] = []
        for number, path in enumerate(self._paths):
            file = _read(path, lambda number=number: self._file(number))
            if _read(path, lambda file=file: columns(file)) != fields:
                raise ValueError(
                    f"data {name!r}: {path.name!r} has other columns than "
                    f"{self._paths[0].name!r}; keep files of one table in the folder"
                )
            found = _read(path, lambda file=file, path=path: describe(file, path, self._column))
            if found.largest > _MOST_BYTES:
                raise ValueError(
                    f"data {name!r}: {path.name!r} has a row group with "
                    f"{found.largest / 2**30:.1f} GiB of images, which must fit into memory; "
                    "write it again with row_group_size=100"
                )
            starts = len(names) + np.cumsum([0, *found.groups])
            self._starts += starts[:-1].tolist()
            self._groups += [(number, group) for group in range(len(found.groups))]
            stem = str(PurePosixPath(files[number]).with_suffix(""))
            split = _SPLIT.fullmatch(PurePosixPath(stem).name)
            splits += [split[1] if split else None] * found.rows
            names += [f"{stem}/{row:06d}" for row in range(found.rows)]
            tables.append((found.rows, found.labels))
            paths += found.paths
        self.ids = [str(path) for path in paths] if can_name(paths) else names
        self.labels = {  # where one file alone names its classes, the others have none
            key: [v for rows, table in tables for v in table.get(key, [None] * rows)]
            for key in tables[0][1]
        }
        if len(set(splits)) > 1 and None not in splits:
            self.labels.setdefault("split", splits)

    def _file(self, number: int) -> Any:  # noqa: ANN401
        """Return this process's own handle: a forked one would share its position in the file."""
        import pyarrow.parquet as pq

        key = (os.getpid(), number)
        if key not in self._opened:
            self._opened[key] = pq.ParquetFile(self._paths[number], pre_buffer=False)
        if len(self._opened) > _MOST_OPEN:
            self._opened.popitem(last=False)
        return self._opened[key]

    def __getstate__(self) -> dict[str, Any]:
        """Leave handles and what was read behind when sent to another process."""
        return {**self.__dict__, "_opened": OrderedDict(), "_kept": OrderedDict()}

    def _open(self, index: int, preprocess: Preprocess) -> BinaryIO:
        place = int(np.searchsorted(self._starts, index, side="right")) - 1
        value = self._images(self._groups[place])[index - self._starts[place]]
        if not value.is_valid:
            raise BadImage("no image in this row")
        data = value.as_buffer()
        refuse_size(data.size, preprocess)
        return io.BytesIO(data)

    def _images(self, key: tuple[int, int]) -> Any:  # noqa: ANN401
        """Return the encoded images of a row group; the last ones read are kept."""
        if key not in self._kept:
            column = self._column
            file = self._file(key[0])
            read = file.read_row_group(key[1], columns=[column.leaf], use_threads=False)
            images = read.column(0)
            if column.struct:
                import pyarrow.compute as pc

                images = pc.struct_field(images, "bytes")
            self._kept[key] = images, images.nbytes
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and sum(size for _, size in self._kept.values()) > _KEPT_BYTES:
            self._kept.popitem(last=False)
        return self._kept[key][0]

    def content(self) -> Iterator[bytes]:
        """Yield sizes of the files, their footers, and evenly spaced parts of them."""
        for path in self._paths:
            yield from sample_file(path)


def open_parquet(path: Path) -> ParquetSource:
    """Open one Parquet file of images."""
    return ParquetSource(path.name, path.parent, [path.name])


def _read(path: Path, read: Any) -> Any:  # noqa: ANN401
    """Call what reads a file; whatever a broken one raises becomes a ValueError."""
    try:
        return read()
    except Exception as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:160]
        raise ValueError(
            f"data {path.name!r} can't be read as Parquet ({reason}); copy or write it again"
        ) from error
