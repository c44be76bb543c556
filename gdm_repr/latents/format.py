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

The shards lie in a folder of their own because pandas, Arrow and Spark read every file of a folder
as data: they are given ``store/shards``, not ``store``.

The manifest ends with digests under ``sha256``: one over all else in it, and once the store is
finished one over each shard's footer. The pages before the footer carry checksums of their own. A
store that was written before there were digests is read without them; what can be checked without
is checked in both: counts, the order of rows, types, and the solver against its fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gdm_repr.data.quarantine import Rejected
from gdm_repr.files import parse_json, read_bytes
from gdm_repr.identity import Free, Later, counted

if TYPE_CHECKING:
    from gdm_repr.grouping import Grouping

SCHEMA_VERSION: Literal[2] = 2  # the first named columns label_NAME and z_START_STOP, stop excluded
READABLE = (1, SCHEMA_VERSION)
HELD_OUT = "held_out"  # column: whether training held the image out
MANIFEST = "manifest.json"
QUARANTINE = "quarantine.jsonl"
SHARDS = "shards"
METADATA_KEY = b"gdm_repr"
DIGESTS = "sha256"  # key of the manifest
MOST_ELEMENTS = 2**31 - 1  # of an image, as Arrow counts a list's
_TAIL = 8  # bytes after a footer: its length and b"PAR1"
_SHARD = re.compile(r"shard-(\d{5}|[1-9]\d{5,11})\.parquet")

LabelType = Literal["int", "float", "string", "bool"]
LABEL_TYPES: dict[LabelType, pa.DataType] = {
    "int": pa.int64(),
    "float": pa.float64(),
    "string": pa.string(),
    "bool": pa.bool_(),
}


@dataclass(frozen=True)
class Band:
    """One group of latents: elements [start, stop) in store order."""

    name: str
    start: int
    stop: int

    @property
    def column(self) -> str:
        """Name of the band's column, as in ``z_0_29`` of elements 0 to 29."""
        return f"z_{self.start}_{self.stop - 1}"


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
        held_out: a column says of each row whether training held it out.
        settings: the same facts for a human; not compared.
        encoded, quarantined: counts, known once the store is finished.

    Raises:
        ValueError: The bands do not tile the elements, or the order is no permutation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1, 2] = SCHEMA_VERSION
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
    held_out: Later[bool] = False
    settings: Free[dict[str, Any]] = {}
    encoded: Free[int | None] = None
    quarantined: Free[int | None] = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if min(self.shape) < 1 or math.prod(self.shape) > MOST_ELEMENTS:
            raise ValueError(f"shape {self.shape} must be three counts (C, H, W) of an image")
        starts = [band.start for band in self.bands]
        edges = [0, *(band.stop for band in self.bands)]
        if starts != edges[:-1] or sorted(set(edges)) != edges or edges[-1] != self.elements:
            ranges = [(band.start, band.stop) for band in self.bands]
            raise ValueError(f"bands {ranges} do not tile the {self.elements} elements in order")
        if len({band.name for band in self.bands}) != len(self.bands):
            raise ValueError(f"bands {[band.name for band in self.bands]} repeat a name")
        order = self.element_order
        if order is not None and (
            len(order) != self.elements or sorted(order) != [*range(self.elements)]
        ):
            raise ValueError(f"element_order is no permutation of {self.elements} elements")
        if not all(1 <= width <= MOST_ELEMENTS for width in self.errors.values()):
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
        facts = json.dumps(counted(self), sort_keys=True)
        return hashlib.sha256(facts.encode()).hexdigest()[:16]

    def rows(self, shard: int) -> range:
        """Source indices of the items that belong to a shard."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, self.items))

    def width(self, band: Band) -> int:
        """Number of values in a band's list."""
        return (band.stop - band.start) * (1 if self.per_channel else self.shape[0])

    def band_column(self, band: Band) -> str:
        """Name of a band's column; in the first schema ``z_0_30`` was that of elements 0 to 29."""
        return band.column if self.schema_version > 1 else f"z_{band.start}_{band.stop}"

    def label_column(self, name: str) -> str:
        """Name of a label's column: its own, but for ``label_`` before one that is taken."""
        fixed = {"index", "id", "source", HELD_OUT, *self.errors}
        free = name not in fixed and not name.startswith(("z_", "label_"))
        return name if free and self.schema_version > 1 else f"label_{name}"

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
            pa.field(self.label_column(name), LABEL_TYPES[kind])
            for name, kind in self.labels.items()
        ]
        if self.held_out:
            fields.append(pa.field(HELD_OUT, pa.bool_(), nullable=False))
        for name, width in self.errors.items():
            kind = pa.float32() if width == 1 else list_type("float32", width)
            fields.append(pa.field(name, kind, nullable=False))
        fields += [
            pa.field(
                self.band_column(band), list_type(self.dtype, self.width(band)), nullable=False
            )
            for band in self.bands
        ]
        return pa.schema(fields)

    def to_json(self, footers: Sequence[str] = ()) -> str:
        """JSON with one line per attribute, so that long lists stay readable, and its digest.

        Args:
            footers: digests of the shards' footers, once the store is finished.
        """
        facts = self.model_dump(mode="json")
        digests = {"footers": [*footers], "manifest": _digest(facts, footers)}
        lines = [
            f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}"
            for key, value in {**facts, DIGESTS: digests}.items()
        ]
        return "{\n" + ",\n".join(lines) + "\n}\n"


def _digest(facts: Mapping[str, Any], footers: Sequence[str]) -> str:
    text = json.dumps([facts, [*footers]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


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


def list_shards(path: Path, manifest: Manifest) -> list[int]:
    """List the shards of a store that are there; one look at the folder, whatever it should hold.

    Raises:
        ValueError: The folder of the shards can't be listed.
    """
    try:
        names = os.listdir(path / SHARDS)
    except OSError as error:
        raise ValueError(
            f"latents {str(path)!r} have no folder {SHARDS!r} that can be listed "
            f"({error.strerror}); encode again"
        ) from None
    numbers = (int(found[1]) for name in names if (found := _SHARD.fullmatch(name)))
    return sorted(number for number in numbers if number < manifest.shards)


def read_manifest(path: Path) -> Manifest:
    """Read and check the manifest of the store in a folder.

    Raises:
        ValueError: There is none, it is damaged, or its schema version is unknown.
    """
    return read_manifest_and_digests(path)[0]


def read_manifest_and_digests(path: Path) -> tuple[Manifest, tuple[str, ...]]:
    """Read and check a manifest, and the digests of the shards' footers; none if it has none.

    Raises:
        ValueError: There is no manifest, it is damaged or was changed, or its schema version is
            unknown.
    """
    file = path / MANIFEST
    if not file.is_file():
        raise ValueError(f"latents {str(path)!r} are no latent store: there is no {MANIFEST}")
    where = f"latents {str(path)!r}"
    facts = parse_json(
        read_bytes(file, "latents"), f"{where} have a damaged {MANIFEST}, which is", constants=True
    )
    try:
        version = facts["schema_version"]
        digests = facts.pop(DIGESTS, None)
        if version in READABLE:
            manifest = Manifest.model_validate(facts)
            return manifest, _check_digests(manifest, facts, digests)
    except ValidationError as error:
        first = error.errors()[0]
        problem = ".".join(map(str, first["loc"])) + " " + first["msg"]
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        problem = str(error) if type(error) is ValueError else repr(error)
    else:
        raise ValueError(
            f"{where} have the schema version {str(version)[:40]}; this version of gdm-repr "
            f"reads {' and '.join(map(str, READABLE))}: install a matching one or encode again"
        )
    raise ValueError(
        f"{where} have a damaged {MANIFEST} ({problem.strip()[:400]}); encode again into a new "
        "folder"
    )


def _check_digests(
    manifest: Manifest, facts: Mapping[str, Any], digests: object
) -> tuple[str, ...]:
    """Check a manifest as it was read against its digests, and the solver against its own."""
    footers: list[str] = []
    if digests is not None:
        if not isinstance(digests, dict) or set(digests) != {"footers", "manifest"}:
            raise ValueError(f"{DIGESTS} has not just footers and manifest")
        footers = digests["footers"]
        if _digest(facts, footers) != digests["manifest"]:
            raise ValueError("its content is not what its digest says: it was changed or damaged")
        if len(footers) not in (0, manifest.shards):
            raise ValueError(f"{DIGESTS}.footers has not one digest a shard")
    if "solver" in manifest.settings and "solver" in manifest.fingerprint:
        text = json.dumps(manifest.settings["solver"], sort_keys=True)
        if hashlib.sha256(text.encode()).hexdigest() != manifest.fingerprint["solver"]:
            raise ValueError("settings.solver is not what fingerprint.solver says")
    return tuple(footers)


def open_shard(file: Path, mode: str = "rb") -> pa.NativeFile:
    """Open a shard; Arrow itself takes no paths that are not UTF-8, and some for addresses."""
    return pa.OSFile(os.fsencode(file), mode)


@dataclass(frozen=True)
class Footer:
    """What a shard says of itself.

    Attributes:
        rows: number of encoded items.
        rejected: the other items of the shard.
        digest: SHA-256 of the file's size and of the footer's bytes.
    """

    rows: int
    rejected: list[Rejected]
    digest: str


def _read_tail(file: Path) -> tuple[bytes, str]:
    """Return a shard's footer with what follows it, and its digest."""
    with open(os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as stream:
        info = os.fstat(stream.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise ValueError("it is no regular file")
        stream.seek(max(0, info.st_size - _TAIL))
        end = stream.read(_TAIL)
        length = int.from_bytes(end[:4], "little") + _TAIL
        if end[4:] != b"PAR1" or length + 4 > info.st_size:
            raise ValueError("it has no whole footer")
        stream.seek(info.st_size - length)
        tail = stream.read(length)
    return tail, hashlib.sha256(b"%d\n" % info.st_size + tail).hexdigest()


def _parse_tail(tail: bytes) -> pq.FileMetaData:
    return pq.read_metadata(pa.BufferReader(b"PAR1" + tail))


def read_footer(path: Path, shard: int, manifest: Manifest, digest: str | None = None) -> Footer:
    """Read a shard's footer and check that the shard is a whole one of this store.

    Args:
        path: the store's folder.
        shard: its number.
        manifest: the store's.
        digest: the footer's, where the manifest has it.

    Raises:
        ValueError: The shard is damaged or of another store.
    """
    file = shard_path(path, shard)
    try:
        tail, found = _read_tail(file)
        metadata = _parse_tail(tail)
        note = parse_json(metadata.metadata[METADATA_KEY], "its note")
        store, rejected = note["store"], note["rejected"]
        if set(note) != {"store", "shard", "rejected"}:
            raise ValueError("its note has not just store, shard and rejected")
        mine = (store, note["shard"]) == (manifest.digest, shard)
        if mine and found != (digest or found):
            raise ValueError("its footer is not what the manifest says")
        if mine:
            _check_footer(metadata, rejected, shard, manifest)
    except Exception as error:  # of damaged bytes Arrow raises as many kinds as there are
        raise damaged(file, error) from error
    if not mine:
        raise ValueError(
            f"latents shard {str(file)!r} belongs to another store than its {MANIFEST}; delete it "
            "and run encode again"
        )
    return Footer(metadata.num_rows, [Rejected(*item) for item in rejected], found)


def _check_footer(
    metadata: pq.FileMetaData, rejected: object, shard: int, manifest: Manifest
) -> None:
    """Refuse other columns than the manifest's, or another number of rows."""
    rows = manifest.rows(shard)
    if not isinstance(rejected, list) or not all(_is_rejected(item, rows) for item in rejected):
        raise ValueError("its note does not name items of the shard as rejected")
    index = [item[0] for item in rejected]
    if sorted(set(index)) != index:
        raise ValueError("its note does not name rejected items once, in order")
    if metadata.num_rows != len(rows) - len(rejected):
        raise ValueError(
            f"it has {metadata.num_rows} rows and {len(rejected)} rejected items of {len(rows)}"
        )
    if not metadata.schema.to_arrow_schema().equals(manifest.arrow_schema()):
        raise ValueError("its columns are not those of the manifest")


def _is_rejected(item: object, rows: range) -> bool:
    kinds = [int, str, str]
    return isinstance(item, list) and [type(part) for part in item] == kinds and item[0] in rows


def is_whole(path: Path, shard: int) -> bool:
    """Say whether a shard is there and has its footer, which a Parquet file ends with."""
    try:
        _parse_tail(_read_tail(shard_path(path, shard))[0])
    except Exception:  # of damaged bytes Arrow raises as many kinds as there are
        return False
    return True


def damaged(file: Path, error: Exception) -> ValueError:
    """The error for a shard that Arrow could not read."""
    reason = (str(error).splitlines() or [repr(error)])[0][:300]
    return ValueError(
        f"latents shard {str(file)!r} is damaged ({reason}); delete it and run encode again"
    )


def bands_of(grouping: Grouping) -> list[Band]:
    """Return the bands of a store of a grouping's latents, one a group, by group number."""
    edges = [0, *accumulate(grouping.sizes())]
    return [Band(*each) for each in zip(grouping.names, edges[:-1], edges[1:], strict=True)]


def grouping_of(manifest: Manifest) -> Grouping:
    """Return the groups that a store's bands are of, generated by number: as `bands_of` lays them.

    The order of generation is the model's to say, and is not among them.
    """
    from gdm_repr.grouping import Grouping

    channels, height, width = manifest.shape
    index, order = np.empty(manifest.elements, np.int64), manifest.order()
    for number, band in enumerate(manifest.bands):
        index[order[band.start : band.stop]] = number
    names = tuple(band.name for band in manifest.bands)
    rows = index.reshape(channels if manifest.per_channel else 1, height * width)
    return Grouping(rows, tuple(range(len(names))), names)
