"""Choices beside each other: which metrics, means over seeds, differences, the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from gdm_repr.analysis.compare.runs import Choices, expand
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
from gdm_repr.analysis.intervals.estimate import number
from gdm_repr.boundary.isolation import isolated

# Metrics in the order they are shown; others follow in that of their names.
_FIRST = ("sample_quality/frechet", "sample_quality/kid", "sample_quality", "denoising_loss")
_FLOOR = "_floor"


@dataclass(frozen=True)
class Metric:
    """One metric of all choices, by their labels.

    Attributes:
        key: as the runs have it.
        better: which of its values are; None where that is not known.
        compared: what is, by seed: the values, or their distances from a target.
        means: of the values, over seeds; None where a choice has none.
        floors: the same of the metric's floor, where it has one.
    """

    key: str
    better: Better | None
    compared: Mapping[str, Mapping[str, float]]
    means: Mapping[str, SeedMean | None]
    floors: Mapping[str, SeedMean | None]

    @classmethod
    def of(cls, choices: Choices, key: str) -> Metric:
        """Read a metric of choices."""
        better, own = better_of(key), {each.label: each.values(key) for each in choices.every}
        what = better.measure if better else float
        compared = {label: {s: what(v) for s, v in values.items()} for label, values in own.items()}
        floors = {each.label: each.values(floor_key(key)) for each in choices.every}
        return cls(key, better, compared, _means(own), _means(floors))

    @property
    def title(self) -> str:
        """The metric with what is better."""
        return f"{self.key} ({self.better.rule})" if self.better else self.key

    def axis(self, name: str | None = None) -> str:
        """Return what is compared: the metric, or its distance from a target."""
        name = name or self.key
        if self.better is None or math.isinf(self.better.target):
            return name
        return f"distance of {name} from {number(self.better.target)}"

    def losses(self) -> dict[str, tuple[SeedMean, float]]:
        """Return the means of what is compared, and numbers that are the lower, the better."""
        assert self.better is not None
        means = _means(self.compared).items()
        return {label: (mean, self.better.loss(mean.mean.value)) for label, mean in means if mean}

    def differences(self, reference: str) -> dict[str, Difference]:
        """Return the differences from a choice, of what is compared, corrected (Holm)."""
        base = self.compared[reference]
        others = {label: own for label, own in self.compared.items() if label != reference}
        return holm({label: paired(own, base) for label, own in others.items()})


def _means(values: Mapping[str, Mapping[str, float]]) -> dict[str, SeedMean | None]:
    return {label: seed_mean([*own.values()]) for label, own in values.items()}


@dataclass(frozen=True)
class Point:
    """One choice in the picture of quality against cost, both as `Better.measure` returns them."""

    label: str
    cost: SeedMean
    quality: SeedMean
    on_front: bool


@dataclass(frozen=True)
class Comparison:
    """What was compared.

    Attributes:
        choices: the choices and the runs behind them.
        metrics: the main one first.
        reference: label of the choice that the others are compared with.
        chosen: whether the user chose it, rather than these numbers.
        common: the reference's mean over the seeds that all choices have, where it was chosen by
            these alone; None where by all.
        differences: from the reference, by metric and label.
        quality: metric of the Pareto picture, if there is one.
        cost: of the same.
        points: the choices that have both.
    """

    choices: Choices
    metrics: tuple[Metric, ...]
    reference: str
    chosen: bool
    common: SeedMean | None
    differences: Mapping[str, Mapping[str, Difference]]
    quality: Metric | None
    cost: Metric | None
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


@isolated
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
    found, common = [Metric.of(choices, key) for key in metrics], None
    if reference is not None:
        name = _named(reference, [each.label for each in choices.every])
    else:
        name, common = _best(choices, found[0])
    on_x, on_y = _axes(choices, found, cost, quality)
    return Comparison(
        choices=choices,
        metrics=tuple(found),
        reference=name,
        chosen=reference is not None,
        common=common,
        differences={metric.key: metric.differences(name) for metric in found},
        quality=on_y,
        cost=on_x,
        points=_points(on_x, on_y) if on_x and on_y else (),
    )


def _best(choices: Choices, metric: Metric) -> tuple[str, SeedMean | None]:
    """Return the choice that is best, and its mean over the seeds that all have, if by these.

    Seeds differ in how hard they are, so that means are compared over the seeds that all choices
    have; where these are none, over each one's own. A choice that another is told better than, over
    the seeds of the two, is not the best: the next one is, which no other is told better than.
    """
    values = {label: own for label, own in metric.compared.items() if own}
    better = metric.better
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
    beaten = (
        any(each.verdict(better) == "better" for each in metric.differences(name).values())
        for name in ranked
    )
    best = next((name for name, by in zip(ranked, beaten, strict=True) if not by), ranked[0])
    own = next(each for each in choices.every if each.label == best)
    return best, None if only is None else mean(own.values(metric.key))


def _axes(
    choices: Choices, metrics: Sequence[Metric], cost: str | None, quality: str | None
) -> tuple[Metric | None, Metric | None]:
    """Return the metrics of the Pareto picture: as given, or the first that are known."""
    known = [metric for metric in metrics if metric.better]
    defaults = (
        next((metric for words in COSTS for metric in known if has_word(metric.key, words)), None),
        next((metric for metric in known if not is_cost(metric.key)), None),
    )
    chosen: list[Metric | None] = []
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
        chosen.append(metric := Metric.of(choices, key))
        if metric.better is None:
            raise ValueError(
                f"{flag} {key}: it is not known whether lower or higher is better; choose a metric "
                "of which it is (the rows of DIRECTIONS in analysis/compare/statistics.py)"
            )
    return chosen[0], chosen[1]


def _points(cost: Metric, quality: Metric) -> tuple[Point, ...]:
    x, y = cost.losses(), quality.losses()
    labels = [label for label in x if label in y]
    front = set(pareto_front([(x[label][1], y[label][1]) for label in labels]))
    return tuple(
        Point(label, x[label][0], y[label][0], place in front) for place, label in enumerate(labels)
    )


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
