"""Codes of other models: read by id, and scored as what they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from gdm_repr.analysis.columns.baselines import open_baselines, read_codes, shared_rows
from gdm_repr.analysis.columns.names import OTHER
from gdm_repr.analysis.options import AnalysisConfig
from gdm_repr.analysis.subject import Subject

ROOT = Path(__file__).parents[3]
IDS = ["b", "a"]


@pytest.fixture(scope="module")
def subject(trained: Path, encoded: Path) -> Subject:
    given = {"checkpoint": str(trained), "latents": encoded, "out": "unused"}
    return Subject.open(AnalysisConfig.model_validate(given))


@pytest.fixture(scope="module")
def codes(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first band's latents of the store, in another order, as the codes of a model."""
    path = tmp_path_factory.mktemp("codes") / "codes.npz"
    order = np.random.default_rng(0).permutation(len(subject.store))
    band = subject.store.band("0_5")[order].reshape(len(order), -1)
    np.savez(path, codes=band, ids=np.array(subject.store.ids)[order])
    return path


def test_arrays_of_both_kinds_are_read(tmp_path: Path) -> None:
    values = np.array([[1.0, 2], [3, 4]])
    np.savez(tmp_path / "one.npz", codes=values, ids=np.array(IDS))
    np.save(tmp_path / "two.npy", values)
    (tmp_path / "two.txt").write_text("b\na\n")
    for name in ("one.npz", "two.npy"):
        place, table = read_codes(tmp_path / name)
        assert place == {"b": 0, "a": 1}
        np.testing.assert_array_equal(table, values)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"codes": np.eye(2)}, "must hold an array 'codes'"),
        ({"codes": np.eye(2), "ids": np.array(["a", "a"])}, "2 codes and 1 different ids"),
        ({"codes": np.eye(3), "ids": np.array(IDS)}, "3 codes and 2 different ids"),
        ({"codes": np.ones(2), "ids": np.array(IDS)}, r"must be numbers \(n, D\)"),
        ({"codes": np.array([["x"], ["y"]]), "ids": np.array(IDS)}, "must be numbers"),
        ({"codes": np.full((2, 2), np.nan), "ids": np.array(IDS)}, "not finite"),
        ({"codes": np.eye(2), "ids": np.array(IDS, object)}, "must hold an array"),
    ],
)
def test_files_that_hold_no_codes_are_refused(
    tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    np.savez(tmp_path / "codes.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        read_codes(tmp_path / "codes.npz")


def test_missing_files_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.eye(2))
    for name, message in (("x.npy", "x.txt beside it"), ("y.npz", "y.npz'"), ("y.npy", "y.npy'")):
        with pytest.raises(ValueError, match=f"--baseline .*{message}"):
            read_codes(tmp_path / name)


def test_rows_are_matched_by_id(subject: Subject, codes: Path, encoded: Path) -> None:
    vae, k1 = open_baselines([f"vae={codes}", f"k1={encoded}"], subject)
    rows = [5, 2, 90]
    assert shared_rows([vae, k1], subject, rows) == rows
    np.testing.assert_array_equal(vae.take(subject, rows), subject.store.band("0_5", rows)[:, 0])
    assert (vae.name, vae.length, k1.length) == ("vae", 6, None)
    assert [b.name for b in open_baselines([str(codes)], subject)] == [OTHER]


def test_baselines_that_cannot_be_used_are_refused(
    subject: Subject, codes: Path, tmp_path: Path
) -> None:
    for specs, message in (
        ([str(codes), str(codes)], "'other model' would name two sources"),
        ([f"latents={codes}"], "'latents' would name two sources"),
        ([f"={codes}"], "must be NAME=PATH"),
    ):
        with pytest.raises(ValueError, match=message):
            open_baselines(specs, subject)
    ids = subject.store.ids[1:]
    np.savez(tmp_path / "few.npz", codes=np.zeros((len(ids), 1)), ids=np.array(ids))
    few = open_baselines([f"few={tmp_path / 'few.npz'}"], subject)
    with pytest.raises(ValueError, match="no code of 1 of 2 images"):
        shared_rows(few, subject, [0, 1])
    assert shared_rows(few, subject, [1, 2]) == [1, 2]


def test_codes_are_scored_like_the_latents_that_they_are(
    analyse: Callable[..., dict[str, Any]], encoded: Path, codes: Path
) -> None:
    baselines = f"--baseline vae={codes} --baseline k1={encoded}"
    few = "--permutations 9 --resamples 40 --folds 3 --probes linear --controls raw"
    report = analyse("factor_map", few, baselines, out="map")
    table = report["tables"]["factor_map"]
    rows = {
        (source, columns): (score, length, beside)
        for source, columns, score, length, beside in zip(
            *(table[k] for k in ("source", "columns", "score", "code length", "beside latents")),
            strict=True,
        )
    }
    score, length, _ = rows["latents", "0_5"]
    assert rows["vae", "all"] == (pytest.approx(score), 6, "0_5")
    assert length == 6
    assert [key for key in rows if key[0] == "vae"] == [("vae", "all")]
    assert rows["k1", "21_63"][0] == rows["latents", "21_63"][0]
    told = " ".join(report["answer"])
    assert "more than vae in 0 of 1 cells" in told
    assert "A code of 6 numbers stands beside our first 6." in told

    few = "--scores mig --permutations 2 --resamples 5"
    result = analyse("disentanglement", few, baselines, out="scores")
    table = result["tables"]["scores"]
    values = {
        (of, band): value
        for of, band, value in zip(table["of"], table["band"], table["value"], strict=True)
    }
    assert values["vae", "all bands"] == pytest.approx(values["latents", "0_5"])
    assert values["k1", "6_20"] == values["latents", "6_20"]
    assert ("vae", "0_5") not in values
    assert "disentanglement_control/vae/mig/all_bands" in result["metrics"][0]["values"]


def test_the_control_without_bands_differs_in_nothing_else() -> None:
    main, single = (
        yaml.safe_load((ROOT / f"configs/{name}.yaml").read_text(encoding="utf-8"))
        for name in ("scenes", "scenes-k1")
    )
    for config in (main, single):
        config["model"].pop("grouping")
        for key in ("images", "sample_every", "time_law"):
            config.pop(key, None)
    assert single == main
