"""The loss of a training as a picture: each band's, against the images seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gdm_repr.files import write_atomically

SMOOTHED = 12  # records, at most, that a point is the mean of: a twelfth of the curve


def draw_curve(
    records: Sequence[Mapping[str, Any]], names: Sequence[str], path: Path, *, relative: bool
) -> None:
    """Draw ``log.jsonl``.

    Args:
        records: one a line of the log, with ``images`` and ``loss/BAND``.
        names: of the bands, in the order of generation.
        path: the PNG file.
        relative: whether a loss of 1 is that of the best Gaussian.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for name in names:
        key = f"loss/{name}"
        rows = [(row["images"], row[key]) for row in records if row.get(key) is not None]
        width = max(1, len(rows) // SMOOTHED)
        means = [
            sum(loss for _, loss in rows[i : i + width]) / len(rows[i : i + width])
            for i in range(0, len(rows), width)
        ]
        at = [rows[min(i + width, len(rows)) - 1][0] for i in range(0, len(rows), width)]
        axes.plot(at, means, marker="o", ms=3, label=name)
    if relative:
        axes.axhline(1, color="black", lw=0.8, ls="--", label="the best Gaussian")
    axes.set_xlabel("images seen")
    axes.set_ylabel("loss" + (", of the best Gaussian's" if relative else ""))
    axes.legend(frameon=False, fontsize=8)
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=150, format="png"))
