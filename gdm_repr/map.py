"""Lay the images of a store out on a plane: ``python -m gdm_repr.map``.

One Parquet file, one row an image, in the store's order:

    id, labels, held_out, errors      as the store has them
    x, y                              the map (:mod:`gdm_repr.latents.band_map`)
    pca_1, pca_2                      the band's first two principal components
    neighbors                         {ids, distances}: rows of this file, counted from 0
    image                             {bytes, path}: a PNG, as Hugging Face's data sets have them

embedding-atlas shows it, with ``--x x --y y --neighbors neighbors --image image``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdm_repr.command import run
from gdm_repr.config import MapConfig
from gdm_repr.files import write_atomically
from gdm_repr.progress import progress

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from gdm_repr.latents.band_map import BandMap
    from gdm_repr.latents.store import LatentStore

ROWS = 4096  # of the store that are placed and written at a time
THUMBNAIL = 64  # pixels of a side, at most
FEW_STEPS = 16  # by which thumbnails are decoded
X, Y, NEIGHBOURS, IMAGE = "x", "y", "neighbors", "image"  # as embedding-atlas calls them
PCA = ("pca_1", "pca_2")

Pictures = Callable[[slice], list[bytes | None]]
"""PNG files of rows of the store; None for an image that can't be read."""


@dataclass(frozen=True, eq=False)
class Work:
    """What is laid out.

    Attributes:
        store: the store, or the rows that were chosen.
        plane: the map, which is to be fitted.
        pictures: makes thumbnails; None where there are none.
    """

    store: LatentStore
    plane: BandMap
    pictures: Pictures | None


def open_work(config: MapConfig) -> Work:
    """Open the store, and what thumbnails are made of, and see that the band is there.

    Raises:
        ValueError: for a store, a band, images or a checkpoint that can't be used.
    """
    from gdm_repr.latents.band_map import BandMap
    from gdm_repr.latents.ids import select_ids
    from gdm_repr.latents.store import open_store

    store = open_store(config.latents)
    if config.ids is not None:
        store = select_ids(store, config.ids)
    plane = BandMap(store, config.band, fit_rows=config.fit_rows, seed=config.seed)
    pictures = None
    if config.data is not None:
        pictures = _of_images(store, config)
    elif config.checkpoint is not None:
        pictures = _of_latents(config, config.checkpoint)
    return Work(store, plane, pictures)


def lay_out(config: MapConfig) -> int:
    """Run the command.

    Raises:
        ValueError: as :func:`open_work`.
    """
    work = open_work(config)
    store, plane = work.store, work.plane
    if not plane.tsne:
        print(
            "openTSNE is not installed, so that the map is made of principal components alone; "
            "pip install 'gdm-repr[map]'",
            file=sys.stderr,
        )
    with progress(plane.iterations, desc="map: fit", unit="iteration") as bar:
        plane.fit(bar.update)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(config.out, lambda path: _write(config, work, path))
    fitted = len(plane.fitted)
    print(f"{len(store)} images by band {config.band}: {config.out}")
    if fitted < len(store):
        print(
            f"The map is fitted to {fitted} of them; the others are placed among these, and "
            "neighbours are of these."
        )
    if plane.components is not None:
        print(f"Images are compared by the band's first {plane.components} principal components.")
    image = f" --image {IMAGE}" if work.pictures is not None else ""
    print(f"open it: embedding-atlas {config.out} --x {X} --y {Y} --neighbors {NEIGHBOURS}{image}")
    return 0


def _write(config: MapConfig, work: Work, path: Path) -> None:
    """Place all rows and write them, some at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from gdm_repr.latents.format import open_shard

    known = known_columns(work.store, config.band)
    schema = _schema(config, work, known)
    with (
        open_shard(path, "wb") as sink,
        pq.ParquetWriter(sink, schema, compression="zstd") as writer,
        progress(len(work.store), desc="map: place", unit="image") as bar,
    ):
        for rows in _slices(work.store):
            placed = work.plane.place(rows)
            columns = {name: values[rows] for name, values in known.items()}
            columns |= dict(zip((X, Y), map(pa.array, placed.xy.T.copy()), strict=True))
            columns |= dict(zip(PCA, map(pa.array, placed.pca.T.copy()), strict=True))
            columns[NEIGHBOURS] = pa.StructArray.from_arrays(
                [_lists(placed.neighbours), _lists(placed.distances.astype("f8"))],
                names=["ids", "distances"],
            )
            if work.pictures is not None:
                columns[IMAGE] = pa.array(
                    [png and {"bytes": png, "path": None} for png in work.pictures(rows)],
                    schema.field(IMAGE).type,
                )
            writer.write_table(pa.table({name: columns[name] for name in schema.names}, schema))
            bar.update(rows.stop - rows.start)


def known_columns(store: LatentStore, band: str) -> dict[str, pa.Array]:
    """Return what a store says of its rows: ids, labels, whether they were held out, and errors.

    A label that bears the name of another column gets ``label_`` before it. Of errors by group,
    that of the band is there if it is one group.
    """
    import pyarrow as pa

    from gdm_repr.latents.format import HELD_OUT, LABEL_TYPES

    manifest = store.manifest
    columns: dict[str, pa.Array] = {"id": pa.array(store.ids, pa.string())}
    if (held_out := store.held_out) is not None:
        columns[HELD_OUT] = pa.array(held_out)
    names = [each.name for each in manifest.bands]
    for name, width in manifest.errors.items():
        if width == 1:
            columns[name] = pa.array(store.errors(name))
        elif width == len(names) and band in names:
            columns[f"{name}_{band}"] = pa.array(store.errors(name)[:, names.index(band)].copy())
    taken = {*columns, X, Y, *PCA, NEIGHBOURS, IMAGE}
    for name, kind in manifest.labels.items():
        values = [None if value != value else value for value in store.labels(name).tolist()]
        kept = f"label_{name}" if name in taken else name
        cast = int if kind == "int" else None  # beside missing values they were read as floats
        columns[kept] = pa.array(
            [value if value is None or cast is None else cast(value) for value in values],
            LABEL_TYPES[kind],
        )
    return columns


def _schema(config: MapConfig, work: Work, known: dict[str, pa.Array]) -> pa.Schema:
    """Return the file's columns, with what made it, and what Hugging Face's readers look for."""
    import pyarrow as pa

    from gdm_repr.tracking.facts import versions

    neighbours = [("ids", pa.list_(pa.int64())), ("distances", pa.list_(pa.float64()))]
    fields = [pa.field("id", pa.string())]
    fields += [pa.field(name, pa.float32()) for name in (X, Y, *PCA)]
    fields += [pa.field(name, values.type) for name, values in known.items() if name != "id"]
    fields.append(pa.field(NEIGHBOURS, pa.struct(neighbours)))
    plane, note = work.plane, {}
    if work.pictures is not None:
        fields.append(pa.field(IMAGE, pa.struct([("bytes", pa.binary()), ("path", pa.string())])))
        note["huggingface"] = json.dumps({"info": {"features": {IMAGE: {"_type": "Image"}}}})
    note["gdm_repr"] = json.dumps(
        {
            "band": config.band,
            "map": "t-SNE" if plane.tsne else "PCA",
            "fitted to": len(plane.fitted),
            "principal components compared": plane.components,
            "seed": config.seed,
            "latents": work.store.manifest.fingerprint,
            **versions(),
        }
    )
    return pa.schema(fields, metadata=note)


def _lists(values: NDArray[Any]) -> pa.Array:
    """Return rows (n, k) as lists."""
    import numpy as np
    import pyarrow as pa

    n, k = values.shape
    return pa.ListArray.from_arrays(
        pa.array(np.arange(0, n * k + 1, k, dtype=np.int32)), pa.array(values.ravel())
    )


def _slices(store: LatentStore) -> Iterator[slice]:
    """Yield all rows in order, some at a time, which lie in one shard."""
    for shard in store.runs():
        for start in range(shard.start, shard.stop, ROWS):
            yield slice(start, min(start + ROWS, shard.stop))


def _of_images(store: LatentStore, config: MapConfig) -> Pictures:
    """Open the images that were encoded, of which thumbnails are made."""
    from gdm_repr.latents.images import encoded_images
    from gdm_repr.pictures import as_thumbnail

    dataset, index = encoded_images(store, config.data, config.labels), store.index

    def pictures(rows: slice) -> list[bytes | None]:
        made: dict[int, bytes] = {}
        for part in _parts(index[rows], config.batch_size):
            batch = dataset.batch(part)
            pngs = [as_thumbnail(x, THUMBNAIL) for x in batch.x.numpy()]
            made |= zip(batch.index.tolist(), pngs, strict=True)
        return [made.get(place) for place in index[rows].tolist()]

    return pictures


def _of_latents(config: MapConfig, checkpoint: str) -> Pictures:
    """Open the model that made the store, by which thumbnails are decoded."""
    import torch

    from gdm_repr.api import GDM
    from gdm_repr.latents.matching import open_latents
    from gdm_repr.pictures import as_thumbnail

    model, store, _ = open_latents(
        config.latents,
        GDM.from_pretrained(checkpoint, device=config.device),
        checkpoint,
        config.ids,
    )
    plan = model.plan(max(FEW_STEPS, model.grouping.k))

    def pictures(rows: slice) -> list[bytes | None]:
        made: list[bytes | None] = []
        for z in _parts(store.z(rows), config.batch_size):
            x = model.decode(torch.from_numpy(z), plan).cpu().numpy()
            made += [as_thumbnail(each, THUMBNAIL) for each in x]
        return made

    return pictures


def _parts(values: NDArray[Any], size: int) -> Sequence[NDArray[Any]]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr map``."""
    return run(MapConfig, "map", argv, lay_out, opened=open_work)


if __name__ == "__main__":
    sys.exit(main())
