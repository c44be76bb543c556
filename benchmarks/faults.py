"""Kill every command at random moments, flip bits of its files, and count what became of it.

    python benchmarks/faults.py            # 126 kills and 2,400 flips; about an hour on two cores
    python benchmarks/faults.py --quick    # 7 kills, 240 flips

**Kills.** A command runs in a process of its own. Once its folder shows progress (a record, a
shard, an image, a line of the journal), and before the end, it is killed at a random place; every
third time it is interrupted as by Ctrl-C. The same command is started again, and killed again, four
times in all; then it runs to its end, and what it leaves is compared with an unbroken run, byte for
byte but for times and paths. A command that ends before its kill is started anew; that is no kill.

**Flips.** One bit of a file is flipped and the file is read through the package's own reader:

    refused    a ValueError that names the file
    harmless   everything that the reader gives is what it was
    traceback  any other exception: a fault
    silent     something else is given: a fault

Exit status 1 if a kill changed a result, or a flip was silent or ended in a traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("train", "study", "encode", "decode", "sample", "prepare", "analyse")
A_ROUND = 4  # kills of one folder before it is let run to its end
POLL_S = 0.002
GIVE_UP_S = 900.0
PRELOAD = [
    "torch",
    "sklearn.datasets",
    "gdm_repr.api",
    "gdm_repr.data",
    "gdm_repr.latents",
    "gdm_repr.pictures",
    "gdm_repr.latents.summary",
    "gdm_repr.tracking",
    "gdm_repr.trainer",
]
CONFIG = """
data: digits
preprocess: {dequantize: true}
model:
  grouping: {name: bands, cuts: [6, 22]}
  network: {name: ddpmpp, channels: 8, multipliers: [1, 2], blocks: 1, attention: [4], dropout: 0.1}
batch_size: 32
images: 1280
warmup: 0
ema_half_life: 1000
checkpoint_every: 64
sample_every: 100000
track: false
"""
STUDY = """
train:
  data: digits
  preprocess: {dequantize: true}
  model: {network: {name: mlp, width: 16, depth: 1}}
  images: 32000
  batch_size: 64
  checkpoint_every: 6400
  warmup: 0
encode: {first: 64, steps: 6, round_trip: false}
score: {n: 24, features: pixels}
choices:
  one group: {train.model.grouping: {name: single}}
  bands: {train.model.grouping: {name: bands, cuts: [6, 22]}}
track: false
"""


@dataclass(frozen=True)
class Job:
    """A command, how far its folder shows it to be, and what of it counts.

    Attributes:
        argv: the command line, but for --out.
        progress: from the folder to what is done.
        result: from the folder to digests by name.
    """

    argv: list[str]
    progress: Callable[[Path], int]
    result: Callable[[Path], dict[str, str]]


@dataclass
class Told:
    """What became of a command's kills."""

    kills: int = 0
    rounds: int = 0
    equal: int = 0
    places: list[str] = field(default_factory=list)


def count(pattern: str) -> Callable[[Path], int]:
    """Return a counter of files."""
    return lambda out: sum(1 for _ in out.glob(pattern)) if out.exists() else 0


def lines(name: str) -> Callable[[Path], int]:
    """Return a counter of lines."""

    def counted(out: Path) -> int:
        paths = list(out.glob(name))
        return sum(path.read_bytes().count(b"\n") for path in paths)

    return counted


def digest(data: bytes) -> str:
    """Return a digest of bytes."""
    return hashlib.sha256(data).hexdigest()


def files(*patterns: str) -> Callable[[Path], dict[str, str]]:
    """Return a function that gives digests of files below a folder."""

    def digests(out: Path) -> dict[str, str]:
        paths = sorted(path for pattern in patterns for path in out.glob(pattern))
        return {path.relative_to(out).as_posix(): digest(path.read_bytes()) for path in paths}

    return digests


def training(out: Path) -> dict[str, str]:
    """Return digests of what a training left: weights, moments and records, without the times."""
    from gdm_repr.checkpoint import load_tensors
    from gdm_repr.train import read_log

    found = {}
    for path in sorted(out.rglob("*.safetensors")):
        for name, tensor in load_tensors(path)[0].items():
            found[f"{path.relative_to(out)} {name}"] = digest(tensor.numpy().tobytes())
    for path in sorted(out.rglob("log.jsonl")):
        rows = [{k: v for k, v in r.items() if k != "images_per_second"} for r in read_log(path)]
        found[str(path.relative_to(out))] = digest(json.dumps(rows).encode())
    return found


def study(out: Path) -> dict[str, str]:
    """Return digests of what a study left: its models, latents and scores.

    Shards name their model by its file, which names its folder: latents are compared instead.
    """
    from gdm_repr.latents.store import open_store

    found = training(out) | files("choices/*/*.png")(out)
    for path in sorted(out.glob("choices/*/latents")):
        found[str(path.relative_to(out))] = digest(open_store(path).z().tobytes())
    for path in sorted(out.glob("choices/*/scored.json")):
        metrics = json.loads(path.read_text())["metrics"]
        metrics = {key: value for key, value in metrics.items() if "second" not in key}
        found[str(path.relative_to(out))] = digest(json.dumps(metrics, sort_keys=True).encode())
    return found


def make_jobs(folder: Path) -> dict[str, Job]:
    """Write configs and inputs, and return the commands."""
    import numpy as np
    from PIL import Image

    (folder / "train.yaml").write_text(CONFIG)
    (folder / "study.yaml").write_text(STUDY)
    images = folder / "images"
    images.mkdir()
    for i in range(600):
        pixels = np.random.default_rng(i).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{i:03d}.png")
    model, latents = folder / "model", folder / "latents"
    run(["train", "--config", str(folder / "train.yaml"), "--out", str(model)])
    both = ["--checkpoint", str(model), "--no-track"]
    digits = ["--data", "digits", "--first"]
    run(["encode", *both, *digits, "400", "--steps", "12", "--out", str(latents)])
    images_made = files("images/*.png", "sheet.png", "images.npy")
    return {
        "train": Job(["train", "--config", str(folder / "train.yaml"), "--resume"],
                     lines("log.jsonl"), training),
        "study": Job(["study", str(folder / "study.yaml")],
                     lambda out: (count("*/*/trained.json")(out) + count("*/*/scored.json")(out)
                                  + lines("models/*/log.jsonl")(out)), study),
        "encode": Job(["encode", *both, *digits, "800", "--steps", "36",
                       "--shard-size", "40", "--batch-size", "40"],
                      count("shards/*.parquet"), files("shards/*.parquet", "quarantine.jsonl")),
        "decode": Job(["decode", *both, "--latents", str(latents), "--batch-size", "25"],
                      count("images/*.png"), images_made),
        "sample": Job(["sample", *both, "--n", "400", "--steps", "24", "--batch-size", "25"],
                      count("images/*.png"), images_made),
        "prepare": Job(["prepare", "--data", str(images), "--size", "32"], count("*.png"),
                       files("*.png", "quarantine.jsonl", "prepared.json")),
        "analyse": Job(["analyse", "band_variance", *both, "--latents", str(latents), "--features",
                        "pixels", "--anchors", "12", "--draws", "16"],
                       lines("journal.jsonl"), files("tables/*.csv", "figures/*.png")),
    }  # fmt: skip


def run(argv: list[str]) -> None:
    """Run a command here, quietly, to its end."""
    from gdm_repr.cli import main

    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        status = main(argv)
    if status:
        sys.exit(f"gdm-repr {' '.join(argv)} ended with {status}: {told.getvalue()[-800:]}")


def _child(argv: list[str], log: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdout = sys.stderr = open(log, "a", buffering=1)  # noqa: SIM115
    from gdm_repr.cli import main

    sys.exit(main(argv))


def start(argv: list[str], log: Path) -> multiprocessing.process.BaseProcess:
    """Start a command in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=_child, args=(argv, str(log)))
    process.start()
    return process


def kill_and_resume(name: str, job: Job, folder: Path, kills: int, rng: random.Random) -> Told:
    """Kill a command so often, in rounds, and compare the end of each round."""
    told, whole = Told(), folder / name / "whole"
    log = folder / f"{name}.log"
    process = start([*job.argv, "--out", str(whole)], log)
    process.join()
    if process.exitcode:
        sys.exit(f"{name} ended with {process.exitcode}: {log.read_text()[-800:]}")
    wanted, total = job.result(whole), job.progress(whole)
    while told.kills < kills:
        out = folder / name / f"round{told.rounds}"
        at_once = min(A_ROUND, kills - told.kills)
        done, misses = 0, 0
        while done < at_once and misses < 20:
            before = job.progress(out)
            if before >= total - 1:
                break
            target = rng.randint(before + 1, total - 1)
            number = signal.SIGINT if told.kills % 3 == 2 else signal.SIGKILL
            process = start([*job.argv, "--out", str(out)], log)
            until = time.monotonic() + GIVE_UP_S
            while process.is_alive() and time.monotonic() < until:
                if job.progress(out) >= target:
                    break
                time.sleep(POLL_S)
            time.sleep(rng.random() * 0.05)
            place = job.progress(out)
            if process.is_alive():
                os.kill(process.pid or 0, number)
            process.join()
            if process.exitcode in (-signal.SIGKILL, 130):
                told.places.append(f"{place}/{total}{' ^C' if process.exitcode == 130 else ''}")
                told.kills, done = told.kills + 1, done + 1
            elif process.exitcode:
                sys.exit(f"{name} ended with {process.exitcode}: {log.read_text()[-800:]}")
            else:  # it was quicker
                misses += 1
                shutil.rmtree(out)
        process = start([*job.argv, "--out", str(out)], log)
        process.join()
        told.rounds += 1
        told.equal += process.exitcode == 0 and job.result(out) == wanted
        if process.exitcode or job.result(out) != wanted:
            found = _first(job.result(out), wanted)
            print(f"  {name}, round {told.rounds}: DIFFERS ({process.exitcode}): {found}")
        else:
            shutil.rmtree(out)
        if misses >= 20:
            break
    return told


def _first(found: dict[str, str], wanted: dict[str, str]) -> str:
    names = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
    return f"{len(names)} of {len(wanted)}, such as {names[:1]}"


Reader = Callable[[Path], Any]


def readers(folder: Path) -> dict[str, tuple[Path, Path, Reader]]:
    """Return, by kind of file: what holds it, the file in there, and how it is read."""
    from gdm_repr.checkpoint import load_checkpoint
    from gdm_repr.latents.store import open_store
    from gdm_repr.training_state import read_state

    def plain(tensors: dict[str, Any]) -> dict[str, str]:
        return {
            name: digest(repr(t.dtype).encode() + t.numpy().tobytes())
            for name, t in tensors.items()
        }

    def checkpoint(root: Path) -> Any:  # noqa: ANN401
        c = load_checkpoint(root / "model.safetensors")
        facts = (c.shape, c.model.model_dump(), c.preprocess.model_dump(), c.training, c.images)
        groups = (
            c.denoiser.grouping.index.tobytes(),
            c.denoiser.grouping.order,
            c.denoiser.grouping.names,
        )
        return facts, groups, plain(c.denoiser.state_dict()), plain({"axes": c.denoiser.axes.std})

    def state(root: Path) -> Any:  # noqa: ANN401
        s = read_state(root / "state.safetensors")
        parts = {part: plain(tensors) for part, tensors in s.parts.items()}
        return s.step, s.config.model_dump(), s.data, s.started_from, s.moved, parts

    def store(root: Path) -> Any:  # noqa: ANN401
        s = open_store(root)
        labels = {name: s.labels(name).tolist() for name in s.manifest.labels}
        errors = {name: digest(s.errors(name).tobytes()) for name in s.manifest.errors}
        rejected = [(r.index, r.id, r.reason) for r in s.quarantined]
        columns = (s.index.tolist(), s.ids, s.sources, labels, errors, rejected)
        return s.manifest.model_dump(), columns, digest(s.z().tobytes())

    model, latents = folder / "model", folder / "latents"
    return {
        "checkpoint": (model, Path("model.safetensors"), checkpoint),
        "state": (model, Path("state.safetensors"), state),
        "manifest": (latents, Path("manifest.json"), store),
        "shard": (latents, Path("shards/shard-00000.parquet"), store),
    }


def flip_bits(
    holder: Path, name: Path, read: Reader, flips: int, rng: random.Random, folder: Path
) -> tuple[Counter[str], list[str]]:
    """Flip bits, one at a time, half of them within 4 KiB of an end, and read the file."""
    root = folder / "flipped"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(holder, root)
    path, told, examples = root / name, Counter[str](), list[str]()
    data, wanted = path.read_bytes(), read(root)
    ends = [*range(min(4096, len(data))), *range(max(0, len(data) - 4096), len(data))]
    for _ in range(flips):
        place = rng.choice(ends) if rng.random() < 0.5 else rng.randrange(len(data))
        bit = rng.randrange(8)
        damaged = bytearray(data)
        damaged[place] ^= 1 << bit
        path.write_bytes(damaged)
        try:
            became = "harmless" if read(root) == wanted else "silent"
            why = ""
        except ValueError as error:
            became = "refused" if path.name in str(error) else "refused without its name"
            why = str(error)
        except Exception as error:
            became, why = "traceback", f"{type(error).__name__}: {error}"
        told[became] += 1
        if became not in ("refused", "harmless") and len(examples) < 5:
            examples.append(f"{became}: byte {place} of {len(data)}, bit {bit} {why[:150]}")
    path.write_bytes(data)
    return told, examples


def main() -> int:
    """Run it and print the tables."""
    parser = argparse.ArgumentParser(description="Kill commands and flip bits.")
    parser.add_argument("--quick", action="store_true", help="a few of each")
    parser.add_argument("--kills", type=int, default=18, help="of each command (default 18)")
    parser.add_argument("--flips", type=int, default=600, help="of each kind of file (default 600)")
    parser.add_argument("--only", choices=[*NAMES, "flips"], help="one command, or the flips")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    kills, flips = (1, 60) if options.quick else (options.kills, options.flips)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOAD)
    rng, bad = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs = make_jobs(folder)
        print(f"{'command':<10} kills  ends  equal  places (progress at the kill / at the end)")
        for command, job in jobs.items():
            if options.only in (None, command):
                told = kill_and_resume(command, job, folder, kills, rng)
                print(f"{command:<10} {told.kills:>5} {told.rounds:>5} {told.equal:>6}  "
                      f"{', '.join(told.places)}", flush=True)  # fmt: skip
                bad += told.rounds - told.equal
        if options.only in (None, "flips"):
            print(f"\n{'file':<11} flips  refused  harmless  traceback  silent")
            for kind, (holder, path, read) in readers(folder).items():
                counts, examples = flip_bits(holder, path, read, flips, rng, folder)
                refused = counts["refused"] + counts["refused without its name"]
                print(f"{kind:<11} {flips:>5} {refused:>8} {counts['harmless']:>9} "
                      f"{counts['traceback']:>10} {counts['silent']:>7}", flush=True)  # fmt: skip
                for line in examples:
                    print(f"  {line}")
                bad += counts["traceback"] + counts["silent"]
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
