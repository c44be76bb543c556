"""Feature extractors phi(x), and the distance ||phi(a) - phi(b)||^2 that each of them gives.

The paper measures perceptual variance in features of VGG-19 and names no layer (Sec. 4.2). Here
the default is ``vgg19`` at ``relu5_4``, averaged over places: 512 numbers that tell what is in the
image and little of where. ``pixels`` and ``dct`` are the controls any claim about features needs.

Images x are (B, C, H, W) in [-1, 1], gray or RGB. For a network they are resized (bilinear,
antialiased) to a square of ``input_size``, gray is repeated in three channels, and the colours are
normalised as in the network's training. Features depend on nothing but the image and the settings
in :meth:`Extractor.fingerprint`: not on the batch size, and but for rounding not on the device.
Of several layers the features stand side by side, unscaled: the layer with the larger values or
the larger map weighs more in a distance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gdm_repr.analysis.features.images import (
    RESIZE,
    InputSize,
    check_size,
    evaluate,
    normalise,
    resize,
    rgb,
)
from gdm_repr.analysis.features.networks import (
    FAMILIES,
    Backbone,
    check_layers,
    layer_outputs,
    lite0_backbone,
    torchvision_backbone,
)
from gdm_repr.analysis.features.pretrained import Weights, find_weights, load_weights, read_state
from gdm_repr.basis import Basis, build_basis
from gdm_repr.boundary.isolation import isolated

DEFAULT = "vgg19"


class Distance(Protocol):
    """A distance between images, 0 for equal ones."""

    @property
    def name(self) -> str:
        """Name in the registry."""

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the distances (B,) of images a and b, each (B, C, H, W) in [-1, 1]."""

    def fingerprint(self) -> dict[str, Any]:
        """Return what determines the numbers, as JSON holds it."""


@dataclass(frozen=True, eq=False)
class Extractor:
    """phi: images to features; see :func:`build_extractor`.

    Attributes:
        name: as given to :func:`build_extractor`.
        layers: modules of the network, friendlier names resolved; none for pixels and DCT.
        pooled: whether maps were averaged over places; None for pixels and DCT.
        input_size: side of the square that images are resized to, or ``"own"``.
        weights: the file; None for pixels and DCT.
        device: where it runs.
        batch_size: images at a time; changes memory and speed only.
        compute: the function of a chunk of images in float32, on the device.
    """

    name: str
    layers: tuple[str, ...]
    pooled: bool | None
    input_size: InputSize
    weights: Weights | None
    device: torch.device
    batch_size: int
    compute: Callable[[Tensor], Tensor]

    @isolated
    def __call__(self, x: Tensor) -> Tensor:
        """Return phi(x).

        Args:
            x: images (B, C, H, W) in [-1, 1], on any device.

        Returns:
            (B, F) float32 on x's device, without gradient.

        Raises:
            ValueError: for images of another shape or type.
        """
        return evaluate(self.compute, x, batch_size=self.batch_size, device=self.device)

    @isolated
    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Return ||phi(a) - phi(b)||^2, shape (B,).

        Its mean over independent a and b is twice the variance E||phi - E phi||^2 of Fig. 4(a).
        """
        return evaluate(
            lambda a, b: (self.compute(a) - self.compute(b)).square().sum(1),
            a,
            b,
            batch_size=self.batch_size,
            device=self.device,
        )

    def fingerprint(self) -> dict[str, Any]:
        """Return what determines the features, as JSON holds it."""
        return {
            "name": self.name,
            "layers": list(self.layers),
            "pooled": self.pooled,
            "input_size": self.input_size,
            "resize": RESIZE,
        } | weights_record(self.weights)


@dataclass(frozen=True)
class Network:
    """Row of the registry: a pretrained network.

    Attributes:
        backbone: describes a model by name.
        model: that name.
        layers: the default layers.
    """

    backbone: Callable[[str], Backbone]
    model: str
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Raw:
    """Row of the registry: the images' own values, any number of channels."""

    compute: Callable[[Tensor], Tensor]


def _pixels(x: Tensor) -> Tensor:
    """Return the images' own values (b, C*H*W)."""
    return x.flatten(1)


def _dct(x: Tensor) -> Tensor:
    """Return the DCT-II coefficients (b, C*d), lowest frequency first in each channel."""
    return _dct_basis((x.shape[2], x.shape[3])).forward(x).flatten(1)


@lru_cache(maxsize=4)
def _dct_basis(shape: tuple[int, int]) -> Basis:
    return build_basis("dct", shape)


EXTRACTORS: dict[str, Network | Raw] = {
    "vgg19": Network(torchvision_backbone, "vgg19", ("relu5_4",)),
    "inception": Network(torchvision_backbone, "inception_v3", ("avgpool",)),
    "efficientnet-lite0": Network(lite0_backbone, "efficientnet-lite0", ("pool",)),
    "pixels": Raw(_pixels),
    "dct": Raw(_dct),
}
"""Extractors by name. Besides them, ``FAMILY:MODEL:LAYER[,LAYER]`` of :data:`FAMILIES`.

``inception`` gives 2048 numbers from 299x299 pixels for Frechet distances. It is not the network
of published FID scores: that one was trained elsewhere (TensorFlow, 1008 outputs), pools
differently in its last blocks and sees images resized without antialiasing. Distances are good
for comparing with each other, not with papers.
"""


@isolated
def build_extractor(
    name: str = DEFAULT,
    *,
    layers: Sequence[str] = (),
    pooled: bool = True,
    input_size: InputSize | None = None,
    weights: Path | None = None,
    download: bool = False,
    device: torch.device | str = "cpu",
    batch_size: int = 32,
) -> Extractor:
    """Build an extractor by name.

    Args:
        name: a key of :data:`EXTRACTORS`, or as ``torchvision:resnet50:layer3`` or
            ``timm:NAME:LAYER,LAYER`` of any classifier of these libraries.
        layers: names of modules, ``reluB_N`` and ``poolB`` in VGG, ``blockN`` and ``pool`` in
            EfficientNet-Lite0; the name's or the registry's when empty.
        pooled: average maps over places; else they are flattened. Maps are taken as (F, H, W):
            some transformers' are (H, W, F), so leave those unpooled.
        input_size: side in pixels, or ``"own"`` to keep the images' size, enlarged to the
            network's smallest if need be; the size of the network's training when None, and the
            images' own for pixels and DCT.
        weights: file of weights, ``.safetensors`` or of torch.save; the published file in the
            torch hub cache when None.
        download: fetch the published file if it is missing.
        device: where to run.
        batch_size: images at a time.

    Raises:
        ValueError: for an unknown name, layer or size, or weights that are missing, damaged or
            another network's.

    Example:
        >>> build_extractor("pixels", input_size=8)(torch.zeros(2, 1, 32, 32)).shape
        torch.Size([2, 64])
    """
    row, own_layers = _row(name)
    device = torch.device(device)
    if isinstance(row, Raw):
        if layers or weights is not None:
            given = "layers" if layers else "weights"
            raise ValueError(f"{given}: extractor {name!r} has none; leave the option out")
        size = "own" if input_size is None else input_size
        check_size(size, 1, None)
        values = row.compute
        return Extractor(
            name,
            (),
            None,
            size,
            None,
            device,
            batch_size,
            lambda x: values(resize(x, size, 1)),
        )
    backbone = row.backbone(row.model)
    size = backbone.size if input_size is None else input_size
    check_size(size, backbone.least, backbone.fixed)
    chosen = tuple(backbone.aliases.get(layer, layer) for layer in layers or own_layers)
    network, file = _load(backbone, size, weights, download)
    check_layers(network, chosen)
    network.to(device)
    return Extractor(
        name,
        chosen,
        pooled,
        size,
        file,
        device,
        batch_size,
        lambda x: layer_outputs(
            network,
            chosen,
            pooled,
            normalise(rgb(resize(x, size, backbone.least)), *backbone.colours),
        ),
    )


def _load(
    backbone: Backbone, size: InputSize, weights: Path | None, download: bool
) -> tuple[nn.Module, Weights]:
    """Build a network with its weights, frozen; the global random state stays as it is."""
    file = find_weights(backbone.published, weights, download=download)
    state = backbone.convert(read_state(file.path))
    with torch.random.fork_rng(devices=[]):
        network = backbone.build(size)
    load_weights(network, state, file.path)
    return network.eval().requires_grad_(False), file


def weights_record(weights: Weights | None) -> dict[str, Any]:
    """Return a file's entry in a fingerprint."""
    if weights is None:
        return {"weights": None}
    return {
        "weights": {
            "file": weights.path.name,
            "sha256": weights.sha256,
            "published": weights.published,
        }
    }


def _row(name: str) -> tuple[Network | Raw, tuple[str, ...]]:
    """Return a registry row, made up for a family's model, and its default layers."""
    if name in EXTRACTORS:
        row = EXTRACTORS[name]
        return row, row.layers if isinstance(row, Network) else ()
    family, _, rest = name.partition(":")
    model, _, layers = rest.partition(":")
    if family not in FAMILIES or not model:
        families = ", ".join(f"{family}:MODEL:LAYER" for family in FAMILIES)
        raise ValueError(
            f"extractor {name!r}: unknown; choose from {', '.join(EXTRACTORS)} or {families}"
        )
    split = tuple(layer for layer in layers.split(",") if layer)
    return Network(FAMILIES[family], model, split), split
