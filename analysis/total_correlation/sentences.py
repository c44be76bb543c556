"""What the answers say, in sentences and rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from gdm_repr.analysis.columns.layout import Layout
from gdm_repr.analysis.columns.layout import counted as counted_columns
from gdm_repr.analysis.columns.names import LATENTS
from gdm_repr.analysis.intervals.estimate import LEVEL, in_twos, number
from gdm_repr.analysis.total_correlation.answers import Answer, find
from gdm_repr.analysis.total_correlation.estimate import ElementNormality, TotalCorrelationEstimate
from gdm_repr.analysis.total_correlation.questions import Question

QUESTIONS = 8  # that the answer speaks of, by one estimator


def as_table(rows: Sequence[Answer]) -> list[dict[str, object]]:
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


def sentences(rows: Sequence[Answer], estimators: Sequence[str]) -> list[str]:
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
        for note in dict.fromkeys(row.note for row in refused):
            names = [_named(row.question)[0] for row in refused if row.note == note]
            where = ", ".join(names)
            said.append(f"No value {where}: {note}.")
    return said


def _by_one(
    rows: Sequence[Answer],
    estimator: str,
    found: Sequence[tuple[Question, TotalCorrelationEstimate]],
) -> list[str]:
    """Say what one estimator found: the latents with interval and p, then the controls."""
    dependent = [_named(question)[0] for question, tc in found if tc.p_value <= LEVEL]
    verdict = f"dependent are the columns {', '.join(dependent)}"
    if not dependent:
        verdict = "no columns are told from independent ones"
    said = [
        f"By {estimator}, {verdict}. That means p up to {LEVEL:g}, at n = {found[0][1].n} latents."
    ]
    others = [source for source in dict.fromkeys(row.source for row in rows) if source != LATENTS]
    for question, tc in found[:QUESTIONS]:
        controls = [(source, find(rows, source, question.name, estimator)) for source in others]
        beside = in_twos([f"of {name} {number(each.value, 2)}" for name, each in controls if each])
        name, count = _named(question)
        part = f"Looked at: {count}. " * bool(count)
        said.append(
            f"Total correlation {name}, by {estimator}: {tc} nats. Its p is {number(tc.p_value)}. "
            f"{part}{beside}".rstrip()
        )
    left = len(found) - QUESTIONS
    return [*said, *[f"The table has {left} more."] * (left > 0)]


def _named(question: Question) -> tuple[str, str]:
    """Return what was asked, and how many of its columns were looked at where not all."""
    found = re.fullmatch(r"(.*?) ?\(?(\d[\d,]* of [\d,]+ columns)\)?", question.label)
    return (found[1] or "of all of these", found[2]) if found else (question.label, "")


def normality_sentence(found: Mapping[str, ElementNormality], whole: int | None = None) -> str:
    """Say how many elements are not N(0, 1), with the controls beside.

    Args:
        found: results by source.
        whole: numbers that the latents have, if not all of them were looked at.
    """

    def counted(normality: ElementNormality) -> str:
        return f"{int(normality.rejected.sum())} of {len(normality.p)}"

    own = found[LATENTS]
    worst = int(own.statistic.argmax())
    tested = len(own.p)
    part = f" Looked at: {counted_columns(tested, whole)}." if whole and whole != tested else ""
    beside = "".join(
        f" Of {name} {counted(each)} do." for name, each in found.items() if name != LATENTS
    )
    return (
        f"{counted(own)} elements of the latents differ from N(0, 1).{beside} "
        f"The largest Kolmogorov-Smirnov distance of a latent is "
        f"{number(float(own.statistic[worst]))} (95 % null {number(own.null_high)}). "
        f"The false-discovery rate is {100 * own.rate:.0f} %, at n = {own.n}.{part}"
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
