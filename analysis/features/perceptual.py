"""Distances between images by name: LPIPS (Zhang et al. 2018), or any extractor's ||.||^2.

LPIPS compares the channels of a network's features place by place, weighted by how much people
saw of their change. It is no metric in features of its own choice and no squared norm; it is the
number other papers report. The ``lpips`` package holds the learned weights (version 0.1) and takes
the network's from torchvision; images of at least 64 pixels, the size it was calibrated on, keep
their size, smaller ones are enlarged.
"""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gdm_repr.analysis.features.extractors import Distance, build_extractor, weights_record
from gdm_repr.analysis.features.images import RESIZE, InputSize, check_size, evaluate, resize, rgb
from gdm_repr.analysis.features.networks import torchvision_backbone
from gdm_repr.analysis.features.pretrained import (
    StateDict,
    Weights,
    find_weights,
    load_weights,
    read_state,
)
from gdm_repr.boundary.isolation import isolated

CALIBRATED = 64  # pixels
LPIPS = {"lpips-vgg": "vgg16", "lpips-alex": "alexnet", "lpips-squeeze": "squeezenet1_1"}
"""LPIPS by name, and the torchvision network below it."""


@dataclass(frozen=True, eq=False)
class PerceptualDistance:
    """LPIPS; see :func:`build_distance`.

    Attributes:
        name: a key of :data:`LPIPS`.
        input_size: side of the square that images are resized to, or ``"own"``.
        weights: file of the network's weights.
        device: where it runs.
        batch_size: images at a time; changes memory and speed only.
        compute: the function of two chunks of RGB images in float32, on the device.
    """

    name: str
    input_size: InputSize
    weights: Weights
    device: torch.device
    batch_size: int
    compute: Callable[[Tensor, Tensor], Tensor]

    @isolated
    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Return LPIPS of images a and b.

        Args:
            a: images (B, C, H, W) in [-1, 1], gray or RGB, on any device.
            b: as many, of the same shape.

        Returns:
            (B,) float32 on a's device, at least 0, without gradient.

        Raises:
            ValueError: for images of another shape or type.
        """
        return evaluate(self._lpips, a, b, batch_size=self.batch_size, device=self.device)

    def fingerprint(self) -> dict[str, Any]:
        """Return what determines the distances, as JSON holds it."""
        return {
            "name": self.name,
            "lpips": importlib.metadata.version("lpips"),
            "input_size": self.input_size,
            "least_size": CALIBRATED,
            "resize": RESIZE,
        } | weights_record(self.weights)

    def _lpips(self, *images: Tensor) -> Tensor:
        a, b = (rgb(resize(x, self.input_size, CALIBRATED)) for x in images)
        return self.compute(a, b).flatten()


@isolated
def build_distance(
    name: str,
    *,
    layers: Sequence[str] = (),
    pooled: bool = True,
    input_size: InputSize | None = None,
    weights: Path | None = None,
    download: bool = False,
    device: torch.device | str = "cpu",
    batch_size: int = 32,
) -> Distance:
    """Build a distance by name.

    Args:
        name: a key of :data:`LPIPS`, or an extractor's name; its distance is ||phi(a) - phi(b)||^2.
        layers: of an extractor; LPIPS has its own.
        pooled: of an extractor; LPIPS always averages over places.
        input_size: side in pixels, or ``"own"``, which is what None means to LPIPS.
        weights: file of the network's weights; for LPIPS the torchvision network's.
        download: fetch the published file if it is missing.
        device: where to run.
        batch_size: images at a time.

    Raises:
        ValueError: as :func:`~gdm_repr.analysis.features.build_extractor`.

    Example:
        >>> a, b = torch.zeros(2, 1, 8, 8), torch.ones(2, 1, 8, 8)
        >>> build_distance("pixels").distance(a, b).tolist()
        [64.0, 64.0]
    """
    device = torch.device(device)
    if name not in LPIPS:
        return build_extractor(
            name,
            layers=layers,
            pooled=pooled,
            input_size=input_size,
            weights=weights,
            download=download,
            device=device,
            batch_size=batch_size,
        )
    if layers or not pooled:
        given = "layers" if layers else "pooled"
        raise ValueError(f"{given}: no option of {name!r}; leave it out")
    size = "own" if input_size is None else input_size
    trunk = torchvision_backbone(LPIPS[name])
    check_size(size, trunk.least, None)
    file = find_weights(trunk.published, weights, download=download)
    network = _heads(name)
    net = network.get_submodule("net")
    load_weights(net, _in_slices(read_state(file.path), net), file.path)
    network.eval().requires_grad_(False).to(device)
    return PerceptualDistance(name, size, file, device, batch_size, network)


def lpips_at_hand() -> str | None:
    """Return the first LPIPS whose network's weights are in the torch hub cache, None without."""
    for name in sorted(LPIPS):  # AlexNet's comes first, which its authors use for measuring
        published = torchvision_backbone(LPIPS[name]).published
        if (published.folder / published.file).is_file():
            return name
    return None


def _heads(name: str) -> nn.Module:
    """Build LPIPS with its learned weights over a network of no meaning."""
    import lpips  # takes a second

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls torchvision by a deprecated argument
        network: nn.Module = lpips.LPIPS(
            net=name.removeprefix("lpips-"), pnet_rand=True, verbose=False
        )
    return network


def _in_slices(state: StateDict, net: nn.Module) -> StateDict:
    """Rename torchvision's features.N as LPIPS has them, sliceK.N, and drop the classifier."""
    own = {key.partition(".")[2]: key for key in net.state_dict()}
    return {
        own.get(key.removeprefix("features."), key): value
        for key, value in state.items()
        if not key.startswith("classifier.")
    }
