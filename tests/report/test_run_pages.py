from __future__ import annotations

import base64
import io
import json
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

from safelight.render.page import WIDEST, Page, Text, code, code_block, data_address, finalize, write_page
from safelight.render.sheet import Images, reduced, sheet
from safelight.render.sheet_file import encode_png, read_sheet, save_png
from safelight.report.facts import Measured, RunFacts, SessionFacts, Sheet
from safelight.report.history import MethodFacts
from safelight.report.records import MetricsRecord, RecordedColumn, record_of
from safelight.report.run_drawings import chosen, development
from safelight.report.run_origin import Reproduce, environment_rows, recipe_sections
from safelight.report.run_page import run_page
from safelight.store.journal import Journal, JournalEntry

RAN = "What ran, where, for how long"
HOSTILE = (
    "<img src=http://evil.example/x onerror=alert(1)>|`a``` **b** [c](http://evil.example) </style>\n# h"
)
VOID = {"meta", "img", "link", "br", "use", "path"}


def images(seed: int, count: int = 6) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)


def entry(kind: str, session: int = 1, **fields: Any) -> JournalEntry:
    return JournalEntry(kind, "2026-01-01T00:00:00+00:00", session, 0, fields)


def whole_run(run: Path, word: str = "plain") -> tuple[RunFacts, MethodFacts, Reproduce, str]:
    """Facts in which every string a stranger could choose is `word`."""
    steps = np.arange(200)
    values = np.concatenate([np.linspace(2, 1, 180), np.full(20, 0.5)])
    values[7] = math.nan
    norms = np.ones(200)
    norms[6] = math.inf
    for step in (0, 10, 100, 199):
        save_png(sheet(images(step), 3), run / f"sheets/{step:06d}.png")
    save_png(sheet(images(2), 6), run / "panels/000200-one.png")
    words = {"wide": 6, "rows": [word], "columns": [word] * 6, "caption": word}
    (run / "panels/000200-one.json").write_text(json.dumps(words))
    column = RecordedColumn(steps, values)
    names = (f"raw/{word}", f"lr/{word}", f"held_out/{word}", f"evaluate/FD-{word}")
    columns = dict.fromkeys(names, column) | {"grad_norm/x": RecordedColumn(steps, norms)}
    record = MetricsRecord(steps, steps * 32, np.full(200, 0.2), columns)
    finding = {"severity": "error", "code": word, "measured": word, "expected": word, "declared": ""}
    verdict = {"name": word, "begins": True, "step": 60, "since": 50, "measured": word, "expected": word}
    journal = Journal(
        Path(),
        (
            entry("check", checks=[word], findings=[finding, {**finding, "declared": word}]),
            entry("intervention", step=50, changes={word: word}),
            entry("verdict", **verdict, advice=[{"words": word, "command": word}]),
            entry("session", 2, step=100, steps=400),
        ),
    )
    facts = RunFacts(
        name=word,
        path=run,
        status="finished",
        step=200,
        steps=400,
        tree={"train": {"batch_size": 32, "seed": 3}},
        journal=journal,
        data={
            "name": word,
            "fingerprint": word,
            "train": 640,
            "conditions": {"label": {"kind": "label", "size": 3, "names": [word] * 3}},
            "mask_shares": [],
        },
        code={word: word},
        sessions=(
            SessionFacts(word, 0, 120, 40.0, 24.0, word, {word: word, "torch": "2.12"}),
            SessionFacts(word, 100, 200, 60.0, 20.0, word, {word: word, "torch": "2.13"}),
        ),
        parent_name=word,
        verdicts=(word,),
        record=record,
        sheets=tuple(Sheet(step, run / f"sheets/{step:06d}.png") for step in (0, 10, 100, 199)),
        panels=(Sheet(200, run / "panels/000200-one.png"),),
        measured=(Measured(word, 5.9, 200, {word: word}, 2.3, provenance=word),),
        best=(123, word),
        problems=(word,),
    )
    recipe = {word: word, "data": {word: [1, word], "deep": {"lr": 1e-05, "on": True}}}
    method = MethodFacts(word, recipe, word, True, {word: 2.0}, {word: (word, "less")}, {word: 0.7})
    return facts, method, Reproduce((word, word), word, 123, word), word


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
    return next(one.blocks for one in page.sections if one.title == section)


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


def test_a_strip_needs_two_sheets_of_a_kind() -> None:
    other = np.zeros((6, 4, 4, 1), np.uint8)
    assert development([("0", images(0))]) is None
    assert development([("0", other), ("1", images(0))]) is None
    assert development([("0", other), ("1", images(0)), ("2", images(1, 3))]) is not None


def test_large_images_are_averaged_over_whole_boxes() -> None:
    corners = np.zeros((1, 4, 8, 3), np.uint8)
    corners[0, :2, :2] = 100
    corners[0, 2, 6] = 8
    np.testing.assert_array_equal(reduced(corners, 4)[0, ..., 0], [[100, 0, 0, 0], [0, 0, 0, 2]])
    assert reduced(corners[..., :1], 3).shape == (1, 2, 3, 1)
    assert reduced(corners, 8) is corners


def test_chosen_positions_keep_both_ends() -> None:
    assert chosen(3, 9) == [0, 1, 2]
    assert chosen(100, 4, evenly=True) == [0, 33, 66, 99]
    assert chosen(100, 3) == [0, 9, 99]
    for count in range(1, 60):
        picked = chosen(count, 9)
        assert (picked[0], picked[-1], len(picked)) == (0, count - 1, min(count, 9))
        assert sorted(set(picked)) == picked


def test_wide_and_heavy_pictures_are_lighter_in_the_page_only() -> None:
    narrow = encode_png(Image.new("RGB", (WIDEST, 10)))
    assert data_address(narrow) == "data:image/png;base64," + base64.b64encode(narrow).decode()
    wide = encode_png(Image.new("RGB", (2 * WIDEST, 10), "#336699"))
    heavy = encode_png(Image.fromarray(np.random.default_rng(0).integers(0, 256, (640, 640, 3), np.uint8)))
    for png, size in ((wide, (WIDEST, 5)), (heavy, (640, 640))):
        start, _, content = data_address(png).partition(",")
        assert start == "data:image/jpeg;base64"
        assert Image.open(io.BytesIO(base64.b64decode(content))).size == size


def test_environments_that_changed_say_when() -> None:
    sessions = [
        SessionFacts("", 0, 1, 1, 1, environment=e) for e in ({"a": "x", "b": "y"}, {"a": "x"}, {"a": "z"})
    ]
    assert environment_rows(sessions) == (
        ("a", "x (session 1, 2); z (session 3)"),
        ("b", "y (session 1); not recorded (session 2, 3)"),
    )


def test_recipe_is_told_by_section() -> None:
    recipe = {
        "data": {"source": "mnist", "crop": {"size": 28}},
        "seed": 7,
        "empty": {},
        "optim": {"betas": [0.0, 0.99]},
    }
    assert recipe_sections(recipe) == (
        ("recipe", (("seed", "7"),)),
        ("data", (("source", "mnist"), ("crop.size", "28"))),
        ("optim", (("betas", "[0.0, 0.99]"),)),
    )


@pytest.mark.parametrize(
    "text", ["# h", "- a", "1. a", "a\n\nb", "*a* _b_", "<b>", "&amp;", "www.x.org", "a|b", "=="]
)
def test_markdown_escapes_show_the_text_itself(text: str) -> None:
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    shown = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert parser.render(finalize(text)) == f"<p>{shown}</p>\n"


@pytest.mark.parametrize("text", ["a", "`", "a``b`", "``` x"])
def test_code_is_fenced_by_more_backticks_than_it_holds(text: str) -> None:
    parser = MarkdownIt("commonmark")
    assert parser.render(code(text)) == f"<p><code>{text}</code></p>\n"
    assert parser.render(code_block(f"{text}\n```\nb")) == f"<pre><code>{text}\n```\nb\n</code></pre>\n"
