"""Questions are measured alike for every table, and refusals are rows."""

from __future__ import annotations

import numpy as np
import pytest

from gdm_repr.analysis.columns.names import LATENTS
from gdm_repr.analysis.total_correlation.answers import (
    Answer,
    answer,
    find,
    fits,
    most_columns,
)
from gdm_repr.analysis.total_correlation.estimate import element_normality, total_correlation
from gdm_repr.analysis.total_correlation.questions import Question
from gdm_repr.analysis.total_correlation.sentences import (
    as_table,
    normality_sentence,
    sentences,
)

PAIR = Question("pair", "within pair", ((0,), (2,)))
BLOCKS = Question("between_bands", "between bands", ((2, 0), (1,)))
R = np.array([[1, 0, 0.6], [0, 1, 0], [0.6, 0, 1]])
Z = np.random.default_rng(0).standard_normal((600, 3)) @ np.linalg.cholesky(R).T
FEW = {"permutations": 19, "resamples": 10, "seed": 0}


def asked(source: str, table: np.ndarray, question: Question) -> Answer:
    found = vars(answer(table, question, "gaussian", **FEW))
    return Answer(**found, source=source, question=question, estimator="gaussian")


def test_a_question_picks_its_columns() -> None:
    row = answer(Z, PAIR, "gaussian", **FEW)
    expected = total_correlation(Z[:, [0, 2]], permutations=19, resamples=10)
    assert row.tc == expected
    assert expected.low < -0.5 * np.log(1 - 0.36) < expected.high
    blocks = answer(Z, BLOCKS, "gaussian", **FEW)
    assert blocks.tc is not None
    assert blocks.tc.low < 0 < blocks.tc.high  # the pair is inside one block


@pytest.mark.parametrize(
    ("table", "estimator", "note"),
    [
        (Z[:40], "gaussian", "40 samples are too few .* needs at least 58"),
        (Z * [1, 1, 0], "copula", r"columns \[1\] are constant"),
        (Z[:, [0, 1, 0]], "gaussian", "linear function of others"),
        (Z[:, :2], "gaussian", "needs column 2, but there are 2 columns"),
    ],
)
def test_a_refusal_is_a_row_with_its_reason(table: np.ndarray, estimator: str, note: str) -> None:
    row = answer(table, PAIR, estimator, **FEW)
    assert row.tc is None
    with pytest.raises(ValueError, match=note):
        raise ValueError(row.note)
    (line,) = as_table([Answer(**vars(row), source="raw", question=PAIR, estimator=estimator)])
    assert (line["TC (nats)"], line["n"], line["note"]) == (None, len(table), row.note)


def test_neighbours_are_asked_of_few_columns_only() -> None:
    wide = Question("wide", "wide", tuple((i,) for i in range(9)))
    assert not fits(wide, "knn")
    assert fits(wide, "gaussian")
    assert fits(PAIR, "knn")
    d = most_columns(1797)
    for columns, refused in ((d, False), (d + 1, True)):
        z = np.random.default_rng(0).standard_normal((1797, columns))
        question = Question("q", "q", tuple((i,) for i in range(columns)))
        if refused:
            assert answer(z, question, "knn", **FEW).tc is None
    assert most_columns(10**9) == 8


def test_sentences_hold_value_interval_null_and_control() -> None:
    noise = np.random.default_rng(1).standard_normal((600, 3))
    rows = [
        asked(source, table, question)
        for question in (PAIR, BLOCKS)
        for source, table in ((LATENTS, Z), ("fresh noise", noise))
    ]
    verdict, within, between = sentences(rows, ["gaussian", "knn"])
    tc = find(rows, LATENTS, "pair", "gaussian")
    assert tc is not None
    assert verdict.startswith("By gaussian, dependent are the columns within pair.")
    assert "p up to 0.05, at n = 600" in verdict
    value = f"{tc.value:.3g} [{tc.low:.3g}, {tc.high:.3g}] nats. Its p is 0.05. Of fresh noise "
    assert within.startswith(f"Total correlation within pair, by gaussian: {value}")
    assert between.startswith("Total correlation between") and "Of fresh noise " in between
    alone, _ = sentences(rows[2:], ["gaussian"])
    assert "no columns are told from independent ones" in alone
    (refused,) = sentences([asked(LATENTS, Z[:40], PAIR)], ["gaussian"])
    assert refused.startswith("No value within pair: 40 samples are too few")


def test_normality_is_told_with_its_control() -> None:
    z = np.random.default_rng(0).standard_normal((500, 4))
    found = {LATENTS: element_normality(z * [1, 1, 1, 2]), "fresh noise": element_normality(z)}
    said = normality_sentence(found)
    assert said.startswith("1 of 4 elements of the latents differ from N(0, 1).")
    assert "Of fresh noise 0 of 4 do." in said
