"""What the user can mend ends in one line; a bug does not."""

import concurrent.futures
import errno
import os
import signal
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from gdm_repr.boundary.endings import ending

RESUME = "add --resume"


def broken(number: int) -> OSError:
    return OSError(number, os.strerror(number), "out/x")


@pytest.mark.parametrize(
    "number",
    [
        errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
        errno.EIO, errno.EAGAIN, errno.EROFS,
    ],
)  # fmt: skip
def test_errors_amid_work_say_how_to_go_on(number: int) -> None:
    line = ending(broken(number), RESUME)
    assert line is not None and line.startswith(f"{os.strerror(number)}: 'out/x'; ")
    assert line.endswith("what was written before is kept: add --resume")


@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP, errno.ENOENT])
def test_errors_of_what_was_given_name_it(number: int) -> None:
    assert ending(broken(number), RESUME) == f"{os.strerror(number)}: 'out/x'"


@pytest.mark.parametrize(
    ("error", "begin"),
    [
        (SafetensorError("I/O error: No space left on device (os error 28)"), "No space left"),
        (SafetensorError("Error: File too large (os error 27)"), "File too large"),
        (OSError("Unable to write (errno = 28, error message = 'No space left')"), "No space left"),
        (OSError("8192 requested and 4096 written"), "No space left"),
        (MemoryError(), "out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "out of memory"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            "out of memory",
        ),
        (RuntimeError("can't start new thread"), "no more threads"),
        (BrokenProcessPool("terminated abruptly"), "a process that worked for this one was killed"),
    ],
)
def test_libraries_errors_are_known_by_what_they_say(error: Exception, begin: str) -> None:
    line = ending(error, RESUME)
    assert line is not None and line.startswith(begin) and line.endswith(RESUME)


def test_bugs_have_no_line() -> None:
    for error in (
        KeyError("k"), RuntimeError("shapes differ"), SafetensorError("bug"), OSError("odd"),
        broken(errno.EBADF), ConnectionResetError(errno.ECONNRESET, "reset"),
    ):  # fmt: skip
        assert ending(error, RESUME) is None


def test_a_real_broken_pool() -> None:
    pool = concurrent.futures.ProcessPoolExecutor(1)
    with pool, pytest.raises(BrokenProcessPool) as caught:
        pool.submit(os._exit, 9).result()
    assert ending(caught.value, RESUME) is not None


JOB = """
import signal, sys, time
if signal.getsignal(signal.SIGINT) != signal.SIG_IGN or not {ignored}:  # ignored in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
from gdm_repr.command import run_command, uninterrupted
def body():
    try:
        print("begun", flush=True)
        {work}
    except KeyboardInterrupt:
        print("saving", flush=True)
        {save}
        raise
    return 0
sys.exit(run_command("train", body, resume="add --resume"))
"""


def begin(work: str, save: str = "pass") -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", JOB.format(work=work, save=save, ignored=False)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    return process


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGINT, "interrupted"),
        (signal.SIGTERM, "asked to end"),
        (signal.SIGHUP, "asked to end"),
    ],
)
def test_signals_let_the_job_save(number: signal.Signals, said: str) -> None:
    process = begin("time.sleep(60)")
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert out == "saving\n" and err == f"\ngdm-repr train: {said}; add --resume\n"
    assert process.returncode == 128 + number


def test_a_second_signal_while_saving_is_one_line() -> None:
    process = begin("time.sleep(60)", "time.sleep(60)")
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None and process.stdout.readline() == "saving\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    again = "interrupted again: what was saved before is kept; add --resume"
    assert err == f"\ngdm-repr train: {again}\n" and process.returncode == 130


def test_a_third_signal_ends_at_once() -> None:
    stubborn = """
import sys, time
from gdm_repr.command import run_command
def body():
    while True:
        try:
            print("up", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            pass
run_command("train", body)
"""
    process = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(3):
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143


def test_signals_wait_for_what_must_not_be_broken() -> None:
    inside = "    print('in', flush=True); time.sleep(1); print('whole', flush=True)"
    process = begin(f"with uninterrupted():\n        {inside}")
    assert process.stdout is not None and process.stdout.readline() == "in\n"
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=20)
    assert out == "whole\nsaving\n" and process.returncode == 143


def test_an_ignored_signal_stays_ignored() -> None:
    job = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + JOB.format(
        work="time.sleep(1)", save="pass", ignored=True
    )
    process = subprocess.Popen([sys.executable, "-c", job], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


def test_a_file_size_limit_ends_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "data: digits\nlimit: 128\nmodel: {network: {name: mlp, width: 256, depth: 2}}\n"
        "batch_size: 64\nwarmup: 0\nema_half_life: 100\n"
    )
    job = (
        "import sys, signal, resource\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from gdm_repr.cli import main\nsys.exit(main(sys.argv[1:]))\n"
    )
    options = ["train", "--config", "c.yaml", "--images", "128", "--out", "m", "--no-track"]
    done = subprocess.run(
        [sys.executable, "-c", job, *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "File too large" in done.stderr.splitlines()[-1]
    assert not list((tmp_path / "m").glob(".*.tmp"))
