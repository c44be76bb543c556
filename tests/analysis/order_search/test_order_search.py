"""The order search as a command: its page, its numbers, and models it can't be asked of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

QUICK = "--features pixels --orders 10 --n 16 --searches 2 --candidates 8 --first 4 --checked 2"


def test_orders_are_scored_once_and_searched(
    make_model: Callable[..., Path],
    make_store: Callable[..., Path],
    analyse: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> None:
    grouping = {"name": "blocks", "rows": 2, "cols": 2}
    parts = {"basis": {"name": "identity"}, "grouping": grouping}
    model = make_model(tmp_path / "m.safetensors", (1, 8, 8), "random", **parts)
    digits = "--data digits --limit 40 --steps 4 --dequantize"
    store = make_store(tmp_path / "latents", model, digits)
    files, quick = {"checkpoint": model, "latents": store}, f"{QUICK} --strips 1"
    out = tmp_path / "search"
    numbers = analyse("order_search", quick, out=out, **files)
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
    again = analyse("order_search", quick, "--batch-size 5", out=out, **files)["tables"]
    assert again["orders"]["order"] == orders["order"]
    assert again["orders"]["Frechet distance"] == pytest.approx(
        orders["Frechet distance"], rel=1e-4
    )
    # another seed: the same orders, other latents
    found = analyse("order_search", quick, "--seed 1", out="other", **files)
    other = found["tables"]["orders"]
    assert {*other["order"]} == {*orders["order"]}
    assert set(other["Frechet distance"]).isdisjoint(orders["Frechet distance"])


def test_a_model_of_one_order_is_refused(refused: Callable[..., str]) -> None:
    assert "train with orders=random" in refused("order_search", QUICK)
