"""Labels of others in figures, pages and tables."""

import csv
import json
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from gdm_repr.analysis.report.figures import new_figure
from gdm_repr.analysis.report.page import Picture, Report, Table, write_report

BAD = ["a\x1b[31mb", "\x00", "$\\frac{", "$x$", "<b>&\u202e", "caf\udce9", "=1+1"]


def test_any_label_gives_xml_json_and_a_page(tmp_path: Path) -> None:
    figure = new_figure()
    axes = figure.subplots()
    axes.plot(range(len(BAD)), range(len(BAD)), label=BAD[0])
    axes.set_title("\n".join(BAD))
    axes.set_xlabel(BAD[2])
    axes.set_xticks(range(len(BAD)), BAD)
    axes.barh(BAD, range(len(BAD)))
    axes.legend(title=BAD[5])
    axes.annotate(BAD[1], (0, 0))
    columns: dict[str, Sequence[object]] = {BAD[6]: BAD, "n": [-1.0, 2, None, 1, 1, 1, 1]}
    report = Report(
        BAD[0], BAD[2], BAD, [Picture("p", BAD[5], figure)], [Table("t", BAD[0], columns)],
        method={"labels": BAD},
    )  # fmt: skip
    written = write_report(report, tmp_path, facts={}, command=BAD[5], made_by="m")
    svg = ET.parse(tmp_path / "figures" / "p.svg")
    assert svg.getroot().tag.endswith("svg")
    text = (tmp_path / "figures" / "p.svg").read_text("utf-8")
    assert "\x1b" not in text and "\u202e" not in text
    page = written.page.read_text("utf-8")
    assert not any(character in page for character in "\x00\x1b\u202e") and "a\\x1b[31mb" in page
    assert json.loads(written.numbers.read_text("utf-8"))["answer"] == BAD
    rows = list(csv.reader((tmp_path / "tables" / "t.csv").read_text("utf-8").splitlines()))
    assert rows[0] == ["'=1+1", "n"] and rows[-1][0] == "'=1+1" and rows[1][1] == "-1.0"
