"""Turn images into a folder of small PNG files: ``python -m gdm_repr.prepare``.

Large files are decoded and resized once here rather than in every epoch. The folder holds

    ID.png, SUB/FOLDER/ID.png    the images; an image's suffix in the id gives way to .png
    labels.csv                   all label columns, for --labels; where there are some
    quarantine.jsonl             the items that can't be used, as in a latent store
    prepared.json                settings and fingerprint of the data; counts, once it is finished

Read as ``--data FOLDER`` the images have, bit by bit, the pixels of the original data at the same
settings. PNG keeps 8 bits, and 16 bits of gray; data of other levels (floats, the digits' 17) and
16-bit colour are refused rather than rounded.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from gdm_repr.command import run
from gdm_repr.config import PrepareConfig
from gdm_repr.files import parse_json, read_bytes, write_text

if TYPE_CHECKING:
    from gdm_repr.data import ImageDataset, Rejected
    from gdm_repr.images import Pixels

SETTINGS, LABELS, QUARANTINE = "prepared.json", "labels.csv", "quarantine.jsonl"
FORMAT = 1  # of the folder
CHUNK = 16  # items a worker makes between two reports
_COUNTS = ("images", "quarantined")


def png_paths(ids: Sequence[str]) -> list[str]:
    """Return the relative path of each item's file, all different.

    The suffix of an image gives way to ``.png``, but for items that would then share a file; names
    that differ in upper and lower case only would, on some file systems. What a folder of images
    passes over (hidden names), or takes for an image (a folder's suffix), is escaped.

    Example:
        >>> png_paths(["cat/1.jpg", "2", "a.bmp", "a.gif", "A.gif", "b.png#r0c1"])
        ['cat/1.png', '2.png', 'a.png', 'a.gif.png', 'A.gif#2.png', 'b.png#r0c1.png']
    """
    from gdm_repr.decode import safe_name
    from gdm_repr.file_source import IMAGE_SUFFIXES

    def is_image(name: str) -> bool:
        return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES

    def visible(part: str) -> str:
        return re.sub(r"^\.", "%2E", re.sub("^__MACOSX$", "%5F_MACOSX", part))

    paths: list[str] = []
    taken: set[str] = set()
    for item in ids:
        *folders, name = map(visible, safe_name(item).split("/"))
        folders = [part.replace(".", "%2E") if is_image(part) else part for part in folders]
        stem = str(PurePosixPath(name).with_suffix("")) if is_image(name) else name
        for named in itertools.chain([stem, name], (f"{name}#{n}" for n in itertools.count(2))):
            path = "/".join([*folders, f"{named}.png"])
            if path.casefold() not in taken:
                break
        taken.add(path.casefold())
        paths.append(path)
    return paths


@dataclass(frozen=True)
class Made:
    """What became of some items: how many were tried, and those that can't be used."""

    tried: int
    rejected: list[Rejected]
    error: OSError | None = None  # of the job, not of an image: a full disk


@dataclass(frozen=True)
class Maker:
    """Makes files of items; sent to the workers."""

    dataset: ImageDataset
    paths: list[str]
    out: Path

    def __call__(self, indices: Sequence[int]) -> Made:
        """Make the files of some items."""
        from gdm_repr.data import Rejected
        from gdm_repr.images import BadImage

        rejected = []
        for index in indices:
            try:
                save_png(self.dataset.pixels(index), self.out / self.paths[index])
            except BadImage as error:
                rejected.append(Rejected(index, self.dataset.ids[index], str(error)))
            except OSError as error:  # on its way between processes it would lose its number
                return Made(len(indices), rejected, error)
        return Made(len(indices), rejected)


def save_png(pixels: Pixels, path: Path) -> None:
    """Write levels (H, W, C), uint8 or (C = 1) uint16, as a PNG file, whole or not at all."""
    from PIL import Image

    from gdm_repr.files import write_atomically

    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    path.parent.mkdir(parents=True, exist_ok=True)
    # to wait for the disk took three times as long as all else
    write_atomically(path, lambda temporary: picture.save(temporary, "png"), sync=False)


def is_made(path: Path) -> bool:
    """Say whether a file is there, and not empty, as a power failure may leave it."""
    try:
        return path.stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False


def labels_csv(dataset: ImageDataset, paths: Sequence[str], rejected: Sequence[Rejected]) -> str:
    """Return the label columns as :func:`gdm_repr.labels.read_labels` reads them."""
    text, bad = io.StringIO(), {item.index for item in rejected}
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["file", *dataset.labels])
    for index, (path, *values) in enumerate(zip(paths, *dataset.labels.values(), strict=True)):
        if index not in bad:
            rows.writerow([path, *("" if value is None else value for value in values)])
    return text.getvalue()


def open_folder(out: Path, settings: dict[str, Any]) -> None:
    """Begin a folder, or go on with one of the same settings.

    Raises:
        ValueError: The folder holds something else, or was made with other settings.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / SETTINGS
    if not path.exists():
        if any(not entry.name.startswith(".") for entry in out.iterdir()):
            raise ValueError(
                f"--out {str(out)!r}: holds files, but no {SETTINGS} of an unfinished job; choose "
                "an empty or a new folder"
            )
        write_text(path, json.dumps(settings, indent=2) + "\n")
        return
    try:
        before = parse_json(read_bytes(path, "--out"), SETTINGS)
        there = {key: before[key] for key in settings}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"--out {str(out)!r}: its {SETTINGS} is none of this version's; choose another --out"
        ) from error
    for key, value in settings.items():
        if there[key] != value:
            told = f"{key} {there[key]}, not {value}" if key != "fingerprint" else "other files"
            raise ValueError(
                f"--out {str(out)!r}: was begun with {told}; choose another --out, or the same "
                "data and settings"
            )


def refuse_lossy(dataset: ImageDataset) -> None:
    """Refuse data that PNG files would change.

    Raises:
        ValueError: The data are floats, of other levels than 255 or 65535, or 16-bit colour.
    """
    levels, channels = dataset.levels, dataset.shape[0]
    if levels == 0:
        held = "floats"
    elif levels not in (255, 65535):
        held = f"levels 0..{levels}"
    elif levels == 65535 and channels > 1:
        held = "16-bit colour"
    else:
        return
    raise ValueError(
        f"data {dataset.source!r} hold {held}, which PNG files can't keep; use the data as they "
        "are, or save them as 8 bits (uint8) first"
    )


def prepare(config: PrepareConfig) -> int:
    """Run the command.

    Raises:
        ValueError: for options, data or a folder that can't be used.
    """
    from gdm_repr.data import open_data

    source = Path(config.data).expanduser()
    if source.is_dir() and config.out.resolve().is_relative_to(source.resolve()):
        raise ValueError(
            f"--out {str(config.out)!r}: lies in the folder of --data, whose images would then be "
            "its own; choose a folder outside"
        )
    dataset = open_data(config.data, config.preprocess(), labels=config.labels, limit=config.limit)
    refuse_lossy(dataset)
    paths = png_paths(dataset.ids)
    channels, height, width = dataset.shape
    settings = {
        "format": FORMAT,
        "source": dataset.source,
        "size": [height, width],
        "fit": config.fit,
        "channels": channels,
        "items": len(dataset),
        "labels": dataset.label_names,
        "fingerprint": dataset.fingerprint(),
    }
    open_folder(config.out, settings)
    rejected = _make_pending(config, Maker(dataset, paths, config.out))
    lines = [json.dumps(asdict(item), ensure_ascii=False) + "\n" for item in rejected]
    write_text(config.out / QUARANTINE, "".join(lines))
    if dataset.labels:
        write_text(config.out / LABELS, labels_csv(dataset, paths, rejected))
    made = len(dataset) - len(rejected)
    counts = dict(zip(_COUNTS, (made, len(rejected)), strict=True))
    write_text(config.out / SETTINGS, json.dumps(settings | counts, indent=2) + "\n")
    for leftover in config.out.rglob(".*.tmp"):  # of jobs that were killed
        leftover.unlink(missing_ok=True)
    print(f"prepared {made} images, {len(rejected)} quarantined: {config.out}")
    labels = f" --labels {config.out / LABELS}" if dataset.labels else ""
    print(f"use: --data {config.out}{labels}")
    return 0


def _make_pending(config: PrepareConfig, maker: Maker) -> list[Rejected]:
    """Make the files that are not there yet; return the items that can't be used."""
    from tqdm import tqdm

    from gdm_repr.data import work_ahead

    total = len(maker.paths)
    pending = [i for i, path in enumerate(maker.paths) if not is_made(config.out / path)]
    if len(pending) < total:
        print(f"resuming: {total - len(pending)} of {total} images are there", file=sys.stderr)
    chunks = [pending[start : start + CHUNK] for start in range(0, len(pending), CHUNK)]
    rejected: list[Rejected] = []
    with tqdm(total=total, initial=total - len(pending), unit="img", desc="prepare") as bar:
        for made in work_ahead(maker, chunks, workers=config.workers):
            if made.error is not None:
                raise made.error
            rejected += made.rejected
            bar.update(made.tried)
    return rejected


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr prepare``."""
    return run(PrepareConfig, "prepare", argv, prepare)


if __name__ == "__main__":
    sys.exit(main())
