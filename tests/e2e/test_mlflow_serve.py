"""``mlflow models serve`` in an environment that has nothing of ours but the wheel.

The wheel is installed with all that it needs where a package index answers. Elsewhere the packages
of this environment are lent to the new one, and only our own comes from the wheel.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from gdm_repr import GDM
from gdm_repr.api import model_preprocess
from gdm_repr.data import open_data
from gdm_repr.tracking.run import main, start

ROOT = Path(__file__).parents[2]
SECONDS = 300  # until the server answers, on a busy machine
BOUND = 2e-4  # products of matrices are rounded otherwise in batches of other sizes
STEPS = 6


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy, so that nothing of an earlier build gets into it."""
    copy = tmp_path_factory.mktemp("build") / "source"
    for name in ("gdm_repr", "models", "analysis"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", str(copy))
    (built,) = (copy / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def fresh(wheel: Path) -> Iterator[Path]:
    """A new environment with the wheel; its folder of programs."""
    with tempfile.TemporaryDirectory() as name:  # gigabytes, which pytest would keep
        venv.create(name, with_pip=True)
        programs = Path(name) / "bin"
        python = str(programs / "python")
        pip = (python, "-m", "pip", "--disable-pip-version-check", "--quiet")
        if reachable(pip, Path(name) / "looked"):
            run(*pip, "install", "--no-compile", str(wheel))
        else:
            run(*pip, "install", "--no-compile", "--no-deps", str(wheel))
            site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"))
            (site / "lent.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
            program = programs / "uvicorn"
            program.write_text(
                f"#!{python}\nimport sys\nimport uvicorn\nsys.exit(uvicorn.main())\n"
            )
            program.chmod(0o755)
        place = run(python, "-P", "-c", "import gdm_repr; print(gdm_repr.__file__)")
        assert Path(place).is_relative_to(name)
        yield programs


def reachable(pip: tuple[str, ...], folder: Path) -> bool:
    """Say whether a package index answers, by asking for a small package."""
    command = [*pip, "--retries", "0", "--timeout", "10", "download", "--no-deps", "filelock"]
    done = subprocess.run(
        [*command, "--dest", folder], capture_output=True, env=plain(), check=False
    )
    return done.returncode == 0


def plain(**more: str) -> dict[str, str]:
    """The environment, without what would lead to this checkout."""
    return {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | more


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=plain(), check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout.strip()


@pytest.fixture(scope="module")
def ask(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Log and register the shipped model, serve it by its alias, and ask: ``ask(inputs, ...)``."""
    folder = tmp_path_factory.mktemp("served")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        with start("train", {}, folder / "run") as tracked:
            tracked.model(ROOT / "gdm_repr" / "assets" / "scenes.safetensors")
        assert main(["register", str(folder / "run"), "scenes@champion"]) == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join([str(fresh), os.environ["PATH"]])
    command = [str(fresh / "python"), "-m", "mlflow", "models"]
    command += ["serve", "--model-uri", "models:/scenes@champion", "--env-manager", "local"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder,
            env=plain(PATH=path, MLFLOW_TRACKING_URI=uri, MLFLOW_DISABLE_TELEMETRY="true"),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + SECONDS
        while not answers(f"{url}/health"):
            assert process.poll() is None and time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.2)

        def ask(inputs: np.ndarray | list[str], **params: object) -> Any:  # noqa: ANN401
            given = inputs.tolist() if isinstance(inputs, np.ndarray) else inputs
            body: Any = {"inputs": given, "params": {"steps": STEPS, **params}}
            answer = requests.post(f"{url}/invocations", json=body, timeout=SECONDS)
            assert answer.ok, answer.text
            return answer.json()["predictions"]

        yield ask
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


def test_it_encodes_and_decodes_as_the_api_does(ask: Callable[..., Any]) -> None:
    model = GDM.from_pretrained("scenes", device="cpu")
    x = open_data("scenes:0-3", model_preprocess(model)).batch(range(3)).x
    plan = model.plan(STEPS)
    z = model.latents(x, plan)
    found = np.array(ask(x.numpy()))
    np.testing.assert_allclose(found, z, atol=BOUND)
    back = np.array(ask(found, operation="decode"))
    np.testing.assert_allclose(back, model.decode(z, plan), atol=BOUND)
    (again,) = ask(
        ask(z[:1].numpy(), operation="decode", png=True), operation="reconstruct", png=True
    )
    assert again.startswith("iVBOR")
