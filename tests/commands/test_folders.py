"""Laws of commands that write a folder: one writer, nothing finished lost, known by content."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from gdm_repr import cli, files
from gdm_repr.recipe import Recipe, find_difference

# of tracking; the lock; options beside seconds of a trial
NOT_OURS = {"track.jsonl", "track.sent.json", files.LOCK, "chosen.json"}
HOLD = """
import sys
from pathlib import Path
from gdm_repr.files import only_writer
with only_writer(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


class Writer(NamedTuple):
    """A command, its options but for --out, others of which the first differs, and its name."""

    argv: str
    others: str
    names: str


SCORED = (  # an analysis that is soon done
    "analyse disentanglement --checkpoint {model} --latents {latents} --scores mig "
    "--permutations 2 --resamples 5"
)
WRITERS = {
    "sample": Writer(
        "sample --checkpoint {model} --steps 6 --n 5 --frames 2",
        "sample --checkpoint {model} --steps 6 --n 3 --seed 7",
        "n 5, now 3",
    ),
    "sample npy": Writer(
        "sample --checkpoint {model} --steps 6 --n 5 --format npy",
        "sample --checkpoint {model} --steps 6 --n 5 --format png",
        "format 'npy', now 'png'",
    ),
    "decode": Writer(
        "decode --checkpoint {model} --latents {latents} --limit 5",
        "decode --checkpoint {model} --latents {latents} --limit 3",
        "n 5, now 3",
    ),
    "edit": Writer(
        "edit set --checkpoint {model} --data digits --steps 6 --elements 1 --values 0,1",
        "edit set --checkpoint {model} --data digits --steps 6 --elements 2 --values 1",
        "elements ['1'], now ['2']",
    ),
    "analysis": Writer(f"{SCORED} --images 60", f"{SCORED} --images 61", "images 60, now 61"),
    "analysis with arrays": Writer(
        "analyse total_correlation --checkpoint {model} --latents {latents} --estimators gaussian "
        "--noise 60 --permutations 19 --resamples 10",
        "analyse total_correlation --checkpoint {model} --latents {latents} --estimators gaussian "
        "--noise 20 --controls encoded-noise --permutations 19 --resamples 10",
        "controls ['noise', 'encoded-noise', 'raw', 'pca'], now ['encoded-noise']",
    ),
    "all analyses": Writer(
        "analyse all --checkpoint {model} --latents {latents} --only disentanglement "
        '--settings {{"disentanglement":{{"scores":"mig","permutations":2,"resamples":5}}}}',
        "analyse all --checkpoint {model} --latents {latents} --only disentanglement "
        '--settings {{"disentanglement":{{"scores":"mig","permutations":3,"resamples":5}}}}',
        "permutations 2, now 3",
    ),
    "comparison": Writer(
        "compare --tracking-uri {uri} --experiment sweep",
        "compare --tracking-uri {uri} --experiment sweep --metrics val_loss",
        "metrics [], now ['val_loss']",
    ),
}


@pytest.fixture(scope="module")
def uri(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store of two runs."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    folder = tmp_path_factory.mktemp("store")
    shutil.copy(empty_store, folder / "mlflow.db")
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    sweep = client.create_experiment("sweep", (folder / "files").as_uri())
    for n in range(4):
        run = client.create_run(sweep, n, None, f"run {n}").info.run_id
        values = [Metric("val_loss", n * 1.5, 0, 0), Metric("other", n * 0.5, 0, 0)]
        client.log_batch(run, values, [Param("lr", str(n // 2)), Param("seed", str(n % 2))])
        client.set_terminated(run)
    return f"sqlite:///{folder / 'mlflow.db'}"


Go = Callable[..., int]


@pytest.fixture
def go(
    trained: Path, encoded: Path, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Go:
    """Run a line of options in a folder of its own; the page then names the same ``--out``."""

    def run(line: str, place: str, *flags: str) -> int:
        (tmp_path / place).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / place)
        argv = line.format(model=trained, latents=encoded, uri=uri).split()
        track = [] if argv[0] == "compare" else ["--no-track"]
        return cli.main([*argv, "--out", "out", *track, *flags])

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in NOT_OURS
    }


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Let another process be the folder's writer."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-P", "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as other:
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == b"held\n"
        yield
        other.stdin.close()


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_has_one_writer_and_keeps_what_is_finished(
    name: str, go: Go, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line, others, difference = WRITERS[name]
    out = tmp_path / "a" / "out"
    with held(out):
        assert go(line, "a") == 2
        error = capsys.readouterr().err.strip()
        assert "another process is writing to this folder" in error.splitlines()[-1]
        assert contents(out) == {}
    assert go(line, "a") == 0
    whole = contents(out)
    capsys.readouterr()

    assert go(line, "a") == 0
    assert "finished already" in capsys.readouterr().out
    assert contents(out) == whole

    assert go(others, "a") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert difference in error
    assert "--overwrite" in error
    assert contents(out) == whole

    (out / "mine.txt").write_text("not a command's")
    assert go(others, "a", "--overwrite") == 0
    assert go(others, "b") == 0
    (out / "mine.txt").unlink()
    assert contents(out) == contents(tmp_path / "b" / "out")
    assert go(line, "a", "--overwrite") == 0
    assert contents(out) == whole


def test_a_study_has_one_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    study = {"train": {"data": "digits"}, "grid": {"train.lr": [0.1, 0.2]}}
    Path("tiny.yaml").write_text(json.dumps(study))
    with held(tmp_path / "runs/studies/tiny"):
        assert cli.main(["study", "tiny.yaml", "--no-track"]) == 2
    assert "another process is writing to this folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        "encode --checkpoint {model} --data digits --limit 24 --steps 3 --shard-size 4",
        "prepare --data scenes:0-60 --size 16",
    ],
)
def test_workers_of_one_folder_work_together(
    line: str,
    launch: Callable[..., BaseProcess],
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Encode and prepare take any number of them; the folder is that of one, and then finished."""
    command, *flags = line.format(model=trained).split()
    argv = [*flags, "--workers", "0", *(["--no-track"] if command == "encode" else [])]
    out, alone = tmp_path / "together", tmp_path / "alone"
    jobs = [launch(command, [*argv, "--out", str(out)], tmp_path / f"{n}.log") for n in range(3)]
    for job in jobs:
        job.join()
    logs = [(tmp_path / f"{n}.log").read_text() for n in range(3)]
    assert [job.exitcode for job in jobs] == [0, 0, 0], logs
    assert cli.main([command, *argv, "--out", str(alone)]) == 0
    assert contents(out) == contents(alone)
    capsys.readouterr()
    assert cli.main([command, *argv, "--out", str(out)]) == 0
    assert "is finished already" in capsys.readouterr().out
    assert contents(out) == contents(alone)


@pytest.mark.parametrize("lost", ["images/seed000003.png", "sheet.png", "images/seed000069.png"])
def test_lost_samples_are_drawn_again(go: Go, tmp_path: Path, lost: str) -> None:
    line = "sample --checkpoint {model} --steps 6 --n 70 --batch-size 8"
    assert go(line, "a") == 0
    out = tmp_path / "a" / "out"
    whole = contents(out)
    (out / lost).unlink()
    assert go(line, "a") == 0
    assert contents(out) == whole


def test_unfinished_samples_go_on_under_the_same_conditions_alone(go: Go, tmp_path: Path) -> None:
    line = "sample --checkpoint {model} --steps 6 --n 80 --batch-size "
    assert go(line + "8", "a") == 0
    assert go(line + "9", "b") == 0
    whole = {place: contents(tmp_path / place / "out") for place in "ab"}
    out = tmp_path / "a" / "out"
    recipe = out / "sample.json"

    def stop() -> Path:
        """Leave what a kill would: some images, one of them half written under another name."""
        facts = json.loads(recipe.read_text())
        recipe.write_text(json.dumps({**facts, "finished": None}))
        (out / "images" / "seed000079.png").unlink()
        (out / "images" / ".seed000079.png.7.ab.tmp").write_bytes(b"half")
        kept = out / "images" / "seed000072.png"
        os.utime(kept, ns=(0, 0))
        (out / "images" / "seed000066.png").touch()
        return out / "images" / "seed000065.png"

    kept = stop()
    os.utime(kept, ns=(0, 0))
    assert go(line + "8", "a") == 0
    assert kept.stat().st_mtime_ns == 0  # of a batch that was whole
    assert contents(out) == whole["a"]
    kept = stop()
    os.utime(kept, ns=(0, 0))
    assert go(line + "9", "a") == 0
    assert kept.stat().st_mtime_ns != 0  # other batches may have other last bits
    assert contents(out) == whole["b"]


@pytest.mark.parametrize("command", ["sample --n 2 --steps 6", "decode --latents {latents}"])
def test_images_of_something_else_are_left_alone(
    go: Go, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    name, *flags = command.split()
    line = " ".join([name, "--checkpoint {model}", *flags])
    for place, held_file in (("a", "images/seed000000.png"), ("b", "images.npy")):
        path = tmp_path / place / "out" / held_file
        path.parent.mkdir(parents=True)
        path.write_bytes(b"mine")
        for more in ((), ("--overwrite",)):
            assert go(line, place, *more) == 2
            assert "choose another folder, or remove that first" in capsys.readouterr().err
        assert contents(tmp_path / place / "out") == {held_file: b"mine"}


def test_one_command_s_images_are_not_another_s(
    go: Go, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert go("sample --checkpoint {model} --n 2 --steps 6", "a") == 0
    line = "decode --checkpoint {model} --latents {latents} --limit 3"
    assert go(line, "a") == 2
    assert "command sample, now decode" in capsys.readouterr().err
    assert go(line, "a", "--overwrite") == 0
    assert go(line, "b") == 0
    assert contents(tmp_path / "a" / "out") == contents(tmp_path / "b" / "out")


def test_a_recipe_removes_its_own_files_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "images").mkdir(parents=True)
    for path in (tmp_path / "a.png", out / "images" / "b.png", out / "images" / "c.png"):
        path.write_bytes(b"x")
    names = ["images/b.png", "../a.png", str(tmp_path / "a.png"), "images/../../a.png", "images"]
    Recipe("sample", {}, {}, {}, names).remove(out)
    assert (tmp_path / "a.png").exists()
    assert [path.name for path in (out / "images").iterdir()] == ["c.png"]


def test_a_refused_command_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), files.only_writer(tmp_path / "new"):
        raise ValueError("no")
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    with files.only_writer(tmp_path / "old"):
        pass
    with files.only_writer(tmp_path / "kept"):
        (tmp_path / "kept" / "x").touch()
    assert not any((tmp_path / "old").iterdir())
    assert (tmp_path / "kept").exists()


def test_a_difference_is_told_in_the_user_s_words() -> None:
    was = {"model": "c0f", "n": 8, "plan": {"steps": [4], "solver": "ab3"}}
    assert find_difference(was, {**was, "plan": {"steps": (4,), "solver": "ab3"}}) is None
    changed = {**was, "model": "bee"}
    told = [
        str(find_difference(was, changed, {"model": "runs/a"}, {"model": now}))
        for now in ("runs/b", "runs/a")
    ]
    assert told == ["model runs/a, now runs/b", "model runs/a has changed since"]
    assert str(find_difference({}, {"n": 3})) == "n None, now 3"
    assert find_difference(was, was, {"model": "a"}, {"model": "b"}) is None


def test_paths_are_no_identity(
    go: Go, trained: Path, encoded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same model and latents by other paths are the same; others by the same path are not."""
    shutil.copytree(encoded, tmp_path / "moved")
    shutil.copy(trained / "model.safetensors", tmp_path / "m.safetensors")
    model, latents = tmp_path / "m.safetensors", tmp_path / "moved"
    for line in (
        "decode --checkpoint {model} --latents {latents} --limit 3",
        SCORED,
        "edit vary --checkpoint {model} --latents {latents} --n 2",
    ):
        place = line.split()[0]
        assert go(line, place) == 0
        capsys.readouterr()
        moved = line.replace("{model}", str(model)).replace("{latents}", str(latents))
        assert go(moved, place) == 0
        assert "finished already" in capsys.readouterr().out


def test_another_model_is_named(
    go: Go,
    make_model: Callable[..., Path],
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = make_model(tmp_path / "m.safetensors", (1, 8, 8))
    for line in (
        "decode --latents {latents}",
        "analyse leakage --latents {latents}",
        "edit vary --latents {latents} --n 2",
    ):
        place = line.split()[0]
        assert go(f"{line} --checkpoint {other}", place) == 2
        told = capsys.readouterr().err.strip().splitlines()[-1]
        assert f"were made by the model {trained}; --checkpoint is {other}" in told
        assert told.endswith(f"--checkpoint {trained}")
        assert go(line, place) == 2
        assert "--checkpoint is the default, scenes; " in capsys.readouterr().err
    store = "encode --checkpoint {model} --data digits --limit 4 --steps 3"
    assert go(store, "store") == 0
    capsys.readouterr()
    assert go(store.replace("{model}", str(other)), "store") == 2
    assert f"whose checkpoint is {trained}, but this run has {other};" in capsys.readouterr().err
    sample = "sample --checkpoint {model} --n 2 --steps 3"
    assert go(sample, "sample") == 0
    assert go(sample.replace("{model}", str(other)), "sample") == 2
    assert f"checkpoint {trained}, now {other}" in capsys.readouterr().err


def test_other_images_are_named(go: Go, trained: Path, tmp_path: Path) -> None:
    from gdm_repr.analysis.options import AnalysisConfig
    from gdm_repr.analysis.subject import Subject

    images = np.random.default_rng(0).integers(0, 255, (12, 8, 8), np.uint8)
    np.save(tmp_path / "x.npy", images)
    names = [f"{i:06d},{i % 2}" for i in range(12)]
    (tmp_path / "y.csv").write_text("file,kind\n" + "\n".join(names) + "\n")
    (tmp_path / "z.csv").write_text("file,kind\n" + "\n".join([*names[:-1], "000011,0"]) + "\n")
    data, labels, other = (str(tmp_path / name) for name in ("x.npy", "y.csv", "z.csv"))
    line = "encode --checkpoint {model} --steps 3"
    assert go(line, "a", "--data", data, "--labels", labels) == 0
    latents = tmp_path / "a" / "out"

    def told(data: str, labels: str | None = None) -> str:
        options = {"checkpoint": str(trained), "latents": latents, "out": "none", "data": data}
        look = Subject.open(AnalysisConfig.model_validate({**options, "labels": labels}))
        with pytest.raises(ValueError, match="not the images that") as error:
            look.images([0])
        return str(error.value)

    assert "it had the labels kind, now none; give the --labels used then" in told(data)
    assert "the label 'kind' of '000011' was 1, now 0" in told(data, other)
    np.save(tmp_path / "x.npy", images[::-1])
    assert "its files have changed since" in told(data, labels)
    np.save(tmp_path / "x.npy", images[:7])
    (tmp_path / "y.csv").write_text("file,kind\n" + "\n".join(names[:7]) + "\n")
    assert "it holds 7 of them, there were 12" in told(data, labels)


@pytest.mark.parametrize(
    "line",
    [
        "encode --checkpoint {model}",
        "edit vary --checkpoint {model}",
        "prepare --size 8",
        "analyse leakage --checkpoint {model} --latents {latents}",
    ],
)
def test_a_folder_of_images_is_not_written_to(
    line: str,
    go: Go,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    for data in (".", str(tmp_path / "a"), str(tmp_path)):
        argv = [*line.split(), "--data", data]
        if argv[0] == "prepare":
            assert cli.main([*argv, "--out", str(tmp_path / "a" / "out")]) == 2
        else:
            assert go(" ".join(argv), "a") == 2
        assert "lies in the folder of --data" in capsys.readouterr().err
    assert not (tmp_path / "a" / "out").exists()


def test_what_tracking_keeps_is_no_image(tmp_path: Path) -> None:
    from PIL import Image

    from gdm_repr.data.images import Preprocess
    from gdm_repr.data.loading import open_data

    for name in ("a.png", "mlartifacts/gdm-repr/1/artifacts/sheet.png", "b/mlartifacts/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / name)
    assert len(open_data(tmp_path, Preprocess())) == 3
    (tmp_path / "mlflow.db").touch()
    assert open_data(tmp_path, Preprocess()).ids == ["a.png", "b/mlartifacts/c.png"]


def test_the_next_writer_sweeps_what_a_killed_one_left(tmp_path: Path) -> None:
    left = tmp_path / ".model.safetensors.4711.0123abcd.tmp"
    others = [tmp_path / name for name in (".mine.tmp", "model.4711.0123abcd.tmp", "plain")]
    for path in (left, *others):
        path.write_bytes(b"")
    with files.only_writer(tmp_path):
        assert not left.exists()
    assert all(path.exists() for path in others)
