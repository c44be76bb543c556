"""Decode a store of latents back to images: ``python -m gdm_repr.decode`` (Eq. 17 backwards)."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from gdm_repr.command import run
from gdm_repr.config import DecodeConfig
from gdm_repr.files import only_writer
from gdm_repr.latents.matching import open_latents
from gdm_repr.pictures import ImageWriter, choose_format, image_file
from gdm_repr.progress import progress
from gdm_repr.recipe import ARRAY, SHEET, Recipe, how_made

if TYPE_CHECKING:
    from gdm_repr.api import GDM
    from gdm_repr.latents.store import LatentStore
    from gdm_repr.ode import Plan


def image_files(ids: Sequence[str], form: str) -> list[str]:
    """Return the relative paths of what :class:`ImageWriter` makes of images, the sheet last."""
    images = [image_file(name) for name in ids] if form == "png" else [ARRAY]
    return [*images, SHEET]


class Latents(NamedTuple):
    """Latents to be decoded.

    Attributes:
        model: in the order of generation that they were encoded by.
        ids: of the images, n.
        batches: ids and latents (b, C, d).
        plan: that they were encoded by.
        digest: of what they are.
    """

    model: GDM
    ids: list[str]
    batches: Iterator[tuple[list[str], Any]]
    plan: Plan
    digest: str


def read_latents(config: DecodeConfig, model: GDM) -> Latents:
    """Open a latent store or array.

    Raises:
        ValueError: if the latents can't be read or are another model's.
    """
    import numpy as np

    from gdm_repr.boundary.npy_file import map_npy

    size = config.batch_size
    if config.latents.suffix == ".npy":
        if config.ids is not None:
            raise ValueError(
                f"--ids {str(config.ids)!r}: chooses images of a latent store, and "
                f"{str(config.latents)!r} is an array without ids; leave it out"
            )
        if not config.latents.exists():
            raise ValueError(
                f"--latents {str(config.latents)!r}: no such file; give a latent store, or a .npy "
                "file of latents"
            )
        try:
            z = map_npy(config.latents)
        except ValueError as error:
            raise ValueError(
                f"--latents {str(config.latents)!r}: not a whole .npy array ({error}); save it "
                "with numpy.save as plain floats"
            ) from error
        channels, d = model.shape[0], model.grouping.d
        if z.shape[1:] != (channels, d) or z.dtype.kind != "f" or not len(z):
            raise ValueError(
                f"--latents {str(config.latents)!r}: {z.dtype} of shape {z.shape}; "
                f"must be floats of shape (N, {channels}, {d}), in the basis's order"
            )
        n = min(len(z), config.limit or len(z))
        ids = [f"{i:06d}" for i in range(n)]
        parts = ((ids[s : s + size], np.array(z[s : min(s + size, n)])) for s in range(0, n, size))
        with config.latents.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Latents(model, ids, parts, model.plan(), digest)
    model, store, plan = open_latents(config.latents, model, config.checkpoint, config.ids)
    n = min(len(store), config.limit or len(store))
    made_by = [store.manifest.fingerprint, store.manifest.dtype]
    digest = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()
    return Latents(model, store.ids[:n], _first_rows(store, n, size), plan, digest)


def _first_rows(store: LatentStore, n: int, size: int) -> Iterator[tuple[list[str], Any]]:
    """Yield ids and latents of the first n rows, reading every shard once."""
    for batch in store.iter_batches(size):
        yield batch.ids[:n], batch.z[:n]
        n -= len(batch.ids)
        if n <= 0:
            return


def open_work(config: DecodeConfig) -> Latents:
    """Open the model and the latents; see :func:`read_latents`.

    Raises:
        ValueError: for a checkpoint or latents that can't be used.
    """
    from gdm_repr.api import open_model

    model = open_model(config)
    choose_format(config.format, model.shape[0])
    return read_latents(config, model)


def decode(config: DecodeConfig) -> int:
    """Run the command.

    Raises:
        ValueError: for a checkpoint or latents that can't be used, or a folder of other images.
    """
    with only_writer(config.out):
        return _decode(config)


def _decode(config: DecodeConfig) -> int:
    """Run the command as the only writer of its folder."""
    import torch

    from gdm_repr import tracking
    from gdm_repr.latents.ids import ids_digest

    model, ids, batches, plan, digest = open_work(config)
    n, form = len(ids), choose_format(config.format, model.shape[0])
    recipe = Recipe(
        "decode",
        settings={
            "checkpoint": model.checkpoint.fingerprint,
            "latents": digest,
            "n": n,
            "precision": config.precision,
            "format": form,
            **({} if config.ids is None else {"ids": ids_digest(config.ids)}),
        },
        names={
            "checkpoint": config.checkpoint,
            "latents": str(config.latents),
            **({} if config.ids is None else {"ids": str(config.ids)}),
        },
        how=how_made(config.batch_size, model.device.type),
        files=image_files(ids, form),
    )
    if recipe.look(config.out, overwrite=config.overwrite) is not None:
        print(
            f"{config.out} is finished already: {n} images decoded; add --overwrite to make it "
            "again"
        )
        return 0
    recipe.begin(config.out, overwrite=config.overwrite)
    resolved = config.resolved("overwrite")
    with tracking.start(
        "decode",
        resolved,
        config.out,
        enabled=config.track,
        tags={"fingerprint.checkpoint": model.checkpoint.fingerprint},
    ) as tracked:
        writer = ImageWriter(config.out, n, model.shape, form)
        with progress(n, desc="decode") as bar:
            for ids, z in batches:
                if not writer.skip(ids):
                    writer.write(model.decode(torch.from_numpy(z), plan).cpu().numpy(), ids)
                bar.update(len(ids))
        sheet = writer.finish()
        tracked.artifact(sheet)
    recipe.end(config.out, {"images": n})
    print(f"decoded {n} images: {config.out}")
    print(f"the first of them: {sheet}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr decode``."""
    return run(DecodeConfig, "decode", argv, decode, opened=open_work)


if __name__ == "__main__":
    sys.exit(main())
