"""One page for each analysis: question, answer, pictures, tables, how it was measured.

A page is one HTML file with everything inline, which needs no network. Beside it lie
the figures (PNG and SVG), the tables (CSV) and all numbers (JSON).
"""

from __future__ import annotations

import base64
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdm_repr.analysis.intervals.estimate import number
from gdm_repr.analysis.journal import JOURNAL
from gdm_repr.boundary.names import file_name
from gdm_repr.boundary.text import printable, write_csv
from gdm_repr.files import user_path, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

    from gdm_repr.pictures import Animation, LabelledSheet

PAGE, NUMBERS, FIGURES, TABLES = "report.html", "result.json", "figures", "tables"
ARRAYS = ("blocks", "encoded_noise")  # folders of arrays that analyses keep for later
DPI = 160
INLINE_BYTES = 600_000  # a larger picture is put on the page smaller, or with loss
INLINE_PIXELS = 1600  # its width then
WEBP_PIXELS = 16383  # a side's most
OPEN_ROWS = 16  # a longer table is folded
MOST_ROWS = 1000  # of a table on the page; its file has all
SVG_SALT = "gdm-repr"  # names inside an SVG then depend on its content alone


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture of a report.

    Attributes:
        name: file name without ending.
        caption: what is seen, with n and what the intervals are.
        figure: a figure, a labelled sheet, an animation, or a picture's path.
    """

    name: str
    caption: str
    figure: Figure | LabelledSheet | Animation | Path


@dataclass(frozen=True)
class Table:
    """A table of a report.

    Attributes:
        name: file name without ending.
        caption: what the columns are.
        columns: values by heading, all of one length; NaN and None are shown as a dash.
    """

    name: str
    caption: str
    columns: Mapping[str, Sequence[object]]

    @classmethod
    def of_rows(cls, name: str, caption: str, rows: Sequence[Mapping[str, object]]) -> Table:
        """Make a table of rows that have the same keys, at least one of them."""
        return cls(name, caption, {key: [row[key] for row in rows] for key in rows[0]})


@dataclass(frozen=True)
class Report:
    """What an analysis found.

    Attributes:
        title: of the page.
        question: that it answers.
        answer: sentences with numbers, intervals and the control beside.
        pictures: the first one also stands on the index page.
        tables: the numbers behind them.
        method: how it was measured: n, seeds, settings.
        controls: what the numbers are compared with.
        limits: what the numbers do not say.
        metrics: (step, values by key) for tracking.
    """

    title: str
    question: str
    answer: Sequence[str]
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    method: Mapping[str, object] = field(default_factory=dict)
    controls: Sequence[str] = ()
    limits: Sequence[str] = ()
    metrics: Sequence[tuple[int, Mapping[str, float]]] = ()


@dataclass(frozen=True)
class Written:
    """Files of a report: the page, and the pictures and tables beside it."""

    page: Path
    pictures: tuple[Path, ...]
    numbers: Path


def write_report(
    report: Report, out: Path, *, facts: Mapping[str, object], command: str, made_by: str
) -> Written:
    """Write a report's page and the files beside it.

    Args:
        report: what to write.
        out: folder, made if need be.
        facts: of the model and the data, for "How it was measured".
        command: by which it is made again.
        made_by: versions and commit.
    """
    out = user_path(out)
    figures, tables, earlier = out / FIGURES, out / TABLES, _own_files(out)
    for folder in (figures, tables):
        folder.mkdir(parents=True, exist_ok=True)
    shown, paths, saved = [], [], []
    for picture in report.pictures:
        files = _save(picture, figures)
        paths += files
        saved.append([path.name for path in files])
        shown.append(_shown(picture.name, picture.caption, files[0]))
    for table in report.tables:
        write_csv(tables / f"{file_name(table.name)}.csv", table.columns)
    page, numbers = out / PAGE, out / NUMBERS
    text = _template("report.html").render(
        report=report,
        pictures=shown,
        tables=[_rows(table) for table in report.tables],
        method={**report.method, **facts},
        command=command,
        made_by=made_by,
    )
    write_text(page, text, sync=False)
    plain = _plain(report, facts, command)
    plain["pictures"] = [
        {"name": picture.name, "caption": picture.caption, "files": files}
        for picture, files in zip(report.pictures, saved, strict=True)
    ]
    # Last: a report with its numbers is a whole one.
    write_text(numbers, json.dumps(plain, indent=2, ensure_ascii=False) + "\n")
    for path in earlier - _own_files(out):
        path.unlink(missing_ok=True)
    return Written(page, tuple(paths), numbers)


def is_written(out: Path) -> bool:
    """Say whether a folder holds a whole report."""
    return (out / NUMBERS).is_file() and (out / PAGE).is_file()


def remove_report(out: Path) -> None:
    """Remove a report, what it was measured from, and nothing else."""
    kept = [path for name in ARRAYS for path in (out / name).glob("*.npy")]
    for path in (out / NUMBERS, out / PAGE, out / JOURNAL, *_own_files(out), *kept):
        path.unlink(missing_ok=True)


def _own_files(out: Path) -> set[Path]:
    """Return the pictures and tables that a folder's report tells of."""
    facts = _read_numbers(out)
    pictures = [name for picture in facts.get("pictures", ()) for name in picture["files"]]
    names = [(FIGURES, name) for name in pictures]
    names += [(TABLES, f"{name}.csv") for name in facts.get("tables", ())]
    # A name with a folder in it is none of ours.
    return {out / folder / name for folder, name in names if Path(name).name == name}


def _read_numbers(out: Path) -> dict[str, Any]:
    """Return a report's numbers; none where there is no whole report."""
    if not is_written(out):
        return {}
    try:
        facts = json.loads((out / NUMBERS).read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


@dataclass(frozen=True)
class Entry:
    """One analysis on the index page: its report, and its page's path relative to the index."""

    report: Report
    page: str
    picture: Path | None


def read_entry(folder: Path, index: Path) -> Entry | None:
    """Return what an index page tells of a report, from the files of it; None if it isn't whole.

    Args:
        folder: of the report.
        index: folder of the index page.
    """
    facts = _read_numbers(folder)
    if not {"title", "question", "answer"} <= facts.keys():
        return None
    pictures = [
        Picture(each["name"], each["caption"], folder / FIGURES / each["files"][0])
        for each in facts.get("pictures", ())[:1]
    ]
    report = Report(facts["title"], facts["question"], facts["answer"], pictures)
    first = pictures[0].figure if pictures else None
    shown = first if isinstance(first, Path) and first.is_file() else None
    page = Path(os.path.relpath(folder / PAGE, index)).as_posix()
    return Entry(report, page, shown)


def write_index(entries: Sequence[Entry], out: Path, *, command: str, made_by: str) -> Path:
    """Write the page that holds the answers of several analyses and leads to their reports."""
    shown = []
    for entry in entries:
        picture = None
        if entry.picture is not None:
            picture = _shown(entry.picture.stem, entry.report.title, entry.picture)
        shown.append({"report": entry.report, "page": entry.page, "picture": picture})
    page = user_path(out) / "index.html"
    write_text(
        page,
        _template("index.html").render(entries=shown, command=command, made_by=made_by),
        sync=False,
    )
    return page


def _save(picture: Picture, folder: Path) -> list[Path]:
    """Save a picture; the first path is the one for the page."""
    from matplotlib import rc_context

    from gdm_repr.analysis.report.figures import make_printable
    from gdm_repr.pictures import Animation, LabelledSheet

    path = folder / f"{file_name(picture.name)}.png"
    if isinstance(picture.figure, Path):
        return [picture.figure]
    if isinstance(picture.figure, Animation):
        path = path.with_suffix(".gif")
        picture.figure.save(path)
        return [path]
    if isinstance(picture.figure, LabelledSheet):
        picture.figure.save(path)
        return [path]
    vector = path.with_suffix(".svg")
    make_printable(picture.figure)
    # Without date, and with names by content: the same numbers give the same bytes.
    with rc_context({"svg.hashsalt": SVG_SALT}):
        picture.figure.savefig(path, dpi=DPI, metadata={"Software": None})
        picture.figure.savefig(vector, metadata={"Date": None})
    return [path, vector]


def _shown(name: str, caption: str, path: Path) -> dict[str, object]:
    """Return a picture for a page, as a data address."""
    from PIL import Image

    data, kind = path.read_bytes(), path.suffix[1:]
    with Image.open(path) as image:
        width, height = image.size
        moving = getattr(image, "is_animated", False)
        if len(data) > INLINE_BYTES and not moving:
            data, kind = _smaller(image), "webp"
    address = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return {"name": name, "caption": caption, "src": address, "width": width, "height": height}


def _smaller(image: Image) -> bytes:
    small = image.convert("RGB")
    small.thumbnail((INLINE_PIXELS, WEBP_PIXELS))
    buffer = io.BytesIO()
    small.save(buffer, "webp", quality=85)
    return buffer.getvalue()


def _rows(table: Table) -> dict[str, object]:
    """Return a table for the page: cells as text, and which columns hold numbers."""
    total = len(next(iter(table.columns.values()), ()))
    shown = [values[:MOST_ROWS] for values in table.columns.values()]
    rows = [[number(v) for v in row] for row in zip(*shown, strict=True)]
    cut = f" The first {MOST_ROWS:,} of {total:,} rows: tables/{file_name(table.name)}.csv has all."
    numeric = [any(isinstance(v, int | float) for v in values) for values in table.columns.values()]
    return {
        "caption": table.caption + (cut if total > MOST_ROWS else ""),
        "head": list(zip(table.columns, numeric, strict=True)),
        "rows": [list(zip(row, numeric, strict=True)) for row in rows],
        "folded": len(rows) > OPEN_ROWS,
    }


def _plain(report: Report, facts: Mapping[str, object], command: str) -> dict[str, Any]:
    """Return everything but the pictures as JSON holds it; NaN becomes null."""

    def plain(value: object) -> object:
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if isinstance(value, Mapping):
            return {str(key): plain(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [plain(each) for each in value]
        return value if isinstance(value, str | int | float | bool | None) else str(value)

    return {
        "title": report.title,
        "question": report.question,
        "answer": list(report.answer),
        "tables": {table.name: plain(table.columns) for table in report.tables},
        "method": plain({**report.method, **facts}),
        "controls": list(report.controls),
        "limits": list(report.limits),
        "metrics": [{"step": step, "values": plain(values)} for step, values in report.metrics],
        "command": command,
    }


def _template(name: str) -> Any:  # noqa: ANN401
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("gdm_repr.analysis.report", "pages"),
        autoescape=True,
        trim_blocks=True,
        finalize=_shown_text,
    )
    environment.filters["number"] = _fact
    return environment.get_template(name)


def _shown_text(value: object) -> object:
    """Make a text that a page shows printable, but for what is HTML already."""
    return printable(value, lines=True) if type(value) is str else value


def _fact(value: object) -> str:
    """Write a fact of the method: lists joined, mappings as ``key value`` of what there is."""
    if isinstance(value, Mapping):
        told = {key: each for key, each in value.items() if each is not None and each != []}
        return "; ".join(f"{key} {_fact(each)}" for key, each in told.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_fact, value))
    return number(value)
