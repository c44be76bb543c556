"""Tables of a comparison, on the page and on the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from gdm_repr.analysis.compare.choices import Comparison
from gdm_repr.analysis.compare.runs import LeftOut
from gdm_repr.analysis.compare.statistics import SeedMean
from gdm_repr.analysis.compare.tags import FINGERPRINT_TAG
from gdm_repr.analysis.intervals.estimate import LEVEL, NOTHING, Estimate, number, with_ends
from gdm_repr.analysis.report.page import Table

ACROSS = 5  # metrics in the table of choices
_PRINTED = 8  # metrics on the terminal


def make_text(found: Comparison) -> str:
    """Return the table for a terminal: a block for each metric."""
    labels = [each.label for each in found.choices.every]
    width = max(map(len, labels))
    lines = []
    for metric in found.metrics[:_PRINTED]:
        lines.append(f"\n{metric.title}")
        if metric.axis() != metric.key:
            lines.append(f"  differences are those of the {metric.axis('value')}")
        minus = f"minus {found.reference} [Holm]"
        rows = [("", "n", "mean [95 %]", "floor", minus, "Holm p", "")]
        for label in labels:
            mean, floor = metric.means[label], metric.floors[label]
            difference = found.differences[metric.key].get(label)
            rows.append(
                (
                    label,
                    str(mean.n if mean else 0),
                    str(mean) if mean else "-",
                    number(floor.mean.value) if floor else "-",
                    _difference_text(difference.joint, difference.n)
                    if difference and difference.joint
                    else "-",
                    number(difference.holm) if difference else "-",
                    difference.verdict(metric.better) if difference else "reference",
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        widths[0] = width
        for row in rows:
            cells = (f"{cell:<{wide}}" for cell, wide in zip(row, widths, strict=True))
            lines.append(("  " + "  ".join(cells)).rstrip())
    if len(found.metrics) > _PRINTED:
        rest = len(found.metrics) - _PRINTED
        lines.append(f"\n{rest} more metrics are on the page and in tables/means.csv")
    return "\n".join(lines).lstrip("\n") + "\n"


def _difference_text(mean: Estimate, n: int) -> str:
    return str(SeedMean(n, mean, math.nan))


def choice_table(found: Comparison) -> Table:
    """Return one row for each choice: its params, and the first metrics with intervals."""
    rows = []
    for each in found.choices.every:
        row: dict[str, object] = {"choice": each.label, "n": len(each.runs)}
        for metric in found.metrics[:ACROSS]:
            mean, floor = metric.means[each.label], metric.floors[each.label]
            row[metric.title] = str(mean) if mean else None
            if any(metric.floors.values()):
                row[f"floor of {metric.key}"] = str(floor) if floor else None
        rows.append(row)
    more = len(found.metrics) - ACROSS
    rest = f" {more} more metrics are in the next table." if more > 0 else ""
    return Table.of_rows(
        "choices",
        "Choices: mean over seeds [95 % t interval]; a dash in place of the interval where there "
        f"is one seed.{rest}",
        rows,
    )


def mean_table(found: Comparison) -> Table:
    """Return one row for each metric and choice."""
    rows = []
    for metric in found.metrics:
        for each in found.choices.every:
            mean, floor = metric.means[each.label], metric.floors[each.label]
            rows.append(
                {
                    "metric": metric.key,
                    "better": metric.better.rule if metric.better else None,
                    "choice": each.label,
                    "n": mean.n if mean else 0,
                    **with_ends("mean", mean.mean if mean else NOTHING),
                    "std": mean.std if mean else math.nan,
                    **with_ends("floor", floor.mean if floor else NOTHING, "floor {}"),
                }
            )
    return Table.of_rows(
        "means", "All metrics: mean over seeds, 95 % t interval, std, and the floor's.", rows
    )


def difference_table(found: Comparison) -> Table:
    """Return one row for each metric and choice but the reference."""
    rows = []
    for metric in found.metrics:
        for label, each in found.differences[metric.key].items():
            own, joint = (found or NOTHING for found in (each.mean, each.joint))
            rows.append(
                {
                    "metric": metric.axis(),
                    "better": metric.better.rule if metric.better else None,
                    "choice": label,
                    "pairs": each.n,
                    **with_ends("difference", own),
                    "p": each.p,
                    "Holm low": joint.low,
                    "Holm high": joint.high,
                    "Holm p": each.holm,
                    "verdict": each.verdict(metric.better),
                }
            )
    return Table.of_rows(
        "differences",
        f"Choice - {found.reference}, over the seeds that both have: mean, 95 % t interval and p "
        "of the paired t test, of this choice alone; then interval and p corrected for the choices "
        "of the metric (Holm), by which the verdict goes. An interval excludes 0 where its p is "
        f"below {LEVEL:g}. No test where there is one pair, or the differences do not vary.",
        rows,
    )


def run_table(found: Comparison) -> Table:
    """Return the runs behind the choices, with their values of the first metrics."""
    choices, metrics = found.choices, [metric.key for metric in found.metrics[:ACROSS]]
    rows = [
        {
            "choice": each.label,
            "seed": seed if choices.seeded else None,
            "run": run.name,
            "id": run.id,
            "fingerprint": run.tags.get(FINGERPRINT_TAG),
            "began": _date(run.start),
            **{key: run.metrics.get(key) for key in metrics},
        }
        for each in choices.every
        for seed, run in each.runs.items()
    ]
    return Table.of_rows("runs", f"Runs that count, and {', '.join(metrics)} of each.", rows)


def left_out_table(left_out: Sequence[LeftOut]) -> Table:
    """Return the runs that do not count, and why."""
    rows = [
        {"run": run.name, "id": run.id, "began": _date(run.start), "reason": reason}
        for run, reason in left_out
    ]
    return Table.of_rows("left_out", "Runs that do not count, and why.", rows)


def _date(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M}"
