"""What the API answers and what it takes, as its page describes them."""

import reprlib
from collections.abc import Mapping
from types import UnionType
from typing import Any, Literal

from pydantic import BaseModel, Field

from gdm_repr.boundary.text import printable
from gdm_repr.serve import wire

MULTIPART = "multipart/form-data"


class Refusal(BaseModel):
    """Why a request was not done."""

    detail: str


class ReportsAnswer(BaseModel):
    """Pages of analyses, below /reports/."""

    pages: list[str]


class ModelAnswer(BaseModel):
    """A model that is served."""

    name: str
    fingerprint: str
    shape: list[int]
    latents: list[int]
    bands: list[str]
    order: list[int]
    groups: list[list[int]] = Field(description="Group of each element, (1 or C, d).")
    device: str
    place: str = Field(description="Where it was found; its name, where others can ask.")


class StoreAnswer(BaseModel):
    """A store that is served."""

    name: str
    place: str
    model: str
    images: int
    bands: list[str]
    labels: dict[str, list[str] | None] = Field(description="Values; null where there are many.")
    numbers: list[str] = Field(description="Labels that are numbers.")
    held_out: bool = Field(description="Whether it says which images training held out.")


class ItemAnswer(BaseModel):
    """An image of a store."""

    id: str
    labels: dict[str, Any]
    held_out: bool | None
    image: str | None = Field(None, description="Decoded, as PNG in base64.")


class ItemsAnswer(BaseModel):
    """Some images of a store, and how many there are of the kind."""

    total: int
    items: list[ItemAnswer]


class NeighbourAnswer(ItemAnswer):
    """A near image; two independent ones have the distance sqrt(2)."""

    distance: float


class NearestAnswer(BaseModel):
    """The nearest images in a band, and how many of the store's own have as near a one."""

    band: str
    near_duplicate: bool = Field(description="Whether next to none come as near, by far.")
    closer: float | None = Field(description="Share of the store's images; null where there are 0.")
    of: int
    typical: float | None = Field(description="Median distance of these to their nearest others.")
    neighbours: list[NeighbourAnswer]


class ElementAnswer(BaseModel):
    """What an element does."""

    element: str
    effect: float
    low: float
    high: float
    factors: list[str]


class ElementsAnswer(BaseModel):
    """Elements by effect, and what a random direction does."""

    source: str
    unit: str
    null: float | None
    elements: list[ElementAnswer]


class MovedAnswer(BaseModel):
    """How much another label has to do with a direction."""

    label: str
    value: float = Field(description="Share of the variance along it that the label explains.")
    low: float
    high: float
    expected: float = Field(description="Share of the kind itself that the label explains.")
    n: int


class EstimateAnswer(BaseModel):
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float


class DirectionAnswer(BaseModel):
    """How well a direction tells apart what it was learned from, on images it was not."""

    said: list[str] = Field(description="All of it in sentences, the verdict first.")
    band: str
    positive: str
    negative: str
    n: list[int]
    accuracy: EstimateAnswer = Field(description="Balanced.")
    chance: list[float] = Field(description="Of permuted labels: mean, 95th percentile.")
    better_than_chance: bool
    spread: float = Field(description="Std of images along it, which amounts are in.")
    vector: list[list[float]]
    moves: list[MovedAnswer]


class Answer(BaseModel):
    """By which model an answer was made."""

    model: str
    fingerprint: str


class ErrorsAnswer(BaseModel):
    """RMS errors of each image: of the latents by the solver's steps, and of the round trip."""

    latent_error: list[float]
    latent_error_by_group: list[list[float]]
    round_trip_error: list[float]
    round_trip_error_by_group: list[list[float]]


class LatentsAnswer(Answer):
    """Latents z (B, C, d) in the basis's order."""

    bands: list[str]
    z: list[list[list[float]]]
    errors: ErrorsAnswer | None = None


class StoredAnswer(Answer):
    """Latents z (B, C, d) of a store, and the errors that it has of them."""

    bands: list[str]
    z: list[list[list[float]]]
    errors: dict[str, list[Any]]


class ImagesAnswer(Answer):
    """PNG files in base64."""

    images: list[str]
    bands: list[str] | None = None
    errors: ErrorsAnswer | None = None


class EditAnswer(ImagesAnswer):
    """Results of an edit: of the first image first, each with what was done to it."""

    names: list[str]


def one_line(error: Mapping[str, Any], skip: int = 0) -> str:
    """Say what is wrong with a field: its name, what was given, the rule.

    Args:
        error: one of pydantic's.
        skip: parts of the name that are not the request's own.
    """
    name = ".".join(str(part) for part in error["loc"][skip:])[:200] or "body"
    return printable(f"{name}={reprlib.repr(error.get('input'))}: {error['msg']}")


REFUSALS = {
    400: "The body can't be read.",
    406: "There is no such form of the answer.",
    413: "The body is too large.",
    415: "There is no such form of the body.",
    422: "What is asked can't be done.",
    429: "Too much is asked at once; Retry-After says when to try again.",
    503: "The service is being stopped.",
}


def describe_refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe refusals for the page of the API, all of them by default."""
    return {
        status: {"model": Refusal, "description": REFUSALS[status]}
        for status in statuses or REFUSALS
    }


def describe_answers(
    kind: type[BaseModel] | UnionType, *others: str
) -> dict[int | str, dict[str, Any]]:
    """Describe the answers for the page of the API.

    Args:
        kind: of JSON, one or several.
        others: media types that are offered beside it.
    """
    binary = {other: {"schema": {"type": "string", "format": "binary"}} for other in others}
    return {200: {"model": kind, "content": binary}, **describe_refusals()}


def describe_body(name: Literal["images", "z"]) -> dict[str, Any]:
    """Describe the forms of the body."""
    entry: dict[str, Any] = {"type": "array", "items": {"type": "array"}}
    if name == "images":
        entry = {"anyOf": [{"type": "string", "contentEncoding": "base64"}, entry]}
    values = {"type": "array", "minItems": 1, "items": entry}
    schema = {"type": "object", "required": [name], "properties": {name: values}}
    content: dict[str, Any] = {
        wire.JSON: {"schema": schema},
        wire.NPY: {"schema": {"type": "string", "format": "binary"}},
    }
    if name == "images":
        upload = {"type": "array", "items": {"type": "string", "format": "binary"}}
        content[MULTIPART] = {
            "schema": {"type": "object", "required": [name], "properties": {name: upload}}
        }
        content["image/png"] = {"schema": {"type": "string", "format": "binary"}}
    return {"requestBody": {"required": True, "content": content}}
