"""Runs a study's tasks in processes, so many at a time, each after the task that it needs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from gdm_repr.analysis.study.estimate import minutes_left
from gdm_repr.analysis.study.work import Task
from gdm_repr.command import shortened

_POLL_S = 0.2
_DRAWN_S = 1.0  # between two drawings of the bar
_TAIL = 4096  # bytes of a log that its last line is looked for in
MOST_SAID = 60  # characters of it
_PATIENCE_S = 60.0  # for processes to save what they have


class Pool:
    """Runs tasks in processes, so many at a time, each after the task that it needs."""

    def __init__(self, jobs: int) -> None:
        """Share the cores among the processes."""
        self.jobs = jobs
        self.threads = max(1, (os.cpu_count() or 1) // jobs)
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.failed: dict[str, str] = {}

    def run(
        self,
        tasks: dict[str, tuple[Task, str | None]],
        label: str,
        seconds: Mapping[str, float] | None = None,
    ) -> None:
        """Do all tasks, by key with the key of the one that each needs.

        The bar shows what the first running task says of itself, and how long is left.

        A task that fails is kept in ``failed`` with its reason, as is what needs it.
        """
        from tqdm import tqdm

        waiting, done = dict(tasks), {key for key, (task, _) in tasks.items() if task.done.exists()}
        for key in done:
            del waiting[key]
        began: dict[str, float] = {}
        took: dict[str, float] = {}
        drawn = time.monotonic()
        with tqdm(total=len(tasks), initial=len(done), desc=label, unit="task") as bar:
            try:
                while waiting or self.running:
                    now = time.monotonic()
                    if now - drawn >= _DRAWN_S and self.running:
                        drawn = now
                        left = {key: now - began.get(key, now) for key in self.running}
                        left |= dict.fromkeys(waiting, 0.0)
                        minutes = minutes_left(seconds or {}, took, left, self.jobs)
                        first = tasks[next(iter(self.running))][0]
                        said = shortened(_last_word(first.place / "log.txt"), MOST_SAID)
                        more = f"about {minutes:.0f} minutes left; " if seconds else ""
                        bar.set_postfix_str(f"{more}{name_of(first)}: {said}")
                    for key, (task, needed) in list(waiting.items()):
                        if needed in self.failed:
                            self.failed[key] = self.failed[needed]
                            del waiting[key]
                            bar.update()
                        elif len(self.running) < self.jobs and (needed is None or needed in done):
                            self.running[key], began[key] = self._start(task), now
                            del waiting[key]
                    for key, process in list(self.running.items()):
                        if (status := process.poll()) is None:
                            continue
                        del self.running[key]
                        _close(process)
                        task = tasks[key][0]
                        if status == 0 and task.done.exists():
                            done.add(key)
                            took[key] = time.monotonic() - began[key]
                        else:
                            self.failed[key] = _reason(status, task.place / "log.txt")
                            tqdm.write(f"failed: {name_of(task)}: {self.failed[key]}", sys.stderr)
                        bar.update()
                    time.sleep(_POLL_S)
            finally:
                self._stop()

    def _start(self, task: Task) -> subprocess.Popen[bytes]:
        environment = os.environ | {"OMP_NUM_THREADS": str(self.threads)}
        program = "import sys; from gdm_repr.analysis.study.work import main; sys.exit(main())"
        command = [sys.executable, "-P", "-c", program, str(task.write().resolve())]
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
        left = list(self.running.values())
        if not left:
            return
        try:
            for process in left:
                _close(process)
            print(
                f"\n{len(left)} tasks save what they have; Ctrl-C again ends them at once",
                file=sys.stderr,
            )
            until = time.monotonic() + _PATIENCE_S
            for process in left:
                process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            pass
        finally:
            for process in left:
                if process.poll() is None:
                    process.kill()
                process.wait()


def _close(process: subprocess.Popen[bytes]) -> None:
    """End a process's input."""
    assert process.stdin is not None
    process.stdin.close()


def name_of(task: Task) -> str:
    """Return what a task does, and for which choice."""
    what = "scoring" if task.folder else "training"
    return f"{what} {task.choice.label}, seed {task.choice.seed}"


def _reason(status: int, log: Path) -> str:
    """Say why a process failed: the signal that ended it, or its last word."""
    if status < 0:
        return f"ended by signal {-status} ({signal.strsignal(-status)}); 9 is often lack of memory"
    return _last_line(log)


def _last_word(log: Path) -> str:
    """Return what a process said last: bars write over their line."""
    if not log.exists():
        return "starting"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL))
        text = file.read().decode("utf-8", errors="replace")
    said = [line.strip() for line in text.replace("\r", "\n").splitlines()]
    return next((line for line in reversed(said) if line), "starting")


def _last_line(path: Path) -> str:
    lines = path.read_text("utf-8", errors="replace").splitlines() if path.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "no word")
