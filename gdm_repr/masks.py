"""Which elements a question is about, as masks over latents: groups, first elements, bands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gdm_repr.boundary import numerals
from gdm_repr.boundary.arguments import integer
from gdm_repr.grouping import Grouping

NOTHING = "none"
_SHOWN = 8  # band names told in an error


Mask = NDArray[np.bool_]


def generation_order(grouping: Grouping) -> NDArray[np.int64]:
    """Return the elements as they are generated, (d,) or (C*d,); in a group by index.

    "The first m latents" are the first m of these. For bands, lowest first, it is 0, 1, .., d-1.
    """
    rank = np.argsort(np.asarray(grouping.order))[grouping.index.ravel()]
    return np.argsort(rank, kind="stable").astype(np.int64)


def first_elements(grouping: Grouping, m: int) -> Mask:
    """Return the first m latents of the generation order as a mask, bool, (1 or C, d).

    Raises:
        ValueError: if m is not in 0..d (0..C*d where a grouping separates channels).
    """
    total, m = grouping.index.size, integer(m, "m")
    if not 0 <= m <= total:
        raise ValueError(f"m={m}: must be between 0 and {total}, the number of elements")
    mask = np.zeros(total, np.bool_)
    mask[generation_order(grouping)[:m]] = True
    return mask.reshape(grouping.index.shape)


def group_elements(grouping: Grouping, groups: Sequence[int | str]) -> Mask:
    """Return the elements of some groups, by number or name, as a mask, bool, (1 or C, d).

    Raises:
        ValueError: if there is no such group.
    """
    mask = np.zeros(grouping.index.shape, np.bool_)
    for group in groups:
        named = group in grouping.names
        number = grouping.names.index(group) if named else group
        unknown = isinstance(group, str) and not named
        if unknown or integer(number, "group") not in range(grouping.k):
            raise ValueError(
                f"group {group!r}: unknown; choose a number below {grouping.k} or one of "
                f"{', '.join(grouping.names)}"
            )
        mask |= grouping.index == number
    return mask


def shared_groups(grouping: Grouping, same: Mask) -> int:
    """Return how many groups, from the first generated on, lie wholly inside a mask."""
    for rank, group in enumerate(grouping.order):
        if not same[grouping.mask(group)].all():
            return rank
    return grouping.k


def band_mask(spec: str, grouping: Grouping, channels: int) -> Mask:
    """Return the elements of bands, bool (C, d).

    Args:
        spec: parts joined by ``+``, each a group's name, a group's number, a range of indices in
            all channels such as ``0-29`` (the paper's [0, 29], its ends included), or ``none``.
        grouping: the groups.
        channels: C.

    Raises:
        ValueError: if there is no such band.

    Example:
        >>> from gdm_repr.grouping import build_grouping
        >>> bands = build_grouping("bands", (1, 2, 4), cuts=[2, 5])
        >>> [band_mask(spec, bands, 1).nonzero()[1].tolist() for spec in ("2_4", "0", "0-2+7-7")]
        [[2, 3, 4], [0, 1], [0, 1, 2, 7]]
    """
    mask = np.zeros((channels, grouping.d), np.bool_)
    for part in spec.split("+"):
        named = part in grouping.names
        group = grouping.names.index(part) if named else numerals.place(part)
        span = numerals.span(part)
        if group is not None and group < grouping.k:
            mask |= group_elements(grouping, [group])
        elif span and span[0] <= span[1] < grouping.d:
            mask[:, span[0] : span[1] + 1] = True
        elif part != NOTHING:
            names = ", ".join(grouping.names[:_SHOWN]) + (", .." if grouping.k > _SHOWN else "")
            raise ValueError(
                f"band {part!r}: unknown; give a name ({names}), a number below {grouping.k}, "
                f"indices such as 0-{grouping.d - 1}, or {NOTHING}"
            )
    return mask


def element_mask(spec: str, channels: int, d: int) -> Mask:
    """Return one element as a mask, bool (C, d).

    Args:
        spec: index n in all channels, as ``7``, or in channel c, as ``7:1``.
        channels: C.
        d: elements of a channel.

    Raises:
        ValueError: if there is no such element.

    Example:
        >>> element_mask("1:2", 3, 2).tolist()
        [[False, False], [False, False], [False, True]]
    """
    n, colon, c = spec.partition(":")
    index, channel = numerals.place(n), numerals.place(c) if colon else 0
    if index is None or channel is None or index >= d or channel >= channels:
        raise ValueError(
            f"element {spec!r}: unknown; give an index below {d}, as 7, or with a channel below "
            f"{channels}, as 7:0"
        )
    mask = np.zeros((channels, d), np.bool_)
    mask[channel if colon else slice(None), index] = True
    return mask


def untouched_groups(grouping: Grouping, changed: Mask) -> int:
    """Return how many groups, from the first generated on, have no element in a mask (C, d)."""
    same: Mask = ~changed
    if not grouping.per_channel:
        same = np.logical_and.reduce(same, axis=0, keepdims=True)
    return shared_groups(grouping, same)


def band_ends(grouping: Grouping) -> dict[str, int]:
    """Return how many latents are made when each group is done, in the order of generation."""
    order, sizes = grouping.order, grouping.sizes()
    totals = np.cumsum([sizes[group] for group in order]).tolist()
    return dict(zip((grouping.names[group] for group in order), totals, strict=True))
