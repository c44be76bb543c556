"""Columns of latents: bands are told apart, low ones come first, and elements are found again."""

from __future__ import annotations

import numpy as np
import pytest

from gdm_repr.analysis.columns.layout import layout
from gdm_repr.analysis.total_correlation.questions import ALL, BETWEEN, CHOSEN, questions
from gdm_repr.grouping import Grouping, build_grouping

SHAPE = (3, 2, 4)
BANDS = build_grouping("bands", SHAPE, cuts=[2, 5])
REORDERED = BANDS.with_order([1, 2, 0])
SEPARATE = build_grouping("bands", SHAPE, cuts=[2, 5], per_channel=True)
EVERY = pytest.mark.parametrize("grouping", [BANDS, REORDERED, SEPARATE], ids=str)


def addresses(channels: int, d: int) -> np.ndarray:
    """Latents (1, C, d) whose value says where they stand: 100 c + n."""
    return (100 * np.arange(channels)[:, None] + np.arange(d))[None]


@EVERY
def test_every_number_is_one_column_of_its_band(grouping: Grouping) -> None:
    columns = layout(grouping, 3, most=99)
    (table,) = columns.take(addresses(3, 8))
    assert sorted(table) == sorted(addresses(3, 8).ravel())
    group = np.broadcast_to(grouping.index, (3, 8))
    for (name, (start, stop)), expected in zip(columns.bands.items(), grouping.order, strict=True):
        assert name == grouping.names[expected]
        assert {int(group[a // 100, a % 100]) for a in table[start:stop]} == {expected}
        elements = [a % 100 for a in table[start:stop]]
        assert elements == sorted(elements)  # low ones first, channels together
    assert not any(columns.left_out.values())


@EVERY
def test_a_limit_keeps_the_lowest_and_the_chosen(grouping: Grouping) -> None:
    full, few = layout(grouping, 3, most=99), layout(grouping, 3, most=2, elements=["7:1", "0"])
    for name, (start, stop) in full.bands.items():
        kept = few.columns[slice(*few.bands[name])]
        own = full.columns[start:stop]
        assert set(own[:2]) <= set(kept) <= set(own)
        assert few.left_out[name] == len(own) - len(kept)
    (table,) = few.take(addresses(3, 8))
    assert [int(table[place]) for place in few.chosen] == [107, 0, 100, 200]


def test_questions_cover_the_bands() -> None:
    columns = layout(BANDS, 1, most=99, elements=["0", "6"])
    by_name = {question.name: question for question in questions(columns, first=4)}
    assert list(by_name) == [*BANDS.names, BETWEEN, ALL, "first_4", CHOSEN]
    assert [len(block) for block in by_name[BETWEEN].blocks] == [2, 3, 3]
    assert by_name[ALL].d == by_name[BETWEEN].d == 8
    assert by_name[CHOSEN].blocks == ((0,), (6,))
    assert by_name["first_4"].blocks == ((0,), (1,), (2,), (3,))


def test_nothing_is_asked_twice() -> None:
    names = [q.name for q in questions(layout(BANDS, 1, most=99), first=2)]
    assert names == [*BANDS.names, BETWEEN, ALL]  # the first two are the first band
    single = layout(build_grouping("single", SHAPE), 1, most=99)
    assert [q.d for q in questions(single, first=0)] == [8]
    alone = Grouping(np.arange(8)[None], tuple(range(8)), tuple(f"n{i}" for i in range(8)))
    assert [q.name for q in questions(layout(alone, 1, most=99), first=0)] == [BETWEEN]


def test_wrong_elements_are_refused() -> None:
    with pytest.raises(ValueError, match="element '9': unknown; give an index below 8"):
        layout(BANDS, 3, 99, ["9"])
    with pytest.raises(ValueError, match="--elements 1,1:2: element 1 is named twice"):
        layout(BANDS, 3, 99, ["1", "1:2"])
    with pytest.raises(ValueError, match="--elements: names one column only"):
        questions(layout(BANDS, 3, 99, ["1:0"]), 0)


def test_what_is_called_all_is_all_and_what_is_not_counts() -> None:
    whole = questions(layout(BANDS, 1, most=99), first=0)
    assert [q.label for q in whole if q.name == ALL] == ["all elements"]
    assert not any(" of " in q.label for q in whole)
    columns = layout(BANDS, 3, most=4)
    taken, there = len(columns.columns), BANDS.d * 3
    assert columns.whole() == there
    part = {q.name: q.label for q in questions(columns, first=0)}
    assert ALL not in part
    assert part[f"{taken}_of_{there}_columns"] == f"{taken} of {there} columns"
    assert part[BETWEEN] == f"between bands ({taken} of {there} columns)"
    for name, (start, stop) in columns.bands.items():
        n, of = stop - start, columns.whole(name)
        assert part[name] == f"within {name}" + (f" ({n} of {of} columns)" if n < of else "")
