"""How an analysis runs as a command: options in; a report, its files and a tracked run out.

An analysis is a module with an :class:`Analysis` and ``main``, and one row of :data:`ANALYSES`.
Importing this module does not import torch.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

from gdm_repr.analysis.identity import identity, names, spelled, store_names
from gdm_repr.analysis.journal import JOURNAL, Journal, read_head, read_journal
from gdm_repr.analysis.options import AnalysisConfig
from gdm_repr.analysis.report.provenance import command_line, made_by
from gdm_repr.command import build, run
from gdm_repr.files import only_writer

if TYPE_CHECKING:
    from gdm_repr.analysis.cost import Cost
    from gdm_repr.analysis.found import Found
    from gdm_repr.analysis.report.page import Report, Written
    from gdm_repr.analysis.subject import Subject
    from gdm_repr.api import GDM
    from gdm_repr.latents.store import LatentStore

Chosen = TypeVar("Chosen", bound=AnalysisConfig)


@dataclass(frozen=True)
class Analysis:
    """One analysis; what it does lies in modules of its folder, imported when they are needed.

    Attributes:
        name: of its folder, as in ``band_variance``.
        options: its options; the docstring is the help.
    """

    name: str
    options: type[AnalysisConfig]

    def check(self, config: AnalysisConfig, subject: Subject) -> None:
        """Refuse what measuring would refuse, in seconds and before anything is measured.

        Raises:
            ValueError: for features, images, labels, elements and counts that are not there.
        """
        self._module("measure").check(config, subject)

    def cost(self, config: AnalysisConfig, subject: Subject) -> Cost:
        """Count what measuring takes."""
        found: Cost = self._module("measure").cost(config, subject)
        return found

    def measure(
        self, config: AnalysisConfig, subject: Subject, journal: Journal | None = None
    ) -> Found:
        """Measure; with a journal, what it holds is not measured again."""
        found: Found = self._module("measure").measure(config, subject, journal or Journal())
        return found

    def _module(self, name: str) -> Any:  # noqa: ANN401
        return importlib.import_module(f"gdm_repr.analysis.{self.name}.{name}")


# Name of each analysis, which is its folder's, and the line shown by help.
ANALYSES = {
    "band_variance": "how much an image varies when latents are fixed",
    "reconstruction": "how much of an image its first latents keep",
    "total_correlation": "whether latents are independent of each other",
    "traversal": "what single latents do, ranked and shown",
    "factor_map": "which band holds which known factor",
    "element_factors": "whether single latents hold single known factors",
    "disentanglement": "how well latents separate known factors",
    "sample_quality": "how far samples are from real images",
    "leakage": "which latent groups move which data groups",
    "order_search": "which order of generation is good (models of many orders)",
}
NOT_OF_ALL = ("order_search",)  # fits some models only, so that `all` leaves it out


def load(name: str) -> Analysis:
    """Import an analysis.

    Raises:
        ValueError: if there is no such analysis.
    """
    if name not in ANALYSES:
        raise ValueError(f"analysis {name!r}: unknown; choose from {', '.join(ANALYSES)}")
    analysis: Analysis = importlib.import_module(f"gdm_repr.analysis.{name}").ANALYSIS
    return analysis


def measure(
    name: str,
    model: GDM,
    latents: str | Path | LatentStore,
    *,
    data: str | None = None,
    labels: str | Path | None = None,
    **options: Any,  # noqa: ANN401
) -> Found:
    """Measure, without a command: no file is written and nothing is tracked.

    Args:
        name: of the analysis, a key of :data:`ANALYSES`.
        model: the model.
        latents: the store that it encoded, some of its rows, or its folder.
        data: the images that were encoded; a built-in name is found by itself.
        labels: file of the labels they were encoded with, if any.
        options: of the analysis, as in YAML: ``features="pixels", anchors=6``.

    Returns:
        What was measured. It shows its answer in a notebook; ``report()`` has pictures and tables.

    Raises:
        ValueError: for options that can't be used, or a store that the model did not make.
    """
    from gdm_repr.analysis.chosen import choose
    from gdm_repr.analysis.subject import Subject

    analysis = load(name)
    path = getattr(latents, "path", latents)
    with TemporaryDirectory() as folder:
        given = {"checkpoint": "", "latents": path, "data": data, "labels": labels, "out": folder}
        config = build(analysis.options, {**given, **options}, "measure: ")
        subject = Subject(
            model,
            config.latents,
            checkpoint=None,
            data=data,
            labels=config.labels,
            part=config.part,
            ids=config.ids,
            rows=getattr(latents, "selected", None),
        )
        config = config.settled(model.shape[0])

        def check(parts: Sequence[tuple[Analysis, Any]]) -> None:
            for _, options in parts:
                _check_options(analysis, options, subject)
                analysis.check(options, subject)

        ((_, config),) = choose(
            [(analysis, config)], subject, config.minutes, config.out, check=check, write=False
        )
        return analysis.measure(config, subject)


def run_analysis(analysis: Analysis, argv: Sequence[str] | None) -> int:
    """Run one analysis as a command: ``main`` of every analysis."""

    def opened(config: AnalysisConfig) -> tuple[AnalysisConfig, Subject]:
        from gdm_repr.analysis.chosen import choose
        from gdm_repr.analysis.subject import Subject

        subject = Subject.open(config)
        config = settle(config, subject, [config.out])
        ((_, config),) = choose(
            [(analysis, config)],
            subject,
            config.minutes,
            config.out,
            check=lambda parts: require(analysis, parts[0][1], subject),
            write=not config.dry_run,
        )
        return config, subject

    def body(config: AnalysisConfig) -> int:
        report, written = perform(analysis, *opened(config))
        print("\n".join(report.answer))
        print(f"report: {written.page}")
        return 0

    return run(analysis.options, f"analyse {analysis.name}", argv, body, opened=opened)


def settle(config: Chosen, subject: Subject, folders: Sequence[Path]) -> Chosen:
    """Choose what depends on the machine, as a run that was begun in one of the folders did.

    Raises:
        ValueError: for options that do not fit each other.
    """
    before = [] if config.overwrite else [folder / JOURNAL for folder in folders]
    return config.settled(subject.model.shape[0], before)


def require(analysis: Analysis, config: AnalysisConfig, subject: Subject) -> None:
    """See that an analysis can be done, before anything is measured.

    Raises:
        ValueError: for options that can't be used, or an output folder of other settings.
    """
    from gdm_repr.data.sources.registry import refuse_inside

    _check_options(analysis, config, subject)
    refuse_inside(config.out, config.data)
    if not config.overwrite:
        if other := _other_analysis(analysis.name, config.out):
            raise ValueError(
                f"--out {str(config.out)!r}: holds the analysis {other}, now {analysis.name}; "
                "choose another folder, or add --overwrite to remove that"
            )
        read_journal(config.out / JOURNAL, **_written_by(analysis, config, subject))
    analysis.check(config, subject)


def _check_options(analysis: Analysis, config: AnalysisConfig, subject: Subject) -> None:
    """Refuse options that do not fit each other, or the number of images."""
    config.check()
    labelled = bool(subject.store.manifest.labels)
    total, more = len(subject.store), subject.stored > len(subject.store)
    check_images(analysis.name, config, total, labelled=labelled, more=more)


def _written_by(
    analysis: Analysis, config: AnalysisConfig, subject: Subject
) -> dict[str, Mapping[str, Any]]:
    """Return what a journal says of what wrote it."""
    latents, manifest = {"latents": subject.digest()}, subject.store.manifest
    return {
        "settings": {**identity(config), **latents},
        "of": {**manifest.fingerprint, "analysis": analysis.name},
        "names": {**names(config), **store_names(manifest)},
        "spelled": {**spelled(config), **latents},
    }


def check_images(
    name: str, config: AnalysisConfig, total: int, *, labelled: bool = True, more: bool = False
) -> None:
    """Refuse a store of too few images, before work begins.

    Args:
        name: of the analysis.
        config: its options.
        total: images of the store that are looked at.
        labelled: whether it has labels; without, analyses of labels say so, whatever the images.
        more: whether the store has others, of another part.

    Raises:
        ValueError: naming the option, how many there are, how many are needed, and why.
    """
    if config.of_labels and not labelled:
        return
    least, why = config.needs()
    others_in = ", or look at --part all" if more else ""
    if total < least:
        held = f"{total} image{'s' * (total != 1)}"
        raise ValueError(
            f"--latents {str(config.latents)!r}: holds {held}, and {name} needs at least {least} "
            f"with these options ({why}); encode more{others_in}"
        )
    for flag, (asked, left) in config.most().items():
        if asked + left > total:
            others = f", of which {left} must be left for the controls" if left else ""
            raise ValueError(
                f"{flag} {asked}: the store holds {total} images only{others}; use at most "
                f"{total - left}, or encode more{others_in}"
            )


def perform(
    analysis: Analysis, config: AnalysisConfig, subject: Subject, parent: str | None = None
) -> tuple[Report, Written]:
    """Measure, write the report and track it.

    Args:
        analysis: what to do.
        config: its options.
        subject: opened by these options.
        parent: the tracked run that this one belongs to.

    Raises:
        ValueError: for options that can't be used, or an output folder of other settings.
    """
    require(analysis, config, subject)
    with only_writer(config.out):
        return _perform(analysis, config, subject, parent)


def _perform(
    analysis: Analysis, config: AnalysisConfig, subject: Subject, parent: str | None
) -> tuple[Report, Written]:
    """Measure, write and track as the only writer of the folder."""
    from gdm_repr import tracking
    from gdm_repr.analysis.report.page import is_written, remove_report, write_report

    if config.overwrite:
        remove_report(config.out)
    journal = Journal(
        config.out / JOURNAL,
        overwrite=config.overwrite,
        **_written_by(analysis, config, subject),
    )
    if is_written(config.out):
        print(
            f"{config.out} is finished already: {analysis.name}; its page is written again from "
            "what was measured; add --overwrite to measure it again"
        )
    resolved, manifest = config.resolved(), subject.store.manifest
    source = str(manifest.settings["source"])
    with tracking.start(
        f"analyse-{analysis.name}",
        resolved,
        config.out,
        enabled=config.track,
        run_name=f"{analysis.name.replace('_', ' ')} of {source}",
        parent=parent,
        tags=_origin(subject),
    ) as tracked:
        tracked.inputs(source, manifest.fingerprint["data"], str(config.latents))
        print(f"images: {subject.said()}", file=sys.stderr)
        report = analysis.measure(config, subject, journal).report()
        written = write_report(
            report,
            config.out,
            facts=subject.facts(),
            command=command_line(analysis.name, config),
            made_by=made_by(),
        )
        for step, values in report.metrics:
            tracked.metrics(values, step)
        for table in report.tables:
            tracked.table(table.name, table.columns)
        for path in written.pictures:
            tracked.artifact(path, "figures")
        tracked.artifact(written.numbers)
        tracked.artifact(written.page)
        tracked.note(report.answer, {"the report": written.page.name})
    return report, written


def _other_analysis(name: str, out: Path) -> str | None:
    """Return the name of another analysis whose journal a folder holds, as far as it is known."""
    other = read_head(out / JOURNAL).get("of", {}).get("analysis", name)
    return None if other == name else str(other)


def _origin(subject: Subject) -> dict[str, object]:
    """Return tags that link a run to the one that encoded the latents."""
    from gdm_repr.tracking.record import read_events, read_sent, tracking_uri

    path: Path = subject.store.path
    tags: dict[str, object] = {
        f"fingerprint.{key}": value for key, value in subject.store.manifest.fingerprint.items()
    }
    starts = [e for e in read_events(path) if e["event"] == "start" and e["command"] == "encode"]
    if starts:
        tags["encode.record"] = record = starts[-1]["run"]
        if run_id := read_sent(path, tracking_uri())["runs"].get(record):
            tags["encode.run_id"] = run_id
    return tags
