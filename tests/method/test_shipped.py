"""The model that comes with the package, on scenes that it never saw."""

from pathlib import Path

import pytest
import torch

from gdm_repr import GDM, encode
from gdm_repr.api import model_preprocess
from gdm_repr.checkpoint import ASSETS, find_checkpoint
from gdm_repr.config import SHIPPED, SHIPPED_DATA, EncodeConfig
from gdm_repr.data.loading import open_data
from gdm_repr.latents.store import open_store

HELD_OUT = 24
LARGEST = 8_000_000  # bytes of the file


@pytest.fixture(scope="module")
def model() -> GDM:
    return GDM.from_pretrained(SHIPPED, device="cpu")


def test_it_is_small_and_has_a_card() -> None:
    assert find_checkpoint(SHIPPED) == ASSETS / "scenes.safetensors"
    assert find_checkpoint(SHIPPED).stat().st_size <= LARGEST
    card = (ASSETS / "scenes.md").read_text(encoding="utf-8")
    for word in ("Data", "Images seen", "Hardware", "Limits"):
        assert word in card


def test_it_never_saw_what_scenes_and_the_samples_are(model: GDM) -> None:
    start, stop = map(int, str(model.checkpoint.training["data"]).split(":")[1].split("-"))
    assert start >= len(open_data("scenes", model.checkpoint.preprocess)) and stop > start
    names = set(open_data(SHIPPED_DATA, model.checkpoint.preprocess).ids)
    assert names <= set(open_data("scenes", model.checkpoint.preprocess).ids)


def test_held_out_scenes_come_back_and_their_latents_have_unit_scale(model: GDM) -> None:
    data = open_data("scenes", model_preprocess(model), first=HELD_OUT)
    plan = model.plan(64)
    encoding = model.encode(data.batch(range(HELD_OUT)).x, plan, round_trip=True)
    assert encoding.round_trip_error is not None
    assert float(encoding.round_trip_error.square().mean().sqrt()) <= 0.01
    index = torch.from_numpy(model.grouping.index)[0]
    for band in range(model.grouping.k):
        z = encoding.z[:, :, index == band]
        # 24 scenes tell the std of a band to about .02; over 10,000 the card has it
        assert float(z.std()) == pytest.approx(1, abs=0.1)


def test_encode_without_options_is_of_the_shipped_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GDM_REPR_TRACK", "false")
    few = ["--limit", "2", "--steps", "3", "--no-round-trip"]  # only to be soon done
    assert encode.main(few) == 0
    assert "encoded 2 images" in capsys.readouterr().out
    store = open_store(tmp_path / "latents")
    assert store.manifest.shape == (3, 32, 32) and "background_hue" in store.manifest.labels


def test_another_model_needs_data() -> None:
    assert EncodeConfig.model_validate({}).images() == SHIPPED_DATA
    with pytest.raises(ValueError, match=r"--data is required with --checkpoint 'runs/x'"):
        EncodeConfig.model_validate({"checkpoint": "runs/x"}).images()
