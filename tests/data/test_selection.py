"""A limit is a sample spread over the source; the first items stay where work began with them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gdm_repr import encode, prepare, train
from gdm_repr.analysis.options import AnalysisConfig
from gdm_repr.analysis.subject import Subject
from gdm_repr.checkpoint import load_tensors, save_tensors
from gdm_repr.data.dataset import ImageDataset
from gdm_repr.data.images import Preprocess
from gdm_repr.data.labels import Labels
from gdm_repr.data.loading import open_begun, open_data
from gdm_repr.data.selection import find_classes, spread
from gdm_repr.latents.store import open_store


@given(st.lists(st.sampled_from(["a", "b", "c", None, 7]), min_size=1, max_size=200), st.data())
def test_every_class_gives_its_share(classes: list[str | int | None], data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(classes) + 3))
    for known in (classes, None):
        chosen = spread(len(classes), n, known)  # type: ignore[arg-type]
        assert len(chosen) == min(n, len(classes))
        assert (np.diff(chosen) > 0).all() and chosen[0] >= 0 and chosen[-1] < len(classes)
    taken = Counter(classes[i] for i in spread(len(classes), n, classes))  # type: ignore[arg-type]
    for each, count in Counter(classes).items():
        assert abs(taken[each] - count * min(1, n / len(classes))) < 1


def test_the_sample_is_the_same_on_every_machine() -> None:
    assert spread(1000, 6, None).tolist() == [99, 310, 321, 476, 674, 767]
    assert spread(10, 4, list("aabbbbbbaa")).tolist() == [1, 3, 6, 9]


def test_without_classes_it_is_spread_over_the_whole_source() -> None:
    chosen = spread(100_000, 1000, None)
    counts = np.histogram(chosen, 10, (0, 100_000))[0]
    assert (counts > 60).all() and (counts < 140).all()  # 100 each, std 10
    assert len(set(np.diff(chosen).tolist())) > 50  # and by no pattern


def test_which_column_holds_classes() -> None:
    several: Labels = {"shape": [1, 1, 2, 2], "hue": [3, 3, 4, 4]}
    assert find_classes({"label": ["a", "a", "b", "b"], **several}) == ["a", "a", "b", "b"]
    assert find_classes({"digit": [1, 2, 1, 2]}) == [1, 2, 1, 2]
    none: list[Labels] = [{}, several, {"x": [0.5, 1.5] * 2}, {"label": [0.5, 1.5] * 2}]
    none += [{"label": [1] * 4}, {"y": [1, 2, 3]}]
    assert all(find_classes(labels) is None for labels in none)


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder a class: 30 of a, 60 of b, 10 of c."""
    root = tmp_path_factory.mktemp("classes")
    rng = np.random.default_rng(0)
    for name, count in (("a", 30), ("b", 60), ("c", 10)):
        (root / name).mkdir()
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(root / name / f"{i}.png")
    return root


def by_folder(dataset: ImageDataset) -> Counter[str]:
    return Counter(name.split("/")[0] for name in dataset.ids)


def test_a_folder_of_classes(classes: Path) -> None:
    whole, part = (open_data(classes, Preprocess(), limit=n) for n in (None, 20))
    assert by_folder(part) == {"a": 6, "b": 12, "c": 2}
    assert part.ids == [name for name in whole.ids if name in set(part.ids)]  # in order
    assert part.ids == open_data(classes, Preprocess(), limit=20, seed=3).ids
    assert (part.chosen, open_data(classes, Preprocess(), first=20).chosen) == ("sample", "first")
    tiles = open_data(classes, Preprocess(size=4, fit="tile"), limit=40)
    assert by_folder(tiles) == {"a": 12, "b": 24, "c": 4}
    assert len({name.split("#")[1] for name in tiles.ids}) == 4
    with pytest.raises(ValueError, match="limit=3, first=2: both given"):
        open_data(classes, Preprocess(), limit=3, first=2)


def test_labels_of_a_file_count(classes: Path, tmp_path: Path) -> None:
    names = open_data(classes, Preprocess()).ids
    rows = [f"{name},{'odd' if i % 2 else 'even'}" for i, name in enumerate(names)]
    (tmp_path / "l.csv").write_text("\n".join(["file,label", *rows]))
    part = open_data(classes, Preprocess(), labels=tmp_path / "l.csv", limit=10)
    assert Counter(part.labels["label"]) == {"odd": 5, "even": 5}


def test_a_range_of_scenes_is_sampled_within() -> None:
    part = open_data("scenes:100-200", Preprocess(size=16), limit=10)
    numbers = [int(name) for name in part.ids]
    assert numbers == sorted(numbers) and numbers != [*range(100, 110)]
    assert set(numbers) <= {*range(100, 200)}


def test_begun_with_the_first(classes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = open_data(classes, Preprocess(), first=5)
    sample = open_data(classes, Preprocess(), limit=5)
    for begun, expected in (
        (None, sample), ("another's", sample), (sample.fingerprint(), sample),
        (first.fingerprint(), first),
    ):  # fmt: skip
        assert not capsys.readouterr().err
        assert open_begun(classes, Preprocess(), begun=begun, limit=5).ids == expected.ids
    assert "begun with the first 5 items and goes on with them" in capsys.readouterr().err


def test_train_and_encode_take_the_same(
    trained: Path, make_store: Callable[..., Path], tmp_path: Path
) -> None:
    flags = "--data digits --limit 30 --steps 3 --no-round-trip --seed 9"
    assert (
        open_store(make_store(tmp_path / "z", trained, flags)).ids
        == open_data("digits", Preprocess(), limit=30).ids
    )


def as_an_earlier_version(store: Path) -> None:
    """Leave what an earlier version wrote: a store that does not say how items were chosen."""
    facts = json.loads((store / "manifest.json").read_text())
    assert facts["settings"].pop("chosen") == "first"
    del facts["sha256"]  # nor had it digests
    (store / "manifest.json").write_text(json.dumps(facts))


def test_a_store_begun_before_keeps_its_first(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, argv = tmp_path / "z", ["--checkpoint", str(trained), "--data", "digits", "--no-track"]
    argv += ["--steps", "3", "--no-round-trip", "--shard-size", "4", "--out", str(store)]
    assert encode.main([*argv, "--first", "10"]) == 0
    ids = open_store(store).ids
    as_an_earlier_version(store)
    (store / "shards" / "shard-00001.parquet").unlink()
    capsys.readouterr()
    assert encode.main([*argv, "--limit", "10"]) == 0
    assert "begun with the first 10 items" in capsys.readouterr().err
    assert open_store(store).ids == ids == open_data("digits", Preprocess(), first=10).ids
    assert encode.main([*argv, "--limit", "11"]) == 2


def test_prepared_and_trained_work_keeps_its_first(
    classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--data", str(classes), "--out", str(tmp_path / "small")]
    assert prepare.main([*argv, "--first", "7"]) == 0
    assert prepare.main([*argv, "--limit", "7"]) == 0
    assert "begun with the first 7 items" in capsys.readouterr().err
    assert prepare.main([*argv, "--limit", "8"]) == 2
    model = '{"network": {"name": "mlp", "width": 4, "depth": 1}}'
    argv = ["--data", str(classes), "--out", str(tmp_path / "run"), "--model", model]
    argv += ["--batch-size", "4", "--no-track", "--resume"]
    assert train.main([*argv, "--images", "8", "--first", "7"]) == 0
    state = tmp_path / "run" / "state.safetensors"
    tensors, facts = load_tensors(state)
    facts["config"]["limit"] = facts["config"].pop("first")  # as an earlier version wrote it
    save_tensors(state, tensors, facts)
    capsys.readouterr()
    assert train.main([*argv, "--images", "16", "--limit", "7"]) == 0
    assert "begun with the first 7 items" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["limit", "first", "before"])
def test_an_analysis_finds_the_images_of_a_store(
    how: str, trained: Path, make_store: Callable[..., Path], tmp_path: Path
) -> None:
    flag = "--limit" if how == "limit" else "--first"
    flags = f"--data digits {flag} 10 --steps 3 --no-round-trip"
    store = make_store(tmp_path / "z", trained, flags)
    if how == "before":
        as_an_earlier_version(store)
    given = {"checkpoint": str(trained), "latents": store, "out": tmp_path / "none"}
    subject = Subject.open(AnalysisConfig.model_validate(given))
    assert subject.dataset.ids == subject.store.ids
    assert subject.images([0, 9]).shape == (2, 1, 8, 8)
