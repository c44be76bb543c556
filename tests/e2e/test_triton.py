"""NVIDIA's own client of the Open Inference Protocol talks to the service."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gdm_repr import GDM
from gdm_repr.data import open_data
from tests.e2e.server import Server

http = pytest.importorskip("tritonclient.http", reason="needs pip install 'gdm-repr[e2e]'")
BOUND = 2e-4  # products of matrices are rounded otherwise in batches of other sizes


def test_triton_s_client_encodes_and_decodes(server: Server) -> None:
    model = GDM.from_pretrained("scenes", device="cpu")
    x = open_data("scenes:0-3", model.checkpoint.preprocess).batch(range(3)).x
    plan = model.plan(6)
    z = model.latents(x, plan)
    client = http.InferenceServerClient(server.url.removeprefix("http://"))
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("scenes")
    assert not client.is_model_ready("none")
    assert client.get_server_metadata()["name"] == "gdm-repr"
    inputs = client.get_model_metadata("scenes")["inputs"]
    assert {each["name"]: each["shape"] for each in inputs} == {
        "images": [-1, 3, 32, 32],
        "z": [-1, 3, 1024],
    }
    pairs = (("images", x, "z", z), ("z", z, "images", model.decode(z, plan)))
    for name, given, wanted_name, wanted in pairs:
        for binary in (True, False):
            asked = http.InferInput(name, list(given.shape), "FP32")
            asked.set_data_from_numpy(given.numpy(), binary_data=binary)
            output = http.InferRequestedOutput(wanted_name, binary_data=binary)
            for outputs in (None, [output]):
                found = client.infer(
                    "scenes", [asked], outputs=outputs, request_id="7", parameters={"steps": 6}
                )
                assert found.get_response()["id"] == "7"
                values = torch.from_numpy(np.array(found.as_numpy(wanted_name)))
                torch.testing.assert_close(values, wanted, rtol=0, atol=BOUND)
    with pytest.raises(Exception, match="steps=2"):
        client.infer("scenes", [asked], parameters={"steps": 2})
