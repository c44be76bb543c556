"""Feature extractors phi(x), and distances between images in their features.

Names are imported when they are first asked for (PEP 562): options name some of the submodules, and
``--help`` must stay fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gdm_repr.analysis.features.extractors import build_extractor

__all__ = [
    "build_extractor",
]

_HOMES = {
    "build_extractor": ".extractors",
}


def __getattr__(name: str) -> object:
    """Import a name of another module's."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    """Name what is loaded on first use, too."""
    return sorted({*globals(), *__all__})
