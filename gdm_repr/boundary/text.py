r"""Text of others, put where it has a grammar of its own: terminal, XML, CSV, MLflow.

Names of files, labels and a server's errors may hold anything. `printable` is the one place that
says what is shown of them: control characters (with them a terminal's escapes), what turns the
direction of writing, and what is no character are written as a backslash and a number.

>>> printable("a\x1b[31mb\u202e")
'a\\x1b[31mb\\u202e'
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

# Controls (C0, DEL, C1), marks and overrides of direction, separators of lines, lone surrogates
# (bytes of names that are no UTF-8) and two values that are no characters, which XML forbids too.
_NOT_SHOWN = (
    "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff"
)
_ALL = re.compile(f"[{_NOT_SHOWN}]")
_BUT_LINES = re.compile(rf"(?![\n\t])[{_NOT_SHOWN}]")
# Spreadsheets take a cell that begins so for a formula, unless it is a number or a lone dash.
_FORMULA = re.compile(r"[=@\t\r]|[+-](?!$|\d+(\.\d+)?(e[+-]?\d+)?$)", re.IGNORECASE)


def printable(text: str, *, lines: bool = False) -> str:
    """Return a text with what can't be shown as its number; what is shown stays as it is.

    Args:
        text: any text.
        lines: whether line feeds and tabs are ours, and stay.
    """
    return (_BUT_LINES if lines else _ALL).sub(_number, text)


def _number(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def listed(names: Sequence[str], most: int = 8) -> str:
    """Return names with commas, the first ones where they are many.

    >>> listed(["a", "b"]), listed(["a", "b", "c"], 1)
    ('a, b', 'a, .. (3 in all)')
    """
    shown = printable(", ".join(names[:most]))
    return shown if len(names) <= most else f"{shown}, .. ({len(names)} in all)"


def write_csv(file: Path | TextIO, columns: Mapping[str, Sequence[object]]) -> None:
    """Write a table as CSV, UTF-8.

    Numbers are written as they are. A text that a spreadsheet would take for a formula begins with
    an apostrophe, as such programs write it themselves.

    Args:
        file: a path, or a text file opened with ``newline=""``.
        columns: values by heading, all of one length.
    """
    if isinstance(file, Path):
        with file.open("w", encoding="utf-8", newline="") as opened:
            write_csv(opened, columns)
        return
    rows: Iterable[Sequence[object]] = zip(*columns.values(), strict=True)
    writer = csv.writer(file)
    writer.writerow([cell(name) for name in columns])
    writer.writerows([cell(value) for value in row] for row in rows)


def cell(value: object) -> object:
    """Return a value as a table's cell: texts without formulas, anything else unchanged.

    >>> cell("=1+1"), cell(-1.5), cell("-"), cell("0_29")
    ("'=1+1", -1.5, '-', '0_29')
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if _FORMULA.match(value) else text
