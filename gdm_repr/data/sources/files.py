"""Images in encoded files: a folder of them, a list of them, or a zip.

Files are opened when they are asked for. Whatever is wrong with one of them is its own `BadImage`;
what is wrong with the folder or the zip as a whole is a ValueError at once.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from gdm_repr.boundary.npy_file import refuse_bomb
from gdm_repr.data.images import BadImage, Pixels, Preprocess, image_size, read_image
from gdm_repr.data.labels import Labels, parse_dataset_json
from gdm_repr.files import MOST_BYTES, read_bytes

_READ = ".png .apng .jpg .jpeg .jpe .jfif .webp .avif .jp2 .j2k .jpx .bmp .dib .gif .tif .tiff .ppm"
_READ_TOO = ".pgm .pbm .pnm .tga .ico .pcx .sgi .psd .dds .qoi"
_NOT_READ = ".heic .heif .jxl .exr .hdr"
READABLE = frozenset(f"{_READ} {_READ_TOO}".split())
"""Suffixes of images that can be read."""

IMAGE_SUFFIXES = READABLE | frozenset(_NOT_READ.split())
"""Suffixes that say "meant to be an image": what can't be read is reported, not passed over."""

_ARCHIVES = frozenset((".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar"))
_DATASET_JSON = "dataset.json"
DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"  # of tracking, in the folder of its database
_PARTS, _PART_BYTES = 64, 4096  # of a large file, for its fingerprint
# Shortages of the job's own, which no image is to blame for.
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class EncodedSource:
    """Images in encoded files; subclasses say how to open one of them."""

    levels: int | None = None

    def _open(self, index: int, preprocess: Preprocess) -> BinaryIO:
        raise NotImplementedError

    def pixels(self, index: int, preprocess: Preprocess) -> Pixels:
        """Return the decoded image (H, W, C); raise BadImage with the reason if there is none."""
        with reasons(), self._open(index, preprocess) as file:
            return read_image(file, preprocess)

    def size(self, index: int, preprocess: Preprocess) -> tuple[int, int]:
        """Return (H, W) of an image from its header; raise BadImage."""
        with reasons(), self._open(index, preprocess) as file:
            return image_size(file, preprocess)


class FileSource(EncodedSource):
    """Image files below one folder, given by their relative paths."""

    def __init__(self, name: str, root: Path, files: Sequence[str], labels: Labels) -> None:
        """Keep the paths; nothing is opened yet.

        Args:
            name: Name of the source.
            root: The folder.
            files: Paths below it, with "/" between the parts.
            labels: One value per file in every column.
        """
        self.name, self.labels = name, labels
        self.ids = [printable_path(file) for file in files]
        self._root, self._files = str(root), list(files)

    def _open(self, index: int, preprocess: Preprocess) -> BinaryIO:
        path = os.path.join(self._root, self._files[index])
        if os.path.islink(path) and not os.path.exists(path):
            raise BadImage("broken symbolic link")
        info = os.stat(path)
        if stat.S_ISDIR(info.st_mode):
            named = PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES
            raise BadImage("a folder named like an image" if named else "folder can't be listed")
        if not stat.S_ISREG(info.st_mode):  # opening a pipe would wait for ever
            raise BadImage("not a regular file")
        if info.st_size == 0:
            raise BadImage("empty file")
        return open(path, "rb")

    def content(self) -> Iterator[bytes]:
        """Yield ids and sizes in bytes: reading every file would take as long as the job."""
        for name, file in zip(self.ids, self._files, strict=True):
            try:
                size = os.stat(os.path.join(self._root, file)).st_size
            except OSError:
                size = -1
            yield f"{name}\0{size}\0".encode()


class ZipSource(EncodedSource):
    """Images in a zip, without unpacking it; labels from `dataset.json` (EDM's format)."""

    def __init__(self, path: Path) -> None:
        """Read the directory of the zip.

        Raises:
            ValueError: It is no zip, or a member would escape, nests an archive, is a link or a
                duplicate, or `dataset.json` is malformed.
        """
        self.name, self._path = path.name, path
        self._handle: tuple[int, zipfile.ZipFile] | None = None
        try:
            members = self._zip().infolist()
            labelled = any(member.filename == _DATASET_JSON for member in members)
            labels = self._dataset_json() if labelled else b'{"labels": null}'
        except Exception as error:  # a broken zip raises as many kinds as a broken image
            reason = _short(getattr(error, "strerror", None) or str(error))
            raise ValueError(
                f"data {path.name!r} can't be read as a zip ({reason}); copy or pack it again"
            ) from error
        for member in members:
            link = stat.S_ISLNK(member.external_attr >> 16)
            refuse_member(path.name, member.filename, "is a symbolic link" if link else "")
        images = {
            member.filename: member
            for member in members
            if not member.is_dir() and is_wanted(member.filename)
        }
        self.ids = sorted(images, key=natural)
        self._members = [images[name] for name in self.ids]
        names = [member.filename for member in members]
        if len(set(names)) < len(names):
            twice = Counter(names).most_common(1)[0][0]
            raise ValueError(f"data {path.name!r} holds {twice!r} twice; keep one of them")
        self.labels = parse_dataset_json(labels, self.ids)

    def _zip(self) -> zipfile.ZipFile:
        """Return this process's own handle: a forked one would share its position in the file."""
        if self._handle is None or self._handle[0] != os.getpid():
            self._handle = (os.getpid(), zipfile.ZipFile(self._path))
        return self._handle[1]

    def _dataset_json(self) -> bytes:
        """Read the labels, which are of bounded size however well they are packed."""
        member = self._zip().getinfo(_DATASET_JSON)
        refuse_bomb(member, 1 << 20, 100)
        if member.file_size > MOST_BYTES:
            raise ValueError(f"{_DATASET_JSON} of {member.file_size} bytes; at most {MOST_BYTES}")
        return self._zip().read(member)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the handle behind when sent to another process."""
        return {**self.__dict__, "_handle": None}

    def _open(self, index: int, preprocess: Preprocess) -> BinaryIO:
        member = self._members[index]
        refuse_size(member.file_size, preprocess)
        refuse_bomb(member)
        return io.BytesIO(self._zip().read(member))

    def content(self) -> Iterator[bytes]:
        """Yield ids, checksums and sizes."""
        for member in self._members:
            yield f"{member.filename}\0{member.CRC}\0{member.file_size}\0".encode()


def open_folder(root: Path) -> FileSource:
    """Open all images below a folder, in natural order of their relative paths.

    Hidden files, and files without an image's suffix, are passed over. Labels: `dataset.json` where
    there is one, else the sub-folder as column `label` where there are sub-folders.
    """
    files = files_below(root, IMAGE_SUFFIXES)
    ids = [printable_path(file) for file in files]
    labels: Labels = {}
    if (root / _DATASET_JSON).is_file():
        labels = parse_dataset_json(read_bytes(root / _DATASET_JSON, "labels"), ids)
    elif any("/" in name for name in ids):
        labels = {"label": [name.rpartition("/")[0] or None for name in ids]}
    return FileSource(root.resolve().name, root, files, labels)


def refuse_size(size: int, preprocess: Preprocess) -> None:
    """Refuse an encoded image of so many bytes, if no image could have them; raises BadImage."""
    if size == 0:
        raise BadImage("empty file")
    # 8 bytes hold a pixel of any kind; beyond that and some metadata it is no such image.
    if size > 8 * preprocess.max_pixels + (1 << 20):
        raise BadImage(f"unpacks to {size} bytes, more than max_pixels could need")


def sample_file(path: Path) -> Iterator[bytes]:
    """Yield the size of a file and up to 64 evenly spaced parts of it, the last among them."""
    size = path.stat().st_size
    yield f"{size}\0".encode()
    with path.open("rb") as file:
        for part in range(_PARTS):
            file.seek(part * max(0, size - _PART_BYTES) // (_PARTS - 1))
            yield file.read(_PART_BYTES)


@contextmanager
def reasons() -> Iterator[None]:
    """Turn whatever a broken file makes its decoder raise into a short reason."""
    try:
        yield
    except (BadImage, MemoryError):
        raise
    except OSError as error:
        if error.errno in _SHORTAGES:
            raise
        raise BadImage(_short(error.strerror or str(error))) from error
    except Exception as error:  # on broken bytes decoders raise anything, SyntaxError included
        raise BadImage(_short(f"{type(error).__name__}: {error}")) from error


def _short(text: str) -> str:
    return " ".join(text.split())[:200]


def is_wanted(path: str, suffixes: Collection[str] = IMAGE_SUFFIXES) -> bool:
    """Say whether a relative path has one of some suffixes and no hidden part."""
    parts = PurePosixPath(path).parts
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not hidden and PurePosixPath(path).suffix.lower() in suffixes


def natural(path: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key by which img2 comes before img10; ties are broken by the path itself."""
    parts = re.split("([0-9]+)", path)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts], path


def printable_path(path: str) -> str:
    """Return a path as valid Unicode: bytes that are no UTF-8 appear as escapes."""
    return path.encode("utf-8", "backslashreplace").decode()


def files_below(root: Path, suffixes: Collection[str]) -> list[str]:
    """List files of some suffixes below a folder, with folders that can't be listed among them.

    Links to folders are followed, except back to a folder they lie in. What tracking keeps beside
    its database, where a command runs in the folder itself, is none of the images.
    """
    files: list[str] = []
    folders: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while folders:
        folder, ancestors = folders.pop()
        try:
            info = os.stat(root / folder)
            if (info.st_dev, info.st_ino) in ancestors:
                continue
            with os.scandir(root / folder) as scan:
                entries = list(scan)
        except OSError as error:
            if not folder:
                raise ValueError(
                    f"data {str(root)!r} can't be listed ({error.strerror}); check its permissions"
                ) from error
            files.append(folder)
            continue
        names = {entry.name for entry in entries}
        entries = [e for e in entries if e.name != ARTIFACTS or DATABASE not in names]
        inside = ancestors | {(info.st_dev, info.st_ino)}
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if is_wanted(path, suffixes):
                files.append(path)
            elif not entry.name.startswith(".") and entry.is_dir():
                folders.append((path, inside))
    return sorted(files, key=natural)


def refuse_member(archive: str, name: str, special: str = "") -> None:
    """Refuse members that no image archive needs and that are how archives attack.

    Args:
        archive: Its name.
        name: Of the member.
        special: What the member is, if no plain file, such as "is a symbolic link".

    Raises:
        ValueError: The member is special, would escape, or is an archive itself.
    """
    parts = re.split(r"[/\\]", name)
    if parts[0] == "" or re.match("[A-Za-z]:", name) or ".." in parts:
        reason = "points outside the archive"
    elif special:
        reason = special
    elif PurePosixPath(name).suffix.lower() in _ARCHIVES:
        reason = "is an archive in an archive"
    else:
        return
    raise ValueError(f"data {archive!r}: member {name!r} {reason}; pack the images alone")
