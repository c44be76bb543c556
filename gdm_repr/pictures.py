"""Sheets of images: rows and columns of x in [-1, 1] as one PNG, or as an animation.

Images of other than 1 (gray) or 3 (RGB) channels are shown as gray tiles of their channels, the
first at the top left.
"""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from gdm_repr.boundary.text import printable
from gdm_repr.files import safe_name, write_atomically
from gdm_repr.recipe import ARRAY, IMAGES, SHEET

SHEET_IMAGES = 64
SHEET_COLUMNS = 16
SHOWN_SIDE = 128  # pixels of an image in a notebook
_IN_PNG = (1, 3)  # channels


Array = NDArray[Any]
FRAME_MS = 150  # of an animation


def to_uint8(x: Array) -> Array:
    """Turn x (.., C, H, W) in [-1, 1], clipped, into levels 0..255 of shape (.., H, W, C)."""
    levels = np.rint((np.clip(x, -1, 1) + 1) * 127.5).astype(np.uint8)
    return np.moveaxis(levels, -3, -1)


def choose_format(asked: str | None, channels: int) -> str:
    """Return png or npy for images of so many channels; by default png where it holds them.

    Raises:
        ValueError: PNG is asked for, and keeps no such images.
    """
    if asked == "png" and channels not in _IN_PNG:
        raise ValueError(
            f"--format png: keeps 1 or 3 channels, and the model's images have {channels}; use npy"
        )
    return asked or ("png" if channels in _IN_PNG else "npy")


def channel_tiles(x: Array) -> Array:
    """Put the channels of images (.., C, H, W) beside each other, as (.., 1, h, w).

    Gray and RGB stay as they are. Between the channels is a white line.

    >>> channel_tiles(np.zeros((7, 5, 4, 6))).shape
    (7, 1, 9, 20)
    """
    *more, channels, height, width = x.shape
    if channels in _IN_PNG:
        return x
    across = math.ceil(math.sqrt(channels))
    down = math.ceil(channels / across)
    tiles = np.ones((*more, 1, down * (height + 1) - 1, across * (width + 1) - 1), x.dtype)
    for channel in range(channels):
        top, left = (height + 1) * (channel // across), (width + 1) * (channel % across)
        tiles[..., 0, top : top + height, left : left + width] = x[..., channel, :, :]
    return tiles


def _scale(x: Array, shown: Array, tile: int) -> int:
    """Return by what whole factor images are enlarged; to twice as much where shown as tiles."""
    return max(1, (tile if shown is x else 2 * tile) // int(max(shown.shape[-2:])))


def save_image(x: Array, path: Path) -> None:
    """Write one image (C, H, W) in [-1, 1]; one channel gives gray, three give RGB."""
    _save(_picture(to_uint8(x)), path)


def as_png(x: Array, *, optimize: bool = False) -> bytes:
    """Return one image (C, H, W) in [-1, 1] as a PNG file; of other channels, their tiles."""
    buffer = io.BytesIO()
    _picture(to_uint8(channel_tiles(x))).save(buffer, "png", optimize=optimize)
    return buffer.getvalue()


def as_thumbnail(x: Array, side: int) -> bytes:
    """Return one image (C, H, W) in [-1, 1] as a PNG file of at most ``side`` pixels a side."""
    picture, buffer = _picture(to_uint8(channel_tiles(x))), io.BytesIO()
    picture.thumbnail((side, side))
    picture.save(buffer, "png")
    return buffer.getvalue()


def png_bytes(x: Array) -> int:
    """Return how many bytes one image (C, H, W) in [-1, 1] takes as an optimised PNG."""
    return len(as_png(x, optimize=True))


def _save(image: Image.Image, path: Path, **options: Any) -> None:  # noqa: ANN401
    """Write a picture whole or not at all; not to wait for the disk is three times as fast."""
    kind = path.suffix.removeprefix(".")
    write_atomically(path, lambda temporary: image.save(temporary, kind, **options), sync=False)


def _picture(pixels: Array) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def as_html(x: Array, caption: str) -> str:
    """Return images (n, C, H, W) in [-1, 1] as a part of a page, above a caption.

    Small ones are enlarged by a whole factor, without smoothing, and the first 64 are shown; large
    ones are made smaller, and the first 16 are shown. Where images have other than 1 or 3 channels,
    every channel is a gray image.
    """
    if x.shape[1] not in _IN_PNG:
        x = x.reshape(-1, 1, *x.shape[2:])
    scale = SHOWN_SIDE // max(x.shape[2:])
    shown = []
    for pixels in to_uint8(x[: SHEET_IMAGES if scale else SHEET_COLUMNS]):
        picture = _picture(pixels)
        if not scale:
            picture.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
        width, height = (side * max(1, scale) for side in picture.size)
        buffer = io.BytesIO()
        picture.save(buffer, "png")
        shown.append(
            f'<img src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}" '
            f'width="{width}" height="{height}" style="image-rendering:pixelated;margin:2px">'
        )
    return f"<div>{''.join(shown)}</div><div>{escape(printable(caption))}</div>"


def save_sheet(rows: list[Array], path: Path, *, tile: int = 96, gap: int = 4) -> None:
    """Write rows of images, each (n, C, H, W), as one picture.

    Small images are enlarged by a whole factor, without smoothing, to about ``tile`` pixels.
    """
    shown = [channel_tiles(row) for row in rows]
    scale = _scale(rows[0], shown[0], tile)
    strips = []
    for row in shown:
        pixels = to_uint8(row).repeat(scale, axis=1).repeat(scale, axis=2)
        padded = np.pad(pixels, ((0, 0), (gap, gap), (gap, gap), (0, 0)), constant_values=255)
        strips.append(np.concatenate(list(padded), axis=1))
    picture = np.concatenate(strips, axis=0)
    _save(_picture(picture), path)


def as_grid(x: Array, columns: int) -> list[Array]:
    """Cut images (n, C, H, W) into rows of ``columns``; the last row is filled with white."""
    missing = -len(x) % columns
    full = np.concatenate([x, np.ones((missing, *x.shape[1:]), x.dtype)])
    return list(full.reshape(-1, columns, *x.shape[1:]))


@dataclass(frozen=True, eq=False)
class LabelledSheet:
    """A sheet with labels.

    Attributes:
        pixels: the picture, uint8 (height, width, 3).
        margin: width of the labels at its left.
        column: width of one column.
    """

    pixels: Array
    margin: int
    column: int

    def save(self, path: Path) -> None:
        """Write the picture."""
        _save(Image.fromarray(self.pixels), path)

    def save_animation(self, path: Path, *, still: int, moving: range) -> None:
        """Write a GIF, forth and back for ever.

        Args:
            path: the file.
            still: columns at the left that every frame shows.
            moving: columns that follow each other beside these.
        """
        fixed = self.pixels[:, : self.margin + still * self.column]
        starts = [self.margin + j * self.column for j in (*moving, *moving[-2:0:-1])]
        frames = [
            Image.fromarray(np.hstack([fixed, self.pixels[:, x : x + self.column]])) for x in starts
        ]
        _save(frames[0], path, save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0)


@dataclass(frozen=True, eq=False)
class Animation:
    """A sheet's columns one after the other; arguments of :meth:`LabelledSheet.save_animation`."""

    sheet: LabelledSheet
    still: int
    moving: range

    def save(self, path: Path) -> None:
        """Write the GIF."""
        self.sheet.save_animation(path, still=self.still, moving=self.moving)


def label_sheet(
    rows: Sequence[Array],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    *,
    tile: int = 96,
    gap: int = 4,
) -> LabelledSheet:
    """Draw rows of K images, each (K, C, H, W), with the labels of rows and of columns.

    Small images are enlarged by a whole factor, without smoothing, to about ``tile`` pixels.
    """
    row_labels = [printable(label, lines=True) for label in row_labels]
    column_labels = [printable(label, lines=True) for label in column_labels]
    shown = [channel_tiles(row) for row in rows]
    height, width = shown[0].shape[-2:]
    scale = _scale(rows[0], shown[0], tile)
    high, wide = height * scale, width * scale
    font = ImageFont.load_default(12)
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))

    def extent(label: str) -> tuple[int, int]:
        left, top, right, bottom = draw.multiline_textbbox((0, 0), label, font=font)
        return int(right - left) + 1, int(bottom - top) + 1

    sizes = [extent(label) for label in row_labels]
    margin = max(w for w, _ in sizes) + 2 * gap
    line = max(high, max(h for _, h in sizes)) + gap
    column = max(wide, max(extent(label)[0] for label in column_labels)) + gap
    top = max(extent(label)[1] for label in column_labels) + 3 * gap
    picture = Image.new(
        "RGB", (margin + column * len(column_labels), top + line * len(rows)), "white"
    )
    draw = ImageDraw.Draw(picture)
    for j, label in enumerate(column_labels):
        draw.multiline_text((margin + j * column, gap), label, fill="black", font=font)
    for i, (row, label) in enumerate(zip(shown, row_labels, strict=True)):
        draw.multiline_text((gap, top + i * line), label, fill="black", font=font)
        for j, pixels in enumerate(to_uint8(row).repeat(scale, axis=1).repeat(scale, axis=2)):
            picture.paste(_picture(pixels), (margin + j * column, top + i * line))
    return LabelledSheet(np.asarray(picture), margin, column)


def image_file(name: str) -> str:
    """Return the relative path of one image's PNG file."""
    return f"{IMAGES}/{safe_name(name)}.png"


class ImageWriter:
    """Writes images as PNG files by id, or as one array; keeps the first ones for a sheet."""

    def __init__(self, out: Path, total: int, shape: Sequence[int], form: str) -> None:
        """Make the folder, and the array when ``form`` is npy: under another name till the end."""
        import numpy as np

        out.mkdir(parents=True, exist_ok=True)
        self.out, self.written = out, 0
        self.first: list[NDArray[np.float32]] = []
        self.array: Any = None
        self._unfinished = out / f".{ARRAY}.{os.getpid()}.0.tmp"
        if form == "npy":
            self.array = np.lib.format.open_memmap(
                self._unfinished, mode="w+", dtype=np.float32, shape=(total, *shape)
            )

    def skip(self, ids: Sequence[str]) -> bool:
        """Pass over images that an earlier run has written; the first ones are never passed over.

        Returns:
            Whether they are all there.
        """
        if self.array is not None or len(self.first) < SHEET_IMAGES:
            return False
        paths = [self.out / image_file(name) for name in ids]
        if not all(path.is_file() and path.stat().st_size for path in paths):
            return False
        self.written += len(ids)
        return True

    def write(self, x: NDArray[np.float32], ids: Sequence[str]) -> None:
        """Write images (n, C, H, W) in [-1, 1]; PNG files are clipped and 8-bit, arrays are not."""
        self.first += list(x[: max(0, SHEET_IMAGES - len(self.first))])
        if self.array is not None:
            self.array[self.written : self.written + len(x)] = x
        else:
            for image, name in zip(x, ids, strict=True):
                path = self.out / image_file(name)
                path.parent.mkdir(parents=True, exist_ok=True)
                save_image(image, path)
        self.written += len(x)

    def finish(self) -> Path:
        """Flush, draw the sheet and return its path."""
        import numpy as np

        if self.array is not None:
            self.array.flush()
            self.array = None
            os.replace(self._unfinished, self.out / ARRAY)
        sheet = self.out / SHEET
        columns = min(SHEET_COLUMNS, len(self.first))
        save_sheet(as_grid(np.stack(self.first), columns), sheet)
        return sheet
