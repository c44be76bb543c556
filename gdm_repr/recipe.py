"""What made the files of a folder: a recipe, by which a second run knows what the first one left.

``sample``, ``decode`` and ``neighbours`` write ``COMMAND.json`` before their first file. It holds

    command   that made the files
    settings  that decide them, by content: a model's digest, not its path
    names     what the user calls those digests; never compared
    how       batch size, device, versions: they may change the last bits, and no more
    files     relative paths of all that is made
    finished  counts, once everything is there

The same settings find finished work finished, and go on with unfinished work. Other settings are
refused, with the one difference, unless the earlier files, and no others, are to be removed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gdm_repr.files import parse_json, read_text, write_text

COMMANDS = ("sample", "decode", "neighbours")  # none of which writes into another's folder
IMAGES, ARRAY, SHEET, PROCESS = "images", "images.npy", "sheet.png", "process.png"
MOST_RECIPE = 1 << 30  # bytes: it names every image
_SHOWN = 80  # characters of a value in a message


@dataclass(frozen=True)
class Difference:
    """The first setting that is another one than before.

    Attributes:
        name: of the setting.
        was: its value before, as the user knows it.
        now: its value now.
    """

    name: str
    was: str
    now: str

    def __str__(self) -> str:
        """Say it in a few words."""
        if self.was == self.now:
            return f"{self.name} {self.was} has changed since"
        return f"{self.name} {self.was}, now {self.now}"


def find_difference(
    was: Mapping[str, object],
    now: Mapping[str, object],
    names_was: Mapping[str, str | None] | None = None,
    names_now: Mapping[str, str | None] | None = None,
) -> Difference | None:
    """Return the first difference between two sets of plain values, or None.

    Args:
        was: values by name, possibly nested; compared as JSON has them.
        now: the same.
        names_was: what the user calls a value that is a digest.
        names_now: the same.

    Example:
        >>> was, now = {"n": 8, "plan": {"steps": [4]}}, {"n": 8, "plan": {"steps": (5,)}}
        >>> str(find_difference(was, now))
        'plan.steps [4], now [5]'
        >>> str(find_difference({"model": "c0f"}, {"model": "bee"}, {"model": "a"}, {"model": "b"}))
        'model a, now b'
        >>> find_difference({"n": 8}, {"n": 8}, {"n": "eight"}, {"n": "VIII"}) is None
        True
    """
    before, after = flat(was), flat(now)
    for key in {**after, **before}:
        if before.get(key) != after.get(key):
            called_was, called_now = (names_was or {}).get(key), (names_now or {}).get(key)
            if called_was is None and called_now is None:
                return Difference(key, short(before.get(key)), short(after.get(key)))
            return Difference(key, called_was or "another", called_now or "another")
    return None


def flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values by dotted names, as JSON has them."""
    found: dict[str, Any] = {}
    for key, value in json.loads(json.dumps(facts, default=str)).items():
        name = f"{prefix}{key}"
        nested = isinstance(value, dict) and value
        found |= flat(value, f"{name}.") if nested else {name: value}
    return found


def short(value: object) -> str:
    """Return a value for a message."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


@dataclass(frozen=True)
class Recipe:
    """What a command is about to make in a folder; the fields are described above."""

    command: str
    settings: Mapping[str, object]
    names: Mapping[str, str | None]
    how: Mapping[str, object]
    files: Sequence[str]
    finished: Mapping[str, int] | None = None

    def look(self, out: Path, *, overwrite: bool) -> Mapping[str, int] | None:
        """See whether a folder can take this work, and change nothing.

        Args:
            out: the folder.
            overwrite: whether what an earlier run left may be removed.

        Returns:
            Counts of the same work that is finished already; None when there is something to do.

        Raises:
            ValueError: The folder holds work of other settings, or files of something else.
        """
        earlier = _earlier(out)
        for each in earlier:
            difference = self._difference(each)
            if difference is not None and not overwrite:
                raise ValueError(
                    f"--out {str(out)!r}: holds images of other settings ({difference}); choose "
                    "another folder, or add --overwrite to remove those"
                )
            # Whoever has deleted some of the images gets them again.
            there = each.finished is not None and all(_is_there(out / name) for name in each.files)
            if there and not overwrite:
                return each.finished
        own = {name for each in earlier for name in each.files}
        for name in [*self.files, *([] if earlier else [IMAGES, ARRAY, SHEET])]:
            path = out / name
            if name not in own and (_is_file(path) or (path.is_dir() and any(path.iterdir()))):
                raise ValueError(
                    f"--out {str(out)!r}: holds {name}, which no {self.command}.json there tells "
                    "of; choose another folder, or remove that first"
                )
        return None

    def begin(self, out: Path, *, overwrite: bool) -> None:
        """Write the recipe down, and remove what does not belong to it of what earlier ones tell.

        To be called after :meth:`look`, as the folder's only writer.
        """
        for each in _earlier(out):
            # Another batch size gives other last bits: no two halves are to be of two of them.
            if overwrite or self._difference(each) or flat(each.how) != flat(self.how):
                each.remove(out)
        self._write(out)

    def end(self, out: Path, counts: Mapping[str, int]) -> None:
        """Write down that everything is there."""
        _remove_unfinished(out, self.files)
        replace(self, finished=counts)._write(out)

    def remove(self, out: Path) -> None:
        """Remove this recipe's files and, last, the recipe itself; folders go if they are empty."""
        _remove_unfinished(out, self.files)
        root = out.resolve()
        folders = set()
        for name in self.files:
            path = out / name
            if not path.parent.resolve().is_relative_to(root):  # a recipe that was tampered with
                continue
            if _is_file(path):
                path.unlink()
            folders |= {each for each in path.parents if out in each.parents}
        for folder in sorted(folders, key=lambda each: -len(each.parts)):
            with suppress(OSError):  # it holds something else
                folder.rmdir()
        (out / f"{self.command}.json").unlink(missing_ok=True)

    def _difference(self, earlier: Recipe) -> Difference | None:
        if earlier.command != self.command:
            return Difference("command", earlier.command, self.command)
        return find_difference(earlier.settings, self.settings, earlier.names, self.names)

    def _write(self, out: Path) -> None:
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False)
        write_text(out / f"{self.command}.json", text + "\n")


def how_made(batch_size: int, device: str) -> dict[str, object]:
    """Return what may change the last bits of images: a run goes on under the same alone."""
    import torch

    from gdm_repr.tracking.facts import versions

    return {
        "batch_size": batch_size,
        "device": device,
        "threads": torch.get_num_threads(),
        **versions(),
    }


def _earlier(out: Path) -> list[Recipe]:
    return [recipe for command in COMMANDS if (recipe := _read(out, command)) is not None]


def _read(out: Path, command: str) -> Recipe | None:
    path = out / f"{command}.json"
    if not path.exists():
        return None
    what = f"--out {str(out)!r}: its {path.name}"
    facts = parse_json(read_text(path, what, most=MOST_RECIPE), what)
    try:
        recipe = Recipe(**facts)
        flat(recipe.settings), flat(recipe.how), dict(recipe.names), dict(recipe.finished or {})
        if not all(isinstance(name, str) for name in recipe.files):
            raise TypeError("files must be names")
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{what} is no recipe of this version ({error}); choose another folder"
        ) from None
    return recipe


def _is_file(path: Path) -> bool:
    return path.is_file() or path.is_symlink()


def _is_there(path: Path) -> bool:
    """Say whether a file is there, and not empty, as a power failure may leave it."""
    return path.is_file() and path.stat().st_size > 0


def _remove_unfinished(out: Path, files: Sequence[str]) -> None:
    """Remove what killed processes left of these files, under temporary names."""
    names: dict[Path, set[str]] = {}
    for name in files:
        path = out / name
        names.setdefault(path.parent, set()).add(path.name)
    for folder, own in names.items():
        for path in folder.glob(".*.tmp"):
            if path.name[1:].rsplit(".", 3)[0] in own:
                path.unlink(missing_ok=True)
