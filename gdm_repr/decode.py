"""Decode a store of latents back to images: ``python -m gdm_repr.decode`` (Eq. 17 backwards)."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdm_repr.command import run
from gdm_repr.config import DecodeConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gdm_repr.api import GDM
    from gdm_repr.latents import LatentStore
    from gdm_repr.ode import Plan

SHEET_IMAGES = 64
SHEET_COLUMNS = 16


class ImageWriter:
    """Writes images as PNG files by id, or as one array; keeps the first ones for a sheet."""

    def __init__(self, out: Path, total: int, shape: Sequence[int], form: str) -> None:
        """Make the folder, and the array when ``form`` is npy."""
        import numpy as np

        out.mkdir(parents=True, exist_ok=True)
        self.out, self.written = out, 0
        self.first: list[NDArray[np.float32]] = []
        self.array: Any = None
        if form == "npy":
            self.array = np.lib.format.open_memmap(
                out / "images.npy", mode="w+", dtype=np.float32, shape=(total, *shape)
            )

    def write(self, x: NDArray[np.float32], ids: Sequence[str]) -> None:
        """Write images (n, C, H, W) in [-1, 1]; PNG files are clipped and 8-bit, arrays are not."""
        from gdm_repr.pictures import save_image

        self.first += list(x[: max(0, SHEET_IMAGES - len(self.first))])
        if self.array is not None:
            self.array[self.written : self.written + len(x)] = x
        else:
            for image, name in zip(x, ids, strict=True):
                path = self.out / "images" / f"{safe_name(name)}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                save_image(image, path)
        self.written += len(x)

    def finish(self) -> Path:
        """Flush, draw the sheet and return its path."""
        import numpy as np

        from gdm_repr.pictures import as_grid, save_sheet

        if self.array is not None:
            self.array.flush()
        sheet = self.out / "sheet.png"
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


def open_latents(path: Path, model: GDM) -> tuple[GDM, LatentStore, Plan]:
    """Open a model's latent store.

    Returns:
        The model in the order of generation that the store was encoded by, the store, and the plan.

    Raises:
        ValueError: if the store can't be read, is empty, or is another model's.
    """
    from gdm_repr.latents import open_store
    from gdm_repr.ode import Plan

    store = open_store(path)
    store.require({"checkpoint": model.checkpoint.fingerprint, "basis": model.basis.fingerprint()})
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


def _is_counts(value: object) -> bool:
    return isinstance(value, list) and all(type(each) is int and each >= 0 for each in value)


def read_latents(
    config: DecodeConfig, model: GDM
) -> tuple[GDM, Iterator[tuple[list[str], Any]], int, Plan]:
    """Open a latent store or array.

    Returns:
        The model as :func:`open_latents` returns it, batches of ids and latents (n, C, d), their
        total number, and the plan they were encoded by.

    Raises:
        ValueError: if the latents can't be read or are another model's.
    """
    import numpy as np

    from gdm_repr.npy_file import map_npy

    size = config.batch_size
    if config.latents.suffix == ".npy":
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
        parts = (
            ([f"{i:06d}" for i in range(s, min(s + size, n))], np.array(z[s : min(s + size, n)]))
            for s in range(0, n, size)
        )
        return model, parts, n, model.plan()
    model, store, plan = open_latents(config.latents, model)
    n = min(len(store), config.limit or len(store))
    return model, _first_rows(store, n, size), n, plan


def _first_rows(store: LatentStore, n: int, size: int) -> Iterator[tuple[list[str], Any]]:
    """Yield ids and latents of the first n rows, reading every shard once."""
    for batch in store.iter_batches(size):
        yield batch.ids[:n], batch.z[:n]
        n -= len(batch.ids)
        if n <= 0:
            return


def decode(config: DecodeConfig) -> int:
    """Run the command.

    Raises:
        ValueError: for a checkpoint or latents that can't be used.
    """
    import torch
    from tqdm import tqdm

    from gdm_repr import tracking
    from gdm_repr.api import GDM

    model = GDM.from_pretrained(config.checkpoint, device=config.device, precision=config.precision)
    model, batches, n, plan = read_latents(config, model)
    resolved = config.model_dump(mode="json", exclude={"config", "dry_run"})
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
                writer.write(model.decode(torch.from_numpy(z), plan).cpu().numpy(), ids)
                bar.update(len(ids))
        sheet = writer.finish()
        tracked.artifact(sheet)
    print(f"decoded {n} images: {config.out}")
    print(f"the first of them: {sheet}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr decode``."""
    return run(DecodeConfig, "decode", argv, decode)


if __name__ == "__main__":
    sys.exit(main())
