"""Whatever bytes a file holds, its loader returns or raises a ValueError that names it.

``make fuzz`` tries many more of them. Peak memory of every loader stays below ``MOST_MEMORY``.
"""

from __future__ import annotations

import io
import json
import shutil
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdm_repr.analysis.journal import Journal
from gdm_repr.boundary.yaml_file import read_yaml
from gdm_repr.checkpoint import load_checkpoint, load_tensors
from gdm_repr.data.labels import read_labels
from gdm_repr.data.quarantine import QuarantineLog
from gdm_repr.data.sources.arrays import open_npy, open_npz
from gdm_repr.data.sources.files import ZipSource
from gdm_repr.latents.store import LatentStore, open_store
from gdm_repr.tracking.record import read_events, read_sent

FORMATS = Path(__file__).parents[1] / "fixtures" / "formats" / "digests"
MOST_MEMORY = 64 << 20  # bytes, traced
IDS = ["a.png", "b.png", "c/d.png"]

plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
nested = st.recursive(
    plain,
    lambda some: (
        st.lists(some, max_size=4) | st.dictionaries(st.text(max_size=5), some, max_size=4)
    ),
    max_leaves=12,
)
damage = st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(0, 255)), min_size=1, max_size=4)


@contextmanager
def refused_or_read(path: Path) -> Iterator[None]:
    """Let a ValueError that names the file pass, and nothing else; watch the memory."""
    tracemalloc.start()
    try:
        yield
    except ValueError as error:
        message = str(error)
        assert path.name in message, message
        assert len(message) < 2000
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < MOST_MEMORY


def damaged(data: bytes, changes: list[tuple[int, int]]) -> bytes:
    """Put other bytes into some places; a change of 255 cuts the rest off."""
    changed = bytearray(data)
    for place, byte in changes:
        if not changed:
            break
        if byte == 255:
            del changed[place % len(changed) :]
        else:
            changed[place % len(changed)] = byte
    return bytes(changed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def as_yaml(value: Any, depth: int = 0) -> str:  # noqa: ANN401
    """Write YAML by hand: keys of any kind, anchors, aliases and tags among the values."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{as_yaml(k)}: {as_yaml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_yaml, value)) + "]"
    return value if isinstance(value, str) else json.dumps(value)


WORDS = ["lr", "&a", "*a", "&a [1, 2]", "<<", "!!set", "!!python/name:os.system", "0x1", "1:2:3"]
WORDS += ["~", "yes", "2024-02-30", "1e999", '"x"', "'", "-", "? ", "|", ">", "%", "@", "\t", "---"]
words = st.sampled_from(WORDS)
yaml_like = st.recursive(
    words | plain,
    lambda some: st.lists(some, max_size=4) | st.dictionaries(words, some, max_size=3),
    max_leaves=15,
)
yaml_noise = st.text(st.sampled_from("ab:-[]{}&*!<? \n\t,'\"#|>0"), max_size=60)


@given(yaml_like | yaml_noise)
def test_yaml(folder: Path, value: object) -> None:
    path = folder / "options.yaml"
    text = value if isinstance(value, str) else as_yaml(value)
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with refused_or_read(path):
        assert all(isinstance(key, str) for key in read_yaml(path))


@given(damage)
def test_checkpoint(folder: Path, changes: list[tuple[int, int]]) -> None:
    path = folder / "model.safetensors"
    whole = (FORMATS / "run" / "model.safetensors").read_bytes()
    path.write_bytes(damaged(whole, changes))
    with refused_or_read(path):
        load_checkpoint(path)
        assert path.read_bytes() == whole


FACTS = ["format", "shape", "images", "model", "preprocess", "order", "names", "training"]
FACTS += ["basis_fingerprint"]


@given(st.dictionaries(st.sampled_from(FACTS), nested, max_size=3))
def test_checkpoint_metadata(folder: Path, changes: dict[str, object]) -> None:
    from safetensors.torch import save_file

    path = folder / "model.safetensors"
    tensors, facts = load_tensors(FORMATS / "run" / "model.safetensors")
    save_file(tensors, path, metadata={"gdm_repr": json.dumps({**facts, **changes})})
    with refused_or_read(path):
        load_checkpoint(path)


def read_all(store: LatentStore) -> None:
    store.z(), store.index, store.ids, store.sources, store.labels("digit")
    store.errors("latent_error")


@pytest.fixture
def store(folder: Path) -> Path:
    if not (folder / "store").exists():
        shutil.copytree(FORMATS / "store", folder / "store")
    return folder / "store"


@given(
    st.dictionaries(
        st.sampled_from(sorted(json.loads((FORMATS / "store" / "manifest.json").read_text()))),
        nested,
        max_size=3,
    ),
    st.booleans(),
)
def test_manifest(store: Path, changes: dict[str, object], digests: bool) -> None:
    facts = {**json.loads((FORMATS / "store" / "manifest.json").read_text()), **changes}
    if not digests:
        facts.pop("sha256")
    path = store / "manifest.json"
    path.write_text(json.dumps(facts))
    try:
        with refused_or_read(store):
            read_all(open_store(store))
    finally:
        shutil.copy(FORMATS / "store" / "manifest.json", path)


@given(damage, st.booleans(), st.booleans())
def test_shard(store: Path, changes: list[tuple[int, int]], tail: bool, digests: bool) -> None:
    path = store / "shards" / "shard-00001.parquet"
    whole = (FORMATS / "store" / "shards" / path.name).read_bytes()
    cut = int.from_bytes(whole[-8:-4], "little") + 8 if tail else len(whole)
    path.write_bytes(whole[:-cut] + damaged(whole[-cut:], changes))
    facts = json.loads((FORMATS / "store" / "manifest.json").read_text())
    if not digests:
        del facts["sha256"]
    (store / "manifest.json").write_text(json.dumps(facts))
    try:
        with refused_or_read(path):
            read_all(open_store(store))
    finally:
        shutil.copy(FORMATS / "store" / "shards" / path.name, path)
        shutil.copy(FORMATS / "store" / "manifest.json", store)


def packed(entries: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return stream.getvalue()


def saved(array: Any) -> bytes:  # noqa: ANN401
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@given(nested | st.text(max_size=30), damage | st.none())
def test_zip(folder: Path, labels: object, changes: list[tuple[int, int]] | None) -> None:
    text = labels if isinstance(labels, str) else json.dumps({"labels": labels})
    data = packed({"a.png": b"x", "b.png": b"", "dataset.json": text.encode(errors="replace")})
    path = folder / "images.zip"
    path.write_bytes(damaged(data, changes) if changes else data)
    tracemalloc.start()
    try:
        source = ZipSource(path)
        assert len(source.ids) <= 3
    except ValueError as error:
        assert "images.zip" in str(error) or "dataset.json" in str(error)
    assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    tracemalloc.stop()


cells = st.sampled_from([*IDS, "", "1", "x", '"', "9" * 30])


@given(st.text(max_size=80) | st.lists(st.lists(cells, max_size=3), max_size=5))
def test_labels(folder: Path, rows: str | list[list[str]]) -> None:
    path = folder / "labels.csv"
    text = rows if isinstance(rows, str) else "\n".join(map(",".join, rows))
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with refused_or_read(path):
        columns = read_labels(path, IDS)
        assert all(len(column) == len(IDS) for column in columns.values())


HEADER = "{'descr': '%s', 'fortran_order': %s, 'shape': %s}"


@given(
    st.sampled_from(["<u1", "<f4", "|O", "<f8", "|S3", "<i2", "[('a','<f4')]", "x", "<f2"]),
    st.sampled_from(["False", "True", "1"]),
    st.lists(st.integers(-2, 4) | st.integers(2**20, 2**70), max_size=5),
    st.binary(max_size=64),
)
def test_npy_headers(folder: Path, kind: str, order: str, shape: list[int], data: bytes) -> None:
    text = (HEADER % (kind, order, tuple(shape))).replace("'[", "[").replace("]'", "]") + "\n"
    content = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + data
    for name, whole, load in (
        ("images.npy", content, open_npy),
        ("images.npz", packed({"images.npy": content}), open_npz),
    ):
        path = folder / name
        path.write_bytes(whole)
        with refused_or_read(path):
            load(path)


@given(damage)
def test_arrays(folder: Path, changes: list[tuple[int, int]]) -> None:
    array = saved(np.arange(32, dtype=np.uint8).reshape(2, 4, 4))
    for name, whole, load in (
        ("images.npy", array, open_npy),
        ("images.npz", packed({"images.npy": array, "y.npy": saved(np.arange(2))}), open_npz),
    ):
        path = folder / name
        path.write_bytes(damaged(whole, changes))
        with refused_or_read(path):
            load(path)


Lines = st.lists(nested | st.binary(max_size=20), max_size=5)


@given(Lines)
def test_lines_of_records(folder: Path, lines: list[object]) -> None:
    """Journals, records and quarantines: damaged lines are passed over, or the file is refused."""
    data = b"".join(
        (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines
    )
    loaders: dict[str, Callable[[Path], object]] = {
        "journal.jsonl": lambda path: Journal(path, {"a": 1}),
        "track.jsonl": lambda path: read_events(path.parent),
        "track.sent.json": lambda path: read_sent(path.parent, "x"),
        "quarantine.jsonl": lambda path: QuarantineLog(path, "s"),
    }
    for name, load in loaders.items():
        path = folder / name
        path.write_bytes(data)
        tracemalloc.start()
        try:
            load(path)
        except ValueError as error:
            assert name in str(error) or str(folder) in str(error)
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
        tracemalloc.stop()
