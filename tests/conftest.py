"""What all tests share: a quiet environment, small models, and GPU tests skipped without one."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# A test must neither write to the user's own tracking server nor believe it is one worker of many.
for _name in (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_RUN_ID",
    "RANK",
    "WORLD_SIZE",
):
    os.environ.pop(_name, None)
for _name in [name for name in os.environ if name.startswith("GDM_REPR_")]:
    os.environ.pop(_name)
os.environ["MPLBACKEND"] = "Agg"
os.environ["HF_HUB_OFFLINE"] = "1"
# Tensors here are tiny: a second thread only waits, and waits long where the other core is busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Where Python is told to keep no compiled code, each of the many processes that tests start would
# compile torch and MLflow anew: half of the suite's time. It is kept beside pytest's own cache.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
    sys.pycache_prefix = str(Path(__file__).parents[1] / ".pytest_cache" / "compiled")
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
    sys.dont_write_bytecode = False

# Fuzz tests: the same few examples in every run, many new ones by `make fuzz`; nothing is kept.
_FUZZ = settings(
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.register_profile("short", _FUZZ, max_examples=40, derandomize=True)
settings.register_profile("long", _FUZZ, max_examples=3000, print_blob=True)
settings.load_profile("short")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


# What a command imports on its way: a child forked after them starts at once.
_PRELOAD = [
    "torch",
    "sklearn.datasets",
    "gdm_repr.api",
    "gdm_repr.data",
    "gdm_repr.latents",
    "gdm_repr.pictures",
    "gdm_repr.latents.summary",
    "gdm_repr.tracking",
]


@pytest.fixture(scope="session")
def launch() -> Callable[..., BaseProcess]:
    """Start ``gdm-repr COMMAND`` in a process that can be killed; it ends with main's status."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)

    def start(command: str, argv: list[str], log: Path, before: str = "") -> BaseProcess:
        program = (
            # a job started in the background ignores Ctrl-C, and its children with it
            f"import os; {before}\n"
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            f"import sys; sys.stdout = sys.stderr = open({str(log)!r}, 'a', buffering=1)\n"
            f"from gdm_repr.cli import main; sys.exit(main({[command, *argv]!r}))"
        )
        process = context.Process(target=exec, args=(program, {}))
        process.start()
        return process

    return start


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder: GDM-F in three bands, trained for a second on dequantised digits."""
    from gdm_repr import train

    folder = tmp_path_factory.mktemp("trained")
    (folder / "digits.yaml").write_text(
        """
data: digits
preprocess: {dequantize: true}
model:
  grouping: {name: bands, cuts: [6, 21]}
  network: {name: mlp, width: 64, depth: 1}
batch_size: 128
images: 12_800
lr: 3.0e-3
warmup: 1_280
ema_half_life: 1_000
"""
    )
    out = folder / "run"
    argv = ["--config", str(folder / "digits.yaml"), "--out", str(out), "--no-track"]
    assert train.main(argv) == 0
    return out


@pytest.fixture(scope="session")
def make_store() -> Callable[..., Path]:
    """Encode by a model: ``make_store(path, model, "--data digits --limit 9")``."""

    def make(path: Path, model: Path, *flags: str) -> Path:
        from gdm_repr import encode

        argv = [part for each in flags for part in each.split()]
        argv += ["--checkpoint", str(model), "--out", str(path), "--workers", "0", "--no-track"]
        assert encode.main(argv) == 0
        return path

    return make


@pytest.fixture(scope="session")
def encoded(
    trained: Path, make_store: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The latents of 96 digits by :func:`trained`, in a store that knows its run."""
    out = tmp_path_factory.mktemp("encoded") / "latents"
    return make_store(out, trained, "--data digits --first 96 --steps 12")


@pytest.fixture
def run_analysis(trained: Path, encoded: Path, tmp_path: Path) -> Callable[..., int]:
    """Run an analysis untracked, by default of ``trained`` and ``encoded`` into ``tmp_path/out``.

    Flags are lines of them; ``out`` is a folder's path or its name in ``tmp_path``.
    """

    def run(name: str, *flags: str, out: str | Path = "out", **files: Path) -> int:
        from gdm_repr.analysis.__main__ import main

        argv = [part for each in flags for part in each.split()]
        for key, path in ({"checkpoint": trained, "latents": encoded} | files).items():
            argv += [f"--{key}", str(path)]
        return main([name, *argv, "--out", str(tmp_path / out), "--no-track"])

    return run


@pytest.fixture
def analyse(run_analysis: Callable[..., int], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Run an analysis as :func:`run_analysis` does, to its end, and return its result.json.

    No sentence of any report may hold more numbers than a reader holds.
    """
    from tests.project.sentences import pointed_at

    def run(name: str, *flags: str, out: str | Path = "out", **files: Path) -> dict[str, Any]:
        assert run_analysis(name, *flags, out=out, **files) == 0
        path = tmp_path / out / "result.json"
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        assert not (too_full := list(pointed_at(path))), "\n".join(too_full)
        return found

    return run


@pytest.fixture
def refused(
    run_analysis: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run an analysis as :func:`run_analysis` does; return the line by which it is refused."""

    def run(name: str, *flags: str, out: str | Path = "out", **files: Path) -> str:
        capsys.readouterr()
        assert run_analysis(name, *flags, out=out, **files) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return run


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Path]:
    """Write a model of any parts, with random weights, that really bends its trajectories."""

    def make(
        path: Path, shape: tuple[int, int, int], orders: str = "fixed", **parts: object
    ) -> Path:
        import torch

        from gdm_repr.checkpoint import build_denoiser, save_checkpoint
        from gdm_repr.config import ModelConfig
        from gdm_repr.data.images import Preprocess

        channels, height, width = shape
        generator = torch.Generator().manual_seed(0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = {"name": "mlp", "width": 16, "depth": 1}
            model = ModelConfig.model_validate({"network": network, **parts})
            mean = torch.rand((channels, height * width), generator=generator) - 0.5
            std = torch.rand(mean.shape, generator=generator) + 0.2
            denoiser = build_denoiser(model, shape, mean, std)
        with torch.no_grad():
            for weight in denoiser.network.parameters():
                weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.1)
        save_checkpoint(
            path,
            denoiser,
            shape=shape,
            model=model,
            preprocess=Preprocess(size=(height, width)),
            training={"orders": orders},
            images=0,
        )
        return path

    return make


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables made, to be copied: making them takes seconds."""
    from gdm_repr.tracking.delivery import open_client

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    open_client(f"sqlite:///{path}")
    return path
