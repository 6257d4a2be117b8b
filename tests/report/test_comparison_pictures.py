"""Sheets share a picture if and only if they show the same noises and conditions."""

from __future__ import annotations

import numpy as np
import pytest

from compare_runs import DATA, MACHINE, sheet_of
from safelight.render.page import Drawing, Notes
from safelight.render.sheet import sheet, side_by_side
from safelight.render.sheet_file import encode_png, read_sheet, save_png
from safelight.report.drawings import side_by_side_blocks
from safelight.report.pictures import pictures


def shown(pictures) -> list[list[tuple[str, int]]]:
    return [[(shot.run, shot.sheet.step) for shot in pair.sheets] for pair in pictures.pairs]


def test_the_nearest_sheets_within_an_equal_number_of_images(made):
    a = made.read("a", sheets=(40, 100))
    b = made.read("b", {"train.batch_size": 20}, sheets=(30, 60), done=60)  # 1,200 images
    matched = pictures([a, b], "images")
    assert shown(matched) == [[("a", 100), ("b", 30)]]
    assert [(shot.images, shot.share) for shot in matched.pairs[0].sheets] == [(1000, 1.0), (600, 0.6)]
    (newest,) = matched.newest
    assert [(shot.run, shot.sheet.step, shot.images) for shot in newest.sheets] == [
        ("a", 100, 1000),
        ("b", 60, 1200),
    ]
    drawing = side_by_side_blocks(newest, {"a": a, "b": b}, "newest-1")[0]
    assert drawing.caption.startswith(
        "The newest sheets, after different amounts of training: a after step 100, 1,000 images seen; "
        "b after step 60, 1,200 images seen."
    )
    assert pictures([a, made.read("c", sheets=(40, 100))], "images").newest == ()  # they are the pair


def test_the_nearest_sheets_within_equal_hours(made):
    a = made.read("a", seconds=lambda step: 1.0, sheets=(25, 50, 75, 100))
    b = made.read("b", seconds=lambda step: 2.0, sheets=(25, 50, 75, 100))
    (pair,) = pictures([a, b], "hours").pairs
    assert [(shot.run, shot.sheet.step) for shot in pair.sheets] == [("a", 100), ("b", 50)]
    assert [shot.hours for shot in pair.sheets] == pytest.approx([100 / 3600] * 2)


@pytest.mark.parametrize(
    ("changes", "data", "fact"),
    [
        ({"watch.seed": 1}, DATA, "watch.seed"),
        ({"method.name": "gan"}, DATA, "method.name"),
        ({"network.latent": 64}, DATA, "network.latent"),
        ({}, {**DATA, "fingerprint": "d2"}, "data fingerprint"),
    ],
)
def test_other_noises_or_conditions_may_not_share_a_picture(made, changes, data, fact):
    matched = pictures([made.read("a"), made.read("b", changes, data=data)], "images")
    assert matched.pairs == ()
    assert [row[0] for row in matched.apart[0].facts] == [fact]


def test_other_samplers_share_a_picture_and_are_named(made):
    matched = pictures([made.read("a"), made.read("b", {"sample.steps": 50})], "images")
    assert shown(matched) == [[("a", 100), ("b", 100)]]
    assert matched.samplers[0].facts == (("sample.steps", "50", "5"),)


def test_hours_are_equal_only_on_equal_machines(made):
    runs = [made.read("a"), made.read("b", machine={**MACHINE, "device": "cuda"})]
    assert len(pictures(runs, "images").pairs) == 1
    matched = pictures(runs, "hours")
    assert matched.pairs == ()
    assert matched.apart[0].facts == (("device", "cuda", "cpu"),)


def test_a_run_without_a_sheet_by_then_is_named(made):
    runs = [made.read("a"), made.read("b"), made.read("late", sheets=(100,), done=100)]
    early = made.read("early", done=60)
    matched = pictures([*runs, early], "images")
    assert shown(matched)[-1] == [("a", 50), ("b", 50), ("early", 50)]
    assert matched.pairs[-1].without == ("late",)


def test_a_picture_holds_the_pixels_of_the_sheets_and_nothing_else(tmp_path):
    first, second = sheet_of(1, 23), sheet_of(2, 20)
    picture = side_by_side([("a", first), ("b", second)])
    path = tmp_path / "beside.png"
    path.write_bytes(encode_png(picture))
    expected = [first[:10], second[:10], first[10:20], second[10:20]]
    assert (read_sheet(path) == np.concatenate(expected)).all()


def test_classes_that_take_turns_are_columns(tmp_path):
    images = sheet_of(1, 12)
    path = tmp_path / "beside.png"
    path.write_bytes(encode_png(side_by_side([("a", images), ("b", images)], ("x", "y", "z"))))
    assert (read_sheet(path)[:6] == np.concatenate([images[:3], images[:3]])).all()
    picture = side_by_side([("a", images)] * 9, ("x", "y", "z"))  # many runs: one round of noises
    path.write_bytes(encode_png(picture))
    assert len(read_sheet(path)) == 9 * 3


def test_each_prompt_has_its_own_rows(tmp_path):
    first, second = sheet_of(1, 12), sheet_of(2, 12)
    path = tmp_path / "beside.png"
    prompts = ("red apple", "cat", "leaf")
    path.write_bytes(encode_png(side_by_side([("a", first), ("b", second)], (), prompts)))
    expected = [part[start : start + 4] for start in (0, 4, 8) for part in (first, second)]
    assert (read_sheet(path) == np.concatenate(expected)).all()


def test_sheets_of_other_prompts_are_not_set_side_by_side(made):
    data = {**DATA, "conditions": {"text": {"kind": "text", "size": 5, "names": []}}}
    cats, other = {"watch.prompts": ["a cat"]}, {"watch.prompts": ["a dog"]}
    runs = [
        made.read("a", cats, data=data),
        made.read("b", cats, data=data),
        made.read("c", other, data=data),
    ]
    matched = pictures(runs, "images")
    assert shown(matched) == [[("a", 100), ("b", 100)]]
    assert "watch.prompts" in str(matched.apart)


def test_sheets_that_cannot_be_read_or_differ_in_shape_are_named_instead(made, tmp_path):
    a, b, c, d = (made.read(name) for name in "abcd")
    (b.path / "sheets" / "00000100.png").write_bytes(b"no picture")
    save_png(sheet(np.zeros((6, 8, 8, 1), np.uint8), 2), c.path / "sheets" / "00000100.png")
    (pair,) = pictures([a, b, c, d], "images").pairs
    blocks = side_by_side_blocks(pair, {run.name: run for run in (a, b, c, d)}, "one")
    (drawing,) = (block for block in blocks if isinstance(block, Drawing))
    (notes,) = (block for block in blocks if isinstance(block, Notes))
    path = tmp_path / "beside.png"
    path.write_bytes(encode_png(drawing.drawn))
    assert (read_sheet(path)[:2] == sheet_of(100)[:2]).all()
    assert "00000100.png: is not a readable picture" in notes.lines[0]
    assert "c, whose images are 8×8×1" in notes.lines[1]
    assert "step 100 of each" in drawing.caption
