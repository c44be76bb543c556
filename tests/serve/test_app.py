"""The service answers as the Python API does; what is wrong with a request is said in one line."""

from __future__ import annotations

import base64
import io
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import requests
import torch
from PIL import Image

from gdm_repr import GDM
from gdm_repr.client import Client, Refused
from gdm_repr.data import Preprocess, open_data
from gdm_repr.edit.operations import interpolate, mix, set_element, vary
from gdm_repr.masks import band_mask, element_mask
from gdm_repr.serve import main

pytest.importorskip("swagger_ui_bundle")
STEPS = {"steps": 6}
NPY = "application/x-npy"
Z = [[[0.0] * 64]]
MANY = {"operation": "set", "z": Z, "elements": ["1"] * 1000, "values": [1.0] * 1000}
KEY = "0123456789abcdef0123"


@dataclass
class Server:
    process: BaseProcess
    url: str
    log: Path

    def post(self, path: str, **given: Any) -> requests.Response:  # noqa: ANN401
        given["params"] = STEPS | given.get("params", {})
        return requests.post(f"{self.url}{path}", timeout=120, **given)


Serve = Callable[..., Server]


@pytest.fixture(scope="module")
def serve(
    launch: Callable[..., BaseProcess], trained: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serve]:
    """Start a server in a process of its own and wait until it answers."""
    started: list[BaseProcess] = []

    def start(*flags: str) -> Server:
        log = tmp_path_factory.mktemp("serve") / "log"
        patient = ["--queue-seconds", "3600", "--most-seconds", "3600"]  # on a busy machine, too
        argv = ["--checkpoint", f"digits={trained}", "--port", "0", *patient, *flags]
        process = launch("serve", argv, log)
        started.append(process)
        for _ in range(600):
            text = log.read_text() if log.exists() else ""
            if found := re.search(r"running on (http://[\d.]+:\d+)", text):
                return Server(process, found[1], log)
            assert process.is_alive(), text
            time.sleep(0.1)
        raise AssertionError(log.read_text())

    yield start
    for process in started:
        process.kill()


@pytest.fixture(scope="module")
def server(serve: Serve) -> Server:
    return serve("--most-megabytes", "1", "--most-pixels", "10000", "--batch-size", "16")


@pytest.fixture(scope="module")
def model(trained: Path) -> GDM:
    return GDM.from_pretrained(trained)


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return open_data("digits", Preprocess()).batch(range(5)).x


def npy(array: torch.Tensor) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array.numpy())
    return buffer.getvalue()


def png(size: tuple[int, int] = (8, 8), level: int = 99) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", size, level).save(buffer, "png")
    return buffer.getvalue()


def test_every_form_gives_the_latents_of_the_python_api(
    server: Server, model: GDM, x: torch.Tensor
) -> None:
    plan = model.plan(6)
    z = model.latents(x, plan)
    found = server.post("/v1/encode", data=npy(x), headers={"Content-Type": NPY, "Accept": NPY})
    assert found.headers["X-Gdm-Fingerprint"] == model.checkpoint.fingerprint
    assert torch.equal(torch.from_numpy(np.load(io.BytesIO(found.content))), z)
    plain = server.post("/v1/encode", json={"images": x.tolist()}).json()
    assert torch.equal(torch.tensor(plain["z"]), z)
    assert (plain["model"], plain["bands"]) == ("digits", [*model.grouping.names])
    arrow = server.post(
        "/v1/encode",
        json={"images": x.tolist()},
        params={"errors": True},
        headers={"Accept": "application/vnd.apache.arrow.stream"},
    )
    table = pa.ipc.open_stream(arrow.content).read_all()
    assert table.schema.metadata[b"fingerprint"].decode() == model.checkpoint.fingerprint
    e = model.encode(x, plan, latent_error=True, round_trip=True)
    assert e.latent_error is not None
    assert table["latent_error"].to_pylist() == e.latent_error.tolist()
    band = np.stack(table["z_0_5"].to_pylist())
    np.testing.assert_array_equal(band, e.band("0_5").flatten(1).numpy())


def test_files_are_prepared_as_training_prepared_its_own(
    server: Server, model: GDM, tmp_path: Path
) -> None:
    files = [png((20, 31)), png((8, 8), 3)]
    for i, data in enumerate(files):
        (tmp_path / f"{i}.png").write_bytes(data)
    wanted = server.post(
        "/v1/encode", files=[("images", (f"{i}.png", f)) for i, f in enumerate(files)]
    )
    preprocess = model.checkpoint.preprocess.model_copy(update={"size": 8, "channels": "gray"})
    # training's dequantisation is seeded by an image's id
    ids = open_data(tmp_path, preprocess).ids
    assert ids == ["0.png", "1.png"]
    texts = {"images": [base64.b64encode(each).decode() for each in files]}
    assert server.post("/v1/encode", json=texts).json()["z"] == wanted.json()["z"]
    one = server.post("/v1/encode", data=files[0], headers={"Content-Type": "image/png"})
    np.testing.assert_allclose(one.json()["z"], wanted.json()["z"][:1], atol=2e-5)


def test_images_come_back(server: Server, model: GDM, x: torch.Tensor) -> None:
    plan = model.plan(6)
    z = model.latents(x, plan)
    found = server.post("/v1/decode", data=npy(z), headers={"Content-Type": NPY, "Accept": NPY})
    assert torch.equal(torch.from_numpy(np.load(io.BytesIO(found.content))), model.decode(z, plan))
    again = server.post("/v1/reconstruct", json={"images": x.tolist()}).json()
    assert len(again["images"]) == len(again["errors"]["round_trip_error_by_group"]) == len(x)
    picture = Image.open(io.BytesIO(base64.b64decode(again["images"][0])))
    assert (picture.size, picture.mode) == ((8, 8), "L")
    drawn = server.post("/v1/sample", params={"seed": 3}, headers={"Accept": "image/png"})
    levels = np.asarray(Image.open(io.BytesIO(drawn.content)), np.float32)
    made = model.sample(1, seed=3, plan=plan)[0, 0].clamp(-1, 1)
    np.testing.assert_array_equal(levels, np.rint((made.numpy() + 1) * 127.5))


@pytest.mark.parametrize(
    ("body", "names", "wanted"),
    [
        (
            {"operation": "mix", "references": [3], "bands": ["0_5"]},
            ["0_5", "0_5"],
            lambda m, z: mix(z[:2], z[3:4], band_mask("0_5", m.grouping, 1)),
        ),
        (
            {"operation": "vary", "fixed": ["0_5"], "n": 1, "seed": 4},
            ["0_5 fixed, seed 4"] * 2,
            lambda m, z: vary(z[:2], ~band_mask("0_5", m.grouping, 1), m.noise(1, seed=4))[:, 0],
        ),
        (
            {"operation": "set", "elements": ["1"], "values": [2.0], "shift": True},
            ["1 +2", "1 +2"],
            lambda m, z: set_element(z[:2], element_mask("1", 1, 64), 2.0, shift=True),
        ),
        (
            {"operation": "traverse", "elements": ["1"], "n": 2, "reach": 2.0},
            ["1 -2", "1 2"] * 2,
            lambda m, z: torch.stack(
                [set_element(z[:2], element_mask("1", 1, 64), v) for v in (-2.0, 2.0)], 1
            ).flatten(0, 1),
        ),
        (
            {"operation": "interpolate", "bands": ["0_5"], "n": 3},
            ["0_5 at 0", "0_5 at 0.5", "0_5 at 1"],
            lambda m, z: interpolate(
                z[:1], z[1:2], band_mask("0_5", m.grouping, 1), [0.0, 0.5, 1.0]
            )[0],
        ),
    ],
    ids=["mix", "vary", "set", "traverse", "interpolate"],
)
def test_edits_are_those_of_the_command(
    server: Server,
    model: GDM,
    x: torch.Tensor,
    body: dict[str, Any],
    names: list[str],
    wanted: Callable[[GDM, torch.Tensor], torch.Tensor],
) -> None:
    plan = model.plan(6)
    z = model.latents(x, plan)
    for kind, values in (("images", x), ("z", z)):
        given = {**body, kind: values[:2].tolist()}
        if "references" in body:
            given["references"] = values[3:4].tolist()
        plain = server.post("/v1/edit", json=given).json()
        assert plain["names"] == names
        found = server.post("/v1/edit", json=given, headers={"Accept": NPY})
        torch.testing.assert_close(
            torch.from_numpy(np.load(io.BytesIO(found.content))),
            model.decode(wanted(model, z), plan),
            rtol=0,
            atol=2e-5,
        )


def test_the_client_asks_for_the_same(
    server: Server, model: GDM, x: torch.Tensor, tmp_path: Path
) -> None:
    service, plan = Client(server.url), model.plan(6)
    assert service.models()[0]["fingerprint"] == model.checkpoint.fingerprint
    z = service.encode(x.numpy(), steps=6, order=[0, 1, 2])
    np.testing.assert_array_equal(z, model.latents(x, plan).numpy())
    np.testing.assert_array_equal(service.decode(z, steps=6), model.decode(z, plan).numpy())
    np.testing.assert_array_equal(
        service.sample(2, seed=5, steps=6), model.sample(2, seed=5, plan=plan).numpy()
    )
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for i, file in enumerate(files):
        file.write_bytes(png(level=40 * i))
    assert service.reconstruct(files, steps=6).shape == (2, 1, 8, 8)
    assert len(service.errors(files[0], steps=6)["round_trip_error"]) == 1
    with pytest.raises(Refused, match="not served; there are digits") as refused:
        service.encode(x.numpy(), model="x")
    assert refused.value.status == 422


@pytest.mark.parametrize(
    ("path", "given", "status", "says"),
    [
        ("encode", {"json": {"images": []}}, 422, "images: must be a list of one at least"),
        ("encode", {"json": {"pictures": []}}, 422, "an object of one field"),
        ("encode", {"json": {"images": [[[1, 2], [3]]]}}, 422, "lists of equal length"),
        ("encode", {"json": {"images": ["%%"]}}, 422, "images[0]: is no base64"),
        ("encode", {"json": {"images": ["aGVsbG8="]}}, 422, "not an image that Pillow can read"),
        ("encode", {"data": "{", "headers": {"Content-Type": "application/json"}}, 400, "no JSON"),
        ("encode", {"data": "x", "headers": {"Content-Type": "text/html"}}, 415, "must be one of"),
        ("encode", {"data": b"x", "headers": {"Content-Type": NPY}}, 422, "no .npy array"),
        ("encode", {"files": {"images": png((200, 200))}}, 422, "pixels"),
        ("encode", {"files": {"other": png()}}, 422, "'other': no such field"),
        ("encode", {"json": {"images": [[[[9.0] * 8] * 8]] * 17}}, 422, "must be 1 to 16"),
        ("encode", {"json": {"images": [[[[99.0] * 8] * 8]]}}, 422, "must be in [-1, 1]"),
        ("encode", {"data": b"0" * 1_100_000}, 413, "larger than 1,000,000 bytes"),
        ("encode", {"data": iter([b"0" * 600_000] * 2)}, 413, "larger than 1,000,000 bytes"),
        ("encode", {"params": {"steps": 0}}, 422, "steps='0': "),
        ("encode", {"params": {"steps": 2}}, 422, "steps=2"),
        ("encode", {"params": {"model": "x"}}, 422, "model='x': not served; there are digits"),
        ("encode", {"params": {"solver": "dopri5"}}, 422, "solver='dopri5': "),
        ("encode", {"params": {"order": "2,1,0"}}, 422, "trained on orders='fixed'"),
        ("encode", {"headers": {"Accept": "text/html"}}, 406, "there is application/json"),
        ("edit", {"json": {"operation": "blur", "z": []}}, 422, "operation"),
        ("edit", {"json": {"operation": "vary"}}, 422, "images, z, ids: give one of them"),
        ("edit", {"json": {"operation": "vary", "z": Z, "fixed": ["9_9"]}}, 422, "band '9_9'"),
        ("edit", {"json": {"operation": "vary", "z": Z, "n": 17}}, 422, "must be 1 to 16"),
        ("edit", {"json": MANY}, 422, "1000000 images: must be 1 to 16"),
        ("edit", {"json": {"operation": "interpolate", "z": Z, "n": 2}}, 422, "needs two, 1 given"),
        ("decode", {"json": {"z": [[0.0]]}}, 422, "must be (B, 1, 64)"),
        ("decode", {"json": {"z": [[[1e38] * 64]]}}, 422, "the results are not finite"),
        ("sample", {"params": {"n": 17}}, 422, "n='17': "),
        ("sample", {"params": {"n": 2}, "headers": {"Accept": "image/png"}}, 406, "one image"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(
    server: Server, path: str, given: dict[str, Any], status: int, says: str
) -> None:
    found = server.post(f"/v1/{path}", **given)
    assert (found.status_code, says in found.json()["detail"]) == (status, True), found.text


def test_clients_at_once_get_their_own_answers(server: Server, model: GDM) -> None:
    """120 requests of 1 to 4 images from 12 clients, some wrong, some that leave at once."""
    plan = model.plan(6)
    rng = np.random.default_rng(0)
    images = [
        torch.from_numpy(rng.uniform(-1, 1, (1 + i % 4, 1, 8, 8)).astype(np.float32))
        for i in range(120)
    ]
    wanted = [model.latents(each, plan) for each in images]

    def ask(i: int) -> None:
        if i % 10 == 7:
            assert server.post("/v1/encode", json={"images": [1]}).status_code == 422
        elif i % 10 == 3:
            with pytest.raises(requests.Timeout):
                requests.post(
                    f"{server.url}/v1/encode",
                    params={"steps": 1000},
                    json={"images": images[i].tolist()},
                    timeout=0.02,
                )
        else:
            found = server.post(
                "/v1/encode", data=npy(images[i]), headers={"Content-Type": NPY, "Accept": NPY}
            )
            assert found.status_code == 200, found.text
            z = torch.from_numpy(np.load(io.BytesIO(found.content)))
            # of batches of other sizes, products of matrices are rounded otherwise
            torch.testing.assert_close(z, wanted[i], rtol=0, atol=2e-5)

    with ThreadPoolExecutor(12) as clients:
        list(clients.map(ask, range(len(images))))
    text = requests.get(f"{server.url}/metrics", timeout=10).text
    assert 'gdm_requests_total{path="/v1/encode",status="200"}' in text
    assert not re.search(r'status="5\d\d"', text)


def test_the_pages_of_the_service(server: Server) -> None:
    for path in (
        "/",
        "/pages/explorer.js",
        "/pages/explorer.css",
        "/healthz",
        "/readyz",
        "/metrics",
        "/docs",
        "/docs/files/swagger-ui.css",
    ):
        assert requests.get(f"{server.url}{path}", timeout=10).status_code == 200
    assert "//" not in re.sub(
        r"https?://127[^\"']*", "", requests.get(f"{server.url}/docs", timeout=10).text
    )
    assert requests.get(f"{server.url}/v1/models", timeout=10).json()[0]["name"] == "digits"
    paths = requests.get(f"{server.url}/openapi.json", timeout=10).json()["paths"]
    named = {"encode", "decode", "reconstruct", "sample", "edit", "traverse", "neighbours"}
    assert {f"/v1/{name}" for name in named | {"models", "stores", "directions"}} <= set(paths)
    assert "/v1/encode 200" in server.log.read_text()


def test_a_key_is_asked_for_and_what_was_accepted_is_finished(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY + "\n")
    server = serve("--api-key-file", str(tmp_path / "key"), "--root-path", "/gdm")
    assert requests.get(f"{server.url}/v1/models", timeout=10).status_code == 401
    for headers in ({"X-Api-Key": KEY}, {"Authorization": f"Bearer {KEY}"}):
        assert requests.get(f"{server.url}/v1/models", headers=headers, timeout=10).ok
    assert requests.get(f"{server.url}/v1/models", cookies={"gdm-key": KEY}, timeout=10).ok
    assert requests.get(f"{server.url}/", timeout=10).ok  # the page that asks for the key
    assert requests.get(f"{server.url}/healthz", timeout=10).ok
    with ThreadPoolExecutor(3) as clients:
        asked = [
            clients.submit(
                server.post, "/v1/sample", params={"steps": 1000, "n": 64, "seed": i},
                headers={"X-Api-Key": KEY},
            )
            for i in range(3)
        ]  # fmt: skip
        for _ in range(300):  # until one is computed and two wait
            text = requests.get(f"{server.url}/metrics", headers=headers, timeout=10).text
            if "gdm_waiting_jobs 2.0" in text:
                break
            time.sleep(0.05)
        assert server.process.pid is not None
        server.process.terminate()
        assert [each.result().status_code for each in asked] == [200] * 3
    server.process.join(60)
    assert server.process.exitcode == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ("--host 0.0.0.0", "--host '0.0.0.0': others can reach it; name a file with a key"),
        ("--api-key-file short", "must hold one word of 16 letters"),
        ("--api-key-file none", "can't be read"),
        ("--checkpoint scenes --checkpoint scenes", "another is called 'scenes'"),
        ("--checkpoint a/b=scenes", "give NAME=PLACE"),
    ],
)
def test_options_that_are_wrong(
    argv: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("short").write_text("abc")
    assert main([*argv.split(), "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1
