"""Numbers in text: digits as a reader knows them, and nothing else, in every option."""

from __future__ import annotations

import inspect
import typing
from importlib import import_module

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from gdm_repr.boundary import numerals
from gdm_repr.command import Command, build
from gdm_repr.data.sources.scenes import open_scenes
from gdm_repr.edit.options import SetConfig
from gdm_repr.edit.source import find_items
from gdm_repr.grouping import build_grouping
from gdm_repr.masks import band_mask, element_mask

LOOSE = ["1_0", "\uff11", "\u0661", " 1", "1 ", "1\n", "infinity", "inf", "nan", "1e999", "0x1", ""]
MODULES = [
    "config",
    "edit.options",
    "analysis.options",
    "analysis.study.choices",
    "analysis.compare.options",
]


@given(st.text(max_size=8) | st.from_regex("[+-]?[0-9_.eE\uff11]{1,6}", fullmatch=True))
def test_a_numeral_is_what_python_reads_too(text: str) -> None:
    value = numerals.real(text)
    if value is not None:
        assert text.isascii() and value == float(text) and np.isfinite(value)
    number = numerals.whole(text)
    assert number is None or (number == int(text) == numerals.real(text))
    assert numerals.place(text) in (None, number)


@given(st.integers(-(10**17), 10**17), st.floats(allow_nan=False, allow_infinity=False))
def test_what_python_writes_is_a_numeral(number: int, value: float) -> None:
    assert numerals.whole(str(number)) == number
    assert numerals.real(repr(value)) == value


@pytest.mark.parametrize("text", [text for text in LOOSE if text])
def test_loose_texts_are_no_numbers(text: str) -> None:
    assert numerals.whole(text) is numerals.real(text) is numerals.place(text) is None


def _commands() -> list[type[Command]]:
    found = {}
    for module in MODULES:
        for name, each in vars(import_module(f"gdm_repr.{module}")).items():
            if inspect.isclass(each) and issubclass(each, Command):
                found[name] = each
    return list(found.values())


def _numbers(model: type[BaseModel]) -> list[str]:
    """Return the fields of a model that may hold a number."""
    kinds = {}
    for name, field in model.model_fields.items():
        todo, seen = [field.annotation], set()
        while todo:
            each = todo.pop()
            seen.add(each)
            todo += [kind for kind in typing.get_args(each) if isinstance(kind, type) or kind]
        kinds[name] = seen
    return [name for name, seen in kinds.items() if seen & {int, float}]


@pytest.mark.parametrize("options", _commands())
def test_every_option_that_is_a_number_takes_numerals_alone(options: type[Command]) -> None:
    numbers = _numbers(options)
    assert numbers or options.__name__ in ("Command", "AgainConfig", "CompareConfig")
    needed = {name: "1" for name, each in options.model_fields.items() if each.is_required()}
    for name in numbers:
        for text in ("1_0", " 3", "\uff11\uff12", "1e999", "infinity"):
            with pytest.raises(ValueError, match=rf"^{name}\b"):
                build(options, {**needed, name: text})


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_options_are_finite(value: float) -> None:
    values = {"elements": ["0"], "out": "x", "tolerance": value}
    with pytest.raises(ValueError, match=r"tolerance=(inf|nan)"):
        build(SetConfig, values)


@pytest.mark.parametrize("text", [*LOOSE, "1,1_0", "0:1:1_0", "0:1:\uff12", "0:inf:3", "0:1:99999"])
def test_values_of_an_edit(text: str) -> None:
    with pytest.raises(ValueError, match="values"):
        build(SetConfig, {"elements": ["0"], "out": "x", "values": text})


def test_values_of_an_edit_as_they_are_meant() -> None:
    made = build(SetConfig, {"elements": ["0"], "out": "x", "values": "-1:1:3"})
    assert made.values == (-1.0, 0.0, 1.0)
    assert build(SetConfig, {"elements": "0", "out": "x", "values": "-.5,2e0"}).values == (-0.5, 2)


@pytest.mark.parametrize("text", ["\uff11", "1_0", " 1", "+1", "-1", "9" * 5000])
def test_places_in_text(text: str) -> None:
    grouping = build_grouping("bands", (1, 4, 4), cuts=[2, 5])
    for call in (
        lambda: find_items([text], ["a", "b", "c"]),
        lambda: band_mask(text, grouping, 1),
        lambda: band_mask(f"0-{text}", grouping, 1),
        lambda: element_mask(text, 1, 16),
        lambda: element_mask(f"0:{text}", 3, 16),
        lambda: open_scenes(f"0-{text}"),
        lambda: open_scenes(f"0-9/seed={text}"),
    ):
        with pytest.raises(ValueError, match=r"such item|unknown|range|number"):
            call()
