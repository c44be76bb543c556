"""Procedural images with known factors at three spatial scales."""

from typing import TYPE_CHECKING

from gdm_repr.faces import hand_on

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

__getattr__, __dir__ = hand_on(
    __name__,
    {
        "Factors": ".factors",
        "SCENE_FACTORS": ".factors",
        "SceneFactor": ".factors",
        "held_out": ".factors",
        "render_scenes": ".factors",
        "scene_factors": ".factors",
    },
)
