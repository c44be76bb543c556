"""Which choice is better, from stored runs: ``python -m gdm_repr.analysis.compare``.

Reads any MLflow store (:mod:`gdm_repr.run_query`), sorts its runs into choices and seeds
(:mod:`gdm_repr.analysis.compare_runs`), and sets the choices beside each other with intervals and
paired differences over seeds (:mod:`gdm_repr.analysis.compare_statistics`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from gdm_repr.command import Command, run
from gdm_repr.edit_options import Words

if TYPE_CHECKING:
    from gdm_repr.analysis.compare_figures import Point
    from gdm_repr.analysis.compare_runs import Choice, Choices
    from gdm_repr.analysis.compare_statistics import Difference, SeedMean
    from gdm_repr.analysis.report import Report, Written
    from gdm_repr.run_query import StoredRun

STUDY_TAG = "study.name"
FOLDER = "comparison"  # of the parent run's files


class CompareConfig(Command):
    """Compare the choices behind the runs of an MLflow store, whoever made them.

    A choice is made of the params that differ between runs, seeds and paths aside. Each metric is
    given as mean over seeds with its 95 % interval, and as difference from a reference choice,
    paired over seeds. Only finished runs count; the others are listed.

    Example:
      gdm-repr compare --experiment gdm-repr --parent groupings-digits --out runs/comparison
      gdm-repr compare --experiment sweep --filter "params.data = 'digits'" --metrics 'val*' --out runs/sweep
    """  # noqa: E501

    tracking_uri: str | None = Field(
        None, description="MLflow store; MLFLOW_TRACKING_URI, or sqlite:///mlflow.db, by default."
    )
    experiment: str | None = Field(
        None,
        description="Its experiment; MLFLOW_EXPERIMENT_NAME, or gdm-repr, by default. With "
        "--parent, all are searched.",
    )
    filter: str = Field("", description="Which runs, as MLflow writes it: params.data = 'digits'.")
    parent: str | None = Field(
        None, description="Compare the children of this run: its id or name, or a study's name."
    )
    choice: Words = Field(
        (), description="Params or tags that make a choice, instead of those that differ; a.*,b."
    )
    seed_key: str | None = Field(
        None, description="Param that holds the seed; study.seed, seed or train.seed by default."
    )
    metrics: Words = Field(
        (), description="Metrics to compare, the main one first; those of all choices by default."
    )
    reference: str | None = Field(
        None, description="Choice the others are compared with; the best of the first metric."
    )
    quality: str | None = Field(
        None, description="Metric of the Pareto picture; the first that is not a cost."
    )
    cost: str | None = Field(
        None, description="Cost of the Pareto picture; evaluations or seconds by default."
    )
    pictures: Words = Field(
        ("strip*.png", "samples*.png", "grouping*.png"),
        description="Names of the runs' pictures to set side by side, as patterns.",
    )
    out: Path = Field(description="Folder for the page, its figures and tables.")
    log_to_parent: bool = Field(True, description="Keep the page with the run of --parent.")


@dataclass(frozen=True)
class Comparison:
    """What was compared, all by metric and by the choice's label.

    Attributes:
        choices: the choices and the runs behind them.
        metrics: the main one first.
        reference: label of the choice that the others are compared with.
        chosen: whether the user chose it, rather than these numbers.
        means: over seeds; None where a choice has no value.
        floors: the same of the metric's floor, where it has one.
        differences: from the reference, of what `Better.measure` returns.
        quality: metric of the Pareto picture, if there is one.
        cost: of the same.
        points: of the same.
    """

    choices: Choices
    metrics: tuple[str, ...]
    reference: str
    chosen: bool
    means: Mapping[str, Mapping[str, SeedMean | None]]
    floors: Mapping[str, Mapping[str, SeedMean | None]]
    differences: Mapping[str, Mapping[str, Difference]]
    quality: str | None
    cost: str | None
    points: tuple[Point, ...]


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
    from gdm_repr.analysis.compare_runs import floor_key
    from gdm_repr.analysis.compare_statistics import COSTS, better_of, has_word, holm, is_cost

    means = {key: _means(choices, key) for key in metrics}
    first = better_of(metrics[0])
    if reference is not None:
        name = _named(reference, [each.label for each in choices.every])
    else:
        known = [label for label, found in means[metrics[0]].items() if found is not None]
        name = known[0]
        if first is not None:
            measured = _measured(choices, metrics[0])
            name = min(known, key=lambda label: first.loss(measured[label].mean.value))
    found = {key: holm(_differences(choices, key, name)) for key in metrics}
    known_better = [key for key in metrics if better_of(key)]
    quality = quality or next((key for key in known_better if not is_cost(key)), None)
    costs = [key for words in COSTS for key in known_better if has_word(key, words)]
    cost = cost or next(iter(costs), None)
    return Comparison(
        choices=choices,
        metrics=tuple(metrics),
        reference=name,
        chosen=reference is not None,
        means=means,
        floors={key: _means(choices, floor_key(key)) for key in metrics},
        differences=found,
        quality=quality,
        cost=cost,
        points=_points(choices, cost, quality) if cost and quality else (),
    )


def _means(choices: Choices, key: str) -> dict[str, SeedMean | None]:
    from gdm_repr.analysis.compare_statistics import seed_mean

    return {each.label: seed_mean(list(each.values(key).values())) for each in choices.every}


def _measured(choices: Choices, key: str) -> dict[str, SeedMean]:
    """Return the means of what is compared: of values, or of their distances from a target."""
    from gdm_repr.analysis.compare_statistics import seed_mean

    found = {each.label: seed_mean(list(_compared(each, key).values())) for each in choices.every}
    return {label: mean for label, mean in found.items() if mean is not None}


def _compared(choice: Choice, key: str) -> dict[str, float]:
    from gdm_repr.analysis.compare_statistics import better_of

    better, values = better_of(key), choice.values(key)
    return values if better is None else {s: better.measure(v) for s, v in values.items()}


def _differences(choices: Choices, key: str, reference: str) -> dict[str, Difference]:
    from gdm_repr.analysis.compare_statistics import paired

    base = next(_compared(each, key) for each in choices.every if each.label == reference)
    return {
        each.label: paired(_compared(each, key), base)
        for each in choices.every
        if each.label != reference
    }


def _points(choices: Choices, cost: str, quality: str) -> tuple[Point, ...]:
    from gdm_repr.analysis.compare_figures import Point
    from gdm_repr.analysis.compare_runs import choose_metrics
    from gdm_repr.analysis.compare_statistics import better_of, pareto_front

    sides = []
    for flag, key in (("--cost", cost), ("--quality", quality)):
        try:
            choose_metrics(choices, [key])
        except ValueError as error:
            raise ValueError(f"{flag}{str(error).removeprefix('--metrics')}") from None
        if (better := better_of(key)) is None:
            raise ValueError(
                f"{flag} {key}: it is not known whether lower or higher is better; choose a metric "
                "of which it is (a row of DIRECTIONS in compare_statistics.py tells)"
            )
        sides.append((better, _measured(choices, key)))
    (better_cost, costs), (better_quality, qualities) = sides
    labels = [each.label for each in choices.every if each.label in costs.keys() & qualities.keys()]
    losses = [
        (
            better_cost.loss(costs[label].mean.value),
            better_quality.loss(qualities[label].mean.value),
        )
        for label in labels
    ]
    front = set(pareto_front(losses)) if labels else set()
    return tuple(
        Point(label, costs[label], qualities[label], place in front)
        for place, label in enumerate(labels)
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


def select(config: CompareConfig, uri: str) -> tuple[list[StoredRun], StoredRun | None]:
    """Return the runs asked for, the newest first, and their parent.

    Raises:
        ValueError: There is no such store, experiment or parent, or the filter is not understood.
    """
    from gdm_repr.run_query import PARENT_TAG, find_runs

    if config.parent is None:
        name = config.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "gdm-repr"
        return find_runs(uri, name, config.filter), None
    parent = _parent(config.parent, config.experiment, uri)
    own = f"tags.`{PARENT_TAG}` = '{parent.id}'"
    query = f"{own} and {config.filter}" if config.filter else own
    return find_runs(uri, config.experiment, query), parent


def _parent(name: str, experiment: str | None, uri: str) -> StoredRun:
    """Find a run by its id or name, or by the study's name."""
    from gdm_repr.run_query import find_runs, get_run

    quote = '"' if "'" in name else "'"
    for query in (
        f"attributes.run_name = {quote}{name}{quote}",
        f"tags.`{STUDY_TAG}` = {quote}{name}{quote}",
    ):
        found = [run for run in find_runs(uri, experiment, query)]
        found = [run for run in found if run.parent is None] or found
        if len(found) == 1:
            return found[0]
        if found:
            told = ", ".join(run.id for run in found[:4])
            raise ValueError(
                f"--parent {name!r}: {len(found)} runs have this name ({told}); give the id of one"
            )
    by_id = get_run(uri, name)
    if by_id is None:
        raise ValueError(
            f"--parent {name!r}: no run has this id or name, and no study; give that of the run "
            "whose children are to be compared"
        )
    return by_id


def compare(config: CompareConfig) -> int:
    """Read, compare, print, write the page, and keep it with the parent run."""
    from gdm_repr.analysis.compare_report import make_report, make_text
    from gdm_repr.analysis.compare_runs import choose_metrics, gather
    from gdm_repr.analysis.report import write_report
    from gdm_repr.analysis.runner import made_by
    from gdm_repr.run_record import tracking_uri, without_password

    uri = tracking_uri(config.tracking_uri)
    runs, parent = select(config, uri)
    choices = gather(runs, config.choice, config.seed_key)
    found = measure(
        choices,
        choose_metrics(choices, config.metrics),
        reference=config.reference,
        quality=config.quality,
        cost=config.cost,
    )
    facts: dict[str, object] = {
        "tracking store": without_password(uri),
        "experiment": config.experiment,
        "filter": config.filter or None,
        "parent run": f"{parent.name} ({parent.id})" if parent else None,
    }
    report = make_report(found, config.pictures, config.out / "artifacts")
    told = {key: value for key, value in facts.items() if value is not None}
    written = write_report(
        report, config.out, facts=told, command=_command(config), made_by=made_by()
    )
    print(make_text(found))
    print("\n".join(report.answer))
    if parent is not None and config.log_to_parent:
        _keep(uri, parent, report, written)
    print(f"report: {written.page}")
    return 0


def _command(config: CompareConfig) -> str:
    """Return the command that has these options, without a password."""
    import shlex

    from gdm_repr.analysis.runner import flags
    from gdm_repr.run_record import without_password

    if config.tracking_uri:
        shown = {"tracking_uri": without_password(config.tracking_uri)}
        config = config.model_copy(update=shown)
    return shlex.join(["gdm-repr", "compare", *flags(config)])


def _keep(uri: str, parent: StoredRun, report: Report, written: Written) -> None:
    """Log the page, the figures and the tables to the parent run, in one folder.

    A server that does not take them costs a warning: what was found lies on the disk.
    """
    from gdm_repr.mlflow_delivery import Unreachable, attach
    from gdm_repr.run_record import warn

    folder = written.page.parent
    tables = [folder / "tables" / f"{table.name}.csv" for table in report.tables]
    files = [(path, FOLDER) for path in (written.page, written.numbers)]
    files += [(path, f"{FOLDER}/figures") for path in written.pictures]
    files += [(path, f"{FOLDER}/tables") for path in tables]
    try:
        attach(uri, parent.id, files)
    except Unreachable as error:
        warn(f"{error}; the page is not kept with the run {parent.name!r}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr compare``."""
    return run(CompareConfig, "compare", argv, compare)


if __name__ == "__main__":
    sys.exit(main())
