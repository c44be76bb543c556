"""Servers for tests that need minutes, a browser or another program; `make e2e` runs them."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.server import Server


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Start servers: ``serve("--batch-size", "4")``; see :meth:`Server.start`."""
    started: list[Server] = []

    def start(*flags: str, log: Path | None = None, before: str = "") -> Server:
        log = log or tmp_path_factory.mktemp("serve") / "log"
        started.append(Server.start(log, *flags, before=before))
        return started[-1]

    yield start
    for server in started:
        server.kill()


@pytest.fixture(scope="session")
def server(serve: Callable[..., Server]) -> Iterator[Server]:
    """The shipped model by default options, for all tests that leave it as it is."""
    server = serve()
    yield server
    assert server.stop() == 128 + signal.SIGTERM
