"""The latent store: what goes in comes out, whoever wrote it and however often it was killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from gdm_repr.data.quarantine import Rejected
from gdm_repr.latents.format import Band, Manifest
from gdm_repr.latents.store import open_store
from gdm_repr.latents.writer import StoreWriter

C, H, W = 3, 2, 4
D = H * W
ITEMS, SHARD = 11, 4
REJECTED = 5
KEPT = [item for item in range(ITEMS) if item != REJECTED]
Z: npt.NDArray[np.float32] = (
    np.random.default_rng(0).standard_normal((ITEMS, C, D)).astype(np.float32)
)


def make_manifest(**changes: object) -> Manifest:
    facts: dict[str, Any] = {
        "fingerprint": {"checkpoint": "c0ffee", "basis": "dct"},
        "bands": [Band("low", 0, 3), Band("high", 3, D)],
        "shape": (C, H, W),
        "items": ITEMS,
        "shard_size": SHARD,
        "labels": {"digit": "int", "name": "string"},
        "errors": {"latent_error": 1, "round_trip_error_by_group": 2},
    }
    return Manifest(**{**facts, **changes})


def write_shard(writer: StoreWriter, shard: int) -> None:
    rows = [item for item in writer.rows(shard) if item != REJECTED]
    rejected = [(REJECTED, "item-5", "diverged")] if REJECTED in writer.rows(shard) else []
    writer.write(
        shard,
        index=rows,
        ids=[f"item-{item}" for item in rows],
        sources=["folder"] * len(rows),
        z=Z[rows],
        labels={
            "digit": [item % 10 for item in rows],
            "name": [f"name-{item}" if item else None for item in rows],
        },
        errors={
            "latent_error": np.asarray(rows, dtype=np.float64) / 8,
            "round_trip_error_by_group": np.stack([rows, rows], axis=1) / 4,
        },
        rejected=rejected,
    )


def write_store(path: Path, **changes: object) -> Path:
    writer = StoreWriter(path, make_manifest(**changes))
    for shard in writer.pending():
        write_shard(writer, shard)
    writer.finish()
    return path


def contents(path: Path) -> dict[str, bytes]:
    files = (file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"element_order": [6, 1, 3, 0, 2, 4, 7, 5]},
        {"per_channel": True, "bands": [Band("red", 0, D), Band("rest", D, C * D)]},
        {
            "per_channel": True,
            "bands": [Band("all", 0, C * D)],
            "element_order": [*reversed(range(C * D))],
        },
    ],
)
def test_latents_come_back_in_the_basis_order(tmp_path: Path, layout: dict[str, object]) -> None:
    store = open_store(write_store(tmp_path, **layout))
    assert len(store) == len(KEPT)
    np.testing.assert_array_equal(store.z(), Z[KEPT])
    flat = Z[KEPT].reshape(len(KEPT), 1, -1) if layout.get("per_channel") else Z[KEPT]
    for position, band in enumerate(store.manifest.bands):
        expected = flat[:, :, store.elements(position)]
        for which in (position, band.name, (band.start, band.stop)):
            np.testing.assert_array_equal(store.band(which), expected)


def test_rows_labels_errors_and_quarantine(tmp_path: Path) -> None:
    store = open_store(write_store(tmp_path))
    assert store.index.tolist() == KEPT
    assert store.ids == [f"item-{item}" for item in KEPT]
    assert store.sources == ["folder"] * len(KEPT)
    assert store.labels("digit").tolist() == [item % 10 for item in KEPT]
    assert store.labels("name").tolist() == [None, *(f"name-{item}" for item in KEPT[1:])]
    np.testing.assert_array_equal(store.errors("latent_error"), np.asarray(KEPT) / 8)
    by_group = store.errors("round_trip_error_by_group", rows=[9, 0])
    np.testing.assert_array_equal(by_group, [[2.5, 2.5], [0, 0]])
    assert store.quarantined == [Rejected(5, "item-5", "diverged")]
    assert (store.manifest.encoded, store.manifest.quarantined) == (10, 1)
    line = json.loads((tmp_path / "quarantine.jsonl").read_text())
    assert line == {"index": 5, "id": "item-5", "reason": "diverged"}


@pytest.mark.parametrize("rows", [slice(3, 9), slice(None, None, -2), [9, 0, 9, 4], []])
def test_any_rows_in_any_order(tmp_path: Path, rows: slice | list[int]) -> None:
    store = open_store(write_store(tmp_path))
    index = rows if isinstance(rows, slice) else np.asarray(rows, dtype=np.int64)
    np.testing.assert_array_equal(store.z(rows), Z[KEPT][index])
    np.testing.assert_array_equal(store.band("low", rows), Z[KEPT][index][:, :, :3])


def test_selected_rows_are_a_store_of_their_own(tmp_path: Path) -> None:
    rows = [9, 0, 3, 4, 9]
    whole = open_store(write_store(tmp_path))
    store = whole.select([1, *rows]).select(slice(1, None))
    assert len(store) == 5
    np.testing.assert_array_equal(store.z([0, 2]), whole.z([9, 3]))
    assert store.ids == [whole.ids[row] for row in rows]
    assert store.labels("digit").tolist() == whole.labels("digit")[rows].tolist()
    np.testing.assert_array_equal(store.errors("latent_error"), whole.errors("latent_error")[rows])
    batches = [*store.iter_batches(2)]
    np.testing.assert_array_equal(np.concatenate([batch.z for batch in batches]), whole.z(rows))
    with pytest.raises(ValueError, match="5"):
        store.z([5])


def test_a_label_whose_name_is_taken_gets_a_column_of_its_own(tmp_path: Path) -> None:
    names = ["id", "label_id", "held_out", "z_0_2", "latent_error", "plain"]
    labels: dict[str, object] = {"labels": dict.fromkeys(names, "int")}
    manifest = make_manifest(**labels)
    schema = manifest.arrow_schema().names
    assert len(set(schema)) == len(schema)
    assert [manifest.label_column(name) for name in names[:2]] == ["label_id", "label_label_id"]
    assert manifest.label_column("plain") == "plain"


def test_a_store_of_the_first_schema_is_finished_in_it(tmp_path: Path) -> None:
    first = StoreWriter(tmp_path, make_manifest(schema_version=1))
    write_shard(first, 0)
    writer = StoreWriter(tmp_path, make_manifest())
    for shard in writer.pending():
        write_shard(writer, shard)
    writer.finish()
    store = open_store(tmp_path)
    np.testing.assert_array_equal(store.z(), Z[KEPT])
    assert store.labels("digit").tolist() == [item % 10 for item in KEPT]
    assert "z_0_3" in pq.read_schema(tmp_path / "shards/shard-00000.parquet").names


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batches_together_are_the_store(tmp_path: Path, batch_size: int) -> None:
    store = open_store(write_store(tmp_path))
    batches = [*store.iter_batches(batch_size)]
    assert max(len(batch.ids) for batch in batches) <= batch_size
    np.testing.assert_array_equal(np.concatenate([batch.z for batch in batches]), store.z())
    assert [name for batch in batches for name in batch.ids] == store.ids
    assert [int(i) for batch in batches for i in batch.index] == KEPT


def test_a_band_is_read_without_the_others(tmp_path: Path) -> None:
    """Damage to one band's bytes is an error there and unseen by a reader of the other."""
    store = open_store(write_store(tmp_path))
    file = tmp_path / "shards" / "shard-00000.parquet"
    column = pq.read_metadata(file).row_group(0).column(pq.read_schema(file).names.index("z_3_7"))
    data = bytearray(file.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 1] ^= 1
    file.write_bytes(data)
    np.testing.assert_array_equal(store.band("low"), Z[KEPT][:, :, :3])
    with pytest.raises(ValueError, match=r"shard-00000\.parquet' is damaged .* encode again"):
        store.band("high")


def test_float16_keeps_eleven_bits_and_refuses_overflow(tmp_path: Path) -> None:
    store = open_store(write_store(tmp_path / "half", dtype="float16"))
    assert store.z().dtype == np.float32
    np.testing.assert_array_equal(store.z(), Z[KEPT].astype(np.float16))
    large = StoreWriter(
        tmp_path / "large", make_manifest(dtype="float16", items=1, labels={}, errors={})
    )
    with pytest.raises(ValueError, match="not finite as float16"):
        large.write(0, index=[0], ids=["a"], sources=["s"], z=np.full((1, C, D), 1e6))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_pandas_and_arrow_read_it_as_it_is(tmp_path: Path, dtype: str) -> None:
    write_store(tmp_path, dtype=dtype)
    frame = pd.read_parquet(tmp_path / "shards")
    assert [*frame.columns] == [
        "index",
        "id",
        "source",
        "digit",
        "name",
        "latent_error",
        "round_trip_error_by_group",
        "z_0_2",
        "z_3_7",
    ]
    expected = Z[KEPT].astype(dtype)
    np.testing.assert_array_equal(
        np.stack(frame["z_0_2"].tolist()).reshape(-1, C, 3), expected[:, :, :3]
    )
    table = ds.dataset(tmp_path / "shards").to_table(columns=["z_3_7"]).combine_chunks()
    values = table["z_3_7"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    np.testing.assert_array_equal(values.reshape(-1, C, D - 3), expected[:, :, 3:])


README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.mark.parametrize("reader", ["pandas", "polars", "duckdb", "datasets"])
def test_the_readme_reads_the_shards_by_other_tools(
    reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The README's own line, where the tool is installed; and the folder above is not promised."""
    module = pytest.importorskip(reader)
    lines = [line for line in README.read_text().splitlines() if line.startswith(f"{reader}.")]
    (line,) = [line for line in lines if "latents/shards" in line]
    write_store(tmp_path / "latents")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    found = eval(line, {reader: module})
    assert len(found) == len(KEPT)
    columns = found.column_names if hasattr(found, "column_names") else found.columns
    assert "z_0_2" in list(columns)


@pytest.mark.parametrize("reader", ["pandas", "polars", "duckdb", "datasets"])
def test_no_page_says_that_the_folder_above_the_shards_is_read(reader: str) -> None:
    pages = [README, *(README.parent / "docs").glob("*.md")]
    for line in "\n".join(page.read_text() for page in pages).splitlines():
        if f"{reader}." in line and "latents" in line:
            assert "latents/shards" in line
    assert f"\n{reader}." in README.read_text()


def test_a_store_written_in_two_goes_is_the_unbroken_one(tmp_path: Path) -> None:
    whole = write_store(tmp_path / "whole")
    first = StoreWriter(tmp_path / "broken", make_manifest())
    write_shard(first, 2)
    shards = first.path / "shards"
    (shards / ".shard-00000.parquet.99999.deadbeef.tmp").write_bytes(b"half a sh")
    (first.path / ".manifest.json.99999.deadbeef.tmp").write_bytes(b"{")
    (shards / "shard-00001.parquet").write_bytes(b"PAR1 and no end")  # the disk lost the rest
    second = StoreWriter(first.path, make_manifest())
    assert second.pending() == [0, 1]
    write_store(first.path)
    assert contents(first.path) == contents(whole)
    assert StoreWriter(first.path, make_manifest()).finish() == second.manifest.model_copy(
        update={"encoded": 10, "quarantined": 1}
    )


KILLED = """
import importlib.util, os, signal, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("store_test", sys.argv[1])
test = importlib.util.module_from_spec(spec)
spec.loader.exec_module(test)
syncs, fsync = [], os.fsync
def fsync_or_die(descriptor):
    syncs.append(descriptor)
    if len(syncs) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(descriptor)
os.fsync = fsync_or_die
test.write_store(Path(sys.argv[2]))
"""


def test_killed_at_any_sync_it_resumes_to_the_same_store(tmp_path: Path) -> None:
    """Every file syncs its bytes, then its folder: die in the manifest, a shard and the merge."""
    whole = write_store(tmp_path / "whole")
    processes = []
    for sync in (1, 4, 9):
        command = [sys.executable, "-c", KILLED, __file__, str(tmp_path / str(sync)), str(sync)]
        processes.append((sync, subprocess.Popen(command)))
    for sync, process in processes:
        assert process.wait(timeout=60) == -signal.SIGKILL
        path = tmp_path / str(sync)
        if sync > 1:
            with pytest.raises(ValueError, match="run encode again to resume"):
                open_store(path)
            there = open_store(path, incomplete=True)
            np.testing.assert_array_equal(there.z(), Z[there.index])
        write_store(path)
        assert contents(path) == contents(whole)


def test_two_writers_of_the_same_shards_agree(tmp_path: Path) -> None:
    whole = write_store(tmp_path / "whole")
    command = [sys.executable, "-c", KILLED, __file__, str(tmp_path / "shared"), "-1"]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    assert contents(tmp_path / "shared") == contents(whole)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"fingerprint": {"checkpoint": "beef", "basis": "dct"}}, "fingerprint.checkpoint"),
        ({"fingerprint": {"checkpoint": "c0ffee"}}, "fingerprint.basis"),
        ({"shape": (C, W, H)}, "shape"),
        ({"items": ITEMS + 1}, "items"),
        ({"shard_size": SHARD + 1}, "shard_size"),
        ({"dtype": "float16"}, "dtype"),
        ({"bands": [Band("all", 0, D)]}, "bands"),
        ({"errors": {"latent_error": 1}}, "errors"),
    ],
)
def test_other_settings_are_refused(tmp_path: Path, change: dict[str, object], named: str) -> None:
    before = contents(write_store(tmp_path))
    with pytest.raises(ValueError, match=rf"whose {named} is .* this run has .* another --out"):
        StoreWriter(tmp_path, make_manifest(**change))
    assert contents(tmp_path) == before


def test_settings_for_the_reader_are_not_compared(tmp_path: Path) -> None:
    write_store(tmp_path, settings={"batch_size": 64})
    assert StoreWriter(tmp_path, make_manifest(settings={"batch_size": 1})).pending() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bands": [Band("a", 0, 3), Band("b", 4, D)]}, "do not tile"),
        ({"bands": [Band("a", 0, 3), Band("b", 3, D + 1)]}, "do not tile"),
        ({"bands": [Band("a", 0, 0), Band("b", 0, D)]}, "do not tile"),
        ({"bands": [Band("a", 0, 3), Band("a", 3, D)]}, "repeat a name"),
        ({"element_order": [0, 0, *range(2, D)]}, "no permutation"),
        ({"items": 0}, "greater than or equal to 1"),
    ],
)
def test_impossible_manifests_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_manifest(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"index": [0, 1, 2]}, "each of the items 0 .. 3 once"),
        ({"index": [1, 0, 2, 3]}, "does not increase"),
        ({"z": Z[:4, :, :3]}, r"z has shape \(4, 3, 3\)"),
        ({"z": np.full((4, C, D), np.nan)}, "not finite"),
        ({"ids": ["a"]}, "id has 1 values for 4 items"),
        ({"labels": {"digit": [1, 2, 3, 4]}}, "manifest declares"),
        ({"labels": {"digit": ["a"] * 4, "name": [None] * 4}}, "'digit' holds a value that is no"),
        ({"errors": {}}, "manifest declares"),
    ],
)
def test_bad_shards_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    writer = StoreWriter(tmp_path, make_manifest())
    good: dict[str, Any] = {
        "index": [0, 1, 2, 3],
        "ids": ["a", "b", "c", "d"],
        "sources": ["s"] * 4,
        "z": Z[:4],
        "labels": {"digit": [1, None, 3, 4], "name": [None] * 4},
        "errors": {"latent_error": np.zeros(4), "round_trip_error_by_group": np.zeros((4, 2))},
    }
    with pytest.raises(ValueError, match=message):
        writer.write(0, **{**good, **change})
    assert writer.pending() == [0, 1, 2]
    writer.write(0, **good)
    assert writer.pending() == [1, 2]


def test_a_store_of_rejected_items_only(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, make_manifest(items=2, shard_size=2, labels={}, errors={}))
    rejected = [(1, "b", "truncated"), (0, "a", "no image")]
    writer.write(0, index=[], ids=[], sources=[], z=np.zeros((0, C, D)), rejected=rejected)
    writer.finish()
    store = open_store(tmp_path)
    assert len(store) == 0
    assert store.z().shape == (0, C, D)
    assert [*store.iter_batches(2)] == []
    assert [item.id for item in store.quarantined] == ["a", "b"]


def test_stores_that_can_not_be_read_say_why(tmp_path: Path) -> None:
    def damaged(name: str) -> Path:
        return write_store(tmp_path / name)

    with pytest.raises(ValueError, match=r"no latent store: there is no manifest\.json"):
        open_store(tmp_path / "nothing")

    path = damaged("missing")
    (path / "shards" / "shard-00001.parquet").unlink()
    with pytest.raises(ValueError, match=r"lack shards \[1\] .* run encode again to resume"):
        open_store(path)

    path = damaged("truncated")
    file = path / "shards" / "shard-00002.parquet"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"shard-00002\.parquet' is damaged"):
        open_store(path)

    path = damaged("mixed")
    other = write_store(tmp_path / "other", fingerprint={"checkpoint": "beef"})
    file = path / "shards" / "shard-00000.parquet"
    file.write_bytes((other / "shards" / "shard-00000.parquet").read_bytes())
    with pytest.raises(ValueError, match="belongs to another store"):
        open_store(path)

    for text, message in [
        (
            make_manifest().to_json().replace('"schema_version": 2', '"schema_version": 3'),
            "reads 1",
        ),
        (make_manifest().to_json()[:-20], "damaged manifest"),
        ("[]", "damaged manifest"),
        (make_manifest().to_json().replace('"items": 11', '"items": "x"'), "damaged .*items"),
    ]:
        (path / "manifest.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            open_store(path)


def test_names_rows_and_fingerprints_that_are_not_there(tmp_path: Path) -> None:
    store = open_store(write_store(tmp_path))
    store.require({"checkpoint": "c0ffee"})
    with pytest.raises(ValueError, match="checkpoint fingerprint 'c0ffee', not 'beef'"):
        store.require({"checkpoint": "beef"})
    with pytest.raises(ValueError, match=r"band \(0, 4\) .*\('low', \(0, 3\)\)"):
        store.band((0, 4))
    with pytest.raises(ValueError, match=r"label 'colour' .* \['digit', 'name'\]"):
        store.labels("colour")
    with pytest.raises(ValueError, match="error 'fid' is not in the store"):
        store.errors("fid")
    with pytest.raises(ValueError, match=r"rows 3 \.\. 10 leave the store's 0 \.\. 9"):
        store.z([3, 10])
    with pytest.raises(ValueError, match="batch_size 0"):
        next(store.iter_batches(0))
