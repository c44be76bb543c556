"""Under load no request is lost and none gets another's answer; SIGTERM and kill -9 in mid-load.

Every answer is compared with the Python API's. Images of the pool differ from each other by far
more than :data:`BOUND`, so that a swapped answer can't pass.
"""

from __future__ import annotations

import io
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest
import requests
import torch

from gdm_repr import GDM
from gdm_repr.data import open_data
from gdm_repr.edit.operations import mix, set_element
from gdm_repr.masks import band_mask, element_mask
from tests.e2e.server import Server

REQUESTS, CLIENTS, POOL = 2000, 16, 24
STEPS = (3, 4, 6)
BOUND = 2e-4  # products of matrices are rounded otherwise in batches of other sizes
NPY = "application/x-npy"
HEADER = "Inference-Header-Content-Length"
PATIENT = ("--queue-seconds", "3600", "--most-seconds", "3600")  # on a busy machine, too


@dataclass
class Pool:
    """Images and latents that are asked about, and what the Python API makes of them, by steps."""

    x: torch.Tensor
    z: torch.Tensor
    wanted: dict[tuple[str, int], torch.Tensor] = field(default_factory=dict)

    @classmethod
    def made(cls) -> Pool:
        model = GDM.from_pretrained("scenes", device="cpu")
        x = open_data(f"scenes:0-{POOL}", model.checkpoint.preprocess).batch(range(POOL)).x
        pool = cls(x, model.latents(x, model.plan(STEPS[-1])).cpu())
        element = element_mask("1", model.shape[0], model.grouping.d)
        band = band_mask("0_29", model.grouping, model.shape[0])
        for steps in STEPS:
            plan = model.plan(steps)
            z = model.latents(x, plan).cpu()
            made = {
                "encode": z,
                "decode": model.decode(pool.z, plan),
                "sample": model.sample(POOL, seed=0, plan=plan),
                "set": model.decode(set_element(z, element, 1.0, shift=True), plan),
                "mix": model.decode(mix(pool.z, pool.z.roll(-1, 0), band), plan),
            }
            pool.wanted |= {(name, steps): values.cpu() for name, values in made.items()}
        return pool


@pytest.fixture(scope="module")
def pool() -> Pool:
    return Pool.made()


@dataclass
class Case:
    """One request, and what must come of it: an array, or a refusal by some status."""

    path: str
    given: dict[str, Any]
    wanted: torch.Tensor | None = None
    status: int = 200

    def ask(self, url: str, seconds: float = 600) -> requests.Response:
        return requests.post(f"{url}{self.path}", timeout=(60, seconds), **self.given)


def npy(values: torch.Tensor) -> dict[str, Any]:
    buffer = io.BytesIO()
    np.save(buffer, values.numpy())
    return {"data": buffer.getvalue(), "headers": {"Content-Type": NPY, "Accept": NPY}}


def tensor(name: str, values: torch.Tensor, steps: int) -> dict[str, Any]:
    """The same as Triton's client sends it."""
    data = values.numpy().tobytes()
    given: dict[str, Any] = {"name": name, "shape": list(values.shape), "datatype": "FP32"}
    given["parameters"] = {"binary_data_size": len(data)}
    parameters = {"steps": steps, "binary_data_output": True}
    head = json.dumps({"inputs": [given], "parameters": parameters}).encode()
    return {"data": head + data, "headers": {HEADER: str(len(head))}}


def case(pool: Pool, i: int, *, wrong: bool = True) -> Case:
    """Request number i: of its own kind, size, steps and images."""
    rng = np.random.default_rng(i)
    if wrong and i % 12 == 5:
        return wrong_case(pool, i)
    kind = ("encode", "decode", "encode", "sample", "decode", "set", "mix")[rng.integers(7)]
    steps, n = int(rng.choice(STEPS)), int(rng.choice((1, 1, 2, 3, 4, 8)))
    rows = torch.from_numpy(rng.integers(0, POOL, n))
    query: dict[str, Any] = {"params": {"steps": steps}}
    if kind == "sample":
        first = int(rng.integers(0, POOL - n))
        rows = torch.arange(first, first + n)
        query["params"] |= {"n": n, "seed": first}
        given = query | {"headers": {"Accept": NPY}}
    elif kind in ("encode", "decode"):
        name, values = ("images", pool.x) if kind == "encode" else ("z", pool.z)
        if rng.integers(4) == 0:
            given = tensor(name, values[rows], steps)
            return Case("/v2/models/scenes/infer", given, pool.wanted[kind, steps][rows])
        given = query | npy(values[rows])
    else:
        asked: dict[str, Any] = {"operation": kind}
        if kind == "set":
            asked |= {"images": pool.x[rows].tolist(), "elements": ["1"], "values": [1.0]}
            asked["shift"] = True
        else:
            asked |= {"z": pool.z[rows].tolist(), "bands": ["0_29"]}
            asked["references"] = pool.z[(rows + 1) % POOL].tolist()
        return Case(
            "/v1/edit",
            query | {"json": asked, "headers": {"Accept": NPY}},
            pool.wanted[kind, steps][rows],
        )
    return Case(f"/v1/{kind}", given, pool.wanted[kind, steps][rows])


def wrong_case(pool: Pool, i: int) -> Case:
    """A request that must be refused."""
    far = torch.full_like(pool.z[:1], 1e38).tolist()
    cases: list[Case] = [
        Case("/v1/encode", npy(pool.x[:2, :, :5]), status=422),
        Case("/v1/encode", npy(pool.x[:1] * 99), status=422),
        Case("/v1/encode", {"json": {"images": ["aGVsbG8="]}}, status=422),
        Case("/v1/encode", {"data": "{"} | {"headers": {"Content-Type": "text/x"}}, status=415),
        Case("/v1/decode", {"json": {"z": far}} | {"params": {"steps": 3}}, status=422),
        Case("/v1/decode", {"json": {"z": [[0.0]]}}, status=422),
        Case("/v1/sample", {"params": {"steps": 1}}, status=422),
        Case("/v1/edit", {"json": {"operation": "vary", "z": []}}, status=422),
        Case("/v2/models/scenes/infer", {"json": {"inputs": []}}, status=400),
        Case("/v2/models/none/infer", {"json": {"inputs": []}}, status=404),
    ]
    return cases[i % len(cases)]


def check(asked: Case, found: requests.Response) -> float:
    """Check an answer, and return how far it is from the Python API's."""
    assert found.status_code == asked.status, (found.status_code, found.text[:300])
    if asked.wanted is None:
        return 0.0
    content = found.content
    if HEADER in found.headers:
        length = int(found.headers[HEADER])
        shape = json.loads(content[:length])["outputs"][0]["shape"]
        values = np.frombuffer(content[length:], "<f4").reshape(shape)
    else:
        values = np.load(io.BytesIO(content), allow_pickle=False)
    assert values.shape == tuple(asked.wanted.shape)
    far = float(np.abs(values - asked.wanted.numpy()).max())
    assert far < BOUND, far
    return far


def test_images_of_the_pool_can_t_be_mistaken(pool: Pool) -> None:
    for values in pool.wanted.values():
        flat = values.flatten(1)
        apart = (flat[:, None] - flat[None]).abs().amax(-1) + torch.eye(len(flat))
        assert float(apart.min()) > 100 * BOUND


def test_no_request_is_lost_or_gets_another_s_answer(
    serve: Callable[..., Server], pool: Pool
) -> None:
    server, furthest = serve(*PATIENT), 0.0
    before = server.peak

    def ask(i: int) -> str:
        nonlocal furthest
        asked = case(pool, i)
        if i % 14 == 3:  # a client that goes away, sooner or later
            try:
                check(asked, asked.ask(server.url, 0.002 * (1 + i % 40)))
            except requests.RequestException:
                return "left"
            return "answered in time"
        furthest = max(furthest, check(asked, asked.ask(server.url)))
        return "answered" if asked.status == 200 else "refused"

    began = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as clients:
        outcomes = Counter(clients.map(ask, range(REQUESTS)))
    took = time.perf_counter() - began
    assert outcomes.total() == REQUESTS
    assert min(outcomes["answered"], outcomes["left"], outcomes["refused"]) > REQUESTS // 30
    text = requests.get(f"{server.url}/metrics", timeout=60).text
    assert not [line for line in text.splitlines() if 'status="5' in line]
    numbers = {line.split()[0]: line.split()[1] for line in text.splitlines() if line[0] != "#"}
    batches, images = (float(numbers[f"gdm_batch_images_{key}"]) for key in ("count", "sum"))
    assert "gdm_waiting_jobs 0.0" in text
    assert images > 1.5 * batches  # requests were joined
    print(
        f"{dict(outcomes)} in {took:.0f} s; {batches:.0f} batches of {images / batches:.1f} "
        f"images; furthest from the Python API {furthest:.1e}; memory {before:.2f} GiB, then "
        f"{server.peak:.2f} at most"
    )
    assert server.stop() == 128 + signal.SIGTERM


def test_sigterm_and_kill_in_mid_load(serve: Callable[..., Server], pool: Pool) -> None:
    """SIGTERM loses no request that was accepted; after kill -9 the same command answers again."""
    server = serve(*PATIENT)
    answered, far = load(server, pool, partial(server.process.terminate))
    assert server.process.wait(600) == 128 + signal.SIGTERM
    # a client whose connection was not taken any more has no answer, and the log has no line
    assert answered == server.answers() == server.answers("200")
    port = server.port
    server = serve("--port", port, *PATIENT, log=server.log)
    load(server, pool, server.kill)
    assert server.process.returncode == -signal.SIGKILL
    server = serve("--port", port, *PATIENT, log=server.log)
    one = case(pool, 0, wrong=False)
    check(one, one.ask(server.url))
    print(f"{answered} answered before and after SIGTERM, none lost, {far:.1e} at most apart")


def load(server: Server, pool: Pool, end: Callable[[], None]) -> tuple[int, float]:
    """Ask by all clients until the server has gone, ended after 100 answers; count what came."""
    lock, counted, furthest, enough = threading.Lock(), 0, 0.0, threading.Event()

    def client(number: int) -> None:
        nonlocal counted, furthest
        for i in range(number, 10**6, CLIENTS):
            asked = case(pool, i, wrong=False)
            try:
                found = asked.ask(server.url)
            except requests.ConnectionError:
                return
            far = check(asked, found)
            with lock:
                counted, furthest = counted + 1, max(furthest, far)
                if counted >= 100:
                    enough.set()

    with ThreadPoolExecutor(CLIENTS) as clients:
        running = [clients.submit(client, number) for number in range(CLIENTS)]
        assert enough.wait(600)
        end()
        for each in running:
            each.result()
    return counted, furthest
