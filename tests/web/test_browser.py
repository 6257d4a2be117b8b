"""The page in a real browser, by keyboard and mouse, wide and narrow, dark and light."""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="the page needs the extra web")
pytest.importorskip("playwright", reason="the tests in a browser need the extra browser")

from playwright import sync_api

from city import city
from command_line import run as command
from safelight.store import metrics
from safelight.store.metrics import MetricsRow, MetricsWriter
from safelight.web.uploads import MOST

HOSTILE = '<img src=x onerror="document.title=1">'
SCREENS = {
    "runs": "/",
    "timeline": "/run/whole?step=20",
    "between": "/run/whole?step=17",
    "fork": "/run/other",
    "specimens": "/run/whole/specimens",
    "model": "/run/whole/model",
    "pick": "/run/whole/pick",
    "measure": "/run/whole/measure",
    "health": "/run/whole/health",
    "disk": "/run/whole/disk",
    "journal": "/run/whole/journal",
    "grid": "/side?run=whole&run=other",
    "swipe": "/side?run=whole&run=other&view=swipe",
    "flicker": "/side?run=whole&run=other&view=flicker&by=images",
    "difference": "/side?run=whole&run=other&view=difference&by=hours",
    "jobs": "/jobs",
    "train": "/train",
}
LANDMARKS = {  # what is there once a screen is
    "runs": "table.runs img", "timeline": ".plot canvas", "between": ".compute small", "fork": ".plot canvas",
    "specimens": ".empty button", "model": ".empty button", "pick": ".stack button", "measure": "form button",
    "health": ".facts h2", "disk": ".share meter", "journal": ".journal tr", "grid": ".cell img",
    "swipe": ".swipe", "flicker": ".pair button", "difference": ".difference img", "jobs": "main > p",
    "train": ".recipes button",
}  # fmt: skip
WIDE = """() => [...document.querySelectorAll("main table, main pre, main dl")]
    .map((each) => each.getBoundingClientRect().right).filter((right) => right > innerWidth)"""
LOOKS = [(1400, "dark"), (1400, "light"), (390, "dark"), (390, "light")]


@pytest.fixture(scope="module")
def folder(finished, tmp_path_factory) -> Path:
    runs = tmp_path_factory.mktemp("page") / "runs"
    for name in ("whole", "other", HOSTILE.replace("/", "")):
        shutil.copytree(finished.path, runs / name)
    return runs


@pytest.mark.parametrize("tab", LOOKS, indirect=True)
def test_every_screen_is_usable_and_has_no_serious_fault(tab):
    page = tab.page
    tab.open("/jobs")
    for name, address in SCREENS.items():
        page.evaluate(
            "to => { history.pushState(null, '', to); dispatchEvent(new PopStateEvent('popstate')); }",
            address,
        )
        page.wait_for_selector(LANDMARKS[name])
        if name == "grid":
            page.locator("summary").click()
            page.wait_for_selector(".comparable table")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        assert page.evaluate(WIDE) == [], name
        assert (name, tab.serious()) == (name, [])


def test_the_list_says_what_the_command_prints(tab, folder, monkeypatch, capsys):
    _, out, _ = command(monkeypatch, capsys, "runs", "--runs", str(folder), "--json")
    tab.open("/")
    rows = tab.page.locator("table.runs tbody tr")
    for at, run in enumerate(json.loads(out)):
        text = rows.nth(at).inner_text()
        assert run["name"] in text  # also where it is markup
        assert run["status"] in text
        assert f"{run['step']} of {run['steps']}" in text
    assert tab.page.title() == "Runs · safelight"
    tab.page.keyboard.press("/")
    tab.page.keyboard.type("othe")
    sync_api.expect(rows).to_have_count(1)
    assert "find=othe" in tab.page.url


def test_the_timeline_is_driven_by_keys_and_by_the_mouse(tab):
    page = tab.page
    tab.open("/run/whole")
    caption = page.locator(".sheet figcaption b")
    step = page.get_by_role("spinbutton", name="Step, typed")

    def at(value: int) -> None:
        sync_api.expect(step).to_have_value(str(value))

    at(30)  # the newest sheet
    page.keyboard.press("ArrowLeft")
    at(20)
    sync_api.expect(caption).to_have_text("step 20")
    page.keyboard.press("Shift+ArrowLeft")
    at(10)  # a checkpoint without a sheet
    page.keyboard.press("End")
    at(30)
    page.keyboard.press("Home")
    at(20)
    page.keyboard.press(" ")
    at(30)  # it plays, and stops at the last
    slider = page.get_by_role("slider", name="Step", exact=True)
    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 2 / 3, box["y"] + box["height"] / 2)
    at(20)
    page.wait_for_url("**step=20")
    page.keyboard.press("?")
    sync_api.expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    sync_api.expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_click_on_a_curve_sets_the_step_and_values_are_those_recorded(tab, folder):
    page = tab.page
    tab.open("/run/whole")
    plot = page.locator(".plot .u-over").first
    box = plot.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_url(re.compile(r"step=1[4-6]$"))
    step = int(page.url.rpartition("=")[2])
    recorded = metrics.read(folder / "whole")["raw/mse"][step - 1]
    shown = page.locator(".panel .series b").first.inner_text()
    assert float(shown) == pytest.approx(recorded, rel=1e-3)


def test_the_newest_point_comes_by_itself(tab, folder):
    shutil.copytree(folder / "whole", folder / "growing")
    tab.open("/run/growing/journal")
    tab.open("/run/growing")
    value = tab.page.locator(".panel .series b").first
    sync_api.expect(value).not_to_have_text("–")
    with MetricsWriter(folder / "growing", 2, 29) as writer:
        writer.append([MetricsRow(29, {"mse": 12.5}, 1.0, {}, 360, 0.1, "ab")])
        sync_api.expect(value).to_have_text("12.5", timeout=10_000)
    shutil.rmtree(folder / "growing")


def test_side_by_side_of_equal_runs_shows_no_difference(tab):
    page = tab.page
    tab.open("/side?run=whole&run=other&view=difference")
    page.wait_for_load_state("networkidle")
    black = page.evaluate(
        """async () => {
        const [a, b] = [...document.querySelectorAll(".difference img")];
        await Promise.all([a.decode(), b.decode()]);
        const pixels = (image) => { const c = document.createElement("canvas"); c.width = image.naturalWidth;
          c.height = image.naturalHeight; const d = c.getContext("2d"); d.drawImage(image, 0, 0);
          return d.getImageData(0, 0, c.width, c.height).data; };
        const [x, y] = [pixels(a), pixels(b)];
        return x.length > 1000 && x.every((value, at) => value === y[at]); }"""
    )
    assert black
    tab.open("/side?run=whole&run=other&view=swipe")
    page.get_by_role("slider", name="Share of whole").focus()
    page.keyboard.press("Home")
    sync_api.expect(page.locator(".over .line")).to_have_attribute("style", re.compile(r"left: ?0%"))
    tab.open("/side?run=whole&run=other&view=flicker")
    hidden = page.locator(".over .top")
    sync_api.expect(hidden).to_be_hidden()
    page.keyboard.down("f")
    sync_api.expect(hidden).to_be_visible()
    page.keyboard.up("f")
    sync_api.expect(hidden).to_be_hidden()


def test_any_step_is_computed_after_its_price_and_moved_under_sliders(tab):
    page = tab.page
    tab.open("/run/whole?step=17")
    sync_api.expect(page.locator(".compute")).to_contain_text("at most 7 steps from checkpoint 10")
    page.get_by_role("button", name="Compute step 17").click()
    caption = page.locator(".sheet figcaption")
    sync_api.expect(caption).to_contain_text("exact: 7 recomputed steps have their recorded fingerprints")
    tab.open("/run/whole/model")
    page.get_by_role("button", name="Open step 30").click()
    picture = page.locator(".sheet img")
    first = picture.get_attribute("src")
    page.get_by_role("button", name="7", exact=True).click()
    sync_api.expect(picture).not_to_have_attribute("src", first)
    sync_api.expect(page.locator(".left .command code")).to_contain_text("--condition label=7")
    sync_api.expect(page.locator(".sliders")).to_contain_text("latents of this run are pictures")
    tab.open("/run/whole/specimens")
    page.get_by_role("button", name="Draw 24 of step 30").click()
    page.get_by_role("button", name="Specimen 30.3", exact=True).first.click()
    sync_api.expect(page.locator(".right .command code").first).to_have_text(
        "safelight specimens whole --keep 30.3"
    )


def test_a_run_is_saved_as_one_file(tab, folder, tmp_path):
    page = tab.page
    tab.open("/run/whole")
    with page.expect_download() as handed:
        page.get_by_role("button", name="Save page").click()
    assert handed.value.suggested_filename == "whole.html"
    handed.value.save_as(tmp_path / "whole.html")
    text = (tmp_path / "whole.html").read_text()
    assert 'http-equiv="Content-Security-Policy"' in text
    assert len(text) < 5_000_000
    assert not (folder / "whole" / "page.html").exists()


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """24 pictures of noise, the last a copy of the first."""
    place, chance = tmp_path_factory.mktemp("named") / "photos", np.random.default_rng(0)
    place.mkdir()
    for number in range(23):
        Image.fromarray(chance.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(place / f"{number:02}.png")
    shutil.copy(place / "00.png", place / "23.png")
    return place


DROP = """([target, name, kind, text]) => {
    const data = new DataTransfer();
    const bytes = Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
    data.items.add(new File([bytes], name, { type: kind }));
    document.querySelector(target).dispatchEvent(
        new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


def test_a_dropped_picture_is_projected_and_kept(tab, folder, photos, tmp_path):
    city(folder, {"data.path": str(photos)})
    page = tab.page
    tab.open("/run/city/model")
    page.get_by_role("button", name="Open step 4").click()
    page.get_by_label("steps", exact=True).fill("3")
    page.get_by_label("steps", exact=True).press("Tab")
    shown = "safelight project city picture --steps 3 --step 4 --out project.png"
    sync_api.expect(page.locator(".sliders .command code")).to_have_text(shown)
    page.evaluate(DROP, [".drop", "not.png", "image/png", base64.b64encode(b"no picture").decode()])
    sync_api.expect(page.locator(".sliders .mistake")).to_have_text("picture: is no PNG, JPEG or WebP file")
    tab.said.clear()  # the browser says that the server answered 400
    text = base64.b64encode((photos / "05.png").read_bytes()).decode()
    page.evaluate(DROP, [".drop", "../../05.png", "image/png", text])
    sync_api.expect(page.locator(".sliders .mistake")).to_have_count(0)
    picture = page.locator(".projection img")
    sync_api.expect(picture).to_be_visible()
    (kept,) = (folder / "city" / "specimens").glob("4.picture-*.json")
    facts = json.loads(kept.read_text())["found"]["projection"]
    assert facts["steps"] == 3
    sync_api.expect(page.locator(".projection figcaption a")).to_have_text(kept.stem)
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 3 * 32
    (tmp_path / "large.png").write_bytes(bytes(MOST + 1))
    page.locator(".drop input[type=file]").set_input_files(tmp_path / "large.png")
    sync_api.expect(page.locator(".sliders .mistake")).to_have_text(
        "large.png is larger than 5 MB; make it smaller"
    )
    page.locator(".drop input[type=file]").set_input_files(photos / "06.png")  # chosen, not dropped
    sync_api.expect(page.locator(".projection figcaption a")).not_to_have_text(kept.stem)
    assert len([*(folder / "city" / "specimens").glob("4.picture-*.json")]) == 2


def test_where_latents_are_pictures_the_page_says_why_none_is_projected(tab):
    tab.open("/run/whole/model")
    tab.page.get_by_role("button", name="Open step 30").click()
    sync_api.expect(tab.page.locator(".sliders")).to_contain_text(
        "No picture can be projected: its latents are images, not vectors; only a GAN or a VAE can project."
    )
    sync_api.expect(tab.page.locator(".drop")).to_have_count(0)


@pytest.mark.parametrize("tab", [(1400, "light"), (390, "dark")], indirect=True)
def test_a_named_folder_is_looked_at_and_planned_before_anything_trains(
    tab, folder, photos, tmp_path, monkeypatch, capsys
):
    page, runs = tab.page, {path.name for path in folder.iterdir()}
    tab.open("/train")
    page.locator('.recipes button:has(b:text-is("digits"))').click()
    page.wait_for_selector("fieldset")
    page.get_by_label("folder of pictures").fill(str(photos))
    page.get_by_label("folder of pictures").press("Enter")
    code, out, _ = command(
        monkeypatch, capsys, "data", "inspect", str(photos), "--sheet", str(tmp_path / "x.png")
    )
    assert code == 0
    said = [line.strip() for line in out.splitlines() if not line.startswith("sheet:")]
    assert any(line.startswith("copies:") for line in said)
    shown = page.locator(".inspected")
    sync_api.expect(shown).to_be_visible()
    assert [line.strip() for line in shown.inner_text().splitlines()] == said
    sheet = page.locator(".folder img")
    assert sheet.evaluate("image => image.decode().then(() => image.naturalWidth)") > 4 * 32
    sync_api.expect(page.locator("dl.plan")).to_contain_text("parameters")
    sync_api.expect(page.locator(".job code")).to_have_text(
        [f"safelight data inspect {photos} --sheet data.png", f"safelight plan digits data.path={photos}"]
    )
    sync_api.expect(page.locator("form:not(.folder) > .command code")).to_have_text(
        f"safelight train digits data.path={photos}"
    )
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert tab.serious() == []
    assert {path.name for path in folder.iterdir()} == runs  # nothing began
