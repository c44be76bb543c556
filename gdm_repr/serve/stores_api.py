"""The part of the API that is about stores: their images, neighbours, directions; elements."""

import asyncio
import base64
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

import anyio.to_thread
import torch
from fastapi import Body, FastAPI, Path, Query, Request, Response
from pydantic import Field
from torch import Tensor

from gdm_repr.latents.neighbours import Neighbours
from gdm_repr.serve import wire
from gdm_repr.serve.answers import (
    DirectionAnswer,
    ElementsAnswer,
    EstimateAnswer,
    ImagesAnswer,
    ItemAnswer,
    ItemsAnswer,
    MovedAnswer,
    NearestAnswer,
    NeighbourAnswer,
    StoreAnswer,
    StoredAnswer,
    describe_answers,
    describe_refusals,
)
from gdm_repr.serve.atlas import read_atlas, trial_effects, trial_elements, trial_latents
from gdm_repr.serve.edits import Bands, Given, Learned
from gdm_repr.serve.exchange import (
    PICTURES,
    Exchange,
    answer,
    choose,
    finished,
    json_answer,
    refusing,
)
from gdm_repr.serve.service import Asked, Service
from gdm_repr.serve.stores import ServedStore

MOST_ITEMS = 200
MOST_KEPT = 5000  # small pictures
QUICK_STEPS = 12  # of small pictures and of the trial
Made = TypeVar("Made")


class NearestRequest(Given):
    """One image and where to look for others like it."""

    bands: Bands = Field([], description="By name, number or indices; all groups by default.")
    n: int = Field(5, ge=1, le=100)
    pictures: bool = Field(False, description="Whether to decode the neighbours.")


class Pictures:
    """Small pictures of stores' images, decoded by few steps, the latest kept."""

    def __init__(self, service: Service) -> None:
        """Keep the service."""
        self._service = service
        self._kept: OrderedDict[tuple[str, int], str] = OrderedDict()

    def asked(self, stored: ServedStore) -> Asked:
        """Return how a store's pictures are decoded."""
        order = stored.model.grouping.order
        return self._service.ask(stored.served, QUICK_STEPS, "ab3", "whitened", order)

    async def of(self, request: Request, stored: ServedStore, rows: list[int]) -> list[str]:
        """Return PNG files in base64."""
        size = self._service.config.batch_size
        lacking = [row for row in rows if (stored.name, row) not in self._kept]
        asked = self.asked(stored)
        for start in range(0, len(lacking), size):
            part = lacking[start : start + size]
            z = await anyio.to_thread.run_sync(stored.store.z, part)
            decode = _submit(self._service, asked, torch.from_numpy(z))
            results = await finished(request, decode)
            files = await anyio.to_thread.run_sync(wire.as_pngs, results["x"])
            for row, file in zip(part, files, strict=True):
                self._kept[stored.name, row] = base64.b64encode(file).decode()
        found = [self._kept[stored.name, row] for row in rows]
        for row in rows:
            self._kept.move_to_end((stored.name, row))
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return found


def _submit(service: Service, asked: Asked, z: Tensor) -> Callable[[], Any]:
    return lambda: service.decode(asked, z)


async def _thread(make: Callable[[], Made]) -> Made:
    with refusing():
        return await anyio.to_thread.run_sync(make)


def add_stores(app: FastAPI, service: Service, exchange: Exchange, chosen: Any) -> None:  # noqa: ANN401
    """Add the paths.

    Args:
        app: the application.
        service: with stores.
        exchange: reads requests.
        chosen: the dependency that says which model is asked, and how.
    """
    pictures = Pictures(service)
    ranked: dict[tuple[str, tuple[int, ...]], dict[str, Any]] = {}
    ranking = asyncio.Lock()
    refusals = describe_refusals(422, 429, 503)
    refusals_of_body = describe_refusals(400, 413, 422, 429, 503)
    Name = Annotated[str, Path(description="Of a store.", max_length=200)]

    def stored(name: str) -> ServedStore:
        with refusing():
            found = service.stores.get(name)
            if found is None:
                known = ", ".join(service.stores) or "none"
                raise ValueError(f"store={name!r}: not served; there are {known}")
            return found

    @app.get("/v1/stores", tags=["stores"], summary="List the stores")
    async def stores() -> list[StoreAnswer]:
        return [StoreAnswer(**each.facts()) for each in service.stores.values()]

    @app.get(
        "/v1/stores/{name}/items",
        tags=["stores"],
        summary="List images of a store",
        responses=refusals,
    )
    async def items(
        request: Request,
        name: Name,
        first: Annotated[int, Query(ge=0, le=10**12)] = 0,
        n: Annotated[int, Query(ge=1, le=MOST_ITEMS)] = 24,
        label: Annotated[str | None, Query(description="Of which the value is asked.")] = None,
        value: str | None = None,
        text: Annotated[str, Query(max_length=200, description="That ids hold.")] = "",
        pictures_too: Annotated[bool, Query(alias="pictures")] = False,
    ) -> ItemsAnswer:
        store = stored(name)
        rows = await _thread(lambda: store.find(label, value, text))
        shown = [int(row) for row in rows[first : first + n]]
        images = await pictures.of(request, store, shown) if pictures_too else [None] * len(shown)
        return ItemsAnswer(
            total=len(rows),
            items=[
                ItemAnswer(**store.item(row), image=image)
                for row, image in zip(shown, images, strict=True)
            ],
        )

    @app.get(
        "/v1/stores/{name}/latents",
        tags=["stores"],
        summary="Return the latents of images of a store",
        responses=describe_answers(StoredAnswer, wire.NPY),
    )
    async def latents(
        request: Request,
        name: Name,
        ids: Annotated[list[str], Query(min_length=1, max_length=MOST_ITEMS)],
    ) -> Response:
        form = choose(request, wire.JSON, wire.NPY)
        store = stored(name)
        z = await _thread(lambda: store.latents(ids))
        fingerprint = store.model.checkpoint.fingerprint
        made = {"model": store.served, "fingerprint": fingerprint}
        if form == wire.NPY:
            return answer(wire.as_npy(z), form, made)
        return json_answer(
            {**made, "bands": list(store.model.grouping.names), "z": z.tolist()}
            | {"errors": store.errors(ids)},
            made,
        )

    @app.get(
        "/v1/stores/{name}/images",
        tags=["stores"],
        summary="Return images of a store as they were encoded, where they are at hand",
        responses=describe_answers(ImagesAnswer, wire.NPY, wire.PNG, wire.GIF),
    )
    async def images(
        request: Request,
        name: Name,
        ids: Annotated[list[str], Query(min_length=1, max_length=MOST_ITEMS)],
    ) -> Response:
        form = choose(request, *PICTURES)
        store = stored(name)
        x = await _thread(lambda: store.images(ids))
        return await exchange.pictures(x, form, pictures.asked(store))

    @app.get(
        "/v1/elements",
        tags=["models"],
        summary="List the elements that change images most",
        responses=refusals,
    )
    async def elements(request: Request, asked: Annotated[Asked, chosen]) -> ElementsAnswer:
        key = (asked.served.name, asked.model.grouping.order)
        async with ranking:
            if key not in ranked:
                reports, made_by = service.config.reports, asked.served.fingerprint
                found = await _thread(lambda: read_atlas(reports, made_by))
                ranked[key] = found or await trial(request, asked)
        return ElementsAnswer(**ranked[key])

    async def trial(request: Request, asked: Asked) -> dict[str, Any]:
        quick = service.ask(
            asked.served.name, QUICK_STEPS, "ab3", "whitened", asked.model.grouping.order
        )
        tried = trial_elements(asked.model)
        z = trial_latents(asked.model, tried)
        parts = []
        for part in torch.split(z, service.config.batch_size):
            parts.append((await finished(request, _submit(service, quick, part)))["x"].cpu())
        return trial_effects(torch.cat(parts), tried)

    @app.post(
        "/v1/neighbours",
        tags=["stores"],
        summary="Find the images of a store that are nearest to one, by band",
        responses=refusals_of_body,
    )
    async def neighbours(
        request: Request, asked: Annotated[Asked, chosen], body: Annotated[NearestRequest, Body()]
    ) -> list[NearestAnswer]:
        with refusing():
            store = service.stored(body.store, asked)
        z = await exchange.latents_given(request, asked, body)
        with refusing():
            if len(z) != 1:
                raise ValueError(f"images, z, ids: {len(z)} given; neighbours are of one image")
        own = body.ids[0] if body.ids else None
        found = await _thread(lambda: store.nearest(z[0], body.bands, body.n, own))
        return [await answer_of(request, store, each, body.pictures) for each in found]

    async def answer_of(
        request: Request, store: ServedStore, found: Neighbours, with_pictures: bool
    ) -> NearestAnswer:
        rows = [int(row) for row in found.rows]
        images = await pictures.of(request, store, rows) if with_pictures else [None] * len(rows)
        return NearestAnswer(
            band=found.band,
            near_duplicate=found.near_duplicate,
            closer=found.closer if found.of else None,
            of=found.of,
            typical=found.typical if found.of else None,
            neighbours=[
                NeighbourAnswer(**store.item(row), image=image, distance=float(distance))
                for row, image, distance in zip(rows, images, found.distances, strict=True)
            ],
        )

    @app.post(
        "/v1/directions",
        tags=["stores"],
        summary="Learn a direction from labels, and say how well it tells them apart",
        responses=refusals_of_body,
    )
    async def directions(
        request: Request, asked: Annotated[Asked, chosen], body: Annotated[Learned, Body()]
    ) -> DirectionAnswer:
        with refusing():
            store = service.stored(body.store, asked)
        found = await _thread(lambda: store.learn(body))
        value, low, high = found.accuracy
        return DirectionAnswer(
            said=found.sentences(),
            band=found.band,
            positive=found.positive,
            negative=found.negative,
            n=list(found.n),
            accuracy=EstimateAnswer(value=value, low=low, high=high),
            chance=list(found.chance),
            better_than_chance=found.better_than_chance,
            spread=found.spread,
            vector=found.vector.tolist(),
            moves=[MovedAnswer(**asdict(each)) for each in found.moves],
        )
