"""Pages that were saved, opened from a file in a real browser: they ask for nothing, and draw as torch."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("playwright", reason="the tests in a browser need the extra browser")

from playwright import sync_api

from in_browser import AXE, CHROMIUM, chromium
from safelight.explore.specimens import Specimen, picture_of, start_of
from safelight.export.browser import portable
from safelight.loading.replay import Replay
from safelight.randomness import RowDraw, key
from safelight.report.bundle import bundle
from safelight.report.run_report import save_report
from safelight.store.directory import RunDirectory

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")
HOSTILE = '<img src=x onerror="document.title=1">'
LOOKS = [(1400, "dark"), (1400, "light"), (390, "dark"), (390, "light")]
PIXELS = """() => [...document.querySelectorAll(".board:not(.through) canvas")].map((canvas) =>
  [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data])"""


@pytest.fixture(scope="module", name="chromium")
def _chromium() -> Iterator[sync_api.Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def saved(finished: RunDirectory, tmp_path_factory) -> Path:
    """A run whose name is markup, as a page."""
    run = tmp_path_factory.mktemp("saved") / HOSTILE
    shutil.copytree(finished.path, run)
    return save_report(RunDirectory(run), run.parent / "page.html")


@contextmanager
def opened(chromium: sync_api.Browser, path: Path, **options) -> Iterator[sync_api.Page]:
    """A page that fails where its console said anything, or it asked for anything."""
    context = chromium.new_context(reduced_motion="reduce", **options)
    page, said = context.new_page(), []
    page.set_default_timeout(300_000)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if "://" in request.url else None)
    page.goto(path.as_uri())
    assert said.pop(0) == path.as_uri()
    yield page
    context.close()
    assert said == []


def show(page: sync_api.Page, screen: str) -> None:
    page.locator(".screens").get_by_role("link", name=screen, exact=True).click()


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_every_screen_is_usable_without_a_server(chromium, saved, width, scheme):
    with opened(chromium, saved, viewport={"width": width, "height": 900}, color_scheme=scheme) as page:
        sync_api.expect(page.locator("h1").first).to_have_text(HOSTILE)
        page.evaluate(AXE.read_text())
        for screen in ("Timeline", "Measure", "Health", "Journal", "Report"):
            show(page, screen)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), screen
            result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
            serious = [each for each in result["violations"] if each["impact"] in ("serious", "critical")]
            assert [(screen, each["id"], each["nodes"][0]["html"]) for each in serious] == []
            assert page.locator("#report").is_visible() == (screen == "Report")
        assert HOSTILE in page.title()


def test_the_slider_moves_sheets_and_curves_and_the_address_keeps_it(chromium, saved):
    with opened(chromium, saved) as page:
        picture, caption = page.locator(".sheet img"), page.locator(".sheet figcaption b")
        sync_api.expect(caption).to_have_text("step 30")
        newest = picture.get_attribute("src")
        slider = page.get_by_role("slider", name="Step", exact=True)
        box = slider.bounding_box()
        page.mouse.move(box["x"] + box["width"] - 7, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] / 2, steps=5)
        page.mouse.up()
        sync_api.expect(caption).to_have_text("step 20")
        assert picture.get_attribute("src") != newest
        page.wait_for_url("**step=21")
        assert page.locator(".plot canvas").count() > 0
        assert "Compute" not in page.inner_text("main")
        page.keyboard.press("End")
        sync_api.expect(picture).to_have_attribute("src", newest)


def test_it_reads_without_a_script(chromium, saved):
    with opened(chromium, saved, java_script_enabled=False) as page:
        text = page.inner_text("body")
        assert all(words in text for words in (HOSTILE, "Verdict", "Finished: 30 of 30 steps.", "optim"))
        assert page.locator("#report table tbody tr").count() > 0


def test_a_script_that_got_in_is_not_run(chromium, saved, tmp_path):
    text = saved.read_text()
    for number, added in enumerate(
        ("<script>document.title = 1</script>", '<img src="data:," onerror="document.title = 1">')
    ):
        path = tmp_path / f"{number}.html"
        path.write_text(text.replace('<article id="report">', f'<article id="report">{added}'))
        context = chromium.new_context()
        page = context.new_page()
        page.goto(path.as_uri())
        page.wait_for_selector(".plot canvas")
        assert HOSTILE in page.title()
        context.close()


def test_randomness_is_that_of_numpy(chromium):
    page = chromium.new_page()
    page.goto("about:blank")
    page.add_script_tag(content=bundle("random.js") + "globalThis.random = modules['random.js'];")
    for row, size in ((0, 1), (7, 6), (63, 784), (10**9 - 1, 33)):
        draw, named = RowDraw(3, 500, "specimen", range(row, row + 1)), f"{key(3, 500, 'specimen', 'x'):032x}"
        counts = -(-size // 4)
        words = page.evaluate("([k, r, c]) => [...random.words(k, r, c)].map(String)", [named, row, counts])
        assert list(map(int, words)) == draw._words("x", size)[0].tolist()
        normals = page.evaluate("([k, r, s]) => [...random.normal(k, r, s)]", [named, row, size])
        torch.testing.assert_close(torch.tensor(normals), draw.normal("x", size)[0], atol=2e-6, rtol=2e-6)
        whole = page.evaluate("([k, r]) => random.integer(k, r, 1000)", [named, row])
        assert whole == int(draw.integers("x", 1000))
    page.close()


def test_the_page_draws_the_specimens_of_the_run_at_every_moment(chromium, finished, tmp_path):
    moments = [0, 10, 30]
    replay = Replay(finished)
    page_of = save_report(finished, tmp_path / "page.html", portable(finished, moments))

    def expected(step: int, numbers: range) -> np.ndarray:
        model = replace(replay.rounded(step), autocast=nullcontext)
        starts = [
            start_of(replace(Specimen(30, 0), draw=number), replace(model, step=30)) for number in numbers
        ]
        return np.stack([picture_of(start, model)[:, :, 0] for start in starts]).astype(int)

    with opened(chromium, page_of) as page:
        show(page, "Draw")

        def drawn(words: str) -> np.ndarray:
            sync_api.expect(page.locator(".left .note b").first).to_have_text(words)
            page.wait_for_selector(".board[aria-busy=false]")
            return np.array(page.evaluate(PIXELS)).reshape(16, 28, 28, 4)[..., 0].astype(int)

        for first in range(0, 64, 16):
            shown = drawn("step 30")
            assert np.abs(shown - expected(30, range(first, first + 16))).max() <= 1
            if first < 48:
                page.get_by_role("button", name="More").click()
                page.wait_for_selector(f"text=specimens 30.{first + 16} to")
        slider = page.get_by_role("slider", name="moment")
        for moment in (1, 0):
            slider.fill(str(moment))
            shown = drawn(f"step {moments[moment]}")
            assert np.abs(shown - expected(moments[moment], range(48, 64))).max() <= 1
        page.get_by_role("button", name="7", exact=True).click()
        page.wait_for_selector("text=no longer the specimens of the run")
        page.wait_for_selector(".board[aria-busy=false]")
        page.get_by_role("button", name="Specimen 30.48").click()
        page.wait_for_selector(".through[aria-busy=false]")
        page.evaluate(AXE.read_text())
        result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        serious = [each for each in result["violations"] if each["impact"] in ("serious", "critical")]
        assert [(each["id"], each["nodes"][0]["html"]) for each in serious] == []
        assert page.locator(".mistake").count() == 0
