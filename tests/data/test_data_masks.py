"""Masks from alpha, colours, grey levels and outlines: class numbers pixel by pixel."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from data.files import opened, save
from safelight.config import UserError, check
from safelight.data.config import Data
from safelight.data.masks import paint
from safelight.data.source import BadItem
from safelight.data.stream import Stream

SQUARE = np.zeros((8, 8), np.uint8)
SQUARE[2:6, 1:5] = 1


def masked(folder: Path, masks: Sequence[NDArray[np.uint8]]) -> Path:
    """images/ and masks/ of the same names."""
    for number, mask in enumerate(masks):
        save(folder / "images" / f"{number}.png")
        save(folder / "masks" / f"{number}.png", mask)
    return folder


def numbers(folder: Path, **keys: object) -> NDArray[np.uint8]:
    return np.asarray(opened(folder, held_out=0, **keys).given["mask"])


def test_black_and_white_is_two_classes_stated_or_not(tmp_path: Path) -> None:
    masked(tmp_path, [SQUARE * 255, SQUARE * 0])
    for keys in ({}, {"mask_classes": 2}, {"mask_values": "white"}):
        np.testing.assert_array_equal(numbers(tmp_path, **keys), [SQUARE, SQUARE * 0])
    np.testing.assert_array_equal(numbers(tmp_path, mask_values="numbers"), [SQUARE * 255, SQUARE * 0])


def test_masks_to_1_beside_masks_to_255_are_refused_or_decided_file_by_file(tmp_path: Path) -> None:
    masked(tmp_path, [SQUARE * 255, SQUARE])
    with pytest.raises(UserError, match=r"^data\.mask: some masks hold 0 and 255, others 0 and 1; set data"):
        numbers(tmp_path)
    for keys in ({"mask_classes": 2}, {"mask_values": "white"}):
        np.testing.assert_array_equal(numbers(tmp_path, **keys), [SQUARE, SQUARE])
    np.testing.assert_array_equal(numbers(tmp_path, mask_values="numbers"), [SQUARE * 255, SQUARE])


def test_255_beside_class_numbers_stays_no_class(tmp_path: Path) -> None:
    void = SQUARE.copy()
    void[0] = 255
    masked(tmp_path, [void, SQUARE])
    np.testing.assert_array_equal(numbers(tmp_path), [void, SQUARE])
    np.testing.assert_array_equal(numbers(tmp_path, mask_classes=2), [void, SQUARE])


def test_a_shape_cut_out_of_one_colour_is_its_mask(tmp_path: Path) -> None:
    cut = np.full((8, 8, 4), 200, np.uint8)
    cut[..., 3] = SQUARE * 255
    masked(tmp_path, [cut])
    np.testing.assert_array_equal(numbers(tmp_path), [SQUARE])


def test_the_alpha_of_a_picture_is_its_mask_upright(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 4), np.uint8)
    picture[..., 3] = np.where(SQUARE, 130, 120)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture).save(tmp_path / "a.png")
    Image.fromarray(picture).save(tmp_path / "b.png", exif=exif)
    np.testing.assert_array_equal(numbers(tmp_path, mask="alpha"), [SQUARE, np.rot90(SQUARE, -1)])
    save(tmp_path / "c.png")
    with pytest.raises(UserError, match=r"c\.png \(its mask: has no alpha channel\)"):
        numbers(tmp_path, mask="alpha")


def test_colours_are_classes_by_a_table(tmp_path: Path) -> None:
    colours = np.array([[10, 20, 30], [200, 0, 0]], np.uint8)
    masked(tmp_path, [colours[SQUARE]])
    with pytest.raises(UserError, match=r"has colours; .* data\.mask_colours \(#0a141e, #c80000\)"):
        numbers(tmp_path)
    pack = opened(tmp_path, held_out=0, mask_colours=["ground=#0a141e", "roof=#c80000", "sky=blue"])
    np.testing.assert_array_equal(pack.given["mask"], [SQUARE])
    assert pack.described["mask"] == ("mask", 3, ("ground", "roof", "sky"))
    with pytest.raises(UserError, match=r"has #c80000 on 16 pixels, which data\.mask_colours lacks"):
        numbers(tmp_path, mask_colours=["#0a141e", "#0000ff"])
    with pytest.raises(UserError, match="states a colour twice"):
        check(Data, {"mask_colours": ["#000", "black"]}, "data")


def test_soft_masks_are_shares_of_one_class(tmp_path: Path) -> None:
    levels = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    masked(tmp_path, [levels, levels])
    pack = opened(tmp_path, held_out=0, mask_values="soft")
    assert pack.described["mask"] == ("mask", 1, ())
    np.testing.assert_array_equal(pack.mask_numbers(np.array([0]))[0], levels >= 128)
    batch = Stream(pack, 0, 2).pick(np.array([0]))
    np.testing.assert_array_equal(batch.given["mask"][0, 0], levels.astype(np.float32) / 255)
    assert pack.description() == "2 images of 8x8; pairs of images and masks; mask (soft) on 2"
    half = opened(tmp_path, held_out=0, mask_values="soft", size=4).given["mask"][0].astype(float)
    np.testing.assert_allclose(half, levels.reshape(4, 2, 4, 2).mean((1, 3)), atol=0.51)


def runs_of(mask: NDArray[np.uint8]) -> list[int]:
    """COCO's run lengths of a mask, by columns, the first of zeros."""
    flat = mask.T.ravel().astype(int)
    ends = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *ends, flat.size]).tolist()
    return [0, *runs] if flat[0] else runs


def compressed(runs: Sequence[int]) -> str:
    """COCO's compressed encoding (maskApi.c, rleToString)."""
    text = ""
    for place, run in enumerate(runs):
        value = run - runs[place - 2] if place > 2 else run
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != -1 if bits & 16 else value != 0
            text += chr((bits | 32 if more else bits) + 48)
    return text


@pytest.mark.parametrize("seed", range(4))
def test_run_lengths_are_the_mask_they_were_made_of(seed: int) -> None:
    mask = (np.random.default_rng(seed).random((19, 23)) < (0.02, 0.3, 0.7, 0.98)[seed]).astype(np.uint8)
    runs = runs_of(mask)
    for counts in (runs, compressed(runs)):
        np.testing.assert_array_equal(paint([(3, {"size": [19, 23], "counts": counts})], 19, 23), mask * 3)
    with pytest.raises(BadItem, match="not of 8x8"):
        paint([(1, {"size": [19, 23], "counts": runs})], 8, 8)


def test_polygons_count_from_corners_and_small_objects_lie_over_large_ones() -> None:
    large, small = [0, 0, 8, 0, 8, 8, 0, 8], [2, 3, 5, 3, 5, 6, 2, 6]
    want = np.ones((8, 8), np.uint8)
    want[3:6, 2:5] = 2
    for objects in ([(1, [large]), (2, [small])], [(2, [small]), (1, [large])]):
        painted = paint(objects, 8, 8)
        assert np.abs(painted.astype(int) - want).sum() <= 7  # Pillow paints an edge that touches a centre
        assert painted[4, 3] == 2
        assert painted[0, 0] == painted[7, 7] == 1


@pytest.mark.parametrize("number", ["1e9", "Infinity", "NaN", '"x"', "null"])
def test_an_outline_that_is_none_is_a_bad_item(tmp_path: Path, number: str) -> None:
    for name in ("0.png", "1.png"):
        save(tmp_path / name)
    known = {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in range(2)],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [{"image_id": 0, "category_id": 1, "segmentation": [[1, 1, 5, 1, 5, 12345]]}],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a.json").write_text(json.dumps(known).replace("12345", number))
    with pytest.raises(UserError, match=r"1 of 2 images cannot be used: 0\.png \(its mask: "):
        opened(tmp_path)
    assert opened(tmp_path, skip_bad=True).names == ["1.png"]


def test_outlines_of_several_categories_are_a_mask_with_names(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / "images" / f"{number}.png")
    runs = {"size": [8, 8], "counts": runs_of(SQUARE)}
    kinds = [(0, 7, runs), (0, 3, [[6, 6, 8, 6, 8, 8, 6, 8]]), (1, 7, runs)]
    known = {
        "annotations": [{"id": k, "image_id": image, "category_id": kind, "segmentation": outline}
                        for k, (image, kind, outline) in enumerate(kinds)],
        "images": [{"id": i, "file_name": f"{i}.png", "height": 8, "width": 8} for i in range(3)],
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
    }  # fmt: skip
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "all.json").write_text(json.dumps(known))
    pack = opened(tmp_path, held_out=0)
    assert pack.described["mask"] == ("mask", 3, ("background", "dog", "cat"))
    assert "label" not in pack.described  # 0 has two categories, 2 none
    mask = np.asarray(pack.given["mask"])
    np.testing.assert_array_equal(mask[1], SQUARE * 2)
    np.testing.assert_array_equal(mask[0] == 2, SQUARE == 1)
    assert mask[0, 7, 7] == 1
    assert not mask[2].any()
    assert pack.present.all()
    assert "mask" not in opened(tmp_path, mask="none").described
    assert "mask" not in opened(tmp_path, rules=1).described
