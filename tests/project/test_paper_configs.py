"""The paper's settings: every file of configs/paper builds all it names, to groups and steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gdm_repr.analysis.sample_quality.options import SampleQualityConfig
from gdm_repr.analysis.study.choices import Choice, StudyConfig, list_choices
from gdm_repr.basis import build_basis
from gdm_repr.boundary.yaml_file import read_yaml
from gdm_repr.command import build
from gdm_repr.config import TrainConfig
from gdm_repr.grouping import Grouping, build_grouping
from gdm_repr.ode import Plan
from gdm_repr.schedule import group_weights, schedule_from_order
from gdm_repr.steps import even_steps

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "configs" / "paper"
FILES = sorted(FOLDER.rglob("*.yaml"))
STUDY_KEYS = {"grid", "choices"}
DATA = {32: ["cifar10"], 64: ["ffhq64", "afhq64"], 256: ["afhq256", "celebahq256"]}


def is_study(path: Path) -> bool:
    return not STUDY_KEYS.isdisjoint(read_yaml(path))


def choices(path: Path) -> list[Choice]:
    return list_choices(build(StudyConfig, {**read_yaml(path), "config": path}))


def shape_of(config: TrainConfig) -> tuple[int, int, int]:
    """Return (C, H, W) without opening the data."""
    size = 8 if config.data == "digits" else config.preprocess.size
    assert isinstance(size, int)
    return 3 if config.preprocess.channels == "rgb" else 1, size, size


def grouping_of(config: TrainConfig) -> Grouping:
    shape, model = shape_of(config), config.model
    build_basis(model.basis.name, shape[1:], **model.basis.options())
    return build_grouping(
        model.grouping.name,
        shape,
        per_channel=model.grouping.per_channel,
        order=model.grouping.order,
        **model.grouping.options(),
    )


def check_training(config: TrainConfig) -> None:
    """Check what a wrong setting would only show after the data were opened."""
    k = grouping_of(config).k
    widths = None if config.widths is None else torch.tensor(config.widths)
    schedule = schedule_from_order(range(k), widths)
    assert len(group_weights(config.time_law, schedule)) == k


def check_as_the_paper(config: TrainConfig) -> None:
    """Check the paper's objective, and that data and size go together."""
    assert Path(config.data).name in DATA[shape_of(config)[1]]
    assert config.preprocess.channels == "rgb"
    assert not config.preprocess.dequantize
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
    at_full_size = path.parent == FOLDER
    if is_study(path):
        made = choices(path)
        trainings = list({repr(c.train): c.train for c in made}.values())
    else:
        made = []
        trainings = [build(TrainConfig, {**read_yaml(path), "out": Path("out")})]
    for training in trainings:
        check_training(training)
        if at_full_size:
            check_as_the_paper(training)
    for choice in made:
        encode, (_, scores) = choice.encode, choice.analyses[0]
        assert encode.data == choice.train.data
        steps, k = encode.steps, grouping_of(choice.train).k
        counts = even_steps(steps, k) if isinstance(steps, int) else steps
        assert len(counts) == k
        Plan(encode.solver, encode.coordinate, counts)
        # the store holds two sets of n images; AFHQ v2 has 15,803
        assert isinstance(scores, SampleQualityConfig) and scores.n
        assert 2 * scores.n <= (encode.limit or encode.first or (15_803 if at_full_size else 1_797))


def test_the_first_table_has_its_strategies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    made = {choice.label: choice for choice in choices(FOLDER / "table1.yaml")}
    assert set(made) == {"bottom-to-top", "right-to-left", "cdm", "cdm-inverse"}
    for label, choice in made.items():
        assert choice.train.model.grouping.name == label
        assert choice.encode.steps == 128
        assert choice.analyses[0][1].model_dump()["n"] == 10_000


@pytest.mark.parametrize("name", ["table2.yaml", "small/table2.yaml"])
def test_the_second_table_s_intervals_are_its_labels(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """t_end4, t_end3, t_end2 of the label are where Eq. (10) ends these groups."""
    monkeypatch.chdir(ROOT)
    made = choices(FOLDER / name)
    assert len({choice.label for choice in made}) == 5 * 7
    assert len({repr(choice.train.model_copy(update={"seed": 0})) for choice in made}) == 5
    order = grouping_of(made[0].train).order
    for choice in made:
        steps = torch.tensor(choice.encode.steps)
        lengths = [torch.tensor(choice.train.widths), steps / steps.sum()]
        for label, length in zip(choice.label.split(", "), lengths, strict=True):
            told = [float(word) for word in label.split()]
            ends = schedule_from_order(order, length).t_end
            assert ends[[3, 2, 1]].tolist() == pytest.approx(told, abs=1e-6)
            assert float(ends[0]) == pytest.approx(1)
            assert told == sorted(set(told))
