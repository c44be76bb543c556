"""A data set of images as x in [-1, 1]: any items, in any order, the same every time.

Integer levels v in 0..L (255, 65535, or 16 for the digits) become x = 2 v / L - 1 or, dequantized,
x = 2 (v + u) / (L + 1) - 1 with u ~ U(0, 1) (`gdm_repr.data.dequantize`). Floats are used as they
are (`gdm_repr.data.sources.arrays` has the rule of their range). Gaussian noise is added where
asked for.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from gdm_repr.boundary.arguments import Rows, row_numbers
from gdm_repr.boundary.isolation import isolated
from gdm_repr.boundary.text import listed, printable
from gdm_repr.data.dequantize import dequantize, gaussian
from gdm_repr.data.hold_out import place
from gdm_repr.data.images import BadImage, Pixels, Preprocess, fit_pixels, to_channels
from gdm_repr.data.labels import Labels
from gdm_repr.data.quarantine import Rejected
from gdm_repr.data.selection import find_classes, spread
from gdm_repr.data.sources.registry import Source

if TYPE_CHECKING:
    import torch

Indices = slice | npt.NDArray[np.integer[Any]] | npt.NDArray[np.bool_] | Sequence[int]
"""Indices of one batch."""


@dataclass(frozen=True, eq=False, repr=False)
class Batch:
    """Items of a data set, B of which could be read.

    Attributes:
        index: Indices in the data set, (B,) int64.
        ids: B item ids.
        sources: B names of the source.
        x: Images (B, C, H, W), float32 in [-1, 1], on the CPU.
        labels: Columns of B values, None where missing.
        rejected: The items that were asked for and could not be read.
        held_out: Whether training held each image out, (B,) bool, where that was asked for.
    """

    index: npt.NDArray[np.int64]
    ids: list[str]
    sources: list[str]
    x: torch.Tensor
    labels: Labels
    rejected: list[Rejected]
    held_out: npt.NDArray[np.bool_] | None = None

    def __repr__(self) -> str:
        """Say how many images there are, the ids of the first ones, and their labels' names."""
        parts = [f"x {tuple(self.x.shape)}", f"ids {listed(self.ids, 4)}"]
        if self.labels:
            parts.append(f"labels {listed([*self.labels])}")
        if self.rejected:
            parts.append(f"{len(self.rejected)} rejected")
        return f"Batch({'; '.join(parts)})"

    def _repr_html_(self) -> str:
        """Show the images in a notebook."""
        from gdm_repr.pictures import as_html

        return as_html(self.x.numpy(), repr(self))

    def pin_memory(self) -> Batch:
        """Return the batch with x in page-locked memory, for copies that overlap with compute."""
        return replace(self, x=self.x.pin_memory())


@dataclass(frozen=True)
class _Layout:
    """What all items share: shape (C, H, W) of x, dtype and highest level of the pixels."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    levels: int


class ImageDataset:
    """Images of one shape, by index; made by `open_data`.

    Attributes:
        ids: One unique, stable name per item; tiles are "photo.png#r3c7".
        labels: Columns of one value per item, None where missing.
        source: Name of the source.
        preprocess: Settings the items are made with.
        chosen: How items were chosen where not all are used: a `sample`, or the `first`.
    """

    @isolated
    def __init__(
        self,
        source: Source,
        preprocess: Preprocess,
        labels: Labels,
        seed: int,
        *,
        limit: int | None = None,
        first: int | None = None,
    ) -> None:
        """List the items and find the layout of x in the first one that can be read.

        Raises:
            ValueError: No item can be read, or float data are to be dequantized.
        """
        self._source, self._seed = source, seed
        self.preprocess, self.source = preprocess, printable(source.name)
        self._last: tuple[int, Pixels | BadImage] | None = None
        self._placed: tuple[int, float] | None = None  # of the last image that was asked for
        self._memory: tuple[npt.NDArray[Any], npt.NDArray[np.int64], dict[int, str]] | None = None
        # One row an item: image, and row and column of the tile (0, 0 without tiles).
        self._items = _list_items(source, preprocess, first)
        self.chosen: Literal["sample", "first"] = "first" if limit is None else "sample"
        self._share, self._classes = 0.0, find_classes(labels)  # of images, not of tiles
        image_ids = [source.ids[image] for image in self._items[:, 0]]
        if preprocess.fit == "tile":
            cells = self._items[:, 1:].tolist()
            self.ids = [
                name if row < 0 else f"{name}#r{row}c{column}"
                for name, (row, column) in zip(image_ids, cells, strict=True)
            ]
        else:
            self.ids = image_ids
        self.labels: Labels = {
            name: [column[image] for image in self._items[:, 0]] for name, column in labels.items()
        }
        if limit is not None:
            self._keep(self._sample(limit))
        self._layout = self._find_layout()
        if preprocess.dequantize and self._layout.levels == 0:
            raise ValueError(
                f"dequantize=True needs integer levels, but {source.name!r} holds floats; "
                "turn it off or save uint8 or uint16"
            )

    def __repr__(self) -> str:
        """Say where the images are from, how many they are, their shape and their labels' names."""
        shape = "x".join(map(str, self.shape))
        labels = f"; labels {listed(self.label_names)}" if self.labels else ""
        return f"ImageDataset({self.source!r}; {len(self)} images of {shape}{labels})"

    def __len__(self) -> int:
        """Return the number of items, those that can't be read included."""
        return len(self.ids)

    @property
    def label_names(self) -> list[str]:
        """Names of the label columns."""
        return list(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of one x."""
        return self._layout.shape

    @property
    def levels(self) -> int:
        """Highest level of integer pixels, such as 255; 0 for float data."""
        return self._layout.levels

    @property
    def quantum(self) -> float:
        """Width of one level in units of x: 2/L, dequantized 2/(L + 1), 0 for float data."""
        levels = self._layout.levels
        return 2 / (levels + self.preprocess.dequantize) if levels else 0.0

    @isolated
    def pixels(self, index: int) -> Pixels:
        """Return one item as it is before it becomes x.

        Returns:
            Pixels (H, W, C): uint8 or uint16 levels, or float32 in [-1, 1].

        Raises:
            BadImage: The item can't be used.
        """
        pixels, layout = self._fitted(index), self._layout
        channels, *size = layout.shape
        if pixels.dtype != layout.dtype:
            bits, common = 8 * pixels.itemsize, 8 * layout.dtype.itemsize
            raise BadImage(f"{bits}-bit values among {common}-bit images")
        if list(pixels.shape[:2]) != size:
            got, wanted = "x".join(map(str, pixels.shape[:2])), "x".join(map(str, size))
            raise BadImage(f"{got} px among images of {wanted} px; set a size")
        if pixels.shape[2] == 3 and channels == 1 and self.preprocess.channels is None:
            raise BadImage("colour among gray images; set channels to 'rgb' or 'gray'")
        return to_channels(pixels, channels)

    def fingerprint(self) -> str:
        """Return a sha256 (hex) of all that x depends on, and of ids and labels; no path enters.

        Of files it takes name and size in bytes, of zip members the checksum, of arrays up to 1024
        evenly spaced images: an edit that keeps a file's size goes unnoticed.
        """
        random = self.preprocess.dequantize or self.preprocess.noise
        seed = self._seed if random else None
        head = [self.preprocess.fingerprint(), seed, self.ids, self.labels]
        digest = hashlib.sha256(json.dumps(head).encode())
        for part in self._source.content():
            digest.update(part)
        return digest.hexdigest()

    @isolated
    def batch(self, indices: Indices, draw: int = 0) -> Batch:
        """Return items in the order asked for, without those that can't be read.

        Args:
            indices: Indices, 0..len - 1, in any order, repeats are allowed; or a slice, or a
                boolean mask of len values.
            draw: Number of the dequantisation's noise; another draw gives other noise.

        Raises:
            IndexError: An index is out of range; it is a ValueError, too.
            ValueError: They are no indices.
        """
        import torch

        index, pixels, rejected, held_out = self._gather(self._numbers(indices))
        ids = [self.ids[i] for i in index]
        labels: Labels = {name: [column[i] for i in index] for name, column in self.labels.items()}
        x = torch.from_numpy(self._to_x(pixels, ids, draw))
        return Batch(index, ids, [self.source] * len(ids), x, labels, rejected, held_out)

    def __iter__(self) -> Iterator[torch.Tensor]:
        """Yield each item's x, (C, H, W), for what goes through images.

        Raises:
            ValueError: An item can't be read: those that follow would no longer fit the ids.
        """
        for index in range(len(self)):
            batch = self.batch([index])
            for bad in batch.rejected:
                raise ValueError(
                    f"image {bad.id!r}: {bad.reason}; leave it out, or take batches, which say "
                    "what they are without"
                )
            yield batch.x[0]

    def _numbers(self, indices: Rows) -> npt.NDArray[np.int64]:
        if indices is None:
            raise ValueError("indices=None: give numbers, a slice or a mask")
        return row_numbers(indices, len(self), "indices")

    @isolated
    def take(self, rows: Rows) -> ImageDataset:
        """Return some of the items, in the order asked for, as a data set of their own.

        Raises:
            ValueError: They are no indices, or none.
        """
        rows = self._numbers(rows)
        if not len(rows):
            raise ValueError(f"data {self.source!r}: none of its {len(self)} items is taken")
        taken = copy.copy(self)
        taken._keep(rows)
        return taken

    @isolated
    def sample(self, limit: int) -> ImageDataset:
        """Return a sample of at most so many items, as `open_data` takes it."""
        sample = self.take(self._sample(limit))
        sample.chosen = "sample"
        return sample

    def _sample(self, limit: int) -> npt.NDArray[np.int64]:
        images, classes = self._items[:, 0], self._classes
        column = None if classes is None else [classes[image] for image in images]
        return spread(len(self), limit, column)

    def _keep(self, rows: npt.NDArray[np.int64]) -> None:
        if self._memory is not None:
            pixels, places, reasons = self._memory
            rejected = {i: reasons[row] for i, row in enumerate(rows.tolist()) if row in reasons}
            self._memory = pixels, places[rows], rejected
        self._items = self._items[rows]
        self.ids = [self.ids[row] for row in rows]
        self.labels = {name: [column[row] for row in rows] for name, column in self.labels.items()}

    def marking(self, share: float) -> ImageDataset:
        """Return the data set with batches that say what training with ``hold_out=share`` left."""
        marking = copy.copy(self)
        marking._share = share
        return marking

    @isolated
    def place(self, index: int) -> float:
        """Return where an item's image lies in [0, 1), by its content (`gdm_repr.data.hold_out`).

        Raises:
            BadImage: The image can't be read.
        """
        image = int(self._items[index, 0])
        if self._placed is None or self._placed[0] != image:  # as of another tile of it
            self._placed = (image, place(self._decoded(image)))
        return self._placed[1]

    @isolated
    def in_memory(self) -> ImageDataset:
        """Return the same data set decoded once, as compact integers; batches are then gathers.

        It takes C*H*W bytes an item (twice that for 16 bits, four times for floats).
        """
        index, pixels, rejected, _ = self._gather(np.arange(len(self)))
        rows = np.full(len(self), -1, np.int64)
        rows[index] = np.arange(len(index))
        decoded = copy.copy(self)
        decoded._memory = (pixels, rows, {item.index: item.reason for item in rejected})
        decoded._last = self._last = None
        return decoded

    @property
    def is_in_memory(self) -> bool:
        """Whether the items are decoded already."""
        return self._memory is not None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the last decoded image behind when sent to another process."""
        return {**self.__dict__, "_last": None}

    def _gather(
        self, asked: npt.NDArray[np.int64]
    ) -> tuple[
        npt.NDArray[np.int64], npt.NDArray[Any], list[Rejected], npt.NDArray[np.bool_] | None
    ]:
        """Return indices, pixels (B, C, H, W) and marks of what can be read, and the others."""
        marks: list[bool] = []
        if self._memory is not None:
            stored, rows, reasons = self._memory
            row = rows[asked]
            pixels, reject = stored[row[row >= 0]], {i: reasons[i] for i in asked[row < 0].tolist()}
            if self._share:  # pixels are kept at the size of x; the hash is of the image's own
                marks = [self.place(i) < self._share for i in asked[row >= 0].tolist()]
        else:
            reject = {}
            pixels = np.empty((len(asked), *self.shape), self._layout.dtype)
            kept = 0
            for i in asked.tolist():
                try:
                    pixels[kept] = np.moveaxis(self.pixels(i), 2, 0)
                    kept += 1
                    if self._share:
                        marks.append(self.place(i) < self._share)
                except BadImage as error:
                    reject[i] = str(error)
            pixels = pixels[:kept]
        index = np.array([i for i in asked.tolist() if i not in reject], np.int64)
        rejected = [Rejected(i, self.ids[i], why) for i, why in reject.items()]
        return index, pixels, rejected, np.array(marks, bool) if self._share else None

    def _fitted(self, index: int) -> Pixels:
        """Return pixels of one item at the size asked for; raises BadImage."""
        image, row, column = self._items[index].tolist()
        pixels = self._decoded(image)
        return fit_pixels(pixels, self.preprocess, self._levels(pixels), (row, column))

    def _decoded(self, image: int) -> Pixels:
        """Return pixels of an image as the source has them; raises BadImage."""
        if self._last is None or self._last[0] != image:  # the tiles of an image come in a row
            try:
                self._last = (image, self._source.pixels(image, self.preprocess))
            except BadImage as error:
                self._last = (image, error)
        pixels = self._last[1]
        if isinstance(pixels, BadImage):
            raise pixels
        return pixels

    def _levels(self, pixels: Pixels) -> int:
        levels = self._source.levels
        return int(np.iinfo(pixels.dtype).max) if levels is None else levels

    def _find_layout(self) -> _Layout:
        reason = ""
        for index in range(len(self)):
            try:
                pixels = self._fitted(index)
                height, width, channels = pixels.shape
                wanted = {"rgb": 3, "gray": 1, None: channels}[self.preprocess.channels]
                to_channels(pixels, wanted)
            except BadImage as error:
                reason = reason or f"{self.ids[index]!r}: {error}"
                continue
            return _Layout((wanted, height, width), pixels.dtype, self._levels(pixels))
        if not len(self):
            raise ValueError(f"data {self.source!r} holds no images; give data with at least one")
        raise ValueError(
            f"data {self.source!r}: none of {len(self)} items can be used; first, {reason}"
        )

    def _to_x(self, pixels: npt.NDArray[Any], ids: list[str], draw: int) -> npt.NDArray[np.float32]:
        x, std = self._scaled(pixels, ids, draw), self.preprocess.noise
        if std:
            noise = gaussian(ids, pixels.shape[1:], seed=self._seed, draw=draw)
            x = x + np.float32(std) * noise
        return x

    def _scaled(
        self, pixels: npt.NDArray[Any], ids: list[str], draw: int
    ) -> npt.NDArray[np.float32]:
        levels = self._layout.levels
        if levels == 0:
            return np.ascontiguousarray(pixels, np.float32)
        if self.preprocess.dequantize:
            return dequantize(pixels, levels, ids, seed=self._seed, draw=draw)
        # Dividing first makes the ends exactly -1 and 1.
        return pixels.astype(np.float32) / np.float32(levels) * np.float32(2) - np.float32(1)


def _list_items(source: Source, preprocess: Preprocess, first: int | None) -> npt.NDArray[np.int64]:
    """List the items as rows (image, tile row, tile column); a bad image is one item, tile -1.

    To list tiles takes the header of every image, or of those that hold the first ones.
    """
    count = len(source.ids)
    if len(set(source.ids)) < count:
        raise ValueError(f"data {source.name!r} holds two images of one name; rename one of them")
    if preprocess.fit != "tile":
        items = np.zeros((count if first is None else min(count, first), 3), np.int64)
        items[:, 0] = np.arange(len(items))
        return items
    assert preprocess.shape is not None  # Preprocess refuses tiles without a size
    h, w = preprocess.shape
    cells: list[tuple[int, int, int]] = []
    for image in range(count):
        try:
            height, width = source.size(image, preprocess)
        except BadImage:
            height = width = 0
        tiles = [(image, r, c) for r in range(height // h) for c in range(width // w)]
        cells += tiles or [(image, -1, -1)]
        if first is not None and len(cells) >= first:
            break
    return np.array(cells[:first], np.int64).reshape(-1, 3)
