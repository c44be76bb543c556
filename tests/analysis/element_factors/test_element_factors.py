"""The element factors as a command: what it finds of digits, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gdm_repr.analysis.element_factors.measure import choose_elements
from gdm_repr.analysis.element_factors.options import ElementFactorsConfig
from gdm_repr.analysis.subject import Subject
from gdm_repr.latents.store import open_store

FEW = "--permutations 19 --resamples 40 --directions 3"
Analyse = Callable[..., dict[str, Any]]


def test_elements_that_are_labels(
    trained: Path, encoded: Path, make_store: Callable[..., Path], analyse: Analyse, tmp_path: Path
) -> None:
    """Each of two elements moves its label alone, by 96 images, and random directions do not.

    The labels are two of the latents' elements, one of them bent, and noise.
    """
    store = open_store(encoded)
    z = store.z()[:, 0].astype(np.float64)
    noise = np.random.default_rng(0).normal(size=len(z))
    lines = ["id,first,third,nothing"]
    for name, own, other in zip(store.ids, z, noise, strict=True):
        lines.append(f"{name},{own[0]:.6f},{own[2] ** 2:.6f},{other:.6f}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    labels = f"--labels {tmp_path}/labels.csv"
    again = make_store(tmp_path / "z", trained, "--data digits --first 96 --steps 12", labels)
    more = f"{labels} --factors first,third,nothing --ways probe --controls none"
    found = analyse("element_factors", FEW, more, "--permutations 99", latents=again)
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


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--ways guess", "--ways 'guess': unknown; choose from probe, traversal"),
        ("--controls pca", "--controls 'pca': unknown"),
        ("--ways probe,probe", "names one twice"),
        ("--band low", "band 'low': unknown"),
        ("--elements 64", "element '64': unknown"),
        ("--factors pose", "--factors 'pose': no label of the store; it has digit"),
        ("--anchors 90", "--anchors 90: leaves 6 of 96 images to fit the reader to"),
        ("--reader eyes", "extractor 'eyes': unknown"),
    ],
)
def test_what_is_refused_in_one_line(refused: Callable[..., str], more: str, message: str) -> None:
    assert message in refused("element_factors", FEW, more)


def test_digits(analyse: Analyse, tmp_path: Path) -> None:
    more = "--anchors 8 --columns 3 --reader pixels --readable 0.3"
    found = analyse("element_factors", FEW, more)
    tables = found["tables"]
    assert set(tables) == {"claim", "elements", "factors", "element_factors", "reader"}
    assert tables["reader"]["readable"] == [True]
    assert tables["elements"]["element"] == ["0:0", "1:0", "2:0"] * 2
    assert tables["claim"]["way"] == [w for w in ("probe", "traversal", "both") for _ in range(3)]
    assert tables["claim"]["directions"] == [3, 3, 3] * 3
    assert "one factor alone can't tell" in found["answer"][0]
    assert {p.stem for p in (tmp_path / "out" / "figures").iterdir()} == {
        "element_factors",
        "purity",
    }
    metrics = found["metrics"][0]["values"]
    assert "element_factors/traversal/moving" in metrics
    assert "element_factors_control/random_directions/probe/moving" in metrics


def test_by_probe_alone_no_images_are_needed(analyse: Analyse, tmp_path: Path) -> None:
    more = f"--ways probe --controls none --data {tmp_path}/none"
    tables = analyse("element_factors", FEW, more)["tables"]
    assert set(tables["claim"]["moved"]) == {"elements", "random directions"}
    assert "reader" not in tables


def test_a_factor_that_can_not_be_read_is_left_out(analyse: Analyse) -> None:
    found = analyse("element_factors", FEW, "--readable 0.999 --columns 2")
    assert found["tables"]["reader"]["readable"] == [False]
    assert set(found["tables"]["elements"]["way"]) == {"probe"}
    assert "No factor is read well enough" in " ".join(found["answer"])


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
