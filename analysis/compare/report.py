"""The report of a comparison: sentences, tables, and what the numbers do not say."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gdm_repr.analysis.compare import figures
from gdm_repr.analysis.compare.choices import Comparison, Metric
from gdm_repr.analysis.compare.runs import SEED_KEYS, Choices
from gdm_repr.analysis.compare.statistics import Difference
from gdm_repr.analysis.compare.tables import (
    ACROSS,
    choice_table,
    difference_table,
    left_out_table,
    mean_table,
    run_table,
)
from gdm_repr.analysis.compare.tags import CHOICE_TAG, SEED_TAG
from gdm_repr.analysis.intervals.estimate import LEVEL, number, span
from gdm_repr.analysis.report.page import Picture, Report

if TYPE_CHECKING:
    from PIL.Image import Image

_SHEETS = 8


def make_report(found: Comparison, patterns: Sequence[str], folder: Path) -> Report:
    """Write down what was found.

    Args:
        found: the comparison.
        patterns: of the names of the runs' pictures.
        folder: where these are copied to.
    """
    choices = found.choices
    shown = _shown(found)
    which = _which_shown(found, shown)
    sheets, missed = _sheets(shown, patterns, folder)
    tables = [choice_table(found), mean_table(found)]
    if len(choices.every) > 1:
        tables.append(difference_table(found))
    tables.append(run_table(found))
    if choices.left_out:
        tables.append(left_out_table(choices.left_out))
    panels = [_panel(shown, metric) for metric in found.metrics[: figures.PANELS]]
    pictures = [
        Picture(
            "choices",
            "Means over seeds with 95 % t intervals; small dots are single seeds, and a mean "
            f"without a line has one. {_n_text(choices)}{which}",
            figures.draw_panels(panels),
        )
    ]
    if found.costs_differ:
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
            f"{100 * LEVEL:.0f} % of metrics on average, for a reference named beforehand (from "
            "the best by the same numbers more are); the answer says how many that would be.",
            "The floor, where a metric has one: what real images reach against real ones.",
        ],
        limits=_limits(found, missed),
    )


def _answer(found: Comparison) -> list[str]:
    choices = found.choices
    labels = [each.label for each in choices.every]
    lines = [f"{len(labels)} choice{'s' * (len(labels) > 1)}. {_n_text(choices)}"]
    main = found.metrics[0]
    best = main.means[found.reference]
    if best is not None:
        floor = main.floors[found.reference]
        beside = f", floor {floor}" if floor else ""
        role = "The reference" if found.chosen or main.better is None else "Best by its mean"
        over = f"{best}{beside}"
        if found.common is not None:
            seeds = f"{found.common.n} seed{'s' * (found.common.n > 1)}"
            over = f"{found.common} over the {seeds} that all have. Over its own it has {over}"
        lines.append(f"{role} in {main.title}: {found.reference}, {over}.")
    if len(labels) == 1:
        lines.append("There is nothing to compare it with: no param differs but seeds and paths.")
    else:
        lines += _told_apart(found)
    if found.quality and found.cost and found.costs_differ:
        front = [point.label for point in found.points if point.on_front]
        lines.append(
            f"On the Pareto front of {found.quality.key} and {found.cost.key}, by their means: "
            f"{_listed(front)}."
        )
    elif found.cost and len(found.points) > 1:
        lines.append(
            f"All cost the same ({found.cost.key}: {number(found.points[0].cost.mean.value, 3)}), "
            "so that there is no Pareto picture; --cost names another cost."
        )
    if choices.left_out:
        reasons = Counter(_short_reason(each.reason) for each in choices.left_out)
        told = ", ".join(f"{n} {reason}" for reason, n in reasons.items())
        runs = "run" if len(choices.left_out) == 1 else "runs"
        lines.append(f"Left out: {len(choices.left_out)} {runs} ({told}).")
    return lines


def _told_apart(found: Comparison) -> list[str]:
    """Say for each of the first metrics which differences are no chance, then what chance gives."""
    lines = []
    tested = [m for m in found.metrics if any(d.n > 1 and d.varies for d in _of(found, m))]
    for metric in tested[:ACROSS]:
        verdicts: dict[str, list[str]] = {}
        for label, each in found.differences[metric.key].items():
            verdicts.setdefault(each.verdict(metric.better), []).append(label)
        told = "; ".join(f"{verdict}: {_listed(own)}" for verdict, own in verdicts.items())
        lines.append(
            f"{metric.title}, against {found.reference}, paired over seeds, by Holm's correction: "
            f"{told}."
        )
    if tested:
        apart = sum(any(each.told_apart for each in _of(found, metric)) for metric in tested)
        lines.append(
            f"Metrics that could be tested: {len(tested)}; those that tell a choice from the "
            f"reference: {apart}. If no choice differed, {number(LEVEL * len(tested), 2)} or fewer "
            f"would on average{'' if found.chosen else ', for a reference named beforehand'}."
        )
    else:
        lines.append(
            "No difference can be tested: that takes two seeds or more that a choice shares with "
            "the reference, and differences that vary."
        )
    return lines


def _listed(labels: Sequence[str]) -> str:
    """Join labels, which may hold commas; of many, say how many."""
    most = 8
    if len(labels) <= most:
        return " | ".join(labels)
    return f"{len(labels)} choices, such as {' | '.join(labels[: most // 2])}"


def _of(found: Comparison, metric: Metric) -> list[Difference]:
    return list(found.differences[metric.key].values())


def _n_text(choices: Choices) -> str:
    """Say how many seeds the choices have."""
    counts = {len(each.runs) for each in choices.every}
    unit = "seed" if choices.seeded else "run"
    if counts == {1}:
        return (
            f"Each has one {unit}, which gives no interval and no test. If a param that is no "
            "choice tells them apart, name those that are by --choice."
        )
    return f"n = {span(counts)} {unit}s each."


def _short_reason(reason: str) -> str:
    return "older than another of the same choice and seed" if "older" in reason else reason


def _pareto(found: Comparison) -> Picture:
    quality, cost = found.quality, found.cost
    assert quality is not None and quality.better is not None
    assert cost is not None
    ones = any(1 in (point.cost.n, point.quality.n) for point in found.points)
    return Picture(
        "pareto",
        f"{quality.axis()} against {cost.axis()}: means over "
        "seeds, bars are 95 % t intervals in both directions"
        f"{' (none where there is one seed)' if ones else ''}. Filled and joined: no other choice "
        "is at least as good in both and better in one, by the means alone; where bars overlap, "
        "the front may be another."
        + (
            f" Of more than {figures.DRAWN} choices only these have names."
            if len(found.points) > figures.DRAWN
            else ""
        ),
        figures.draw_pareto(
            found.points,
            cost.axis(),
            quality.axis(),
            higher=quality.better.target == math.inf,
        ),
    )


def _shown(found: Comparison) -> Choices:
    """Return the choices to draw: of many the best of the first metric, with the reference."""
    choices, main = found.choices, found.metrics[0]
    labels = [each.label for each in choices.every]
    if len(labels) <= figures.DRAWN:
        return choices
    losses = main.losses() if main.better else {}
    ranked = sorted(losses, key=lambda label: losses[label][1]) or labels
    kept = {found.reference, *ranked[: figures.DRAWN - 1]}
    return replace(choices, every=tuple(each for each in choices.every if each.label in kept))


def _which_shown(found: Comparison, shown: Choices) -> str:
    """Say which choices are drawn, where not all are."""
    n, main = len(shown.every), found.metrics[0]
    if n == len(found.choices.every):
        return ""
    chosen = f"the {n} best in {main.title}" if main.better else f"the first {n}"
    return f" Drawn are {chosen}; the tables have all."


def _panel(choices: Choices, metric: Metric) -> figures.Panel:
    floors = [floor.mean.value for floor in metric.floors.values() if floor is not None]
    return figures.Panel(
        f"{metric.key}\n({metric.better.rule})" if metric.better else metric.key,
        {each.label: metric.means[each.label] for each in choices.every},
        {each.label: list(each.values(metric.key).values()) for each in choices.every},
        sum(floors) / len(floors) if floors else None,
    )


def _sheets(
    choices: Choices, patterns: Sequence[str], folder: Path
) -> tuple[list[Picture], list[str]]:
    """Return pictures of the same name side by side, and why others are missing."""
    from PIL import Image

    from gdm_repr.tracking.query import download

    seed = _common_seed(choices)
    by_name: dict[str, dict[str, Image.Image]] = {}
    missed: list[str] = []
    for each in choices.every:
        own = seed if seed is not None else next(iter(each.runs))
        run = each.runs[own]
        try:
            for path in download(run, patterns, folder):
                name = path.relative_to(folder / run.id).as_posix()
                with Image.open(path) as image:
                    by_name.setdefault(name, {})[each.label] = image.convert("RGB")
        except (ValueError, OSError, SyntaxError) as error:  # Pillow has all three
            missed.append(f"Pictures of {each.label} are missing: {error}")
    which = f"seed {seed}, the first that all have" if seed is not None else "the first run of each"
    sheets = []
    for place, (name, images) in enumerate(by_name.items()):
        if place == _SHEETS:
            missed.append(f"Of {len(by_name)} kinds of pictures, the first {_SHEETS} are shown.")
            break
        without = [each.label for each in choices.every if each.label not in images]
        lacking = f" None of {', '.join(without)}." if without else ""
        shown = _each_once(images)
        equal = " Equal ones are shown once." if len(shown) < len(images) else ""
        sheets.append(
            Picture(
                f"side_by_side_{place + 1}",
                f"{name} of each choice: {which}, not chosen by eye.{equal}{lacking}",
                figures.side_by_side(shown),
            )
        )
    return sheets, missed


def _each_once(images: Mapping[str, Image]) -> dict[str, Image]:
    """Return pictures by label, equal ones under a common label."""
    alike: dict[tuple[tuple[int, int], bytes], list[str]] = {}
    for label, image in images.items():
        alike.setdefault((image.size, image.tobytes()), []).append(label)
    shown = {}
    for first, *others in alike.values():
        more = f" and {len(others)} more" if others else ""
        shown[f"all {len(images)} choices" if len(alike) == 1 and others else first + more] = (
            images[first]
        )
    return shown


def _common_seed(choices: Choices) -> str | None:
    """Return the first seed that all choices have."""
    first, *others = choices.every
    return next((seed for seed in first.runs if all(seed in each.runs for each in others)), None)


def _method(found: Comparison) -> dict[str, object]:
    choices = found.choices
    runs = [run for each in choices.every for run in each.runs.values()]
    made_of = [*([CHOICE_TAG] if choices.tagged else []), *choices.keys]
    told: dict[str, object] = {
        "runs": f"{len(runs)} finished, {len(choices.left_out)} left out",
        "a choice is made of": ", ".join(made_of) or "nothing",
        "differ, too, but are not taken for choices": ", ".join(choices.ignored) or None,
        "seed": f"{SEED_TAG}, {', '.join(SEED_KEYS)}, or --seed-key: the first a run has",
        "intervals": "95 %, Student's t over seeds",
        "differences": f"from {found.reference}, paired over common seeds, t test; p and interval "
        "also corrected over the choices of each metric (Holm), by which the verdicts go",
        "values": "the last of each metric that a run logged; those not finite are left out",
    }
    return {key: value for key, value in told.items() if value is not None}


def _limits(found: Comparison, missed: Sequence[str]) -> list[str]:
    choices = found.choices
    limits = []
    several = len(choices.every) > 1
    if several and not found.chosen and found.metrics[0].better is not None:
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
        for label, each in found.differences[found.metrics[0].key].items()
        if each.n < min(len(_runs(choices, label)), len(_runs(choices, found.reference)))
    ]
    if unpaired and choices.seeded:
        limits.append(f"Some seeds are not shared with the reference: {', '.join(unpaired)}.")
    for each in choices.every:
        for key in (metric.key for metric in found.metrics):
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
    if choices.tagged and choices.seeded:
        limits.append(
            "A study's seeds train and sample anew, but are scored against images of one store: "
            "intervals over seeds say what other trainings would give, not what other images would."
        )
    limits.append(
        "With few seeds the intervals are wide and rest on values that are about normal; what is "
        "not told apart may still differ."
    )
    return [*limits, *missed]


def _runs(choices: Choices, label: str) -> Mapping[str, object]:
    return next(each.runs for each in choices.every if each.label == label)
