"""Images as x in [-1, 1], with ids and labels; what can't be read goes to the quarantine.

Names are imported when they are first asked for (PEP 562): options name some of the submodules, and
``--help`` must stay fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gdm_repr.data.dataset import Batch, ImageDataset
    from gdm_repr.data.images import Preprocess
    from gdm_repr.data.loading import load, open_begun, open_data, work_ahead
    from gdm_repr.data.quarantine import QuarantineLog, Rejected

__all__ = [
    "Batch",
    "ImageDataset",
    "Preprocess",
    "QuarantineLog",
    "Rejected",
    "load",
    "open_begun",
    "open_data",
    "work_ahead",
]

_HOMES = {
    "Batch": ".dataset",
    "ImageDataset": ".dataset",
    "Preprocess": ".images",
    "QuarantineLog": ".quarantine",
    "Rejected": ".quarantine",
    "load": ".loading",
    "open_begun": ".loading",
    "open_data": ".loading",
    "work_ahead": ".loading",
}


def __getattr__(name: str) -> object:
    """Import a name of another module's."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    """Name what is loaded on first use, too."""
    return sorted({*globals(), *__all__})
