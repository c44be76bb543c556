"""Which grouping, order, k or intervals: ``python -m gdm_repr.analysis.study STUDY.yaml``.

A study is a file of choices (:mod:`gdm_repr.analysis.study.choices`). Each is trained, encoded,
sampled and scored in a process of its own (:mod:`gdm_repr.analysis.study.work`), and is one tracked
run below the study's. A task is known by the fingerprint of all that makes it, so that what is done
is not done again: not in this folder, and not where the tracking store has a finished run of it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdm_repr.analysis.compare.tags import (
    CHOICE_TAG,
    FINGERPRINT_TAG,
    PLACE_TAG,
    SEED_TAG,
    STUDY_TAG,
)
from gdm_repr.analysis.study.choices import Choice, StudyConfig, list_choices
from gdm_repr.analysis.study.estimate import task_seconds
from gdm_repr.analysis.study.fingerprints import (
    choice_fingerprint,
    model_fingerprint,
    study_fingerprint,
)
from gdm_repr.analysis.study.pool import Pool, name_of
from gdm_repr.analysis.study.work import Task
from gdm_repr.command import run
from gdm_repr.files import only_writer

if TYPE_CHECKING:
    from gdm_repr.analysis.report.page import Written
    from gdm_repr.config import EncodeConfig, TrainConfig
    from gdm_repr.data.images import Preprocess
    from gdm_repr.grouping import Shape

SHORT = 12  # characters of a fingerprint that name a folder
_PARENT_S = 20.0  # for the study's run to come to the tracking store


@dataclass
class Todo:
    """What is left to do.

    Attributes:
        models: tasks that train, by fingerprint.
        choices: tasks that score, with the fingerprint of the model that each needs.
        known: fingerprints of choices that the tracking store has, with their runs there.
    """

    models: dict[str, Task] = field(default_factory=dict)
    choices: dict[str, tuple[Task, str]] = field(default_factory=dict)
    known: dict[str, str] = field(default_factory=dict)


def make_todo(
    config: StudyConfig, choices: Sequence[Choice], stored: dict[str, str], parent: str | None
) -> Todo:
    """Say what has to be trained and scored.

    Args:
        config: the study.
        choices: all of its choices.
        stored: runs that the tracking store has finished, by fingerprint.
        parent: the study's tracked run; None tracks nothing.

    Raises:
        ValueError: if the data can't be opened, or a choice can't be made of it.
    """
    todo, data, checked = Todo(), _Data(), set[str]()
    labels = list(dict.fromkeys(choice.label for choice in choices))
    for choice in choices:
        train, encode = choice.train, choice.encode
        trained_on, shape, _ = data.look(train.data, train, train.preprocess)
        encoded, _, images = data.look(encode.images(), encode, train.preprocess)
        model = model_fingerprint(train, trained_on)
        own = choice_fingerprint(model, encode, choice.analyses, encoded)
        home = config.folder() / "models" / model[:SHORT]
        folder = config.folder() / "choices" / own[:SHORT]
        choice = choice.placed(home, folder)
        tags = {
            STUDY_TAG: config.title(),
            CHOICE_TAG: choice.label,
            PLACE_TAG: str(labels.index(choice.label)),
            SEED_TAG: str(choice.seed),
            FINGERPRINT_TAG: own,
            "fingerprint.model": model,
        }
        task = Task(choice, str(home), str(folder), tags, parent, config.experiment)
        if own in todo.choices:
            other = todo.choices[own][0].choice
            raise ValueError(
                f"choice {choice.label!r}, seed {choice.seed}: has the same options as choice "
                f"{other.label!r}, seed {other.seed}; leave one out, or change what is to differ"
            )
        todo.choices[own] = task, model
        if own in stored:
            todo.known[own] = stored[own]
        if own in stored or task.done.exists():
            continue
        todo.models[model] = Task(choice, str(home))
        if choice.label not in checked:  # other seeds are alike
            choice.check(shape, images)
            checked.add(choice.label)
    return todo


class _Data:
    """Fingerprint, image shape and number of images of data, each looked at once."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, Shape, int]] = {}

    def look(
        self, name: str, config: TrainConfig | EncodeConfig, how: Preprocess
    ) -> tuple[str, Shape, int]:
        from gdm_repr.data.loading import open_data

        options: dict[str, Any] = {
            key: getattr(config, key) for key in ("labels", "limit", "first", "seed")
        }
        key = repr((name, how, options))
        if key not in self._known:
            found = open_data(name, how, **options)
            self._known[key] = found.fingerprint(), found.shape, len(found)
        return self._known[key]


def open_work(config: StudyConfig) -> Todo:
    """See that all choices that are not done here can be made of the data.

    Raises:
        ValueError: for options or data that can't be used.
    """
    return make_todo(config, list_choices(config), {}, None)


def study(config: StudyConfig) -> int:
    """Run the command.

    Raises:
        ValueError: for options or data that can't be used, and if a choice failed: the others are
            done, and compared, then.
    """
    from gdm_repr.data.sources.registry import refuse_inside

    choices, out = list_choices(config), config.folder()
    for choice in choices:
        for data in (choice.train.data, choice.encode.data):
            refuse_inside(out, data)
    with only_writer(out):
        return _study(config, choices)


def _study(config: StudyConfig, choices: Sequence[Choice]) -> int:
    """Run the study as the only writer of its folder."""
    from gdm_repr import tracking

    out = config.folder()
    resolved = config.resolved()
    with tracking.start(
        "study",
        resolved,
        out,
        enabled=config.track,
        experiment=config.experiment,
        run_name=config.title(),
        tags={STUDY_TAG: config.title()},
    ) as tracked:
        stored = _stored(config) if config.track else {}
        todo = make_todo(config, choices, stored, tracked.record_id if config.track else None)
        tasks: dict[str, tuple[Task, str | None]] = {
            f"model {key}": (task, None) for key, task in todo.models.items()
        }
        tasks |= {
            key: (task, f"model {model}")
            for key, (task, model) in todo.choices.items()
            if key not in todo.known
        }
        fingerprint = study_fingerprint(todo.choices)
        tracked.tags({"fingerprint.study": fingerprint})
        print(
            f"study {fingerprint[:SHORT]}: {len(choices)} choices with seeds, {len(todo.models)} "
            f"models; {len(todo.known)} are in the tracking store already",
            file=sys.stderr,
        )
        if all(task.done.exists() for task, _ in tasks.values()):
            print(f"{out} is finished already: {len(choices)} choices with seeds")
        pool = Pool(config.jobs)
        pool.run(tasks, config.title(), _estimate(tasks, config.jobs))
        if config.track:
            until = time.monotonic() + _PARENT_S
            while tracked.run_id is None and time.monotonic() < until:
                time.sleep(0.1)  # the study's own run is on its way, and children are sent after it
            if (written := _compare(config, todo)) is not None:
                tracked.artifact(written.page)
                for path in written.pictures:
                    if path.suffix == ".png":
                        tracked.artifact(path, "figures")
                tracked.note(_answer(written), {"the comparison": written.page.name})
        if pool.failed:
            first = next(iter(pool.failed))
            raise ValueError(
                f"{len(pool.failed)} of {len(tasks)} tasks failed, the first of them "
                f"{name_of(tasks[first][0])}: {pool.failed[first]}; mend it and run the same "
                "command again: what is done stays"
            )
    return 0


def _estimate(tasks: dict[str, tuple[Task, str | None]], jobs: int) -> dict[str, float]:
    """Say how long the tasks will take, and return the seconds of each."""
    if all(task.done.exists() for task, _ in tasks.values()):
        return {}
    seconds = task_seconds(tasks)
    rows = {
        "train": [key for key in seconds if key.startswith("model ")],
        "encode and sample": [key for key in seconds if not key.startswith("model ")],
    }
    for what, keys in rows.items():
        minutes = sum(seconds[key] for key in keys) / 60 / jobs
        print(f"{what:<20}{len(keys)} tasks, about {minutes:.1f} minutes", file=sys.stderr)
    if any(len(task.choice.analyses) > 1 for task, _ in tasks.values()):
        print("other analyses are not in these; finished tasks correct the bar", file=sys.stderr)
    return seconds


def _compare(config: StudyConfig, todo: Todo) -> Written | None:
    """Compare what is finished, by this study's labels; None where nothing can be."""
    from gdm_repr.analysis.compare.command import compare
    from gdm_repr.analysis.compare.options import CompareConfig
    from gdm_repr.tracking.record import tracking_uri, warn

    tags, absent = dict[str, dict[str, str]](), list[str]()
    for fingerprint, (task, _) in todo.choices.items():
        run = todo.known.get(fingerprint)
        if run is None and task.done.exists():
            run = _delivered(task.place, tracking_uri())
            absent += [name_of(task)] if run is None else []
        if run is not None and task.tags is not None:
            tags[run] = {key: task.tags[key] for key in (CHOICE_TAG, SEED_TAG, PLACE_TAG)}
    if absent:
        warn(f"{len(absent)} of {len(todo.choices)} choices are done, but are not in the tracking "
             f"store and not compared, such as: {absent[0]}")  # fmt: skip
    if not tags:
        warn("no run has come to the tracking store, so that there is nothing to compare")
        return None
    query = f"attributes.run_id IN ({', '.join(map(repr, tags))})"
    try:
        # More of its own runs may have come: that comparison is this one, grown.
        given = {"filter": query, "out": config.folder() / "comparison", "overwrite": True}
        return compare(CompareConfig.model_validate(given), tags)
    except ValueError as error:
        warn(f"no comparison: {error}")
        return None


def _answer(written: Written) -> Sequence[str]:
    """Return the sentences of a comparison that was written."""
    from gdm_repr.analysis.report.page import read_entry

    entry = read_entry(written.page.parent, written.page.parent)
    return entry.report.answer if entry else ()


def _delivered(folder: Path, uri: str) -> str | None:
    """Return a finished choice's run, sent now if the store has not all of it; None if it can't be.

    A choice that was scored without tracking has no record to send.
    """
    from gdm_repr.tracking.record import RECORD, read_sent, warn
    from gdm_repr.tracking.sender import replay

    if not (folder / RECORD).exists():
        return None
    try:
        replay(folder, uri)
    except ValueError as error:
        warn(str(error))
        return None
    return next(reversed(read_sent(folder, uri)["runs"].values()), None)


def _stored(config: StudyConfig) -> dict[str, str]:
    """Return the runs that the tracking store has finished, by fingerprint; none if it is away."""
    from gdm_repr.tracking.query import find_fingerprints
    from gdm_repr.tracking.record import experiment_name, tracking_uri, warn

    try:
        found = find_fingerprints(
            tracking_uri(), experiment_name(config.experiment), FINGERPRINT_TAG
        )
    except ValueError as error:
        warn(f"what is done elsewhere is not known: {error}")
        return {}
    return {fingerprint: run.id for fingerprint, run in found.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr study``; a first argument without a flag is the file."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given and not given[0].startswith("-"):
        given.insert(0, "--config")
    return run(StudyConfig, "study", given, study, opened=open_work)
