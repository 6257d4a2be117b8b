from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from safelight.config import UserError
from safelight.render.lettering import DARKROOM, font, shorten, wrap
from safelight.render.sheet import (
    CAPTION,
    GUTTER,
    LAYOUT_KEY,
    MARGIN,
    Images,
    Layout,
    fitting_scale,
    panel,
    sheet,
)
from safelight.render.sheet_file import encode_png, layout_of, read_sheet, save_png

BACKGROUND = np.array([int(DARKROOM[i : i + 2], 16) for i in (1, 3, 5)], np.uint8)
LONG = "a green train is coming down the tracks while somebody is waiting"


def some(count: int, height: int, width: int, channels: int) -> Images:
    shape = (count, height, width, channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def assert_in_place(picture: Image.Image, images: Images) -> None:
    """Every image fills its cell, each of its pixels scale x scale, whatever is written around it."""
    layout = layout_of(picture)
    assert layout is not None
    pixels = np.asarray(picture)
    for index, image in enumerate(images):
        left, top, right, bottom = layout.box(index)
        enlarged = np.kron(image, np.ones((layout.scale, layout.scale, 1), np.uint8))
        expected = np.broadcast_to(enlarged, (bottom - top, right - left, 3))
        np.testing.assert_array_equal(pixels[top:bottom, left:right], expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("count", "size"), [(1, (8, 8)), (7, (28, 28)), (6, (5, 40)), (4, (100, 60))])
def test_every_image_is_at_its_cell(count: int, size: tuple[int, int], channels: int) -> None:
    images = some(count, *size, channels)
    assert_in_place(sheet(images), images)


def test_no_lettering_covers_an_image() -> None:
    images = some(5, 9, 11, 3)
    labels = [LONG] * 3
    picture = sheet(
        images, 2, frames=[LONG] * 5, row_labels=labels, column_labels=labels[:2], caption=LONG * 5, scale=5
    )
    assert_in_place(picture, images)
    bare = sheet(images, 2, scale=5)
    assert picture.width > bare.width
    assert picture.height > bare.height


def test_cells_and_gutters_are_where_arithmetic_puts_them() -> None:
    picture = sheet(np.full((6, 8, 8, 1), 255, np.uint8), 3, scale=10)
    assert picture.size == (2 * MARGIN + 3 * 80 + 2 * GUTTER, 2 * MARGIN + 2 * 80 + GUTTER)
    white = np.all(np.asarray(picture) == 255, axis=2)
    inside = np.zeros(picture.size[::-1], bool)
    for row in range(2):
        for column in range(3):
            top, left = MARGIN + row * (80 + GUTTER), MARGIN + column * (80 + GUTTER)
            inside[top : top + 80, left : left + 80] = True
    np.testing.assert_array_equal(white, inside)
    assert np.all(np.asarray(picture)[~inside] == BACKGROUND)


def test_lettering_is_drawn_beside_above_and_below() -> None:
    images = np.zeros((4, 28, 28, 1), np.uint8)
    layout = layout_of(
        picture := sheet(images, 2, row_labels=["a", "b"], column_labels=["c", "d"], caption="e")
    )
    assert layout is not None
    lit = np.any(np.asarray(picture) > 120, axis=2)
    right, bottom = layout.box(3)[2:]
    assert lit[layout.top : bottom, : layout.left].any()
    assert lit[: layout.top, layout.left : right].any()
    assert lit[bottom:].any()
    assert not lit[layout.top : bottom, layout.left :].any()


@pytest.mark.parametrize(("side", "scale"), [(8, 9), (16, 4), (28, 3), (32, 2), (64, 1), (1024, 1)])
def test_tiny_images_are_enlarged_to_a_legible_size(side: int, scale: int) -> None:
    assert fitting_scale(side, side) == scale
    assert side > 84 or 56 <= side * scale <= 84


def test_a_saved_sheet_gives_its_images_back(tmp_path: Path) -> None:
    for images in (some(7, 28, 28, 1), some(3, 9, 5, 3)):
        path = tmp_path / "new" / "sheet.png"
        save_png(sheet(images, 2, frames=["x"] * len(images), caption=LONG), path)
        np.testing.assert_array_equal(read_sheet(path), images)
        assert [file.name for file in path.parent.iterdir()] == ["sheet.png"]


def test_equal_sheets_are_equal_bytes() -> None:
    drawn = [encode_png(sheet(some(5, 8, 8, 3), frames=list("abcde"), caption="step 100")) for _ in range(2)]
    assert drawn[0] == drawn[1]


def test_a_panel_is_a_sheet_of_its_rows() -> None:
    images = some(6, 8, 8, 1).reshape(2, 3, 8, 8, 1)
    flat = sheet(images.reshape(6, 8, 8, 1), 3, row_labels=["a", "b"], caption="c")
    assert encode_png(panel(images, ["a", "b"], caption="c")) == encode_png(flat)


def test_pointing_at_a_sheet_finds_the_image() -> None:
    layout = Layout(count=5, columns=2, height=4, width=6, channels=1, scale=3, left=20, top=10, lane=9)
    for index in range(5):
        left, top, right, bottom = layout.box(index)
        assert {layout.at(x, y) for x in (left, right - 1) for y in (top, bottom - 1)} == {index}
        assert layout.at(right, top) is None
        assert layout.at(left, bottom) is None
    assert layout.at(*layout.box(5)[:2]) is None


@pytest.mark.parametrize(
    "change",
    [
        {"count": 10**9},
        {"columns": 10**9, "count": 10**9},
        {"scale": 0},
        {"left": -5},
        {"channels": 4},
        {"top": 0.5},
    ],
)
def test_a_layout_that_cannot_be_is_not_believed(change: dict[str, int]) -> None:
    picture = sheet(some(4, 8, 8, 1))
    layout = layout_of(picture)
    assert layout is not None
    picture.info[LAYOUT_KEY] = json.dumps(asdict(replace(layout, **change)))
    assert layout_of(picture) is None


def test_files_that_are_no_sheets_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(encode_png(sheet(some(4, 8, 8, 1)))[:200])
    Image.new("RGB", (9, 9)).save(tmp_path / "other.png")
    for name in ("torn.png", "other.png", "missing.png"):
        with pytest.raises(UserError, match=name):
            read_sheet(tmp_path / name)


def test_wrong_shapes_and_label_counts_are_refused() -> None:
    images = some(4, 8, 8, 3)
    with pytest.raises(ValueError, match="float32"):
        sheet(images.astype(np.float32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="N, H, W"):
        sheet(images[..., :2])
    with pytest.raises(ValueError, match="row_labels: 3 for 2"):
        sheet(images, 2, row_labels=["a", "b", "c"])
    with pytest.raises(ValueError, match="rows, columns"):
        panel(images)


def test_lettering_fits_its_width() -> None:
    face = font(CAPTION)
    for width in (12, 60, 200):
        lines = wrap(LONG + " " + "w" * 80, face, width, 3)
        assert len(lines) <= 3
        assert all(face.getlength(line) <= width for line in lines)
    assert " ".join(wrap(LONG, face, 150, 9)) == LONG
    assert shorten("short", face, 500) == "short"
