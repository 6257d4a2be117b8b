"""Parts of a report by themselves: pictures, strips, rows of its tables, escaped words."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from report.facts_of_runs import images
from safelight.render.page import WIDEST, code, code_block, data_address, finalize
from safelight.render.sheet import reduced
from safelight.render.sheet_file import encode_png
from safelight.report.facts import SessionFacts
from safelight.report.run_drawings import chosen, development
from safelight.report.run_origin import environment_rows, recipe_sections


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
