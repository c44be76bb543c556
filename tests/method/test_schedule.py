"""Laws of A(t) over arbitrary intervals and orders, and the law of the times drawn in training."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from gdm_repr.schedule import (
    Schedule,
    draw_times,
    group_weights,
    schedule_from_order,
)


def float64(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def random_orders(n: int, k: int) -> Tensor:
    return torch.rand(n, k, generator=torch.Generator().manual_seed(n)).argsort(1)


# name -> schedule and its generation order(s)
SCHEDULES: dict[str, tuple[Schedule, Tensor]] = {
    "one": (schedule_from_order([0]), torch.tensor([0])),
    "halves": (schedule_from_order([0, 1]), torch.tensor([0, 1])),
    "shuffled": (schedule_from_order([2, 0, 3, 1]), torch.tensor([2, 0, 3, 1])),
    "table-2": (
        schedule_from_order([0, 1, 2, 3], float64([0.1, 0.2, 0.1, 0.6])),
        torch.arange(4),
    ),
    "by-hand": (
        Schedule(float64([0.25, 0.0, 0.9]), float64([0.9, 0.25, 1.0])),
        torch.tensor([2, 0, 1]),
    ),
    "float32": (
        Schedule(torch.tensor([0.0, 0.3]), torch.tensor([0.1 + 0.2, 1.0])),
        torch.tensor([1, 0]),
    ),
    "orders-per-example": (
        schedule_from_order(random_orders(301, 5), float64([0.3, 0.1, 0.2, 0.25, 0.15])),
        random_orders(301, 5),
    ),
    "elementwise": (schedule_from_order(torch.arange(64)), torch.arange(64)),
}


@pytest.fixture(params=SCHEDULES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def schedule(name: str) -> Schedule:
    return SCHEDULES[name][0]


def times(schedule: Schedule) -> Tensor:
    """Return 301 increasing times; the batched schedule has as many rows."""
    return torch.linspace(0, 1, 301, dtype=torch.float64)


def test_data_at_0_and_noise_at_1(schedule: Schedule) -> None:
    n = len(schedule.t_end) if schedule.t_end.ndim > 1 else 2
    assert (schedule.at(torch.zeros(n)).A == 1).all()
    assert (schedule.at(torch.ones(n)).A == 0).all()


def test_levels_fall_monotonically(schedule: Schedule) -> None:
    if schedule.t_end.ndim > 1:
        schedule = Schedule(schedule.t_start[0], schedule.t_end[0])
    A = schedule.at(times(schedule)).A
    assert (A.diff(dim=0) <= 0).all()
    assert A.min() == 0
    assert A.max() == 1


def test_exactly_one_group_moves(schedule: Schedule) -> None:
    at = schedule.at(times(schedule))
    assert ((at.dA_dt < 0).sum(1) == 1).all()
    assert (at.dA_dt.argmin(1) == at.active).all()
    between = (at.A > 0) & (at.A < 1)
    assert (between.sum(1) <= 1).all()
    assert (at.active[between.any(1)] == between[between.any(1)].long().argmax(1)).all()


def test_groups_move_in_diffusion_order(name: str) -> None:
    schedule, generation = SCHEDULES[name]
    for row in range(0, len(generation) if generation.ndim > 1 else 1, 100):
        order = generation if generation.ndim == 1 else generation[row]
        start, end = schedule.t_start, schedule.t_end
        if start.ndim > 1:
            start, end = start[row], end[row]
        one = Schedule(start, end)
        middles = ((start + end) / 2).sort().values
        assert one.at(middles).active.tolist() == order.flip(0).tolist()


def test_derivative_is_autograd_s(schedule: Schedule) -> None:
    t = torch.rand(301, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for group in range(min(schedule.k, 6)):
        t.requires_grad_(True)
        at = schedule.at(t)
        (slope,) = torch.autograd.grad(at.A[:, group].sum(), t)
        assert torch.allclose(slope, at.dA_dt[:, group].to(slope.dtype), rtol=1e-6, atol=0)


def test_each_group_falls_by_one_in_all(schedule: Schedule) -> None:
    fall = schedule.at(times(schedule)).dA_dt
    length = schedule.t_end - schedule.t_start
    assert torch.allclose((fall * length).sum(1), -torch.ones(301, dtype=fall.dtype))


def test_equations_20_and_21() -> None:
    d = 6
    schedule = schedule_from_order(torch.arange(d).flip(0))  # group j moves in [j/d, (j+1)/d]
    for step in range(1, d + 1):
        at = schedule.at(schedule.t_end[step - 1 : step])
        assert at.A[0].tolist() == [0.0] * step + [1.0] * (d - step)  # Eq. (20)
        expected = torch.zeros(d, dtype=torch.float64)
        expected[step - 1] = -d
        assert torch.allclose(at.dA_dt[0], expected)  # Eq. (21)


def test_widths_are_the_intervals() -> None:
    widths = float64([0.5, 0.2, 0.3])
    schedule = schedule_from_order([1, 2, 0], widths)
    assert torch.allclose(schedule.t_end - schedule.t_start, widths)
    assert torch.allclose(schedule.t_start, float64([0.0, 0.8, 0.5]))


def test_one_order_per_example_equals_each_alone() -> None:
    orders, widths = random_orders(301, 5), float64([0.3, 0.1, 0.2, 0.25, 0.15])
    together = schedule_from_order(orders, widths)
    t = times(together)
    at = together.at(t)
    for row in (0, 17, 300):
        alone = schedule_from_order(orders[row], widths).at(t[row : row + 1])
        assert torch.equal(at.A[row], alone.A[0])
        assert torch.equal(at.dA_dt[row], alone.dA_dt[0])
        assert at.active[row] == alone.active[0]


def test_rows_and_devices_keep_the_values() -> None:
    at = SCHEDULES["table-2"][0].at(times(SCHEDULES["table-2"][0]))
    part = at.rows(torch.tensor([5, 3])).to(torch.device("cpu"))
    assert torch.equal(part.A, at.A[[5, 3]])
    assert torch.equal(part.dA_dt, at.dA_dt[[5, 3]])
    assert torch.equal(part.active, at.active[[5, 3]])


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ([0.0, 0.4], [0.5, 1.0]),  # overlap
        ([0.0, 0.6], [0.5, 1.0]),  # gap
        ([0.0, 0.5, 0.5], [0.5, 0.5, 1.0]),  # empty
        ([0.0, 0.0], [1.0, 1.0]),  # the same interval twice
        ([0.1, 0.5], [0.5, 1.0]),  # starts late
        ([0.0, 0.5], [0.5, 0.9]),  # ends early
        ([-0.1, 0.5], [0.5, 1.0]),
        ([0.5, 0.0], [0.0, 1.0]),
        ([0.0, float("nan")], [0.5, 1.0]),
        ([[0.0, 0.5], [0.0, 0.5]], [[0.5, 1.0], [0.6, 1.0]]),  # the second example's overlap
    ],
)
def test_intervals_that_do_not_tile_are_refused(start: object, end: object) -> None:
    with pytest.raises(ValueError, match=r"must be non-empty and tile \[0, 1\].*Eq\. 10"):
        Schedule(float64(start), float64(end))


def test_other_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"t_start has shape \(2,\) but t_end has \(3,\)"):
        Schedule(float64([0, 0.5]), float64([0.5, 0.7, 1]))
    for widths in ([0.5, 0.6], [1.5, -0.5], [1.0, 0.0], [1.0]):
        with pytest.raises(ValueError, match="must be 2 positive numbers that sum to 1"):
            schedule_from_order([0, 1], float64(widths))
    halves = schedule_from_order([0, 1])
    for weights in ([1.0], [1.0, 0.0], [1.0, -1.0], [1.0, 1.0, 1.0]):
        with pytest.raises(ValueError, match="must be 2 positive weights"):
            group_weights(weights, halves)
    with pytest.raises(ValueError, match="time_law='often': must be uniform, groups"):
        group_weights("often", halves)
    mixed = Schedule(float64([[0, 0.5], [0, 0.2]]), float64([[0.5, 1], [0.2, 1]]))
    with pytest.raises(ValueError, match="differ in length between examples"):
        group_weights("uniform", mixed)


def test_weights_of_each_law() -> None:
    widths = float64([0.5, 0.2, 0.3])
    schedule = schedule_from_order([1, 2, 0], widths)
    assert torch.allclose(group_weights("uniform", schedule), widths)
    assert torch.allclose(group_weights("groups", schedule), float64([1, 1, 1]) / 3)
    assert torch.allclose(group_weights([1, 1, 2], schedule), float64([0.25, 0.25, 0.5]))
    assert torch.allclose(
        group_weights("uniform", schedule_from_order(random_orders(7, 3), widths)), widths
    )


LAWS: dict[str, list[float]] = {
    "uniform": [0.5, 0.2, 0.3],
    "groups": [1 / 3, 1 / 3, 1 / 3],
    "given": [0.1, 0.2, 0.7],
}


@pytest.mark.parametrize("law", LAWS)
def test_each_time_follows_the_law(law: str) -> None:
    schedule = schedule_from_order([1, 2, 0], float64([0.5, 0.2, 0.3]))
    weights = group_weights(LAWS[law] if law == "given" else law, schedule)
    generator = torch.Generator().manual_seed(1)
    # times of one batch are stratified and so not independent: take one time of each batch
    t = torch.cat([draw_times(weights, schedule, 3, generator)[:1] for _ in range(4000)])
    active = schedule.at(t).active
    counts = torch.bincount(active, minlength=3).numpy()
    assert stats.chisquare(counts, 4000 * np.asarray(LAWS[law])).pvalue > 1e-3
    for group in range(3):
        progress = (t - schedule.t_start[group]) / (schedule.t_end - schedule.t_start)[group]
        assert stats.kstest(progress[active == group].numpy(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("law", LAWS)
def test_a_batch_is_stratified(law: str) -> None:
    schedule = schedule_from_order([1, 2, 0], float64([0.5, 0.2, 0.3]))
    weights = group_weights(LAWS[law] if law == "given" else law, schedule)
    t = draw_times(weights, schedule, 1000, torch.Generator().manual_seed(2))
    counts = torch.bincount(schedule.at(t).active, minlength=3)
    assert (counts - 1000 * float64(LAWS[law])).abs().max() < 2
    assert ((t > 0) & (t <= 1)).all()


def test_times_fall_into_each_example_s_own_intervals() -> None:
    widths = float64([0.6, 0.3, 0.1])
    schedule = schedule_from_order(random_orders(3000, 3), widths)
    t = draw_times(float64([1, 1, 1]), schedule, 3000, torch.Generator().manual_seed(3))
    counts = torch.bincount(schedule.at(t).active, minlength=3)
    assert (counts - 1000).abs().max() < 2


def test_times_repeat_with_the_seed() -> None:
    schedule = schedule_from_order([0, 1])
    draws = [
        draw_times(float64([1, 3]), schedule, 8, torch.Generator().manual_seed(seed))
        for seed in (4, 4, 5)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
