"""Bars move while a unit is under way, and nothing is said of what is quickly done."""

from __future__ import annotations

from pathlib import Path

import pytest

from gdm_repr import progress
from gdm_repr.analysis.cost import seconds_each
from gdm_repr.api import GDM
from gdm_repr.progress import notice, tick


def test_a_bar_moves_at_each_evaluation_of_the_network(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    model = GDM.from_pretrained(str(trained))
    tick()  # no bar is shown
    with progress.progress(2, desc="encode") as bar:
        model.sample(1, seed=0)
        assert bar.steps >= 6
        bar.update()
        assert bar.steps == 0
        with progress.progress(1, desc="inner") as inner:
            tick()
            assert (inner.steps, bar.steps) == (1, 0)  # the bar that is shown last
        tick()
        assert bar.steps == 1
    said = capsys.readouterr().err
    assert "step 5 of this one" in said
    assert said.count("encode:") > 6


def test_what_is_quickly_done_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    with notice("waiting", after=60.0):
        pass
    assert not capsys.readouterr().err


def test_a_trial_grows_until_it_is_long_or_whole() -> None:
    sizes: list[int] = []
    assert seconds_each(sizes.append, 20) >= 0
    assert list(dict.fromkeys(sizes)) == [1, 4, 16, 20]  # each tried some times
