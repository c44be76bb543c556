"""The HTTP API, version 1: requests read and checked, handed to the worker, and answered."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import anyio.to_thread
from fastapi import Body, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles
from torch import Tensor

from gdm_repr import __version__
from gdm_repr.config import DEFAULT_SOLVER, DEFAULT_STEPS
from gdm_repr.coordinates import COORDINATES
from gdm_repr.serve import wire
from gdm_repr.serve.answers import (
    MULTIPART,
    EditAnswer,
    ImagesAnswer,
    LatentsAnswer,
    ModelAnswer,
    Refusal,
    describe_answers,
    describe_body,
)
from gdm_repr.serve.door import Door, Metrics
from gdm_repr.serve.edits import AnyEdit, MixRequest
from gdm_repr.serve.service import Asked, Service, encoding_of
from gdm_repr.serve.worker import Busy, Closed
from gdm_repr.solvers import SOLVERS

GONE = 499  # the client went away; nobody reads the answer
READERS = 2  # threads that read images, so that memory stays bounded
MOST_SEED = 2**63 - 1
FORMS = (wire.JSON, MULTIPART, wire.NPY, "image/*")

if TYPE_CHECKING:
    Solver = str
    Coordinate = str
else:
    # Dopri5's steps depend on all images of a batch, so that requests can't be joined.
    Solver = Literal[tuple(name for name in SOLVERS if name != "dopri5")]
    Coordinate = Literal[tuple(COORDINATES)]


def build_app(service: Service, metrics: Metrics, key: str | None) -> FastAPI:
    """Make the application.

    Args:
        service: models and worker; it is closed when the application ends.
        metrics: what is counted.
        key: that requests must bring, if any.
    """
    config = service.config
    reading = anyio.CapacityLimiter(READERS)

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
        with _refusing():
            return service.ask(model, steps, solver, coordinate, groups)

    Chosen = Annotated[Asked, Depends(ask)]

    async def read(make: Callable[[], Tensor]) -> Tensor:
        with _refusing():
            return await anyio.to_thread.run_sync(make, limiter=reading)

    async def images_of(request: Request, asked: Asked) -> Tensor:
        shape, preprocess = asked.model.shape, asked.served.preprocess
        kind = _kind(request)
        if kind == MULTIPART:
            files = await _files(request, config.batch_size)
            return await read(lambda: wire.images_of_files(files, preprocess))
        data = await request.body()
        if kind == wire.JSON:
            return await read(
                lambda: wire.images_of_json(_field(data, "images"), shape, preprocess)
            )
        if kind == wire.NPY:
            return await read(lambda: wire.images_of_array(wire.array_of(data, "body"), shape))
        if kind.startswith("image/"):
            return await read(lambda: wire.images_of_files([data], preprocess))
        raise _unsupported(kind, FORMS)

    async def latents_of(request: Request, asked: Asked) -> Tensor:
        shape = (asked.model.shape[0], asked.model.grouping.d)
        data, kind = await request.body(), _kind(request)
        if kind == wire.JSON:
            return await read(lambda: wire.latents_of_json(_field(data, "z"), shape))
        if kind == wire.NPY:
            return await read(lambda: wire.latents_of_array(wire.array_of(data, "body"), shape))
        raise _unsupported(kind, (wire.JSON, wire.NPY))

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

    @app.get("/metrics", tags=["state"], summary="Counts and times, as Prometheus reads them")
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
        form = _choose(request, wire.JSON, wire.ARROW, *(() if errors else (wire.NPY,)))
        x = await images_of(request, asked)
        results = await _finished(request, lambda: service.encode(asked, x, errors=errors))
        made = _made(asked)
        if form == wire.NPY:
            return _answer(wire.as_npy(results["z"]), form, made)
        encoding = encoding_of(asked, results)
        if form == wire.ARROW:
            return _answer(wire.as_arrow(encoding, made), form, made)
        facts = {**made, "bands": list(asked.model.grouping.names), "z": results["z"].tolist()}
        return _json(facts | _errors(encoding, errors), made)

    @app.post(
        "/v1/decode",
        tags=["models"],
        summary="Decode latents to images",
        openapi_extra=describe_body("z"),
        responses=describe_answers(ImagesAnswer, wire.NPY, wire.PNG),
    )
    async def decode(request: Request, asked: Chosen) -> Response:
        form = _choose(request, wire.JSON, wire.NPY, wire.PNG)
        z = await latents_of(request, asked)
        results = await _finished(request, lambda: service.decode(asked, z))
        return await pictures(results["x"], form, asked)

    @app.post(
        "/v1/reconstruct",
        tags=["models"],
        summary="Encode and decode images, with the errors of it",
        openapi_extra=describe_body("images"),
        responses=describe_answers(ImagesAnswer, wire.NPY, wire.PNG),
    )
    async def reconstruct(request: Request, asked: Chosen) -> Response:
        form = _choose(request, wire.JSON, wire.NPY, wire.PNG)
        x = await images_of(request, asked)
        results = await _finished(request, lambda: service.encode(asked, x, errors=True))
        return await pictures(results["x"], form, asked, results)

    @app.post(
        "/v1/sample",
        tags=["models"],
        summary="Draw images",
        responses=describe_answers(ImagesAnswer, wire.NPY, wire.PNG),
    )
    async def sample(
        request: Request,
        asked: Chosen,
        n: Annotated[int, Query(ge=1, le=config.batch_size)] = 1,
        seed: Annotated[
            int, Query(ge=0, le=MOST_SEED, description="Image i is made from seed + i.")
        ] = 0,
    ) -> Response:
        form = _choose(request, wire.JSON, wire.NPY, wire.PNG)
        results = await _finished(request, lambda: service.sample(asked, n, seed))
        return await pictures(results["x"], form, asked)

    @app.post(
        "/v1/edit",
        tags=["models"],
        summary="Edit images through their latents",
        responses=describe_answers(EditAnswer, wire.NPY, wire.PNG),
    )
    async def edit(request: Request, asked: Chosen, body: Annotated[AnyEdit, Body()]) -> Response:
        form = _choose(request, wire.JSON, wire.NPY, wire.PNG)
        given = [(body.images, body.z)]
        if isinstance(body, MixRequest):
            one = body.images is None
            given.append((None, body.references) if one else (body.references, None))
        latents = []
        for images, z in given:
            latents.append(await latents_of_edit(request, asked, images, z))
        with _refusing():
            service.check_count(body.count(asked.model, len(latents[0])))
            edited, names = body.edited(asked.model, latents[0], latents[-1])
        results = await _finished(request, lambda: service.decode(asked, edited))
        return await pictures(results["x"], form, asked, more={"names": names})

    async def latents_of_edit(
        request: Request, asked: Asked, images: list[Any] | None, z: list[Any] | None
    ) -> Tensor:
        if (images is None) == (z is None):
            raise HTTPException(422, "images, z: give one of them")
        model = asked.model
        if z is not None:
            shape = (model.shape[0], model.grouping.d)
            return await read(lambda: wire.latents_of_json(z, shape))
        preprocess = asked.served.preprocess
        x = await read(lambda: wire.images_of_json(images, model.shape, preprocess))
        results = await _finished(request, lambda: service.encode(asked, x, errors=False))
        return results["z"].cpu()

    async def pictures(
        x: Tensor,
        form: str,
        asked: Asked,
        results: dict[str, Tensor] | None = None,
        more: dict[str, Any] | None = None,
    ) -> Response:
        made = _made(asked)
        if form == wire.NPY:
            return _answer(wire.as_npy(x), form, made)
        files = await anyio.to_thread.run_sync(lambda: wire.as_pngs(x), limiter=reading)
        if form == wire.PNG:
            if len(files) > 1:
                raise HTTPException(
                    406, f"{wire.PNG}: holds one image, not {len(files)}; ask for JSON"
                )
            return _answer(files[0], form, made)
        facts: dict[str, Any] = {**made, "images": [base64.b64encode(f).decode() for f in files]}
        facts |= more or {}
        if results is not None:
            facts["bands"] = list(asked.model.grouping.names)
            facts |= _errors(encoding_of(asked, results), True)
        return _json(facts, made)

    _serve_docs(app)
    return app


def _say_errors_in_one_line(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"][1:])
        given = repr(first.get("input"))[:80]
        return JSONResponse({"detail": f"{name}={given}: {first['msg']}"}, 422)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> JSONResponse:
        return JSONResponse({"detail": "the client went away"}, GONE)

    @app.exception_handler(Closed)
    async def closed(request: Request, error: Closed) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 503)

    @app.exception_handler(Busy)
    async def busy(request: Request, error: Busy) -> JSONResponse:
        return JSONResponse(
            {"detail": str(error)}, 429, headers={"Retry-After": str(round(error.seconds + 0.5))}
        )


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


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn a ValueError, which says what is wrong with a request, into status 422."""
    try:
        yield
    except ValueError as error:
        raise HTTPException(422, " ".join(str(error).split())) from None


async def _finished(
    request: Request, submit: Callable[[], Future[dict[str, Tensor]]]
) -> dict[str, Tensor]:
    """Submit a job and wait for it; give it up when the client goes away."""
    with _refusing():
        done = asyncio.wrap_future(submit())
    gone = asyncio.create_task(_disconnected(request))
    either: set[asyncio.Future[Any]] = {done, gone}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        if not done.done():
            done.cancel()
    if done.cancelled():
        raise HTTPException(GONE, "the client went away")
    results = done.result()
    if not all(bool(each.isfinite().all()) for each in results.values()):
        raise HTTPException(422, "the results are not finite; use more steps, or smaller values")
    return results


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _files(request: Request, most: int) -> list[bytes]:
    """Return the files of a form's fields ``images``."""
    async with request.form(max_files=most, max_fields=most) as form:
        if other := sorted(set(form) - {"images"}):
            raise HTTPException(422, f"{other[0][:40]!r}: no such field; give files as images")
        parts = form.getlist("images")
        files = [each for each in parts if isinstance(each, UploadFile)]
        if not files or len(files) < len(parts):
            raise HTTPException(422, "images: must be files, as: curl -F images=@a.png")
        return [await each.read() for each in files]


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _unsupported(kind: str, forms: tuple[str, ...]) -> HTTPException:
    return HTTPException(415, f"content-type={kind[:80]!r}: must be one of {', '.join(forms)}")


def _field(data: bytes, name: str) -> Any:  # noqa: ANN401
    """Return the one field of a JSON object."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise HTTPException(400, "body: is no JSON") from None
    if not isinstance(value, dict) or set(value) != {name}:
        raise HTTPException(422, f'body: must be an object of one field, as {{"{name}": [..]}}')
    return value[name]


def _choose(request: Request, *offered: str) -> str:
    """Return the form of the answer that the client likes most."""
    header = request.headers.get("accept")
    found = wire.accepted(header, offered)
    if found is None:
        raise HTTPException(406, f"accept={header!r}: there is {', '.join(offered)}")
    return found


def _made(asked: Asked) -> dict[str, str]:
    return {"model": asked.served.name, "fingerprint": asked.served.fingerprint}


def _errors(encoding: Any, wanted: bool) -> dict[str, Any]:  # noqa: ANN401
    return {"errors": wire.errors_of(encoding)} if wanted else {}


def _answer(data: bytes, kind: str, made: dict[str, str]) -> Response:
    return Response(data, media_type=kind, headers=_headers(made))


def _json(facts: dict[str, Any], made: dict[str, str]) -> Response:
    return JSONResponse(facts, headers=_headers(made))


def _headers(made: dict[str, str]) -> dict[str, str]:
    return {f"X-Gdm-{name.title()}": value for name, value in made.items()}
