"""From images x to what a network takes: checked, in chunks, resized, RGB, normalised.

Chunks run in float32 without TF32, autocast or cuDNN's search for the fastest algorithm, so that
features depend neither on the batch size nor on the precision the caller trains in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gdm_repr.boundary.isolation import isolated
from gdm_repr.progress import tick

RESIZE = "bilinear, antialiased"
InputSize = int | Literal["own"]
Colour = tuple[float, float, float]


@isolated
def evaluate(
    function: Callable[..., Tensor], *images: Tensor, batch_size: int, device: torch.device
) -> Tensor:
    """Call a function on chunks of images and join what it returns.

    Args:
        function: takes as many tensors (b, C, H, W) as ``images``, gives (b, ...).
        *images: each (B, C, H, W), floating point, on any device.
        batch_size: images a chunk.
        device: where the function runs.

    Returns:
        float32, on the device of the first images.

    Raises:
        ValueError: for images of another shape or type, or a batch size below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: must be at least 1 image")
    for x in images:
        _check(x, images[0])
    chunks = zip(*(torch.split(x, batch_size) for x in images), strict=True)
    with torch.no_grad(), _exact(device):
        results = []
        for chunk in chunks:
            results.append(function(*(x.to(device, torch.float32) for x in chunk)))
            tick()
    return torch.cat([result.to(images[0].device) for result in results])


@isolated
def resize(x: Tensor, size: InputSize, least: int) -> Tensor:
    """Resize images, bilinear and antialiased, which never leaves their range.

    Args:
        x: (b, C, H, W).
        size: side of the square they become, or ``"own"`` to keep their size; then images with a
            side shorter than ``least`` are enlarged in proportion until it has that length.
        least: the shortest side the network takes.

    Returns:
        (b, C, size, size), or (b, C, H', W') for ``"own"``.
    """
    height, width = x.shape[2:]
    if size == "own":
        grow = max(1.0, least / min(height, width))
        new = (round(grow * height), round(grow * width))
    else:
        new = (size, size)
    if new == (height, width):
        return x
    return interpolate(x, new, mode="bilinear", antialias=True, align_corners=False)


@isolated
def rgb(x: Tensor) -> Tensor:
    """Repeat gray images (b, 1, H, W) in three channels; leave RGB as it is.

    Raises:
        ValueError: for other numbers of channels.
    """
    if x.shape[1] not in (1, 3):
        raise ValueError(f"x: {x.shape[1]} channels; networks of images take 1 (gray) or 3 (RGB)")
    return x.expand(-1, 3, -1, -1)


@isolated
def normalise(x: Tensor, mean: Colour, std: Colour) -> Tensor:
    """Return ((x + 1) / 2 - mean) / std: x in [-1, 1], mean and std of values in [0, 1]."""
    shift, scale = (x.new_tensor(colour)[:, None, None] for colour in (mean, std))
    return ((x + 1) / 2 - shift) / scale


def check_size(size: InputSize, least: int, fixed: int | None) -> None:
    """Refuse input sizes a network can't take.

    Raises:
        ValueError: for a size below ``least``, or any but ``fixed`` where that is given.
    """
    if fixed is not None and size != fixed:
        raise ValueError(f"input_size={size!r}: this network takes {fixed} only")
    if size != "own" and size < least:
        raise ValueError(f"input_size={size!r}: must be 'own' or at least {least} pixels")


def _check(x: Tensor, first: Tensor) -> None:
    if x.ndim != 4 or 0 in x.shape:
        raise ValueError(f"x: shape {tuple(x.shape)}; must be (B, C, H, W), none of them 0")
    if not x.is_floating_point():
        raise ValueError(
            f"x: {x.dtype}; must be floating point in [-1, 1]: divide bytes by 127.5, subtract 1"
        )
    if x.shape != first.shape:
        raise ValueError(
            f"a, b: shapes {tuple(first.shape)} and {tuple(x.shape)} differ; compare equal shapes"
        )


@contextmanager
def _exact(device: torch.device) -> Iterator[None]:
    precision = torch.get_float32_matmul_precision()
    cudnn = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    torch.set_float32_matmul_precision("highest")
    try:
        with cudnn, torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
