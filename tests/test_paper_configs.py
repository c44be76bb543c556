"""The paper's settings: every file of configs/paper builds all it names, to groups and steps."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from gdm_repr.analysis.study_options import Choice, StudyConfig, list_choices
from gdm_repr.basis import build_basis
from gdm_repr.command import build, read_yaml
from gdm_repr.config import DenoiserConfig, TrainConfig
from gdm_repr.grouping import Grouping, build_grouping
from gdm_repr.ode import Plan, even_steps
from gdm_repr.schedule import group_weights, schedule_from_order

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "configs" / "paper"
FILES = sorted(FOLDER.rglob("*.yaml"))
STUDY_KEYS = {"grid", "choices"}
DATA = {32: ["cifar10"], 64: ["ffhq64", "afhq64"], 256: ["afhq256", "celebahq256"]}


def is_study(path: Path) -> bool:
    return not STUDY_KEYS.isdisjoint(read_yaml(path))


def choices(path: Path) -> list[Choice]:
    return list_choices(build(StudyConfig, {**read_yaml(path), "config": path}))


def need(path: Path) -> None:
    """Skip what a part of the program that is not there yet would build, and say which."""
    text = path.read_text("utf-8")
    for key, there in (
        ("analyse:", "analyse" in StudyConfig.model_fields),
        ("denoiser.inputs", "inputs" in DenoiserConfig.model_fields),
    ):
        if key in text and not there:
            pytest.skip(f"{path.name} needs the option {key!r}, which there isn't yet")


def grouping_of(config: TrainConfig) -> Grouping:
    size = config.preprocess.size
    assert isinstance(size, int)
    model = config.model
    build_basis(model.basis.name, (size, size), **model.basis.options())
    return build_grouping(
        model.grouping.name,
        (3, size, size),
        per_channel=model.grouping.per_channel,
        order=model.grouping.order,
        **model.grouping.options(),
    )


def check_training(config: TrainConfig) -> None:
    """Check what a wrong setting would only show after the data were opened."""
    import torch

    k = grouping_of(config).k
    widths = None if config.widths is None else torch.tensor(config.widths)
    schedule = schedule_from_order(range(k), widths)
    assert len(group_weights(config.time_law, schedule)) == k
    size = config.preprocess.size
    assert isinstance(size, int)
    assert Path(config.data).name in DATA[size]
    assert config.preprocess.channels == "rgb"
    assert not config.preprocess.dequantize
    # the paper's objective
    denoiser = config.model.denoiser
    assert (denoiser.conditioning, denoiser.preconditioning) == ("concat", "none")
    assert not denoiser.strict
    assert (config.loss, config.time_law, config.clock) == ("eq8", "uniform", "uniform")
    assert config.model.process == "linear"
    assert config.decay > 0


def test_there_are_some() -> None:
    names = {path.stem for path in FILES}
    assert {"cifar10", "ffhq64", "afhq64", "afhq256", "celebahq256"} <= names
    assert {"table1", "table2", "fig01", "fig02", "fig04", "fig05"} <= names
    assert {"fig06", "fig10", "fig11", "fig13"} <= names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_every_file_builds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # bases are named from there
    if not is_study(path):
        check_training(build(TrainConfig, {**read_yaml(path), "out": Path("out")}))
        return
    need(path)
    made = choices(path)
    assert read_yaml(path)["base"].startswith("configs/paper/")
    checked: set[str] = set()
    for choice in made:
        training = choice.train_config(Path("model"))
        if (key := training.model_dump_json()) not in checked:
            checked.add(key)
            check_training(training)
        k, encode = grouping_of(training).k, choice.encode
        steps = encode["steps"]
        counts = even_steps(steps, k) if isinstance(steps, int) else tuple(steps)
        assert len(counts) == k
        Plan(solver=encode["solver"], coordinate=encode["coordinate"], steps=counts)
        assert encode["data"] == training.data
        # the store holds two sets of n images
        assert 2 * choice.score["n"] <= encode.get("limit", 15_803)


def test_the_first_table_has_its_strategies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    made = {choice.label: choice for choice in choices(FOLDER / "table1.yaml")}
    assert set(made) == {"bottom-to-top", "right-to-left", "cdm", "cdm-inverse"}
    for label, choice in made.items():
        assert choice.train_config(Path("m")).model.grouping.name == label
        assert choice.encode["steps"] == 128
        assert choice.score["n"] == 10_000


def test_the_second_table_s_intervals_are_its_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """t_end4, t_end3, t_end2 of the label are where Eq. (10) ends these groups."""
    import torch

    monkeypatch.chdir(ROOT)
    made = choices(FOLDER / "table2.yaml")
    assert len(made) == 5 * 7
    assert len({str(choice.train) for choice in made}) == 5
    order = grouping_of(made[0].train_config(Path("m"))).order
    for choice in made:
        trained, sampled = choice.label.removeprefix("train ").split(", sample ")
        steps = torch.tensor(choice.encode["steps"])
        lengths = {trained: torch.tensor(choice.train["widths"]), sampled: steps / steps.sum()}
        assert int(steps.sum()) == 100
        for named, length in lengths.items():
            ends = schedule_from_order(order, length).t_end
            told = [float(word) for word in named.split(", ")]
            assert ends[[3, 2, 1]].tolist() == pytest.approx(told, abs=1e-6)
            assert all(a < b for a, b in pairwise(told))
            assert float(ends[0]) == pytest.approx(1)
