"""The page of a comparison: everything is said, nothing is fetched, no stranger's word becomes markup."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from compare_runs import DATA
from safelight.render.figures import (
    Line,
    LinePanel,
    SpreadPanel,
    SpreadRow,
    lines_figure,
    on_scale,
    spreads_figure,
)
from safelight.render.page import (
    Commands,
    Definitions,
    Drawing,
    Notes,
    Page,
    PageSection,
    Pairs,
    ReportTable,
    Text,
    Values,
    write_page,
)
from safelight.report.basis import Number
from safelight.report.comparison import compare
from safelight.report.comparison_page import page_of, write_comparison
from safelight.report.facts import gather
from safelight.report.tables import against

HOSTILE = "<img src=http://evil.example/x onerror=alert(1)>|`a` **b** [c](http://evil.example) </style>\n# h"


class Tags(HTMLParser):
    """Collects the tags of a page, and checks that they are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


def tables(page: Page) -> dict[str, ReportTable]:
    return {
        f"{section.title}/{block.title}": plain_spaces(block)
        for section in page.sections
        for block in section.blocks
        if isinstance(block, ReportTable)
    }


def plain_spaces(table: ReportTable) -> ReportTable:
    rows = tuple(tuple(cell.replace("\u00a0", " ") for cell in row) for row in table.rows)
    return replace(table, rows=rows)


def words(page: Page) -> str:
    said = []
    for section in page.sections:
        for block in section.blocks:
            said += list(block.lines) if isinstance(block, Notes) else []
            said += [block.words] if isinstance(block, Text) else []
    return "\n".join(said)


@pytest.fixture
def runs(made):
    more = lambda step: {"r1": 0.25}  # noqa: E731
    return [
        made.read("a", losses=lambda step: 2.0, more=more, evaluated={"FD": 4.0}),
        made.read("b", {"optim.lr": 0.01}, losses=lambda step: 3.0, more=more, evaluated={"FD": 2.0}),
    ]


def test_numbers_stand_beside_their_difference_from_the_first_run(runs):
    shown = tables(page_of(compare(runs)))
    loss = shown["Loss/At 1,000 images seen"]
    assert loss.head == ("run", "images seen", "mse", "against a", "r1", "against a", "total")
    assert loss.rows[1] == ("b", "1,000", "3", "+50 %", "0.25", "+0.00 %", "3.25")
    metric = shown["Metrics/Stored evaluations, the latest of each run and kind"]
    assert metric.rows == (
        ("a", "1,000", "4", ""),
        ("b", "1,000", "2", "−50 %"),
        ("real against real", "", "0.5", ""),
    )
    assert shown["Cost/"].rows[1][-1] == "1 ×"
    assert shown["What differs/What is trained, and how"].rows == (("a", "0.001"), ("b", "0.01"))


@pytest.mark.parametrize(
    ("value", "first", "said"),
    [
        (-2.0, -1.0, "−100 %"),  # lower is lower, whatever the signs are
        (-1.0, -2.0, "+50 %"),
        (3.0, 2.0, "+50 %"),
        (0.5, 2.0, "−75 %"),
        (30.0, 2.0, "15 ×"),
        (-30.0, -2.0, "−28"),
        (-0.25, 0.5, "−0.75"),
        (0.25, 0.0, "+0.25"),
        (float("nan"), 1.0, "–"),
    ],
)
def test_a_difference_has_the_sign_of_the_change(value, first, said):
    assert against(Number(value), Number(first)).replace("\u00a0", " ") == said


def test_verdicts_and_what_the_monitors_measured_are_compared(made):
    from safelight.store.journal_writer import JournalWriter

    runs = [
        made("a", extra=lambda s: {"monitor/coverage": 0.5}),
        made("b", extra=lambda s: {"monitor/coverage": 0.25}),
    ]
    with JournalWriter(runs[1].journal_path) as writer:
        writer.append("verdict", {"name": "mode collapse", "begins": True, "step": 80})
    page = page_of(compare([gather(run) for run in runs]))
    assert "a: no verdict against it.\nb: mode collapse." in words(page)
    table = tables(page)["Health/Watched samples, last measured within 1,000 images seen"]
    assert table.rows == (("a", "1,000", "0.5", ""), ("b", "1,000", "0.25", "−50 %"))


def test_more_numbers_than_a_page_is_wide_have_a_row_each(made):
    many = {f"IoU of {number}": number / 10 for number in range(1, 11)}
    both = [made.read(name, losses=lambda step: 2.0, evaluated=many) for name in ("a", "b")]
    shown = tables(page_of(compare(both)))["Metrics/Stored evaluations, the latest of each run and kind"]
    assert shown.head == ("run", "a", "b", "real against real")
    assert shown.rows[0] == ("images seen", "1,000", "1,000", "")
    assert shown.rows[3] == ("IoU of 3", "0.3", "0.3", "0.5")
    assert len(shown.rows) == 11


def test_totals_of_other_weights_are_not_shown_and_it_is_said_why(made, runs):
    page = page_of(
        compare([*runs, made.read("c", {"loss.weights.mse": 7.0}, more=lambda step: {"r1": 0.25})])
    )
    loss = tables(page)["Loss/At 1,000 images seen"]
    assert "total" not in loss.head
    assert len(loss.rows) == 3  # components are compared all the same
    assert "The total of c is not comparable with that of a, b: loss.weights.mse: 7 / 1" in words(page)


def test_a_fork_is_called_one(made, runs):
    from safelight.store.info import Parent

    fork = made.read("fork", parent=Parent(runs[0].id, 50, ""))
    orphan = made.read("orphan", parent=Parent("f" * 32, 50, ""))
    said = words(page_of(compare([*runs, fork, orphan])))
    assert "fork: forked from a at step 50" in said
    assert "fork: forked from a at step 50" in words(
        page_of(compare([runs[1], fork]))
    )  # beside it, not compared
    assert "orphan: forked from a run that is not here at step 50" in said
    assert (
        "fork, orphan cannot be shown side by side at equal hours with a, b: hours counted from step: 50 / 0"
        in said
    )


def test_reasons_are_said_once_in_words(made, runs):
    other = made.read("other", {"watch.seed": 9}, data={**DATA, "fingerprint": "d2"})
    said = words(page_of(compare([*runs, other])))
    assert (
        said.count(
            "other cannot be shown side by side with a, b: data fingerprint: d2 / d1; watch.seed: 9 / 0"
        )
        == 1
    )
    assert "other is not comparable with a, b: data fingerprint: d2 / d1" in said


def test_one_seed_each_is_called_that_and_seeds_are_judged(made, runs):
    assert "Every setting has one seed here" in words(page_of(compare(runs)))
    seeds = [
        made.read(f"{lr}-{seed}", {"optim.lr": lr, "train.seed": seed}, losses=lambda s, v=lr + seed: v)
        for lr in (1.0, 1.2, 9.0)
        for seed in (0, 1)
    ]
    page = page_of(compare(seeds))
    assert "Every setting has one seed here" not in words(page)
    table = tables(page)["More than chance?/Loss components at 1,000 images seen"]
    assert [(row[1], row[-1]) for row in table.rows] == [
        ("lr = 1", "reference"),
        ("lr = 1.2", "within the seed spread"),
        ("lr = 9", "higher"),
    ]
    assert table.rows[0][3] == "1.50 ± 0.71"


def test_unequal_moments_of_measuring_are_named(made):
    early = made.read("early", extra=lambda step: {"held_out/t": 1.0} if step == 49 else {})
    late = made.read("late", extra=lambda step: {"held_out/t": 1.0} if step == 99 else {})
    said = words(page_of(compare([early, late])))
    amounts = "measured at different amounts of training (500 to 1,000 images seen); favours the longer run."
    assert f"early, late: {amounts}" in said


def test_a_page_can_be_written_from_runs_that_recorded_nothing(made, tmp_path):
    runs = [made("a", done=0, end=None), made("b", done=0, end=None)]
    written = write_comparison(runs, tmp_path / "out", "compare")
    assert "Fewer than two runs recorded anything" in written.markdown.read_text()


def test_equal_runs_make_equal_pages(made, runs, tmp_path):
    pages = [
        write_page(tmp_path / name, "compare", page_of(compare(runs), "today")) for name in ("one", "two")
    ]
    for first, two in zip(*pages, strict=True):
        assert first.read_bytes() == two.read_bytes()
    pictures = sorted(path.name for path in (tmp_path / "one/compare_files").iterdir())
    assert pictures == sorted(path.name for path in (tmp_path / "two/compare_files").iterdir())
    assert {"images-1.png", "losses.png"} <= set(pictures)
    for name in pictures:
        assert (tmp_path / "one/compare_files" / name).read_bytes() == (
            tmp_path / "two/compare_files" / name
        ).read_bytes()


def hostile_page() -> Page:
    x = np.arange(1.0, 9.0)
    lines = lines_figure(
        [LinePanel(HOSTILE, (Line(HOSTILE, x, x, 0, HOSTILE), Line("b", x, x, 1, "b")))], HOSTILE
    )
    spreads = spreads_figure([SpreadPanel(HOSTILE, (SpreadRow(HOSTILE, (1.0, 2.0), 1.5, 0.1, HOSTILE),))])
    table = ReportTable((HOSTILE, "n"), ((HOSTILE, "1"),), 1, HOSTILE)
    blocks = (
        Text(HOSTILE),
        Notes((HOSTILE,), HOSTILE),
        Definitions(((HOSTILE, HOSTILE),), HOSTILE),
        table,
        Values(((HOSTILE, ((HOSTILE, HOSTILE),)), (HOSTILE, ((HOSTILE, HOSTILE),)))),
        Commands((HOSTILE, HOSTILE)),
        Drawing("picture", HOSTILE, Image.new("RGB", (8, 8))),
        Drawing("lines", HOSTILE, lines),
        Drawing("spreads", HOSTILE, spreads),
        Pairs((Drawing("left", HOSTILE, Image.new("RGB", (8, 8))),) * 3),
    )
    return Page(
        HOSTILE,
        HOSTILE,
        (PageSection(HOSTILE, blocks), PageSection("empty", ())),
        HOSTILE,
        ((HOSTILE, HOSTILE),),
        HOSTILE,
    )


def test_words_of_strangers_never_become_markup(tmp_path):
    markdown, html = write_page(tmp_path, "page", hostile_page())
    tags = Tags()
    tags.feed(html.read_text())
    assert not tags.open
    for tag, attributes in tags.seen:
        assert tag != "script"
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith(("data:image/", "#")), value
    assert "empty" not in re.sub(r"<style>.*?</style>", "", html.read_text(), flags=re.DOTALL)
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(markdown.read_text())
    flat = [token for block in tokens for token in [block, *(block.children or [])]]
    assert not [token for token in flat if token.type in ("html_block", "html_inline", "link_open")]
    assert next(token for token in flat if token.type == "heading_open").tag == "h1"
    images = [token.attrs["src"] for token in flat if token.type == "image"]
    assert images == [f"page_files/{name}.png" for name in ("picture", "lines", "spreads", *["left"] * 3)]
    assert all((tmp_path / link).is_file() for link in images)


def test_every_id_of_a_page_is_its_own(runs, made, tmp_path):
    _, html = write_page(tmp_path, "compare", page_of(compare(runs)))
    ids = re.findall(r'\sid="([^"]+)"', html.read_text())
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', html.read_text()))
    assert {a or b for a, b in used} <= set(ids)


def test_a_run_that_diverged_does_not_flatten_the_others():
    ordinary, high, far = np.full(9, 1.0), np.full(9, 50.0), np.full(9, 1e19)
    assert on_scale([far, ordinary, high]) == [1, 2]
    assert on_scale([ordinary, far]) == [0]
    assert on_scale([ordinary, high]) == [0, 1]
    assert on_scale([far]) == [0]
    assert on_scale([far, ordinary], leading=True) == [0]
    x = np.arange(9.0)
    figure = lines_figure(
        [LinePanel("mse", (Line("a", x, ordinary, 0, "a"), Line("b", x, far, 1, "b")))], "x"
    )
    axes = figure.axes[0]
    assert axes.get_ylim()[1] < 100
    assert "off the scale: b" in axes.get_title(loc="right")
