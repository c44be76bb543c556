"""Requests and answers of the Open Inference Protocol: tensors as JSON, or as bytes behind it.

Sources: the protocol's inference_rest.md, and extension_binary_data.md of the Triton server.
"""

import math
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from gdm_repr.config import DEFAULT_SOLVER, DEFAULT_STEPS
from gdm_repr.serve import wire
from gdm_repr.serve.service import Served

HEADER = "Inference-Header-Content-Length"
BINARY = "application/octet-stream"
OPERATIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "encode": ("images", ("z",)),
    "decode": ("z", ("images",)),
    "reconstruct": ("images", ("images", "z")),
}
"""What each takes and gives; the first that takes a tensor is what is done with it unasked."""

TensorName = Literal["images", "z"]


class Parameters(BaseModel):
    """What to do, and how to solve."""

    model_config = ConfigDict(extra="forbid")

    operation: Literal["encode", "decode", "reconstruct"] | None = None
    steps: int = Field(default=DEFAULT_STEPS, ge=1)
    solver: str = DEFAULT_SOLVER
    coordinate: str = "whitened"
    order: str | None = Field(default=None, pattern=r"^\d{1,4}(,\d{1,4}){0,255}$")
    binary_data_output: bool = False


class InputParameters(BaseModel):
    """How an input comes."""

    binary_data_size: int | None = Field(default=None, ge=0)


class OutputParameters(BaseModel):
    """How an output is wanted."""

    binary_data: bool | None = None


class Input(BaseModel):
    """A tensor of a request."""

    name: TensorName
    datatype: Literal["FP32"]
    shape: list[Annotated[int, Field(ge=1, le=2**40)]] = Field(min_length=1, max_length=8)
    parameters: InputParameters = InputParameters()
    data: list[Any] | None = None

    def tensor(self, rest: bytes, served: Served) -> Tensor:
        """Return the tensor, whose bytes are the rest of the body if it comes as bytes.

        Raises:
            ValueError: if it is not what its fields say, or not what the model takes.
        """
        size, n = self.parameters.binary_data_size, math.prod(self.shape)
        if (size is None) == (self.data is None):
            raise ValueError(f"{self.name}: give data, or binary_data_size and bytes; one of them")
        if (size or 0) != len(rest):
            raise ValueError(
                f"{self.name}: binary_data_size={size or 0}, but {len(rest)} bytes follow the JSON "
                "object"
            )
        if size is not None and size != 4 * n:
            raise ValueError(
                f"{self.name}: binary_data_size={size}, but shape={self.shape} of FP32 takes "
                f"{4 * n} bytes"
            )
        values = (
            wire.floats(self.data, self.name).ravel()
            if size is None
            else np.frombuffer(rest, "<f4")
        )
        if values.size != n:
            raise ValueError(f"{self.name}: {values.size} values, but shape={self.shape} takes {n}")
        array, model = values.reshape(self.shape), served.model
        if self.name == "images":
            return wire.images_of_array(array, model.shape)
        return wire.latents_of_array(array, (model.shape[0], model.grouping.d))


class WantedOutput(BaseModel):
    """A tensor that an answer shall have."""

    name: TensorName
    parameters: OutputParameters = OutputParameters()


class InferRequest(BaseModel):
    """A request's JSON object."""

    id: str | None = None
    parameters: Parameters = Parameters()
    inputs: list[Input] = Field(min_length=1, max_length=1)
    outputs: list[WantedOutput] = Field([], max_length=2)

    @property
    def operation(self) -> str:
        """What to do.

        Raises:
            ValueError: if it takes another input than is given.
        """
        given = self.inputs[0].name
        found: str | None = self.parameters.operation
        if found is None:
            found = next(name for name, (takes, _) in OPERATIONS.items() if takes == given)
        if (takes := OPERATIONS[found][0]) != given:
            raise ValueError(f"operation={found!r}: takes {takes!r} as input, not {given!r}")
        return found

    def wanted(self) -> list[tuple[str, bool]]:
        """Return the names of outputs, and whether each is wanted as bytes.

        Raises:
            ValueError: if the operation does not give one.
        """
        gives, unasked = OPERATIONS[self.operation][1], self.parameters.binary_data_output
        if not self.outputs:
            return [(name, unasked) for name in gives]
        if other := [each.name for each in self.outputs if each.name not in gives]:
            raise ValueError(
                f"outputs: {self.operation} gives {' and '.join(gives)}, not {other[0]}"
            )
        asked = [(each.name, each.parameters.binary_data) for each in self.outputs]
        return [(name, unasked if binary is None else binary) for name, binary in asked]


class OutputTensor(BaseModel):
    """A tensor of an answer: as data, row by row, or as so many bytes behind the JSON object."""

    name: TensorName
    datatype: Literal["FP32"] = "FP32"
    shape: list[int]
    parameters: dict[str, int] | None = None
    data: list[float] | None = None


class InferAnswer(BaseModel):
    """An answer's JSON object."""

    model_name: str
    id: str | None = None
    parameters: dict[str, str]
    outputs: list[OutputTensor]


def parse_request(body: bytes, length: str | None) -> tuple[InferRequest, bytes]:
    """Return a body's JSON object, and the bytes behind it.

    Args:
        body: the whole.
        length: of the JSON object, as the header :data:`HEADER` says; None if that is all.

    Raises:
        ValueError: if they are not what the protocol has.
    """
    end = len(body)
    if length is not None:
        if not (length.isascii() and length.isdecimal() and len(length) < 20):
            raise ValueError(f"{HEADER}={length[:20]!r}: must be the bytes of the JSON object")
        if (end := int(length)) > len(body):
            raise ValueError(f"{HEADER}={end}: the body has {len(body)} bytes")
    return InferRequest.model_validate_json(body[:end]), body[end:]


def write_answer(
    asked: InferRequest, served: Served, results: dict[str, Tensor]
) -> tuple[bytes, bytes]:
    """Return an answer's JSON object, and the bytes behind it.

    Args:
        asked: the request.
        served: the model that did it.
        results: ``z`` (B, C, d) and ``x`` (B, C, H, W), as far as they are wanted.
    """
    outputs: list[OutputTensor] = []
    parts: list[bytes] = []
    for name, binary in asked.wanted():
        values = results["x" if name == "images" else name].cpu().numpy().astype("<f4", copy=False)
        facts: dict[str, Any] = {"name": name, "shape": list(values.shape)}
        if binary:
            parts.append(values.tobytes())
            facts["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            facts["data"] = values.ravel().tolist()
        outputs.append(OutputTensor(**facts))
    made_by = {"fingerprint": served.fingerprint}
    answer = InferAnswer(model_name=served.name, id=asked.id, parameters=made_by, outputs=outputs)
    return answer.model_dump_json(exclude_none=True).encode(), b"".join(parts)


def describe_request() -> dict[str, Any]:
    """Describe a request for the page of the API, without references to other parts of it."""
    name = {"type": "string", "enum": ["images", "z"]}
    given = {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": name,
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}},
            "datatype": {"type": "string", "enum": ["FP32"]},
            "parameters": InputParameters.model_json_schema(),
            "data": {"type": "array", "items": {}, "description": "Flat or nested, row by row."},
        },
    }
    wanted = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": name, "parameters": OutputParameters.model_json_schema()},
    }
    schema = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "parameters": Parameters.model_json_schema(),
            "inputs": {"type": "array", "minItems": 1, "maxItems": 1, "items": given},
            "outputs": {"type": "array", "maxItems": 2, "items": wanted},
        },
    }
    return {
        wire.JSON: {"schema": schema},
        BINARY: {"schema": {"type": "string", "format": "binary"}},
    }
