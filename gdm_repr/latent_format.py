"""The format of the latent store: its manifest, its Arrow schema and how its files come to be.

    store/manifest.json               what was encoded, by what, in which layout
    store/shards/shard-00000.parquet  one row an item, one fixed-size list column a band
    store/quarantine.jsonl            the items that could not be encoded, written last

*Basis order* is the order of the basis's d elements. *Store order* is that order permuted so that
every band is one contiguous range [start, stop). A band's list runs over channels first, then over
its elements: C * (stop - start) values. Where the grouping separates channels, element n of channel
c has the number c * d + n, and a band's list holds its stop - start values.

Rows belong to shards in advance: item i to shard i // shard_size. A shard appears whole or not at
all (temporary name, fsync, rename) and its bytes depend on its content only. So any number of
workers, killed at any point and started again, leave the same store as one unbroken run.

The shards lie in a folder of their own because Arrow and Spark read every file of a folder as data.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

SCHEMA_VERSION: Literal[1] = 1
MANIFEST = "manifest.json"
QUARANTINE = "quarantine.jsonl"
SHARDS = "shards"
METADATA_KEY = b"gdm_repr"

LabelType = Literal["int", "float", "string", "bool"]
LABEL_TYPES: dict[LabelType, pa.DataType] = {
    "int": pa.int64(),
    "float": pa.float64(),
    "string": pa.string(),
    "bool": pa.bool_(),
}
NOT_COMPARED = {"settings", "encoded", "quarantined"}


@dataclass(frozen=True)
class Band:
    """One group of latents: elements [start, stop) in store order."""

    name: str
    start: int
    stop: int

    @property
    def column(self) -> str:
        """Name of the band's column, as in ``z_0_30``."""
        return f"z_{self.start}_{self.stop}"


class Manifest(BaseModel):
    """Everything a reader must know before the first row, and what makes two runs the same store.

    Attributes:
        fingerprint: digests by what they identify (checkpoint, basis, grouping, solver, ...).
        bands: the groups; together they tile the elements in store order.
        element_order: store position -> index in basis order; None where they are the same.
        shape: (C, H, W) of an image; d = H * W.
        items: number of source items, the quarantined ones included.
        shard_size: items a shard.
        dtype: how latents are stored; they are read as float32.
        per_channel: the grouping separates channels, so that elements run over C * d.
        labels: type of every label; a label may be missing in some rows.
        errors: columns of float32 errors by name and width, as in {"latent_error": 1}.
        settings: the same facts for a human; not compared.
        encoded, quarantined: counts, known once the store is finished.

    Raises:
        ValueError: The bands do not tile the elements, or the order is no permutation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = SCHEMA_VERSION
    fingerprint: dict[str, str]
    bands: list[Band]
    element_order: list[int] | None = None
    shape: tuple[int, int, int]
    items: int = Field(ge=1)
    shard_size: int = Field(ge=1)
    dtype: Literal["float32", "float16"] = "float32"
    per_channel: bool = False
    labels: dict[str, LabelType] = {}
    errors: dict[str, int] = {}
    settings: dict[str, Any] = {}
    encoded: int | None = None
    quarantined: int | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        starts = [band.start for band in self.bands]
        edges = [0, *(band.stop for band in self.bands)]
        if starts != edges[:-1] or sorted(set(edges)) != edges or edges[-1] != self.elements:
            ranges = [(band.start, band.stop) for band in self.bands]
            raise ValueError(f"bands {ranges} do not tile the {self.elements} elements in order")
        if len({band.name for band in self.bands}) != len(self.bands):
            raise ValueError(f"bands {[band.name for band in self.bands]} repeat a name")
        if self.element_order is not None and sorted(self.element_order) != [*range(self.elements)]:
            raise ValueError(f"element_order is no permutation of {self.elements} elements")
        if any(width < 1 for width in self.errors.values()):
            raise ValueError(f"errors {self.errors} must have widths of at least 1")
        return self

    @property
    def elements(self) -> int:
        """Number of elements the bands divide: d, or C * d if per_channel."""
        channels, height, width = self.shape
        return height * width * (channels if self.per_channel else 1)

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.items // self.shard_size)

    @property
    def digest(self) -> str:
        """Short hash of all that two runs of one store must share."""
        facts = self.model_dump(mode="json", exclude=NOT_COMPARED)
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def rows(self, shard: int) -> range:
        """Source indices of the items that belong to a shard."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, self.items))

    def width(self, band: Band) -> int:
        """Number of values in a band's list."""
        return (band.stop - band.start) * (1 if self.per_channel else self.shape[0])

    def order(self) -> npt.NDArray[np.int64]:
        """Basis index of every store position, (elements,)."""
        if self.element_order is None:
            return np.arange(self.elements)
        return np.asarray(self.element_order, dtype=np.int64)

    def arrow_schema(self) -> pa.Schema:
        """The Arrow schema that every shard of the store has."""
        fields = [
            pa.field("index", pa.int64(), nullable=False),
            pa.field("id", pa.string(), nullable=False),
            pa.field("source", pa.string(), nullable=False),
        ]
        fields += [
            pa.field(f"label_{name}", LABEL_TYPES[kind]) for name, kind in self.labels.items()
        ]
        for name, width in self.errors.items():
            kind = pa.float32() if width == 1 else list_type("float32", width)
            fields.append(pa.field(name, kind, nullable=False))
        fields += [
            pa.field(band.column, list_type(self.dtype, self.width(band)), nullable=False)
            for band in self.bands
        ]
        return pa.schema(fields)

    def to_json(self) -> str:
        """JSON with one line per attribute, so that long lists stay readable."""
        lines = [
            f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}"
            for key, value in self.model_dump(mode="json").items()
        ]
        return "{\n" + ",\n".join(lines) + "\n}\n"


def label_type(values: Sequence[object]) -> LabelType:
    """Find the narrowest type that holds a column of labels; None is a missing value.

    >>> label_type([1, None, 2.5]), label_type(["cat", 3])
    ('float', 'string')
    """
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool} and kinds:
        return "bool"
    if kinds <= {int} and kinds:
        return "int"
    return "float" if kinds <= {int, float} and kinds else "string"


def list_type(dtype: str, width: int) -> pa.DataType:
    """Arrow type of ``width`` floats a row."""
    kind = pa.float32() if dtype == "float32" else pa.float16()
    return pa.list_(pa.field("element", kind, nullable=False), width)


def shard_path(path: Path, shard: int) -> Path:
    """File of a shard."""
    return path / SHARDS / f"shard-{shard:05d}.parquet"


def read_manifest(path: Path) -> Manifest:
    """Read and check the manifest of the store in a folder.

    Raises:
        ValueError: There is none, it is damaged, or its schema version is unknown.
    """
    file = path / MANIFEST
    if not file.is_file():
        raise ValueError(f"latents {str(path)!r} are no latent store: there is no {MANIFEST}")
    try:
        facts = json.loads(file.read_text("utf-8"))
        version = facts["schema_version"]
        if version == SCHEMA_VERSION:
            return Manifest.model_validate(facts)
    except ValidationError as error:
        first = error.errors()[0]
        problem = ".".join(map(str, first["loc"])) + " " + first["msg"]
    except (KeyError, TypeError, ValueError) as error:
        problem = repr(error)
    else:
        raise ValueError(
            f"latents {str(path)!r} have the schema version {version!r}; this version of gdm-repr "
            f"reads {SCHEMA_VERSION}: install a matching one or encode again"
        )
    raise ValueError(
        f"latents {str(path)!r} have a damaged {MANIFEST} ({problem.strip()}); encode again into "
        "a new folder"
    )


def open_shard(file: Path, mode: str = "rb") -> pa.NativeFile:
    """Open a shard; Arrow itself takes no paths that are not UTF-8, and some for addresses."""
    return pa.OSFile(os.fsencode(file), mode)


def read_note(footer: pq.FileMetaData) -> dict[str, Any]:
    """What a shard says of itself: its store's digest, its number and its rejected items."""
    note: dict[str, Any] = json.loads(footer.metadata[METADATA_KEY])
    return note


def read_footer(path: Path, shard: int, manifest: Manifest) -> pq.FileMetaData:
    """Read a shard's footer and check that the shard is a whole one of this store.

    Raises:
        ValueError: The shard is damaged or of another store.
    """
    file = shard_path(path, shard)
    try:
        with open_shard(file) as opened:
            footer = pq.read_metadata(opened)
        note = read_note(footer)
    except (OSError, pa.ArrowException, KeyError, TypeError) as error:
        raise damaged(file, error) from error
    if (note["store"], note["shard"]) != (manifest.digest, shard):
        raise ValueError(
            f"latents shard {str(file)!r} belongs to another store than its {MANIFEST}; delete it "
            "and run encode again"
        )
    return footer


def is_whole(path: Path, shard: int) -> bool:
    """Say whether a shard is there and has its footer, which a Parquet file ends with."""
    try:
        with open_shard(shard_path(path, shard)) as opened:
            pq.read_metadata(opened)
    except (OSError, pa.ArrowException):
        return False
    return True


def damaged(file: Path, error: Exception) -> ValueError:
    """The error for a shard that Arrow could not read."""
    reason = (str(error).splitlines() or [repr(error)])[0]
    return ValueError(
        f"latents shard {str(file)!r} is damaged ({reason}); delete it and run encode again"
    )
