"""``gdm-repr analyse NAME ...``: one analysis by name, or all of them with a page that leads on."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from gdm_repr.analysis.options import FeatureConfig
from gdm_repr.analysis.report.provenance import command_line, made_by
from gdm_repr.analysis.runner import ANALYSES, NOT_OF_ALL, Analysis, load, perform, require, settle
from gdm_repr.boundary.streams import sturdy_streams
from gdm_repr.command import build, run
from gdm_repr.config import MANY
from gdm_repr.files import only_writer
from gdm_repr.identity import Free

if TYPE_CHECKING:
    from gdm_repr.analysis.subject import Subject

ALL = "all"
# one for all analyses
SHARED = ("checkpoint", "latents", "data", "labels", "part", "ids", "minutes")


class AllConfig(FeatureConfig):
    """Run all analyses and write an index page that holds their answers and leads to their reports.

    Each writes to a folder of its name in --out. What was measured is not measured again. How much
    is measured is chosen for --minutes, and kept in the folder. Options of a single analysis go
    under its name: settings: {band_variance: {draws: 16}} in the YAML file.

    Example:
      gdm-repr analyse all --checkpoint runs/digits --latents runs/digits/latents --out runs/digits/analysis --minutes 5
    """  # noqa: E501

    only: tuple[str, ...] = Field((), description="Run these alone, by name.")
    minutes: Free[float | None] = Field(
        15,
        gt=0,
        le=MANY,
        description="Time there is for all: how much is measured is chosen for it, where no option "
        "says so. null in the YAML file: as much as each does alone.",
    )
    settings: dict[str, dict[str, Any]] = Field(
        {}, description="Options of single analyses, by their names, as JSON or in the YAML file."
    )


def open_work(config: AllConfig) -> tuple[AllConfig, list[tuple[Analysis, Any]], Subject]:
    """Open model and store, settle all options, and see that each of the analyses can be done.

    Raises:
        ValueError: for options that can't be used, and naming all analyses that can't be done.
    """
    from gdm_repr.analysis.chosen import choose
    from gdm_repr.analysis.subject import Subject

    names = config.only or tuple(name for name in ANALYSES if name not in NOT_OF_ALL)
    for name in config.settings:
        load(name)
    parts = [(analysis := load(name), part_options(analysis, config)) for name in names]
    subject = Subject.open(config)
    folders = [options.out for _, options in parts]
    config = settle(config, subject, folders)
    parts = [
        (analysis, settle(part_options(analysis, config), subject, folders))
        for analysis, _ in parts
    ]
    parts = choose(
        parts,
        subject,
        config.minutes,
        config.out,
        check=lambda parts: require_all(parts, subject),
        write=not config.dry_run,
    )
    return config, parts, subject


def require_all(parts: Sequence[tuple[Analysis, Any]], subject: Subject) -> None:
    """See that each of the analyses can be done.

    Raises:
        ValueError: naming all that can't be.
    """
    refused: dict[str, list[str]] = {}
    for analysis, options in parts:
        try:
            require(analysis, options, subject)
        except ValueError as error:
            refused.setdefault(str(error), []).append(analysis.name)
    if refused:
        names = [analysis.name for analysis, _ in parts]
        whole = [name for name in names if all(name not in each for each in refused.values())]
        told = "; ".join(f"{', '.join(each)}: {why}" for why, each in refused.items())
        others = f", or leave them out by --only {','.join(whole)}" if whole else ""
        raise ValueError(
            f"{len(parts) - len(whole)} of {len(parts)} analyses can't be done, so nothing was "
            f"measured. {told}. Mend that{others}"
        )


def analyse_all(config: AllConfig) -> int:
    """Run the analyses one after the other, each a tracked run below one parent.

    Raises:
        ValueError: for options that can't be used; nothing has been measured then.
    """
    with only_writer(config.out):
        return _analyse_all(config)


def _analyse_all(config: AllConfig) -> int:
    """Run them as the only writer of the index page's folder."""
    from gdm_repr import tracking
    from gdm_repr.analysis.report.page import read_entry, write_index

    config, parts, subject = open_work(config)
    folders = {name: config.out / name for name in ANALYSES}
    folders |= {analysis.name: options.out for analysis, options in parts}
    resolved = config.resolved()
    source = subject.store.manifest.settings["source"]
    with tracking.start(
        "analyse-all",
        resolved,
        config.out,
        enabled=config.track,
        run_name=f"analyses of {source}",
    ) as tracked:
        told = list[str]()
        for number, (analysis, options) in enumerate(parts, 1):
            print(f"{number} of {len(parts)}: {analysis.name}", file=sys.stderr)
            report, _ = perform(analysis, options, subject, parent=tracked.record_id)
            print(f"\n{report.question}\n" + "\n".join(f"  {line}" for line in report.answer))
            told += [f"{report.title}: {line}" for line in report.answer]
        # Those of earlier runs, too: the page leads to all that the folder holds.
        found = [read_entry(folder, config.out) for folder in folders.values()]
        entries = [entry for entry in found if entry is not None]
        index = write_index(
            entries, config.out, command=command_line(ALL, config), made_by=made_by()
        )
        tracked.artifact(index)
        tracked.note(told, {"all reports": index.name})
    print(f"\nreport: {index}")
    return 0


def part_options(analysis: Analysis, config: AllConfig) -> Any:  # noqa: ANN401
    """Return one analysis's options: the common ones, and its own from ``settings``.

    Raises:
        ValueError: for options that it does not have, or that are one for all.
    """
    own = config.settings.get(analysis.name, {})
    if shared := [name for name in SHARED if name in own]:
        raise ValueError(
            f"--settings {analysis.name}.{shared[0]}: is one for all analyses; give it as "
            f"--{shared[0]}, or run that one by gdm-repr analyse {analysis.name}"
        )
    fields = analysis.options.model_fields
    common = {
        key: getattr(config, key)
        for key in config.model_fields_set
        if key in fields and key not in {"config", "dry_run", "minutes"}
    }
    values = {**common, "out": Path(config.out) / analysis.name, **own}
    return build(analysis.options, values, f"--settings {analysis.name}.")


def usage() -> str:
    """Return the text of ``gdm-repr analyse --help``."""
    rows = {**ANALYSES, ALL: "all that fit every model, one page"}
    width = max(map(len, rows))
    return "\n".join(
        [
            "usage: gdm-repr analyse NAME [options]",
            "       gdm-repr analyse NAME --help",
            "",
            "Say what the latents hold, in a report: numbers with intervals, controls, pictures.",
            "",
            "analyses:",
            *(f"  {name:<{width}}  {summary}" for name, summary in rows.items()),
        ]
    )


@sturdy_streams()
def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr analyse NAME``; dashes in the name may stand for underscores."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] in (["-h"], ["--help"]):
        print(usage())
        return 0
    if not arguments:
        print(usage(), file=sys.stderr)
        return 2
    name, rest = arguments[0].replace("-", "_"), arguments[1:]
    if name == ALL:
        return run(AllConfig, f"analyse {ALL}", rest, analyse_all, opened=open_work)
    if name not in ANALYSES:
        close = difflib.get_close_matches(name, [*ANALYSES, ALL], n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        known = ", ".join([*ANALYSES, ALL])
        print(
            f"gdm-repr analyse: error: no analysis {name!r}; {hint}choose from {known}",
            file=sys.stderr,
        )
        return 2
    status: int = importlib.import_module(f"gdm_repr.analysis.{name}").main(rest)
    return status


if __name__ == "__main__":
    sys.exit(main())
