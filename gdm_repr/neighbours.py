"""Find the nearest images of a store, band by band: ``python -m gdm_repr.neighbours``.

A near-duplicate in all latents is the same picture, or nearly; one in the first bands alone shares
what these hold. Whether training may have seen it, the store says where training held images out.

    nearest.csv    one line an image, band and neighbour
    nearest.json   the same, with how often the store's own images have as near a neighbour
    nearest.png    each image beside its neighbours
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gdm_repr.boundary.text import printable, write_csv
from gdm_repr.command import run
from gdm_repr.config import NeighboursConfig
from gdm_repr.files import only_writer, write_atomically, write_text
from gdm_repr.progress import progress
from gdm_repr.recipe import Recipe, how_made

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from gdm_repr.api import GDM
    from gdm_repr.data.dataset import ImageDataset
    from gdm_repr.latents.neighbours import NearestIndex, Neighbours
    from gdm_repr.ode import Plan

TABLE, NUMBERS, SHEET = "nearest.csv", "nearest.json", "nearest.png"
_LABEL = 24  # characters of an id that a label shows


@dataclass(frozen=True, eq=False)
class Work:
    """What is searched, and for what.

    Attributes:
        model: that made the store.
        plan: by which it encoded, and decodes.
        index: the store.
        images: where the items are from; None where they are of the store.
        places: of the items in the images or in the store.
        ids: of the items.
        held_out: whether training held each row of the store out, (n,); None where it does not say.
    """

    model: GDM
    plan: Plan
    index: NearestIndex
    images: ImageDataset | None
    places: list[int]
    ids: list[str]
    held_out: NDArray[np.bool_] | None


def open_work(config: NeighboursConfig) -> Work:
    """Open the model, the store and the images, and see that bands and items are there.

    Raises:
        ValueError: for a checkpoint, store, images, bands or items that can't be used.
    """
    import numpy as np

    from gdm_repr.analysis.subject import are_disjoint
    from gdm_repr.api import open_model
    from gdm_repr.data.images import Preprocess
    from gdm_repr.data.loading import open_data
    from gdm_repr.data.sources.registry import refuse_inside
    from gdm_repr.edit.source import find_items
    from gdm_repr.latents.matching import open_latents
    from gdm_repr.latents.neighbours import NearestIndex

    refuse_inside(config.out, config.data)
    model, store, plan = open_latents(
        config.latents, open_model(config), config.checkpoint, config.ids
    )
    index = NearestIndex(store, sample=config.sample, seed=config.seed)
    index.masks(config.bands)
    others = len(store) - (config.data is None)
    if config.n > others:
        raise ValueError(f"--n {config.n}: there are {others} images to choose from; ask for fewer")
    images = None
    if config.data is not None:
        settings = store.manifest.settings
        how = Preprocess.model_validate(settings["preprocess"])
        images = open_data(config.data, how, seed=settings["seed"])
    names = index.ids if images is None else images.ids
    places = find_items(config.items, names)
    ids = [names[place] for place in places]
    held_out = store.held_out
    if are_disjoint(model.checkpoint.training.get("data"), store.manifest.settings.get("source")):
        held_out = np.ones(len(store), np.bool_)
    return Work(model, plan, index, images, places, ids, held_out)


def neighbours(config: NeighboursConfig) -> int:
    """Run the command.

    Raises:
        ValueError: as :func:`open_work`, for images that can't be read, or a folder of others.
    """
    with only_writer(config.out):
        return _neighbours(config)


def _neighbours(config: NeighboursConfig) -> int:
    """Run the command as the only writer of its folder."""
    from gdm_repr import tracking

    work = open_work(config)
    recipe = _recipe(config, work)
    if recipe.look(config.out, overwrite=config.overwrite) is not None:
        print(f"{config.out} is finished already; add --overwrite to make it again")
        return 0
    x, latents = _items(config, work)
    own = work.places if work.images is None else [None] * len(work.places)
    found: list[list[Neighbours]] = []
    with progress(len(latents), desc="neighbours", unit="image") as bar:
        for z, without in zip(latents, own, strict=True):
            found.append(work.index.nearest(z, config.bands, config.n, without=without))
            bar.update()
    recipe.begin(config.out, overwrite=config.overwrite)
    with tracking.start(
        "neighbours",
        config.resolved("overwrite"),
        config.out,
        enabled=config.track,
        tags={"fingerprint.checkpoint": work.model.checkpoint.fingerprint},
    ) as tracked:
        columns = as_columns(work, found)
        write_atomically(config.out / TABLE, lambda path: write_csv(path, columns))
        text = json.dumps(_facts(work, found), indent=1, allow_nan=False, ensure_ascii=False)
        write_text(config.out / NUMBERS, text + "\n")
        _draw(config, work, x, found)
        tracked.table("nearest", columns)
        for name in (NUMBERS, SHEET):
            tracked.artifact(config.out / name)
    recipe.end(config.out, {"images": len(found)})
    for name, bands in zip(work.ids, found, strict=True):
        print("\n".join(sentences(work, name, bands)))
    print(f"table: {config.out / TABLE}\npicture: {config.out / SHEET}")
    return 0


def sentences(work: Work, name: str, bands: Sequence[Neighbours]) -> list[str]:
    """Say whether an image's nearest one is a near-duplicate, and whether training may know it.

    Args:
        work: what was searched.
        name: the image's id.
        bands: its neighbours; those in all latents are judged, else those in the last band.
    """
    from gdm_repr.latents.bands import ALL

    found = {each.band: each for each in bands}.get(ALL, bands[-1])
    nearest = printable(found.ids[0])
    verdict = "has no near-duplicate; the nearest is"
    if found.near_duplicate:
        verdict = "is a near-duplicate of"
    where = "all latents" if found.band == ALL else f"band {printable(found.band)}"
    distance = f"{found.distances[0]:.3g}"
    said = [f"{printable(name)} {verdict} {nearest}, at a distance of {distance} in {where}."]
    if found.of:
        said.append(
            f"  {found.closer:.1%} of the store's own images have as near a neighbour, by a sample "
            f"of {found.of}."
        )
    if work.held_out is None:
        said.append(f"  Whether training has seen {nearest} is not known.")
    elif work.held_out[found.rows[0]]:
        said.append(f"  Training never saw {nearest}.")
    else:
        said.append(f"  Training did not hold {nearest} out, and may have seen it.")
    return said


def as_columns(work: Work, found: Sequence[Sequence[Neighbours]]) -> dict[str, list[object]]:
    """Return the table's columns: one line an image, band and neighbour."""
    lines = [
        (
            name,
            each.band,
            rank,
            each.ids[rank - 1],
            float(each.distances[rank - 1]),
            "" if work.held_out is None else bool(work.held_out[row]),
        )
        for name, bands in zip(work.ids, found, strict=True)
        for each in bands
        for rank, row in enumerate(each.rows, 1)
    ]
    headings = ("image", "band", "rank", "neighbour", "distance", "held_out")
    return dict(zip(headings, map(list, zip(*lines, strict=True)), strict=True))


def _facts(work: Work, found: Sequence[Sequence[Neighbours]]) -> list[dict[str, Any]]:
    """Return what was found, for the record; JSON has no NaN."""
    held_out = work.held_out
    return [
        {
            "image": name,
            "bands": [
                {
                    "band": each.band,
                    "near_duplicate": each.near_duplicate,
                    "neighbours": each.ids,
                    "distances": each.distances.tolist(),
                    "held_out": None if held_out is None else held_out[each.rows].tolist(),
                    "share of the store's images with as near a neighbour": _number(each.closer),
                    "images in that sample": each.of,
                    "their usual distance": _number(each.typical),
                }
                for each in bands
            ],
        }
        for name, bands in zip(work.ids, found, strict=True)
    ]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _items(config: NeighboursConfig, work: Work) -> tuple[Tensor, Any]:
    """Return the items as images (N, C, H, W) and as latents (N, C, d)."""
    import torch

    if work.images is None:
        stored = work.index.store.z(work.places)
        return work.model.decode(torch.from_numpy(stored), work.plan).cpu(), stored
    batch = work.images.batch(work.places)
    if batch.rejected:
        bad = batch.rejected[0]
        raise ValueError(f"--items {bad.id!r}: can't be read ({bad.reason}); choose another")
    parts = torch.split(batch.x, config.batch_size)
    z = [work.model.latents(part, work.plan, check=False).cpu() for part in parts]
    return batch.x, torch.cat(z).numpy()


def _draw(
    config: NeighboursConfig, work: Work, x: Tensor, found: Sequence[Sequence[Neighbours]]
) -> None:
    """Draw each item beside its neighbours, one row an item and band."""
    import numpy as np
    import torch

    from gdm_repr.pictures import label_sheet

    rows = np.unique(np.concatenate([each.rows for bands in found for each in bands]))
    pictures = torch.cat(
        [
            work.model.decode(torch.from_numpy(work.index.store.z(part)), work.plan).cpu()
            for part in np.split(rows, [*range(config.batch_size, len(rows), config.batch_size)])
        ]
    ).numpy()
    drawn, labels = [], []
    for item, (name, bands) in enumerate(zip(work.ids, found, strict=True)):
        for each in bands:
            near = pictures[np.searchsorted(rows, each.rows)]
            drawn.append(np.concatenate([x[item : item + 1].numpy(), near]))
            ends = [f"{each.distances[place]:.3g}" for place in (0, -1)]
            labels.append(f"{_short(name)}\nband {each.band}\n" + " to ".join(dict.fromkeys(ends)))
    columns = ["image", *(f"neighbour {rank}" for rank in range(1, config.n + 1))]
    label_sheet(drawn, labels, columns, tile=config.tile).save(config.out / SHEET)


def _recipe(config: NeighboursConfig, work: Work) -> Recipe:
    """Say what is made, and of what."""
    from gdm_repr.latents.ids import ids_digest

    manifest = work.index.store.manifest
    made_by = json.dumps([manifest.fingerprint, manifest.dtype], sort_keys=True)
    data = None if work.images is None else work.images.fingerprint()
    return Recipe(
        "neighbours",
        settings={
            "checkpoint": work.model.checkpoint.fingerprint,
            "latents": hashlib.sha256(made_by.encode()).hexdigest(),
            "ids": None if config.ids is None else ids_digest(config.ids),
            "data": data,
            "items": work.ids,
            "precision": config.precision,
            **{key: getattr(config, key) for key in ("bands", "n", "sample", "seed", "tile")},
        },
        names={
            "checkpoint": config.checkpoint,
            "latents": str(config.latents),
            "ids": None if config.ids is None else str(config.ids),
            "data": config.data,
        },
        how=how_made(config.batch_size, work.model.device.type),
        files=[TABLE, NUMBERS, SHEET],
    )


def _short(name: str) -> str:
    return name if len(name) <= _LABEL else ".." + name[2 - _LABEL :]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr neighbours``."""
    return run(NeighboursConfig, "neighbours", argv, neighbours, opened=open_work)


if __name__ == "__main__":
    sys.exit(main())
