"""Decode a store of latents back to images: ``python -m gdm_repr.decode`` (Eq. 17 backwards)."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gdm_repr.command import run
from gdm_repr.config import SHIPPED, DecodeConfig
from gdm_repr.files import only_writer
from gdm_repr.recipe import ARRAY, IMAGES, SHEET, Recipe, how_made

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gdm_repr.api import GDM
    from gdm_repr.latents.store import LatentStore
    from gdm_repr.ode import Plan

SHEET_IMAGES = 64
SHEET_COLUMNS = 16


def image_files(ids: Sequence[str], form: str) -> list[str]:
    """Return the relative paths of what :class:`ImageWriter` makes of images, the sheet last."""
    images = [image_file(name) for name in ids] if form == "png" else [ARRAY]
    return [*images, SHEET]


def image_file(name: str) -> str:
    """Return the relative path of one image's PNG file."""
    return f"{IMAGES}/{safe_name(name)}.png"


class ImageWriter:
    """Writes images as PNG files by id, or as one array; keeps the first ones for a sheet."""

    def __init__(self, out: Path, total: int, shape: Sequence[int], form: str) -> None:
        """Make the folder, and the array when ``form`` is npy: under another name till the end."""
        import numpy as np

        out.mkdir(parents=True, exist_ok=True)
        self.out, self.written = out, 0
        self.first: list[NDArray[np.float32]] = []
        self.array: Any = None
        self._unfinished = out / f".{ARRAY}.{os.getpid()}.0.tmp"
        if form == "npy":
            self.array = np.lib.format.open_memmap(
                self._unfinished, mode="w+", dtype=np.float32, shape=(total, *shape)
            )

    def skip(self, ids: Sequence[str]) -> bool:
        """Pass over images that an earlier run has written; the first ones are never passed over.

        Returns:
            Whether they are all there.
        """
        if self.array is not None or len(self.first) < SHEET_IMAGES:
            return False
        paths = [self.out / image_file(name) for name in ids]
        if not all(path.is_file() and path.stat().st_size for path in paths):
            return False
        self.written += len(ids)
        return True

    def write(self, x: NDArray[np.float32], ids: Sequence[str]) -> None:
        """Write images (n, C, H, W) in [-1, 1]; PNG files are clipped and 8-bit, arrays are not."""
        from gdm_repr.pictures import save_image

        self.first += list(x[: max(0, SHEET_IMAGES - len(self.first))])
        if self.array is not None:
            self.array[self.written : self.written + len(x)] = x
        else:
            for image, name in zip(x, ids, strict=True):
                path = self.out / image_file(name)
                path.parent.mkdir(parents=True, exist_ok=True)
                save_image(image, path)
        self.written += len(x)

    def finish(self) -> Path:
        """Flush, draw the sheet and return its path."""
        import numpy as np

        from gdm_repr.pictures import as_grid, save_sheet

        if self.array is not None:
            self.array.flush()
            self.array = None
            os.replace(self._unfinished, self.out / ARRAY)
        sheet = self.out / SHEET
        columns = min(SHEET_COLUMNS, len(self.first))
        save_sheet(as_grid(np.stack(self.first), columns), sheet)
        return sheet


def safe_name(name: str) -> str:
    """Turn an item's id into a relative path that stays inside the folder; no two share one.

    >>> safe_name("cats/../a b:c.png#r0c1"), safe_name("/17")
    ('cats/%2E%2E/a b%3Ac.png#r0c1', '%/17')
    """

    def escaped(character: re.Match[str]) -> str:
        return "".join(f"%{byte:02X}" for byte in character[0].encode())

    parts = [re.sub(r"[^\w .#-]|^\.+$", escaped, part) or "%" for part in name.split("/")]
    return "/".join(parts)


def open_latents(
    path: Path, model: GDM, checkpoint: str | None = None
) -> tuple[GDM, LatentStore, Plan]:
    """Open a model's latent store.

    Args:
        path: the store's folder.
        model: that made it.
        checkpoint: what the user calls the model, for the error.

    Returns:
        The model in the order of generation that the store was encoded by, the store, and the plan.

    Raises:
        ValueError: if the store can't be read, is empty, or is another model's.
    """
    from gdm_repr.latents.store import open_store
    from gdm_repr.ode import Plan

    store = open_store(path)
    _require_model(store, model.checkpoint.fingerprint, checkpoint)
    store.require({"basis": model.basis.fingerprint()})
    where = f"--latents {str(path)!r}: its manifest"
    order = store.manifest.settings.get("order")
    if order is not None and not _is_counts(order):
        raise ValueError(
            f"{where} has the order {str(order)[:80]}, not group numbers; encode again"
        )
    try:
        model = model.with_order(order)
    except ValueError as error:
        raise ValueError(f"{where} does not fit the model ({error})") from None
    store.require({"grouping": model.grouping.fingerprint()})
    if not len(store):
        raise ValueError(f"--latents {str(path)!r}: the store holds no image")
    try:
        solver = dict(store.manifest.settings["solver"])
        del solver["precision"]
        if not _is_counts(solver["steps"]):
            raise TypeError(f"steps {str(solver['steps'])[:80]}")
        plan = Plan(**{**solver, "steps": tuple(solver["steps"])})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{where} does not say how it was encoded ({error!r}); encode again"
        ) from error
    return model, store, plan


def _require_model(store: LatentStore, fingerprint: str, checkpoint: str | None) -> None:
    """Refuse the latents of another model, and say which one made them, as far as it is known."""
    made_by = store.manifest.settings.get("checkpoint")
    if store.manifest.fingerprint.get("checkpoint") == fingerprint:
        return
    if checkpoint is None:
        store.require({"checkpoint": fingerprint})
    said = f"the default, {SHIPPED}" if checkpoint == SHIPPED else checkpoint
    if made_by == checkpoint:
        told = f"were made by {made_by} as it was then, and its file has changed since"
        mend = "use the checkpoint they were encoded with, or encode again"
    elif made_by is None:
        told = f"were made by another model; --checkpoint is {said}"
        mend = "use the checkpoint they were encoded with"
    else:
        told = f"were made by the model {made_by}; --checkpoint is {said}"
        mend = f"use the checkpoint they were encoded with: --checkpoint {made_by}"
    raise ValueError(f"latents {str(store.path)!r} {told}; {mend}")


def _is_counts(value: object) -> bool:
    return isinstance(value, list) and all(type(each) is int and each >= 0 for each in value)


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
    model, store, plan = open_latents(config.latents, model, config.checkpoint)
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
    from gdm_repr.api import GDM

    model = GDM.from_pretrained(config.checkpoint, device=config.device, precision=config.precision)
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
    from tqdm import tqdm

    from gdm_repr.tracking import run as tracking

    model, ids, batches, plan, digest = open_work(config)
    n = len(ids)
    recipe = Recipe(
        "decode",
        settings={
            "checkpoint": model.checkpoint.fingerprint,
            "latents": digest,
            "n": n,
            "precision": config.precision,
            "format": config.format,
        },
        names={"checkpoint": config.checkpoint, "latents": str(config.latents)},
        how=how_made(config.batch_size, model.device.type),
        files=image_files(ids, config.format),
    )
    if recipe.look(config.out, overwrite=config.overwrite) is not None:
        print(
            f"{config.out} is finished already: {n} images decoded; add --overwrite to make it "
            "again"
        )
        return 0
    recipe.begin(config.out, overwrite=config.overwrite)
    resolved = config.model_dump(mode="json", exclude={"config", "dry_run", "overwrite"})
    with tracking.start(
        "decode",
        resolved,
        config.out,
        enabled=config.track,
        tags={"fingerprint.checkpoint": model.checkpoint.fingerprint},
    ) as tracked:
        writer = ImageWriter(config.out, n, model.shape, config.format)
        with tqdm(total=n, unit="img", desc="decode") as bar:
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
