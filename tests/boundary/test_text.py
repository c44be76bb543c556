"""Text of others, made printable."""

import csv
import io
import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from gdm_repr.boundary.text import cell, printable, write_csv

ANY = st.text(alphabet=st.characters(exclude_categories=()))  # lone surrogates too


@given(ANY)
def test_printable_text_is_fit_for_every_place(text: str) -> None:
    shown = printable(text)
    assert printable(shown) == shown
    shown.encode("utf-8")
    assert shown.isprintable() or not any(c < " " or c == "\x7f" for c in shown)
    escaped = shown.replace("&", "&amp;").replace("<", "&lt;")
    assert "".join(ET.fromstring(f"<a>{escaped}</a>").itertext()) == shown


@given(st.text(alphabet=st.characters(categories=("L", "N", "P", "S", "Zs", "M"))))
def test_what_can_be_shown_stays(text: str) -> None:
    assert printable(text) == text


def test_what_is_not_shown() -> None:
    assert printable("a\x1b]0;t\x07\n\x9b") == "a\\x1b]0;t\\x07\\x0a\\x9b"
    assert printable("\u202egnp.exe\u2066") == "\\u202egnp.exe\\u2066"
    assert printable("caf\udce9.png") == "caf\\xe9.png" and printable("\ud83d") == "\\ud83d"
    assert printable("a\n\tb\r", lines=True) == "a\n\tb\\x0d"
    assert printable("👩‍🔬 ü 日本") == "👩‍🔬 ü 日本"


def test_no_cell_is_a_formula() -> None:
    for text in ("=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "--1", "-a"):
        assert str(cell(text)).startswith("'"), text
    for value in (-1, -1.5, 1, None, True, "-", "+", "-1.5", "+2e-3", "a-b", "0_29", ""):
        assert cell(value) == value
    assert cell("\n=1") == "\\x0a=1"


@given(st.dictionaries(ANY, st.lists(st.floats() | st.integers() | ANY, min_size=2, max_size=2)))
def test_tables_are_read_back(columns: dict[str, list[object]]) -> None:
    file = io.StringIO(newline="")
    write_csv(file, columns)
    rows = list(csv.reader(io.StringIO(file.getvalue(), newline="")))
    assert rows[0] == [cell(name) for name in columns]
    for row, values in zip(rows[1:], zip(*columns.values(), strict=True), strict=False):
        assert row == [str(cell(value)) for value in values]
    assert not any(text.startswith(("=", "@", "\t", "\r")) for row in rows for text in row)
