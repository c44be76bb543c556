"""What scores say of where a factor is: by their intervals, their nulls, and all probes."""

from __future__ import annotations

import pytest

from gdm_repr.analysis.factor_map.cells import (
    Cell,
    ColumnSet,
    code_columns,
    column_sets,
    counterparts,
    states,
)
from gdm_repr.analysis.factor_map.figures import map_figure
from gdm_repr.analysis.factor_map.report import sentences, tables
from gdm_repr.analysis.factor_map.scores import ProbeScore
from gdm_repr.analysis.factors.labels import read_factor

BANDS = column_sets({"0_1": (0, 2), "2_5": (2, 6)}, [3])


def score(value: float, spread: float = 0.01, null: float = 0.0) -> ProbeScore:
    return ProbeScore(value, (null,) * 9, (value - spread, value + spread) * 20, 100, False)


def cell(
    columns: ColumnSet, value: ProbeScore, *, source: str = "latents", probe: str = "linear"
) -> Cell:
    return Cell("pose", probe, source, columns, value)


def test_columns_as_long_as_a_code() -> None:
    assert [c.name for c in BANDS] == ["0_1", "2_5", "first_3", "all"]
    assert BANDS[2].columns == (0, 1, 2)
    assert BANDS[0].label == "[0, 1]"
    known = column_sets({"0_1": (0, 2), "2_5": (2, 6)}, [2, 6, 99, 3, 3])
    assert [c.name for c in known] == [c.name for c in BANDS]  # bands have two and six themselves


@pytest.mark.parametrize(
    ("given", "state"),
    [
        ([score(0.5)], "in"),
        ([score(0.0), score(0.5)], "in"),  # what one probe finds is there
        ([score(0.0), score(0.02, null=0.05)], "not"),
        ([score(0.05)], "hardly"),
        ([score(0.1, 0.05)], "unclear"),
        ([score(0.0, 0.2)], "unclear"),  # too few images to say that it is not there
        ([score(0.5, null=0.6)], "unclear"),
    ],
)
def test_where_a_factor_is(given: list[ProbeScore], state: str) -> None:
    cells = [cell(BANDS[0], each, probe=str(i)) for i, each in enumerate(given)]
    assert states(cells, "latents") == {("pose", "[0, 1]"): state}


def cells() -> list[Cell]:
    values = dict(zip((c.name for c in BANDS), (0.5, 0.0, 0.7, 0.9), strict=True))
    own = [cell(c, score(values[c.name])) for c in BANDS]
    raw = [cell(c, score(0.5)) for c in BANDS]
    raw = [Cell(c.factor, c.probe, "raw coefficients", c.columns, c.score) for c in raw]
    codes = [
        cell(code_columns(length)[0], score(0.8), source=name)
        for name, length in (("vae", 3), ("long", 50))
    ]
    return [*own, *raw, *codes]


def test_codes_are_compared_at_their_length() -> None:
    pairs = {
        source: [own.columns.name for own, _ in counterparts(cells(), source)]
        for source in ("raw coefficients", "vae", "long")
    }
    assert pairs == {
        "raw coefficients": ["0_1", "2_5", "first_3", "all"],
        "vae": ["first_3"],
        "long": ["all"],
    }


def test_sentences_say_where_a_factor_is_and_is_not() -> None:
    factor = read_factor("pose", [i / 7 for i in range(100)])
    said = sentences(cells(), {}, [factor], ["linear"])
    assert said[:2] == ["Factors in [0, 1]: pose.", "Factors in [2, 5]: none. Not in it: pose."]
    assert said[3] == "Raw coefficients have, and latents do not: pose in [2, 5]."
    text = " ".join(said)
    assert "more than raw coefficients in 2 of 4 cells. Most: pose in all, by 0.40" in text
    assert "vae in 0 of 1 cells. They tell less in 1." in text
    assert "long in 1 of 1 cells." in text
    assert "A code of 3 numbers stands beside our first 3." in text
    assert "A code of 50 numbers stands beside our first 6." in text
    made = {table.name: table.columns for table in tables(cells(), [factor], {})}
    assert made["factor_map"]["code length"][-2:] == [3, 50]
    places = zip(made["states"]["source"], made["states"]["columns"], strict=True)
    assert ("vae", "all") in set(places)


def test_the_map_has_a_panel_a_source_and_one_for_codes() -> None:
    figure = map_figure(cells())
    panels = [axes for axes in figure.axes if axes.get_visible() and axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in panels] == [
        "latents", "raw coefficients", "codes"
    ]  # fmt: skip
    texts = [[text.get_text() for text in axes.texts] for axes in panels]
    assert texts == [
        [".50", "0", ".70", ".90"], [".50", ".50▲", ".50▼", ".50▼"], [".80▲", ".80▼"]
    ]  # fmt: skip
    limits = {(axes.get_xlim(), axes.images[0].get_clim()) for axes in panels}
    assert limits == {((-0.5, 3.5), (0, 1))}  # cells of one size, colours of one scale
    assert panels[2].get_xticklabels()[0].get_text() == "vae\n3"


def test_columns_that_were_left_out_are_counted_and_none_is_called_all() -> None:
    sets = column_sets({"0_1": (0, 2), "2_5": (2, 6)}, [3], {"0_1": 0, "2_5": 2_500})
    by_name = {c.name: c for c in sets}
    assert [*by_name] == ["0_1", "2_5", "first_3", "6_of_2506_columns"]
    assert by_name["6_of_2506_columns"].label == "6 of 2,506 columns"
    assert [c.count for c in sets] == [
        "2 columns", "4 of 2,504 columns", "3 columns", "6 of 2,506 columns"
    ]  # fmt: skip
    own = [cell(c, score(0.5 if c.name == "0_1" else 0.0)) for c in sets]
    codes = [cell(code_columns(n)[0], score(0.8), source=f"vae{n}") for n in (3, 50)]
    pairs = [counterparts([*own, *codes], f"vae{n}")[0][0].columns.name for n in (3, 50)]
    assert pairs == ["first_3", "6_of_2506_columns"]
    factor = read_factor("pose", [i / 7 for i in range(100)])
    said = sentences(own, {}, [factor], ["linear"])
    assert said[1] == "Factors in [2, 5] (4 of 2,504 columns looked at): none. Not in it: pose."
    made = {table.name: table.columns for table in tables(own, [factor], {})}
    assert "all" not in made["states"]["columns"]
    assert made["states"]["of"] == [2, 2504, 3, 2506]
    alone = column_sets({"0_5": (0, 6)}, (), {"0_5": 10})
    said = sentences([cell(c, score(0.5)) for c in alone], {}, [factor], ["linear"])
    assert said[0] == "Factors in 6 of 16 columns: pose."
