"""Images in `.tar` files, as WebDataset shards have them: members of one name make a sample.

The name is the path up to the first dot of the file's name; what follows says what a member is:
``000.jpg`` an image, ``000.cls`` its class, ``000.json`` more labels. One scan finds where in the
file each image lies; it is then read from there, without unpacking. A tar that is no WebDataset has
the folders inside for labels, as a folder of images does.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from gdm_repr.boundary import numerals
from gdm_repr.data.images import BadImage, Preprocess
from gdm_repr.data.labels import Label, Labels
from gdm_repr.data.sources.files import (
    EncodedSource,
    is_wanted,
    natural,
    printable_path,
    refuse_member,
    refuse_size,
    sample_file,
)
from gdm_repr.files import parse_json

_MOST_LABELS = 1 << 20  # bytes of the labels of one image
_MOST_NUMBER = 2**63  # 64-bit integers are below


@dataclass
class _Sample:
    """What a shard holds of one name: images by their ending, each its place and size; labels."""

    shard: int
    images: dict[str, tuple[int, int]] = field(default_factory=dict)
    labels: dict[str, Label] = field(default_factory=dict)


class TarSource(EncodedSource):
    """Samples of one or more `.tar` files; what is wrong with one image is its own `BadImage`."""

    def __init__(self, name: str, root: Path, files: Sequence[str]) -> None:
        """Find where the images lie, and read the labels.

        Args:
            name: Name of the source.
            root: The folder.
            files: Paths below it, with "/" between the parts.

        Raises:
            ValueError: A file is no whole, uncompressed tar; a member would escape, is a link, an
                archive, or there twice; a sample has two images, or labels that can't be read.
        """
        self.name, self._paths = name, [root / file for file in files]
        found: list[tuple[str, str, _Sample]] = []
        for number, file in enumerate(files):
            samples = _scan(self._paths[number], number)
            stem = str(PurePosixPath(file).with_suffix(""))
            keys = sorted((key for key in samples if samples[key].images), key=natural)
            found += [(f"{stem}/{key}", key, samples[key]) for key in keys]
        keys = [key for _, key, _ in found]
        unique = len(set(keys)) == len(keys)
        self.ids = [printable_path(key if unique else long) for long, key, _ in found]
        self._places = [
            (sample.shard, *_only_image(self._paths[sample.shard].name, key, sample))
            for _, key, sample in found
        ]
        columns = dict.fromkeys(column for _, _, sample in found for column in sample.labels)
        self.labels: Labels = {
            column: _one_kind([sample.labels.get(column) for _, _, sample in found])
            for column in columns
        }
        if not columns and any("/" in key for key in keys):
            self.labels = {
                "label": [printable_path(key.rpartition("/")[0]) or None for key in keys]
            }

    def _open(self, index: int, preprocess: Preprocess) -> BinaryIO:
        shard, place, size = self._places[index]
        refuse_size(size, preprocess)
        with self._paths[shard].open("rb") as file:
            file.seek(place)
            data = file.read(size)
        if len(data) < size:
            raise BadImage("the archive was cut off after it was opened")
        return io.BytesIO(data)

    def content(self) -> Iterator[bytes]:
        """Yield places and sizes of the images, and evenly spaced parts of the files."""
        yield repr(self._places).encode()
        for path in self._paths:
            yield from sample_file(path)


def open_tar(path: Path) -> TarSource:
    """Open one `.tar` of images."""
    return TarSource(path.name, path.parent, [path.name])


def _scan(path: Path, shard: int) -> dict[str, _Sample]:
    """List the samples of a tar, with their labels."""
    samples: dict[str, _Sample] = {}
    for member, file in _members(path):
        if member.isdir():
            continue
        key, ending = _split_name(member.name)
        sample = samples.setdefault(key, _Sample(shard))
        where = f"data {path.name!r}: member {member.name!r}"
        if ending in sample.images:
            raise ValueError(f"{where} is there twice; keep one of them")
        if is_wanted(member.name):
            sample.images[ending] = (member.offset_data, member.size)
        elif ending in ("cls", "json"):
            if member.size > _MOST_LABELS:
                raise ValueError(f"{where} of {member.size} bytes; labels have {_MOST_LABELS}")
            file.seek(member.offset_data)
            data = file.read(member.size)
            try:
                found = _read_class(data) if ending == "cls" else _read_json(data, member.name)
            except ValueError as error:
                raise ValueError(
                    f"{where} can't be read as labels ({error}); write it again"
                ) from error
            # a class file's label counts where a JSON has one, too
            sample.labels = sample.labels | found if ending == "cls" else found | sample.labels
    return samples


def _members(path: Path) -> Iterator[tuple[tarfile.TarInfo, BinaryIO]]:
    """Yield the members of a tar that are allowed, and the file to read them from."""
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                special = "is a link" if member.issym() or member.islnk() else ""
                if not special and not (member.isdir() or member.isreg()):
                    special = "is no regular file"
                if not special and member.issparse():
                    special = "is a sparse file"
                refuse_member(path.name, member.name, special)
                yield member, file
                # or it would keep all headers in memory
                archive.members = []  # type: ignore[attr-defined]
            file.seek(archive.offset)
            if file.read(tarfile.BLOCKSIZE).strip(b"\0"):  # what tarfile takes for the end
                raise tarfile.ReadError("a damaged header in the middle")
    except (tarfile.TarError, OSError, EOFError, UnicodeError, OverflowError) as error:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        reason = "it is compressed" if packed else " ".join(str(error).split())[:120]
        fix = "unpack it with gunzip" if packed else "copy or pack it again"
        raise ValueError(f"data {path.name!r} can't be read as a tar ({reason}); {fix}") from error


def _split_name(name: str) -> tuple[str, str]:
    """Split a member's path at the first dot of its file name.

    >>> _split_name("./train/0001.seg.png"), _split_name("7.JPG")
    (('train/0001', 'seg.png'), ('7', 'jpg'))
    """
    folder, _, file = re.sub(r"^(\./+)+", "", name).rpartition("/")
    key, _, ending = file.partition(".")
    return f"{folder}/{key}" if folder else key, ending.lower()


def _only_image(file: str, key: str, sample: _Sample) -> tuple[int, int]:
    """Return place and size of a sample's image: the one with a simple ending, if several."""
    simple = [ending for ending in sample.images if "." not in ending]
    found = simple or list(sample.images)
    if len(found) != 1:
        raise ValueError(
            f"data {file!r}: the sample {key!r} has {len(found)} images ({', '.join(found)}); "
            "leave one of them, or rename them where the dots in their names mean nothing"
        )
    return sample.images[found[0]]


def _read_class(data: bytes) -> dict[str, Label]:
    text = data.decode().strip()
    value = numerals.whole(text)
    return {"label": text if value is None or abs(value) >= _MOST_NUMBER else value}


def _read_json(data: bytes, name: str) -> dict[str, Label]:
    """Return the numbers, texts and booleans of a JSON object; other values are no labels."""
    value = parse_json(data, name)
    if not isinstance(value, dict):
        return {}
    return {
        str(key): int(each) if isinstance(each, bool) else each
        for key, each in value.items()
        if isinstance(each, str) or (isinstance(each, int | float) and abs(each) < _MOST_NUMBER)
    }


def _one_kind(values: list[Label]) -> list[Label]:
    """Make a column int, float or str throughout: numbers among texts become texts."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) < 2:
        return values
    to = str if str in kinds else float
    return [None if value is None else to(value) for value in values]
