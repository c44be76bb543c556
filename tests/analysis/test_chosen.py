"""How much is measured in the time there is: what is given is kept, and so is what was chosen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gdm_repr.analysis.__main__ import AllConfig, main, part_options
from gdm_repr.analysis.chosen import CHOSEN, choose, share_out
from gdm_repr.analysis.cost import Rates
from gdm_repr.analysis.disentanglement.scores import SCORES
from gdm_repr.analysis.runner import ANALYSES, NOT_OF_ALL, Analysis, load
from gdm_repr.analysis.subject import Subject
from gdm_repr.analysis.total_correlation.estimators import ESTIMATORS
from gdm_repr.command import build

ALL = [name for name in ANALYSES if name not in NOT_OF_ALL]
Parts = list[tuple[Analysis, Any]]


@pytest.fixture(scope="module")
def subject(trained: Path, encoded: Path) -> Subject:
    config = build(
        load("leakage").options,
        {"checkpoint": str(trained), "latents": encoded, "out": Path("out")},
    )
    found = Subject.open(config)
    # one second for an image made and for an image seen: what is chosen depends on no machine
    found.rates = dict.fromkeys(("", "pixels"), Rates(0.0, 1.0, 0.1, 1.0, 1e-10))
    found.tried = {f"score {name}": 1e-6 for name in SCORES}
    return found


def parts(trained: Path, encoded: Path, out: Path, names: list[str], **own: object) -> Parts:
    given = {"checkpoint": str(trained), "latents": encoded, "out": out}
    config = build(AllConfig, {**given, "features": ("pixels",), "settings": own})
    return [(analysis := load(name), part_options(analysis, config)) for name in names]


def chosen(given: Parts, subject: Subject, minutes: float, out: Path) -> Parts:
    return choose(given, subject, minutes, out, check=len, write=True)


def test_no_more_is_promised_than_the_store_has_images_for(
    trained: Path, encoded: Path, subject: Subject, tmp_path: Path
) -> None:
    """Of 96 images, two sets of 24 can be had, and four times as many fit in no two sets."""
    given = parts(trained, encoded, tmp_path, ["sample_quality"], sample_quality={"n": 24})
    chosen(given, subject, 1.0, tmp_path)
    choice = json.loads((tmp_path / CHOSEN).read_text())["analyses"]["sample_quality"]
    assert choice["more"] is None


def test_no_more_columns_are_taken_than_can_be_measured(
    trained: Path, encoded: Path, subject: Subject, tmp_path: Path
) -> None:
    """Of 96 images the Gaussian's total correlation between the three bands can be had, too."""
    ((_, options),) = parts(trained, encoded, tmp_path, ["total_correlation"])
    for share in (0.0, 1.0):
        columns = options.dialled(share, subject).columns
        needed = ESTIMATORS["gaussian"].needed
        assert needed(sum(min(size, columns) for size in (6, 15, 43))) <= 96
        assert needed(sum(min(size, columns + 1) for size in (6, 15, 43))) > 96


@pytest.mark.parametrize("name", ALL)
def test_more_is_done_in_more_time_and_never_more_than_there_is(
    name: str, trained: Path, encoded: Path, subject: Subject, tmp_path: Path
) -> None:
    ((analysis, options),) = parts(trained, encoded, tmp_path, [name])
    seconds = subject.rates[""].seconds
    costs = []
    for share in (0.0, 0.5, 1.0):
        dialled = options.dialled(share, subject)
        analysis.check(dialled, subject)
        costs.append(seconds(analysis.cost(dialled, subject)))
    assert 0 < costs[0] <= costs[1] <= costs[2]


def test_given_options_are_kept_and_others_chosen_once(
    trained: Path, encoded: Path, subject: Subject, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    names = ["band_variance", "leakage"]
    given = parts(trained, encoded, tmp_path, names, band_variance={"anchors": 7})
    first = chosen(given, subject, 30.0, tmp_path)
    assert first[0][1].anchors == 7
    assert first[0][1].minutes is None
    said = capsys.readouterr().err
    assert "draws" in said
    assert "anchors" not in said.split("band_variance")[1].split(";")[0]
    before = subject.rates
    subject.rates = {}  # a run that goes on tries nothing
    again = chosen(given, subject, 30.0, tmp_path)
    assert not subject.rates
    subject.rates = before
    assert [options for _, options in again] == [options for _, options in first]
    with pytest.raises(ValueError, match=r"--minutes 5: .* was begun for 30 minutes"):
        chosen(given, subject, 5.0, tmp_path)
    facts = json.loads((tmp_path / CHOSEN).read_text())
    (tmp_path / CHOSEN).write_text(json.dumps({**facts, "images": 500}))  # as of another --part
    with pytest.raises(ValueError, match="was begun on 500 images, not on 96"):
        chosen(given, subject, 30.0, tmp_path)
    (tmp_path / CHOSEN).write_text(json.dumps({**facts, "analyses": {"leakage": 3}}))
    with pytest.raises(ValueError, match="holds no choice of options"):
        chosen(given, subject, 30.0, tmp_path)


def test_results_that_are_there_keep_their_options(
    trained: Path, encoded: Path, subject: Subject, tmp_path: Path
) -> None:
    (tmp_path / "leakage").mkdir()
    head = {"settings": {"images": 11, "seed": 0}, "of": {}, "names": {}}
    (tmp_path / "leakage" / "journal.jsonl").write_text(json.dumps(head) + "\n")
    given = parts(trained, encoded, tmp_path, ["leakage"])
    ((_, options),) = chosen(given, subject, 1.0, tmp_path)
    assert options.images == 11


def test_the_least_is_done_where_time_is_short(
    trained: Path, encoded: Path, subject: Subject, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    given = parts(trained, encoded, tmp_path, ["leakage"])
    ((_, options),) = chosen(given, subject, 0.01, tmp_path)
    assert options.images == options.dials["images"][0]
    assert "0.01 minutes are not enough for the least of each" in capsys.readouterr().err


@pytest.mark.parametrize("option", [{"part": "all"}, {"minutes": 3}])
def test_settings_of_one_do_not_hold_what_is_one_for_all(
    option: dict[str, object], trained: Path, encoded: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="is one for all analyses"):
        parts(trained, encoded, tmp_path, ["leakage"], leakage=option)


def test_time_is_shared_out() -> None:
    ends = [(1.0, 5.0), (20.0, 90.0), (2.0, 90.0), (3.0, 90.0)]
    given = share_out(ends, 60.0)
    assert sum(given) == pytest.approx(60.0)
    assert given[0] == 5.0
    assert given[2] == given[3]
    assert share_out([(9.0, 9.0), (8.0, 80.0)], 3.0) == [9.0, 8.0]  # the least is always done


def test_a_study_never_chooses_by_time() -> None:
    from gdm_repr.analysis.study.choices import StudyConfig, list_choices

    base = {"train": {"data": "digits"}, "choices": {"one": {}}}
    for options, word in (({"minutes": 3}, "minutes"), ({"features": ["auto"]}, "auto")):
        with pytest.raises(ValueError, match=word):
            list_choices(build(StudyConfig, {**base, "score": options}))


def test_help_names_the_minutes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["all", "--help"])
    assert "--minutes" in capsys.readouterr().out
