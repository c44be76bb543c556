"""Labels: columns of one type per image, or an error that names the file, the row and the fix."""

import json
from pathlib import Path

import pytest

from gdm_repr.data.labels import parse_dataset_json, read_labels

IDS = ["a/1.png", "a/2.png", "b/2.png"]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_columns_have_one_type_each(tmp_path: Path) -> None:
    text = "\ufefffile,count,share,name\na/2.png,7,1,x\n\nb/2.png,,2.5,\n1.png,-3,nan,007\n"
    labels = read_labels(write(tmp_path / "l.csv", text), IDS)
    assert labels["count"] == [-3, 7, None]
    assert labels["share"][1:] == [1.0, 2.5]
    assert labels["name"] == ["007", "x", None]


def test_images_without_a_row_have_none(tmp_path: Path) -> None:
    assert read_labels(write(tmp_path / "l.csv", "id,y\n1.png,1\n"), IDS) == {"y": [1, None, None]}


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
        read_labels(write(tmp_path / "l.csv", text), IDS)


def test_csv_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_bytes(b"file,y\n1.png,\xff\xfe\n")
    for name in ("l.csv", "none.csv", "."):
        with pytest.raises(ValueError, match="can't be read as CSV in UTF-8"):
            read_labels(tmp_path / name, IDS)


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


CELEBA = """202599
5_o_Clock_Shadow Smiling Young
000001.jpg -1  1  1
000002.jpg  1 -1  1
000003.jpg  1  1 -1
"""


def test_celeba_s_list_of_attributes(tmp_path: Path) -> None:
    text = CELEBA.replace("202599", "3")
    ids = ["img_align_celeba/000003.jpg", "img_align_celeba/000001.jpg", "other.jpg"]
    labels = read_labels(write(tmp_path / "list_attr_celeba.txt", text), ids)
    assert labels == {
        "5_o_Clock_Shadow": [1, -1, None],
        "Smiling": [1, 1, None],
        "Young": [-1, 1, None],
    }
    rows = [line.split() for line in text.splitlines()[1:]]
    rows = [["image_id", *rows[0]], rows[1], rows[3]]
    as_csv = "".join(",".join(row) + "\n" for row in rows)
    assert read_labels(write(tmp_path / "list_attr_celeba.csv", as_csv), ids) == labels


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (CELEBA, "has 3 rows, its first line says 202599"),
        ("3\n", "second line must name"),
        ("0\na a\n", "second line must name"),
        ("1\na b\n1.png 1\n", r"row 1 \('1.png'\) has 1 values for 2 columns"),
        ("2\na\n1.png 1\na/1.png 1\n", "twice"),
        ("1\na\n2.png 1\n", "several images"),
        ("1\na\n000001.jpg 1\n", r"none of the images, which look like \['a/1.png'\]"),
    ],
)
def test_bad_lists(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_labels(write(tmp_path / "list.txt", text), IDS)


def column(tmp_path: Path, *cells: str) -> list[object]:
    text = "file,k\n" + "".join(f"{i}.png,{cell}\n" for i, cell in enumerate(cells))
    ids = [f"{i}.png" for i in range(len(cells))]
    return list(read_labels(write(tmp_path / "l.csv", text), ids)["k"])


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["0", "1", "2"], [0, 1, 2]),
        (["01", "02", "10"], [1, 2, 10]),
        (["0.5", "1", "1.50"], [0.5, 1.0, 1.5]),
        (["-1", "+2", "-1"], [-1, 2, -1]),
        ([" 3", "4 ", " 3"], [3, 4, 3]),
        ([" cat", "dog ", ""], ["cat", "dog", None]),
    ],
)
def test_numerals_are_numbers(tmp_path: Path, cells: list[str], values: list[object]) -> None:
    assert list(map(repr, column(tmp_path, *cells))) == list(map(repr, values))


@pytest.mark.parametrize(
    "cells",
    [
        ["1_0", "10", "1_2"],
        ["\uff11", "1", "2"],
        ["infinity", "inf", "1"],
        ["1e999", "2e999", "1"],
        ["nan", "NaN", "1"],
        ["01", "1", "2"],
        ["1.0", "1", "2"],
        ["1.5", "1.50", "2"],
        ["-0", "0", "1"],
        ["-0.0", "0.0", "1"],
        ["+1", "1", "2"],
        ["1e-999", "0.0", "1"],
        ["0.1", "0.10000000000000001", "1"],
        ["0x10", "16", "1"],
    ],
)
def test_different_labels_never_become_one(tmp_path: Path, cells: list[str]) -> None:
    assert column(tmp_path, *cells) == cells


def test_cells_that_differ_in_blanks_alone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'k' has the cells 'cat' and ' cat'.*write them alike"):
        column(tmp_path, "cat", " cat")


def test_blanks_around_header_names_and_values_are_treated_alike(tmp_path: Path) -> None:
    text = "file , k\na/1.png , x\n a/2.png, y \n"
    assert read_labels(write(tmp_path / "l.csv", text), IDS) == {"k": ["x", "y", None]}


@pytest.mark.parametrize("first", ["a/1.png,3", "1.png,3", "2.png,3", "c/9.PNG,3", " a/1.png,3"])
def test_a_file_without_a_header_is_refused(tmp_path: Path, first: str) -> None:
    text = f"{first}\nb/2.png,4\n"
    with pytest.raises(ValueError, match=r"no header.*add a first line.*file,label"):
        read_labels(write(tmp_path / "l.csv", text), IDS)


def test_names_in_another_unicode_form(tmp_path: Path) -> None:
    composed, apart = "caf\u00e9.png", "cafe\u0301.png"
    for ids, written in (([composed], apart), ([apart], composed), ([f"x/{apart}"], composed)):
        file = write(tmp_path / "l.csv", f"file,k\n{written},1\n")
        assert read_labels(file, ids) == {"k": [1]}
        assert parse_dataset_json(json.dumps({"labels": [[written, 1]]}), ids) == {"label": [1]}
    file = write(tmp_path / "l.csv", f"file,k\n{composed},1\n{apart},2\n")
    assert read_labels(file, [composed, apart]) == {"k": [1, 2]}  # exact names come first
    with pytest.raises(ValueError, match="several images"):
        read_labels(
            write(tmp_path / "l.csv", f"file,k\n{composed},1\n"), [f"a/{apart}", f"b/{apart}"]
        )


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", str(2**64)])
def test_dataset_json_numbers_fit_into_64_bits(value: str) -> None:
    with pytest.raises(ValueError, match=r"dataset.json"):
        parse_dataset_json(f'{{"labels": [["a/1.png", {value}]]}}', IDS)
