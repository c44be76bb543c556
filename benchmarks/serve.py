"""Images encoded a second by the service, with and without batches, beside the bare network.

    python benchmarks/serve.py            # the shipped model, 16 clients of one image each
    python benchmarks/serve.py --mixed    # 1 to 8 images a request, some wrong, some that leave

Both servers are real processes and are asked in turns, round by round, so that a busy machine is
busy for both. The bare network makes as many calls as the plan does, on the sizes of batches that
came about. Every answer is compared with the Python API's; the largest difference is printed.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import requests
import torch

from gdm_repr import GDM
from gdm_repr.data import open_data

NPY = "application/x-npy"


class Server:
    """``gdm-repr serve`` in a process of its own."""

    def __init__(self, checkpoint: str, folder: Path, name: str, *flags: str) -> None:
        """Start it, and wait until it answers."""
        log = folder / f"{name}.log"
        command = [sys.executable, "-m", "gdm_repr.serve", "--checkpoint", f"m={checkpoint}"]
        with log.open("w") as file:
            self._process = subprocess.Popen(
                [*command, "--port", "0", "--queue-seconds", "600", *flags],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},  # alike, whichever comes first
            )
        while not (found := re.search(r"running on (http://\S+)", log.read_text())):
            if self._process.poll() is not None:
                raise SystemExit(log.read_text())
            time.sleep(0.2)
        self.url = found[1]

    def encode(self, x: torch.Tensor, steps: int, seconds: float = 600) -> requests.Response:
        """Ask for latents."""
        buffer = io.BytesIO()
        np.save(buffer, x.numpy())
        return requests.post(
            f"{self.url}/v1/encode",
            params={"steps": steps},
            data=buffer.getvalue(),
            headers={"Content-Type": NPY, "Accept": NPY},
            timeout=seconds,
        )

    def batches(self) -> dict[str, float]:
        """Return how many batches and images there were."""
        text = requests.get(f"{self.url}/metrics", timeout=60).text
        found = re.findall(r"^gdm_batch_images_(count|sum) (\S+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in found}

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()


def ask(
    server: Server,
    images: list[torch.Tensor],
    wanted: list[torch.Tensor],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Ask for each batch of images by many clients at once, and check every answer."""
    seconds, differences = [], []

    def one(i: int) -> None:
        if options.mixed and i % 16 == 5:
            assert server.encode(images[i][:, :, :3], options.steps).status_code == 422
            return
        if options.mixed and i % 16 == 11:
            try:
                server.encode(images[i], options.steps, 0.05)
            except requests.Timeout:
                return
        began = time.perf_counter()
        answer = server.encode(images[i], options.steps)
        seconds.append(time.perf_counter() - began)
        answer.raise_for_status()
        z = torch.from_numpy(np.load(io.BytesIO(answer.content)))
        assert z.shape == wanted[i].shape
        differences.append(float((z - wanted[i]).abs().max()))

    before, began = server.batches(), time.perf_counter()
    with ThreadPoolExecutor(options.clients) as clients:
        list(clients.map(one, range(len(images))))
    took, after = time.perf_counter() - began, server.batches()
    done = after["sum"] - before["sum"]
    return {
        "rate": done / took,
        "size": done / (after["count"] - before["count"]),
        "p95": float(np.quantile(seconds, 0.95)),
        "difference": max(differences),
    }


@torch.no_grad()
def bare(model: GDM, images: torch.Tensor, size: int, steps: int) -> float:
    """Return images a second of the network alone, in batches of a size."""
    k = model.grouping.k
    state = model.basis.forward(images[:size])
    level = torch.full((1, k), 0.5)
    times = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(steps + k):
            model.denoiser(state, level)
        times.append(time.perf_counter() - began)
    return size / min(times[1:])


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--checkpoint", default="scenes")
    parser.add_argument("--data", default="scenes:0-128")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=96, help="a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--mixed", action="store_true")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.requests, options.rounds, options.steps = 32, 1, 6
    model = GDM.from_pretrained(options.checkpoint, device="cpu")
    x = open_data(options.data, model.checkpoint.preprocess).batch(range(128)).x
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 9, options.requests) if options.mixed else [1] * options.requests
    images = [x[torch.from_numpy(rng.integers(0, len(x), n))] for n in sizes]
    plan = model.plan(options.steps)
    wanted = [model.latents(each, plan) for each in images]
    found: dict[str, list[dict[str, Any]]] = {"batches": [], "one by one": []}
    with tempfile.TemporaryDirectory() as place:
        alone = ("--batch-size", "8" if options.mixed else "1", "--wait-ms", "0")
        servers = {
            "batches": Server(options.checkpoint, Path(place), "batches"),
            "one by one": Server(options.checkpoint, Path(place), "alone", *alone),
        }
        for server in servers.values():  # the first requests are slow
            ask(server, images[:8], wanted[:8], options)
        for _ in range(options.rounds):
            for name, server in servers.items():
                found[name].append(ask(server, images, wanted, options))
        for server in servers.values():
            server.stop()
    print(f"{options.clients} clients, {options.requests} requests a round, {options.steps} steps")
    print(f"{'':<12}{'images/s':>10}{'a batch':>9}{'p95 s':>8}{'of bare':>9}{'difference':>12}")
    middles: dict[str, dict[str, float]] = {}
    for name, rounds in found.items():
        middle = {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
        network = bare(model, x, max(1, round(middle["size"])), options.steps)
        middles[name] = middle | {"bare": network}
        worst = max(each["difference"] for each in rounds)
        print(
            f"{name:<12}{middle['rate']:>10.1f}{middle['size']:>9.1f}{middle['p95']:>8.2f}"
            f"{middle['rate'] / network:>9.2f}{worst:>12.1e}"
        )
    joined, single = middles.values()
    least = 1 if options.mixed else 3
    rules = (
        ("images/s to the bare network's", joined["rate"] / joined["bare"], 0.9),
        ("images/s to one by one's", joined["rate"] / single["rate"], least),
        ("p95 of one by one to that of batches", single["p95"] / joined["p95"], 1),
    )
    for what, share, bound in rules:
        said = "kept" if share >= bound else "MISSED"
        print(f"{what:<38}{share:>6.2f}, at least {bound}: {said}")


if __name__ == "__main__":
    main()
