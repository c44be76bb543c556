"""The total correlation command, from options to report."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gdm_repr.analysis.columns.names import OTHER
from gdm_repr.analysis.total_correlation.options import CONTROLS
from gdm_repr.grouping import build_grouping

QUICK = "--permutations 19 --resamples 10 --noise 8"
NAMES = build_grouping("bands", (1, 8, 8), cuts=[6, 21]).names


def rows(out: Path, table: str = "total_correlation") -> list[dict[str, str]]:
    with (out / "tables" / f"{table}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_report_holds_every_question_source_and_refusal(
    analyse: Callable[..., dict[str, Any]], encoded: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    flags = f"--elements 0,30:0 --baseline {encoded} --first 2 --columns 3"
    result = analyse("total_correlation", QUICK, flags)
    found = rows(out)
    by = {(row["what"], row["source"], row["estimator"]): row for row in found}
    sources = ["latents", OTHER, *CONTROLS.values()]
    # --columns leaves some out: what was looked at is counted, and called nothing else
    counts = dict(zip(NAMES, ("3 of 6", "3 of 15", "4 of 43"), strict=True))
    within = [f"within {name} ({count} columns)" for name, count in counts.items()]
    between, every = "between bands (10 of 64 columns)", "10 of 64 columns"
    for what in [*within, between, every, "first 2", "chosen elements"]:
        assert {s for w, s, e in by if (w, e) == (what, "gaussian")} == set(sources)
    assert by["first 2", "latents", "knn"]["note"].startswith("96 samples are too few")
    assert (every, "latents", "knn") not in by
    for row in found:
        assert bool(row["TC (nats)"]) != bool(row["note"])
        if row["TC (nats)"]:
            low, value, high = (float(row[key]) for key in ("low", "TC (nats)", "high"))
            assert low < value < high
    raw = by[every, CONTROLS["raw"], "gaussian"]
    assert float(raw["p"]) == 0.05  # digits' coefficients depend on each other
    noise = by[every, CONTROLS["noise"], "gaussian"]
    assert float(noise["low"]) < 0 < float(noise["high"])
    refused = by[between, CONTROLS["encoded-noise"], "gaussian"]
    assert refused["note"].startswith("8 samples are too few")
    own, other = (by[between, name, "gaussian"] for name in ("latents", OTHER))
    assert own["TC (nats)"] == other["TC (nats)"]  # the baseline is the same store
    normality = rows(out, "normality")
    assert len(normality) == 4 * 10  # latents, baseline, and noise before and after the model
    (metrics,) = (entry["values"] for entry in result["metrics"])
    for key in (
        *(f"total_correlation/{name}" for name in NAMES),
        "total_correlation/between_bands",
        "total_correlation/between_bands_copula",
        "total_correlation/first_2_copula",
        f"total_correlation_control/raw_coefficients/{NAMES[0]}",
        "not_normal/latents",
    ):
        assert key in metrics
    assert len(list((out / "figures").glob("*.svg"))) == 3
    assert "within" in result["answer"][0]
    assert result["answer"][0] in (out / "report.html").read_text(encoding="utf-8").replace(
        "&#39;", "'"
    )


def test_a_second_run_measures_nothing_and_says_the_same(
    analyse: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = "--controls none --estimators gaussian --columns 9"
    result, page = analyse("total_correlation", QUICK, flags), tmp_path / "out" / "result.json"
    first = page.read_text("utf-8")
    assert {row["source"] for row in rows(tmp_path / "out")} == {"latents"}
    assert result["method"]["columns left out (--columns)"]

    def refuse(*args: object, **settings: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("gdm_repr.analysis.total_correlation.answers.total_correlation", refuse)
    analyse("total_correlation", QUICK, flags)
    assert page.read_text("utf-8") == first


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--estimators mine", "--estimators 'mine': unknown; choose from gaussian, copula"),
        ("--controls raw,raw", "--controls raw,raw: names one twice"),
        ("--elements 64,1", "element '64': unknown; give an index below 64"),
        ("--permutations 3", "permutations='3'"),
    ],
)
def test_mistakes_end_in_one_line(refused: Callable[..., str], flags: str, message: str) -> None:
    assert message in refused("total_correlation", QUICK, flags)


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom gdm_repr.analysis import total_correlation\n"
        "print([m for m in ('torch', 'scipy', 'sklearn', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
