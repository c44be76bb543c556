"""Images in Parquet files with an image column, as Hugging Face's data sets are stored.

The image column holds encoded files: as a struct {bytes, path}, or as plain binary. Row groups are
read when an image of theirs is asked for, and the last ones are kept. Columns of numbers and texts
become labels.

Memory: a row group unpacks to 100 images or so where Hugging Face wrote it. Writers that were told
nothing put all rows into one group, which is read whole.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np

from gdm_repr.data.images import BadImage, Preprocess
from gdm_repr.data.labels import Label, Labels
from gdm_repr.data.sources.files import EncodedSource, refuse_size, sample_file

_IMAGE_COLUMNS = ("image", "img", "images", "jpg", "png")  # whichever comes first
_KEPT_BYTES = 256 << 20  # of row groups that were read, together
_MOST_BYTES = 1 << 30  # of one row group's images
_MOST_OPEN = 32  # files
_SPLIT = re.compile(r"(.+)-\d{5}-of-\d{5}")  # a file's stem in Hugging Face's layout


@dataclass(frozen=True)
class _Column:
    """The column of images: its name, and whether it is a struct {bytes, path}."""

    name: str
    struct: bool

    @property
    def leaf(self) -> str:
        return f"{self.name}.bytes" if self.struct else self.name


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
        schema = _read(self._paths[0], lambda: self._file(0).schema_arrow)
        self._column = _image_column(self._paths[0].name, schema)
        self._starts: list[int] = []  # of each row group, in rows of all files
        self._groups: list[tuple[int, int]] = []  # file, and row group of it
        tables, paths, names, splits = [], [], [], []
        rows = 0
        for number, path in enumerate(self._paths):
            file = _read(path, lambda number=number: self._file(number))
            if not file.schema_arrow.equals(schema):
                raise ValueError(
                    f"data {name!r}: {path.name!r} has other columns than "
                    f"{self._paths[0].name!r}; keep files of one table in the folder"
                )
            for group in range(file.metadata.num_row_groups):
                self._starts.append(rows)
                self._groups.append((number, group))
                rows += file.metadata.row_group(group).num_rows
                self._refuse_large(path.name, file.metadata.row_group(group))
            stem = str(PurePosixPath(files[number]).with_suffix(""))
            split = _SPLIT.fullmatch(PurePosixPath(stem).name)
            splits += [split[1] if split else None] * int(file.metadata.num_rows)
            names += [f"{stem}/{row:06d}" for row in range(file.metadata.num_rows)]
            tables.append(_read(path, lambda file=file: _labels(file, self._column)))
            if self._column.struct:
                paths += _read(path, lambda file=file: _inner_paths(file, self._column.name))
        self.ids = paths if _can_name(paths, rows) else names
        self.labels = {key: [v for table in tables for v in table[key]] for key in tables[0]}
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

    def _refuse_large(self, file: str, group: Any) -> None:  # noqa: ANN401
        size = _leaf_bytes(group, self._column.leaf)
        if size > _MOST_BYTES:
            raise ValueError(
                f"data {self.name!r}: {file!r} has a row group with {size / 2**30:.1f} GiB of "
                "images, which must fit into memory; write it again with row_group_size=100"
            )

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


def _image_column(file: str, schema: Any) -> _Column:  # noqa: ANN401
    """Find the column of images by its type, and by its name where there are several."""
    import pyarrow as pa

    def is_binary(kind: Any) -> bool:  # noqa: ANN401
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    found: dict[str, _Column] = {}
    for field in schema:
        if is_binary(field.type):
            found[field.name] = _Column(field.name, struct=False)
        elif pa.types.is_struct(field.type):
            place = field.type.get_field_index("bytes")
            if place >= 0 and is_binary(field.type.field(place).type):
                found[field.name] = _Column(field.name, struct=True)
    for name in _IMAGE_COLUMNS:
        if name in found:
            return found[name]
    if len(found) != 1:
        raise ValueError(
            f"data {file!r} has the columns {', '.join(schema.names)[:200]}, of which "
            f"{' and '.join(found) if found else 'none'} could hold the images; name one 'image', "
            "of encoded files (binary, or a struct with 'bytes')"
        )
    return next(iter(found.values()))


def _leaf_bytes(group: Any, leaf: str) -> int:  # noqa: ANN401
    """Return how many bytes a column of a row group unpacks to, as the footer says."""
    columns = map(group.column, range(group.num_columns))
    return sum(int(c.total_uncompressed_size) for c in columns if c.path_in_schema == leaf)


def _inner_paths(file: Any, column: str) -> list[Any]:  # noqa: ANN401
    """Return the paths beside the bytes, None where there is none."""
    import pyarrow.compute as pc

    if file.schema_arrow.field(column).type.get_field_index("path") < 0:
        return [None] * int(file.metadata.num_rows)
    table = file.read(columns=[f"{column}.path"], use_threads=False)
    values: list[Any] = pc.struct_field(table.column(0), "path").to_pylist()
    return values


def _can_name(paths: list[Any], rows: int) -> bool:
    """Say whether inner paths name all images: they are there, unique, and of no one's machine."""
    return (
        len(paths) == len(set(paths)) == rows
        and all(isinstance(path, str) and path for path in paths)
        and not any(re.match(r"[/\\]|[A-Za-z]:", path) or ".." in path for path in paths)
    )


def _labels(file: Any, image: _Column) -> Labels:  # noqa: ANN401
    """Read columns of numbers and texts; those with names of classes give a second column."""
    schema = file.schema_arrow
    names = _class_names(schema.metadata or {})
    wanted = [f.name for f in schema if f.name != image.name and _is_label(f.type)]
    table = file.read(columns=wanted, use_threads=False)
    labels: Labels = {}
    for name in wanted:
        values = _plain(table.column(name))
        classes = names.get(name, [])
        if classes and all(isinstance(v, int | None) for v in values):
            # -1 is how a label that is kept secret, of a test split, is written
            known = [v if isinstance(v, int) and 0 <= v < len(classes) else None for v in values]
            named: list[Label] = [None if v is None else classes[v] for v in known]
            labels |= {name: list(known), "class" if name == "label" else f"{name}_class": named}
        else:
            labels[name] = values
    return labels


def _is_label(kind: Any) -> bool:  # noqa: ANN401
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    tests = (
        pa.types.is_boolean,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_string,
        pa.types.is_large_string,
    )
    return any(test(kind) for test in tests) and not pa.types.is_uint64(kind)


def _plain(column: Any) -> list[Label]:  # noqa: ANN401
    """Return a column's values, all int, all float or all str, None where missing."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int64())
    values: list[Label] = column.to_pylist()
    return values


def _class_names(metadata: dict[bytes, bytes]) -> dict[str, list[str]]:
    """Return the names of classes by column, from Hugging Face's part of the schema."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        found = {name: feature["names"] for name, feature in features.items() if "names" in feature}
    except (KeyError, TypeError, ValueError, AttributeError):  # written by others, or damaged
        return {}
    return {
        str(name): names
        for name, names in found.items()
        if isinstance(names, list) and all(isinstance(each, str) for each in names)
    }
