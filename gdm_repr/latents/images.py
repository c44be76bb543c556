"""The images that a store was encoded from, found again and compared with what the store knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gdm_repr.data.images import Preprocess
from gdm_repr.data.loading import open_data
from gdm_repr.progress import notice

if TYPE_CHECKING:
    from gdm_repr.data.dataset import ImageDataset
    from gdm_repr.latents.store import LatentStore


def encoded_images(
    store: LatentStore, data: str | None = None, labels: Path | None = None
) -> ImageDataset:
    """Open the images that a store was encoded from; its ``index`` are their places there.

    Args:
        store: the store, or some rows of it.
        data: the images; found by the store's own word when None.
        labels: file of the labels they were encoded with, if any.

    Raises:
        ValueError: if they can't be found, or are not those.
    """
    manifest = store.manifest
    settings = manifest.settings
    given = data or settings["source"]
    preprocess = Preprocess.model_validate(settings["preprocess"])
    # stores of earlier versions do not say how their items were chosen: the first were
    sample = settings.get("chosen") == "sample"
    looking = "looking whether the images are those that were encoded"
    try:
        with notice(looking):
            dataset = open_data(
                given,
                preprocess,
                labels=labels,
                limit=manifest.items if sample else None,
                first=None if sample else manifest.items,
                seed=settings["seed"],
                part=settings.get("part", "all"),
                hold_out=settings.get("hold_out"),
            )
    except ValueError as error:
        if data:
            raise
        raise ValueError(
            f"--data: the latents are of {given!r}, which is not found by its name alone "
            f"({error}); give its path"
        ) from None
    with notice(looking):
        fingerprint = dataset.fingerprint()
    if fingerprint != manifest.fingerprint["data"]:
        raise ValueError(
            f"--data {given!r}: not the images that {str(store.path)!r} was encoded from: "
            f"{_difference(store, dataset)}"
        )
    return dataset


def _difference(store: LatentStore, dataset: ImageDataset) -> str:
    """Say in what images and labels differ from those that were encoded, and what to do."""
    manifest = store.manifest
    if len(dataset) < manifest.items:
        return f"it holds {len(dataset)} of them, there were {manifest.items}; give them all"
    there = [dataset.ids[index] for index in store.index.tolist()]
    for stood, stands in zip(store.ids, there, strict=True):
        if stood != stands:
            return f"{stands!r} stands where {stood!r} stood; give the same files"
    was, now = set(manifest.labels), set(dataset.labels)
    if was != now:
        told = [", ".join(sorted(names)) or "none" for names in (was, now)]
        return f"it had the labels {told[0]}, now {told[1]}; give the --labels used then"
    for name in sorted(was):
        before = store.labels(name).tolist()
        values = [dataset.labels[name][index] for index in store.index.tolist()]
        for each, value, other in zip(store.ids, before, values, strict=True):
            if value != other and not (value != value and other is None):  # NaN: missing
                return (
                    f"the label {name!r} of {each!r} was {value!r}, now {other!r}; give the "
                    "--labels used then"
                )
    return "its files have changed since; give them as they were, or encode them again"
