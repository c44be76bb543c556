"""A browser drives the explorer of a real server."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.e2e.server import Server

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed")

Page: TypeAlias = Any  # Playwright's, where it is installed
Browser: TypeAlias = Any
SHOWN = 60_000  # milliseconds that something may take to be seen
FRAME = (1120, 760)
FRAME_MS = 400
FILM = os.environ.get("EXPLORER_PICTURES")  # folder for the picture and the film of the docs


@pytest.fixture(scope="module")
def url(
    serve: Callable[..., Server],
    make_store: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    """The address of a server of the shipped model, under two names, with 120 images' latents."""
    store = tmp_path_factory.mktemp("explorer") / "scenes-latents"
    make_store(store, Path("scenes"), "--data scenes:0-120 --steps 24")
    reports = store.parent / "analysis"
    reports.mkdir()
    (reports / "index.html").write_text("<p>The reports")
    return serve(
        "--checkpoint", "scenes", "--checkpoint", "again=scenes",
        "--latents", str(store), "--reports", str(reports),
    ).url + "/"  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """The page, opened; nothing may go wrong on it unseen, and it asks no other host."""
    with opened(browser, url) as page:
        yield page


class opened:
    """A window of the page."""

    def __init__(self, browser: Browser, url: str, **options: object) -> None:
        # what polls the page from outside evaluates texts, which the page's policy forbids
        self.context = browser.new_context(
            viewport={"width": 1200, "height": 900}, bypass_csp=True, **options
        )
        self.url = url
        self.wrong: list[str] = []
        self.hosts: set[str] = set()

    def __enter__(self) -> Page:
        page = self.context.new_page()
        page.set_default_timeout(SHOWN)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))
        page.goto(self.url)
        page.wait_for_selector("#tool .slider")
        page.wait_for_selector("#grid button.chosen")
        return page

    def __exit__(self, *error: object) -> None:
        self.context.close()
        assert not self.wrong
        assert self.hosts <= {self.url.split("/")[2], ""}


def source(page: Page, id: str = "edited") -> str:
    return str(page.locator(f"#{id}").get_attribute("src"))


def changed(page: Page, before: str, id: str = "edited") -> str:
    page.wait_for_function(
        "([id, was]) => document.getElementById(id).src !== was", arg=[id, before]
    )
    return source(page, id)


def pixels(page: Page, id: str) -> npt.NDArray[np.float64]:
    """The picture that an element shows, as numbers."""
    script = """async (id) => {
      const data = await (await fetch(document.getElementById(id).src)).arrayBuffer();
      return [...new Uint8Array(data)];
    }"""
    data = bytes(page.evaluate(script, id))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float64)


def slide(page: Page, name: str, value: float, exact: bool = True) -> None:
    """Drag a slider to a value, and let it go."""
    script = """([name, value, exact]) => {
      const input = document.querySelector(`.slider input[aria-label="${name}"]`);
      input.value = value;
      input.dispatchEvent(new Event("input"));
      if (exact) input.dispatchEvent(new Event("change"));
    }"""
    page.evaluate(script, [name, value, exact])


def tool(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def picture(path: Path, size: int = 64) -> Path:
    x = np.linspace(0, 255, size)
    Image.fromarray(np.stack(np.broadcast_arrays(x, x[:, None], 128), 2).astype(np.uint8)).save(
        path
    )
    return path


def test_a_file_is_encoded_and_its_errors_are_shown(page: Page, tmp_path: Path) -> None:
    before = source(page, "original")
    page.get_by_role("tab", name="file", exact=True).click()
    page.set_input_files("#file", picture(tmp_path / "mine.png"))
    changed(page, before, "original")
    assert page.locator("#original-note").inner_text() == "mine.png"
    page.locator("#errors-said").click()
    page.wait_for_selector("#errors table")
    rows = page.locator("#errors tr").all_inner_texts()
    assert len(rows) == 3
    assert np.abs(pixels(page, "original") - pixels(page, "reconstruction")).mean() < 8


def test_a_broken_file_is_refused_and_nothing_is_lost(page: Page, tmp_path: Path) -> None:
    before = source(page, "reconstruction")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    page.get_by_role("tab", name="file", exact=True).click()
    page.set_input_files("#file", tmp_path / "broken.png")
    page.wait_for_selector("#status.bad")
    assert "images[0]" in page.locator("#status").inner_text()
    assert source(page, "reconstruction") == before


def test_a_slider_changes_the_picture_and_goes_back(page: Page) -> None:
    name = str(page.locator(".slider input").first.get_attribute("aria-label"))
    page.wait_for_function("document.getElementById('edited').src.startsWith('blob:')")
    start = pixels(page, "edited")
    before = source(page)
    slide(page, name, 2)
    changed(page, before)
    page.wait_for_function("document.getElementById('edited-note').textContent === 'exact'")
    assert np.abs(pixels(page, "edited") - start).mean() > 1
    before = source(page)
    page.locator(".slider button").first.click()
    changed(page, before)
    page.wait_for_function("document.getElementById('edited-note').textContent === 'exact'")
    np.testing.assert_array_equal(pixels(page, "edited"), start)


def test_bands_are_mixed_and_filmed(page: Page, tmp_path: Path) -> None:
    tool(page, "Mix")
    page.get_by_role("button", name="Choose a second image").click()
    before = source(page)
    page.locator("#grid button").nth(5).click()
    changed(page, before)
    for box in page.locator(".checks input").all():
        box.check()  # all bands are the second's
    page.wait_for_timeout(500)
    other = page.locator("#tool .film img").first
    page.wait_for_function("document.getElementById('edited-note').textContent === 'exact'")
    assert other.is_visible()
    tool(page, "Film")
    page.wait_for_selector("#tool .film img[src^='data:']")
    with page.expect_download() as found:
        page.get_by_role("button", name="Save film (GIF)").click()
    found.value.save_as(tmp_path / "film.gif")
    film: Any = Image.open(tmp_path / "film.gif")
    assert film.n_frames == 24
    page.get_by_role("button", name="Stop").click()


def test_the_rest_is_drawn_anew(page: Page) -> None:
    tool(page, "Vary")
    page.wait_for_selector("#tool .strip figure")
    assert page.locator("#tool .strip figure").count() == 8
    before = source(page)
    page.locator("#tool .strip img").nth(3).click()
    changed(page, before)


def test_a_direction_is_learned_with_its_accuracy(page: Page) -> None:
    tool(page, "Direction")
    page.get_by_role("button", name="Learn").click()
    page.wait_for_selector("#tool .said")
    told = page.locator("#tool .said").inner_text()
    assert "balanced accuracy" in told
    assert "Permuted labels give" in told
    before = source(page)
    slide(page, str(page.locator(".slider input").first.get_attribute("aria-label")), 3)
    changed(page, before)


def test_a_direction_between_two_picked_groups(page: Page) -> None:
    tool(page, "Direction")
    page.locator("#tool select").first.select_option(label="two picked groups")
    for group, first in (("+ group", 0), ("- group", 10)):
        page.get_by_role("radio", name=group).click()
        for place in range(first, first + 8):
            page.locator("#grid button").nth(place).click()
    assert "8 +, 8 -" in page.locator("#tool").inner_text()
    page.get_by_role("button", name="Learn").click()
    page.wait_for_selector("#tool .said")
    assert "8 images of the first kind" in page.locator("#tool .said").inner_text()


def test_neighbours_of_a_stored_image_are_others(page: Page) -> None:
    tool(page, "Neighbours")
    page.wait_for_selector("#tool .strip img")
    own = str(page.locator("#grid button.chosen").first.get_attribute("data-id"))
    assert page.locator("#tool .strip").count() == 4  # three bands and all
    captions = page.locator("#tool .strip figcaption").all_inner_texts()
    assert own not in [caption.split(" · ")[1] for caption in captions]


def test_two_models_side_by_side(page: Page) -> None:
    tool(page, "Two models")
    page.wait_for_selector("#tool .tiles table")
    captions = page.locator("#tool .tiles figcaption").all_inner_texts()
    assert [caption.split(":")[0] for caption in captions] == ["scenes", "again"]
    assert captions[0].split(":")[1] == captions[1].split(":")[1]


def test_reports_are_one_click_away(page: Page) -> None:
    with page.context.expect_page() as found:
        page.get_by_role("link", name="Reports").click()
    assert "The reports" in found.value.content()


def test_two_windows_do_not_mix(browser: Browser, url: str) -> None:
    with opened(browser, url) as one, opened(browser, url) as other:
        before = source(other, "reconstruction")
        other.locator("#grid button").nth(7).click()
        changed(other, before, "reconstruction")
        name = str(one.locator(".slider input").first.get_attribute("aria-label"))
        for value in (1, 2, 3):
            slide(one, name, value, exact=False)
            slide(other, name, -value, exact=False)
        slide(one, name, 3)
        slide(other, name, -3)
        for page in (one, other):
            page.wait_for_function("document.getElementById('edited-note').textContent === 'exact'")
        assert np.abs(pixels(one, "edited") - pixels(other, "edited")).mean() > 1


def test_what_is_copied_runs(page: Page, tmp_path: Path) -> None:
    name = str(page.locator(".slider input").first.get_attribute("aria-label"))
    slide(page, name, 2)
    page.wait_for_function("document.getElementById('edited-note').textContent === 'exact'")
    page.get_by_role("button", name="Copy as Python").click()
    code = page.locator("#copied").inner_text()
    save = (
        "\nimport numpy, sys\nfrom gdm_repr.pictures import as_png\n"
        "open(sys.argv[1], 'wb').write(as_png(x[0].numpy()))\n"
    )
    subprocess.run(
        [sys.executable, "-c", code + save, str(tmp_path / "x.png")], check=True, cwd=tmp_path
    )
    made = np.asarray(Image.open(tmp_path / "x.png").convert("RGB"), np.float64)
    assert np.abs(made - pixels(page, "edited")).max() <= 1
    page.get_by_role("button", name="Copy as command").click()
    command = page.locator("#copied").inner_text()
    assert re.match(r"gdm-repr edit set --checkpoint scenes --latents \S+ --items 000000 ", command)
    parts = [sys.executable, "-m", "gdm_repr.cli", *command.split()[1:], "--no-track"]
    subprocess.run(parts, check=True, cwd=tmp_path)
    assert (tmp_path / "edited" / "set.png").exists()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_it_fits_the_window(
    browser: Browser,
    url: str,
    width: int,
    scheme: str,
    tmp_path: Path,
) -> None:
    with opened(browser, url, color_scheme=scheme) as page:
        page.set_viewport_size({"width": width, "height": 900})
        for name in ("Elements", "Mix", "Vary", "Direction", "Neighbours", "Two models"):
            tool(page, name)
            page.wait_for_timeout(1500)
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, name
            page.screenshot(
                path=(folder(tmp_path) / f"{name}-{width}-{scheme}.png"), full_page=True
            )


def test_the_picture_and_the_film_of_the_docs(browser: Browser, url: str, tmp_path: Path) -> None:
    """Half a minute: sliders, a mix, a variation, a direction, neighbours."""
    out = folder(tmp_path)
    frames: list[Image.Image] = []
    with opened(browser, url, color_scheme="light") as page:
        page.set_viewport_size({"width": FRAME[0], "height": FRAME[1]})

        def shoot(times: int = 1) -> None:
            image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            frames.extend([image] * times)

        before = source(page, "reconstruction")
        page.locator("#grid button").nth(3).click()
        changed(page, before, "reconstruction")
        page.wait_for_selector("#tool .slider")
        shoot(4)
        names = [
            str(each.get_attribute("aria-label")) for each in page.locator(".slider input").all()
        ]
        for name in names[:2]:
            for value in np.sin(np.linspace(0, 2 * np.pi, 13)) * 3:
                before = source(page)
                slide(page, name, float(value))
                changed(page, before)
                page.wait_for_timeout(300)
                shoot()
        before = source(page)
        slide(page, names[0], 2)
        changed(page, before)
        page.screenshot(path=out / "explorer.png")
        for name in ("Vary", "Neighbours"):
            tool(page, name)
            page.wait_for_selector("#tool .strip img")
            page.wait_for_timeout(500)
            shoot(8)
        tool(page, "Direction")
        page.get_by_role("button", name="Learn").click()
        page.wait_for_selector("#tool .said")
        shoot(4)
        name = str(page.locator(".slider input").first.get_attribute("aria-label"))
        for value in np.linspace(-4, 4, 9):
            before = source(page)
            slide(page, name, float(value))
            changed(page, before)
            shoot()
        tool(page, "Mix")
        page.get_by_role("button", name="Choose a second image").click()
        before = source(page)
        page.locator("#grid button").nth(8).click()
        changed(page, before)
        shoot(4)
        tool(page, "Film")
        page.wait_for_selector("#tool .film img[src^='data:']")
        for _ in range(15):
            page.wait_for_timeout(250)
            shoot()
    seconds = len(frames) * FRAME_MS / 1000
    assert 25 <= seconds <= 40
    small = [each.quantize(64, dither=Image.Dither.NONE) for each in frames]
    small[0].save(
        out / "explorer.gif",
        save_all=True,
        append_images=small[1:],
        duration=FRAME_MS,
        loop=0,
        optimize=True,
    )
    assert (out / "explorer.gif").stat().st_size < 8e6


def folder(tmp_path: Path) -> Path:
    """Where pictures go: to be looked at, or away."""
    out = Path(FILM) if FILM else tmp_path
    out.mkdir(parents=True, exist_ok=True)
    return out
