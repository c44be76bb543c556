"""Version 2 of the Open Inference Protocol: a thin adapter for clients of KServe and Triton.

A request brings one tensor: ``images`` (B, C, H, W) in [-1, 1], or ``z`` (B, C, d), both FP32. Its
parameters say what to do with it, and how. Tensors travel as JSON, flat or nested, row by row, or
as bytes behind the JSON object, by Triton's extension for binary tensor data.

Sources: the protocol's inference_rest.md, and extension_binary_data.md of the Triton server.
"""

from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import anyio.to_thread
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from torch import Tensor

from gdm_repr import __version__
from gdm_repr.serve import wire
from gdm_repr.serve.answers import one_line
from gdm_repr.serve.service import Served, Service
from gdm_repr.serve.tensors import (
    BINARY,
    HEADER,
    InferAnswer,
    InferRequest,
    TensorName,
    describe_request,
    parse_request,
    write_answer,
)
from gdm_repr.serve.worker import Busy, Closed

Finished = Callable[
    [Request, Callable[[], Future[dict[str, Tensor]]]], Awaitable[dict[str, Tensor]]
]


class Failure(BaseModel):
    """Why a request was not done."""

    error: str


class ServerFacts(BaseModel):
    """The server."""

    name: str = "gdm-repr"
    version: str = __version__
    extensions: list[str] = ["binary_tensor_data", "parameters"]


class TensorFacts(BaseModel):
    """A tensor that a model takes or gives; -1 is any number."""

    name: TensorName
    datatype: Literal["FP32"] = "FP32"
    shape: list[int]


class ModelFacts(BaseModel):
    """A model. It takes one of its inputs in a request."""

    name: str
    platform: str = "gdm-repr_safetensors"
    inputs: list[TensorFacts]
    outputs: list[TensorFacts]


class _Route(APIRoute):
    """Says what is wrong as the protocol has it: under ``error``, by 400 where no other fits."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler."""
        handle = super().get_route_handler()

        async def handle_and_refuse(request: Request) -> Response:
            try:
                return await handle(request)
            except HTTPException as error:
                status = 400 if error.status_code == 422 else error.status_code
                return JSONResponse({"error": str(error.detail)}, status, error.headers)
            except Closed as error:
                return JSONResponse({"error": str(error)}, 503)
            except Busy as error:
                return JSONResponse({"error": str(error)}, 429, {"Retry-After": error.retry_after})

        return handle_and_refuse


def add_inference_v2(
    app: FastAPI, service: Service, reading: anyio.CapacityLimiter, finished: Finished
) -> None:
    """Add the protocol's paths, below ``/v2``.

    Args:
        app: the application.
        service: models and worker.
        reading: limits how many bodies are read at once.
        finished: submits a job for a request and waits for its results.
    """
    router = APIRouter(
        prefix="/v2",
        tags=["Open Inference Protocol"],
        route_class=_Route,
        responses={401: {"model": Failure}},
    )
    stopped: dict[int | str, dict[str, Any]] = {503: {"model": Failure}}
    unknown: dict[int | str, dict[str, Any]] = {404: {"model": Failure}}

    def find(name: str) -> Served:
        if name not in service.models:
            there = ", ".join(service.models)
            raise HTTPException(404, f"model {name[:80]!r}: not served; there are {there}")
        return service.models[name]

    Named = Annotated[Served, Depends(find)]

    def check_worker() -> None:
        if not service.worker.is_alive:
            raise HTTPException(503, "nothing is computed any more")

    @router.get("", summary="Describe the server")
    async def server() -> ServerFacts:
        return ServerFacts()

    @router.get("/health/live", summary="Say that the process answers")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @router.get("/health/ready", summary="Say whether requests are computed", responses=stopped)
    async def ready() -> dict[str, bool]:
        check_worker()
        return {"ready": True}

    @router.get("/models/{name}", summary="Describe a model", responses=unknown)
    async def model(served: Named) -> ModelFacts:
        shape, d = served.model.shape, served.model.grouping.d
        images = TensorFacts(name="images", shape=[-1, *shape])
        z = TensorFacts(name="z", shape=[-1, shape[0], d])
        return ModelFacts(name=served.name, inputs=[images, z], outputs=[z, images])

    @router.get(
        "/models/{name}/ready",
        summary="Say whether a model computes",
        responses=unknown | stopped,
    )
    async def model_ready(served: Named) -> dict[str, str | bool]:
        check_worker()
        return {"name": served.name, "ready": True}

    @router.post(
        "/models/{name}/infer",
        summary="Encode, decode or reconstruct",
        openapi_extra={"requestBody": {"required": True, "content": describe_request()}},
        responses=_describe_answers(),
    )
    async def infer(served: Named, request: Request) -> Response:
        if coding := request.headers.get("content-encoding"):
            raise HTTPException(415, f"content-encoding={coding[:20]!r}: send the body as it is")
        body, length = await request.body(), request.headers.get(HEADER)

        def read() -> tuple[InferRequest, Tensor]:
            asked, rest = parse_request(body, length)
            asked.wanted()
            return asked, asked.inputs[0].tensor(rest, served)

        with _refusing():
            asked, rows = await anyio.to_thread.run_sync(read, limiter=reading)
            how = asked.parameters
            order = None if how.order is None else [int(each) for each in how.order.split(",")]
            job = service.ask(served.name, how.steps, how.solver, how.coordinate, order)
        if asked.operation == "decode":
            results = await finished(request, lambda: service.decode(job, rows))
        else:
            both = asked.operation == "reconstruct"
            results = await finished(request, lambda: service.encode(job, rows, errors=both))
        head, rest = write_answer(asked, served, results)
        if not rest:
            return Response(head, media_type=wire.JSON)
        return Response(head + rest, media_type=BINARY, headers={HEADER: str(len(head))})

    app.include_router(router)


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn a ValueError, which says what is wrong with a request, into status 400."""
    try:
        yield
    except ValidationError as error:
        raise HTTPException(400, one_line(error.errors()[0])) from None
    except ValueError as error:
        raise HTTPException(400, " ".join(str(error).split())) from None


def _describe_answers() -> dict[int | str, dict[str, Any]]:
    """Describe the answers for the page of the API."""
    refusals = {
        400: "What is asked can't be done.",
        404: "There is no such model.",
        413: "The body is too large.",
        415: "The body is compressed.",
        429: "Too much is asked at once; Retry-After says when to try again.",
        503: "The service is being stopped.",
    }
    binary = {BINARY: {"schema": {"type": "string", "format": "binary"}}}
    return {
        200: {"model": InferAnswer, "content": binary},
        **{status: {"model": Failure, "description": why} for status, why in refusals.items()},
    }
