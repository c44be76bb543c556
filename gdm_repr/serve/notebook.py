"""The explorer in a notebook: the same server in a thread, shown in a frame."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdm_repr.command import build
from gdm_repr.serve.options import ServeConfig

if TYPE_CHECKING:
    from gdm_repr.api import GDM
    from gdm_repr.latents.store import LatentStore

STARTING = 60.0  # seconds


class Explorer:
    """A running explorer; a notebook shows its page.

    Attributes:
        url: of the page.
    """

    def __init__(self, service: Any, app: Any, height: int) -> None:  # noqa: ANN401
        """Serve in a thread, on a free port of this machine; use :func:`explore`."""
        import uvicorn

        self._height = height
        self._server = uvicorn.Server(
            uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", access_log=False)
        )
        self._thread = threading.Thread(target=self._server.run, name="explorer", daemon=True)
        self._thread.start()
        until = time.monotonic() + STARTING
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > until:
                service.worker.close()
                raise RuntimeError("the explorer's server did not start")
            time.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/"

    def __repr__(self) -> str:
        """Say where the page is."""
        return f"Explorer({self.url})"

    def _repr_html_(self) -> str:
        """Show the page in a notebook."""
        return (
            f'<iframe src="{self.url}" width="100%" height="{self._height}" '
            'style="border:1px solid #8884;border-radius:8px"></iframe>'
            f'<p>The same page: <a href="{self.url}" target="_blank">{self.url}</a></p>'
        )

    def close(self) -> None:
        """End the server, when what was accepted is answered."""
        self._server.should_exit = True
        self._thread.join()


def explore(
    model: GDM | str | Path,
    store: LatentStore | str | Path | None = None,
    *,
    reports: str | Path | None = None,
    height: int = 900,
) -> Explorer:
    """Show the explorer of a model in a notebook.

    The page is served on a free port of the machine that the notebook's kernel runs on, and only
    there. Where the browser is on another machine, forward that port.

    Args:
        model: the model, or its name or file, which the page can then tell in commands.
        store: latents that it made, or their folder.
        reports: folder of analyses to show beside.
        height: of the frame, in pixels.

    Returns:
        What shows the page; its ``close()`` ends the server.

    Raises:
        ValueError: if the store is another model's, or packages lack: ``gdm-repr[serve]``.
    """
    from gdm_repr.serve.command import open_stored, require_packages

    require_packages()
    from gdm_repr.api import GDM
    from gdm_repr.serve.app import build_app
    from gdm_repr.serve.door import Metrics
    from gdm_repr.serve.service import Service

    place = "model" if isinstance(model, GDM) else str(model)
    model = model if isinstance(model, GDM) else GDM.from_pretrained(model)
    config = build(
        ServeConfig, {"checkpoint": (f"model={place}",), "reports": reports}, "explore: "
    )
    stores = []
    if store is not None:
        path = str(getattr(store, "path", store))
        stores.append(open_stored("latents", path, {"model": model}))
    logging.getLogger("gdm_repr.serve").setLevel(logging.WARNING)
    metrics = Metrics()
    service = Service({"model": model}, config, stores=stores, seen=metrics.batch)
    return Explorer(service, build_app(service, metrics, None), height)
