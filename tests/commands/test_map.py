"""The command map: one file that embedding-atlas and Hugging Face's readers take as it is."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from PIL import Image

from gdm_repr import map as map_command
from gdm_repr.latents import band_map
from gdm_repr.latents.ids import select_ids
from gdm_repr.latents.store import open_store


@pytest.fixture
def run(encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setattr(band_map, "LATE", 50)  # iterations

    def run(*flags: str, out: str = "map.parquet") -> int:
        return map_command.main(["--latents", str(encoded), "--out", str(tmp_path / out), *flags])

    return run


def test_the_file_is_read_by_others(
    run: Callable[..., int], encoded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--band", "0_5", "--data", "digits", "--fit-rows", "70") == 0
    said = capsys.readouterr().out
    path, store = tmp_path / "map.parquet", open_store(encoded)
    assert f"embedding-atlas {path} --x x --y y --neighbors neighbors --image image" in said
    assert "fitted to 70 of them" in said
    table = pd.read_parquet(path)  # as embedding-atlas reads it
    assert [*table.columns] == [
        "id", "x", "y", "pca_1", "pca_2", "round_trip_error", "round_trip_error_by_group_0_5",
        "digit", "neighbors", "image",
    ]  # fmt: skip
    assert table["id"].tolist() == store.ids
    assert table["digit"].tolist() == store.labels("digit").tolist()
    np.testing.assert_array_equal(table["round_trip_error"], store.errors("round_trip_error"))
    near = table["neighbors"]
    band = store.band("0_5").reshape(len(store), -1).astype(float)
    for row in (0, 50):
        ids, distances = near[row]["ids"], near[row]["distances"]
        assert len(ids) == 10 and row not in ids
        expected = np.sqrt(np.square(band[ids] - band[row]).mean(1))
        np.testing.assert_allclose(distances, expected, rtol=1e-4)
        assert (np.diff(distances) >= 0).all()
    digit = Image.open(io.BytesIO(table["image"][3]["bytes"]))
    assert digit.size == (8, 8)
    assert Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "hf"))[3]["image"].size == (
        8,
        8,
    )
    note = json.loads(pq.read_schema(path).metadata[b"gdm_repr"])
    assert (note["band"], note["fitted to"]) == ("0_5", 70)


def test_what_is_chosen_on_it_goes_back_as_ids(
    run: Callable[..., int], encoded: Path, tmp_path: Path, trained: Path
) -> None:
    assert run() == 0
    table = pd.read_parquet(tmp_path / "map.parquet")
    assert "image" not in table
    chosen = table[table["digit"] < 5]
    chosen.to_csv(tmp_path / "chosen.csv", index=False)
    chosen.to_parquet(tmp_path / "chosen.parquet")
    for name in ("chosen.csv", "chosen.parquet"):
        store = select_ids(open_store(encoded), tmp_path / name)
        assert store.ids == chosen["id"].tolist()
    flags = ["--ids", str(tmp_path / "chosen.csv"), "--checkpoint", str(trained)]
    assert run(*flags, out="some.parquet") == 0
    some = pd.read_parquet(tmp_path / "some.parquet")
    assert some["id"].tolist() == chosen["id"].tolist()
    assert all(max(each["ids"]) < len(some) for each in some["neighbors"])
    sizes = {Image.open(io.BytesIO(each["bytes"])).size for each in some["image"]}
    assert sizes == {(8, 8)}


def test_a_file_that_is_there_is_kept(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "map.parquet").write_text("mine")
    assert run() == 2
    assert "is there already; add --overwrite" in capsys.readouterr().err
    assert (tmp_path / "map.parquet").read_text() == "mine"
    assert run("--overwrite", "--band", "0_5") == 0
    assert len(pd.read_parquet(tmp_path / "map.parquet")) == 96
