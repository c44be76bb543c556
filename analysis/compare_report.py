"""The report of a comparison: sentences, tables, and what the numbers do not say."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from gdm_repr.analysis import compare_figures as figures
from gdm_repr.analysis.compare_runs import (
    CHOICE_TAG,
    FINGERPRINT_TAG,
    SEED_KEYS,
    SEED_TAG,
    Choices,
    LeftOut,
)
from gdm_repr.analysis.compare_statistics import (
    LEVEL,
    Better,
    Difference,
    SeedMean,
    better_of,
)
from gdm_repr.analysis.estimate import Estimate, number
from gdm_repr.analysis.report import Picture, Report, Table

if TYPE_CHECKING:
    from PIL.Image import Image

    from gdm_repr.analysis.compare import Comparison

_PRINTED = 8  # metrics on the terminal
_ACROSS = 5  # metrics in the table of choices
_SHEETS = 8


def make_report(found: Comparison, patterns: Sequence[str], folder: Path) -> Report:
    """Write down what was found.

    Args:
        found: the comparison.
        patterns: of the names of the runs' pictures.
        folder: where these are copied to.
    """
    choices = found.choices
    sheets, missed = _sheets(choices, patterns, folder)
    tables = [_choice_table(found), _mean_table(found)]
    if len(choices.every) > 1:
        tables.append(_difference_table(found))
    tables.append(_run_table(choices))
    if choices.left_out:
        tables.append(_left_out_table(choices.left_out))
    panels = [_panel(found, key) for key in found.metrics[: figures.PANELS]]
    pictures = [
        Picture(
            "choices",
            "Means over seeds with 95 % t intervals; small dots are single seeds, and a mean "
            f"without a line has one. {_n_text(choices)}",
            figures.draw_panels(panels),
        )
    ]
    if len(found.points) > 1:
        pictures.insert(0, _pareto(found))
    return Report(
        title="Comparison of choices",
        question="Which choice is better, and which only seem so?",
        answer=_answer(found),
        pictures=[*pictures, *sheets],
        tables=tables,
        method=_method(found),
        controls=[
            "The reference: every other choice is compared with it at the same seeds.",
            "No difference at all: then Holm's correction tells a choice apart in at most "
            f"{100 * LEVEL:.0f} % of metrics; the answer says how many that would be.",
            "The floor, where a metric has one: what real images reach against real ones.",
        ],
        limits=_limits(found, missed),
    )


def make_text(found: Comparison) -> str:
    """Return the table for a terminal: a block for each metric."""
    labels = [each.label for each in found.choices.every]
    width = max(map(len, labels))
    lines = []
    for key in found.metrics[:_PRINTED]:
        lines.append(f"\n{_title(key)}")
        rows = [("", "n", "mean [95 %]", "floor", f"- {found.reference}", "Holm p", "")]
        for label in labels:
            mean, floor = found.means[key][label], found.floors[key][label]
            difference = found.differences[key].get(label)
            rows.append(
                (
                    label,
                    str(mean.n if mean else 0),
                    str(mean) if mean else "-",
                    number(floor.mean.value) if floor else "-",
                    _difference_text(difference.mean, difference.n)
                    if difference and difference.mean
                    else "-",
                    number(difference.holm) if difference else "-",
                    difference.verdict(better_of(key)) if difference else "reference",
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


def _answer(found: Comparison) -> list[str]:
    choices = found.choices
    labels = [each.label for each in choices.every]
    lines = [f"{len(labels)} choice{'s' * (len(labels) > 1)}. {_n_text(choices)}"]
    main = found.metrics[0]
    best = found.means[main][found.reference]
    if best is not None:
        floor = found.floors[main][found.reference]
        beside = f", floor {floor}" if floor else ""
        role = "The reference" if found.chosen or better_of(main) is None else "Best by its mean"
        lines.append(f"{role} in {_title(main)}: {found.reference}, {best}{beside}.")
    if len(labels) == 1:
        lines.append("There is nothing to compare it with: no param differs but seeds and paths.")
    else:
        lines += _told_apart(found)
    front = [point.label for point in found.points if point.on_front]
    if len(found.points) > 1:
        lines.append(
            f"By their means, no choice is at least as good in both {found.quality} and "
            f"{found.cost} as: {'; '.join(front)}."
        )
    if choices.left_out:
        reasons = Counter(_short_reason(each.reason) for each in choices.left_out)
        told = ", ".join(f"{n} {reason}" for reason, n in reasons.items())
        lines.append(f"Left out: {len(choices.left_out)} runs ({told}).")
    return lines


def _told_apart(found: Comparison) -> list[str]:
    """Say for each of the first metrics which differences are no chance, then what chance gives."""
    lines = []
    tested = [k for k in found.metrics if any(d.n > 1 and d.varies for d in _of(found, k))]
    for key in [key for key in found.metrics if key in tested][:_ACROSS]:
        verdicts: dict[str, list[str]] = {}
        for label, each in found.differences[key].items():
            verdicts.setdefault(each.verdict(better_of(key)), []).append(label)
        told = "; ".join(f"{verdict}: {', '.join(own)}" for verdict, own in verdicts.items())
        lines.append(f"{_title(key)}, against {found.reference}, paired over seeds: {told}.")
    if tested:
        apart = sum(any(each.told_apart for each in _of(found, key)) for key in tested)
        lines.append(
            f"Of {len(tested)} metrics that could be tested, {apart} tell a choice from the "
            f"reference; if no choice differed, {number(LEVEL * len(tested), 2)} or fewer would on "
            "average."
        )
    else:
        lines.append(
            "No difference can be tested: that takes two seeds or more that a choice shares with "
            "the reference."
        )
    return lines


def _of(found: Comparison, key: str) -> list[Difference]:
    return list(found.differences[key].values())


def _n_text(choices: Choices) -> str:
    """Say how many seeds the choices have."""
    counts = sorted({len(each.runs) for each in choices.every})
    unit = "seed" if choices.seeded else "run"
    if counts == [1]:
        return (
            f"Each has one {unit}, which gives no interval and no test. If a param that is no "
            "choice tells them apart, name those that are by --choice."
        )
    span = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"n = {span} {unit}s each."


def _short_reason(reason: str) -> str:
    return "older than another of the same choice and seed" if "older" in reason else reason


def _title(key: str) -> str:
    better = better_of(key)
    return f"{key} ({better.rule})" if better else key


def _difference_text(mean: Estimate, n: int) -> str:
    return str(SeedMean(n, mean, math.nan))


def _pareto(found: Comparison) -> Picture:
    assert found.quality is not None
    assert found.cost is not None
    quality, cost = better_of(found.quality), better_of(found.cost)
    assert quality is not None
    assert cost is not None
    ones = any(1 in (point.cost.n, point.quality.n) for point in found.points)
    return Picture(
        "pareto",
        f"{_axis(found.quality, quality)} against {_axis(found.cost, cost)}: means over seeds, "
        "bars are 95 % t intervals in both directions"
        f"{' (none where there is one seed)' if ones else ''}. Filled and joined: no other choice "
        "is at least as good in both and better in one, by the means alone; where bars overlap, "
        "the front may be another.",
        figures.draw_pareto(
            found.points,
            _axis(found.cost, cost),
            _axis(found.quality, quality),
            higher=quality.target == math.inf,
        ),
    )


def _axis(key: str, better: Better) -> str:
    return key if math.isinf(better.target) else f"distance of {key} from {number(better.target)}"


def _panel(found: Comparison, key: str) -> figures.Panel:
    floors = [floor.mean.value for floor in found.floors[key].values() if floor is not None]
    return figures.Panel(
        _title(key),
        found.means[key],
        {each.label: list(each.values(key).values()) for each in found.choices.every},
        sum(floors) / len(floors) if floors else None,
    )


def _choice_table(found: Comparison) -> Table:
    """Return one row for each choice: its params, and the first metrics with intervals."""
    rows = []
    for each in found.choices.every:
        row: dict[str, object] = {"choice": each.label, "n": len(each.runs)}
        for key in found.metrics[:_ACROSS]:
            mean, floor = found.means[key][each.label], found.floors[key][each.label]
            row[_title(key)] = str(mean) if mean else None
            if any(found.floors[key].values()):
                row[f"floor of {key}"] = str(floor) if floor else None
        rows.append(row)
    more = len(found.metrics) - _ACROSS
    rest = f" {more} more metrics are in the next table." if more > 0 else ""
    return Table.of_rows(
        "choices",
        "Choices: mean over seeds [95 % t interval]; a dash in place of the interval where there "
        f"is one seed.{rest}",
        rows,
    )


def _mean_table(found: Comparison) -> Table:
    rows = []
    for key in found.metrics:
        for each in found.choices.every:
            mean, floor = found.means[key][each.label], found.floors[key][each.label]
            better = better_of(key)
            rows.append(
                {
                    "metric": key,
                    "better": better.rule if better else None,
                    "choice": each.label,
                    "n": mean.n if mean else 0,
                    "mean": mean.mean.value if mean else math.nan,
                    "low": mean.mean.low if mean else math.nan,
                    "high": mean.mean.high if mean else math.nan,
                    "std": mean.std if mean else math.nan,
                    "floor": floor.mean.value if floor else math.nan,
                    "floor low": floor.mean.low if floor else math.nan,
                    "floor high": floor.mean.high if floor else math.nan,
                }
            )
    return Table.of_rows(
        "means", "All metrics: mean over seeds, 95 % t interval, std, and the floor's.", rows
    )


def _difference_table(found: Comparison) -> Table:
    rows = []
    for key in found.metrics:
        better = better_of(key)
        for label, each in found.differences[key].items():
            low, high = (each.mean.low, each.mean.high) if each.mean else (math.nan, math.nan)
            rows.append(
                {
                    "metric": key if better is None else _axis(key, better),
                    "better": better.rule if better else None,
                    "choice": label,
                    "pairs": each.n,
                    "difference": each.mean.value if each.mean else math.nan,
                    "low": low,
                    "high": high,
                    "p": each.p,
                    "Holm p": each.holm,
                    "verdict": each.verdict(better),
                }
            )
    return Table.of_rows(
        "differences",
        f"Choice - {found.reference}, over the seeds that both have: mean, 95 % t interval, p of "
        "the paired t test, and p corrected for the choices of the metric (Holm). No test where "
        "there is one pair, or the differences do not vary.",
        rows,
    )


def _run_table(choices: Choices) -> Table:
    rows = [
        {
            "choice": each.label,
            "seed": seed if choices.seeded else None,
            "run": run.name,
            "id": run.id,
            "fingerprint": run.tags.get(FINGERPRINT_TAG),
            "began": _date(run.start),
        }
        for each in choices.every
        for seed, run in each.runs.items()
    ]
    return Table.of_rows("runs", "Runs that count.", rows)


def _left_out_table(left_out: Sequence[LeftOut]) -> Table:
    rows = [
        {"run": run.name, "id": run.id, "began": _date(run.start), "reason": reason}
        for run, reason in left_out
    ]
    return Table.of_rows("left_out", "Runs that do not count, and why.", rows)


def _date(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M}"


def _sheets(
    choices: Choices, patterns: Sequence[str], folder: Path
) -> tuple[list[Picture], list[str]]:
    """Return pictures of the same name side by side, and why others are missing."""
    from PIL import Image, UnidentifiedImageError

    from gdm_repr.run_query import download

    seed = _common_seed(choices)
    by_name: dict[str, dict[str, Image.Image]] = {}
    missed: list[str] = []
    for each in choices.every:
        own = seed if seed is not None else next(iter(each.runs))
        run = each.runs[own]
        for pattern in patterns:
            try:
                for path in download(run, pattern, folder):
                    name = path.relative_to(folder / run.id).as_posix()
                    with Image.open(path) as image:
                        by_name.setdefault(name, {})[each.label] = image.convert("RGB")
            except (ValueError, UnidentifiedImageError) as error:
                missed.append(f"Pictures {pattern} of {each.label} are missing: {error}")
    which = f"seed {seed}, the first that all have" if seed is not None else "the first run of each"
    sheets = []
    for place, (name, images) in enumerate(by_name.items()):
        if place == _SHEETS:
            missed.append(f"Of {len(by_name)} kinds of pictures, the first {_SHEETS} are shown.")
            break
        without = [each.label for each in choices.every if each.label not in images]
        lacking = f" None of {', '.join(without)}." if without else ""
        sheets.append(
            Picture(
                f"side_by_side_{place + 1}",
                f"{name} of each choice: {which}, not chosen by eye.{lacking}",
                figures.side_by_side(images),
            )
        )
    return sheets, missed


def _common_seed(choices: Choices) -> str | None:
    """Return the first seed that all choices have."""
    first, *others = choices.every
    return next((seed for seed in first.runs if all(seed in each.runs for each in others)), None)


def _method(found: Comparison) -> dict[str, object]:
    choices = found.choices
    runs = [run for each in choices.every for run in each.runs.values()]
    tagged = all(CHOICE_TAG in run.tags for run in runs) and not found.choices.keys
    return {
        "runs": f"{len(runs)} finished, {len(choices.left_out)} left out",
        "a choice is made of": CHOICE_TAG if tagged else ", ".join(choices.keys) or "nothing",
        "differ, too, but are not taken for choices": ", ".join(choices.ignored) or None,
        "seed": f"{SEED_TAG}, {', '.join(SEED_KEYS)}, or --seed-key: the first a run has",
        "intervals": "95 %, Student's t over seeds",
        "differences": f"from {found.reference}, paired over common seeds, t test; Holm over the "
        "choices of each metric",
        "values": "the last of each metric that a run logged; those not finite are left out",
    }


def _limits(found: Comparison, missed: Sequence[str]) -> list[str]:
    choices = found.choices
    limits = []
    several = len(choices.every) > 1
    if several and not found.chosen and better_of(found.metrics[0]) is not None:
        limits.append(
            "The reference was picked as the best by these same numbers, so that differences from "
            "it are too large on average; name a --reference before the runs are made."
        )
    if not choices.seeded:
        limits.append(
            "Some runs name no seed: they count as independent and are in no pair. --seed-key says "
            "which param holds it."
        )
    unpaired = [
        label
        for label, each in found.differences[found.metrics[0]].items()
        if each.n < min(len(_runs(choices, label)), len(_runs(choices, found.reference)))
    ]
    if unpaired and choices.seeded:
        limits.append(f"Some seeds are not shared with the reference: {', '.join(unpaired)}.")
    for each in choices.every:
        for key in found.metrics:
            odd = [
                seed
                for seed, run in each.runs.items()
                if not math.isfinite(run.metrics.get(key, 0.0))
            ]
            if odd:
                limits.append(
                    f"{key} is not finite in {each.label}, seed {', '.join(odd)}: left out of its "
                    "mean, which may look too good."
                )
    limits.append(
        "With few seeds the intervals are wide and rest on values that are about normal; what is "
        "not told apart may still differ."
    )
    return [*limits, *missed]


def _runs(choices: Choices, label: str) -> Mapping[str, object]:
    return next(each.runs for each in choices.every if each.label == label)
