"""The HTTP API, version 1: requests read and checked, handed to the worker, and answered."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import anyio.to_thread
from fastapi import Body, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles

from gdm_repr import __version__
from gdm_repr.config import DEFAULT_SOLVER, DEFAULT_STEPS
from gdm_repr.coordinates import COORDINATES
from gdm_repr.serve import wire
from gdm_repr.serve.answers import (
    EditAnswer,
    ImagesAnswer,
    LatentsAnswer,
    ModelAnswer,
    Refusal,
    describe_answers,
    describe_body,
    one_line,
)
from gdm_repr.serve.door import Door, Metrics
from gdm_repr.serve.edits import AnyEdit, DirectionRequest, MixRequest, TraverseRequest
from gdm_repr.serve.exchange import (
    GONE,
    LATENTS,
    PICTURES,
    Exchange,
    answer,
    choose,
    errors_of,
    finished,
    json_answer,
    made_by,
    refusing,
)
from gdm_repr.serve.explorer import add_explorer
from gdm_repr.serve.inference_v2 import add_inference_v2
from gdm_repr.serve.service import JOINABLE, Asked, Service, encoding_of
from gdm_repr.serve.stores_api import add_stores
from gdm_repr.serve.worker import Busy, Closed

MOST_SEED = 2**63 - 1

if TYPE_CHECKING:
    Solver = str
    Coordinate = str
else:
    Solver = Literal[JOINABLE]
    Coordinate = Literal[tuple(COORDINATES)]


def build_app(service: Service, metrics: Metrics, key: str | None) -> FastAPI:
    """Make the application.

    Args:
        service: models and worker; it is closed when the application ends.
        metrics: what is counted.
        key: that requests must bring, if any.
    """
    config = service.config
    exchange = Exchange(service)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await anyio.to_thread.run_sync(service.worker.close)

    app = FastAPI(
        title="gdm-repr",
        version=__version__,
        description="Images to grouped latents and back, by Groupwise Diffusion Models.",
        root_path=config.root_path,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses={} if key is None else {401: {"model": Refusal}},
    )
    app.add_middleware(Door, metrics=metrics, key=key, most_bytes=int(1e6 * config.most_megabytes))
    _say_errors_in_one_line(app)

    def ask(
        model: Annotated[str | None, Query(description="Name; the first that is served.")] = None,
        steps: Annotated[
            int, Query(ge=1, le=config.most_steps, description="Of the ODE, in all.")
        ] = DEFAULT_STEPS,
        solver: Annotated[Solver, Query()] = DEFAULT_SOLVER,
        coordinate: Annotated[Coordinate, Query()] = "whitened",
        order: Annotated[
            str | None, Query(pattern=r"^\d{1,4}(,\d{1,4}){0,255}$", description="As 0,1,2.")
        ] = None,
    ) -> Asked:
        groups = None if order is None else [int(each) for each in order.split(",")]
        with refusing():
            return service.ask(model, steps, solver, coordinate, groups)

    Chosen = Annotated[Asked, Depends(ask)]
    OfLatents = Annotated[bool, Query(description="Answer with latents, and decode nothing.")]

    @app.get("/healthz", tags=["state"], summary="Say that the process answers")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(
        "/readyz",
        tags=["state"],
        summary="Say whether requests are computed",
        responses={503: {"model": Refusal}},
    )
    async def readyz() -> dict[str, str]:
        if not service.worker.is_alive:
            raise HTTPException(503, "nothing is computed any more")
        return {"status": "ready"}

    @app.get(
        "/metrics",
        tags=["state"],
        summary="Counts and times, as Prometheus reads them",
        response_class=PlainTextResponse,
    )
    async def read_metrics() -> Response:
        return Response(metrics.text(service.worker.waiting), media_type=metrics.media_type)

    @app.get("/v1/models", tags=["models"], summary="List the models")
    async def models() -> list[ModelAnswer]:
        return [ModelAnswer(**each.facts()) for each in service.models.values()]

    @app.post(
        "/v1/encode",
        tags=["models"],
        summary="Encode images to latents",
        openapi_extra=describe_body("images"),
        responses=describe_answers(LatentsAnswer, wire.NPY, wire.ARROW),
    )
    async def encode(
        request: Request,
        asked: Chosen,
        errors: Annotated[bool, Query(description="Measure them; four times the work.")] = False,
    ) -> Response:
        form = choose(request, wire.JSON, wire.ARROW, *(() if errors else (wire.NPY,)))
        x = await exchange.images_of(request, asked)
        results = await finished(request, lambda: service.encode(asked, x, errors=errors))
        made = made_by(asked)
        if form == wire.NPY:
            return answer(wire.as_npy(results["z"]), form, made)
        encoding = encoding_of(asked, results)
        if form == wire.ARROW:
            return answer(wire.as_arrow(encoding, made), form, made)
        facts = {**made, "bands": list(asked.model.grouping.names), "z": results["z"].tolist()}
        return json_answer(facts | errors_of(encoding, errors), made)

    @app.post(
        "/v1/decode",
        tags=["models"],
        summary="Decode latents to images",
        openapi_extra=describe_body("z"),
        responses=describe_answers(ImagesAnswer, wire.NPY, wire.PNG, wire.GIF),
    )
    async def decode(request: Request, asked: Chosen) -> Response:
        form = choose(request, *PICTURES)
        z = await exchange.latents_of(request, asked)
        results = await finished(request, lambda: service.decode(asked, z))
        return await exchange.pictures(results["x"], form, asked)

    @app.post(
        "/v1/reconstruct",
        tags=["models"],
        summary="Encode and decode images, with the errors of it",
        openapi_extra=describe_body("images"),
        responses=describe_answers(ImagesAnswer, wire.NPY, wire.PNG, wire.GIF),
    )
    async def reconstruct(request: Request, asked: Chosen) -> Response:
        form = choose(request, *PICTURES)
        x = await exchange.images_of(request, asked)
        results = await finished(request, lambda: service.encode(asked, x, errors=True))
        return await exchange.pictures(results["x"], form, asked, results)

    @app.post(
        "/v1/sample",
        tags=["models"],
        summary="Draw images",
        responses=describe_answers(ImagesAnswer | LatentsAnswer, wire.NPY, wire.PNG, wire.GIF),
    )
    async def sample(
        request: Request,
        asked: Chosen,
        n: Annotated[int, Query(ge=1, le=config.batch_size)] = 1,
        seed: Annotated[
            int, Query(ge=0, le=MOST_SEED, description="Image i is made from seed + i.")
        ] = 0,
        latents: OfLatents = False,
    ) -> Response:
        form = choose(request, *(LATENTS if latents else PICTURES))
        if latents:
            return exchange.latents(asked.model.noise(n, seed=seed), form, asked)
        results = await finished(request, lambda: service.sample(asked, n, seed))
        return await exchange.pictures(results["x"], form, asked)

    @app.post(
        "/v1/edit",
        tags=["models"],
        summary="Edit images through their latents",
        responses=describe_answers(EditAnswer | LatentsAnswer, wire.NPY, wire.PNG, wire.GIF),
    )
    async def edit(
        request: Request,
        asked: Chosen,
        body: Annotated[AnyEdit, Body()],
        latents: OfLatents = False,
    ) -> Response:
        form = choose(request, *(LATENTS if latents else PICTURES))
        given = [await exchange.latents_given(request, asked, body)]
        if isinstance(body, MixRequest):
            with refusing():
                other = body.other()
            given.append(await exchange.latents_given(request, asked, other))
        learned = None
        if isinstance(body, DirectionRequest):
            learned = await exchange.direction(body.learned, asked)
        with refusing():
            service.check_count(body.count(asked.model, len(given[0])))
            edited, names = body.edited(asked.model, given[0], given[-1], learned)
        if latents:
            return exchange.latents(edited, form, asked)
        results = await finished(request, lambda: service.decode(asked, edited))
        return await exchange.pictures(results["x"], form, asked, more={"names": names})

    @app.post(
        "/v1/traverse",
        tags=["models"],
        summary="Move single elements of images from one end to the other",
        responses=describe_answers(EditAnswer | LatentsAnswer, wire.NPY, wire.PNG, wire.GIF),
    )
    async def traverse(
        request: Request,
        asked: Chosen,
        body: Annotated[TraverseRequest, Body()],
        latents: OfLatents = False,
    ) -> Response:
        return await edit(request, asked, body, latents)

    @app.post(
        "/v1/prepare",
        tags=["models"],
        summary="Size image files as the model takes them",
        openapi_extra=describe_body("images"),
        responses=describe_answers(ImagesAnswer, wire.NPY, wire.PNG, wire.GIF),
    )
    async def prepare(request: Request, asked: Chosen) -> Response:
        form = choose(request, *PICTURES)
        return await exchange.pictures(await exchange.images_of(request, asked), form, asked)

    add_stores(app, service, exchange, Depends(ask))
    add_explorer(app, config)
    add_inference_v2(app, service, exchange.reading, finished)
    _serve_docs(app)
    return app


def _say_errors_in_one_line(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": one_line(error.errors()[0], 1)}, 422)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> JSONResponse:
        return JSONResponse({"detail": "the client went away"}, GONE)

    @app.exception_handler(Closed)
    async def closed(request: Request, error: Closed) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 503)

    @app.exception_handler(Busy)
    async def busy(request: Request, error: Busy) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 429, headers={"Retry-After": error.retry_after})


def _serve_docs(app: FastAPI) -> None:
    """Serve the page of the API with its scripts, so that no browser asks another host for them."""
    from swagger_ui_bundle import swagger_ui_path

    app.mount("/docs/files", StaticFiles(directory=swagger_ui_path), name="docs-files")

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "").rstrip("/")
        return get_swagger_ui_html(
            openapi_url=f"{root}/openapi.json",
            title="gdm-repr",
            swagger_js_url=f"{root}/docs/files/swagger-ui-bundle.js",
            swagger_css_url=f"{root}/docs/files/swagger-ui.css",
            swagger_favicon_url=f"{root}/docs/files/favicon-32x32.png",
        )
