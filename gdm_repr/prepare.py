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
    from gdm_repr.data.dataset import ImageDataset
    from gdm_repr.data.images import Pixels
    from gdm_repr.data.quarantine import Rejected

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
    from gdm_repr.data.sources.files import IMAGE_SUFFIXES
    from gdm_repr.files import safe_name

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
        from gdm_repr.data.images import BadImage
        from gdm_repr.data.quarantine import Rejected

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
    """Return the label columns as :func:`gdm_repr.data.labels.read_labels` reads them."""
    text, bad = io.StringIO(), {item.index for item in rejected}
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["file", *dataset.labels])
    for index, (path, *values) in enumerate(zip(paths, *dataset.labels.values(), strict=True)):
        if index not in bad:
            rows.writerow([path, *("" if value is None else value for value in values)])
    return text.getvalue()


def read_settings(out: Path) -> dict[str, Any] | None:
    """Return what a folder says of itself: the settings that it was begun with, and counts.

    Returns:
        None where nothing was begun.

    Raises:
        ValueError: The folder holds something else, or settings that can't be read.
    """
    path = out / SETTINGS
    held = out.is_dir() and any(not entry.name.startswith(".") for entry in out.iterdir())
    if not path.exists():  # looked for last: another worker writes it before anything else
        if held:
            raise ValueError(
                f"--out {str(out)!r}: holds files, but no {SETTINGS} of an unfinished job; choose "
                "an empty or a new folder"
            )
        return None
    before = parse_json(read_bytes(path, "--out"), f"--out {str(path)!r}")
    if not isinstance(before, dict):
        raise ValueError(
            f"--out {str(out)!r}: its {SETTINGS} is none of this version's; choose another --out"
        )
    return before


def require_same(out: Path, before: dict[str, Any], settings: dict[str, Any]) -> None:
    """Refuse a folder that was begun with other settings.

    Raises:
        ValueError: It was; the message names the first that differs.
    """
    for key, value in settings.items():
        if key not in before:
            raise ValueError(
                f"--out {str(out)!r}: its {SETTINGS} is none of this version's; choose another "
                "--out"
            )
        if before[key] != value and key != "source":  # a name; the fingerprint tells the data
            told = f"{key} {before[key]}, not {value}"
            if key == "fingerprint":
                told = f"other files or labels of {before['source']!r}"
            raise ValueError(
                f"--out {str(out)!r}: was begun with {told}; choose another --out, or the same "
                "data and settings"
            )


def refuse_lossy(dataset: ImageDataset) -> None:
    """Refuse data that PNG files would change.

    Raises:
        ValueError: The data are floats, of other levels than 255 or 65535, 16-bit colour, or of
            other channels than gray and colour.
    """
    from gdm_repr.data.images import COLOURS

    levels, channels = dataset.levels, dataset.shape[0]
    if levels == 0:
        held = "floats"
    elif levels not in (255, 65535):
        held = f"levels 0..{levels}"
    elif channels not in COLOURS:
        held = f"{channels} channels"
    elif levels == 65535 and channels > 1:
        held = "16-bit colour"
    else:
        return
    fix = "" if channels not in COLOURS else ", or save them as 8 bits (uint8) first"
    raise ValueError(
        f"data {dataset.source!r} hold {held}, which PNG files can't keep; use the data as they "
        f"are{fix}"
    )


def open_work(config: PrepareConfig) -> tuple[ImageDataset, dict[str, Any]]:
    """Open the data; return them with the settings of the folder, which it may have been begun by.

    Raises:
        ValueError: for options, data or a folder that can't be used.
    """
    from gdm_repr.data.loading import open_begun
    from gdm_repr.data.sources.registry import refuse_inside

    refuse_inside(config.out, config.data)
    before = read_settings(config.out)
    dataset = open_begun(
        config.data,
        config.preprocess(),
        begun=None if before is None else str(before.get("fingerprint")),
        labels=config.labels,
        limit=config.limit,
        first=config.first,
    )
    refuse_lossy(dataset)
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
    if before is not None:
        require_same(config.out, before, settings)
    return dataset, {**(before or {}), **settings}


def prepare(config: PrepareConfig) -> int:
    """Run the command.

    Raises:
        ValueError: for options, data or a folder that can't be used.
    """
    dataset, settings = open_work(config)
    paths = png_paths(dataset.ids)
    if _is_finished(config.out, settings, paths):
        told = ", ".join(f"{settings[key]} {key}" for key in _COUNTS)
        print(f"{config.out} is finished already: {told}; for others choose another --out")
        return 0
    if not (config.out / SETTINGS).exists():
        config.out.mkdir(parents=True, exist_ok=True)
        write_text(config.out / SETTINGS, json.dumps(settings, indent=2) + "\n")
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


def _is_finished(out: Path, found: dict[str, Any], paths: Sequence[str]) -> bool:
    """Say whether a folder has its counts, and all that they count."""
    if not all(isinstance(found.get(key), int) for key in _COUNTS):
        return False
    files = [QUARANTINE, *([LABELS] if found["labels"] else [])]
    made = sum(is_made(out / path) for path in paths)
    return made == found["images"] and all((out / name).exists() for name in files)


def _make_pending(config: PrepareConfig, maker: Maker) -> list[Rejected]:
    """Make the files that are not there yet; return the items that can't be used."""
    from tqdm import tqdm

    from gdm_repr.data.loading import work_ahead

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
    return run(PrepareConfig, "prepare", argv, prepare, opened=open_work)


if __name__ == "__main__":
    sys.exit(main())
