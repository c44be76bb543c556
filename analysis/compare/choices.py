"""Choices beside each other: which metrics, means over seeds, differences, the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from gdm_repr.analysis.compare.runs import Choice, Choices, expand
from gdm_repr.analysis.compare.statistics import (
    COSTS,
    Better,
    Difference,
    SeedMean,
    better_of,
    has_word,
    holm,
    is_cost,
    paired,
    pareto_front,
    seed_mean,
)

# Metrics in the order they are shown; others follow in that of their names.
_FIRST = ("sample_quality/frechet", "sample_quality/kid", "sample_quality", "denoising_loss")
_FLOOR = "_floor"


@dataclass(frozen=True)
class Point:
    """One choice in the picture of quality against cost, both as `Better.measure` returns them."""

    label: str
    cost: SeedMean
    quality: SeedMean
    on_front: bool


@dataclass(frozen=True)
class Comparison:
    """What was compared, all by metric and by the choice's label.

    Attributes:
        choices: the choices and the runs behind them.
        metrics: the main one first.
        reference: label of the choice that the others are compared with.
        chosen: whether the user chose it, rather than these numbers.
        common: the reference's mean over the seeds that all choices have, where it was chosen by
            these alone; None where by all.
        means: over seeds; None where a choice has no value.
        floors: the same of the metric's floor, where it has one.
        differences: from the reference, of what `Better.measure` returns.
        quality: metric of the Pareto picture, if there is one.
        cost: of the same.
        points: the choices that have both.
    """

    choices: Choices
    metrics: tuple[str, ...]
    reference: str
    chosen: bool
    common: SeedMean | None
    means: Mapping[str, Mapping[str, SeedMean | None]]
    floors: Mapping[str, Mapping[str, SeedMean | None]]
    differences: Mapping[str, Mapping[str, Difference]]
    quality: str | None
    cost: str | None
    points: tuple[Point, ...]

    @property
    def costs_differ(self) -> bool:
        """Whether quality can be traded for cost: if not, a Pareto front is the ranking again."""
        costs = [point.cost.mean.value for point in self.points]
        return len(costs) > 1 and not math.isclose(min(costs), max(costs))


def choose_metrics(choices: Choices, wanted: Sequence[str] = ()) -> list[str]:
    """Return the metrics to compare.

    Args:
        choices: from `gather`.
        wanted: keys or patterns; by default all that every choice has, qualities before costs.

    Raises:
        ValueError: Nothing is wanted that there is, or choices have no metric in common.
    """
    names = [{key for run in each.runs.values() for key in run.metrics} for each in choices.every]
    present = set.union(*names)
    if wanted:
        found = expand("--metrics", wanted, sorted(present))
    else:
        floors = {floor for key in present if (floor := floor_key(key)) in present}
        common = set.intersection(*names) - floors
        found = sorted((key for key in common if not key.startswith("system/")), key=_rank)
    found = [key for key in found if any(each.values(key) for each in choices.every)]
    if not found:
        some = ", ".join(sorted(present)[:8]) or "none"
        raise ValueError(
            f"--metrics: the {len(choices.every)} choices have no metric in common with a finite "
            f"value; name some that are there ({some}) or narrow the runs with --filter"
        )
    return found


def floor_key(metric: str) -> str:
    """Return the key that a metric's floor has, if it has one.

    >>> floor_key("sample_quality/kid/pixels")
    'sample_quality_floor/kid/pixels'
    """
    first, slash, rest = metric.partition("/")
    return f"{first}{_FLOOR}{slash}{rest}"


def measure(
    choices: Choices,
    metrics: Sequence[str],
    *,
    reference: str | None = None,
    quality: str | None = None,
    cost: str | None = None,
) -> Comparison:
    """Compare choices.

    Args:
        choices: from `gather`.
        metrics: keys, the main one first.
        reference: label of a choice, or a pattern of one.
        quality: metric of the Pareto picture.
        cost: of the same.

    Raises:
        ValueError: There is no such choice; of the Pareto metrics it is not known what is better.
    """
    means = {key: _means(choices, key) for key in metrics}
    common = None
    if reference is not None:
        name = _named(reference, [each.label for each in choices.every])
    else:
        name, common = _best(choices, metrics[0])
    found = {key: holm(_differences(choices, key, name)) for key in metrics}
    cost, quality = _axes(choices, metrics, cost, quality)
    return Comparison(
        choices=choices,
        metrics=tuple(metrics),
        reference=name,
        chosen=reference is not None,
        common=common,
        means=means,
        floors={key: _means(choices, floor_key(key)) for key in metrics},
        differences=found,
        quality=quality,
        cost=cost,
        points=_points(choices, cost, quality) if cost and quality else (),
    )


def _best(choices: Choices, key: str) -> tuple[str, SeedMean | None]:
    """Return the choice that is best, and its mean over the seeds that all have, if by these.

    Seeds differ in how hard they are, so that means are compared over the seeds that all choices
    have; where these are none, over each one's own. A choice that another is told better than, over
    the seeds of the two, is not the best: the next one is, which no other is told better than.
    """
    values = {each.label: _compared(each, key) for each in choices.every}
    values = {label: own for label, own in values.items() if own}
    better = better_of(key)
    if better is None:
        return next(iter(values)), None
    shared = set.intersection(*(set(own) for own in values.values()))
    unequal = any(set(own) != shared for own in values.values())
    only = shared if shared and unequal and choices.seeded else None

    def mean(of: Mapping[str, float]) -> SeedMean:
        found = seed_mean([v for seed, v in of.items() if only is None or seed in only])
        assert found is not None
        return found

    ranked = sorted(values, key=lambda label: better.loss(mean(values[label]).mean.value))
    best = next((name for name in ranked if not _beaten(choices, key, name, better)), ranked[0])
    own = next(each for each in choices.every if each.label == best)
    return best, None if only is None else mean(own.values(key))


def _beaten(choices: Choices, key: str, name: str, better: Better) -> bool:
    """Tell whether a choice is told better than another, over the seeds of the two."""
    others = holm(_differences(choices, key, name)).values()
    return any(each.verdict(better) == "better" for each in others)


def _means(choices: Choices, key: str) -> dict[str, SeedMean | None]:
    return {each.label: seed_mean(list(each.values(key).values())) for each in choices.every}


def _measured(choices: Choices, key: str) -> dict[str, SeedMean]:
    """Return the means of what is compared: of values, or of their distances from a target."""
    found = {each.label: seed_mean(list(_compared(each, key).values())) for each in choices.every}
    return {label: mean for label, mean in found.items() if mean is not None}


def _compared(choice: Choice, key: str) -> dict[str, float]:
    better, values = better_of(key), choice.values(key)
    return values if better is None else {s: better.measure(v) for s, v in values.items()}


def _differences(choices: Choices, key: str, reference: str) -> dict[str, Difference]:
    base = next(_compared(each, key) for each in choices.every if each.label == reference)
    return {
        each.label: paired(_compared(each, key), base)
        for each in choices.every
        if each.label != reference
    }


def _axes(
    choices: Choices, metrics: Sequence[str], cost: str | None, quality: str | None
) -> tuple[str | None, str | None]:
    """Return the metrics of the Pareto picture: as given, or the first that are known."""
    known = [key for key in metrics if better_of(key)]
    defaults = (
        next((key for words in COSTS for key in known if has_word(key, words)), None),
        next((key for key in known if not is_cost(key)), None),
    )
    chosen = []
    for flag, given, default in zip(
        ("--cost", "--quality"), (cost, quality), defaults, strict=True
    ):
        if given is None:
            chosen.append(default)
            continue
        try:
            key = choose_metrics(choices, [given])[0]
        except ValueError as error:
            raise ValueError(f"{flag}{str(error).removeprefix('--metrics')}") from None
        if better_of(key) is None:
            raise ValueError(
                f"{flag} {key}: it is not known whether lower or higher is better; choose a metric "
                "of which it is (the rows of DIRECTIONS in compare_statistics.py)"
            )
        chosen.append(key)
    return chosen[0], chosen[1]


def _points(choices: Choices, cost: str, quality: str) -> tuple[Point, ...]:
    costs, qualities = _measured(choices, cost), _measured(choices, quality)
    labels = [each.label for each in choices.every if each.label in costs.keys() & qualities.keys()]
    losses = [(_loss(cost, costs[label]), _loss(quality, qualities[label])) for label in labels]
    front = set(pareto_front(losses))
    return tuple(
        Point(label, costs[label], qualities[label], place in front)
        for place, label in enumerate(labels)
    )


def _loss(key: str, measured: SeedMean) -> float:
    better = better_of(key)
    assert better is not None
    return better.loss(measured.mean.value)


def _named(reference: str, labels: Sequence[str]) -> str:
    found = [label for label in labels if label == reference or fnmatchcase(label, reference)]
    if reference in labels:
        return reference
    if len(found) != 1:
        said = f"{len(found)} choices fit" if found else "no choice is called so"
        raise ValueError(
            f"--reference {reference!r}: {said}; choose from {', '.join(map(repr, labels[:12]))}"
        )
    return found[0]


def _rank(key: str) -> tuple[int, int, str]:
    """Order metrics: qualities, costs, those of which nothing is known."""
    kind = 2 if better_of(key) is None else int(is_cost(key))
    first = next((n for n, start in enumerate(_FIRST) if key.startswith(start)), len(_FIRST))
    return kind, first, key
