"""A served store gives its latents, neighbours and directions; the page has what it asks for."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import torch
from PIL import Image

from gdm_repr import GDM, explore
from gdm_repr.client import Client, Refused
from gdm_repr.edit.contrast import label_contrast
from gdm_repr.edit.direction import learn_from_store, move
from gdm_repr.latents import open_store
from gdm_repr.latents.neighbours import nearest
from gdm_repr.serve import main
from gdm_repr.serve.atlas import read_atlas, trial_effects, trial_elements, trial_latents
from gdm_repr.serve.options import ServeConfig

pytest.importorskip("swagger_ui_bundle")
NPY = "application/x-npy"
PAGES = Path(__file__).parents[2] / "gdm_repr" / "serve" / "pages"


@pytest.fixture(scope="module")
def url(trained: Path, encoded: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service of ``trained`` and ``encoded``, with a report beside."""
    reports = tmp_path_factory.mktemp("reports")
    (reports / "index.html").write_text("<p>all")
    (reports / "leakage").mkdir()
    (reports / "leakage" / "report.html").write_text("<p>one")
    (reports.parent / "secret.txt").write_text("not served")
    shown = explore(trained, encoded, reports=reports)
    yield shown.url
    assert shown.url in shown._repr_html_()
    shown.close()


@pytest.fixture(scope="module")
def model(trained: Path) -> GDM:
    return GDM.from_pretrained(trained)


def test_a_store_lists_its_images(url: str, encoded: Path) -> None:
    store = open_store(encoded)
    (facts,) = Client(url).stores()
    assert (facts["images"], facts["model"]) == (96, "model")
    assert set(facts["labels"]["digit"]) == {str(each) for each in range(10)}
    few: dict[str, Any] = {"label": "digit", "value": "3", "n": 2, "pictures": True}
    found = requests.get(f"{url}v1/stores/latents/items", params=few, timeout=60).json()
    threes = np.flatnonzero(store.labels("digit") == 3)
    assert found["total"] == len(threes)
    assert [each["id"] for each in found["items"]] == [store.ids[row] for row in threes[:2]]
    assert found["items"][0]["labels"] == {"digit": 3}
    picture = Image.open(io.BytesIO(base64.b64decode(found["items"][0]["image"])))
    assert picture.size == (8, 8)
    ids = [store.ids[5], store.ids[2]]
    answer = requests.get(
        f"{url}v1/stores/latents/latents", params={"ids": ids}, headers={"Accept": NPY}, timeout=60
    )
    np.testing.assert_array_equal(np.load(io.BytesIO(answer.content)), store.z([5, 2]))


def test_neighbours_and_directions_are_those_of_the_library(
    url: str, encoded: Path, model: GDM
) -> None:
    store, service = open_store(encoded), Client(url)
    found = service.neighbours(store.ids[7], bands=["0_5", "all"], n=3)
    wanted = nearest(store, store.z([7])[0], ["0_5", "all"], 3, without=7)
    for one, other in zip(found, wanted, strict=True):
        assert [each["id"] for each in one["neighbours"]] == other.ids
        assert (one["closer"], one["of"]) == (other.closer, other.of)
    itself = service.neighbours(store.z([7]), n=1)
    assert [each["neighbours"][0]["distance"] for each in itself] == [0.0] * len(itself)

    learned: dict[str, Any] = {"band": "0_5", "label": "digit", "value": "0"}
    direction = learn_from_store(store, label_contrast(store, "digit", "0"), model.grouping, "0_5")
    told = service.direction(**learned)
    assert told["said"] == direction.sentences()
    np.testing.assert_array_equal(told["vector"], direction.vector.numpy())
    z = torch.from_numpy(store.z([1, 2]))
    moved = service.edit("direction", z.numpy(), latents=True, learned=learned, amounts=[-1.0, 2.0])
    torch.testing.assert_close(
        torch.from_numpy(moved), move(z, direction, [-1.0, 2.0]).flatten(0, 1)
    )
    x = service.edit(
        "direction", [store.ids[1]], learned=learned, amounts=[2.0], query={"steps": 6}
    )
    torch.testing.assert_close(
        torch.from_numpy(x),
        model.decode(move(z[:1], direction, [2.0])[:, 0], model.plan(6)),
        rtol=0,
        atol=2e-5,
    )


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("neighbours", {"ids": ["none"]}, "is not in the store 'latents' (1 of 1 are not)"),
        ("neighbours", {"ids": ["FIRST", "OTHER"]}, "2 given; neighbours are of one image"),
        (
            "neighbours",
            {"ids": ["FIRST"], "store": "x"},
            "store='x': not served; there are latents",
        ),
        ("neighbours", {"ids": ["FIRST"], "bands": ["9_9"]}, "band '9_9'"),
        ("neighbours", {"ids": ["FIRST"], "n": 99}, "ask for fewer"),
        ("directions", {"band": "0_5"}, "give a label with its value, or two lists of ids"),
        ("directions", {"band": "0_5", "label": "digit"}, "value: missing"),
        ("directions", {"band": "0_5", "label": "x", "value": "1"}, "'x'"),
        ("directions", {"band": "0_5", "label": "digit", "value": "77"}, "'77'"),
        ("directions", {"band": "0_5", "positive": ["FIRST"], "negative": ["OTHER"]}, "at least 8"),
        ("edit", {"operation": "mix", "ids": ["FIRST"], "references": [1]}, "references"),
    ],
)
def test_what_is_wrong_is_said(
    url: str, encoded: Path, path: str, body: dict[str, Any], says: str
) -> None:
    first, other = open_store(encoded).ids[:2]
    text = json.dumps(body).replace("FIRST", first).replace("OTHER", other)
    found = requests.post(f"{url}v1/{path}", json=json.loads(text), timeout=60)
    assert (found.status_code, says in found.json()["detail"]) == (422, True), found.text


def test_a_film_is_a_gif(url: str, encoded: Path) -> None:
    body: dict[str, Any] = {
        "operation": "interpolate",
        "ids": open_store(encoded).ids[:2],
        "n": 4,
    }
    found = requests.post(
        f"{url}v1/edit",
        json={**body, "bands": ["0_5"]},
        params={"steps": 6},
        headers={"Accept": "image/gif"},
        timeout=60,
    )
    film: Any = Image.open(io.BytesIO(found.content))
    assert (film.n_frames, film.size) == (4, (256, 256))


def test_elements_come_with_what_a_random_direction_does(url: str, model: GDM) -> None:
    found = requests.get(f"{url}v1/elements", timeout=120).json()
    effects = [each["effect"] for each in found["elements"]]
    assert effects == sorted(effects, reverse=True)
    assert all(each["low"] <= each["effect"] <= each["high"] for each in found["elements"])
    assert found["null"] > 0
    # where an image is its latents, every element has one effect, and so has any direction
    tried = trial_elements(model)
    z = trial_latents(model, tried)
    flat = trial_effects(z, tried)
    every = [each["effect"] for each in flat["elements"]] + [flat["null"]]
    np.testing.assert_allclose(every, every[0], rtol=1e-4)


def test_elements_are_the_atlas_of_the_model_that_made_it(tmp_path: Path) -> None:
    folder = tmp_path / "traversal"
    folder.mkdir()
    atlas = {
        "feature": ["a", "a", "pixels"],
        "element": ["3", "0", "0"],
        "effect": [2.0, 1.0, 9.0],
        "effect low": [1.5, 0.5, 8.0],
        "effect high": [2.5, 1.5, 10.0],
    }
    tables = {"atlas": atlas, "random": {"feature": ["a", "pixels"], "effect": [0.25, 1.0]}}
    (folder / "result.json").write_text(json.dumps({"tables": tables}))
    head = {"of": {"checkpoint": "f00", "analysis": "traversal"}}
    (folder / "journal.jsonl").write_text(json.dumps(head) + "\n")
    assert read_atlas(tmp_path, "bee") is None
    found = read_atlas(tmp_path, "f00")
    assert found is not None
    assert [each["element"] for each in found["elements"]] == ["3", "0"]
    assert (found["null"], found["source"]) == (0.25, "atlas")


def test_reports_are_served_and_nothing_beside_them(url: str) -> None:
    assert requests.get(f"{url}v1/reports", timeout=60).json() == {
        "pages": ["index.html", "leakage/report.html"]
    }
    assert requests.get(f"{url}reports/leakage/report.html", timeout=60).text == "<p>one"
    for path in ("reports/../secret.txt", "reports/%2e%2e/secret.txt", "pages/../app.py"):
        request = requests.Request("GET", url + path).prepare()
        request.url = url + path  # as it stands
        with requests.Session() as session:
            assert session.send(request, timeout=60).status_code == 404


def test_the_page_asks_this_service_alone(url: str) -> None:
    page = requests.get(url, timeout=60)
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    for file in PAGES.iterdir():
        assert not re.search(r"https?://|[\"'(]//", file.read_text()), file


def test_ids_of_elements_that_the_page_names_are_there() -> None:
    html = (PAGES / "explorer.html").read_text()
    script = (PAGES / "explorer.js").read_text()
    named = set(re.findall(r"\$\(\"([\w-]+)\"\)", script))
    assert named
    assert named <= set(re.findall(r'id="([\w-]+)"', html))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--latents", "{store}", "--checkpoint", "scenes"], "none of the models made it (scenes)"),
        (["--latents", "a b={store}"], "with a name of letters"),
        (["--latents", "a={store}", "--latents", "a={store}"], "another is called 'a'"),
        (["--reports", "{tmp}/none"], "no such folder"),
        (["--latents", "{tmp}"], "manifest"),
    ],
)
def test_bad_stores_are_refused_at_the_start(
    flags: list[str],
    says: str,
    encoded: Path,
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [each.format(store=encoded, tmp=tmp_path) for each in flags]
    if "--checkpoint" not in flags:
        given += ["--checkpoint", f"digits={trained}"]
    assert main([*given, "--dry-run"]) == 2
    said = capsys.readouterr().err.strip()
    assert says in said
    assert "\n" not in said


def test_places_are_told_on_this_machine_alone(
    url: str, trained: Path, encoded: Path, make_config: Callable[..., ServeConfig]
) -> None:
    (store,) = Client(url).stores()
    assert store["place"] == str(encoded)
    assert make_config(host="127.0.0.1").is_private
    assert not make_config(host="0.0.0.0").is_private


@pytest.fixture
def make_config() -> Callable[..., ServeConfig]:
    return lambda **given: ServeConfig(**given)


def test_explore_refuses_another_models_store(encoded: Path) -> None:
    with pytest.raises(ValueError, match="none of the models made it"):
        explore("scenes", encoded)


def test_the_client_says_why_a_direction_is_refused(url: str) -> None:
    with pytest.raises(Refused, match="give a label with its value"):
        Client(url).direction(band="0_5")
