"""An encoding's bands, its table, and how it shows itself."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from gdm_repr import GDM
from gdm_repr.data import Preprocess, open_data
from gdm_repr.encoding import Encoding
from gdm_repr.grouping import build_grouping
from gdm_repr.latents import open_store
from gdm_repr.pictures import save_image


@pytest.fixture(scope="module")
def encoding(trained: Path) -> Encoding:
    model = GDM.from_pretrained(trained, device="cpu")
    x = open_data("digits", model.checkpoint.preprocess, first=3).batch(range(3))
    return model.encode(x, model.plan(12), latent_error=True, round_trip=True)


def test_bands_and_table_are_those_of_a_store(encoding: Encoding, encoded: Path) -> None:
    store = open_store(encoded)
    for name in ("0_5", "6_20", "21_63"):
        band = torch.from_numpy(store.band(name, slice(3)))
        torch.testing.assert_close(encoding.band(name), band, atol=1e-5, rtol=0)
    table, stored = encoding.to_pandas(), pd.read_parquet(encoded / "shards")
    assert len(table) == len(encoding) == 3
    bands = [name for name in stored if name.startswith("z_")]
    assert [*table][-3:] == bands
    assert set(table) - set(bands) <= {"latent_error", "round_trip_error"} | {
        "latent_error_by_group",
        "round_trip_error_by_group",
    }
    for name in bands:
        assert table[name][2] == pytest.approx(stored[name][2], abs=1e-5)


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_band_holds_its_elements(per_channel: bool) -> None:
    grouping = build_grouping("bands", (2, 1, 4), cuts=[1], per_channel=per_channel)
    z = torch.arange(16.0).reshape(2, 2, 4)
    e = Encoding(z, 1, torch.ones(2, dtype=torch.bool), grouping=grouping)
    if per_channel:  # group j of channel c is number 2 j + c
        assert e.band("group3").tolist() == z[:, 1:, 1:].tolist()
    else:
        assert e.band("1_3").tolist() == e.band(1).tolist() == z[:, :, 1:].tolist()
    joined = torch.cat([e.band(j).flatten(1) for j in range(grouping.k)], 1)
    assert torch.equal(joined.sort(1).values, z.flatten(1))


def test_errors_by_a_single_group_are_numbers_as_in_a_store() -> None:
    grouping, error = build_grouping("single", (1, 2, 2)), torch.tensor([0.1, 0.2])
    e = Encoding(torch.zeros(2, 1, 4), 1, torch.ones(2, dtype=torch.bool), error, grouping=grouping)
    table = replace(e, latent_error_by_group=error[:, None]).to_pandas()
    assert table["latent_error_by_group"].dtype == table["latent_error"].dtype


@pytest.mark.parametrize("which", ["0_29", 3, -1, "1"])
def test_an_unknown_band_is_refused_with_those_there_are(
    encoding: Encoding, which: str | int
) -> None:
    with pytest.raises(ValueError, match=rf"band={which!r}: .*0_5, 6_20, 21_63, numbered 0 .. 2"):
        encoding.band(which)
    unknown = Encoding(encoding.z, 1, encoding.converged)
    with pytest.raises(ValueError, match="grouping=None"):
        unknown.band(0)


def test_without_pandas_there_is_a_line(
    encoding: Encoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ValueError, match="pip install pandas"):
        encoding.to_pandas()


def test_what_is_shown(encoding: Encoding, trained: Path, encoded: Path) -> None:
    assert repr(encoding).startswith("Encoding(3 images; z (3, 1, 64); bands 0_5, 6_20, 21_63; lat")
    html = encoding._repr_html_()
    assert html is not None and html.count("<img src=") == 3
    assert Encoding(encoding.z, 1, encoding.converged)._repr_html_() is None
    failed = Encoding(encoding.z, 1, ~encoding.converged)
    assert repr(failed) == "Encoding(3 images; z (3, 1, 64); 3 not converged)"
    model = repr(GDM.from_pretrained(trained, device="cpu"))
    assert model.startswith("GDM(1x8x8 of digits; bands 0_5, 6_20, 21_63; ")
    assert model.endswith(" parameters; cpu)")
    assert "; 96 images of 1x8x8; bands 0_5, 6_20, 21_63; labels " in repr(open_store(encoded))
    assert repr(next(open_store(encoded).iter_batches(5))).startswith("LatentBatch(z (5, 1, 64); i")
    digits = open_data("digits", Preprocess(), first=9)
    assert repr(digits).startswith("ImageDataset('digits'; 9 images of 1x8x8; labels ")
    batch = digits.batch(range(9))
    assert repr(batch).startswith("Batch(x (9, 1, 8, 8); ids ")
    assert batch._repr_html_().count("<img src=") == 9


def test_many_groups_are_shown_by_the_first(
    make_model: Callable[..., Path], tmp_path: Path
) -> None:
    path = make_model(tmp_path / "m.safetensors", (1, 4, 6), grouping={"name": "elementwise"})
    assert "bands 0_0, 1_1, 2_2, 3_3, 4_4, 5_5, 6_6, 7_7, .. (24 in all);" in repr(
        GDM.from_pretrained(path, device="cpu")
    )


def test_the_guide_says_what_runs(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "own-images.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    shutil.copytree(trained, tmp_path / "runs" / "photos")
    (tmp_path / "photos").mkdir()
    for i, x in enumerate(open_data("digits", Preprocess(), first=8).batch(range(8)).x):
        save_image(x.numpy(), tmp_path / "photos" / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["coarse"].shape == (8, 1, 6) and len(names["table"]) == 8
    plan, moved = names["m"].plan(12), names["z"] + 5 * names["towards_brighter"]
    assert names["m"].decode(moved, plan).mean() > names["brightness"]
