"""``~`` is the home folder, in every option that is a path and every function that takes one."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from pydantic import BaseModel, TypeAdapter

from gdm_repr.analysis.runner import ANALYSES, load
from gdm_repr.analysis.study.choices import StudyConfig
from gdm_repr.cli import COMMANDS
from gdm_repr.command import Command, parse
from gdm_repr.config import EncodeConfig
from gdm_repr.files import user_path, user_place
from gdm_repr.serve.options import ServeConfig

PLACES = {"data", "checkpoint", "reference_data"}  # paths or names


def models() -> list[type[Command]]:
    """All options models there are."""
    for row in COMMANDS.values():
        importlib.import_module(row.module)
    for name in ANALYSES:
        load(name)
    found, left = [], [Command]
    while left:
        left += (model := left.pop()).__subclasses__()
        found.append(model)
    return [model for model in found if model.__module__.startswith("gdm_repr.")]


def fields(model: type[BaseModel], place: str = "") -> Iterator[tuple[str, Any]]:
    """Every option with its type, those of models in models too."""
    for name, field in model.model_fields.items():
        whole: Any = (
            Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        )
        yield f"{place}{name}", whole
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fields(field.annotation, f"{place}{name}.")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    return home


def test_every_option_that_is_a_path_expands(home: Path) -> None:
    paths = places = 0
    for model in models():
        for name, kind in fields(model):
            if "Path" in str(kind):
                assert TypeAdapter(kind).validate_python("~/x") == home / "x", (model, name)
                paths += 1
            elif name == "baseline" or (model is ServeConfig and name in {"checkpoint", "latents"}):
                words = TypeAdapter(kind).validate_python("k1=~/a,~/b")
                assert words == (f"k1={home / 'a'}", str(home / "b")), (model, name)
            elif name in PLACES:
                adapter = TypeAdapter(kind)
                assert adapter.validate_python("~/x") == str(home / "x"), (model, name)
                given = adapter.validate_python("cifar10:~/x")
                assert given == f"cifar10:{home / 'x'}", (model, name)
                places += 1
    assert paths > 60 and places > 30
    assert StudyConfig in models() and EncodeConfig in models()


def test_flag_yaml_and_environment_agree(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "c.yaml").write_text("labels: ~/l.csv\n", "utf-8")
    monkeypatch.setenv("GDM_REPR_DATA", "~/images")
    options = parse(EncodeConfig, "encode", ["--out=~/lat", "--config=~/c.yaml"])
    assert options.out == home / "lat" and options.labels == home / "l.csv"
    assert options.data == str(home / "images") and options.config == home / "c.yaml"
    monkeypatch.setenv("GDM_REPR_CONFIG", "~/c.yaml")
    assert parse(EncodeConfig, "encode", []).labels == home / "l.csv"


def test_only_a_home_folder_is_expanded(home: Path) -> None:
    assert user_path("~no-such-user/x") == Path("~no-such-user/x")
    assert user_path("a/~/b") == Path("a/~/b") and user_path("./~") == Path("~")
    assert user_place("scenes:0-64") == "scenes:0-64" and user_place("digits") == "digits"
    assert user_place("mpi3d:~/a.npz:real") == f"mpi3d:{home}/a.npz:real"


def test_public_functions_expand(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gdm_repr import GDM
    from gdm_repr.analysis.columns.baselines import read_codes
    from gdm_repr.analysis.features.pretrained import Published, find_weights
    from gdm_repr.checkpoint import ASSETS, load_checkpoint
    from gdm_repr.data.images import Preprocess
    from gdm_repr.data.labels import read_labels
    from gdm_repr.data.loading import open_data
    from gdm_repr.latents.store import open_store
    from gdm_repr.tracking.run import start
    from gdm_repr.tracking.sender import replay

    (home / "model.safetensors").write_bytes((ASSETS / "scenes.safetensors").read_bytes())
    assert GDM.from_pretrained("~", device="cpu").shape == (3, 32, 32)
    assert load_checkpoint("~/model.safetensors").shape == (3, 32, 32)
    np.save(home / "a.npy", np.zeros((2, 4, 4, 3), np.uint8))
    assert len(open_data("~/a.npy", Preprocess())) == 2
    (home / "l.csv").write_text("file,l\na,1\n", "utf-8")
    assert read_labels("~/l.csv", ["a"]) == {"l": [1]}
    np.savez(home / "codes.npz", codes=np.ones((1, 2)), ids=np.array(["a"]))
    assert read_codes(Path("~/codes.npz"))[0] == {"a": 0}
    assert find_weights(Published.at("http://x/y"), Path("~/a.npy")).path == home / "a.npy"
    for call in (
        lambda: open_store("~/none"),
        lambda: load_checkpoint("~/none.safetensors"),
        lambda: replay(Path("~/none"), "sqlite:///x.db"),
    ):
        with pytest.raises(ValueError, match=str(home)):
            call()
    monkeypatch.setattr("gdm_repr.tracking.run.follow_run", lambda out, within: None)
    start("encode", {}, "~/run")
    assert (home / "run" / "track.jsonl").exists()
    assert not Path("~").exists()
