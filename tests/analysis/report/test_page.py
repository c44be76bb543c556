"""The report: one page that needs nothing else, and files beside it that say the same."""

from __future__ import annotations

import csv
import html.parser
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gdm_repr.analysis.intervals.estimate import Estimate
from gdm_repr.analysis.report.figures import line_with_band, new_figure
from gdm_repr.analysis.report.page import Entry, Picture, Report, Table, write_index, write_report
from gdm_repr.pictures import label_sheet


def some_report(tmp_path: Path, *, title: str = "Band <variance>") -> Report:
    figure = new_figure()
    axes = figure.add_subplot()
    found = [Estimate(1, 0.9, 1), Estimate(0.5, 0.4, 0.6)]
    line_with_band(axes, [0, 1], found, number=0, label="latents")
    sheet = label_sheet([np.zeros((2, 1, 8, 8))], ["row"], ["a", "b"])
    moving = tmp_path / "moving.gif"
    frames = [Image.new("L", (8, 8), level) for level in (0, 255)]
    frames[0].save(moving, save_all=True, append_images=frames[1:])
    return Report(
        title=title,
        question="Which band?",
        answer=["The first & <best>."],
        pictures=[
            Picture("curve", "A curve.", figure),
            Picture("sheet", "A sheet.", sheet),
            Picture("moving", "It moves.", moving),
        ],
        tables=[Table("numbers", "Numbers.", {"m": [1, 2], "value": [0.123456, math.nan]})],
        method={"n": 16, "seeds": [0, 1]},
        controls=["The DCT."],
        limits=["No meaning."],
        metrics=[(0, {"band_variance/0_5": 0.5, "none": math.nan})],
    )


class Reader(html.parser.HTMLParser):
    """Collects text and addresses, and checks that elements nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)
        self.addresses += [value or "" for key, value in attrs if key in {"src", "href"}]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert reader.open == []
    return reader


def test_a_page_holds_everything_and_needs_no_network(tmp_path: Path) -> None:
    report = some_report(tmp_path)
    facts = {"images in the store": 96}
    written = write_report(report, tmp_path / "out", facts=facts, command="x --n 1", made_by="me")
    page = read(written.page)
    text = " ".join(page.text)
    for part in ("Band <variance>", "Which band?", "The first & <best>.", "It moves.", "The DCT."):
        assert part in text
    for part in ("No meaning.", "x --n 1", "0.123", "images in the store", "96"):
        assert part in text
    kinds = [re.match(r"data:image/(\w+);base64,", address) for address in page.addresses]
    assert [kind and kind[1] for kind in kinds] == ["png", "png", "gif"]
    assert "http" not in written.page.read_text(encoding="utf-8").replace("data:image", "")
    assert written.page.stat().st_size < 5e6


def test_files_beside_the_page_say_the_same(tmp_path: Path) -> None:
    out = tmp_path / "out"
    written = write_report(some_report(tmp_path), out, facts={}, command="", made_by="")
    names = {path.name for path in written.pictures}
    assert names == {"curve.png", "curve.svg", "sheet.png", "moving.gif"}
    with (out / "tables" / "numbers.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["m", "value"], ["1", "0.123456"], ["2", "nan"]]
    numbers = json.loads(written.numbers.read_text(encoding="utf-8"))
    assert numbers["tables"]["numbers"] == {"m": [1, 2], "value": [0.123456, None]}
    assert numbers["metrics"] == [{"step": 0, "values": {"band_variance/0_5": 0.5, "none": None}}]


def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    report = some_report(tmp_path)
    for folder in ("a", "b"):
        write_report(report, tmp_path / folder, facts={}, command="", made_by="")
    for path in (tmp_path / "a").rglob("*.*"):
        other = tmp_path / "b" / path.relative_to(tmp_path / "a")
        assert path.read_bytes() == other.read_bytes(), path.name


def test_a_large_picture_is_put_on_the_page_smaller(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-1, 1, (4, 3, 512, 512))
    sheet = label_sheet([noise], ["row"], ["a", "b", "c", "d"])
    report = Report("T", "Q?", ["A."], [Picture("large", "Noise.", sheet)])
    written = write_report(report, tmp_path, facts={}, command="", made_by="")
    assert written.pictures[0].stat().st_size > 2e6
    assert written.page.stat().st_size < 1.5e6
    assert read(written.page).addresses[0].startswith("data:image/webp")


def test_the_index_leads_to_the_reports(tmp_path: Path) -> None:
    report = some_report(tmp_path)
    written = write_report(report, tmp_path / "one", facts={}, command="", made_by="")
    entries = [Entry(report, "one/report.html", written.pictures[0])]
    index = write_index(entries, tmp_path, command="again", made_by="me")
    page = read(index)
    links = [address for address in page.addresses if not address.startswith("data:")]
    assert all((tmp_path / link).is_file() for link in links)
    assert "The first & <best>." in " ".join(page.text)


def test_tables_of_rows() -> None:
    table = Table.of_rows("t", "T.", [{"a": 1, "b": 2}, {"b": 4, "a": 3}])
    assert table.columns == {"a": [1, 3], "b": [2, 4]}
    with pytest.raises(KeyError):
        Table.of_rows("t", "T.", [{"a": 1}, {"b": 2}])
