"""Ask a service (``gdm-repr serve``) from Python; needs requests and NumPy, and no torch.

from gdm_repr.client import Client
service = Client("http://127.0.0.1:8000")
z = service.encode(["a.png", "b.png"])    # (2, C, d), or of an array (B, C, H, W) in [-1, 1]
x = service.decode(z)                     # (2, C, H, W)
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import requests
from numpy.typing import NDArray

Array = NDArray[Any]
Images = Array | str | Path | Sequence[str | Path]
NPY = "application/x-npy"
TRIES = 5  # where the service has too much to do
SECONDS = 300.0


class Refused(ValueError):
    """The service refused a request; the message is its reason.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, reason: str) -> None:
        """Keep the status."""
        super().__init__(reason)
        self.status = status


class Client:
    """One service."""

    def __init__(self, url: str, *, key: str | None = None, seconds: float = SECONDS) -> None:
        """Keep what every request needs.

        Args:
            url: of the service, as ``http://127.0.0.1:8000``.
            key: that it asks for, if any.
            seconds: that an answer may take.
        """
        self._url, self._seconds = url.rstrip("/"), seconds
        self._session = requests.Session()
        if key is not None:
            self._session.headers["X-Api-Key"] = key

    def models(self) -> list[dict[str, Any]]:
        """Return the models: name, fingerprint, shape, bands, order."""
        found: list[dict[str, Any]] = self._answer("GET", "models", {}).json()
        return found

    def encode(self, images: Images, **options: object) -> Array:
        """Return latents (B, C, d), float32.

        Args:
            images: files, or an array (B, C, H, W) of floats in [-1, 1].
            options: ``model``, ``steps``, ``solver``, ``coordinate``, ``order``.

        Raises:
            Refused: if the service does not do it.
        """
        return self._array("encode", options, images)

    def errors(self, images: Images, **options: object) -> dict[str, list[Any]]:
        """Return each image's RMS errors of the steps and of the round trip, in all and by band.

        Arguments and errors are those of :meth:`encode`.
        """
        found: dict[str, list[Any]] = self._answer("POST", "reconstruct", options, images).json()[
            "errors"
        ]
        return found

    def reconstruct(self, images: Images, **options: object) -> Array:
        """Return decoded latents of images, (B, C, H, W); arguments as of :meth:`encode`."""
        return self._array("reconstruct", options, images)

    def decode(self, z: Array, **options: object) -> Array:
        """Return images (B, C, H, W), not clipped, of latents (B, C, d)."""
        return self._array("decode", options, z)

    def sample(self, n: int = 1, *, seed: int = 0, **options: object) -> Array:
        """Draw images (n, C, H, W), not clipped; number i depends on seed + i alone."""
        return self._array("sample", {"n": n, "seed": seed, **options})

    def stores(self) -> list[dict[str, Any]]:
        """Return the stores: name, model, number of images, labels and their values."""
        found: list[dict[str, Any]] = self._answer("GET", "stores", {}).json()
        return found

    def edit(
        self,
        operation: str,
        given: Array | Sequence[str],
        *,
        latents: bool = False,
        query: Mapping[str, object] = MappingProxyType({}),
        **body: object,
    ) -> Array:
        """Edit images through their latents.

        Args:
            operation: mix, vary, set, traverse, interpolate or direction.
            given: latents (B, C, d), or ids of a store's images.
            latents: return edited latents (E, C, d) and decode nothing.
            query: ``model``, ``steps``, ``solver``, ``coordinate``, ``order``.
            body: what the operation takes, as the service's page says: ``elements=["0"]``.

        Returns:
            Images (E, C, H, W), not clipped, or latents.

        Raises:
            Refused: if the service does not do it.
        """
        z = {"z": given.tolist()} if isinstance(given, np.ndarray) else {"ids": list(given)}
        options = {**query, "latents": "true" if latents else None}
        body = {"operation": operation, **z, **body}
        return _array_of(self._answer("POST", "edit", options, body, NPY))

    def neighbours(
        self,
        given: Array | str,
        *,
        query: Mapping[str, object] = MappingProxyType({}),
        **body: object,
    ) -> list[dict[str, Any]]:
        """Return a store's nearest images to one, by band.

        Args:
            given: its latents (1, C, d), or its id in the store, which is then passed over.
            query: ``model``.
            body: ``store``, ``bands``, ``n``.

        Raises:
            Refused: if the service does not do it.
        """
        one = {"z": given.tolist()} if isinstance(given, np.ndarray) else {"ids": [given]}
        found: list[dict[str, Any]] = self._answer(
            "POST", "neighbours", dict(query), {**one, **body}
        ).json()
        return found

    def direction(
        self, *, query: Mapping[str, object] = MappingProxyType({}), **learned: object
    ) -> dict[str, Any]:
        """Learn a direction from a store's labels; it says how well it tells them apart.

        Args:
            query: ``model``.
            learned: ``band``; ``label`` and ``value``, or ids ``positive`` and ``negative``.

        Raises:
            Refused: if the service does not do it.
        """
        found: dict[str, Any] = self._answer("POST", "directions", dict(query), learned).json()
        return found

    def _array(self, path: str, options: dict[str, Any], body: Images | None = None) -> Array:
        return _array_of(self._answer("POST", path, options, body, NPY))

    def _answer(
        self,
        method: str,
        path: str,
        options: dict[str, Any],
        body: Images | dict[str, Any] | None = None,
        accept: str = "application/json",
    ) -> requests.Response:
        """Send a request, and again where the service has too much to do."""
        for tried in range(TRIES):
            with ExitStack() as opened:
                answer = self._session.request(
                    method,
                    f"{self._url}/v1/{path}",
                    params={
                        name: _plain(value) for name, value in options.items() if value is not None
                    },
                    headers={"Accept": accept} | ({"Content-Type": NPY} if _held(body) else {}),
                    timeout=self._seconds,
                    **_body(body, opened),
                )
            if answer.status_code != requests.codes.too_many or tried == TRIES - 1:
                break
            time.sleep(float(answer.headers.get("Retry-After", "1")))
        if not answer.ok:
            try:
                reason = answer.json()["detail"]
            except (ValueError, KeyError):
                reason = answer.reason
            raise Refused(answer.status_code, str(reason))
        return answer


def _array_of(answer: requests.Response) -> Array:
    found: Array = np.load(io.BytesIO(answer.content), allow_pickle=False)
    return found


def _held(body: Images | dict[str, Any] | None) -> bool:
    return isinstance(body, np.ndarray)


def _plain(value: object) -> str:
    """Write an order as 0,1,2."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _body(body: Images | dict[str, Any] | None, opened: ExitStack) -> dict[str, Any]:
    """Return the body of a request: an array, JSON, or files of a form."""
    if body is None:
        return {}
    if isinstance(body, dict):
        return {"json": body}
    if isinstance(body, np.ndarray):
        buffer = io.BytesIO()
        np.save(buffer, body, allow_pickle=False)
        return {"data": buffer.getvalue()}
    paths = [body] if isinstance(body, str | Path) else body
    return {"files": [("images", opened.enter_context(Path(path).open("rb"))) for path in paths]}
