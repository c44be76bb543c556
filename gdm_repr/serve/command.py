"""Answer programs over HTTP: ``gdm-repr serve``."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gdm_repr.command import run
from gdm_repr.serve.options import ServeConfig

if TYPE_CHECKING:
    from gdm_repr.api import GDM

NEEDED = ("fastapi", "uvicorn", "multipart", "prometheus_client", "swagger_ui_bundle")
GRACE = 5.0  # seconds beside computing that answers under way get when the process is ended


def open_models(config: ServeConfig) -> dict[str, GDM]:
    """Open the models, by name.

    Raises:
        ValueError: if one is not found or can't be used, two have one name, or packages lack.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"gdm-repr serve needs {', '.join(missing)}: pip install 'gdm-repr[serve]'"
        )
    from gdm_repr.api import GDM

    models: dict[str, GDM] = {}
    for given in config.checkpoint:
        name, place = named(given)
        if name in models:
            raise ValueError(
                f"--checkpoint {given!r}: another is called {name!r}; name one, as other={place}"
            )
        models[name] = GDM.from_pretrained(place, device=config.device, precision=config.precision)
    return models


def named(given: str) -> tuple[str, str]:
    """Split ``NAME=MODEL``; without a name it is that of the file or its folder.

    >>> named("a=runs/digits"), named("runs/digits/model.safetensors"), named("scenes")
    (('a', 'runs/digits'), ('digits', 'runs/digits/model.safetensors'), ('scenes', 'scenes'))

    Raises:
        ValueError: for a name of other than letters, digits, dots, dashes and underscores.
    """
    from pathlib import PurePath

    name, mark, place = given.partition("=")
    if not mark:
        path = PurePath(given)
        name, place = (path.parent if path.suffix else path).name or path.stem, given
    if not place or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise ValueError(
            f"--checkpoint {given!r}: give NAME=MODEL, with a name of letters, digits, . - and _"
        )
    return name, place


def serve(config: ServeConfig) -> int:
    """Run the command."""
    models = open_models(config)
    import uvicorn

    from gdm_repr.serve.app import build_app
    from gdm_repr.serve.door import Metrics
    from gdm_repr.serve.service import Service

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    metrics = Metrics()
    app = build_app(Service(models, config, seen=metrics.batch), metrics, config.key())
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
        opened=open_models,
        go_on="what was accepted is answered",
    )
