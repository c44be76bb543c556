"""What all tests share: a quiet environment, small models, and GPU tests skipped without one."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A test must neither write to the user's own tracking server nor believe it is one worker of many.
for _name in (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_EXPERIMENT_NAME",
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
def encoded(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The latents of 96 digits by :func:`trained`, in a store that knows its run."""
    from gdm_repr import encode

    out = tmp_path_factory.mktemp("encoded") / "latents"
    argv = ["--checkpoint", str(trained), "--data", "digits", "--first", "96", "--steps", "12"]
    assert encode.main([*argv, "--out", str(out), "--no-track"]) == 0
    return out


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
