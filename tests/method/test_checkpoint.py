"""Checkpoints: what is saved is what is loaded, whole or not at all, and nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import shutil
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from gdm_repr.checkpoint import (
    build_denoiser,
    find_checkpoint,
    load_checkpoint,
    load_tensors,
    save_checkpoint,
    save_tensors,
)
from gdm_repr.config import ModelConfig
from gdm_repr.data.images import Preprocess

SHAPE = (3, 4, 6)
Change = Callable[[dict[str, Tensor], dict[str, Any]], object]


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"grouping": {"name": "bands", "cuts": [5, 9], "order": [1, 2, 0]}},
        {"grouping": {"name": "cdm", "per_channel": True}, "basis": {"name": "identity"}},
        {"basis": {"name": "blur", "sigma": 0.5, "padding": "reflect"}, "process": "linear"},
        {"process": "variance-preserving", "denoiser": {"conditioning": "concat"}},
    ],
)
def test_a_loaded_model_is_the_saved_one(
    make_model: Callable[..., Path], tmp_path: Path, parts: dict[str, object]
) -> None:
    path = make_model(tmp_path / "m.safetensors", SHAPE, **parts)
    model = ModelConfig.model_validate(
        {"network": {"name": "mlp", "width": 16, "depth": 1}, **parts}
    )
    torch.manual_seed(1)
    denoiser = build_denoiser(model, SHAPE, torch.rand(3, 24) - 0.5, torch.rand(3, 24) + 0.1)
    preprocess = Preprocess(size=(4, 6), fit="tile", background=(1, 2, 3))
    again = tmp_path / "again.safetensors"
    save_checkpoint(
        again,
        denoiser,
        shape=SHAPE,
        model=model,
        preprocess=preprocess,
        training={"lr": 0.1},
        images=123,
    )
    loaded = load_checkpoint(again)
    k = denoiser.grouping.k
    x_t, A = torch.randn(2, 3, 24), torch.rand(2, k)
    with torch.no_grad():
        assert torch.equal(loaded.denoiser(x_t, A), denoiser.eval()(x_t, A))
    assert (loaded.shape, loaded.images, loaded.training) == (SHAPE, 123, {"lr": 0.1})
    assert (loaded.model, loaded.preprocess) == (model, preprocess)
    for part in ("grouping", "basis"):
        first, second = getattr(loaded.denoiser, part), getattr(denoiser, part)
        assert first.fingerprint() == second.fingerprint()
    assert loaded.denoiser.grouping.names == denoiser.grouping.names
    assert loaded.fingerprint == hashlib.sha256(again.read_bytes()).hexdigest()
    assert loaded.fingerprint != load_checkpoint(path).fingerprint
    assert not loaded.denoiser.training
    assert not any(p.requires_grad for p in loaded.denoiser.parameters())


def test_the_grouping_of_the_checkpoint_counts_not_the_file_it_came_from(tmp_path: Path) -> None:
    import numpy as np

    np.save(tmp_path / "map.npy", np.arange(24) % 2)
    grouping = {"name": "file", "path": str(tmp_path / "map.npy")}
    model = ModelConfig.model_validate({"grouping": grouping, "network": {"name": "mlp"}})
    denoiser = build_denoiser(model, SHAPE, torch.zeros(3, 24), torch.ones(3, 24))
    path = tmp_path / "m.safetensors"
    save_checkpoint(
        path,
        denoiser,
        shape=SHAPE,
        model=model,
        preprocess=Preprocess(),
        training={},
        images=0,
    )
    (tmp_path / "map.npy").unlink()
    loaded = load_checkpoint(path).denoiser.grouping
    assert (loaded.index == np.arange(24) % 2).all()


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_tensors(path, {"a": torch.ones(2)}, {"format": 1})
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_tensors(path, {"a": torch.zeros(2)}, {"format": 1, "path": tmp_path})  # no JSON
    shared = torch.zeros(4)
    with pytest.raises(RuntimeError):
        save_tensors(path, {"a": shared, "b": shared.view(4)}, {"format": 1})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_metadata_are_json_that_others_can_read(
    make_model: Callable[..., Path], tmp_path: Path
) -> None:
    from safetensors import safe_open

    path = make_model(tmp_path / "m.safetensors", SHAPE)
    with safe_open(path, framework="np") as file:
        facts = json.loads(file.metadata()["gdm_repr"])
        assert {"mean", "std", "grouping"} < set(file.keys())
    assert facts["shape"] == [3, 4, 6]
    assert facts["model"]["network"] == {"name": "mlp", "width": 16, "depth": 1}


def drop(name: str) -> Change:
    return lambda tensors, facts: (tensors if name in tensors else facts).pop(name)


def put(name: str, value: object) -> Change:
    return lambda tensors, facts: facts.__setitem__(name, value)


def swap(name: str, tensor: Tensor) -> Change:
    return lambda tensors, facts: tensors.__setitem__(name, tensor)


BROKEN: Mapping[str, tuple[Change, str]] = {
    "format": (put("format", 2), "format 2, this version reads 1"),
    "no format": (drop("format"), "has no gdm_repr metadata"),
    "no mean": (drop("mean"), "do not fit together ('mean')"),
    "no model": (drop("model"), "do not fit together ('model')"),
    "no images": (drop("images"), "do not fit together ('images')"),
    "weight missing": (drop("network.input.weight"), "Missing key"),
    "weight too many": (swap("network.extra", torch.ones(1)), "Unexpected key"),
    "weight of another size": (swap("network.input.bias", torch.ones(3)), "size mismatch"),
    "weight not finite": (swap("network.input.bias", torch.full((16,), torch.nan)), "not finite"),
    "mean not finite": (swap("mean", torch.full((3, 24), torch.inf)), "not finite"),
    "mean of another shape": (swap("mean", torch.zeros(3, 5)), "mean (3, 5)"),
    "std of another shape": (swap("std", torch.ones(1, 24)), "std (1, 24)"),
    "groups of another shape": (swap("grouping", torch.zeros(1, 5).long()), "grouping (1, 5)"),
    "groups with a gap": (swap("grouping", 2 * torch.ones(1, 24).long()), "no partition"),
    "order": (put("order", [1]), "no permutation"),
    "names": (put("names", []), "0 names for 1 groups"),
    "shape": (put("shape", [3, 4]), "do not fit together"),
    "training": (put("training", 3), "do not fit together"),
    "basis": (put("basis_fingerprint", "0"), "another fingerprint"),
    "unknown network": (put("model", {"network": {"name": "resnet"}}), "use one of ddpmpp, mlp"),
    "unknown process": (put("model", {"process": "cubic"}), "choose from linear"),
    "unknown option": (put("preprocess", {"sise": 3}), "sise"),
    "blocks": (put("model", {"network": {"name": "ddpmpp", "blocks": 10**6}}), "blocks"),
    "tensors": (put("model", {"network": {"name": "mlp", "depth": 10_000}}), "larger network"),
    "depth": (put("model", {"network": {"name": "mlp", "depth": 10**9}}), "depth"),
    "width": (put("model", {"network": {"name": "mlp", "width": 10**6}}), "more than the"),
    "channels": (put("model", {"network": {"name": "ddpmpp", "channels": 4 * 10**9}}), "channels"),
    "taps": (put("model", {"basis": {"name": "blur", "kernel_size": 10**9 + 1}}), "kernel_size"),
    "images": (put("images", math.inf), "images inf is no count"),
    "negative images": (put("images", -1), "images -1 is no count"),
    "true images": (put("images", True), "images True is no count"),
    "negative std": (swap("std", -torch.ones(3, 24)), "negative"),
    "std not finite": (swap("std", torch.full((3, 24), torch.nan)), "std holds numbers"),
    "integer mean": (swap("mean", torch.zeros(3, 24).int()), "must be floats"),
    "integer weights": (swap("network.input.bias", torch.zeros(16).int()), "weights are floats"),
    "unknown tensor": (swap("extra", torch.ones(1)), "'extra' is unknown"),
    "axis without stds": (swap("axes.0", torch.eye(72)), "without axes.std"),
    "groups as floats": (swap("grouping", torch.zeros(1, 24)), "not int64"),
    "groups of more channels": (swap("grouping", torch.zeros(2, 24).long()), "grouping (2, 24)"),
    "no group": (swap("grouping", torch.zeros(0, 24).long()), "not int64"),
    "order of floats": (put("order", [0.0]), "no list of group numbers"),
    "order of truths": (put("order", [False]), "no list of group numbers"),
    "names as numbers": (put("names", [1]), "no list of texts"),
    "shape of floats": (put("shape", [3, 4.0, 6]), "not three counts"),
    "shape of none": (put("shape", [3, 0, 6]), "not three counts"),
    "shape as text": (put("shape", "346"), "not three counts"),
    "shape of a line": (put("shape", [1, 1, 10**7]), "sides of more than"),
    "shape turned": (put("shape", [3, 6, 4]), "fingerprint"),
    "no fingerprint": (put("basis_fingerprint", None), "do not fit together"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_parts_that_do_not_fit_are_named(
    make_model: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    tensors, facts = load_tensors(make_model(tmp_path / "m.safetensors", SHAPE))
    change, says = BROKEN[name]
    change(tensors, facts)
    save_tensors(tmp_path / "bad.safetensors", tensors, facts)
    with pytest.raises(ValueError) as error:
        load_checkpoint(tmp_path / "bad.safetensors")
    assert says in str(error.value)
    assert "bad.safetensors" in str(error.value)


def test_what_is_no_checkpoint_is_refused(make_model: Callable[..., Path], tmp_path: Path) -> None:
    whole = make_model(tmp_path / "m.safetensors", SHAPE).read_bytes()
    bad = tmp_path / "bad.safetensors"
    for content in (b"", b"{}", whole[:100], whole[:-1], b"\xff" * 64, whole[8:]):
        bad.write_bytes(content)
        with pytest.raises(ValueError, match="not a whole safetensors file"):
            load_checkpoint(bad)
    save_file({"a": torch.zeros(1)}, bad)
    with pytest.raises(ValueError, match="only models trained by gdm-repr"):
        load_checkpoint(bad)
    save_file({"a": torch.zeros(1)}, bad, metadata={"gdm_repr": "3"})
    with pytest.raises(ValueError, match="only models trained by gdm-repr"):
        load_checkpoint(bad)
    with pytest.raises(ValueError, match="no such file"):
        load_checkpoint(tmp_path / "absent.safetensors")


def test_a_file_of_our_own_is_read_back_only_as_it_was_written(
    make_model: Callable[..., Path], tmp_path: Path
) -> None:
    path = make_model(tmp_path / "m.safetensors", SHAPE)
    tensors, _ = load_tensors(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    bad = tmp_path / "bad.safetensors"
    changed = json.loads(metadata["gdm_repr"]) | {"images": 7}
    for metadatum, says in (
        ({**metadata, "gdm_repr": json.dumps(changed, sort_keys=True)}, "its digest says"),
        ({**metadata, "sha256": "0" * 64}, "its digest says"),
        ({**metadata, "more": ""}, "unknown key 'more'"),
        ({**metadata, "gdm_repr": "[" * 100_000}, "nested too deeply"),
        ({**metadata, "gdm_repr": '{"format": 1, "format": 1}'}, "'format' twice"),
    ):
        save_file(tensors, bad, metadata=metadatum)
        with pytest.raises(ValueError, match=says):
            load_checkpoint(bad)
    save_file({**tensors, "mean": tensors["mean"] + 1}, bad, metadata=metadata)
    with pytest.raises(ValueError, match="its digest says"):
        load_checkpoint(bad)
    del metadata["sha256"]  # as before there were digests
    save_file(tensors, bad, metadata=metadata)
    assert load_checkpoint(bad).images == 0


def header(**entries: object) -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
HEADERS = {
    "longer than the file": ((1 << 40).to_bytes(8, "little"), "shorter than its header"),
    "a list": ((2).to_bytes(8, "little") + b"[]", "no mapping"),
    "a tensor twice": (b"\x0d" + b"\0" * 7 + b'{"a":1,"a":1}', "'a' twice"),
    "metadata of numbers": (header(__metadata__={"a": 1}), "no texts by name"),
    "a tensor of nothing": (header(a={}), "not just dtype"),
    "dtype": (header(a={**F32, "dtype": "F33"}) + b"\0" * 8, "'F33' is unknown"),
    "negative": (header(a={**F32, "shape": [-2]}) + b"\0" * 8, "no counts"),
    "huge": (header(a={**F32, "shape": [2**61, 2**61]}) + b"\0" * 8, "another number of bytes"),
    "overlap": (header(a=F32, b=F32) + b"\0" * 8, "overlap or leave gaps"),
    "more": (header(a=F32) + b"\0" * 9, "another length"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_must_describe_the_bytes_that_follow(tmp_path: Path, name: str) -> None:
    content, says = HEADERS[name]
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a whole safetensors file") as error:
        load_tensors(path)
    assert says in str(error.value)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path / "pipe", tmp_path / "loop", tmp_path, Path("/dev/zero")):
        with pytest.raises(ValueError, match="no such file"):
            load_checkpoint(path)


class Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return (shutil.rmtree, ("never",))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    bad = tmp_path / "m.safetensors"
    bad.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_checkpoint(bad)
    torch.save({"a": Trap()}, bad)
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_checkpoint(bad)


def test_a_model_is_found_by_file_by_folder_and_never_by_a_mistyped_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "a").mkdir(parents=True)
    file = Path("runs/a/model.safetensors")
    file.touch()
    assert find_checkpoint("runs/a") == find_checkpoint(str(file)) == file
    assert find_checkpoint(Path("runs/a")) == file
    for mistyped in ("runs/b", "runs/a/moodel.safetensors", "absent", "a/b/c"):
        assert find_checkpoint(mistyped) == Path(mistyped)


def test_without_the_hub_client_a_hub_id_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"'some-user/some-model'.*install gdm-repr\[hub\]"):
        find_checkpoint("some-user/some-model")


@pytest.mark.parametrize("there", [True, False])
def test_a_hub_id_is_asked_of_the_hub(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the hub cannot be had here: its client's three calls stand in for it
    def model_info(name: str, timeout: float) -> None:
        if not there:
            raise OSError(f"no {name} within {timeout} s")

    def download(name: str, file: str) -> str:
        return str(tmp_path / name / file)

    hub = types.SimpleNamespace(
        HfApi=lambda: types.SimpleNamespace(model_info=model_info),
        hf_hub_download=download,
        try_to_load_from_cache=lambda name, file: None,
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    if there:
        found = find_checkpoint("some-user/some-model")
        assert found == tmp_path / "some-user/some-model/model.safetensors"
    else:
        with pytest.raises(ValueError, match=r"'some-user/some-model'.*the hub does not give it"):
            find_checkpoint("some-user/some-model")
