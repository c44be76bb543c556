"""Fig. 5: the same 100 orders by several models, their mean and std as in the paper.

    gdm-repr study configs/paper/small/fig05.yaml
    python docs/examples/orders.py

Models differ in seed, latents and the real images that they are scored against. Whether they rank
orders alike says whether an order is good for the data or only for one model.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gdm_repr.analysis.order_search.orders import rank_correlation
from gdm_repr.analysis.report.figures import COLOURS, WIDTH, new_figure

STUDY = Path("runs/studies/fig05-small")
PICTURE = Path("runs/examples/orders.png")
SCORE = "Frechet distance"

Floats = NDArray[np.float64]


def read_rows(study: Path, table: str) -> Iterator[tuple[int, list[dict[str, str]]]]:
    """Return each model's seed and the rows of a table of its order search, by seed.

    Raises:
        ValueError: if there is none.
    """
    found = {}
    for path in study.glob(f"choices/*/order_search/tables/{table}.csv"):
        task = json.loads((path.parents[2] / "task.json").read_text("utf-8"))
        with path.open(encoding="utf-8", newline="") as file:
            found[int(task["choice"]["seed"])] = list(csv.DictReader(file))
    if not found:
        raise ValueError(f"{study}: no order search is here; run the study first")
    yield from sorted(found.items())


def read_scores(study: Path) -> dict[int, Floats]:
    """Return the scores of the orders that all models have, by seed."""
    by_seed = {
        seed: {row["order"]: float(row[SCORE]) for row in rows}
        for seed, rows in read_rows(study, "orders")
    }
    common = sorted(set.intersection(*(set(own) for own in by_seed.values())))
    return {seed: np.array([own[order] for order in common]) for seed, own in by_seed.items()}


def tell(scores: Mapping[int, Floats], study: Path) -> None:
    """Print how orders differ, whether models agree, and what the searches found."""
    for seed, own in scores.items():
        print(f"seed {seed}: {len(own)} orders, {own.min():.3g} to {own.max():.3g}, "
              f"std over orders {own.std(ddof=1):.2g}")  # fmt: skip
    for (a, first), (b, second) in itertools.combinations(scores.items(), 2):
        found = rank_correlation(first.tolist(), second.tolist())
        print(f"rank correlation of seeds {a} and {b}: {found}")
    if len(scores) > 1:
        every = np.stack(list(scores.values()))
        mean, std = every.mean(0), float(np.median(every.std(0, ddof=1)))
        print(f"mean of {len(every)} seeds: {mean.min():.3g} to {mean.max():.3g}, std over orders "
              f"{mean.std(ddof=1):.2g}; std over seeds of an order {std:.2g} (median)")  # fmt: skip
    for seed, rows in read_rows(study, "searches"):
        tenth = sorted(scores[seed])[max(1, len(scores[seed]) // 10) - 1]
        found = ", ".join(f"{float(row[SCORE]):.3g} (rank {row['rank']})" for row in rows)
        print(f"searches, seed {seed}: {found}; the tenth part ends at {tenth:.3g}")


def draw(scores: Mapping[int, Floats], out: Path) -> None:
    """Draw mean and std over models of every order, sorted, and each model's own scores."""
    every = np.stack(list(scores.values()))
    every = every[:, np.argsort(every.mean(0))]
    at = np.arange(1, every.shape[1] + 1)
    figure = new_figure(3.2, WIDTH * 1.1)
    axes = figure.add_subplot()
    for row, (seed, own) in enumerate(zip(scores, every, strict=True)):
        colour = COLOURS[1 + row % (len(COLOURS) - 1)]
        axes.plot(at, own, ".", ms=3, color=colour, alpha=0.7, label=f"model of seed {seed}")
    if len(every) > 1:
        axes.errorbar(
            at, every.mean(0), every.std(0, ddof=1), fmt="o", ms=3, lw=0.8, color=COLOURS[0],
            label="mean and std over models",
        )  # fmt: skip
    axes.set_xlabel("rank of the order by its mean")
    axes.set_ylabel(SCORE)
    axes.legend(frameon=False, fontsize="small", ncols=2, loc="upper left")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)
    print(f"drew {out}")


def main(study: Path = STUDY, out: Path = PICTURE) -> None:
    """Read the study's order searches, tell and draw."""
    scores = read_scores(study)
    tell(scores, study)
    draw(scores, out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", type=Path, default=STUDY, help="its folder")
    parser.add_argument("--out", type=Path, default=PICTURE, help="PNG")
    options = parser.parse_args()
    main(options.study, options.out)
