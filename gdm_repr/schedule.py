"""The per-group noise schedule A(t), its derivative A'(t) (Eq. 10), and the law of t in training.

Group j holds the value a_j(t): 1 up to t_start_j, falling linearly to 0 at t_end_j, 0 from there
on. A(0) = I, A(1) = 0, and the intervals tile [0, 1], so exactly one group moves at any time.
Levels are kept one per group, shape (B, k); :meth:`gdm_repr.denoiser.Denoiser.expand` spreads them
over elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gdm_repr.boundary.isolation import isolated


@dataclass(frozen=True)
class ScheduleOutput:
    """Value and derivative of the schedule at given times.

    Attributes:
        A: a_j(t) in [0, 1], shape (B, k).
        dA_dt: a_j'(t) <= 0, shape (B, k).
        active: number of the one group that moves, int64, shape (B,).
    """

    A: Tensor
    dA_dt: Tensor
    active: Tensor

    def rows(self, rows: Tensor) -> ScheduleOutput:
        """Return the examples of the given indices."""
        return ScheduleOutput(self.A[rows], self.dA_dt[rows], self.active[rows])

    def to(self, device: torch.device) -> ScheduleOutput:
        """Return the same on a device."""
        return ScheduleOutput(self.A.to(device), self.dA_dt.to(device), self.active.to(device))


@dataclass(frozen=True, eq=False)
class Schedule:
    """Intervals [t_start_j, t_end_j] of the groups.

    Attributes:
        t_start: shape (k,), or (B, k) for one order of groups per example.
        t_end: same shape.

    Raises:
        ValueError: if intervals are empty, overlap, or leave a gap in [0, 1].
    """

    t_start: Tensor
    t_end: Tensor

    @isolated
    def __post_init__(self) -> None:
        """Refuse intervals that do not tile [0, 1]."""
        if self.t_start.shape != self.t_end.shape:
            raise ValueError(
                f"t_start has shape {tuple(self.t_start.shape)} but t_end has "
                f"{tuple(self.t_end.shape)}; both must be (k,) or (B, k)"
            )
        start, first = self.t_start.sort(dim=-1)
        end = self.t_end.gather(-1, first)
        tiled = (
            start[..., 0].abs().max() < 1e-6
            and (end[..., -1] - 1).abs().max() < 1e-6
            and bool((end > start).all())
            and (start.shape[-1] == 1 or (start[..., 1:] - end[..., :-1]).abs().max() < 1e-6)
        )
        if not tiled:
            pairs = [f"[{a:g}, {b:g}]" for a, b in zip(start.flatten(), end.flatten(), strict=True)]
            raise ValueError(
                f"intervals {', '.join(pairs[:8])}: must be non-empty and tile [0, 1] without "
                "overlap or gap, since one group moves at a time (Eq. 10)"
            )

    @property
    def k(self) -> int:
        """Number of groups."""
        return self.t_start.shape[-1]

    @isolated
    def at(self, t: Tensor) -> ScheduleOutput:
        """Evaluate Eq. (10) and its derivative.

        Args:
            t: times in [0, 1], shape (B,).

        Returns:
            Levels and derivatives, shape (B, k). At a boundary the group that is just ending counts
            as the one that moves, as in Eq. (10).
        """
        t = t[:, None]
        width = self.t_end - self.t_start
        A_t = ((self.t_end - t) / width).clamp(0, 1)  # Eq. (10)
        ended = (self.t_end < t).sum(-1, keepdim=True).clamp(max=self.k - 1)
        active = self.t_end.argsort(-1).expand(len(t), -1).gather(1, ended)[:, 0]
        moving = torch.nn.functional.one_hot(active, self.k).to(t.dtype)
        return ScheduleOutput(A_t, -moving / width, active)


@isolated
def schedule_from_order(order: Tensor | Sequence[int], widths: Tensor | None = None) -> Schedule:
    """Give each group an interval, the last generated one first in t.

    Args:
        order: generation order, shape (k,), or (B, k) for one order per example.
        widths: length of each group's interval by group number, positive, sum 1, shape (k,); all
            equal when None.

    Raises:
        ValueError: if the widths are not positive or do not sum to 1.
    """
    generation = torch.as_tensor(order)
    k = generation.shape[-1]
    width = torch.full((k,), 1 / k, dtype=torch.float64) if widths is None else widths.double()
    if width.shape != (k,) or bool((width <= 0).any()) or abs(float(width.sum()) - 1) > 1e-6:
        raise ValueError(
            f"widths={width.tolist()}: must be {k} positive numbers that sum to 1, one per group"
        )
    diffusion = generation.flip(-1)
    ends = width[diffusion].cumsum(-1)
    ends = ends / ends[..., -1:]
    t_end = torch.empty_like(ends).scatter_(-1, diffusion, ends)
    starts = torch.cat([torch.zeros_like(ends[..., :1]), ends[..., :-1]], dim=-1)
    t_start = torch.empty_like(ends).scatter_(-1, diffusion, starts)
    return Schedule(t_start, t_end)


@isolated
def group_weights(law: str | Sequence[float], schedule: Schedule) -> Tensor:
    """Return the probability of training inside each group's interval, shape (k,).

    Args:
        law: ``"uniform"``, t uniform on [0, 1], so that a group's share is its interval's length;
            ``"groups"``, every group equally often; or k positive weights.
        schedule: the intervals.

    Raises:
        ValueError: if weights are not k positive numbers, the law is unknown, or it is uniform and
            a group's interval has another length in another example.
    """
    if law == "uniform":
        widths = (schedule.t_end - schedule.t_start).reshape(-1, schedule.k)
        if not torch.allclose(widths, widths[:1], rtol=0, atol=1e-6):
            raise ValueError(
                "time_law='uniform': the groups' intervals differ in length between examples, so "
                "a group has no one weight; give one weight per group"
            )
        return widths[0]
    if law == "groups":
        return torch.full((schedule.k,), 1 / schedule.k, dtype=torch.float64)
    if isinstance(law, str):
        raise ValueError(f"time_law={law!r}: must be uniform, groups, or one weight per group")
    weights = torch.tensor(list(law), dtype=torch.float64)
    if weights.shape != (schedule.k,) or bool((weights <= 0).any()):
        raise ValueError(
            f"time_law={list(law)}: must be {schedule.k} positive weights, one per group"
        )
    return weights / weights.sum()


@isolated
def draw_times(weights: Tensor, schedule: Schedule, n: int, generator: torch.Generator) -> Tensor:
    """Draw training times: a group by its weight, then t uniform inside its interval.

    Stratified over the batch, which leaves each time's law as it is and lowers the variance.

    Args:
        weights: probability of each group, shape (k,).
        schedule: intervals, of shape (k,) or (n, k).
        n: number of times.
        generator: source of randomness on the CPU.

    Returns:
        Times in (0, 1], float64, shape (n,).
    """
    strata = (torch.arange(n) + torch.rand(n, generator=generator, dtype=torch.float64)) / n
    position = strata[torch.randperm(n, generator=generator)]
    edges = weights.cumsum(0) / weights.sum()
    group = torch.searchsorted(edges, position).clamp(max=schedule.k - 1)
    low = edges[group] - weights[group] / weights.sum()
    progress = ((position - low) * weights.sum() / weights[group]).clamp(1e-7, 1)
    start = schedule.t_start.expand(n, schedule.k).gather(1, group[:, None])[:, 0]
    end = schedule.t_end.expand(n, schedule.k).gather(1, group[:, None])[:, 0]
    return start + progress * (end - start)
