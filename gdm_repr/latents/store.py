"""The latent store (DESIGN.md section 5): read grouped latents lazily, band by band.

    store = open_store("runs/encode")
    coarse = store.band((0, 30))             # (n, C, 30); reads nothing else
    first = store.band(0, rows=slice(100))

Writing is `StoreWriter`; the files themselves are described in `gdm_repr.latents.format`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from gdm_repr.boundary.arguments import Rows, integer, integers, row_numbers
from gdm_repr.boundary.isolation import isolated
from gdm_repr.boundary.text import listed, printable
from gdm_repr.files import user_path
from gdm_repr.latents.format import (
    HELD_OUT,
    MANIFEST,
    Band,
    damaged,
    list_shards,
    open_shard,
    read_footer,
    read_manifest,
    read_manifest_and_digests,
    shard_path,
)

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Which = str | int | tuple[int, int]


@dataclass(frozen=True, repr=False)
class LatentBatch:
    """Some rows of a store: source indices (n,), ids (n) and latents z (n, C, d) in basis order."""

    index: Ints
    ids: list[str]
    z: Floats

    def __repr__(self) -> str:
        """Say how many latents there are, and the ids of the first ones."""
        return f"LatentBatch(z {self.z.shape}; ids {listed(self.ids, 4)})"


class LatentStore:
    """Read a latent store: every call touches only the shards and the columns that it needs.

    Rows follow the source's order, without the quarantined items. An argument ``rows`` is None
    (all), a slice, row numbers in 0 .. len(store) - 1, or a boolean mask of len(store) values. A
    band is named by its name, its position or its (start, stop).

    Attributes:
        path: the store's folder.
        manifest: what was encoded, by what, in which layout.
        quarantined: the items that could not be encoded.
    """

    def __init__(self, path: str | Path, *, incomplete: bool = False) -> None:
        """Open a store; see `open_store`."""
        self.path = user_path(path).absolute()  # read on, wherever the caller goes
        self.manifest, digests = read_manifest_and_digests(self.path)
        self._shards = list_shards(self.path, self.manifest)
        lacking = self.manifest.shards - len(self._shards)
        if (lacking or self.manifest.encoded is None) and not incomplete:
            there = set(self._shards)
            every = (shard for shard in range(self.manifest.shards) if shard not in there)
            missing = [*islice(every, 8)]
            lack = f"shards {missing} ({lacking} in all)" if lacking else "final counts"
            raise ValueError(
                f"latents {str(self.path)!r} are incomplete, they lack {lack}; run encode again "
                "to resume, or open them with incomplete=True"
            )
        footers = [
            read_footer(self.path, shard, self.manifest, digests[shard] if digests else None)
            for shard in self._shards
        ]
        self._offsets = np.cumsum([0, *(footer.rows for footer in footers)])
        self.quarantined = [item for footer in footers for item in footer.rejected]
        self._footers = dict(zip(self._shards, footers, strict=True))
        self._schema = self.manifest.arrow_schema()
        self._in_order: set[int] = set()  # shards whose rows were found to be the right ones
        self._rows: Ints | None = None  # those that were selected
        counts = (len(self), len(self.quarantined))
        said = (self.manifest.encoded, self.manifest.quarantined)
        if not incomplete and counts != said:
            raise ValueError(
                f"latents {str(self.path)!r} hold {counts[0]} encoded and {counts[1]} quarantined "
                f"items, but their manifest says {said[0]} and {said[1]}; encode again into a new "
                "folder"
            )

    def __repr__(self) -> str:
        """Say where it is, how many images' latents it holds, in which bands, and their labels."""
        shape = "x".join(map(str, self.manifest.shape))
        parts = [f"{len(self)} images of {shape}"]
        parts.append(f"bands {listed([band.name for band in self.manifest.bands])}")
        if self.manifest.labels:
            parts.append(f"labels {listed([*self.manifest.labels])}")
        if self.quarantined:
            parts.append(f"{len(self.quarantined)} quarantined")
        return f"LatentStore({printable(str(self.path))!r}; {'; '.join(parts)})"

    def __len__(self) -> int:
        """Count the encoded items at hand."""
        return int(self._offsets[-1]) if self._rows is None else len(self._rows)

    @isolated
    def select(self, rows: Rows) -> LatentStore:
        """Return a store of some of the rows, in the order asked for; it reads the same files.

        Raises:
            ValueError: The store has no such row.
        """
        wanted = row_numbers(rows, len(self), owner="the store's ")
        selected = copy(self)
        selected._rows = wanted if self._rows is None else self._rows[wanted]
        return selected

    @property
    def selected(self) -> Ints | None:
        """Which rows of the folder's store :meth:`select` chose, (n,); None for all of them."""
        return self._rows

    @property
    def held_out(self) -> npt.NDArray[np.bool_] | None:
        """Whether training held each row out, (n,); None where the store does not say."""
        return self._scalars(HELD_OUT) if self.manifest.held_out else None

    @property
    def index(self) -> Ints:
        """Source indices of the rows, (n,)."""
        index: Ints = self._scalars("index").astype(np.int64)
        return index

    @property
    def ids(self) -> list[str]:
        """Ids of the rows."""
        return [str(name) for name in self._scalars("id")]

    @property
    def sources(self) -> list[str]:
        """Sources of the rows."""
        return [str(name) for name in self._scalars("source")]

    def labels(self, name: str) -> npt.NDArray[Any]:
        """Values of one label, (n,); missing numbers are NaN (then float), missing texts None.

        Raises:
            ValueError: The store has no such label.
        """
        if name not in (known := self.manifest.labels):
            raise ValueError(f"label {name!r} is not in the store; it has {[*known]}")
        return self._scalars(self.manifest.label_column(name))

    def errors(self, name: str, rows: Rows = None) -> Floats:
        """One error of the rows, (n,), or (n, width) where it was measured by group.

        Raises:
            ValueError: The store has no such error.
        """
        if name not in (known := self.manifest.errors):
            raise ValueError(f"error {name!r} is not in the store; it has {[*known]}")
        values = self._floats(name, known[name], rows)
        return values[:, 0] if known[name] == 1 else values

    def find_band(self, which: Which) -> Band:
        """Find a band by its name, its position or its (start, stop).

        Raises:
            ValueError: The store has no such band.
        """
        wanted: object = which
        if isinstance(which, Sequence | np.ndarray) and not isinstance(which, str):
            wanted = integers(which, "band")
        elif not isinstance(which, str):
            wanted = integer(which, "band", "must be a name, a position or (start, stop)")
        for position, band in enumerate(self.manifest.bands):
            if wanted in (band.name, position, (band.start, band.stop)):
                return band
        known = [(band.name, (band.start, band.stop)) for band in self.manifest.bands]
        raise ValueError(f"band {which!r} is not in the store; its bands are {known}")

    def band(self, which: Which, rows: Rows = None) -> Floats:
        """Latents of one band, reading the bytes of that column only.

        Returns:
            (n, C, stop - start) float32 in store order; (n, 1, stop - start) if per_channel.

        Raises:
            ValueError: The store has no such band or row, or a shard is damaged.
        """
        band = self.find_band(which)
        values = self._floats(self.manifest.band_column(band), self.manifest.width(band), rows)
        channels = self.manifest.width(band) // (band.stop - band.start)
        return values.reshape(len(values), channels, band.stop - band.start)

    def elements(self, which: Which) -> Ints:
        """Basis indices of a band's elements, (stop - start,); over C * d if per_channel."""
        band = self.find_band(which)
        return self.manifest.order()[band.start : band.stop]

    def z(self, rows: Rows = None) -> Floats:
        """All latents, (n, C, d) float32 in basis order.

        Raises:
            ValueError: The store has no such row, or a shard is damaged.
        """
        channels, height, width = self.manifest.shape
        bands = [self.band(position, rows) for position in range(len(self.manifest.bands))]
        stored = np.concatenate(bands, axis=2)
        z = np.empty_like(stored)
        z[:, :, self.manifest.order()] = stored
        return z.reshape(len(z), channels, height * width)

    def iter_batches(self, batch_size: int) -> Iterator[LatentBatch]:
        """Yield all rows in order, ``batch_size`` at a time or fewer at the end of a shard.

        One shard is in memory at a time, and is read once.

        Raises:
            ValueError: ``batch_size`` is less than 1.
        """
        if integer(batch_size, "batch_size") < 1:
            raise ValueError(f"batch_size {batch_size} must be at least 1")
        index, ids = self.index, self.ids
        for run in self.runs():
            first, last, z = run.start, run.stop, self.z(run)
            for start in range(first, last, batch_size):
                stop = min(start + batch_size, last)
                yield LatentBatch(
                    index[start:stop], ids[start:stop], z[start - first : stop - first]
                )

    def runs(self) -> Iterator[slice]:
        """Yield all rows in order, as slices of rows that lie in one shard each.

        What reads a whole store band by band goes by these, so that no shard is read twice.
        """
        breaks = np.flatnonzero(np.diff(self._places(np.arange(len(self))))) + 1
        for first, last in pairwise([0, *breaks.tolist(), len(self)]):
            yield slice(first, last)

    def require(self, fingerprint: Mapping[str, str]) -> None:
        """Refuse to go on with latents that something else made.

        Args:
            fingerprint: digests that must be the store's own; others are not compared.

        Raises:
            ValueError: A digest differs; the message names it.
        """
        for key, value in fingerprint.items():
            if (found := self.manifest.fingerprint.get(key)) != value:
                raise ValueError(
                    f"latents {str(self.path)!r} have the {key} fingerprint {found!r}, not "
                    f"{value!r}: use the {key} they were encoded with, or encode again"
                )

    def _scalars(self, column: str) -> npt.NDArray[Any]:
        parts = [self._column(shard, column) for shard in self._shards]
        kind = self._schema.field(column).type
        values: npt.NDArray[Any] = pa.chunked_array(parts, type=kind).to_numpy()
        return values if self._rows is None else values[self._rows]

    def _places(self, stored: Ints) -> Ints:
        """Return the position among the shards of each row, (n,)."""
        stored = stored if self._rows is None else self._rows[stored]
        places: Ints = np.searchsorted(self._offsets, stored, side="right") - 1
        return places

    def _floats(self, column: str, width: int, rows: Rows) -> Floats:
        wanted = row_numbers(rows, len(self), owner="the store's ")
        places = self._places(wanted)
        wanted = wanted if self._rows is None else self._rows[wanted]
        out = np.empty((len(wanted), width), dtype=np.float32)
        for place in np.unique(places):
            array = self._column(self._shards[place], column)
            flat = array.flatten() if pa.types.is_fixed_size_list(array.type) else array
            values = flat.to_numpy(zero_copy_only=False).reshape(-1, width)
            if column.startswith("z_") and not np.isfinite(values).all():
                file = shard_path(self.path, self._shards[place])
                raise damaged(file, ValueError(f"{column} holds numbers that are not finite"))
            mine = places == place
            out[mine] = values[wanted[mine] - self._offsets[place]]
        return out

    def _column(self, shard: int, column: str) -> pa.Array:
        file = shard_path(self.path, shard)
        kind, footer = self._schema.field(column).type, self._footers[shard]
        try:
            with (
                open_shard(file) as opened,
                pq.ParquetFile(opened, page_checksum_verification=True) as parquet,
            ):
                if shard not in self._in_order:
                    index = parquet.read(columns=["index"]).column(0).to_pylist()
                    rejected = {item.index for item in footer.rejected}
                    if index != [i for i in self.manifest.rows(shard) if i not in rejected]:
                        raise ValueError("its rows are not those of the shard, in order")
                    self._in_order.add(shard)
                array = parquet.read(columns=[column]).column(0).combine_chunks()
            nullable = self._schema.field(column).nullable
            if (
                len(array) != footer.rows
                or array.type != kind
                or (array.null_count and not nullable)
            ):
                raise ValueError(f"{column} is not {footer.rows} values of {kind}")
            return array
        except Exception as error:  # of damaged bytes Arrow raises as many kinds as there are
            raise damaged(file, error) from error


def open_store(path: str | Path, *, incomplete: bool = False) -> LatentStore:
    """Open a latent store for reading.

    Args:
        path: the store's folder.
        incomplete: read what is there of a store that is still being written.

    Raises:
        ValueError: The folder holds no store, one of another schema version, an incomplete or a
            damaged one; the message says how to mend it.
    """
    return LatentStore(path, incomplete=incomplete)


def data_of(path: Path) -> str | None:
    """Return the fingerprint of the data that a folder's store is of; None where there is none.

    Raises:
        ValueError: The store's manifest is damaged.
    """
    if not (path / MANIFEST).is_file():
        return None
    return read_manifest(path).fingerprint.get("data")
