"""How a request becomes tensors, and what was computed of them an answer."""

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.to_thread
from fastapi import HTTPException, Request, Response
from fastapi.responses import JSONResponse
from starlette.datastructures import UploadFile
from torch import Tensor

from gdm_repr.edit.direction import Direction
from gdm_repr.serve import wire
from gdm_repr.serve.answers import MULTIPART
from gdm_repr.serve.edits import Given, Learned
from gdm_repr.serve.service import Asked, Service, encoding_of

GONE = 499  # the client went away; nobody reads the answer
READERS = 2  # threads that read images, so that memory stays bounded
FORMS = (wire.JSON, MULTIPART, wire.NPY, "image/*")
LATENTS = (wire.JSON, wire.NPY)
PICTURES = (wire.JSON, wire.NPY, wire.PNG, wire.GIF)


class Exchange:
    """Reads requests for a service, and writes its answers.

    Attributes:
        reading: limits how many bodies are read at once.
    """

    def __init__(self, service: Service) -> None:
        """Keep the service."""
        self._service = service
        self.reading = anyio.CapacityLimiter(READERS)

    async def read(self, make: Callable[[], Tensor]) -> Tensor:
        """Read in a thread; what is wrong is refused."""
        with refusing():
            return await anyio.to_thread.run_sync(make, limiter=self.reading)

    async def images_of(self, request: Request, asked: Asked) -> Tensor:
        """Return the images of a body as x (B, C, H, W)."""
        shape, preprocess = asked.model.shape, asked.served.preprocess
        kind = _kind(request)
        if kind == MULTIPART:
            files = await _files(request, self._service.config.batch_size)
            return await self.read(lambda: wire.images_of_files(files, preprocess))
        data = await request.body()
        if kind == wire.JSON:
            return await self.read(
                lambda: wire.images_of_json(_field(data, "images"), shape, preprocess)
            )
        if kind == wire.NPY:
            return await self.read(lambda: wire.images_of_array(wire.array_of(data, "body"), shape))
        if kind.startswith("image/"):
            return await self.read(lambda: wire.images_of_files([data], preprocess))
        raise _unsupported(kind, FORMS)

    async def latents_of(self, request: Request, asked: Asked) -> Tensor:
        """Return the latents of a body, (B, C, d)."""
        shape = (asked.model.shape[0], asked.model.grouping.d)
        data, kind = await request.body(), _kind(request)
        if kind == wire.JSON:
            return await self.read(lambda: wire.latents_of_json(_field(data, "z"), shape))
        if kind == wire.NPY:
            return await self.read(
                lambda: wire.latents_of_array(wire.array_of(data, "body"), shape)
            )
        raise _unsupported(kind, (wire.JSON, wire.NPY))

    async def latents_given(self, request: Request, asked: Asked, given: Given) -> Tensor:
        """Return latents (B, C, d) that a body names: images, which are encoded; z; or ids.

        Raises:
            HTTPException: if it names none of them or several, or they can't be used.
        """
        named = [name for name in ("images", "z", "ids") if getattr(given, name) is not None]
        if len(named) != 1:
            raise HTTPException(422, "images, z, ids: give one of them")
        model = asked.model
        if given.z is not None:
            shape = (model.shape[0], model.grouping.d)
            return await self.read(lambda: wire.latents_of_json(given.z, shape))
        if given.ids is not None:
            ids, store = given.ids, given.store
            return await self.read(lambda: self._service.stored(store, asked).latents(ids))
        preprocess = asked.served.preprocess
        x = await self.read(lambda: wire.images_of_json(given.images, model.shape, preprocess))
        results = await finished(request, lambda: self._service.encode(asked, x, errors=False))
        return results["z"].cpu()

    def latents(self, z: Tensor, form: str, asked: Asked) -> Response:
        """Answer with latents (B, C, d)."""
        made = made_by(asked)
        if form == wire.NPY:
            return answer(wire.as_npy(z), form, made)
        bands = list(asked.model.grouping.names)
        return json_answer({**made, "bands": bands, "z": z.tolist()}, made)

    async def direction(self, asked_for: Learned, asked: Asked) -> Direction:
        """Learn a direction."""
        with refusing():
            store = self._service.stored(asked_for.store, asked)
            return await anyio.to_thread.run_sync(lambda: store.learn(asked_for))

    async def pictures(
        self,
        x: Tensor,
        form: str,
        asked: Asked,
        results: dict[str, Tensor] | None = None,
        more: dict[str, Any] | None = None,
    ) -> Response:
        """Answer with images (B, C, H, W), in the form that was asked for."""
        made = made_by(asked)
        if form == wire.NPY:
            return answer(wire.as_npy(x), form, made)
        files = await anyio.to_thread.run_sync(lambda: wire.as_pngs(x), limiter=self.reading)
        if form == wire.GIF:
            film = await anyio.to_thread.run_sync(lambda: wire.as_gif(x), limiter=self.reading)
            return answer(film, form, made)
        if form == wire.PNG:
            if len(files) > 1:
                raise HTTPException(
                    406, f"{wire.PNG}: holds one image, not {len(files)}; ask for JSON"
                )
            return answer(files[0], form, made)
        facts: dict[str, Any] = {**made, "images": [base64.b64encode(f).decode() for f in files]}
        facts |= more or {}
        if results is not None:
            facts["bands"] = list(asked.model.grouping.names)
            facts |= errors_of(encoding_of(asked, results), True)
        return json_answer(facts, made)


@contextmanager
def refusing() -> Iterator[None]:
    """Turn a ValueError, which says what is wrong with a request, into status 422."""
    try:
        yield
    except ValueError as error:
        raise HTTPException(422, " ".join(str(error).split())) from None


async def finished(
    request: Request, submit: Callable[[], Future[dict[str, Tensor]]]
) -> dict[str, Tensor]:
    """Submit a job and wait for it; give it up when the client goes away."""
    with refusing():
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


def choose(request: Request, *offered: str) -> str:
    """Return the form of the answer that the client likes most."""
    header = request.headers.get("accept")
    found = wire.accepted(header, offered)
    if found is None:
        raise HTTPException(406, f"accept={header!r}: there is {', '.join(offered)}")
    return found


def made_by(asked: Asked) -> dict[str, str]:
    """Return by which model an answer is made."""
    return {"model": asked.served.name, "fingerprint": asked.served.fingerprint}


def errors_of(encoding: Any, wanted: bool) -> dict[str, Any]:  # noqa: ANN401
    """Return the field of the errors, where they are wanted."""
    return {"errors": wire.errors_of(encoding)} if wanted else {}


def answer(data: bytes, kind: str, made: dict[str, str]) -> Response:
    """Answer with bytes."""
    return Response(data, media_type=kind, headers=_headers(made))


def json_answer(facts: dict[str, Any], made: dict[str, str]) -> Response:
    """Answer with JSON."""
    return JSONResponse(facts, headers=_headers(made))


def _headers(made: dict[str, str]) -> dict[str, str]:
    return {f"X-Gdm-{name.title()}": value for name, value in made.items()}
