"""How long `gdm-repr compare` takes with many runs in an MLflow store.

    python benchmarks/tracking.py            # 1,000 runs: 50 choices of 20 seeds, and 500 of 2
    python benchmarks/tracking.py --quick    # 100 runs

One run is logged through MLflow. The others are its rows, copied in the database under new ids,
with values of their own: logging them one by one would take minutes. Each has a picture, too.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import numpy as np
from PIL import Image

from gdm_repr.tracking.delivery import open_client

METRICS, PARAMS = 40, 80  # of a run, as a study's have
TABLES = ("runs", "tags", "params", "metrics", "latest_metrics")


def make_store(folder: Path, runs: int, choices: int) -> str:
    """Make a store of runs, a seed in each round of the choices, and return its URI."""
    from mlflow.entities import Metric, Param

    path = folder / "mlflow.db"
    uri = f"sqlite:///{path}"
    client = open_client(uri)
    experiment = client.create_experiment("many", (folder / "files").as_uri())
    tags = {f"version.{number}": "1.0" for number in range(20)}
    first = client.create_run(experiment, 0, tags, "run").info.run_id
    params = [Param(f"option.{number}", "same") for number in range(PARAMS)]
    params += [Param("lr", "0"), Param("seed", "0")]
    metrics = [Metric(f"score/{number}", float(number), 0, 0) for number in range(METRICS)]
    metrics.append(Metric("evaluations_per_sample", 9.0, 0, 0))
    client.log_batch(first, metrics, params)
    picture = folder / "strip.png"
    Image.new("RGB", (320, 32), "gray").save(picture)
    client.log_artifact(first, str(picture))
    client.set_terminated(first)
    rng = np.random.default_rng(0)
    with sqlite3.connect(path) as database:
        for number in range(1, runs):
            run = uuid.uuid4().hex
            for table in TABLES:
                copy_rows(database, table, first, run)
            seed, choice = divmod(number, choices)
            for key, value in (("seed", seed), ("lr", choice)):
                database.execute(
                    "UPDATE params SET value = ? WHERE run_uuid = ? AND key = ?",
                    (str(value), run, key),
                )
            database.execute(
                "UPDATE latest_metrics SET value = value + ? WHERE run_uuid = ?",
                (choice / choices + float(rng.normal()), run),
            )
    return uri


def copy_rows(database: sqlite3.Connection, table: str, of: str, to: str) -> None:
    """Copy a run's rows of a table, whatever columns it has, to another run."""
    columns = [f'"{row[1]}"' for row in database.execute(f"PRAGMA table_info({table})")]
    taken = ["?" if column == '"run_uuid"' else column for column in columns]
    database.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) "
        f"SELECT {', '.join(taken)} FROM {table} WHERE run_uuid = ?",
        (to, of),
    )


def seconds_to_compare(uri: str, out: Path) -> float:
    """Compare all runs in a process of its own."""
    given = ["--tracking-uri", uri, "--experiment", "many", "--out", str(out)]
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "gdm_repr.analysis.compare", *given],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"MPLBACKEND": "Agg"},
    )
    return time.monotonic() - started


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="100 runs")
    parser.add_argument("--runs", type=int, default=1000, help="in the store")
    options = parser.parse_args()
    runs = 100 if options.quick else options.runs
    print(f"{'runs':>6}{'choices':>9}{'seeds':>7}{'seconds':>9}")
    for choices in (runs // 20, runs // 2):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            uri = make_store(folder, runs, choices)
            seconds = seconds_to_compare(uri, folder / "comparison")
        print(f"{runs:>6}{choices:>9}{runs // choices:>7}{seconds:>9.1f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
