"""What a study holds: every choice with all of its options, and mistakes told beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gdm_repr.analysis.study.choices import Choice, StudyConfig, list_choices
from gdm_repr.analysis.study.fingerprints import choice_fingerprint, model_fingerprint
from gdm_repr.analysis.study.work import Task

TRAIN = {"data": "digits", "images": 100, "model": {"network": {"name": "mlp", "width": 8}}}


def study(**values: Any) -> list[Choice]:  # noqa: ANN401
    return list_choices(StudyConfig(**{"train": TRAIN, **values}))


def test_a_grid_is_crossed_and_laid_over() -> None:
    bands = {"basis": {"name": "dct"}, "grouping": {"name": "bands", "cuts": [6]}}
    choices = study(
        grid={
            "train.model": {"k = 1": {"grouping": {"name": "single"}}, "bands": bands},
            "encode.steps": [12, 24],
        },
        seeds=(0, 7),
    )
    assert [(c.label, c.seed) for c in choices[:4]] == [
        ("k = 1, steps 12", 0), ("k = 1, steps 24", 0),
        ("bands, steps 12", 0), ("bands, steps 24", 0),
    ]  # fmt: skip
    last = choices[-1]
    assert (last.label, last.seed, len(choices)) == ("bands, steps 24", 7, 8)
    training = last.train
    assert training.seed == 7 and training.model.grouping.options() == {"cuts": [6]}
    assert training.model.network.name == "mlp"  # kept: a mapping is laid over
    placed = last.placed(Path("m"), Path("c"))
    encoding, ((_, scoring),) = placed.encode, placed.analyses
    assert (encoding.steps, encoding.data, encoding.seed, scoring.seed) == (24, "digits", 0, 7)
    assert (encoding.out, scoring.latents) == (Path("c/latents"), Path("c/latents"))


def test_a_list_names_each_choice() -> None:
    choices = study(
        choices={"slow": {"train.lr": 1e-4, "train.images": 50}, "fast": {"train.lr": 1e-2}}
    )
    assert [c.label for c in choices] == ["slow", "fast"]
    assert [c.train.images for c in choices] == [50, 100]


def test_a_study_starts_from_a_training_file(tmp_path: Path) -> None:
    base = tmp_path / "train.yaml"
    base.write_text("data: digits\nimages: 7\nlr: 0.5\n")
    (choice,) = study(base=base, train={"images": 9}, grid={"train.widths": {"even": [1.0]}})
    config = choice.train
    assert (config.images, config.lr, config.widths) == (9, 0.5, (1.0,))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "name at least one"),
        (
            {"grid": {"steps": [1, 2]}},
            "option 'steps': must begin with train., encode., score. or analyse.",
        ),
        ({"grid": {"train.imags": [1]}}, "choice 'imags 1': train.imags: no such option"),
        ({"grid": {"train.images": [0]}}, "choice 'images 0': train.images=0: Input should be"),
        ({"grid": {"encode.steps": ["many"]}}, "choice 'steps many': encode.steps"),
        ({"grid": {"score.n": [1]}}, r"choice 'n 1': score.n=1"),
        (
            {"analyse": {"traversals": {}}, "choices": {"a": {}}},
            "analysis 'traversals': unknown; choose from band_var",
        ),
        (
            {"choices": {"a": {"analyse.traversal.anchor": 1}}},
            "choice 'a': analyse.traversal.anchor: no such option",
        ),
        ({"grid": {"encode.steps": [3, 3]}}, "choice 'steps 3': named twice"),
        ({"grid": {"train.hold_out": [0.1, 0.2]}}, "train.hold_out: choices differ in it"),
        ({"grid": {"encode.steps": []}}, "grid.encode.steps: has no values"),
        ({"choices": {"a": {}}, "seeds": (1, 0, 0)}, "--seeds 1,0,0: names a seed twice"),
        (
            {"choices": {"a": {"analyse.sample_quality": {"n": 9}}}},
            "choice 'a': analyse.sample_quality: is what every choice is scored by",
        ),
        ({"choices": {"a": {"analyse.leakage": 3}}}, "choice 'a': analyse.leakage=3: must be opt"),
        (
            {"choices": {"a": {"analyse.leakage": {"precision": "bf16"}}}},
            "choice 'a': analyse.leakage.precision: is one for all analyses of a choice",
        ),
    ],
)
def test_mistakes_are_told_before_anything_is_made(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        study(**values)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train.model": {"grouping": {"name": "rigth-to-left"}}}, "rigth-to-left"),
        (
            {"train.model": {"grouping": {"name": "bands", "cuts": [200]}}},
            "cuts=.200.: cuts must increase strictly between 0 and d=64",
        ),
        ({"train.widths": [0.5, 0.5]}, "widths"),
        ({"encode.steps": [3, 3]}, "2 counts for 1 groups"),
        ({"encode.order": [1, 0]}, "order"),
        ({"encode.solver": "eulr"}, "solver='eulr': unknown"),
        ({"score.features": ["pixls"]}, "extractor 'pixls': unknown"),
        ({"score.n": 51}, "--n 51: the store holds 100 images"),
        ({"analyse.traversal": {"features": ["pixls"]}}, "'pixls'"),
    ],
)
def test_what_does_not_fit_the_images_is_told_too(options: dict[str, Any], words: str) -> None:
    (choice,) = study(choices={"a": options}, score={"features": ["pixels"]})
    with pytest.raises(ValueError, match=f"^choice 'a': .*{words}"):
        choice.check((1, 8, 8), 100)


def test_fingerprints_change_with_what_matters_alone() -> None:
    def of(**options: object) -> str:
        (choice,) = study(choices={"one": {f"train.{k}": v for k, v in options.items()}})
        return model_fingerprint(choice.train, "data")

    assert of() == of(workers=0, checkpoint_every=3, compile=True)
    assert len({of(), of(lr=0.1), of(images=99), of(seed=5)}) == 4

    # of the same data, as many first items are what a limit once was
    assert of(first=60) == of(limit=60) != of()

    def scored(**options: object) -> str:
        names = {key.replace("__", "."): value for key, value in options.items()}
        (choice,) = study(choices={"one": names})
        return choice_fingerprint("model", choice.encode, choice.analyses, "data")

    assert scored() == scored(encode__batch_size=3, score__batch_size=9)
    different: list[dict[str, Any]] = [
        {}, {"encode__steps": 9}, {"score__n": 9}, {"encode__order": [0]},
        {"analyse__leakage": {}}, {"analyse__leakage": {"images": 3}},
    ]  # fmt: skip
    assert len({scored(**options) for options in different}) == 6


def test_a_path_is_no_identity(tmp_path: Path) -> None:
    """Data are known by their fingerprint; studies of built-in data keep those they have had."""

    def of(data: str, labels: str | None = None, fingerprint: str = "f") -> tuple[str, str]:
        train = {**TRAIN, "data": data, "labels": labels}
        (choice,) = study(train=train, encode={"labels": labels}, choices={"one": {}})
        own = choice_fingerprint("model", choice.encode, choice.analyses, fingerprint)
        return model_fingerprint(choice.train, fingerprint), own

    assert of("x.npy") == of("./x.npy") == of(str(tmp_path / "x.npy"))
    assert of("x.npy", "y.csv") == of("x.npy", str(tmp_path / "y.csv"))
    assert len({of("x.npy"), of("x.npy", fingerprint="g"), of("digits"), of("photos")}) == 4
    assert of("digits", "y.csv") != of("digits", "y.csv", fingerprint="g")
    options = {
        "train": {
            "data": "digits",
            "preprocess": {"dequantize": True},
            "model": {
                "network": {"name": "mlp", "width": 16, "depth": 1},
                "grouping": {"name": "bands", "cuts": [6]},
            },
            "images": 2560,
        },
        "encode": {"limit": 60, "steps": 4},
        "score": {"n": 20, "features": ["pixels"]},
        "analyse": {"leakage": {"images": 4}, "disentanglement": {}, "total_correlation": {}},
    }
    (choice,) = list_choices(StudyConfig.model_validate({**options, "choices": {"one": {}}}))
    model = model_fingerprint(choice.train, "D")
    assert model.startswith("13e1577b6233d06d")
    own = choice_fingerprint(model, choice.encode, choice.analyses, "D")
    assert own.startswith("c1a378549f4eb528")


def test_all_analyses_look_at_what_was_encoded() -> None:
    (choice,) = study(
        train={**TRAIN, "data": "a.npy"},
        encode={"labels": "a.csv"},
        score={"precision": "bf16"},
        analyse={"leakage": {}},
        choices={"one": {}},
    )
    assert choice.encode.data == "a.npy"
    for _, options in choice.analyses:
        assert (options.data, options.labels) == ("a.npy", Path("a.csv"))
        assert options.precision == "bf16"
    both = study(grid={"train.data": ["digits", "photos"]})
    assert [each.encode.data for each in both] == ["digits", "photos"]


def test_further_analyses_come_after_the_scores_and_share_the_seed() -> None:
    (choice,) = study(
        analyse={"traversal": {"anchors": 7}, "leakage": {"seed": 8}},
        choices={"one": {"analyse.traversal.features": ["pixels"]}},
        seeds=(5,),
    )
    found = choice.placed(Path("m"), Path("c")).analyses
    names = ["sample_quality", "traversal", "leakage"]
    assert [name for name, _ in found] == names
    assert [options.out for _, options in found] == [Path("c") / name for name in names]
    assert [options.seed for _, options in found] == [5, 5, 8]
    assert found[1][1].model_dump()["anchors"] == 7
    assert found[1][1].model_dump()["features"] == ("pixels",)


def test_a_task_tells_its_process_all_of_the_choice(tmp_path: Path) -> None:
    (choice,) = study(
        train={**TRAIN, "start_from": "scenes", "clip": 1},
        analyse={"traversal": {"anchors": 7, "features": ["pixels"]}, "leakage": {}},
        choices={"one": {"encode.steps": [3], "encode.order": [0]}},
    )
    model, folder = tmp_path / "m", tmp_path / "c"
    task = Task(choice.placed(model, folder), str(model), str(folder), {"a": "b"})
    assert Task.read(task.write()) == task
