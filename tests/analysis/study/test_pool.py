"""How a study's processes are ended."""

import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from gdm_repr.analysis.study import pool as study_pool
from gdm_repr.analysis.study.pool import Pool

SAVES = "import os; print('up', flush=True); os.read(0, 1); open('saved', 'w').close()"
STUBBORN = "import time; print('up', flush=True); time.sleep(300)"


@dataclass
class FakeTask:
    place: Path
    folder: str | None = None

    @property
    def done(self) -> Path:
        return self.place / "done"


def interrupt_later(seconds: float) -> None:
    threading.Timer(seconds, signal.raise_signal, [signal.SIGINT]).start()


def run(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Pool, Any]:
    def start(self: Pool, task: object) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path, start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        interrupt_later(0.3)
        return process

    monkeypatch.setattr(Pool, "_start", start)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    pool = Pool(1)
    try:
        with pytest.raises(KeyboardInterrupt):
            pool.run({"a": (cast(Any, FakeTask(tmp_path)), None)}, "study")
    finally:
        signal.signal(signal.SIGINT, before)
    (process,) = pool.running.values()
    process.stdout.close()  # type: ignore[union-attr]
    return pool, process


def test_processes_save_and_the_study_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    _, process = run(SAVES, tmp_path, monkeypatch)
    assert process.returncode == 0 and (tmp_path / "saved").exists()
    assert time.monotonic() - began < 20  # patience is a minute
    assert "Ctrl-C again" in capsys.readouterr().err


def test_a_second_interruption_kills_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = Pool._stop

    def stopped(pool: Pool) -> None:
        interrupt_later(0.5)
        stop(pool)

    monkeypatch.setattr(Pool, "_stop", stopped)
    _, process = run(STUBBORN, tmp_path, monkeypatch)
    assert process.returncode == -signal.SIGKILL


def test_patience_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_pool, "_PATIENCE_S", 0.5)
    _, process = run(STUBBORN, tmp_path, monkeypatch)
    assert process.returncode == -signal.SIGKILL
