"""Groupwise Diffusion Models: hierarchical, invertible representations of images.

Importing this package imports no heavy dependency; `GDM` is loaded on first use.
"""

from typing import TYPE_CHECKING

from gdm_repr.version import __version__

if TYPE_CHECKING:
    from gdm_repr.api import GDM

__all__ = ["GDM", "__version__"]


def __getattr__(name: str) -> object:
    """Import `GDM` when it is first asked for (PEP 562), so that ``--help`` stays fast."""
    if name == "GDM":
        from gdm_repr.api import GDM

        return GDM
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Name what is loaded on first use, too, so that completion and ``dir`` show it."""
    return sorted({*globals(), *__all__})
