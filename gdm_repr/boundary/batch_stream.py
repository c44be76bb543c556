"""One batch or many: images and latents as loaders, data sets and generators give them.

What is held at once is one batch: a tensor, an array, a picture, a list or tuple, a mapping of
columns. What is gone through is many: a DataLoader, a data set, a generator, any other iterable.
Each item of the many is itself a batch, or a single image (or latent), and those are gathered.
Around images may lie labels, which are ignored: the rest of an (images, labels) pair, and the other
columns of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, SupportsIndex, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from gdm_repr.boundary.arguments import count
from gdm_repr.boundary.text import listed

Result = TypeVar("Result")


class HoldsImages(Protocol):
    """What holds a batch of images under x, as :class:`gdm_repr.data.Batch` does."""

    @property
    def x(self) -> Any:  # noqa: ANN401, D102
        ...


class HoldsLatents(Protocol):
    """What holds a batch of latents under z, as an encoding does."""

    @property
    def z(self) -> Any:  # noqa: ANN401, D102
        ...


OneBatch = Tensor | NDArray[Any] | Image.Image | Sequence[Any] | Mapping[str, Any]
OneOfImages = OneBatch | HoldsImages
"""What is taken as one batch of images."""
OneOfLatents = OneBatch | HoldsLatents
"""What is taken as one batch of latents."""
Stream = Iterable[Any] | Dataset[Any]
"""What is gone through, batch by batch."""


@dataclass(frozen=True)
class Kind:
    """What is read.

    Attributes:
        name: of the argument, for errors; also the attribute under which our own batches hold it.
        noun: of one, for errors.
        ndim: dimensions of one; a batch has one more.
        shape: of one, for errors.
    """

    name: str
    noun: str
    ndim: int
    shape: str


IMAGES = Kind("x", "image", 3, "C, H, W")
LATENTS = Kind("z", "latent", 2, "C, d")


def apply(
    one: Callable[[Any], Result],
    values: object,
    kind: Kind,
    column: str | None,
    batch_size: SupportsIndex,
) -> Result | Iterator[Result]:
    """Call a function on what is held, or on each batch of what is gone through.

    Returns:
        The function's result, or an iterator that calls it when a result is asked for.

    Raises:
        ValueError: if the function refuses a batch, which the error then names.
    """
    size = count(batch_size, "batch_size")
    if not is_stream(values):
        return one(take(values, kind, column))
    return _each(one, batches(cast(Stream, values), kind, size, column))


def _each(one: Callable[[Any], Result], many: Iterator[Any]) -> Iterator[Result]:
    for number, batch in enumerate(many):
        try:
            result = one(batch)
        except ValueError as error:
            raise ValueError(f"batch {number}: {error}") from None
        yield result


def is_stream(values: object) -> bool:
    """Say whether values are gone through rather than held at once.

    >>> is_stream(iter([])), is_stream([]), is_stream(np.zeros(3))
    (True, False, False)
    """
    held = (Tensor, np.ndarray, Image.Image, Sequence, Mapping)
    if isinstance(values, held) or hasattr(values, "__array__"):
        return False
    return hasattr(values, "__iter__") or isinstance(values, Dataset)


def take(item: Any, kind: Kind, column: str | None = None) -> Any:  # noqa: ANN401
    """Return the images (or latents) of an item, without its labels and other columns.

    Args:
        item: a mapping of columns; a list or tuple, which is a batch if every entry is one image,
            and else a pair of which the first entry is taken; an object that holds them under the
            kind's name, as :class:`gdm_repr.data.Batch` does. Anything else is returned as it is.
        kind: what is looked for.
        column: which one to take of a mapping; the only one that holds any when None.

    Raises:
        ValueError: if a mapping has no such column, or not just one, or a pair has two of them.
    """
    if isinstance(item, Mapping):
        return _column(item, kind, column)
    if column is not None:
        raise ValueError(
            f"column={column!r}: {kind.name} has no columns (it is a {type(item).__name__}); "
            "leave column out"
        )
    if isinstance(item, list | tuple) and item:
        depths = [dimensions(each) for each in item]
        if set(depths) == {kind.ndim} or depths[0] not in (kind.ndim, kind.ndim + 1):
            return item
        if depths[0] in depths[1:]:  # the others would be lost without a word
            other = depths.index(depths[0], 1)
            raise ValueError(
                f"{kind.name}: entries 0 and {other} of a {type(item).__name__} could both be "
                f"{kind.noun}s; give one of them, or a generator of batches"
            )
        return item[0]
    if isinstance(item, Tensor | np.ndarray | Image.Image):
        return item
    return getattr(item, kind.name, item)


def batches(values: Stream, kind: Kind, size: int, column: str | None = None) -> Iterator[Any]:
    """Yield batches as they come; single images (or latents) are gathered, ``size`` at a time.

    Raises:
        ValueError: if an item is neither; it names the item.
    """
    gathered: list[Any] = []
    for number, item in enumerate(_items(values)):
        try:
            found = take(item, kind, column)
        except ValueError as error:
            raise ValueError(f"item {number}: {error}") from None
        depth = dimensions(found)
        if depth == kind.ndim:
            gathered.append(found)
        if gathered and (depth != kind.ndim or len(gathered) == size):
            yield gathered
            gathered = []
        if depth == kind.ndim + 1:
            yield found
        elif depth != kind.ndim:
            shape = getattr(found, "shape", None)
            what = type(found).__name__ if shape is None else f"of shape {tuple(shape)}"
            raise ValueError(
                f"item {number}: {kind.name} is {what}; must be one {kind.noun} ({kind.shape}) or "
                f"a batch (B, {kind.shape})"
            )
    if gathered:
        yield gathered


def dimensions(value: object) -> int | None:
    """Return how many dimensions a value has: a picture 3, a list one more than its first entry.

    >>> dimensions([[1.0, 2.0]]), dimensions("cat")
    (2, None)
    """
    if isinstance(value, Image.Image):
        return 3
    if isinstance(value, list | tuple) or (
        isinstance(value, Sequence) and not isinstance(value, str | bytes)
    ):
        inner = dimensions(value[0]) if len(value) else None
        return None if inner is None else inner + 1
    if isinstance(value, int | float):
        return 0
    ndim = getattr(value, "ndim", None)
    return ndim if isinstance(ndim, int) else None


def _items(values: Stream) -> Iterator[Any]:
    if isinstance(values, Iterable) or not hasattr(values, "__len__"):
        return iter(values)
    return (values[i] for i in range(len(values)))  # of a map-style data set


def _column(row: Mapping[str, Any], kind: Kind, column: str | None) -> Any:  # noqa: ANN401
    if column is not None:
        if column not in row:
            there = listed([*map(str, row)])
            raise ValueError(f"column={column!r}: not among {kind.name}'s columns, {there}")
        return row[column]
    found = [key for key in row if dimensions(row[key]) in (kind.ndim, kind.ndim + 1)]
    if len(found) == 1:
        return row[found[0]]
    if found:
        which = " and ".join(map(repr, found))
        raise ValueError(
            f"{kind.name}: its columns {which} could all be {kind.noun}s; say which, as "
            f"column={found[0]!r}"
        )
    raise ValueError(
        f"{kind.name}: none of its columns, {listed([*map(str, row)])}, holds {kind.noun}s; give "
        f"one with {kind.noun}s as arrays or tensors" + (", or PIL's" if kind.ndim == 3 else "")
    )
