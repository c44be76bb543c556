"""Label columns of image sources: from EDM's `dataset.json`, a CSV, or a list like CelebA's.

A column holds one value per image, all int, all float or all str; None where a label is missing.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from gdm_repr.files import parse_json, read_text

Label = int | float | str | None
Labels = dict[str, list[Label]]

_INTEGER = re.compile(r"[+-]?[0-9]+")
_INT64_DIGITS = 18  # as many always fit, sign or not
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
    for row in rows:
        if not isinstance(row, list) or len(row) != 2 or not isinstance(row[0], str):
            raise ValueError(f"{rule}; got the entry {json.dumps(row)[:80]}")
        name, value = row
        if isinstance(value, bool) or not isinstance(value, int | float | str | None):
            raise ValueError(f"{rule}; got {json.dumps(value)[:80]} for {name!r}")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError(f"{rule}; got {json.dumps(value)[:80]} for {name!r}")
        if name in values:
            raise ValueError(f"{where} labels {name!r} twice; keep one of the entries")
        values[name] = value
    _refuse_unknown(where, values, ids)
    return {"label": _same_type(where, [values.get(name) for name in ids])}


def read_labels(path: Path, ids: Sequence[str]) -> Labels:
    """Read the labels of `ids` from a CSV file, or from a list like CelebA's attributes.

    **CSV**, in UTF-8: the header names the columns. The first column holds ids, or bare file names
    where these are unique among the ids. A column whose values all read as int is int, else as
    float, else str; integers of more than 18 digits are str. An empty cell and an image without a
    row give None.

    **List**, as ``list_attr_celeba.txt``: the first line is the number of rows, the second names
    the columns, each row is a file name and one value per column, with blanks between. It lists the
    whole data set: rows of images that are not among the ids are passed over.

    Raises:
        ValueError: The file can't be read, its header or a row is malformed, it names an image
            twice, or (a CSV) one that does not exist, or (a list) none that does.
    """
    try:
        text = read_text(path, "labels file", most=MOST_LABELS)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(
            f"labels file {path.name!r} can't be read as CSV in UTF-8: {reason}"
        ) from error
    first, _, rest = text.partition("\n")
    if len(first) < 99 and _INTEGER.fullmatch(first.strip()):
        return _parse_list(f"labels file {path.name!r}", int(first), rest, ids)
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
    known, full_ids = set(ids), _by_short_name(ids)
    cells: dict[str, list[str]] = {}
    for number, line in enumerate(lines, start=1):
        short, *row = line.split()
        if len(row) != len(names):
            raise ValueError(
                f"{where}: row {number} ({short!r}) has {len(row)} values for {len(names)} "
                "columns; get it again"
            )
        name = _full_id(where, short, full_ids, ids)
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
    if not names or "" in names or len(set(names)) < len(names):
        raise ValueError(
            f"{where} has the header {header}; it must name the id column and one or more label "
            "columns, all different"
        )
    full_ids = _by_short_name(ids)
    cells: dict[str, list[str]] = {}
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise ValueError(
                f"{where}: row {number} below the header ({row[0]!r}) has {len(row)} cells, the "
                f"header {len(header)}; give every row as many"
            )
        name = _full_id(where, row[0], full_ids, ids)
        if name in cells:
            raise ValueError(f"{where} labels {name!r} twice; keep one of the rows")
        cells[name] = row[1:]
    _refuse_unknown(where, cells, ids)
    return _columns(names, cells, ids)


def _columns(names: Sequence[str], cells: Mapping[str, list[str]], ids: Sequence[str]) -> Labels:
    """Columns of all images from the cells of some."""
    empty = [""] * len(names)
    columns = zip(*(cells.get(name, empty) for name in ids), strict=True)
    return dict(zip(names, map(_parse_column, columns), strict=True))


def _full_id(where: str, name: str, full_ids: Mapping[str, str | None], ids: Sequence[str]) -> str:
    """Id of a bare file name; the name itself where it is no image's."""
    found = full_ids.get(name, name)
    if found is None:
        raise ValueError(
            f"{where}: {name!r} is the name of several images; write its id, such as "
            f"{next(i for i in ids if PurePosixPath(i).name == name)!r}"
        )
    return found


def _by_short_name(ids: Sequence[str]) -> dict[str, str | None]:
    """Ids by their last path component and by themselves; None where a short name is ambiguous."""
    full_ids: dict[str, str | None] = {}
    for name in ids:
        short = PurePosixPath(name).name
        full_ids[short] = None if short in full_ids else name
    full_ids.update((name, name) for name in ids)
    return full_ids


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
        return [None if value is None else float(value) for value in values]
    return values


def _parse_column(cells: Sequence[str]) -> list[Label]:
    filled = [cell for cell in cells if cell]
    if all(_INTEGER.fullmatch(cell) for cell in filled):
        if any(len(cell) > _INT64_DIGITS for cell in filled):  # an id, not a quantity
            return [cell or None for cell in cells]
        return [int(cell) if cell else None for cell in cells]
    try:
        return [float(cell) if cell else None for cell in cells]
    except ValueError:
        return [cell or None for cell in cells]
