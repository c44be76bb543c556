"""What can be known before work is told before work, and by ``--dry-run``, which writes nothing."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gdm_repr import cli, encode
from gdm_repr.analysis.features.at_hand import features_at_hand
from gdm_repr.analysis.runner import ANALYSES, load
from gdm_repr.config import TrainConfig
from gdm_repr.untrained import build_untrained

NETWORK = '{"name": "mlp", "width": 4, "depth": 1}'
DRAWN = "--features pixels"
QUICK = {
    "band_variance": DRAWN + " --anchors 3",
    "reconstruction": DRAWN + " --images 9",
    "total_correlation": "",
    "traversal": DRAWN + " --anchors 6",
    "factor_map": "",
    "element_factors": "--anchors 6",
    "disentanglement": "",
    "sample_quality": DRAWN + " --n 20",
    "leakage": "--images 3",
}


@pytest.fixture(scope="module")
def lines(trained: Path, encoded: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One command line of each command that can be run; OUT is its folder."""
    home = tmp_path_factory.mktemp("early")
    (home / "images").mkdir()
    for i in range(4):
        Image.new("L", (8, 8), 60 * i).save(home / "images" / f"{i}.png")
    study = {
        "train": {"data": "digits", "images": 64, "model": {"network": json.loads(NETWORK)}},
        "encode": {"limit": 60},
        "score": {"n": 20, "features": ["pixels"]},
        "choices": {"one": {}},
    }
    (home / "study.yaml").write_text(json.dumps(study))
    model, store = f"--checkpoint {trained}", f"--checkpoint {trained} --latents {encoded}"
    edit = f"{model} --data digits --items 0,1"
    found = {
        "init": f"init {home}/images",
        "prepare": f"prepare --data {home}/images",
        "train": f"train --data digits --model.network {NETWORK.replace(' ', '')} --images 64",
        "encode": f"encode {model} --data digits --limit 8",
        "decode": f"decode {store}",
        "sample": f"sample {model} --n 2 --steps 6",
        "edit mix": f"edit mix {edit} --references 2",
        "edit vary": f"edit vary {edit}",
        "edit set": f"edit set {edit} --elements 1",
        "edit interpolate": f"edit interpolate {edit}",
        "edit direction": f"edit direction {store} --items 0,1 --label digit --value 3",
        "study": f"study {home}/study.yaml --no-track",
        "compare": "compare",
        "neighbours": f"neighbours {store} --items 3 --n 2",
        "map": f"map --latents {encoded} --band 0_5",
        "analyse all": f"analyse all {store} {DRAWN} --settings "
        + json.dumps({n: {"n": 20} if n == "sample_quality" else {} for n in QUICK}).replace(
            " ", ""
        )
        + " --only factor_map,leakage,sample_quality",
    }
    found |= {f"analyse {n}": f"analyse {n} {store} {more}" for n, more in QUICK.items()}
    return found


NAMES = ["init", "map", "neighbours", "prepare", "train", "encode", "decode", "sample", "edit mix",
         "edit vary", "edit set", "edit interpolate", "edit direction", "study", "compare",
         "analyse all",
         *(f"analyse {name}" for name in QUICK)]  # fmt: skip


def dry(line: str, out: Path, *more: str) -> int:
    command, *argv = line.split()
    argv += [*more, "--out", str(out), "--dry-run"]
    status: int = importlib.import_module(cli.COMMANDS[command].module).main(argv)
    return status


def said(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


def test_every_command_is_tried() -> None:
    """But order_search, whose model has many orders, and those that write to no folder."""
    others = {"list", "selftest", "serve", "track"}
    assert {name.split()[0] for name in NAMES} | others == set(cli.COMMANDS)
    assert set(QUICK) | {"order_search"} == set(ANALYSES)


@pytest.mark.parametrize("name", NAMES)
def test_a_dry_run_writes_nothing(
    name: str, lines: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert dry(lines[name], tmp_path / "out") == 0
    assert not list(tmp_path.iterdir())


# Every option that names a row of a registry, with what it takes before the name.
REGISTRIES = {
    "solver": "--solver", "coordinate": "--coordinate", "features": "--features",
    "scores": "--scores", "probes": "--probes", "controls": "--controls", "ways": "--ways",
    "estimators": "--estimators", "reader": "--reader", "only": "--only",
    "model.basis.name": "", "model.grouping.name": "", "model.process": "",
    "model.network.name": "",
}  # fmt: skip
OF = {
    "train": [name for name in REGISTRIES if name.startswith("model.")],
    "encode": ["solver", "coordinate"], "sample": ["solver", "coordinate"],
    "edit mix": ["solver", "coordinate"],
    "analyse all": ["only", "features"], "analyse band_variance": ["features"],
    "analyse reconstruction": ["features"], "analyse traversal": ["features"],
    "analyse sample_quality": ["features"], "analyse disentanglement": ["scores"],
    "analyse factor_map": ["probes", "controls"],
    "analyse element_factors": ["ways", "controls", "reader"],
    "analyse total_correlation": ["estimators", "controls"],
}  # fmt: skip


def test_every_registry_of_an_analysis_is_tried() -> None:
    for name in QUICK:
        fields = set(load(name).options.model_fields) & set(REGISTRIES)
        assert fields == set(OF.get(f"analyse {name}", ())), name


@pytest.mark.parametrize(("name", "option"), [(n, o) for n, each in OF.items() for o in each])
def test_unknown_names_are_refused(
    name: str, option: str, lines: dict[str, str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    more = ["--" + option, "nosuch"]
    assert dry(lines[name], tmp_path / "out", *more) == 2
    assert "'nosuch'" in said(capsys)
    assert not (tmp_path / "out").exists()


CASES: list[tuple[str, str, str]] = [
    ("train", '--model.network {"name":"ddpmpp","multipliers":[1,1,1,1,1]}', "multiples"),
    ("train", '--model.network {"name":"mlp","width":1000000,"depth":10000}', "parameters"),
    ("train", '--model.grouping {"name":"bands","cuts":[200]}', "cuts must increase"),
    ("train", '--model.grouping {"name":"bands","cuts":5}', "of the wrong type"),
    ("train", '--model.grouping {"name":"bottom-to-top","k":"two"}', "of the wrong type"),
    ("train", '--model.grouping {"name":"cdm","levels":999999999999}', "use fewer levels"),
    ("train", '--model.basis {"name":"blur","sigma":"a"}', "of the wrong type"),
    ("train", '--model.basis {"name":"blur","kernel_size":99999999999}', "kernel_size"),
    ("train", "--accumulate 7", "must divide"),
    ("train", "--widths 0.5,0.5", "widths"),
    ("train", "--time-law 1,2,3", "time_law"),
    ("train", "--orders [[1,0]]", "order"),
    ("train", "--lr inf", "finite"),
    ("train", "--data nowhere", "nowhere"),
    ("train", "--labels nowhere.csv", "nowhere.csv"),
    ("train", "--limit 1", "at least 2"),
    ("train", "--limit 9 --first 9", "--limit is given, too"),
    ("encode", "--checkpoint nowhere.safetensors", "no such file"),
    ("encode", "--steps 2", "fewer than the 3 groups"),
    ("encode", "--steps 3,3", "2 counts for 3 groups"),
    ("encode", "--steps 1000000000", "less than or equal to 100000"),
    ("encode", "--order 2,1,0", "was trained on"),
    ("encode", "--size 16", "--size 16"),
    ("encode", "--labels nowhere.csv", "nowhere.csv"),
    ("encode", "--solver dopri5 --latent-error", "dopri5"),
    ("sample", "--checkpoint nowhere.safetensors", "no such file"),
    ("sample", "--inverse", "--inverse"),
    ("sample", "--n 99999999999999", "less than or equal"),
    ("decode", "--latents nowhere", "no latent store"),
    ("decode", "--latents nowhere.npy", "no such file"),
    ("decode", "--ids nowhere.txt", "--ids 'nowhere.txt': no such file"),
    ("edit mix", "--ids nowhere.txt", "chooses images of --latents"),
    ("neighbours", "--ids nowhere.txt", "--ids 'nowhere.txt': no such file"),
    ("neighbours", "--bands 0_5,nosuch", "'nosuch'"),
    ("neighbours", "--items 9999", "no such item"),
    ("neighbours", "--n 96", "there are 95 images to choose from"),
    ("neighbours", "--data nowhere", "nowhere"),
    ("map", "--ids nowhere.txt", "--ids 'nowhere.txt': no such file"),
    ("map", "--band nosuch", "'nosuch'"),
    ("map", "--fit-rows 4", "greater than or equal to 5"),
    ("map", "--latents nowhere", "no latent store"),
    ("map", "--data nowhere", "nowhere"),
    ("map", "--checkpoint nowhere.safetensors", "no such file"),
    ("map", "--data digits --checkpoint scenes", "both given"),
    ("init", "--data nowhere", "nowhere"),
    ("init", "--labels nowhere.csv", "nowhere.csv"),
    ("init", "--minutes 0", "greater than 0"),
    ("prepare", "--data nowhere", "nowhere"),
    ("prepare", "--data digits", "levels 0..16"),
    ("edit mix", "--items 9999", "no such item"),
    ("edit mix", "--references 9999", "--references '9999'"),
    ("edit mix", "--references 1,2,3", "one for each"),
    ("edit mix", "--bands 99_100", "99_100"),
    ("edit vary", "--fixed nosuch", "nosuch"),
    ("edit set", "--elements 64", "64"),
    ("edit set", "--values=0:1:999999999", "at most 1000"),
    ("edit set", "--values 0,inf", "finite"),
    ("edit set", "--together", "7 for 1 elements"),
    ("edit interpolate", "--items 1", "needs two items"),
    ("edit interpolate", "--solver ab3", "one-step"),
    ("edit direction", "--value 12", "no image has it as its digit"),
    ("edit direction", "--items 96", "no such item"),
    ("analyse band_variance", "--anchors 97", "the store holds 96 images"),
    ("analyse band_variance", "--latents nowhere", "no latent store"),
    ("analyse band_variance", "--data nowhere", "nowhere"),
    ("analyse reconstruction", "--images 96", "left for the controls"),
    ("analyse leakage", "--images 97", "the store holds 96 images"),
    ("analyse leakage", "--labels nowhere.csv", "nowhere.csv"),
    ("analyse leakage", "--ids nowhere.txt", "--ids 'nowhere.txt': no such file"),
    ("analyse sample_quality", "--n 49", "two sets of 49"),
    ("analyse traversal", "--band nosuch", "nosuch"),
    ("analyse traversal", "--elements 64", "64"),
    ("analyse total_correlation", "--elements 64", "64"),
    ("analyse total_correlation", "--baseline nowhere", "no latent store"),
    ("analyse total_correlation", "--data nowhere", "nowhere"),
    ("analyse factor_map", "--factors nosuch", "no label of the store"),
    ("analyse factor_map", "--circular nosuch=3", "no label of the store"),
    ("analyse factor_map", "--baseline a=nowhere.npz", "nowhere.npz"),
    ("analyse factor_map", "--data nowhere", "nowhere"),
    ("analyse element_factors", "--factors nosuch", "no label of the store"),
    ("analyse element_factors", "--anchors 90", "fit the reader to"),
    ("analyse element_factors", "--band nosuch", "nosuch"),
    ("analyse element_factors", "--data nowhere", "nowhere"),
    ("analyse disentanglement", "--factors nosuch", "no label of the store"),
    ("analyse disentanglement", "--data nowhere", "nowhere"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "more", "says"), CASES)
def test_mistakes_are_told_in_a_dry_run(
    name: str, more: str, says: str, lines: dict[str, str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    try:
        status = dry(lines[name], tmp_path / "out", *more.split())
    except SystemExit as end:  # no such flag
        status = int(end.code or 0)
    assert status == 2
    assert says in said(capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", NAMES[2:])  # the first two write a file
def test_a_folder_that_can_t_be_is_refused(
    name: str, lines: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert dry(lines[name], out) == 2
        assert "is a file" in said(capsys)


def test_other_settings_are_told_in_a_dry_run(
    lines: dict[str, str], encoded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dry(lines["encode"], encoded, "--dtype", "float16") == 2
    assert "holds a latent store whose" in said(capsys)
    (tmp_path / "journal.jsonl").write_text('{"settings": {"seed": 5}}\n{"key": "", "value": 0}\n')
    assert dry(lines["analyse leakage"], tmp_path) == 2
    assert "holds results of other settings" in said(capsys)


def refused(argv: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["analyse", *argv, "--no-track"]) == 2
    return said(capsys)


def test_missing_weights_are_told_with_what_to_do(
    trained: Path, encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    files = ["--checkpoint", str(trained), "--latents", str(encoded)]
    out = tmp_path / "out"
    error = refused(["all", *files, "--features", "vgg19,pixels", "--out", str(out)], capsys)
    assert "4 of 9 analyses can't be done, so nothing was measured" in error
    for word in ("band_variance, reconstruction, traversal, sample_quality: ", "--features vgg19",
                 "--download", "--weights FILE", "--features efficientnet-lite0", "vgg19-",
                 "--only total_correlation,factor_map,"):  # fmt: skip
        assert word in error
    assert not out.exists()


def test_features_that_no_one_named_are_the_best_at_hand(
    lines: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    line = re.sub(r" --features \S+", "", lines["analyse band_variance"])
    for flags, word in (
        ([], "features: efficientnet-lite0,pixels, as the weights of vgg19 are not here"),
        (["--layers", "relu1_1"], "vgg19: its weights"),
    ):
        status = dry(line, tmp_path / "out", *flags)
        assert status == (2 if flags else 0)
        assert word in capsys.readouterr().err
    weights = tmp_path / "hub" / "hub" / "checkpoints" / "vgg19-dcbb9e9d.pth"
    assert features_at_hand(1)[0] == ("efficientnet-lite0", "pixels")
    assert features_at_hand(5)[0] == ("pixels",)  # networks take gray or RGB
    weights.parent.mkdir(parents=True)
    weights.touch()
    assert features_at_hand(3)[0] == ("vgg19", "pixels")
    (tmp_path / "out").mkdir()
    head = {"settings": {"features": ["dct"]}, "of": {}, "names": {}}
    (tmp_path / "out" / "journal.jsonl").write_text(json.dumps(head) + "\n")
    assert dry(line, tmp_path / "out") == 0
    assert "features: dct, as" in capsys.readouterr().err  # a run that was begun keeps its own


def test_labels_are_looked_at_before_the_first_fit(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    rows = [f"{i:06d},7,,{i}.5" for i in range(64)]
    (tmp_path / "l.csv").write_text("\n".join(["id,same,none,amount", *rows[:60]]))
    (tmp_path / "other.csv").write_text("\n".join(["id,same,none,amount", *rows]))
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 255, (64, 8, 8), np.uint8))
    files = ["--checkpoint", str(trained), "--data", str(tmp_path / "x.npy")]
    more = ["--steps", "3", "--no-round-trip", "--labels", str(tmp_path / "l.csv"), "--no-track"]
    assert encode.main([*files, *more, "--out", str(tmp_path / "z")]) == 0
    capsys.readouterr()
    files += ["--latents", str(tmp_path / "z"), "--out", str(tmp_path / "out")]
    labels = ["--labels", str(tmp_path / "l.csv")]
    for name in ("factor_map", "element_factors", "disentanglement"):
        few = ["--anchors", "6"] if name == "element_factors" else []
        for factor in ("same", "none"):
            assert factor in refused([name, *files, *labels, *few, "--factors", factor], capsys)
        for wrong in ([], ["--labels", str(tmp_path / "other.csv")]):
            error = refused([name, *files, *wrong, *few, "--factors", "amount"], capsys)
            assert "not the images that" in error
        assert not (tmp_path / "out").exists()


def test_an_untrained_model_is_built_soon_whatever_its_size() -> None:
    import torch

    network = {"name": "ddpmpp", "channels": 1024, "multipliers": [1, 2, 4]}
    config = TrainConfig.model_validate(
        {"data": "x", "out": "x", "model": {"network": network, "grouping": {"name": "blocks"}}}
    )
    before = torch.get_rng_state()
    checkpoint = build_untrained(config, (3, 64, 64))
    assert checkpoint.denoiser.grouping.k == 9
    assert sum(each.numel() for each in checkpoint.denoiser.parameters()) < 1e6
    assert torch.equal(torch.get_rng_state(), before)


def test_what_a_dry_run_passes_can_be_done(
    lines: dict[str, str], tmp_path: Path, make_model: Callable[..., Path]
) -> None:
    for name in ("encode", "sample", "prepare", "edit set"):
        argv = [*lines[name].split(), "--out", str(tmp_path / name)]
        argv += [] if name == "prepare" else ["--no-track"]
        assert cli.main(argv) == 0


def test_a_recipe_is_checked_too(
    lines: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = tmp_path / "first"
    assert cli.main([*lines["edit set"].split(), "--out", str(first), "--no-track"]) == 0
    recipe = first / "set.json"
    assert dry("edit again --recipe " + str(recipe), tmp_path / "out") == 0
    assert not (tmp_path / "out").exists()
    facts: dict[str, Any] = json.loads(recipe.read_text())
    facts["options"]["items"] = ["9999"]
    recipe.write_text(json.dumps(facts))
    capsys.readouterr()
    assert dry("edit again --recipe " + str(recipe), tmp_path / "out") == 2
    assert "no such item" in said(capsys)
