"""Groups S_1..S_k of the data's elements and the order in which they are generated (Sec. 3.1, 4.1).

Notation. Data has C channels of d = H*W elements each. A grouping is an index map: element n of
channel c belongs to group ``index[c, n]``, numbered from 0. With one row the map holds for every
channel (index n then means C numbers); with C rows the grouping separates channels. Elements are
counted in the basis's order: raster order for pixels, lowest frequency first for GDM-F.

The *generation order* lists groups as the sampler makes them; the *diffusion order*, in which the
forward process turns them to noise, is its reverse. Every strategy numbers its groups so that
generating 0, 1, .., k-1 is the paper's order.

A strategy is a function of (C, H, W) and its own options that returns an (H, W) or (d,) map of
group numbers, and one row in :data:`STRATEGIES`.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gdm_repr.boundary.arguments import integers
from gdm_repr.boundary.isolation import isolated
from gdm_repr.boundary.npy_file import map_npy

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, int, int]
IndexMap = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Grouping:
    """Partition of d elements (or C*d, when channels are separated) into k ordered groups.

    Attributes:
        index: group number of each element, int64, shape (1, d) for all channels or (C, d).
        order: generation order, a permutation of 0..k-1.
        names: one short name per group, used for columns, metric keys and figures.

    Raises:
        ValueError: if the map is no partition into groups 0..k-1 or the order no permutation.
    """

    index: IndexMap
    order: tuple[int, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse non-partitions and non-permutations."""
        k = _count(self.index)
        if sorted(self.order) != list(range(k)):
            raise ValueError(
                f"order={list(self.order)} is no permutation of 0..{k - 1}; "
                f"name each of the {k} groups once"
            )
        if len(self.names) != k:
            raise ValueError(f"names: {len(self.names)} names for {k} groups; give one per group")

    @property
    def k(self) -> int:
        """Number of groups."""
        return len(self.order)

    @property
    def d(self) -> int:
        """Number of elements per channel."""
        return int(self.index.shape[1])

    @property
    def per_channel(self) -> bool:
        """Whether groups separate channels."""
        return len(self.index) > 1

    @property
    def diffusion_order(self) -> tuple[int, ...]:
        """Groups as the forward process turns them to noise: reverse of the generation order."""
        return self.order[::-1]

    def mask(self, group: int) -> NDArray[np.bool_]:
        """Return the members of a group, bool, shape (1 or C, d)."""
        members: NDArray[np.bool_] = self.index == group
        return members

    def sizes(self) -> tuple[int, ...]:
        """Return the number of elements of each group."""
        return tuple(np.bincount(self.index.ravel(), minlength=self.k).tolist())

    def store_order(self) -> IndexMap:
        """Return the elements group by group, each group in index order, shape (d,) or (C*d,)."""
        return np.argsort(self.index.ravel(), kind="stable").astype(np.int64)

    def fingerprint(self) -> str:
        """Return a SHA-256 of the map and the order, equal on every machine."""
        digest = hashlib.sha256()
        digest.update(repr(self.index.shape).encode())
        digest.update(np.ascontiguousarray(self.index, dtype="<i8").tobytes())
        digest.update(np.asarray(self.order, dtype="<i8").tobytes())
        return digest.hexdigest()

    def with_order(self, order: Sequence[int]) -> Grouping:
        """Return the same groups generated in another order."""
        return Grouping(self.index, integers(order, "order"), self.names)


def _count(index: IndexMap) -> int:
    """Return the number of groups of a map, which must be a partition into groups 0..k-1."""
    numbers = np.unique(index)
    k = int(numbers.size)
    if k == 0 or not np.array_equal(numbers, np.arange(k)):
        shown = ", ".join(map(str, numbers[:8])) + (", .." if k > 8 else "")
        raise ValueError(
            f"grouping: the group numbers {shown} are no partition; number the groups "
            "0, 1, 2, .. without a gap, so that each holds at least one element"
        )
    return k


def single(shape: Shape) -> IndexMap:
    """Put all elements into one group: the ordinary diffusion model, k = 1."""
    return np.zeros(shape[1:], np.int64)


def elementwise(shape: Shape) -> IndexMap:
    """Give each element a group of its own, k = d, in index order (Fig. 1a, Prop. 3.1)."""
    return np.arange(shape[1] * shape[2])


def _split(length: int, parts: int, name: str) -> IndexMap:
    """Number ``length`` places by ``parts`` nearly equal runs, the longer ones first."""
    if not 1 <= parts <= length:
        raise ValueError(
            f"grouping.{name}={parts}: must be between 1 and {length}, the number of places there"
        )
    runs = np.array_split(np.arange(length), parts)
    return np.concatenate([np.full(run.size, i) for i, run in enumerate(runs)])


def bottom_to_top(shape: Shape, *, k: int = 2) -> IndexMap:
    """Cut the image into k horizontal strips, the bottom one generated first (Table 1)."""
    strips = _split(shape[1], k, "k")[::-1]
    return np.repeat(strips[:, None], shape[2], axis=1)


def right_to_left(shape: Shape, *, k: int = 2) -> IndexMap:
    """Cut the image into k vertical strips, the rightmost generated first (Table 1, Fig. 11)."""
    strips = _split(shape[2], k, "k")[::-1]
    return np.repeat(strips[None, :], shape[1], axis=0)


def cdm(shape: Shape, *, levels: int = 2) -> IndexMap:
    """Group pixels as a cascade without low-pass filtering does (Prop. 3.2, Fig. 13).

    Group 0 is every 2^(levels-1)-th pixel in both directions; each further group adds the pixels
    that double the resolution.

    Raises:
        ValueError: if the image is too small for that many levels.
    """
    smallest = min(size for size in shape[1:] if size > 1) if max(shape[1:]) > 1 else 1
    if not 1 <= levels <= smallest.bit_length():  # so that 2^(levels - 1) <= smallest
        raise ValueError(
            f"grouping.levels={levels}: 2**(levels-1) must not exceed the shorter side, "
            f"{smallest}; use fewer levels"
        )
    rows, cols = np.indices(shape[1:])
    index = np.full(shape[1:], levels - 1)
    for level in reversed(range(levels - 1)):
        stride = 2 ** (levels - 1 - level)
        index[(rows % stride == 0) & (cols % stride == 0)] = level
    return index


def cdm_inverse(shape: Shape, *, levels: int = 2) -> IndexMap:
    """Group as :func:`cdm` and generate the finest pixels first (Table 1)."""
    return levels - 1 - cdm(shape, levels=levels)


def blocks(shape: Shape, *, rows: int = 3, cols: int = 3) -> IndexMap:
    """Cut the image into rows x cols blocks in raster order (Fig. 1b, Fig. 5).

    Sides that do not divide evenly give the first blocks one pixel more: 32 / 3 is 11, 11, 10.
    """
    row = _split(shape[1], rows, "rows")
    col = _split(shape[2], cols, "cols")
    index: IndexMap = row[:, None] * cols + col[None, :]
    return index


def bands(shape: Shape, *, cuts: Sequence[int] = ()) -> IndexMap:
    """Cut the basis's order into bands [0, c_1), [c_1, c_2), .., [c_m, d), lowest first (Sec. 4.3).

    Raises:
        ValueError: if the cuts do not increase strictly inside (0, d).
    """
    d = shape[1] * shape[2]
    edges = [0, *cuts, d]
    if any(low >= high for low, high in pairwise(edges)):
        raise ValueError(
            f"grouping.cuts={list(cuts)}: cuts must increase strictly between 0 and d={d}"
        )
    return np.repeat(np.arange(len(edges) - 1), np.diff(edges))


def from_file(shape: Shape, *, path: str = "") -> IndexMap:
    """Read group numbers from a ``.npy`` file of shape (H, W), (d,), (C, H, W) or (C, d).

    Raises:
        ValueError: if the file is missing, is no integer array or has another shape.
    """
    try:
        index = np.array(map_npy(Path(path)))
    except (OSError, ValueError) as error:
        raise ValueError(f"grouping.path={path!r}: not a readable .npy file ({error})") from error
    channels, height, width = shape
    flat = (height * width,)
    allowed = ((height, width), flat, (channels, height, width), (channels, *flat))
    if index.shape not in allowed or index.dtype.kind not in "iu":
        raise ValueError(
            f"grouping.path={path!r}: holds {index.dtype} of shape {index.shape}; must be integers "
            f"of shape {' or '.join(map(str, allowed))}"
        )
    numbers: IndexMap = index.astype(np.int64)
    return numbers


STRATEGIES: dict[str, Callable[..., IndexMap]] = {
    "single": single,
    "elementwise": elementwise,
    "bottom-to-top": bottom_to_top,
    "right-to-left": right_to_left,
    "cdm": cdm,
    "cdm-inverse": cdm_inverse,
    "blocks": blocks,
    "bands": bands,
    "file": from_file,
}


def build_grouping(
    name: str,
    shape: Shape,
    *,
    per_channel: bool = False,
    order: Sequence[int] | None = None,
    **options: object,
) -> Grouping:
    """Build a grouping by its strategy's name.

    Args:
        name: a key of :data:`STRATEGIES`.
        shape: (C, H, W) of the data.
        per_channel: split every group by channel; group j of channel c becomes number j*C + c.
        order: generation order; 0, 1, .., k-1 when None.
        **options: the strategy's own options.

    Raises:
        ValueError: for an unknown strategy or option, or a map or order that is refused.

    Example:
        >>> build_grouping("bands", (1, 8, 8), cuts=[4, 20]).sizes()
        (4, 16, 44)
    """
    if name not in STRATEGIES:
        raise ValueError(f"grouping.name={name!r}: unknown; choose from {', '.join(STRATEGIES)}")
    known = [p for p in inspect.signature(STRATEGIES[name]).parameters if p != "shape"]
    for option in options:
        if option not in known:
            takes = ", ".join(known) or "no option"
            raise ValueError(f"grouping.{option}: not an option of {name!r}, which takes {takes}")
    try:
        index = STRATEGIES[name](shape, **options)
    except TypeError as error:
        given = ", ".join(f"{option}={value!r}" for option, value in options.items())
        raise ValueError(f"grouping {name!r}: {given}: of the wrong type ({error})") from None
    d = shape[1] * shape[2]
    index = index.reshape(-1, d)
    if per_channel:
        if index.shape[0] > 1:
            raise ValueError("grouping.per_channel: the map separates channels already; drop it")
        index = index * shape[0] + np.arange(shape[0])[:, None]
    k = _count(index)
    return Grouping(index, tuple(range(k) if order is None else order), _names(index, k))


def _names(index: IndexMap, k: int) -> tuple[str, ...]:
    """Name a contiguous band by its first and last element as the paper does, others by number."""
    if k == 1:
        return ("all",)
    if len(index) > 1:
        return tuple(f"group{group}" for group in range(k))
    place = np.arange(index.size)
    first, last = np.full(k, index.size), np.zeros(k, np.int64)
    np.minimum.at(first, index[0], place)
    np.maximum.at(last, index[0], place)
    contiguous = last - first + 1 == np.bincount(index[0])
    return tuple(
        f"{first[group]}_{last[group]}" if contiguous[group] else f"group{group}"
        for group in range(k)
    )


@isolated
def group_std(grouping: Grouping, std: Tensor) -> list[float]:
    """Return the rms of each group's element stds, std of shape (C, d)."""
    index = np.broadcast_to(grouping.index, std.shape).ravel()
    square = std.double().square().cpu().numpy().ravel()
    rms: list[float] = np.sqrt(np.bincount(index, square) / np.bincount(index)).tolist()
    return rms


def draw_grouping(
    grouping: Grouping, shape: Shape, path: Path, positions: NDArray[np.int64] | None = None
) -> None:
    """Draw the groups as a picture, numbered by the order of generation.

    Args:
        grouping: the groups.
        shape: (C, H, W) of the data.
        path: the PNG or SVG to write.
        positions: (d, 2) row and column at which to draw each element, a basis's 2-D layout;
            raster order when None.
    """
    from matplotlib.figure import Figure

    channels, height, width = grouping.index.shape[0], *shape[1:]
    rank = np.argsort(np.asarray(grouping.order))[grouping.index]
    figure = Figure(figsize=(3.2 * channels + 0.9, 3.4), layout="constrained")
    panels = figure.subplots(1, channels, squeeze=False)[0]
    for channel, axes in enumerate(panels):
        picture = np.zeros((height, width))
        if positions is None:
            picture[:] = rank[channel].reshape(height, width)
        else:
            picture[positions[:, 0], positions[:, 1]] = rank[channel]
        image = axes.imshow(picture + 1, cmap="viridis", vmin=1, vmax=max(grouping.k, 2))
        axes.set_title("order of generation" + (f", channel {channel}" if channels > 1 else ""))
        axes.set_xlabel("column" if positions is None else "horizontal frequency")
        axes.set_ylabel("row" if positions is None else "vertical frequency")
    ticks = range(1, grouping.k + 1, -(-grouping.k // 10))  # ten at most
    figure.colorbar(image, ax=list(panels), ticks=list(ticks))
    figure.savefig(path, dpi=120)


@isolated
def rms_by_group(error: Tensor, grouping: Grouping) -> Tensor:
    """Return the RMS of errors (B, C, d) over each group's elements, shape (B, k)."""
    index = torch.from_numpy(grouping.index).to(error.device).expand(error.shape[1:])
    return torch.stack(
        [error[:, index == group].square().mean(1).sqrt() for group in range(grouping.k)], dim=1
    )
