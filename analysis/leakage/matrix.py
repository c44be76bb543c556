"""Leakage: which latent groups move which data groups (Sec. 3.3).

In the leakage matrix, row i is the data group that moves, column j the latent group that moves it,
both in the generation order. Group j is made from the groups made before it, so changing z_j can
change x_j and what is made later: the lower triangle. The upper triangle, data made *before* j, is
zero where u does not look at groups that are still noise. With |S_i| numbers in data group i, of
rms std s_i, and the mean taken over examples, the entries are

    redraw    M_ij^2 = E || x_i(z with z_j' for z_j) - x_i(z) ||^2 / (|S_i| s_i^2),  z_j' ~ N(0, I)
    jacobian  M_ij^2 = E || (dx_i / dz_j) v ||^2 / (|S_i| s_i^2),                    v ~ N(0, I)
                     = E || dx_i / dz_j ||_F^2 / (|S_i| s_i^2)

z_j' - z_j has variance 2, so a linear decoder has redraw = sqrt(2) jacobian. The control is the
same with all latents redrawn, or v on all groups: sqrt(2), or 1, where Gaussian data are decoded
exactly.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from gdm_repr.analysis.draws import example_noise
from gdm_repr.analysis.intervals.bootstrap import root_mean_square
from gdm_repr.analysis.intervals.estimate import Estimate, Floats
from gdm_repr.boundary.isolation import isolated
from gdm_repr.coordinates import Flow
from gdm_repr.generation import Generation
from gdm_repr.grouping import group_std, rms_by_group

Decode = Callable[[Tensor], Tensor]  # latents (B, C, d) to data (B, C, d)


@dataclass(frozen=True)
class Entry:
    """One entry of a leakage matrix, by the names of its groups."""

    data: str
    latent: str
    estimate: Estimate


@dataclass(frozen=True, eq=False)
class LeakageMatrix:
    """The k x k matrix M[i, j]: how far latent group j moves data group i.

    Attributes:
        way: key in :data:`WAYS`.
        names: the groups, in the generation order, for rows and columns alike.
        value: M, in stds of data group i, shape (k, k).
        low: lower end of the 95 % bootstrap interval over examples, (k, k).
        high: upper end, (k, k).
        control: each data group when all latent groups change at once.
        n: number of examples.
        seed: of the redraws or probes, and of the bootstrap.
        presumed: whether the zeros of :attr:`forbidden` were taken for granted to save work
            (``Generation(strict=True)``) and not measured.
    """

    way: str
    names: tuple[str, ...]
    value: Floats
    low: Floats
    high: Floats
    control: tuple[Estimate, ...]
    n: int
    seed: int
    presumed: bool

    def at(self, i: int, j: int) -> Estimate:
        """Return an entry with its interval."""
        return Estimate(float(self.value[i, j]), float(self.low[i, j]), float(self.high[i, j]))

    @property
    def forbidden(self) -> NDArray[np.bool_]:
        """Return where zero is predicted: data made before latent group j, bool (k, k)."""
        return np.triu(np.ones(self.value.shape, np.bool_), 1)

    @property
    def largest_forbidden(self) -> Entry | None:
        """Return the largest entry where zero is predicted, None where none was measured.

        The interval is that entry's own; as the largest of several noisy values it errs upwards.
        """
        if self.presumed or len(self.names) < 2:
            return None
        i, j = np.unravel_index(
            np.argmax(np.where(self.forbidden, self.value, -1)), self.value.shape
        )
        return Entry(self.names[i], self.names[j], self.at(int(i), int(j)))


@isolated
def redraw(decode: Decode, z: Tensor, x: Tensor, own: Tensor, noise: Tensor) -> Tensor:
    """Return the change of x = decode(z) when the latents in ``own`` are replaced by noise."""
    return decode(torch.where(own, noise, z)) - x


@isolated
def jacobian(decode: Decode, z: Tensor, x: Tensor, own: Tensor, noise: Tensor) -> Tensor:
    """Return (dx/dz) v, v being the noise in ``own`` and 0 elsewhere, by forward-mode derivatives.

    Exact for the decoder's own steps; gradients that a network stops count as zero.

    Raises:
        ValueError: if an operation in u has no forward-mode derivative.
    """
    v = torch.where(own, noise, torch.zeros_like(noise))
    try:
        # fused attention has no forward-mode derivative
        with (
            warnings.catch_warnings(action="ignore", category=FutureWarning),  # torch's own
            forward_ad.dual_level(),
            sdpa_kernel(SDPBackend.MATH),
        ):
            dual = decode(forward_ad.make_dual(z, v))  # type: ignore[no-untyped-call]
            tangent: Tensor | None = forward_ad.unpack_dual(dual).tangent  # type: ignore[no-untyped-call]
    except NotImplementedError as error:
        raise ValueError(
            f"way='jacobian': u has an operation without a forward-mode derivative "
            f"({str(error).splitlines()[0]}); use way='redraw'"
        ) from error
    assert tangent is not None
    return tangent


WAYS: dict[str, Callable[[Decode, Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "redraw": redraw,
    "jacobian": jacobian,
}


@isolated
def measure_leakage(
    generation: Generation,
    z: Tensor,
    *,
    way: str = "redraw",
    seed: int = 0,
    batch_size: int = 64,
    advance: Callable[[int], object] = lambda images: None,
) -> LeakageMatrix:
    """Measure the leakage matrix at latents of real images or samples; see the module's docstring.

    Args:
        generation: decodes. With ``strict=True`` it shares the groups made before j, saving up
            to half the work, and so presumes the zeros; with ``strict=False`` it measures them.
        z: latents, (n, C, d), n at least 2.
        way: a key of :data:`WAYS`.
        seed: example e's noise follows from (seed, e) alone.
        batch_size: examples decoded together; it does not change the result.
        advance: told how many images were decoded, for a progress bar.

    Raises:
        ValueError: for an unknown way, latents of another shape, fewer than 2 examples, or a u
            without a forward-mode derivative where one is needed.
    """
    if way not in WAYS:
        raise ValueError(f"way={way!r}: unknown; choose from {', '.join(WAYS)}")
    flow, n = generation.flow, len(z)
    check_examples(flow, "z", z)
    grouping, order = flow.grouping, list(flow.grouping.order)
    members = [torch.from_numpy(grouping.mask(group)).to(z.device) for group in order]
    columns = [*enumerate(members), (0, torch.ones_like(members[0]))]  # the last is the control
    std = torch.tensor(group_std(grouping, flow.std), device=z.device)
    squares = np.empty((n, grouping.k, len(columns)))
    for rows in batches(n, batch_size):
        z_rows, noise = z[rows], example_noise(z, rows, seed, 1)
        states, x = generation.generate(z_rows)
        for column, (rank, own) in enumerate(columns):
            shared = min(rank, len(states) - 1)
            decode = partial(generation.finish, states[shared], done=shared)
            change = WAYS[way](decode, z_rows, x, own, noise)
            moved = rms_by_group(change.double(), grouping) / std
            squares[rows, :, column] = moved.square()[:, order].cpu().numpy()
            advance(len(z_rows))
    value, low, high = root_mean_square(squares, np.ones(n), seed)
    return LeakageMatrix(
        way=way,
        names=tuple(grouping.names[group] for group in order),
        value=value[:, :-1],
        low=low[:, :-1],
        high=high[:, :-1],
        control=tuple(Estimate(*row) for row in np.stack([value, low, high], 2)[:, -1].tolist()),
        n=n,
        seed=seed,
        presumed=generation.strict,
    )


def check_examples(flow: Flow, name: str, values: Tensor) -> None:
    """Refuse what is not (n, C, d) of the flow, or is too few for an interval.

    Raises:
        ValueError: as said, naming the argument.
    """
    shape = tuple(flow.mean.shape)
    if values.ndim != 3 or tuple(values.shape[1:]) != shape:
        raise ValueError(
            f"{name}: shape {tuple(values.shape)}; must be (n, {shape[0]}, {shape[1]})"
        )
    if len(values) < 2:
        raise ValueError(f"{name}: {len(values)} examples; an interval needs at least 2")


def batches(n: int, batch_size: int) -> list[slice]:
    """Cut n examples into slices."""
    return [slice(start, min(start + batch_size, n)) for start in range(0, n, batch_size)]
