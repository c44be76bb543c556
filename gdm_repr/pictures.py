"""Sheets of images: rows and columns of x in [-1, 1] as one PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]


def to_uint8(x: Array) -> Array:
    """Turn x (.., C, H, W) in [-1, 1], clipped, into levels 0..255 of shape (.., H, W, C)."""
    levels = np.rint((np.clip(x, -1, 1) + 1) * 127.5).astype(np.uint8)
    return np.moveaxis(levels, -3, -1)


def save_image(x: Array, path: Path) -> None:
    """Write one image (C, H, W) in [-1, 1]; one channel gives gray, three give RGB."""
    pixels = to_uint8(x)
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path)


def save_sheet(rows: list[Array], path: Path, *, tile: int = 48, gap: int = 2) -> None:
    """Write rows of images, each (n, C, H, W), as one picture.

    Small images are enlarged by a whole factor, without smoothing, to about ``tile`` pixels.
    """
    scale = max(1, tile // max(rows[0].shape[-2:]))
    strips = []
    for row in rows:
        pixels = to_uint8(row).repeat(scale, axis=1).repeat(scale, axis=2)
        padded = np.pad(pixels, ((0, 0), (gap, gap), (gap, gap), (0, 0)), constant_values=255)
        strips.append(np.concatenate(list(padded), axis=1))
    picture = np.concatenate(strips, axis=0)
    Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(path)


def as_grid(x: Array, columns: int) -> list[Array]:
    """Cut images (n, C, H, W) into rows of ``columns``; the last row is filled with white."""
    missing = -len(x) % columns
    full = np.concatenate([x, np.ones((missing, *x.shape[1:]), x.dtype)])
    return list(full.reshape(-1, columns, *x.shape[1:]))
