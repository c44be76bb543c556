"""Analyses of a trained model and its latents; imports as ``gdm_repr.analysis``.

>>> from gdm_repr.analysis import measure
>>> callable(measure)  # found = measure("band_variance", model, "latents", features="pixels")
True
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gdm_repr.analysis.runner import measure

__all__ = ["measure"]


def __getattr__(name: str) -> object:
    """Import :func:`gdm_repr.analysis.runner.measure` when it is asked for (PEP 562)."""
    if name == "measure":
        from gdm_repr.analysis.runner import measure

        return measure
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Name what is loaded on first use, too."""
    return sorted({*globals(), *__all__})
