"""The order search as a command: its page, its numbers, and models it can't be asked of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gdm_repr import encode
from gdm_repr.analysis.__main__ import main

QUICK = [
    "--features",
    "pixels",
    "--orders",
    "10",
    "--n",
    "16",
    "--searches",
    "2",
    "--candidates",
    "8",
    "--first",
    "4",
    "--checked",
    "2",
]


@pytest.fixture
def argv(make_model: Callable[..., Path], tmp_path: Path) -> list[str]:
    grouping = {"name": "blocks", "rows": 2, "cols": 2}
    parts = {"basis": {"name": "identity"}, "grouping": grouping}
    model = make_model(tmp_path / "m.safetensors", (1, 8, 8), "random", **parts)
    files = ["--checkpoint", str(model), "--no-track"]
    latents = str(tmp_path / "latents")
    given = ["--data", "digits", "--limit", "40", "--steps", "4", "--dequantize"]
    assert encode.main([*files, *given, "--out", latents]) == 0
    return ["order_search", *files, "--latents", latents, *QUICK]


def test_orders_are_scored_once_and_searched(argv: list[str], tmp_path: Path) -> None:
    out = tmp_path / "search"
    assert main([*argv, "--out", str(out), "--strips", "1"]) == 0
    numbers: dict[str, Any] = json.loads((out / "result.json").read_text())
    tables = numbers["tables"]
    orders, searches = tables["orders"], tables["searches"]
    assert orders["rank"] == list(range(1, 11)) and len(set(orders["order"])) == 10
    assert orders["Frechet distance"] == sorted(orders["Frechet distance"])
    assert searches["samples"] == [8 * 4 + 2 * 16] * 2
    for rank, value in zip(searches["rank"], searches["Frechet distance"], strict=True):
        assert rank == 1 + sum(other < value for other in orders["Frechet distance"])
    assert {path.stem for path in (out / "figures").iterdir()} >= {
        "spread", "processes", "predictors"
    }  # fmt: skip
    # a journal cut short is what a kill leaves: the rest is measured, and all is the same
    journal = out / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:6]) + lines[6][:9])
    assert main([*argv, "--out", str(out), "--strips", "1", "--batch-size", "5"]) == 0
    again = json.loads((out / "result.json").read_text())["tables"]
    assert again["orders"]["order"] == orders["order"]
    assert again["orders"]["Frechet distance"] == pytest.approx(
        orders["Frechet distance"], rel=1e-4
    )
    # another seed: the same orders, other latents
    assert main([*argv, "--out", str(tmp_path / "other"), "--strips", "1", "--seed", "1"]) == 0
    other = json.loads((tmp_path / "other/result.json").read_text())["tables"]["orders"]
    assert {*other["order"]} == {*orders["order"]}
    assert set(other["Frechet distance"]).isdisjoint(orders["Frechet distance"])


def test_a_model_of_one_order_is_refused(
    trained: Path, encoded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--checkpoint", str(trained), "--latents", str(encoded), "--no-track"]
    assert main(["order_search", *files, *QUICK, "--out", str(tmp_path)]) == 2
    assert "train with orders=random" in capsys.readouterr().err
