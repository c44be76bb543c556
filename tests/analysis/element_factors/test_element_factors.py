"""The element factors as a command: what it finds of digits, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gdm_repr import encode
from gdm_repr.analysis.element_factors import main
from gdm_repr.analysis.element_factors.measure import choose_elements
from gdm_repr.analysis.element_factors.options import ElementFactorsConfig
from gdm_repr.analysis.subject import Subject
from gdm_repr.latents.store import open_store

FEW = ["--permutations", "19", "--resamples", "40", "--directions", "3", "--no-track"]


def argv(model: Path, latents: Path, out: Path) -> list[str]:
    return ["--checkpoint", str(model), "--latents", str(latents), "--out", str(out), *FEW]


def result(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "result.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def labelled(trained: Path, encoded: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The same latents, with two of their elements as labels, one of them bent, and with noise."""
    folder = tmp_path_factory.mktemp("labelled")
    store = open_store(encoded)
    z = store.z()[:, 0].astype(np.float64)
    noise = np.random.default_rng(0).normal(size=len(z))
    lines = ["id,first,third,nothing"]
    for name, own, other in zip(store.ids, z, noise, strict=True):
        lines.append(f"{name},{own[0]:.6f},{own[2] ** 2:.6f},{other:.6f}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    argv = ["--checkpoint", str(trained), "--data", "digits", "--first", "96", "--steps", "12"]
    labels = ["--labels", str(folder / "labels.csv")]
    assert encode.main([*argv, *labels, "--out", str(folder / "latents"), "--no-track"]) == 0
    return ["--latents", str(folder / "latents"), *labels]


def test_elements_that_are_labels(
    trained: Path, encoded: Path, labelled: list[str], tmp_path: Path
) -> None:
    """Each of two elements moves its label alone, by 96 images, and random directions do not."""
    more = [*labelled, "--factors", "first,third,nothing", "--ways", "probe"]
    more += ["--controls", "none", "--permutations", "99"]
    assert main([*argv(trained, encoded, tmp_path / "out"), *more]) == 0
    found = result(tmp_path / "out")
    rows = found["tables"]["element_factors"]
    moved = {
        (element, factor)
        for element, factor, yes in zip(rows["element"], rows["factor"], rows["moved"], strict=True)
        if yes
    }
    assert {("0:0", "first"), ("2:0", "third")} <= moved
    assert not any(factor == "nothing" for _, factor in moved)
    values = found["metrics"][0]["values"]
    assert values["element_factors/probe/purity"] > 0.8
    best = dict(
        zip(found["tables"]["factors"]["factor"], found["tables"]["factors"]["most"], strict=True)
    )
    assert (best["first"], best["third"]) == ("0:0", "2:0")
    assert "exactly one" in found["answer"][0]


def test_what_is_refused_in_one_line(
    trained: Path, encoded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more, message in (
        (["--ways", "guess"], "--ways 'guess': unknown; choose from probe, traversal"),
        (["--controls", "pca"], "--controls 'pca': unknown"),
        (["--ways", "probe,probe"], "names one twice"),
        (["--band", "low"], "band 'low': unknown"),
        (["--elements", "64"], "element '64': unknown"),
        (["--factors", "pose"], "--factors 'pose': no label of the store; it has digit"),
        (["--anchors", "90"], "--anchors 90: leaves 6 of 96 images to fit the reader to"),
        (["--reader", "eyes"], "extractor 'eyes': unknown"),
    ):
        assert main([*argv(trained, encoded, tmp_path / "out"), *more, "--overwrite"]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert message in error


def test_digits(trained: Path, encoded: Path, tmp_path: Path) -> None:
    more = ["--anchors", "8", "--columns", "3", "--reader", "pixels", "--readable", "0.3"]
    assert main([*argv(trained, encoded, tmp_path), *more]) == 0
    found = result(tmp_path)
    tables = found["tables"]
    assert set(tables) == {"claim", "elements", "factors", "element_factors", "reader"}
    assert tables["reader"]["readable"] == [True]
    assert tables["elements"]["element"] == ["0:0", "1:0", "2:0"] * 2
    assert tables["claim"]["way"] == [w for w in ("probe", "traversal", "both") for _ in range(3)]
    assert tables["claim"]["directions"] == [3, 3, 3] * 3
    assert "one factor alone can't tell" in found["answer"][0]
    assert {p.stem for p in (tmp_path / "figures").iterdir()} == {"element_factors", "purity"}
    metrics = found["metrics"][0]["values"]
    assert "element_factors/traversal/moving" in metrics
    assert "element_factors_control/random_directions/probe/moving" in metrics


def test_by_probe_alone_no_images_are_needed(trained: Path, encoded: Path, tmp_path: Path) -> None:
    more = ["--ways", "probe", "--controls", "none", "--data", str(tmp_path / "none")]
    assert main([*argv(trained, encoded, tmp_path / "out"), *more]) == 0
    tables = result(tmp_path / "out")["tables"]
    assert set(tables["claim"]["moved"]) == {"elements", "random directions"}
    assert "reader" not in tables


def test_a_factor_that_can_not_be_read_is_left_out(
    trained: Path, encoded: Path, tmp_path: Path
) -> None:
    assert main([*argv(trained, encoded, tmp_path), "--readable", "0.999", "--columns", "2"]) == 0
    found = result(tmp_path)
    assert found["tables"]["reader"]["readable"] == [False]
    assert set(found["tables"]["elements"]["way"]) == {"probe"}
    assert "no factor well enough" in " ".join(found["answer"])


def test_elements_are_single_numbers(trained: Path, encoded: Path, tmp_path: Path) -> None:
    def chosen(**more: object) -> tuple[str, list[str]]:
        options = {"checkpoint": str(trained), "latents": encoded, "out": tmp_path, **more}
        config = ElementFactorsConfig.model_validate(options)
        pool, elements, random = choose_elements(config, Subject.open(config))
        assert len(random) == 30
        assert all(not (each.support & ~pool.mask).any() for each in [*elements, *random])
        return pool.name, [each.name for each in elements]

    assert chosen() == ("0_5", [f"{n}:0" for n in range(6)])
    assert chosen(band="1", columns=2) == ("1", ["6:0", "7:0"])
    assert chosen(elements="7-8") == ("6_20", ["7:0", "8:0"])
