"""Questions about tables, answered by estimators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdm_repr.analysis.total_correlation.estimate import TotalCorrelationEstimate, total_correlation
from gdm_repr.analysis.total_correlation.estimators import ESTIMATORS
from gdm_repr.analysis.total_correlation.questions import Question
from gdm_repr.boundary.isolation import isolated

FEW = {"knn": 8}  # columns beyond which an estimator is not asked


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A result, or why there is none.

    Attributes:
        n: samples in the table.
        tc: what was found; None if refused.
        note: why it was refused.
    """

    n: int
    tc: TotalCorrelationEstimate | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Answer(Outcome):
    """An outcome, and of what.

    Attributes:
        source: of the table.
        question: what was asked.
        estimator: name in ESTIMATORS.
    """

    source: str
    question: Question
    estimator: str


def most_columns(n: int, most: int = FEW["knn"]) -> int:
    """Return how many columns, up to ``most``, nearest neighbours can take with n samples.

    >>> most_columns(1797), most_columns(100)
    (5, 1)
    """
    allowed = [d for d in range(1, most + 1) if ESTIMATORS["knn"].needed(d) <= n]
    return max(allowed, default=0)


def find(
    answers: Sequence[Answer], source: str, name: str, estimator: str
) -> TotalCorrelationEstimate | None:
    """Return one result, or None where there is none."""
    for each in answers:
        if (each.source, each.question.name, each.estimator) == (source, name, estimator):
            return each.tc
    return None


def fits(question: Question, estimator: str) -> bool:
    """Tell whether an estimator is meant for that many columns."""
    return question.d <= FEW.get(estimator, question.d)


@isolated
def answer(
    table: NDArray[Any],
    question: Question,
    estimator: str,
    *,
    permutations: int,
    resamples: int,
    seed: int,
) -> Outcome:
    """Estimate total correlation; a refusal (too few samples, constant columns) becomes a note.

    Args:
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
        return Outcome(n=n, note=f"needs column {last}, but there are {width} columns")
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
        return Outcome(n=n, note=str(error).removeprefix("z: "))
    return Outcome(n=n, tc=tc)
