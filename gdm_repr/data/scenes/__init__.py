"""Procedural images with known factors at three spatial scales.

Names are imported when they are first asked for (PEP 562): options name some of the submodules, and
``--help`` must stay fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gdm_repr.data.scenes.factors import (
        SCENE_FACTORS,
        Factors,
        SceneFactor,
        held_out,
        render_scenes,
        scene_factors,
    )

__all__ = [
    "SCENE_FACTORS",
    "Factors",
    "SceneFactor",
    "held_out",
    "render_scenes",
    "scene_factors",
]

_HOMES = {
    "Factors": ".factors",
    "SCENE_FACTORS": ".factors",
    "SceneFactor": ".factors",
    "held_out": ".factors",
    "render_scenes": ".factors",
    "scene_factors": ".factors",
}


def __getattr__(name: str) -> object:
    """Import a name of another module's."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    """Name what is loaded on first use, too."""
    return sorted({*globals(), *__all__})
