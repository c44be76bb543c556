"""Latent and round-trip error against evaluations, for every solver on trained models.

    python benchmarks/solvers.py runs/digits runs/photos --out docs/solvers

Encodes the same images by every solver and coordinate at several numbers of evaluations. The
latent error is the RMS difference to a reference of the same model, rk4 in the whitened coordinate
at --reference steps (its own step-doubling error is printed beside it); the round-trip error is the
RMS of decode(encode(x)) - x. The paper's setting is euler, uniform steps, at 128 evaluations.
"Split" rows
have steps split over the groups by the error measured on other images (--split auto of the
commands). Ends with the tables of docs/solvers.md.
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from gdm_repr import GDM
from gdm_repr.coordinates import COORDINATES
from gdm_repr.data.loading import open_data
from gdm_repr.ode import Plan, decode, encode
from gdm_repr.steps import even_steps, split_steps

PAPER = ("euler", "uniform")
BUDGETS = (12, 18, 24, 36, 48, 72, 96, 126, 192)
PER_STEP = {"euler": 1, "ab2": 1, "ab3": 1, "midpoint": 2, "heun": 2, "rk4": 4}
SPLIT_BUDGETS = (12, 18, 24, 36)  # where steps are few, it matters which group gets them
SPLIT_SOLVERS = ("midpoint", "ab2", "ab3")
SPLIT = "whitened, split"
SPLIT_IMAGES = 32
TOLERANCES = (1e-1, 1e-2, 1e-3, 1e-4)  # dopri5 takes tolerances, not steps


@dataclass(frozen=True)
class Row:
    """One encoding and decoding of the images."""

    model: str
    solver: str
    coordinate: str
    evaluations: int
    latent_rmse: float
    round_trip_rmse: float


def rmse(error: torch.Tensor) -> float:
    """Return the root mean square over everything."""
    return float(error.double().square().mean().sqrt())


def plans(solver: str, coordinate: str, k: int, budgets: tuple[int, ...] = BUDGETS) -> list[Plan]:
    """Return the plans of one solver whose evaluations come close to the budgets."""
    if solver == "dopri5":
        return [Plan(solver, coordinate, (1,) * k, tolerance=t) for t in TOLERANCES]
    result = []
    for budget in (*budgets, 128) if (solver, coordinate) == PAPER else budgets:
        # these start every group with one more evaluation
        steps = (budget - (k if solver in ("ab2", "ab3") else 0)) // PER_STEP[solver]
        if steps >= k:
            result.append(Plan(solver, coordinate, even_steps(steps, k)))
    return result


def measure(name: str, images: int, reference: int) -> list[Row]:
    """Measure every solver on one model."""
    model = GDM.from_pretrained(name)
    training = model.checkpoint.training
    preprocess = model.checkpoint.preprocess
    dataset = open_data(training["data"], preprocess)
    chosen = np.sort(
        np.random.default_rng(0).choice(len(dataset), min(images, len(dataset)), False)
    )
    x = model.to_basis(dataset.batch(chosen).x)
    others = np.setdiff1d(np.arange(len(dataset)), chosen)[:: max(1, len(dataset) // SPLIT_IMAGES)]
    probe = model.to_basis(dataset.batch(others[:SPLIT_IMAGES]).x)
    k, label = model.grouping.k, Path(name).name
    exact = encode(model.flow, x, Plan("rk4", "whitened", (reference,) * k)).y
    half = encode(model.flow, x, Plan("rk4", "whitened", (reference // 2,) * k)).y
    print(
        f"{label}: {len(x)} images; the reference's step-doubling error is {rmse(exact - half):.1e}"
    )
    jobs = [
        (coordinate, plan)
        for coordinate in COORDINATES
        for solver in (*PER_STEP, "dopri5")
        for plan in plans(solver, coordinate, k)
    ]
    for solver in SPLIT_SOLVERS:
        for plan in plans(solver, "whitened", k, SPLIT_BUDGETS):
            steps = split_steps(model.flow, probe, plan, sum(plan.steps))
            jobs.append((SPLIT, replace(plan, steps=steps)))
    rows = []
    for coordinate, plan in jobs:
        there = encode(model.flow, x, plan)
        back = decode(model.flow, there.y, plan)
        errors = rmse(there.y - exact), rmse(back.y - x)
        row = Row(label, plan.solver, coordinate, there.evaluations, *errors)
        rows.append(row)
        print(
            f"{label:>10} {row.solver:>9} {coordinate:>15} {row.evaluations:>5} evaluations  "
            f"latent {row.latent_rmse:.2e}  round trip {row.round_trip_rmse:.2e}",
            flush=True,
        )
    return rows


def verdict(rows: list[Row]) -> list[str]:
    """Say what reaches the paper's error, and what is reached at its cost."""
    lines = []
    for label in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == label]
        paper = next(r for r in own if (r.solver, r.coordinate) == PAPER and r.evaluations == 128)
        reach = [r for r in own if r.latent_rmse <= paper.latent_rmse]
        first = min(reach, key=lambda r: r.evaluations)
        best = min((r for r in own if r.evaluations <= 126), key=lambda r: r.latent_rmse)
        ratio = paper.latent_rmse / best.latent_rmse
        lines += [
            "",
            f"| {label} | solver | evaluations | latent error | round trip |",
            "| --- | --- | --- | --- | --- |",
            _row("the paper's setting", paper),
            _row("the first to reach its latent error", first),
            _row(f"the best with at most 126: 1/{ratio:.0f} of it", best),
        ]
    return lines


def _row(what: str, row: Row) -> str:
    return (
        f"| {what} | {row.solver}, {row.coordinate} | {row.evaluations} | "
        f"{row.latent_rmse:.2e} | {row.round_trip_rmse:.2e} |"
    )


def table(rows: list[Row]) -> str:
    """Return one Markdown table a model: latent / round-trip RMSE, at most so many evaluations."""
    lines = []
    for label in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == label]
        lines += ["", f"### {label}", ""]
        lines.append(f"| solver, coordinate | {' | '.join(map(str, BUDGETS))} |")
        lines.append("| --- |" + " --- |" * len(BUDGETS))
        for coordinate in (*COORDINATES, SPLIT):
            for solver in SPLIT_SOLVERS if coordinate == SPLIT else PER_STEP:
                cells = []
                for low, high in zip((0, *BUDGETS), BUDGETS, strict=False):
                    fits = [
                        row
                        for row in own
                        if (row.solver, row.coordinate) == (solver, coordinate)
                        and low < row.evaluations <= high
                    ]
                    best = max(fits, key=lambda row: row.evaluations, default=None)
                    cells.append(
                        f"{best.latent_rmse:.1e} / {best.round_trip_rmse:.1e}" if best else ""
                    )
                lines.append(f"| {solver}, {coordinate} | {' | '.join(cells)} |")
        lines += ["", "| dopri5 | evaluations | error |", "| --- | --- | --- |"]
        lines += [
            f"| {row.coordinate} | {row.evaluations} | {row.latent_rmse:.1e} / "
            f"{row.round_trip_rmse:.1e} |"
            for row in own
            if row.solver == "dopri5"
        ]
    return "\n".join(lines)


def draw(rows: list[Row], path: Path) -> None:
    """Draw error against evaluations, a panel for each model and error."""
    from matplotlib.figure import Figure

    labels = list(dict.fromkeys(row.model for row in rows))
    figure = Figure(figsize=(9, 3.6 * len(labels)), layout="constrained")
    panels = figure.subplots(len(labels), 2, squeeze=False)
    colours = dict(zip([*PER_STEP, "dopri5"], ["C0", "C1", "C2", "C3", "C4", "C5"], strict=True))
    for label, pair in zip(labels, panels, strict=True):
        for axes, error in zip(pair, ("latent_rmse", "round_trip_rmse"), strict=True):
            for solver, colour in colours.items():
                for coordinate, style in (("uniform", "--"), ("whitened", "-"), (SPLIT, ":")):
                    curve = sorted(
                        (r.evaluations, getattr(r, error))
                        for r in rows
                        if (r.model, r.solver, r.coordinate) == (label, solver, coordinate)
                    )
                    if curve:
                        axes.plot(*zip(*curve, strict=True), style, color=colour, marker=".", ms=4)
            axes.set(xscale="log", yscale="log", xlabel="evaluations of u", title=label)
            axes.set_xticks([12, 24, 48, 96, 192], ["12", "24", "48", "96", "192"])
            axes.minorticks_off()
            axes.set_ylabel(error.replace("_rmse", " RMSE").replace("_", " "))
            axes.grid(alpha=0.3)
    handles = [
        *(panels[0][0].plot([], [], color=c, label=s)[0] for s, c in colours.items()),
        panels[0][0].plot([], [], "k--", label="uniform (paper)")[0],
        panels[0][0].plot([], [], "k-", label="whitened")[0],
        panels[0][0].plot([], [], "k:", label="whitened, split")[0],
    ]
    figure.legend(handles=handles, loc="outside right center")
    figure.savefig(path, dpi=110)


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=["scenes"])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--reference", type=int, default=64, help="rk4 steps of each group")
    parser.add_argument("--out", type=Path, help="also write OUT.csv and OUT.png")
    parser.add_argument("--quick", action="store_true", help="16 images, a shorter reference")
    options = parser.parse_args()
    found = [name for name in options.models if Path(name).exists()]
    for name in set(options.models) - set(found):
        print(f"{name}: no such model; train it first (README)", file=sys.stderr)
    images, reference = (16, 32) if options.quick else (options.images, options.reference)
    rows = [row for name in found for row in measure(name, images, reference)]
    print("\n".join(verdict(rows)))
    print(table(rows))
    if options.out and rows:
        with options.out.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(asdict(rows[0])))
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)
        draw(rows, options.out.with_suffix(".png"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
