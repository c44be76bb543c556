"""Check the known truths on this machine and device: ``python -m gdm_repr.selftest``.

No training: data whose u is known in closed form (:mod:`gdm_repr.oracle`), so that whatever is
measured is the error of the code and of the device's arithmetic. Everything runs in float64.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gdm_repr.boundary.isolation import isolated
from gdm_repr.command import run_command

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from gdm_repr.ode import Plan


@dataclass(frozen=True)
class Law:
    """One line of the table: ``measured`` must lie within ``limit`` of ``expected``."""

    name: str
    measured: float
    expected: float
    limit: float

    @property
    def passed(self) -> bool:
        """Whether the law holds."""
        return abs(self.measured - self.expected) <= self.limit


class Case:
    """A Gaussian of 12 elements in three groups, its flow, and its exact latents."""

    def __init__(self, device: torch.device) -> None:
        """Draw the covariance and 64 examples from fixed seeds."""
        import torch

        from gdm_repr.coordinates import Flow
        from gdm_repr.grouping import build_grouping
        from gdm_repr.oracle import block_whitening, gaussian_oracle
        from gdm_repr.process import PROCESSES

        generator = torch.Generator().manual_seed(0)
        D = 12
        root = torch.randn(D, D, generator=generator, dtype=torch.float64)
        S = root @ root.T / D + 0.1 * torch.eye(D, dtype=torch.float64)
        mean = 0.3 * torch.randn(D, generator=generator, dtype=torch.float64)
        self.grouping = build_grouping("bands", (1, 3, 4), cuts=[3, 7], order=[1, 0, 2])
        process = PROCESSES["linear"]
        x = gaussian_oracle(mean, S, self.grouping).sample(64, generator)
        self.z = block_whitening(x, mean, S, self.grouping)[:, None].to(device)
        oracle = gaussian_oracle(mean.to(device), S.to(device), self.grouping, process)
        self.x = x[:, None].to(device)
        std = S.diagonal().sqrt()[None].to(device)
        self.flow = Flow(oracle, self.grouping, process, mean[None].to(device), std)

    def error(self, plan: Plan) -> float:
        """Return the RMS error of the latents."""
        from gdm_repr.ode import encode

        return _rms(encode(self.flow, self.x, plan).y - self.z)


def _rms(error: Tensor) -> float:
    return float(error.square().mean().sqrt())


def solver_laws(case: Case) -> list[Law]:
    """Exact encoder, order of convergence across group boundaries, round trip, exact inverse."""
    from gdm_repr.ode import Plan, decode, encode
    from gdm_repr.solvers import SOLVERS

    fine = Plan("rk4", "whitened", (300,) * 3)
    laws = [Law("Gaussian encode = block whitening (rk4, RMSE)", case.error(fine), 0, 1e-9)]
    for name, solver in SOLVERS.items():
        if name == "dopri5":
            error = case.error(Plan(name, "whitened", (1,) * 3, tolerance=1e-9))
            laws.append(Law("dopri5 at tolerance 1e-9 (RMSE)", error, 0, 1e-6))
            continue
        first, second = (case.error(Plan(name, "whitened", (n,) * 3)) for n in (32, 64))
        laws.append(Law(f"order of {name}", math.log2(first / second), solver.order, 0.2))
    latents = encode(case.flow, case.x, fine).y
    back = decode(case.flow, latents, fine).y
    laws.append(Law("decode(encode(x)) - x (rk4, RMSE)", _rms(back - case.x), 0, 1e-9))
    exact = Plan("euler", "whitened", (12,) * 3, inverse=True, tolerance=1e-12)
    solution = encode(case.flow, case.x, exact)
    back = decode(case.flow, solution.y, exact).y
    laws.append(Law("exact inverse of euler, 12 steps (RMSE)", _rms(back - case.x), 0, 1e-10))
    return laws


def method_laws(case: Case, device: torch.device) -> list[Law]:
    """Prop. 3.1, Prop. 3.3, the triangular Jacobian, the one-step case, bases."""
    import torch

    from gdm_repr.basis import BASES, build_basis
    from gdm_repr.coordinates import Flow
    from gdm_repr.grouping import build_grouping
    from gdm_repr.ode import Integrator, Plan, decode, encode
    from gdm_repr.oracle import gaussian_oracle
    from gdm_repr.process import PROCESSES

    laws = []
    diffused = torch.tensor([[1.0, 1.0, 0.0]], dtype=torch.float64, device=device)
    moved = case.x.clone()
    moved[..., 7:] += 3  # group 2 is noise at this level
    change = (case.flow.u(moved, diffused) - case.flow.u(case.x, diffused))[..., :7]
    laws.append(Law("Prop. 3.3: u against diffused elements", float(change.abs().max()), 0, 1e-12))

    plan = Plan("rk4", "whitened", (16,) * 3)
    edited = case.z.clone()
    edited[..., :3] += 1  # group 0 is generated after group 1
    shift = (decode(case.flow, edited, plan).y - decode(case.flow, case.z, plan).y)[..., 3:7]
    laws.append(Law("latents move no earlier group", float(shift.abs().max()), 0, 1e-12))

    D = 5
    generator = torch.Generator().manual_seed(1)
    root = torch.randn(D, D, generator=generator, dtype=torch.float64)
    S = (root @ root.T / D + 0.2 * torch.eye(D, dtype=torch.float64)).to(device)
    order = [3, 0, 4, 1, 2]
    single = build_grouping("elementwise", (1, 1, D), order=order)
    zero = torch.zeros(D, dtype=torch.float64, device=device)
    flow = Flow(gaussian_oracle(zero, S, single), single, PROCESSES["linear"], zero[None], S[:1])
    noise = torch.randn(8, 1, D, generator=generator, dtype=torch.float64).to(device)
    data = torch.randn(8, D, generator=generator, dtype=torch.float64).to(device)
    gap = zero.max()
    for rank, element in enumerate(order):
        before = order[:rank]
        state = noise.clone()
        state[:, 0, before] = data[:, before]
        step = Integrator(flow, Plan("euler", "uniform", (1,) * D))
        made = step.run(state, encoding=False, groups=[element])[:, 0, element]
        weight = torch.linalg.solve(S[before][:, before], S[before, element])
        gap = torch.maximum(gap, (made - data[:, before] @ weight).abs().max())
    laws.append(Law("Prop. 3.1: x_l = E[x_l | generated]", float(gap), 0, 1e-12))

    std = torch.linspace(0.05, 2, 12, dtype=torch.float64, device=device)
    oracle = gaussian_oracle(torch.zeros_like(std), torch.diag(std**2), case.grouping)
    independent = replace(case.flow, u=oracle, mean=torch.zeros_like(std)[None], std=std[None])
    one = encode(independent, case.x, Plan("euler", "whitened", (1,) * 3)).y
    laws.append(Law("independent data: one whitened step", _rms(one - case.x / std), 0, 1e-12))

    image = torch.randn(2, 3, 12, 16, generator=generator, dtype=torch.float64).to(device)
    for name in BASES:
        basis = build_basis(name, (12, 16))
        gap = (basis.inverse(basis.forward(image)) - image).abs().max()
        laws.append(Law(f"U U^T x = x, basis {name}", float(gap), 0, 1e-12))
    return laws


@isolated
def selftest(device: str) -> int:
    """Run every law and print the table; returns 0 if all pass, else 1."""
    from gdm_repr.api import choose_device

    place = choose_device(device)
    started = time.monotonic()
    case = Case(place)
    groups: list[Callable[[], list[Law]]] = [
        lambda: solver_laws(case),
        lambda: method_laws(case, place),
    ]
    laws = [law for group in groups for law in group()]
    print(f"{'law':<46} {'measured':>10} {'expected':>9} {'within':>8}  pass")
    for law in laws:
        verdict = "yes" if law.passed else "NO"
        numbers = f"{law.measured:>10.3g} {law.expected:>9.3g} {law.limit:>8.0e}"
        print(f"{law.name:<46} {numbers}  {verdict}")
    failed = sum(not law.passed for law in laws)
    spent = time.monotonic() - started
    print(f"{len(laws) - failed} of {len(laws)} laws hold on {place} (float64, {spent:.0f} s)")
    return 1 if failed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr selftest``."""
    parser = argparse.ArgumentParser(
        prog="gdm-repr selftest",
        description="Check the known truths on this machine, without any training.",
        epilog="example: python -m gdm_repr.selftest --device cpu",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    options = parser.parse_args(argv)
    return run_command("selftest", lambda: selftest(options.device))


if __name__ == "__main__":
    sys.exit(main())
