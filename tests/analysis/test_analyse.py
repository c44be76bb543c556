"""The analyses as commands: reports that resume, agree whatever the batch, and are tracked."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
from collections.abc import Callable
from html import unescape
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gdm_repr import command
from gdm_repr.analysis.__main__ import AllConfig, main, part_options
from gdm_repr.analysis.identity import BY_CONTENT, identity
from gdm_repr.analysis.journal import Journal
from gdm_repr.analysis.options import FeatureConfig
from gdm_repr.analysis.report.provenance import command_line
from gdm_repr.analysis.runner import ANALYSES, NOT_OF_ALL, check_images, load
from gdm_repr.analysis.subject import Subject
from gdm_repr.identity import Mark, marked
from gdm_repr.tracking.record import read_events

QUICK = {
    "band_variance": "--features pixels --anchors 3 --draws 4 --cuts 4 --pool 8",
    "disentanglement": "--scores mig,gaussian_tc --permutations 2 --resamples 5",
    "element_factors": "--anchors 6 --directions 3 --columns 4 --permutations 9 --resamples 40",
    "factor_map": "--probes linear --permutations 9 --resamples 40 --folds 2",
    "leakage": "--images 3",
    "sample_quality": "--features pixels --n 6 --density-neighbours 3 --loss-images 5 --levels 2",
    "total_correlation": "--noise 60 --permutations 19 --resamples 10",
    "traversal": "--features pixels --anchors 6 --directions 3 --values -2,0,2",
    "reconstruction": "--features pixels --images 9 --cuts 4 --shown 2",
}
ALWAYS = sorted(QUICK)
SCORED = f"--images 60 {QUICK['disentanglement']}"
Analyse = Callable[..., dict[str, Any]]
KILLED = """
import signal
from gdm_repr.analysis.journal import Journal
add = Journal.add
def add_and_die(self, key, value):
    add(self, key, value)
    if len(self._done) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
Journal.add = add_and_die
"""


@pytest.fixture
def begin(run_analysis: Callable[..., int], tmp_path: Path) -> Callable[..., None]:
    """Leave what is left of a run that was stopped when it had one unit: its journal."""
    add = Journal.add

    def add_and_stop(self: Journal, key: str, value: object) -> None:
        add(self, key, value)
        raise KeyboardInterrupt

    def run(name: str, *flags: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Journal, "add", add_and_stop)
            assert run_analysis(name, *flags) == 130
        assert (tmp_path / "out" / "journal.jsonl").read_bytes().count(b"\n") == 2

    return run


def result(out: Path) -> dict[str, Any]:
    numbers: dict[str, Any] = json.loads((out / "result.json").read_text(encoding="utf-8"))
    return numbers


def values(out: Path) -> dict[str, Any]:
    """The tables, numbers as an array."""
    tables = result(out)["tables"].values()
    columns = [column for table in tables for column in table.values()]
    numeric = [c for c in columns if all(isinstance(v, int | float | None) for v in c)]
    return {str(i): np.array(c, float) for i, c in enumerate(numeric)}


def test_every_analysis_is_tried() -> None:
    assert set(QUICK) == set(ANALYSES) - set(NOT_OF_ALL)


@pytest.mark.parametrize("name", ALWAYS)
def test_a_report_resumes_and_is_the_same_whatever_the_batch(
    name: str, analyse: Analyse, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, small = tmp_path / "whole", tmp_path / "small"
    analyse(name, QUICK[name], out=whole)
    assert f"report: {whole}" in capsys.readouterr().out
    analyse(name, QUICK[name], "--batch-size 2", out=small)
    first = values(whole)
    for key, column in values(small).items():
        np.testing.assert_allclose(column, first[key], atol=1e-4, err_msg=key)
    # A journal without its last line is what a kill leaves; nothing else is measured again.
    numbers, journal = result(whole), whole / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]) + lines[-1][:10])
    assert analyse(name, QUICK[name], out=whole) == numbers
    assert journal.read_bytes().splitlines(keepends=True)[:-1] == lines[:-1]


@pytest.fixture(scope="module")
def colour(
    make_model: Callable[..., Path],
    make_store: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """A model that separates channels and is not strict, and the latents of 12 colour images."""
    folder = tmp_path_factory.mktemp("colour")
    grouping = {"name": "bands", "cuts": [4], "per_channel": True, "order": [3, 1, 2, 0, 4, 5]}
    model = make_model(
        folder / "model.safetensors", (3, 4, 6), grouping=grouping, denoiser={"strict": False}
    )
    x = np.random.default_rng(0).integers(0, 256, (12, 4, 6, 3), np.uint8)
    np.save(folder / "x.npy", x)
    latents = make_store(folder / "latents", model, f"--data {folder}/x.npy --steps 12")
    return {"checkpoint": model, "latents": latents, "data": folder / "x.npy"}


@pytest.mark.parametrize("name", ALWAYS)
def test_groups_of_channels_in_any_order(
    name: str, colour: dict[str, Path], analyse: Analyse, tmp_path: Path
) -> None:
    analyse(name, QUICK[name], **colour)
    assert (tmp_path / "out" / "report.html").is_file()


def test_a_killed_analysis_goes_on(
    launch: Callable[..., BaseProcess],
    trained: Path,
    encoded: Path,
    analyse: Analyse,
    tmp_path: Path,
) -> None:
    """Kill it when it has two of its anchors; the report is that of an unbroken run."""
    more = [*QUICK["band_variance"].split(), "--source=samples", "--batch-size=8"]
    out, whole = tmp_path / "out", tmp_path / "whole"
    files = ["--checkpoint", str(trained), "--latents", str(encoded)]
    argv = ["band_variance", *files, "--out", str(out), *more, "--no-track"]
    job = launch("analyse", argv, tmp_path / "log", KILLED)
    job.join()
    assert job.exitcode == -signal.SIGKILL, (tmp_path / "log").read_text()
    assert (out / "journal.jsonl").read_bytes().count(b"\n") == 3
    assert not (out / "report.html").exists()
    tables = analyse("band_variance", *more, out=out)["tables"]
    assert tables == analyse("band_variance", *more, out=whole)["tables"]


@pytest.mark.parametrize("name", ALWAYS)
def test_other_settings_are_refused_in_one_line(
    name: str, begin: Callable[..., None], refused: Callable[..., str]
) -> None:
    begin(name, QUICK[name])
    told = refused(name, QUICK[name], "--seed 5")
    assert "holds results of other settings (seed 0, now 5)" in told


def test_all_writes_an_index_and_tracks_children(
    trained: Path,
    encoded: Path,
    empty_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    config = tmp_path / "all.yaml"
    settings = {"band_variance": {"anchors": 2, "draws": 3, "cuts": 3, "pool": 8}}
    config.write_text(json.dumps({"settings": settings, "features": ["pixels"]}))
    out = tmp_path / "analysis"
    argv = ["--checkpoint", str(trained), "--latents", str(encoded), "--out", str(out)]
    assert main(["all", *argv, "--config", str(config), "--only", "band_variance"]) == 0
    assert (out / "index.html").is_file()
    assert (out / "band_variance" / "report.html").is_file()
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    runs = {run.info.run_name: run for run in mlflow.search_runs(
        experiment_names=["gdm-repr"], output_format="list")}  # fmt: skip
    parent, child = runs["analyses of digits"], runs["band variance of digits"]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    share = result(out / "band_variance")["metrics"][0]["values"]["band_variance/0_5"]
    assert child.data.metrics["band_variance/0_5"] == pytest.approx(share)
    history = mlflow.MlflowClient().get_metric_history(
        child.info.run_id, "band_variance_curve/pixels"
    )
    assert [point.step for point in history] == sorted(point.step for point in history)
    assert history[0].value == 1
    names = {a.path for a in mlflow.MlflowClient().list_artifacts(child.info.run_id)}
    assert {"report.html", "result.json", "figures", "tables"} <= names
    assert child.inputs is not None
    dataset = child.inputs.dataset_inputs[0].dataset
    assert dataset.name == "digits"
    assert read_events(out)


def test_the_index_leads_to_every_finished_analysis(
    run_analysis: Callable[..., int], tmp_path: Path
) -> None:
    """To those of earlier runs too, in the table's order, with answer and picture."""
    config = tmp_path / "all.yaml"
    settings: dict[str, dict[str, Any]] = {"traversal": {"anchors": 6, "directions": 3}}
    settings["disentanglement"] = {"scores": "mig", "permutations": 2, "resamples": 5}
    settings["factor_map"] = {"probes": "linear", "permutations": 9, "resamples": 40, "folds": 2}
    config.write_text(json.dumps({"settings": settings, "features": ["pixels"]}))
    out = tmp_path / "out"

    def found(only: str, folder: Path = out) -> tuple[list[str], str]:
        assert run_analysis("all", f"--config {config} --only {only}", out=folder) == 0
        page = (folder / "index.html").read_text(encoding="utf-8")
        assert page.count("<img") == page.count("<h2>") - 1  # the last heading is of the command
        links = re.findall('<h2><a href="([^"]*)/report.html">', page)
        assert all((folder / name / "report.html").is_file() for name in links)
        answers = [sentence for name in links for sentence in result(folder / name)["answer"]]
        assert all(sentence[:40] in unescape(page) for sentence in answers)
        return links, page.partition("<h2>Make it again")[0]

    assert found("disentanglement")[0] == ["disentanglement"]
    (out / "factor_map").mkdir()  # begun, and not finished
    (out / "factor_map" / "result.json").write_text("{}")
    assert found("traversal")[0] == ["traversal", "disentanglement"]
    links, page = found("factor_map")
    assert links == ["traversal", "factor_map", "disentanglement"]
    at_once = tmp_path / "at once"
    for name in links:  # nothing is measured again
        (at_once / name).mkdir(parents=True)
        shutil.copy(out / name / "journal.jsonl", at_once / name)
    assert page == found(",".join(links), at_once)[1]


def test_files_are_known_by_what_they_hold(
    encoded: Path, begin: Callable[..., None], analyse: Analyse, tmp_path: Path
) -> None:
    """No option that names a file decides by its path; the journal holds none."""
    for name in ANALYSES:
        options = load(name).options
        fields = options.model_fields.items()
        paths = {key for key, spec in fields if "Path" in str(spec.annotation)}
        assert paths <= {*marked(options, Mark.FREE), *BY_CONTENT}
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "w.pth").write_bytes(b"weights" if name < "c" else b"others")
        shutil.copytree(encoded, tmp_path / name / "latents")
    base = {"checkpoint": "m", "latents": tmp_path, "out": tmp_path}

    def of(analysis: str, **options: object) -> dict[str, Any]:
        return identity(load(analysis).options.model_validate({**base, **options}))

    for key, analysis, value in (
        ("weights", "band_variance", "{}/w.pth"),
        ("baseline", "total_correlation", "{}/latents"),
        ("baseline", "factor_map", "k1={}/latents"),
        ("baseline", "disentanglement", "{}/w.pth"),
    ):
        one, same = (of(analysis, **{key: value.format(tmp_path / name)}) for name in "ab")
        assert one == same
        assert str(tmp_path) not in json.dumps(one)
    assert of("band_variance", weights=tmp_path / "a/w.pth") != of(
        "band_variance", weights=tmp_path / "c/w.pth"
    )
    assert of("band_variance") == of("band_variance", download=True)
    more = "--images 60 --noise 40 --permutations 19 --resamples 10 --controls none"
    more += f" --estimators gaussian --baseline {tmp_path}/"
    begin("total_correlation", f"{more}a/latents")
    journal = tmp_path / "out" / "journal.jsonl"
    head, unit = journal.read_text().splitlines()
    assert str(tmp_path) not in json.dumps(json.loads(head)["settings"])
    analyse("total_correlation", f"{more}b/latents")
    assert journal.read_text().splitlines()[1] == unit


def test_another_analysis_or_other_latents_are_named(
    trained: Path,
    make_store: Callable[..., Path],
    begin: Callable[..., None],
    refused: Callable[..., str],
    tmp_path: Path,
) -> None:
    begin("disentanglement", SCORED)
    told = refused("traversal", "--features pixels")
    assert "holds the analysis disentanglement, now traversal" in told
    others = make_store(tmp_path / "others", trained, "--data digits --limit 60 --steps 6")
    told = refused("disentanglement", SCORED, latents=others)
    assert "(solver " in told  # the first that differs of what made them


def test_options_of_all_reach_their_analysis(tmp_path: Path) -> None:
    given = {"checkpoint": "m", "latents": tmp_path, "out": tmp_path / "out", "seed": 3}
    own = {"features": ["pixels"], "settings": {"band_variance": {"draws": 5}}}
    config = AllConfig.model_validate({**given, **own})
    options = part_options(load("band_variance"), config)
    assert (options.draws, options.seed, options.features) == (5, 3, ("pixels",))
    assert options.out == tmp_path / "out" / "band_variance"
    wrong = config.model_copy(update={"settings": {"band_variance": {"drwas": 5}}})
    with pytest.raises(ValueError, match=r"--settings band_variance.drwas: no such option"):
        part_options(load("band_variance"), wrong)
    with pytest.raises(ValueError, match="analysis 'bandvariance': unknown"):
        load("bandvariance")


def test_the_command_of_a_page_gives_its_options(tmp_path: Path) -> None:
    """Of all analyses, too, whose options of single ones are told as JSON."""
    given = {"checkpoint": "a b", "latents": str(tmp_path), "out": str(tmp_path / "out")}
    settings = {"band_variance": {"draws": 5}, "disentanglement": {"scores": "mig,dci"}}
    config = AllConfig.model_validate(
        {**given, "features": ["pixels", "dct"], "track": False, "settings": settings}
    )
    words = shlex.split(command_line("all", config))
    assert words[:3] == ["gdm-repr", "analyse", "all"]
    read: list[AllConfig] = []

    def keep(config: AllConfig) -> int:
        read.append(config)
        return 0

    assert command.run(AllConfig, "analyse all", words[3:], keep) == 0
    assert read == [config]


def subject(trained: Path, encoded: Path, data: str | None = None) -> Subject:
    options = {"checkpoint": str(trained), "latents": encoded, "out": "none", "data": data}
    return Subject.open(FeatureConfig.model_validate(options))


def test_a_subject_s_images_are_those_of_its_latents(trained: Path, encoded: Path) -> None:
    found = subject(trained, encoded)
    rows = found.rows(5, seed=1)
    assert rows == sorted(set(rows))
    x, z = found.images(rows), found.z(rows)
    back = found.model.decode(z, found.plan)
    assert float((back - x).square().mean().sqrt()) < 0.1
    assert found.anchors(5, "images", seed=1).rows == rows
    samples = found.anchors(3, "samples", seed=1)
    assert samples.rows == []
    assert samples.z.shape == (3, 1, 64)
    with pytest.raises(ValueError, match="n=97: the store holds 96 images only"):
        found.rows(97)


def test_other_images_are_refused(trained: Path, encoded: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((96, 8, 8), np.uint8))
    with pytest.raises(ValueError, match="not the images that"):
        subject(trained, encoded, data=str(tmp_path / "x.npy")).images([0])
    with pytest.raises(ValueError, match="neither a path that exists"):
        subject(trained, encoded, data=str(tmp_path / "none")).images([0])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--features pixels,pixels", "names a feature twice"),
        ("--features pixels,dct --layers relu1_1", "--layers: is of one network"),
        ("--features lpips-vgg --no-pooled", "extractor 'lpips-vgg': unknown"),
        ("--features nosuch", "extractor 'nosuch': unknown"),
    ],
)
def test_features_are_checked_before_anything_is_measured(
    refused: Callable[..., str], more: str, message: str
) -> None:
    assert message in refused("band_variance", more)


@pytest.mark.parametrize("name", sorted(ANALYSES))  # those with sets say the rest themselves
def test_too_few_images_are_told_before_work_with_advice_that_can_be_followed(name: str) -> None:
    """Any number of images either will do, or the line says what would."""
    options = load(name).options
    given = {"checkpoint": "c", "latents": "z", "out": "o"}
    config = options.model_validate(given)
    least = config.needs().images
    assert least >= 2 and config.needs().why
    for total in range(80):
        try:
            check_images(name, config, total)
        except ValueError as error:
            line = str(error)
            assert "\n" not in line and str(total) in line
            if total < least:
                assert line.startswith("--latents 'z': holds ") and f"at least {least}" in line
                continue
            flag, most = re.findall(r"^--(\S+) .* use at most (\d+), or encode more$", line)[0]
            followed = options.model_validate({**given, flag.replace("-", "_"): int(most)})
            check_images(name, followed, total)
        else:
            assert total >= least


@pytest.mark.parametrize("name", ["total_correlation", "sample_quality", "reconstruction"])
def test_a_store_of_two_images_is_refused_in_one_line(
    name: str,
    trained: Path,
    make_store: Callable[..., Path],
    refused: Callable[..., str],
    tmp_path: Path,
) -> None:
    latents = make_store(tmp_path / "latents", trained, "--data digits --limit 2 --steps 3")
    features = "" if name == "total_correlation" else "--features pixels"
    line = refused(name, features, latents=latents)
    assert f"holds 2 images, and {name} needs at least" in line
    assert not (tmp_path / "out" / "journal.jsonl").exists()
    line = refused("all", "--features pixels --only", name, out="x", latents=latents)
    assert f"can't be done, so nothing was measured. {name}: --latents" in line


def test_names_of_analyses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in ANALYSES)
    assert main([]) == 2
    assert main(["band-varianz"]) == 2
    assert "did you mean band_variance?" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["band-variance", "--help"])
    assert stop.value.code == 0
