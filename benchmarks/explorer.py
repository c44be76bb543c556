"""How fast the explorer's picture follows a slider, measured in the browser.

Prints the median and the 95th percentile of moves while dragged (few steps) and of releases (all
steps), beside what one image's decoding takes without browser and service.

    python benchmarks/explorer.py [--quick] [--checkpoint scenes]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import time

import numpy as np

MOVES = 50
SLIDE = """([value, exact]) => {
  const input = document.querySelector(".slider input");
  input.value = value;
  input.dispatchEvent(new Event("input"));
  if (exact) input.dispatchEvent(new Event("change"));
}"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="scenes")
    parser.add_argument("--quick", action="store_true", help="fewer moves")
    options = parser.parse_args()
    moves = 10 if options.quick else MOVES
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print("playwright is not installed: pip install 'gdm-repr[e2e]'")
        return
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("no Chromium is installed")
        return
    from gdm_repr import GDM, explore

    model = GDM.from_pretrained(options.checkpoint)
    shown = explore(options.checkpoint)
    z = model.noise(1, seed=0)
    rows = [
        ("slider, dragged", *measured(shown.url, chromium, sync_playwright, moves, exact=False))
    ]
    rows += [
        ("slider, released", *measured(shown.url, chromium, sync_playwright, moves, exact=True))
    ]
    for name, steps in (("decode alone, 12 steps", 12), ("decode alone, default steps", None)):
        plan = model.plan() if steps is None else model.plan(max(steps, model.grouping.k))
        times = []
        for _ in range(max(5, moves // 5)):
            began = time.perf_counter()
            model.decode(z, plan)
            times.append(1000 * (time.perf_counter() - began))
        rows.append((name, statistics.median(times), float(np.quantile(times, 0.95)), len(times)))
    shown.close()
    print(f"{'':28} {'median ms':>10} {'95 % ms':>10} {'n':>4}")
    for name, median, high, n in rows:
        print(f"{name:28} {median:10.0f} {high:10.0f} {n:4}")


def measured(
    url: str, chromium: str, start: object, moves: int, *, exact: bool
) -> tuple[float, float, int]:
    """Move a slider and wait for each picture: median, 95th percentile, number of moves."""
    with start() as playwright:  # type: ignore[operator]
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_context(bypass_csp=True).new_page()  # what polls evaluates texts
        page.goto(url)
        page.wait_for_selector("#tool .slider", timeout=120_000)
        page.wait_for_function("document.getElementById('edited').src.startsWith('blob:')")
        for i in range(moves + 2):
            page.evaluate("window.gdm.times.length = 0")
            page.evaluate(SLIDE, [3 * float(np.sin(i)), exact])
            wanted = f"window.gdm.times.some((each) => each.exact === {str(exact).lower()})"
            page.wait_for_function(wanted, timeout=120_000)
            page.evaluate(
                "window.all = (window.all ?? []).concat(window.gdm.times.filter("
                f"(each) => each.exact === {str(exact).lower()}))"
            )
        times = [each["ms"] for each in page.evaluate("window.all")][2:]
        browser.close()
    return statistics.median(times), float(np.quantile(times, 0.95)), len(times)


if __name__ == "__main__":
    main()
