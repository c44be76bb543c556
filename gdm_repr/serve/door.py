"""What every request passes: the key, the size of its body, one line in the log, and counting."""

from __future__ import annotations

import hmac
import logging
import time
from typing import TYPE_CHECKING
from urllib.parse import unquote

from fastapi import HTTPException
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOG = logging.getLogger("gdm_repr.serve")
# Without a key: for whoever watches the process, and the page that asks for the key.
OPEN = ("/", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")
PAGES = "/pages/"
COOKIE = "gdm-key"  # of the page
HELD = 8  # bodies of the largest size that are held at once
CROWDED = "too many large bodies at once; try again in a second"
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)


class Metrics:
    """Counts and times since the start."""

    media_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        """Begin at nothing."""
        self._registry = CollectorRegistry()
        kinds = ["path", "status"]
        self._requests = Counter("gdm_requests", "Requests.", kinds, registry=self._registry)
        self._seconds = Histogram(
            "gdm_request_seconds", "Seconds of a request.", ["path"], buckets=SECONDS,
            registry=self._registry,
        )  # fmt: skip
        self._images = Histogram(
            "gdm_batch_images", "Images of a batch.", buckets=SIZES, registry=self._registry
        )
        self._busy = Counter(
            "gdm_device_seconds", "Seconds in which batches were computed.",
            registry=self._registry,
        )  # fmt: skip
        self._jobs = Gauge("gdm_waiting_jobs", "Jobs that wait.", registry=self._registry)
        self._left = Gauge(
            "gdm_waiting_seconds", "Seconds that they and the running batch take.",
            registry=self._registry,
        )  # fmt: skip

    def batch(self, images: int, seconds: float) -> None:
        """Count a batch that was computed."""
        self._images.observe(images)
        self._busy.inc(seconds)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def text(self, waiting: tuple[int, float]) -> bytes:
        """Return everything in Prometheus's form."""
        self._jobs.set(waiting[0])
        self._left.set(waiting[1])
        found: bytes = generate_latest(self._registry)
        return found


class Door:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, key: str | None, most_bytes: int) -> None:
        """Keep the application, and what requests must keep to."""
        self._app, self._metrics = app, metrics
        self._key, self._most, self._held = key, most_bytes, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        root = scope.get("root_path", "").rstrip("/")
        if root and not f"{scope['path']}/".startswith(f"{root}/"):  # a proxy took it off
            scope = {**scope, "path": root + scope["path"]}
        began, status, seen = time.monotonic(), 500, 0

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            size = len(message.get("body", b""))
            seen += size
            self._held += size
            if size and seen > self._most:
                raise HTTPException(413, self._too_large())
            if size and self._held > HELD * self._most:
                raise HTTPException(429, CROWDED, {"Retry-After": "1"})
            return message

        try:
            refused = self._refusal(scope)
            if refused is not None:
                await refused(scope, receive, counted)
            else:
                await self._app(scope, limited, counted)
        finally:
            self._held -= seen
            seconds = time.monotonic() - began
            route = scope.get("route")
            path = getattr(route, "path", "other")
            self._metrics.request(path, status, seconds)
            LOG.info("%s %s %d %.3f s", scope["method"], path, status, seconds)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        path = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/"))
        said = "error" if path.startswith("/v2") else "detail"  # as each API has it
        if self._key is not None and path not in OPEN and not path.startswith(PAGES):
            given = (
                headers.get("x-api-key")
                or headers.get("authorization", "").removeprefix("Bearer ")
                or unquote(cookie_parser(headers.get("cookie", "")).get(COOKIE, ""))
            )
            if not hmac.compare_digest(given.encode(), self._key.encode()):
                return JSONResponse(
                    {said: "the key is missing or wrong: send it as X-Api-Key"},
                    401,
                    headers={"WWW-Authenticate": "Bearer"},
                )
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._most:
            return JSONResponse({said: self._too_large()}, 413)
        return None

    def _too_large(self) -> str:
        return f"the body is larger than {self._most:,} bytes; send fewer images at once"
