"""One task of a study in a process of its own: train a model, or score a choice.

:func:`main` is that process. It ends when its standard input does, so that no task outlives a study
that was killed; what it had done by then is kept, and the same task goes on from there. A lock
keeps two processes from one task.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdm_repr.analysis.runner import load
from gdm_repr.analysis.study.choices import Choice, build_choice
from gdm_repr.command import run_command
from gdm_repr.files import parse_json, read_bytes, write_text

if TYPE_CHECKING:
    from gdm_repr.analysis.subject import Subject

LOCK = "lock"  # in a task's folder; what the task runs there (train, ...) has locks of its own
TRAINED = "trained.json"  # in a model's folder, once it is trained
SCORED = "scored.json"  # in a choice's folder, once it is scored
TRAIN_SECONDS = "train_seconds"
SHEET, STRIP, GROUPING = "samples.png", "strip.png", "grouping.png"
SHEET_IMAGES, SHEET_COLUMNS = 48, 12
STRIP_IMAGES, STRIP_FRAMES = 4, 10
LABEL = 200  # characters of a label in a run's name, of which MLflow may keep 250


@dataclass(frozen=True)
class Task:
    """What a process has to do.

    Attributes:
        choice: to train a model for, or to score; placed in these folders.
        model: folder of the model.
        folder: of the choice; None trains the model.
        tags: of the choice's tracked run.
        parent: the study's tracked run; None tracks nothing.
        experiment: MLflow's.
    """

    choice: Choice
    model: str
    folder: str | None = None
    tags: dict[str, str] | None = None
    parent: str | None = None
    experiment: str | None = None

    @property
    def place(self) -> Path:
        """Folder that the task writes to."""
        return Path(self.folder or self.model)

    @property
    def done(self) -> Path:
        """File that is there once the task is done."""
        return self.place / (TRAINED if self.folder is None else SCORED)

    def write(self) -> Path:
        """Write the task as JSON and return the file."""
        self.place.mkdir(parents=True, exist_ok=True)
        path = self.place / "task.json"
        _write(path, {**vars(self), "choice": self.choice.plain()})
        return path

    @classmethod
    def read(cls, path: Path) -> Task:
        """Read a task."""
        where = f"task {str(path)!r}"
        facts = parse_json(read_bytes(path, "task"), where, constants=True)
        try:
            choice = build_choice(**facts["choice"])
            folders = Path(facts["model"]), Path(facts["folder"] or facts["model"])
            return cls(**{**facts, "choice": choice.placed(*folders)})
        except (KeyError, TypeError) as error:
            raise ValueError(f"{where}: is no task ({error!r}); run the study again") from None


def work(task: Task) -> int:
    """Do a task that is not done yet."""
    from filelock import FileLock

    task.place.mkdir(parents=True, exist_ok=True)
    with FileLock(task.place / LOCK):  # waits until no other process works here
        if not task.done.exists():
            _write(task.done, _score(task) if task.folder else _train(task))
    return 0


def _train(task: Task) -> dict[str, Any]:
    """Train, and say how long it takes without interruptions: images over the median rate."""
    from statistics import median

    from gdm_repr.tracking.keys import IMAGES_PER_SECOND
    from gdm_repr.train import LOG, read_log, train

    config = task.choice.train
    train(config)
    rates = [record.get(IMAGES_PER_SECOND) for record in read_log(config.out / LOG)]
    usable = [rate for rate in rates if isinstance(rate, int | float) and 0 < rate < float("inf")]
    return {TRAIN_SECONDS: config.images / median(usable)}


def _read_trained(path: Path) -> dict[str, float]:
    """Read what training left, numbers by name."""
    facts = parse_json(read_bytes(path, "study"), f"study {str(path)!r}")
    if not isinstance(facts, dict) or not all(isinstance(v, int | float) for v in facts.values()):
        raise ValueError(f"study {str(path)!r}: holds no numbers by name; delete it and run again")
    return facts


def _score(task: Task) -> dict[str, Any]:
    """Encode, score, draw, and track it all as one run."""
    from gdm_repr import tracking
    from gdm_repr.analysis.runner import perform
    from gdm_repr.analysis.subject import Subject
    from gdm_repr.encode import encode
    from gdm_repr.latents.summary import as_metrics, summarise
    from gdm_repr.tracking.keys import ROUND_TRIP_RMSE

    choice, folder, model = task.choice, task.place, task.choice.train.out
    resolved = {
        "choice": choice.label,
        "seed": choice.seed,
        "train": choice.train.resolved(),
        "encode": choice.encode.resolved(),
        "analyse": {name: options.resolved() for name, options in choice.analyses},
    }
    with tracking.start(
        "study-choice",
        resolved,
        folder,
        enabled=task.parent is not None,
        experiment=task.experiment,
        run_name=f"{choice.label[:LABEL]}, seed {choice.seed}",
        parent=task.parent,
        tags=task.tags,
    ) as tracked:
        encode(choice.encode)
        subject, metrics = Subject.open(choice.analyses[0][1]), dict[str, float]()
        answers, pages = list[str](), dict[str, str]()
        for name, options in choice.analyses:
            report, written = perform(load(name), options, subject)
            for step, values in report.metrics:
                metrics |= values if step == 0 else {}  # curves are on the page
            tracked.artifact(written.page, name)
            answers += [f"{report.title}: {line}" for line in report.answer]
            pages[report.title] = f"{name}/{written.page.name}"
            for picture in written.pictures:
                tracked.artifact(picture, f"{name}/figures")
        metrics |= as_metrics(summarise(subject.store))
        if "round_trip_error" in subject.store.manifest.errors:
            errors = subject.store.errors("round_trip_error").astype("f8")
            metrics[ROUND_TRIP_RMSE] = float((errors**2).mean() ** 0.5)
        metrics |= _read_trained(model / TRAINED)
        pictures = [*_draw(subject, folder, choice.seed), model / GROUPING]
        manifest = subject.store.manifest
        source = str(manifest.settings["source"])
        tracked.inputs(source, manifest.fingerprint["data"], choice.encode.images())
        tracked.metrics(metrics)
        for path in pictures:
            tracked.artifact(path)
        tracked.note(answers, pages)
    return {"metrics": metrics, "pictures": [str(path.resolve()) for path in pictures]}


def _draw(subject: Subject, folder: Path, seed: int) -> list[Path]:
    """Draw samples, and how the first of them come about."""
    import numpy as np

    from gdm_repr.analysis.draws import first_latent
    from gdm_repr.pictures import as_grid, save_sheet
    from gdm_repr.process_strip import process_frames

    model = subject.model
    z = model.noise(SHEET_IMAGES, seed=first_latent(seed))
    sheet, strip = folder / SHEET, folder / STRIP
    x = model.decode(z, subject.plan).cpu().numpy()
    save_sheet(as_grid(x, SHEET_COLUMNS), sheet)
    frames = process_frames(model, z[:STRIP_IMAGES], subject.plan, STRIP_FRAMES).x
    save_sheet(list(np.moveaxis(frames.cpu().numpy(), 0, 1)), strip)
    return [sheet, strip]


def _write(path: Path, facts: dict[str, Any]) -> None:
    write_text(path, json.dumps(facts, indent=2) + "\n", sync=False)


def _end_with_parent() -> None:
    """Interrupt this process once its standard input ends."""

    def listen() -> None:
        os.read(0, 1)  # sys.stdin would hold a lock, over which a forked loader would wait for ever
        os.kill(os.getpid(), signal.SIGINT)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background jobs
    threading.Thread(target=listen, daemon=True).start()


def main() -> int:
    """Be the process that a study starts for a task."""
    _end_with_parent()
    return run_command("study", lambda: work(Task.read(Path(sys.argv[1]))))
