"""Training: resumed equals unbroken, options do what they say, and bad ends are clean."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gdm_repr import GDM, train
from gdm_repr.checkpoint import load_tensors, save_tensors
from gdm_repr.config import TrainConfig
from gdm_repr.coordinates import Flow
from gdm_repr.data.images import Preprocess
from gdm_repr.data.loading import open_data
from gdm_repr.grouping import build_grouping
from gdm_repr.ode import Plan, encode
from gdm_repr.oracle import figure_1a_mixture
from gdm_repr.statistics import element_statistics, statistics_batches
from gdm_repr.trainer import Trainer, shuffled_batches
from gdm_repr.training_state import MOMENTS, read_state

Launch = Callable[[str, list[str], Path], BaseProcess]

CONFIG = """
data: digits
limit: 300
preprocess: {dequantize: true}
model:
  grouping: {name: bands, cuts: [6, 21]}
  network: {name: mlp, width: 16, depth: 1}
batch_size: 64
lr: 1.0e-2
warmup: 640
ema_half_life: 500
checkpoint_every: 640
"""


def arguments(out: Path, *flags: str) -> list[str]:
    config = out.parent / "config.yaml"
    config.write_text(CONFIG)
    return ["--config", str(config), "--out", str(out), "--no-track", *flags]


def fit(out: Path, *flags: str) -> dict[str, Tensor]:
    """Train and return the model's tensors."""
    assert train.main(arguments(out, *flags)) == 0
    return load_tensors(out / "model.safetensors")[0]


def state(out: Path) -> dict[str, Tensor]:
    return load_tensors(out / "state.safetensors")[0]


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def losses(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def trainer(out: Path, *flags: str) -> Trainer:
    from gdm_repr.command import parse

    config = parse(TrainConfig, "train", arguments(out, *flags))
    return Trainer(config, open_data("digits", config.preprocess, limit=300))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 100 steps."""
    out = tmp_path_factory.mktemp("unbroken") / "run"
    fit(out, "--images", "6400")
    return out


def test_a_run_leaves_model_state_pictures_and_records(unbroken: Path) -> None:
    names = {path.name for path in unbroken.iterdir()}
    assert names == {
        ".lock", "config.json", "grouping.png", "log.jsonl", "loss.png", "model.safetensors",
        "samples", "verdict.json",
        "state.safetensors",
    }  # fmt: skip
    (sheet,) = (unbroken / "samples").iterdir()
    assert sheet.name == "0000006400.png"
    with Image.open(sheet) as image:
        assert image.size == (8 * (8 * 12 + 8), 8 * (8 * 12 + 8))  # 8 x 8 digits, enlarged 12 times
    with Image.open(unbroken / "grouping.png") as image:
        assert min(image.size) > 100
    config = json.loads((unbroken / "config.json").read_text())
    assert config["model"]["grouping"]["cuts"] == [6, 21]
    assert config["images"] == 6400
    log = losses(unbroken)
    assert [row["images"] for row in log] == [64 * i for i in range(1, 101)]
    assert {"loss", "loss/0_5", "loss/6_20", "loss/21_63", "images_per_second"} < log[0].keys()
    assert log[-1]["loss"] < log[0]["loss"]


def test_the_model_holds_the_averaged_weights(unbroken: Path) -> None:
    model, everything = load_tensors(unbroken / "model.safetensors")[0], state(unbroken)
    weights = [name for name in model if name.startswith("network.")]
    assert weights
    for name in weights:
        assert torch.equal(model[name], everything[f"ema.{name}"])
        assert not torch.equal(model[name], everything[name])
    assert GDM.from_pretrained(unbroken).checkpoint.images == 6400


def test_resumed_equals_unbroken(unbroken: Path, tmp_path: Path) -> None:
    fit(tmp_path / "run", "--images", "3200")
    model = fit(tmp_path / "run", "--images", "6400", "--resume", "--workers", "0")
    assert same(model, load_tensors(unbroken / "model.safetensors")[0])
    assert same(state(tmp_path / "run"), state(unbroken))


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)]
)
def test_killed_or_interrupted_and_resumed_equals_unbroken(
    unbroken: Path, tmp_path: Path, launch: Launch, number: signal.Signals, status: int
) -> None:
    for attempt in range(5):  # on a busy machine the job may end before the signal comes
        out = tmp_path / f"run{attempt}"
        job = launch("train", arguments(out, "--images", "6400"), tmp_path / "log")
        while job.is_alive() and not (out / "state.safetensors").exists():
            pass
        assert job.pid is not None
        os.kill(job.pid, number)
        job.join()
        if job.exitcode != 0:
            break
    assert job.exitcode == status
    if number == signal.SIGINT:
        last = (tmp_path / "log").read_text().splitlines()[-1]
        assert last == "gdm-repr train: interrupted; add --resume to go on"
    model = fit(out, "--images", "6400", "--resume")
    assert same(model, load_tensors(unbroken / "model.safetensors")[0])
    assert same(state(out), state(unbroken))


DDPMPP = {
    "name": "ddpmpp", "channels": 8, "multipliers": [1, 2], "blocks": 1, "attention": [4],
    "dropout": 0.1,
}  # fmt: skip
SETTINGS: dict[str, dict[str, object]] = {
    "convolutions, channels last": {},
    "fine records": {"checkpoint_every": 320},
    "bf16": {"precision": "bf16"},
    "in parts": {"accumulate": 4},
    "concat, principal axes": {
        "model.denoiser": {"conditioning": "concat", "preconditioning": "principal"}
    },
    "no preconditioning, not strict": {
        "model.denoiser": {"preconditioning": "none", "strict": False},
        "loss": "eq8",
    },
    "coefficients": {"model.denoiser": {"inputs": "coefficients"}, "orders": "random"},
    "decay, clipped": {"weight_decay": 0.1, "decay": 0.5, "clip": 0.5, "clock": "whitened"},
    "patches": {"model.network": {**DDPMPP, "patch": 2, "attention": []}},
    "mlp": {"model.network": {"name": "mlp", "width": 16, "depth": 1}},
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_resumes_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.setattr(Trainer, "sample_sheet", lambda self, path: None)  # takes most of the time
    options = {"model.network": DDPMPP, "batch_size": 64, **SETTINGS[setting]}
    flags = []
    for key, value in options.items():
        text = json.dumps(value) if isinstance(value, dict) else str(value)
        flags += [f"--{key}".replace("_", "-"), text]
    whole = fit(tmp_path / "whole", *flags, "--images", "320")
    broken = tmp_path / "broken"
    done = {"images": 320, "interrupted": 0}

    class Interrupted(Trainer):
        def train_step(self, x: Tensor) -> tuple[float, list[float]]:
            found = super().train_step(x)
            if self.step == 3 and bool(x.any()) and not done["interrupted"]:
                done["interrupted"] = 1  # in the run, not while steps are timed, on zeros
                signal.raise_signal(signal.SIGINT)  # between a step and its record
            return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gdm_repr.trainer.Trainer", Interrupted)
        assert train.main(arguments(broken, *flags, "--images", "320")) == 130
    assert load_tensors(broken / "state.safetensors")[1]["step"] == 3
    assert same(fit(broken, *flags, "--images", "320", "--resume"), whole)
    assert same(state(broken), state(tmp_path / "whole"))
    one, two = losses(tmp_path / "whole"), losses(broken)
    for row in (*one, *two):
        del row["images_per_second"]
    assert one == two


def moments(job: Trainer) -> list[tuple[Tensor, Tensor]]:
    """Every parameter with each of its moments."""
    return [
        (parameter, job.optimizer.state[parameter][slot])
        for parameter in job.network.parameters()
        for slot in MOMENTS
    ]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_moments_come_back_as_they_were_and_lie_as_their_weights_do(
    tmp_path: Path, device: str
) -> None:
    flags = ["--model.network", json.dumps(DDPMPP), "--device", device]
    job = trainer(tmp_path / "run", *flags)
    for start in (0, 64):
        job.train_step(job.dataset.batch(range(start, start + 64)).x)
    job.config.out.mkdir()
    job.save()
    saved = read_state(job.config.out / "state.safetensors")
    again = Trainer(job.config, job.dataset, state=saved)
    pairs = list(zip(moments(job), moments(again), strict=True))
    assert any(p.ndim == 4 and not p.is_contiguous() for (p, _), _ in pairs)
    for (parameter, before), (_, after) in pairs:
        assert torch.equal(before, after)
        assert before.stride() == after.stride() == parameter.stride()
        assert after.device == parameter.device


def test_a_state_without_its_layout_would_be_scrambled() -> None:
    """Why moments are laid out anew: the fused optimizer pairs places in memory, not indices."""
    weight = torch.nn.Parameter(torch.zeros(2, 3, 2, 2).to(memory_format=torch.channels_last))
    optimizer = torch.optim.AdamW([weight], lr=1.0, weight_decay=0.0, fused=True)
    weight.grad = torch.randn(weight.shape).to(memory_format=torch.channels_last)
    optimizer.step()
    assert optimizer.state[weight]["exp_avg"].stride() == weight.stride()


def broken_state(
    path: Path, change: Callable[[dict[str, Tensor], dict[str, object]], object]
) -> None:
    tensors, facts = load_tensors(path)
    change(tensors, facts)
    save_tensors(path, tensors, facts)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t, f: t.pop("adam.0.exp_avg"), "adam.0.exp_avg is missing"),
        (lambda t, f: t.pop("adam.1.step"), "adam.1.step is missing"),
        (lambda t, f: [t.pop(k) for k in list(t) if k.startswith("adam.")], "is missing"),
        (lambda t, f: t.update({"adam.0.exp_avg": torch.zeros(3)}), "adam.0.exp_avg is torch"),
        (lambda t, f: t.update({"adam.99.step": torch.zeros(())}), "adam.99.step belongs to no"),
        (lambda t, f: t.update({"adam.0.max": torch.zeros(())}), "adam.0.max belongs to no"),
        (lambda t, f: t.update({"other.x": torch.zeros(1)}), "holds 'other.x'"),
        (lambda t, f: t.update({"network": torch.zeros(1)}), "holds 'network'"),
        (lambda t, f: t.pop("network.input.weight"), "network.input.weight is missing"),
        (lambda t, f: t.update({"ema.y": torch.zeros(1)}), "ema.y belongs to no"),
        (
            lambda t, f: t.update({"network.input.weight": t["network.input.weight"].int()}),
            "network.input.weight is torch.int32",
        ),
        (lambda t, f: t.pop("data.std"), "statistics of the data are not whole"),
        (lambda t, f: t.update({"data.std": -t["data.std"]}), "statistics of the data are damaged"),
        (lambda t, f: t.update({"axes.0": torch.eye(4)}), "statistics of the data are of another"),
        (lambda t, f: f.update(config=[1, 2]), "config is '[1, 2]'"),
        (lambda t, f: f.update(step="five"), "step is 'five'"),
        (lambda t, f: f.update(step=-1), "step is '-1'"),
        (lambda t, f: f.update(step=True), "step is 'True'"),
        (lambda t, f: f.update(data=7), "data is '7'"),
        (lambda t, f: f.pop("step"), "is no training state"),
        (lambda t, f: f["config"].update(lr="much"), "lr='much'"),
    ],
)
def test_a_damaged_state_is_refused_in_one_line(
    unbroken: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[dict[str, Tensor], dict[str, object]], object],
    says: str,
) -> None:
    out = tmp_path / "run"
    shutil.copytree(unbroken, out)
    broken_state(out / "state.safetensors", change)
    before = (out / "model.safetensors").read_bytes()
    assert train.main(arguments(out, "--images", "6464", "--resume")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line and "state.safetensors" in line
    assert (out / "model.safetensors").read_bytes() == before


def test_the_same_command_on_a_finished_run_says_so_and_does_nothing(
    unbroken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in unbroken.rglob("*")}
    for flags in ([], ["--resume"]):
        assert train.main(arguments(unbroken, "--images", "6400", *flags)) == 0
        assert "finished already, after 6400 images" in capsys.readouterr().out
    after = {path: path.stat().st_mtime_ns for path in unbroken.rglob("*")}
    assert {path.name for path in after if before.get(path) != after[path]} <= {".lock"}


def test_overwrite_starts_anew_and_leaves_nothing_of_the_old_run(
    unbroken: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    fit(out, "--images", "640", "--lr", "0.1")
    (out / "notes.txt").write_text("mine")
    fit(out, "--images", "6400", "--overwrite")
    assert same(state(out), state(unbroken))
    assert (out / "notes.txt").read_text() == "mine"
    assert [path.name for path in (out / "samples").iterdir()] == ["0000006400.png"]
    assert [row["images"] for row in losses(out)] == [row["images"] for row in losses(unbroken)]


def test_a_model_without_its_state_is_never_replaced(
    unbroken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    shutil.copytree(unbroken, out)
    (out / "state.safetensors").unlink()
    before = (out / "model.safetensors").read_bytes()
    for flags in ([], ["--resume"]):
        assert train.main(arguments(out, "--images", "64", *flags)) == 2
        assert "--start-from" in capsys.readouterr().err
    assert (out / "model.safetensors").read_bytes() == before


def test_two_trainings_never_share_a_folder(
    tmp_path: Path, launch: Launch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    job = launch("train", arguments(out, "--images", "64000000"), tmp_path / "log")
    try:
        while job.is_alive() and not (out / "state.safetensors").exists():
            pass
        for flags in ([], ["--resume"], ["--overwrite"]):
            assert train.main(arguments(out, "--images", "64", *flags)) == 2
            assert "another process is writing" in capsys.readouterr().err
        assert job.is_alive()
    finally:
        job.kill()
        job.join()


def test_the_same_images_by_another_path_go_on(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (32, 8, 8)).astype(np.uint8)
    np.save(tmp_path / "x.npy", images)
    flags = ["--limit", "32", "--images"]
    fit(tmp_path / "run", "--data", str(tmp_path / "x.npy"), *flags, "64")
    (tmp_path / "moved").mkdir()
    (tmp_path / "x.npy").rename(tmp_path / "moved" / "x.npy")
    moved = str(tmp_path / "run" / ".." / "moved" / "x.npy")
    fit(tmp_path / "run", "--data", moved, *flags, "128", "--resume")
    assert load_tensors(tmp_path / "run" / "state.safetensors")[1]["step"] == 2


def test_records_come_once_and_a_torn_line_stops_nothing(tmp_path: Path) -> None:
    out = tmp_path / "run"
    fit(out, "--images", "640")
    log = out / "log.jsonl"
    rows = log.read_text()
    later = json.dumps({"images": 704, "loss": 1.0})  # after the state was saved
    log.write_text(rows + later + "\n" + '{"images": 768, "lo')
    fit(out, "--images", "1280", "--resume")
    assert [row["images"] for row in losses(out)] == [64 * i for i in range(1, 21)]
    assert log.read_text().startswith(rows)


def test_training_starts_from_a_models_weights_and_says_what_it_takes_over(
    unbroken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = unbroken / "model.safetensors"
    images = np.random.default_rng(0).integers(0, 256, (64, 8, 8)).astype(np.uint8)
    np.save(tmp_path / "x.npy", images)
    data = ["--data", str(tmp_path / "x.npy"), "--lr", "1e-30", "--warmup", "0", "--images", "64"]
    start = ["--start-from", str(model)]
    argv = [*start, *data, "--batch-size", "64", "--out", str(tmp_path / "tuned"), "--no-track"]
    assert train.main(argv) == 0  # the model's own parts, without a config
    assert "takes over its weights and statistics" in capsys.readouterr().err
    first, second = load_tensors(model)[0], load_tensors(tmp_path / "tuned/model.safetensors")[0]
    assert same(first, second)
    argv += ["--images", "128", "--resume", "--lr", "1e-30"]
    assert train.main(argv) == 0
    assert train.main([*argv, "--start-from", "scenes"]) == 2
    assert "start_from='scenes'" in capsys.readouterr().err

    groups = ["--model.grouping", '{"name": "bands", "cuts": [10, 30]}']
    other = fit(tmp_path / "other", *start, *data, "--limit", "64", *groups)
    assert "weights; statistics of the data are new" in capsys.readouterr().err
    assert torch.equal(other["network.input.weight"], first["network.input.weight"])
    assert not torch.equal(other["mean"], first["mean"])
    wide = ["--model.network", '{"name": "mlp", "width": 32, "depth": 1}']
    assert train.main(arguments(tmp_path / "wide", *start, *wide, "--images", "64")) == 2
    assert "--start-from: network." in capsys.readouterr().err
    assert not (tmp_path / "wide").exists()


def test_accumulation_changes_nothing_but_rounding(tmp_path: Path) -> None:
    flags = ["--images", "640", "--checkpoint-every", "64"]
    fit(tmp_path / "whole", *flags)
    fit(tmp_path / "parts", *flags, "--accumulate", "4")
    whole, parts = losses(tmp_path / "whole"), losses(tmp_path / "parts")
    assert len(whole) == 10
    for first, second in zip(whole, parts, strict=True):
        assert second["loss"] == pytest.approx(first["loss"], abs=1e-5)


def test_images_decoded_in_workers_train_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = fit(tmp_path / "memory", "--images", "320")
    monkeypatch.setattr(train, "IN_MEMORY_BYTES", 0)
    assert same(fit(tmp_path / "workers", "--images", "320", "--workers", "2"), inside)


def test_the_seed_decides_everything(tmp_path: Path) -> None:
    first = fit(tmp_path / "a", "--images", "128")
    assert same(fit(tmp_path / "b", "--images", "128"), first)
    other = fit(tmp_path / "c", "--images", "128", "--seed", "1")
    assert not any(
        torch.equal(first[name], other[name]) for name in first if name.endswith("weight")
    )


def test_warm_up_and_decay_follow_the_images(tmp_path: Path) -> None:
    flags = ["--lr", "0.1", "--warmup", "640", "--images", "6400", "--decay", "0.5"]
    job = trainer(tmp_path / "run", *flags)
    rates = []
    for job.step in (0, 4, 9, 10, 50, 75, 99, 100):
        rates.append(job.learning_rate())
    expected = [0.01, 0.05, 0.1, 0.1, 0.1, 0.05, 0.002, 0.0]
    assert rates == pytest.approx(expected, abs=1e-12)


def test_the_rate_reaches_the_optimizer(tmp_path: Path) -> None:
    before, after = (
        fit(tmp_path / name, "--images", "64", "--lr", lr, "--warmup", "0")
        for name, lr in (("a", "1e-6"), ("b", "2e-6"))
    )
    started = trainer(tmp_path / "c").averaged.state_dict()
    name = "network.input.weight"
    one, two = before[name] - started[name], after[name] - started[name]
    torch.testing.assert_close(two, 2 * one, atol=3e-8, rtol=0)


def drawn(tmp_path: Path, *flags: str) -> tuple[Trainer, Tensor, Tensor]:
    """4096 draws of levels and moving groups, and their trainer."""
    job = trainer(tmp_path / "run", *flags)
    at = job.levels.draw(4096, torch.Generator().manual_seed(0))
    return job, at.A.double(), at.active


def orders(A: Tensor, active: Tensor) -> set[tuple[int, frozenset[int]]]:
    """The pairs (moving group, groups already noise) that occur."""
    noise = A.scatter(1, active[:, None], 1) == 0
    return {
        (int(moving), frozenset(row.nonzero().flatten().tolist()))
        for moving, row in zip(active, noise, strict=True)
    }


def pairs(*generation: int) -> set[tuple[int, frozenset[int]]]:
    return {(j, frozenset(generation[i + 1 :])) for i, j in enumerate(generation)}


def test_orders_are_those_asked_for(tmp_path: Path) -> None:
    _, A, active = drawn(tmp_path)
    assert orders(A, active) == pairs(0, 1, 2)
    _, A, active = drawn(tmp_path, "--orders", "[[0,1,2],[2,0,1]]")
    assert orders(A, active) == pairs(0, 1, 2) | pairs(2, 0, 1)
    _, A, active = drawn(tmp_path, "--orders", "random")
    every = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    assert orders(A, active) == set().union(*(pairs(*order) for order in every))


@pytest.mark.parametrize(
    ("flags", "shares"),
    [
        ([], [1 / 3, 1 / 3, 1 / 3]),
        (["--time-law", "1,2,5"], [1 / 8, 1 / 4, 5 / 8]),
        (["--time-law", "uniform", "--widths", "0.2,0.3,0.5"], [0.2, 0.3, 0.5]),
    ],
)
def test_groups_are_trained_as_often_as_the_time_law_says(
    tmp_path: Path, flags: list[str], shares: list[float]
) -> None:
    _, _, active = drawn(tmp_path, *flags)
    counted = torch.bincount(active, minlength=3) / 4096
    assert counted.tolist() == pytest.approx(shares, abs=2 / 4096)  # stratified draws


@pytest.mark.parametrize("process", ["linear", "variance-preserving"])
def test_the_whitened_clock_is_uniform_in_the_groups_angle(tmp_path: Path, process: str) -> None:
    flags = ["--clock", "whitened", "--model.process", process]
    job, A, active = drawn(tmp_path, *flags)
    level = A.gather(1, active[:, None])[:, 0]
    c = job.denoiser.process.coefficients(level)
    angle = torch.atan2(c.sigma, c.alpha * job.levels.std[active]) / (math.pi / 2)
    uniform = (torch.arange(4096) + 0.5) / 4096
    assert float((angle.sort().values - uniform).abs().max()) < 0.005
    _, A, active = drawn(tmp_path)
    level = A.gather(1, active[:, None])[:, 0]
    assert float((level.sort().values - uniform).abs().max()) < 0.005


@pytest.mark.parametrize(
    "flags",
    [
        ["--loss", "eq8", "--model.denoiser.preconditioning", "none"],
        ["--loss", "eq7", "--time-law", "uniform", "--no-model.denoiser.strict"],
        ["--model.denoiser.conditioning", "concat", "--orders", "random", "--clip", "1"],
        ["--precision", "bf16", "--weight-decay", "0.1", "--clock", "whitened"],
        ["--model.basis.name", "identity", "--model.grouping", '{"name": "cdm", "levels": 3}'],
        ["--model.network", '{"name": "ddpmpp", "channels": 8, "multipliers": [1], "blocks": 1}'],
    ],
)
def test_every_setting_trains_and_samples(tmp_path: Path, flags: list[str]) -> None:
    fit(tmp_path / "run", "--images", "192", *flags)
    assert all(math.isfinite(row["loss"]) for row in losses(tmp_path / "run"))
    assert bool(torch.isfinite(GDM.from_pretrained(tmp_path / "run").sample(2)).all())


def test_a_loss_that_is_not_finite_stops_with_step_and_ids(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--lr", "1e38", "--warmup", "0", "--images", "6400"]
    assert train.main(arguments(tmp_path / "run", *flags)) == 2
    facts = json.loads((tmp_path / "run" / "nan.json").read_text())
    assert 1 <= facts["step"] < 100
    assert facts["images"] == 64 * facts["step"]
    assert set(facts["ids"]) <= set(open_data("digits", Preprocess(), limit=300).ids)
    assert len(facts["ids"]) == 64
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("gdm-repr train: error: the loss is ")
    assert f"at step {facts['step']} ({facts['images']} images)" in error
    assert "nan.json" in error


def test_a_run_is_neither_overwritten_nor_resumed_with_other_options(
    unbroken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in unbroken.rglob("*")}
    for flags, says in [
        (("--images", "6464"), ["holds a run of 6400 images", "--resume", "--overwrite"]),
        (("--resume", "--batch-size", "32"), ["batch_size=32", "with 64"]),
        (("--resume", "--lr", "0.5"), ["lr=0.5", "with 0.01"]),
        (("--resume", "--model.process", "variance-preserving"), ["model.process=", "'linear'"]),
        (("--resume", "--limit", "299"), ["limit=299", "with limit=300"]),
    ]:
        assert train.main(arguments(unbroken, "--images", "6400", *flags)) == 2, flags
        error = capsys.readouterr().err.splitlines()[-1]
        assert all(part in error for part in says)
    assert {path: path.stat().st_mtime_ns for path in unbroken.rglob("*")} == before
    (tmp_path / "model.safetensors").write_bytes(b"someone's model")
    assert train.main(arguments(tmp_path)) == 2
    assert (tmp_path / "model.safetensors").read_bytes() == b"someone's model"


def test_resume_refuses_other_images_and_states(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (32, 8, 8)).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    flags = ["--data", str(tmp_path / "images.npy"), "--images", "64", "--limit", "32"]
    fit(tmp_path / "run", *flags)
    np.save(tmp_path / "images.npy", 255 - images)
    assert train.main(arguments(tmp_path / "run", *flags, "--resume")) == 2
    assert "the images are not those" in capsys.readouterr().err
    (tmp_path / "run" / "state.safetensors").write_bytes(
        (tmp_path / "run" / "model.safetensors").read_bytes()
    )
    assert train.main(arguments(tmp_path / "run", *flags, "--resume")) == 2
    assert "is no training state" in capsys.readouterr().err


def test_a_state_from_before_an_option_came_into_being_goes_on(tmp_path: Path) -> None:
    fit(tmp_path, "--images", "64")
    tensors, facts = load_tensors(tmp_path / "state.safetensors")
    del facts["config"]["model"]["denoiser"]["inputs"], facts["config"]["accumulate"]
    save_tensors(tmp_path / "state.safetensors", tensors, facts)
    assert train.main(arguments(tmp_path, "--images", "128", "--resume")) == 0


def test_bad_training_images_are_quarantined(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(2):
        Image.fromarray(np.full((8, 8), 100 * i, np.uint8)).save(folder / f"good{i}.png")
    for i in range(6):
        (folder / f"bad{i}.png").write_bytes(b"no picture")
    flags = ["--data", str(folder), "--limit", "8", "--batch-size", "2", "--images", "48"]
    model = fit(tmp_path / "run", *flags)  # some batches hold no image at all
    assert all(bool(torch.isfinite(tensor).all()) for tensor in model.values())
    lines = (tmp_path / "run" / "quarantine.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert sorted(row["id"] for row in rows) == [f"bad{i}.png" for i in range(6)]
    assert {row["source"] for row in rows} == {"images"}
    assert all("not an image" in row["reason"] for row in rows)


def test_a_dry_run_prints_the_options_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(arguments(tmp_path / "run", "--images", "77", "--dry-run")) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["images"], shown["batch_size"]) == (77, 64)
    assert shown["model"]["grouping"]["cuts"] == [6, 21]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("n", "batch"), [(10, 4), (3, 7), (5, 5)])
def test_batches_are_joined_epochs_and_start_anywhere(n: int, batch: int) -> None:
    def steps(first: int, count: int) -> list[list[int]]:
        batches = shuffled_batches(n, batch, 0, first)
        return [next(batches) for _ in range(count)]

    whole = steps(0, 12)
    assert {len(each) for each in whole} == {batch}
    joined = [i for each in whole for i in each]
    epochs = [joined[start : start + n] for start in range(0, len(joined) - n + 1, n)]
    assert all(sorted(epoch) == list(range(n)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert steps(5, 7) == whole[5:]


def test_statistics_are_those_of_all_images() -> None:
    data = open_data("digits", Preprocess(dequantize=True))
    mean, std = element_statistics(statistics_batches(data, lambda x: x.flatten(2), 0))
    x = data.batch(range(len(data))).x.flatten(2).double().numpy()
    np.testing.assert_allclose(mean, x.mean(0), atol=1e-12)
    np.testing.assert_allclose(std, x.std(0), atol=1e-12)


def test_a_trained_mlp_encodes_the_mixture_of_figure_1a_as_its_oracle_does(tmp_path: Path) -> None:
    """Unlike every other test of encoding, this one depends on what training finds."""
    grouping = build_grouping("elementwise", (1, 1, 2))
    oracle = figure_1a_mixture(grouping)
    data = oracle.sample(120_000, torch.Generator().manual_seed(0))
    data = data[data.abs().amax(1) <= 1]
    np.save(tmp_path / "mixture.npy", data.reshape(-1, 1, 2).numpy().astype(np.float32))
    (tmp_path / "mixture.yaml").write_text(
        """
model:
  basis: {name: identity}
  grouping: {name: elementwise}
  network: {name: mlp, width: 48, depth: 2}
clock: whitened
batch_size: 1024
images: 1_331_200
lr: 3.0e-3
warmup: 200_000
decay: 0.7
ema_half_life: 100_000
"""
    )
    argv = ["--config", str(tmp_path / "mixture.yaml"), "--data", str(tmp_path / "mixture.npy")]
    assert train.main([*argv, "--out", str(tmp_path / "run"), "--no-track"]) == 0

    model = GDM.from_pretrained(tmp_path / "run")
    x = oracle.sample(2000, torch.Generator().manual_seed(1))[:, None]
    flow = Flow(oracle, grouping, oracle.process, model.flow.mean.double(), model.flow.std.double())
    exact = encode(flow, x, Plan("rk4", "whitened", (50, 50))).y
    z = model.encode(x.float()[:, :, None], model.plan(64, solver="rk4")).z
    error = (z - exact).square().mean((1, 2))
    rmse, spread = error.mean().sqrt(), error.std() / math.sqrt(len(error))
    assert rmse < 0.05, f"{rmse:.4f} +- {spread / 2 / rmse:.4f}"
