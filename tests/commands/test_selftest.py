"""The self-test's laws hold, and its table says so."""

import pytest

from gdm_repr import selftest


def test_every_law_holds(capsys: pytest.CaptureFixture[str]) -> None:
    assert selftest.main(["--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.endswith("yes") for line in lines[1:-1])
    assert len(lines) >= 16
    assert "laws hold on cpu" in lines[-1]


def test_a_law_fails_outside_its_limit() -> None:
    assert selftest.Law("order", 1.9, 2, 0.2).passed
    assert not selftest.Law("order", 1.7, 2, 0.2).passed
