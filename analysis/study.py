"""Which grouping, order, k or intervals: ``python -m gdm_repr.analysis.study STUDY.yaml``.

A study is a file of choices (:mod:`gdm_repr.analysis.study_options`). Each is trained, encoded,
sampled and scored in a process of its own (:mod:`gdm_repr.analysis.study_work`), and is one tracked
run below the study's. A task is known by the fingerprint of all that makes it, so that what is done
is not done again: not in this folder, and not where the tracking store has a finished run of it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdm_repr.analysis.study_options import (
    Choice,
    StudyConfig,
    choice_fingerprint,
    list_choices,
    model_fingerprint,
    study_fingerprint,
)
from gdm_repr.analysis.study_work import CHOICE, FINGERPRINT, PLACE, SEED, STUDY, Task
from gdm_repr.command import run

if TYPE_CHECKING:
    from gdm_repr.config import EncodeConfig, TrainConfig
    from gdm_repr.grouping import Shape
    from gdm_repr.images import Preprocess

SHORT = 12  # characters of a fingerprint that name a folder
_POLL_S = 0.2
_PATIENCE_S = 60.0  # for processes to save what they have


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
        training = choice.train_config(Path("model"))
        encoding = choice.encode_config(Path("model"), Path("choice"))
        analyses = choice.analyses(Path("model"), Path("choice"))
        how = training.preprocess
        trained_on, shape, _ = data.look(training.data, training, how)
        encoded, _, images = data.look(encoding.images(), encoding, how)
        model = model_fingerprint(training, trained_on)
        own = choice_fingerprint(model, encoding, analyses, encoded)
        folder = config.folder() / "choices" / own[:SHORT]
        home = str(config.folder() / "models" / model[:SHORT])
        tags = {
            STUDY: config.title(),
            CHOICE: choice.label,
            PLACE: str(labels.index(choice.label)),
            SEED: str(choice.seed),
            FINGERPRINT: own,
            "fingerprint.model": model,
        }
        task = Task(choice, home, str(folder), tags, parent, config.experiment)
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
        todo.models[model] = Task(choice, home)
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
        from gdm_repr.data import open_data

        options: dict[str, Any] = {
            "labels": config.labels, "limit": config.limit, "seed": config.seed
        }  # fmt: skip
        key = repr((name, how, options))
        if key not in self._known:
            found = open_data(name, how, **options)
            self._known[key] = found.fingerprint(), found.shape, len(found)
        return self._known[key]


class Pool:
    """Runs tasks in processes, so many at a time, each after the task that it needs."""

    def __init__(self, jobs: int) -> None:
        """Share the cores among the processes."""
        self.jobs = jobs
        self.threads = max(1, (os.cpu_count() or 1) // jobs)
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.failed: dict[str, str] = {}

    def run(self, tasks: dict[str, tuple[Task, str | None]], label: str) -> None:
        """Do all tasks, by key with the key of the one that each needs.

        A task that fails is kept in ``failed`` with its reason, as is what needs it.
        """
        from tqdm import tqdm

        waiting, done = dict(tasks), {key for key, (task, _) in tasks.items() if task.done.exists()}
        for key in done:
            del waiting[key]
        with tqdm(total=len(tasks), initial=len(done), desc=label, unit="task") as bar:
            try:
                while waiting or self.running:
                    for key, (task, needed) in list(waiting.items()):
                        if needed in self.failed:
                            self.failed[key] = self.failed[needed]
                            del waiting[key]
                            bar.update()
                        elif len(self.running) < self.jobs and (needed is None or needed in done):
                            self.running[key] = self._start(task)
                            del waiting[key]
                    for key, process in list(self.running.items()):
                        if (status := process.poll()) is None:
                            continue
                        del self.running[key]
                        _close(process)
                        task = tasks[key][0]
                        if status == 0 and task.done.exists():
                            done.add(key)
                        else:
                            self.failed[key] = _reason(status, task.place / "log.txt")
                            tqdm.write(f"failed: {_name(task)}: {self.failed[key]}", sys.stderr)
                        bar.update()
                    time.sleep(_POLL_S)
            finally:
                self._stop()

    def _start(self, task: Task) -> subprocess.Popen[bytes]:
        environment = os.environ | {"OMP_NUM_THREADS": str(self.threads)}
        command = [
            sys.executable, "-P", "-m", "gdm_repr.analysis.study_work", str(task.write().resolve())
        ]  # fmt: skip
        with (task.place / "log.txt").open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the study, which then closes their inputs
            )

    def _stop(self) -> None:
        """Let what still runs save what it has, and end."""
        for process in self.running.values():
            _close(process)
        for process in self.running.values():
            try:
                process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _close(process: subprocess.Popen[bytes]) -> None:
    """End a process's input."""
    assert process.stdin is not None
    process.stdin.close()


def _name(task: Task) -> str:
    what = "scoring" if task.folder else "training"
    return f"{what} {task.choice.label}, seed {task.choice.seed}"


def _reason(status: int, log: Path) -> str:
    """Say why a process failed: the signal that ended it, or its last word."""
    if status < 0:
        return f"ended by signal {-status} ({signal.strsignal(-status)}); 9 is often lack of memory"
    return _last_line(log)


def _last_line(path: Path) -> str:
    lines = path.read_text("utf-8", errors="replace").splitlines() if path.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "no word")


def study(config: StudyConfig) -> int:
    """Run the command.

    Raises:
        ValueError: for options or data that can't be used, and if a choice failed: the others are
            done, and compared, then.
    """
    from gdm_repr import tracking

    choices = list_choices(config)
    out = config.folder()
    resolved = config.model_dump(mode="json", exclude={"config", "dry_run"})
    with tracking.start(
        "study",
        resolved,
        out,
        enabled=config.track,
        experiment=config.experiment,
        run_name=config.title(),
        tags={STUDY: config.title()},
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
        pool = Pool(config.jobs)
        pool.run(tasks, config.title())
        if config.track:
            for path in _compare(config, todo):
                tracked.artifact(path, "" if path.suffix == ".html" else "figures")
        if pool.failed:
            first = next(iter(pool.failed))
            raise ValueError(
                f"{len(pool.failed)} of {len(tasks)} tasks failed, the first of them "
                f"{_name(tasks[first][0])}: {pool.failed[first]}; mend it and run the same command "
                "again: what is done stays"
            )
    return 0


def _compare(config: StudyConfig, todo: Todo) -> list[Path]:
    """Compare what is finished, and return the page and its pictures."""
    from gdm_repr.analysis.compare import CompareConfig, compare
    from gdm_repr.run_record import read_sent, tracking_uri, warn

    uri, out = tracking_uri(), config.folder() / "comparison"
    runs = list(todo.known.values())
    for task, _ in todo.choices.values():
        if task.done.exists():
            runs += read_sent(task.place, uri)["runs"].values()
    if not runs:
        warn("no run has come to the tracking store, so that there is nothing to compare")
        return []
    named = ", ".join(f"'{run}'" for run in dict.fromkeys(runs))
    query = f"attributes.run_id IN ({named})"
    try:
        given = {"experiment": config.experiment, "filter": query, "out": out}
        written = compare(CompareConfig.model_validate(given))
    except ValueError as error:
        warn(f"no comparison: {error}")
        return []
    return [written.page, *(path for path in written.pictures if path.suffix == ".png")]


def _stored(config: StudyConfig) -> dict[str, str]:
    """Return the runs that the tracking store has finished, by fingerprint; none if it is away."""
    from gdm_repr.run_query import find_fingerprints
    from gdm_repr.run_record import experiment_name, tracking_uri, warn

    try:
        found = find_fingerprints(tracking_uri(), experiment_name(config.experiment), FINGERPRINT)
    except ValueError as error:
        warn(f"what is done elsewhere is not known: {error}")
        return {}
    return {fingerprint: run.id for fingerprint, run in found.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr study``; a first argument without a flag is the file."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given and not given[0].startswith("-"):
        given.insert(0, "--config")
    return run(StudyConfig, "study", given, study)


if __name__ == "__main__":
    sys.exit(main())
