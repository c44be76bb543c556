"""Requests made up from the page of the API find no 5xx, and no answer that it does not say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.server import Server

pytest.importorskip("schemathesis", reason="needs pip install 'gdm-repr[e2e]'")
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
]
EXAMPLES = 60  # of each path


def test_no_5xx_and_no_breach_of_the_schema(
    serve: Callable[..., Server], trained: Path, encoded: Path, tmp_path: Path
) -> None:
    # few steps: what is asked at random is as much as may be asked
    limits = ["--batch-size", "4", "--most-steps", "100", "--most-seconds", "30"]
    places = ["--checkpoint", f"digits={trained}", "--latents", f"digits={encoded}"]
    server = serve(*places, *limits)
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "--no-color", "run",
        f"{server.url}/openapi.json", "--checks", ",".join(CHECKS),
        "--max-examples", str(EXAMPLES), "--seed", "0", "--mode", "all",
        "--request-timeout", "120", "--generation-database", "none", "--warnings", "off",
        "--suppress-health-check", "all",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    print(done.stdout[-2000:])
    assert done.returncode == 0, done.stdout + done.stderr
    assert not server.answers(r"5\d\d") and server.answers("200") and server.answers(r"4\d\d")
