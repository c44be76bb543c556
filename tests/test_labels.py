"""Labels: columns of one type per image, or an error that names the file, the row and the fix."""

import json
from pathlib import Path

import pytest

from gdm_repr.labels import parse_dataset_json, read_csv

IDS = ["a/1.png", "a/2.png", "b/2.png"]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_columns_have_one_type_each(tmp_path: Path) -> None:
    text = "\ufefffile,count,share,name\na/2.png,7,1,x\n\nb/2.png,,2.5,\n1.png,-3,nan,007\n"
    labels = read_csv(write(tmp_path / "l.csv", text), IDS)
    assert labels["count"] == [-3, 7, None]
    assert labels["share"][1:] == [1.0, 2.5]
    assert labels["name"] == ["007", "x", None]


def test_images_without_a_row_have_none(tmp_path: Path) -> None:
    assert read_csv(write(tmp_path / "l.csv", "id,y\n1.png,1\n"), IDS) == {"y": [1, None, None]}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "header"),
        ("file\n1.png\n", "header"),
        ("file,y,y\n", "all different"),
        ("file,\n", "header"),
        ("file,y\n1.png,3,4\n", "row 1 .* has 3 cells"),
        ("file,y\n1.png,3\na/1.png,3\n", "twice"),
        ("file,y\n2.png,3\n", "several images; write its id, such as 'a/2.png'"),
        ("file,y\na/3.png,3\n", "not in the data.*did you mean"),
        ('file,y\n"1.png,3\n', "can't be read"),
    ],
)
def test_bad_csv(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_csv(write(tmp_path / "l.csv", text), IDS)


def test_csv_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_bytes(b"file,y\n1.png,\xff\xfe\n")
    for name in ("l.csv", "none.csv", "."):
        with pytest.raises(ValueError, match="can't be read as CSV in UTF-8"):
            read_csv(tmp_path / name, IDS)


@pytest.mark.parametrize(
    ("rows", "column"),
    [
        ([["a/2.png", 6], ["a/1.png", 5]], [5, 6, None]),
        ([["a/2.png", 6], ["a/1.png", 5.5]], [5.5, 6.0, None]),
        ([["b/2.png", "cat"]], [None, None, "cat"]),
    ],
)
def test_dataset_json(rows: list[object], column: list[object]) -> None:
    assert parse_dataset_json(json.dumps({"labels": rows}), IDS) == {"label": column}


def test_dataset_json_without_labels() -> None:
    assert parse_dataset_json(b'{"labels": null}', IDS) == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "no valid JSON"),
        ("[]", "no key 'labels'"),
        ('{"labels": {"a": 1}}', "type dict"),
        ('{"labels": [["a/1.png"]]}', "entry"),
        ('{"labels": [["a/1.png", [1, 2]]]}', r"got \[1, 2\]"),
        ('{"labels": [["a/1.png", true]]}', "got true"),
        ('{"labels": [["a/1.png", 1], ["a/1.png", 1]]}', "twice"),
        ('{"labels": [["c.png", 1]]}', "not in the data"),
        ('{"labels": [["a/1.png", 1], ["a/2.png", "x"]]}', "mixes"),
    ],
)
def test_bad_dataset_json(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_dataset_json(text, IDS)
