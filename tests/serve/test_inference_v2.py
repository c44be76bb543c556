"""The Open Inference Protocol gives what the Python API gives, as JSON and as bytes."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import torch

from gdm_repr import GDM
from gdm_repr.data import Preprocess, open_data
from gdm_repr.serve.options import ServeConfig

pytest.importorskip("swagger_ui_bundle")
HEADER = "Inference-Header-Content-Length"
STEPS = {"steps": 6}
Arrays = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def model(trained: Path) -> GDM:
    return GDM.from_pretrained(trained)


@pytest.fixture(scope="module")
def url(model: GDM) -> Iterator[str]:
    """The service in a thread of this process."""
    import uvicorn

    from gdm_repr.serve.app import build_app
    from gdm_repr.serve.door import Metrics
    from gdm_repr.serve.service import Service

    limits = {"batch_size": 16, "most_megabytes": 1, "queue_seconds": 3600, "most_seconds": 3600}
    config = ServeConfig.model_validate(limits)
    app = build_app(Service({"digits": model}, config), Metrics(), None)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    host, port = server.servers[0].sockets[0].getsockname()
    yield f"http://{host}:{port}/v2"
    server.should_exit = True
    thread.join(60)


@pytest.fixture(scope="module")
def given(model: GDM) -> Arrays:
    x = open_data("digits", Preprocess()).batch(range(3)).x
    return {"images": x, "z": model.latents(x, model.plan(6))}


def tensor(name: str, values: torch.Tensor, **more: object) -> dict[str, Any]:
    return {"name": name, "shape": list(values.shape), "datatype": "FP32", **more}


def infer(
    url: str,
    name: str,
    values: torch.Tensor,
    form: str = "binary",
    outputs: list[dict[str, Any]] | None = None,
    **parameters: object,
) -> requests.Response:
    """Ask as Triton's client does, or with data as JSON, nested or flat."""
    if form == "binary":
        rest = values.numpy().tobytes()
        one = tensor(name, values, parameters={"binary_data_size": len(rest)})
    else:
        rest = b""
        one = tensor(name, values, data=(values if form == "nested" else values.ravel()).tolist())
    asked: dict[str, Any] = {"inputs": [one], "parameters": STEPS | parameters}
    head = json.dumps(asked | ({} if outputs is None else {"outputs": outputs})).encode()
    headers = {HEADER: str(len(head))} if rest else {}
    return requests.post(
        f"{url}/models/digits/infer", data=head + rest, headers=headers, timeout=120
    )


def read(found: requests.Response) -> Arrays:
    """The tensors of an answer, from bytes or from JSON."""
    assert found.status_code == 200, found.text
    length = int(found.headers.get(HEADER, len(found.content)))
    answer, rest = json.loads(found.content[:length]), found.content[length:]
    tensors = {}
    for each in answer["outputs"]:
        assert each["datatype"] == "FP32"
        size = each.get("parameters", {}).get("binary_data_size")
        values = (
            np.array(each["data"], "<f4") if size is None else np.frombuffer(rest[:size], "<f4")
        )
        rest = rest[size or 0 :]
        tensors[each["name"]] = torch.from_numpy(values.reshape(each["shape"]).copy())
    assert not rest
    return tensors


@pytest.mark.parametrize("form", ["binary", "nested", "flat"])
@pytest.mark.parametrize("binary_data_output", [False, True])
def test_every_form_gives_what_the_python_api_gives(
    url: str, model: GDM, given: Arrays, form: str, binary_data_output: bool
) -> None:
    encoded = infer(url, "images", given["images"], form, binary_data_output=binary_data_output)
    assert (HEADER in encoded.headers) == binary_data_output
    assert torch.equal(read(encoded)["z"], given["z"])
    decoded = infer(url, "z", given["z"], form, binary_data_output=binary_data_output)
    assert torch.equal(read(decoded)["images"], model.decode(given["z"], model.plan(6)))


def test_an_output_is_as_it_is_asked_for(url: str, model: GDM, given: Arrays) -> None:
    outputs: list[dict[str, Any]] = [{"name": "z"}]
    outputs.append({"name": "images", "parameters": {"binary_data": True}})
    found = infer(url, "images", given["images"], outputs=outputs, operation="reconstruct")
    answer = json.loads(found.content[: int(found.headers[HEADER])])
    assert answer["model_name"] == "digits"
    assert answer["parameters"] == {"fingerprint": model.checkpoint.fingerprint}
    assert ["data" in each for each in answer["outputs"]] == [True, False]
    tensors = read(found)
    assert torch.equal(tensors["z"], given["z"])
    torch.testing.assert_close(
        tensors["images"], model.decode(given["z"], model.plan(6)), rtol=0, atol=2e-5
    )


def test_what_is_served_is_described(url: str) -> None:
    def get(path: str) -> Any:  # noqa: ANN401
        return requests.get(f"{url}{path}", timeout=10).json()

    assert get("")["extensions"] == ["binary_tensor_data", "parameters"]
    assert get("/health/live") == {"live": True} and get("/health/ready") == {"ready": True}
    found = get("/models/digits")
    images = {"name": "images", "datatype": "FP32", "shape": [-1, 1, 8, 8]}
    z = {"name": "z", "datatype": "FP32", "shape": [-1, 1, 64]}
    assert (found["inputs"], found["outputs"]) == ([images, z], [z, images])
    assert get("/models/digits/ready") == {"name": "digits", "ready": True}
    for path in ("/models/x", "/models/x/ready"):
        assert get(path) == {"error": "model 'x': not served; there are digits"}


ONE = {"name": "z", "shape": [1, 1, 64], "datatype": "FP32"}
ZERO = ONE | {"data": [0.0] * 64}


@pytest.mark.parametrize(
    ("body", "headers", "says"),
    [
        ("{", {}, "Invalid JSON"),
        ({}, {}, "inputs="),
        ({"inputs": [ZERO, ZERO]}, {}, "inputs="),
        ({"inputs": [ONE]}, {}, "z: give data, or binary_data_size"),
        ({"inputs": [ZERO]}, {HEADER: "9999"}, "the body has"),
        ({"inputs": [ZERO]}, {HEADER: "-1"}, "must be the bytes of the JSON object"),
        ({"inputs": [ZERO | {"shape": [1, 1, 65]}]}, {}, "64 values, but shape=[1, 1, 65]"),
        ({"inputs": [ZERO | {"shape": [64]}]}, {}, "must be (B, 1, 64)"),
        ({"inputs": [ZERO | {"datatype": "FP64"}]}, {}, "inputs.0.datatype='FP64'"),
        ({"inputs": [ZERO | {"name": "x"}]}, {}, "inputs.0.name='x'"),
        ({"inputs": [ZERO | {"data": ["a"] * 64}]}, {}, "z: must be numbers"),
        ({"inputs": [ZERO | {"data": [float("nan")] * 64}]}, {}, "not finite"),
        (
            {"inputs": [ONE | {"parameters": {"binary_data_size": 4}}]},
            {},
            "binary_data_size=4, but 0 bytes follow",
        ),
        ({"inputs": [ZERO], "outputs": [{"name": "z"}]}, {}, "decode gives images, not z"),
        ({"inputs": [ZERO], "parameters": {"operation": "encode"}}, {}, "takes 'images' as input"),
        ({"inputs": [ZERO], "parameters": {"step": 3}}, {}, "parameters.step=3"),
        ({"inputs": [ZERO], "parameters": {"\ud800": 3}}, {}, "Invalid JSON"),
        ({"inputs": [ZERO], "parameters": {"steps": 2}}, {}, "steps=2"),
        ({"inputs": [ZERO], "parameters": {"solver": "dopri5"}}, {}, "solver='dopri5': must be"),
        ({"inputs": [ZERO], "parameters": {"order": "2,1,0"}}, {}, "orders='fixed'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(url: str, body: object, headers: dict[str, str], says: str) -> None:
    data = body if isinstance(body, str) else json.dumps(body)
    found = requests.post(f"{url}/models/digits/infer", data=data, headers=headers, timeout=60)
    assert (found.status_code, says in found.json()["error"]) == (400, True), found.text


def test_bodies_are_refused_by_their_own_status(url: str, given: Arrays) -> None:
    place = f"{url}/models/digits/infer"
    large = requests.post(place, data=b"0" * 1_100_000, timeout=60)
    assert large.status_code == 413 and "larger than" in large.json()["error"]
    packed = requests.post(place, data=b"0", headers={"Content-Encoding": "gzip"}, timeout=60)
    assert packed.status_code == 415 and "send the body as it is" in packed.json()["error"]
    missing = requests.post(f"{url}/models/x/infer", data=b"{}", timeout=60)
    assert missing.status_code == 404
    short = tensor("images", given["images"], parameters={"binary_data_size": 8})
    head = json.dumps({"inputs": [short]}).encode()
    found = requests.post(place, data=head + bytes(8), headers={HEADER: str(len(head))}, timeout=60)
    assert "takes 768 bytes" in found.json()["error"]


def test_bodies_that_are_held_at_once_are_bounded(url: str) -> None:
    """Eight clients that send all but the last byte; then there is room for no more."""
    host, port = url.removeprefix("http://").removesuffix("/v2").split(":")
    slow = [socket.create_connection((host, int(port)), timeout=60) for _ in range(8)]
    try:
        head = "POST /v2/models/digits/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
        for each in slow:
            each.sendall(head.encode() + bytes(999_999))
        assert status_until(url, 429)
    finally:
        for each in slow:
            each.close()
    assert status_until(url, 400)


def status_until(url: str, wanted: int) -> bool:
    """Ask until the status is as wanted: sockets take a moment."""
    for _ in range(200):
        place = f"{url}/models/digits/infer"
        if requests.post(place, data=b"0" * 100_000, timeout=60).status_code == wanted:
            return True
        time.sleep(0.02)
    return False
