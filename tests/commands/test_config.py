"""Options: where values come from, what is refused, and that one definition serves all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gdm_repr.boundary.yaml_file import read_yaml
from gdm_repr.command import parse, run
from gdm_repr.config import DecodeConfig, EncodeConfig, SampleConfig, TrainConfig

YAML = """
out: from-yaml
data: digits
lr: 0.25
seed: 5
preprocess: {size: [8, 8], channels: gray}
model:
  grouping: {name: bands, cuts: [6, 21], order: [2, 0, 1]}
  network: {name: mlp, width: 32}
"""


@pytest.fixture
def yaml(tmp_path: Path) -> Path:
    path = tmp_path / "options.yaml"
    path.write_text(YAML)
    return path


def train(*argv: str) -> TrainConfig:
    return parse(TrainConfig, "train", argv)


def encode(*argv: str) -> EncodeConfig:
    return parse(EncodeConfig, "encode", ["--checkpoint", "m", "--data", "d", "--out", "o", *argv])


def test_flags_come_before_the_environment_before_yaml_before_defaults(
    yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GDM_REPR_LR", "0.5")
    monkeypatch.setenv("GDM_REPR_SEED", "6")
    monkeypatch.setenv("GDM_REPR_PREPROCESS__SIZE", "16")
    monkeypatch.setenv("GDM_REPR_IMAGES", "")  # as if it were not set
    config = train("--config", str(yaml), "--seed", "7")
    assert (config.seed, config.lr, str(config.out)) == (7, 0.5, "from-yaml")
    assert config.images == TrainConfig.model_fields["images"].default
    assert config.preprocess.model_dump(include={"size", "channels"}) == {
        "size": 16,
        "channels": "gray",
    }


def test_the_environment_may_name_the_yaml_file(
    yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GDM_REPR_CONFIG", str(yaml))
    assert train().lr == 0.25
    assert train("--lr", "1").lr == 1


def test_another_name_drops_the_options_of_the_old_one(
    yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = train("--config", str(yaml)).model
    assert config.grouping.options() == {"cuts": [6, 21]}
    assert config.grouping.order == (2, 0, 1)
    config = train("--config", str(yaml), "--model.grouping.name", "cdm").model
    assert (config.grouping.options(), config.grouping.order) == ({}, None)
    assert config.network.model_dump()["width"] == 32
    same = '{"name": "bands", "cuts": [9]}'
    config = train("--config", str(yaml), "--model.grouping", same).model
    assert (config.grouping.options(), config.grouping.order) == ({"cuts": [9]}, (2, 0, 1))
    monkeypatch.setenv("GDM_REPR_MODEL__NETWORK", '{"name": "ddpmpp", "channels": 8}')
    config = train("--config", str(yaml)).model
    assert config.network.model_dump()["channels"] == 8
    config = train("--config", str(yaml), "--model.network.name", "mlp").model
    assert config.network.model_dump()["width"] == 512


@pytest.mark.parametrize(
    ("value", "steps"),
    [("48", 48), ("4,5,6", (4, 5, 6)), ("[4,5,6]", (4, 5, 6)), ("[48]", 48)],
)
def test_steps_are_one_number_or_a_list(value: str, steps: object) -> None:
    assert encode("--steps", value).steps == steps


@pytest.mark.parametrize(
    ("value", "law"), [("uniform", "uniform"), ("groups", "groups"), ("1,2,3", (1.0, 2.0, 3.0))]
)
def test_the_time_law_is_a_name_or_weights(value: str, law: object) -> None:
    assert train("--out", "o", "--data", "d", "--time-law", value).time_law == law


@pytest.mark.parametrize(
    ("value", "orders"),
    [("random", "random"), ("[[0,1],[1,0]]", ((0, 1), (1, 0))), ("[[1,0]]", ((1, 0),))],
)
def test_orders_are_a_name_or_permutations(value: str, orders: object) -> None:
    assert train("--out", "o", "--data", "d", "--orders", value).orders == orders


def test_switches_have_a_negative() -> None:
    config = encode("--no-track", "--no-round-trip", "--latent-error", "--dequantize")
    assert (config.track, config.round_trip, config.latent_error) == (False, False, True)
    assert (config.dequantize, encode().dequantize) == (True, None)
    assert encode("--no-dequantize").dequantize is False


def test_flags_that_scripts_rely_on() -> None:
    flags = (
        "--size 8 --limit 9 --batch-size 7 --solver euler --steps 6 --device cpu "
        "--precision bf16 --shard-size 5 --seed 3 --no-track"
    )
    config = encode(*flags.split())
    assert config.model_dump(exclude={"checkpoint", "data", "out"}, exclude_defaults=True) == {
        "size": 8, "limit": 9, "batch_size": 7, "solver": "euler", "steps": 6, "device": "cpu",
        "precision": "bf16", "shard_size": 5, "seed": 3, "track": False,
    }  # fmt: skip
    drawn = parse(
        SampleConfig, "sample", ["--checkpoint", "m", "--n", "5", "--seed", "2", "--out", "o"]
    )
    assert (drawn.n, drawn.seed, str(drawn.out)) == (5, 2, "o")
    decoded = parse(DecodeConfig, "decode", ["--checkpoint", "m", "--latents", "z", "--out", "o"])
    assert (str(decoded.latents), str(decoded.out)) == ("z", "o")
    assert train("--out", "o", "--data", "d", "--resume").resume


def test_what_is_printed_can_be_read_back(
    yaml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def body(config: TrainConfig) -> int:
        raise AssertionError("a dry run runs nothing")

    argv = ["--config", str(yaml), "--time-law", "1,2,3", "--orders", "[[0,1,2]]", "--dry-run"]
    assert run(TrainConfig, "train", argv, body) == 0
    shown = capsys.readouterr().out
    (tmp_path / "again.yaml").write_text(shown)  # JSON is YAML
    again = train("--config", str(tmp_path / "again.yaml"))
    first = train(*argv)
    assert again.model_dump(exclude={"config"}) == first.model_dump(exclude={"config"})
    assert json.loads(shown)["model"]["network"]["width"] == 32


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--lr", "fast"], "lr='fast': Input should be a valid number"),
        (["--lr", "0"], "lr='0': Input should be greater than 0"),
        (["--decay", "2"], "decay='2': Input should be less than or equal to 1"),
        (["--orders", "shuffled"], "orders"),
        (["--model.network.name", "resnet"], "use one of ddpmpp, mlp"),
        (["--model.network", '{"name": "mlp", "wide": 3}'], "the options are name, width, depth"),
        (["--preprocess.fit", "tile"], "fit='tile' cuts tiles of `size` pixels"),
    ],
)
def test_a_bad_value_is_named_with_its_rule(argv: list[str], says: str) -> None:
    with pytest.raises((ValueError, SystemExit)) as error:
        train("--out", "o", "--data", "d", *argv)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--stepz", "3"], "unrecognized arguments: --stepz"),
        (["--step", "3"], "unrecognized arguments: --step 3"),  # no abbreviations
        (["--device", "tpu"], "'tpu'"),
    ],
)
def test_a_flag_that_does_not_exist_is_one_line(
    argv: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        flags = ["--checkpoint", "m", "--data", "d", "--out", "o", *argv]
        status = run(EncodeConfig, "encode", flags, _ok)
    except SystemExit as end:
        assert isinstance(end.code, int)
        status = end.code
    (line,) = capsys.readouterr().err.splitlines()
    assert status == 2
    assert line.startswith("gdm-repr encode: error: ")
    assert says in line


def _ok(config: EncodeConfig) -> int:
    return 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("stepz: 3\n", "stepz: no such option"),
        ("model: {netwrk: {name: mlp}}\n", "model.netwrk: no such option"),
        ("preprocess: {sise: 8}\n", "preprocess.sise: no such option"),
        ("- a\n- b\n", "must hold 'option: value' lines, not list"),
        ("", "must hold 'option: value' lines, not NoneType"),
        ("lr: [1\n", "not readable as YAML"),
        ("lr: !!python/object/apply:os.getcwd []\n", "not readable as YAML"),
        ("lr: {a: 1}\n", "lr={'a': 1}: Input should be a valid number"),
    ],
)
def test_a_bad_yaml_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        train("--out", "o", "--data", "d", "--config", str(path))
    assert says in " ".join(str(error.value).split())


def test_yaml_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"\xff\xfe\x00lr")
    with pytest.raises(ValueError, match="not readable as YAML"):
        read_yaml(path)


def test_a_bad_environment_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDM_REPR_MODEL", "{not json")
    with pytest.raises(ValueError, match='"model"'):
        train("--out", "o", "--data", "d")
    monkeypatch.setenv("GDM_REPR_MODEL", '{"network": {"name": "mlp"}}')
    monkeypatch.setenv("GDM_REPR_BATCH_SIZE", "many")
    with pytest.raises(ValueError, match="batch_size='many'"):
        train("--out", "o", "--data", "d")


def test_options_cannot_be_changed_afterwards() -> None:
    config = encode()
    with pytest.raises(ValueError, match="frozen"):
        config.steps = 3


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (TrainConfig, "train"),
        (EncodeConfig, "encode"),
        (DecodeConfig, "decode"),
        (SampleConfig, "sample"),
    ],
)
def test_help_shows_examples_and_every_option(
    options: type[TrainConfig | EncodeConfig | DecodeConfig | SampleConfig],
    name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        parse(options, name, ["--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert f"python -m gdm_repr.{name} --" in shown
    for option, field in options.model_fields.items():
        assert f"--{option.replace('_', '-')}" in shown
        assert " ".join((field.description or "?").split())[:20] in " ".join(shown.split())
