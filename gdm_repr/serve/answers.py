"""What the API answers and what it takes, as its page describes them."""

from typing import Any, Literal

from pydantic import BaseModel

from gdm_repr.serve import wire

MULTIPART = "multipart/form-data"


class Refusal(BaseModel):
    """Why a request was not done."""

    detail: str


class ModelAnswer(BaseModel):
    """A model that is served."""

    name: str
    fingerprint: str
    shape: list[int]
    latents: list[int]
    bands: list[str]
    order: list[int]
    device: str


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


class ImagesAnswer(Answer):
    """PNG files in base64."""

    images: list[str]
    bands: list[str] | None = None
    errors: ErrorsAnswer | None = None


class EditAnswer(ImagesAnswer):
    """Results of an edit: of the first image first, each with what was done to it."""

    names: list[str]


def describe_answers(kind: type[BaseModel], *others: str) -> dict[int | str, dict[str, Any]]:
    """Describe the answers for the page of the API."""
    binary = {other: {"schema": {"type": "string", "format": "binary"}} for other in others}
    refusals = {
        400: "The body can't be read.",
        406: "There is no such form of the answer.",
        413: "The body is too large.",
        415: "There is no such form of the body.",
        422: "What is asked can't be done.",
        429: "Too much is asked at once; Retry-After says when to try again.",
        503: "The service is being stopped.",
    }
    return {
        200: {"model": kind, "content": binary},
        **{status: {"model": Refusal, "description": why} for status, why in refusals.items()},
    }


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
