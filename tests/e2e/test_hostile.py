"""Uploads that mean harm get a 4xx, and take bounded memory."""

from __future__ import annotations

import base64
import io
import json
import pickle
import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from tests.e2e.server import Server

MOST = 2.0  # GiB more than before, by all of these at once
NPY, JSON = "application/x-npy", "application/json"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def zeros(n: int) -> bytes:
    """Zeros by deflate, a thousand times smaller."""
    packer = zlib.compressobj(1)
    block = bytes(1 << 20)
    parts = [packer.compress(block) for _ in range(n >> 20)]
    return b"".join([*parts, packer.compress(bytes(n & (1 << 20) - 1)), packer.flush()])


def png(side: int, colour: int = 0, bits: int = 8, more: bytes = b"", whole: bool = True) -> bytes:
    """A black square: gray (0) or RGBA (6), with more chunks behind its header."""
    row = 1 + side * bits * {0: 1, 6: 4}[colour] // 8
    header = struct.pack(">IIBBBBB", side, side, bits, colour, 0, 0, 0)
    data = zeros(row * side) if whole else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + more
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


def icon(picture: bytes) -> bytes:
    """An icon that says 16 x 16, whatever the picture in it says."""
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(picture), 22) + picture


def tiff(side: int, tile: int) -> bytes:
    """A gray TIFF in one tile by deflate, which is larger than the image."""
    data = zeros(tile * tile)
    tags = [
        (256, side), (257, side), (258, 8), (259, 8), (262, 1), (277, 1), (322, tile), (323, tile),
        (324, 8 + 2 + 9 * 12 + 4), (325, len(data)),
    ]  # fmt: skip
    tags[8] = (324, 8 + 2 + len(tags) * 12 + 4)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:  # noqa: ANN401
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def array(header: str) -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(64)


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
PHOTO = Image.fromarray(NOISE)
FILES: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "text": lambda: b"what?",
    "a program": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "a page": lambda: (
        b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    ),
    "cut PNG": lambda: saved(PHOTO, "PNG")[:2000],
    "cut JPEG": lambda: saved(PHOTO, "JPEG")[:1500],
    "cut WebP": lambda: saved(PHOTO, "WEBP", lossless=True)[:1500],
    "16-bit colour": lambda: (
        saved(PHOTO, "PPM").replace(b"\n255\n", b"\n65535\n", 1) + bytes(12288)
    ),
    "header of 50,000 squared": lambda: png(50_000, whole=False),
    "50,000 squared, whole": lambda: png(50_000, bits=1),
    "20,000 squared RGBA": lambda: png(20_000, colour=6),
    "text that unpacks to 400 MB": lambda: png(
        8, more=chunk(b"zTXt", b"Comment\0\0" + zeros(400 << 20))
    ),
    "profile that unpacks to 400 MB": lambda: png(
        8, whole=False, more=chunk(b"iCCP", b"p\0\0" + zeros(400 << 20))
    ),
    "icon with 12,000 squared in it": lambda: icon(png(12_000)),
    "TIFF of one tile of 20,000 squared": lambda: tiff(64, 20_000),
    "GIF that says 60,000 squared": lambda: (
        saved(PHOTO, "GIF")[:6] + struct.pack("<HH", 60_000, 60_000) + saved(PHOTO, "GIF")[10:]
    ),
    "BMP that says 60,000 squared": lambda: (
        saved(PHOTO, "BMP")[:18] + struct.pack("<ii", 60_000, 60_000) + saved(PHOTO, "BMP")[26:]
    ),
    "PPM that says 60,000 squared": lambda: b"P6\n60000 60000\n255\n" + bytes(1000),
    "JPEG 2000 that says less than it holds": lambda: smaller_jp2(),
}


def smaller_jp2() -> bytes:
    """A JPEG 2000 file of 12,000 squared, whose outer header says 64 squared."""
    data = saved(Image.new("L", (12_000, 12_000)), "JPEG2000")
    place = data.index(b"ihdr") + 4
    return data[:place] + struct.pack(">II", 64, 64) + data[place + 8 :]


def form(*files: bytes) -> dict[str, Any]:
    return {"files": [("images", (f"{i}", data)) for i, data in enumerate(files)]}


def body(data: object, kind: str = JSON) -> dict[str, Any]:
    return {"data": data, "headers": {"Content-Type": kind}}


def endless() -> Iterator[bytes]:
    for _ in range(64):
        yield bytes(1 << 20)


DEEP = b'{"images": ' + b"[" * 5_000_000
BODIES: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "deep lists": ("/v1/encode", lambda: body(DEEP)),
    "deep lists of an edit": ("/v1/edit", lambda: body(DEEP)),
    "deep lists of the protocol": ("/v2/models/scenes/infer", lambda: body(DEEP)),
    "30 MB of numbers": (
        "/v1/decode",
        lambda: body(b'{"z": [[[' + b"0.5," * 7_500_000 + b"0]]]}"),
    ),
    "30 MB of numbers of an edit": (
        "/v1/edit",
        lambda: body(b'{"operation": "vary", "z": [[[' + b"0.5," * 7_500_000 + b"0]]]}"),
    ),
    "30 MB of numbers of the protocol": (
        "/v2/models/scenes/infer",
        lambda: body(
            b'{"inputs": [{"name": "z", "shape": [1], "datatype": "FP32", "data": ['
            + b"0.5," * 7_500_000
            + b"0]}]}"
        ),
    ),
    "30 MB of base64": (
        "/v1/encode",
        lambda: body(json.dumps({"images": [base64.b64encode(bytes(22 << 20)).decode()]})),
    ),
    "a number of 4 MB": ("/v1/encode", lambda: body(b'{"images": [' + b"9" * 4_000_000 + b"]}")),
    "an array of 1e18 values": (
        "/v1/encode",
        lambda: body(
            array("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 1000000000)}"),
            NPY,
        ),
    ),
    "a pickle in an array": (
        "/v1/encode",
        lambda: body(
            array("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}")
            + pickle.dumps(["harm"]),
            NPY,
        ),
    ),
    "10,000 files": ("/v1/encode", lambda: form(*[b"x"] * 10_000)),
    "a file of 40 MB": ("/v1/encode", lambda: form(bytes(40_000_000))),
    "64 MB in pieces": ("/v1/encode", lambda: body(endless(), "image/png")),
    "64 MB in pieces of an edit": ("/v1/edit", lambda: body(endless())),
    "a shape of 2**320 values": (
        "/v2/models/scenes/infer",
        lambda: body(
            json.dumps(
                {"inputs": [{"name": "z", "shape": [2**40] * 8, "datatype": "FP32", "data": [0.0]}]}
            )
        ),
    ),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_hostile_uploads_get_a_4xx_and_take_bounded_memory(serve: Callable[..., Server]) -> None:
    server = serve()
    before = server.peak
    asked = {name: (path, make()) for name, (path, make) in BODIES.items()}
    for name, make in FILES.items():
        data = make()
        asked[name] = ("/v1/encode", body(data, "image/png"))
        asked[f"{name}, in a form"] = ("/v1/encode", form(data))

    def ask(name: str) -> int | str:
        path, given = asked[name]
        try:
            found = requests.post(f"{server.url}{path}", timeout=600, params={"steps": 3}, **given)
        except requests.ConnectionError as error:
            return f"{type(error).__name__}: {error}"[:200]
        said = found.json()
        assert len(str(said.get("detail", said.get("error", "")))) < 1000, said
        return found.status_code

    with ThreadPoolExecutor(6) as clients:
        found = dict(zip(asked, clients.map(ask, asked), strict=True))
    odd = {
        name: status for name, status in found.items() if status not in (400, 413, 415, 422, 429)
    }
    assert not odd, odd
    taken = server.peak - before
    print(f"{len(found)} hostile uploads: at most {taken:.2f} GiB more than {before:.2f}")
    assert taken < MOST
    assert not server.answers(r"5\d\d") and requests.get(f"{server.url}/readyz", timeout=60).ok


def test_what_is_as_large_as_it_may_be_is_taken_one_by_one(serve: Callable[..., Server]) -> None:
    """Images of 20 million pixels each, 12 to a request, by several clients at once."""
    server = serve()
    before = server.peak
    given = form(*[png(4_400 - i, colour=6) for i in range(12)])

    def ask(_: int) -> int:
        return requests.post(
            f"{server.url}/v1/encode", params={"steps": 3}, timeout=600, **given
        ).status_code

    with ThreadPoolExecutor(4) as clients:
        assert set(clients.map(ask, range(4))) == {200}
    taken = server.peak - before
    print(f"48 images of 20 million pixels: at most {taken:.2f} GiB more than {before:.2f}")
    assert taken < MOST
