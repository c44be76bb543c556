"""Table 2: our small twin's cells beside the paper's, as a picture and in contrasts.

    gdm-repr study configs/paper/small/table2.yaml
    python docs/examples/table2.py

A contrast is the mean of some intervals of generation minus that of the others, for each model;
its 95 % t interval is over the models, which share their data and, by seed, the latents and images
that they are scored with.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gdm_repr.analysis.compare.statistics import seed_mean
from gdm_repr.analysis.order_search.orders import rank_correlation
from gdm_repr.analysis.report.figures import WIDTH, new_figure

TABLES = Path("runs/studies/table2-small/comparison/tables")
PICTURE = Path("runs/examples/table2.png")
METRIC = "sample_quality/frechet/pixels"
TRAINING = ("0.1 0.2 0.5", "0.3 0.4 0.7", "0.5 0.6 0.9", "0.6 0.8 0.9", "0.7 0.8 0.9")
GENERATION = (
    "0.1 0.8 0.9", "0.3 0.8 0.9", "0.7 0.8 0.9", "0.1 0.2 0.9", "0.1 0.5 0.9", "0.1 0.2 0.3",
    "0.1 0.2 0.5",
)  # fmt: skip
PAPER = [
    [25.39, 29.47, 34.77, 25.58, 24.97, 25.98, 25.74],
    [21.38, 29.39, 34.54, 21.16, 20.63, 21.42, 21.23],
    [21.48, 31.68, 36.16, 20.74, 20.40, 20.66, 20.62],
    [19.69, 27.75, 32.83, 17.60, 17.76, 17.41, 17.55],
    [22.59, 34.21, 39.61, 20.72, 20.83, 20.31, 20.42],
]  # FID of 10,000 samples on FFHQ 64x64
CONTRASTS = {
    "coarsest band emphasised": ("0.1 0.2 0.3", "0.1 0.2 0.5"),
    "finest band emphasised": ("0.3 0.8 0.9", "0.7 0.8 0.9"),  # the paper's worst columns
}

Cells = NDArray[np.float64]


def read_cells(tables: Path) -> dict[str, Cells]:
    """Return our cells by seed, (5, 7) each: rows of training, columns of generation.

    Raises:
        ValueError: if a cell is not there.
    """
    found: dict[str, dict[str, float]] = {}
    with (tables / "runs.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["seed"], {})[row["choice"]] = float(row[METRIC])
    labels = [[f"{training}, {generation}" for generation in GENERATION] for training in TRAINING]
    for seed, own in found.items():
        if lacking := [label for row in labels for label in row if label not in own]:
            raise ValueError(f"{tables}: no cell {lacking[0]!r}, seed {seed}; run the study first")
    return {
        seed: np.array([[own[label] for label in row] for row in labels])
        for seed, own in found.items()
    }


def contrasts(cells: Sequence[Cells], columns: Sequence[str]) -> list[float]:
    """Return the mean of some columns minus that of the others, for each row of each seed."""
    chosen = np.isin(GENERATION, columns)
    every = np.concatenate(cells)
    differences: list[float] = (every[:, chosen].mean(1) - every[:, ~chosen].mean(1)).tolist()
    return differences


def tell(cells: Mapping[str, Cells]) -> None:
    """Print the cells, the means over rows, the contrasts and the rank correlations."""
    mean = np.mean(list(cells.values()), axis=0)
    print(f"mean of {len(cells)} seeds\n{'':14}" + "".join(f"{label:>13}" for label in GENERATION))
    for label, row in zip(TRAINING, mean, strict=True):
        print(f"{label:14}" + "".join(f"{value:13.2f}" for value in row))
    for label, row in zip(TRAINING, zip(*cells.values(), strict=True), strict=True):
        print(f"training {label}, mean of its row: {seed_mean([own.mean() for own in row])}")
    for name, columns in CONTRASTS.items():
        print(f"{name}, minus the others: {seed_mean(contrasts(list(cells.values()), columns))}")
        for seed, own in cells.items():
            print(f"  of seed {seed} alone: {seed_mean(contrasts([own], columns))}")
        print(f"  the paper's: {seed_mean(contrasts([np.array(PAPER)], columns))}")
    paper = np.ravel(PAPER).tolist()
    print(
        f"rank correlation with the paper's cells: {rank_correlation(mean.ravel().tolist(), paper)}"
    )
    for seed, own in cells.items():
        rest = [other for key, other in cells.items() if key != seed]
        if rest:
            others = np.mean(rest, axis=0).ravel().tolist()
            found = rank_correlation(own.ravel().tolist(), others)
            print(f"  of seed {seed} with the mean of the others: {found}")


def draw(cells: Mapping[str, Cells], out: Path) -> None:
    """Draw the paper's cells and ours, dark is good."""
    figure = new_figure(3.2, WIDTH * 1.3)
    mean = np.mean(list(cells.values()), axis=0)
    ours = f"digits 8x8, Frechet distance in pixels, {len(cells)} seeds"
    panels = {"FFHQ 64x64, FID (the paper)": (np.array(PAPER), ".1f"), ours: (mean, ".2f")}
    for axes, (name, (values, form)) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        axes.imshow(values, cmap="viridis")
        middle = (values.min() + values.max()) / 2
        for (row, column), value in np.ndenumerate(values):
            style = {"fontsize": "x-small", "color": "black" if value > middle else "white"}
            axes.text(column, row, f"{value:{form}}", ha="center", va="center", **style)
        axes.set_title(name, fontsize="small", loc="left")
        axes.set_xticks(range(len(GENERATION)), GENERATION, rotation=40, ha="right")
        axes.set_yticks(range(len(TRAINING)), TRAINING)
        axes.tick_params(labelsize="x-small")
        axes.set_xlabel("intervals of generation", fontsize="small")
        axes.set_ylabel("intervals of training", fontsize="small")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)
    print(f"drew {out}")


def main(tables: Path = TABLES, out: Path = PICTURE) -> None:
    """Read the study's table of runs, tell and draw."""
    cells = read_cells(tables)
    tell(cells)
    draw(cells, out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=Path, default=TABLES, help="of the study's comparison")
    parser.add_argument("--out", type=Path, default=PICTURE, help="PNG")
    options = parser.parse_args()
    main(options.tables, options.out)
