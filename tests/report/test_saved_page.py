"""A saved page keeps to its bytes, says what it left out, and no name in it becomes a script."""

from __future__ import annotations

import json
import re
import shutil
from base64 import b64decode
from dataclasses import replace
from io import BytesIO
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from safelight.render import tiles
from safelight.render.page import Page, PageSection, Text, drawn
from safelight.report import bundle as bundles
from safelight.report.bundle import bundle
from safelight.report.run_report import _page
from safelight.report.saved_page import saved_page
from safelight.store.directory import RunDirectory

NAME = "</script><script>alert(1)</script>"


@pytest.fixture
def run(finished: RunDirectory, tmp_path) -> RunDirectory:
    shutil.copytree(finished.path, tmp_path / "whole")
    return RunDirectory(tmp_path / "whole")


def embedded(text: str) -> dict:
    return json.loads(
        re.search(r'<script type="application/json" id="saved">(.*?)</script>', text, re.DOTALL)[1]
    )


def test_sheets_are_in_it_exactly(run):
    text = saved_page(run, drawn(run.path, _page(run)))
    saved = embedded(text)
    assert len(text) < 5_000_000
    assert saved["left_out"] == []
    assert [sheet["step"] for sheet in saved["answers"]["/api/run/whole"]["sheets"]] == [20, 30]
    with (
        Image.open(
            BytesIO(b64decode(saved["pictures"]["/api/run/whole/tiles/20.png"].partition(",")[2]))
        ) as kept,
        Image.open(BytesIO(tiles.tiles(run, 20))) as png,
    ):
        np.testing.assert_array_equal(np.asarray(kept), np.asarray(png))


def test_curves_are_pictures_that_a_browser_reads(run):
    """Markup escapes what is put into it, which would leave text in the place of SVG."""
    text = saved_page(run, drawn(run.path, _page(run)))
    curves = re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", text)
    assert curves
    for data in curves:
        assert ElementTree.fromstring(b64decode(data)).tag == "{http://www.w3.org/2000/svg}svg"


def test_what_does_not_fit_is_left_out_and_named(run):
    noise = np.random.default_rng(0)
    for step in range(100, 112):  # twelve sheets of noise, which nothing compresses
        with Image.open(run.sheets / "00000030.png") as sheet:
            pixels = noise.integers(0, 256, np.asarray(sheet).shape, np.uint8)
            made = Image.fromarray(pixels)
            text = {key: value for key, value in sheet.info.items() if isinstance(value, str)}
        info = PngInfo()
        for key, value in text.items():
            info.add_text(key, value)
        made.save(run.sheets / f"{step:08d}.png", pnginfo=info)
    page = drawn(run.path, _page(run))
    whole = len(saved_page(run, page, limit=50_000_000))
    limit = len(saved_page(run, page, limit=0)) + 60_000
    assert limit < whole
    text = saved_page(run, page, limit=limit)
    saved = embedded(text)
    assert len(text) <= limit
    sheets = saved["answers"]["/api/run/whole"]["sheets"]
    assert {f"/api/run/whole/tiles/{sheet['step']}.png" for sheet in sheets} <= set(saved["pictures"])
    assert f"{len(sheets)} of 14 sheets are in this page, as WebP of quality 70." in saved["left_out"]
    assert sheets[-1]["step"] == 111  # the newest stays
    assert all(words in text.replace("&#39;", "'") for words in saved["left_out"])


def test_names_are_words_wherever_they_stand(run):
    page = Page("report", NAME, (PageSection(NAME, (Text(NAME),)),), summary=NAME)
    text = saved_page(run, page, model={"step": 1, "words": NAME})
    assert "<script>alert" not in text
    scripts = re.findall(r"<script\b[^>]*>", text)
    assert [re.search(r'type="([^"]+)"', script)[1] for script in scripts] == [
        "application/json", "application/json", "text/plain", "text/plain", "module",
    ]  # fmt: skip
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)[1]
    assert "unsafe-inline" not in policy
    assert "default-src &#39;none&#39;" in policy


def test_a_page_without_a_model_may_compile_nothing(run):
    page = replace(_page(run), sections=())
    policies = [saved_page(run, page, model=model) for model in (None, {"step": 1})]
    assert ["wasm-unsafe-eval" in text.partition("<style>")[0] for text in policies] == [False, True]


def test_modules_become_functions_of_what_they_import(tmp_path, monkeypatch):
    static = tmp_path / "static"
    static.mkdir()
    (static / "a.js").write_text('import { b as c, d } from "./b.js";\n' + "export const a = c + d;\n")
    (static / "b.js").write_text("/* export const e = 1; */\nconst b = 1, f = 2;\nexport { b, f as d };\n")
    monkeypatch.setattr(bundles, "WEB", tmp_path)
    made = bundle("a.js")
    assert made.index('modules["b.js"]') < made.index('modules["a.js"]')
    assert "const { b: c, d } = modules" in made
    assert "return { b: b, d: f };" in made
    assert "export" not in made
    assert "import" not in made
