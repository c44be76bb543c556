"""Nothing depends on what the caller has set globally, and nothing that he has set is changed."""

from __future__ import annotations

import math
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gdm_repr import GDM
from gdm_repr.analysis.disentanglement.scores import read_factors, score
from gdm_repr.analysis.features.extractors import build_extractor
from gdm_repr.analysis.leakage.matrix import measure_leakage
from gdm_repr.analysis.leakage.noise_dependence import noise_dependence
from gdm_repr.analysis.reconstruction.linear_code import dct_code, pca_code
from gdm_repr.analysis.reconstruction.similarity import psnr, ssim
from gdm_repr.analysis.sample_quality.denoising_loss import group_loss
from gdm_repr.analysis.sample_quality.frechet import frechet_distance
from gdm_repr.analysis.total_correlation.estimate import element_normality, total_correlation
from gdm_repr.axes import principal_axes
from gdm_repr.basis import build_basis
from gdm_repr.boundary.isolation import isolated, isolation
from gdm_repr.checkpoint import load_checkpoint
from gdm_repr.config import TrainConfig
from gdm_repr.data.images import Preprocess
from gdm_repr.data.loading import open_data
from gdm_repr.edit.direction import learn_direction, move
from gdm_repr.edit.operations import interpolate
from gdm_repr.generation import Generation
from gdm_repr.grouping import build_grouping
from gdm_repr.latents.neighbours import nearest
from gdm_repr.latents.store import open_store
from gdm_repr.latents.summary import summarise
from gdm_repr.ode import encode
from gdm_repr.oracle import block_whitening, figure_1a_mixture, gaussian_oracle
from gdm_repr.process import PROCESSES
from gdm_repr.process_strip import process_frames
from gdm_repr.schedule import draw_times, group_weights, schedule_from_order
from gdm_repr.trainer import Trainer

SHAPE = (3, 4, 4)
BANDS = {"name": "bands", "cuts": [2, 8]}


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device(name: str) -> Iterator[None]:
    torch.set_default_device(name)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def in_folder(path: str) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def warnings_are_errors() -> Iterator[None]:
    with warnings.catch_warnings(action="error"):
        yield


@contextmanager
def everything() -> Iterator[None]:
    with ExitStack() as stack:
        for name, state in STATES.items():
            if name not in ("everything", "grad"):
                stack.enter_context(state())
        yield


STATES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
    "meta": lambda: default_device("meta"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "no_grad": torch.no_grad,
    "grad": torch.enable_grad,
    "inference": torch.inference_mode,
    "seterr": lambda: np.errstate(all="raise"),
    "deterministic": deterministic,
    "folder": lambda: in_folder("/"),
    "warnings": warnings_are_errors,
    "everything": everything,
}


class World:
    """What the calls below need, made in the plain state."""

    def __init__(self, path: Path, store: Path, seed: int = 0) -> None:
        self.path, self.latents = path, store
        self.model = GDM.from_pretrained(path, device="cpu")
        self.plan = self.model.plan(3)
        rng = np.random.default_rng(seed)
        self.x = torch.from_numpy(rng.uniform(-1, 1, (4, *SHAPE)).astype("f4"))
        self.z = torch.from_numpy(rng.standard_normal((4, 3, 16)).astype("f4"))
        self.pictures = torch.from_numpy(rng.uniform(-1, 1, (2, 1, 16, 16)).astype("f4"))
        self.table = rng.standard_normal((120, 3))
        self.classes = {"k": rng.integers(0, 3, 120)}
        root = rng.standard_normal((16, 16))
        self.S = torch.from_numpy(root @ root.T + np.eye(16))
        self.flat = torch.from_numpy(rng.standard_normal((5, 16)))


def _train(w: World) -> object:
    config = TrainConfig.model_validate(
        {
            "out": "unused",
            "data": "digits",
            "device": "cpu",
            "batch_size": 8,
            "images": 800,
            "preprocess": {"dequantize": True},
            "model": {
                "grouping": BANDS,
                "denoiser": {"preconditioning": "principal"},
                "network": {"name": "ddpmpp", "channels": 4, "multipliers": [1], "blocks": 1},
            },
            "orders": "random",
        }
    )
    with torch.random.fork_rng():
        trainer = Trainer(config, open_data("digits", config.preprocess, limit=64))
        losses = [trainer.train_step(trainer.dataset.batch(range(8)).x) for _ in range(2)]
    return losses, list(trainer.network.state_dict().values())


def _schedule(w: World) -> object:
    schedule = schedule_from_order([1, 0, 2])
    weights = group_weights("groups", schedule)
    times = draw_times(weights, schedule, 9, torch.Generator().manual_seed(0))
    at = schedule.at(times)
    return weights, times, at.A, at.dA_dt


def _oracle(w: World) -> object:
    grouping = build_grouping("bands", (1, 4, 4), cuts=[4])
    mean = torch.zeros(16, dtype=torch.float64, device="cpu")
    oracle = gaussian_oracle(mean, w.S, grouping)
    A = torch.tensor([[1.0, 0.3]], dtype=torch.float64, device="cpu")
    toy = figure_1a_mixture(build_grouping("elementwise", (1, 1, 2)))
    drawn = toy.sample(5, torch.Generator().manual_seed(0))
    return oracle(w.flat[:, None], A), block_whitening(w.flat, mean, w.S, grouping), drawn


def _analyses(w: World) -> object:
    m, x_bar = w.model, w.model.to_basis(w.x)
    generation = Generation(m.flow, w.plan, strict=True)
    return (
        group_loss(m.denoiser, x_bar, 1, levels=3),
        noise_dependence(m.flow, x_bar),
        measure_leakage(generation, w.z),
        measure_leakage(generation, w.z, way="jacobian"),
        psnr(w.x, w.x.flip(0)),
        ssim(w.pictures, w.pictures.flip(0)),
    )


def _direction(w: World) -> object:
    z = torch.from_numpy(np.resize(w.table, (40, 3, 16)))
    even, others = np.arange(40) % 2 == 0, {"k": [*range(5)] * 8}
    found = learn_direction(
        z, even, w.model.grouping, "0-5", positive="even", negative="odd", others=others
    )
    return found, move(z[:2], found, [1.0])


CALLS: dict[str, Callable[[World], object]] = {
    "load": lambda w: list(load_checkpoint(w.path).denoiser.state_dict().values()),
    "load and encode": lambda w: GDM.from_pretrained(w.path, device="cpu").encode(w.x, w.plan).z,
    "encode": lambda w: w.model.encode(w.x, w.plan, latent_error=True, round_trip=True),
    "encode arrays": lambda w: w.model.encode(w.x.numpy(), w.plan).z,
    "encode one by one": lambda w: [
        e.z for e in w.model.encode(iter(w.x), w.plan, batch_size=3, grad=True)
    ],
    "encode by inverse": lambda w: w.model.encode(
        w.x, w.model.plan(3, solver="euler", coordinate="uniform", tolerance=0.1, inverse=True)
    ),
    "encode by dopri5": lambda w: (
        w.model.encode(w.x, w.model.plan(3, solver="dopri5", tolerance=0.1)).z
    ),
    "ode.encode": lambda w: encode(w.model.flow, w.model.to_basis(w.x), w.plan).y,
    "decode": lambda w: w.model.decode(w.z, w.plan),
    "sample": lambda w: w.model.sample(2, seed=1, plan=w.plan),
    "plan": lambda w: w.model.plan(6, split_on=w.x[:1]).steps,
    "u": lambda w: w.model.denoiser(w.z, torch.tensor([[1.0, 0.5, 0.0]], device="cpu")).detach(),
    "generation": lambda w: Generation(w.model.flow, w.plan, strict=True).states(w.z),
    "frames": lambda w: process_frames(w.model, w.z, w.plan, 3),
    "interpolate": lambda w: interpolate(w.z[:1], w.z[1:2], np.ones((3, 16), bool), [0.3, 0.7]),
    "direction": _direction,
    "basis": lambda w: [
        build_basis(n, SHAPE[1:]).forward(w.x) for n in ("dct", "blur", "identity")
    ],
    "axes": lambda w: principal_axes(
        w.model.grouping, w.model.flow.mean, w.model.flow.std, [w.model.to_basis(w.x)]
    )[1],
    "process": lambda w: [p.u(w.x, w.x.flip(0), w.x.abs()) for p in PROCESSES.values()],
    "schedule": _schedule,
    "oracle": _oracle,
    "train": _train,
    "data": lambda w: open_data("scenes:0-3", Preprocess(size=16, noise=0.1)).batch([0, 2]).x,
    "photos": lambda w: open_data("digits", Preprocess(dequantize=True), limit=9).batch([3]).x,
    "store": lambda w: (open_store(w.latents).z(), summarise(open_store(w.latents))),
    "nearest": lambda w: nearest(open_store(w.latents), open_store(w.latents).z([0])[0], n=2),
    "total correlation": lambda w: total_correlation(w.table, permutations=19, resamples=10),
    "normality": lambda w: element_normality(w.table),
    "frechet": lambda w: frechet_distance(w.table, w.table[::-1] + 1),
    "score": lambda w: score("mig", w.table, read_factors(w.classes), permutations=3, resamples=5),
    "boosted": lambda w: total_correlation(
        np.concatenate([w.table] * 4) + np.arange(480)[:, None] % 7,
        estimator="knn",
        permutations=19,
        resamples=10,
    ),
    "codes": lambda w: [dct_code(w.x).keep(w.x, 5), pca_code(w.x).keep(w.x, 1)],
    "features": lambda w: [
        build_extractor(name, device=torch.device("cpu"))(w.x) for name in ("pixels", "dct")
    ],
    "analyses": _analyses,
}


def values(found: object) -> list[Any]:
    """Flatten a result to arrays and plain values."""
    if isinstance(found, torch.Tensor):
        return [str(found.dtype), found.detach().cpu().numpy()]
    if is_dataclass(found) and not isinstance(found, type):
        return [v for field in fields(found) for v in values(getattr(found, field.name))]
    if isinstance(found, list | tuple):
        return [v for each in found for v in values(each)]
    if isinstance(found, dict):
        return [v for each in found.values() for v in values(each)]
    return [found]


def assert_equal(first: list[Any], second: list[Any]) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        else:
            assert a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


def settings() -> tuple[object, ...]:
    """Return all that a caller may have set."""
    return (
        torch.get_default_dtype(),
        str(torch.get_default_device()),
        torch.is_autocast_enabled("cpu"),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        tuple(np.geterr().items()),
        os.getcwd(),
        torch.get_rng_state().numpy().tobytes(),
        repr(np.random.get_state()),
    )


@pytest.fixture(scope="module")
def world(
    make_model: Callable[..., Path], encoded: Path, tmp_path_factory: pytest.TempPathFactory
) -> World:
    network = {"name": "ddpmpp", "channels": 4, "multipliers": [1], "blocks": 1}
    path = tmp_path_factory.mktemp("isolation") / "m.safetensors"
    return World(make_model(path, SHAPE, grouping=BANDS, network=network), encoded)


@pytest.fixture(scope="module")
def plain(world: World) -> dict[str, list[Any]]:
    return {name: values(call(world)) for name, call in CALLS.items()}


@pytest.mark.parametrize("state", STATES)
def test_results_are_the_same_to_the_bit(
    world: World, plain: dict[str, list[Any]], state: str
) -> None:
    wrong = []
    for name, call in CALLS.items():
        with STATES[state]():
            before = settings()
            try:
                found = call(world)
            except Exception as error:
                wrong.append(f"{name}: {type(error).__name__}: {error}")
                continue
            if settings() != before:
                wrong.append(f"{name}: has changed a setting of the caller")
        try:
            assert_equal(plain[name], values(found))
        except AssertionError as error:
            wrong.append(f"{name}: {' '.join(str(error).split())[:200]}")
    assert not wrong, "\n".join(wrong)


def test_what_is_made_in_inference_mode_still_takes_gradients(world: World) -> None:
    with torch.inference_mode():
        model = GDM.from_pretrained(world.path, device="cpu")
        model.encode(world.x, world.plan)
    x = world.x.clone().requires_grad_()
    x_bar = model.basis.forward(x)
    model.denoiser(x_bar, torch.ones(1, 3)).square().sum().backward()
    assert x.grad is not None and bool(x.grad.isfinite().all())


def test_a_failed_call_gives_the_settings_back() -> None:
    @isolated
    def fail() -> None:
        assert torch.get_default_dtype() == torch.float32
        raise ValueError("as it should")

    with default_dtype(torch.float64), default_device("meta"), np.errstate(all="raise"):
        before = settings()
        with pytest.raises(ValueError, match="as it should"):
            fail()
        assert settings() == before


def test_between_its_values_a_generator_leaves_the_caller_alone() -> None:
    @isolated
    def count() -> Iterator[torch.dtype]:
        for _ in range(2):
            yield torch.get_default_dtype()

    with default_dtype(torch.float64):
        for dtype in count():
            assert (dtype, torch.get_default_dtype()) == (torch.float32, torch.float64)


def test_threads_that_overlap_give_back_the_default_dtype() -> None:
    inside, leave = threading.Barrier(2), threading.Event()
    seen = []

    def wait() -> None:
        with isolation():
            inside.wait()
            leave.wait()
            seen.append(torch.get_default_dtype())

    with default_dtype(torch.float64):
        thread = threading.Thread(target=wait)
        thread.start()
        inside.wait()
        with isolation():  # ends before the other's
            pass
        assert torch.get_default_dtype() == torch.float32
        leave.set()
        thread.join()
        assert torch.get_default_dtype() == torch.float64
    assert seen == [torch.float32]
