"""How a command ends."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gdm_repr.command import run_command


def open_missing() -> int:
    Path("nowhere/at/all").read_bytes()
    return 0


def fill_disk() -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/shard")


def mistake() -> int:
    raise ValueError("size 0 must be positive;\n  give --size 8")


def interrupt() -> int:
    raise KeyboardInterrupt


def bug() -> int:
    raise KeyError("k")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (mistake, "size 0 must be positive; give --size 8"),
        (open_missing, "No such file or directory: 'nowhere/at/all'"),
        (
            fill_disk,
            "No space left on device: 'out/shard'; make room; what was written before is kept: run "
            "the same command again to continue",
        ),
    ],
)
def test_mistakes_of_the_user_are_one_line(
    body: Callable[[], int], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("encode", body) == 2
    assert capsys.readouterr().err == f"gdm-repr encode: error: {message}\n"


def test_an_interruption_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("train", interrupt, resume="add --resume") == 130
    assert capsys.readouterr().err == "\ngdm-repr train: interrupted; add --resume\n"


def test_bugs_and_statuses_pass() -> None:
    assert run_command("encode", lambda: 3) == 3
    with pytest.raises(KeyError):
        run_command("encode", bug)
    with pytest.raises(ConnectionResetError):
        run_command("encode", reset)


def reset() -> int:
    raise ConnectionResetError(errno.ECONNRESET, "reset")
