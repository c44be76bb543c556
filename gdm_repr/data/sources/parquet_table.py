"""What a Parquet file says of its rows: the column of images, labels, paths, row groups.

Nothing of it is believed before it is checked: a damaged footer may name any number of rows.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gdm_repr.data.labels import Label, Labels

_IMAGE_COLUMNS = ("image", "img", "images", "jpg", "png")  # whichever comes first


@dataclass(frozen=True)
class ImageColumn:
    """The column of images: its name, and whether it is a struct {bytes, path}."""

    name: str
    struct: bool

    @property
    def leaf(self) -> str:
        """Name of the column that is read."""
        return f"{self.name}.bytes" if self.struct else self.name


@dataclass(frozen=True)
class Described:
    """What a file holds beside the images.

    Attributes:
        groups: rows of each row group.
        largest: bytes that the images of a row group unpack to, at most.
        labels: columns of labels.
        paths: of the images, as the file has them; None where it has none.
    """

    groups: list[int]
    largest: int
    labels: Labels
    paths: list[str | None]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(self.groups)


def columns(file: Any) -> list[tuple[str, Any]]:  # noqa: ANN401
    """Return name and Arrow type of each column of an open file."""
    return [(field.name, field.type) for field in file.schema_arrow]


def describe(file: Any, path: Path, image: ImageColumn) -> Described:  # noqa: ANN401
    """Read all but the images of an open file.

    Raises:
        ValueError: It says to have more rows than its size allows. A damaged file raises whatever
            Arrow raises.
    """
    facts, size = file.metadata, path.stat().st_size
    groups = [facts.row_group(i) for i in range(facts.num_row_groups)]
    rows = [int(group.num_rows) for group in groups]
    if min(rows, default=0) < 0 or sum(rows) > 8 * size:
        raise ValueError(f"{sum(rows)} rows in {size} bytes")
    labels, paths = _labels(file, image), _inner_paths(file, image)
    if any(len(column) != sum(rows) for column in labels.values()) or len(paths) != sum(rows):
        raise ValueError("columns of different lengths")
    largest = max((_leaf_bytes(group, image.leaf) for group in groups), default=0)
    return Described(rows, largest, labels, paths)


def image_column(file: str, fields: list[tuple[str, Any]]) -> ImageColumn:
    """Find the column of images by its type, and by its name where there are several.

    Raises:
        ValueError: There is none, or several without a name that tells.
    """
    import pyarrow as pa

    def is_binary(kind: Any) -> bool:  # noqa: ANN401
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    found: dict[str, ImageColumn] = {}
    for name, kind in fields:
        if is_binary(kind):
            found[name] = ImageColumn(name, struct=False)
        elif pa.types.is_struct(kind):
            place = kind.get_field_index("bytes")
            if place >= 0 and is_binary(kind.field(place).type):
                found[name] = ImageColumn(name, struct=True)
    for name in _IMAGE_COLUMNS:
        if name in found:
            return found[name]
    if len(found) != 1:
        raise ValueError(
            f"data {file!r} has the columns {', '.join(dict(fields))[:200]}, of which "
            f"{' and '.join(found) if found else 'none'} could hold the images; name one 'image', "
            "of encoded files (binary, or a struct with 'bytes')"
        )
    return next(iter(found.values()))


def _leaf_bytes(group: Any, leaf: str) -> int:  # noqa: ANN401
    """Return how many bytes a column of a row group unpacks to, as the footer says."""
    chunks = map(group.column, range(group.num_columns))
    return sum(int(c.total_uncompressed_size) for c in chunks if c.path_in_schema == leaf)


def _inner_paths(file: Any, image: ImageColumn) -> list[str | None]:  # noqa: ANN401
    """Return the paths beside the bytes, None where there is none."""
    import pyarrow.compute as pc

    kind = file.schema_arrow.field(image.name).type
    if not image.struct or kind.get_field_index("path") < 0:
        return [None] * int(file.metadata.num_rows)
    table = file.read(columns=[f"{image.name}.path"], use_threads=False)
    values: list[str | None] = pc.struct_field(table.column(0), "path").to_pylist()
    return values


def can_name(paths: list[str | None]) -> bool:
    """Say whether inner paths name all images: they are there, unique, and of no one's machine."""
    return len(paths) == len(set(paths)) and all(
        isinstance(path, str)
        and path
        and not re.match(r"[/\\]|[A-Za-z]:", path)
        and ".." not in path
        for path in paths
    )


def _labels(file: Any, image: ImageColumn) -> Labels:  # noqa: ANN401
    """Read columns of numbers and texts; those with names of classes give a second column.

    A column of the file itself keeps its name before one of names.
    """
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
            labels[name] = list(known)
            of_names = "class" if name == "label" else f"{name}_class"
            if of_names not in wanted:
                labels[of_names] = named
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
