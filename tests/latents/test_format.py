"""A store that was damaged or edited is refused by file and field, or reads as it was written."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gdm_repr.latents.format import Band, Manifest
from gdm_repr.latents.store import LatentStore, open_store
from gdm_repr.latents.writer import StoreWriter

C, H, W, ITEMS, SHARD = 1, 2, 4, 7, 3
REJECTED = 4
Z = np.random.default_rng(0).standard_normal((ITEMS, C, H * W)).astype(np.float32)
Edit = Callable[[dict[str, Any]], object]


def write_store(path: Path) -> Path:
    manifest = Manifest(
        fingerprint={"checkpoint": "c0ffee"},
        bands=[Band("low", 0, 3), Band("high", 3, 8)],
        element_order=[7, 6, 5, 4, 3, 2, 1, 0],
        shape=(C, H, W),
        items=ITEMS,
        shard_size=SHARD,
        labels={"digit": "int"},
        errors={"latent_error": 1},
    )
    writer = StoreWriter(path, manifest)
    for shard in writer.pending():
        rows = [row for row in writer.rows(shard) if row != REJECTED]
        writer.write(
            shard,
            index=rows,
            ids=[f"item-{row}" for row in rows],
            sources=["s"] * len(rows),
            z=Z[rows],
            labels={"digit": [None if row == 0 else row for row in rows]},
            errors={"latent_error": np.ones(len(rows))},
            rejected=[(REJECTED, "item-4", "bad")] if REJECTED in writer.rows(shard) else [],
        )
    writer.finish()
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("whole") / "store")


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "store"))


def read_all(store: LatentStore) -> None:
    store.z(), store.index, store.ids, store.sources, store.labels("digit")
    store.errors("latent_error")
    assert list(store.iter_batches(2))


def edit(path: Path, change: Edit, *, digests: bool) -> None:
    facts = json.loads((path / "manifest.json").read_text())
    change(facts)
    if not digests:
        del facts["sha256"]
    (path / "manifest.json").write_text(json.dumps(facts))


EDITS: dict[str, Edit] = {
    "items": lambda facts: facts.update(items=6),
    "absurd items": lambda facts: facts.update(items=10**13, shard_size=1),
    "shard size": lambda facts: facts.update(shard_size=4),
    "encoded": lambda facts: facts.update(encoded=5),
    "encoded as text": lambda facts: facts.update(encoded="many"),
    "quarantined": lambda facts: facts.update(quarantined=0),
    "huge shape": lambda facts: facts.update(shape=[10**6, 10**6, 10**6]),
    "no shape": lambda facts: facts.update(shape=[1, 0, 8]),
    "negative shape": lambda facts: facts.update(shape=[1, -2, -4]),
    "turned shape": lambda facts: facts.update(shape=[1, 4, 2]),
    "huge band": lambda facts: facts["bands"][1].update(stop=10**15),
    "band's name": lambda facts: facts["bands"][1].update(name="low"),
    "short order": lambda facts: facts.update(element_order=[0]),
    "order": lambda facts: facts.update(element_order=None),
    "label": lambda facts: facts.update(labels={"digit": "float"}),
    "label's name": lambda facts: facts.update(labels={"digits": "int"}),
    "label's type": lambda facts: facts.update(labels={"digit": "complex"}),
    "wide error": lambda facts: facts.update(errors={"latent_error": 10**12}),
    "dtype": lambda facts: facts.update(dtype="float16"),
    "unknown": lambda facts: facts.update(more=1),
    "fingerprint": lambda facts: facts.update(fingerprint={"checkpoint": "c0ffef"}),
}


@pytest.mark.parametrize("digests", [True, False])
@pytest.mark.parametrize("name", EDITS)
def test_an_edited_manifest_is_refused_at_once(store: Path, name: str, digests: bool) -> None:
    edit(store, EDITS[name], digests=digests)
    started = time.monotonic()
    for incomplete in (False, True):
        if incomplete and not digests and name in ("encoded", "quarantined"):
            continue  # counts that an unfinished store does not have yet
        with pytest.raises(ValueError, match=str(store)) as error:
            read_all(open_store(store, incomplete=incomplete))
        assert len(str(error.value)) < 800
    assert time.monotonic() - started < 10


def test_a_changed_setting_is_told_by_the_digest(store: Path) -> None:
    edit(store, lambda facts: facts.update(settings={"source": "other"}), digests=True)
    with pytest.raises(ValueError, match="not what its digest says"):
        open_store(store)


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts["sha256"].update(manifest="0" * 64),
        lambda facts: facts["sha256"].pop("footers"),
        lambda facts: facts["sha256"]["footers"].pop(),
        lambda facts: facts.update(sha256=None),
        lambda facts: facts.update(sha257=facts.pop("sha256")),
    ],
)
def test_digests_are_whole_or_not_there(store: Path, change: Edit) -> None:
    edit(store, change, digests=True)
    if json.loads((store / "manifest.json").read_text()).get("sha256", 0) is None:
        read_all(open_store(store))
        return
    with pytest.raises(ValueError, match=r"damaged manifest\.json"):
        open_store(store)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"items": 1, "items": 1}', "[" * 100_000, "\udc80", "null"]
)
def test_a_manifest_that_is_none_is_refused(store: Path, text: str) -> None:
    (store / "manifest.json").write_text(text, errors="surrogateescape")
    with pytest.raises(ValueError, match=r"damaged manifest\.json"):
        open_store(store)


def table(store: Path, shard: int) -> tuple[Path, pa.Table]:
    file = store / "shards" / f"shard-{shard:05d}.parquet"
    return file, pq.read_table(file)


def with_note(rows: pa.Table, **changes: object) -> pa.Table:
    note = {**json.loads(rows.schema.metadata[b"gdm_repr"]), **changes}
    return rows.replace_schema_metadata({"gdm_repr": json.dumps(note)})


def replaced(rows: pa.Table, column: str, values: list[object]) -> pa.Table:
    place = rows.schema.get_field_index(column)
    field = rows.schema.field(place)
    return rows.set_column(place, field, pa.array(values, field.type))


SHARDS: dict[str, Callable[[pa.Table], pa.Table]] = {
    "a row less": lambda rows: rows.slice(1),
    "a row twice": lambda rows: pa.concat_tables([rows, rows.slice(0, 1)]),
    "other order": lambda rows: rows.take([1, 0]),
    "another row": lambda rows: replaced(rows, "index", [3, 6]),
    "a column less": lambda rows: rows.drop_columns(["digit"]),
    "a column more": lambda rows: rows.append_column("more", pa.array([1, 2])),
    "columns turned": lambda rows: rows.select([*reversed(rows.schema.names)]),
    "a wider label": lambda rows: rows.set_column(3, "digit", pa.array([1.0, 2.0])),
    "a nan": lambda rows: replaced(rows, "z_0_2", [[1, 2, 3], [np.nan, 2, 3]]),
    "an infinity": lambda rows: replaced(rows, "z_3_7", [[1, 2, 3, 4, -np.inf]] * 2),
    "no note": lambda rows: rows.replace_schema_metadata({"a": "b"}),
    "a note of nothing": lambda rows: rows.replace_schema_metadata({"gdm_repr": "{}"}),
    "no note's JSON": lambda rows: rows.replace_schema_metadata({"gdm_repr": b"\xff"}),
    "a deep note": lambda rows: rows.replace_schema_metadata({"gdm_repr": "[" * 100_000}),
    "another shard": lambda rows: with_note(rows, shard=2),
    "a shard of text": lambda rows: with_note(rows, shard="1"),
    "nothing rejected": lambda rows: with_note(rows, rejected=[]),
    "rejected by name": lambda rows: with_note(rows, rejected=[["4", "item-4", "bad"]]),
    "rejected elsewhere": lambda rows: with_note(rows, rejected=[[0, "item-0", "bad"]]),
    "rejected twice": lambda rows: with_note(rows, rejected=[[4, "a", "b"]] * 2),
    "rejected by nothing": lambda rows: with_note(rows, rejected=4),
    "a longer note": lambda rows: with_note(rows, more=4),
}


@pytest.mark.parametrize("digests", [True, False])
@pytest.mark.parametrize("name", SHARDS)
def test_a_shard_that_was_written_anew_is_refused(store: Path, name: str, digests: bool) -> None:
    file, rows = table(store, 1)
    pq.write_table(SHARDS[name](rows), file)
    if not digests:
        edit(store, lambda facts: None, digests=False)
    with pytest.raises(ValueError, match=str(file)) as error:
        read_all(open_store(store))
    assert "run encode again" in str(error.value) and len(str(error.value)) < 800


def test_a_shard_that_is_no_file_is_refused(store: Path) -> None:
    file = store / "shards" / "shard-00001.parquet"
    away = store / "away"
    file.rename(away)
    os.mkfifo(store / "pipe")
    for target in (store / "pipe", store / "shards", Path("/dev/zero"), file, store / "nowhere"):
        file.symlink_to(target)
        with pytest.raises(ValueError, match=str(file)):
            open_store(store)
        file.unlink()
    file.symlink_to(away)
    read_all(open_store(store))


def test_what_finished_is_not_taken_for_right_when_it_changed(store: Path) -> None:
    """To encode again notices a footer that is not the one of the finished store."""
    file, rows = table(store, 1)
    manifest = open_store(store).manifest
    pq.write_table(rows, file)  # the same rows, other bytes
    for use in (lambda: open_store(store), StoreWriter(store, manifest).pending):
        with pytest.raises(ValueError, match="its footer is not what the manifest says"):
            use()
    file.unlink()
    write_store(store)  # as the message says
    read_all(open_store(store))


def test_a_store_without_digests_is_read_and_finished_with_them(store: Path, whole: Path) -> None:
    edit(store, lambda facts: None, digests=False)
    read_all(open_store(store))
    write_store(store)
    assert (store / "manifest.json").read_bytes() == (whole / "manifest.json").read_bytes()
