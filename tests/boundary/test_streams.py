"""What is printed never decides how a command ends."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gdm_repr.boundary.streams import SturdyStream, sturdy_streams

ENCODE = ["encode", "--data", "scenes:0-2", "--steps", "3", "--no-round-trip", "--no-track"]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "gdm_repr", *arguments]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["encode", "--help"],
        ["analyse", "--help"],
        ["edit", "--help"],
        ["encode", "--data", "digits", "--dry-run"],
    ],
)
@pytest.mark.parametrize("bad", ["pipe", "full", "closed"])
def test_a_bad_stdout_changes_nothing(bad: str, arguments: list[str], tmp_path: Path) -> None:
    check_bad_stdout(bad, arguments, tmp_path)


@pytest.mark.parametrize("bad", ["pipe", "full"])
def test_work_is_kept_when_stdout_is_bad(bad: str, tmp_path: Path) -> None:
    check_bad_stdout(bad, [*ENCODE, "--out", "lat"], tmp_path)
    assert (tmp_path / "lat" / "manifest.json").exists()


def check_bad_stdout(bad: str, arguments: list[str], tmp_path: Path) -> None:
    line = " ".join(command(*arguments))
    shell = {"pipe": f"{line} | true", "full": f"{line} > /dev/full", "closed": f"{line} >&-"}[bad]
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {shell}"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert ("what was printed is lost" in done.stderr) == (bad != "pipe")


def test_no_streams_at_all(tmp_path: Path) -> None:
    line = " ".join(command(*ENCODE, "--out", "lat"))
    done = subprocess.run(["bash", "-c", f"{line} <&- >&- 2>&-"], cwd=tmp_path, timeout=120)
    assert done.returncode == 0 and (tmp_path / "lat" / "manifest.json").exists()


def test_a_stream_that_knows_few_characters(tmp_path: Path, encoding: str = "ascii") -> None:
    done = subprocess.run(
        command(*ENCODE, "--out", "öut-日"), cwd=tmp_path, capture_output=True, timeout=120,
        env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "öut-日".encode(encoding, "backslashreplace") in done.stdout


def test_what_others_named_does_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with sturdy_streams():
        print("a\x1b[2Jb\r\u202ec\td\udcff")
        print("\x1b[31mred", file=sys.stderr)
    assert capsys.readouterr() == ("a\\x1b[2Jb\\x0d\\u202ec\td\\xff\n", "\\x1b[31mred\n")


def test_bars_are_drawn() -> None:
    text = io.StringIO()
    stream = SturdyStream(text, bars=True)
    for part in ("\r 50%", "\n", "\x1b[A", "\x1b[A\x1b[A", "\r a\rb", "\x1b[Ab"):
        assert stream.write(part) == len(part)
    assert text.getvalue() == "\r 50%\n\x1b[A\x1b[A\x1b[A\r a\\x0db\\x1b[Ab"
    plain = io.StringIO()
    SturdyStream(plain).write("\ra")
    assert plain.getvalue() == "\\x0da"


def test_a_lost_stream_is_written_no_more() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    stream = SturdyStream(Full())
    assert stream.write("a") == 1 and stream.lost is not None and stream.lost.errno == 28
    stream.flush()
    closed = io.StringIO()
    closed.close()
    assert SturdyStream(closed).write("a") == 1 and not SturdyStream(closed).isatty()
    assert SturdyStream(None).write("a") == 1 and not SturdyStream(None).isatty()
