"""Directions learned from labels: laws on made latents, the two kinds, then the command."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gdm_repr.edit import command as edit
from gdm_repr.edit.contrast import label_contrast, picked_contrast
from gdm_repr.edit.direction import Direction, learn_direction, learn_from_store, move
from gdm_repr.edit.options import DirectionConfig
from gdm_repr.grouping import build_grouping
from gdm_repr.latents.format import Band, Manifest
from gdm_repr.latents.store import LatentStore, open_store
from gdm_repr.latents.writer import StoreWriter
from gdm_repr.masks import band_mask

SHAPE = (2, 2, 4)
BANDS = build_grouping("bands", SHAPE, cuts=[2, 5])
OWN = band_mask("2_4", BANDS, 2)
KIND: dict[str, Any] = {"positive": "kind = a", "negative": "kind is not a"}


def made(n: int, seed: int = 0) -> tuple[torch.Tensor, NDArray[np.bool_], torch.Tensor]:
    """Latents, and labels that depend on one direction of band 2_4 and on chance."""
    rng = np.random.default_rng(seed)
    w = np.where(OWN, np.random.default_rng(9).standard_normal(OWN.shape), 0)
    w /= np.linalg.norm(w)
    z = rng.standard_normal((n, *OWN.shape))
    labels = (z * w).sum((1, 2)) + rng.normal(scale=0.4, size=n) > 0.3
    return torch.from_numpy(z).float(), labels, torch.from_numpy(w).float()


def learn(n: int, band: str = "2_4", **others: Any) -> Direction:  # noqa: ANN401
    z, labels, _ = made(n)
    return learn_direction(z, labels, BANDS, band, others=others, **KIND)


def test_a_known_direction_is_found_and_its_accuracy_is_that_of_other_images() -> None:
    z, labels, w = made(700)
    found = learn_direction(z, labels, BANDS, "2_4", **KIND)
    assert float((found.vector * w).sum()) > 0.95
    assert float(found.vector.norm()) == pytest.approx(1, abs=1e-6)
    assert not found.vector[torch.from_numpy(~OWN)].any()
    along = (z * found.vector).sum((1, 2))
    assert found.spread == pytest.approx(float(along.std(correction=0)), rel=1e-5)
    assert found.n == (int(labels.sum()), int((~labels).sum()))
    assert found.better_than_chance and found.sentences()[0].startswith("Band 2_4 tells kind = a")
    assert found.chance[0] == pytest.approx(0.5, abs=0.02) and found.chance[1] < 0.6
    value, low, high = found.accuracy
    assert low < value < high < low + 0.1
    # the threshold's place is not part of a direction: the best one on images not seen
    z, labels, _ = made(20_000, seed=1)
    place = (z * found.vector).sum((1, 2)).numpy()

    def accuracy(at: float) -> float:
        return float(np.mean(place[labels] > at) + np.mean(place[~labels] <= at)) / 2

    fresh = max(map(accuracy, np.linspace(-0.5, 1, 16)))
    assert low - 0.01 < fresh < high + 0.01


def test_labels_that_a_band_does_not_hold_get_no_verdict() -> None:
    other = learn(700, band="5_7")
    assert not other.better_than_chance and other.accuracy[1] <= other.chance[0]
    assert other.sentences()[0].startswith("Not better than chance: band 5_7 tells")
    z, labels, _ = made(300)
    rng = np.random.default_rng(3)
    random = [
        learn_direction(z, rng.permutation(labels), BANDS, "2_4", seed=seed, **KIND)
        for seed in range(20)
    ]
    assert sum(found.better_than_chance for found in random) <= 4  # 1 in 20 is by chance
    assert np.mean([found.accuracy[0] for found in random]) == pytest.approx(0.5, abs=0.03)


def test_what_else_it_tells_apart_is_measured_on_other_images() -> None:
    z, labels, w = made(700)
    rng = np.random.default_rng(5)
    flipped = labels ^ (rng.random(700) < 0.1)
    along = (z * w).sum((1, 2)).numpy()
    found = learn(
        700,
        close=["yes" if each else "no" for each in flipped],
        amount=[None if i % 7 == 0 else float(along[i]) for i in range(700)],
        turn=np.arctan2(rng.normal(size=700), along).tolist(),
        nothing=rng.integers(0, 4, 700).tolist(),
        names=[f"image {i}" for i in range(700)],
    )
    moves = {moved.label: moved for moved in found.moves}
    assert set(moves) == {"close", "amount", "turn", "nothing"}  # names tell no factor
    assert found.moves[0] is moves["amount"] and moves["amount"].low > 0.9
    assert moves["amount"].n == 600
    assert moves["close"].clear and moves["close"].expected == pytest.approx(0.64, abs=0.08)
    assert not moves["nothing"].clear and moves["nothing"].expected < 0.01
    text = " ".join(found.sentences())
    assert "by amount, too, which explains" in text and "nothing" not in text
    # a label that comes round is looked at as one
    z, labels, _ = made(700)
    turns = {"turn": np.arctan2(rng.normal(size=700), along).tolist()}
    periods = {"turn": 2 * np.pi}
    (turn,) = learn_direction(z, labels, BANDS, "2_4", others=turns, periods=periods, **KIND).moves
    assert turn.value > moves["turn"].value + 0.1


def test_a_move_goes_along_the_direction_and_nowhere_else() -> None:
    found = learn(200)
    z = made(3, seed=2)[0].double()
    moved = move(z, found, [-2, 0, 1.5])
    assert moved.shape == (3, 3, 2, 8) and moved.dtype == z.dtype
    assert torch.equal(moved[:, 1], z)
    v = found.vector.double()
    step = ((moved - z[:, None]) * v).sum((2, 3)) / found.spread
    assert torch.allclose(step, torch.tensor([-2, 0, 1.5]).double().expand(3, 3), atol=1e-6)
    off = torch.from_numpy(~OWN)
    assert torch.equal(moved[..., off], z[:, None].expand(-1, 3, -1, -1)[..., off])


def test_many_images_are_a_sample_that_keeps_the_rarer_kind() -> None:
    z, _, _ = made(4500)
    rare = np.zeros(4500, np.bool_)
    rare[::150] = True
    assert learn_direction(z, rare, BANDS, "0_1", **KIND).n == (30, 3970)
    assert learn_direction(z, ~rare, BANDS, "0_1", **KIND).n == (3970, 30)
    assert learn_direction(z, np.arange(4500) < 2250, BANDS, "0_1", **KIND).n == (2000, 2000)


def test_a_direction_is_a_function_of_its_seed_and_can_be_written_down() -> None:
    one, same = learn(100), learn(100)
    assert one.facts() == same.facts()
    facts = json.loads(json.dumps(one.facts(), allow_nan=False))
    vector = np.frombuffer(base64.b64decode(facts["vector"]), "<f4").reshape(facts["shape"])
    assert np.array_equal(vector, one.vector.numpy())


def test_more_numbers_than_images_are_no_hindrance() -> None:
    wide = build_grouping("bands", (1, 16, 16), cuts=[40])
    rng = np.random.default_rng(0)
    w = rng.standard_normal((1, 256)) / 16
    labels = np.arange(60) % 3 == 0
    z = rng.standard_normal((60, 1, 256)) + 3 * np.where(labels, 1, -1)[:, None, None] * w
    found = learn_direction(torch.from_numpy(z), labels, wide, "0-255", **KIND)
    assert found.better_than_chance and float((found.vector.numpy() * w).sum()) > 0.7


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"positive_mask": np.arange(50) < 7}, "kind = a: 7 images, and kind is not a: 43; a"),
        ({"positive_mask": np.zeros(50)}, "give a bool for each"),
        ({"positive_mask": np.zeros(49, np.bool_)}, "no mask of the 50 images"),
        ({"band": "none"}, "has no numbers to learn from"),
        ({"band": "9"}, "band '9': unknown"),
        ({"z": torch.zeros(50, 2, 8)}, "the same in all images"),
        ({"z": torch.zeros(50, 8)}, "give latents"),
        ({"z": torch.full((50, 2, 8), torch.nan)}, "not finite"),
        ({"others": {"a": [1]}}, "others 'a': 1 values for 50 images"),
        ({"folds": 1}, "folds=1"),
    ],
)
def test_what_no_direction_comes_from_is_refused(change: dict[str, Any], says: str) -> None:
    z, labels, _ = made(50)
    given = {"z": z, "positive_mask": labels, "grouping": BANDS, "band": "2_4", **KIND, **change}
    with pytest.raises(ValueError, match=says):
        learn_direction(**given)


def store(path: Path, per_channel: bool = False) -> LatentStore:
    """60 images whose labels are whole numbers, texts, truths and amounts, some missing."""
    z, labels, _ = made(60)
    elements = 16 if per_channel else 8
    manifest = Manifest(
        fingerprint={"checkpoint": "c0ffee"},
        bands=[Band("0", 0, 3), Band("1", 3, elements)],
        element_order=[*range(elements)][::-1],
        shape=SHAPE,
        items=60,
        shard_size=25,
        per_channel=per_channel,
        labels={"digit": "int", "name": "string", "new": "bool", "amount": "float"},
    )
    writer = StoreWriter(path, manifest)
    for shard in writer.pending():
        rows = [*writer.rows(shard)]
        writer.write(
            shard,
            index=rows,
            ids=[f"i{row}" for row in rows],
            sources=["made"] * len(rows),
            z=z.numpy()[rows],
            labels={
                "digit": [row % 3 for row in rows],
                "name": ["a" if labels[row] else "b" for row in rows],
                "new": [row % 2 == 0 for row in rows],
                "amount": [row / 7 if row % 6 else None for row in rows],
            },
        )
    writer.finish()
    return open_store(path)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> LatentStore:
    return store(tmp_path_factory.mktemp("labelled") / "z")


@pytest.mark.parametrize(
    ("label", "value", "against", "positive", "rows", "names"),
    [
        ("digit", "1", None, lambda row: row % 3 == 1, 60, ("digit = 1", "digit is not 1")),
        ("digit", "1.0", "2", lambda row: row % 3 == 1, 40, ("digit = 1.0", "digit = 2")),
        ("new", "true", None, lambda row: row % 2 == 0, 60, ("new = true", "new is not true")),
        ("new", "0", "1", lambda row: row % 2 == 1, 60, ("new = 0", "new = 1")),
        ("amount", "median", None, lambda row: row > 30, 50, ("amount above 4.29",
                                                              "amount up to 4.29")),
    ],
)  # fmt: skip
def test_a_label_parts_images(
    labelled: LatentStore, label: str, value: str, against: str | None,
    positive: Callable[[int], bool], rows: int, names: tuple[str, str],
) -> None:  # fmt: skip
    found = label_contrast(labelled, label, value, against)
    assert len(found.rows) == rows and (found.positive, found.negative) == names
    assert [positive(row) for row in found.rows.tolist()] == found.is_positive.tolist()


def test_images_are_picked_by_their_ids(labelled: LatentStore) -> None:
    first = [f"i{row}" for row in (20, *range(10))]
    found = picked_contrast(labelled, [*first, "i3"], [f"i{row}" for row in range(30, 40)])
    assert found.rows.tolist() == [*range(10), 20, *range(30, 40)]
    assert found.is_positive.sum() == 11 and found.label is None
    rest = picked_contrast(labelled, first)
    assert len(rest.rows) == 60 and rest.is_positive.sum() == 11
    assert rest.fingerprint(labelled) != found.fingerprint(labelled)
    for bad, says in (
        ((["i1", "no"], None), "--positive-ids: the store lacks 1 of them, such as 'no'"),
        ((first, ["i3"]), "'i3' is among --positive-ids, too"),
        ((first, ["i40"]), "the others: 1; a direction needs at least 8"),
    ):
        with pytest.raises(ValueError, match=says):
            picked_contrast(labelled, *bad)


@pytest.mark.parametrize(
    ("label", "value", "against", "says"),
    [
        ("nosuch", "1", None, "no label of the store; it has digit, name, new, amount"),
        ("digit", "7", None, "no image has it as its digit, which is one of 0, 1, 2; median"),
        ("digit", "one", None, "--value 'one'"),
        ("digit", "1", "7", "--against '7'"),
        ("digit", "1", "1.0", "is --value, too"),
        ("name", "median", None, "which is one of a, b$"),
        ("amount", "median", "1", "leave it out"),
        ("amount", "1", None, "amount = 1: 1 images, and amount is not 1: 49"),
    ],
)
def test_labels_that_part_nothing_are_refused(
    labelled: LatentStore, label: str, value: str, against: str | None, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        label_contrast(labelled, label, value, against)


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_store_teaches_what_its_latents_do(tmp_path: Path, per_channel: bool) -> None:
    found = store(tmp_path / "z", per_channel)
    contrast = label_contrast(found, "name", "a")
    direct = learn_direction(
        torch.from_numpy(found.z()), contrast.is_positive, BANDS, "2_4", **KIND
    )
    read = learn_from_store(found, contrast, BANDS, "2_4")
    assert torch.equal(read.vector, direct.vector) and read.accuracy == direct.accuracy
    assert {moved.label for moved in read.moves} == {"digit", "new", "amount"}
    assert (read.positive, read.negative) == ("name = a", "name is not a")


BASE = "direction --checkpoint {model} --no-track --tile 16 --out {out} "
THREE = "--label digit --value 3 --bands 0_5,0+1 --amounts -2,0,2 "


def run(line: str, **places: Path) -> int:
    return edit.main(line.format(**places).split())


def test_a_direction_is_drawn_told_and_made_again(
    trained: Path, encoded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x"
    line = BASE + "--latents {store} --items 0,000003 " + THREE
    assert run(line, model=trained, store=encoded, out=out) == 0
    printed = capsys.readouterr().out
    facts = json.loads((out / "direction.json").read_text())
    coarse, both = facts["directions"]
    assert (coarse["positive"], coarse["band"], sum(coarse["n"])) == ("digit = 3", "0_5", 96)
    accuracy = coarse["accuracy"]
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert f"tells digit = 3 from digit is not 3: balanced accuracy {accuracy['value']:.3g} [" in (
        printed
    )
    assert {effect["name"]: effect["n"] for effect in facts["effects"]} == {"0_5": 6, "0+1": 6}
    assert both["better_than_chance"]
    assert facts["learned_from"]["source"] == str(encoded)
    again = ["again", "--recipe", str(out / "direction.json"), "--out", str(tmp_path / "y")]
    assert edit.main([*again, "--no-track"]) == 0
    assert capsys.readouterr().out.endswith("the same bytes\n")
    # images of a source move along the same directions, which are another store's
    line = BASE + "--data digits --steps 12 --items 3 --learn-from {store} " + THREE
    assert run(line, model=trained, store=encoded, out=tmp_path / "images") == 0
    other = json.loads((tmp_path / "images" / "direction.json").read_text())
    assert other["directions"][0]["vector"] == coarse["vector"]
    # the recipe knows what it was learned from
    facts["learned_from"]["fingerprint"] = "0"
    (out / "direction.json").write_text(json.dumps(facts))
    assert edit.main([*again, "--no-track", "--overwrite"]) == 2
    assert "the inputs changed" in capsys.readouterr().err


def test_kinds_may_be_files_of_ids(
    trained: Path, encoded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, rows in (("some.txt", range(10)), ("more.txt", range(20, 40))):
        (tmp_path / name).write_text("\n".join(f"{row:06d}" for row in rows) + "\n")
    line = BASE + "--latents {store} --positive-ids {some} --bands 0 --amounts 2 "
    more = {"some": tmp_path / "some.txt", "more": tmp_path / "more.txt"}
    places = {"model": trained, "store": encoded, "out": tmp_path / "x", **more}
    assert run(line + "--negative-ids {more}", **places) == 0
    printed = capsys.readouterr().out
    assert "the images of some.txt from those of more.txt" in printed
    assert "It was learned from 10 images of the first kind and 20 of the second." in printed
    assert not (tmp_path / "x" / "direction.gif").exists()
    assert run(line, **places) == 2
    assert "holds pictures of another edit (images learned from" in capsys.readouterr().err
    (tmp_path / "some.txt").write_text("\n")
    assert run(line + "--overwrite", **places) == 2
    assert "the images of some.txt: 0 images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--latents {store}", "--label, --positive-ids: neither given"),
        ("--latents {store} --label digit --positive-ids f", "both given"),
        ("--latents {store} --label digit", "--value: is needed with --label 'digit'"),
        ("--latents {store} --positive-ids f --value 3", "--value '3': goes with --label"),
        ("--latents {store} --label digit --value 3 --negative-ids f", "goes with --positive-ids"),
        ("--data digits --label digit --value 3", "--learn-from: is needed with --data"),
        ("--data digits --learn-from {model} --label digit --value 3", "--learn-from '"),
        ("--latents {store} --label digit --value 12", "no image has it as its digit"),
        ("--latents {store} --label digit --value 3 --bands none", "has no numbers"),
        ("--latents {store} --label digit --value 3 --bands 7", "band '7': unknown"),
        ("--latents {store} --positive-ids {model}/none.txt", "no such file"),
        ("--latents {store} --label digit --value 3 --amounts 1e38", "smaller --amounts"),
    ],
)
def test_bad_input_is_one_clear_line(
    trained: Path, encoded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    flags: str, says: str,
) -> None:  # fmt: skip
    assert run(BASE + flags, model=trained, store=encoded, out=tmp_path / "x") == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("gdm-repr edit direction: error: ") and says in told
    assert not (tmp_path / "x").exists()


def test_a_value_of_a_yaml_file_may_be_a_number() -> None:
    given = {"label": 1, "value": 3, "against": None, "latents": "z", "out": "o"}
    config = DirectionConfig.model_validate(given)
    assert (config.label, config.value, config.against) == ("1", "3", None)
