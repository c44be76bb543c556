"""Sample quality as a command: what it compares, and how it goes on after a kill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gdm_repr.analysis.draws import first_latent
from gdm_repr.analysis.intervals.jackknife import Score
from gdm_repr.analysis.journal import Journal
from gdm_repr.analysis.sample_quality import image_sets
from gdm_repr.analysis.sample_quality.image_sets import Blocks, ImageSets, choose_halves
from gdm_repr.analysis.sample_quality.options import SampleQualityConfig
from gdm_repr.analysis.sample_quality.report import worse_than_gaussian
from gdm_repr.analysis.subject import Subject

N = 20
QUICK = f"--features pixels --n {N} --loss-images 4 --levels 2 --directions 16"


def test_a_killed_run_keeps_its_blocks(
    analyse: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_sets, "BLOCK", 8)
    numbers = analyse("sample_quality", QUICK, out=tmp_path)
    journal, blocks = tmp_path / "journal.jsonl", tmp_path / "blocks"
    first, second = blocks / "samples 0.npy", blocks / "samples 8.npy"
    assert np.load(first).shape == (8, 1, 8, 8)
    # what a kill leaves: settings and two blocks, of which a careless hand changed one
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:3]))
    np.save(second, np.load(second) + 1)
    before = first.stat().st_mtime_ns
    assert analyse("sample_quality", QUICK, out=tmp_path)["tables"] == numbers["tables"]
    assert first.stat().st_mtime_ns == before
    # a model of a second's training is nearer to digits than noise, farther than digits are
    scores = numbers["tables"]["scores"]
    rows = {
        (of, score): value
        for of, where, score, value in zip(
            scores["of"], scores["in"], scores["score"], scores["ratio"], strict=True
        )
        if where == "pixels"
    }
    assert 0.5 < rows["samples", "frechet"] < rows["noise", "frechet"]
    assert "not known to be held out" in (tmp_path / "report.html").read_text()
    assert len(numbers["tables"]["latents"]["band"]) == 3


def test_the_sets(trained: Path, encoded: Path, tmp_path: Path) -> None:
    given = {"checkpoint": str(trained), "latents": encoded, "out": tmp_path}
    subject = Subject.open(SampleQualityConfig.model_validate(given))
    halves = choose_halves(len(subject.store), N, seed=2)
    blocks = Blocks(tmp_path / "blocks", Journal(tmp_path / "journal.jsonl", {}))
    sets = ImageSets(subject, blocks, halves, seed=2, batch_size=7, advance=lambda n: None)
    drawn = sets.images("samples")
    own = subject.model.sample(N, seed=first_latent(2), plan=subject.plan).clamp(-1, 1)
    torch.testing.assert_close(drawn, own, atol=1e-4, rtol=0)
    others = ImageSets(subject, blocks, halves, seed=3, batch_size=7, advance=lambda n: None)
    others.blocks = Blocks(tmp_path / "others", Journal(tmp_path / "others.jsonl", {}))
    other = others.images("samples")
    assert float((drawn[1:] - other[:-1]).abs().flatten(1).amax(1).min()) > 0.1  # none is shared
    torch.testing.assert_close(sets.images("real"), subject.images(halves.real).clamp(-1, 1))
    assert float(sets.images("noise").abs().max()) == 1
    # the Gaussian varies where the images do: a digit's corners are always blank
    gaussian, pool = sets.images("gaussian"), subject.images(halves.fit)
    spread = np.corrcoef(gaussian.std(0).flatten(), pool.std(0).flatten())[0, 1]
    assert spread > 0.8
    assert sets.cost()[0][2] >= sum(subject.plan.steps)


def test_a_gaussian_that_scores_better_is_told() -> None:
    """Beyond both intervals; of raw numbers not by mean and covariance, which it has."""

    def told(feature: str, kid: float, frechet: float) -> list[str]:
        near = Score(0.1, 0.09, 0.11, N)
        other = {"gaussian": near, "noise": near}
        scores = {
            name: {"samples": Score(value, value - 0.01, value + 0.01, N), **other}
            for name, value in (("kid", kid), ("frechet", frechet))
        }
        return worse_than_gaussian({feature: scores})

    assert told("pixels", kid=0.1, frechet=9) == []
    assert told("pixels", kid=0.115, frechet=9) == []  # the intervals meet
    assert "by KID in pixels: 0.1 [0.09, 0.11] against 0.2" in told("pixels", 0.2, 0)[0]
    both = told("vgg19", kid=0.2, frechet=0.3)
    assert [line.partition(" in ")[0].rpartition("by ")[2] for line in both[:2]] == [
        "Frechet distance",
        "KID",
    ]
    assert "train longer" in both[2]


def test_halves_are_disjoint() -> None:
    halves = choose_halves(50, 20, seed=0)
    assert len({*halves.real, *halves.other}) == 40
    assert not {*halves.real} & {*halves.fit}
    assert {*halves.other} < {*halves.fit}
    with pytest.raises(ValueError, match=r"--n 26: the store holds 50 images.*at most 25"):
        choose_halves(50, 26, seed=0)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--n 49", "use at most 48"),
        ("--n 6", "--density-neighbours 5: of n=6 images 5 are left"),
        ("--n 3", "greater than or equal to 4"),
    ],
)
def test_mistakes(refused: Callable[..., str], more: str, message: str) -> None:
    assert message in refused("sample_quality", QUICK, more)
