"""The latent store: grouped latents of a data set, read lazily, band by band.

Names are imported when they are first asked for (PEP 562): options name some of the submodules, and
``--help`` must stay fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gdm_repr.data.quarantine import Rejected
    from gdm_repr.latents.format import Band, Manifest, label_type
    from gdm_repr.latents.store import LatentBatch, LatentStore, data_of, open_store
    from gdm_repr.latents.writer import StoreWriter, require_same

__all__ = [
    "Band",
    "LatentBatch",
    "LatentStore",
    "Manifest",
    "Rejected",
    "StoreWriter",
    "data_of",
    "label_type",
    "open_store",
    "require_same",
]

_HOMES = {
    "Band": ".format",
    "LatentBatch": ".store",
    "LatentStore": ".store",
    "Manifest": ".format",
    "Rejected": "gdm_repr.data.quarantine",
    "StoreWriter": ".writer",
    "data_of": ".store",
    "label_type": ".format",
    "open_store": ".store",
    "require_same": ".writer",
}


def __getattr__(name: str) -> object:
    """Import a name of another module's."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    """Name what is loaded on first use, too."""
    return sorted({*globals(), *__all__})
