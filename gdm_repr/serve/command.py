"""Answer people and programs over HTTP: ``gdm-repr serve``."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gdm_repr.command import run
from gdm_repr.serve.options import ServeConfig

if TYPE_CHECKING:
    from gdm_repr.api import GDM
    from gdm_repr.serve.stores import ServedStore

NEEDED = ("fastapi", "uvicorn", "multipart", "prometheus_client", "swagger_ui_bundle")
GRACE = 5.0  # seconds beside computing that answers under way get when the process is ended


def open_work(config: ServeConfig) -> tuple[dict[str, GDM], list[ServedStore]]:
    """Open the models, by name, and the stores.

    Raises:
        ValueError: if one is not found or can't be used, two have one name, a store is of none of
            the models, or packages lack.
    """
    require_packages()
    stores = config.stores()
    from gdm_repr.api import GDM

    models = {
        name: GDM.from_pretrained(place, device=config.device, precision=config.precision)
        for name, place in config.models().items()
    }
    if config.reports is not None and not config.reports.is_dir():
        raise ValueError(f"--reports {str(config.reports)!r}: no such folder")
    return models, [
        open_stored(name, place, models, show=config.is_private) for name, place in stores.items()
    ]


def require_packages() -> None:
    """Refuse to begin without what serving needs.

    Raises:
        ValueError: naming the packages that lack.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"gdm-repr serve needs {', '.join(missing)}: pip install 'gdm-repr[serve]'"
        )


def open_stored(name: str, place: str, models: dict[str, GDM], *, show: bool = True) -> ServedStore:
    """Open a store of one of the models.

    Args:
        name: in requests.
        place: its folder.
        models: by name.
        show: whether clients may know the folder.

    Raises:
        ValueError: if it can't be read, or another model made it.
    """
    from gdm_repr.latents.matching import open_latents
    from gdm_repr.latents.store import open_store
    from gdm_repr.serve.stores import ServedStore

    made_by = open_store(place).manifest.fingerprint.get("checkpoint")
    for served, model in models.items():
        if model.checkpoint.fingerprint == made_by:
            model, store, _ = open_latents(Path(place), model)
            return ServedStore(name, place if show else name, store, served, model)
    raise ValueError(
        f"--latents {place!r}: none of the models made it ({', '.join(models)}); name the one that "
        "did as --checkpoint, too"
    )


def serve(config: ServeConfig) -> int:
    """Run the command."""
    models, stores = open_work(config)
    import uvicorn

    from gdm_repr.serve.app import build_app
    from gdm_repr.serve.door import Metrics
    from gdm_repr.serve.service import Service

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    metrics = Metrics()
    service = Service(models, config, stores=stores, seen=metrics.batch)
    app = build_app(service, metrics, config.key())
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=config.host,
            port=config.port,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=int(config.queue_seconds + config.most_seconds + GRACE),
        )
    )
    server.run()
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the options and run."""
    return run(
        ServeConfig,
        "serve",
        argv,
        serve,
        opened=open_work,
        go_on="what was accepted is answered",
    )
