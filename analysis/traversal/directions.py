"""Directions in latent space along which an image is traversed: single elements, and random ones.

Going to the place v along a unit vector w sets the coordinate w . z to v, and leaves alone what is
orthogonal to w:

    z(v) = z + (v - w . z) w,

in the space of all C*d latents, or in each channel by itself. Element (n, c) is the one-hot vector
of that latent; index n in all channels is the one-hot vector of n in every channel. For both, z(v)
is z with the element set to v. So a random direction of a band, w drawn uniformly on the sphere of
the band's latents instead, is traversed at the same pace and over the same range as its elements:
it is what they are compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gdm_repr.boundary import numerals
from gdm_repr.boundary.isolation import isolated
from gdm_repr.coordinates import Flow
from gdm_repr.generation import Generation
from gdm_repr.grouping import Grouping
from gdm_repr.masks import Mask, band_mask, element_mask, untouched_groups

_MOST_OF_A_RANGE = 1_000_000

Path = tuple[Tensor, Tensor]
"""Data of B paths (B, V, C, d) and of their anchors (B, C, d), in the basis's coordinates."""


@dataclass(frozen=True, eq=False)
class Direction:
    """One direction.

    Attributes:
        name: ``7`` (index in all channels), ``7:1`` (in one), ``random 0``.
        w: the unit vector, (C, d): over all channels where single, else in every one.
        single: whether it is one coordinate, and not one in each channel.
    """

    name: str
    w: Tensor
    single: bool

    @property
    def support(self) -> Mask:
        """Return the latents that it touches, bool (C, d)."""
        mask: Mask = (self.w != 0).numpy()
        return mask

    @isolated
    def along(self, z: Tensor) -> Tensor:
        """Return (w . z) w, the part of z (.., C, d) along the direction, of z's shape."""
        w = self.w.to(z.device, z.dtype)
        return (z * w).sum((-2, -1) if self.single else -1, keepdim=True) * w

    @isolated
    def go(self, z: Tensor, values: Sequence[float]) -> Tensor:
        """Return z(v) at V places: (B, C, d) to (B, V, C, d)."""
        places = torch.tensor(values, dtype=z.dtype, device=z.device)[:, None, None]
        return (z - self.along(z))[:, None] + places * self.w.to(z.device, z.dtype)


@dataclass(frozen=True, eq=False)
class Pool:
    """The latents that elements are chosen from, and random directions are drawn in.

    Attributes:
        name: of the band or bands.
        mask: bool (C, d).
        elements: the chosen elements, in the order of their index.
        single: whether an element is one number (n, c), and not index n in all channels.
    """

    name: str
    mask: Mask
    elements: tuple[str, ...]
    single: bool

    @property
    def whole(self) -> int:
        """Elements that the band has, those not chosen among them."""
        return int(self.mask.sum() if self.single else self.mask[0].sum())

    @property
    def count(self) -> str:
        """Say how many elements were chosen, as in ``18 of the 90 elements of band 0_29``."""
        return f"{len(self.elements):,} of the {self.whole:,} elements of band {self.name}"


@isolated
def choose_pool(
    grouping: Grouping, channels: int, *, band: str | None = None, elements: Sequence[str] = ()
) -> Pool:
    """Choose elements and the latents that their random directions are drawn in.

    Args:
        grouping: the groups.
        channels: C.
        band: as :func:`gdm_repr.masks.band_mask` reads it. When None, the groups that
            hold the elements, or the first one generated when there are none.
        elements: ``7``, ``7:1`` or a range ``0-5``; all of the band when empty.

    Raises:
        ValueError: if there is no such band or element, elements lie outside the band, are named
            twice, or mix both kinds.

    Example:
        >>> from gdm_repr.grouping import build_grouping
        >>> bands = build_grouping("bands", (3, 2, 4), cuts=[2, 5])
        >>> choose_pool(bands, 3).elements, choose_pool(bands, 3, elements=["2-3"]).name
        (('0', '1'), '2_4')
    """
    names = _expand(elements)
    masks = [element_mask(name, channels, grouping.d) for name in names]
    if band is None:
        band = _bands_of(grouping, masks)
    mask = band_mask(band, grouping, channels)
    common = bool((mask == mask[:1]).all())
    single = not common or any(":" in name for name in names)
    if not names:
        places = np.argwhere(mask if single else mask[:1])
        names = tuple(f"{n}:{c}" if single else str(n) for c, n in places)
    elif single and channels > 1 and not all(":" in name for name in names):
        why = "mixes indices in all channels with single ones" if common else "lacks channels"
        raise ValueError(
            f"--elements {','.join(elements)}: {why}; name every one as 7:0, with its channel"
        )
    for name, own in zip(names, masks, strict=False):
        if (own & ~mask).any():
            there = _bands_of(grouping, [own])
            raise ValueError(
                f"--elements {name!r}: lies in band {there}, not in {band}; leave out --band, or "
                f"give --band {there}"
            )
    if not names:
        raise ValueError(f"--band {band!r}: has no elements; choose another")
    if len(set(names)) < len(names):
        raise ValueError(f"--elements {','.join(elements)}: names an element twice")
    return Pool(band, mask, names, single)


@isolated
def element_directions(pool: Pool) -> list[Direction]:
    """Return the pool's elements as directions."""
    channels, d = pool.mask.shape
    masks = [element_mask(name, channels, d) for name in pool.elements]
    return [
        Direction(name, torch.from_numpy(mask).double(), pool.single)
        for name, mask in zip(pool.elements, masks, strict=True)
    ]


@isolated
def random_directions(pool: Pool, n: int, *, seed: int = 0) -> list[Direction]:
    """Draw n random directions of the pool's kind.

    They come in random orthonormal bases of the band, one after the other, each drawn from (seed,
    its number). A basis shares out all that its latents do, as the elements do, so that few
    directions already give the mean.
    """
    places = pool.mask.nonzero() if pool.single else (slice(None), pool.mask[0].nonzero()[0])
    size = len(places[1])
    found: list[Direction] = []
    while len(found) < n:
        rng = np.random.default_rng([seed, len(found) // size, 1])
        count = min(size, n - len(found))
        # Q is uniform over orthonormal bases only with the signs that make R's diagonal positive.
        Q, R = np.linalg.qr(rng.standard_normal((count, size)).T)
        for vector in (Q * np.sign(np.diag(R))).T:
            w = np.zeros(pool.mask.shape)
            w[places] = vector
            found.append(Direction(f"random {len(found)}", torch.from_numpy(w), pool.single))
    return found


@isolated
def traverse(
    generation: Generation,
    z: Tensor,
    states: Sequence[Tensor],
    direction: Direction,
    values: Sequence[float],
    *,
    batch_size: int = 64,
    advance: Callable[[int], object] = lambda images: None,
) -> Iterator[Path]:
    """Decode latents along a direction, a few anchors at a time.

    Args:
        generation: decodes, sharing the groups made before the direction's first one.
        z: anchors, (n, C, d).
        states: theirs, from :meth:`Generation.states`.
        direction: what to change.
        values: V places.
        batch_size: images decoded together; it does not change the result.
        advance: told how many images were decoded.
    """
    grouping = generation.flow.grouping
    done = min(untouched_groups(grouping, direction.support), len(states) - 1)
    V = len(values)
    anchors = max(1, batch_size // V)
    for start in range(0, len(z), anchors):
        part = slice(start, start + anchors)
        origin = generation.finish(states[-1][part], z[part], len(states) - 1)
        there = direction.go(z[part], values).flatten(0, 1)
        state = states[done][part].repeat_interleave(V, 0)
        pairs = zip(torch.split(state, batch_size), torch.split(there, batch_size), strict=True)
        data = []
        for known, latents in pairs:
            data.append(generation.finish(known, latents, done))
            advance(len(latents))
        yield torch.cat(data).reshape(-1, V, *z.shape[1:]), origin


@isolated
def move_coefficients(
    flow: Flow, origin: Tensor, direction: Direction, values: Sequence[float]
) -> Iterator[Path]:
    """Move the data's own coefficients along a direction: the control without a model.

    A coefficient's place v counts in its stds from its mean, as a latent's does.

    Args:
        flow: of the model, for mean and std.
        origin: data of the anchors, (n, C, d).
        direction: what to change.
        values: V places.
    """
    for one in origin:
        white = (one[None] - flow.mean) / flow.std
        yield flow.mean + flow.std * direction.go(white, values), one[None]


def _expand(elements: Sequence[str]) -> tuple[str, ...]:
    """Write ranges out: ``0-2`` as ``0``, ``1``, ``2``."""
    names: list[str] = []
    for text in elements:
        span = numerals.span(text)
        if span and span[0] > span[1]:
            raise ValueError(
                f"--elements {text!r}: ends before it starts; give the lower one first"
            )
        if span and span[1] - span[0] >= _MOST_OF_A_RANGE:
            raise ValueError(
                f"--elements {text!r}: names more than {_MOST_OF_A_RANGE} elements; give fewer"
            )
        names += map(str, range(span[0], span[1] + 1)) if span else [text]
    return tuple(names)


def _bands_of(grouping: Grouping, masks: Sequence[Mask]) -> str:
    """Name the groups that hold elements; the first one generated when there are none."""
    if not masks:
        return grouping.names[grouping.order[0]]
    touched = np.logical_or.reduce(list(masks))
    held = [group for group in grouping.order if (grouping.mask(group) & touched).any()]
    return "+".join(grouping.names[group] for group in held)
