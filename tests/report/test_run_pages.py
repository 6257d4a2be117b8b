"""The report of a run as Markdown and HTML: every fact in both, whatever its words are."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from report.facts_of_runs import entry, images, whole_run
from safelight.render.page import Page, Text, write_page
from safelight.render.sheet import sheet
from safelight.render.sheet_file import read_sheet, save_png
from safelight.report.facts import RunFacts, SessionFacts, Sheet
from safelight.report.history import MethodFacts
from safelight.report.records import record_of
from safelight.report.run_origin import Reproduce
from safelight.report.run_page import run_page
from safelight.store.journal import Journal

RAN = "What ran, where, for how long"
HOSTILE = (
    "<img src=http://evil.example/x onerror=alert(1)>|`a``` **b** [c](http://evil.example) </style>\n# h"
)
VOID = {"meta", "img", "link", "br", "use", "path"}


class Html(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def written(run: Path, *facts: Any) -> tuple[str, str]:
    markdown, html = write_page(run, "report", run_page(*facts), "report")
    return markdown.read_text(), html.read_text()


def blocks(page: Page, section: str) -> tuple[Any, ...]:
    return next(part.blocks for part in page.sections if part.title == section)


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose report is written; tests only read it."""
    run = tmp_path_factory.mktemp("plain")
    written(run, *whole_run(run, "wordofmine"))
    return run


def test_html_is_one_file(plain_run: Path) -> None:
    html = (plain_run / "report.html").read_text()
    page = Html(html)
    assert not page.open
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    sources = [value or "" for name, value in page.attributes if name == "src"]
    assert len(sources) == 7  # samples, strip, four sheets, panel
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert all(
        (value or "").startswith("#") for name, value in page.attributes if name in ("href", "xlink:href")
    )
    assert "http" not in html
    assert not re.search(r"@import|url\((?!#)", html)
    assert page.tags.count("svg") == 3
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_a_report_begins_with_its_verdict_and_what_was_not_measured(tmp_path: Path) -> None:
    facts, *rest = whole_run(tmp_path)
    bare = replace(facts, step=400, journal=Journal(Path(), ()), measured=(), verdicts=(), name="mine")
    columns = {"raw/plain": facts.record.columns["raw/plain"]}
    unknown = replace(bare, record=replace(facts.record, columns=columns))
    markdown, html = written(tmp_path, unknown, MethodFacts(), *rest[1:])
    lines = (
        "Finished: 400 of 400 steps.",
        "The monitors have no verdict against it.",
        "Not measured: how far samples are from real images; safelight evaluate mine measures it.",
        "Not measured: anything on images that were not trained on (watch.held_out, data.held_out).",
        "Not measured: whether the recipe has a silent fault: it was trained without checks.",
    )
    said = "".join(f"- {line}\n" for line in lines)
    assert f"\n## Verdict\n\n{said}\n## Samples\n" in markdown.replace("\\_", "_")
    assert re.findall("<h2>(.*?)</h2>", html)[:2] == ["Verdict", "Samples"]
    assert "".join(f"<li>{line}</li>\n" for line in lines) in html


def test_a_verdict_says_what_checks_monitors_and_evaluations_found(tmp_path: Path) -> None:
    facts, *rest = whole_run(tmp_path, "word")
    (notes,) = blocks(run_page(replace(facts, verdicts=("word", "older")), *rest), "Verdict")
    assert notes.lines == (
        "Finished: 200 of 400 steps.",
        "Verdicts against it: word, older (since before the fork).",
        "Faults found by the pre-flight checks: word.",
        "word of samples at step 200: 5.9 (real images: 2.3).",
        "word",
    )


def test_links_of_the_markdown_exist(plain_run: Path) -> None:
    markdown = (plain_run / "report.md").read_text()
    links = re.findall(r"\]\(([^)]+)\)", markdown)
    assert len(links) == 10
    assert all((plain_run / link).is_file() for link in links)


def test_strangers_words_stay_words(plain_run: Path, tmp_path: Path) -> None:
    plain = [(plain_run / name).read_text() for name in ("report.md", "report.html")]
    hostile = written(tmp_path, *whole_run(tmp_path, HOSTILE))
    before, after = Html(plain[1]), Html(hostile[1])
    assert [tag for tag in after.tags if tag not in ("path", "g", "text", "use")] == [
        tag for tag in before.tags if tag not in ("path", "g", "text", "use")
    ]
    assert {name for name, _ in after.attributes} == {name for name, _ in before.attributes}
    assert " ".join(HOSTILE.split()) in " ".join(after.text.split())

    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    kinds = []
    for text in (plain[0], hostile[0]):
        inline = [t for token in parser.parse(text) for t in (token, *(token.children or []))]
        kinds.append([t.type for t in inline if t.type != "text" and not t.type.startswith("text_special")])
        images_shown = [str(t.attrs["src"]) for t in inline if t.type == "image"]
        assert all(source.startswith(("report/", "sheets/")) for source in images_shown)
    assert kinds[0] == kinds[1]
    assert not {"html_inline", "html_block", "link_open"} & set(kinds[1])


def test_numbers_equal_those_worked_out_by_hand(tmp_path: Path) -> None:
    facts, *rest = whole_run(tmp_path)
    assert (facts.images_seen, facts.seconds) == (6400, 100.0)
    assert facts.seconds_per_kimg == pytest.approx((24 + 20) / (220 * 32) * 1000)
    page = run_page(facts, *rest)
    assert [value for value, _ in page.key_figures] == ["200", "6,400", "10", "1 min 40 s", "6.25 s"]
    _, losses, notes, _, skipped = blocks(page, "Loss")
    row = dict(zip(losses.head, losses.rows[0], strict=True))
    assert (row["first"], row["last"], row["minimum"], row["at step"]) == ("2", "0.5", "0.5", "180")
    assert row["weight"] == "2"
    assert row["trend"] == "falling"
    finite = np.delete(np.concatenate([np.linspace(2, 1, 180), np.full(20, 0.5)]), 7)
    before, last = finite[-38:-19].mean(), finite[-19:].mean()
    assert row["last 10 %"].startswith(f"−{(before - last) / before * 100:.0f}\u00a0%")
    assert skipped.words == "1 step was skipped because a gradient was not finite: 6."
    assert notes.pairs[0][1].endswith("Not finite at 1 step, first at step 7.")
    (sessions,) = (block for block in blocks(page, RAN) if getattr(block, "title", "") == "Sessions")
    assert [row[5] for row in sessions.rows] == ["6.25", "6.25"]
    best = next(block.words for block in blocks(page, "Measurements") if isinstance(block, Text))
    assert best == "Best: step 123 (plain), kept as the checkpoint 'best'."


def test_checks_and_monitors_are_quoted(tmp_path: Path) -> None:
    facts, *rest = whole_run(tmp_path, "word")
    said = blocks(run_page(facts, *rest), RAN)[-1].lines
    assert said == (
        "Pre-flight checks: 1 run, 2 findings.",
        "Error word: word; expected word.",
        "Error word: word; expected word. Expected by the recipe: word.",
        "Step 60: word, showing since step 50: word; expected word. Word: word",
        "word",
    )
    passed = Journal(Path(), (entry("check", checks=["a"] * 14, findings=[]),))
    said = blocks(run_page(replace(facts, journal=passed, problems=()), *rest), RAN)[-1].lines
    assert said == ("Pre-flight checks: 14 passed.",)


def test_every_fact_is_in_both_reports(plain_run: Path) -> None:
    for name in ("report.md", "report.html"):
        flat = (plain_run / name).read_text().replace("`", "")
        for expected in (
            "wordofmine",
            "2.12 (session 1); 2.13 (session 2)",
            "1e-05",
            "deep.lr",
            "5.9",
            "2.3",
            "123",
        ):
            assert expected in flat
        assert flat.count("wordofmine") > 20


@pytest.mark.parametrize(
    ("lines", "facts"),
    [
        ([], {}),
        ([{"raw/mse": math.nan}] * 3, {"step": 3}),
        ([{"lr/a": 1.0}] * 3, {"step": 3}),
        ([], {"sessions": (SessionFacts("today", 5, 5, 1.0, 0.0),)}),
    ],
)
def test_poor_runs_have_a_report(tmp_path: Path, lines: list[dict[str, float]], facts: Any) -> None:
    counted = [{"step": step, "images": step, "seconds": 0.1, **line} for step, line in enumerate(lines)]
    run = RunFacts("nothing", tmp_path, "new", record=record_of(counted), **facts)
    markdown, html = written(tmp_path, run, MethodFacts(weights={"mse": 1.0}), Reproduce())
    assert "No contact sheet was saved." in markdown
    assert "No contact sheet was saved." in html
    assert not Html(html).open


def test_sheets_that_cannot_be_shown_are_said(tmp_path: Path) -> None:
    run = tmp_path / "run"
    save_png(sheet(images(0)), run / "good.png")
    save_png(sheet(images(0)), tmp_path / "outside.png")
    (run / "torn.png").write_bytes(b"\x89PNG\r\n")
    Image.new("RGB", (8, 8)).save(run / "other.jpg")
    names = ("../outside.png", "gone.png", "torn.png", "other.jpg", "good.png")
    facts = RunFacts("run", run, "new", sheets=tuple(Sheet(i, run / n) for i, n in enumerate(names)))
    markdown, html = written(run, facts, MethodFacts(), Reproduce())
    for expected in (
        "../outside.png: is outside",
        "gone.png: is not",
        "torn.png: is not",
        "is JPEG, not PNG",
    ):
        assert expected in markdown
        assert expected in html
    assert html.count("<img") == 2  # good.png, and its images as samples


def test_equal_facts_are_equal_bytes(plain_run: Path, tmp_path: Path) -> None:
    written(tmp_path, *whole_run(tmp_path, "wordofmine"))
    files = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 14
    for file in files:
        assert (tmp_path / file).read_bytes() == (plain_run / file).read_bytes(), file


def test_the_strip_follows_each_noise_through_the_sheets(plain_run: Path) -> None:
    strip = read_sheet(plain_run / "report" / "development.png").reshape(6, 4, 8, 8, 1)
    for column, step in enumerate((0, 10, 100, 199)):
        np.testing.assert_array_equal(strip[:, column], images(step))
