"""Measure questions about tables by estimators, and say what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdm_repr.analysis.columns.layout import Layout, Question
from gdm_repr.analysis.columns.layout import counted as counted_columns
from gdm_repr.analysis.intervals.estimate import LEVEL, Estimate, number
from gdm_repr.analysis.total_correlation.estimate import (
    ElementNormality,
    TotalCorrelation,
    total_correlation,
)
from gdm_repr.analysis.total_correlation.estimators import ESTIMATORS
from gdm_repr.boundary.isolation import isolated

LATENTS = "latents"
FEW = {"knn": 8}  # columns beyond which an estimator is not asked


@dataclass(frozen=True)
class Row:
    """An answer, or why there is none.

    Attributes:
        source: of the table.
        question: what was asked.
        estimator: name in ESTIMATORS.
        n: samples in the table.
        tc: what was found; None if refused.
        note: why it was refused.
    """

    source: str
    question: Question
    estimator: str
    n: int
    tc: TotalCorrelation | None
    note: str = ""

    def record(self) -> dict[str, Any]:
        """Return the result as plain values."""
        return {"n": self.n, "tc": asdict(self.tc) if self.tc else None, "note": self.note}

    @classmethod
    def of(cls, source: str, question: Question, estimator: str, record: Mapping[str, Any]) -> Row:
        """Make a row of what :meth:`record` returned."""
        tc = TotalCorrelation(**record["tc"]) if record["tc"] else None
        return cls(source, question, estimator, record["n"], tc, record["note"])


def most_columns(n: int, most: int = FEW["knn"]) -> int:
    """Return how many columns, up to ``most``, nearest neighbours can take with n samples.

    >>> most_columns(1797), most_columns(100)
    (5, 1)
    """
    allowed = [d for d in range(1, most + 1) if ESTIMATORS["knn"].needed(d) <= n]
    return max(allowed, default=0)


def fits(question: Question, estimator: str) -> bool:
    """Tell whether an estimator is meant for that many columns."""
    return question.d <= FEW.get(estimator, question.d)


@isolated
def measure(
    source: str,
    table: NDArray[Any],
    question: Question,
    estimator: str,
    *,
    permutations: int,
    resamples: int,
    seed: int,
) -> Row:
    """Estimate total correlation; a refusal (too few samples, constant columns) becomes a note.

    Args:
        source: name of the table.
        table: samples (n, D).
        question: which columns.
        estimator: name in ESTIMATORS.
        permutations: draws of the null.
        resamples: half-samples of the interval.
        seed: of the draws.
    """
    n, width = table.shape
    blocks = [np.array(block) for block in question.blocks]
    last = max(int(block.max()) for block in blocks)
    if last >= width:
        note = f"needs column {last}, but there are {width} columns"
        return Row(source, question, estimator, n, None, note)
    columns = np.concatenate(blocks)
    ends = np.cumsum([len(block) for block in blocks])[:-1]
    try:
        tc = total_correlation(
            table[:, columns],
            estimator=estimator,
            blocks=np.split(np.arange(len(columns)), ends),
            permutations=permutations,
            resamples=resamples,
            seed=seed,
        )
    except ValueError as error:
        return Row(source, question, estimator, n, None, str(error).removeprefix("z: "))
    return Row(source, question, estimator, n, tc)


def as_table(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Return the rows as those of a table, by heading."""
    fields = {
        "TC (nats)": "value",
        "low": "low",
        "high": "high",
        "null mean": "null_mean",
        "null 95 %": "null_high",
        "p": "p_value",
        "bias subtracted": "bias",
        "drift": "drift",
    }
    return [
        {
            "what": row.question.label,
            "source": row.source,
            "estimator": row.estimator,
            "n": row.n,
            "columns": row.question.d,
            **{heading: getattr(row.tc, field, None) for heading, field in fields.items()},
            "nats per column": row.tc.value / row.tc.d if row.tc else None,
            "note": row.note,
        }
        for row in rows
    ]


def find(rows: Sequence[Row], source: str, name: str, estimator: str) -> TotalCorrelation | None:
    """Return one result, or None where there is none."""
    for row in rows:
        if (row.source, row.question.name, row.estimator) == (source, name, estimator):
            return row.tc
    return None


def sentences(rows: Sequence[Row], estimators: Sequence[str]) -> list[str]:
    """Say what was found of the latents by some estimators, with the controls beside.

    What an estimator refused is said of the first one, and left out of the others.
    """
    said = []
    for place, estimator in enumerate(estimators):
        own = [row for row in rows if row.source == LATENTS and row.estimator == estimator]
        found = [(row.question, row.tc) for row in own if row.tc]
        if found:
            said += _by_one(rows, estimator, found)
        refused = [row for row in own if not row.tc] if place == 0 else []
        said += [f"No value {row.question.label}: {row.note}." for row in refused]
    return said


def _by_one(
    rows: Sequence[Row], estimator: str, found: Sequence[tuple[Question, TotalCorrelation]]
) -> list[str]:
    """Say what one estimator found: the latents with interval and p, then the controls."""
    latents = "; ".join(
        f"{question.label}: {Estimate(tc.value, tc.low, tc.high)}, p = {number(tc.p_value)}"
        for question, tc in found
    )
    dependent = [question.label for question, tc in found if tc.p_value <= LEVEL]
    verdict = "Dependent: " + ", ".join(dependent) if dependent else "None is told from independent"
    controls = []
    for source in dict.fromkeys(row.source for row in rows):
        others = [find(rows, source, question.name, estimator) for question, _ in found]
        if source != LATENTS and any(others):
            values = ", ".join(number(other.value, 2) if other else "-" for other in others)
            controls.append(f"{source} {values}")
    n = found[0][1].n
    beside = f" In the same order: {'; '.join(controls)}." if controls else ""
    return [
        f"Total correlation of the latents in nats, by {estimator} (n = {n}): {latents}. "
        f"{verdict} (p up to {LEVEL:g}).{beside}"
    ]


def normality_sentence(found: Mapping[str, ElementNormality], whole: int | None = None) -> str:
    """Say how many elements are not N(0, 1), with the controls beside.

    Args:
        found: results by source.
        whole: numbers that the latents have, if not all of them were looked at.
    """

    def counted(normality: ElementNormality) -> str:
        d, rejected = len(normality.p), int(normality.rejected.sum())
        return f"{rejected} of {d} ({100 * rejected / d:.0f} %)"

    own = found[LATENTS]
    worst = int(own.statistic.argmax())
    tested = len(own.p)
    part = f" ({counted_columns(tested, whole)})" if whole and whole != tested else ""
    others = [f"{name} {counted(each)}" for name, each in found.items() if name != LATENTS]
    beside = f" Beside it: {'; '.join(others)}." if others else ""
    return (
        f"{counted(own)} of the latents' elements{part} differ from N(0, 1) at a false-discovery "
        f"rate of {100 * own.rate:.0f} % (Kolmogorov-Smirnov, n = {own.n}); the largest distance "
        f"is {number(float(own.statistic[worst]))} (95 % of N(0, 1) samples lie below "
        f"{number(own.null_high)}).{beside}"
    )


def normality_rows(
    found: Mapping[str, ElementNormality], columns: Layout
) -> list[dict[str, object]]:
    """Return the elements as rows of a table, by heading.

    The interval is exact: sup |F_n - F| lies below the null's 95 % point whatever F is.
    """
    band = [name for name, (start, stop) in columns.bands.items() for _ in range(start, stop)]
    return [
        {
            "source": source,
            "band": band[place],
            "element": int(column) // columns.channels,
            "channel": int(column) % columns.channels,
            "distance": float(each.statistic[place]),
            "low": max(0.0, float(each.statistic[place]) - each.null_high),
            "high": min(1.0, float(each.statistic[place]) + each.null_high),
            "null 95 %": each.null_high,
            "p": float(each.p[place]),
            "q": float(each.q[place]),
            "differs": bool(each.rejected[place]),
            "n": each.n,
        }
        for source, each in found.items()
        for place, column in enumerate(columns.columns)
    ]
