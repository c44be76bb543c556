"""``gdm-repr serve`` as a process of its own, on a free port."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import requests

SECONDS = 300  # until it answers, on a busy machine


@dataclass
class Server:
    """A server that answers.

    Attributes:
        process: the server.
        url: as http://127.0.0.1:8000.
        log: what it writes, a line a request.
    """

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    @classmethod
    def start(cls, log: Path, *flags: str, before: str = "") -> Server:
        """Start ``gdm-repr serve`` with some flags, and wait until /readyz says so.

        Args:
            log: file that output is added to.
            flags: of the command; the shipped model on a free port of loopback by default.
            before: Python that the process runs first.
        """
        argv = ["serve", *([] if "--port" in flags else ["--port", "0"]), *flags]
        program = f"{before}\nimport sys\nfrom gdm_repr.cli import main\nsys.exit(main({argv!r}))"
        begin = log.stat().st_size if log.exists() else 0
        with log.open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            text = log.read_bytes()[begin:].decode()
            if found := re.search(r"running on http://[\d.]+:(\d+)", text):
                server = cls(process, f"http://127.0.0.1:{found[1]}", log)
                assert requests.get(f"{server.url}/readyz", timeout=60).ok
                return server
            assert process.poll() is None, text
            time.sleep(0.1)
        process.kill()
        raise AssertionError(f"no answer after {SECONDS} s: {log.read_text()}")

    @property
    def port(self) -> str:
        """The port."""
        return self.url.rpartition(":")[2]

    @property
    def peak(self) -> float:
        """Most memory that it has held so far, in GiB; Linux only."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) / 2**20

    def answers(self, status: str = r"\d+") -> int:
        """Count requests to the APIs that were answered so, by the log."""
        return len(re.findall(rf"^\S+ \S+ [A-Z]+ /v[12]\S* {status} ", self.log.read_text(), re.M))

    def stop(self) -> int:
        """End it by SIGTERM, as whoever runs it does, and return its status."""
        self.process.terminate()
        return self.process.wait(SECONDS)

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.process.kill()
        self.process.wait()
