"""Rows by the ids that a file names: in any form and order the same, and told where missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gdm_repr.latents.ids import ids_digest, read_ids, select_ids
from gdm_repr.latents.store import LatentStore
from tests.latents.test_neighbours import Z, write_store

CHOSEN = ["item-31", "item-2", "item-17"]


@pytest.fixture
def store(tmp_path: Path) -> LatentStore:
    return write_store(tmp_path / "store")


def write_forms(folder: Path, ids: list[str]) -> list[Path]:
    """The same ids by hand, as a table of a spreadsheet, and as an export of a map."""
    lines, table, map_ = (folder / name for name in ("ids.txt", "ids.csv", "ids.parquet"))
    lines.write_bytes("\r\n".join([*ids, "", ids[0]]).encode())
    table.write_text("\n".join(["x,id", *(f'"0,5",{name}' for name in ids)]), "utf-8-sig")
    pq.write_table(pa.table({"id": ids[::-1], "x": np.zeros(len(ids))}), map_)
    return [lines, table, map_]


def test_every_form_chooses_the_same_rows(store: LatentStore, tmp_path: Path) -> None:
    forms = write_forms(tmp_path, CHOSEN)
    for path in forms:
        chosen = select_ids(store, path)
        assert chosen.ids == ["item-2", "item-17", "item-31"]  # in the store's order
        np.testing.assert_array_equal(chosen.z(), Z[[2, 17, 31]])
    assert len({ids_digest(path) for path in forms}) == 1
    assert ids_digest(forms[0]) != ids_digest(write_forms(tmp_path, CHOSEN[:2])[0])


def test_an_id_may_hold_what_python_takes_for_a_line(tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("a\u2028b \n\x0bc\n", "utf-8", newline="")
    assert read_ids(tmp_path / "ids") == ["a\u2028b ", "\x0bc"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.txt", b"\n\n", "holds no id; give one a line"),
        ("a.txt", b"item-1\nme\nyou\n", r"'me' is not in .* \(2 of its 3 ids are not there\)"),
        ("b.txt", b"me\n", r"'me' is not in .* \(its id is not there\); give .* such as 'item-0'"),
        ("c.txt", b"\xff\n", "is no text in UTF-8"),
        ("d.csv", b"name,x\na,1\n", "has no column 'id', only name, x; name it so"),
        ("e.csv", b'id\n"a', "no readable CSV"),
        ("f.parquet", b"PAR1", "no readable Parquet file"),
    ],
)
def test_what_is_wrong_is_said(
    store: LatentStore, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=said) as error:
        select_ids(store, tmp_path / name)
    assert str(error.value).startswith(f"--ids {str(tmp_path / name)!r}")
    assert "\n" not in str(error.value)


def test_a_parquet_file_without_ids_and_no_file(store: LatentStore, tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), tmp_path / "x.parquet")
    for name, said in (("x.parquet", "has no column 'id', only x"), ("none", "no such file")):
        with pytest.raises(ValueError, match=said):
            select_ids(store, tmp_path / name)
