"""Label columns of image sources: from EDM's `dataset.json`, a CSV, or a list like CelebA's.

A column holds one value per image, all int, all float or all str; None where a label is missing.

Cells of text are numbers only where all of a column's are numerals
(:mod:`gdm_repr.boundary.numerals`) and no two different ones are one number: ``1`` beside ``1.0``,
``01`` or ``1_0``, and ``-0`` beside ``0``, are texts, so that different labels never become one.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from gdm_repr.boundary import numerals
from gdm_repr.files import parse_json, read_text, user_path

Label = int | float | str | None
Labels = dict[str, list[Label]]

_MOST = 2**63  # 64-bit integers are below; floats of that size are no labels
_NAN = "nan"  # a missing number, as NumPy writes it; no other spelling
MOST_LABELS = 1 << 29  # bytes of a label file


def parse_dataset_json(text: str | bytes, ids: Sequence[str]) -> Labels:
    """Read the labels of `ids` from EDM's `dataset.json`.

    Args:
        text: JSON of the form ``{"labels": [["00000/img0.png", 6], ...]}``; ``null`` for no labels.
        ids: Names of the images.

    Returns:
        A column `label`, or nothing where there are no labels.

    Raises:
        ValueError: The text has another form, or names an image twice or that does not exist.
    """
    where = "dataset.json"
    try:
        content = parse_json(text, where)
    except ValueError as error:
        raise ValueError(f"{where} is no valid JSON ({error}); rewrite or remove it") from error
    rule = f'{where} must be {{"labels": [[name, number or string], ...]}} or {{"labels": null}}'
    if not isinstance(content, dict) or "labels" not in content:
        raise ValueError(f"{rule}; it has no key 'labels'")
    rows = content["labels"]
    if rows is None:
        return {}
    if not isinstance(rows, list):
        raise ValueError(f"{rule}; got labels of type {type(rows).__name__}")
    values: dict[str, Label] = {}
    images = ImageNames(ids)
    for row in rows:
        if not isinstance(row, list) or len(row) != 2 or not isinstance(row[0], str):
            raise ValueError(f"{rule}; got the entry {json.dumps(row)[:80]}")
        name, value = images.id_of(where, row[0]), row[1]
        if isinstance(value, bool) or not isinstance(value, int | float | str | None):
            raise ValueError(f"{rule}; got {json.dumps(value)[:80]} for {name!r}")
        if isinstance(value, int | float) and not abs(value) < _MOST:  # NaN is not, either
            raise ValueError(f"{rule}; got {value!r} for {name!r}, which 64 bits do not hold")
        if name in values:
            raise ValueError(f"{where} labels {name!r} twice; keep one of the entries")
        values[name] = value
    _refuse_unknown(where, values, ids)
    return {"label": _same_type(where, [values.get(name) for name in ids])}


def read_labels(path: str | Path, ids: Sequence[str]) -> Labels:
    """Read the labels of `ids` from a CSV file, or from a list like CelebA's attributes.

    **CSV**, in UTF-8: the header, which must be there, names the columns. The first column holds
    ids, or bare file names where these are unique among the ids; where a name is written in another
    Unicode form than the id (as macOS does with accents), that form is overlooked. Blanks around a
    cell, of the header or below it, are no part of it; cells that differ in these alone are
    refused. A column whose cells are all whole numbers is int, else all numbers (or ``nan``) float,
    else str; it is str, too, where two different cells are one number, such as 1 and 1.0 or 01 and
    1, and where whole numbers have more than 18 digits. An empty cell and an image without a row
    give None.

    **List**, as ``list_attr_celeba.txt``: the first line is the number of rows, the second names
    the columns, each row is a file name and one value per column, with blanks between. It lists the
    whole data set: rows of images that are not among the ids are passed over.

    Raises:
        ValueError: The file can't be read, its header is missing, it or a row is malformed, it
            names an image twice, or (a CSV) one that does not exist, or (a list) none that does.
    """
    path = user_path(path)
    try:
        text = read_text(path, "labels file", most=MOST_LABELS)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(
            f"labels file {path.name!r} can't be read as CSV in UTF-8: {reason}"
        ) from error
    first, _, rest = text.partition("\n")
    if (count := numerals.whole(first.strip())) is not None:
        return _parse_list(f"labels file {path.name!r}", count, rest, ids)
    return _parse_csv(f"labels file {path.name!r}", text, ids)


def _parse_list(where: str, count: int, text: str, ids: Sequence[str]) -> Labels:
    header, *lines = [line for line in text.splitlines() if line.strip()] or [""]
    names = header.split()
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{where} has the column names {names}; its second line must name them")
    if len(lines) != count:
        raise ValueError(
            f"{where} has {len(lines)} rows, its first line says {count}; get it again"
        )
    known, images = set(ids), ImageNames(ids)
    cells: dict[str, list[str]] = {}
    for number, line in enumerate(lines, start=1):
        short, *row = line.split()
        if len(row) != len(names):
            raise ValueError(
                f"{where}: row {number} ({short!r}) has {len(row)} values for {len(names)} "
                "columns; get it again"
            )
        name = images.id_of(where, short)
        if name in cells:
            raise ValueError(f"{where} labels {name!r} twice; keep one of the rows")
        if name in known:
            cells[name] = list(map(sys.intern, row))  # eight million strings, mostly "-1"
    if not cells:
        raise ValueError(f"{where} names none of the images, which look like {ids[:1]}")
    return _columns(names, cells, ids)


def _parse_csv(where: str, text: str, ids: Sequence[str]) -> Labels:
    try:
        lines = csv.reader(io.StringIO(text), strict=True)
        header, *rows = [row for row in lines if row] or [[]]
    except csv.Error as error:
        raise ValueError(f"{where} can't be read as CSV in UTF-8: {error}") from error
    names = [name.strip() for name in header[1:]]
    images = ImageNames(ids)
    if names and images.has(header[0]):
        example = ",".join(["file", *_column_names(names)])
        raise ValueError(
            f"{where} has no header: its first line names the image {header[0].strip()!r}; add a "
            f"first line that names the columns, such as {example}"
        )
    if not names or "" in names or len(set(names)) < len(names):
        raise ValueError(
            f"{where} has the header {header}; it must name the id column and one or more label "
            "columns, all different"
        )
    cells: dict[str, list[str]] = {}
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise ValueError(
                f"{where}: row {number} below the header ({row[0]!r}) has {len(row)} cells, the "
                f"header {len(header)}; give every row as many"
            )
        name = images.id_of(where, row[0])
        if name in cells:
            raise ValueError(f"{where} labels {name!r} twice; keep one of the rows")
        cells[name] = row[1:]
    for name, column in zip(names, zip(*cells.values(), strict=True), strict=False):
        _refuse_alike(where, name, column)
    _refuse_unknown(where, cells, ids)
    return _columns(names, cells, ids)


def _columns(names: Sequence[str], cells: Mapping[str, list[str]], ids: Sequence[str]) -> Labels:
    """Columns of all images from the cells of some."""
    empty = [""] * len(names)
    columns = zip(*(cells.get(name, empty) for name in ids), strict=True)
    return dict(zip(names, map(_parse_column, columns), strict=True))


class ImageNames:
    """Finds images by what users write: the id, or a file name that no other image has.

    Only where neither is found, blanks around the name and its Unicode form (composed or not) are
    overlooked, if that leaves one image.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        """Index the ids."""
        self.ids = ids
        self._exact: dict[str, str | None] = {}
        for name in ids:
            short = PurePosixPath(name).name
            self._exact[short] = None if short in self._exact else name
        self._exact.update((name, name) for name in ids)
        self._suffixes = {PurePosixPath(name).suffix.lower() for name in ids} - {""}

    @cached_property
    def _normal(self) -> dict[str, str | None]:
        """Ids by normalised name; None where two images share one."""
        normal: dict[str, str | None] = {}
        for name, found in self._exact.items():
            key = _normalised(name)
            normal[key] = found if normal.get(key, found) == found else None
        return normal

    def has(self, name: str) -> bool:
        """Say whether a name is one or more images', or has the suffix of their files."""
        known = name in self._exact or _normalised(name) in self._normal
        return known or PurePosixPath(name.strip()).suffix.lower() in self._suffixes

    def id_of(self, where: str, name: str) -> str:
        """Return the id of a name; the name itself where it is no image's.

        Raises:
            ValueError: It is the name of several images.
        """
        index, key = self._exact, name
        if name not in index:
            index, key = self._normal, _normalised(name)
        found = index.get(key, name.strip())
        if found is None:
            several = [i for i in self.ids if key in (i, PurePosixPath(i).name)] or [
                i for i in self.ids if key in map(_normalised, (i, PurePosixPath(i).name))
            ]
            raise ValueError(
                f"{where}: {name!r} is the name of several images; write its id, such as "
                f"{several[0]!r}"
            )
        return found


def _normalised(name: str) -> str:
    return unicodedata.normalize("NFC", name.strip())


def _column_names(row: Sequence[str]) -> list[str]:
    """Propose names for the columns of a file without a header."""
    return ["label"] if len(row) == 1 else [f"label{i + 1}" for i in range(len(row))]


def _refuse_alike(where: str, column: str, cells: Sequence[str]) -> None:
    """Refuse cells that differ in the blanks around them alone."""
    written: dict[str, str] = {}
    for cell in cells:
        text = cell.strip()
        if text and written.setdefault(text, cell) != cell:
            raise ValueError(
                f"{where}: column {column!r} has the cells {written[text]!r} and {cell!r}, which "
                "differ in blanks alone; write them alike"
            )


def _refuse_unknown(where: str, named: Mapping[str, object], ids: Sequence[str]) -> None:
    known = set(ids)
    unknown = [name for name in named if name not in known]
    if unknown:
        close = difflib.get_close_matches(unknown[0], ids[:10_000], n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"ids look like {ids[:1]}"
        raise ValueError(
            f"{where} names {len(unknown)} images that are not in the data, such as "
            f"{unknown[0]!r}; {hint}"
        )


def _same_type(where: str, values: list[Label]) -> list[Label]:
    """Make a column of numbers int or float throughout; refuse numbers among strings."""
    kinds = {type(value) for value in values if value is not None}
    if str in kinds and len(kinds) > 1:
        raise ValueError(f"{where} mixes numbers and strings as labels; use one of them")
    if kinds == {int, float}:
        floats = {value: float(value) for value in values if value is not None}
        if len(set(floats.values())) < len(floats):
            raise ValueError(f"{where} has labels that are one number as floats; write texts")
        return [None if value is None else floats[value] for value in values]
    return values


def _parse_column(cells: Sequence[str]) -> list[Label]:
    """Read a column's cells by the rule of :func:`read_labels`."""
    cells = [cell.strip() for cell in cells]
    readings: dict[str, Label] = dict.fromkeys(cells)
    readings.pop("", None)
    texts: dict[str, Label] = {cell: cell for cell in readings}
    if all(map(numerals.is_whole, readings)):  # longer ones are ids, not quantities
        readings = {cell: numerals.whole(cell) for cell in readings}
    else:
        readings = {cell: math.nan if cell == _NAN else numerals.real(cell) for cell in readings}
    if None in readings.values() or len(set(readings.values())) < len(readings):
        readings = texts
    return [readings.get(cell) for cell in cells]
