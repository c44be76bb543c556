"""How like two images are: PSNR and SSIM, computed on the values themselves.

Images are (B, C, H, W) in [-1, 1]. The numbers are those of the same images as bytes, 0..255: PSNR
sees differences only, and has the peak 2; SSIM compares means, so that it depends on where 0 is,
and is computed on values shifted to [0, 2].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from gdm_repr.boundary.isolation import isolated

PEAK = 2.0  # of values in [-1, 1]
CEILING = 100.0  # dB; beyond it differences are the rounding of float32
LEAST = 3  # pixels of a side that SSIM's window needs
WINDOW, SIGMA = 11, 1.5  # pixels; Wang et al. 2004
K1, K2 = 0.01, 0.03


@isolated
def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio, 10 log10(L^2 / mean (a - b)^2), of each image.

    Args:
        a: images (B, C, H, W) in [-1, 1].
        b: as many, of the same shape.

    Returns:
        (B,) float64, in dB, at most :data:`CEILING`, which equal images have, too.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> psnr(torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 4), 0.2)).round(decimals=3).tolist()
        [20.0]
    """
    _same_shape(a, b)
    error = (a.double() - b.double()).square().flatten(1).mean(1)
    return (10 * torch.log10(PEAK**2 / error)).clamp(max=CEILING)


@isolated
def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the structural similarity of each image (Wang, Bovik, Sheikh, Simoncelli 2004).

    Means, variances and covariance are weighted by a Gaussian of 11x11 pixels and std 1.5, at the
    places where it fits; the result is averaged over places and channels. In images that it does
    not fit (a side below 11) it shrinks to the largest odd size that does, its std in proportion:
    7x7 and 0.95 for 8x8 pixels. Such values are comparable only among images of one size.

    Args:
        a: images (B, C, H, W) in [-1, 1].
        b: as many, of the same shape.

    Returns:
        (B,) float64, at most 1, which only equal images have.

    Raises:
        ValueError: if the shapes differ, or a side is shorter than 3 pixels.
    """
    _same_shape(a, b)
    shortest = min(a.shape[2:])
    if shortest < LEAST:
        raise ValueError(
            f"a: {a.shape[2]}x{a.shape[3]} pixels; SSIM needs sides of {LEAST} or more"
        )
    size = min(WINDOW, shortest - (shortest + 1) % 2)
    weights = _gaussian(size, SIGMA * size / WINDOW).to(a.device)
    x, y = a.double() + 1, b.double() + 1  # luminance is counted from black
    mean_x, mean_y = _weighted(x, weights), _weighted(y, weights)
    var_x = _weighted(x * x, weights) - mean_x**2
    var_y = _weighted(y * y, weights) - mean_y**2
    covariance = _weighted(x * y, weights) - mean_x * mean_y
    c1, c2 = (K1 * PEAK) ** 2, (K2 * PEAK) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return (luminance * structure).flatten(1).mean(1)


def _gaussian(size: int, sigma: float) -> Tensor:
    """Return the 1-D weights (size,), which sum to 1, float64."""
    place = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    weights = torch.exp(-0.5 * (place / sigma) ** 2)
    return weights / weights.sum()


def _weighted(x: Tensor, weights: Tensor) -> Tensor:
    """Return weighted means of windows: (B, C, H, W) to (B, C, H - size + 1, W - size + 1)."""
    flat = x.flatten(0, 1)[:, None]
    rows = conv2d(flat, weights[None, None, :, None])
    means = conv2d(rows, weights[None, None, None, :])
    return means.reshape(*x.shape[:2], *means.shape[2:])


def _same_shape(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.ndim != 4 or not math.prod(a.shape):
        raise ValueError(
            f"a, b: shapes {tuple(a.shape)} and {tuple(b.shape)}; must be one and the same "
            "(B, C, H, W)"
        )
