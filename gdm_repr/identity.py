"""Which options decide what comes out: each one says so once, beside its type.

An option counts unless it is marked: ``device: Free[Device] = Field("auto")``. Importing this
module does not import torch.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel


class Mark(Enum):
    """Why an option, or an entry of a manifest, does not count, or not always."""

    FREE = auto()  # how and where something is made, or what an earlier command's digest says
    CONTENT = auto()  # known by what is in it: a digest of that counts in its place
    PLAN = auto()  # how the ODE is solved: counts, but where the plan made of it does
    END = auto()  # of training: counts for a model, but one that goes on may go further
    LATER = auto()  # younger than stored digests: counts from where it is not the default


Of = TypeVar("Of")
Free = Annotated[Of, Mark.FREE]
ByContent = Annotated[Of, Mark.CONTENT]
OfPlan = Annotated[Of, Mark.PLAN]
End = Annotated[Of, Mark.END]
Later = Annotated[Of, Mark.LATER]


def marked(model: type[BaseModel], *marks: Mark) -> list[str]:
    """Return the names of the fields that have one of these marks, in their order."""
    fields = model.model_fields.items()
    return [name for name, field in fields if any(mark in field.metadata for mark in marks)]


def counted(model: BaseModel, *others: Mark) -> dict[str, Any]:
    """Return the plain values that count: of fields that are neither free nor of ``others``."""
    return model.model_dump(mode="json", exclude=free(model, *others))


def free(model: BaseModel, *others: Mark) -> set[str]:
    """Return the names of the fields that do not count with these values."""
    kind = type(model)
    default = {name: kind.model_fields[name].default for name in marked(kind, Mark.LATER)}
    plain = {name for name, value in default.items() if getattr(model, name) == value}
    return plain | {*marked(kind, Mark.FREE, *others)}
