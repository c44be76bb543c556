"""Fig. 1(a): a mixture in the plane, generated with k = 1 and one element after the other.

python docs/examples/mixture.py [--steps 1000] [--out runs/examples/mixture.png]

Data are four Gaussians, so that u is known. The ODE is solved from the same noise by both
schedules, first with that u, then with that of small MLPs. With k = d = 2 the exact ODE has to be
the Knothe-Rosenblatt map, which is known without any ODE:
z_1 = Phi^-1 F(x_1), z_2 = Phi^-1 F(x_2 | x_1).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from gdm_repr.analysis.intervals.estimate import Estimate, number
from gdm_repr.analysis.intervals.jackknife import compare
from gdm_repr.analysis.report.figures import COLOURS, WIDTH, new_figure
from gdm_repr.analysis.sample_quality.sliced_distance import sliced
from gdm_repr.basis import build_basis
from gdm_repr.config import DenoiserConfig
from gdm_repr.coordinates import Flow
from gdm_repr.denoiser import Denoiser
from gdm_repr.grouping import Grouping, build_grouping
from gdm_repr.models import build_network
from gdm_repr.objective import loss
from gdm_repr.ode import Plan, decode
from gdm_repr.oracle import MixtureOracle, figure_1a_mixture
from gdm_repr.process import PROCESSES
from gdm_repr.schedule import draw_times, group_weights, schedule_from_order

SHAPE = (1, 1, 2)
GROUPINGS = {
    "k = 1": build_grouping("single", SHAPE),
    "GDM": build_grouping("elementwise", SHAPE),  # the horizontal element first
}
SCALE = 2.5  # of the figure's mixture, so that it is about as wide as the noise
STEPS = 64  # of the ODE, in all
TIMES = (1.0, 0.75, 0.5, 0.25, 0.0)
BATCH, LR = 512, 3e-3
DIRECTIONS = 64  # of the sliced Wasserstein distance
TRACED, DRAWN = 7, 800  # particles with a line, particles in a picture


def mixture(grouping: Grouping) -> MixtureOracle:
    """Return the data's law."""
    small = figure_1a_mixture(grouping)
    return replace(small, means=SCALE * small.means, covariances=SCALE**2 * small.covariances)


LAW = mixture(GROUPINGS["GDM"])


@dataclass(frozen=True, eq=False)
class Made:
    """What was generated from n latents.

    Attributes:
        path: states at STEPS + 1 even times from t = 1 to t = 0, (STEPS + 1, n, 2).
        step_error: largest change of the result when steps are doubled; None if not measured.
    """

    path: Tensor
    step_error: float | None = None

    @property
    def x(self) -> Tensor:
        """The data, (n, 2)."""
        return self.path[-1]


def generate(flow: Flow, z: Tensor, *, doubled: bool = False) -> Made:
    """Solve Eq. (9) from latents (n, 2) by rk4, in even steps of t; by twice as many if told."""
    seen: list[Tensor] = []

    def u(x_t: Tensor, A: Tensor) -> Tensor:
        seen.append(x_t[:, 0])
        return flow.u(x_t, A)

    plan = Plan("rk4", "uniform", (STEPS // flow.grouping.k,) * flow.grouping.k)
    y = z[:, None].to(flow.mean.dtype)
    x = decode(replace(flow, u=u), y, plan).y[:, 0]
    path = torch.stack([*seen[::4], x])  # the first of a step's four evaluations is at its start
    if not doubled:
        return Made(path)
    fine = decode(flow, y, replace(plan, steps=tuple(2 * n for n in plan.steps))).y[:, 0]
    return Made(path, float((fine - x).abs().max()))


def closed_form(grouping: Grouping) -> Flow:
    """Return the exact flow; its mean and std are not used by uniform steps."""
    oracle = mixture(grouping)
    return Flow(oracle, grouping, oracle.process, torch.zeros(1, 2).double(), torch.ones(1, 2))


def trained(grouping: Grouping, seed: int, steps: int) -> Flow:
    """Train a small MLP on fresh draws for some steps."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    config = DenoiserConfig()
    options = {"name": "mlp", "width": 64, "depth": 2}
    inputs = Denoiser.network_inputs(config, 1, grouping.k)
    network = build_network(options, shape=(1, 2), **inputs)
    first = LAW.sample(10_000, generator)
    mean, std = first.mean(0)[None], first.std(0)[None]
    basis, linear = build_basis("identity", (1, 2)), PROCESSES["linear"]
    u = Denoiser(network, basis, grouping, linear, config, mean, std)
    schedule = schedule_from_order(grouping.order)
    weights = group_weights("groups", schedule)
    optimizer = torch.optim.Adam(network.parameters(), lr=LR, fused=True)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
    for _ in range(steps):
        x = LAW.sample(BATCH, generator).float()[:, None]
        z = torch.randn(x.shape, generator=generator)
        at = schedule.at(draw_times(weights, schedule, BATCH, generator))
        at = replace(at, A=at.A.float(), dA_dt=at.dA_dt.float())
        optimizer.zero_grad()
        loss("active", u, x, z, at).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        decay.step()
    return Flow(u, grouping, linear, u.mean, u.std)


def modes(x: Tensor) -> Tensor:
    """Return the posterior probability of each Gaussian given points (n, 2), (n, M)."""
    law = torch.distributions.MultivariateNormal(LAW.means, LAW.covariances)
    log_density: Tensor = law.log_prob(x.double()[:, None])  # type: ignore[no-untyped-call]
    return (LAW.weights.log() + log_density).softmax(1)


def share(values: Tensor) -> Estimate:
    """Return the mean of n values with its 95 % interval."""
    middle = float(values.double().mean())
    half = 1.96 * float(values.double().std()) / len(values) ** 0.5
    return Estimate(middle, middle - half, middle + half)


def knothe_rosenblatt_error(x: Tensor, z: Tensor) -> float:
    """Return the largest |F(x_1) - Phi(z_1)| and |F(x_2 | x_1) - Phi(z_2)| over points (n, 2)."""
    standard = torch.distributions.Normal(0.0, 1.0)
    Phi = torch.special.ndtr
    S, mu = LAW.covariances, LAW.means
    std = S[:, 0, 0].sqrt()
    r = (x[:, :1] - mu[:, 0]) / std  # (n, M)
    first = (LAW.weights * Phi(r)).sum(1)
    log_density: Tensor = standard.log_prob(r)  # type: ignore[no-untyped-call]
    posterior = (LAW.weights.log() - std.log() + log_density).softmax(1)
    centre = mu[:, 1] + S[:, 1, 0] / std * r
    narrow = (S[:, 1, 1] - S[:, 1, 0] ** 2 / S[:, 0, 0]).sqrt()
    second = (posterior * Phi((x[:, 1:] - centre) / narrow)).sum(1)
    return float((torch.stack([first, second], 1) - Phi(z)).abs().max())


def median_distance(a: Tensor, b: Tensor) -> float:
    """Return the median distance between points (n, 2) of the same noise."""
    return float((a - b).square().sum(1).sqrt().median())


def moved(path: Tensor, element: int) -> tuple[float, float]:
    """Return the RMS move of an element in the first and in the second half of generation."""
    half = len(path) // 2
    parts = (path[half] - path[0], path[-1] - path[half])
    first, second = (float(part[:, element].square().mean().sqrt()) for part in parts)
    return first, second


def stays(path: Tensor) -> bool:
    """Return whether each element stands still, to the last bit, while the other is generated."""
    half = len(path) // 2
    return bool((path[: half + 1, :, 1] == path[0, :, 1]).all()) and bool(
        (path[half:, :, 0] == path[-1, :, 0]).all()
    )


def show_paths(made: dict[str, Made], z: Tensor) -> None:
    """Print and check what is known of the exact flows."""
    vanilla, gdm = made["k = 1"], made["GDM"]
    assert vanilla.step_error is not None
    assert gdm.step_error is not None
    print(f"closed form, n = {len(z)}, rk4, {STEPS} steps in all; k = 1, then GDM")
    print(f"  largest change by twice the steps     {vanilla.step_error:.1e}  {gdm.step_error:.1e}")
    errors = [knothe_rosenblatt_error(each.x, z) for each in (vanilla, gdm)]
    print(f"  distance to Knothe-Rosenblatt, in F   {errors[0]:.2f}     {errors[1]:.1e}")
    for element, name in enumerate(("first", "second")):
        for half, when in enumerate(("t from 1 to .5", "t from .5 to 0")):
            rms = [moved(each.path, element)[half] for each in (vanilla, gdm)]
            print(f"  {name + ' element moves, ' + when:36s}  {rms[0]:.3f}    {rms[1]:.3g}")
    other = (modes(vanilla.x).argmax(1) != modes(gdm.x).argmax(1)).double()
    print(f"  same noise, another Gaussian: {share(other).percent()}")
    assert errors[1] < 1e-4 < errors[0]  # the steps' error; k = 1 is another map of the same law
    assert stays(gdm.path)  # masked, so exact
    assert not stays(vanilla.path)


def show_scores(made: dict[str, Made], seed: int = 1) -> dict[str, float]:
    """Print how the draws are spread, beside fresh data.

    Returns:
        By set, how many standard errors its worst share is off the true weight.
    """
    n = len(next(iter(made.values())).x)
    generator = torch.Generator().manual_seed(seed)
    real, fresh = (LAW.sample(n, generator) for _ in range(2))
    sets = {"real (floor)": fresh, **{name: each.x for name, each in made.items()}}
    found = compare(
        sliced(DIRECTIONS), real.numpy(), {name: x.double().numpy() for name, x in sets.items()}
    )
    print(
        "  share of each Gaussian, sliced Wasserstein distance to other real data; 95 % intervals"
    )
    truth = "".join(f"{number(100 * float(w), 2) + ' %':18s}" for w in LAW.weights)
    print(f"  {'truth':16s}{truth}0")
    off = {}
    for name, x in sets.items():
        posterior = modes(x)
        shares = [share(column) for column in posterior.T]
        z_scores = [
            abs(each.value - float(w)) / ((each.high - each.low) / 3.92)
            for each, w in zip(shares, LAW.weights, strict=True)
        ]
        off[name] = max(z_scores)
        line = "".join(f"{each.percent():18s}" for each in shares)
        print(f"  {name:16s}{line}{found[name]['sliced_wasserstein']}")
    return off


def draw(made: dict[str, Made], path: Path) -> None:
    """Draw particles at some times, in the colour of the Gaussian they end in."""
    figure = new_figure(2.95, WIDTH)
    panels = figure.subplots(2, len(TIMES), sharex=True, sharey=True)
    labels = {"k = 1": "k = 1, both at once", "GDM": "GDM, one by one"}
    for row, (name, label) in zip(panels, labels.items(), strict=True):
        states = made[name].path[:, :DRAWN]
        ends = modes(states[-1]).argmax(1)
        for axes, t in zip(row, TIMES, strict=True):
            now = round((1 - t) * (len(states) - 1))
            for mode, colour in zip(range(len(LAW.weights)), COLOURS, strict=False):
                x = states[now, ends == mode]
                axes.scatter(x[:, 0], x[:, 1], s=2.2, color=colour, alpha=0.55, linewidths=0)
            for i in range(TRACED):
                x = states[: now + 1, i]
                axes.plot(x[:, 0], x[:, 1], color="black", linewidth=0.7)
                axes.plot(x[-1:, 0], x[-1:, 1], "o", color="black", ms=2.4, mec="white", mew=0.4)
            axes.set_xlim(-2.7, 2.7)
            axes.set_ylim(-2.7, 2.7)
            axes.set_aspect("equal")
            axes.set_xticks([-2, 0, 2])
            axes.set_yticks([-2, 0, 2])
            axes.tick_params(labelsize=6, length=2)
        row[0].set_ylabel(f"{label}\nsecond element", fontsize=7)
    for axes, t in zip(panels[0], TIMES, strict=True):
        axes.set_title(f"t = {t:g}", fontsize=8)
    figure.supxlabel("first element", fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    print(f"drew {path}")


def main(
    n: int = 4000,
    steps: int = 1000,
    seeds: Sequence[int] = range(3),
    out: Path = Path("runs/examples/mixture.png"),
) -> None:
    """Print the numbers, check what is known, and draw the closed form."""
    z = torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = {
        name: generate(closed_form(grouping), z, doubled=True)
        for name, grouping in GROUPINGS.items()
    }
    show_paths(exact, z)
    off = show_scores(exact)
    # 8 shares: chance takes the largest beyond 4 standard errors once in 2,000 such runs
    assert max(off.values()) < 4
    draw(exact, out)
    if steps:
        print(f"MLPs trained for {steps} steps of {BATCH}, from the same noise")
        networks = {
            f"{name}, seed {seed}": generate(trained(grouping, seed, steps), z)
            for name, grouping in GROUPINGS.items()
            for seed in seeds
        }
        show_scores(networks)
        print("  median distance to the closed form's point, and to the other schedule's")
        for name, made in networks.items():
            own, other = name.split(",")[0], "GDM" if name.startswith("k") else "k = 1"
            near, far = (median_distance(made.x, exact[each].x) for each in (own, other))
            print(f"  {name:16s}{near:.3f}  {far:.3f}")
            assert stays(made.path) == (own == "GDM")
            assert near < far


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=4000, help="points to generate")
    parser.add_argument("--steps", type=int, default=1000, help="training steps; 0 trains nothing")
    parser.add_argument("--out", type=Path, default=Path("runs/examples/mixture.png"), help="PNG")
    options = parser.parse_args()
    main(options.n, options.steps, out=options.out)
