"""Laws over every option of every command: numbers are finite and bounded."""

from __future__ import annotations

import importlib
import math
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from gdm_repr.analysis.runner import ANALYSES
from gdm_repr.cli import COMMANDS
from gdm_repr.command import Command
from gdm_repr.models import NETWORKS

for _module in (
    *(r.module for r in COMMANDS.values()),
    *(f"gdm_repr.analysis.{name}" for name in ANALYSES),
):
    importlib.import_module(_module)


def subclasses(cls: type[Any]) -> Iterator[type[Any]]:
    for each in cls.__subclasses__():
        if each.__module__.startswith("gdm_repr."):
            yield each
        yield from subclasses(each)


def inside(annotation: object) -> set[object]:
    """What an annotation is made of: the types in its unions, tuples and annotations."""
    parts = typing.get_args(annotation)
    return set().union({annotation}, *map(inside, parts)) if parts else {annotation}


COMMAND_MODELS = sorted({*subclasses(Command)}, key=lambda each: each.__name__)
NESTED = {
    part
    for model in COMMAND_MODELS
    for field in model.model_fields.values()
    for part in inside(field.annotation)
    if isinstance(part, type) and issubclass(part, BaseModel)
}
NESTED |= {part for model in NESTED for f in model.model_fields.values()
           for part in inside(f.annotation)
           if isinstance(part, type) and issubclass(part, BaseModel)}  # fmt: skip
MODELS = [*COMMAND_MODELS, *sorted({*NESTED, *(row.config for row in NETWORKS.values())}, key=str)]


def refuses(model: type[BaseModel], name: str, value: object) -> bool:
    """Whether a value of one option is refused, alone and as the only one of several."""
    for given in (value, (value,)):
        try:
            model(**{name: given})
        except ValidationError as error:
            if any(each["loc"][:1] == (name,) for each in error.errors()):
                continue
        return False
    return True


def options(kind: type[object]) -> list[Any]:
    return [
        pytest.param(model, name, id=f"{model.__name__}.{name}")
        for model in MODELS
        for name, field in model.model_fields.items()
        if kind in inside(field.annotation)
    ]


def test_all_models_are_there() -> None:
    assert len(COMMAND_MODELS) > 20
    assert {"Preprocess", "ModelConfig", "DDPMppConfig"} <= {each.__name__ for each in MODELS}


@pytest.mark.parametrize(("model", "name"), options(float))
def test_no_number_is_infinite(model: type[BaseModel], name: str) -> None:
    for value in (math.inf, -math.inf, math.nan, "inf", "nan"):
        assert refuses(model, name, value), value


@pytest.mark.parametrize(("model", "name"), options(int))
def test_every_whole_number_has_an_end(model: type[BaseModel], name: str) -> None:
    assert refuses(model, name, 10**30)
    if "seed" not in name:
        assert refuses(model, name, 10**13)


def test_options_of_a_strategy_are_finite_too() -> None:
    from gdm_repr.config import ModelConfig

    for value in (math.inf, math.nan):
        with pytest.raises(ValidationError, match=r"sigma=.*: must be finite"):
            ModelConfig.model_validate({"basis": {"name": "blur", "sigma": value}})
