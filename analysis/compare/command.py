"""Which choice is better, from stored runs: ``python -m gdm_repr.analysis.compare``.

Reads any MLflow store (:mod:`gdm_repr.tracking.query`), sorts its runs into choices and seeds
(:mod:`gdm_repr.analysis.compare.runs`), and sets the choices beside each other
(:mod:`gdm_repr.analysis.compare.choices`) with intervals and paired differences over seeds
(:mod:`gdm_repr.analysis.compare.statistics`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdm_repr.analysis.compare.options import CompareConfig
from gdm_repr.analysis.compare.tags import STUDY_TAG
from gdm_repr.boundary.names import file_name
from gdm_repr.command import run
from gdm_repr.files import only_writer, parse_json, read_text, write_text
from gdm_repr.identity import counted
from gdm_repr.recipe import find_difference

if TYPE_CHECKING:
    from gdm_repr.analysis.report.page import Report, Written
    from gdm_repr.tracking.query import StoredRun

FOLDER = "comparison"  # of the parent run's files
RECORD, ARTIFACTS = "compare.json", "artifacts"  # in --out


def select(config: CompareConfig, uri: str) -> tuple[list[StoredRun], StoredRun | None]:
    """Return the runs asked for, the newest first, and their parent.

    Raises:
        ValueError: There is no such store, experiment or parent, or the filter is not understood.
    """
    from gdm_repr.tracking.query import PARENT_TAG, find_runs
    from gdm_repr.tracking.record import experiment_name

    if config.parent is None:
        return find_runs(uri, experiment_name(config.experiment), config.filter), None
    parent = _parent(config.parent, config.experiment, uri)
    own = f"tags.`{PARENT_TAG}` = '{parent.id}'"
    query = f"{own} and {config.filter}" if config.filter else own
    return find_runs(uri, config.experiment, query), parent


def _parent(name: str, experiment: str | None, uri: str) -> StoredRun:
    """Find a run by its id or name, or by the study's name."""
    from gdm_repr.tracking.query import find_runs, get_run

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


def compare(config: CompareConfig, tags: Mapping[str, Mapping[str, str]] | None = None) -> Written:
    """Read, compare, print, write the page, and keep it with the parent run.

    Args:
        config: what to compare.
        tags: of runs by id, of any experiment; they stand for those of the store.

    Raises:
        ValueError: for options that can't be used, or a folder of something else.
    """
    with only_writer(config.out):
        return _compare(config, tags)


def _compare(config: CompareConfig, tags: Mapping[str, Mapping[str, str]] | None) -> Written:
    """Compare as the only writer of the folder."""
    from gdm_repr.analysis.compare.choices import choose_metrics, measure
    from gdm_repr.analysis.compare.report import make_report
    from gdm_repr.analysis.compare.runs import gather
    from gdm_repr.analysis.compare.tables import make_text
    from gdm_repr.analysis.report.page import write_report
    from gdm_repr.analysis.report.provenance import made_by
    from gdm_repr.tracking.query import find_runs
    from gdm_repr.tracking.record import tracking_uri, without_password

    uri = tracking_uri(config.tracking_uri)
    earlier = _look(config, uri)
    if tags is None:
        runs, parent = select(config, uri)
    else:
        stored, parent = find_runs(uri, None, config.filter), None
        runs = [replace(run, tags={**run.tags, **tags[run.id]}) for run in stored]
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
    if config.overwrite:
        _clear(config.out, earlier)
    report = make_report(found, config.pictures, config.out / ARTIFACTS)
    told = {key: value for key, value in facts.items() if value is not None}
    written = write_report(
        report, config.out, facts=told, command=_command(config), made_by=made_by()
    )
    _end(config, uri)
    print(make_text(found))
    print("\n".join(report.answer))
    if parent is not None and config.log_to_parent:
        _keep(uri, parent, report, written)
    print(f"report: {written.page}")
    return written


def _settings(config: CompareConfig, uri: str) -> dict[str, object]:
    """Return what decides which runs are compared, and how."""
    from gdm_repr.tracking.record import without_password

    return {**counted(config), "tracking_uri": without_password(uri)}


def _look(config: CompareConfig, uri: str) -> dict[str, Any] | None:
    """See that the folder is of this comparison, or may be made so; runs may have come since.

    Returns:
        What an earlier comparison says of itself.

    Raises:
        ValueError: The folder holds another comparison, or an analysis.
    """
    from gdm_repr.analysis.journal import JOURNAL
    from gdm_repr.analysis.report.page import is_written

    out, record = config.out, config.out / RECORD
    if (out / JOURNAL).exists():
        raise ValueError(f"--out {str(out)!r}: holds an analysis; choose another folder")
    earlier = _read(record)
    difference = earlier and find_difference(earlier["settings"], _settings(config, uri))
    if difference and not config.overwrite:
        raise ValueError(
            f"--out {str(out)!r}: holds a comparison of other settings ({difference}); choose "
            "another folder or add --overwrite"
        )
    if is_written(out) and not config.overwrite:
        print(f"{out} is finished already: comparison; its page is written again from the store")
    return earlier


def _clear(out: Path, earlier: Mapping[str, Any] | None) -> None:
    """Remove an earlier comparison, and nothing else."""
    from gdm_repr.analysis.report.page import remove_report

    remove_report(out)
    (out / RECORD).unlink(missing_ok=True)
    for name in earlier["artifacts"] if earlier else ():
        path = out / name
        if path.resolve().is_relative_to((out / ARTIFACTS).resolve()):
            path.unlink(missing_ok=True)
            with suppress(OSError):  # it holds others
                path.parent.rmdir()


def _read(record: Path) -> dict[str, Any] | None:
    """Read what a folder's comparison was made by; None where there is none."""
    if not record.exists():
        return None
    facts = parse_json(read_text(record, "--out"), f"--out {str(record)!r}")
    try:
        return {"settings": dict(facts["settings"]), "artifacts": list(facts["artifacts"])}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"--out {str(record)!r}: is of no comparison of this version ({error!r}); choose "
            "another folder"
        ) from None


def _end(config: CompareConfig, uri: str) -> None:
    """Write down by what the comparison was made, and the runs' pictures that it copied."""
    out = config.out
    copies = sorted(path for path in (out / ARTIFACTS).rglob("*") if path.is_file())
    names = [path.relative_to(out).as_posix() for path in copies]
    facts = {"settings": _settings(config, uri), "artifacts": names}
    write_text(out / RECORD, json.dumps(facts, indent=2) + "\n")


def _command(config: CompareConfig) -> str:
    """Return the command that has these options, without a password."""
    import shlex

    from gdm_repr.analysis.report.provenance import flags
    from gdm_repr.tracking.record import without_password

    if config.tracking_uri:
        shown = {"tracking_uri": without_password(config.tracking_uri)}
        config = config.model_copy(update=shown)
    return shlex.join(["gdm-repr", "compare", *flags(config)])


def _keep(uri: str, parent: StoredRun, report: Report, written: Written) -> None:
    """Log the page, the figures and the tables to the parent run, with a link in its note.

    A server that does not take them costs a warning: what was found lies on the disk.
    """
    from gdm_repr.tracking.delivery import Unreachable, attach
    from gdm_repr.tracking.record import warn

    folder = written.page.parent
    tables = [folder / "tables" / f"{file_name(table.name)}.csv" for table in report.tables]
    files = [(path, FOLDER) for path in (written.page, written.numbers)]
    files += [(path, f"{FOLDER}/figures") for path in written.pictures]
    files += [(path, f"{FOLDER}/tables") for path in tables]
    try:
        attach(uri, parent.id, files, {"comparison of its runs": f"{FOLDER}/{written.page.name}"})
    except Unreachable as error:
        warn(f"{error}; the page is not kept with the run {parent.name!r}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr compare``."""

    def command(config: CompareConfig) -> int:
        compare(config)
        return 0

    return run(CompareConfig, "compare", argv, command)
