"""Which features are the best at hand: those whose weights are on this machine."""

from __future__ import annotations

from collections.abc import Callable

from gdm_repr.analysis.features.extractors import DEFAULT
from gdm_repr.analysis.features.networks import lite0_backbone, torchvision_backbone
from gdm_repr.analysis.features.pretrained import Published

NETWORKS: dict[str, Callable[[], Published]] = {
    DEFAULT: lambda: torchvision_backbone(DEFAULT).published,
    "efficientnet-lite0": lambda: lite0_backbone("efficientnet-lite0").published,
}
"""Networks in the order of preference, each with where its weights are looked for."""
BESIDE = "pixels"  # beside a network, or alone without


def features_at_hand(channels: int) -> tuple[tuple[str, ...], str]:
    """Choose features by the weights that are there.

    Args:
        channels: of the images; networks of images take 1 or 3.

    Returns:
        Names for ``--features``, the main one first, and why, in sentences.
    """
    if channels not in (1, 3):
        return (BESIDE,), f"networks take images of 1 or 3 channels, not of {channels}"
    places = {name: published() for name, published in NETWORKS.items()}
    here = [name for name, at in places.items() if (at.folder / at.file).is_file()]
    if not here:
        return (BESIDE,), f"no network's weights are here. {_ways()}"
    if here[0] == DEFAULT:
        return (DEFAULT, BESIDE), f"the weights of {DEFAULT} are here"
    return (here[0], BESIDE), f"the weights of {DEFAULT} are not here. {_ways()}"


def _ways() -> str:
    where = NETWORKS[DEFAULT]()
    return f"--download fetches those of {DEFAULT}, or put {where.file} into {where.folder}"
