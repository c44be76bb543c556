"""A logged model does what the Python API does, is found by its names, and is linked with runs."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from gdm_repr import GDM
from gdm_repr.api import model_preprocess
from gdm_repr.checkpoint import find_checkpoint
from gdm_repr.edit.operations import set_element
from gdm_repr.masks import element_mask
from gdm_repr.serve import wire
from gdm_repr.tracking.delivery import KIND_TAG, Delivery
from gdm_repr.tracking.note import NOTE_TAG, make_note, put_note
from gdm_repr.tracking.record import append_event, read_sent
from gdm_repr.tracking.run import main

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
    from mlflow.pyfunc import PyFuncModel

SHAPE = (1, 4, 4)
STEPS = 4
ANSWER = ["The band [0, 5] holds *most* of it."]


@dataclass(frozen=True)
class Logged:
    """A training and an encoding of one experiment, as a store has them."""

    uri: str
    folder: Path
    checkpoint: Path

    @property
    def client(self) -> MlflowClient:
        from mlflow import MlflowClient

        return MlflowClient(self.uri)

    def run(self, name: str) -> Run:
        (run_id,) = read_sent(self.folder / name, self.uri)["runs"].values()
        return self.client.get_run(run_id)

    @property
    def model(self) -> LoggedModel:
        outputs = self.run("train").outputs
        assert outputs is not None
        (output,) = outputs.model_outputs
        return self.client.get_logged_model(output.model_id)


def deliver(out: Path, uri: str, *events: tuple[str, Mapping[str, object]]) -> None:
    for kind, facts in events:
        append_event(out, out.name, kind, facts)
    delivery = Delivery(out, uri)
    delivery.send()
    assert delivery.complete and not delivery.refused


@pytest.fixture(scope="module")
def logged(
    empty_store: Path, make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Logged:
    folder = tmp_path_factory.mktemp("logged")
    shutil.copy(empty_store, folder / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    for name in ("train", "encode"):
        (folder / name).mkdir()
    checkpoint = folder / "train" / "model.safetensors"
    make_model(checkpoint, SHAPE, grouping={"name": "bands", "cuts": [6]})
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    begun = {"experiment": "faces", "parent": None}
    data = ("input", {"name": "digits", "digest": "d" * 64, "source": "digits"})
    end = ("end", {"status": "FINISHED", "error": None})
    deliver(
        folder / "train",
        uri,
        ("start", {"command": "train", "name": "train a", **begun}),
        ("params", {"values": {"lr": "0.1"}}),
        data,
        ("tags", {"values": {"fingerprint.data": "d" * 64}}),
        ("metrics", {"step": 10, "values": {"loss": 2.0}}),
        ("metrics", {"step": 20, "values": {"loss": 1.0}}),
        ("model", {"path": "model.safetensors"}),
        end,
    )
    deliver(
        folder / "encode",
        uri,
        ("start", {"command": "encode", "name": "encode a", **begun}),
        ("tags", {"values": {"fingerprint.checkpoint": digest}}),
        data,
        ("metrics", {"step": 0, "values": {"round_trip_rmse": 0.5}}),
        ("metrics", {"step": 3, "values": {"curve": 0.5}}),
        ("note", {"lines": ["An earlier answer."], "pages": {}}),
        ("note", {"lines": ANSWER, "pages": {"the report": "a b/report.html"}}),
        end,
    )
    return Logged(uri, folder, checkpoint)


@pytest.fixture(scope="module")
def loaded(logged: Logged) -> PyFuncModel:
    import mlflow

    found: PyFuncModel = mlflow.pyfunc.load_model(logged.model.artifact_location)
    return found


@pytest.fixture(scope="module")
def predict(loaded: PyFuncModel) -> Callable[..., Any]:
    """Ask the loaded model: ``predict(inputs, operation="decode")``."""

    def ask(inputs: np.ndarray, **params: object) -> Any:  # noqa: ANN401
        return loaded.predict(inputs, params={"steps": STEPS, **params})

    return ask


@pytest.fixture(scope="module")
def model(logged: Logged) -> GDM:
    return GDM.from_pretrained(logged.checkpoint, device="cpu")


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (3, *SHAPE)).astype(np.float32)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (9, 7), 99).save(buffer, "png")
    return buffer.getvalue()


def test_it_encodes_decodes_and_reconstructs_as_the_api_does(
    predict: Callable[..., Any], model: GDM, x: np.ndarray
) -> None:
    plan = model.plan(STEPS)
    found = model.encode(x, plan, latent_error=True, round_trip=True)
    z = predict(x)
    np.testing.assert_allclose(z, found.z, atol=1e-6)
    back = predict(z, operation="decode")
    np.testing.assert_allclose(back, model.decode(found.z, plan), atol=1e-5)
    np.testing.assert_allclose(predict(x, operation="reconstruct"), back, atol=1e-5)
    measured = predict(x, errors=True)
    np.testing.assert_allclose(measured["z"], z, atol=1e-6)
    assert found.latent_error is not None
    assert measured["errors"]["latent_error"] == pytest.approx(
        found.latent_error.tolist(), rel=1e-3
    )
    assert {"round_trip_error", "round_trip_error_by_group"} <= measured["errors"].keys()
    np.testing.assert_allclose(
        predict(np.array([5, 6]), operation="sample"), model.sample(2, seed=5, plan=plan), atol=1e-5
    )
    many = np.concatenate([x] * 30)  # more than are computed at a time
    np.testing.assert_allclose(predict(many), np.concatenate([z] * 30), atol=1e-5)


def test_files_go_in_and_come_out(predict: Callable[..., Any], model: GDM) -> None:
    file = base64.b64encode(png()).decode()
    images = wire.images_of_files([png()], model_preprocess(model))
    z = predict(np.array([file], dtype=object))
    np.testing.assert_allclose(z, model.encode(images, model.plan(STEPS)).z, atol=1e-6)
    (drawn,) = predict(z, operation="decode", png=True)
    assert Image.open(io.BytesIO(base64.b64decode(drawn))).size == (4, 4)


def test_edits_are_those_of_the_service(
    predict: Callable[..., Any], model: GDM, x: np.ndarray
) -> None:
    plan = model.plan(STEPS)
    z = model.encode(x, plan).z
    asked = json.dumps({"operation": "set", "elements": ["3"], "values": [2.0]})
    expected = model.decode(set_element(z, element_mask("3", 1, 16), 2.0), plan)
    for inputs in (x, z.numpy()):
        found = predict(inputs, operation="edit", edit=asked)
        np.testing.assert_allclose(found, expected, atol=1e-4)
    whole = json.dumps({"operation": "mix", "references": z[:1].tolist(), "bands": ["0-15"]})
    mixed = predict(x, operation="edit", edit=whole)
    np.testing.assert_allclose(mixed, [model.decode(z[:1], plan)[0]] * 3, atol=1e-4)


@pytest.mark.parametrize(
    ("inputs", "params", "says"),
    [
        (np.zeros((1, 1, 4, 4)), {"operation": "guess"}, "operation='guess': choose from encode"),
        (np.zeros((1, 1, 5, 4)), {}, "images"),
        (np.full((1, 1, 4, 4), np.nan), {}, "images"),
        (np.zeros((1, 1, 15)), {"operation": "decode"}, "z"),
        (np.array(["nothing"], dtype=object), {}, r"images\[0\]: is no base64|images\[0\]"),
        (np.zeros((1, 1, 4, 4)), {"order": "1,x"}, "order='1,x': must be numbers"),
        (np.zeros((1, 1, 4, 4)), {"operation": "edit"}, "edit=''"),
        (np.zeros((1, 1, 16)), {"operation": "edit", "edit": '{"operation": "set"}'}, "edit.set"),
        (np.zeros((1, 1)), {"operation": "sample"}, "sample takes seeds"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    predict: Callable[..., Any], inputs: np.ndarray, params: dict[str, Any], says: str
) -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match=says) as caught:
        predict(inputs, **params)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    assert len(str(caught.value).splitlines()) == 1


def test_its_server_reads_json_and_its_own_example(
    logged: Logged, loaded: PyFuncModel, model: GDM, x: np.ndarray
) -> None:
    from mlflow.pyfunc.scoring_server import invocations

    def ask(body: dict[str, Any]) -> np.ndarray:
        schema = loaded.metadata.get_input_schema()  # type: ignore[no-untyped-call]
        data = json.dumps(body).encode()
        answer = invocations(data, "application/json", loaded, schema)  # type: ignore[no-untyped-call]
        assert answer.status == 200
        return np.array(json.loads(answer.response)["predictions"])

    plan = model.plan(STEPS)
    z = ask({"inputs": x.tolist(), "params": {"steps": STEPS}})
    np.testing.assert_allclose(z, model.encode(x, plan).z, atol=1e-5)
    back = ask({"inputs": z.tolist(), "params": {"steps": STEPS, "operation": "decode"}})
    np.testing.assert_allclose(back, model.decode(model.encode(x, plan).z, plan), atol=1e-4)
    folder = logged.model.artifact_location.removeprefix("file://")
    example = loaded.metadata.get_serving_input(folder)
    assert example is not None
    assert ask(json.loads(example)).shape == (1, 1, 16)


def test_a_model_says_what_it_is(logged: Logged) -> None:
    folder = Path(logged.model.artifact_location.removeprefix("file://"))
    told = (folder / "requirements.txt").read_text().splitlines()
    assert [line.split("=")[0] for line in told] == ["mlflow", "gdm-repr"]
    tags = logged.model.tags
    digest = hashlib.sha256(logged.checkpoint.read_bytes()).hexdigest()
    assert tags["fingerprint.checkpoint"] == tags["checkpoint.sha256"] == digest
    assert tags["fingerprint.data"] == "d" * 64
    assert logged.model.params == {"lr": "0.1"}
    text = (folder / "MLmodel").read_text()
    assert "operation" in text and "0_5" in text


def test_models_runs_and_data_are_linked_both_ways(logged: Logged) -> None:
    training, encoding, model = logged.run("train"), logged.run("encode"), logged.model
    assert model.source_run_id == training.info.run_id
    assert encoding.inputs is not None
    assert [each.model_id for each in encoding.inputs.model_inputs] == [model.model_id]
    seen = {(m.key, m.value, m.run_id, m.dataset_name) for m in model.metrics or []}
    assert seen == {
        ("loss", 1.0, training.info.run_id, "digits"),
        ("round_trip_rmse", 0.5, encoding.info.run_id, "digits"),
    }
    assert encoding.data.metrics == {"round_trip_rmse": 0.5, "curve": 0.5}
    before = logged.client.get_metric_history(training.info.run_id, "loss")
    assert [each.step for each in before] == [10, 20]


def test_an_experiment_opens_as_one_of_training(logged: Logged, tmp_path: Path) -> None:
    client = logged.client
    ours = client.get_experiment_by_name("faces")
    assert ours is not None and ours.tags[KIND_TAG] == "custom_model_development"
    ids = [client.create_experiment(name) for name in ("theirs", "untold")]
    client.set_experiment_tag(ids[0], KIND_TAG, "genai_development")
    for name in ("theirs", "untold"):
        (tmp_path / name).mkdir()
        start = {"command": "encode", "name": "n", "experiment": name, "parent": None}
        deliver(tmp_path / name, logged.uri, ("start", start))
    kinds = [client.get_experiment(each).tags[KIND_TAG] for each in ids]
    assert kinds == ["genai_development", "custom_model_development"]


def test_a_note_holds_the_answer_and_what_others_wrote(logged: Logged) -> None:
    run = logged.run("encode")
    place = f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/artifacts"
    note = run.data.tags[NOTE_TAG]
    assert note == (
        f"The band \\[0, 5] holds \\*most\\* of it.\n\n[the report]({place}/a%20b/report.html)"
    )
    written = f"Look here.\n\n{note}"
    logged.client.set_tag(run.info.run_id, NOTE_TAG, written)
    out = logged.folder / "encode"
    deliver(out, logged.uri, ("note", {"lines": ANSWER, "pages": {}}))
    now = logged.run("encode")
    assert now.data.tags[NOTE_TAG] == "Look here.\n\nThe band \\[0, 5] holds \\*most\\* of it."
    link = make_note(now, [], {"comparison": "c.html"})
    for _ in range(2):  # once
        put_note(logged.client, logged.run("encode"), link)
    found = logged.run("encode").data.tags[NOTE_TAG]
    assert found.endswith(f"of it.\n\n[comparison]({place}/c.html)")
    long = make_note(now, ["word " * 2000], {"comparison": "c.html"})
    assert len(long) <= 5000 and long.endswith("/c.html)")


def test_a_model_is_found_by_its_names(
    logged: Logged, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", logged.uri)
    out = str(logged.folder / "train")
    for _ in range(2):  # the second finds its version again
        assert main(["register", out, "faces@champion"]) == 0
        said = capsys.readouterr().out
        assert "version 1 of faces: --checkpoint models:/faces@champion" in said
    (version,) = logged.client.search_model_versions("name = 'faces'")
    assert version.tags["fingerprint.data"] == "d" * 64
    names = ["models:/faces@champion", "models:/faces/1", f"models:/{logged.model.model_id}"]
    names += [f"runs:/{logged.run('train').info.run_id}/model"]
    for name in names:
        found = find_checkpoint(name)
        assert found.read_bytes() == logged.checkpoint.read_bytes()
        assert found.is_relative_to(logged.folder)  # not copied, as it lies here
    for name, says in {
        "models:/faces@loser": r"checkpoint 'models:/faces@loser': MLflow has no such model",
        "models:/facs/1": "MLflow has no such model",
        "models:/m-0": "MLflow has no such model",
        f"runs:/{logged.run('encode').info.run_id}/model": "that run made no model",
        "models:/faces": r"write models:/NAME@ALIAS",
    }.items():
        with pytest.raises(ValueError, match=says) as caught:
            find_checkpoint(name)
        assert len(str(caught.value).splitlines()) == 1


def test_a_name_that_cannot_be_given_is_one_line(
    logged: Logged, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", logged.uri)
    for folder, name, says in (
        ("train", "a/b", "name 'a/b': give NAME or NAME@ALIAS"),
        ("train", "faces@v1", "MLflow does not take it"),
        ("encode", "faces", "its runs made no model"),
        ("nowhere", "faces", "holds no track.jsonl"),
    ):
        assert main(["register", str(logged.folder / folder), name]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert says in line


def test_without_a_store_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ValueError, match=r"checkpoint 'models:/a@b': .* nothing at this place"):
        find_checkpoint("models:/a@b")
    assert not any(tmp_path.iterdir())
