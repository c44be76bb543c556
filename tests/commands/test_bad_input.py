"""Bad images, configs, checkpoints and stores: each has its clear outcome, and none a traceback."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from gdm_repr import decode, encode, sample, train
from gdm_repr.checkpoint import load_tensors, save_tensors
from gdm_repr.latents.store import open_store

COMMANDS = {"train": train, "encode": encode, "decode": decode, "sample": sample}
MODEL = """
data: digits
limit: 100
preprocess: {dequantize: true}
model: {network: {name: mlp, width: 8, depth: 1}}
batch_size: 32
images: 64
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a store and every kind of bad file."""
    home = tmp_path_factory.mktemp("bad")
    (home / "good.yaml").write_text(MODEL)
    run = ["--config", str(home / "good.yaml"), "--no-track"]
    assert train.main([*run, "--out", str(home / "model")]) == 0
    assert train.main([*run, "--out", str(home / "other"), "--seed", "1"]) == 0
    base = ["--checkpoint", str(home / "model"), "--data", "digits", "--no-track"]
    flags = ["--limit", "8", "--steps", "2", "--shard-size", "4"]
    for name in ("store", "cut", "gone", "torn"):
        assert encode.main([*base, *flags, "--out", str(home / name)]) == 0
    shard = next((home / "cut" / "shards").iterdir())
    shard.write_bytes(shard.read_bytes()[:200])
    next((home / "gone" / "shards").iterdir()).unlink()
    (home / "torn" / "manifest.json").write_text("{")

    model = home / "model" / "model.safetensors"
    tensors, facts = load_tensors(model)
    (home / "short.safetensors").write_bytes(model.read_bytes()[:500])
    (home / "text.safetensors").write_text("not a model")
    save_file({"a": torch.zeros(1)}, home / "foreign.safetensors")
    save_tensors(home / "future.safetensors", tensors, {**facts, "format": 99})
    missing = {k: v for k, v in tensors.items() if k != "mean"}
    save_tensors(home / "missing.safetensors", missing, facts)
    broken = {k: v * float("nan") if v.is_floating_point() else v for k, v in tensors.items()}
    save_tensors(home / "nan.safetensors", broken, facts)
    save_tensors(home / "basis.safetensors", tensors, {**facts, "basis_fingerprint": "0"})

    (home / "list.yaml").write_text("- 1\n")
    (home / "syntax.yaml").write_text("data: [\n")
    (home / "unknown.yaml").write_text("dato: digits\n")
    (home / "empty").mkdir()
    (home / "junk").mkdir()
    (home / "junk" / "a.png").write_bytes(b"no picture")
    np.save(home / "shape.npy", np.zeros((2, 3, 5), np.float32))
    np.save(home / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(home / "groups.npy", np.zeros((8, 8)))
    return home


TRAIN = "train --config {home}/good.yaml --out {home}/new --no-track "
ENCODE = "encode --checkpoint {home}/model --data digits --limit 8 --out {home}/new --no-track "
DECODE = "decode --checkpoint {home}/model --out {home}/new --no-track --latents {home}/"
SAMPLE = "sample --n 2 --out {home}/new --no-track --checkpoint {home}/"

CASES = [
    (TRAIN + "--lr -1", "greater than 0"),
    (TRAIN + "--images 0", "greater than or equal to 1"),
    (TRAIN + "--data nowhere", "nowhere"),
    (TRAIN + "--data {home}/empty", "empty"),
    (TRAIN + "--data {home}/junk", "junk"),
    (TRAIN + "--model.basis.name wavelet", "identity, dct, blur"),
    (TRAIN + "--model.grouping.name stripes", "bottom-to-top"),
    (TRAIN + "--model.process quadratic", "linear"),
    (TRAIN + "--model.network.name transformer", "ddpmpp"),
    (TRAIN + '--model.grouping {{"name":"bands","cuts":[9,3]}}', "increase strictly"),
    (TRAIN + '--model.grouping {{"name":"bands","cutz":[3]}}', "not an option of 'bands'"),
    (TRAIN + '--model.grouping {{"name":"file","path":"{home}/groups.npy"}}', "integers"),
    (TRAIN + '--model.grouping {{"name":"blocks","order":[0,0]}}', "permutation"),
    (TRAIN + "--widths 0.5,0.6", "sum to 1"),
    (TRAIN + "--accumulate 3", "divide"),
    (TRAIN + "--device tpu", "'auto', 'cpu' or 'cuda'"),
    ("train --config {home}/good.yaml --no-track --out {home}/model --images 99999", "--resume"),
    ("train --config {home}/good.yaml --no-track --out {home}/model --resume --lr 0.5", "lr=0.5"),
    ("train --config {home}/list.yaml --out {home}/new", "list"),
    ("train --config {home}/syntax.yaml --out {home}/new", "YAML"),
    ("train --config {home}/unknown.yaml --out {home}/new --data digits", "dato"),
    ("train --config {home}/absent.yaml --out {home}/new", "absent.yaml"),
    ("train --out {home}/new", "--data is required"),
    (SAMPLE + "absent.safetensors", "no such file"),
    (SAMPLE + "short.safetensors", "not a whole safetensors file"),
    (SAMPLE + "text.safetensors", "not a whole safetensors file"),
    (SAMPLE + "foreign.safetensors", "no gdm_repr metadata"),
    (SAMPLE + "future.safetensors", "format 99"),
    (SAMPLE + "missing.safetensors", "do not fit together"),
    (SAMPLE + "nan.safetensors", "not finite"),
    (SAMPLE + "basis.safetensors", "fingerprint"),
    (SAMPLE + "model --steps 0", "every group needs one step"),
    (SAMPLE + "model --solver verlet", "euler, midpoint"),
    (ENCODE + "--size 9", "8x8"),
    (ENCODE + "--steps 2,3", "2 counts for 1 groups"),
    (ENCODE + "--inverse", "one-step"),
    (ENCODE + "--limit 0", "greater than or equal to 1"),
    ("encode --checkpoint {home}/model --data digits --no-track --out {home}/store", "store"),
    (DECODE + "nowhere", "no latent store"),
    (DECODE + "cut", "damaged"),
    (DECODE + "gone", "encode again"),
    (DECODE + "torn", "damaged manifest.json"),
    (DECODE + "shape.npy", "must be floats of shape (N, 1, 64)"),
    (DECODE + "objects.npy", "not a whole .npy array"),
    (
        "decode --checkpoint {home}/other --latents {home}/store --out {home}/new --no-track",
        "checkpoint",
    ),
]


@pytest.mark.parametrize(("line", "says"), CASES, ids=[case[0][-40:] for case in CASES])
def test_bad_input_is_one_clear_line(
    home: Path, capsys: pytest.CaptureFixture[str], line: str, says: str
) -> None:
    command, *argv = line.format(home=home).split()
    main: Callable[[list[str]], int] = COMMANDS[command].main
    try:
        status = main(argv)
    except SystemExit as end:  # argparse
        status = int(end.code or 0)
    last = capsys.readouterr().err.splitlines()[-1]
    assert status == 2
    assert last.startswith(f"gdm-repr {command}: error: ")
    assert says in last


def test_bad_images_are_quarantined_and_the_job_goes_on(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    good = np.random.default_rng(0).integers(0, 255, (8, 8), np.uint8)
    Image.fromarray(good).save(folder / "a_good.png")
    whole = (folder / "a_good.png").read_bytes()
    (folder / "b_empty.png").write_bytes(b"")
    (folder / "c_text.png").write_text("text")
    (folder / "d_cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "e_link.png").symlink_to("nowhere.png")
    (folder / "f_folder.png").mkdir()
    argv = ["--checkpoint", str(home / "model"), "--data", str(folder), "--no-track"]
    assert encode.main([*argv, "--steps", "2", "--out", str(tmp_path / "out")]) == 0
    store = open_store(tmp_path / "out")
    assert store.ids == ["a_good.png"]
    lines = (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()
    rejected = {json.loads(line)["id"]: json.loads(line)["reason"] for line in lines}
    assert {"b_empty.png", "c_text.png", "d_cut.png", "e_link.png"} <= set(rejected)
    assert all(rejected.values())
